//! `lpm completions` and `lpm man`: what a shell asks at the tab key, and pages that a formatter takes.

use std::path::Path;

use rustix::process::Signal;

use crate::snapshot::Snapshot;
use crate::stack::{Stack, now};

const BASH: &str = "/usr/bin/bash";

/// What bash would offer at the end of these words, asked as it asks.
#[track_caller]
fn offered(stack: &Stack, words: &[&str]) -> Option<Vec<String>> {
    if !Path::new(BASH).exists() {
        skipped!("what_bash_would_offer: no bash here");
        return None;
    }
    let script = r#"lpm() { "$LPM" "$@"; }; source <(lpm completions bash)
        COMP_WORDS=(lpm "$@"); COMP_CWORD=$#; COMP_TYPE=9
        _clap_complete_lpm lpm "${!#}" "${COMP_WORDS[COMP_CWORD-1]}"
        [ ${#COMPREPLY[@]} = 0 ] || printf '%s\n' "${COMPREPLY[@]}""#;
    let mut all = vec!["--norc", "-c", script, "bash"];
    all.extend(words);
    let launch = stack.program_with(BASH, &all).variable("LPM", crate::stack::LPM);
    let ended = launch.pipes().ends_leaving_something().with_code(0);
    assert_eq!(ended.err, "", "{words:?}");
    Some(ended.out.lines().map(|line| line.trim_end().to_owned()).collect())
}

#[test]
fn each_shell_has_a_script() {
    let stack = Stack::new("scripts");
    for (shell, part) in
        [("bash", "complete -o nospace"), ("zsh", "#compdef lpm"), ("fish", "complete --keep-order")]
    {
        let script = stack.runs(&["completions", shell]).with_code(0).out;
        assert!(script.contains(part) && script.contains("LPM_COMPLETE"), "{script}");
        // Wherever it is installed tomorrow.
        assert!(!script.contains(crate::stack::LPM), "{script}");
    }
    stack.runs(&["completions", "tcsh"]).with_code(2);
}

#[test]
fn commands_options_and_names_of_the_text_are_offered() {
    let stack = Stack::with("words", "web: true\nworker: true\nclock: true\n");
    let Some(commands) = offered(&stack, &["s"]) else { return };
    for command in ["start", "status", "stop", "scale", "signal", "set"] {
        assert!(commands.iter().any(|one| one == command), "{commands:?}");
    }
    assert!(commands.iter().all(|one| one.starts_with('s')), "{commands:?}");
    let none = Stack::new("nothing");
    let wrong = Stack::with("wrong", "web true\n");
    // Where there is nothing to be named, or it is wrong, nothing is said.
    for stack in [&none, &wrong] {
        assert_eq!(offered(stack, &["start", "x"]), Some(Vec::new()));
    }
    let offered = |words: &[&str]| offered(&stack, words).expect("there is bash");
    assert_eq!(offered(&["start", ""])[..3], ["web", "worker", "clock"]);
    assert_eq!(offered(&["start", "w"]), ["web", "worker"]);
    assert_eq!(offered(&["stop", "w"]), ["web", "worker"], "nothing runs, so what could");
    assert_eq!(offered(&["scale", "w"]), ["web=", "worker="]);
    assert!(offered(&["logs", "--fol"]).contains(&"--follow".to_owned()));
    assert_eq!(offered(&["set", "web", "memory-m"]), ["memory-max="]);
    // bash breaks words at "=", so the values come without the key.
    assert_eq!(offered(&["start", "--restart", "on"]), ["on-failure"]);
    assert_eq!(offered(&["start", "--can-die", "web,w"]), ["web,web", "web,worker"]);
    assert_eq!(offered(&["start", "--log", "jour"]), ["journald", "journald-direct"]);
    assert_eq!(offered(&["check", "--exit-code", "w"]), ["worst"]);
    assert_eq!(offered(&["completions", "z"]), ["zsh"]);
}

#[test]
fn names_of_the_running_stack_are_offered() {
    let stack = Stack::with("live", "web: exec sleep 1000\nworker: exec sleep 1000\n");
    let mut run = stack.lpm(&["start", "-m", "web=2,worker=1"]).pipes();
    for _ in 0..3 {
        run.wait_for("started with pid");
    }
    for command in ["stop", "restart", "kill", "logs", "events", "status", "freeze", "thaw"] {
        let Some(names) = offered(&stack, &[command, "w"]) else { break };
        assert_eq!(names, ["web", "worker", "web.1", "web.2", "worker.1"], "{command}");
    }
    if let Some(names) = offered(&stack, &["attach", "web."]) {
        assert_eq!(names, ["web.1", "web.2"]);
    }
    if let Some(words) = offered(&stack, &["signal", "web", "U"]) {
        assert_eq!(words, ["USR1", "USR2"]);
    }
    // One that doesn't answer is not waited for: the text is read instead.
    run.signal(Signal::STOP);
    let before = now();
    if let Some(names) = offered(&stack, &["stop", "w"]) {
        assert_eq!(names, ["web", "worker"]);
        assert!((now() - before).as_secs() < 10, "it hung");
    }
    run.signal(Signal::CONT).signal(Signal::TERM).ends().by(Signal::TERM);
}

#[test]
fn fish_and_zsh_offer_the_same() {
    let stack = Stack::with("shells", "web: exec sleep 1000\nworker: exec sleep 1000\n");
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for("started with pid").wait_for("started with pid");
    let [fish, zsh] = ["/usr/bin/fish", "/usr/bin/zsh"];
    if Path::new(fish).exists() {
        let script = "function lpm; $LPM $argv; end; lpm completions fish | source; complete -C 'lpm restart w'; \
                      complete -C 'lpm set web memory-m'";
        let launch =
            stack.program_with(fish, &["--no-config", "-c", script]).variable("LPM", crate::stack::LPM);
        let ended = launch.pipes().ends_leaving_something().with_code(0);
        let words: Vec<&str> =
            ended.out.lines().map(|line| line.split('\t').next().unwrap_or(line)).collect();
        assert_eq!(words, ["web", "worker", "web.1", "worker.1", "memory-max="], "{}", ended.err);
    } else {
        skipped!("fish_and_zsh_offer_the_same: no fish here");
    }
    if Path::new(zsh).exists() {
        let launch = stack.program_with(zsh, &["-f", "-i"]).variable("LPM", crate::stack::LPM);
        let mut shell = launch.terminal(100);
        shell.types(
            "PS1=; lpm() { $LPM \"$@\"; }; autoload -U compinit; compinit -u -D; source <(lpm completions zsh); \
             print rea''dy\n",
        );
        shell.wait_for("ready\r\n").types("lpm set web memory-m\t").wait_for("memory-max=").types("\x15");
        shell.types("lpm restart w\t\t").wait_for("web.1").wait_for("worker.1").types("\x15");
        shell.types("exit\n").ends_leaving_something();
    } else {
        skipped!("fish_and_zsh_offer_the_same: no zsh here");
    }
    run.signal(Signal::TERM).ends().by(Signal::TERM);
}

#[test]
fn there_is_a_page_for_each_command() {
    let stack = Stack::new("man");
    let printed = stack.runs(&["man"]).with_code(0).out;
    let mut snapshot = Snapshot::new("man.txt");
    let head: String = printed.split_inclusive('\n').take(20).collect();
    snapshot.add("lpm man | head -20", &head.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
    snapshot.assert();
    let ended = stack.runs(&["man", "share/man1"]).with_code(0);
    let folder = stack.path().join("share/man1");
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .expect("it was made")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    let said = format!("wrote {} pages to DIR/share/man1 (man -l DIR/share/man1/lpm.1)\n", names.len());
    assert_eq!(stack.normal(&ended.out), said);
    for command in ["start", "attach", "logs", "down", "man"] {
        assert!(names.contains(&format!("lpm-{command}.1")), "{names:?}");
    }
    let groff = Path::new("/usr/bin/groff");
    if !groff.exists() {
        skipped!("there_is_a_page_for_each_command: no groff here, only headers are looked at");
    }
    for name in &names {
        let path = folder.join(name);
        let text = std::fs::read_to_string(&path).expect("a page");
        let title = name.strip_suffix(".1").expect("section 1");
        assert!(text.lines().any(|line| line.starts_with(&format!(".TH {title} 1 "))), "{name}: {text}");
        assert!(printed.contains(&title.replace('-', "\\-")), "{name} is not in lpm.1");
        if groff.exists() {
            let path = path.to_str().expect("UTF-8");
            let launch = stack.program_with("/usr/bin/groff", &["-man", "-Tutf8", "-ww", path]);
            let ended = launch.pipes().ends().with_code(0);
            assert_eq!(ended.err, "", "{name}");
            assert!(ended.out.contains(&format!("{title}(1)")), "{name}: {}", ended.out);
        }
    }
    let refused = stack.runs(&["man", "/proc/nowhere"]).with_code(1);
    assert!(refused.err.starts_with("lpm: /proc/nowhere: "), "{}", refused.err);
}
