//! Who is still there. A claim and all that it starts carry a tag in their environment, which survives
//! daemons, new sessions and scopes; a process that clears its environment escapes this look, and is left
//! to the look at the cgroups.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{cgroups, waiting};

/// The environment variable that marks what a claim started.
pub const TAG: &str = "LPM_VM_TAG";

/// A process as it was seen.
pub struct Process {
    /// Its number, good for looking, not for killing.
    pub pid: i32,
    /// Its arguments, blanks between them.
    pub command: String,
    /// Its cgroup; empty if it left in the meantime.
    pub cgroup: PathBuf,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} in {}", self.pid, self.command, self.cgroup.display())
    }
}

fn own_tag() -> String {
    std::env::var(TAG).expect("the harness tags every claim")
}

/// The living processes that carry this claim's tag, but for the claim itself.
pub fn tagged() -> Vec<Process> {
    tagged_with(&own_tag())
}

/// The living processes that carry a tag, but for the one that asks. A zombie has no environment, and
/// somebody else's cannot be read: neither is seen.
pub fn tagged_with(tag: &str) -> Vec<Process> {
    let wanted = format!("{TAG}={tag}");
    let carries = |pid: i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    all().filter(|&pid| pid != std::process::id() as i32 && carries(pid)).map(seen).collect()
}

/// The living processes whose arguments contain `text`, whoever they belong to.
pub fn with_command(text: &str) -> Vec<Process> {
    all().map(seen).filter(|process| process.command.contains(text)).collect()
}

/// Waits until nothing of this claim is left; panics with the list of what is.
#[track_caller]
pub fn gone(within: Duration) {
    let deadline = Instant::now() + within;
    loop {
        let survivors = tagged();
        if survivors.is_empty() {
            return;
        }
        let list: String = survivors.iter().map(|process| format!("\n  {process}")).collect();
        assert!(Instant::now() < deadline, "left after {within:?}:{list}");
        waiting::pause();
    }
}

/// Kills what [`tagged`] sees.
pub fn kill_tagged() {
    kill_tagged_with(&own_tag());
}

/// Kills them, each through a pidfd and only if the tag is seen again behind it.
pub fn kill_tagged_with(tag: &str) {
    for process in tagged_with(tag) {
        let Some(pid) = Pid::from_raw(process.pid) else { continue };
        let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if tagged_with(tag).iter().any(|again| again.pid == process.pid) {
            let _gone_already = pidfd_send_signal(fd, Signal::KILL);
        }
    }
}

fn all() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn seen(pid: i32) -> Process {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&arguments).replace('\0', " ").trim_end().to_owned();
    Process { pid, command, cgroup: cgroups::of(pid).unwrap_or_default() }
}
