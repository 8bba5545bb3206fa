//! `check`, `doctor`, `version`, help: what is printed, to the character.

use serde_json::Value;

use crate::snapshot::Snapshot;
use crate::stack::Stack;

/// How many columns wide help is wrapped; a pipe has no width of its own.
fn help(columns: u16, arguments: &[&str]) -> String {
    let stack = Stack::new("help");
    let mut run = stack.lpm(arguments).terminal(columns);
    run.ends().with_code(0).out.replace("\r\n", "\n")
}

#[test]
fn help_is_wrapped_to_the_terminal() {
    for (columns, file) in [(80, "help-80.txt"), (100, "help-100.txt")] {
        let mut snapshot = Snapshot::new(file);
        for arguments in [
            &["--help"][..],
            &["help", "start"],
            &["run", "--help"],
            &["check", "--help"],
            &["doctor", "--help"],
            &["version", "--help"],
        ] {
            let text = help(columns, arguments);
            for line in text.lines() {
                assert!(line.chars().count() <= usize::from(columns), "{line}");
            }
            snapshot.add(&format!("lpm {}", arguments.join(" ")), &text);
        }
        snapshot.assert();
    }
    assert_eq!(help(200, &["start", "--help"]), help(100, &["start", "--help"]), "no wider than can be read");
    assert_eq!(help(80, &["start", "--help"]), help(80, &["help", "start"]));
}

#[test]
fn without_arguments_help_and_exit_code_2() {
    let stack = Stack::new("nothing");
    let ended = stack.runs(&[]).with_code(2);
    assert_eq!(ended.out, "");
    assert!(ended.err.contains("Usage: lpm"), "{}", ended.err);
}

#[test]
fn the_version() {
    let stack = Stack::new("version");
    let version = format!("lpm {}\n", env!("CARGO_PKG_VERSION"));
    for arguments in [&["version"][..], &["-v"], &["-V"], &["--version"]] {
        let ended = stack.runs(arguments).with_code(0);
        assert_eq!((ended.out, ended.err), (version.clone(), String::new()), "{arguments:?}");
    }
}

/// Where the machine matters: the tier, and what cannot be enforced here.
fn anywhere(text: &str) -> String {
    let own = |line: &&str| {
        !line.starts_with("tier: ") && !line.contains("cannot be enforced") && !line.contains("add --swap 0")
    };
    text.lines().filter(own).map(|line| format!("{line}\n")).collect()
}

#[test]
fn check_says_what_would_run() {
    let mut snapshot = Snapshot::new("check.txt");
    let procfile = "web: bundle exec rails server\nworker: python worker.py\nclock: ./clock &\n";
    let manifest = "[stack]\nmemory-max = \"2G\"\n[process.worker]\ntasks-max = 64\n";
    let stack = Stack::with("check", procfile).file("lpm.toml", manifest);
    for arguments in [
        &["check"][..],
        &["check", "-m", "web=2,worker=1", "--mem", "web=512M", "--cpu", "web=1.5", "--swap", "web=0"],
        &["check", "-N", "worker"],
        &["check", "zzz"],
    ] {
        let ended = stack.runs(arguments);
        let came =
            format!("{}---- standard error\n{}exit {}\n", anywhere(&ended.out), ended.err, ended.code());
        snapshot.add(&format!("lpm {}", arguments.join(" ")), &came);
    }
    let empty = Stack::with("check", "");
    let ended = empty.runs(&["check"]);
    snapshot.add(
        "lpm check, of an empty Procfile",
        &format!("{}{}exit {}\n", ended.out, ended.err, ended.code()),
    );
    snapshot.assert();
}

#[test]
fn check_for_machines() {
    let stack = Stack::with("check-json", "web: exec ./serve $PORT\nworker: ./work --fast\nodd\n")
        .file(".env", "SECRET=hunter2\n");
    let ended = stack.runs(&["check", "--json", "-m", "web=2"]).with_code(1);
    assert!(!ended.out.contains("hunter2"), "values of variables are secrets");
    assert_eq!(ended.err, "");
    let mut value: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
    value["tier"] = "ANY".into();
    let mut snapshot = Snapshot::new("check-json.txt");
    snapshot.add("lpm check --json -m web=2", &stack.normal(&format!("{value:#}\n")));
    std::fs::write(stack.path().join("Procfile"), "web: a\nweb: b\n").expect("a file");
    let ended = stack.runs(&["check", "--json"]).with_code(1);
    snapshot.add("lpm check --json, of what is wrong", &ended.out);
    snapshot.assert();
    // A Procfile that is not there is no JSON matter: it goes to standard error as everywhere.
    std::fs::remove_file(stack.path().join("Procfile")).expect("a file");
    let ended = stack.runs(&["check", "--json"]).with_code(1);
    assert_eq!(ended.out, "");
    assert!(ended.err.starts_with("lpm: Procfile: does not exist"), "{}", ended.err);
}

/// One spelling for the keys of everything that is printed for machines.
#[test]
fn keys_for_machines_are_in_snake_case() {
    fn keys(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => object.iter().for_each(|(key, value)| {
                found.push(key.clone());
                keys(value, found);
            }),
            Value::Array(values) => values.iter().for_each(|value| keys(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let stack = Stack::with("json-keys", "web: sleep 1000\nonce: exit 3\n").file(
        "lpm.toml",
        "[process.once]\ncan-die = true\nmemory-max = \"1G\"\n[stack]\nlimits = \"best-effort\"\n",
    );
    let mut run = stack.lpm(&["start", "--summary", "summary.json", "--report", "report.json"]).pipes();
    run.wait_for("once.1 | exited with code 3");
    let mut texts: Vec<(String, String)> = [
        &["check"][..],
        &["doctor"],
        &["list"],
        &["status"],
        &["status", "once"],
        &["events"],
        &["logs"],
        &["set", "web", "timeout-stop=3s"],
        &["reload"],
        &["restart", "web"],
        &["scale", "web=2"],
    ]
    .into_iter()
    .map(|words| (words.join(" "), stack.tells(&[words, &["--json"]].concat()).with_code(0).out))
    .collect();
    run.stops();
    for file in ["summary.json", "report.json"] {
        texts.push((file.to_owned(), std::fs::read_to_string(stack.path().join(file)).expect("a file")));
    }
    for (what, text) in texts {
        let mut found = Vec::new();
        for value in serde_json::Deserializer::from_str(&text).into_iter() {
            keys(&value.unwrap_or_else(|error| panic!("{what}: {error}: {text}")), &mut found);
        }
        assert!(!found.is_empty(), "{what}: {text}");
        let is_snake =
            |key: &String| key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        assert!(found.iter().all(is_snake), "{what}: {found:?}");
    }
}

#[test]
fn doctor_says_the_tier_and_every_step() {
    let stack = Stack::new("doctor");
    let ended = stack.runs(&["doctor"]).with_code(0);
    let first = ended.out.lines().next().expect("a line");
    assert!(
        ["tier: full (", "tier: tracking (", "tier: none ("].iter().any(|t| first.starts_with(t)),
        "{first}"
    );
    assert!(ended.out.contains("\n 1. ") && ended.out.contains("\nplace: "), "{}", ended.out);
    for controller in ["memory", "cpu", "pids"] {
        assert!(ended.out.contains(&format!("\n  {controller}")), "{}", ended.out);
    }
    assert_eq!(ended.err, "");
    let ended = stack.runs(&["doctor", "--json"]).with_code(0);
    let value: serde_json::Value = serde_json::from_str(&ended.out).expect("JSON");
    assert!(first.starts_with(&format!("tier: {} ", value["tier"].as_str().expect("a tier"))));
    assert_eq!(value["controllers"].as_array().map(Vec::len), Some(3));
    let keys: Vec<&String> = value.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["controllers", "fix", "place", "reason", "steps", "tier"]);
}

/// One machine's answers can be had anywhere: a directory that is none.
#[test]
fn doctor_where_nothing_can_be_had() {
    let stack = Stack::new("doctor").variable("LPM_CGROUP", "none");
    let ended = stack.runs(&["doctor"]).with_code(0);
    assert!(
        ended.out.starts_with("tier: none (no cgroups: containment is best effort, no limits)\n"),
        "{}",
        ended.out
    );
    assert!(
        ended.out.contains("\nplace: none\n") && ended.out.contains("\nto improve this ("),
        "{}",
        ended.out
    );
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let stack = Stack::with("head", "a: x\n");
    for command in ["help start", "check", "doctor", "version"] {
        let ended = stack.shell(&format!("(lpm {command}; echo $? >&2) | true")).pipes().ends().with_code(0);
        let code = ended.err.trim();
        assert!(code == "0" || code == "141", "{command}: {}", ended.err);
    }
}
