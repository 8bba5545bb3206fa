//! What the journal is told of a line and of an event: fields and values. Pure.
//!
//! Every kind of event that people look for has a fixed `MESSAGE_ID`, which `units/lpm.catalog` explains to
//! `journalctl -x`.

use crate::control::interface::{Event, EventKind, LifeResult, LineStream};
use crate::linux::journal::put_field;
use crate::meaning::level::{INFO, level};
use crate::output::Stream;
use crate::output::history::{Line, Origin};
use crate::wording::event::Priority;

/// Who lpm is where it speaks of no instance.
const LPM: &str = "lpm";

/// What stands in every entry of a stack.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The stack's label.
    pub stack: String,
    /// Of this run of it, 128 bits in hexadecimal.
    pub run: String,
    /// The stack's root.
    pub root: Vec<u8>,
}

/// A line that an instance said, or lpm. `invocation`: the how-manieth life of the instance it is of, if known.
pub fn line(entry: &mut Vec<u8>, identity: &Identity, line: &Line, invocation: Option<u64>) {
    let (priority, text) = match line.origin {
        Origin::Lpm { .. } => (INFO, &*line.text),
        Origin::Instance(_) => level(&line.text),
    };
    put(entry, identity, &line.instance, priority, text);
    put_field(entry, "LPM_TIME", line.time_usec.to_string().as_bytes());
    match line.origin {
        // One that both streams share says nothing about either.
        Origin::Instance(Stream::Merged) => {}
        Origin::Instance(Stream::Out | Stream::Err) | Origin::Lpm { .. } => {
            put_field(entry, "LPM_STREAM", LineStream::from(line.origin).as_str().as_bytes());
        }
    }
    if line.continues {
        put_field(entry, "LPM_PART", b"1");
    }
    if let Some(invocation) = invocation.filter(|_| is_instance(&line.instance)) {
        put_field(entry, "LPM_INVOCATION", invocation.to_string().as_bytes());
    }
}

/// Something that happened. `time`: of the line that tells of it, µs since the epoch.
pub fn event(entry: &mut Vec<u8>, identity: &Identity, event: &Event, time: u64, invocation: Option<u64>) {
    let instance = event.instance.as_deref().unwrap_or(LPM);
    put(entry, identity, instance, event.row().priority as u8, event.message.as_bytes());
    put_field(entry, "LPM_STREAM", LineStream::Lpm.as_str().as_bytes());
    put_field(entry, "LPM_TIME", time.to_string().as_bytes());
    put_field(entry, "LPM_EVENT", event.event.as_str().as_bytes());
    // That the kernel killed is told by itself only where the instance lives on.
    let killed = event.result == Some(LifeResult::OomKill);
    let row = if killed { EventKind::OomKill.row(true) } else { event.row() };
    if let Some(id) = row.message_id {
        put_field(entry, "MESSAGE_ID", id.as_bytes());
    }
    let usage = event.usage.as_ref();
    let number = |value: Option<u64>| value.map(|value| value.to_string());
    for (field, value) in [
        ("LPM_INVOCATION", number(invocation.filter(|_| event.instance.is_some()))),
        ("LPM_PID", number(event.pid.map(u64::from))),
        ("LPM_EXIT_CODE", number(event.exit_code.map(u64::from))),
        ("LPM_SIGNAL", event.signal.clone()),
        ("LPM_RESULT", event.result.as_ref().map(LifeResult::to_string)),
        ("LPM_CAUSE", event.cause.clone()),
        ("LPM_MEMORY_PEAK", number(usage.and_then(|usage| usage.memory_peak))),
        ("LPM_MEMORY_MAX", number(event.ceilings.as_ref().and_then(|ceilings| ceilings.memory_max))),
        ("LPM_TASKS_MAX", number(event.ceilings.as_ref().and_then(|ceilings| ceilings.tasks_max))),
        ("LPM_CPU_USEC", number(usage.and_then(|usage| usage.cpu_usec))),
        ("LPM_OOM_KILLS", number(usage.and_then(|usage| usage.oom_kills))),
        ("LPM_TASKS_REFUSED", number(usage.and_then(|usage| usage.tasks_refused))),
    ] {
        if let Some(value) = value {
            put_field(entry, field, value.as_bytes());
        }
    }
}

/// That so many lines were not sent.
pub fn missed(entry: &mut Vec<u8>, identity: &Identity, count: u64) {
    let (lines, were) = if count == 1 { ("line", "was") } else { ("lines", "were") };
    let text = format!("{count} {lines} {were} not taken in time by the journal, and {were} dropped");
    put(entry, identity, LPM, Priority::Warning as u8, text.as_bytes());
    put_field(entry, "LPM_MISSED", count.to_string().as_bytes());
}

fn put(entry: &mut Vec<u8>, identity: &Identity, instance: &str, priority: u8, text: &[u8]) {
    put_field(entry, "MESSAGE", text);
    put_field(entry, "PRIORITY", &[b'0' + priority]);
    put_field(entry, "LPM_STACK", identity.stack.as_bytes());
    put_field(entry, "LPM_RUN", identity.run.as_bytes());
    put_field(entry, "LPM_ROOT", &identity.root);
    if is_instance(instance) {
        put_field(entry, "SYSLOG_IDENTIFIER", instance.as_bytes());
        put_field(entry, "LPM_INSTANCE", instance.as_bytes());
        let process = instance.rsplit_once('.').map_or(instance, |(process, _)| process);
        put_field(entry, "LPM_PROCESS", process.as_bytes());
    } else {
        put_field(entry, "SYSLOG_IDENTIFIER", LPM.as_bytes());
    }
}

/// `web.1` is one, `system` is not.
fn is_instance(name: &str) -> bool {
    name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::interface::{Ceilings, Usage};

    fn identity() -> Identity {
        Identity { stack: "shop".to_owned(), run: "0".repeat(32), root: b"/srv/shop".to_vec() }
    }

    /// The fields of an entry whose values are single lines.
    fn fields(entry: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(entry).into_owned();
        const OF_ALL: [&str; 4] = ["LPM_STACK=shop", "LPM_ROOT=/srv/shop", "LPM_RUN=", "LPM_TIME="];
        let of_all = |field: &str| OF_ALL.iter().any(|known| field.starts_with(known));
        assert_eq!(text.lines().filter(|field| of_all(field)).count(), OF_ALL.len(), "{text}");
        text.lines().filter(|field| !of_all(field)).map(str::to_owned).collect()
    }

    #[test]
    fn a_line_has_its_instance_and_its_level() {
        let said = |origin, text: &[u8]| Line {
            sequence: 0,
            time_usec: 0,
            instance: "web.1".into(),
            origin,
            text: text.to_vec(),
            continues: false,
        };
        let mut entry = Vec::new();
        line(&mut entry, &identity(), &said(Origin::Instance(Stream::Err), b"<3>broken"), Some(2));
        assert_eq!(
            fields(&entry),
            [
                "MESSAGE=broken",
                "PRIORITY=3",
                "SYSLOG_IDENTIFIER=web.1",
                "LPM_INSTANCE=web.1",
                "LPM_PROCESS=web",
                "LPM_STREAM=err",
                "LPM_INVOCATION=2"
            ]
        );
        let mut entry = Vec::new();
        let part = Line { continues: true, ..said(Origin::Instance(Stream::Merged), b"long") };
        line(&mut entry, &identity(), &part, None);
        let all = fields(&entry);
        assert!(
            all.contains(&"LPM_PART=1".to_owned()) && !all.iter().any(|f| f.contains("STREAM")),
            "{all:?}"
        );
        let mut entry = Vec::new();
        let own = Line { instance: "system".into(), ..said(Origin::Lpm { event: None }, b"ports: web 5000") };
        line(&mut entry, &identity(), &own, Some(1));
        assert_eq!(
            fields(&entry),
            ["MESSAGE=ports: web 5000", "PRIORITY=6", "SYSLOG_IDENTIFIER=lpm", "LPM_STREAM=lpm"]
        );
    }

    #[test]
    fn an_event_has_what_is_known_of_it() {
        let ended = Event {
            sequence: 0,
            time: 0,
            event: EventKind::Ended,
            instance: Some("worker.2".into()),
            message: "terminated by SIGKILL".into(),
            pid: None,
            exit_code: None,
            signal: Some("SIGKILL".into()),
            result: Some(LifeResult::OomKill),
            cause: Some("killed at its memory limit".into()),
            trace: None,
            ceilings: Some(Ceilings { memory_max: Some(64), ..Ceilings::default() }),
            usage: Some(Usage {
                memory_peak: Some(64),
                cpu_usec: Some(5),
                oom_kills: Some(1),
                ..Usage::default()
            }),
        };
        let mut entry = Vec::new();
        event(&mut entry, &identity(), &ended, 7, Some(1));
        assert_eq!(
            fields(&entry),
            [
                "MESSAGE=terminated by SIGKILL",
                "PRIORITY=4",
                "SYSLOG_IDENTIFIER=worker.2",
                "LPM_INSTANCE=worker.2",
                "LPM_PROCESS=worker",
                "LPM_STREAM=lpm",
                "LPM_EVENT=ended",
                "MESSAGE_ID=07e6df78ed124bbb8c3fb5157c7dc349",
                "LPM_INVOCATION=1",
                "LPM_SIGNAL=SIGKILL",
                "LPM_RESULT=oom-kill",
                "LPM_CAUSE=killed at its memory limit",
                "LPM_MEMORY_PEAK=64",
                "LPM_MEMORY_MAX=64",
                "LPM_CPU_USEC=5",
                "LPM_OOM_KILLS=1"
            ]
        );
    }
}
