//! What the control interface answers, written for people: values of [`crate::control::interface`] in, text out.
//!
//! | | for |
//! | --- | --- |
//! | [`list`] | `lpm status`: the stack, and a line for each instance |
//! | [`detail`] | `lpm status web.1`: all that is known of one instance |
//! | [`failure`] | the end of a run: why an instance failed |
//! | [`lines::Lines`] | `lpm logs` |
//! | [`event`] | `lpm events` |
//! | [`changes`] | `lpm reload`, `scale`, `set`, `restart`: what is different now |
//! | [`stacks`] | `lpm list` |
//! | [`top::Top`] | `lpm top` |
//!
//! Nothing here reads, writes, asks for the time, or knows a socket: the moment and the time zone are arguments,
//! so that a snapshot test sees what a person sees.
//!
//! **Nothing is wider than the terminal**, logs and events excepted, which are streams and are never cut. Tables
//! give up their columns one by one, the one of least worth first; what is then still too long is cut, and `…`
//! stands where.
//!
//! **Nothing is told by colour alone.** States are words, and their dots differ in shape.
//!
//! **Nobody else talks to the terminal.** Commands, titles of processes and paths are whatever somebody wrote:
//! control characters in them are shown (`\x1b`), here as in `output::terminal`.
//!
//! Environments do not travel, and so cannot be shown.

mod changes;
mod detail;
mod events;
mod failure;
mod gauge;
pub mod lines;
mod list;
pub mod moment;
mod stacks;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod text;
pub mod top;

pub use changes::changes;
pub use detail::detail;
pub use events::event;
pub use failure::failure;
pub use list::list;
pub use stacks::{StackAnswer, StackLine, stacks};

/// What it is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// How wide it may become; 80 where nobody knows, more than anything has for a file that is not to be cut.
    /// Below [`Look::NARROWEST`] it is taken to be that.
    pub columns: usize,
    /// With colours.
    pub colour: bool,
    /// A terminal reads it: control sequences in the lines of a log are shown instead of obeyed, colours excepted.
    /// Everything but logs never has any.
    pub terminal: bool,
}

impl Look {
    /// Nothing is laid out for less than so many columns.
    pub const NARROWEST: usize = 40;

    fn width(&self) -> usize {
        self.columns.max(Look::NARROWEST)
    }
}
