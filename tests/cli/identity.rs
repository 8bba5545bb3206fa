//! What a run leaves behind is known by what it is, not by what it is called: a path, a pid or a file name may mean
//! something else by the time it is looked at again.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::control::STAYS;
use crate::stack::{
    self, LPM, PATIENCE, Running, Stack, cgroup_mount, has_cgroups, is_root, now, wait_readable,
};

/// A process of a stack, by a descriptor.
fn process(pid: Pid) -> OwnedFd {
    pidfd_open(pid, PidfdFlags::empty()).expect("it is there")
}

fn is_alive(process: &OwnedFd) -> bool {
    !wait_readable(&[process.as_fd()], Duration::ZERO)
}

#[track_caller]
fn kill(process: &OwnedFd) {
    pidfd_send_signal(process, Signal::KILL).expect("it is there");
    assert!(wait_readable(&[process.as_fd()], now() + PATIENCE), "it is killed");
}

/// SIGKILL for lpm and its guardian. lpm is stopped first, so that it starts no other guardian.
#[track_caller]
fn kill_both(stack: &Stack, run: &mut Running<'_>) {
    let guardian = process(stack.guardian(run.pid()));
    run.signal(Signal::STOP);
    kill(&guardian);
    run.signal(Signal::KILL).ends_leaving_something().by(Signal::KILL);
}

#[track_caller]
fn until(what: &str, mut there: impl FnMut() -> bool) {
    let deadline = now() + PATIENCE;
    while !there() {
        assert!(now() < deadline, "never {what}");
        let _ =
            rustix::event::poll(&mut [], Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
    }
}

/// A cgroup that some manager gives to lpm. Its name has the stack's mark.
struct Given(PathBuf);

impl Given {
    fn new(stack: &Stack) -> Given {
        let given = Given(cgroup_mount().expect("there is one").join(format!("{}-given", stack.mark())));
        given.make();
        given
    }

    fn make(&self) {
        std::fs::create_dir(&self.0).expect("root may");
    }

    /// `lpm start` inside, alone.
    fn start<'a>(&self, stack: &'a Stack) -> Running<'a> {
        let mut run =
            stack.shell(&format!("echo $$ > {}/cgroup.procs; exec $LPM start", self.0.display())).pipes();
        run.wait_for(" | up");
        run
    }

    /// As a manager does it: kills everything in it, and removes it.
    fn remove(&self) {
        fn rmdir(directory: &Path) {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.filter(|entry| entry.path().is_dir()).for_each(|entry| rmdir(&entry.path()));
            until("empty", || {
                let result = std::fs::remove_dir(directory);
                result.is_ok() || !directory.exists()
            });
        }
        if self.0.exists() {
            std::fs::write(self.0.join("cgroup.kill"), "1").expect("root may");
            rmdir(&self.0);
        }
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.remove();
    }
}

fn skipped(test: &str) -> bool {
    if !has_cgroups(test) {
        return true;
    }
    if !is_root() {
        skipped!("{test}: only root makes cgroups for others");
    }
    !is_root()
}

#[test]
fn a_stale_record_does_not_hit_what_has_its_cgroups_path_now() {
    if skipped("a_stale_record_does_not_hit_what_has_its_cgroups_path_now") {
        return;
    }
    let first = Stack::with("re-made", &format!("a: {STAYS}\n"));
    let given = Given::new(&first);
    let mut run = given.start(&first);
    kill_both(&first, &mut run);
    given.remove();

    given.make();
    let second = Stack::with("re-made-2", &format!("b: {STAYS}\n"));
    let mut other = given.start(&second);
    let lpm = process(other.pid());
    let mut again = first.lpm(&["start"]).pipes();
    again.wait_for(" | up");
    let out = again.signal(Signal::TERM).ends_leaving_something().by(Signal::TERM).out;
    assert!(is_alive(&lpm), "{out}");
    assert!(!out.contains("cleaned up after"), "{out}");
    other.signal(Signal::TERM).ends_leaving_something().by(Signal::TERM);
}

#[test]
fn a_stale_record_does_not_hit_the_next_stack_in_the_same_leaf() {
    if skipped("a_stale_record_does_not_hit_the_next_stack_in_the_same_leaf") {
        return;
    }
    let stack = Stack::with("same-leaf", "web: exec $LPM start -f first/Procfile\n")
        .file("first/Procfile", format!("a: {STAYS}\n"))
        .file("second/Procfile", format!("b: {STAYS}\n"))
        .variable("LPM", LPM);
    let mut outer = stack.lpm(&["start", "-f", "Procfile", "--can-die", "all"]).pipes();
    outer.wait_for("| up");
    let outermost = ["--socket", &stack.socket().display().to_string()].map(str::to_owned);
    let tell = |words: &[&str]| {
        let words: Vec<&str> = words.iter().copied().chain(outermost.iter().map(String::as_str)).collect();
        stack.tells(&words).with_code(0);
    };
    tell(&["kill", "web"]);
    std::fs::write(stack.path().join("Procfile"), "web: exec $LPM start -f second/Procfile\n").expect("ours");
    tell(&["reload"]);
    tell(&["start", "web"]);
    outer.wait_for("| up");
    let inner = stack
        .processes()
        .into_iter()
        .find(|(_, line)| line.contains("second/Procfile") && !line.starts_with("/bin/sh"));
    let inner = process(Pid::from_raw(inner.expect("it runs").0).expect("a pid"));

    let mut by_hand = stack.lpm(&["start", "-f", "first/Procfile"]).pipes();
    by_hand.wait_for("| up");
    let out = by_hand.signal(Signal::TERM).ends_leaving_something().by(Signal::TERM).out;
    assert!(is_alive(&inner), "{out}");
    assert!(!out.contains("cleaned up after"), "{out}");
    outer.stops();
}

#[test]
fn what_both_deaths_left_in_a_given_cgroup_is_removed() {
    if skipped("what_both_deaths_left_in_a_given_cgroup_is_removed") {
        return;
    }
    let stack = Stack::with("given-left", "a: (setsid sleep 1000 &) ; echo up; exec sleep 1001\n");
    let given = Given::new(&stack);
    let mut run = given.start(&stack);
    kill_both(&stack, &mut run);
    assert!(!stack.pids_in("app/a.1").is_empty());
    let mut again = stack.lpm(&["start"]).pipes();
    again.wait_for("cleaned up after pid ").wait_for(" | up");
    assert!(!given.0.join("app").exists());
    again.signal(Signal::TERM).ends_leaving_something().by(Signal::TERM);
    assert_eq!(stack.cgroups(), std::slice::from_ref(&given.0));
}

/// A stack inside of one that died lives on when the next start cleans up after the other.
#[test]
fn a_stack_that_lives_within_what_a_dead_one_left_is_not_touched() {
    if skipped("a_stack_that_lives_within_what_a_dead_one_left_is_not_touched") {
        return;
    }
    let stack = Stack::with("within", "web: exec $LPM start -f inner/Procfile > inner.log\n")
        .file("inner/Procfile", format!("a: {STAYS}\n"))
        .variable("LPM", LPM);
    let mut outer = stack.lpm(&["start"]).pipes();
    // Its output is a file, for that of a pipe whose reader has died would end it.
    let log = stack.path().join("inner.log");
    until("up", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("| up")));
    let lines = stack.processes();
    let inner = lines.iter().find(|(_, line)| line.contains("inner/Procfile")).expect("it runs").0;
    let inner = process(Pid::from_raw(inner).expect("a pid"));
    let supervisor =
        |path: &PathBuf| path.ends_with("supervisor") && !path.to_string_lossy().contains("web.1");
    let of_outer = stack.cgroups().into_iter().find(supervisor).expect("its supervisor");
    let guardian = std::fs::read_to_string(of_outer.join("cgroup.procs")).expect("it is there");
    let guardian = process(Pid::from_raw(guardian.trim().parse().expect("one pid")).expect("a pid"));
    outer.signal(Signal::STOP);
    kill(&guardian);
    outer.signal(Signal::KILL).ends_leaving_something().by(Signal::KILL);

    for _ in 0..2 {
        let mut again =
            stack.shell("echo 'web: echo up; exec sleep 1000' > Procfile; exec $LPM start").pipes();
        again.wait_for("another lpm").wait_for("| up");
        again.signal(Signal::TERM).ends_leaving_something().by(Signal::TERM);
        assert!(is_alive(&inner));
    }
    // Once it has ended, nothing keeps the rest.
    pidfd_send_signal(&inner, Signal::TERM).expect("it is there");
    assert!(wait_readable(&[inner.as_fd()], now() + PATIENCE));
    let mut last = stack.lpm(&["start"]).pipes();
    last.wait_for("| up");
    last.stops();
}

/// Two containers with the same cgroup file system: in both lpm is pid 1, and their `/run` are two.
#[test]
fn pid_1_may_come_twice() {
    let test = "pid_1_may_come_twice";
    if skipped(test) {
        return;
    }
    let unshare = |script: &str| {
        [
            "unshare".to_owned(),
            "-pfm".into(),
            "--kill-child".into(),
            "--mount-proc".into(),
            "sh".into(),
            "-c".into(),
            format!("mount -t tmpfs x /run; {script}"),
        ]
    };
    let can = unshare("true");
    let can = std::process::Command::new(&can[0]).args(&can[1..]).status();
    if !can.is_ok_and(|status| status.success()) {
        return skipped!("{test}: unshare(1) is not allowed to");
    }
    let stack = Stack::with("pid-1-twice", &format!("a: {STAYS}\n"));
    let script = format!("exec {LPM} start");
    let start = || {
        let words = unshare(&script);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut run = stack.program_with(words[0], &words[1..]).pipes();
        run.wait_for(" | up");
        run
    };
    let lpms = || -> Vec<OwnedFd> {
        let own = stack.processes().into_iter().filter(|(_, line)| line.starts_with(&format!("{LPM} start")));
        own.map(|(pid, _)| process(Pid::from_raw(pid).expect("a pid"))).collect()
    };
    let mut first = start();
    let mut second = start();
    let both = lpms();
    assert_eq!(both.len(), 2);
    // One dies with everything in its namespace, the guardian too.
    kill(&both[0]);
    kill(&both[1]);
    first.ends_leaving_something();
    second.ends_leaving_something();
    stack.wait_until_empty();
    assert!(!stack.cgroups().is_empty());

    let mut again = start();
    let trees = stack.cgroups().into_iter().filter(|path| path.parent() == stack::cgroup_mount());
    assert_eq!(trees.count(), 1, "{:#?}", stack.cgroups());
    let lpm = lpms();
    pidfd_send_signal(&lpm[0], Signal::TERM).expect("it is there");
    again.ends();
}

#[test]
fn a_record_that_is_removed_comes_back_and_a_second_start_is_refused() {
    let stack = Stack::with("removed", &format!("a: {STAYS}\n"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    let record = record_of(&stack);
    let before = std::fs::read(&record).expect("it is there");
    std::fs::remove_file(&record).expect("it is ours");
    // The record is looked at when a client calls.
    stack.status(&[]);
    until("put back", || std::fs::read(&record).is_ok_and(|text| text == before));
    let refused = stack.tells(&["start", "-D"]).with_code(1).err;
    assert!(refused.contains("already"), "{refused}");
    run.stops();
}

/// Whether it was called before it was removed, or not.
#[test]
fn a_control_socket_that_is_removed_is_made_again() {
    let stack = Stack::with("socket-removed", &format!("a: {STAYS}\n"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    let socket = stack.socket();
    for _ in 0..2 {
        std::fs::remove_file(&socket).expect("it is ours");
        let refused = stack.tells(&["status"]).with_code(1).err;
        let pid = run.pid().as_raw_pid();
        assert!(refused.contains(&format!("(kill -CONT {pid} has it made again)")), "{refused}");
        run.signal(Signal::CONT);
        until("made again", || socket.exists());
        assert_eq!(stack.status(&["a"])["instances"][0]["state"], "running");
    }
    let out = run.stops().out;
    // Once, not for each time.
    assert_eq!(out.matches("the control socket was removed and is made again").count(), 1, "{out}");
    assert!(!socket.exists(), "the new one goes with the run");
}

/// Any work that lpm has is an occasion to look.
#[test]
fn a_control_socket_is_made_again_when_lpm_wakes() {
    let stack = Stack::with("socket-wakes", &format!("a: {STAYS}\nb: exec sleep 2.5\n"));
    let mut run = stack.lpm(&["start", "--can-die", "b"]).pipes();
    run.wait_for(" | up");
    let socket = stack.socket();
    std::fs::remove_file(&socket).expect("it is ours");
    run.wait_for("exited with code 0");
    until("made again", || socket.exists());
    run.stops();
}

#[test]
fn what_is_in_the_place_of_the_control_socket_stays() {
    let stack = Stack::with("socket-taken", &format!("a: {STAYS}\n"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    let socket = stack.socket();
    std::fs::remove_file(&socket).expect("it is ours");
    std::fs::write(&socket, "precious").expect("ours");
    run.signal(Signal::CONT);
    run.wait_for("the control socket was removed and cannot be made again: ").wait_for("no socket");
    assert_eq!(std::fs::read(&socket).expect("it is there"), b"precious");
    std::fs::remove_file(&socket).expect("it is ours");
    run.signal(Signal::CONT);
    until("made again", || socket.exists());
    run.stops();
}

/// However fast the second one is.
#[test]
fn a_second_start_is_refused_while_the_first_one_cannot_put_its_record_back() {
    let stack = Stack::with("removed-fast", &format!("a: {STAYS}\n"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    let record = record_of(&stack);
    run.signal(Signal::STOP);
    std::fs::remove_file(&record).expect("it is ours");
    let refused = stack.tells(&["start"]).with_code(1).err;
    assert!(refused.contains("runs already"), "{refused}");
    assert!(!record.exists());
    run.signal(Signal::CONT);
    stack.status(&[]);
    until("put back", || record.exists());
    run.stops();
}

/// Without the socket, too, the lock on the tree is left.
#[test]
fn a_second_start_is_refused_by_the_tree_alone() {
    let test = "a_second_start_is_refused_by_the_tree_alone";
    if skipped(test) {
        return;
    }
    let stack = Stack::with("removed-both", &format!("a: {STAYS}\n"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    if stack.pids_in("supervisor").contains(&run.pid()) {
        run.stops();
        return skipped!("{test}: lpm is in its tree here");
    }
    let (record, socket) = (record_of(&stack), stack.socket());
    run.signal(Signal::STOP);
    std::fs::remove_file(&record).expect("it is ours");
    std::fs::remove_file(&socket).expect("it is ours");
    let refused = stack.tells(&["start"]).with_code(1).err;
    assert!(refused.contains("runs already"), "{refused}");
    run.signal(Signal::CONT);
    run.stops();
}

fn record_of(stack: &Stack) -> PathBuf {
    stack.socket().with_extension("json")
}

#[test]
fn a_guardian_is_replaced_however_often_it_is_killed() {
    if !has_cgroups("a_guardian_is_replaced_however_often_it_is_killed") {
        return;
    }
    let stack = Stack::with("guardians", &format!("a: {STAYS}\n"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    let lpm = run.pid();
    let guardian = || stack.pids_in("supervisor").into_iter().find(|&pid| pid != lpm);
    for _ in 0..15 {
        let pid = guardian().expect("one is there");
        kill(&process(pid));
        until("replaced", || guardian().is_some_and(|new| new != pid));
    }
    run.signal(Signal::KILL).ends_leaving_something().by(Signal::KILL);
    stack.wait_until_empty();
    assert_eq!(stack.left(), [] as [String; 0]);
}

#[test]
fn a_guardian_that_is_stopped_is_continued() {
    if !has_cgroups("a_guardian_that_is_stopped_is_continued") {
        return;
    }
    let stack = Stack::with("guardian-stopped", &format!("a: {STAYS}\n"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    pidfd_send_signal(process(stack.guardian(run.pid())), Signal::STOP).expect("it is there");
    run.wait_for("the guardian was stopped");
    run.signal(Signal::KILL).ends_leaving_something().by(Signal::KILL);
    stack.wait_until_empty();
    until("removed", || stack.left().is_empty());
}

#[test]
fn a_tree_that_is_frozen_from_outside_is_thawed() {
    let test = "a_tree_that_is_frozen_from_outside_is_thawed";
    if skipped(test) {
        return;
    }
    let stack = Stack::with("tree-frozen", &format!("a: {STAYS}\n"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    let supervisor = stack.cgroups().into_iter().find(|path| path.ends_with("supervisor")).expect("there");
    let root = supervisor.parent().expect("the root").to_owned();
    if std::fs::read_to_string(supervisor.join("cgroup.procs")).is_ok_and(|text| text.lines().count() > 1) {
        run.stops();
        return skipped!("{test}: lpm is in its tree here");
    }
    std::fs::write(root.join("cgroup.freeze"), "1").expect("it is ours");
    run.wait_for("was frozen");
    run.signal(Signal::KILL).ends_leaving_something().by(Signal::KILL);
    stack.wait_until_empty();
    until("removed", || stack.left().is_empty());
}

/// What lpm writes into its own tree succeeds, and changes nothing while a cgroup above is frozen.
#[test]
fn a_tree_below_a_frozen_cgroup_is_not_said_to_be_thawed() {
    let test = "a_tree_below_a_frozen_cgroup_is_not_said_to_be_thawed";
    if skipped(test) {
        return;
    }
    struct Given(PathBuf);
    impl Drop for Given {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir(&self.0);
        }
    }
    let mount = cgroup_mount().expect("cgroups are there");
    let given = Given(mount.join(format!("lpm-test-given-{}", std::process::id())));
    std::fs::create_dir(&given.0).expect("root may");
    let freeze = |value: &str| std::fs::write(given.0.join("cgroup.freeze"), value).expect("ours");
    let stack = Stack::with("frozen-above", &format!("a: {STAYS}\n"))
        .variable("LPM_CGROUP", given.0.to_str().expect("UTF-8"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    freeze("1");
    run.wait_for("was frozen from outside, the guardian with it, and does nothing until it is thawed");
    freeze("0");
    let out = run.stops().out;
    assert!(!out.contains("and is thawed"), "{out}");
}

/// Neither record nor socket waits for the next start.
#[test]
fn kill_9_of_lpm_leaves_no_record_and_no_socket() {
    if !has_cgroups("kill_9_of_lpm_leaves_no_record_and_no_socket") {
        return;
    }
    let stack = Stack::with("kill-9-files", &format!("a: {STAYS}\n"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    run.signal(Signal::KILL).ends_leaving_something().by(Signal::KILL);
    stack.wait_until_empty();
    until("removed", || stack.left().is_empty());
}

/// The end of an owner does not take its successor's record away.
#[test]
fn an_end_leaves_another_ones_record_alone() {
    let stack = Stack::with("successor", &format!("a: {STAYS}\n"));
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    let record = record_of(&stack);
    run.signal(Signal::STOP);
    std::fs::remove_file(&record).expect("it is ours");
    std::fs::write(&record, "{}").expect("it is ours");
    let successor = std::fs::File::open(&record).expect("it is there");
    successor.lock().expect("it is free");
    run.signal(Signal::CONT).signal(Signal::TERM).ends_leaving_something().by(Signal::TERM);
    assert_eq!(std::fs::read(&record).expect("it is there"), b"{}");
}

/// A place that another user took first is passed over by all commands alike.
#[test]
fn a_squatted_runtime_directory_does_not_cost_the_control() {
    let test = "a_squatted_runtime_directory_does_not_cost_the_control";
    if !is_root() {
        return skipped!("{test}: only root becomes two users");
    }
    const USER: u32 = 62_347;
    struct Squatted([PathBuf; 2]);
    impl Drop for Squatted {
        fn drop(&mut self) {
            self.0.iter().for_each(|path| drop(std::fs::remove_dir_all(path)));
        }
    }
    let squatted = Squatted(["/tmp", "/dev/shm"].map(|parent| format!("{parent}/lpm-{USER}").into()));
    std::fs::create_dir(&squatted.0[0]).expect("it is free");
    let stack = Stack::with("squatted", &format!("a: {STAYS}\n"));
    for path in [stack.path().to_owned(), stack.path().join("Procfile")] {
        std::os::unix::fs::chown(&path, Some(USER), Some(USER)).expect("root may");
    }
    let (user, group) = (format!("--reuid={USER}"), format!("--regid={USER}"));
    let lpm = |arguments: &[&str]| {
        let words = [&user, &group, "--clear-groups", "env", "-u", "XDG_RUNTIME_DIR", LPM];
        let words: Vec<&str> = words.into_iter().chain(arguments.iter().copied()).collect();
        stack.program_with("setpriv", &words).pipes()
    };
    let mut run = lpm(&["start"]);
    run.wait_for(" | up");
    let said = format!("warning: /tmp/lpm-{USER}: belongs to uid 0, not to us; using /dev/shm/lpm-{USER}");
    assert!(run.out().contains(&said), "{}", run.out());
    let names = |ended: stack::Ended| ended.with_code(0).out;
    assert!(names(lpm(&["status"]).ends_leaving_something()).contains("a.1"));
    // Also after the place is free again.
    std::fs::remove_dir(&squatted.0[0]).expect("root may");
    assert!(names(lpm(&["status"]).ends_leaving_something()).contains("a.1"));
    let refused = lpm(&["start"]).ends_leaving_something();
    assert!(refused.err.contains("runs already as pid"), "{} {}", refused.out, refused.err);
    lpm(&["down"]).ends_leaving_something().with_code(0);
    run.ends();
    assert_eq!(std::fs::read_dir(&squatted.0[1]).expect("it is there").count(), 0);
}

/// What cannot be removed at the end is not forgotten, and nothing false is said of it.
#[test]
fn without_descriptors_at_the_end_the_record_stays() {
    let test = "without_descriptors_at_the_end_the_record_stays";
    if skipped(test) {
        return;
    }
    if !std::process::Command::new("strace").arg("-V").output().is_ok_and(|output| output.status.success()) {
        return skipped!("{test}: needs strace");
    }
    let stack = Stack::with("no-descriptors", "a: true\n");
    let traced = |options: &[&str]| {
        let words = ["-o", "trace", "-e", "trace=openat,openat2"].into_iter();
        let words: Vec<&str> = words.chain(options.iter().copied()).chain([LPM, "start"]).collect();
        let ended = stack.program_with("strace", &words).pipes().ends_leaving_something();
        (ended, std::fs::read_to_string(stack.path().join("trace")).expect("it was traced"))
    };
    let (_, trace) = traced(&[]);
    assert_eq!(stack.left(), [] as [String; 0]);
    let opens: Vec<&str> = trace.lines().filter(|line| line.starts_with("openat")).collect();
    // The take-down begins with a look at `app`, after the last words of the guardian.
    let last = opens.len();
    for from in [last - 2, last - 5] {
        let (ended, _) = traced(&["-e", &format!("inject=openat:error=EMFILE:when={from}+")]);
        assert!(!ended.err.contains("cannot be killed"), "{}", ended.err);
        let cgroups = stack.cgroups();
        let record = stack.left().iter().any(|left| left.starts_with("record "));
        assert!(cgroups.is_empty() || record, "{from}: {:#?}\n{}", stack.left(), ended.err);
        let mut again = stack.lpm(&["start"]).pipes();
        again.ends().with_code(0);
    }
}
