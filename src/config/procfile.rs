//! The Procfile: bytes to entries, in file order, with every odd line located.
//!
//! An entry is `name: command` in the first column; the command is kept as written. Comments stand on
//! their own line. What cannot run as it was meant (a duplicate name, an empty command, a dotted or
//! non-ASCII name, the name `all`, bytes that are no text) is an error; any other line that is no entry is ignored with a
//! warning, since foreman's users have such files. Lines are of any length, nothing is joined or expanded.

use std::collections::HashMap;
use std::collections::hash_map;
use std::ffi::OsStr;
use std::path::PathBuf;

use memchr::{memchr, memchr_iter};

use super::error::{Diagnostic, Findings, Place, quote};
use super::matching::ALL;
use super::stack::MOST_INSTANCES;

/// The longest name: `name.10000` has to fit a directory's name (`NAME_MAX`, 255 bytes). No other name can
/// collide with a file of the kernel's in a cgroup: those end in a word (`cgroup.procs`), ours in a number.
pub const LONGEST_NAME: usize = 249;

/// The most process types: no stack has more instances.
pub const MOST_TYPES: usize = MOST_INSTANCES as usize;

/// One line of the Procfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// `[A-Za-z0-9_-]+`
    pub name: &'a str,
    /// The command: everything after the colon and the blanks that follow it.
    pub text: &'a str,
    /// 1-based.
    pub line: usize,
}

/// The entries of a Procfile called `label`, and what is odd or wrong about the rest.
///
/// With an error among the diagnostics the entries are those that are sound, for further checks only.
/// An empty Procfile is not an error here.
pub fn parse<'a>(label: &str, bytes: &'a [u8]) -> (Vec<Entry<'a>>, Vec<Diagnostic>) {
    let mut reader =
        Reader { label, entries: Vec::new(), lines: HashMap::new(), findings: Findings::default() };
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        reader.error(1, "the file is UTF-16 (save it as UTF-8)");
        return (reader.entries, reader.findings.into_vec());
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut start = 0;
    let mut number = 0;
    for end in memchr_iter(b'\n', bytes).chain([bytes.len()]) {
        if reader.findings.is_full() || reader.entries.len() > MOST_TYPES {
            break;
        }
        number += 1;
        let line = &bytes[start..end];
        reader.line(number, line.strip_suffix(b"\r").unwrap_or(line));
        start = end + 1;
    }
    (reader.entries, reader.findings.into_vec())
}

/// Which Procfile, before it is opened.
///
/// `option` is `-f` or `LPM_PROCFILE`, `variable` is `PROCFILE` from the environment, `dotenv` is `PROCFILE`
/// from the `.env` of the directory lpm was started in (or `-d`). That `.env` stays the default one even
/// when it names a Procfile elsewhere, as with honcho.
pub fn choose_procfile(option: Option<&OsStr>, variable: Option<&OsStr>, dotenv: Option<&OsStr>) -> PathBuf {
    let given = [option, variable, dotenv].into_iter().flatten().find(|path| !path.is_empty());
    PathBuf::from(given.unwrap_or(OsStr::new("Procfile")))
}

/// Whether `name` can be the name of a process type.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(is_name_byte)
}

struct Reader<'a, 'l> {
    label: &'l str,
    entries: Vec<Entry<'a>>,
    /// Where each name was defined first.
    lines: HashMap<&'a str, usize>,
    findings: Findings,
}

impl<'a> Reader<'a, '_> {
    fn line(&mut self, number: usize, line: &'a [u8]) {
        let length = line.iter().take_while(|&&byte| is_name_byte(byte)).count();
        if length > 0 && line.get(length) == Some(&b':') {
            let name = std::str::from_utf8(&line[..length]).expect("name bytes are ASCII");
            self.entry(number, name, trim_start(&line[length + 1..]));
            return;
        }
        match trim_start(line) {
            [] | [b'#', ..] => {}
            _ => self.odd(number, line),
        }
    }

    fn entry(&mut self, line: usize, name: &'a str, command: &'a [u8]) {
        if name.len() > LONGEST_NAME {
            self.error(line, format!("process type {} has more than {LONGEST_NAME} letters", quote(name)));
            return;
        }
        match self.lines.entry(name) {
            hash_map::Entry::Occupied(first) => {
                let first = *first.get();
                let message = format!("process type \"{name}\" is defined twice (first on line {first})");
                self.error(line, message);
                return;
            }
            hash_map::Entry::Vacant(vacant) => vacant.insert(line),
        };
        if command.iter().all(u8::is_ascii_whitespace) {
            self.error(line, format!("process type \"{name}\" has no command (write \"{name}: command\")"));
            return;
        }
        if memchr(0, command).is_some() {
            self.error(
                line,
                format!("the command of \"{name}\" holds a NUL byte, which no program can be given"),
            );
            return;
        }
        let Ok(text) = std::str::from_utf8(command) else {
            self.error(line, format!("the command of \"{name}\" is not UTF-8 (save the file as UTF-8)"));
            return;
        };
        if command.iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1 {
            let message = format!(
                "the command of \"{name}\" ends in \"\\\", but lines are not joined (write it on one line)"
            );
            self.warning(line, message);
        }
        if memchr(b'\r', command).is_some() {
            let message = format!(
                "the command of \"{name}\" holds a carriage return (lines end in a newline, or in both)"
            );
            self.warning(line, message);
        }
        if name == ALL {
            let message = "process type \"all\" cannot be named, since all means every process type (write another name)";
            self.error(line, message);
            return;
        }
        if self.entries.len() == MOST_TYPES {
            let message = format!("more than {MOST_TYPES} process types; from here on nothing is read");
            self.error(line, message);
        }
        self.entries.push(Entry { name, text, line });
    }

    /// A line that is no entry, no comment and not blank.
    fn odd(&mut self, number: usize, line: &[u8]) {
        if memchr(0, line).is_some() {
            self.error(number, "the line holds a NUL byte: this is no Procfile, or it is not UTF-8");
            return;
        }
        let unindented = trim_start(line);
        let Some(colon) = memchr(b':', unindented) else {
            self.warning(number, "line ignored: it is not \"name: command\"");
            return;
        };
        let head = &unindented[..colon];
        let name = String::from_utf8_lossy(head);
        let indented = unindented.len() < line.len();
        if head.is_empty() {
            self.warning(number, "line ignored: no name before the colon (write \"name: command\")");
        } else if head.iter().any(u8::is_ascii_whitespace) {
            let trimmed = name.trim_end();
            let hint = if is_name(trimmed) {
                format!("a blank stands before the colon (write \"{trimmed}: command\")")
            } else {
                "it is not \"name: command\"".to_owned()
            };
            self.warning(number, format!("line ignored: {hint}"));
        } else if indented {
            self.warning(
                number,
                format!("line ignored: it is indented (start {} in the first column)", quote(&name)),
            );
        } else if head.iter().all(|&byte| is_name_byte(byte) || byte == b'.') {
            self.error(
                number,
                format!(
                    "process type {} holds a dot, which separates the instance number (write \"{}\")",
                    quote(&name),
                    name.replace('.', "-").trim_matches('-')
                ),
            );
        } else if !head.is_ascii() {
            let message = format!(
                "process type {} is not ASCII (write letters, digits, \"_\" and \"-\")",
                quote(&name)
            );
            self.error(number, message);
        } else {
            let message = format!(
                "line ignored: {} is no process type (write letters, digits, \"_\" and \"-\")",
                quote(&name)
            );
            self.warning(number, message);
        }
    }

    fn error(&mut self, line: usize, message: impl Into<String>) {
        self.findings.add(Diagnostic::error(Place::line(self.label, line), message));
    }

    fn warning(&mut self, line: usize, message: impl Into<String>) {
        self.findings.add(Diagnostic::warning(Place::line(self.label, line), message));
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn trim_start(line: &[u8]) -> &[u8] {
    line.trim_ascii_start()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(bytes: &[u8]) -> Vec<(&str, &str)> {
        parse("Procfile", bytes).0.iter().map(|entry| (entry.name, entry.text)).collect()
    }

    /// `E Procfile:1: …` for an error, `W …` for a warning.
    fn says(bytes: &[u8]) -> Vec<String> {
        let letter = |diagnostic: &Diagnostic| if diagnostic.is_error() { 'E' } else { 'W' };
        parse("Procfile", bytes).1.iter().map(|d| format!("{} {d}", letter(d))).collect()
    }

    #[test]
    fn what_every_peer_reads_is_read_the_same() {
        // The case numbers of the compatibility list stand beside each.
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("web: command", &[("web", "command")]),
            (
                "foo: python foo.py\nbar: python bar.py\n",
                &[("foo", "python foo.py"), ("bar", "python bar.py")],
            ),
            ("web:cmd", &[("web", "cmd")]),
            ("web:    cmd", &[("web", "cmd")]),
            ("web:\tcmd", &[("web", "cmd")]),
            ("#commented: command", &[]),
            ("  # commented: command", &[]),
            ("# norun: touch x\nrun: touch y", &[("run", "touch y")]),
            ("1: echo one", &[("1", "echo one")]),
            ("foo-bar: x\nfoo_bar: y", &[("foo-bar", "x"), ("foo_bar", "y")]),
            ("web: a: b:c", &[("web", "a: b:c")]),
            (
                "web: sh -c \"echo $FOOBAR\" >/dev/null 2>&1",
                &[("web", "sh -c \"echo $FOOBAR\" >/dev/null 2>&1")],
            ),
            ("web: echo 1 # hello", &[("web", "echo 1 # hello")]),
            ("a: x\n   \n\t\nb: y", &[("a", "x"), ("b", "y")]),
            ("# one\n# two\n", &[]),
            ("a: x\r\nb: y\r\n", &[("a", "x"), ("b", "y")]),
            ("\u{feff}web: x", &[("web", "x")]),
            ("", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(entries(text.as_bytes()), *expected, "{text:?}");
            assert_eq!(says(text.as_bytes()), [""; 0], "{text:?}");
        }
    }

    #[test]
    fn odd_lines_are_ignored_with_a_warning() {
        let cases = [
            ("  web: cmd", "line ignored: it is indented (start \"web\" in the first column)"),
            (
                "+foo: cmd",
                "line ignored: \"+foo\" is no process type (write letters, digits, \"_\" and \"-\")",
            ),
            ("foo", "line ignored: it is not \"name: command\""),
            ("web : cmd", "line ignored: a blank stands before the colon (write \"web: command\")"),
            ("the web: cmd", "line ignored: it is not \"name: command\""),
            (": cmd", "line ignored: no name before the colon (write \"name: command\")"),
        ];
        for (text, message) in cases {
            assert_eq!(says(text.as_bytes()), [format!("W Procfile:1: {message}")]);
            assert_eq!(entries(text.as_bytes()), []);
        }
    }

    #[test]
    fn a_trailing_backslash_joins_nothing() {
        let text = b"web: a \\\n  b\n";
        assert_eq!(entries(text), [("web", "a \\")]);
        assert_eq!(
            says(text),
            [
                "W Procfile:1: the command of \"web\" ends in \"\\\", but lines are not joined (write it on one line)",
                "W Procfile:2: line ignored: it is not \"name: command\"",
            ]
        );
        assert_eq!(says(b"web: a \\\\"), [""; 0]);
    }

    #[test]
    fn what_cannot_run_as_meant_is_an_error() {
        let cases: [(&[u8], &str); 11] = [
            (b"web: a\nweb: b", "2: process type \"web\" is defined twice (first on line 1)"),
            (
                b"d.e: cmd",
                "1: process type \"d.e\" holds a dot, which separates the instance number (write \"d-e\")",
            ),
            (b"web:", "1: process type \"web\" has no command (write \"web: command\")"),
            (b"web: \t\r\n", "1: process type \"web\" has no command (write \"web: command\")"),
            (
                "w\u{e9}b: x".as_bytes(),
                "1: process type \"w\u{e9}b\" is not ASCII (write letters, digits, \"_\" and \"-\")",
            ),
            (b"a: x\nweb: a\0b", "2: the command of \"web\" holds a NUL byte, which no program can be given"),
            (b"\0\0\x01", "1: the line holds a NUL byte: this is no Procfile, or it is not UTF-8"),
            (b"web: \xff", "1: the command of \"web\" is not UTF-8 (save the file as UTF-8)"),
            (b"\xff\xfew\0e\0b\0", "1: the file is UTF-16 (save it as UTF-8)"),
            (b"\xfe\xff\0w\0e\0b", "1: the file is UTF-16 (save it as UTF-8)"),
            (
                b"\xef\xbb\xbf\n.x: y",
                "2: process type \".x\" holds a dot, which separates the instance number (write \"x\")",
            ),
        ];
        for (bytes, message) in cases {
            assert_eq!(says(bytes), [format!("E Procfile:{message}")]);
        }
    }

    #[test]
    fn a_file_of_bare_carriage_returns_is_pointed_out() {
        assert!(
            says(b"web: a\rworker: b\r")[0]
                .starts_with("W Procfile:1: the command of \"web\" holds a carriage")
        );
    }

    #[test]
    fn every_error_is_reported_not_the_first_alone() {
        assert_eq!(says(b"a: x\na: y\nb.c: z\nd:\n").len(), 3);
    }

    #[test]
    fn a_line_may_have_any_length() {
        let long = "x".repeat(1_000_000);
        let text = format!("web: {long}\nworker: y");
        assert_eq!(entries(text.as_bytes()), [("web", long.as_str()), ("worker", "y")]);
    }

    #[test]
    fn a_name_is_at_most_as_long_as_its_directory_may_be() {
        let longest = "n".repeat(LONGEST_NAME);
        assert_eq!(entries(format!("{longest}: x").as_bytes()).len(), 1);
        assert!(format!("{longest}.{}", super::super::stack::MOST_INSTANCES).len() <= 255);
        let message = &says(format!("{longest}n: x").as_bytes())[0];
        assert!(message.ends_with("has more than 249 letters"), "{message}");
    }

    #[test]
    fn all_is_the_name_of_everything_and_of_no_process_type() {
        let text = b"a: x\nall: y\nall-in-one: z\nALL: z\n";
        assert_eq!(entries(text), [("a", "x"), ("all-in-one", "z"), ("ALL", "z")]);
        assert_eq!(
            says(text),
            ["E Procfile:2: process type \"all\" cannot be named, since all means every process type \
              (write another name)"]
        );
    }

    #[test]
    fn a_procfile_has_a_largest_number_of_process_types_and_of_odd_lines() {
        let types = |count: usize| (0..count).map(|at| format!("p{at}: x\n")).collect::<String>();
        assert_eq!(entries(types(MOST_TYPES).as_bytes()).len(), MOST_TYPES);
        assert_eq!(says(types(MOST_TYPES).as_bytes()), [""; 0]);
        let more = types(2 * MOST_TYPES);
        assert_eq!(
            says(more.as_bytes()),
            ["E Procfile:10001: more than 10000 process types; from here on nothing is read"]
        );
        let odd = says("x\n".repeat(100_000).as_bytes());
        assert_eq!(odd.len(), 1001);
        assert!(odd[1000].starts_with("E Procfile:1001: 1000 findings are enough; "), "{}", odd[1000]);
    }

    #[test]
    fn entries_written_back_are_read_the_same() {
        assert_eq!(entries(b"foo: ./foo\nbar: ./bar\n"), [("foo", "./foo"), ("bar", "./bar")]);
    }

    #[test]
    fn the_procfile_is_the_first_that_was_named() {
        let path = |text: &'static str| Some(OsStr::new(text));
        assert_eq!(choose_procfile(path("a"), path("b"), path("c")), PathBuf::from("a"));
        assert_eq!(choose_procfile(None, path("b"), path("c")), PathBuf::from("b"));
        assert_eq!(choose_procfile(None, path(""), path("c")), PathBuf::from("c"));
        assert_eq!(choose_procfile(None, None, None), PathBuf::from("Procfile"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse("Procfile", &bytes);
        }

        #[test]
        fn no_text_panics_and_every_line_is_accounted_for(text in "([a-c.:# \\\\\t\r\n\0é+=-]{0,12}\n){0,12}") {
            let (entries, diagnostics) = parse("Procfile", text.as_bytes());
            for (index, line) in text.lines().enumerate() {
                let silent = line.trim_ascii().is_empty() || line.trim_ascii_start().starts_with('#');
                let said = diagnostics.iter().any(|d| d.place == Some(Place::line("Procfile", index + 1)))
                    || entries.iter().any(|entry| entry.line == index + 1);
                prop_assert!(silent || said, "line {} of {text:?} is lost", index + 1);
            }
        }

        #[test]
        fn entries_survive_writing_and_reading(
            pairs in proptest::collection::btree_map("[A-Za-z0-9_-]{1,20}", "[!-\\[\\]-~][ -\\[\\]-~]{0,40}", 0..20)
        ) {
            let text: String = pairs.iter().map(|(name, command)| format!("{name}: {command}\n")).collect();
            let (entries, diagnostics) = parse("Procfile", text.as_bytes());
            prop_assert_eq!(diagnostics, []);
            let read: Vec<_> = entries.iter().map(|e| (e.name.to_owned(), e.text.to_owned())).collect();
            prop_assert_eq!(read, pairs.into_iter().collect::<Vec<_>>());
        }
    }
}
