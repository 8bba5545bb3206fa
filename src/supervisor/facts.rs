//! What the core makes of each fact. What a fact is about is looked at first: one about an old life, or one that
//! the state does not know how to come by, changes nothing.

use super::life::Verdict;
use super::policy::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use super::{
    Action, Announcement, Broken, Ending, Exit, Failure, FailureKind, Freezer, Instance, InstanceId,
    Intervention, Life, Main, Next, Outcome, Phase, Recipients, RestartReason, State, Supervisor, Then, Time,
    Usage, Wanted, policy,
};
use crate::config::{ExitCodeRule, KillMode, Policy, Signal};

impl Supervisor {
    pub(super) fn on_begin(&mut self, now: Time) {
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

    pub(super) fn on_spawned(&mut self, now: Time, life: Life, pid: u32) {
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

    pub(super) fn on_spawn_failed(&mut self, now: Time, life: Life, failure: Failure) {
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
                self.instances[at].ledger.set_next(Next::Restart { delay });
                self.settle(now, at, Then::Restart { delay });
            }
            Verdict::Down { clean } => {
                self.settle(now, at, Then::Rest);
                self.judge(now, at, policy::failure_code(kind), clean);
            }
        }
    }

    pub(super) fn on_exited(&mut self, now: Time, life: Life, exit: Exit, usage: Usage, left: u32) {
        let Some(at) = self.current(life) else { return };
        let invocation = life.invocation;
        let stop_signal = self.instances[at].policy.stop_signal;
        match self.instances[at].state {
            State::Running { freezer, pid, .. } => {
                let outcome = policy::outcome_unasked(exit, &usage);
                self.ended(at, life, exit, outcome, usage);
                let restarts = self.instances[at].ledger.restarts;
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
                    instance.ledger.leftovers = instance.ledger.leftovers.saturating_add(left);
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

    pub(super) fn on_emptied(&mut self, now: Time, life: Life, usage: Usage) {
        let Some(at) = self.current(life) else { return };
        match self.instances[at].state {
            State::StopSigterm { main: Main::Gone, then, .. }
            | State::StopSigkill { main: Main::Gone, then, .. }
            | State::Stuck { main: Main::Gone, then, .. } => {
                self.instances[at].ledger.account(&usage);
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

    /// The kernel reported that a ceiling was felt while the life goes on.
    pub(super) fn on_resource(&mut self, life: Life, usage: Usage) {
        let Some(at) = self.current(life) else { return };
        let seen = self.instances[at].ledger.report(usage);
        if usage.oom_kills > seen.oom_kills {
            self.announce(Announcement::OomKill { life, kills: usage.oom_kills - seen.oom_kills });
        }
        // A fork bomb is refused thousands of times a second; people want to hear of it once.
        if usage.tasks_refused > 0 && seen.tasks_refused == 0 {
            self.announce(Announcement::TasksRefused { life });
        }
    }

    pub(super) fn on_frozen(&mut self, life: Life) {
        let Some(at) = self.current(life) else { return };
        if let State::Running { freezer: freezer @ Freezer::Freezing, .. } = &mut self.instances[at].state {
            *freezer = Freezer::Frozen;
            self.intervened(at, Intervention::Freeze);
        }
    }

    pub(super) fn on_configured(&mut self, policies: Vec<(InstanceId, Policy)>, exit_code: ExitCodeRule) {
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

    pub(super) fn on_time_passed(&mut self, now: Time) {
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

    pub(super) fn on_signal(&mut self, now: Time, signal: Signal) {
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

    pub(super) fn resume(&mut self, now: Time) {
        let Some(since) = self.frozen_since.take() else { return };
        self.instances.iter_mut().for_each(|instance| instance.postpone(since, now));
        self.actions.push(Action::Resume);
        self.announce(Announcement::Resumed);
    }
}
