//! A clock that is set while a stack runs: what waits for a time waits as long as before, and what is told of the
//! past stays readable.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use serde_json::Value;

use crate::processes;
use crate::stack::{Running, Stack, lpm};
use crate::waiting::{self, PATIENCE};

const YEAR: i64 = 365 * 24 * 3600;

/// How late anything may be that lpm has a time for: an emulated guest is slow.
const LATE: Duration = Duration::from_secs(15);

/// The machine's clock, put right again when dropped.
struct Clock {
    realtime: Timespec,
    began: Instant,
}

impl Clock {
    fn new() -> Clock {
        Clock { realtime: clock_gettime(ClockId::Realtime), began: Instant::now() }
    }

    /// Sets it to so many seconds off the right time.
    fn off_by(&self, seconds: i64) {
        let passed = Timespec::try_from(self.began.elapsed()).expect("a claim is short");
        let right = self.realtime + passed;
        let time = Timespec { tv_sec: right.tv_sec + seconds, tv_nsec: right.tv_nsec };
        clock_settime(ClockId::Realtime, time).expect("root can set the clock");
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.off_by(0);
    }
}

/// What an operator types, right after the clock was set.
#[track_caller]
fn everything_answers(stack: &Stack) {
    for words in [
        &["status"][..],
        &["status", "steady"],
        &["top", "--once"],
        &["events"],
        &["metrics"],
        &["list"],
        &["logs", "--since", "1min"],
        &["logs", "--until", "now"],
    ] {
        let output = stack.run(words).exited_with(0);
        let odd = ["panicked", "18446744", "-1 ", "-1s", "in -"].into_iter().find(|odd| output.contains(odd));
        assert_eq!(odd, None, "{words:?}: {output}");
    }
    stack.run(&["status", "--json"]).exited_with(0);
}

fn lines_of(running: &mut Running, text: &str) -> usize {
    running.until_now().lines().filter(|line| line.contains(text)).count()
}

/// Waits for the next line with `text`, as long as `after` says and not much longer. What it follows came between
/// `earliest` and `latest`: a busy guest reads late.
#[track_caller]
fn next(running: &mut Running, text: &str, seen: usize, [earliest, latest]: [Instant; 2], after: Duration) {
    running.lines(text, seen + 1);
    let (most, least) = (earliest.elapsed(), latest.elapsed());
    assert!(most >= after, "{text:?} came early, after {most:?}");
    assert!(least <= after + LATE, "{text:?} came late, after {least:?}");
}

pub fn a_clock_that_jumps_a_year_changes_nothing_that_runs() {
    let clock = Clock::new();
    let stack = Stack::new(
        "steady: exec sleep 1000\n\
         again: echo born; exit 1\n\
         deaf: trap '' TERM; echo deaf; while :; do sleep 1000 & wait; done\n\
         deaf2: trap '' TERM; echo deaf; while :; do sleep 1000 & wait; done\n",
    )
    .file(
        "lpm.toml",
        "[defaults]\ntimeout-stop = \"2s\"\n[process.again]\nrestart = \"always\"\nrestart-sec = \"2s\"\n\
         restart-max-delay-sec = \"2s\"\nstart-limit-interval = \"0\"\n",
    );
    let reports = ["--report", "report.json", "--summary", "summary.json"];
    let mut running = stack.start(&[&["start", "--log", "terminal,journald"][..], &reports].concat());
    running.lines("| deaf", 2);
    for (jump, deaf) in [(YEAR, "deaf"), (-YEAR, "deaf2")] {
        let (earliest, waiting) = (Instant::now(), lines_of(&mut running, "restarting in 2s"));
        running.lines("restarting in 2s", waiting + 1);
        let (latest, born) = (Instant::now(), lines_of(&mut running, "| born"));
        clock.off_by(jump);
        next(&mut running, "| born", born, [earliest, latest], Duration::from_secs(2));
        everything_answers(&stack);
        // A stop that has begun: the clock jumps back while its time runs.
        let began = Instant::now();
        let stop = stack.start(&["stop", deaf]);
        running.line(&format!("{deaf}.1"));
        clock.off_by(0);
        stop.end();
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(2) && took <= Duration::from_secs(2) + LATE, "{took:?}");
        clock.off_by(jump);
    }
    let status: Value = serde_json::from_str(&stack.run(&["status", "--json"]).exited_with(0)).expect("JSON");
    let steady =
        status["instances"].as_array().and_then(|all| all.iter().find(|one| one["name"] == "steady.1"));
    assert_eq!(steady.expect("it is there")["invocation"], 1);
    let born = lines_of(&mut running, "| born");
    stack.run(&["down"]).exited_with(0);
    let output = running.end();
    assert!(!output.output.contains("panicked"), "{}", output.output);
    processes::gone(Duration::ZERO);
    // Whatever the times in it are, each line is in the journal.
    let name = stack.folder().file_name().expect("it has a name").to_string_lossy().into_owned();
    waiting::until("every line is in the journal", PATIENCE, || {
        let mut command = Command::new("journalctl");
        command.args([
            "--no-pager",
            "--quiet",
            "--output=cat",
            &format!("LPM_STACK={name}"),
            "LPM_INSTANCE=again.1",
        ]);
        let text = Running::spawn(command).end().exited_with(0);
        (text.lines().filter(|line| *line == "born").count() >= born).then_some(())
    });
    for file in ["report.json", "summary.json"] {
        let text = std::fs::read_to_string(stack.folder().join(file)).expect("lpm wrote it");
        let value: Value = serde_json::from_str(&text).expect("it is JSON");
        no_negative_number(file, &value);
    }
}

pub fn a_stack_that_began_in_the_future_is_found_and_taken_down() {
    let clock = Clock::new();
    clock.off_by(YEAR);
    let stack = Stack::new("web: echo up; exec sleep 1000\n");
    let mut running = stack.start(&["start"]);
    running.line("| up");
    clock.off_by(0);
    let status = stack.run(&["status"]).exited_with(0);
    assert!(status.contains("web.1"), "{status}");
    let mut command = Command::new(lpm());
    command.args(["list", "--json"]);
    let list = Running::spawn(command).end().exited_with(0);
    assert!(list.contains(&stack.folder().to_string_lossy().into_owned()), "{list}");
    stack.run(&["start"]).exited_with(1);
    stack.run(&["down"]).exited_with(0);
    running.end().exited_with(0);
    processes::gone(Duration::ZERO);
}

/// Times are counts since 1970 and durations; neither is below zero, nor wrapped around.
fn no_negative_number(at: &str, value: &Value) {
    match value {
        Value::Number(number) => {
            let number = number.as_f64().expect("a number");
            assert!((0.0..1e18).contains(&number), "{at}: {number}");
        }
        Value::Array(all) => {
            all.iter().enumerate().for_each(|(i, one)| no_negative_number(&format!("{at}[{i}]"), one))
        }
        Value::Object(all) => {
            all.iter().for_each(|(key, one)| no_negative_number(&format!("{at}.{key}"), one))
        }
        _ => {}
    }
}
