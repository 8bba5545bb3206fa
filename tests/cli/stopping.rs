//! Stops that let processes clean up, and starts that are tried again.

use std::fs::File;

use rustix::process::Signal;

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
