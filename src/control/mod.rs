//! Control: one private socket on which a running stack can be asked and told.
//!
//! Varlink (varlink.org) on a Unix socket: JSON objects with a NUL byte after each, replies in the order of the
//! calls, `more` for streams, `upgrade` for terminals. `docs/control-protocol.md` has a transcript.
//!
//! ```text
//!   client ──socket──▶ server, on a thread of its own ──Call──▶ the loop (driver) ──▶ the core
//!          ◀── replies ─┘   reads leaves, lines, screens      ◀──Answer──┘
//! ```
//!
//! The loop never sees a client: it gets one [`Call`] at a time and answers it into a place that cannot block.
//! What takes time (reading the leaves' files, waiting for a client to read) happens on the server's thread,
//! where each connection is a task of its own. The thread begins with the first client: a stack that nobody
//! asks has none.
//!
//! It decides nothing: a request is the core's to judge, and a name is resolved by the loop against what there
//! is. The CLI is one client among others and has no private door.

pub mod attach;
pub mod chronicle;
pub mod client;
mod connection;
pub mod desk;
pub mod frames;
pub mod inside;
pub mod interface;
pub mod metrics;
mod readers;
pub mod scrape;
pub mod server;
mod service;
pub mod sieve;
pub mod socket;
pub mod standby;
pub mod wire;
pub mod words;

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::config::Signal;
use crate::supervisor::Client;
use attach::Seat;
use interface::{Change, Refusal, Status};
pub use words::Verb;

/// What the server tells the loop.
#[derive(Debug)]
pub enum Message {
    /// Somebody asks for something.
    Call(Call),
    /// Whoever asked went away before there was an answer.
    Left(Client),
    /// A viewer of this instance's terminal left.
    Unseated(String),
    /// [`server::Server::finish`] was carried out: everybody who followed something has all of it.
    Finished,
}

/// A question, and where its answer goes. Dropping it unanswered means that the stack is shutting down.
#[derive(Debug)]
pub struct Call {
    /// Who asks; no two calls have the same.
    pub client: Client,
    /// What.
    pub ask: Ask,
    /// One answer.
    pub answer: oneshot::Sender<Result<Answer, Refusal>>,
}

/// How closely instances are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// What a list shows of them.
    List,
    /// All that is counted.
    Usage,
    /// That, who is in their leaves, and what those that failed have said last.
    All,
}

/// What can be asked of the loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// How things stand.
    Status {
        /// Whom; all, if nobody is named.
        names: Vec<String>,
        /// How much of it.
        depth: Depth,
    },
    /// Who is meant by these names.
    Who {
        /// All, if nobody is named.
        names: Vec<String>,
    },
    /// Have something done to some instances.
    Do {
        /// What.
        verb: Verb,
        /// Whom; all, if nobody is named.
        names: Vec<String>,
        /// Answer only when it is done.
        wait: bool,
    },
    /// Send a signal.
    Signal {
        /// Whom; never empty.
        names: Vec<String>,
        /// Which.
        signal: Signal,
        /// The main processes alone.
        main: bool,
    },
    /// Have so many.
    Scale {
        /// By process type.
        counts: BTreeMap<String, u32>,
        /// Answer only when it is done.
        wait: bool,
    },
    /// Change settings.
    Set {
        /// `all`, a process type, an instance.
        name: String,
        /// Keys of lpm.toml with their values as text.
        settings: BTreeMap<String, String>,
    },
    /// Read the files again and apply what changed.
    Reload {
        /// Only say what would change.
        dry_run: bool,
        /// Answer only when it is done.
        wait: bool,
    },
    /// Lend the terminal of an instance.
    Attach {
        /// One instance.
        name: String,
    },
    /// Tear down.
    Down {
        /// Answer only when it is done.
        wait: bool,
    },
}

/// What the loop answers.
pub enum Answer {
    /// What the loop knows, to be completed by reading the leaves, which may take a while.
    Survey(Survey),
    /// A terminal.
    Seat(Seat),
    /// It is done, or under way: for whom, what is different, and what people should know.
    Done {
        /// Names, in file order.
        instances: Vec<String>,
        /// What is different.
        changes: Vec<Change>,
        /// One a line.
        notes: Vec<String>,
    },
}

/// Reads the leaves.
pub struct Survey {
    /// How they stand then.
    pub read: Box<dyn FnOnce() -> Status + Send>,
    /// It may wait for a process (for its command line, proc_pid_cmdline(5)), and not only for the kernel's counters.
    pub may_wait: bool,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Answer::Survey(_) => f.write_str("Survey"),
            Answer::Seat(seat) => f.debug_tuple("Seat").field(&seat.instance).finish(),
            Answer::Done { instances, changes, notes } => f
                .debug_struct("Done")
                .field("instances", instances)
                .field("changes", changes)
                .field("notes", notes)
                .finish(),
        }
    }
}
