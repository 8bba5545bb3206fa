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

pub mod interface;
