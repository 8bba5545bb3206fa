//! Control groups, version 2, as directories held open (cgroup-v2.rst).
//!
//! Every file is opened relative to the directory's descriptor, never created, and written with one
//! `write`. A descriptor of a removed cgroup leads nowhere, not to a new one of the same name, so nothing
//! here can hit a stranger. A cgroup that went away meanwhile is an answer everywhere: nothing to kill,
//! nobody in it, already removed.
//!
//! What it refuses: version 1; writing attributes of a cgroup it was not asked to write; moving anybody
//! but the caller's own process.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};
use rustix::io::Errno;
use rustix::process::Pid;
use rustix::time::{ClockId, clock_gettime};

use super::{pidfd, reserve};

/// A cgroup, held open.
#[derive(Debug)]
pub struct Cgroup {
    directory: OwnedFd,
}

/// What to make of a directory that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Take it as it is.
    Accept,
    /// `EEXIST`: it is somebody else's.
    Refuse,
}

/// What the kernel counted since the cgroup was made. `None`: this kernel, or this cgroup for lack of a
/// controller, does not count it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// `memory.peak`, bytes (Linux 5.19).
    pub memory_peak: Option<u64>,
    /// How often an OOM killer struck (`memory.events`, `oom_group_kill`, else the processes of `oom_kill`), also
    /// for a ceiling further up.
    pub oom_kills: Option<u64>,
    /// How often its own `memory.max` left no way out (`oom`). Kills without this are not its ceiling's.
    pub ooms: Option<u64>,
    /// How often usage was about to go over `memory.max` (`max`).
    pub memory_max_hits: Option<u64>,
    /// How often it was throttled over `memory.high` (`high`).
    pub memory_high_hits: Option<u64>,
    /// `pids.events`, `max`: forks refused.
    pub tasks_limit_hits: Option<u64>,
    /// `cpu.stat`, `usage_usec`. There without any controller.
    pub cpu_usec: Option<u64>,
    /// Of that, in the kernel.
    pub system_usec: Option<u64>,
    /// Periods in which `cpu.max` held it back.
    pub throttled_periods: Option<u64>,
    /// How long, all threads together.
    pub throttled_usec: Option<u64>,
}

/// Which controllers a cgroup has that count something; time is counted without any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// `memory`.
    pub memory: bool,
    /// `pids`.
    pub tasks: bool,
}

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// `Errno`s of a cgroup that is no longer there: opening below it, and using what was open.
fn gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NODEV)
}

impl Cgroup {
    /// The cgroup at a path, which must lie on cgroup2.
    ///
    /// # Errors
    /// What open(2) says; `EXDEV` if it lies on another file system.
    pub fn open(path: &Path) -> Result<Cgroup, Errno> {
        const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270; // statfs(2)
        let directory = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
        if rustix::fs::fstatfs(&directory)?.f_type as u64 != CGROUP2_SUPER_MAGIC {
            return Err(Errno::XDEV);
        }
        Ok(Cgroup { directory })
    }

    /// Its inode number, which the kernel gives to no other cgroup until the next boot (kernfs counts up).
    ///
    /// # Errors
    /// What fstat(2) says.
    pub fn id(&self) -> Result<u64, Errno> {
        Ok(rustix::fs::fstat(&self.directory)?.st_ino)
    }

    /// A child, made if it is not there.
    ///
    /// # Errors
    /// `EEXIST` as chosen, `EACCES` and `EROFS` where we may not, `EAGAIN` at `cgroup.max.descendants`,
    /// `ENOENT` if this cgroup is gone.
    pub fn create(&self, name: &str, existing: Existing) -> Result<Cgroup, Errno> {
        let made =
            match rustix::fs::mkdirat(&self.directory, one_component(name)?, Mode::from_raw_mode(0o755)) {
                Err(Errno::EXIST) if existing == Existing::Accept => false,
                result => result.map(|()| true)?,
            };
        // Not from the reserve: a birth can be refused.
        match rustix::fs::openat(&self.directory, name, DIRECTORY, Mode::empty()) {
            Ok(directory) => Ok(Cgroup { directory }),
            Err(errno) => {
                if made {
                    let _ = self.unlink(name);
                }
                Err(errno)
            }
        }
    }

    /// A child that is there.
    ///
    /// # Errors
    /// `ENOENT` if it is not.
    pub fn child(&self, name: &str) -> Result<Cgroup, Errno> {
        self.directory_at(one_component(name)?)
    }

    fn directory_at(&self, path: &str) -> Result<Cgroup, Errno> {
        let open = || rustix::fs::openat(&self.directory, path, DIRECTORY, Mode::empty());
        reserve::with(open).map(|directory| Cgroup { directory })
    }

    /// The text of one file.
    ///
    /// # Errors
    /// `ENOENT` if there is no such file, or no such cgroup any more.
    pub fn read(&self, file: &str) -> Result<String, Errno> {
        let mut text = Vec::new();
        self.read_into(file, &mut text)?;
        String::from_utf8(text).map_err(|_| Errno::ILSEQ)
    }

    /// To the end, for a list may be longer than any buffer (`cgroup.procs`).
    fn read_into(&self, file: &str, text: &mut Vec<u8>) -> Result<(), Errno> {
        /// The kernel leaves a buffer unfilled only at the end, or for want of room for one more entry, and
        /// no entry is as long as this.
        const LONGEST_ENTRY: usize = 256;
        text.clear();
        let file = self.file(file, OFlags::RDONLY)?;
        loop {
            text.reserve(4096);
            let room = text.capacity() - text.len();
            match rustix::io::read(&file, rustix::buffer::spare_capacity(text)) {
                Ok(length) if length == 0 || length + LONGEST_ENTRY < room.min(4096) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// One file, one `write`: the kernel takes it whole or not at all. Lowering `memory.max` may block for
    /// as long as the reclaim takes, and kill.
    ///
    /// # Errors
    /// What the kernel says to the value (`EINVAL`, `ERANGE`, `EBUSY`), `ENOENT` if there is no such
    /// file, for example because its controller is not enabled here.
    pub fn write(&self, file: &str, value: &str) -> Result<(), Errno> {
        let file = self.file(file, OFlags::WRONLY)?;
        match rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes()))? {
            length if length == value.len() => Ok(()),
            _ => Err(Errno::IO),
        }
    }

    fn file(&self, name: &str, access: OFlags) -> Result<OwnedFd, Errno> {
        let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        reserve::with(|| rustix::fs::openat(&self.directory, name, flags, Mode::empty()))
    }

    /// The controllers that may be enabled for its children (`cgroup.controllers`).
    ///
    /// # Errors
    /// What reading says.
    pub fn controllers(&self) -> Result<Vec<String>, Errno> {
        self.words("cgroup.controllers")
    }

    /// Those that are enabled for its children (`cgroup.subtree_control`): whatever was asked for, this
    /// is the truth.
    ///
    /// # Errors
    /// What reading says.
    pub fn subtree_control(&self) -> Result<Vec<String>, Errno> {
        self.words("cgroup.subtree_control")
    }

    fn words(&self, file: &str) -> Result<Vec<String>, Errno> {
        Ok(self.read(file)?.split_whitespace().map(str::to_owned).collect())
    }

    /// Enable one controller for the children. `EBUSY` passes when it comes from a process that is just
    /// leaving, so it is asked again for some 50 ms (crun does it too); after that, processes sit in this
    /// cgroup, and the kernel wants them in leaves alone.
    ///
    /// # Errors
    /// `EBUSY` as said, `ENOENT` where the controller is not to be had here, `EINVAL` where there is none of
    /// that name, `EACCES`, `EROFS`.
    pub fn enable(&self, controller: &str) -> Result<(), Errno> {
        let text = format!("+{controller}");
        retry_busy(|| self.write("cgroup.subtree_control", &text))
    }

    /// The reverse of [`enable`](Self::enable). Fails with `EBUSY` while a child has it enabled in turn.
    ///
    /// # Errors
    /// As said; one that is not enabled is no error.
    pub fn disable(&self, controller: &str) -> Result<(), Errno> {
        let text = format!("-{controller}");
        retry_busy(|| self.write("cgroup.subtree_control", &text))
    }

    /// Move this process here, all its threads.
    ///
    /// # Errors
    /// `EACCES` without write access to the common ancestor's `cgroup.procs`, `EBUSY` into an inner node.
    pub fn enter(&self) -> Result<(), Errno> {
        self.write("cgroup.procs", "0")
    }

    /// The processes in it, ascending; not those of its children. Those of other PID namespaces, which
    /// have no number here, are left out. Empty if it is gone. A threaded cgroup lists threads alone (cgroup-v2.rst,
    /// "Threads"), and their processes are the answer.
    ///
    /// # Errors
    /// What reading says.
    pub fn procs(&self) -> Result<Vec<Pid>, Errno> {
        let mut text = Vec::new();
        match self.read_into("cgroup.procs", &mut text) {
            Err(Errno::OPNOTSUPP) => return self.procs_of_threads(),
            Err(errno) if gone(errno) => return Ok(Vec::new()),
            result => result?,
        }
        Ok(pids(&text))
    }

    fn procs_of_threads(&self) -> Result<Vec<Pid>, Errno> {
        let mut text = Vec::new();
        match self.read_into("cgroup.threads", &mut text) {
            Err(errno) if gone(errno) => return Ok(Vec::new()),
            result => result?,
        }
        let mut list = Vec::new();
        for thread in pids(&text) {
            let status = match std::fs::read_to_string(format!("/proc/{}/status", thread.as_raw_pid())) {
                // It has ended.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                status => status.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?,
            };
            let process = status.lines().find_map(|line| line.strip_prefix("Tgid:"));
            list.extend(process.and_then(pidfd::number));
        }
        list.sort_unstable_by_key(|pid: &Pid| pid.as_raw_pid());
        list.dedup();
        Ok(list)
    }

    /// Whether anybody lives in it or below. A zombie does not.
    ///
    /// # Errors
    /// What reading says; a root cgroup has no such file.
    pub fn populated(&self) -> Result<bool, Errno> {
        match self.read("cgroup.events") {
            Ok(text) => Ok(value(text.as_bytes(), "populated") == Some(1)),
            Err(errno) if gone(errno) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// The descriptor to wait on for emptiness.
    ///
    /// # Errors
    /// `ENOENT` if it is gone.
    pub fn events(&self) -> Result<Events, Errno> {
        Ok(Events(self.file("cgroup.events", OFlags::RDONLY)?))
    }

    /// A descriptor of one of its files that notifies (`memory.events`, `pids.events`), read once so that
    /// the next change is told. As with [`Events`], reading it is what arms it again.
    ///
    /// # Errors
    /// `ENOENT` if there is no such file.
    pub fn watch(&self, file: &str) -> Result<OwnedFd, Errno> {
        let fd = self.file(file, OFlags::RDONLY)?;
        rustix::io::pread(&fd, &mut [0; 512], 0)?;
        Ok(fd)
    }

    /// SIGKILL for every process in it and below, at once and against forks (`cgroup.kill`, Linux 5.14). Returns before
    /// they are dead; [`Events`] tells when.
    ///
    /// # Errors
    /// `EACCES`, `EOPNOTSUPP` for a threaded cgroup.
    pub fn kill(&self) -> Result<(), Errno> {
        match self.write("cgroup.kill", "1") {
            Err(errno) if gone(errno) => Ok(()),
            result => result,
        }
    }

    /// Takes its limit on CPU time away (`cpu.max`), and lets run at once what it held back.
    ///
    /// # Errors
    /// `EACCES`; without the controller there is no limit.
    pub fn lift_cpu_limit(&self) -> Result<(), Errno> {
        match self.write("cpu.max", "max") {
            Err(errno) if gone(errno) => Ok(()),
            result => result,
        }
    }

    /// Stop everybody in it and below, or let them go on (`cgroup.freeze`). Takes effect soon, not at once.
    ///
    /// # Errors
    /// `EACCES`; a root cgroup has no such file, which counts as gone.
    pub fn freeze(&self, frozen: bool) -> Result<(), Errno> {
        match self.write("cgroup.freeze", if frozen { "1" } else { "0" }) {
            Err(errno) if gone(errno) => Ok(()),
            result => result,
        }
    }

    /// Whether every process in it and below stands still (`cgroup.events`), be it because of a cgroup further up. False if
    /// the cgroup is gone.
    ///
    /// # Errors
    /// What reading says.
    pub fn frozen(&self) -> Result<bool, Errno> {
        match self.read("cgroup.events") {
            Ok(text) => Ok(value(text.as_bytes(), "frozen") == Some(1)),
            Err(errno) if gone(errno) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Walks over this cgroup and everything below it, parents first on the way in and last on the way out.
    ///
    /// The processes of a leaf may have built it as deep and as wide as they like, so the walk does not recurse: it
    /// holds one descriptor, finds its way up by `..`, and keeps names alone.
    ///
    /// # Errors
    /// The first error of `step`, which ends the walk; `E2BIG` above [`MOST_CGROUPS`]; what opening `..` says.
    pub fn walk(&self, mut step: impl FnMut(Step<'_>) -> Result<(), Errno>) -> Result<(), Errno> {
        let children = |cgroup: &Cgroup, step: &mut dyn FnMut(Step<'_>) -> Result<(), Errno>| {
            step(Step::Into(cgroup))?;
            match cgroup.children() {
                Ok(names) => Ok(names),
                Err(errno) => step(Step::Refused(errno)).map(|()| Vec::new()),
            }
        };
        // `None`: this cgroup itself.
        let mut here: Option<Cgroup> = None;
        let mut rest = children(self, &mut step)?;
        let mut above: Vec<(String, Vec<String>)> = Vec::new();
        let mut seen = 0;
        loop {
            if let Some(name) = rest.pop() {
                match here.as_ref().unwrap_or(self).child(&name) {
                    Ok(child) => {
                        seen += 1;
                        if seen > MOST_CGROUPS {
                            return Err(Errno::TOOBIG);
                        }
                        let below = children(&child, &mut step)?;
                        above.push((name, std::mem::replace(&mut rest, below)));
                        here = Some(child);
                    }
                    Err(errno) if gone(errno) => {}
                    Err(errno) => step(Step::Refused(errno))?,
                }
                continue;
            }
            let Some((name, siblings)) = above.pop() else { return Ok(()) };
            here = match (&here, above.is_empty()) {
                (Some(child), false) => Some(child.directory_at("..")?),
                (_, true) | (None, _) => None,
            };
            step(Step::OutOf { parent: here.as_ref().unwrap_or(self), name: &name })?;
            rest = siblings;
        }
    }

    /// The names of its children. Empty if it is gone.
    ///
    /// # Errors
    /// What reading the directory says.
    pub fn children(&self) -> Result<Vec<String>, Errno> {
        // Most often there are none, and the count of links (one for each child's `..`, besides its own two)
        // says so quicker than thirty directory entries.
        if rustix::fs::fstat(&self.directory).is_ok_and(|stat| stat.st_nlink <= 2) {
            return Ok(Vec::new());
        }
        // A second descriptor, because this one's offset would be shared by all who use the handle.
        let Cgroup { directory } = match self.directory_at(".") {
            Err(errno) if gone(errno) => return Ok(Vec::new()),
            result => result?,
        };
        let mut buffer = Vec::with_capacity(4096);
        let mut entries = RawDir::new(&directory, buffer.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Err(errno) if gone(errno) => break,
                entry => entry?,
            };
            let name = entry.file_name().to_bytes();
            if entry.file_type() == rustix::fs::FileType::Directory && name != b"." && name != b".." {
                names.extend(std::str::from_utf8(name).map(str::to_owned));
            }
        }
        Ok(names)
    }

    /// Remove a child and everything below it, the deepest first. What was not there is removed. `EBUSY`
    /// is waited out for some 50 ms: who was killed leaves soon.
    ///
    /// # Errors
    /// `EBUSY` if somebody stays.
    pub fn remove(&self, name: &str) -> Result<(), Errno> {
        let name = one_component(name)?;
        match self.unlink(name) {
            Err(Errno::BUSY) => {}
            result => return result,
        }
        let child = match self.child(name) {
            Err(errno) if gone(errno) => return Ok(()),
            child => child?,
        };
        child.walk(|step| match step {
            Step::Into(_) => Ok(()),
            Step::OutOf { parent, name } => retry_busy(|| parent.unlink(name)),
            Step::Refused(errno) => Err(errno),
        })?;
        if let Ok(events) = child.events() {
            // Its answer is in what rmdir says next.
            let _ = events.wait_empty(Some(50));
        }
        retry_busy(|| self.unlink(name))
    }

    fn unlink(&self, name: &str) -> Result<(), Errno> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::REMOVEDIR) {
            Err(errno) if gone(errno) => Ok(()),
            result => result,
        }
    }

    /// What was counted, in at most four files; those of controllers that are known not to be here are not
    /// asked. Nothing at all if it is gone.
    pub fn usage(&self, counters: Counters) -> Usage {
        let mut usage = Usage::default();
        let mut text = Vec::with_capacity(4096);
        let mut read = |file: &str, take: &mut dyn FnMut(&[u8])| {
            if self.read_into(file, &mut text).is_ok() {
                take(&text);
            }
        };
        if counters.memory {
            // Hierarchical, since a process may make cgroups below its own.
            read("memory.events", &mut |text| {
                // Of a group that is killed as one the victim is counted twice, and nobody needs the others.
                let groups = value(text, "oom_group_kill").filter(|&groups| groups > 0);
                usage.oom_kills = groups.or_else(|| value(text, "oom_kill"));
                usage.ooms = value(text, "oom");
                usage.memory_max_hits = value(text, "max");
                usage.memory_high_hits = value(text, "high");
            });
            read("memory.peak", &mut |text| usage.memory_peak = number(text));
        }
        if counters.tasks {
            read("pids.events", &mut |text| usage.tasks_limit_hits = value(text, "max"));
        }
        read("cpu.stat", &mut |text| {
            usage.cpu_usec = value(text, "usage_usec");
            usage.system_usec = value(text, "system_usec");
            usage.throttled_periods = value(text, "nr_throttled");
            usage.throttled_usec = value(text, "throttled_usec");
        });
        usage
    }

    /// The same cgroup by another descriptor.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn try_clone(&self) -> Result<Cgroup, Errno> {
        Ok(Cgroup { directory: rustix::io::fcntl_dupfd_cloexec(&self.directory, 3)? })
    }
}

/// Adopts a directory that somebody opened; the guardian gets its own so.
impl From<OwnedFd> for Cgroup {
    fn from(directory: OwnedFd) -> Cgroup {
        Cgroup { directory }
    }
}

/// The directory, for a birth into it.
impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// A step of a walk.
#[derive(Debug)]
pub enum Step<'a> {
    /// A cgroup, before anything below it.
    Into(&'a Cgroup),
    /// A cgroup by its name in its parent, after everything below it.
    OutOf {
        /// Where it is.
        parent: &'a Cgroup,
        /// What it is called there.
        name: &'a str,
    },
    /// A cgroup that could not be opened or listed. The walk goes past it, unless this step is an error.
    Refused(Errno),
}

/// The most cgroups that one walk visits. A process can make new ones as fast as they are visited, and no walk may last
/// for ever.
pub const MOST_CGROUPS: usize = 200_000;

/// `cgroup.events`, held open. Wait for `POLLPRI` (`Interest::PRIORITY`) on it; *reading* is what arms
/// the next notification, so ask first and wait then.
#[derive(Debug)]
pub struct Events(OwnedFd);

impl Events {
    /// As [`Cgroup::populated`], by one system call.
    ///
    /// # Errors
    /// What pread(2) says; a cgroup that is gone is empty.
    pub fn populated(&self) -> Result<bool, Errno> {
        let mut text = [0; 128];
        match rustix::io::pread(&self.0, &mut text, 0) {
            Ok(length) => Ok(value(&text[..length], "populated") == Some(1)),
            Err(errno) if gone(errno) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Waits until no process is left, `patience` milliseconds at most, however often the file changes meanwhile. Returns
    /// whether it is empty.
    ///
    /// # Errors
    /// What poll(2) and pread(2) say.
    pub fn wait_empty(&self, patience: Option<i64>) -> Result<bool, Errno> {
        let until = patience.map(|patience| milliseconds().saturating_add(patience));
        while self.populated()? {
            let rest = until.map(|until| until - milliseconds());
            if rest.is_some_and(|rest| rest <= 0) {
                return Ok(false);
            }
            let rest = rest.map(|rest| Timespec { tv_sec: rest / 1000, tv_nsec: rest % 1000 * 1_000_000 });
            match poll(&mut [PollFd::new(&self.0, PollFlags::PRI)], rest.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(true)
    }
}

/// The time since some moment, ms; it never goes back.
fn milliseconds() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A cgroup2 file system, as mountinfo has it (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub point: PathBuf,
    /// Which of its directories is seen there, as far as our cgroup namespace can name it.
    pub root: PathBuf,
    /// Mounted read-only, or the file system is.
    pub read_only: bool,
}

impl Mount {
    /// Where cgroup2 is mounted here, never assumed. Among several, one that can be written to and shows
    /// the whole tree is preferred, then the one mounted last.
    ///
    /// # Errors
    /// What reading `/proc/self/mountinfo` says.
    pub fn find() -> std::io::Result<Option<Mount>> {
        Ok(Mount::parse(&std::fs::read("/proc/self/mountinfo")?))
    }

    #[doc(hidden)]
    pub fn parse(mountinfo: &[u8]) -> Option<Mount> {
        let lines = mountinfo.split(|&byte| byte == b'\n');
        lines
            .filter_map(Mount::parse_line)
            .max_by_key(|mount| (!mount.read_only, mount.root == Path::new("/")))
    }

    /// `41 31 0:38 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate`: any number of
    /// optional fields end with the `-`.
    fn parse_line(line: &[u8]) -> Option<Mount> {
        let fields: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
        if *fields.get(dash + 1)? != b"cgroup2" {
            return None;
        }
        // A path below another one would be taken from the working directory.
        if !fields[3].starts_with(b"/") || !fields[4].starts_with(b"/") {
            return None;
        }
        let read_only = |options: &[u8]| options.split(|&byte| byte == b',').any(|option| option == b"ro");
        Some(Mount {
            point: unescape(fields[4]),
            root: unescape(fields[3]),
            read_only: read_only(fields[5]) || read_only(fields.get(dash + 3)?),
        })
    }

    /// Where a cgroup, named as `/proc/self/cgroup` does it, lies in the file system. `None` if it cannot be
    /// seen from here: it lies outside the mount, or the mount's root outside our namespace.
    pub fn locate(&self, cgroup: &Path) -> Option<PathBuf> {
        let outside = |path: &Path| path.components().any(|part| part == std::path::Component::ParentDir);
        if outside(cgroup) || outside(&self.root) {
            return None;
        }
        Some(self.point.join(cgroup.strip_prefix(&self.root).ok()?))
    }

    /// The reverse of [`locate`](Self::locate): how `/proc/PID/cgroup` names a cgroup that lies at `path`. `None` if
    /// it lies outside the mount.
    pub fn name_of(&self, path: &Path) -> Option<PathBuf> {
        Some(self.root.join(path.strip_prefix(&self.point).ok()?))
    }
}

/// Space, tab, newline and backslash are written as three octal digits there.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|_| first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}

/// Where a process is, as the `0::` line of `/proc/PID/cgroup` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    /// In this one, seen from the root of our cgroup namespace.
    At(PathBuf),
    /// Its cgroup was removed while it was in it (` (deleted)`).
    Deleted(PathBuf),
    /// Outside the namespace's root (`/..`).
    Outside(PathBuf),
    /// There is no version 2 hierarchy.
    None,
}

impl Own {
    /// Of this process.
    ///
    /// # Errors
    /// What reading `/proc/self/cgroup` says.
    pub fn find() -> std::io::Result<Own> {
        Ok(Own::parse(&std::fs::read("/proc/self/cgroup")?))
    }

    #[doc(hidden)]
    pub fn parse(text: &[u8]) -> Own {
        let Some(path) = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::")) else {
            return Own::None;
        };
        let path_of = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
        match path.strip_suffix(b" (deleted)") {
            Some(path) => Own::Deleted(path_of(path)),
            None if path.starts_with(b"/..") => Own::Outside(path_of(path)),
            None => Own::At(path_of(path)),
        }
    }
}

/// The number behind a key in a flat keyed file.
#[doc(hidden)]
pub fn value(text: &[u8], key: &str) -> Option<u64> {
    let lines = text.split(|&byte| byte == b'\n');
    number(lines.filter_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b" ")).next()?)
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim_end().parse().ok()
}

/// The numbers in `cgroup.procs` or `cgroup.threads`, ascending.
#[doc(hidden)]
pub fn pids(text: &[u8]) -> Vec<Pid> {
    let numbers = text.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let mut list: Vec<Pid> = numbers.filter_map(pidfd::number).collect();
    // "Not sorted, and the same number may come more than once" (cgroup-v2.rst, cgroup.procs).
    list.sort_unstable_by_key(|pid| pid.as_raw_pid());
    list.dedup();
    list
}

/// A name, not a path: nothing here walks anywhere.
fn one_component(name: &str) -> Result<&str, Errno> {
    match name {
        "" | "." | ".." => Err(Errno::INVAL),
        name if name.contains('/') => Err(Errno::INVAL),
        name => Ok(name),
    }
}

/// Again while it is busy, for some 50 ms: there is no event to wait for.
fn retry_busy(mut attempt: impl FnMut() -> Result<(), Errno>) -> Result<(), Errno> {
    const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    for _ in 0..50 {
        match attempt() {
            Err(Errno::BUSY) => {
                let _ = poll(&mut [], Some(&PAUSE));
            }
            result => return result,
        }
    }
    attempt()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::linux::birth::{Birth, Environment};
    use crate::linux::pidfd::{Exit, PidFd};
    use crate::linux::spawn::tests::methods;
    use crate::linux::spawn::{Failure, Method, spawn_by};
    use crate::linux::steps::Stage;
    use std::ffi::CString;
    use std::fs::File;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// A cgroup of its own for one test, gone afterwards with all who are in it.
    pub(crate) struct Place {
        parent: Cgroup,
        name: String,
        pub(crate) cgroup: Cgroup,
    }

    impl Place {
        /// `None`, and says so, where this user may not make one.
        pub(crate) fn new(test: &str) -> Option<Place> {
            static NUMBER: AtomicU32 = AtomicU32::new(0);
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("lpm-test-{}-{number}", std::process::id());
            let attempt = || -> Result<Place, String> {
                let mount = Mount::find().map_err(|error| error.to_string())?.ok_or("no cgroup2")?;
                let parent = Cgroup::open(&mount.point).map_err(|error| error.to_string())?;
                let cgroup = parent
                    .create(&name, Existing::Refuse)
                    .map_err(|error| format!("{}: {error}", mount.point.display()))?;
                Ok(Place { parent, name: name.clone(), cgroup })
            };
            attempt().inspect_err(|reason| skipped!("{test}: {reason}")).ok()
        }

        pub(crate) fn path(&self) -> PathBuf {
            Mount::find().unwrap().unwrap().point.join(&self.name)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = self.cgroup.kill();
            if let Ok(events) = self.cgroup.events() {
                let _ = events.wait_empty(Some(5000));
            }
            if let Err(error) = self.parent.remove(&self.name) {
                eprintln!("{}: left behind: {error}", self.name);
            }
        }
    }

    /// A shell script in a cgroup.
    pub(crate) fn start(cgroup: &Cgroup, script: &str) -> (Pid, PidFd) {
        start_by(Method::Auto, cgroup, script).unwrap()
    }

    fn start_by(method: Method, cgroup: &Cgroup, script: &str) -> Result<(Pid, PidFd), Failure> {
        let argv = ["/bin/sh", "-c", script].map(|word| CString::new(word).unwrap());
        let environment = Environment::new([("PATH", "/usr/bin:/bin")]).unwrap();
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let child =
            spawn_by(method, &Birth::new(&argv, &environment, [null.as_fd(); 3]), Some(cgroup.as_fd()))?;
        Ok((child.pid, PidFd::from(child.pidfd)))
    }

    /// Waits until `count` processes are there: they fork in their own time.
    pub(crate) fn wait_for(cgroup: &Cgroup, count: usize) {
        while cgroup.procs().unwrap().len() < count {
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
        }
    }

    const KILLED: Exit = Exit::Signal { signal: libc::SIGKILL, core: false };

    #[test]
    fn a_mount_without_an_absolute_path_is_none() {
        for line in [
            "41 31 0:38 / x rw - cgroup2 c rw",
            "41 31 0:38 x /x rw - cgroup2 c rw",
            "1 2 3 /  rw - cgroup2 c rw",
        ] {
            assert_eq!(Mount::parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_negative_number_is_no_process() {
        assert_eq!(pids(b"7\n-1\n-7\n0\n3\n7\n"), [3, 7].map(|pid| Pid::from_raw(pid).unwrap()));
    }

    #[test]
    fn a_process_is_born_inside_by_either_method() {
        let Some(place) = Place::new("a_process_is_born_inside_by_either_method") else { return };
        for method in methods() {
            let (pid, pidfd) = start_by(method, &place.cgroup, "exec sleep 1000").unwrap();
            assert_eq!(place.cgroup.procs(), Ok(vec![pid]), "{method:?}");
            pidfd.send(libc::SIGKILL).unwrap();
            pidfd.wait().unwrap();
        }
    }

    #[test]
    fn what_it_forks_at_once_stays_inside() {
        let Some(place) = Place::new("what_it_forks_at_once_stays_inside") else { return };
        for method in methods() {
            let script = "setsid sleep 1000 & sleep 1000 & exec sleep 1000";
            let (_, pidfd) = start_by(method, &place.cgroup, script).unwrap();
            wait_for(&place.cgroup, 3);
            place.cgroup.kill().unwrap();
            assert_eq!(place.cgroup.events().unwrap().wait_empty(None), Ok(true));
            assert_eq!(pidfd.wait().unwrap().exit, KILLED);
        }
    }

    #[test]
    fn a_birth_into_a_removed_cgroup_says_so() {
        let Some(place) = Place::new("a_birth_into_a_removed_cgroup_says_so") else { return };
        let leaf = place.cgroup.create("leaf", Existing::Refuse).unwrap();
        place.cgroup.remove("leaf").unwrap();
        for method in methods().into_iter().chain([Method::Auto]) {
            let failure = start_by(method, &leaf, "true").unwrap_err();
            assert!(matches!(failure.stage, Stage::Clone | Stage::Cgroup), "{method:?}: {failure}");
            assert!(gone(failure.errno), "{method:?}: {failure}");
        }
    }

    #[test]
    fn a_directory_that_is_no_cgroup_is_refused() {
        let directory = Cgroup::from(rustix::fs::open("/", DIRECTORY, Mode::empty()).unwrap());
        for method in methods().into_iter().chain([Method::Auto]) {
            let failure = start_by(method, &directory, "true").unwrap_err();
            assert!(matches!(failure.stage, Stage::Clone | Stage::Cgroup), "{method:?}: {failure}");
        }
        assert!(matches!(Cgroup::open(Path::new("/")), Err(Errno::XDEV)));
    }

    #[test]
    fn the_frozen_die_of_a_kill() {
        let Some(place) = Place::new("the_frozen_die_of_a_kill") else { return };
        let (_, pidfd) = start(&place.cgroup, "exec sleep 1000");
        place.cgroup.freeze(true).unwrap();
        place.cgroup.kill().unwrap();
        assert_eq!(pidfd.wait().unwrap().exit, KILLED);
    }

    #[test]
    fn a_zombie_keeps_nothing_populated() {
        let Some(place) = Place::new("a_zombie_keeps_nothing_populated") else { return };
        let leaf = place.cgroup.create("web.1", Existing::Refuse).unwrap();
        let (_, pidfd) = start(&leaf, "exit 4");
        assert_eq!(leaf.events().unwrap().wait_empty(None), Ok(true));
        place.cgroup.remove("web.1").unwrap();
        assert_eq!(pidfd.wait().unwrap().exit, Exit::Code(4));
    }

    /// Each notice of a change began the time anew, and there was one for each time that it was frozen or thawed.
    #[test]
    fn patience_for_emptiness_ends_however_often_the_file_changes() {
        let Some(place) = Place::new("patience_for_emptiness_ends_however_often_the_file_changes") else {
            return;
        };
        let (_, pidfd) = start(&place.cgroup, "exec sleep 1000");
        let changed = place.cgroup.try_clone().unwrap();
        let (over, goes_on) = std::sync::mpsc::channel::<()>();
        let changes = std::thread::Builder::new().spawn(move || {
            let pause = std::time::Duration::from_millis(20);
            for frozen in [true, false].into_iter().cycle().take(500) {
                changed.freeze(frozen).unwrap();
                if goes_on.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected) {
                    break;
                }
            }
        });
        let before = milliseconds();
        assert_eq!(place.cgroup.events().unwrap().wait_empty(Some(200)), Ok(false));
        let waited = milliseconds() - before;
        drop(over);
        changes.unwrap().join().unwrap();
        assert!((200..5000).contains(&waited), "{waited} ms");
        place.cgroup.kill().unwrap();
        pidfd.wait().unwrap();
    }

    #[test]
    fn a_tree_is_removed_from_the_bottom() {
        let Some(place) = Place::new("a_tree_is_removed_from_the_bottom") else { return };
        let a = place.cgroup.create("a", Existing::Refuse).unwrap();
        a.create("b", Existing::Refuse).unwrap().create("c", Existing::Refuse).unwrap();
        a.create("d", Existing::Refuse).unwrap();
        let mut children = a.children().unwrap();
        children.sort();
        assert_eq!(children, ["b", "d"]);
        assert_eq!(place.cgroup.remove("a"), Ok(()));
        assert_eq!(place.cgroup.remove("a"), Ok(()));
        assert_eq!(place.cgroup.remove("../a"), Err(Errno::INVAL));
    }

    /// Chains of cgroups, each in the one before.
    fn deep(parent: &Cgroup, name: &str, depth: usize) {
        let mut here = parent.create(name, Existing::Refuse).unwrap();
        for _ in 1..depth {
            here = here.create("d", Existing::Refuse).unwrap();
        }
    }

    #[test]
    fn a_deep_and_wide_tree_is_walked_and_removed_with_a_small_stack() {
        let Some(place) = Place::new("a_deep_and_wide_tree_is_walked_and_removed_with_a_small_stack") else {
            return;
        };
        deep(&place.cgroup, "leaf", 1000);
        let leaf = place.cgroup.child("leaf").unwrap();
        for number in 0..300 {
            leaf.create(&number.to_string(), Existing::Refuse).unwrap();
        }
        let walk = move || {
            let (mut seen, mut left) = (0, 0);
            leaf.walk(|step| {
                match step {
                    Step::Into(_) => seen += 1,
                    Step::OutOf { .. } => left += 1,
                    Step::Refused(errno) => return Err(errno),
                }
                Ok(())
            })
            .unwrap();
            assert_eq!((seen, left), (1300, 1299));
            assert_eq!(place.cgroup.remove("leaf"), Ok(()));
            assert_eq!(place.cgroup.children(), Ok(Vec::new()));
        };
        // The stack of the thread that removes leaves.
        std::thread::Builder::new().stack_size(256 << 10).spawn(walk).unwrap().join().unwrap();
    }

    #[test]
    fn a_walk_survives_what_is_removed_under_it() {
        let Some(place) = Place::new("a_walk_survives_what_is_removed_under_it") else { return };
        deep(&place.cgroup, "leaf", 8);
        let (mut seen, mut removed) = (0, false);
        let walked = place.cgroup.walk(|step| {
            seen += usize::from(matches!(step, Step::Into(_)));
            if seen == 9 && !removed {
                removed = true;
                place.cgroup.remove("leaf").unwrap();
            }
            Ok(())
        });
        assert_eq!((walked, seen), (Ok(()), 9));
    }

    #[test]
    fn who_stays_keeps_his_cgroup() {
        let Some(place) = Place::new("who_stays_keeps_his_cgroup") else { return };
        let leaf = place.cgroup.create("leaf", Existing::Refuse).unwrap();
        let (_, pidfd) = start(&leaf, "exec sleep 1000");
        assert_eq!(place.cgroup.remove("leaf"), Err(Errno::BUSY));
        pidfd.send(libc::SIGKILL).unwrap();
        pidfd.wait().unwrap();
        assert_eq!(place.cgroup.remove("leaf"), Ok(()));
    }

    #[test]
    fn a_cgroup_that_went_away_is_an_answer() {
        let Some(place) = Place::new("a_cgroup_that_went_away_is_an_answer") else { return };
        let leaf = place.cgroup.create("leaf", Existing::Refuse).unwrap();
        let events = leaf.events().unwrap();
        place.cgroup.remove("leaf").unwrap();
        // Another one of the same name is another one.
        let (_, pidfd) = start(&place.cgroup.create("leaf", Existing::Refuse).unwrap(), "exec sleep 1000");
        assert_eq!(leaf.populated(), Ok(false));
        assert_eq!(events.populated(), Ok(false));
        assert_eq!(events.wait_empty(None), Ok(true));
        assert_eq!(leaf.procs(), Ok(Vec::new()));
        assert_eq!(leaf.kill(), Ok(()));
        assert_eq!(leaf.freeze(true), Ok(()));
        assert_eq!(leaf.frozen(), Ok(false));
        assert_eq!(leaf.children(), Ok(Vec::new()));
        let all = Counters { memory: true, tasks: true };
        assert_eq!(leaf.usage(all), Usage::default());
        assert_eq!(leaf.remove("x"), Ok(()));
        assert_eq!(leaf.write("memory.max", "1"), Err(Errno::NOENT));
        assert_eq!(pidfd.reap(), Ok(None), "untouched by all this");
        pidfd.send(libc::SIGKILL).unwrap();
        pidfd.wait().unwrap();
    }

    #[test]
    fn creating_tells_who_was_there() {
        let Some(place) = Place::new("creating_tells_who_was_there") else { return };
        place.cgroup.create("leaf", Existing::Refuse).unwrap();
        assert!(matches!(place.cgroup.create("leaf", Existing::Refuse), Err(Errno::EXIST)));
        assert!(place.cgroup.create("leaf", Existing::Accept).is_ok());
        assert!(matches!(place.cgroup.child("other"), Err(Errno::NOENT)));
        assert!(matches!(place.cgroup.create("a/b", Existing::Accept), Err(Errno::INVAL)));
    }

    #[test]
    fn a_controller_that_is_not_there_is_not_enabled() {
        let Some(place) = Place::new("a_controller_that_is_not_there_is_not_enabled") else { return };
        assert_eq!(place.cgroup.enable("no-such"), Err(Errno::INVAL));
        let here = place.cgroup.controllers().unwrap();
        if !here.iter().any(|name| name == "memory") {
            assert_eq!(place.cgroup.enable("memory"), Err(Errno::NOENT));
        }
        for name in &here {
            place.cgroup.enable(name).unwrap();
        }
        assert_eq!(place.cgroup.subtree_control().unwrap(), here);
        for name in &here {
            place.cgroup.disable(name).unwrap();
        }
        assert!(place.cgroup.subtree_control().unwrap().is_empty());
    }

    #[test]
    fn cpu_time_is_counted_without_a_controller() {
        let Some(place) = Place::new("cpu_time_is_counted_without_a_controller") else { return };
        let (_, pidfd) = start(&place.cgroup, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
        pidfd.wait().unwrap();
        assert!(place.cgroup.usage(Counters::default()).cpu_usec.unwrap() > 0);
    }

    #[test]
    fn a_long_list_is_read_to_its_end() {
        let Some(place) = Place::new("a_long_list_is_read_to_its_end") else { return };
        let script = "i=0; while [ $i -lt 800 ]; do sleep 1000 & i=$((i+1)); done; exec sleep 1000";
        let (_, pidfd) = start(&place.cgroup, script);
        wait_for(&place.cgroup, 801);
        place.cgroup.kill().unwrap();
        pidfd.wait().unwrap();
        assert_eq!(place.cgroup.events().unwrap().wait_empty(None), Ok(true));
    }

    #[test]
    fn the_mount_is_found_in_any_mountinfo() {
        let parse = |text: &str| Mount::parse(text.as_bytes());
        let mount = |point: &str, root: &str, read_only| {
            Some(Mount { point: point.into(), root: root.into(), read_only })
        };
        assert_eq!(
            parse(
                "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
                   32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
                   41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
            ),
            mount("/sys/fs/cgroup/unified", "/", false)
        );
        assert_eq!(
            parse(
                "30 24 0:26 / /sys/fs/cgroup ro,nosuid shared:4 master:1 - cgroup2 cgroup2 rw,nsdelegate\n"
            ),
            mount("/sys/fs/cgroup", "/", true)
        );
        assert_eq!(
            parse("30 24 0:26 /../.. /sys/fs/my\\040cgroup rw - cgroup2 cgroup ro\n"),
            mount("/sys/fs/my cgroup", "/../..", true)
        );
        // One that can be written to, though it is not the last.
        assert_eq!(
            parse("1 1 0:26 / /a rw - cgroup2 cgroup2 rw\n2 1 0:26 / /b ro - cgroup2 cgroup2 rw\n"),
            mount("/a", "/", false)
        );
        assert_eq!(parse(""), None);
        assert_eq!(parse("1 1 0:26 / /a rw\n2 1 0:26 / /a rw -\n3 1 0:1 / / rw - ext4 /dev/vda rw\n"), None);
    }

    #[test]
    fn a_cgroup_is_located_below_its_mount() {
        let mount =
            |root: &str| Mount { point: "/sys/fs/cgroup".into(), root: root.into(), read_only: false };
        let located = |root, path: &str| mount(root).locate(Path::new(path));
        assert_eq!(located("/", "/"), Some("/sys/fs/cgroup".into()));
        assert_eq!(located("/", "/a/b.scope"), Some("/sys/fs/cgroup/a/b.scope".into()));
        assert_eq!(located("/docker/1", "/docker/1/x"), Some("/sys/fs/cgroup/x".into()));
        assert_eq!(located("/docker/1", "/docker/2"), None);
        assert_eq!(located("/../..", "/"), None);
        assert_eq!(located("/", "/../x"), None);
    }

    #[test]
    fn the_own_place_is_read_whatever_it_says() {
        assert_eq!(Own::parse(b"4:memory:/x\n0::/a b\n"), Own::At("/a b".into()));
        assert_eq!(Own::parse(b"0::/a (deleted)\n"), Own::Deleted("/a".into()));
        assert_eq!(Own::parse(b"0::/../x\n"), Own::Outside("/../x".into()));
        assert_eq!(Own::parse(b"4:memory:/x\n"), Own::None);
    }

    #[test]
    fn keys_are_whole_words() {
        let text = b"low 1\nhigh 2\nmax 3\noom 4\noom_kill 5\noom_group_kill 6\n";
        assert_eq!(value(text, "oom"), Some(4));
        assert_eq!(value(text, "oom_kill"), Some(5));
        assert_eq!(value(text, "kill"), None);
        assert_eq!(number(b"12\n"), Some(12));
        assert_eq!(number(b"max\n"), None);
    }
}
