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
//! An instance is down, waiting, or up with a life ([`State`]). A life is one value ([`Living`]): its number, how far
//! its main process is, its freezer, and how far the life itself is ([`Progress`]). Whatever holds for every life is
//! decided by the first three, and the functions that must tell the stages apart match on the last.
//!
//! ```text
//!              Begin, Start
//!   down ───────────────────────▶ up ──────── settled ───┬──▶ down
//!    ▲                             ▲                     │
//!    │                             ├─────── at once ─────┤
//!    │                             │                     │
//!    └── Stop ── waiting ── until ─┘                     │
//!                   ▲                                    │
//!                   └──────────── after a delay ─────────┘
//!
//!   up:          Spawned                Exited, leaf empty
//!     spawning ────────────▶ running ─────────────────────────▶ settled
//!      │ │ │                  │  │                                 ▲
//!      │ │ └ SpawnFailed ─────│──│─────────────────────────────────┤
//!      │ │                    │  │                                 │
//!      │ └── stop asked ──────┤  │ killed     main process exited  │
//!      │                      │  │             AND leaf empty      │
//!      │   others left behind │  │                                 │
//!      │                      ▼  │                                 │
//!      │                   stopping ───────────────────────────────┤
//!      │                      │  │                                 │
//!      │     deadline, killed │  │                                 │
//!      │                      ▼  ▼                                 │
//!      └──── killed ──────▶ killing ───────────────────────────────┤
//!                             │ deadline                           │
//!                             ▼                                    │
//!                           stuck ─────────────────────────────────┘
//! ```
//!
//! A stage that ends a life (stopping, killing, stuck) is left only when the main process was reaped *and* the leaf
//! is empty. That the main process is gone says nothing about what it forked, and an empty leaf says nothing about the
//! status that was not collected yet. These stages carry what comes next ([`Then`]). A second life can begin from down
//! and waiting alone, which keeps the promise of at most one live invocation per instance. A kill (`Kill`, SIGQUIT,
//! the second Ctrl-C) skips stopping: it leads to killing from wherever a process is or may still appear.
//!
//! There is room for more: another reason to wait is a variant of [`Wait`], and what a life does before it runs (a hook)
//! or before it counts as up (readiness) is a variant of [`Progress`].
//!
//! # Frozen
//!
//! ```text
//!   running:   thawed ──Freeze──▶ freezing ──Frozen──▶ frozen
//!                 ▲                   │                  │
//!                 └───────Thaw────────┴──────────────────┘
//! ```
//!
//! A running life can be frozen. A frozen process handles no signal: a stop thaws the life first, and a life that left
//! `running` is always thawed. SIGKILL needs no thaw. Ctrl-Z freezes the whole stack, one cgroup further up;
//! the two freezers are independent.
//!
//! # The stack
//!
//! `idle → up → tear-down → over`. Tear-down is *decided*: by an exit that the settings do not forgive, by a
//! request, by a signal, or because no instance is left that could run again. It is never inferred from
//! emptiness alone: a stack whose instances all wait for a restart, or were stopped by request, stays up, and so
//! does a stack that a removal has emptied. After the decision nothing is spawned any more, and when every
//! instance is over (or stuck beyond SIGKILL) the core orders `Exit`, once.
//!
//! # Desired apart from actual
//!
//! Each instance has a desired state ([`Wanted`]) beside its actual one ([`State`]), as in dinit. A request changes the
//! desired state and begins the way there; facts change the actual state. Neither is computed from the other: an
//! instance that is wanted may be down because its policy does not restart it, and one that is not wanted stays up
//! until its leaf is empty. An unwanted instance starts by request alone, a removed one by `Start` alone, and its being
//! down decides nothing. Instances are never deleted, for their numbers are their names outside the core: a removed one
//! is no part of the stack.
//!
//! A request names a goal for some instances. Its reply follows from their actual states, compared with the goal after
//! each fact: all have reached it, one cannot reach it any more, or some are still on the way. The core keeps no list of
//! which step a client waits for, so no path through the states can forget a client.
//!
//! # Accounts
//!
//! Counts, sums and the last failure are in each instance's [`Ledger`]. They are reported and announced; no order
//! depends on them.

mod action;
mod ending;
mod event;
mod facts;
mod instance;
mod ledger;
mod life;
pub mod policy;
mod requests;
mod state;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use action::{Action, Announcement, Ending, Intervention, Outcome, Reply, RestartReason};
pub use event::{
    Client, Event, Exit, Failure, FailureKind, InstanceId, Life, Recipients, Request, Stage, Usage,
};
pub use instance::{Instance, Time, Wanted};
pub use ledger::{Broken, Crash, LastRestart, Ledger, Next};
pub use state::{Freezer, Living, Main, Progress, State, Then, Wait};

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

    /// The index and the life of the instance that this fact is about, unless the fact is about an old life.
    fn current(&mut self, life: Life) -> Option<(usize, &mut Living)> {
        let at = life.instance.0 as usize;
        let living = self.instances.get_mut(at)?.state.living_mut()?;
        (living.invocation == life.invocation).then_some((at, living))
    }
}
