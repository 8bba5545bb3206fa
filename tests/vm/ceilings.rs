//! Ceilings hold: for an instance, for all, for the stack; and lpm says which one was felt.

use std::path::Path;

use rustix::process::Signal;

use crate::cgroups;
use crate::stack::Stack;
use crate::waiting::{self, PATIENCE};

/// Takes `$1` MiB and keeps it.
const EATER: &str = "head -c 200M /dev/zero | tail";

pub fn a_worker_over_its_memory_ceiling_is_killed_and_it_is_said_why() {
    let stack = Stack::new(&format!("web: exec sleep 1000\nworker: {EATER}; sleep 1000\n"));
    let output = stack.run(&["start", "--mem", "worker=64M"]).exited_with(137);
    let obituary =
        output.lines().find(|line| line.contains("worker.1 | terminated by SIGKILL")).expect(&output);
    assert!(obituary.contains("oom-kill: memory limit 64M reached"), "{obituary}");
    assert!(obituary.contains("of 64M"), "the peak stands beside the limit: {obituary}");
    let row = output.lines().rfind(|line| line.starts_with("worker.1")).expect("the summary has it");
    assert!(row.contains("oom-kill") && row.contains("/64M"), "{row}");
}

pub fn an_oom_kill_takes_the_whole_instance() {
    // The shell would live on without memory.oom.group.
    let stack = Stack::new(&format!("worker: ({EATER}); echo survived; exec sleep 1000\n"));
    let output = stack.run(&["start", "--mem", "64M"]).exited_with(137);
    // The text of its command is in the report of its failure.
    assert!(!output.contains("| survived"), "{output}");
}

pub fn a_cpu_ceiling_is_seen_as_throttled_time() {
    let stack = Stack::new("worker: i=0; while [ $i -lt 15000 ]; do i=$((i+1)); done\n");
    let output = stack.run(&["start", "--cpu", "worker=20%"]).exited_with(0);
    let obituary = output.lines().find(|line| line.contains("exited with code 0")).expect(&output);
    assert!(obituary.contains("throttled "), "{obituary}");
}

pub fn a_fork_bomb_ends_at_the_tasks_ceiling() {
    let bomb = "bomb: sh -c 'f() { f | f & f; }; f' 2>/dev/null & exec tail -f /dev/null\n";
    let stack = Stack::new(&format!("{bomb}web: exec sleep 1000\n"));
    let mut running = stack.start(&["start", "--tasks", "bomb=50"]);
    running.line("bomb.1 | tasks limit 50 reached, forks are refused");
    let leaf = cgroups::find(Path::new(cgroups::ROOT), "bomb.1").expect("its leaf is there");
    let tasks: u64 = cgroups::read(&leaf, "pids.current").parse().expect("a number");
    assert!(tasks <= 50, "{tasks} tasks");
    running.signal(Signal::INT);
    running.end().killed_by(Signal::INT);
}

pub fn a_stack_ceiling_holds_for_all_together() {
    let stack = Stack::new(&format!("one: {EATER}; sleep 1000\n"));
    let output = stack.run(&["start", "--stack-mem", "64M"]).exited_with(137);
    assert!(output.contains("oom-kill: the stack's memory limit 64M reached"), "{output}");
}

pub fn an_exec_that_the_ceiling_kills_is_a_start_that_failed() {
    let stack = Stack::new("web: sleep 1000\n");
    let output = stack.run(&["start", "--mem", "web=4K"]).exited_with(137);
    assert!(output.contains("web.1  | cannot start: memory limit 4K is too small"), "{output}");
}

pub fn what_lpm_wrote_is_what_another_reader_reads() {
    let stack = Stack::new("web: exec sleep 1000\n").file(
        "lpm.toml",
        "[process.web]\nmemory-max = \"64M\"\nmemory-high = \"48M\"\ncpu-quota = \"150%\"\ncpu-weight = 50\ntasks-max = 20\n",
    );
    let mut running = stack.start(&["start", "--stack-tasks", "500"]);
    running.line("web.1  | started with pid");
    let leaf =
        waiting::until("the leaf is there", PATIENCE, || cgroups::find(Path::new(cgroups::ROOT), "web.1"));
    let read = crate::reader::read(&leaf);
    assert_eq!(
        read,
        crate::reader::Limits {
            memory_max: 64 << 20,
            memory_high: 48 << 20,
            cpu_quota: 150_000,
            cpu_period: 100_000,
            cpu_weight: 50,
            tasks_max: 20,
        }
    );
    assert_eq!(cgroups::read(&leaf, "memory.oom.group"), "1");
    let app = leaf.parent().expect("a leaf is in app");
    assert_eq!(cgroups::read(app, "pids.max"), "500");
    running.signal(Signal::TERM);
    running.end().killed_by(Signal::TERM);
}

pub fn a_ceiling_that_the_kernel_refuses_is_said_before_anything_starts() {
    let stack = Stack::new("web: echo ran\n");
    let output = stack.run(&["start", "--mem", "web=512X"]).exited_with(1);
    assert!(output.contains("--mem: \"512X\" is not a size"), "{output}");
    assert!(!output.contains("started"), "{output}");
}
