//! One client's connection: calls come out of it, replies go in, and it tells when the client is gone.
//!
//! What came too early (the next call, while one is being answered) waits in the inbox, which has a bound; behind
//! it the socket's own buffer fills, and then the client waits. A client that only closed its sending side
//! (`printf … | nc -NU …`) still gets its replies.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::frames::Frame;
use super::wire::{Call, Inbox};

/// How often a client is looked at that sends nothing any more but may still listen, or more than is taken in.
const STILL_THERE: Duration = Duration::from_secs(5);

/// Room that is made before something is read, bytes.
const ROOM: usize = 4096;

pub(super) struct Connection {
    stream: UnixStream,
    inbox: Inbox,
    /// The client sends nothing any more.
    ended: bool,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> Connection {
        Connection { stream, inbox: Inbox::default(), ended: false }
    }

    /// The next call; `None` when there is none that could be answered: the client left, or what it sends is no
    /// Varlink.
    pub(super) async fn call(&mut self) -> Option<Call> {
        loop {
            // As for frames.
            tokio::task::coop::consume_budget().await;
            match self.inbox.take() {
                Ok(Some(message)) => return serde_json::from_slice(&message).ok(),
                Ok(None) if self.ended => return None,
                Ok(None) => self.read().await.ok()?,
                Err(_) => return None,
            }
        }
    }

    /// The next frame, once the connection was upgraded; `None`: the client left, or what it sends is no frame.
    pub(super) async fn frame(&mut self) -> Option<Frame> {
        loop {
            // Thousands may be there already, and other clients have their turn between them.
            tokio::task::coop::consume_budget().await;
            match self.inbox.take_frame() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) if self.ended => return None,
                Ok(None) => self.read().await.ok()?,
                Err(_) => return None,
            }
        }
    }

    /// Ends when the client is gone and nothing can be told to it any more.
    pub(super) async fn gone(&mut self) {
        loop {
            if self.ended || !self.inbox.has_room() {
                if self.hung_up() {
                    return;
                }
                tokio::time::sleep(STILL_THERE).await;
            } else if self.read().await.is_err() {
                return;
            }
        }
    }

    /// Sends all of it, for as long as the client takes.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    async fn read(&mut self) -> io::Result<()> {
        let bytes = self.inbox.bytes();
        bytes.reserve(ROOM);
        if self.stream.read_buf(bytes).await? == 0 {
            self.ended = true;
        }
        Ok(())
    }

    /// Both directions are closed (POLLHUP; unix(7) has no other sign of it).
    fn hung_up(&self) -> bool {
        let mut fds = [PollFd::new(&self.stream, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&at_once)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
}
