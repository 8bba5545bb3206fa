//! The log path: from the children's pipes to standard output and log files.
//!
//! One thread of its own does all of it, apart from the supervision: it waits for its pipes and for orders,
//! reads a chunk, cuts it into lines, puts prefix and line into one batch, and writes the batch. Whatever is
//! written was copied once, from the buffer that was read into to the batch.
//!
//! **Who waits for whom.** The write blocks. When nobody reads standard output (Ctrl-S, a full pipe), the
//! thread stands in `write` and therefore reads no pipe, the pipes fill, and the children stand in their own
//! `write`, as they would in front of a terminal. Nothing is hoarded. Supervision never waits: an order to
//! this thread goes into a queue, and a caller who needs to know that it was carried out gets a [`Notice`].
//! Waiting for that notice without a limit would be waiting for the terminal.
//!
//! **Order.** Orders are carried out in the order given, each before anything is read that was written after
//! it was given: `say("sending SIGTERM …")` before the signal is sent stands before what a child answers to
//! it. For the obituary after the last line there is [`Log::settle`], which prints what the pipe holds at
//! that moment, an unterminated line included. It never waits for the end of the file: an escaped daemon may
//! hold the pipe.
//!
//! **Who else gets it.** Log files ([`files`]) are written as standard output is, by this thread. A [`history`] keeps every line for those who ask later, those that are not shown
//! included. The bytes of a source that has a terminal of its own go to its [`screen`] as they come, and its
//! lines are what is left without the terminal's doing (`sequence.rs`). Both take what they are given and never
//! hold anybody up.
//!
//! **Every buffer has a bound**, and a plan for full:
//!
//! | buffer | bound | when full |
//! | --- | --- | --- |
//! | what is read into, shared | [`CHUNK`] | |
//! | the batch | 256 KiB | written |
//! | an unfinished line, per source | [`lines::LONGEST`] | what there is of it is printed, the rest as it comes |
//! | orders | 1000 lines, 64 sources | further lines are counted, the gap announced; sources that end unheard are too |
//! | the history, per instance | what its maker says | the oldest lines go; followers are told how many |
//! | a screen's newest bytes | [`screen::KEPT`] | the oldest go; viewers repaint |
//! | what standard output or a file refuses (no space) | 0 | lines are counted, the gap announced when it takes some again |
//!
//! **Lines stay whole.** Other sources' lines never come in between the pieces of a long one: while it is
//! being printed its source *holds* the output and the others wait in their pipes. Not for ever: when
//! somebody waits, a holder that falls silent, or goes on for too long, loses its hold; a newline ends what
//! was printed, and the rest comes as a line of its own whose bar is a `+`. `pump.rs` has the limits.
//!
//! **Signals** are the main thread's business. A thread inherits its creator's mask, so call [`Log::start`]
//! with signals blocked if handlers must not run here; handlers that only write a byte to a pipe (tokio's)
//! may run anywhere.
//!
//! This module refuses to know which process wrote a line, or why it ended; and what it means, unless records are
//! to be written for people (`--pretty`).

mod emulator;
pub mod files;
pub mod history;
pub mod json;
pub mod lines;
#[doc(hidden)]
pub mod modes;
mod outlet;
mod page;
mod pump;
pub mod screen;
#[doc(hidden)]
pub mod sequence;
pub mod terminal;
#[cfg(test)]
mod tests;
mod waiting;
pub mod zone;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::config::LogFile;
pub use files::LogFiles;
use history::{EventId, History};
use screen::Screen;
pub use terminal::{Label, Layout};

/// The most that is read from one source before the next has its turn, in bytes: what a pipe holds.
pub const CHUNK: usize = 64 * 1024;

/// A source of lines: one pipe (or terminal) of one invocation. The driver numbers them and uses no number
/// twice; the two highest are not available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u64);

/// Which of an instance's streams a source carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output and standard error together, in the order they were written.
    Merged,
    /// Standard output alone (`--split-stderr`).
    Out,
    /// Standard error alone (`--split-stderr`); its lines are marked.
    Err,
}

/// What to do with what a source says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// Print it; control sequences are shown where the layout asks for it.
    Print,
    /// The same, JSON and logfmt lines written for people (`--pretty`).
    PrintPretty,
    /// Print it as it is: the source has a terminal of its own (`--pty`).
    PrintRaw,
    /// Read it and don't print it (`--quiet`).
    Discard,
}

/// A source, as the driver describes it.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its number.
    pub id: SourceId,
    /// In whose name its lines stand.
    pub label: Label,
    /// Which stream it carries.
    pub stream: Stream,
    /// What to do with it.
    pub treatment: Treatment,
    /// The number of the life that it is of, by which the history tells lives apart.
    pub life: u32,
    /// It is the master of a terminal, whose bytes also go to this screen. The screen is emptied when the source
    /// is opened.
    pub screen: Option<Arc<Screen>>,
}

/// What the log thread has to tell. Called on that thread, so it should do no more than pass it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Everything ordered before [`Log::flush`] with this token was written, or given up for good.
    Flushed(u64),
    /// Everything ordered before [`Log::mark`] with this token was carried out: what a source had said by then is in
    /// the history. Whether it was written is another matter.
    Reached(u64),
    /// Nobody reads standard output any more (EPIPE). Said once. From now on sources are read and dropped, so
    /// that no child hangs in a `write` before it is stopped.
    ReaderLeft,
    /// Standard output refuses to be written (ENOSPC, EIO, …). Said once per episode. Lines are counted until
    /// it takes some again, and then the gap is announced there.
    Failed(Errno),
}

/// Where lines go.
pub struct Sinks {
    /// Standard output. It may be blocking or not; it is written to by the log thread alone.
    pub stdout: OwnedFd,
    /// What goes there.
    pub shown: Shown,
    /// How lines look there.
    pub layout: Layout,
    /// What keeps all lines, if somebody may want them.
    pub history: Option<Arc<History>>,
    /// Log files.
    pub files: LogFiles,
}

/// What goes to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Nothing.
    Nothing,
    /// What those sources say that are printed.
    Sources,
    /// That, and what lpm says.
    All,
}

/// Where what stands in one name goes, if that is somewhere else than where the rest goes.
#[derive(Debug, Clone)]
pub struct Route {
    /// Whose.
    pub label: Label,
    /// Into these files.
    pub files: Vec<LogFile>,
    /// Whether it is for the journal.
    pub journal: bool,
}

/// The driver's handle on the log thread. No call waits. Dropping it ends the thread once the orders are
/// carried out; it does not wait for that either.
#[derive(Debug)]
pub struct Log {
    orders: Arc<Orders>,
}

impl Log {
    /// Starts the thread.
    pub fn start(sinks: Sinks, notify: Box<dyn Fn(Notice) + Send>) -> io::Result<Log> {
        let orders = Arc::new(Orders {
            queue: Mutex::default(),
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        });
        let Sinks { stdout, shown, layout, history, files } = sinks;
        let page = page::Page::new(stdout, shown, layout, notify);
        let pump = pump::Pump::new(Arc::clone(&orders), page, history, files)?;
        thread::Builder::new().name("lpm-log".to_owned()).stack_size(1 << 20).spawn(move || pump.run())?;
        Ok(Log { orders })
    }

    /// Reads and prints `fd`, the reading end of a pipe or a terminal's master, from now on, until it ends or
    /// [`Log::close`]. Others may hold the same descriptor, to write to a terminal and to set its size.
    pub fn open(&self, source: Source, fd: impl Into<Arc<OwnedFd>>) {
        self.orders.push(Order::Open(source, fd.into()));
    }

    /// From now on what stands in this name goes there: what the instance says, and what lpm says of it. Standard
    /// output shows what is said of it in any case.
    pub fn route(&self, route: Route) {
        self.orders.push(Order::Route(route));
    }

    /// Prints a line of lpm's own. While nobody reads standard output, so many lines are kept, and those
    /// after them counted.
    pub fn say(&self, label: &Label, text: impl Into<String>) {
        self.orders.push(Order::Say { label: label.clone(), text: text.into(), event: None });
    }

    /// Prints a line of lpm's own that tells of this event.
    pub fn tell(&self, label: &Label, text: impl Into<String>, event: EventId) {
        self.orders.push(Order::Say { label: label.clone(), text: text.into(), event: Some(event) });
    }

    /// Prints what the source has written until the order is carried out; an unterminated last line gets a
    /// newline. With `say` after it, an obituary follows the last line:
    ///
    /// ```ignore
    /// log.settle(out);
    /// log.say(&label, event::wording(&ended, &stack));
    /// ```
    pub fn settle(&self, source: SourceId) {
        self.orders.push(Order::Settle(source));
    }

    /// Treats what the source says from now on in another way.
    pub fn treat(&self, source: SourceId, treatment: Treatment) {
        self.orders.push(Order::Treat(source, treatment));
    }

    /// Settles the source and stops reading it, whoever may still hold the other end.
    pub fn close(&self, source: SourceId) {
        self.orders.close(source);
    }

    /// Opens the log files anew.
    pub fn reopen(&self) {
        self.orders.push(Order::Reopen);
    }

    /// Asks for [`Notice::Reached`] with this token when all orders before this one are carried out.
    pub fn mark(&self, token: u64) {
        self.orders.push(Order::Mark(token));
    }

    /// Asks for [`Notice::Flushed`] with this token when all orders before this one are carried out and
    /// written.
    pub fn flush(&self, token: u64) {
        self.orders.push(Order::Flush(token));
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.orders.push(Order::End);
    }
}

/// A pipe for a child's output: the end to read, for [`Log::open`], and the end for the child, which blocks.
/// Both are close-on-exec.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&read)?;
    Ok((read, write))
}

fn set_nonblocking(fd: impl AsFd) -> Result<(), Errno> {
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK)
}

/// What the driver wants done.
#[derive(Debug)]
enum Order {
    Open(Source, Arc<OwnedFd>),
    Say { label: Label, text: String, event: Option<EventId> },
    Settle(SourceId),
    Treat(SourceId, Treatment),
    Route(Route),
    Close(SourceId),
    Reopen,
    Mark(u64),
    Flush(u64),
    End,
}

/// The way from the driver's thread to this one. The bell rings when the queue is no longer empty.
#[derive(Debug)]
struct Orders {
    queue: Mutex<Queue>,
    bell: OwnedFd,
}

/// Orders not yet carried out. While the terminal is stuck nobody carries them out, and instances may crash
/// and restart all night: so what can grow is bounded, and what was left out is counted.
#[derive(Debug, Default)]
struct Queue {
    orders: VecDeque<Order>,
    says: usize,
    opens: usize,
    /// Lines that were not taken in.
    dropped: u64,
    /// Sources that were opened and closed again without having been read.
    unheard: u64,
}

/// More of lpm's own lines than this are not kept for a reader who doesn't read.
const MOST_SAYS: usize = 1000;

/// From so many unread sources on, one that is closed before it was read is forgotten: each costs a file
/// descriptor.
const MOST_OPENS: usize = 64;

impl Orders {
    fn push(&self, order: Order) {
        let mut queue = self.lock();
        match &order {
            Order::Say { .. } if queue.says >= MOST_SAYS => {
                queue.dropped += 1;
                return;
            }
            Order::Say { .. } => queue.says += 1,
            Order::Open(..) => queue.opens += 1,
            _ => {}
        }
        queue.orders.push_back(order);
        if queue.orders.len() == 1 {
            self.ring();
        }
    }

    fn close(&self, source: SourceId) {
        let mut queue = self.lock();
        let unread = |o: &Order| matches!(o, Order::Open(s, _) if s.id == source);
        if queue.opens > MOST_OPENS && queue.orders.iter().any(unread) {
            queue.orders.retain(|o| !unread(o) && !matches!(o, Order::Settle(id) if *id == source));
            queue.opens -= 1;
            queue.unheard += 1;
            return;
        }
        drop(queue);
        self.push(Order::Close(source));
    }

    /// Takes all there is, leaving an empty queue.
    fn take(&self) -> Queue {
        std::mem::take(&mut *self.lock())
    }

    fn is_empty(&self) -> bool {
        self.lock().orders.is_empty()
    }

    fn ring(&self) {
        // The counter cannot overflow: it is read back to 0 long before 2^64 orders.
        rustix::io::write(&self.bell, &1u64.to_ne_bytes()).ok();
    }

    fn silence(&self) {
        rustix::io::read(&self.bell, &mut [0u8; 8]).ok();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no one panics while holding the queue")
    }
}
