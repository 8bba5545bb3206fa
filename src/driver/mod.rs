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

pub mod ceilings;
mod facts;
mod life;
mod orders;
mod terminals;
mod wake;
mod words;
mod worker;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::process::Pid;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::Stack;
use crate::linux::cgroup::Counters;
use crate::linux::descendants;
use crate::linux::guardian::Guardian;
use crate::linux::signals::Blocked;
use crate::linux::tree::Tree;
use crate::output::history::History;
use crate::output::{Label, Log, Notice, Stream};
use crate::supervisor::{Ending, Event, InstanceId, Life, Supervisor};
use life::{Alive, number};
use terminals::Terminals;
use wake::{Clock, Key, Signals, Watch};
use worker::{Nursery, Report, Worker};

pub use worker::Streams;

/// How long a reader of lpm's output may take for the last lines before lpm leaves without it.
const LAST_LINES: Duration = Duration::from_secs(5);

/// How long the last line before lpm stops itself (Ctrl-Z) may take to be written.
const BEFORE_STOPPING: Duration = Duration::from_millis(200);

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
    /// How it looks.
    pub layout: crate::output::Layout,
    /// What keeps it for those who ask later, if anything does.
    pub history: Option<Arc<History>>,
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
    /// Said before anything else, in lpm's own name.
    pub preface: Vec<String>,
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
    /// Processes found outside every leaf after the end, and killed: number and name.
    pub strays: Vec<(u32, String)>,
    /// From the first birth to the last leaf.
    pub took: Duration,
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
    inbox: UnboundedReceiver<Message>,
    /// For threads that are started later.
    outbox: UnboundedSender<Message>,
    /// Guardians that had to be replaced.
    replaced: u32,
    /// Ctrl-Z waits for births that are under way.
    suspending: bool,
    /// Children that lpm had before its first birth: whoever executed lpm left them.
    inherited: Vec<Pid>,
    signals: Signals,
    /// By instance.
    lives: Vec<Option<Alive>>,
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
    /// The instances' own terminals.
    terminals: Terminals,
    voice: Voice,
    /// Lines begin with whose they are.
    prefixed: bool,
}

impl Driver {
    fn new(setup: Setup, ground: &Ground) -> std::io::Result<Driver> {
        let own_terminals = matches!(setup.streams, Streams::Pipes { .. })
            && setup.stack.instances.iter().any(|instance| instance.pty);
        let signals = Signals::new(setup.ignore_hangup, own_terminals)?;
        let terminals = Terminals::new(&setup.output, setup.layout, own_terminals)?;
        let (outbox, inbox) = unbounded_channel();
        let log_outbox = outbox.clone();
        let notify = move |notice| drop(log_outbox.send(Message::Log(notice)));
        let log = Log::start(setup.output, setup.layout, setup.history, Box::new(notify))?;
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
            stack: Arc::clone(&setup.stack),
            tree: ground.tree.clone(),
            memory: ground.tree.as_ref().is_some_and(|tree| tree.has("memory")),
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
        drop(setup.held);
        Ok(Driver {
            counters,
            lives: setup.stack.instances.iter().map(|_| None).collect(),
            stack: setup.stack,
            core,
            clock: Clock::start(),
            worker,
            ground: Ground::default(),
            log,
            labels,
            system,
            watch,
            inbox,
            outbox,
            replaced: 0,
            suspending: false,
            inherited: setup.inherited,
            signals,
            by_pid: HashMap::new(),
            cancels: HashMap::new(),
            ending: None,
            terminal,
            progress: None,
            stop_by: None,
            streams,
            terminals,
            voice: setup.voice,
            prefixed: setup.layout.prefix,
        })
    }

    async fn run(mut self) -> (Run, Ground) {
        let began = self.clock.now();
        self.hand_in(Event::Begin);
        while self.ending.is_none() {
            self.wait().await;
        }
        self.finish(began).await
    }

    /// Waits for one thing to happen and deals with it.
    async fn wait(&mut self) {
        let wake = [self.core.deadline(), self.progress, self.stop_by].into_iter().flatten().min();
        let timer = self.clock.sleep_until(wake);
        tokio::select! {
            biased;
            signal = self.signals.next() => self.on_signal(signal),
            message = self.inbox.recv() => match message {
                Some(Message::Worker(Report::Answered(answer))) => self.on_birth(answer),
                Some(Message::Worker(Report::Guarded(guardian))) => self.on_guarded(guardian),
                Some(Message::Worker(Report::Finished)) => unreachable!("nobody told it to"),
                Some(Message::Waiting(lines)) => lines.into_iter().for_each(|line| self.log.say(&self.system, line)),
                Some(Message::Log(notice)) => self.on_notice(notice),
                None => unreachable!("the worker and the log thread hold their ends while we run"),
            },
            ready = self.watch.ready() => for key in ready { self.on_ready(key) },
            () = timer => self.on_timer(),
        }
    }

    /// Hands one fact in and carries out what comes back.
    fn hand_in(&mut self, event: Event) {
        for action in self.core.handle(self.clock.now(), event) {
            self.perform(action);
        }
        if self.core.is_tearing_down() && self.progress.is_none() {
            self.progress = Some(self.clock.now() + WAITING);
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
        let (mut removed, mut written) = (false, false);
        let patience = tokio::time::sleep(LAST_LINES);
        tokio::pin!(patience);
        while !(removed && written) {
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(Message::Worker(Report::Finished)) => removed = true,
                    Some(Message::Log(Notice::Flushed(LAST) | Notice::ReaderLeft)) => written = true,
                    Some(_) => {}
                    None => break,
                },
                () = &mut patience => break,
            }
        }
        let strays = self.end_strays();
        let ending = self.ending.expect("the loop ends with an ending");
        (Run { ending, core: self.core, strays, took }, self.ground)
    }

    /// Whoever is still below us, was not there before us and is in no leaf, was moved out by somebody.
    fn end_strays(&self) -> Vec<(u32, String)> {
        let stuck = self.lives.iter().flatten().map(|alive| alive.pid);
        let guardian = self.ground.guardian.iter().map(Guardian::pid);
        let spared: Vec<_> = guardian.chain(stuck).chain(self.inherited.iter().copied()).collect();
        if !descendants::have_children_besides(&spared) {
            return Vec::new();
        }
        let strays = descendants::sweep(&spared).unwrap_or_default();
        strays.into_iter().map(|one| (number(one.pid), one.name)).collect()
    }
}
