//! What a connection has at hand: the way to the loop, what happened, what was said, and whether it all ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{mpsc, oneshot, watch};

use super::chronicle::Chronicle;
use super::connection::Connection;
use super::interface::Refusal;
use super::readers::Readers;
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
}

/// The desk as the connections see it.
pub(super) struct Counter {
    pub(super) desk: Desk,
    /// For what may wait.
    pub(super) readers: Readers,
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
        desk: Desk,
        finishing: watch::Receiver<bool>,
        following: mpsc::WeakSender<()>,
    ) -> Counter {
        Counter { desk, readers: Readers::new(), next: AtomicU64::new(FIRST_CLIENT), finishing, following }
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
