//! Processes that leave the cgroup they were born in: they are stopped, killed, frozen and waited for all the same.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::stack::{LPM, PATIENCE, Stack, cgroup_mount, has_cgroups, is_root, now, wait_readable};

/// A stack with `script` below a line that moves its shell out of its leaf; `None`, and says so, where it cannot.
fn escaping(test: &str, name: &str, script: &str) -> Option<Stack> {
    if !is_root() || !has_cgroups(test) {
        skipped!("{test}: root moves processes, where there are cgroups");
        return None;
    }
    let mount = cgroup_mount().expect("there are cgroups").display().to_string();
    let leave = format!("echo $$ > {mount}/cgroup.procs");
    Some(
        Stack::new(name)
            .program("leave", &format!("#!/bin/sh\n{leave}\n{script}\n"))
            .file("Procfile", "a: exec ./leave\nb: echo b is up; exec sleep 1000\n"),
    )
}

const STUBBORN: &str = "trap '' TERM; echo up; exec sleep 7771";

#[test]
fn a_main_process_that_left_its_leaf_does_not_outlive_a_stop() {
    let name = "a_main_process_that_left_its_leaf_does_not_outlive_a_stop";
    let Some(stack) = escaping(name, "escaped-stop", STUBBORN) else { return };
    let mut run = stack.lpm(&["start", "-t", "200ms"]).pipes();
    run.wait_for("a.1    | up").signal(Signal::TERM);
    let ended = run.ends().by(Signal::TERM);
    assert!(ended.out.contains("a.1    | not gone after 200ms, sending SIGKILL"), "{}", ended.out);
    assert!(ended.out.contains("a.1    | terminated by SIGKILL"), "{}", ended.out);
    assert!(!ended.err.contains("never ran"), "{}", ended.err);
}

#[test]
fn a_main_process_that_left_its_leaf_does_not_outlive_a_second_signal() {
    let name = "a_main_process_that_left_its_leaf_does_not_outlive_a_second_signal";
    let Some(stack) = escaping(name, "escaped-twice", STUBBORN) else { return };
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("a.1    | up").signal(Signal::INT).wait_for("sending SIGTERM to all");
    run.signal(Signal::INT);
    // Within a moment of the first it is the same signal, sent twice.
    while !run.out().contains("sending SIGKILL to all") && !run.has_ended() {
        run.signal(Signal::INT);
        wait_readable(&[], now() + Duration::from_millis(20));
    }
    run.ends().by(Signal::INT);
}

#[test]
fn a_main_process_that_left_its_leaf_is_killed_and_restarted() {
    let name = "a_main_process_that_left_its_leaf_is_killed_and_restarted";
    let Some(stack) = escaping(name, "escaped-kill", STUBBORN) else { return };
    let mut run = stack.lpm(&["start", "-t", "200ms"]).pipes();
    run.wait_for("a.1    | up");
    stack.tells(&["restart", "a"]).with_code(0);
    run.wait_for("a.1    | up");
    until_runs(&stack, "sleep 7771");
    assert_eq!(sleeps(&stack), 1);
    stack.tells(&["kill", "a"]).with_code(0);
    assert_eq!(sleeps(&stack), 0);
    run.stops().by(Signal::TERM);
}

/// Waits until a process has this command line: after its last line, a shell has yet to execute it.
pub fn until_runs(stack: &Stack, command: &str) {
    let deadline = now() + PATIENCE;
    while !stack.processes().iter().any(|(_, line)| line.starts_with(command)) {
        assert!(now() < deadline, "{command} does not begin");
        wait_readable(&[], now() + Duration::from_millis(1));
    }
}

fn sleeps(stack: &Stack) -> usize {
    stack.processes().iter().filter(|(_, line)| line.starts_with("sleep 7771")).count()
}

#[test]
fn what_a_main_process_left_elsewhere_is_asked_and_waited_for() {
    let name = "what_a_main_process_left_elsewhere_is_asked_and_waited_for";
    // It handles the signal in its own time, in a session of its own, and is an orphan by then.
    let script = "setsid sh -c 'trap \"echo cleaning; sleep .2; echo clean; exit\" TERM; echo up; sleep 1000 & wait' &\n\
                  exec sleep 1000";
    let Some(stack) = escaping(name, "escaped-daemon", script) else { return };
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("a.1    | up");
    // What starts within 10 ms of a stop, the kernel's tick, counts as started by a handler.
    wait_readable(&[], now() + Duration::from_millis(30));
    let ended = stack.tells(&["stop", "a"]).with_code(0);
    assert_eq!(ended.err, "");
    run.wait_for_all(&["| outside its cgroup: ", "| clean\n"]);
    run.stops().by(Signal::TERM);
}

#[test]
fn what_cannot_be_told_whose_it_is_is_killed_at_the_end() {
    let name = "what_cannot_be_told_whose_it_is_is_killed_at_the_end";
    let script = "env -i setsid sh -c 'echo $$ >pid; exec sleep 7772' &\n\
                  until [ -s pid ]; do sleep .01; done; echo up; exec sleep 1000";
    let Some(stack) = escaping(name, "escaped-stranger", script) else { return };
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("a.1    | up");
    let pid = std::fs::read_to_string(stack.path().join("pid")).expect("it was written");
    let ended = run.stops().by(Signal::TERM);
    let said = format!("lpm: {} (sleep) was outside every cgroup of the stack, and was killed\n", pid.trim());
    assert!(ended.err.contains(&said), "{}", ended.err);
    assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists());
}

/// The state of the process whose command line begins like this: `S`, `T`.
fn state(stack: &Stack, command: &str) -> Option<char> {
    let pid = stack.processes().iter().find(|(_, line)| line.starts_with(command))?.0;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn a_main_process_that_left_its_leaf_is_frozen_and_thawed() {
    let name = "a_main_process_that_left_its_leaf_is_frozen_and_thawed";
    let Some(stack) = escaping(name, "escaped-freeze", "echo up; exec sleep 7773") else { return };
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("a.1    | up");
    until_runs(&stack, "sleep 7773");
    for _ in 0..2 {
        stack.tells(&["freeze", "a"]).with_code(0);
        assert_eq!(state(&stack, "sleep 7773"), Some('T'));
        stack.tells(&["thaw", "a"]).with_code(0);
        let deadline = now() + PATIENCE;
        while state(&stack, "sleep 7773") != Some('S') {
            assert!(now() < deadline, "it stays stopped");
        }
    }
    stack.tells(&["freeze", "a"]).with_code(0);
    let ended = run.stops().by(Signal::TERM);
    assert!(ended.out.contains("| outside its cgroup, and stopped by SIGSTOP: "), "{}", ended.out);
}

#[test]
fn freezing_answers_although_the_leaf_was_removed() {
    let name = "freezing_answers_although_the_leaf_was_removed";
    let Some(stack) = escaping(name, "escaped-removed", "echo up; exec sleep 7774") else { return };
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("a.1    | up");
    until_runs(&stack, "sleep 7774");
    let leaf = stack.cgroups().into_iter().find(|path| path.ends_with("app/a.1")).expect("its leaf");
    std::fs::remove_dir(leaf).expect("it is empty");
    stack.tells(&["freeze", "a"]).with_code(0);
    assert_eq!(state(&stack, "sleep 7774"), Some('T'));
    run.stops().by(Signal::TERM);
}

#[test]
fn a_stack_starts_in_a_cgroup_that_was_killed_once() {
    let name = "a_stack_starts_in_a_cgroup_that_was_killed_once";
    if !is_root() || !has_cgroups(name) {
        return skipped!("{name}: root makes cgroups, where there are any");
    }
    let stack = Stack::with("killed-cgroup", "a: echo up\n");
    let place =
        cgroup_mount().expect("there are cgroups").join(format!("lpm-test-killed-{}", std::process::id()));
    std::fs::create_dir(&place).expect("root may");
    if std::fs::write(place.join("cgroup.kill"), "1").is_err() {
        std::fs::remove_dir(&place).expect("it is empty");
        return skipped!("{name}: no cgroup.kill");
    }
    // The shell stays beside lpm, which makes a directory of its own then.
    let script = format!("echo $$ > {}/cgroup.procs; $LPM start; exit $?", place.display());
    let ended = stack.shell(&script).pipes().ends().with_code(0);
    assert!(ended.out.contains("a.1    | up\n"), "{}", ended.out);
    std::fs::remove_dir(&place).expect("nothing is left in it");
}

#[test]
fn processes_in_cgroups_of_an_instances_own_are_counted() {
    let name = "processes_in_cgroups_of_an_instances_own_are_counted";
    if !is_root() || !has_cgroups(name) {
        return skipped!("{name}: needs a leaf that its process may change");
    }
    let mount = cgroup_mount().expect("there are cgroups").display().to_string();
    let script = format!(
        "#!/bin/sh\nleaf={mount}$(sed -n s/^0:://p /proc/self/cgroup)\nmkdir $leaf/below\nsleep 1000 &\n\
         echo $! > $leaf/below/cgroup.procs\necho up\nexec sleep 1000\n"
    );
    let stack = Stack::new("below").program("nest", &script).file("Procfile", "a: exec ./nest\n");
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("a.1    | up");
    let status = stack.status(&["a"]);
    let instance = &status["instances"][0];
    assert_eq!(instance["usage"]["tasks"], 2, "{instance}");
    assert_eq!(instance["processes"].as_array().map(Vec::len), Some(2), "{instance}");
    run.stops().by(Signal::TERM);
}

/// A process that has become root's is not shown to a user where /proc is mounted like this, and lived on.
#[test]
fn what_proc_hides_is_asked_and_ended_all_the_same() {
    let test = "what_proc_hides_is_asked_and_ended_all_the_same";
    const USER: u32 = 62_348;
    struct Made(String);
    impl Drop for Made {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
    let _made = Made(format!("/tmp/lpm-{USER}"));
    let words = ["-m", "mount", "-t", "proc", "-o", "hidepid=2", "proc", "/proc"];
    if !is_root() || !Command::new("unshare").args(words).status().is_ok_and(|status| status.success()) {
        return skipped!("{test}: only root becomes another user, with another /proc");
    }
    let procfile = "a: ./roots 7774 & echo up; exec sleep 7775\nb: echo up; exec sleep 1000\n";
    let stack = Stack::with("hidden", procfile).variable("LPM_CGROUP", "none");
    let roots = stack.path().join("roots");
    std::fs::copy("/bin/sleep", &roots).expect("a program");
    std::fs::set_permissions(&roots, PermissionsExt::from_mode(0o4755)).expect("ours");
    for path in [stack.path().to_owned(), stack.path().join("Procfile")] {
        std::os::unix::fs::chown(&path, Some(USER), Some(USER)).expect("root may");
    }
    let home = stack.path().display().to_string();
    for hides in ["hidepid=1", "hidepid=2"] {
        let script = format!(
            "mount -t proc -o {hides} proc /proc && exec setpriv --reuid={USER} --regid={USER} --clear-groups \
             env -u XDG_RUNTIME_DIR HOME={home} {LPM} start --can-die a -t 1s"
        );
        let mut run = stack.program_with("unshare", &["-m", "sh", "-c", &script]).pipes();
        run.wait_for_all(&["a.1    | up", "b.1    | up"]);
        let pid = |what: &str| stack.processes().into_iter().find(|(_, line)| line.starts_with(what));
        until_runs(&stack, "./roots 7774");
        until_runs(&stack, "sleep 7775");
        let main = pid("sleep 7775").expect("it runs").0;
        rustix::process::kill_process(Pid::from_raw(main).expect("a pid"), Signal::KILL).expect("ours");
        run.wait_for("a.1    | terminated by SIGKILL").wait_for("left 1 process behind");
        run.stops();
        assert!(pid("./roots").is_none(), "{hides}");
    }
}
