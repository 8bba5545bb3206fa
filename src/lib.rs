//! lpm: a Linux-native supervisor for Procfiles.
//!
//! The table of contents, so that tests, benches and fuzz targets reach the parts. Facts go up
//! (from `linux` to `supervisor`), orders go down, and only the middle decides; `docs/architecture.md`
//! has the picture.

// `eprintln!` panics where standard error cannot be written; `error::tell` does not.
#![cfg_attr(not(test), deny(clippy::print_stderr))]

#[cfg(test)]
#[macro_use]
#[path = "../tests/skipped/note.rs"]
mod skips;

pub mod claim;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod control;
pub mod driver;
pub mod error;
pub mod escape;
pub mod journal;
pub mod launch;
pub mod linux;
pub mod meaning;
pub mod output;
pub mod report;
pub mod supervisor;
pub mod view;
mod vocabulary;
pub mod wording;
