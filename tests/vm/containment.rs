//! Nothing outlives the stack: not by fleeing, not by resisting, not when lpm or its guardian is killed.

use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroups;
use crate::processes;
use crate::stack::{Running, Stack};
use crate::waiting::{self, PATIENCE};

/// A session of its own, a double fork, a nohup, and a process that ignores every request to end.
const FUGITIVES: &str = "web: setsid sleep 1001 & (setsid sh -c 'sleep 1002 &' &); nohup sleep 1003 >/dev/null 2>&1 & \
     trap '' TERM INT HUP; echo all away; while :; do sleep 1000; done\nother: exec sleep 1004\n";

fn up(stack: &Stack, arguments: &[&str]) -> Running {
    let mut running = stack.start(arguments);
    running.line("all away");
    for command in ["sleep 1001", "sleep 1002", "sleep 1003", "sleep 1004"] {
        waiting::until(command, PATIENCE, || one(command));
    }
    running
}

fn one(command: &str) -> Option<processes::Process> {
    processes::tagged().into_iter().find(|process| process.command == command)
}

pub fn nobody_flees_from_ctrl_c() {
    let stack = Stack::new(FUGITIVES);
    let running = up(&stack, &["start", "-t", "1"]);
    running.signal(Signal::INT);
    let output = running.end().killed_by(Signal::INT);
    assert!(output.contains("web.1   | not gone after 1s, sending SIGKILL"), "{output}");
    processes::gone(Duration::ZERO);
}

pub fn a_second_ctrl_c_kills_at_once() {
    let stack = Stack::new(FUGITIVES);
    let mut running = up(&stack, &["start", "-t", "1h"]);
    running.signal(Signal::INT);
    // Some time later: what comes at once is the same signal, told twice.
    running.line("waiting for web.1");
    running.signal(Signal::INT);
    let output = running.end().killed_by(Signal::INT);
    assert!(output.contains("sending SIGKILL to all processes"), "{output}");
    processes::gone(Duration::ZERO);
}

pub fn kill_9_of_lpm_leaves_nothing_within_a_second() {
    let stack = Stack::new(FUGITIVES);
    let running = up(&stack, &["start"]);
    running.signal(Signal::KILL);
    running.end().killed_by(Signal::KILL);
    processes::gone(Duration::from_secs(1));
}

pub fn kill_9_of_the_guardian_and_then_of_lpm_leaves_nothing_either() {
    let stack = Stack::new(FUGITIVES);
    let mut running = up(&stack, &["start"]);
    kill(guardian());
    running.line("the guardian was killed and is replaced");
    running.signal(Signal::KILL);
    running.end().killed_by(Signal::KILL);
    processes::gone(Duration::from_secs(1));
}

pub fn a_start_after_both_were_killed_cleans_up_and_says_so() {
    let stack = Stack::new(FUGITIVES);
    let running = up(&stack, &["start"]);
    // Stopped, lpm cannot replace the guardian.
    running.signal(Signal::STOP);
    kill(guardian());
    running.signal(Signal::KILL);
    running.end().killed_by(Signal::KILL);
    assert!(one("sleep 1001").is_some(), "nobody is left who could have cleaned up");
    let mut again = up(&stack, &["start", "-t", "1"]);
    let said = again.line("cleaned up after pid");
    assert!(said.contains("which was killed"), "{said}");
    again.signal(Signal::TERM);
    again.end().killed_by(Signal::TERM);
    processes::gone(Duration::ZERO);
}

pub fn the_own_cgroups_are_gone_when_lpm_returns() {
    let before = cgroups::named("lpm");
    let output = Stack::new("web: true\n").run(&["start"]).exited_with(0);
    assert!(output.contains("web.1  | exited with code 0"), "{output}");
    // The scope is systemd's and goes a moment later; what lpm made in it went before lpm returned.
    for scope in cgroups::named("lpm").difference(&before) {
        let left = ["app", "supervisor"].map(|name| scope.join(name)).into_iter().find(|path| path.exists());
        assert_eq!(left, None);
    }
}

pub fn frozen_by_ctrl_z_and_thawed_by_fg() {
    let stack = Stack::new("tick: while :; do echo tick; sleep 0.1; done\n");
    let mut running = stack.start(&["start"]);
    running.line("tick.1 | tick");
    running.signal(Signal::TSTP);
    let leaf = cgroups::find(std::path::Path::new(cgroups::ROOT), "tick.1").expect("its leaf is there");
    waiting::until("the leaf is frozen", PATIENCE, || {
        (cgroups::value(&leaf, "cgroup.events", "frozen") == 1).then_some(())
    });
    // As a shell does, which continues what it has seen stopped.
    waiting::until("lpm is stopped", PATIENCE, || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", running.pid())).ok()?;
        stat.rsplit_once(") ")?.1.starts_with('T').then_some(())
    });
    running.signal(Signal::CONT);
    waiting::until("the leaf is thawed", PATIENCE, || {
        (cgroups::value(&leaf, "cgroup.events", "frozen") == 0).then_some(())
    });
    running.signal(Signal::TERM);
    running.end().killed_by(Signal::TERM);
}

/// The guardian of this claim's lpm. It has an empty environment, hence the look at its cgroup.
fn guardian() -> i32 {
    let all = processes::with_command("__guard");
    assert_eq!(all.len(), 1, "one guardian");
    all[0].pid
}

fn kill(pid: i32) {
    let pid = Pid::from_raw(pid).expect("a process number");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it is there");
    pidfd_send_signal(pidfd, Signal::KILL).expect("it can be killed");
}
