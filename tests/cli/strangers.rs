//! Sockets, directories, terminals and web pages of others: what they can do to lpm, and to who uses it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, Uid, pidfd_open};

use crate::control::STAYS;
use crate::stack::{LPM, PATIENCE, Stack, is_root, now, terminal, wait_readable};

/// A user number that no user of this machine has.
const OTHER: u32 = 61_002;

/// Whether strace(1) is there and may do its work.
fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).output();
    traced.is_ok_and(|output| output.status.success())
}

/// A socket in `stack`'s directory on which user [`OTHER`] listens.
#[expect(clippy::disallowed_methods, reason = "a test that can make no thread has failed")]
fn strangers_socket(stack: &Stack) -> UnixListener {
    let path = stack.path().join("fake.sock");
    let listens = std::thread::spawn(move || {
        let listener = UnixListener::bind(path).expect("a socket");
        // The credentials of a listening socket are those at the last listen(2), of one thread alone.
        let uid = Uid::from_raw(OTHER);
        rustix::thread::set_thread_res_uid(uid, uid, uid).expect("root may");
        rustix::net::listen(&listener, 8).expect("it listens");
        listener
    });
    listens.join().expect("it listens")
}

#[test]
fn nothing_is_sent_to_a_socket_on_which_another_user_listens() {
    const NAME: &str = "nothing_is_sent_to_a_socket_on_which_another_user_listens";
    if !is_root() {
        return skipped!("{NAME}: needs root");
    }
    let stack = Stack::with("fake", &format!("web: {STAYS}\n"));
    let listener = strangers_socket(&stack);
    for words in [&["status"][..], &["down"], &["attach", "web"], &["top", "--once"], &["metrics"]] {
        let mut words = words.to_vec();
        words.extend(["--socket", "fake.sock"]);
        let mut run = stack.lpm(&words).terminal(80);
        let (mut heard, _) = listener.accept().expect("it connects");
        let mut bytes = Vec::new();
        let _ = heard.set_read_timeout(Some(PATIENCE));
        let _ = heard.read_to_end(&mut bytes);
        assert_eq!(bytes, b"", "{words:?}");
        drop(heard);
        let ended = run.ends_leaving_something().with_code(1);
        let expected = "fake.sock: user 61002 listens there, and not you or root";
        assert!(ended.out.replace("\r\n", "").contains(expected), "{words:?}: {}", ended.out);
    }
}

#[test]
fn the_sockets_mode_is_not_set_through_a_name_that_others_may_change() {
    const NAME: &str = "the_sockets_mode_is_not_set_through_a_name_that_others_may_change";
    if !is_root() || !can_trace() {
        return skipped!("{NAME}: needs root and strace");
    }
    let stack = Stack::with("swapped", &format!("web: {STAYS}\n")).file("precious", "");
    let precious = stack.path().join("precious");
    std::fs::set_permissions(&precious, PermissionsExt::from_mode(0o644)).expect("ours");
    std::fs::create_dir(stack.path().join("theirs")).expect("a directory");
    let socket = stack.path().join("theirs/s.sock");
    // The time between bind(2) and what follows it is made long enough.
    let script = "exec strace -f -qq -o /dev/null -e trace=listen -e inject=listen:delay_enter=400000 \
                  $LPM start --socket theirs/s.sock";
    let mut run = stack.shell(script).pipes();
    let deadline = now() + PATIENCE;
    while std::fs::symlink_metadata(&socket).is_err() {
        assert!(now() < deadline && !run.has_ended(), "no socket");
        let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
    }
    std::fs::rename(&socket, stack.path().join("theirs/aside")).expect("ours");
    std::os::unix::fs::symlink(&precious, &socket).expect("a link");
    let ended = run.ends_leaving_something().with_code(1);
    assert_eq!(std::fs::metadata(&precious).expect("it is there").mode() & 0o777, 0o644);
    assert!(ended.err.contains("theirs/s.sock: another file was put in its place"), "{}", ended.err);
    assert!(socket.is_symlink(), "what others made is theirs");
}

/// Where the metrics of a stack that runs are.
fn metrics_address(out: &str) -> String {
    let address = out.split("metrics: http://").nth(1).and_then(|text| text.split('/').next());
    address.unwrap_or_else(|| panic!("where it is: {out}")).to_owned()
}

#[test]
fn a_web_page_cannot_read_metrics_and_half_open_connections_do_not_shut_the_door() {
    let stack = Stack::with("metrics-door", &format!("web: {STAYS}\n"));
    let mut run = stack.lpm(&["start", "--metrics", "0"]).pipes();
    run.wait_for("started with pid");
    let address = metrics_address(&run.out());
    let port = address.rsplit(':').next().expect("a port");
    let asks = |host: &str| {
        let mut stream = TcpStream::connect(&address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket");
        stream.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap_or_else(|error| panic!("{host}: {error}: {answer}"));
        answer.lines().next().unwrap_or_default().to_owned()
    };
    for host in ["evil.example", &format!("evil.example:{port}"), "10.0.0.1", ""] {
        assert_eq!(asks(host), "HTTP/1.1 421 Misdirected Request", "{host}");
    }
    for host in [&format!("localhost:{port}"), &address, &format!("[::1]:{port}")] {
        assert_eq!(asks(host), "HTTP/1.1 200 OK", "{host}");
    }
    let half: Vec<TcpStream> = (0..64)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).expect("it listens");
            // One that was hung up on already does not matter.
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
            stream
        })
        .collect();
    assert_eq!(asks(&address), "HTTP/1.1 200 OK");
    drop(half);
    run.stops();
}

#[test]
fn a_terminal_that_is_not_read_does_not_keep_lpm_from_its_end() {
    let stack = Stack::with("hung-terminal", "web: exit 0\n");
    let long = "x".repeat(9_000);
    // All at a time, for each waits a second.
    let all = [1, 100, 3000].map(|room| {
        let (master, slave) = nearly_full_terminal(room);
        let mut command = Command::new(LPM);
        command.args(["start", "--root", &long]).current_dir(stack.path()).stderr(slave);
        let child = command.stdout(Stdio::null()).spawn().expect("it starts");
        (room, master, child)
    });
    for (room, _master, mut child) in all {
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("it is there");
        let ended = wait_readable(&[pidfd.as_fd()], now() + Duration::from_secs(8));
        let _ = child.kill();
        let status = child.wait().expect("its status");
        assert!(ended, "it hangs with room for {room} bytes");
        assert_eq!(status.code(), Some(1));
    }
}

/// A terminal that takes `room` bytes more: the side that is not read, and the one for a program.
fn nearly_full_terminal(room: usize) -> (OwnedFd, OwnedFd) {
    let (master, slave) = terminal(80);
    let name = rustix::pty::ptsname(&master, Vec::new()).expect("a name");
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let full = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("its other side");
    while rustix::io::write(&full, &[b'.'; 256]).is_ok() {}
    let mut taken = 0;
    while taken < room {
        taken += rustix::io::read(&master, &mut vec![0; room - taken][..]).expect("there is something");
    }
    (master, slave)
}

#[test]
fn a_detached_stack_without_a_control_socket_is_refused() {
    const NAME: &str = "a_detached_stack_without_a_control_socket_is_refused";
    if !is_root() {
        return skipped!("{NAME}: needs root");
    }
    // Another user has taken the name of every private directory that it could have.
    let taken = ["/tmp", "/dev/shm", "/var/tmp"].map(|parent| format!("{parent}/lpm-{OTHER}"));
    if let Some(there) = taken.iter().find(|path| std::path::Path::new(path).exists()) {
        return skipped!("{NAME}: {there} is there");
    }
    taken.iter().for_each(|path| std::fs::create_dir(path).expect("root may"));
    let stack = Stack::with("squatted", &format!("web: touch ran; {STAYS}\n"));
    std::os::unix::fs::chown(stack.path(), Some(OTHER), Some(OTHER)).expect("root may");
    let program = stack.path().join("lpm");
    std::fs::copy(LPM, &program).expect("a copy that others can reach");
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("ours");
    let program = program.to_str().expect("UTF-8");
    let as_other = |arguments: &[&str]| {
        let uid = format!("--reuid={OTHER}");
        let mut words =
            vec![uid.as_str(), "--clear-groups", "env", "-u", "XDG_RUNTIME_DIR", "HOME=/", program];
        words.extend(arguments);
        let ended = stack.program_with("setpriv", &words).pipes().ends_leaving_something();
        (ended.code(), ended.out + &ended.err)
    };
    let refused = as_other(&["start", "-D"]);
    let ran = stack.path().join("ran").exists();
    // With a socket of its own it can be controlled.
    let started = as_other(&["start", "-D", "--socket", "own.sock"]);
    let down = as_other(&["down", "--socket", "own.sock"]);
    stack.wait_until_empty();
    taken.iter().for_each(|path| std::fs::remove_dir(path).expect("it is ours"));
    assert_eq!(refused.0, 1, "{refused:?}");
    assert!(refused.1.contains("could not be controlled") && refused.1.contains("--socket"), "{refused:?}");
    assert!(!ran, "it is refused before anything runs");
    assert_eq!((started.0, down.0), (0, 0), "{started:?} {down:?}");
    assert!(started.1.contains("lpm down --socket own.sock ends it"), "{started:?}");
}

#[test]
fn names_and_lines_cannot_command_a_terminal() {
    let bad = "x\u{1b}]0;pwned\u{7}\u{9b}2J\u{7f}";
    let stack = Stack::new("commanding").file(
        &format!("{bad}/Procfile"),
        "web: printf 'C1:\\302\\2332J\\177\\n'; echo up; exec sleep 1000\n",
    );
    let directory = stack.path().join(bad);
    let inside = directory.to_str().expect("UTF-8");
    let procfile = format!("{inside}/Procfile");
    let escaped = |text: &str| {
        let raw = text.chars().find(|&c| c.is_control() && !"\n\r\t\u{1b}".contains(c));
        assert!(raw.is_none() && !text.contains("\u{1b}]"), "{text:?}");
    };
    let mut run = stack.lpm(&["start", "--procfile", &procfile, "--log", "json"]).terminal(80);
    run.wait_for("\"text\":\"up\"");
    assert!(run.out().contains(r#""text":"C1:\u009b2J\u007f""#), "{}", run.out());
    escaped(&run.out());
    let commands = [
        &["logs", "--json", "--procfile", &procfile][..],
        &["logs", "--procfile", &procfile],
        &["list"],
        &["list", "--json"],
        &["status", "--procfile", &procfile],
        &["status", "web", "--procfile", &procfile],
        &["status", "--json", "--procfile", &procfile],
        &["check", "--procfile", &procfile],
        &["check", "--json", "--procfile", &procfile],
        &["down", "--name", "nosuch"],
        &["down", "--name", bad],
        &["status", "--socket", bad],
        &["start", "--procfile", &procfile],
        &["start", "--root", bad],
        &["start", "--procfile", &format!("{inside}/none")],
        &["start", "--report", &format!("{bad}/none/x")],
        &["set", "web", &format!("{bad}=1"), "--procfile", &procfile],
        &["restart", bad, "--procfile", &procfile],
        &["set", "web", "timeout-stop=4s", "--save", "--procfile", &procfile],
        &[bad],
        &["start", &format!("--{bad}")],
        &["run", bad],
    ];
    let all = commands.map(|arguments| (arguments, stack.lpm(arguments).terminal(300)));
    for (arguments, mut one) in all {
        let ended = one.ends_leaving_something();
        assert!(!ended.out.is_empty(), "{arguments:?} says something");
        escaped(&ended.out);
    }
    run.signal(Signal::TERM);
    let ended = run.ends_leaving_something();
    escaped(&ended.out);
    stack.wait_until_empty();
    // What lpm says of its own while it starts.
    let mut run =
        stack.lpm(&["start", "--procfile", &procfile, "--socket", &format!("{inside}/s.sock")]).terminal(300);
    run.wait_for("mup\r\n");
    run.signal(Signal::TERM);
    escaped(&run.ends_leaving_something().out);
    stack.wait_until_empty();
}

#[test]
fn a_call_that_fails_at_the_start_is_told_and_aborts_nothing() {
    const NAME: &str = "a_call_that_fails_at_the_start_is_told_and_aborts_nothing";
    if !can_trace() {
        return skipped!("{NAME}: needs strace");
    }
    let stack = Stack::with("no-pair", "web: exit 3\n");
    for inject in [
        "socketpair:error=ENFILE:when=1+",
        "eventfd2:error=EMFILE:when=1",
        "eventfd2:error=EMFILE:when=2",
        "eventfd2:error=EMFILE:when=3",
        "epoll_create1:error=EMFILE:when=1",
        "epoll_create1:error=EMFILE:when=2",
        "pipe2:error=EMFILE:when=1",
        "clone3:error=EAGAIN:when=1",
        "clone3:error=EAGAIN:when=2",
        "clone3:error=EAGAIN:when=3",
        "timerfd_create:error=EMFILE:when=1",
    ] {
        let script = format!("exec strace -f -qq -o /dev/null -e inject={inject} $LPM start");
        let ended = stack.shell(&script).pipes().ends();
        assert!(!ended.err.contains("panicked"), "{inject}: {}", ended.err);
        assert!([1, 3, 126].contains(&ended.code()), "{inject}: {:?}", ended.status);
    }
}
