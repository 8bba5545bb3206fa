//! Waiting with an end. Where the kernel tells of an event, wait for that (a pidfd, a pipe); this is for
//! what nobody announces: it looks again and again, and gives up. It never waits "long enough".

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// How long anything may take that is expected to happen. Generous: guests are emulated.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Tries `look` until it finds something; panics with `what` when `within` is over.
#[track_caller]
pub fn until<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        pause();
    }
}

/// Between two looks at something that nobody announces.
pub fn pause() {
    assert_eq!(readable_of(&[], Instant::now() + Duration::from_millis(20)), None);
}

/// Waits until one of the descriptors (a pidfd, a pipe) can be read or has come to its end: the first of
/// them, or none when the deadline came before. A deadline in the past finds none, so that a stream
/// without end cannot hold anyone up.
pub fn readable_of(fds: &[BorrowedFd<'_>], deadline: Instant) -> Option<usize> {
    let mut fds: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    loop {
        let left = deadline.checked_duration_since(Instant::now())?;
        let timeout = Timespec::try_from(left).expect("a deadline is near");
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return fds.iter().position(|fd| !fd.revents().is_empty()),
            Err(error) => panic!("poll: {error}"),
        }
    }
}
