//! The terminal that a program with a pseudo-terminal believes to have: its cells, cursor and modes.
//!
//! The work is vt100's. In front of it the same grammar (vte, on which that is built) is listened to, for what it
//! leaves to its user: how often a character may be repeated, and whether a viewer's terminal, which stands on its
//! alternate screen all the time, would be brought off that.
//!
//! It knows no viewers, keeps no bytes, and is as slow as it is told much: nobody but the log thread may wait for it.

use std::num::NonZeroU16;

/// The most that is answered to one chunk, in bytes; whoever asks that often doesn't listen.
pub(super) const MOST_ANSWERED: usize = 1024;

/// How many cells may be cleared or moved for each byte of a chunk: two bytes clear half a million. A screen of 24 rows
/// of 80 never comes to it; 80 of 300 do with more than one clearing in 47 bytes.
const CELLS_PER_BYTE: usize = 512;

/// Clearings that every chunk may have.
const FEWEST_CLEARINGS: usize = 2;

/// Breaks a sequence off (ECMA-48, `CAN`).
const CANCEL: &[u8] = b"\x18";

/// See the top.
pub(super) struct Emulator {
    listener: vte::Parser,
    heard: Heard,
    shown: vt100::Parser<Answers>,
}

impl Emulator {
    /// An empty one.
    pub(super) fn new(rows: u16, columns: u16) -> Emulator {
        Emulator {
            listener: vte::Parser::new(),
            heard: Heard::default(),
            shown: vt100::Parser::new_with_callbacks(
                positive(rows),
                positive(columns),
                0,
                Answers::default(),
            ),
        }
    }

    /// Takes in what the program said. Returns whether that may have switched between main and alternate screen, even
    /// if it switched back: to be mistaken costs a repaint.
    pub(super) fn process(&mut self, mut bytes: &[u8]) -> bool {
        let alternate = self.screen().alternate_screen();
        self.heard.switched = false;
        let (rows, columns) = self.screen().size();
        self.heard.most_repeated = columns.get();
        let cells = usize::from(rows.get()) * usize::from(columns.get());
        let most = (bytes.len() * CELLS_PER_BYTE / cells).max(FEWEST_CLEARINGS);
        self.heard.left_out = clearings_beyond(most, bytes);
        while !bytes.is_empty() {
            let length = self.listener.advance_until_terminated(&mut self.heard, bytes);
            let (now, rest) = bytes.split_at(length);
            bytes = rest;
            if std::mem::take(&mut self.heard.leaves_out) {
                self.shown.process(&now[..now.len() - 1]);
                self.shown.process(CANCEL);
            } else if std::mem::take(&mut self.heard.repeats_too_often) {
                // It comes to its end in another number.
                self.shown.process(&now[..now.len() - 1]);
                self.shown.process(CANCEL);
                self.shown.process(format!("\x1b[{}b", self.heard.most_repeated).as_bytes());
            } else {
                self.shown.process(now);
            }
        }
        self.heard.switched || self.screen().alternate_screen() != alternate
    }

    /// What is to be typed in answer to what was said since this was asked last.
    pub(super) fn answers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.shown.callbacks_mut().0)
    }

    /// It has another size from now on.
    pub(super) fn set_size(&mut self, rows: u16, columns: u16) {
        self.shown.set_size(positive(rows), positive(columns));
    }

    /// What is on it.
    pub(super) fn screen(&self) -> &vt100::Screen {
        self.shown.screen()
    }
}

/// How many clearings `bytes` have beyond `most`. One that began in an earlier chunk may be missed.
fn clearings_beyond(most: usize, bytes: &[u8]) -> usize {
    #[derive(Default)]
    struct Count(usize);
    impl vte::Perform for Count {
        fn csi_dispatch(&mut self, parameters: &vte::Params, between: &[u8], _ignore: bool, last: char) {
            self.0 += usize::from(clears(parameters, between, last));
        }

        fn esc_dispatch(&mut self, between: &[u8], _ignore: bool, last: u8) {
            self.0 += usize::from(resets(between, last));
        }
    }
    // Most chunks have fewer sequences than that.
    if memchr::memchr_iter(0x1b, bytes).count() <= most {
        return 0;
    }
    let mut count = Count::default();
    vte::Parser::new().advance(&mut count, bytes);
    count.0.saturating_sub(most)
}

/// Whether a sequence may clear or move every cell of the screen: ED, IL, DL, SU, SD, DECSTR, and the switches between
/// main and alternate screen.
fn clears(parameters: &vte::Params, intermediates: &[u8], last: char) -> bool {
    match (intermediates, last) {
        (b"" | b"?", 'J') | (b"", 'L' | 'M' | 'S' | 'T') | (b"!", 'p') => true,
        (b"?", 'h' | 'l' | 'r') => parameters.iter().any(is_switch),
        _ => false,
    }
}

/// RIS
fn resets(intermediates: &[u8], last: u8) -> bool {
    intermediates.is_empty() && last == b'c'
}

fn is_switch(parameter: &[u16]) -> bool {
    matches!(parameter.first(), Some(47 | 1047 | 1049))
}

/// What was listened for.
#[derive(Default)]
struct Heard {
    /// REP repeats a character up to 65535 times in nine bytes. More than a line of it is cut, as VTE does: what fills
    /// a line is what it is for (terminfo(5), `rep`).
    most_repeated: u16,
    repeats_too_often: bool,
    /// How many of the next sequences that clear the screen are left out, the first of a chunk that has too many: what
    /// they clear, the last ones clear as well.
    left_out: usize,
    leaves_out: bool,
    switched: bool,
}

impl Heard {
    fn on_clearing(&mut self) {
        self.leaves_out = self.left_out > 0;
        self.left_out = self.left_out.saturating_sub(1);
    }
}

impl vte::Perform for Heard {
    fn csi_dispatch(&mut self, parameters: &vte::Params, intermediates: &[u8], _ignore: bool, last: char) {
        let first = || parameters.iter().next().and_then(|one| one.first()).copied().unwrap_or(0);
        if clears(parameters, intermediates, last) {
            self.on_clearing();
        }
        match (intermediates, last) {
            (b"", 'b') => self.repeats_too_often = first() > self.most_repeated,
            // Set, reset, and restored (ctlseqs, XTRESTORE).
            (b"?", 'h' | 'l' | 'r') => self.switched |= parameters.iter().any(is_switch),
            // DECSTR
            (b"!", 'p') => self.switched = true,
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _ignore: bool, last: u8) {
        if resets(intermediates, last) {
            self.switched = true;
            self.on_clearing();
        }
    }

    fn terminated(&self) -> bool {
        self.repeats_too_often || self.leaves_out
    }
}

/// What is to be typed for an answer.
#[derive(Default)]
struct Answers(Vec<u8>);

impl vt100::Callbacks for Answers {
    fn unhandled_csi(
        &mut self,
        screen: &mut vt100::Screen,
        first: Option<u8>,
        second: Option<u8>,
        parameters: &[&[u16]],
        last: char,
    ) {
        let parameter = parameters.first().and_then(|one| one.first()).copied().unwrap_or(0);
        let answer = match (first, second, last, parameter) {
            (None, None, 'n', 5) => "\x1b[0n".to_owned(),
            (None, None, 'n', 6) => {
                let (row, column) = screen.cursor_position();
                // Behind the last column it waits for the next character.
                let column = column.min(screen.size().1.get() - 1);
                format!("\x1b[{};{}R", row + 1, column + 1)
            }
            (None, None, 'c', 0) => "\x1b[?1;2c".to_owned(),
            _ => return,
        };
        if self.0.len() + answer.len() <= MOST_ANSWERED {
            self.0.extend_from_slice(answer.as_bytes());
        }
    }
}

fn positive(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap_or(NonZeroU16::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(emulator: &Emulator) -> String {
        emulator.screen().contents()
    }

    #[test]
    fn a_character_is_repeated_for_a_line_at_most() {
        for text in [&b"x\x1b[65535b"[..], b"x\x1b[6553\x075;1b", b"x\x1b[99:1b", b"x\x1b[9999999b"] {
            for size in 1..=text.len() {
                let mut emulator = Emulator::new(4, 10);
                for chunk in text.chunks(size) {
                    let _ = emulator.process(chunk);
                }
                let _ = emulator.process(b"\r\ny");
                assert_eq!(contents(&emulator), "xxxxxxxxxxx\ny", "{text:?}, {size}");
            }
        }
        let mut emulator = Emulator::new(4, 10);
        // Nothing else is mistaken for it, and up to a line all is as said.
        let _ = emulator.process(b"x\x1b[3b\x1b]0;[65535b\x07\x1b[?65535b\x1b[99 b\x1b[99c\r\nz\x1b[b");
        assert_eq!(contents(&emulator), "xxxx\nzz");
    }

    #[test]
    fn switches_of_screens_are_heard_however_they_are_said() {
        for (text, wanted) in [
            ("\x1b[?1049h", true),
            ("\x1b[?1049h\x1b[?1049l", true),
            ("\x1b[?25;1049h\x1b[?25;1049l", true),
            ("\x1b[?0047l", true),
            ("\x1b[?1047;r", true),
            ("\x1b[?1\r049l", true),
            ("\x1bc", true),
            ("\x1b[!p", true),
            ("\x1b[?25h?1049h \x1b]0;?1049h\x07\x1b[1049h\x1b[?1048h\x1b[?1049$p\x1b(c", false),
        ] {
            for size in 1..=text.len() {
                let mut emulator = Emulator::new(4, 10);
                let heard = text.as_bytes().chunks(size).map(|chunk| emulator.process(chunk));
                assert_eq!(heard.filter(|switched| *switched).count() > 0, wanted, "{text:?}, {size}");
            }
        }
    }

    /// 4 KiB of them took seconds on the largest screen.
    #[test]
    fn what_clears_a_large_screen_without_end_takes_no_longer_than_other_text() {
        let time = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime).tv_sec;
        for clear in ["\x1b[2J", "\x1bc", "\x1b[999S", "\x1b[999T", "\x1b[999L", "\x1b[?1049h\x1b[?1049l"] {
            let mut emulator = Emulator::new(500, 1000);
            let mut text = format!("x{clear}").repeat(4096 / (clear.len() + 1));
            text += "\x1b[2J\x1b[Hlast";
            let began = time();
            let _ = emulator.process(text.as_bytes());
            assert!(time() - began <= 1, "{clear:?} took {} s", time() - began);
            assert_eq!(contents(&emulator), "last", "{clear:?}");
        }
    }

    /// It took seconds, and all that time the log, and with it supervision, stood still.
    #[test]
    fn what_repeats_without_end_takes_no_longer_than_other_text() {
        let mut emulator = Emulator::new(24, 80);
        let _ = emulator.process(&b"x\x1b[65535b".repeat(64 * 1024 / 9));
        assert!(contents(&emulator).starts_with("xxx"));
    }
}
