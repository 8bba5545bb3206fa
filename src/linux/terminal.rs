//! lpm's own terminal, lent to something else for a while: raw, and given back as it was.
//!
//! Given back it is however that ends. Who holds [`Lent`] gives it back when dropped; a signal that ends us is waited
//! for as a descriptor, not died of; and for `kill -9` there is the mender, a small process (`lpm __mend`) in a
//! session of its own, which knows how the terminal was and waits for the other end of a pipe. If that closes without a
//! farewell, it puts the terminal back (terminals can be set from outside of their session, tty_ioctl(4)).
//!
//! The shell hears of that death as soon as the mender does, and sets the terminal for its own next line. So what is
//! no longer as lpm set it is left alone, and so is what was typed ahead. The other screen is left all the same: no
//! shell does that.

use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::termios::{self, OptionalActions, QueueSelector, Termios};

use super::birth::{Birth, Environment, Session};
use super::pidfd::PidFd;
use super::signals;
use super::spawn::{self, Failure};
use super::steps::Stage;

/// How lpm starts itself as the mender.
pub const PROGRAM: [&CStr; 2] = [c"/proc/self/exe", c"__mend"];

/// Whatever a program may have switched on, switched off (xterm's ctlseqs; kitty's keyboard protocol): a sequence or
/// string that has no end; cursor keys, reverse video, origin, mouse, focus, paste, synchronized output and the like;
/// autowrap and the cursor, which are on; insert and keypad modes; other character sets; modified keys; a reshaped
/// cursor, a link, margins, colours. Colours that were defined anew stay, for they may be the user's.
macro_rules! switched_off {
    () => {
        "\x18\x1b\\\x1b[?1;5;6;9;45;66;67;69l\x1b[?1000;1001;1002;1003;1004;1005;1006;1015;1016l\
         \x1b[?2004;2026;2027;2031;2048;9001l\x1b[?7;25h\x1b[2;4;20l\x1b[12h\x1b>\x0f\x1b(B\x1b)B\
         \x1b[>4m\x1b[<99u\x1b[=0u\x1b[0 q\x1b]8;;\x1b\\\x1b[r\x1b[0m"
    };
}

/// Leaves a terminal to its next user: everything off, and the other screen last, which brings back what was on this
/// one, its cursor included.
pub const LEAVE: &[u8] = concat!(switched_off!(), "\x1b[?1049l").as_bytes();

/// The other screen, empty.
pub const ENTER: &[u8] = b"\x1b[?1049h\x1b[H\x1b[2J";

/// Clears what is shown, for a screen that is painted anew: what the program has on is in its picture.
pub const CLEAR: &[u8] = concat!(switched_off!(), "\x1b[H\x1b[2J").as_bytes();

/// How long a terminal that takes nothing is waited for.
const PATIENCE: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A terminal that is raw. Dropped, it is as it was.
#[derive(Debug)]
pub struct Lent {
    terminal: OwnedFd,
    before: Termios,
    pipe: OwnedFd,
    mender: PidFd,
}

impl Lent {
    /// Makes the controlling terminal raw, with a mender at hand. It was opened for this alone: reads and writes do
    /// not wait from now on.
    ///
    /// # Errors
    /// There is none, or what the kernel says to the mender's birth.
    pub fn lend(terminal: OwnedFd) -> Result<Lent, Failure> {
        let failed = |errno| Failure { stage: Stage::Terminal, errno };
        let before = termios::tcgetattr(&terminal).map_err(failed)?;
        // Neither its user nor the mender, who has the same one open, may be held by a terminal that takes no more.
        fcntl_setfl(&terminal, OFlags::NONBLOCK).map_err(failed)?;
        let (reader, pipe) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let (ready, say_ready) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let argv: Vec<CString> = PROGRAM.iter().map(|&word| word.to_owned()).collect();
        let ignored: Vec<i32> =
            vec![libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGPIPE, libc::SIGTTOU];
        let environment = Environment::default();
        let birth = Birth {
            directory: Some(c"/"),
            session: Session::New,
            ignored: &ignored,
            ..Birth::new(&argv, &environment, [reader.as_fd(), say_ready.as_fd(), terminal.as_fd()])
        };
        let child = spawn::spawn(&birth, None)?;
        drop((reader, say_ready));
        // It has looked how the terminal was.
        let _ = rustix::io::read(&ready, &mut [0; 1]);
        let lent = Lent { terminal, before, pipe, mender: PidFd::from(child.pidfd) };
        // Keys that were typed before are for whoever gets the terminal.
        termios::tcsetattr(&lent.terminal, OptionalActions::Now, &raw(&lent.before)).map_err(failed)?;
        Ok(lent)
    }

    /// The terminal.
    pub fn terminal(&self) -> &OwnedFd {
        &self.terminal
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        give_back(&self.terminal, &self.before);
        // It goes without doing anything; EPIPE: it is dead.
        let _ = rustix::io::write(&self.pipe, b"!");
        let _ = self.mender.wait();
    }
}

/// Puts a terminal back, by whoever has it. Nobody can be told what does not work: the terminal is gone.
fn give_back(terminal: &OwnedFd, before: &Termios) {
    let blocked = signals::block_all();
    write_all(terminal, LEAVE);
    // Stopped by force, it may have lost it to the shell.
    if is_ours(terminal, before) {
        // Answers to questions that nobody asks any more are no input; what is to be shown is not waited for
        // (TCSAFLUSH would), for its reader may have stopped.
        let _ = termios::tcflush(terminal, QueueSelector::IFlush);
        let _ = termios::tcsetattr(terminal, OptionalActions::Now, before);
    }
    drop(blocked);
}

/// Puts a terminal back whose borrower is dead: first what the next one may be about to set, and nothing of what was
/// typed for that one is taken away.
fn mend(terminal: &OwnedFd, before: &Termios) {
    let blocked = signals::block_all();
    if is_ours(terminal, before) {
        let _ = termios::tcsetattr(terminal, OptionalActions::Now, before);
    }
    write_all(terminal, LEAVE);
    drop(blocked);
}

/// As a terminal is while it is lent.
fn raw(before: &Termios) -> Termios {
    let mut raw = before.clone();
    raw.make_raw();
    raw
}

/// Whether it is still as it was set when it was lent.
fn is_ours(terminal: &OwnedFd, before: &Termios) -> bool {
    let modes = |one: &Termios| (one.input_modes, one.output_modes, one.local_modes);
    termios::tcgetattr(terminal).is_ok_and(|now| modes(&now) == modes(&raw(before)))
}

/// All of it, as long as the terminal takes some now and then.
fn write_all(terminal: impl AsFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(&terminal, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if !matches!(poll(&mut [PollFd::new(&terminal, PollFlags::OUT)], Some(&PATIENCE)), Ok(1)) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// The mender: waits for its maker's farewell or end. Standard input is the pipe, standard error the terminal.
///
/// Returns the exit code; nobody looks at it.
pub fn run(_arguments: &[OsString]) -> u8 {
    let dup = |fd: rustix::fd::BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let Ok(terminal) = dup(rustix::stdio::stderr()) else { return 1 };
    let Ok(before) = termios::tcgetattr(&terminal) else { return 1 };
    let _ = rustix::io::write(rustix::stdio::stdout(), b"!");
    // The maker waits for the end of this one too, should it die before it has read that byte.
    if let Ok(null) = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::stdio::dup2_stdout(&null);
    }
    let farewell = loop {
        match rustix::io::read(rustix::stdio::stdin(), &mut [0; 1]) {
            Err(Errno::INTR) => {}
            Ok(length) => break length > 0,
            Err(_) => break false,
        }
    };
    if !farewell {
        mend(&terminal, &before);
    }
    0
}

#[cfg(test)]
mod tests {
    use rustix::termios::LocalModes;

    use super::*;
    use crate::linux::pty::{self, Pty, Size};

    /// A terminal with something typed ahead, and how it was before it was made raw.
    fn lent() -> (Pty, Termios) {
        let pty = pty::open(Size { rows: 24, columns: 80 }).unwrap();
        fcntl_setfl(&pty.slave, OFlags::NONBLOCK).unwrap();
        let before = termios::tcgetattr(&pty.slave).unwrap();
        termios::tcsetattr(&pty.slave, OptionalActions::Now, &raw(&before)).unwrap();
        rustix::io::write(&pty.master, b"ls\n").unwrap();
        (pty, before)
    }

    fn shown(terminal: &Termios) -> String {
        format!("{terminal:?}")
    }

    #[test]
    fn what_the_shell_has_set_and_what_was_typed_for_it_stays() {
        let (pty, before) = lent();
        let mut shells = before.clone();
        shells.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        termios::tcsetattr(&pty.slave, OptionalActions::Now, &shells).unwrap();
        mend(&pty.slave, &before);
        assert_eq!(shown(&termios::tcgetattr(&pty.slave).unwrap()), shown(&shells));
        let mut keys = [0; 10];
        assert_eq!(rustix::io::read(&pty.slave, &mut keys), Ok(3));
        let mut left = [0; 1000];
        let length = rustix::io::read(&pty.master, &mut left).unwrap();
        assert!(left[..length].ends_with(b"\x1b[?1049l"), "the other screen is left");
        give_back(&pty.slave, &before);
        assert_eq!(shown(&termios::tcgetattr(&pty.slave).unwrap()), shown(&shells));
    }

    #[test]
    fn what_nobody_else_has_set_is_put_back() {
        let (pty, before) = lent();
        mend(&pty.slave, &before);
        assert_eq!(shown(&termios::tcgetattr(&pty.slave).unwrap()), shown(&before));
        assert_eq!(rustix::io::read(&pty.slave, &mut [0; 10]), Ok(3));
        let (pty, before) = lent();
        give_back(&pty.slave, &before);
        assert_eq!(shown(&termios::tcgetattr(&pty.slave).unwrap()), shown(&before));
        let nothing = rustix::io::read(&pty.slave, &mut [0; 10]);
        assert_eq!(nothing, Err(Errno::AGAIN), "what is typed before is for the instance");
    }
}
