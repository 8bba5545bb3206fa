//! Processes that descend from this one, found through /proc: all there is without a cgroup, what finds a process that
//! left its leaf, and the last look before lpm ends.
//!
//! Best effort by nature: a list is old when it is read. Each process in it is opened and looked at again before a
//! signal goes out. With lpm as the subreaper (`PR_SET_CHILD_SUBREAPER`) no process falls out of the family by losing
//! its parent.
//!
//! A process that could not be looked at for want of descriptors or memory is an error here and never one that is gone.
//! One that /proc hides from this user ([`super::sight`]) is found as a child of its parent, and counts like any other.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use procfs::process::Process;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions};
use rustix::time::{ClockId, clock_gettime};

use super::pidfd::{self, PidFd};
use super::reserve;
use super::sight::{self, Sight};

/// A process below ours, as it was when it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descendant {
    /// Its number.
    pub pid: Pid,
    /// Its parent's; ours, for a child and for an orphan.
    pub parent: Pid,
    /// The number of its session.
    pub session: i32,
    /// The kernel's name for it (proc_pid_comm(5)).
    pub name: String,
    /// Dead, and not reaped yet.
    pub zombie: bool,
    /// In uninterruptible sleep (state D): no signal ends it before it wakes.
    pub uninterruptible: bool,
    /// Stopped by a signal (state T).
    pub stopped: bool,
    /// With the number, an identity.
    start: Start,
}

/// What tells a process from another one that has its number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Start {
    /// When it was started, in clock ticks since boot.
    At(u64),
    /// Not shown: the inode of its pidfd, which is its own (Linux 6.9). Before, all have the same.
    Hidden(u64),
}

impl Descendant {
    /// Reads `/proc/PID/stat` (proc_pid_stat(5)). `None` for a process without a parent here, and for what is no such
    /// text: procfs panics at a text that is cut, which a file system in the place of /proc may have (lxcfs).
    #[doc(hidden)]
    pub fn parse(stat: &[u8]) -> Option<Descendant> {
        // The name may hold parentheses, blanks and newlines.
        let (begin, end) = (memchr::memchr(b'(', stat)?, memchr::memrchr(b')', stat)?);
        let name = String::from_utf8_lossy(stat.get(begin + 1..end)?).into_owned();
        let pid = pidfd::number(std::str::from_utf8(&stat[..begin]).ok()?)?;
        let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = pidfd::number(fields.next()?)?;
        // Behind the process group.
        let session = fields.nth(1)?.parse().ok()?;
        // The 22nd of all fields; the session is the 6th.
        let started = fields.nth(15)?.parse().ok()?;
        Some(Descendant {
            pid,
            parent,
            session,
            zombie: matches!(state, "Z" | "X"),
            uninterruptible: state == "D",
            stopped: state == "T",
            name,
            start: Start::At(started),
        })
    }

    /// What /proc says of a process now. One that it does not describe (its parent is outside of our PID namespace) is
    /// gone.
    ///
    /// # Errors
    /// What opening says (`EMFILE`).
    pub fn look(pid: Pid) -> Result<Sight<Descendant>, Errno> {
        Ok(match sight::read(pid, "stat")? {
            Sight::Seen(text) => Descendant::parse(&text).map_or(Sight::Gone, Sight::Seen),
            Sight::Hidden => Sight::Hidden,
            Sight::Gone => Sight::Gone,
        })
    }

    /// A child of `parent` that /proc hides, as far as it is known all the same; `None` if it is gone.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn hidden(pid: Pid, parent: Pid) -> Result<Option<Descendant>, Errno> {
        let Some(pidfd) = reserve::with(|| PidFd::open(pid))? else { return Ok(None) };
        let inode = rustix::fs::fstat(&pidfd)?.st_ino;
        let session = match rustix::process::getsid(Some(pid)) {
            Ok(session) => session.as_raw_pid(),
            Err(Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        Ok(Some(Descendant {
            pid,
            parent,
            session,
            name: "hidden by /proc".to_owned(),
            zombie: sight::has_ended(&pidfd),
            uninterruptible: false,
            stopped: false,
            start: Start::Hidden(inode),
        }))
    }

    /// The process itself, if it is still that: opened first, then looked at again. Who its parent is does
    /// not matter, since that may have died meanwhile; but a hidden one must be the child of the same parent, or ours.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn open(&self) -> Result<Option<PidFd>, Errno> {
        let Some(pidfd) = PidFd::open(self.pid)? else { return Ok(None) };
        let same = match (Descendant::look(self.pid)?, self.start) {
            (Sight::Seen(now), Start::At(_)) => now.start == self.start,
            (Sight::Gone, _) => false,
            // It was found by its parent alone, or has been hidden since (it executed a set-user-ID program).
            (Sight::Seen(_) | Sight::Hidden, start) => {
                let inode = rustix::fs::fstat(&pidfd)?.st_ino;
                let parents = [self.parent, rustix::process::getpid()];
                let mut listed = false;
                for parent in parents {
                    listed = listed || sight::children(parent)?.contains(&self.pid);
                }
                listed && !matches!(start, Start::Hidden(before) if before != inode)
            }
        };
        Ok(same.then_some(pidfd))
    }

    /// Whether it was certainly started before a moment, in ticks since boot; one of the same tick was not.
    pub fn started_before(&self, moment: u64) -> bool {
        match self.start {
            Start::At(started) => started < moment,
            Start::Hidden(_) => false,
        }
    }

    /// Whether it was certainly started after a moment, in ticks since boot; one of the same tick was not.
    pub fn started_after(&self, moment: u64) -> bool {
        match self.start {
            Start::At(started) => started > moment,
            Start::Hidden(_) => false,
        }
    }

    /// What tells it from every other process.
    pub fn identity(&self) -> Identity {
        Identity { pid: self.pid, start: self.start }
    }

    /// Whether it is the same process as another one that was found at another time.
    pub fn is_same(&self, other: &Descendant) -> bool {
        self.identity() == other.identity()
    }
}

/// A number of a process, and what tells it from another one that has that number later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    pid: Pid,
    start: Start,
}

/// Now, in the kernel's ticks since boot, as the start of a process is given (proc_pid_stat(5)).
pub fn ticks() -> u64 {
    /// USER_HZ, which is the same on every machine that Rust runs Linux on.
    const PER_SECOND: u64 = 100;
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanoseconds) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    seconds * PER_SECOND + nanoseconds * PER_SECOND / 1_000_000_000
}

/// All of them, parents before their children.
///
/// # Errors
/// /proc cannot be read, `EMFILE`.
pub fn find() -> Result<Vec<Descendant>, Errno> {
    let mut children: HashMap<Pid, Vec<Descendant>> = HashMap::new();
    let mut some_are_hidden = sight::hides();
    for pid in numbers()? {
        match Descendant::look(pid)? {
            Sight::Seen(found) => children.entry(found.parent).or_default().push(found),
            Sight::Hidden => some_are_hidden = true,
            // What has ended since is left out.
            Sight::Gone => {}
        }
    }
    let mut family: Vec<Descendant> = Vec::new();
    let (mut parent, mut next) = (rustix::process::getpid(), 0);
    loop {
        let mut of_parent = children.remove(&parent).unwrap_or_default();
        if some_are_hidden {
            add_hidden(parent, &mut of_parent)?;
        }
        family.append(&mut of_parent);
        let Some(one) = family.get(next) else { return Ok(family) };
        (parent, next) = (one.pid, next + 1);
    }
}

/// Adds the children that /proc did not show. What is below a hidden process cannot be found, but comes to us with its
/// end.
fn add_hidden(parent: Pid, known: &mut Vec<Descendant>) -> Result<(), Errno> {
    for pid in sight::children(parent)? {
        if known.iter().any(|one| one.pid == pid) {
            continue;
        }
        match Descendant::look(pid)? {
            Sight::Seen(one) if one.parent == parent => known.push(one),
            Sight::Hidden => known.extend(Descendant::hidden(pid, parent)?),
            Sight::Seen(_) | Sight::Gone => {}
        }
    }
    Ok(())
}

/// The numbers of all processes that can be seen.
fn numbers() -> Result<Vec<Pid>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = reserve::with(|| rustix::fs::open("/proc", flags, Mode::empty()))?;
    let mut numbers = Vec::new();
    for entry in rustix::fs::Dir::new(proc)? {
        numbers.extend(entry?.file_name().to_str().ok().and_then(pidfd::number));
    }
    Ok(numbers)
}

/// How the processes of one life are told from others where no cgroup tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Assignments that its processes were all executed with. They name run and instance, so that an instance of
    /// the same name in a stack within the stack is another one.
    pub assignments: Vec<String>,
}

impl Mark {
    /// Which of these lives has all its assignments in the environment that a process was executed with. `None` also if
    /// that cannot be read: of another user, or gone.
    ///
    /// # Errors
    /// `EMFILE`.
    fn found_on(pid: Pid, wanted: &[Wanted]) -> Result<Option<usize>, Errno> {
        // Bounded by the kernel: arguments and environment together have less than 6 MiB (execve(2)).
        let Sight::Seen(environment) = sight::read(pid, "environ")? else { return Ok(None) };
        let entries: HashSet<&[u8]> = environment.split(|&byte| byte == 0).collect();
        let has = |mark: &Mark| mark.assignments.iter().all(|one| entries.contains(one.as_bytes()));
        Ok(wanted.iter().position(|one| has(&one.mark)))
    }
}

/// A life whose processes are searched for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its main process, while that was not reaped; from then on its number, the session's, may be another process's.
    pub main: Option<Pid>,
    /// The session that it leads or led.
    pub session: Pid,
    /// What its processes carry.
    pub mark: Mark,
    /// Processes that were found to be its own before.
    pub known: Vec<Identity>,
}

/// What belongs to no wanted life.
#[derive(Debug, Clone, Default)]
pub struct Others {
    /// Main processes, those of the wanted may be among them, and other children of ours.
    pub children: HashSet<Pid>,
    /// Processes that were found to be another life's before.
    pub known: HashSet<Identity>,
}

/// What was found of lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// The processes of each, in the order of the wanted.
    pub of_each: Vec<Vec<Descendant>>,
    /// There is a process that could not be looked at, which may belong to any of them.
    pub doubt: bool,
}

/// The processes of `family`, zombies aside, that belong to each of these lives: its main process, those in the session
/// that this leads or led, those that carry its mark, and what descends from any of them. What others have, and what
/// descends from that, belongs to other lives.
///
/// # Errors
/// `EMFILE`.
pub fn members(family: &[Descendant], wanted: &[Wanted], others: &Others) -> Result<Members, Errno> {
    let (mut mains, mut sessions, mut known) = (HashMap::new(), HashMap::new(), HashMap::new());
    for (at, one) in wanted.iter().enumerate() {
        mains.extend(one.main.map(|main| (main, at)));
        known.extend(one.known.iter().map(|&known| (known, at)));
        let reused = one.main.is_none() && family.iter().any(|process| process.pid == one.session);
        if !reused {
            sessions.insert(one.session.as_raw_pid(), at);
        }
    }
    let mut owners: HashMap<Pid, Owner> = HashMap::new();
    let mut found = Members { of_each: vec![Vec::new(); wanted.len()], doubt: false };
    // Parents come before their children.
    for one in family {
        let above = owners.get(&one.parent).copied();
        let owner = match (mains.get(&one.pid), above) {
            (Some(&at), _) => Some(Owner::Wanted(at)),
            (None, Some(Owner::Another)) => Some(Owner::Another),
            (None, _) if others.children.contains(&one.pid) || others.known.contains(&one.identity()) => {
                Some(Owner::Another)
            }
            (None, above) => {
                let led = sessions.get(&one.session).or(known.get(&one.identity()));
                match led.map(|&at| Owner::Wanted(at)).or(above) {
                    None if one.zombie => None,
                    // Reading the environment of a process in uninterruptible sleep may wait for it. It sleeps so
                    // while it waits for a child of vfork(2) to execute a program, too.
                    None if one.uninterruptible => {
                        found.doubt = true;
                        None
                    }
                    None => Mark::found_on(one.pid, wanted)?.map(Owner::Wanted),
                    owner => owner,
                }
            }
        };
        owners.extend(owner.map(|owner| (one.pid, owner)));
        if let Some(Owner::Wanted(at)) = owner
            && !one.zombie
        {
            found.of_each[at].push(one.clone());
        }
    }
    Ok(found)
}

/// Whose a process is.
#[derive(Debug, Clone, Copy)]
enum Owner {
    /// One of the wanted lives.
    Wanted(usize),
    /// A life that is not wanted, or none.
    Another,
}

/// How long a sweep waits for what it killed.
const SWEEP: Duration = Duration::from_secs(4);

/// What a sweep met.
#[derive(Debug, Default)]
pub struct Swept {
    /// Processes that were alive, and are dead now.
    pub killed: Vec<Descendant>,
    /// Processes that live on, and why: what the kernel said to the signal, or nothing where they did not die of it
    /// in time.
    pub left: Vec<(Descendant, Option<Errno>)>,
}

/// SIGKILL for every process of the family that is not spared (nor below one that is), again and again until none is
/// found, and reaps those that come to us. Gives up after some seconds.
///
/// # Errors
/// /proc cannot be read, or `EMFILE`.
#[expect(
    clippy::disallowed_methods,
    reason = "bounds the wait for the kernel, after the last event of the run"
)]
pub fn sweep(spared: &[Pid]) -> Result<Swept, Errno> {
    // Orphans of what was just killed come to us as zombies.
    const LAST_ROUNDS: usize = 3;
    let until = Instant::now() + SWEEP;
    let mut last_rounds = LAST_ROUNDS;
    let mut met: Vec<(Descendant, Option<Errno>)> = Vec::new();
    loop {
        let family = find()?;
        let spared: HashSet<Pid> = spared.iter().flat_map(|&pid| members_below(&family, pid)).collect();
        let mut opened = Vec::new();
        let mut left = false;
        for one in family.iter().filter(|one| !spared.contains(&one.pid)) {
            let Some(pidfd) = reserve::with(|| one.open())? else { continue };
            if !one.zombie {
                let refused = pidfd.send(libc::SIGKILL).err();
                left = true;
                match met.iter_mut().find(|(known, _)| known.is_same(one)) {
                    Some((_, why)) => *why = refused,
                    None => met.push((one.clone(), refused)),
                }
            }
            opened.push(pidfd);
            // Those further down come in a later round; descriptors are few.
            if opened.len() == 64 {
                break;
            }
        }
        if opened.is_empty() {
            break;
        }
        for pidfd in &opened {
            let rest = until.saturating_duration_since(Instant::now()).min(Duration::from_millis(250));
            let rest = Timespec { tv_sec: 0, tv_nsec: i64::from(rest.subsec_nanos()) };
            let _ = poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&rest));
            // ECHILD: its own parent reaps it, or we do once that is dead, in the next round.
            let _ = pidfd.reap();
        }
        last_rounds = if left { LAST_ROUNDS } else { last_rounds - 1 };
        if Instant::now() >= until || last_rounds == 0 {
            break;
        }
    }
    let family = find()?;
    let lives = |one: &Descendant| family.iter().any(|now| now.is_same(one) && !now.zombie);
    let (left, killed): (Vec<_>, Vec<_>) = met.into_iter().partition(|(one, _)| lives(one));
    Ok(Swept { killed: killed.into_iter().map(|(one, _)| one).collect(), left })
}

/// Our own children that the kernel lists for the main thread: those it started, and orphans, which come to the first
/// thread that lives. `None` if the kernel does not tell (without CONFIG_PROC_CHILDREN).
///
/// # Errors
/// `EMFILE`.
pub fn orphans() -> Result<Option<Vec<Pid>>, Errno> {
    let own = rustix::process::getpid();
    let Sight::Seen(file) = sight::open(own, &format!("task/{}/children", own.as_raw_pid()))? else {
        return Ok(None);
    };
    let mut text = Vec::with_capacity(4096);
    // As often as there is room left: this is asked at each exit, and most often there is one number.
    while rustix::io::retry_on_intr(|| rustix::io::read(&file, rustix::buffer::spare_capacity(&mut text)))?
        > 0
    {
        if text.len() < 256 {
            break;
        }
        text.reserve(4096);
    }
    Ok(Some(sight::numbers(&text).collect()))
}

/// Whether a child of ours has ended and was not reaped; so has one that is gone. Asks no file.
pub fn has_ended(child: Pid) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match rustix::process::waitid(WaitId::Pid(child), options) {
        Ok(status) => status.is_some(),
        Err(errno) => errno == Errno::CHILD,
    }
}

/// The cgroup that a process is in, as its `/proc/PID/cgroup` names it for version 2.
///
/// # Errors
/// `EMFILE`.
pub fn cgroup_of(pid: Pid) -> Result<Sight<Vec<u8>>, Errno> {
    let text = match sight::read(pid, "cgroup")? {
        Sight::Seen(text) => text,
        Sight::Hidden => return Ok(Sight::Hidden),
        Sight::Gone => return Ok(Sight::Gone),
    };
    let line = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::"));
    Ok(Sight::Seen(line.unwrap_or_default().to_vec()))
}

/// Whether we have children besides those named. Far cheaper than [`find`], and no process can be below us
/// without one, since orphans come to us.
pub fn have_children_besides(spared: &[Pid]) -> bool {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return true };
    threads.flatten().any(|thread| {
        let list = match std::fs::read_to_string(thread.path().join("children")) {
            Ok(list) => list,
            // The thread is gone, and its children are another's.
            Err(_) if !thread.path().exists() => return false,
            // Without this file (CONFIG_PROC_CHILDREN) it has to be found out the long way.
            Err(_) => return true,
        };
        let mut pids = list.split_ascii_whitespace().filter_map(pidfd::number);
        pids.any(|pid| !spared.contains(&pid))
    })
}

/// Our children, as they are now.
///
/// # Errors
/// /proc cannot be read, `EMFILE`.
pub fn children() -> Result<Vec<Pid>, Errno> {
    let own = rustix::process::getpid();
    Ok(find()?.into_iter().filter(|one| one.parent == own).map(|one| one.pid).collect())
}

/// Its command line for people, blanks between the words; the kernel's name for it in brackets if it has
/// none.
pub fn command_line(pid: Pid) -> String {
    let Ok(process) = Process::new(pid.as_raw_pid()) else { return "gone".to_owned() };
    match process.cmdline() {
        Ok(words) if !words.is_empty() => words.join(" "),
        _ => process.stat().map_or("gone".to_owned(), |stat| format!("[{}]", stat.comm)),
    }
}

fn members_below(family: &[Descendant], top: Pid) -> HashSet<Pid> {
    let mut pids = HashSet::from([top]);
    for one in family {
        if pids.contains(&one.parent) {
            pids.insert(one.pid);
        }
    }
    pids
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn a_stat_file_that_is_cut_or_odd_is_no_process_and_no_panic() {
        let rest = "S 1 42 7 0 -1 4194560 1 0 0 0 3 4 0 0 20 0 1 0 12345 1000 100\n";
        let whole = format!("42 (a) R 1 (b) {rest}");
        let found = Descendant::parse(whole.as_bytes()).expect("a process");
        assert_eq!((found.name.as_str(), found.session, found.start), ("a) R 1 (b", 7, Start::At(12345)));
        assert_eq!(Descendant::parse(b"42 (\xff) S 1 42 7").map(|one| one.name), None);
        for length in 0..whole.len() - " 1000 100\n".len() - 5 {
            assert_eq!(Descendant::parse(&whole.as_bytes()[..length]), None, "{length}");
        }
        for odd in ["(a) ", "42 )(", "42 \u{e9}(a) ", "-42 (a) ", ") 42 (a"] {
            let text = format!("{odd}{rest}");
            assert_eq!(Descendant::parse(text.as_bytes()), None, "{text}");
        }
        let parent = whole.replace("S 1 ", "S -1 ");
        assert_eq!(Descendant::parse(parent.as_bytes()), None);
    }

    fn one(pid: i32, parent: i32, session: i32) -> Descendant {
        let [pid, parent] = [pid, parent].map(|raw| Pid::from_raw(raw).unwrap());
        Descendant {
            pid,
            parent,
            session,
            name: String::new(),
            zombie: false,
            uninterruptible: false,
            stopped: false,
            start: Start::At(0),
        }
    }

    /// A mark that no process of these tests carries.
    fn unmarked() -> Mark {
        Mark { assignments: vec!["LPM_TEST_MARK=none".to_owned()] }
    }

    #[test]
    fn members_are_by_descent_or_by_session() {
        let family = [
            one(10, 1, 10),
            one(20, 1, 20),
            one(11, 10, 11),
            one(12, 11, 12),
            one(13, 1, 10),
            one(30, 1, 30),
        ];
        let main = Pid::from_raw(10).unwrap();
        let found = |wanted: &[Wanted], others: &[i32]| -> Vec<Vec<i32>> {
            let children = others.iter().map(|&raw| Pid::from_raw(raw).unwrap()).collect();
            let members = members(&family, wanted, &Others { children, ..Others::default() }).unwrap();
            assert!(!members.doubt);
            members.of_each.iter().map(|of| of.iter().map(|one| one.pid.as_raw_pid()).collect()).collect()
        };
        let one = wanted(Some(main), main);
        assert_eq!(found(std::slice::from_ref(&one), &[]), [[10, 11, 12, 13]]);
        let alone = found(std::slice::from_ref(&one), &[11]);
        assert_eq!(alone, [[10, 13]], "what another life has, and what is below it");
        // Several at once, whose main processes are others to each other.
        let pid = |raw| Pid::from_raw(raw).unwrap();
        let several = [one, wanted(Some(pid(11)), pid(11)), wanted(None, pid(20)), wanted(None, pid(40))];
        let expected: [&[i32]; 4] = [&[10, 13], &[11, 12], &[], &[]];
        assert_eq!(found(&several, &[10, 11, 30]), expected, "20 is another process by now");
    }

    fn wanted(main: Option<Pid>, session: Pid) -> Wanted {
        Wanted { main, session, mark: unmarked(), known: Vec::new() }
    }

    /// A shell that starts a program with vfork(2) was taken for another life's, and its life for one that is over.
    #[test]
    fn a_process_in_uninterruptible_sleep_is_known_or_in_doubt() {
        let sleeps = Descendant { uninterruptible: true, ..one(13, 1, 13) };
        let found = |wanted: &[Wanted], others: &Others| {
            members(&[one(10, 1, 10), sleeps.clone(), one(14, 13, 13)], wanted, others).unwrap()
        };
        let main = Pid::from_raw(10).unwrap();
        let none = Others::default();
        let doubt = found(&[wanted(Some(main), main)], &none);
        assert_eq!((doubt.of_each[0].len(), doubt.doubt), (1, true));
        let known = Wanted { known: vec![sleeps.identity()], ..wanted(Some(main), main) };
        let found_again = found(&[known], &none);
        assert_eq!((found_again.of_each[0].len(), found_again.doubt), (3, false));
        let others = Others { known: HashSet::from([sleeps.identity()]), ..Others::default() };
        let anothers = found(&[wanted(Some(main), main)], &others);
        assert_eq!((anothers.of_each[0].len(), anothers.doubt), (1, false));
    }

    #[test]
    fn children_and_grandchildren_are_found() {
        let mut child = Command::new("/bin/sh")
            .args(["-c", "sleep 1000 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let grandchild = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        let family = find().unwrap();
        let main = Pid::from_child(&child);
        let found =
            members(&family, &[wanted(Some(main), main)], &Others::default()).unwrap().of_each.remove(0);
        assert_eq!(
            found.iter().map(|one| one.pid).collect::<Vec<_>>(),
            [Pid::from_child(&child), grandchild]
        );
        for one in found {
            one.open().unwrap().unwrap().send(libc::SIGKILL).unwrap();
        }
        child.wait().unwrap();
    }

    #[test]
    fn another_process_of_that_number_is_not_opened() {
        let mut child = Command::new("/bin/sh").args(["-c", "exec sleep 1000"]).spawn().unwrap();
        let family = find().unwrap();
        let found = family.iter().find(|one| one.pid == Pid::from_child(&child)).unwrap();
        assert!(found.open().unwrap().is_some());
        assert!(Descendant { start: Start::At(1), ..found.clone() }.open().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.open().unwrap().is_none());
    }

    #[test]
    fn the_last_sweep_leaves_nobody() {
        // In a process of its own, since it takes everybody; the harness's other tests have children too.
        let exe = std::env::current_exe().unwrap();
        let status = Command::new(exe)
            .args(["--exact", "linux::descendants::tests::sweeping", "--ignored", "--test-threads=1"])
            .env("LPM_TEST_SWEEP", "1")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
    }

    #[test]
    #[ignore = "run by the_last_sweep_leaves_nobody"]
    #[expect(clippy::disallowed_methods, reason = "tells whether it was started by the other test")]
    fn sweeping() {
        if std::env::var_os("LPM_TEST_SWEEP").is_none() {
            return;
        }
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let script = "trap '' TERM; setsid sleep 1000 & (setsid sh -c 'sleep 1000 & sleep 1000; :' &); sleep 1000 & echo; wait";
        let mut child = Command::new("/bin/sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let mut spared = Command::new("/bin/sh")
            .args(["-c", "sleep 1000 & echo; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        BufReader::new(spared.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let swept = sweep(&[Pid::from_child(&spared)]).unwrap();
        assert_eq!(swept.left, []);
        assert!(swept.killed.iter().any(|one| one.pid == Pid::from_child(&child)));
        let left: Vec<Pid> = find().unwrap().into_iter().map(|one| one.pid).collect();
        assert!(left.contains(&Pid::from_child(&spared)));
        assert_eq!(left.len(), 2, "the spared one and its child");
        sweep(&[]).unwrap();
        assert_eq!(find().unwrap(), []);
        let _ = (child.try_wait(), spared.try_wait());
    }
}
