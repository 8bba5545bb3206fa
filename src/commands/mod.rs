//! One file per subcommand: a short script of its steps.

pub mod attach;
pub mod check;
pub mod completions;
pub mod doctor;
pub mod down;
pub mod events;
pub mod list;
pub mod logs;
pub mod man;
pub mod metrics;
pub mod order;
pub mod reload;
pub mod run;
pub mod scale;
pub mod schema;
pub mod set;
pub mod signal;
pub mod start;
pub mod status;
pub mod top;
pub mod version;
