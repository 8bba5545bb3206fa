//! The worker: one long-lived thread for what may block.
//!
//! A birth sleeps until `execve` is through, which may take for ever on a network file system, and making or
//! removing a cgroup takes the kernel's cgroup lock. The loop never waits for either: orders go out through
//! a channel, and what became of them comes back as messages, in the order of the orders. Births and
//! removals share the thread, so a leaf is gone before its successor of the same name is made.

use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use super::ceilings::{self, Setting};
use super::interpreter;
use super::life::RUN_VARIABLE;
use crate::config::{Command, Execution, Instance, Limits, Stack};
use crate::error::words;
use crate::linux::attributes::Attributes;
use crate::linux::birth::{Birth, Environment, Session};
use crate::linux::cgroup::{Cgroup, Counters};
use crate::linux::descendants;
use crate::linux::guardian::{self, Guardian};
use crate::linux::journal;
use crate::linux::pidfd::PidFd;
use crate::linux::pty::{self, Size};
use crate::linux::spawn;
use crate::linux::steps;
use crate::linux::tree::Tree;
use crate::output::{self, Stream};
use crate::supervisor::{Client, Failure, FailureKind, Life, Stage};

/// What a program is told of its own terminal where lpm's environment says nothing of one. Most know it, and no
/// part of it is missing from what lpm passes on.
const TERM: (&str, &str) = ("TERM", "xterm-256color");

const JOURNAL_STREAM: &str = "JOURNAL_STREAM";

/// What the worker needs for every birth.
pub(super) struct Nursery {
    /// Where leaves are made; `None` where there are no cgroups.
    pub tree: Option<Arc<Tree>>,
    /// Whether a memory ceiling can be enforced, so that an OOM kill is to take the whole instance.
    pub memory: bool,
    /// The run's own number, for the environment of what is born.
    pub run: String,
    /// Where standard streams go.
    pub streams: Streams,
    /// What RLIMIT_NOFILE was before lpm raised its own.
    pub open_files: Option<(u64, u64)>,
    /// SIGHUP was inherited as ignored (nohup) and stays so.
    pub ignore_hangup: bool,
}

/// Where the standard streams of what is born go.
#[derive(Debug)]
pub enum Streams {
    /// Into pipes that lpm reads; standard input is `/dev/null`.
    Pipes {
        /// One of its own for standard error.
        split_stderr: bool,
    },
    /// To where lpm's own go (`lpm run`).
    Ours {
        /// lpm's controlling terminal, if it is in its foreground: the command becomes the foreground process
        /// group, so that shells have job control.
        terminal: Option<OwnedFd>,
    },
}

/// A process that was born.
pub(super) struct Born {
    pub life: Life,
    pub pid: Pid,
    pub main: PidFd,
    pub leaf: Option<Cgroup>,
    /// The reading ends of its pipes.
    pub pipes: Vec<(Stream, OwnedFd)>,
    /// The master of its own terminal.
    pub terminal: Option<OwnedFd>,
}

pub(super) enum Order {
    Spawn {
        life: Life,
        cancelled: Arc<AtomicBool>,
        /// As it was when the order was given.
        stack: Arc<Stack>,
        /// It is to have a terminal of its own, of this size.
        terminal: Option<Size>,
    },
    /// Write limits of a leaf, or of the whole stack. Lowering one blocks for as long as the reclaim takes.
    Limit {
        leaf: Option<String>,
        settings: Vec<Setting>,
        part: Client,
    },
    Remove {
        leaf: String,
    },
    /// A new guardian.
    Guard,
}

/// What the worker tells the loop.
pub(super) enum Report {
    Answered(Answer),
    /// What became of a new guardian.
    Guarded(Result<Guardian, spawn::Failure>),
    /// What became of writing limits: which file, and what the kernel said to it.
    Limited {
        part: Client,
        leaf: Option<String>,
        done: Result<(), (&'static str, Errno)>,
    },
    /// There are no more orders, and the thread is about to end.
    Finished,
}

/// What became of an order to spawn.
pub(super) type Answer = Result<Born, (Life, Failure)>;

/// The loop's end of the worker.
pub(super) struct Worker {
    orders: Option<mpsc::Sender<Order>>,
    /// When each birth was ordered that is not answered yet, in ticks since boot. While there are any, an unknown child
    /// that is not older may be one of ours.
    under_way: VecDeque<u64>,
}

impl Worker {
    /// Starts the thread. `report` is called on it.
    pub fn start(nursery: Nursery, report: impl Fn(Report) + Send + 'static) -> std::io::Result<Worker> {
        let (orders, inbox) = mpsc::channel();
        let births = move || {
            let mut births = Births::new(nursery);
            for order in inbox {
                match order {
                    Order::Spawn { life, cancelled, stack, terminal } => {
                        report(Report::Answered(births.deliver(life, &cancelled, &stack, terminal)));
                    }
                    Order::Limit { leaf, settings, part } => {
                        let done = births.limit(leaf.as_deref(), &settings);
                        report(Report::Limited { part, leaf, done });
                    }
                    Order::Remove { leaf } => births.remove(&leaf),
                    Order::Guard => {
                        if let Some(tree) = &births.nursery.tree {
                            report(Report::Guarded(Guardian::start(&guardian::PROGRAM, tree)));
                        }
                    }
                }
            }
            report(Report::Finished);
        };
        std::thread::Builder::new().name("lpm-worker".into()).stack_size(256 << 10).spawn(births)?;
        Ok(Worker { orders: Some(orders), under_way: VecDeque::new() })
    }

    /// Hands over an order.
    pub fn order(&mut self, order: Order) {
        if matches!(order, Order::Spawn { .. } | Order::Guard) {
            self.under_way.push_back(descendants::ticks());
        }
        // The thread ends only when this sender is dropped.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }

    /// The loop has taken an answer in.
    pub fn answered(&mut self) {
        // Answers come in the order of the orders.
        self.under_way.pop_front();
    }

    /// Whether a birth may be under way.
    pub fn is_bearing(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// When the oldest birth was ordered that may be under way, in ticks since boot.
    pub fn bearing_since(&self) -> Option<u64> {
        self.under_way.front().copied()
    }

    /// Takes no more orders. After the last one the thread reports that it is finished.
    pub fn finish(&mut self) {
        self.orders = None;
    }
}

/// The worker's own side.
struct Births {
    nursery: Nursery,
    /// What all inherit, ready for exec, and of which stack that is.
    base: Option<(Arc<Stack>, Environment)>,
}

impl Births {
    fn new(nursery: Nursery) -> Births {
        Births { nursery, base: None }
    }

    /// The environment that all instances of this stack share; made anew when the stack was changed.
    fn base(&mut self, stack: &Arc<Stack>) -> Environment {
        let known = self.base.take().filter(|(of, _)| Arc::ptr_eq(of, stack));
        let (_, environment) = self.base.insert(known.unwrap_or_else(|| {
            let (name, run) = (OsString::from(RUN_VARIABLE), OsString::from(&self.nursery.run));
            let shared = stack.environment.iter().map(|(name, value)| (name, value));
            // An lpm within a stack has a run of its own, and says so to its instances.
            let shared = shared.filter(|(name, _)| *name != RUN_VARIABLE).chain([(&name, &run)]);
            (Arc::clone(stack), Environment::new(shared).unwrap_or_default())
        }));
        environment.clone()
    }

    fn deliver(
        &mut self,
        life: Life,
        cancelled: &AtomicBool,
        stack: &Arc<Stack>,
        terminal: Option<Size>,
    ) -> Answer {
        if cancelled.load(Ordering::Acquire) {
            return Err((life, self::cancelled()));
        }
        let instance = &stack.instances[life.instance.0 as usize];
        tracing::trace!(instance = instance.name, "making its leaf");
        let leaf = match self.make_leaf(instance, stack.limits) {
            Ok(leaf) => leaf,
            Err(failure) => {
                self.remove(&instance.name);
                return Err((life, failure));
            }
        };
        let base = self.base(stack);
        let born = self.bear(life, instance, &base, leaf, terminal, stack.writes_itself(instance));
        tracing::trace!(instance = instance.name, born = born.is_ok(), "birth");
        born.map_err(|failure| {
            self.remove(&instance.name);
            // A birth that was killed because it was not wanted any more did not fail.
            let unwanted = failure.stage == Stage::Killed && cancelled.load(Ordering::Acquire);
            (life, if unwanted { self::cancelled() } else { failure })
        })
    }

    /// A new leaf with its ceilings. Counters are cumulative over a cgroup's life, so a leaf never serves two
    /// lives; one that is still there is what an earlier life could not be rid of.
    fn make_leaf(&self, instance: &Instance, limits: Limits) -> Result<Option<Cgroup>, Failure> {
        let Some(tree) = &self.nursery.tree else { return Ok(None) };
        let _ = tree.app().remove(&instance.name);
        let leaf = tree.leaf(&instance.name).map_err(|errno| setup_failure(Stage::Cgroup, errno))?;
        for setting in ceilings::settings(&instance.ceilings) {
            match leaf.write(setting.file, &setting.value) {
                Ok(()) => {}
                // Under best-effort that was said at the start, as far as it was known.
                Err(Errno::NOENT) if limits == Limits::BestEffort => {}
                Err(errno) => return Err(setup_failure(Stage::Limit(setting.file.to_owned()), errno)),
            }
        }
        if self.nursery.memory {
            // All or nothing: a half-killed instance helps nobody.
            let _ = leaf.write("memory.oom.group", "1");
        }
        Ok(Some(leaf))
    }

    fn bear(
        &self,
        life: Life,
        instance: &Instance,
        base: &Environment,
        leaf: Option<Cgroup>,
        terminal: Option<Size>,
        writes_itself: bool,
    ) -> Result<Born, Failure> {
        let unusable = |_| setup_failure(Stage::Environment, Errno::INVAL);
        let overlay = instance.environment.iter().map(|(name, value)| (name, value));
        let mut environment = base.with(overlay).map_err(unusable)?;
        if terminal.is_some() && environment.value("TERM").is_none_or(<[u8]>::is_empty) {
            environment = environment.with([TERM]).map_err(unusable)?;
        }
        let (argv, script) = command_line(&instance.command).map_err(unusable)?;
        let directory = CString::new(instance.working_directory.as_os_str().as_bytes()).map_err(unusable)?;

        let null = null().map_err(|errno| setup_failure(Stage::NullDevice, errno))?;
        let pipe = |stream| match output::pipe() {
            Ok((read, write)) => Ok(((stream, read), write)),
            Err(error) => Err(setup_failure(Stage::OutputPipe, errno_of(&error))),
        };
        let terminal =
            terminal.map(pty::open).transpose().map_err(|errno| setup_failure(Stage::Pty, errno))?;
        let direct = match self.nursery.streams {
            Streams::Pipes { .. } if writes_itself => {
                let (stream, variable) = journal_stream(&instance.name)?;
                environment = environment.with([variable]).map_err(unusable)?;
                Some(stream)
            }
            Streams::Pipes { .. } | Streams::Ours { .. } => None,
        };
        let (pipes, mut ends): (Vec<_>, Vec<_>) = match self.nursery.streams {
            _ if terminal.is_some() || direct.is_some() => Vec::new(),
            Streams::Pipes { split_stderr: false } => vec![pipe(Stream::Merged)?],
            Streams::Pipes { split_stderr: true } => vec![pipe(Stream::Out)?, pipe(Stream::Err)?],
            Streams::Ours { .. } => Vec::new(),
        }
        .into_iter()
        .unzip();
        ends.extend(direct);
        let (stdio, session) = match (&terminal, &self.nursery.streams, ends.as_slice()) {
            (Some(own), ..) => ([own.slave.as_fd(); 3], Session::Terminal),
            (None, Streams::Ours { terminal: None }, _) => (ours(), Session::Same),
            (None, Streams::Ours { terminal: Some(terminal) }, _) => {
                (ours(), Session::Group(Some(terminal.as_fd())))
            }
            (None, Streams::Pipes { .. }, [out, err]) => {
                ([null.as_fd(), out.as_fd(), err.as_fd()], Session::New)
            }
            (None, Streams::Pipes { .. }, both) => {
                ([null.as_fd(), both[0].as_fd(), both[0].as_fd()], Session::New)
            }
        };

        let ignored = [libc::SIGHUP];
        let birth = Birth {
            script: script.as_deref(),
            directory: Some(&directory),
            session,
            attributes: Attributes { open_files: self.nursery.open_files, ..attributes(&instance.execution) },
            // Better than nothing where no guardian could find it: it ends with this thread, which lives as long
            // as lpm.
            parent_death_signal: leaf.is_none().then_some(libc::SIGKILL),
            ignored: if self.nursery.ignore_hangup { &ignored } else { &[] },
            ..Birth::new(&argv, &environment, stdio)
        };
        let child = spawn::spawn(&birth, leaf.as_ref().map(AsFd::as_fd))
            .map_err(|failure| birth_failure(failure, leaf.as_ref(), &argv[0], instance, &environment))?;
        let main = PidFd::from(child.pidfd);
        // Our copy of the slave is closed with this, so that the terminal ends with those who have it.
        let terminal = terminal.map(|pty| pty.master);
        Ok(Born { life, pid: child.pid, main, leaf, pipes, terminal })
    }

    /// One that went away meanwhile needs no limit.
    fn limit(&self, leaf: Option<&str>, settings: &[Setting]) -> Result<(), (&'static str, Errno)> {
        let Some(tree) = &self.nursery.tree else { return Ok(()) };
        let child;
        let cgroup = match leaf.map(|name| tree.app().child(name)) {
            None => tree.app(),
            Some(Ok(leaf)) => {
                child = leaf;
                &child
            }
            Some(Err(Errno::NOENT)) => return Ok(()),
            Some(Err(errno)) => return Err(("cgroup", errno)),
        };
        for Setting { file, value, .. } in settings {
            match cgroup.write(file, value) {
                // A controller that is not here was judged before, or the leaf is gone by now.
                Ok(()) | Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err((*file, errno)),
            }
        }
        Ok(())
    }

    fn remove(&self, leaf: &str) {
        if let Some(tree) = &self.nursery.tree {
            // What cannot be removed now is taken with the whole tree at the end.
            let _ = tree.app().remove(leaf);
        }
    }
}

/// A way of its own into the journal, and the variable that tells whoever writes there of it (systemd.exec(5)).
fn journal_stream(name: &str) -> Result<(OwnedFd, (&'static str, String)), Failure> {
    let refused = |errno| setup_failure(Stage::Journal, errno);
    let stream = journal::stream(Path::new(journal::STREAMS), name).map_err(refused)?;
    let stat = rustix::fs::fstat(&stream).map_err(refused)?;
    Ok((stream, (JOURNAL_STREAM, format!("{}:{}", stat.st_dev, stat.st_ino))))
}

/// The order was withdrawn before it was carried out.
pub(super) fn cancelled() -> Failure {
    let reason = "stopped before it began".to_owned();
    Failure { stage: Stage::Order, reason, kind: FailureKind::Cancelled }
}

/// lpm's own standard streams.
fn ours() -> [BorrowedFd<'static>; 3] {
    [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
}

/// `argv`, and what the shell gets should the kernel not know the file's format.
fn command_line(command: &Command) -> Result<(Vec<CString>, Option<CString>), std::ffi::NulError> {
    let word = |word: &str| CString::new(word);
    match command {
        Command::Shell(text) => Ok((vec![word("/bin/sh")?, word("-c")?, word(text)?], None)),
        Command::Direct { words, text } => {
            Ok((words.iter().map(|text| word(text)).collect::<Result<_, _>>()?, Some(word(text)?)))
        }
        Command::Exec(words) => {
            let word = |word: &OsString| CString::new(word.clone().into_vec());
            Ok((words.iter().map(word).collect::<Result<_, _>>()?, None))
        }
    }
}

fn birth_failure(
    failure: spawn::Failure,
    leaf: Option<&Cgroup>,
    program: &CStr,
    instance: &Instance,
    environment: &Environment,
) -> Failure {
    let counters = Counters { memory: true, tasks: false };
    // The kernel says "no memory" or, of the arguments, "too long" for want of room under the ceiling.
    let at_the_ceiling = || leaf.is_some_and(|leaf| leaf.usage(counters).memory_max_hits > Some(0));
    let stage = super::words::stage(failure.stage);
    match (failure.stage, failure.errno) {
        (steps::Stage::Killed, _) | (_, Errno::NOMEM | Errno::TOOBIG) if at_the_ceiling() => {
            Failure { stage, reason: words(failure.errno), kind: FailureKind::OutOfMemory }
        }
        (steps::Stage::Killed, _) => {
            Failure { stage, reason: "SIGKILL".to_owned(), kind: FailureKind::Passing }
        }
        (steps::Stage::Exec, Errno::NOENT) => match interpreter::missing(program, instance, environment) {
            Some(interpreter) => {
                let reason = format!("its interpreter {interpreter} does not exist");
                Failure { stage, reason, kind: FailureKind::NotExecutable }
            }
            None => Failure { stage, reason: words(failure.errno), kind: FailureKind::NotFound },
        },
        (_, errno) => setup_failure(stage, errno),
    }
}

/// Settings of the execution as the kernel takes them.
fn attributes(execution: &Execution) -> Attributes {
    let Execution { nice, no_new_privileges } = *execution;
    Attributes { nice, no_new_privileges, ..Attributes::default() }
}

fn setup_failure(stage: Stage, errno: Errno) -> Failure {
    let kind = if passes(errno) { FailureKind::Passing } else { FailureKind::NotExecutable };
    Failure { stage, reason: words(errno), kind }
}

/// Whether what the kernel refused now it may grant in a moment: there was no process, memory, descriptor or room left
/// just then, a program was being written, or a leaf of an earlier life had not been removed.
fn passes(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::AGAIN
            | Errno::NOMEM
            | Errno::MFILE
            | Errno::NFILE
            | Errno::BUSY
            | Errno::TXTBSY
            | Errno::NOSPC
            | Errno::EXIST
    )
}

fn null() -> Result<OwnedFd, Errno> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
