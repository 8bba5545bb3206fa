//! Writes into `lpm.toml` what a running stack was told, so that the next start knows it too.
//!
//! Text in, text out: comments, order and spelling of everything else stay. What comes out means what the
//! running stack means: where `all` was told, a value that the file has for one process type alone would win
//! over it, and so it is replaced as well. Nothing is judged here; that the values are good was found when
//! the stack took them.

use std::collections::BTreeMap;

use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use super::options::Assignment;
use super::table;

/// Puts `assignments` into the text of an lpm.toml, which may be empty: those for `all` into `[defaults]`,
/// those for `web.2` into `[process."web.2"]`.
///
/// # Errors
/// What is no TOML, with its line; something else in the place of a table; a key that cannot be told.
pub fn save(text: &str, assignments: &[Assignment]) -> Result<String, String> {
    let mut draft = Draft::read(text)?;
    for Assignment { name, key, value } in assignments {
        let key = table::to_set(key)?.key;
        let value = literal(value.trim());
        match name.as_str() {
            "all" => draft.put(&["defaults"], key, &value)?,
            name => draft.put(&["process", name], key, &value)?,
        }
        draft.put_in_narrower(name, key, &value)?;
    }
    Ok(draft.write())
}

/// Puts the number of instances of these process types into the `formation` of `[stack]`; what it says of others
/// stays. Where it said nothing, there was one of each, which is written down with them: what a formation does not
/// list would be off.
///
/// # Errors
/// As for [`save`].
pub fn save_formation(text: &str, counts: &BTreeMap<String, u32>) -> Result<String, String> {
    let mut draft = Draft::read(text)?;
    let stack = draft.document.get("stack").and_then(Item::as_table_like);
    let before = stack.and_then(|stack| stack.get("formation")).and_then(Item::as_str).unwrap_or_default();
    let mut items: Vec<String> = match before.trim() {
        "" => vec!["all=1".to_owned()],
        list => list.split(',').map(|item| item.trim().to_owned()).collect(),
    };
    for (name, count) in counts {
        let of_it = |item: &&mut String| item.split_once('=').is_some_and(|(known, _)| known.trim() == name);
        let new = format!("{name}={count}");
        // Should it stand there twice, the last one holds.
        match items.iter_mut().rev().find(of_it) {
            Some(item) => *item = new,
            None => items.push(new),
        }
    }
    draft.put(&["stack"], "formation", &Value::from(items.join(",")))?;
    Ok(draft.write())
}

/// Where tables stand that were not in the file: behind all that were.
const BEHIND_ALL: isize = isize::MAX / 2;

/// The file, taken apart.
struct Draft {
    document: DocumentMut,
    /// How many tables were added.
    added: isize,
    /// What toml_edit does not keep: a byte order mark, and lines that end as on Windows.
    marked: bool,
    crlf: bool,
}

impl Draft {
    fn read(text: &str) -> Result<Self, String> {
        let (marked, text) = match text.strip_prefix('\u{feff}') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let document = text.parse::<DocumentMut>().map_err(|error| {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = memchr::memchr_iter(b'\n', &text.as_bytes()[..at]).count() + 1;
            format!("line {line}: {}", error.message().lines().collect::<Vec<_>>().join(", "))
        })?;
        let lines = text.matches('\n').count();
        let crlf = lines > 0 && text.matches("\r\n").count() == lines;
        Ok(Self { document, added: 0, marked, crlf })
    }

    fn write(self) -> String {
        let mut text = self.document.to_string();
        if self.crlf {
            text = text.replace('\n', "\r\n");
        }
        if self.marked {
            text.insert(0, '\u{feff}');
        }
        text
    }

    /// Sets `key` in the table of that path, which is made where it is missing.
    fn put(&mut self, path: &[&str], key: &str, value: &Value) -> Result<(), String> {
        let mut trailing = self.document.trailing().as_str().unwrap_or_default().to_owned();
        if !trailing.is_empty() && !trailing.ends_with('\n') {
            trailing.push('\n');
        }
        let mut table: &mut dyn TableLike = self.document.as_table_mut();
        let mut moved = false;
        for (depth, segment) in path.iter().enumerate() {
            if !table.contains_key(segment) {
                let mut new = Table::new();
                if table.is_dotted() {
                    new.set_dotted(true);
                } else if depth + 1 < path.len() {
                    new.set_implicit(true);
                } else {
                    self.added += 1;
                    new.set_position(Some(BEHIND_ALL + self.added));
                    // A comment at the end of the file stays behind what it was written behind.
                    if !trailing.is_empty() {
                        new.decor_mut().set_prefix(format!("{trailing}\n"));
                        moved = true;
                    }
                }
                table.insert(segment, Item::Table(new));
            }
            let item = table.get_mut(segment).expect("it was there or was made");
            table = item.as_table_like_mut().ok_or_else(|| {
                format!("{} is no table (write [{}])", path[..=depth].join("."), path[..=depth].join("."))
            })?;
        }
        set(table, key, value)?;
        if moved {
            self.document.set_trailing("");
        }
        Ok(())
    }

    /// Sets `key` wherever the file says it of less than `name`: it would win.
    fn put_in_narrower(&mut self, name: &str, key: &str, value: &Value) -> Result<(), String> {
        let Some(processes) = self.document.get_mut("process").and_then(Item::as_table_like_mut) else {
            return Ok(());
        };
        for (process, item) in processes.iter_mut() {
            let rest = process.get().strip_prefix(name);
            let narrower = name == "all" || rest.is_some_and(|rest| rest.starts_with('.'));
            match item.as_table_like_mut() {
                Some(table) if narrower && table.contains_key(key) => set(table, key, value)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Sets `key`; a comment behind the old value stays there.
fn set(table: &mut dyn TableLike, key: &str, value: &Value) -> Result<(), String> {
    let mut value = value.clone();
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        Some(Item::None) | None => {
            table.insert(key, Item::Value(value));
        }
        Some(Item::Table(_) | Item::ArrayOfTables(_)) => {
            return Err(format!("a table stands where the value of {key} belongs"));
        }
    }
    Ok(())
}

/// `text` as what it plainly is: a number, true or false, else text. The file is read back as text, so that a
/// number is one only if it is read back as it was written.
fn literal(text: &str) -> Value {
    // More digits than that and a float is not what was written.
    const MOST_DIGITS: usize = 15;
    if let Ok(number) = text.parse::<i64>()
        && number.to_string() == text
    {
        return Value::from(number);
    }
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let float = text.split_once('.').is_some_and(|(whole, fraction)| digits(whole) && digits(fraction));
    match text {
        "true" => Value::from(true),
        "false" => Value::from(false),
        // Parsed, not converted: 1.50 stays 1.50.
        _ if float && text.len() <= MOST_DIGITS => text.parse().unwrap_or_else(|_| Value::from(text)),
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{manifest, stack};
    use super::super::{Text, load};
    use super::*;

    fn told(all: &[(&str, &str, &str)]) -> Vec<Assignment> {
        let told = |&(name, key, value): &(&str, &str, &str)| Assignment {
            name: name.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        };
        all.iter().map(told).collect()
    }

    const FILE: &str = "\
# The shop.
[stack] # all of it
name = \"shop\"

[process.web]
# It leaks.
memory-max   = \"512M\" # for now
environment = { A = \"1\" }

[process.\"web.2\"]
memory-max = \"1G\"
# the end
";

    #[test]
    fn a_value_is_replaced_where_it_stands() {
        assert_eq!(save(FILE, &told(&[("web.2", "memory-max", "2G")])), Ok(FILE.replace("\"1G\"", "\"2G\"")));
        assert_eq!(
            save(FILE, &told(&[("web", "cpu", "1.5"), ("web", "can-die", "true")])),
            Ok(FILE.replace("A = \"1\" }\n", "A = \"1\" }\ncpu-quota = 1.5\ncan-die = true\n"))
        );
    }

    #[test]
    fn what_would_win_over_it_is_replaced_too() {
        let all = FILE.replace("\"1G\"", "\"64M\"").replace("\"512M\"", "\"64M\"");
        let all = all.replace("# the end\n", "# the end\n\n[defaults]\nmemory-max = \"64M\"\n");
        assert_eq!(save(FILE, &told(&[("all", "memory-max", "64M")])), Ok(all));
        let web = FILE.replace("\"1G\"", "\"64M\"").replace("\"512M\"", "\"64M\"");
        assert_eq!(save(FILE, &told(&[("web", "memory-max", "64M")])), Ok(web));
    }

    #[test]
    fn tables_and_files_are_made_where_they_are_missing() {
        let several = told(&[("all", "timeout", "10"), ("web", "mem", "1G"), ("web.2", "restart", "always")]);
        let expected = "[defaults]\ntimeout-stop = 10\n\n[process.web]\nmemory-max = \"1G\"\n\n\
                        [process.\"web.2\"]\nrestart = \"always\"\n";
        assert_eq!(save("", &several), Ok(expected.to_owned()));
        assert_eq!(
            save("# only a comment", &told(&[("web", "quiet", "yes")])),
            Ok("# only a comment\n\n[process.web]\nquiet = \"yes\"\n".to_owned())
        );
    }

    #[test]
    fn other_spellings_of_a_table_are_kept() {
        let told = told(&[("web", "tasks-max", "64"), ("worker", "tasks-max", "32")]);
        for (file, expected) in [
            (
                "process = { web = { memory-max = \"1G\" } }\n",
                "process = { web = { memory-max = \"1G\" , tasks-max = 64 } , worker = { tasks-max = 32 } }\n",
            ),
            (
                "[process]\nweb.memory-max = \"1G\"\n",
                "[process]\nweb.memory-max = \"1G\"\nweb.tasks-max = 64\n\n[process.worker]\ntasks-max = 32\n",
            ),
            (
                "process.web.memory-max = \"1G\"\n[stack]\n",
                "process.web.memory-max = \"1G\"\nprocess.web.tasks-max = 64\nprocess.worker.tasks-max = 32\n[stack]\n",
            ),
            (
                "[process.web.environment]\nA = 1\n",
                "[process.web]\ntasks-max = 64\n[process.web.environment]\nA = 1\n\n[process.worker]\ntasks-max = 32\n",
            ),
        ] {
            assert_eq!(save(file, &told), Ok(expected.to_owned()));
        }
    }

    #[test]
    fn a_mark_and_the_ends_of_lines_are_kept() {
        let windows = format!("\u{feff}{}", FILE.replace('\n', "\r\n"));
        let expected = windows.replace("\"1G\"", "\"2G\"");
        assert_eq!(save(&windows, &told(&[("web.2", "memory-max", "2G")])), Ok(expected));
    }

    #[test]
    fn a_formation_is_written_into_the_stack() {
        let counts = BTreeMap::from([("worker".to_owned(), 0), ("web".to_owned(), 3)]);
        let expected = FILE.replace("\"shop\"\n", "\"shop\"\nformation = \"all=1,web=3,worker=0\"\n");
        assert_eq!(save_formation(FILE, &counts).as_ref(), Ok(&expected));
        assert_eq!(save_formation(&expected, &counts), Ok(expected));
        let made = "[stack]\nformation = \"all=1,web=3,worker=0\"\n";
        assert_eq!(save_formation("", &counts), Ok(made.to_owned()));
    }

    #[test]
    fn a_formation_says_of_others_what_it_said() {
        let web = BTreeMap::from([("web".to_owned(), 3)]);
        for (before, after) in [
            ("worker=2", "worker=2,web=3"),
            ("web=1, worker = 2", "web=3,worker = 2"),
            ("all=2,clock=0,web=1,web=2", "all=2,clock=0,web=1,web=3"),
            (" ", "all=1,web=3"),
        ] {
            let file = |formation| format!("[stack]\nformation = \"{formation}\" # ours\n");
            assert_eq!(save_formation(&file(before), &web), Ok(file(after)));
        }
    }

    #[test]
    fn what_cannot_be_amended_is_refused() {
        let mem = told(&[("web", "memory-max", "1G")]);
        assert_eq!(save("process = 5", &mem), Err("process is no table (write [process])".into()));
        assert_eq!(
            save("[[process.web]]", &mem),
            Err("process.web is no table (write [process.web])".into())
        );
        assert_eq!(
            save("[process.web.memory-max]", &mem),
            Err("a table stands where the value of memory-max belongs".into())
        );
        assert!(save("[stack]\nname = ", &mem).is_err_and(|message| message.starts_with("line 2: ")));
        let unknown = told(&[("web", "memroy-max", "1G")]);
        assert_eq!(save("", &unknown), Err("unknown key \"memroy-max\" (write memory-max)".into()));
    }

    #[test]
    fn a_value_is_written_as_what_it_plainly_is() {
        for (text, written) in [
            ("64", "64"),
            ("1.5", "1.5"),
            ("1.50", "1.50"),
            ("true", "true"),
            ("yes", "\"yes\""),
            ("007", "\"007\""),
            ("01.5", "\"01.5\""),
            ("1.5G", "\"1.5G\""),
            ("150%", "\"150%\""),
            ("1e3", "\"1e3\""),
            ("inf", "\"inf\""),
            ("1_000", "\"1_000\""),
            ("0.1234567890123456789", "\"0.1234567890123456789\""),
            ("2024-01-01", "\"2024-01-01\""),
            ("1min 30s", "\"1min 30s\""),
        ] {
            assert_eq!(literal(text).to_string().trim(), written);
        }
    }

    fn assignment() -> impl Strategy<Value = Assignment> {
        let pairs = [
            ("memory-max", "1G"),
            ("memory-max", "12.5%"),
            ("cpu-quota", "1.50"),
            ("cpu-quota", "150%"),
            ("cpu-weight", "050"),
            ("tasks-max", "64"),
            ("stop-signal", "2"),
            ("stop-signal", "SIGQUIT"),
            ("timeout-stop", "1min 30s"),
            ("timeout-stop", "0.5"),
            ("can-die", "true"),
            ("oneshot", "no"),
            ("restart", "on-failure"),
            ("quiet", "1"),
            ("control", "yes"),
            ("pty", "true"),
        ];
        let names = proptest::sample::select(vec!["all", "web", "web.1", "web.2", "worker", "release"]);
        (names, proptest::sample::select(pairs.to_vec())).prop_map(|(name, (key, value))| Assignment {
            name: name.to_owned(),
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }

    fn file() -> impl Strategy<Value = String> {
        let parts = [
            "# first\n\n[stack]\nformation = \"all=2\"\n",
            "[defaults] # everybody\nmemory-max = \"2G\"\nrestart = \"always\"\n",
            "\n# the web\n[process.web]\ncpu-quota = 2 # two\nenvironment = { A = 1 }\n",
            "[process.\"web.2\"]\nmemory-max = 104857600\n# odd\ntimeout-stop = 7\n",
            "[process.release]\nrestart = \"on-failure\"\n",
            "[process.worker.environment]\nB = \"x\"\n# last",
        ];
        let count = parts.len();
        proptest::sample::subsequence(parts.to_vec(), 0..=count)
            .prop_shuffle()
            .prop_map(|parts| parts.iter().map(|part| format!("{part}\n")).collect())
    }

    #[test]
    fn what_is_told_of_all_after_release_was_told_leaves_release_a_word_of_its_own() {
        let told = |name: &str| Assignment {
            name: name.to_owned(),
            key: "restart".to_owned(),
            value: "on-failure".to_owned(),
        };
        let told = [told("release"), told("all")];
        let mut running = manifest("web: x\nrelease: z", "");
        running.options.set = told.to_vec();
        let mut next = manifest("web: x\nrelease: z", "");
        next.manifest = Some(Text::new("lpm.toml", save("", &told).expect("it can be amended")));
        assert_eq!(stack(&next), stack(&running));
    }

    proptest! {
        #[test]
        fn the_file_then_means_what_was_told(
            text in file(),
            told in proptest::collection::vec(assignment(), 0..6),
        ) {
            let mut running = manifest("web: x\nworker: y\nrelease: z", &text);
            running.options.set = told.clone();
            let running = load(&running).map(|loaded| loaded.stack);
            let saved = save(&text, &told).expect("it can be amended");
            let mut next = manifest("web: x\nworker: y\nrelease: z", "");
            next.manifest = Some(Text::new("lpm.toml", saved.clone()));
            match running {
                Ok(running) => prop_assert_eq!(stack(&next), running, "{}", saved),
                Err(_) => prop_assert!(load(&next).is_err()),
            }
            let comments = |text: &str| {
                let mut comments: Vec<String> =
                    text.lines().filter_map(|line| Some(line.split_once('#')?.1.to_owned())).collect();
                comments.sort();
                comments
            };
            prop_assert_eq!(comments(&saved), comments(&text));
            // Once more changes nothing.
            prop_assert_eq!(save(&saved, &told), Ok(saved));
        }

        #[test]
        fn nothing_told_changes_nothing(text in file()) {
            prop_assert_eq!(save(&text, &[]), Ok(text));
        }

        #[test]
        fn no_text_panics(text in "([\\[\\]a-z.=\"'# {}\n0-9]{0,12}\n){0,4}", told in assignment()) {
            if let Ok(saved) = save(&text, std::slice::from_ref(&told)) {
                prop_assert!(saved.parse::<DocumentMut>().is_ok(), "{text:?} {saved:?}");
            }
        }
    }
}
