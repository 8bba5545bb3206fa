//! `lpm run`: one command in the stack's environment and under its ceilings, its streams untouched.

use crate::cli::{Origins, Run};
use crate::config;
use crate::driver::{Streams, Voice};
use crate::error::Error;
use crate::launch::gather::{self, Asked, Surroundings};
use crate::launch::{self, Plan};
use crate::output::Layout;
use crate::supervisor::Ending;

/// Runs the command; its exit code becomes lpm's.
///
/// # Errors
/// Whatever is wrong before it runs: the text, a ceiling that cannot be enforced.
pub fn run(around: &Surroundings, arguments: Run, origins: &Origins) -> Result<Ending, Error> {
    let Run { stack, ceilings, command } = arguments;
    let asked = Asked { stack, ceilings, ..Asked::default() };
    let gathered = gather::gather(around, asked, origins)?;
    let pid = rustix::process::getpid().as_raw_pid();
    let one_off = config::load_one_off(&gathered.sources, &command, pid.unsigned_abs());
    let loaded = launch::judged(one_off, gathered)?;
    let output = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3)
        .map_err(|errno| Error::new(format!("standard error: {}", std::io::Error::from(errno))))?;
    let plan = Plan {
        streams: Streams::Ours { terminal: foreground_terminal() },
        voice: Voice::OneOff,
        output,
        layout: Layout { width: 0, timestamps: false, prefix: false, colour: false, escape_controls: false },
        table: false,
        summary: None,
    };
    launch::start(around, loaded, plan)
}

/// The controlling terminal, if lpm is in its foreground and may hand that on.
fn foreground_terminal() -> Option<std::os::fd::OwnedFd> {
    let terminal = launch::controlling_terminal()?;
    let foreground = rustix::termios::tcgetpgrp(&terminal).ok()?;
    (foreground == rustix::process::getpgrp()).then_some(terminal)
}
