//! Where an instance is: down, waiting, or up with a life.
//!
//! States carry their data, so that leaving one disarms it: a deadline lives in the state that it bounds
//! and nowhere else. What every life has (its number, its main process, its freezer) is in [`Living`] once, and
//! what only some stages of a life have is in [`Progress`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{InstanceId, Life};
use super::instance::Time;

/// Where an instance is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Nothing of it exists.
    Down {
        /// Whether something went wrong; the outcome says what.
        failed: bool,
    },
    /// Nothing of it exists, and its next life will begin by itself.
    Waiting(Wait),
    /// It has a life.
    Up(Living),
}

/// What an instance waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wait {
    /// The delay of a restart.
    Restart {
        /// When it is over.
        until: Time,
    },
}

/// A life, from the order to spawn to the empty leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Living {
    /// Which life of the instance; 1-based.
    pub invocation: u32,
    /// How far the main process is.
    pub main: Main,
    /// Whether its processes were told to stand still. Only a running life is: leaving `Running` thaws it.
    pub freezer: Freezer,
    /// How far the life is.
    pub progress: Progress,
}

/// How far a life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// The order to spawn was given.
    Spawning,
    /// Its main process runs.
    Running,
    /// It was asked to end, or what its main process left behind was. Left when the main process has
    /// exited *and* the leaf is empty.
    Stopping {
        /// When asking ends and killing begins; counted from the request.
        deadline: Time,
        /// What comes when it is over.
        then: Then,
    },
    /// It is being killed.
    Killing {
        /// When lpm stops waiting.
        deadline: Time,
        /// Whether it was killed because its stop timeout had passed.
        timed_out: bool,
        /// What comes when it is over.
        then: Then,
    },
    /// Not even SIGKILL ended it in time (a process in uninterruptible sleep). Tear-down does not wait for
    /// it; should it end after all, `then` follows.
    Stuck {
        /// What comes when it is over.
        then: Then,
    },
}

/// How far the main process of a life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Main {
    /// The order to spawn it is still on its way.
    NotYet,
    /// It runs.
    Alive {
        /// As this process.
        pid: u32,
    },
    /// It was reaped; others in the leaf were not.
    Gone,
}

/// Whether the processes of a running life may run, as far as it alone goes; Ctrl-Z stops them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freezer {
    /// They may.
    Thawed,
    /// They are being stopped where they stand, which takes those in the kernel as long as they are there.
    Freezing,
    /// They all stand still.
    Frozen,
}

/// What comes after a life that ends on request or by force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// Nothing.
    Rest,
    /// The next life, at once.
    Start,
    /// The next life, after a delay.
    Restart {
        /// From the moment the leaf is empty.
        delay: Duration,
    },
}

impl State {
    /// The life, if there is one.
    pub fn living(&self) -> Option<&Living> {
        match self {
            State::Up(living) => Some(living),
            State::Down { .. } | State::Waiting(_) => None,
        }
    }

    pub(super) fn living_mut(&mut self) -> Option<&mut Living> {
        match self {
            State::Up(living) => Some(living),
            State::Down { .. } | State::Waiting(_) => None,
        }
    }

    /// When the core has to look at it again.
    pub(super) fn deadline(mut self) -> Option<Time> {
        self.deadline_mut().copied()
    }

    pub(super) fn deadline_mut(&mut self) -> Option<&mut Time> {
        match self {
            State::Down { .. } => None,
            State::Waiting(Wait::Restart { until }) => Some(until),
            State::Up(living) => match &mut living.progress {
                Progress::Stopping { deadline, .. } | Progress::Killing { deadline, .. } => Some(deadline),
                Progress::Spawning | Progress::Running | Progress::Stuck { .. } => None,
            },
        }
    }
}

impl Living {
    /// A life that was ordered and has not begun.
    pub(super) fn ordered(invocation: u32) -> Living {
        let (main, freezer, progress) = (Main::NotYet, Freezer::Thawed, Progress::Spawning);
        Living { invocation, main, freezer, progress }
    }

    /// The name of this life of `instance`.
    pub(super) fn of(&self, instance: InstanceId) -> Life {
        Life { instance, invocation: self.invocation }
    }

    /// The main process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        match self.main {
            Main::Alive { pid } => Some(pid),
            Main::NotYet | Main::Gone => None,
        }
    }

    /// Whether it was asked to end, or its main process ended, and something of it may be left.
    pub fn is_ending(&self) -> bool {
        self.progress.then().is_some()
    }
}

impl Progress {
    /// What comes when the life is over; `None` before its end was begun.
    pub fn then(mut self) -> Option<Then> {
        self.then_mut().copied()
    }

    pub(super) fn then_mut(&mut self) -> Option<&mut Then> {
        match self {
            Progress::Spawning | Progress::Running => None,
            Progress::Stopping { then, .. } | Progress::Killing { then, .. } | Progress::Stuck { then } => {
                Some(then)
            }
        }
    }
}
