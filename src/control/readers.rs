//! The threads that read leaves and `/proc` for clients, so that the server's own thread never waits for a process.
//!
//! The first thread is made with the stack, and all stay: at the process limit, when people ask what fills it, no new
//! thread can be made. More are made while those that exist are busy; where that fails, the question waits its turn.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::sync::oneshot;

use super::standby::Waiting;

/// The most threads that look at processes at a time. Each may hang in a process that is in uninterruptible sleep.
const MOST: usize = 4;

/// Each thread's stack, bytes.
const STACK: usize = 1 << 20;

type Job = Box<dyn FnOnce() + Send>;

/// A few threads and their queue, which holds at most one job for each client.
pub(super) struct Readers {
    queue: Sender<Job>,
    /// Shared by the threads.
    jobs: Arc<Mutex<Receiver<Job>>>,
    /// Jobs that were put in and are not done.
    open: Arc<AtomicUsize>,
    threads: AtomicUsize,
    make: fn(Work) -> io::Result<()>,
}

type Work = Box<dyn FnOnce() + Send>;

/// The first thread, without work.
pub(super) fn thread() -> io::Result<Waiting> {
    Waiting::new("lpm-reader", STACK)
}

fn make(work: Work) -> io::Result<()> {
    thread::Builder::new().name("lpm-reader".into()).stack_size(STACK).spawn(work).map(drop)
}

impl Readers {
    /// With one thread, `waiting`, or else one that is made now, if it can be made.
    pub(super) fn new(waiting: Option<Waiting>) -> Readers {
        Readers::made_by(make, waiting)
    }

    fn made_by(make: fn(Work) -> io::Result<()>, waiting: Option<Waiting>) -> Readers {
        let (queue, jobs) = channel();
        let readers = Readers {
            queue,
            jobs: Arc::new(Mutex::new(jobs)),
            open: Arc::default(),
            threads: AtomicUsize::new(0),
            make,
        };
        match waiting {
            Some(waiting) => {
                let (jobs, open) = (Arc::clone(&readers.jobs), Arc::clone(&readers.open));
                waiting.work(move || work(&jobs, &open));
                readers.threads.store(1, Ordering::Relaxed);
            }
            // Where none can be made each question tries again.
            None => drop(readers.grow()),
        }
        readers
    }

    /// Has `read` called on a thread; its value comes out of the channel.
    ///
    /// # Errors
    /// There is no thread, and the kernel's reason why none could be made.
    pub(super) fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<oneshot::Receiver<T>> {
        let threads = self.threads.load(Ordering::Relaxed);
        if self.open.load(Ordering::Relaxed) >= threads && threads < MOST {
            match self.grow() {
                Err(error) if threads == 0 => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        let (tell, told) = oneshot::channel();
        self.open.fetch_add(1, Ordering::Relaxed);
        let job: Job = Box::new(move || {
            // The client left while this was in the queue.
            if !tell.is_closed() {
                let _ = tell.send(read());
            }
        });
        self.queue.send(job).expect("the receiver is in self");
        Ok(told)
    }

    fn grow(&self) -> io::Result<()> {
        let (jobs, open) = (Arc::clone(&self.jobs), Arc::clone(&self.open));
        (self.make)(Box::new(move || work(&jobs, &open)))?;
        self.threads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn work(jobs: &Mutex<Receiver<Job>>, open: &AtomicUsize) {
    loop {
        // The lock is held while this thread waits for a job, and the others wait for the lock.
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        job();
        open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn never(_: Work) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::WouldBlock))
    }

    #[test]
    fn without_a_thread_it_refuses_and_does_not_panic() {
        let readers = Readers::made_by(never, None);
        let refused = readers.read(|| 1).map(drop).expect_err("there is no thread");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(readers.open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_thread_is_there_before_it_is_needed_and_serves_all() {
        let mut readers = Readers::new(thread().ok());
        // From here on none can be made.
        readers.make = never;
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let hung = readers.read(move || wait.recv()).expect("a thread");
        let behind: Vec<_> = (0..100).map(|at| readers.read(move || at).expect("a queue")).collect();
        go.send(()).expect("it waits");
        assert!(hung.blocking_recv().is_ok());
        let told: Vec<i32> = behind.into_iter().map(|told| told.blocking_recv().expect("a value")).collect();
        assert_eq!(told, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn a_process_that_hangs_holds_up_one_of_several_threads() {
        let readers = Readers::new(None);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let hung = readers.read(move || wait.recv()).expect("a thread");
        assert_eq!(readers.read(|| 7).expect("another").blocking_recv(), Ok(7));
        assert_eq!(readers.threads.load(Ordering::Relaxed), 2);
        drop(go);
        assert!(hung.blocking_recv().is_ok());
        (0..50).for_each(|at| drop(readers.read(move || at)));
        assert!(readers.threads.load(Ordering::Relaxed) <= MOST);
    }
}
