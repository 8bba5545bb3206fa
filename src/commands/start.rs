//! `lpm start`: run the stack until it ends or is stopped.

use std::os::fd::BorrowedFd;

use rustix::stdio;

use crate::cli::{Origins, OutputArgs, Start};
use crate::config::Stack;
use crate::driver::{Launcher, News, Streams, Voice};
use crate::error::{Error, words};
use crate::launch::gather::{Asked, Surroundings};
use crate::launch::{self, Plan, detach, detached};
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
    let Start { names, detach, stack, life, ceilings, output } = arguments;
    let asked = Asked { stack, life, ceilings, names: &names, quiet: output.quiet.clone() };
    let loaded = launch::load(around, asked, origins)?;
    let layout = layout(around, &output, &loaded.stack, origins)?;
    if detach && launcher.is_none() {
        return detach::detach(around, loaded);
    }
    let stdout = rustix::io::fcntl_dupfd_cloexec(stdio::stdout(), 3)
        .map_err(|errno| Error::new(format!("standard output: {}", words(errno))))?;
    let plan = Plan {
        streams: Streams::Pipes { split_stderr: output.split_stderr },
        voice: Voice::Stack,
        output: stdout,
        layout,
        table: output.quiet.is_none(),
        summary: output.summary,
        launcher,
        // One that cannot be reached is none of the stack's business.
        notifier: around.variable(notify::VARIABLE).and_then(|name| Notifier::new(name).ok()),
    };
    launch::start(around, loaded, plan)
}

fn layout(
    around: &Surroundings,
    output: &OutputArgs,
    stack: &Stack,
    origins: &Origins,
) -> Result<Layout, Error> {
    let terminal = rustix::termios::isatty(stdio::stdout());
    let set = |name: &str| around.variable(name).is_some_and(|value| !value.is_empty());
    let dumb = around.variable("TERM").is_some_and(|term| term == "dumb");
    let colour = match output.color.as_deref() {
        None | Some("auto") => terminal && !set("NO_COLOR") && !dumb,
        Some("always") => true,
        Some("never") => false,
        Some(other) => {
            let origin = origins.of("color");
            let text = format!("{origin}: {other:?} is not a rule for colour (write auto, always or never)");
            return Err(Error::new(text));
        }
    };
    Ok(Layout {
        width: Layout::width_for(stack.instances.iter().map(|instance| instance.name.as_str())),
        timestamps: !output.no_timestamp && !is_the_journal(around, stdio::stdout()),
        prefix: !output.no_prefix,
        colour,
        escape_controls: terminal,
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
