//! Values of settings: from text, and back. What depends on the machine (a `%`) stays as it was written.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::error::quote;
use super::logging::{self, Sink};
use super::quantity::{self, Amount, Parsed, format_cpu, format_duration};
use super::stack::{Ceiling, Machine, Signal};
use super::words::choose;

/// The form of a setting's values.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Bytes, a part of RAM, `infinity`.
    Memory,
    /// The same, and `0` is none.
    Swap,
    /// CPUs.
    Cpu,
    /// A share, 1 to 10000.
    Weight,
    /// Processes and threads: a number, a part of `pid_max`, `infinity`.
    Tasks,
    /// A whole number.
    Number {
        /// What a refusal calls it: `a number of starts`.
        what: &'static str,
        /// The least.
        least: i64,
        /// The most.
        most: i64,
    },
    /// A time span (systemd.time(7)).
    Span,
    /// Yes or no.
    Bool,
    /// One of a few words.
    Word {
        /// What a refusal calls it: `a kill mode`.
        what: &'static str,
        /// The words.
        words: fn() -> Vec<&'static str>,
    },
    /// A signal.
    Signal,
    /// A directory.
    Directory,
    /// Destinations of lines.
    Sinks,
    /// A table of environment variables; never text.
    Variables,
    /// Text that is judged together with other text of the stack.
    Text(Form),
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A label.
    Name,
    /// How many of each process type: `web=2,worker=1`.
    Counts,
    /// A port.
    Port,
    /// A distance between ports.
    PortStep,
    /// Destinations of lines.
    Sinks,
    /// When a log file is put aside.
    Rotation,
    /// How much is kept, in bytes.
    Kept,
    /// A loopback address or a port of it.
    Address,
}

/// A value as it was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing was said, and there is no default.
    None,
    /// Bytes.
    Size(Amount),
    /// Thousandths of one CPU.
    Cpu(Ceiling),
    /// Processes and threads.
    Tasks(Amount),
    /// A whole number.
    Number(i64),
    /// A time span.
    Span(Duration),
    /// Yes or no.
    Bool(bool),
    /// One of the words of the kind.
    Word(&'static str),
    /// A signal.
    Signal(Signal),
    /// As it was written.
    Directory(PathBuf),
    /// In the order they were named.
    Sinks(Vec<Sink>),
    /// As typed; each may be a comma list.
    Text(Vec<String>),
}

impl Kind {
    /// Reads one value.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(self, text: &str) -> Parsed<Value> {
        let text = match self {
            Self::Directory | Self::Text(_) => text,
            _ => text.trim(),
        };
        Ok(match self {
            Self::Memory => Value::Size(quantity::memory_amount(text)?),
            Self::Swap => Value::Size(quantity::swap_amount(text)?),
            Self::Cpu => Value::Cpu(quantity::cpu(text)?),
            Self::Weight => Value::Number(i64::try_from(quantity::weight(text)?).expect("at most 10000")),
            Self::Tasks => Value::Tasks(quantity::tasks_amount(text)?),
            Self::Number { what, least, most } => Value::Number(quantity::integer(text, what, least, most)?),
            Self::Span => Value::Span(quantity::duration(text)?),
            Self::Bool => Value::Bool(quantity::boolean(text)?),
            Self::Word { what, words } => Value::Word(choose(text, what, &words())?),
            Self::Signal => Value::Signal(text.parse()?),
            Self::Directory if text.is_empty() || text.contains('\0') => {
                return Err(format!("{} is no directory (write a path)", quote(text)));
            }
            Self::Directory => Value::Directory(PathBuf::from(text)),
            Self::Sinks => Value::Sinks(logging::sinks(text)?),
            Self::Variables => return Err("a table of variables belongs here".to_owned()),
            Self::Text(_) => Value::Text(vec![text.to_owned()]),
        })
    }

    /// The words that a shell can complete, and a schema can list.
    pub fn words(self) -> Vec<&'static str> {
        match self {
            Self::Word { words, .. } => words(),
            Self::Bool => vec!["yes", "no"],
            Self::Signal => vec!["TERM", "INT", "QUIT", "HUP", "USR1", "USR2"],
            Self::Memory | Self::Swap | Self::Cpu | Self::Tasks => vec!["infinity"],
            Self::Sinks | Self::Text(Form::Sinks) => {
                vec!["terminal", "journald", "journald-direct", "json", "none"]
            }
            Self::Weight
            | Self::Number { .. }
            | Self::Span
            | Self::Directory
            | Self::Variables
            | Self::Text(_) => Vec::new(),
        }
    }
}

impl Value {
    /// An amount against what it may be a part of; `None` where nothing was said.
    ///
    /// # Panics
    /// If it is no amount.
    pub fn limit(&self, machine: &Machine) -> Option<Ceiling> {
        match self {
            Self::None => None,
            Self::Size(amount) => Some(amount.of(machine.memory, quantity::PAGE)),
            Self::Tasks(amount) => Some(amount.of(machine.pid_max, 1)),
            Self::Cpu(ceiling) => Some(*ceiling),
            other => unreachable!("{other:?} is no limit"),
        }
    }
}

/// As it would be written in lpm.toml; nothing for [`Value::None`].
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Size(amount) => f.write_str(&amount.format(quantity::format_memory)),
            Self::Tasks(amount) => f.write_str(&amount.format(quantity::format_tasks)),
            Self::Cpu(ceiling) => f.write_str(&format_cpu(*ceiling)),
            Self::Number(number) => number.fmt(f),
            Self::Span(span) => f.write_str(&format_duration(*span)),
            Self::Bool(yes) => f.write_str(if *yes { "yes" } else { "no" }),
            Self::Word(word) => f.write_str(word),
            Self::Signal(signal) => signal.fmt(f),
            Self::Directory(path) => path.display().fmt(f),
            Self::Sinks(sinks) => {
                let items: Vec<String> = sinks.iter().map(ToString::to_string).collect();
                f.write_str(&items.join(","))
            }
            Self::Text(texts) => f.write_str(&texts.join(",")),
        }
    }
}
