//! What wakes the loop: signals, the clock, and readiness.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::linux::signals::{self, Caught};
use crate::supervisor::{InstanceId, Life};

/// A cgroup file notifies again only after it was read.
pub(super) fn rearm(file: &OwnedFd) {
    let _ = rustix::io::pread(file, &mut [0; 256], 0);
}

/// The driver's clock: the one place where the time comes from.
pub(super) struct Clock {
    start: tokio::time::Instant,
}

impl Clock {
    pub(super) fn start() -> Clock {
        Clock { start: tokio::time::Instant::now() }
    }

    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    pub(super) async fn sleep_until(&self, time: Option<Duration>) {
        match time {
            Some(time) => tokio::time::sleep_until(self.start + time).await,
            None => std::future::pending().await,
        }
    }
}

/// One epoll for everything that belongs to the stack.
pub(super) struct Watch {
    epoll: AsyncFd<OwnedFd>,
}

impl Watch {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an OwnedFd stays open as long as it is registered"
    )]
    pub(super) fn new() -> std::io::Result<Watch> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Watch { epoll: AsyncFd::with_interest(epoll, Interest::READABLE)? })
    }

    pub(super) fn add(&self, fd: impl AsFd, flags: EventFlags, key: Key) -> Result<(), Errno> {
        epoll::add(self.epoll.get_ref(), fd, EventData::new_u64(key.0), flags)
    }

    pub(super) fn remove(&self, fd: impl AsFd) {
        let _ = epoll::delete(self.epoll.get_ref(), fd);
    }

    /// Waits until something is ready; what it is, at most 64 at a time.
    pub(super) async fn ready(&self) -> Vec<Key> {
        loop {
            let Ok(mut guard) = self.epoll.readable().await else { std::future::pending().await };
            let mut events = Vec::with_capacity(64);
            let none = rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 };
            let spare = rustix::buffer::spare_capacity(&mut events);
            let waited = epoll::wait(self.epoll.get_ref(), spare, Some(&none));
            if events.is_empty() {
                match waited {
                    Ok(_) => guard.clear_ready(),
                    // It says nothing of what is ready, and the readiness of this epoll is told once.
                    Err(_) => tokio::task::yield_now().await,
                }
                continue;
            }
            return events.iter().map(|event| Key(event.data.u64())).collect();
        }
    }
}

/// What a watched descriptor is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Exit,
    /// `cgroup.events`: whether anybody is there, whether everybody stands still.
    Events,
    Resource,
    Guardian,
    /// The first client.
    Listener,
    /// Who waits for the stack to be up.
    Launcher,
    /// Whether the guardian's cgroup is frozen.
    Frozen,
}

impl Key {
    pub(super) fn new(kind: u64, life: Life) -> Key {
        Key(kind << 32 | u64::from(life.instance.0))
    }

    pub(super) fn exit(life: Life) -> Key {
        Key::new(0, life)
    }

    pub(super) fn events(life: Life) -> Key {
        Key::new(1, life)
    }

    pub(super) fn resource(life: Life) -> Key {
        Key::new(2, life)
    }

    pub(super) fn guardian() -> Key {
        Key(3 << 32)
    }

    pub(super) fn listener() -> Key {
        Key(4 << 32)
    }

    pub(super) fn launcher() -> Key {
        Key(5 << 32)
    }

    pub(super) fn frozen() -> Key {
        Key(6 << 32)
    }

    pub(super) fn kind(self) -> Kind {
        match self.0 >> 32 {
            0 => Kind::Exit,
            1 => Kind::Events,
            2 => Kind::Resource,
            3 => Kind::Guardian,
            4 => Kind::Listener,
            5 => Kind::Launcher,
            _ => Kind::Frozen,
        }
    }

    pub(super) fn instance(self) -> InstanceId {
        InstanceId(self.0 as u32)
    }
}

/// The signals lpm acts on. SIGCHLD only wakes the reaper.
pub(super) struct Signals {
    caught: AsyncFd<Caught>,
}

impl Signals {
    /// `window`: also when the terminal's size changes.
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the descriptor of caught signals is never closed"
    )]
    pub(super) fn new(ignore_hangup: bool, window: bool) -> std::io::Result<Signals> {
        let mut numbers = vec![
            libc::SIGINT,
            libc::SIGTERM,
            libc::SIGQUIT,
            libc::SIGUSR1,
            libc::SIGUSR2,
            libc::SIGCONT,
            libc::SIGCHLD,
        ];
        // Nobody would continue PID 1.
        if !rustix::process::getpid().is_init() {
            numbers.push(libc::SIGTSTP);
        }
        // nohup asked for this, and it stays so.
        if !ignore_hangup {
            numbers.push(libc::SIGHUP);
        }
        if window {
            numbers.push(libc::SIGWINCH);
        }
        Ok(Signals { caught: AsyncFd::with_interest(signals::catch(&numbers)?, Interest::READABLE)? })
    }

    /// The next signal that arrived.
    pub(super) async fn next(&mut self) -> i32 {
        loop {
            if let Some(signal) = self.caught.get_ref().next() {
                return signal;
            }
            let Ok(mut ready) = self.caught.readable().await else { std::future::pending().await };
            // What comes after this makes it readable again.
            self.caught.get_ref().rest();
            ready.clear_ready();
        }
    }
}
