//! What is told of the stack: the core's values in the words of the control interface.

use std::sync::Arc;

use rustix::process::Pid;

use super::crashes::Found;
use super::life::Leaf;
use super::terms::{Wall, exit_code, now_usec, signal};
use super::{Driver, words};
use crate::config::{self, RestartWhen};
use crate::control::interface::{ChangeKind, EventKind, InstanceState, LifeResult, StackState};
use crate::control::{Depth, Survey, interface};
use crate::linux::cgroup::{Cgroup, Counters};
use crate::linux::descendants::{self, Descendant, Members, Others, Wanted};
use crate::linux::gauge;
use crate::output::history::EventId;
use crate::supervisor::{
    Announcement, Exit, Freezer, Instance, LastRestart, Life, Living, Outcome, Progress, RestartReason,
    State, Time, Usage, Wait,
};
use crate::wording::event;

/// A leaf to be looked at, off the loop.
enum Place {
    Nothing,
    Cgroup(Arc<Cgroup>, u32),
    /// What is in no leaf is searched for.
    Descendants(Wanted),
}

impl Driver {
    /// How these places stand. What the loop knows is taken now; the leaves are read by whoever calls it.
    pub(super) fn survey(&self, places: &[usize], depth: Depth) -> Survey {
        let wall = self.wall();
        let mut instances: Vec<interface::Instance> =
            places.iter().map(|&place| self.instance(place, wall)).collect();
        let failures: Vec<Option<Found>> =
            places.iter().map(|&place| self.failure(place, wall, depth == Depth::All)).collect();
        let may_wait = failures.iter().flatten().any(Found::may_wait);
        let leaf = |&place: &usize| match &self.lives[place] {
            None => Place::Nothing,
            Some(alive) => {
                let main = super::life::number(alive.pid);
                match &alive.leaf {
                    Leaf::Cgroup(leaf) => Place::Cgroup(Arc::clone(leaf), main),
                    Leaf::Descendants => Place::Descendants(alive.wanted()),
                }
            }
        };
        let leaves: Vec<Place> = places.iter().map(leaf).collect();
        let mut stack = self.stack_status(wall);
        let tree = self.ground.tree.clone();
        let counters = self.counters;
        // Without their controller tasks are counted one leaf at a time, and not in those that nobody asked about.
        let all = (0..self.lives.len()).all(|place| self.lives[place].is_none() || places.contains(&place));
        let others = self.others(places);
        let read = move || {
            let mut found = search(&leaves, &others);
            for (instance, leaf) in instances.iter_mut().zip(&leaves) {
                measure(instance, leaf, &mut found, counters, depth);
            }
            for (instance, failure) in instances.iter_mut().zip(failures) {
                instance.failure = failure.map(Found::look);
            }
            if let Some(tree) = tree {
                fill(&mut stack.usage, tree.app(), counters, depth);
                if !counters.tasks {
                    let tasks = || instances.iter().filter_map(|one| one.usage.tasks).sum();
                    stack.usage.tasks = all.then(tasks);
                }
            }
            interface::Status { stack, instances }
        };
        // Without cgroups processes are searched for, and without their controller tasks are counted in every cgroup
        // that an instance made.
        let searches = self.ground.tree.is_none() || !counters.tasks;
        Survey { read: Box::new(read), may_wait: depth == Depth::All || may_wait || searches }
    }

    /// The clock on the wall against the core's.
    pub(super) fn wall(&self) -> Wall {
        Wall::now(self.clock.now())
    }

    fn stack_status(&self, wall: Wall) -> interface::Stack {
        let state = match (self.core.is_tearing_down(), self.core.is_suspended()) {
            (true, _) => StackState::TearDown,
            (false, true) => StackState::Frozen,
            (false, false) => StackState::Up,
        };
        let about = &self.calls.about;
        let counts = config::counts(&self.stack, &|place| self.is_wanted(place));
        let processes = self.stack.processes.iter().filter_map(|process| {
            let instances = counts.get(&process.name).copied().unwrap_or(0);
            let (name, command) = (process.name.clone(), process.text.clone());
            // What is gone from the Procfile and has no instance is history.
            (instances > 0 || process.is_in_file()).then_some(interface::ProcessType {
                name,
                command,
                instances,
            })
        });
        interface::Stack {
            name: self.stack.name.clone(),
            root: self.stack.root.display().to_string(),
            procfile: about.procfile.display().to_string(),
            manifest: about.manifest.display().to_string(),
            pid: std::process::id(),
            since: wall.of(Time::ZERO),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state,
            tier: about.tier.clone(),
            cgroup: self.ground.tree.as_ref().map(|tree| tree.path().join("app").display().to_string()),
            socket: about.socket.as_ref().map_or(String::new(), |path| path.display().to_string()),
            processes: processes.collect(),
            ceilings: (&self.stack.ceilings).into(),
            usage: interface::Usage::default(),
            journald: self.stack.logging.route.journal != config::Journal::No,
        }
    }

    fn instance(&self, place: usize, wall: Wall) -> interface::Instance {
        let (spec, instance) = (&self.stack.instances[place], &self.core.instances()[place]);
        let process = &self.stack.processes[spec.process];
        // A process has what it was born with, whatever its text says now.
        let born = self.living_as(place);
        let as_born = &born.instances[place];
        let (state, restart_at) = state(instance);
        let cgroup = match (&self.lives[place], &self.ground.tree) {
            (Some(_), Some(tree)) => Some(tree.path().join("app").join(&spec.name).display().to_string()),
            _ => None,
        };
        interface::Instance {
            name: spec.name.clone(),
            process: process.name.clone(),
            number: spec.number,
            state,
            since: wall.of(instance.since),
            started: instance.started.map(|time| wall.of(time)),
            ended: instance.ledger.ended.map(|time| wall.of(time)),
            pid: instance.pid(),
            result: instance.outcome.map(LifeResult::from),
            exit_code: exit_code(instance.exit),
            signal: signal(instance.exit),
            invocation: instance.invocations,
            restarts: instance.ledger.restarts,
            restart_at: restart_at.map(|time| wall.of(time)),
            restart_reason: instance.ledger.last_restart.map(|LastRestart { why, .. }| reason(why)),
            leftovers: instance.ledger.leftovers,
            port: as_born.port,
            journald_direct: born.writes_itself(as_born),
            pty: as_born.pty,
            restart: restart(instance.policy.restart.when).to_owned(),
            command: born.processes[as_born.process].text.clone(),
            working_directory: as_born.working_directory.display().to_string(),
            cgroup,
            ceilings: (&spec.ceilings).into(),
            usage: used(&instance.ledger.usage),
            failure: None,
            processes: None,
        }
    }

    /// Writes an announcement into the chronicle, and returns its number there. `failed`: it tells that this life did.
    pub(super) fn chronicle(
        &mut self,
        announcement: &Announcement,
        message: &str,
        failed: Option<Life>,
    ) -> EventId {
        let subject = event::subject(announcement).map(|id| &self.stack.instances[id.0 as usize]);
        let facts = event::facts(announcement);
        let event = interface::Event {
            sequence: 0,
            time: now_usec(),
            event: EventKind::of(announcement),
            instance: subject.map(|instance| instance.name.clone()),
            message: message.to_owned(),
            pid: facts.pid,
            exit_code: exit_code(facts.exit),
            signal: signal(facts.exit).or_else(|| facts.signal.map(|signal| signal.to_string())),
            result: facts.outcome.map(LifeResult::from),
            usage: facts.usage.map(used),
            // What it used is told beside what it was held to.
            ceilings: facts.usage.and(subject).map(|instance| (&instance.ceilings).into()),
            cause: failed.and_then(|life| self.cause_of(life)),
            trace: None,
        };
        // One that was never begun has said nothing.
        let awaits = failed.filter(|_| matches!(announcement, Announcement::Ended { .. }));
        self.write_event(event, awaits)
    }

    /// That the stack was changed.
    pub(super) fn chronicle_change(&mut self, changes: &[interface::Change]) {
        for change in changes {
            let message = match change.details.is_empty() {
                true => change.kind.to_string(),
                false => change.details.join(", "),
            };
            let event = interface::Event {
                sequence: 0,
                time: now_usec(),
                event: EventKind::Configured,
                instance: change.instance.clone(),
                message,
                pid: None,
                exit_code: None,
                signal: None,
                result: None,
                usage: None,
                ceilings: None,
                cause: None,
                trace: None,
            };
            self.write_event(event, None);
        }
    }
}

/// The processes of those that have no leaf, in their order, in one look through /proc.
fn search(leaves: &[Place], others: &Others) -> impl Iterator<Item = Option<Vec<Pid>>> + use<> {
    let wanted = leaves.iter().filter_map(|leaf| match leaf {
        Place::Descendants(wanted) => Some(wanted.clone()),
        Place::Nothing | Place::Cgroup(..) => None,
    });
    let wanted: Vec<Wanted> = wanted.collect();
    let found = match wanted.is_empty() {
        true => Ok(Members::default()),
        false => descendants::find().and_then(|family| descendants::members(&family, &wanted, others)),
    };
    let pids = |of: Vec<Descendant>| Some(of.iter().map(|one| one.pid).collect());
    let none = || vec![None; wanted.len()];
    found.map_or_else(|_| none(), |found| found.of_each.into_iter().map(pids).collect()).into_iter()
}

/// `found`: the processes of this one, if it has no leaf, and of those after it.
fn measure(
    instance: &mut interface::Instance,
    leaf: &Place,
    found: &mut impl Iterator<Item = Option<Vec<Pid>>>,
    counters: Counters,
    depth: Depth,
) {
    let pids = match leaf {
        Place::Nothing => return,
        Place::Cgroup(leaf, _) => {
            fill(&mut instance.usage, leaf, counters, depth);
            (depth == Depth::All).then(|| gauge::pids(leaf))
        }
        Place::Descendants(_) => {
            let all = found.next().flatten();
            instance.usage.tasks = all.as_ref().map(|all| all.len() as u64);
            (depth == Depth::All).then(|| all.unwrap_or_default())
        }
    };
    let main = match leaf {
        Place::Nothing => 0,
        Place::Cgroup(_, main) => *main,
        Place::Descendants(wanted) => super::life::number(wanted.session),
    };
    instance.processes = pids.map(|pids| {
        let mut members = gauge::members(&pids);
        members.sort_by_key(|member| (member.pid != main, member.pid));
        let process = |one: gauge::Member| interface::Process {
            pid: one.pid,
            parent: one.parent,
            command: one.command,
        };
        members.into_iter().map(process).collect()
    });
}

fn fill(usage: &mut interface::Usage, cgroup: &Cgroup, counters: Counters, depth: Depth) {
    let load = gauge::load(cgroup, counters);
    usage.memory_current = load.memory_current;
    usage.tasks = load.tasks;
    usage.cpu_usec = load.cpu_usec.or(usage.cpu_usec);
    usage.throttled_usec = load.throttled_usec.or(usage.throttled_usec);
    if depth != Depth::List {
        let more = gauge::detail(cgroup, counters);
        let counted = words::usage(&cgroup.usage(counters));
        usage.memory_peak = more.memory_peak.or(usage.memory_peak);
        usage.swap_current = more.swap_current;
        usage.cpu_pressure = more.cpu_pressure;
        usage.memory_pressure = more.memory_pressure;
        usage.io_pressure = more.io_pressure;
        (usage.io_read, usage.io_written) = more.io.unzip();
        usage.oom_kills = counters.memory.then_some(counted.oom_kills);
        usage.tasks_refused = counters.tasks.then_some(counted.tasks_refused);
    }
}

/// What the core was told that lives used.
fn used(usage: &Usage) -> interface::Usage {
    interface::Usage {
        memory_peak: usage.memory_peak,
        cpu_usec: Some(usage.cpu_usec),
        throttled_usec: usage.throttled_usec,
        oom_kills: Some(usage.oom_kills),
        tasks_refused: Some(usage.tasks_refused),
        ..interface::Usage::default()
    }
}

/// A state, and when it ends by itself, if that is a restart.
fn state(instance: &Instance) -> (InstanceState, Option<Time>) {
    match instance.state {
        State::Down { failed: false } => (InstanceState::Inactive, None),
        State::Down { failed: true } => (InstanceState::Failed, None),
        State::Waiting(Wait::Restart { until }) => (InstanceState::RestartWait, Some(until)),
        State::Up(living) => (up(living), None),
    }
}

fn up(living: Living) -> InstanceState {
    match (living.progress, living.freezer) {
        (Progress::Spawning, _) => InstanceState::Starting,
        (Progress::Running, Freezer::Thawed) => InstanceState::Running,
        (Progress::Running, Freezer::Freezing) => InstanceState::Freezing,
        (Progress::Running, Freezer::Frozen) => InstanceState::Frozen,
        (Progress::Stopping { .. }, _) => InstanceState::StopSigterm,
        (Progress::Killing { .. }, _) => InstanceState::StopSigkill,
        (Progress::Stuck { .. }, _) => InstanceState::Stuck,
    }
}

fn reason(why: RestartReason) -> String {
    match why {
        RestartReason::Requested => "requested".to_owned(),
        RestartReason::NotStarted => "cannot start".to_owned(),
        RestartReason::Ended { exit, outcome: why } => match (exit, why) {
            (Exit::Code(code), Outcome::Success | Outcome::ExitCode) => format!("exit code {code}"),
            (Exit::Code(code), why) => format!("exit code {code} ({})", why.name()),
            (Exit::Signal { signal, .. }, Outcome::Success | Outcome::Signal) => signal.to_string(),
            (Exit::Signal { signal, .. }, why) => format!("{signal} ({})", why.name()),
        },
    }
}

fn restart(when: RestartWhen) -> &'static str {
    match when {
        RestartWhen::No => "no",
        RestartWhen::OnFailure => "on-failure",
        RestartWhen::Always => "always",
    }
}

/// A change of one instance, as it is told.
pub(super) fn change(change: &config::Change) -> interface::Change {
    let kind = match change.kind {
        config::ChangeKind::Added => ChangeKind::Added,
        config::ChangeKind::Removed => ChangeKind::Removed,
        config::ChangeKind::Live => ChangeKind::Live,
        config::ChangeKind::Restart => ChangeKind::Restart,
    };
    interface::Change { instance: Some(change.instance.clone()), kind, details: change.details.clone() }
}

/// What can not change while it runs is a note to people.
pub(super) fn kept(change: &config::StackChange) -> impl Iterator<Item = String> {
    change.kept.iter().map(|kept| format!("{kept}: not while the stack runs"))
}

/// A change of the stack as a whole, as it is told.
pub(super) fn stack_change(change: &config::StackChange) -> Option<interface::Change> {
    let details = change.details.clone();
    (!details.is_empty()).then_some(interface::Change { instance: None, kind: ChangeKind::Stack, details })
}
