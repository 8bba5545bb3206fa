//! What instances print, on the way to terminals, files, viewers and clients.

use std::task::{Context, Waker};

use jiff::tz::TimeZone;
use lpm::client::archive;
use lpm::control::interface;
use lpm::meaning::{level, structured, trace};
use lpm::output::lines::{Cutter, LONGEST, Piece};
use lpm::output::modes::{Modes, off};
use lpm::output::screen::Screen;
use lpm::output::sequence::Plain;
use lpm::output::terminal::Escaper;
use lpm::output::{Stream, json};
use lpm::view::Look;
use lpm::view::lines::{Lines, Names};

use super::pieces;

/// Cutting into lines, and lines as JSON.
pub fn lines(bytes: &[u8]) {
    let (mut cutter, mut joined, mut written) = (Cutter::default(), Vec::new(), Vec::new());
    let mut take = |piece: Piece<'_>| {
        let (Piece::Whole(text) | Piece::Start(text) | Piece::More(text) | Piece::End(text)) = piece;
        assert!(text.len() <= LONGEST + 4096);
        joined.extend_from_slice(text);
        json::put(&mut written, 7, "web.1", Stream::Out, piece);
    };
    pieces(bytes).for_each(|piece| cutter.feed(piece, &mut take));
    cutter.finish(&mut take);
    let mut wanted = bytes.get(1..).unwrap_or_default().to_vec();
    if wanted.last().is_some_and(|&last| last != b'\n') {
        wanted.push(b'\n');
    }
    assert_eq!(joined, wanted, "the lines are not what came");
    for line in written.split_inclusive(|&byte| byte == b'\n') {
        serde_json::from_slice::<serde::de::IgnoredAny>(line).expect("a line of JSON");
    }
}

/// Sequences in what programs print: cut anywhere they are the same, and none but colours passes where none may.
pub fn sequences(bytes: &[u8]) {
    let whole = bytes.get(1..).unwrap_or_default();
    let plain = |chunks: &mut dyn Iterator<Item = &[u8]>| {
        let (mut plain, mut out) = (Plain::default(), Vec::new());
        chunks.for_each(|chunk| plain.feed(chunk, &mut out));
        plain.finish(&mut out);
        out
    };
    let at_once = plain(&mut [whole].into_iter());
    assert!(at_once.len() <= whole.len());
    let in_pieces = plain(&mut pieces(bytes));
    // A sequence that is longer than what is waited for may be cut apart.
    if whole.len() < 256 && !whole.contains(&b'\n') {
        assert_eq!(in_pieces, at_once, "cut elsewhere it is another text");
    }
    let (mut escaper, mut shown) = (Escaper::default(), Vec::new());
    for line in whole.split(|&byte| byte == b'\n') {
        line.chunks(512).for_each(|chunk| escaper.show(chunk, |bytes| shown.extend_from_slice(bytes)));
        escaper.end(|bytes| shown.extend_from_slice(bytes));
    }
    harmless(&shown);
    let mut modes = Modes::default();
    pieces(bytes).for_each(|piece| modes.feed(piece));
    assert!(modes.on().len() < 1000, "there are not so many modes");
    let switched_off = off(&modes.finish());
    let mut modes = Modes::default();
    modes.feed(&switched_off);
    assert!(
        modes.finish().is_empty(),
        "something is left on by {:?}",
        switched_off.escape_ascii().to_string()
    );
}

/// A terminal obeys nothing in it but colours.
fn harmless(shown: &[u8]) {
    let text = std::str::from_utf8(shown).expect("what is shown is text");
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() && !matches!(c, '\t' | '\r' | '\n')) {
        let sequence = &rest[at..];
        let end = sequence.find('m').unwrap_or(sequence.len());
        let colour = sequence.strip_prefix("\x1b[").is_some_and(|parameters| {
            parameters.bytes().take(end.saturating_sub(2)).all(|b| b.is_ascii_digit() || b";:".contains(&b))
        });
        assert!(colour && end < sequence.len(), "{:?} passes", &sequence[..end.min(20)]);
        rest = &sequence[end + 1..];
    }
}

/// The screen of an instance with a terminal. The first byte chooses the pieces, the second the size.
pub fn screen(bytes: &[u8]) {
    let size = |byte: u8| match byte {
        // The largest that people have, and the limits.
        0..8 => (80, 300),
        8 => (500, 1000),
        9 => (1, 1),
        other => (u16::from(other % 60), u16::from(other)),
    };
    let (rows, columns) = size(bytes.get(1).copied().unwrap_or(20));
    let screen = Screen::new(rows, columns);
    screen.reset();
    let (_, mut position) = screen.repaint();
    for (at, piece) in pieces(bytes).enumerate() {
        let answers = screen.feed(piece);
        assert!(answers.len() <= 1024, "more is typed than anyone reads");
        if at % 64 == 63 {
            let (rows, columns) = size(piece[0].max(10));
            screen.resize(rows, columns);
        }
    }
    let _ = screen.poll_after(&mut position, &mut Context::from_waker(Waker::noop()));
    let (picture, _) = screen.repaint();
    // The picture, painted, is the same picture.
    let (rows, columns) = screen.size();
    let other = Screen::new(rows, columns);
    let answers = other.feed(&picture);
    assert!(answers.is_empty(), "a picture asks something");
}

/// Levels, records, errors.
pub fn meaning(bytes: &[u8]) {
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    for line in &lines {
        let (priority, rest) = level::level(line);
        assert!(priority <= 7 && line.ends_with(rest));
        for said in structured::pretty(line, false, true).unwrap_or_default() {
            assert!(!said.chars().any(|c| c.is_control() && c != '\t'), "{said:?}");
        }
    }
    if let Some(found) = trace::find(lines.iter().copied()) {
        assert!(found.message.len() <= trace::LONGEST + 3);
    }
    let missing = trace::missing_command(lines.iter().copied());
    assert!(missing.is_none_or(|name| name.len() <= trace::LONGEST + 3));
}

/// Entries as journalctl prints them, one a line.
pub fn journal(bytes: &[u8]) {
    for text in bytes.split(|&byte| byte == b'\n') {
        if let Some((line, _)) = archive::entry(text) {
            assert!(line.text.len() <= text.len());
        }
    }
}

/// Lines that a client was sent, on its terminal.
pub fn view(bytes: &[u8]) {
    let look = Look { columns: 80, colour: false, terminal: true };
    let mut lines = Lines::new(Names::to_be_met(), TimeZone::UTC, look).pretty(true);
    for text in bytes.split(|&byte| byte == b'\n').take(1000) {
        let line = serde_json::from_slice(text).unwrap_or_else(|_| interface::Line {
            sequence: 0,
            time: 7,
            instance: "web.1".to_owned(),
            stream: interface::LineStream::Out,
            text: String::from_utf8_lossy(text).into_owned(),
            bytes: None,
            part: false,
        });
        // Its name was checked where it was written.
        let line = interface::Line { instance: "web.1".to_owned(), ..line };
        let line: interface::Line = line;
        harmless(&lines.line(&line));
    }
}
