//! What each method does: parameters in, a question to the loop, replies out.
//!
//! One call of a client at a time, in its order. Everything that can be said without the loop is said here.

use std::future::poll_fn;

use serde_json::json;

use super::chronicle::News;
use super::connection::Connection;
use super::interface::{
    Changed, DESCRIPTION, DownParameters, EventsParameters, EventsReply, INTERFACE, Instances, Named,
    Refusal, ReloadParameters, Reloaded, Restarted, ScaleParameters, SetParameters, SignalParameters,
    StatusParameters,
};
use super::server::{Counter, Trouble};
use super::wire::{Call, Failure, put, put_reply};
use super::{Answer, Ask, Verb};
use crate::config::Signal;

const SERVICE: &str = "org.varlink.service";

/// What every Varlink service can be asked (varlink.org, "Service Interface").
const SERVICE_DESCRIPTION: &str = include_str!("org.varlink.service.varlink");

/// Serves one client until it leaves.
pub(super) async fn serve(mut connection: Connection, desk: &Counter) {
    while let Some(call) = connection.call().await {
        let mut out = Vec::new();
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
    let verb = match method {
        "Start" => Some(Verb::Start),
        "Stop" => Some(Verb::Stop),
        "Restart" => Some(Verb::Restart),
        "Kill" => Some(Verb::Kill),
        "Freeze" => Some(Verb::Freeze),
        "Thaw" => Some(Verb::Thaw),
        _ => None,
    };
    let ask = match (method, verb) {
        (_, Some(verb)) => {
            let Named { names, wait } = call.parameters()?;
            Ask::Do { verb, names: names.unwrap_or_default(), wait: wait.unwrap_or(true) }
        }
        ("Status", None) => {
            let StatusParameters { names, detail } = call.parameters()?;
            Ask::Status { names: names.unwrap_or_default(), detail: detail.unwrap_or(false) }
        }
        ("Signal", None) => {
            let SignalParameters { names, signal, main } = call.parameters()?;
            let signal: Signal =
                signal.parse().map_err(|message| Refusal::Invalid { messages: vec![message] })?;
            if names.is_empty() {
                return Err(Failure::invalid_parameter("names").into());
            }
            Ask::Signal { names, signal, main: main.unwrap_or(false) }
        }
        ("Scale", None) => {
            let ScaleParameters { counts, wait } = call.parameters()?;
            Ask::Scale { counts, wait: wait.unwrap_or(true) }
        }
        ("Set", None) => {
            let SetParameters { name, settings } = call.parameters()?;
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
        ("Events", None) => return events(call, connection, desk, out).await,
        _ => return Err(Failure::method_not_found(&call.method).into()),
    };
    match (desk.ask(connection, ask).await?, method) {
        (Answer::Survey(survey), _) => put_reply(out, &survey(), false),
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
    let whose = match names.filter(|names| !names.is_empty()) {
        Some(names) => Some(who(connection, desk, names).await?),
        None => None,
    };
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
                let wanted = match (&whose, &event.instance) {
                    (None, _) => true,
                    (Some(names), Some(name)) => names.contains(name),
                    (Some(_), None) => false,
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

/// The instances that are meant by these names.
async fn who(
    connection: &mut Connection,
    desk: &Counter,
    names: Vec<String>,
) -> Result<Vec<String>, Trouble> {
    match desk.ask(connection, Ask::Who { names }).await? {
        Answer::Done { instances, .. } => Ok(instances),
        Answer::Survey(_) => Ok(Vec::new()),
    }
}
