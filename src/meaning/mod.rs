//! What lines say to whoever knows how programs write them: how bad something is, fields by name, the error that
//! ended a program.
//!
//! Guesses from text that anybody may have written. They choose colours and priorities and point at lines; nothing
//! is decided by them, and the lines themselves stay as they are. Pure: bytes in, values and text out.

pub mod level;
pub mod structured;
pub mod trace;
