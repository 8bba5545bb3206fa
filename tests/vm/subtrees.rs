//! Cgroups that an instance makes below its own leaf, with every controller handed on: deep, wide, threaded.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::cgroups;
use crate::processes;
use crate::stack::{Running, Stack};
use crate::waiting::{self, PATIENCE};

/// Moves itself to a cgroup below, hands on the controllers, and makes what its argument says. Enters the deepest
/// one as well, with a child that does not hear SIGTERM.
const NESTS: &str = r#"#!/usr/bin/python3
import os, subprocess, sys, time
leaf = "/sys/fs/cgroup" + open("/proc/self/cgroup").read().strip().split(":")[2]
kind, count = sys.argv[1], int(sys.argv[2])

def write(name, text):
    with open(name, "w") as file:
        file.write(text)

def child(where, file="cgroup.procs"):
    one = subprocess.Popen(["sh", "-c", "trap '' TERM; exec sleep 1001"])
    write(where + "/" + file, str(one.pid))
    return one

os.chdir(leaf)
os.mkdir("main")
write("main/cgroup.procs", str(os.getpid()))
write("cgroup.subtree_control", "+cpu +memory +pids")
if kind == "deep":
    for level in range(count):
        os.mkdir("d")
        os.chdir("d")
        if level < count - 1:
            write("cgroup.subtree_control", "+cpu +memory +pids")
    child(".")
if kind == "wide":
    for number in range(count):
        os.mkdir(f"w{number}")
    child("w0")
    child(f"w{count - 1}")
if kind == "threaded":
    os.mkdir("domain")
    one = child("domain")
    for number in range(count):
        os.mkdir(f"domain/t{number}")
        write(f"domain/t{number}/cgroup.type", "threaded")
    write("domain/t0/cgroup.threads", str(one.pid))
print("built", flush=True)
while True:
    time.sleep(1000)
"#;

/// A restart, and the end of lpm by SIGKILL: nothing is left of them, and the one beside goes on after the restart.
#[track_caller]
fn all_of_it_goes(kind: &str, count: u32) {
    let stack = Stack::new(&format!("nests: exec ./nests {kind} {count}\nweb: echo up; exec sleep 1003\n"))
        .file("nests", NESTS)
        .file("lpm.toml", "[process.nests]\ntimeout-stop = \"500ms\"\ncan-die = true\n");
    rustix::fs::chmod(stack.folder().join("nests"), rustix::fs::Mode::from(0o755)).expect("ours");
    let mut running = stack.start(&["start"]);
    built(&mut running, 1);
    stack.run(&["status"]).exited_with(0);
    let leaf = leaf();
    assert!(leaf.join("main").is_dir());
    stack.run(&["restart", "nests"]);
    built(&mut running, 2);
    assert_eq!(web(), 1);
    running.signal(Signal::KILL);
    running.end().killed_by(Signal::KILL);
    processes::gone(Duration::from_secs(5));
    // The guardian has thousands of cgroups to remove.
    let place = leaf.ancestors().nth(2).expect("a leaf is in the app of a place");
    waiting::until("the tree is removed", PATIENCE, || (!place.exists()).then_some(()));
}

fn built(running: &mut Running, times: usize) {
    running.lines("| built", times);
}

fn web() -> usize {
    processes::tagged().iter().filter(|one| one.command == "sleep 1003").count()
}

fn leaf() -> std::path::PathBuf {
    waiting::until("the leaf", PATIENCE, || cgroups::find(Path::new(cgroups::ROOT), "nests.1"))
}

pub fn seven_hundred_cgroups_deep() {
    all_of_it_goes("deep", 700);
}

pub fn seven_hundred_cgroups_wide() {
    all_of_it_goes("wide", 700);
}

pub fn threaded_cgroups() {
    all_of_it_goes("threaded", 20);
}
