//! Whoever else speaks Varlink can talk to a stack: the python client, which reads the interface's description
//! and checks what it sends and gets against it, and `varlinkctl`, where they are.

use std::process::Command;

use crate::control::{STAYS, up};
use crate::stack::Stack;

/// Where `tests/run` has put the python client; without that, it may be installed.
const LIBRARY: &str = "LPM_VARLINK";

/// Calls, a stream, an error: as somebody would write them.
const SCRIPT: &str = r#"
import sys, varlink
client = varlink.Client("unix:" + sys.argv[1])
info = client.get_interfaces()
assert "dev.lpm.Supervisor" in info, info
stack = client.open("dev.lpm.Supervisor")

status = stack.Status()
assert status["stack"]["state"] == "up", status
assert [one["name"] for one in status["instances"]] == ["web.1"], status
detail = stack.Status(names=["web"], detail=True)
assert detail["instances"][0]["usage"]["cpu_usec"] is not None, detail

assert stack.Restart(names=["web"])["instances"] == ["web.1"]
assert [c["kind"] for c in stack.Scale(counts={"web": 2})["changes"]] == ["added"]
assert stack.Set(name="web", settings={"timeout-stop": "9s"})["changes"][0]["kind"] == "live"
assert stack.Signal(names=["web"], signal="WINCH")["instances"] == ["web.1", "web.2"]
for verb in stack.Freeze, stack.Thaw, stack.Stop, stack.Start, stack.Kill:
    assert verb(names=["web.2"])["instances"] == ["web.2"], verb
assert stack.Reload(dry_run=True) == {"changes": [], "notes": []}

try:
    stack.Stop(names=["wbe"])
    raise SystemExit("it is not refused")
except varlink.VarlinkError as error:
    assert error.error() == "dev.lpm.Supervisor.NoSuchInstance", error.error()
    assert error.parameters()["nearest"] == "web", error.parameters()
try:
    stack.Events()
    raise SystemExit("it is not refused")
except varlink.VarlinkError as error:
    assert error.error() == "org.varlink.service.ExpectedMore", error.error()

kinds = [reply["event"]["event"] for reply in stack.Events(names=["web.2"], _more=True) if "event" in reply]
assert kinds[:2] == ["configured", "started"] and "asked" in kinds, kinds
stack.Down()
print("all is well")
"#;

/// `python3` with the client's library, if it can be had.
fn python() -> Option<(Option<String>, &'static str)> {
    let library = std::env::vars().find(|(name, _)| name == LIBRARY).map(|(_, value)| value);
    let mut command = Command::new("python3");
    command.args(["-c", "import varlink"]);
    if let Some(library) = &library {
        command.env("PYTHONPATH", library);
    }
    command.output().is_ok_and(|output| output.status.success()).then_some((library, "python3"))
}

#[test]
fn the_python_client_can_talk_to_it() {
    let Some((library, program)) = python() else {
        skipped!("the_python_client_can_talk_to_it: python3 has no varlink (pip install varlink==31.0.0)");
        return;
    };
    let stack = Stack::with("python", &format!("web: {STAYS}\n"));
    // A python that a shim chooses by the home directory is the one that was asked.
    let stack = std::env::vars()
        .filter(|(name, _)| ["PATH", "HOME"].contains(&name.as_str()))
        .fold(stack, |stack, (name, value)| stack.variable(&name, value));
    let mut run = up(&stack, &[], 1);
    let socket = stack.socket();
    let mut client = stack.program_with(program, &["-c", SCRIPT, socket.to_str().expect("UTF-8")]);
    if let Some(library) = library {
        client = client.variable("PYTHONPATH", library);
    }
    let ended = client.pipes().ends_leaving_something().with_code(0);
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("all is well\n", ""));
    run.ends().with_code(0);
}

#[test]
fn varlinkctl_can_talk_to_it() {
    if Command::new("varlinkctl").arg("--version").output().is_err() {
        skipped!("varlinkctl_can_talk_to_it: there is no varlinkctl (systemd 255 has it)");
        return;
    }
    let stack = Stack::with("varlinkctl", &format!("web: {STAYS}\n"));
    let mut run = up(&stack, &[], 1);
    let socket = stack.socket();
    let socket = socket.to_str().expect("UTF-8");
    let asked = |arguments: &[&str]| {
        stack.program_with("varlinkctl", arguments).pipes().ends_leaving_something().with_code(0).out
    };
    assert!(asked(&["info", socket]).contains("dev.lpm.Supervisor"));
    assert!(asked(&["introspect", socket, "dev.lpm.Supervisor"]).contains("method Status"));
    let reply = asked(&["call", socket, "dev.lpm.Supervisor.Restart", "{\"names\":[\"web\"]}"]);
    assert!(reply.contains("web.1"), "{reply}");
    run.stops();
}
