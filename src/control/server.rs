//! The server: a thread that accepts clients, and a task for each.
//!
//! It begins with the first client. Whoever connects must be us or root (`SO_PEERCRED`, unix(7)); the modes of the
//! socket and of its directory say the same, this one cannot be loosened by mistake. There are at most so many
//! clients as the limit of open files leaves beside the stack's own needs; one more is hung up on.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::chronicle::Chronicle;
use super::connection::Connection;
use super::interface::Refusal;
use super::service;
use super::{Answer, Ask, Call, Message};
use crate::output::history::History;
use crate::supervisor::Client;

/// How long the last words may take to reach those who follow something.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The most threads that look at processes at a time.
const MOST_READERS: usize = 4;

/// How long nobody is accepted after the kernel had no descriptor left.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

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

/// The loop's handle on the server's thread.
#[derive(Debug)]
pub struct Server {
    finish: watch::Sender<bool>,
}

impl Server {
    /// Starts the thread, which answers whoever connects to `listener`.
    ///
    /// # Errors
    /// What the kernel says to a thread, an epoll, an eventfd.
    pub fn start(listener: OwnedFd, desk: Desk) -> io::Result<Server> {
        let (finish, finishing) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(MOST_READERS)
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            UnixListener::from_std(listener.into())?
        };
        let serve = move || runtime.block_on(serve(listener, desk, finishing));
        std::thread::Builder::new().name("lpm-control".into()).stack_size(512 << 10).spawn(serve)?;
        Ok(Server { finish })
    }

    /// Whoever follows something gets the rest of it, and a last reply; then comes [`Message::Finished`].
    pub fn finish(&self) {
        self.finish.send_replace(true);
    }
}

async fn serve(listener: UnixListener, desk: Desk, mut finishing: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(desk.most_clients));
    let (following, mut followers) = mpsc::channel::<()>(1);
    let desk = Arc::new(Counter {
        desk,
        next: AtomicU64::new(FIRST_CLIENT),
        finishing: finishing.clone(),
        following: following.downgrade(),
    });
    let mut following = Some(following);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let ours = stream.peer_cred().is_ok_and(|peer| may(peer.uid()));
                    // Dropped, it is hung up on.
                    if let (true, Ok(place)) = (ours, Arc::clone(&places).try_acquire_owned()) {
                        let desk = Arc::clone(&desk);
                        tokio::spawn(async move {
                            service::serve(Connection::new(stream), &desk).await;
                            drop(place);
                        });
                    }
                }
                // Descriptors, or a client that left at once.
                Err(_) => tokio::time::sleep(OUT_OF_FILES).await,
            },
            changed = finishing.changed(), if following.is_some() => {
                following = None;
                if changed.is_err() {
                    return;
                }
                let _ = tokio::time::timeout(LAST_WORDS, followers.recv()).await;
                (desk.desk.tell)(Message::Finished);
            }
        }
    }
}

/// Whether somebody with this user number may ask and tell: the owner and root.
fn may(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// The desk as the connections see it.
pub(super) struct Counter {
    pub(super) desk: Desk,
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
