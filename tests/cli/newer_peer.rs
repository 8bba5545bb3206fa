//! A stack run by a newer lpm, whose words this one does not know: it is read, and shown as the peer says it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use serde_json::{Value, json};

use crate::control::{STAYS, up};
use crate::stack::Stack;

/// Answers `Status` with this, and `Events` with one event.
fn serve(connection: UnixStream, status: &Value, event: &Value) {
    let mut out = connection.try_clone().expect("a descriptor");
    let mut calls = BufReader::new(connection).split(0);
    while let Some(Ok(call)) = calls.next() {
        let call: Value = serde_json::from_slice(&call).expect("a call");
        let replies = match call["method"].as_str() {
            Some("dev.lpm.Supervisor.Status") => vec![json!({ "parameters": status })],
            Some("dev.lpm.Supervisor.Events") => vec![
                json!({ "parameters": { "event": event }, "continues": true }),
                json!({ "parameters": {} }),
            ],
            Some("dev.lpm.Supervisor.Logs") => vec![json!({ "parameters": {} })],
            other => panic!("{other:?} is not asked for here"),
        };
        for reply in replies {
            // Whoever has read enough may be gone.
            let _ = out.write_all(&[reply.to_string().as_bytes(), b"\0"].concat());
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test that can make no thread has failed")]
fn words_of_a_newer_lpm_are_read_and_shown() {
    let stack = Stack::with("newer-peer", &format!("web: {STAYS}\nworker: {STAYS}\n"));
    let mut run = up(&stack, &[], 2);
    let mut status = stack.status(&[]);
    run.stops();
    for (pointer, value) in [
        ("/stack/state", "degraded".into()),
        ("/stack/tier", "partial".into()),
        ("/instances/0/state", "ready".into()),
        ("/instances/1/state", "skipped".into()),
        ("/instances/1/result", "watchdog".into()),
        ("/instances/1/pid", Value::Null),
    ] {
        *status.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
    }
    let event = json!({
        "sequence": 0, "time": 1, "event": "health-lost", "instance": "web.1", "message": "it does not answer",
        "result": "watchdog",
    });
    let listener = UnixListener::bind(stack.path().join("newer.sock")).expect("a socket");
    let (served, told) = (status.clone(), event.clone());
    // It ends with the test's process.
    std::thread::spawn(move || listener.incoming().flatten().for_each(|one| serve(one, &served, &told)));
    let asks = |words: &[&str]| {
        let ended = stack.runs(&[words, &["--socket", "newer.sock"]].concat()).with_code(0);
        (ended.out, ended.err)
    };

    let (list, _) = asks(&["status"]);
    for shown in ["degraded, up since", "tier partial", "web.1     ready", "worker.1  skipped"] {
        assert!(list.contains(shown), "{shown}: {list}");
    }
    let (page, _) = asks(&["status", "web.1"]);
    assert!(page.contains("Active: ready") && page.contains("Stack: "), "{page}");
    let (events, _) = asks(&["events"]);
    assert!(events.contains("web.1     health-lost      it does not answer"), "{events}");
    let (top, _) = asks(&["top", "--once"]);
    assert!(top.contains("0 of 2 running") && top.contains("ready"), "{top}");
    let (metrics, _) = asks(&["metrics"]);
    let is_up = |line: &&str| line.starts_with("lpm_instance_up{");
    let up: Vec<&str> = metrics.lines().filter(is_up).collect();
    assert!(up.len() == 2 && up.iter().all(|line| line.ends_with(" 0")), "{metrics}");
    // What is for machines is passed on as it came.
    let (json, _) = asks(&["status", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON"), status);
    let (json, _) = asks(&["events", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).expect("JSON")["event"], event);
}
