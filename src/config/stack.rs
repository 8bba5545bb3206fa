//! The `Stack`: the one value that text is turned into.
//!
//! It says everything lpm needs to know before anything runs: which instances there are, with which
//! command, environment, port, ceilings and policies. It is plain data; it knows no file, no clock and
//! no kernel. Whatever can be wrong with the text was found before a `Stack` exists.

use core::net::SocketAddr;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::execution::Execution;

/// The most instances one stack may have; what is above is a slip of the finger.
pub const MOST_INSTANCES: u32 = 10_000;

/// Everything one `lpm` runs: all instances of one Procfile, in file order, then by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stack {
    /// The label shown to people (`--name`, or the root directory's name). Not an identity.
    pub name: String,
    /// The directory that processes run in unless they say otherwise. Absolute.
    pub root: PathBuf,
    /// Process types in file order, those with no instance included.
    pub processes: Vec<Process>,
    /// All instances, in file order, then by number.
    pub instances: Vec<Instance>,
    /// What every process inherits, before an instance's own variables are laid over it.
    pub environment: Vec<(OsString, OsString)>,
    /// Ceilings on all instances together; they go on the cgroup `app`.
    pub ceilings: Ceilings,
    /// What to do with a ceiling that the machine cannot enforce.
    pub limits: Limits,
    /// Which instance's status becomes lpm's own.
    pub exit_code: ExitCodeRule,
    /// Where its lines go.
    pub logging: Logging,
    /// Where scrapers are answered, if they are: a loopback address.
    pub metrics: Option<SocketAddr>,
}

impl Stack {
    /// Where what an instance says goes.
    pub fn route<'a>(&'a self, instance: &'a Instance) -> &'a Route {
        instance.route.as_ref().unwrap_or(&self.logging.route)
    }

    /// Whether an instance writes into the journal itself. What a terminal of its own shows, lpm reads.
    pub fn writes_itself(&self, instance: &Instance) -> bool {
        self.route(instance).journal == Journal::Direct && !instance.pty
    }

    /// Every route that something takes, the stack's own first.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        let of_instances = self.instances.iter().filter_map(|instance| instance.route.as_ref());
        [&self.logging.route].into_iter().chain(of_instances)
    }

    /// All log files, each once.
    pub fn log_files(&self) -> Vec<LogFile> {
        let mut files: Vec<LogFile> = Vec::new();
        for file in self.routes().flat_map(|route| &route.files) {
            if !files.contains(file) {
                files.push(file.clone());
            }
        }
        files
    }
}

/// Where lines go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Logging {
    /// What lpm says itself, and those instances of which nothing else was said.
    pub route: Route,
    /// How lines look on standard output.
    pub form: Form,
    /// When a file is put aside for a new one.
    pub rotation: Rotation,
    /// How much is kept of each instance for those who ask later, in bytes, where somebody said so.
    pub history: Option<u64>,
    /// Somebody said where lines are to go. Otherwise it may be where they are read more easily.
    pub chosen: bool,
}

/// Where something goes that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// To standard output.
    pub stdout: bool,
    /// Into these files, in the order they were named.
    pub files: Vec<LogFile>,
    /// Into the journal.
    pub journal: Journal,
}

impl Default for Route {
    fn default() -> Self {
        Self { stdout: true, files: Vec::new(), journal: Journal::No }
    }
}

/// How lines come into the journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Journal {
    /// They don't.
    #[default]
    No,
    /// lpm sends them.
    Sent,
    /// Instances write there themselves, and lpm does not see what; what lpm says, it sends.
    Direct,
}

/// What a line looks like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A file, or a directory of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// Absolute.
    pub path: PathBuf,
    /// It is a directory that has a file for each instance.
    pub each: bool,
    /// What its lines look like.
    pub form: Form,
}

/// When a file is put aside, `web.1.log` as `web.1.log.1`, and how many such are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Before it would become larger than this, in bytes.
    pub size: Option<u64>,
    /// With the first line that comes when it is as old as this.
    pub age: Option<Duration>,
    /// The most files put aside; the oldest goes.
    pub keep: u32,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { size: None, age: None, keep: 5 }
    }
}

/// One line of the Procfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// `web`: `[A-Za-z0-9_-]+`.
    pub name: String,
    /// 1-based line in the Procfile; 0 for what is not in it, or not any more.
    pub line: usize,
    /// The text after the colon, untouched.
    pub text: String,
    /// How many instances the formation asks for.
    pub count: u32,
    /// First port of the process's block, `None` under `--no-port`.
    pub port: Option<u16>,
}

impl Process {
    /// Whether the Procfile has it.
    pub fn is_in_file(&self) -> bool {
        self.line > 0
    }
}

/// One numbered place, `web.1`; it outlives the processes that fill it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// `web.1`. Also the name of its leaf cgroup, so it never holds a `/`.
    pub name: String,
    /// Index into [`Stack::processes`].
    pub process: usize,
    /// 1-based number within its process type.
    pub number: u32,
    /// What is executed.
    pub command: Command,
    /// Laid over [`Stack::environment`]: env files, lpm.toml, then what lpm injects (`PORT`, `PS`, …).
    pub environment: Vec<(OsString, OsString)>,
    /// Absolute.
    pub working_directory: PathBuf,
    /// What `PORT` says, `None` under `--no-port`.
    pub port: Option<u16>,
    /// On its own leaf.
    pub ceilings: Ceilings,
    /// When it is stopped, killed, started again.
    pub policy: Policy,
    /// What its processes are born with.
    pub execution: Execution,
    /// Its lines are not shown (`--quiet web`); lpm's own lines about it are.
    pub quiet: bool,
    /// Its JSON and logfmt lines are shown for people (`--pretty`).
    pub pretty: bool,
    /// Where its lines go; `None`: where the stack's go.
    pub route: Option<Route>,
    /// It may control its own stack: `LPM_SOCKET` in its environment names the socket.
    pub control: bool,
    /// It has a pseudo-terminal of its own (`--pty web`) in place of pipes; `lpm run` takes no notice.
    pub pty: bool,
}

/// How a Procfile line is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `/bin/sh -c TEXT`, the text untouched.
    Shell(String),
    /// Plainly a program and its arguments: executed directly, found through the child's own PATH, so
    /// that no idle `sh` stays per process. The text is kept for ENOEXEC, when the shell gets it after all.
    Direct {
        /// The program and its arguments; never empty.
        words: Vec<String>,
        /// What the Procfile says.
        text: String,
    },
    /// `run -- cmd args`: executed as given, found through the child's PATH; never empty, no shell.
    Exec(Vec<OsString>),
}

/// What the core must know about an instance to decide for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Sent to ask for the end; a Linux signal number.
    pub stop_signal: Signal,
    /// From the request until the leaf is empty; then the kill.
    pub timeout_stop: Duration,
    /// Who gets the stop signal.
    pub kill_mode: KillMode,
    /// Its exit, whatever the status, does not end the stack.
    pub can_die: bool,
    /// Meant to end: a clean exit ends nothing, a failure ends the stack.
    pub oneshot: bool,
    /// Wins over `can_die`: only an exit that is not followed by a restart is looked at.
    pub restart: Restart,
}

/// Who gets the stop signal (systemd.kill(5), `KillMode=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KillMode {
    /// Every process of the leaf.
    #[default]
    ControlGroup,
    /// The main process alone; what it leaves is killed.
    Mixed,
}

/// When an instance that ended unasked is started again (systemd.service(5), `Restart=`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// After which exits.
    pub when: RestartWhen,
    /// Before the first restart; doubles with each further one up to `delay_max`.
    pub delay: Duration,
    /// The longest delay.
    pub delay_max: Duration,
    /// At most `burst` starts within `interval`, then the result is `start-limit-hit`. At least 1.
    pub burst: u32,
    /// Zero means no limit.
    pub interval: Duration,
}

/// After which exits an instance is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartWhen {
    /// Never.
    #[default]
    No,
    /// After anything but a clean exit.
    OnFailure,
    /// After every exit.
    Always,
}

/// A Linux signal number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Signal(pub i32);

/// Limits the kernel enforces (cgroup-v2.rst). `None` leaves the kernel's default untouched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ceilings {
    /// `memory.max`, bytes.
    pub memory_max: Option<Ceiling>,
    /// `memory.high`, bytes.
    pub memory_high: Option<Ceiling>,
    /// `memory.swap.max`, bytes.
    pub memory_swap_max: Option<Ceiling>,
    /// `cpu.max`, in thousandths of one CPU (1500 is one and a half).
    pub cpu_quota: Option<Ceiling>,
    /// `cpu.weight`, 1 to 10000.
    pub cpu_weight: Option<u64>,
    /// `pids.max`, tasks (processes and threads).
    pub tasks_max: Option<Ceiling>,
}

impl Ceilings {
    /// These, to be written where `old` was written before: what `old` had and these do not goes back to the
    /// kernel's default, because a file that is left alone keeps what is in it.
    pub fn replacing(&self, old: &Self) -> Self {
        let lifted = |new: Option<Ceiling>, old: Option<Ceiling>| new.or(old.map(|_| Ceiling::Infinity));
        Self {
            memory_max: lifted(self.memory_max, old.memory_max),
            memory_high: lifted(self.memory_high, old.memory_high),
            memory_swap_max: lifted(self.memory_swap_max, old.memory_swap_max),
            cpu_quota: lifted(self.cpu_quota, old.cpu_quota),
            cpu_weight: self.cpu_weight.or(old.cpu_weight.map(|_| 100)),
            tasks_max: lifted(self.tasks_max, old.tasks_max),
        }
    }
}

/// One ceiling, already resolved against the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ceiling {
    /// That much, in the unit of the ceiling.
    At(u64),
    /// None, even where something above set one.
    Infinity,
}

/// What to do with a ceiling that the machine cannot enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limits {
    /// Refuse to start.
    #[default]
    Strict,
    /// Say so and go on without it.
    BestEffort,
}

/// Which instance's status becomes lpm's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitCodeRule {
    /// The one that brought the stack down.
    #[default]
    First,
    /// The largest of those that ended unasked.
    Worst,
    /// Always 0, unless lpm itself failed or was ended by a signal.
    Zero,
}

/// What a `%` is a part of. Read by the command, handed in as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// RAM in bytes (`MemTotal`).
    pub memory: u64,
    /// CPUs that lpm may run on.
    pub cpus: u64,
    /// `kernel.pid_max`.
    pub pid_max: u64,
}
