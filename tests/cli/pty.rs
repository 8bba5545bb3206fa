//! `--pty`: instances with a terminal of their own.

use rustix::process::Signal;

use crate::stack::{LPM, Stack};
use crate::starting::lines_of;

/// `tty` says it, and so do the three streams; what the terminal adds to a newline is not shown.
#[test]
fn an_instance_has_a_terminal_of_its_own() {
    let script = "a: tty; test -t 0 && test -t 1 && test -t 2 && : > /dev/tty && echo all; echo err >&2\n";
    let stack = Stack::with("own", &format!("{script}b: test -t 1 || echo none\n"));
    let ended = stack.runs(&["start", "--can-die", "all", "--pty", "a"]).with_code(0);
    let lines = lines_of("a.1", &ended.out);
    assert!(lines[1].starts_with("/dev/pts/"), "{}", ended.out);
    assert_eq!(lines[2..4], ["all", "err"]);
    assert!(!ended.out.contains('\r'), "{:?}", ended.out);
    assert_eq!(lines_of("b.1", &ended.out)[1], "none");
}

#[test]
fn who_has_one_is_a_setting_like_any_other() {
    let stack =
        Stack::with("who", "a: test -t 1 && echo yes || echo no\nb: test -t 1 && echo yes || echo no\n");
    let shown = |arguments: &[&str]| {
        let mut all = vec!["start", "--can-die", "all"];
        all.extend(arguments);
        let out = stack.runs(&all).with_code(0).out;
        let of = |name| lines_of(name, &out)[1].to_owned();
        format!("{} {}", of("a.1"), of("b.1"))
    };
    assert_eq!(shown(&[]), "no no");
    assert_eq!(shown(&["--pty"]), "yes yes");
    assert_eq!(shown(&["--pty=b"]), "no yes");
    assert_eq!(shown(&["--pty", "--split-stderr"]), "yes yes", "both streams are one there");
    let stack = stack.file("lpm.toml", "[defaults]\npty = true\n[process.a]\npty = false\n");
    let ended = stack.lpm(&["start", "--can-die", "all"]).pipes().ends().with_code(0);
    assert_eq!((lines_of("a.1", &ended.out)[1], lines_of("b.1", &ended.out)[1]), ("no", "yes"));
    let ended = stack.lpm(&["start", "--can-die", "all"]).variable("LPM_PTY", "a,b=no").pipes().ends();
    assert_eq!((lines_of("a.1", &ended.out)[1], lines_of("b.1", &ended.out)[1]), ("yes", "no"));
    let ended = stack.runs(&["run", "b"]).with_code(0);
    assert_eq!(ended.out, "no\n", "a one-off command has lpm's own streams");
}

#[test]
fn it_is_as_wide_as_lpms_own_less_the_prefix() {
    let stack = Stack::with("wide", "a: stty size; echo $TERM\n");
    let shown = |arguments: &[&str], columns: Option<u16>| {
        let mut all = vec!["start", "--color=never", "--pty"];
        all.extend(arguments);
        let launch = stack.lpm(&all);
        let ended = match columns {
            Some(columns) => launch.variable("TERM", "screen").terminal(columns).ends(),
            None => launch.pipes().ends(),
        };
        let printed = ended.with_code(0).out;
        let text = printed.lines().filter_map(|line| line.split(" | ").last()).collect::<Vec<_>>();
        let at = text.iter().position(|line| line.starts_with("24 ")).unwrap_or_else(|| panic!("{printed}"));
        format!("{} {}", text[at], text[at + 1])
    };
    assert_eq!(shown(&[], Some(100)), "24 82 screen");
    assert_eq!(shown(&["--no-timestamp"], Some(100)), "24 91 screen");
    assert_eq!(shown(&["--no-prefix"], Some(100)), "24 100 screen");
    assert_eq!(shown(&[], Some(30)), "24 20 screen", "programs break on less");
    assert_eq!(shown(&[], None), "24 80 xterm-256color", "lpm has none");
}

#[test]
fn another_size_of_lpms_terminal_is_passed_on() {
    let script = "trap 'stty size' WINCH; echo up; while :; do read x; done";
    let stack = Stack::with("window", &format!("a: {script}\n"));
    let mut run = stack.lpm(&["start", "--color=never", "--pty"]).terminal(100);
    run.wait_for(" | up").resizes(50, 118).wait_for(" | 50 100\r\n");
    run.resizes(10, 30).wait_for(" | 10 20\r\n");
    run.signal(Signal::TERM).ends().by(Signal::TERM);
}

#[test]
fn colours_and_progress_bars_pass_and_questions_do_not() {
    let stack = Stack::with("colours", "a: cat content\n").file(
        "content",
        "\x1b[31mred\x1b[0m\n 10%\r 20%\r100%\nwhere\x1b[6n am I\x1b[c\x1b]11;?\x07\n\x1b]0;title\x07\x1b[2K.\n",
    );
    let wanted = ["\x1b[31mred\x1b[0m", " 10%\r 20%\r100%", "where am I", "\x1b]0;title\x07\x1b[2K."]
        .map(str::to_owned);
    let ended = stack.runs(&["start", "--pty"]).with_code(0);
    assert_eq!(lines_of("a.1", &ended.out)[1..5], wanted);
    let ended = stack.lpm(&["start", "--pty", "--color=never"]).terminal(100).ends().with_code(0);
    let lines: Vec<&str> =
        ended.out.split("\r\n").filter_map(|line| Some(line.split_once(" a.1    | ")?.1)).collect();
    assert_eq!(lines[1..5], wanted);
}

#[test]
fn what_it_leaves_on_in_lpms_terminal_is_switched_off_when_it_ends() {
    let script = r"printf '\033[?1049h\033[?1000h\033[?25l\033[?2004h\033(0up\n'; exec sleep 1000";
    let stack = Stack::with("left-on", &format!("a: {script}\n"));
    let mut run = stack.lpm(&["start", "--pty", "--color=never"]).terminal(80);
    run.wait_for("up\r\n");
    let ended = run.signal(Signal::TERM).ends().by(Signal::TERM).out;
    let off = "\x1b[?1000l\x1b[?2004l\x1b[?25h\x0f\x1b(B\x1b)B\x1b[<99u\x1b[=0u\x1b[?1049l";
    let (before, after) = ended.split_once(off).unwrap_or_else(|| panic!("{ended:?}"));
    assert!(!before.contains("terminated by") && after.contains("terminated by SIGTERM"), "{ended:?}");
    let mut terminal = vt100::Parser::default();
    terminal.process(ended.as_bytes());
    let screen = terminal.screen();
    assert!(!screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste());
}

/// A program that waits for an answer gets one, though nobody looks at its screen.
#[test]
fn questions_are_answered() {
    let script = "stty raw -echo; printf 'abc\\033[6n'; dd bs=1 count=6 of=answer 2>/dev/null; stty sane; echo; cat -v answer";
    let stack = Stack::with("questions", &format!("a: {script}\n"));
    let ended = stack.runs(&["start", "--pty"]).with_code(0);
    assert_eq!(lines_of("a.1", &ended.out)[1..3], ["abc", "^[[1;4R"]);
}

#[test]
fn the_last_words_are_shown() {
    let stack = Stack::with("last", "a: seq 1 20000; printf last; exit 3\n");
    for _ in 0..5 {
        let ended = stack.runs(&["start", "--pty"]).with_code(3);
        let lines = lines_of("a.1", &ended.out);
        assert_eq!(lines.len(), 20003);
        assert_eq!((lines[1], lines[20000], lines[20001]), ("1", "20000", "last"));
        assert!(lines[20002].starts_with("exited with code 3"), "{}", lines[20002]);
    }
}

#[test]
fn quiet_ones_are_quiet() {
    let stack = Stack::with("quiet", "a: seq 1 20000\n");
    let ended = stack.runs(&["start", "--pty", "-q", "a"]).with_code(0);
    assert_eq!(lines_of("a.1", &ended.out).len(), 2, "{}", ended.out);
}

/// Neither a job of a shell in a group of its own, nor what ignores the hang-up.
#[test]
fn nothing_of_it_is_left() {
    let script = "trap '' HUP; set -m; sleep 1000 & (setsid sleep 1001 &); echo up; while :; do read x; done";
    let stack = Stack::with("left", &format!("a: {script}\n"));
    let mut run = stack.lpm(&["start", "--pty"]).pipes();
    run.wait_for(" | up").signal(Signal::TERM);
    run.ends().by(Signal::TERM);
}

/// An interactive shell does not care for SIGTERM.
#[test]
fn a_shell_that_stays_is_killed() {
    let stack = Stack::with("shell", "a: exec sh -i\n").variable("PS1", "prompt ").variable("ENV", "");
    let mut run = stack.lpm(&["start", "--pty", "-t", "500ms", "--color=never"]).terminal(80);
    run.wait_for("started with pid");
    // Ctrl-C on lpm's terminal is lpm's.
    run.types("\x03");
    let ended = run.ends().by(Signal::INT);
    assert!(!ended.out.contains("job control"), "{}", ended.out);
}

#[test]
fn a_restart_gets_a_new_one() {
    let stack = Stack::with("again", "a: test -t 0 && echo life; tty >> ttys; test $(wc -l < ttys) -gt 2\n");
    let arguments = ["start", "--pty", "--restart", "on-failure", "--can-die", "all"];
    let ended = stack.runs(&arguments).with_code(0);
    assert_eq!(ended.out.matches("| life\n").count(), 3, "{}", ended.out);
}

/// A master takes the place of a pipe.
#[test]
fn it_needs_no_more_descriptors_than_a_pipe() {
    let stack = Stack::with("descriptors", "a: echo hello\nb: echo hello\nc: echo hello\n");
    for (limit, code) in [(51, 1), (52, 0)] {
        let script = format!("ulimit -n {limit}; exec {LPM} start --can-die all --pty --split-stderr");
        let ended = stack.shell(&script).pipes().ends();
        assert_eq!(ended.code(), code, "{} {}", ended.out, ended.err);
        assert_eq!(ended.out.matches("| hello").count(), if code == 0 { 3 } else { 0 }, "{}", ended.out);
    }
}
