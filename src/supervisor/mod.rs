//! The core: it decides, and does nothing else.
//!
//! Facts come in one at a time through [`Supervisor::handle`], orders come out, and the time is an
//! argument. There is no clock, no file, no process and no randomness in here, so a run can be replayed
//! from its events and the tests live through years of supervision in milliseconds.
//!
//! The contract with the driver: hand in one event, carry out every action in order, ask for the
//! [`deadline`](Supervisor::deadline), then wait.
//!
//! # One instance
//!
//! ```text
//!               Begin, Start                    Spawned
//!   inactive ─────────────────▶ starting ─────────────────────▶ running
//!   failed ◀─── SpawnFailed ───────┘ │                            │  │
//!      ▲                             │ stop asked                 │  │ Exited, unasked
//!      │                             ▼                stop asked  │  │
//!      │                        stop-sigterm ◀────────────────────┘  ├─ leaf empty ─▶ settled
//!      │                          │      ▲                           │
//!      │          deadline, kill  │      └── others left behind ─────┘
//!      │                          ▼
//!      │                        stop-sigkill ── deadline ─▶ stuck
//!      │                          │                           │
//!      └── settled ◀── main process exited AND leaf empty ────┘
//!             │
//!             └─▶ restart-wait ── deadline ─▶ starting
//! ```
//!
//! A stop state is left only when the main process was reaped *and* the leaf is empty. That the main
//! process is gone says nothing about what it forked, and an empty leaf says nothing about the status that
//! was not collected yet. While a life is in any of these states no second one can begin, which is what
//! keeps the promise of at most one live invocation per instance. A kill (`Kill`, SIGQUIT, the second Ctrl-C)
//! asks nobody and goes to stop-sigkill from wherever a process is or may come to be.
//!
//! # Frozen
//!
//! ```text
//!   running:   thawed ──Freeze──▶ freezing ──Frozen──▶ frozen
//!                 ▲                   │                  │
//!                 └───────Thaw────────┴──────────────────┘
//! ```
//!
//! A life that runs can be made to stand still. How far that is belongs to the state, so that leaving it ends it:
//! a process that is frozen handles no signal, and therefore whoever is asked to end is thawed first. SIGKILL
//! needs no thaw. Ctrl-Z freezes the whole stack, one level further up, and neither knows of the other.
//!
//! # The stack
//!
//! `idle → up → tear-down → over`. Tear-down is *decided*: by an exit that the settings do not forgive, by a
//! request, by a signal, or because nothing is left that could ever run again. It is never inferred from
//! emptiness alone: a stack whose instances all wait for a restart, or were stopped by request, lives on, and so
//! does one that a removal has emptied. Once tear-down was decided nothing is spawned any more, and when every
//! instance is over (or stuck beyond SIGKILL) `Exit` comes out, once.
//!
//! # Requests
//!
//! A request names a goal for some instances, and what answers it is where they stand, looked at after each
//! fact: all there, one that cannot get there any more, or still on the way. Nobody has to remember who
//! waits for what, so no path through the states can forget a client.
//!
//! What people want of an instance ([`Wanted`]) is kept apart from where it is. One that they do not want comes
//! back by request alone, after a removal by a `Start` alone, and its being down decides nothing. Instances are
//! never taken away, for their numbers are what everybody knows them by: one that was removed is only no part of
//! the stack.

mod action;
mod ending;
mod event;
mod facts;
mod instance;
mod ledger;
mod life;
pub mod policy;
mod requests;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use action::{Action, Announcement, Ending, Intervention, Outcome, Reply, RestartReason};
pub use event::{
    Client, Event, Exit, Failure, FailureKind, InstanceId, Life, Recipients, Request, Stage, Usage,
};
pub use instance::{Freezer, Instance, Main, State, Then, Time, Wanted};
pub use ledger::{Broken, Crash, LastRestart, Ledger, Next};

use crate::config::{ExitCodeRule, Policy, Stack};
use policy::SIGPIPE;
use requests::Pending;

/// How long lpm waits for a leaf to become empty after `cgroup.kill`. Far above what a kill takes (1 ms);
/// what is still there then is in uninterruptible sleep and nothing will end it soon.
pub const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Signals that ask for the end within this time of the first are the same one, told twice.
pub const SAME_SIGNAL: Duration = Duration::from_millis(50);

/// The state of a whole stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    instances: Vec<Instance>,
    phase: Phase,
    exit_code: ExitCodeRule,
    /// Whether SIGHUP means stop (there is a terminal to lose) or nothing.
    stop_on_hangup: bool,
    /// When a signal first asked for the end.
    interrupted: Option<Time>,
    /// The largest code of an unasked exit, for [`ExitCodeRule::Worst`].
    worst: u8,
    /// The code of the last unasked exit: the one that ended a stack in which every instance may die.
    last: u8,
    frozen_since: Option<Time>,
    /// Since an instance last ended unasked, one was removed: that nothing is left then is what was asked for.
    removed_since: bool,
    pending: Vec<Pending>,
    #[serde(skip)]
    actions: Vec<Action>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    Idle,
    Up,
    TearDown { ending: Ending },
    Over,
}

impl Supervisor {
    /// A core for these instances, all inactive. `stop_on_hangup`: lpm has a controlling terminal.
    pub fn new(stack: &Stack, stop_on_hangup: bool) -> Supervisor {
        let policies = stack.instances.iter().map(|instance| instance.policy.clone());
        Supervisor::with_policies(policies, stack.exit_code, stop_on_hangup)
    }

    fn with_policies(
        policies: impl IntoIterator<Item = Policy>,
        exit_code: ExitCodeRule,
        stop_on_hangup: bool,
    ) -> Supervisor {
        let instances =
            policies.into_iter().zip(0..).map(|(policy, id)| Instance::new(InstanceId(id), policy)).collect();
        Supervisor {
            instances,
            phase: Phase::Idle,
            exit_code,
            stop_on_hangup,
            interrupted: None,
            worst: 0,
            last: 0,
            frozen_since: None,
            removed_since: false,
            pending: Vec::new(),
            actions: Vec::new(),
        }
    }

    /// Takes one fact, answers with what is to be done about it, in order. `now` never goes back.
    pub fn handle(&mut self, now: Time, event: Event) -> Vec<Action> {
        match (self.phase, event) {
            (Phase::Over, _) => {}
            (_, Event::Begin) => self.on_begin(now),
            (_, Event::Spawned { life, pid }) => self.on_spawned(now, life, pid),
            (_, Event::SpawnFailed { life, failure }) => self.on_spawn_failed(now, life, failure),
            (_, Event::Exited { life, exit, usage, left }) => self.on_exited(now, life, exit, usage, left),
            (_, Event::Emptied { life, usage }) => self.on_emptied(now, life, usage),
            (_, Event::Resource { life, usage }) => self.on_resource(life, usage),
            (_, Event::Frozen { life }) => self.on_frozen(life),
            (_, Event::Configured { policies, exit_code }) => self.on_configured(policies, exit_code),
            (_, Event::Signal(signal)) => self.on_signal(now, signal),
            (_, Event::ReaderLeft) => self.tear_down(now, Ending::Code(policy::signal_code(SIGPIPE))),
            (_, Event::Request { client, request }) => self.on_request(now, client, request),
            (_, Event::ClientLeft(client)) => self.pending.retain(|pending| pending.client != client),
            (_, Event::TimePassed) => self.on_time_passed(now),
        }
        self.conclude(now);
        std::mem::take(&mut self.actions)
    }

    /// When `TimePassed` is due; `None` while nothing waits for time.
    pub fn deadline(&self) -> Option<Time> {
        match self.frozen_since {
            Some(_) => None,
            None => self.instances.iter().filter_map(Instance::deadline).min(),
        }
    }

    /// Every instance as it stands.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Whether tear-down was decided; from then on nothing is spawned.
    pub fn is_tearing_down(&self) -> bool {
        matches!(self.phase, Phase::TearDown { .. } | Phase::Over)
    }

    /// Whether the stack as a whole stands still (Ctrl-Z).
    pub fn is_suspended(&self) -> bool {
        self.frozen_since.is_some()
    }

    fn intervened(&mut self, at: usize, what: Intervention) {
        self.announce(Announcement::OnRequest { instance: self.instances[at].id, what });
    }

    fn announce(&mut self, announcement: Announcement) {
        self.actions.push(Action::Announce(announcement));
    }

    /// The index of the instance that this fact is about, unless the fact is about an old life.
    fn current(&self, life: Life) -> Option<usize> {
        let at = life.instance.0 as usize;
        (self.instances.get(at)?.life()? == life).then_some(at)
    }
}
