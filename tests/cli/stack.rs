//! A stack in a directory of its own, run by the real binary, and everything that must be gone afterwards.
//!
//! Whatever a test starts carries a mark nobody else has: a variable in the environment, which processes
//! inherit however they hide, and the directory's name, which lpm's cgroups carry. What is left is found by
//! these, not by asking lpm. Variables, directory, mode mask and signals are the same wherever the tests are started
//! (`settle`). Nothing here sleeps: it waits for output, or for a process to end, and no
//! longer than [`PATIENCE`].

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

/// The binary under test.
pub const LPM: &str = env!("CARGO_BIN_EXE_lpm");

/// How long anything is waited for. Generous: the machine may be busy, and only failures wait that long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where programs are found, whatever the tests' own `PATH` says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Takes from this process, once, what its children would inherit from the place where the tests were started: a mode
/// mask that hides files from other users, and signals that nohup(1) or a script's background ignores.
fn settle() {
    static SETTLED: OnceLock<()> = OnceLock::new();
    SETTLED.get_or_init(|| {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2] {
            lpm::linux::signals::reset(signal.as_raw()).expect("a signal that can be caught");
        }
    });
}

/// A directory with a Procfile and its company.
pub struct Stack {
    directory: tempfile::TempDir,
    mark: String,
    environment: Vec<(OsString, OsString)>,
}

impl Stack {
    /// An empty one. `name` becomes part of everything it makes.
    pub fn new(name: &str) -> Stack {
        settle();
        let name: String = name.chars().take(20).collect();
        let directory =
            tempfile::Builder::new().prefix(&format!("{name}-")).tempdir_in("/tmp").expect("a directory");
        let mark = file_name(directory.path());
        let run = directory.path().join(".run");
        std::fs::create_dir(&run).expect("a runtime directory");
        std::fs::set_permissions(&run, PermissionsExt::from_mode(0o700)).expect("it is ours");
        let environment = [
            ("PATH", OsString::from(PATH)),
            ("HOME", directory.path().into()),
            ("TZ", "UTC".into()),
            ("XDG_RUNTIME_DIR", run.into()),
            ("CLI_TEST", OsString::from(&mark)),
        ];
        let environment = environment.into_iter().map(|(name, value)| (name.into(), value)).collect();
        Stack { directory, mark, environment }
    }

    /// With a Procfile.
    pub fn with(name: &str, procfile: &str) -> Stack {
        Stack::new(name).file("Procfile", procfile)
    }

    /// With another file.
    pub fn file(self, path: &str, content: impl AsRef<[u8]>) -> Stack {
        let path = self.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it is in the directory")).expect("directories");
        std::fs::write(path, content).expect("a file");
        self
    }

    /// With an executable file.
    pub fn program(self, path: &str, content: &str) -> Stack {
        let stack = self.file(path, content);
        let mode = PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(stack.path().join(path), mode).expect("it is ours");
        stack
    }

    /// With these programs in `PATH` and no other, for what lpm says of names that are like others.
    pub fn programs(self, names: &[&str]) -> Stack {
        let folder = self.path().join(".programs");
        std::fs::create_dir_all(&folder).expect("a directory");
        for name in names {
            let there = PATH.split(':').map(|place| Path::new(place).join(name)).find(|path| path.exists());
            let there = there.unwrap_or_else(|| panic!("{name} is not installed"));
            std::os::unix::fs::symlink(there, folder.join(name)).expect("a link");
        }
        self.variable("PATH", folder)
    }

    /// With a variable that lpm inherits.
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Stack {
        self.environment.push((name.into(), value.as_ref().into()));
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What only this stack's processes carry, in their environment or among their arguments.
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// `lpm` with these arguments, in the directory; not started yet.
    pub fn lpm<'a>(&'a self, arguments: &[&str]) -> Launch<'a> {
        self.program_with(LPM, arguments)
    }

    /// `sh -c script`; `lpm` there is the binary under test. `exec lpm` keeps the pid.
    pub fn shell<'a>(&'a self, script: &str) -> Launch<'a> {
        self.program_with("/bin/sh", &["-c", &format!("lpm() {{ {LPM} \"$@\"; }}; LPM={LPM}; {script}")])
    }

    /// Any program.
    pub fn program_with<'a>(&'a self, program: &str, arguments: &[&str]) -> Launch<'a> {
        let mut words = vec![OsString::from(program)];
        words.extend(arguments.iter().map(OsString::from));
        Launch { stack: self, words, stdin: Vec::new(), variables: Vec::new() }
    }

    /// `lpm ARGUMENTS` from start to end, through pipes.
    pub fn runs(&self, arguments: &[&str]) -> Ended {
        self.lpm(arguments).pipes().ends()
    }

    /// `lpm ARGUMENTS` until something prints `up`, then SIGTERM; what it printed.
    pub fn runs_until_up(&self, arguments: &[&str]) -> String {
        let mut run = self.lpm(arguments).pipes();
        run.wait_for(" | up").signal(Signal::TERM);
        run.ends().by(Signal::TERM).out
    }

    /// `lpm ARGUMENTS` beside a stack of this one that runs and stays.
    pub fn tells(&self, arguments: &[&str]) -> Ended {
        self.lpm(arguments).pipes().ends_leaving_something()
    }

    /// What `lpm status --json` says of these; of all, if nobody is named.
    #[track_caller]
    pub fn status(&self, names: &[&str]) -> Value {
        let mut arguments = vec!["status", "--json"];
        arguments.extend(names);
        let ended = self.tells(&arguments).with_code(0);
        serde_json::from_str(&ended.out).expect("status --json is JSON")
    }

    /// Where the stack that runs in this directory can be asked.
    #[track_caller]
    pub fn socket(&self) -> PathBuf {
        let ended = self.tells(&["list", "--json"]).with_code(0);
        let stacks: Value = serde_json::from_str(&ended.out).expect("list --json is JSON");
        let mut own = stacks.as_array().expect("an array").iter().filter(|one| one["root"] == self.root());
        let socket = own.next().unwrap_or_else(|| panic!("it does not run: {stacks:#}"))["socket"].as_str();
        socket.expect("it has a socket").into()
    }

    /// The directory as lpm writes it.
    pub fn root(&self) -> String {
        let path = self.path().canonicalize().expect("it is there");
        path.to_str().expect("UTF-8").to_owned()
    }

    /// Everything of this stack that is there: processes, cgroups, records, sockets.
    pub fn left(&self) -> Vec<String> {
        let processes = self.processes().into_iter().map(|(pid, name)| format!("process {pid} ({name})"));
        let cgroups = self.cgroups().into_iter().map(|path| format!("cgroup {}", path.display()));
        let files = self.files().into_iter().map(|path| match path.extension() {
            Some(ending) if ending == "sock" => format!("socket {}", path.display()),
            _ => format!("record {}", path.display()),
        });
        processes.chain(cgroups).chain(files).collect()
    }

    /// Records and sockets of this stack, in the runtime directory that lpm chooses here: one of its own, or
    /// that of everybody, where the mark tells them from others.
    fn files(&self) -> Vec<PathBuf> {
        let uid = rustix::process::geteuid();
        let shared = if uid.is_root() { "/run/lpm".to_owned() } else { format!("/run/user/{uid}/lpm") };
        let in_directory = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten();
        let marked = in_directory(shared.into()).map(|entry| entry.path()).filter(|path| {
            let ours = file_name(path).contains(&self.mark);
            ours && path.extension().is_some_and(|ending| ending == "json" || ending == "sock")
        });
        let own = in_directory(self.path().join(".run/lpm")).map(|entry| entry.path());
        marked.chain(own).collect()
    }

    /// Processes that carry the mark: number and command line.
    pub fn processes(&self) -> Vec<(i32, String)> {
        let carries = |pid: i32| {
            let read = |file| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let environment = read("environ");
            let variable = format!("CLI_TEST={}", self.mark);
            let marked = environment.split(|&byte| byte == 0).any(|pair| pair == variable.as_bytes());
            let arguments = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            (marked || arguments.contains(&self.mark)).then_some(arguments)
        };
        let pids = std::fs::read_dir("/proc").expect("/proc").flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid| Some((pid, carries(pid)?))).collect()
    }

    /// Cgroups that carry the stack's name, outermost first, each with what is below it.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        fn walk(directory: &Path, name: &str, inside: bool, depth: u32, found: &mut BTreeSet<PathBuf>) {
            let Ok(entries) = std::fs::read_dir(directory) else { return };
            for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())) {
                let inside = inside || file_name(&entry.path()).contains(name);
                if inside {
                    found.insert(entry.path());
                }
                if depth > 0 {
                    walk(&entry.path(), name, inside, depth - 1, found);
                }
            }
        }
        let mut found = BTreeSet::new();
        if let Some(mount) = cgroup_mount() {
            // Labels in names of cgroups hold `_` for what does not fit there.
            walk(mount, &self.mark, false, 9, &mut found);
        }
        found.into_iter().collect()
    }

    /// Pids in the cgroups called `name` of this stack: `supervisor`, `app/web.1`.
    pub fn pids_in(&self, name: &str) -> Vec<Pid> {
        let cgroups = self.cgroups();
        let procs = cgroups
            .iter()
            .filter(|path| path.ends_with(name))
            .filter_map(|path| std::fs::read_to_string(path.join("cgroup.procs")).ok());
        procs
            .flat_map(|text| {
                text.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect::<Vec<_>>()
            })
            .collect()
    }

    /// The guardian's pid. It stands in `supervisor` beside lpm, whose number is `lpm`.
    pub fn guardian(&self, lpm: Pid) -> Pid {
        let pids = self.pids_in("supervisor");
        *pids
            .iter()
            .find(|&&pid| pid != lpm)
            .unwrap_or_else(|| panic!("no guardian beside {lpm:?}: {pids:?}"))
    }

    /// Waits until every process that is in a cgroup of this stack, or carries its mark, has ended.
    pub fn wait_until_empty(&self) {
        let deadline = now() + PATIENCE;
        loop {
            let mut pids =
                self.processes().iter().filter_map(|(pid, _)| Pid::from_raw(*pid)).collect::<Vec<_>>();
            for path in self.cgroups() {
                let procs = std::fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
                pids.extend(procs.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
            }
            let Some(pidfd) = pids.iter().find_map(|&pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else {
                return;
            };
            assert!(wait_readable(&[pidfd.as_fd()], deadline), "still there: {:#?}", self.left());
        }
    }

    /// Ends and removes whatever is there; for tests that failed.
    fn clean_up(&self) {
        for _ in 0..50 {
            let cgroups = self.cgroups();
            for path in &cgroups {
                let _ = std::fs::write(path.join("cgroup.kill"), "1");
            }
            let mut ends = Vec::new();
            for (pid, _) in self.processes() {
                let pidfd = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
                // A second look: the number may be somebody else's by now.
                if let Some(pidfd) = pidfd
                    && self.processes().iter().any(|(again, _)| *again == pid)
                {
                    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
                    ends.push(pidfd);
                }
            }
            for pidfd in &ends {
                wait_readable(&[pidfd.as_fd()], now() + Duration::from_secs(1));
            }
            cgroups.iter().rev().for_each(|path| drop(std::fs::remove_dir(path)));
            if self.cgroups().is_empty() && self.processes().is_empty() {
                return;
            }
        }
        eprintln!("cannot be removed: {:#?}", self.left());
    }

    /// `text` as it would be on any machine, at any time: the directory is `DIR`, times are `TIME`, pids `N`,
    /// processor times `T`; what is said where there are no cgroups is left out, and so is what a cgroup
    /// with a memory controller counts.
    pub fn normal(&self, text: &str) -> String {
        let directory = self.path().to_str().expect("UTF-8");
        let text = text.replace(directory, "DIR").replace(&self.mark, "DIR");
        let lines = text.split_inclusive('\n').filter(|line| !line.contains("| no cgroups: "));
        let lines = lines.map(|line| match starts_with_time(line) {
            true => format!("TIME{}", &line[8..]),
            false => line.to_owned(),
        });
        let text: String = lines.collect();
        let text = without_value(&text, "memory peak ", ", ");
        let text = with_value(&text, " pid ", "N");
        let text = with_value(&text, "(pid ", "N");
        with_value(&text, "cpu ", "T")
    }
}

/// Something that is about to be started.
pub struct Launch<'a> {
    stack: &'a Stack,
    words: Vec<OsString>,
    stdin: Vec<u8>,
    variables: Vec<(OsString, OsString)>,
}

impl<'a> Launch<'a> {
    /// What comes through standard input, which is a pipe then.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// A variable for this one alone.
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.into(), value.as_ref().into()));
        self
    }

    fn command(&self, words: &[OsString]) -> Command {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.stack.path()).env_clear();
        command.envs(self.stack.environment.iter().map(|(name, value)| (name, value)));
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts it; standard output and error are a pipe each.
    pub fn pipes(self) -> Running<'a> {
        let mut command = self.command(&self.words);
        let stdin = if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut child =
            command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(&self.stdin);
        }
        let out = child.stdout.take().map(OwnedFd::from);
        let err = child.stderr.take().map(OwnedFd::from);
        Running::new(self.stack, child, [out, err], None)
    }

    /// Starts it in a session of its own, on a terminal of `columns`.
    pub fn terminal(self, columns: u16) -> Running<'a> {
        let (master, slave) = terminal(columns);
        let mut words = vec!["setsid".into(), "--ctty".into()];
        words.extend(self.words.iter().cloned());
        let mut command = self.command(&words);
        let again = || Stdio::from(slave.try_clone().expect("a descriptor"));
        let child = command.stdin(again()).stdout(again()).stderr(again()).spawn().expect("setsid(1) starts");
        let reader = master.try_clone().expect("a descriptor");
        drop(command);
        Running::new(self.stack, child, [Some(reader), None], Some(master))
    }
}

/// A program that was started, and what it has printed so far.
pub struct Running<'a> {
    stack: &'a Stack,
    child: Child,
    pidfd: OwnedFd,
    /// Standard output (or the terminal), standard error; `None` when closed.
    streams: [Option<OwnedFd>; 2],
    text: [Vec<u8>; 2],
    /// Up to where `wait_for` has looked.
    seen: usize,
    terminal: Option<OwnedFd>,
    over: bool,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
    pub bytes: Vec<u8>,
}

impl Ended {
    /// Its exit code; fails if a signal ended it.
    #[track_caller]
    pub fn code(&self) -> i32 {
        let said = format!("out: {}\nerr: {}", self.out, self.err);
        self.status.code().unwrap_or_else(|| panic!("{}\n{said}", self.status))
    }

    /// Fails if it ended otherwise.
    #[track_caller]
    pub fn with_code(self, code: i32) -> Ended {
        assert_eq!(self.code(), code, "out: {}\nerr: {}", self.out, self.err);
        self
    }

    /// Fails unless that signal ended it.
    #[track_caller]
    pub fn by(self, signal: Signal) -> Ended {
        let said = format!("{}\nout: {}\nerr: {}", self.status, self.out, self.err);
        assert_eq!(self.status.signal(), Some(signal.as_raw()), "{said}");
        self
    }
}

impl<'a> Running<'a> {
    fn new(stack: &'a Stack, child: Child, streams: [Option<OwnedFd>; 2], terminal: Option<OwnedFd>) -> Self {
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("a pidfd");
        Running { stack, child, pidfd, streams, text: Default::default(), seen: 0, terminal, over: false }
    }

    /// Its pid.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What it has printed so far.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.text[0]).into_owned()
    }

    /// Waits until it prints `text`, on standard output or the terminal, after what was waited for before.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> &mut Self {
        let deadline = now() + PATIENCE;
        loop {
            let found = memchr::memmem::find(&self.text[0][self.seen..], text.as_bytes());
            if let Some(at) = found {
                self.seen += at + text.len();
                return self;
            }
            let said = format!("{}\nstderr: {}", self.out(), String::from_utf8_lossy(&self.text[1]));
            assert!(self.read(deadline), "{text:?} does not come:\n{said}");
        }
    }

    /// Waits until it has printed all of these, in any order.
    #[track_caller]
    pub fn wait_for_all(&mut self, texts: &[&str]) -> &mut Self {
        let deadline = now() + PATIENCE;
        while let Some(missing) = texts.iter().find(|text| !self.out().contains(**text)) {
            let said = self.out();
            assert!(self.read(deadline), "{missing:?} does not come:\n{said}");
        }
        self
    }

    /// Waits until its terminal, of 24 lines and 80 columns, shows `text`.
    #[track_caller]
    pub fn sees(&mut self, text: &str) -> &mut Self {
        let deadline = now() + PATIENCE;
        loop {
            let size = |n| std::num::NonZeroU16::new(n).expect("a size");
            let mut terminal = vt100::Parser::new(size(24), size(80), 0);
            terminal.process(&self.text[0]);
            let shown = terminal.screen().contents();
            if shown.contains(text) {
                self.seen = self.text[0].len();
                return self;
            }
            assert!(self.read(deadline), "{text:?} is not seen:\n{shown}");
        }
    }

    /// Reads what is there, or waits for it; `false` when there is nothing more to come.
    fn read(&mut self, deadline: Duration) -> bool {
        let at: Vec<usize> = (0..2).filter(|&at| self.streams[at].is_some()).collect();
        let open: Vec<BorrowedFd<'_>> =
            at.iter().map(|&at| self.streams[at].as_ref().expect("open").as_fd()).collect();
        if open.is_empty() || !wait_readable(&open, deadline) {
            return false;
        }
        let ready: Vec<usize> = at
            .iter()
            .zip(&open)
            .filter(|(_, fd)| wait_readable(&[**fd], Duration::ZERO))
            .map(|(&at, _)| at)
            .collect();
        for at in ready {
            let mut bytes = [0; 16384];
            let read = rustix::io::read(self.streams[at].as_ref().expect("open"), &mut bytes);
            match read {
                // A terminal whose other side is closed answers EIO.
                Ok(0) | Err(Errno::IO) => self.streams[at] = None,
                Ok(count) => self.text[at].extend_from_slice(&bytes[..count]),
                Err(errno) => panic!("reading: {errno}"),
            }
        }
        true
    }

    /// Nobody reads its standard output any more.
    pub fn close_stdout(&mut self) -> &mut Self {
        self.streams[0] = None;
        self
    }

    /// Sends it a signal.
    pub fn signal(&mut self, signal: Signal) -> &mut Self {
        pidfd_send_signal(&self.pidfd, signal).expect("it is there");
        self
    }

    /// Types on its terminal.
    pub fn types(&mut self, keys: &str) -> &mut Self {
        let terminal = self.terminal.as_ref().expect("it has a terminal");
        rustix::io::write(terminal, keys.as_bytes()).expect("the terminal takes it");
        self
    }

    /// Its terminal has another size, as when a window is dragged.
    pub fn resizes(&mut self, rows: u16, columns: u16) -> &mut Self {
        let terminal = self.terminal.as_ref().expect("it has a terminal");
        let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(terminal, size).expect("a size");
        self
    }

    /// Its terminal goes away, as when a window is closed.
    pub fn close_terminal(&mut self) -> &mut Self {
        self.streams[0] = None;
        self.terminal = None;
        self
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        wait_readable(&[self.pidfd.as_fd()], Duration::ZERO)
    }

    /// Waits for its end after SIGTERM, and that nothing is left of the stack then.
    #[track_caller]
    pub fn stops(&mut self) -> Ended {
        self.signal(Signal::TERM).ends().by(Signal::TERM)
    }

    /// Waits for its end, and that nothing is left of the stack then.
    #[track_caller]
    pub fn ends(&mut self) -> Ended {
        let stack = self.stack;
        let ended = self.ends_leaving_something();
        let left = stack.left();
        assert!(left.is_empty(), "left behind: {left:#?}\nout: {}\nerr: {}", ended.out, ended.err);
        ended
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ends_leaving_something(&mut self) -> Ended {
        let deadline = now() + PATIENCE;
        while !self.has_ended() {
            let mut fds: Vec<BorrowedFd<'_>> = vec![self.pidfd.as_fd()];
            fds.extend(self.streams.iter().flatten().map(AsFd::as_fd));
            let ready = wait_readable(&fds, deadline);
            let said = format!("{}\nstderr: {}", self.out(), String::from_utf8_lossy(&self.text[1]));
            assert!(ready, "it does not end:\n{said}\n{:#?}", self.stack.left());
            if !self.has_ended() {
                self.read(deadline);
            }
        }
        let status = self.child.wait().expect("its status");
        self.over = true;
        // What is in the pipes; somebody who escaped may hold the other end, so end-of-file is not waited for.
        while self.read(Duration::ZERO) {}
        let [out, err] = std::mem::take(&mut self.text);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended { status, out: text(&out), err: text(&err), bytes: out }
    }

    /// How its terminal is set (the kernel answers for the other side).
    pub fn termios(&self) -> rustix::termios::Termios {
        let terminal = self.terminal.as_ref().expect("it has a terminal");
        rustix::termios::tcgetattr(terminal).expect("attributes")
    }

    /// Its terminal's name, `/dev/pts/N`.
    pub fn terminal_name(&self) -> String {
        let terminal = self.terminal.as_ref().expect("it has a terminal");
        let name = rustix::pty::ptsname(terminal, Vec::new()).expect("it has a name");
        name.to_string_lossy().into_owned()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.over {
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.clean_up();
        }
        // Of an lpm that was killed they stay until the next start, and here there is none.
        for path in self.files() {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A terminal: the side we hold, and the one for a program.
pub fn terminal(columns: u16) -> (OwnedFd, OwnedFd) {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&master).expect("it is ours");
    unlockpt(&master).expect("it is ours");
    let name = ptsname(&master, Vec::new()).expect("it has a name");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).expect("its other side");
    let size = rustix::termios::Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size).expect("a size");
    (master, slave)
}

/// Waits until one of them is readable or closed; `false` when `deadline` has passed.
pub fn wait_readable(fds: &[BorrowedFd<'_>], deadline: Duration) -> bool {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    loop {
        let left = deadline.saturating_sub(now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::INTR) => {}
            Err(errno) => panic!("poll: {errno}"),
        }
    }
}

/// Time since some moment.
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Whether lpm has cgroups here; a test that needs them says that it is skipped where it has not.
pub fn has_cgroups(test: &str) -> bool {
    static TIER: OnceLock<String> = OnceLock::new();
    let tier = TIER.get_or_init(|| {
        let output = Command::new(LPM).args(["doctor", "--json"]).output().expect("doctor runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_once("\"tier\": \"")
            .expect("doctor tells the tier")
            .1
            .split('"')
            .next()
            .unwrap_or("")
            .to_owned()
    });
    if tier == "none" {
        skipped!("{test}: no cgroups here");
    }
    tier != "none"
}

/// Whether the tests run as root; a test that needs it, or the opposite, says that it is skipped.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Where cgroup2 is mounted, if it is.
pub fn cgroup_mount() -> Option<&'static Path> {
    static MOUNT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
        Some(PathBuf::from(mount.split(' ').nth(1)?))
    };
    MOUNT.get_or_init(find).as_deref()
}

fn file_name(path: &Path) -> String {
    String::from_utf8_lossy(path.file_name().unwrap_or_default().as_bytes()).into_owned()
}

/// `12:42:07 `
pub fn starts_with_time(line: &str) -> bool {
    let pattern = b"00:00:00 ";
    line.len() >= pattern.len()
        && line.bytes().zip(pattern).all(|(byte, wanted)| match wanted {
            b'0' => byte.is_ascii_digit(),
            wanted => byte == *wanted,
        })
}

/// Every value after `marker` replaced: a word that begins with a digit.
fn with_value(text: &str, marker: &str, value: &str) -> String {
    let mut parts = text.split(marker);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        result.push_str(marker);
        match part.starts_with(|c: char| c.is_ascii_digit()) {
            true => {
                let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(part.len());
                result.push_str(value);
                result.push_str(&part[end..]);
            }
            false => result.push_str(part),
        }
    }
    result
}

/// Everything from `marker` to `end` taken out.
fn without_value(text: &str, marker: &str, end: &str) -> String {
    let mut parts = text.split(marker);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        result.push_str(part.split_once(end).map_or(part, |(_, rest)| rest));
    }
    result
}
