//! `lpm metrics`.

use crate::cli::{Metrics, Origins};
use crate::client::reach;
use crate::control::interface::{Status, StatusParameters};
use crate::control::metrics::{Format, metrics as text};
use crate::error::Error;
use crate::launch::gather::Surroundings;
use crate::launch::{print, say};
use crate::supervisor::Ending;

/// How the instances stand, as text for Prometheus.
///
/// # Errors
/// There is no such stack or instance.
pub fn metrics(around: &Surroundings, arguments: Metrics, origins: &Origins) -> Result<Ending, Error> {
    let Metrics { names, target, openmetrics } = arguments;
    let mut client = reach::reach(around, &target, origins)?;
    let parameters = StatusParameters { names: Some(names), detail: None, usage: Some(true) };
    let status: Status = client.call("Status", &parameters).map_err(reach::told)?;
    let format = if openmetrics { Format::OpenMetrics } else { Format::Prometheus };
    let text = text(&status, format);
    // A scraper gets names as they are.
    if rustix::termios::isatty(rustix::stdio::stdout()) { say(&text) } else { print(&text) }
}
