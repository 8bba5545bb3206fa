//! The core's values in the terms of the control interface: moments, outcomes, codes.
//!
//! The core's times are counted from its own beginning; people want the clock on the wall. One is put against the
//! other at the moment of telling, so that a machine that slept or a clock that was set does no harm to the core.

use rustix::time::{ClockId, clock_gettime};

use crate::supervisor::{Exit, Time};

/// From the core's time to µs since the epoch.
#[derive(Clone, Copy)]
pub(super) struct Wall {
    /// When the core's time was 0.
    epoch: u64,
}

impl Wall {
    pub(super) fn now(core: Time) -> Wall {
        Wall { epoch: now_usec().saturating_sub(usec(core)) }
    }

    pub(super) fn of(self, time: Time) -> u64 {
        self.epoch.saturating_add(usec(time))
    }
}

/// As µs.
pub(super) fn usec(time: Time) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The clock on the wall, µs since the epoch.
pub(super) fn now_usec() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}

pub(super) fn exit_code(exit: Option<Exit>) -> Option<u8> {
    match exit {
        Some(Exit::Code(code)) => Some(code),
        Some(Exit::Signal { .. }) | None => None,
    }
}

pub(super) fn signal(exit: Option<Exit>) -> Option<String> {
    match exit {
        Some(Exit::Signal { signal, .. }) => Some(signal.to_string()),
        Some(Exit::Code(_)) | None => None,
    }
}
