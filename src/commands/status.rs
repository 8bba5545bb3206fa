//! `lpm status`.

use serde_json::Value;

use crate::cli::{self, Origins};
use crate::client::reach;
use crate::control::client::Client;
use crate::control::interface::{Line, LogsParameters, LogsReply, Status, StatusParameters};
use crate::error::Error;
use crate::launch::gather::Surroundings;
use crate::launch::{look, print, print_json};
use crate::supervisor::Ending;
use crate::view;

/// A line for each instance; or, of those that are named, everything.
///
/// # Errors
/// There is no such stack or instance.
pub fn status(around: &Surroundings, arguments: cli::Status, origins: &Origins) -> Result<Ending, Error> {
    let cli::Status { names, target, lines, json } = arguments;
    let mut client = reach::reach(around, &target, origins)?;
    let named = !names.is_empty();
    let parameters = StatusParameters { names: Some(names), detail: Some(named || json), usage: None };
    let reply: Value = client.call("Status", &parameters).map_err(reach::told)?;
    if json {
        return print_json(&reply);
    }
    let status: Status = reach::understood(reply)?;
    let (now, zone, look) = (look::now_usec(), look::zone(), look::of_terminal(around));
    if !named {
        return print(&view::list(&status, now, &zone, &look));
    }
    let mut text = String::new();
    for instance in &status.instances {
        let last = last_lines(&mut client, &instance.name, lines)?;
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&view::detail(&status.stack, instance, &last, now, &zone, &look));
    }
    print(&text)
}

fn last_lines(client: &mut Client, instance: &str, lines: u64) -> Result<Vec<Line>, Error> {
    let mut last = Vec::new();
    if lines > 0 {
        let names = Some(vec![instance.to_owned()]);
        let parameters = LogsParameters { names, lines: Some(lines), ..LogsParameters::default() };
        let take = |reply: LogsReply| {
            last.extend(reply.line);
            true
        };
        client.stream("Logs", &parameters, take).map_err(reach::told)?;
    }
    Ok(last)
}
