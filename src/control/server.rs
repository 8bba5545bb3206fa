//! The server: a thread that accepts clients, and a task for each.
//!
//! It begins with the first client. Whoever connects must be us or root (`SO_PEERCRED`, unix(7)); the modes of the
//! socket and of its directory say the same, this one cannot be loosened by mistake. There are at most so many
//! clients as the limit of open files leaves beside the stack's own needs; one more is hung up on.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc, watch};

use super::Message;
use super::connection::Connection;
use super::desk::{Counter, Desk};
use super::service;
use super::standby::Waiting;

/// How long the last words may take to reach those who follow something.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long nobody is accepted after the kernel had no descriptor left.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// The loop's handle on the server's thread.
#[derive(Debug)]
pub struct Server {
    finish: watch::Sender<bool>,
    listeners: mpsc::UnboundedSender<OwnedFd>,
}

impl Server {
    /// Starts the thread, which answers whoever connects to `listener`, by a descriptor of its own.
    ///
    /// # Errors
    /// What the kernel says to a thread, an epoll, an eventfd.
    pub fn start(listener: &OwnedFd, mut desk: Desk) -> io::Result<Server> {
        let thread = match desk.standby.server.take() {
            Some(waiting) => waiting,
            None => thread()?,
        };
        let (finish, finishing) = watch::channel(false);
        let runtime = Background::new()?;
        let listener = {
            let _inside = runtime.get().enter();
            UnixListener::from_std(listener.try_clone()?.into())?
        };
        let (listeners, further) = mpsc::unbounded_channel();
        thread.work(move || runtime.get().block_on(serve(listener, further, desk, finishing)));
        Ok(Server { finish, listeners })
    }

    /// Clients come in at `listener` from now on: the socket was made again.
    pub fn listen_at(&self, listener: OwnedFd) {
        // A thread that has ended serves none.
        let _ = self.listeners.send(listener);
    }

    /// Whoever follows something gets the rest of it, and a last reply; then comes [`Message::Finished`].
    pub fn finish(&self) {
        self.finish.send_replace(true);
    }
}

/// The server's thread, without work.
pub(super) fn thread() -> io::Result<Waiting> {
    Waiting::new("lpm-control", 512 << 10)
}

/// A runtime that may be dropped anywhere. The server is started on the loop's thread, inside of another runtime; should
/// the kernel refuse the thread, an ordinary runtime would panic there as it is dropped.
struct Background(Option<Runtime>);

impl Background {
    fn new() -> io::Result<Background> {
        Builder::new_current_thread().enable_io().enable_time().build().map(Some).map(Background)
    }

    fn get(&self) -> &Runtime {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

async fn serve(
    mut listener: UnixListener,
    mut further: mpsc::UnboundedReceiver<OwnedFd>,
    desk: Desk,
    mut finishing: watch::Receiver<bool>,
) {
    // A new listener that there was no descriptor for yet.
    let mut next: Option<OwnedFd> = None;
    let places = Arc::new(Semaphore::new(desk.most_clients));
    let (following, mut followers) = mpsc::channel::<()>(1);
    let desk = Arc::new(Counter::new(desk, finishing.clone(), following.downgrade()));
    let mut following = Some(following);
    loop {
        if let Some(new) = &next
            && let Ok(new) = new.try_clone().and_then(|new| UnixListener::from_std(new.into()))
        {
            (listener, next) = (new, None);
        }
        tokio::select! {
            Some(new) = further.recv() => next = Some(new),
            () = tokio::time::sleep(OUT_OF_FILES), if next.is_some() => {}
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
