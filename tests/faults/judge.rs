//! What must hold after a run, whatever happened in it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use crate::program::{Program, looks_until};
use crate::stack::Stack;

/// How long lpm may take to end once it was asked: its grace of a second, five more for what does not end after
/// SIGKILL, and a busy machine.
pub const ENDS_WITHIN: Duration = Duration::from_secs(15);
/// How long what lpm had may need to vanish after it, when the guardian has to remove it.
pub const VANISHES_WITHIN: Duration = Duration::from_secs(5);

/// Words that are never true here: no process of these scenarios is in uninterruptible sleep.
const UNTRUE: &[&str] = &["cannot be killed", "uninterruptible", "panicked", "stack overflow", "BUG:"];

/// The signals that a program ends by when it is broken.
const BROKEN: &[Signal] = &[Signal::ABORT, Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE, Signal::XFSZ];

/// What is wrong, in words; empty if nothing is.
#[derive(Default)]
pub struct Problems(pub Vec<String>);

impl Problems {
    /// Adds one.
    pub fn add(&mut self, what: impl Into<String>) {
        self.0.push(what.into());
    }

    /// An end that is no program's intention.
    pub fn in_end(&mut self, status: Option<ExitStatus>) {
        match status.map(|status| (status, status.signal())) {
            None => self.add(format!("not ended {} s after SIGTERM", ENDS_WITHIN.as_secs())),
            Some((status, Some(signal))) if BROKEN.iter().any(|broken| broken.as_raw() == signal) => {
                self.add(format!("ended by {status}"));
            }
            Some((status, None)) if status.code() == Some(134) || status.code() == Some(139) => {
                self.add(format!("ended with {status}"));
            }
            Some(_) => {}
        }
    }

    /// Words that are not true, in what lpm or its clients printed.
    pub fn in_words(&mut self, stack: &Stack, text: &str) {
        for words in UNTRUE.iter().filter(|words| text.contains(**words)) {
            self.add(format!("says \"{words}\""));
        }
        let began = stack.read("began");
        for line in text.lines().filter(|line| line.contains("never ran")) {
            let name = line.split_whitespace().next().unwrap_or_default();
            if began.lines().any(|began| began == name) {
                self.add(format!("says \"never ran\" of {name}, which ran"));
            }
        }
    }

    /// Processes and cgroups that outlive the run.
    pub fn in_what_is_left(&mut self, stack: &Stack) {
        if !looks_until(VANISHES_WITHIN, || stack.alive().is_empty()) {
            self.add(format!("left behind: {}", stack.alive().join(", ")));
        }
    }

    /// Processes that outlive the run; cgroups may stay until the next start.
    pub fn in_survivors(&mut self, stack: &Stack) {
        if !looks_until(VANISHES_WITHIN, || stack.processes().is_empty()) {
            self.add(format!("survivors: {}", stack.alive().join(", ")));
        }
    }

    /// The next start and stop of the same stack: they work, and leave nothing of either run.
    pub fn in_next_start(&mut self, stack: &Stack) -> String {
        let written = stack.write("lpm.toml", "");
        let written = written.and_then(|()| stack.write("Procfile", "z: echo next; exec sleep 1000\n"));
        let started = written.and_then(|()| Program::start(stack.lpm(&["start"])));
        let mut lpm = match started {
            Ok(lpm) => lpm,
            Err(error) => {
                self.add(format!("next start: {error}"));
                return String::new();
            }
        };
        if !lpm.sees("| next", ENDS_WITHIN) {
            self.add("next start: does not come up");
        }
        lpm.signal(Signal::TERM);
        let status = lpm.ends(ENDS_WITHIN);
        match status.map(|status| status.signal()) {
            Some(Some(signal)) if signal == Signal::TERM.as_raw() => {}
            _ => self.add(format!("next start: ended with {status:?}")),
        }
        let text = lpm.text();
        for words in UNTRUE.iter().filter(|words| text.contains(**words)) {
            self.add(format!("next start: says \"{words}\""));
        }
        // Of what was there before, the guardian of a killed lpm may be the one that removes it.
        if !looks_until(Duration::from_secs(1), || stack.left().is_empty()) {
            self.add(format!("after the next start and stop: {}", stack.left().join(", ")));
        }
        text
    }
}
