//! A descriptor that takes lines, and its troubles.
//!
//! ```text
//!            EPIPE                          any other error                  a write succeeds
//!   Fine ────────────▶ Gone        Fine ──────────────────▶ Failing ──────────────────────────▶ Fine
//!               for ever           lines are counted                 the gap is written first
//! ```

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Where lines are written.
pub(super) struct Outlet {
    fd: OwnedFd,
    state: State,
    /// What was written last ends in mid-line.
    mid_line: bool,
}

enum State {
    Fine,
    Gone,
    Failing { errno: Errno, lines: u64 },
}

/// What has changed about an outlet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nobody reads it any more, and nobody ever will.
    Gone,
    /// It refuses what is written. Lines are counted from now on.
    Refuses(Errno),
    /// It takes lines again; so many are missing.
    Recovered(u64),
}

impl Outlet {
    pub(super) fn new(fd: OwnedFd) -> Outlet {
        Outlet { fd, state: State::Fine, mid_line: false }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) fn is_gone(&self) -> bool {
        matches!(self.state, State::Gone)
    }

    pub(super) fn give_up(&mut self) {
        self.state = State::Gone;
    }

    /// So many lines are missing before the first one.
    pub(super) fn owes(&mut self, lines: u64) {
        if lines > 0 {
            self.state = State::Failing { errno: Errno::NOENT, lines };
        }
    }

    /// Goes on with another descriptor, which begins with a line.
    pub(super) fn replace(&mut self, fd: OwnedFd) {
        self.fd = fd;
        self.mid_line = false;
    }

    /// Another descriptor that goes on where this one stopped.
    #[cfg(test)]
    pub(super) fn swap(&mut self, fd: OwnedFd) {
        self.fd = fd;
    }

    /// Writes a batch of lines. Returns when it is written, or given up. `gap` words the line that tells of lines
    /// that are missing.
    pub(super) fn write(&mut self, batch: &[u8], gap: impl FnOnce(Errno, u64) -> Vec<u8>) -> Option<Turn> {
        let mut recovered = None;
        let known = match self.state {
            State::Gone => return None,
            State::Fine => 0,
            State::Failing { errno, lines } => {
                let mut told = if self.mid_line { b"\n".to_vec() } else { Vec::new() };
                told.extend_from_slice(&gap(errno, lines));
                if let Err((written, errno)) = write_all(&self.fd, &told) {
                    self.mid_line |= written > 0;
                    return self.refused(errno, batch, lines);
                }
                self.state = State::Fine;
                recovered = Some(Turn::Recovered(lines));
                0
            }
        };
        let result = write_all(&self.fd, batch);
        let written = result.as_ref().map_or_else(|(written, _)| *written, |()| batch.len());
        if let Some(last) = batch[..written].last() {
            self.mid_line = *last != b'\n';
        }
        match result {
            Err((_, errno)) => self.refused(errno, &batch[written..], known),
            Ok(()) => recovered,
        }
    }

    fn refused(&mut self, errno: Errno, unwritten: &[u8], before: u64) -> Option<Turn> {
        if errno == Errno::PIPE {
            self.state = State::Gone;
            return Some(Turn::Gone);
        }
        let first = matches!(self.state, State::Fine);
        let lines = before + memchr::memchr_iter(b'\n', unwritten).count() as u64;
        self.state = State::Failing { errno, lines };
        first.then_some(Turn::Refuses(errno))
    }
}

/// `No space left on device`, without the number that std adds.
pub(super) fn reason(errno: Errno) -> String {
    let text = std::io::Error::from(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Writes everything, however long it takes. An error comes with how much was written before it.
fn write_all(fd: &OwnedFd, bytes: &[u8]) -> Result<(), (usize, Errno)> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(fd, &bytes[written..]) {
            // Not for a pipe, terminal or file; as an error it ends.
            Ok(0) => return Err((written, Errno::IO)),
            Ok(n) => written += n,
            Err(Errno::INTR) => {}
            // Somebody who shares the file made it non-blocking. An error in waiting shows in the next write.
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::new(fd, PollFlags::OUT)], None).ok();
            }
            Err(errno) => return Err((written, errno)),
        }
    }
    Ok(())
}
