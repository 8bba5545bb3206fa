//! States and results in words, and the dot that stands for one: a shape and a colour.
//!
//! The shapes are one cell wide in every font that has them, and every usual font has them; what an emoji font
//! would draw (a pause sign, a snowflake) is not among them.

use super::moment;
use super::text::Ink;
use crate::control::interface::{Instance, InstanceState, LifeResult, StackState};

/// A dot: its shape and its colour.
pub(super) type Dot = (&'static str, Ink);

const RUNS: Dot = ("●", Ink::Green);
const COMES: Dot = ("↻", Ink::Yellow);
pub(super) const STANDS_STILL: Dot = ("‖", Ink::Cyan);
const GOES: Dot = ("◐", Ink::Yellow);
const BAD: Dot = ("×", Ink::Red);
/// Also of a state that is not known here, of a later lpm.
pub(super) const NOTHING: Dot = ("○", Ink::Plain);

/// The dot of an instance.
pub(super) fn dot(state: &InstanceState) -> Dot {
    match state {
        InstanceState::Running => RUNS,
        InstanceState::Starting | InstanceState::RestartWait => COMES,
        InstanceState::Freezing | InstanceState::Frozen => STANDS_STILL,
        InstanceState::StopSigterm | InstanceState::StopSigkill => GOES,
        InstanceState::Failed | InstanceState::Stuck => BAD,
        InstanceState::Inactive | InstanceState::Unknown(_) => NOTHING,
    }
}

/// Whether it needs somebody to look at it.
pub(super) fn is_bad(state: &InstanceState) -> bool {
    dot(state) == BAD
}

/// The dot of a stack.
pub(super) fn dot_of_the_stack(state: &StackState) -> Dot {
    match state {
        StackState::Up => RUNS,
        StackState::Frozen => STANDS_STILL,
        StackState::TearDown => GOES,
        StackState::Unknown(_) => NOTHING,
    }
}

/// `running`, `stopping`, `failed (exit-code 3)`, `restart in 2s`.
pub(super) fn words(instance: &Instance, now_usec: u64) -> String {
    let state = &instance.state;
    match state {
        InstanceState::StopSigterm => "stopping".to_owned(),
        InstanceState::StopSigkill => "being killed".to_owned(),
        InstanceState::RestartWait => match instance.restart_at.map(|at| moment::until(at, now_usec)) {
            Some(Some(left)) => format!("restart in {left}"),
            Some(None) => "restarting".to_owned(),
            None => state.to_string(),
        },
        InstanceState::Failed | InstanceState::Inactive => match short_result(instance) {
            Some(result) => format!("{state} ({result})"),
            None => state.to_string(),
        },
        InstanceState::Starting
        | InstanceState::Running
        | InstanceState::Freezing
        | InstanceState::Frozen
        | InstanceState::Stuck
        | InstanceState::Unknown(_) => state.to_string(),
    }
}

/// The stack's state: `up`, `frozen`, `being torn down`.
pub(super) fn of_the_stack(state: &StackState) -> &str {
    match state {
        StackState::TearDown => "being torn down",
        StackState::Up | StackState::Frozen | StackState::Unknown(_) => state.as_str(),
    }
}

/// Whether something of it is there. Of a state that is not known the main process says it.
pub(super) fn lives(instance: &Instance) -> bool {
    instance.state.has_life() || instance.pid.is_some()
}

/// The result with the number that says most: `exit-code 3`, `SIGSEGV`, `oom-kill`.
fn short_result(instance: &Instance) -> Option<String> {
    let result = instance.result.as_ref()?;
    Some(match (result, instance.exit_code, &instance.signal) {
        (LifeResult::ExitCode, Some(code), _) => format!("{result} {code}"),
        (LifeResult::Signal, _, Some(signal)) => signal.clone(),
        (
            LifeResult::ExitCode
            | LifeResult::Signal
            | LifeResult::Success
            | LifeResult::CoreDump
            | LifeResult::Timeout
            | LifeResult::OomKill
            | LifeResult::StartLimitHit
            | LifeResult::Resources
            | LifeResult::Unknown(_),
            ..,
        ) => result.to_string(),
    })
}

/// How the last main process ended, in foreman's words; `None` if it never did.
pub(super) fn exit(instance: &Instance) -> Option<String> {
    match (instance.exit_code, &instance.signal) {
        (Some(code), _) => Some(format!("exited with code {code}")),
        (None, Some(signal)) => Some(format!("terminated by {signal}")),
        (None, None) => None,
    }
}
