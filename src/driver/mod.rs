//! The loop: wait for a fact, hand it to the core, carry out every order, arm the deadline, wait again.
//!
//! It owns the adapters and has no opinions. Nothing in it may block: births and removals are the worker
//! thread's, the terminal is the log thread's, and what is left here are single system calls that the
//! kernel answers at once.
//!
//! Readiness comes from three places: tokio's signal handlers, one channel on which the worker and the log
//! thread report, and one epoll of our own, nested in tokio's, which watches every pidfd and every cgroup
//! file of the stack. One descriptor in tokio instead of hundreds keeps an idle stack idle and a birth
//! cheap.

mod calls;
pub mod ceilings;
mod changes;
mod crashes;
mod facts;
mod guarding;
mod interpreter;
mod launcher;
mod life;
mod manager;
mod orders;
mod orphans;
mod outside;
mod report;
mod terminals;
mod terms;
mod texts;
mod turns;
mod wake;
mod words;
mod worker;

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::process::Pid;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::{Sources, Stack};
use crate::control::chronicle::Chronicle;
use crate::control::inside::Inside;
use crate::control::{self, server::Server};
use crate::error::words;
use crate::linux::cgroup::Counters;
use crate::linux::descendants::{self, Descendant};
use crate::linux::guardian::Guardian;
use crate::linux::notify::Notifier;
use crate::linux::signals::Blocked;
use crate::linux::tree::Tree;
use crate::output::history::History;
use crate::output::{Label, Log, LogFiles, Notice, Shown, Sinks, Stream};
use crate::supervisor::{Client, Ending, Event, InstanceId, Life, Supervisor};
use calls::Calls;
use crashes::Crashes;
use guarding::Guarding;
use launcher::Rise;
use life::{Alive, number};
use manager::Manager;
use orphans::Orphans;
use outside::{Errands, OneLook};
use terminals::Terminals;
use texts::{Change, Changed};
use turns::Turns;
use wake::{Clock, Key, Signals, Watch};
use worker::{Nursery, Report, Worker};

pub use calls::{About, Control};
pub use crashes::{Failed, Found};
pub use guarding::{Checked, Keeper};
pub use launcher::{Launcher, News, VARIABLE as LAUNCHER_VARIABLE};
pub use texts::{Read, Texts};
pub use worker::Streams;

/// How long a reader of lpm's output may take for the last lines before lpm leaves without it.
const LAST_LINES: Duration = Duration::from_secs(5);

/// How long after that the server may take to tell its clients, which it does within a second.
const LAST_REPLIES: Duration = Duration::from_secs(2);

/// How long the last line before lpm stops itself (Ctrl-Z) may take to be written.
const BEFORE_STOPPING: Duration = Duration::from_millis(200);

/// While something is expected to end or to stand still, lpm looks this often whether it has, whatever tells of it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What the log is asked to tell: that everything was written.
const LAST: u64 = 0;
/// That lpm can stop itself.
const STOP: u64 = 1;

/// After this long, people are told who is still being waited for, and again after each `STILL_WAITING`.
const WAITING: Duration = Duration::from_secs(1);
const STILL_WAITING: Duration = Duration::from_secs(5);

/// What a run needs from outside; everything was checked and prepared by then.
pub struct Setup {
    /// What to run.
    pub stack: Arc<Stack>,
    /// Where output goes.
    pub output: OwnedFd,
    /// What goes there.
    pub shown: Shown,
    /// How it looks.
    pub layout: crate::output::Layout,
    /// Where it goes besides.
    pub files: LogFiles,
    /// What keeps it for those who ask later, if anything does.
    pub history: Option<Arc<History>>,
    /// Where what happens is written down.
    pub chronicle: Arc<Chronicle>,
    /// Where the instances' standard streams go.
    pub streams: Streams,
    /// How much lpm itself says.
    pub voice: Voice,
    /// A controlling terminal that can be lost: SIGHUP stops the stack.
    pub terminal: bool,
    /// SIGHUP was inherited as ignored (nohup) and stays so.
    pub ignore_hangup: bool,
    /// RLIMIT_NOFILE before lpm raised its own; what children get.
    pub open_files: Option<(u64, u64)>,
    /// Who waits for the stack to be up (`--detach`).
    pub launcher: Option<Launcher>,
    /// The service manager, if it wants to know how the stack is.
    pub notifier: Option<Notifier>,
    /// Said before anything else, in lpm's own name.
    pub preface: Vec<String>,
    /// How it can be asked from elsewhere, if it can.
    pub control: Option<Control>,
    /// Called with a way to ask from inside lpm, before anything runs.
    pub meet: Box<dyn FnOnce(Inside) -> std::io::Result<()>>,
    /// The run's own number, which its processes carry in their environment.
    pub run: String,
    /// What only whoever started it knows of the stack.
    pub about: About,
    /// The text that the stack was made of, and how it is read again; without it nothing can be changed.
    pub texts: Option<(Texts, Sources)>,
    /// Children that this process had before lpm started any.
    pub inherited: Vec<Pid>,
    /// Signals that came while all this was prepared; let through once they can be acted on. The driver's
    /// threads inherit the mask, so that handlers run on the loop's thread alone.
    pub held: Blocked,
}

/// What the stack stands on. The driver borrows it for a run and gives it back, whatever became of that, for
/// it has to be taken away in the end.
#[derive(Debug, Default)]
pub struct Ground {
    /// Where the leaves go; `None` in the tier without cgroups.
    pub tree: Option<Arc<Tree>>,
    /// The one who cleans up after us if we cannot.
    pub guardian: Option<Guardian>,
    /// What keeps the record and the socket of this run in their place.
    pub keeper: Option<Keeper>,
}

/// How much lpm says about what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voice {
    /// Everything, each line in the name of an instance or of `system`.
    Stack,
    /// Only what explains a bad end: the output belongs to the command (`lpm run`).
    OneOff,
}

/// How a run went.
pub struct Run {
    /// How lpm is to end.
    pub ending: Ending,
    /// The core in its last state, for the summary.
    pub core: Supervisor,
    /// The stack as it was in the end: what was added while it ran is in it.
    pub stack: Arc<Stack>,
    /// Processes found outside every leaf after the end.
    pub strays: Vec<Stray>,
    /// From the first birth to the last leaf.
    pub took: Duration,
    /// Whose last life failed, whoever ended the stack first.
    pub failed: Vec<Failed>,
    /// The last lines of a stack that somebody waited for and that never was up.
    pub never_up: Option<Vec<String>>,
    /// Hangs up on the clients when it is dropped: the last thing that is done.
    pub server: Option<Server>,
}

/// A process that was found outside every leaf after the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Its number.
    pub pid: u32,
    /// The kernel's name for it.
    pub name: String,
    /// Why it lives on; `None`: it was killed.
    pub lives: Option<String>,
}

/// Runs the stack to its end.
///
/// # Errors
/// What the kernel refuses before the first process is started: descriptors, threads. Nothing runs then.
pub fn run(setup: Setup, ground: &mut Ground) -> std::io::Result<Run> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    runtime.block_on(async {
        let mut driver = Driver::new(setup, ground)?;
        driver.ground = std::mem::take(ground);
        let (run, given_back) = driver.run().await;
        *ground = given_back;
        Ok(run)
    })
}

/// What the threads report to the loop.
enum Message {
    Worker(Report),
    Log(Notice),
    /// A client asks, or left.
    Control(control::Message),
    /// What the text comes to now, and the number of the reading.
    Changed(Client, Change, Changed),
    /// Who is being waited for, looked up.
    Waiting(Vec<String>),
}

struct Driver {
    stack: Arc<Stack>,
    core: Supervisor,
    clock: Clock,
    worker: Worker,
    ground: Ground,
    log: Log,
    labels: Vec<Label>,
    system: Label,
    /// What leaves count.
    counters: Counters,
    watch: Watch,
    turns: Turns,
    /// What was ordered in this turn for processes outside every leaf.
    errands: Errands,
    orphans: Orphans,
    /// While several lives are looked at one after the other: what was found in /proc by the first that needed it.
    one_look: Option<OneLook>,
    /// The kernel refused to thaw the stack; it is asked again once a second.
    unthawed: bool,
    /// When to look again at what is expected to end.
    look: Option<Duration>,
    /// What the names of the leaves begin with, where there are leaves.
    leaves: Option<Vec<u8>>,
    /// The run's own number.
    run: String,
    inbox: UnboundedReceiver<Message>,
    /// For threads that are started later.
    outbox: UnboundedSender<Message>,
    guarding: Guarding,
    /// Ctrl-Z waits for births that are under way.
    suspending: bool,
    /// Children that lpm had before its first birth: whoever executed lpm left them.
    inherited: Vec<Pid>,
    signals: Signals,
    calls: Calls,
    /// By instance.
    lives: Vec<Option<Alive>>,
    /// As what their present or last lives were ordered, by instance.
    born: Vec<Option<Arc<Stack>>>,
    /// What is kept of those that failed.
    crashes: Crashes,
    /// Lives that are to begin when their port is free.
    held: Vec<Life>,
    /// A change of the text has given a port to another instance, so that it may be in use when that begins.
    ports_moved: bool,
    /// Facts that came of an order at once; handed in when the orders that came with it are carried out.
    told: VecDeque<Event>,
    by_pid: HashMap<u32, InstanceId>,
    cancels: HashMap<Life, Arc<AtomicBool>>,
    ending: Option<Ending>,
    /// What `lpm run` lent the command.
    terminal: Option<OwnedFd>,
    /// When people are next told who is being waited for.
    progress: Option<Duration>,
    /// Ctrl-Z: lpm stops itself when what it says about that is written, at the latest now.
    stop_by: Option<Duration>,
    /// Which streams of an instance come through pipes.
    streams: &'static [Stream],
    /// What was said, for those who ask.
    history: Option<Arc<History>>,
    /// The instances' own terminals.
    terminals: Terminals,
    voice: Voice,
    /// Names are padded to this.
    width: usize,
    /// Lines begin with whose they are.
    prefixed: bool,
    /// Until the stack is up, if somebody waits for that.
    rise: Option<Rise>,
    manager: Option<Manager>,
}

impl Driver {
    fn new(setup: Setup, ground: &mut Ground) -> std::io::Result<Driver> {
        // A terminal may come with a change of the text, too.
        let own_terminals = matches!(setup.streams, Streams::Pipes { .. });
        let signals = Signals::new(setup.ignore_hangup, own_terminals)?;
        let terminals = Terminals::new(&setup.output, setup.layout, own_terminals)?;
        let (outbox, inbox) = unbounded_channel();
        let log_outbox = outbox.clone();
        let notify = move |notice| drop(log_outbox.send(Message::Log(notice)));
        let sinks = Sinks {
            stdout: setup.output,
            shown: setup.shown,
            layout: setup.layout,
            history: setup.history.clone(),
            files: setup.files,
        };
        let log = Log::start(sinks, Box::new(notify))?;
        let core = Supervisor::new(&setup.stack, setup.terminal);
        let labels = setup.stack.instances.iter();
        let labels = labels.map(|instance| Label::instance(&instance.name, instance.process)).collect();
        let streams: &[Stream] = match setup.streams {
            Streams::Pipes { split_stderr: false } => &[Stream::Merged],
            Streams::Pipes { split_stderr: true } => &[Stream::Out, Stream::Err],
            Streams::Ours { .. } => &[],
        };
        let terminal = match &setup.streams {
            Streams::Ours { terminal: Some(terminal) } => Some(terminal.try_clone()?),
            Streams::Ours { terminal: None } | Streams::Pipes { .. } => None,
        };
        let nursery = Nursery {
            tree: ground.tree.clone(),
            memory: ground.tree.as_ref().is_some_and(|tree| tree.has("memory")),
            run: setup.run.clone(),
            streams: setup.streams,
            open_files: setup.open_files,
            ignore_hangup: setup.ignore_hangup,
        };
        let births = outbox.clone();
        let worker = Worker::start(nursery, move |report| drop(births.send(Message::Worker(report))))?;
        let system = Label::system();
        setup.preface.iter().for_each(|line| log.say(&system, line.as_str()));
        let watch = Watch::new()?;
        if let Some(guardian) = &ground.guardian {
            watch.add(guardian, EventFlags::IN, Key::guardian())?;
        }
        let has = |controller| ground.tree.as_ref().is_some_and(|tree| tree.has(controller));
        let counters = Counters { memory: has("memory"), tasks: has("pids") };
        let insiders = outbox.clone();
        (setup.meet)(Inside::new(move |message| drop(insiders.send(Message::Control(message)))))?;
        let calls = Calls::new(setup.about, setup.control, setup.chronicle, setup.texts);
        if let Some(listener) = calls.listener() {
            watch.add(listener, EventFlags::IN, Key::listener())?;
        }
        let clock = Clock::start();
        let tree = ground.tree.as_deref();
        let freezer = tree.and_then(|tree| guarding::watched_freezer(&watch, tree));
        let guarding = Guarding::new(clock.now(), tree, freezer, ground.keeper.take());
        drop(setup.held);
        let awaited = setup.launcher.is_some() || setup.notifier.is_some();
        Ok(Driver {
            rise: awaited.then(|| Rise::new(setup.launcher)),
            manager: setup.notifier.map(Manager::new),
            counters,
            lives: setup.stack.instances.iter().map(|_| None).collect(),
            born: vec![None; setup.stack.instances.len()],
            crashes: Crashes::default(),
            held: Vec::new(),
            ports_moved: false,
            stack: setup.stack,
            core,
            clock,
            worker,
            ground: Ground::default(),
            log,
            labels,
            system,
            watch,
            turns: Turns::default(),
            errands: Errands::default(),
            orphans: Orphans::default(),
            one_look: None,
            unthawed: false,
            look: None,
            leaves: ground.tree.as_deref().and_then(outside::prefix_of_leaves),
            run: setup.run,
            inbox,
            outbox,
            guarding,
            suspending: false,
            inherited: setup.inherited,
            signals,
            calls,
            told: VecDeque::new(),
            by_pid: HashMap::new(),
            cancels: HashMap::new(),
            ending: None,
            terminal,
            progress: None,
            stop_by: None,
            streams,
            history: setup.history,
            terminals,
            voice: setup.voice,
            width: setup.layout.width,
            prefixed: setup.layout.prefix,
        })
    }

    async fn run(mut self) -> (Run, Ground) {
        let began = self.clock.now();
        self.hand_in(Event::Begin);
        // While the first processes are being born.
        self.stand_by();
        self.ask_whether_it_rises();
        while self.ending.is_none() {
            self.wait().await;
        }
        self.finish(began).await
    }

    /// Waits for one thing to happen and deals with it. Signals, messages, readiness and the timer have their turn
    /// however busy the others are.
    async fn wait(&mut self) {
        self.look = match self.expects_something() {
            true => self.look.or_else(|| Some(self.clock.now() + LOOK_AGAIN)),
            false => None,
        };
        let timer = self.clock.sleep_until(self.due());
        let woken = {
            let signal = pin!(async { Woken::Signal(self.signals.next().await) });
            let message = pin!(async { Woken::Message(self.inbox.recv().await) });
            let ready = pin!(async { Woken::Ready(self.watch.ready().await) });
            let timer = pin!(async {
                timer.await;
                Woken::Timer
            });
            self.turns.next([signal, timer, ready, message]).await
        };
        match woken {
            Woken::Signal(signal) => self.on_signal(signal),
            Woken::Message(message) => {
                self.on_message(message.expect("the worker and the log thread hold their ends while we run"));
            }
            Woken::Ready(keys) => keys.into_iter().for_each(|key| self.on_ready(key)),
            Woken::Timer => self.on_timer(),
        }
        self.keep_files_while_awake();
    }

    /// When the loop is next to wake by itself.
    fn due(&self) -> Option<Duration> {
        let manager = self.manager.as_ref().and_then(Manager::due);
        let asking =
            self.lives.iter().flatten().filter_map(|alive| alive.asking.as_ref()).map(|one| one.until).min();
        let own = [self.core.deadline(), self.progress, self.stop_by, self.look, asking, manager];
        own.into_iter().chain([self.calls.due(), self.crashes.due, self.guarding.due()]).flatten().min()
    }

    fn on_message(&mut self, message: Message) {
        match message {
            Message::Worker(Report::Answered(answer)) => self.on_birth(answer),
            Message::Worker(Report::Guarded(guardian)) => self.on_guarded(guardian),
            Message::Worker(Report::Limited { part, leaf, done }) => {
                self.on_limited(part, leaf.as_deref(), done)
            }
            Message::Worker(Report::Finished) => unreachable!("the worker was not told to finish"),
            Message::Control(message) => self.on_control(message),
            Message::Changed(number, change, changed) => self.on_changed(number, change, changed),
            Message::Waiting(lines) => lines.into_iter().for_each(|line| self.log.say(&self.system, line)),
            Message::Log(notice) => self.on_notice(notice),
        }
    }

    /// Hands one fact in and carries out what comes back.
    fn hand_in(&mut self, event: Event) {
        let mut next = Some(event);
        while let Some(event) = next {
            tracing::debug!("fact {event:?}");
            for action in self.core.handle(self.clock.now(), event) {
                tracing::debug!("order {action:?}");
                self.perform(action);
            }
            self.run_errands();
            next = self.told.pop_front();
        }
        self.bear_held();
        if self.core.is_tearing_down() && self.progress.is_none() {
            self.progress = Some(self.clock.now() + WAITING);
        }
        self.go_on_rising();
        self.tell_manager();
    }

    fn tell_manager(&mut self) {
        if let Some(manager) = &mut self.manager {
            manager.tell(self.clock.now(), &self.core);
        }
    }

    async fn finish(mut self, began: Duration) -> (Run, Ground) {
        let took = self.clock.now() - began;
        // Nothing is left that the guardian would have to end, unless something could not be killed; it goes
        // while lpm tidies up.
        let empty = |tree: &Arc<Tree>| !tree.app().populated().unwrap_or(true);
        if self.lives.iter().all(Option::is_none)
            && !self.worker.is_bearing()
            && self.ground.tree.as_ref().is_some_and(empty)
            && let Some(guardian) = &self.ground.guardian
        {
            self.watch.remove(guardian);
            guardian.release();
        }
        // The last leaves go while the last lines are written; should the kernel, or the reader of the
        // output, take too long for either, lpm goes on without.
        self.worker.finish();
        self.log.flush(LAST);
        // What a limit or a text has come to by now is nobody's any more.
        self.calls.refuse_all();
        let (mut removed, mut written, mut heard) = (false, false, self.calls.server.is_none());
        let patience = tokio::time::sleep(LAST_LINES);
        tokio::pin!(patience);
        while !(removed && written && heard) {
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(Message::Worker(Report::Finished)) => removed = true,
                    // Its replacement was under way; it is sent away with the tree.
                    Some(Message::Worker(Report::Guarded(Ok(guardian)))) => self.ground.guardian = Some(guardian),
                    Some(Message::Log(Notice::Reached(token))) => self.on_reached(token),
                    Some(Message::Log(Notice::Flushed(LAST) | Notice::ReaderLeft)) => {
                        written = true;
                        self.tell_all_held();
                        // Whoever follows the lines gets the last ones too.
                        self.calls.finish();
                    }
                    Some(Message::Control(control::Message::Finished)) => heard = true,
                    // A call that comes now is let go, and its client hears that the stack is shutting down.
                    Some(_) => {}
                    None => break,
                },
                () = &mut patience => break,
            }
        }
        if !heard {
            // The last lines or not: whoever follows something is told that there is no more.
            self.tell_all_held();
            self.calls.finish();
            let inbox = &mut self.inbox;
            let last = async {
                while !matches!(inbox.recv().await, Some(Message::Control(control::Message::Finished)) | None)
                {
                }
            };
            let _ = tokio::time::timeout(LAST_REPLIES, last).await;
        }
        let strays = self.end_strays();
        let failed = self.failed();
        let ending = self.ending.expect("the loop ends with an ending");
        let said = |history: &Arc<History>| launcher::last_lines(history, self.width);
        let never_up = self.rise.as_ref().map(|_| self.history.as_ref().map_or_else(Vec::new, said));
        let server = self.calls.server;
        (
            Run { ending, core: self.core, stack: self.stack, strays, took, failed, never_up, server },
            self.ground,
        )
    }

    /// Kills what is still below us, was not there before us and is in no leaf: it was moved out, or its leaf could not
    /// be emptied.
    fn end_strays(&self) -> Vec<Stray> {
        let guardian = self.ground.guardian.iter().map(Guardian::pid);
        let spared: Vec<_> = guardian.chain(self.inherited.iter().copied()).collect();
        if !descendants::have_children_besides(&spared) {
            return Vec::new();
        }
        let swept = match descendants::sweep(&spared) {
            Ok(swept) => swept,
            Err(errno) => {
                self.complain("look for processes outside the stack", errno);
                return Vec::new();
            }
        };
        // In a leaf that could not be emptied they were told of already, and the guardian waits for them.
        let outside = |one: &Descendant| self.is_outside(one.pid).unwrap_or(true);
        let stray = |one: Descendant, lives| Stray { pid: number(one.pid), name: one.name, lives };
        let killed = swept.killed.into_iter().map(|one| stray(one, None));
        let left = swept.left.into_iter().filter(|(one, _)| outside(one)).map(|(one, refused)| {
            let why = match refused {
                Some(errno) => words(errno),
                None if one.uninterruptible => "uninterruptible sleep".to_owned(),
                None => "it does not end".to_owned(),
            };
            stray(one, Some(why))
        });
        killed.chain(left).collect()
    }
}

/// What woke the loop.
enum Woken {
    Signal(i32),
    Message(Option<Message>),
    Ready(Vec<Key>),
    Timer,
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Mutex;

    use tokio::sync::oneshot;

    use super::*;
    use crate::config::{Machine, Options, Signal, Sources, Text, load};
    use crate::control::desk::FIRST_CLIENT;
    use crate::control::interface::{Refusal, Tier};
    use crate::control::{Ask, Call};
    use crate::linux::cgroup::tests::Place;
    use crate::linux::signals;
    use crate::output::Layout;
    use crate::supervisor::{Client, Freezer, Outcome, Progress, Recipients, Request, State};

    const WEB: InstanceId = InstanceId(0);

    fn sources() -> Sources {
        Sources {
            procfile: Text::new("Procfile", "web: sleep 1000 & exec sleep 1000"),
            env_files: Vec::new(),
            manifest: None,
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            root: "/".into(),
            options: Options::default(),
            machine: Machine { memory: 8 << 30, cpus: 2, pid_max: 32_768 },
            socket: None,
        }
    }

    fn setup() -> Setup {
        let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
        Setup {
            stack: Arc::new(load(&sources()).expect("a valid Procfile").stack),
            output: null.into(),
            layout: Layout {
                width: 5,
                timestamps: false,
                prefix: true,
                colour: false,
                escape_controls: false,
                json: false,
            },
            shown: Shown::All,
            files: LogFiles::default(),
            history: None,
            chronicle: Arc::default(),
            streams: Streams::Pipes { split_stderr: false },
            voice: Voice::Stack,
            terminal: false,
            ignore_hangup: false,
            open_files: None,
            launcher: None,
            notifier: None,
            preface: Vec::new(),
            control: None,
            meet: Box::new(|_| Ok(())),
            run: "0".repeat(32),
            about: About {
                procfile: PathBuf::new(),
                manifest: PathBuf::new(),
                socket: None,
                tier: Tier::None,
            },
            texts: None,
            inherited: Vec::new(),
            held: signals::block_all(),
        }
    }

    impl Driver {
        fn ask(&mut self, request: Request) {
            self.hand_in(Event::Request { client: Client(1), request });
        }

        async fn until(&mut self, what: &str, there: impl Fn(State) -> bool) {
            let arrives = async {
                while !there(self.core.instances()[0].state) {
                    self.wait().await;
                }
            };
            let patience = Duration::from_secs(20);
            tokio::time::timeout(patience, arrives).await.unwrap_or_else(|_| panic!("never {what}"));
        }

        /// Waits until the kernel says so of every process of the instance: `T` for stopped. The loop goes on
        /// meanwhile, for a signal may take more than one turn.
        async fn until_all_are(&mut self, code: char) {
            let is = |pid: &Pid| {
                let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid()));
                stat.unwrap_or_default().contains(&format!(") {code} "))
            };
            for _ in 0..20_000 {
                let pids = self.pids(&[0]).remove(0);
                if pids.len() == 2 && pids.iter().all(is) {
                    return;
                }
                let _ = tokio::time::timeout(Duration::from_millis(1), self.wait()).await;
            }
            panic!("never all {code}");
        }
    }

    /// What a client does with one instance, in the tier that the ground allows.
    #[expect(clippy::zombie_processes, reason = "the driver is to reap it")]
    async fn freeze_thaw_and_stop(mut ground: Ground) -> Ground {
        let (_hangs, hung) = std::sync::mpsc::channel::<()>();
        let hung = Mutex::new(hung);
        let read = move |_: &mut Sources, _| {
            let _ = hung.lock().unwrap().recv();
            Ok(())
        };
        let texts = Texts { read: Box::new(read), judge: Box::new(|_| Ok(Vec::new())) };
        let setup = Setup { texts: Some((texts, sources())), ..setup() };
        let mut driver = Driver::new(setup, &mut ground).unwrap();
        driver.ground = ground;
        let running = |freezer| {
            move |state: State| {
                let living = state.living().map(|living| (living.progress, living.freezer));
                living == Some((Progress::Running, freezer))
            }
        };
        driver.hand_in(Event::Begin);
        driver.until("up", running(Freezer::Thawed)).await;
        // Who stands still forks nobody.
        driver.until_all_are('S').await;

        // A child that lpm had before its first birth is spared as long as it lives, and its number no longer.
        let inherited = Command::new("/bin/true").spawn().unwrap();
        driver.inherited.push(Pid::from_child(&inherited));
        let forgotten = async {
            while !driver.inherited.is_empty() {
                driver.wait().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), forgotten).await.expect("it is reaped and forgotten");

        // A freezer that could not be watched is looked at all the same.
        if let Some(tree) = driver.ground.tree.clone() {
            driver.guarding = Guarding::new(driver.clock.now(), Some(&tree), None, None);
            tree.root().freeze(true).unwrap();
            let thawed = async {
                while tree.supervisor().frozen() != Ok(false) {
                    driver.wait().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), thawed).await.expect("it is thawed");
        }

        for _ in 0..2 {
            driver.ask(Request::Freeze(vec![WEB]));
            driver.until("frozen", running(Freezer::Frozen)).await;
            // The whole stack and the one are two things.
            driver.freeze(true);
            driver.freeze(false);
            match &driver.ground.tree {
                Some(tree) => assert_eq!(tree.app().child("web.1").unwrap().frozen(), Ok(true)),
                None => driver.until_all_are('T').await,
            }
            driver.ask(Request::Thaw(vec![WEB]));
            driver.until_all_are('S').await;
        }

        // SIGSTOP is sent as it is, and a stop continues whom it asks.
        let signal = Signal(libc::SIGSTOP);
        driver.ask(Request::Signal { on: vec![WEB], signal, to: Recipients::All });
        driver.until_all_are('T').await;
        driver.ask(Request::Freeze(vec![WEB]));
        driver.ask(Request::Stop(vec![WEB]));
        driver.until("stopped", |state| state == (State::Down { failed: false })).await;
        assert_eq!(driver.core.instances()[0].outcome, Some(Outcome::Success));

        // Files may hang on a network, and the end does not wait for them, nor does whoever asked.
        let (answer, mut answered) = oneshot::channel();
        let ask = Ask::Reload { dry_run: false, wait: true };
        driver.on_control(control::Message::Call(Call { client: Client(FIRST_CLIENT), ask, answer }));
        assert_eq!(answered.try_recv().err(), Some(oneshot::error::TryRecvError::Empty));
        driver.ask(Request::ShutDown);
        let began = driver.clock.now();
        let (run, ground) = driver.finish(began).await;
        assert_eq!(run.ending, Ending::Code(0));
        assert_eq!(run.strays, []);
        let answer = answered.try_recv().expect("an answer").expect_err("a refusal");
        assert_eq!(answer, Refusal::ShuttingDown {});
        ground
    }

    #[test]
    fn one_instance_is_frozen_thawed_and_stopped() {
        let Some(place) = Place::new("one_instance_is_frozen_thawed_and_stopped") else { return };
        alone(Some(&place.path()));
    }

    #[test]
    fn one_instance_is_frozen_thawed_and_stopped_without_cgroups() {
        alone(None);
    }

    /// In a process of its own, for the driver reaps every child there is.
    fn alone(place: Option<&Path>) {
        let test = "driver::tests::in_a_process_of_its_own";
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--test-threads=1", "--nocapture"])
            .env("LPM_TEST_DRIVER", place.unwrap_or(Path::new("")))
            .status();
        assert!(status.unwrap().success());
    }

    #[test]
    #[ignore = "run by the other two"]
    #[expect(clippy::disallowed_methods, reason = "how the other tests tell it where it is")]
    fn in_a_process_of_its_own() {
        let Some(place) = std::env::var_os("LPM_TEST_DRIVER").map(PathBuf::from) else { return };
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let tree = (!place.as_os_str().is_empty()).then(|| {
            Arc::new(Tree::own_directory(&place, "lpm-test", crate::linux::tree::tests::MARK, &[]).unwrap())
        });
        let ground = Ground { tree, ..Ground::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ground = runtime.block_on(freeze_thaw_and_stop(ground));
        if let Some(tree) = ground.tree {
            tree.leave().unwrap();
        }
    }
}
