//! Descendants: what `/proc` knows of processes that came from us.
//!
//! As a subreaper we are the parent of every orphan among them, so the tree below us is whole. Numbers read
//! from `/proc` are stale by the time they are used: whoever is signalled is opened first and looked at once
//! more through what was opened.

use std::collections::HashSet;
use std::fs;
use std::io::Read;

use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::pidfd::{self, PidFd};

/// How often the tree is looked through again for those who forked while they were being ended. Each round
/// ends everybody it finds, so only a fork bomb outside every cgroup can outlast a few.
const ROUNDS: usize = 1000;

/// Become the parent of orphans below us (`PR_SET_CHILD_SUBREAPER`, prctl(2)).
///
/// # Errors
/// None on any kernel since 3.4.
pub fn become_subreaper() -> std::io::Result<()> {
    // Any pid but none means "on"; rustix spells the flag so.
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

/// The processes below us whose environment, as it was at their `execve`, holds the assignment `mark`; no
/// zombies.
pub fn marked(mark: &str) -> Vec<u32> {
    below(own()).into_iter().filter(|&pid| is_alive(pid) && has_mark(pid, mark)).collect()
}

/// Sends `signal`, and SIGCONT, to each of them. Returns how many got it.
pub fn signal_marked(mark: &str, signal: i32) -> usize {
    let mut told = 0;
    for number in marked(mark) {
        let Some(process) = open(number) else { continue };
        // The second look: the number meant this process when it was opened only if it still means it.
        if has_mark(number, mark) && process.send(signal) == Ok(true) {
            told += 1;
            if signal != libc::SIGSTOP {
                let _ = process.send(libc::SIGCONT);
            }
        }
    }
    told
}

/// Kills and reaps everything below us but `keep` and what is below that. Returns how many there were.
/// Bounded: what sits in uninterruptible sleep is not waited for.
pub fn end_strays(keep: Option<u32>) -> u32 {
    let mut ended = HashSet::new();
    for _ in 0..ROUNDS {
        let strays: Vec<u32> =
            children(own()).into_iter().filter(|&pid| Some(pid) != keep).collect();
        if strays.is_empty() {
            break;
        }
        let mut killed = Vec::new();
        for root in strays {
            for number in std::iter::once(root).chain(below(root)) {
                let Some(process) = open(number) else { continue };
                if !is_below(number, own()) {
                    continue;
                }
                if is_alive(number) && process.send(libc::SIGKILL) == Ok(true) {
                    ended.insert(number);
                }
                killed.push(process);
            }
        }
        let before = killed.len();
        killed.retain(|process| wait_briefly(process));
        while let Some(pid) = pidfd::peek() {
            if Some(pid.as_raw_nonzero().get().unsigned_abs()) == keep {
                break;
            }
            let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
        if before > 0 && killed.is_empty() {
            // Nobody of this round ended within the patience: they will not end in the next one either.
            break;
        }
    }
    ended.len() as u32
}

/// Whether the process ended within 200 ms.
fn wait_briefly(process: &PidFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let patience = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&patience)).is_ok_and(|ready| ready > 0)
}

/// Its command line for people, blanks between the words; its name in brackets if it has none.
pub fn command_line(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|&byte| byte == 0).filter(|word| !word.is_empty()).collect();
    if !words.is_empty() {
        return String::from_utf8_lossy(&words.join(&b' ')).into_owned();
    }
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("[{}]", name.trim_end())
}

fn own() -> u32 {
    rustix::process::getpid().as_raw_nonzero().get().unsigned_abs()
}

fn open(number: u32) -> Option<PidFd> {
    PidFd::open(Pid::from_raw(number as i32)?).ok().flatten()
}

/// Everybody below `pid`, parents before their children.
fn below(pid: u32) -> Vec<u32> {
    let mut all = children(pid);
    let mut at = 0;
    while at < all.len() {
        all.extend(children(all[at]));
        at += 1;
    }
    all
}

/// The children of all threads of `pid` (`/proc/PID/task/TID/children`, proc(5)).
fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let of_thread = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("children")).ok();
    let lists = threads.flatten().filter_map(of_thread);
    lists.flat_map(|list| list.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Whether the chain of parents from `pid` leads to `ancestor`.
fn is_below(pid: u32, ancestor: u32) -> bool {
    let mut at = pid;
    // No process tree is deeper; a chain that changes while it is followed ends here.
    for _ in 0..4096 {
        match parent(at) {
            Some(parent) if parent == ancestor => return true,
            Some(parent) if parent > 1 => at = parent,
            _ => return false,
        }
    }
    false
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.1.parse().ok()
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state.as_str(), "Z" | "X" | "x"))
}

/// State and parent (proc_pid_stat(5), fields 3 and 4), counted from the last `)`, since a name may hold
/// anything.
fn stat(pid: u32) -> Option<(String, String)> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after = text.iter().rposition(|&byte| byte == b')')? + 1;
    let text = String::from_utf8_lossy(&text[after..]).into_owned();
    let mut words = text.split_ascii_whitespace().map(str::to_owned);
    Some((words.next()?, words.next()?))
}

fn has_mark(pid: u32, mark: &str) -> bool {
    // An environment is as large as ARG_MAX allows; nobody's is read further than this.
    const MOST: u64 = 4 << 20;
    let mut environment = Vec::new();
    let read = fs::File::open(format!("/proc/{pid}/environ"))
        .and_then(|file| file.take(MOST).read_to_end(&mut environment));
    read.is_ok() && environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_marked_process_is_found_and_signalled_and_others_are_not() {
        let start = |mark: &str| {
            let mut command = Command::new("/bin/sleep");
            command.arg("100").env("LPM_TEST_MARK", mark).stdin(Stdio::null()).stdout(Stdio::null());
            command.spawn().expect("sleep can be started")
        };
        let (mut one, mut other) = (start("descendants-one"), start("descendants-other"));
        assert_eq!(marked("LPM_TEST_MARK=descendants-one"), [one.id()]);
        assert_eq!(signal_marked("LPM_TEST_MARK=descendants-one", libc::SIGKILL), 1);
        one.wait().expect("it ends");
        assert_eq!(marked("LPM_TEST_MARK=descendants-one"), [0; 0]);
        assert_eq!(marked("LPM_TEST_MARK=descendants-other"), [other.id()]);
        other.kill().expect("it lives");
        other.wait().expect("it ends");
    }

    #[test]
    fn a_command_line_is_readable() {
        assert!(command_line(own()).contains("lpm"));
        assert_eq!(command_line(u32::MAX), "[]");
    }
}
