//! The documents held against the program: what they name exists, and what exists is named.
//!
//! It does not judge prose, and follows no link that leaves the repository.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use lpm::cli::{self, Cli};
use lpm::config::table::{self, Default, Opt, Row, Takes};
use lpm::config::{self, Machine, Sources, Text};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files below `folder` with this ending, relative to the repository.
fn files(folder: &str, ending: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                let path = path.strip_prefix(root()).expect("it is below the root");
                found.insert(path.to_str().expect("our names are UTF-8").to_owned());
            }
        }
    }
    found
}

/// README, change log, the way in, everything in docs, and the examples' own pages.
fn pages() -> BTreeSet<String> {
    let mut pages = files("docs", "md");
    pages.extend(files("examples", "md"));
    pages.extend(["README.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(str::to_owned));
    pages
}

/// The lines of the fenced blocks in this language.
fn fenced<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let mut inside = None;
    let mut lines = Vec::new();
    for line in text.lines() {
        match (line.strip_prefix("```"), inside) {
            (Some(opened), None) => inside = Some(opened.trim() == language),
            (Some(_), Some(_)) => inside = None,
            (None, Some(true)) => lines.push(line),
            (None, Some(false) | None) => {}
        }
    }
    lines
}

/// The prose and the tables: everything outside of fenced blocks.
fn unfenced(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let text = unfenced(text);
    let after = text.split("](").skip(1);
    after.filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())).collect()
}

/// The anchor of a heading, as hosting sites make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .collect::<String>()
        .replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let text = unfenced(text);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// Words of a command line as a shell would split it: blanks, quotes, a comment at the end.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The arguments after the program in a line that runs lpm, directly or through cargo.
fn arguments(line: &str) -> Option<Vec<String>> {
    let words = words(line);
    match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["lpm", ..] => Some(words[1..].to_vec()),
        ["cargo", "run", rest @ ..] => {
            let at = rest.iter().position(|word| *word == "--")?;
            Some(words[at + 3..].to_vec())
        }
        _ => None,
    }
}

/// Holds `text` against the file, or writes it there if `UPDATE_DOCS` is set.
#[track_caller]
fn hold(path: &str, text: &str) {
    if std::env::vars().any(|(name, _)| name == "UPDATE_DOCS") {
        fs::write(root().join(path), text).unwrap_or_else(|error| panic!("{path}: {error}"));
    }
    assert!(
        read(path) == text,
        "{path} is not what the program makes of it (UPDATE_DOCS=1 cargo test --test docs)"
    );
}

/// `page` with `lines` between the marks of the generated part `name`.
fn with_part(page: &str, name: &str, lines: &[String]) -> String {
    let begin = format!("<!-- generated: {name} -->\n");
    let (before, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no part {name}"));
    let (_, after) = rest.split_once("<!-- end -->\n").unwrap_or_else(|| panic!("{name} does not end"));
    format!("{before}{begin}{}\n<!-- end -->\n{after}", lines.join("\n"))
}

fn table_of_settings(is_here: fn(&Row) -> bool) -> Vec<String> {
    let cell = |row: &Row| {
        let default = match row.default {
            Default::Value(text) => format!("`{text}`"),
            Default::None(text) => text.to_owned(),
        };
        let systemd = row.systemd.map_or_else(String::new, |name| format!("`{name}`"));
        format!("| `{}` | {default} | {} | {systemd} |", row.key, row.means)
    };
    let head = ["| key | default | means | systemd |", "| --- | --- | --- | --- |"].map(str::to_owned);
    head.into_iter().chain(table::rows().filter(|row| is_here(row)).map(cell)).collect()
}

fn table_of_options() -> Vec<String> {
    let line = |(option, row): (&Opt, &Row)| {
        let short = option.short.map_or_else(String::new, |short| format!("`-{short}`, "));
        let value = match option.takes {
            Takes::Nothing => String::new(),
            Takes::NamesOr(_) => format!(" [{}]", option.value_name),
            _ => format!(" {}", option.value_name),
        };
        let alias = option.alias.map_or_else(String::new, |alias| format!(" (`--{alias}`)"));
        let of_stack = row.stack_option.as_ref().is_some_and(|other| other.long == option.long);
        let place = if of_stack { " in `[stack]`" } else { "" };
        format!("| {short}`--{}{value}`{alias} | `{}` | `{}`{place} |", option.long, option.variable, row.key)
    };
    let head = ["| option | variable | `lpm.toml` |", "| --- | --- | --- |"].map(str::to_owned);
    head.into_iter().chain(table::options().map(line)).collect()
}

/// The first sentence of what a file says of itself: its first `//!` paragraph, without links and the last dot.
#[track_caller]
fn purpose(path: &str) -> String {
    let text = read(path);
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let paragraph: Vec<&str> = lines.map(str::trim).take_while(|line| !line.is_empty()).collect();
    let paragraph = paragraph.join(" ");
    let sentence = paragraph.split_once(". ").map_or(paragraph.as_str(), |(sentence, _)| sentence);
    assert!(!sentence.is_empty(), "{path} does not begin with a line of //! that says what it is for");
    sentence.trim_end_matches('.').replace("[`", "`").replace("`]", "`").replace('|', "\\|")
}

/// A row for each source file, a folder's own file first.
fn table_of_files() -> Vec<String> {
    let place = |path: &String| {
        let (folder, name) = path.rsplit_once('/').expect("a file of a folder");
        (folder.to_owned(), name != "mod.rs", name.to_owned())
    };
    let mut paths: Vec<String> = files("src", "rs").into_iter().collect();
    paths.sort_by_key(place);
    let head = ["| file | what it is |", "| --- | --- |"].map(str::to_owned);
    head.into_iter().chain(paths.iter().map(|path| format!("| `{path}` | {} |", purpose(path)))).collect()
}

#[test]
fn the_table_of_files_is_what_they_say_of_themselves() {
    let page = read("docs/architecture.md");
    hold("docs/architecture.md", &with_part(&page, "source files", &table_of_files()));
}

#[test]
fn the_tables_of_settings_are_those_of_the_program() {
    let page = read("docs/configuration.md");
    let page = with_part(&page, "settings of processes", &table_of_settings(Row::is_of_processes));
    let page = with_part(&page, "settings of the stack", &table_of_settings(Row::is_of_stack));
    let page = with_part(&page, "options of settings", &table_of_options());
    hold("docs/configuration.md", &page);
}

/// The sources, tests left out, that have one of `words` in their code.
fn sources_with(words: &[&str]) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    let has = |path: &String| {
        let text = read(path);
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let mut lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.any(|line| line.split(|c| !is_word(c)).any(|word| words.contains(&word)))
    };
    let mut paths = files("src", "rs");
    paths.retain(|path| !path.contains("/tests") && has(path));
    paths.into_iter().collect()
}

/// The list of files under a recipe of CONTRIBUTING.md.
fn where_it_stands(example: &str, paths: &[String]) -> Vec<String> {
    let names: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
    vec![format!("{example} stands in {}.", names.join(", "))]
}

#[test]
fn each_recipe_names_the_files_that_its_example_took() {
    let setting = sources_with(&["no_new_privileges", "NO_NEW_PRIVILEGES", "no-new-privileges"]);
    assert!(setting.len() <= 4, "what one more setting takes has grown: {setting:?}");
    let command = sources_with(&["schema", "Schema"]);
    assert!(command.len() <= 5, "what one more command takes has grown: {command:?}");
    let event = sources_with(&["TasksRefused"]);
    assert!(event.len() <= 3, "what one more event takes has grown: {event:?}");
    let parts = [
        ("files of a setting", "`no-new-privileges`", setting),
        ("files of a command", "`lpm schema`", command),
        ("files of an event", "`tasks-refused`", event),
        ("files of a state", "`restart-wait`", sources_with(&["RestartWait", "Wait::Restart"])),
    ];
    let page = read("CONTRIBUTING.md");
    let by_hand = parts.iter().fold(page.clone(), |page, (name, ..)| with_part(&page, name, &[]));
    let by_hand = by_hand.replace("src/commands/NAME.rs", "src/commands/schema.rs");
    for path in
        parts[..3].iter().flat_map(|(_, _, paths)| paths).filter(|path| !path.contains("/supervisor/"))
    {
        assert!(by_hand.contains(&format!("`{path}`")), "no recipe says what happens in {path}");
    }
    let page = parts
        .iter()
        .fold(page, |page, (name, example, paths)| with_part(&page, name, &where_it_stands(example, paths)));
    hold("CONTRIBUTING.md", &page);
}

#[test]
fn the_schema_of_lpm_toml_is_that_of_the_program() {
    hold("docs/lpm-toml.schema.json", &format!("{:#}\n", lpm::commands::schema::document()));
}

#[test]
fn every_option_and_variable_is_documented() {
    let text = read("docs/configuration.md");
    let known: BTreeSet<&str> =
        text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).collect();
    let mut missing = BTreeSet::new();
    for command in Cli::command().get_subcommands() {
        for argument in command.get_arguments() {
            let longs = argument.get_long_and_visible_aliases().unwrap_or_default();
            let longs = longs.iter().map(|long| format!("--{long}"));
            let short = argument.get_short().map(|short| format!("-{short}"));
            let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
            missing.extend(longs.chain(short).chain(variable).filter(|name| !known.contains(name.as_str())));
        }
    }
    assert!(missing.is_empty(), "not in docs/configuration.md: {missing:?}");
}

#[test]
fn every_option_and_variable_that_is_documented_exists() {
    let command = Cli::command();
    let arguments = || command.get_subcommands().flat_map(clap::Command::get_arguments);
    let variables: BTreeSet<String> =
        arguments().filter_map(|argument| Some(argument.get_env()?.to_string_lossy().into_owned())).collect();
    // Said by lpm to its children, to itself, or to the place it builds in; no options.
    let others = [
        "LPM_INSTANCE",
        "LPM_PROCESS",
        "LPM_STACK",
        "LPM_SOCKET",
        "LPM_SCOPE",
        "LPM_STDIN_FD",
        "LPM_LAUNCHER_FD",
        "LPM_CGROUP",
        "LPM_DEBUG",
        "LPM_COMPLETE",
    ];
    let fields = read("src/journal/entry.rs");
    let mut unknown = BTreeSet::new();
    for page in pages() {
        let text = read(&page);
        for word in text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            let known = variables.contains(word)
                || others.contains(&word)
                || word.starts_with("LPM_PORT_")
                || fields.contains(&format!("\"{word}\""));
            if word.starts_with("LPM_") && word.len() > 4 && !known {
                unknown.insert(format!("{page}: {word}"));
            }
        }
    }
    let options: BTreeSet<String> = arguments()
        .filter_map(clap::Arg::get_long_and_visible_aliases)
        .flatten()
        .chain(["version", "help"])
        .map(|long| format!("--{long}"))
        .collect();
    // The first column of the options table: what is not ours stands in other columns and other pages.
    for line in read("docs/configuration.md").lines().filter(|line| line.starts_with("| `-")) {
        let first = line.split('|').nth(1).unwrap_or_default();
        for word in first.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')) {
            if word.starts_with("--") && !options.contains(word) {
                unknown.insert(format!("docs/configuration.md: {word}"));
            }
        }
    }
    assert!(unknown.is_empty(), "no such thing: {unknown:?}");
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        let folder = root().join(&page).parent().expect("a file has a folder").to_path_buf();
        for link in links(&text).iter().filter(|link| !link.contains("://")) {
            let (path, fragment) = link.split_once('#').map_or((link.as_str(), None), |(p, f)| (p, Some(f)));
            let target = if path.is_empty() { root().join(&page) } else { folder.join(path) };
            let leads = target.exists()
                && fragment.is_none_or(|fragment| {
                    fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(fragment))
                });
            if !leads {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_page_can_be_reached_from_the_readme() {
    let mut reached = BTreeSet::new();
    let mut next = vec![root().join("README.md").canonicalize().expect("it is there")];
    while let Some(page) = next.pop() {
        if reached.insert(page.clone()) && page.extension().is_some_and(|extension| extension == "md") {
            let folder = page.parent().expect("a file has a folder");
            let text = fs::read_to_string(&page).expect("links lead somewhere");
            let paths = links(&text).into_iter().filter_map(|link| {
                folder.join(link.split('#').next().unwrap_or_default()).canonicalize().ok()
            });
            next.extend(paths.filter(|path| path.is_file()));
        }
    }
    let lonely: Vec<String> = pages()
        .into_iter()
        .filter(|page| !reached.contains(&root().join(page).canonicalize().expect("it is there")))
        .collect();
    assert!(lonely.is_empty(), "no way leads from README.md to {lonely:?}");
}

#[test]
fn every_limit_of_input_names_its_constant_and_its_test() {
    let all: String =
        [files("src", "rs"), files("tests", "rs")].iter().flatten().map(|path| read(path)).collect();
    let page = read("docs/limits-of-input.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| input") && !line.starts_with("| ---"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    assert!(rows.len() > 20, "{}", rows.len());
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    for row in rows {
        assert_eq!(row.len(), 5, "{row:?}");
        let names = words(row[2]).into_iter().filter(|name| !name.contains(['/', ':']));
        for constant in names.filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_')) {
            assert!(all.contains(&format!("const {constant}: ")), "{constant} is not there");
        }
        for test in words(row[4]).iter().filter(|name| !name.contains('/')) {
            assert!(all.contains(&format!("fn {test}(")), "{test} is not there");
        }
    }
}

#[test]
fn every_command_that_is_shown_can_be_typed() {
    let mut seen = 0;
    for page in pages() {
        for line in fenced(&read(&page), "sh") {
            let Some(arguments) = arguments(line) else { continue };
            seen += 1;
            let argv = std::iter::once("lpm".to_owned()).chain(arguments).map(OsString::from).collect();
            if let Err(error) = cli::parse(argv) {
                panic!("{page}: {line}\n{error}");
            }
        }
    }
    assert!(seen >= 8, "only {seen} commands were found: is the test blind?");
}

/// What comes of a Procfile and an lpm.toml.
fn loaded(procfile: &str, manifest: &str) -> Result<config::Loaded, String> {
    let sources = Sources {
        procfile: Text::new("Procfile", procfile),
        env_files: Vec::new(),
        manifest: Some(Text::new("lpm.toml", manifest)),
        environment: Vec::new(),
        root: "/srv/shop".into(),
        options: config::Options::default(),
        machine: Machine { memory: 8 << 30, cpus: 2, pid_max: 32_768 },
        socket: None,
    };
    config::load(&sources).map_err(|problems| problems.iter().map(|problem| format!("{problem}\n")).collect())
}

#[test]
fn every_lpm_toml_that_is_shown_is_one() {
    let mut seen = 0;
    for page in pages() {
        let text = fenced(&read(&page), "toml").join("\n");
        seen += usize::from(!text.is_empty());
        if let Err(problems) = loaded("web: x\nworker: x\nclock: x\nredis: x\n", &text) {
            panic!("{page}: {problems}");
        }
    }
    assert!(seen >= 2, "no lpm.toml was found: is the test blind?");
}

#[test]
fn every_key_of_lpm_toml_is_documented() {
    let text = read("docs/configuration.md");
    for table in ["stack", "defaults"] {
        let problems = loaded("web: x", &format!("[{table}]\nzzzzzzzzzz = 1")).expect_err("no such key");
        let known = problems.split_once("known here: ").expect("it lists them").1;
        let missing: Vec<&str> = known
            .trim_end_matches(")\n")
            .split(", ")
            .filter(|key| !text.contains(&format!("`{key}`")))
            .collect();
        assert!(missing.is_empty(), "[{table}]: not in docs/configuration.md: {missing:?}");
    }
}

#[test]
fn the_examples_are_valid() {
    for example in ["examples/shop", "examples/redis"] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lpm"))
            .args(["check", "-f"])
            .arg(root().join(example).join("Procfile"))
            .env_clear()
            .output()
            .expect("lpm was built");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{example}: {errors}");
    }
}

/// The names of all fields, whatever they are nested in.
fn fields(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            found.extend(object.keys().cloned());
            object.values().for_each(|value| fields(value, found));
        }
        serde_json::Value::Array(values) => values.iter().for_each(|value| fields(value, found)),
        _ => {}
    }
}

#[test]
fn every_field_for_machines_is_documented() {
    let temp = tempfile::tempdir().expect("a temporary directory");
    fs::write(temp.path().join("Procfile"), "web: /bin/true\n").expect("it can be written");
    let lpm = |arguments: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lpm"))
            .args(arguments)
            .current_dir(temp.path())
            .output()
            .expect("lpm was built");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let mut found = BTreeSet::new();
    let mut read_in = |bytes: &[u8]| fields(&serde_json::from_slice(bytes).expect("it is JSON"), &mut found);
    read_in(&lpm(&["check", "--json", "--mem", "64M"]));
    read_in(&lpm(&["doctor", "--json"]));
    lpm(&["start", "--summary", "summary.json"]);
    read_in(&fs::read(temp.path().join("summary.json")).expect("it was written"));
    let text = read("docs/summary.md");
    let missing: Vec<_> = found
        .iter()
        .filter(|field| !text.contains(&format!("`{field}`")) && !text.contains(&format!("\"{field}\"")))
        // A setting is documented with all settings.
        .filter(|field| table::row(&field.replace('_', "-")).is_none())
        .collect();
    assert!(missing.is_empty(), "not in docs/summary.md: {missing:?}");
}

/// What the examples run is executable, also after a checkout.
#[test]
fn the_examples_programs_are_executable() {
    use std::os::unix::fs::PermissionsExt;
    let folder = root().join("examples/shop/bin");
    for entry in fs::read_dir(&folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert!(mode & 0o111 == 0o111, "{} is not executable", Path::display(&path));
    }
}
