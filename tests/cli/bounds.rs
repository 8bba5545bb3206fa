//! The largest inputs, given to a real supervisor whose address space is limited: it refuses them or serves them at a
//! bounded cost, and the stack keeps running (docs/limits-of-input.md).

use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::json;

use crate::control::{STAYS, up};
use crate::stack::{Running, Stack, now};
use crate::varlink::{Varlink, message};

/// The address space of a supervisor under test, in KiB. It needs about 300 MiB: reserved stacks and heaps count.
const ROOM: u32 = 1 << 20;

/// `lpm start` within [`ROOM`].
fn starts<'a>(stack: &'a Stack, arguments: &str) -> Running<'a> {
    stack.shell(&format!("ulimit -v {ROOM}; exec $LPM start {arguments}")).pipes()
}

#[test]
fn a_pattern_of_lpm_logs_costs_the_supervisor_nothing() {
    let stack = Stack::with("pattern", "web: echo one; echo two; echo up; exec sleep 1000\n");
    let mut run = starts(&stack, "");
    run.wait_for("| up\n");
    let groups = "(a)".repeat(5000);
    let counts = format!("{}(?:x{{0,1000}}){{0,90}}", "(a)".repeat(400));
    for pattern in [groups.as_str(), counts.as_str()] {
        let script = format!("ulimit -v {ROOM}; exec $LPM logs --no-prefix -g '{pattern}'");
        let ended = stack.shell(&script).pipes().ends_leaving_something();
        match ended.code() {
            0 => assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", "")),
            code => {
                assert_eq!(code, 1, "{}", ended.err);
                assert!(ended.err.contains("(write a shorter one)"), "{}", ended.err);
            }
        }
        assert_eq!(stack.tells(&["logs", "--no-prefix", "-g", "^(one|two)$"]).with_code(0).out, "one\ntwo\n");
    }
    run.signal(Signal::TERM).ends().by(Signal::TERM);
}

/// Other clients match for themselves.
#[test]
fn a_pattern_on_the_socket_is_refused_by_name() {
    let stack = Stack::with("pattern-socket", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    let method = "dev.lpm.Supervisor.Logs";
    let mut client = Varlink::connect(&stack.socket());
    client.send(message(&json!({ "method": method, "parameters": { "grep": "up" }, "more": true })));
    let reply = client.reply().expect("a reply");
    assert_eq!(reply["error"], "org.varlink.service.InvalidParameter", "{reply}");
    assert_eq!(reply["parameters"]["parameter"], "grep", "{reply}");
    run.signal(Signal::TERM).ends().by(Signal::TERM);
}

/// The last lines that match are meant, with all that comes after them.
#[test]
fn followed_lines_are_matched_too_and_the_last_that_match_are_counted() {
    let script = "echo a 1; echo b 1; echo a 2; echo b 2; echo up; read x < go; echo b 3; echo a 3; echo end; exec sleep 1000";
    let stack = Stack::with("pattern-follow", &format!("web: {script}\n"));
    let mut run = stack.shell("mkfifo go; exec $LPM start").pipes();
    run.wait_for("| up\n");
    let shown = |arguments: &[&str]| {
        let all = [&["logs", "--no-prefix", "web"][..], arguments].concat();
        stack.tells(&all).with_code(0).out
    };
    assert_eq!(shown(&["-g", "^A", "-n", "1"]), "", "capitals are meant where there are some");
    assert_eq!(shown(&["-g", "^a", "-n", "1"]), "a 2\n");
    assert_eq!(shown(&["-g", "^a", "-n", "5"]), "a 1\na 2\n");
    assert_eq!(shown(&["-g", "^a", "-n", "0"]), "");
    assert_eq!(shown(&["-g", "1", "-n", "1", "--json"]).lines().count(), 1);
    let mut follower = stack.lpm(&["logs", "--no-prefix", "-f", "-n", "1", "-g", "^(a|end)", "web"]).pipes();
    follower.wait_for("a 2\n");
    std::fs::write(stack.path().join("go"), "go\n").expect("it reads");
    follower.wait_for("end\n");
    run.signal(Signal::TERM);
    run.ends_leaving_something().by(Signal::TERM);
    assert_eq!(follower.ends_leaving_something().with_code(0).out, "a 2\na 3\nend\n");
    stack.wait_until_empty();
}

/// A page of an instance reads `/proc`, on a thread that exists before it is needed.
#[test]
fn a_status_needs_no_thread_that_cannot_be_made() {
    let stack = Stack::with("no-thread", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    stack.tells(&["status"]).with_code(0);
    // No room for another stack of a thread.
    let lpm = run.pid();
    let limited = Rlimit { current: Some(address_space(lpm) + (1 << 20)), ..getrlimit(Resource::As) };
    let before = prlimit(Some(lpm), Resource::As, limited).expect("it is our process");
    for _ in 0..3 {
        let page = stack.tells(&["status", "web"]).with_code(0);
        assert!(page.out.contains("sleep 1000"), "{}", page.out);
    }
    prlimit(Some(lpm), Resource::As, before).expect("it is our process");
    run.signal(Signal::TERM).ends().by(Signal::TERM);
}

/// In bytes.
fn address_space(pid: Pid) -> u64 {
    let path = format!("/proc/{}/statm", pid.as_raw_nonzero());
    let statm = std::fs::read_to_string(path).expect("it runs");
    let pages: u64 = statm.split(' ').next().and_then(|text| text.parse().ok()).expect("a number");
    pages * rustix::param::page_size() as u64
}

#[test]
fn a_call_has_a_largest_number_of_names() {
    let stack = Stack::with("many-names", "web: echo up; exec sleep 1000\n");
    let mut run = up(&stack, &[], 1);
    let mut client = Varlink::connect(&stack.socket());
    let names = |count: usize| (0..count).map(|at| format!("w{at}")).collect::<Vec<_>>();
    for method in ["Status", "Stop", "Freeze", "Metrics"] {
        let reply = client.call(method, json!({ "names": names(10_001) }));
        assert_eq!(reply["error"], "dev.lpm.Supervisor.Invalid", "{method}: {reply}");
        let messages = reply["parameters"]["messages"].to_string();
        assert!(messages.contains("10001 names"), "{method}: {messages}");
        let reply = client.call(method, json!({ "names": names(10_000) }));
        assert_eq!(reply["error"], "dev.lpm.Supervisor.NoSuchInstance", "{method}: {reply}");
        // Once is as good as often.
        let same = vec!["web.1"; 20_000];
        if method == "Status" {
            assert!(client.call(method, json!({ "names": same }))["error"].is_null(), "{method}");
        }
    }
    let patterns: Vec<String> = (0..101).map(|at| format!("w{at}*")).collect();
    let reply = client.call("Stop", json!({ "names": patterns }));
    assert!(reply["parameters"]["messages"].to_string().contains("101 patterns"), "{reply}");
    for method in ["Logs", "Events"] {
        let method = format!("dev.lpm.Supervisor.{method}");
        let parameters = json!({ "names": names(10_001) });
        client.send(message(&json!({ "method": method, "parameters": parameters, "more": true })));
        let reply = client.reply().expect("a reply");
        assert_eq!(reply["error"], "dev.lpm.Supervisor.Invalid", "{reply}");
    }
    let settings: serde_json::Map<_, _> = (0..1001).map(|at| (format!("k{at}"), json!("1"))).collect();
    let reply = client.call("Set", json!({ "name": "web", "settings": settings }));
    assert!(reply["parameters"]["messages"].to_string().contains("1001 settings"), "{reply}");
    let counts: serde_json::Map<_, _> = (0..10_001).map(|at| (format!("w{at}"), json!(1))).collect();
    let reply = client.call("Scale", json!({ "counts": counts }));
    assert!(reply["parameters"]["messages"].to_string().contains("10001 process types"), "{reply}");
    let reply = client.call("Scale", json!({ "counts": { "web": 4_000_000_000_u32 } }));
    assert!(reply["parameters"]["messages"].to_string().contains("4000000000 instances"), "{reply}");
    run.signal(Signal::TERM).ends().by(Signal::TERM);
}

/// Thousands of calls or frames that arrive at once are taken one by one, and other clients have their turn.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test that can make no thread has failed")]
fn whoever_sends_much_at_once_holds_up_no_other_client() {
    let stack = Stack::with("pipelined", "web: echo up; exec sleep 1000\n");
    let mut run = up(&stack, &["--pty", "web"], 1);
    let socket = stack.socket();
    let mut attached = Varlink::connect(&socket);
    let method = "dev.lpm.Supervisor.Attach";
    attached.send(message(&json!({ "method": method, "parameters": { "name": "web" }, "upgrade": true })));
    assert!(attached.reply().expect("a reply")["error"].is_null());
    let mut sizes = Vec::new();
    for at in 0..50_000_u32 {
        sizes.extend_from_slice(b"s\0\0\0\x04");
        sizes.extend_from_slice(&(at | 0xffff_0000).to_be_bytes());
    }
    let calls: Vec<u8> =
        message(&json!({ "method": "org.varlink.service.GetInfo", "oneway": true })).repeat(20_000);
    let mut many = Varlink::connect(&socket);
    let begun = now();
    std::thread::scope(|scope| {
        scope.spawn(|| attached.send(&sizes));
        scope.spawn(|| many.send(&calls));
        for _ in 0..5 {
            let reply = Varlink::connect(&socket).call("Status", json!({ "names": ["web"] }));
            assert!(reply["error"].is_null(), "{reply}");
        }
    });
    // Seconds, where each took along all that was behind it.
    assert!(now() - begun < Duration::from_secs(10), "{:?}", now() - begun);
    drop((attached, many));
    run.signal(Signal::TERM).ends().by(Signal::TERM);
}

/// What `TZ` names is read only if it is a file of a sensible size, by the supervisor and by clients alike.
#[test]
fn a_time_zone_without_end_is_not_read() {
    let stack = Stack::with("zone", &format!("web: {STAYS}\n")).file("large", vec![0; 1 << 20]);
    let pipe = stack.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .expect("a pipe");
    let (pipe, large) = (pipe.display().to_string(), stack.path().join("large").display().to_string());
    for zone in ["../../../../dev/zero", "/dev/zero", ":/dev/zero", &pipe, &large] {
        let script = format!("ulimit -v {ROOM}; exec $LPM start");
        let mut run = stack.shell(&script).variable("TZ", zone).pipes();
        run.wait_for("| up\n");
        for arguments in ["status web", "logs"] {
            let script = format!("ulimit -v {ROOM}; exec $LPM {arguments}");
            stack.shell(&script).variable("TZ", zone).pipes().ends_leaving_something().with_code(0);
        }
        run.signal(Signal::TERM).ends().by(Signal::TERM);
    }
}

#[test]
fn an_env_file_that_grows_by_expansion_is_refused_where_it_does() {
    let mut env = "A0=xxxxxxxxxx\n".to_owned();
    for at in 1..9 {
        env += &format!("A{at}={}\n", format!("${{A{}}}", at - 1).repeat(10));
    }
    let stack =
        Stack::with("expansion", &format!("web: {STAYS}\n")).file("lpm.toml", "[stack]\nexpand-env = true\n");
    let mut run = starts(&stack, "");
    run.wait_for("| up\n");
    std::fs::write(stack.path().join(".env"), &env).expect("a file");
    let refused = "lpm: .env:6: the value of A5 is larger than 128 KiB, which no program can be given\n";
    let check = stack.shell(&format!("ulimit -v {ROOM}; exec $LPM check")).pipes().ends_leaving_something();
    assert_eq!(check.with_code(1).err.replace("lpm check: ", "lpm: "), refused);
    // A restart keeps the environment as it was, and says so.
    for (arguments, code) in [(&["restart", "web"][..], 0), (&["reload"], 1)] {
        let ended = stack.tells(arguments).with_code(code);
        assert!(ended.err.contains(".env:6: the value of A5 is larger than 128 KiB"), "{}", ended.err);
    }
    drop(run.signal(Signal::TERM).ends_leaving_something());
    stack.wait_until_empty();
}

#[test]
fn a_procfile_without_end_is_not_read_to_its_end() {
    let stack = Stack::with("endless", &format!("web: {STAYS}\n"));
    for (what, arguments) in [
        ("/dev/zero: is larger than 16 MiB", "-f /dev/zero"),
        ("/dev/zero: is larger than 16 MiB", "-e /dev/zero"),
        ("standard input: is larger than 16 MiB", "-f - < /dev/zero"),
    ] {
        let script = format!("ulimit -v {ROOM}; exec $LPM check {arguments}");
        let ended = stack.shell(&script).pipes().ends_leaving_something().with_code(1);
        assert!(ended.err.contains(what), "{}", ended.err);
    }
    // Eight million odd lines are one mistake.
    let odd = stack.file("odd", "x\n".repeat(1 << 21)).file("Procfile", "web: x\n");
    for arguments in ["-f odd", "-e odd"] {
        let script = format!("ulimit -v {ROOM}; exec $LPM check {arguments}");
        let ended = odd.shell(&script).pipes().ends_leaving_something().with_code(1);
        assert!(ended.err.contains("odd:1001: "), "{}", ended.err.lines().last().unwrap_or(""));
        assert!(ended.err.lines().count() < 1100);
    }
}
