//! The Procfile: bytes to entries, in file order, with every odd line located.
//!
//! An entry is `name: command` in the first column; the command is kept as written. Comments stand on
//! their own line. What cannot run as it was meant (a duplicate name, an empty command, a dotted or
//! non-ASCII name, bytes that are no text) is an error; any other line that is no entry is ignored with a
//! warning, since foreman's users have such files. Lines are of any length, nothing is joined or expanded.

use std::collections::HashMap;
use std::collections::hash_map;
use std::ffi::OsStr;
use std::path::PathBuf;

use memchr::{memchr, memchr_iter};

use super::error::{Diagnostic, Place, quote};

/// The longest name: `name.10000` has to fit a directory's name (`NAME_MAX`, 255 bytes). No other name can
/// collide with a file of the kernel's in a cgroup: those end in a word (`cgroup.procs`), ours in a number.
pub const LONGEST_NAME: usize = 249;

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
    let mut reader = Reader { label, entries: Vec::new(), lines: HashMap::new(), diagnostics: Vec::new() };
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        reader.error(1, "the file is UTF-16 (save it as UTF-8)");
        return (reader.entries, reader.diagnostics);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut start = 0;
    let mut number = 0;
    for end in memchr_iter(b'\n', bytes).chain([bytes.len()]) {
        number += 1;
        let line = &bytes[start..end];
        reader.line(number, line.strip_suffix(b"\r").unwrap_or(line));
        start = end + 1;
    }
    (reader.entries, reader.diagnostics)
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
    diagnostics: Vec<Diagnostic>,
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
        self.diagnostics.push(Diagnostic::error(Place::line(self.label, line), message));
    }

    fn warning(&mut self, line: usize, message: impl Into<String>) {
        self.diagnostics.push(Diagnostic::warning(Place::line(self.label, line), message));
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn trim_start(line: &[u8]) -> &[u8] {
    line.trim_ascii_start()
}
