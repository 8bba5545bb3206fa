//! The log thread.
//!
//! A turn: wait; carry out orders; one chunk from each source that has something; write the batch. Orders
//! come first, so that what lpm said before it did something stands before the effect. One chunk per turn, in
//! the order in which epoll reports them, keeps one flooding source from starving the others. There is no
//! timer and no second buffer that could delay a line: when the turn is over everything has been written. An
//! idle thread waits without a limit.
//!
//! A chunk is recorded as a whole and then printed, in this order, so that what stands in the way of printing
//! is not in the way of those who read the history. Nothing is locked while anything is written.
//!
//! While a long line is being printed, its source holds the output. The others are then simply not read:
//!
//! ```text
//!              nobody else has anything, or the holder lets go
//!          ┌──────────────────────────────────────────────────┐
//!          ▼                                                  │
//!   ┌─────────────┐  a long line begins   ┌──────────────────────┐
//!   │ everybody's │ ────────────────────▶ │ others wait: poll the│──┐ the holder has more:
//!   │    turn     │ ◀──────────────────── │ holder alone         │◀─┘ read it, print it
//!   └─────────────┘  it ends, or is       └──────────────────────┘
//!                    broken off
//! ```
//!
//! It is broken off when somebody waits and the holder was silent for [`SILENCE`], or silent for [`PATIENCE`]
//! all in all, or printed [`HOLD`] bytes of it. So a steady writer's line stays whole up to that length, and
//! nobody waits for long.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::time::{ClockId, clock_gettime};

use super::files::{FileId, LogFiles};
use super::history::{EventId, History, RingId, Sheet};
use super::lines::{Cutter, Piece};
use super::modes::{self, Modes};
use super::outlet::reason;
use super::page::{Page, Voice};
use super::screen::Screen;
use super::sequence::Plain;
use super::terminal::Label;
use super::{CHUNK, Notice, Order, Orders, Route, Source, SourceId, Stream, Treatment, set_nonblocking};
use crate::wording::announce;

/// What epoll says for the bell and for standard output; no source has these numbers.
const BELL: u64 = u64::MAX;
const STDOUT: u64 = u64::MAX - 1;

/// How long a holder may be silent while others wait, in nanoseconds. A writer that is merely not scheduled
/// comes back sooner.
const SILENCE: u64 = 50_000_000;

/// How long a holder may be silent in total while others wait, in nanoseconds.
const PATIENCE: u64 = 200_000_000;

/// How much of one line is printed while others wait, in bytes.
const HOLD: usize = 8 << 20;

/// A terminal doesn't say how much it holds; no more than this is read from it to settle it.
const TERMINAL: u64 = 256 * 1024;

/// The log thread's own.
pub(super) struct Pump {
    orders: Arc<Orders>,
    page: Page,
    epoll: OwnedFd,
    sources: BTreeMap<SourceId, Open>,
    chunk: Box<[u8]>,
    /// What a terminal's chunk comes to in lines.
    plain: Vec<u8>,
    history: Option<Arc<History>>,
    files: LogFiles,
    /// The chunk as it goes into those two, and then onto the page.
    sheet: Sheet,
}

/// A source that is being read.
struct Open {
    fd: Arc<OwnedFd>,
    cutter: Cutter,
    voice: Voice,
    stream: Stream,
    shown: bool,
    label: Label,
    ring: Option<RingId>,
    files: Arc<[FileId]>,
    terminal: Option<Terminal>,
}

/// What a source has that is the master of a terminal.
struct Terminal {
    screen: Arc<Screen>,
    plain: Plain,
    /// What it has on in the terminal that it is printed on, if it is.
    modes: Option<Modes>,
}

/// What a read found.
enum Found {
    Bytes(usize),
    Nothing,
    End,
}

impl Pump {
    pub(super) fn new(
        orders: Arc<Orders>,
        page: Page,
        history: Option<Arc<History>>,
        files: LogFiles,
    ) -> Result<Pump, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &orders.bell, EventData::new_u64(BELL), EventFlags::IN)?;
        if !page.is_gone() && is_pipe(&page) {
            // Reports an error when the last reader leaves, even if there is nothing to write.
            epoll::add(&epoll, page.stdout(), EventData::new_u64(STDOUT), EventFlags::empty())?;
        }
        Ok(Pump {
            orders,
            page,
            epoll,
            sources: BTreeMap::new(),
            chunk: vec![0; CHUNK].into_boxed_slice(),
            plain: Vec::new(),
            history,
            files,
            sheet: Sheet::default(),
        })
    }

    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => unreachable!("epoll_wait(2) on a valid epoll: {errno}"),
            }
            let over = self.turn(&events);
            self.page.flush();
            events.clear();
            if over {
                return;
            }
        }
    }

    /// Returns whether it was the last turn.
    fn turn(&mut self, events: &[Event]) -> bool {
        for event in events {
            if event.data.u64() == STDOUT {
                epoll::delete(&self.epoll, self.page.stdout()).ok();
                self.page.reader_left();
            }
        }
        if !self.others_may_go(events) {
            return false;
        }
        if self.obey() {
            return true;
        }
        for event in events {
            let id = SourceId(event.data.u64());
            self.read(id);
            if self.page.hold().is_some() {
                // The others are ready still in the next turn.
                return false;
            }
        }
        self.tell_of_files();
        false
    }

    /// Whether everybody may have a turn. If somebody holds the output and others wait, the holder alone gets
    /// one, as long as it is steady.
    fn others_may_go(&mut self, events: &[Event]) -> bool {
        let Some(hold) = self.page.hold() else { return true };
        let holder = hold.source;
        let waiting = events.iter().any(|e| ![holder.0, BELL, STDOUT].contains(&e.data.u64()));
        if !waiting && self.orders.is_empty() {
            return true;
        }
        let open = self.sources.get_mut(&holder).expect("a source that ends lets go of the output");
        let mut steady = false;
        if hold.bytes < HOLD && hold.waited < PATIENCE {
            let since = monotonic();
            steady = readable_within(&open.fd, SILENCE.min(PATIENCE - hold.waited));
            hold.waited += monotonic() - since;
        }
        if steady {
            self.read(holder);
            return false;
        }
        open.cutter.interrupt();
        self.page.break_off(&mut open.voice);
        true
    }

    /// Carries out all orders. Returns whether the last one was given.
    fn obey(&mut self) -> bool {
        if self.orders.is_empty() {
            return false;
        }
        // Not before: an order that has to wait for a long line keeps the bell ringing.
        self.orders.silence();
        let queue = self.orders.take();
        for order in queue.orders {
            match order {
                Order::Open(source, fd) => self.open(source, fd),
                Order::Say { label, text, event } => self.tell(&label, &text, event),
                Order::Settle(id) => self.settle(id),
                Order::Treat(id, treatment) => {
                    // What was written before is treated as before.
                    self.settle(id);
                    self.sources.entry(id).and_modify(|open| {
                        open.shown = treatment != Treatment::Discard;
                        open.voice.pretty = treatment == Treatment::PrintPretty;
                    });
                }
                Order::Route(Route { label, files, journal }) => {
                    self.files.route(&label, &files);
                    if let Some(history) = &self.history {
                        history.route(label.shared_name(), journal);
                    }
                    self.tell_of_files();
                }
                Order::Close(id) => {
                    self.settle(id);
                    self.forget(id);
                }
                Order::Reopen => {
                    self.files.reopen();
                    self.tell_of_files();
                }
                Order::Mark(token) => self.page.notify(Notice::Reached(token)),
                Order::Flush(token) => {
                    self.page.flush();
                    self.page.notify(Notice::Flushed(token));
                }
                Order::End => {
                    let left: Vec<SourceId> = self.sources.keys().copied().collect();
                    left.into_iter().for_each(|id| self.switch_off(id));
                    return true;
                }
            }
        }
        if queue.dropped > 0 {
            self.say(&Label::system(), &announce::own_lines_dropped(queue.dropped));
        }
        if queue.unheard > 0 {
            self.say(&Label::system(), &announce::unheard(queue.unheard));
        }
        false
    }

    fn open(&mut self, source: Source, fd: Arc<OwnedFd>) {
        self.make_room(&source.label);
        let added = set_nonblocking(&*fd)
            .and_then(|()| epoll::add(&self.epoll, &*fd, EventData::new_u64(source.id.0), EventFlags::IN));
        if let Err(errno) = added {
            // Not for a pipe or terminal, but for want of memory or of epoll watches.
            return self.say(&source.label, &format!("its output cannot be read: {}", reason(errno)));
        }
        let Source { id, label, stream, treatment, life, screen } = source;
        let ring = self.history.as_ref().map(|history| {
            let ring = history.ring(label.shared_name());
            history.mark(ring, life);
            ring
        });
        let files = self.files.of(&label);
        let raw = treatment == Treatment::PrintRaw || screen.is_some();
        let on_terminal = raw && self.page.is_terminal();
        let terminal = screen.map(|screen| {
            screen.reset();
            Terminal { screen, plain: Plain::default(), modes: on_terminal.then(Modes::default) }
        });
        let mut voice = self.page.voice(label.clone(), stream, raw);
        voice.pretty = treatment == Treatment::PrintPretty;
        let shown = treatment != Treatment::Discard;
        let cutter = Cutter::default();
        let open = Open { fd, cutter, voice, stream, shown, label, ring, files, terminal };
        self.sources.insert(id, open);
    }

    fn say(&mut self, label: &Label, text: &str) {
        self.tell(label, text, None);
    }

    fn tell(&mut self, label: &Label, text: &str, event: Option<EventId>) {
        self.make_room(label);
        let now = now_usec();
        if let Some(history) = &self.history {
            history.say(label.shared_name(), now, text, event);
        }
        self.files.say(label, now, text);
        self.page.tick(now);
        self.page.say(label, text);
        self.tell_of_files();
    }

    /// Each trouble is told once; what comes of telling it is the trouble of another file.
    fn tell_of_files(&mut self) {
        for text in self.files.news() {
            self.say(&Label::system(), &text);
        }
    }

    fn make_room(&mut self, label: &Label) {
        if self.page.widen(label) {
            self.sources.values_mut().for_each(|open| self.page.lay_out(&mut open.voice));
        }
    }

    /// One chunk of a source, if it has any and there is such a source still.
    fn read(&mut self, id: SourceId) {
        if let Some(Found::End) = self.read_some(id, CHUNK) {
            self.finish(id);
            self.forget(id);
        }
    }

    /// What the source holds at this moment, and not what comes while that is read: somebody may write for
    /// ever.
    fn settle(&mut self, id: SourceId) {
        let Some(open) = self.sources.get(&id) else { return };
        let mut left = match open.terminal {
            Some(_) => TERMINAL,
            None => ioctl_fionread(&*open.fd).unwrap_or(0),
        };
        while left > 0 {
            match self.read_some(id, CHUNK.min(left as usize)) {
                Some(Found::Bytes(n)) => left = left.saturating_sub(n as u64),
                // The next turn would find the end too, and does what is to be done about it.
                _ => break,
            }
        }
        self.finish(id);
    }

    /// Up to `most` bytes of a source; `None` if there is no such source.
    fn read_some(&mut self, id: SourceId, most: usize) -> Option<Found> {
        let open = self.sources.get_mut(&id)?;
        let mut chunk = match rustix::io::read(&*open.fd, &mut self.chunk[..most]) {
            Ok(0) => return Some(Found::End),
            Ok(n) => &self.chunk[..n],
            Err(Errno::AGAIN | Errno::INTR) => return Some(Found::Nothing),
            // EIO: the other side of a terminal was closed. No other error ends any better.
            Err(_) => return Some(Found::End),
        };
        let read = Found::Bytes(chunk.len());
        if let Some(terminal) = &mut open.terminal {
            let answers = terminal.screen.feed(chunk);
            if !answers.is_empty() {
                // One that doesn't read what is typed has room for no more, and waits for no answer.
                rustix::io::write(&*open.fd, &answers).ok();
            }
            self.plain.clear();
            terminal.plain.feed(chunk, &mut self.plain);
            chunk = &self.plain;
            if let Some(modes) = &mut terminal.modes {
                modes.feed(chunk);
            }
        }
        let Pump { page, history, files, sheet, .. } = self;
        open.take_in(id, To { page, history: history.as_deref(), files, sheet }, chunk, false);
        Some(read)
    }

    /// Ends an unterminated line, and what it has on in our terminal: before it is said how its program ended.
    fn finish(&mut self, id: SourceId) {
        let Some(open) = self.sources.get_mut(&id) else { return };
        self.plain.clear();
        if let Some(terminal) = &mut open.terminal {
            terminal.plain.finish(&mut self.plain);
            if let Some(modes) = &mut terminal.modes {
                modes.feed(&self.plain);
            }
        }
        let Pump { page, history, files, sheet, plain, .. } = self;
        open.take_in(id, To { page, history: history.as_deref(), files, sheet }, plain, true);
        self.switch_off(id);
    }

    fn forget(&mut self, id: SourceId) {
        if let Some(open) = self.sources.remove(&id) {
            // Closing alone wouldn't do, should the reading end have been inherited by somebody.
            epoll::delete(&self.epoll, &*open.fd).ok();
            open.terminal.iter().for_each(|terminal| terminal.screen.finish());
        }
    }

    /// What a program has left on in our terminal goes off again, but for what another one has on, too.
    fn switch_off(&mut self, id: SourceId) {
        let modes = |open: &mut Open| open.terminal.as_mut()?.modes.as_mut().map(std::mem::take);
        let Some(left) = self.sources.get_mut(&id).and_then(modes).map(Modes::finish) else { return };
        let others = self.sources.values().filter_map(|open| open.terminal.as_ref()?.modes.as_ref());
        let others: Vec<&Modes> = others.collect();
        let left = left.iter().filter(|mode| !others.iter().any(|other| other.on().contains(mode)));
        self.page.switch_off(&modes::off(left));
    }
}

impl Open {
    /// Cuts a chunk into lines, and with `ends` whatever is left too; records and prints what comes of it.
    fn take_in(&mut self, id: SourceId, to: To<'_>, chunk: &[u8], ends: bool) {
        let To { page, history, files, sheet } = to;
        let shown = self.shown && !page.is_gone();
        if history.is_none() && self.files.is_empty() {
            if shown {
                page.tick(now_usec());
                cut(&mut self.cutter, chunk, ends, |piece| page.print(id, &mut self.voice, piece));
            }
            return;
        }
        let now = now_usec();
        sheet.clear();
        cut(&mut self.cutter, chunk, ends, |piece| sheet.put(piece));
        if let (Some(history), Some(ring)) = (history, self.ring) {
            history.record(ring, self.stream, now, sheet);
        }
        if !self.files.is_empty() {
            files.take_in(&self.files, (id, &self.label, self.stream), now, sheet.pieces());
        }
        if shown {
            page.tick(now);
            sheet.pieces().for_each(|piece| page.print(id, &mut self.voice, piece));
        }
    }
}

/// Where a chunk goes.
struct To<'a> {
    page: &'a mut Page,
    history: Option<&'a History>,
    files: &'a mut LogFiles,
    sheet: &'a mut Sheet,
}

#[inline]
fn cut(cutter: &mut Cutter, chunk: &[u8], ends: bool, mut emit: impl FnMut(Piece<'_>)) {
    if !chunk.is_empty() {
        cutter.feed(chunk, &mut emit);
    }
    if ends {
        cutter.finish(emit);
    }
}

/// Whether standard output is a pipe made by pipe(2). A named one is not meant: its next reader may be on the
/// way.
fn is_pipe(page: &Page) -> bool {
    const PIPEFS_MAGIC: u64 = 0x5049_5045;
    rustix::fs::fstatfs(page.stdout()).is_ok_and(|s| s.f_type as u64 == PIPEFS_MAGIC)
}

fn readable_within(fd: &OwnedFd, nanoseconds: u64) -> bool {
    let limit = Timespec { tv_sec: 0, tv_nsec: nanoseconds as _ };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0)
}

/// Microseconds since 1970 in UTC.
fn now_usec() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

fn monotonic() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
