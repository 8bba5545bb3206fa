//! What clients ask for, and when they are answered. A request is carried out at once as far as it can be; the
//! reply comes when every instance is where it should be, or one of them can no longer get there.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Action, Announcement, Client, Freezer, Instance, InstanceId, Intervention, Progress, Recipients, Reply,
    Request, State, Supervisor, Then, Time, Wait, Wanted,
};
use crate::config::Signal;

/// A request that waits for its instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) client: Client,
    goal: Goal,
    /// Those that are not there yet.
    on: Vec<InstanceId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Goal {
    Up,
    Down,
    Frozen,
    /// The order was given; its effect is not waited for.
    Told,
    Over,
}

/// Where an instance stands against a request's goal.
enum Standing {
    There,
    OnTheWay,
    /// It will not get there.
    Never(Reply),
}

impl Supervisor {
    pub(super) fn on_request(&mut self, now: Time, client: Client, request: Request) {
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

    /// Applies `what` to each known instance once. A refusal does not stop the others; the first refusal is
    /// returned.
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
        match instance.state {
            State::Up(living) => {
                if living.is_ending() {
                    instance.set_then(Then::Start);
                    instance.forgive();
                }
            }
            State::Down { .. } => {
                instance.forgive();
                self.enter_starting(now, at, None);
            }
            State::Waiting(Wait::Restart { .. }) => {
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
        let progress = match instance.state {
            State::Up(living) => living.progress,
            // There is nothing to kill.
            State::Down { .. } | State::Waiting(_) => return self.stop_by_request(now, at),
        };
        match progress {
            Progress::Spawning | Progress::Running => {}
            Progress::Stopping { .. } => instance.set_then(Then::Rest),
            // Everything is being killed: what is left to do is a stop's.
            Progress::Killing { .. } | Progress::Stuck { .. } => return self.stop_by_request(now, at),
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
        if !matches!(instance.state, State::Down { .. }) {
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
        let (id, running) = (instance.id, instance.is_running());
        let living = instance.state.living_mut().filter(|_| running).ok_or(Reply::NotRunning(id))?;
        match living.freezer {
            Freezer::Thawed => {
                living.freezer = Freezer::Freezing;
                let life = living.of(id);
                self.actions.push(Action::Freeze(life));
            }
            Freezer::Freezing | Freezer::Frozen => {}
        }
        Ok(())
    }

    fn thaw_by_request(&mut self, at: usize) -> Result<(), Reply> {
        let instance = &mut self.instances[at];
        let id = instance.id;
        if let Some(living) = instance.state.living_mut()
            && living.freezer != Freezer::Thawed
        {
            living.freezer = Freezer::Thawed;
            let life = living.of(id);
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
    pub(super) fn answer(&mut self) {
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
}

/// Compares an instance with the goal of a request; one that does not exist has reached it.
fn standing(goal: Goal, instance: Option<&Instance>, tearing_down: bool) -> Standing {
    let Some(instance) = instance else { return Standing::There };
    let superseded = if tearing_down { Reply::ShuttingDown } else { Reply::Superseded };
    match (goal, instance.state) {
        (Goal::Over, _) => Standing::OnTheWay,
        (Goal::Told, _) => Standing::There,

        (Goal::Frozen, State::Up(living)) => match living.freezer {
            Freezer::Frozen => Standing::There,
            Freezer::Freezing => Standing::OnTheWay,
            // Thawed, or its end was begun meanwhile.
            Freezer::Thawed => Standing::Never(superseded),
        },
        (Goal::Frozen, State::Down { .. } | State::Waiting(_)) => Standing::Never(superseded),

        (Goal::Up, State::Down { failed: true }) => Standing::Never(Reply::Failed(instance.id)),
        (Goal::Up, State::Down { failed: false }) => Standing::Never(superseded),
        (Goal::Up, State::Waiting(_)) => Standing::OnTheWay,
        (Goal::Up, State::Up(living)) => match living.progress {
            Progress::Spawning => Standing::OnTheWay,
            Progress::Running => Standing::There,
            Progress::Stopping { then, .. } | Progress::Killing { then, .. } => match then {
                Then::Start | Then::Restart { .. } => Standing::OnTheWay,
                Then::Rest => Standing::Never(superseded),
            },
            Progress::Stuck { .. } => Standing::Never(Reply::Failed(instance.id)),
        },

        (Goal::Down, State::Down { .. }) => Standing::There,
        (Goal::Down, State::Waiting(_)) => Standing::Never(superseded),
        (Goal::Down, State::Up(living)) => match living.progress {
            Progress::Spawning | Progress::Running => Standing::Never(superseded),
            Progress::Stopping { then, .. } | Progress::Killing { then, .. } => match then {
                Then::Rest => Standing::OnTheWay,
                Then::Start | Then::Restart { .. } => Standing::Never(superseded),
            },
            Progress::Stuck { .. } => Standing::Never(Reply::Failed(instance.id)),
        },
    }
}
