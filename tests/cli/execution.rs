//! Settings that a process is born with, as the process itself sees them.

use rustix::process::Signal;

use crate::stack::Stack;

/// The lines that `a` prints, a Procfile entry under these settings.
fn prints(name: &str, command: &str, settings: &str) -> Vec<String> {
    let stack = Stack::with(name, &format!("a: {command}\n"));
    let stack = stack.file("lpm.toml", format!("[process.a]\n{settings}\n"));
    let out = stack.runs(&["start", "--no-prefix", "-q"]).with_code(0).out;
    out.lines().map(str::to_owned).collect()
}

#[test]
fn no_new_privileges() {
    let command = "sed -n 's/^NoNewPrivs:.//p' /proc/self/status";
    assert!(prints("nnp-default", command, "").contains(&"0".to_owned()));
    assert!(prints("nnp", command, "no-new-privileges = true").contains(&"1".to_owned()));
}

#[test]
fn nice() {
    let command = "cut -d' ' -f19 /proc/self/stat";
    assert!(prints("nice", command, "nice = 7").contains(&"7".to_owned()));
    let stack = Stack::with("nice-option", &format!("a: {command}\nb: {command}\n"));
    let out = stack.runs(&["start", "--no-prefix", "-q", "--can-die", "all", "--nice", "3,b=11"]).out;
    assert!(out.lines().any(|line| line == "3") && out.lines().any(|line| line == "11"), "{out}");
    let refused = stack.runs(&["check", "--nice", "20"]).with_code(1).err;
    assert_eq!(refused, "lpm: --nice: \"20\" is not a nice value (write -20 to 19)\n");
}

#[test]
fn a_nice_value_that_is_not_granted_is_named() {
    let stack = Stack::with("nice-refused", "a: true\n");
    // As a user without CAP_SYS_NICE, whose limit is that of most systems.
    let launch = stack.shell(
        "exec setpriv --bounding-set -sys_nice --inh-caps -sys_nice prlimit --nice=0 $LPM start --nice -5",
    );
    let out = launch.pipes().ends().with_code(126).out;
    assert!(out.contains("cannot start: nice: Permission denied"), "{out}");
}

#[test]
fn what_is_changed_while_it_runs_takes_a_restart() {
    let stack = Stack::with("execution-set", "a: exec sleep 1000\n");
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("started with pid");
    let said = stack.tells(&["set", "a", "no-new-privileges=yes"]).with_code(0).out;
    assert!(said.contains("no-new-privileges no → yes"), "{said}");
    assert!(said.contains("restart"), "{said}");
    run.signal(Signal::TERM).ends().by(Signal::TERM);
}
