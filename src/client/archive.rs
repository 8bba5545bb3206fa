//! What the journal has of a stack, through journalctl(1): of earlier runs, and of what a running one does not keep
//! any more. Entries become the lines that they were.
//!
//! An entry is known by the stack's root and label (`journal::entry`); what an instance sent itself, by its name and
//! its user, for that is all that there is.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde::Deserialize;
use serde_json::Value;

use super::late::shell_word;
use crate::control::interface::LineStream;
use crate::output::Stream;
use crate::output::history::{Line, Origin};

const PROGRAM: &str = "journalctl";

/// Later than its line an entry may be so much, in µs: what was sent had to wait.
const LATE: u64 = 600_000_000;

/// What is looked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The stack's label.
    pub stack: Option<String>,
    /// The stack's root.
    pub root: Option<String>,
    /// Instances that sent lines themselves.
    pub direct: Vec<String>,
    /// Older lines than this, µs since the epoch.
    pub before: Option<u64>,
    /// Not older than this.
    pub since: Option<u64>,
    /// Only so many of the newest.
    pub last: Option<usize>,
}

/// A line, and its priority.
pub type Found = (Line, u8);

impl Wanted {
    /// What a person would type to see the same.
    pub fn command(&self) -> String {
        let word = |word: &String| if word == "+" { word.clone() } else { shell_word(word) };
        let words = self.matches();
        [PROGRAM.to_owned()].into_iter().chain(words.iter().map(word)).collect::<Vec<_>>().join(" ")
    }

    fn matches(&self) -> Vec<String> {
        let field =
            |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name}={value}"));
        let sent: Vec<String> =
            [field("LPM_STACK", &self.stack), field("LPM_ROOT", &self.root)].into_iter().flatten().collect();
        let own = |name: &String| {
            let uid = rustix::process::getuid().as_raw();
            let fields =
                [format!("SYSLOG_IDENTIFIER={name}"), "_TRANSPORT=stdout".to_owned(), format!("_UID={uid}")];
            ["+".to_owned()].into_iter().chain(fields)
        };
        sent.into_iter().chain(self.direct.iter().flat_map(own)).collect()
    }

    /// Gives each line that is `wanted`, by itself and by its priority, to `take`, the oldest first, until that says no.
    /// Returns how many there were.
    ///
    /// # Errors
    /// There is no journalctl.
    pub fn read(
        &self,
        wanted: &dyn Fn(&Line, u8) -> bool,
        mut take: impl FnMut(Found) -> bool,
    ) -> io::Result<usize> {
        let fits = |(line, priority): &Found| {
            self.before.is_none_or(|before| line.time_usec < before)
                && self.since.is_none_or(|since| line.time_usec >= since)
                && wanted(line, *priority)
        };
        let mut reader = Reader::start(self)?;
        let mut count = 0;
        match self.last {
            None => {
                for found in reader.lines().filter(fits) {
                    count += 1;
                    if !take(found) {
                        break;
                    }
                }
            }
            // They come newest first.
            Some(last) => {
                let newest: Vec<Found> = reader.lines().filter(fits).take(last).collect();
                count = newest.len();
                let _ = newest.into_iter().rev().all(take);
            }
        }
        Ok(count)
    }
}

/// journalctl, and what it prints. It ends with this.
struct Reader {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Reader {
    fn start(wanted: &Wanted) -> io::Result<Reader> {
        let mut command = Command::new(PROGRAM);
        command.args(["--quiet", "--no-pager", "--all", "--output=json"]);
        command.arg(
            "--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,LPM_INSTANCE,LPM_STREAM,LPM_PART,LPM_TIME,_TRANSPORT",
        );
        let second = |usec: u64| format!("@{}", usec / 1_000_000);
        if let Some(since) = wanted.since {
            command.arg(format!("--since={}", second(since)));
        }
        if let Some(before) = wanted.before {
            command.arg(format!("--until={}", second(before.saturating_add(LATE))));
        }
        if wanted.last.is_some() {
            command.arg("--reverse");
        }
        command.args(wanted.matches());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let out = child.stdout.take().expect("it was asked for");
        Ok(Reader { child, out: BufReader::new(out) })
    }

    fn lines(&mut self) -> impl Iterator<Item = Found> {
        let out = &mut self.out;
        std::iter::from_fn(move || {
            let mut text = Vec::new();
            match out.read_until(b'\n', &mut text) {
                Ok(0) | Err(_) => None,
                Ok(_) => Some(text),
            }
        })
        .filter_map(|text| entry(&text))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line that a line of journalctl's JSON tells of, if it is one.
#[doc(hidden)]
pub fn entry(text: &[u8]) -> Option<Found> {
    serde_json::from_slice::<Entry>(text).ok()?.line()
}

/// An entry, as far as it was asked for.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "MESSAGE")]
    message: Option<Value>,
    #[serde(rename = "PRIORITY")]
    priority: Option<String>,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    identifier: Option<String>,
    #[serde(rename = "LPM_INSTANCE")]
    instance: Option<String>,
    #[serde(rename = "LPM_STREAM")]
    stream: Option<LineStream>,
    #[serde(rename = "LPM_PART")]
    part: Option<String>,
    #[serde(rename = "LPM_TIME")]
    time: Option<String>,
    #[serde(rename = "_TRANSPORT")]
    transport: Option<String>,
    #[serde(rename = "__REALTIME_TIMESTAMP")]
    received: Option<String>,
}

impl Entry {
    fn line(self) -> Option<Found> {
        let itself = self.transport.as_deref() == Some("stdout");
        let instance = match (self.instance, self.identifier) {
            (Some(instance), _) => instance,
            (None, Some(identifier)) if itself => identifier,
            (None, _) => "system".to_owned(),
        };
        let origin = match self.stream {
            Some(LineStream::Lpm) => Origin::Lpm { event: None },
            Some(LineStream::Err) => Origin::Instance(Stream::Err),
            Some(LineStream::Out | LineStream::Unknown(_)) | None => Origin::Instance(Stream::Merged),
        };
        let time = self.time.or(self.received)?;
        let line = Line {
            sequence: 0,
            time_usec: time.parse().ok()?,
            instance: instance.into(),
            origin,
            text: bytes(self.message?)?,
            continues: self.part.is_some(),
        };
        Some((line, self.priority.and_then(|text| text.parse().ok()).unwrap_or(crate::meaning::level::INFO)))
    }
}

/// Text, or the bytes of what is none, as numbers (systemd.journal-fields(7), "Journal JSON Format").
fn bytes(message: Value) -> Option<Vec<u8>> {
    match message {
        Value::String(text) => Some(text.into_bytes()),
        Value::Array(numbers) => {
            numbers.iter().map(|number| u8::try_from(number.as_u64()?).ok()).collect::<Option<Vec<u8>>>()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entry: &str) -> Option<Found> {
        serde_json::from_str::<Entry>(entry).expect("an entry").line()
    }

    #[test]
    fn entries_become_the_lines_that_they_were() {
        let (line, priority) = read(
            r#"{"MESSAGE":"bad","PRIORITY":"3","SYSLOG_IDENTIFIER":"web.1","LPM_INSTANCE":"web.1","LPM_STREAM":"err",
                "LPM_TIME":"7","__REALTIME_TIMESTAMP":"9","_TRANSPORT":"journal"}"#,
        )
        .expect("a line");
        assert_eq!((&*line.instance, line.time_usec, priority), ("web.1", 7, 3));
        assert_eq!((line.origin, line.text), (Origin::Instance(Stream::Err), b"bad".to_vec()));
        let own = r#"{"MESSAGE":[255,254],"SYSLOG_IDENTIFIER":"web.1","_TRANSPORT":"stdout","__REALTIME_TIMESTAMP":"9"}"#;
        let (line, priority) = read(own).expect("a line");
        assert_eq!((&*line.instance, line.time_usec, line.text, priority), ("web.1", 9, vec![255, 254], 6));
        let lpm = r#"{"MESSAGE":"ports","SYSLOG_IDENTIFIER":"lpm","LPM_STREAM":"lpm","LPM_TIME":"7"}"#;
        let (line, _) = read(lpm).expect("a line");
        assert_eq!((&*line.instance, line.origin), ("system", Origin::Lpm { event: None }));
        assert_eq!(read(r#"{"MESSAGE":null,"LPM_TIME":"7"}"#), None);
    }

    #[test]
    fn what_is_looked_for_can_be_typed() {
        let wanted =
            Wanted { stack: Some("shop".into()), root: Some("/srv/shop".into()), ..Wanted::default() };
        assert_eq!(wanted.command(), "journalctl LPM_STACK=shop LPM_ROOT=/srv/shop");
        let odd = Wanted { root: Some("/srv/my shop\x1b[2J".into()), ..Wanted::default() };
        assert_eq!(odd.command(), r"journalctl 'LPM_ROOT=/srv/my shop\u{1b}[2J'");
        let uid = rustix::process::getuid().as_raw();
        let wanted = Wanted { direct: vec!["web.1".into()], stack: Some("shop".into()), ..Wanted::default() };
        let own = format!("journalctl LPM_STACK=shop + SYSLOG_IDENTIFIER=web.1 _TRANSPORT=stdout _UID={uid}");
        assert_eq!(wanted.command(), own);
    }
}
