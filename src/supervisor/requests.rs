//! What clients ask for, and when they are answered. A request is carried out at once as far as it can be; the
//! reply comes when every instance is where it should be, or one of them can no longer get there.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Action, Announcement, Client, Freezer, Instance, InstanceId, Intervention, Recipients, Reply, Request,
    State, Supervisor, Then, Time, Wanted,
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
    /// The order was given; what comes of it is nobody's goal.
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
