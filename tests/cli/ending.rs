//! How a stack ends: whose exit ends it, what is stopped then and how, which exit code comes of it.

use rustix::process::Signal;

use crate::stack::{Stack, now};
use crate::starting::lines_of;

/// `lpm start` with these arguments ends with `code`.
#[track_caller]
fn assert_code(procfile: &str, arguments: &[&str], code: i32) -> String {
    let stack = Stack::with("exit-code", procfile);
    let mut all = vec!["start"];
    all.extend(arguments);
    stack.runs(&all).with_code(code).out
}

#[test]
fn the_exit_code_is_that_of_who_brought_the_stack_down() {
    assert_code("a: true\n", &[], 0);
    assert_code("a: exit 42\n", &[], 42);
    assert_code("a: exit 3\nb: exec sleep 1000\n", &[], 3);
    // b fails while it is stopped; it did not bring the stack down.
    let procfile = "a: cat go; exit 0\nb: trap 'exit 7' TERM; echo > go; sleep 1000 & wait\n";
    let stack = Stack::with("first", procfile);
    stack.shell("mkfifo go; exec $LPM start").pipes().ends().with_code(0);
    assert_code("a: kill -TERM $$\n", &[], 143);
    assert_code("a: kill -KILL $$\n", &[], 137);
    assert_code("a: kill -SEGV $$\n", &[], 139);
}

#[test]
fn another_rule_chooses_the_exit_code() {
    let procfile = "a: exit 3\nb: sleep 0.1; exit 9\nc: sleep 0.2; exit 1\n";
    assert_code(procfile, &["--can-die", "all", "--exit-code", "worst"], 9);
    assert_code(procfile, &["--can-die", "all", "--exit-code", "zero"], 0);
    assert_code("a: exit 3\nb: exec sleep 1000\n", &["--exit-code", "zero"], 0);
    assert_code("a: exit 3\nb: exec sleep 1000\n", &["--exit-code", "worst"], 3);
}

#[test]
fn what_cannot_be_found_or_executed() {
    let out = assert_code("a: nosuchprogram --x\nb: exec sleep 1000\n", &[], 127);
    assert!(out.contains("a.1    | cannot start: nosuchprogram: command not found\n"), "{out}");
    let out = assert_code("a: /no/such/program\n", &[], 127);
    assert!(out.contains("cannot start: /no/such/program: command not found\n"), "{out}");
    let out = assert_code("a: ./Procfile\n", &[], 126);
    assert!(out.contains("cannot start: ./Procfile: Permission denied\n"), "{out}");
    let out = assert_code("a: /etc\n", &[], 126);
    assert!(out.contains("cannot start: /etc: Permission denied\n"), "{out}");
    // The shell's own.
    assert_code("a: nosuchprogram; exit $?\n", &[], 127);
    assert_code("a: echo \"unbalanced\n", &[], 2);
}

#[test]
fn a_working_directory_that_is_gone_is_named() {
    let stack = Stack::with("no-directory", "a: pwd\n");
    let stack = stack.file("lpm.toml", "[process.a]\nworking-directory = \"gone\"\n");
    let ended = stack.runs(&["start"]).with_code(126);
    let said = "a.1    | cannot start: working directory: No such file or directory\n";
    assert!(ended.out.contains(said), "{}", ended.out);
}

#[test]
fn who_may_die_ends_nothing() {
    let stack = Stack::with("can-die", "a: echo gone; exit 3\nb: echo up; exec sleep 1000\n");
    let mut run = stack.lpm(&["start", "--can-die", "a"]).pipes();
    run.wait_for("a.1    | exited with code 3").signal(Signal::TERM);
    let ended = run.ends().by(Signal::TERM);
    assert!(ended.out.contains("b.1    | terminated by SIGTERM"), "{}", ended.out);
    // When all have died, nothing is left to wait for.
    assert_code("a: exit 0\nb: exit 0\n", &["--can-die", "a,b"], 0);
}

#[test]
fn release_runs_once_and_only_its_failure_ends_the_stack() {
    let stack = Stack::with("release", "release: echo migrated\nweb: echo up; exec sleep 1000\n");
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("release.1 | exited with code 0");
    run.signal(Signal::INT).ends().by(Signal::INT);
    assert_code("release: exit 4\nweb: exec sleep 1000\n", &[], 4);
    assert_code("job: exit 0\nother: exit 0\n", &["--oneshot", "job,other"], 0);
    assert_code("job: exit 5\nweb: exec sleep 1000\n", &["--oneshot", "job"], 5);
}

#[test]
fn what_is_to_be_restarted_is() {
    let script = "a: echo run >> log; test $(wc -l < log) -ge 3 && exit 0; exit 1\n";
    let stack = Stack::with("restart", script);
    let ended = stack.runs(&["start", "--restart", "a=on-failure"]).with_code(0);
    let line = "a.1    | restarting in 100ms (restart 1, after exit code 1)\n";
    assert!(ended.out.contains(line), "{}", ended.out);
    assert!(ended.out.contains("(restart 2, after exit code 1)\n"), "{}", ended.out);
    let log = std::fs::read_to_string(stack.path().join("log")).expect("a log");
    assert_eq!(log.lines().count(), 3);
    assert!(ended.err.contains("RESTARTS"), "{}", ended.err);
}

#[test]
fn a_restart_has_its_limit() {
    let stack = Stack::with("start-limit", "a: exit 6\n");
    let stack = stack.file(
        "lpm.toml",
        "[process.a]\nrestart = \"always\"\nrestart-sec = \"1ms\"\nstart-limit-burst = 3\n",
    );
    let ended = stack.runs(&["start"]).with_code(6);
    assert!(
        ended.out.contains("a.1    | started 3 times within 10s, not again (start-limit-hit)\n"),
        "{}",
        ended.out
    );
    assert_eq!(ended.out.matches("started with pid").count(), 3);
}

#[test]
fn who_ignores_the_signal_is_killed_after_the_timeout() {
    let stack = Stack::with("stubborn", "a: trap '' TERM; echo up; while :; do sleep 1; done\n");
    let mut run = stack.lpm(&["start", "-t", "300ms"]).pipes();
    run.wait_for("a.1    | up");
    let asked = now();
    let ended = run.signal(Signal::TERM).ends().by(Signal::TERM);
    let took = now() - asked;
    assert!(ended.out.contains("a.1    | not gone after 300ms, sending SIGKILL\n"), "{}", ended.out);
    assert!(ended.out.contains("a.1    | terminated by SIGKILL ("), "{}", ended.out);
    assert!(took.as_millis() >= 300, "{took:?}");
}

#[test]
fn each_process_gets_its_own_stop_signal() {
    let trap = "echo up; sleep 1000 & wait";
    let procfile = format!("a: trap 'echo quit; exit' QUIT; {trap}\nb: trap 'echo hup; exit' HUP; {trap}\n");
    let stack = Stack::with("stop-signals", &procfile);
    let mut run = stack.lpm(&["start", "--stop-signal", "a=QUIT,b=SIGHUP"]).pipes();
    run.wait_for(" | up").wait_for(" | up").signal(Signal::TERM);
    let ended = run.ends().by(Signal::TERM);
    assert!(ended.out.contains("system | sending each process its stop signal\n"), "{}", ended.out);
    assert!(lines_of("a.1", &ended.out).contains(&"quit"), "{}", ended.out);
    assert!(lines_of("b.1", &ended.out).contains(&"hup"), "{}", ended.out);
}

#[test]
fn nothing_of_an_instance_outlives_it() {
    let script = "setsid sleep 1000 & nohup sleep 1001 > /dev/null 2>&1 & (sleep 1002 & sleep 1003 &); \
                  (setsid sh -c 'trap \"\" TERM HUP; sleep 1004 & wait' &)";
    for last in ["echo up; wait", "echo up; exec sleep 1000"] {
        let stack = Stack::with("leftovers", &format!("a: {script}; {last}\n"));
        let mut run = stack.lpm(&["start", "-t", "1"]).pipes();
        run.wait_for("a.1    | up");
        run.signal(Signal::INT).ends().by(Signal::INT);
    }
    // It ends by itself, and leaves them behind.
    let stack = Stack::with("leftovers", "a: setsid sleep 1000 & sleep 1001 & echo up\n");
    let ended = stack.runs(&["start"]).with_code(0);
    assert!(
        ended.out.contains("a.1    | left 2 processes behind, sending SIGTERM to them\n"),
        "{}",
        ended.out
    );
    assert!(ended.err.contains("LEFTOVERS"), "{}", ended.err);
}

/// With an environment of their own they carry no mark of lpm's, and are found all the same.
#[test]
fn not_even_with_an_environment_of_its_own() {
    let stack = Stack::new("clean-environment");
    let hidden = format!("env -i /usr/bin/setsid /bin/sh -c \"sleep 1000; : {}\"", stack.mark());
    let stack = stack.file("Procfile", format!("a: ({hidden} &) ; echo up; exec sleep 1000\n"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("a.1    | up");
    run.signal(Signal::INT).ends().by(Signal::INT);
}

/// People are told who is being waited for, after the first second.
#[test]
fn people_are_told_who_is_waited_for() {
    let stack = Stack::with("progress", "a: trap '' TERM; echo up; while :; do sleep 1; done\n");
    let mut run = stack.lpm(&["start", "-t", "20"]).pipes();
    run.wait_for("a.1    | up").signal(Signal::TERM);
    run.wait_for("system | waiting for a.1: ").wait_for("sh -c trap '' TERM; echo up");
    run.signal(Signal::INT).wait_for("sending SIGKILL to all processes");
    run.ends();
}

#[test]
fn the_summary_for_machines() {
    let stack = Stack::with(
        "summary",
        "a: until [ -e up ]; do sleep 0.01; done; exit 3\nb: touch up; exec sleep 1000\n",
    );
    stack.runs(&["start", "--summary", "out.json"]).with_code(3);
    let text = std::fs::read_to_string(stack.path().join("out.json")).expect("a summary");
    let summary: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(summary["stack"], stack.mark());
    assert_eq!(summary["exit_code"], 3);
    assert_eq!(summary["strays"], 0);
    let rows = summary["instances"].as_array().expect("instances");
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["name"], "a.1");
    assert_eq!(rows[0]["outcome"], "exit-code");
    assert_eq!(rows[0]["exit_code"], 3);
    assert!(rows[0]["failure"].as_str().is_some_and(|why| why.contains("code 3")), "{text}");
    assert!(rows[1]["failure"].is_null(), "{text}");
    assert_eq!(rows[1]["signal"], "SIGTERM");
    assert_eq!(rows[1]["outcome"], "success");
    assert_eq!(rows[1]["starts"], 1);
    assert!(text.ends_with('\n'), "a text file ends with a newline");
}
