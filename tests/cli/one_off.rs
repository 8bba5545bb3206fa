//! `lpm run`: one command, its streams untouched, its exit code lpm's.

use rustix::process::Signal;

use crate::stack::{LPM, Stack, has_cgroups, is_root};

const WEB: &str = "web: echo entry $PS $PORT\nworker: exec sleep 1000\n";

#[test]
fn streams_are_untouched_and_the_exit_code_is_passed_on() {
    let stack = Stack::with("run", WEB);
    let script = "cat; printf 'out\\033[2J'; printf err >&2; exit 42";
    let ended = stack.lpm(&["run", "sh", "-c", script]).stdin("in\n").pipes().ends().with_code(42);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("in\nout\x1b[2J", "err"));
    assert_eq!(stack.runs(&["run", "kill -TERM $$"]).code(), 143);
    assert_eq!(stack.runs(&["run", "kill -KILL $$"]).code(), 137);
    stack.runs(&["run", "true"]).with_code(0);
}

#[test]
fn what_cannot_be_found_or_executed() {
    let stack = Stack::with("run", WEB);
    let ended = stack.runs(&["run", "nosuchprogram", "x"]).with_code(127);
    assert_eq!(
        (ended.out.as_str(), ended.err.as_str()),
        ("", "lpm: cannot start: nosuchprogram: command not found\n")
    );
    let ended = stack.runs(&["run", "./Procfile", "x"]).with_code(126);
    assert_eq!(ended.err, "lpm: cannot start: ./Procfile: Permission denied\n");
}

#[test]
fn whose_options_and_whose_name() {
    let stack = Stack::with("run", WEB).file(".env", "FOO=bar\n").file("e", "FOO=other\n");
    assert_eq!(stack.runs(&["run", "grep", "-e", "FOO", ".env"]).with_code(0).out, "FOO=bar\n");
    assert_eq!(stack.runs(&["run", "sh", "-c", "echo $FOO"]).with_code(0).out, "bar\n");
    assert_eq!(stack.runs(&["run", "-e", "e", "sh", "-c", "echo $FOO"]).with_code(0).out, "other\n");
    assert_eq!(stack.runs(&["run", "--", "sh", "-c", "echo $FOO"]).with_code(0).out, "bar\n");
    assert_eq!(stack.runs(&["run", "echo", "--help", "-v"]).with_code(0).out, "--help -v\n");
    assert_eq!(
        stack.runs(&["run", "echo $FOO"]).with_code(0).out,
        "bar\n",
        "one argument is a command's text"
    );
    let entry = stack.runs(&["run", "web"]).with_code(0).out;
    let mut words = entry.split_whitespace();
    assert_eq!(words.next(), Some("entry"));
    assert!(words.next().is_some_and(|name| name.starts_with("run.")), "{entry}");
    assert_eq!(words.next(), Some("5000"));
    assert_eq!(stack.runs(&["run", "echo", "web"]).with_code(0).out, "web\n");
}

#[test]
fn a_procfile_may_be_empty_but_not_missing() {
    let stack = Stack::with("run", "");
    assert_eq!(stack.runs(&["run", "echo", "x"]).with_code(0).out, "x\n");
    let stack = Stack::new("run");
    let ended = stack.runs(&["run", "echo", "x"]).with_code(1);
    assert!(ended.err.starts_with("lpm: Procfile: does not exist ("), "{}", ended.err);
}

#[test]
fn signals_stop_it() {
    let stack = Stack::with("run", WEB);
    for signal in [Signal::INT, Signal::TERM] {
        let mut run =
            stack.lpm(&["run", "sh", "-c", "(setsid sleep 1000 &) ; echo up; exec sleep 1000"]).pipes();
        run.wait_for("up");
        let ended = run.signal(signal).ends();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&ended.status),
            Some(signal.as_raw()),
            "{}",
            ended.err
        );
    }
}

#[test]
fn what_it_leaves_behind_is_ended_and_said() {
    let stack = Stack::with("run", WEB);
    let ended = stack.runs(&["run", "setsid sleep 1000 > /dev/null 2>&1 & echo done"]).with_code(0);
    assert_eq!(ended.out, "done\n");
    assert_eq!(ended.err, "lpm: left 1 process behind, sending SIGTERM to it\n");
}

#[test]
fn it_runs_beside_its_stack_and_beside_others() {
    let stack = Stack::with("run", "a: echo up; exec sleep 1000\n");
    let mut start = stack.lpm(&["start"]).pipes();
    start.wait_for(" | up");
    for _ in 0..2 {
        let ended = stack.lpm(&["run", "echo", "beside"]).pipes().ends_leaving_something().with_code(0);
        assert_eq!((ended.out.as_str(), ended.err.as_str()), ("beside\n", ""));
    }
    start.signal(Signal::TERM).ends().by(Signal::TERM);
}

#[test]
fn it_has_a_leaf_of_its_own() {
    if !has_cgroups("it_has_a_leaf_of_its_own") {
        return;
    }
    let stack = Stack::with("run", WEB);
    let mut run = stack.lpm(&["run", "grep", "^0::", "/proc/self/cgroup"]).pipes();
    let leaf = format!("/app/run.{}\n", run.pid().as_raw_pid());
    let ended = run.ends().with_code(0);
    assert!(ended.out.ends_with(&leaf), "{} {leaf}", ended.out);
}

#[test]
fn kill_9_of_lpm_ends_the_command() {
    if !has_cgroups("kill_9_of_lpm_ends_the_command") {
        return;
    }
    let stack = Stack::with("run-kill-9", WEB);
    let mut run = stack.lpm(&["run", "sh", "-c", "(setsid sleep 1000 &) ; echo up; exec sleep 1000"]).pipes();
    run.wait_for("up").signal(Signal::KILL);
    run.ends_leaving_something();
    stack.wait_until_empty();
    let left: Vec<String> = stack.left().into_iter().filter(|what| !what.starts_with("record")).collect();
    assert!(left.is_empty(), "{left:#?}");
}

/// The fields of /proc/self/stat that tell of job control.
const GROUPS: &str = "read -r a b c d group session terminal foreground rest < /proc/self/stat; \
                      test $group = $foreground && echo foreground || echo background $group $foreground";

#[test]
fn on_a_terminal_the_command_is_its_foreground() {
    let stack = Stack::with("run-tty", WEB);
    let script = format!("test -t 0 && test -t 1 && test -t 2 && {GROUPS}");
    let mut run = stack.lpm(&["run", "sh", "-c", &script]).terminal(80);
    let ended = run.ends().with_code(0);
    assert_eq!(ended.out, "foreground\r\n");
}

#[test]
fn ctrl_c_on_a_terminal_reaches_the_command() {
    let stack = Stack::with("run-ctrl-c", WEB);
    let script = "trap 'echo mine; exit 5' INT; echo up; while :; do sleep 0.1; done";
    let mut run = stack.lpm(&["run", "sh", "-c", script]).terminal(80);
    run.wait_for("up").types("\x03").wait_for("mine");
    run.ends().with_code(5);
    // One that does not care: it dies, and lpm says so as a shell would.
    let mut run = stack.lpm(&["run", "sh", "-c", "echo up; exec sleep 1000"]).terminal(80);
    run.wait_for("up").types("\x03");
    run.ends().with_code(130);
}

#[test]
fn the_terminal_is_given_back() {
    let stack = Stack::with("run-give-back", WEB);
    let script =
        format!("lpm run true; {GROUPS}; lpm run sh -c 'exit 3'; echo $?; read line; echo read $line");
    let mut run = stack.shell(&script).terminal(80);
    run.wait_for("foreground").wait_for("3").types("hello\n").wait_for("read hello");
    run.ends().with_code(0);
}

#[test]
fn a_command_on_a_terminal_can_read_it() {
    let stack = Stack::with("run-read", WEB);
    let mut run = stack.lpm(&["run", "sh", "-c", "echo up; read line; echo got $line"]).terminal(80);
    run.wait_for("up").types("words\n").wait_for("got words");
    run.ends().with_code(0);
}

/// The shell gets the terminal back, and `fg` goes on where it was.
#[test]
fn ctrl_z_stops_the_command_and_lpm_with_it() {
    let stack = Stack::with("run-ctrl-z", WEB);
    let script = format!(
        "set -m; lpm run sh -c 'echo up; read line; echo got $line'; echo stopped $?; {GROUPS}; fg; echo over $?"
    );
    let script = script.replace("lpm run", &format!("{LPM} run"));
    let mut run = stack.program_with("bash", &["--norc", "-c", &script]).terminal(80);
    run.wait_for("up").types("\x1a").wait_for("stopped 147").wait_for("foreground");
    run.types("words\n").wait_for("got words").wait_for("over 0");
    run.ends().with_code(0);
}

/// In the background of a shell it takes no terminal away.
#[test]
fn in_the_background_it_leaves_the_terminal_alone() {
    let stack = Stack::with("run-background", WEB);
    let script = format!("set -m; lpm run sh -c 'echo done' & wait $!; set +m; {GROUPS}");
    let mut run = stack.shell(&script).terminal(80);
    let ended = run.ends().with_code(0);
    assert!(ended.out.contains("done\r\n") && ended.out.contains("foreground\r\n"), "{}", ended.out);
}

#[test]
fn ceilings_are_for_run_too() {
    if !is_root() || !has_cgroups("ceilings_are_for_run_too") {
        return skipped!("ceilings_are_for_run_too: needs cgroups");
    }
    let stack = Stack::with("run-ceiling", WEB);
    let ended = stack.runs(&["run", "--tasks", "64", "--limits", "best-effort", "echo", "ran"]).with_code(0);
    assert_eq!(ended.out, "ran\n");
}
