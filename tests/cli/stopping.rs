//! Stops that let processes clean up, and starts that are tried again.

use std::fs::File;
use std::process::Command;

use rustix::process::{Pid, Signal};

use crate::stack::{Stack, has_cgroups};

/// Starts other programs when it is asked to end, as shell scripts do. Ready when its child is another program: until
/// then the child has the handler of the shell, and takes the signal for nothing.
const CLEANS: &str = "#!/bin/sh\n\
                      save() { sleep .15 && : > saved/$1; exit 0; }\n\
                      trap \"save $1\" TERM\n\
                      sleep 1000 &\n\
                      until read -r name </proc/$!/comm && [ $name = sleep ]; do :; done\n\
                      echo ready; wait\n";

fn every_handler_finishes(name: &str, tier: &str) {
    const INSTANCES: usize = 40;
    let stack = Stack::new(name)
        .program("clean", CLEANS)
        .file("Procfile", "a: exec ./clean $LPM_INSTANCE\n")
        .file("lpm.toml", "[process.a]\ntimeout-stop = \"30s\"\n")
        .variable("LPM_CGROUP", tier);
    std::fs::create_dir(stack.path().join("saved")).expect("a directory");
    let count = format!("a={INSTANCES}");
    let mut run = stack.lpm(&["start", "-m", &count]).pipes();
    for _ in 0..INSTANCES {
        run.wait_for(" | ready\n");
    }
    run.stops().by(Signal::TERM);
    let saved = std::fs::read_dir(stack.path().join("saved")).expect("a directory").count();
    assert_eq!(saved, INSTANCES);
}

#[test]
fn what_a_stop_starts_is_not_stopped() {
    if has_cgroups("what_a_stop_starts_is_not_stopped") {
        every_handler_finishes("cleaning", "");
    }
}

#[test]
fn what_a_stop_starts_is_not_stopped_without_cgroups() {
    every_handler_finishes("cleaning-none", "none");
}

#[test]
fn an_instance_of_the_same_name_in_a_stack_within_is_another_one() {
    let stack = Stack::new("nested-names").variable("LPM_CGROUP", "none");
    std::fs::create_dir_all(stack.path().join("inner")).expect("a directory");
    let lpm = crate::stack::LPM;
    let stack = stack
        .file(
            "Procfile",
            format!("web: echo outer; exec sleep 1000\ninner: exec {lpm} start -f inner/Procfile\n"),
        )
        .file("inner/Procfile", "web: echo within; exec sleep 1001\n");
    let mut run = stack.lpm(&["start", "-t", "2s"]).pipes();
    run.wait_for("within");
    for verb in ["restart", "kill"] {
        stack.tells(&[verb, "web.1"]).with_code(0);
        let within = stack.processes().iter().any(|(_, line)| line.starts_with("sleep 1001"));
        assert!(within, "{verb} web.1 reached the other stack");
    }
    assert!(!run.out().contains("inner.1 | exited") && !run.out().contains("left behind"), "{}", run.out());
    run.stops().by(Signal::TERM);
}

#[test]
fn a_start_that_is_refused_for_a_moment_is_tried_again() {
    let stack = Stack::new("text-busy")
        .program("prog", "#!/bin/sh\necho up\nexec sleep 1000\n")
        .file("Procfile", "a: ./copy\n")
        .file(
            "lpm.toml",
            "[process.a]\nrestart = \"on-failure\"\nrestart-sec = \"10ms\"\nstart-limit-burst = 1000\n",
        );
    std::fs::copy("/bin/sleep", stack.path().join("copy")).expect("a program");
    let written = File::options().append(true).open(stack.path().join("copy")).expect("ours");
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("a.1    | cannot start: ./copy: Text file busy");
    run.wait_for("a.1    | restarting in 10ms (restart 1, after a failed start)");
    drop(written);
    // Without an argument, sleep(1) ends with 1: it was started.
    run.wait_for("a.1    | exited with code 1");
    run.stops().by(Signal::TERM);
}

#[test]
fn a_missing_interpreter_is_named() {
    let stack = Stack::new("interpreter")
        .program("script", "#!/nonexistent/ruby -w\n")
        .file("Procfile", "a: ./script\n");
    let ended = stack.runs(&["start"]).with_code(126);
    let said = "cannot start: ./script: its interpreter /nonexistent/ruby does not exist";
    assert!(ended.out.contains(said) && !ended.err.contains("Nearest"), "{}{}", ended.out, ended.err);
}

/// What a handler leaves running when its process has ended is not asked either; it has the rest of the timeout.
fn a_clean_up_outlives_its_handler(name: &str, tier: &str) {
    let stack = Stack::new(name)
        .program("clean", "#!/bin/sh\ntrap '(sleep .3; : > saved) & exit 0' TERM\necho ready; while :; do sleep .05; done\n")
        .file("Procfile", "a: exec ./clean\n")
        .variable("LPM_CGROUP", tier);
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | ready\n");
    run.stops().by(Signal::TERM);
    assert!(stack.path().join("saved").exists(), "{}", run.out());
}

#[test]
fn what_a_handler_leaves_running_is_not_stopped() {
    if has_cgroups("what_a_handler_leaves_running_is_not_stopped") {
        a_clean_up_outlives_its_handler("outlives", "");
    }
}

#[test]
fn what_a_handler_leaves_running_is_not_stopped_without_cgroups() {
    a_clean_up_outlives_its_handler("outlives-none", "none");
}

/// Whether strace(1) is there and may do its work.
fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    traced.is_ok_and(|output| output.status.success())
}

/// Without cgroups each instance was searched for on its own: a freeze of 20 looked through /proc 40 times.
#[test]
fn what_is_asked_of_many_instances_is_one_search() {
    const NAME: &str = "what_is_asked_of_many_instances_is_one_search";
    if !can_trace() {
        return skipped!("{NAME}: needs strace");
    }
    let stack = Stack::with("searches", "a: echo up; exec sleep 1000\n").variable("LPM_CGROUP", "none");
    // The loop alone: a process that is traced stops for its tracer.
    let script = "exec strace -qq -o trace -e trace=open,openat $LPM start -m a=20 --can-die all";
    let mut run = stack.shell(script).pipes();
    for _ in 0..20 {
        run.wait_for(" | up");
    }
    let searches = || {
        let trace = std::fs::read_to_string(stack.path().join("trace")).expect("it is written");
        trace.matches("\"/proc\", O_RDONLY").count()
    };
    for (verb, most) in [("freeze", 2), ("thaw", 0), ("kill", 1)] {
        let before = searches();
        stack.tells(&[verb]).with_code(0);
        let now = searches();
        assert!(now <= before + most, "{verb}: {} searches", now - before);
    }
    let pid = stack.status(&["a.1"])["stack"]["pid"].as_i64().expect("a number");
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, Signal::TERM).expect("it is there");
    run.ends();
}

/// Each exit looked at every daemon of the stack.
#[test]
fn daemons_that_stay_in_their_leaf_are_looked_at_once() {
    const NAME: &str = "daemons_that_stay_in_their_leaf_are_looked_at_once";
    if !has_cgroups(NAME) || !can_trace() {
        return skipped!("{NAME}: needs cgroups and strace");
    }
    const DAEMONS: usize = 300;
    let daemons =
        format!("for i in $(seq {DAEMONS}); do (setsid sleep 1000 &) ; done; echo up; exec sleep 1000");
    let procfile = format!("a: {daemons}\nb: echo up; exec sleep 1000\n");
    let stack = Stack::with("daemons", &procfile);
    let script = "exec strace -qq -o trace -e trace=open,openat $LPM start";
    let mut run = stack.shell(script).pipes();
    run.wait_for(" | up").wait_for(" | up");
    let looks = || {
        let trace = std::fs::read_to_string(stack.path().join("trace")).expect("it is written");
        trace.lines().filter(|line| line.contains("\"/proc/") && line.contains("/cgroup\"")).count()
    };
    for _ in 0..10 {
        stack.tells(&["restart", "b"]).with_code(0);
    }
    assert!((DAEMONS..3 * DAEMONS).contains(&looks()), "{} looks", looks());
    // One that moves out of its leaf is found when that is empty, and ended with the rest.
    let leaf = stack.status(&["a"])["instances"][0]["cgroup"].as_str().expect("it has one").to_owned();
    let inside = std::fs::read_to_string(format!("{leaf}/cgroup.procs")).expect("it is there");
    let root = crate::stack::cgroup_mount().expect("cgroups are there").join("cgroup.procs");
    std::fs::write(root, inside.lines().last().expect("a daemon")).expect("root may");
    stack.tells(&["kill", "a"]).with_code(0);
    run.wait_for("outside its cgroup: ");
    let pid = stack.status(&[])["stack"]["pid"].as_i64().expect("a number");
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("a pid");
    rustix::process::kill_process(pid, Signal::TERM).expect("it is there");
    run.ends();
}
