//! What a connection has at hand: the way to the loop, what happened, what was said, and whether it all ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot, watch};

use super::chronicle::Chronicle;
use super::connection::Connection;
use super::interface::Refusal;
use super::readers::Readers;
use super::standby::Standby;
use super::{Answer, Ask, Call, Message};
use crate::output::history::History;
use crate::supervisor::Client;

/// Numbers of clients begin here; those below are the loop's own.
pub const FIRST_CLIENT: u64 = 1 << 32;

/// What the server has at hand.
pub struct Desk {
    /// To the loop.
    pub tell: Box<dyn Fn(Message) + Send + Sync>,
    /// What happened.
    pub chronicle: Arc<Chronicle>,
    /// What was said.
    pub history: Option<Arc<History>>,
    /// The most clients at a time.
    pub most_clients: usize,
    /// Threads that were made for this.
    pub standby: Standby,
}

/// The desk as the connections see it.
pub(super) struct Counter {
    pub(super) desk: Desk,
    /// For what may wait.
    pub(super) readers: Readers,
    /// For lines that clients have not read yet.
    pub(super) copies: Copies,
    next: AtomicU64,
    finishing: watch::Receiver<bool>,
    following: mpsc::WeakSender<()>,
}

/// Why a call has no reply of its method's own.
pub(super) enum Trouble {
    /// The call is wrong.
    Wrong(super::wire::Failure),
    /// The interface's own errors.
    Refused(Refusal),
    /// Nobody is there to be told.
    Gone,
}

impl From<super::wire::Failure> for Trouble {
    fn from(failure: super::wire::Failure) -> Trouble {
        Trouble::Wrong(failure)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Trouble {
        Trouble::Refused(refusal)
    }
}

impl From<io::Error> for Trouble {
    fn from(_: io::Error) -> Trouble {
        Trouble::Gone
    }
}

impl Counter {
    /// `finishing` turns true when the stack is about to end; `following` is held by those who are to hear the rest.
    pub(super) fn new(
        mut desk: Desk,
        finishing: watch::Receiver<bool>,
        following: mpsc::WeakSender<()>,
    ) -> Counter {
        let reader = desk.standby.reader.take();
        Counter {
            desk,
            readers: Readers::new(reader),
            copies: Copies::default(),
            next: AtomicU64::new(FIRST_CLIENT),
            finishing,
            following,
        }
    }

    /// Asks the loop, and waits for its answer as long as the client does.
    pub(super) async fn ask(&self, connection: &mut Connection, ask: Ask) -> Result<Answer, Trouble> {
        let client = Client(self.next.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        (self.desk.tell)(Message::Call(Call { client, ask, answer }));
        tokio::select! {
            biased;
            answer = answered => match answer {
                Ok(answer) => Ok(answer?),
                // The loop has ended, or drops what it is not going to do.
                Err(_) => Err(Refusal::ShuttingDown {}.into()),
            },
            () = connection.gone() => {
                (self.desk.tell)(Message::Left(client));
                Err(Trouble::Gone)
            }
        }
    }

    /// To be held by whoever follows something; `None`: it is too late for that.
    pub(super) fn following(&self) -> Option<mpsc::Sender<()>> {
        self.following.upgrade()
    }

    /// Ends when the stack is about to end.
    pub(super) async fn finishing(&self) {
        let mut finishing = self.finishing.clone();
        // An error: the loop itself is gone.
        let _ = finishing.wait_for(|finishing| *finishing).await;
    }
}

/// The most that the clients of `Logs` have copied of the history and not read yet, all of them together, in bytes. Each
/// may stand still for as long as it likes (`lpm logs | less`), and holds its copy.
pub(super) const MOST_COPIED: usize = 256 << 20;

/// How much is copied and not read.
#[derive(Debug, Default)]
pub(super) struct Copies(AtomicUsize);

/// The part of one client, given back when this is dropped.
#[derive(Debug)]
pub(super) struct Copied<'a> {
    of: &'a Copies,
    bytes: usize,
}

impl Copies {
    /// Counts one more copy. A first one may have any size, since the history has a bound.
    ///
    /// # Errors
    /// How many bytes the others hold, if this would be too much beside them.
    pub(super) fn count(&self, bytes: usize) -> Result<Copied<'_>, usize> {
        // The server has one thread.
        let others = self.0.load(Ordering::Relaxed);
        if others > 0 && bytes > 0 && others + bytes > MOST_COPIED {
            return Err(others);
        }
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Ok(Copied { of: self, bytes })
    }
}

impl Drop for Copied<'_> {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_have_a_largest_sum_and_a_first_one_is_never_refused() {
        let copies = Copies::default();
        drop(copies.count(MOST_COPIED * 2).expect("it is alone"));
        let first = copies.count(MOST_COPIED - 10).expect("there is room");
        let second = copies.count(10).expect("there is room");
        assert_eq!(copies.count(1).map(drop), Err(MOST_COPIED));
        assert!(copies.count(0).is_ok(), "who takes nothing is not in the way");
        drop(first);
        assert_eq!(copies.count(MOST_COPIED).map(drop), Err(10));
        drop(second);
        assert_eq!(copies.0.load(Ordering::Relaxed), 0);
    }
}
