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
mod event;
mod instance;
pub mod policy;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use action::{Action, Announcement, Ending, Intervention, Outcome, Reply, RestartReason};
pub use event::{
    Client, Event, Exit, Failure, FailureKind, InstanceId, Life, Recipients, Request, Stage, Usage,
};
pub use instance::{Broken, Crash, Freezer, Instance, LastRestart, Main, Next, State, Then, Time, Wanted};

use crate::config::{ExitCodeRule, KillMode, Policy, Signal, Stack};
use policy::{SIGCONT, SIGHUP, SIGINT, SIGPIPE, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};

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

/// A request that waits for its instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Pending {
    client: Client,
    goal: Goal,
    /// Those that are not there yet.
    on: Vec<InstanceId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Goal {
    Up,
    Down,
    Frozen,
    /// The order was given; what comes of it is nobody's goal.
    Told,
    Over,
}

/// What an unasked exit leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Restart {
        delay: Duration,
    },
    /// It stays down, and the stack may have to go with it.
    Down {
        clean: bool,
    },
}

/// Where an instance stands against a request's goal.
enum Standing {
    There,
    OnTheWay,
    /// It will not get there.
    Never(Reply),
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

    // ---- facts

    fn on_begin(&mut self, now: Time) {
        if self.phase == Phase::Idle {
            self.phase = Phase::Up;
            for at in 0..self.instances.len() {
                let instance = &self.instances[at];
                // A client may have come first.
                if instance.state == State::Inactive && instance.wanted == Wanted::Up {
                    self.enter_starting(now, at, None);
                }
            }
        }
    }

    fn on_spawned(&mut self, now: Time, life: Life, pid: u32) {
        let Some(at) = self.current(life) else { return };
        let invocation = life.invocation;
        match self.instances[at].state {
            State::Starting { .. } => {
                self.enter(now, at, State::Running { invocation, pid, freezer: Freezer::Thawed });
                self.announce(Announcement::Started { life, pid });
            }
            // The stop came while the spawn was on its way: the process exists after all and is asked now.
            State::StopSigterm { deadline, main: Main::NotYet, then, .. } => {
                let main = Main::Alive { pid };
                self.instances[at].state = State::StopSigterm { invocation, deadline, main, then };
                self.announce(Announcement::Started { life, pid });
                self.send_stop_signal(at, life);
            }
            State::StopSigkill { deadline, timed_out, main: Main::NotYet, then, .. } => {
                let main = Main::Alive { pid };
                self.instances[at].state = State::StopSigkill { invocation, deadline, timed_out, main, then };
                self.announce(Announcement::Started { life, pid });
                self.actions.push(Action::KillCgroup(life));
            }
            State::Stuck { main: Main::NotYet, then, .. } => {
                self.instances[at].state = State::Stuck { invocation, main: Main::Alive { pid }, then };
                self.actions.push(Action::KillCgroup(life));
            }
            State::Inactive
            | State::Failed
            | State::Running { .. }
            | State::StopSigterm { .. }
            | State::StopSigkill { .. }
            | State::Stuck { .. }
            | State::RestartWait { .. } => {}
        }
    }

    fn on_spawn_failed(&mut self, now: Time, life: Life, failure: Failure) {
        let Some(at) = self.current(life) else { return };
        let then = match self.instances[at].state {
            // Running: the kernel had begun it, and the ceiling killed it before its first instruction.
            State::Starting { .. } | State::Running { .. } => None,
            State::StopSigterm { main: Main::NotYet | Main::Alive { .. }, then, .. }
            | State::StopSigkill { main: Main::NotYet | Main::Alive { .. }, then, .. }
            | State::Stuck { main: Main::NotYet | Main::Alive { .. }, then, .. } => Some(then),
            State::Inactive
            | State::Failed
            | State::StopSigterm { .. }
            | State::StopSigkill { .. }
            | State::Stuck { .. }
            | State::RestartWait { .. } => return,
        };
        let kind = failure.kind;
        if kind != FailureKind::Cancelled {
            let oom = kind == FailureKind::OutOfMemory;
            self.instances[at].outcome = Some(if oom { Outcome::OomKill } else { Outcome::Resources });
            if then.is_none() {
                let how = Broken::NotStarted(failure.clone());
                self.instances[at].note_crash(now, how, None, Next::Rest);
            }
            self.announce(Announcement::CannotStart { life, failure });
        }
        match then {
            Some(then) => self.settle(now, at, then),
            None => self.judge_failed_start(now, at, kind),
        }
    }

    /// What was refused for a passing reason is tried again where the policy restarts what fails. What cannot be
    /// started for another reason cannot be started in a moment either: no restart, whatever the policy.
    fn judge_failed_start(&mut self, now: Time, at: usize, kind: FailureKind) {
        let passes = kind == FailureKind::Passing;
        let again = passes && policy::wants_another_try(&self.instances[at].policy.restart);
        match self.verdict(now, at, again, false, RestartReason::NotStarted) {
            Verdict::Restart { delay } => {
                self.instances[at].crash.iter_mut().for_each(|crash| crash.next = Next::Restart { delay });
                self.settle(now, at, Then::Restart { delay });
            }
            Verdict::Down { clean } => {
                self.settle(now, at, Then::Rest);
                self.judge(now, at, policy::failure_code(kind), clean);
            }
        }
    }

    fn on_exited(&mut self, now: Time, life: Life, exit: Exit, usage: Usage, left: u32) {
        let Some(at) = self.current(life) else { return };
        let invocation = life.invocation;
        let stop_signal = self.instances[at].policy.stop_signal;
        match self.instances[at].state {
            State::Running { freezer, pid, .. } => {
                let outcome = policy::outcome_unasked(exit, &usage);
                self.ended(at, life, exit, outcome, usage);
                let restarts = self.instances[at].restarts;
                let again = policy::wants_restart(&self.instances[at].policy.restart, exit);
                let why = RestartReason::Ended { exit, outcome };
                let verdict = self.verdict(now, at, again, policy::code(exit) == 0, why);
                if outcome != Outcome::Success {
                    let next = match verdict {
                        Verdict::Restart { delay } => Next::Restart { delay },
                        Verdict::Down { .. } => Next::Rest,
                    };
                    let crash = self.instances[at].note_crash(now, Broken::Exited(exit), Some(pid), next);
                    (crash.usage, crash.restarts, crash.left) = (usage, restarts, left);
                }
                let then = match verdict {
                    Verdict::Restart { delay } => Then::Restart { delay },
                    Verdict::Down { .. } => Then::Rest,
                };
                if left == 0 {
                    self.leaf_empty(now, at, life, then);
                } else {
                    let instance = &mut self.instances[at];
                    instance.leftovers = instance.leftovers.saturating_add(left);
                    let deadline = now.saturating_add(instance.policy.timeout_stop);
                    self.enter(now, at, State::StopSigterm { invocation, deadline, main: Main::Gone, then });
                    self.announce(Announcement::LeftBehind { life, count: left, signal: stop_signal });
                    self.thaw_first(life, freezer);
                    self.actions.push(Action::Stop { life, signal: stop_signal, to: Recipients::All });
                }
                // Last, when this instance has its new state: tear-down must not ask a dead process to end.
                if let Verdict::Down { clean } = verdict {
                    self.judge(now, at, policy::code(exit), clean);
                }
            }
            State::StopSigterm { deadline, main: Main::Alive { .. }, then, .. } => {
                let outcome = policy::outcome_asked(exit, &usage, stop_signal, false);
                self.ended(at, life, exit, outcome, usage);
                if left == 0 {
                    self.leaf_empty(now, at, life, then);
                } else {
                    let main = Main::Gone;
                    self.instances[at].state = State::StopSigterm { invocation, deadline, main, then };
                    // With `mixed` only the main process was asked; what it leaves is killed.
                    if self.instances[at].policy.kill_mode == KillMode::Mixed {
                        self.enter_kill(now, at, false);
                    }
                }
            }
            State::StopSigkill { deadline, timed_out, main: Main::Alive { .. }, then, .. } => {
                let outcome = policy::outcome_asked(exit, &usage, stop_signal, timed_out);
                self.ended(at, life, exit, outcome, usage);
                if left == 0 {
                    self.leaf_empty(now, at, life, then);
                } else {
                    let main = Main::Gone;
                    self.instances[at].state =
                        State::StopSigkill { invocation, deadline, timed_out, main, then };
                }
            }
            State::Stuck { main: Main::Alive { .. }, then, .. } => {
                self.ended(at, life, exit, Outcome::Timeout, usage);
                if left == 0 {
                    self.leaf_empty(now, at, life, then);
                } else {
                    self.instances[at].state = State::Stuck { invocation, main: Main::Gone, then };
                }
            }
            State::Inactive
            | State::Failed
            | State::Starting { .. }
            | State::StopSigterm { .. }
            | State::StopSigkill { .. }
            | State::Stuck { .. }
            | State::RestartWait { .. } => {}
        }
    }

    fn on_emptied(&mut self, now: Time, life: Life, usage: Usage) {
        let Some(at) = self.current(life) else { return };
        match self.instances[at].state {
            State::StopSigterm { main: Main::Gone, then, .. }
            | State::StopSigkill { main: Main::Gone, then, .. }
            | State::Stuck { main: Main::Gone, then, .. } => {
                self.instances[at].account(&usage);
                self.leaf_empty(now, at, life, then);
            }
            State::Inactive
            | State::Failed
            | State::Starting { .. }
            | State::Running { .. }
            | State::StopSigterm { .. }
            | State::StopSigkill { .. }
            | State::Stuck { .. }
            | State::RestartWait { .. } => {}
        }
    }

    fn on_signal(&mut self, now: Time, signal: Signal) {
        match signal {
            SIGINT | SIGTERM => self.interrupt(now, signal),
            SIGHUP if self.stop_on_hangup => self.interrupt(now, signal),
            SIGHUP => self.announce(Announcement::HangUpIgnored),
            SIGQUIT => {
                self.announce(Announcement::Interrupted(signal));
                self.decide(now, Ending::Code(policy::signal_code(SIGQUIT)));
                self.kill_all(now);
            }
            SIGUSR1 | SIGUSR2 => self.forward(signal),
            SIGTSTP => self.suspend(now),
            SIGCONT => self.resume(now),
            _ => {}
        }
    }

    fn on_request(&mut self, now: Time, client: Client, request: Request) {
        let hinders_the_end = matches!(request, Request::Start(_) | Request::Restart(_) | Request::Freeze(_));
        if self.is_tearing_down() && hinders_the_end {
            return self.actions.push(Action::Reply { client, reply: Reply::ShuttingDown });
        }
        let (goal, on) = match request {
            Request::Start(on) => (Goal::Up, self.each(on, |core, at| core.start_by_request(now, at))),
            Request::Stop(on) => (Goal::Down, self.each(on, |core, at| core.stop_by_request(now, at))),
            Request::Restart(on) => (Goal::Up, self.each(on, |core, at| core.restart_by_request(now, at))),
            Request::Kill(on) => (Goal::Down, self.each(on, |core, at| core.kill_by_request(now, at))),
            Request::Signal { on, signal, to } => {
                (Goal::Told, self.each(on, |core, at| core.signal_by_request(at, signal, to)))
            }
            Request::Freeze(on) => (Goal::Frozen, self.each(on, Supervisor::freeze_by_request)),
            Request::Thaw(on) => (Goal::Told, self.each(on, Supervisor::thaw_by_request)),
            Request::Remove(on) => (Goal::Down, self.each(on, |core, at| core.remove_by_request(now, at))),
            Request::ShutDown => (Goal::Over, self.shut_down_by_request(now)),
        };
        match on {
            Ok(on) => self.pending.push(Pending { client, goal, on }),
            Err(reply) => self.actions.push(Action::Reply { client, reply }),
        }
    }

    /// The kernel reported that a ceiling was felt while the life goes on.
    fn on_resource(&mut self, life: Life, usage: Usage) {
        let Some(at) = self.current(life) else { return };
        let seen = self.instances[at].seen;
        self.instances[at].account(&usage);
        self.instances[at].seen = usage;
        if usage.oom_kills > seen.oom_kills {
            self.announce(Announcement::OomKill { life, kills: usage.oom_kills - seen.oom_kills });
        }
        // A fork bomb is refused thousands of times a second; people want to hear of it once.
        if usage.tasks_refused > 0 && seen.tasks_refused == 0 {
            self.announce(Announcement::TasksRefused { life });
        }
    }

    fn on_frozen(&mut self, life: Life) {
        let Some(at) = self.current(life) else { return };
        if let State::Running { freezer: freezer @ Freezer::Freezing, .. } = &mut self.instances[at].state {
            *freezer = Freezer::Frozen;
            self.intervened(at, Intervention::Freeze);
        }
    }

    fn on_configured(&mut self, policies: Vec<(InstanceId, Policy)>, exit_code: ExitCodeRule) {
        self.exit_code = exit_code;
        for (id, policy) in policies {
            let (at, known) = (id.0 as usize, self.instances.len());
            match self.instances.get_mut(at) {
                Some(instance) => instance.configure(policy),
                None if at == known => {
                    self.instances.push(Instance { wanted: Wanted::Gone, ..Instance::new(id, policy) });
                }
                None => {}
            }
        }
    }

    fn on_time_passed(&mut self, now: Time) {
        if self.frozen_since.is_some() {
            return;
        }
        for at in 0..self.instances.len() {
            if self.instances[at].deadline().is_none_or(|deadline| deadline > now) {
                continue;
            }
            let Some(life) = self.instances[at].life() else {
                let why = self.instances[at].reason();
                self.enter_starting(now, at, why);
                continue;
            };
            match self.instances[at].state {
                State::StopSigterm { .. } => {
                    let timeout = self.instances[at].policy.timeout_stop;
                    self.announce(Announcement::Killing { life, timeout });
                    self.enter_kill(now, at, true);
                }
                State::StopSigkill { main, then, .. } => {
                    self.instances[at].timed_out();
                    self.note_not_killed(now, at, main, then);
                    self.enter(now, at, State::Stuck { invocation: life.invocation, main, then });
                    self.announce(Announcement::GivenUp { life });
                }
                State::Inactive
                | State::Failed
                | State::Starting { .. }
                | State::Running { .. }
                | State::Stuck { .. }
                | State::RestartWait { .. } => {}
            }
        }
    }

    // ---- the life of one instance

    fn enter(&mut self, now: Time, at: usize, state: State) {
        self.instances[at].state = state;
        self.instances[at].since = now;
    }

    /// The next life begins. `why`: it is a restart, for this reason.
    fn enter_starting(&mut self, now: Time, at: usize, why: Option<RestartReason>) {
        debug_assert!(!self.is_tearing_down(), "nothing begins once the end was decided");
        let instance = &mut self.instances[at];
        debug_assert!(instance.life().is_none(), "one live invocation at most");
        instance.note_start(now);
        instance.invocations += 1;
        instance.wanted = Wanted::Up;
        instance.last_restart = why.map(|why| LastRestart { at: now, why }).or(instance.last_restart);
        instance.usage_before = instance.usage;
        instance.started = Some(now);
        instance.ended = None;
        instance.outcome = None;
        instance.seen = Usage::default();
        let invocation = instance.invocations;
        let life = Life { instance: instance.id, invocation };
        self.enter(now, at, State::Starting { invocation });
        self.actions.push(Action::Spawn(life));
    }

    /// Asks an instance to end. What already ends keeps its deadline.
    fn stop(&mut self, now: Time, at: usize, then: Then) {
        let deadline = now.saturating_add(self.instances[at].policy.timeout_stop);
        let Some(life) = self.instances[at].life() else {
            match (self.instances[at].state, then) {
                (_, Then::Start) => {
                    let again = self.instances[at].invocations > 0;
                    self.enter_starting(now, at, again.then_some(RestartReason::Requested));
                }
                (State::RestartWait { .. }, _) => self.settle(now, at, Then::Rest),
                (_, Then::Rest | Then::Restart { .. }) => {}
            }
            return;
        };
        let invocation = life.invocation;
        match &mut self.instances[at].state {
            State::Starting { .. } => {
                let main = Main::NotYet;
                self.enter(now, at, State::StopSigterm { invocation, deadline, main, then });
                self.actions.push(Action::CancelSpawn(life));
            }
            &mut State::Running { pid, freezer, .. } => {
                let main = Main::Alive { pid };
                self.enter(now, at, State::StopSigterm { invocation, deadline, main, then });
                self.thaw_first(life, freezer);
                self.send_stop_signal(at, life);
            }
            State::StopSigterm { then: after, .. }
            | State::StopSigkill { then: after, .. }
            | State::Stuck { then: after, .. } => *after = then,
            State::Inactive | State::Failed | State::RestartWait { .. } => {}
        }
    }

    fn send_stop_signal(&mut self, at: usize, life: Life) {
        let policy = &self.instances[at].policy;
        let to = match policy.kill_mode {
            KillMode::ControlGroup => Recipients::All,
            KillMode::Mixed => Recipients::Main,
        };
        self.actions.push(Action::Stop { life, signal: policy.stop_signal, to });
    }

    /// What is frozen would handle the stop signal when it is too late.
    fn thaw_first(&mut self, life: Life, freezer: Freezer) {
        if freezer != Freezer::Thawed {
            self.actions.push(Action::Thaw(life));
        }
    }

    fn enter_kill(&mut self, now: Time, at: usize, timed_out: bool) {
        let Some(life) = self.instances[at].life() else { return };
        let (main, then) = match self.instances[at].state {
            State::Starting { .. } => {
                self.actions.push(Action::CancelSpawn(life));
                (Main::NotYet, Then::Rest)
            }
            State::Running { pid, .. } => (Main::Alive { pid }, Then::Rest),
            State::StopSigterm { main, then, .. } => (main, then),
            State::Inactive
            | State::Failed
            | State::StopSigkill { .. }
            | State::Stuck { .. }
            | State::RestartWait { .. } => return,
        };
        if timed_out {
            self.instances[at].timed_out();
            self.note_timeout(now, at, main, then);
        }
        let deadline = now.saturating_add(KILL_PATIENCE);
        let invocation = life.invocation;
        self.enter(now, at, State::StopSigkill { invocation, deadline, timed_out, main, then });
        self.actions.push(Action::KillCgroup(life));
    }

    /// What went wrong first is what went wrong.
    fn note_timeout(&mut self, now: Time, at: usize, main: Main, then: Then) {
        if !self.instances[at].has_crashed() {
            self.note_unended(now, at, Broken::NotStopped, main, then);
        }
    }

    /// That a life outlived SIGKILL is worse than that it outlived its stop timeout.
    fn note_not_killed(&mut self, now: Time, at: usize, main: Main, then: Then) {
        let instance = &mut self.instances[at];
        let invocation = instance.invocations;
        match instance.crash.as_mut().filter(|crash| crash.invocation == invocation) {
            Some(crash) if crash.how == Broken::NotStopped => crash.how = Broken::NotKilled,
            Some(_) => {}
            None => self.note_unended(now, at, Broken::NotKilled, main, then),
        }
    }

    fn note_unended(&mut self, now: Time, at: usize, how: Broken, main: Main, then: Then) {
        let pid = match main {
            Main::Alive { pid } => Some(pid),
            Main::NotYet | Main::Gone => None,
        };
        let next = match then {
            Then::Rest => Next::Rest,
            Then::Start => Next::Restart { delay: Duration::ZERO },
            Then::Restart { delay } => Next::Restart { delay },
        };
        self.instances[at].note_crash(now, how, pid, next);
    }

    fn leaf_empty(&mut self, now: Time, at: usize, life: Life, then: Then) {
        if let State::Stuck { .. } = self.instances[at].state {
            let after = now.saturating_sub(self.instances[at].since);
            self.announce(Announcement::Gone { life, after });
        }
        self.actions.push(Action::RemoveCgroup(life));
        self.settle(now, at, then);
    }

    /// The life is over: its main process reaped, its leaf empty.
    fn settle(&mut self, now: Time, at: usize, then: Then) {
        let instance = &mut self.instances[at];
        if instance.life().is_some() {
            instance.ended = Some(now);
        }
        let rest = instance.rest();
        let id = instance.id;
        if let Some(policy) = instance.next_policy.take() {
            instance.policy = policy;
        }
        match then {
            Then::Rest => {
                self.enter(now, at, rest);
                if self.instances[at].is_removed() {
                    self.announce(Announcement::Removed { instance: id });
                }
            }
            Then::Start => {
                self.enter(now, at, rest);
                self.enter_starting(now, at, Some(RestartReason::Requested));
            }
            Then::Restart { delay } if delay.is_zero() => {
                let why = self.instances[at].reason();
                self.enter(now, at, rest);
                self.enter_starting(now, at, why);
            }
            Then::Restart { delay } => {
                self.enter(now, at, State::RestartWait { until: now.saturating_add(delay) })
            }
        }
    }

    fn ended(&mut self, at: usize, life: Life, exit: Exit, outcome: Outcome, usage: Usage) {
        let instance = &mut self.instances[at];
        instance.account(&usage);
        instance.exit = Some(exit);
        instance.outcome = Some(outcome);
        self.announce(Announcement::Ended { life, exit, outcome, usage });
    }

    // ---- policy

    /// What an unasked end leads to. `again`: the policy asks for a restart; `clean`: it ended well.
    fn verdict(&mut self, now: Time, at: usize, again: bool, clean: bool, why: RestartReason) -> Verdict {
        let instance = &mut self.instances[at];
        if !again {
            return Verdict::Down { clean };
        }
        let id = instance.id;
        if instance.start_limit_hit(now) {
            instance.outcome = Some(Outcome::StartLimitHit);
            self.announce(Announcement::StartLimitHit { instance: id });
            return Verdict::Down { clean: false };
        }
        let lived = now.saturating_sub(instance.started.unwrap_or(now));
        if lived >= instance.policy.restart.interval {
            instance.streak = 0;
        }
        let delay = policy::restart_delay(&instance.policy.restart, instance.streak);
        instance.streak = instance.streak.saturating_add(1);
        instance.restarts = instance.restarts.saturating_add(1);
        let restarts = instance.restarts;
        self.announce(Announcement::RestartIn { instance: id, delay, restarts, why });
        Verdict::Restart { delay }
    }

    /// Whether this unasked end brings the stack down.
    fn judge(&mut self, now: Time, at: usize, code: u8, clean: bool) {
        self.worst = self.worst.max(code);
        self.last = code;
        self.removed_since = false;
        let policy = &self.instances[at].policy;
        let forgiven = policy.can_die || (policy.oneshot && clean);
        if !forgiven {
            let instance = &mut self.instances[at];
            if !matches!(self.phase, Phase::TearDown { .. } | Phase::Over) && instance.has_crashed() {
                instance.crash.iter_mut().for_each(|crash| crash.next = Next::StackEnds);
            }
            self.tear_down(now, self.by_rule(code));
        }
    }

    /// How lpm ends when instances decide it. What lpm itself was told (a signal, a reader that left) is no
    /// instance's status, and the rule has no say in it.
    fn by_rule(&self, code: u8) -> Ending {
        Ending::Code(match self.exit_code {
            ExitCodeRule::First => code,
            ExitCodeRule::Worst => code.max(self.worst),
            ExitCodeRule::Zero => 0,
        })
    }

    /// The first one asks for the end, a further one for the kill. What an exit or a request began counts as
    /// no signal: the operator who presses Ctrl-C just then has not lost patience yet. Nor has timeout(1), which
    /// signals its child and then the group it is in.
    fn interrupt(&mut self, now: Time, signal: Signal) {
        if let Some(first) = self.interrupted {
            if signal != SIGHUP && now.saturating_sub(first) >= SAME_SIGNAL {
                self.kill_all(now);
            }
            return;
        }
        self.interrupted = Some(now);
        self.announce(Announcement::Interrupted(signal));
        self.tear_down(now, Ending::Signal(signal));
    }

    /// The stack ends, this way, unless that was decided before. The caller asks or kills the instances.
    fn decide(&mut self, now: Time, ending: Ending) {
        if self.is_tearing_down() {
            return;
        }
        self.resume(now);
        self.phase = Phase::TearDown { ending };
        // From here on no life is followed by another.
        for at in 0..self.instances.len() {
            match &mut self.instances[at].state {
                State::RestartWait { .. } => self.settle(now, at, Then::Rest),
                State::StopSigterm { then, .. }
                | State::StopSigkill { then, .. }
                | State::Stuck { then, .. } => *then = Then::Rest,
                State::Inactive | State::Failed | State::Starting { .. } | State::Running { .. } => {}
            }
        }
    }

    fn tear_down(&mut self, now: Time, ending: Ending) {
        if self.is_tearing_down() {
            return;
        }
        self.decide(now, ending);
        let mut signals = self.instances.iter().filter(|i| !i.is_over()).map(|i| i.policy.stop_signal);
        if let Some(first) = signals.next() {
            let same = signals.all(|signal| signal == first);
            self.announce(Announcement::StoppingAll(same.then_some(first)));
        }
        for at in 0..self.instances.len() {
            self.stop(now, at, Then::Rest);
        }
    }

    fn kill_all(&mut self, now: Time) {
        let killable = |i: &Instance| !i.is_over() && !matches!(i.state, State::StopSigkill { .. });
        if !self.instances.iter().any(killable) {
            return;
        }
        self.announce(Announcement::KillingAll);
        for at in 0..self.instances.len() {
            self.enter_kill(now, at, false);
        }
    }

    fn forward(&mut self, signal: Signal) {
        self.announce(Announcement::Forwarding(signal));
        let lives = self.instances.iter().filter(|i| matches!(i.state, State::Running { .. }));
        let orders: Vec<Action> = lives
            .filter_map(Instance::life)
            .map(|life| Action::Signal { life, signal, to: Recipients::Main })
            .collect();
        self.actions.extend(orders);
    }

    fn suspend(&mut self, now: Time) {
        if self.frozen_since.is_none() && !self.is_tearing_down() {
            self.frozen_since = Some(now);
            self.announce(Announcement::Suspended);
            self.actions.push(Action::Suspend);
        }
    }

    fn resume(&mut self, now: Time) {
        let Some(since) = self.frozen_since.take() else { return };
        self.instances.iter_mut().for_each(|instance| instance.postpone(since, now));
        self.actions.push(Action::Resume);
        self.announce(Announcement::Resumed);
    }

    // ---- requests

    /// Does this to each instance that there is, once. Who cannot have it done keeps nobody else from it; the
    /// first such is the answer.
    fn each(
        &mut self,
        mut on: Vec<InstanceId>,
        what: impl Fn(&mut Supervisor, usize) -> Result<(), Reply>,
    ) -> Result<Vec<InstanceId>, Reply> {
        let mut seen = BTreeSet::new();
        on.retain(|&id| (id.0 as usize) < self.instances.len() && seen.insert(id));
        let mut answer = Ok(());
        for id in &on {
            answer = answer.and(what(self, id.0 as usize));
        }
        answer.map(|()| on)
    }

    fn start_by_request(&mut self, now: Time, at: usize) -> Result<(), Reply> {
        let instance = &mut self.instances[at];
        instance.wanted = Wanted::Up;
        match &mut instance.state {
            State::Starting { .. } | State::Running { .. } => {}
            State::StopSigterm { then, .. } | State::StopSigkill { then, .. } | State::Stuck { then, .. } => {
                *then = Then::Start;
                instance.forgive();
            }
            State::Inactive | State::Failed => {
                instance.forgive();
                self.enter_starting(now, at, None);
            }
            State::RestartWait { .. } => {
                instance.forgive();
                let why = instance.reason();
                self.enter_starting(now, at, why);
            }
        }
        Ok(())
    }

    fn restart_by_request(&mut self, now: Time, at: usize) -> Result<(), Reply> {
        let instance = &mut self.instances[at];
        if instance.is_removed() {
            return Err(Reply::NotRunning(instance.id));
        }
        instance.wanted = Wanted::Up;
        instance.forgive();
        if instance.is_news(Then::Start) {
            self.intervened(at, Intervention::Restart);
        }
        self.stop(now, at, Then::Start);
        Ok(())
    }

    fn stop_by_request(&mut self, now: Time, at: usize) -> Result<(), Reply> {
        let instance = &mut self.instances[at];
        instance.put_down();
        if instance.is_news(Then::Rest) {
            self.intervened(at, Intervention::Stop);
        }
        self.stop(now, at, Then::Rest);
        Ok(())
    }

    fn kill_by_request(&mut self, now: Time, at: usize) -> Result<(), Reply> {
        let instance = &mut self.instances[at];
        match &mut instance.state {
            State::Starting { .. } | State::Running { .. } => {}
            State::StopSigterm { then, .. } => *then = Then::Rest,
            // Nobody is there to be killed, or everybody is being killed: what is left to do is a stop's.
            State::Inactive
            | State::Failed
            | State::RestartWait { .. }
            | State::StopSigkill { .. }
            | State::Stuck { .. } => return self.stop_by_request(now, at),
        }
        instance.put_down();
        self.intervened(at, Intervention::Kill);
        self.enter_kill(now, at, false);
        Ok(())
    }

    fn remove_by_request(&mut self, now: Time, at: usize) -> Result<(), Reply> {
        let instance = &mut self.instances[at];
        let (id, known) = (instance.id, instance.is_removed());
        instance.wanted = Wanted::Gone;
        self.removed_since = true;
        if !matches!(instance.state, State::Inactive | State::Failed) {
            return self.stop_by_request(now, at);
        }
        if !known {
            self.announce(Announcement::Removed { instance: id });
        }
        Ok(())
    }

    fn signal_by_request(&mut self, at: usize, signal: Signal, to: Recipients) -> Result<(), Reply> {
        let instance = &self.instances[at];
        let life = instance.life().filter(|_| instance.has(to));
        let life = life.ok_or(Reply::NotRunning(instance.id))?;
        self.intervened(at, Intervention::Signal(signal));
        self.actions.push(Action::Signal { life, signal, to });
        Ok(())
    }

    fn freeze_by_request(&mut self, at: usize) -> Result<(), Reply> {
        let instance = &mut self.instances[at];
        let life = instance.life();
        match (&mut instance.state, life) {
            (State::Running { freezer: freezer @ Freezer::Thawed, .. }, Some(life)) => {
                *freezer = Freezer::Freezing;
                self.actions.push(Action::Freeze(life));
                Ok(())
            }
            (State::Running { .. }, _) => Ok(()),
            _ => Err(Reply::NotRunning(instance.id)),
        }
    }

    fn thaw_by_request(&mut self, at: usize) -> Result<(), Reply> {
        let instance = &mut self.instances[at];
        let life = instance.life();
        if let (State::Running { freezer, .. }, Some(life)) = (&mut instance.state, life)
            && *freezer != Freezer::Thawed
        {
            *freezer = Freezer::Thawed;
            self.actions.push(Action::Thaw(life));
            self.intervened(at, Intervention::Thaw);
        }
        Ok(())
    }

    fn shut_down_by_request(&mut self, now: Time) -> Result<Vec<InstanceId>, Reply> {
        if !self.is_tearing_down() {
            self.announce(Announcement::ShutDownRequested);
            self.tear_down(now, self.by_rule(0));
        }
        Ok(Vec::new())
    }

    /// Replies to those whose request has come to an end.
    fn answer(&mut self) {
        let tearing_down = self.is_tearing_down();
        let Supervisor { instances, pending, actions, .. } = self;
        pending.retain_mut(|Pending { client, goal, on }| {
            let mut never = None;
            on.retain(|&id| match standing(*goal, instances.get(id.0 as usize), tearing_down) {
                Standing::There => false,
                Standing::OnTheWay => true,
                Standing::Never(reply) => {
                    never.get_or_insert(reply);
                    true
                }
            });
            let reply = match (never, *goal) {
                (Some(reply), _) => reply,
                // Answered at the very end.
                (None, Goal::Over) => return true,
                (None, Goal::Up | Goal::Down | Goal::Frozen | Goal::Told) if on.is_empty() => Reply::Done,
                (None, Goal::Up | Goal::Down | Goal::Frozen | Goal::Told) => return true,
            };
            actions.push(Action::Reply { client: *client, reply });
            false
        });
    }

    // ---- the end

    /// Whether nothing runs or ever will by itself, and nobody asked for that. What was removed is no part of the
    /// stack, and its being down says nothing.
    fn nothing_is_left(&self) -> bool {
        let up_or_removed = |instance: &Instance| instance.wanted == Wanted::Up || instance.is_removed();
        !self.removed_since
            && self.instances.iter().all(|instance| instance.at_rest() && up_or_removed(instance))
    }

    /// After each fact: has the stack come to its end?
    fn conclude(&mut self, now: Time) {
        if self.phase == Phase::Up && self.nothing_is_left() {
            self.tear_down(now, self.by_rule(self.last));
        }
        self.answer();
        let Phase::TearDown { ending } = self.phase else { return };
        if !self.instances.iter().all(Instance::is_over) {
            return;
        }
        self.phase = Phase::Over;
        for pending in std::mem::take(&mut self.pending) {
            self.actions.push(Action::Reply { client: pending.client, reply: Reply::Done });
        }
        self.actions.push(Action::Exit(ending));
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

/// Where an instance stands against the goal of a request; one that does not exist is in nobody's way.
fn standing(goal: Goal, instance: Option<&Instance>, tearing_down: bool) -> Standing {
    let Some(instance) = instance else { return Standing::There };
    let superseded = if tearing_down { Reply::ShuttingDown } else { Reply::Superseded };
    match (goal, instance.state) {
        (Goal::Over, _) => Standing::OnTheWay,
        (Goal::Told, _) => Standing::There,

        (Goal::Frozen, State::Running { freezer: Freezer::Frozen, .. }) => Standing::There,
        (Goal::Frozen, State::Running { freezer: Freezer::Freezing, .. }) => Standing::OnTheWay,
        // Thawed, stopped or ended meanwhile.
        (Goal::Frozen, _) => Standing::Never(superseded),

        (Goal::Up | Goal::Down, State::Stuck { .. }) | (Goal::Up, State::Failed) => {
            Standing::Never(Reply::Failed(instance.id))
        }

        (Goal::Up, State::Running { .. }) => Standing::There,
        (Goal::Up, State::Inactive) => Standing::Never(superseded),
        (Goal::Up, State::Starting { .. } | State::RestartWait { .. }) => Standing::OnTheWay,
        (Goal::Up, State::StopSigterm { then, .. } | State::StopSigkill { then, .. }) => match then {
            Then::Start | Then::Restart { .. } => Standing::OnTheWay,
            Then::Rest => Standing::Never(superseded),
        },

        (Goal::Down, State::Inactive | State::Failed) => Standing::There,
        (Goal::Down, State::Starting { .. } | State::Running { .. } | State::RestartWait { .. }) => {
            Standing::Never(superseded)
        }
        (Goal::Down, State::StopSigterm { then, .. } | State::StopSigkill { then, .. }) => match then {
            Then::Rest => Standing::OnTheWay,
            Then::Start | Then::Restart { .. } => Standing::Never(superseded),
        },
    }
}
