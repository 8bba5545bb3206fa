//! Everything that can be typed or written wrong. Each is refused before anything runs: the exit code and
//! the words are in `snapshots/bad_input.txt`, and nothing is left behind.

use std::os::unix::net::UnixListener;

use rustix::process::Signal;

use crate::snapshot::Snapshot;
use crate::stack::{Stack, is_root};

/// Files beside the (good) Procfile, variables, arguments.
struct Case {
    tried: &'static str,
    files: &'static [(&'static str, &'static [u8])],
    variables: &'static [(&'static str, &'static str)],
    arguments: &'static [&'static str],
}

const GOOD: &[u8] = b"web: exec sleep 1000\nworker: exec sleep 1000\n";

const fn options(tried: &'static str, arguments: &'static [&'static str]) -> Case {
    Case { tried, files: &[], variables: &[], arguments }
}

const fn file(tried: &'static str, files: &'static [(&'static str, &'static [u8])]) -> Case {
    Case { tried, files, variables: &[], arguments: &["start"] }
}

const fn variable(tried: &'static str, variables: &'static [(&'static str, &'static str)]) -> Case {
    Case { tried, files: &[], variables, arguments: &["start"] }
}

macro_rules! procfile {
    ($tried:literal, $text:expr) => {
        file($tried, &[("Procfile", $text)])
    };
}

const CASES: &[Case] = &[
    // The Procfile.
    procfile!("an empty Procfile", b""),
    procfile!("only comments", b"# web: x\n\n  # y\n"),
    procfile!("a name twice", b"web: sleep 1\nworker: sleep 1\nweb: sleep 2\n"),
    procfile!("a name three times", b"web: a\nweb: b\nweb: c\n"),
    procfile!("no command", b"web:\nworker: sleep 1\n"),
    procfile!("only blanks for a command", b"web:   \t\r\n"),
    procfile!("the name of everything", b"web: sleep 1\nall: sleep 1\n"),
    procfile!("a dotted name", b"web.1: sleep 1\n"),
    procfile!("a name that is no ASCII", "wéb: sleep 1\n".as_bytes()),
    procfile!("a path for a name", b"../x: sleep 1\n"),
    procfile!("a file of the kernel's for a name", b"cgroup.procs: sleep 1\n"),
    procfile!("a slash for a name", b"a/b: sleep 1\n"),
    procfile!("a colon first", b": sleep 1\n"),
    procfile!("a NUL byte in a command", b"web: echo a\0b\n"),
    procfile!("a NUL byte in a name", b"we\0b: echo\n"),
    procfile!("bytes that are no text", b"web: echo \xff\xfe\n"),
    procfile!("UTF-16", b"\xff\xfew\0e\0b\0:\0"),
    procfile!("an ELF binary", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0"),
    procfile!("no line is an entry", b"web sleep 1\n  web: x\n"),
    procfile!("several errors at once", b"web: a\nweb: b\nx.y: c\nz:\n"),
    options("no such Procfile", &["start", "-f", "nope/Procfile"]),
    options("a directory as Procfile", &["start", "-f", "."]),
    options("/dev/zero as Procfile", &["start", "-f", "/dev/zero"]),
    options("a file that cannot be read", &["start", "-f", "/proc/self/mem"]),
    options("an empty name for the Procfile", &["start", "-f", ""]),
    options("a Procfile below a file", &["start", "-f", "Procfile/x"]),
    options("an empty standard input as Procfile", &["start", "-f", "-"]),
    variable("PROCFILE names none", &[("PROCFILE", "nope")]),
    variable("LPM_PROCFILE names none", &[("LPM_PROCFILE", "nope")]),
    file(".env names no Procfile", &[(".env", b"PROCFILE=nope\n")]),
    // Env files.
    file("a value that is not closed", &[(".env", b"A=1\nB=\"abc\n")]),
    file("a single quote that is not closed", &[(".env", b"A='abc\n")]),
    file("text after the closing quote", &[(".env", b"A=\"a\"b\n")]),
    file("JSON for an env file", &[(".env", b"{\"a\": 1}\n")]),
    file("a NUL byte in a value", &[(".env", b"A=a\0b\n")]),
    file("PORT is no port", &[(".env", b"A=1\nPORT=http\n")]),
    options("no such env file", &["start", "-e", ".env.nope"]),
    options("a directory for an env file", &["start", "-e", ".env,."]),
    options("who wins", &["start", "--env-precedence", "both"]),
    variable("an inherited PORT that is none", &[("PORT", "tcp://1.2.3.4:80")]),
    Case {
        tried: "an expansion nobody knows",
        files: &[(".env", b"A=${B:-c}\n")],
        variables: &[],
        arguments: &["start", "--expand-env"],
    },
    // lpm.toml.
    file("no TOML", &[("lpm.toml", b"[stack\n")]),
    file("an unknown key", &[("lpm.toml", b"[process.web]\nmemroy-max = \"1G\"\n")]),
    file("an unknown table", &[("lpm.toml", b"[proces.web]\n")]),
    file("an unknown process type", &[("lpm.toml", b"[process.wbe]\ncan-die = true\n")]),
    file("a number for a text", &[("lpm.toml", b"[process.web]\nstop-signal = \"NOPE\"\n")]),
    file("a table for a value", &[("lpm.toml", b"[process.web]\ntimeout-stop = {}\n")]),
    file("a bad size in a file", &[("lpm.toml", b"[process.web]\nmemory-max = \"12 parsecs\"\n")]),
    file("a variable that lpm sets", &[("lpm.toml", b"[process.web]\nenvironment = { PORT = \"1\" }\n")]),
    file("bytes that are no TOML", &[("lpm.toml", b"a = \"\xff\"\n")]),
    file("the same key twice", &[("lpm.toml", b"[stack]\nport = 1\nport = 2\n")]),
    // Formation, names, ports.
    options("an unknown name", &["start", "zzz"]),
    options("an instance that is not there", &["start", "web.2"]),
    options("instance zero", &["start", "web.0"]),
    options("a formation without a number", &["start", "-m", "web"]),
    options("a formation of letters", &["start", "-m", "web=x"]),
    options("a negative formation", &["start", "-m", "web=-1"]),
    options("an unknown name in a formation", &["start", "-m", "wbe=1"]),
    options("an empty item in a formation", &["start", "-m", "web=1,,worker=1"]),
    options("a formation of nobody", &["start", "-m", "all=0"]),
    options("too many", &["start", "-m", "web=10001"]),
    options("four thousand million", &["start", "-m", "web=4000000000"]),
    options("too many together", &["start", "-m", "all=6000", "--no-port"]),
    options("both kinds of formation", &["start", "-m", "web=1", "-c", "web=1"]),
    options("port zero", &["start", "-p", "0"]),
    options("a port too high", &["start", "-p", "65536"]),
    options("a port of letters", &["start", "--port", "http"]),
    options("ports that overflow", &["start", "-p", "65500"]),
    options("instances whose ports overflow", &["start", "-p", "65530", "-P", "1", "-m", "web=10"]),
    options("a step too large", &["start", "-P", "65536"]),
    options("a step of letters", &["start", "--instance-port-step", "x"]),
    // How they live, what they may use.
    options("a time of letters", &["start", "-t", "soon"]),
    options("a time for an unknown name", &["start", "-t", "wbe=1s"]),
    options("a negative time", &["start", "--timeout=-1"]),
    options("an unknown signal", &["start", "--stop-signal", "web=TREM"]),
    options("signal zero", &["start", "--stop-signal", "0"]),
    options("an unknown kill mode", &["start", "--kill-mode", "process"]),
    options("an unknown restart rule", &["start", "--restart", "web=on-failrue"]),
    options("who may die is unknown", &["start", "--can-die", "wrker"]),
    options("one-shot and always", &["start", "--oneshot", "web", "--restart", "web=always"]),
    options("an unknown exit code rule", &["start", "--exit-code", "last"]),
    options("a size without a unit anybody knows", &["start", "--mem", "web=12Q"]),
    options("a negative size", &["start", "--mem", "web=-1M"]),
    options("a percentage of nothing", &["start", "--mem", "web=%"]),
    options("a size for an unknown name", &["start", "--mem", "wbe=1G"]),
    options("no CPU at all", &["start", "--cpu", "web=0"]),
    options("a weight too large", &["start", "--cpu-weight", "web=10001"]),
    options("tasks of letters", &["start", "--tasks", "web=many"]),
    options("more tasks than the kernel takes", &["start", "--tasks", "web=4194305"]),
    options("a limit of the stack with a name", &["start", "--stack-mem", "web=1G"]),
    options("an unknown rule for limits", &["start", "--limits", "lenient"]),
    options("a name of blanks", &["start", "--name", "  "]),
    options("several bad options at once", &["start", "-p", "x", "--mem", "y", "-m", "z"]),
    // Files and directories that are named.
    options("the root is a file", &["start", "-d", "Procfile"]),
    options("the root is not there", &["start", "-d", "nope"]),
    options("a summary in no directory", &["start", "--summary", "nope/summary.json"]),
    options("a summary that is a directory", &["start", "--summary", "."]),
    // What the command line itself refuses.
    options("an unknown option", &["start", "--bogus"]),
    options("an option that is nearly one", &["start", "--formaton", "web=1"]),
    options("an unknown short option", &["start", "-z"]),
    options("an unknown subcommand", &["strat"]),
    options("an option without its value", &["start", "-f"]),
    options("a colour nobody knows", &["start", "--color", "sometimes"]),
    options("an option of another command", &["check", "--split-stderr"]),
    options("an argument too many", &["doctor", "web"]),
    options("run without a command", &["run"]),
    options("run with an empty command", &["run", ""]),
    // Variables of options.
    variable("LPM_FORMATION", &[("LPM_FORMATION", "wbe=1")]),
    variable("LPM_TIMEOUT", &[("LPM_TIMEOUT", "soon")]),
    variable("LPM_COLOR", &[("LPM_COLOR", "sometimes")]),
    variable("LPM_ENV", &[("LPM_ENV", "nope.env")]),
    variable("LPM_MEM", &[("LPM_MEM", "web=lots")]),
    variable("LPM_RESTART", &[("LPM_RESTART", "sometimes")]),
    variable("LPM_ROOT", &[("LPM_ROOT", "nope")]),
    variable("LPM_PORT", &[("LPM_PORT", "http")]),
];

#[test]
fn bad_input_is_refused_in_words() {
    let mut snapshot = Snapshot::new("bad_input.txt");
    for case in CASES {
        let mut stack = Stack::new("bad-input").file("Procfile", GOOD);
        for (name, content) in case.files {
            stack = stack.file(name, content);
        }
        for (name, value) in case.variables {
            stack = stack.variable(name, value);
        }
        let ended = stack.runs(case.arguments);
        assert_eq!(ended.out, "", "{}: errors go to standard error", case.tried);
        let given: String = case.variables.iter().map(|(name, value)| format!("{name}={value} ")).collect();
        let typed = format!("{} ({given}lpm {})", case.tried, case.arguments.join(" "));
        snapshot.add(&typed, &format!("{}exit {}\n", stack.normal(&ended.err), ended.code()));
    }
    snapshot.assert();
    assert!(CASES.len() >= 70);
}

/// Every message: lower case after its place, no period, a newline, never a panic.
#[test]
fn messages_keep_to_the_house_style() {
    let kept = include_str!("snapshots/bad_input.txt");
    let messages = kept.lines().filter_map(|line| line.strip_prefix("lpm: "));
    for message in messages {
        assert!(!message.ends_with('.'), "{message}");
        assert!(!message.contains("os error") && !message.contains("panicked"), "{message}");
    }
    assert!(!kept.contains("panicked"));
}

#[test]
fn ten_mebibytes_of_garbage_are_refused_in_few_words() {
    // Not random, so that a failure can be repeated: a linear congruential generator's high bytes.
    let mut state = 1u64;
    let garbage: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    })
    .take(10 << 20)
    .collect();
    let stack = Stack::new("garbage").file("Procfile", garbage);
    for command in ["start", "check"] {
        let ended = stack.runs(&[command]).with_code(1);
        assert!(ended.err.starts_with("lpm: Procfile:1: "), "{}", &ended.err[..ended.err.len().min(300)]);
        assert!(ended.err.len() < 10_000, "{command}: {} bytes of errors", ended.err.len());
    }
}

#[test]
fn a_line_of_ten_mebibytes_is_a_command_the_kernel_refuses() {
    let mut procfile = b"web: : ".to_vec();
    procfile.resize(10 << 20, b'x');
    let stack = Stack::new("long-line").file("Procfile", procfile);
    let ended = stack.runs(&["start", "-q"]).with_code(126);
    let said = stack.normal(&ended.out);
    assert!(
        said.contains("TIME web.1  | cannot start: program: Argument list too long\n")
            || said.contains("TIME web.1  | cannot start: /bin/sh: Argument list too long\n"),
        "{said}"
    );
}

#[test]
fn a_named_pipe_is_a_procfile_too() {
    let stack = Stack::new("fifo");
    let script = "mkfifo pipe; echo 'web: echo through a pipe' > pipe & lpm start -q -f pipe";
    let ended = stack.shell(script).pipes().ends().with_code(0);
    assert!(ended.out.contains("web.1  | through a pipe\n"), "{}", ended.out);
}

#[test]
fn ctrl_c_ends_the_wait_for_a_named_pipe_nobody_writes_to() {
    let stack = Stack::new("silent-fifo");
    let mut run = stack.shell("mkfifo pipe; echo waiting; exec $LPM start -f pipe").pipes();
    run.wait_for("waiting");
    run.signal(Signal::INT).ends().by(Signal::INT);
}

#[test]
fn a_socket_is_no_procfile() {
    let stack = Stack::new("socket");
    let _socket = UnixListener::bind(stack.path().join("Procfile")).expect("a socket");
    let ended = stack.runs(&["start"]).with_code(1);
    assert_eq!(ended.err, "lpm: Procfile: cannot be read: No such device or address\n");
}

#[test]
fn a_file_without_permission_is_named() {
    if is_root() {
        return skipped!("a_file_without_permission_is_named: root may read everything");
    }
    use std::os::unix::fs::PermissionsExt;
    for (name, arguments) in [("Procfile", ["start"]), (".env", ["start"]), ("lpm.toml", ["check"])] {
        let stack = Stack::new("unreadable").file("Procfile", GOOD).file(name, GOOD);
        let none = PermissionsExt::from_mode(0o000);
        std::fs::set_permissions(stack.path().join(name), none).expect("it is ours");
        let ended = stack.runs(&arguments).with_code(1);
        assert_eq!(ended.err, format!("lpm: {name}: cannot be read: Permission denied\n"));
    }
}

/// What lpm cannot enforce here is refused with the way out.
#[test]
fn a_ceiling_that_cannot_be_enforced_is_refused_with_the_way_out() {
    let stack = Stack::new("no-such-limit").file("Procfile", GOOD);
    // No cgroup has this controller where there are none; where it is there, the ceiling is fine.
    let ended = stack.lpm(&["start", "--mem", "web=64M"]).variable("LPM_CGROUP", "none").pipes().ends();
    assert_eq!(ended.code(), 1, "{}", ended.err);
    let lines: Vec<&str> = ended.err.lines().collect();
    assert!(lines[0].starts_with("lpm: memory limit 64M of web cannot be enforced: "), "{}", ended.err);
    assert!(lines[1].starts_with("lpm: to have it enforced: "), "{}", ended.err);
    assert_eq!(*lines.last().expect("it has lines"), "lpm: to go on without it: --limits best-effort");
}

#[test]
fn a_place_that_cannot_be_had_is_not_replaced_by_another() {
    let stack = Stack::new("no-such-place").file("Procfile", GOOD);
    let ended = stack.lpm(&["start"]).variable("LPM_CGROUP", "/nope").pipes().ends();
    assert_eq!(ended.code(), 1, "{}", ended.err);
    assert!(ended.err.starts_with("lpm: LPM_CGROUP: "), "{}", ended.err);
    assert!(ended.err.contains("\nlpm: to change that: "), "{}", ended.err);
}

#[test]
fn warnings_are_said_and_overlooked_by_start_but_not_by_check() {
    let odd = "web: exit 3\n  indented: x\nno colon\n+plus: x\nslash: exec sleep 1000 \\\n";
    let stack = Stack::new("warnings").file("Procfile", odd).file(".env", "1A=x\nnothing\n");
    let mut snapshot = Snapshot::new("warnings.txt");
    let ended = stack.runs(&["start", "web", "-q"]).with_code(3);
    snapshot.add("lpm start web -q", &format!("{}exit {}\n", stack.normal(&ended.err), ended.code()));
    let ended = stack.runs(&["check"]);
    assert_eq!(ended.out, "", "{}", ended.out);
    snapshot.add("lpm check", &format!("{}exit {}\n", stack.normal(&ended.err), ended.code()));
    snapshot.assert();
}
