//! One file per subcommand: a short script of its steps.

pub mod check;
pub mod doctor;
pub mod run;
pub mod start;
pub mod version;
