//! States and results in words, and the dot that stands for one: a shape and a colour.
//!
//! The shapes are one cell wide in every font that has them, and every usual font has them; what an emoji font
//! would draw (a pause sign, a snowflake) is not among them.

use super::moment;
use super::text::Ink;
use crate::control::interface::Instance;

/// The dot of an instance's state, or of the stack's. A state that is not known here, of a later lpm, has the dot
/// of one that does nothing.
pub(super) fn dot(state: &str) -> (&'static str, Ink) {
    match state {
        "running" | "up" => ("●", Ink::Green),
        "starting" | "restart-wait" => ("↻", Ink::Yellow),
        "freezing" | "frozen" | "stopped" => ("‖", Ink::Cyan),
        "stop-sigterm" | "stop-sigkill" | "tear-down" => ("◐", Ink::Yellow),
        "failed" | "stuck" => ("×", Ink::Red),
        _ => ("○", Ink::Plain),
    }
}

/// `running`, `stopping`, `failed (exit-code 3)`, `restart in 2s`.
pub(super) fn words(instance: &Instance, now_usec: u64) -> String {
    match (instance.state.as_str(), short_result(instance)) {
        ("stop-sigterm", _) => "stopping".to_owned(),
        ("stop-sigkill", _) => "being killed".to_owned(),
        ("restart-wait", _) => match instance.restart_at.map(|at| moment::until(at, now_usec)) {
            Some(Some(left)) => format!("restart in {left}"),
            Some(None) => "restarting".to_owned(),
            None => "restart-wait".to_owned(),
        },
        (state @ ("failed" | "inactive"), Some(result)) => format!("{state} ({result})"),
        (state, _) => state.to_owned(),
    }
}

/// The stack's state: `up`, `frozen`, `being torn down`.
pub(super) fn of_the_stack(state: &str) -> &str {
    if state == "tear-down" { "being torn down" } else { state }
}

/// Whether something of it is there.
pub(super) fn lives(instance: &Instance) -> bool {
    !matches!(instance.state.as_str(), "inactive" | "failed" | "restart-wait")
}

/// The result with the number that says most: `exit-code 3`, `SIGSEGV`, `oom-kill`.
fn short_result(instance: &Instance) -> Option<String> {
    let result = instance.result.as_deref()?;
    Some(match (result, instance.exit_code, &instance.signal) {
        ("exit-code", Some(code), _) => format!("exit-code {code}"),
        ("signal", _, Some(signal)) => signal.clone(),
        _ => result.to_owned(),
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
