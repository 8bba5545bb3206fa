//! Files that lpm writes in place of what was there: `lpm.toml`, a report, a summary, a manual page.
//!
//! The new text is written beside the old file, with its owner, mode, access control list and attributes, synced, and
//! renamed over it: whatever happens in between, on a full disk too, there is a whole file. What cannot keep its owner
//! is refused. Where a file cannot be renamed over (a mount point; a directory that may not be written to), or could not
//! keep an attribute, it is overwritten, after room was made for all of it. Other names of the file (hard links) keep
//! the old text.
//!
//! A symbolic link stays, and what it leads to is replaced, as an editor does; but only a link that we or root made, or
//! the owner of what it leads to: another user's link must not choose which of our files is lost. What is no regular
//! file (a device, a pipe, `/dev/stdout`) is written to.
//!
//! One that reads a file to amend it holds [`Target::lock`] meanwhile.

use std::ffi::OsString;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::event::{Timespec, poll};
use rustix::fs::{self, AtFlags, FallocateFlags, FileType, FlockOperation, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::attributes;
use crate::error::words;

/// The most symbolic links one after the other (path_resolution(7)).
const MOST_LINKS: u32 = 40;

/// How often a directory that another process has locked is tried again, [`PAUSE`] apart: ten seconds. Any user who may
/// read the directory can lock it.
const TRIES: u32 = 500;
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The most bytes of the old name in the name of the new file, so that it is a valid one (NAME_MAX is 255).
const NAME_PART: usize = 200;

/// A file that is to be replaced, or made.
#[derive(Debug)]
pub struct Target {
    /// Where it is, all links followed but those to directories.
    directory: OwnedFd,
    name: OsString,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Nothing is there.
    New,
    Regular,
    /// Opened, to be written to as it is.
    Special(OwnedFd),
}

/// Held while a file is read, amended and replaced.
#[derive(Debug)]
#[must_use = "the lock is given back as soon as this is dropped"]
pub struct Lock(OwnedFd);

impl Drop for Lock {
    fn drop(&mut self) {
        // The descriptor is a duplicate: closing it alone would not do.
        let _ = fs::flock(&self.0, FlockOperation::Unlock);
    }
}

impl Target {
    /// The file at `path`. What is no regular file is opened for writing here; a pipe waits for its reader.
    ///
    /// # Errors
    /// Why it cannot be written, in words.
    pub fn at(path: &Path) -> Result<Target, String> {
        let mut path = path.to_owned();
        let mut link: Option<u32> = None;
        for _ in 0..MOST_LINKS {
            let (directory, name) = parent(&path)?;
            let found = match fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => found,
                Err(Errno::NOENT) => {
                    may_follow(link, None)?;
                    return Ok(Target { directory, name, kind: Kind::New });
                }
                Err(errno) => return Err(words(errno)),
            };
            match FileType::from_raw_mode(found.st_mode) {
                // What /proc has of descriptors only looks like links.
                FileType::Symlink if is_proc(&directory) => return Target::special(directory, name),
                FileType::Symlink => {
                    // The first stranger counts.
                    link = link.filter(|uid| !is_trusted(*uid)).or(Some(found.st_uid));
                    let to = fs::readlinkat(&directory, &name, Vec::new()).map_err(words)?;
                    path.pop();
                    path.push(OsString::from_vec(to.into_bytes()));
                }
                FileType::RegularFile => {
                    may_follow(link, Some(found.st_uid))?;
                    return Ok(Target { directory, name, kind: Kind::Regular });
                }
                FileType::Directory => return Err(words(Errno::ISDIR)),
                _ => {
                    may_follow(link, Some(found.st_uid))?;
                    return Target::special(directory, name);
                }
            }
        }
        Err(words(Errno::LOOP))
    }

    fn special(directory: OwnedFd, name: OsString) -> Result<Target, String> {
        // A file behind /dev/stdout goes on where it ends.
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = fs::openat(&directory, &name, flags, Mode::empty()).map_err(words)?;
        Ok(Target { directory, name, kind: Kind::Special(file) })
    }

    /// Whether it is, or will be, a regular file.
    pub fn is_regular(&self) -> bool {
        !matches!(self.kind, Kind::Special(_))
    }

    /// Whether it could be written now.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn probe(&self) -> Result<(), String> {
        match &self.kind {
            Kind::Special(_) => Ok(()),
            Kind::New | Kind::Regular => match self.beside() {
                Ok((_, beside)) => {
                    let _ = fs::unlinkat(&self.directory, &beside, AtFlags::empty());
                    Ok(())
                }
                Err(failure) if self.may_be_overwritten(&failure) => {
                    self.open(OFlags::WRONLY).map(drop).map_err(words)
                }
                Err(failure) => Err(failure.words()),
            },
        }
    }

    /// Keeps others of lpm from replacing files of this directory meanwhile.
    ///
    /// # Errors
    /// Another program holds it for too long.
    pub fn lock(&self) -> Result<Lock, String> {
        let directory = match fs::openat(&self.directory, ".", DIRECTORY, Mode::empty()) {
            Ok(directory) => directory,
            // No lpm of this user can lock a directory that it may not read.
            Err(Errno::ACCESS) => self.directory.try_clone().map_err(words)?,
            Err(errno) => return Err(words(errno)),
        };
        for _ in 0..TRIES {
            match fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => drop(poll(&mut [], Some(&PAUSE))),
                Err(Errno::INTR) => {}
                // EBADF: only searched; ENOLCK, EOPNOTSUPP: a file system without locks.
                Ok(()) | Err(_) => return Ok(Lock(directory)),
            }
        }
        Err("another program keeps the directory locked".to_owned())
    }

    /// What is in it; nothing, if it is not there.
    ///
    /// # Errors
    /// What the kernel says; that it is no text.
    pub fn read(&self) -> io::Result<String> {
        let mut text = String::new();
        match self.open(OFlags::RDONLY) {
            Ok(mut file) => file.read_to_string(&mut text).map(|_| text),
            Err(Errno::NOENT) => Ok(text),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes all of it, or leaves what was there as it was.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn write(&self, bytes: &[u8]) -> Result<(), String> {
        if let Kind::Special(fd) = &self.kind {
            let mut file = File::from(fd.try_clone().map_err(words)?);
            return file.write_all(bytes).map_err(words);
        }
        match self.replace(bytes) {
            Err(failure) if self.may_be_overwritten(&failure) => self.overwrite(bytes).map_err(words),
            replaced => replaced.map_err(Failure::words),
        }
    }

    fn replace(&self, bytes: &[u8]) -> Result<(), Failure> {
        let (file, beside) = self.beside()?;
        let written = (|| {
            let mut file = File::from(file);
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::renameat(&self.directory, &beside, &self.directory, &self.name)?;
            Ok(())
        })();
        if written.is_err() {
            let _ = fs::unlinkat(&self.directory, &beside, AtFlags::empty());
        } else if let Ok(directory) = fs::openat(&self.directory, ".", DIRECTORY, Mode::empty()) {
            // So that the name is as durable as the text.
            let _ = fs::fsync(directory);
        }
        written.map_err(|error: io::Error| Failure::from(Errno::from_io_error(&error).unwrap_or(Errno::IO)))
    }

    /// A new file beside it, which is owned and may be used as the old one.
    fn beside(&self) -> Result<(OwnedFd, OsString), Failure> {
        let name = self.name.as_bytes();
        let mut beside = vec![b'.'];
        beside.extend_from_slice(&name[..name.len().min(NAME_PART)]);
        // The standard library's hashers have random keys (getrandom(2)).
        beside.extend_from_slice(format!(".{:016x}", RandomState::new().build_hasher().finish()).as_bytes());
        let beside = OsString::from_vec(beside);
        let path = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let old = match fs::openat(&self.directory, &self.name, path, Mode::empty()) {
            Ok(old) => Some(old),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno.into()),
        };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A new one as the umask has it; a replacement stays private until it has the old file's owner.
        let mode = if old.is_some() { 0o600 } else { 0o666 };
        let file = fs::openat(&self.directory, &beside, flags, Mode::from_raw_mode(mode))?;
        if let Some(old) = old
            && let Err(failure) = like(&file, &old)
        {
            let _ = fs::unlinkat(&self.directory, &beside, AtFlags::empty());
            return Err(failure);
        }
        Ok((file, beside))
    }

    /// Whether that failure means that the file has to be written where it is.
    fn may_be_overwritten(&self, failure: &Failure) -> bool {
        let is_there = matches!(self.kind, Kind::Regular);
        is_there
            && match failure {
                Failure::Owner(..) => false,
                Failure::Attribute(_) => true,
                Failure::Other(errno) => {
                    matches!(*errno, Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::BUSY | Errno::XDEV)
                }
            }
    }

    fn overwrite(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.open(OFlags::WRONLY)?;
        let length = bytes.len() as u64;
        let before = file.metadata()?.len();
        if length > before {
            match fs::fallocate(&file, FallocateFlags::empty(), 0, length) {
                // Not every file system can; there it has to be tried.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(errno) => {
                    let _ = file.set_len(before);
                    return Err(errno.into());
                }
            }
        }
        file.write_all(bytes)?;
        file.set_len(length)?;
        file.sync_all()
    }

    /// A regular file, and no other one.
    fn open(&self, how: OFlags) -> Result<File, Errno> {
        let flags = how | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = fs::openat(&self.directory, &self.name, flags, Mode::empty())?;
        match FileType::from_raw_mode(fs::fstat(&file)?.st_mode) {
            FileType::RegularFile => Ok(file.into()),
            _ => Err(Errno::INVAL),
        }
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The file's directory, opened to look names up in it, and its name there.
fn parent(path: &Path) -> Result<(OwnedFd, OsString), String> {
    let name = path.file_name().ok_or_else(|| words(Errno::ISDIR))?.to_owned();
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    let above: PathBuf = above.unwrap_or(Path::new(".")).to_owned();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    fs::open(above, flags, Mode::empty()).map(|directory| (directory, name)).map_err(words)
}

fn is_proc(directory: &OwnedFd) -> bool {
    // statfs(2); the type's width differs between architectures.
    fs::fstatfs(directory).is_ok_and(|found| u64::try_from(found.f_type) == Ok(PROC_SUPER_MAGIC))
}

const PROC_SUPER_MAGIC: u64 = 0x9fa0;

fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// `link`: whose link led here, if one did; `owner`: of the file that is there.
fn may_follow(link: Option<u32>, owner: Option<u32>) -> Result<(), String> {
    match link {
        Some(uid) if !is_trusted(uid) && owner != Some(uid) => {
            Err(format!("is a symbolic link of user {uid} to a file of another user"))
        }
        _ => Ok(()),
    }
}

/// Why a file was not replaced.
enum Failure {
    /// It would belong to another user.
    Owner(u32, u32),
    /// It would lose an attribute.
    Attribute(attributes::Lost),
    Other(Errno),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Failure {
        Failure::Other(errno)
    }
}

impl Failure {
    fn words(self) -> String {
        match self {
            Failure::Owner(uid, gid) => format!(
                "belongs to user {uid} and group {gid}, which a new file cannot be given \
                 (run lpm as that user, or as root)"
            ),
            Failure::Attribute(attributes::Lost { name: Some(name), errno }) => {
                format!("its attribute {name} cannot be kept: {}", words(errno))
            }
            Failure::Attribute(attributes::Lost { name: None, errno }) => {
                format!("its attributes cannot be read: {}", words(errno))
            }
            Failure::Other(errno) => words(errno),
        }
    }
}

/// Gives `file` the owner, the permissions and the attributes of `old`, which is open as a mere path.
fn like(file: impl AsFd, old: &OwnedFd) -> Result<(), Failure> {
    let there = old;
    let (new, old) = (fs::fstat(&file)?, fs::fstat(old)?);
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid) {
        let owner = (Uid::from_raw(old.st_uid), Gid::from_raw(old.st_gid));
        match fs::fchown(&file, Some(owner.0), Some(owner.1)) {
            Ok(()) => {}
            Err(Errno::PERM) => return Err(Failure::Owner(old.st_uid, old.st_gid)),
            Err(errno) => return Err(errno.into()),
        }
    }
    attributes::give(there, &file).map_err(Failure::Attribute)?;
    // Last, because a list has permissions of its own for the group (acl(5)); with a list these are its mask, in the old
    // file's mode as well. Permissions alone: set-user-ID bits are dropped, because lpm writes texts and no programs.
    Ok(fs::fchmod(&file, Mode::from_raw_mode(old.st_mode & 0o777))?)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that can make no thread has failed")]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    fn write(path: &Path, text: &str) -> Result<(), String> {
        Target::at(path)?.write(text.as_bytes())
    }

    fn names(folder: &tempfile::TempDir) -> usize {
        std::fs::read_dir(folder.path()).unwrap().count()
    }

    #[test]
    fn a_file_is_made_and_replaced_with_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x".repeat(255));
        write(&path, "one").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o600, 0o600);
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o4751)).unwrap();
        let before = std::fs::metadata(&path).unwrap().ino();
        Target::at(&path).unwrap().probe().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        write(&path, "two").unwrap();
        let after = std::fs::metadata(&path).unwrap();
        assert_eq!((after.mode() & 0o7777, after.ino() == before), (0o751, false));
        assert_eq!((Target::at(&path).unwrap().read().unwrap().as_str(), names(&folder)), ("two", 1));
    }

    /// An access control list as the kernel has it (linux/posix_acl_xattr.h): the owner and user 61001 read and write, the group
    /// reads, others nothing.
    const LIST: &[u8] = b"\x02\0\0\0\
        \x01\0\x06\0\xff\xff\xff\xff\x02\0\x06\0\x49\xee\0\0\x04\0\x04\0\xff\xff\xff\xff\
        \x10\0\x06\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";

    fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
        let mut value = [0; 200];
        let length = fs::getxattr(path, name, &mut value).ok()?;
        Some(value[..length].to_vec())
    }

    #[test]
    fn a_file_keeps_its_attributes_and_its_list() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "old").unwrap();
        let set = |name, value: &[u8]| fs::setxattr(&path, name, value, fs::XattrFlags::empty());
        if let Err(errno) = set("user.note", b"kept").and_then(|()| set("system.posix_acl_access", LIST)) {
            return skipped!("a_file_keeps_its_attributes_and_its_list: {errno}");
        }
        let mode = std::fs::metadata(&path).unwrap().mode() & 0o777;
        write(&path, "new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(attribute(&path, "user.note").as_deref(), Some(&b"kept"[..]));
        assert_eq!(attribute(&path, "system.posix_acl_access").as_deref(), Some(LIST));
        assert_eq!((std::fs::metadata(&path).unwrap().mode() & 0o777, mode), (0o660, 0o660));
        assert_eq!(names(&folder), 1);
    }

    #[test]
    fn a_list_of_the_directory_lets_none_in_that_the_old_file_did_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let default = "system.posix_acl_default";
        if let Err(errno) = fs::setxattr(folder.path(), default, LIST, fs::XattrFlags::empty()) {
            return skipped!("a_list_of_the_directory: {errno}");
        }
        write(&path, "new").unwrap();
        assert_eq!(attribute(&path, "system.posix_acl_access"), None);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        // A new file is as the directory wants it.
        let fresh = folder.path().join("fresh");
        write(&fresh, "new").unwrap();
        assert!(attribute(&fresh, "system.posix_acl_access").is_some());
    }

    #[test]
    fn what_could_not_keep_an_attribute_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "old").unwrap();
        // Only root may give such an attribute, and each user may read it.
        let name = "security.note";
        let given = fs::setxattr(&path, name, b"kept", fs::XattrFlags::empty());
        if let Err(errno) = given.and_then(|()| fs::chown(&path, Some(Uid::from_raw(61_001)), None)) {
            return skipped!("what_could_not_keep_an_attribute_is_overwritten: {errno}");
        }
        let before = std::fs::metadata(&path).unwrap().ino();
        let at = path.clone();
        let written = as_another(move || {
            let target = Target::at(&at).unwrap();
            target.probe().and_then(|()| target.write(b"new"))
        });
        assert_eq!(written, Some(Ok(())));
        let after = std::fs::metadata(&path).unwrap().ino();
        assert_eq!((std::fs::read(&path).unwrap(), after, names(&folder)), (b"new".to_vec(), before, 1));
        assert_eq!(attribute(&path, name).as_deref(), Some(&b"kept"[..]));
        write(&path, "newer").unwrap();
        assert_ne!(std::fs::metadata(&path).unwrap().ino(), before, "root may give it");
        assert_eq!(attribute(&path, name).as_deref(), Some(&b"kept"[..]));
    }

    #[test]
    fn links_lead_to_the_file_that_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        std::fs::create_dir(place("sub")).unwrap();
        symlink("sub/second", place("first")).unwrap();
        symlink("../file", place("sub/second")).unwrap();
        // A link that leads nowhere yet leads to a new file.
        write(&place("first"), "new").unwrap();
        write(&place("first"), "newer").unwrap();
        assert_eq!(std::fs::read(place("file")).unwrap(), b"newer");
        assert!(place("first").is_symlink() && place("sub/second").is_symlink());
        symlink("loop", place("loop")).unwrap();
        assert!(write(&place("loop"), "").unwrap_err().starts_with("Too many levels"));
        assert_eq!(write(&place("sub"), "").unwrap_err(), "Is a directory");
        assert_eq!(write(&place("none/x"), "").unwrap_err(), "No such file or directory");
    }

    #[test]
    fn another_users_link_leads_to_that_users_files_alone() {
        assert_eq!(may_follow(None, None), Ok(()));
        assert_eq!(may_follow(Some(0), Some(61_001)), Ok(()));
        assert_eq!(may_follow(Some(61_001), Some(61_001)), Ok(()));
        assert!(may_follow(Some(61_001), Some(0)).is_err());
        assert!(may_follow(Some(61_001), None).is_err());
    }

    /// Runs `work` in a thread with another user number, which is the thread's alone; `None` without root.
    fn as_another<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let thread = std::thread::spawn(move || {
            let uid = Uid::from_raw(61_001);
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            work()
        });
        Some(thread.join().unwrap())
    }

    #[test]
    fn a_file_that_would_lose_its_owner_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "old").unwrap();
        let allow = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        };
        allow(&path, 0o666);
        allow(folder.path(), 0o777);
        let at = path.clone();
        let Some(refused) = as_another(move || (write(&at, "new"), Target::at(&at).unwrap().probe())) else {
            return skipped!("a_file_that_would_lose_its_owner_is_refused: needs root");
        };
        assert!(refused.0.as_ref().unwrap_err().starts_with("belongs to user 0"), "{refused:?}");
        assert_eq!(refused.1, refused.0);
        assert_eq!((std::fs::read(&path).unwrap(), names(&folder)), (b"old".to_vec(), 1));

        // Where no file can be made, it keeps its owner by staying the same file.
        allow(folder.path(), 0o755);
        let at = path.clone();
        let written = as_another(move || {
            let target = Target::at(&at).unwrap();
            target.probe().and_then(|()| target.write(b"new"))
        });
        assert_eq!(written, Some(Ok(())));
        let data = std::fs::metadata(&path).unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), data.uid()), (b"new".to_vec(), 0));
        assert_eq!(
            as_another(move || write(&path.with_extension("x"), "")).unwrap().unwrap_err(),
            "Permission denied"
        );
    }

    #[test]
    fn what_is_no_regular_file_is_written_to() {
        let target = Target::at(Path::new("/dev/null")).unwrap();
        assert!(!target.is_regular());
        target.probe().unwrap();
        target.write(b"x").unwrap();
        assert!(write(Path::new("/dev/full"), "x").unwrap_err().starts_with("No space left"));
        let (read, pipe) = rustix::pipe::pipe().unwrap();
        write(Path::new(&format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pipe))), "text").unwrap();
        let mut bytes = [0; 8];
        assert_eq!(rustix::io::read(&read, &mut bytes), Ok(4));
    }

    #[test]
    fn what_is_overwritten_is_as_long_as_it_is_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "a long old text").unwrap();
        let target = Target::at(&path).unwrap();
        for text in ["short", "a text that is longer than the old one"] {
            target.overwrite(text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert!(
            target.may_be_overwritten(&Errno::BUSY.into())
                && !target.may_be_overwritten(&Errno::NOSPC.into())
        );
    }

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::at(&folder.path().join("file")).unwrap();
        let held = target.lock().unwrap();
        let other = fs::open(folder.path(), DIRECTORY, Mode::empty()).unwrap();
        let is_free = || fs::flock(&other, FlockOperation::NonBlockingLockExclusive).is_ok();
        assert!(!is_free());
        drop(held);
        assert!(is_free());
    }
}
