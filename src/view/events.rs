//! `lpm events`: one line for each, `Nov 25 01:02:03 web.1  started  started with pid 4711`. Like a log's, the lines
//! are never cut.

use jiff::tz::TimeZone;

use super::lines::Names;
use super::text::{Ink, Text};
use super::{Look, moment};
use crate::control::interface::{Event, EventKind};
use crate::wording::event::Tone;

/// The event as a line with its newline.
pub fn event(event: &Event, names: &Names, zone: &TimeZone, look: &Look) -> String {
    let name = names.padded(event.instance.as_deref().unwrap_or("system"));
    let line = Text::of(Ink::Faint, &moment::short_stamp(event.time, zone))
        .and(Ink::Plain, &format!(" {name}  "))
        .and(ink(event.row().tone), &format!("{:width$}", event.event, width = width()))
        .and(Ink::Plain, &format!("  {}", event.message));
    let line = match &event.trace {
        Some(trace) => line.and(Ink::Faint, &format!(" {}", trace.message)),
        None => line,
    };
    let mut written = String::new();
    line.write(&Look { columns: usize::MAX, ..*look }, &mut written);
    written
}

fn ink(tone: Tone) -> Ink {
    match tone {
        Tone::Plain => Ink::Plain,
        Tone::Good => Ink::Green,
        Tone::Uneasy => Ink::Yellow,
        Tone::Bad => Ink::Red,
        Tone::Still => Ink::Cyan,
    }
}

/// The length of the longest kind.
fn width() -> usize {
    EventKind::ALL.iter().map(|kind| kind.as_str().len()).max().unwrap_or(0)
}
