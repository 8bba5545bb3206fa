//! Who descends from this process, found through /proc: all there is without a cgroup, and the last look
//! before lpm returns.
//!
//! Best effort by nature: a list is old when it is read. Everybody in it is opened and looked at again
//! before a signal goes out, and the search is repeated until nobody is found. With lpm as the subreaper
//! (`PR_SET_CHILD_SUBREAPER`) nobody falls out of the family by losing a parent; which instance an orphan in
//! a session of its own came from is not to be known.

use std::collections::HashMap;
use std::io;

use procfs::process::{Process, Stat};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::Pid;

use super::pidfd::PidFd;

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
    /// Since boot, in clock ticks: with the number, an identity.
    started: u64,
}

impl Descendant {
    fn new(stat: Stat) -> Option<Descendant> {
        Some(Descendant {
            pid: Pid::from_raw(stat.pid)?,
            parent: Pid::from_raw(stat.ppid)?,
            session: stat.session,
            zombie: stat.state == 'Z',
            name: stat.comm,
            started: stat.starttime,
        })
    }

    fn look(pid: Pid) -> Option<Descendant> {
        Descendant::new(Process::new(pid.as_raw_pid()).ok()?.stat().ok()?)
    }

    /// The process itself, if it is still that: opened first, then looked at again. Who its parent is does
    /// not matter, since that may have died meanwhile.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn open(&self) -> Result<Option<PidFd>, Errno> {
        let Some(pidfd) = PidFd::open(self.pid)? else { return Ok(None) };
        let same = Descendant::look(self.pid).is_some_and(|now| now.started == self.started);
        Ok(same.then_some(pidfd))
    }
}

/// All of them, parents before their children.
///
/// # Errors
/// `/proc` cannot be read.
pub fn find() -> io::Result<Vec<Descendant>> {
    let mut children: HashMap<Pid, Vec<Descendant>> = HashMap::new();
    // Who ends while we read is left out.
    for process in procfs::process::all_processes().map_err(io::Error::other)?.flatten() {
        if let Some(found) = process.stat().ok().and_then(Descendant::new) {
            children.entry(found.parent).or_default().push(found);
        }
    }
    let mut family = children.remove(&rustix::process::getpid()).unwrap_or_default();
    let mut next = 0;
    while let Some(parent) = family.get(next) {
        family.extend(children.remove(&parent.pid).unwrap_or_default());
        next += 1;
    }
    Ok(family)
}

/// Those of `family` that belong to one main process: itself, whom it descends to, and who is in its session.
pub fn members(family: &[Descendant], main: Pid) -> Vec<&Descendant> {
    let mut pids = vec![main];
    let mut members = Vec::new();
    for one in family {
        if one.pid == main || one.session == main.as_raw_pid() || pids.contains(&one.parent) {
            pids.push(one.pid);
            members.push(one);
        }
    }
    members
}

/// SIGKILL for everybody in the family who is not spared (nor below one who is), and reap those who come
/// to us, until nobody is found. Returns whom it met alive. Gives up on who does not die within some seconds,
/// in the kernel's hands (state D).
///
/// # Errors
/// `/proc` cannot be read, or `EMFILE`.
pub fn sweep(spared: &[Pid]) -> io::Result<Vec<Descendant>> {
    const ROUNDS: usize = 8;
    const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
    let mut met: Vec<Descendant> = Vec::new();
    for _ in 0..ROUNDS {
        let family = find()?;
        let spared: Vec<Pid> = spared
            .iter()
            .flat_map(|&pid| members_below(&family, pid))
            .chain(spared.iter().copied())
            .collect();
        let mut opened = Vec::new();
        for one in family.iter().filter(|one| !spared.contains(&one.pid)) {
            let Some(pidfd) = one.open()? else { continue };
            if !one.zombie {
                // Somebody else's, by now; the others are not to suffer for it.
                let _ = pidfd.send(libc::SIGKILL);
                if !met.iter().any(|old| (old.pid, old.started) == (one.pid, one.started)) {
                    met.push(one.clone());
                }
            }
            opened.push(pidfd);
        }
        if opened.is_empty() {
            break;
        }
        for pidfd in opened {
            let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&PATIENCE));
            // ECHILD: its own parent reaps it, or we do once that is dead, in the next round.
            let _ = pidfd.reap();
        }
    }
    Ok(met)
}

/// Whether we have children besides those named. Far cheaper than [`find`], and nobody can be below us
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
        let mut pids =
            list.split_ascii_whitespace().filter_map(|word| word.parse().ok().and_then(Pid::from_raw));
        pids.any(|pid| !spared.contains(&pid))
    })
}

/// Our children, as they are now.
pub fn children() -> Vec<Pid> {
    let own = rustix::process::getpid();
    find().unwrap_or_default().into_iter().filter(|one| one.parent == own).map(|one| one.pid).collect()
}

/// Those of the family, zombies aside, whose environment held the assignment `mark` at their `execve`. That
/// is what tells whose an orphan in a session of its own is, unless it was given another environment.
pub fn marked(mark: &str) -> Vec<Descendant> {
    let has_mark = |one: &Descendant| {
        let environment =
            std::fs::read(format!("/proc/{}/environ", one.pid.as_raw_pid())).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes())
    };
    find().unwrap_or_default().into_iter().filter(|one| !one.zombie && has_mark(one)).collect()
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

fn members_below(family: &[Descendant], top: Pid) -> Vec<Pid> {
    let mut pids = vec![top];
    for one in family {
        if pids.contains(&one.parent) {
            pids.push(one.pid);
        }
    }
    pids
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    fn one(pid: i32, parent: i32, session: i32) -> Descendant {
        let [pid, parent] = [pid, parent].map(|raw| Pid::from_raw(raw).unwrap());
        Descendant { pid, parent, session, name: String::new(), zombie: false, started: 0 }
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
        let pids: Vec<i32> =
            members(&family, Pid::from_raw(10).unwrap()).iter().map(|one| one.pid.as_raw_pid()).collect();
        assert_eq!(pids, [10, 11, 12, 13]);
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
        let found = members(&family, Pid::from_child(&child));
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
        assert!(Descendant { started: found.started + 1, ..found.clone() }.open().unwrap().is_none());
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
        let met = sweep(&[Pid::from_child(&spared)]).unwrap();
        assert!(met.iter().any(|one| one.pid == Pid::from_child(&child)));
        let left: Vec<Pid> = find().unwrap().into_iter().map(|one| one.pid).collect();
        assert!(left.contains(&Pid::from_child(&spared)));
        assert_eq!(left.len(), 2, "the spared one and its child");
        sweep(&[]).unwrap();
        assert_eq!(find().unwrap(), []);
        let _ = (child.try_wait(), spared.try_wait());
    }
}
