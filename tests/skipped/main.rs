//! What the tests before this target could not test here, each with its name and the reason. It never fails: where
//! nothing may be skipped, `tests/run` counts the lines.

#[path = "note.rs"]
#[expect(dead_code, unused_macros, reason = "notes are only read here")]
mod skips;

use std::collections::BTreeSet;
use std::path::Path;

fn main() {
    let Some(place) = skips::place().filter(|_| !std::env::args().any(|word| word == "--list")) else {
        return;
    };
    let notes = std::fs::read_to_string(&place).unwrap_or_default();
    let notes: BTreeSet<&str> = notes.lines().collect();
    if !notes.is_empty() {
        println!("\n{} skipped:", notes.len());
    }
    notes.iter().for_each(|note| println!("{note}"));
    let _ = std::fs::remove_file(&place);
    remove_old(place.parent().unwrap_or(Path::new("")));
}

/// Removes notes of runs that are over and had not got here: of a single target, or one that failed.
fn remove_old(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let cargo = name.to_str().and_then(|name| name.strip_prefix("skipped-by-"));
        if cargo.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
