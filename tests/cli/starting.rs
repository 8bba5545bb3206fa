//! `lpm start`: what runs, with which environment, how many of it.

use crate::snapshot::Snapshot;
use crate::stack::{Stack, has_cgroups, starts_with_time};

/// The lines of `name`, without what stands before them.
pub fn lines_of<'a>(name: &str, out: &'a str) -> Vec<&'a str> {
    let own = |line: &'a str| {
        let (before, text) = line.split_once('|').or_else(|| line.split_once('!'))?;
        (before.split_whitespace().last() == Some(name)).then(|| text.strip_prefix(' ').unwrap_or(text))
    };
    out.lines().filter_map(own).collect()
}

/// The value of a variable in what `env` printed as `name`.
fn variable<'a>(name: &str, variable: &str, out: &'a str) -> Option<&'a str> {
    lines_of(name, out).into_iter().find_map(|line| line.strip_prefix(variable)?.strip_prefix('='))
}

#[test]
fn foremans_layout_to_the_character() {
    let stack = Stack::with("layout", "web: echo hello\n");
    let ended = stack.runs(&["start"]).with_code(0);
    assert!(ended.out.lines().all(starts_with_time), "{}", ended.out);
    assert_eq!(
        stack.normal(&ended.out),
        "TIME system | ports: web 5000\n\
         TIME web.1  | started with pid N\n\
         TIME web.1  | hello\n\
         TIME web.1  | exited with code 0 (cpu T)\n"
    );
    let table = stack.normal(&ended.err);
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0][..3], ["NAME", "ENDED", "CPU"], "{table}");
    assert_eq!(words[1][..3], ["web.1", "code", "0"], "{table}");
}

#[test]
fn a_whole_run_in_lpms_words() {
    let procfile = "web: sleep 0.1; echo bye; exit 3\nlonger-name: exec sleep 1000\n";
    let stack = Stack::with("words", procfile);
    let ended = stack.runs(&["start"]).with_code(3);
    let mut lines: Vec<String> = stack.normal(&ended.out).lines().map(str::to_owned).collect();
    // Who of the two is started first is told by their order, who prints first is not.
    lines.sort_by_key(|line| line.contains("bye"));
    let mut snapshot = Snapshot::new("start.txt");
    snapshot.add("one of two exits with 3", &(lines.join("\n") + "\n"));
    snapshot.assert();
}

#[test]
fn names_are_padded_to_the_longest() {
    let stack = Stack::with("width", "a-b_9: echo x\n1: echo y\n");
    let ended = stack.runs(&["start", "--can-die", "all", "--no-timestamp", "-q", "--no-port"]).with_code(0);
    assert!(ended.out.contains("a-b_9.1 | x\n"), "{}", ended.out);
    assert!(ended.out.contains("1.1     | y\n"), "{}", ended.out);
    let ended =
        stack.runs(&["start", "-c", "a-b_9=10", "--can-die", "all", "--no-timestamp", "-q"]).with_code(0);
    assert!(ended.out.contains("a-b_9.10 | x\n") && ended.out.contains("a-b_9.1  | x\n"), "{}", ended.out);
    assert!(
        ended.out.contains("1.1      | y\n") && ended.out.contains("system   | ports: "),
        "{}",
        ended.out
    );
    let short = Stack::with("width", "x: echo x\n");
    let ended = short.runs(&["start", "--no-timestamp"]).with_code(0);
    assert!(ended.out.contains("x.1    | x\n"), "{}", ended.out);
}

#[test]
fn injected_variables_and_ports() {
    let stack = Stack::with("injected", "web: env\nwork-er: env\nlast: env\n");
    let ended = stack.runs(&["start", "-c", "web=2", "--can-die", "all"]).with_code(0);
    let out = &ended.out;
    let of =
        |name, wanted| variable(name, wanted, out).unwrap_or_else(|| panic!("{name}: no {wanted}: {out}"));
    assert_eq!([of("web.1", "PORT"), of("web.2", "PORT")], ["5000", "5001"]);
    assert_eq!([of("work-er.1", "PORT"), of("last.1", "PORT")], ["5100", "5200"]);
    for name in ["PS", "LPM_INSTANCE", "HONCHO_PROCESS_NAME", "FOREMAN_WORKER_NAME"] {
        assert_eq!(of("web.2", name), "web.2");
    }
    assert_eq!(of("web.2", "LPM_PROCESS"), "web");
    assert_eq!(of("last.1", "LPM_PORT_WORK_ER"), "5100");
    assert_eq!(of("web.1", "LPM_PORT_LAST"), "5200");
    assert_eq!(of("web.1", "LPM_STACK"), stack.mark());
    assert_eq!(of("web.1", "PWD"), stack.path().to_str().expect("UTF-8"));
    assert!(
        stack.normal(out).contains("system    | ports: web 5000-5001, work-er 5100, last 5200\n"),
        "{out}"
    );
}

#[test]
fn who_says_which_port() {
    let stack = Stack::with("ports", "a: env\nb: env\n").variable("PORT", "4000");
    let port = |arguments: &[&str], name: &str| {
        let mut all = vec!["start", "--can-die", "all"];
        all.extend(arguments);
        let ended = stack.runs(&all).with_code(0);
        variable(name, "PORT", &ended.out).map(str::to_owned)
    };
    assert_eq!(port(&[], "b.1").as_deref(), Some("4100"), "inherited");
    assert_eq!(port(&["-p", "8000"], "b.1").as_deref(), Some("8100"), "the option");
    assert_eq!(port(&["-p", "8000", "-P", "10"], "b.1").as_deref(), Some("8010"), "its step");
    assert_eq!(port(&["-m", "b=2", "-p", "1", "--instance-port-step", "5"], "b.2").as_deref(), Some("106"));
    assert_eq!(port(&["b"], "b.1").as_deref(), Some("4100"), "a filtered entry keeps its block");
    assert_eq!(port(&["-N"], "b.1").as_deref(), Some("4000"), "none is set, the inherited one leaks through");
    std::fs::write(stack.path().join(".env"), "PORT=6000\n").expect("a file");
    assert_eq!(port(&[], "b.1").as_deref(), Some("6100"), "the env file beats the inherited");
    assert_eq!(port(&["-p", "8000"], "b.1").as_deref(), Some("8100"), "the option beats the env file");
}

#[test]
fn env_files_beat_the_inherited_unless_told_otherwise() {
    let stack = Stack::with("env-files", "a: env\n")
        .file(".env", "A=file\nB=\"two words\"\nC='$HOME'\nexport D=d # comment\nE=$A-x\n")
        .file("one", "A=one\nONE=1\n")
        .file("two", "A=two\n")
        .variable("A", "inherited");
    let get = |arguments: &[&str], name: &str| {
        let mut all = vec!["start"];
        all.extend(arguments);
        let ended = stack.runs(&all).with_code(0);
        variable("a.1", name, &ended.out).map(str::to_owned)
    };
    assert_eq!(get(&[], "A").as_deref(), Some("file"));
    assert_eq!(get(&[], "B").as_deref(), Some("two words"));
    assert_eq!(get(&[], "C").as_deref(), Some("$HOME"));
    assert_eq!(get(&[], "D").as_deref(), Some("d"));
    assert_eq!(get(&[], "E").as_deref(), Some("$A-x"));
    assert_eq!(get(&["--expand-env"], "E").as_deref(), Some("file-x"));
    assert_eq!(get(&["--env-precedence", "inherited"], "A").as_deref(), Some("inherited"));
    assert_eq!(get(&["-e", "one,two"], "A").as_deref(), Some("two"));
    assert_eq!(get(&["-e", "two", "-e", "one"], "A").as_deref(), Some("one"));
    assert_eq!(get(&["-e", "one"], "B"), None, "the default one is not read then");
}

#[test]
fn both_kinds_of_formation() {
    let stack = Stack::with("formation", "a: echo here\nb: echo here\n");
    let who = |arguments: &[&str]| {
        let mut all = vec!["start", "--can-die", "all"];
        all.extend(arguments);
        let ended = stack.runs(&all).with_code(0);
        let here = ended.out.lines().filter_map(|line| line.strip_suffix("| here"));
        let mut names: Vec<String> =
            here.filter_map(|line| Some(line.split_whitespace().nth(1)?.to_owned())).collect();
        names.sort();
        names.join(" ")
    };
    assert_eq!(who(&[]), "a.1 b.1");
    assert_eq!(who(&["-m", "a=2"]), "a.1 a.2");
    assert_eq!(who(&["-c", "a=2"]), "a.1 a.2 b.1");
    assert_eq!(who(&["-m", "all=2"]), "a.1 a.2 b.1 b.2");
    assert_eq!(who(&["-m", "all=1, b = 0"]), "a.1");
    assert_eq!(who(&["b"]), "b.1");
    assert_eq!(who(&["-m", "a=3", "a.2"]), "a.2");
    assert_eq!(who(&["b", "a.1"]), "a.1 b.1");
}

#[test]
fn procfiles_come_in_many_ways() {
    let stack = Stack::new("ways").file("sub/Procfile.dev", "\u{feff}a: pwd\r\n\r\nb:cat .env\r\n");
    let stack = stack.file("sub/.env", "WHO=sub\n").file(".env", "WHO=top\n");
    let ended = stack.runs(&["start", "--can-die", "all", "-f", "sub/Procfile.dev"]).with_code(0);
    let sub = stack.path().join("sub");
    assert_eq!(lines_of("a.1", &ended.out)[1], sub.to_str().expect("UTF-8"));
    assert_eq!(lines_of("b.1", &ended.out)[1], "WHO=sub");
    // As an option of the environment, of another program's, and in `.env`.
    for name in ["LPM_PROCFILE", "PROCFILE"] {
        let launch = stack.lpm(&["start", "--can-die", "all"]).variable(name, "sub/Procfile.dev");
        let ended = launch.pipes().ends().with_code(0);
        assert_eq!(lines_of("a.1", &ended.out)[1], sub.to_str().expect("UTF-8"), "{name}");
    }
    let ended = stack.lpm(&["start", "-f", "-"]).stdin("x: pwd; echo $WHO").pipes().ends().with_code(0);
    assert_eq!(lines_of("x.1", &ended.out)[1..3], [stack.path().to_str().expect("UTF-8"), "top"]);
    let ended = stack.runs(&["start", "--can-die", "all", "-f", "sub/Procfile.dev", "-d", "."]).with_code(0);
    assert_eq!(lines_of("a.1", &ended.out)[1], stack.path().to_str().expect("UTF-8"));
}

#[test]
fn options_stand_before_or_after_the_subcommand() {
    let stack = Stack::new("order").file("P", "a: echo $X\n").file("e", "X=yes\n");
    let arrangements: [&[&str]; 7] = [
        &["start", "-f", "P", "-e", "e"],
        &["-f", "P", "start", "-e", "e"],
        &["-e", "e", "start", "-f", "P"],
        &["-f", "P", "-e", "e", "start"],
        &["--procfile=P", "start", "--env=e"],
        &["-fP", "-ee", "start"],
        &["--no-port", "-f", "P", "--env", "e", "start", "a"],
    ];
    for arguments in arrangements {
        let ended = stack.runs(arguments).with_code(0);
        assert_eq!(lines_of("a.1", &ended.out)[1], "yes", "{arguments:?}");
    }
    let ended = stack.runs(&["-e", "e", "-f", "P", "run", "sh", "-c", "echo $X"]).with_code(0);
    assert_eq!(ended.out, "yes\n");
    stack.runs(&["-f", "P", "check"]).with_code(0);
}

#[test]
fn empty_variables_are_as_good_as_none() {
    let mut stack = Stack::with("empty-variables", "a: echo fine\n");
    let names = [
        "PROCFILE",
        "ROOT",
        "ENV",
        "ENV_PRECEDENCE",
        "EXPAND_ENV",
        "NAME",
        "PORT",
        "STEP",
        "INSTANCE_STEP",
        "NO_PORT",
        "FORMATION",
        "CONCURRENCY",
        "TIMEOUT",
        "STOP_SIGNAL",
        "KILL_MODE",
        "CAN_DIE",
        "ONESHOT",
        "RESTART",
        "EXIT_CODE",
        "MEM",
        "SWAP",
        "CPU",
        "TASKS",
        "STACK_MEM",
        "LIMITS",
        "QUIET",
        "NO_PREFIX",
        "COLOR",
        "SPLIT_STDERR",
        "SUMMARY",
        "CGROUP",
    ];
    for name in names {
        stack = stack.variable(&format!("LPM_{name}"), "");
    }
    let ended = stack.runs(&["start"]).with_code(0);
    assert_eq!(lines_of("a.1", &ended.out)[1], "fine", "{}", ended.err);
    assert!(ended.err.starts_with("NAME"), "the summary is not taken away: {}", ended.err);
}

#[test]
fn every_option_of_start_has_a_variable_but_those_for_a_stack_that_runs() {
    let help = Stack::new("help").runs(&["start", "--help"]).with_code(0).out;
    let option = |line: &str| line.starts_with("  -") || line.starts_with("      --");
    let starts: Vec<usize> =
        help.lines().enumerate().filter(|(_, line)| option(line)).map(|(at, _)| at).collect();
    let lines: Vec<&str> = help.lines().collect();
    for (at, &start) in starts.iter().enumerate() {
        let end = starts.get(at + 1).copied().unwrap_or(lines.len());
        // However it is wrapped.
        let text = lines[start..end].join(" ").split_whitespace().collect::<Vec<_>>().join(" ");
        let without = text.contains("--help") || text.contains("where the stack runs already");
        assert!(text.contains("[env: LPM_") != without, "{text}");
    }
    assert!(starts.len() > 30, "{help}");
}

#[test]
fn commands_reach_the_shell_untouched() {
    let stack = Stack::new("untouched").file(".env", "FOO=bar\n").program("serve", "echo by the shell\n");
    for (command, prints) in [
        ("echo $FOO", "bar"),
        ("FOOBAR=zz; echo $FOOBAR", "zz"),
        ("echo '$FOO'", "$FOO"),
        ("false || echo x | tr x y", "y"),
        ("FOO=1 sh -c 'echo $FOO'", "1"),
        ("echo 1 # hello", "1"),
        ("echo a: b:c", "a: b:c"),
        ("printf %s\\\\n plain", "plain"),
        // No `#!`: the kernel refuses it, the shell does not.
        ("./serve", "by the shell"),
    ] {
        std::fs::write(stack.path().join("Procfile"), format!("a: {command}\n")).expect("a file");
        let ended = stack.runs(&["start"]).with_code(0);
        assert_eq!(lines_of("a.1", &ended.out)[1], prints, "{command}");
    }
}

#[test]
fn standard_input_is_empty() {
    let stack = Stack::with("stdin", "a: wc -c\n");
    let ended = stack.lpm(&["start"]).stdin("not for the child").pipes().ends().with_code(0);
    assert_eq!(lines_of("a.1", &ended.out)[1], "0");
    let stack = Stack::with("stdin", "a: readlink /proc/self/fd/0\n");
    let ended = stack.runs(&["start"]).with_code(0);
    assert_eq!(lines_of("a.1", &ended.out)[1], "/dev/null");
}

#[test]
fn each_instance_is_born_in_its_leaf() {
    if !has_cgroups("each_instance_is_born_in_its_leaf") {
        return;
    }
    let stack = Stack::with("leaf", "web: grep ^0:: /proc/self/cgroup\nb: grep ^0:: /proc/self/cgroup\n");
    let ended = stack.runs(&["start", "-c", "web=2", "--can-die", "all"]).with_code(0);
    for name in ["web.1", "web.2", "b.1"] {
        let line = lines_of(name, &ended.out)[1];
        assert!(line.ends_with(&format!("/app/{name}")), "{line}");
    }
}

/// A child has only what it was given: three descriptors, no lock, no pidfd.
#[test]
fn nothing_of_lpms_own_is_inherited() {
    let stack = Stack::with("descriptors", "a: for f in /proc/self/fd/*; do readlink $f; done; ulimit -Sn\n");
    let launch = stack.shell("ulimit -Sn 600; exec $LPM start");
    let ended = launch.pipes().ends().with_code(0);
    let lines = lines_of("a.1", &ended.out);
    let fds: Vec<&&str> = lines.iter().filter(|line| line.starts_with('/') || line.contains(":[")).collect();
    assert_eq!(fds.len(), 3, "{lines:?}");
    assert!(lines.contains(&"600"), "the limit of open files is the one lpm was given: {lines:?}");
}

#[test]
fn a_second_start_of_the_same_stack_is_refused_naming_its_owner() {
    let stack = Stack::with("second", "a: echo up; exec sleep 1000\n");
    let mut first = stack.lpm(&["start"]).pipes();
    first.wait_for("a.1    | up");
    let second = stack.lpm(&["start"]).pipes().ends_leaving_something().with_code(1);
    let said = stack.normal(&second.err);
    let wanted = format!("lpm: stack DIR runs already as pid {}, since ", first.pid().as_raw_pid());
    let said_pid = second.err.replace(stack.mark(), "DIR");
    assert!(said_pid.starts_with(&wanted), "{said}");
    assert!(
        said.trim_end().ends_with("; stop that one first (lpm down), or give this one a --name"),
        "{said}"
    );
    // Under another name it is another stack.
    let other = format!("other-{}", stack.mark());
    let mut third = stack.lpm(&["start", "--name", &other]).pipes();
    third.wait_for("a.1    | up");
    third.signal(rustix::process::Signal::TERM).ends_leaving_something().by(rustix::process::Signal::TERM);
    first.signal(rustix::process::Signal::TERM).ends().by(rustix::process::Signal::TERM);
}
