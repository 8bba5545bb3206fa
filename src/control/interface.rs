//! `dev.lpm.Supervisor` in Rust: what travels, as plain values. `dev.lpm.Supervisor.varlink` beside this file
//! is the same for everybody else, and says what each field means; a test holds the two against each other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use super::words::{ChangeKind, InstanceState, LifeResult, LineStream, NextStep, StackState, Tier, Verb};
use crate::config::{self, Ceiling};
pub use crate::wording::event::EventKind;
use crate::wording::event::Row;

/// The interface's name.
pub const INTERFACE: &str = "dev.lpm.Supervisor";

/// Its description, as `GetInterfaceDescription` returns it.
pub const DESCRIPTION: &str = include_str!("dev.lpm.Supervisor.varlink");

/// The stack as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stack {
    /// The label shown to people.
    pub name: String,
    /// Where processes run.
    pub root: String,
    /// Absolute; `-` for standard input.
    pub procfile: String,
    /// Where `lpm.toml` is, or would be.
    pub manifest: String,
    /// lpm's own process.
    pub pid: u32,
    /// When lpm started it, µs since the epoch.
    pub since: u64,
    /// lpm's version.
    pub version: String,
    /// What it does.
    pub state: StackState,
    /// How much of cgroups there is.
    pub tier: Tier,
    /// The cgroup of all instances, absolute in the file system.
    pub cgroup: Option<String>,
    /// Where this was asked.
    pub socket: String,
    /// The lines of the Procfile, in its order.
    pub processes: Vec<ProcessType>,
    /// On all instances together.
    pub ceilings: Ceilings,
    /// Of all instances together.
    pub usage: Usage,
    /// What lpm says goes to the journal, and what instances say of which nothing else was said.
    pub journald: bool,
}

/// One line of the Procfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessType {
    /// `web`.
    pub name: String,
    /// The text after the colon.
    pub command: String,
    /// How many instances there are.
    pub instances: u32,
}

/// What the kernel enforces; `None`: no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Bytes.
    pub memory_max: Option<u64>,
    /// Bytes.
    pub memory_high: Option<u64>,
    /// Bytes.
    pub memory_swap_max: Option<u64>,
    /// Thousandths of one CPU.
    pub cpu_quota: Option<u64>,
    /// 1 to 10000.
    pub cpu_weight: Option<u64>,
    /// Processes and threads.
    pub tasks_max: Option<u64>,
}

impl From<&config::Ceilings> for Ceilings {
    fn from(ceilings: &config::Ceilings) -> Ceilings {
        let number = |ceiling: Option<Ceiling>| match ceiling {
            Some(Ceiling::At(value)) => Some(value),
            Some(Ceiling::Infinity) | None => None,
        };
        Ceilings {
            memory_max: number(ceilings.memory_max),
            memory_high: number(ceilings.memory_high),
            memory_swap_max: number(ceilings.memory_swap_max),
            cpu_quota: number(ceilings.cpu_quota),
            cpu_weight: ceilings.cpu_weight,
            tasks_max: number(ceilings.tasks_max),
        }
    }
}

/// What is used; `None`: not counted on this machine, or not asked for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes.
    pub memory_current: Option<u64>,
    /// Bytes.
    pub memory_peak: Option<u64>,
    /// Bytes.
    pub swap_current: Option<u64>,
    /// CPU time, µs.
    pub cpu_usec: Option<u64>,
    /// How long `cpu.max` held it back, µs.
    pub throttled_usec: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Processes killed at a memory ceiling.
    pub oom_kills: Option<u64>,
    /// Forks refused at the tasks ceiling.
    pub tasks_refused: Option<u64>,
    /// Percent of the last ten seconds in which some task waited (`cpu.pressure`, `some avg10`).
    pub cpu_pressure: Option<f64>,
    /// The same of `memory.pressure`.
    pub memory_pressure: Option<f64>,
    /// The same of `io.pressure`.
    pub io_pressure: Option<f64>,
    /// Read from block devices, bytes.
    pub io_read: Option<u64>,
    /// Written to them, bytes.
    pub io_written: Option<u64>,
}

/// One place of the stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// `web.1`.
    pub name: String,
    /// `web`.
    pub process: String,
    /// 1-based.
    pub number: u32,
    /// What it does.
    pub state: InstanceState,
    /// When it came to that, µs since the epoch.
    pub since: u64,
    /// When its present or last life was ordered, µs since the epoch.
    pub started: Option<u64>,
    /// When its last life was over, µs since the epoch.
    pub ended: Option<u64>,
    /// The main process, while there is one.
    pub pid: Option<u32>,
    /// Why its last life ended.
    pub result: Option<LifeResult>,
    /// The last main process's exit code.
    pub exit_code: Option<u8>,
    /// The signal that ended it otherwise.
    pub signal: Option<String>,
    /// Which life this is; 0: none yet.
    pub invocation: u32,
    /// Restarts by policy so far.
    pub restarts: u32,
    /// When the next one is due, µs since the epoch.
    pub restart_at: Option<u64>,
    /// What the last one was for: `exit code 3`, `SIGKILL (oom-kill)`, `requested`.
    pub restart_reason: Option<String>,
    /// Processes that outlived their main process, over all lives.
    pub leftovers: u32,
    /// What `PORT` says.
    pub port: Option<u16>,
    /// It writes into the journal itself, and lpm does not see what.
    pub journald_direct: bool,
    /// It has a terminal of its own.
    pub pty: bool,
    /// `no`, `on-failure`, `always`.
    pub restart: String,
    /// The text of the Procfile.
    pub command: String,
    /// Absolute.
    pub working_directory: String,
    /// Its leaf, absolute in the file system, while there is one.
    pub cgroup: Option<String>,
    /// On its leaf.
    pub ceilings: Ceilings,
    /// Of its present life, or of all lives if it does not run.
    pub usage: Usage,
    /// The last of its lives that failed, whatever came of later ones.
    pub failure: Option<Failure>,
    /// With `detail`: who is in its leaf.
    pub processes: Option<Vec<Process>>,
}

/// How a life failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which life.
    pub invocation: u32,
    /// When it was ordered, µs since the epoch.
    pub started: u64,
    /// When it was known to have failed, µs since the epoch.
    pub time: u64,
    /// Its main process, if it had one.
    pub pid: Option<u32>,
    /// Why.
    pub result: LifeResult,
    /// The main process's exit code.
    pub exit_code: Option<u8>,
    /// The signal that ended it otherwise.
    pub signal: Option<String>,
    /// Whether that left a core.
    pub core_dumped: bool,
    /// Why, in words: `terminated by SIGSEGV: invalid memory access`.
    pub cause: String,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// Restarts by policy before it; 0: it was the first start.
    pub restarts: u32,
    /// Processes that outlived its main process.
    pub leftovers: u32,
    /// What was to come next.
    pub next: NextStep,
    /// After how long, if that is a restart, µs.
    pub restart_delay: Option<u64>,
    /// The command that was not found.
    pub missing: Option<String>,
    /// What there is instead, the nearest first.
    pub nearest: Vec<String>,
    /// The error in its last lines, as its language prints it.
    pub trace: Option<Trace>,
    /// The last lines of that life.
    pub lines: Vec<Line>,
}

/// An error as a language's runtime prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// `python`, `node`, `java`, `rust`, `go`, `ruby`, `perl`, `c`, `c++`.
    pub language: String,
    /// `ValueError: no such thing`.
    pub message: String,
    /// `app.py:12 in parse`.
    pub location: Option<String>,
}

/// A process of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Its command line.
    pub command: String,
}

/// What is different now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Whose; `None`: the stack's.
    pub instance: Option<String>,
    /// What it is to what runs.
    pub kind: ChangeKind,
    /// In words.
    pub details: Vec<String>,
}

/// A line that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Counts up over all instances.
    pub sequence: u64,
    /// µs since the epoch.
    pub time: u64,
    /// `web.1`, or `system`.
    pub instance: String,
    /// Where it was said.
    pub stream: LineStream,
    /// The line.
    pub text: String,
    /// The line in base64, where it is not UTF-8.
    pub bytes: Option<String>,
    /// It goes on in the next one of this instance.
    pub part: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up.
    pub sequence: u64,
    /// µs since the epoch.
    pub time: u64,
    /// What.
    pub event: EventKind,
    /// Whose.
    pub instance: Option<String>,
    /// What lpm's own line says.
    pub message: String,
    /// The main process.
    pub pid: Option<u32>,
    /// How it ended.
    pub exit_code: Option<u8>,
    /// How it ended otherwise.
    pub signal: Option<String>,
    /// Why.
    pub result: Option<LifeResult>,
    /// What the life used.
    pub usage: Option<Usage>,
    /// What it was held to.
    pub ceilings: Option<Ceilings>,
    /// If it failed: why, in words.
    pub cause: Option<String>,
    /// If it failed: the error in its last lines.
    pub trace: Option<Trace>,
}

impl Event {
    /// What is known of events of this kind.
    pub fn row(&self) -> Row {
        self.event.row(self.result.as_ref().is_some_and(LifeResult::is_failure))
    }
}

/// Parameters of most methods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// Whom; all, if nobody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Whether to answer only when it is done; true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<bool>,
}

/// Parameters of `Status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusParameters {
    /// Whom; all, if nobody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// With peaks, pressure, input and output, process trees and last lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<bool>,
    /// With peaks, pressure, input and output, and no more than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<bool>,
}

/// The reply of `Status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The stack.
    pub stack: Stack,
    /// In file order, then by number.
    pub instances: Vec<Instance>,
}

/// Parameters of `Signal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignalParameters {
    /// Whom.
    pub names: Vec<String>,
    /// `TERM`, `SIGHUP`, `10`.
    pub signal: String,
    /// The main processes alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main: Option<bool>,
}

/// Parameters of `Scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleParameters {
    /// How many of which process type.
    pub counts: BTreeMap<String, u32>,
    /// As in [`Named`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<bool>,
}

/// Parameters of `Set`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetParameters {
    /// `all`, a process type, an instance.
    pub name: String,
    /// Keys of lpm.toml with their values as text.
    pub settings: BTreeMap<String, String>,
}

/// Parameters of `Reload`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReloadParameters {
    /// Only say what would change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<bool>,
    /// As in [`Named`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<bool>,
}

/// Parameters of `Logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogsParameters {
    /// Whom; all and lpm itself, if nobody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// How many of the newest; all that are kept, if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
    /// Not older than this, µs since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Not newer than this, µs since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Only of this stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<LineStream>,
    /// Only those that say they are as bad as this: `err`, `warning`, …, or 0 to 7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<String>,
    /// And those that come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
}

/// A reply of `Logs`: a line, how many are missing, or, as the first of all, how far back it goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsReply {
    /// So many lines are kept that are wanted; they come next.
    pub kept: Option<u64>,
    /// Since when all that these have said is kept, µs since the epoch; since ever, if it is not said.
    pub since: Option<u64>,
    /// A line.
    pub line: Option<Line>,
    /// So many lines were not read in time.
    pub missed: Option<u64>,
}

/// Parameters of `Metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsParameters {
    /// Whom; all, if nobody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
}

/// The reply of `Metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsReply {
    /// OpenMetrics 1.0.
    pub text: String,
}

/// Parameters of `Events`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsParameters {
    /// Whose; everybody's and the stack's, if nobody is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// And those that come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
}

/// A reply of `Events`: one of the two.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EventsReply {
    /// An event.
    pub event: Option<Event>,
    /// So many events were not read in time.
    pub missed: Option<u64>,
}

/// Parameters of `Attach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachParameters {
    /// One instance.
    pub name: String,
    /// The viewer's window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u16>,
    /// The viewer's window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<u16>,
    /// It only watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
}

/// The reply of `Attach`, after which the connection carries frames (`control::attach`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// Its full name.
    pub instance: String,
    /// Of the instance's terminal.
    pub rows: u16,
    /// Of the instance's terminal.
    pub columns: u16,
}

/// Parameters of `Down`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DownParameters {
    /// As in [`Named`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<bool>,
}

/// Whom it concerned, in file order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instances {
    /// Names.
    pub instances: Vec<String>,
}

/// The reply of `Restart`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restarted {
    /// Names.
    pub instances: Vec<String>,
    /// What is different for them.
    #[serde(default)]
    pub changes: Vec<Change>,
    /// What people should know: an env file that is wrong now and was not taken in.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The reply of `Scale` and `Set`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// What is different.
    pub changes: Vec<Change>,
}

/// The reply of `Reload`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What is different.
    pub changes: Vec<Change>,
    /// Warnings.
    pub notes: Vec<String>,
}

/// Why a call was refused: the interface's errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "error", content = "parameters")]
pub enum Refusal {
    /// Nothing is called that.
    #[serde(rename = "dev.lpm.Supervisor.NoSuchInstance")]
    NoSuchInstance {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
        /// What was perhaps meant.
        nearest: Option<String>,
    },
    /// The stack is being torn down.
    #[serde(rename = "dev.lpm.Supervisor.ShuttingDown")]
    ShuttingDown {},
    /// Something else came between.
    #[serde(rename = "dev.lpm.Supervisor.Superseded")]
    Superseded {},
    /// It did not come up, or nothing could bring it down.
    #[serde(rename = "dev.lpm.Supervisor.InstanceFailed")]
    InstanceFailed {
        /// Which.
        instance: String,
        /// Why.
        result: Option<LifeResult>,
        /// Its last exit code.
        exit_code: Option<u8>,
    },
    /// It does not run.
    #[serde(rename = "dev.lpm.Supervisor.NotRunning")]
    NotRunning {
        /// Which.
        instance: String,
    },
    /// It has no terminal.
    #[serde(rename = "dev.lpm.Supervisor.NoTerminal")]
    NoTerminal {
        /// Which.
        instance: String,
    },
    /// This machine cannot enforce it.
    #[serde(rename = "dev.lpm.Supervisor.CannotEnforce")]
    CannotEnforce {
        /// `memory ceiling 64M of web`.
        ceiling: String,
        /// Why.
        reason: String,
        /// What to do about it.
        fix: String,
    },
    /// Something that was given is wrong.
    #[serde(rename = "dev.lpm.Supervisor.Invalid")]
    Invalid {
        /// What is wrong, one a line.
        messages: Vec<String>,
    },
    /// It cannot be done now.
    #[serde(rename = "dev.lpm.Supervisor.Unavailable")]
    Unavailable {
        /// Why.
        reason: String,
    },
}
