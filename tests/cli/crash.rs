//! Why something failed, for a person who did not watch: at the end of a run, in `lpm status`, among the events.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::control::{STAYS, field};
use crate::escapes::until_runs;
use crate::snapshot::Snapshot;
use crate::stack::Stack;

/// What stands below the table, as it would be on any machine.
fn told(stack: &Stack, err: &str) -> String {
    let blocks = err.split_once("\n\n").map_or("", |(_, blocks)| blocks);
    assert!(blocks.lines().all(|line| line.chars().count() <= 80), "wider than 80 columns: {blocks}");
    // Which part of a line it was is told by newer pythons alone.
    let marks = |line: &&str| line.contains('^') && line.chars().all(|c| " |~^".contains(c));
    let lines = blocks.lines().filter(|line| !marks(line));
    lines.map(|line| timeless(&stack.normal(line)) + "\n").collect()
}

/// Without how long it lived.
fn timeless(line: &str) -> String {
    let Some((before, after)) = line.split_once(" after ") else { return line.to_owned() };
    let Some((_, rest)) = after.split_once(", ").filter(|_| before.trim().is_empty()) else {
        return line.to_owned();
    };
    format!("{before} after T, {rest}")
}

fn python(stack: Stack) -> Stack {
    stack.file("app.py", "def price(cart):\n    return cart['price']\n\nprint('up', flush=True)\nprice({})\n")
}

#[test]
fn the_end_of_a_run_says_why() {
    let mut snapshot = Snapshot::new("crash.txt");
    let mut tried = |what: &str, stack: Stack, arguments: &[&str], code: i32| {
        let stack = stack.programs(&["sh", "python3", "sleep", "wc"]);
        let mut all = vec!["start"];
        all.extend(arguments);
        let ended = stack.runs(&all).with_code(code);
        assert!(!ended.out.contains("Failure:"), "nothing of it is for standard output: {}", ended.out);
        assert!(ended.err.starts_with("NAME "), "the table comes first: {}", ended.err);
        snapshot.add(what, &told(&stack, &ended.err));
    };
    let stack = python(Stack::with("crash", "web: python3 app.py\nworker: exec sleep 1000\n"));
    tried("a python traceback", stack, &[], 1);
    let stack = Stack::with("crash", "web: ulimit -c 0; sh -c 'kill -SEGV $$'\n");
    tried("a segmentation fault, seen through a shell", stack, &[], 139);
    let stack = Stack::with("crash", "web: ulimit -c 0; kill -SEGV $$\n");
    tried("a segmentation fault", stack, &[], 139);
    tried("a code", Stack::with("crash", "web: echo not today; exit 3\n"), &[], 3);
    tried("a code of sysexits.h", Stack::with("crash", "web: exit 78\n"), &[], 78);
    let near =
        |procfile| Stack::with("crash", procfile).program("bin/server", "#!/bin/sh\n").file("bin/servre", "");
    tried("a missing command", near("web: bin/sevrer --fast\n"), &[], 127);
    tried("a missing command, said by a shell", near("web: cd . && bin/sevrer --fast\n"), &[], 127);
    tried(
        "not in PATH, but here",
        Stack::with("crash", "web: my-server\n").program("my-server", "#!/bin/sh\n"),
        &[],
        127,
    );
    tried("not executable", Stack::with("crash", "web: ./Procfile\n"), &[], 126);
    let limit = "[process.web]\nrestart = \"on-failure\"\nrestart-sec = \"1ms\"\nstart-limit-burst = 3\n";
    let stack = Stack::with("crash", "web: echo life >> log; wc -l < log; exit 6\n").file("lpm.toml", limit);
    tried("started too often", stack, &[], 6);
    let stack = Stack::with("crash", "web: sleep 1000 & printf 'a\\033[2Jb\\033[31mred\\n'; exit 1\n");
    tried("what a terminal would obey, and a process left behind", stack, &[], 1);
    snapshot.assert();
}

#[test]
fn node_and_rust_say_where_it_happened() {
    const NAME: &str = "node_and_rust_say_where_it_happened";
    let stack = Stack::with("languages", "web: node app.js\n")
        .file("app.js", "function price(cart) {\n  return cart.items.length;\n}\nconsole.log('up');\nprice({});\n")
        .file("app.rs", "fn main() {\n    let all: Vec<u32> = vec![];\n    println!(\"up\");\n    let first = std::hint::black_box(&all)[0];\n    println!(\"{first}\");\n}\n");
    match std::process::Command::new("node").arg("--version").output() {
        Ok(_) => {
            let ended = stack.runs(&["start"]).with_code(1);
            let told = stack.normal(&ended.err);
            assert!(told.contains("Error: TypeError: Cannot read propert"), "{told}");
            assert!(told.contains("DIR/app.js:2") && told.contains("price (node)"), "{told}");
        }
        Err(_) => skipped!("{NAME}: needs node"),
    }
    let built =
        std::process::Command::new("rustc").args(["-o", "app", "app.rs"]).current_dir(stack.path()).status();
    if !built.is_ok_and(|status| status.success()) {
        return skipped!("{NAME}: needs rustc");
    }
    std::fs::write(stack.path().join("Procfile"), "web: ./app\n").expect("ours");
    let ended = stack.runs(&["start"]).with_code(101);
    assert!(
        ended.err.contains("Error: index out of bounds: the len is 0 but the index is 0"),
        "{}",
        ended.err
    );
    assert!(ended.err.contains("app.rs:4") && ended.err.contains("(rust)"), "{}", ended.err);
}

#[test]
fn who_ended_the_stack_is_told_first_and_of_many_five() {
    let stack = Stack::with("many", "a: cat go; exit 4\nb: exit 3\n");
    let stack = stack.file("lpm.toml", "[process.b]\ncan-die = true\n");
    let mut run = stack.shell("mkfifo go; exec $LPM start -c b=7").pipes();
    for _ in 0..7 {
        run.wait_for("exited with code 3");
    }
    // The pipe's reader is there, or comes.
    std::fs::write(stack.path().join("go"), "").expect("it is read");
    let ended = run.ends().with_code(4);
    let heads: Vec<&str> = ended.err.lines().filter_map(|line| line.strip_prefix("× ")).collect();
    assert_eq!((heads.len(), heads[0]), (5, "a.1 - cat go; exit 4"), "{}", ended.err);
    assert!(heads[1..].iter().all(|head| head.starts_with("b.")), "{}", ended.err);
    assert!(ended.err.ends_with("\n\nand 3 more, in the table above\n"), "{}", ended.err);
}

#[test]
fn who_was_stopped_has_not_failed() {
    let stack = Stack::with("stopped", &format!("web: trap 'exit 7' TERM; sleep 7773 & wait\nb: {STAYS}\n"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    // Until then the child has the handler of its shell.
    until_runs(&stack, "sleep 7773");
    let ended = run.signal(Signal::TERM).ends().by(Signal::TERM);
    assert!(ended.err.contains("code 7") && !ended.err.contains("Failure"), "{}", ended.err);
    let ended = Stack::with("well", "web: true\n").runs(&["start"]).with_code(0);
    assert!(!ended.err.contains("Failure"), "{}", ended.err);
}

#[test]
fn a_stop_that_took_too_long_is_a_failure() {
    let stack = Stack::with("slow", "web: trap '' TERM; echo up; while :; do sleep 1; done\n");
    let mut run = stack.lpm(&["start", "-t", "300ms"]).pipes();
    run.wait_for(" | up");
    let ended = run.signal(Signal::TERM).ends().by(Signal::TERM);
    assert!(ended.err.contains("    Failure: not gone 300ms after SIGTERM, and killed\n"), "{}", ended.err);
}

#[test]
fn what_it_left_behind_can_take_too_long_as_well() {
    let deaf = "(trap '' TERM; echo > go; while :; do sleep 1; done) & cat go; exit 0";
    let stack = Stack::with("left-slow", &format!("web: {deaf}\n"));
    let ended = stack.shell("mkfifo go; exec $LPM start -t 300ms").pipes().ends().with_code(0);
    let failure = "    Failure: what it had left behind was not gone 300ms after SIGTERM, and was\n             killed\n";
    assert!(ended.err.contains(failure), "{}", ended.err);
}

#[test]
fn a_command_that_is_run_once_speaks_for_itself() {
    let stack = python(Stack::with("one-off", "web: true\n"));
    let ended = stack.runs(&["run", "python3 app.py"]).with_code(1);
    assert_eq!(ended.out, "up\n");
    assert!(ended.err.starts_with("Traceback") && !ended.err.contains("Failure"), "{}", ended.err);
}

#[test]
fn status_and_events_tell_it_while_the_stack_goes_on() {
    let stack = python(Stack::with("status", &format!("web: python3 app.py\nworker: {STAYS}\n")));
    let stack = stack.variable("TOKEN", "hunter2");
    let mut run = stack.lpm(&["start", "--can-die", "web"]).pipes();
    run.wait_for("exited with code 1");

    let failure = field(&stack, "web", "failure");
    let of = |name: &str| failure[name].clone();
    assert_eq!(
        [of("cause"), of("next"), of("exit_code")],
        [json!("exited with code 1"), json!("rest"), json!(1)]
    );
    assert_eq!(
        (&failure["trace"]["language"], &failure["trace"]["message"]),
        (&json!("python"), &json!("KeyError: 'price'"))
    );
    let place = failure["trace"]["location"].as_str().expect("a place");
    assert!(place.ends_with("/app.py:2 in price"), "{place}");
    let lines = failure["lines"].as_array().expect("its last lines");
    assert_eq!(
        (&lines[0]["text"], &lines[lines.len() - 1]["text"]),
        (&json!("up"), &json!("KeyError: 'price'"))
    );
    assert_eq!(field(&stack, "worker", "failure"), Value::Null);

    let page = stack.tells(&["status", "web", "--lines", "0"]).with_code(0).out;
    for row in [
        "    Failure: exited with code 1\n",
        "      Error: KeyError: 'price'\n",
        "Last lines of life 1, which failed:",
    ] {
        assert!(page.contains(row), "{row}: {page}");
    }
    let page = stack.tells(&["status", "web"]).with_code(0).out;
    assert_eq!(page.matches("Traceback").count(), 1, "they are among the last lines: {page}");

    let events = stack.tells(&["events", "--json", "web"]).with_code(0).out;
    let events = heard(&events);
    let ended = events.iter().find(|event| event["event"] == "ended").expect("it ended");
    assert_eq!(
        (&ended["cause"], &ended["trace"]),
        (&json!("exited with code 1"), &failure["trace"]),
        "{ended:#}"
    );
    let all = format!("{failure}{events:?}");
    assert!(!all.contains("hunter2"), "values of variables are secrets: {all}");

    // It goes on, and what was is remembered.
    std::fs::write(stack.path().join("app.py"), "print('up', flush=True)\nimport time\ntime.sleep(1000)\n")
        .expect("ours");
    stack.tells(&["start", "web"]).with_code(0);
    run.wait_for("web.1    | up");
    let page = stack.tells(&["status", "web", "--lines", "1"]).with_code(0).out;
    assert!(page.contains("started again on request\n") && page.contains("KeyError"), "{page}");
    let ended = run.stops();
    assert!(!ended.err.contains("Failure"), "its last life did not fail: {}", ended.err);
}

/// The lines before belong to a life that said something else.
#[test]
fn lines_of_the_life_before_are_not_told() {
    let limit = "[process.web]\nrestart = \"on-failure\"\nrestart-sec = \"1ms\"\nstart-limit-burst = 2\n";
    let stack = Stack::with("lives", "web: echo life >> log; echo this is $(wc -l < log); exit 6\n");
    let stack = stack.file("lpm.toml", limit);
    let ended = stack.runs(&["start"]).with_code(6);
    let lines: Vec<&str> = ended.err.lines().filter_map(|line| line.strip_prefix("    | ")).collect();
    assert_eq!(lines, ["this is 2"], "{}", ended.err);
}

/// What happened, as a follower hears it, up to the end of the stack.
fn heard(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["event"].clone()).collect()
}

/// The error stands in the last lines, and those are read later than the end is known.
#[test]
fn followers_hear_of_the_error_and_of_everything_in_its_order() {
    let stack =
        python(Stack::with("follow", &format!("web: echo up; cat go; exec python3 app.py\nb: {STAYS}\n")));
    let mut run = stack.shell("mkfifo go; exec $LPM start").pipes();
    run.wait_for(" | up").wait_for(" | up");
    let mut follower = stack.lpm(&["events", "-f", "--json"]).pipes();
    follower.wait_for("started with pid").wait_for("started with pid");
    std::fs::write(stack.path().join("go"), "").expect("it is read");
    let events = heard(&follower.ends_leaving_something().with_code(0).out);
    run.ends().with_code(1);
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(kinds, ["started", "started", "ended", "stopping-all", "ended"], "{events:#?}");
    let (web, b) = (&events[2], &events[4]);
    assert_eq!((&web["cause"], &web["trace"]["language"]), (&json!("exited with code 1"), &json!("python")));
    assert_eq!((&b["instance"], &b["cause"], &b["trace"]), (&json!("b.1"), &Value::Null, &Value::Null));
}

/// Last lines that cannot be had are not waited for.
#[test]
fn events_come_when_nobody_reads_the_output() {
    let stack = Stack::with("stuck", "web: echo up; exec yes\njob: cat go; exit 3\n");
    let mut run = stack.shell("mkfifo go; exec $LPM start --can-die job").pipes();
    run.wait_for(" | up");
    let mut follower = stack.lpm(&["events", "-f", "job"]).pipes();
    follower.wait_for("started with pid");
    std::fs::write(stack.path().join("go"), "").expect("it is read");
    follower.wait_for("exited with code 3");
    assert_eq!(field(&stack, "job", "failure")["cause"], "exited with code 3");
    stack.tells(&["down"]).with_code(0);
    follower.ends_leaving_something().with_code(0);
    run.ends();
}
