//! Where lines and numbers go besides standard output, opened before anything runs, so that what is wrong is said in
//! time.

use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::Plan;
use crate::config::{self, Stack};
use crate::control::scrape::ScrapePort;
use crate::driver::Voice;
use crate::error::{Error, words};
use crate::journal;
use crate::linux::journal::{Journal as JournalSocket, SOCKET};
use crate::output::{LogFiles, Shown};

/// Whether the journal listens.
pub fn has_journal() -> bool {
    JournalSocket::connect(Path::new(SOCKET)).is_ok()
}

/// How long the journal may take for what was said last.
pub(super) const LAST_ENTRIES: Duration = Duration::from_secs(2);

/// The way to the journal, if lines are to go there, and how this run is known there.
///
/// # Errors
/// Nobody listens.
pub(super) fn journal(
    stack: &Stack,
    plan: &Plan,
    run: &str,
) -> Result<Option<(JournalSocket, journal::Identity)>, Error> {
    if plan.voice == Voice::OneOff || stack.routes().all(|route| route.journal == config::Journal::No) {
        return Ok(None);
    }
    let socket = JournalSocket::connect(Path::new(SOCKET)).map_err(|errno| {
        let why = words(errno);
        Error::new(format!(
            "--log: the journal cannot be reached: {SOCKET}: {why} (does systemd-journald run?)"
        ))
    })?;
    let root = stack.root.as_os_str().as_encoded_bytes().to_vec();
    Ok(Some((socket, journal::Identity { stack: stack.name.clone(), run: run.to_owned(), root })))
}

/// What goes to standard output.
pub(super) fn shown(stack: &Stack, voice: Voice) -> Shown {
    match voice {
        Voice::OneOff => Shown::All,
        Voice::Stack if stack.logging.route.stdout => Shown::All,
        Voice::Stack if stack.routes().any(|route| route.stdout) => Shown::Sources,
        Voice::Stack => Shown::Nothing,
    }
}

/// Who is for the journal.
pub(super) fn routes(stack: &Stack) -> journal::Routes {
    let is = |route: &config::Route| route.journal != config::Journal::No;
    let own = stack.instances.iter().filter_map(|one| Some((one.name.clone(), is(one.route.as_ref()?))));
    journal::Routes { common: is(&stack.logging.route), own: own.collect() }
}

/// Where scrapers are answered.
///
/// # Errors
/// The address is not to be had.
pub(super) fn scrape_port(stack: &Stack, plan: &Plan) -> Result<Option<ScrapePort>, Error> {
    let Some(address) = stack.metrics.filter(|_| plan.voice == Voice::Stack) else { return Ok(None) };
    let refused = |error| Error::new(format!("--metrics: {address}: {}", words(error)));
    ScrapePort::open(address).map(Some).map_err(refused)
}

/// The log files, opened. A command that is run once has none.
///
/// # Errors
/// One that cannot be opened.
pub(super) fn files(stack: &Stack, plan: &Plan) -> Result<LogFiles, Error> {
    if plan.voice == Voice::OneOff {
        return Ok(LogFiles::default());
    }
    let config::Logging { route, rotation, .. } = &stack.logging;
    LogFiles::open(&route.files, &stack.log_files(), *rotation, plan.layout.prefix, plan.file_times).map_err(
        |(path, errno)| {
            let why = match errno {
                Errno::INVAL => "is not a regular file".to_owned(),
                Errno::LOOP => "is a symbolic link".to_owned(),
                errno => format!("cannot be opened: {}", words(errno)),
            };
            Error::new(format!("--log: {} {why}", path.display()))
        },
    )
}
