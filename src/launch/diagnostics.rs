//! Diagnostics of lpm itself (`LPM_DEBUG`): every fact, every order, every call.
//!
//! The caller never waits until its line is written: it goes into a queue of a few thousand, and a thread takes it
//! from there, to the journal where the stack's own lines go there, or else to standard error. What the queue has no
//! room for is counted, and told. tracing-journald waits for the journal, and drops without a word what that refuses;
//! on that thread it may.
//!
//! Without `LPM_DEBUG` there is no queue and no thread, and a place that would tell something looks at one number.

use std::fmt::{self, Write};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt;

use crate::error::{Error, tell, words};

/// What asks for them: `info`, `debug` or `trace`.
pub const VARIABLE: &str = "LPM_DEBUG";

/// So many wait to be written.
const MOST: usize = 4096;

/// How long the last ones may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where they go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The journal, in the name of the stack with this label.
    Journal(String),
    /// Standard error.
    Standard,
}

/// They are written until this is dropped.
pub struct Diagnostics {
    sender: SyncSender<Order>,
}

impl Drop for Diagnostics {
    fn drop(&mut self) {
        let (done, written) = channel();
        // A thread that is stuck takes nothing more.
        if self.sender.try_send(Order::Flush(done)).is_ok() {
            let _ = written.recv_timeout(PATIENCE);
        }
    }
}

/// Reads `level`, and writes what is at least as weighty from now on.
///
/// # Errors
/// It is no level; the journal cannot be reached.
pub fn start(level: &str, place: Place) -> Result<Diagnostics, Error> {
    let level = match level {
        "info" => Level::INFO,
        "debug" => Level::DEBUG,
        "trace" => Level::TRACE,
        other => {
            return Err(Error::new(format!(
                "{VARIABLE}: {other:?} is no level (write info, debug or trace)"
            )));
        }
    };
    let failed = |error: io::Error| Error::new(format!("{VARIABLE}: {}", words(error)));
    let writer = match place {
        Place::Standard => Writer::Standard,
        Place::Journal(stack) => {
            let layer = tracing_journald::layer().map_err(failed)?;
            let priorities = PriorityMappings {
                info: Priority::Informational,
                debug: Priority::Debug,
                ..PriorityMappings::new()
            };
            let layer = layer.with_priority_mappings(priorities);
            let layer =
                layer.with_field_prefix(Some("LPM".to_owned())).with_syslog_identifier("lpm".to_owned());
            Writer::Journal(Dispatch::new(tracing_subscriber::registry().with(layer)), stack)
        }
    };
    let (sender, orders) = sync_channel(MOST);
    let queue = Queue { sender: sender.clone(), level, dropped: Arc::default() };
    let dropped = Arc::clone(&queue.dropped);
    let write = move || write(&orders, &dropped, &writer);
    thread::Builder::new().name("lpm-debug".to_owned()).stack_size(512 << 10).spawn(write).map_err(failed)?;
    // An error: somebody has done it before, as in a test.
    let _ = tracing::dispatcher::set_global_default(Dispatch::new(queue));
    Ok(Diagnostics { sender })
}

enum Order {
    Write(Entry),
    Flush(Sender<()>),
}

struct Entry {
    level: Level,
    target: &'static str,
    text: String,
}

/// The way to the thread, as tracing sees it.
struct Queue {
    sender: SyncSender<Order>,
    level: Level,
    dropped: Arc<AtomicU64>,
}

impl Subscriber for Queue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level && metadata.target().starts_with("lpm")
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let metadata = event.metadata();
        let entry = Entry { level: *metadata.level(), target: metadata.target(), text: text.0 };
        if self.sender.try_send(Order::Write(entry)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    // lpm has no spans: one thread, one thing after the other.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The message, and the fields after it.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

enum Writer {
    Journal(Dispatch, String),
    Standard,
}

fn write(orders: &Receiver<Order>, dropped: &AtomicU64, writer: &Writer) {
    for order in orders {
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let text =
                format!("{missing} diagnostics were dropped: they came faster than they could be written");
            writer.write(&Entry { level: Level::WARN, target: "lpm::launch::diagnostics", text });
        }
        match order {
            Order::Write(entry) => writer.write(&entry),
            Order::Flush(done) => drop(done.send(())),
        }
    }
}

impl Writer {
    fn write(&self, entry: &Entry) {
        let Entry { level, target, text } = entry;
        match self {
            Writer::Standard => {
                let target = target.trim_start_matches("lpm::");
                tell(format_args!("lpm: {}: {target}: {text}", level.as_str().to_lowercase()));
            }
            Writer::Journal(dispatch, stack) => {
                tracing::dispatcher::with_default(dispatch, || match *level {
                    Level::WARN => tracing::warn!(target: "lpm", stack, module = target, "{text}"),
                    Level::INFO => tracing::info!(target: "lpm", stack, module = target, "{text}"),
                    Level::DEBUG => tracing::debug!(target: "lpm", stack, module = target, "{text}"),
                    Level::TRACE => tracing::trace!(target: "lpm", stack, module = target, "{text}"),
                    _ => tracing::error!(target: "lpm", stack, module = target, "{text}"),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_and_what_there_is_no_room_for_is_counted() {
        let (sender, orders) = sync_channel(2);
        let queue = Queue { sender, level: Level::DEBUG, dropped: Arc::default() };
        let dropped = Arc::clone(&queue.dropped);
        tracing::dispatcher::with_default(&Dispatch::new(queue), || {
            tracing::trace!(target: "lpm::x", "not wanted");
            tracing::debug!(target: "other", "not ours");
            (0..5).for_each(|number| tracing::info!(target: "lpm::x", number, "said {}", "it"));
        });
        assert_eq!(dropped.load(Ordering::Relaxed), 3);
        let texts: Vec<String> = orders
            .try_iter()
            .filter_map(|order| match order {
                Order::Write(Entry { text, .. }) => Some(text),
                Order::Flush(_) => None,
            })
            .collect();
        assert_eq!(texts, ["said it number=0", "said it number=1"]);
    }

    #[test]
    fn a_level_that_is_none_is_refused() {
        let message = start("loud", Place::Standard).err().map(|error| error.to_string());
        assert_eq!(
            message.as_deref(),
            Some("lpm: LPM_DEBUG: \"loud\" is no level (write info, debug or trace)")
        );
    }
}
