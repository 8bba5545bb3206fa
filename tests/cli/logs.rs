//! `lpm logs`: what was said, and what is said from now on, without a gap and without anything twice.

use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::attach::until;
use crate::stack::{Ended, Running, Stack};
use crate::starting::lines_of;

/// `lpm logs ARGUMENTS` from start to end, beside a stack that runs on.
#[track_caller]
fn logs(stack: &Stack, arguments: &[&str]) -> Ended {
    let mut words = vec!["logs"];
    words.extend(arguments);
    stack.lpm(&words).pipes().ends_leaving_something()
}

fn follow<'a>(stack: &'a Stack, arguments: &[&str]) -> Running<'a> {
    let mut words = vec!["logs", "-f"];
    words.extend(arguments);
    stack.lpm(&words).pipes()
}

/// Lets go on whoever reads `go`.
fn go(path: &Path) {
    std::fs::write(path.join("go"), "go\n").expect("it reads");
}

#[test]
fn history_and_what_follows_have_no_gap_and_nothing_twice() {
    let script = "i=0; while [ $i -lt 4000 ]; do i=$((i+1)); echo line $i; done; read x < go; echo last";
    let stack = Stack::with("border", &format!("a: {script}; exec sleep 1000\n"));
    let mut run = stack.shell("mkfifo go; exec $LPM start").pipes();
    run.wait_for("| line 10\n");
    // Begun in the middle of it, several times.
    let mut followers: Vec<Running<'_>> = (0..4).map(|_| follow(&stack, &["a"])).collect();
    run.wait_for("| line 4000\n");
    go(stack.path());
    for follower in &mut followers {
        follower.wait_for("| last\n");
    }
    run.signal(Signal::TERM);
    run.ends_leaving_something().by(Signal::TERM);
    for follower in &mut followers {
        // They end by themselves, with everything that was said.
        let ended = follower.ends_leaving_something().with_code(0);
        let lines = lines_of("a.1", &ended.out);
        let said: Vec<&str> = lines.iter().copied().filter(|line| line.starts_with("line ")).collect();
        let wanted: Vec<String> = (1..=4000).map(|n| format!("line {n}")).collect();
        assert!(said == wanted, "{} lines", said.len());
        assert!(lines.last().expect("lines").starts_with("terminated by SIGTERM"), "{lines:?}");
        assert!(!ended.out.contains("not read in time"), "{}", ended.out);
    }
    stack.wait_until_empty();
}

#[test]
fn who_and_how_much_is_a_choice() {
    let stack =
        Stack::with("choice", "web: echo w1; echo w2; exec sleep 1000\nworker: echo o1; exec sleep 1000\n");
    let mut run = stack.lpm(&["start", "-m", "web=2,worker=1", "-q", "worker"]).pipes();
    for _ in 0..2 {
        run.wait_for("| w2\n");
    }
    // A quiet one is heard here.
    let all = until("all of it", || {
        let ended = logs(&stack, &[]).with_code(0);
        ended.out.contains("| o1\n").then_some(ended.out)
    });
    assert!(all.contains(" system   | ports: web 5000-5001, worker 5100\n"), "{all}");
    assert!(all.contains(" worker.1 | started with pid "), "{all}");
    assert_eq!((all.matches("| w1\n").count(), all.matches("| w2\n").count()), (2, 2));
    assert!(!run.out().contains("o1"));
    let shown = |arguments: &[&str]| stack.normal(&logs(&stack, arguments).with_code(0).out);
    assert_eq!(shown(&["worker"]), "TIME worker.1 | started with pid N\nTIME worker.1 | o1\n");
    assert_eq!(shown(&["-n", "1", "wor*"]), "TIME worker.1 | o1\n");
    assert_eq!(shown(&["--no-timestamp", "-n1", "worker.1"]), "worker.1 | o1\n");
    assert_eq!(shown(&["--no-prefix", "-n1", "worker"]), "o1\n");
    assert_eq!(shown(&["-n", "0"]), "");
    assert_eq!(shown(&["--no-prefix", "-n", "2", "web.2"]), "w1\nw2\n");
    assert_eq!(shown(&["--no-prefix", "-n", "2", "*.2"]), "w1\nw2\n");
    let coloured = shown(&["--color=always", "-n1", "worker"]);
    assert!(coloured.contains("\x1b[33m"), "{coloured:?}");
    let wrong = logs(&stack, &["wbe"]).with_code(1);
    assert_eq!(wrong.err, "lpm: no instance is called \"wbe\" (write web)\n");
    run.signal(Signal::TERM).ends().by(Signal::TERM);
    let none = logs(&stack, &[]).with_code(1);
    assert!(none.err.starts_with("lpm: no stack runs here"), "{}", none.err);
}

#[test]
fn bytes_are_exact_in_a_pipe_and_base64_in_json() {
    let content = b"\xfe\xffbytes\x00\x1b[2J\r\nplain\n".to_vec();
    let stack = Stack::with("bytes", "a: cat content; echo up; exec sleep 1000\n").file("content", &content);
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("| up\n");
    let exact = logs(&stack, &["--no-prefix", "-n3"]).with_code(0).bytes;
    let mut wanted = content;
    wanted.extend_from_slice(b"up\n");
    assert_eq!(exact, wanted);
    let ended = logs(&stack, &["--json", "-n3", "a"]).with_code(0);
    let lines: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3, "{}", ended.out);
    let first = &lines[0]["line"];
    assert_eq!(first["bytes"], "/v9ieXRlcwAbWzJKDQ==", "{first}");
    assert!(first["text"].as_str().expect("text").starts_with("\u{fffd}\u{fffd}bytes"), "{first}");
    assert_eq!((&lines[1]["line"]["text"], &lines[1]["line"]["instance"]), (&"plain".into(), &"a.1".into()));
    assert!(lines[1]["line"].get("bytes").is_none_or(Value::is_null), "{}", ended.out);
    run.signal(Signal::TERM).ends().by(Signal::TERM);
}

#[test]
fn what_is_no_more_kept_is_counted_only_for_those_who_followed() {
    let stack = Stack::with("ring", "a: seq 1 30000; echo up; exec sleep 1000\n");
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("| up\n");
    let kept = logs(&stack, &[]).with_code(0).out;
    assert!(!kept.contains("not read in time"), "{kept}");
    let lines = lines_of("a.1", &kept);
    // The newest, and all of them.
    let first: u32 = lines[0].parse().expect("a number");
    assert!(first > 1 && lines.len() as u32 == 30_000 - first + 2, "{first}, {} lines", lines.len());
    run.signal(Signal::TERM).ends().by(Signal::TERM);
}

/// It stops reading, is told how much it missed, and has held nobody up.
#[test]
fn a_follower_that_falls_behind_is_told() {
    let stack = Stack::with("behind", "a: echo up; read x < go; seq 1 60000; echo end; exec sleep 1000\n");
    let mut run = stack.shell("mkfifo go; exec $LPM start").pipes();
    run.wait_for("| up\n");
    let mut behind = follow(&stack, &["a"]);
    behind.wait_for("| up\n");
    go(stack.path());
    run.wait_for("| end\n");
    behind.wait_for(" lines were not read in time, and were dropped\n").wait_for("| end\n");
    run.signal(Signal::TERM);
    behind.ends_leaving_something().with_code(0);
    run.ends().by(Signal::TERM);
}

#[test]
fn a_reader_that_leaves_ends_it() {
    let stack = Stack::with("head", "a: while :; do echo line; sleep 0.01; done\n");
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("| line\n");
    let script = "(lpm logs -f a; echo $? > code) | head -1; cat code";
    let ended = stack.shell(script).pipes().ends_leaving_something().with_code(0);
    assert!(ended.out.ends_with("\n141\n") && ended.err.is_empty(), "{}{}", ended.out, ended.err);
    run.signal(Signal::TERM).ends().by(Signal::TERM);
}

/// Nobody reads what the stack prints; it can still be asked.
#[test]
fn a_stack_whose_reader_is_stuck_still_tells() {
    let stack = Stack::with("stuck", "a: while :; do echo line; done\nb: echo from b; exec sleep 1000\n");
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("| from b\n");
    // From here on nothing is read.
    for _ in 0..3 {
        let out = logs(&stack, &["-n", "100"]).with_code(0).out;
        assert_eq!(out.lines().count(), 100, "{out}");
        assert!(logs(&stack, &["b", "--no-prefix"]).with_code(0).out.contains("from b\n"));
    }
    let status = stack.lpm(&["status"]).pipes().ends_leaving_something().with_code(0);
    assert!(status.out.contains("b.1"), "{}", status.out);
    run.signal(Signal::TERM).ends().by(Signal::TERM);
}

#[test]
fn those_that_come_later_are_heard_too() {
    let stack =
        Stack::with("later", "web: echo hello; exec sleep 1000\nworker: echo other; exec sleep 1000\n");
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("| hello\n");
    let mut all = follow(&stack, &[]);
    let mut by_type = follow(&stack, &["web"]);
    let mut by_pattern = follow(&stack, &["w*.2"]);
    let mut events = stack.lpm(&["events", "-f", "web"]).pipes();
    for heard in [&mut all, &mut by_type] {
        heard.wait_for("web.1    | hello\n");
    }
    events.wait_for("web.1");
    let scaled = stack.lpm(&["scale", "web=2", "worker=2"]).pipes().ends_leaving_something();
    scaled.with_code(0);
    all.wait_for("web.2    | hello\n");
    by_type.wait_for("web.2    | hello\n");
    events.wait_for("web.2");
    run.signal(Signal::TERM);
    run.ends_leaving_something().by(Signal::TERM);
    let by_type = by_type.ends_leaving_something().with_code(0).out;
    assert!(!by_type.contains("worker"), "{by_type}");
    let events = events.ends_leaving_something().with_code(0).out;
    assert!(!events.contains("worker"), "{events}");
    // A pattern must mean something when it is written.
    let said = by_pattern.ends_leaving_something().with_code(1).err;
    assert_eq!(said, "lpm: no name fits \"w*.2\" (there are web, worker, web.1, worker.1)\n");
    all.ends_leaving_something().with_code(0);
    stack.wait_until_empty();
}

#[test]
fn which_lines_is_a_choice_too() {
    let script = "echo '<3>no disk'; echo GET /a; echo GET /b >&2; echo up; exec sleep 1000";
    let stack = Stack::with("sieve", &format!("web: {script}\n"));
    let mut run = stack.lpm(&["start", "--split-stderr"]).pipes();
    run.wait_for_all(&["| up\n", "! GET /b\n"]);
    let shown = |arguments: &[&str]| {
        let all = [&["--no-prefix", "web"][..], arguments].concat();
        logs(&stack, &all).with_code(0).out
    };
    assert_eq!(shown(&["--stream", "err"]), "GET /b\n");
    assert!(shown(&["--stream", "lpm"]).starts_with("started with pid "));
    assert_eq!(shown(&["-p", "err"]), "<3>no disk\n");
    assert_eq!(shown(&["-g", "^get"]).lines().count(), 2);
    assert_eq!(
        shown(&["-g", "^get", "-n", "1", "--stream", "out"]),
        "GET /a\n",
        "the last of those that match"
    );
    assert_eq!(shown(&["--until", "1h"]), "");
    assert_eq!(shown(&["--since", "1h", "--stream", "err"]), "GET /b\n");
    let refused = |arguments: &[&str]| logs(&stack, arguments).with_code(1).err;
    assert_eq!(
        refused(&["--since", "soon"]),
        "lpm: --since: \"soon\" is no moment (write 10min, 12:30, 2026-11-25 12:30 or today)\n"
    );
    assert_eq!(refused(&["--stream", "x"]), "lpm: \"x\" is no stream (write out, err or lpm)\n");
    assert!(refused(&["-p", "x"]).starts_with("lpm: \"x\" is no level (write emerg, "));
    assert!(refused(&["-g", "("]).starts_with("lpm: \"(\" is no regular expression: "));
    // What comes is looked at as well.
    let mut follower = follow(&stack, &["-g", "restarting", "--no-prefix"]);
    stack.lpm(&["restart", "web"]).pipes().ends_leaving_something().with_code(0);
    follower.wait_for("restarting on request\n");
    run.signal(Signal::TERM);
    run.ends_leaving_something().by(Signal::TERM);
    assert_eq!(follower.ends_leaving_something().with_code(0).out, "restarting on request\n");
    stack.wait_until_empty();
}
