//! `lpm top`: the picture on a real terminal, and its lines without one.

use rustix::process::Signal;
use serde_json::Value;

use crate::control::{STAYS, up};
use crate::stack::{LPM, Running, Stack};

/// A person in front of the picture, who sees both instances.
fn watches<'a>(stack: &'a Stack, arguments: &[&str]) -> Running<'a> {
    let mut all = vec!["top", "--interval", "100ms"];
    all.extend(arguments);
    let mut run = stack.lpm(&all).terminal(80);
    run.sees("web.1").sees("worker.1").sees("quit");
    run
}

#[test]
fn instances_are_watched_and_acted_on() {
    let stack = Stack::with("top", &format!("web: {STAYS}\nworker: echo said; {STAYS}\n"));
    let mut stays = up(&stack, &[], 2);
    let mut run = watches(&stack, &[]);
    run.types("x").sees("web.1: stopped").sees("inactive");
    run.types("u").sees("web.1: started");
    // The words of a key that was pressed by mistake.
    run.types("a").sees("web.1 has no terminal of its own");
    run.types("\x1b[B").types("l").sees("── worker.1 ──").sees("said");
    run.types("\x1b").types("/wor\r").sees("only wor");
    run.types("K").sees("kill worker.1?");
    run.types("y").sees("worker.1: killed");
    run.resizes(10, 40);
    run.types("q");
    run.wait_for("\x1b[?1049l");
    run.ends_leaving_something().with_code(0);
    let status = stack.status(&[]);
    let states: Vec<&str> =
        status["instances"].as_array().expect("two").iter().filter_map(|one| one["state"].as_str()).collect();
    assert_eq!(states, ["running", "inactive"], "the stack goes on");
    stays.stops();
}

#[test]
fn the_terminal_is_given_back_however_it_ends() {
    let stack = Stack::with("top-ends", &format!("web: {STAYS}\nworker: {STAYS}\n"));
    let mut stays = up(&stack, &[], 2);
    for signal in [Signal::TERM, Signal::HUP, Signal::INT] {
        // A shell of ours, so that the terminal is still there afterwards.
        let script = format!("stty -g; {LPM} top --interval 100ms; echo \"then $?\"; stty -g; read end");
        let mut run = stack.shell(&script).terminal(80);
        run.sees("worker.1").sees("quit");
        let top =
            stack.processes().into_iter().find(|(_, command)| command.starts_with(&format!("{LPM} top")));
        let (pid, _) = top.expect("it runs");
        rustix::process::kill_process(rustix::process::Pid::from_raw(pid).expect("a pid"), signal)
            .expect("it runs");
        run.wait_for("\x1b[?1049l").wait_for(&format!("then {}", 128 + signal.as_raw()));
        run.types("\n");
        let out = run.ends_leaving_something().with_code(0).out;
        let modes: Vec<&str> =
            out.lines().filter(|line| line.matches(':').count() > 10).map(str::trim).collect();
        assert!(modes.len() == 2 && modes[0] == modes[1], "{modes:?}");
    }
    stays.stops();
}

#[test]
fn the_end_of_the_stack_is_the_end_of_it() {
    let stack = Stack::with("top-over", &format!("web: {STAYS}\nworker: {STAYS}\n"));
    let mut stays = up(&stack, &[], 2);
    let mut run = watches(&stack, &[]);
    stays.signal(Signal::TERM).ends_leaving_something().by(Signal::TERM);
    run.wait_for("the stack has ended");
    run.ends().with_code(0);
}

#[test]
fn the_terminal_is_lent_on() {
    let stack = Stack::with("top-attach", &format!("web: echo up; exec cat\nworker: {STAYS}\n"));
    let mut stays = up(&stack, &["--pty", "web"], 2);
    let mut run = watches(&stack, &[]);
    run.types("a").sees("leaves it running").types("typed\r").sees("typed\ntyped");
    run.types("\x1d").sees("back from web.1").types("q").wait_for("\x1b[?1049l");
    run.ends_leaving_something().with_code(0);
    stays.stops();
}

#[test]
fn without_a_terminal_there_is_a_table_or_data() {
    let stack = Stack::with("top-once", &format!("web: {STAYS}\nworker: {STAYS}\n"));
    let ended = stack.runs(&["top"]).with_code(1);
    let expected =
        "lpm: top needs a terminal for standard input and output (write --once, or --json for a program)\n";
    assert_eq!(ended.err, expected);
    assert_eq!(
        stack.runs(&["top", "--once", "--interval", "1ms"]).with_code(1).err,
        "lpm: --interval: that is too often (write 100ms or more)\n"
    );
    let mut stays = up(&stack, &[], 2);
    let table = stack.tells(&["top", "--once", "-i", "100ms"]).with_code(0).out;
    assert!(table.contains("NAME") && table.contains("● web.1") && table.contains("● worker.1"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let json = stack.tells(&["top", "--once", "--json", "-i", "100ms"]).with_code(0).out;
    let json: Value = serde_json::from_str(&json).expect("one object");
    assert!(json["instances"][0]["cpu_percent"].is_number() && json["stack"]["name"].is_string(), "{json}");
    // Without --once one after the other, until the stack ends.
    let mut follows = stack.lpm(&["top", "--json", "-i", "100ms"]).pipes();
    follows.wait_for("cpu_percent").wait_for("cpu_percent").wait_for("\n");
    stays.signal(Signal::TERM).ends_leaving_something().by(Signal::TERM);
    let out = follows.ends().with_code(0).out;
    assert!(out.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{out}");
}
