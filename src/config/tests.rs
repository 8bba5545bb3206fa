//! Stories over the whole of `load`: text in, a stack or messages out.

use std::ffi::OsString;
use std::time::Duration;

use super::*;

const MACHINE: Machine = Machine { memory: 8 << 30, cpus: 4, pid_max: 32_768 };

/// Sources with a Procfile and nothing else.
pub(super) fn procfile(text: &str) -> Sources {
    Sources {
        procfile: Text::new("Procfile", text),
        env_files: Vec::new(),
        manifest: None,
        environment: Vec::new(),
        root: "/srv/app".into(),
        options: Options::default(),
        machine: MACHINE,
        socket: None,
    }
}

/// The same with options.
pub(super) fn typed(text: &str, change: impl FnOnce(&mut Options)) -> Sources {
    let mut sources = procfile(text);
    change(&mut sources.options);
    sources
}

pub(super) fn manifest(text: &str, file: &str) -> Sources {
    let mut sources = procfile(text);
    sources.manifest = Some(Text::new("lpm.toml", file));
    sources
}

fn given(origin: &str, value: &str) -> Given {
    Given::new(origin, [value])
}

#[track_caller]
pub(super) fn stack(sources: &Sources) -> Stack {
    load(sources).unwrap_or_else(|problems| panic!("refused: {:?}", texts(&problems))).stack
}

#[track_caller]
fn refused(sources: &Sources) -> Vec<String> {
    match load(sources) {
        Ok(loaded) => panic!("accepted: {:?}", loaded.stack),
        Err(problems) => texts(&problems.into_iter().filter(Diagnostic::is_error).collect::<Vec<_>>()),
    }
}

fn warnings(sources: &Sources, severity: Severity) -> Vec<String> {
    let warnings = load(sources).expect("accepted").warnings;
    texts(&warnings.into_iter().filter(|warning| warning.severity == severity).collect::<Vec<_>>())
}

fn texts(problems: &[Diagnostic]) -> Vec<String> {
    problems.iter().map(Diagnostic::to_string).collect()
}

fn names(stack: &Stack) -> Vec<&str> {
    stack.instances.iter().map(|instance| instance.name.as_str()).collect()
}

fn ports(stack: &Stack) -> Vec<u16> {
    stack.instances.iter().map(|instance| instance.port.expect("has a port")).collect()
}

fn instance<'a>(stack: &'a Stack, name: &str) -> &'a Instance {
    stack.instances.iter().find(|instance| instance.name == name).expect("is in the stack")
}

fn variable(stack: &Stack, instance_name: &str, name: &str) -> Option<String> {
    let environment = environment_of(stack, instance(stack, instance_name));
    let mut found = environment.iter().filter(|(known, _)| known == name);
    let value = found.next().map(|(_, value)| value.to_string_lossy().into_owned());
    assert!(found.next().is_none(), "{name} is there twice");
    value
}

fn os(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

#[test]
fn a_bare_procfile_is_a_stack() {
    let stack = stack(&procfile("web: ./serve\nworker: while :; do work; done\n"));
    assert_eq!(names(&stack), ["web.1", "worker.1"]);
    assert_eq!(stack.name, "app");
    let web = &stack.instances[0];
    assert_eq!(web.command, Command::Direct { words: vec!["./serve".into()], text: "./serve".into() });
    assert_eq!(stack.instances[1].command, Command::Shell("while :; do work; done".into()));
    assert_eq!(web.policy.timeout_stop, Duration::from_secs(5));
    assert_eq!(web.policy.stop_signal, Signal::TERM);
    assert_eq!(web.ceilings, Ceilings::default());
}

// The Procfile.

#[test]
fn file_order_is_kept() {
    let stack = stack(&procfile("d: x\nb: x\na: x\nc: x\n"));
    assert_eq!(names(&stack), ["d.1", "b.1", "a.1", "c.1"]);
}

#[test]
fn an_odd_line_stops_nothing_but_is_said() {
    let sources = procfile("web: x\n  worker: y\nfoo\n");
    assert_eq!(names(&stack(&sources)), ["web.1"]);
    assert_eq!(warnings(&sources, Severity::Warning).len(), 2);
}

#[test]
fn a_duplicate_is_refused_naming_both_lines() {
    assert_eq!(
        refused(&procfile("web: a\n\nweb: b")),
        ["Procfile:3: process type \"web\" is defined twice (first on line 1)"]
    );
}

#[test]
fn a_procfile_without_entries_is_refused() {
    for text in ["", "# only comments\n"] {
        assert_eq!(refused(&procfile(text)), ["Procfile: no processes defined (write \"name: command\")"]);
    }
}

#[test]
fn processes_run_in_the_root() {
    let stack = stack(&procfile("web: x"));
    assert_eq!(stack.instances[0].working_directory, PathBuf::from("/srv/app"));
    assert_eq!(variable(&stack, "web.1", "PWD").as_deref(), Some("/srv/app"));
}

// Commands.

#[test]
fn commands_are_never_substituted_into() {
    for text in ["echo $FOO $BAR", "FOOBAR=zz; echo $FOOBAR", "echo '$FOO'"] {
        let mut sources = procfile(&format!("web: {text}"));
        sources.env_files = vec![Text::new(".env", "FOO=bar\n")];
        sources.options.give("expand-env", Given::new("--expand-env", ["yes"]));
        let stack = stack(&sources);
        assert_eq!(stack.instances[0].command, Command::Shell(text.to_owned()));
        assert_eq!(variable(&stack, "web.1", "FOO").as_deref(), Some("bar"));
    }
}

#[test]
fn the_shell_variable_is_not_looked_at() {
    let mut sources = procfile("web: a && b");
    sources.environment = os(&[("SHELL", "/bin/fish")]);
    assert_eq!(stack(&sources).instances[0].command, Command::Shell("a && b".into()));
}

// Environments.

fn with_files(files: &[&str], inherited: &[(&str, &str)]) -> Sources {
    let mut sources = procfile("web: x");
    sources.env_files =
        files.iter().enumerate().map(|(i, f)| Text::new(format!(".env{}", i + 1), *f)).collect();
    sources.environment = os(inherited);
    sources
}

#[test]
fn of_two_env_files_the_later_wins() {
    let stack = stack(&with_files(&["A=1\nB=1", "A=2\nC=2"], &[]));
    let value = |name| variable(&stack, "web.1", name).expect("is set");
    assert_eq!([value("A"), value("B"), value("C")], ["2", "1", "2"]);
}

#[test]
fn the_file_beats_the_inherited_unless_told_otherwise() {
    let mut sources = with_files(&["A=2"], &[("A", "1")]);
    assert_eq!(variable(&stack(&sources), "web.1", "A").as_deref(), Some("2"));
    sources.options.give("env-precedence", given("--env-precedence", "inherited"));
    assert_eq!(variable(&stack(&sources), "web.1", "A").as_deref(), Some("1"));
    sources.options.give("env-precedence", given("--env-precedence", "inherit"));
    assert_eq!(refused(&sources), ["--env-precedence: \"inherit\" is not a precedence (write inherited)"]);
}

#[test]
fn expansion_sees_the_inherited_value() {
    let mut sources = with_files(&["PATH=$PATH:/x\nA=1", "PATH=${PATH}:$A$NOPE"], &[("PATH", "/bin")]);
    assert_eq!(variable(&stack(&sources), "web.1", "PATH").as_deref(), Some("${PATH}:$A$NOPE"));
    sources.options.give("expand-env", Given::new("--expand-env", ["yes"]));
    assert_eq!(variable(&stack(&sources), "web.1", "PATH").as_deref(), Some("/bin:/x:1"));
    assert_eq!(
        warnings(&sources, Severity::Note),
        [".env2:1: PATH refers to NOPE, which is not set; it stands for nothing"]
    );
}

#[test]
fn an_empty_value_of_a_higher_layer_stays_empty() {
    assert_eq!(variable(&stack(&with_files(&["A="], &[("A", "1")])), "web.1", "A").as_deref(), Some(""));
}

#[test]
fn the_layers_are_inherited_file_manifest_injected() {
    let mut sources = with_files(&["A=file\nB=file\nPS=file"], &[("A", "os"), ("B", "os"), ("C", "os")]);
    sources.manifest = Some(Text::new(
        "lpm.toml",
        "[defaults]\nenvironment = { B = \"all\", D = \"all\", E = 1, F = true }\n[process.web]\nenvironment.D = \"web\"\n",
    ));
    let stack = stack(&sources);
    for (name, value) in
        [("A", "file"), ("B", "all"), ("C", "os"), ("D", "web"), ("E", "1"), ("F", "true"), ("PS", "web.1")]
    {
        assert_eq!(variable(&stack, "web.1", name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(
        load(&sources).expect("accepted").declared,
        os(&[("A", "file"), ("B", "file"), ("PS", "file")])
    );
}

#[test]
fn what_is_injected() {
    let mut sources = typed("web: x\nfoo-bar: x\nfoo_bar: x\n", |options| {
        options.give("formation", given("-m", "web=2,foo-bar=1"));
    });
    sources.root = "/srv/shop".into();
    let stack = stack(&sources);
    for (name, value) in [
        ("PORT", "5001"),
        ("PS", "web.2"),
        ("LPM_PROCESS", "web"),
        ("LPM_INSTANCE", "web.2"),
        ("LPM_STACK", "shop"),
        ("LPM_PORT_WEB", "5000"),
        ("LPM_PORT_FOO_BAR", "5100"),
        ("HONCHO_PROCESS_NAME", "web.2"),
        ("FOREMAN_WORKER_NAME", "web.2"),
    ] {
        assert_eq!(variable(&stack, "web.2", name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(
        warnings(&sources, Severity::Warning),
        ["Procfile:3: LPM_PORT_FOO_BAR is the port of foo-bar, and foo_bar has no such variable \
          (rename one of them, or use --no-port)"]
    );
    sources.options.no_port = true;
    assert_eq!(warnings(&sources, Severity::Warning), [""; 0]);
}

#[test]
fn what_is_meant_for_lpm_alone_is_not_passed_on() {
    let mut sources = procfile("web: x");
    sources.environment =
        os(&[("NOTIFY_SOCKET", "@x"), ("LPM_MEM", "1G"), ("LPM_SCOPE", "x"), ("A", "1"), ("A", "2")]);
    let stack = stack(&sources);
    assert_eq!(variable(&stack, "web.1", "NOTIFY_SOCKET"), None);
    assert_eq!(variable(&stack, "web.1", "LPM_SCOPE"), None);
    assert_eq!(variable(&stack, "web.1", "LPM_MEM").as_deref(), Some("1G"));
    assert_eq!(variable(&stack, "web.1", "A").as_deref(), Some("2"));
}

// Ports.

#[test]
fn ports_go_up_by_hundreds_from_5000() {
    assert_eq!(ports(&stack(&procfile("a: x\nb: x\nc: x"))), [5000, 5100, 5200]);
}

#[test]
fn instances_go_up_by_one() {
    let sources = typed("foo: x\nbar: x", |options| {
        options.give("port", given("--port", "4000"));
        options.concurrency = given("-c", "foo=3,bar=2");
    });
    assert_eq!(ports(&stack(&sources)), [4000, 4001, 4002, 4100, 4101]);
}

#[test]
fn a_process_that_is_off_keeps_its_block() {
    let off = typed("a: x\nb: x", |options| options.concurrency = given("-c", "a=0"));
    assert_eq!(ports(&stack(&off)), [5100]);
    let filtered = typed("a: x\nb: x", |options| options.names = given("start", "b"));
    assert_eq!(ports(&stack(&filtered)), [5100]);
}

#[test]
fn the_base_port_is_the_options_then_the_files_then_the_inherited() {
    let base = |option: &str, file: &str, inherited: &str| {
        let mut sources = procfile("a: x\nb: x\nweb: x");
        if !option.is_empty() {
            sources.options.give("port", given("-p", option));
        }
        sources.env_files = vec![Text::new(".env", file)];
        sources.environment = os(&[("PORT", inherited)]);
        let stack = stack(&sources);
        assert_eq!(variable(&stack, "web.1", "PORT"), Some(ports(&stack)[2].to_string()));
        ports(&stack)
    };
    assert_eq!(base("8000", "", ""), [8000, 8100, 8200]);
    assert_eq!(base("", "", ""), [5000, 5100, 5200]);
    assert_eq!(base("", "", "4000"), [4000, 4100, 4200]);
    assert_eq!(base("", "PORT=6000", "4000"), [6000, 6100, 6200]);
    assert_eq!(base("", "PORT=\"3000\"", ""), [3000, 3100, 3200]);
    assert_eq!(base("4400", "PORT=4300", ""), [4400, 4500, 4600]);
    assert_eq!(base("5000", "PORT=6000", ""), [5000, 5100, 5200]);
    assert_eq!(base("80", "", ""), [80, 180, 280]);
}

#[test]
fn a_port_that_is_none_is_refused_where_it_was_written() {
    let option = typed("a: x", |options| options.give("port", given("--port", "0")));
    assert_eq!(refused(&option), ["--port: \"0\" is not a port (write 1 to 65535)"]);
    let message = "PORT is not a port (write 1 to 65535, or use --no-port)";
    assert_eq!(refused(&with_files(&["A=1\nPORT=x"], &[])), [format!(".env1:2: {message}")]);
    assert_eq!(refused(&with_files(&[], &[("PORT", "tcp://x")])), [format!("environment: {message}")]);
}

#[test]
fn without_ports_an_inherited_one_leaks_through() {
    let mut sources = typed("a: x", |options| options.no_port = true);
    let alone = stack(&sources);
    assert_eq!(variable(&alone, "a.1", "PORT"), None);
    assert_eq!(variable(&alone, "a.1", "LPM_PORT_A"), None);
    assert_eq!((alone.instances[0].port, alone.processes[0].port), (None, None));
    sources.environment = os(&[("PORT", "any")]);
    assert_eq!(variable(&stack(&sources), "a.1", "PORT").as_deref(), Some("any"));
}

#[test]
fn the_steps_can_be_chosen() {
    let sources = typed("a: x\nb: x\nc: x", |options| {
        options.give("port-step", given("--port-step", "10"));
        options.give("instance-port-step", given("--instance-port-step", "2"));
        options.concurrency = given("-c", "a=2");
    });
    assert_eq!(ports(&stack(&sources)), [5000, 5002, 5010, 5020]);
}

#[test]
fn two_instances_with_one_port_are_pointed_out() {
    let sources = typed("a: x\nb: x", |options| options.concurrency = given("-c", "a=101"));
    assert_eq!(warnings(&sources, Severity::Warning), ["a.101 and b.1 share port 5100 (raise --port-step)"]);
}

#[test]
fn a_port_above_the_last_is_refused_once_naming_the_instance() {
    let sources = typed("a: x\nb: x", |options| {
        options.give("port", given("-p", "65500"));
        options.concurrency = given("-c", "b=3");
    });
    assert_eq!(
        refused(&sources),
        ["Procfile:2: b.1 would get port 65600, above 65535 (lower --port or --port-step, or use --no-port)"]
    );
    let off = typed("a: x\nb: x", |options| {
        options.give("port", given("-p", "65500"));
        options.concurrency = given("-c", "b=0");
    });
    assert_eq!(ports(&stack(&off)), [65500]);
}

// Formation.

fn formed(formation: &str, concurrency: &str) -> Sources {
    typed("a: x\nb: x", |options| {
        if formation != "-" {
            options.give("formation", given("-m", formation));
        }
        if concurrency != "-" {
            options.concurrency = given("-c", concurrency);
        }
    })
}

#[test]
fn formations_mean_what_foremans_and_honchos_do() {
    for (formation, concurrency, expected) in [
        ("", "-", &["a.1", "b.1"][..]),
        ("-", "", &["a.1", "b.1"]),
        ("a=2", "-", &["a.1", "a.2"]),
        ("-", "a=2", &["a.1", "a.2", "b.1"]),
        ("a=2,b=1", "-", &["a.1", "a.2", "b.1"]),
        (" a   =   2, b = 1", "-", &["a.1", "a.2", "b.1"]),
        ("all=2", "-", &["a.1", "a.2", "b.1", "b.2"]),
        ("all=1,b=0", "-", &["a.1"]),
        ("b=0,all=1", "-", &["a.1"]),
        ("a=0", "-", &[]),
        ("-", "all=0", &[]),
    ] {
        assert_eq!(names(&stack(&formed(formation, concurrency))), expected, "{formation} {concurrency}");
    }
}

#[test]
fn formations_that_make_no_sense_are_refused() {
    for (formation, message) in [
        ("a=x", "\"a=x\" is not a number of instances (write a=2; the Procfile has a, b)"),
        ("a=-1", "\"a=-1\" is not a number of instances (write a=2; the Procfile has a, b)"),
        ("nope=2", "unknown process type \"nope\" (the Procfile has a, b)"),
        ("a=1,,b=1", "\"a=1,,b=1\" has an empty item (remove a comma)"),
        ("a=1,", "\"a=1,\" has an empty item (remove a comma)"),
        ("a", "\"a\" has no number (write a=1)"),
        ("a\x1b[2J", "\"a\\u{1b}[2J\" has no number (write a\\u{1b}[2J=1)"),
        ("a=", "\"a=\" is not a number of instances (write a=2; the Procfile has a, b)"),
        ("a=99999999999", "\"a=99999999999\" is too many (write a=10000 or less)"),
    ] {
        assert_eq!(refused(&formed(formation, "-")), [format!("-m: {message}")]);
        assert_eq!(refused(&formed("-", formation)), [format!("-c: {message}")]);
    }
    assert_eq!(refused(&formed("a=1", "b=1")), ["-m: cannot be combined with -c (use one)"]);
    assert_eq!(
        refused(&formed("a=6000,b=6000", "-")),
        ["the formation asks for 12000 instances (write 10000 or less)"]
    );
}

#[test]
fn an_unknown_name_is_refused_listing_the_known() {
    let sources = typed("web: x\nworker: x", |options| options.names = given("start", "zzz"));
    assert_eq!(refused(&sources), ["start: unknown process type \"zzz\" (the Procfile has web, worker)"]);
}

#[test]
fn names_select_process_types_and_instances() {
    let select = |list: &[&str], formation: &str| {
        let sources = typed("a: x\nb: x\nc: x", |options| {
            options.names = Given::new("start", list.iter().copied());
            options.give("formation", given("-m", formation));
        });
        load(&sources).map(|loaded| names(&loaded.stack).join(" ")).map_err(|problems| texts(&problems))
    };
    assert_eq!(select(&["c", "a"], ""), Ok("a.1 c.1".into()));
    assert_eq!(select(&["b"], "a=2,b=2"), Ok("b.1 b.2".into()));
    assert_eq!(select(&["b"], "a=2"), Ok("b.1".into()));
    assert_eq!(select(&["a.2", "c"], "all=2"), Ok("a.2 c.1 c.2".into()));
    assert_eq!(select(&["a.1", "a"], "all=2"), Ok("a.1 a.2".into()));
    assert_eq!(
        select(&["a.2"], ""),
        Err(vec!["start: there is no a.2: the formation has a=1 (write -m a=2)".into()])
    );
    assert_eq!(select(&["a.0"], ""), Err(vec!["start: \"a.0\" is no instance of a (write a.1)".into()]));
}

#[test]
fn an_option_wins_over_the_files_formation() {
    let mut sources = manifest("alpha: x\nbravo: x", "[stack]\nformation = \"alpha=2\"");
    assert_eq!(names(&stack(&sources)), ["alpha.1", "alpha.2"]);
    sources.options.give("formation", given("-m", "alpha=3"));
    assert_eq!(names(&stack(&sources)).len(), 3);
}

// Ceilings and policies.

#[test]
fn the_specific_wins_over_the_general_and_the_option_over_the_file() {
    let mut sources = manifest(
        "web: x\nworker: x\n",
        "[defaults]\nmemory-max = \"1G\"\ntasks-max = 100\n\
         [process.web]\nmemory-max = \"2G\"\ncpu-quota = 1.5\n\
         [process.\"worker.2\"]\nmemory-max = \"3G\"\n",
    );
    sources.options.concurrency = given("-c", "worker=2");
    let memory = |sources: &Sources| -> Vec<String> {
        stack(sources)
            .instances
            .iter()
            .map(|i| i.ceilings.memory_max.map_or("none".to_owned(), quantity::format_memory))
            .collect()
    };
    assert_eq!(memory(&sources), ["2G", "1G", "3G"]);
    sources.options.give("mem", given("--mem", "worker=512M,web.1=64M"));
    assert_eq!(memory(&sources), ["64M", "512M", "512M"]);
    sources.options.give("mem", given("--mem", "worker.2=1.5G,256M"));
    assert_eq!(memory(&sources), ["256M", "256M", "1.5G"]);
    sources.options.give("mem", given("--mem", "all=infinity"));
    assert_eq!(memory(&sources), ["infinity", "infinity", "infinity"]);
    let stack = stack(&sources);
    assert_eq!(stack.instances[0].ceilings.cpu_quota, Some(Ceiling::At(1500)));
    assert_eq!(stack.instances[1].ceilings.cpu_quota, None);
    assert_eq!(stack.instances[1].ceilings.tasks_max, Some(Ceiling::At(100)));
}

#[test]
fn every_ceiling_has_its_option() {
    let sources = typed("web: x", |options| {
        options.give("mem", given("--mem", "web=512M"));
        options.give("mem-high", given("--mem-high", "50%"));
        options.give("swap", given("--swap", "0"));
        options.give("cpu", given("--cpu", "web=150%"));
        options.give("cpu-weight", given("--cpu-weight", "web=50"));
        options.give("tasks", given("--tasks", "web=64"));
        options.give("stack-mem", given("--stack-mem", "2G"));
        options.give("stack-cpu", given("--stack-cpu", "infinity"));
        options.give("stack-tasks", given("--stack-tasks", "10%"));
        options.give("limits", given("--limits", "best-effort"));
    });
    let stack = stack(&sources);
    assert_eq!(
        stack.instances[0].ceilings,
        Ceilings {
            memory_max: Some(Ceiling::At(512 << 20)),
            memory_high: Some(Ceiling::At(4 << 30)),
            memory_swap_max: Some(Ceiling::At(0)),
            cpu_quota: Some(Ceiling::At(1500)),
            cpu_weight: Some(50),
            tasks_max: Some(Ceiling::At(64)),
        }
    );
    assert_eq!(
        stack.ceilings,
        Ceilings {
            memory_max: Some(Ceiling::At(2 << 30)),
            cpu_quota: Some(Ceiling::Infinity),
            tasks_max: Some(Ceiling::At(3276)),
            ..Ceilings::default()
        }
    );
    assert_eq!(stack.limits, Limits::BestEffort);
}

#[test]
fn nonsense_is_refused_naming_the_option_and_all_of_it_at_once() {
    let sources = typed("web: x\nworker: x", |options| {
        options.give("mem", given("--mem", "512X,worker=-1,wroker=1G"));
        options.give("cpu", given("LPM_CPU", "web=lots"));
        options.give("tasks", given("--tasks", "web="));
        options.give("stack-mem", given("--stack-mem", "512X"));
        options.give("timeout", given("-t", "soon"));
        options.give("stop-signal", given("--stop-signal", "web=TREM"));
        options.give("kill-mode", given("--kill-mode", "process"));
        options.give("can-die", given("--can-die", "wbe"));
        options.give("restart", given("--restart", "web"));
        options.give("exit-code", given("--exit-code", "last"));
        options.give("limits", given("--limits", "strickt"));
        options.give("name", given("--name", ""));
    });
    let mut problems = refused(&sources);
    problems.sort();
    assert_eq!(
        problems,
        [
            "--can-die: unknown process type \"wbe\" (the Procfile has web, worker)",
            "--exit-code: \"last\" is not an exit code rule (write first, worst or zero)",
            "--kill-mode: \"process\" is not a kill mode (write control-group or mixed)",
            "--limits: \"strickt\" is not a rule for limits (write strict)",
            "--mem: \"-1\" is not a size (write 512M, 50% or infinity)",
            "--mem: \"512X\" is not a size (write 512M)",
            "--mem: unknown process type \"wroker\" (the Procfile has web, worker)",
            "--name: \"\" is no name (write letters and digits)",
            "--restart: \"web\" is not a restart rule (write no, on-failure or always)",
            "--stack-mem: \"512X\" is not a size (write 512M)",
            "--stop-signal: \"TREM\" is not a signal (write a name such as TERM, SIGQUIT or RTMIN+3, or a number)",
            "--tasks: \"\" is not a number of tasks (write a number such as 64, 10% or infinity)",
            "-t: \"soon\" is not a duration (write 5, 5s, 500ms or 1min 30s)",
            "LPM_CPU: \"lots\" is not a number of CPUs (write 1.5, 150% or infinity)",
        ]
    );
}

#[test]
fn policies_are_set_by_options() {
    let sources = typed("web: x\nworker: x", |options| {
        options.give("timeout", given("-t", "10,web=1min 30s"));
        options.give("stop-signal", given("--stop-signal", "web=QUIT,worker=sigint"));
        options.give("kill-mode", given("--kill-mode", "web=mixed"));
        options.give("can-die", given("--can-die", "worker"));
        options.give("restart", given("--restart", "web=on-failure"));
        options.give("quiet", given("-q", "web"));
        options.give("pty", given("--pty", "all,web=no"));
        options.give("exit-code", given("--exit-code", "worst"));
        options.give("name", given("--name", "shop"));
    });
    let stack = stack(&sources);
    let (web, worker) = (&stack.instances[0], &stack.instances[1]);
    assert_eq!(web.policy.timeout_stop, Duration::from_secs(90));
    assert_eq!(worker.policy.timeout_stop, Duration::from_secs(10));
    assert_eq!((web.policy.stop_signal, worker.policy.stop_signal), (Signal(3), Signal(2)));
    assert_eq!((web.policy.kill_mode, worker.policy.kill_mode), (KillMode::Mixed, KillMode::ControlGroup));
    assert_eq!((web.policy.can_die, worker.policy.can_die), (false, true));
    assert_eq!(web.policy.restart.when, RestartWhen::OnFailure);
    assert_eq!((web.quiet, worker.quiet), (true, false));
    assert_eq!((web.pty, worker.pty), (false, true));
    assert_eq!((stack.exit_code, stack.name.as_str()), (ExitCodeRule::Worst, "shop"));
}

#[test]
fn restarts_have_systemds_defaults_with_a_growing_delay() {
    let restart = &stack(&procfile("web: x")).instances[0].policy.restart;
    assert_eq!(
        *restart,
        Restart {
            when: RestartWhen::No,
            delay: Duration::from_millis(100),
            delay_max: Duration::from_secs(60),
            burst: 5,
            interval: Duration::from_secs(10),
        }
    );
}

#[test]
fn one_that_can_die_may_be_restarted_all_the_same() {
    let sources = typed("web: x", |options| {
        options.give("can-die", given("--can-die", "web"));
        options.give("restart", given("--restart", "web=always"));
    });
    let policy = &stack(&sources).instances[0].policy;
    assert!(policy.can_die && policy.restart.when == RestartWhen::Always);
}

#[test]
fn release_is_one_shot_unless_configured() {
    let oneshot = |change: fn(&mut Sources)| {
        let mut sources = procfile("release: x\nweb: y");
        change(&mut sources);
        let stack = stack(&sources);
        assert!(!instance(&stack, "web.1").policy.oneshot);
        let release = &instance(&stack, "release.1").policy;
        (release.oneshot, release.restart.when)
    };
    assert_eq!(oneshot(|_| {}), (true, RestartWhen::No));
    assert_eq!(oneshot(|s| s.options.give("restart", given("--restart", "always"))), (true, RestartWhen::No));
    assert_eq!(
        oneshot(|s| s.options.give("restart", given("--restart", "release=always"))),
        (false, RestartWhen::Always)
    );
    assert_eq!(
        oneshot(|s| s.manifest = Some(Text::new("lpm.toml", "[process.release]\noneshot = false"))),
        (false, RestartWhen::No)
    );
    let contradiction = manifest("web: x", "[process.web]\noneshot = true\nrestart = \"always\"");
    assert_eq!(
        refused(&contradiction),
        ["web is one-shot, which restart=always contradicts (write web=on-failure)"]
    );
}

#[test]
fn a_setting_for_an_instance_that_is_not_there_is_pointed_out() {
    let sources = typed("web: x", |options| options.give("mem", given("--mem", "web.3=1G")));
    assert_eq!(warnings(&sources, Severity::Warning), ["there is no web.3: the formation has web=1"]);
}

// lpm.toml.

#[test]
fn the_file_sets_what_the_options_set() {
    let sources = manifest(
        "web: x",
        r#"
[stack]
name = "shop"
port = 7000
port-step = 10
instance-port-step = 2
exit-code = "zero"
limits = "best-effort"
memory-max = "2G"
cpu-quota = "200%"
tasks-max = 500

[process.web]
memory-max = 536870912
memory-high = "256M"
memory-swap-max = 0
cpu-weight = 50
stop-signal = "SIGQUIT"
timeout-stop = 30
kill-mode = "mixed"
can-die = true
quiet = true
pty = true
working-directory = "sub"
restart = "on-failure"
restart-sec = "1s"
restart-max-delay-sec = "10s"
start-limit-burst = 3
start-limit-interval = "1min"
"#,
    );
    let stack = stack(&sources);
    let web = &stack.instances[0];
    assert_eq!((stack.name.as_str(), web.port), ("shop", Some(7000)));
    assert_eq!((stack.exit_code, stack.limits), (ExitCodeRule::Zero, Limits::BestEffort));
    assert_eq!(stack.ceilings.cpu_quota, Some(Ceiling::At(2000)));
    assert_eq!(web.ceilings.memory_max, Some(Ceiling::At(512 << 20)));
    assert_eq!(web.ceilings.memory_swap_max, Some(Ceiling::At(0)));
    assert_eq!(web.working_directory, PathBuf::from("/srv/app/sub"));
    assert_eq!(variable(&stack, "web.1", "PWD").as_deref(), Some("/srv/app/sub"));
    assert!(web.quiet && web.pty);
    assert_eq!(
        web.policy,
        Policy {
            stop_signal: Signal(3),
            timeout_stop: Duration::from_secs(30),
            kill_mode: KillMode::Mixed,
            can_die: true,
            oneshot: false,
            restart: Restart {
                when: RestartWhen::OnFailure,
                delay: Duration::from_secs(1),
                delay_max: Duration::from_secs(10),
                burst: 3,
                interval: Duration::from_secs(60),
            },
        }
    );
}

#[test]
fn all_mistakes_of_a_file_come_at_once_and_in_order() {
    let file = "[process.web]\nmemroy-max = \"1G\"\nquiet = \"perhaps\"\n\n[stack]\nprot = 1\n\n\
                [process.other]\nrestart = [1]\n\n[default]\n";
    assert_eq!(
        refused(&manifest("web: x", file)),
        [
            "lpm.toml:2: unknown key \"memroy-max\" (write memory-max)",
            "lpm.toml:3: quiet: \"perhaps\" is neither yes nor no (write yes or no)",
            "lpm.toml:6: unknown key \"prot\" (write port)",
            "lpm.toml:8: unknown process type \"other\" (the Procfile has web)",
            "lpm.toml:9: a list stands where text, a number or true or false belongs",
            "lpm.toml:11: unknown key \"default\" (write defaults)",
        ]
    );
}

#[test]
fn what_was_said_is_kept_as_it_was_said() {
    let mut sources =
        manifest("web: x\nworker: x", "[defaults]\nmemory-max = \"50%\"\n\n[stack]\nport = 7000\n");
    sources.options.give("mem", given("--mem", "worker=1G"));
    let Loaded { stack, spec, .. } = load(&sources).expect("accepted");
    assert_eq!(stack.instances[0].ceilings.memory_max, Some(Ceiling::At(4 << 30)));
    let said = |process: usize| -> Vec<String> {
        let said = spec.of_instance(process, 1);
        said.map(|said| format!("{}: {} = {}", said.place, said.row.key, said.value)).collect()
    };
    assert_eq!(said(0), ["lpm.toml:2: memory-max = 50%"]);
    assert_eq!(said(1), ["--mem: memory-max = 1G"]);
    let port = spec.stack_said(&rows::PORT).expect("the file says it");
    assert_eq!((port.place.to_string().as_str(), port.value.to_string().as_str()), ("lpm.toml:5", "7000"));
    assert_eq!(spec.stack_said(&rows::LIMITS), None);
}

#[test]
fn mistakes_in_the_file_are_located() {
    for (file, message) in [
        ("[process.web]\nmemroy-max = \"1G\"", "2: unknown key \"memroy-max\" (write memory-max)"),
        ("[proces.web]", "1: unknown key \"proces\" (write process)"),
        ("[process.wbe]", "1: unknown process type \"wbe\" (the Procfile has web, worker)"),
        ("[process.worker.2]", "1: unknown key \"2\" (an instance is written [process.\"web.2\"])"),
        ("[process.all]", "1: \"all\" is no process type (write [defaults])"),
        ("[process.\"web.x\"]", "1: \"web.x\" is no instance of web (write web.1)"),
        ("# x\n[process.web]\nmemory-max = \"512X\"", "3: memory-max: \"512X\" is not a size (write 512M)"),
        (
            "[process.web]\ncan-die = \"maybe\"",
            "2: can-die: \"maybe\" is neither yes nor no (write yes or no)",
        ),
        ("[process.web]\nmemory-max = [1]", "2: a list stands where text, a number or true or false belongs"),
        ("[process.web]\nenvironment = \"SECRET=1\"", "2: text stands where a table belongs"),
        (
            "[process.web]\nenvironment.PORT = 80",
            "2: environment: PORT is set by lpm (port in [stack] chooses it, or --no-port)",
        ),
        ("[process.web]\nenvironment.\"A B\" = 80", "2: environment: \"A B\" is no name of a variable"),
        ("[process.web]\nenvironment.A = \"s\\u0000\"", "2: environment: the value of A holds a NUL byte"),
        ("[stack]\nport = 0", "2: port: \"0\" is not a port (write 1 to 65535)"),
        ("[stack]\nexit-code = \"wurst\"", "2: exit-code: \"wurst\" is not an exit code rule (write worst)"),
        ("[stack]\nexpand-env = \"x\"", "2: expand-env: \"x\" is neither yes nor no (write yes or no)"),
        ("process = 5", "1: a number stands where a table belongs"),
        ("[process.web]\nport = 80", "2: port does not belong here (write it below [stack])"),
        (
            "[stack]\nrestart = \"no\"",
            "2: restart does not belong here (write it below [defaults] or [process.NAME])",
        ),
    ] {
        assert_eq!(refused(&manifest("web: x\nworker: x", file)), [format!("lpm.toml:{message}")], "{file}");
    }
    let keys: Vec<&str> = table::rows().filter(|row| row.is_of_processes()).map(|row| row.key).collect();
    assert_eq!(
        refused(&manifest("web: x", "[defaults]\n\ncolour = 1")),
        [format!("lpm.toml:3: unknown key \"colour\" (known here: {})", keys.join(", "))]
    );
    for file in ["[process.web", "a = ", "[stack]\nname = \"a\"\nname = \"b\"", "\u{0}"] {
        let messages = refused(&manifest("web: x", file));
        assert!(messages.len() == 1 && messages[0].starts_with("lpm.toml:"), "{messages:?}");
        assert!(!messages[0].contains('\n'), "{messages:?}");
    }
    let mut binary = procfile("web: x");
    binary.manifest = Some(Text::new("lpm.toml", b"# x\n\xff".to_vec()));
    assert_eq!(refused(&binary), ["lpm.toml:2: the file is not UTF-8"]);
}

// `lpm run`.

fn one_off(sources: &Sources, arguments: &[&str]) -> Stack {
    let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    load_one_off(sources, &arguments, 77).unwrap_or_else(|problems| panic!("{:?}", texts(&problems))).stack
}

#[test]
fn several_arguments_are_executed_as_given() {
    let stack = one_off(&procfile("web: x"), &["grep", "-e", "FOO $BAR", ".env"]);
    let expected = ["grep", "-e", "FOO $BAR", ".env"].map(OsString::from).to_vec();
    assert_eq!(stack.instances[0].command, Command::Exec(expected));
    assert_eq!(names(&stack), ["run.77"]);
}

#[test]
fn a_single_name_of_the_procfile_runs_that_entry() {
    let mut sources =
        manifest("web: x\nmigrate: rake db:migrate\n", "[process.migrate]\nmemory-max = \"64M\"");
    sources.options.give("restart", given("--restart", "always"));
    let stack = one_off(&sources, &["migrate"]);
    let run = &stack.instances[0];
    let words = vec!["rake".into(), "db:migrate".into()];
    assert_eq!(run.command, Command::Direct { words, text: "rake db:migrate".into() });
    assert_eq!(run.ceilings.memory_max, Some(Ceiling::At(64 << 20)));
    assert_eq!(stack.processes[run.process].name, "migrate");
    assert_eq!(run.policy.restart.when, RestartWhen::No);
    for (name, value) in
        [("PORT", "5100"), ("PS", "run.77"), ("LPM_PROCESS", "migrate"), ("LPM_PORT_WEB", "5000")]
    {
        assert_eq!(variable(&stack, "run.77", name).as_deref(), Some(value), "{name}");
    }
}

#[test]
fn any_other_command_sees_the_env_file_and_no_port_of_ours() {
    let mut sources = procfile("web: x");
    sources.env_files = vec![Text::new(".env", "FILENAME=x\n")];
    sources.options.give("mem", given("--mem", "64M"));
    let stack = one_off(&sources, &["touch $FILENAME"]);
    assert_eq!(stack.instances[0].command, Command::Shell("touch $FILENAME".into()));
    assert_eq!(variable(&stack, "run.77", "FILENAME").as_deref(), Some("x"));
    assert_eq!(variable(&stack, "run.77", "PORT"), None);
    assert_eq!(variable(&stack, "run.77", "LPM_PROCESS").as_deref(), Some("run"));
    assert_eq!(stack.instances[0].ceilings.memory_max, Some(Ceiling::At(64 << 20)));
    assert_eq!(stack.processes[stack.instances[0].process].name, "run");
}

#[test]
fn a_run_needs_a_command_but_no_procfile() {
    assert_eq!(names(&one_off(&procfile(""), &["true"])), ["run.77"]);
    let problems = load_one_off(&procfile(""), &[], 1).expect_err("no command");
    assert_eq!(texts(&problems), ["no command to run (write lpm run COMMAND)"]);
}

// A running stack.

fn told(all: &[(&str, &str, &str)]) -> Vec<Assignment> {
    let told = |&(name, key, value): &(&str, &str, &str)| Assignment {
        name: name.to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
    };
    all.iter().map(told).collect()
}

fn scaled(sources: &Sources, scale: &[(&str, u32)]) -> Sources {
    let mut sources = sources.clone();
    sources.options.scale = scale.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
    sources
}

#[test]
fn the_scale_wins_over_formation_concurrency_and_names() {
    for (option, scale, expected) in [
        ("", &[][..], "a.1 b.1"),
        ("", &[("a", 3)], "a.1 a.2 a.3 b.1"),
        ("", &[("a", 0)], "b.1"),
        ("-m a=2", &[("b", 1)], "a.1 a.2 b.1"),
        ("-c a=2", &[("a", 1)], "a.1 b.1"),
        ("a", &[("b", 2)], "a.1 b.1 b.2"),
        ("a", &[("a", 0)], ""),
        ("-m a=3 a.2", &[("a", 2)], "a.1 a.2"),
        ("-m a=1 a.1", &[("a", 0), ("b", 1)], "b.1"),
    ] {
        let sources = typed("a: x\nb: x", |options| {
            let mut words = option.split_whitespace().peekable();
            while let Some(word) = words.next() {
                match word {
                    "-m" => options.give("formation", given("-m", words.next().expect("a list"))),
                    "-c" => options.concurrency = given("-c", words.next().expect("a list")),
                    name => options.names.values.push(name.to_owned()),
                }
            }
        });
        let stack = stack(&scaled(&sources, scale));
        assert_eq!(names(&stack).join(" "), expected, "{option} {scale:?}");
        for (process, entry) in stack.processes.iter().enumerate() {
            let count = stack.instances.iter().filter(|instance| instance.process == process).count();
            assert_eq!(entry.count as usize, count, "{option} {scale:?}");
        }
    }
}

#[test]
fn a_scale_that_cannot_be_is_refused_and_one_that_is_gone_is_said() {
    let two = procfile("a: x\nb: x");
    for count in [10_000, u32::MAX] {
        let total = u64::from(count) + 1;
        assert_eq!(
            refused(&scaled(&two, &[("a", count)])),
            [format!("scale: that would be {total} instances (write 10000 or less)")]
        );
    }
    let gone = scaled(&two, &[("web", 3)]);
    assert_eq!(names(&stack(&gone)), ["a.1", "b.1"]);
    assert_eq!(
        warnings(&gone, Severity::Warning),
        ["scale: unknown process type \"web\" (the Procfile has a, b)"]
    );
    // A number that the formation does not have, but the stack by now.
    let mut more = scaled(&two, &[("a", 3)]);
    more.options.give("mem", given("--mem", "a.3=1G"));
    assert_eq!(warnings(&more, Severity::Warning), [""; 0]);
}

#[test]
fn what_was_typed_about_what_is_gone_is_forgotten() {
    let mut sources = procfile("web: x\nworker: x");
    let typed = Options {
        names: given("start", "web"),
        concurrency: given("-c", "old=2"),
        scale: [("old".to_owned(), 2), ("web".to_owned(), 1)].into(),
        set: told(&[("old.1", "quiet", "yes"), ("all", "quiet", "yes"), ("web", "quiet", "no")]),
        ..Options::default()
    }
    .giving("formation", given("-m", "web=1, old=2,all=1"))
    .giving("mem", Given::new("--mem", ["64M,old=1G,web.1=2G", "old.2=3G"]))
    .giving("can-die", given("--can-die", "old,worker,old.1=no"));
    sources.options = typed.clone();
    sources.options.names.values.push("old".to_owned());
    sources.forget_what_is_gone();
    let left = Options {
        concurrency: Given { origin: "-c".to_owned(), values: Vec::new() },
        scale: [("web".to_owned(), 1)].into(),
        set: told(&[("all", "quiet", "yes"), ("web", "quiet", "no")]),
        ..typed
    }
    .giving("formation", given("-m", "web=1,all=1"))
    .giving("mem", Given::new("--mem", ["64M,web.1=2G"]))
    .giving("can-die", given("--can-die", "worker"));
    assert_eq!(sources.options, left);
    // Then everything would start.
    sources.options = Options { names: given("start", "old"), ..Options::default() };
    sources.forget_what_is_gone();
    assert_eq!(refused(&sources), ["start: unknown process type \"old\" (the Procfile has web, worker)"]);
}

#[test]
fn what_is_told_wins_over_options_and_file() {
    let mut sources = manifest(
        "web: x\nworker: x",
        "[process.\"web.1\"]\nmemory-max = \"64M\"\n[process.web]\ncpu-quota = 1",
    );
    sources.options.concurrency = given("-c", "web=2");
    sources.options.give("mem", given("--mem", "web.2=128M"));
    let memory = |sources: &Sources| -> Vec<String> {
        let format = |i: &Instance| i.ceilings.memory_max.map_or("none".to_owned(), quantity::format_memory);
        stack(sources).instances.iter().map(format).collect()
    };
    assert_eq!(memory(&sources), ["64M", "128M", "none"]);
    for (told_since, expected) in [
        (&[("all", "memory-max", "1G")][..], ["1G", "1G", "1G"]),
        (&[("web", "memory-max", "1G")], ["1G", "1G", "none"]),
        (&[("web.2", "memory-max", "1G")], ["64M", "1G", "none"]),
        (&[("all", "memory-max", "1G"), ("web.2", "mem", "2G")], ["1G", "2G", "1G"]),
        // The last word counts.
        (&[("web.2", "memory-max", "2G"), ("all", "memory-max", "1G")], ["1G", "1G", "1G"]),
        (&[("web.2", "memory-max", "2G"), ("web", "cpu-quota", "2")], ["64M", "2G", "none"]),
        (&[("web", "memory-max", "3G"), ("web", "memory-max", "4G")], ["4G", "4G", "none"]),
    ] {
        sources.options.set = told(told_since);
        assert_eq!(memory(&sources), expected, "{told_since:?}");
    }
    sources.options.set = told(&[("worker", "restart", "always"), ("worker", "quiet", "yes")]);
    let stack = stack(&sources);
    let worker = instance(&stack, "worker.1");
    assert!(worker.quiet && worker.policy.restart.when == RestartWhen::Always);
}

#[test]
fn nonsense_that_is_told_is_refused_in_order() {
    let mut sources = procfile("web: x");
    sources.options.set = told(&[
        ("web", "memory-max", "512X"),
        ("web", "memroy-max", "1G"),
        ("all", "working-directory", "/"),
        ("web", "tasks-max", "lots"),
    ]);
    assert_eq!(
        refused(&sources),
        [
            "set: memory-max: \"512X\" is not a size (write 512M)",
            "set: unknown key \"memroy-max\" (write memory-max)",
            "set: working-directory cannot be set in a running stack (write it into lpm.toml and reload)",
            "set: tasks-max: \"lots\" is not a number of tasks (write a number such as 64, 10% or infinity)",
        ]
    );
    // What was told to a process type that is gone must not stand in the way of a reload.
    sources.options.set = told(&[("worker", "memory-max", "1G"), ("web.7", "memory-max", "1G")]);
    assert_eq!(
        warnings(&sources, Severity::Warning),
        [
            "set: unknown process type \"worker\" (the Procfile has web)",
            "there is no web.7: the formation has web=1"
        ]
    );
    assert_eq!(check_target("web.7", &stack(&sources)), Ok(()));
    assert_eq!(check_target("all", &stack(&sources)), Ok(()));
    assert_eq!(
        check_target("worker", &stack(&sources)),
        Err("unknown process type \"worker\" (the Procfile has web)".into())
    );
}

#[test]
fn what_is_told_again_and_again_does_not_add_up() {
    let mut options = Options::default();
    for n in 1..100 {
        let size = format!("{n}M");
        options.tell(told(&[
            ("web", "memory-max", &size),
            ("all", "memory-max", &size),
            ("web", "quiet", "no"),
        ]));
    }
    assert_eq!(
        options.set,
        told(&[("web", "memory-max", "99M"), ("all", "memory-max", "99M"), ("web", "quiet", "no")])
    );
}

#[test]
fn every_key_of_the_file_but_three_can_be_told() {
    let mistake = refused(&manifest("web: x", "[process.web]\nzzzzzzzzzz = 1"));
    let known = mistake[0].split_once("known here: ").expect("it lists them").1.trim_end_matches(')');
    let told: Vec<&str> = table::rows().filter(|row| row.can_be_set()).map(|row| row.key).collect();
    let other = ["log", "working-directory", "environment"];
    let rest: Vec<&str> = known.split(", ").filter(|key| !other.contains(key)).collect();
    assert_eq!(rest, told);
}

#[test]
fn the_socket_is_for_those_that_may_control_the_stack() {
    let mut sources = manifest("web: x\nworker: x", "[process.\"web.2\"]\ncontrol = true");
    sources.options.concurrency = given("-c", "web=2");
    sources.environment = os(&[("LPM_SOCKET", "/run/another.sock")]);
    assert_eq!(variable(&stack(&sources), "web.2", "LPM_SOCKET"), None);
    sources.socket = Some("/run/lpm/app.sock".into());
    let stack = stack(&sources);
    for (name, expected) in [("web.1", None), ("web.2", Some("/run/lpm/app.sock")), ("worker.1", None)] {
        assert_eq!(instance(&stack, name).control, expected.is_some());
        assert_eq!(variable(&stack, name, "LPM_SOCKET").as_deref(), expected, "{name}");
    }
    let forged = manifest("web: x", "[process.web.environment]\nLPM_SOCKET = \"x\"");
    assert_eq!(refused(&forged), ["lpm.toml:2: environment: LPM_SOCKET is set by lpm"]);
}

#[test]
fn a_name_stands_for_as_many_as_it_would_start() {
    let sources = manifest("a: x\nb: x\nc: x\nd: x", "[stack]\nformation = \"a=2,c=0\"");
    let counts = |sources: &Sources, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let counts = named_counts(sources, &names).map_err(|problems| texts(&problems).join("; "))?;
        Ok::<_, String>(counts.iter().map(|(n, c)| format!("{n}={c}")).collect::<Vec<_>>().join(" "))
    };
    for (names, expected) in [
        (&[][..], ""),
        (&["a"], "a=2"),
        (&["b"], "b=1"),
        (&["c"], "c=1"),
        (&["a.1"], "a=2"),
        (&["a.3", "b.3", "b.2"], "a=3 b=3"),
        (&["all"], "a=2"),
        (&["all", "d"], "a=2 d=1"),
        (&["[ab]*"], "!no name fits \"[ab]*\" (the Procfile has a, b, c, d)"),
        (&["?"], "a=2 b=1 c=1 d=1"),
        (&["*.2"], "a=2"),
        (&["nope"], "!unknown process type \"nope\" (the Procfile has a, b, c, d)"),
        (&["a.0"], "!\"a.0\" is no instance of a (write a.1)"),
    ] {
        let expected = match expected.strip_prefix('!') {
            Some(message) => Err(message.to_owned()),
            None => Ok(expected.to_owned()),
        };
        assert_eq!(counts(&sources, names), expected, "{names:?}");
    }
    // What the stack was told counts as its formation, but for what was switched off.
    let scaled = scaled(&sources, &[("a", 5), ("b", 0), ("d", 2)]);
    assert_eq!(counts(&scaled, &["a", "b", "d"]), Ok("a=5 b=1 d=2".into()));
    assert_eq!(counts(&scaled, &["all"]), Ok("a=5 d=2".into()));
    assert_eq!(counts(&scaled, &["d.1"]), Ok("d=2".into()));
}

#[test]
fn ceilings_that_are_gone_are_lifted_where_they_were() {
    let old = Ceilings {
        memory_max: Some(Ceiling::At(1 << 30)),
        memory_high: Some(Ceiling::At(1 << 29)),
        memory_swap_max: Some(Ceiling::At(0)),
        cpu_quota: Some(Ceiling::At(1500)),
        cpu_weight: Some(50),
        tasks_max: Some(Ceiling::At(64)),
    };
    let none = Ceilings::default();
    assert_eq!(none.replacing(&none), none);
    assert_eq!(old.replacing(&none), old);
    let lifted = Some(Ceiling::Infinity);
    assert_eq!(
        none.replacing(&old),
        Ceilings {
            memory_max: lifted,
            memory_high: lifted,
            memory_swap_max: lifted,
            cpu_quota: lifted,
            cpu_weight: Some(100),
            tasks_max: lifted,
        }
    );
    let new = Ceilings { memory_max: Some(Ceiling::At(2 << 30)), ..Ceilings::default() };
    assert_eq!(new.replacing(&old).memory_max, new.memory_max);
    assert_eq!(new.replacing(&old).tasks_max, lifted);
}

#[test]
fn sources_can_be_kept_and_handed_on() {
    fn kept<T: Clone + Send + 'static>(_: &T) {}
    kept(&procfile("web: x"));
}

// Notes.

#[test]
fn notes_are_located_and_fail_nothing() {
    let sources = procfile("web: docker run nginx\nall-in-one: x\nworker: python x.py\n");
    assert_eq!(
        warnings(&sources, Severity::Note),
        [
            "Procfile:1: web: docker hands its work to another daemon, where no limit and no stop of lpm reaches it",
            "Procfile:3: worker: python holds its output back unless it writes to a terminal (set PYTHONUNBUFFERED=1)",
        ]
    );
    assert_eq!(warnings(&sources, Severity::Warning), [""; 0]);
}

#[test]
fn a_thousand_instances_share_one_environment() {
    let mut sources = typed("web: ./serve", |options| options.give("formation", given("-m", "web=1000")));
    sources.environment = (0..100).map(|n| (format!("NAME_{n}").into(), "value".into())).collect();
    let stack = stack(&sources);
    assert_eq!(stack.instances.len(), 1000);
    assert!(stack.instances.iter().all(|instance| instance.environment.len() == 6));
    assert_eq!(environment_of(&stack, &stack.instances[999]).len(), 100 + 3 + 6);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_panics(
            procfile_text in "([a-c.:# \\\\x\n]{0,20}\n){0,4}web: x\n",
            env in "([A-C='\"\\\\$#{} \n]{0,16}\n){0,4}",
            toml in "(\\[(stack|defaults|process\\.web|x)\\]\n)?((port|memory-max|can-die|environment|x) = [0-9\"xM{}=\\[\\]-]{0,6}\n){0,3}",
            option in "((web|all|a|web\\.[0-9]{1,6})?=?[0-9MXs%.-]{0,6},?){0,4}",
        ) {
            let mut sources = manifest(&procfile_text, &toml);
            sources.env_files = vec![Text::new(".env", env)];
            let origin = |name: &str| given(name, &option);
            sources.options.concurrency = origin("-c");
            for (option, _) in table::options() {
                sources.options.give(option.long, origin(&format!("--{}", option.long)));
            }
            match load(&sources) {
                Ok(loaded) => prop_assert!(!loaded.warnings.iter().any(Diagnostic::is_error)),
                Err(problems) => prop_assert!(problems.iter().any(Diagnostic::is_error)),
            }
        }

        #[test]
        fn any_bytes_as_lpm_toml_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut sources = procfile("web: x");
            sources.manifest = Some(Text::new("lpm.toml", bytes));
            let _ = load(&sources);
        }

        #[test]
        fn every_instance_is_numbered_without_gaps(a in 0u32..50, b in 0u32..50) {
            let sources = typed("a: x\nb: x", |options| options.give("formation", given("-m", &format!("a={a},b={b}"))));
            let stack = stack(&sources);
            prop_assert_eq!(stack.instances.len(), (a + b) as usize);
            for instance in &stack.instances {
                let process = &stack.processes[instance.process];
                prop_assert_eq!(&instance.name, &format!("{}.{}", process.name, instance.number));
                prop_assert!((1..=process.count).contains(&instance.number));
            }
        }
    }
}

#[test]
fn a_process_type_can_have_a_route_of_its_own() {
    let file = |text: &str| manifest("web: x\nworker: y", text);
    let sources = file(
        "[stack]\nlog = \"terminal,file=log\"\nhistory = \"2M\"\n[process.web]\nlog = \"file=web.log\"\n\
         [process.worker]\nlog = \"journald-direct\"\npretty = true",
    );
    let ours = stack(&sources);
    let [web, worker] = &ours.instances[..] else { panic!("two") };
    let files = |route: &Route| route.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>();
    assert_eq!(files(ours.route(web)), [PathBuf::from("/srv/app/web.log")]);
    assert!(!ours.route(web).stdout && ours.logging.route.stdout && worker.pretty);
    assert!(ours.writes_itself(worker) && !ours.writes_itself(web));
    assert_eq!((ours.log_files().len(), ours.logging.history), (2, Some(2 << 20)));

    let mut typed = sources.clone();
    typed.options.give("log", given("--log", "json"));
    let typed = stack(&typed);
    assert!(typed.instances.iter().all(|one| one.route.is_none()) && typed.logging.form == Form::Json);

    let mut own = file("[process.worker]\nlog = \"journald-direct\"\npty = true");
    own.options.give("log", Given::default());
    let own = stack(&own);
    assert!(!own.writes_itself(&own.instances[1]), "what its terminal shows, lpm reads");

    for (text, message) in [
        (
            "[process.web]\nlog = \"json\"\n[process.worker]\nlog = \"terminal\"",
            "log of worker: terminal and json both go to standard output (write json=FILE)",
        ),
        ("[process.web]\nlog = \"syslog\"", "lpm.toml:2: log: \"syslog\" is no place for lines"),
        ("[stack]\nhistory = \"1K\"", "lpm.toml:2: history: \"1K\" is no amount to keep of each"),
    ] {
        let refused = refused(&file(text));
        assert!(refused.len() == 1 && refused[0].starts_with(message), "{refused:?}");
    }
}

// Bounds.

/// `.env` with this text, expanded.
fn expanded(text: &str) -> Sources {
    let mut sources = procfile("web: x");
    sources.env_files = vec![Text::new(".env", text)];
    sources.options.give("expand-env", Given::new("--expand-env", ["yes"]));
    sources
}

#[test]
fn a_value_has_a_largest_length_expanded_or_not() {
    let most = environment::LARGEST_VARIABLE;
    let long = "x".repeat(most - "A=\0".len());
    for expand in [false, true] {
        let with = |text: &str| {
            let mut sources = expanded(text);
            if expand {
                sources.options.give("expand-env", given("--expand-env", "yes"));
            }
            sources
        };
        assert_eq!(
            variable(&stack(&with(&format!("A={long}"))), "web.1", "A").map(|v| v.len()),
            Some(most - 3)
        );
        assert_eq!(
            refused(&with(&format!("B=\nA={long}y\nC=1"))),
            [".env:2: the value of A is larger than 128 KiB, which no program can be given"]
        );
    }
    // One mistake is one error, also where others refer to it.
    let mut text = "A0=xxxxxxxxxx\n".to_owned();
    (1..9).for_each(|at| text += &format!("A{at}={}\n", format!("${{A{}}}", at - 1).repeat(10)));
    assert_eq!(
        refused(&expanded(&text)),
        [".env:6: the value of A5 is larger than 128 KiB, which no program can be given"]
    );
}

#[test]
fn all_values_together_have_a_largest_length() {
    let half = "x".repeat(64 << 10);
    let lines = |count: usize| {
        let values = (0..count).map(|at| format!("B{at}=$A\n")).collect::<String>();
        format!("A={half}\n{values}")
    };
    let most = environment::LARGEST_ENVIRONMENT / half.len();
    assert_eq!(
        variable(&stack(&expanded(&lines(most - 1))), "web.1", "B94").map(|v| v.len()),
        Some(half.len())
    );
    assert_eq!(
        refused(&expanded(&lines(100_000))),
        [".env:97: the values up to here are larger than 6 MiB together, which no program can be given"]
    );
    // The same variable again and again is as much work.
    let again = format!("A={half}\n{}", "B=$A\n".repeat(1000));
    assert_eq!(refused(&expanded(&again)).len(), 1);
}

#[test]
fn references_to_nothing_are_noted_up_to_a_limit() {
    let many = expanded(&format!("A={}", "$N".repeat(1 << 20)));
    assert_eq!(warnings(&many, Severity::Note).len(), error::MOST_FINDINGS);
}

#[test]
fn a_formation_costs_no_more_than_its_length() {
    let types: String = (0..5000).map(|at| format!("p{at}: x\n")).collect();
    let with = |formation: String| {
        typed(&types, |options| {
            options.no_port = true;
            options.give("formation", given("-m", &formation));
        })
    };
    let items: Vec<String> = (0..100_000).map(|at| format!("p{}=1", at % 5000)).collect();
    assert_eq!(stack(&with(items.join(","))).instances.len(), 5000);
    assert_eq!(refused(&with("x=1,".repeat(100_000))).len(), error::MOST_FINDINGS + 1);
    assert_eq!(refused(&with(",".repeat(100_000))).len(), error::MOST_FINDINGS);
    for (formation, message) in [
        ("p1=4000000000", "\"p1=4000000000\" is too many (write p1=10000 or less)"),
        ("all=18446744073709551616", "\"all=18446744073709551616\" is too many (write all=10000 or less)"),
    ] {
        assert_eq!(refused(&with(formation.to_owned())), [format!("-m: {message}")]);
    }
}

/// What each instance has for itself is multiplied by their number.
#[test]
fn instances_hold_a_largest_amount_for_themselves() {
    let with = |count: usize| {
        let mut sources =
            typed("web: x", |options| options.give("formation", given("-m", &format!("web={count}"))));
        sources.options.no_port = true;
        let file = format!("[defaults]\nenvironment.A = \"{}\"", "x".repeat(100_000));
        sources.manifest = Some(Text::new("lpm.toml", file));
        sources
    };
    assert_eq!(stack(&with(1340)).instances.len(), 1340);
    let refused = refused(&with(10_000));
    assert_eq!(refused.len(), 1);
    let wanted =
        "Procfile:1: commands and environments of its instances take more than 128 MiB together (write ";
    assert!(refused[0].starts_with(wanted), "{refused:?}");
}

#[test]
fn a_manifest_of_any_shape_is_refused_or_read() {
    let refusals = |file: &str| load(&manifest("web: x", file)).err().map_or(0, |problems| problems.len());
    for open in ["[", "{", "a=[", "a={a=", "a.", "[[", "\"\"\"", "a=[[[{"] {
        let text = open.repeat((1 << 18) / open.len());
        assert_eq!(refusals(&text), 1, "{open}");
        assert_eq!(refusals(&format!("{text}a=1")), 1, "{open}");
    }
    let tables: String = (0..20_000).map(|at| format!("[process.x{at}]\n")).collect();
    assert_eq!(refusals(&tables), error::MOST_FINDINGS);
    let variables = |count: usize| {
        let lines: String = (0..count).map(|at| format!("V{at} = \"x\"\n")).collect();
        format!("[process.web.environment]\n{lines}")
    };
    assert_eq!((refusals(&variables(1000)), refusals(&variables(20_000))), (0, 1));
    let long = |length: usize| format!("[defaults]\nenvironment.A = \"{}\"", "x".repeat(length));
    let most = environment::LARGEST_VARIABLE - 3;
    assert_eq!((refusals(&long(most)), refusals(&long(most + 1))), (0, 1));
}

#[test]
fn a_running_stack_is_told_a_largest_number_of_settings() {
    let with = |count: usize| {
        let mut sources = procfile("web: x");
        sources.options.tell((1..=count).map(|number| Assignment {
            name: format!("web.{}", number % 2500 + 1),
            key: if number > 2500 && number <= 5000 { "quiet" } else { "pretty" }.to_owned(),
            value: "yes".to_owned(),
        }));
        if count > 5000 {
            sources.options.tell([Assignment {
                name: "all".into(),
                key: "quiet".into(),
                value: "yes".into(),
            }]);
        }
        sources
    };
    assert!(load(&with(5000)).is_ok());
    assert_eq!(
        refused(&with(5001)),
        ["set: more than 5000 settings since the start (write them into lpm.toml)"]
    );
}
