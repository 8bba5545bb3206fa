//! What a cgroup uses now, and who is in it: for people who look, not for decisions.
//!
//! Everything is read at once and on demand. Some of it may block for a while (the command line of a process in
//! uninterruptible sleep), so that nobody may ask from a thread that others wait for.

use procfs::process::Process;
use rustix::io::Errno;
use rustix::process::Pid;

use super::cgroup::{Cgroup, Counters, Step};
use super::descendants;

/// What it uses now; `None`: not counted here.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// `memory.current`, bytes.
    pub memory_current: Option<u64>,
    /// `pids.current`, or else the lines of `cgroup.threads` here and below: processes and threads.
    pub tasks: Option<u64>,
    /// `cpu.stat`, `usage_usec`.
    pub cpu_usec: Option<u64>,
    /// `cpu.stat`, `throttled_usec`.
    pub throttled_usec: Option<u64>,
}

/// What else there is to know, in more files.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Detail {
    /// `memory.peak`, bytes.
    pub memory_peak: Option<u64>,
    /// `memory.swap.current`, bytes.
    pub swap_current: Option<u64>,
    /// `some avg10` of `cpu.pressure`: percent of the last ten seconds.
    pub cpu_pressure: Option<f64>,
    /// The same of `memory.pressure`.
    pub memory_pressure: Option<f64>,
    /// The same of `io.pressure`.
    pub io_pressure: Option<f64>,
    /// `io.stat`, `rbytes` and `wbytes` of all devices together.
    pub io: Option<(u64, u64)>,
}

/// A process of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its number.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its command line.
    pub command: String,
}

/// Three files.
pub fn load(cgroup: &Cgroup, counters: Counters) -> Load {
    let stat = cgroup.read("cpu.stat").unwrap_or_default();
    let counted = |key: &str| keyed(&stat, key);
    Load {
        memory_current: counters.memory.then(|| number(cgroup, "memory.current")).flatten(),
        tasks: tasks(cgroup, counters),
        cpu_usec: counted("usage_usec"),
        throttled_usec: counted("throttled_usec"),
    }
}

/// How many processes and threads are in it and below; in one file, where they are counted.
fn tasks(cgroup: &Cgroup, counters: Counters) -> Option<u64> {
    if counters.tasks {
        return number(cgroup, "pids.current");
    }
    let mut tasks = 0;
    let walked = each(cgroup, |one| {
        tasks += one.read("cgroup.threads")?.lines().count() as u64;
        Ok(())
    });
    walked.ok().map(|()| tasks)
}

/// The processes in a cgroup and below, as far as they can be listed.
pub fn pids(cgroup: &Cgroup) -> Vec<Pid> {
    let mut pids = Vec::new();
    let _ = each(cgroup, |one| {
        pids.extend(one.procs()?);
        Ok(())
    });
    pids.sort_unstable_by_key(|pid: &Pid| pid.as_raw_pid());
    pids.dedup();
    pids
}

/// Looks at a cgroup and everything below it; what is gone by then is left out.
fn each(cgroup: &Cgroup, mut look: impl FnMut(&Cgroup) -> Result<(), Errno>) -> Result<(), Errno> {
    cgroup.walk(|step| match step {
        Step::Into(one) => match look(one) {
            Err(Errno::NOENT | Errno::NODEV) => Ok(()),
            result => result,
        },
        Step::OutOf { .. } => Ok(()),
        Step::Refused(errno) => Err(errno),
    })
}

/// The files that a list has no room for.
pub fn detail(cgroup: &Cgroup, counters: Counters) -> Detail {
    let memory = |file: &str| counters.memory.then(|| number(cgroup, file)).flatten();
    Detail {
        memory_peak: memory("memory.peak"),
        swap_current: memory("memory.swap.current"),
        cpu_pressure: pressure(cgroup, "cpu.pressure"),
        memory_pressure: pressure(cgroup, "memory.pressure"),
        io_pressure: pressure(cgroup, "io.pressure"),
        io: cgroup.read("io.stat").ok().map(|text| (summed(&text, "rbytes="), summed(&text, "wbytes="))),
    }
}

/// These processes, each with its parent and command line; those that are gone by now are left out.
pub fn members(pids: &[Pid]) -> Vec<Member> {
    let member = |&pid: &Pid| {
        let stat = Process::new(pid.as_raw_pid()).and_then(|process| process.stat()).ok()?;
        Some(Member {
            pid: pid.as_raw_pid().unsigned_abs(),
            parent: stat.ppid.unsigned_abs(),
            command: descendants::command_line(pid),
        })
    };
    pids.iter().filter_map(member).collect()
}

fn number(cgroup: &Cgroup, file: &str) -> Option<u64> {
    cgroup.read(file).ok()?.trim().parse().ok()
}

#[doc(hidden)]
pub fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    line.trim().parse().ok()
}

/// `8:0 rbytes=1 wbytes=2 …`, a line for each device; none where nothing was read or written.
#[doc(hidden)]
pub fn summed(text: &str, key: &str) -> u64 {
    text.split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

/// `some avg10=0.12 avg60=…` (cgroup-v2.rst, psi.rst).
fn pressure(cgroup: &Cgroup, file: &str) -> Option<f64> {
    let text = cgroup.read(file).ok()?;
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ').find_map(|word| word.strip_prefix("avg10=")).and_then(|text| text.parse().ok())
}
