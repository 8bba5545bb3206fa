//! What the service manager is told, where lpm is a service of `Type=notify` (sd_notify(3)): that the stack is
//! up, how many instances run, that it is coming down.
//!
//! lpm bounds every stop itself, and the settings may allow more than the manager would: so while it is stopping
//! it asks for more time, again and again, and the manager's own limit counts only for an lpm that is silent.
//!
//! Every message says all there is to say, so one that was not taken is made up for by the next.

use std::time::Duration;

use crate::linux::notify::Notifier;
use crate::supervisor::{Progress, State, Supervisor};

/// How long the manager is asked to wait for the next message while lpm is stopping, and how often it is asked.
/// What comes after the last one is bounded: the last lines, and the tree.
const MORE_TIME: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_secs(10);

/// When a message that was not taken is sent again.
const RETRY: Duration = Duration::from_secs(1);

/// The manager, and what it knows.
#[derive(Debug)]
pub(super) struct Manager {
    notifier: Notifier,
    up: bool,
    /// What it was last told.
    said: Option<String>,
    due: Option<Duration>,
}

impl Manager {
    pub(super) fn new(notifier: Notifier) -> Manager {
        Manager { notifier, up: false, said: None, due: None }
    }

    /// Every instance was executed once. Told with the next message.
    pub(super) fn is_up(&mut self) {
        self.up = true;
    }

    /// When it is to be told something though nothing happened.
    pub(super) fn due(&self) -> Option<Duration> {
        self.due
    }

    /// Tells it what is new at `now`.
    pub(super) fn tell(&mut self, now: Duration, core: &Supervisor) {
        let stopping = core.is_tearing_down();
        let text = message(core, self.up, stopping);
        let is_due = self.due.is_some_and(|due| due <= now);
        if self.said.as_ref() == Some(&text) && !is_due {
            return;
        }
        self.due = match self.notifier.send(&text) {
            Ok(()) if stopping => Some(now + ASK_AGAIN),
            // Nobody listens where we were told: then nobody waits either.
            Ok(()) => None,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => Some(now + RETRY),
            Err(_) => None,
        };
        self.said = Some(text);
    }
}

fn message(core: &Supervisor, up: bool, stopping: bool) -> String {
    let running = |state| match state {
        State::Down { .. } | State::Waiting(_) => false,
        State::Up(living) => match living.progress {
            Progress::Spawning => false,
            Progress::Running
            | Progress::Stopping { .. }
            | Progress::Killing { .. }
            | Progress::Stuck { .. } => true,
        },
    };
    let all = core.instances().len();
    let running = core.instances().iter().filter(|instance| running(instance.state)).count();
    let instances = if all == 1 { "instance" } else { "instances" };
    match (stopping, up) {
        (true, _) => {
            let more = MORE_TIME.as_micros();
            format!(
                "STOPPING=1\nEXTEND_TIMEOUT_USEC={more}\nSTATUS=stopping, {running} of {all} {instances} left"
            )
        }
        (false, true) => format!("READY=1\nSTATUS={running} of {all} {instances} running"),
        (false, false) => format!("STATUS=starting, {running} of {all} {instances} running"),
    }
}
