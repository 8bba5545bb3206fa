//! Env files: foreman's grammar with what its users expect of a shell-like file, and no surprises.
//!
//! `NAME=value`, `export NAME=value`, blanks around `=`, `#` comments on their own line or after a blank.
//! `"…"` may span lines and knows `\n \t \r \" \\ \$` (any other backslash stays); `'…'` is literal and ends
//! on its line; an unquoted value is literal up to a ` #` or the end of the line, less trailing blanks.
//! Nothing is expanded unless asked (`$NAME`, `${NAME}`, never in single quotes).
//!
//! No message holds a value, or anything that might be a piece of one: a line that makes no sense may be the
//! second line of a secret.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use memchr::memchr;

use super::environment::LARGEST_VARIABLE;
use super::error::{Diagnostic, Findings, Place};

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// `[A-Za-z_][A-Za-z0-9_.-]*`
    pub key: String,
    /// 1-based line it begins on.
    pub line: usize,
    pieces: Vec<Piece>,
}

/// A part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    /// `$NAME` or `${NAME}`, only with expansion asked for.
    Reference(String),
}

impl Variable {
    /// The value, references looked up; what `lookup` does not know is empty. `None`: it is longer than `most` bytes.
    pub fn value<'v>(
        &self,
        most: usize,
        mut lookup: impl FnMut(&str) -> Option<&'v OsStr>,
    ) -> Option<OsString> {
        let mut value = Vec::new();
        for piece in &self.pieces {
            let text = match piece {
                Piece::Text(text) => text,
                Piece::Reference(name) => lookup(name).unwrap_or(OsStr::new("")).as_bytes(),
            };
            // Before it is taken in: ten references to a value that has ten to another are soon gigabytes.
            if value.len() + text.len() > most {
                return None;
            }
            value.extend_from_slice(text);
        }
        Some(OsString::from_vec(value))
    }

    /// The names that [`Variable::value`] will ask for.
    pub fn references(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Reference(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }
}

/// The assignments of an env file called `label`, in order, and what is odd or wrong about the rest.
pub fn parse(label: &str, bytes: &[u8], expand: bool) -> (Vec<Variable>, Vec<Diagnostic>) {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader =
        Reader { label, rest: bytes, line: 1, expand, variables: Vec::new(), findings: Findings::default() };
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        reader.error(1, "the file is UTF-16 (save it as UTF-8)".to_owned());
    } else if let Some(line) = json(bytes) {
        reader.error(line, "the file is JSON (write NAME=value lines)".to_owned());
    } else {
        while !reader.rest.is_empty() && !reader.findings.is_full() {
            reader.statement();
        }
        reader.repetitions();
    }
    (reader.variables, reader.findings.into_vec())
}

/// What a file sets `key` to, errors and references aside: for `PROCFILE`, which is needed before the rest.
pub fn value_of(bytes: &[u8], key: &str) -> Option<OsString> {
    let (variables, _) = parse("", bytes, false);
    let last = variables.iter().rev().find(|variable| variable.key == key);
    last.and_then(|variable| variable.value(LARGEST_VARIABLE, |_| None))
}

/// Whether `key` can be set from a file: a shell's name, or one with dots and dashes inside.
pub fn is_key(key: &str) -> bool {
    let mut bytes = key.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

struct Reader<'a, 'l> {
    label: &'l str,
    /// What is not read yet; at the start of a line between statements.
    rest: &'a [u8],
    /// The line that `rest` begins on.
    line: usize,
    expand: bool,
    variables: Vec<Variable>,
    findings: Findings,
}

impl<'a> Reader<'a, '_> {
    /// One line, or several when a quoted value spans them.
    fn statement(&mut self) {
        let first = self.line;
        let line = self.current_line();
        let content = line.trim_ascii_start();
        if content.is_empty() || content[0] == b'#' {
            self.next_line();
            return;
        }
        let Some(equals) = memchr(b'=', content) else {
            self.warning(first, "line ignored: it has no \"=\" (write NAME=value)".to_owned());
            self.next_line();
            return;
        };
        let name = content[..equals].trim_ascii();
        let name = match name.strip_prefix(b"export") {
            Some(after) if after.first().is_some_and(u8::is_ascii_whitespace) => after.trim_ascii_start(),
            _ => name,
        };
        let Some(key) = std::str::from_utf8(name).ok().filter(|key| is_key(key)) else {
            self.bad_name(first, name);
            self.next_line();
            return;
        };
        let before_value = line.len() - content.len() + equals + 1;
        let blanks = line[before_value..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        self.rest = &self.rest[before_value + blanks..];
        let pieces = match self.rest.first() {
            Some(b'"') => self.double_quoted(first, key),
            Some(b'\'') => self.single_quoted(first, key),
            _ => self.unquoted(first, key, blanks > 0),
        };
        if let Some(pieces) = pieces {
            if pieces.iter().any(|piece| matches!(piece, Piece::Text(text) if memchr(0, text).is_some())) {
                self.error(
                    first,
                    format!("the value of {key} holds a NUL byte, which no program can be given"),
                );
            } else {
                if key.contains(['.', '-']) {
                    self.note(
                        first,
                        format!("shells cannot see {key}, whose name is not letters, digits and _"),
                    );
                }
                self.variables.push(Variable { key: key.to_owned(), line: first, pieces });
            }
        }
    }

    /// `"…"`, `rest` at the opening quote. The whole value is read even if it is wrong, so that one mistake
    /// is one error; without a closing quote, reading goes on with the next line.
    fn double_quoted(&mut self, first: usize, key: &str) -> Option<Vec<Piece>> {
        let body = &self.rest[1..];
        let mut close = 0;
        loop {
            match body.get(close) {
                None => {
                    self.error(first, format!("the value of {key} has no closing \""));
                    self.next_line();
                    return None;
                }
                Some(b'"') => break,
                Some(b'\\') => close += 2,
                Some(_) => close += 1,
            }
        }
        let value = &body[..close];
        self.line += memchr::memchr_iter(b'\n', value).count();
        self.rest = &body[close + 1..];
        self.end_of_value(key)?;
        self.pieces(first, key, value, true)
    }

    /// `'…'`, `rest` at the opening quote.
    fn single_quoted(&mut self, first: usize, key: &str) -> Option<Vec<Piece>> {
        let line = &self.current_line()[1..];
        let Some(close) = memchr(b'\'', line) else {
            self.error(
                first,
                format!("the value of {key} has no closing ' on its line (lines can be joined in \"…\")"),
            );
            self.next_line();
            return None;
        };
        self.rest = &self.rest[close + 2..];
        self.end_of_value(key)?;
        Some(vec![Piece::Text(line[..close].to_vec())])
    }

    fn unquoted(&mut self, first: usize, key: &str, after_blank: bool) -> Option<Vec<Piece>> {
        let line = self.current_line();
        self.next_line();
        let mut end = line.len();
        for hash in memchr::memchr_iter(b'#', line) {
            let blank = if hash == 0 { after_blank } else { matches!(line[hash - 1], b' ' | b'\t') };
            if blank {
                end = hash;
                break;
            }
        }
        self.pieces(first, key, line[..end].trim_ascii_end(), false)
    }

    /// After a closing quote only a comment may follow.
    fn end_of_value(&mut self, key: &str) -> Option<()> {
        let line = self.line;
        let tail = self.current_line();
        let content = tail.trim_ascii_start();
        self.next_line();
        if content.is_empty() || (content[0] == b'#' && content.len() < tail.len()) {
            return Some(());
        }
        self.error(line, format!("text follows the closing quote of {key} (quote the whole value)"));
        None
    }

    /// Escapes undone (in double quotes) and references found (if asked).
    fn pieces(&mut self, line: usize, key: &str, value: &[u8], escapes: bool) -> Option<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut text = Vec::with_capacity(value.len());
        let mut at = 0;
        while let Some(&byte) = value.get(at) {
            at += 1;
            match (byte, value.get(at)) {
                (b'\\', Some(&next)) if escapes => {
                    match next {
                        b'n' => text.push(b'\n'),
                        b't' => text.push(b'\t'),
                        b'r' => text.push(b'\r'),
                        b'"' | b'\\' | b'$' => text.push(next),
                        _ => text.extend([b'\\', next]),
                    }
                    at += 1;
                }
                // A file with CRLF lines: the value's own lines end in a newline all the same.
                (b'\r', Some(b'\n')) if escapes => {}
                (b'$', Some(&next)) if self.expand => {
                    let braced = next == b'{';
                    let start = at + usize::from(braced);
                    let name = &value[start..];
                    let length = name.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
                    let named = length > 0 && !name[0].is_ascii_digit();
                    if braced && !(named && name.get(length) == Some(&b'}')) {
                        let message = format!(
                            "\"${{\" in the value of {key} is not ${{NAME}} (write \\$ in double quotes)"
                        );
                        self.error(line, message);
                        return None;
                    }
                    if !named {
                        text.push(b'$');
                        continue;
                    }
                    if !text.is_empty() {
                        pieces.push(Piece::Text(std::mem::take(&mut text)));
                    }
                    let name = std::str::from_utf8(&name[..length]).expect("name bytes are ASCII");
                    pieces.push(Piece::Reference(name.to_owned()));
                    at = start + length + usize::from(braced);
                }
                _ => text.push(byte),
            }
        }
        if !text.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Some(pieces)
    }

    /// The text before `=` is no name. It is not repeated: it may be part of a secret.
    fn bad_name(&mut self, line: usize, name: &[u8]) {
        if memchr(0, name).is_some() {
            self.error(line, "the line holds a NUL byte: this is no env file, or it is not UTF-8".to_owned());
            return;
        }
        let length = name.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
        let why = if name.is_empty() {
            "no name stands before \"=\""
        } else if length > 0 && name[length..].trim_ascii_start().first() == Some(&b':') {
            "a colon stands where \"=\" belongs"
        } else if name[0].is_ascii_digit() {
            "the name begins with a digit"
        } else {
            "the name is not letters, digits and _"
        };
        self.warning(line, format!("line ignored: {why} (write NAME=value)"));
    }

    fn repetitions(&mut self) {
        let mut lines: HashMap<&str, usize> = HashMap::with_capacity(self.variables.len());
        for variable in &self.variables {
            if let Some(before) = lines.insert(&variable.key, variable.line) {
                let message =
                    format!("{} is set twice (first on line {before}); the last one counts", variable.key);
                self.findings.add(Diagnostic::note(Place::line(self.label, variable.line), message));
            }
        }
    }

    /// Up to the newline, without it and without a CR before it.
    fn current_line(&self) -> &'a [u8] {
        let line = &self.rest[..memchr(b'\n', self.rest).unwrap_or(self.rest.len())];
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    fn next_line(&mut self) {
        self.rest = match memchr(b'\n', self.rest) {
            Some(newline) => &self.rest[newline + 1..],
            None => &[],
        };
        self.line += 1;
    }

    fn error(&mut self, line: usize, message: String) {
        self.findings.add(Diagnostic::error(Place::line(self.label, line), message));
    }

    fn warning(&mut self, line: usize, message: String) {
        self.findings.add(Diagnostic::warning(Place::line(self.label, line), message));
    }

    fn note(&mut self, line: usize, message: String) {
        self.findings.add(Diagnostic::note(Place::line(self.label, line), message));
    }
}

/// The line of the opening brace if the file is JSON, which some supervisors read.
fn json(bytes: &[u8]) -> Option<usize> {
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace())?;
    matches!(bytes[start], b'{' | b'[').then(|| memchr::memchr_iter(b'\n', &bytes[..start]).count() + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::error::Severity;

    /// What `text` sets, references looked up among what it set before and `HOME=/home/me`.
    fn read(text: impl AsRef<[u8]>, expand: bool) -> Vec<(String, String)> {
        let mut known: HashMap<String, OsString> = HashMap::from([("HOME".to_owned(), "/home/me".into())]);
        let (variables, _) = parse(".env", text.as_ref(), expand);
        let mut pairs = Vec::new();
        for variable in variables {
            let value = variable.value(LARGEST_VARIABLE, |name| known.get(name).map(OsString::as_os_str));
            let value = value.expect("it is short");
            known.insert(variable.key.clone(), value.clone());
            pairs.push((variable.key, value.into_string().expect("is UTF-8")));
        }
        pairs
    }

    fn says(text: impl AsRef<[u8]>, expand: bool) -> Vec<String> {
        let letter = |severity| match severity {
            Severity::Note => 'N',
            Severity::Warning => 'W',
            Severity::Error => 'E',
        };
        parse(".env", text.as_ref(), expand).1.iter().map(|d| format!("{} {d}", letter(d.severity))).collect()
    }

    #[test]
    fn values_are_read_as_the_decisions_say() {
        // The case numbers of the compatibility list stand beside each.
        let cases = [
            ("FOO=bar\nBAZ=qux", &[("FOO", "bar"), ("BAZ", "qux")][..]),
            (r#"OTHER="escaped\"quote""#, &[("OTHER", "escaped\"quote")]),
            (
                r#"URL="http://example.com/api?foo=bar&baz=1""#,
                &[("URL", "http://example.com/api?foo=bar&baz=1")],
            ),
            (r#"FOO="bar\nbaz""#, &[("FOO", "bar\nbaz")]),
            (r"FOO=bar\nbaz", &[("FOO", r"bar\nbaz")]),
            (r"TABS='foo\tbar'", &[("TABS", r"foo\tbar")]),
            (r#"TABS="a\tb""#, &[("TABS", "a\tb")]),
            (r"DOLLAR='foo\$bar'", &[("DOLLAR", r"foo\$bar")]),
            (r#"DOLLAR="foo\$bar\r\\""#, &[("DOLLAR", "foo$bar\r\\")]),
            (r#"PATTERN="\d+\.""#, &[("PATTERN", r"\d+\.")]),
            (r#"MYVAR='"surrounded"'"#, &[("MYVAR", "\"surrounded\"")]),
            (r#"MYVAR=\"escaped\""#, &[("MYVAR", r#"\"escaped\""#)]), // foreman's
            ("MYVAR=user@domain.com", &[("MYVAR", "user@domain.com")]),
            ("MYVAR=~pun|u@|0n$=", &[("MYVAR", "~pun|u@|0n$=")]),
            ("FOO=bar # c", &[("FOO", "bar")]),
            ("FOO=bar\t# c", &[("FOO", "bar")]),
            ("FOO=a#b", &[("FOO", "a#b")]),
            ("FOO=#b", &[("FOO", "#b")]),
            ("FOO= # c", &[("FOO", "")]),
            ("key = \"quoted#hash\"", &[("key", "quoted#hash")]),
            ("FOO=bar baz", &[("FOO", "bar baz")]),
            ("FOO=bar   ", &[("FOO", "bar")]),
            ("FOO='bar   '", &[("FOO", "bar   ")]),
            ("FOO=", &[("FOO", "")]),
            ("A=", &[("A", "")]),
            ("FOO=\"\"\nBAR=''", &[("FOO", ""), ("BAR", "")]),
            ("export FOO=x", &[("FOO", "x")]),
            ("export\tFOO=x", &[("FOO", "x")]),
            ("export=x", &[("export", "x")]),
            ("  FOO = x", &[("FOO", "x")]),
            ("key3 = base64===", &[("key3", "base64===")]),
            ("FOO=\"a\" # c", &[("FOO", "a")]),
            ("FOO='a'  ", &[("FOO", "a")]),
            ("FOO=it's", &[("FOO", "it's")]),
            ("FOO=\"one\ntwo\"\nBAR=x", &[("FOO", "one\ntwo"), ("BAR", "x")]),
            ("FOO=\"one\r\ntwo\"\r\nBAR=x\r\n", &[("FOO", "one\ntwo"), ("BAR", "x")]),
            ("X='$A'", &[("X", "$A")]),
            ("X=$HOME/${HOME}", &[("X", "$HOME/${HOME}")]),
            ("# comment\n  # another\n\nA=1\n", &[("A", "1")]),
            ("\u{feff}A=1", &[("A", "1")]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
            assert_eq!(read(text, false), expected, "{text:?}");
            assert_eq!(says(text, false), [""; 0], "{text:?}");
        }
    }

    #[test]
    fn what_is_odd_is_ignored_with_a_warning() {
        let cases = [
            ("-foo=command", "the name is not letters, digits and _"),
            ("1FOO=x", "the name begins with a digit"),
            ("FOO: x=y", "a colon stands where \"=\" belongs"),
            ("=x", "no name stands before \"=\""),
            ("FOO BAR=x", "the name is not letters, digits and _"),
        ];
        for (text, message) in cases {
            assert_eq!(says(text, false), [format!("W .env:1: line ignored: {message} (write NAME=value)")]);
            assert_eq!(read(text, false), []);
        }
        for text in ["FOO: x", "FOOBAR", "export FOO"] {
            assert_eq!(says(text, false), ["W .env:1: line ignored: it has no \"=\" (write NAME=value)"]);
        }
    }

    #[test]
    fn a_dotted_name_is_set_although_shells_cannot_see_it() {
        assert_eq!(read("FOO.BAR=x", false), [("FOO.BAR".to_owned(), "x".to_owned())]);
        assert_eq!(
            says("FOO.BAR=x", false),
            ["N .env:1: shells cannot see FOO.BAR, whose name is not letters, digits and _"]
        );
    }

    #[test]
    fn what_cannot_mean_anything_is_an_error_with_its_line() {
        let cases: [(&[u8], &str); 9] = [
            (b"A=1\nFOO=\"a\"tail", "2: text follows the closing quote of FOO (quote the whole value)"),
            (b"FOO=\"a\nb\" c", "2: text follows the closing quote of FOO (quote the whole value)"),
            (b"FOO=\"a\"# c", "1: text follows the closing quote of FOO (quote the whole value)"),
            (b"A=1\nFOO=\"abc", "2: the value of FOO has no closing \""),
            (b"FOO=\"abc\\", "1: the value of FOO has no closing \""),
            (
                b"FOO='abc\n",
                "1: the value of FOO has no closing ' on its line (lines can be joined in \"\u{2026}\")",
            ),
            (b"\n{\"top\": 1}", "2: the file is JSON (write NAME=value lines)"),
            (b"FOO=a\0b", "1: the value of FOO holds a NUL byte, which no program can be given"),
            (b"\xff\xfeA\0=\0", "1: the file is UTF-16 (save it as UTF-8)"),
        ];
        for (bytes, message) in cases {
            assert_eq!(says(bytes, false), [format!("E .env:{message}")]);
        }
    }

    #[test]
    fn lines_are_counted_through_values_that_span_them() {
        assert_eq!(says("A=\"1\n2\n3\"\n\nFOO\n", false)[0].split(": ").next(), Some("W .env:5"));
    }

    #[test]
    fn expansion_is_only_what_was_asked_for() {
        let cases = [
            ("X=~pun|u@|0n$=", "~pun|u@|0n$="),
            ("X='$HOME'", "$HOME"),
            ("X=$HOME:/x", "/home/me:/x"),
            ("X=${HOME}x", "/home/mex"),
            ("X=\"$HOME/\\$HOME\"", "/home/me/$HOME"),
            ("X=$1$", "$1$"),
            ("X=$NOPE", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text, true), [("X".to_owned(), expected.to_owned())], "{text}");
        }
        assert_eq!(read("A=1\nB=$A$A", true)[1].1, "11");
        assert_eq!(
            says("X=${HOME:-x}", true),
            ["E .env:1: \"${\" in the value of X is not ${NAME} (write \\$ in double quotes)"]
        );
    }

    #[test]
    fn a_repeated_name_is_noted() {
        assert_eq!(
            says("A=1\nA=2", false),
            ["N .env:2: A is set twice (first on line 1); the last one counts"]
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_values_all_the_same() {
        let (variables, _) = parse(".env", b"A=\xff\xfe", false);
        assert_eq!(variables[0].value(2, |_| None).expect("two bytes").as_bytes(), b"\xff\xfe");
        assert_eq!(variables[0].value(1, |_| None), None);
    }

    #[test]
    fn one_value_can_be_asked_for() {
        assert_eq!(
            value_of(b"PROCFILE=a\n{\nPROCFILE='Procfile.dev'", "PROCFILE"),
            Some("Procfile.dev".into())
        );
        assert_eq!(value_of(b"A=1", "PROCFILE"), None);
    }

    #[test]
    fn no_message_holds_a_secret() {
        let file = "A=\"s3cret\"s3cret\ns3cret\n-s3cret=1\nB='s3cret\n1s3cret/==\ns3cret+/==\nC=${s3cret:-s3cret}\nD=\"s3cret";
        for message in says(file, true) {
            assert!(!message.contains("s3cret"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), expand: bool) {
            for variable in parse(".env", &bytes, expand).0 {
                variable.value(usize::MAX, |_| None);
            }
        }

        #[test]
        fn no_text_panics(text in "([A-C0='\"\\\\$#{}: \t\r\n]{0,16}\n){0,8}", expand: bool) {
            let (variables, diagnostics) = parse(".env", text.as_bytes(), expand);
            let lines = text.lines().count().max(1);
            prop_assert!(variables.iter().all(|v| (1..=lines).contains(&v.line)));
            prop_assert!(diagnostics.iter().all(|d| d.place.as_ref().and_then(|p| p.line).is_some_and(|l| l <= lines)));
        }

        #[test]
        fn a_quoted_value_is_read_back(value in "[^\0]{0,60}", expand: bool) {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$").replace('\r', "\\r");
            let file = format!("A=\"{escaped}\"\nB=1\n");
            let (variables, diagnostics) = parse(".env", file.as_bytes(), expand);
            prop_assert_eq!(diagnostics, []);
            prop_assert_eq!(variables.len(), 2);
            prop_assert_eq!(variables[0].value(usize::MAX, |_| None), Some(OsString::from(value)));
        }
    }
}
