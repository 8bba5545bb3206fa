//! Facts: what the core is told. Plain data, so that a run can be recorded and replayed.

use serde::{Deserialize, Serialize};

use crate::config::{ExitCodeRule, Policy, Signal};

/// Index of an instance in [`crate::config::Stack::instances`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstanceId(pub u32);

/// One life of an instance, from the order to spawn to the empty leaf. Numbers are never reused, so a
/// fact about an old invocation is recognised and changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Life {
    /// Whose life.
    pub instance: InstanceId,
    /// Which one; 1-based per instance.
    pub invocation: u32,
}

/// Who asked. The driver gives every request a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Client(pub u64);

/// A fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// lpm is ready: every instance may start.
    Begin,
    /// The order to spawn was carried out: the program was exec'd.
    Spawned {
        /// Which life began.
        life: Life,
        /// Its main process.
        pid: u32,
    },
    /// The order to spawn was not carried out, or the kernel killed the process before its first instruction;
    /// nothing of this life exists, its leaf included.
    SpawnFailed {
        /// Which life did not begin.
        life: Life,
        /// Why.
        failure: Failure,
    },
    /// The main process was reaped.
    Exited {
        /// Whose main process.
        life: Life,
        /// How it ended.
        exit: Exit,
        /// What the leaf had used, read at the exit itself.
        usage: Usage,
        /// Processes still in the leaf. With 0 the leaf is empty and no `Emptied` follows.
        left: u32,
    },
    /// The last process of the leaf is gone (`populated 0`), after the main process left others behind.
    Emptied {
        /// Whose leaf.
        life: Life,
        /// What the leaf had used by then.
        usage: Usage,
    },
    /// The kernel reported that a ceiling was felt: an OOM kill, a refused fork.
    Resource {
        /// Whose.
        life: Life,
        /// What the leaf has used so far.
        usage: Usage,
    },
    /// Every process of the leaf stands still (`frozen 1`), as `Freeze` had ordered.
    Frozen {
        /// Whose leaf.
        life: Life,
    },
    /// What is configured now. Of instances that are known the policy is replaced; one that has the next number
    /// is new, and as if it had been removed until a `Start` asks for it. Other numbers mean nothing.
    Configured {
        /// In ascending order where instances are new.
        policies: Vec<(InstanceId, Policy)>,
        /// How lpm ends when instances decide it.
        exit_code: ExitCodeRule,
    },
    /// lpm was sent this signal.
    Signal(Signal),
    /// The reader of lpm's output went away.
    ReaderLeft,
    /// A request of a client; answered by exactly one final reply.
    Request {
        /// Who gets the reply.
        client: Client,
        /// What is asked.
        request: Request,
    },
    /// The client went away; it gets no reply.
    ClientLeft(Client),
    /// The deadline that was asked for has come.
    TimePassed,
}

/// What a client can ask for. Each but `Signal` is idempotent, and what cannot be done to one instance is done to
/// the others all the same. An instance that does not exist counts as having reached the goal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Have these running, those that were removed included. What is frozen runs, and stays frozen.
    Start(Vec<InstanceId>),
    /// Have these stopped; a stop by request never ends the stack.
    Stop(Vec<InstanceId>),
    /// Stop these and start them again. What was removed is not running, and is not started.
    Restart(Vec<InstanceId>),
    /// Have these down at once: SIGKILL to everything in them, without a stop signal first. Like a stop otherwise.
    Kill(Vec<InstanceId>),
    /// Send a signal. It has the same effect as a signal from outside lpm; done once the order is given.
    Signal {
        /// To whose processes; an instance without any is not running.
        on: Vec<InstanceId>,
        /// Which.
        signal: Signal,
        /// To which of them.
        to: Recipients,
    },
    /// Stop every process of these where it stands; done when all stand still. What does not run cannot be frozen.
    Freeze(Vec<InstanceId>),
    /// Thaw these; done once the order is given, also for what is not frozen.
    Thaw(Vec<InstanceId>),
    /// Stop these and take them out of the stack, as a smaller formation does. A later `Start` brings one back.
    Remove(Vec<InstanceId>),
    /// Tear down; answered when every leaf is empty.
    ShutDown,
}

/// Whom a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recipients {
    /// The main process alone.
    Main,
    /// Every process of the leaf.
    All,
}

/// How a main process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// `exit(code)`.
    Code(u8),
    /// Ended by a signal.
    Signal {
        /// Which.
        signal: Signal,
        /// Whether a core was dumped.
        core: bool,
    },
}

/// Why a process could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step that failed.
    pub stage: Stage,
    /// What the kernel said, in words.
    pub reason: String,
    /// What it means for the exit code.
    pub kind: FailureKind,
}

/// The steps of a start, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// The order itself, withdrawn before it was carried out.
    Order,
    /// Making the leaf, or entering it.
    Cgroup,
    /// Writing a limit into this file of the leaf.
    Limit(String),
    /// Putting argv, environment and directory together.
    Environment,
    /// Opening `/dev/null`, which is its standard input.
    NullDevice,
    /// Making the terminal of its own.
    Pty,
    /// Opening its own way into the journal.
    Journal,
    /// Making the pipe for its output.
    OutputPipe,
    /// Making the process.
    Process,
    /// Entering a session or a process group.
    Session,
    /// Taking the controlling terminal.
    ControllingTerminal,
    /// Putting standard input and output in place.
    Stdio,
    /// Entering the working directory.
    Directory,
    /// Setting the attribute of this name.
    Attribute(String),
    /// Setting dispositions, mask and parent death signal.
    Signals,
    /// Executing the program.
    Program,
    /// No step: it was killed before all of them were done.
    Killed,
}

/// What a failed start means for the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The command does not exist: 127, as a shell says.
    NotFound,
    /// The command cannot be executed, or its surroundings cannot be set up: 126.
    NotExecutable,
    /// The kernel had no room for it just then (processes, memory, descriptors, a file that was being written): 126,
    /// and worth another try, so that the restart rule decides as after a run that failed.
    Passing,
    /// The ceiling itself killed the exec: 137.
    OutOfMemory,
    /// The order was withdrawn before it was carried out: no failure of the instance.
    Cancelled,
}

/// What a leaf has used: cumulative over one life, from `memory.peak`, `memory.events`, `cpu.stat` and
/// `pids.events` (cgroup-v2.rst). `None`: the controller is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// CPU time, µs.
    pub cpu_usec: u64,
    /// Time that runnable tasks were held back by `cpu.max`, µs.
    pub throttled_usec: Option<u64>,
    /// Largest memory use, bytes.
    pub memory_peak: Option<u64>,
    /// Processes that the kernel killed at a memory ceiling.
    pub oom_kills: u64,
    /// Forks refused by `pids.max`.
    pub tasks_refused: u64,
}

impl Usage {
    /// Adds a later life's use: times and counts add up, a peak is the larger one.
    pub fn add(&mut self, other: &Usage) {
        let both = |a: Option<u64>, b: Option<u64>, join: fn(u64, u64) -> u64| match (a, b) {
            (Some(a), Some(b)) => Some(join(a, b)),
            (a, b) => a.or(b),
        };
        self.cpu_usec = self.cpu_usec.saturating_add(other.cpu_usec);
        self.throttled_usec = both(self.throttled_usec, other.throttled_usec, u64::saturating_add);
        self.memory_peak = both(self.memory_peak, other.memory_peak, u64::max);
        self.oom_kills = self.oom_kills.saturating_add(other.oom_kills);
        self.tasks_refused = self.tasks_refused.saturating_add(other.tasks_refused);
    }
}
