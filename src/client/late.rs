//! Options of `lpm start` that come too late, because the stack runs already: each with what is to be written
//! instead. None is dropped silently.
//!
//! What was typed and cannot be had is refused. A variable stands there for every start; one that would have
//! changed something is named, and no more.

use crate::claim::Record;
use crate::cli::{ControlArgs, CountArgs, Origins, OutputArgs, StackArgs, Start};
use crate::config::rows;
use crate::config::table::{self, Opt, Row, Takes};
use crate::error::{Error, tell};
use crate::launch::gather::Surroundings;

/// An option that was given.
struct Late {
    id: &'static str,
    instead: String,
    /// It says how the stack is, not what this command shows.
    of_the_stack: bool,
}

/// Refuses what was typed for a stack that runs, and names what variables say.
///
/// # Errors
/// An option that cannot be had; all of them are named.
pub fn refuse(
    around: &Surroundings,
    arguments: &Start,
    origins: &Origins,
    record: &Record,
) -> Result<(), Error> {
    let mut late = late(arguments);
    if let Some(path) = &arguments.control.socket
        && record.socket.as_ref() == Some(&around.directory.join(path))
    {
        // It is asked there.
        late.retain(|one| one.id != "socket");
    }
    let (typed, standing): (Vec<Late>, Vec<Late>) =
        late.into_iter().partition(|one| origins.of(one.id).starts_with("--"));
    let (name, pid) = (&record.name, record.pid);
    if !typed.is_empty() {
        let first =
            format!("stack {name} runs already (pid {pid}), and these come too late; nothing was done");
        let line = |one: &Late| format!("  {}: {}", origins.of(one.id), one.instead);
        return Err(Error::several([first].into_iter().chain(typed.iter().map(line))));
    }
    let standing: Vec<String> =
        standing.iter().filter(|one| one.of_the_stack).map(|one| origins.of(one.id)).collect();
    if !standing.is_empty() {
        let variables = standing.join(", ");
        tell(format_args!("lpm: stack {name} runs already (pid {pid}); not looked at: {variables}"));
    }
    Ok(())
}

const FIRST_DOWN: &str = "lpm down first, then lpm start with it";

/// Everything that was given besides names and what finds the stack.
fn late(arguments: &Start) -> Vec<Late> {
    let Start { names, detach, stack, count, settings, output, control, no_wait: _, json: _ } = arguments;
    let StackArgs { procfile: _, root: _, name: _, env, no_port } = stack;
    let CountArgs { concurrency } = count;
    let OutputArgs { no_prefix, no_timestamp, color, split_stderr, report, summary } = output;
    let ControlArgs { socket } = control;

    let mut late = Vec::new();
    let mut add = |id, given: bool, of_the_stack, instead: String| {
        if given {
            late.push(Late { id, instead, of_the_stack });
        }
    };
    let down = || FIRST_DOWN.to_owned();
    add(
        "detach",
        *detach,
        false,
        "leave it out; this returns when they run, and they keep running".to_owned(),
    );
    add("env", !env.is_empty(), true, down());
    add("no_port", *no_port, true, down());
    if let Some(counts) = concurrency {
        add("concurrency", true, true, format!("lpm scale {}", shell_words(counts)));
    }
    for (option, row) in table::options() {
        let Some(values) = settings.typed().get(option.long) else { continue };
        let only_quiet = *row == rows::QUIET && values.iter().all(String::is_empty);
        let instead = match only_quiet {
            true => "leave it out; nothing is shown here".to_owned(),
            false => instead(option, row, values, names),
        };
        add(option.long, true, *row != rows::QUIET, instead);
    }
    add("split_stderr", *split_stderr, true, down());
    add("report", report.is_some(), false, down());
    add("summary", summary.is_some(), false, down());
    let shown = || "leave it out; nothing is shown here (lpm logs has it too)".to_owned();
    add("no_prefix", *no_prefix, false, shown());
    add("no_timestamp", *no_timestamp, false, shown());
    add("color", color.is_some(), false, shown());
    add("socket", socket.is_some(), true, down());
    late
}

/// What to write in place of the option of a setting.
fn instead(option: &Opt, row: &Row, values: &[String], names: &[String]) -> String {
    match option.takes {
        Takes::Values | Takes::Names | Takes::NamesOr(_) => set(option, row, values, names),
        Takes::One if *row == rows::FORMATION => {
            format!("lpm scale {}", shell_words(values.last().map_or("", String::as_str)))
        }
        Takes::One if row.is_of_processes() => {
            let value = values.last().map_or("", String::as_str);
            format!("write {} = {value:?} below [stack] in lpm.toml, then lpm reload", row.key)
        }
        Takes::One | Takes::List | Takes::Nothing => FIRST_DOWN.to_owned(),
    }
}

/// `lpm set` for each item of these lists. One without a name is for those that are started, if it is a value, or
/// is a name itself, if the setting is yes or no.
fn set(option: &Opt, row: &Row, values: &[String], names: &[String]) -> String {
    let items = values.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|item| !item.is_empty());
    let set = |item: &str| {
        let (name, value) = match (item.split_once('='), option.takes) {
            (Some((name, value)), _) => (name.trim(), value.trim()),
            (None, Takes::Names | Takes::NamesOr(_)) => (item, "yes"),
            (None, _) => (if let [only] = names { only.as_str() } else { "all" }, item),
        };
        format!("lpm set {} {}", shell_word(name), shell_word(&format!("{}={value}", row.key)))
    };
    items.map(set).collect::<Vec<_>>().join("; ")
}

/// The items of a list, a word each.
fn shell_words(list: &str) -> String {
    let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(shell_word).collect::<Vec<_>>().join(" ")
}

/// As it is typed: what is more than a word stands in quotes.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=.%:/*".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.escape_debug()),
    }
}
