//! What a running stack is told: `memory-max=1G` for `web`. The words of it, checked as far as they can be
//! without the stack.
//!
//! What a value means, and whether there is a `web`, is found by [`load`](super::load), with all else: there
//! is one way to a stack. Environment and working directory cannot be told: what runs has them already.

use super::error::quote;
use super::options::Assignment;
use super::stack::Stack;
use super::table;
use super::{Target, entries_of};

/// Reads `memory-max=1G cpu=150%`, each word one setting of `name`. Keys come out as lpm.toml spells them.
///
/// # Errors
/// A word that is no assignment, a key that does not exist or cannot be told, no word at all.
pub fn assignments(name: &str, words: &[String]) -> Result<Vec<Assignment>, String> {
    if words.is_empty() {
        return Err("nothing to set (write memory-max=1G)".to_owned());
    }
    let read = |word: &String| {
        let (name_of_key, value) = match word.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value.trim())),
            None => (word.trim(), None),
        };
        let key = table::to_set(name_of_key)?.key;
        match value {
            Some(value) => {
                Ok(Assignment { name: name.to_owned(), key: key.to_owned(), value: value.to_owned() })
            }
            None => Err(format!("{} has no value (write {key}=VALUE)", quote(word))),
        }
    };
    words.iter().map(read).collect()
}

/// Whether `stack` has what `name` means (`all`, `web`, `web.2` whether it exists or not), or the refusal.
///
/// For who takes a new assignment: `load` only warns of a name that is not there, because a reload must not
/// fail for what was told to a process type that is gone since.
///
/// # Errors
/// An unknown process type, listing those there are; a number that is none.
pub fn check_target(name: &str, stack: &Stack) -> Result<(), String> {
    Target::parse(name, &entries_of(stack)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Vec<String>, String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let all = assignments("web", &words)?;
        assert!(all.iter().all(|assignment| assignment.name == "web"));
        Ok(all.into_iter().map(|assignment| format!("{}={}", assignment.key, assignment.value)).collect())
    }

    #[test]
    fn words_are_keys_and_values() {
        assert_eq!(
            read(&["memory-max=1G", "cpu-quota = 150% ", "timeout-stop=1min 30s", "stop-signal="]),
            Ok(vec![
                "memory-max=1G".into(),
                "cpu-quota=150%".into(),
                "timeout-stop=1min 30s".into(),
                "stop-signal=".into()
            ])
        );
    }

    #[test]
    fn the_options_short_names_are_known() {
        for (short, long) in [
            ("mem", "memory-max"),
            ("mem-high", "memory-high"),
            ("swap", "memory-swap-max"),
            ("cpu", "cpu-quota"),
            ("cpu-weight", "cpu-weight"),
            ("tasks", "tasks-max"),
            ("timeout", "timeout-stop"),
            ("stop-signal", "stop-signal"),
            ("quiet", "quiet"),
        ] {
            assert_eq!(read(&[&format!("{short}=1")]), Ok(vec![format!("{long}=1")]));
        }
    }

    #[test]
    fn what_is_no_setting_is_refused() {
        for (words, message) in [
            (&[][..], "nothing to set (write memory-max=1G)"),
            (&["memory-max"], "\"memory-max\" has no value (write memory-max=VALUE)"),
            (&["mem"], "\"mem\" has no value (write memory-max=VALUE)"),
            (&["memroy-max=1G"], "unknown key \"memroy-max\" (write memory-max)"),
            (
                &["tasks=4", "environment=A"],
                "environment cannot be set in a running stack (write it into lpm.toml and reload)",
            ),
            (
                &["log=none"],
                "log cannot be changed while the stack runs (write it into lpm.toml, then start anew)",
            ),
        ] {
            assert_eq!(read(words), Err(message.to_owned()));
        }
        let keys: Vec<&str> = table::rows().filter(|row| row.can_be_set()).map(|row| row.key).collect();
        let message = format!("unknown key \"\" (known here: {})", keys.join(", "));
        assert_eq!(read(&["=1G"]), Err(message));
    }
}
