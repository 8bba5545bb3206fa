//! Turns: which of several sources of work is served next.
//!
//! A source that always has work, clients that call without end for instance, must not keep a signal, an exit or a
//! deadline waiting. So the source that was served last is asked last.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// Remembers whose turn it is.
#[derive(Debug, Default)]
pub(super) struct Turns {
    first: usize,
}

impl Turns {
    /// Waits for the first source that has something. Of those that have, the source whose turn it is gets
    /// served, and each of N is served within N calls.
    pub async fn next<T, const N: usize>(
        &mut self,
        mut sources: [Pin<&mut (dyn Future<Output = T> + '_)>; N],
    ) -> T {
        let first = self.first;
        let (served, found) = poll_fn(|context| {
            for step in 0..N {
                let at = (first + step) % N;
                if let Poll::Ready(found) = sources[at].as_mut().poll(context) {
                    return Poll::Ready((at, found));
                }
            }
            Poll::Pending
        })
        .await;
        self.first = (served + 1) % N;
        found
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn sources_that_never_run_dry_are_served_in_turn() {
        block_on(async {
            let mut turns = Turns::default();
            let mut served = Vec::new();
            for _ in 0..9 {
                let (a, b, c) = (pin!(ready('a')), pin!(ready('b')), pin!(ready('c')));
                served.push(turns.next([a, b, c]).await);
            }
            assert_eq!(served.iter().collect::<String>(), "abcabcabc");
        });
    }

    #[test]
    fn a_source_that_becomes_ready_waits_for_each_other_source_once_at_most() {
        block_on(async {
            for already_served in 0..8 {
                let mut turns = Turns::default();
                for _ in 0..already_served {
                    let (busy, quiet, busy_too) = (pin!(ready(0)), pin!(pending()), pin!(ready(2)));
                    turns.next([busy, quiet, busy_too]).await;
                }
                let mut waited = 0;
                loop {
                    let (busy, now_ready, busy_too) = (pin!(ready(0)), pin!(ready(1)), pin!(ready(2)));
                    if turns.next([busy, now_ready, busy_too]).await == 1 {
                        break;
                    }
                    waited += 1;
                }
                assert!(waited <= 2, "{waited} turns");
            }
        });
    }
}
