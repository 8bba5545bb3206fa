//! Lines: through a pipe byte for byte, on a terminal so that it survives them.

use rustix::process::Signal;

use crate::stack::{Stack, starts_with_time};
use crate::starting::lines_of;

#[test]
fn bytes_are_exact_in_a_pipe() {
    let every = (0u8..=255).filter(|byte| *byte != b'\n').collect::<Vec<u8>>();
    for (content, lines) in [
        (every.clone(), vec![every.clone()]),
        (b"one\n\ntwo\n".to_vec(), vec![b"one".to_vec(), b"".to_vec(), b"two".to_vec()]),
        (b"unterminated".to_vec(), vec![b"unterminated".to_vec()]),
        (
            b"crlf\r\nprogress 1\rprogress 2\r\n".to_vec(),
            vec![b"crlf\r".to_vec(), b"progress 1\rprogress 2\r".to_vec()],
        ),
        (
            b"\xfe\xff\n\x1b[2J\x1b]0;title\x07\n".to_vec(),
            vec![b"\xfe\xff".to_vec(), b"\x1b[2J\x1b]0;title\x07".to_vec()],
        ),
    ] {
        assert_exact(&content, &lines);
    }
}

#[test]
fn a_line_of_200_000_characters_is_one_line() {
    for _ in 0..20 {
        assert_exact(&[b'x'; 200_000], &[vec![b'x'; 200_000]]);
    }
}

/// What a child prints arrives as these lines, each behind its prefix, and byte for byte without one.
#[track_caller]
fn assert_exact(content: &[u8], lines: &[Vec<u8>]) {
    let stack = Stack::with("bytes", "a: cat content\n").file("content", content);
    let ended = stack.runs(&["start", "--no-port"]).with_code(0);
    let own = |line: &&[u8]| line.get(8..18) == Some(b" a.1    | ");
    let printed: Vec<Vec<u8>> =
        ended.bytes.split(|&byte| byte == b'\n').filter(own).map(|line| line[18..].to_vec()).collect();
    // The first line says that it was started, the last that it ended.
    let (first, last) =
        (String::from_utf8_lossy(&printed[0]), String::from_utf8_lossy(&printed[printed.len() - 1]));
    assert!(first.starts_with("started with pid") && last.starts_with("exited with code 0"), "{}", ended.out);
    assert!(printed[1..printed.len() - 1] == *lines, "{}", ended.out);
    // Without a prefix every byte is the child's, but for the newline that was missing.
    let ended = stack.runs(&["start", "--no-port", "--no-prefix"]).with_code(0);
    let mut wanted = content.to_vec();
    if !wanted.ends_with(b"\n") {
        wanted.push(b'\n');
    }
    let holds = memchr::memmem::find(&ended.bytes, &wanted).is_some();
    assert!(holds, "{}", ended.out);
}

#[test]
fn stdout_and_stderr_share_one_pipe_in_order() {
    let stack = Stack::with("order", "a: printf nonl; printf err >&2; echo; echo two >&2; echo three\n");
    let ended = stack.runs(&["start"]).with_code(0);
    let lines = lines_of("a.1", &ended.out);
    assert_eq!(lines[1..4], ["nonlerr", "two", "three"]);
    assert!(!ended.err.contains("two"), "{}", ended.err);
}

#[test]
fn standard_error_is_marked_when_split() {
    let stack = Stack::with("split", "a: echo out; echo err >&2\n");
    let ended = stack.runs(&["start", "--split-stderr"]).with_code(0);
    let said = stack.normal(&ended.out);
    assert!(said.contains("TIME a.1    | out\n") && said.contains("TIME a.1    ! err\n"), "{said}");
}

#[test]
fn quiet_hides_lines_and_not_what_happens() {
    let stack = Stack::with("quiet", "a: echo from a\nb: echo from b\n");
    let ended = stack.runs(&["start", "--can-die", "all", "-q", "a"]).with_code(0);
    assert!(!ended.out.contains("from a") && ended.out.contains("from b"), "{}", ended.out);
    assert!(
        ended.out.contains("a.1    | started with pid") && ended.out.contains("a.1    | exited with"),
        "{}",
        ended.out
    );
    assert_eq!(ended.err, "", "and the summary");
    let ended = stack.runs(&["start", "--can-die", "all", "-q"]).with_code(0);
    assert!(ended.out.contains("from a") && ended.out.contains("from b"), "{}", ended.out);
    assert_eq!(ended.err, "", "without names only the summary");
    let ended = stack.runs(&["start", "--can-die", "all", "--quiet=a,b"]).with_code(0);
    assert!(!ended.out.contains("from"), "{}", ended.out);
}

#[test]
fn presentation_is_a_choice() {
    let stack = Stack::with("presentation", "a: echo text\n");
    let shown = |arguments: &[&str]| {
        let mut all = vec!["start", "-N"];
        all.extend(arguments);
        stack.normal(&stack.runs(&all).with_code(0).out)
    };
    assert!(shown(&[]).contains("TIME a.1    | text\n"));
    assert!(shown(&["--no-timestamp"]).contains("\na.1    | text\n"));
    assert!(shown(&["--no-prefix"]).contains("\ntext\n"));
    assert!(shown(&["--color", "always"]).contains("\x1b[0m\x1b[36m"), "{:?}", shown(&["--color", "always"]));
    assert!(!shown(&["--color", "auto"]).contains('\x1b'), "not a terminal");
}

#[test]
fn colour_only_on_a_terminal_that_wants_it() {
    let stack = Stack::with("colour", "a: echo text\n");
    let shown = |arguments: &[&str], variable: Option<(&str, &str)>| {
        let mut all = vec!["start"];
        all.extend(arguments);
        let mut launch = stack.lpm(&all);
        if let Some((name, value)) = variable {
            launch = launch.variable(name, value);
        }
        launch.terminal(80).ends().with_code(0).out
    };
    let coloured = shown(&[], None);
    assert!(coloured.contains("a.1    | \x1b[0mtext\r\n"), "{coloured:?}");
    assert!(!shown(&["--color", "never"], None).contains('\x1b'));
    assert!(!shown(&[], Some(("NO_COLOR", "1"))).contains('\x1b'));
    assert!(!shown(&[], Some(("TERM", "dumb"))).contains('\x1b'));
    assert!(shown(&[], Some(("NO_COLOR", ""))).contains('\x1b'), "an empty NO_COLOR is none");
    assert!(shown(&["--color", "always"], Some(("NO_COLOR", "1"))).contains('\x1b'), "the option wins");
    assert!(shown(&["--colour=always"], None).contains('\x1b'));
}

#[test]
fn what_a_terminal_would_obey_is_shown() {
    let stack = Stack::with("escapes", "a: cat content\n")
        .file("content", "\x1b[2Jclear\n\x1b[31mred\n\x1b]0;title\x07\nbell\x07\ntab\there\n\u{9b}2J\n");
    let out = stack.lpm(&["start", "--no-timestamp", "--color=never"]).terminal(80).ends().with_code(0).out;
    let lines = lines_of("a.1", &out);
    let lines: Vec<&str> = lines.iter().map(|line| line.trim_end_matches('\r')).collect();
    assert_eq!(
        lines[1..7],
        [
            "\\x1b[2Jclear",
            "\x1b[31mred\x1b[0m",
            "\\x1b]0;title\\x07",
            "bell\\x07",
            "tab\there",
            "\\xc2\\x9b2J"
        ]
    );
}

#[test]
fn a_reader_that_leaves_ends_the_stack() {
    let stack = Stack::with("head", "a: while :; do echo line; done\nb: exec sleep 1000\n");
    let mut run = stack.lpm(&["start"]).pipes();
    run.wait_for(" | line").close_stdout();
    run.ends().with_code(141);
    // As people do it. The shell tells of the last one's end, so lpm's is written down.
    let ended = stack.shell("(lpm start; echo $? > code) | head -1").pipes().ends().with_code(0);
    assert_eq!(ended.out.lines().count(), 1, "{}", ended.out);
    assert!(ended.out.lines().all(starts_with_time), "{}", ended.out);
    let code = std::fs::read_to_string(stack.path().join("code")).expect("a code");
    assert_eq!(code, "141\n");
}

/// Nobody reads: the child is held back, lpm is not.
#[test]
fn ctrl_c_works_while_nobody_reads() {
    let stack = Stack::with("stuck", "a: trap '' PIPE; while :; do echo line; done\n");
    let mut run = stack.lpm(&["start", "-t", "1"]).pipes();
    run.wait_for(" | line");
    // From here on nothing is read until lpm was asked to stop.
    run.signal(Signal::INT).ends().by(Signal::INT);
}

#[test]
fn each_line_is_shown_when_it_is_there() {
    let stack = Stack::with("at-once", "a: echo first; read x < go; echo second\n");
    let mut run = stack.shell("mkfifo go; exec $LPM start").pipes();
    run.wait_for("| first\n");
    std::fs::write(stack.path().join("go"), "go\n").expect("it reads");
    run.wait_for("| second\n");
    run.ends().with_code(0);
}

#[test]
fn everything_printed_before_the_end_is_shown_before_its_obituary() {
    let stack = Stack::with("last-lines", "a: seq 1 20000; printf last\n");
    let ended = stack.runs(&["start"]).with_code(0);
    let lines = lines_of("a.1", &ended.out);
    assert_eq!(lines.len(), 20003);
    assert_eq!((lines[1], lines[20000], lines[20001]), ("1", "20000", "last"));
    assert!(lines[20002].starts_with("exited with code 0"), "{}", lines[20002]);
}

#[test]
fn a_hundred_mebibytes_without_a_newline_pass_in_little_memory() {
    const BYTES: usize = 100 << 20;
    let stack = Stack::with(
        "endless",
        "web: head -c 104857600 /dev/zero | tr '\\0' z; grep VmHWM /proc/$PPID/status >peak; echo\n",
    );
    let script = "$LPM start -N --log terminal,file=log,json=all.json >out 2>/dev/null; echo $?\n\
                  for file in out log/web.1.log all.json; do tr -cd z <$file | wc -c; done";
    let ended = stack.shell(script).pipes().ends().with_code(0);
    assert_eq!(ended.out, format!("0\n{BYTES}\n{BYTES}\n{BYTES}\n"));
    let peak = std::fs::read_to_string(stack.path().join("peak")).expect("it was looked at");
    let kib: u64 = peak.split_whitespace().nth(1).and_then(|text| text.parse().ok()).expect("a number");
    assert!(kib < 64 << 10, "{peak}");
}
