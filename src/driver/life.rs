//! One life as the driver holds it: the main process, the leaf, and what can be asked of and done to them.
//!
//! Where there are no cgroups the leaf is made up: the processes among our descendants that carry the
//! instance's name in their environment. That is the best that can be had there, and no more.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::Pid;

use super::words;
use crate::linux::cgroup::{AndContinue, Cgroup, Counters};
use crate::linux::descendants;
use crate::linux::pidfd::PidFd;
use crate::supervisor::{Life, Usage};

/// The variable that tells whose a process is, where no cgroup does.
pub(super) const INSTANCE_VARIABLE: &str = "LPM_INSTANCE";

/// A life that has a process.
pub(super) struct Alive {
    pub life: Life,
    pub pid: Pid,
    pub main: PidFd,
    pub leaf: Leaf,
    /// What its leaf counts.
    pub counters: Counters,
    /// The main process was reaped.
    pub exited: bool,
    /// Told to stand still, on its own and not with the whole stack.
    pub frozen: bool,
    /// `cgroup.events`, watched for its end or for its standing still; kept open so that the notification stays
    /// armed.
    pub events: Option<OwnedFd>,
    /// Watched for a ceiling that is felt.
    pub felt: Option<OwnedFd>,
    /// The master of its own terminal, which the log thread reads: for keys and sizes.
    pub terminal: Option<Arc<OwnedFd>>,
}

/// Where the processes of a life are.
pub(super) enum Leaf {
    /// Shared with whoever looks at it, off the loop.
    Cgroup(Arc<Cgroup>),
    Descendants {
        mark: String,
    },
}

impl Alive {
    /// Sends `signal` to every process, and SIGCONT if a stopped one is to act on it.
    pub fn signal_all(&self, signal: i32, and_continue: AndContinue) -> Result<(), Errno> {
        let main = (!self.exited).then_some((self.pid, &self.main));
        match &self.leaf {
            Leaf::Cgroup(leaf) => leaf.signal_all(signal, and_continue, main).map(|_| ()),
            Leaf::Descendants { mark } => {
                let told = main.map_or(Ok(()), |_| self.signal_main(signal, and_continue));
                signal_marked(mark, signal, and_continue, main.map(|(pid, _)| pid));
                told
            }
        }
    }

    /// Stops every process where it stands, or lets it go on. In a cgroup that takes effect soon and not at
    /// once; without one it is done by SIGSTOP, which a process can see and a parent undo.
    pub fn freeze(&self, frozen: bool) -> Result<(), Errno> {
        match &self.leaf {
            Leaf::Cgroup(leaf) => leaf.freeze(frozen),
            Leaf::Descendants { .. } => {
                let signal = if frozen { libc::SIGSTOP } else { libc::SIGCONT };
                self.signal_all(signal, AndContinue::No)
            }
        }
    }

    /// Whether every process stands still, after it was told to. Without a cgroup nobody could tell, and it is
    /// believed.
    pub fn stands_still(&self) -> bool {
        match &self.leaf {
            Leaf::Cgroup(leaf) => leaf.frozen().unwrap_or(false),
            Leaf::Descendants { .. } => self.frozen,
        }
    }

    /// SIGKILL to everything.
    pub fn kill(&self) -> Result<(), Errno> {
        match &self.leaf {
            Leaf::Cgroup(leaf) => leaf.kill(),
            Leaf::Descendants { mark } => {
                let killed = if self.exited { Ok(true) } else { self.main.send(libc::SIGKILL) };
                signal_marked(mark, libc::SIGKILL, AndContinue::No, None);
                killed.map(|_| ())
            }
        }
    }

    /// How many processes there are, the main one not counted once it was reaped.
    pub fn left(&self) -> u32 {
        match &self.leaf {
            // Zombies are listed in no cgroup and keep none populated.
            Leaf::Cgroup(leaf) => match leaf.populated() {
                Ok(false) => 0,
                Ok(true) => leaf.procs().map_or(1, |procs| procs.len().max(1) as u32),
                // It could not be seen (EMFILE); a leaf is not empty because of that.
                Err(_) => 1,
            },
            Leaf::Descendants { mark } => descendants::marked(mark).len() as u32,
        }
    }

    /// Who is there.
    pub fn pids(&self) -> Vec<Pid> {
        match &self.leaf {
            Leaf::Cgroup(leaf) => leaf.procs().unwrap_or_default(),
            Leaf::Descendants { mark } => descendants::marked(mark).iter().map(|one| one.pid).collect(),
        }
    }

    /// Sends `signal` to the main process, and SIGCONT if it is to act on it even though it was stopped.
    pub fn signal_main(&self, signal: i32, and_continue: AndContinue) -> Result<(), Errno> {
        self.main.send(signal)?;
        if and_continue == AndContinue::Yes {
            self.main.send(libc::SIGCONT)?;
        }
        Ok(())
    }

    /// What it has used so far.
    pub fn usage(&self) -> Usage {
        match &self.leaf {
            Leaf::Cgroup(leaf) => words::usage(&leaf.usage(self.counters)),
            // Nobody counts; of the main process the kernel tells when it is reaped.
            Leaf::Descendants { .. } => Usage::default(),
        }
    }
}

/// Signals everybody who carries the mark but `told`, who was told already, each through a pidfd after a
/// second look.
fn signal_marked(mark: &str, signal: i32, and_continue: AndContinue, told: Option<Pid>) {
    for one in descendants::marked(mark).iter().filter(|one| Some(one.pid) != told) {
        if let Ok(Some(pidfd)) = one.open() {
            let _ = pidfd.send(signal);
            if and_continue == AndContinue::Yes {
                let _ = pidfd.send(libc::SIGCONT);
            }
        }
    }
}

/// A pid as people and the core write it.
pub(super) fn number(pid: Pid) -> u32 {
    pid.as_raw_pid().unsigned_abs()
}
