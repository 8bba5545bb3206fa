//! `lpm set`: other settings for a running stack, and with `--save` for `lpm.toml` too.

use serde_json::Value;

use crate::cli::{Origins, Set};
use crate::client::{reach, save};
use crate::config;
use crate::control::interface::{Changed, SetParameters, Status, StatusParameters};
use crate::error::Error;
use crate::launch::gather::Surroundings;
use crate::launch::{look, print, print_json};
use crate::supervisor::Ending;
use crate::view;

/// Changes the running stack, and with `--save` also `lpm.toml`.
///
/// # Errors
/// A setting that is none; there is no such stack or process; a ceiling that cannot be enforced; the file cannot be
/// written (the stack is changed by then, and that is said).
pub fn set(around: &Surroundings, arguments: Set, origins: &Origins) -> Result<Ending, Error> {
    let Set { whom: name, settings, target, save, json } = arguments;
    let assignments = config::assignments(&name, &settings).map_err(Error::new)?;
    let mut client = reach::reach(around, &target, origins)?;
    let settings = assignments.iter().map(|one| (one.key.clone(), one.value.clone())).collect();
    let reply: Value = client.call("Set", &SetParameters { name, settings }).map_err(reach::told)?;
    if save {
        let status: Status = client.call("Status", &StatusParameters::default()).map_err(reach::told)?;
        save::into(&status.stack.manifest, |text| config::amend::save(text, &assignments))?;
    }
    if json {
        return print_json(&reply);
    }
    let Changed { changes } = reach::understood(reply)?;
    print(&view::changes(&changes, &look::of_terminal(around)))
}
