//! What a person finds out afterwards, where everything is counted: why something died, and the picture of a run.

use std::process::Command;

use serde_json::Value;

use crate::stack::{Running, Stack, lpm};
use crate::waiting::{self, PATIENCE};

pub fn an_oom_kill_is_reported_with_ceiling_and_peak() {
    let stack = Stack::new("worker: echo hungry; head -c 200M /dev/zero | tail; sleep 1000\n");
    let out = stack.run(&["start", "--mem", "worker=64M", "--report", "run.json"]).exited_with(137);
    for text in ["× worker.1 - ", "Failure: oom-kill: memory limit 64M reached, peak 6", "    | hungry"] {
        assert!(out.contains(text), "{text}: {out}");
    }
    let text = std::fs::read_to_string(stack.folder().join("run.json")).expect("a report");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let worker = &report["instances"][0];
    assert_eq!(worker["ceilings"]["memory_max"], 64 << 20, "{worker}");
    assert_eq!(
        (&worker["summary"]["result"], &worker["summary"]["oom_kills"]),
        (&"oom-kill".into(), &1.into())
    );
    let ended = report["events"].as_array().expect("events").iter().find(|event| event["event"] == "ended");
    let ended = ended.expect("it ended");
    assert_eq!(
        (&ended["result"], &ended["ceilings"]["memory_max"]),
        (&"oom-kill".into(), &(64 << 20).into())
    );
    let memory = report["total"]["memory"].as_array().expect("a series");
    assert!(!memory.is_empty() && memory.iter().all(|value| value.is_u64()), "{memory:?}");
}

pub fn a_core_that_was_dumped_is_told() {
    let stack = Stack::new("web: ulimit -c unlimited; echo up; kill -SEGV $$\n");
    let out = stack.run(&["start"]).exited_with(139);
    assert!(out.contains("Failure: ") && out.contains("SIGSEGV"), "{out}");
    assert!(out.contains("core"), "{out}");
}

pub fn top_shows_memory_under_its_ceiling() {
    let stack = Stack::new("web: exec sleep 1000\n");
    let mut running = stack.start(&["start", "--mem", "web=64M", "--cpu", "web=0.5"]);
    running.line("started with pid");
    let table = waiting::until("the instance is counted", PATIENCE, || {
        let mut command = Command::new(lpm());
        command.args(["top", "--once", "-i", "200ms", "-d"]).arg(stack.folder());
        let table = Running::spawn(command).end().exited_with(0);
        Some(table).filter(|table| table.contains("/64M"))
    });
    assert!(table.contains("/50%") && table.contains('░'), "{table}");
    assert!(table.contains("tier full") && !table.contains("not counted here: memory"), "{table}");
    running.signal(rustix::process::Signal::TERM);
    running.end().killed_by(rustix::process::Signal::TERM);
}
