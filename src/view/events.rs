//! `lpm events`: one line for each, `Nov 25 01:02:03 web.1  started  started with pid 4711`. Like a log's, the lines
//! are never cut.

use jiff::tz::TimeZone;

use super::lines::Names;
use super::text::{Ink, Text};
use super::{Look, moment};
use crate::control::interface::{Event, LifeResult};

/// The length of `start-limit-hit`, the longest kind.
const KIND: usize = 15;

/// The event as a line with its newline.
pub fn event(event: &Event, names: &Names, zone: &TimeZone, look: &Look) -> String {
    let name = names.padded(event.instance.as_deref().unwrap_or("system"));
    let line = Text::of(Ink::Faint, &moment::short_stamp(event.time, zone))
        .and(Ink::Plain, &format!(" {name}  "))
        .and(ink(event), &format!("{:KIND$}", event.event))
        .and(Ink::Plain, &format!("  {}", event.message));
    let line = match &event.trace {
        Some(trace) => line.and(Ink::Faint, &format!(" {}", trace.message)),
        None => line,
    };
    let mut written = String::new();
    line.write(&Look { columns: usize::MAX, ..*look }, &mut written);
    written
}

fn ink(event: &Event) -> Ink {
    match event.event.as_str() {
        "started" | "resumed" => Ink::Green,
        "cannot-start" | "given-up" | "oom-kill" | "start-limit-hit" => Ink::Red,
        "ended" if event.result.as_ref().is_some_and(LifeResult::is_failure) => Ink::Red,
        "left-behind" | "killing" | "killing-all" | "tasks-refused" | "restart-in" => Ink::Yellow,
        "suspended" => Ink::Cyan,
        _ => Ink::Plain,
    }
}
