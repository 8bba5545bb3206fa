//! The socket itself: where it is, that it is ours alone, and which end of it is dead.
//!
//! It may be in a directory of another user, who can put something else in its place at any time. So it has its mode
//! from its birth on, its name is never used to change anything once it was bound, and what is removed is looked at
//! and removed through the directory that was opened before.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::Timespec;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, Timestamps, UTIME_NOW, fchmod, statat, unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};

use crate::error::words;

/// The variable that names the socket, for lpm itself and, with `control = true`, for a process.
pub const VARIABLE: &str = "LPM_SOCKET";

/// The longest path of a socket (unix(7), `sun_path` less its NUL).
const LONGEST_PATH: usize = 107;

/// How many clients may wait to be accepted, as the standard library has it.
const BACKLOG: i32 = 128;

/// A socket that is listened on; its file goes when this is dropped.
#[derive(Debug)]
pub struct Listening {
    path: PathBuf,
    place: Place,
    /// The file is ours as long as it is this one.
    inode: (u64, u64),
    listener: OwnedFd,
}

/// A name in a directory that stays the same one, whatever becomes of the path to it.
#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    name: OsString,
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
        let refused = |errno: Errno| format!("{shown}: the control socket cannot be made: {}", words(errno));
        let place = Place::of(path).map_err(refused)?;
        let listener = match bound(path) {
            Err(Errno::ADDRINUSE) => {
                remove_if_dead(path, &place)?;
                bound(path).map_err(refused)?
            }
            listener => listener.map_err(refused)?,
        };
        listen(&listener, BACKLOG).map_err(refused)?;
        // Not the path: it may lead somewhere else by now.
        match place.look() {
            Ok(found) if is_own_socket(&found) => {
                let inode = (found.st_dev, found.st_ino);
                Ok(Listening { path: path.to_owned(), place, inode, listener })
            }
            Ok(_) | Err(Errno::NOENT) => Err(format!(
                "{shown}: another file was put in its place (name one in a directory of your own: --socket PATH)"
            )),
            Err(errno) => Err(refused(errno)),
        }
    }

    /// The listening end, once more.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn listener(&self) -> io::Result<OwnedFd> {
        self.listener.try_clone()
    }

    /// Looks whether the file at the path is this socket, and makes a new one if it is not: a tmp cleaner, for instance, has
    /// removed it. Clients find no other way in. The new listening end is returned.
    ///
    /// # Errors
    /// As [`Listening::at`]: a file of another one is in its place, and stays there.
    pub fn keep_up(&mut self) -> Result<Option<OwnedFd>, String> {
        let shown = self.path.display();
        match statat(CWD, &self.path, AtFlags::SYMLINK_NOFOLLOW) {
            // No other file gets the number while this socket is bound to it.
            Ok(there) if (there.st_dev, there.st_ino) == self.inode => return Ok(None),
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(format!("{shown}: {}", words(errno))),
        }
        let new = Listening::at(&self.path)?;
        let listener = new.listener().map_err(|error| format!("{shown}: {}", words(error)))?;
        *self = new;
        Ok(Some(listener))
    }

    /// Keeps tmp cleaners from the file, if it still is this one.
    pub fn touch(&self) {
        const NOW: Timestamps = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
            last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        };
        let Place { directory, name } = &self.place;
        if self.place.look().is_ok_and(|found| (found.st_dev, found.st_ino) == self.inode) {
            let _ = utimensat(directory, name, &NOW, AtFlags::SYMLINK_NOFOLLOW);
        }
    }

    /// Its device and inode.
    pub fn inode(&self) -> (u64, u64) {
        self.inode
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.place.look().is_ok_and(|found| (found.st_dev, found.st_ino) == self.inode) {
            let _ = self.place.remove();
        }
    }
}

impl Place {
    fn of(path: &Path) -> Result<Place, Errno> {
        let name = path.file_name().ok_or(Errno::ISDIR)?.to_owned();
        let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Place { directory: rustix::fs::open(above, flags, Mode::empty())?, name })
    }

    fn look(&self) -> Result<Stat, Errno> {
        statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn remove(&self) -> Result<(), Errno> {
        unlinkat(&self.directory, &self.name, AtFlags::empty())
    }
}

/// A socket bound to `path`, accessible to this user alone from the first moment: its file has the mode of the socket itself, less the
/// umask (unix(7) does not say so; net/unix/af_unix.c, `unix_bind_bsd`).
fn bound(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn is_socket(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Socket
}

fn is_own_socket(found: &Stat) -> bool {
    is_socket(found) && found.st_uid == rustix::process::geteuid().as_raw() && found.st_mode & 0o177 == 0
}

/// Something is at `path`. A socket on which nothing listens any more is removed.
fn remove_if_dead(path: &Path, place: &Place) -> Result<(), String> {
    let shown = path.display();
    let is_there = |inode: Option<u64>| {
        place.look().is_ok_and(|found| is_socket(&found) && inode.is_none_or(|inode| found.st_ino == inode))
    };
    let inode = place.look().map(|found| found.st_ino).ok();
    if !is_there(inode) {
        return Err(format!("{shown}: is there already and no socket (name another one: --socket PATH)"));
    }
    match is_served(path) {
        // The one that was looked at, and not what took its place.
        Ok(false) if is_there(inode) => place
            .remove()
            .map_err(|errno| format!("{shown}: a dead owner's socket cannot be removed: {}", words(errno))),
        Ok(false) => Err(format!("{shown}: another file took its place (name another one: --socket PATH)")),
        Ok(true) => Err(format!("{shown}: another process listens there (name another one: --socket PATH)")),
        Err(errno) => Err(format!("{shown}: cannot be looked at: {}", words(errno))),
    }
}

/// Whether a process listens at `path`. Does not wait: one that is stopped accepts no connection, and its queue may be
/// full (`EAGAIN`, unix(7)).
///
/// # Errors
/// What the kernel says, `ENOENT` for instance.
pub fn is_served(path: &Path) -> Result<bool, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

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
    fn its_mode_is_that_of_its_birth() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let _socket = bound(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_dead_owners_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let _alive = Listening::at(&path).unwrap();
        assert!(Listening::at(&path).unwrap_err().contains("another process listens there"));
    }

    #[test]
    fn a_listener_that_accepts_nothing_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        assert_eq!(is_served(&path), Err(Errno::NOENT));
        let socket = bound(&path).unwrap();
        assert_eq!(is_served(&path), Ok(false));
        listen(&socket, 0).unwrap();
        let waiting = UnixStream::connect(&path).unwrap();
        // Its queue is full now.
        assert_eq!(is_served(&path), Ok(true));
        drop((waiting, socket));
        assert_eq!(is_served(&path), Ok(false));
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
    fn a_socket_that_was_removed_is_made_again_and_not_over_another_ones_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let mut listening = Listening::at(&path).unwrap();
        assert!(listening.keep_up().unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
        let again = listening.keep_up().unwrap().expect("a new one");
        assert!(UnixStream::connect(&path).is_ok());
        assert!(listening.keep_up().unwrap().is_none());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(listening.keep_up().unwrap_err().contains("no socket"));
        std::fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        assert!(listening.keep_up().unwrap_err().contains("another process listens there"));
        drop((listening, again));
        assert!(path.exists(), "another one's");
        drop(other);
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
