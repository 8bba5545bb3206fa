//! `lpm metrics` and `--metrics`: numbers for scrapers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::control::STAYS;
use crate::stack::Stack;

/// An answer to a request, its head and its body.
fn asks(address: &str, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer}"));
    (head.to_owned(), body.to_owned())
}

#[test]
fn scrapers_are_answered_on_a_port() {
    let stack = Stack::with("metrics-port", &format!("web: {STAYS}\n"));
    let mut run = stack.lpm(&["start", "--metrics", "0"]).pipes();
    run.wait_for("started with pid");
    let out = run.out();
    let address = out.split("metrics: http://").nth(1).and_then(|text| text.split('/').next());
    let address = address.unwrap_or_else(|| panic!("where it is: {out}"));
    // One that says nothing holds nobody up.
    let _silent = TcpStream::connect(address).expect("it listens");
    let (head, body) = asks(address, &format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{head}");
    assert!(
        body.contains("lpm_instance_up{stack=") && body.contains("process=\"web\",instance=\"web.1\"} 1\n"),
        "{body}"
    );
    let accept = "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text; version=1.0.0\r\n\r\n";
    let (head, body) = asks(address, accept);
    assert!(head.contains("Content-Type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    assert!(asks(address, "GET /secret HTTP/1.1\r\n\r\n").0.starts_with("HTTP/1.1 404 "));
    assert!(asks(address, "DELETE /metrics HTTP/1.1\r\n\r\n").0.starts_with("HTTP/1.1 405 "));
    assert!(
        asks(address, &format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000)))
            .0
            .contains("431")
    );

    let second = Stack::with("metrics-taken", &format!("web: {STAYS}\n"));
    let ended = second.runs(&["start", "--metrics", address]).with_code(1);
    assert_eq!(ended.err, format!("lpm: --metrics: {address}: Address already in use\n"));
    let ended = second.runs(&["start", "--metrics", "0.0.0.0:1"]).with_code(1);
    assert!(ended.err.starts_with("lpm: --metrics: \"0.0.0.0:1\" is no loopback address"), "{}", ended.err);
    run.stops();
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    const NAME: &str = "promtool_finds_nothing_to_complain_about";
    let stack = Stack::with("promtool", &format!("web: {STAYS}\nworker: {STAYS}\n"));
    let mut run = crate::control::up(&stack, &[], 2);
    let text = stack.tells(&["metrics"]).with_code(0).out;
    assert!(stack.tells(&["metrics", "--openmetrics", "web"]).with_code(0).out.ends_with("# EOF\n"));
    run.stops();
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else { return skipped!("{NAME}: needs promtool") };
    promtool.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{text}");
}
