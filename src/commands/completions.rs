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
use crate::config;
use crate::control::interface::{Status, StatusParameters};
use crate::error::{Error, words};
use crate::launch::gather::{self, Asked, Surroundings};
use crate::launch::{print, reach};
use crate::supervisor::Ending;

/// The variable by which the shell's script asks.
pub const VARIABLE: &str = "LPM_COMPLETE";

/// How long a stack may take to say its names.
const PATIENCE: Duration = Duration::from_millis(300);

/// The keys that `lpm set` is most often used for.
const KEYS: [&str; 8] = [
    "memory-max=",
    "memory-high=",
    "memory-swap-max=",
    "cpu-quota=",
    "cpu-weight=",
    "tasks-max=",
    "restart=",
    "timeout-stop=",
];

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

    fn known(self, around: &Surroundings) -> Vec<String> {
        const SIGNALS: [&str; 9] = ["HUP", "INT", "QUIT", "TERM", "KILL", "USR1", "USR2", "STOP", "CONT"];
        match self {
            What::Type => in_the_text(around),
            What::Count => in_the_text(around).into_iter().map(|name| format!("{name}=")).collect(),
            What::Running => running(around),
            What::RunningOrSignal => running(around).into_iter().chain(SIGNALS.map(str::to_owned)).collect(),
            What::Setting => KEYS.map(str::to_owned).to_vec(),
        }
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
        subcommand.mut_args(|argument| match What::of(&name, argument.get_id().as_str()) {
            Some(what) => {
                let around = around.clone();
                let candidates = move |typed: &OsStr| matching(&what.known(&around), typed);
                argument.add(ArgValueCompleter::new(candidates))
            }
            None => argument,
        })
    })
}

fn matching(known: &[String], typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    known.iter().filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
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
