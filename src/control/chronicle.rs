//! The last [`KEPT`] events of the stack, for clients that ask later or follow.
//!
//! The loop writes, clients read. A reader holds nothing but the number of the event it wants next, so one that
//! never reads costs nothing; one that is late learns how many it missed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::interface::Event;
use crate::output::history::EventId;

/// How many events are kept.
pub const KEPT: usize = 1000;

/// The latest events.
#[derive(Debug, Default)]
pub struct Chronicle(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<Arc<Event>>,
    /// The number of the next one that is written down.
    next: u64,
    /// The number of the next one that happens.
    given: u64,
    waiting: Vec<Waker>,
    closed: bool,
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// So many went by unread; what is there comes next.
    Missed(u64),
    /// An event.
    Event(Arc<Event>),
    /// There will be no more.
    End,
}

impl Chronicle {
    /// The number of an event that has just happened. It may be told of before it is written down, and others may
    /// happen meanwhile; they are written down in the order of their numbers.
    pub fn number(&self) -> EventId {
        let mut inner = self.lock();
        inner.given += 1;
        EventId(inner.given - 1)
    }

    /// Writes the next event down, under its number.
    pub fn write(&self, id: EventId, event: Event) {
        let mut inner = self.lock();
        debug_assert_eq!(id.0, inner.next, "events are written down in the order of their numbers");
        let event = Event { sequence: id.0, ..event };
        inner.next = id.0 + 1;
        if inner.events.len() == KEPT {
            inner.events.pop_front();
        }
        inner.events.push_back(Arc::new(event));
        inner.waiting.drain(..).for_each(Waker::wake);
    }

    /// There will be no more.
    pub fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.waiting.drain(..).for_each(Waker::wake);
    }

    /// The number of the next event that is written down.
    pub fn next(&self) -> u64 {
        self.lock().next
    }

    /// The number of the oldest that is kept.
    pub fn oldest(&self) -> u64 {
        let inner = self.lock();
        inner.next - inner.events.len() as u64
    }

    /// The event number `at`, which is advanced; waits for it if it has not happened.
    pub fn poll(&self, at: &mut u64, context: &mut Context<'_>) -> Poll<News> {
        let mut inner = self.lock();
        let oldest = inner.next - inner.events.len() as u64;
        if *at < oldest {
            let missed = oldest - *at;
            *at = oldest;
            return Poll::Ready(News::Missed(missed));
        }
        if let Some(event) = inner.events.get((*at - oldest) as usize) {
            *at += 1;
            return Poll::Ready(News::Event(Arc::clone(event)));
        }
        if inner.closed {
            return Poll::Ready(News::End);
        }
        if !inner.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            inner.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(pid: u32) -> Event {
        Event {
            sequence: 0,
            time: 0,
            event: "started".into(),
            instance: None,
            message: String::new(),
            pid: Some(pid),
            exit_code: None,
            signal: None,
            result: None,
            usage: None,
            ceilings: None,
            cause: None,
            trace: None,
        }
    }

    fn poll(chronicle: &Chronicle, at: &mut u64) -> Poll<News> {
        chronicle.poll(at, &mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_late_reader_learns_how_many_it_missed_and_goes_on() {
        let chronicle = Chronicle::default();
        (0..KEPT as u32 + 5).for_each(|pid| chronicle.write(chronicle.number(), event(pid)));
        let mut at = 2;
        assert_eq!(poll(&chronicle, &mut at), Poll::Ready(News::Missed(3)));
        let Poll::Ready(News::Event(first)) = poll(&chronicle, &mut at) else { panic!("no event") };
        assert_eq!((first.sequence, first.pid), (5, Some(5)));
    }

    #[test]
    fn who_waits_is_told_of_the_next_and_of_the_end() {
        let chronicle = Chronicle::default();
        let mut at = chronicle.next();
        assert!(poll(&chronicle, &mut at).is_pending());
        let (first, second) = (chronicle.number(), chronicle.number());
        assert!(poll(&chronicle, &mut at).is_pending(), "they have happened, and are not written down");
        chronicle.write(first, event(1));
        assert!(matches!(poll(&chronicle, &mut at), Poll::Ready(News::Event(_))));
        assert!(poll(&chronicle, &mut at).is_pending());
        chronicle.write(second, event(2));
        let Poll::Ready(News::Event(event)) = poll(&chronicle, &mut at) else { panic!("no event") };
        assert_eq!((event.sequence, event.pid), (second.0, Some(2)));
        chronicle.close();
        assert_eq!(poll(&chronicle, &mut at), Poll::Ready(News::End));
    }
}
