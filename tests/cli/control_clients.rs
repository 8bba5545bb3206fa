//! Clients that are broken or mean harm: each kind alone, then sixty at once. After each the stack still answers,
//! nobody was restarted, memory stays bounded, and nothing spins.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::{Resource, Rlimit};
use serde_json::{Value, json};

use crate::control::{STAYS, pids, up};
use crate::stack::{LPM, PATIENCE, Running, Stack, is_root, now};
use crate::varlink::{Varlink, call, message};

/// A kind of client; what it may expect is held in it.
type Kind = fn(&Path);

/// By what each of them does.
const KINDS: &[(&str, Kind)] = &[
    ("not JSON", |socket| hung_up_on(socket, b"hello\0")),
    ("JSON that is no object", |socket| hung_up_on(socket, b"[1,2]\0")),
    ("no method", |socket| hung_up_on(socket, b"{}\0")),
    ("nothing but NULs", |socket| hung_up_on(socket, &[0; 1000])),
    ("bytes that are no text", |socket| hung_up_on(socket, b"{\"method\":\"\xff\xfe\"}\0")),
    ("brackets all the way down", |socket| {
        let mut bytes = b"{\"method\":\"x.y.Z\",\"parameters\":".to_vec();
        bytes.extend_from_slice(&[b'['; 200_000]);
        bytes.push(0);
        hung_up_on(socket, &bytes);
    }),
    ("half a message", |socket| {
        Varlink::connect(socket).send(b"{\"method\":\"dev.lpm.Supervisor.St");
    }),
    ("two mebibytes without a NUL", |socket| hung_up_on(socket, &vec![b'x'; 2 << 20])),
    ("an unknown method", |socket| {
        refused(socket, &call("Nope", json!({})), "org.varlink.service.MethodNotFound", "method");
    }),
    ("an unknown interface", |socket| {
        let bytes = message(&json!({ "method": "com.example.Nope" }));
        refused(socket, &bytes, "org.varlink.service.InterfaceNotFound", "interface");
    }),
    ("a method without an interface", |socket| {
        let bytes = message(&json!({ "method": "Status" }));
        refused(socket, &bytes, "org.varlink.service.InterfaceNotFound", "interface");
    }),
    ("wrong types", |socket| {
        for (method, parameters, field) in [
            ("Status", json!({ "names": 5 }), "names"),
            ("Status", json!({ "names": [5] }), "names"),
            ("Stop", json!({ "names": ["web"], "wait": "yes" }), "wait"),
            ("Scale", json!({ "counts": { "web": -1 } }), "counts"),
            ("Scale", json!({ "counts": { "web": 1e99 } }), "counts"),
            ("Set", json!({ "name": "web", "settings": { "timeout-stop": 5 } }), "settings"),
        ] {
            let reply = Varlink::connect(socket).call(method, parameters);
            assert_eq!(reply["error"], "org.varlink.service.InvalidParameter", "{method}");
            assert_eq!(reply["parameters"]["parameter"], field, "{method}");
        }
    }),
    ("missing parameters", |socket| {
        for (method, parameters, field) in [
            ("Signal", json!({ "names": ["web"] }), "signal"),
            ("Signal", json!({ "names": [], "signal": "HUP" }), "names"),
            ("Scale", json!({}), "counts"),
            ("Set", json!({ "name": "web" }), "settings"),
        ] {
            let reply = Varlink::connect(socket).call(method, parameters);
            assert_eq!(reply["error"], "org.varlink.service.InvalidParameter", "{method}");
            assert_eq!(reply["parameters"]["parameter"], field, "{method}");
        }
    }),
    ("unknown parameters", |socket| {
        let bytes = call("Stop", json!({ "nmaes": ["web"] }));
        refused(socket, &bytes, "org.varlink.service.InvalidParameter", "parameter");
    }),
    ("no parameters at all", |socket| {
        let mut client = Varlink::connect(socket);
        client.send(message(&json!({ "method": "dev.lpm.Supervisor.Status", "parameters": null })));
        assert!(client.reply().expect("a reply")["parameters"]["stack"].is_object());
    }),
    ("names that are none", |socket| {
        let long = "x".repeat(100_000);
        for name in ["", "web.0", "../web", "\u{1b}[2J", long.as_str()] {
            let reply = Varlink::connect(socket).call("Stop", json!({ "names": [name] }));
            assert_eq!(reply["error"], "dev.lpm.Supervisor.NoSuchInstance", "{name}");
        }
    }),
    ("closing in the middle of a stream", |socket| {
        let mut client = Varlink::connect(socket);
        client.send(stream(true));
        assert!(client.reply().expect("an event")["continues"].as_bool().expect("it says so"));
    }),
    ("never reading a big stream", |socket| {
        let mut client = Varlink::connect(socket);
        let _ = (0..100).all(|_| client.send(stream(false)));
        // It is there as long as the others do what they do.
        still_answers(socket);
    }),
    ("a stream without more", |socket| {
        refused(socket, &call("Events", json!({})), "org.varlink.service.ExpectedMore", "");
    }),
    ("oneway", |socket| {
        let mut client = Varlink::connect(socket);
        for method in ["Status", "Nope", "Events"] {
            let method = format!("dev.lpm.Supervisor.{method}");
            client.send(message(&json!({ "method": method, "oneway": true, "more": true })));
        }
        client.send(message(&json!({ "method": "org.varlink.service.GetInfo" })));
        assert_eq!(client.reply().expect("a reply")["parameters"]["product"], "lpm", "it is the first one");
    }),
    ("more and upgrade where they mean nothing", |socket| {
        let mut client = Varlink::connect(socket);
        for _ in 0..2 {
            let method = "dev.lpm.Supervisor.Thaw";
            client.send(message(&json!({ "method": method, "more": true, "upgrade": true })));
            let reply = client.reply().expect("a reply");
            assert!(reply["parameters"]["instances"].is_array() && reply["continues"].is_null(), "{reply}");
        }
    }),
    ("a thousand calls at once", |socket| {
        let mut client = Varlink::connect(socket);
        let info = message(&json!({ "method": "org.varlink.service.GetInfo" }));
        let status = call("Status", json!({ "names": ["web.1"] }));
        let calls: Vec<u8> =
            (0..1000).flat_map(|at| if at % 100 == 0 { &status } else { &info }).copied().collect();
        client.send(calls);
        for at in 0..1000 {
            let reply = client.reply().expect("a reply for each");
            assert_eq!(reply["parameters"]["stack"].is_object(), at % 100 == 0, "in their order");
        }
    }),
    ("half-closed after sending", |socket| {
        let mut client = Varlink::connect(socket);
        client.send(call("Thaw", json!({})));
        client.send(call("Status", json!({})));
        client.finish();
        assert!(client.reply().expect("a reply")["parameters"]["instances"].is_array());
        assert!(client.reply().expect("a reply")["parameters"]["stack"].is_object());
        assert_eq!(client.reply(), None, "and then it hangs up too");
    }),
    ("half-closed in the middle of a message", |socket| {
        let mut client = Varlink::connect(socket);
        client.send(b"{\"method\":");
        client.finish();
        assert_eq!(client.reply(), None);
    }),
    ("leaving with an order under way", |socket| {
        Varlink::connect(socket).send(call("Thaw", json!({ "names": ["web"] })));
    }),
];

fn hung_up_on(socket: &Path, bytes: &[u8]) {
    let mut client = Varlink::connect(socket);
    client.send(bytes);
    assert_eq!(client.reply(), None);
}

fn refused(socket: &Path, bytes: &[u8], error: &str, parameter: &str) {
    let mut client = Varlink::connect(socket);
    client.send(bytes);
    let reply = client.reply().expect("a reply");
    assert_eq!(reply["error"], error);
    assert!(parameter.is_empty() || reply["parameters"][parameter].is_string(), "{reply}");
    // The connection is as good as before.
    client.send(call("Status", json!({})));
    assert!(client.reply().expect("a reply")["parameters"]["stack"].is_object());
}

fn stream(follow: bool) -> Vec<u8> {
    let parameters = json!({ "follow": follow });
    message(&json!({ "method": "dev.lpm.Supervisor.Events", "parameters": parameters, "more": true }))
}

#[track_caller]
fn still_answers(socket: &Path) -> Value {
    let mut reply = Varlink::connect(socket).call("Status", json!({}));
    assert!(reply["error"].is_null(), "{reply}");
    reply["parameters"].take()
}

/// kB of memory that lpm has.
fn memory(run: &Running<'_>) -> u64 {
    let path = format!("/proc/{}/status", run.pid().as_raw_pid());
    let status = std::fs::read_to_string(path).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Ticks of processor time that lpm has used: 10 ms each.
fn ticks(run: &Running<'_>) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", run.pid().as_raw_pid())).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(") ").expect("a name").1.split(' ').collect();
    // utime and stime are the 14th and 15th (proc(5)).
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

fn lives(status: &Value) -> Vec<(String, i32)> {
    let lives = pids(status);
    assert_eq!(lives.len(), 2, "{status:#}");
    lives
}

/// Two processes, one of which says something after `ticks.1` was read.
fn patient(name: &str) -> Stack {
    Stack::with(name, &format!("web: {STAYS}\nclock: echo up; while sleep 0.2; do echo tick; done\n"))
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test that can make no thread has failed")]
fn no_client_does_harm() {
    let stack = patient("clients");
    let mut run = up(&stack, &[], 2);
    let socket = stack.socket();
    let before = lives(&still_answers(&socket));
    let least = memory(&run);
    for (what, client) in KINDS {
        eprintln!("{what}");
        client(&socket);
        assert_eq!(lives(&still_answers(&socket)), before, "{what}");
    }
    std::thread::scope(|scope| {
        for at in 0..60 {
            let (socket, client) = (&socket, KINDS[at % KINDS.len()].1);
            scope.spawn(move || client(socket));
        }
    });
    assert_eq!(lives(&still_answers(&socket)), before);
    let most = memory(&run);
    assert!(most < least + 64 * 1024, "{least} kB, then {most} kB");
    // Nobody is there any more, and so nothing is to be done: the time of two ticks is waited for.
    run.wait_for("tick");
    let used = ticks(&run);
    run.wait_for("tick").wait_for("tick");
    assert!(ticks(&run) <= used + 10, "it spins: {used}, then {}", ticks(&run));
    run.stops();
}

/// A test's own limit of open files, raised as far as it goes; how many are allowed then.
fn most_files() -> u64 {
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
    rustix::process::getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[test]
fn a_thousand_idle_clients_cost_little() {
    let count = usize::try_from(most_files().saturating_sub(200).min(1000)).expect("at most a thousand");
    if count < 1000 {
        eprintln!("only {count} idle clients: no more files are allowed");
    }
    let stack = patient("idle");
    let mut run = up(&stack, &[], 2);
    let socket = stack.socket();
    let before = lives(&still_answers(&socket));
    let least = memory(&run);
    let mut clients: Vec<Varlink> = (0..count).map(|_| Varlink::connect(&socket)).collect();
    // Those that found a place have an answer; one that did not is hung up on, and says so.
    let info = message(&json!({ "method": "org.varlink.service.GetInfo" }));
    for client in &mut clients {
        client.send(&info);
    }
    let served = clients.iter_mut().filter_map(Varlink::reply).count();
    assert!(served == count || served >= 8, "{served} of {count}");
    let most = memory(&run);
    assert!(most < least + 32 * 1024, "{least} kB, then {most} kB");
    run.wait_for("tick");
    let used = ticks(&run);
    run.wait_for("tick").wait_for("tick");
    assert!(ticks(&run) <= used + 10, "it spins: {used}, then {}", ticks(&run));
    drop(clients);
    let deadline = now() + PATIENCE;
    // Their places are free again when lpm has heard that they left.
    let after = loop {
        let mut client = Varlink::connect(&socket);
        client.send(call("Status", json!({})));
        match client.reply() {
            Some(mut reply) => break reply["parameters"].take(),
            None => assert!(now() < deadline, "nobody is served any more"),
        }
    };
    assert_eq!(lives(&after), before);
    run.stops();
}

#[test]
fn whoever_is_somebody_else_is_hung_up_on() {
    if !is_root() {
        skipped!("whoever_is_somebody_else_is_hung_up_on: another user can be had as root alone");
        return;
    }
    let stack = Stack::with("other-uid", &format!("web: {STAYS}\n"));
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
    };
    mode(stack.path(), 0o755);
    let socket = stack.path().join("open.sock");
    let mut run = up(&stack, &["-s", "open.sock"], 1);
    // As if somebody had opened it by mistake.
    mode(&socket, 0o666);
    let program = stack.path().join("lpm");
    std::fs::copy(LPM, &program).expect("a copy that others can reach");
    mode(&program, 0o755);
    let (program, path) = (program.to_str().expect("UTF-8"), socket.to_str().expect("UTF-8"));
    let other = ["--reuid=65534", "--regid=65534", "--clear-groups", program, "status", "-s", path];
    let ended = stack.program_with("setpriv", &other).pipes().ends_leaving_something().with_code(1);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", "lpm: the stack ended before it answered\n"));
    assert_eq!(pids(&still_answers(&socket)).len(), 1);
    run.stops();
}

/// What was sent to it is lost with a stack that is killed, and its clients hear that it is gone.
#[test]
fn a_follower_hears_the_end_and_nothing_comes_after_it() {
    let stack = Stack::with("last-words", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    let mut follower = Varlink::connect(&stack.socket());
    follower.send(stream(true));
    stack.tells(&["down"]).with_code(0);
    let mut last = Value::Null;
    let mut kinds = Vec::new();
    while let Some(reply) = follower.reply() {
        kinds.extend(reply["parameters"]["event"]["event"].as_str().map(str::to_owned));
        last = reply;
    }
    assert!(last["continues"].is_null(), "the last reply says that it is the last: {last}");
    assert_eq!(kinds, ["started", "asked", "stopping-all", "ended"]);
    run.ends().with_code(0);
}

/// It has a place, and it never asks: the end is not held up by it.
#[test]
fn a_client_that_never_reads_does_not_hold_up_the_end() {
    let stack = Stack::with("deaf-client", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    let mut client = std::os::unix::net::UnixStream::connect(stack.socket()).expect("it listens");
    client.set_nonblocking(true).expect("a socket");
    // Until its replies fill the socket, and then its calls do.
    let status = call("Status", json!({}));
    while std::io::Write::write(&mut client, &status).is_ok() {}
    let began = now();
    run.stops();
    assert!((now() - began).as_secs() < 4, "one second is for last words");
    let mut rest = Vec::new();
    client.set_nonblocking(false).expect("a socket");
    let _ = client.read_to_end(&mut rest);
    assert!(!rest.is_empty());
}
