//! What is wrong with the text, and where. One diagnostic is one line for the user.
//!
//! A message says what is wrong and, in brackets, what to write instead: lower case, no period. It never
//! holds the value of an environment variable, because messages end up in logs.

use std::fmt;

/// How much a [`Diagnostic`] weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; everything written is used. Only `check` says it, and does not fail for it.
    Note,
    /// Something written is ignored or cannot do what it seems to. `start` says it and goes on, `check`
    /// fails.
    Warning,
    /// Nothing runs.
    Error,
}

/// Where something was written: `Procfile:3`, or `--mem` for what has no lines.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// A file as the user named it, or the option or variable that was typed.
    pub source: String,
    /// 1-based; `None` for options.
    pub line: Option<usize>,
}

impl Place {
    /// A line of a file.
    pub fn line(source: &str, line: usize) -> Self {
        Self { source: source.to_owned(), line: Some(line) }
    }

    /// A source as a whole: an option, a variable, an empty file.
    pub fn whole(source: &str) -> Self {
        Self { source: source.to_owned(), line: None }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.source),
            None => f.write_str(&self.source),
        }
    }
}

/// One finding about the text. `Display` leaves the severity to whoever prints it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// Whether anything runs in spite of it.
    pub severity: Severity,
    /// Where; `None` when no single place is to blame.
    pub place: Option<Place>,
    /// What is wrong and what to write instead.
    pub message: String,
}

impl Diagnostic {
    /// An [`Severity::Error`] at `place`.
    pub fn error(place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, place: place.into(), message: message.into() }
    }

    /// A [`Severity::Warning`] at `place`.
    pub fn warning(place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, place: place.into(), message: message.into() }
    }

    /// A [`Severity::Note`] at `place`.
    pub fn note(place: impl Into<Option<Place>>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Note, place: place.into(), message: message.into() }
    }

    /// Whether nothing may run because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// The most findings about one file: a file with more is not the one that was meant, and each finding is a text.
pub const MOST_FINDINGS: usize = 1000;

/// What is found in one file, up to [`MOST_FINDINGS`].
#[derive(Debug, Default)]
pub(super) struct Findings {
    found: Vec<Diagnostic>,
    full: bool,
}

impl Findings {
    /// Takes in one more. Of too many notes the rest is left out; too many warnings and errors are an error.
    pub(super) fn add(&mut self, finding: Diagnostic) {
        if self.found.len() < MOST_FINDINGS {
            self.found.push(finding);
        } else if finding.severity != Severity::Note && !self.full {
            self.full = true;
            let message = format!(
                "{MOST_FINDINGS} findings are enough; from here on nothing is read (is it the right file?)"
            );
            self.found.push(Diagnostic::error(finding.place, message));
        }
    }

    /// Whether the rest of the file is not worth reading.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    pub(super) fn into_vec(self) -> Vec<Diagnostic> {
        self.found
    }
}

/// `text` in double quotes, control characters escaped and shortened: what a user typed may be binary.
pub(super) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut quoted = String::from("\"");
    for (index, character) in text.chars().enumerate() {
        if index == LONGEST {
            quoted.push('…');
            break;
        }
        match character {
            '"' | '\\' => quoted.push(character),
            _ => quoted.extend(character.escape_debug()),
        }
    }
    quoted.push('"');
    quoted
}

/// `text` as [`quote`] shows it, without the quotes: for what is to be written instead.
pub(super) fn unquoted(text: &str) -> String {
    let quoted = quote(text);
    quoted[1..quoted.len() - 1].to_owned()
}

/// `a, b, c`, cut short where nobody would read on.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 32;
    let mut text = String::new();
    for (index, name) in names.into_iter().enumerate() {
        if index == MOST {
            text.push_str(", …");
            break;
        }
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(name);
    }
    text
}

/// The longest name, in bytes, for which a near one is looked for: each candidate costs the product of both lengths.
const LONGEST_GUESSED: usize = 64;

/// The most known names that are looked at for a near one.
const MOST_GUESSED: usize = 20_000;

/// The known name that `name` was most likely meant to be, by edit distance; `None` when nothing is near.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST_GUESSED {
        return None;
    }
    let near = known
        .into_iter()
        .take(MOST_GUESSED)
        .filter_map(|candidate| Some((nearness(name, candidate)?, candidate)));
    near.min_by_key(|&(distance, _)| distance).map(|(_, candidate)| candidate)
}

/// How many slips lead from `name` to `candidate`; `None` if it was hardly meant. Two are forgiven in a short word, a
/// third of the letters in a long one.
pub fn nearness(name: &str, candidate: &str) -> Option<usize> {
    let (length, other) = (name.chars().count(), candidate.chars().count());
    let allowed = (length / 3).max(2);
    if length.abs_diff(other) > allowed {
        return None;
    }
    let distance = distance(name, candidate);
    (distance <= allowed && distance < other).then_some(distance)
}

/// Levenshtein's distance in characters, two rows at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diagnostic_reads_place_then_message() {
        let located = Diagnostic::error(Place::line("Procfile", 3), "no processes defined");
        assert_eq!(located.to_string(), "Procfile:3: no processes defined");
        let option = Diagnostic::error(Place::whole("--mem"), "\"512X\" is not a size (write 512M)");
        assert_eq!(option.to_string(), "--mem: \"512X\" is not a size (write 512M)");
        assert_eq!(Diagnostic::note(None, "a note").to_string(), "a note");
    }

    #[test]
    fn findings_end_at_their_limit() {
        let mut findings = Findings::default();
        (1..=MOST_FINDINGS)
            .for_each(|line| findings.add(Diagnostic::warning(Place::line("odd", line), "odd")));
        findings.add(Diagnostic::note(None, "a note"));
        assert!(!findings.is_full());
        (1..3).for_each(|more| {
            findings.add(Diagnostic::error(Place::line("odd", MOST_FINDINGS + more), "wrong"))
        });
        assert!(findings.is_full());
        let found = findings.into_vec();
        assert_eq!(found.len(), MOST_FINDINGS + 1);
        let last = found[MOST_FINDINGS].to_string();
        assert!(
            found[MOST_FINDINGS].is_error() && last.starts_with("odd:1001: 1000 findings are enough; "),
            "{last}"
        );
    }

    #[test]
    fn quotes_escape_control_characters_and_stay_short() {
        assert_eq!(quote("a\x1b[31m\n\0"), "\"a\\u{1b}[31m\\n\\0\"");
        assert_eq!(quote(&"x".repeat(500)).chars().count(), 63);
    }

    #[test]
    fn nearest_forgives_slips_and_nothing_else() {
        let known = ["memory-max", "memory-high", "cpu-quota"];
        assert_eq!(nearest("memroy-max", known), Some("memory-max"));
        assert_eq!(nearest("memory_max", known), Some("memory-max"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("x", ["db"]), None);
        let long = "n".repeat(LONGEST_GUESSED);
        assert_eq!(nearest(&long[1..], [long.as_str()]), Some(long.as_str()));
        assert_eq!(nearest(&format!("{long}m"), [long.as_str()]), None);
    }
}
