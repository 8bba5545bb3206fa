//! What a program with a terminal of its own has switched on in the one that its lines are printed on, and what switches
//! that off again.
//!
//! Its lines pass as they are, and with them come modes: the other screen, mouse reports, a hidden cursor. A program
//! that ends in good order switches them off itself; one that crashes, or is killed, leaves them to whoever uses the
//! terminal next, the shell at last. So what is on is written down, as exactly as it was said: to switch off what is
//! not on would move the cursor, or bring back another screen.
//!
//! The sequences are xterm's (ctlseqs) and kitty's (its keyboard protocol). Not undone: titles, which cannot be asked
//! for, and tab stops. It writes nothing.

use std::collections::BTreeSet;

/// What one program has on.
#[derive(Default)]
pub struct Modes {
    parser: vte::Parser,
    heard: Heard,
}

/// What can be on, in the order in which it is switched off: the other screen last, which brings the cursor back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// A sequence that has not come to its end.
    Unfinished,
    /// Set, and off otherwise; or reset, and on otherwise (DECSET, DECRST; SM, RM).
    Set(u16),
    Reset(u16),
    SetAnsi(u16),
    ResetAnsi(u16),
    Keypad,
    Margins,
    Charset,
    Shape,
    /// xterm's `modifyOtherKeys` and its like.
    Modifiers(u16),
    Kitty,
    Palette,
    /// Colours of the text, the background, the cursor and so on.
    Dynamic(u16),
    Link,
    Colours,
    Screen(u16),
}

/// Private modes that are off in a terminal that nobody uses: cursor keys, reverse video, origin, mouse, focus, margins
/// left and right, keypad, paste, synchronized output, reports of colours and sizes, keys of Windows.
const OFF: [u16; 23] = [
    1, 5, 6, 9, 45, 66, 67, 69, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 2026, 2027, 2031,
    2048, 9001,
];

/// Those that are on: autowrap, the cursor.
const ON: [u16; 2] = [7, 25];

const SCREENS: [u16; 3] = [47, 1047, 1049];

impl Modes {
    /// Takes in what goes to the terminal.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.parser.advance(&mut self.heard, bytes);
    }

    /// What is on.
    pub fn on(&self) -> &BTreeSet<Mode> {
        &self.heard.on
    }

    /// What is left on when nothing more comes.
    pub fn finish(mut self) -> BTreeSet<Mode> {
        // In the middle of a sequence a letter is not one to be shown.
        self.heard.printed = false;
        self.parser.advance(&mut self.heard, b"x");
        if !self.heard.printed {
            self.heard.on.insert(Mode::Unfinished);
        }
        self.heard.on
    }
}

/// What switches these off.
pub fn off<'a>(modes: impl IntoIterator<Item = &'a Mode>) -> Vec<u8> {
    let mut text = String::new();
    for mode in modes {
        match *mode {
            Mode::Unfinished => text.push_str("\x1b\\"),
            // That moves the cursor to the first line; whoever goes on does so on the last.
            Mode::Set(6) => text.push_str("\x1b[?6l\x1b[9999;1H"),
            // The keyboard's state is one of each screen.
            Mode::Screen(number) => text.push_str(&format!("\x1b[<99u\x1b[=0u\x1b[?{number}l")),
            Mode::Set(number) => text.push_str(&format!("\x1b[?{number}l")),
            Mode::Reset(number) => text.push_str(&format!("\x1b[?{number}h")),
            Mode::SetAnsi(number) => text.push_str(&format!("\x1b[{number}l")),
            Mode::ResetAnsi(number) => text.push_str(&format!("\x1b[{number}h")),
            Mode::Keypad => text.push_str("\x1b>"),
            Mode::Margins => text.push_str("\x1b7\x1b[r\x1b8"),
            Mode::Charset => text.push_str("\x0f\x1b(B\x1b)B"),
            Mode::Shape => text.push_str("\x1b[0 q"),
            Mode::Modifiers(number) => text.push_str(&format!("\x1b[>{number}m")),
            Mode::Kitty => text.push_str("\x1b[<99u\x1b[=0u"),
            Mode::Palette => text.push_str("\x1b]104\x1b\\"),
            Mode::Dynamic(number) => text.push_str(&format!("\x1b]{}\x1b\\", number + 100)),
            Mode::Link => text.push_str("\x1b]8;;\x1b\\"),
            Mode::Colours => text.push_str("\x1b[0m"),
        }
    }
    text.into_bytes()
}

#[derive(Default)]
struct Heard {
    on: BTreeSet<Mode>,
    printed: bool,
}

impl Heard {
    fn set(&mut self, mode: Mode, on: bool) {
        if on {
            self.on.insert(mode)
        } else {
            self.on.remove(&mode)
        };
    }

    fn private(&mut self, number: u16, set: bool) {
        if OFF.contains(&number) {
            self.set(Mode::Set(number), set);
        } else if ON.contains(&number) {
            self.set(Mode::Reset(number), !set);
        } else if SCREENS.contains(&number) {
            // One resets what the other has set.
            SCREENS.iter().filter(|_| !set).for_each(|one| self.set(Mode::Screen(*one), false));
            if set {
                self.set(Mode::Screen(number), true);
            }
        }
    }
}

impl vte::Perform for Heard {
    fn print(&mut self, _: char) {
        self.printed = true;
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            0x0e => self.set(Mode::Charset, true),
            0x0f => self.set(Mode::Charset, false),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, parameters: &vte::Params, intermediates: &[u8], _ignore: bool, last: char) {
        let numbers = || parameters.iter().filter_map(|one| one.first()).copied();
        let first = numbers().next().unwrap_or(0);
        match (intermediates, last) {
            (b"?", 'h') => numbers().for_each(|number| self.private(number, true)),
            (b"?", 'l') => numbers().for_each(|number| self.private(number, false)),
            // Keyboard locked, insert, newline; the echo is the other way round.
            (b"", 'h' | 'l') => numbers().for_each(|number| match number {
                2 | 4 | 20 => self.set(Mode::SetAnsi(number), last == 'h'),
                12 => self.set(Mode::ResetAnsi(number), last == 'l'),
                _ => {}
            }),
            (b"", 'r') => self.set(Mode::Margins, numbers().any(|number| number > 0)),
            (b"", 'm') => self.set(Mode::Colours, numbers().any(|number| number > 0)),
            (b" ", 'q') => self.set(Mode::Shape, first > 0),
            (b">", 'm' | 'f') if first > 0 => self.set(Mode::Modifiers(first), numbers().nth(1).is_some()),
            (b">", 'u') => self.set(Mode::Kitty, true),
            (b"=", 'u') => self.set(Mode::Kitty, first > 0),
            // DECSTR
            (b"!", 'p') => {
                let soft = |mode: &Mode| {
                    use Mode::*;
                    matches!(mode, Set(1 | 6) | Reset(25) | SetAnsi(_) | Keypad | Margins | Charset | Colours)
                };
                self.on.retain(|mode| !soft(mode));
            }
            _ => {}
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _ignore: bool, last: u8) {
        match (intermediates, last) {
            (b"", b'=') => self.set(Mode::Keypad, true),
            (b"", b'>') => self.set(Mode::Keypad, false),
            // LS2, LS3
            (b"", b'n' | b'o') => self.set(Mode::Charset, true),
            (b"(" | b")" | b"*" | b"+", _) if last != b'B' => self.set(Mode::Charset, true),
            // RIS
            (b"", b'c') => self.on.clear(),
            _ => {}
        }
    }

    fn osc_dispatch(&mut self, parameters: &[&[u8]], _bell: bool) {
        let Some(kind) = parameters.first().and_then(|kind| std::str::from_utf8(kind).ok()) else { return };
        match kind.parse() {
            Ok(4) => self.set(Mode::Palette, true),
            Ok(104) => self.set(Mode::Palette, false),
            Ok(8) => {
                self.set(Mode::Link, parameters.get(2..).is_some_and(|to| to.iter().any(|to| !to.is_empty())))
            }
            Ok(number @ 10..=19) => self.set(Mode::Dynamic(number), true),
            Ok(number @ 110..=119) => self.set(Mode::Dynamic(number - 100), false),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_by(text: &str) -> String {
        let mut whole = Modes::default();
        whole.feed(text.as_bytes());
        let left = off(&whole.finish());
        for size in 1..text.len() {
            let mut modes = Modes::default();
            text.as_bytes().chunks(size).for_each(|chunk| modes.feed(chunk));
            assert_eq!(off(&modes.finish()), left, "{text:?}, {size}");
        }
        String::from_utf8(left).expect("it is ASCII")
    }

    #[test]
    fn what_is_on_is_switched_off() {
        for (said, wanted) in [
            ("\x1b[?25l", "\x1b[?25h"),
            ("\x1b[?7l", "\x1b[?7h"),
            ("\x1b[?1000;1006h", "\x1b[?1000l\x1b[?1006l"),
            ("\x1b[?2004h", "\x1b[?2004l"),
            ("\x1b[?1049hx", "\x1b[<99u\x1b[=0u\x1b[?1049l"),
            ("\x1b[?1049h\x1b[>1u", "\x1b[<99u\x1b[=0u\x1b[<99u\x1b[=0u\x1b[?1049l"),
            ("\x1b[2;5r", "\x1b7\x1b[r\x1b8"),
            ("\x1b[?6h\x1b[2;5r", "\x1b[?6l\x1b[9999;1H\x1b7\x1b[r\x1b8"),
            ("\x1b(0", "\x0f\x1b(B\x1b)B"),
            ("\x0e", "\x0f\x1b(B\x1b)B"),
            ("\x1b[>4;2m", "\x1b[>4m"),
            ("\x1b[4h", "\x1b[4l"),
            ("\x1b=", "\x1b>"),
            ("\x1b[5 q", "\x1b[0 q"),
            ("\x1b[31m", "\x1b[0m"),
            ("\x1b]11;#000000\x07", "\x1b]111\x1b\\"),
            ("\x1b]8;;http://x/\x1b\\x", "\x1b]8;;\x1b\\"),
            ("\x1b]0;never ends", "\x1b\\"),
            ("\x1bPq#0", "\x1b\\"),
            ("\x1b[?25;", "\x1b\\"),
        ] {
            assert_eq!(left_by(said), wanted, "{said:?}");
        }
    }

    #[test]
    fn whoever_leaves_a_terminal_leaves_nothing_on() {
        use crate::linux::terminal::{CLEAR, LEAVE};
        let all: String = OFF.iter().map(|number| format!("\x1b[?{number}h")).collect();
        let more = "\x1b[?7;25l\x1b[2;4;20h\x1b[12l\x1b=\x0e\x1b(0\x1b[>4;2m\x1b[5 q\x1b[2;5r\x1b[31m\
                    \x1b]8;;http://x/\x1b\\\x1b[?1049h\x1b]0;never ends";
        for (leaves, left) in [(LEAVE, &[][..]), (CLEAR, &[Mode::Screen(1049)])] {
            let mut modes = Modes::default();
            modes.feed(all.as_bytes());
            modes.feed(more.as_bytes());
            assert!(modes.on().len() > OFF.len() + 8, "{:?}", modes.on());
            modes.feed(leaves);
            assert_eq!(modes.finish().into_iter().collect::<Vec<_>>(), left);
        }
    }

    #[test]
    fn what_is_off_is_left_alone() {
        for said in [
            "text\n\x1b[31mred\x1b[0m 10%\r\x1b[K20%\x1b[2A\x1b[5G\x1b[2J",
            "\x1b[?25l\x1b[?25h",
            "\x1b[?1049h\x1b[?1049l",
            "\x1b[?47h\x1b[?1047l",
            "\x1b[2;5r\x1b[r",
            "\x0e\x0f",
            "\x1b[>4;2m\x1b[>4m",
            "\x1b]8;;http://x/\x1b\\x\x1b]8;;\x1b\\",
            "\x1b[?25l\x1b[?1000h\x1bc",
            "\x1b[?25l\x1b[4h\x1b[31m\x1b[!p",
            "\x1b]0;title\x07\x1b[?12h\x1b[6h",
        ] {
            assert_eq!(left_by(said), "", "{said:?}");
        }
    }
}
