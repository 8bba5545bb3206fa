//! The run as a picture, and as data: what happened when, and what was used meanwhile.
//!
//! Values in, text out: [`html`] and [`json`]. Whoever records a run fills in a [`Report`].

mod chart;
mod page;

pub use page::html;

use serde::Serialize;

use crate::control::interface::{Ceilings, Event, LifeResult, Tier};

/// A whole run. Its fields, in JSON, are documented in `docs/report.md`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Of this layout; what is added later leaves it as it is.
    pub version: u32,
    /// The stack's label.
    pub stack: String,
    /// lpm's own version.
    pub lpm: String,
    /// How much of cgroups there was.
    pub tier: Tier,
    /// When lpm started the stack, µs since the epoch.
    pub began: u64,
    /// When its last leaf was empty, µs since the epoch.
    pub ended: u64,
    /// lpm's own exit code, or 128 plus the signal it ends by.
    pub exit_code: u8,
    /// On all instances together.
    pub ceilings: Ceilings,
    /// When it was looked at, µs since the epoch; the series have a value for each.
    pub times: Vec<u64>,
    /// All instances together.
    pub total: Series,
    /// In file order, then by number.
    pub instances: Vec<Instance>,
    /// What happened, in its order.
    pub events: Vec<Event>,
    /// Events that happened before those and are not kept.
    pub events_missed: u64,
}

/// The report as JSON.
pub fn json(report: &Report) -> String {
    serde_json::to_string_pretty(report).expect("a report is plain data") + "\n"
}

/// One instance over the whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Instance {
    /// `web.1`.
    pub name: String,
    /// `web`.
    pub process: String,
    /// The text after the colon.
    pub command: String,
    /// As they were in the end.
    pub ceilings: Ceilings,
    /// What it used.
    pub series: Series,
    /// What it came to.
    pub summary: Summary,
}

/// What was counted, at each of [`Report::times`]; `None`: not counted on this machine, or nothing ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Series {
    /// In use, bytes.
    pub memory: Vec<Option<u64>>,
    /// CPU time of the present life so far, µs: it begins anew with each.
    pub cpu_usec: Vec<Option<u64>>,
    /// Processes and threads.
    pub tasks: Vec<Option<u64>>,
    /// Lines said so far, by the whole instance.
    pub lines: Vec<u64>,
}

/// What one instance came to; amounts are over all its lives.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Why its last life ended; `None`: it was never started.
    pub result: Option<LifeResult>,
    /// In words, as the table at the end of a run has it: `exit code 3`.
    pub ended: String,
    /// Why, in words, if its last life failed.
    pub failure: Option<String>,
    /// Lives.
    pub starts: u32,
    /// By its restart rule.
    pub restarts: u32,
    /// Processes that outlived their main process, and were ended.
    pub leftovers: u32,
    /// µs.
    pub cpu_usec: u64,
    /// The most that was in use, bytes.
    pub memory_peak: Option<u64>,
    /// Processes killed at a memory ceiling.
    pub oom_kills: u64,
    /// Lines.
    pub lines: u64,
    /// Of those lines, in bytes.
    pub bytes: u64,
}

#[cfg(test)]
mod tests;
