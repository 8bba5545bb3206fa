//! The verbs, from another process: each answers when what it asks for is so.
//!
//! What is so is seen from outside: pids, cgroups, output. `status` is believed where it was held against these.

use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::{Value, json};

use crate::snapshot::Snapshot;
use crate::stack::{PATIENCE, Running, Stack, has_cgroups, now};
use crate::starting::lines_of;
use crate::varlink::{Varlink, call, message};

/// A process that says that it is up, and stays.
pub const STAYS: &str = "echo up; exec sleep 1000";

/// Starts it and waits until `count` processes are up.
#[track_caller]
pub fn up<'a>(stack: &'a Stack, arguments: &[&str], count: usize) -> Running<'a> {
    let mut all = vec!["start"];
    all.extend(arguments);
    let mut run = stack.lpm(&all).pipes();
    for _ in 0..count {
        run.wait_for(" | up");
    }
    run
}

/// Names and pids of those that run.
pub fn pids(status: &Value) -> Vec<(String, i32)> {
    let instances = status["instances"].as_array().expect("instances").iter();
    let pid = |one: &Value| Some((one["name"].as_str()?.to_owned(), one["pid"].as_i64()? as i32));
    instances.filter_map(pid).collect()
}

/// The pid of an instance that runs.
#[track_caller]
pub fn pid(stack: &Stack, name: &str) -> i32 {
    let status = stack.status(&[name]);
    pids(&status).first().unwrap_or_else(|| panic!("{name} does not run: {status:#}")).1
}

/// One field of one instance.
#[track_caller]
pub fn field(stack: &Stack, name: &str, field: &str) -> Value {
    stack.status(&[name])["instances"][0][field].clone()
}

pub fn is_there(pid: i32) -> bool {
    test_kill_process(Pid::from_raw(pid).expect("a pid")).is_ok()
}

/// What /proc says that a process is doing: `S`, `T`, ….
fn doing(pid: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('-')
}

/// The kernel tells nobody that a process was stopped by a signal, but its parent.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = now() + PATIENCE;
    while !is_so() {
        assert!(now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Whether every process of the instance stands still.
fn is_frozen(stack: &Stack, name: &str) -> bool {
    match field(stack, name, "cgroup").as_str() {
        Some(leaf) => std::fs::read_to_string(format!("{leaf}/cgroup.events"))
            .expect("the leaf has events")
            .contains("frozen 1"),
        None => doing(pid(stack, name)) == 'T',
    }
}

#[test]
fn a_restart_answers_when_the_new_one_runs_and_the_old_one_is_gone() {
    let stack = Stack::with("restart", &format!("web: {STAYS}\nworker: {STAYS}\n"));
    let mut run = up(&stack, &[], 2);
    let (web, worker) = (pid(&stack, "web"), pid(&stack, "worker"));
    let ended = stack.tells(&["restart", "web"]).with_code(0);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("restarted web.1\n", ""));
    assert!(!is_there(web), "the old one is gone");
    let new = pid(&stack, "web");
    assert!(new != web && is_there(new), "a new one runs");
    assert_eq!(pid(&stack, "worker"), worker, "nobody else was touched");
    let of = |name| field(&stack, "web", name);
    assert_eq!((of("restart_reason"), of("invocation")), (json!("requested"), json!(2)));
    run.wait_for("web.1    | restarting on request");
    run.stops();
}

#[test]
fn a_stop_leaves_no_process_and_never_ends_the_stack() {
    let stack = Stack::with("stop", &format!("web: setsid sh -c '{STAYS}' & {STAYS}\nworker: {STAYS}\n"));
    let mut run = up(&stack, &[], 3);
    let of = |name: &str| {
        let marked = format!("LPM_INSTANCE={name}");
        let processes = stack.processes().into_iter();
        let carries = |pid: i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|pair| pair == marked.as_bytes())
        };
        processes.filter(|(pid, _)| carries(*pid)).count()
    };
    assert_eq!((of("web.1"), of("worker.1")), (2, 1));
    assert_eq!(stack.tells(&["stop", "web"]).with_code(0).out, "stopped web.1\n");
    assert_eq!((of("web.1"), of("worker.1")), (0, 1));
    assert_eq!(field(&stack, "web", "state"), "inactive");
    assert_eq!(field(&stack, "web", "result"), "success");
    assert_eq!(stack.tells(&["stop", "web"]).with_code(0).out, "stopped web.1\n", "it is so already");
    assert_eq!(stack.tells(&["stop"]).with_code(0).out, "stopped web.1, worker.1\n");
    assert!(pids(&stack.status(&[])).is_empty() && !run.has_ended(), "nothing runs, and lpm does");
    let started = format!("running in stack {} (pid {}): web.1\n", stack.mark(), run.pid().as_raw_pid());
    for _ in 0..2 {
        assert_eq!(stack.tells(&["start", "web"]).with_code(0).out, started);
    }
    assert_eq!(pids(&stack.status(&[])).len(), 1);
    assert_eq!(field(&stack, "web", "invocation"), 2, "it was started once");
    run.stops();
}

#[test]
fn a_scale_keeps_names_and_ports() {
    let stack = Stack::with("scale", &format!("web: {STAYS}\nworker: {STAYS}\n"));
    let mut run = up(&stack, &[], 2);
    let worker = pid(&stack, "worker.1");
    assert_eq!(stack.tells(&["scale", "worker=3"]).with_code(0).out, "+ worker.2, worker.3\n");
    let status = stack.status(&["worker"]);
    let three = pids(&status);
    assert_eq!(
        three.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["worker.1", "worker.2", "worker.3"]
    );
    assert_eq!(three[0].1, worker, "the first one was left alone");
    assert!(three.iter().all(|(_, pid)| is_there(*pid)));
    let ports: Vec<i64> =
        status["instances"].as_array().expect("three").iter().filter_map(|i| i["port"].as_i64()).collect();
    assert_eq!(ports, [5100, 5101, 5102]);
    let out = stack.tells(&["scale", "worker=1", "--json"]).with_code(0).out;
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        told["changes"],
        json!([
            { "instance": "worker.2", "kind": "removed", "details": [] },
            { "instance": "worker.3", "kind": "removed", "details": [] },
        ])
    );
    assert!(!is_there(three[1].1) && !is_there(three[2].1) && is_there(worker), "two are gone");
    assert_eq!(stack.tells(&["scale", "worker=1"]).with_code(0).out, "nothing changed\n");
    assert_eq!(stack.tells(&["scale", "worker=2,web=0"]).with_code(0).out, "- web.1\n+ worker.2\n");
    assert_eq!(field(&stack, "worker.2", "port"), 5101);
    run.stops();
}

#[test]
fn what_is_frozen_stands_still_until_it_is_thawed() {
    let stack = Stack::with("freeze", &format!("web: {STAYS}\nworker: {STAYS}\n"));
    let mut run = up(&stack, &[], 2);
    assert_eq!(stack.tells(&["freeze", "web"]).with_code(0).out, "frozen web.1\n");
    assert!(is_frozen(&stack, "web") && !is_frozen(&stack, "worker"));
    assert_eq!(field(&stack, "web", "state"), "frozen");
    stack.tells(&["freeze", "web"]).with_code(0);
    assert_eq!(stack.tells(&["thaw", "web"]).with_code(0).out, "thawed web.1\n");
    until("it goes on", || !is_frozen(&stack, "web"));
    assert_eq!(field(&stack, "web", "state"), "running");
    // One that stands still can be stopped all the same.
    stack.tells(&["freeze"]).with_code(0);
    assert_eq!(stack.tells(&["stop", "web"]).with_code(0).out, "stopped web.1\n");
    assert_eq!(field(&stack, "web", "result"), "success");
    let refused = stack.tells(&["freeze", "web"]).with_code(1).err;
    assert_eq!(refused, "lpm: web.1 does not run (lpm start web.1 would have it run)\n");
    run.stops();
}

#[test]
fn a_kill_asks_nobody() {
    let stack = Stack::with("kill", &format!("deaf: trap '' TERM; {STAYS}\nweb: {STAYS}\n"));
    let mut run = up(&stack, &["-t", "100"], 2);
    let deaf = pid(&stack, "deaf");
    assert_eq!(stack.tells(&["kill", "deaf"]).with_code(0).out, "killed deaf.1\n");
    assert!(!is_there(deaf));
    assert_eq!(field(&stack, "deaf", "state"), "inactive");
    assert_eq!(field(&stack, "deaf", "signal"), "SIGKILL");
    stack.tells(&["kill", "deaf"]).with_code(0);
    run.stops();
}

#[test]
fn a_signal_reaches_every_process_or_the_main_one_alone() {
    let hears = "trap 'echo main heard' HUP; (trap 'echo child heard' HUP; echo up; while :; do sleep 1000 & \
                 wait; done) & echo up; while :; do wait; done";
    let stack = Stack::with("signal", &format!("web: {hears}\n"));
    let mut run = up(&stack, &[], 2);
    assert_eq!(stack.tells(&["signal", "web", "HUP", "--main"]).with_code(0).out, "sent SIGHUP to web.1\n");
    run.wait_for("main heard");
    assert_eq!(stack.tells(&["signal", "web.1", "sighup"]).with_code(0).out, "sent SIGHUP to web.1\n");
    let heard = |run: &Running<'_>| {
        let out = run.out();
        let lines = lines_of("web.1", &out);
        ["main heard", "child heard"].map(|text| lines.iter().filter(|line| **line == text).count())
    };
    while heard(&run) != [2, 1] {
        run.wait_for(" heard");
    }
    run.stops();
}

#[test]
fn who_is_stopped_by_a_signal_stays_stopped() {
    let stack = Stack::with("sigstop", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    let web = pid(&stack, "web");
    stack.tells(&["signal", "web", "STOP"]).with_code(0);
    until("it is stopped", || doing(web) == 'T');
    // Other signals wait until it goes on, and none of lpm's has it go on.
    stack.tells(&["signal", "web", "WINCH"]).with_code(0);
    assert_eq!((doing(web), field(&stack, "web", "state")), ('T', json!("running")));
    stack.tells(&["signal", "web", "CONT"]).with_code(0);
    until("it goes on", || doing(web) != 'T');
    run.stops();
}

#[test]
fn names_are_types_instances_and_patterns() {
    let stack =
        Stack::with("patterns", &format!("web: {STAYS}\nweird: {STAYS}\nworker: {STAYS}\nclock: {STAYS}\n"));
    let mut run = up(&stack, &["-c", "web=2", "web", "weird", "worker"], 4);
    for (names, expected) in [
        (&["we*"][..], "web.1, web.2, weird.1"),
        (&["*.1"], "web.1, weird.1, worker.1"),
        (&["web.?", "worker"], "web.1, web.2, worker.1"),
        (&["all"], "web.1, web.2, weird.1, worker.1"),
        (&[], "web.1, web.2, weird.1, worker.1"),
        (&["worker.1", "web.2", "web.2"], "web.2, worker.1"),
    ] {
        let mut arguments = vec!["thaw"];
        arguments.extend(names);
        let out = stack.tells(&arguments).with_code(0).out;
        assert_eq!(out, format!("thawed {expected}\n"), "{names:?}");
    }
    run.stops();
}

#[test]
fn without_waiting_the_order_is_given_all_the_same() {
    let stack = Stack::with("no-wait", &format!("slow: trap '' TERM; {STAYS}\nweb: {STAYS}\n"));
    let mut run = up(&stack, &["-t", "1"], 2);
    let slow = pid(&stack, "slow");
    assert_eq!(stack.tells(&["stop", "--no-wait", "slow"]).with_code(0).out, "under way for slow.1\n");
    assert_eq!(field(&stack, "slow", "state"), "stop-sigterm");
    assert!(is_there(slow));
    run.wait_for("not gone after 1s, sending SIGKILL");
    // Whoever waits now waits for its end.
    stack.tells(&["stop", "slow"]).with_code(0);
    assert_eq!(field(&stack, "slow", "result"), "timeout");
    let out = stack.tells(&["scale", "--no-wait", "web=2"]).with_code(0).out;
    assert_eq!(out, "+ web.2\n");
    run.wait_for("web.2  | up");
    stack.tells(&["down", "--no-wait"]).with_code(0);
    run.ends().with_code(0);
}

#[test]
fn after_down_it_can_be_started_again_at_once() {
    let stack = Stack::with("down", &format!("web: {STAYS}\n"));
    let mut first = up(&stack, &[], 1);
    let socket = stack.socket();
    assert!(socket.exists());
    let ended = stack.tells(&["down"]).with_code(0);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", ""));
    assert!(!socket.exists());
    assert_eq!(stack.left(), Vec::<String>::new());
    let mut second = up(&stack, &[], 1);
    let out = first.ends_leaving_something().with_code(0).out;
    assert!(out.contains("system | shutdown requested\n"), "{out}");
    second.stops();
}

/// Nobody reads what lpm prints, so that its last lines never leave it.
#[test]
fn down_waits_for_lpm_and_followers_for_the_last_reply_when_the_output_is_stuck() {
    let stack = Stack::with("stuck", "web: echo up; exec yes\n");
    let mut run = up(&stack, &[], 1);
    let socket = stack.socket();
    let mut follower = Varlink::connect(&socket);
    let follow = json!({
        "method": "dev.lpm.Supervisor.Events", "parameters": { "follow": true }, "more": true,
    });
    assert!(follower.send(message(&follow)));
    let ended = stack.tells(&["down"]).with_code(0);
    assert!(run.has_ended(), "lpm is gone when down comes back");
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", ""));
    assert_eq!(stack.left(), Vec::<String>::new());
    let mut last = None;
    while let Some(reply) = follower.reply() {
        last = Some(reply);
    }
    let last = last.expect("events");
    assert!(last["continues"].is_null() && last["parameters"]["event"].is_null(), "{last}");
    run.ends();
}

/// A reply is on its way when lpm is about to end.
#[test]
fn everybody_who_asked_for_the_end_hears_of_it() {
    // It ends when all have asked.
    let slow =
        "trap 'until [ -e go ]; do sleep 0.02; done; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let stack = Stack::with("all-down", &format!("web: {slow}\n"));
    let mut run = up(&stack, &[], 1);
    let socket = stack.socket();
    let mut clients: Vec<Varlink> = (0..60).map(|_| Varlink::connect(&socket)).collect();
    for client in &mut clients {
        client.send(call("Down", json!({})));
    }
    stack.tells(&["status"]).with_code(0);
    std::fs::write(stack.path().join("go"), "").expect("the folder is ours");
    for (at, client) in clients.iter_mut().enumerate() {
        let reply = client.reply().unwrap_or_else(|| panic!("client {at} heard nothing"));
        // Whoever was read last came when all was over.
        let late = json!("dev.lpm.Supervisor.ShuttingDown");
        assert!(reply["error"].is_null() || reply["error"] == late, "{reply}");
        assert_eq!(client.reply(), None);
    }
    run.ends().with_code(0);
}

#[test]
fn a_second_start_is_refused_and_names_the_first() {
    let stack = Stack::with("second", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    let refused = stack.tells(&["start"]).with_code(1).err;
    assert!(refused.contains(&format!("runs already as pid {}, ", run.pid().as_raw_pid())), "{refused}");
    run.stops();
}

#[test]
fn start_with_names_goes_into_the_stack_that_runs() {
    let stack = Stack::with("into", &format!("web: {STAYS}\noff: {STAYS}\nclock: {STAYS}\n"));
    let mut run = up(&stack, &["web"], 1);
    let lpm = run.pid().as_raw_pid();
    let into = |what: &str| format!("running in stack {} (pid {lpm}): {what}\n", stack.mark());
    assert_eq!(stack.tells(&["start", "off"]).with_code(0).out, into("off.1"));
    assert_eq!(field(&stack, "off", "port"), 5100, "as if it had been there from the start");
    assert_eq!(stack.tells(&["start", "web.3"]).with_code(0).out, into("web.3"));
    assert_eq!(field(&stack, "web.3", "port"), 5002);
    let names = || pids(&stack.status(&[])).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(), ["web.1", "web.3", "off.1"]);
    // Who was not asked for is not there, and nobody brings it in by the way.
    for arguments in [&["set", "off", "timeout-stop=4s"][..], &["reload"], &["scale", "off=1"]] {
        let out = stack.tells(arguments).with_code(0).out;
        assert!(!out.contains("web.2"), "{arguments:?}: {out}");
        assert_eq!(names(), ["web.1", "web.3", "off.1"], "{arguments:?}");
    }
    assert_eq!(stack.tells(&["start", "web.2"]).with_code(0).out, into("web.2"));
    assert_eq!(stack.tells(&["stop", "web.2", "web.3"]).with_code(0).out, "stopped web.2, web.3\n");
    assert_eq!(stack.tells(&["scale", "web=1"]).with_code(0).out, "- web.2, web.3\n");
    assert_eq!(stack.tells(&["start", "web.3"]).with_code(0).out, into("web.3"));
    assert_eq!(stack.tells(&["scale", "web=3"]).with_code(0).out, "+ web.2\n", "a count counts it in");
    assert_eq!(names(), ["web.1", "web.2", "web.3", "off.1"]);
    run.stops();
}

#[test]
fn start_into_a_stack_that_runs_drops_no_option() {
    let stack = Stack::with("too-late", &format!("web: {STAYS}\noff: {STAYS}\n"));
    let mut run = up(&stack, &["web"], 1);
    let mut text = Snapshot::new("start-late.txt");
    let mut add = |arguments: &[&str]| {
        let mut all = vec!["start", "off"];
        all.extend(arguments);
        let ended = stack.tells(&all).with_code(1);
        text.add(&all.join(" "), &stack.normal(&format!("{}{}", ended.out, ended.err)));
    };
    add(&["--mem", "64M", "-e", "nosuch.env", "-D"]);
    add(&["--mem", "web=1G,off=2G", "-t", "1min 30s", "--pty", "--can-die", "off", "--restart", "always"]);
    add(&["-m", "off=2", "-c", "web=1,off=3", "--stack-mem", "1G", "--stack-cpu", "2", "--stack-tasks", "9"]);
    add(&[
        "-p",
        "4000",
        "-P",
        "10",
        "--instance-port-step",
        "2",
        "-N",
        "--env-precedence",
        "file",
        "--expand-env",
    ]);
    add(&[
        "-q",
        "off",
        "--no-prefix",
        "--no-timestamp",
        "--color",
        "never",
        "--split-stderr",
        "--summary",
        "s",
    ]);
    add(&["--socket", "elsewhere", "--limits", "strict", "--exit-code", "worst"]);
    text.assert();
    assert_eq!(pids(&stack.status(&[])).len(), 1, "nothing was started");

    // Variables stand there for every start.
    let launch =
        stack.lpm(&["start", "off", "--json"]).variable("LPM_MEM", "64M").variable("LPM_COLOR", "never");
    let ended = launch.pipes().ends_leaving_something().with_code(0);
    let lpm = run.pid().as_raw_pid();
    let said = format!("lpm: stack {} runs already (pid {lpm}); not looked at: LPM_MEM\n", stack.mark());
    assert_eq!(ended.err, said);
    assert_eq!(serde_json::from_str::<Value>(&ended.out).expect("JSON"), json!({ "instances": ["off.1"] }));
    let said = format!("under way in stack {} (pid {lpm}): off.1\n", stack.mark());
    assert_eq!(stack.tells(&["start", "off", "--no-wait"]).with_code(0).out, said);
    run.stops();
    let refused = stack.runs(&["start", "off", "--json"]).with_code(1).err;
    assert_eq!(refused, "lpm: --json: only for what starts in a stack that runs, and this one does not\n");
}

#[test]
fn during_the_tear_down_nothing_is_begun() {
    let stack = Stack::with("tear-down", &format!("slow: trap '' TERM; {STAYS}\nweb: {STAYS}\noff: x\n"));
    let mut run = up(&stack, &["-t", "100", "slow", "web"], 2);
    let slow = pid(&stack, "slow");
    let mut waiting = stack.lpm(&["down"]).pipes();
    run.wait_for("shutdown requested");
    assert_eq!(stack.status(&[])["stack"]["state"], "tear-down");
    for arguments in [
        &["start", "web"][..],
        &["start", "off"],
        &["restart"],
        &["scale", "web=2"],
        &["set", "web", "timeout-stop=1"],
        &["reload"],
        &["freeze", "slow"],
    ] {
        let ended = stack.tells(arguments);
        let refused = (ended.status.code(), ended.err.as_str());
        assert_eq!(refused, (Some(1), "lpm: the stack is being torn down\n"), "{arguments:?}");
    }
    assert!(is_there(slow));
    rustix::process::kill_process(Pid::from_raw(slow).expect("a pid"), Signal::KILL).expect("it is ours");
    waiting.ends().with_code(0);
    run.ends().with_code(0);
}

#[test]
fn what_fails_says_why() {
    let procfile = format!(
        "web: {STAYS}\nonce: [ -e once ] || {{ touch once; exit 3; }}; {STAYS}\nwaits: exit 4\nfails: exit 5\n\
         hits: exit 6\n"
    );
    let manifest = "[defaults]\ncan-die = true\n[process.once]\nrestart = \"always\"\nrestart-sec = \"0ms\"\n\
                    [process.waits]\nrestart = \"on-failure\"\nrestart-sec = \"1h\"\n\
                    restart-max-delay-sec = \"1h\"\n\
                    [process.hits]\nrestart = \"always\"\nrestart-sec = \"0ms\"\nstart-limit-burst = 2\n";
    let stack = Stack::with("failures", &procfile).file("lpm.toml", manifest);
    let mut run = up(&stack, &[], 2);
    // Each of them has come to rest by its own last line.
    let mut events = Varlink::connect(&stack.socket());
    events.send(crate::varlink::message(&json!({
        "method": "dev.lpm.Supervisor.Events", "parameters": { "follow": true }, "more": true
    })));
    let mut wanted = vec![("waits.1", "restart-in"), ("fails.1", "ended"), ("hits.1", "start-limit-hit")];
    while !wanted.is_empty() {
        let event = events.reply().expect("it goes on")["parameters"]["event"].take();
        let (who, what) = (event["instance"].as_str(), event["event"].as_str());
        wanted.retain(|(instance, kind)| (who, what) != (Some(instance), Some(kind)));
    }
    let status = stack.status(&[]);
    let of = |name: &str| {
        let all = status["instances"].as_array().expect("instances");
        let one = all.iter().find(|one| one["name"] == name).expect("it is there");
        ["state", "result", "exit_code", "restarts", "restart_reason"].map(|field| one[field].clone())
    };
    assert_eq!(of("once.1"), [json!("running"), Value::Null, json!(3), json!(1), json!("exit code 3")]);
    assert_eq!(of("waits.1"), [json!("restart-wait"), json!("exit-code"), json!(4), json!(1), Value::Null]);
    assert_eq!(of("fails.1"), [json!("failed"), json!("exit-code"), json!(5), json!(0), Value::Null]);
    assert_eq!(of("hits.1")[..2], [json!("failed"), json!("start-limit-hit")]);
    let refused = stack.tells(&["signal", "waits", "HUP"]).with_code(1).err;
    assert_eq!(refused, "lpm: waits.1 does not run (lpm start waits.1 would have it run)\n");
    // Whoever waits for its restart is stopped at once, and a start does not wait either.
    stack.tells(&["stop", "waits"]).with_code(0);
    assert_eq!(field(&stack, "waits", "state"), "failed");
    assert_eq!(field(&stack, "waits", "restart_at"), Value::Null);
    stack.tells(&["start", "waits"]);
    run.wait_for("waits.1 | restarting in 1h (restart 2, after exit code 4)");
    run.stops();
}

#[test]
fn what_cannot_start_is_an_error_of_whoever_asked() {
    let stack = Stack::with("cannot", &format!("web: {STAYS}\nbad: ./nope\n"));
    let mut run = up(&stack, &["web", "--can-die", "all"], 1);
    let ended = stack.tells(&["start", "bad"]).with_code(1);
    assert_eq!(ended.err, "lpm: bad.1 failed (resources); lpm status bad.1 says more\n");
    assert_eq!(field(&stack, "bad", "pid"), Value::Null);
    run.stops();
}

#[test]
fn processes_of_an_instance_are_shown() {
    if !has_cgroups("processes_of_an_instance_are_shown") {
        return;
    }
    let stack = Stack::with("members", &format!("web: setsid sleep 1001 & {STAYS}\nother: {STAYS}\n"));
    let mut run = up(&stack, &[], 2);
    let members = || {
        let status = stack.status(&["web"]);
        let members = status["instances"][0]["processes"].as_array().expect("with details").clone();
        members.iter().filter_map(|one| Some(one["command"].as_str()?.to_owned())).collect::<Vec<_>>()
    };
    until("both were executed", || members().iter().all(|command| command.starts_with("sleep ")));
    assert_eq!(members(), ["sleep 1000", "sleep 1001"], "the main one first");
    let status = stack.status(&["web"]);
    assert_eq!(status["instances"][0]["usage"]["tasks"], 2);
    let all = stack.status(&[]);
    assert_eq!(all["stack"]["usage"]["tasks"], 3, "of all of them, when all were asked about");
    run.stops();
}

/// Numbers, times and sizes that differ from run to run; blanks, since columns are as wide as what is in them.
fn anywhen(stack: &Stack, status: &str) -> String {
    let text = stack.normal(status);
    let word = |word: &str| {
        let number =
            word.trim_start_matches("└─").trim_end_matches(',').trim_end_matches("ms").trim_end_matches('s');
        match !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            // The ports stay; a process may have almost any number.
            true if ![5000, 5100, 5200].contains(&number.parse().unwrap_or(0)) => "N".to_owned(),
            _ => word.to_owned(),
        }
    };
    let line = |line: &str| {
        let line = match line.split_once(" since ") {
            Some((before, after)) => {
                let rest = after.split_once(" ago").map_or("", |(_, rest)| rest);
                format!("{before} since TIME{rest}")
            }
            None => line.to_owned(),
        };
        line.split_whitespace().map(word).collect::<Vec<_>>().join(" ") + "\n"
    };
    text.lines().map(line).collect()
}

#[test]
fn how_a_stack_is_shown() {
    // Without cgroups, which are not alike on any two machines.
    let procfile = "web: sleep 1000\nworker: sleep 1000\nfails: exit 5\noff: x\n";
    let stack = Stack::with("shown", procfile).variable("LPM_CGROUP", "none");
    let mut run = up(&stack, &["web", "worker", "fails", "--can-die", "all"], 0);
    run.wait_for("exited with code 5");
    stack.tells(&["stop", "worker"]).with_code(0);
    let mut snapshot = Snapshot::new("status.txt");
    for arguments in [&["status"][..], &["status", "-n0", "web", "fails"]] {
        let out = stack.tells(arguments).with_code(0).out;
        assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
        snapshot.add(&format!("lpm {}", arguments.join(" ")), &anywhen(&stack, &out));
    }
    let out = stack.tells(&["list"]).with_code(0).out;
    let own = |line: &&str| line.contains("NAME") || line.contains(stack.mark());
    let out: String = out.lines().filter(own).map(|line| format!("{line}\n")).collect();
    // At 80 columns the place of the socket has no room where the directory's name is long.
    let out = anywhen(&stack, &out);
    let out: String =
        out.lines().map(|line| line.split(" /").next().unwrap_or(line).to_owned() + "\n").collect();
    snapshot.add("lpm list", &out.replace(" SOCKET", ""));
    snapshot.assert();
    run.stops();
}

#[test]
fn events_tell_what_happened_and_follow_to_the_end() {
    let stack = Stack::with("events", &format!("web: {STAYS}\nworker: {STAYS}\n"));
    let mut run = up(&stack, &[], 2);
    stack.tells(&["stop", "worker"]).with_code(0);
    let out = stack.tells(&["events", "--json", "worker"]).with_code(0).out;
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let kinds: Vec<&str> = events.iter().filter_map(|one| one["event"]["event"].as_str()).collect();
    assert_eq!(kinds, ["started", "asked", "ended"], "{out}");
    assert_eq!(events[2]["event"]["signal"], "SIGTERM");
    let mut follower = stack.lpm(&["events", "-f"]).pipes();
    follower.wait_for("started with pid").wait_for("terminated by SIGTERM");
    stack.tells(&["start", "worker"]).with_code(0);
    follower.wait_for("started with pid");
    stack.tells(&["down"]).with_code(0);
    // To the last of them.
    follower.wait_for("shutdown requested").wait_for("terminated by").wait_for("terminated by");
    assert_eq!(follower.ends_leaving_something().with_code(0).err, "");
    run.ends().with_code(0);
}

#[test]
fn each_verb_has_an_answer_for_machines() {
    let stack = Stack::with("json", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    let json = |arguments: &[&str]| -> Value {
        let ended = stack.tells(arguments).with_code(0);
        assert_eq!(ended.err, "", "{arguments:?}");
        serde_json::from_str(&ended.out)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", ended.out))
    };
    for verb in ["stop", "kill", "freeze", "thaw", "restart"] {
        if verb == "freeze" {
            stack.tells(&["start", "web"]).with_code(0);
        }
        assert_eq!(json(&[verb, "--json", "web"])["instances"], json!(["web.1"]), "{verb}");
    }
    assert_eq!(json(&["signal", "--json", "web", "WINCH"])["instances"], json!(["web.1"]));
    assert_eq!(json(&["scale", "--json", "web=1"]), json!({ "changes": [] }));
    assert_eq!(json(&["reload", "--json"]), json!({ "changes": [], "notes": [] }));
    let set = json(&["set", "--json", "web", "timeout-stop=7s"]);
    assert_eq!(set["changes"][0]["details"], json!(["timeout-stop 5s → 7s"]));
    run.stops();
}

#[test]
fn whoever_leaves_is_not_waited_for() {
    let stack = Stack::with("leaves", &format!("slow: trap '' TERM; {STAYS}\nweb: {STAYS}\n"));
    let mut run = up(&stack, &["-t", "100"], 2);
    let mut client = Varlink::connect(&stack.socket());
    client.send(call("Stop", json!({ "names": ["slow"] })));
    run.wait_for("stopping on request");
    drop(client);
    // Its order stands all the same.
    assert_eq!(field(&stack, "slow", "state"), "stop-sigterm");
    stack.tells(&["kill", "slow"]).with_code(0);
    assert_eq!(field(&stack, "slow", "state"), "inactive");
    run.stops();
}

#[test]
fn metrics_are_for_a_scraper() {
    let stack = Stack::with("metrics", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &["-c", "web=2"], 2);
    let text = stack.tells(&["metrics", "--openmetrics"]).with_code(0).out;
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with("# ")) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(value.parse::<f64>().is_ok() && name.starts_with("lpm_") && name.ends_with('}'), "{line}");
    }
    let of = |text: &str, name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(of(&text, "lpm_instance_up{"), 2);
    assert_eq!(of(&text, "lpm_instance_restarts_total{"), 2);
    let one = stack.tells(&["metrics", "web.2"]).with_code(0).out;
    assert!(of(&one, "lpm_instance_up{") == 1 && one.contains("instance=\"web.2\"} 1\n"), "{one}");
    assert!(stack.tells(&["metrics", "nope"]).with_code(1).err.contains("nope"));
    run.stops();
}
