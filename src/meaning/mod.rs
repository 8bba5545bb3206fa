//! The meaning of lines, by the forms that programs write: severity, fields by name, the error that ended a program.
//!
//! Guesses from text of any origin. They choose colours and priorities and point at lines; nothing
//! is decided by them, and the lines themselves stay as they are. Pure: bytes in, values and text out.

pub mod level;
pub mod structured;
pub mod trace;
