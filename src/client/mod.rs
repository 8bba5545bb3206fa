//! What the commands share that speak to a running stack: which one is meant, the connection to it, its older lines,
//! and what a change leaves behind in lpm.toml.

pub mod archive;
pub mod detach_key;
pub mod late;
pub mod pattern;
pub mod reach;
pub mod save;
