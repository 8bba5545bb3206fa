//! How a line looks: time, padded name, colour, and what a terminal must not be told by a child.
//!
//! foreman's layout to the character, `HH:MM:SS web.1 | text`, the name padded to the longest and at least 6;
//! foreman's colours in foreman's order. With colour, as honcho: reset, colour, time, name and bar, reset,
//! text. The bar is `!` for a line from stderr where the two streams are split, and `+` for the rest of a
//! line that had to be broken off because others were waiting.
//!
//! Nothing here reads or writes, and the time is an argument. A line must cost two copies, prefix and text:
//! so each source has its [`Prefix`] ready, in which only the eight characters of the time change, once a
//! second.
//!
//! Capture knows none of this. Bytes pass exactly, unless standard output is a terminal and the source has
//! none of its own: then [`Escaper`] lets colours through and shows every other control sequence, so that a
//! log line can neither move the cursor nor rename the window nor feed the terminal's answerback.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Stream, zone};

/// How all lines are presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Names are padded to this; see [`Layout::width_for`]. A longer name that comes later widens it.
    pub width: usize,
    /// `HH:MM:SS `, unless `--no-timestamp`.
    pub timestamps: bool,
    /// Time, name and bar; with `--no-prefix` a line is its text alone.
    pub prefix: bool,
    /// Each process type's prefix has its colour.
    pub colour: bool,
    /// Standard output is a terminal: control sequences of a source that has no terminal of its own are shown
    /// instead of obeyed, colours excepted.
    pub escape_controls: bool,
    /// Lines are JSON objects ([`super::json`]); nothing else of this matters then.
    pub json: bool,
}

impl Layout {
    /// What names are padded to: the longest of them, and at least 6, the length of `system`.
    pub fn width_for<'a>(names: impl IntoIterator<Item = &'a str>) -> usize {
        names.into_iter().map(str::len).fold(SYSTEM.len(), usize::max)
    }

    /// How many columns of a line stand before its text.
    pub fn columns_before_text(&self) -> usize {
        let time = if self.timestamps { TIME + 1 } else { 0 };
        // A blank, the bar, a blank.
        if self.prefix { time + self.width + 3 } else { 0 }
    }
}

const SYSTEM: &str = "system";
const RESET: &[u8] = b"\x1b[0m";

/// In whose name a line is said, and in which colour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    name: Arc<str>,
    sgr: &'static str,
}

impl Label {
    /// lpm's own. Bold, in the terminal's own colour: bright white cannot be seen on a white background.
    pub fn system() -> Label {
        Label { name: SYSTEM.into(), sgr: "1" }
    }

    /// An instance's, such as `web.1`. `process` is the position of its process type in the Procfile, from 0:
    /// all instances of a type have one colour.
    pub fn instance(name: &str, process: usize) -> Label {
        const COLOURS: [&str; 12] =
            ["36", "33", "32", "35", "31", "34", "36;1", "33;1", "32;1", "35;1", "31;1", "34;1"];
        Label { name: name.into(), sgr: COLOURS[process % COLOURS.len()] }
    }

    /// `web.1`, or `system`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, to be kept.
    pub fn shared_name(&self) -> &Arc<str> {
        &self.name
    }
}

/// The time of day as text, worked out once a second. The time zone is looked up when it is first needed.
#[derive(Debug, Default)]
pub struct Clock {
    zone: Option<TimeZone>,
    second: Option<i64>,
    text: [u8; TIME],
}

/// The length of `HH:MM:SS`.
const TIME: usize = 8;

impl Clock {
    /// A clock that shows the time of `zone` instead of the machine's.
    pub fn in_zone(zone: TimeZone) -> Clock {
        Clock { zone: Some(zone), ..Clock::default() }
    }

    /// It is this second now, counted from 1970 in UTC.
    pub fn tick(&mut self, second: i64) {
        if self.second == Some(second) {
            return;
        }
        let here = self.zone.get_or_insert_with(zone::of_the_machine);
        // A time outside jiff's years is shown in UTC; nobody reads it.
        let offset = Timestamp::from_second(second).map_or(0, |t| i64::from(here.to_offset(t).seconds()));
        let day = second.saturating_add(offset).rem_euclid(86_400);
        for (at, number) in [(0, day / 3600), (3, day / 60 % 60), (6, day % 60)] {
            self.text[at] = b'0' + (number / 10) as u8;
            self.text[at + 1] = b'0' + (number % 10) as u8;
        }
        (self.text[2], self.text[5]) = (b':', b':');
        self.second = Some(second);
    }
}

/// What stands before every line of one source.
#[derive(Debug, Clone)]
pub struct Prefix {
    bytes: Vec<u8>,
    /// Where the time stands, if it is shown.
    time: Option<usize>,
    /// Where the bar stands, if there is one.
    bar: Option<usize>,
    /// The second that `bytes` show.
    second: Option<i64>,
}

impl Prefix {
    /// Lays the prefix out; the time is filled in by [`Prefix::at`].
    pub fn new(layout: &Layout, label: &Label, stream: Stream) -> Prefix {
        let mut prefix = Prefix { bytes: Vec::new(), time: None, bar: None, second: None };
        if !layout.prefix {
            return prefix;
        }
        let bytes = &mut prefix.bytes;
        if layout.colour {
            bytes.extend_from_slice(RESET);
            bytes.extend_from_slice(format!("\x1b[{}m", label.sgr).as_bytes());
        }
        if layout.timestamps {
            prefix.time = Some(bytes.len());
            bytes.extend_from_slice(b"00:00:00 ");
        }
        bytes.extend_from_slice(format!("{:width$} ", label.name, width = layout.width).as_bytes());
        let marked = stream == Stream::Err;
        if layout.colour && marked {
            bytes.extend_from_slice(b"\x1b[31m");
        }
        prefix.bar = Some(bytes.len());
        bytes.extend_from_slice(if marked { b"! " } else { b"| " });
        if layout.colour {
            bytes.extend_from_slice(RESET);
        }
        // Held once per source for as long as it lives.
        bytes.shrink_to_fit();
        prefix
    }

    /// The prefix at the clock's second.
    #[inline]
    pub fn at(&mut self, clock: &Clock) -> &[u8] {
        if self.second != clock.second {
            self.set_time(clock);
        }
        &self.bytes
    }

    /// The prefix for the rest of a line that was broken off.
    pub fn continued(&mut self, clock: &Clock) -> Vec<u8> {
        let mut bytes = self.at(clock).to_vec();
        if let Some(bar) = self.bar {
            bytes[bar] = b'+';
        }
        bytes
    }

    #[cold]
    fn set_time(&mut self, clock: &Clock) {
        if let Some(at) = self.time {
            self.bytes[at..at + TIME].copy_from_slice(&clock.text);
        }
        self.second = clock.second;
    }
}

/// Shows what a terminal would obey.
///
/// Colours (`ESC [ … m`) pass, and are reset at the end of the line if the line doesn't do it; tab and
/// carriage return pass. Every other control character, in ASCII, as C1 in UTF-8, or as a byte that is no
/// UTF-8, is shown as `\x1b`. It keeps what a long line's piece left unfinished, a sequence or a character,
/// for the next piece.
#[derive(Debug, Default)]
pub struct Escaper {
    tail: Vec<u8>,
    /// A colour was set and not reset.
    lit: bool,
}

/// No colour sequence is longer than this; what is, is no colour.
const LONGEST_SGR: usize = 64;

impl Escaper {
    /// Shows a piece of a line. With the line's end, its newline is shown as such.
    pub fn show(&mut self, text: &[u8], mut put: impl FnMut(&[u8])) {
        if self.tail.is_empty() {
            self.tail = self.piece(text, &mut put).to_vec();
        } else {
            let mut joined = std::mem::take(&mut self.tail);
            joined.extend_from_slice(text);
            self.tail = self.piece(&joined, &mut put).to_vec();
        }
    }

    /// Shows what was kept: the line is broken off here, without its newline.
    pub fn end(&mut self, mut put: impl FnMut(&[u8])) {
        let tail = std::mem::take(&mut self.tail);
        self.run(&tail, &mut put);
        self.reset(&mut put);
    }

    fn piece<'a>(&mut self, text: &'a [u8], put: &mut impl FnMut(&[u8])) -> &'a [u8] {
        match text.strip_suffix(b"\n") {
            Some(line) if !self.lit && is_plain(line) => {
                put(text);
                &[]
            }
            Some(line) => {
                self.run(line, put);
                self.reset(put);
                put(b"\n");
                &[]
            }
            None => {
                let (now, later) = text.split_at(text.len() - unfinished(text));
                self.run(now, put);
                later
            }
        }
    }

    fn reset(&mut self, put: &mut impl FnMut(&[u8])) {
        if std::mem::take(&mut self.lit) {
            put(RESET);
        }
    }

    /// Shows text that ends neither in mid-character nor in mid-sequence, or is to be taken as if it didn't.
    fn run(&mut self, text: &[u8], put: &mut impl FnMut(&[u8])) {
        for chunk in text.utf8_chunks() {
            self.valid(chunk.valid().as_bytes(), put);
            chunk.invalid().iter().for_each(|byte| put(&shown(*byte)));
        }
    }

    /// In valid UTF-8 the byte C2 only ever begins a character, and C2 80 to C2 9F are the C1 controls.
    fn valid(&mut self, text: &[u8], put: &mut impl FnMut(&[u8])) {
        let (mut plain, mut at) = (0, 0);
        while at < text.len() {
            let (shown_bytes, passed) = match text[at] {
                0x1b => match sgr(&text[at..]) {
                    0 => (1, 0),
                    length => {
                        self.lit = !matches!(&text[at + 2..at + length - 1], b"" | b"0" | b"00");
                        (0, length)
                    }
                },
                b'\t' | b'\r' => (0, 1),
                0..0x20 | 0x7f => (1, 0),
                0xc2 if (0x80..0xa0).contains(&text[at + 1]) => (2, 0),
                _ => (0, 1),
            };
            if shown_bytes > 0 {
                put(&text[plain..at]);
                text[at..at + shown_bytes].iter().for_each(|byte| put(&shown(*byte)));
                plain = at + shown_bytes;
            }
            at += shown_bytes + passed;
        }
        put(&text[plain..]);
    }
}

/// Whether every byte is printable ASCII or a tab. Written without an early end, so that it is done 32 at a
/// time.
fn is_plain(text: &[u8]) -> bool {
    !text.iter().fold(false, |odd, &b| odd | (b.wrapping_sub(b' ') > b'~' - b' ') & (b != b'\t'))
}

/// `\x1b`
fn shown(byte: u8) -> [u8; 4] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    [b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]
}

/// The length of the colour sequence at the start of `text`, 0 if there is none.
fn sgr(text: &[u8]) -> usize {
    if !text.starts_with(b"\x1b[") {
        return 0;
    }
    let parameters = sgr_parameters(&text[2..]);
    if text.get(2 + parameters) == Some(&b'm') && 2 + parameters < LONGEST_SGR { 3 + parameters } else { 0 }
}

fn sgr_parameters(text: &[u8]) -> usize {
    text.iter().take_while(|b| matches!(b, b'0'..=b'9' | b';' | b':')).count()
}

/// How many bytes at the end of `text` may be the beginning of a colour sequence or of a character.
fn unfinished(text: &[u8]) -> usize {
    let last = &text[text.len() - text.len().min(LONGEST_SGR - 1)..];
    if let Some(at) = memchr::memrchr(0x1b, last) {
        let begun = &last[at + 1..];
        if begun.is_empty() || begun[0] == b'[' && sgr_parameters(&begun[1..]) == begun.len() - 1 {
            return last.len() - at;
        }
    }
    match text.utf8_chunks().last() {
        // Only an incomplete character is both invalid and at the very end and could still become valid.
        Some(chunk) if could_begin(chunk.invalid()) => chunk.invalid().len(),
        _ => 0,
    }
}

/// Whether `bytes`, which `utf8_chunks` found at the end and not to be a character, may begin one.
fn could_begin(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|e| e.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Layout = Layout {
        width: 6,
        timestamps: true,
        prefix: true,
        colour: false,
        escape_controls: false,
        json: false,
    };

    fn prefix(layout: Layout, label: Label, stream: Stream) -> String {
        let mut clock = Clock::in_zone(TimeZone::UTC);
        clock.tick(12 * 3600 + 42 * 60 + 7);
        String::from_utf8(Prefix::new(&layout, &label, stream).at(&clock).to_vec()).expect("UTF-8")
    }

    #[test]
    fn foremans_layout() {
        let web = |layout| prefix(layout, Label::instance("web.1", 0), Stream::Merged);
        assert_eq!(web(PLAIN), "12:42:07 web.1  | ");
        assert_eq!(web(Layout { width: 8, ..PLAIN }), "12:42:07 web.1    | ");
        assert_eq!(web(Layout { width: 3, ..PLAIN }), "12:42:07 web.1 | ", "a name is never cut");
        assert_eq!(web(Layout { timestamps: false, ..PLAIN }), "web.1  | ");
        assert_eq!(web(Layout { prefix: false, colour: true, ..PLAIN }), "");
        assert_eq!(prefix(PLAIN, Label::system(), Stream::Merged), "12:42:07 system | ");
        assert_eq!(prefix(PLAIN, Label::instance("web.1", 0), Stream::Err), "12:42:07 web.1  ! ");
        for layout in [PLAIN, Layout { width: 8, ..PLAIN }, Layout { timestamps: false, ..PLAIN }] {
            assert_eq!(layout.columns_before_text(), web(layout).len());
        }
        assert_eq!(Layout { prefix: false, ..PLAIN }.columns_before_text(), 0);
        assert_eq!(Layout::width_for(["web.1"]), 6);
        assert_eq!(Layout::width_for(["web.1", "a-b_9.10"]), 8);
    }

    #[test]
    fn colours() {
        let colour = Layout { colour: true, ..PLAIN };
        let web = |n, stream| prefix(colour, Label::instance("web.1", n), stream);
        assert_eq!(web(0, Stream::Merged), "\x1b[0m\x1b[36m12:42:07 web.1  | \x1b[0m");
        assert_eq!(web(1, Stream::Out), "\x1b[0m\x1b[33m12:42:07 web.1  | \x1b[0m");
        assert_eq!(web(1, Stream::Err), "\x1b[0m\x1b[33m12:42:07 web.1  \x1b[31m! \x1b[0m");
        assert_eq!(web(6, Stream::Out), "\x1b[0m\x1b[36;1m12:42:07 web.1  | \x1b[0m");
        assert_eq!(web(12, Stream::Out), web(0, Stream::Out));
        assert_eq!(prefix(colour, Label::system(), Stream::Out), "\x1b[0m\x1b[1m12:42:07 system | \x1b[0m");
    }

    #[test]
    fn the_time_follows_the_clock_and_the_zone() {
        let mut clock = Clock::in_zone(TimeZone::fixed(jiff::tz::offset(-3)));
        let mut prefix = Prefix::new(&PLAIN, &Label::instance("a.1", 0), Stream::Merged);
        for (second, shown) in
            [(0, "21:00:00"), (1, "21:00:01"), (3 * 3600 - 1, "23:59:59"), (3 * 3600, "00:00:00")]
        {
            clock.tick(second);
            assert_eq!(&prefix.at(&clock)[..TIME], shown.as_bytes());
        }
        assert_eq!(prefix.continued(&clock), b"00:00:00 a.1    + ");
        assert_eq!(prefix.at(&clock), b"00:00:00 a.1    | ");
        clock.tick(i64::MAX);
    }

    #[test]
    fn the_machines_zone_is_asked_for_once_needed() {
        let mut clock = Clock::default();
        clock.tick(0);
        assert!(clock.zone.is_some() && clock.text[2] == b':');
    }

    fn show(pieces: &[&[u8]]) -> String {
        let (mut escaper, mut out) = (Escaper::default(), Vec::new());
        for piece in pieces {
            escaper.show(piece, |b| out.extend_from_slice(b));
        }
        String::from_utf8(out).expect("only UTF-8 reaches the terminal")
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        let cases: [(&[u8], &str); 18] = [
            (b"plain\ttext\n", "plain\ttext\n"),
            (b"\n", "\n"),
            (b"progress 1\rprogress 2\r\n", "progress 1\rprogress 2\r\n"),
            ("é€😀\n".as_bytes(), "é€😀\n"),
            (b"\x1b[31mred\x1b[0m\n", "\x1b[31mred\x1b[0m\n"),
            (b"\x1b[31mred\x1b[m\n", "\x1b[31mred\x1b[m\n"),
            (b"\x1b[1;31mred\n", "\x1b[1;31mred\x1b[0m\n"),
            (b"\x1b[38;5;0mblack\r\n", "\x1b[38;5;0mblack\r\x1b[0m\n"),
            (b"\x1b[38:2::1:2:3mrgb\x1b[0m\n", "\x1b[38:2::1:2:3mrgb\x1b[0m\n"),
            (b"\x1b]0;title\x07x\n", "\\x1b]0;title\\x07x\n"),
            (b"\x1b[2J\x1b[H\x1bc\n", "\\x1b[2J\\x1b[H\\x1bc\n"),
            (b"\x1b[?25l\x1b[>4;1m\n", "\\x1b[?25l\\x1b[>4;1m\n"),
            (b"a\x08b\x00c\x7fd\x0e\n", "a\\x08b\\x00c\\x7fd\\x0e\n"),
            (b"\xc2\x9b2J\xc2\xa0\n", "\\xc2\\x9b2J\u{a0}\n"),
            (b"bad \xff\xfe\xc3\x28\n", "bad \\xff\\xfe\\xc3(\n"),
            (b"\x9b31m\n", "\\x9b31m\n"),
            (b"cut \xe2\x82\n", "cut \\xe2\\x82\n"),
            (b"cut \x1b[3\n", "cut \\x1b[3\n"),
        ];
        for (given, wanted) in cases {
            assert_eq!(show(&[given]), wanted);
        }
        let long = [b"\x1b[".as_slice(), &[b'1'; 100], b"m\n"].concat();
        assert!(show(&[&long]).starts_with("\\x1b[111"));
    }

    #[test]
    fn a_colour_is_reset_where_a_line_is_broken_off() {
        let (mut escaper, mut out) = (Escaper::default(), Vec::new());
        escaper.show(b"\x1b[31mred \x1b[", |b| out.extend_from_slice(b));
        assert_eq!(out, b"\x1b[31mred ");
        escaper.end(|b| out.extend_from_slice(b));
        assert_eq!(out, b"\x1b[31mred \\x1b[\x1b[0m");
    }

    proptest! {
        /// However a line is cut into pieces, it looks the same.
        #[test]
        fn cutting_changes_nothing(
            line in prop::collection::vec(prop_oneof![
                any::<u8>(), Just(0x1b), Just(b'['), Just(b'm'), Just(b'1'), Just(b';'), 0x80u8..0xc0, Just(0xe2), Just(0xf0),
            ], 0..80),
            cuts in prop::collection::vec(1usize..10, 1..20),
        ) {
            let mut line: Vec<u8> = line.into_iter().filter(|b| *b != b'\n').collect();
            line.push(b'\n');
            let (mut pieces, mut rest, mut cuts) = (Vec::new(), &line[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (a, b) = rest.split_at(rest.len().min(*cuts.next().expect("a cycle")));
                pieces.push(a);
                rest = b;
            }
            let whole = show(&[&line]);
            prop_assert_eq!(show(&pieces), whole.clone());
            // Nothing but a colour sequence ever reaches the terminal after an ESC.
            for (at, _) in whole.match_indices('\x1b') {
                prop_assert!(sgr(&whole.as_bytes()[at..]) > 0);
            }
            prop_assert!(!whole.chars().any(|c| c.is_control() && !"\t\r\n\x1b".contains(c)));
        }
    }
}
