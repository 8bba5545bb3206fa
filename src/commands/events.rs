//! `lpm events`.

use std::io::{self, Write};

use serde_json::Value;

use crate::cli::{Events, Origins};
use crate::client::reach;
use crate::control::client::Trouble;
use crate::control::interface::{EventsParameters, EventsReply, Status, StatusParameters};
use crate::error::{Error, words};
use crate::escape;
use crate::launch::gather::Surroundings;
use crate::launch::look;
use crate::supervisor::Ending;
use crate::view;
use crate::view::lines::Names;

/// The latest events, and with `--follow` those that come, until the stack ends.
///
/// # Errors
/// There is no such stack or instance; standard output cannot be written.
pub fn events(around: &Surroundings, arguments: Events, origins: &Origins) -> Result<Ending, Error> {
    let Events { names, target, follow, json } = arguments;
    let (zone, look) = (look::zone(), look::of_terminal(around));
    let mut client = reach::reach(around, &target, origins)?;
    let status: Status = client.call("Status", &StatusParameters::default()).map_err(reach::told)?;
    let shown = Names::of(&status);
    let parameters = EventsParameters { names: Some(names), follow: Some(follow) };
    let mut out = io::stdout().lock();
    let mut failed = None;
    let take = |reply: Value| {
        let written = match serde_json::from_value::<EventsReply>(reply.clone()) {
            Ok(EventsReply { event: None, missed: None }) => Ok(()),
            Ok(_) if json => writeln!(out, "{}", escape::json(&reply.to_string())),
            Ok(EventsReply { event: Some(event), .. }) => {
                out.write_all(view::event(&event, &shown, &zone, &look).as_bytes())
            }
            Ok(EventsReply { event: None, missed: Some(missed) }) => {
                writeln!(out, "{missed} events were not read in time")
            }
            Err(error) => Err(io::Error::other(error)),
        };
        failed = written.and_then(|()| out.flush()).err();
        failed.is_none()
    };
    match (client.stream("Events", &parameters, take), failed) {
        (_, Some(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Ending::Code(141)),
        (_, Some(error)) => Err(Error::new(format!("standard output: {}", words(error)))),
        (Ok(()), None) => Ok(Ending::Code(0)),
        (Err(Trouble::Ended), None) if follow => Ok(Ending::Code(0)),
        (Err(trouble), None) => Err(reach::told(trouble)),
    }
}
