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

use std::path::Path;

use super::error::{Diagnostic, quote};
use super::options::Given;
use super::quantity::{self, Parsed};
use super::stack::{Ceiling, Form, LogFile, Logging, Rotation};

/// From what was typed, or else from the file. Relative paths start at `typed_in` and at `root`.
pub(super) fn logging(
    [log, rotate]: [&Given; 2],
    [log_in_file, rotate_in_file]: [&Given; 2],
    [typed_in, root]: [&Path; 2],
    problems: &mut Vec<Diagnostic>,
) -> Logging {
    let mut logging = Logging::default();
    let (log, from) = if log.values.is_empty() { (log_in_file, root) } else { (log, typed_in) };
    let items = log.items(problems);
    if !items.is_empty() {
        logging.stdout = None;
        logging.chosen = true;
    }
    for item in items {
        if let Err(message) = logging.take(item, from) {
            problems.push(log.error(message));
        }
    }
    let rotate = if rotate.values.is_empty() { rotate_in_file } else { rotate };
    for item in rotate.items(problems) {
        if let Err(message) = logging.rotation.take(item) {
            problems.push(rotate.error(message));
        }
    }
    if logging.rotation != Rotation::default() && logging.files.is_empty() {
        problems.push(Diagnostic::warning(
            rotate.place(),
            "there is no log file to rotate (write --log file=DIR)",
        ));
    }
    logging
}

impl Logging {
    fn take(&mut self, item: &str, from: &Path) -> Parsed<()> {
        let (kind, path) = match item.split_once('=') {
            Some((kind, path)) => (kind.trim(), Some(path.trim())),
            None => (item, None),
        };
        let file = match (kind, path) {
            ("terminal", None) => return self.stdout(Form::Text),
            ("json", None) => return self.stdout(Form::Json),
            ("journald", None) => {
                self.journald = true;
                return Ok(());
            }
            ("file" | "json", Some("")) | ("file", None) => {
                return Err(format!("{} names no file (write {kind}=PATH)", quote(item)));
            }
            ("json", Some(path)) => LogFile { path: from.join(path), each: false, form: Form::Json },
            ("file", Some(path)) => {
                let path = from.join(path);
                LogFile { each: path.extension().is_none_or(|end| end != "log"), path, form: Form::Text }
            }
            _ => {
                return Err(format!(
                    "{} is no place for lines (write terminal, journald, json, json=FILE, file=DIR or file=NAME.log)",
                    quote(item)
                ));
            }
        };
        if self.files.iter().any(|known| known.path == file.path) {
            return Err(format!("{} is named twice (remove one)", quote(&file.path.to_string_lossy())));
        }
        self.files.push(file);
        Ok(())
    }

    fn stdout(&mut self, form: Form) -> Parsed<()> {
        match self.stdout {
            Some(other) if other != form => {
                Err("terminal and json both go to standard output (write json=FILE)".to_owned())
            }
            _ => {
                self.stdout = Some(form);
                Ok(())
            }
        }
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
                self.size = match quantity::memory(value, 0).map_err(refused)? {
                    Ceiling::At(bytes) => Some(bytes),
                    Ceiling::Infinity => None,
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
        let logging =
            logging([&log, &rotate], [&none, &none], [Path::new("/home"), Path::new("/root")], &mut problems);
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
        assert_eq!(logging.stdout, Some(Form::Text));
        let files = [
            file("/home/run.jsonl", false, Form::Json),
            file("/home/log", true, Form::Text),
            file("/var/log/all.log", false, Form::Text),
        ];
        assert_eq!(logging.files, files);
        assert_eq!(read("json", "").0.stdout, Some(Form::Json));
        assert_eq!(read("file=log", "").0.stdout, None);
        let both = read("journald,terminal", "").0;
        assert_eq!((both.journald, both.stdout), (true, Some(Form::Text)));
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
                "--log: \"syslog\" is no place for lines (write terminal, journald, json, json=FILE, \
                 file=DIR or file=NAME.log)",
            ),
            ("file", "--log: \"file\" names no file (write file=PATH)"),
            ("json=", "--log: \"json=\" names no file (write json=PATH)"),
            ("terminal,json", "--log: terminal and json both go to standard output (write json=FILE)"),
            ("file=a,file=/home/a", "--log: \"/home/a\" is named twice (remove one)"),
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
