//! Text that users write: Procfile, env files, lpm.toml, settings, names.

use std::ffi::OsStr;

use lpm::config::{
    self, Diagnostic, Given, Machine, Options, Selection, Signal, Sources, Text, amend, assignments,
    environment_of, load, matching, named_counts, quantity,
};

use super::split;

/// As many processes as a person would write.
const PROCFILE: &[u8] = b"web: bin/server -p $PORT\nworker: exec bin/worker\nclock: bin/clock\n";

/// The most bytes one value may have ([`config::environment::LARGEST_VARIABLE`]).
const LARGEST: usize = config::environment::LARGEST_VARIABLE;

fn sources(procfile: &[u8]) -> Sources {
    Sources {
        procfile: Text::new("Procfile", procfile),
        env_files: Vec::new(),
        manifest: None,
        environment: vec![("PATH".into(), "/usr/bin:/bin".into()), ("HOME".into(), "/root".into())],
        root: "/srv/app".into(),
        options: Options::default(),
        machine: Machine { memory: 8 << 30, cpus: 4, pid_max: 32768 },
        socket: None,
    }
}

/// Loads, and holds what comes of it against what every stack and every message must be.
fn check(sources: &Sources) {
    match load(sources) {
        Ok(loaded) => {
            say(&loaded.warnings);
            for instance in loaded.stack.instances.iter().take(3) {
                for (name, value) in environment_of(&loaded.stack, instance) {
                    let bytes = [name.as_encoded_bytes(), value.as_encoded_bytes()];
                    assert!(bytes.iter().all(|part| !part.contains(&0)), "a NUL in the environment");
                }
            }
        }
        Err(problems) => {
            assert!(problems.iter().any(Diagnostic::is_error), "a refusal without an error");
            say(&problems);
        }
    }
}

/// Messages are printed on terminals as they are.
fn say(problems: &[Diagnostic]) {
    for problem in problems {
        let text = problem.to_string();
        assert!(!text.chars().any(|c| c.is_control()), "a control character in {text:?}");
    }
}

/// A Procfile.
pub fn procfile(bytes: &[u8]) {
    check(&sources(bytes));
}

/// An env file; the first bit chooses whether references in it are expanded.
pub fn dotenv(bytes: &[u8]) {
    let (&first, text) = bytes.split_first().unwrap_or((&0, &[]));
    let expand = first & 1 == 1;
    let (variables, _) = config::dotenv::parse(".env", text, expand);
    for variable in &variables {
        assert!(config::dotenv::is_key(&variable.key));
        let value = variable.value(LARGEST, |_| Some(OsStr::new("0123456789")));
        assert!(value.is_none_or(|value| value.len() <= LARGEST));
    }
    let mut sources = sources(PROCFILE);
    if expand {
        sources.options.give("expand-env", Given::new("--expand-env", ["yes"]));
    }
    sources.env_files.push(Text::new(".env", text));
    check(&sources);
}

/// `lpm.toml`, and behind a NUL the Procfile beside it.
pub fn manifest(bytes: &[u8]) {
    let (manifest, procfile) = split(bytes);
    let mut sources = sources(if procfile.is_empty() { PROCFILE } else { procfile });
    sources.manifest = Some(Text::new("lpm.toml", manifest));
    check(&sources);
}

/// Settings told to a running stack, one word a line, and behind a NUL the `lpm.toml` they are saved into.
pub fn settings(bytes: &[u8]) {
    let (words, manifest) = split(bytes);
    let words: Vec<String> = String::from_utf8_lossy(words).lines().map(str::to_owned).collect();
    let Ok(told) = assignments("web", &words) else { return };
    let mut sources = sources(PROCFILE);
    sources.options.tell(told.clone());
    check(&sources);
    let manifest = String::from_utf8_lossy(manifest);
    if let Ok(saved) = amend::save(&manifest, &told) {
        let again = amend::save(&saved, &told).expect("what was saved can be read");
        assert_eq!(again, saved, "saved again it is another file");
    }
}

/// Names and patterns, one a line, as a command line or a client gives them.
pub fn names(bytes: &[u8]) {
    let names: Vec<String> = String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
    let mut sources = sources(PROCFILE);
    if let Err(problems) = named_counts(&sources, &names) {
        say(&problems);
    }
    if let Ok(names) = config::distinct(names.clone()) {
        assert!(names.len() <= matching::MOST_NAMES);
        let selection = Selection::new(&names);
        let _ = (selection.has("web.1"), selection.has("a.very.long.name.of.an.instance.1"));
        if let Ok(loaded) = load(&sources)
            && let Err(refused) = matching::meant(&loaded.stack, &|_| true, &names)
        {
            let text = refused.to_string();
            assert!(!text.contains(char::is_control), "a control character in {text:?}");
        }
    }
    sources.options.names = Given::new("", names.clone());
    sources.options.give("formation", Given::new("-m", names));
    check(&sources);
}

/// Sizes, shares, durations, signals: what is written of one is read as the same.
pub fn quantities(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for word in text.lines().take(100) {
        let refused = [
            quantity::memory_amount(word).err(),
            quantity::swap_amount(word).err(),
            quantity::cpu(word).err(),
            quantity::weight(word).err(),
            quantity::tasks_amount(word).err(),
            quantity::boolean(word).err(),
            quantity::number(word, "a number", 1, 10).err(),
        ];
        for message in refused.into_iter().flatten() {
            assert!(!message.chars().any(|c| c.is_control()), "a control character in {message:?}");
        }
        if let Ok(duration) = quantity::duration(word) {
            let _ = quantity::format_duration(duration);
        }
        if let Ok(signal) = word.parse::<Signal>() {
            assert_eq!(signal.to_string().parse(), Ok(signal));
        }
    }
}
