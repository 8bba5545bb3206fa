//! Threads that are made before they are needed.
//!
//! `lpm status` is what people type when processes have filled a limit, and the kernel makes no new thread then. So the
//! threads that serve the first client are made with the stack. They sleep until they are given their work.

use std::io;
use std::sync::mpsc::{Sender, channel};
use std::thread;

type Work = Box<dyn FnOnce() + Send>;

/// A thread without work. Dropped, it ends.
#[derive(Debug)]
pub struct Waiting {
    give: Sender<Work>,
}

impl Waiting {
    /// Makes the thread; `stack` in bytes.
    ///
    /// # Errors
    /// What the kernel says, `EAGAIN` at the limit of processes for instance.
    pub(super) fn new(name: &str, stack: usize) -> io::Result<Waiting> {
        let (give, given) = channel::<Work>();
        let wait = move || {
            if let Ok(work) = given.recv() {
                work();
            }
        };
        thread::Builder::new().name(name.to_owned()).stack_size(stack).spawn(wait)?;
        Ok(Waiting { give })
    }

    /// Gives it its work, once.
    pub(super) fn work(self, work: impl FnOnce() + Send + 'static) {
        self.give.send(Box::new(work)).expect("the thread waits for this");
    }
}

/// What serves the first client.
#[derive(Debug, Default)]
pub struct Standby {
    /// The server's thread.
    pub(super) server: Option<Waiting>,
    /// The first one that reads leaves and /proc.
    pub(super) reader: Option<Waiting>,
}

impl Standby {
    /// Makes both threads as far as the kernel does; what is missing is made when it is needed.
    pub fn new() -> Standby {
        Standby { server: super::server::thread().ok(), reader: super::readers::thread().ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_does_what_it_is_given_and_ends_without() {
        let (tell, told) = channel();
        Waiting::new("waits", 64 << 10).unwrap().work(move || tell.send(7).unwrap());
        assert_eq!(told.recv(), Ok(7));
        drop(Waiting::new("waits", 64 << 10).unwrap());
    }
}
