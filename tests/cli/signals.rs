//! Signals to lpm, and lpm's own death.

use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::stack::{Stack, has_cgroups, is_root, now, wait_readable};

use std::os::fd::AsFd;
use std::time::Duration;

const UP: &str = "a: echo up; exec sleep 1000\n";

#[test]
fn lpm_ends_by_the_signal_that_stopped_it() {
    for (signal, name) in [(Signal::INT, "SIGINT"), (Signal::TERM, "SIGTERM")] {
        let stack = Stack::with("signal", "a: echo up; exec sleep 1000\nb: echo up; exec sleep 1000\n");
        let mut run = stack.lpm(&["start"]).pipes();
        run.wait_for(" | up").wait_for(" | up");
        let ended = run.signal(signal).ends().by(signal);
        let said = stack.normal(&ended.out);
        assert!(said.contains(&format!("TIME system | {name} received, starting shutdown\n")), "{said}");
        assert!(said.contains("TIME system | sending SIGTERM to all processes\n"), "{said}");
        assert!(said.contains("TIME a.1    | terminated by SIGTERM (cpu T)\n"), "{said}");
        assert!(said.contains("TIME b.1    | terminated by SIGTERM (cpu T)\n"), "{said}");
    }
}

/// A stack whose process ends cleanly when asked to: lpm still ends by the signal, for systemd and shells.
#[test]
fn a_shell_sees_130_and_143() {
    let stack = Stack::with("shell-sees", "a: echo up; exec sleep 1000\n");
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let script = format!(
            "$LPM start > out & pid=$!; until grep -q '| up' out; do :; done; kill -{signal} $pid; wait $pid; echo $?"
        );
        // A shell starts what is in the background with SIGINT ignored, unless it has job control.
        let ended = stack.shell(&format!("set -m; {script}")).pipes().ends();
        assert_eq!(ended.out.trim(), code.to_string(), "{signal}: {}", ended.err);
    }
}

#[test]
fn a_hang_up_without_a_terminal_stops_nothing() {
    let stack = Stack::with("hang-up", UP);
    let mut run = stack.program_with("setsid", &["--wait", crate::stack::LPM, "start"]).pipes();
    run.wait_for(" | up");
    let own = crate::stack::LPM;
    let (pid, _) = stack.processes().into_iter().find(|(_, line)| line.starts_with(own)).expect("lpm");
    let lpm = rustix::process::Pid::from_raw(pid).expect("a pid");
    let pidfd = pidfd_open(lpm, PidfdFlags::empty()).expect("it runs");
    pidfd_send_signal(&pidfd, Signal::HUP).expect("it is there");
    run.wait_for("system | SIGHUP received, nothing to reload\n");
    pidfd_send_signal(&pidfd, Signal::TERM).expect("it is there");
    run.ends();
}

#[test]
fn a_hang_up_of_the_terminal_stops_in_order() {
    let stack = Stack::with("hang-up", UP);
    let mut run = stack.lpm(&["start", "--color=never"]).terminal(80);
    run.wait_for(" | up");
    let ended = run.signal(Signal::HUP).ends().by(Signal::HUP);
    assert!(ended.out.contains("SIGHUP received, starting shutdown"), "{}", ended.out);
}

/// The window is closed: there is no one to write to any more, and the kernel sends SIGHUP.
#[test]
fn a_terminal_that_goes_away_leaves_nothing() {
    let stack = Stack::with("window", UP);
    let mut run = stack.lpm(&["start", "--color=never"]).terminal(80);
    run.wait_for(" | up").close_terminal();
    let ended = run.ends();
    assert!(!ended.status.success(), "{}", ended.status);
}

#[test]
fn under_nohup_a_hang_up_is_ignored() {
    let stack = Stack::with("nohup", "a: trap; grep SigIgn /proc/self/status; echo up; exec sleep 1000\n");
    let mut run = stack.shell("trap '' HUP; exec $LPM start --color=never").terminal(80);
    run.wait_for(" | up");
    run.signal(Signal::HUP).signal(Signal::USR1).wait_for("SIGUSR1 received, forwarding it to all processes");
    let ended = run.ends();
    assert!(!ended.out.contains("SIGHUP"), "{}", ended.out);
    assert!(ended.out.contains("SigIgn:\t0000000000000001"), "the child inherits it: {}", ended.out);
}

#[test]
fn sigquit_kills_at_once() {
    let stack = Stack::with("quit", "a: trap '' TERM INT; echo up; while :; do sleep 1; done\n");
    let mut run = stack.lpm(&["start", "-t", "1h"]).pipes();
    run.wait_for(" | up");
    let ended = run.signal(Signal::QUIT).ends().with_code(131);
    assert!(ended.out.contains("a.1    | terminated by SIGKILL"), "{}", ended.out);
}

#[test]
fn a_second_ctrl_c_kills_at_once() {
    let stack = Stack::with("twice", "a: trap '' TERM INT; echo up; while :; do sleep 1; done\n");
    let mut run = stack.lpm(&["start", "--color=never", "-t", "1h"]).terminal(80);
    run.wait_for(" | up").types("\x03");
    // Some time later: what comes at once is the same signal, told twice.
    run.wait_for("waiting for a.1").types("\x03");
    run.wait_for("sending SIGKILL to all processes");
    run.ends().by(Signal::INT);
}

#[test]
fn ctrl_c_reaches_lpm_alone() {
    let stack = Stack::with(
        "alone",
        "a: trap 'echo INT' INT; trap 'echo TERM; exit' TERM; echo up; while :; do sleep 0.1; done\n",
    );
    let mut run = stack.lpm(&["start", "--color=never"]).terminal(80);
    run.wait_for(" | up").types("\x03");
    let ended = run.ends().by(Signal::INT);
    assert!(ended.out.contains("| TERM") && !ended.out.contains("| INT"), "{}", ended.out);
}

#[test]
fn usr1_and_usr2_are_forwarded() {
    let stack = Stack::with(
        "usr",
        "a: trap 'echo one' USR1; trap 'echo two; exit 0' USR2; echo up; while :; do sleep 0.1; done\n",
    );
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up").signal(Signal::USR1).wait_for("a.1    | one");
    run.signal(Signal::USR2).wait_for("a.1    | two");
    let ended = run.ends().with_code(0);
    assert!(
        ended.out.contains("system | SIGUSR1 received, forwarding it to all processes\n"),
        "{}",
        ended.out
    );
}

fn wait_for_state(pid: i32, wanted: &str) {
    // /proc has no event for this: looks again and again, giving the processor away in between.
    let deadline = now() + crate::stack::PATIENCE;
    loop {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
        let state = text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).expect("a state");
        if wanted.contains(state) {
            return;
        }
        assert!(now() < deadline, "{pid} does not become {wanted} but stays {state}");
        rustix::thread::sched_yield();
    }
}

#[test]
fn ctrl_z_freezes_and_continuing_thaws() {
    let stack = Stack::with("freeze", "a: echo up; while :; do echo tick; sleep 0.05; done\n");
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("| tick");
    let pid = run.pid().as_raw_pid();
    run.signal(Signal::TSTP);
    wait_for_state(pid, "T");
    run.wait_for("frozen; continue with fg or SIGCONT");
    // Frozen, it prints nothing, although lpm could not read it either: look at the pipe through its growth.
    run.signal(Signal::CONT).wait_for("thawed").wait_for("| tick").wait_for("| tick");
    run.signal(Signal::TERM).ends().by(Signal::TERM);
}

#[test]
fn a_frozen_stack_can_be_ended() {
    let stack = Stack::with("frozen-end", UP);
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up").signal(Signal::TSTP);
    wait_for_state(run.pid().as_raw_pid(), "T");
    run.signal(Signal::TERM).signal(Signal::CONT).ends().by(Signal::TERM);
}

#[test]
fn kill_9_of_lpm_leaves_nothing() {
    if !has_cgroups("kill_9_of_lpm_leaves_nothing") {
        return;
    }
    let hidden =
        "a: setsid sleep 1000 & (sleep 1001 &) ; trap '' TERM HUP; echo up; while :; do sleep 1; done\n";
    let stack = Stack::with("kill-9", &format!("{hidden}b: echo up; exec sleep 1000\n"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up").wait_for(" | up");
    run.signal(Signal::KILL).ends_leaving_something().by(Signal::KILL);
    stack.wait_until_empty();
    assert_no_process_and_no_cgroup(&stack);
    // The next start has nothing to clean up.
    let ended = stack.runs_until_up(&["start"]);
    assert!(!ended.contains("cleaned up"), "{ended}");
}

#[track_caller]
fn assert_no_process_and_no_cgroup(stack: &Stack) {
    let lasts = |what: &String| what.starts_with("process") || what.starts_with("cgroup");
    let left: Vec<String> = stack.left().into_iter().filter(lasts).collect();
    assert!(left.is_empty(), "{left:#?}");
}

#[test]
fn a_guardian_that_was_killed_is_replaced() {
    if !has_cgroups("a_guardian_that_was_killed_is_replaced") {
        return;
    }
    let stack = Stack::with("guardian", UP);
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    let guardian = stack.guardian(run.pid());
    let pidfd = pidfd_open(guardian, PidfdFlags::empty()).expect("it is there");
    pidfd_send_signal(&pidfd, Signal::KILL).expect("it is there");
    run.wait_for("system | the guardian was killed and is replaced");
    assert_ne!(stack.guardian(run.pid()), guardian);
    run.signal(Signal::KILL).ends_leaving_something().by(Signal::KILL);
    stack.wait_until_empty();
    assert_no_process_and_no_cgroup(&stack);
}

#[test]
fn what_both_deaths_left_is_cleaned_up_by_the_next_start() {
    if !has_cgroups("what_both_deaths_left_is_cleaned_up_by_the_next_start") {
        return;
    }
    // An escape from the main process's own death signal: nothing tells this one that lpm is gone.
    let stack = Stack::with("both-killed", "a: (setsid sleep 1000 &) ; echo up; exec sleep 1001\n");
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up").signal(Signal::STOP);
    let pid = run.pid();
    wait_for_state(pid.as_raw_pid(), "T");
    let guardian = pidfd_open(stack.guardian(pid), PidfdFlags::empty()).expect("it is there");
    pidfd_send_signal(&guardian, Signal::KILL).expect("it is there");
    assert!(wait_readable(&[guardian.as_fd()], now() + Duration::from_secs(10)), "it is killed");
    run.signal(Signal::KILL).ends_leaving_something().by(Signal::KILL);
    assert!(stack.left().iter().any(|what| what.contains("sleep 1000")), "{:#?}", stack.left());

    let out = stack.runs_until_up(&["start"]);
    let said = format!("system | cleaned up after pid {}, which was killed: ", pid.as_raw_pid());
    assert!(out.contains(&said), "{out}");
    assert!(out.contains("ended\n"), "{out}");
}

/// lpm as the first process of a container: it reaps everybody's orphans, and ends with a number.
#[test]
fn as_pid_1_it_reaps_strangers_quietly() {
    let test = "as_pid_1_it_reaps_strangers_quietly";
    if !is_root() {
        return skipped!("{test}: only root makes a PID namespace");
    }
    let unshare = ["-pf", "--kill-child", "--mount-proc", crate::stack::LPM, "start"];
    let procfile =
        "a: (sh -c 'sleep 0.1' &) ; (true &) ; (setsid sh -c 'exit 3' &) ; echo up; exec sleep 1000\n";
    let stack = Stack::with("pid-1", &format!("{procfile}b: ps -o pid=,stat= -e | cat; sleep 1000\n"));
    let can = std::process::Command::new("unshare").args(["-pf", "--mount-proc", "true"]).status();
    if !can.is_ok_and(|status| status.success()) {
        return skipped!("{test}: unshare(1) is not allowed to");
    }
    let mut run = stack.program_with("unshare", &unshare).pipes();
    run.wait_for("a.1    | up");
    let lpm =
        stack.processes().into_iter().find(|(_, line)| line.starts_with(crate::stack::LPM)).expect("lpm");
    // Orphans have come and gone once the last of them is no zombie.
    let deadline = now() + crate::stack::PATIENCE;
    loop {
        let zombies = children_of(lpm.0).into_iter().filter(|pid| is_zombie(*pid)).count();
        let sleepers = stack.processes().iter().filter(|(_, line)| line.contains("sleep 0.1")).count();
        if zombies + sleepers == 0 {
            break;
        }
        assert!(now() < deadline, "{zombies} zombies");
        rustix::thread::sched_yield();
    }
    let pidfd = pidfd_open(rustix::process::Pid::from_raw(lpm.0).expect("a pid"), PidfdFlags::empty());
    pidfd_send_signal(pidfd.expect("it is there"), Signal::TERM).expect("it is there");
    let ended = run.ends().with_code(143);
    let exits =
        ended.out.lines().filter(|line| line.contains("exited with") || line.contains("terminated by"));
    assert_eq!(exits.count(), 2, "strangers' ends are nobody's business: {}", ended.out);
}

fn children_of(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn is_zombie(pid: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}
