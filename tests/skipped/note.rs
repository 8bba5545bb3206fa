//! Notes of tests that skip, for the target `skipped`, which lists them at the end of `cargo test`.
//!
//! libtest shows what a test printed only if it failed, so the notes go into a file beside the test's executable. All
//! targets of one `cargo test` are children of the same process, whose number is part of the file's name.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// `skipped!("NAME: REASON")`, in a test that returns then.
macro_rules! skipped {
    ($($words:tt)*) => { crate::skips::note(&format!($($words)*)) };
}

/// Notes one test.
pub fn note(line: &str) {
    eprintln!("skipped {line}");
    let file = place().and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
    // One write each, which other threads do not cut in two.
    let _ = file.map(|mut file| file.write_all(format!("skipped {line}\n").as_bytes()));
}

/// The file with the notes of this `cargo test`.
pub fn place() -> Option<PathBuf> {
    let cargo = rustix::process::getppid()?.as_raw_nonzero();
    Some(std::env::current_exe().ok()?.with_file_name(format!("skipped-by-{cargo}")))
}
