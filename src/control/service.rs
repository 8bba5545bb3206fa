//! What each method does: parameters in, a question to the loop, replies out.
//!
//! One call of a client at a time, in its order. Everything that can be said without the loop is said here.

use std::future::poll_fn;

use serde_json::json;

use super::attach;
use super::chronicle::News;
use super::connection::Connection;
use super::desk::{Counter, Trouble};
use super::interface::{
    AttachParameters, Attached, Changed, DESCRIPTION, DownParameters, EventsParameters, EventsReply,
    INTERFACE, Instances, Line, LogsParameters, LogsReply, MetricsParameters, MetricsReply, Named, Refusal,
    ReloadParameters, Reloaded, Restarted, ScaleParameters, SetParameters, SignalParameters, Status,
    StatusParameters,
};
use super::metrics::{Format, metrics};
use super::sieve::Sieve;
use super::wire::{Call, Failure, put, put_reply};
use super::{Answer, Ask, Depth, Survey, Verb};
use crate::config::{self, Selection, Signal};
use crate::output::history;
use crate::output::json as line_json;

const SERVICE: &str = "org.varlink.service";

/// What every Varlink service can be asked (varlink.org, "Service Interface").
const SERVICE_DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// Serves one client until it leaves.
pub(super) async fn serve(mut connection: Connection, desk: &Counter) {
    while let Some(call) = connection.call().await {
        let mut out = Vec::new();
        if call.method == ATTACH && call.upgrade == Some(true) {
            match enter(&call, &mut connection, desk, &mut out).await {
                // What was a conversation is a terminal now, and ends as one.
                Ok((seat, window, read_only)) => {
                    if connection.send(&out).await.is_ok() {
                        let _ = attach::serve(&mut connection, desk, seat, window, read_only).await;
                    }
                    return;
                }
                Err(Trouble::Wrong(failure)) => put(&mut out, &failure),
                Err(Trouble::Refused(refusal)) => put(&mut out, &refusal),
                Err(Trouble::Gone) => return,
            }
            if connection.send(&out).await.is_err() {
                return;
            }
            continue;
        }
        // The stack does not end before whoever asked has heard what came of it.
        let _waited_for = desk.following();
        match answer(&call, &mut connection, desk, &mut out).await {
            Ok(()) => {}
            Err(Trouble::Wrong(failure)) => put(&mut out, &failure),
            Err(Trouble::Refused(refusal)) => put(&mut out, &refusal),
            Err(Trouble::Gone) => return,
        }
        if call.oneway != Some(true) && connection.send(&out).await.is_err() {
            return;
        }
    }
}

/// The one method after which the connection carries something else.
const ATTACH: &str = "dev.lpm.Supervisor.Attach";

/// Whose terminal, the viewer's window, and whether it only watches; the reply is in `out`.
async fn enter(
    call: &Call,
    connection: &mut Connection,
    desk: &Counter,
    out: &mut Vec<u8>,
) -> Result<(attach::Seat, Option<(u16, u16)>, bool), Trouble> {
    let AttachParameters { name, rows, columns, read_only } = call.parameters()?;
    let Answer::Seat(seat) = desk.ask(connection, Ask::Attach { name }).await? else {
        return Err(Refusal::Unavailable { reason: "no terminal was lent".to_owned() }.into());
    };
    let (own_rows, own_columns) = seat.screen.size();
    let attached = Attached { instance: seat.instance.clone(), rows: own_rows, columns: own_columns };
    put_reply(out, &attached, false);
    Ok((seat, rows.zip(columns), read_only.unwrap_or(false)))
}

/// Puts the reply, or the last one, into `out`.
async fn answer(
    call: &Call,
    connection: &mut Connection,
    desk: &Counter,
    out: &mut Vec<u8>,
) -> Result<(), Trouble> {
    let (interface, method) = call.parts();
    match (interface, method) {
        (SERVICE, "GetInfo") => {
            let information = json!({
                "vendor": "lpm",
                "product": "lpm",
                "version": env!("CARGO_PKG_VERSION"),
                "url": env!("CARGO_PKG_REPOSITORY"),
                "interfaces": [SERVICE, INTERFACE],
            });
            put_reply(out, &information, false);
        }
        (SERVICE, "GetInterfaceDescription") => {
            let wanted = call.parameters.as_ref().and_then(|given| given.get("interface"));
            let wanted = wanted.and_then(|name| name.as_str());
            let description = match wanted.ok_or_else(|| Failure::invalid_parameter("interface"))? {
                SERVICE => SERVICE_DESCRIPTION,
                INTERFACE => DESCRIPTION,
                other => return Err(Failure::interface_not_found(other).into()),
            };
            put_reply(out, &json!({ "description": description }), false);
        }
        (INTERFACE, method) => ours(method, call, connection, desk, out).await?,
        (SERVICE, _) => return Err(Failure::method_not_found(&call.method).into()),
        (other, _) => return Err(Failure::interface_not_found(other).into()),
    }
    Ok(())
}

async fn ours(
    method: &str,
    call: &Call,
    connection: &mut Connection,
    desk: &Counter,
    out: &mut Vec<u8>,
) -> Result<(), Trouble> {
    let ask = match (method, Verb::of_method(method)) {
        (_, Some(verb)) => {
            let Named { names, wait } = call.parameters()?;
            Ask::Do { verb, names: bounded(names)?, wait: wait.unwrap_or(true) }
        }
        ("Status", None) => {
            let StatusParameters { names, detail, usage } = call.parameters()?;
            let depth = match (detail, usage) {
                (Some(true), _) => Depth::All,
                (_, Some(true)) => Depth::Usage,
                _ => Depth::List,
            };
            Ask::Status { names: bounded(names)?, depth }
        }
        ("Signal", None) => {
            let SignalParameters { names, signal, main } = call.parameters()?;
            let signal: Signal =
                signal.parse().map_err(|message| Refusal::Invalid { messages: vec![message] })?;
            if names.is_empty() {
                return Err(Failure::invalid_parameter("names").into());
            }
            Ask::Signal { names: bounded(Some(names))?, signal, main: main.unwrap_or(false) }
        }
        ("Scale", None) => {
            let ScaleParameters { counts, wait } = call.parameters()?;
            few_enough(counts.len(), config::MOST_INSTANCES as usize, "process types")?;
            Ask::Scale { counts, wait: wait.unwrap_or(true) }
        }
        ("Set", None) => {
            let SetParameters { name, settings } = call.parameters()?;
            few_enough(settings.len(), MOST_SETTINGS, "settings")?;
            Ask::Set { name, settings }
        }
        ("Reload", None) => {
            let ReloadParameters { dry_run, wait } = call.parameters()?;
            Ask::Reload { dry_run: dry_run.unwrap_or(false), wait: wait.unwrap_or(true) }
        }
        ("Down", None) => {
            let DownParameters { wait } = call.parameters()?;
            Ask::Down { wait: wait.unwrap_or(true) }
        }
        ("Metrics", None) => {
            let MetricsParameters { names } = call.parameters()?;
            let ask = Ask::Status { names: bounded(names)?, depth: Depth::Usage };
            if let Answer::Survey(survey) = desk.ask(connection, ask).await? {
                let text = metrics(&taken(survey, connection, desk).await?, Format::OpenMetrics);
                put_reply(out, &MetricsReply { text }, false);
            }
            return Ok(());
        }
        ("Logs", None) => return logs(call, connection, desk, out).await,
        ("Events", None) => return events(call, connection, desk, out).await,
        // It came without asking for the upgrade.
        ("Attach", None) => return Err(Failure::invalid_parameter("upgrade").into()),
        _ => return Err(Failure::method_not_found(&call.method).into()),
    };
    match (desk.ask(connection, ask).await?, method) {
        (Answer::Survey(survey), _) => put_reply(out, &taken(survey, connection, desk).await?, false),
        // Asked for by `attach` alone.
        (Answer::Seat(_), _) => return Err(Failure::method_not_found(&call.method).into()),
        (Answer::Done { .. }, "Down") => put_reply(out, &json!({}), false),
        (Answer::Done { instances, changes, notes }, "Restart") => {
            put_reply(out, &Restarted { instances, changes, notes }, false);
        }
        (Answer::Done { changes, .. }, "Scale" | "Set") => put_reply(out, &Changed { changes }, false),
        (Answer::Done { changes, notes, .. }, "Reload") => {
            put_reply(out, &Reloaded { changes, notes }, false)
        }
        (Answer::Done { instances, .. }, _) => put_reply(out, &Instances { instances }, false),
    }
    Ok(())
}

/// The most settings of one call. There are about 40 keys.
const MOST_SETTINGS: usize = 1000;

/// The names of a call, each once; refuses more than a question may hold.
fn bounded(names: Option<Vec<String>>) -> Result<Vec<String>, Refusal> {
    config::distinct(names.unwrap_or_default())
        .map_err(|message| Refusal::Invalid { messages: vec![message] })
}

fn few_enough(count: usize, most: usize, what: &str) -> Result<(), Refusal> {
    if count <= most {
        return Ok(());
    }
    Err(Refusal::Invalid { messages: vec![format!("{count} {what} are too many (write {most} or fewer)")] })
}

/// Reads the leaves. What may wait does it on another thread: this one serves everybody.
async fn taken(survey: Survey, connection: &mut Connection, desk: &Counter) -> Result<Status, Trouble> {
    if !survey.may_wait {
        return Ok((survey.read)());
    }
    let unavailable = |why: &str| {
        let reason = format!("no thread can be made to read the processes ({why})");
        Trouble::from(Refusal::Unavailable { reason })
    };
    let told = desk.readers.read(survey.read).map_err(|error| unavailable(&crate::error::words(error)))?;
    tokio::select! {
        biased;
        status = told => status.map_err(|_| unavailable("the one there was has ended")),
        () = connection.gone() => Err(Trouble::Gone),
    }
}

/// Those that are kept, and with `follow` those that come.
async fn logs(
    call: &Call,
    connection: &mut Connection,
    desk: &Counter,
    out: &mut Vec<u8>,
) -> Result<(), Trouble> {
    let parameters: LogsParameters = call.parameters()?;
    let sieve = Sieve::new(&parameters).map_err(|message| Refusal::Invalid { messages: vec![message] })?;
    let LogsParameters { names, lines, follow, .. } = parameters;
    if call.more != Some(true) {
        return Err(Failure::expected_more().into());
    }
    let whose = whose(connection, desk, names).await?;
    let wanted = |line: history::Whose<'_>| whose.has(line.name);
    let Some(history) = &desk.desk.history else {
        put_reply(out, &LogsReply::default(), false);
        return Ok(());
    };
    let following = if follow.unwrap_or(false) { desk.following() } else { None };
    let last = lines.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX));
    let (mut kept, mut cursor) = history.lines(&wanted, last.filter(|_| sieve.is_open()));
    // After they were taken: what went meanwhile is said to be missing, and not the other way round.
    let since = history.complete_since(&wanted);
    kept.retain(|line| sieve.passes(line, None));
    kept.drain(..last.map_or(0, |last| kept.len().saturating_sub(last)));
    let bytes = kept.iter().map(|line| size_of::<history::Line>() + line.text.len()).sum();
    let copied = desk.copies.count(bytes).map_err(|others| {
        let reason = format!(
            "other clients have not read {} MiB of lines that they asked for (ask for fewer lines, or again later)",
            others >> 20
        );
        Refusal::Unavailable { reason }
    })?;
    let count = Some(kept.len() as u64);
    put_reply(out, &LogsReply { kept: count, since, ..LogsReply::default() }, true);
    for line in kept {
        put_line(out, line);
        // In pieces, so that a reader that stops costs no more than one.
        if out.len() > PIECE {
            connection.send(out).await?;
            out.clear();
        }
    }
    drop(copied);
    if following.is_some() {
        connection.send(out).await?;
        out.clear();
        loop {
            let batch = tokio::select! {
                biased;
                batch = poll_fn(|context| history.poll_next(&mut cursor, &wanted, AT_ONCE, context)) => batch,
                () = desk.finishing() => break,
                () = connection.gone() => return Err(Trouble::Gone),
            };
            if batch.missed > 0 {
                put_reply(out, &LogsReply { missed: Some(batch.missed), ..LogsReply::default() }, true);
            }
            // What comes is never older than what came.
            let over = batch.lines.last().is_some_and(|line| sieve.is_over(line.time_usec));
            batch
                .lines
                .into_iter()
                .filter(|line| sieve.passes(line, None))
                .for_each(|line| put_line(out, line));
            if over {
                break;
            }
            connection.send(out).await?;
            out.clear();
        }
    }
    put_reply(out, &LogsReply::default(), false);
    Ok(())
}

/// About so much is sent at once, bytes.
const PIECE: usize = 64 * 1024;

/// At most so many lines are taken at once.
const AT_ONCE: usize = 1000;

fn put_line(out: &mut Vec<u8>, line: history::Line) {
    put_reply(out, &LogsReply { line: Some(line.into()), ..LogsReply::default() }, true);
}

impl From<history::Line> for Line {
    fn from(line: history::Line) -> Line {
        let (text, bytes) = match String::from_utf8(line.text) {
            Ok(text) => (text, None),
            Err(error) => {
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                (text, Some(line_json::base64(error.as_bytes())))
            }
        };
        Line {
            sequence: line.sequence,
            time: line.time_usec,
            instance: line.instance.to_string(),
            stream: line.origin.into(),
            text,
            bytes,
            part: line.continues,
        }
    }
}

/// Those that are kept, and with `follow` those that come.
async fn events(
    call: &Call,
    connection: &mut Connection,
    desk: &Counter,
    out: &mut Vec<u8>,
) -> Result<(), Trouble> {
    let EventsParameters { names, follow } = call.parameters()?;
    if call.more != Some(true) || call.oneway == Some(true) {
        return Err(Failure::expected_more().into());
    }
    let whose = whose(connection, desk, names).await?;
    if whose.is_open() {
        // What the loop was told before this question is in the chronicle when it is answered; one that has come to
        // its end answers nobody, and writes nothing more.
        match desk.ask(connection, Ask::Who { names: Vec::new() }).await {
            Err(Trouble::Gone) => return Err(Trouble::Gone),
            Ok(_) | Err(Trouble::Wrong(_) | Trouble::Refused(_)) => {}
        }
    }
    let follow = follow.unwrap_or(false);
    let following = if follow { desk.following() } else { None };
    let chronicle = &desk.desk.chronicle;
    let (mut at, until) = (chronicle.oldest(), chronicle.next());
    loop {
        let over = following.is_none() && at >= until;
        let news = if over {
            News::End
        } else {
            tokio::select! {
                biased;
                news = poll_fn(|context| chronicle.poll(&mut at, context)) => news,
                () = desk.finishing() => News::End,
                () = connection.gone() => return Err(Trouble::Gone),
            }
        };
        let reply = match news {
            News::Missed(missed) => EventsReply { missed: Some(missed), event: None },
            News::Event(event) => {
                let wanted = match &event.instance {
                    Some(name) => whose.has(name),
                    None => whose.is_open(),
                };
                if !wanted {
                    continue;
                }
                EventsReply { missed: None, event: Some((*event).clone()) }
            }
            News::End => {
                put_reply(out, &EventsReply::default(), false);
                return Ok(());
            }
        };
        put_reply(out, &reply, true);
        connection.send(out).await?;
        out.clear();
    }
}

/// Whose lines or events are meant, once it is known that each name means something now. They stay names: also
/// instances that come later are meant by them.
async fn whose(
    connection: &mut Connection,
    desk: &Counter,
    names: Option<Vec<String>>,
) -> Result<Selection, Trouble> {
    let names = bounded(names)?;
    let selection = Selection::new(&names);
    if !names.is_empty() {
        desk.ask(connection, Ask::Who { names }).await?;
    }
    Ok(selection)
}
