//! `lpm.toml`, beside the Procfile: the settings of the stack, of all process types, of one, of an instance.
//!
//! ```toml
//! [stack]
//! memory-max = "2G"
//!
//! [defaults]
//! timeout-stop = "10s"
//!
//! [process.web]
//! memory-max = "512M"
//! environment = { RAILS_ENV = "production" }
//!
//! [process."worker.2"]
//! cpu-quota = "150%"
//! ```
//!
//! Values may be written as text or as what they are (`cpu-quota = 1.5`, `can-die = true`). The Procfile says
//! what exists: a process type that it does not have is refused, and so is a key that the table of settings does
//! not have there. Everything that is wrong is reported at once, in the order of the lines. Every option wins over
//! this file.

use toml_edit::{Document, Item, Key, TableLike, Value as Scalar};

use super::environment::{self, is_injected};
use super::error::{Diagnostic, MOST_FINDINGS, Place, list, nearest, quote};
use super::options::Target;
use super::procfile::Entry;
use super::spec::{Layer, Said, Source, put};
use super::table::{self, Row};
use super::value::{Kind, Value};
use super::{dotenv, rows};

/// The most variables of one `environment`: every instance holds its own, and they are laid over each other one by one.
const MOST_VARIABLES: usize = 1000;

/// The tables of the file.
const TABLES: [&str; 3] = ["stack", "defaults", "process"];

/// What the file says, checked against the Procfile.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    /// Of the stack as a whole.
    pub stack: Vec<Said>,
    /// Of its processes.
    pub source: Source,
}

/// Reads `bytes`, a file called `label`. `ports` says whether lpm injects PORT.
pub(super) fn parse(
    label: &str,
    bytes: &[u8],
    entries: &[Entry<'_>],
    ports: bool,
    problems: &mut Vec<Diagnostic>,
) -> Manifest {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let line = memchr::memchr_iter(b'\n', &bytes[..error.valid_up_to()]).count() + 1;
            problems.push(Diagnostic::error(Place::line(label, line), "the file is not UTF-8"));
            return Manifest::default();
        }
    };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            problems.push(Diagnostic::error(Place::line(label, line), message));
            return Manifest::default();
        }
    };
    let mut reader = Reader { label, text, entries, ports, problems: Vec::new(), wrong: 0 };
    let manifest = reader.manifest(document.as_table());
    // Tables may stand in any order, and a table may be continued.
    reader.problems.sort_by_key(|problem| problem.place.as_ref().and_then(|place| place.line));
    problems.append(&mut reader.problems);
    manifest
}

struct Reader<'a> {
    label: &'a str,
    text: &'a str,
    entries: &'a [Entry<'a>],
    ports: bool,
    problems: Vec<Diagnostic>,
    /// How many errors were found.
    wrong: usize,
}

impl Reader<'_> {
    fn manifest(&mut self, file: &dyn TableLike) -> Manifest {
        let mut manifest = Manifest::default();
        for (key, item) in pairs(file) {
            match key.get() {
                "stack" => {
                    for (key, item) in self.pairs_of(key, item) {
                        let said = self.said(key, item, Row::is_of_stack);
                        said.into_iter().for_each(|said| put(&mut manifest.stack, said));
                    }
                }
                "defaults" => {
                    let layer = self.layer(Target::All, key, item);
                    manifest.source.push(layer);
                }
                "process" => {
                    for (name, item) in self.pairs_of(key, item) {
                        self.process(name, item, &mut manifest.source);
                    }
                }
                unknown => {
                    let message = match nearest(unknown, TABLES) {
                        Some(near) => format!("unknown key {} (write {near})", quote(unknown)),
                        None => format!("unknown key {} (known here: {})", quote(unknown), list(TABLES)),
                    };
                    self.error(start(key, item), message);
                }
            }
        }
        manifest
    }

    /// One `[process.NAME]`.
    fn process(&mut self, name: &Key, item: &Item, source: &mut Source) {
        let target = match name.get() {
            "all" => Err("\"all\" is no process type (write [defaults])".to_owned()),
            name => Target::parse(name, self.entries),
        };
        // What is wrong inside is worth a word all the same.
        let layer = self.layer(*target.as_ref().unwrap_or(&Target::All), name, item);
        match target {
            Ok(_) => source.push(layer),
            Err(message) => self.error(start(name, item), message),
        }
    }

    fn layer(&mut self, target: Target, key: &Key, item: &Item) -> Layer {
        let mut layer = Layer::new(target);
        for (key, item) in self.pairs_of(key, item) {
            if key.get() == rows::ENVIRONMENT.key {
                for (name, item) in self.pairs_of(key, item) {
                    if layer.environment.len() == MOST_VARIABLES {
                        let message =
                            format!("environment: more than {MOST_VARIABLES} variables (write an env file)");
                        self.error(start(name, item), message);
                        break;
                    }
                    self.variable(name, item, &mut layer);
                }
            } else if let Some(said) = self.said(key, item, Row::is_of_processes) {
                layer.put(said);
            }
        }
        layer
    }

    /// One setting; `None` if something is wrong with it.
    fn said(&mut self, key: &Key, item: &Item, is_here: fn(&Row) -> bool) -> Option<Said> {
        let Some(row) = table::row(key.get()).filter(|row| is_here(row)) else {
            let message = unknown(key.get(), is_here);
            self.error(start(key, item), message);
            return None;
        };
        let at = item.span().map_or_else(|| start(key, item), |span| span.start);
        let text = match scalar(item) {
            Ok(text) => text,
            Err(kind) => {
                self.error(at, format!("{kind} stands where text, a number or true or false belongs"));
                return None;
            }
        };
        let of_stack = is_here(&rows::NAME);
        let value = match row.kind {
            // Judged with what options say of it.
            Kind::Sinks if of_stack => Ok(Value::Text(vec![text])),
            kind => kind.parse(&text),
        };
        match value {
            Ok(value) => {
                let place = Place::line(self.label, line_of(self.text, at));
                Some(Said { row, value, place })
            }
            Err(message) => {
                self.error(at, format!("{}: {message}", row.key));
                None
            }
        }
    }

    /// One entry of `environment`. Values may be secrets: no message holds one.
    fn variable(&mut self, key: &Key, item: &Item, layer: &mut Layer) {
        let (name, at) = (key.get(), start(key, item));
        let value = match scalar(item) {
            Ok(value) => value,
            Err(kind) => {
                let at = item.span().map_or(at, |span| span.start);
                return self
                    .error(at, format!("{kind} stands where text, a number or true or false belongs"));
            }
        };
        let wrong = if is_injected(name, self.ports) {
            let hint = if name == "PORT" { " (port in [stack] chooses it, or --no-port)" } else { "" };
            format!("{name} is set by lpm{hint}")
        } else if !dotenv::is_key(name) {
            format!("{} is no name of a variable", quote(name))
        } else if value.contains('\0') {
            format!("the value of {name} holds a NUL byte")
        } else if environment::is_too_large(name, value.len()) {
            let most = environment::LARGEST_VARIABLE >> 10;
            format!("the value of {name} is larger than {most} KiB, which no program can be given")
        } else {
            layer.environment.push((name.into(), value.into()));
            return;
        };
        self.error(at, format!("environment: {wrong}"));
    }

    /// The keys of a table with their items; none if it is no table.
    fn pairs_of<'i>(&mut self, key: &Key, item: &'i Item) -> Vec<(&'i Key, &'i Item)> {
        match item.as_table_like() {
            Some(table) => pairs(table),
            None => {
                let at = item.span().map_or_else(|| start(key, item), |span| span.start);
                self.error(at, format!("{} stands where a table belongs", kind(item)));
                Vec::new()
            }
        }
    }

    fn error(&mut self, at: usize, message: String) {
        self.wrong += 1;
        // To find a line reads the file up to it.
        if self.wrong > MOST_FINDINGS {
            return;
        }
        self.problems.push(Diagnostic::error(Place::line(self.label, line_of(self.text, at)), message));
    }
}

/// The refusal of a key that does not belong into this table.
fn unknown(key: &str, is_here: fn(&Row) -> bool) -> String {
    if key.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("unknown key {} (an instance is written [process.\"web.{key}\"])", quote(key));
    }
    if let Some(row) = table::row(key) {
        let table = if row.is_of_stack() { "[stack]" } else { "[defaults] or [process.NAME]" };
        return format!("{key} does not belong here (write it below {table})");
    }
    let known = || table::rows().filter(|row| is_here(row)).map(|row| row.key);
    match nearest(key, known()) {
        Some(near) => format!("unknown key {} (write {near})", quote(key)),
        None => format!("unknown key {} (known here: {})", quote(key), list(known())),
    }
}

/// The keys of a table with their items, in the order of the file.
fn pairs(table: &dyn TableLike) -> Vec<(&Key, &Item)> {
    table.iter().filter_map(|(key, _)| table.get_key_value(key)).collect()
}

/// Where a key begins.
fn start(key: &Key, item: &Item) -> usize {
    key.span().or_else(|| item.span()).map_or(0, |span| span.start)
}

/// Any scalar, as the text that an option would be given; or the kind of what is none.
fn scalar(item: &Item) -> Result<String, &'static str> {
    match item {
        Item::Value(Scalar::String(text)) => Ok(text.value().clone()),
        Item::Value(Scalar::Integer(number)) => Ok(number.value().to_string()),
        Item::Value(Scalar::Float(number)) if number.value().is_finite() => Ok(number.value().to_string()),
        Item::Value(Scalar::Boolean(yes)) => Ok(yes.value().to_string()),
        other => Err(kind(other)),
    }
}

fn kind(item: &Item) -> &'static str {
    match item {
        Item::None => "nothing",
        Item::Value(Scalar::String(_)) => "text",
        Item::Value(Scalar::Integer(_)) => "a number",
        Item::Value(Scalar::Float(number)) if number.value().is_finite() => "a number",
        Item::Value(Scalar::Float(_)) => "no number",
        Item::Value(Scalar::Boolean(_)) => "true or false",
        Item::Value(Scalar::Datetime(_)) => "a date",
        Item::Value(Scalar::Array(_)) | Item::ArrayOfTables(_) => "a list",
        Item::Value(Scalar::InlineTable(_)) | Item::Table(_) => "a table",
    }
}

fn line_of(text: &str, at: usize) -> usize {
    memchr::memchr_iter(b'\n', &text.as_bytes()[..at.min(text.len())]).count() + 1
}
