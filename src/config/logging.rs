//! Where lines go: `--log terminal,json=run.jsonl,file=log` and `--log-rotate size=10M,age=1d,keep=5`.
//!
//! | item | what it gets |
//! | --- | --- |
//! | `terminal` | standard output, as lines for people |
//! | `json` | standard output, as JSON lines |
//! | `json=FILE` | a file, as JSON lines |
//! | `file=DIR` | a file for each instance, `DIR/web.1.log` |
//! | `file=NAME.log` | one file for all |
//! | `journald` | the journal, with the fields of instance and event |
//! | `journald-direct` | the journal, written by the instances themselves |
//! | `none` | nothing gets anything |
//!
//! A process type can have a route of its own (`log` in lpm.toml). Standard output looks the same for all.

use std::fmt;
use std::path::{Path, PathBuf};

use super::error::{Diagnostic, quote};
use super::options::Given;
use super::quantity::{self, Amount, Parsed};
use super::stack::{Form, Journal, LogFile, Logging, Rotation, Route};

/// One place for lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout(Form),
    /// A file, or a directory of files.
    File {
        /// As it was written.
        path: PathBuf,
        /// A directory that gets a file for each instance.
        each: bool,
        /// What its lines look like.
        form: Form,
    },
    /// The journal.
    Journal(Journal),
    /// Nothing gets lines.
    None,
}

/// As it is written.
impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout(Form::Text) => f.write_str("terminal"),
            Self::Stdout(Form::Json) => f.write_str("json"),
            Self::File { path, form: Form::Json, .. } => write!(f, "json={}", path.display()),
            Self::File { path, form: Form::Text, .. } => write!(f, "file={}", path.display()),
            Self::Journal(Journal::Sent) => f.write_str("journald"),
            Self::Journal(Journal::Direct) => f.write_str("journald-direct"),
            Self::Journal(Journal::No) | Self::None => f.write_str("none"),
        }
    }
}

/// What all routes of a stack share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// How lines look on standard output, once somebody has said so.
    pub form: Option<Form>,
    files: Vec<LogFile>,
}

/// From what was typed, or else from the file. Relative paths start at `from`.
pub(super) fn logging(
    [log, rotate, history]: [&Given; 3],
    from: &Path,
    shared: &mut Shared,
    problems: &mut Vec<Diagnostic>,
) -> Logging {
    let mut logging = Logging::default();
    let mut sinks = Vec::new();
    for item in log.items(problems) {
        match sink(item) {
            Ok(sink) => sinks.push(sink),
            Err(message) => problems.push(log.error(message)),
        }
    }
    if !sinks.is_empty() {
        logging.chosen = true;
        match shared.route(&sinks, from) {
            Ok(route) => logging.route = route,
            Err(message) => problems.push(log.error(message)),
        }
    }
    for item in rotate.items(problems) {
        if let Err(message) = logging.rotation.take(item) {
            problems.push(rotate.error(message));
        }
    }
    if let Some(text) = history.last() {
        match kept(text.trim()) {
            Ok(bytes) => logging.history = Some(bytes),
            Err(message) => problems.push(history.error(message)),
        }
    }
    logging
}

/// Once all routes are known.
pub(super) fn check_rotation(
    rotation: Rotation,
    rotate: &Given,
    shared: &Shared,
    problems: &mut Vec<Diagnostic>,
) {
    if rotation != Rotation::default() && shared.files.is_empty() {
        problems.push(Diagnostic::warning(
            rotate.place(),
            "there is no log file to rotate (write --log file=DIR)",
        ));
    }
}

/// The sinks of a comma list.
pub(super) fn sinks(text: &str) -> Parsed<Vec<Sink>> {
    text.split(',').map(|item| sink(item.trim())).collect()
}

fn sink(item: &str) -> Parsed<Sink> {
    let (kind, path) = match item.split_once('=') {
        Some((kind, path)) => (kind.trim(), Some(path.trim())),
        None => (item, None),
    };
    let file = |path: &str, each, form| Sink::File { path: path.into(), each, form };
    Ok(match (kind, path) {
        ("terminal", None) => Sink::Stdout(Form::Text),
        ("json", None) => Sink::Stdout(Form::Json),
        ("journald", None) => Sink::Journal(Journal::Sent),
        ("journald-direct", None) => Sink::Journal(Journal::Direct),
        ("none", None) => Sink::None,
        ("file" | "json", Some("")) | ("file", None) => {
            return Err(format!("{} names no file (write {kind}=PATH)", quote(item)));
        }
        ("json", Some(path)) => file(path, false, Form::Json),
        ("file", Some(path)) => {
            file(path, Path::new(path).extension().is_none_or(|end| end != "log"), Form::Text)
        }
        _ => {
            return Err(format!(
                "{} is no place for lines (write terminal, journald, journald-direct, json, json=FILE, \
                 file=DIR, file=NAME.log or none)",
                quote(item)
            ));
        }
    })
}

impl Shared {
    /// The route over these sinks. Relative paths start at `from`.
    pub(super) fn route(&mut self, sinks: &[Sink], from: &Path) -> Parsed<Route> {
        let mut route = Route { stdout: false, files: Vec::new(), journal: Journal::No };
        for sink in sinks {
            match sink {
                Sink::None if sinks.len() > 1 => {
                    return Err("none goes alone (remove it, or the others)".to_owned());
                }
                Sink::None => {}
                Sink::Stdout(form) => {
                    if self.form.is_some_and(|other| other != *form) {
                        return Err(
                            "terminal and json both go to standard output (write json=FILE)".to_owned()
                        );
                    }
                    (self.form, route.stdout) = (Some(*form), true);
                }
                Sink::Journal(Journal::Direct) if sinks.len() > 1 => {
                    return Err("journald-direct goes alone: lpm does not see those lines (write journald)"
                        .to_owned());
                }
                Sink::Journal(journal) => route.journal = *journal,
                Sink::File { path, each, form } => {
                    let file = LogFile { path: from.join(path), each: *each, form: *form };
                    let twice = route.files.iter().any(|known| known.path == file.path);
                    let otherwise = |known: &LogFile| known.path == file.path && *known != file;
                    if twice || self.files.iter().any(otherwise) {
                        return Err(format!(
                            "{} is named twice (remove one)",
                            quote(&file.path.to_string_lossy())
                        ));
                    }
                    if !self.files.contains(&file) {
                        self.files.push(file.clone());
                    }
                    route.files.push(file);
                }
            }
        }
        Ok(route)
    }
}

/// How much is kept of each instance, in bytes.
fn kept(text: &str) -> Parsed<u64> {
    let refused = || format!("{} is no amount to keep of each (write 1M, 4K to 1G)", quote(text));
    match quantity::memory_amount(text) {
        Ok(Amount::At(bytes @ 4096..=0x4000_0000)) => Ok(bytes),
        Ok(_) | Err(_) => Err(refused()),
    }
}

impl Rotation {
    fn take(&mut self, item: &str) -> Parsed<()> {
        let (what, value) = match item.split_once('=') {
            Some((what, value)) => (what.trim(), value.trim()),
            None => ("size", item),
        };
        match what {
            "size" => {
                // There is nothing that a percentage could be of.
                let refused = |_| format!("{} is no size of a file (write 10M, at least 4K)", quote(value));
                self.size = match quantity::memory_amount(value).map_err(refused)? {
                    Amount::At(bytes) => Some(bytes),
                    Amount::Part(_) => return Err(refused(String::new())),
                    Amount::Infinity => None,
                };
            }
            "age" => self.age = Some(quantity::duration(value)?).filter(|age| !age.is_zero()),
            "keep" => {
                let keep = quantity::number(value, "a number of files", 0, 1000)?;
                self.keep = u32::try_from(keep).expect("at most a thousand");
            }
            _ => return Err(format!("{} is not known (write size=10M, age=1d or keep=5)", quote(what))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(log: &str, rotate: &str) -> (Logging, Vec<String>) {
        let given = |origin: &str, text: &str| match text {
            "" => Given::default(),
            text => Given::new(origin, [text]),
        };
        let (log, rotate, none) = (given("--log", log), given("--log-rotate", rotate), Given::default());
        let mut problems = Vec::new();
        let mut shared = Shared::default();
        let given = [&log, &rotate, &none];
        let logging = logging(given, Path::new("/home"), &mut shared, &mut problems);
        check_rotation(logging.rotation, &rotate, &shared, &mut problems);
        (logging, problems.iter().map(ToString::to_string).collect())
    }

    fn file(path: &str, each: bool, form: Form) -> LogFile {
        LogFile { path: path.into(), each, form }
    }

    #[test]
    fn lines_go_where_they_are_sent() {
        assert_eq!(read("", ""), (Logging::default(), vec![]));
        let (logging, problems) = read("terminal, json=run.jsonl,file=log,file=/var/log/all.log", "");
        assert_eq!(problems, [""; 0]);
        assert!(logging.route.stdout && logging.chosen);
        let files = [
            file("/home/run.jsonl", false, Form::Json),
            file("/home/log", true, Form::Text),
            file("/var/log/all.log", false, Form::Text),
        ];
        assert_eq!(logging.route.files, files);
        assert!(read("json", "").0.route.stdout && !read("file=log", "").0.route.stdout);
        let both = read("journald,terminal", "").0.route;
        assert_eq!((both.journal, both.stdout), (Journal::Sent, true));
        let direct = read("journald-direct", "").0.route;
        assert_eq!((direct.journal, direct.stdout), (Journal::Direct, false));
        assert_eq!(read("none", "").0.route, Route { stdout: false, ..Route::default() });
    }

    #[test]
    fn routes_share_what_there_is_one_of() {
        let mut shared = Shared::default();
        let mut route = |text: &str| shared.route(&sinks(text).unwrap(), Path::new("/app"));
        assert!(route("file=log,json").is_ok());
        assert!(route("file=log").is_ok(), "two may write into one directory");
        let both = "terminal and json both go to standard output (write json=FILE)";
        assert_eq!(route("terminal").unwrap_err(), both);
        assert_eq!(route("json=log").unwrap_err(), "\"/app/log\" is named twice (remove one)");
        assert_eq!(shared.form, Some(Form::Json));
    }

    #[test]
    fn what_is_kept_has_bounds() {
        for (text, bytes) in [("4K", Some(4096)), ("1G", Some(1 << 30)), ("1K", None), ("2G", None)] {
            assert_eq!(kept(text).ok(), bytes, "{text}");
        }
        for text in ["infinity", "50%", "much"] {
            let message = format!("\"{text}\" is no amount to keep of each (write 1M, 4K to 1G)");
            assert_eq!(kept(text), Err(message));
        }
    }

    #[test]
    fn rotation_has_three_parts() {
        let (logging, problems) = read("file=log", "10M,age=1d, keep=2");
        assert_eq!(problems, [""; 0]);
        let age = Some(Duration::from_secs(86_400));
        assert_eq!(logging.rotation, Rotation { size: Some(10 << 20), age, keep: 2 });
        let never = read("file=log", "size=infinity,age=0").0.rotation;
        assert_eq!(never, Rotation::default());
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |log, rotate| read(log, rotate).1.join("\n");
        for (log, expected) in [
            (
                "syslog",
                "--log: \"syslog\" is no place for lines (write terminal, journald, journald-direct, json, \
                 json=FILE, file=DIR, file=NAME.log or none)",
            ),
            ("file", "--log: \"file\" names no file (write file=PATH)"),
            ("json=", "--log: \"json=\" names no file (write json=PATH)"),
            ("terminal,json", "--log: terminal and json both go to standard output (write json=FILE)"),
            ("file=a,file=/home/a", "--log: \"/home/a\" is named twice (remove one)"),
            ("none,terminal", "--log: none goes alone (remove it, or the others)"),
            (
                "terminal,journald-direct",
                "--log: journald-direct goes alone: lpm does not see those lines (write journald)",
            ),
            ("file=a,,", "--log: \"file=a,,\" has an empty item (remove a comma)\n".repeat(2).trim_end()),
        ] {
            assert_eq!(refused(log, ""), expected);
        }
        for (rotate, expected) in [
            ("often", "--log-rotate: \"often\" is no size of a file (write 10M, at least 4K)"),
            ("size=50%", "--log-rotate: \"50%\" is no size of a file (write 10M, at least 4K)"),
            ("size=1", "--log-rotate: \"1\" is no size of a file (write 10M, at least 4K)"),
            ("weekly=1", "--log-rotate: \"weekly\" is not known (write size=10M, age=1d or keep=5)"),
            ("keep=many", "--log-rotate: \"many\" is not a number of files (write 0 to 1000)"),
            ("age=soon", "--log-rotate: \"soon\" is not a duration (write 5, 5s, 500ms or 1min 30s)"),
        ] {
            assert_eq!(refused("file=log", rotate), expected);
        }
        assert_eq!(refused("", "10M"), "--log-rotate: there is no log file to rotate (write --log file=DIR)");
    }
}
