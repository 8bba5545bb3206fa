//! Text as a terminal may show it: control characters are written out, so that a name, a path or a line of a program
//! cannot move the cursor, rename the window or hide what stands beside it.
//!
//! Escaped are C0 and C1 controls, DEL, and the characters that change the direction of text or have no width. Tab and
//! newline pass where lpm's own text has them. Text in, text out.

use std::borrow::Cow;
use std::fmt::Write;

/// `text` with each character that a terminal obeys or does not show as `\x1b`, one for each of its bytes.
pub fn all(text: &str) -> Cow<'_, str> {
    escaped(text, is_unseen)
}

/// The same for text of several lines; newlines and tabs pass, since they are lpm's own.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| is_unseen(character) && !matches!(character, '\n' | '\t'))
}

fn escaped(text: &str, is_unseen: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_unseen) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_unseen(character) {
            character.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| shown.push_str(&escape(byte)));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// A JSON text with DEL and the C1 controls as `\u009b`. They occur within strings only, and writers of JSON leave them
/// as they are; C0 controls they escape themselves (RFC 8259, section 7).
pub fn json(text: &str) -> Cow<'_, str> {
    let is_raw = |character: char| matches!(character, '\u{7f}'..='\u{9f}');
    if !text.contains(is_raw) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_raw(character) {
            let _ = write!(shown, "\\u{:04x}", u32::from(character));
        } else {
            shown.push(character);
        }
    }
    Cow::Owned(shown)
}

/// Whether a terminal obeys a character, or shows nothing for it.
fn is_unseen(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
}

/// `\x1b`
pub fn escape(byte: u8) -> String {
    format!("\\x{byte:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_character_is_written_out() {
        for code in (0..0x20).chain(0x7f..0xa0) {
            let character = char::from(code);
            let shown = lines(&format!("a{character}b")).into_owned();
            assert_eq!(shown.contains(character), matches!(character, '\n' | '\t'), "{shown:?}");
        }
        assert_eq!(lines("\u{1b}[31m\u{9b}2J\u{7f}\r\n"), "\\x1b[31m\\xc2\\x9b2J\\x7f\\x0d\n");
        assert_eq!(all("a\n\t"), "a\\x0a\\x09");
        assert_eq!(lines("a\u{202e}b"), "a\\xe2\\x80\\xaeb");
        assert!(matches!(lines("plain\ttext é\n"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_says_the_same_as_before() {
        let value = serde_json::json!({ "a\u{9b}": ["\u{7f}", "é\u{80}\u{9f}\u{a0}\u{1b}\\"] });
        let text = json(&format!("{value:#}\n")).into_owned();
        assert!(!text.contains(|c: char| c != '\n' && c.is_control()), "{text:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"), value);
    }
}
