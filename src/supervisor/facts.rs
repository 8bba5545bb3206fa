//! What the core makes of each fact. What a fact is about is looked at first: one about an old life, or one that
//! the state does not know how to come by, changes nothing.

use super::life::Verdict;
use super::policy::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGUSR1, SIGUSR2};
use super::{
    Action, Announcement, Broken, Ending, Exit, Failure, FailureKind, Freezer, Instance, InstanceId,
    Intervention, Life, Living, Main, Next, Outcome, Phase, Progress, Recipients, RestartReason, State,
    Supervisor, Then, Time, Usage, Wait, Wanted, policy,
};
use crate::config::{ExitCodeRule, KillMode, Policy, Signal};

/// How a main process ended, and what was left of its life then.
#[derive(Clone, Copy)]
struct Exited {
    life: Life,
    exit: Exit,
    usage: Usage,
    left: u32,
}

impl Supervisor {
    pub(super) fn on_begin(&mut self, now: Time) {
        if self.phase == Phase::Idle {
            self.phase = Phase::Up;
            for at in 0..self.instances.len() {
                let instance = &self.instances[at];
                // A client may have come first.
                if instance.state == (State::Down { failed: false }) && instance.wanted == Wanted::Up {
                    self.enter_starting(now, at, None);
                }
            }
        }
    }

    pub(super) fn on_spawned(&mut self, now: Time, life: Life, pid: u32) {
        let Some((at, living)) = self.current(life) else { return };
        let Main::NotYet = living.main else { return };
        living.main = Main::Alive { pid };
        match living.progress {
            Progress::Spawning => {
                self.advance(now, at, Progress::Running);
                self.announce(Announcement::Started { life, pid });
            }
            // The stop came while the spawn was on its way: the process exists after all and is asked now.
            Progress::Stopping { .. } => {
                self.announce(Announcement::Started { life, pid });
                self.send_stop_signal(at, life);
            }
            Progress::Killing { .. } => {
                self.announce(Announcement::Started { life, pid });
                self.actions.push(Action::KillCgroup(life));
            }
            Progress::Stuck { .. } => self.actions.push(Action::KillCgroup(life)),
            // What runs has a main process.
            Progress::Running => {}
        }
    }

    pub(super) fn on_spawn_failed(&mut self, now: Time, life: Life, failure: Failure) {
        let Some((at, living)) = self.current(life) else { return };
        if living.main == Main::Gone {
            return;
        }
        // None: it was spawning, or it ran. The kernel had begun it, and the limit killed it before its first
        // instruction.
        let then = living.progress.then();
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
        let Some((at, living)) = self.current(life) else { return };
        let Main::Alive { .. } = living.main else { return };
        let was = *living;
        living.main = Main::Gone;
        let stop_signal = self.instances[at].policy.stop_signal;
        let asked = |timed_out| policy::outcome_asked(exit, &usage, stop_signal, timed_out);
        let exited = Exited { life, exit, usage, left };
        match was.progress {
            // What is spawning has no main process yet.
            Progress::Spawning => {}
            Progress::Running => self.exited_unasked(now, at, was, exited),
            Progress::Stopping { then, .. } => {
                self.exited_asked(now, at, asked(false), then, exited);
                // With `mixed` only the main process was asked; what it leaves is killed.
                if left > 0 && self.instances[at].policy.kill_mode == KillMode::Mixed {
                    self.enter_kill(now, at, false);
                }
            }
            Progress::Killing { timed_out, then, .. } => {
                self.exited_asked(now, at, asked(timed_out), then, exited);
            }
            Progress::Stuck { then } => self.exited_asked(now, at, Outcome::Timeout, then, exited),
        }
    }

    /// The main process of a running life ended. The policy says what follows.
    fn exited_unasked(&mut self, now: Time, at: usize, was: Living, exited: Exited) {
        let Exited { life, exit, usage, left } = exited;
        let outcome = policy::outcome_unasked(exit, &usage);
        self.ended(at, life, exit, outcome, usage);
        let restarts = self.instances[at].ledger.restarts;
        let again = policy::wants_restart(&self.instances[at].policy.restart, exit);
        let why = RestartReason::Ended { exit, outcome };
        let verdict = self.verdict(now, at, again, policy::code(exit) == 0, why);
        let (then, next) = match verdict {
            Verdict::Restart { delay } => (Then::Restart { delay }, Next::Restart { delay }),
            Verdict::Down { .. } => (Then::Rest, Next::Rest),
        };
        if outcome != Outcome::Success {
            let crash = self.instances[at].note_crash(now, Broken::Exited(exit), was.pid(), next);
            (crash.usage, crash.restarts, crash.left) = (usage, restarts, left);
        }
        if left == 0 {
            self.leaf_empty(now, at, life, then);
        } else {
            self.stop_left_behind(now, at, life, was.freezer, then, left);
        }
        // Last, when this instance has its new state: tear-down must not ask a dead process to end.
        if let Verdict::Down { clean } = verdict {
            self.judge(now, at, policy::code(exit), clean);
        }
    }

    /// The main process of a life that is ending ended; what follows was decided before.
    fn exited_asked(&mut self, now: Time, at: usize, outcome: Outcome, then: Then, exited: Exited) {
        let Exited { life, exit, usage, left } = exited;
        self.ended(at, life, exit, outcome, usage);
        if left == 0 {
            self.leaf_empty(now, at, life, then);
        }
    }

    pub(super) fn on_emptied(&mut self, now: Time, life: Life, usage: Usage) {
        let Some((at, living)) = self.current(life) else { return };
        match (living.main, living.progress.then()) {
            (Main::Gone, Some(then)) => {
                self.instances[at].ledger.account(&usage);
                self.leaf_empty(now, at, life, then);
            }
            (Main::Gone, None) | (Main::NotYet | Main::Alive { .. }, _) => {}
        }
    }

    /// The kernel reported that a running life met a limit.
    pub(super) fn on_resource(&mut self, life: Life, usage: Usage) {
        let Some((at, _)) = self.current(life) else { return };
        let seen = self.instances[at].ledger.report(usage);
        if usage.oom_kills > seen.oom_kills {
            self.announce(Announcement::OomKill { life, kills: usage.oom_kills - seen.oom_kills });
        }
        // A fork bomb is refused thousands of times a second; it is announced once.
        if usage.tasks_refused > 0 && seen.tasks_refused == 0 {
            self.announce(Announcement::TasksRefused { life });
        }
    }

    pub(super) fn on_frozen(&mut self, life: Life) {
        let Some((at, living)) = self.current(life) else { return };
        if living.freezer == Freezer::Freezing {
            living.freezer = Freezer::Frozen;
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
            let instance = &self.instances[at];
            if instance.deadline().is_none_or(|deadline| deadline > now) {
                continue;
            }
            match instance.state {
                State::Down { .. } => {}
                State::Waiting(Wait::Restart { .. }) => {
                    let why = instance.reason();
                    self.enter_starting(now, at, why);
                }
                State::Up(living) => self.overdue(now, at, living),
            }
        }
    }

    /// A life that is ending took longer than it may.
    fn overdue(&mut self, now: Time, at: usize, living: Living) {
        let life = living.of(self.instances[at].id);
        match living.progress {
            Progress::Stopping { .. } => {
                let timeout = self.instances[at].policy.timeout_stop;
                self.announce(Announcement::Killing { life, timeout });
                self.enter_kill(now, at, true);
            }
            Progress::Killing { then, .. } => {
                self.instances[at].timed_out();
                self.note_not_killed(now, at, living.main, then);
                self.advance(now, at, Progress::Stuck { then });
                self.announce(Announcement::GivenUp { life });
            }
            Progress::Spawning | Progress::Running | Progress::Stuck { .. } => {}
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
        let lives = self.instances.iter().filter(|instance| instance.is_running());
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
