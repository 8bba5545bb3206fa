//! Telling the service manager how we are: the client of sd_notify(3), without its library.
//!
//! One datagram of `NAME=value` lines to the socket that `NOTIFY_SOCKET` names. Nothing in here waits: a
//! manager that does not read is no reason to stand still, and a message that could not be sent is the
//! caller's to send again. `vsock:` addresses, which reach the host of a virtual machine, are not known.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};

/// The variable that names the socket. Not for children: the manager believes the main process alone.
pub const VARIABLE: &str = "NOTIFY_SOCKET";

/// The way to the manager.
#[derive(Debug)]
pub struct Notifier {
    socket: OwnedFd,
    address: SocketAddrUnix,
}

impl Notifier {
    /// To the socket called `name`: an absolute path, or `@` and an abstract name (unix(7)).
    ///
    /// # Errors
    /// `EAFNOSUPPORT` for other addresses, `ENAMETOOLONG` for one that no socket can have.
    pub fn new(name: &OsStr) -> Result<Notifier, Errno> {
        let address = match name.as_bytes() {
            [b'/', ..] => SocketAddrUnix::new(name)?,
            [b'@', rest @ ..] if !rest.is_empty() => SocketAddrUnix::new_abstract_name(rest)?,
            _ => return Err(Errno::AFNOSUPPORT),
        };
        // Not connected: each message finds whoever listens there by then.
        let kind = SocketType::DGRAM;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        Ok(Notifier { socket, address })
    }

    /// Sends assignments, one a line.
    ///
    /// # Errors
    /// `EAGAIN` if the manager has not read what it was sent before; `ENOENT` and the like if nobody listens.
    pub fn send(&self, lines: &str) -> Result<(), Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        rustix::net::sendto(&self.socket, lines.as_bytes(), flags, &self.address).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 1000];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_message_reaches_a_socket_in_the_file_system() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.as_os_str()).unwrap();
        notifier.send("READY=1\nSTATUS=all is well").unwrap();
        assert_eq!(received(&manager), "READY=1\nSTATUS=all is well");
        // A manager that was replaced is found again.
        drop(manager);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(notifier.send("STATUS=lost"), Err(Errno::NOENT));
        let manager = UnixDatagram::bind(&path).unwrap();
        notifier.send("STOPPING=1").unwrap();
        assert_eq!(received(&manager), "STOPPING=1");
    }

    #[test]
    fn a_message_reaches_an_abstract_socket() {
        let name = format!("lpm-notify-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Notifier::new(OsStr::new(&format!("@{name}"))).unwrap().send("READY=1").unwrap();
        assert_eq!(received(&manager), "READY=1");
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(path.as_os_str()).unwrap();
        let refused = (0..100_000).find_map(|_| notifier.send("STATUS=again").err());
        assert_eq!(refused, Some(Errno::AGAIN));
    }

    #[test]
    fn other_addresses_are_refused() {
        for name in ["", "@", "vsock:2:1234", "relative"] {
            assert_eq!(Notifier::new(OsStr::new(name)).err(), Some(Errno::AFNOSUPPORT), "{name}");
        }
        let long = format!("/{}", "x".repeat(200));
        assert_eq!(Notifier::new(OsStr::new(&long)).err(), Some(Errno::NAMETOOLONG));
    }
}
