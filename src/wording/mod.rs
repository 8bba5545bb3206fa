//! What lpm says of a stack, in words: its own lines, why a life failed, what a run came to.
//!
//! Pure: values of the configuration and the core in, text out. How a line looks, and where it goes, is `output`'s
//! business; pages about what a client was told are `view`'s.

pub mod announce;
pub mod cause;
pub mod event;
pub mod summary;
