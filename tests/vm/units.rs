//! The units in `units/`, installed as they are: of the system as root, of the user otherwise. A drop-in says where
//! lpm is in a guest, and tags what it starts.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroups;
use crate::processes;
use crate::stack::{Running, Stack, lpm};
use crate::systemd::{property, systemctl};
use crate::waiting::{self, PATIENCE};

/// An installed unit, for one stack; gone when dropped.
struct Unit {
    name: String,
    files: [PathBuf; 2],
}

impl Unit {
    /// `settings`: further lines of the drop-in's `[Service]`.
    #[track_caller]
    fn install(stack: &Stack, settings: &str) -> Unit {
        let root = rustix::process::getuid().is_root();
        let shipped =
            lpm().with_file_name("units").join(if root { "lpm@.service" } else { "user/lpm@.service" });
        let folder = match root {
            true => PathBuf::from("/run/systemd/system"),
            false => PathBuf::from(format!("/run/user/{}/systemd/user", rustix::process::getuid().as_raw())),
        };
        let drop_in = folder.join("lpm@.service.d");
        fs::create_dir_all(&drop_in).expect("a folder can be made");
        let unit = folder.join("lpm@.service");
        fs::copy(&shipped, &unit).unwrap_or_else(|error| panic!("{}: {error}", shipped.display()));
        let tag = std::env::var(processes::TAG).expect("the harness tags every claim");
        let text = format!(
            "[Service]\nExecStart=\nExecStart={} start\nEnvironment={}={tag}\n{settings}\n",
            lpm().display(),
            processes::TAG
        );
        fs::write(drop_in.join("test.conf"), text).expect("a file can be written");
        let mut command = Command::new("systemd-escape");
        command.args(["--path", "--template=lpm@.service"]).arg(stack.folder());
        let name = Running::spawn(command).end().exited_with(0).trim().to_owned();
        let unit = Unit { name, files: [unit, drop_in] };
        systemctl(&["daemon-reload"]).exited_with(0);
        unit
    }

    #[track_caller]
    fn start(&self) {
        let ended = systemctl(&["start", &self.name]);
        if ended.status.code() != Some(0) {
            let status = systemctl(&["status", "--full", &self.name]).output;
            panic!("{}\n{status}", ended.output);
        }
    }

    #[track_caller]
    fn main_pid(&self) -> i32 {
        property(&self.name, "MainPID").parse().expect("a number")
    }
}

impl Drop for Unit {
    fn drop(&mut self) {
        systemctl(&["stop", &self.name]);
        systemctl(&["reset-failed", &self.name]);
        let [unit, drop_in] = &self.files;
        let _ = (fs::remove_file(unit), fs::remove_dir_all(drop_in));
        systemctl(&["daemon-reload"]);
        // systemd keeps the slice that it made for the instances of this unit.
        let names = cgroups::named("lpm").into_iter();
        let names = names.filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        for slice in names.filter(|name| name.ends_with("-lpm.slice")) {
            systemctl(&["stop", &slice]);
        }
    }
}

fn written(stack: &Stack, name: &str, end: &str) -> String {
    let path = stack.folder().join(name);
    waiting::until(name, PATIENCE, || fs::read_to_string(&path).ok().filter(|text| text.ends_with(end)))
}

pub fn the_shipped_unit_starts_is_ready_and_stops() {
    let procfile = "web: trap 'echo asked >>said; exit 0' TERM; echo up >said; while :; do sleep 1000 & wait; done\n\
                    worker: exec sleep 1001\n";
    let stack = Stack::new(procfile).file("lpm.toml", "[process.worker]\nmemory-max = \"64M\"\n");
    let unit = Unit::install(&stack, "");
    unit.start();
    // systemctl came back because lpm said that it is ready.
    assert_eq!(property(&unit.name, "ActiveState"), "active");
    assert_eq!(property(&unit.name, "StatusText"), "2 of 2 instances running");
    let own = cgroups::of(unit.main_pid()).expect("lpm lives");
    assert!(own.ends_with(format!("{}/supervisor", unit.name)), "{}", own.display());
    let leaf = own.with_file_name("app").join("worker.1");
    assert_eq!(cgroups::read(&leaf, "memory.max"), (64 << 20).to_string());
    written(&stack, "said", "up\n");
    systemctl(&["stop", &unit.name]).exited_with(0);
    assert_eq!(written(&stack, "said", "asked\n"), "up\nasked\n");
    processes::gone(Duration::ZERO);
    assert_eq!(property(&unit.name, "ActiveState"), "inactive");
    assert_eq!(property(&unit.name, "Result"), "success");
}

pub fn a_start_that_fails_is_a_unit_that_failed() {
    let stack = Stack::new("web: exec sleep 1000\nworker: no-such-program-here x\n");
    let unit = Unit::install(&stack, "Restart=no");
    let ended = systemctl(&["start", &unit.name]);
    assert_ne!(ended.status.code(), Some(0), "{}", ended.output);
    assert_eq!(property(&unit.name, "ActiveState"), "failed");
    assert_eq!(property(&unit.name, "ExecMainStatus"), "127");
    processes::gone(Duration::ZERO);
}

pub fn a_stop_that_takes_longer_than_systemds_limit_is_waited_for() {
    let procfile = "web: trap '' TERM; echo up >said; while :; do sleep 1000 & wait; done\n";
    let stack = Stack::new(procfile).file("lpm.toml", "[defaults]\ntimeout-stop = \"6s\"\n");
    let unit = Unit::install(&stack, "TimeoutStopSec=2s\nEnvironment=LPM_SUMMARY=summary");
    unit.start();
    written(&stack, "said", "up\n");
    let began = Instant::now();
    systemctl(&["stop", &unit.name]).exited_with(0);
    assert!(began.elapsed() >= Duration::from_secs(6), "only {:?}", began.elapsed());
    // lpm wrote this at its very end, so nobody killed it.
    let summary: serde_json::Value =
        serde_json::from_str(&written(&stack, "summary", "}\n")).expect("it is JSON");
    assert_eq!(summary["exit_code"], 143);
    processes::gone(Duration::ZERO);
}

pub fn kill_9_of_lpm_is_followed_by_a_clean_start() {
    let stack = Stack::new(
        "web: setsid sleep 1001 & trap '' TERM; echo $$ >>said; while :; do sleep 1000 & wait; done\n",
    );
    let unit = Unit::install(&stack, "RestartSec=100ms");
    unit.start();
    let first = unit.main_pid();
    written(&stack, "said", "\n");
    let pid = Pid::from_raw(first).expect("a process number");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
    pidfd_send_signal(pidfd, Signal::KILL).expect("it can be killed");
    waiting::until("it was started again", PATIENCE, || {
        let state = property(&unit.name, "ActiveState");
        (state == "active" && ![0, first].contains(&unit.main_pid())).then_some(())
    });
    waiting::until("the second one is up", PATIENCE, || {
        (fs::read_to_string(stack.folder().join("said")).ok()?.lines().count() == 2).then_some(())
    });
    let sleepers = processes::tagged().into_iter().filter(|one| one.command == "sleep 1001").count();
    assert_eq!(sleepers, 1, "the first one's is gone");
    systemctl(&["stop", &unit.name]).exited_with(0);
    processes::gone(Duration::ZERO);
}

pub fn a_unit_of_the_system_can_run_as_an_ordinary_user() {
    let procfile = "web: { id -un; cat /proc/self/cgroup; echo done; } >said; exec sleep 1000\n";
    let stack = Stack::new(procfile).file("lpm.toml", "[defaults]\nmemory-max = \"64M\"\n");
    let mut command = Command::new("chown");
    command.args(["-R", "dev"]).arg(stack.folder());
    Running::spawn(command).end().exited_with(0);
    let unit = Unit::install(&stack, "User=dev");
    unit.start();
    let said = written(&stack, "said", "done\n");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "dev", "{said}");
    let leaf = lines[1].strip_prefix("0::/").expect("a cgroup of version 2");
    assert!(leaf.ends_with(&format!("{}/app/web.1", unit.name)), "{said}");
    let leaf = std::path::Path::new(cgroups::ROOT).join(leaf);
    assert_eq!(cgroups::read(&leaf, "memory.max"), (64 << 20).to_string());
    systemctl(&["stop", &unit.name]).exited_with(0);
    processes::gone(Duration::ZERO);
}

/// The unit's own limit on tasks is used up; what is typed outside of it is answered all the same. The first client comes
/// before that: its threads are made then, and stay.
pub fn a_unit_without_room_for_one_more_task_is_still_controlled() {
    let bomb = "bomb: trap '' TERM; until [ -e go ]; do sleep 0.1; done; while :; do sleep 1000 & done 2>/dev/null\n";
    let stack = Stack::new(&format!("{bomb}web: exec sleep 1001\n"))
        .file("lpm.toml", "[process.bomb]\ntimeout-stop = \"1s\"\ncan-die = true\n");
    let unit = Unit::install(&stack, "TasksMax=50");
    unit.start();
    let pid = unit.main_pid();
    let own = cgroups::of(pid).expect("lpm lives");
    let top = own.parent().expect("lpm is in a cgroup of the unit");
    stack.run(&["status"]).exited_with(0);
    fs::write(stack.folder().join("go"), "").expect("ours");
    // Which cgroup counts a refused fork differs between kernels.
    waiting::until("there is no room", PATIENCE, || {
        (cgroups::read(top, "pids.current") == "50").then_some(())
    });
    crate::pressure::everything_answers(&stack);
    assert_eq!(unit.main_pid(), pid);
    stack.run(&["stop", "bomb"]).exited_with(0);
    let web = || processes::tagged().iter().filter(|one| one.command == "sleep 1001").count();
    assert_eq!(web(), 1);
    stack.run(&["start", "bomb"]).exited_with(0);
    systemctl(&["stop", &unit.name]).exited_with(0);
    assert_eq!(property(&unit.name, "Result"), "success");
    processes::gone(Duration::ZERO);
}

/// lpm, and its guardian with it, so that systemd alone cleans up. The next run is in a cgroup of the same name.
pub fn kill_9_of_lpm_and_guardian_is_followed_by_a_clean_start() {
    let stack = Stack::new(
        "web: setsid sleep 1001 & trap '' TERM; echo $$ >>said; while :; do sleep 1000 & wait; done\n",
    );
    let unit = Unit::install(&stack, "RestartSec=100ms\nRestart=always");
    unit.start();
    for runs in 2..4 {
        let pid = unit.main_pid();
        kill_both(pid);
        waiting::until("it was started again", PATIENCE, || {
            (fs::read_to_string(stack.folder().join("said")).ok()?.lines().count() == runs).then_some(())
        });
        waiting::until("systemd has seen it", PATIENCE, || {
            (property(&unit.name, "ActiveState") == "active").then_some(())
        });
        let sleepers = processes::tagged().into_iter().filter(|one| one.command == "sleep 1001").count();
        assert_eq!(sleepers, 1, "the former one's is gone");
        stack.run(&["status"]).exited_with(0);
    }
    systemctl(&["stop", &unit.name]).exited_with(0);
    processes::gone(Duration::ZERO);
}

/// A record names a cgroup that is another run's by now: of the same unit, which runs something else since.
pub fn a_record_that_stayed_behind_harms_no_later_run_of_the_unit() {
    let first = Stack::new("web: echo up >>said; exec sleep 1001\n");
    let second = Stack::new("web: echo up >>said; exec sleep 1002\n");
    let unit = Unit::install(&first, "Restart=no");
    unit.start();
    written(&first, "said", "up\n");
    kill_both(unit.main_pid());
    waiting::until("systemd has seen its end", PATIENCE, || {
        (property(&unit.name, "ActiveState") == "failed").then_some(())
    });
    let drop_in = unit.files[1].join("test2.conf");
    fs::write(drop_in, format!("[Service]\nWorkingDirectory={}\n", second.folder().display())).expect("ours");
    systemctl(&["daemon-reload"]).exited_with(0);
    unit.start();
    written(&second, "said", "up\n");
    let pid = unit.main_pid();
    let mut by_hand = first.start(&["start"]);
    by_hand.line("web.1  | started");
    println!("{}", by_hand.output());
    second.run(&["status"]).exited_with(0);
    assert_eq!(unit.main_pid(), pid);
    let of_second = || processes::tagged().iter().filter(|one| one.command == "sleep 1002").count();
    assert_eq!(of_second(), 1);
    by_hand.signal(Signal::TERM);
    by_hand.end().killed_by(Signal::TERM);
    assert_eq!((unit.main_pid(), of_second()), (pid, 1));
    systemctl(&["stop", &unit.name]).exited_with(0);
    processes::gone(Duration::ZERO);
}

/// lpm stands still, so that it cannot replace its guardian.
fn kill_both(lpm: i32) {
    let guardian = processes::with_command("__guard");
    let supervisor = cgroups::of(lpm).expect("it lives");
    let guardian = guardian.iter().find(|one| one.cgroup == supervisor).expect("it has a guardian");
    let open = |pid| pidfd_open(Pid::from_raw(pid).expect("a number"), PidfdFlags::empty()).expect("it runs");
    let (lpm, guardian) = (open(lpm), open(guardian.pid));
    pidfd_send_signal(&lpm, Signal::STOP).expect("it can be stopped");
    pidfd_send_signal(&guardian, Signal::KILL).expect("it can be killed");
    pidfd_send_signal(&lpm, Signal::KILL).expect("it can be killed");
}

/// The unit's standard error is a stream of journald's, which ends with it.
pub fn a_unit_goes_on_when_its_journald_ends() {
    let stack =
        Stack::new("web: until [ -e go ]; do sleep 0.1; done; seq 300; echo up >said; exec sleep 1001\n");
    let unit = Unit::install(&stack, "Restart=no\nLogRateLimitIntervalSec=30s\nLogRateLimitBurst=50");
    unit.start();
    let pid = unit.main_pid();
    let journald = ["systemd-journald.socket", "systemd-journald-dev-log.socket", "systemd-journald.service"];
    systemctl(&[&["stop"][..], &journald].concat());
    fs::write(stack.folder().join("go"), "").expect("ours");
    let wrote = std::panic::catch_unwind(|| {
        written(&stack, "said", "up\n");
        stack.run(&["restart", "web"]).exited_with(0);
    });
    systemctl(&[&["start"][..], &journald].concat());
    if let Err(panic) = wrote {
        std::panic::resume_unwind(panic);
    }
    let logs = stack.run(&["logs", "-n", "1", "web"]).exited_with(0);
    assert!(!logs.is_empty());
    assert_eq!(unit.main_pid(), pid);
    systemctl(&["stop", &unit.name]).exited_with(0);
    assert_eq!(property(&unit.name, "Result"), "success");
    processes::gone(Duration::ZERO);
}
