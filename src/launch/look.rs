//! How things look on this standard output: its width, whether it is a terminal, and whether it has colours.

use jiff::tz::TimeZone;
use rustix::stdio;
use rustix::time::{ClockId, clock_gettime};

use crate::cli::Origins;
use crate::error::Error;
use crate::launch::gather::Surroundings;
use crate::output::zone;
use crate::view::Look;

/// The columns of what has no width of its own.
const COLUMNS: usize = 80;

/// Whether to colour, by what was asked for (`--color`), the environment and standard output.
///
/// # Errors
/// A rule that is none.
pub fn colour(around: &Surroundings, rule: Option<&str>, origins: &Origins) -> Result<bool, Error> {
    match rule {
        None | Some("auto") => Ok(by_itself(around)),
        Some("always") => Ok(true),
        Some("never") => Ok(false),
        Some(other) => {
            let origin = origins.of("color");
            let text = format!("{origin}: {other:?} is not a rule for colour (write auto, always or never)");
            Err(Error::new(text))
        }
    }
}

fn by_itself(around: &Surroundings) -> bool {
    let set = |name: &str| around.variable(name).is_some_and(|value| !value.is_empty());
    let dumb = around.variable("TERM").is_some_and(|term| term == "dumb");
    rustix::termios::isatty(stdio::stdout()) && !set("NO_COLOR") && !dumb
}

/// How answers look on standard output.
pub fn of_terminal(around: &Surroundings) -> Look {
    let size = rustix::termios::tcgetwinsize(stdio::stdout()).ok();
    let columns = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    let given = around.variable("COLUMNS").and_then(|text| text.to_str()?.parse().ok());
    Look {
        columns: columns.or(given).unwrap_or(COLUMNS),
        colour: by_itself(around),
        terminal: rustix::termios::isatty(stdio::stdout()),
    }
}

/// How lpm's last words look on standard error, which may be kept in a file: without colours.
pub fn of_stderr() -> Look {
    let size = rustix::termios::tcgetwinsize(stdio::stderr()).ok();
    let columns = size.map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0);
    Look {
        columns: columns.unwrap_or(COLUMNS),
        colour: false,
        terminal: rustix::termios::isatty(stdio::stderr()),
    }
}

/// The machine's time zone.
pub fn zone() -> TimeZone {
    zone::of_the_machine()
}

/// Now, µs since the epoch.
pub fn now_usec() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}
