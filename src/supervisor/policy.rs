//! The rules without a state: what an exit means, whether it asks for a restart, and after how long.

use std::time::Duration;

use super::action::Outcome;
use super::event::{Exit, FailureKind, Usage};
use crate::config::{Restart, RestartWhen, Signal};

pub(super) const SIGHUP: Signal = Signal(1);
pub(super) const SIGINT: Signal = Signal(2);
pub(super) const SIGQUIT: Signal = Signal(3);
pub(super) const SIGUSR1: Signal = Signal(10);
pub(super) const SIGUSR2: Signal = Signal(12);
pub(super) const SIGPIPE: Signal = Signal(13);
pub(super) const SIGTERM: Signal = Signal(15);
pub(super) const SIGCONT: Signal = Signal(18);
pub(super) const SIGTSTP: Signal = Signal(20);

/// The exit code that a shell would report.
pub fn code(exit: Exit) -> u8 {
    match exit {
        Exit::Code(code) => code,
        Exit::Signal { signal, .. } => signal_code(signal),
    }
}

/// 128 + n, as a shell reports a death by signal.
pub fn signal_code(signal: Signal) -> u8 {
    128 | signal.0.clamp(0, 127) as u8
}

/// The exit code that a start which failed stands for; the same numbers as a shell's.
pub fn failure_code(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::NotFound => 127,
        FailureKind::NotExecutable | FailureKind::Passing => 126,
        FailureKind::OutOfMemory => 137,
        FailureKind::Cancelled => 0,
    }
}

/// Clean in systemd's sense: exit code 0, or one of the signals that ask for an end (systemd.service(5),
/// `Restart=`).
pub fn is_clean(exit: Exit) -> bool {
    match exit {
        Exit::Code(code) => code == 0,
        Exit::Signal { signal, .. } => [SIGHUP, SIGINT, SIGTERM, SIGPIPE].contains(&signal),
    }
}

/// Why an unasked exit happened.
pub fn outcome_unasked(exit: Exit, usage: &Usage) -> Outcome {
    match exit {
        Exit::Code(0) => Outcome::Success,
        _ if usage.oom_kills > 0 => Outcome::OomKill,
        Exit::Code(_) => Outcome::ExitCode,
        Exit::Signal { core: true, .. } => Outcome::CoreDump,
        Exit::Signal { .. } => Outcome::Signal,
    }
}

/// Why an exit happened that lpm had asked for with `stop_signal`.
pub fn outcome_asked(exit: Exit, usage: &Usage, stop_signal: Signal, timed_out: bool) -> Outcome {
    match exit {
        _ if timed_out => Outcome::Timeout,
        Exit::Signal { signal, .. } if signal == stop_signal => Outcome::Success,
        _ => outcome_unasked(exit, usage),
    }
}

/// Whether an instance that could not be started for a passing reason is tried again.
pub fn wants_another_try(restart: &Restart) -> bool {
    match restart.when {
        RestartWhen::No => false,
        RestartWhen::OnFailure | RestartWhen::Always => true,
    }
}

/// Whether an instance that ended unasked is started again.
pub fn wants_restart(restart: &Restart, exit: Exit) -> bool {
    match restart.when {
        RestartWhen::No => false,
        RestartWhen::OnFailure => !is_clean(exit),
        RestartWhen::Always => true,
    }
}

/// How long before the `n`-th restart in a row (0-based): doubled each time, up to the largest.
pub fn restart_delay(restart: &Restart, n: u32) -> Duration {
    restart.delay.saturating_mul(1 << n.min(31)).min(restart.delay_max)
}
