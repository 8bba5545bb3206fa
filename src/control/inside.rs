//! A client inside lpm: a thread that asks the loop as others do over the socket, without one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use super::interface::Status;
use super::{Answer, Ask, Call, Depth, Message};
use crate::supervisor::Client;

/// Numbers of clients in here; those of the socket begin far below.
const FIRST: u64 = 1 << 48;

/// The way to the loop. It may be cloned, and given to any thread but the loop's own.
#[derive(Clone)]
pub struct Inside {
    tell: Arc<dyn Fn(Message) + Send + Sync>,
    next: Arc<AtomicU64>,
}

impl Inside {
    /// `tell` hands a message to the loop.
    pub fn new(tell: impl Fn(Message) + Send + Sync + 'static) -> Inside {
        Inside { tell: Arc::new(tell), next: Arc::new(AtomicU64::new(FIRST)) }
    }

    /// How all instances stand. Waits for the loop, and for the kernel's answers; `None` when the stack is about to
    /// end.
    pub fn status(&self) -> Option<Status> {
        let client = Client(self.next.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        let ask = Ask::Status { names: Vec::new(), depth: Depth::Usage };
        (self.tell)(Message::Call(Call { client, ask, answer }));
        match answered.blocking_recv() {
            Ok(Ok(Answer::Survey(survey))) => Some((survey.read)()),
            Ok(Ok(_) | Err(_)) | Err(_) => None,
        }
    }
}
