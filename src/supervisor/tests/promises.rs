//! What the core promises whatever happens, held over random events: those that a true world produces, told
//! twice, and those that a hostile one makes up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::world::{GO_ON, Manners, World, describe, ms};
use crate::config::{ExitCodeRule, Policy, Signal};
use crate::supervisor::{
    Action, Client, Event, Exit, Failure, FailureKind, Freezer, InstanceId, KILL_PATIENCE, Ledger, Life,
    Living, Main, Progress, Recipients, Request, Stage, Supervisor, Time, Usage,
};

const TERM: i32 = 15;

/// Settings and manners; where two contradict each other the later one wins.
const WORDS: &[&str] = &[
    "can-die",
    "oneshot",
    "mixed",
    "stop-signal=3",
    "timeout-ms=0",
    "timeout-ms=700",
    "restart=on-failure",
    "restart=always",
    "delay-ms=0",
    "delay-max-ms=150",
    "burst=0",
    "burst=2",
    "interval-ms=300",
    "stubborn",
    "stuck",
    "dies-in-ms=900",
    "traps=9",
    "forks=2",
    "forked-stubborn",
    "forked-stuck",
    "forked-die-in-ms=400",
    "runs-ms=60",
    "fails-after-ms=80",
    "spawn-ms=0",
    "spawn-ms=500",
    "spawn-uncancellable-ms=800",
    "spawn-hangs",
    "spawn-hangs-forever",
    "not-found",
    "not-found-after-ms=300",
];

fn words() -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(WORDS, 0..=5)
}

fn stack() -> impl Strategy<Value = String> {
    let instance = words();
    prop::collection::vec(instance, 1..=4).prop_map(|instances| {
        let named = instances.iter().zip(["a", "b", "c", "d"]);
        named.map(|(words, name)| format!("{name}:{}", words.join(","))).collect::<Vec<_>>().join(" ")
    })
}

fn policy(words: &[&str]) -> Policy {
    describe(&format!("x:{}", words.join(","))).1
}

fn rule() -> impl Strategy<Value = ExitCodeRule> {
    prop::sample::select(vec![ExitCodeRule::First, ExitCodeRule::Worst, ExitCodeRule::Zero])
}

fn exit() -> impl Strategy<Value = Exit> {
    prop_oneof![
        Just(Exit::Code(0)),
        any::<u8>().prop_map(Exit::Code),
        (1..=64, any::<bool>()).prop_map(|(signal, core)| Exit::Signal { signal: Signal(signal), core }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![10 => polite_request(), 2 => ids().prop_map(Request::Kill)]
}

/// Some of them are nobody's, unless they are configured some time.
fn ids() -> impl Strategy<Value = Vec<InstanceId>> {
    prop::collection::vec((0..7u32).prop_map(InstanceId), 0..4)
}

fn polite_request() -> impl Strategy<Value = Request> {
    let recipients = prop::sample::select(vec![Recipients::Main, Recipients::All]);
    let signal = prop::sample::select(vec![1, 9, 10, 15, 18, 19]).prop_map(Signal);
    prop_oneof![
        4 => ids().prop_map(Request::Start),
        4 => ids().prop_map(Request::Stop),
        4 => ids().prop_map(Request::Restart),
        4 => ids().prop_map(Request::Freeze),
        2 => ids().prop_map(Request::Thaw),
        2 => ids().prop_map(Request::Remove),
        2 => (ids(), signal, recipients).prop_map(|(on, signal, to)| Request::Signal { on, signal, to }),
        1 => Just(Request::ShutDown),
    ]
}

/// Those that bring the stack down are rare, so that it gets old enough to see something.
fn signal() -> impl Strategy<Value = i32> {
    prop_oneof![1 => prop::sample::select(vec![2, 3, 15]), 8 => prop::sample::select(vec![1, 10, 12, 18, 20, 28])]
}

// ---- a true world

#[derive(Debug, Clone)]
enum Step {
    Pass(Duration),
    Exits(usize, Exit),
    OutOfMemory(usize),
    Forks(usize, u32),
    Feels(usize, u64),
    Signal(i32),
    Asks(Request),
    /// An instance by its number, or a new one.
    Configures(usize, Vec<&'static str>),
    Leaves(u64),
    ReaderLeaves,
    Begin,
    TimePasses,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (0..1500u64).prop_map(|n| Step::Pass(ms(n))),
        6 => (0..20u64).prop_map(|n| Step::Pass(ms(n))),
        6 => (0..4usize, exit()).prop_map(|(at, exit)| Step::Exits(at, exit)),
        1 => (0..4usize).prop_map(Step::OutOfMemory),
        2 => (0..4usize, 1..3u32).prop_map(|(at, n)| Step::Forks(at, n)),
        1 => (0..4usize, 0..3u64).prop_map(|(at, n)| Step::Feels(at, n)),
        4 => signal().prop_map(Step::Signal),
        16 => request().prop_map(Step::Asks),
        2 => (0..7usize, words()).prop_map(|(at, words)| Step::Configures(at, words)),
        2 => (0..12u64).prop_map(Step::Leaves),
        1 => prop_oneof![4 => Just(Step::Begin), 1 => Just(Step::ReaderLeaves)],
        1 => Just(Step::TimePasses),
    ]
}

impl World {
    fn take(&mut self, step: Step) {
        match step {
            Step::Pass(time) => self.pass(time),
            Step::Signal(signal) => self.signal(signal),
            Step::Asks(request) => {
                self.ask(request);
            }
            Step::Configures(at, words) => {
                let new = char::from(b'a' + self.names.len() as u8).to_string();
                let name = self.names.get(at).cloned().unwrap_or(new);
                self.configure(&format!("{name}:{}", words.join(",")));
            }
            Step::Leaves(client) => self.tell(Event::ClientLeft(Client(client))),
            Step::ReaderLeaves => self.tell(Event::ReaderLeft),
            Step::Begin => self.tell(Event::Begin),
            Step::TimePasses => self.tell(Event::TimePassed),
            Step::Exits(at, _) | Step::OutOfMemory(at) | Step::Forks(at, _) | Step::Feels(at, _) => {
                let alive = self.core.instances().get(at).is_some_and(|instance| instance.pid().is_some());
                if alive {
                    self.happens_to(&self.names[at].clone(), step);
                }
            }
        }
    }

    fn happens_to(&mut self, name: &str, step: Step) {
        match step {
            Step::Exits(_, exit) => self.exits(name, exit),
            Step::OutOfMemory(_) => self.out_of_memory(name),
            Step::Forks(_, more) => self.forks(name, more),
            Step::Feels(_, more) => self.felt(name, |usage| usage.tasks_refused += more),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// The world itself sees to it that no second life begins beside a first, that what is removed is empty,
    /// that a fact told twice changes nothing, and that nothing is left when `Exit` comes.
    #[test]
    fn a_true_world(
        text in stack(), rule in rule(), terminal in any::<bool>(), begins in prop::bool::weighted(0.9),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut world = World::with(&text, rule, terminal);
        world.repeats_itself = true;
        if begins {
            world.tell(Event::Begin);
        }
        for step in steps {
            if world.ending.is_none() {
                world.take(step);
            }
            world.check();
        }
        if world.ending.is_none() {
            world.signal(GO_ON);
            world.signal(TERM);
            let decided = world.now;
            world.run();
            prop_assert!(world.ending.is_some(), "it never ends");
            prop_assert!(world.now <= decided + world.longest.0 + KILL_PATIENCE);
        }
        let fresh = World::with(&text, rule, terminal).core;
        hold(&fresh, &world.history);
    }

    /// Stops that nobody hinders are polite: what obeys in time is never killed.
    #[test]
    fn who_obeys_in_time_is_not_killed(
        text in stack(), steps in prop::collection::vec(polite_request().prop_map(Step::Asks), 0..10),
    ) {
        let mut world = World::new(&text);
        for program in &mut world.programs {
            (program.main, program.forked) = (Manners::Obeys(ms(1)), Manners::Obeys(ms(1)));
            program.spawn = super::world::plain_program().spawn;
        }
        let hasty = |world: &World, life: Life| {
            let policy = &world.core.instances()[life.instance.0 as usize].policy;
            policy.timeout_stop.is_zero() || policy.kill_mode == crate::config::KillMode::Mixed
        };
        world.tell(Event::Begin);
        for step in steps {
            if world.ending.is_none() {
                world.take(step);
                world.pass(ms(37));
            }
        }
        if world.ending.is_none() {
            world.signal(TERM);
            world.run();
        }
        for action in world.history.iter().flat_map(|(_, _, actions)| actions) {
            if let Action::KillCgroup(life) = action {
                prop_assert!(hasty(&world, *life), "{life:?} was killed");
            }
        }
    }
}

// ---- a hostile world

/// A made-up fact; `Some`: about the present life of the instance, if there is one.
type Lie = (Event, Option<u32>);

fn lie() -> impl Strategy<Value = Lie> {
    let life = || (0..4u32, 0..4u32).prop_map(|(of, n)| Life { instance: InstanceId(of), invocation: n });
    let count = || prop_oneof![0..3u64, Just(u64::MAX)];
    let usage = move || {
        (count(), prop::option::of(count()), count(), count()).prop_map(|(cpu, peak, oom, refused)| Usage {
            cpu_usec: cpu,
            throttled_usec: peak,
            memory_peak: peak,
            oom_kills: oom,
            tasks_refused: refused,
        })
    };
    let kinds = [
        FailureKind::NotFound,
        FailureKind::NotExecutable,
        FailureKind::Passing,
        FailureKind::OutOfMemory,
        FailureKind::Cancelled,
    ];
    let failure = prop::sample::select(kinds.to_vec()).prop_map(|kind| Failure {
        stage: Stage::Program,
        reason: "no".into(),
        kind,
    });
    let left = prop_oneof![3 => Just(0), 2 => 1..3u32, 1 => Just(u32::MAX)];
    let event = prop_oneof![
        1 => Just(Event::Begin),
        12 => (life(), any::<u32>()).prop_map(|(life, pid)| Event::Spawned { life, pid }),
        3 => (life(), failure).prop_map(|(life, failure)| Event::SpawnFailed { life, failure }),
        8 => (life(), exit(), usage(), left)
            .prop_map(|(life, exit, usage, left)| Event::Exited { life, exit, usage, left }),
        6 => (life(), usage()).prop_map(|(life, usage)| Event::Emptied { life, usage }),
        2 => (life(), usage()).prop_map(|(life, usage)| Event::Resource { life, usage }),
        4 => life().prop_map(|life| Event::Frozen { life }),
        1 => (prop::collection::vec((0..7u32, words()), 0..3), rule()).prop_map(|(configured, exit_code)| Event::Configured {
            policies: configured.iter().map(|(id, words)| (InstanceId(*id), policy(words))).collect(),
            exit_code,
        }),
        3 => signal().prop_map(|signal| Event::Signal(Signal(signal))),
        1 => any::<i32>().prop_map(|signal| Event::Signal(Signal(signal))),
        // The number is given out when it is told.
        10 => request().prop_map(|request| Event::Request { client: Client(0), request }),
        2 => (0..20u64).prop_map(|client| Event::ClientLeft(Client(client))),
        4 => Just(Event::TimePassed),
    ];
    (event, prop::option::weighted(0.8, 0..4u32))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_hostile_world(
        text in stack(), rule in rule(), terminal in any::<bool>(),
        lies in prop::collection::vec((lie(), prop_oneof![3 => Just(0), 1 => 0..7000u64]), 0..60),
    ) {
        let fresh = World::with(&text, rule, terminal).core;
        let mut core = fresh.clone();
        let mut now = Time::ZERO;
        let mut history = Vec::new();
        let mut clients = 0;
        let mut tell = |core: &mut Supervisor, now: Time, event: Event| {
            let actions = core.handle(now, event.clone());
            let over = actions.iter().any(|action| matches!(action, Action::Exit(_)));
            history.push((now, event, actions));
            over
        };
        let mut over = tell(&mut core, now, Event::Begin);
        for ((mut event, present), after) in lies {
            now += ms(after);
            let aimed = present.and_then(|at| core.instances().get(at as usize)?.life());
            match &mut event {
                Event::Spawned { life, .. }
                | Event::SpawnFailed { life, .. }
                | Event::Exited { life, .. }
                | Event::Emptied { life, .. }
                | Event::Resource { life, .. }
                | Event::Frozen { life } => *life = aimed.unwrap_or(*life),
                Event::Request { client, .. } => {
                    clients += 1;
                    *client = Client(clients);
                }
                Event::Begin
                | Event::Configured { .. }
                | Event::Signal(_)
                | Event::ReaderLeft
                | Event::ClientLeft(_)
                | Event::TimePassed => {}
            }
            if over {
                prop_assert_eq!(core.handle(now, event), []);
            } else {
                over = tell(&mut core, now, event);
            }
        }
        // Whatever it was told: it can be stopped, and then time alone ends it.
        if !over {
            tell(&mut core, now, Event::Signal(Signal(GO_ON)));
            over = tell(&mut core, now, Event::Signal(Signal(TERM)));
            while let (false, Some(deadline)) = (over, core.deadline()) {
                now = now.max(deadline);
                over = tell(&mut core, now, Event::TimePassed);
            }
        }
        prop_assert!(over, "it cannot be stopped: {core:?}");
        hold(&fresh, &history);
    }
}

// ---- what is held

/// Lives through a history again, from a copy that was written down and read back at each step, and looks
/// at what was ordered. A copy without any accounts orders the same.
fn hold(fresh: &Supervisor, history: &[(Time, Event, Vec<Action>)]) {
    let mut core = fresh.clone();
    let mut live: BTreeMap<InstanceId, Life> = BTreeMap::new();
    let (mut waiting, mut asked) = (BTreeSet::new(), BTreeSet::new());
    let (mut frozen, mut gone) = (BTreeSet::new(), BTreeSet::new());
    let mut over = false;
    for (now, event, actions) in history {
        assert!(!over, "{event:?} after the end");
        let written = serde_json::to_string(&core).expect("plain data");
        let mut core_again: Supervisor = serde_json::from_str(&written).expect("plain data");
        assert_eq!(core_again, core);
        assert_eq!(&core_again.handle(*now, event.clone()), actions, "{event:?} from the written state");
        let mut forgetful = without_accounts(&core);
        let ordered = forgetful.handle(*now, event.clone());
        assert_eq!(orders(&ordered), orders(actions), "{event:?} by the ledger");
        let known = core.instances().len() as u32;
        assert_eq!(&core.handle(*now, event.clone()), actions, "{event:?} once more");
        assert_eq!(core_again, core);
        core.instances().iter().filter_map(|instance| instance.state.living()).for_each(agrees);
        assert_eq!(without_accounts(&forgetful), without_accounts(&core), "{event:?} by the ledger");

        match event {
            Event::Request { client, request } => {
                assert!(asked.insert(client.0));
                waiting.insert(client.0);
                match request {
                    Request::Remove(on) => gone.extend(on.iter().copied().filter(|&id| exists(&core, id))),
                    Request::Start(on) => gone.retain(|id| !on.contains(id)),
                    _ => {}
                }
            }
            Event::Configured { policies, .. } => {
                let new = policies.iter().map(|(id, _)| *id).filter(|&id| exists(&core, id));
                gone.extend(new.filter(|id| id.0 >= known));
            }
            Event::ClientLeft(client) => {
                waiting.remove(&client.0);
            }
            // Unless it was not believed.
            Event::SpawnFailed { life, .. } if !lives(&core, *life) => {
                live.retain(|_, known| known != life);
            }
            _ => {}
        }
        for action in actions {
            assert!(!over, "{action:?} after the end");
            match action {
                Action::Spawn(life) => {
                    assert!(!core.is_tearing_down(), "{action:?} after tear-down was decided");
                    assert!(!gone.contains(&life.instance), "{action:?} of what was removed");
                    assert_eq!(live.insert(life.instance, *life), None, "one live invocation at most");
                }
                Action::CancelSpawn(life) | Action::Signal { life, .. } | Action::KillCgroup(life) => {
                    assert_eq!(live.get(&life.instance), Some(life), "{action:?} to nobody");
                }
                Action::Freeze(life) => {
                    assert_eq!(live.get(&life.instance), Some(life), "{action:?} to nobody");
                    assert!(frozen.insert(*life), "{action:?} twice");
                }
                Action::Thaw(life) => {
                    assert_eq!(live.get(&life.instance), Some(life), "{action:?} to nobody");
                    assert!(frozen.remove(life), "{action:?} of what is not frozen");
                }
                Action::Stop { life, .. } => {
                    assert_eq!(live.get(&life.instance), Some(life), "{action:?} to nobody");
                    assert!(!frozen.contains(life), "{action:?} to one that cannot handle it");
                }
                Action::RemoveCgroup(life) => {
                    assert_eq!(live.remove(&life.instance), Some(*life), "{action:?} of nothing");
                }
                Action::Reply { client, .. } => {
                    assert!(waiting.remove(&client.0), "{action:?} to one who does not wait");
                }
                Action::Exit(_) => {
                    assert!(core.is_tearing_down());
                    assert_eq!(waiting, BTreeSet::new(), "nobody answers them any more");
                    over = true;
                }
                Action::Suspend | Action::Resume | Action::Announce(_) => {}
            }
        }
        // Nothing waits that time alone cannot end, and once everything is empty there is nothing to wait for.
        if core.is_tearing_down() && !over {
            assert!(!live.is_empty() && core.deadline().is_some(), "tear-down waits for nothing: {core:?}");
        }
    }
    assert!(over);
}

/// A life's stage, main process and freezer fit together.
fn agrees(living: &Living) {
    let main_fits = match living.progress {
        Progress::Spawning => living.main == Main::NotYet,
        Progress::Running => living.pid().is_some(),
        Progress::Stopping { .. } | Progress::Killing { .. } | Progress::Stuck { .. } => true,
    };
    let freezer_fits = living.progress == Progress::Running || living.freezer == Freezer::Thawed;
    assert!(main_fits && freezer_fits, "{living:?}");
}

/// What is to be done, without what is told of it.
fn orders(actions: &[Action]) -> Vec<&Action> {
    actions.iter().filter(|action| !matches!(action, Action::Announce(_))).collect()
}

fn without_accounts(core: &Supervisor) -> Supervisor {
    let mut core = core.clone();
    core.instances.iter_mut().for_each(|instance| instance.ledger = Ledger::default());
    core
}

fn exists(core: &Supervisor, id: InstanceId) -> bool {
    core.instances().get(id.0 as usize).is_some()
}

fn lives(core: &Supervisor, life: Life) -> bool {
    core.instances().get(life.instance.0 as usize).and_then(|instance| instance.life()) == Some(life)
}
