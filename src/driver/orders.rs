//! Orders: what the core wants, done; in the order it wants it, and without a second thought.
//!
//! What cannot be done because its object is gone is done. What the kernel refuses is said.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;

use super::life::{self, Alive, Leaf};
use super::outside::Ask;
use super::worker::{self, Order};
use super::{BEFORE_STOPPING, Driver, Message, STOP, Voice, launcher};
use crate::config::{Journal, Signal};
use crate::error::words;
use crate::linux::descendants::{self, Members};
use crate::linux::round::{self, AndContinue, Round};
use crate::linux::signals;
use crate::output::screen::Screen;
use crate::output::{Route, Source, SourceId, Stream, Treatment};
use crate::supervisor::{Action, Announcement, Event, Instance, Life, Progress, Recipients};
use crate::wording::{announce, event};

/// How long a leaf may take to stand still for a signal. It takes much less than a millisecond, unless a process of it
/// waits in the kernel, or for a CPU that its limit does not give it; the signal goes out then as well, and only what is
/// forked at that very moment may miss it.
const STANDING_STILL: Duration = Duration::from_millis(200);

impl Driver {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Spawn(life) if self.waits_for_its_port(life) => self.held.push(life),
            Action::Spawn(life) => self.bear(life),
            Action::CancelSpawn(life) if self.held.contains(&life) => {
                self.held.retain(|held| *held != life);
                self.told.push_back(Event::SpawnFailed { life, failure: worker::cancelled() });
            }
            Action::CancelSpawn(life) => {
                if let Some(cancelled) = self.cancels.get(&life) {
                    cancelled.store(true, Ordering::Release);
                }
            }
            Action::Stop { life, signal, to } => self.send(life, signal, to, AndContinue::Yes),
            Action::Signal { life, signal, to } => self.send(life, signal, to, AndContinue::No),
            Action::Freeze(life) => self.freeze_leaf(life),
            Action::Thaw(life) => self.thaw_leaf(life),
            Action::KillCgroup(life) => {
                self.let_all_die();
                let killed = match self.alive_mut(life) {
                    Some(alive) => alive.kill(),
                    // Its birth is still on its way, but its leaf may be there.
                    None => self.kill_unborn(life),
                };
                let outside = self.kill_outside(life);
                if let Err(errno) = killed.and(outside) {
                    self.complain_about(life, "kill", errno);
                }
            }
            Action::RemoveCgroup(life) => self.bury(life),
            Action::Suspend => self.suspend(),
            Action::Resume => {
                self.suspending = false;
                self.stop_by = None;
                self.freeze(false);
            }
            Action::Announce(announcement) => self.announce(&announcement),
            Action::Reply { client: launcher::RISE, reply } => self.on_rise(&reply),
            Action::Reply { client, reply } => self.on_reply(client, &reply),
            Action::Exit(ending) => self.ending = Some(ending),
        }
    }

    fn bear(&mut self, life: Life) {
        let cancelled = Arc::new(AtomicBool::new(false));
        self.cancels.insert(life, Arc::clone(&cancelled));
        let terminal = self.terminal_for(life.instance);
        let stack = Arc::clone(&self.stack);
        self.born[life.instance.0 as usize] = Some(Arc::clone(&stack));
        self.route(life.instance.0 as usize);
        self.worker.order(Order::Spawn { life, cancelled, stack, terminal });
    }

    /// Whether an instance that is stopping still has the port that this life is to have. An instance that stays keeps it,
    /// and waiting does not change that.
    fn waits_for_its_port(&self, life: Life) -> bool {
        let at = life.instance.0 as usize;
        let Some(port) = self.stack.instances[at].port.filter(|_| self.ports_moved) else { return false };
        let ends = |instance: &Instance| {
            let progress = instance.state.living().map(|living| living.progress);
            matches!(progress, Some(Progress::Stopping { .. } | Progress::Killing { .. }))
        };
        let has = |place: usize| self.living_as(place).instances[place].port == Some(port);
        let others = self.core.instances().iter().enumerate().filter(|&(place, _)| place != at);
        others.filter(|(_, other)| ends(other)).any(|(place, _)| has(place))
    }

    /// Lets those begin whose ports are free by now.
    pub(super) fn bear_held(&mut self) {
        for life in std::mem::take(&mut self.held) {
            match self.waits_for_its_port(life) {
                true => self.held.push(life),
                false => self.bear(life),
            }
        }
    }

    fn send(&mut self, life: Life, signal: Signal, to: Recipients, and_continue: AndContinue) {
        let Some(alive) = self.alive(life) else { return };
        match to {
            // A stop, unlike a signal that a person sends, is meant for what is found later, too.
            Recipients::All => {
                let (at, lasting) = (life.instance.0 as usize, and_continue == AndContinue::Yes);
                let round = Round::new(signal.0, and_continue);
                match alive.leaf {
                    // With the others of this turn.
                    Leaf::Descendants => self.errands.asks.push(Ask { at, round, lasting }),
                    Leaf::Cgroup(_) => self.ask_all(at, round, lasting),
                }
            }
            Recipients::Main => {
                if let Err(errno) = alive.signal_main(signal.0, and_continue) {
                    self.complain_about(life, "signal", errno);
                }
            }
        }
    }

    /// Sends a signal to every process of a life, each of which gets it once.
    pub(super) fn ask_all(&mut self, at: usize, round: Round, lasting: bool) {
        let Some(alive) = &self.lives[at] else { return };
        let life = alive.life;
        let asked = match alive.leaf {
            Leaf::Descendants => return self.ask_descendants(vec![Ask { at, round, lasting }]),
            Leaf::Cgroup(_) => {
                // Armed first: the leaf may stand still at once. Where that fails, the time is up soon.
                let _ = self.watch_events(life.instance);
                let grace = self.living_as(at).instances[at].policy.timeout_stop;
                let until = self.clock.now() + STANDING_STILL.min(grace / 4);
                let alive = self.lives[at].as_mut().expect("it is alive, as was just seen");
                let asked = alive.ask(round, lasting, until);
                let exited = alive.exited;
                let outside = if exited && lasting { self.chase(at).map(|_| ()) } else { Ok(()) };
                asked.and(outside)
            }
        };
        if let Err(errno) = asked {
            self.complain_about(life, "signal", errno);
        }
    }

    /// The notification is armed before the order is given, and one look follows when what is outside was stopped: the
    /// kernel says nothing of a leaf that stood still already.
    fn freeze_leaf(&mut self, life: Life) {
        let at = life.instance.0 as usize;
        if self.alive(life).is_none() {
            return;
        }
        let watched = self.watch_events(life.instance);
        let Some(alive) = &mut self.lives[at] else { return };
        alive.frozen = true;
        let done = alive.freeze(true);
        self.errands.freezes.push(at);
        if let Err(errno) = watched.and(done) {
            self.complain_about(life, "freeze", errno);
        }
    }

    fn thaw_leaf(&mut self, life: Life) {
        let Some(alive) = self.alive_mut(life) else { return };
        alive.frozen = false;
        // A signal whose round is not finished needs the standstill, and thaws afterwards.
        let thawed = alive.freeze(alive.asking.is_some());
        let outside = self.continue_outside(life.instance.0 as usize);
        if let Err(errno) = thawed.and(outside) {
            self.complain_about(life, "thaw", errno);
        }
    }

    /// What is outside the leaf is killed now, and whenever more of it is found. As long as the main process lives
    /// its descendants are searched for only where there is no leaf: they come to lpm with its end.
    fn kill_outside(&mut self, life: Life) -> Result<(), Errno> {
        let at = life.instance.0 as usize;
        let Some(alive) = self.alive(life) else { return Ok(()) };
        match alive.leaf {
            Leaf::Cgroup(_) if !alive.exited => Ok(()),
            Leaf::Cgroup(_) => self.chase(at).map(|_| ()),
            // With the others of this turn.
            Leaf::Descendants => {
                self.errands.kills.push(at);
                Ok(())
            }
        }
    }

    fn alive_mut(&mut self, life: Life) -> Option<&mut Alive> {
        self.lives[life.instance.0 as usize].as_mut().filter(|alive| alive.life == life)
    }

    /// The processes of each of these lives, as far as they can be listed: those in its leaf, those outside where there is
    /// none.
    pub(super) fn pids(&mut self, places: &[usize]) -> Vec<Vec<Pid>> {
        let without = |at: &usize| {
            self.lives[*at].as_ref().is_some_and(|alive| matches!(alive.leaf, Leaf::Descendants))
        };
        let searched: Vec<usize> = places.iter().copied().filter(without).collect();
        let found =
            if searched.is_empty() { Ok(Members::default()) } else { self.outside_of_each(&searched) };
        let mut found = found.unwrap_or_default().of_each.into_iter();
        let pids = |at: &usize| match &self.lives[*at] {
            Some(Alive { leaf: Leaf::Descendants, .. }) => {
                found.next().unwrap_or_default().into_iter().map(|one| one.pid).collect()
            }
            Some(alive) => alive.pids_inside(),
            None => Vec::new(),
        };
        places.iter().map(pids).collect()
    }

    pub(super) fn alive(&self, life: Life) -> Option<&Alive> {
        self.lives[life.instance.0 as usize].as_ref().filter(|alive| alive.life == life)
    }

    /// Lifts the stack's limit on CPU time when something of it is killed at its end. Before, other instances need it.
    fn let_all_die(&self) {
        if let (true, Some(tree)) = (self.core.is_tearing_down(), &self.ground.tree) {
            // Where it stays, what it holds back dies all the same, but slowly.
            let _ = tree.app().lift_cpu_limit();
        }
    }

    pub(super) fn kill_unborn(&self, life: Life) -> Result<(), Errno> {
        let name = &self.stack.instances[life.instance.0 as usize].name;
        match self.ground.tree.as_ref().map(|tree| tree.app().child(name)) {
            Some(Ok(leaf)) => round::kill(&leaf),
            Some(Err(Errno::NOENT)) | None => Ok(()),
            Some(Err(errno)) => Err(errno),
        }
    }

    /// The life is over: its last lines are printed, its descriptors closed, its leaf removed.
    pub(super) fn bury(&mut self, life: Life) {
        let at = life.instance.0 as usize;
        self.sources(life).for_each(|source| self.log.close(source));
        if let Some(alive) = self.lives[at].take_if(|alive| alive.life == life) {
            // Closing is not enough: a child that is being born has copies until it executes its program.
            self.watch.remove(&alive.main);
            alive.events.iter().chain(&alive.felt).for_each(|fd| self.watch.remove(fd));
            self.worker.order(Order::Remove { leaf: self.stack.instances[at].name.clone() });
        }
    }

    /// Ctrl-Z. Not while a birth is under way: a child born into a frozen cgroup would hold the worker in the
    /// kernel, where a stop does not reach it, and the shell would wait for the whole process.
    pub(super) fn suspend(&mut self) {
        self.suspending = true;
        if self.worker.is_bearing() {
            return;
        }
        self.suspending = false;
        self.freeze(true);
        // A stopped log thread writes nothing, and people would wonder what has become of their prompt.
        self.log.flush(STOP);
        self.stop_by = Some(self.clock.now() + BEFORE_STOPPING);
    }

    /// The whole process stops here, and goes on when somebody sends SIGCONT, which is then the next fact that
    /// is handed in.
    pub(super) fn stop_now(&mut self) {
        if self.stop_by.take().is_some() {
            signals::stop_self();
        }
    }

    /// Stops the whole stack where it stands, or lets it run. An instance that was frozen on its own stays so.
    pub(super) fn freeze(&mut self, frozen: bool) {
        if let Some(tree) = &self.ground.tree {
            let done = tree.app().freeze(frozen);
            self.unthawed = !frozen && done.is_err();
            if let Err(errno) = done {
                self.complain(if frozen { "freeze" } else { "thaw" }, errno);
            }
            return;
        }
        let alone = |at: &usize| self.lives[*at].as_ref().is_some_and(|alive| !alive.frozen);
        let places: Vec<usize> = (0..self.lives.len()).filter(alone).collect();
        let done = match frozen {
            true => self.stop_outside(places),
            false => places.into_iter().map(|at| (at, self.continue_outside(at))).collect(),
        };
        for (at, done) in done {
            if let (Err(errno), Some(alive)) = (done, &self.lives[at]) {
                self.complain_about(alive.life, if frozen { "freeze" } else { "thaw" }, errno);
            }
        }
    }

    // ---- telling

    /// `screen`: it is a terminal's master, and not a pipe.
    pub(super) fn open(
        &self,
        life: Life,
        fd: impl Into<Arc<OwnedFd>>,
        stream: Stream,
        screen: Option<Arc<Screen>>,
    ) {
        let at = life.instance.0 as usize;
        let treatment = self.treatment(at, screen.is_some());
        let label = self.labels[at].clone();
        let id = source_id(life, stream);
        self.log.open(Source { id, label, stream, treatment, life: life.invocation, screen }, fd);
    }

    /// Lets what an instance says be seen, or not, as it is configured now.
    pub(super) fn show(&self, place: usize) {
        if let Some(alive) = &self.lives[place] {
            let own = self.living_as(place).instances[place].pty;
            let treatment = self.treatment(place, own);
            self.sources(alive.life).for_each(|source| self.log.treat(source, treatment));
        }
    }

    fn treatment(&self, place: usize, terminal: bool) -> Treatment {
        let instance = &self.stack.instances[place];
        if instance.quiet || !self.stack.route(instance).stdout {
            return Treatment::Discard;
        }
        match (terminal, instance.pretty) {
            (true, _) => Treatment::PrintRaw,
            (false, true) => Treatment::PrintPretty,
            (false, false) => Treatment::Print,
        }
    }

    /// Tells the log of a route that this instance alone has.
    pub(super) fn route(&self, place: usize) {
        let instance = &self.stack.instances[place];
        if let Some(route) = &instance.route {
            let (label, files) = (self.labels[place].clone(), route.files.clone());
            self.log.route(Route { label, files, journal: route.journal != Journal::No });
        }
    }

    /// Of an instance with a terminal of its own the first alone is there, and that the others are not does not
    /// matter.
    pub(super) fn sources(&self, life: Life) -> impl Iterator<Item = SourceId> + use<> {
        self.streams.iter().map(move |&stream| source_id(life, stream))
    }

    pub(super) fn announce(&mut self, announcement: &Announcement) {
        let mut text = event::wording(announcement, &self.stack);
        if let Announcement::GivenUp { life } = announcement {
            text = format!("{text}: {}", self.survivors(life.instance.0 as usize));
        }
        let failed = self.note_crash(announcement);
        let event = self.chronicle(announcement, &text, failed);
        if self.voice == Voice::OneOff {
            if event::explains_a_bad_end(announcement) {
                self.log.say(&self.system, format!("lpm: {text}"));
            }
            return;
        }
        match event::subject(announcement) {
            Some(id) => {
                if let Announcement::Ended { life, .. } = announcement {
                    // The obituary follows the last line.
                    self.sources(*life).for_each(|source| self.log.settle(source));
                }
                if let Some(life) = failed {
                    self.ask_for_last_words(life);
                }
                let name = &self.stack.instances[id.0 as usize].name;
                // Without prefixes nothing else says whose line it is.
                let text = if self.prefixed { text } else { format!("{name} {text}") };
                self.log.tell(&self.labels[id.0 as usize], text, event);
            }
            None => self.log.tell(&self.system, text, event),
        }
    }

    /// On a thread of its own: the command line of a process in uninterruptible sleep may not be had, and whoever
    /// asks for it waits with it (proc_pid_cmdline(5) needs the memory map's lock).
    pub(super) fn say_who_is_waited_for(&mut self) {
        const MOST: usize = 20;
        let alive = self.lives.iter().flatten().take(MOST).map(|alive| alive.life.instance.0 as usize);
        let places: Vec<usize> = alive.collect();
        let pids = self.pids(&places);
        let names = places.iter().map(|&at| self.stack.instances[at].name.clone());
        let waiting: Vec<_> = names.zip(pids).collect();
        let outbox = self.outbox.clone();
        let look = move || {
            let line = |(name, pids): (String, Vec<Pid>)| {
                let processes: Vec<_> =
                    pids.into_iter().map(|pid| (life::number(pid), descendants::command_line(pid))).collect();
                announce::waiting_for(&name, &processes)
            };
            let _ = outbox.send(Message::Waiting(waiting.into_iter().map(line).collect()));
        };
        // Without a thread nobody is told, and nothing else is lost.
        let _ = std::thread::Builder::new().name("lpm-look".into()).spawn(look);
    }

    pub(super) fn complain(&self, what: &str, errno: Errno) {
        self.log.say(&self.system, format!("{what}: {}", words(errno)));
    }

    pub(super) fn complain_about(&self, life: Life, what: &str, errno: Errno) {
        // A process that is gone before its signal is no news.
        if errno != Errno::SRCH && errno != Errno::NOENT && errno != Errno::NODEV {
            let label = &self.labels[life.instance.0 as usize];
            self.log.say(label, format!("cannot {what}: {}", words(errno)));
        }
    }
}

/// The reading end of a life's stream.
fn source_id(life: Life, stream: Stream) -> SourceId {
    let bit = u64::from(stream == Stream::Err);
    SourceId(u64::from(life.instance.0) << 32 | u64::from(life.invocation) << 1 | bit)
}
