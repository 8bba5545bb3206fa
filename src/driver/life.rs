//! One life as the driver holds it: the main process, the leaf, and what can be asked of and done to them.
//!
//! The leaf holds the processes of a life, but not all of them for certain: a process may move itself elsewhere
//! (`su -`, `login`, `cgexec`, a job wrapper). So the main process is always reached through its pidfd too, and what
//! is found outside every leaf ([`super::outside`]) gets the signals that are in force for its life. Where there are no
//! cgroups, every process is found that way.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::process::Pid;

use super::words;
use crate::linux::cgroup::{Cgroup, Counters};
use crate::linux::descendants::{Descendant, Identity, Mark, Wanted};
use crate::linux::pidfd::PidFd;
use crate::linux::round::{self, AndContinue, Round};
use crate::linux::sight::Sight;
use crate::supervisor::{Life, Time, Usage};

/// The variables that tell whose a process is where no cgroup does: the run, and the instance in it.
pub(super) const RUN_VARIABLE: &str = "LPM_RUN";
const INSTANCE_VARIABLE: &str = "LPM_INSTANCE";

/// What the processes of an instance of a run carry in their environment.
pub(super) fn mark(run: &str, instance: &str) -> Mark {
    let assignments = vec![format!("{RUN_VARIABLE}={run}"), format!("{INSTANCE_VARIABLE}={instance}")];
    Mark { assignments }
}

/// A life that has a process.
pub(super) struct Alive {
    pub life: Life,
    pub pid: Pid,
    pub main: PidFd,
    pub leaf: Leaf,
    /// What tells its processes from others outside the leaf.
    pub mark: Mark,
    /// Its processes that the last search through /proc found.
    pub known: Vec<Identity>,
    /// What its leaf counts.
    pub counters: Counters,
    /// The main process was reaped.
    pub exited: bool,
    /// Told to stand still, on its own and not with the whole stack.
    pub frozen: bool,
    /// The kernel refused to freeze or to thaw the leaf; it is asked again once a second.
    pub unset: bool,
    /// Processes outside the leaf that were stopped by SIGSTOP because the life is frozen.
    pub stopped: Vec<Descendant>,
    /// A signal whose round is not finished: the leaf is being frozen for it.
    pub asking: Option<Asking>,
    /// The stop signal that is in force: a process that is found outside the leaf later gets it too.
    pub asked: Option<Round>,
    /// The life is being killed: a process that is found outside the leaf later is killed, too.
    pub killed: bool,
    /// Whether the log says already that processes are outside the leaf.
    pub said_outside: bool,
    /// Whether the log says already that the leaf cannot be read.
    pub said_unseen: bool,
    /// `cgroup.events`, watched for its end or for its standing still; kept open so that the notification stays
    /// armed.
    pub events: Option<OwnedFd>,
    /// The exit of the main process is not watched: there was no room in the epoll.
    pub unwatched: bool,
    /// Watched for a ceiling that is felt.
    pub felt: Option<OwnedFd>,
    /// The master of its own terminal, which the log thread reads: for keys and sizes.
    pub terminal: Option<Arc<OwnedFd>>,
}

/// Where the processes of a life are.
pub(super) enum Leaf {
    /// Shared with the threads that look at it, off the loop.
    Cgroup(Arc<Cgroup>),
    /// Among our descendants.
    Descendants,
}

/// A signal on its way to every process of a leaf.
pub(super) struct Asking {
    round: Round,
    /// When the processes are let go, should they not all stand still by then.
    pub until: Time,
    /// It stays in force.
    lasting: bool,
}

impl Alive {
    /// Begins to send a signal to every process of the leaf, each of which gets it once; `lasting`: those found outside
    /// the leaf later get it too. Unless the main process is alone, the leaf is frozen for it, and until all stand still, at the latest `until`,
    /// [`Alive::goes_on_asking`] finds what was being forked. The first error does not keep other processes from being
    /// asked.
    pub fn ask(&mut self, mut round: Round, lasting: bool, until: Time) -> Result<(), Errno> {
        let done = self.finish_asking();
        let Leaf::Cgroup(leaf) = &self.leaf else { return done };
        if !self.exited && round.tell_one(leaf, self.pid, &self.main) {
            let outcome = round.outcome().map(|_| ());
            if lasting {
                self.asked = Some(round);
            }
            return done.and(outcome);
        }
        let frozen = leaf.freeze(true);
        self.unset = frozen.is_err();
        if !self.exited {
            round.tell(self.pid, &self.main);
        }
        round.look_until_none_is_new(leaf);
        self.asking = Some(Asking { round, until, lasting });
        done.and(frozen).and(self.goes_on_asking(Time::ZERO))
    }

    /// Looks once more for processes that have not got the signal, and lets all go if they stood still, or if it is
    /// too late to wait for that.
    pub fn goes_on_asking(&mut self, now: Time) -> Result<(), Errno> {
        let (Some(asking), Leaf::Cgroup(leaf)) = (&mut self.asking, &self.leaf) else { return Ok(()) };
        // Asked before the look: what stands still by then forks no more.
        let still = leaf.frozen() == Ok(true) || leaf.populated() == Ok(false);
        asking.round.look_until_none_is_new(leaf);
        if still || asking.until <= now { self.finish_asking() } else { Ok(()) }
    }

    /// Lets the processes go that stand still for a signal.
    pub fn finish_asking(&mut self) -> Result<(), Errno> {
        let (Some(asking), Leaf::Cgroup(leaf)) = (self.asking.take(), &self.leaf) else { return Ok(()) };
        let thawed = if self.frozen { Ok(()) } else { leaf.freeze(false) };
        self.unset = thawed.is_err();
        let outcome = asking.round.outcome().map(|_| ());
        if asking.lasting {
            self.asked = Some(asking.round);
        }
        thawed.and(outcome)
    }

    /// Stops every process of the leaf where it stands, or lets it run. Takes effect soon, not at once.
    pub fn freeze(&mut self, frozen: bool) -> Result<(), Errno> {
        let done = match &self.leaf {
            Leaf::Cgroup(leaf) => leaf.freeze(frozen),
            Leaf::Descendants => Ok(()),
        };
        self.unset = done.is_err();
        done
    }

    /// Freezes or thaws the leaf again, if the kernel refused it.
    pub fn freeze_again(&mut self) {
        if self.unset {
            // That it could not be done was said the first time.
            let _ = self.freeze(self.frozen || self.asking.is_some());
        }
    }

    /// Whether every process stands still, after it was told to. What could not be looked at does not.
    pub fn stands_still(&self) -> bool {
        let inside = match &self.leaf {
            Leaf::Cgroup(leaf) => leaf.frozen() == Ok(true) || leaf.populated() == Ok(false),
            Leaf::Descendants => true,
        };
        let still = |one: &Descendant| match Descendant::look(one.pid) {
            Ok(Sight::Seen(now)) => now.stopped || now.zombie || !now.is_same(one),
            // No process can ignore the SIGSTOP that it got.
            Ok(Sight::Hidden | Sight::Gone) => true,
            Err(_) => false,
        };
        self.frozen && inside && self.stopped.iter().all(still)
    }

    /// SIGKILL to everything in the leaf, and to the main process wherever it is. What is found outside later is
    /// killed too.
    pub fn kill(&mut self) -> Result<(), Errno> {
        self.killed = true;
        // The frozen die as well; what leaves the kernel later does so thawed.
        let finished = self.finish_asking();
        let inside = match &self.leaf {
            Leaf::Cgroup(leaf) => round::kill(leaf),
            Leaf::Descendants => Ok(()),
        };
        let main = if self.exited { Ok(true) } else { self.main.send(libc::SIGKILL) };
        finished.and(inside).and(main.map(|_| ()))
    }

    /// How its processes are known among our descendants.
    pub fn wanted(&self) -> Wanted {
        let main = (!self.exited).then_some(self.pid);
        Wanted { main, session: self.pid, mark: self.mark.clone(), known: self.known.clone() }
    }

    /// How many processes are in the leaf; zombies are in no list of it.
    ///
    /// # Errors
    /// It could not be looked at; a leaf is not empty because of that.
    pub fn left_inside(&self) -> Result<u32, Errno> {
        match &self.leaf {
            Leaf::Cgroup(leaf) => match leaf.populated()? {
                false => Ok(0),
                true => Ok(leaf.procs().map_or(1, |procs| procs.len().max(1) as u32)),
            },
            Leaf::Descendants => Ok(0),
        }
    }

    /// The processes of the leaf, as far as they can be listed.
    pub fn pids_inside(&self) -> Vec<Pid> {
        match &self.leaf {
            Leaf::Cgroup(leaf) => leaf.procs().unwrap_or_default(),
            Leaf::Descendants => Vec::new(),
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
            // Not counted; of the main process the kernel tells when it is reaped.
            Leaf::Descendants => Usage::default(),
        }
    }
}

/// A pid as people and the core write it.
pub(super) fn number(pid: Pid) -> u32 {
    pid.as_raw_pid().unsigned_abs()
}
