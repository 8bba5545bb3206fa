//! A line of text in pieces, each in one colour: measured and cut first, coloured last.
//!
//! Whatever goes in is shown as it is escaped here, so that no caller can forget it. A width is a number of
//! characters: what a terminal draws in two cells or in none (East Asian, combining) is counted as one.

use super::Look;
use crate::escape;

/// Stands where something was cut.
const CUT: char = '…';

/// Where the colons after labels end; `systemctl status` has them there too.
pub(super) const LABELS: usize = 11;

/// A colour, or another way to stand out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ink {
    Plain,
    Bold,
    Faint,
    Green,
    Yellow,
    Red,
    Cyan,
}

impl Ink {
    /// The parameter of `ESC [ … m`; only the basic colours, which every terminal's theme knows.
    fn sgr(self) -> &'static str {
        match self {
            Ink::Plain => "0",
            Ink::Bold => "1",
            Ink::Faint => "2",
            Ink::Green => "32",
            Ink::Yellow => "33",
            Ink::Red => "31",
            Ink::Cyan => "36",
        }
    }
}

/// A line, without its newline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Text {
    pieces: Vec<(Ink, String)>,
}

impl Text {
    pub(super) fn plain(text: &str) -> Text {
        Text::of(Ink::Plain, text)
    }

    pub(super) fn of(ink: Ink, text: &str) -> Text {
        Text::default().and(ink, text)
    }

    /// So many blanks.
    pub(super) fn blanks(count: usize) -> Text {
        Text::plain(&" ".repeat(count))
    }

    /// With this after it.
    pub(super) fn and(mut self, ink: Ink, text: &str) -> Text {
        if !text.is_empty() {
            self.pieces.push((ink, escape::all(text).into_owned()));
        }
        self
    }

    /// With that after it.
    pub(super) fn then(mut self, other: Text) -> Text {
        self.pieces.extend(other.pieces);
        self
    }

    /// What it is made of, nothing to be escaped any more.
    pub(super) fn into_pieces(self) -> Vec<(Ink, String)> {
        self.pieces
    }

    fn ends_with(&self, end: char) -> bool {
        self.pieces.last().is_some_and(|(_, text)| text.ends_with(end))
    }

    /// In characters.
    pub(super) fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// With blanks after it, so that it is at least so wide.
    pub(super) fn padded(self, width: usize) -> Text {
        let missing = width.saturating_sub(self.width());
        self.then(Text::blanks(missing))
    }

    /// With blanks before it, so that it is at least so wide.
    pub(super) fn flush_right(self, width: usize) -> Text {
        Text::blanks(width.saturating_sub(self.width())).then(self)
    }

    /// At most so wide; what is too much goes from its end.
    pub(super) fn cut(self, width: usize) -> Text {
        self.cut_before(0, width)
    }

    /// At most so wide; what is too much goes from before its last `tail` characters.
    pub(super) fn cut_before(self, tail: usize, width: usize) -> Text {
        let all = self.width();
        if all <= width {
            return self;
        }
        let tail = tail.min(width.saturating_sub(1));
        let head = width.saturating_sub(1 + tail);
        let mut kept = Text::default();
        let mut at = 0;
        for (ink, text) in self.pieces {
            let mut piece = String::new();
            for character in text.chars() {
                if at < head || at >= all - tail {
                    piece.push(character);
                } else if at == head && width > 0 {
                    piece.push(CUT);
                }
                at += 1;
            }
            if !piece.is_empty() {
                kept.pieces.push((ink, piece));
            }
        }
        kept
    }

    /// Adds it to `page` as a line, cut to the width of `look`, without blanks at its end.
    pub(super) fn write(self, look: &Look, page: &mut String) {
        let mut pieces = self.cut(look.width()).pieces;
        while let Some((_, last)) = pieces.last_mut() {
            last.truncate(last.trim_end().len());
            if !last.is_empty() {
                break;
            }
            pieces.pop();
        }
        for (ink, text) in pieces {
            // A blank has no colour.
            if !look.colour || ink == Ink::Plain || text.trim_start().is_empty() {
                page.push_str(&text);
            } else {
                page.extend(["\x1b[", ink.sgr(), "m", &text, "\x1b[0m"]);
            }
        }
        page.push('\n');
    }
}

/// The parts with commas between them (none where a part ends with a semicolon), in as many lines as it takes: the first begins with `label`, the others
/// under what follows it. A part that is wider than a line is left for [`Text::write`] to cut.
pub(super) fn fill(label: Text, parts: Vec<Text>, look: &Look) -> Vec<Text> {
    let indent = label.width();
    let count = parts.len();
    let mut lines = Vec::new();
    let mut line = label;
    for (at, part) in parts.into_iter().enumerate() {
        let comma = usize::from(at + 1 < count && !part.ends_with(';'));
        let blank = usize::from(line.width() > indent);
        if blank > 0 && line.width() + blank + part.width() + comma > look.width() {
            lines.push(std::mem::replace(&mut line, Text::blanks(indent)));
        } else {
            line = line.then(Text::blanks(blank));
        }
        line = line.then(part).then(Text::plain(&",".repeat(comma)));
    }
    lines.push(line);
    lines
}

/// The words in lines of at most `width` characters; a longer word is broken.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in escape::all(text).split(' ') {
        let length = word.chars().count();
        let blank = usize::from(used > 0);
        if used + blank + length <= width {
            line.push_str(&" ".repeat(blank));
            line.push_str(word);
            used += blank + length;
            continue;
        }
        if used > 0 {
            lines.push(std::mem::take(&mut line));
        }
        used = 0;
        for character in word.chars() {
            if used == width {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(character);
            used += 1;
        }
    }
    lines.push(line);
    lines
}

/// `1 restart`, `2 restarts`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: Text, columns: usize, colour: bool) -> String {
        let mut page = String::new();
        text.write(&Look { columns, colour, terminal: true }, &mut page);
        page
    }

    #[test]
    fn a_cut_leaves_a_mark() {
        let text = || Text::plain("worker-with-").and(Ink::Green, "long-name.12");
        let plain = |text: Text| text.pieces.into_iter().map(|(_, text)| text).collect::<String>();
        assert_eq!(plain(text().cut(24)), "worker-with-long-name.12");
        assert_eq!(plain(text().cut(23)), "worker-with-long-name.…");
        assert_eq!(plain(text().cut(5)), "work…");
        assert_eq!(plain(text().cut_before(4, 14)), "worker-wi…e.12");
        assert_eq!(plain(text().cut_before(40, 10)), "…g-name.12");
        assert_eq!(plain(text().cut(1)), "…");
        assert_eq!(plain(text().cut(0)), "");
    }

    #[test]
    fn a_terminal_is_told_nothing_but_colours() {
        let text = Text::plain("a\x1b]0;title\x07\n\u{9b}2J\u{202e}b");
        assert_eq!(written(text, 80, false), "a\\x1b]0;title\\x07\\x0a\\xc2\\x9b2J\\xe2\\x80\\xaeb\n");
        let coloured = Text::of(Ink::Red, "failed").and(Ink::Red, "  ").and(Ink::Plain, " ");
        assert_eq!(written(coloured, 80, true), "\x1b[31mfailed\x1b[0m\n");
    }

    #[test]
    fn parts_are_filled_into_lines() {
        let parts = ["twelve chars", "twelve chars", "and more"].map(Text::plain).to_vec();
        let lines =
            fill(Text::plain("  Label: "), parts, &Look { columns: 40, colour: false, terminal: true });
        let lines: Vec<String> = lines.into_iter().map(|line| written(line, 40, false)).collect();
        assert_eq!(lines, ["  Label: twelve chars, twelve chars,\n", "         and more\n"]);
    }

    #[test]
    fn words_are_wrapped_and_long_ones_broken() {
        assert_eq!(wrapped("a bc def", 4), ["a bc", "def"]);
        assert_eq!(wrapped("a bcdefghij k", 4), ["a", "bcde", "fghi", "j k"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
