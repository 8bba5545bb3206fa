//! The end of the stack: what decides it, how it is carried out, and when it is over.

use super::policy::SIGHUP;
use super::{
    Action, Announcement, Ending, Instance, Next, Phase, Progress, Reply, SAME_SIGNAL, State, Supervisor,
    Then, Time, Wanted,
};
use crate::config::{ExitCodeRule, Signal};

impl Supervisor {
    /// Whether this unasked end brings the stack down.
    pub(super) fn judge(&mut self, now: Time, at: usize, code: u8, clean: bool) {
        self.worst = self.worst.max(code);
        self.last = code;
        self.removed_since = false;
        let policy = &self.instances[at].policy;
        let forgiven = policy.can_die || (policy.oneshot && clean);
        if !forgiven {
            let instance = &mut self.instances[at];
            if !matches!(self.phase, Phase::TearDown { .. } | Phase::Over) && instance.has_crashed() {
                instance.ledger.set_next(Next::StackEnds);
            }
            self.tear_down(now, self.by_rule(code));
        }
    }

    /// How lpm ends when instances decide it. What lpm itself was told (a signal, a reader that left) is no
    /// instance's status, and the rule has no say in it.
    pub(super) fn by_rule(&self, code: u8) -> Ending {
        Ending::Code(match self.exit_code {
            ExitCodeRule::First => code,
            ExitCodeRule::Worst => code.max(self.worst),
            ExitCodeRule::Zero => 0,
        })
    }

    /// The first one asks for the end, a further one for the kill. What an exit or a request began counts as
    /// no signal: the operator who presses Ctrl-C just then has not lost patience yet. Nor has timeout(1), which
    /// signals its child and then the group it is in.
    pub(super) fn interrupt(&mut self, now: Time, signal: Signal) {
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
    pub(super) fn decide(&mut self, now: Time, ending: Ending) {
        if self.is_tearing_down() {
            return;
        }
        self.resume(now);
        self.phase = Phase::TearDown { ending };
        // From here on no life is followed by another.
        for at in 0..self.instances.len() {
            match self.instances[at].state {
                State::Down { .. } => {}
                State::Waiting(_) => self.settle(now, at, Then::Rest),
                State::Up(_) => self.instances[at].set_then(Then::Rest),
            }
        }
    }

    pub(super) fn tear_down(&mut self, now: Time, ending: Ending) {
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

    pub(super) fn kill_all(&mut self, now: Time) {
        let killable = |instance: &Instance| match instance.state {
            State::Down { .. } => false,
            State::Waiting(_) => true,
            State::Up(living) => match living.progress {
                Progress::Spawning | Progress::Running | Progress::Stopping { .. } => true,
                Progress::Killing { .. } | Progress::Stuck { .. } => false,
            },
        };
        if !self.instances.iter().any(killable) {
            return;
        }
        self.announce(Announcement::KillingAll);
        for at in 0..self.instances.len() {
            self.enter_kill(now, at, false);
        }
    }

    /// Whether nothing runs or ever will by itself, and no request asked for that. What was removed is no part of the
    /// stack, and its being down says nothing.
    fn nothing_is_left(&self) -> bool {
        let up_or_removed = |instance: &Instance| instance.wanted == Wanted::Up || instance.is_removed();
        !self.removed_since
            && self.instances.iter().all(|instance| instance.at_rest() && up_or_removed(instance))
    }

    /// After each fact: has the stack come to its end?
    pub(super) fn conclude(&mut self, now: Time) {
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
}
