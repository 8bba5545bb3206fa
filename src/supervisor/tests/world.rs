//! A world for the core to decide about: a clock, processes and a kernel that exist only as numbers.
//!
//! It takes every order as driver and kernel would and comes back with the facts that would follow, after
//! the delays that were asked for. A stack is described by text, one word per instance, its settings and
//! the manners of its programs after a colon: `"web:stubborn worker:can-die,forks=2"`.
//!
//! What happened is kept as text, one line per order, so that a story can be told in full.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::{ExitCodeRule, KillMode, Policy, Restart, RestartWhen, Signal};
use crate::supervisor::policy::{SIGCONT, SIGTERM};
use crate::supervisor::{
    Action, Announcement, Client, Ending, Event, Exit, Failure, FailureKind, Freezer, InstanceId,
    Intervention, KILL_PATIENCE, Life, Progress, Recipients, Reply, Request, RestartReason, Stage, State,
    Supervisor, Time, Usage, Wait,
};

const SIGKILL: Signal = Signal(9);

/// From an order to the program being exec'd.
const SPAWN_TAKES: Duration = Duration::from_millis(2);
/// From a signal to the end of a process that obeys it.
const DYING_TAKES: Duration = Duration::from_millis(10);
/// From `cgroup.freeze` to `frozen 1`.
const FREEZING_TAKES: Duration = Duration::from_millis(1);
/// From `cgroup.kill` to the empty leaf.
const KILLING_TAKES: Duration = Duration::from_millis(1);

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// How the program of an instance behaves.
#[derive(Debug, Clone)]
pub struct Program {
    pub spawn: Spawn,
    pub main: Manners,
    /// How it ends when it is asked to: by the signal itself unless this is set.
    pub traps: Option<u8>,
    /// Processes that it forks at once.
    pub forks: u32,
    pub forked: Manners,
    /// When it ends by itself.
    pub exits: Option<(Duration, Exit)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// Ends when it is asked to, this much later.
    Obeys(Duration),
    /// Ends when it is killed.
    Stubborn,
    /// In uninterruptible sleep: does not even end when it is killed.
    Stuck,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spawn {
    /// After this long; the order can be withdrawn until then.
    Takes(Duration),
    /// After this long, whatever anybody wants.
    Uncancellable(Duration),
    Fails(FailureKind, Duration),
    /// Hangs until its leaf is killed.
    Hangs,
    /// Hangs for good.
    HangsForever,
}

/// What comes by itself as time passes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Happening {
    SpawnAnswered(Life),
    MainDies(Life, Exit),
    ForkedDies(Life),
    /// One of what was forked dies of a kill, frozen or not.
    ForkedIsKilled(Life),
    StandsStill(Life),
}

impl Happening {
    /// Whether it is an act of this life's processes, for which they must not be frozen.
    fn is_done_by(&self, life: Life) -> bool {
        match self {
            Happening::MainDies(_, Exit::Signal { signal: SIGKILL, .. }) => false,
            Happening::MainDies(of, _) | Happening::ForkedDies(of) => *of == life,
            Happening::SpawnAnswered(_) | Happening::ForkedIsKilled(_) | Happening::StandsStill(_) => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Main {
    OnItsWay,
    Alive,
    Reaped,
}

/// What exists of one life.
#[derive(Debug, Clone)]
struct Leaf {
    program: Program,
    main: Main,
    forked: u32,
    usage: Usage,
    /// Since when it is frozen, or is being frozen.
    frozen_since: Option<Time>,
    /// What its processes would have done since.
    held: Vec<(Time, Happening)>,
}

pub struct World {
    pub core: Supervisor,
    pub now: Time,
    pub names: Vec<String>,
    pub programs: Vec<Program>,
    /// Every fact is told twice, and facts about earlier lives again and again: nothing may come of it.
    pub repeats_itself: bool,
    /// Every fact handed in, and what came of it.
    pub history: Vec<(Time, Event, Vec<Action>)>,
    pub replies: BTreeMap<u64, Vec<Reply>>,
    pub ending: Option<Ending>,
    /// The exit-code rule as it is configured.
    pub rule: ExitCodeRule,
    /// The longest grace and the longest restart delay that were ever configured.
    pub longest: (Duration, Duration),
    happenings: BTreeMap<(Time, u64), Happening>,
    leaves: BTreeMap<Life, Leaf>,
    given_up: BTreeSet<Life>,
    frozen_since: Option<Time>,
    sequence: u64,
    next_pid: u32,
    next_client: u64,
    log: Vec<String>,
}

impl World {
    /// The stack that `text` describes, with exit-code rule `first` and without a terminal.
    pub fn new(text: &str) -> World {
        World::with(text, ExitCodeRule::First, false)
    }

    pub fn with(text: &str, rule: ExitCodeRule, terminal: bool) -> World {
        let described: Vec<_> = text.split_whitespace().map(describe).collect();
        let policies = described.iter().map(|(_, policy, _)| policy.clone());
        let mut world = World {
            core: Supervisor::with_policies(policies, rule, terminal),
            now: Time::ZERO,
            names: described.iter().map(|(name, ..)| name.clone()).collect(),
            programs: described.into_iter().map(|(.., program)| program).collect(),
            repeats_itself: false,
            history: Vec::new(),
            replies: BTreeMap::new(),
            ending: None,
            rule,
            longest: (Duration::ZERO, Duration::ZERO),
            happenings: BTreeMap::new(),
            leaves: BTreeMap::new(),
            given_up: BTreeSet::new(),
            frozen_since: None,
            sequence: 0,
            next_pid: 100,
            next_client: 1,
            log: Vec::new(),
        };
        let policies: Vec<_> = world.core.instances().iter().map(|known| known.policy.clone()).collect();
        policies.iter().for_each(|policy| world.remember(policy));
        world
    }

    /// A stack that came up; what it said until then is left out.
    pub fn up(text: &str) -> World {
        World::new(text).begun()
    }

    pub fn begun(mut self) -> World {
        self.tell(Event::Begin);
        self.pass(SPAWN_TAKES);
        self.log.clear();
        self
    }

    // ---- what people and kernels do

    /// Hands one fact in and carries out what comes of it.
    pub fn tell(&mut self, event: Event) {
        let actions = self.core.handle(self.now, event.clone());
        self.history.push((self.now, event, actions.clone()));
        for action in actions {
            self.log.push(format!("{} {}", self.clock(), self.text(&action)));
            self.perform(action);
        }
    }

    pub fn signal(&mut self, signal: i32) {
        self.tell(Event::Signal(Signal(signal)));
    }

    pub fn start(&mut self, names: &str) -> Client {
        let on = self.ids(names);
        self.ask(Request::Start(on))
    }

    pub fn stop(&mut self, names: &str) -> Client {
        let on = self.ids(names);
        self.ask(Request::Stop(on))
    }

    pub fn restart(&mut self, names: &str) -> Client {
        let on = self.ids(names);
        self.ask(Request::Restart(on))
    }

    pub fn kill(&mut self, names: &str) -> Client {
        let on = self.ids(names);
        self.ask(Request::Kill(on))
    }

    pub fn freeze(&mut self, names: &str) -> Client {
        let on = self.ids(names);
        self.ask(Request::Freeze(on))
    }

    pub fn thaw(&mut self, names: &str) -> Client {
        let on = self.ids(names);
        self.ask(Request::Thaw(on))
    }

    pub fn remove(&mut self, names: &str) -> Client {
        let on = self.ids(names);
        self.ask(Request::Remove(on))
    }

    pub fn send(&mut self, names: &str, signal: i32, to: Recipients) -> Client {
        let on = self.ids(names);
        self.ask(Request::Signal { on, signal: Signal(signal), to })
    }

    /// These are configured so from now on; names that are new are new instances.
    pub fn configure(&mut self, text: &str) {
        let mut policies = Vec::new();
        for (name, policy, program) in text.split_whitespace().map(describe) {
            self.remember(&policy);
            match self.names.iter().position(|known| *known == name) {
                Some(at) => {
                    self.programs[at] = program;
                    policies.push((InstanceId(at as u32), policy));
                }
                None => {
                    policies.push((InstanceId(self.names.len() as u32), policy));
                    self.names.push(name);
                    self.programs.push(program);
                }
            }
        }
        self.tell(Event::Configured { policies, exit_code: self.rule });
    }

    fn remember(&mut self, policy: &Policy) {
        let (grace, delay) = self.longest;
        self.longest = (grace.max(policy.timeout_stop), delay.max(policy.restart.delay_max));
    }

    pub fn ask(&mut self, request: Request) -> Client {
        let client = Client(self.next_client);
        self.next_client += 1;
        self.tell(Event::Request { client, request });
        client
    }

    /// The main process ends by itself, now.
    pub fn exits(&mut self, name: &str, exit: Exit) {
        let life = self.life(name);
        self.main_dies(life, exit);
    }

    /// Something that it forked ends by itself, now.
    pub fn forked_exits(&mut self, name: &str) {
        let life = self.life(name);
        self.forked_dies(life);
    }

    /// The kernel kills the main process at its memory ceiling.
    pub fn out_of_memory(&mut self, name: &str) {
        let life = self.life(name);
        self.leaves.get_mut(&life).expect("it runs").usage.oom_kills += 1;
        self.main_dies(life, Exit::Signal { signal: SIGKILL, core: false });
    }

    /// The kernel kills the main process inside `execve`, after the birth was reported.
    pub fn killed_before_it_began(&mut self, name: &str) {
        let life = self.life(name);
        self.spawn_fails(life, FailureKind::OutOfMemory);
    }

    /// Something in the leaf felt a ceiling.
    pub fn felt(&mut self, name: &str, change: impl FnOnce(&mut Usage)) {
        let life = self.life(name);
        let usage = &mut self.leaves.get_mut(&life).expect("it runs").usage;
        change(usage);
        let usage = *usage;
        self.tell(Event::Resource { life, usage });
    }

    pub fn forks(&mut self, name: &str, more: u32) {
        let life = self.life(name);
        if let Some(leaf) = self.leaves.get_mut(&life).filter(|leaf| leaf.main == Main::Alive) {
            leaf.forked += more;
        }
    }

    // ---- time

    /// Lets this much time pass.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until nothing is left to wait for.
    pub fn run(&mut self) {
        for _ in 0..10_000 {
            if !self.step(Time::MAX) {
                return;
            }
        }
        panic!("the world does not come to rest:\n{}", self.story());
    }

    /// The next thing that happens by itself, if it does before `end`.
    fn step(&mut self, end: Time) -> bool {
        if self.ending.is_some() {
            return false;
        }
        // While frozen no process does anything.
        let next = self.happenings.keys().next().copied().filter(|_| self.frozen_since.is_none());
        let deadline = self.core.deadline().map(|deadline| deadline.max(self.now));
        match (next, deadline) {
            (Some((at, _)), due) if at <= end && due.is_none_or(|due| at <= due) => self.happen(),
            (_, Some(due)) if due <= end => {
                self.now = due;
                self.tell(Event::TimePassed);
                let next = self.core.deadline();
                assert!(next.is_none_or(|next| next > due), "{next:?} is past and would be due for ever");
            }
            (Some(_) | None, Some(_) | None) => return false,
        }
        true
    }

    fn happen(&mut self) {
        let Some(((at, _), happening)) = self.happenings.pop_first() else { return };
        self.now = self.now.max(at);
        let frozen =
            |(life, leaf): &(&Life, &mut Leaf)| leaf.frozen_since.is_some() && happening.is_done_by(**life);
        if let Some((_, leaf)) = self.leaves.iter_mut().find(frozen) {
            return leaf.held.push((at, happening));
        }
        match happening {
            Happening::SpawnAnswered(life) => self.spawn_answered(life),
            Happening::MainDies(life, exit) => self.main_dies(life, exit),
            Happening::ForkedDies(life) | Happening::ForkedIsKilled(life) => self.forked_dies(life),
            Happening::StandsStill(life) => self.stands_still(life),
        }
    }

    // ---- the kernel

    fn spawn_answered(&mut self, life: Life) {
        let Some(leaf) = self.leaves.get_mut(&life).filter(|leaf| leaf.main == Main::OnItsWay) else {
            return;
        };
        if let Spawn::Fails(kind, _) = leaf.program.spawn {
            return self.spawn_fails(life, kind);
        }
        leaf.main = Main::Alive;
        leaf.forked = leaf.program.forks;
        if let Some((after, exit)) = leaf.program.exits {
            self.later(after, Happening::MainDies(life, exit));
        }
        self.next_pid += 1;
        self.fact(Event::Spawned { life, pid: self.next_pid });
    }

    fn spawn_fails(&mut self, life: Life, kind: FailureKind) {
        self.leaves.remove(&life);
        let failure = Failure { stage: Stage::Program, reason: "no".into(), kind };
        self.fact(Event::SpawnFailed { life, failure });
    }

    fn main_dies(&mut self, life: Life, exit: Exit) {
        let Some(leaf) = self.leaves.get_mut(&life).filter(|leaf| leaf.main == Main::Alive) else { return };
        leaf.main = Main::Reaped;
        leaf.usage.cpu_usec += 1000;
        let event = Event::Exited { life, exit, usage: leaf.usage, left: leaf.forked };
        self.fact(event);
    }

    fn forked_dies(&mut self, life: Life) {
        let Some(leaf) = self.leaves.get_mut(&life).filter(|leaf| leaf.forked > 0) else { return };
        leaf.forked -= 1;
        if leaf.forked == 0 && leaf.main == Main::Reaped {
            let event = Event::Emptied { life, usage: leaf.usage };
            self.fact(event);
        }
    }

    fn stands_still(&mut self, life: Life) {
        if self.leaves.get(&life).is_some_and(|leaf| leaf.frozen_since.is_some()) {
            self.fact(Event::Frozen { life });
        }
    }

    /// A fact about a life; a world that repeats itself tells it twice, and earlier ones too.
    fn fact(&mut self, event: Event) {
        self.tell(event.clone());
        if !self.repeats_itself || self.ending.is_some() {
            return;
        }
        let told =
            self.history.iter().rev().map(|(_, event, _)| event).filter(|event| about(event).is_some());
        let again: Vec<_> = told.take(12).cloned().collect();
        for event in again {
            let life = about(&event).expect("filtered");
            let old = self.core.instances()[life.instance.0 as usize].life() != Some(life);
            // What is said of use or of standing still is what was seen just now: not a thing to be told out of
            // order.
            if old || !matches!(event, Event::Resource { .. } | Event::Frozen { .. }) {
                let before = self.core.clone();
                let actions = self.core.handle(self.now, event.clone());
                assert_eq!(actions, [], "{event:?} once more");
                assert_eq!(before, self.core, "{event:?} once more");
            }
        }
    }

    // ---- the driver

    fn perform(&mut self, action: Action) {
        assert_eq!(self.ending, None, "{action:?} after the end");
        match action {
            Action::Spawn(life) => self.spawn(life),
            Action::CancelSpawn(life) => {
                let Some(leaf) = self.leaves.get(&life) else { return };
                match leaf.program.spawn {
                    Spawn::Takes(_) if leaf.main == Main::OnItsWay => self.spawn_cancelled(life),
                    _ => {}
                }
            }
            Action::Stop { life, signal, to } => {
                let frozen = self.leaves[&life].frozen_since;
                assert_eq!(frozen, None, "a stop signal to one that is frozen");
                self.deliver(life, signal, to);
            }
            Action::Signal { life, signal, to } => match signal.0 {
                // No program here takes notice of these.
                10 | 12 | 18 | 19 | 28 => self.has_process(life, to),
                9 => self.deliver_kill(life, to),
                _ => self.deliver(life, signal, to),
            },
            Action::Freeze(life) => self.freeze_leaf(life),
            Action::Thaw(life) => self.thaw_leaf(life),
            Action::KillCgroup(life) => self.kill_leaf(life),
            Action::RemoveCgroup(life) => {
                let leaf = self.leaves.remove(&life).expect("a leaf is removed once");
                assert!(leaf.main == Main::Reaped && leaf.forked == 0, "rmdir of a leaf in use: {leaf:?}");
            }
            Action::Suspend => {
                assert_eq!(self.frozen_since.replace(self.now), None, "frozen twice");
            }
            Action::Resume => {
                let since = self.frozen_since.take().expect("resumed while running");
                let by = self.now - since;
                for leaf in self.leaves.values_mut() {
                    leaf.frozen_since = leaf.frozen_since.map(|since| self.now.min(since + by));
                    leaf.held.iter_mut().for_each(|(at, _)| *at += by);
                }
                let happenings = std::mem::take(&mut self.happenings).into_iter();
                self.happenings = happenings.map(|((at, n), happening)| ((at + by, n), happening)).collect();
            }
            Action::Announce(Announcement::GivenUp { life }) => {
                self.given_up.insert(life);
            }
            Action::Announce(_) => {}
            Action::Reply { client, reply } => self.replies.entry(client.0).or_default().push(reply),
            Action::Exit(ending) => {
                let left: Vec<_> = self.leaves.keys().filter(|life| !self.given_up.contains(life)).collect();
                assert!(left.is_empty(), "left behind: {left:?}");
                self.ending = Some(ending);
            }
        }
    }

    fn spawn(&mut self, life: Life) {
        let other = self.leaves.keys().find(|other| other.instance == life.instance);
        assert_eq!(other, None, "one live invocation at most");
        let program = self.programs[life.instance.0 as usize].clone();
        match program.spawn {
            Spawn::Takes(after) | Spawn::Uncancellable(after) | Spawn::Fails(_, after) => {
                self.later(after, Happening::SpawnAnswered(life));
            }
            Spawn::Hangs | Spawn::HangsForever => {}
        }
        let (usage, held) = (Usage::default(), Vec::new());
        let leaf = Leaf { program, main: Main::OnItsWay, forked: 0, usage, frozen_since: None, held };
        self.leaves.insert(life, leaf);
    }

    fn freeze_leaf(&mut self, life: Life) {
        let leaf = self.leaves.get_mut(&life).expect("a leaf that exists is frozen");
        assert_ne!(leaf.main, Main::OnItsWay, "a birth into a frozen leaf hangs");
        assert_eq!(leaf.frozen_since.replace(self.now), None, "frozen twice");
        // Who is stuck in the kernel does not come to stand still.
        if leaf.program.main != Manners::Stuck {
            self.later(FREEZING_TAKES, Happening::StandsStill(life));
        }
    }

    fn thaw_leaf(&mut self, life: Life) {
        let leaf = self.leaves.get_mut(&life).expect("a leaf that exists is thawed");
        let by = self.now - leaf.frozen_since.take().expect("thawed unfrozen");
        let held = std::mem::take(&mut leaf.held);
        let happenings = std::mem::take(&mut self.happenings).into_iter();
        let (its, others) = happenings.partition(|(_, happening)| happening.is_done_by(life));
        self.happenings = others;
        let its: BTreeMap<_, _> = its;
        for (at, happening) in held.into_iter().chain(its.into_iter().map(|((at, _), one)| (at, one))) {
            self.sequence += 1;
            self.happenings.insert((at + by, self.sequence), happening);
        }
    }

    fn spawn_cancelled(&mut self, life: Life) {
        // The answer comes from the worker thread, as every other answer does.
        let leaf = self.leaves.get_mut(&life).expect("asked for");
        leaf.program.spawn = Spawn::Fails(FailureKind::Cancelled, Duration::ZERO);
        self.later(Duration::ZERO, Happening::SpawnAnswered(life));
    }

    fn has_process(&self, life: Life, to: Recipients) {
        let leaf = self.leaves.get(&life).expect("a signal goes to a life");
        assert!(leaf.main != Main::OnItsWay, "a signal to a process that may not exist yet");
        assert!(to == Recipients::All || leaf.main == Main::Alive, "a signal to a process that was reaped");
    }

    fn deliver(&mut self, life: Life, signal: Signal, to: Recipients) {
        self.has_process(life, to);
        let leaf = &self.leaves[&life];
        let (program, main, forked) = (leaf.program.clone(), leaf.main, leaf.forked);
        if let (Main::Alive, Manners::Obeys(after)) = (main, program.main) {
            let exit = program.traps.map_or(Exit::Signal { signal, core: false }, Exit::Code);
            self.later(after, Happening::MainDies(life, exit));
        }
        if let (Recipients::All, Manners::Obeys(after)) = (to, program.forked) {
            (0..forked).for_each(|_| self.later(after, Happening::ForkedDies(life)));
        }
    }

    fn deliver_kill(&mut self, life: Life, to: Recipients) {
        self.has_process(life, to);
        match to {
            Recipients::All => self.kill_leaf(life),
            Recipients::Main if self.leaves[&life].program.main == Manners::Stuck => {}
            Recipients::Main => {
                let exit = Exit::Signal { signal: SIGKILL, core: false };
                self.later(KILLING_TAKES, Happening::MainDies(life, exit));
            }
        }
    }

    fn kill_leaf(&mut self, life: Life) {
        let Some(leaf) = self.leaves.get(&life) else { return };
        let (program, main, forked) = (leaf.program.clone(), leaf.main, leaf.forked);
        match main {
            Main::OnItsWay if program.spawn == Spawn::Hangs => {
                let leaf = self.leaves.get_mut(&life).expect("just seen");
                leaf.program.spawn = Spawn::Fails(FailureKind::NotExecutable, KILLING_TAKES);
                self.later(KILLING_TAKES, Happening::SpawnAnswered(life));
            }
            Main::Alive if program.main != Manners::Stuck => {
                let exit = Exit::Signal { signal: SIGKILL, core: false };
                self.later(KILLING_TAKES, Happening::MainDies(life, exit));
            }
            Main::OnItsWay | Main::Alive | Main::Reaped => {}
        }
        if program.forked != Manners::Stuck {
            (0..forked).for_each(|_| self.later(KILLING_TAKES, Happening::ForkedIsKilled(life)));
        }
    }

    fn later(&mut self, after: Duration, happening: Happening) {
        let by_frozen = |(life, leaf): (&Life, &mut Leaf)| {
            let since = leaf.frozen_since.filter(|_| happening.is_done_by(*life))?;
            leaf.held.push((since + after, happening.clone()));
            Some(())
        };
        if self.leaves.iter_mut().find_map(by_frozen).is_some() {
            return;
        }
        self.sequence += 1;
        self.happenings.insert((self.now + after, self.sequence), happening);
    }

    // ---- looking at it

    pub fn id(&self, name: &str) -> InstanceId {
        let at = self.names.iter().position(|known| known == name).expect("a name of this stack");
        InstanceId(at as u32)
    }

    pub fn state(&self, name: &str) -> State {
        self.core.instances()[self.id(name).0 as usize].state
    }

    /// Its present life; ends the story when there is none.
    pub fn life(&self, name: &str) -> Life {
        self.core.instances()[self.id(name).0 as usize].life().expect("it lives")
    }

    /// The reply that a client got.
    pub fn reply(&self, client: Client) -> Option<Reply> {
        match self.replies.get(&client.0).map_or(&[][..], Vec::as_slice) {
            [] => None,
            [reply] => Some(reply.clone()),
            more => panic!("more than one reply to {client:?}: {more:?}"),
        }
    }

    /// Everything said and done since the last look, without the blanks that make a story readable here.
    #[track_caller]
    pub fn tells(&mut self, expected: &str) {
        let expected: Vec<_> = expected.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let told = std::mem::take(&mut self.log);
        assert!(told == expected, "the story went\n{}\n<<end\n", told.join("\n"));
    }

    pub fn story(&self) -> String {
        self.log.join("\n")
    }

    /// Every promise that can be seen at one moment.
    pub fn check(&self) {
        let mut live: Vec<_> = self.leaves.keys().map(|life| life.instance).collect();
        let lives = live.len();
        live.dedup();
        assert_eq!(lives, live.len(), "one live invocation at most");
        for life in self.leaves.keys() {
            let known = self.core.instances()[life.instance.0 as usize].life();
            assert_eq!(known, Some(*life), "a leaf that the core forgot");
        }
        for (life, leaf) in &self.leaves {
            let state = self.core.instances()[life.instance.0 as usize].state;
            let living = state.living().expect("it has a leaf");
            let thawed = living.freezer == Freezer::Thawed;
            // A kill needs no thaw.
            let killed = matches!(living.progress, Progress::Killing { .. } | Progress::Stuck { .. });
            assert!(killed || thawed == leaf.frozen_since.is_none(), "{state:?} of {leaf:?}");
        }
        if self.frozen_since.is_some() {
            return assert_eq!(self.core.deadline(), None, "time passes while frozen");
        }
        for instance in self.core.instances() {
            let (due, bound) = match instance.state {
                // As it was configured when the delay was chosen.
                State::Waiting(Wait::Restart { until }) => (until, self.longest.1),
                State::Up(living) => match living.progress {
                    Progress::Stopping { deadline, .. } => (deadline, instance.policy.timeout_stop),
                    Progress::Killing { deadline, .. } => (deadline, KILL_PATIENCE),
                    Progress::Spawning | Progress::Running | Progress::Stuck { .. } => continue,
                },
                State::Down { .. } => continue,
            };
            assert!(due <= self.now + bound, "{:?} waits too long", instance.state);
            assert!(self.core.deadline().is_some_and(|next| next <= due), "{:?} unbounded", instance.state);
        }
    }

    fn ids(&self, names: &str) -> Vec<InstanceId> {
        names.split_whitespace().map(|name| self.id(name)).collect()
    }

    fn clock(&self) -> String {
        format!("{}.{:03}", self.now.as_secs(), self.now.subsec_millis())
    }

    // ---- words

    fn text(&self, action: &Action) -> String {
        match action {
            Action::Spawn(life) => format!("spawn {}", self.called(*life)),
            Action::CancelSpawn(life) => format!("cancel {}", self.called(*life)),
            Action::Stop { life, signal, to: Recipients::All } => {
                format!("stop {} {}", self.called(*life), short(*signal))
            }
            Action::Stop { life, signal, to: Recipients::Main } => {
                format!("stop {} {} to main", self.called(*life), short(*signal))
            }
            Action::Signal { life, signal, to: Recipients::All } => {
                format!("signal {} {}", self.called(*life), short(*signal))
            }
            Action::Signal { life, signal, to: Recipients::Main } => {
                format!("signal {} {} to main", self.called(*life), short(*signal))
            }
            Action::KillCgroup(life) => format!("kill {}", self.called(*life)),
            Action::RemoveCgroup(life) => format!("remove {}", self.called(*life)),
            Action::Freeze(life) => format!("freeze {}", self.called(*life)),
            Action::Thaw(life) => format!("thaw {}", self.called(*life)),
            Action::Suspend => "suspend".into(),
            Action::Resume => "resume".into(),
            Action::Announce(announcement) => format!("\"{}\"", self.said(announcement)),
            Action::Reply { client, reply } => format!("reply to {}: {}", client.0, self.replied(reply)),
            Action::Exit(Ending::Code(code)) => format!("exit {code}"),
            Action::Exit(Ending::Signal(signal)) => format!("exit by {}", short(*signal)),
        }
    }

    fn said(&self, announcement: &Announcement) -> String {
        use Announcement as A;
        match announcement {
            A::Started { life, .. } => format!("{} started", self.called(*life)),
            A::CannotStart { life, failure } => {
                format!("{} cannot start: {:?}", self.called(*life), failure.kind)
            }
            A::Ended { life, exit, outcome, .. } => {
                let how = match exit {
                    Exit::Code(code) => format!("exited {code}"),
                    Exit::Signal { signal, core: false } => format!("died by {}", short(*signal)),
                    Exit::Signal { signal, core: true } => format!("dumped core by {}", short(*signal)),
                };
                format!("{} {how}: {outcome:?}", self.called(*life))
            }
            A::LeftBehind { life, count, signal } => {
                format!("{} left {count} behind, sent {}", self.called(*life), short(*signal))
            }
            A::Killing { life, timeout } => format!("{} killed after {timeout:?}", self.called(*life)),
            A::GivenUp { life } => format!("{} given up", self.called(*life)),
            A::Gone { life, after } => format!("{} gone {after:?} later", self.called(*life)),
            A::OomKill { life, kills } => format!("{} OOM kills: {kills}", self.called(*life)),
            A::TasksRefused { life } => format!("{} refused a fork", self.called(*life)),
            A::RestartIn { instance, delay, restarts, why } => {
                assert_ne!(*why, RestartReason::Requested, "a delay is policy's");
                format!("{} restarts in {delay:?}, no. {restarts}", self.name(*instance))
            }
            A::StartLimitHit { instance } => format!("{} hit the start limit", self.name(*instance)),
            A::OnRequest { instance, what: Intervention::Signal(signal) } => {
                format!("{}: {} on request", self.name(*instance), short(*signal))
            }
            A::OnRequest { instance, what } => {
                format!("{}: {} on request", self.name(*instance), format!("{what:?}").to_lowercase())
            }
            A::Removed { instance } => format!("{} removed", self.name(*instance)),
            A::ShutDownRequested => "shutdown requested".into(),
            A::Interrupted(signal) => format!("{} received", short(*signal)),
            A::StoppingAll(Some(signal)) => format!("{} to all", short(*signal)),
            A::StoppingAll(None) => "stopping all".into(),
            A::KillingAll => "killing all".into(),
            A::Forwarding(signal) => format!("forwarding {}", short(*signal)),
            A::HangUpIgnored => "hang-up ignored".into(),
            A::Suspended => "suspended".into(),
            A::Resumed => "resumed".into(),
        }
    }

    fn replied(&self, reply: &Reply) -> String {
        match reply {
            Reply::Done => "done".into(),
            Reply::ShuttingDown => "shutting down".into(),
            Reply::Superseded => "superseded".into(),
            Reply::Failed(id) => format!("{} failed", self.name(*id)),
            Reply::NotRunning(id) => format!("{} does not run", self.name(*id)),
        }
    }

    fn name(&self, id: InstanceId) -> &str {
        &self.names[id.0 as usize]
    }

    fn called(&self, life: Life) -> String {
        format!("{}#{}", self.name(life.instance), life.invocation)
    }
}

fn about(event: &Event) -> Option<Life> {
    match event {
        Event::Spawned { life, .. }
        | Event::SpawnFailed { life, .. }
        | Event::Exited { life, .. }
        | Event::Emptied { life, .. }
        | Event::Resource { life, .. }
        | Event::Frozen { life } => Some(*life),
        Event::Begin
        | Event::Configured { .. }
        | Event::Signal(_)
        | Event::ReaderLeft
        | Event::Request { .. }
        | Event::ClientLeft(_)
        | Event::TimePassed => None,
    }
}

fn short(signal: Signal) -> String {
    let known = [(1, "HUP"), (2, "INT"), (3, "QUIT"), (9, "KILL"), (10, "USR1"), (11, "SEGV"), (12, "USR2")];
    let more = [(13, "PIPE"), (15, "TERM")];
    let name = known.iter().chain(&more).find(|(number, _)| *number == signal.0);
    name.map_or(signal.0.to_string(), |(_, name)| (*name).into())
}

/// Settings as without any: SIGTERM to all, 5 s, no restart.
pub fn plain_policy() -> Policy {
    Policy {
        stop_signal: SIGTERM,
        timeout_stop: Duration::from_secs(5),
        kill_mode: KillMode::ControlGroup,
        can_die: false,
        oneshot: false,
        restart: Restart {
            when: RestartWhen::No,
            delay: ms(100),
            delay_max: Duration::from_secs(5),
            burst: 5,
            interval: Duration::from_secs(10),
        },
    }
}

pub fn plain_program() -> Program {
    Program {
        spawn: Spawn::Takes(SPAWN_TAKES),
        main: Manners::Obeys(DYING_TAKES),
        traps: None,
        forks: 0,
        forked: Manners::Obeys(DYING_TAKES),
        exits: None,
    }
}

/// `web:can-die,timeout=2s,forks=1`.
pub fn describe(word: &str) -> (String, Policy, Program) {
    let (name, settings) = word.split_once(':').unwrap_or((word, ""));
    let (mut policy, mut program) = (plain_policy(), plain_program());
    let restart = &mut policy.restart;
    for setting in settings.split(',').filter(|setting| !setting.is_empty()) {
        let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
        let number = || value.parse::<u64>().unwrap_or_else(|_| panic!("{setting}: a number"));
        match key {
            "can-die" => policy.can_die = true,
            "oneshot" => policy.oneshot = true,
            "mixed" => policy.kill_mode = KillMode::Mixed,
            "stop-signal" => policy.stop_signal = Signal(number() as i32),
            "timeout-ms" => policy.timeout_stop = ms(number()),
            "restart" if value == "always" => restart.when = RestartWhen::Always,
            "restart" if value == "on-failure" => restart.when = RestartWhen::OnFailure,
            "delay-ms" => restart.delay = ms(number()),
            "delay-max-ms" => restart.delay_max = ms(number()),
            "burst" => restart.burst = number() as u32,
            "interval-ms" => restart.interval = ms(number()),
            "stubborn" => program.main = Manners::Stubborn,
            "stuck" => program.main = Manners::Stuck,
            "dies-in-ms" => program.main = Manners::Obeys(ms(number())),
            "traps" => program.traps = Some(number() as u8),
            "forks" => program.forks = number() as u32,
            "forked-stubborn" => program.forked = Manners::Stubborn,
            "forked-stuck" => program.forked = Manners::Stuck,
            "forked-die-in-ms" => program.forked = Manners::Obeys(ms(number())),
            "spawn-ms" => program.spawn = Spawn::Takes(ms(number())),
            "spawn-uncancellable-ms" => program.spawn = Spawn::Uncancellable(ms(number())),
            "spawn-hangs" => program.spawn = Spawn::Hangs,
            "spawn-hangs-forever" => program.spawn = Spawn::HangsForever,
            "not-found" => program.spawn = Spawn::Fails(FailureKind::NotFound, SPAWN_TAKES),
            "passing" => program.spawn = Spawn::Fails(FailureKind::Passing, SPAWN_TAKES),
            "not-executable" => program.spawn = Spawn::Fails(FailureKind::NotExecutable, SPAWN_TAKES),
            "not-found-after-ms" => program.spawn = Spawn::Fails(FailureKind::NotFound, ms(number())),
            "exec-oom" => program.spawn = Spawn::Fails(FailureKind::OutOfMemory, SPAWN_TAKES),
            "runs-ms" => program.exits = Some((ms(number()), Exit::Code(0))),
            "fails-after-ms" => program.exits = Some((ms(number()), Exit::Code(1))),
            _ => panic!("{setting} means nothing"),
        }
    }
    (name.into(), policy, program)
}

/// Where a story needs it said: a signal that a stopped stack goes on with.
pub const GO_ON: i32 = SIGCONT.0;
