//! `lpm list`.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::claim::Record;
use crate::cli::List;
use crate::client::reach;
use crate::control::client::{Client, Trouble};
use crate::control::interface::{Status, StatusParameters};
use crate::error::Error;
use crate::launch::gather::Surroundings;
use crate::launch::{look, print, print_json};
use crate::supervisor::Ending;
use crate::view::{self, StackAnswer, StackLine};

/// How long a stack may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(1);

/// Every running stack of this user.
///
/// # Errors
/// The runtime directory is not ours alone.
pub fn list(around: &Surroundings, arguments: &List) -> Result<Ending, Error> {
    let running = reach::running(around)?;
    if arguments.json {
        let all: Vec<Value> = running.iter().map(object).collect();
        return print_json(&Value::from(all));
    }
    let lines: Vec<StackLine> = running
        .into_iter()
        .map(|one| {
            let status = one.socket.as_deref().map(|socket| asked(socket, one.pid));
            let stopped = matches!(status, Some(Err(Trouble::Stopped { .. })));
            let status = status.and_then(Result::ok);
            StackLine {
                name: one.name,
                pid: one.pid,
                since: Some(one.since * 1_000_000),
                root: one.root,
                answer: match &status {
                    Some(status) => StackAnswer::State(status.stack.state.clone()),
                    None if stopped => StackAnswer::Stopped,
                    None => StackAnswer::None,
                },
                running: status.map(|status| {
                    let runs = status.instances.iter().filter(|instance| instance.pid.is_some()).count();
                    (runs, status.instances.len())
                }),
                socket: one.socket.map(|path| path.display().to_string()),
            }
        })
        .collect();
    print(&view::stacks(&lines, look::now_usec(), &look::of_terminal(around)))
}

/// What the stack says of itself, if it doesn't take too long.
fn asked(socket: &Path, owner: u32) -> Result<Status, Trouble> {
    let mut client = Client::connect(socket)?.served_by(Some(owner));
    client.patience(PATIENCE);
    client.call("Status", &StatusParameters::default())
}

fn object(one: &Record) -> Value {
    json!({
        "name": one.name,
        "pid": one.pid,
        "since": one.since * 1_000_000,
        "root": one.root,
        "socket": one.socket.as_ref().map(|path| path.display().to_string()),
        "cgroup": one.cgroup.as_ref().map(|path| path.display().to_string()),
    })
}
