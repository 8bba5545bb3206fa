//! Words that stand for the values of an enum: each is written down once, here and nowhere else.

use super::error::{nearest, quote};
use super::quantity::Parsed;
use super::stack::{ExitCodeRule, KillMode, Limits, RestartWhen};

/// An enum whose values have words.
pub trait Words: Copy + PartialEq + 'static {
    /// Each value with its word.
    const WORDS: &'static [(&'static str, Self)];

    /// The word of this value.
    fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, value)| *value == self);
        found.expect("each value has a word").0
    }

    /// The value of that word.
    fn of_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|&(_, value)| value)
    }

    /// All words.
    fn all() -> Vec<&'static str> {
        Self::WORDS.iter().map(|(word, _)| *word).collect()
    }
}

impl Words for KillMode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("control-group", Self::ControlGroup), ("mixed", Self::Mixed)];
}

impl Words for RestartWhen {
    const WORDS: &'static [(&'static str, Self)] =
        &[("no", Self::No), ("on-failure", Self::OnFailure), ("always", Self::Always)];
}

impl Words for Limits {
    const WORDS: &'static [(&'static str, Self)] =
        &[("strict", Self::Strict), ("best-effort", Self::BestEffort)];
}

impl Words for ExitCodeRule {
    const WORDS: &'static [(&'static str, Self)] =
        &[("first", Self::First), ("worst", Self::Worst), ("zero", Self::Zero)];
}

/// Which wins where both an env file and the inherited environment set a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precedence {
    /// The file.
    File,
    /// What was inherited.
    Inherited,
}

impl Words for Precedence {
    const WORDS: &'static [(&'static str, Self)] = &[("file", Self::File), ("inherited", Self::Inherited)];
}

/// The word among `words` that `text` is, or a refusal that lists them.
pub(super) fn choose(text: &str, what: &str, words: &[&'static str]) -> Parsed<&'static str> {
    if let Some(word) = words.iter().find(|word| **word == text) {
        return Ok(word);
    }
    let meant = match nearest(text, words.iter().copied()) {
        Some(near) => near.to_owned(),
        None => {
            let (last, first) = words.split_last().expect("there is a word to write");
            format!("{} or {last}", first.join(", "))
        }
    };
    Err(format!("{} is not {what} (write {meant})", quote(text)))
}
