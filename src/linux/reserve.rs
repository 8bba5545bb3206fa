//! Descriptors kept in reserve for the work that must not fail: looking at, signalling and ending what runs.
//!
//! At the limit of open files (`EMFILE`), or when the whole system is at its own (`ENFILE`), that work gives up a
//! descriptor of the reserve and tries again. The reserve is refilled as soon as an attempt succeeds without it. Births
//! never use it: they can be refused.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// How many descriptors the reserve holds: the loop and the worker need two each at most at the same time, one for a
/// directory and one for a file or a process in it.
pub const RESERVE: usize = 4;

static SPARE: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

/// Fills the reserve as far as the limits allow.
pub fn fill() {
    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
    while spare.len() < RESERVE {
        match rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => spare.push(fd),
            Err(_) => break,
        }
    }
}

/// Makes an attempt that opens a descriptor, and one more with a descriptor of the reserve given up if there was none
/// left.
///
/// # Errors
/// What the last attempt says.
pub fn with<T>(attempt: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    match attempt() {
        Err(Errno::MFILE | Errno::NFILE) => {}
        Ok(opened) => {
            fill();
            return Ok(opened);
        }
        Err(errno) => return Err(errno),
    }
    let spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop();
    if spare.is_none() {
        return attempt();
    }
    drop(spare);
    attempt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use std::process::{Command, Stdio};

    #[test]
    fn the_last_descriptors_are_for_what_must_not_fail() {
        // In a process of its own, whose limit may be lowered.
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "linux::reserve::tests::at_the_limit", "--ignored", "--test-threads=1"])
            .env("LPM_TEST_RESERVE", "1")
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
    }

    #[test]
    #[ignore = "run by the_last_descriptors_are_for_what_must_not_fail"]
    #[expect(clippy::disallowed_methods, reason = "tells whether it was started by the other test")]
    fn at_the_limit() {
        if std::env::var_os("LPM_TEST_RESERVE").is_none() {
            return;
        }
        fill();
        let before = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(64), maximum: before.maximum }).unwrap();
        let open = || rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut held = Vec::new();
        while let Ok(fd) = open() {
            held.push(fd);
        }
        assert!(matches!(open(), Err(Errno::MFILE)));
        let first = with(open).expect("the reserve gives one");
        drop(first);
        fill();
        let all: Vec<_> = (0..RESERVE).map(|_| with(open)).collect();
        assert!(all.iter().all(Result::is_ok));
        assert!(matches!(with(open), Err(Errno::MFILE)));
        drop((held, all));
    }
}
