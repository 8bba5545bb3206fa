//! `lpm version`.

use crate::error::Error;
use crate::launch::print;
use crate::supervisor::Ending;

/// Prints name and version.
///
/// # Errors
/// None; a closed standard output ends it quietly.
pub fn version() -> Result<Ending, Error> {
    print(&format!("lpm {}\n", env!("CARGO_PKG_VERSION")))
}
