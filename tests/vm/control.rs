//! A running stack obeys: what only a whole machine can show of that. The verbs themselves are in `tests/cli`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rustix::process::Signal;

use crate::cgroups;
use crate::reader;
use crate::stack::{Running, Stack};
use crate::waiting::{self, PATIENCE};

/// Takes `$1` MiB and keeps it.
const EATER: &str = "head -c 200M /dev/zero | tail";

fn json(stack: &Stack, arguments: &[&str]) -> serde_json::Value {
    let output = stack.run(arguments).exited_with(0);
    serde_json::from_str(&output).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output}"))
}

fn instance<'a>(status: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    let all = status["instances"].as_array().expect("instances");
    all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {status:#}"))
}

fn leaf(status: &serde_json::Value, name: &str) -> PathBuf {
    PathBuf::from(instance(status, name)["cgroup"].as_str().expect("a leaf"))
}

pub fn status_has_what_the_kernel_counts() {
    let stack = Stack::new("web: echo up; exec sleep 1000\nworker: echo up; exec sleep 1000\n");
    let mut running = stack.start(&["start", "--mem", "worker=64M", "--tasks", "50", "--cpu", "web=1.5"]);
    running.lines(" | up", 2);
    let status = json(&stack, &["status", "--json"]);
    assert_eq!(status["stack"]["tier"], "full");
    let worker = instance(&status, "worker.1");
    assert_eq!(worker["state"], "running");
    assert_eq!(worker["ceilings"]["memory_max"], 64 << 20);
    assert_eq!(instance(&status, "web.1")["ceilings"]["cpu_quota"], 1500);
    for counted in ["memory_current", "tasks", "cpu_usec", "memory_peak", "memory_pressure"] {
        assert!(worker["usage"][counted].is_number(), "{counted}: {worker:#}");
    }
    assert_eq!(worker["usage"]["tasks"], 1);
    assert_eq!(worker["processes"][0]["pid"], worker["pid"]);
    let list = stack.run(&["status"]).exited_with(0);
    assert!(list.contains("MEMORY") && list.contains("/64M"), "{list}");
    let detail = stack.run(&["status", "worker.1"]).exited_with(0);
    assert!(detail.contains("limit 64M") && detail.contains("sleep 1000"), "{detail}");
    running.signal(Signal::TERM);
    running.end().killed_by(Signal::TERM);
}

pub fn a_ceiling_that_is_set_holds_at_once() {
    let stack = Stack::new(&format!("web: echo up; exec sleep 1000\nworker: echo up; read x < /dev/null; while [ ! -e go ]; do sleep 0.1; done; {EATER}\n"))
        .file("lpm.toml", "# kept\n[process.worker]\ncan-die = true # this too\n");
    let mut running = stack.start(&["start"]);
    running.lines(" | up", 2);
    let words = ["memory-max=48M", "memory-high=1G", "tasks-max=40", "cpu-quota=150%"];
    let output = stack.run(&[&["set", "worker", "--save"][..], &words].concat()).exited_with(0);
    assert!(output.contains("memory-max"), "{output}");
    let status = json(&stack, &["status", "--json"]);
    let limits = reader::read(&leaf(&status, "worker.1"));
    assert_eq!((limits.memory_max, limits.tasks_max, limits.cpu_quota), (48 << 20, 40, 150_000));
    let saved = std::fs::read_to_string(stack.folder().join("lpm.toml")).expect("it is there");
    assert!(saved.contains("# kept") && saved.contains("# this too"), "{saved}");
    assert!(saved.contains("memory-max = \"48M\""), "{saved}");
    std::fs::write(stack.folder().join("go"), "").expect("a file");
    running.line("oom-kill: memory limit 48M reached");
    let status = json(&stack, &["status", "--json"]);
    assert_eq!(instance(&status, "worker.1")["result"], "oom-kill");
    // Given back, the ceiling is gone.
    stack.run(&["start", "worker"]).exited_with(0);
    stack.run(&["set", "worker", "memory-max=infinity"]).exited_with(0);
    let status = json(&stack, &["status", "--json"]);
    assert_eq!(cgroups::read(&leaf(&status, "worker.1"), "memory.max"), "max");
    stack.run(&["down"]).exited_with(0);
    running.end().exited_with(0);
}

pub fn a_frozen_instance_stands_still_in_the_kernel() {
    let stack = Stack::new("web: echo up; while :; do :; done\n");
    let mut running = stack.start(&["start"]);
    running.line(" | up");
    stack.run(&["freeze", "web"]).exited_with(0);
    let status = json(&stack, &["status", "--json"]);
    assert_eq!(instance(&status, "web.1")["state"], "frozen");
    let leaf = leaf(&status, "web.1");
    assert_eq!(cgroups::value(&leaf, "cgroup.events", "frozen"), 1);
    stack.run(&["thaw", "web"]).exited_with(0);
    waiting::until("it goes on", PATIENCE, || {
        (cgroups::value(&leaf, "cgroup.events", "frozen") == 0).then_some(())
    });
    stack.run(&["freeze"]).exited_with(0);
    // Torn down from the frozen state: thawed first, so that it can act on the signal.
    stack.run(&["down"]).exited_with(0);
    let output = running.end().exited_with(0);
    assert!(output.contains("web.1  | terminated by SIGTERM"), "{output}");
}

/// `varlinkctl` came with systemd 255.
pub fn varlinkctl_speaks_with_it() {
    if !Path::new("/usr/bin/varlinkctl").exists() {
        let release = std::fs::read_to_string("/etc/os-release").expect("a release");
        assert!(release.contains("VERSION_ID=\"12\""), "no varlinkctl here: {release}");
        return;
    }
    let stack = Stack::new("web: echo up; exec sleep 1000\n");
    let mut running = stack.start(&["start"]);
    running.line(" | up");
    let status = json(&stack, &["status", "--json"]);
    let socket = status["stack"]["socket"].as_str().expect("a socket").to_owned();
    let varlinkctl = |words: &[&str]| {
        let mut command = Command::new("varlinkctl");
        command.args(words);
        Running::spawn(command).end()
    };
    let information = varlinkctl(&["info", &socket]).exited_with(0);
    assert!(information.contains("dev.lpm.Supervisor"), "{information}");
    let description = varlinkctl(&["introspect", &socket, "dev.lpm.Supervisor"]).exited_with(0);
    assert!(description.contains("method Status"), "{description}");
    let answer = varlinkctl(&["call", &socket, "dev.lpm.Supervisor.Status", "{}"]).exited_with(0);
    assert!(answer.contains("\"web.1\""), "{answer}");
    let events = varlinkctl(&["call", "--more", &socket, "dev.lpm.Supervisor.Events", "{}"]).exited_with(0);
    assert!(events.contains("started"), "{events}");
    let refused = varlinkctl(&["call", &socket, "dev.lpm.Supervisor.Stop", r#"{"names":["nobody"]}"#]);
    assert!(!refused.status.success() && refused.output.contains("NoSuchInstance"), "{}", refused.output);
    stack.run(&["down"]).exited_with(0);
    running.end().exited_with(0);
}

/// No bound is asserted: the guest is emulated. What was measured is printed.
pub fn thirty_instances_are_surveyed() {
    let stack = Stack::new("web: exec sleep 1000\n");
    let mut running = stack.start(&["start", "-m", "web=30", "--mem", "64M"]);
    running.lines("started with pid", 30);
    let began = Instant::now();
    let rounds = 10;
    for _ in 0..rounds {
        let status = json(&stack, &["status", "--json"]);
        assert_eq!(status["instances"].as_array().map(Vec::len), Some(30));
    }
    println!("status of 30 instances, in full, in a process of its own: {:?}", began.elapsed() / rounds);
    stack.run(&["scale", "web=2"]).exited_with(0);
    let status = json(&stack, &["status", "--json"]);
    assert_eq!(status["instances"].as_array().map(Vec::len), Some(2));
    stack.run(&["down"]).exited_with(0);
    running.end().exited_with(0);
}
