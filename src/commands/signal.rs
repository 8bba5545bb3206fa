//! `lpm signal`.

use serde_json::Value;

use crate::cli::{Origins, Signal};
use crate::client::reach;
use crate::config;
use crate::control::interface::{Instances, SignalParameters};
use crate::error::Error;
use crate::launch::gather::Surroundings;
use crate::launch::{print, print_json};
use crate::supervisor::Ending;

/// Sends it, and says to whom.
///
/// # Errors
/// There is no such signal, stack or instance; it does not run.
pub fn signal(around: &Surroundings, arguments: Signal, origins: &Origins) -> Result<Ending, Error> {
    let Signal { words: mut names, target, main, json } = arguments;
    let signal = names.pop().unwrap_or_default();
    // Judged here too: the words are for this command's user.
    let known: config::Signal = signal.parse().map_err(|message: String| Error::new(message))?;
    let mut client = reach::reach(around, &target, origins)?;
    let parameters = SignalParameters { names, signal, main: Some(main) };
    let reply: Value = client.call("Signal", &parameters).map_err(reach::told)?;
    if json {
        return print_json(&reply);
    }
    let Instances { instances } = reach::understood(reply)?;
    print(&format!("sent {known} to {}\n", instances.join(", ")))
}
