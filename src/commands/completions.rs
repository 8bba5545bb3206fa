//! `lpm completions`: what a shell sources, and what that asks lpm for at each press of the tab key.
//!
//! The words come from clap's own description; names of processes come from the stack of this directory while it
//! runs, and else from its Procfile. A stack that does not answer in a moment is not waited for.

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;

use crate::cli::{self, Completions, Origins, StackArgs};
use crate::client::reach;
use crate::config;
use crate::config::table::{self, Opt, Row, Takes};
use crate::control::interface::{Status, StatusParameters};
use crate::error::{Error, words};
use crate::launch::gather::{self, Asked, Surroundings};
use crate::launch::print;
use crate::supervisor::Ending;

/// The variable by which the shell's script asks.
pub const VARIABLE: &str = "LPM_COMPLETE";

/// How long a stack may take to say its names.
const PATIENCE: Duration = Duration::from_millis(300);

/// Prints the script that the shell is to source.
///
/// # Errors
/// The script cannot be made.
pub fn completions(arguments: &Completions) -> Result<Ending, Error> {
    let shells = Shells::builtins();
    let shell = arguments.shell.as_str();
    let known = shells.completer(shell).ok_or_else(|| Error::new(format!("no completions for {shell}")))?;
    let mut script = Vec::new();
    known
        .write_registration(VARIABLE, "lpm", "lpm", "lpm", &mut script)
        .map_err(|error| Error::new(format!("the script cannot be made: {}", words(error))))?;
    print(&String::from_utf8_lossy(&script))
}

/// Answers the shell if it is the one who asks.
///
/// # Errors
/// Standard output cannot be written.
pub fn answer(around: &Surroundings) -> io::Result<bool> {
    if around.variable(VARIABLE).is_none() {
        return Ok(false);
    }
    let argv = around.argv.clone();
    let described = || described(around);
    CompleteEnv::with_factory(described)
        .var(VARIABLE)
        .try_complete(argv, Some(&around.directory))
        .map_err(|error| io::Error::other(error.to_string()))
}

/// What an argument can be.
#[derive(Debug, Clone, Copy)]
enum What {
    /// A process type of the Procfile.
    Type,
    /// The same with a number to come.
    Count,
    /// What runs.
    Running,
    /// What runs, or a signal.
    RunningOrSignal,
    /// A setting.
    Setting,
}

impl What {
    fn of(subcommand: &str, argument: &str) -> Option<What> {
        match (subcommand, argument) {
            ("start" | "check", "names") => Some(What::Type),
            ("scale", "counts") => Some(What::Count),
            ("signal", "words") => Some(What::RunningOrSignal),
            ("set", "settings") => Some(What::Setting),
            (_, "names" | "whom" | "instance") => Some(What::Running),
            _ => None,
        }
    }

    fn known(self, around: &Surroundings, typed: &str) -> Vec<String> {
        const SIGNALS: [&str; 9] = ["HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "STOP", "CONT"];
        match self {
            What::Type => in_the_text(around),
            What::Count => in_the_text(around).into_iter().map(|name| format!("{name}=")).collect(),
            What::Running => running(around),
            What::RunningOrSignal => running(around).into_iter().chain(SIGNALS.map(str::to_owned)).collect(),
            What::Setting => settings(typed),
        }
    }
}

/// `KEY=` of each setting that a running stack takes; `KEY=VALUE` once the key is typed.
fn settings(typed: &str) -> Vec<String> {
    let rows = table::rows().filter(|row| row.can_be_set());
    match typed.split_once('=').and_then(|(key, _)| table::row(key)) {
        Some(row) => row.kind.words().into_iter().map(|word| format!("{}={word}", row.key)).collect(),
        None => rows.map(|row| format!("{}=", row.key)).collect(),
    }
}

/// The command line, with what is to be asked for names.
fn described(around: &Surroundings) -> clap::Command {
    cli::command().mut_subcommands(|subcommand| {
        let name = subcommand.get_name().to_owned();
        // Of a command's names one is offered: the full one, unless only a short one fits what is typed. clap takes
        // names that live for ever; this process only answers one question.
        let short: Vec<&'static str> =
            subcommand.get_visible_aliases().map(|name| &*name.to_owned().leak()).collect();
        let subcommand = subcommand.visible_alias(None::<&str>).aliases(short);
        subcommand.mut_args(|argument| {
            let id = argument.get_id().as_str().to_owned();
            let option = table::options().find(|(option, _)| option.long == id);
            match (What::of(&name, &id), option) {
                (Some(what), _) => {
                    let around = around.clone();
                    let candidates =
                        move |typed: &OsStr| matching(&what.known(&around, &typed.to_string_lossy()), typed);
                    argument.add(ArgValueCompleter::new(candidates))
                }
                (None, Some((option, row))) => {
                    let around = around.clone();
                    let candidates = move |typed: &OsStr| listed(option, row, &around, typed);
                    argument.add(ArgValueCompleter::new(candidates))
                }
                (None, None) => argument,
            }
        })
    })
}

fn matching(known: &[String], typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    known.iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

/// What the option of a setting may be given: values, names, `NAME=VALUE`, as the last item of a list.
fn listed(option: &Opt, row: &Row, around: &Surroundings, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let (before, item) = match (option.takes, typed.rsplit_once(',')) {
        (Takes::One | Takes::Nothing, _) | (_, None) => (String::new(), typed.clone()),
        (_, Some((before, item))) => (format!("{before},"), item.into()),
    };
    let values = row.kind.words().into_iter().map(str::to_owned);
    let names = || in_the_text(around).into_iter();
    let known: Vec<String> = match (option.takes, item.split_once('=')) {
        (Takes::Names | Takes::NamesOr(_), _) => names().chain(["all".to_owned()]).collect(),
        (Takes::Values, Some((name, _))) => values.map(|value| format!("{name}={value}")).collect(),
        (Takes::Values, None) => {
            values.chain(names().chain(["all".to_owned()]).map(|name| format!("{name}="))).collect()
        }
        (Takes::One | Takes::List | Takes::Nothing, _) => values.collect(),
    };
    let fitting = known.iter().filter(|value| value.starts_with(&*item));
    fitting.map(|value| CompletionCandidate::new(format!("{before}{value}"))).collect()
}

/// Process types and instances of the stack that runs here; of its Procfile, if it does not.
fn running(around: &Surroundings) -> Vec<String> {
    let asked = || {
        let (_, mut client) = reach::owner(around, &StackArgs::default(), &Origins::default()).ok()??;
        client.patience(PATIENCE);
        let status: Status = client.call("Status", &StatusParameters::default()).ok()?;
        let types = status.stack.processes.into_iter().filter(|one| one.instances > 0).map(|one| one.name);
        Some(types.chain(status.instances.into_iter().map(|one| one.name)).collect())
    };
    asked().unwrap_or_else(|| in_the_text(around))
}

/// The process types of the Procfile here.
fn in_the_text(around: &Surroundings) -> Vec<String> {
    let gathered = gather::gather(around, Asked::default(), &Origins::default());
    let loaded = gathered.ok().and_then(|gathered| config::load(&gathered.sources).ok());
    loaded.map_or(Vec::new(), |loaded| loaded.stack.processes.into_iter().map(|one| one.name).collect())
}
