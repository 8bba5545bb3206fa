//! `set`, `reload`, and the env files of a `restart`: what changes the text behind a running stack, and what is
//! wrong with that. Whatever is refused has changed nothing.

use serde_json::{Value, json};

use crate::control::{STAYS, field, pid, pids, up};
use crate::snapshot::Snapshot;
use crate::stack::Stack;
use crate::starting::lines_of;

fn write(stack: &Stack, path: &str, text: &str) {
    std::fs::write(stack.path().join(path), text).expect("it can be written");
}

/// What is wrong, without the list of all that would be right, which grows.
fn wrong(stack: &Stack, text: &str) -> String {
    let text = stack.normal(text);
    let short = |line: &str| match line.split_once("(known here: ") {
        Some((before, _)) => format!("{before}(known here: …)\n"),
        None => format!("{line}\n"),
    };
    text.lines().map(short).collect()
}

fn read(stack: &Stack, path: &str) -> String {
    std::fs::read_to_string(stack.path().join(path)).expect("it is there")
}

#[test]
fn settings_hold_at_once() {
    let stack = Stack::with("set", &format!("web: {STAYS}\ndeaf: trap '' TERM; {STAYS}\n"));
    let mut run = up(&stack, &["--can-die", "all"], 2);
    let before = pids(&stack.status(&[]));
    let out = stack.tells(&["set", "deaf", "timeout-stop=200ms", "restart=always"]).with_code(0).out;
    assert_eq!(out, "~ deaf.1  timeout-stop 5s → 200ms\n          restart no → always\n");
    assert_eq!(
        (field(&stack, "deaf", "restart"), field(&stack, "web", "restart")),
        (json!("always"), json!("no"))
    );
    assert_eq!(pids(&stack.status(&[])), before, "nobody was restarted for that");
    let again = stack.tells(&["set", "deaf", "restart=always"]).with_code(0).out;
    assert_eq!(again, "nothing changed\n");
    stack.tells(&["restart", "deaf"]).with_code(0);
    run.wait_for("not gone after 200ms, sending SIGKILL").wait_for("deaf.1 | up");
    stack.tells(&["kill", "deaf"]).with_code(0);
    stack.tells(&["set", "all", "timeout-stop=3s"]).with_code(0);
    stack.tells(&["set", "deaf.1", "timeout-stop=100ms"]).with_code(0);
    stack.tells(&["start", "deaf"]).with_code(0);
    run.wait_for("deaf.1 | up");
    stack.tells(&["stop", "deaf"]).with_code(0);
    run.wait_for("not gone after 100ms");
    run.stops();
}

/// Whether a ceiling on memory can be had here.
fn has_memory(stack: &Stack) -> bool {
    let out = stack.tells(&["doctor", "--json"]).with_code(0).out;
    let doctor: Value = serde_json::from_str(&out).expect("JSON");
    doctor["tier"] == "full"
}

#[test]
fn a_ceiling_is_enforced_at_once_or_refused_with_reason_and_fix() {
    let stack = Stack::with("ceiling", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    let ended = stack.tells(&["set", "web", "memory-max=64M", "timeout-stop=9s"]);
    if has_memory(&stack) {
        let ended = ended.with_code(0);
        assert_eq!(ended.out, "~ web.1  memory-max none → 64M\n         timeout-stop 5s → 9s\n");
        let leaf = field(&stack, "web", "cgroup");
        let file = format!("{}/memory.max", leaf.as_str().expect("it has a leaf"));
        let now = || std::fs::read_to_string(&file).expect("it is there");
        assert_eq!(now(), "67108864\n");
        stack.tells(&["set", "web", "memory-max=infinity"]).with_code(0);
        assert_eq!(now(), "max\n");
    } else {
        let ended = ended.with_code(1);
        assert_eq!(ended.out, "");
        let lines: Vec<&str> = ended.err.lines().collect();
        assert!(lines[0].starts_with("lpm: memory limit 64M of web cannot be enforced: "), "{}", ended.err);
        assert!(lines[1].starts_with("lpm: to have it enforced: "), "{}", ended.err);
        // Not half of it either.
        assert_eq!(field(&stack, "web", "ceilings")["memory_max"], Value::Null);
        let out = stack.tells(&["set", "web", "timeout-stop=9s"]).with_code(0).out;
        assert_eq!(out, "~ web.1  timeout-stop 5s → 9s\n");
    }
    run.stops();
}

#[test]
fn under_best_effort_a_change_says_each_limit_that_is_not_enforced_once() {
    let manifest = "[process.web]\nmemory-max = \"64M\"\ntasks-max = 50\n";
    let stack = Stack::with("each-lack", &format!("web: {STAYS}\n")).file("lpm.toml", manifest);
    if has_memory(&stack) {
        return skipped!("under_best_effort_a_change_says: every controller is there");
    }
    let mut run = up(&stack, &["--limits", "best-effort"], 1);
    for arguments in [&["restart", "web"][..], &["set", "web", "memory-high=32M"], &["reload"]] {
        let ended = stack.tells(arguments).with_code(0);
        let of = |what: &str| ended.err.lines().filter(|line| line.contains(what)).count();
        let said = [of("memory limit 64M of web cannot be enforced"), of("tasks limit 50 of web cannot")];
        // `set` prints no notes.
        let once = if arguments[0] == "set" { [0, 0] } else { [1, 1] };
        assert_eq!(said, once, "{arguments:?}: {}", ended.err);
    }
    run.stops();
}

#[test]
fn what_is_saved_keeps_the_comments_and_holds_for_the_next_start() {
    let manifest = "# ours\n[process.web] # the one\ntimeout-stop = \"2s\" # patient\n";
    let stack = Stack::with("save", &format!("web: {STAYS}\nworker: {STAYS}\n")).file("lpm.toml", manifest);
    let mut run = up(&stack, &["--can-die", "all"], 2);
    let ended = stack.tells(&["set", "web", "timeout-stop=3s", "restart=always", "--save"]).with_code(0);
    assert_eq!(stack.normal(&ended.err), "lpm: written to DIR/lpm.toml\n");
    let text = read(&stack, "lpm.toml");
    assert_eq!(
        text,
        "# ours\n[process.web] # the one\ntimeout-stop = \"3s\" # patient\nrestart = \"always\"\n"
    );
    assert_eq!(stack.tells(&["reload", "--dry-run"]).with_code(0).out, "nothing changed\n");
    run.stops();
    let mut run = up(&stack, &[], 2);
    assert_eq!(field(&stack, "web", "restart"), "always");
    assert_eq!(stack.tells(&["set", "web", "timeout-stop=3s"]).with_code(0).out, "nothing changed\n");
    // Where there is no file, one is made, and only what was said stands in it.
    std::fs::remove_file(stack.path().join("lpm.toml")).expect("it is there");
    stack.tells(&["set", "worker.1", "timeout-stop=1s", "--save"]).with_code(0);
    let made = read(&stack, "lpm.toml");
    assert!(
        made.contains("worker.1") && made.contains("timeout-stop = \"1s\"") && !made.contains("restart"),
        "{made}"
    );
    run.stops();
}

#[test]
fn only_the_counts_that_were_given_are_saved() {
    let stack = Stack::with("save-counts", &format!("web: {STAYS}\nworker: {STAYS}\nclock: {STAYS}\n"));
    // Who was not named at this start is not off for ever.
    let mut run = up(&stack, &["web"], 1);
    stack.tells(&["scale", "web=2", "--save"]).with_code(0);
    assert_eq!(read(&stack, "lpm.toml"), "[stack]\nformation = \"all=1,web=2\"\n");
    write(&stack, "lpm.toml", "[stack]\nformation = \"worker=3,web=1\" # two of them\n");
    stack.tells(&["scale", "web=1", "--save"]).with_code(0);
    stack.tells(&["scale", "clock=2", "--save"]).with_code(0);
    let text = "[stack]\nformation = \"worker=3,web=1,clock=2\" # two of them\n";
    assert_eq!(read(&stack, "lpm.toml"), text);
    run.stops();
}

#[test]
fn what_cannot_be_saved_is_said_and_holds_all_the_same() {
    let stack = Stack::with("unsaved", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    std::fs::create_dir(stack.path().join("lpm.toml")).expect("a directory in its way");
    let ended = stack.tells(&["set", "web", "restart=always", "--save"]).with_code(1);
    assert!(ended.err.contains("the running stack is changed, the file is not"), "{}", ended.err);
    assert_eq!(field(&stack, "web", "restart"), "always");
    assert_eq!(std::fs::read_dir(stack.path()).expect("ours").flatten().count(), 3, "nothing beside it");
    run.stops();
}

#[test]
fn a_reload_applies_what_changed_and_only_that() {
    let stack = Stack::with("reload", &format!("web: {STAYS}\nworker: {STAYS}\nold: {STAYS}\n"));
    let mut run = up(&stack, &[], 3);
    assert_eq!(stack.tells(&["reload"]).with_code(0).out, "nothing changed\n");
    let before = pids(&stack.status(&[]));
    write(&stack, "Procfile", &format!("web: {STAYS}\nworker: echo new; {STAYS}\nadded: {STAYS}\n"));
    write(&stack, "lpm.toml", "[process.web]\ntimeout-stop = \"7s\"\n");
    let dry = stack.tells(&["reload", "--dry-run"]).with_code(0);
    assert_eq!(pids(&stack.status(&[])), before, "nothing was done");
    let real = stack.tells(&["reload"]).with_code(0);
    assert_eq!((dry.out, dry.err), (real.out.clone(), real.err), "what was said is what was done");
    for line in ["~ web.1 ", "timeout-stop 5s → 7s", "~ worker.1 ", "+ added.1", "- old.1"] {
        assert!(real.out.contains(line), "{line}: {}", real.out);
    }
    let after = pids(&stack.status(&[]));
    let names: Vec<&str> = after.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["web.1", "worker.1", "added.1"]);
    assert_eq!(after[0], before[0], "it was left alone");
    assert_ne!(after[1], before[1], "it has the new command");
    run.wait_for("worker.1 | new");
    assert_eq!(field(&stack, "added", "port"), 5200);
    assert_eq!(stack.tells(&["reload"]).with_code(0).out, "nothing changed\n");
    let types: Vec<Value> = stack.status(&[])["stack"]["processes"].as_array().expect("types").clone();
    let types: Vec<&str> = types.iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(types, ["web", "worker", "added"], "what is gone is gone");
    run.stops();
}

#[test]
fn a_reload_of_something_wrong_changes_nothing() {
    let stack = Stack::with("reload-bad", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    let before = pids(&stack.status(&[]));
    let mut snapshot = Snapshot::new("reload.txt");
    for (tried, file, text) in [
        ("a name twice", "Procfile", "web: x\nweb: y\n"),
        ("no process", "Procfile", "\n"),
        ("an open quote", ".env", "A=b\nB=\"c\n"),
        ("no TOML", "lpm.toml", "[process.web\n"),
        ("an unknown key", "lpm.toml", "[process.web]\nmemory = 1\n"),
    ] {
        let kept = std::fs::read(stack.path().join(file)).ok();
        write(&stack, file, text);
        let ended = stack.tells(&["reload"]).with_code(1);
        assert_eq!(ended.out, "");
        snapshot.add(&format!("{file}: {tried}"), &wrong(&stack, &ended.err));
        assert_eq!(pids(&stack.status(&[])), before, "{tried}");
        match kept {
            Some(bytes) => std::fs::write(stack.path().join(file), bytes),
            None => std::fs::remove_file(stack.path().join(file)),
        }
        .expect("it is ours");
    }
    std::fs::remove_file(stack.path().join("Procfile")).expect("it is there");
    snapshot.add("no Procfile", &stack.tells(&["reload"]).with_code(1).err);
    assert_eq!(pids(&stack.status(&[])), before);
    snapshot.assert();
    run.stops();
}

#[test]
fn a_restart_reads_the_env_files_again_and_shows_no_value() {
    let says = "echo \"A=$A B=$B\"; echo up; exec sleep 1000";
    let stack = Stack::with("env", &format!("web: {says}\nworker: {says}\n")).file(".env", "A=one\n");
    let mut run = up(&stack, &[], 2);
    let worker = pid(&stack, "worker");
    write(&stack, ".env", "A=hunter2\nB=hunter3\n");
    let ended = stack.tells(&["restart", "web"]).with_code(0);
    assert_eq!(ended.out, "restarted web.1\n~ web.1  environment: +B ~A\n");
    run.wait_for("A=hunter2 B=hunter3");
    assert_eq!(pid(&stack, "worker"), worker, "nobody else takes it in yet");
    let json = stack.tells(&["restart", "--json", "web"]).with_code(0).out;
    let events = stack.tells(&["events", "--json"]).with_code(0).out;
    let status = stack.tells(&["status", "--json"]).with_code(0).out;
    for told in [&ended.out, &ended.err, &json, &events, &status] {
        assert!(!told.contains("hunter"), "values of variables are secrets: {told}");
    }
    stack.tells(&["restart", "worker"]).with_code(0);
    run.wait_for("worker.1 | A=hunter2 B=hunter3");
    // Broken: it goes on with what it had.
    write(&stack, ".env", "A=three\nB=\"four\n");
    let ended = stack.tells(&["restart", "web"]).with_code(0);
    assert_eq!(ended.out, "restarted web.1\n");
    assert_eq!(
        ended.err,
        "lpm: the env files were not taken in, the environment is as it was:\n\
         lpm: .env:2: the value of B has no closing \"\n"
    );
    run.wait_for("web.1    | A=hunter2 B=hunter3");
    let out = run.stops().out;
    assert_eq!(lines_of("web.1", &out).iter().filter(|line| line.starts_with("A=")).count(), 4);
}

#[test]
fn what_is_asked_for_wrongly_is_refused_in_plain_words() {
    let stack = Stack::with("words", &format!("web: {STAYS}\nworker: {STAYS}\noff: x\n"));
    let mut run = up(&stack, &["-c", "web=2", "web", "worker"], 3);
    let before = pids(&stack.status(&[]));
    let mut snapshot = Snapshot::new("control.txt");
    for arguments in [
        &["stop", "wbe"][..],
        &["stop", "web.7"],
        &["restart", "off"],
        &["kill", "off.1"],
        &["status", "nope"],
        &["freeze", "x*"],
        &["thaw", ""],
        &["events", "wroker"],
        &["start", "nope"],
        &["start", "web.0"],
        &["start", "x*"],
        &["signal", "web", "FOO"],
        &["signal", "web", "99"],
        &["signal", "nope", "HUP"],
        &["scale", "web"],
        &["scale", "web=-1"],
        &["scale", "web=many"],
        &["scale", "wbe=2"],
        &["scale", "web=10001"],
        &["set", "wbe", "restart=no"],
        &["set", "web", "restart"],
        &["set", "web", "restart=sometimes"],
        &["set", "web", "timeout-stop=soon"],
        &["set", "web", "zzzzz=1"],
        &["set", "web", "memory-max=lots"],
        &["set", "all", "name=x"],
    ] {
        let ended = stack.tells(arguments).with_code(1);
        assert_eq!(ended.out, "", "{arguments:?}");
        snapshot.add(&format!("lpm {}", arguments.join(" ")), &wrong(&stack, &ended.err));
    }
    assert_eq!(pids(&stack.status(&[])), before, "nothing was done");
    snapshot.assert();
    run.stops();
}
