//! What was said, kept for those who ask later: a bounded number of bytes for each instance.
//!
//! **One ring for each instance**, so that a chatty one pushes out its own lines and nobody else's; lpm's
//! lines about an instance stand in that instance's ring, and `system` has one too. A ring owns nothing until
//! the first line, grows by doubling, and stays below its bound: each line counts with its text and
//! [`ENTRY`] bytes. Whoever reads several gets them merged in the order in which they came in, for all lines
//! are numbered in one sequence.
//!
//! **Who waits for whom.** Nobody waits for a reader. The log thread takes the lock once for a chunk, copies
//! it in, and lets go before anything is written anywhere, so that history can be read while standard output
//! stands still. A reader copies one ring at a time, or one batch; what it has not read when the ring moves
//! on is lost to it, and it is told how many lines those were. A reader that never comes back costs nothing.
//!
//! **Bytes are kept as they were said**, not as they were shown: no prefix, nothing escaped, lines of
//! `--quiet` instances included. (What a terminal adds is taken off before, see `sequence.rs`.) A long line
//! comes in the pieces that the cutter makes of it, none longer than [`lines::LONGEST`](super::lines::LONGEST);
//! all but the last say that they [continue](Line::continues). Whether it had to be broken off on standard
//! output does not matter here.
//!
//! It keeps no more than it has memory for, writes nothing to disk, and does not know when a ring is of no
//! more use: an instance's last words stay.
//!
//! **What a line belongs to** stands beside it and is never read out of its text: a line of lpm's own has the number of
//! the event that it tells of, and where a life of an instance begins there is a mark ([`History::of_life`]).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::Stream;
use super::lines::Piece;
use super::waiting::{Seat, Waiting};

/// What is kept of each instance where nothing else was said, in bytes.
pub const BYTES_PER_INSTANCE: usize = 256 * 1024;

/// The same where something follows that must not miss much, the journal for example.
pub const BYTES_FOR_FOLLOWERS: usize = 1 << 20;

/// What a line costs besides its text, in bytes.
pub const ENTRY: usize = size_of::<Entry>();

/// What it costs more if it tells of an event, in bytes.
const EVENT: usize = size_of::<(u64, EventId)>();

/// The most text that one batch of a follower holds, in bytes; a line more than that is not split.
const BATCH: usize = 256 * 1024;

/// The first allocation of a ring, in bytes.
const FIRST: usize = 4096;

/// The lines of all instances, shared by the log thread, which records, and any number of readers.
#[derive(Debug)]
pub struct History {
    bound: usize,
    /// What no route is known of is for the journal.
    journal: bool,
    kept: Mutex<Kept>,
}

/// One line, or a piece of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number among all lines of all instances; higher came later. Numbers may be left out, and none
    /// comes twice.
    pub sequence: u64,
    /// When it was read, in microseconds since 1970 in UTC.
    pub time_usec: u64,
    /// `web.1`, or `system`.
    pub instance: Arc<str>,
    /// Who said it, where.
    pub origin: Origin,
    /// The bytes as they came, without the newline.
    pub text: Vec<u8>,
    /// The line is longer than this: the next of this instance and origin goes on with it.
    pub continues: bool,
}

/// How much somebody has said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Said {
    /// Lines.
    pub lines: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// In whose name lines stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whose<'a> {
    /// `web.1`, or `system`.
    pub name: &'a str,
    /// They are for the journal.
    pub journal: bool,
}

/// Who said a line, where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The instance, on one of its streams.
    Instance(Stream),
    /// lpm, about the instance or in its own name.
    Lpm {
        /// The event that the line tells of; it has more of it.
        event: Option<EventId>,
    },
}

/// The number of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(pub u64);

/// Up to where a follower has read. It is of use only with the history that gave it.
#[derive(Debug)]
pub struct Cursor {
    /// How many lines of each ring lie behind; rings that came later are read from their beginning.
    read: Vec<u64>,
    seat: Arc<Seat>,
}

/// What came after a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// So many wanted lines before these were pushed out before this follower came for them.
    pub missed: u64,
    /// The next lines, in order. Empty only if some were missed and nothing came after them.
    pub lines: Vec<Line>,
}

impl History {
    /// One that keeps so many bytes of each instance. `journal`: what is said is for the journal, unless it has a
    /// route that says otherwise.
    pub fn new(bytes_per_instance: usize, journal: bool) -> Arc<History> {
        Arc::new(History { bound: bytes_per_instance, journal, kept: Mutex::default() })
    }

    /// The newest `last` lines (`None`: all that are kept) of the instances that are wanted, in order, and where
    /// following them goes on: a line that comes in meanwhile is either among these or the cursor's next.
    pub fn lines(&self, wanted: &dyn Fn(Whose<'_>) -> bool, last: Option<usize>) -> (Vec<Line>, Cursor) {
        let (read, rings) = {
            let kept = self.lock();
            let read: Vec<u64> = kept.rings.iter().map(Ring::said).collect();
            let rings: Vec<usize> = (0..read.len()).filter(|&at| wanted(kept.rings[at].whose())).collect();
            (read, rings)
        };
        let mut lines = Vec::new();
        for at in rings {
            // One at a time, so that the log thread never waits for all of them.
            let copy = self.lock().rings[at].copy(read[at], last);
            copy.lines(&mut lines);
        }
        lines.sort_unstable_by_key(|line| line.sequence);
        if let Some(last) = last {
            lines.drain(..lines.len().saturating_sub(last));
        }
        (lines, Cursor { read, seat: Arc::default() })
    }

    /// What an instance itself said in one of its lives, among the newest `most` lines of that life. Where the beginning
    /// of it has been pushed out, the rest.
    pub fn of_life(&self, instance: &str, life: u32, most: usize) -> Vec<Line> {
        let copied = {
            let kept = self.lock();
            let Some(ring) = kept.rings.iter().find(|ring| *ring.instance == *instance) else {
                return Vec::new();
            };
            let Some((from, to)) = ring.life(life) else { return Vec::new() };
            ring.copy(to, Some(usize::try_from(to - from).map_or(most, |length| length.min(most))))
        };
        let mut lines = Vec::new();
        copied.lines(&mut lines);
        lines.retain(|line| match line.origin {
            Origin::Instance(_) => true,
            Origin::Lpm { .. } => false,
        });
        lines
    }

    /// Since when all that these have said is kept, µs since the epoch; `None` where nothing was ever pushed out.
    pub fn complete_since(&self, wanted: &dyn Fn(Whose<'_>) -> bool) -> Option<u64> {
        let kept = self.lock();
        let short = kept.rings.iter().filter(|ring| ring.gone > 0 && wanted(ring.whose()));
        short.map(|ring| ring.gone_usec + 1).max()
    }

    /// How much each of them has said itself since the beginning, what is not kept any more included.
    pub fn said(&self) -> Vec<(Arc<str>, Said)> {
        self.lock().rings.iter().map(|ring| (Arc::clone(&ring.instance), ring.heard)).collect()
    }

    /// What came after the cursor from the instances that are wanted (the same ones each time), at most `most`
    /// lines and about 256 KiB of them. Where nothing came, the context is woken when something is recorded,
    /// wanted or not.
    pub fn poll_next(
        &self,
        cursor: &mut Cursor,
        wanted: &dyn Fn(Whose<'_>) -> bool,
        most: usize,
        context: &mut Context<'_>,
    ) -> Poll<Batch> {
        let mut kept = self.lock();
        cursor.read.resize(kept.rings.len(), 0);
        let mut batch = Batch { missed: 0, lines: Vec::new() };
        // The next of each ring: its number in the sequence, which ring.
        let mut next = BinaryHeap::new();
        for (at, ring) in kept.rings.iter().enumerate() {
            if ring.said() == cursor.read[at] || !wanted(ring.whose()) {
                continue;
            }
            let missed = ring.gone.saturating_sub(cursor.read[at]);
            batch.missed += missed;
            cursor.read[at] += missed;
            next.extend(ring.sequence(cursor.read[at]).map(|sequence| Reverse((sequence, at))));
        }
        let mut bytes = 0;
        while batch.lines.len() < most.max(1)
            && bytes < BATCH
            && let Some(Reverse((_, at))) = next.pop()
        {
            let ring = &kept.rings[at];
            let Some(line) = ring.line(cursor.read[at]) else { continue };
            bytes += line.text.len() + ENTRY;
            batch.lines.push(line);
            cursor.read[at] += 1;
            next.extend(ring.sequence(cursor.read[at]).map(|sequence| Reverse((sequence, at))));
        }
        if batch.missed == 0 && batch.lines.is_empty() {
            kept.waiting.wait(&cursor.seat, context);
            return Poll::Pending;
        }
        Poll::Ready(batch)
    }

    /// Whether what stands in this name is for the journal. Otherwise it is as with everything that no route is
    /// known of ([`History::new`]).
    pub(super) fn route(&self, instance: &Arc<str>, journal: bool) {
        let mut kept = self.lock();
        let ring = kept.ring(instance, self.journal);
        kept.rings[ring.0].journal = journal;
    }

    /// The ring of an instance, made if it is the first time.
    pub(super) fn ring(&self, instance: &Arc<str>) -> RingId {
        self.lock().ring(instance, self.journal)
    }

    /// Takes in what a source said, and empties the sheet's list of what is new.
    pub(super) fn record(&self, ring: RingId, stream: Stream, time_usec: u64, sheet: &Sheet) {
        if !sheet.ends.is_empty() {
            self.append(ring, Origin::Instance(stream), time_usec, sheet);
        }
    }

    /// What this instance says from now on is of this life.
    pub(super) fn mark(&self, ring: RingId, life: u32) {
        self.lock().rings[ring.0].mark(life);
    }

    /// Takes in what lpm says in the name of an instance or its own. `event`: what it tells of; of a text of several
    /// lines each has it.
    pub(super) fn say(&self, instance: &Arc<str>, time_usec: u64, text: &str, event: Option<EventId>) {
        let mut sheet = Sheet::default();
        for line in text.split('\n') {
            sheet.bytes.extend_from_slice(line.as_bytes());
            sheet.bytes.push(b'\n');
            sheet.end(Form::Whole);
        }
        let ring = self.ring(instance);
        self.append(ring, Origin::Lpm { event }, time_usec, &sheet);
    }

    fn append(&self, ring: RingId, origin: Origin, time_usec: u64, sheet: &Sheet) {
        let mut kept = self.lock();
        let sequence = kept.next;
        kept.next += sheet.ends.len() as u64;
        kept.rings[ring.0].append(self.bound, sequence, time_usec, origin, sheet);
        let waiting = kept.waiting.take();
        drop(kept);
        waiting.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which ring.
#[derive(Debug, Clone, Copy)]
pub(super) struct RingId(usize);

/// The pieces of one chunk, one behind the other: what is recorded and then printed.
#[derive(Debug, Default)]
pub(super) struct Sheet {
    bytes: Vec<u8>,
    ends: Vec<(u32, Form)>,
}

/// Which kind of piece.
#[derive(Debug, Clone, Copy)]
enum Form {
    Whole,
    Start,
    More,
    End,
}

impl Sheet {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    #[inline]
    pub(super) fn put(&mut self, piece: Piece<'_>) {
        let (text, form) = match piece {
            Piece::Whole(text) => (text, Form::Whole),
            Piece::Start(text) => (text, Form::Start),
            Piece::More(text) => (text, Form::More),
            Piece::End(text) => (text, Form::End),
        };
        self.bytes.extend_from_slice(text);
        self.end(form);
    }

    #[inline]
    fn end(&mut self, form: Form) {
        // A chunk and what was kept of a line before it: 128 KiB.
        self.ends.push((self.bytes.len() as u32, form));
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = Piece<'_>> + Clone {
        let mut start = 0;
        self.ends.iter().map(move |&(end, form)| {
            let text = &self.bytes[start..end as usize];
            start = end as usize;
            match form {
                Form::Whole => Piece::Whole(text),
                Form::Start => Piece::Start(text),
                Form::More => Piece::More(text),
                Form::End => Piece::End(text),
            }
        })
    }
}

#[derive(Debug, Default)]
struct Kept {
    rings: Vec<Ring>,
    /// The number of the next line.
    next: u64,
    waiting: Waiting,
}

impl Kept {
    fn ring(&mut self, instance: &Arc<str>, journal: bool) -> RingId {
        let known = self.rings.iter().position(|ring| ring.instance == *instance);
        RingId(known.unwrap_or_else(|| {
            self.rings.push(Ring {
                instance: Arc::clone(instance),
                journal,
                entries: VecDeque::new(),
                events: VecDeque::new(),
                lives: VecDeque::new(),
                text: VecDeque::new(),
                end: 0,
                gone: 0,
                gone_usec: 0,
                heard: Said::default(),
            });
            self.rings.len() - 1
        }))
    }
}

/// The lines of one instance. The text of each ends with its newline, unless it continues.
#[derive(Debug)]
struct Ring {
    instance: Arc<str>,
    /// It is for the journal.
    journal: bool,
    entries: VecDeque<Entry>,
    /// The events of those entries that tell of one, by the entry's number of the ring's own.
    events: VecDeque<(u64, EventId)>,
    /// The lives of those entries, by the number of the first. One that said nothing has no mark, so there are no more
    /// of them than lines.
    lives: VecDeque<(u64, u32)>,
    text: VecDeque<u8>,
    /// How much text there was in all, modulo 2^32: where the next line starts.
    end: u32,
    /// How many lines were pushed out.
    gone: u64,
    /// When the last of those was said.
    gone_usec: u64,
    /// What it has said itself.
    heard: Said,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    sequence: u64,
    time_usec: u64,
    /// Where its text starts, modulo 2^32; it ends where the next one starts.
    start: u32,
    by: By,
}

/// An [`Origin`] without the number of its event.
#[derive(Debug, Clone, Copy)]
enum By {
    Instance(Stream),
    Lpm,
    LpmOfEvent,
}

impl Ring {
    fn whose(&self) -> Whose<'_> {
        Whose { name: &self.instance, journal: self.journal }
    }

    /// How many lines there were in all.
    fn said(&self) -> u64 {
        self.gone + self.entries.len() as u64
    }

    fn mark(&mut self, life: u32) {
        let next = self.said();
        match self.lives.back_mut() {
            Some((_, last)) if *last == life => {}
            // The one before has said nothing.
            Some(last) if last.0 == next => last.1 = life,
            Some(_) | None => self.lives.push_back((next, life)),
        }
    }

    /// The numbers of a life's lines, the first and the one behind the last; `None`: it has said nothing.
    fn life(&self, life: u32) -> Option<(u64, u64)> {
        let at = self.lives.iter().rposition(|(_, known)| *known == life)?;
        let to = self.lives.get(at + 1).map_or(self.said(), |(number, _)| *number);
        Some((self.lives[at].0, to))
    }

    fn append(&mut self, bound: usize, sequence: u64, time_usec: u64, origin: Origin, sheet: &Sheet) {
        let count = sheet.ends.len();
        let (by, event) = match origin {
            Origin::Instance(stream) => (By::Instance(stream), None),
            Origin::Lpm { event: None } => (By::Lpm, None),
            Origin::Lpm { event: Some(event) } => (By::LpmOfEvent, Some(event)),
        };
        if let By::Instance(_) = by {
            let ends = |(_, form): &&(u32, Form)| matches!(form, Form::Whole | Form::End);
            self.heard.lines += sheet.ends.iter().filter(ends).count() as u64;
            self.heard.bytes += sheet.bytes.len() as u64;
        }
        let entry = by.cost();
        let start_of = |at: usize| at.checked_sub(1).map_or(0, |before| sheet.ends[before].0 as usize);
        let cost_from = |at: usize| sheet.bytes.len() - start_of(at) + (count - at) * entry;
        // A chunk of very short lines costs more than there is room for: the newest of them stay.
        let first = (0..count).find(|&at| cost_from(at) <= bound).unwrap_or(count);
        if first > 0 {
            self.forget(self.entries.len());
            self.gone += first as u64;
            self.forget_marks();
            self.gone_usec = time_usec;
        } else {
            self.make_room(bound - cost_from(0));
        }
        let skipped = start_of(first);
        let text = &sheet.bytes[skipped..];
        grow(&mut self.entries, count - first, bound / ENTRY);
        for at in first..count {
            let start = self.end.wrapping_add((start_of(at) - skipped) as u32);
            self.events.extend(event.map(|event| (self.said(), event)));
            self.entries.push_back(Entry { sequence: sequence + at as u64, time_usec, start, by });
        }
        grow(&mut self.text, text.len(), bound);
        self.text.extend(text);
        self.end = self.end.wrapping_add(text.len() as u32);
    }

    /// Pushes out the oldest until the others cost no more than this.
    fn make_room(&mut self, most: usize) {
        let mut cost = self.text.len() + self.entries.len() * ENTRY + self.events.len() * EVENT;
        let mut leaving = 0;
        while cost > most && leaving < self.entries.len() {
            cost -= self.length(leaving) + self.entries[leaving].by.cost();
            leaving += 1;
        }
        self.forget(leaving);
    }

    /// Pushes out the oldest `count` lines.
    fn forget(&mut self, count: usize) {
        let bytes = self.offset(count);
        self.text.drain(..bytes);
        let gone = self.entries.drain(..count).next_back();
        self.gone_usec = gone.map_or(self.gone_usec, |entry| entry.time_usec);
        self.gone += count as u64;
        self.forget_marks();
    }

    /// Forgets the events of lines that were pushed out, and the lives that have no line any more.
    fn forget_marks(&mut self) {
        while self.events.front().is_some_and(|(number, _)| *number < self.gone) {
            self.events.pop_front();
        }
        while self.lives.get(1).is_some_and(|(number, _)| *number <= self.gone) {
            self.lives.pop_front();
        }
    }

    /// Where the text of the entry at `at` begins in what is kept; behind the last one, where it ends.
    fn offset(&self, at: usize) -> usize {
        let start = |at: usize| self.entries.get(at).map_or(self.end, |entry| entry.start);
        start(at).wrapping_sub(start(0)) as usize
    }

    fn length(&self, at: usize) -> usize {
        self.offset(at + 1) - self.offset(at)
    }

    /// Where the line with this number of the ring's own is.
    fn place(&self, number: u64) -> Option<usize> {
        let at = usize::try_from(number.checked_sub(self.gone)?).ok()?;
        (at < self.entries.len()).then_some(at)
    }

    fn sequence(&self, number: u64) -> Option<u64> {
        Some(self.entries[self.place(number)?].sequence)
    }

    fn line(&self, number: u64) -> Option<Line> {
        let at = self.place(number)?;
        let mut text = vec![0; self.length(at)];
        copy_out(&self.text, self.offset(at), &mut text);
        let event = self.events.binary_search_by_key(&number, |(number, _)| *number);
        Some(line(&self.instance, self.entries[at], event.ok().map(|at| self.events[at].1), text))
    }

    /// The newest `last` of the first `read` lines there were, as far as they are kept.
    fn copy(&self, read: u64, last: Option<usize>) -> Copied {
        let oldest = last.map_or(0, |last| read.saturating_sub(last as u64)).max(self.gone);
        let place = |number: u64| number.saturating_sub(self.gone) as usize;
        let (from, to) = (place(oldest), place(read.max(oldest)));
        let mut text = vec![0; self.offset(to) - self.offset(from)];
        copy_out(&self.text, self.offset(from), &mut text);
        let entries = self.entries.range(from..to).copied().collect();
        let before = |number: u64| self.events.partition_point(|(known, _)| *known < number);
        let of = before(oldest)..before(read.max(oldest));
        let events = self.events.range(of).map(|(_, event)| *event).collect();
        Copied { instance: Arc::clone(&self.instance), entries, events, text }
    }
}

/// A part of a ring, copied out of it.
struct Copied {
    instance: Arc<str>,
    entries: Vec<Entry>,
    /// One for each entry that tells of one.
    events: Vec<EventId>,
    text: Vec<u8>,
}

impl Copied {
    fn lines(&self, lines: &mut Vec<Line>) {
        let mut events = self.events.iter().copied();
        let Some(first) = self.entries.first() else { return };
        let offset = |entry: &Entry| entry.start.wrapping_sub(first.start) as usize;
        for (at, entry) in self.entries.iter().enumerate() {
            let end = self.entries.get(at + 1).map_or(self.text.len(), offset);
            let event = match entry.by {
                By::LpmOfEvent => events.next(),
                By::Instance(_) | By::Lpm => None,
            };
            lines.push(line(&self.instance, *entry, event, self.text[offset(entry)..end].to_vec()));
        }
    }
}

impl By {
    /// What a line costs besides its text, in bytes.
    fn cost(self) -> usize {
        match self {
            By::Instance(_) | By::Lpm => ENTRY,
            By::LpmOfEvent => ENTRY + EVENT,
        }
    }
}

fn line(instance: &Arc<str>, entry: Entry, event: Option<EventId>, mut text: Vec<u8>) -> Line {
    let continues = text.last() != Some(&b'\n');
    if !continues {
        text.pop();
    }
    let Entry { sequence, time_usec, by, .. } = entry;
    let origin = match by {
        By::Instance(stream) => Origin::Instance(stream),
        By::Lpm | By::LpmOfEvent => Origin::Lpm { event },
    };
    Line { sequence, time_usec, instance: Arc::clone(instance), origin, text, continues }
}

/// Fills `out` with what is kept from `from` on.
fn copy_out(kept: &VecDeque<u8>, from: usize, out: &mut [u8]) {
    let (front, back) = kept.as_slices();
    let of_front = front.get(from..).unwrap_or_default();
    let of_front = &of_front[..of_front.len().min(out.len())];
    let (begin, rest) = out.split_at_mut(of_front.len());
    begin.copy_from_slice(of_front);
    let from = from.saturating_sub(front.len());
    rest.copy_from_slice(&back[from..from + rest.len()]);
}

/// Makes room for `more` by doubling, and for no more than `most` in all.
fn grow<T>(kept: &mut VecDeque<T>, more: usize, most: usize) {
    let needed = kept.len() + more;
    if needed > kept.capacity() {
        let doubled = (2 * kept.capacity()).max(FIRST / size_of::<T>()).min(most);
        kept.reserve_exact(doubled.max(needed) - kept.len());
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;
    use crate::output::lines::{Cutter, LONGEST};

    const OUT: Origin = Origin::Instance(Stream::Merged);

    fn names(count: usize) -> Vec<Arc<str>> {
        (0..count).map(|n| Arc::from(format!("{}.1", char::from(b'a' + n as u8)))).collect()
    }

    /// As the log thread does it: one chunk through a cutter.
    fn say(history: &History, name: &Arc<str>, text: &[u8]) {
        let (mut cutter, mut sheet) = (Cutter::default(), Sheet::default());
        cutter.feed(text, |piece| sheet.put(piece));
        cutter.finish(|piece| sheet.put(piece));
        history.record(history.ring(name), Stream::Merged, 7, &sheet);
    }

    fn texts(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|l| format!("{} {}", l.instance, String::from_utf8_lossy(&l.text))).collect()
    }

    fn next(history: &History, cursor: &mut Cursor, most: usize) -> Option<Batch> {
        match history.poll_next(cursor, &|_| true, most, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(batch) => Some(batch),
            Poll::Pending => None,
        }
    }

    #[test]
    fn lines_of_several_come_back_in_the_order_in_which_they_came_in() {
        let history = History::new(BYTES_PER_INSTANCE, false);
        let n = names(2);
        say(&history, &n[0], b"one\ntwo\n");
        history.say(&n[1], 8, "started with pid 7", None);
        say(&history, &n[1], b"\xff\x1b[2J\n\nunterminated");
        history.say(&Arc::from("system"), 9, "bye\nbye", Some(EventId(5)));
        let (lines, mut cursor) = history.lines(&|_| true, None);
        let wanted = [
            "a.1 one",
            "a.1 two",
            "b.1 started with pid 7",
            "b.1 \u{fffd}\u{1b}[2J",
            "b.1 ",
            "b.1 unterminated",
            "system bye",
            "system bye",
        ];
        assert_eq!(texts(&lines), wanted);
        assert_eq!(lines[3].text, b"\xff\x1b[2J", "the bytes as they came");
        assert_eq!((lines[1].origin, lines[2].origin), (OUT, Origin::Lpm { event: None }));
        let of_event = Origin::Lpm { event: Some(EventId(5)) };
        assert_eq!((lines[6].origin, lines[7].origin), (of_event, of_event));
        assert_eq!((lines[1].time_usec, lines[2].time_usec), (7, 8));
        assert!(lines.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
        assert_eq!(
            texts(&history.lines(&|whose| whose.name != "b.1", Some(3)).0),
            ["a.1 two", "system bye", "system bye"]
        );
        assert!(history.lines(&|_| true, Some(0)).0.is_empty());
        assert_eq!(next(&history, &mut cursor, 10), None);
        say(&history, &n[0], b"three\n");
        assert_eq!(texts(&next(&history, &mut cursor, 10).unwrap().lines), ["a.1 three"]);
        assert_eq!(next(&history, &mut cursor, 10), None);
    }

    #[test]
    fn a_chatty_one_pushes_out_its_own_lines_alone() {
        let history = History::new(2000, false);
        let n = names(2);
        say(&history, &n[1], b"quiet\n");
        (0..1000).for_each(|line| say(&history, &n[0], format!("line {line:04}\n").as_bytes()));
        let (lines, _) = history.lines(&|_| true, None);
        let kept = 2000 / (ENTRY + "line 0000\n".len());
        assert_eq!(lines.len(), 1 + kept);
        assert_eq!(texts(&lines)[..2], ["b.1 quiet".to_owned(), format!("a.1 line {:04}", 1000 - kept)]);
    }

    #[test]
    fn it_is_known_since_when_nothing_is_missing() {
        let history = History::new(3 * (ENTRY + 2), false);
        let n = names(2);
        let since = |of: &str| history.complete_since(&|whose| whose.name == of);
        for (time, text) in [(1, "a\n"), (5, "b\nc\n"), (7, "d\n")] {
            history.say(&n[0], time, text.trim_end(), None);
        }
        assert_eq!((since("a.1"), since("b.1")), (Some(2), None), "one is gone, of the first moment");
        history.say(&n[0], 9, "e", None);
        assert_eq!(since("a.1"), Some(6), "half of what was said at once is not all of it");
        history.say(&n[0], 11, "1\n2\n3\n4", None);
        assert_eq!(since("a.1"), Some(12));
    }

    #[test]
    fn a_ring_grows_with_what_is_in_it_up_to_its_bound() {
        let history = History::new(BYTES_PER_INSTANCE, false);
        let n = names(1);
        let capacity = |history: &History| {
            let kept = history.lock();
            (kept.rings[0].text.capacity(), kept.rings[0].entries.capacity() * ENTRY)
        };
        history.ring(&n[0]);
        assert_eq!(capacity(&history), (0, 0));
        say(&history, &n[0], b"line\n");
        let (text, entries) = capacity(&history);
        assert!(text <= 2 * FIRST && entries <= 2 * FIRST, "{text} {entries}");
        // Of long lines and then of empty ones.
        (0..100).for_each(|_| say(&history, &n[0], &[b'x'; 60_000]));
        (0..100).for_each(|_| say(&history, &n[0], &[b'\n'; 60_000]));
        let (text, entries) = capacity(&history);
        assert!(text <= BYTES_PER_INSTANCE && entries <= BYTES_PER_INSTANCE, "{text} {entries}");
        assert_eq!(history.lines(&|_| true, None).0.len(), BYTES_PER_INSTANCE / (ENTRY + 1));
    }

    #[test]
    fn a_long_line_comes_in_pieces_that_say_so() {
        let history = History::new(BYTES_PER_INSTANCE, false);
        let n = names(1);
        let (mut cutter, mut long) = (Cutter::default(), vec![b'y'; 150_000]);
        long.extend_from_slice(b"END\nnext\n");
        for chunk in long.chunks(LONGEST) {
            let mut sheet = Sheet::default();
            cutter.feed(chunk, |piece| sheet.put(piece));
            history.record(history.ring(&n[0]), Stream::Merged, 0, &sheet);
        }
        let (lines, _) = history.lines(&|_| true, None);
        let (last, pieces) = lines.split_last().unwrap();
        assert_eq!((&last.text[..], last.continues), (&b"next"[..], false));
        assert!(pieces.iter().all(|piece| piece.text.len() <= LONGEST));
        let joined: Vec<u8> = pieces.iter().flat_map(|piece| piece.text.clone()).collect();
        assert_eq!(joined, long[..150_003]);
        let (end, begin) = pieces.split_last().unwrap();
        assert!(begin.iter().all(|piece| piece.continues) && !end.continues);
    }

    #[test]
    fn a_follower_is_told_how_many_lines_it_missed() {
        let history = History::new(10 * (ENTRY + 2), false);
        let n = names(2);
        say(&history, &n[0], b"0\n1\n");
        say(&history, &n[1], b"x\n");
        let (lines, mut cursor) = history.lines(&|whose| whose.name == "a.1", Some(1));
        assert_eq!(texts(&lines), ["a.1 1"]);
        let wanted = |whose: Whose<'_>| whose.name == "a.1";
        let mut poll = |history: &History, most| {
            history.poll_next(&mut cursor, &wanted, most, &mut Context::from_waker(Waker::noop()))
        };
        (0..25).for_each(|line| say(&history, &n[0], format!("{}\n", line % 10).as_bytes()));
        (0..99).for_each(|_| say(&history, &n[1], b"x\n"));
        let Poll::Ready(batch) = poll(&history, 4) else { panic!("there is something") };
        assert_eq!((batch.missed, texts(&batch.lines).join(",").as_str()), (15, "a.1 5,a.1 6,a.1 7,a.1 8"));
        let Poll::Ready(batch) = poll(&history, 100) else { panic!("there is more") };
        assert_eq!((batch.missed, batch.lines.len()), (0, 6));
        assert!(poll(&history, 100).is_pending(), "of the other one it wants nothing");
        // More in one chunk than there is room for, and a line that never fits.
        say(&history, &n[0], b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n0\n1\n");
        let Poll::Ready(batch) = poll(&history, 100) else { panic!("there is more") };
        assert_eq!((batch.missed, batch.lines.len()), (2, 10));
        say(&history, &n[0], &[b'x'; 1000]);
        let Poll::Ready(batch) = poll(&history, 100) else { panic!("there was more") };
        assert_eq!((batch.missed, batch.lines.len()), (1, 0));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test that can make no thread has failed")]
    fn whoever_waits_is_woken_by_what_comes() {
        use std::sync::mpsc::{Receiver, Sender, channel};
        struct Bell(Mutex<Sender<()>>);
        impl std::task::Wake for Bell {
            fn wake(self: Arc<Self>) {
                self.0.lock().unwrap().send(()).unwrap();
            }
        }
        let history = History::new(20_000, false);
        let n = names(4);
        let (_, mut cursor) = history.lines(&|_| true, None);
        let writers: Vec<_> = n
            .iter()
            .map(|name| {
                let (history, name) = (Arc::clone(&history), Arc::clone(name));
                std::thread::spawn(move || {
                    (0..5000).for_each(|line| say(&history, &name, format!("{line}\n{line}\n").as_bytes()));
                })
            })
            .collect();
        let (bell, rings): (Sender<()>, Receiver<()>) = channel();
        let waker = Waker::from(Arc::new(Bell(Mutex::new(bell))));
        let (mut seen, mut newest, mut of) = (0, None, [0; 4]);
        while seen < 4 * 10_000 {
            match history.poll_next(&mut cursor, &|_| true, 64, &mut Context::from_waker(&waker)) {
                Poll::Pending => rings.recv_timeout(std::time::Duration::from_secs(30)).unwrap(),
                Poll::Ready(batch) => {
                    seen += batch.missed + batch.lines.len() as u64;
                    for line in batch.lines {
                        assert!(newest < Some(line.sequence), "in order, and none twice");
                        newest = Some(line.sequence);
                        of[usize::from(line.instance.as_bytes()[0] - b'a')] += 1;
                    }
                }
            }
        }
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        assert_eq!(seen, 4 * 10_000, "each line was read or counted as missed");
        assert!(of.iter().all(|&count| count > 0), "{of:?}");
        assert_eq!(next(&history, &mut cursor, 1), None);
    }

    fn own(history: &History, life: u32, most: usize) -> Vec<String> {
        history
            .of_life("a.1", life, most)
            .iter()
            .map(|l| String::from_utf8_lossy(&l.text).into_owned())
            .collect()
    }

    #[test]
    fn lines_are_of_the_life_in_which_they_were_said() {
        let history = History::new(6 * (ENTRY + 2), false);
        let n = names(2);
        let ring = history.ring(&n[0]);
        assert_eq!(own(&history, 1, 9), [""; 0]);
        history.mark(ring, 1);
        say(&history, &n[0], b"a\n");
        history.say(&n[0], 8, "1", None);
        // Its second stream, and one that says nothing.
        [1, 2, 3].into_iter().for_each(|life| history.mark(ring, life));
        say(&history, &n[0], b"b\nc\n");
        say(&history, &n[1], b"x\n");
        assert_eq!(
            (own(&history, 1, 9), own(&history, 3, 9)),
            (vec!["a".into()], vec!["b".into(), "c".into()])
        );
        assert_eq!((own(&history, 2, 9), own(&history, 3, 1)), (vec![], vec!["c".to_owned()]));
        say(&history, &n[0], b"d\ne\nf\n");
        assert_eq!((own(&history, 1, 9), own(&history, 3, 9).join("")), (vec![], "bcdef".to_owned()));
        // In one chunk more than there is room for: the beginning of the life is gone.
        say(&history, &n[0], b"0\n1\n2\n3\n4\n5\n6\n7\n");
        assert_eq!(own(&history, 3, 9).join(""), "234567");
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// An instance says lines of these lengths in one chunk.
        Say(usize, Vec<usize>),
        /// A follower that wants the first `n` instances comes for at most so many.
        Follow(usize, usize),
        /// It begins anew with the newest so many.
        Begin(usize, Option<usize>),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0usize..3, prop::collection::vec(0usize..60, 1..8)).prop_map(|(who, n)| Step::Say(who, n)),
            2 => (1usize..4, 1usize..12).prop_map(|(who, most)| Step::Follow(who, most)),
            1 => (1usize..4, prop::option::of(0usize..10)).prop_map(|(who, last)| Step::Begin(who, last)),
        ]
    }

    #[derive(Debug, Clone)]
    enum Happens {
        /// The next life begins.
        Life,
        /// The instance says so many lines in one chunk.
        Says(usize),
        /// lpm says one, perhaps of an event.
        Told(bool),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            1 => Just(Happens::Life),
            2 => (1usize..6).prop_map(Happens::Says),
            2 => any::<bool>().prop_map(Happens::Told),
        ]
    }

    proptest! {
        /// Held against a list with the life and the event of each line beside it.
        #[test]
        fn lines_keep_their_events_and_lives(steps in prop::collection::vec(happens(), 1..60), bound in 60usize..600) {
            let history = History::new(bound, false);
            let name = &names(1)[0];
            let ring = history.ring(name);
            let (_, mut cursor) = history.lines(&|_| true, Some(0));
            let mut all: Vec<(Origin, u32)> = Vec::new();
            let (mut life, mut event) = (0, 0);
            for step in steps {
                match step {
                    Happens::Life => {
                        life += 1;
                        history.mark(ring, life);
                    }
                    Happens::Says(count) => {
                        say(&history, name, "x\n".repeat(count).as_bytes());
                        all.extend(vec![(OUT, life); count]);
                    }
                    Happens::Told(of_event) => {
                        event += u64::from(of_event);
                        let event = of_event.then_some(EventId(event));
                        history.say(name, 7, "x", event);
                        all.push((Origin::Lpm { event }, life));
                    }
                }
                let cost = |origin| match origin {
                    Origin::Lpm { event: Some(_) } => ENTRY + EVENT + 2,
                    Origin::Lpm { event: None } | Origin::Instance(_) => ENTRY + 2,
                };
                let mut room = Some(bound);
                let kept = all.iter().rev().take_while(|(origin, _)| {
                    room = room.and_then(|room| room.checked_sub(cost(*origin)));
                    room.is_some()
                });
                let kept = &all[all.len() - kept.count()..];
                let origins = |lines: &[Line]| lines.iter().map(|line| line.origin).collect::<Vec<_>>();
                let expected: Vec<Origin> = kept.iter().map(|(origin, _)| *origin).collect();
                prop_assert_eq!(origins(&history.lines(&|_| true, None).0), expected.clone());
                if let Some(batch) = next(&history, &mut cursor, 100) {
                    prop_assert!(expected.ends_with(&origins(&batch.lines)));
                }
                for of in 1..=life {
                    let said = kept.iter().filter(|(origin, life)| *origin == OUT && *life == of).count();
                    prop_assert_eq!(history.of_life(name, of, 100).len(), said);
                }
            }
        }

        /// Held against all lines ever said in one list, which of them are kept being worked out anew each time.
        #[test]
        fn agrees_with_a_plain_list(steps in prop::collection::vec(step(), 1..60), bound in 100usize..800) {
            let history = History::new(bound, false);
            let n = names(3);
            let mut all: Vec<(usize, Vec<u8>)> = Vec::new();
            // For each number of instances wanted: what that follower has behind it, by place in `all`.
            let mut followers: Vec<(Vec<bool>, Cursor)> =
                (0..4).map(|_| (Vec::new(), history.lines(&|_| true, Some(0)).1)).collect();
            let mut count = 0u32;
            for step in steps {
                // The newest of each instance that fit its ring.
                let kept = |all: &[(usize, Vec<u8>)]| -> Vec<bool> {
                    let mut left = [Some(bound); 3];
                    let mut kept = vec![false; all.len()];
                    for (at, (who, text)) in all.iter().enumerate().rev() {
                        left[*who] = left[*who].and_then(|left| left.checked_sub(text.len() + 1 + ENTRY));
                        kept[at] = left[*who].is_some();
                    }
                    kept
                };
                match step {
                    Step::Say(who, lengths) => {
                        let mut chunk = Vec::new();
                        for length in lengths {
                            count += 1;
                            let text = format!("{count}{}", "-".repeat(length)).into_bytes();
                            chunk.extend_from_slice(&text);
                            chunk.push(b'\n');
                            all.push((who, text));
                        }
                        say(&history, &n[who], &chunk);
                    }
                    Step::Begin(who, last) => {
                        let wanted = |whose: Whose<'_>| n[..who].iter().any(|known| **known == *whose.name);
                        let (lines, cursor) = history.lines(&wanted, last);
                        let kept = kept(&all);
                        let mut model: Vec<&[u8]> = all.iter().zip(&kept)
                            .filter(|((w, _), kept)| *w < who && **kept)
                            .map(|((_, text), _)| &text[..])
                            .collect();
                        model.drain(..last.map_or(0, |last| model.len().saturating_sub(last)));
                        prop_assert_eq!(lines.iter().map(|line| &line.text[..]).collect::<Vec<_>>(), model);
                        followers[who] = (vec![true; all.len()], cursor);
                    }
                    Step::Follow(who, most) => {
                        let wanted = |whose: Whose<'_>| n[..who].iter().any(|known| **known == *whose.name);
                        let (behind, cursor) = &mut followers[who];
                        behind.resize(all.len(), false);
                        let mut context = Context::from_waker(Waker::noop());
                        let got = history.poll_next(cursor, &wanted, most, &mut context);
                        let kept = kept(&all);
                        let new: Vec<usize> =
                            (0..all.len()).filter(|&at| all[at].0 < who && !behind[at]).collect();
                        let Poll::Ready(batch) = got else {
                            prop_assert!(new.is_empty());
                            continue;
                        };
                        let (there, gone): (Vec<usize>, Vec<usize>) = new.iter().partition(|&&at| kept[at]);
                        let shown = &there[..there.len().min(most)];
                        let texts: Vec<&[u8]> = shown.iter().map(|&at| &all[at].1[..]).collect();
                        prop_assert_eq!(batch.lines.iter().map(|l| &l.text[..]).collect::<Vec<_>>(), texts);
                        prop_assert_eq!(batch.missed as usize, gone.len());
                        gone.iter().chain(shown).for_each(|&at| behind[at] = true);
                    }
                }
            }
        }
    }
}
