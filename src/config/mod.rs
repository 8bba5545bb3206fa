//! Text in, one [`Stack`] or located errors out. Pure: reads no file, no environment, no clock.

pub mod stack;

pub use stack::*;
