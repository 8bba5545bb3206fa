//! How bad a line says it is: syslog's priorities, 0 (emergency) to 7 (debug). Pure.
//!
//! In this order: `<3>` before the text, as sd-daemon(3) has it, which is taken off; a level in a JSON object or in
//! logfmt; a word in capitals among the first of the line, as loggers print it. A line that says nothing is
//! information.

/// Informational.
pub const INFO: u8 = 6;

/// The priority of this name, or number from 0 to 7.
pub fn priority(name: &str) -> Option<u8> {
    match name.as_bytes() {
        [digit @ b'0'..=b'7'] => Some(digit - b'0'),
        name => named(name),
    }
}

/// The priority of a line, and the line without a prefix that says it.
pub fn level(line: &[u8]) -> (u8, &[u8]) {
    if let [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] = line {
        return (digit - b'0', rest);
    }
    (stated(line).unwrap_or(INFO), line)
}

/// So much of a line is looked at, in bytes.
const LOOKED_AT: usize = 1024;

/// So many words of a line are looked at, the numbers of a date among them.
const WORDS: usize = 12;

fn stated(line: &[u8]) -> Option<u8> {
    let line = &line[..line.len().min(LOOKED_AT)];
    if line.first() == Some(&b'{') {
        return [&b"\"level\""[..], b"\"severity\"", b"\"lvl\"", b"\"levelname\""]
            .iter()
            .find_map(|key| after(line, key))
            .and_then(json_level);
    }
    for key in [&b"level="[..], b"lvl=", b"severity="] {
        if let Some(at) = memchr::memmem::find(line, key)
            && (at == 0 || line[at - 1] == b' ')
        {
            return named(word(&line[at + key.len()..]));
        }
    }
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    line.split(|byte| !is_letter(byte))
        .filter(|word| !word.is_empty())
        .take(WORDS)
        .find(|word| word.len() > 3 && word.iter().all(u8::is_ascii_uppercase) && named(word).is_some())
        .and_then(named)
}

fn after<'a>(line: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let at = memchr::memmem::find(line, key)?;
    line[at + key.len()..].trim_ascii_start().strip_prefix(b":").map(<[u8]>::trim_ascii_start)
}

/// A word, or a number as bunyan and pino have it.
fn json_level(value: &[u8]) -> Option<u8> {
    if let Some(text) = value.strip_prefix(b"\"") {
        return named(word(text));
    }
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    of_number(std::str::from_utf8(&value[..digits]).ok()?.parse().ok()?)
}

/// The priority of a level as bunyan and pino count them.
pub fn of_number(level: u32) -> Option<u8> {
    match level {
        60.. => Some(2),
        50..60 => Some(3),
        40..50 => Some(4),
        30..40 => Some(INFO),
        10..30 => Some(7),
        _ => None,
    }
}

fn word(text: &[u8]) -> &[u8] {
    let text = text.strip_prefix(b"\"").unwrap_or(text);
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    &text[..end]
}

fn named(word: &[u8]) -> Option<u8> {
    let priority = match word.to_ascii_lowercase().as_slice() {
        b"emerg" | b"emergency" | b"panic" => 0,
        b"alert" => 1,
        b"crit" | b"critical" | b"fatal" => 2,
        b"err" | b"error" | b"severe" => 3,
        b"warn" | b"warning" => 4,
        b"notice" => 5,
        b"info" | b"information" | b"informational" => INFO,
        b"debug" | b"trace" | b"verbose" => 7,
        _ => return None,
    };
    Some(priority)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_bad_it_is() {
        for (line, expected) in [
            ("<3>broken", 3),
            ("<9>broken", INFO),
            ("listening on 5000", INFO),
            (r#"{"time":1,"level":"error","msg":"x"}"#, 3),
            (r#"{"severity" : "WARNING"}"#, 4),
            (r#"{"level":50,"msg":"pino"}"#, 3),
            (r#"{"level":{"is":"odd"}}"#, INFO),
            ("ts=2026 level=warn msg=\"x\"", 4),
            ("ts=2026 level=\"debug\"", 7),
            ("sealevel=high", INFO),
            ("2026-11-25 08:00:00,123 ERROR main: x", 3),
            ("E, [2026-11-25T08:00:00 #1] ERROR -- : x", 3),
            ("[WARN] disk", 4),
            ("thread FATAL", 2),
            ("no error at all", INFO),
            ("an ERRORLEVEL", INFO),
            ("", INFO),
        ] {
            assert_eq!(level(line.as_bytes()).0, expected, "{line}");
        }
        assert_eq!(level(b"<4>text"), (4, &b"text"[..]));
    }
}
