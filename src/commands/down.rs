//! `lpm down`.

use serde_json::Value;

use crate::cli::{Down, Origins};
use crate::control::interface::DownParameters;
use crate::error::Error;
use crate::launch::gather::Surroundings;
use crate::launch::{print, reach};
use crate::supervisor::Ending;

/// Has the stack torn down, and returns when lpm itself is gone too: then it can be started again.
///
/// # Errors
/// There is no such stack.
pub fn down(around: &Surroundings, arguments: Down, origins: &Origins) -> Result<Ending, Error> {
    let Down { target, no_wait, json } = arguments;
    let mut client = reach::reach(around, &target, origins)?;
    let reply: Value = client.call("Down", &DownParameters { wait: Some(!no_wait) }).map_err(reach::told)?;
    if !no_wait {
        client.wait_for_the_end();
    }
    if json { print(&format!("{reply:#}\n")) } else { Ok(Ending::Code(0)) }
}
