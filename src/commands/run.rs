//! `lpm run`: one command in the stack's environment and under its ceilings, its streams untouched.

use crate::cli::{Origins, Run};
use crate::config;
use crate::driver::{Streams, Voice};
use crate::error::{Error, words};
use crate::launch::gather::{self, Asked, Surroundings};
use crate::launch::{self, Plan};
use crate::linux::signals;
use crate::output::Layout;
use crate::supervisor::Ending;

/// Runs the command; its exit code becomes lpm's.
///
/// # Errors
/// Whatever is wrong before it runs: the text, a ceiling that cannot be enforced.
pub fn run(around: &Surroundings, arguments: Run, origins: &Origins) -> Result<Ending, Error> {
    let Run { stack, settings, command } = arguments;
    let asked = Asked { stack, settings: settings.into_typed(), ..Asked::default() };
    let gathered = gather::gather(around, asked, origins)?;
    let pid = rustix::process::getpid().as_raw_pid();
    let one_off = config::load_one_off(&gathered.sources, &command, pid.unsigned_abs());
    let loaded = launch::judged(one_off, gathered)?;
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)
        .map_err(|errno| Error::new(format!("standard error: {}", words(errno))))?;
    let terminal = foreground_terminal();
    let lent = terminal.as_ref().and_then(|terminal| terminal.try_clone().ok());
    let plan = Plan {
        streams: Streams::Ours { terminal },
        voice: Voice::OneOff,
        output,
        layout: Layout {
            width: 0,
            timestamps: false,
            prefix: false,
            colour: false,
            escape_controls: false,
            json: false,
        },
        file_times: false,
        table: false,
        summary: None,
        report: None,
        socket: None,
        launcher: None,
        notifier: None,
    };
    let ending = launch::start(around, loaded, plan);
    lent.iter().for_each(give_back);
    ending
}

/// The command's group was the terminal's foreground; now it is ours again, for whoever shares it with us: a
/// script that goes on after `lpm run`.
fn give_back(terminal: &std::os::fd::OwnedFd) {
    // A background group may do this only with SIGTTOU blocked (tcsetpgrp(3)).
    let blocked = signals::block_all();
    // The terminal may be gone, and nobody is there to care.
    let _ = rustix::termios::tcsetpgrp(terminal, rustix::process::getpgrp());
    drop(blocked);
}

/// The controlling terminal, if lpm is in its foreground and may hand that on.
fn foreground_terminal() -> Option<std::os::fd::OwnedFd> {
    // In a pipeline others in lpm's group read the terminal or write to it.
    let ours = [rustix::stdio::stdin(), rustix::stdio::stdout()];
    if !ours.iter().all(rustix::termios::isatty) {
        return None;
    }
    let terminal = launch::controlling_terminal()?;
    let foreground = rustix::termios::tcgetpgrp(&terminal).ok()?;
    (foreground == rustix::process::getpgrp()).then_some(terminal)
}
