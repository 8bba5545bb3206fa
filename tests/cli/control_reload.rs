//! Changes of a running stack that meet something under way: a port that is still in use, a stop that is not over,
//! a client that does not stay, a limit of the kernel's.

use serde_json::json;

use crate::control::{STAYS, field, pid, pids, up};
use crate::stack::{LPM, Stack};
use crate::starting::lines_of;
use crate::varlink::{Varlink, call, message};

/// Holds its port like a server does: whoever comes before the last one left ends. It leaves when `go` is there.
const SERVES: &str = "mkdir port-$PORT || { echo in use; exit 1; }; \
                      trap 'echo stopping; until [ -e go ]; do sleep 0.01; done; rmdir port-$PORT; exit' TERM; \
                      echo up; sleep 1000 & wait";

/// Says something when asked to by a signal.
const SPEAKS: &str = "trap 'echo said' USR1; echo up; while :; do sleep 1000 & wait $!; done";

fn write(stack: &Stack, path: &str, text: &str) {
    std::fs::write(stack.path().join(path), text).expect("it can be written");
}

fn names(stack: &Stack) -> Vec<String> {
    pids(&stack.status(&[])).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_port_that_moves_is_taken_when_it_is_free() {
    let stack = Stack::with("ports-move", &format!("web: {SERVES}\n"));
    let mut run = up(&stack, &[], 1);
    write(&stack, "Procfile", &format!("api: {SERVES}\nweb: {SERVES}\n"));
    let mut reload = stack.lpm(&["reload"]).pipes();
    run.wait_for("| stopping");
    write(&stack, "go", "");
    let told = reload.ends_leaving_something().with_code(0).out;
    assert!(told.contains("+ api.1") && told.contains("~ web.1"), "{told}");
    run.wait_for(" | up").wait_for(" | up");
    assert_eq!((field(&stack, "api", "port"), field(&stack, "web", "port")), (json!(5000), json!(5100)));
    let out = run.stops().out;
    assert!(!out.contains("in use"), "{out}");
}

#[test]
fn who_waits_for_a_port_can_be_stopped() {
    let stack = Stack::with("ports-wait", &format!("web: {SERVES}\n"));
    let mut run = up(&stack, &[], 1);
    write(&stack, "Procfile", &format!("api: {SERVES}\nweb: {SERVES}\n"));
    let mut reload = stack.lpm(&["reload"]).pipes();
    run.wait_for("| stopping");
    assert_eq!(field(&stack, "api", "state"), "starting");
    stack.tells(&["stop", "api"]).with_code(0);
    assert_eq!(field(&stack, "api", "state"), "inactive");
    write(&stack, "go", "");
    reload.ends_leaving_something();
    run.wait_for("web.1  | up");
    assert_eq!(names(&stack), ["web.1"]);
    run.stops();
}

#[test]
fn a_stack_does_not_grow_beyond_its_open_files() {
    let stack = Stack::with("files", &format!("web: {STAYS}\n"));
    let mut run = stack.shell(&format!("ulimit -n 90; exec {LPM} start")).pipes();
    run.wait_for(" | up");
    let before = pid(&stack, "web");
    let ended = stack.tells(&["scale", "web=40"]).with_code(1);
    assert!(ended.err.contains("open files are needed for this stack and 90 are allowed"), "{}", ended.err);
    assert!(ended.err.contains("ulimit -n"), "{}", ended.err);
    assert_eq!(pids(&stack.status(&[])), [("web.1".to_owned(), before)], "nothing was changed");
    stack.tells(&["scale", "web=4"]).with_code(0);
    assert_eq!(names(&stack), ["web.1", "web.2", "web.3", "web.4"]);
    run.stops();
}

#[test]
fn a_reload_sees_what_a_restart_of_others_has_read() {
    let says = "echo \"A=$A\"; echo up; exec sleep 1000";
    let stack = Stack::with("reload-env", &format!("web: {says}\nworker: {says}\n"))
        .file(".env", "A=one\nPORT=5000\n");
    let mut run = up(&stack, &[], 2);
    write(&stack, ".env", "A=two\nPORT=6000\n");
    stack.tells(&["restart", "web"]).with_code(0);
    let ports = || (field(&stack, "web", "port"), field(&stack, "worker", "port"));
    assert_eq!(ports(), (json!(6000), json!(5100)), "each has what it was born with");
    let told = stack.tells(&["reload"]).with_code(0).out;
    assert!(told.contains("worker.1") && !told.contains("web.1"), "{told}");
    run.wait_for("worker.1 | A=two");
    assert_eq!(ports(), (json!(6000), json!(6100)));
    assert_eq!(stack.tells(&["reload"]).with_code(0).out, "nothing changed\n");
    run.stops();
}

#[test]
fn a_reload_does_not_start_what_is_being_stopped() {
    let stack = Stack::with("reload-stop", &format!("web: {SERVES}\nworker: {STAYS}\n"));
    let mut run = up(&stack, &[], 2);
    let mut stop = stack.lpm(&["stop", "web"]).pipes();
    run.wait_for("| stopping");
    write(&stack, "Procfile", &format!("web: true; {SERVES}\nworker: {STAYS}\n"));
    stack.tells(&["reload"]).with_code(0);
    write(&stack, "go", "");
    stop.ends_leaving_something().with_code(0);
    assert_eq!(names(&stack), ["worker.1"]);
    stack.tells(&["start", "web"]).with_code(0);
    let command = field(&stack, "web", "command");
    assert!(command.as_str().is_some_and(|text| text.starts_with("true; ")), "{command}");
    run.stops();
}

#[test]
fn an_order_is_carried_out_whether_or_not_its_client_stays() {
    let stack = Stack::with("leave", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    for (method, parameters) in [
        ("Scale", json!({ "counts": { "web": 2 } })),
        ("Restart", json!({ "names": ["web.1"] })),
        ("Set", json!({ "name": "web", "settings": { "timeout-stop": "7s" } })),
        ("Reload", json!({})),
    ] {
        write(&stack, "Procfile", &format!("web: {STAYS}\nadded: {STAYS}\n"));
        Varlink::connect(&stack.socket()).send(call(method, parameters));
    }
    run.wait_for("web.1  | up").wait_for_all(&["web.2  | up", "added.1 | up"]);
    run.stops();
}

#[test]
fn who_cannot_take_part_keeps_nobody_from_it() {
    let stack = Stack::with("able", &format!("web: {STAYS}\nonce: until [ -e go ]; do sleep 0.01; done\n"));
    let mut run = up(&stack, &["--can-die", "once"], 1);
    write(&stack, "go", "");
    run.wait_for("once.1 | exited");
    assert_eq!(stack.tells(&["freeze"]).with_code(0).out, "frozen web.1\n");
    assert_eq!(stack.tells(&["thaw"]).with_code(0).err, "");
    assert_eq!(stack.tells(&["signal", "all", "CONT"]).with_code(0).err, "");
    let ended = stack.tells(&["freeze", "once"]).with_code(1);
    assert!(ended.err.contains("once.1"), "{}", ended.err);
    stack.tells(&["scale", "web=2"]).with_code(0);
    run.wait_for("web.2  | up");
    stack.tells(&["scale", "web=1"]).with_code(0);
    let before = pid(&stack, "web.1");
    stack.tells(&["restart", "web*"]).with_code(0);
    assert_ne!(pid(&stack, "web.1"), before);
    run.stops();
}

#[test]
fn what_was_scaled_away_stays_away() {
    let stack = Stack::with("scaled-away", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &["-c", "web=2"], 2);
    stack.tells(&["scale", "web=1"]).with_code(0);
    stack.tells(&["start", "web"]).with_code(0);
    assert_eq!(names(&stack), ["web.1"]);
    let told = stack.tells(&["set", "web", "timeout-stop=3s"]).with_code(0).out;
    assert_eq!(told, "~ web.1  timeout-stop 5s → 3s\n");
    // By its own name it is wanted.
    stack.tells(&["start", "web.2"]).with_code(0);
    assert_eq!(names(&stack), ["web.1", "web.2"]);
    run.stops();
}

#[test]
fn quiet_and_the_exit_code_change_under_what_runs() {
    let stack = Stack::with("quiet-live", &format!("web: {SPEAKS}\nworker: {SPEAKS}\n"));
    let mut run = up(&stack, &[], 2);
    let logged = |count: usize| {
        let out = stack.tells(&["logs", "worker"]).with_code(0).out;
        out.lines().filter(|line| line.ends_with("| said")).count() == count
    };
    stack.tells(&["set", "worker", "quiet=true"]).with_code(0);
    let mut follow = stack.lpm(&["logs", "-f", "worker"]).pipes();
    follow.wait_for("| up");
    stack.tells(&["signal", "worker", "USR1"]).with_code(0);
    follow.wait_for("| said");
    assert!(logged(1), "what is not shown is kept");
    stack.tells(&["signal", "web", "USR1"]).with_code(0);
    run.wait_for("web.1    | said");
    stack.tells(&["set", "worker", "quiet=false"]).with_code(0);
    stack.tells(&["signal", "worker", "USR1"]).with_code(0);
    run.wait_for("worker.1 | said");
    assert!(logged(2));
    write(&stack, "lpm.toml", "[stack]\nexit-code = \"zero\"\n");
    let told = stack.tells(&["reload"]).with_code(0).out;
    assert!(told.contains("exit-code"), "{told}");
    stack.tells(&["signal", "web", "KILL"]).with_code(0);
    let out = run.ends().with_code(0).out;
    assert_eq!(lines_of("worker.1", &out).iter().filter(|line| **line == "said").count(), 1, "{out}");
}

#[test]
fn what_is_gone_from_the_procfile_is_not_known_any_more() {
    let stack = Stack::with("gone", &format!("web: {STAYS}\nold: {STAYS}\n"));
    let mut run = up(&stack, &["-c", "old=2"], 3);
    stack.tells(&["set", "old", "timeout-stop=3s"]).with_code(0);
    write(&stack, "Procfile", &format!("web: {STAYS}\n"));
    stack.tells(&["reload"]).with_code(0);
    for arguments in [&["scale", "old=1"][..], &["set", "old", "timeout-stop=2s"], &["stop", "old"]] {
        let ended = stack.tells(arguments).with_code(1);
        assert!(ended.err.contains("old") && ended.err.contains("web"), "{arguments:?}: {}", ended.err);
    }
    let again = stack.tells(&["reload"]).with_code(0);
    assert_eq!((again.out.as_str(), again.err.as_str()), ("nothing changed\n", ""));
    run.stops();
}

#[test]
fn a_terminal_that_comes_with_the_next_start_is_promised() {
    let stack = Stack::with("set-pty", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    stack.tells(&["set", "web", "pty=true"]).with_code(0);
    assert_eq!(field(&stack, "web", "pty"), false);
    let mut viewer = Varlink::connect(&stack.socket());
    viewer.send(message(&json!({
        "method": "dev.lpm.Supervisor.Attach", "parameters": { "name": "web" }, "upgrade": true
    })));
    let reply = viewer.reply().expect("an answer");
    assert_eq!(reply["error"], "dev.lpm.Supervisor.Unavailable", "{reply}");
    let reason = reply["parameters"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("lpm restart web.1"), "{reason}");
    stack.tells(&["restart", "web"]).with_code(0);
    assert_eq!(field(&stack, "web", "pty"), true);
    run.stops();
}
