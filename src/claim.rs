//! Who runs which stack: one locked record per stack in a private runtime directory.
//!
//! The lock tells a live owner from a dead one; the record says who that is and which cgroup it used, so
//! that the next start can clean up after one that could not (both lpm and its guardian killed). A record
//! is a hint and never proof: what it names is only touched after it was looked at again.
//!
//! The directory belongs to us alone (0700) and is never reached through a symbolic link.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{Timespec, poll};
use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// What makes two starts the same stack. The name shown to people is only a label, so two checkouts called
/// `app` don't meet.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// Absolute.
    pub root: &'a Path,
    /// Absolute; `-` for standard input.
    pub procfile: &'a Path,
    /// `--name`, or the root directory's name.
    pub name: &'a str,
}

impl Identity<'_> {
    /// What root and Procfile are, whatever the stack is called: a hash in hexadecimal.
    pub fn place(&self) -> String {
        let mut hash = Fnv::new();
        for part in [self.root.as_os_str(), self.procfile.as_os_str()] {
            hash.write(part.as_bytes());
            hash.write(&[0]);
        }
        format!("{:016x}", hash.0)
    }

    /// The name of everything that belongs to this stack: the label as far as it is fit for a file name, and
    /// a hash that tells it from others with the same label.
    pub fn slug(&self) -> String {
        let fit = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
        let label: String = self.name.chars().map(fit).take(40).collect();
        let mut hash = Fnv::new();
        for part in [self.root.as_os_str(), self.procfile.as_os_str(), OsStr::new(self.name)] {
            hash.write(part.as_bytes());
            hash.write(&[0]);
        }
        format!("{label}-{:08x}", (hash.0 >> 32) as u32 ^ hash.0 as u32)
    }
}

/// FNV-1a, 64 bits: the same in every build of lpm, which the standard library's hasher does not promise.
struct Fnv(u64);

impl Fnv {
    fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// What the owner of a stack leaves for others to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The stack's label.
    #[serde(default)]
    pub name: String,
    /// Where its processes run, for people.
    #[serde(default)]
    pub root: String,
    /// [`Identity::place`], by which it is found.
    #[serde(default)]
    pub place: String,
    /// Where it can be asked, if it can.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// The owner.
    pub pid: u32,
    /// Since when it runs, seconds since the epoch.
    pub since: u64,
    /// `/proc/sys/kernel/random/boot_id`: cgroups of another boot are gone.
    pub boot: String,
    /// The cgroup that everything of this run is under, if there is one.
    pub cgroup: Option<PathBuf>,
    /// That cgroup was made by lpm itself; otherwise only what is in it was.
    pub own: bool,
}

impl Record {
    fn is_alive(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
    }
}

/// How often a lock whose holder is not the owner is tried again, 20 ms apart.
const LOOKS: u32 = 150;

/// What was found when a stack was claimed.
#[derive(Debug)]
pub enum Found {
    /// Nobody ran it, or whoever did cleaned up.
    Free(Claim),
    /// Whoever ran it died without cleaning up.
    Abandoned(Claim, Record),
    /// It is running.
    Held(Option<Record>),
}

/// The right to run a stack; given back when dropped, its file with it.
#[derive(Debug)]
pub struct Claim {
    directory: OwnedFd,
    file: OwnedFd,
    name: String,
}

impl Claim {
    /// Takes the lock of the stack called `slug` in `directory`, or says who holds it.
    ///
    /// # Errors
    /// What the kernel says about the file; `ELOOP` if somebody put a symbolic link there.
    pub fn take(directory: OwnedFd, slug: &str) -> io::Result<Found> {
        let name = format!("{slug}.json");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut looks = LOOKS;
        loop {
            let file = fs::openat(&directory, &name, flags, Mode::RUSR | Mode::WUSR)?;
            match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let owner = read_record(&file);
                    // Somebody else may just be looking whether the owner is dead, or be cleaning up after him.
                    if owner.as_ref().is_some_and(Record::is_alive) || looks == 0 {
                        return Ok(Found::Held(owner));
                    }
                    looks -= 1;
                    let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 }));
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            // The previous owner may have removed the file between our open and our lock.
            let (held, there) = (fs::fstat(&file)?, fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW));
            if !there.is_ok_and(|there| there.st_ino == held.st_ino && there.st_dev == held.st_dev) {
                continue;
            }
            let record = read_record(&file);
            let claim = Claim { directory, file, name };
            return Ok(match record {
                Some(record) => Found::Abandoned(claim, record),
                None => Found::Free(claim),
            });
        }
    }

    /// Writes down who owns the stack now.
    ///
    /// # Errors
    /// What the kernel says, `ENOSPC` for instance.
    pub fn record(&self, record: &Record) -> io::Result<()> {
        // A path that is no UTF-8 cannot be written down.
        let text = serde_json::to_vec(record).map_err(io::Error::other)?;
        fs::ftruncate(&self.file, 0)?;
        let mut at = 0;
        while at < text.len() {
            at += rustix::io::pwrite(&self.file, &text[at..], at as u64)?;
        }
        Ok(())
    }
}

/// What owners of the stack called `slug`, and of one-off commands beside it (`slug-run-PID`), left when they died
/// without cleaning up, each claimed. Other stacks are theirs who start them.
pub fn abandoned(directory: &OwnedFd, slug: &str) -> Vec<(Claim, Record)> {
    let Ok(entries) = fs::Dir::read_from(directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    names
        .filter_map(|name| {
            let name = name.strip_suffix(".json")?;
            let beside = || name.strip_prefix(slug).is_some_and(|rest| rest.starts_with("-run-"));
            if name != slug && !beside() {
                return None;
            }
            let directory = rustix::io::fcntl_dupfd_cloexec(directory, 3).ok()?;
            match Claim::take(directory, name) {
                Ok(Found::Abandoned(claim, record)) => Some((claim, record)),
                Ok(Found::Free(_) | Found::Held(_)) | Err(_) => None,
            }
        })
        .collect()
}

/// Who runs a stack now, by the names people know: every record whose lock is held, the oldest first. Records of
/// one-off commands are left out.
pub fn running(directory: &OwnedFd) -> Vec<Record> {
    let Ok(entries) = fs::Dir::read_from(directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    let held = names.filter(|name| name.ends_with(".json")).filter_map(|name| {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = fs::openat(directory, &name, flags, Mode::empty()).ok()?;
        // Shared, so that two who look don't see each other, and given back at once. A start that comes just then
        // looks again.
        match fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => read_record(&file),
            _ => None,
        }
    });
    let mut records: Vec<Record> =
        held.filter(|record| record.is_alive() && !record.name.is_empty()).collect();
    records.sort_by(|a, b| (a.since, &a.name, a.pid).cmp(&(b.since, &b.name, b.pid)));
    records
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Removed while still locked, so that nobody can lock a file that is about to go.
        let _ = fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
    }
}

fn read_record(file: &OwnedFd) -> Option<Record> {
    let mut text = vec![0; 16 << 10];
    let length = rustix::io::pread(file, &mut text, 0).ok()?;
    serde_json::from_slice(&text[..length]).ok()
}

/// Opens lpm's private runtime directory, making it where it is missing: below `/run` for root and
/// `/run/user/UID` for others, else below `xdg` (`XDG_RUNTIME_DIR`) if that is ours, else a private one in
/// `/tmp`.
///
/// # Errors
/// A sentence that names the directory and what is wrong with it.
pub fn runtime_directory(xdg: Option<&OsStr>) -> Result<(OwnedFd, PathBuf), String> {
    let uid = rustix::process::geteuid();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let ours = |path: &Path| {
        let stat = fs::open(path, flags, Mode::empty()).and_then(fs::fstat);
        stat.is_ok_and(|stat| stat.st_uid == uid.as_raw())
    };
    // One place for a user however he comes (a login, cron, sudo), or two starts would not meet.
    let given =
        PathBuf::from(if uid.is_root() { "/run".to_owned() } else { format!("/run/user/{}", uid.as_raw()) });
    let parents = [Some(given), xdg.map(PathBuf::from)];
    let parent = parents.into_iter().flatten().find(|path| path.is_absolute() && ours(path));
    let path = match parent {
        Some(parent) => parent.join("lpm"),
        None => PathBuf::from(format!("/tmp/lpm-{}", uid.as_raw())),
    };
    open_private(&path).map(|fd| (fd, path))
}

fn open_private(path: &Path) -> Result<OwnedFd, String> {
    let shown = path.display();
    match fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(format!("{shown}: cannot be made: {}", words(error))),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let directory = fs::open(path, flags, Mode::empty())
        .map_err(|error| format!("{shown}: is not a directory of its own: {}", words(error)))?;
    let stat = fs::fstat(&directory).map_err(|error| format!("{shown}: {}", words(error)))?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(format!(
            "{shown}: belongs to uid {}, not to us; remove it or set XDG_RUNTIME_DIR",
            stat.st_uid
        ));
    }
    if stat.st_mode & 0o077 != 0 {
        return Err(format!("{shown}: is open to others; make it private: chmod 700 {shown}"));
    }
    Ok(directory)
}

/// What the kernel said, without its number.
fn words(errno: Errno) -> String {
    let text = io::Error::from(errno).to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(text, _)| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> (tempfile::TempDir, impl Fn() -> OwnedFd) {
        let temp = tempfile::tempdir().expect("a temporary directory");
        let path = temp.path().join("lpm");
        (temp, move || open_private(&path).expect("a private directory"))
    }

    fn record() -> Record {
        Record {
            name: "app".into(),
            root: "/srv/app".into(),
            place: "p".into(),
            socket: None,
            pid: std::process::id(),
            since: 1,
            boot: "b".into(),
            cgroup: Some("/sys/fs/cgroup/x".into()),
            own: true,
        }
    }

    #[test]
    fn a_second_claim_says_who_holds_the_stack() {
        let (_temp, open) = directory();
        let Found::Free(claim) = Claim::take(open(), "app-1").unwrap() else { panic!("not free") };
        claim.record(&record()).unwrap();
        let Found::Held(owner) = Claim::take(open(), "app-1").unwrap() else { panic!("not held") };
        assert_eq!(owner, Some(record()));
    }

    #[test]
    fn who_runs_is_listed_and_who_died_is_not() {
        let (_temp, open) = directory();
        let Found::Free(claim) = Claim::take(open(), "app-1").unwrap() else { panic!("not free") };
        claim.record(&record()).unwrap();
        let Found::Free(dead) = Claim::take(open(), "app-2").unwrap() else { panic!("not free") };
        dead.record(&record()).unwrap();
        fs::flock(&dead.file, FlockOperation::Unlock).unwrap();
        assert_eq!(running(&open()), [record()]);
        drop((claim, dead));
        assert_eq!(running(&open()), []);
    }

    #[test]
    fn a_claim_given_back_leaves_no_file() {
        let (temp, open) = directory();
        drop(Claim::take(open(), "app-1").unwrap());
        assert_eq!(std::fs::read_dir(temp.path().join("lpm")).unwrap().count(), 0);
        assert!(matches!(Claim::take(open(), "app-1").unwrap(), Found::Free(_)));
    }

    #[test]
    fn a_dead_owner_leaves_its_record() {
        let (_temp, open) = directory();
        let Found::Free(claim) = Claim::take(open(), "app-1").unwrap() else { panic!("not free") };
        claim.record(&record()).unwrap();
        // A killed owner runs no destructor; its lock goes with its file descriptor.
        let Claim { directory: _, file, name: _ } = &claim;
        fs::flock(file, FlockOperation::Unlock).unwrap();
        let Found::Abandoned(_, left) = Claim::take(open(), "app-1").unwrap() else {
            panic!("not abandoned")
        };
        assert_eq!(left, record());
        std::mem::forget(claim);
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let (temp, open) = directory();
        drop(open());
        std::os::unix::fs::symlink("/dev/null", temp.path().join("lpm/app-1.json")).unwrap();
        let error = Claim::take(open(), "app-1").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lpm");
        std::fs::create_dir(&path).unwrap();
        fs::chmod(&path, Mode::from_raw_mode(0o755)).unwrap();
        assert!(open_private(&path).unwrap_err().contains("chmod 700"));
    }

    #[test]
    fn two_checkouts_with_one_name_are_two_stacks() {
        let slug = |root: &str| {
            Identity { root: Path::new(root), procfile: Path::new("Procfile"), name: "my app/x" }.slug()
        };
        assert_ne!(slug("/a"), slug("/b"));
        assert_eq!(slug("/a"), slug("/a"));
        assert!(slug("/a").starts_with("my_app_x-"));
    }
}
