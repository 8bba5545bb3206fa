//! What people see, kept in `snapshots/`, and what holds for whatever the interface may answer.
//!
//! A changed text fails the test and shows both. `UPDATE_SNAPSHOTS=1 cargo test --lib view` writes the files anew;
//! what changed is then for the eye, in the diff.

use std::path::PathBuf;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::lines::{Lines, Names};
use super::{Look, StackAnswer, StackLine, changes, detail, event, failure, list, stacks};
use crate::control::interface::{
    Ceilings, Change, Event, Failure, Instance, Line, Process, ProcessType, Stack, StackState, Status, Trace,
    Usage,
};

/// `Wed 2026-11-25 01:02:03 UTC`, when the stacks here were started.
pub(super) const START: u64 = 1_795_568_523_000_000;

/// µs.
pub(super) const SECOND: u64 = 1_000_000;

/// When they are looked at.
pub(super) const NOW: u64 = START + (2 * 3600 + 3 * 60 + 4) * SECOND;

pub(super) const MIB: u64 = 1 << 20;

const LOOK: Look = Look { columns: 80, colour: false, terminal: true };

fn wide(columns: usize) -> Look {
    Look { columns, ..LOOK }
}

fn colour() -> Look {
    Look { colour: true, ..LOOK }
}

pub(super) struct Snapshot {
    name: &'static str,
    text: String,
}

impl Snapshot {
    pub(super) fn new(name: &'static str) -> Snapshot {
        Snapshot { name, text: String::new() }
    }

    /// Adds a section.
    #[track_caller]
    pub(super) fn add_as_it_is(&mut self, what: &str, came: &str) {
        self.text.push_str(&format!("==== {what}\n{came}\n"));
    }

    /// Adds a section. Escape characters are shown as `␛`.
    #[track_caller]
    fn add(&mut self, what: &str, look: &Look, came: &str) {
        holds(came, look);
        let came = came.replace('\x1b', "␛");
        self.text.push_str(&format!("==== {what} ({} columns)\n{came}\n", look.columns));
    }

    #[track_caller]
    pub(super) fn assert(self) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/view/snapshots").join(self.name);
        if std::env::vars().any(|(name, _)| name == "UPDATE_SNAPSHOTS") {
            return std::fs::write(path, self.text).expect("the snapshot can be written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == self.text, "{}: now\n{}\nwas\n{kept}", self.name, self.text);
    }
}

/// What is promised of every page: no line wider than the terminal, no blanks at a line's end, no control but
/// colours, and those only if asked for.
#[track_caller]
fn holds(page: &str, look: &Look) {
    assert!(page.ends_with('\n'), "{page:?}");
    for line in page.lines() {
        let mut plain = String::new();
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("\x1b[") {
            let (parameters, after) = after.split_once('m').expect("a colour");
            assert!(look.colour && parameters.bytes().all(|b| b.is_ascii_digit() || b == b';'), "{line:?}");
            plain.push_str(before);
            rest = after;
        }
        plain.push_str(rest);
        assert!(plain.chars().count() <= look.columns, "{} columns: {plain}", plain.chars().count());
        assert!(plain.trim_end() == plain, "blanks at its end: {plain:?}");
        assert!(!plain.contains(char::is_control), "{plain:?}");
    }
}

pub(super) fn stack() -> Stack {
    let of = |name: &str, instances| ProcessType { name: name.into(), command: "x".into(), instances };
    Stack {
        name: "shop".into(),
        root: "/srv/shop".into(),
        procfile: "/srv/shop/Procfile".into(),
        manifest: "/srv/shop/lpm.toml".into(),
        pid: 4700,
        since: START,
        version: "0.1.0".into(),
        state: "up".into(),
        tier: "full".into(),
        cgroup: Some("/sys/fs/cgroup/user.slice/shop.scope/app".into()),
        socket: "/run/user/1000/lpm/shop.sock".into(),
        processes: vec![of("web", 2), of("worker", 1), of("urgent", 1)],
        ceilings: Ceilings { memory_max: Some(1024 * MIB), cpu_quota: Some(1500), ..Ceilings::default() },
        usage: Usage {
            memory_current: Some(312 * MIB),
            cpu_usec: Some(65 * SECOND),
            tasks: Some(23),
            ..Usage::default()
        },
        journald: false,
    }
}

/// One that runs, on a machine that counts.
pub(super) fn instance(name: &str) -> Instance {
    let (process, number) = name.rsplit_once('.').expect("an instance's name");
    let number = number.parse().expect("a number");
    Instance {
        name: name.into(),
        process: process.into(),
        number,
        state: "running".into(),
        since: START + 2 * SECOND,
        started: Some(START + SECOND),
        ended: None,
        pid: Some(4710 + number),
        result: None,
        exit_code: None,
        signal: None,
        invocation: 1,
        restarts: 0,
        restart_at: None,
        restart_reason: None,
        leftovers: 0,
        port: None,
        journald_direct: false,
        pty: false,
        restart: "on-failure".into(),
        command: format!("bin/{process}"),
        working_directory: "/srv/shop".into(),
        cgroup: Some(format!("/sys/fs/cgroup/user.slice/shop.scope/app/{name}")),
        ceilings: Ceilings::default(),
        usage: Usage {
            memory_current: Some(12 * MIB + MIB / 3),
            cpu_usec: Some(1_240_000),
            tasks: Some(3),
            ..Usage::default()
        },
        failure: None,
        processes: None,
    }
}

fn web(number: u32) -> Instance {
    let mut web = instance(&format!("web.{number}"));
    web.port = Some(4999 + number as u16);
    web.ceilings = Ceilings { memory_max: Some(64 * MIB), tasks_max: Some(50), ..Ceilings::default() };
    web.usage.memory_current = Some(u64::from(number) * 27 % 63 * MIB + 300_000);
    web
}

/// One that is not there.
fn gone(mut instance: Instance, state: &str, result: Option<&str>) -> Instance {
    instance.state = state.into();
    instance.result = result.map(Into::into);
    instance.pid = None;
    instance.cgroup = None;
    instance.since = NOW - 303 * SECOND;
    instance.ended = Some(instance.since);
    instance.usage = Usage { cpu_usec: instance.usage.cpu_usec, ..Usage::default() };
    instance
}

fn healthy() -> Status {
    Status { stack: stack(), instances: vec![web(1), web(2), instance("worker.1"), instance("urgent.1")] }
}

/// As much trouble as one stack can have.
fn troubled() -> Status {
    let mut crashed = gone(web(1), "failed", Some("exit-code"));
    (crashed.exit_code, crashed.restarts, crashed.invocation) = (Some(3), 4, 5);
    let mut waiting = gone(web(2), "restart-wait", Some("signal"));
    (waiting.signal, waiting.restarts, waiting.since) = (Some("SIGSEGV".into()), 12, NOW - SECOND);
    waiting.ended = Some(waiting.since);
    waiting.restart_at = Some(NOW + 3 * SECOND / 2);
    let mut eaten = gone(instance("worker.1"), "failed", Some("oom-kill"));
    eaten.signal = Some("SIGKILL".into());
    let mut frozen = instance("worker.2");
    frozen.state = "frozen".into();
    let mut stopping = instance("worker.3");
    stopping.state = "stop-sigterm".into();
    let mut killed = instance("worker.4");
    killed.state = "stop-sigkill".into();
    let mut starting = instance("urgent.1");
    (starting.state, starting.pid, starting.since) = ("starting".into(), None, NOW);
    starting.usage = Usage::default();
    let mut done = gone(instance("migrate.1"), "inactive", Some("success"));
    done.exit_code = Some(0);
    let never = never("release.1");
    let mut stack = stack();
    stack.processes.push(ProcessType { name: "console".into(), command: "x".into(), instances: 0 });
    stack.processes.push(ProcessType { name: "report".into(), command: "x".into(), instances: 0 });
    let instances = vec![crashed, waiting, eaten, frozen, stopping, killed, starting, done, never];
    Status { stack, instances }
}

fn never(name: &str) -> Instance {
    let mut never = gone(instance(name), "inactive", None);
    (never.invocation, never.started, never.ended, never.since) = (0, None, None, START);
    never.usage = Usage::default();
    never
}

/// Words that are not known here, as a newer lpm might say them.
fn newer() -> Status {
    let mut status = healthy();
    (status.stack.state, status.stack.tier) = ("degraded".into(), "partial".into());
    status.instances[0].state = "ready".into();
    status.instances[1] = gone(web(2), "skipped\x1b[2J", Some("watchdog"));
    (status.instances[1].invocation, status.instances[1].exit_code) = (1, Some(0));
    let mut failed = failed(1);
    (failed.result, failed.next) = ("watchdog".into(), "parked".into());
    status.instances[1].failure = Some(failed);
    status
}

fn uncounted() -> Status {
    let mut status = healthy();
    (status.stack.tier, status.stack.cgroup) = ("tracking".into(), None);
    (status.stack.ceilings, status.stack.usage) = (Ceilings::default(), Usage::default());
    for instance in &mut status.instances {
        (instance.ceilings, instance.usage) = (Ceilings::default(), Usage::default());
    }
    status
}

fn long_names() -> Status {
    let mut status = healthy();
    status.stack.root =
        "/home/someone/projects/of-the-year/somewhere/deep/inside/of/a/tree/with/a/shop".into();
    status.instances.push(instance("worker-with-long-name.12"));
    status
        .instances
        .push(instance("a-worker-that-does-everything-and-is-called-by-everything-it-does-all-day.3"));
    status
}

#[test]
fn lists() {
    let mut kept = Snapshot::new("list.txt");
    let mut add = |what, status: &Status, look: Look| {
        kept.add(what, &look, &list(status, NOW, &TimeZone::UTC, &look));
    };
    add("healthy", &healthy(), LOOK);
    for columns in [40, 60, 100, 120] {
        add("healthy", &healthy(), wide(columns));
    }
    add("tier tracking, nothing counted", &uncounted(), LOOK);
    for columns in [60, 80, 120] {
        add("trouble", &troubled(), wide(columns));
    }
    add("trouble, in colour", &troubled(), Look { columns: 120, ..colour() });
    let mut frozen = healthy();
    frozen.stack.state = "frozen".into();
    frozen.instances.iter_mut().for_each(|instance| instance.state = "frozen".into());
    add("all frozen", &frozen, LOOK);
    let mut over = healthy();
    over.stack.state = "tear-down".into();
    over.instances.iter_mut().for_each(|instance| instance.state = "stop-sigterm".into());
    over.instances[3] = gone(instance("urgent.1"), "inactive", Some("success"));
    add("being torn down", &over, LOOK);
    add(
        "one failed, the rest of it runs",
        &Status {
            instances: troubled().instances.drain(..1).chain(healthy().instances.drain(1..)).collect(),
            ..healthy()
        },
        LOOK,
    );
    add("long names", &long_names(), LOOK);
    add("long names", &long_names(), wide(60));
    let mut many = healthy();
    many.instances = (1..=30).map(web).collect();
    add("thirty of them", &many, LOOK);
    add("of a newer lpm", &newer(), LOOK);
    add("none", &Status { instances: Vec::new(), ..healthy() }, LOOK);
    kept.assert();
}

fn processes() -> Vec<Process> {
    [
        (4711, 4700, "bin/server --port 5000"),
        (4720, 4711, "worker: handling \x1b]0;hello\x07"),
        (4722, 4720, "sh -c 'convert a-picture-with-a-long-name.jpeg -resize 50% another-picture.jpeg'"),
        (4723, 4722, "convert"),
        (4721, 4711, "worker: idle"),
        (4800, 1, "a-daemon --that went away"),
        (4801, 4800, "its child"),
    ]
    .map(|(pid, parent, command)| Process { pid, parent, command: command.into() })
    .to_vec()
}

fn said(time: u64, stream: &str, text: &str) -> Line {
    Line {
        sequence: 1,
        time,
        instance: "web.1".into(),
        stream: stream.into(),
        text: text.into(),
        bytes: None,
        part: false,
    }
}

fn full() -> Instance {
    let mut full = web(1);
    full.command = "bin/server --port $PORT --workers 4".into();
    full.ceilings = Ceilings {
        memory_max: Some(64 * MIB),
        memory_high: Some(48 * MIB),
        memory_swap_max: Some(16 * MIB),
        cpu_quota: Some(1500),
        cpu_weight: Some(200),
        tasks_max: Some(50),
    };
    full.usage = Usage {
        memory_current: Some(52 * MIB + MIB / 3),
        memory_peak: Some(60 * MIB),
        swap_current: Some(2 * MIB),
        cpu_usec: Some(1_234_567),
        throttled_usec: Some(2_100_000),
        tasks: Some(7),
        oom_kills: Some(1),
        tasks_refused: Some(12),
        cpu_pressure: Some(12.3),
        memory_pressure: Some(0.0),
        io_pressure: Some(0.12),
        io_read: Some(3 * MIB),
        io_written: Some(700 * 1024),
    };
    (full.pty, full.leftovers, full.restarts, full.invocation) = (true, 2, 2, 3);
    full.restart_reason = Some("exit code 3".into());
    (full.result, full.exit_code, full.ended) = (Some("exit-code".into()), Some(3), Some(START + SECOND));
    full.processes = Some(processes());
    full
}

#[test]
fn details() {
    let lines = [
        said(START, "lpm", "started with pid 4711"),
        said(START + SECOND, "out", "\x1b[32mlistening\x1b[0m on\t5000"),
        said(START + 2 * SECOND, "err", "GET / \x1b[2J"),
        said(START + 3 * SECOND, "out", &"a line that is much too long for this ".repeat(4)),
    ];
    let mut kept = Snapshot::new("detail.txt");
    let mut add = |what, instance: &Instance, lines: &[Line], look: Look| {
        kept.add(what, &look, &detail(&stack(), instance, lines, NOW, &TimeZone::UTC, &look));
    };
    add("all there is", &full(), &lines, LOOK);
    add("all there is", &full(), &lines, wide(60));
    add("all there is", &full(), &lines, wide(120));
    add("all there is, in colour", &full(), &lines, colour());
    let mut plain = instance("worker.1");
    plain.processes = Some(vec![Process { pid: 4711, parent: 4700, command: "bin/worker".into() }]);
    add("no limits", &plain, &[], LOOK);
    let mut uncounted = plain.clone();
    (uncounted.usage, uncounted.cgroup, uncounted.processes) = (Usage::default(), None, None);
    add("nothing counted", &uncounted, &[], LOOK);
    let troubled = troubled().instances;
    add("failed", &troubled[0], &lines[3..], LOOK);
    add("waits for its restart", &troubled[1], &[], LOOK);
    add("out of memory", &troubled[2], &[], LOOK);
    add("frozen", &troubled[3], &[], LOOK);
    let newer = newer().instances;
    add("ready, as a newer lpm says", &newer[0], &[said(START, "audit", "who knows")], LOOK);
    add("skipped, as a newer lpm says", &newer[1], &[], LOOK);
    let mut again = instance("worker.1");
    (again.invocation, again.restarts, again.failure) = (3, 2, Some(traceback()));
    add("runs again after it failed", &again, &lines[..1], LOOK);
    add("runs again after it failed", &again, &lines[..1], wide(60));
    add("runs again after it failed, in colour", &again, &lines[..1], colour());
    let mut limit = troubled[0].clone();
    limit.failure = Some(Failure {
        result: "start-limit-hit".into(),
        exit_code: Some(3),
        cause: "exited with code 3".into(),
        notes: vec!["start-limit-hit: started 5 times within 10s".into()],
        restarts: 4,
        lines: lines[3..].to_vec(),
        ..failed(5)
    });
    // Its last lines are those of the page.
    add("failed too often", &limit, &lines[3..], LOOK);
    let mut missing = gone(instance("urgent.1"), "failed", Some("resources"));
    missing.usage = Usage::default();
    missing.failure = Some(not_found());
    add("could not be started", &missing, &[], LOOK);
    add("done", &troubled[7], &[], LOOK);
    add("never started", &never("release.1"), &[], LOOK);
    kept.assert();
}

/// Life `invocation`, which ended 5 s ago.
fn failed(invocation: u32) -> Failure {
    Failure {
        invocation,
        started: NOW - 5 * SECOND - 230_000,
        time: NOW - 5 * SECOND,
        pid: Some(4711),
        result: "exit-code".into(),
        exit_code: None,
        signal: None,
        core_dumped: false,
        cause: String::new(),
        notes: Vec::new(),
        restarts: 0,
        leftovers: 0,
        next: "stack-ends".into(),
        restart_delay: None,
        missing: None,
        nearest: Vec::new(),
        trace: None,
        lines: Vec::new(),
    }
}

fn last_words(text: &str) -> Vec<Line> {
    let said = |(at, text)| Line { sequence: 100 + at as u64, ..said(NOW - 6 * SECOND, "out", text) };
    text.lines().enumerate().map(said).collect()
}

fn trace(language: &str, message: &str, location: &str) -> Option<Trace> {
    let [language, message, location] = [language, message, location].map(str::to_owned);
    Some(Trace { language, message, location: Some(location) })
}

fn traceback() -> Failure {
    let text = "listening on 5000\nTraceback (most recent call last):\n  File \"/srv/shop/app.py\", line 12, in <module>\n    parse(sys.argv[1])\n  File \"/srv/shop/app.py\", line 8, in parse\n    return json.loads(text)\njson.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)";
    Failure {
        exit_code: Some(1),
        cause: "exited with code 1".into(),
        restarts: 1,
        leftovers: 2,
        next: "restart".into(),
        restart_delay: Some(200_000),
        trace: trace(
            "python",
            "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
            "/srv/shop/app.py:8 in parse",
        ),
        lines: last_words(text),
        ..failed(2)
    }
}

fn not_found() -> Failure {
    Failure {
        pid: None,
        result: "resources".into(),
        cause: "cannot start: bin/sevrer: command not found".into(),
        missing: Some("bin/sevrer".into()),
        nearest: vec!["bin/server".into(), "bin/serve".into()],
        ..failed(1)
    }
}

#[test]
fn failures() {
    let mut kept = Snapshot::new("failure.txt");
    let mut add = |what, one: &Failure, look: Look| {
        kept.add(what, &look, &failure("web.1", "bin/server --port $PORT", one, &look));
    };
    add("a python traceback", &traceback(), LOOK);
    add("a python traceback", &traceback(), wide(40));
    let node = Failure {
        cause: "exited with code 1".into(),
        trace: trace(
            "node",
            "TypeError: Cannot read properties of undefined (reading 'price')",
            "/srv/shop/index.js:3:9 in total",
        ),
        lines: last_words(
            "/srv/shop/index.js:3\n  return cart.price\n              ^\n\nTypeError: Cannot read properties of undefined (reading 'price')\n    at total (/srv/shop/index.js:3:9)\n    at Object.<anonymous> (/srv/shop/index.js:6:1)\n\nNode.js v18.19.0",
        ),
        ..failed(1)
    };
    add("a node stack", &node, LOOK);
    let rust = Failure {
        cause: "exited with code 101".into(),
        trace: trace("rust", "index out of bounds: the len is 3 but the index is 99", "src/main.rs:4:5"),
        lines: last_words(
            "thread 'main' panicked at src/main.rs:4:5:\nindex out of bounds: the len is 3 but the index is 99\n\u{1b}[2Jnote: run with `RUST_BACKTRACE=1`",
        ),
        ..failed(1)
    };
    add("a rust panic", &rust, LOOK);
    let segfault = Failure {
        result: "core-dump".into(),
        signal: Some("SIGSEGV".into()),
        core_dumped: true,
        cause: "terminated by SIGSEGV: invalid memory access, core dumped".into(),
        notes: vec!["coredumpctl info 4711 tells of the core, if systemd-coredump keeps them".into()],
        started: NOW - 3 * 3600 * SECOND,
        ..failed(1)
    };
    add("a segmentation fault", &segfault, LOOK);
    let eaten = Failure {
        result: "oom-kill".into(),
        signal: Some("SIGKILL".into()),
        cause: "oom-kill: memory limit 64M reached, peak 64M (terminated by SIGKILL)".into(),
        next: "rest".into(),
        ..failed(1)
    };
    add("out of memory", &eaten, LOOK);
    let code = Failure { exit_code: Some(3), cause: "exited with code 3".into(), ..failed(1) };
    add("a code", &code, LOOK);
    add("a missing command", &not_found(), LOOK);
    let limit = Failure {
        result: "start-limit-hit".into(),
        cause: "exited with code 6".into(),
        notes: vec!["start-limit-hit: started 5 times within 10s".into()],
        restarts: 4,
        leftovers: 1,
        ..failed(5)
    };
    add("too often", &limit, LOOK);
    kept.assert();
}

/// The list of processes is read while they come and go.
#[test]
fn a_tree_ends_whatever_the_list_says() {
    let process = |pid, parent| Process { pid, parent, command: "x".into() };
    let tree = |processes: Vec<Process>| {
        let mut instance = instance("web.1");
        instance.processes = Some(processes);
        let page = detail(&stack(), &instance, &[], NOW, &TimeZone::UTC, &LOOK);
        holds(&page, &LOOK);
        let (_, tree) = page.split_once("web.1\n             ").expect("the tree follows the leaf's path");
        tree.lines().map(|line| line.trim_start_matches("             ").to_owned()).collect::<Vec<_>>()
    };
    let ring = vec![process(1, 2), process(2, 1), process(3, 3), process(3, 1)];
    assert_eq!(tree(ring), ["└─3 x", "└─1 x", "  └─2 x"]);
    let chain = tree((1..=5000).map(|pid| process(pid, pid - 1)).collect());
    assert_eq!((chain.len(), chain[64].as_str()), (65, "and 4936 more"));
    let flat = tree((1..=64).map(|pid| process(pid, 0)).collect());
    assert_eq!((flat.len(), flat[63].as_str()), (64, "└─64 x"));
}

#[test]
fn logs() {
    let mut kept = Snapshot::new("logs.txt");
    let all: [(&str, Line); 8] = [
        ("lpm's own", said(START, "lpm", "started with pid 4711")),
        ("a line", said(START, "out", "listening on 5000")),
        ("of stderr", said(START, "err", "a warning")),
        ("a part", Line { part: true, ..said(START, "out", "a very long") }),
        ("lpm in between", said(START, "lpm", "exited with code 0 (cpu 3ms)")),
        ("the rest", said(START, "out", "line")),
        ("another's", Line { instance: "worker.1".into(), ..said(START, "out", "\x1b[1mbold\x07") }),
        ("of the stack", Line { instance: "system".into(), ..said(START, "lpm", "thawed") }),
    ];
    for look in [LOOK, colour()] {
        let mut lines = Lines::new(Names::of(&healthy()), TimeZone::UTC, look);
        let said = all.iter().map(|(_, line)| String::from_utf8(lines.line(line)).expect("UTF-8"));
        let said = said.collect::<String>() + &lines.missed(3, NOW);
        kept.add(if look.colour { "in colour" } else { "lines" }, &Look { colour: true, ..look }, &said);
    }
    kept.assert();
}

#[test]
fn bytes_pass_exactly_unless_a_terminal_reads_them() {
    let line = Line { bytes: Some("/xtbMm0K".into()), ..said(START, "out", "\u{fffd}[2m") };
    let written = |terminal| {
        let look = Look { terminal, ..LOOK };
        Lines::new(Names::of(&healthy()), TimeZone::UTC, look).line(&line)
    };
    assert_eq!(written(false), b"01:02:03 web.1    | \xff\x1b[2m\n\n");
    assert_eq!(written(true), b"01:02:03 web.1    | \\xff\x1b[2m\\x0a\x1b[0m\n");
}

#[test]
fn events() {
    let happened = |event: &str, instance: Option<&str>, result: Option<&str>, message: &str| Event {
        sequence: 1,
        time: START,
        event: event.into(),
        instance: instance.map(str::to_owned),
        message: message.into(),
        pid: None,
        exit_code: None,
        signal: None,
        result: result.map(Into::into),
        usage: None,
        ceilings: None,
        cause: None,
        trace: None,
    };
    let all = [
        happened("started", Some("web.1"), None, "started with pid 4711"),
        happened("ended", Some("web.1"), Some("success"), "exited with code 0 (cpu 3ms)"),
        happened("ended", Some("worker.1"), Some("exit-code"), "exited with code 3 (cpu 3ms)"),
        Event {
            trace: trace("python", "ValueError: no such thing", "app.py:3"),
            ..happened("ended", Some("worker.1"), Some("exit-code"), "exited with code 1 (cpu 3ms)")
        },
        happened("restart-in", Some("worker.1"), None, "restarting in 100ms (restart 2)"),
        happened(
            "start-limit-hit",
            Some("worker.1"),
            None,
            "started 5 times within 10s, not again (start-limit-hit)",
        ),
        happened("cannot-start", Some("urgent.1"), None, "cannot start: bin/\x1b[2J: command not found"),
        happened("suspended", None, None, "frozen; continue with fg or SIGCONT"),
        happened("stopping-all", None, None, "sending SIGTERM to all processes"),
        happened("health-\x1b[2Jlost", Some("web.1"), Some("watchdog"), "of a newer lpm"),
    ];
    let mut kept = Snapshot::new("events.txt");
    for look in [LOOK, colour()] {
        let names = Names::of(&healthy());
        let page: String = all.iter().map(|one| event(one, &names, &TimeZone::UTC, &look)).collect();
        kept.add(if look.colour { "in colour" } else { "events" }, &Look { columns: 100, ..look }, &page);
    }
    kept.assert();
}

fn change(instance: Option<&str>, kind: &str, details: &[&str]) -> Change {
    let details = details.iter().map(|detail| (*detail).to_owned()).collect();
    Change { instance: instance.map(str::to_owned), kind: kind.into(), details }
}

#[test]
fn differences() {
    let all = [
        change(Some("web.1"), "live", &["memory-max 64M -> 128M", "cpu-quota infinity -> 1.5"]),
        change(Some("web.2"), "live", &["memory-max 64M -> 128M", "cpu-quota infinity -> 1.5"]),
        change(
            Some("worker.1"),
            "restart",
            &[
                "command \"bin/worker --queue default --concurrency 4\" -> \"bin/worker --queue default,mailers --concurrency 8\"",
                "environment: REDIS_URL changed, DEBUG removed",
            ],
        ),
        change(Some("worker.2"), "added", &[]),
        change(Some("worker.3"), "added", &[]),
        change(Some("worker.4"), "added", &[]),
        change(Some("clock.1"), "added", &["PORT 5200"]),
        change(Some("urgent.2"), "removed", &[]),
        change(Some("urgent.1"), "removed", &[]),
        change(None, "stack", &["memory-max 1G -> 2G"]),
        change(Some("web.1"), "postponed", &["memory-max 64M -> 128M"]),
    ];
    let mut kept = Snapshot::new("changes.txt");
    for look in [LOOK, wide(60), wide(120), colour()] {
        kept.add(if look.colour { "in colour" } else { "changes" }, &look, &changes(&all, &look));
    }
    kept.add("scaled", &LOOK, &changes(&all[3..6], &LOOK));
    kept.add("the same", &LOOK, &changes(&[], &LOOK));
    kept.assert();
}

#[test]
fn lists_of_stacks() {
    let all = [
        StackLine {
            name: "shop".into(),
            pid: 4700,
            since: Some(START),
            root: "/srv/shop".into(),
            answer: StackAnswer::State(StackState::Up),
            running: Some((7, 8)),
            socket: Some("/run/user/1000/lpm/shop.sock".into()),
        },
        StackLine {
            name: "blog".into(),
            pid: 123_456,
            since: Some(NOW - 42 * SECOND),
            root: "/home/someone/projects/of-the-year/somewhere/deep/inside/of/a/tree/with/a/blog".into(),
            answer: StackAnswer::State(StackState::Frozen),
            running: Some((2, 2)),
            socket: Some("/run/user/1000/lpm/blog.sock".into()),
        },
        StackLine {
            name: "old".into(),
            pid: 99,
            since: None,
            root: "/srv/old".into(),
            answer: StackAnswer::None,
            running: None,
            socket: None,
        },
    ];
    let mut kept = Snapshot::new("stacks.txt");
    for look in [LOOK, wide(60), wide(140), colour()] {
        kept.add(if look.colour { "in colour" } else { "stacks" }, &look, &stacks(&all, NOW, &look));
    }
    kept.add("none", &LOOK, &stacks(&[], NOW, &LOOK));
    kept.assert();
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z ./$-]{0,90}", "\\PC{0,30}", any::<String>()]
}

fn states() -> impl Strategy<Value = String> {
    let known = [
        "inactive",
        "starting",
        "running",
        "freezing",
        "frozen",
        "stop-sigterm",
        "stop-sigkill",
        "stuck",
        "restart-wait",
        "failed",
    ];
    prop_oneof![prop::sample::select(known.to_vec()).prop_map(str::to_owned), words()]
}

fn usages() -> impl Strategy<Value = Usage> {
    let number = || prop::option::of(prop_oneof![0u64..1 << 34, any::<u64>()]);
    let share = || prop::option::of(prop_oneof![0f64..100.0, any::<f64>()]);
    (prop::array::uniform10(number()), prop::array::uniform3(share())).prop_map(|(n, p)| Usage {
        memory_current: n[0],
        memory_peak: n[1],
        swap_current: n[2],
        cpu_usec: n[3],
        throttled_usec: n[4],
        tasks: n[5],
        oom_kills: n[6],
        tasks_refused: n[7],
        cpu_pressure: p[0],
        memory_pressure: p[1],
        io_pressure: p[2],
        io_read: n[8],
        io_written: n[9],
    })
}

fn fails() -> impl Strategy<Value = Failure> {
    let texts = prop::collection::vec(words(), 0..4);
    (texts, words(), words(), words(), any::<[u32; 4]>(), any::<[bool; 2]>()).prop_map(
        |(texts, cause, message, next, numbers, given)| Failure {
            invocation: numbers[0],
            time: NOW.saturating_sub(numbers[1].into()),
            pid: given[0].then_some(7),
            restarts: numbers[2],
            leftovers: numbers[3],
            trace: given[1].then(|| Trace { language: cause.clone(), message, location: Some(next.clone()) }),
            cause,
            next: next.into(),
            lines: texts.iter().map(|text| said(START, "out", text)).collect(),
            nearest: texts.clone(),
            notes: texts,
            ..failed(1)
        },
    )
}

fn limits() -> impl Strategy<Value = Ceilings> {
    prop::array::uniform6(prop::option::of(prop_oneof![0u64..1 << 34, any::<u64>()])).prop_map(|n| Ceilings {
        memory_max: n[0],
        memory_high: n[1],
        memory_swap_max: n[2],
        cpu_quota: n[3],
        cpu_weight: n[4],
        tasks_max: n[5],
    })
}

fn instances() -> impl Strategy<Value = Instance> {
    let moments =
        prop::array::uniform4(prop::option::of(prop_oneof![START..NOW + 1000 * SECOND, any::<u64>()]));
    let tree = prop::collection::vec((0u32..20, 0u32..20, words()), 0..12);
    let texts = (words(), words(), words(), words(), prop::option::of(words()));
    let numbers = (any::<[u32; 3]>(), any::<Option<[u16; 2]>>(), any::<Option<u8>>(), any::<bool>());
    let result =
        prop::option::of(prop_oneof![Just("success".to_owned()), Just("exit-code".to_owned()), words()]);
    let used = (usages(), limits(), prop::option::of(fails()));
    (states(), result, moments, tree, texts, numbers, used).prop_map(
        |(state, result, moments, tree, texts, numbers, (usage, ceilings, failure))| Instance {
            name: texts.0.clone(),
            process: texts.0,
            number: 1,
            state: state.into(),
            since: moments[0].unwrap_or(START),
            started: moments[1],
            ended: moments[2],
            pid: numbers.1.map(|_| numbers.0[0]),
            result: result.map(Into::into),
            exit_code: numbers.2,
            signal: texts.4.clone(),
            invocation: numbers.0[1],
            restarts: numbers.0[2],
            restart_at: moments[3],
            restart_reason: texts.4.clone(),
            leftovers: numbers.0[2] / 2,
            port: numbers.1.map(|ports| ports[0]),
            journald_direct: numbers.3,
            pty: numbers.3,
            restart: texts.1,
            command: texts.2,
            working_directory: texts.3,
            cgroup: texts.4,
            ceilings,
            usage,
            failure,
            processes: Some(
                tree.into_iter().map(|(pid, parent, command)| Process { pid, parent, command }).collect(),
            ),
        },
    )
}

proptest! {
    #[test]
    fn every_page_keeps_what_is_promised(
        instances in prop::collection::vec(instances(), 0..6),
        (usage, ceilings, state, root) in (usages(), limits(), states(), words()),
        texts in prop::collection::vec((words(), prop::option::of(words())), 0..4),
        (columns, colour, now_usec) in (Look::NARROWEST..200, any::<bool>(), prop_oneof![Just(NOW), any::<u64>()]),
    ) {
        let look = Look { columns, colour, terminal: true };
        let stack = Stack { usage, ceilings, state: state.into(), root, ..stack() };
        let status = Status { stack, instances };
        holds(&list(&status, now_usec, &TimeZone::UTC, &look), &look);
        let lines: Vec<Line> = texts
            .iter()
            .map(|(text, bytes)| Line { bytes: bytes.clone(), ..said(START, "out", text) })
            .collect();
        for instance in &status.instances {
            holds(&detail(&status.stack, instance, &lines, now_usec, &TimeZone::UTC, &look), &look);
            if let Some(one) = &instance.failure {
                holds(&failure(&instance.name, &instance.command, one, &look), &look);
            }
        }
        let changed: Vec<Change> = texts
            .iter()
            .map(|(text, name)| change(name.as_deref(), "restart", &[text]))
            .collect();
        holds(&changes(&changed, &look), &look);
        let running: Vec<StackLine> = status
            .instances
            .iter()
            .map(|instance| StackLine {
                name: instance.name.clone(),
                pid: instance.invocation,
                since: instance.started,
                root: instance.working_directory.clone(),
                answer: StackAnswer::State(instance.command.as_str().into()),
                running: instance.port.map(|port| (port.into(), 3)),
                socket: instance.cgroup.clone(),
            })
            .collect();
        holds(&stacks(&running, now_usec, &look), &look);
    }
}
