//! `--log`: where lines go besides the terminal, and what becomes of them when that is in trouble.

use rustix::process::Signal;
use serde_json::Value;

use crate::control::STAYS;
use crate::stack::{LPM, Stack, is_root};

/// Two that speak, one in a word that is no text, and end the stack.
const SPEAKS: &str = "web: echo hello; printf '\\377\\376\\n'; echo error >&2; exit 3\n";

fn read(stack: &Stack, path: &str) -> String {
    let bytes = std::fs::read(stack.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Lines without their time, which is held to be one.
#[track_caller]
fn untimed(text: &str) -> Vec<&str> {
    let rest = |line: &str| {
        let time = line.get(..32).unwrap_or_default();
        assert!(time.as_bytes()[10] == b'T' && time.as_bytes()[19] == b'.', "{line}");
    };
    text.lines().inspect(|line| rest(line)).map(|line| &line[33..]).collect()
}

/// The objects of a text of JSON lines, each with the time taken out.
#[track_caller]
fn objects(text: &str) -> Vec<Value> {
    let object = |line: &str| {
        let mut object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        let time = object.as_object_mut().and_then(|fields| fields.remove("time")).expect("a time");
        assert!(time.as_u64().is_some_and(|usec| usec > 1_700_000_000_000_000), "{time}");
        object
    };
    text.lines().map(object).collect()
}

#[test]
fn standard_output_can_be_json() {
    let stack = Stack::with("json", SPEAKS);
    let ended = stack.runs(&["start", "--log", "json", "--split-stderr"]).with_code(3);
    let lines = objects(&ended.out);
    let of = |stream: &str| -> Vec<&Value> { lines.iter().filter(|line| line["stream"] == stream).collect() };
    let out = of("out");
    assert_eq!(out[0], &serde_json::json!({ "instance": "web.1", "stream": "out", "text": "hello" }));
    assert_eq!((&out[1]["text"], &out[1]["bytes"]), (&"\u{fffd}\u{fffd}".into(), &"//4=".into()));
    assert_eq!(of("err")[0]["text"], "error");
    let own: Vec<&str> = of("lpm").iter().filter_map(|line| line["text"].as_str()).collect();
    assert!(own.iter().any(|text| text.starts_with("exited with code 3")), "{own:?}");
    assert!(ended.err.contains("code 3"), "the summary is for people: {}", ended.err);
}

#[test]
fn files_have_what_the_terminal_has() {
    let stack = Stack::with("files-log", SPEAKS);
    let ended = stack.runs(&["start", "--log", "terminal,file=log,file=all.log,json=all.json"]).with_code(3);
    let web = read(&stack, "log/web.1.log");
    let web = untimed(&web);
    assert!(web[0].starts_with("| started with pid"), "{web:?}");
    assert_eq!(web[1..4], ["| hello", "| \u{fffd}\u{fffd}", "| error"]);
    assert!(web[4].starts_with("| exited with code 3"), "{web:?}");
    let bytes = std::fs::read(stack.path().join("log/web.1.log")).expect("it is there");
    assert!(memchr::memmem::find(&bytes, b"| \xff\xfe\n").is_some(), "bytes are exact");
    let all = read(&stack, "all.log");
    assert!(untimed(&all).contains(&"web.1 | hello"), "{all}");
    assert_eq!(objects(&read(&stack, "all.json")).len(), untimed(&all).len());
    assert_eq!(ended.out.lines().count(), untimed(&all).len(), "{}", ended.out);
}

#[test]
fn where_only_files_are_wanted_the_terminal_is_left_alone() {
    let stack = Stack::with("only-files", SPEAKS).file("lpm.toml", "[stack]\nlog = \"file=log\"\n");
    let ended = stack.shell(&format!("cd / && exec {LPM} start -d \"$OLDPWD\" --no-prefix")).pipes().ends();
    let ended = ended.with_code(3);
    assert_eq!(ended.out, "");
    // A path in a file starts where the file is.
    let web = std::fs::read(stack.path().join("log/web.1.log")).expect("it is there");
    assert!(memchr::memmem::find(&web, b"\nhello\n\xff\xfe\nerror\nweb.1 exited with code 3").is_some());
    // What was typed wins.
    let ended = stack.runs(&["start", "--log", "terminal"]).with_code(3);
    assert!(ended.out.contains("web.1  | hello"), "{}", ended.out);
    assert_eq!(std::fs::read(stack.path().join("log/web.1.log")).expect("it is there"), web);
}

#[test]
fn a_second_run_goes_on_where_the_first_one_ended() {
    let stack = Stack::with("log-again", "web: echo said; exit 3\n");
    for _ in 0..2 {
        stack.runs(&["start", "--log", "file=log"]).with_code(3);
    }
    let text = read(&stack, "log/web.1.log");
    assert_eq!(untimed(&text).iter().filter(|line| **line == "| said").count(), 2, "{text}");
}

#[test]
fn a_file_is_put_aside_and_the_oldest_goes() {
    let stack = Stack::with("rotate", "web: seq 100000; echo last; exit 3\n");
    stack.runs(&["start", "--log", "file=log", "--log-rotate", "size=128K,keep=2"]).with_code(3);
    let mut names: Vec<String> = std::fs::read_dir(stack.path().join("log"))
        .expect("a directory")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("web"))
        .collect();
    names.sort();
    assert_eq!(names, ["web.1.log", "web.1.log.1", "web.1.log.2"]);
    let text: String = names.iter().rev().map(|name| read(&stack, &format!("log/{name}"))).collect();
    let numbers: Vec<u32> = untimed(&text).iter().filter_map(|line| line[2..].parse().ok()).collect();
    let first = numbers[0];
    assert!(first > 1, "the oldest lines are gone");
    assert_eq!(numbers, (first..=100_000).collect::<Vec<u32>>(), "no other is");
}

#[test]
fn after_sighup_they_are_where_they_are_looked_for() {
    let stack = Stack::with(
        "hup-log",
        "web: trap 'echo again' USR1; echo up; while :; do sleep 1000 & wait $!; done\n",
    );
    let mut run = stack.shell(&format!("exec setsid {LPM} start --log terminal,file=log")).pipes();
    run.wait_for("| up");
    std::fs::rename(stack.path().join("log/web.1.log"), stack.path().join("log/old")).expect("it is there");
    run.signal(Signal::HUP);
    run.wait_for("SIGHUP received, log files are opened anew");
    stack.tells(&["signal", "web", "USR1"]).with_code(0);
    run.wait_for("| again");
    run.stops();
    assert!(untimed(&read(&stack, "log/old")).contains(&"| up"));
    let new = read(&stack, "log/web.1.log");
    assert!(untimed(&new).contains(&"| again") && !untimed(&new).contains(&"| up"), "{new}");
}

#[test]
fn a_full_disk_holds_nobody_up_and_is_announced_once() {
    const NAME: &str = "a_full_disk_holds_nobody_up_and_is_announced_once";
    if !is_root() {
        return skipped!("{NAME}: mounts a tmpfs, needs root");
    }
    let stack = Stack::with(
        "full-disk",
        "web: head -c 3000000 /dev/zero | tr '\\0' x | fold -w 99; echo; echo done; read line <go; echo freed; \
         exit 3\n",
    );
    // A mount of its own, which ends with it.
    let script = format!(
        "mkdir log && mount -t tmpfs -o size=1M none log && mkfifo go && {{ {LPM} start --log terminal,file=log \
         | grep --line-buffered -v xxxx; grep -c xxxx log/web.1.log; tail -n 3 log/web.1.log; }}"
    );
    let mut run = stack.program_with("unshare", &["-m", "sh", "-c", &script]).pipes();
    run.wait_for("log/web.1.log cannot be written: No space left on device").wait_for("| done");
    // Room again: the log of the stack is in the mount of lpm, so it is emptied from there.
    let lpm = stack.pids_in("web.1")[0];
    let log = format!("/proc/{}/root{}/log/web.1.log", lpm.as_raw_pid(), stack.path().display());
    std::fs::File::options().write(true).open(&log).and_then(|file| file.set_len(4096)).expect("it is there");
    std::fs::write(stack.path().join("go"), "\n").expect("somebody reads");
    run.wait_for("log/web.1.log is written again, ").wait_for("lines are missing");
    let out = run.ends().with_code(0).out;
    assert_eq!(out.matches("cannot be written").count(), 1, "{out}");
    assert!(out.contains("lines could not be written: No space left on device\n"), "{out}");
    assert!(out.contains("| freed\n"), "{out}");
}

#[test]
fn what_cannot_be_logged_to_is_refused_before_anything_starts() {
    let stack = Stack::with("no-log", &format!("web: {STAYS}\n")).file("here", "a file");
    std::fs::create_dir(stack.path().join("dir.log")).expect("a fresh directory");
    for (log, expected) in [
        ("file=here", "lpm: --log: DIR/here cannot be opened: Not a directory\n"),
        ("file=none/all.log", "lpm: --log: DIR/none/all.log cannot be opened: No such file or directory\n"),
        ("json=dir.log", "lpm: --log: DIR/dir.log cannot be opened: Is a directory\n"),
        (
            "syslog",
            "lpm: --log: \"syslog\" is no place for lines (write terminal, journald, journald-direct, json, \
             json=FILE, file=DIR, file=NAME.log or none)\n",
        ),
        ("json,terminal", "lpm: --log: terminal and json both go to standard output (write json=FILE)\n"),
    ] {
        let ended = stack.runs(&["start", "--log", log]).with_code(1);
        assert_eq!((ended.out.as_str(), stack.normal(&ended.err).as_str()), ("", expected), "{log}");
    }
    let names: Vec<String> = std::fs::read_dir(stack.path())
        .expect("ours")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(!names.contains(&"none".to_owned()), "{names:?}");
}

#[test]
fn where_lines_go_does_not_change_while_the_stack_runs() {
    let stack = Stack::with("log-reload", &format!("web: {STAYS}\n"));
    let mut run = crate::control::up(&stack, &[], 1);
    std::fs::write(stack.path().join("lpm.toml"), "[stack]\nlog = \"file=log\"\n").expect("ours");
    let ended = stack.tells(&["reload"]).with_code(0);
    assert!(ended.err.contains("log: not while the stack runs"), "{}{}", ended.out, ended.err);
    run.stops();
}

#[test]
fn a_process_type_has_a_route_of_its_own() {
    // The code of the stack is that of the last end.
    let worker = "while [ ! -e ended ]; do sleep .01; done; rm ended; sleep .1; echo from worker; exit 3";
    let stack = Stack::with("log-routes", &format!("web: echo from web; touch ended\nworker: {worker}\n"))
        .file(
            "lpm.toml",
            "[stack]\nlog = \"terminal,file=all.log\"\n[defaults]\ncan-die = true\n\
         [process.worker]\nlog = \"file=own,json=own.json\"\n",
        );
    let ended = stack.runs(&["start"]).with_code(3);
    assert!(ended.out.contains("from web") && !ended.out.contains("from worker"), "{}", ended.out);
    assert!(ended.out.contains("worker.1 | exited with code 3"), "lpm's own are shown: {}", ended.out);
    let all = read(&stack, "all.log");
    assert!(all.contains("from web") && !all.contains("worker.1"), "{all}");
    let own = read(&stack, "own/worker.1.log");
    let own = untimed(&own);
    assert!(
        own.contains(&"| from worker") && own.last().is_some_and(|line| line.contains("code 3")),
        "{own:?}"
    );
    assert!(objects(&read(&stack, "own.json")).iter().all(|line| line["instance"] == "worker.1"));
    // What was typed is for all.
    let ended = stack.runs(&["start", "--log", "terminal"]).with_code(3);
    assert!(ended.out.contains("from worker"), "{}", ended.out);
}

#[test]
fn what_goes_nowhere_is_kept_all_the_same() {
    let stack = Stack::with("log-none", &format!("web: echo said; {STAYS}\n"));
    let mut run = stack.lpm(&["start", "-D", "--log", "none", "--history", "4K"]).pipes();
    run.ends_leaving_something().with_code(0);
    let said = stack.tells(&["logs", "web"]).with_code(0);
    assert!(said.out.contains("| said"), "{}", said.out);
    stack.tells(&["down"]).with_code(0);
}

#[test]
fn records_are_written_for_people_on_the_terminal_alone() {
    let web = r#"web: echo '{"level":"warn","msg":"slow","ms":812}'; echo 'level=error msg="no db" try=3'; echo plain"#;
    let stack = Stack::with("pretty", &format!("{web}\n"));
    let ended =
        stack.runs(&["start", "-N", "--pretty", "--no-timestamp", "--log", "terminal,file=log"]).with_code(0);
    for line in ["web.1  | WARN  slow ms=812\n", "web.1  | ERROR no db try=3\n", "web.1  | plain\n"] {
        assert!(ended.out.contains(line), "{line}{}", ended.out);
    }
    assert!(read(&stack, "log/web.1.log").contains(r#"| {"level":"warn","msg":"slow","ms":812}"#));
    let coloured = stack.runs(&["start", "--pretty=web", "--color", "always"]).with_code(0);
    assert!(coloured.out.contains("\x1b[33mWARN \x1b[0m slow"), "{}", coloured.out);
    let raw = stack.runs(&["start", "--pretty=web=no"]).with_code(0);
    assert!(raw.out.contains(r#"| {"level":"warn""#), "{}", raw.out);
}

#[test]
fn logs_go_on_across_a_rotation_and_a_restart() {
    let web = "echo life >> lives; n=$(wc -l < lives); i=0; while [ $i -lt 200 ]; do i=$((i+1)); echo \"life $n line $i\"; done; \
               until [ -e go$n ]; do sleep 0.01; done; exit 1";
    let stack = Stack::with("logs-across", &format!("web: {web}\n")).file(
        "lpm.toml",
        "[process.web]\nrestart = \"on-failure\"\nrestart-sec = \"1ms\"\nstart-limit-burst = 2\n",
    );
    let mut run = stack.lpm(&["start", "--log", "file=log", "--log-rotate", "size=4K,keep=20"]).pipes();
    let follow = "until $LPM status >status 2>&1; do sleep 0.01; done; exec $LPM logs --since 10min -f --no-prefix web";
    let mut follower = stack.shell(follow).pipes();
    follower.wait_for("life 1 line 200\n");
    std::fs::write(stack.path().join("go1"), "").expect("ours");
    follower.wait_for("life 2 line 200\n");
    std::fs::write(stack.path().join("go2"), "").expect("ours");
    run.ends_leaving_something().with_code(1);
    let out = follower.ends().with_code(0).out;
    let said: Vec<&str> = out.lines().filter(|line| line.starts_with("life ")).collect();
    let expected: Vec<String> =
        (1..=2).flat_map(|life| (1..=200).map(move |line| format!("life {life} line {line}"))).collect();
    assert_eq!(said, expected, "each once, in order");
    let files = std::fs::read_dir(stack.path().join("log")).expect("ours").count();
    assert!(files >= 3, "it was put aside meanwhile: {files}");
}

#[test]
fn where_one_alone_goes_to_the_terminal_it_is_alone_there() {
    let stack = Stack::with("log-alone", "web: echo from web\nworker: echo from worker\n").file(
        "lpm.toml",
        "[stack]\nlog = \"file=all.log\"\n[defaults]\ncan-die = true\n[process.web]\nlog = \"terminal\"\n",
    );
    let ended = stack.runs(&["start", "--no-timestamp"]).with_code(0);
    assert_eq!(ended.out, "web.1    | from web\n", "and nothing of what lpm says");
    let all = read(&stack, "all.log");
    assert!(
        all.contains("from worker") && all.contains("worker.1 | exited") && !all.contains("web.1"),
        "{all}"
    );
}
