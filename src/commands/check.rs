//! placeholder
use crate::cli::{Check, Origins}; use crate::error::Error; use crate::launch::gather::Surroundings; use crate::supervisor::Ending;
pub fn check(_: &Surroundings, _: Check, _: &Origins) -> Result<Ending, Error> { Ok(Ending::Code(0)) }
