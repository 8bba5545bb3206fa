//! `lpm start -D`: it comes back when the stack is up, which runs on; or says why it is not. And what a service
//! manager is told, and how a stack that was started as a service becomes what its launcher was.
//!
//! Here is no systemd, so `-D` makes a daemon; the service's side is tried with this test for a launcher. The
//! whole way is for `tests/vm`.

use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use lpm::driver::News;
use lpm::linux::handover::{self, Likeness, Meeting};
use rustix::event::{Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::stack::{Ended, LPM, PATIENCE, Stack, now, wait_readable};

/// The number in `runs detached as pid N`.
#[track_caller]
fn detached_pid(ended: &Ended) -> Pid {
    let number =
        ended.out.split("runs detached as pid ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let pid = number.and_then(|number| Pid::from_raw(number.parse().ok()?));
    pid.unwrap_or_else(|| panic!("no pid: {}\n{}", ended.out, ended.err))
}

/// Asks a detached lpm to end; nothing may be left then.
#[track_caller]
fn end(stack: &Stack, pid: Pid) {
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
    pidfd_send_signal(&pidfd, Signal::TERM).expect("it is there");
    stack.wait_until_empty();
    let left = stack.left();
    assert!(left.is_empty(), "left behind: {left:#?}");
}

/// Looks again and again, for what nobody announces.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(now() < deadline, "never: {what}");
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 5_000_000 }));
    }
}

fn file(stack: &Stack, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(stack.path().join(name)).ok()?;
    text.ends_with('\n').then_some(text)
}

#[test]
fn it_comes_back_when_the_stack_is_up_which_runs_on() {
    let stack =
        Stack::with("detached", "web: exec sleep 1000\nworker: setsid sleep 1001 & exec sleep 1002\n");
    let ended = stack.lpm(&["start", "-D"]).pipes().ends_leaving_something().with_code(0);
    let pid = detached_pid(&ended);
    assert_eq!(
        stack.normal(&ended.out),
        "stack DIR runs detached as pid N\nlpm status shows it, lpm logs -f follows it, lpm down ends it\n"
    );
    assert!(ended.err.contains("lpm: ports: web 5000, worker 5100"), "{}", ended.err);
    // Shells that were executed become these in their own time.
    for wanted in ["sleep 1000", "sleep 1001", "sleep 1002"] {
        until(wanted, || stack.processes().into_iter().find(|(_, command)| command.trim() == wanted));
    }
    // A session of its own, and nobody's child but init's or a subreaper's.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).expect("it runs");
    let session = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(3)).expect("a session");
    assert_eq!(session, pid.as_raw_pid().to_string());
    let again = stack.lpm(&["start", "--detach"]).pipes().ends_leaving_something().with_code(1);
    let said = format!("lpm: stack {} runs already as pid {}, since ", stack.mark(), pid.as_raw_pid());
    assert!(again.err.starts_with(&said), "{}", again.err);
    end(&stack, pid);
}

#[test]
fn a_stack_that_does_not_come_up_is_said_with_its_code_and_reason() {
    let stack = Stack::with("not-up", "web: exec sleep 1000\nworker: no-such-program-here x\n");
    let ended = stack.runs(&["start", "-D"]).with_code(127);
    assert_eq!(ended.out, "");
    let said = stack.normal(&ended.err);
    assert!(said.contains("worker.1 | cannot start: no-such-program-here: command not found\n"), "{said}");
    assert!(said.ends_with("lpm: stack DIR did not come up\n"), "{said}");
}

#[test]
fn one_that_may_die_and_cannot_start_is_not_waited_for() {
    let stack = Stack::with("forgiven", "web: exec sleep 1000\nworker: no-such-program-here x\n");
    let launch = stack.lpm(&["start", "-D", "--can-die", "worker"]);
    let ended = launch.pipes().ends_leaving_something().with_code(0);
    end(&stack, detached_pid(&ended));
}

#[test]
fn what_is_wrong_before_anything_runs_is_told_as_without_it() {
    let stack = Stack::with("wrong", "web exec sleep 1000\nworker:\n").file("good", "web: true\n");
    for arguments in [&["start"][..], &["start", "-f", "good", "-m", "web=0"], &["start", "--color", "x"]] {
        let plain = stack.runs(arguments).with_code(1);
        let mut with = arguments.to_vec();
        with.push("-D");
        let detached = stack.runs(&with).with_code(1);
        assert_eq!((detached.out, detached.err), (plain.out, plain.err), "{arguments:?}");
    }
    // What only the stack itself finds out comes back the same way.
    let ended = stack.runs(&["start", "-D", "-f", "good", "--summary", "no/such/folder"]).with_code(1);
    assert!(ended.err.contains("no/such/folder: the summary cannot be written"), "{}", ended.err);
}

#[test]
fn it_runs_as_it_would_have_run_here() {
    let procfile = "web: { pwd; umask; ulimit -Sn; echo $SECRET; echo $LPM_DETACH; env; } >said 2>&1; \
                    echo done >>said; exec sleep 1000\n";
    let stack = Stack::new("as-here").file("sub/Procfile", procfile);
    let script = "umask 027; ulimit -Sn 600; cd sub; export SECRET=xyzzy LPM_DETACH=1; exec $LPM start";
    let ended = stack.shell(script).pipes().ends_leaving_something().with_code(0);
    let pid = detached_pid(&ended);
    let said = until("it has written", || file(&stack, "sub/said").filter(|text| text.ends_with("done\n")));
    let lines: Vec<&str> = said.lines().collect();
    let folder = stack.path().join("sub");
    assert_eq!(lines[..5], [folder.to_str().expect("UTF-8"), "0027", "600", "xyzzy", "1"], "{said}");
    assert!(!said.contains("LPM_LAUNCHER_FD"), "{said}");
    end(&stack, pid);
}

#[test]
fn a_procfile_from_standard_input_goes_along() {
    let stack = Stack::new("stdin-detached");
    let launch = stack.lpm(&["start", "-D", "-f", "-"]).stdin("web: echo here >said; exec sleep 1000\n");
    let ended = launch.pipes().ends_leaving_something().with_code(0);
    assert_eq!(until("it has written", || file(&stack, "said")), "here\n");
    end(&stack, detached_pid(&ended));
}

#[test]
fn the_end_of_the_launchers_terminal_is_not_the_end_of_the_stack() {
    let procfile = "web: trap 'echo hup >>said' HUP; echo up >said; while :; do sleep 1000 & wait; done\n";
    let stack = Stack::with("closed", procfile);
    let mut shell = stack.shell("$LPM start -D; exec sleep 1000").terminal(80);
    shell.wait_for("runs detached as pid ").wait_for("ends it");
    let number =
        shell.out().split("as pid ").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let pid = number.and_then(Pid::from_raw).expect("a number");
    until("it has written", || file(&stack, "said"));
    shell.close_terminal().ends_leaving_something().by(Signal::HUP);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("it runs");
    assert!(!wait_readable(&[pidfd.as_fd()], Duration::ZERO));
    assert_eq!(file(&stack, "said").as_deref(), Some("up\n"));
    end(&stack, pid);
}

/// A launcher whose stack hangs in its start: in the reading of an env file that nobody writes.
struct Hanging {
    stack: Stack,
}

impl Hanging {
    fn new(name: &str) -> Hanging {
        let stack = Stack::with(name, "web: exec sleep 1000\n");
        let made = std::process::Command::new("mkfifo").arg(stack.path().join("env")).status();
        assert!(made.expect("mkfifo runs").success());
        Hanging { stack }
    }

    /// One reader gets its fill, and the end of it.
    fn feed(&self) {
        std::fs::write(self.stack.path().join("env"), "A=b\n").expect("somebody reads it");
    }

    /// Waits until there is an lpm besides the launcher.
    fn the_other(&self, launcher: Pid) -> Pid {
        until("the stack is started", || {
            let processes = self.stack.processes();
            // Before it is executed it is still called what its launcher is, and has not its environment.
            let executed = |pid: i32| {
                let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                memchr::memmem::find(&environment, b"LPM_LAUNCHER_FD=").is_some()
            };
            let other = processes.iter().find(|(pid, command)| {
                *pid != launcher.as_raw_pid() && command.contains("start -D") && executed(*pid)
            })?;
            Pid::from_raw(other.0)
        })
    }
}

#[test]
fn ctrl_c_takes_a_half_started_stack_down_again() {
    let hanging = Hanging::new("ctrl-c");
    let mut launcher = hanging.stack.lpm(&["start", "-D", "-e", "env"]).terminal(80);
    // setsid(1) was executed over; the number is lpm's.
    hanging.feed();
    hanging.the_other(launcher.pid());
    launcher.types("\x03").wait_for("lpm: taking the stack down again");
    hanging.feed();
    let ended = launcher.ends().by(Signal::INT);
    assert!(!ended.out.contains("runs detached"), "{}", ended.out);
}

#[test]
fn a_launcher_that_is_killed_leaves_no_half_started_stack() {
    let hanging = Hanging::new("killed");
    let mut launcher = hanging.stack.lpm(&["start", "-D", "-e", "env"]).pipes();
    hanging.feed();
    hanging.the_other(launcher.pid());
    launcher.signal(Signal::KILL).ends_leaving_something().by(Signal::KILL);
    hanging.feed();
    hanging.stack.wait_until_empty();
    assert_eq!(hanging.stack.left(), Vec::<String>::new());
}

#[test]
fn a_stack_that_is_killed_on_its_way_up_is_said_to_have_died() {
    let hanging = Hanging::new("died");
    let mut launcher = hanging.stack.lpm(&["start", "-D", "-e", "env"]).pipes();
    hanging.feed();
    let lpm = hanging.the_other(launcher.pid());
    let pidfd = pidfd_open(lpm, PidfdFlags::empty()).expect("it is there");
    pidfd_send_signal(pidfd, Signal::KILL).expect("it is there");
    let ended = launcher.ends().with_code(1);
    assert_eq!(hanging.stack.normal(&ended.err), "lpm: stack DIR died before it was up\n");
}

// ---- what a service manager is told

/// Stands in for systemd.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn new(stack: &Stack) -> Manager {
        let socket = UnixDatagram::bind(stack.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a limit");
        Manager { socket }
    }

    /// Waits for a message with this line.
    #[track_caller]
    fn hears(&self, line: &str) -> String {
        let mut all = String::new();
        loop {
            let mut bytes = [0; 1000];
            let length =
                self.socket.recv(&mut bytes).unwrap_or_else(|_| panic!("{line:?} never came:\n{all}"));
            let message = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if message.lines().any(|known| known == line) {
                return message;
            }
            all.push_str(&format!("{message}\n"));
        }
    }
}

#[test]
fn a_service_manager_is_told_how_it_goes() {
    let stack =
        Stack::with("notify", "web: exec sleep 1000\nworker: trap '' TERM; echo up; sleep 1000 & wait\n");
    let manager = Manager::new(&stack);
    let path = stack.path().join("notify");
    let mut run = stack.lpm(&["start", "-t", "worker=1s"]).variable("NOTIFY_SOCKET", path).pipes();
    assert_eq!(manager.hears("READY=1"), "READY=1\nSTATUS=2 of 2 instances running");
    run.wait_for(" | up");
    run.signal(Signal::TERM);
    let said = manager.hears("STATUS=stopping, 2 of 2 instances left");
    assert!(said.starts_with("STOPPING=1\nEXTEND_TIMEOUT_USEC=30000000\nSTATUS=stopping, "), "{said}");
    manager.hears("STATUS=stopping, 1 of 2 instances left");
    run.ends().by(Signal::TERM);
}

#[test]
fn a_stack_that_never_is_up_is_never_called_ready() {
    let stack = Stack::with("not-ready", "web: exec sleep 1000\nworker: no-such-program-here x\n");
    let manager = Manager::new(&stack);
    let launch = stack.lpm(&["start"]).variable("NOTIFY_SOCKET", stack.path().join("notify"));
    launch.pipes().ends().with_code(127);
    manager.socket.set_nonblocking(true).expect("a socket");
    let mut bytes = [0; 1000];
    let mut said = Vec::new();
    while let Ok(length) = manager.socket.recv(&mut bytes) {
        said.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    assert!(said.iter().any(|message| message.contains("STOPPING=1")), "{said:?}");
    assert!(!said.iter().any(|message| message.contains("READY=1")), "{said:?}");
}

#[test]
fn a_service_manager_that_is_not_there_is_no_trouble() {
    let stack = Stack::with("no-manager", "web: true\n");
    for socket in ["/nowhere/notify", "@nobody", "vsock:2:1", ""] {
        stack.lpm(&["start"]).variable("NOTIFY_SOCKET", socket).pipes().ends().with_code(0);
    }
}

#[test]
fn lines_in_the_journal_have_no_second_time() {
    let stack = Stack::with("journal", "web: echo here\n");
    for (name, timed) in [("JOURNAL_STREAM", false), ("OTHER", true)] {
        let script =
            format!("touch out; {name}=$(stat -c %d:%i out) $LPM start --log terminal >out; cat out");
        let ended = stack.shell(&script).pipes().ends().with_code(0);
        assert_eq!(!ended.out.contains("\nweb.1  | here\n"), timed, "{}", ended.out);
    }
    // Inherited, and about somebody else's output.
    let ended = stack
        .lpm(&["start", "--log", "terminal"])
        .variable("JOURNAL_STREAM", "8:1234")
        .pipes()
        .ends()
        .with_code(0);
    assert!(!ended.out.contains("\nweb.1  | here\n"), "{}", ended.out);
}

// ---- the service's side

/// What this test, as the launcher, has of a service.
struct Launched {
    child: Service,
    connection: UnixStream,
    manager: Manager,
}

/// A service that does not outlive its test.
struct Service(std::process::Child);

impl Service {
    /// Waits for its end, but not for ever.
    #[track_caller]
    fn ends(&mut self) -> std::process::ExitStatus {
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty()).expect("it is not reaped");
        assert!(wait_readable(&[pidfd.as_fd()], now() + PATIENCE), "it does not end");
        self.0.wait().expect("its status")
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// `lpm __detached`, as systemd would start it: with nothing of ours, in another directory.
fn started_as_a_service(stack: &Stack) -> Launched {
    let manager = Manager::new(stack);
    let meeting = Meeting::new(stack.path()).expect("a socket");
    let child = std::process::Command::new(LPM)
        .arg("__detached")
        .arg(meeting.path())
        .current_dir("/")
        .env_clear()
        .env("NOTIFY_SOCKET", stack.path().join("notify"))
        .env("CLI_TEST", stack.mark())
        .env("SYSTEMS_OWN", "1")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("lpm starts");
    assert!(wait_readable(&[meeting.as_fd()], now() + PATIENCE));
    let (connection, pid) = meeting.accept().expect("a socket").expect("it came");
    let child = Service(child);
    assert_eq!(pid, child.pid());
    Launched { child, connection, manager }
}

fn likeness(stack: &Stack, procfile: &str) -> Likeness {
    let pair = |name: &str, value: &str| (name.into(), value.into());
    let environment = vec![
        pair("PATH", "/usr/local/bin:/usr/bin:/bin"),
        pair("XDG_RUNTIME_DIR", stack.path().join(".run").to_str().expect("UTF-8")),
        pair("CLI_TEST", stack.mark()),
        pair("SECRET", "xyzzy"),
    ];
    let words = ["lpm", "start", "-D", "-f", "-"].map(Into::into).to_vec();
    let mut likeness = Likeness::ours(words, environment, stack.path().into(), Some(procfile.into()));
    likeness.umask = 0o027;
    likeness
}

#[test]
fn a_service_becomes_what_its_launcher_was() {
    let stack = Stack::new("service");
    let procfile = "web: { pwd; umask; echo $SECRET; env; echo done; } >said; exec sleep 1000\n";
    let Launched { mut child, connection, manager } = started_as_a_service(&stack);
    handover::give(&connection, &likeness(&stack, procfile)).expect("it is there");
    let mut news = BufReader::new(&connection).lines();
    let up = loop {
        let line = news.next().expect("more to come").expect("it can be read");
        match serde_json::from_str(&line).expect("JSON") {
            News::Say(_) => {}
            other => break other,
        }
    };
    assert_eq!(up, News::Up { pid: child.0.id() }, "it is the same process");
    manager.hears("READY=1");
    drop(news);
    drop(connection);
    let said = until("it has written", || file(&stack, "said").filter(|text| text.ends_with("done\n")));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..3], [stack.path().to_str().expect("UTF-8"), "0027", "xyzzy"], "{said}");
    for name in ["SYSTEMS_OWN", "NOTIFY_SOCKET", "LPM_LAUNCHER_FD", "LPM_STDIN_FD"] {
        assert!(!said.contains(name), "{name}: {said}");
    }
    end(&stack, child.pid());
    child.ends();
}

#[test]
fn a_service_whose_launcher_left_before_it_was_up_goes_down_again() {
    let stack = Stack::new("left");
    let Launched { mut child, connection, manager } = started_as_a_service(&stack);
    handover::give(&connection, &likeness(&stack, "web: exec sleep 1000\n")).expect("it is there");
    drop(connection);
    assert!(child.ends().success());
    assert!(manager.hears("STOPPING=1").contains("STATUS=stopping"));
    assert_eq!(stack.left(), Vec::<String>::new());
}

#[test]
fn a_service_whose_launcher_changed_his_mind_is_none() {
    let stack = Stack::new("changed");
    let Launched { mut child, connection, .. } = started_as_a_service(&stack);
    drop(connection);
    assert_eq!(child.ends().code(), Some(1));
}

#[test]
fn a_directory_that_is_gone_is_told_to_the_launcher() {
    let stack = Stack::new("gone");
    let Launched { mut child, mut connection, .. } = started_as_a_service(&stack);
    let gone = Likeness { directory: "/no/such/folder".into(), ..likeness(&stack, "web: true\n") };
    handover::give(&connection, &gone).expect("it is there");
    let mut text = String::new();
    connection.read_to_string(&mut text).expect("it can be read");
    let lines = vec!["lpm: /no/such/folder: cannot be entered: No such file or directory".to_owned()];
    assert_eq!(serde_json::from_str::<News>(text.trim()).expect("JSON"), News::Failed { code: 1, lines });
    assert_eq!(child.ends().code(), Some(1));
}

#[test]
fn a_number_of_a_launcher_that_is_none_is_refused() {
    let stack = Stack::with("no-launcher", "web: true\n");
    let ended = stack.lpm(&["start"]).variable("LPM_LAUNCHER_FD", "1").pipes().ends().with_code(1);
    assert_eq!(ended.err, "lpm: LPM_LAUNCHER_FD is not set by lpm (unset it)\n");
}
