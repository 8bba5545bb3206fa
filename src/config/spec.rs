//! The [`Spec`]: what was said of a stack's settings, by whom and where, before it is resolved against a machine.
//!
//! Each source (lpm.toml, then the options, then what the running stack was told) says something of the stack, of
//! all instances, of a process type, of an instance. A later source wins over an earlier one; within one source
//! the specific wins. A value stays what was written: `50%` is half of whatever machine it is resolved against, and
//! a setting that nothing was said of stays apart from one whose default was written down.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::{Diagnostic, Place};
use super::execution::Execution;
use super::logging::Sink;
use super::options::{Assignment, Given, Options, Target};
use super::procfile::Entry;
use super::quantity::Parsed;
use super::rows;
use super::stack::{Ceilings, KillMode, Machine, Policy, Restart, RestartWhen, Signal};
use super::table::{self, Opt, Row, Takes};
use super::value::Value;
use super::words::Words;

/// One setting that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The setting.
    pub row: &'static Row,
    /// Its value, unresolved.
    pub value: Value,
    /// The line of lpm.toml, the option, or `set`.
    pub place: Place,
}

impl Said {
    /// The same as text with its origin, for values that are judged together with others.
    pub(super) fn given(&self) -> Given {
        let origin = match self.place.line {
            Some(_) => format!("{}: {}", self.place, self.row.key),
            None => self.place.source.clone(),
        };
        let values = match &self.value {
            Value::Text(texts) => texts.clone(),
            other => vec![other.to_string()],
        };
        Given { origin, values }
    }
}

/// Everything that one source says of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub target: Target,
    pub settings: Vec<Said>,
    /// Later wins.
    pub environment: Vec<(OsString, OsString)>,
}

impl Layer {
    pub(super) fn new(target: Target) -> Self {
        Self { target, settings: Vec::new(), environment: Vec::new() }
    }

    /// Notes `said`; within one layer the last word counts.
    pub(super) fn put(&mut self, said: Said) {
        put(&mut self.settings, said);
    }

    /// Whether this says how the process may end.
    fn says_how_it_ends(&self) -> bool {
        let of_ends = [&rows::CAN_DIE, &rows::ONESHOT, &rows::RESTART];
        self.settings.iter().any(|said| of_ends.contains(&said.row))
    }
}

/// Adds `said` to `list`, in the place of what was said of the same setting before.
pub(super) fn put(list: &mut Vec<Said>, said: Said) {
    match list.iter_mut().find(|known| known.row == said.row) {
        Some(known) => *known = said,
        None => list.push(said),
    }
}

/// What one source says of each target.
pub(super) type Source = Vec<Layer>;

/// What was said of a stack's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spec {
    /// All layers of processes, the lowest first: of each source from the general to the specific.
    layers: Vec<Layer>,
    /// How many of them come from the file; the options and what was told follow.
    from_file: usize,
    /// Of the stack as a whole; an option wins over the file.
    stack: Vec<Said>,
}

impl Spec {
    pub(super) fn new(stack: [Vec<Said>; 2], sources: [Source; 3]) -> Self {
        let [file, options, told] = sources;
        let from_file = file.len();
        let sorted = |mut source: Source| {
            source.sort_by_key(|layer| layer.target);
            source
        };
        let layers = [file, options, told].into_iter().flat_map(sorted).collect();
        let [mut winning, of_options] = stack;
        of_options.into_iter().for_each(|said| put(&mut winning, said));
        Self { layers, from_file, stack: winning }
    }

    /// What was said of the stack as a whole, in no particular order.
    pub fn of_stack(&self) -> &[Said] {
        &self.stack
    }

    /// What was said of this setting of the stack.
    pub fn stack_said(&self, row: &Row) -> Option<&Said> {
        self.stack.iter().find(|said| said.row == row)
    }

    /// The value of a setting of the stack: what was said, else the default.
    pub(super) fn stack_value(&self, row: &Row) -> Value {
        self.stack_said(row).map_or_else(|| row.default(), |said| said.value.clone())
    }

    /// One of a few words that a setting of the stack has.
    ///
    /// # Panics
    /// If it has none.
    pub(super) fn stack_word<T: Words>(&self, row: &Row) -> T {
        match self.stack_value(row) {
            Value::Word(word) => T::of_word(word).expect("the row lists the words of this type"),
            other => unreachable!("{row:?} is {other:?}, no word"),
        }
    }

    /// The text of a setting of the stack, with its origin; empty if nothing was said.
    pub(super) fn stack_given(&self, row: &Row) -> Given {
        self.stack_said(row).map(Said::given).unwrap_or_default()
    }

    /// Limits on all instances together.
    pub(super) fn stack_limits(&self, machine: &Machine) -> Ceilings {
        limits(|row| self.stack_value(row), machine)
    }

    /// Targets that the options, or what was told since, name by number.
    pub(super) fn numbered(&self) -> impl Iterator<Item = (usize, u32)> {
        self.layers[self.from_file..].iter().filter_map(|layer| match layer.target {
            Target::Instance(process, number) => Some((process, number)),
            Target::All | Target::Process(_) => None,
        })
    }

    /// What was said of an instance of a process type, by its index and its number: of each setting the last word.
    pub fn of_instance(&self, process: usize, number: u32) -> impl Iterator<Item = &Said> {
        self.view(Target::Instance(process, number)).said.into_iter()
    }

    /// What was said of an instance, put together. `target` may be `All` for a command outside the Procfile.
    pub(super) fn view(&self, target: Target) -> View<'_> {
        let mut view = View { said: Vec::new(), environment: Vec::new(), own_end: false };
        for layer in self.layers.iter().filter(|layer| layer.target.covers(target)) {
            for said in &layer.settings {
                match view.said.iter_mut().find(|known| known.row == said.row) {
                    Some(known) => *known = said,
                    None => view.said.push(said),
                }
            }
            for (name, value) in &layer.environment {
                match view.environment.iter_mut().find(|(known, _)| known == name) {
                    Some(known) => known.1.clone_from(value),
                    None => view.environment.push((name.clone(), value.clone())),
                }
            }
            view.own_end |= layer.target != Target::All && layer.says_how_it_ends();
        }
        view
    }
}

/// Everything that was said of one instance.
pub(super) struct View<'a> {
    said: Vec<&'a Said>,
    environment: Vec<(OsString, OsString)>,
    /// Something less than everything was told how the process may end.
    own_end: bool,
}

/// Settings of an instance, resolved: what a [`Stack`](super::Stack) has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resolved {
    pub ceilings: Ceilings,
    pub policy: Policy,
    pub execution: Execution,
    pub quiet: bool,
    pub pretty: bool,
    pub control: bool,
    pub pty: bool,
    pub log: Option<Vec<Sink>>,
    pub working_directory: PathBuf,
    pub environment: Vec<(OsString, OsString)>,
}

impl View<'_> {
    fn said(&self, row: &Row) -> Option<&Said> {
        self.said.iter().find(|said| said.row == row).copied()
    }

    fn value(&self, row: &Row) -> Value {
        self.said(row).map_or_else(|| row.default(), |said| said.value.clone())
    }

    fn span(&self, row: &Row) -> Duration {
        match self.value(row) {
            Value::Span(span) => span,
            other => unreachable!("{row:?} is {other:?}, no time span"),
        }
    }

    pub(super) fn yes(&self, row: &Row) -> bool {
        match self.value(row) {
            Value::Bool(yes) => yes,
            other => unreachable!("{row:?} is {other:?}, neither yes nor no"),
        }
    }

    fn word<T: Words>(&self, row: &Row) -> T {
        match self.value(row) {
            Value::Word(word) => T::of_word(word).expect("the row lists the words of this type"),
            other => unreachable!("{row:?} is {other:?}, no word"),
        }
    }

    fn number<T: TryFrom<i64>>(&self, row: &Row) -> T {
        self.number_if_said(row).expect("the row has a default")
    }

    /// A number that has no default.
    pub(super) fn number_if_said<T: TryFrom<i64>>(&self, row: &Row) -> Option<T> {
        match self.value(row) {
            Value::None => None,
            Value::Number(number) => {
                Some(T::try_from(number).ok().expect("the bounds of the row are those of this type"))
            }
            other => unreachable!("{row:?} is {other:?}, no number"),
        }
    }

    fn signal(&self, row: &Row) -> Signal {
        match self.value(row) {
            Value::Signal(signal) => signal,
            other => unreachable!("{row:?} is {other:?}, no signal"),
        }
    }

    /// Makes typed fields of all this. `name` is that of the process type.
    ///
    /// # Errors
    /// Settings that contradict each other.
    pub(super) fn resolve(self, name: &str, root: &Path, machine: &Machine) -> Parsed<Resolved> {
        let policy = self.policy(name)?;
        let working_directory = match self.value(&rows::WORKING_DIRECTORY) {
            Value::Directory(path) => root.join(path),
            _ => root.to_owned(),
        };
        let log = match self.value(&rows::LOG) {
            Value::Sinks(sinks) => Some(sinks),
            _ => None,
        };
        Ok(Resolved {
            ceilings: limits(|row| self.value(row), machine),
            policy,
            execution: Execution::of(&self),
            quiet: self.yes(&rows::QUIET),
            pretty: self.yes(&rows::PRETTY),
            control: self.yes(&rows::CONTROL),
            pty: self.yes(&rows::PTY),
            log,
            working_directory,
            environment: self.environment,
        })
    }

    fn policy(&self, name: &str) -> Parsed<Policy> {
        // A Procfile's `release` runs once by convention. What is said of all does not make it run for ever.
        let by_convention = name == "release" && !self.own_end && self.said(&rows::ONESHOT).is_none();
        let oneshot = by_convention || self.yes(&rows::ONESHOT);
        let when = if by_convention { RestartWhen::No } else { self.word(&rows::RESTART) };
        if oneshot && when == RestartWhen::Always {
            return Err(format!(
                "{name} is one-shot, which restart=always contradicts (write {name}=on-failure)"
            ));
        }
        let delay = self.span(&rows::RESTART_SEC);
        Ok(Policy {
            stop_signal: self.signal(&rows::STOP_SIGNAL),
            timeout_stop: self.span(&rows::TIMEOUT_STOP),
            kill_mode: self.word::<KillMode>(&rows::KILL_MODE),
            can_die: self.yes(&rows::CAN_DIE),
            oneshot,
            restart: Restart {
                when,
                delay,
                delay_max: self.span(&rows::RESTART_MAX_DELAY_SEC).max(delay),
                burst: self.number(&rows::START_LIMIT_BURST),
                interval: self.span(&rows::START_LIMIT_INTERVAL),
            },
        })
    }
}

/// The limits among settings.
fn limits(value: impl Fn(&Row) -> Value, machine: &Machine) -> Ceilings {
    let limit = |row: &Row| value(row).limit(machine);
    Ceilings {
        memory_max: limit(&rows::MEMORY_MAX),
        memory_high: limit(&rows::MEMORY_HIGH),
        memory_swap_max: limit(&rows::MEMORY_SWAP_MAX),
        cpu_quota: limit(&rows::CPU_QUOTA),
        cpu_weight: match value(&rows::CPU_WEIGHT) {
            Value::Number(weight) => Some(weight.cast_unsigned()),
            _ => None,
        },
        tasks_max: limit(&rows::TASKS_MAX),
    }
}

/// What the options say, of the stack and of processes.
pub(super) fn of_options(
    options: &Options,
    entries: &[Entry<'_>],
    problems: &mut Vec<Diagnostic>,
) -> (Vec<Said>, Source) {
    let (mut stack, mut source) = (Vec::new(), Source::new());
    for (option, row) in table::options() {
        let Some(given) = options.given(option) else { continue };
        match option.takes {
            Takes::Values | Takes::Names | Takes::NamesOr(_) => {
                of_processes(option, row, given, entries, &mut source, problems);
            }
            Takes::One | Takes::List | Takes::Nothing => match of_stack(option, row, given) {
                Ok(said) => stack.extend(said),
                Err(message) => problems.push(given.error(message)),
            },
        }
    }
    (stack, source)
}

fn of_processes(
    option: &Opt,
    row: &'static Row,
    given: &Given,
    entries: &[Entry<'_>],
    source: &mut Source,
    problems: &mut Vec<Diagnostic>,
) {
    for item in given.items(problems) {
        let split = item.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        let (name, value) = match option.takes {
            Takes::Names | Takes::NamesOr(_) => split.unwrap_or((item, "yes")),
            _ => split.unwrap_or(("all", item)),
        };
        let said = Target::parse(name, entries).and_then(|target| Ok((target, row.kind.parse(value)?)));
        match said {
            Ok((target, value)) => {
                layer(source, target).put(Said { row, value, place: Place::whole(&given.origin) });
            }
            Err(message) => problems.push(given.error(message)),
        }
    }
}

fn of_stack(option: &Opt, row: &'static Row, given: &Given) -> Parsed<Option<Said>> {
    let value = match option.takes {
        Takes::List => Value::Text(given.values.clone()),
        Takes::Nothing => Value::Bool(true),
        Takes::One | Takes::Values | Takes::Names | Takes::NamesOr(_) => match given.last() {
            Some(text) => row.kind.parse(text)?,
            None => return Ok(None),
        },
    };
    Ok(Some(Said { row, value, place: Place::whole(&given.origin) }))
}

/// The most settings that a running stack keeps of those it was told. Each is held against all others at every reload.
const MOST_TOLD: usize = 5000;

/// What the stack was told while it runs. The last word counts: what is said of `all` or of `web` replaces
/// what was said of `web.2` before, which stays a word about `web.2`, as it does in the file that is saved.
///
/// A process type that is not in the Procfile is a warning: it was there when the stack was told, and a
/// reload without it must not fail for that.
pub(super) fn of_told(told: &[Assignment], entries: &[Entry<'_>], problems: &mut Vec<Diagnostic>) -> Source {
    let place = || Place::whole("set");
    let mut source = Source::new();
    if told.len() > MOST_TOLD {
        let message = format!("more than {MOST_TOLD} settings since the start (write them into lpm.toml)");
        problems.push(Diagnostic::error(place(), message));
        return source;
    }
    let mut said: Vec<(Target, &Row, &str)> = Vec::new();
    let before = problems.len();
    for Assignment { name, key, value } in told.iter().rev() {
        let (target, row) = match (Target::parse(name, entries), table::to_set(key)) {
            (Ok(target), Ok(row)) => (target, row),
            (Err(message), _) => {
                problems.push(Diagnostic::warning(place(), message));
                continue;
            }
            (_, Err(message)) => {
                problems.push(Diagnostic::error(place(), message));
                continue;
            }
        };
        let later = said.iter().find(|&&(wider, known, _)| known == row && wider.covers(target));
        let value = match later {
            Some(&(same, ..)) if same == target => continue,
            Some(&(_, _, value)) => value,
            None => value.trim(),
        };
        let first = later.is_none();
        said.push((target, row, value));
        match row.kind.parse(value) {
            Ok(value) => layer(&mut source, target).put(Said { row, value, place: place() }),
            Err(message) if first => {
                problems.push(Diagnostic::error(place(), format!("{}: {message}", row.key)));
            }
            Err(_) => {}
        }
    }
    // They are read from the last to the first, and shown in order.
    problems[before..].reverse();
    source
}

/// What `source` says of `target`, nothing to begin with.
fn layer(source: &mut Source, target: Target) -> &mut Layer {
    let at = source.iter().position(|known| known.target == target).unwrap_or_else(|| {
        source.push(Layer::new(target));
        source.len() - 1
    });
    &mut source[at]
}
