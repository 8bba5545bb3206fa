//! What a run came to: a table for people, an object for machines. Pure: values in, text out.

use serde::Serialize;

use super::announce::cpu_time;
use crate::config::quantity::{format_memory, format_size};
use crate::config::{Ceiling, Stack};
use crate::supervisor::{Exit, Instance, Living, Main, Outcome, Progress, State};

/// The run as a JSON object (`--summary FILE`); the fields are documented in `docs/summary.md`.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    /// The stack's label.
    pub stack: &'a str,
    /// `full`, `tracking` or `none`.
    pub tier: &'a str,
    /// From the first start to the last leaf, seconds.
    pub seconds: f64,
    /// lpm's own exit code, or 128 plus the signal it ends by.
    pub exit_code: u8,
    /// Processes found outside every leaf at the end, and killed.
    pub strays: usize,
    /// In file order, then by number.
    pub instances: Vec<Row<'a>>,
}

/// One instance of the summary; amounts are over all its lives.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    /// `web.1`
    pub name: &'a str,
    /// Why its last life ended.
    pub outcome: Option<Outcome>,
    /// The last main process's exit code, if it exited.
    pub exit_code: Option<u8>,
    /// The signal that ended it otherwise.
    pub signal: Option<String>,
    /// Lives.
    pub starts: u32,
    /// By its restart rule.
    pub restarts: u32,
    /// Processes that outlived their main process, and were ended.
    pub leftovers: u32,
    /// µs.
    pub cpu_usec: u64,
    /// µs.
    pub throttled_usec: Option<u64>,
    /// Bytes.
    pub memory_peak: Option<u64>,
    /// Bytes.
    pub memory_max: Option<u64>,
    /// Processes killed at a memory ceiling.
    pub oom_kills: u64,
    /// Forks refused at the tasks ceiling.
    pub tasks_refused: u64,
    /// Why, in words, if its last life failed.
    pub failure: Option<String>,
    /// How, in words: `code 3`.
    #[serde(skip)]
    pub ended: String,
}

impl<'a> Row<'a> {
    /// What became of one instance.
    fn new(stack: &'a Stack, instance: &Instance) -> Row<'a> {
        let spec = &stack.instances[instance.id.0 as usize];
        // An exit that is known may be an earlier life's.
        let given_up = match instance.state {
            State::Up(Living { progress: Progress::Stuck { .. }, main, .. }) => Some(main),
            State::Up(_) | State::Down { .. } | State::Waiting(_) => None,
        };
        let how = match given_up {
            Some(Main::Alive { .. } | Main::NotYet) => None,
            Some(Main::Gone) | None => instance.exit,
        };
        let (code, signal) = match how {
            Some(Exit::Code(code)) => (Some(code), None),
            Some(Exit::Signal { signal, .. }) => (None, Some(signal.to_string())),
            None => (None, None),
        };
        let usage = &instance.ledger.usage;
        Row {
            name: &spec.name,
            outcome: instance.outcome,
            exit_code: code,
            signal,
            starts: instance.invocations,
            restarts: instance.ledger.restarts,
            leftovers: instance.ledger.leftovers,
            cpu_usec: usage.cpu_usec,
            throttled_usec: usage.throttled_usec,
            memory_peak: usage.memory_peak,
            memory_max: match spec.ceilings.memory_max {
                Some(Ceiling::At(bytes)) => Some(bytes),
                Some(Ceiling::Infinity) | None => None,
            },
            oom_kills: usage.oom_kills,
            tasks_refused: usage.tasks_refused,
            failure: None,
            ended: match (how, instance.outcome) {
                _ if matches!(given_up, Some(Main::Alive { .. })) => "still running".to_owned(),
                _ if given_up == Some(Main::NotYet) => "start hangs".to_owned(),
                (_, Some(Outcome::OomKill)) => "oom-kill".to_owned(),
                (_, Some(Outcome::Resources)) => "could not start".to_owned(),
                (Some(Exit::Code(code)), _) => format!("code {code}"),
                (Some(Exit::Signal { signal, .. }), _) => signal.to_string(),
                (None, _) => "never ran".to_owned(),
            },
        }
    }
}

/// A row for each instance, in file order, then by number: those that were added while the stack ran are not last.
pub fn rows<'a>(stack: &'a Stack, instances: &[Instance]) -> Vec<Row<'a>> {
    let mut sorted: Vec<&Instance> = instances.iter().collect();
    sorted.sort_by_key(|instance| {
        let spec = &stack.instances[instance.id.0 as usize];
        (spec.process, spec.number)
    });
    sorted.into_iter().map(|instance| Row::new(stack, instance)).collect()
}

/// The rows as a table, heading first, a newline after each. Columns that nobody has anything for are left out, so
/// that it fits a narrow terminal.
pub fn table(rows: &[Row<'_>]) -> String {
    let seen = |any: bool, column: (&'static str, Vec<String>)| any.then_some(column);
    let column = |text: &dyn Fn(&Row<'_>) -> String| rows.iter().map(text).collect::<Vec<_>>();
    let memory = |row: &Row<'_>| match (row.memory_peak, row.memory_max) {
        (Some(peak), Some(max)) => format!("{}/{}", format_size(peak), format_memory(Ceiling::At(max))),
        (Some(peak), None) => format_size(peak),
        (None, _) => "-".to_owned(),
    };
    let number = |n: u64| if n == 0 { "-".to_owned() } else { n.to_string() };
    let columns: Vec<(&str, Vec<String>)> = [
        seen(true, ("NAME", column(&|row| row.name.to_owned()))),
        seen(true, ("ENDED", column(&|row| row.ended.clone()))),
        seen(
            rows.iter().any(|row| row.restarts > 0),
            ("RESTARTS", column(&|row| number(row.restarts.into()))),
        ),
        seen(true, ("CPU", column(&|row| cpu_time(row.cpu_usec)))),
        seen(
            rows.iter().any(|row| row.throttled_usec.is_some_and(|time| time > 0)),
            ("THROTTLED", column(&|row| row.throttled_usec.map_or("-".to_owned(), cpu_time))),
        ),
        seen(rows.iter().any(|row| row.memory_peak.is_some()), ("MEMORY PEAK", column(&memory))),
        seen(
            rows.iter().any(|row| row.tasks_refused > 0),
            ("FORKS REFUSED", column(&|row| number(row.tasks_refused))),
        ),
        seen(
            rows.iter().any(|row| row.leftovers > 0),
            ("LEFTOVERS", column(&|row| number(row.leftovers.into()))),
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    let width = |(heading, cells): &(&str, Vec<String>)| {
        cells.iter().map(|cell| cell.chars().count()).chain([heading.len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = columns.iter().map(width).collect();
    let line = |cell: &dyn Fn(usize) -> String| {
        let cells = widths.iter().enumerate().map(|(at, width)| format!("{:<width$}", cell(at)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let heading = line(&|at| columns[at].0.to_owned());
    let body = (0..rows.len()).map(|row| line(&|at| columns[at].1[row].clone()));
    std::iter::once(heading).chain(body).collect()
}
