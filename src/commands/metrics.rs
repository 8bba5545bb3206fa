//! `lpm metrics`.

use crate::cli::{Metrics, Origins};
use crate::control::interface::{Status, StatusParameters};
use crate::error::Error;
use crate::launch::gather::Surroundings;
use crate::launch::{print, reach};
use crate::supervisor::Ending;
use crate::view;

/// How the instances stand, as OpenMetrics text.
///
/// # Errors
/// There is no such stack or instance.
pub fn metrics(around: &Surroundings, arguments: Metrics, origins: &Origins) -> Result<Ending, Error> {
    let Metrics { names, target } = arguments;
    let mut client = reach::reach(around, &target, origins)?;
    let parameters = StatusParameters { names: Some(names), detail: None, usage: Some(true) };
    let status: Status = client.call("Status", &parameters).map_err(reach::told)?;
    print(&view::metrics(&status))
}
