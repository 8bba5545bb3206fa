//! The words of lpm's own lines that tell of no event, and those that several kinds of events share.
//!
//! Pure: values in, text without a newline out.

use std::fmt::Write;

use crate::config::quantity::{format_cpu_time, format_memory, format_tasks};
use crate::config::{Ceiling, Command, Instance, Stack};
use crate::supervisor::{Exit, Failure, FailureKind, Stage};

/// A log file takes no lines.
pub fn log_file_refuses(path: &str, reason: &str) -> String {
    format!("{path} cannot be written: {reason} (its lines are counted)")
}

/// It takes lines again.
pub fn log_file_recovered(path: &str, lines: u64) -> String {
    format!("{path} is written again, {} missing", counted(lines, "line is", "lines are"))
}

/// It cannot be opened.
pub fn log_file_not_opened(path: &str, reason: &str) -> String {
    format!("{path} cannot be opened: {reason}")
}

/// It is large or old enough for a new one, and stays.
pub fn log_file_not_put_aside(path: &str, reason: &str) -> String {
    format!("{path} cannot be put aside, it grows on: {reason}")
}

/// `waiting for web.1: 4711 (sleep 100), 4712 (cat)`; of many, the first few.
pub fn waiting_for(name: &str, processes: &[(u32, String)]) -> String {
    const SHOWN: usize = 5;
    let mut text = format!("waiting for {name}");
    for (at, (pid, command)) in processes.iter().take(SHOWN).enumerate() {
        let command: String =
            command.chars().map(|c| if c.is_control() { ' ' } else { c }).take(60).collect();
        let separator = if at == 0 { ":" } else { "," };
        write!(text, "{separator} {pid} ({command})").expect("a String takes everything");
    }
    match processes.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// How a main process ended, in foreman's words: `exited with code 3`, `terminated by SIGTERM`.
pub fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with code {code}"),
        Exit::Signal { signal, .. } => format!("terminated by {signal}"),
    }
}

/// The program that is executed for an instance.
pub(super) fn program(instance: &Instance) -> String {
    match &instance.command {
        Command::Shell(_) => "/bin/sh".to_owned(),
        Command::Direct { words, .. } => words.first().cloned().unwrap_or_default(),
        Command::Exec(words) => {
            words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
        }
    }
}

/// `cannot start: …`
pub(super) fn cannot_start(instance: &Instance, stack: &Stack, failure: &Failure) -> String {
    let program = program(instance);
    match (failure.kind, instance.ceilings.memory_max, stack.ceilings.memory_max) {
        (FailureKind::OutOfMemory, Some(ceiling @ Ceiling::At(_)), _) => {
            format!("cannot start: memory limit {} is too small", format_memory(ceiling))
        }
        (FailureKind::OutOfMemory, _, Some(ceiling @ Ceiling::At(_))) => {
            format!("cannot start: the stack's memory limit {} is too small", format_memory(ceiling))
        }
        (FailureKind::NotFound, ..) => format!("cannot start: {program}: command not found"),
        (
            FailureKind::OutOfMemory
            | FailureKind::NotExecutable
            | FailureKind::Passing
            | FailureKind::Cancelled,
            ..,
        ) => {
            let stage = match &failure.stage {
                Stage::Program => &program,
                stage => stage_name(stage),
            };
            format!("cannot start: {stage}: {}", failure.reason)
        }
    }
}

/// A step of a start, as people are told of it. That of the program is told by the program's name.
fn stage_name(stage: &Stage) -> &str {
    match stage {
        Stage::Order => "start",
        Stage::Cgroup => "cgroup",
        Stage::Limit(name) | Stage::Attribute(name) => name,
        Stage::Environment => "environment",
        Stage::NullDevice => "/dev/null",
        Stage::Pty => "terminal",
        Stage::Journal => "journal",
        Stage::OutputPipe => "output pipe",
        Stage::Process => "new process",
        Stage::Session => "session",
        Stage::ControllingTerminal => "controlling terminal",
        Stage::Stdio => "standard input and output",
        Stage::Directory => "working directory",
        Stage::Signals => "signals",
        Stage::Program => "program",
        Stage::Killed => "killed before it began",
    }
}

/// Which ceiling an OOM kill defended, as far as the settings tell.
pub(super) fn which_ceiling(instance: &Instance, stack: &Stack) -> String {
    match (instance.ceilings.memory_max, stack.ceilings.memory_max) {
        (Some(ceiling @ Ceiling::At(_)), _) => format!("memory limit {} reached", format_memory(ceiling)),
        (_, Some(ceiling @ Ceiling::At(_))) => {
            format!("the stack's memory limit {} reached", format_memory(ceiling))
        }
        _ => "out of memory".to_owned(),
    }
}

pub(super) fn tasks_ceiling(instance: &Instance, stack: &Stack) -> String {
    let ceiling = instance.ceilings.tasks_max.or(stack.ceilings.tasks_max);
    ceiling.map_or_else(|| "above lpm".to_owned(), format_tasks)
}

/// After a gap: lines that standard output refused.
pub fn lines_lost(lines: u64, reason: &str) -> String {
    format!("{} could not be written: {reason}", counted(lines, "line", "lines"))
}

/// After a gap: lpm's own lines that found no room while nobody read.
pub fn own_lines_dropped(lines: u64) -> String {
    format!("{} of lpm's own dropped while nobody read the output", counted(lines, "line", "lines"))
}

/// After a gap: invocations that came and went while nobody read.
pub fn unheard(invocations: u64) -> String {
    format!("output of {} dropped while nobody read it", counted(invocations, "process", "processes"))
}

/// `1 process`, `3 processes`.
pub fn processes(n: u32) -> String {
    counted(u64::from(n), "process", "processes")
}

pub(super) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Processor time: `3ms`, `1.24s`, `2min 5s`, `3h 20min`.
pub fn cpu_time(us: u64) -> String {
    format_cpu_time(us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_are_waited_for_are_named_within_bounds() {
        let processes: Vec<_> = (1..=7).map(|pid| (pid, format!("sleep\n{pid}"))).collect();
        assert_eq!(
            waiting_for("web.1", &processes),
            "waiting for web.1: 1 (sleep 1), 2 (sleep 2), 3 (sleep 3), 4 (sleep 4), 5 (sleep 5) and 2 more"
        );
        assert_eq!(waiting_for("web.1", &[]), "waiting for web.1");
    }

    #[test]
    fn gaps() {
        assert_eq!(
            lines_lost(1, "No space left on device"),
            "1 line could not be written: No space left on device"
        );
        assert_eq!(own_lines_dropped(2), "2 lines of lpm's own dropped while nobody read the output");
        assert_eq!(unheard(2), "output of 2 processes dropped while nobody read it");
    }

    #[test]
    fn times_are_short() {
        let times = [0, 999, 3_000, 1_240_000, 125_000_000, 12_000_000_000].map(cpu_time);
        assert_eq!(times, ["0ms", "0ms", "3ms", "1.24s", "2min 5s", "3h 20min"]);
    }
}
