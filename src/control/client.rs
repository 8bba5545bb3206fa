//! The client's side, as the CLI uses it: one connection, one call at a time, and it waits.
//!
//! An lpm that works may take its time. One that was stopped (Ctrl-Z) answers nobody, its server being one of its
//! threads: that is looked for before a call and while its first reply is waited for.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::interface::{INTERFACE, Refusal};
use super::wire;

/// After so long without a reply it is looked whether there can be one, and again each time.
const SILENCE: Duration = Duration::from_secs(1);

/// A connection to a running stack.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    bytes: Vec<u8>,
    /// lpm's own process, if that is known.
    owner: Option<u32>,
    /// Each reply is waited for no longer than this.
    patience: Option<Duration>,
}

/// Why there is no reply.
#[derive(Debug)]
pub enum Trouble {
    /// The stack refused.
    Refused(Refusal),
    /// The connection ended: the stack did.
    Ended,
    /// lpm itself stands still.
    Stopped {
        /// Its process.
        pid: u32,
        /// The call is on its way, and will be heard when it goes on.
        asked: bool,
    },
    /// Something else, in words.
    Other(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                Trouble::Ended
            }
            _ => Trouble::Other(crate::error::words(error)),
        }
    }
}

#[derive(Serialize)]
struct Call<'a, P> {
    method: String,
    parameters: &'a P,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    more: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    upgrade: bool,
}

impl Client {
    /// Connects to the socket at `path`, on which the same user must listen, or root. Nothing is sent to another one:
    /// what is typed into an attached instance may be a password.
    ///
    /// # Errors
    /// What the kernel says; `ENOENT` and `ECONNREFUSED` mean that nothing listens there, [`io::ErrorKind::Other`] that
    /// another user does, and which.
    pub fn connect(path: &Path) -> io::Result<Client> {
        let stream = UnixStream::connect(path)?;
        // The credentials of the process that called listen(2), at that time (unix(7), SO_PEERCRED).
        let server = socket_peercred(&stream)?.uid.as_raw();
        let own = rustix::process::geteuid().as_raw();
        if !may_serve(own, server, || places_owner(path)) {
            let text = format!("user {server} listens there, and not you or root; nothing was sent");
            return Err(io::Error::other(text));
        }
        Ok(Client { stream, bytes: Vec::new(), owner: None, patience: None })
    }

    /// Tells whose socket it is: the process of lpm.
    #[must_use]
    pub fn served_by(self, owner: Option<u32>) -> Client {
        Client { owner, ..self }
    }

    /// Waits for each reply no longer than this.
    pub fn patience(&mut self, most: Duration) {
        self.patience = Some(most);
    }

    /// Calls a method of the stack, and waits for its reply.
    ///
    /// # Errors
    /// What the stack refuses, and what became of the connection.
    pub fn call<R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<R, Trouble> {
        self.send(method, parameters, false, false)?;
        self.reply(true).map(|(reply, _)| reply)
    }

    /// Calls a method with many replies and hands each on, until `take` says that it is enough or the last one came.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn stream<R: DeserializeOwned>(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
        mut take: impl FnMut(R) -> bool,
    ) -> Result<(), Trouble> {
        self.send(method, parameters, true, false)?;
        let mut first = true;
        loop {
            let (reply, continues) = self.reply(first)?;
            first = false;
            if !take(reply) || !continues {
                return Ok(());
            }
        }
    }

    /// Calls a method after whose reply the connection carries something else; what came of that already stands
    /// beside it.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub fn upgrade<R: DeserializeOwned>(
        mut self,
        method: &str,
        parameters: &impl Serialize,
    ) -> Result<(R, UnixStream, Vec<u8>), Trouble> {
        self.send(method, parameters, false, true)?;
        let (reply, _) = self.reply(true)?;
        Ok((reply, self.stream, self.bytes))
    }

    /// lpm's own process, if that is known.
    pub fn owner(&self) -> Option<u32> {
        self.owner
    }

    /// Waits until the other side hangs up: after the last reply, that is when lpm itself ends.
    ///
    /// # Errors
    /// It was stopped before it could.
    pub fn wait_for_the_end(&mut self) -> Result<(), Trouble> {
        let mut chunk = [0; 256];
        loop {
            self.wait(true)?;
            if !matches!(self.stream.read(&mut chunk), Ok(length) if length > 0) {
                return Ok(());
            }
        }
    }

    fn send(
        &mut self,
        method: &str,
        parameters: &impl Serialize,
        more: bool,
        upgrade: bool,
    ) -> Result<(), Trouble> {
        self.look(false)?;
        let mut out = Vec::new();
        wire::put(&mut out, &Call { method: format!("{INTERFACE}.{method}"), parameters, more, upgrade });
        Ok(self.stream.write_all(&out)?)
    }

    /// Whether lpm can answer at all.
    fn look(&self, asked: bool) -> Result<(), Trouble> {
        match self.owner.filter(|&pid| is_stopped(pid)) {
            Some(pid) => Err(Trouble::Stopped { pid, asked }),
            None => Ok(()),
        }
    }

    /// The next reply, and whether more follow. `first`: of those to this call. Whoever follows something has had
    /// that one, and waits as long as it takes.
    fn reply<R: DeserializeOwned>(&mut self, first: bool) -> Result<(R, bool), Trouble> {
        let message = self.message(first)?;
        let other =
            |error: serde_json::Error| Trouble::Other(format!("the reply is not understood: {error}"));
        let value: Value = serde_json::from_slice(&message).map_err(other)?;
        if value.get("error").is_some_and(|error| !error.is_null()) {
            return Err(match serde_json::from_value::<Refusal>(value.clone()) {
                Ok(refusal) => Trouble::Refused(refusal),
                Err(_) => Trouble::Other(format!("refused: {}", value["error"].as_str().unwrap_or("?"))),
            });
        }
        let wire::Reply { parameters, continues } = serde_json::from_value(value).map_err(other)?;
        Ok((serde_json::from_value(parameters).map_err(other)?, continues))
    }

    /// Waits until there is something to read.
    fn wait(&self, first: bool) -> Result<(), Trouble> {
        let silence = if first { Some(SILENCE) } else { None };
        let timeout = self.patience.or(silence).and_then(|most| Timespec::try_from(most).ok());
        loop {
            match poll(&mut [PollFd::new(&self.stream, PollFlags::IN)], timeout.as_ref()) {
                Ok(0) if self.patience.is_some() => return Err(Trouble::Other("no answer".to_owned())),
                Ok(0) => self.look(true)?,
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
    }

    fn message(&mut self, first: bool) -> Result<Vec<u8>, Trouble> {
        let mut searched = 0;
        loop {
            if let Some(at) = memchr::memchr(0, &self.bytes[searched..]) {
                let rest = self.bytes.split_off(searched + at + 1);
                let mut message = std::mem::replace(&mut self.bytes, rest);
                message.pop();
                return Ok(message);
            }
            searched = self.bytes.len();
            self.wait(first)?;
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk)? {
                0 => return Err(Trouble::Ended),
                length => self.bytes.extend_from_slice(&chunk[..length]),
            }
        }
    }
}

/// Whether user `own` may ask what user `server` serves. Root may ask every user's stack, where the name of the socket
/// says whose it is: in a directory in which that user alone makes files.
fn may_serve(own: u32, server: u32, place: impl FnOnce() -> Option<u32>) -> bool {
    server == own || server == 0 || own == 0 && place() == Some(server)
}

/// The user in whose directory the socket at `path` is, if no other user may write there.
fn places_owner(path: &Path) -> Option<u32> {
    let above = match path.parent()? {
        above if above.as_os_str().as_bytes().is_empty() => Path::new("."),
        above => above,
    };
    let data = std::fs::metadata(above).ok()?;
    (data.mode() & 0o022 == 0).then(|| data.uid())
}

/// Whether a process was stopped by a signal (proc_pid_stat(5), `state`). What a debugger does with it is no answer:
/// a process that is traced stands still at every step.
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_is_us_or_root_or_the_one_in_whose_directory_it_is() {
        let nowhere = || None;
        assert!(may_serve(1000, 1000, nowhere) && may_serve(1000, 0, nowhere) && may_serve(0, 0, nowhere));
        assert!(!may_serve(1000, 1001, nowhere) && !may_serve(1000, 1001, || Some(1001)));
        assert!(!may_serve(0, 1001, nowhere) && !may_serve(0, 1001, || Some(1002)));
        assert!(may_serve(0, 1001, || Some(1001)));
    }

    #[test]
    fn a_directory_of_all_is_the_place_of_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(places_owner(Path::new("/tmp/x")), None);
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(places_owner(&folder.path().join("x")), Some(own));
    }
}
