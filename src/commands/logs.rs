//! `lpm logs`: what a running stack keeps, and before that, or where none runs, what the journal has.

use std::io::{self, StdoutLock, Write};

use serde_json::{Value, json};

use crate::cli::{Logs, Origins};
use crate::config;
use crate::control::client::{Client, Trouble};
use crate::control::interface::{self, LogsParameters, LogsReply, Status, StatusParameters};
use crate::control::sieve::Sieve;
use crate::error::{Error, tell, words};
use crate::launch::archive::{Found, Wanted};
use crate::launch::gather::Surroundings;
use crate::launch::{look, reach};
use crate::supervisor::Ending;
use crate::view::lines::{Lines, Names};
use crate::view::moment;

/// What is kept, and with `--follow` what comes, until the stack ends.
///
/// # Errors
/// There is no such stack or instance; standard output cannot be written.
pub fn logs(around: &Surroundings, arguments: Logs, origins: &Origins) -> Result<Ending, Error> {
    let moment = |option: &str, text: &Option<String>| {
        let read = |text: &String| moment::parse(text, look::now_usec(), &look::zone());
        text.as_ref().map(read).transpose().map_err(|message| Error::new(format!("{option}: {message}")))
    };
    let asked = LogsParameters {
        names: Some(arguments.names.clone()),
        lines: arguments.lines,
        since: moment("--since", &arguments.since)?,
        until: moment("--until", &arguments.until)?,
        stream: arguments.stream.clone(),
        level: arguments.level.clone(),
        grep: arguments.grep.clone(),
        follow: Some(arguments.follow),
    };
    let mut look = look::of_terminal(around);
    look.colour = look::colour(around, arguments.color.as_deref(), origins)?;
    let mut client = match reach::reach_if_up(around, &arguments.target, origins)? {
        Ok(client) => client,
        Err(none) => return past(around, &arguments, &asked, origins, look, none),
    };
    let status: Status = client.call("Status", &StatusParameters::default()).map_err(reach::told)?;
    let page = Page::new(&arguments, Names::of(&status), look);
    present(&mut client, &status, &asked, page)
}

/// Of a stack that runs.
fn present(
    client: &mut Client,
    status: &Status,
    asked: &LogsParameters,
    mut page: Page,
) -> Result<Ending, Error> {
    let direct = status.instances.iter().filter(|one| one.journald_direct && is_meant(asked, &one.name));
    let direct: Vec<String> = direct.map(|one| one.name.clone()).collect();
    let follow = asked.follow == Some(true);
    let journal = FromJournal { status, asked, direct };
    let direct = &journal.direct;
    if follow && !direct.is_empty() {
        tell(format_args!("lpm: {} cannot be followed here (journalctl -f shows it)", direct.join(", ")));
    }
    // The journal is asked for what is older than what is kept, if that much is wanted; and for what lpm has not seen.
    let goes_back = (status.stack.journald || !direct.is_empty())
        && (asked.lines.is_some() || asked.since.is_some() || !direct.is_empty());
    let mut kept: Option<(u64, Vec<Value>)> = None;
    let mut whole_since = None;
    let take = |reply: Value| {
        if let Some(count) = reply.get("kept").and_then(Value::as_u64) {
            whole_since = reply.get("since").and_then(Value::as_u64);
            kept = goes_back.then(|| (count, Vec::new()));
        } else {
            match &mut kept {
                Some((_, lines)) => lines.push(reply),
                None => page.reply(reply, follow),
            }
        }
        if let Some((_, lines)) = kept.take_if(|(count, lines)| lines.len() as u64 >= *count) {
            page.earlier(&journal, whole_since, lines);
        }
        !page.has_failed()
    };
    let streamed = client.stream("Logs", asked, take);
    if let Some((_, lines)) = kept {
        // It ended in their midst.
        page.earlier(&journal, whole_since, lines);
    }
    match (streamed, page.failed) {
        (_, Some(error)) => broken(error),
        // The stack ended while we followed it.
        (Ok(()), None) => Ok(Ending::Code(0)),
        (Err(Trouble::Ended), None) if follow => Ok(Ending::Code(0)),
        (Err(trouble), None) => Err(reach::told(trouble)),
    }
}

/// Of one that does not run: what the journal has of its runs. `none`: what is told where it has nothing.
fn past(
    around: &Surroundings,
    arguments: &Logs,
    asked: &LogsParameters,
    origins: &Origins,
    look: crate::view::Look,
    none: Error,
) -> Result<Ending, Error> {
    let target = &arguments.target;
    let sieve = Sieve::new(asked).map_err(Error::new)?;
    let root = match (&target.name, &target.socket) {
        (_, Some(_)) => return Err(none),
        (Some(_), None) => None,
        (None, None) => Some(reach::root(around, target, origins)?.display().to_string()),
    };
    let wanted = Wanted {
        stack: target.name.clone(),
        root,
        since: asked.since,
        last: asked.lines.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
        ..Wanted::default()
    };
    let mut page = Page::new(arguments, Names::to_be_met(), look);
    let source = wanted.command();
    let take = |(line, _): Found| {
        page.first(|| format!("lpm: no stack runs here; this is from the journal ({source})"));
        page.line(&line.into(), true);
        !page.has_failed()
    };
    let found = wanted.read(&sieve, &|name| is_meant(asked, name), take);
    match (found, page.failed) {
        (_, Some(error)) => broken(error),
        (Ok(1..), None) if arguments.follow => Err(none),
        (Ok(1..), None) => Ok(Ending::Code(0)),
        // What cannot be asked has nothing either.
        (Ok(0) | Err(_), None) => Err(none),
    }
}

fn is_meant(asked: &LogsParameters, instance: &str) -> bool {
    let names = asked.names.as_deref().unwrap_or_default();
    names.is_empty() || names.iter().any(|name| config::names(name, instance))
}

fn broken(error: io::Error) -> Result<Ending, Error> {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(Ending::Code(141)),
        _ => Err(Error::new(format!("standard output: {}", words(error)))),
    }
}

/// Standard output, with lines on it.
struct Page {
    lines: Lines,
    json: bool,
    out: StdoutLock<'static>,
    failed: Option<io::Error>,
    begun: bool,
}

impl Page {
    fn new(arguments: &Logs, names: Names, look: crate::view::Look) -> Page {
        let lines = Lines::new(names, look::zone(), look);
        let lines =
            lines.prefixed(!arguments.no_prefix).timed(!arguments.no_timestamp).pretty(arguments.pretty);
        Page { lines, json: arguments.json, out: io::stdout().lock(), failed: None, begun: false }
    }

    fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Says something before the first line.
    fn first(&mut self, text: impl FnOnce() -> String) {
        if !std::mem::replace(&mut self.begun, true) {
            tell(format_args!("{}", text()));
        }
    }

    fn write(&mut self, text: &[u8], flush: bool) {
        if self.failed.is_none() {
            let written = self.out.write_all(text);
            self.failed = written.and_then(|()| if flush { self.out.flush() } else { Ok(()) }).err();
        }
    }

    /// `from_journal` stands in the object, where it is one.
    fn line(&mut self, line: &interface::Line, from_journal: bool) {
        match self.json {
            true => {
                let reply = LogsReply { line: Some(line.clone()), ..LogsReply::default() };
                let mut reply = serde_json::to_value(reply).unwrap_or_default();
                if from_journal {
                    reply["source"] = json!("journal");
                }
                self.write(format!("{reply}\n").as_bytes(), false);
            }
            false => {
                let text = self.lines.line(line);
                self.write(&text, false);
            }
        }
    }

    /// What the server says.
    fn reply(&mut self, reply: Value, flush: bool) {
        match serde_json::from_value::<LogsReply>(reply.clone()) {
            Ok(LogsReply { line: None, missed: None, .. }) => {}
            Ok(_) if self.json => self.write(format!("{reply}\n").as_bytes(), flush),
            Ok(LogsReply { line: Some(line), .. }) => {
                let text = self.lines.line(&line);
                self.write(&text, flush);
            }
            Ok(LogsReply { missed, .. }) => {
                let text = self.lines.missed(missed.unwrap_or(0), look::now_usec());
                self.write(text.as_bytes(), flush);
            }
            Err(error) => self.failed = Some(io::Error::other(error)),
        }
    }

    /// What the journal has besides what is kept, and that, in the order of time. `whole_since`: since when nothing is
    /// missing in what is kept.
    fn earlier(&mut self, journal: &FromJournal<'_>, whole_since: Option<u64>, mut kept: Vec<Value>) {
        let FromJournal { status, asked, direct } = journal;
        let stack = &status.stack;
        let limit = whole_since.unwrap_or(stack.since);
        if stack.journald && whole_since.is_some() {
            // Others are missing of that time, and the journal has them all.
            kept.retain(|reply| reply["line"]["time"].as_u64().is_none_or(|time| time >= limit));
        }
        let last = asked.lines.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX));
        let since = asked.since.or_else(|| last.is_none().then_some(stack.since));
        let wanted = Wanted {
            stack: Some(stack.name.clone()),
            root: Some(stack.root.clone()),
            direct: direct.clone(),
            before: direct.is_empty().then_some(limit),
            since,
            last,
        };
        let is_wanted = |line: &interface::Line| {
            line.time < limit || line.stream != "lpm" && direct.contains(&line.instance)
        };
        let enough = direct.is_empty() && last.is_some_and(|last| kept.len() >= last);
        let mut older: Vec<interface::Line> = Vec::new();
        if !enough && let Ok(sieve) = Sieve::new(asked) {
            let source = wanted.command();
            let take = |(line, _): Found| {
                let line = interface::Line::from(line);
                if is_wanted(&line) {
                    self.first(|| format!("lpm: older lines are from the journal ({source})"));
                    match wanted.before.is_some() && last.is_none() {
                        // All of them are older than what is kept.
                        true => self.line(&line, true),
                        false => older.push(line),
                    }
                }
                !self.has_failed()
            };
            // Where there is no journalctl, there is nothing more.
            let _ = wanted.read(&sieve, &|name| is_meant(asked, name), take);
        }
        let time = |reply: &Value| reply["line"]["time"].as_u64().unwrap_or(u64::MAX);
        let mut all: Vec<(u64, Result<interface::Line, Value>)> =
            older.into_iter().map(|line| (line.time, Ok(line))).collect();
        all.extend(kept.into_iter().map(|reply| (time(&reply), Err(reply))));
        all.sort_by_key(|(time, _)| *time);
        let skipped = last.map_or(0, |last| all.len().saturating_sub(last));
        for (_, line) in all.into_iter().skip(skipped) {
            match line {
                Ok(line) => self.line(&line, true),
                Err(reply) => self.reply(reply, false),
            }
        }
    }
}

/// What the journal is asked for.
struct FromJournal<'a> {
    status: &'a Status,
    asked: &'a LogsParameters,
    /// Instances whose lines lpm has not seen.
    direct: Vec<String>,
}
