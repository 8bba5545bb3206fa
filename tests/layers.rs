//! Who may use whom: the `use` lines and the `crate::` paths of the sources, held against one table.
//!
//! Facts go up, orders go down, and only the middle decides. What a module may not use it cannot come to
//! depend on by accident: this test reads the text, so that a wrong line fails before anybody reviews it.
//! Code under `#[cfg(test)]` may use what it likes.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// A module, our modules it may use besides itself, and outside names that must not occur in it.
struct Layer {
    module: &'static str,
    may: &'static [&'static str],
    never: &'static [&'static str],
}

/// Files, clocks, sockets, processes, printing: the machine. What decides does not touch it.
const MACHINE: &[&str] = &[
    "tokio",
    "rustix",
    "libc",
    "procfs",
    "clap",
    "std::fs",
    "std::net",
    "std::io",
    "std::process",
    "std::env",
    "std::thread",
    "std::os::fd",
    "std::time::Instant",
    "std::time::SystemTime",
    "println!",
    "eprintln!",
    "print!(",
    "eprint!(",
];

const LAYERS: &[Layer] = &[
    Layer { module: "config", may: &[], never: MACHINE },
    Layer { module: "supervisor", may: &["config"], never: MACHINE },
    Layer { module: "linux", may: &[], never: &["tokio", "clap"] },
    Layer {
        module: "output",
        may: &["config", "supervisor", "meaning", "escape", "wording"],
        never: &["tokio", "clap"],
    },
    Layer {
        module: "control",
        may: &["config", "supervisor", "output", "meaning", "error", "vocabulary", "wording"],
        never: &["clap"],
    },
    Layer { module: "wording", may: &["config", "supervisor", "vocabulary"], never: MACHINE },
    Layer { module: "meaning", may: &[], never: MACHINE },
    Layer { module: "escape", may: &[], never: MACHINE },
    Layer { module: "vocabulary", may: &[], never: MACHINE },
    Layer { module: "report", may: &["config", "control", "wording"], never: MACHINE },
    Layer {
        module: "view",
        may: &["config", "supervisor", "control", "meaning", "escape", "wording"],
        never: MACHINE,
    },
    Layer {
        module: "journal",
        may: &["linux", "output", "control", "meaning", "wording"],
        never: &["tokio", "clap", "std::fs"],
    },
    Layer { module: "claim", may: &[], never: &["tokio", "clap"] },
    Layer { module: "error", may: &["escape"], never: &["tokio", "std::fs"] },
    Layer { module: "cli", may: &["config"], never: &["tokio", "rustix", "libc", "std::fs"] },
    Layer {
        module: "driver",
        may: &["config", "supervisor", "linux", "output", "control", "meaning", "error", "wording"],
        never: &["clap"],
    },
    Layer {
        module: "launch",
        may: &[
            "config",
            "supervisor",
            "linux",
            "output",
            "control",
            "view",
            "meaning",
            "driver",
            "journal",
            "report",
            "claim",
            "cli",
            "error",
            "escape",
            "wording",
        ],
        never: &["tokio"],
    },
    Layer {
        module: "client",
        may: &[
            "config", "control", "output", "journal", "meaning", "view", "launch", "claim", "cli", "error",
            "escape", "linux",
        ],
        never: &["tokio"],
    },
    Layer {
        module: "commands",
        may: &[
            "client",
            "config",
            "supervisor",
            "linux",
            "output",
            "control",
            "view",
            "driver",
            "journal",
            "report",
            "claim",
            "cli",
            "error",
            "escape",
            "wording",
            "launch",
        ],
        never: &["tokio"],
    },
];

/// The only files in which `unsafe` may occur.
const UNSAFE: &[&str] = &["linux/spawn.rs", "linux/pidfd.rs", "linux/signals.rs"];

/// Calls that reach an object by its number or name, which may mean another one by the time of the call.
const BY_NAME: &[&str] = &[
    "kill_process",
    "kill_process_group",
    "kill_current_process_group",
    "test_kill_process",
    "pidfd_open",
    "unlink",
    "unlinkat",
    "remove_file",
    "remove_dir",
    "remove_dir_all",
    "rmdir",
    "tgkill",
    "killpg",
];

/// Where they are made all the same, and why the object is the one that is meant.
const CHECKED: &[(&str, &str, &str)] = &[
    ("claim.rs", "test_kill_process", "only asks; the lock is what counts"),
    ("claim.rs", "unlinkat", "the name is that of the file held open and locked"),
    ("control/socket.rs", "unlinkat", "device and inode were compared, or nothing listens there"),
    ("driver/facts.rs", "kill_current_process_group", "our own group, with SIGSTOP"),
    (
        "launch/replace.rs",
        "unlinkat",
        "a file that this process has just made under a random name of its own",
    ),
    ("linux/cgroup.rs", "unlink", "rmdir below a held directory, which removes only what is empty"),
    ("linux/cgroup.rs", "unlinkat", "rmdir below a held directory, which removes only what is empty"),
    ("linux/guardian.rs", "unlinkat", "device and inode were compared"),
    ("linux/handover.rs", "remove_file", "a random name of its own, or nothing listens there"),
    ("linux/handover.rs", "test_kill_process", "only asks; a socket is connected to besides"),
    ("linux/pidfd.rs", "pidfd_open", "callers look again whether the number still means what it meant"),
    ("linux/spawn.rs", "pidfd_open", "a child that was not reaped keeps its number"),
    ("output/files.rs", "unlinkat", "a log file in a held directory, as configured"),
];

/// Calls that reach an object by number or name, in a file where none was excused.
fn unchecked(file: &str, text: &str) -> Vec<Breach> {
    let excused = |call: &str| CHECKED.iter().any(|(known, name, _)| (*known, *name) == (file, call));
    let calls = |text: &str| -> Vec<&'static str> {
        let named = BY_NAME.iter().copied().filter(|name| words(text).any(|word| word == *name));
        // `kill` alone is what cgroups and instances do.
        named.chain(text.contains("libc::kill(").then_some("libc::kill")).collect()
    };
    let own_process = |file: &str, text: &str| file == "linux/signals.rs" && text.contains("libc::getpid()");
    let code = code_of(text);
    let lines = code.iter().filter(|(_, text)| !own_process(file, text) && !text.trim().starts_with("use "));
    lines
        .flat_map(|(line, text)| calls(text).into_iter().map(move |call| (*line, call)))
        .filter(|(_, call)| !excused(call))
        .map(|(line, call)| Breach {
            file: file.to_owned(),
            line,
            what: format!(
                "{call} reaches what has the number or name now (open it, compare, then act on that)"
            ),
        })
        .collect()
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Breach {
    file: String,
    line: usize,
    what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "src/{}:{}: {}", self.file, self.line, self.what)
    }
}

/// Holds one file, named from `src`, against the table.
fn breaches(file: &str, text: &str) -> Vec<Breach> {
    let mut found = BTreeSet::new();
    let mut breach = |line, what: String| found.insert(Breach { file: file.to_owned(), line, what });
    let module = file.split(['/', '.']).next().unwrap_or_default();
    let inside: Vec<&str> = file.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
    let code = code_of(text);

    if !UNSAFE.contains(&file) {
        for (line, text) in &code {
            if words(text).any(|word| word == "unsafe") {
                breach(*line, "unsafe belongs to linux/{spawn,pidfd,signals}.rs".to_owned());
            }
        }
    }
    if ["main", "lib"].contains(&module) {
        return found.into_iter().collect();
    }
    let Some(layer) = LAYERS.iter().find(|layer| layer.module == module) else {
        breach(1, format!("{module} is in no layer (add it to the table)"));
        return found.into_iter().collect();
    };
    for (line, path) in paths(&code, &inside) {
        let used = path.first().map_or("", String::as_str);
        if used != module && LAYERS.iter().any(|layer| layer.module == used) && !layer.may.contains(&used) {
            breach(line, format!("{module} uses {used}"));
        }
        // A command is a script of its own steps: what two of them share belongs in launch.
        if module == "commands"
            && used == "commands"
            && path.get(1).is_some_and(|other| inside.get(1) != Some(&&**other))
        {
            breach(line, format!("{} uses another command: {}", inside.join("::"), path.join("::")));
        }
    }
    for (line, text) in &code {
        for name in layer.never {
            if occurs(text, name) {
                breach(*line, format!("{module} uses {name}"));
            }
        }
    }
    for (line, path) in imports(&code) {
        for name in layer.never.iter().filter(|name| name.contains("::")) {
            if path.starts_with(&format!("{name}::")) || path == *name {
                breach(line, format!("{module} uses {name}"));
            }
        }
    }
    found.into_iter().collect()
}

/// The lines with code, numbered, without comments and what stands in quotes; nothing after `#[cfg(test)] mod`.
fn code_of(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut test = false;
    for (at, line) in text.lines().enumerate() {
        if test && line.starts_with("mod ") && line.ends_with('{') {
            // By convention the tests are the last of a file.
            break;
        }
        if test && !line.trim().is_empty() && !line.starts_with("#[") {
            // `mod tests;` or one item: neither is built otherwise.
            test = false;
            continue;
        }
        if line.trim() == "#[cfg(test)]" {
            test = true;
            continue;
        }
        lines.push((at + 1, bare(line)));
    }
    lines
}

/// A line without its comment and without what is between quotes.
fn bare(line: &str) -> String {
    let mut code = String::new();
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match (quoted, character) {
            (true, '\\') => drop(characters.next()),
            (true, '"') => quoted = false,
            (true, _) => {}
            (false, '"') if !code.ends_with('\'') => quoted = true,
            (false, '/') if characters.peek() == Some(&'/') => break,
            (false, _) => code.push(character),
        }
    }
    code
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Whether `name` stands in the code as a name of its own, not as a part of one.
fn occurs(code: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        let ends = name.ends_with(['!', '(']) || !after.is_some_and(|c| c.is_alphanumeric() || c == '_');
        // A crate's name alone means the crate only where a path begins.
        let path = name.contains([':', '!', '(']) || code[at + name.len()..].starts_with("::");
        !before.is_some_and(part) && ends && (path || code.trim_start().starts_with("use "))
    })
}

/// Every path written with `use`, braces taken apart: `std::{fs, io}` is `std::fs` and `std::io`.
fn imports(code: &[(usize, String)]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (line, text) in code {
        let text = text.trim();
        match &mut open {
            Some((_, statement)) => statement.push_str(text),
            None => {
                let rest = text.strip_prefix("pub ").unwrap_or(text);
                let rest = rest
                    .strip_prefix("pub(crate) ")
                    .or_else(|| rest.strip_prefix("pub(super) "))
                    .unwrap_or(rest);
                open = rest.strip_prefix("use ").map(|rest| (*line, rest.to_owned()));
            }
        }
        if let Some((line, statement)) = open.take_if(|(_, statement)| statement.ends_with(';')) {
            found.extend(spread(statement.trim_end_matches(';')).into_iter().map(|path| (line, path)));
        }
    }
    found
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn spread(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(at) = tree.find('{') else {
        return vec![tree.split(" as ").next().unwrap_or(tree).to_owned()];
    };
    let (head, body) = (&tree[..at], &tree[at + 1..tree.rfind('}').unwrap_or(tree.len())]);
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, character) in body.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&body[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&body[start..]);
    let parts = parts.into_iter().map(str::trim).filter(|part| !part.is_empty());
    parts.flat_map(|part| spread(part).into_iter().map(move |path| format!("{head}{path}"))).collect()
}

/// The paths into our own crate, from its root: of `use` lines, and `crate::…` and `super::…` in the code.
fn paths(code: &[(usize, String)], inside: &[&str]) -> Vec<(usize, Vec<String>)> {
    let mut found = imports(code);
    for (line, text) in code {
        for start in ["crate::", "super::", "lpm::"] {
            for (at, _) in text.match_indices(start) {
                let rest: String =
                    text[at..].chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
                found.push((*line, rest));
            }
        }
    }
    let from_root = |path: String| -> Option<Vec<String>> {
        let parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
        let up = parts.iter().take_while(|part| **part == "super").count();
        let (base, rest): (&[&str], &[&str]) = match parts.first() {
            Some(&("crate" | "lpm")) => (&[], &parts[1..]),
            Some(&"super") => (&inside[..inside.len().saturating_sub(up)], &parts[up..]),
            Some(&"self") => (inside, &parts[1..]),
            _ => return None,
        };
        Some(base.iter().chain(rest).map(|part| (*part).to_owned()).collect())
    };
    found.into_iter().filter_map(|(line, path)| Some((line, from_root(path)?))).collect()
}

/// Where a kind of event is known by its name, besides the core, which announces it, and `wording/event.rs`, which has
/// all that is known of it. A kind that is not here is in three files at most: what others must know of it, its row says.
const KINDS: &[(&str, &[&str], &str)] = &[
    (
        "driver/crashes.rs",
        &["CannotStart", "Ended", "GivenUp", "Killing"],
        "a life that failed is told of by one of these",
    ),
    ("driver/orders.rs", &["Ended", "GivenUp"], "the obituary follows the last line; survivors are named"),
    ("driver/report.rs", &["Configured", "Ended"], "the core does not know texts; last words are waited for"),
    ("journal/entry.rs", &["OomKill"], "its message id stands for an end by it, too"),
];

/// The kinds of events that a file names.
fn kinds(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| rest.chars().take_while(|c| c.is_alphanumeric()).collect::<String>();
    let of = |text: &str, path: &str| text.split(path).skip(1).map(name).collect::<Vec<_>>();
    let named = |line: &str| [of(line, "Announcement::"), of(line, "EventKind::")].concat();
    let all = code_of(text).iter().flat_map(|(_, line)| named(line)).collect::<BTreeSet<_>>();
    // What is in small letters is a function, in capitals a constant.
    all.into_iter()
        .filter(|name| name.contains(char::is_lowercase) && name.starts_with(char::is_uppercase))
        .collect()
}

#[test]
fn a_kind_of_event_is_known_in_three_files() {
    let elsewhere = |file: &str| !file.starts_with("supervisor/") && file != "wording/event.rs";
    for (file, text) in sources().into_iter().filter(|(file, _)| elsewhere(file)) {
        let known = KINDS.iter().find(|(known, ..)| *known == file).map_or(&[][..], |(_, kinds, _)| kinds);
        let found: Vec<String> = kinds(&text).into_iter().collect();
        assert_eq!(found, known, "src/{file}: a row of wording/event.rs says what is to be known of a kind");
    }
}

fn sources() -> Vec<(String, String)> {
    fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).expect("src can be read").flatten() {
            match entry.path() {
                path if path.is_dir() => walk(&path, files),
                path if path.extension().is_some_and(|extension| extension == "rs") => files.push(path),
                _ => {}
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let name = |path: &Path| path.strip_prefix(&root).expect("it is in src").to_string_lossy().into_owned();
    // What is tests from end to end is built for tests alone.
    let built = |file: &str| !file.split('/').any(|part| part == "tests" || part == "tests.rs");
    let read = |path: PathBuf| (name(&path), std::fs::read_to_string(&path).expect("a source"));
    files.into_iter().map(read).filter(|(file, _)| built(file)).collect()
}

#[test]
fn every_module_keeps_to_its_layer() {
    let sources = sources();
    assert!(sources.len() > 30, "src is read");
    let all: Vec<String> = sources
        .iter()
        .flat_map(|(file, text)| breaches(file, text))
        .map(|breach| breach.to_string())
        .collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
}

/// Numbers and names come back: what is signalled or removed is what was opened and compared.
#[test]
fn nothing_is_signalled_or_removed_by_number_or_name() {
    let sources = sources();
    let all: Vec<String> = sources
        .iter()
        .flat_map(|(file, text)| unchecked(file, text))
        .map(|breach| breach.to_string())
        .collect();
    assert!(all.is_empty(), "{}", all.join("\n"));
    for (file, call, _) in CHECKED {
        let text = sources.iter().find(|(name, _)| name == file).map_or("", |(_, text)| text);
        let used = code_of(text).iter().any(|(_, text)| words(text).any(|word| word == *call));
        assert!(used, "{file} does not use {call} any more: take it out of the table");
    }
}

#[test]
fn a_call_by_number_or_name_is_found() {
    for (file, line) in [
        ("driver/life.rs", "    let _ = rustix::process::kill_process(pid, Signal::KILL);"),
        ("launch/owner.rs", "    std::fs::remove_dir_all(&record.cgroup)?;"),
        ("launch/owner.rs", "    rustix::fs::unlinkat(&directory, name, AtFlags::empty())?;"),
        ("linux/tree.rs", "    std::fs::remove_dir(path)?;"),
        ("linux/signals.rs", "    unsafe { libc::kill(pid, 9) };"),
        ("control/socket.rs", "    let _ = test_kill_process(pid);"),
    ] {
        assert_eq!(unchecked(file, line).len(), 1, "{file}: {line}");
    }
    for (file, line) in [
        ("linux/tree.rs", "    app.kill()?; // kill_process"),
        ("linux/pidfd.rs", "        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {"),
        ("linux/tree.rs", "#[cfg(test)]\nmod tests {\n    std::fs::remove_file(path);\n}"),
    ] {
        assert_eq!(unchecked(file, line), [], "{file}: {line}");
    }
}

/// A test that cannot fail proves nothing: each of these lines is found, in the file it would be wrong in.
#[test]
fn a_wrong_line_is_found() {
    for (file, line, what) in [
        ("config/mod.rs", "use crate::linux::cgroup::Cgroup;", "config uses linux"),
        ("config/quantity.rs", "use std::fs;", "config uses std::fs"),
        ("config/mod.rs", "use std::{collections::HashMap, fs};", "config uses std::fs"),
        ("config/mod.rs", "use std::{\n    fs::{self, File},\n    fmt,\n};", "config uses std::fs"),
        ("config/mod.rs", "    let text = std::fs::read_to_string(path)?;", "config uses std::fs"),
        ("config/mod.rs", "    eprintln!(\"x\");", "config uses eprintln!"),
        ("supervisor/mod.rs", "use crate::driver::Voice;", "supervisor uses driver"),
        ("supervisor/mod.rs", "use tokio::time::sleep;", "supervisor uses tokio"),
        (
            "supervisor/policy.rs",
            "    let now = std::time::Instant::now();",
            "supervisor uses std::time::Instant",
        ),
        ("supervisor/mod.rs", "use std::time::{Duration, Instant};", "supervisor uses std::time::Instant"),
        ("supervisor/mod.rs", "use super::output::Line;", "supervisor uses output"),
        ("linux/spawn.rs", "use crate::config::Stack;", "linux uses config"),
        ("linux/tier.rs", "use super::super::supervisor::Exit;", "linux uses supervisor"),
        ("linux/pty.rs", "use tokio::io::unix::AsyncFd;", "linux uses tokio"),
        ("output/mod.rs", "use crate::{config::Stack, driver::Run};", "output uses driver"),
        ("output/pump.rs", "    tokio::spawn(async {});", "output uses tokio"),
        ("driver/mod.rs", "    crate::commands::start::start();", "driver uses commands"),
        ("driver/mod.rs", "use crate::cli::Start;", "driver uses cli"),
        ("launch/mod.rs", "use crate::commands::check;", "launch uses commands"),
        ("claim.rs", "use crate::error::Error;", "claim uses error"),
        ("cli.rs", "use crate::control::client;", "cli uses control"),
        ("commands/run.rs", "use super::start;", "commands::run uses another command: commands::start"),
        (
            "commands/run.rs",
            "use crate::commands::start::layout;",
            "commands::run uses another command: commands::start::layout",
        ),
        ("driver/mod.rs", "    unsafe { libc::fork() };", "unsafe belongs to linux/{spawn,pidfd,signals}.rs"),
        (
            "main.rs",
            "#![allow(unsafe_code)] unsafe fn x() {}",
            "unsafe belongs to linux/{spawn,pidfd,signals}.rs",
        ),
        ("helpers.rs", "fn x() {}", "helpers is in no layer (add it to the table)"),
    ] {
        let found: Vec<String> = breaches(file, line).into_iter().map(|breach| breach.what).collect();
        assert!(found.iter().any(|known| known == what), "{file}: {line}: {found:?}");
    }
}

#[test]
fn a_right_line_is_not() {
    for (file, line) in [
        ("config/quantity.rs", "use super::error::Diagnostic;"),
        ("config/mod.rs", "//! std::fs is for `crate::launch` alone; unsafe, too."),
        ("config/mod.rs", "    let text = \"use crate::linux::cgroup; tokio::spawn, std::fs::read\";"),
        ("config/formation.rs", "use super::procfile::Entry;"),
        ("supervisor/mod.rs", "use crate::config::{Policy, Signal};\nuse std::time::Duration;"),
        (
            "supervisor/mod.rs",
            "#[cfg(test)]\nmod tests {\n    use crate::driver::Voice;\n    use std::fs;\n}",
        ),
        ("supervisor/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::config::Stack;"),
        ("linux/tier.rs", "use super::cgroup::{Cgroup, Mount};\nuse std::fs::File;"),
        ("linux/spawn.rs", "    unsafe { libc::_exit(1) }"),
        ("driver/worker.rs", "use super::ceilings;\nuse crate::linux::spawn::{self, Birth};"),
        ("commands/run.rs", "use crate::launch::{self, Plan};"),
        ("commands/mod.rs", "pub mod start;"),
        ("output/mod.rs", "mod tokiometer;\nlet libcall = 1;"),
    ] {
        assert_eq!(breaches(file, line), [], "{file}: {line}");
    }
}

#[test]
fn paths_are_taken_apart() {
    let spread = |tree| spread(tree).join(" ");
    assert_eq!(spread("a::b"), "a::b");
    assert_eq!(spread("a::{b, c::{d, e as f}, g}"), "a::b a::c::d a::c::e a::g");
    assert_eq!(spread("a::{b::{c, d}}"), "a::b::c a::b::d");
    assert_eq!(spread("{a, b::c}"), "a b::c");
}
