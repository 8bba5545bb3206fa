//! What the user typed, as typed: texts with the name of the option or variable they came after.
//!
//! One field per option of the command line. The command has already let the flag win over its `LPM_*`
//! variable; both arrive here, told apart by their origin alone. What a running stack was told since stands
//! beside it, so that the same text read again makes the same stack. Nothing is parsed here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::{Diagnostic, MOST_FINDINGS, Place, list, quote};
use super::procfile::Entry;
use super::stack::MOST_INSTANCES;

/// The values of one option; none if it was not given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    /// `--mem` or `LPM_MEM`: what an error about it begins with; may be empty.
    pub origin: String,
    /// As typed; each may be a comma list.
    pub values: Vec<String>,
}

impl Given {
    /// Values that came after `origin`.
    pub fn new(origin: impl Into<String>, values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { origin: origin.into(), values: values.into_iter().map(Into::into).collect() }
    }

    /// The last value, for options that have one; later wins.
    pub(super) fn last(&self) -> Option<&str> {
        self.values.last().map(String::as_str)
    }

    /// None for what was typed without an option: there is only one place for that.
    pub(super) fn place(&self) -> Option<Place> {
        (!self.origin.is_empty()).then(|| Place::whole(&self.origin))
    }

    pub(super) fn error(&self, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.place(), message)
    }

    /// The values, of their comma lists only what is to `stay`.
    fn with(&self, stay: impl Fn(&str) -> bool) -> Vec<String> {
        let kept = |value: &String| value.split(',').filter(|item| stay(item)).collect::<Vec<_>>().join(",");
        self.values.iter().map(kept).filter(|value| !value.is_empty()).collect()
    }

    /// The items of all comma lists, blanks trimmed. An empty value has none; an empty item is an error.
    pub(super) fn items<'a>(&'a self, problems: &mut Vec<Diagnostic>) -> Vec<&'a str> {
        let mut items = Vec::new();
        let mut empty = 0;
        for value in self.values.iter().filter(|value| !value.trim().is_empty()) {
            for item in value.split(',').map(str::trim) {
                if item.is_empty() {
                    empty += 1;
                    if empty > MOST_FINDINGS {
                        return items;
                    }
                    problems.push(self.error(format!("{} has an empty item (remove a comma)", quote(value))));
                } else {
                    items.push(item);
                }
            }
        }
        items
    }
}

/// Everything that can be typed, for `start` and for the commands that share its options.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Start only these: `web`, `web.2`. They come after no option, and their origin is empty.
    pub names: Given,
    /// `-m`: foreman's meaning, an unlisted process type is off unless `all=`.
    pub formation: Given,
    /// `-c`: honcho's meaning, an unlisted process type stays at 1.
    pub concurrency: Given,
    /// `-p`: the base port.
    pub port: Given,
    /// Between process types; 100.
    pub port_step: Given,
    /// Between instances; 1.
    pub instance_port_step: Given,
    /// No `PORT` is injected; an inherited one leaks through.
    pub no_port: bool,
    /// `memory.max`: `worker=512M,web.2=1G,all=64M`; a bare `512M` is for all. So for all lists below.
    pub mem: Given,
    /// `memory.high`.
    pub mem_high: Given,
    /// `memory.swap.max`.
    pub swap: Given,
    /// `cpu.max`: `1.5` or `150%`.
    pub cpu: Given,
    /// `cpu.weight`.
    pub cpu_weight: Given,
    /// `pids.max`.
    pub tasks: Given,
    /// `memory.max` of all instances together.
    pub stack_mem: Given,
    /// `cpu.max` of all instances together.
    pub stack_cpu: Given,
    /// `pids.max` of all instances together.
    pub stack_tasks: Given,
    /// `strict` or `best-effort`.
    pub limits: Given,
    /// `-t`: the grace of a stop, `10` or `web=10s`.
    pub timeout: Given,
    /// `QUIT` or `web=QUIT`.
    pub stop_signal: Given,
    /// `control-group` or `mixed`.
    pub kill_mode: Given,
    /// Names (`web`, `all`), or `web=no` against the file.
    pub can_die: Given,
    /// Names, like `can_die`.
    pub oneshot: Given,
    /// `on-failure` or `web=always`.
    pub restart: Given,
    /// `0` or `web=2s`.
    pub restart_sec: Given,
    /// `10` or `web=3`.
    pub start_limit_burst: Given,
    /// `1min` or `web=10s`.
    pub start_limit_interval: Given,
    /// Names, like `can_die`.
    pub quiet: Given,
    /// Names, like `can_die`.
    pub pretty: Given,
    /// Names, like `can_die`.
    pub pty: Given,
    /// `first`, `worst` or `zero`.
    pub exit_code: Given,
    /// `terminal`, `journald`, `json`, `json=FILE`, `file=DIR`.
    pub log: Given,
    /// `10M`, `age=1d`, `keep=5`.
    pub log_rotate: Given,
    /// How much is kept of each instance: `1M`.
    pub history: Given,
    /// Where scrapers are answered: `9464`, `[::1]:9464`.
    pub metrics: Given,
    /// Where it was typed: what relative paths in it start from.
    pub directory: PathBuf,
    /// `file` or `inherited`: which wins where both set a variable.
    pub env_precedence: Given,
    /// `$NAME` and `${NAME}` in env files are expanded.
    pub expand_env: bool,
    /// The stack's label.
    pub name: Given,
    /// How many of a process type the running stack was told to have since; 0 is off. Wins over formation,
    /// concurrency and names: exactly `1..=n` exist. What the Procfile no longer has is a warning.
    pub scale: BTreeMap<String, u32>,
    /// Settings that the running stack was told since, in that order; the last word wins, over options and
    /// file too.
    pub set: Vec<Assignment>,
}

impl Options {
    /// Notes what a running stack is told. What was told to the same before is forgotten, so that a stack
    /// that is told something every minute does not grow.
    pub fn tell(&mut self, told: impl IntoIterator<Item = Assignment>) {
        for assignment in told {
            self.set.retain(|old| old.name != assignment.name || old.key != assignment.key);
            self.set.push(assignment);
        }
    }

    /// Forgets what was said of process types that are not in the Procfile any more: it was right when it was
    /// said. A choice of what to start is kept if nothing would be left of it, for then everything would start.
    pub(super) fn forget_what_is_gone(&mut self, entries: &[Entry<'_>]) {
        let has = |name: &str| entries.iter().any(|entry| entry.name == name);
        let type_of = |name: &'_ str| name.split_once('.').map_or(name, |(process, _)| process).to_owned();
        let is_known = |name: &str| name == "all" || has(name) || has(&type_of(name));
        let is_of_known = |item: &str| is_known(item.split('=').next().unwrap_or(item).trim());
        self.scale.retain(|name, _| has(name));
        self.set.retain(|told| is_known(&told.name));
        for choice in [&mut self.names, &mut self.formation] {
            let left = choice.with(is_of_known);
            if !left.is_empty() {
                choice.values = left;
            }
        }
        for names in [&mut self.can_die, &mut self.oneshot, &mut self.quiet, &mut self.pretty, &mut self.pty]
        {
            names.values = names.with(is_of_known);
        }
        for values in [
            &mut self.concurrency,
            &mut self.mem,
            &mut self.mem_high,
            &mut self.swap,
            &mut self.cpu,
            &mut self.cpu_weight,
            &mut self.tasks,
            &mut self.timeout,
            &mut self.stop_signal,
            &mut self.kill_mode,
            &mut self.restart,
            &mut self.restart_sec,
            &mut self.start_limit_burst,
            &mut self.start_limit_interval,
        ] {
            // A value alone is for all.
            values.values = values.with(|item| !item.contains('=') || is_of_known(item));
        }
    }
}

/// One setting told to a running stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Whom it is for: `all`, `web`, `web.2`.
    pub name: String,
    /// As in lpm.toml: `memory-max`.
    pub key: String,
    /// As an option would be given it: `1G`.
    pub value: String,
}

/// Whom a setting is for. Ordered from the general to the specific, which wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    All,
    /// Index of the process type.
    Process(usize),
    /// Index of the process type and 1-based number.
    Instance(usize, u32),
}

impl Target {
    /// `all`, `web` or `web.2`.
    pub(super) fn parse(name: &str, entries: &[Entry<'_>]) -> Result<Self, String> {
        let find = |name: &str| entries.iter().position(|entry| entry.name == name);
        if name == "all" {
            return Ok(Self::All);
        }
        if let Some(process) = find(name) {
            return Ok(Self::Process(process));
        }
        if let Some((process, number)) = name.split_once('.')
            && let Some(index) = find(process)
        {
            let plain = !number.starts_with('0') && number.bytes().all(|b| b.is_ascii_digit());
            return match number.parse() {
                Ok(number @ 1..=MOST_INSTANCES) if plain => Ok(Self::Instance(index, number)),
                _ => Err(format!("{} is no instance of {process} (write {process}.1)", quote(name))),
            };
        }
        Err(unknown(name, entries))
    }

    /// Whether what is said of this is said of `other` too.
    pub(super) fn covers(self, other: Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Process(of), Self::Process(process) | Self::Instance(process, _)) => of == process,
            (Self::Instance(..), _) | (Self::Process(_), Self::All) => self == other,
        }
    }
}

/// The refusal of a name that is not in the Procfile; lists those that are.
pub(super) fn unknown(name: &str, entries: &[Entry<'_>]) -> String {
    match entries {
        [] => format!("unknown process type {} (the Procfile has none)", quote(name)),
        _ => {
            let known = list(entries.iter().map(|entry| entry.name));
            format!("unknown process type {} (the Procfile has {known})", quote(name))
        }
    }
}
