//! How many instances of each process type: `-m` as foreman means it, `-c` as honcho does.
//!
//! `web=2,worker=3`, `all=2`, blanks allowed. With `-m` a process type that is not listed is off unless
//! `all=` says otherwise; with `-c` it stays at 1. An empty text says nothing. A name that is not in the
//! Procfile, a number that is none, an empty item is an error.

use std::collections::HashMap;

use super::error::{Diagnostic, MOST_FINDINGS, list, quote, unquoted};
use super::options::{Given, Options, unknown};
use super::procfile::Entry;
use super::rows;
use super::stack::MOST_INSTANCES;

/// How many instances each entry gets, in the order of the entries, before names select among them.
///
/// `formation` is what `-m` or, if it was not given, lpm.toml says.
pub(super) fn counts(
    options: &Options,
    formation: &Given,
    entries: &[Entry<'_>],
    problems: &mut Vec<Diagnostic>,
) -> Counts {
    let says = |given: &Given| given.values.iter().any(|value| !value.trim().is_empty());
    let (given, unlisted) = match (says(formation), says(&options.concurrency)) {
        (true, true) if options.gives(&rows::FORMATION) => {
            let message = format!("cannot be combined with {} (use one)", options.concurrency.origin);
            problems.push(formation.error(message));
            (formation, 0)
        }
        // What was typed wins over the file.
        (_, true) => (&options.concurrency, 1),
        (true, false) => (formation, 0),
        (false, false) => return Counts { listed: vec![None; entries.len()], unlisted: 1 },
    };
    let mut counts = Counts { listed: vec![None; entries.len()], unlisted };
    let places: HashMap<&str, usize> =
        entries.iter().enumerate().map(|(at, entry)| (entry.name, at)).collect();
    let mut wrong = 0;
    for item in given.items(problems) {
        match setting(item, &places, entries) {
            Ok((None, count)) => counts.unlisted = count,
            Ok((Some(process), count)) => counts.listed[process] = Some(count),
            Err(message) => {
                problems.push(given.error(message));
                wrong += 1;
                if wrong == MOST_FINDINGS {
                    break;
                }
            }
        }
    }
    counts
}

/// What a formation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counts {
    /// Per entry, if it was listed.
    pub listed: Vec<Option<u32>>,
    /// For the others.
    pub unlisted: u32,
}

impl Counts {
    /// Of an entry that nobody named.
    pub(super) fn of(&self, process: usize) -> u32 {
        self.listed[process].unwrap_or(self.unlisted)
    }

    /// Of an entry that was named: then it runs even if the formation does not list it.
    pub(super) fn named(&self, process: usize) -> u32 {
        self.listed[process].unwrap_or(self.unlisted.max(1))
    }
}

/// `web=2` as (entry, count); `all=2` has no entry.
fn setting(
    item: &str,
    places: &HashMap<&str, usize>,
    entries: &[Entry<'_>],
) -> Result<(Option<usize>, u32), String> {
    let Some((name, count)) = item.split_once('=') else {
        return Err(format!("{} has no number (write {}=1)", quote(item), unquoted(item)));
    };
    let (name, count) = (name.trim(), count.trim());
    let process = match name {
        "all" => None,
        _ => Some(*places.get(name).ok_or_else(|| unknown(name, entries))?),
    };
    let plain = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    match count.parse() {
        Ok(number @ 0..=MOST_INSTANCES) if plain => Ok((process, number)),
        _ if plain => Err(format!("{} is too many (write {name}={MOST_INSTANCES} or less)", quote(item))),
        _ => {
            let known = match entries {
                [] => String::new(),
                _ => format!("; the Procfile has {}", list(entries.iter().map(|entry| entry.name))),
            };
            Err(format!("{} is not a number of instances (write {name}=2{known})", quote(item)))
        }
    }
}
