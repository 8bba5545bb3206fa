//! Environments: what is inherited, what files say, what lpm injects, in one order everywhere.
//!
//! Inherited < env files (`--env-precedence inherited` turns these two round) < lpm.toml < injected. What all
//! instances share is kept once, in [`Stack::environment`]; an instance holds only what is laid over it.
//!
//! Inherited variables are passed on untouched, lpm's own options (`LPM_MEM`, …) included, so that an `lpm
//! run` inside an instance means what it means outside. Only [`SCRUBBED`] is taken out.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::dotenv::Variable;
use super::error::{Diagnostic, MOST_FINDINGS, Place};
use super::stack::{Instance, Stack};
use super::words::Precedence;

/// Inherited variables that are meant for lpm itself and would mislead a child: systemd's for the service's
/// main process (systemd.exec(5), sd_notify(3), sd_listen_fds(3)), lpm's own between re-executions, and the
/// key to another stack.
pub const SCRUBBED: [&str; 21] = [
    "LPM_SCOPE",
    "LPM_STDIN_FD",
    "LPM_LAUNCHER_FD",
    "LPM_CGROUP",
    "LPM_DEBUG",
    "LPM_SOCKET",
    "NOTIFY_SOCKET",
    "FDSTORE",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LISTEN_PID",
    "LISTEN_PIDFDID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "MAINPID",
    "MANAGERPID",
    "SYSTEMD_EXEC_PID",
    "MEMORY_PRESSURE_WATCH",
    "MEMORY_PRESSURE_WRITE",
];

/// The largest `NAME=value` that a program can be given, its NUL included, bytes: `MAX_ARG_STRLEN` of execve(2), where a
/// page has 4 KiB.
pub const LARGEST_VARIABLE: usize = 128 << 10;

/// The largest sum of all values that env files set, bytes: execve(2) gives a program no more than that in all.
pub const LARGEST_ENVIRONMENT: usize = 6 << 20;

/// Whether a variable is more than a program can be given.
pub(super) fn is_too_large(name: &str, length: usize) -> bool {
    name.len() + length + "=\0".len() > LARGEST_VARIABLE
}

/// The final environment of an instance: each name once, ready for exec.
pub fn environment_of(stack: &Stack, instance: &Instance) -> Vec<(OsString, OsString)> {
    let over = &instance.environment;
    let mut environment = Vec::with_capacity(stack.environment.len() + over.len());
    // A handful of names lies over it: a scan beats a map.
    let kept = stack.environment.iter().filter(|(name, _)| !over.iter().any(|(o, _)| o == name));
    environment.extend(kept.cloned());
    environment.extend(over.iter().cloned());
    environment
}

/// Variables in order, each name once; a later value takes the place of an earlier one.
#[derive(Debug, Clone, Default)]
pub(super) struct Variables {
    pairs: Vec<(OsString, OsString)>,
    index: HashMap<OsString, usize>,
}

impl Variables {
    pub(super) fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let (name, value) = (name.into(), value.into());
        match self.index.get(&name) {
            Some(&at) => self.pairs[at].1 = value,
            None => {
                self.index.insert(name.clone(), self.pairs.len());
                self.pairs.push((name, value));
            }
        }
    }

    pub(super) fn value(&self, name: impl AsRef<OsStr>) -> Option<&OsStr> {
        self.index.get(name.as_ref()).map(|&at| self.pairs[at].1.as_os_str())
    }

    pub(super) fn into_pairs(self) -> Vec<(OsString, OsString)> {
        self.pairs
    }
}

/// What came of merging the inherited environment with the env files.
pub(super) struct Merged {
    pub all: Variables,
    /// What the files said and was used, without the inherited.
    pub declared: Variables,
    /// Where `PORT` comes from: a line of a file, or the environment.
    pub port: Place,
}

/// Lays `files` over `inherited` (or under it), and resolves references on the way.
pub(super) fn merge(
    inherited: &[(OsString, OsString)],
    files: &[(&str, Vec<Variable>)],
    precedence: Precedence,
    problems: &mut Vec<Diagnostic>,
) -> Merged {
    let mut all = Variables::default();
    for (name, value) in inherited {
        if !SCRUBBED.iter().any(|scrubbed| name == scrubbed) {
            all.set(name.clone(), value.clone());
        }
    }
    let fixed: HashMap<OsString, usize> = match precedence {
        Precedence::File => HashMap::new(),
        Precedence::Inherited => all.index.clone(),
    };
    let mut declared = Variables::default();
    let mut port = Place::whole("environment");
    let (mut total, mut unset) = (0, 0);
    for (label, variables) in files {
        for variable in variables {
            for name in variable.references().filter(|name| all.value(name).is_none()) {
                unset += 1;
                if unset > MOST_FINDINGS {
                    break;
                }
                let message =
                    format!("{} refers to {name}, which is not set; it stands for nothing", variable.key);
                problems.push(Diagnostic::note(Place::line(label, variable.line), message));
            }
            if fixed.contains_key(OsStr::new(&variable.key)) {
                continue;
            }
            let value = variable.value(LARGEST_VARIABLE, |name| all.value(name));
            let value =
                value.filter(|value| !is_too_large(&variable.key, value.len())).unwrap_or_else(|| {
                    let message = format!(
                        "the value of {} is larger than {} KiB, which no program can be given",
                        variable.key,
                        LARGEST_VARIABLE >> 10
                    );
                    problems.push(Diagnostic::error(Place::line(label, variable.line), message));
                    OsString::new()
                });
            total += value.len();
            if total > LARGEST_ENVIRONMENT {
                let message = format!(
                    "the values up to here are larger than {} MiB together, which no program can be given",
                    LARGEST_ENVIRONMENT >> 20
                );
                problems.push(Diagnostic::error(Place::line(label, variable.line), message));
                return Merged { all, declared, port };
            }
            if variable.key == "PORT" {
                port = Place::line(label, variable.line);
            }
            all.set(&variable.key, value.clone());
            declared.set(&variable.key, value);
        }
    }
    Merged { all, declared, port }
}

/// What lpm says to every instance alike.
pub(super) fn inject_shared<'a>(
    all: &mut Variables,
    stack: &str,
    root: &Path,
    ports: impl Iterator<Item = (&'a str, u16)>,
) {
    all.set("LPM_STACK", stack);
    // As a shell would: what is inherited names another directory.
    all.set("PWD", root);
    let mut taken = HashSet::new();
    for (name, port) in ports {
        let variable = port_variable(name);
        if taken.insert(variable.clone()) {
            all.set(variable, port.to_string());
        }
    }
}

/// What lpm says to one instance.
///
/// `socket` is handed to those alone that may control their own stack.
pub(super) fn injected(
    instance: &str,
    process: &str,
    port: Option<u16>,
    socket: Option<&Path>,
) -> Vec<(OsString, OsString)> {
    let mut variables: Vec<(OsString, OsString)> = Vec::with_capacity(7);
    if let Some(port) = port {
        variables.push(("PORT".into(), port.to_string().into()));
    }
    for name in ["PS", "LPM_INSTANCE", "HONCHO_PROCESS_NAME", "FOREMAN_WORKER_NAME"] {
        variables.push((name.into(), instance.into()));
    }
    variables.push(("LPM_PROCESS".into(), process.into()));
    if let Some(socket) = socket {
        variables.push(("LPM_SOCKET".into(), socket.into()));
    }
    variables
}

/// `LPM_PORT_FOO_BAR` for `foo-bar`.
pub(super) fn port_variable(process: &str) -> String {
    let letters =
        process.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' });
    "LPM_PORT_".chars().chain(letters).collect()
}

/// Whether `name` tells the port of a process type to all of them.
pub(super) fn is_port_of_another(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"LPM_PORT_")
}

/// Whether only lpm says what `name` is.
pub(super) fn is_injected(name: &str, ports: bool) -> bool {
    match name {
        "PORT" => ports,
        "PS"
        | "LPM_PROCESS"
        | "LPM_INSTANCE"
        | "LPM_STACK"
        | "LPM_RUN"
        | "LPM_SOCKET"
        | "HONCHO_PROCESS_NAME"
        | "FOREMAN_WORKER_NAME" => true,
        _ => name.starts_with("LPM_PORT_"),
    }
}
