//! placeholder
use crate::cli::Doctor; use crate::error::Error; use crate::launch::gather::Surroundings; use crate::supervisor::Ending;
pub fn doctor(_: &Surroundings, _: &Doctor) -> Result<Ending, Error> { Ok(Ending::Code(0)) }
