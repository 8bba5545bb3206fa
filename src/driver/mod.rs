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
mod life;
mod words;
mod worker;

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::config::{Signal, Stack};
use crate::linux::cgroup::Counters;
use crate::linux::guardian::{self, Guardian};
use crate::linux::signals::{self, Blocked};
use crate::linux::tier::Tree;
use crate::linux::{descendants, pidfd};
use crate::output::{Label, Log, Notice, SourceId, Stream};
use crate::supervisor::{
    Action, Announcement, Ending, Event, Failure, FailureKind, InstanceId, Life, Recipients, Supervisor,
};
use life::{Alive, INSTANCE_VARIABLE, Leaf, number};
use worker::{Answer, Born, Nursery, Order, Report, Worker};

pub use worker::Streams;

/// How long a reader of lpm's output may take for the last lines before lpm leaves without it.
const LAST_LINES: Duration = Duration::from_secs(5);

/// How long the last line before lpm stops itself (Ctrl-Z) may take to be written.
const BEFORE_STOPPING: Duration = Duration::from_millis(200);

/// Asks the log for the moment to stop.
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
    /// Signals that came while all this was prepared; let through once they can be acted on. The driver's
    /// threads inherit the mask, so that handlers run on the loop's thread alone.
    pub held: Blocked,
}

/// What the stack stands on. The driver borrows it for a run and gives it back, whatever became of that, for
/// it has to be taken away in the end.
#[derive(Debug, Default)]
pub struct Ground {
    /// Where the leaves go; `None` in the tier without cgroups.
    pub tree: Option<Tree>,
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
    signals: Signals,
    /// By instance.
    lives: Vec<Option<Alive>>,
    by_pid: HashMap<u32, InstanceId>,
    cancels: HashMap<Life, Arc<AtomicBool>>,
    /// Facts that turned up while orders were carried out, to be handed in next.
    found: Vec<Event>,
    ending: Option<Ending>,
    /// What `lpm run` lent the command.
    terminal: Option<OwnedFd>,
    /// When people are next told who is being waited for.
    progress: Option<Duration>,
    /// Ctrl-Z: lpm stops itself when what it says about that is written, at the latest now.
    stop_by: Option<Duration>,
    /// Which streams of an instance come through pipes.
    streams: &'static [Stream],
    voice: Voice,
}

impl Driver {
    fn new(setup: Setup, ground: &Ground) -> std::io::Result<Driver> {
        let signals = Signals::new(setup.ignore_hangup)?;
        let (outbox, inbox) = unbounded_channel();
        let log_outbox = outbox.clone();
        let notify = move |notice| drop(log_outbox.send(Message::Log(notice)));
        let log = Log::start(setup.output, setup.layout, Box::new(notify))?;
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
            app: ground.tree.as_ref().map(|tree| tree.app().try_clone()).transpose()?,
            memory: ground.tree.as_ref().is_some_and(|tree| tree.has("memory")),
            streams: setup.streams,
            open_files: setup.open_files,
            ignore_hangup: setup.ignore_hangup,
        };
        let births: UnboundedSender<Message> = outbox;
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
            signals,
            by_pid: HashMap::new(),
            cancels: HashMap::new(),
            found: Vec::new(),
            ending: None,
            terminal,
            progress: None,
            stop_by: None,
            streams,
            voice: setup.voice,
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
                Some(Message::Worker(Report::Finished)) => unreachable!("nobody told it to"),
                Some(Message::Log(notice)) => self.on_notice(notice),
                None => unreachable!("the worker and the log thread hold their ends while we run"),
            },
            ready = self.watch.ready() => for (key, _) in ready { self.on_ready(key) },
            () = timer => self.on_timer(),
        }
    }

    /// Hands one fact in and carries out what comes back; then what turned up meanwhile.
    fn hand_in(&mut self, event: Event) {
        let mut event = Some(event);
        while let Some(fact) = event {
            for action in self.core.handle(self.clock.now(), fact) {
                self.perform(action);
            }
            event = if self.found.is_empty() { None } else { Some(self.found.remove(0)) };
        }
        if self.core.is_tearing_down() && self.progress.is_none() {
            self.progress = Some(self.clock.now() + WAITING);
        }
    }

    // ---- facts

    fn on_signal(&mut self, signal: i32) {
        match signal {
            libc::SIGCHLD => {
                self.reap();
                self.follow_into_stop();
            }
            signal => self.hand_in(Event::Signal(Signal(signal))),
        }
    }

    fn on_birth(&mut self, answer: Answer) {
        self.worker.answered();
        match answer {
            Ok(born) => self.on_born(born),
            Err((life, failure)) => {
                self.cancels.remove(&life);
                self.hand_in(Event::SpawnFailed { life, failure });
            }
        }
        // A child that died while this birth was under way may have been taken for a stranger and left.
        if !self.worker.is_bearing() {
            self.reap();
        }
    }

    fn on_born(&mut self, born: Born) {
        let Born { life, pid, main, leaf, pipes } = born;
        self.cancels.remove(&life);
        let at = life.instance.0 as usize;
        let instance = &self.stack.instances[at];
        let leaf = match leaf {
            Some(leaf) => Leaf::Cgroup(leaf),
            None => Leaf::Descendants { mark: format!("{INSTANCE_VARIABLE}={}", instance.name) },
        };
        let mut alive = Alive {
            life,
            pid,
            main,
            leaf,
            counters: self.counters,
            exited: false,
            events: None,
            pressure: Vec::new(),
        };
        if let Err(errno) = self.watch.add(alive.main.as_fd(), EventFlags::IN, Key::exit(life)) {
            // SIGCHLD tells of the exit too; only its promptness is lost.
            self.complain("watch", errno);
        }
        if let Leaf::Cgroup(leaf) = &alive.leaf {
            for file in words::felt(&instance.ceilings) {
                let Ok(fd) = leaf.watch(file) else { continue };
                if self.watch.add(&fd, EventFlags::PRI, Key::resource(life)).is_ok() {
                    alive.pressure.push(fd);
                }
            }
        }
        self.by_pid.insert(number(pid), life.instance);
        self.lives[at] = Some(alive);
        self.hand_in(Event::Spawned { life, pid: number(pid) });
        for (stream, pipe) in pipes {
            self.open(life, pipe, stream);
        }
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::ReaderLeft => self.hand_in(Event::ReaderLeft),
            Notice::Failed(errno) => self.complain("standard output", errno),
            Notice::Flushed(STOP) => self.stop_now(),
            Notice::Flushed(_) => {}
        }
    }

    fn on_ready(&mut self, key: Key) {
        match key.kind() {
            Kind::Guardian => self.replace_guardian(),
            Kind::Exit => self.on_exit(key.instance()),
            Kind::Emptied => self.on_emptied(key.instance()),
            Kind::Resource => self.on_resource(key.instance()),
        }
    }

    /// The main process may have ended.
    fn on_exit(&mut self, id: InstanceId) {
        let Some(alive) = &mut self.lives[id.0 as usize] else { return };
        if alive.exited {
            return;
        }
        // A leaf's OOM kills are counted before its main process can be seen dead. Only then may that have
        // been killed before it began, which its zombie knows.
        let mut usage = alive.usage();
        let never_began = usage.oom_kills > 0 && alive.main.never_began();
        let Ok(Some(reaped)) = alive.main.reap() else { return };
        self.by_pid.remove(&number(alive.pid));
        alive.exited = true;
        let life = alive.life;
        if let Leaf::Descendants { .. } = alive.leaf {
            usage.cpu_usec = u64::try_from(reaped.cpu.as_micros()).unwrap_or(u64::MAX);
        }
        if never_began {
            let failure = Failure {
                stage: "program".into(),
                reason: "killed before it began".into(),
                kind: FailureKind::OutOfMemory,
            };
            self.bury(life);
            return self.hand_in(Event::SpawnFailed { life, failure });
        }
        let left = self.watch_for_the_end(id);
        self.hand_in(Event::Exited { life, exit: words::exit(reaped.exit), usage, left });
    }

    /// Arms the notification of the empty leaf, then looks; the other order would miss what happens between.
    fn watch_for_the_end(&mut self, id: InstanceId) -> u32 {
        let Some(alive) = &mut self.lives[id.0 as usize] else { return 0 };
        if alive.left() == 0 {
            return 0;
        }
        // It stays readable, and would be reported for ever.
        self.watch.remove(alive.main.as_fd());
        if let Leaf::Cgroup(leaf) = &alive.leaf {
            match leaf.watch("cgroup.events") {
                Ok(fd) => {
                    let added = self.watch.add(&fd, EventFlags::PRI, Key::emptied(alive.life));
                    alive.events = added.is_ok().then_some(fd);
                }
                Err(_) => return 0,
            }
        }
        alive.left()
    }

    fn on_emptied(&mut self, id: InstanceId) {
        let Some(alive) = &self.lives[id.0 as usize] else { return };
        if let Some(events) = &alive.events {
            rearm(events);
        }
        if alive.exited && alive.left() == 0 {
            let (life, usage) = (alive.life, alive.usage());
            self.hand_in(Event::Emptied { life, usage });
        }
    }

    fn on_resource(&mut self, id: InstanceId) {
        let Some(alive) = &self.lives[id.0 as usize] else { return };
        alive.pressure.iter().for_each(rearm);
        let (life, usage) = (alive.life, alive.usage());
        self.hand_in(Event::Resource { life, usage });
    }

    fn on_timer(&mut self) {
        let now = self.clock.now();
        if self.stop_by.is_some_and(|latest| latest <= now) {
            return self.stop_now();
        }
        if self.core.deadline().is_some_and(|deadline| deadline <= now) {
            self.hand_in(Event::TimePassed);
        }
        if self.progress.is_some_and(|due| due <= now) && self.ending.is_none() {
            self.progress = Some(now + STILL_WAITING);
            self.say_who_is_waited_for();
        }
    }

    /// SIGCHLD: look who it was before taking anybody. A child of ours is handled as its exit at once; an
    /// orphan of an instance, which came to us because we are the subreaper, is reaped and forgotten.
    fn reap(&mut self) {
        while let Some(pid) = pidfd::peek() {
            let number = number(pid);
            if let Some(&id) = self.by_pid.get(&number) {
                self.on_exit(id);
                if self.by_pid.contains_key(&number) {
                    break;
                }
            } else if self.ground.guardian.as_ref().is_some_and(|guardian| guardian.pid() == pid) {
                self.replace_guardian();
            } else if self.worker.is_bearing() {
                // It may be one of ours that nobody has introduced yet. Its birth is about to be reported,
                // and then we come back.
                break;
            } else {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                let _ = rustix::process::waitid(WaitId::Pid(pid), options);
            }
        }
        // Without cgroups an orphan's end is the only sign that an instance may be empty.
        if self.ground.tree.is_none() {
            for at in 0..self.lives.len() {
                if self.lives[at].as_ref().is_some_and(|alive| alive.exited) {
                    self.on_emptied(InstanceId(at as u32));
                }
            }
        }
    }

    /// Ctrl-Z on the terminal of `lpm run` stops the command, whose group is in the foreground, and not lpm, for
    /// which the shell waits. So lpm takes the terminal back and stops too; and when the shell continues it,
    /// lpm hands the terminal on as before and the command goes on.
    fn follow_into_stop(&mut self) {
        let (Some(terminal), Some(alive)) = (&self.terminal, self.lives.iter().flatten().next()) else {
            return;
        };
        if alive.exited {
            return;
        }
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        if !matches!(rustix::process::waitid(WaitId::Pid(alive.pid), options), Ok(Some(_))) {
            return;
        }
        let own = rustix::process::getpgrp();
        let hand_to = |group| {
            // A background group may do this only with SIGTTOU blocked (tcsetpgrp(3)).
            let blocked = signals::block_all();
            let _ = rustix::termios::tcsetpgrp(terminal, group);
            drop(blocked);
        };
        hand_to(own);
        signals::stop_self();
        // `fg` made our group the foreground, `bg` did not.
        if rustix::termios::tcgetpgrp(terminal) == Ok(own) {
            hand_to(alive.pid);
        }
        let _ = alive.signal_all(libc::SIGCONT);
    }

    // ---- orders

    fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn(life) => {
                let cancelled = Arc::new(AtomicBool::new(false));
                self.cancels.insert(life, Arc::clone(&cancelled));
                self.worker.order(Order::Spawn { life, cancelled });
            }
            Action::CancelSpawn(life) => {
                if let Some(cancelled) = self.cancels.get(&life) {
                    cancelled.store(true, Ordering::Release);
                }
            }
            Action::Signal { life, signal, to } => {
                let Some(alive) = self.alive(life) else { return };
                let sent = match to {
                    Recipients::All => alive.signal_all(signal.0),
                    Recipients::Main => alive.main.send(signal.0).map(|_| ()),
                };
                if let Err(errno) = sent {
                    self.complain_about(life, "signal", errno);
                }
            }
            Action::KillCgroup(life) => {
                let killed = match self.alive(life) {
                    Some(alive) => alive.kill(),
                    // Its birth is still on its way, but its leaf may be there.
                    None => self.kill_unborn(life),
                };
                if let Err(errno) = killed {
                    self.complain_about(life, "kill", errno);
                }
            }
            Action::RemoveCgroup(life) => self.bury(life),
            Action::Suspend => self.suspend(),
            Action::Thaw => {
                self.stop_by = None;
                self.freeze(false);
            }
            Action::Announce(announcement) => self.announce(&announcement),
            Action::Reply { .. } => {}
            Action::Exit(ending) => self.ending = Some(ending),
        }
    }

    fn alive(&self, life: Life) -> Option<&Alive> {
        self.lives[life.instance.0 as usize].as_ref().filter(|alive| alive.life == life)
    }

    fn kill_unborn(&self, life: Life) -> Result<(), Errno> {
        let name = &self.stack.instances[life.instance.0 as usize].name;
        match self.ground.tree.as_ref().map(|tree| tree.app().child(name)) {
            Some(Ok(leaf)) => leaf.kill(),
            Some(Err(Errno::NOENT)) | None => Ok(()),
            Some(Err(errno)) => Err(errno),
        }
    }

    /// The life is over: its last lines are printed, its descriptors closed, its leaf removed.
    fn bury(&mut self, life: Life) {
        let at = life.instance.0 as usize;
        self.sources(life).for_each(|source| self.log.close(source));
        if self.alive(life).is_some() {
            self.lives[at] = None;
            self.worker.order(Order::Remove { leaf: self.stack.instances[at].name.clone() });
        }
    }

    fn suspend(&mut self) {
        self.freeze(true);
        // A stopped log thread writes nothing, and people would wonder what has become of their prompt.
        self.log.flush(STOP);
        self.stop_by = Some(self.clock.now() + BEFORE_STOPPING);
    }

    /// The whole process stops here, and goes on when somebody sends SIGCONT, which is then the next fact that
    /// is handed in.
    fn stop_now(&mut self) {
        if self.stop_by.take().is_some() {
            signals::stop_self();
        }
    }

    fn freeze(&self, frozen: bool) {
        match &self.ground.tree {
            Some(tree) => drop(tree.app().freeze(frozen)),
            None => {
                let number = if frozen { libc::SIGSTOP } else { libc::SIGCONT };
                for alive in self.lives.iter().flatten() {
                    let _ = alive.main.send(number);
                    if let Leaf::Descendants { mark } = &alive.leaf {
                        life::signal_marked(mark, number, Some(alive.pid));
                    }
                }
            }
        }
    }

    fn replace_guardian(&mut self) {
        let (Some(guardian), Some(tree)) = (self.ground.guardian.take(), &self.ground.tree) else { return };
        self.watch.remove(&guardian);
        let _ = guardian.pidfd().reap();
        match Guardian::start(&guardian::PROGRAM, tree) {
            Ok(guardian) => {
                let _ = self.watch.add(&guardian, EventFlags::IN, Key::guardian());
                self.log.say(&self.system, "the guardian was killed and is replaced");
                self.ground.guardian = Some(guardian);
            }
            Err(error) => {
                let text = format!("the guardian was killed and cannot be replaced: {error}");
                self.log.say(&self.system, text);
            }
        }
    }

    // ---- telling

    fn open(&self, life: Life, fd: OwnedFd, stream: Stream) {
        let at = life.instance.0 as usize;
        let treatment = match self.stack.instances[at].quiet {
            true => crate::output::Treatment::Discard,
            false => crate::output::Treatment::Print,
        };
        let source = crate::output::Source {
            id: source_id(life, stream),
            label: self.labels[at].clone(),
            stream,
            treatment,
        };
        self.log.open(source, fd);
    }

    fn sources(&self, life: Life) -> impl Iterator<Item = SourceId> + use<> {
        self.streams.iter().map(move |&stream| source_id(life, stream))
    }

    fn announce(&self, announcement: &Announcement) {
        let text = crate::output::announce::wording(announcement, &self.stack);
        if self.voice == Voice::OneOff {
            if crate::output::announce::explains_a_bad_end(announcement) {
                self.log.say(&self.system, format!("lpm: {text}"));
            }
            return;
        }
        match crate::output::announce::subject(announcement) {
            Some(id) => {
                if let Announcement::Ended { life, .. } = announcement {
                    // The obituary follows the last line.
                    self.sources(*life).for_each(|source| self.log.settle(source));
                }
                self.log.say(&self.labels[id.0 as usize], text);
            }
            None => self.log.say(&self.system, text),
        }
    }

    fn say_who_is_waited_for(&self) {
        for alive in self.lives.iter().flatten() {
            let name = &self.stack.instances[alive.life.instance.0 as usize].name;
            let text = crate::output::announce::waiting_for(name, &alive.processes());
            self.log.say(&self.system, text);
        }
    }

    fn complain(&self, what: &str, errno: Errno) {
        self.log.say(&self.system, format!("{what}: {}", worker::words(errno)));
    }

    fn complain_about(&self, life: Life, what: &str, errno: Errno) {
        // A process that is gone before its signal is no news.
        if errno != Errno::SRCH && errno != Errno::NOENT && errno != Errno::NODEV {
            let label = &self.labels[life.instance.0 as usize];
            self.log.say(label, format!("cannot {what}: {}", worker::words(errno)));
        }
    }

    // ---- the end

    async fn finish(mut self, began: Duration) -> (Run, Ground) {
        let took = self.clock.now() - began;
        // Nothing is left that the guardian would have to end, unless something could not be killed; it goes
        // while lpm tidies up.
        if self.lives.iter().all(Option::is_none)
            && let Some(guardian) = &self.ground.guardian
        {
            self.watch.remove(guardian);
            guardian.release();
        }
        // The last leaves go while the last lines are written; should the kernel, or the reader of the
        // output, take too long for either, lpm goes on without.
        self.worker.finish();
        self.log.flush(0);
        let (mut removed, mut written) = (false, false);
        let patience = tokio::time::sleep(LAST_LINES);
        tokio::pin!(patience);
        while !(removed && written) {
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(Message::Worker(Report::Finished)) => removed = true,
                    Some(Message::Log(Notice::Flushed(_) | Notice::ReaderLeft)) => written = true,
                    Some(Message::Log(Notice::Failed(_)) | Message::Worker(Report::Answered(_))) => {}
                    None => break,
                },
                () = &mut patience => break,
            }
        }
        let strays = self.end_strays();
        let ending = self.ending.expect("the loop ends with an ending");
        (Run { ending, core: self.core, strays, took }, self.ground)
    }

    /// Whoever is still below us is outside every leaf: moved out by somebody, or started by nobody we know.
    fn end_strays(&self) -> Vec<(u32, String)> {
        let spared: Vec<_> = self.ground.guardian.iter().map(Guardian::pid).collect();
        if !descendants::have_children_besides(&spared) {
            return Vec::new();
        }
        let strays = descendants::sweep(&spared).unwrap_or_default();
        strays.into_iter().map(|one| (number(one.pid), one.name)).collect()
    }
}

/// The reading end of a life's stream.
fn source_id(life: Life, stream: Stream) -> SourceId {
    let bit = u64::from(stream == Stream::Err);
    SourceId(u64::from(life.instance.0) << 32 | u64::from(life.invocation) << 1 | bit)
}

/// A cgroup file notifies again only after it was read.
fn rearm(file: &OwnedFd) {
    let _ = rustix::io::pread(file, &mut [0; 256], 0);
}

/// The driver's clock: the one place where the time comes from.
struct Clock {
    start: tokio::time::Instant,
}

impl Clock {
    fn start() -> Clock {
        Clock { start: tokio::time::Instant::now() }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    async fn sleep_until(&self, time: Option<Duration>) {
        match time {
            Some(time) => tokio::time::sleep_until(self.start + time).await,
            None => std::future::pending().await,
        }
    }
}

/// One epoll for everything that belongs to the stack.
struct Watch {
    epoll: AsyncFd<OwnedFd>,
}

impl Watch {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an OwnedFd stays open as long as it is registered"
    )]
    fn new() -> std::io::Result<Watch> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Watch { epoll: AsyncFd::with_interest(epoll, Interest::READABLE)? })
    }

    fn add(&self, fd: impl AsFd, flags: EventFlags, key: Key) -> Result<(), Errno> {
        epoll::add(self.epoll.get_ref(), fd, EventData::new_u64(key.0), flags)
    }

    fn remove(&self, fd: impl AsFd) {
        let _ = epoll::delete(self.epoll.get_ref(), fd);
    }

    /// Waits until something is ready; what it is, at most 64 at a time.
    async fn ready(&self) -> Vec<(Key, EventFlags)> {
        loop {
            let Ok(mut guard) = self.epoll.readable().await else { std::future::pending().await };
            let mut events = Vec::with_capacity(64);
            let none = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
            let spare = rustix::buffer::spare_capacity(&mut events);
            let _ = epoll::wait(self.epoll.get_ref(), spare, Some(&none));
            if events.is_empty() {
                guard.clear_ready();
                continue;
            }
            return events.iter().map(|event| (Key(event.data.u64()), event.flags)).collect();
        }
    }
}

/// What a watched descriptor is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exit,
    Emptied,
    Resource,
    Guardian,
}

impl Key {
    fn new(kind: u64, life: Life) -> Key {
        Key(kind << 32 | u64::from(life.instance.0))
    }

    fn exit(life: Life) -> Key {
        Key::new(0, life)
    }

    fn emptied(life: Life) -> Key {
        Key::new(1, life)
    }

    fn resource(life: Life) -> Key {
        Key::new(2, life)
    }

    fn guardian() -> Key {
        Key(3 << 32)
    }

    fn kind(self) -> Kind {
        match self.0 >> 32 {
            0 => Kind::Exit,
            1 => Kind::Emptied,
            2 => Kind::Resource,
            _ => Kind::Guardian,
        }
    }

    fn instance(self) -> InstanceId {
        InstanceId(self.0 as u32)
    }
}

/// The signals lpm acts on. SIGCHLD only wakes the reaper.
struct Signals {
    streams: Vec<(i32, SignalStream)>,
}

impl Signals {
    fn new(ignore_hangup: bool) -> std::io::Result<Signals> {
        let mut numbers = vec![
            libc::SIGINT,
            libc::SIGTERM,
            libc::SIGQUIT,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGTSTP,
            libc::SIGCONT,
            libc::SIGCHLD,
        ];
        // nohup asked for this, and it stays so.
        if !ignore_hangup {
            numbers.push(libc::SIGHUP);
        }
        let stream = |number| signal(SignalKind::from_raw(number)).map(|stream| (number, stream));
        Ok(Signals { streams: numbers.into_iter().map(stream).collect::<Result<_, _>>()? })
    }

    /// The next signal that arrived.
    async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, stream) in &mut self.streams {
                if let std::task::Poll::Ready(Some(())) = stream.poll_recv(context) {
                    return std::task::Poll::Ready(*number);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
