//! The real binary, as people and their scripts meet it: through pipes, a terminal and signals.
//!
//! Runs as any user. Without cgroups some tests say `skipped NAME: reason`. After each, nothing of what it
//! started may be there: no process, no cgroup, no record (see `stack.rs`).

#[macro_use]
#[path = "../skipped/note.rs"]
mod skips;

mod attach;
mod bad_input;
mod bounds;
mod commands;
mod completions;
mod control;
mod control_clients;
mod control_peers;
mod control_reload;
mod control_text;
mod control_where;
mod crash;
mod detached;
mod edges;
mod ending;
mod escapes;
mod execution;
mod identity;
mod journal;
mod lines;
mod logging;
mod logs;
mod metrics;
mod newer_peer;
mod one_off;
mod pty;
mod replaced;
mod report;
mod signals;
mod snapshot;
mod stack;
mod starting;
mod stopping;
mod strangers;
mod top;
mod varlink;
