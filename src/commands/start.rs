//! `lpm start`: run the stack until it ends or is stopped.

use std::os::fd::BorrowedFd;

use rustix::stdio;
use serde_json::Value;

use crate::claim::Record;
use crate::cli::{Origins, OutputArgs, Start};
use crate::client::{late, reach};
use crate::config::{Form, Journal, Stack};
use crate::control::client::Client;
use crate::control::interface::{Instances, Named};
use crate::driver::{Launcher, News, Streams, Voice};
use crate::error::{Error, words};
use crate::launch::gather::{Asked, Surroundings};
use crate::launch::{self, Plan, detach, detached, look, print_json, say};
use crate::linux::notify::{self, Notifier};
use crate::output::Layout;
use crate::supervisor::Ending;

/// Runs the stack.
///
/// # Errors
/// Whatever is wrong before a process runs: the text, a ceiling that cannot be enforced, a stack that runs
/// already.
pub fn start(around: &Surroundings, arguments: Start, origins: &Origins) -> Result<Ending, Error> {
    // One that was launched is in its place already, whatever its options say.
    match detached::launcher(around)? {
        Some(launcher) => {
            let ended = run(around, arguments, origins, Some(launcher.clone()));
            if let Err(error) = &ended {
                let lines = error.to_string().lines().map(str::to_owned).collect();
                launcher.tell(&News::Failed { code: error.code(), lines });
            }
            ended
        }
        None => run(around, arguments, origins, None),
    }
}

/// `launcher`: who waits for the stack to be up, in another process.
fn run(
    around: &Surroundings,
    arguments: Start,
    origins: &Origins,
    launcher: Option<Launcher>,
) -> Result<Ending, Error> {
    if !arguments.names.is_empty()
        && let Some((record, client)) = reach::owner(around, &arguments.stack, origins)?
    {
        late::refuse(around, &arguments, origins, &record)?;
        return start_there(&record, client, arguments);
    }
    let Start { names, detach, stack, count, settings, output, control, no_wait, json } = arguments;
    if let Some(option) = [(no_wait, "--no-wait"), (json, "--json")].iter().find(|(given, _)| *given) {
        let (_, option) = option;
        let text = format!("{option}: only for what starts in a stack that runs, and this one does not");
        return Err(Error::new(text));
    }
    let quiet = settings.typed().contains_key("quiet");
    let asked = Asked { stack, count, settings: settings.into_typed(), names: &names };
    let mut loaded = launch::load(around, asked, origins)?;
    if is_the_journal(around, stdio::stdout()) && !loaded.stack.logging.chosen && launch::has_journal() {
        // The same place, with fields.
        let logging = &mut loaded.stack.logging;
        (logging.route.stdout, logging.route.journal) = (false, Journal::Sent);
    }
    let layout = layout(around, &output, &loaded.stack, origins)?;
    if detach && launcher.is_none() {
        return detach::detach(around, loaded, control.socket.as_deref());
    }
    let stdout = rustix::io::fcntl_dupfd_cloexec(stdio::stdout(), 3)
        .map_err(|errno| Error::new(format!("standard output: {}", words(errno))))?;
    let plan = Plan {
        streams: Streams::Pipes { split_stderr: output.split_stderr },
        voice: Voice::Stack,
        output: stdout,
        layout,
        file_times: !output.no_timestamp,
        table: !quiet,
        summary: output.summary,
        report: output.report,
        socket: control.socket,
        launcher,
        // One that cannot be reached is none of the stack's business.
        notifier: around.variable(notify::VARIABLE).and_then(|name| Notifier::new(name).ok()),
    };
    launch::start(around, loaded, plan)
}

/// The stack runs already, and these are to run in it.
fn start_there(record: &Record, mut client: Client, arguments: Start) -> Result<Ending, Error> {
    let Start { names, no_wait, json, .. } = arguments;
    let parameters = Named { names: Some(names), wait: Some(!no_wait) };
    let reply: Value = client.call("Start", &parameters).map_err(reach::told)?;
    if json {
        return print_json(&reply);
    }
    let Instances { instances } = reach::understood(reply)?;
    let done = if no_wait { "under way" } else { "running" };
    let (name, pid) = (&record.name, record.pid);
    say(&format!("{done} in stack {name} (pid {pid}): {}\n", instances.join(", ")))
}

fn layout(
    around: &Surroundings,
    output: &OutputArgs,
    stack: &Stack,
    origins: &Origins,
) -> Result<Layout, Error> {
    let colour = look::colour(around, output.color.as_deref(), origins)?;
    Ok(Layout {
        width: Layout::width_for(stack.instances.iter().map(|instance| instance.name.as_str())),
        timestamps: !output.no_timestamp && !is_the_journal(around, stdio::stdout()),
        prefix: !output.no_prefix,
        colour,
        escape_controls: rustix::termios::isatty(stdio::stdout()),
        json: stack.logging.form == Form::Json,
    })
}

/// Whether this is the journal, which has a time of its own for every line (`JOURNAL_STREAM`, systemd.exec(5)).
/// The variable alone says nothing: it is inherited by programs whose output goes somewhere else.
fn is_the_journal(around: &Surroundings, stream: BorrowedFd<'_>) -> bool {
    let Some(known) = around.variable("JOURNAL_STREAM").and_then(|known| known.to_str()) else {
        return false;
    };
    let same = |found: rustix::fs::Stat| known == format!("{}:{}", found.st_dev, found.st_ino);
    rustix::fs::fstat(stream).is_ok_and(same)
}
