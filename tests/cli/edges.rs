//! Odd surroundings: descriptors that are closed or scarce, a runtime directory that is not ours, no cgroups.

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

use crate::control::{STAYS, up};
use crate::stack::{LPM, Stack, has_cgroups, is_root};

const HELLO: &str = "a: echo hello\n";

#[test]
fn standard_streams_may_be_closed() {
    let stack = Stack::with("closed", "a: echo hello > file; echo hello; echo err >&2\n");
    for closed in ["<&-", ">&-", "2>&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"] {
        let ended = stack.shell(&format!("exec $LPM start {closed}")).pipes().ends();
        assert_eq!(ended.code(), 0, "{closed}: {} {}", ended.out, ended.err);
        let file = stack.path().join("file");
        assert_eq!(std::fs::read_to_string(&file).expect("it ran"), "hello\n", "{closed}");
        std::fs::remove_file(&file).expect("it is there");
    }
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let ended = stack.shell(&format!("exec $LPM run 'exit 3' {closed}")).pipes().ends();
        assert_eq!(ended.code(), 3, "{closed}: {} {}", ended.out, ended.err);
    }
}

/// However few there are, lpm runs or says what it lacks, and leaves nothing.
#[test]
fn few_descriptors_end_in_words() {
    let stack = Stack::with("descriptors", "a: echo hello\nb: echo hello\nc: echo hello\n");
    let mut refused = 0;
    for limit in (3..54).chain([100]) {
        let script = format!("ulimit -n {limit}; exec $LPM start --can-die all");
        let ended = stack.shell(&script).pipes().ends();
        // Fewer than the loader needs: lpm never began.
        if ended.err.contains("error while loading shared libraries") || ended.err.contains("Cannot open") {
            continue;
        }
        assert!(!ended.err.contains("panicked"), "{limit}: {}", ended.err);
        let code = ended.code();
        let needed = format!("lpm: 52 open files are needed for this stack and {limit} are allowed (");
        match code {
            0 => assert_eq!(ended.out.matches("| hello").count(), 3, "{limit}: {} {}", ended.out, ended.err),
            1 if ended.err.starts_with(&needed) => refused += 1,
            1 if limit < 8 => assert!(ended.err.ends_with("Too many open files\n"), "{limit}: {}", ended.err),
            code => panic!("{limit}: exit {code}: {} {}", ended.out, ended.err),
        }
    }
    assert!(refused > 30, "{refused}");
}

#[test]
fn without_cgroups_it_is_said_once_and_things_run() {
    let stack =
        Stack::with("no-cgroups", "a: (setsid sleep 1000 &) ; (sleep 1001 &) ; echo up; exec sleep 1000\n");
    let mut run = stack.lpm(&["start"]).variable("LPM_CGROUP", "none").pipes();
    run.wait_for(" | up");
    let ended = run.signal(Signal::INT).ends().by(Signal::INT);
    let said = ended.out.matches("system | no cgroups: ").count();
    assert_eq!(said, 1, "{}", ended.out);
    assert!(ended.out.contains("; containment is best effort (lpm doctor says more)\n"), "{}", ended.out);
}

#[test]
fn without_cgroups_who_ignores_the_signal_is_killed_too() {
    let script =
        "a: trap '' TERM; (trap '' TERM; setsid sh -c 'sleep 1000' &) ; echo up; while :; do sleep 1; done\n";
    let stack = Stack::with("no-cgroups", script);
    let mut run = stack.lpm(&["start", "-t", "300ms"]).variable("LPM_CGROUP", "none").pipes();
    run.wait_for(" | up").signal(Signal::TERM);
    run.ends().by(Signal::TERM);
}

#[test]
fn a_runtime_directory_that_is_open_to_others_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    if is_root() {
        return skipped!("a_runtime_directory_that_is_open_to_others_is_warned_of: root's is in /run");
    }
    let stack = Stack::with("runtime", HELLO);
    let directory = stack.path().join(".run/lpm");
    std::fs::create_dir(&directory).expect("a directory");
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o755)).expect("it is ours");
    let ended = stack.runs(&["start"]).with_code(0);
    let said = stack.normal(&ended.out);
    let wanted = "system | warning: DIR/.run/lpm: is open to others; make it private: chmod 700 DIR/.run/lpm; \
                  using /";
    assert!(said.contains(wanted), "{said}");
    assert!(said.contains("a.1    | hello\n"), "{said}");
}

#[test]
fn a_runtime_directory_behind_a_link_is_not_used() {
    if is_root() {
        return skipped!("a_runtime_directory_behind_a_link_is_not_used: root's is in /run");
    }
    let stack = Stack::with("runtime-link", HELLO);
    std::fs::create_dir(stack.path().join("elsewhere")).expect("a directory");
    std::os::unix::fs::symlink("../elsewhere", stack.path().join(".run/lpm")).expect("a link");
    let ended = stack.runs(&["start"]).with_code(0);
    let said = stack.normal(&ended.out);
    let wanted = "system | warning: DIR/.run/lpm: is not a directory of its own: Not a directory; using /";
    assert!(said.contains(wanted), "{said}");
}

/// A label is only a label.
#[test]
fn any_name_will_do_for_a_stack() {
    let stack = Stack::with("names", HELLO);
    for name in ["../../../x", "a/b", ".", "-x", "ünïcödé", "with blanks", "cgroup.procs", &"x".repeat(300)]
    {
        let name = format!("{name}{}", stack.mark());
        let ended = stack.runs(&["start", &format!("--name={name}")]).with_code(0);
        assert!(ended.out.contains("a.1    | hello\n"), "{name}: {} {}", ended.out, ended.err);
    }
}

#[test]
fn many_instances_at_once() {
    let stack = Stack::with("many", "a: echo hello\n");
    let ended = stack.runs(&["start", "-m", "a=60", "--can-die", "a", "-q"]).with_code(0);
    assert_eq!(ended.out.matches("| hello\n").count(), 60, "{}", ended.out);
}

#[test]
fn a_name_of_the_greatest_length_has_its_leaf() {
    let name = "n".repeat(249);
    let stack = Stack::with("long-name", &format!("{name}: echo hello\n"));
    let ended = stack.runs(&["start"]).with_code(0);
    assert!(ended.out.contains(&format!("{name}.1 | hello\n")), "{}", ended.out);
    let stack = Stack::with("long-name", &format!("{name}n: echo hello\n"));
    let ended = stack.runs(&["start"]).with_code(1);
    assert!(ended.err.starts_with("lpm: Procfile:1: "), "{}", ended.err);
}

#[test]
fn an_orphan_that_is_moved_out_of_its_leaf_is_stopped() {
    if !is_root() || !has_cgroups("an_orphan_that_is_moved_out_of_its_leaf_is_stopped") {
        return skipped!("an_orphan_that_is_moved_out_of_its_leaf_is_stopped: root moves processes");
    }
    let stack =
        Stack::with("moved", "a: mkfifo go; (setsid sh -c 'echo up; read x < go' &) ; exec sleep 1001\n");
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | up");
    let (pid, _) =
        stack.processes().into_iter().find(|(_, line)| line.starts_with("sh -c echo up")).expect("it runs");
    let Some(app) = stack.cgroups().into_iter().find(|path| path.ends_with("app")) else {
        panic!("no app: {:#?}", stack.cgroups())
    };
    let above = app.parent().and_then(|own| own.parent()).expect("it is in a mount");
    std::fs::write(above.join("cgroup.procs"), pid.to_string()).expect("root may");
    let ended = run.signal(Signal::TERM).ends().by(Signal::TERM);
    let said = format!("a.1    | outside its cgroup: {pid} (sh)\n");
    assert!(ended.out.contains(&said), "{}", ended.out);
}

fn pipe_at(stack: &Stack, path: &str) {
    let path = stack.path().join(path);
    let _ = std::fs::remove_file(&path);
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let stack = Stack::with("pipes", &format!("web: {STAYS}\n")).file(".env", "A=1\n").file("lpm.toml", "");
    for (path, hint) in [
        (".env", "name it if it is meant: -e .env"),
        ("lpm.toml", "put a file there, or remove it"),
        ("Procfile", "name it if it is meant: -f Procfile"),
    ] {
        let before = std::fs::read(stack.path().join(path)).expect("it is there");
        pipe_at(&stack, path);
        for command in ["start", "check"] {
            let refused = stack.runs(&[command]).with_code(1).err;
            assert_eq!(refused, format!("lpm: {path}: is a pipe, not a file ({hint})\n"));
        }
        let nobody = stack.runs(&["status"]).with_code(1).err;
        assert!(nobody.starts_with("lpm: no stack runs here"), "{nobody}");
        std::fs::remove_file(stack.path().join(path)).expect("it is ours");
        std::fs::write(stack.path().join(path), before).expect("a file");
    }
    // With /dev/null a file is masked.
    std::fs::remove_file(stack.path().join(".env")).expect("it is ours");
    std::os::unix::fs::symlink("/dev/null", stack.path().join(".env")).expect("a link");

    let mut run = up(&stack, &[], 1);
    pipe_at(&stack, ".env");
    let reason = "lpm: .env: is a pipe, not a file (put a file there, or start the stack again)\n";
    assert_eq!(stack.tells(&["reload"]).with_code(1).err, reason);
    let ended = stack.tells(&["restart", "web"]).with_code(0);
    assert!(
        ended.err.contains("the environment is as it was") && ended.err.ends_with(reason),
        "{}",
        ended.err
    );
    pipe_at(&stack, "lpm.toml");
    let ended = stack.tells(&["set", "web", "restart=always", "--save"]).with_code(1);
    assert!(ended.err.contains("/lpm.toml: is no file; the running stack is changed"), "{}", ended.err);
    assert_eq!(stack.status(&[])["stack"]["state"], "up");
    run.stops();
}

#[test]
fn a_pipe_that_was_named_is_read_once() {
    let stack = Stack::new("named-pipes").file("more.env", "B=1\n");
    let script = format!(
        "exec {LPM} start -f <(echo 'web: echo up $A $B; exec sleep 1000') -d . -e <(echo A=1),more.env"
    );
    let mut run = stack.program_with("bash", &["-c", &script]).pipes();
    run.wait_for(" | up 1 1");
    assert_eq!(stack.tells(&["reload"]).with_code(0).out, "nothing changed\n");
    std::fs::write(stack.path().join("more.env"), "B=2\n").expect("a file");
    assert_eq!(stack.tells(&["restart", "web"]).with_code(0).err, "");
    run.wait_for(" | up 1 2");
    run.stops();
}

#[test]
fn what_lpm_does_can_be_told_in_detail() {
    let stack = Stack::with("debug", "web: echo up\n");
    let ended = stack.lpm(&["start"]).variable("LPM_DEBUG", "trace").pipes().ends().with_code(0);
    for told in [
        "lpm: debug: driver: fact Begin\n",
        "lpm: debug: driver: order Exit",
        "driver::worker: birth instance=",
    ] {
        assert!(ended.err.contains(told), "{told}: {}", ended.err);
    }
    assert!(ended.out.contains("web.1  | up\n") && !ended.out.contains("fact"), "{}", ended.out);
    let ended = stack.lpm(&["start"]).variable("LPM_DEBUG", "loud").pipes().ends().with_code(1);
    assert_eq!(ended.err, "lpm: LPM_DEBUG: \"loud\" is no level (write info, debug or trace)\n");
    assert_eq!(stack.lpm(&["start", "-q"]).variable("LPM_DEBUG", "").pipes().ends().with_code(0).err, "");
}
