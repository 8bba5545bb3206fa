//! Control sequences in what a program tells its own terminal: where they end, and which of them are
//! questions.
//!
//! A terminal answers some sequences by typing: where its cursor is, what it is, which colours it has. What a
//! program with a pseudo-terminal asks must not reach the terminal that lpm's lines are printed on: that one
//! would type its answer to whoever reads it, most often the shell after lpm. So the lines of such a program
//! are what it said, less its questions (its screen gets them all, and whoever looks at that gets none), and less the
//! carriage return that the line discipline puts before each newline (termios(3), `ONLCR`), for a line is to
//! look the same through a pipe and through a terminal. Everything else stays: colours, progress bars, and
//! cursor movements too.
//!
//! The grammar is ECMA-48's and xterm's (ctlseqs). It refuses to know what a sequence does.

use memchr::{memchr, memchr3};

/// A sequence longer than this isn't waited for; what there is of it passes.
pub(super) const LONGEST: usize = 256;

const ESC: u8 = 0x1b;
/// `ENQ`: asks for the answerback.
const ENQ: u8 = 0x05;

/// What begins with an ESC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sequence {
    /// It is so long; the terminal would answer it, or not.
    Whole { length: usize, question: bool },
    /// Its end has not come.
    Unfinished,
    /// No sequence after all: something in it cannot be a part of one.
    None,
}

/// The sequence at the start of `text`, whose first byte is an ESC.
fn sequence(text: &[u8]) -> Sequence {
    let whole = |length, question| Sequence::Whole { length, question };
    match text.get(1) {
        None => Sequence::Unfinished,
        Some(b'[') => {
            let parameters = text[2..].iter().take_while(|b| (0x30..0x40).contains(*b)).count();
            let parameters = &text[2..2 + parameters];
            let rest = &text[2 + parameters.len()..];
            let between = &rest[..rest.iter().take_while(|b| (0x20..0x30).contains(*b)).count()];
            match rest.get(between.len()) {
                None => Sequence::Unfinished,
                Some(last @ 0x40..=0x7e) => {
                    let length = 2 + parameters.len() + between.len() + 1;
                    whole(length, asks(parameters, between, *last))
                }
                Some(_) => Sequence::None,
            }
        }
        // Strings: a device control, an operating system command, and three that nobody uses.
        Some(kind @ (b'P' | b']' | b'X' | b'^' | b'_')) => {
            let body = &text[2..];
            let Some(end) = body.iter().position(|b| *b < 0x20) else { return Sequence::Unfinished };
            let question = match kind {
                b']' => body[..end].ends_with(b";?"),
                b'P' => body.starts_with(b"$q") || body.starts_with(b"+q"),
                _ => false,
            };
            match (body[end], body.get(end + 1)) {
                (0x07, _) => whole(2 + end + 1, question),
                (ESC, Some(b'\\')) => whole(2 + end + 2, question),
                (ESC, None) => Sequence::Unfinished,
                _ => Sequence::None,
            }
        }
        // DECID is the old name of the primary device attributes.
        Some(b'Z') => whole(2, true),
        Some(0x20..0x30) => {
            let between = text[1..].iter().take_while(|b| (0x20..0x30).contains(*b)).count();
            match text.get(1 + between) {
                None => Sequence::Unfinished,
                Some(0x30..=0x7e) => whole(2 + between, false),
                Some(_) => Sequence::None,
            }
        }
        Some(0x30..=0x7e) => whole(2, false),
        Some(_) => Sequence::None,
    }
}

/// Whether a terminal would answer a control sequence with these parameters, intermediates and end.
fn asks(parameters: &[u8], between: &[u8], last: u8) -> bool {
    let private = parameters.first().copied().filter(|b| (0x3c..0x40).contains(b));
    match (between, last) {
        // Device status and attributes. `? c` and `> n` set something.
        (b"", b'n') => private != Some(b'>'),
        (b"", b'c') => private != Some(b'?'),
        // DECREQTPARM; the keyboard's and the modifiers' state; XTVERSION; sixel and colour limits.
        (b"", b'x') => private.is_none(),
        (b"", b'u' | b'm') => private == Some(b'?'),
        (b"", b'q') => private == Some(b'>'),
        (b"", b'S') => private == Some(b'?'),
        // The window's state, place, sizes and titles.
        (b"", b't') => {
            let first = parameters.split(|b| *b == b';').next().unwrap_or_default();
            matches!(first, b"11" | b"13" | b"14" | b"15" | b"16" | b"18" | b"19" | b"20" | b"21")
        }
        // DECRQM, DECRQPSR, DECRQCRA, DECRQUPSS.
        (b"$", b'p' | b'w') | (b"*", b'y') | (b"&", b'u') => true,
        _ => false,
    }
}

/// How many bytes at the end of `text` belong to a sequence or a character that is not finished: whoever goes
/// on from there has to begin with them.
pub(super) fn unfinished(text: &[u8]) -> usize {
    let last = &text[text.len() - text.len().min(LONGEST)..];
    if let Some(at) = memchr::memrchr(ESC, last)
        && sequence(&last[at..]) == Sequence::Unfinished
    {
        return last.len() - at;
    }
    let last = &last[last.len() - last.len().min(3)..];
    let begun = last.iter().rposition(|b| *b >= 0xc2).map_or(&[][..], |at| &last[at..]);
    let incomplete = std::str::from_utf8(begun).is_err_and(|error| error.error_len().is_none());
    if incomplete { begun.len() } else { 0 }
}

/// Takes the questions out of what a program tells its terminal; see the top.
#[derive(Debug, Default)]
pub struct Plain {
    newlines: Newlines,
    /// What began at the end of the last chunk: a sequence, or a carriage return.
    held: Vec<u8>,
}

/// What becomes of the line discipline's carriage returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Newlines {
    /// Lines need none.
    #[default]
    OfLines,
    /// A terminal does.
    OfTerminals,
}

impl Plain {
    /// Of what goes to a terminal as it came, but for questions.
    pub fn unasked() -> Plain {
        Plain { newlines: Newlines::OfTerminals, held: Vec::new() }
    }

    /// Puts what lines are made of behind `out`.
    pub fn feed(&mut self, chunk: &[u8], out: &mut Vec<u8>) {
        if self.held.is_empty() {
            let held = run(chunk, self.newlines, out).to_vec();
            self.held = held;
        } else {
            let mut text = std::mem::take(&mut self.held);
            text.extend_from_slice(chunk);
            self.held = run(&text, self.newlines, out).to_vec();
        }
    }

    /// Nothing comes that could finish what began.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }
}

/// Returns what has to wait for the next chunk.
fn run<'a>(text: &'a [u8], newlines: Newlines, out: &mut Vec<u8>) -> &'a [u8] {
    let mut rest = text;
    while let Some(at) = memchr3(ESC, b'\r', ENQ, rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        let (passes, leaves) = match rest[0] {
            ENQ => (0, 1),
            b'\r' if newlines == Newlines::OfTerminals => (1, 1),
            b'\r' => match rest.get(1) {
                None => return rest,
                Some(b'\n') => (0, 1),
                Some(_) => (1, 1),
            },
            _ => match sequence(rest) {
                Sequence::Whole { length, question: true } => (0, length),
                Sequence::Whole { length, question: false } => (length, length),
                // No line waits for the end of a sequence.
                Sequence::Unfinished if rest.len() < LONGEST && memchr(b'\n', rest).is_none() => return rest,
                Sequence::Unfinished | Sequence::None => (1, 1),
            },
        };
        out.extend_from_slice(&rest[..passes]);
        rest = &rest[leaves..];
    }
    out.extend_from_slice(rest);
    &[]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(chunks: &[&[u8]]) -> Vec<u8> {
        let (mut plain, mut out) = (Plain::default(), Vec::new());
        chunks.iter().for_each(|chunk| plain.feed(chunk, &mut out));
        plain.finish(&mut out);
        out
    }

    #[test]
    fn the_carriage_return_of_the_line_discipline_is_taken_off() {
        for (given, wanted) in [
            (&b"one\r\ntwo\r\n"[..], &b"one\ntwo\n"[..]),
            (b"10%\r20%\r\n", b"10%\r20%\n"),
            (b"own\r\r\n", b"own\r\n"),
            (b"last\r", b"last\r"),
        ] {
            assert_eq!(plain(&[given]), wanted);
        }
        assert_eq!(plain(&[b"one\r", b"\ntwo\r", b"three"]), b"one\ntwo\rthree");
        let (mut unasked, mut out) = (Plain::unasked(), Vec::new());
        [&b"one\r\nt\x1b[6"[..], b"nwo\r"].iter().for_each(|chunk| unasked.feed(chunk, &mut out));
        assert_eq!(out, b"one\r\ntwo\r", "a terminal gets it");
    }

    #[test]
    fn questions_are_left_out_and_nothing_else_is() {
        for question in [
            "\x1b[6n",
            "\x1b[5n",
            "\x1b[?6n",
            "\x1b[c",
            "\x1b[0c",
            "\x1b[>c",
            "\x1b[=0c",
            "\x1bZ",
            "\x05",
            "\x1b[18t",
            "\x1b[21t",
            "\x1b[?25$p",
            "\x1b[>0q",
            "\x1b[?u",
            "\x1b[x",
            "\x1b]10;?\x07",
            "\x1b]11;?\x1b\\",
            "\x1b]4;1;?\x07",
            "\x1b]52;c;?\x07",
            "\x1bP$qm\x1b\\",
            "\x1bP+q544e\x1b\\",
            "\x1b[?1;1;0S",
        ] {
            assert_eq!(plain(&[format!("a{question}b").as_bytes()]), b"ab", "{question:?}");
        }
        for kept in [
            "\x1b[31m",
            "\x1b[0;1;38:2::1:2:3m",
            "\x1b[2J",
            "\x1b[H",
            "\x1b[?1049h",
            "\x1b[2 q",
            "\x1b[?25l",
            "\x1b]0;title?\x07",
            "\x1b]8;;http://x/?\x1b\\",
            "\x1b(B",
            "\x1b7",
            "\x1b=",
            "\x1b[8;24;80t",
            "\x1b[?0c",
            "\x1b[3S",
            "\x1b[u",
            "\x1b[>4;1m",
            "\x1bPq#0\x1b\\",
            "\x1b[31",
            "\x1b",
            "\x1b\x1b[m",
            "\x1b[3\x01m",
            "\x1b]0;never ends",
        ] {
            let text = format!("a{kept}");
            assert_eq!(plain(&[text.as_bytes()]), text.as_bytes(), "{kept:?}");
        }
        let endless = [b"\x1b]0;".as_slice(), &[b'x'; 1000], b"\x1b[6n\n"].concat();
        assert_eq!(plain(&[&endless]), [b"\x1b]0;".as_slice(), &[b'x'; 1000], b"\n"].concat());
    }

    #[test]
    fn no_line_waits_for_the_end_of_a_sequence() {
        let (mut plain, mut out) = (Plain::default(), Vec::new());
        plain.feed(b"\x1b]0;title\nline\n", &mut out);
        assert_eq!(out, b"\x1b]0;title\nline\n");
    }

    #[test]
    fn what_is_unfinished_at_the_end() {
        for (text, wanted) in [
            (&b"text"[..], 0),
            (b"text\x1b", 1),
            (b"text\x1b[3", 3),
            (b"text\x1b[31m", 0),
            (b"text\x1b]0;ti", 6),
            (b"text\x1b]0;ti\x07", 0),
            ("é".as_bytes(), 0),
            (b"\xc3", 1),
            (b"\xe2\x82", 2),
            (b"\xf0\x9f\x98", 3),
            (b"\xff\x80", 0),
        ] {
            assert_eq!(unfinished(text), wanted, "{text:?}");
        }
    }

    proptest! {
        /// However the stream is cut, the lines are the same.
        #[test]
        fn cutting_changes_nothing(
            text in prop::collection::vec(prop_oneof![
                Just(0x1bu8), Just(b'['), Just(b']'), Just(b'P'), Just(b'?'), Just(b';'), Just(b'6'), Just(b'n'),
                Just(b'c'), Just(b'\r'), Just(0x07), Just(b'\\'), Just(b'm'), any::<u8>(),
            ], 0..60),
            size in 1usize..10,
        ) {
            let text: Vec<u8> = text.into_iter().filter(|b| *b != b'\n').collect();
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            prop_assert_eq!(plain(&chunks), plain(&[&text]));
        }
    }
}
