//! One instance: where it is (its state), why its last life ended (its outcome), and what it used.
//!
//! States carry their data, so that leaving one disarms it: a deadline lives in the state that it bounds
//! and nowhere else.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::{Outcome, RestartReason};
use super::event::{Exit, InstanceId, Life, Recipients, Usage};
use super::ledger::{Broken, Crash, Ledger, Next};
use crate::config::{Policy, Signal};

/// Time since an arbitrary moment; the driver's monotonic clock.
pub type Time = Duration;

/// Where an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing of it exists, and that is as it should be.
    Inactive,
    /// Nothing of it exists, and its outcome says what went wrong.
    Failed,
    /// The order to spawn was given.
    Starting {
        /// Which life.
        invocation: u32,
    },
    /// Its main process runs.
    Running {
        /// Which life.
        invocation: u32,
        /// The main process.
        pid: u32,
        /// Whether its processes may.
        freezer: Freezer,
    },
    /// It was asked to end, or what its main process left behind was. Left when the main process has
    /// exited *and* the leaf is empty.
    StopSigterm {
        /// Which life.
        invocation: u32,
        /// When asking ends and killing begins; counted from the request.
        deadline: Time,
        /// How far the main process is.
        main: Main,
        /// What comes when it is over.
        then: Then,
    },
    /// It is being killed.
    StopSigkill {
        /// Which life.
        invocation: u32,
        /// When lpm stops waiting.
        deadline: Time,
        /// Whether it was killed because its stop timeout had passed.
        timed_out: bool,
        /// How far the main process is.
        main: Main,
        /// What comes when it is over.
        then: Then,
    },
    /// Not even SIGKILL ended it in time (a process in uninterruptible sleep). Tear-down does not wait for
    /// it; should it end after all, `then` follows.
    Stuck {
        /// Which life.
        invocation: u32,
        /// How far the main process is.
        main: Main,
        /// What comes when it is over.
        then: Then,
    },
    /// It will be started again.
    RestartWait {
        /// When.
        until: Time,
    },
}

/// Whether the processes of a life that runs may run, as far as it alone goes; Ctrl-Z stops them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freezer {
    /// They may.
    Thawed,
    /// They are being stopped where they stand, which takes those in the kernel as long as they are there.
    Freezing,
    /// They all stand still.
    Frozen,
}

/// How far the main process of a life that is ending is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Main {
    /// The order to spawn it is still on its way.
    NotYet,
    /// It runs.
    Alive {
        /// As this process.
        pid: u32,
    },
    /// It was reaped; others in the leaf were not.
    Gone,
}

/// What comes after a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// Nothing.
    Rest,
    /// The next life, at once.
    Start,
    /// The next life, after a delay.
    Restart {
        /// From the moment the leaf is empty.
        delay: Duration,
    },
}

/// Whether people want an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// It belongs to the stack; policy decides about it.
    Up,
    /// Somebody asked for it to be down.
    Down,
    /// It is no part of the stack: removed, or configured anew and not started yet.
    Gone,
}

/// One instance as the core knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its place in the stack.
    pub id: InstanceId,
    /// What was configured for it.
    pub policy: Policy,
    /// What has been configured since it began to end: an end is carried through as it was begun.
    pub(super) next_policy: Option<Policy>,
    /// Where it is.
    pub state: State,
    /// Why its last life ended; `None` while it never ended.
    pub outcome: Option<Outcome>,
    /// How its last main process ended.
    pub exit: Option<Exit>,
    /// Lives so far.
    pub invocations: u32,
    /// When it came to its state.
    pub since: Time,
    /// When its present or last life was ordered.
    pub started: Option<Time>,
    /// Whether people want it. Where they do not, its being down decides nothing.
    pub wanted: Wanted,
    /// Restarts in a row; the delay grows with it.
    pub(super) streak: u32,
    /// When its last starts were, for the start limit.
    pub(super) starts: VecDeque<Time>,
    /// What its lives came to; nothing is decided by it.
    pub ledger: Ledger,
}

impl Instance {
    pub(super) fn new(id: InstanceId, policy: Policy) -> Instance {
        Instance {
            id,
            policy,
            next_policy: None,
            state: State::Inactive,
            outcome: None,
            exit: None,
            invocations: 0,
            since: Time::ZERO,
            started: None,
            wanted: Wanted::Up,
            streak: 0,
            starts: VecDeque::new(),
            ledger: Ledger::default(),
        }
    }

    /// The life that its state is about, if any.
    pub fn life(&self) -> Option<Life> {
        let invocation = match self.state {
            State::Starting { invocation }
            | State::Running { invocation, .. }
            | State::StopSigterm { invocation, .. }
            | State::StopSigkill { invocation, .. }
            | State::Stuck { invocation, .. } => invocation,
            State::Inactive | State::Failed | State::RestartWait { .. } => return None,
        };
        Some(Life { instance: self.id, invocation })
    }

    /// The main process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        match self.state {
            State::Running { pid, .. }
            | State::StopSigterm { main: Main::Alive { pid }, .. }
            | State::StopSigkill { main: Main::Alive { pid }, .. }
            | State::Stuck { main: Main::Alive { pid }, .. } => Some(pid),
            _ => None,
        }
    }

    /// Whether it was taken out of the stack, or never was a part of it.
    pub fn is_removed(&self) -> bool {
        self.wanted == Wanted::Gone
    }

    /// Whether there is a process that a signal could be for.
    pub fn has(&self, to: Recipients) -> bool {
        let left_behind = match self.state {
            State::StopSigterm { main, .. } | State::StopSigkill { main, .. } | State::Stuck { main, .. } => {
                main == Main::Gone
            }
            State::Inactive
            | State::Failed
            | State::Starting { .. }
            | State::Running { .. }
            | State::RestartWait { .. } => false,
        };
        self.pid().is_some() || (to == Recipients::All && left_behind)
    }

    /// Whether it has a life that goes on, or that another one follows.
    pub fn goes_on(&self) -> bool {
        match self.state {
            State::Inactive | State::Failed | State::RestartWait { .. } => false,
            State::Starting { .. } | State::Running { .. } => true,
            State::StopSigterm { then, .. } | State::StopSigkill { then, .. } | State::Stuck { then, .. } => {
                then != Then::Rest
            }
        }
    }

    /// Whether it would be new to it that its life ends and this follows. What is at rest has no life to end.
    pub(super) fn is_news(&self, next: Then) -> bool {
        match self.state {
            State::Inactive | State::Failed => false,
            State::Starting { .. } | State::Running { .. } | State::RestartWait { .. } => true,
            State::StopSigterm { then, .. } | State::StopSigkill { then, .. } | State::Stuck { then, .. } => {
                then != next
            }
        }
    }

    /// Where it is when its life is over and none follows.
    pub(super) fn rest(&self) -> State {
        match (self.outcome, self.state, self.exit) {
            (None | Some(Outcome::Success), ..) => State::Inactive,
            // Killed because somebody would not wait. That is why it ended, and nothing went wrong.
            (
                Some(Outcome::Signal),
                State::StopSigkill { timed_out: false, .. },
                Some(Exit::Signal { signal: Signal::KILL, .. }),
            ) => State::Inactive,
            (Some(_), ..) => State::Failed,
        }
    }

    /// Takes a new policy in: at once, or when the end that was begun under the old one is over.
    pub(super) fn configure(&mut self, policy: Policy) {
        match self.state {
            State::StopSigterm { .. } | State::StopSigkill { .. } | State::Stuck { .. } => {
                self.next_policy = Some(policy);
            }
            State::Inactive
            | State::Failed
            | State::Starting { .. }
            | State::Running { .. }
            | State::RestartWait { .. } => self.policy = policy,
        }
    }

    /// What a restart by policy comes of, once a life has ended.
    pub(super) fn reason(&self) -> Option<RestartReason> {
        match self.outcome? {
            Outcome::Resources => Some(RestartReason::NotStarted),
            outcome => Some(RestartReason::Ended { exit: self.exit?, outcome }),
        }
    }

    /// When it wants to hear `TimePassed`.
    pub(super) fn deadline(&self) -> Option<Time> {
        match self.state {
            State::StopSigterm { deadline, .. } | State::StopSigkill { deadline, .. } => Some(deadline),
            State::RestartWait { until } => Some(until),
            State::Inactive
            | State::Failed
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stuck { .. } => None,
        }
    }

    /// Moves its deadline: while the stack was frozen no time passed for it.
    pub(super) fn postpone(&mut self, frozen_since: Time, now: Time) {
        // A deadline set while frozen has seen less of it.
        let by = now.saturating_sub(frozen_since.max(self.since));
        match &mut self.state {
            State::StopSigterm { deadline, .. } | State::StopSigkill { deadline, .. } => {
                *deadline = deadline.saturating_add(by);
            }
            State::RestartWait { until } => *until = until.saturating_add(by),
            State::Inactive
            | State::Failed
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stuck { .. } => {}
        }
    }

    /// Nothing of it runs or will run by itself; what is stuck is on its way out at best.
    pub(super) fn at_rest(&self) -> bool {
        matches!(self.state, State::Inactive | State::Failed | State::Stuck { then: Then::Rest, .. })
    }

    /// Tear-down need not wait for it.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Inactive | State::Failed | State::Stuck { .. })
    }

    /// It was killed because its stop timeout had passed, or outlived even that. What went wrong first is
    /// what went wrong, as in systemd.
    pub(super) fn timed_out(&mut self) {
        if let None | Some(Outcome::Success) = self.outcome {
            self.outcome = Some(Outcome::Timeout);
        }
    }

    /// Whether the life it has, or had last, failed.
    pub fn has_crashed(&self) -> bool {
        self.ledger.crash.as_ref().is_some_and(|crash| crash.invocation == self.invocations)
    }

    /// Takes note of a failure of its present life, which has ended or was not begun.
    pub(super) fn note_crash(&mut self, now: Time, how: Broken, pid: Option<u32>, next: Next) -> &mut Crash {
        self.ledger.crash.insert(Crash {
            invocation: self.invocations,
            how,
            outcome: self.outcome.unwrap_or(Outcome::Resources),
            pid,
            started: self.started.unwrap_or(now),
            at: now,
            usage: Usage::default(),
            restarts: self.ledger.restarts,
            left: 0,
            next,
        })
    }

    /// Takes note of a start, for the start limit. As many as the limit needs are kept, the last ones.
    pub(super) fn note_start(&mut self, now: Time) {
        self.forget_starts(now);
        self.starts.push_back(now);
        while self.starts.len() > self.policy.restart.burst as usize {
            self.starts.pop_front();
        }
    }

    /// Whether one more start now would be one too many (systemd.unit(5), `StartLimitBurst=`); a burst of 0
    /// means no limit.
    pub(super) fn start_limit_hit(&mut self, now: Time) -> bool {
        self.forget_starts(now);
        let burst = self.policy.restart.burst as usize;
        burst > 0 && self.starts.len() >= burst
    }

    /// A person wants it down; one that was removed already stays so.
    pub(super) fn put_down(&mut self) {
        if self.wanted == Wanted::Up {
            self.wanted = Wanted::Down;
        }
        self.forgive();
    }

    /// A person took it in hand: delays and the start limit begin anew.
    pub(super) fn forgive(&mut self) {
        self.streak = 0;
        self.starts.clear();
    }

    fn forget_starts(&mut self, now: Time) {
        let oldest = now.saturating_sub(self.policy.restart.interval);
        while self.starts.front().is_some_and(|&start| start < oldest) {
            self.starts.pop_front();
        }
    }
}
