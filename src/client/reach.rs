//! Reaching a running stack: which one is meant, the connection to it, and its refusals in a user's words.
//!
//! Meant is, in this order: the socket that was named; the stack of that name; the stack of the Procfile that `lpm
//! start` would run here; the one stack in whose root we stand. Never some other one just because it is the only
//! one: `down` would take down a stranger.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::claim::{self, Identity, Record};
use crate::cli::{Origins, StackArgs, TargetArgs};
use crate::config::NoSuch;
use crate::control::client::{Client, Trouble};
use crate::control::interface::Refusal;
use crate::error::{Error, words};
use crate::launch::gather::{self, Surroundings};

/// Connects to the stack that is meant.
///
/// # Errors
/// There is none, or it cannot be told which; what runs is listed.
pub fn reach(around: &Surroundings, target: &TargetArgs, origins: &Origins) -> Result<Client, Error> {
    reach_if_up(around, target, origins)?
}

/// The same; the error within, where none runs that is meant.
///
/// # Errors
/// It cannot be told which is meant.
pub fn reach_if_up(
    around: &Surroundings,
    target: &TargetArgs,
    origins: &Origins,
) -> Result<Result<Client, Error>, Error> {
    let (path, owner) = match socket_of(around, target, origins)? {
        Ok(found) => found,
        Err(none) => return Ok(Err(none)),
    };
    let client = Client::connect(&path).map(|client| client.served_by(owner)).map_err(|error| {
        let shown = path.display();
        match (error.kind(), owner) {
            (io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused, Some(pid)) => Error::new(format!(
                "{shown}: lpm (pid {pid}) does not listen there now: it is ending, or its control socket was \
                 removed (kill -CONT {pid} has it made again)"
            )),
            (io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused, None) => {
                Error::new(format!("{shown}: no stack listens there (lpm list shows what runs)"))
            }
            _ => Error::new(format!("{shown}: {}", words(error))),
        }
    });
    client.map(Ok)
}

/// The root of the stack that is meant, whether it runs or not.
///
/// # Errors
/// As [`gather::locate`].
pub fn root(around: &Surroundings, target: &TargetArgs, origins: &Origins) -> Result<PathBuf, Error> {
    gather::locate(around, &stack_of(target), origins).map(|located| located.root)
}

/// The part of it that says which Procfile.
fn stack_of(target: &TargetArgs) -> StackArgs {
    StackArgs { procfile: target.procfile.clone(), root: target.root.clone(), ..StackArgs::default() }
}

/// Every running stack of this user, the oldest first.
///
/// # Errors
/// The runtime directory is not ours alone.
pub fn running(around: &Surroundings) -> Result<Vec<Record>, Error> {
    let (xdg, home) = (around.variable("XDG_RUNTIME_DIR"), around.variable("HOME"));
    claim::runtime_directory(xdg, home).map_err(Error::new)?;
    let directories = claim::runtime_directories(xdg, home);
    for socket in directories.iter().flat_map(|(_, path)| claim::sockets_without_a_record(path)) {
        call_for_its_record(&socket);
    }
    Ok(claim::running(&directories.into_iter().map(|(directory, _)| directory).collect::<Vec<_>>()))
}

/// A stack whose record was removed puts it back when a client calls. What came of the call does not matter.
fn call_for_its_record(socket: &Path) {
    /// A stack that is stopped does not answer.
    const PATIENCE: Duration = Duration::from_secs(1);
    if let Ok(mut client) = Client::connect(socket) {
        client.patience(PATIENCE);
        let _ = client.call::<Value>("Status", &serde_json::json!({ "names": [] }));
    }
}

/// Who runs the stack that would be started by these arguments, if anybody does and can be asked.
///
/// # Errors
/// As [`gather::locate`].
pub fn owner(
    around: &Surroundings,
    stack: &StackArgs,
    origins: &Origins,
) -> Result<Option<(Record, Client)>, Error> {
    let located = gather::locate(around, stack, origins)?;
    let place = Identity { root: &located.root, procfile: &located.procfile, name: "" }.place();
    let same = |one: &Record| one.place == place && stack.name.as_ref().is_none_or(|name| one.name == *name);
    // Where nobody can be found, nobody is asked.
    let running = running(around).unwrap_or_default();
    let Some(record) = running.into_iter().find(same) else { return Ok(None) };
    let client = record.socket.as_deref().and_then(|path| Client::connect(path).ok());
    let owner = Some(record.pid);
    Ok(client.map(|client| (record, client.served_by(owner))))
}

/// Where it listens, and its lpm's process, if that is known.
fn socket_of(
    around: &Surroundings,
    target: &TargetArgs,
    origins: &Origins,
) -> Result<Result<(PathBuf, Option<u32>), Error>, Error> {
    if let Some(path) = &target.socket {
        let path = around.directory.join(path);
        let running = running(around).unwrap_or_default();
        let owner = running.iter().find(|one| one.socket.as_ref() == Some(&path)).map(|one| one.pid);
        return Ok(Ok((path, owner)));
    }
    let running = running(around)?;
    let (found, meant) = match &target.name {
        Some(name) => {
            (running.iter().filter(|one| one.name == *name).collect(), format!("no stack called {name} runs"))
        }
        None => (here(around, target, origins, &running)?, "no stack runs here".to_owned()),
    };
    match found.as_slice() {
        [one] => match &one.socket {
            Some(path) => Ok(Ok((path.clone(), Some(one.pid)))),
            None => Err(Error::new(format!(
                "stack {} (pid {}) has no control socket; its start said why",
                one.name, one.pid
            ))),
        },
        [] if running.is_empty() => {
            Ok(Err(Error::new(format!("{meant}, nor anywhere else (lpm start runs one)"))))
        }
        [] => Ok(Err(choice(&format!("{meant}; running elsewhere:"), &running.iter().collect::<Vec<_>>()))),
        several => Err(choice("more than one is meant:", several)),
    }
}

/// The stacks of the Procfile that is meant, or else of the directory that we are in.
fn here<'a>(
    around: &Surroundings,
    target: &TargetArgs,
    origins: &Origins,
    running: &'a [Record],
) -> Result<Vec<&'a Record>, Error> {
    let located = gather::locate(around, &stack_of(target), origins)?;
    let place = Identity { root: &located.root, procfile: &located.procfile, name: "" }.place();
    let of_place: Vec<&Record> = running.iter().filter(|one| one.place == place).collect();
    if !of_place.is_empty() || target.procfile.is_some() {
        return Ok(of_place);
    }
    let within = target.root.as_ref().map_or(around.directory.as_path(), |_| located.root.as_path());
    // Whoever stands beside a Procfile means that one, or another one's stack in the same root.
    let own = located.procfile.is_file();
    let is_above = |root: &Path| if own { located.root == root } else { within.starts_with(root) };
    let above: Vec<&Record> = running.iter().filter(|one| is_above(Path::new(&one.root))).collect();
    // The innermost root: of a checkout within a checkout the inner one is meant.
    let innermost = above.iter().map(|one| one.root.len()).max();
    Ok(above.into_iter().filter(|one| Some(one.root.len()) == innermost).collect())
}

fn choice(what: &str, records: &[&Record]) -> Error {
    let line = |one: &&Record| match &one.socket {
        Some(socket) => {
            format!("  {} (pid {}) in {}: --socket {}", one.name, one.pid, one.root, socket.display())
        }
        None => format!("  {} (pid {}) in {}", one.name, one.pid, one.root),
    };
    let hint = "name one: --name NAME, --socket PATH, or go to its directory".to_owned();
    Error::several([what.to_owned()].into_iter().chain(records.iter().map(line)).chain([hint]))
}

/// A reply as a value of its own type.
///
/// # Errors
/// It is not what this lpm expects: the other one is of another version.
pub fn understood<T: DeserializeOwned>(reply: Value) -> Result<T, Error> {
    serde_json::from_value(reply).map_err(|error| Error::new(format!("the reply is not understood: {error}")))
}

/// Why something was not done, in a user's words.
pub fn told(trouble: Trouble) -> Error {
    let refusal = match trouble {
        Trouble::Ended => return Error::new("the stack ended before it answered"),
        Trouble::Stopped { pid, asked } => {
            let then = if asked { "; what was asked may be done when it goes on" } else { "" };
            return Error::new(format!(
                "lpm (pid {pid}) is stopped (Ctrl-Z) and answers nobody: fg there, or kill -CONT {pid}{then}"
            ));
        }
        Trouble::Other(text) => return Error::new(text),
        Trouble::Refused(refusal) => refusal,
    };
    match refusal {
        Refusal::NoSuchInstance { name, known, nearest } => {
            Error::new(NoSuch { name, known, nearest }.to_string())
        }
        Refusal::ShuttingDown {} => Error::new("the stack is being torn down"),
        Refusal::Superseded {} => Error::new("not done: something else came between (lpm events says what)"),
        Refusal::InstanceFailed { instance, result, exit_code } => {
            let why = match (result, exit_code) {
                (Some(result), Some(code)) => format!(" ({result}, code {code})"),
                (Some(result), None) => format!(" ({result})"),
                (None, _) => String::new(),
            };
            Error::new(format!("{instance} failed{why}; lpm status {instance} says more"))
        }
        Refusal::NotRunning { instance } => {
            Error::new(format!("{instance} does not run (lpm start {instance} would have it run)"))
        }
        Refusal::NoTerminal { instance } => Error::new(format!(
            "{instance} has no terminal of its own \
             (start the stack with --pty, or write pty = true in lpm.toml; lpm logs -f {instance} shows its lines)"
        )),
        Refusal::CannotEnforce { ceiling, reason, fix } => Error::several([
            format!("{ceiling} cannot be enforced: {reason}"),
            format!("to have it enforced: {}", fix.replace('\n', "\n     ")),
        ]),
        Refusal::Invalid { messages } => Error::several(messages),
        Refusal::Unavailable { reason } => Error::new(reason),
    }
}
