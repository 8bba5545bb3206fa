//! Settings of process types in layers: each source (lpm.toml, then the options, then what the stack was told
//! while it runs) says something of all, of a process type, of an instance. A later source wins over an
//! earlier one; within one source the specific wins.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Diagnostic, Place, list, nearest, quote};
use super::logging::{self, Sink};
use super::options::{Assignment, Options, Target};
use super::procfile::Entry;
use super::quantity::{self, Parsed};
use super::stack::{Ceilings, KillMode, Machine, Policy, Restart, RestartWhen, Signal};

/// The grace of a stop where nothing else was said.
const TIMEOUT_STOP: Duration = Duration::from_secs(5);

/// One setting by the name it has in lpm.toml.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    MemoryMax,
    MemoryHigh,
    MemorySwapMax,
    CpuQuota,
    CpuWeight,
    TasksMax,
    StopSignal,
    TimeoutStop,
    KillMode,
    CanDie,
    Oneshot,
    Restart,
    RestartSec,
    RestartMaxDelaySec,
    StartLimitBurst,
    StartLimitInterval,
    Quiet,
    Pretty,
    Control,
    Pty,
    Log,
    WorkingDirectory,
}

impl Key {
    /// Those that can be told to a running stack, in the order of lpm.toml: all whose value is one word, but
    /// the working directory, which would be another place for what runs.
    pub(super) const TOLD: [Self; 20] = [
        Self::MemoryMax,
        Self::MemoryHigh,
        Self::MemorySwapMax,
        Self::CpuQuota,
        Self::CpuWeight,
        Self::TasksMax,
        Self::StopSignal,
        Self::TimeoutStop,
        Self::KillMode,
        Self::CanDie,
        Self::Oneshot,
        Self::Restart,
        Self::RestartSec,
        Self::RestartMaxDelaySec,
        Self::StartLimitBurst,
        Self::StartLimitInterval,
        Self::Quiet,
        Self::Pretty,
        Self::Control,
        Self::Pty,
    ];

    /// The key of that name, long or short, if it can be told to a running stack.
    pub(super) fn told(name: &str) -> Result<Self, String> {
        let known = || Key::TOLD.into_iter().map(|key| (key.name(), key)).chain(SHORT);
        if let Some((_, key)) = known().find(|(known, _)| *known == name) {
            return Ok(key);
        }
        if name == Key::Log.name() {
            return Err(
                "log cannot be changed while the stack runs (write it into lpm.toml, then start anew)"
                    .to_owned(),
            );
        }
        if ["environment", Key::WorkingDirectory.name()].contains(&name) {
            return Err(format!(
                "{name} cannot be set in a running stack (write it into lpm.toml and reload)"
            ));
        }
        Err(match nearest(name, known().map(|(known, _)| known)) {
            Some(near) => format!("unknown key {} (write {near})", quote(name)),
            None => {
                let known = list(Key::TOLD.into_iter().map(Key::name));
                format!("unknown key {} (known here: {known})", quote(name))
            }
        })
    }

    /// As lpm.toml spells it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::MemoryMax => "memory-max",
            Self::MemoryHigh => "memory-high",
            Self::MemorySwapMax => "memory-swap-max",
            Self::CpuQuota => "cpu-quota",
            Self::CpuWeight => "cpu-weight",
            Self::TasksMax => "tasks-max",
            Self::StopSignal => "stop-signal",
            Self::TimeoutStop => "timeout-stop",
            Self::KillMode => "kill-mode",
            Self::CanDie => "can-die",
            Self::Oneshot => "oneshot",
            Self::Restart => "restart",
            Self::RestartSec => "restart-sec",
            Self::RestartMaxDelaySec => "restart-max-delay-sec",
            Self::StartLimitBurst => "start-limit-burst",
            Self::StartLimitInterval => "start-limit-interval",
            Self::Quiet => "quiet",
            Self::Pretty => "pretty",
            Self::Control => "control",
            Self::Pty => "pty",
            Self::Log => "log",
            Self::WorkingDirectory => "working-directory",
        }
    }
}

/// The short names that the options have, for fingers that are used to them.
const SHORT: [(&str, Key); 7] = [
    ("mem", Key::MemoryMax),
    ("mem-high", Key::MemoryHigh),
    ("swap", Key::MemorySwapMax),
    ("cpu", Key::CpuQuota),
    ("tasks", Key::TasksMax),
    ("timeout", Key::TimeoutStop),
    ("stop-signals", Key::StopSignal),
];

/// What one layer says; `None` leaves it to the layer below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings {
    pub ceilings: Ceilings,
    pub stop_signal: Option<Signal>,
    pub timeout_stop: Option<Duration>,
    pub kill_mode: Option<KillMode>,
    pub can_die: Option<bool>,
    pub oneshot: Option<bool>,
    pub restart: Option<RestartWhen>,
    pub restart_sec: Option<Duration>,
    pub restart_max_delay: Option<Duration>,
    pub start_limit_burst: Option<u32>,
    pub start_limit_interval: Option<Duration>,
    pub quiet: Option<bool>,
    pub pretty: Option<bool>,
    pub control: Option<bool>,
    pub pty: Option<bool>,
    /// Relative paths start at the root.
    pub log: Option<Vec<Sink>>,
    pub working_directory: Option<PathBuf>,
    /// Later wins.
    pub environment: Vec<(OsString, OsString)>,
}

impl Settings {
    /// Reads `text` as the value of `key`.
    pub(super) fn set(&mut self, key: Key, text: &str, machine: &Machine) -> Parsed<()> {
        let ceilings = &mut self.ceilings;
        match key {
            Key::MemoryMax => ceilings.memory_max = Some(quantity::memory(text, machine.memory)?),
            Key::MemoryHigh => ceilings.memory_high = Some(quantity::memory(text, machine.memory)?),
            Key::MemorySwapMax => ceilings.memory_swap_max = Some(quantity::swap(text, machine.memory)?),
            Key::CpuQuota => ceilings.cpu_quota = Some(quantity::cpu(text)?),
            Key::CpuWeight => ceilings.cpu_weight = Some(quantity::weight(text)?),
            Key::TasksMax => ceilings.tasks_max = Some(quantity::tasks(text, machine.pid_max)?),
            Key::StopSignal => self.stop_signal = Some(text.parse()?),
            Key::TimeoutStop => self.timeout_stop = Some(quantity::duration(text)?),
            Key::KillMode => {
                let modes = [("control-group", KillMode::ControlGroup), ("mixed", KillMode::Mixed)];
                self.kill_mode = Some(word(text, "a kill mode", &modes)?);
            }
            Key::CanDie => self.can_die = Some(quantity::boolean(text)?),
            Key::Oneshot => self.oneshot = Some(quantity::boolean(text)?),
            Key::Restart => {
                let rules = [
                    ("no", RestartWhen::No),
                    ("on-failure", RestartWhen::OnFailure),
                    ("always", RestartWhen::Always),
                ];
                self.restart = Some(word(text, "a restart rule", &rules)?);
            }
            Key::RestartSec => self.restart_sec = Some(quantity::duration(text)?),
            Key::RestartMaxDelaySec => self.restart_max_delay = Some(quantity::duration(text)?),
            Key::StartLimitBurst => {
                let burst = quantity::number(text, "a number of starts", 1, 1_000_000)?;
                self.start_limit_burst = Some(u32::try_from(burst).expect("at most a million"));
            }
            Key::StartLimitInterval => self.start_limit_interval = Some(quantity::duration(text)?),
            Key::Quiet => self.quiet = Some(quantity::boolean(text)?),
            Key::Pretty => self.pretty = Some(quantity::boolean(text)?),
            Key::Control => self.control = Some(quantity::boolean(text)?),
            Key::Pty => self.pty = Some(quantity::boolean(text)?),
            Key::Log => self.log = Some(logging::sinks(text)?),
            Key::WorkingDirectory => {
                if text.is_empty() || text.contains('\0') {
                    return Err(format!("{} is no directory (write a path)", quote(text)));
                }
                self.working_directory = Some(PathBuf::from(text));
            }
        }
        Ok(())
    }

    /// Lays `over` over these.
    pub(super) fn overlay(&mut self, over: &Self) {
        fn lay<T: Clone>(under: &mut Option<T>, over: &Option<T>) {
            if let Some(value) = over {
                *under = Some(value.clone());
            }
        }
        lay(&mut self.ceilings.memory_max, &over.ceilings.memory_max);
        lay(&mut self.ceilings.memory_high, &over.ceilings.memory_high);
        lay(&mut self.ceilings.memory_swap_max, &over.ceilings.memory_swap_max);
        lay(&mut self.ceilings.cpu_quota, &over.ceilings.cpu_quota);
        lay(&mut self.ceilings.cpu_weight, &over.ceilings.cpu_weight);
        lay(&mut self.ceilings.tasks_max, &over.ceilings.tasks_max);
        lay(&mut self.stop_signal, &over.stop_signal);
        lay(&mut self.timeout_stop, &over.timeout_stop);
        lay(&mut self.kill_mode, &over.kill_mode);
        lay(&mut self.can_die, &over.can_die);
        lay(&mut self.oneshot, &over.oneshot);
        lay(&mut self.restart, &over.restart);
        lay(&mut self.restart_sec, &over.restart_sec);
        lay(&mut self.restart_max_delay, &over.restart_max_delay);
        lay(&mut self.start_limit_burst, &over.start_limit_burst);
        lay(&mut self.start_limit_interval, &over.start_limit_interval);
        lay(&mut self.quiet, &over.quiet);
        lay(&mut self.pretty, &over.pretty);
        lay(&mut self.control, &over.control);
        lay(&mut self.pty, &over.pty);
        lay(&mut self.log, &over.log);
        lay(&mut self.working_directory, &over.working_directory);
        for (name, value) in &over.environment {
            match self.environment.iter_mut().find(|(known, _)| known == name) {
                Some(known) => known.1.clone_from(value),
                None => self.environment.push((name.clone(), value.clone())),
            }
        }
    }

    /// Whether this says how the process may end.
    fn says_how_it_ends(&self) -> bool {
        self.can_die.is_some() || self.oneshot.is_some() || self.restart.is_some()
    }
}

/// Everything said of an instance, put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    pub ceilings: Ceilings,
    pub policy: Policy,
    pub quiet: bool,
    pub pretty: bool,
    pub control: bool,
    pub pty: bool,
    pub log: Option<Vec<Sink>>,
    pub working_directory: PathBuf,
    pub environment: Vec<(OsString, OsString)>,
}

/// All layers, the lowest first.
#[derive(Debug, Default)]
pub(super) struct Layers {
    file: Source,
    options: Source,
    told: Source,
}

/// What one source says of whom; sorted from the general to the specific.
pub(super) type Source = Vec<(Target, Settings)>;

impl Layers {
    pub(super) fn new(mut file: Source, mut options: Source, mut told: Source) -> Self {
        file.sort_by_key(|&(target, _)| target);
        options.sort_by_key(|&(target, _)| target);
        told.sort_by_key(|&(target, _)| target);
        Self { file, options, told }
    }

    /// Puts together what is said of an instance; `target` may be `All` for a command outside the Procfile.
    pub(super) fn resolve(&self, target: Target, name: &str, root: &Path) -> Parsed<Resolved> {
        let mut all = Settings::default();
        let mut own = false;
        let layers = self.file.iter().chain(&self.options).chain(&self.told);
        for (of, settings) in layers.filter(|(of, _)| of.covers(target)) {
            all.overlay(settings);
            own |= *of != Target::All && settings.says_how_it_ends();
        }
        // A Procfile's `release` runs once by convention. What is said of all does not make it run for ever.
        let by_convention = name == "release" && !own && all.oneshot.is_none();
        let oneshot = all.oneshot.unwrap_or(by_convention);
        let when = if by_convention { RestartWhen::No } else { all.restart.unwrap_or_default() };
        if oneshot && when == RestartWhen::Always {
            return Err(format!(
                "{name} is one-shot, which restart=always contradicts (write {name}=on-failure)"
            ));
        }
        let delay = all.restart_sec.unwrap_or(Duration::from_millis(100));
        Ok(Resolved {
            ceilings: all.ceilings,
            policy: Policy {
                stop_signal: all.stop_signal.unwrap_or(Signal::TERM),
                timeout_stop: all.timeout_stop.unwrap_or(TIMEOUT_STOP),
                kill_mode: all.kill_mode.unwrap_or_default(),
                can_die: all.can_die.unwrap_or(false),
                oneshot,
                restart: Restart {
                    when,
                    delay,
                    delay_max: all.restart_max_delay.unwrap_or(Duration::from_secs(60)).max(delay),
                    burst: all.start_limit_burst.unwrap_or(5),
                    interval: all.start_limit_interval.unwrap_or(Duration::from_secs(10)),
                },
            },
            quiet: all.quiet.unwrap_or(false),
            pretty: all.pretty.unwrap_or(false),
            control: all.control.unwrap_or(false),
            pty: all.pty.unwrap_or(false),
            log: all.log,
            working_directory: all.working_directory.map_or_else(|| root.to_owned(), |path| root.join(path)),
            environment: all.environment,
        })
    }

    /// Whom the options, or what was told since, speak of by number.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, u32)> {
        self.options.iter().chain(&self.told).filter_map(|(target, _)| match target {
            Target::Instance(process, number) => Some((*process, *number)),
            Target::All | Target::Process(_) => None,
        })
    }
}

/// What the options say of whom.
pub(super) fn of_options(
    options: &Options,
    entries: &[Entry<'_>],
    machine: &Machine,
    problems: &mut Vec<Diagnostic>,
) -> Source {
    let values = [
        (&options.mem, Key::MemoryMax),
        (&options.mem_high, Key::MemoryHigh),
        (&options.swap, Key::MemorySwapMax),
        (&options.cpu, Key::CpuQuota),
        (&options.cpu_weight, Key::CpuWeight),
        (&options.tasks, Key::TasksMax),
        (&options.timeout, Key::TimeoutStop),
        (&options.stop_signal, Key::StopSignal),
        (&options.kill_mode, Key::KillMode),
        (&options.restart, Key::Restart),
        (&options.restart_sec, Key::RestartSec),
        (&options.start_limit_burst, Key::StartLimitBurst),
        (&options.start_limit_interval, Key::StartLimitInterval),
    ];
    let names = [
        (&options.can_die, Key::CanDie),
        (&options.oneshot, Key::Oneshot),
        (&options.quiet, Key::Quiet),
        (&options.pretty, Key::Pretty),
        (&options.pty, Key::Pty),
    ];
    let mut source = Source::new();
    for (given, key) in values {
        for item in given.items(problems) {
            let (name, value) = item.split_once('=').map_or(("all", item), |(n, v)| (n.trim(), v.trim()));
            let outcome = assign(&mut source, name, key, value, entries, machine);
            problems.extend(outcome.err().map(|message| given.error(message)));
        }
    }
    for (given, key) in names {
        for item in given.items(problems) {
            let (name, value) = item.split_once('=').map_or((item, "yes"), |(n, v)| (n.trim(), v.trim()));
            let outcome = assign(&mut source, name, key, value, entries, machine);
            problems.extend(outcome.err().map(|message| given.error(message)));
        }
    }
    source
}

/// The most settings that a running stack keeps of those it was told. Each is held against all others at every reload.
const MOST_TOLD: usize = 5000;

/// What the stack was told while it runs. The last word counts: what is said of `all` or of `web` replaces
/// what was said of `web.2` before, which stays a word about `web.2`, as it does in the file that is saved.
///
/// A process type that is not in the Procfile is a warning: it was there when the stack was told, and a
/// reload without it must not fail for that.
pub(super) fn of_told(
    told: &[Assignment],
    entries: &[Entry<'_>],
    machine: &Machine,
    problems: &mut Vec<Diagnostic>,
) -> Source {
    let place = || Place::whole("set");
    let mut source = Source::new();
    if told.len() > MOST_TOLD {
        let message = format!("more than {MOST_TOLD} settings since the start (write them into lpm.toml)");
        problems.push(Diagnostic::error(place(), message));
        return source;
    }
    let mut said: Vec<(Target, Key, &str)> = Vec::new();
    let before = problems.len();
    for Assignment { name, key, value } in told.iter().rev() {
        let target = Target::parse(name, entries);
        let key = Key::told(key);
        let (target, key) = match (target, key) {
            (Ok(target), Ok(key)) => (target, key),
            (Err(message), _) => {
                problems.push(Diagnostic::warning(place(), message));
                continue;
            }
            (_, Err(message)) => {
                problems.push(Diagnostic::error(place(), message));
                continue;
            }
        };
        let later = said.iter().find(|&&(wider, known, _)| known == key && wider.covers(target));
        let value = match later {
            Some(&(same, ..)) if same == target => continue,
            Some(&(_, _, value)) => value,
            None => value.trim(),
        };
        let first = later.is_none();
        said.push((target, key, value));
        if let Err(message) = settings_of(&mut source, target).set(key, value, machine)
            && first
        {
            problems.push(Diagnostic::error(place(), format!("{}: {message}", key.name())));
        }
    }
    // They are read from the last to the first, and shown in order.
    problems[before..].reverse();
    source
}

/// The ceilings on all instances together, `file` being what lpm.toml says.
pub(super) fn of_stack(
    options: &Options,
    file: &Settings,
    machine: &Machine,
    problems: &mut Vec<Diagnostic>,
) -> Ceilings {
    let mut settings = file.clone();
    let values = [
        (&options.stack_mem, Key::MemoryMax),
        (&options.stack_cpu, Key::CpuQuota),
        (&options.stack_tasks, Key::TasksMax),
    ];
    for (given, key) in values {
        if let Some(text) = given.last() {
            let outcome = settings.set(key, text.trim(), machine);
            problems.extend(outcome.err().map(|message| given.error(message)));
        }
    }
    settings.ceilings
}

/// One of a few words, or a refusal that lists them.
pub(super) fn word<T: Copy>(text: &str, what: &str, known: &[(&str, T)]) -> Parsed<T> {
    if let Some(&(_, value)) = known.iter().find(|(word, _)| *word == text) {
        return Ok(value);
    }
    let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
    let meant = match nearest(text, words.iter().copied()) {
        Some(near) => near.to_owned(),
        None => {
            let (last, first) = words.split_last().expect("there is a word to write");
            format!("{} or {last}", first.join(", "))
        }
    };
    Err(format!("{} is not {what} (write {meant})", quote(text)))
}

fn assign(
    source: &mut Source,
    name: &str,
    key: Key,
    value: &str,
    entries: &[Entry<'_>],
    machine: &Machine,
) -> Parsed<()> {
    let target = Target::parse(name, entries)?;
    settings_of(source, target).set(key, value, machine)
}

/// What `source` says of `target`, nothing to begin with.
fn settings_of(source: &mut Source, target: Target) -> &mut Settings {
    let at = source.iter().position(|(known, _)| *known == target).unwrap_or_else(|| {
        source.push((target, Settings::default()));
        source.len() - 1
    });
    &mut source[at].1
}
