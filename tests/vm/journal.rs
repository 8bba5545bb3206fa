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
    for text in ["The kernel killed at a memory limit", "lpm set worker memory-max=1G", "worker.1"] {
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

/// A message to a socket of journald starts it again, so the sockets are stopped as well. All are started again when
/// dropped.
struct NoJournald;

const SOCKETS: [&str; 2] = ["systemd-journald.socket", "systemd-journald-dev-log.socket"];

impl NoJournald {
    fn new() -> NoJournald {
        let mut command = Command::new("systemctl");
        command.arg("stop").args(SOCKETS).arg("systemd-journald.service");
        Running::spawn(command).end().exited_with(0);
        NoJournald
    }
}

impl Drop for NoJournald {
    fn drop(&mut self) {
        let mut command = Command::new("systemctl");
        command.arg("start").args(SOCKETS).arg("systemd-journald.service");
        Running::spawn(command).end();
    }
}

pub fn a_stack_goes_on_without_a_journald() {
    let procfile = "web: echo before; until [ -e go ]; do sleep 0.1; done; seq -f 'without %g' 200; echo >wrote; \
                    until [ -e end ]; do sleep 0.1; done; echo after; exec sleep 1000\n";
    let stack = Stack::new(procfile);
    let running = stack.start(&["start", "--log", "journald"]);
    let has = |text: &str| entries(&stack, &[]).iter().filter(|entry| entry["MESSAGE"] == text).count();
    waiting::until("the first line is there", PATIENCE, || (has("before") == 1).then_some(()));
    let without = NoJournald::new();
    std::fs::write(stack.folder().join("go"), "").expect("ours");
    let wrote = stack.folder().join("wrote");
    waiting::until("it wrote", PATIENCE, || wrote.exists().then_some(()));
    waiting::until("all lines have come", PATIENCE, || {
        stack.run(&["logs", "-n", "3"]).exited_with(0).contains("without 200").then_some(())
    });
    stack.run(&["status"]).exited_with(0);
    drop(without);
    std::fs::write(stack.folder().join("end"), "").expect("ours");
    waiting::until("the last line is there", PATIENCE, || (has("after") == 1).then_some(()));
    stack.run(&["down"]).exited_with(0);
    running.end().exited_with(0);
    crate::processes::gone(std::time::Duration::ZERO);
}

/// journald stands still: its socket takes a few hundred entries and then no more.
pub fn a_journald_that_reads_nothing_holds_nothing_up() {
    let stack = Stack::new(
        "web: until [ -e go ]; do sleep 0.1; done; seq 5000; echo >wrote; exec sleep 1000\n\
                            other: trap 'echo bye >bye; exit 0' TERM; while :; do sleep 1000 & wait; done\n",
    );
    let running = stack.start(&["start", "--log", "journald"]);
    waiting::until("it is up", PATIENCE, || {
        (entries(&stack, &["LPM_EVENT=started"]).len() == 2).then_some(())
    });
    let journald: i32 = systemctl(&["show", "--value", "--property=MainPID", "systemd-journald"])
        .exited_with(0)
        .trim()
        .parse()
        .expect("a number");
    let journald = rustix::process::Pid::from_raw(journald).expect("it runs");
    let journald =
        rustix::process::pidfd_open(journald, rustix::process::PidfdFlags::empty()).expect("it runs");
    let send = |signal| rustix::process::pidfd_send_signal(&journald, signal).expect("we are root");
    send(rustix::process::Signal::STOP);
    std::fs::write(stack.folder().join("go"), "").expect("ours");
    let wrote = stack.folder().join("wrote");
    let all = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        waiting::until("it wrote", PATIENCE, || wrote.exists().then_some(()));
        stack.run(&["status"]).exited_with(0);
        waiting::until("all lines have come", PATIENCE, || {
            stack.run(&["logs", "-n", "1", "web"]).exited_with(0).contains("| 5000").then_some(())
        });
        stack.run(&["restart", "web"]).exited_with(0);
        stack.run(&["down"]).exited_with(0);
        running.end().exited_with(0)
    }));
    send(rustix::process::Signal::CONT);
    let output = match all {
        Ok(output) => output,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    assert!(stack.folder().join("bye").exists(), "{output}");
    crate::processes::gone(std::time::Duration::ZERO);
}

/// A file system of its own in a folder; gone when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn new(stack: &Stack) -> SmallDisk {
        let folder = stack.folder().join("small");
        std::fs::create_dir(&folder).expect("ours");
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=64k", "small"]).arg(&folder);
        Running::spawn(command).end().exited_with(0);
        SmallDisk(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut command = Command::new("umount");
        command.arg("--lazy").arg(&self.0);
        Running::spawn(command).end();
    }
}

pub fn a_full_disk_costs_lines_and_nothing_else() {
    let stack = Stack::new(
        "web: until [ -e go ]; do sleep 0.1; done; seq -f 'a line of some length, number %g' 3000; echo >wrote; \
         until [ -e end ]; do sleep 0.1; done; echo after; echo >wrote2; exec sleep 1000\n",
    );
    let disk = SmallDisk::new(&stack);
    let running = stack.start(&["start", "--log", "file=small", "--report", "small/report.html"]);
    std::fs::write(stack.folder().join("go"), "").expect("ours");
    waiting::until("it wrote", PATIENCE, || stack.folder().join("wrote").exists().then_some(()));
    waiting::until("all lines have come", PATIENCE, || {
        stack.run(&["logs", "-n", "1", "web"]).exited_with(0).contains("number 3000").then_some(())
    });
    stack.run(&["status"]).exited_with(0);
    let size = || -> u64 {
        let files = std::fs::read_dir(&disk.0).expect("it is there").flatten();
        files.map(|file| file.metadata().map_or(0, |data| data.len())).sum()
    };
    assert!(size() > 16 << 10, "{}", size());
    for file in std::fs::read_dir(&disk.0).expect("it is there").flatten() {
        std::fs::OpenOptions::new()
            .write(true)
            .open(file.path())
            .and_then(|file| file.set_len(0))
            .expect("ours");
    }
    std::fs::write(stack.folder().join("end"), "").expect("ours");
    let after = waiting::until("the file takes lines again", PATIENCE, || {
        let files = std::fs::read_dir(&disk.0).expect("it is there").flatten();
        let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        texts.into_iter().find(|text| text.contains("after"))
    });
    assert!(after.contains("lines could not be written: No space left on device"), "{after}");
    stack.run(&["down"]).exited_with(0);
    running.end().exited_with(0);
    crate::processes::gone(std::time::Duration::ZERO);
}
