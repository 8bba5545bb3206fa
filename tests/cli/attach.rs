//! `lpm attach`: a terminal lent to an instance, and given back however that ends.
//!
//! The client runs below a shell, as people have it: the terminal outlives it, and what it looks like then counts.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use lpm::control::client::{Client, Trouble};
use lpm::control::frames::Frame;
use lpm::control::interface::{AttachParameters, Attached};
use rustix::event::{Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::termios::LocalModes;
use serde_json::{Value, json};

use crate::stack::{LPM, PATIENCE, Running, Stack, now, wait_readable};

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

/// The stack's control socket, once there is one: root's are elsewhere than other users'.
#[track_caller]
pub fn socket(stack: &Stack) -> PathBuf {
    until("a socket", || {
        let listed = stack.lpm(&["list", "--json"]).pipes().ends_leaving_something().with_code(0);
        let listed: Value = serde_json::from_str(&listed.out).expect("JSON");
        let root = stack.path().to_str().expect("UTF-8");
        let own = listed.as_array().expect("a list").iter().find(|one| one["root"] == root)?;
        own["socket"].as_str().map(PathBuf::from)
    })
}

/// `lpm start --pty ARGUMENTS`, up to an instance's word `up`.
#[track_caller]
fn started<'a>(stack: &'a Stack, arguments: &[&str]) -> Running<'a> {
    let mut words = vec!["start"];
    words.extend(arguments);
    words.push("--pty");
    let mut run = stack.lpm(&words).pipes();
    run.wait_for("up\n");
    run
}

/// Somebody at a shell who has typed `lpm attach …`.
struct Person<'a> {
    run: Running<'a>,
    before: String,
    /// Who mends the terminal if need be; it is to be gone whenever that is given back.
    mender: Option<OwnedFd>,
}

impl<'a> Person<'a> {
    #[track_caller]
    fn types_attach(stack: &'a Stack, arguments: &str, columns: u16) -> Person<'a> {
        let script = format!(
            "stty -echo -ixany 2>/dev/null; printf 'at the shell\\n'; read go; \
             lpm attach {arguments}; echo code=$?; read go; exit 0"
        );
        let mut run = stack.shell(&script).terminal(columns);
        run.wait_for("at the shell\r\n");
        let before = format!("{:?}", run.termios());
        run.types("\n");
        Person { run, before, mender: None }
    }

    /// Up to the hint that tells how to leave.
    #[track_caller]
    fn attaches(stack: &'a Stack, arguments: &str, columns: u16) -> Person<'a> {
        let mut person = Person::types_attach(stack, arguments, columns);
        person.run.wait_for("leaves it running");
        let modes = person.run.termios().local_modes;
        assert!(!modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG), "{modes:?}");
        person.mender = Some(mender(person.client(stack)));
        person
    }

    /// The client has ended with that code, and the terminal is as it was.
    #[track_caller]
    fn is_back(&mut self, code: i32) -> &mut Self {
        self.run.wait_for("\x1b[?1049l").wait_for(&format!("code={code}\r\n"));
        self.has_its_terminal();
        let shown = self.screen();
        assert!(!shown.screen().alternate_screen() && !shown.screen().hide_cursor());
        self
    }

    /// At once, but for what `kill -9` leaves to the mender.
    #[track_caller]
    fn has_its_terminal(&self) {
        assert_eq!(format!("{:?}", self.run.termios()), self.before);
        let gone = |mender: &OwnedFd| wait_readable(&[mender.as_fd()], Duration::ZERO);
        assert!(self.mender.as_ref().is_none_or(gone), "a mender is left");
    }

    #[track_caller]
    fn mender_ends(&self) {
        let mender = self.mender.as_ref().expect("it had one");
        assert!(wait_readable(&[mender.as_fd()], now() + PATIENCE), "a mender is left");
    }

    #[track_caller]
    fn detaches(&mut self, name: &str) -> &mut Self {
        self.run.types("\x1d").wait_for(&format!("lpm: detached from {name}, which goes on\r\n"));
        self.is_back_after_all(0)
    }

    #[track_caller]
    fn is_back_after_all(&mut self, code: i32) -> &mut Self {
        self.run.wait_for(&format!("code={code}\r\n"));
        self.has_its_terminal();
        self
    }

    /// What a terminal shows that was given all this.
    fn screen(&self) -> vt100::Parser {
        let size = |n| std::num::NonZeroU16::new(n).expect("a size");
        let mut terminal = vt100::Parser::new(size(24), size(80), 0);
        terminal.process(self.run.out().as_bytes());
        terminal
    }

    /// Leaves the shell, too.
    #[track_caller]
    fn goes(&mut self) {
        self.run.types("\n").ends_leaving_something().with_code(0);
    }

    /// The client's own process.
    #[track_caller]
    fn client(&self, stack: &Stack) -> Pid {
        let wanted = format!("{LPM} attach ");
        let tty = self.run.terminal_name();
        until("the client", || {
            let mut all = stack.processes().into_iter();
            let on_it = |pid| std::fs::read_link(format!("/proc/{pid}/fd/0")).is_ok_and(|to| to == *tty);
            all.find(|(pid, command)| command.starts_with(&wanted) && on_it(*pid))
                .and_then(|(pid, _)| Pid::from_raw(pid))
        })
    }
}

/// The mender that a client has started, its only child.
#[track_caller]
fn mender(client: Pid) -> OwnedFd {
    let children = format!("/proc/{0}/task/{0}/children", client.as_raw_pid());
    let children = std::fs::read_to_string(children).expect("it runs");
    let pid = Pid::from_raw(children.trim().parse().expect("one child")).expect("a pid");
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_pid())).expect("it runs");
    assert!(command.contains("__mend"), "{command}");
    pidfd_open(pid, PidfdFlags::empty()).expect("it runs")
}

/// Ends a stack; nothing may be left then.
#[track_caller]
fn end(run: &mut Running<'_>) -> String {
    run.signal(Signal::TERM).ends().by(Signal::TERM).out
}

#[test]
fn keys_reach_it_and_come_back_once() {
    let stack = Stack::with("keys", "a: echo up; exec cat\n");
    let mut run = started(&stack, &[]);
    let mut person = Person::attaches(&stack, "a", 80);
    // A terminal that is raw sends a carriage return; the instance's own makes it a newline.
    person.run.types("hello\r").wait_for("hello\r\nhello\r\n");
    person.detaches("a.1");
    assert_eq!(person.run.out().matches("hello").count(), 2, "{}", person.run.out());
    run.wait_for("| hello").wait_for("| hello");
    let status = stack.lpm(&["status"]).pipes().ends_leaving_something().with_code(0);
    assert!(status.out.contains("running"), "{}", status.out);
    person.goes();
    // And again, where the first one left it.
    let mut person = Person::attaches(&stack, "a.1", 80);
    assert!(person.screen().screen().contents().contains("hello\nhello\n"), "{}", person.run.out());
    // The same key in the middle of others: what stands before it still arrives.
    person.run.types("last\r\x1dlost\r").wait_for("code=0\r\n");
    run.wait_for("| last");
    person.goes();
    assert!(!end(&mut run).contains("lost"));
}

#[test]
fn what_was_on_its_screen_is_painted_and_what_was_on_ours_comes_back() {
    let script = r"printf '\033[31mred\033[0m plain\r\n\033[5;10Hhere\r\n\033[3;4H'; printf 'up\n\033[3;4H'";
    let stack = Stack::with("painted", &format!("a: {script}; exec cat\n"));
    let mut run = started(&stack, &[]);
    let mut person = Person::attaches(&stack, "a", 80);
    person.run.types("x").wait_for("x");
    let shown = person.screen();
    let screen = shown.screen();
    let rows: Vec<String> = screen.contents().lines().map(str::to_owned).collect();
    assert_eq!((rows[0].as_str(), rows[4].as_str()), ("red plain", "         here"), "{rows:?}");
    assert_eq!(screen.cell(0, 0).expect("a cell").fgcolor(), vt100::Color::Idx(1));
    assert_eq!(screen.cell(0, 4).expect("a cell").fgcolor(), vt100::Color::Default);
    assert!(rows[2].starts_with("   x"), "where its cursor was: {rows:?}");
    assert_eq!(rows[23], " a.1: ctrl-] leaves it running ");
    person.detaches("a.1");
    let shown = person.screen().screen().contents();
    assert!(shown.starts_with("at the shell\n") && !shown.contains("red"), "{shown}");
    person.goes();
    end(&mut run);
}

#[test]
fn the_detach_key_is_a_choice() {
    let stack = Stack::with("key", "a: echo up; exec cat\n");
    let mut run = started(&stack, &[]);
    let mut person = Person::attaches(&stack, "a --detach-key Ctrl-P", 80);
    assert!(person.run.out().contains(" a.1: ctrl-p leaves it running "), "{}", person.run.out());
    person.run.types("\x1d").wait_for("^]").types("\x10").wait_for("detached from a.1");
    person.is_back_after_all(0).goes();
    let mut person = Person::types_attach(&stack, "a --detach-key f1", 80);
    let wrong = "lpm: --detach-key: \"f1\" is no key (write ctrl- and a letter or one of [ ] \\ ^ _ @)\r\n";
    person.run.wait_for(wrong);
    person.is_back_after_all(1).goes();
    let launch = stack.lpm(&["attach", "a"]).variable("LPM_DETACH_KEY", "q").terminal(80);
    let ended = { launch }.ends_leaving_something().with_code(1);
    assert!(ended.out.starts_with("lpm: LPM_DETACH_KEY: \"q\" is no key"), "{}", ended.out);
    end(&mut run);
}

#[test]
fn two_type_and_see_the_same_and_one_only_watches() {
    let stack = Stack::with("viewers", "a: echo up; exec cat\n");
    let mut run = started(&stack, &[]);
    let mut watching = Person::attaches(&stack, "--read-only a", 80);
    assert!(watching.run.out().contains("a.1, which you watch: ctrl-] leaves"), "{}", watching.run.out());
    watching.run.types("never\r");
    let mut one = Person::attaches(&stack, "a", 80);
    let mut other = Person::attaches(&stack, "a", 80);
    one.run.types("from one\r").wait_for("from one\r\nfrom one\r\n");
    other.run.wait_for("from one\r\nfrom one\r\n").types("from other\r");
    for person in [&mut one, &mut other, &mut watching] {
        person.run.wait_for("from other\r\nfrom other\r\n");
    }
    one.detaches("a.1").goes();
    other.run.types("still\r").wait_for("still\r\nstill\r\n");
    other.detaches("a.1").goes();
    watching.run.wait_for("still\r\nstill\r\n");
    watching.detaches("a.1").goes();
    assert!(!end(&mut run).contains("never"));
}

/// A viewer may be stopped, or not be a terminal at all, and several would answer more than once.
#[test]
fn questions_are_answered_once_whoever_looks() {
    let ask = r"stty -icanon -echo min 1; echo up; while read -r go; do printf '\033[5n'; dd bs=4 count=1 2>/dev/null | od -An -c; done";
    let stack = Stack::with("questions", &format!("a: {ask}\n"));
    let mut run = started(&stack, &[]);
    let mut watching = Person::attaches(&stack, "-r a", 80);
    let (attached, mut stream, _) = upgraded(&stack, "a", None);
    assert_eq!(attached.instance, "a.1");
    // A viewer that only types, and whose terminal answers nothing.
    for _ in 0..2 {
        put(&mut stream, &Frame::Bytes(b"go\n".to_vec()));
        let shown = until_shown(&mut stream, b"033   [   0   n");
        assert_eq!(memchr::memmem::find(&shown, b"\x1b[5n"), None, "nobody else is asked");
    }
    watching.run.wait_for("033   [   0   n").wait_for("033   [   0   n");
    drop(stream);
    watching.detaches("a.1").goes();
    assert_eq!(end(&mut run).matches("033   [   0   n").count(), 2);
}

#[test]
fn the_window_is_the_viewers_and_goes_back() {
    let script = "trap 'stty size' WINCH; echo up; while :; do read x; done";
    let stack = Stack::with("size", &format!("a: {script}\n"));
    let mut run = started(&stack, &[]);
    let mut person = Person::attaches(&stack, "a", 100);
    run.wait_for("| 24 100");
    person.run.resizes(30, 90);
    run.wait_for("| 30 90");
    // Who only watches has no say.
    let mut watching = Person::attaches(&stack, "-r a", 70);
    watching.run.resizes(10, 71);
    let mut other = Person::attaches(&stack, "a", 60);
    run.wait_for("| 24 60");
    // Who types has it again.
    person.run.types("x");
    run.wait_for("30 90");
    person.detaches("a.1").goes();
    other.run.types("\r");
    run.wait_for("24 60");
    other.detaches("a.1").goes();
    run.wait_for("| 24 80");
    watching.detaches("a.1").goes();
    let out = end(&mut run);
    assert!(!out.contains("| 10 71") && !out.contains("| 24 70"), "{out}");
}

#[test]
fn the_other_screen_is_shown_and_left_without_touching_ours() {
    let script = r"printf 'main\r\n'; printf '\033[?1049h\033[2J\033[Hother\r\nup\n'; read x; printf '\033[?1049l'; echo back; read x";
    let stack = Stack::with("alternate", &format!("a: {script}\n"));
    let mut run = started(&stack, &[]);
    let mut person = Person::attaches(&stack, "a", 80);
    let shown = person.screen().screen().contents();
    assert!(shown.starts_with("other\nup") && !shown.contains("main"), "{shown}");
    person.run.types("\r").wait_for("back");
    run.wait_for("back");
    let shown = until("the main one", || {
        let shown = person.screen();
        let contents = shown.screen().contents();
        (contents.starts_with("main\nback")).then_some(shown)
    });
    assert!(shown.screen().alternate_screen(), "of the viewer's own terminal");
    person.detaches("a.1");
    assert!(person.screen().screen().contents().starts_with("at the shell\n"));
    person.goes();
    end(&mut run);
}

#[test]
fn the_terminal_is_given_back_when_the_client_is_killed() {
    let stack = Stack::with("killed", r"a: printf '\033[?1000h\033[?25lup\n'; exec cat");
    let mut run = started(&stack, &[]);
    let mut person = Person::attaches(&stack, "a", 80);
    let client = pidfd_open(person.client(&stack), PidfdFlags::empty()).expect("it runs");
    pidfd_send_signal(&client, Signal::TERM).expect("it is there");
    person.is_back(143).goes();
    let mut person = Person::attaches(&stack, "a", 80);
    let client = pidfd_open(person.client(&stack), PidfdFlags::empty()).expect("it runs");
    pidfd_send_signal(&client, Signal::KILL).expect("it is there");
    person.run.wait_for("\x1b[?1049l");
    person.mender_ends();
    person.has_its_terminal();
    assert!(!person.screen().screen().hide_cursor());
    let ended = person.run.types("\n").ends_leaving_something().with_code(0);
    assert!(ended.out.contains("code=137"), "{}", ended.out);
    // A window that is closed leaves nobody behind.
    let mut person = Person::attaches(&stack, "a", 80);
    person.run.close_terminal().ends_leaving_something();
    person.mender_ends();
    until("no client", || {
        let all = stack.processes();
        all.iter().all(|(_, command)| !command.contains(" attach ")).then_some(())
    });
    end(&mut run);
}

#[test]
fn a_new_life_goes_on_before_the_same_eyes() {
    let stack = Stack::with("lives", "a: echo up; read x; exit 3\n");
    let mut run = started(&stack, &["--restart", "always"]);
    let mut person = Person::attaches(&stack, "a", 80);
    for _ in 0..2 {
        person.run.types("\r").wait_for("a.1 exited with code 3").wait_for("up");
    }
    let restarted = stack.lpm(&["restart", "a"]).pipes().ends_leaving_something();
    restarted.with_code(0);
    person.run.wait_for("a.1 ").wait_for("up").types("hel").wait_for("hel");
    let shown = person.screen().screen().contents();
    assert!(shown.starts_with("up\nhel"), "the old life's screen is gone: {shown}");
    person.detaches("a.1").goes();
    end(&mut run);
}

#[test]
fn the_end_is_told() {
    let stack = Stack::with("told", "a: echo up; read x; echo bye; exit 7\nb: echo up; exec sleep 1000\n");
    let mut run = started(&stack, &["--can-die", "a"]);
    let mut person = Person::attaches(&stack, "a", 80);
    person.run.types("\r").wait_for("bye").wait_for("lpm: a.1 exited with code 7");
    person.is_back_after_all(0).goes();
    end(&mut run);
    for way in ["down", "kill"] {
        let mut run = started(&stack, &[]);
        run.wait_for("up\n");
        let mut person = Person::attaches(&stack, "b", 80);
        let mut other = Person::attaches(&stack, "a", 80);
        match way {
            "down" => drop(stack.lpm(&["down"]).pipes().ends_leaving_something().with_code(0)),
            _ => drop(run.signal(Signal::KILL)),
        }
        for person in [&mut person, &mut other] {
            person.run.wait_for("lpm: ");
            person.is_back_after_all(0);
            let said = person.run.out();
            let killed = way == "kill" && said.contains("lpm: the stack has ended\r\n");
            assert!(killed || (way == "down" && said.contains(".1 terminated by SIGTERM")), "{said}");
            person.goes();
        }
        run.ends_leaving_something();
        stack.wait_until_empty();
    }
}

#[test]
fn who_cannot_attach_is_told_why() {
    let stack = Stack::with("refused", "a: echo up; exec cat\nb: echo plain; exec sleep 1000\nc: true\n");
    let mut run = stack.lpm(&["start", "--pty", "a,c", "--can-die", "c"]).pipes();
    run.wait_for("c.1    | exited");
    let refused = |arguments: &[&str]| {
        let mut words = vec!["attach"];
        words.extend(arguments);
        let ended = { stack.lpm(&words).terminal(80) }.ends_leaving_something().with_code(1);
        ended.out.replace("\r\n", "\n")
    };
    let said = refused(&["b"]);
    assert!(said.contains("b.1 has no terminal") && said.contains("pty"), "{said}");
    let said = refused(&["c"]);
    assert!(said.contains("c.1 does not run (lpm start c.1 would have it run)"), "{said}");
    let said = refused(&["x"]);
    assert!(said.contains("\"x\""), "{said}");
    let ended = { stack.lpm(&["attach", "a"]).pipes() }.ends_leaving_something().with_code(1);
    assert_eq!(
        ended.err,
        "lpm: attach needs a terminal for standard input and output (lpm logs -f a needs none)\n"
    );
    end(&mut run);
}

/// A viewer without lpm's client, up to the reply, and what came behind that.
#[track_caller]
fn upgraded(stack: &Stack, name: &str, size: Option<(u16, u16)>) -> (Attached, UnixStream, Vec<u8>) {
    let client = Client::connect(&socket(stack)).expect("somebody listens");
    let parameters = AttachParameters {
        name: name.to_owned(),
        rows: size.map(|size| size.0),
        columns: size.map(|size| size.1),
        read_only: None,
    };
    let (attached, stream, early): (Attached, _, Vec<u8>) =
        client.upgrade("Attach", &parameters).expect("it attaches");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    (attached, stream, early)
}

fn put(stream: &mut UnixStream, frame: &Frame) {
    let mut out = Vec::new();
    frame.put(&mut out);
    stream.write_all(&out).expect("it is there");
}

/// Reads until `text` came.
#[track_caller]
fn until_shown(stream: &mut UnixStream, text: &[u8]) -> Vec<u8> {
    let (mut all, mut chunk) = (Vec::new(), [0; 65536]);
    let mut looked = 0;
    while memchr::memmem::find(&all[looked..], text).is_none() {
        looked = all.len().saturating_sub(text.len());
        match stream.read(&mut chunk).expect("it comes") {
            0 => panic!("it ended: {:?}", String::from_utf8_lossy(&all)),
            length => all.extend_from_slice(&chunk[..length]),
        }
    }
    all
}

#[test]
fn one_that_never_reads_holds_nobody_up() {
    // Said more than once, for frames may cut it.
    let script =
        "stty -echo; echo up; read x; seq 1 700000; for i in 1 2 3; do echo 'do''ne'; done; exec cat";
    let stack = Stack::with("laggard", &format!("a: {script}\n"));
    let mut run = stack.shell("exec $LPM start --pty >/dev/null").pipes();
    let (_, mut laggard, mut all) = upgraded(stack_up(&stack), "a", Some((24, 80)));
    let (_, mut other, _) = upgraded(&stack, "a", None);
    put(&mut other, &Frame::Bytes(b"\n".to_vec()));
    until_shown(&mut other, b"done");
    // It reads again: not five million bytes, but the screen.
    all.extend(until_shown(&mut laggard, b"done"));
    assert!(all.len() < 2_000_000, "{}", all.len());
    let mut screens = 0;
    while let Ok(Some(frame)) = Frame::take(&mut all) {
        screens += usize::from(matches!(frame, Frame::Screen(_)));
    }
    assert!(screens >= 2, "repainted: {screens}");
    // Nobody reads any more, and the stack goes down all the same.
    run.signal(Signal::TERM).ends().by(Signal::TERM);
    drop(laggard);
}

/// Once an instance of it has a terminal.
#[track_caller]
fn stack_up(stack: &Stack) -> &Stack {
    until("it is up", || {
        let parameters =
            AttachParameters { name: "a".into(), rows: None, columns: None, read_only: Some(true) };
        let client = Client::connect(&socket(stack)).ok()?;
        client.upgrade::<Attached>("Attach", &parameters).ok().map(|_| stack)
    })
}

#[test]
fn who_types_without_end_can_still_leave() {
    let stack = Stack::with("stuck-reader", "a: stty raw -echo; echo up; exec sleep 1000\n");
    let mut run = started(&stack, &[]);
    let mut person = Person::attaches(&stack, "a", 80);
    let much = "x".repeat(4096);
    for _ in 0..600 {
        person.run.types(&much);
    }
    person.detaches("a.1").goes();
    let mut person = Person::attaches(&stack, "a", 80);
    person.run.types(&much);
    person.detaches("a.1").goes();
    end(&mut run);
}

#[test]
fn what_is_no_frame_ends_the_viewer_alone() {
    let stack = Stack::with("garbage", "a: echo up; exec cat\n");
    let mut run = started(&stack, &[]);
    let mut person = Person::attaches(&stack, "a", 80);
    let again =
        json!({ "method": "dev.lpm.Supervisor.Attach", "parameters": { "name": "a" }, "upgrade": true });
    let again = format!("{again}\0").into_bytes();
    let told = [b't', 0, 0, 0, 1, b'x'];
    for garbage in [&b"\xff\xff\xff\xff\xff\xff"[..], b"b\xff\xff\xff\xff", b"s\0\0\0\x01x", &told, &again] {
        let (_, mut stream, _) = upgraded(&stack, "a", None);
        stream.write_all(garbage).expect("it is there");
        let mut rest = Vec::new();
        // The end, or a reset if something was not read.
        let ended = stream.read_to_end(&mut rest);
        assert!(
            ended.is_ok() || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        );
    }
    // Sizes beyond all bounds are cut.
    let (_, mut stream, _) = upgraded(&stack, "a", Some((u16::MAX, 0)));
    put(&mut stream, &Frame::Size(0, u16::MAX));
    put(&mut stream, &Frame::Bytes(b"sized\n".to_vec()));
    until_shown(&mut stream, b"sized");
    drop(stream);
    // The echo, and what it says; the change of the size may come in between, and have all painted anew.
    person.run.types("alive\r").wait_for("alive").wait_for("alive");
    person.detaches("a.1").goes();
    // Without the upgrade it is refused, and the conversation goes on.
    let mut client = Client::connect(&socket(&stack)).expect("somebody listens");
    let parameters = AttachParameters { name: "a".into(), rows: None, columns: None, read_only: None };
    let Err(Trouble::Other(refused)) = client.call::<Value>("Attach", &parameters) else { panic!("refused") };
    assert!(refused.contains("org.varlink.service.InvalidParameter"), "{refused}");
    let status: Value = client.call("Status", &json!({})).expect("it goes on");
    assert_eq!(status["instances"][0]["name"], "a.1");
    end(&mut run);
}
