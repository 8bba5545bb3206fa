//! Lines as JSON, one object each; `docs/log-format.md` says what stands in it.
//!
//! ```json
//! {"time":1764057600123456,"instance":"web.1","stream":"out","text":"listening on 5000"}
//! ```
//!
//! Control characters stand in it as `\u001b`, DEL and the C1 controls too, which JSON would allow as they are: a line
//! may be read on a terminal.
//!
//! Nothing is lost: bytes that are not UTF-8 stand beside the text in base64, and a long line comes in parts,
//! joined as they are.

use super::Stream;
use super::lines::Piece;
use crate::escape;

/// What [`super::history::Origin::Lpm`] is called.
const LPM: &str = "lpm";

/// What a stream is called.
pub fn stream(stream: Stream) -> &'static str {
    match stream {
        Stream::Err => "err",
        Stream::Out | Stream::Merged => "out",
    }
}

/// A piece of what an instance said at `time_usec`, microseconds since 1970 in UTC.
pub fn put(out: &mut Vec<u8>, time_usec: u64, instance: &str, of: Stream, piece: Piece<'_>) {
    let (text, part) = match piece {
        Piece::Whole(text) | Piece::End(text) => (text.strip_suffix(b"\n").unwrap_or(text), false),
        Piece::Start(text) | Piece::More(text) => (text, true),
    };
    put_line(out, time_usec, instance, stream(of), text, part);
}

/// A line of lpm's own.
pub(super) fn put_own(out: &mut Vec<u8>, time_usec: u64, instance: &str, text: &str) {
    put_line(out, time_usec, instance, LPM, text.as_bytes(), false);
}

fn put_line(out: &mut Vec<u8>, time_usec: u64, instance: &str, stream: &str, text: &[u8], part: bool) {
    out.extend_from_slice(b"{\"time\":");
    put_string_of(out, &time_usec);
    // A name is letters, digits, `-`, `_` and `.`.
    for (key, word) in [("instance", instance), ("stream", stream)] {
        out.extend_from_slice(b",\"");
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":\"");
        out.extend_from_slice(word.as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b",\"text\":");
    match std::str::from_utf8(text) {
        // Most lines.
        Ok(plain) if is_plain(text) => {
            out.push(b'"');
            out.extend_from_slice(plain.as_bytes());
            out.push(b'"');
        }
        Ok(text) => put_text(out, text),
        Err(_) => {
            put_text(out, &String::from_utf8_lossy(text));
            out.extend_from_slice(b",\"bytes\":\"");
            out.extend_from_slice(base64(text).as_bytes());
            out.push(b'"');
        }
    }
    if part {
        out.extend_from_slice(b",\"part\":true");
    }
    out.extend_from_slice(b"}\n");
}

/// Whether it stands in JSON as it is. Written without an early end, so that it is done 32 bytes at a time.
fn is_plain(text: &[u8]) -> bool {
    let is_odd = |byte: u8| {
        // C2 begins every C1 control in UTF-8, and a few characters that are none.
        (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == 0x7f) | (byte == 0xc2)
    };
    !text.iter().fold(false, |odd, &byte| odd | is_odd(byte))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let string = serde_json::to_string(text).expect("a String takes everything");
    out.extend_from_slice(escape::json(&string).as_bytes());
}

fn put_string_of<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("a Vec takes everything");
}

/// RFC 4648, section 4.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let all = group.iter().fold(0u32, |all, byte| all << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = DIGITS[(all >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(piece: Piece<'_>) -> Value {
        let mut out = Vec::new();
        put(&mut out, 17, "web.1", Stream::Merged, piece);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&out).expect("JSON")
    }

    #[test]
    fn a_line_is_an_object() {
        let plain =
            json!({ "time": 17, "instance": "web.1", "stream": "out", "text": "a \"b\"\t\u{1b}[1m\r" });
        assert_eq!(read(Piece::Whole(b"a \"b\"\t\x1b[1m\r\n")), plain);
        let mut out = Vec::new();
        put_own(&mut out, 1, "system", "sending SIGTERM");
        let own = r#"{"time":1,"instance":"system","stream":"lpm","text":"sending SIGTERM"}"#;
        assert_eq!(String::from_utf8(out).expect("text"), own.to_owned() + "\n");
    }

    #[test]
    fn no_control_character_stands_in_it() {
        let controls: String = (0..0xa1).filter(|code| *code != 10).filter_map(char::from_u32).collect();
        for text in [controls.as_bytes(), b"a\xc2\x9b\x7f\xff\n", "\u{9b}".as_bytes()] {
            let mut out = Vec::new();
            put(&mut out, 17, "web.1", Stream::Merged, Piece::Whole(text));
            let line = String::from_utf8(out).expect("UTF-8");
            assert!(!line.trim_end_matches('\n').contains(|c: char| c.is_control()), "{line:?}");
            let read: Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(read["text"], String::from_utf8_lossy(text).trim_end_matches('\n'));
        }
    }

    #[test]
    fn what_is_not_utf_8_is_not_lost() {
        let line = read(Piece::Whole(b"\xfe\xff\0x\n"));
        assert_eq!((&line["text"], &line["bytes"]), (&json!("\u{fffd}\u{fffd}\0x"), &json!("/v8AeA==")));
    }

    #[test]
    fn a_long_line_comes_in_parts() {
        for (piece, text, part) in [
            (Piece::Start(b"a"), "a", json!(true)),
            (Piece::More(b"b\r"), "b\r", json!(true)),
            (Piece::End(b"c\n"), "c", Value::Null),
        ] {
            let line = read(piece);
            assert_eq!((&line["text"], &line["part"]), (&json!(text), &part));
        }
    }
}
