//! `lpm attach`: our terminal, lent to an instance.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::stdio;
use rustix::termios::tcgetwinsize;

use crate::cli::{Attach, Origins};
use crate::client::detach_key::DetachKey;
use crate::client::reach;
use crate::control::frames::{Frame, NoFrame};
use crate::control::interface::{AttachParameters, Attached};
use crate::error::{Error, tell, words};
use crate::launch::controlling_terminal;
use crate::launch::gather::Surroundings;
use crate::linux::signals::{self, Watched};
use crate::linux::terminal::{self, Lent};
use crate::supervisor::Ending;

/// While so much waits for our terminal, bytes, nothing more is taken in for it.
const ENOUGH: usize = 64 * 1024;

/// So much that was typed waits for an instance that doesn't read it, bytes; what is typed then is lost, as in
/// front of any terminal whose queue is full.
const TYPED_AHEAD: usize = 1024 * 1024;

/// Lends our terminal to the instance until the detach key, or its end.
///
/// # Errors
/// There is no such stack or instance; it has no terminal; we have none; the key is none.
pub fn attach(around: &Surroundings, arguments: Attach, origins: &Origins) -> Result<Ending, Error> {
    let Attach { instance: name, target, read_only, detach_key } = arguments;
    let key = DetachKey::parse(&detach_key).ok_or_else(|| {
        let origin = origins.of("detach_key");
        Error::new(format!(
            "{origin}: {detach_key:?} is no key (write ctrl- and a letter or one of [ ] \\ ^ _ @)"
        ))
    })?;
    let no_terminal = || {
        Error::new(format!(
            "attach needs a terminal for standard input and output (lpm logs -f {name} needs none)"
        ))
    };
    if ![stdio::stdin(), stdio::stdout()].iter().all(rustix::termios::isatty) {
        return Err(no_terminal());
    }
    let tty = controlling_terminal().ok_or_else(no_terminal)?;
    let client = reach::reach(around, &target, origins)?;
    let window = tcgetwinsize(&tty).ok().map(|size| (size.ws_row, size.ws_col)).filter(|size| size.0 > 0);
    let parameters = AttachParameters {
        name: name.clone(),
        rows: window.map(|(rows, _)| rows),
        columns: window.map(|(_, columns)| columns),
        read_only: Some(read_only),
    };
    let (Attached { instance, .. }, stream, early) =
        client.upgrade("Attach", &parameters).map_err(reach::told)?;

    // Stopped by SIGTSTP it would leave a raw terminal to the shell; Ctrl-Z is the instance's here.
    let ours = [libc::SIGWINCH, libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP];
    let failed = |errno: Errno| Error::new(format!("cannot attach: {}", words(errno)));
    let signals = signals::watch(&ours).map_err(failed)?;
    let lent = Lent::lend(tty).map_err(|failure| Error::new(format!("cannot attach: {failure}")))?;
    let watching = if read_only { ", which you watch" } else { "" };
    let hint = Some(format!(" {instance}{watching}: {} leaves it running ", detach_key.to_lowercase()));
    // Nothing is waited for but in poll(2): neither a terminal that takes no more, nor an instance that doesn't
    // read what was typed, keeps anybody from leaving.
    stream.set_nonblocking(true).map_err(|error| Error::new(format!("cannot attach: {}", words(error))))?;
    let (shown, typed) = (Vec::new(), Vec::new());
    let mut viewer = Viewer { lent, stream, key, hint, read_only, incoming: early, shown, typed, told: None };
    let left = viewer.view(&signals);
    let told = viewer.told.take();
    // The terminal is given back before anything is said on it.
    drop(viewer);
    match left {
        Left::Detached => {
            tell(format_args!("lpm: detached from {instance}, which goes on"));
            Ok(Ending::Code(0))
        }
        Left::Ended => {
            tell(format_args!("lpm: {}", told.unwrap_or_else(|| "the stack has ended".to_owned())));
            Ok(Ending::Code(0))
        }
        Left::Signalled(signal) => Ok(Ending::Signal(crate::config::Signal(signal))),
    }
}

struct Viewer {
    lent: Lent,
    stream: UnixStream,
    key: DetachKey,
    /// Said once; what is repainted later is not to be covered.
    hint: Option<String>,
    read_only: bool,
    /// What came and is no whole frame yet.
    incoming: Vec<u8>,
    /// What our terminal has not taken yet.
    shown: Vec<u8>,
    /// Frames that the stack has not taken yet.
    typed: Vec<u8>,
    /// What ended it.
    told: Option<String>,
}

/// Why it is over.
enum Left {
    Detached,
    Ended,
    Signalled(i32),
}

impl Viewer {
    fn view(&mut self, signals: &Watched) -> Left {
        self.show(terminal::ENTER);
        let mut ended = self.show_what_came();
        loop {
            // The last words are waited for, as long as nobody leaves.
            if ended && self.shown.is_empty() {
                return Left::Ended;
            }
            let out = |waiting: &[u8]| if waiting.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let more = if self.shown.len() < ENOUGH { PollFlags::IN } else { PollFlags::empty() };
            let of_stream = more | out(&self.typed);
            let mut fds = vec![
                PollFd::new(signals, PollFlags::IN),
                PollFd::new(self.lent.terminal(), PollFlags::IN | out(&self.shown)),
            ];
            // Not looked at, it cannot say again and again that it has hung up.
            if !ended && !of_stream.is_empty() {
                fds.push(PollFd::new(&self.stream, of_stream));
            }
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => return Left::Ended,
            }
            let happened = |at: usize| fds.get(at).map_or(PollFlags::empty(), PollFd::revents);
            let [signal, terminal, stream] = [happened(0), happened(1), happened(2)];
            drop(fds);
            if !signal.is_empty() {
                match signals.next() {
                    Some(libc::SIGWINCH) => self.send_size(),
                    Some(libc::SIGTSTP) => {}
                    Some(signal) => return Left::Signalled(signal),
                    None => {}
                }
            }
            if terminal.intersects(PollFlags::OUT) {
                self.write_on();
            }
            if terminal.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
                && let Some(left) = self.take_keys()
            {
                return left;
            }
            if stream.intersects(PollFlags::OUT) {
                self.send_on();
            }
            if stream.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                ended |= !self.receive() || self.show_what_came();
            }
        }
    }

    /// Whether there may be more.
    fn receive(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(length) => {
                self.incoming.extend_from_slice(&chunk[..length]);
                true
            }
            Err(error) => matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock),
        }
    }

    /// Whether that was the end.
    fn show_what_came(&mut self) -> bool {
        loop {
            match Frame::take(&mut self.incoming) {
                Ok(Some(Frame::Bytes(bytes))) => self.show(&bytes),
                Ok(Some(Frame::Screen(picture))) => {
                    self.show(terminal::CLEAR);
                    self.show(&picture);
                    if let Some(hint) = self.hint.take() {
                        self.note(&hint);
                    }
                }
                Ok(Some(Frame::Told(text))) => self.note(&format!(" {text} ")),
                Ok(Some(Frame::Ended(text))) => {
                    self.told = Some(text);
                    return true;
                }
                Ok(Some(Frame::Size(..))) | Err(NoFrame) => return true,
                Ok(None) => return false,
            }
        }
    }

    /// Says something on the last line, and leaves the cursor where it was.
    fn note(&mut self, text: &str) {
        let (rows, columns) = match tcgetwinsize(self.lent.terminal()) {
            Ok(size) if size.ws_row > 0 => (size.ws_row, usize::from(size.ws_col)),
            _ => (24, 80),
        };
        let text: String = text.chars().filter(|c| !c.is_control()).take(columns).collect();
        self.show(format!("\x1b7\x1b[{rows};1H\x1b[0;7m{text}\x1b[0m\x1b8").as_bytes());
    }

    fn show(&mut self, bytes: &[u8]) {
        self.shown.extend_from_slice(bytes);
        self.write_on();
    }

    /// Shows as much as the terminal takes now.
    fn write_on(&mut self) {
        while !self.shown.is_empty() {
            match rustix::io::write(self.lent.terminal(), &self.shown) {
                Ok(length) => drop(self.shown.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // It is gone; SIGHUP tells.
                Err(_) => self.shown.clear(),
            }
        }
    }

    /// What was typed goes to the instance, up to the detach key.
    fn take_keys(&mut self) -> Option<Left> {
        let mut keys = [0; 4096];
        let keys = match rustix::io::read(self.lent.terminal(), &mut keys) {
            Ok(0) => return Some(Left::Signalled(libc::SIGHUP)),
            Ok(length) => &keys[..length],
            Err(Errno::INTR | Errno::AGAIN) => return None,
            Err(_) => return Some(Left::Signalled(libc::SIGHUP)),
        };
        let (before, detached) = self.key.before(keys);
        if !before.is_empty() && !self.read_only && self.typed.len() < TYPED_AHEAD {
            self.send(&Frame::Bytes(before));
        }
        detached.then_some(Left::Detached)
    }

    fn send_size(&mut self) {
        if let (Ok(size), false) = (tcgetwinsize(self.lent.terminal()), self.read_only) {
            self.send(&Frame::Size(size.ws_row, size.ws_col));
        }
    }

    fn send(&mut self, frame: &Frame) {
        frame.put(&mut self.typed);
        self.send_on();
    }

    /// Sends as much as the stack takes now.
    fn send_on(&mut self) {
        while !self.typed.is_empty() {
            match self.stream.write(&self.typed) {
                Ok(length) => drop(self.typed.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The end of the connection is read next.
                Err(_) => self.typed.clear(),
            }
        }
    }
}
