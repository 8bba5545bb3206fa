//! One function for each kind of text that others write and lpm reads. Each takes any bytes, and panics where lpm breaks
//! a promise.
//!
//! `tests/fuzz/main.rs` and the cargo-fuzz targets in `fuzz/` both call them. They use the crate from outside; what is
//! public for them alone is `#[doc(hidden)]` there.

mod config;
mod control;
mod linux;
mod text;

/// The longest input a target is given, bytes.
pub const LONGEST: usize = 64 * 1024;

/// A target by its name.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("procfile", config::procfile),
    ("dotenv", config::dotenv),
    ("manifest", config::manifest),
    ("settings", config::settings),
    ("names", config::names),
    ("quantities", config::quantities),
    ("filter", control::filter),
    ("wire", control::wire),
    ("frames", control::frames),
    ("scrape", control::scrape),
    ("keys", control::keys),
    ("cgroup", linux::cgroup),
    ("stat", linux::stat),
    ("record", linux::record),
    ("handover", linux::handover),
    ("lines", text::lines),
    ("sequences", text::sequences),
    ("screen", text::screen),
    ("meaning", text::meaning),
    ("journal", text::journal),
    ("view", text::view),
];

/// The bytes in pieces of the sizes that the first byte chooses, as reads deliver them.
fn pieces(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (&first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    // Of single bytes a few are enough, so that a target's cost is that of the code it calls.
    let size = match first {
        0..100 => 4096,
        first => 1 + usize::from(first - 100) * 7,
    };
    rest.chunks(size)
}

/// A part of the input; the first NUL ends it.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|&byte| byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}
