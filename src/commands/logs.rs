//! `lpm logs`: what a running stack keeps, and before that, or where none runs, what the journal has.

use std::io::{self, StdoutLock, Write};

use serde_json::{Value, json};

use crate::cli::{Logs, Origins};
use crate::client::archive::{Found, Wanted};
use crate::client::pattern::Pattern;
use crate::client::reach;
use crate::config::Selection;
use crate::control::client::{Client, Trouble};
use crate::control::interface::{self, LineStream, LogsParameters, LogsReply, Status, StatusParameters};
use crate::control::sieve::Sieve;
use crate::error::{Error, tell, words};
use crate::escape;
use crate::launch::gather::Surroundings;
use crate::launch::look;
use crate::output::history;
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
    let pattern = arguments.grep.as_deref().map(Pattern::new).transpose().map_err(Error::new)?;
    let asked = LogsParameters {
        names: Some(arguments.names.clone()),
        // The last that match are among all that are kept.
        lines: arguments.lines.filter(|_| pattern.is_none()),
        since: moment("--since", &arguments.since)?,
        until: moment("--until", &arguments.until)?,
        stream: arguments.stream.as_deref().map(LineStream::from),
        level: arguments.level.clone(),
        follow: Some(arguments.follow),
    };
    let wish = Wish {
        names: Selection::new(&arguments.names),
        last: arguments.lines.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX)),
        pattern,
        sieve: Sieve::new(&asked).map_err(Error::new)?,
        asked,
    };
    let mut look = look::of_terminal(around);
    look.colour = look::colour(around, arguments.color.as_deref(), origins)?;
    let mut client = match reach::reach_if_up(around, &arguments.target, origins)? {
        Ok(client) => client,
        Err(none) => return past(around, &arguments, &wish, origins, look, none),
    };
    let status: Status = client.call("Status", &StatusParameters::default()).map_err(reach::told)?;
    let page = Page::new(&arguments, Names::of(&status), look);
    present(&mut client, &status, &wish, page)
}

/// Which lines are wanted.
struct Wish {
    /// What the supervisor is asked for.
    asked: LogsParameters,
    /// The same for what comes out of the journal.
    names: Selection,
    sieve: Sieve,
    /// Held against every line here, wherever it comes from.
    pattern: Option<Pattern>,
    /// Only this many of the newest.
    last: Option<usize>,
}

impl Wish {
    /// Whether the text of a line is wanted.
    fn reads(&self, text: &str) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.matches(text))
    }

    /// Whether a line out of the journal is wanted.
    fn has(&self, line: &history::Line, priority: u8) -> bool {
        self.names.has(&line.instance)
            && self.sieve.passes(line, Some(priority))
            && self.reads(&String::from_utf8_lossy(&line.text))
    }
}

/// Of a stack that runs.
fn present(client: &mut Client, status: &Status, wish: &Wish, mut page: Page) -> Result<Ending, Error> {
    let asked = &wish.asked;
    let direct = status.instances.iter().filter(|one| one.journald_direct && wish.names.has(&one.name));
    let direct: Vec<String> = direct.map(|one| one.name.clone()).collect();
    let follow = asked.follow == Some(true);
    let journal = FromJournal { status, wish, direct };
    let direct = &journal.direct;
    if follow && !direct.is_empty() {
        tell(format_args!("lpm: {} cannot be followed here (journalctl -f shows it)", direct.join(", ")));
    }
    // The journal is asked for what is older than what is kept, if that much is wanted; and for what lpm has not seen.
    let goes_back = (status.stack.journald || !direct.is_empty())
        && (wish.last.is_some() || asked.since.is_some() || !direct.is_empty());
    // Where something may come before them, or some of them are left out, all that are kept are needed first.
    let gathers = goes_back || (wish.pattern.is_some() && wish.last.is_some());
    let mut kept: Option<Kept> = None;
    let show = |page: &mut Page, kept: Kept| match goes_back {
        true => page.earlier(&journal, kept.whole_since, kept.lines),
        false => page.replies(kept.lines, wish.last, follow),
    };
    let take = |reply: Value| {
        if let Some(count) = reply.get("kept").and_then(Value::as_u64) {
            let whole_since = reply.get("since").and_then(Value::as_u64);
            kept = gathers.then(|| Kept { outstanding: count, whole_since, lines: Vec::new() });
        } else {
            let text = reply.get("line").and_then(|line| line.get("text")).and_then(Value::as_str);
            let wanted = text.is_none_or(|text| wish.reads(text));
            match &mut kept {
                Some(kept) => {
                    kept.outstanding = kept.outstanding.saturating_sub(1);
                    kept.lines.extend(wanted.then_some(reply));
                }
                None if wanted => page.reply(reply, follow),
                None => {}
            }
        }
        if let Some(kept) = kept.take_if(|kept| kept.outstanding == 0) {
            show(&mut page, kept);
        }
        !page.has_failed()
    };
    let streamed = client.stream("Logs", asked, take);
    if let Some(kept) = kept {
        // It ended in their midst.
        show(&mut page, kept);
    }
    match (streamed, page.failed) {
        (_, Some(error)) => broken(error),
        // The stack ended while we followed it.
        (Ok(()), None) => Ok(Ending::Code(0)),
        (Err(Trouble::Ended), None) if follow => Ok(Ending::Code(0)),
        (Err(trouble), None) => Err(reach::told(trouble)),
    }
}

/// What the supervisor keeps, until all of it is here.
struct Kept {
    /// How many of its lines are still to come.
    outstanding: u64,
    /// Since when nothing is missing among them.
    whole_since: Option<u64>,
    /// Those that are wanted.
    lines: Vec<Value>,
}

/// Of one that does not run: what the journal has of its runs. `none`: what is told where it has nothing.
fn past(
    around: &Surroundings,
    arguments: &Logs,
    wish: &Wish,
    origins: &Origins,
    look: crate::view::Look,
    none: Error,
) -> Result<Ending, Error> {
    let target = &arguments.target;
    let root = match (&target.name, &target.socket) {
        (_, Some(_)) => return Err(none),
        (Some(_), None) => None,
        (None, None) => Some(reach::root(around, target, origins)?.display().to_string()),
    };
    let wanted = Wanted {
        stack: target.name.clone(),
        root,
        since: wish.asked.since,
        last: wish.last,
        ..Wanted::default()
    };
    let mut page = Page::new(arguments, Names::to_be_met(), look);
    let source = wanted.command();
    let take = |(line, _): Found| {
        page.first(|| format!("lpm: no stack runs here; this is from the journal ({source})"));
        page.line(&line.into(), true);
        !page.has_failed()
    };
    let found = wanted.read(&|line, priority| wish.has(line, priority), take);
    match (found, page.failed) {
        (_, Some(error)) => broken(error),
        (Ok(1..), None) if arguments.follow => Err(none),
        (Ok(1..), None) => Ok(Ending::Code(0)),
        // What cannot be asked has nothing either.
        (Ok(0) | Err(_), None) => Err(none),
    }
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
                self.write(escape::json(&format!("{reply}\n")).as_bytes(), false);
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
            Ok(_) if self.json => self.write(escape::json(&format!("{reply}\n")).as_bytes(), flush),
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

    /// What is kept; only the `last` of it.
    fn replies(&mut self, lines: Vec<Value>, last: Option<usize>, flush: bool) {
        let skipped = last.map_or(0, |last| lines.len().saturating_sub(last));
        lines.into_iter().skip(skipped).for_each(|reply| self.reply(reply, flush));
    }

    /// What the journal has besides what is kept, and that, in the order of time. `whole_since`: since when nothing is
    /// missing in what is kept.
    fn earlier(&mut self, journal: &FromJournal<'_>, whole_since: Option<u64>, mut kept: Vec<Value>) {
        let FromJournal { status, wish, direct } = journal;
        let stack = &status.stack;
        let limit = whole_since.unwrap_or(stack.since);
        if stack.journald && whole_since.is_some() {
            // Others are missing of that time, and the journal has them all.
            kept.retain(|reply| reply["line"]["time"].as_u64().is_none_or(|time| time >= limit));
        }
        let last = wish.last;
        let since = wish.asked.since.or_else(|| last.is_none().then_some(stack.since));
        let wanted = Wanted {
            stack: Some(stack.name.clone()),
            root: Some(stack.root.clone()),
            direct: direct.clone(),
            before: direct.is_empty().then_some(limit),
            since,
            last,
        };
        let is_wanted = |line: &interface::Line| {
            line.time < limit || line.stream != LineStream::Lpm && direct.contains(&line.instance)
        };
        let enough = direct.is_empty() && last.is_some_and(|last| kept.len() >= last);
        let mut older: Vec<interface::Line> = Vec::new();
        if !enough {
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
            let _ = wanted.read(&|line, priority| wish.has(line, priority), take);
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
    wish: &'a Wish,
    /// Instances whose lines lpm has not seen.
    direct: Vec<String>,
}
