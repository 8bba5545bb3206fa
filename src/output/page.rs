//! What lines are printed on: the batch, standard output behind it, and its troubles.
//!
//! The page decides when the batch is written, what becomes of it when it cannot be ([`super::outlet`]), and who
//! holds the output while a long line is being printed. It reads nothing. Where nothing is to go to standard
//! output, there is a page all the same, which is gone from the beginning.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::lines::Piece;
use super::outlet::{Outlet, Turn, reason};
use super::terminal::{Clock, Escaper, Label, Layout, Prefix};
use super::{Notice, Shown, SourceId, Stream, json};
use crate::meaning::structured::pretty;
use crate::wording::announce;

/// The batch is written at the end of every turn and whenever it would become larger than this.
const BATCH: usize = 256 * 1024;

/// Standard output, with a batch before it.
pub(super) struct Page {
    stdout: Outlet,
    /// What lpm says goes there.
    own: bool,
    batch: Vec<u8>,
    layout: Layout,
    /// Now, in microseconds since 1970 in UTC.
    now: u64,
    clock: Clock,
    hold: Option<Hold>,
    notify: Box<dyn Fn(Notice) + Send>,
}

/// A long line is being printed, and nobody else's may come in between.
pub(super) struct Hold {
    pub(super) source: SourceId,
    /// How much of the line was printed.
    pub(super) bytes: usize,
    /// How long others have waited while the holder was silent, in nanoseconds.
    pub(super) waited: u64,
}

/// How one source's lines look.
pub(super) struct Voice {
    label: Label,
    stream: Stream,
    prefix: Prefix,
    /// Control sequences are to be shown.
    escaper: Option<Escaper>,
    /// Records are to be written for people.
    pub(super) pretty: bool,
    /// The line was broken off; what comes next is the rest of it.
    continued: bool,
}

impl Page {
    /// `shown`: what is to go there.
    pub(super) fn new(
        stdout: OwnedFd,
        shown: Shown,
        layout: Layout,
        notify: Box<dyn Fn(Notice) + Send>,
    ) -> Page {
        let mut stdout = Outlet::new(stdout);
        if shown == Shown::Nothing {
            stdout.give_up();
        }
        let own = shown == Shown::All;
        Page { stdout, own, batch: Vec::new(), layout, now: 0, clock: Clock::default(), hold: None, notify }
    }

    pub(super) fn stdout(&self) -> BorrowedFd<'_> {
        self.stdout.fd()
    }

    pub(super) fn notify(&self, notice: Notice) {
        (self.notify)(notice);
    }

    /// A voice for a source. `raw`: it has its own terminal and knows what it does.
    pub(super) fn voice(&self, label: Label, stream: Stream, raw: bool) -> Voice {
        let prefix = Prefix::new(&self.layout, &label, stream);
        let escaper = (self.layout.escape_controls && !raw).then(Escaper::default);
        Voice { label, stream, prefix, escaper, pretty: false, continued: false }
    }

    /// Whether lines are printed on a terminal.
    pub(super) fn is_terminal(&self) -> bool {
        self.layout.escape_controls && !self.layout.json
    }

    /// Switches modes of that terminal off, between two lines.
    pub(super) fn switch_off(&mut self, sequences: &[u8]) {
        if !sequences.is_empty() && !self.is_gone() {
            self.put(sequences);
        }
    }

    /// Makes room for a longer name. Returns whether voices have to be laid out anew.
    pub(super) fn widen(&mut self, label: &Label) -> bool {
        let wider = label.name().len() > self.layout.width;
        self.layout.width = self.layout.width.max(label.name().len());
        wider
    }

    pub(super) fn lay_out(&self, voice: &mut Voice) {
        voice.prefix = Prefix::new(&self.layout, &voice.label, voice.stream);
    }

    /// It is now so many microseconds since 1970 in UTC. To be told before lines that came in now are printed.
    pub(super) fn tick(&mut self, now_usec: u64) {
        self.now = now_usec;
        if self.layout.timestamps && self.layout.prefix {
            self.clock.tick((now_usec / 1_000_000) as i64);
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.stdout.is_gone()
    }

    /// Who holds the output. Nobody, once there is nobody to hold it before.
    pub(super) fn hold(&mut self) -> Option<&mut Hold> {
        if self.is_gone() { None } else { self.hold.as_mut() }
    }

    /// Prints a piece of what `source` said.
    #[inline]
    pub(super) fn print(&mut self, source: SourceId, voice: &mut Voice, piece: Piece<'_>) {
        match piece {
            piece if self.layout.json => {
                if self.batch.len() >= BATCH / 2 {
                    self.flush();
                }
                json::put(&mut self.batch, self.now, voice.label.name(), voice.stream, piece);
            }
            Piece::Whole(line) if voice.escaper.is_none() && !voice.continued && !voice.pretty => {
                let prefix = voice.prefix.at(&self.clock);
                if self.batch.len() + prefix.len() + line.len() > BATCH {
                    self.flush();
                }
                if self.batch.capacity() == 0 {
                    // Once, so that what follows never moves the batch; untouched pages cost nothing.
                    self.batch.reserve_exact(BATCH);
                }
                self.batch.extend_from_slice(prefix);
                self.batch.extend_from_slice(line);
            }
            other => self.print_rest(source, voice, other),
        }
    }

    fn print_rest(&mut self, source: SourceId, voice: &mut Voice, piece: Piece<'_>) {
        if let Piece::Whole(line) = piece
            && voice.pretty
            && !voice.continued
            && let Some(lines) =
                pretty(line, self.layout.colour, !(self.layout.prefix && self.layout.timestamps))
        {
            for line in lines {
                let prefix = voice.prefix.at(&self.clock);
                self.put(prefix);
                self.put(line.as_bytes());
                self.put(b"\n");
            }
            return;
        }
        let text = match piece {
            // The newline that ended the broken line has been printed in its place.
            Piece::Whole(b"\n") if voice.continued => {
                voice.continued = false;
                return;
            }
            Piece::Whole(text) | Piece::Start(text) => {
                if std::mem::take(&mut voice.continued) {
                    let prefix = voice.prefix.continued(&self.clock);
                    self.put(&prefix);
                } else {
                    let prefix = voice.prefix.at(&self.clock);
                    self.put(prefix);
                }
                text
            }
            Piece::More(text) | Piece::End(text) => text,
        };
        match &mut voice.escaper {
            Some(escaper) => escaper.show(text, |bytes| self.put(bytes)),
            None => self.put(text),
        }
        match piece {
            Piece::Start(text) => self.hold = Some(Hold { source, bytes: text.len(), waited: 0 }),
            Piece::More(text) => {
                if let Some(hold) = &mut self.hold {
                    hold.bytes += text.len();
                }
            }
            Piece::Whole(_) | Piece::End(_) => self.hold = None,
        }
    }

    /// Ends the long line that is being printed: others have waited long enough.
    pub(super) fn break_off(&mut self, voice: &mut Voice) {
        if let Some(escaper) = &mut voice.escaper {
            escaper.end(|bytes| self.put(bytes));
        }
        self.put(b"\n");
        voice.continued = true;
        self.hold = None;
    }

    /// Prints a line of lpm's own.
    pub(super) fn say(&mut self, label: &Label, text: &str) {
        debug_assert!(self.hold.is_none(), "orders wait for the end of a long line");
        if self.is_gone() || !self.own {
            return;
        }
        if self.layout.json {
            return text
                .split('\n')
                .for_each(|line| json::put_own(&mut self.batch, self.now, label.name(), line));
        }
        let mut voice = self.voice(label.clone(), Stream::Merged, false);
        for line in text.split('\n') {
            let mut line = line.as_bytes().to_vec();
            line.push(b'\n');
            // No source has this number, and a whole line holds nothing.
            self.print(SourceId(u64::MAX), &mut voice, Piece::Whole(&line));
        }
    }

    fn put(&mut self, mut bytes: &[u8]) {
        while self.batch.len() + bytes.len() > BATCH {
            let (now, later) = bytes.split_at(BATCH - self.batch.len());
            self.batch.extend_from_slice(now);
            self.flush();
            bytes = later;
        }
        self.batch.extend_from_slice(bytes);
    }

    /// Writes the batch. Returns when it is written, or given up.
    pub(super) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let Page { stdout, batch, layout, clock, now, .. } = self;
        let turn = stdout.write(batch, |errno, lines| gap(layout, clock, *now, errno, lines));
        self.batch.clear();
        match turn {
            Some(Turn::Gone) => {
                self.batch = Vec::new();
                self.notify(Notice::ReaderLeft);
            }
            Some(Turn::Refuses(errno)) => self.notify(Notice::Failed(errno)),
            Some(Turn::Recovered(_)) | None => {}
        }
    }

    /// Nobody reads any more.
    pub(super) fn reader_left(&mut self) {
        if !self.is_gone() {
            self.stdout.give_up();
            self.batch = Vec::new();
            self.notify(Notice::ReaderLeft);
        }
    }
}

/// The line that tells of lines that are missing.
fn gap(layout: &Layout, clock: &Clock, now: u64, errno: Errno, lines: u64) -> Vec<u8> {
    let label = Label::system();
    let text = announce::lines_lost(lines, &reason(errno));
    let mut line = Vec::new();
    if layout.json {
        json::put_own(&mut line, now, label.name(), &text);
        return line;
    }
    line.extend_from_slice(Prefix::new(layout, &label, Stream::Merged).at(clock));
    line.extend_from_slice(text.as_bytes());
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::sync::mpsc::{Receiver, channel};

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
    use rustix::pipe::pipe;

    use super::*;

    fn page(stdout: OwnedFd) -> (Page, Receiver<Notice>) {
        let (tell, notices) = channel();
        let layout = Layout {
            width: 6,
            timestamps: false,
            prefix: true,
            colour: false,
            escape_controls: false,
            json: false,
        };
        (Page::new(stdout, Shown::All, layout, Box::new(move |n| tell.send(n).unwrap_or(()))), notices)
    }

    fn say(page: &mut Page, text: &str) {
        page.say(&Label::system(), text);
        page.flush();
    }

    /// What is written once the page takes lines again.
    fn recovered(mut page: Page, text: &str) -> String {
        let (out, stdout) = pipe().unwrap();
        page.stdout.swap(stdout);
        say(&mut page, text);
        drop(page);
        let mut got = String::new();
        File::from(out).read_to_string(&mut got).unwrap();
        got
    }

    #[test]
    fn a_gap_is_counted_and_announced_before_the_next_line() {
        let (mut page, notices) = page(File::options().write(true).open("/dev/full").unwrap().into());
        ["one", "two", "three"].iter().for_each(|text| say(&mut page, text));
        let text = recovered(page, "back");
        assert_eq!(text, "system | 3 lines could not be written: No space left on device\nsystem | back\n");
        assert_eq!(notices.try_iter().collect::<Vec<_>>(), [Notice::Failed(Errno::NOSPC)]);
    }

    #[test]
    fn a_line_that_was_torn_is_ended_before_the_gap_is_announced() {
        let file = memfd_create("full", MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&file, 4096).unwrap();
        fcntl_add_seals(&file, SealFlags::GROW).unwrap();
        let (mut page, notices) = page(file);
        say(&mut page, &"x".repeat(5000));
        say(&mut page, "lost");
        let text = recovered(page, "back");
        assert_eq!(text, "\nsystem | 2 lines could not be written: Operation not permitted\nsystem | back\n");
        assert_eq!(notices.try_iter().collect::<Vec<_>>(), [Notice::Failed(Errno::PERM)]);
    }

    #[test]
    fn nothing_is_kept_for_a_reader_who_left() {
        let (_, stdout) = pipe().unwrap();
        let (mut page, notices) = page(stdout);
        (0..3).for_each(|_| say(&mut page, &"x".repeat(3 * BATCH)));
        assert!(page.is_gone() && page.batch.is_empty());
        assert_eq!(notices.try_iter().collect::<Vec<_>>(), [Notice::ReaderLeft]);
    }
}
