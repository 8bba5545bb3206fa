//! `--log journald` on a machine that has one: what happened is found by its fields, and explained.

use std::process::Command;

use serde_json::Value;

use crate::stack::{Running, Stack, lpm};
use crate::systemd::systemctl;
use crate::waiting::{self, PATIENCE};

/// `journalctl ARGUMENTS`, of this stack alone.
#[track_caller]
fn journalctl(stack: &Stack, arguments: &[&str]) -> String {
    let name = stack.folder().file_name().expect("it has a name").to_string_lossy().into_owned();
    let mut command = Command::new("journalctl");
    command.args(["--no-pager", "--quiet", &format!("LPM_STACK={name}")]).args(arguments);
    Running::spawn(command).end().exited_with(0)
}

#[track_caller]
fn entries(stack: &Stack, arguments: &[&str]) -> Vec<Value> {
    let text = journalctl(stack, &[&["--output=json"], arguments].concat());
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

pub fn an_oom_kill_is_found_and_explained() {
    let catalog = lpm().with_file_name("units").join("lpm.catalog");
    std::fs::copy(&catalog, "/usr/lib/systemd/catalog/lpm.catalog").expect("we are root");
    let mut command = Command::new("journalctl");
    command.arg("--update-catalog");
    Running::spawn(command).end().exited_with(0);

    let stack = Stack::new("worker: echo hungry; head -c 200M /dev/zero | tail; sleep 1000\n");
    stack.run(&["start", "--log", "terminal,journald", "--mem", "worker=64M"]).exited_with(137);
    let found = || entries(&stack, &["LPM_INSTANCE=worker.1"]);
    let all = waiting::until("the end is in the journal", PATIENCE, || {
        Some(found()).filter(|all| all.iter().any(|entry| entry["LPM_EVENT"] == "ended"))
    });
    assert!(all.iter().any(|entry| entry["MESSAGE"] == "hungry"), "{all:#?}");
    let ended = all.iter().find(|entry| entry["LPM_EVENT"] == "ended").expect("it is there");
    assert_eq!((&ended["LPM_RESULT"], &ended["LPM_SIGNAL"]), (&"oom-kill".into(), &"SIGKILL".into()));
    let number = |field: &str| ended[field].as_str().and_then(|text| text.parse::<u64>().ok());
    assert!(number("LPM_MEMORY_PEAK").is_some_and(|peak| peak > 32 << 20 && peak <= 64 << 20), "{ended}");
    assert!(number("LPM_OOM_KILLS").is_some_and(|kills| kills > 0), "{ended}");
    let explained = journalctl(&stack, &["--catalog", "LPM_RESULT=oom-kill"]);
    for text in ["The kernel killed at a memory ceiling", "lpm set worker memory-max=1G", "worker.1"] {
        assert!(explained.contains(text), "{text}: {explained}");
    }
}

pub fn a_journald_that_is_restarted_loses_nothing() {
    let stack = Stack::new(
        "web: seq -f 'before %g' 50; until [ -e go ]; do sleep 0.1; done; seq -f 'after %g' 50; exit 3\n",
    );
    let running = stack.start(&["start", "--log", "journald"]);
    let has = |text: &str| entries(&stack, &[]).iter().filter(|entry| entry["MESSAGE"] == text).count();
    waiting::until("the first lines are there", PATIENCE, || (has("before 50") == 1).then_some(()));
    systemctl(&["restart", "systemd-journald"]).exited_with(0);
    std::fs::write(stack.folder().join("go"), "").expect("ours");
    running.end().exited_with(3);
    waiting::until("the last lines are there", PATIENCE, || (has("after 50") == 1).then_some(()));
    let all = entries(&stack, &["LPM_INSTANCE=web.1"]);
    for when in ["before", "after"] {
        for number in 1..=50 {
            let line = format!("{when} {number}");
            assert_eq!(all.iter().filter(|entry| entry["MESSAGE"] == line.as_str()).count(), 1, "{line}");
        }
    }
    assert!(all.iter().any(|entry| entry["LPM_EXIT_CODE"] == "3"), "{all:#?}");
}

pub fn a_stream_of_its_own_has_the_instances_pid_and_cgroup() {
    let stack = Stack::new("web: echo \"pid $$\"; exec sleep 1000\n")
        .file("lpm.toml", "[process.web]\nlog = \"journald-direct\"\n");
    let mut running = stack.start(&["start"]);
    running.line("started with pid");
    let name = "SYSLOG_IDENTIFIER=web.1";
    let all = || {
        let mut command = Command::new("journalctl");
        command.args(["--no-pager", "--quiet", "--output=json", "--boot", name, "_TRANSPORT=stdout"]);
        let text = Running::spawn(command).end().exited_with(0);
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).collect::<Vec<_>>()
    };
    let entry = waiting::until("its line is in the journal", PATIENCE, || {
        all()
            .into_iter()
            .rev()
            .find(|entry| entry["MESSAGE"].as_str().is_some_and(|text| text.starts_with("pid ")))
    });
    let pid = entry["_PID"].as_str().expect("a pid");
    assert_eq!(entry["MESSAGE"].as_str(), Some(format!("pid {pid}").as_str()), "{entry}");
    let cgroup = entry["_SYSTEMD_CGROUP"].as_str().expect("a cgroup");
    assert!(cgroup.ends_with("/app/web.1"), "{cgroup}");
    // lpm fetches them where they are.
    let mut command = Command::new(lpm());
    command.args(["logs", "web", "-d"]).arg(stack.folder());
    let logs = Running::spawn(command).end().exited_with(0);
    assert!(logs.contains(&format!("| pid {pid}\n")), "{logs}");
    running.signal(rustix::process::Signal::TERM);
    running.end().killed_by(rustix::process::Signal::TERM);
}
