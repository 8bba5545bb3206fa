//! What a user sees when lpm itself cannot go on: what, where, what to do; once; and its exit code.

use std::fmt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Why lpm ends without having run the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// One message a line, lower case, without a period.
    messages: Vec<String>,
    code: u8,
}

impl Error {
    /// One message; exit code 1, as for everything that goes wrong before a process ran.
    pub fn new(message: impl Into<String>) -> Error {
        Error { messages: vec![message.into()], code: 1 }
    }

    /// Several messages, for instance every error of a Procfile.
    pub fn several(messages: impl IntoIterator<Item = impl fmt::Display>) -> Error {
        Error { messages: messages.into_iter().map(|message| message.to_string()).collect(), code: 1 }
    }

    /// What is said, one message a line.
    pub fn messages(&self) -> &[String] {
        &self.messages
    }

    /// lpm's exit code (`docs/exit-codes.md`).
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Error {
    /// `lpm: MESSAGE`, a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, message) in self.messages.iter().enumerate() {
            let end = if at + 1 < self.messages.len() { "\n" } else { "" };
            write!(f, "lpm: {message}{end}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// What the kernel said, without its number: `No such file or directory`.
pub fn words(error: impl Into<std::io::Error>) -> String {
    let text = error.into().to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(text, _)| text.to_owned())
}

/// Says a line on standard error, to whoever can be told: a reader that does not read is given a second, and
/// one that left, or a full disk, is no reason for another error.
pub fn tell(line: impl fmt::Display) {
    let text = format!("{line}\n");
    let mut bytes = text.as_bytes();
    let stderr = rustix::stdio::stderr();
    let second = Timespec { tv_sec: 1, tv_nsec: 0 };
    while !bytes.is_empty() {
        match poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&second)) {
            Ok(0) => return,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return,
        }
        // So little never blocks a pipe that can be written to (pipe(7), PIPE_BUF).
        match rustix::io::write(stderr, &bytes[..bytes.len().min(4096)]) {
            Ok(0) => return,
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
