//! How a life failed: rows for `lpm status web.1`, and a block of its own for the end of a run.
//!
//! ```text
//! × web.1 - python3 app.py
//!     Failure: exited with code 1
//!              after 230ms, restart 2, it ended the stack
//!       Error: ValueError: no such thing
//!              at app.py:12 in parse (python)
//!
//!     | Traceback (most recent call last):
//! ```
//!
//! What is said about it is wrapped and never cut; its last lines are cut where a terminal shows them.

use std::time::Duration;

use super::lines::{self, content};
use super::text::{Ink, LABELS, Text, counted, fill, wrapped};
use super::{Look, moment};
use crate::config::quantity::format_duration;
use crate::control::interface::{Failure, Instance, InstanceState, LineStream, NextStep};

const NOT_AGAIN: &str = "not started again";
const ENDED_THE_STACK: &str = "it ended the stack";

/// An instance whose last life failed, as the end of a run tells of it; a newline after each line.
pub fn failure(name: &str, command: &str, failure: &Failure, look: &Look) -> String {
    let mut page = String::new();
    let head = Text::of(Ink::Red, "×").and(Ink::Plain, " ").and(Ink::Bold, name);
    head.and(Ink::Plain, " - ").and(Ink::Plain, command).write(look, &mut page);
    let next = match &failure.next {
        NextStep::Restart => &["not restarted;", "the stack ended first"][..],
        NextStep::Rest => &[NOT_AGAIN],
        NextStep::StackEnds => &[ENDED_THE_STACK],
        NextStep::Unknown(next) => &[next.as_str()],
    };
    rows(failure, None, next, look).into_iter().for_each(|row| row.write(look, &mut page));
    if !failure.lines.is_empty() {
        page.push('\n');
    }
    for line in &failure.lines {
        let prefix = if line.stream == LineStream::Err { "    ! " } else { "    | " };
        let room = if look.terminal { look.width().saturating_sub(prefix.len()) } else { usize::MAX };
        page.push_str(prefix);
        page.push_str(&lines::on_one_line(&content(line), room, look.colour));
        page.truncate(page.trim_end().len());
        page.push('\n');
    }
    page
}

/// The rows of an instance's page.
pub(super) fn of_instance(instance: &Instance, now_usec: u64, look: &Look) -> Vec<Text> {
    let Some(failure) = &instance.failure else { return Vec::new() };
    let goes_on = instance.invocation > failure.invocation;
    let waits = instance.state == InstanceState::RestartWait || instance.state.is_stopping();
    let next = match &failure.next {
        NextStep::Restart if goes_on => "restarted since",
        NextStep::Restart if waits => "to be restarted",
        NextStep::Restart => "not restarted",
        NextStep::Rest if goes_on => "started again on request",
        NextStep::Rest => NOT_AGAIN,
        NextStep::StackEnds => ENDED_THE_STACK,
        NextStep::Unknown(next) => next,
    };
    rows(failure, Some(now_usec), &[next], look)
}

/// `next`: what came of it, in parts between which a line may end.
fn rows(failure: &Failure, now_usec: Option<u64>, next: &[&str], look: &Look) -> Vec<Text> {
    let said = |label: &str, ink: Ink, text: &str| {
        let lines = wrapped(text, look.width() - LABELS - 2).into_iter().enumerate();
        let line = |(at, line): (usize, String)| {
            let label =
                if at == 0 && !label.is_empty() { format!("{label:>LABELS$}: ") } else { String::new() };
            Text::plain(&label).padded(LABELS + 2).and(ink, &line)
        };
        lines.map(line).collect::<Vec<Text>>()
    };
    let mut rows = said("Failure", Ink::Red, &failure.cause);
    let plain = |text: String| Some(Text::plain(&text));
    let left = failure.leftovers;
    let parts = [
        failure.pid.and_then(|_| plain(format!("after {}", lived(failure)))),
        (failure.restarts > 0).then(|| format!("restart {}", failure.restarts)).and_then(plain),
        now_usec.and_then(|now| plain(format!("{} ago", moment::ago(failure.time, now)))),
        (left > 0)
            .then(|| counted(left.into(), "process outlived it", "processes outlived it"))
            .and_then(plain),
    ];
    let next = next.iter().map(|part| Text::plain(part));
    let parts: Vec<Text> = parts.into_iter().flatten().chain(next).collect();
    rows.extend(fill(Text::blanks(LABELS + 2), parts, look));
    if let Some(trace) = &failure.trace {
        rows.extend(said("Error", Ink::Plain, &trace.message));
        let place = trace.location.as_ref().map_or(String::new(), |place| format!("at {place} "));
        rows.extend(said("", Ink::Plain, &format!("{place}({})", trace.language)));
    }
    if !failure.nearest.is_empty() {
        rows.extend(said("Nearest", Ink::Plain, &failure.nearest.join(", ")));
    }
    failure.notes.iter().for_each(|note| rows.extend(said("Note", Ink::Plain, note)));
    rows
}

/// How long it lived: `230ms`, `5s`, `3h 2min`.
fn lived(failure: &Failure) -> String {
    let usec = failure.time.saturating_sub(failure.started);
    match usec {
        0..1_000_000 => format_duration(Duration::from_millis(usec / 1000)),
        1_000_000.. => moment::span(usec),
    }
}
