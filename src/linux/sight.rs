//! What /proc shows of a process to this user.
//!
//! Where /proc is mounted with `hidepid` (proc(5)), or a security module says so, a process of lpm's own that has become
//! another user's, or that may not be traced, is not shown: opening its files is refused, or it is not even listed. That
//! says nothing of whose it is. Its parent's list of children and its pidfd have it all the same.

use std::fs::File;
use std::io::{self, Read};
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use super::pidfd::{self, PidFd};
use super::reserve;

/// What is seen of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight<T> {
    /// This.
    Seen(T),
    /// It is there, and this user may not see it.
    Hidden,
    /// It has ended and was reaped.
    Gone,
}

/// A file of a process in /proc.
///
/// # Errors
/// `EMFILE`.
pub(super) fn open(pid: Pid, name: &str) -> Result<Sight<File>, Errno> {
    let path = format!("/proc/{}/{name}", pid.as_raw_pid());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match reserve::with(|| rustix::fs::open(&path, flags, Mode::empty())) {
        Ok(fd) => Ok(Sight::Seen(File::from(fd))),
        Err(Errno::ACCESS | Errno::PERM) => Ok(Sight::Hidden),
        Err(errno) if is_gone(errno) => absent(pid),
        Err(errno) => Err(errno),
    }
}

/// All that is in a file of a process.
///
/// # Errors
/// As [`open`], and what reading says.
pub(super) fn read(pid: Pid, name: &str) -> Result<Sight<Vec<u8>>, Errno> {
    let mut file = match open(pid, name)? {
        Sight::Seen(file) => file,
        Sight::Hidden => return Ok(Sight::Hidden),
        Sight::Gone => return Ok(Sight::Gone),
    };
    let mut text = Vec::new();
    match file.read_to_end(&mut text).map_err(|error| errno(&error)) {
        Ok(_) => Ok(Sight::Seen(text)),
        Err(Errno::ACCESS | Errno::PERM) => Ok(Sight::Hidden),
        Err(errno) if is_gone(errno) => absent(pid),
        Err(errno) => Err(errno),
    }
}

/// What it means that /proc has no such process.
fn absent<T>(pid: Pid) -> Result<Sight<T>, Errno> {
    if !hides() {
        return Ok(Sight::Gone);
    }
    Ok(match reserve::with(|| PidFd::open(pid))? {
        Some(_) => Sight::Hidden,
        None => Sight::Gone,
    })
}

/// Whether /proc may leave out processes. That is looked up once.
pub(super) fn hides() -> bool {
    static HIDES: OnceLock<bool> = OnceLock::new();
    *HIDES.get_or_init(|| std::fs::read("/proc/self/mountinfo").is_ok_and(|mounts| is_hiding(&mounts)))
}

/// `63 45 0:39 / /proc rw,relatime - proc proc rw,hidepid=invisible` (proc_pid_mountinfo(5)).
fn is_hiding(mountinfo: &[u8]) -> bool {
    let hides = |line: &[u8]| {
        let mut words = line.split(|&byte| byte == b' ');
        let point = words.nth(4);
        let options = words.skip_while(|word| *word != b"-").nth(3).unwrap_or_default();
        let hidden = options.split(|&byte| byte == b',').find_map(|option| option.strip_prefix(b"hidepid="));
        point == Some(b"/proc") && hidden.is_some_and(|value| value != b"off" && value != b"0")
    };
    mountinfo.split(|&byte| byte == b'\n').any(hides)
}

/// The children of a process, those that are hidden too, as far as the kernel lists them (CONFIG_PROC_CHILDREN) and
/// shows the process itself.
///
/// # Errors
/// `EMFILE`.
pub(super) fn children(pid: Pid) -> Result<Vec<Pid>, Errno> {
    let path = format!("/proc/{}/task", pid.as_raw_pid());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let threads = match reserve::with(|| rustix::fs::open(&path, flags, Mode::empty())) {
        Ok(threads) => rustix::fs::Dir::new(threads)?,
        Err(Errno::ACCESS | Errno::PERM) => return Ok(Vec::new()),
        Err(errno) if is_gone(errno) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    };
    let mut children = Vec::new();
    for thread in threads {
        let Ok(name) = thread?.file_name().to_str().map(str::to_owned) else { continue };
        if pidfd::number(&name).is_none() {
            continue;
        }
        if let Sight::Seen(text) = read(pid, &format!("task/{name}/children"))? {
            children.extend(numbers(&text));
        }
    }
    Ok(children)
}

/// The numbers in a list of children.
pub(super) fn numbers(text: &[u8]) -> impl Iterator<Item = Pid> {
    let words = text.split(|byte| byte.is_ascii_whitespace());
    words.filter_map(|word| std::str::from_utf8(word).ok()).filter_map(pidfd::number)
}

/// Whether the process of this pidfd has ended.
pub(super) fn has_ended(pidfd: &PidFd) -> bool {
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&none)) == Ok(1)
}

fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::SRCH)
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_says_whether_it_hides() {
        let mount =
            |options: &str| is_hiding(format!("1 2 0:3 / /proc rw - proc proc {options}\n").as_bytes());
        assert!(mount("rw,hidepid=invisible") && mount("rw,gid=7,hidepid=1") && mount("hidepid=ptraceable"));
        assert!(!mount("rw") && !mount("rw,hidepid=off") && !mount("rw,hidepid=0"));
        assert!(!is_hiding(b"1 2 0:3 / /elsewhere rw - proc proc rw,hidepid=2\n"));
        assert!(is_hiding(b"1 2 0:3 / / rw - x x rw\n1 2 0:3 / /proc rw shared:1 - proc p rw,hidepid=2"));
    }

    #[test]
    fn children_are_listed() {
        let mut child =
            std::process::Command::new("/bin/sh").args(["-c", "exec sleep 1000"]).spawn().unwrap();
        let own = rustix::process::getpid();
        // A kernel without CONFIG_PROC_CHILDREN lists none.
        let listed = std::path::Path::new("/proc/thread-self/children").exists();
        assert_eq!(children(own).unwrap().contains(&Pid::from_child(&child)), listed);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children(own).unwrap().contains(&Pid::from_child(&child)));
        assert!(matches!(open(Pid::from_child(&child), "stat"), Ok(Sight::Gone)));
    }
}
