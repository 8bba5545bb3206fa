//! `lpm logs`: lines as `lpm start` prints them, `HH:MM:SS web.1 | text`, with foreman's colours in foreman's
//! order. The bar is `!` for a line from stderr where the two streams are split, and `+` for the rest of a line
//! that was too long to be kept in one piece. What lpm says about an instance stands in its name.
//!
//! Bytes pass exactly, unless a terminal reads them: there, as in `output::terminal`, colours pass and every other
//! control sequence is shown. A sequence or a character that falls on the border of two pieces is shown, too.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::{Look, moment};
use crate::control::interface::{Line, LineStream, Status};
use crate::escape::escape;
use crate::meaning::structured::pretty;

/// In whose name lpm speaks when it speaks of the stack.
const SYSTEM: &str = "system";

const RESET: &str = "\x1b[0m";

/// No colour sequence is longer than this; what is, is no colour.
const LONGEST_SGR: usize = 64;

/// Who may speak: how wide the names are, and which colour is whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Names are padded to this.
    width: usize,
    /// The process types in file order; the order gives the colours.
    processes: Vec<String>,
    /// Others may come, and are added.
    open: bool,
}

impl Names {
    /// Those of a stack; padded to the longest of `status.instances`, so ask for all that will be heard.
    pub fn of(status: &Status) -> Names {
        let names = status.instances.iter().map(|instance| instance.name.chars().count());
        Names {
            width: names.fold(SYSTEM.len(), usize::max),
            processes: status.stack.processes.iter().map(|process| process.name.clone()).collect(),
            open: false,
        }
    }

    /// Nobody is known yet.
    pub fn to_be_met() -> Names {
        Names { width: SYSTEM.len(), processes: Vec::new(), open: true }
    }

    fn meet(&mut self, name: &str) {
        if self.open && name != SYSTEM {
            self.width = self.width.max(name.chars().count());
            let process = name.rsplit_once('.').map_or(name, |(process, _)| process);
            if !self.processes.iter().any(|known| known == process) {
                self.processes.push(process.to_owned());
            }
        }
    }

    pub(super) fn padded(&self, name: &str) -> String {
        format!("{name:width$}", width = self.width)
    }

    /// The parameter of `ESC [ … m`: all instances of a type have one colour, lpm is bold.
    pub(super) fn sgr(&self, name: &str) -> &'static str {
        const COLOURS: [&str; 12] =
            ["36", "33", "32", "35", "31", "34", "36;1", "33;1", "32;1", "35;1", "31;1", "34;1"];
        let process = name.rsplit_once('.').map_or(name, |(process, _)| process);
        let position = self.processes.iter().position(|known| known == process);
        position.map_or("1", |position| COLOURS[position % COLOURS.len()])
    }
}

/// Writes lines one after the other; remembers whose last one was only a part.
#[derive(Debug)]
pub struct Lines {
    names: Names,
    zone: TimeZone,
    look: Look,
    /// Time and name before each line.
    prefixed: bool,
    /// The time, too.
    timed: bool,
    /// Records are written for people.
    pretty: bool,
    broken: BTreeSet<String>,
}

impl Lines {
    /// Times are those of `zone`.
    pub fn new(names: Names, zone: TimeZone, look: Look) -> Lines {
        Lines { names, zone, look, prefixed: true, timed: true, pretty: false, broken: BTreeSet::new() }
    }

    /// Whether time and name stand before each line.
    pub fn prefixed(self, prefixed: bool) -> Lines {
        Lines { prefixed, ..self }
    }

    /// Whether the time stands before each line that has a prefix.
    pub fn timed(self, timed: bool) -> Lines {
        Lines { timed, ..self }
    }

    /// Whether records are written for people.
    pub fn pretty(self, pretty: bool) -> Lines {
        Lines { pretty, ..self }
    }

    /// The line with its newline, never cut.
    pub fn line(&mut self, line: &Line) -> Vec<u8> {
        self.names.meet(&line.instance);
        let own = line.stream == LineStream::Lpm;
        // What lpm says may come in between, and is never broken itself.
        let continued = !own && self.broken.remove(&line.instance);
        if line.part && !own {
            self.broken.insert(line.instance.clone());
        }
        let bar = match (continued, &line.stream) {
            (true, _) => '+',
            (false, LineStream::Err) => '!',
            (false, LineStream::Out | LineStream::Lpm | LineStream::Unknown(_)) => '|',
        };
        let prefix = self.prefix(line.time, &line.instance, bar);
        let text = content(line);
        if self.pretty
            && !(own || continued || line.part)
            && let Some(lines) = pretty(&text, self.look.colour, !(self.prefixed && self.timed))
        {
            return lines.iter().map(|line| format!("{prefix}{line}\n")).collect::<String>().into_bytes();
        }
        let mut written = prefix.into_bytes();
        if self.look.terminal {
            show(&text, &mut written);
        } else {
            written.extend_from_slice(&text);
        }
        written.push(b'\n');
        written
    }

    /// What stands where lines are missing ([`crate::control::interface::LogsReply::missed`]).
    pub fn missed(&self, missed: u64, now_usec: u64) -> String {
        let (lines, were) = if missed == 1 { ("line", "was") } else { ("lines", "were") };
        let text = format!("{missed} {lines} {were} not read in time, and {were} dropped");
        format!("{}{text}\n", self.prefix(now_usec, SYSTEM, '|'))
    }

    fn prefix(&self, time: u64, name: &str, bar: char) -> String {
        if !self.prefixed {
            return String::new();
        }
        let padded = self.names.padded(name);
        let head = match self.timed {
            true => format!("{} {padded}", moment::clock(time, &self.zone)),
            false => padded,
        };
        if !self.look.colour {
            return format!("{head} {bar} ");
        }
        let mark = if bar == '!' { "\x1b[31m" } else { "" };
        format!("{RESET}\x1b[{}m{head} {mark}{bar} {RESET}", self.names.sgr(name))
    }
}

/// The bytes of a line. `bytes` that is no base64 is nobody's: the text stands in for it.
pub(super) fn content(line: &Line) -> Cow<'_, [u8]> {
    match line.bytes.as_deref().and_then(from_base64) {
        Some(bytes) => Cow::Owned(bytes),
        None => Cow::Borrowed(line.text.as_bytes()),
    }
}

/// A line for a place where it must not be more than one: at most `room` characters, tabs and the like are
/// blanks, everything but colours is shown. Without `colour` those are left out.
pub(super) fn on_one_line(text: &[u8], room: usize, colour: bool) -> String {
    let mut shown = String::new();
    let (mut width, mut lit) = (0, false);
    let mut characters = Vec::new();
    for token in tokens(text) {
        match token {
            // After the cut there is nothing to colour.
            Token::Colour(sequence) if colour && width <= room => {
                characters.push(Cow::Borrowed(sequence));
                lit = lights(sequence);
                continue;
            }
            Token::Colour(_) => continue,
            Token::Shown('\t' | '\r') => characters.push(Cow::Borrowed(" ")),
            Token::Shown(character) if character.is_control() => {
                let bytes = character.encode_utf8(&mut [0; 4]).bytes().map(escape).collect::<Vec<_>>();
                width += bytes.iter().map(String::len).sum::<usize>() - 1;
                characters.extend(bytes.into_iter().map(Cow::Owned));
            }
            Token::Shown(character) => characters.push(Cow::Owned(character.to_string())),
            Token::Byte(byte) => {
                width += 3;
                characters.push(Cow::Owned(escape(byte)));
            }
        }
        width += 1;
    }
    let cut = width > room;
    let mut left = if cut { room.saturating_sub(1) } else { room };
    for piece in characters {
        if piece.starts_with('\x1b') {
            shown.push_str(&piece);
            continue;
        }
        let width = piece.chars().count();
        if width > left {
            break;
        }
        left -= width;
        shown.push_str(&piece);
    }
    if cut && room > 0 {
        shown.push('…');
    } else {
        shown.truncate(shown.trim_end().len());
    }
    if lit {
        shown.push_str(RESET);
    }
    shown
}

/// Shows what a terminal would obey; tab and carriage return pass, and colours, which are reset at the end.
fn show(text: &[u8], put: &mut Vec<u8>) {
    if text.iter().all(|&byte| (b' '..=b'~').contains(&byte) || byte == b'\t') {
        return put.extend_from_slice(text);
    }
    let mut lit = false;
    for token in tokens(text) {
        match token {
            Token::Colour(sequence) => {
                lit = lights(sequence);
                put.extend_from_slice(sequence.as_bytes());
            }
            Token::Shown(character) => {
                let mut buffer = [0; 4];
                let bytes = character.encode_utf8(&mut buffer).as_bytes();
                if character.is_control() && !matches!(character, '\t' | '\r') {
                    bytes.iter().for_each(|&byte| put.extend_from_slice(escape(byte).as_bytes()));
                } else {
                    put.extend_from_slice(bytes);
                }
            }
            Token::Byte(byte) => put.extend_from_slice(escape(byte).as_bytes()),
        }
    }
    if lit {
        put.extend_from_slice(RESET.as_bytes());
    }
}

enum Token<'a> {
    /// `ESC [ … m`
    Colour(&'a str),
    /// A character.
    Shown(char),
    /// A byte that is no UTF-8.
    Byte(u8),
}

fn tokens(text: &[u8]) -> impl Iterator<Item = Token<'_>> {
    text.utf8_chunks().flat_map(|chunk| {
        let mut rest = chunk.valid();
        let valid = std::iter::from_fn(move || {
            let colour = sgr(rest);
            if colour > 0 {
                let (sequence, after) = rest.split_at(colour);
                rest = after;
                return Some(Token::Colour(sequence));
            }
            let character = rest.chars().next()?;
            rest = &rest[character.len_utf8()..];
            Some(Token::Shown(character))
        });
        valid.chain(chunk.invalid().iter().map(|&byte| Token::Byte(byte)))
    })
}

/// Whether there is something to reset after it.
fn lights(sequence: &str) -> bool {
    !matches!(sequence, "\x1b[m" | "\x1b[0m" | "\x1b[00m")
}

/// The length of the colour sequence at the start of `text`, 0 if there is none.
fn sgr(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("\x1b[") else { return 0 };
    let parameters = rest.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')).count();
    let whole = rest.as_bytes().get(parameters) == Some(&b'm') && parameters + 2 < LONGEST_SGR;
    if whole { parameters + 3 } else { 0 }
}

/// RFC 4648, section 4, padded or not; `None` for anything else.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if text.len() - digits.len() > 2 || digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.as_bytes().chunks(4) {
        let mut number = 0;
        for &digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            number = number << 6 | u32::from(value);
        }
        number <<= 6 * (4 - group.len());
        bytes.extend_from_slice(&number.to_be_bytes()[1..group.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &[u8]) -> String {
        let mut put = Vec::new();
        show(text, &mut put);
        String::from_utf8(put).expect("what is shown is UTF-8")
    }

    #[test]
    fn a_terminal_is_shown_what_it_would_obey() {
        assert_eq!(shown(b"plain\ttext"), "plain\ttext");
        assert_eq!(shown("gr\u{fc}n \u{9b}2J".as_bytes()), "gr\u{fc}n \\xc2\\x9b2J");
        assert_eq!(shown(b"\x1b[31mred"), "\x1b[31mred\x1b[0m");
        assert_eq!(shown(b"\x1b[31mred\x1b[0m."), "\x1b[31mred\x1b[0m.");
        assert_eq!(shown(b"\x1b]0;title\x07\x1b[2J"), "\\x1b]0;title\\x07\\x1b[2J");
        assert_eq!(shown(b"\xff\xe2\x82"), "\\xff\\xe2\\x82");
    }

    #[test]
    fn one_line_stays_one_line() {
        assert_eq!(on_one_line(b"a\tb\rc\nd", 80, false), "a b c\\x0ad");
        assert_eq!(on_one_line(b"0123456789", 10, false), "0123456789");
        assert_eq!(on_one_line(b"0123456789", 9, false), "01234567…");
        assert_eq!(on_one_line(b"0123\x07\x07\x07", 9, false), "0123\\x07…");
        assert_eq!(on_one_line(b"\x1b[32mok\x1b[0m done", 80, false), "ok done");
        assert_eq!(on_one_line(b"\x1b[32mgreen and long", 8, true), "\x1b[32mgreen a…\x1b[0m");
    }

    #[test]
    fn base64_is_read() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zm8=", b"fo"),
            ("Zm8", b"fo"),
            ("Zm9v", b"foo"),
            ("/+8B", &[255, 239, 1]),
        ] {
            assert_eq!(from_base64(text).as_deref(), Some(bytes), "{text}");
        }
        for text in ["Z", "Zg===", "Z!==", "Zg=a"] {
            assert_eq!(from_base64(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_terminal_gets_no_control_but_colour(text: Vec<u8>) {
            let shown = shown(&text);
            let obeyed = |c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\x1b');
            prop_assert!(!shown.contains(obeyed), "{shown:?}");
            prop_assert!(shown.match_indices('\x1b').all(|(at, _)| sgr(&shown[at..]) > 0), "{shown:?}");
        }

        #[test]
        fn one_line_is_no_wider_than_its_room(text in "(\\PC|\\t|\u{1b}\\[3[0-7]m|\u{1b}|[\\x00-\\x1f])*", room in 0usize..30, colour: bool) {
            let line = on_one_line(text.as_bytes(), room, colour);
            let width = tokens(line.as_bytes()).filter(|token| !matches!(token, Token::Colour(_))).count();
            prop_assert!(width <= room, "{line:?}");
            prop_assert!(colour || !line.contains('\u{1b}'), "{line:?}");
        }
    }
}
