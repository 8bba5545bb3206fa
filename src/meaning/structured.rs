//! Lines that are records, JSON or logfmt, written for people.
//!
//! ```text
//! {"level":"warn","time":"2026-11-25T08:00:00Z","msg":"slow","ms":812}    WARN  slow ms=812
//! ts=2026-11-25T08:00:00Z level=info msg="listening" port=5000             INFO  listening port=5000
//! ```
//!
//! A line is a record if it says a level or a message by one of the names that loggers have for them; any other
//! line is left alone. Fields keep their order, and none is left out but the time where the line has one already.
//! Text of several lines (a stack, most often) follows below the record. No control character comes through.

use std::fmt::Write;

use jiff::Timestamp;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::level;

const LEVELS: [&str; 6] = ["level", "severity", "lvl", "levelname", "log.level", "loglevel"];
const MESSAGES: [&str; 4] = ["msg", "message", "event", "short_message"];
const TIMES: [&str; 7] = ["time", "ts", "timestamp", "@timestamp", "t", "datetime", "asctime"];

/// The most fields of a record; what has more is data.
const MOST_FIELDS: usize = 200;

/// A record as lines, without newlines, and `None` if it is none. `timed`: with its own time.
pub fn pretty(line: &[u8], colour: bool, timed: bool) -> Option<Vec<String>> {
    let text = std::str::from_utf8(line).ok()?.trim();
    let fields = match text.as_bytes() {
        [b'{', .., b'}'] => json(text)?,
        _ => logfmt(text)?,
    };
    Some(Record::new(fields)?.lines(colour, timed))
}

/// Names and values, in their order.
type Fields = Vec<(String, Value)>;

#[derive(Default)]
struct Record {
    level: Option<(u8, String)>,
    time: Option<Value>,
    message: Option<String>,
    rest: Fields,
}

impl Record {
    fn new(fields: Fields) -> Option<Record> {
        let mut record = Record::default();
        for (name, value) in fields {
            let is = |names: &[&str]| names.contains(&name.as_str());
            match &value {
                _ if is(&LEVELS) && record.level.is_none() && priority(&value).is_some() => {
                    record.level = priority(&value).map(|priority| (priority, plain(&value)));
                }
                Value::String(text) if is(&MESSAGES) && record.message.is_none() => {
                    record.message = Some(text.clone());
                }
                Value::String(_) | Value::Number(_) if is(&TIMES) && record.time.is_none() => {
                    record.time = Some(value);
                }
                _ => record.rest.push((name, value)),
            }
        }
        (record.level.is_some() || record.message.is_some()).then_some(record)
    }

    fn lines(self, colour: bool, timed: bool) -> Vec<String> {
        let ink = |sgr: &str, text: &str| match colour && !sgr.is_empty() {
            true => format!("\x1b[{sgr}m{text}\x1b[0m"),
            false => text.to_owned(),
        };
        let mut below = Vec::new();
        let mut words = Vec::new();
        if let Some(time) = self.time.filter(|_| timed) {
            words.push(ink("2", &moment(&time)));
        }
        if let Some((priority, said)) = &self.level {
            let (word, sgr) = dress(*priority, said);
            words.push(ink(sgr, &format!("{word:<5}")));
        }
        if let Some(message) = &self.message {
            let mut lines = message.trim_end().lines();
            words.push(shown(lines.next().unwrap_or_default()));
            below.extend(lines.map(|line| format!("    {}", shown(line))));
        }
        for (name, value) in &self.rest {
            match value {
                Value::String(text) if text.trim_end().contains('\n') => {
                    below.push(format!("  {}", ink("2", &format!("{}:", shown(name)))));
                    below.extend(text.trim_end().lines().map(|line| format!("    {}", shown(line))));
                }
                value => {
                    let name = ink("2", &format!("{}=", shown(name)));
                    words.push(format!("{name}{}", quoted(&plain(value))));
                }
            }
        }
        let mut lines = vec![words.join(" ").trim_end().to_owned()];
        lines.append(&mut below);
        lines
    }
}

fn priority(value: &Value) -> Option<u8> {
    match value {
        Value::String(name) => level::priority(name.trim()),
        Value::Number(number) => level::of_number(u32::try_from(number.as_u64()?).ok()?),
        _ => None,
    }
}

/// A level as a word of five letters at most, where there is one, and its colour.
fn dress(priority: u8, said: &str) -> (String, &'static str) {
    let said = said.trim();
    let word = match priority {
        0..=2 => "FATAL",
        3 => "ERROR",
        4 => "WARN",
        5 => "NOTE",
        6 => "INFO",
        // Two levels that have one priority.
        _ if said.eq_ignore_ascii_case("trace") || said == "10" => "TRACE",
        _ => "DEBUG",
    };
    let sgr = match priority {
        0..=2 => "1;31",
        3 => "31",
        4 => "33",
        5 => "36",
        6 => "32",
        _ => "2",
    };
    (word.to_owned(), sgr)
}

/// As it was written; a number of seconds, milliseconds, microseconds or nanoseconds since 1970 as a date.
fn moment(time: &Value) -> String {
    let as_number = || {
        let number = time.as_f64()?;
        let scale = match number {
            number if number >= 1e17 => 1e9,
            number if number >= 1e14 => 1e6,
            number if number >= 1e11 => 1e3,
            _ => 1.0,
        };
        let at = Timestamp::from_millisecond((number / scale * 1e3) as i64).ok()?;
        Some(format!("{at:.3}"))
    };
    as_number().unwrap_or_else(|| shown(&plain(time)))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// In quotes if it would not be read as one word.
fn quoted(text: &str) -> String {
    let odd = |c: char| c.is_whitespace() || c == '"' || c == '=';
    let json = text.starts_with(['{', '[']);
    match text.is_empty() || !json && text.contains(odd) {
        true => format!("\"{}\"", shown(text).replace('"', "\\\"")),
        false => shown(text),
    }
}

/// Control characters as `\x1b`.
fn shown(text: &str) -> String {
    if !text.contains(char::is_control) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\t' => shown.push(c),
            c if c.is_control() => {
                let _ = write!(shown, "\\x{:02x}", u32::from(c));
            }
            c => shown.push(c),
        }
    }
    shown
}

fn json(text: &str) -> Option<Fields> {
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Fields;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
            let mut fields = Fields::new();
            while let Some(field) = map.next_entry()? {
                fields.push(field);
                if fields.len() > MOST_FIELDS {
                    return Err(serde::de::Error::custom("data"));
                }
            }
            Ok(fields)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let fields = reader.deserialize_map(InOrder).ok()?;
    reader.end().ok()?;
    Some(fields)
}

/// `name=value name="value with \"blanks\"" name`, and nothing else.
fn logfmt(text: &str) -> Option<Fields> {
    let mut fields = Fields::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let name = &rest[..end];
        if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || "_-.@/".contains(c)) {
            return None;
        }
        rest = &rest[end..];
        let value = match rest.strip_prefix('=') {
            None => Value::Bool(true),
            Some(after) => {
                let (value, after) = match after.strip_prefix('"') {
                    Some(inside) => unquoted(inside)?,
                    None => {
                        let (value, after) = after.split_at(after.find(' ').unwrap_or(after.len()));
                        (value.to_owned(), after)
                    }
                };
                rest = after;
                Value::String(value)
            }
        };
        fields.push((name.to_owned(), value));
        if fields.len() > MOST_FIELDS || !rest.is_empty() && !rest.starts_with(' ') {
            return None;
        }
        rest = rest.trim_start();
    }
    // Words alone are a sentence.
    fields.iter().any(|(_, value)| value.is_string()).then_some(fields)
}

/// What stands before the closing quote, and what comes after it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> String {
        pretty(line.as_bytes(), false, false).map_or("-".to_owned(), |lines| lines.join("\n"))
    }

    #[test]
    fn records_are_written_for_people() {
        for (line, expected) in [
            (r#"{"level":"warn","time":"2026-11-25T08:00:00Z","msg":"slow","ms":812}"#, "WARN  slow ms=812"),
            (r#"{"level":30,"time":1531171074631,"pid":657,"msg":"hi","v":1}"#, "INFO  hi pid=657 v=1"),
            (
                r#"{"severity":"ERROR","message":"no \"db\"","at":{"a":[1, 2]}}"#,
                r#"ERROR no "db" at={"a":[1,2]}"#,
            ),
            (
                r#"{"msg":"only this","who":"some one","none":null,"e":""}"#,
                r#"only this who="some one" none=null e="""#,
            ),
            (
                "ts=2026-11-25T08:00:00Z level=info msg=\"listening on\" port=5000 tls",
                "INFO  listening on port=5000 tls=true",
            ),
            ("level=trace msg=x", "TRACE x"),
            (r#"{"level":"fatal","msg":"gone\u001b[2J"}"#, "FATAL gone\\x1b[2J"),
            (
                r#"{"level":"error","msg":"failed","stack":"Error: x\n    at a.js:1\n","id":7}"#,
                "ERROR failed id=7\n  stack:\n    Error: x\n        at a.js:1",
            ),
            ("  {\"level\":\"info\",\"msg\":\"indented\"}\r", "INFO  indented"),
            // Twice: the first is the level, the other a field.
            ("level=info severity=error msg=m", "INFO  m severity=error"),
        ] {
            assert_eq!(read(line), expected, "{line}");
        }
    }

    #[test]
    fn any_other_line_is_left_alone() {
        for line in [
            "",
            "listening on 5000",
            "a=1 b=2",
            "level of water=high",
            "msg=\"never closed",
            "msg=\"x\"y",
            "=x msg=y",
            r#"{"a":1}"#,
            r#"{"level":"odd"}"#,
            r#"{"level":"info""#,
            r#"{"level":"info"} {"level":"info"}"#,
            r#"["level"]"#,
            "error",
        ] {
            assert_eq!(read(line), "-", "{line}");
        }
        assert_eq!(pretty(b"msg=\xff", false, false), None);
    }

    #[test]
    fn its_own_time_is_shown_where_no_other_is() {
        let timed = |line: &str| pretty(line.as_bytes(), false, true).expect("a record")[0].clone();
        assert_eq!(timed("time=08:00 level=info msg=x"), "08:00 INFO  x");
        for time in ["1531171074", "1531171074000", "1531171074000000", "1531171074000000000"] {
            let line = format!("{{\"time\":{time},\"msg\":\"x\"}}");
            assert_eq!(timed(&line), "2018-07-09T21:17:54.000Z x");
        }
        assert_eq!(timed(r#"{"time":1e300,"msg":"x"}"#), "1e+300 x");
    }

    #[test]
    fn levels_have_colours() {
        let lines = pretty(br#"{"level":"error","msg":"x","a":1}"#, true, false).expect("a record");
        assert_eq!(lines, ["\u{1b}[31mERROR\u{1b}[0m x \u{1b}[2ma=\u{1b}[0m1"]);
    }

    proptest! {
        #[test]
        fn no_control_character_comes_through(line in r#"(\{"msg":"(\\u00[01][0-9a-f]|\\n|a| )*","\\u001b":1\}|msg="[\x01-\x1f a]*" k\x1b?=v)"#) {
            for line in pretty(line.as_bytes(), false, true).unwrap_or_default() {
                prop_assert!(!line.chars().any(|c| c.is_control() && c != '\t'), "{line:?}");
            }
        }

        #[test]
        fn whatever_comes_is_read(line: Vec<u8>) {
            pretty(&line, true, true);
        }
    }
}
