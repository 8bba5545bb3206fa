//! `lpm start -D` where systemd is: a service of its own that is what its launcher was, stops in lpm's own order,
//! and leaves nothing, however it ends.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroups;
use crate::processes;
use crate::stack::{Running, Stack};
use crate::systemd::{is_forgotten, properties, property, systemctl};
use crate::waiting::{self, PATIENCE};

/// A stack that runs on after its launcher.
struct Detached {
    pid: i32,
    pidfd: OwnedFd,
    unit: String,
    /// What the launcher said.
    said: String,
}

#[track_caller]
fn detached(launcher: Running) -> Detached {
    let said = launcher.end().exited_with(0);
    let line = said.lines().find(|line| line.contains(" runs detached as pid ")).expect("it says so");
    let words: Vec<&str> = line.split(' ').collect();
    let [.., "pid", number, "in", unit] = words[..] else { panic!("{said}") };
    let pid = number.parse().expect("a number");
    let process = Pid::from_raw(pid).expect("a process number");
    let pidfd = pidfd_open(process, PidfdFlags::empty()).expect("it runs");
    Detached { pid, pidfd, unit: unit.to_owned(), said }
}

impl Detached {
    #[track_caller]
    fn stop(&self) {
        systemctl(&["stop", &self.unit]).exited_with(0);
        processes::gone(Duration::ZERO);
        waiting::until("the unit is forgotten", PATIENCE, || is_forgotten(&self.unit).then_some(()));
    }
}

fn written(stack: &Stack, name: &str, end: &str) -> String {
    let path = stack.folder().join(name);
    waiting::until(name, PATIENCE, || std::fs::read_to_string(&path).ok().filter(|text| text.ends_with(end)))
}

fn one(command: &str) -> processes::Process {
    waiting::until(command, PATIENCE, || {
        processes::tagged().into_iter().find(|process| process.command == command)
    })
}

pub fn it_is_a_service_with_ceilings_and_no_secret_is_seen() {
    let stack = Stack::new("web: exec sleep 1000\nworker: exec sleep 1001\n").env("SECRET", "xyzzy");
    let service = detached(stack.start(&["start", "-D", "--mem", "64M", "--tasks", "web=9"]));
    let known = properties(&service.unit);
    let is = |name: &str| known.get(name).map_or("", String::as_str);
    assert_eq!((is("ActiveState"), is("SubState")), ("active", "running"));
    assert_eq!(is("StatusText"), "2 of 2 instances running");
    assert_eq!(is("MainPID"), service.pid.to_string());
    assert_eq!((is("Type"), is("KillMode"), is("Delegate")), ("notify", "mixed", "yes"));
    assert!(!format!("{known:?}").contains("xyzzy"), "{known:?}");
    let status = systemctl(&["status", &service.unit]).exited_with(0);
    assert!(status.contains("active (running)") && !status.contains("xyzzy"), "{status}");
    assert!(!processes::with_command("__detached").iter().any(|one| one.pid == service.pid));

    let leaf = one("sleep 1000").cgroup;
    assert!(leaf.ends_with(format!("{}/app/web.1", service.unit)), "{}", leaf.display());
    assert_eq!(cgroups::read(&leaf, "memory.max"), (64 << 20).to_string());
    assert_eq!(cgroups::read(&leaf, "pids.max"), "9");
    let own = cgroups::of(service.pid).expect("lpm lives");
    assert!(own.ends_with(format!("{}/supervisor", service.unit)), "{}", own.display());
    // Both users linger.
    assert!(!service.said.contains("warning"), "{}", service.said);
    service.stop();
}

pub fn it_is_what_its_launcher_was() {
    let procfile = "web: { pwd; umask; ulimit -Sn; ulimit -Hc; ulimit -St; echo $SECRET; env; echo done; } >said; \
                    exec sleep 1000\n";
    let stack = Stack::new(procfile).file("sub/there", "").env("SECRET", "two words\nand a line");
    let script = "umask 027; ulimit -Sn 600; ulimit -Hc 0; ulimit -St 4000; exec \"$@\"";
    let service = detached(stack.start_through(&["sh", "-c", script, "sh"], &["start", "-D"]));
    let said = written(&stack, "said", "done\n");
    let folder = stack.folder().to_str().expect("UTF-8");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..6], [folder, "0027", "600", "0", "4000", "two words and a line"], "{said}");
    for name in ["NOTIFY_SOCKET=", "INVOCATION_ID=", "JOURNAL_STREAM=", "LPM_SCOPE=", "LPM_LAUNCHER_FD="] {
        assert!(!said.contains(&format!("\n{name}")), "{name} is seen:\n{said}");
    }
    service.stop();
}

pub fn a_procfile_from_standard_input_goes_along() {
    let stack = Stack::new("");
    let mut command = Command::new("sh");
    command
        .args(["-c", "echo 'web: echo from stdin >said; exec sleep 1000' | \"$0\" start -D -f -"])
        .arg(crate::stack::lpm())
        .current_dir(stack.folder());
    let service = detached(Running::spawn(command));
    assert_eq!(written(&stack, "said", "\n"), "from stdin\n");
    service.stop();
}

pub fn systemctl_stop_asks_each_instance_in_its_own_way() {
    let procfile = "web: trap 'echo asked >>said; exit 0' USR1; trap '' TERM; echo up >said; \
                    while :; do sleep 1000 & wait; done\n\
                    other: trap '' TERM; setsid sleep 1001 & sleep 1002 & while :; do wait; done\n";
    let stack = Stack::new(procfile);
    let arguments = ["start", "-D", "--stop-signal", "web=USR1", "-t", "1", "--summary", "summary"];
    let service = detached(stack.start(&arguments));
    written(&stack, "said", "up\n");
    one("sleep 1001");
    service.stop();
    assert_eq!(written(&stack, "said", "asked\n"), "up\nasked\n");
    // lpm wrote this at its very end, so nobody killed it.
    let summary: serde_json::Value =
        serde_json::from_str(&written(&stack, "summary", "}\n")).expect("it is JSON");
    assert_eq!(summary["exit_code"], 143);
}

pub fn kill_9_of_lpm_leaves_neither_process_nor_unit() {
    let stack = Stack::new(
        "web: setsid sleep 1001 & trap '' TERM INT HUP; echo up >said; while :; do sleep 1000; done\n",
    );
    let service = detached(stack.start(&["start", "-D"]));
    written(&stack, "said", "up\n");
    one("sleep 1001");
    pidfd_send_signal(&service.pidfd, Signal::KILL).expect("it can be killed");
    processes::gone(Duration::from_secs(2));
    waiting::until("the unit is forgotten", PATIENCE, || is_forgotten(&service.unit).then_some(()));
}

pub fn kill_9_of_the_guardian_and_of_lpm_is_systemds_to_clean_up() {
    let stack = Stack::new(
        "web: setsid sleep 1001 & trap '' TERM INT HUP; echo up >said; while :; do sleep 1000; done\n",
    );
    let service = detached(stack.start(&["start", "-D"]));
    written(&stack, "said", "up\n");
    // Stopped, lpm cannot replace its guardian.
    pidfd_send_signal(&service.pidfd, Signal::STOP).expect("it can be stopped");
    let guardians = processes::with_command("__guard");
    assert_eq!(guardians.len(), 1, "one guardian");
    let guardian = Pid::from_raw(guardians[0].pid).expect("a process number");
    let guardian = pidfd_open(guardian, PidfdFlags::empty()).expect("it is there");
    pidfd_send_signal(guardian, Signal::KILL).expect("it can be killed");
    pidfd_send_signal(&service.pidfd, Signal::KILL).expect("it can be killed");
    processes::gone(PATIENCE);
    waiting::until("the unit is forgotten", PATIENCE, || is_forgotten(&service.unit).then_some(()));
}

pub fn one_that_does_not_come_up_leaves_no_unit() {
    let stack = Stack::new("web: exec sleep 1000\nworker: no-such-program-here x\n");
    let output = stack.run(&["start", "-D"]).exited_with(127);
    assert!(output.contains("worker.1 | cannot start: no-such-program-here: command not found"), "{output}");
    assert!(output.contains("did not come up"), "{output}");
    processes::gone(Duration::ZERO);
    let units = systemctl(&["list-units", "--all", "--plain", "--no-legend", "lpm-stack-*"]).exited_with(0);
    assert_eq!(units.trim(), "");
    no_socket_is_left();
}

pub fn a_second_start_is_refused_naming_the_first() {
    let stack = Stack::new("web: exec sleep 1000\n");
    let service = detached(stack.start(&["start", "-D"]));
    for arguments in [&["start", "-D"][..], &["start"]] {
        let output = stack.run(arguments).exited_with(1);
        assert!(output.contains(&format!(" runs already as pid {}, since ", service.pid)), "{output}");
    }
    service.stop();
}

pub fn ctrl_c_takes_a_half_started_stack_down_again() {
    let stack = Stack::new("web: exec sleep 1000\n");
    let env = stack.folder().join("env");
    let made = Command::new("mkfifo").arg(&env).status().expect("mkfifo runs");
    assert!(made.success());
    let mut launcher = stack.start(&["start", "-D", "-e", "env"]);
    // The launcher reads it first; the service, which reads it again, then hangs.
    std::fs::write(&env, "A=b\n").expect("somebody reads it");
    waiting::until("the service has come so far", PATIENCE, || {
        let all = processes::tagged();
        all.into_iter().find(|one| one.pid != launcher.pid() && one.command.contains("start -D"))
    });
    launcher.signal(Signal::INT);
    launcher.line("taking the stack down again");
    std::fs::write(&env, "A=b\n").expect("somebody reads it");
    launcher.end().killed_by(Signal::INT);
    processes::gone(Duration::from_secs(1));
    no_socket_is_left();
}

pub fn its_lines_are_in_the_journal_with_one_time() {
    let stack = Stack::new("web: echo hello; exec sleep 1000\n");
    let said = |service: &Detached, format: &str| {
        waiting::until("the journal has it", PATIENCE, || {
            let mut command = Command::new("journalctl");
            command.args(["--no-pager", &format!("--output={format}"), "--unit", &service.unit]);
            Some(Running::spawn(command).end().output).filter(|text| text.contains("hello"))
        })
    };
    let service = detached(stack.start(&["start", "-D"]));
    let lines = said(&service, "short");
    let is_its = |line: &str| line.ends_with(&format!(" web.1[{}]: hello", service.pid));
    assert!(lines.lines().any(is_its), "{lines}");
    let fields = said(&service, "verbose");
    assert!(fields.contains("LPM_INSTANCE=web.1") && fields.contains("LPM_EVENT=started"), "{fields}");
    assert_eq!(property(&service.unit, "LogRateLimitIntervalUSec"), "0");
    service.stop();
    // Who wants plain lines says so.
    let service = detached(stack.start(&["start", "-D", "--log", "terminal"]));
    let lines = said(&service, "cat");
    assert!(lines.lines().any(|line| line == "web.1  | hello"), "{lines}");
    service.stop();
}

#[track_caller]
fn no_socket_is_left() {
    let uid = rustix::process::getuid().as_raw();
    let runtime = if uid == 0 { "/run/lpm".to_owned() } else { format!("/run/user/{uid}/lpm") };
    let entries = std::fs::read_dir(Path::new(&runtime)).into_iter().flatten().flatten();
    let left: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("launch-")), "{left:?}");
}

/// A login session of the user `dev`, from its beginning to its end.
fn in_a_session(folder: &Path, script: &str) -> Running {
    let mut command = Command::new("systemd-run");
    command.args(["--quiet", "--pipe", "--wait", "--collect", "--uid=dev", "--property=PAMName=login"]);
    command.arg(format!("--working-directory={}", folder.display()));
    command.arg(format!("--setenv=LPM={}", crate::stack::lpm().display()));
    command.args(["--setenv=TERM=xterm", "--", "/bin/sh", "-c", script]);
    Running::spawn(command)
}

/// Made by root, for `dev` cannot log in and out of his own claim.
pub fn a_user_logs_out_and_in_again_and_attaches_to_top() {
    let stack = Stack::new("top: exec top -d 1\nweb: exec sleep 1000\n");
    let folder = stack.folder();
    for path in [folder.to_owned(), folder.join("Procfile")] {
        std::os::unix::fs::chown(path, Some(1000), Some(1000)).expect("root gives files away");
    }
    let said = in_a_session(folder, "exec $LPM start -D --pty top").end().exited_with(0);
    assert!(said.contains(" runs detached as pid "), "{said}");

    let listed = in_a_session(folder, "exec $LPM status").end().exited_with(0);
    assert!(listed.contains("top.1") && listed.contains("running"), "{listed}");
    let keys = folder.join("keys");
    let script = "mkfifo keys; exec script -qec \"$LPM attach top\" /dev/null <keys";
    let mut viewer = in_a_session(folder, script);
    waiting::until("somebody reads the keys", PATIENCE, || {
        std::fs::metadata(&keys).is_ok_and(|data| !data.is_file()).then_some(())
    });
    let mut typing = std::fs::File::options().write(true).open(&keys).expect("it is read");
    viewer.line("load average");
    std::io::Write::write_all(&mut typing, b"\x1d").expect("it is still read");
    viewer.line("detached from top.1, which goes on");
    // Neither the viewer nor its mender stays.
    let own = crate::stack::lpm();
    let gone = |words: &str| {
        let command = format!("{} {words}", own.display());
        processes::with_command(words).iter().all(|one| one.command != command)
    };
    waiting::until("the viewer is gone", PATIENCE, || {
        (gone("attach top") && processes::with_command("__mend").is_empty()).then_some(())
    });
    // In a service script(1) may turn in circles after its child's end instead of ending, too.
    for script in
        processes::with_command("script -qec").iter().filter(|one| one.command.starts_with("script"))
    {
        let process = Pid::from_raw(script.pid).expect("a process number");
        let _gone_by_itself = rustix::process::kill_process(process, Signal::KILL);
    }
    drop((typing, viewer));

    let still = in_a_session(folder, "exec $LPM status --json").end().exited_with(0);
    let status: serde_json::Value = serde_json::from_str(&still).expect("JSON");
    let socket = status["stack"]["socket"].as_str().expect("a socket").to_owned();
    assert_eq!(status["instances"][0]["state"], "running");
    assert!(Path::new(&socket).exists());
    in_a_session(folder, "exec $LPM down").end().exited_with(0);
    assert!(!Path::new(&socket).exists(), "{socket}");
    waiting::until("its cgroups are gone", PATIENCE, || {
        let unit = format!("lpm-{}", folder.file_name().expect("a name").to_string_lossy());
        cgroups::named(&unit).is_empty().then_some(())
    });
    for process in ["top -d 1", "sleep 1000"] {
        assert!(
            !processes::with_command(process).iter().any(|one| one.command == process),
            "{process} is left"
        );
    }
}
