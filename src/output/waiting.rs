//! Who waits for what comes next: the readers of a history or of a screen, each in a seat of its own.
//!
//! The log thread pays for a reader only while that one waits, and then with one wake-up. A seat belongs to
//! its reader's position in the text; a reader that is gone takes it along, so that nothing piles up where
//! nothing ever comes.
//!
//! Nothing is woken here while the caller holds a lock: what is waiting is taken out under it, and woken when
//! it was let go.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Waker};

/// One reader's place. Whoever waits in it has left a waker.
#[derive(Debug, Default)]
pub(super) struct Seat(Mutex<Option<Waker>>);

/// The seats in which somebody waits.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<Weak<Seat>>);

impl Waiting {
    /// Waits in this seat. To be called under the lock under which it was seen that there is nothing yet.
    pub(super) fn wait(&mut self, seat: &Arc<Seat>, context: &Context<'_>) {
        let mut waker = seat.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Left before and still there: its seat is listed, or about to be woken by who took the list.
        let listed = waker.replace(context.waker().clone()).is_some();
        drop(waker);
        if !listed {
            self.0.retain(|seat| seat.strong_count() > 0);
            self.0.push(Arc::downgrade(seat));
        }
    }

    /// Everybody, to be woken once the lock was let go.
    #[must_use]
    pub(super) fn take(&mut self) -> Waiting {
        std::mem::take(self)
    }

    /// Wakes them.
    pub(super) fn wake(self) {
        for seat in self.0.iter().filter_map(Weak::upgrade) {
            let waker = seat.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_that_are_gone_leave_nothing() {
        let mut waiting = Waiting::default();
        let context = Context::from_waker(Waker::noop());
        for _ in 0..1000 {
            let seat = Arc::new(Seat::default());
            waiting.wait(&seat, &context);
            waiting.wait(&seat, &context);
        }
        assert_eq!(waiting.0.len(), 1, "and that one goes with the next");
    }
}
