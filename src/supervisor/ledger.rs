//! What the lives of an instance came to: counts, sums, the last restart, the last failure.
//!
//! The core writes it and reports it. It decides nothing by it: with an empty ledger it gives the same orders, and
//! only what it announces differs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::{Outcome, RestartReason};
use super::event::{Exit, Failure, Usage};
use super::instance::Time;

/// The accounts of one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Restarts by policy so far.
    pub restarts: u32,
    /// Its last restart, by policy or by request.
    pub last_restart: Option<LastRestart>,
    /// The last of its lives that failed; later ones may have gone well since.
    pub crash: Option<Crash>,
    /// Processes that outlived their main process, over all lives.
    pub leftovers: u32,
    /// What all its lives used.
    pub usage: Usage,
    /// What earlier lives used; `usage` is this and the present life's.
    usage_before: Usage,
    /// What the present life was last reported to use while it ran, for telling what is new.
    seen: Usage,
    /// When its last life was over; `None` during a life.
    pub ended: Option<Time>,
}

impl Ledger {
    /// Opens the accounts of a new life. `why`: it is a restart, for this reason.
    pub(super) fn begin(&mut self, now: Time, why: Option<RestartReason>) {
        self.last_restart = why.map(|why| LastRestart { at: now, why }).or(self.last_restart);
        self.usage_before = self.usage;
        self.seen = Usage::default();
        self.ended = None;
    }

    /// Counts a restart by policy, and returns how many that makes.
    pub(super) fn count_restart(&mut self) -> u32 {
        self.restarts = self.restarts.saturating_add(1);
        self.restarts
    }

    /// Enters what the present life has used.
    pub(super) fn account(&mut self, usage: &Usage) {
        self.usage = self.usage_before;
        self.usage.add(usage);
    }

    /// Enters what the present life has used so far, and returns what it was last reported to use.
    pub(super) fn report(&mut self, usage: Usage) -> Usage {
        self.account(&usage);
        std::mem::replace(&mut self.seen, usage)
    }

    /// Corrects what follows the last failure.
    pub(super) fn set_next(&mut self, next: Next) {
        self.crash.iter_mut().for_each(|crash| crash.next = next);
    }
}

/// A restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LastRestart {
    /// When the new life was ordered.
    pub at: Time,
    /// Why.
    pub why: RestartReason,
}

/// The failure of a life: it ended unasked, or did not end when it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// Which life.
    pub invocation: u32,
    /// What happened to it.
    pub how: Broken,
    /// The same in systemd's words, what came of it included.
    pub outcome: Outcome,
    /// Its main process, if it had one.
    pub pid: Option<u32>,
    /// When it was ordered.
    pub started: Time,
    /// When it was known to have failed.
    pub at: Time,
    /// What it had used by then.
    pub usage: Usage,
    /// Restarts by policy before it: 0 for the first start.
    pub restarts: u32,
    /// Processes that outlived its main process.
    pub left: u32,
    /// What was decided to come next.
    pub next: Next,
}

/// What happened to a life that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Broken {
    /// Its main process ended like this.
    Exited(Exit),
    /// It was never begun.
    NotStarted(Failure),
    /// It, or what it had left behind, did not end in time when it was asked to, and was killed.
    NotStopped,
    /// Not even SIGKILL ended it in time.
    NotKilled,
}

/// What comes after a life that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Next {
    /// Another one.
    Restart {
        /// After this long.
        delay: Duration,
    },
    /// Nothing; the stack keeps running without it.
    Rest,
    /// The stack ends.
    StackEnds,
}
