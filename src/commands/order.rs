//! `lpm stop`, `lpm restart`, `lpm kill`, `lpm freeze`, `lpm thaw`: the verbs that differ in a word alone.

use serde_json::Value;

use crate::cli::{Order, Origins};
use crate::client::reach;
use crate::control::interface::{ChangeKind, Named, Restarted, Verb};
use crate::error::{Error, tell};
use crate::launch::gather::Surroundings;
use crate::launch::{look, print, print_json};
use crate::supervisor::Ending;
use crate::view;

/// Has it done, and says to whom.
///
/// # Errors
/// There is no such stack or instance; it could not be done.
pub fn order(
    around: &Surroundings,
    verb: Verb,
    arguments: Order,
    origins: &Origins,
) -> Result<Ending, Error> {
    let Order { names, target, no_wait, json } = arguments;
    let mut client = reach::reach(around, &target, origins)?;
    let parameters = Named { names: Some(names), wait: Some(!no_wait) };
    let reply: Value = client.call(verb.method(), &parameters).map_err(reach::told)?;
    if json {
        return print_json(&reply);
    }
    // The other verbs' replies are this one without changes and notes.
    let Restarted { instances, mut changes, notes } = reach::understood(reply)?;
    if !no_wait {
        // They had it, and are not to be told that they need it.
        changes.iter_mut().filter(|change| change.kind == ChangeKind::Restart).for_each(|change| {
            change.kind = ChangeKind::Live;
        });
    }
    notes.iter().for_each(|note| tell(format_args!("lpm: {note}")));
    let done = if no_wait { "under way for" } else { verb.past() };
    let look = look::of_terminal(around);
    let changes = if changes.is_empty() { String::new() } else { view::changes(&changes, &look) };
    print(&format!("{done} {}\n{changes}", instances.join(", ")))
}
