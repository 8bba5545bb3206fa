//! `lpm scale`.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cli::{Origins, Scale};
use crate::client::{reach, save};
use crate::config;
use crate::control::interface::{Changed, ScaleParameters, Status, StatusParameters};
use crate::error::Error;
use crate::launch::gather::Surroundings;
use crate::launch::{look, print, print_json};
use crate::supervisor::Ending;
use crate::view;

/// Has so many of each, and says who came and who went.
///
/// # Errors
/// A count that is none; there is no such stack or process type; an instance that did not come up.
pub fn scale(around: &Surroundings, arguments: Scale, origins: &Origins) -> Result<Ending, Error> {
    let Scale { counts, target, no_wait, save, json } = arguments;
    let mut wanted = BTreeMap::new();
    for item in
        counts.iter().flat_map(|words| words.split(',')).map(str::trim).filter(|item| !item.is_empty())
    {
        let count =
            item.split_once('=').and_then(|(name, count)| Some((name.trim(), count.trim().parse().ok()?)));
        let (name, count): (&str, u32) = count.ok_or_else(|| {
            Error::new(format!("{item:?} is not a count (write a process type and how many: web=3)"))
        })?;
        wanted.insert(name.to_owned(), count);
    }
    let mut client = reach::reach(around, &target, origins)?;
    let parameters = ScaleParameters { counts: wanted.clone(), wait: Some(!no_wait) };
    let reply: Value = client.call("Scale", &parameters).map_err(reach::told)?;
    if save {
        let status: Status = client.call("Status", &StatusParameters::default()).map_err(reach::told)?;
        save::into(&status.stack.manifest, |text| config::amend::save_formation(text, &wanted))?;
    }
    if json {
        return print_json(&reply);
    }
    let Changed { changes } = reach::understood(reply)?;
    print(&view::changes(&changes, &look::of_terminal(around)))
}
