//! `lpm logs`.

use std::io::{self, Write};

use serde_json::Value;

use crate::cli::{Logs, Origins};
use crate::control::client::Trouble;
use crate::control::interface::{LogsParameters, LogsReply, Status, StatusParameters};
use crate::error::{Error, words};
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
    let Logs { names, target, follow, lines, since, until, grep, level, stream, .. } = arguments;
    let Logs { no_prefix, no_timestamp, color, json, .. } = arguments;
    let moment = |option: &str, text: Option<String>| {
        let read = |text: String| moment::parse(&text, look::now_usec(), &look::zone());
        text.map(read).transpose().map_err(|message| Error::new(format!("{option}: {message}")))
    };
    let (since, until) = (moment("--since", since)?, moment("--until", until)?);
    let mut look = look::of_terminal(around);
    look.colour = look::colour(around, color.as_deref(), origins)?;
    let mut client = reach::reach(around, &target, origins)?;
    let status: Status = client.call("Status", &StatusParameters::default()).map_err(reach::told)?;
    let mut page =
        Lines::new(Names::of(&status), look::zone(), look).prefixed(!no_prefix).timed(!no_timestamp);
    let parameters =
        LogsParameters { names: Some(names), lines, since, until, stream, level, grep, follow: Some(follow) };
    let mut out = io::stdout().lock();
    let mut failed = None;
    let take = |reply: Value| {
        let written = if json {
            match reply.get("line").is_some_and(|line| !line.is_null())
                || reply.get("missed").is_some_and(|missed| !missed.is_null())
            {
                true => writeln!(out, "{reply}"),
                false => Ok(()),
            }
        } else {
            match serde_json::from_value::<LogsReply>(reply) {
                Ok(LogsReply { line: Some(line), .. }) => out.write_all(&page.line(&line)),
                Ok(LogsReply { missed: Some(missed), .. }) => {
                    out.write_all(page.missed(missed, look::now_usec()).as_bytes())
                }
                Ok(LogsReply { line: None, missed: None }) => Ok(()),
                Err(error) => Err(io::Error::other(error)),
            }
        };
        failed = written.and_then(|()| if follow { out.flush() } else { Ok(()) }).err();
        failed.is_none()
    };
    match (client.stream("Logs", &parameters, take), failed) {
        (_, Some(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Ending::Code(141)),
        (_, Some(error)) => Err(Error::new(format!("standard output: {}", words(error)))),
        // The stack ended while we followed it.
        (Ok(()), None) => Ok(Ending::Code(0)),
        (Err(Trouble::Ended), None) if follow => Ok(Ending::Code(0)),
        (Err(trouble), None) => Err(reach::told(trouble)),
    }
}
