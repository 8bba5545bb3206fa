//! The life of one instance: how it begins, is asked to end, is killed and is over, and what follows an end that
//! was not asked for. Whether the stack ends with it is decided in `ending`.

use std::time::Duration;

use super::{
    Action, Announcement, Broken, Exit, Freezer, KILL_PATIENCE, Life, Living, Main, Next, Outcome, Progress,
    Recipients, RestartReason, State, Supervisor, Then, Time, Usage, Wait, Wanted, policy,
};
use crate::config::KillMode;

/// What an unasked exit leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Restart {
        delay: Duration,
    },
    /// It stays down, and the stack may have to go with it.
    Down {
        clean: bool,
    },
}

impl Supervisor {
    pub(super) fn enter(&mut self, now: Time, at: usize, state: State) {
        self.instances[at].state = state;
        self.instances[at].since = now;
    }

    /// The life that an instance has comes to this; its processes no longer have to stand still.
    pub(super) fn advance(&mut self, now: Time, at: usize, progress: Progress) {
        let instance = &mut self.instances[at];
        if let Some(living) = instance.state.living_mut() {
            (living.progress, living.freezer) = (progress, Freezer::Thawed);
            instance.since = now;
        }
    }

    /// The next life begins. `why`: it is a restart, for this reason.
    pub(super) fn enter_starting(&mut self, now: Time, at: usize, why: Option<RestartReason>) {
        debug_assert!(!self.is_tearing_down(), "nothing begins once the end was decided");
        let instance = &mut self.instances[at];
        debug_assert!(instance.life().is_none(), "one live invocation at most");
        instance.note_start(now);
        instance.invocations += 1;
        instance.wanted = Wanted::Up;
        instance.started = Some(now);
        instance.outcome = None;
        instance.ledger.begin(now, why);
        let invocation = instance.invocations;
        let life = Life { instance: instance.id, invocation };
        self.enter(now, at, State::Up(Living::ordered(invocation)));
        self.actions.push(Action::Spawn(life));
    }

    /// Asks an instance to end. What already ends keeps its deadline.
    pub(super) fn stop(&mut self, now: Time, at: usize, then: Then) {
        match (self.instances[at].state, then) {
            (State::Down { .. } | State::Waiting(_), Then::Start) => {
                let again = self.instances[at].invocations > 0;
                self.enter_starting(now, at, again.then_some(RestartReason::Requested));
            }
            (State::Waiting(_), Then::Rest | Then::Restart { .. }) => self.settle(now, at, Then::Rest),
            (State::Down { .. }, Then::Rest | Then::Restart { .. }) => {}
            (State::Up(living), _) => self.stop_life(now, at, living, then),
        }
    }

    fn stop_life(&mut self, now: Time, at: usize, living: Living, then: Then) {
        let instance = &mut self.instances[at];
        let life = living.of(instance.id);
        let deadline = now.saturating_add(instance.policy.timeout_stop);
        match living.progress {
            Progress::Spawning => {
                self.advance(now, at, Progress::Stopping { deadline, then });
                self.actions.push(Action::CancelSpawn(life));
            }
            Progress::Running => {
                self.advance(now, at, Progress::Stopping { deadline, then });
                self.thaw_first(life, living.freezer);
                self.send_stop_signal(at, life);
            }
            Progress::Stopping { .. } | Progress::Killing { .. } | Progress::Stuck { .. } => {
                self.instances[at].set_then(then);
            }
        }
    }

    /// Asks what the main process has left behind to end.
    pub(super) fn stop_left_behind(
        &mut self,
        now: Time,
        at: usize,
        life: Life,
        freezer: Freezer,
        then: Then,
        left: u32,
    ) {
        let instance = &mut self.instances[at];
        instance.ledger.leftovers = instance.ledger.leftovers.saturating_add(left);
        let (signal, timeout) = (instance.policy.stop_signal, instance.policy.timeout_stop);
        self.advance(now, at, Progress::Stopping { deadline: now.saturating_add(timeout), then });
        self.announce(Announcement::LeftBehind { life, count: left, signal });
        self.thaw_first(life, freezer);
        self.actions.push(Action::Stop { life, signal, to: Recipients::All });
    }

    pub(super) fn send_stop_signal(&mut self, at: usize, life: Life) {
        let policy = &self.instances[at].policy;
        let to = match policy.kill_mode {
            KillMode::ControlGroup => Recipients::All,
            KillMode::Mixed => Recipients::Main,
        };
        self.actions.push(Action::Stop { life, signal: policy.stop_signal, to });
    }

    /// What is frozen would handle the stop signal when it is too late.
    pub(super) fn thaw_first(&mut self, life: Life, freezer: Freezer) {
        if freezer != Freezer::Thawed {
            self.actions.push(Action::Thaw(life));
        }
    }

    pub(super) fn enter_kill(&mut self, now: Time, at: usize, timed_out: bool) {
        let State::Up(living) = self.instances[at].state else { return };
        let life = living.of(self.instances[at].id);
        let then = match living.progress {
            Progress::Spawning => {
                self.actions.push(Action::CancelSpawn(life));
                Then::Rest
            }
            Progress::Running => Then::Rest,
            Progress::Stopping { then, .. } => then,
            Progress::Killing { .. } | Progress::Stuck { .. } => return,
        };
        if timed_out {
            self.instances[at].timed_out();
            self.note_timeout(now, at, living.main, then);
        }
        let deadline = now.saturating_add(KILL_PATIENCE);
        self.advance(now, at, Progress::Killing { deadline, timed_out, then });
        self.actions.push(Action::KillCgroup(life));
    }

    /// What went wrong first is what went wrong.
    fn note_timeout(&mut self, now: Time, at: usize, main: Main, then: Then) {
        if !self.instances[at].has_crashed() {
            self.note_unended(now, at, Broken::NotStopped, main, then);
        }
    }

    /// That a life outlived SIGKILL is worse than that it outlived its stop timeout.
    pub(super) fn note_not_killed(&mut self, now: Time, at: usize, main: Main, then: Then) {
        let instance = &mut self.instances[at];
        let invocation = instance.invocations;
        match instance.ledger.crash.as_mut().filter(|crash| crash.invocation == invocation) {
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

    pub(super) fn leaf_empty(&mut self, now: Time, at: usize, life: Life, then: Then) {
        if let State::Up(Living { progress: Progress::Stuck { .. }, .. }) = self.instances[at].state {
            let after = now.saturating_sub(self.instances[at].since);
            self.announce(Announcement::Gone { life, after });
        }
        self.actions.push(Action::RemoveCgroup(life));
        self.settle(now, at, then);
    }

    /// The life is over: its main process reaped, its leaf empty.
    pub(super) fn settle(&mut self, now: Time, at: usize, then: Then) {
        let instance = &mut self.instances[at];
        if instance.life().is_some() {
            instance.ledger.ended = Some(now);
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
                let until = now.saturating_add(delay);
                self.enter(now, at, State::Waiting(Wait::Restart { until }));
            }
        }
    }

    pub(super) fn ended(&mut self, at: usize, life: Life, exit: Exit, outcome: Outcome, usage: Usage) {
        let instance = &mut self.instances[at];
        instance.ledger.account(&usage);
        instance.exit = Some(exit);
        instance.outcome = Some(outcome);
        self.announce(Announcement::Ended { life, exit, outcome, usage });
    }

    /// What an unasked end leads to. `again`: the policy asks for a restart; `clean`: it ended well.
    pub(super) fn verdict(
        &mut self,
        now: Time,
        at: usize,
        again: bool,
        clean: bool,
        why: RestartReason,
    ) -> Verdict {
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
        let restarts = instance.ledger.count_restart();
        self.announce(Announcement::RestartIn { instance: id, delay, restarts, why });
        Verdict::Restart { delay }
    }
}
