//! What is different now, as people read a diff: `+` added, `-` removed, `~` changed.

use super::Look;
use super::text::{Ink, Text, wrapped};
use crate::control::interface::{Change, ChangeKind};

/// The changes, a newline after each line; `nothing changed` for none. What is the same for neighbours is said
/// once: `+ web.2 to web.30`.
pub fn changes(changes: &[Change], look: &Look) -> String {
    let mut page = String::new();
    if changes.is_empty() {
        Text::plain("nothing changed").write(look, &mut page);
        return page;
    }
    let groups = grouped(changes);
    let width = groups.iter().map(|(who, _)| who.chars().count()).max().unwrap_or(0).min(look.width() / 2);
    let room = look.width() - width - 4;
    for (who, change) in groups {
        let (sign, ink, remark) = match &change.kind {
            ChangeKind::Added => ("+", Ink::Green, None),
            ChangeKind::Removed => ("-", Ink::Red, None),
            ChangeKind::Live | ChangeKind::Stack => ("~", Ink::Yellow, None),
            ChangeKind::Restart => ("~", Ink::Yellow, Some("takes a restart")),
            ChangeKind::Unknown(kind) => ("~", Ink::Yellow, Some(kind.as_str())),
        };
        let mut label = Text::of(ink, sign).and(Ink::Plain, " ").and(Ink::Bold, &who).cut(width + 2);
        let details = change.details.iter().map(String::as_str).chain(remark);
        let lines: Vec<String> = details.flat_map(|detail| wrapped(detail, room)).collect();
        if lines.is_empty() {
            label.write(look, &mut page);
            continue;
        }
        for line in lines {
            label.padded(width + 4).and(Ink::Plain, &line).write(look, &mut page);
            label = Text::default();
        }
    }
    page
}

/// Each change with whom it concerns; neighbours of one process type with the same change are one.
fn grouped(changes: &[Change]) -> Vec<(String, &Change)> {
    let mut groups: Vec<(Vec<&str>, &Change)> = Vec::new();
    for change in changes {
        let name = change.instance.as_deref().unwrap_or("the stack");
        match groups.last_mut() {
            Some((names, first))
                if first.kind == change.kind
                    && first.details == change.details
                    && names.last().is_some_and(|last| follows(name, last)) =>
            {
                names.push(name);
            }
            _ => groups.push((vec![name], change)),
        }
    }
    let who = |names: Vec<&str>| match names.as_slice() {
        [first, .., last] if names.len() > 2 => format!("{first} to {last}"),
        _ => names.join(", "),
    };
    groups.into_iter().map(|(names, change)| (who(names), change)).collect()
}

/// Whether `name` is the instance next to `last`, in either direction: `web.3` to `web.2`.
fn follows(name: &str, last: &str) -> bool {
    let parts = |name: &str| {
        let (process, number) = name.rsplit_once('.')?;
        Some((process.to_owned(), number.parse::<u32>().ok()?))
    };
    match (parts(name), parts(last)) {
        (Some((process, number)), Some((before, last))) => process == before && number.abs_diff(last) == 1,
        _ => false,
    }
}
