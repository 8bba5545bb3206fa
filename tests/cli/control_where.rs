//! Which running stack is meant, where its socket is, and whose it is.

use rustix::process::Signal;

use crate::control::{STAYS, pids, up};
use crate::stack::{Stack, has_cgroups};
use crate::starting::lines_of;
use crate::varlink::Varlink;

/// What a command says that finds no stack: of others that happen to run, nothing.
fn own(stack: &Stack, text: &str) -> String {
    let others = |line: &&str| !line.starts_with("lpm:   ") || line.contains(stack.mark());
    stack.normal(&text.lines().filter(others).map(|line| format!("{line}\n")).collect::<String>())
}

#[test]
fn the_stack_of_the_directory_and_of_those_below_it() {
    let stack = Stack::with("below", &format!("web: {STAYS}\n")).file("a/b/.keep", "");
    let mut run = up(&stack, &[], 1);
    let asked = |script: &str| stack.shell(script).pipes().ends_leaving_something();
    for script in [
        "lpm stop",
        "cd a/b; lpm stop",
        "cd a; lpm stop --procfile ../Procfile",
        "cd /; lpm stop -d \"$HOME\"",
        "cd /; lpm stop --procfile \"$HOME/Procfile\"",
        "cd /; LPM_PROCFILE=\"$HOME/Procfile\" lpm stop",
        "cd /; lpm stop --name \"$CLI_TEST\"",
        "cd /; LPM_NAME=\"$CLI_TEST\" lpm stop",
    ] {
        assert_eq!(asked(script).with_code(0).out, "stopped web.1\n", "{script}");
    }
    let socket = stack.socket();
    let shown = socket.display();
    for script in [
        format!("cd /; lpm stop --socket {shown}"),
        format!("cd /; lpm stop -s {shown}"),
        format!("cd /; LPM_SOCKET={shown} lpm stop"),
        format!("cd $(dirname {shown}); lpm stop -s $(basename {shown})"),
    ] {
        assert_eq!(asked(&script).with_code(0).out, "stopped web.1\n", "{script}");
    }
    let elsewhere = asked("mkdir other; cd /; lpm stop").with_code(1).err;
    let lines = own(&stack, &elsewhere);
    assert_eq!(
        lines.replace(&stack.normal(&socket.display().to_string()), "SOCKET"),
        "lpm: no stack runs here; running elsewhere:\n\
         lpm:   DIR (pid N) in DIR: --socket SOCKET\n\
         lpm: name one: --name NAME, --socket PATH, or go to its directory\n"
    );
    let nobody = asked("lpm stop --name nobody-is-called-that").with_code(1).err;
    assert!(nobody.starts_with("lpm: no stack called nobody-is-called-that runs; "), "{nobody}");
    run.stops();
    let nobody = asked(&format!("lpm stop -s {shown}")).with_code(1).err;
    assert_eq!(nobody, format!("lpm: {shown}: no stack listens there (lpm list shows what runs)\n"));
}

/// `down` beside one's own Procfile must not take down the one above.
#[test]
fn a_directory_with_a_procfile_of_its_own_is_not_its_parents() {
    let procfile = format!("web: {STAYS}\n");
    let stack =
        Stack::with("nested", &procfile).file("inner/Procfile", &procfile).file("inner/deep/.keep", "");
    let mut outer = up(&stack, &[], 1);
    let asked = |script: &str| stack.shell(script).pipes().ends_leaving_something();
    let refused = asked("cd inner; lpm down").with_code(1).err;
    assert!(refused.starts_with("lpm: no stack runs here; "), "{refused}");
    let mut inner = stack.shell("cd inner; exec $LPM start").pipes();
    inner.wait_for(" | up");
    // The innermost is meant.
    asked("cd inner/deep; lpm down").with_code(0);
    inner.ends_leaving_something().with_code(0);
    assert!(!outer.has_ended());
    // Another Procfile in the same root is the one stack there.
    outer.stops();
    let mut other = stack.shell("mv Procfile other; cp other Procfile; exec $LPM start -f other").pipes();
    other.wait_for(" | up");
    asked("lpm down").with_code(0);
    other.ends().with_code(0);
}

#[test]
fn two_stacks_of_one_name_are_told_apart() {
    let procfile = format!("web: {STAYS}\n");
    let stack = Stack::new("twins").file("a/Procfile", &procfile).file("b/Procfile", &procfile);
    let start = |directory: &str| {
        let mut run = stack.shell(&format!("cd {directory}; exec $LPM start --name \"$CLI_TEST\"")).pipes();
        run.wait_for(" | up");
        run
    };
    let (mut a, mut b) = (start("a"), start("b"));
    let asked = |script: &str| stack.shell(script).pipes().ends_leaving_something();
    let refused = own(&stack, &asked("lpm stop --name \"$CLI_TEST\"").with_code(1).err);
    let lines: Vec<&str> = refused.lines().collect();
    assert_eq!(lines[0], "lpm: more than one is meant:", "{refused}");
    assert!(lines[1].starts_with("lpm:   DIR (pid N) in DIR/a: --socket "), "{refused}");
    assert!(lines[2].starts_with("lpm:   DIR (pid N) in DIR/b: --socket "), "{refused}");
    let list = asked("lpm list").with_code(0).out;
    assert_eq!(list.lines().filter(|line| line.contains(stack.mark())).count(), 2, "{list}");
    asked("cd a; lpm down").with_code(0);
    a.ends_leaving_something().with_code(0);
    asked("lpm down --name \"$CLI_TEST\"").with_code(0);
    b.ends().with_code(0);
}

#[test]
fn a_socket_that_was_named() {
    let stack = Stack::with("named", &format!("web: {STAYS}\n")).file("file", "precious");
    let mut run = up(&stack, &["-s", "here.sock"], 1);
    let place = stack.path().join("here.sock");
    assert_eq!(stack.socket().canonicalize().expect("it is there"), place.canonicalize().expect("so it is"));
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&place).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(stack.tells(&["stop"]).with_code(0).out, "stopped web.1\n", "found by its record");
    let refused = |arguments: &[&str]| {
        let mut all = vec!["start", "--name", "another"];
        all.extend(arguments);
        let ended = stack.tells(&all).with_code(1);
        assert_eq!(ended.out, "", "nothing was started");
        stack.normal(&ended.err)
    };
    assert_eq!(
        refused(&["-s", "here.sock"]),
        "lpm: DIR/here.sock: another process listens there (name another one: --socket PATH)\n"
    );
    assert_eq!(
        refused(&["-s", "file"]),
        "lpm: DIR/file: is there already and no socket (name another one: --socket PATH)\n"
    );
    assert_eq!(std::fs::read(stack.path().join("file")).expect("it is there"), b"precious");
    let long = "x".repeat(120);
    assert_eq!(
        refused(&["-s", &long]),
        format!(
            "lpm: DIR/{long}: is too long for a socket, whose path may have 107 bytes (name a shorter one: \
             --socket PATH)\n"
        )
    );
    let nowhere = refused(&["-s", "nowhere/x.sock"]);
    assert!(nowhere.contains("nowhere/x.sock: the control socket cannot be made: "), "{nowhere}");
    run.stops();
    assert!(!place.exists());
    drop(run);
    // The variable says the same, and is for lpm alone.
    let stack = stack.variable("LPM_SOCKET", place.as_os_str());
    std::fs::write(stack.path().join("Procfile"), format!("web: echo \"[$LPM_SOCKET]\"; {STAYS}\n"))
        .expect("ours");
    let mut run = up(&stack, &[], 1);
    assert!(place.exists());
    assert_eq!(
        stack.shell("cd /; lpm stop").pipes().ends_leaving_something().with_code(0).out,
        "stopped web.1\n"
    );
    assert_eq!(lines_of("web.1", &run.stops().out)[1], "[]");
}

#[test]
fn after_lpm_and_its_guardian_were_killed_the_next_start_just_works() {
    if !has_cgroups("after_lpm_and_its_guardian_were_killed_the_next_start_just_works") {
        return;
    }
    let stack = Stack::with("both-killed", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    let (socket, lpm) = (stack.socket(), run.pid());
    let guardian = stack.guardian(lpm);
    // lpm replaces a guardian that dies: it must not come to that.
    rustix::process::kill_process(lpm, Signal::STOP).expect("it is ours");
    rustix::process::kill_process(guardian, Signal::KILL).expect("it is ours");
    run.signal(Signal::KILL).ends_leaving_something().by(Signal::KILL);
    assert!(socket.exists(), "a dead owner's socket");
    let refused = stack.tells(&["status"]).with_code(1).err;
    assert!(refused.starts_with("lpm: no stack runs here"), "{refused}");
    let mut run = up(&stack, &[], 1);
    assert!(run.out().contains("cleaned up after pid "), "{}", run.out());
    assert_eq!(pids(&stack.status(&[])).len(), 1);
    run.stops();
}

#[test]
fn an_lpm_that_is_stopped_is_not_waited_for() {
    let stack = Stack::with("stopped", &format!("web: trap '' TERM; {STAYS}\n"));
    let mut run = up(&stack, &["-t", "60"], 1);
    let (socket, lpm) = (stack.socket(), run.pid());
    // It may be stopped at any time, also while something is waited for.
    let mut waiting = stack.lpm(&["stop", "web"]).pipes();
    run.wait_for("stopping on request");
    rustix::process::kill_process(lpm, Signal::STOP).expect("it is ours");
    let pid = lpm.as_raw_pid();
    let stopped =
        format!("lpm: lpm (pid {pid}) is stopped (Ctrl-Z) and answers nobody: fg there, or kill -CONT {pid}");
    let asked = waiting.ends_leaving_something().with_code(1).err;
    assert_eq!(asked, format!("{stopped}; what was asked may be done when it goes on\n"));
    let socket = socket.to_str().expect("UTF-8");
    for arguments in [
        &["status"][..],
        &["down"],
        &["restart", "web"],
        &["start", "web"],
        &["logs", "--follow"],
        &["status", "--socket", socket],
    ] {
        let ended = stack.tells(arguments).with_code(1);
        assert_eq!((ended.out.as_str(), ended.err), ("", format!("{stopped}\n")), "{arguments:?}");
    }
    let list = stack.tells(&["list"]).with_code(0).out;
    let line = list.lines().find(|line| line.contains(stack.mark())).expect("it is listed");
    assert!(line.contains(" stopped "), "{line}");
    rustix::process::kill_process(lpm, Signal::CONT).expect("it is ours");
    assert_eq!(stack.status(&[])["stack"]["state"], "up");
    stack.tells(&["kill", "web"]).with_code(0);
    run.stops();
}

#[test]
fn only_who_may_control_the_stack_is_told_where() {
    let procfile = format!("web: echo \"[$LPM_SOCKET]\"; {STAYS}\nadmin: \"$BIN\" stop web; \"$BIN\" down\n");
    let stack = Stack::with("children", &procfile).variable("BIN", crate::stack::LPM);
    let stack = stack
        .file("lpm.toml", "[process.admin]\ncontrol = true\ncan-die = true\nworking-directory = \"/\"\n");
    let mut run = up(&stack, &["web"], 1);
    assert_eq!(lines_of("web.1", &run.out())[1], "[]");
    assert_eq!(pids(&stack.status(&[])).len(), 1);
    stack.lpm(&["start", "admin"]).pipes().ends_leaving_something();
    let ended = run.ends().with_code(0);
    assert_eq!(lines_of("admin.1", &ended.out)[1], "stopped web.1");
}

#[test]
fn a_stack_on_standard_input_can_be_asked_too() {
    let stack = Stack::new("stdin");
    let mut run = stack.lpm(&["start", "-f", "-"]).stdin(format!("web: {STAYS}\n")).pipes();
    run.wait_for(" | up");
    assert_eq!(stack.tells(&["restart", "web"]).with_code(0).out, "restarted web.1\n");
    assert_eq!(stack.tells(&["scale", "web=2"]).with_code(0).out, "+ web.2\n");
    assert_eq!(stack.tells(&["reload"]).with_code(0).out, "nothing changed\n");
    run.stops();
}

/// A one-off command runs beside the stack and is nobody's stack.
#[test]
fn a_one_off_command_cannot_be_asked() {
    let stack = Stack::with("one-off", "web: x\n");
    let mut run = stack.lpm(&["run", "echo up; exec sleep 1000"]).pipes();
    run.wait_for("up");
    let refused = stack.tells(&["down"]).with_code(1).err;
    assert!(refused.starts_with("lpm: no stack runs here"), "{refused}");
    run.signal(Signal::TERM).ends();
}

#[test]
fn the_server_waits_for_the_first_client() {
    let stack = Stack::with("threads", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    let of = |what: &str| format!("/proc/{}/{what}", run.pid().as_raw_pid());
    let entries = |what: &str| std::fs::read_dir(of(what)).expect("it runs").flatten();
    let threads = || {
        let names = entries("task").filter_map(|one| std::fs::read_to_string(one.path().join("comm")).ok());
        names.filter(|name| name == "lpm-control\n" || name == "lpm-reader\n").count()
    };
    let polls = || {
        let files = entries("fd").filter_map(|one| std::fs::read_link(one.path()).ok());
        files.filter(|file| file.ends_with("anon_inode:[eventpoll]")).count()
    };
    // The threads are there, for at the limit of processes none could be made.
    // A thread has the name of its process until it takes its own.
    crate::detached::until("both threads have their names", || (threads() == 2).then_some(()));
    let before = polls();
    let mut client = Varlink::connect(&stack.socket());
    assert!(client.call("Status", serde_json::json!({}))["error"].is_null());
    assert!(threads() == 2 && polls() > before, "a server that is not asked polls nothing");
    run.stops();
}
