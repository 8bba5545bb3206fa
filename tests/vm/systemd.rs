//! systemd as an onlooker and operator has it: `systemctl`, of the manager that is in charge of us. It knows
//! nothing of lpm.

use std::collections::BTreeMap;
use std::process::Command;

use crate::stack::{Ended, Running};

/// `systemctl ARGUMENTS`, with `--user` for an ordinary user.
pub fn systemctl(arguments: &[&str]) -> Ended {
    let mut command = Command::new("systemctl");
    if !rustix::process::getuid().is_root() {
        command.arg("--user");
    }
    command.arg("--no-pager").args(arguments);
    Running::spawn(command).end()
}

/// Every property of a unit.
#[track_caller]
pub fn properties(unit: &str) -> BTreeMap<String, String> {
    let output = systemctl(&["show", "--all", unit]).exited_with(0);
    let pairs = output.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// One of them.
#[track_caller]
pub fn property(unit: &str, name: &str) -> String {
    properties(unit).remove(name).unwrap_or_else(|| panic!("{unit} has no {name}"))
}

/// Whether the manager knows nothing of a transient unit any more.
pub fn is_forgotten(unit: &str) -> bool {
    property(unit, "LoadState") == "not-found"
}
