//! The socket itself: where it is, that it is ours alone, and which end of it is dead.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode};
use rustix::io::Errno;

use crate::error::words;

/// The variable that names the socket, for lpm itself and, with `control = true`, for a process.
pub const VARIABLE: &str = "LPM_SOCKET";

/// The longest path of a socket (unix(7), `sun_path` less its NUL).
const LONGEST_PATH: usize = 107;

/// A socket that is listened on; its file goes when this is dropped.
#[derive(Debug)]
pub struct Listening {
    path: PathBuf,
    /// The file is ours as long as it is this one.
    inode: (u64, u64),
    listener: UnixListener,
}

impl Listening {
    /// Listens at `path`, in place of a dead owner's socket if there is one.
    ///
    /// # Errors
    /// A sentence that names the path and what is wrong with it.
    pub fn at(path: &Path) -> Result<Listening, String> {
        let shown = path.display();
        if path.as_os_str().as_bytes().len() > LONGEST_PATH {
            return Err(format!(
                "{shown}: is too long for a socket, whose path may have {LONGEST_PATH} bytes \
                 (name a shorter one: --socket PATH)"
            ));
        }
        let refused =
            |error: io::Error| format!("{shown}: the control socket cannot be made: {}", words(error));
        let listener = match UnixListener::bind(path) {
            Err(error) if error.raw_os_error() == Some(Errno::ADDRINUSE.raw_os_error()) => {
                remove_if_dead(path)?;
                UnixListener::bind(path).map_err(refused)?
            }
            bound => bound.map_err(refused)?,
        };
        let made = (|| {
            // Whoever connected before this is asked who he is all the same.
            rustix::fs::chmodat(CWD, path, Mode::RUSR | Mode::WUSR, rustix::fs::AtFlags::empty())?;
            listener.set_nonblocking(true)?;
            let data = std::fs::symlink_metadata(path)?;
            Ok((data.dev(), data.ino()))
        })();
        match made {
            Ok(inode) => Ok(Listening { path: path.to_owned(), inode, listener }),
            Err(error) => {
                let _ = std::fs::remove_file(path);
                Err(refused(error))
            }
        }
    }

    /// The listening end, once more.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn listener(&self) -> io::Result<OwnedFd> {
        Ok(self.listener.try_clone()?.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let there = std::fs::symlink_metadata(&self.path);
        if there.is_ok_and(|data| (data.dev(), data.ino()) == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Something is at `path`. A socket that nobody listens on any more is removed.
fn remove_if_dead(path: &Path) -> Result<(), String> {
    let shown = path.display();
    if !std::fs::symlink_metadata(path).is_ok_and(|data| data.file_type().is_socket()) {
        return Err(format!("{shown}: is there already and no socket (name another one: --socket PATH)"));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|error| format!("{shown}: a dead owner's socket cannot be removed: {}", words(error))),
        Ok(_) => Err(format!("{shown}: somebody listens there already (name another one: --socket PATH)")),
        Err(error) => Err(format!("{shown}: cannot be looked at: {}", words(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_ours_alone_and_goes_when_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let listening = Listening::at(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(UnixStream::connect(listening.path()).is_ok());
        drop(listening);
        assert!(!path.exists());
    }

    #[test]
    fn a_dead_owners_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _alive = Listening::at(&path).unwrap();
        assert!(Listening::at(&path).unwrap_err().contains("somebody listens there"));
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(Listening::at(&path).unwrap_err().contains("no socket"));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn a_path_that_no_socket_can_have_is_refused() {
        let error = Listening::at(Path::new(&format!("/tmp/{}", "x".repeat(120)))).unwrap_err();
        assert!(error.contains("107 bytes"), "{error}");
    }

    #[test]
    fn a_successors_socket_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let old = Listening::at(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _successor = Listening::at(&path).unwrap();
        drop(old);
        assert!(path.exists());
    }
}
