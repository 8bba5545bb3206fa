//! The journal's native protocol: one datagram of fields an entry, a sealed memfd for one that is too large.
//!
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>. Sending blocks while the journal does not read, but no longer than
//! [`PATIENCE`] at a time, so whoever sends must be a thread that may wait.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, sockopt,
};

/// Where systemd-journald listens.
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// Where it listens for streams.
pub const STREAMS: &str = "/run/systemd/journal/stdout";

/// How long one attempt to send may take.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// What a socket's buffer is asked to hold, in bytes; the kernel may give less (`net.core.wmem_max`).
const BUFFER: usize = 8 << 20;

/// The way to the journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    /// None after somebody else has taken the journal's place.
    socket: Option<OwnedFd>,
}

impl Journal {
    /// To the one that listens at `path`.
    ///
    /// # Errors
    /// Nobody does.
    pub fn connect(path: &Path) -> Result<Journal, Errno> {
        let mut journal = Journal { path: path.to_owned(), socket: None };
        journal.reconnect()?;
        Ok(journal)
    }

    /// Sends an entry, laid out by [`put_field`].
    ///
    /// # Errors
    /// `EAGAIN` if the journal did not take it in time, and any other of sendmsg(2) or memfd_create(2). It was not
    /// sent then, and may be sent again.
    pub fn send(&mut self, entry: &[u8]) -> Result<(), Errno> {
        if self.socket.is_none() {
            self.reconnect()?;
        }
        let Some(socket) = &self.socket else { return Err(Errno::NOTCONN) };
        let sent = match rustix::net::send(socket, entry, SendFlags::NOSIGNAL) {
            Err(Errno::MSGSIZE | Errno::NOBUFS) => send_file(socket, entry),
            sent => sent.map(drop),
        };
        if let Err(Errno::CONNREFUSED | Errno::NOTCONN | Errno::CONNRESET | Errno::PIPE) = sent {
            // It was started anew, and listens at a socket of its own.
            self.socket = None;
        }
        sent
    }

    fn reconnect(&mut self) -> Result<(), Errno> {
        let kind = SocketType::DGRAM;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        // What is refused here costs time, not entries.
        let _ = sockopt::set_socket_send_buffer_size(&socket, BUFFER);
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&*self.path)?)?;
        self.socket = Some(socket);
        Ok(())
    }
}

/// A stream that the journal takes as the standard output of whoever has it, each line in the name of `identifier`:
/// the entry's `_PID` and cgroup are the writer's. A leading `<n>` is a line's priority.
///
/// The protocol is sd_journal_stream_fd(3)'s: a header of lines, and then the stream itself. Whoever calls this may
/// have to wait for [`PATIENCE`].
///
/// # Errors
/// Nobody listens at `path`, or nobody did in time (`EAGAIN`).
pub fn stream(path: &Path, identifier: &str) -> Result<OwnedFd, Errno> {
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::shutdown(&socket, rustix::net::Shutdown::Read)?;
    let _ = sockopt::set_socket_send_buffer_size(&socket, BUFFER);
    // Identifier, unit, priority, whether `<n>` is looked for; not to syslog, the kernel's log or the console.
    let header = format!("{identifier}\n\n6\n1\n0\n0\n0\n");
    let mut rest = header.as_bytes();
    while !rest.is_empty() {
        let sent = rustix::net::send(&socket, rest, SendFlags::NOSIGNAL)?;
        rest = &rest[sent..];
    }
    // Whoever writes waits as long as it takes.
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, None)?;
    Ok(socket)
}

/// An entry that no datagram holds, in a file that nobody can change any more.
fn send_file(socket: impl AsFd, entry: &[u8]) -> Result<(), Errno> {
    let file = memfd_create("lpm-journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = entry;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = &rest[written..];
    }
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    let files = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&files));
    rustix::net::sendmsg(socket, &[IoSlice::new(&[])], &mut ancillary, SendFlags::NOSIGNAL).map(drop)
}

/// Adds a field to an entry. `name`: upper-case letters, digits and `_`, the first a letter.
pub fn put_field(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    entry.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend_from_slice(value);
    entry.push(b'\n');
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixDatagram;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

    use super::*;

    fn pair() -> (tempfile::TempDir, UnixDatagram, Journal) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let listener = UnixDatagram::bind(&path).expect("a fresh directory");
        let journal = Journal::connect(&path).expect("somebody listens");
        (directory, listener, journal)
    }

    fn received(listener: &UnixDatagram) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 20];
        let length = listener.recv(&mut bytes).expect("something was sent");
        bytes.truncate(length);
        bytes
    }

    #[test]
    fn an_entry_is_a_datagram_of_fields() {
        let (_directory, listener, mut journal) = pair();
        let mut entry = Vec::new();
        put_field(&mut entry, "MESSAGE", b"one\ntwo");
        put_field(&mut entry, "PRIORITY", b"6");
        journal.send(&entry).expect("there is room");
        assert_eq!(received(&listener), b"MESSAGE\n\x07\0\0\0\0\0\0\0one\ntwo\nPRIORITY=6\n");
    }

    #[test]
    fn a_large_entry_comes_as_a_sealed_file() {
        let (_directory, listener, mut journal) = pair();
        let entry = vec![b'x'; 32 << 20];
        journal.send(&entry).expect("there is memory");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let got = rustix::net::recvmsg(&listener, &mut [], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
        assert_eq!(got.expect("something was sent").bytes, 0);
        let Some(RecvAncillaryMessage::ScmRights(mut files)) = ancillary.drain().next() else {
            panic!("no file")
        };
        let file = files.next().expect("one file");
        let seals = rustix::fs::fcntl_get_seals(&file).expect("a memfd");
        assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL));
        let mut file = std::fs::File::from(file);
        std::io::Seek::rewind(&mut file).expect("a file");
        let mut content = Vec::new();
        file.read_to_end(&mut content).expect("a file");
        assert_eq!(content, entry);
    }

    #[test]
    fn one_that_was_started_anew_is_found() {
        let (directory, listener, mut journal) = pair();
        let path = directory.path().join("socket");
        drop(listener);
        assert_eq!(journal.send(b"A=1\n"), Err(Errno::CONNREFUSED));
        assert_eq!(journal.send(b"A=1\n"), Err(Errno::CONNREFUSED));
        std::fs::remove_file(&path).expect("it is there");
        assert_eq!(journal.send(b"A=1\n"), Err(Errno::NOENT));
        let listener = UnixDatagram::bind(&path).expect("its place is free");
        journal.send(b"A=2\n").expect("somebody listens");
        assert_eq!(received(&listener), b"A=2\n");
    }

    #[test]
    fn one_that_does_not_read_holds_nobody_for_long() {
        let (_directory, _listener, mut journal) = pair();
        let entry = [b'x'; 1000];
        // Other tests have children, whose ends interrupt.
        let sent = std::iter::repeat_with(|| journal.send(&entry));
        let refused = sent.filter_map(Result::err).find(|errno| *errno != Errno::INTR);
        assert_eq!(refused, Some(Errno::AGAIN));
    }
}
