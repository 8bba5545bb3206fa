//! A program that was started: what it printed, how it ended, and signals that reach it alone.
//!
//! A thread reads what it prints and another waits for its end, so that neither a full pipe nor a program
//! that hangs holds up the runner. Every wait has a bound.

use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The most text that is kept of one program; of more, the latest half stays.
const KEPT: usize = 1 << 20;
/// How long the text may take to arrive after the end. A process that escaped may hold the pipe open.
const LAST_WORDS: Duration = Duration::from_millis(300);

/// A running program, killed when it is dropped.
pub struct Program {
    pid: Pid,
    pidfd: OwnedFd,
    shared: Arc<Shared>,
    /// Up to where `sees` has looked, counted from the first byte ever printed.
    seen: usize,
    terminal: Option<OwnedFd>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    text: Vec<u8>,
    dropped: usize,
    closed: bool,
    status: Option<ExitStatus>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Waits until `what` holds of the state, or `within` has passed; says whether it holds.
    fn wait(&self, within: Duration, what: impl Fn(&State) -> bool) -> bool {
        let state = self.state();
        let (state, _) = self
            .changed
            .wait_timeout_while(state, within, |state| !what(state))
            .expect("no holder of this lock panics");
        what(&state)
    }
}

impl Program {
    /// Starts `command` with nothing to read; standard output and error are one pipe.
    pub fn start(mut command: Command) -> io::Result<Program> {
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn()?;
        drop(command);
        Program::watch(child, reader, None)
    }

    /// Starts `command` in a session of its own, on a terminal of 24 lines and 80 columns.
    pub fn on_terminal(command: &Command) -> io::Result<Program> {
        let (master, slave) = terminal()?;
        let mut again = Command::new("setsid");
        again.arg("--ctty").arg(command.get_program()).args(command.get_args());
        if let Some(directory) = command.get_current_dir() {
            again.current_dir(directory);
        }
        again.env_clear();
        again.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        again.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
        let child = again.spawn()?;
        drop(again);
        Program::watch(child, PipeReader::from(master.try_clone()?), Some(master))
    }

    fn watch(mut child: Child, mut reader: PipeReader, terminal: Option<OwnedFd>) -> io::Result<Program> {
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        thread::spawn(move || {
            let mut bytes = [0; 16384];
            // A terminal whose other side is closed answers EIO.
            while let Ok(count) = reader.read(&mut bytes) {
                if count == 0 {
                    break;
                }
                let mut state = own.state();
                state.text.extend_from_slice(&bytes[..count]);
                if state.text.len() > KEPT {
                    state.text.drain(..KEPT / 2);
                    state.dropped += KEPT / 2;
                }
                own.changed.notify_all();
            }
            own.state().closed = true;
            own.changed.notify_all();
        });
        let own = shared.clone();
        thread::spawn(move || {
            let status = child.wait().expect("it is our child");
            own.state().status = Some(status);
            own.changed.notify_all();
        });
        Ok(Program { pid, pidfd, shared, seen: 0, terminal })
    }

    /// Its pid.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits until it prints `text` after what was seen before; `false` if it ends without, or takes longer.
    pub fn sees(&mut self, text: &str, within: Duration) -> bool {
        let seen = self.seen;
        let find = |state: &State| {
            let from = seen.saturating_sub(state.dropped);
            let at = memchr::memmem::find(&state.text[from..], text.as_bytes())?;
            Some(state.dropped + from + at + text.len())
        };
        self.shared.wait(within, |state| find(state).is_some() || state.status.is_some());
        if self.ended().is_some() {
            self.shared.wait(LAST_WORDS, |state| find(state).is_some() || state.closed);
        }
        let found = find(&self.shared.state());
        self.seen = found.unwrap_or(self.seen);
        found.is_some()
    }

    /// How it ended, if it ends in this time. Its text is whole then.
    pub fn ends(&self, within: Duration) -> Option<ExitStatus> {
        self.shared.wait(within, |state| state.status.is_some());
        let status = self.ended()?;
        self.shared.wait(LAST_WORDS, |state| state.closed);
        Some(status)
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.shared.state().status
    }

    /// What it has printed, or the latest of it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.state().text).into_owned()
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(&self.pidfd, signal);
    }

    /// What sends it a signal, for another thread.
    pub fn killer(&self) -> impl Fn(Signal) + Send + use<> {
        let pidfd = self.pidfd.try_clone().expect("a descriptor");
        move |signal| {
            let _ = pidfd_send_signal(&pidfd, signal);
        }
    }

    /// Types on its terminal.
    pub fn types(&self, keys: &str) {
        if let Some(terminal) = &self.terminal {
            let _ = rustix::io::write(terminal, keys.as_bytes());
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// `command` from start to end: what it printed, and how it ended if it did within the time.
pub fn run(command: Command, within: Duration) -> io::Result<(Option<ExitStatus>, String)> {
    let program = Program::start(command)?;
    let status = program.ends(within);
    Ok((status, program.text()))
}

/// Looks every 5 ms until `what` holds or `within` has passed; says whether it holds. For what has no event:
/// files, and processes of others.
pub fn looks_until(within: Duration, mut what: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + within;
    loop {
        if what() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// A terminal: the side of the runner, and the one for a program.
fn terminal() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    use rustix::fs::{Mode, OFlags};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
    let size = rustix::termios::Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&master, size)?;
    Ok((master, slave))
}
