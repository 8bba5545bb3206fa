//! Thin adapters, each knowing one kernel interface and nothing about lpm.
//!
//! Facts come out of here and orders go in; nothing in here decides. Files avoid each other except
//! where one needs the other's handle. A thing that went away (a process, a cgroup) is an answer, not an
//! error. `unsafe` lives in `spawn`, `pidfd` and `signals` alone.

pub mod attributes;
pub mod birth;
pub mod cgroup;
pub mod descendants;
pub mod gauge;
pub mod guardian;
pub mod handover;
pub mod journal;
pub mod notify;
pub mod pidfd;
pub mod pty;
pub mod remains;
pub mod reserve;
pub mod round;
pub mod scope;
pub mod service;
pub mod sight;
pub mod signals;
pub mod spawn;
pub mod steps;
pub mod terminal;
pub mod tier;
pub mod tree;
