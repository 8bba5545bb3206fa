//! Who runs which stack: one locked record per stack in a private runtime directory.
//!
//! The lock tells a live owner from a dead one; the guardian has it too. The record says which lpm that is and which
//! cgroups it made, so that the next start can clean up after one that could not (both lpm and its guardian killed). It is
//! written before anything is made, and completed afterwards. A record is a hint and never proof: what it names is
//! only touched after it was opened and its ids were compared.
//!
//! The same holds for the record itself: its file is the one that is held open and locked, and not what has its name.
//! One that was removed while its owner lives (by a tmp cleaner, say) is put back ([`Claim::keep_up`]).
//!
//! The directory belongs to us alone (0700) and is never reached through a symbolic link.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{Timespec, poll};
use rustix::fs::{self, AtFlags, FlockOperation, Mode, OFlags, Timestamps};
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
    /// The run's random id. Records of versions before there was one do not have it.
    #[serde(default)]
    pub run: String,
    /// The ids of the cgroups. While they are being made, that of the root if that was there before.
    #[serde(default)]
    pub ids: Ids,
    /// What earlier runs have left and what could not be removed yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Record>,
}

/// Ids of a run's cgroups: inode numbers, which are given out once in a boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// [`Record::cgroup`] itself.
    #[serde(default)]
    pub root: Option<u64>,
    /// Its `app`.
    #[serde(default)]
    pub app: Option<u64>,
    /// Its `supervisor`.
    #[serde(default)]
    pub supervisor: Option<u64>,
}

/// The most bytes that a record takes. What earlier runs left is dropped for it, the oldest first.
const LONGEST_RECORD: usize = 64 << 10;

/// How often the files are touched: tmp cleaners remove what is older than some days (tmpfiles.d(5): 10 in `/tmp`).
pub const TOUCHED_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

impl Record {
    /// Reads what [`Claim::record`] wrote, its first line; `None` for anything else.
    pub fn parse(text: &[u8]) -> Option<Record> {
        serde_json::from_slice(text.split(|&byte| byte == b'\n').next()?).ok()
    }

    /// Whether the owner lives, or another process with its number; its lock is asked besides.
    pub fn is_alive(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH) && !is_zombie(pid))
    }
}

/// Whether a process is dead and waits for its parent. Where that cannot be told it is not.
fn is_zombie(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).unwrap_or_default();
    // The name before it may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// How often a lock whose holder is not the owner is tried again, 20 ms apart.
const LOOKS: u32 = 150;

/// What was found when a stack was claimed.
#[derive(Debug)]
pub enum Found {
    /// Nobody ran it, or whoever did cleaned up.
    Free(Claim),
    /// Whoever ran it died without cleaning up.
    Abandoned(Claim, Box<Record>),
    /// It is running.
    Held(Option<Record>),
}

/// The right to run a stack; given back when dropped, its file with it, unless something is left that the next start
/// has to find.
#[derive(Debug)]
pub struct Claim {
    directory: OwnedFd,
    /// The directory's path, should it have to be made again.
    path: PathBuf,
    file: OwnedFd,
    name: String,
    /// What was written last.
    record: Option<Record>,
    /// What could not be removed of earlier runs.
    left: Vec<Record>,
    /// The record stays when this is dropped: something of this run is left.
    stays: bool,
}

/// What [`Claim::keep_up`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// The record is there.
    There,
    /// It was removed, and is there again.
    PutBack,
    /// Another lpm holds a record of that name by now.
    Taken,
}

impl Claim {
    /// Takes the lock of the stack called `slug` in `directory`, whose path is for putting it back, or says who holds
    /// it.
    ///
    /// # Errors
    /// What the kernel says about the file; `ELOOP` if somebody put a symbolic link there.
    pub fn take(directory: OwnedFd, path: &Path, slug: &str) -> io::Result<Found> {
        Claim::try_to_take(directory, path, slug, LOOKS)
    }

    /// The same, without waiting for a guardian that is at work there.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_if_free(directory: OwnedFd, path: &Path, slug: &str) -> io::Result<Found> {
        Claim::try_to_take(directory, path, slug, 0)
    }

    fn try_to_take(directory: OwnedFd, path: &Path, slug: &str, mut looks: u32) -> io::Result<Found> {
        let name = format!("{slug}.json");
        loop {
            let file = fs::openat(&directory, &name, RECORD.union(OFlags::CREATE), Mode::RUSR | Mode::WUSR)?;
            match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let owner = read_record(&file);
                    // Another lpm may be looking whether the owner is dead, or be cleaning up after it, as its guardian
                    // does.
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
            if !is_called(&file, &directory, &name) {
                continue;
            }
            let record = read_record(&file);
            let path = path.to_owned();
            let claim = Claim { directory, path, file, name, record: None, left: Vec::new(), stays: false };
            return Ok(match record {
                Some(record) => Found::Abandoned(claim, Box::new(record)),
                None => Found::Free(claim),
            });
        }
    }

    /// Writes down who owns the stack now.
    ///
    /// # Errors
    /// What the kernel says, `ENOSPC` for instance.
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        self.record = Some(Record { left: self.left.clone(), ..record.clone() });
        self.write()
    }

    fn write(&self) -> io::Result<()> {
        let Some(mut record) = self.record.clone() else { return Ok(()) };
        let mut text = loop {
            // A path that is no UTF-8 cannot be written down.
            let text = serde_json::to_vec(&record).map_err(io::Error::other)?;
            if text.len() < LONGEST_RECORD || record.left.is_empty() {
                break text;
            }
            record.left.remove(0);
        };
        // What is read ends with the line, so that at no moment there is half a record.
        text.push(b'\n');
        let mut at = 0;
        while at < text.len() {
            at += rustix::io::pwrite(&self.file, &text[at..], at as u64)?;
        }
        Ok(fs::ftruncate(&self.file, text.len() as u64)?)
    }

    /// Remembers what could not be removed of an earlier run, for the next start.
    pub fn leave(&mut self, mut record: Record) {
        record.left.clear();
        self.left.push(record);
    }

    /// Keeps the record when the claim is dropped: something that it names is left.
    pub fn stay(&mut self) {
        self.stays = true;
    }

    /// Keeps tmp cleaners from the record, if it is there, and from its directory.
    pub fn touch(&self) {
        if is_called(&self.file, &self.directory, &self.name) {
            let _ = fs::futimens(&self.directory, &NOW);
            let _ = fs::futimens(&self.file, &NOW);
        }
    }

    /// Looks whether the record is there, and puts it back if it is not.
    ///
    /// # Errors
    /// What the kernel says, or why the directory cannot be made again.
    pub fn keep_up(&mut self) -> io::Result<Upkeep> {
        if is_called(&self.file, &self.directory, &self.name) {
            return Ok(Upkeep::There);
        }
        // The last entry of a directory that was removed is its own.
        if fs::fstat(&self.directory)?.st_nlink == 0 {
            self.directory = open_private(&self.path).map_err(io::Error::other)?;
        }
        let create = RECORD.union(OFlags::CREATE);
        let file = fs::openat(&self.directory, &self.name, create, Mode::RUSR | Mode::WUSR)?;
        match fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) if is_called(&file, &self.directory, &self.name) => {}
            // It went again: there will be another notice of that.
            Ok(()) => return Err(Errno::AGAIN.into()),
            Err(Errno::WOULDBLOCK) => return Ok(Upkeep::Taken),
            Err(errno) => return Err(errno.into()),
        }
        // Of one that came and died meanwhile.
        if let Some(other) = read_record(&file).filter(|other| other.cgroup.is_some()) {
            self.leave(other);
        }
        self.file = file;
        self.record = self.record.take().map(|record| Record { left: self.left.clone(), ..record });
        self.write()?;
        Ok(Upkeep::PutBack)
    }

    /// The directory, the record's name and the locked record itself, by descriptors of the caller's own.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn handles(&self) -> io::Result<(OwnedFd, String, OwnedFd)> {
        let again = |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, 3);
        Ok((again(&self.directory)?, self.name.clone(), again(&self.file)?))
    }
}

const RECORD: OFlags = OFlags::RDWR.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// For files that are touched.
const NOW: Timestamps = Timestamps {
    last_access: Timespec { tv_sec: 0, tv_nsec: fs::UTIME_NOW },
    last_modification: Timespec { tv_sec: 0, tv_nsec: fs::UTIME_NOW },
};

/// Whether this very file has that name.
fn is_called(file: &OwnedFd, directory: &OwnedFd, name: &str) -> bool {
    let there = fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
    let (Ok(held), Ok(there)) = (fs::fstat(file), there) else { return false };
    (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)
}

/// The names under which owners of the stack called `slug`, and of one-off commands beside it (`slug-run-ID`), have
/// records, dead or alive. Other stacks clean up after themselves.
pub fn family(directory: &OwnedFd, slug: &str) -> Vec<String> {
    let Ok(entries) = fs::Dir::read_from(directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    let family = names.filter_map(|name| {
        let name = name.strip_suffix(".json")?;
        let beside = || name.strip_prefix(slug).is_some_and(|rest| rest.starts_with("-run-"));
        (name == slug || beside()).then(|| name.to_owned())
    });
    family.collect()
}

/// Every record whose lock is held: by an lpm that lives, or by the guardian of one that does not.
pub fn held(directory: &OwnedFd) -> Vec<Record> {
    let Ok(entries) = fs::Dir::read_from(directory) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
    let held = names.filter(|name| name.ends_with(".json")).filter_map(|name| held_file(directory, &name));
    held.collect()
}

/// The record of the stack called `slug`, if its lock is held.
pub fn held_as(directory: &OwnedFd, slug: &str) -> Option<Record> {
    held_file(directory, &format!("{slug}.json"))
}

fn held_file(directory: &OwnedFd, name: &str) -> Option<Record> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = fs::openat(directory, name, flags, Mode::empty()).ok()?;
    // Shared, so that two readers do not block each other, and given back at once. A start that comes just then looks
    // again.
    match fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => read_record(&file),
        _ => None,
    }
}

/// Who runs a stack now, by the names people know: every record whose owner lives, the oldest first. Records of one-off
/// commands are left out.
pub fn running(directories: &[OwnedFd]) -> Vec<Record> {
    let mut records: Vec<Record> = directories
        .iter()
        .flat_map(held)
        .filter(|record| record.is_alive() && !record.name.is_empty())
        .collect();
    records.sort_by(|a, b| (a.since, &a.name, a.pid).cmp(&(b.since, &b.name, b.pid)));
    records
}

/// Sockets of stacks in a private directory that have no record beside them: it was removed while they ran. At most a
/// few, for each is called.
pub fn sockets_without_a_record(directory: &Path) -> Vec<PathBuf> {
    const MOST: usize = 8;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sockets =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "sock"));
    sockets.filter(|path| !path.with_extension("json").exists()).take(MOST).collect()
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.stays && !self.left.is_empty() {
            // Of this run there is nothing any more, and of earlier ones there is.
            let last = self.left.swap_remove(0);
            self.stays = self.record(&last).is_ok();
        }
        // Removed while still locked, so that nobody can lock a file that is about to go.
        if !self.stays && is_called(&self.file, &self.directory, &self.name) {
            let _ = fs::unlinkat(&self.directory, &self.name, AtFlags::empty());
        }
    }
}

fn read_record(file: &OwnedFd) -> Option<Record> {
    let mut text = vec![0; LONGEST_RECORD];
    let length = rustix::io::pread(file, &mut text, 0).ok()?;
    Record::parse(&text[..length])
}

/// Where records and sockets are.
#[derive(Debug)]
pub struct Runtime {
    /// Held open.
    pub directory: OwnedFd,
    /// Its path.
    pub path: PathBuf,
    /// What is wrong with places that come before it.
    pub passed_over: Vec<String>,
}

/// Opens lpm's private runtime directory, making it where it is missing: the first of `places` that is fit for it.
///
/// # Errors
/// A sentence that names the directories and what is wrong with them.
pub fn runtime_directory(xdg: Option<&OsStr>, home: Option<&OsStr>) -> Result<Runtime, String> {
    let mut passed_over = Vec::new();
    for path in places(xdg, home) {
        match open_private(&path) {
            Ok(directory) => return Ok(Runtime { directory, path, passed_over }),
            Err(problem) => passed_over.push(problem),
        }
    }
    Err(passed_over.join("; "))
}

/// Those runtime directories that are there. Which one is the first may have changed since a stack was started.
pub fn runtime_directories(xdg: Option<&OsStr>, home: Option<&OsStr>) -> Vec<(OwnedFd, PathBuf)> {
    let there = places(xdg, home).into_iter().filter_map(|path| Some((open_if_private(&path).ok()?, path)));
    there.collect()
}

/// Candidates for the runtime directory, best first: below `/run` for root and `/run/user/UID` for others, below
/// `xdg` (`XDG_RUNTIME_DIR`) if that is ours, then where any user may make one, in which order all commands of a user
/// look alike, and in `home`, which is another one under sudo and cron.
fn places(xdg: Option<&OsStr>, home: Option<&OsStr>) -> Vec<PathBuf> {
    let uid = rustix::process::geteuid();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let ours = |path: &Path| {
        let stat = fs::open(path, flags, Mode::empty()).and_then(fs::fstat);
        stat.is_ok_and(|stat| stat.st_uid == uid.as_raw())
    };
    // One place for a user however he comes (a login, cron, sudo), or two starts would not meet.
    let given = if uid.is_root() { "/run".to_owned() } else { format!("/run/user/{}", uid.as_raw()) };
    let own = [(Some(PathBuf::from(given)), "lpm"), (xdg.map(PathBuf::from), "lpm")];
    let last = [(home.map(PathBuf::from), ".lpm-run")];
    let below = |parents: &[(Option<PathBuf>, &str)]| -> Vec<PathBuf> {
        let parents = parents.iter().filter_map(|(path, name)| Some((path.as_ref()?, *name)));
        parents
            .filter(|(path, _)| path.is_absolute() && ours(path))
            .map(|(path, name)| path.join(name))
            .collect()
    };
    let open_to_all =
        ["/tmp", "/dev/shm", "/var/tmp"].map(|parent| format!("{parent}/lpm-{}", uid.as_raw()).into());
    let mut places: Vec<PathBuf> = below(&own).into_iter().chain(open_to_all).chain(below(&last)).collect();
    places.dedup();
    places
}

fn open_private(path: &Path) -> Result<OwnedFd, String> {
    match fs::mkdir(path, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => open_if_private(path),
        Err(error) => Err(format!("{}: cannot be made: {}", path.display(), words(error))),
    }
}

fn open_if_private(path: &Path) -> Result<OwnedFd, String> {
    let shown = path.display();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let directory = fs::open(path, flags, Mode::empty())
        .map_err(|error| format!("{shown}: is not a directory of its own: {}", words(error)))?;
    let stat = fs::fstat(&directory).map_err(|error| format!("{shown}: {}", words(error)))?;
    if stat.st_uid != rustix::process::geteuid().as_raw() {
        return Err(format!("{shown}: belongs to uid {}, not to us", stat.st_uid));
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

    fn take(directory: OwnedFd, slug: &str) -> io::Result<Found> {
        Claim::take(directory, Path::new("/nowhere"), slug)
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
            run: "0011223344556677".into(),
            ids: Ids { root: Some(7), ..Ids::default() },
            left: Vec::new(),
        }
    }

    #[test]
    fn a_second_claim_says_who_holds_the_stack() {
        let (_temp, open) = directory();
        let Found::Free(mut claim) = take(open(), "app-1").unwrap() else { panic!("not free") };
        claim.record(&record()).unwrap();
        let Found::Held(owner) = take(open(), "app-1").unwrap() else { panic!("not held") };
        assert_eq!(owner, Some(record()));
    }

    #[test]
    fn who_runs_is_listed_and_who_died_is_not() {
        let (_temp, open) = directory();
        let Found::Free(mut claim) = take(open(), "app-1").unwrap() else { panic!("not free") };
        claim.record(&record()).unwrap();
        let Found::Free(mut dead) = take(open(), "app-2").unwrap() else { panic!("not free") };
        dead.record(&record()).unwrap();
        fs::flock(&dead.file, FlockOperation::Unlock).unwrap();
        assert_eq!(running(&[open()]), [record()]);
        drop((claim, dead));
        assert_eq!(running(&[open()]), []);
    }

    #[test]
    fn a_claim_given_back_leaves_no_file() {
        let (temp, open) = directory();
        drop(take(open(), "app-1").unwrap());
        assert_eq!(std::fs::read_dir(temp.path().join("lpm")).unwrap().count(), 0);
        assert!(matches!(take(open(), "app-1").unwrap(), Found::Free(_)));
    }

    #[test]
    fn a_dead_owner_leaves_its_record() {
        let (_temp, open) = directory();
        let Found::Free(mut claim) = take(open(), "app-1").unwrap() else { panic!("not free") };
        claim.record(&record()).unwrap();
        // A killed owner runs no destructor; its lock goes with its file descriptor.
        fs::flock(&claim.file, FlockOperation::Unlock).unwrap();
        let Found::Abandoned(_, left) = take(open(), "app-1").unwrap() else { panic!("not abandoned") };
        assert_eq!(*left, record());
        std::mem::forget(claim);
    }

    #[test]
    fn an_owner_that_was_not_reaped_yet_is_dead() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = Pid::from_child(&child);
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).unwrap();
        assert!(!Record { pid: child.id(), ..record() }.is_alive());
        child.wait().unwrap();
        assert!(record().is_alive(), "this process");
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let (temp, open) = directory();
        drop(open());
        std::os::unix::fs::symlink("/dev/null", temp.path().join("lpm/app-1.json")).unwrap();
        let error = take(open(), "app-1").unwrap_err();
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
    fn a_record_that_was_made_again_is_not_removed_with_the_claim() {
        let (temp, open) = directory();
        let path = temp.path().join("lpm/app-1.json");
        let Found::Free(mut claim) = take(open(), "app-1").unwrap() else { panic!("not free") };
        claim.record(&record()).unwrap();
        std::fs::remove_file(&path).unwrap();
        let Found::Free(mut successor) = take(open(), "app-1").unwrap() else { panic!("not free") };
        successor.record(&record()).unwrap();
        assert_eq!(claim.keep_up().unwrap(), Upkeep::Taken);
        drop(claim);
        assert!(path.exists());
        drop(successor);
        assert!(!path.exists());
    }

    #[test]
    fn a_record_that_is_removed_is_put_back_and_locked() {
        let (temp, open) = directory();
        let path = temp.path().join("lpm");
        let Found::Free(mut claim) = Claim::take(open(), &path, "app-1").unwrap() else { panic!("not free") };
        claim.record(&record()).unwrap();
        assert_eq!(claim.keep_up().unwrap(), Upkeep::There);
        std::fs::remove_dir_all(&path).unwrap();
        assert_eq!(claim.keep_up().unwrap(), Upkeep::PutBack);
        assert_eq!(running(&[open()]), [record()]);
        drop(claim);
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    }

    #[test]
    fn what_is_left_outlives_the_claim_and_is_bounded() {
        let (temp, open) = directory();
        let Found::Free(mut claim) = take(open(), "app-1").unwrap() else { panic!("not free") };
        claim.leave(Record { run: "left".into(), ..record() });
        claim.record(&record()).unwrap();
        drop(claim);
        let Found::Abandoned(mut claim, left) = take(open(), "app-1").unwrap() else { panic!("lost") };
        assert_eq!((left.run.as_str(), left.left.len()), ("left", 0));
        for _ in 0..100 {
            claim.leave(Record { root: "x".repeat(4000), ..record() });
        }
        claim.record(&record()).unwrap();
        let length = std::fs::metadata(temp.path().join("lpm/app-1.json")).unwrap().len() as usize;
        assert!(length <= LONGEST_RECORD, "{length}");
        claim.left.clear();
        claim.stay();
        drop(claim);
        let Found::Abandoned(_, left) = take(open(), "app-1").unwrap() else { panic!("lost") };
        assert!(left.left.len() > 5 && left.run == record().run);
    }

    #[test]
    fn a_record_of_an_older_version_is_read() {
        let text = br#"{"name":"app","pid":7,"since":1,"boot":"b","cgroup":"/x","own":true}"#;
        let record: Record = serde_json::from_slice(text).unwrap();
        assert_eq!((record.run.as_str(), record.ids), ("", Ids::default()));
    }

    #[test]
    fn a_squatted_place_is_passed_over() {
        let temp = tempfile::tempdir().unwrap();
        let squatted = temp.path().join("squatted");
        std::fs::create_dir_all(squatted.join("lpm")).unwrap();
        fs::chmod(squatted.join("lpm"), Mode::from_raw_mode(0o777)).unwrap();
        let all = places(Some(squatted.as_os_str()), Some(temp.path().as_os_str()));
        assert_eq!(all[all.len() - 1], temp.path().join(".lpm-run"));
        assert!(all.contains(&squatted.join("lpm")));
        assert!(open_if_private(&squatted.join("lpm")).unwrap_err().contains("chmod 700"));
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
