//! Limits that are hit while a user works with the stack: it answers, it stops what it is told to stop, and
//! nothing else ends.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::cgroups;
use crate::processes;
use crate::stack::{Running, Stack};
use crate::waiting::{self, PATIENCE};

/// Forks as many as it may, and goes on trying.
const BOMB: &str = "trap '' TERM; while :; do sleep 1000 & done 2>/dev/null";

fn leaf(name: &str) -> std::path::PathBuf {
    waiting::until(name, PATIENCE, || cgroups::find(Path::new(cgroups::ROOT), name))
}

/// What an operator types to see what is going on.
#[track_caller]
pub fn everything_answers(stack: &Stack) {
    for words in
        [&["status"][..], &["status", "--json"], &["logs", "-n", "5"], &["metrics"], &["top", "--once"]]
    {
        stack.run(words).exited_with(0);
    }
}

pub fn a_fork_bomb_at_its_limit_is_seen_and_stopped() {
    let stack =
        Stack::new(&format!("bomb: sh -c '{}'\nweb: echo up; exec sleep 1000\n", BOMB.replace('\'', "\"")))
            .file("lpm.toml", "[process.bomb]\ntasks-max = 60\ncan-die = true\ntimeout-stop = \"1s\"\n");
    let mut running = stack.start(&["start"]);
    running.line("bomb.1 | tasks limit 60 reached");
    everything_answers(&stack);
    stack.run(&["stop", "bomb"]).exited_with(0);
    assert!(
        processes::tagged().iter().all(|one| one.command != "sleep 1000" || one.cgroup.ends_with("web.1"))
    );
    assert!(running.output().contains("| up"));
    stack.run(&["down"]).exited_with(0);
    running.end().exited_with(0);
    processes::gone(Duration::ZERO);
}

pub fn a_worker_that_is_always_too_big_is_always_started_again_and_can_be_stopped() {
    let stack = Stack::new("worker: head -c 100M /dev/zero | tail\nweb: exec sleep 1000\n").file(
        "lpm.toml",
        "[process.worker]\nmemory-max = \"16M\"\nrestart = \"always\"\nrestart-sec = \"0\"\n\
         restart-max-delay-sec = \"100ms\"\nstart-limit-interval = \"0\"\n",
    );
    let mut running = stack.start(&["start"]);
    running.lines("oom-kill: memory limit 16M reached", 4);
    everything_answers(&stack);
    stack.run(&["stop", "worker"]).exited_with(0);
    let status = stack.run(&["status", "--json"]).exited_with(0);
    let status: serde_json::Value = serde_json::from_str(&status).expect("it is JSON");
    let all = status["instances"].as_array().expect("instances");
    let state =
        |name: &str| all.iter().find(|one| one["name"] == name).expect("it is there")["state"].clone();
    assert_eq!(state("web.1"), "running", "{status:#}");
    // The stop may come just when the kernel has killed it.
    assert!(state("worker.1") == "inactive" || state("worker.1") == "failed", "{status:#}");
    stack.run(&["down"]).exited_with(0);
    running.end().exited_with(0);
    processes::gone(Duration::ZERO);
}

/// What waits for a CPU that its limit does not give it is slow to stand still for the signal; a process that a
/// handler starts is not asked to end by the same stop.
pub fn each_handler_runs_to_its_end_on_a_hundredth_of_a_cpu() {
    let stack = Stack::new("web: for n in 1 2 3; do ./one $n & done; exec ./one 4\n")
        .file(
            "one",
            "#!/bin/sh\nif [ $1 = 4 ]; then trap 'sleep 0.1 && echo >saved.4; exit 0' TERM; \
             else trap 'echo >saved.$1; exit 0' TERM; fi\n\
             echo up\nwhile [ ! -e go ]; do sleep 0.2; done\nwhile :; do :; done\n",
        )
        .file("lpm.toml", "[process.web]\ntimeout-stop = \"60s\"\n");
    rustix::fs::chmod(stack.folder().join("one"), rustix::fs::Mode::from(0o755)).expect("ours");
    let running = throttled(&stack, 4);
    let began = Instant::now();
    running.signal(Signal::TERM);
    let output = running.end().output;
    println!("stopped after {:?}", began.elapsed());
    let saved: Vec<bool> = (1..=4).map(|n| stack.folder().join(format!("saved.{n}")).exists()).collect();
    assert_eq!(saved, [true; 4], "{output}");
    processes::gone(Duration::ZERO);
}

/// Many that sleep, which need some CPU to die, and one that takes all of it.
const CROWD: &str = "web: trap '' TERM; for n in $(seq 60); do sleep 1000 & done; echo up; \
                     while [ ! -e go ]; do sleep 0.2; done; while :; do :; done\n";

pub fn a_kill_does_not_wait_for_a_cpu_limit() {
    let stack = Stack::new(&format!("{CROWD}other: exec sleep 1001\n"))
        .file("lpm.toml", "[process.web]\ncan-die = true\n");
    let mut running = throttled(&stack, 1);
    stack.run(&["kill", "web"]).exited_with(0);
    // Held back by the limit, they were not gone when lpm gave up waiting.
    let said = running.until_now();
    assert!(!said.contains("not gone after SIGKILL"), "{said}");
    let left: Vec<String> = processes::tagged().iter().map(ToString::to_string).collect();
    assert!(left.iter().all(|one| !one.contains("sleep 1000")), "{left:#?}");
    stack.run(&["down"]).exited_with(0);
    running.end().exited_with(0);
    processes::gone(Duration::ZERO);
}

pub fn a_guardian_does_not_wait_for_a_cpu_limit() {
    let stack = Stack::new(CROWD);
    let running = throttled(&stack, 1);
    running.signal(Signal::KILL);
    running.end().killed_by(Signal::KILL);
    processes::gone(PATIENCE);
}

pub fn the_end_does_not_wait_for_the_cpu_limit_of_the_stack() {
    let stack = Stack::new(CROWD);
    let mut running = stack.start(&["start", "-t", "200ms", "--stack-cpu", "50%"]);
    running.line("| up");
    let app = leaf("web.1").parent().expect("it is in app").to_owned();
    // lpm cannot change this limit of a running stack.
    std::fs::write(app.join("cpu.max"), "1000 100000").expect("the tree is ours");
    std::fs::write(stack.folder().join("go"), "").expect("ours");
    waiting::until("it is throttled", PATIENCE, || {
        (cgroups::value(&app, "cpu.stat", "nr_throttled") > 20).then_some(())
    });
    running.signal(Signal::TERM);
    let ended = running.end();
    assert!(!ended.output.contains("not gone after SIGKILL"), "{}", ended.output);
    processes::gone(Duration::ZERO);
}

/// A stack whose `web` is up, busy, and held back by its limit.
#[track_caller]
fn throttled(stack: &Stack, count: usize) -> Running {
    let mut running = stack.start(&["start"]);
    running.lines("| up", count);
    let leaf = leaf("web.1");
    let before = cgroups::value(&leaf, "cpu.stat", "nr_throttled");
    // As `lpm set` does it, but without a process that would have to end in a guest that is busy.
    std::fs::write(leaf.join("cpu.max"), "1000 100000").expect("the tree is ours");
    std::fs::write(stack.folder().join("go"), "").expect("ours");
    waiting::until("it is throttled", PATIENCE, || {
        (cgroups::value(&leaf, "cpu.stat", "nr_throttled") > before + 20).then_some(())
    });
    running
}
