//! The core in a simulated world: stories that show one thing each, and promises held over random events.

mod promises;
mod stories;
mod world;
