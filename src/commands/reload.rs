//! `lpm reload`: what changed in the text, applied to a running stack.

use serde_json::Value;

use crate::cli::{Origins, Reload};
use crate::client::reach;
use crate::control::interface::{ReloadParameters, Reloaded};
use crate::error::{Error, tell};
use crate::launch::gather::Surroundings;
use crate::launch::{look, print, print_json};
use crate::supervisor::Ending;
use crate::view;

/// Has the files read again and what changed applied, and shows it.
///
/// # Errors
/// There is no such stack; a file is wrong, and nothing was changed then; an instance that did not come up.
pub fn reload(around: &Surroundings, arguments: Reload, origins: &Origins) -> Result<Ending, Error> {
    let Reload { target, dry_run, no_wait, json } = arguments;
    let mut client = reach::reach(around, &target, origins)?;
    let parameters = ReloadParameters { dry_run: Some(dry_run), wait: Some(!no_wait) };
    let reply: Value = client.call("Reload", &parameters).map_err(reach::told)?;
    if json {
        return print_json(&reply);
    }
    let Reloaded { changes, notes } = reach::understood(reply)?;
    notes.iter().for_each(|note| tell(format_args!("lpm: {note}")));
    print(&view::changes(&changes, &look::of_terminal(around)))
}
