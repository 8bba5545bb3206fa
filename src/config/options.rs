//! What the user typed, as typed: texts with the name of the option or variable they came after.
//!
//! Options of settings are kept by the name of the option (`table` lists them). The command has already let the flag
//! win over its `LPM_*` variable; both arrive here, told apart by their origin alone. What a running stack was told
//! since stands beside it, so that the same text read again makes the same stack. Nothing is parsed here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::{Diagnostic, MOST_FINDINGS, Place, list, quote};
use super::procfile::Entry;
use super::stack::MOST_INSTANCES;
use super::table::{self, Opt, Row, Takes};

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
    /// `-c`: honcho's meaning, an unlisted process type stays at 1.
    pub concurrency: Given,
    /// No `PORT` is injected; an inherited one leaks through.
    pub no_port: bool,
    /// Where it was typed: what relative paths in it start from.
    pub directory: PathBuf,
    /// Options of settings that were given, by [`Opt::long`].
    pub settings: BTreeMap<&'static str, Given>,
    /// How many of a process type the running stack was told to have since; 0 is off. Wins over formation,
    /// concurrency and names: exactly `1..=n` exist. What the Procfile no longer has is a warning.
    pub scale: BTreeMap<String, u32>,
    /// Settings that the running stack was told since, in that order; the last word wins, over options and
    /// file too.
    pub set: Vec<Assignment>,
}

impl Options {
    /// Notes what was given to the option of a setting.
    pub fn give(&mut self, option: &'static str, given: Given) {
        self.settings.insert(option, given);
    }

    /// The same options and what was given to one more.
    #[must_use]
    pub fn giving(mut self, option: &'static str, given: Given) -> Self {
        self.give(option, given);
        self
    }

    /// What was given to this option.
    pub(super) fn given(&self, option: &Opt) -> Option<&Given> {
        self.settings.get(option.long).filter(|given| !given.values.is_empty())
    }

    /// Whether an option of this setting was given, for all instances together included.
    pub(super) fn gives(&self, row: &Row) -> bool {
        row.options().any(|option| self.given(option).is_some())
    }

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
        let formation = self.settings.get_mut("formation");
        for choice in [Some(&mut self.names), formation].into_iter().flatten() {
            let left = choice.with(is_of_known);
            if !left.is_empty() {
                choice.values = left;
            }
        }
        // A value alone is for all.
        let is_kept = |item: &str| !item.contains('=') || is_of_known(item);
        self.concurrency.values = self.concurrency.with(is_kept);
        for (option, _) in table::options() {
            let Some(given) = self.settings.get_mut(option.long) else { continue };
            match option.takes {
                Takes::Values => given.values = given.with(is_kept),
                Takes::Names | Takes::NamesOr(_) => given.values = given.with(is_of_known),
                Takes::List | Takes::One | Takes::Nothing => {}
            }
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
