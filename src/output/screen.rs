//! The screen of an instance with a pseudo-terminal, for a viewer that attaches later.
//!
//! The log thread feeds every byte that comes out of the terminal to a parser, which keeps the screen's cells,
//! the cursor and the modes, and to a ring of the newest bytes. A viewer first gets the screen
//! [repainted](Screen::repaint) and then the bytes [after that](Screen::poll_after), exactly as they came. One
//! that is too slow for the ring is told so and has the screen repainted: nobody ever waits for a viewer.
//!
//! **A screen outlives the lives of its instance.** When a new life begins it is empty again, and viewers are
//! told ([`Output::Reset`]).
//!
//! **Questions.** Programs ask their terminal where its cursor is and what it is, and some wait for the answer. The
//! screen itself answers the common ones (device status, cursor position, primary device attributes: it says that it
//! is a VT100, as screen(1) and tmux do), whoever looks; all others go unanswered, as they do in front of a terminal
//! that doesn't know them. No viewer's terminal is asked anything: several would answer one question, and one that was
//! stopped would have the program wait for ever.
//!
//! **What is not repainted**: the title, scroll margins and tab stops (a program that is told of a new size sets
//! them anew), other keyboard protocols than cursor and keypad mode, images, and what has scrolled off; for that
//! there is the history.
//!
//! **The alternate screen** is shown like the main one: a viewer stands on the alternate screen of its own terminal
//! all the time, and what switches there would bring back what was on that before. So the switch itself is not
//! passed on; whoever had not seen it yet has the screen repainted.
//!
//! **Who waits for whom.** To take in what a program says may last, and to paint too; only the log thread and viewers
//! wait for that. What the driver asks and says (size, viewers) has a lock of its own.
//!
//! It writes to no terminal and does not know which one it stands for.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use super::emulator::Emulator;
use super::sequence::{self, Plain};
use super::waiting::{Seat, Waiting};

/// How many of the newest bytes are kept for viewers.
pub const KEPT: usize = 64 * 1024;

/// The most that a viewer gets at once, in bytes.
pub const MOST_AT_ONCE: usize = 16 * 1024;

/// The most rows and columns: each cell costs memory, and the size is a viewer's word.
pub const LARGEST: (u16, u16) = (500, 1000);

/// The least: nothing can be shown on less.
pub const SMALLEST: (u16, u16) = (2, 2);

/// One instance's screen, shared by the log thread, which feeds it, the driver, which sizes it, and its viewers.
pub struct Screen {
    /// Locked for as long as something is taken in or painted, and before `shown`: never by the driver.
    intake: Mutex<Intake>,
    /// Never locked for long.
    shown: Mutex<Shown>,
}

/// Up to where a viewer has seen the bytes. It is of use only with the screen that gave it.
#[derive(Debug)]
pub struct Position {
    life: u64,
    offset: u64,
    /// Which painting these bytes come after.
    painting: u64,
    seat: Arc<Seat>,
}

/// What a viewer gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The next bytes, at most [`MOST_AT_ONCE`].
    Bytes(Vec<u8>),
    /// There were more bytes than are kept, or a switch between the main and the alternate screen, or another size:
    /// repaint, and go on from there.
    Lagged,
    /// A new life began with an empty screen: clear, and go on.
    Reset,
}

/// Somebody looks at the screen and decides its size, for as long as this is kept.
#[derive(Debug)]
pub struct Viewer {
    screen: Arc<Screen>,
}

impl Screen {
    /// An empty one. Sizes are kept between [`SMALLEST`] and [`LARGEST`].
    pub fn new(rows: u16, columns: u16) -> Arc<Screen> {
        let size = bounded(rows, columns);
        let shown = Shown {
            size,
            recent: VecDeque::new(),
            end: 0,
            life: 0,
            painting: 0,
            began: (0, 0),
            over: true,
            viewers: 0,
            waiting: Waiting::default(),
        };
        Arc::new(Screen { intake: Mutex::new(Intake::new(size)), shown: Mutex::new(shown) })
    }

    /// Takes in what came out of the terminal. Returns what is to be typed in answer to it.
    #[must_use]
    pub fn feed(&self, bytes: &[u8]) -> Vec<u8> {
        let mut intake = self.intake();
        let Intake { emulator, unasked, passed } = &mut *intake;
        let switched = emulator.process(bytes);
        let answers = emulator.answers();
        passed.clear();
        unasked.feed(bytes, passed);
        let mut shown = self.lock();
        let newest = &passed[passed.len().saturating_sub(KEPT)..];
        let leaving = (shown.recent.len() + newest.len()).saturating_sub(KEPT);
        shown.recent.drain(..leaving);
        shown.recent.extend(newest);
        shown.end += passed.len() as u64;
        shown.painting += u64::from(switched);
        let waiting = shown.waiting.take();
        drop(shown);
        drop(intake);
        waiting.wake();
        answers
    }

    /// A new life begins, with an empty screen.
    pub fn reset(&self) {
        let mut intake = self.intake();
        let mut shown = self.lock();
        *intake = Intake::new(shown.size);
        shown.recent.clear();
        shown.life += 1;
        shown.over = false;
        shown.began = (shown.end, shown.painting);
        let waiting = shown.waiting.take();
        drop(shown);
        drop(intake);
        waiting.wake();
    }

    /// Nothing more comes out of the terminal.
    pub fn finish(&self) {
        let mut shown = self.lock();
        shown.over = true;
        let waiting = shown.waiting.take();
        drop(shown);
        waiting.wake();
    }

    /// Whether nothing more comes out of the terminal, until a new life begins.
    pub fn is_over(&self) -> bool {
        self.lock().over
    }

    /// The terminal has another size now.
    pub fn resize(&self, rows: u16, columns: u16) {
        let size = bounded(rows, columns);
        let mut shown = self.lock();
        if shown.size != size {
            // The emulator learns of it before it takes in or paints anything.
            shown.size = size;
        }
    }

    /// Rows and columns.
    pub fn size(&self) -> (u16, u16) {
        self.lock().size
    }

    /// Somebody begins to look at it.
    pub fn view(self: &Arc<Self>) -> Viewer {
        self.lock().viewers += 1;
        Viewer { screen: Arc::clone(self) }
    }

    /// Whether somebody looks at it, and so decides its size.
    pub fn is_viewed(&self) -> bool {
        self.lock().viewers > 0
    }

    /// What makes an empty terminal of the same size look like this one and behave like it (cursor, colours, mouse,
    /// bracketed paste, cursor and keypad mode), whichever of its two screens is shown, and where following goes on.
    pub fn repaint(&self) -> (Vec<u8>, Position) {
        let intake = self.intake();
        let picture = intake.emulator.screen().state_formatted().into_bytes();
        let shown = self.lock();
        // What is not finished had no effect yet, and is said again.
        let offset = shown.finished();
        (picture, Position { life: shown.life, offset, painting: shown.painting, seat: Arc::default() })
    }

    /// What comes after the position, which is moved behind it. Where nothing came, the context is woken when
    /// something does.
    pub fn poll_after(&self, position: &mut Position, context: &mut Context<'_>) -> Poll<Output> {
        let mut shown = self.lock();
        if position.life != shown.life {
            position.life = shown.life;
            (position.offset, position.painting) = shown.began;
            return Poll::Ready(Output::Reset);
        }
        if position.painting != shown.painting {
            return Poll::Ready(Output::Lagged);
        }
        let behind = shown.end - position.offset;
        if behind == 0 {
            shown.waiting.wait(&position.seat, context);
            return Poll::Pending;
        }
        let Some(from) = usize::try_from(behind).ok().and_then(|n| shown.recent.len().checked_sub(n)) else {
            return Poll::Ready(Output::Lagged);
        };
        let to = shown.recent.len().min(from + MOST_AT_ONCE);
        position.offset += (to - from) as u64;
        Poll::Ready(Output::Bytes(shown.recent.range(from..to).copied().collect()))
    }

    /// Everything that takes time, in the size that the screen has by now.
    fn intake(&self) -> MutexGuard<'_, Intake> {
        let mut intake = self.intake.lock().unwrap_or_else(PoisonError::into_inner);
        let (rows, columns) = self.size();
        let has = intake.emulator.screen().size();
        if (has.0.get(), has.1.get()) != (rows, columns) {
            intake.emulator.set_size(rows, columns);
        }
        intake
    }

    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.screen.lock().viewers -= 1;
    }
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("size", &self.size()).finish_non_exhaustive()
    }
}

/// Where the program's words go.
struct Intake {
    emulator: Emulator,
    /// What viewers get of them, and what they get of the last chunk.
    unasked: Plain,
    passed: Vec<u8>,
}

impl Intake {
    fn new((rows, columns): (u16, u16)) -> Intake {
        Intake { emulator: Emulator::new(rows, columns), unasked: Plain::unasked(), passed: Vec::new() }
    }
}

struct Shown {
    size: (u16, u16),
    /// The newest bytes; the last is the one before `end`.
    recent: VecDeque<u8>,
    /// How many bytes there were in all lives.
    end: u64,
    /// Which life this is.
    life: u64,
    /// How often viewers had to have the screen painted anew, whatever they had seen.
    painting: u64,
    /// What `end` and `painting` were when this life began.
    began: (u64, u64),
    /// Nothing more comes out of the terminal: its life is over, or none has begun.
    over: bool,
    viewers: usize,
    waiting: Waiting,
}

impl Shown {
    /// Where the last character or sequence ended that is whole.
    fn finished(&self) -> u64 {
        let from = self.recent.len().saturating_sub(sequence::LONGEST);
        let newest: Vec<u8> = self.recent.range(from..).copied().collect();
        self.end - sequence::unfinished(&newest) as u64
    }
}

fn bounded(rows: u16, columns: u16) -> (u16, u16) {
    (rows.clamp(SMALLEST.0, LARGEST.0), columns.clamp(SMALLEST.1, LARGEST.1))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;
    use std::task::Waker;

    use proptest::prelude::*;

    use super::super::emulator::MOST_ANSWERED;
    use super::*;

    fn next(screen: &Screen, position: &mut Position) -> Option<Output> {
        match screen.poll_after(position, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn fed(rows: u16, columns: u16, bytes: &[u8]) -> Arc<Screen> {
        let screen = Screen::new(rows, columns);
        let _ = screen.feed(bytes);
        screen
    }

    /// An empty terminal that was painted.
    fn painted(screen: &Screen) -> vt100::Parser {
        let (rows, columns) = screen.size();
        let positive = |n| NonZeroU16::new(n).expect("it has bounds");
        let mut terminal = vt100::Parser::new(positive(rows), positive(columns), 0);
        terminal.process(&screen.repaint().0);
        terminal
    }

    fn assert_same(one: &vt100::Screen, other: &vt100::Screen) {
        assert_eq!(one.state_formatted(), other.state_formatted());
        assert_eq!(one.contents(), other.contents());
        assert_eq!(one.cursor_position(), other.cursor_position());
        assert_eq!((one.fgcolor(), one.bold()), (other.fgcolor(), other.bold()));
    }

    #[test]
    fn a_painted_terminal_looks_the_same_and_behaves_the_same() {
        for text in [
            &b"plain\r\ntext"[..],
            b"\x1b[31mred \x1b[1;44mbold on blue",
            b"\x1b[5;10Hhere\x1b[2;2H",
            b"\x1b[?25lhidden",
            "wide 漢字 e\u{301} 😀".as_bytes(),
            b"below\x1b[?1049h\x1b[3;3Habove\x1b[32m",
            b"\x1b[?1h\x1b=\x1b[?2004h\x1b[?1002h\x1b[?1006hmodes",
            b"12345678901234567890",
            b"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7 scrolled",
        ] {
            let screen = fed(6, 20, text);
            let mut terminal = painted(&screen);
            assert_same(terminal.screen(), screen.intake().emulator.screen());
            // And goes on so.
            let _ = screen.feed(b"more\r\n");
            terminal.process(b"more\r\n");
            assert_same(terminal.screen(), screen.intake().emulator.screen());
        }
    }

    #[test]
    fn a_switch_of_screens_is_painted_and_not_passed_on() {
        let screen = fed(4, 20, b"main");
        let (_, mut position) = screen.repaint();
        for (switch, shown) in [
            (&b"\x1b[?1049h\x1b[Habove"[..], "above"),
            (b"\x1b[?1049l", "main"),
            (b"\x1b[?47hagain\x1b[?47l", "main"),
            (b"\x1b[?1049h\x1b[Hcut \x1b[3", "cut "),
        ] {
            let _ = screen.feed(switch);
            assert_eq!(next(&screen, &mut position), Some(Output::Lagged), "{shown}");
            assert!(!String::from_utf8_lossy(&screen.repaint().0).contains("1049"));
            assert_eq!(painted(&screen).screen().contents().lines().next(), Some(shown));
            position = screen.repaint().1;
        }
        assert_eq!(next(&screen, &mut position), None);
        let _ = screen.feed(b"1m");
        assert_eq!(
            next(&screen, &mut position),
            Some(Output::Bytes(b"\x1b[31m".to_vec())),
            "said as a whole"
        );
        // The switch itself may come in pieces.
        for piece in [&b"\x1b[?10"[..], b"49l"] {
            let _ = screen.feed(piece);
        }
        assert_eq!(next(&screen, &mut position), Some(Output::Lagged));
    }

    #[test]
    fn what_was_cut_in_mid_sequence_is_said_from_its_beginning() {
        for (begun, rest) in [
            (&b"a\x1b[3"[..], &b"1mred"[..]),
            (b"a\x1b", b"[31mred"),
            (b"a\x1b]0;ti", b"tle\x07b"),
            (b"a\xe6\xbc", b"\xa2b"),
        ] {
            let screen = fed(4, 20, begun);
            let mut terminal = painted(&screen);
            let (_, mut position) = screen.repaint();
            let _ = screen.feed(rest);
            let Some(Output::Bytes(bytes)) = next(&screen, &mut position) else { panic!("there is more") };
            terminal.process(&bytes);
            assert_same(terminal.screen(), screen.intake().emulator.screen());
        }
    }

    #[test]
    fn a_viewer_gets_every_byte_until_it_lags() {
        let screen = fed(24, 80, b"before");
        let (_, mut position) = screen.repaint();
        assert_eq!(next(&screen, &mut position), None);
        let text: Vec<u8> = (0..KEPT).map(|n| b'a' + (n % 26) as u8).collect();
        text.chunks(1000).for_each(|chunk| drop(screen.feed(chunk)));
        let mut got = Vec::new();
        while let Some(Output::Bytes(bytes)) = next(&screen, &mut position) {
            assert!(bytes.len() <= MOST_AT_ONCE);
            got.extend(bytes);
        }
        assert!(got == text);
        text.chunks(1000).for_each(|chunk| drop(screen.feed(chunk)));
        let _ = screen.feed(b"!");
        assert_eq!(next(&screen, &mut position), Some(Output::Lagged));
        assert_eq!(next(&screen, &mut position), Some(Output::Lagged), "until it has repainted");
        let (_, mut position) = screen.repaint();
        assert_eq!(next(&screen, &mut position), None);
        // All at once, and more than is kept.
        let _ = screen.feed(&text.repeat(2));
        assert_eq!(next(&screen, &mut position), Some(Output::Lagged));
        assert!(screen.lock().recent.capacity() <= 2 * KEPT);
    }

    #[test]
    fn a_new_life_begins_with_an_empty_screen() {
        let screen = fed(4, 20, b"\x1b[?1049hold");
        let (_, mut position) = screen.repaint();
        screen.resize(5, 30);
        screen.reset();
        let _ = screen.feed(b"new");
        assert_eq!(next(&screen, &mut position), Some(Output::Reset));
        assert_eq!(next(&screen, &mut position), Some(Output::Bytes(b"new".to_vec())));
        assert_eq!(next(&screen, &mut position), None);
        screen.reset();
        assert_eq!(next(&screen, &mut position), Some(Output::Reset), "though nothing was said since");
        assert_eq!(next(&screen, &mut position), None);
        assert_eq!(screen.intake().emulator.screen().contents().trim(), "");
        assert_eq!(screen.size(), (5, 30));
    }

    #[test]
    fn sizes_have_bounds() {
        let screen = Screen::new(0, 0);
        assert_eq!(screen.size(), SMALLEST);
        screen.resize(u16::MAX, u16::MAX);
        assert_eq!(screen.size(), LARGEST);
        let _ = screen.feed(b"\x1b[65535;65535Hx\x1b[?1049hx");
        screen.resize(1, 1);
        assert_eq!(screen.size(), SMALLEST);
    }

    /// As it is while much is being taken in.
    #[test]
    fn the_driver_waits_for_nobody() {
        let screen = Screen::new(4, 20);
        let (_, mut position) = screen.repaint();
        let taking_in = screen.intake();
        let viewer = screen.view();
        screen.resize(5, 30);
        assert_eq!(screen.size(), (5, 30));
        assert!(screen.is_viewed() && screen.is_over());
        drop(viewer);
        assert_eq!(next(&screen, &mut position), None);
        drop(taking_in);
        assert_eq!(screen.feed(b"\x1b[99;99H\x1b[6n"), b"\x1b[5;30R");
    }

    #[test]
    fn questions_are_answered_whoever_looks() {
        let screen = Screen::new(24, 80);
        assert_eq!(screen.feed(b"\x1b[3;7H\x1b[6n"), b"\x1b[3;7R");
        assert_eq!(screen.feed(b"\x1b[5n\x1b[c\x1b[0c"), b"\x1b[0n\x1b[?1;2c\x1b[?1;2c");
        assert_eq!(screen.feed(b"\x1b[>c\x1b[?6c\x1b[18t\x1b]11;?\x07plain"), b"");
        assert_eq!(screen.feed(&[b"\x1b[H".as_slice(), &[b'x'; 80], b"\x1b[6n"].concat()), b"\x1b[1;80R");
        assert!(screen.feed(&b"\x1b[c".repeat(10_000)).len() <= MOST_ANSWERED);
        let (_, mut position) = screen.repaint();
        let (one, two) = (screen.view(), screen.view());
        assert_eq!(screen.feed(b"a\r\n\x1b[5"), b"");
        assert_eq!(screen.feed(b"n\x1b]11;?\x07b\x1b[>q"), b"\x1b[0n");
        assert_eq!(
            next(&screen, &mut position),
            Some(Output::Bytes(b"a\r\nb".to_vec())),
            "nobody else is asked"
        );
        drop(one);
        assert!(screen.is_viewed());
        drop(two);
        assert!(!screen.is_viewed());
    }

    #[test]
    fn whoever_waits_is_woken_by_bytes_and_by_a_new_life() {
        use std::sync::atomic::{AtomicU32, Ordering};
        struct Count(AtomicU32);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        let screen = Screen::new(24, 80);
        let (_, mut position) = screen.repaint();
        let mut poll = || screen.poll_after(&mut position, &mut Context::from_waker(&waker)).is_ready();
        assert!(!poll());
        let _ = screen.feed(b"x");
        let _ = screen.feed(b"y");
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        assert!(poll() && !poll());
        screen.reset();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        assert!(poll());
    }

    /// What a hostile or broken program may say.
    fn noise() -> impl Strategy<Value = Vec<u8>> {
        let number = prop_oneof![Just(0u16), 1u16..30, Just(9999)];
        let csi = (
            prop::sample::select(&b"@ABCDEFGHJKLMPSTXbdfmrhlstn`"[..]),
            prop::sample::select(&["", "?"][..]),
            prop::collection::vec(number, 0..3),
        );
        let csi = csi.prop_map(|(last, private, numbers)| {
            let numbers: Vec<String> = numbers.iter().map(u16::to_string).collect();
            format!("\x1b[{private}{}{}", numbers.join(";"), char::from(last)).into_bytes()
        });
        let modes = prop::sample::select(
            &["\x1b[?1049h", "\x1b[?1049l", "\x1b[?47h", "\x1b[?6h", "\x1b7", "\x1b8", "\x1bM", "\x1bc"][..],
        );
        let text = prop::sample::select(
            &["x", "漢", "e\u{301}", "\u{301}", "😀", "\r\n", "\t", "\x08", "\u{ad}", "\u{200b}", "ab cd ef"]
                [..],
        );
        prop_oneof![
            3 => csi,
            1 => modes.prop_map(|text| text.as_bytes().to_vec()),
            3 => text.prop_map(|text| text.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..8),
        ]
    }

    proptest! {
        /// Whatever is said, at whatever sizes, nothing panics, and an alternate or main screen is painted as it is.
        #[test]
        fn nothing_brings_it_down(
            steps in prop::collection::vec((noise(), prop::option::weighted(0.1, (0u16..12, 0u16..12))), 1..80),
        ) {
            let screen = Screen::new(4, 8);
            for (bytes, size) in &steps {
                if let Some((rows, columns)) = size {
                    screen.resize(*rows, *columns);
                }
                let _ = screen.feed(bytes);
                let _ = screen.repaint();
            }
            let terminal = painted(&screen);
            prop_assert_eq!(terminal.screen().contents(), screen.intake().emulator.screen().contents());
        }
    }
}
