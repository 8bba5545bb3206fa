//! One instance: what decisions about it are made by. Where it is stands in its [`State`], why its last life ended
//! in its outcome, what its lives came to in its [`Ledger`].

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::action::{Outcome, RestartReason};
use super::event::{Exit, InstanceId, Life, Recipients, Usage};
use super::ledger::{Broken, Crash, Ledger, Next};
use super::state::{Living, Main, Progress, State, Then};
use crate::config::{Policy, Signal};

/// Time since an arbitrary moment; the driver's monotonic clock.
pub type Time = Duration;

/// The desired state of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wanted {
    /// It belongs to the stack; policy decides about it.
    Up,
    /// A client asked for it to be down.
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
    /// The desired state. If it is not `Up`, its being down decides nothing.
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
            state: State::Down { failed: false },
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
        self.state.living().map(|living| living.of(self.id))
    }

    /// The main process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.state.living().and_then(Living::pid)
    }

    /// Whether its main process runs and its end was not begun.
    pub fn is_running(&self) -> bool {
        self.state.living().is_some_and(|living| living.progress == Progress::Running)
    }

    /// Whether it was taken out of the stack, or never was a part of it.
    pub fn is_removed(&self) -> bool {
        self.wanted == Wanted::Gone
    }

    /// Whether there is a process that a signal could be for.
    pub fn has(&self, to: Recipients) -> bool {
        match self.state {
            State::Down { .. } | State::Waiting(_) => false,
            State::Up(living) => match living.main {
                Main::NotYet => false,
                Main::Alive { .. } => true,
                Main::Gone => to == Recipients::All,
            },
        }
    }

    /// Whether it has a life that will continue, or that another one follows.
    pub fn goes_on(&self) -> bool {
        match self.state {
            State::Down { .. } | State::Waiting(_) => false,
            State::Up(living) => living.progress.then() != Some(Then::Rest),
        }
    }

    /// Whether it would be new to it that its life ends and this follows. What is at rest has no life to end.
    pub(super) fn is_news(&self, next: Then) -> bool {
        match self.state {
            State::Down { .. } => false,
            State::Waiting(_) => true,
            State::Up(living) => living.progress.then() != Some(next),
        }
    }

    /// Changes what follows an end that was begun.
    pub(super) fn set_then(&mut self, then: Then) {
        if let Some(after) = self.state.living_mut().and_then(|living| living.progress.then_mut()) {
            *after = then;
        }
    }

    /// Where it is when its life is over and none follows.
    pub(super) fn rest(&self) -> State {
        let failed = match (self.outcome, self.exit) {
            (None | Some(Outcome::Success), _) => false,
            // Killed on request. That is why it ended, and nothing went wrong.
            (Some(Outcome::Signal), Some(Exit::Signal { signal: Signal::KILL, .. })) => {
                !self.is_killed_early()
            }
            (Some(_), _) => true,
        };
        State::Down { failed }
    }

    /// Whether it is being killed, and not because its stop timeout had passed.
    fn is_killed_early(&self) -> bool {
        let progress = self.state.living().map(|living| living.progress);
        matches!(progress, Some(Progress::Killing { timed_out: false, .. }))
    }

    /// Takes a new policy in: at once, or when the end that was begun under the old one is over.
    pub(super) fn configure(&mut self, policy: Policy) {
        if self.state.living().is_some_and(Living::is_ending) {
            self.next_policy = Some(policy);
        } else {
            self.policy = policy;
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
        self.state.deadline()
    }

    /// Moves its deadline: while the stack was frozen no time passed for it.
    pub(super) fn postpone(&mut self, frozen_since: Time, now: Time) {
        // A deadline set while frozen has seen less of it.
        let by = now.saturating_sub(frozen_since.max(self.since));
        if let Some(deadline) = self.state.deadline_mut() {
            *deadline = deadline.saturating_add(by);
        }
    }

    /// Nothing of it runs or will run by itself; what is stuck is on its way out at best.
    pub(super) fn at_rest(&self) -> bool {
        match self.state {
            State::Down { .. } => true,
            State::Waiting(_) => false,
            State::Up(living) => living.progress == Progress::Stuck { then: Then::Rest },
        }
    }

    /// Tear-down need not wait for it.
    pub(super) fn is_over(&self) -> bool {
        match self.state {
            State::Down { .. } => true,
            State::Waiting(_) => false,
            State::Up(living) => matches!(living.progress, Progress::Stuck { .. }),
        }
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

    /// Makes it unwanted, on request; a removed instance stays removed.
    pub(super) fn put_down(&mut self) {
        if self.wanted == Wanted::Up {
            self.wanted = Wanted::Down;
        }
        self.forgive();
    }

    /// Resets delays and the start limit, after a request.
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
