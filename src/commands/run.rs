//! placeholder
use crate::cli::{Run, Origins}; use crate::error::Error; use crate::launch::gather::Surroundings; use crate::supervisor::Ending;
pub fn run(_: &Surroundings, _: Run, _: &Origins) -> Result<Ending, Error> { Ok(Ending::Code(0)) }
