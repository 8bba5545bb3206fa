//! What a user sees, kept in files beside the tests, one section for each thing that was tried.
//!
//! A changed text fails the test and shows both. `UPDATE_SNAPSHOTS=1 cargo test --test cli` writes the files
//! anew; what changed is then for the eye, in the diff.

use std::path::PathBuf;

/// Sections of one file, in order.
pub struct Snapshot {
    name: &'static str,
    text: String,
}

impl Snapshot {
    pub fn new(name: &'static str) -> Snapshot {
        Snapshot { name, text: String::new() }
    }

    /// Adds what came of `tried`.
    pub fn add(&mut self, tried: &str, came: &str) {
        let end = if came.is_empty() || came.ends_with('\n') { "" } else { "\n" };
        self.text.push_str(&format!("==== {tried}\n{came}{end}\n"));
    }

    /// Holds everything against the file.
    #[track_caller]
    pub fn assert(self) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cli/snapshots").join(self.name);
        if std::env::vars().any(|(name, _)| name == "UPDATE_SNAPSHOTS") {
            return std::fs::write(path, self.text).expect("the snapshot can be written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let sections = |text: &str| text.split("==== ").map(str::to_owned).collect::<Vec<_>>();
        let (kept, came) = (sections(&kept), sections(&self.text));
        let differ = came.iter().filter(|section| !kept.contains(section));
        let gone = kept.iter().filter(|section| !came.contains(section));
        let (differ, gone) = (differ.cloned().collect::<String>(), gone.cloned().collect::<String>());
        assert!(
            differ.is_empty() && gone.is_empty() && kept.len() == came.len(),
            "{}: now\n{differ}\nwas\n{gone}",
            self.name
        );
    }
}
