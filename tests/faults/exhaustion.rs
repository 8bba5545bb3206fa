//! Too few descriptors, processes or bytes of address space, while a person looks at the stack and restarts what
//! is in it. lpm may refuse to start, say what it cannot do and lose instances, but never break, and it must stop
//! when it is asked to.

use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::judge::{ENDS_WITHIN, Problems};
use crate::options::Options;
use crate::program::{Program, run};
use crate::scenario::{self, Scenario, Step, take};
use crate::stack::lpm as binary;
use crate::trial::{Trial, Verdict};

use Step::Client;

/// `b` ends and leaves a process behind, again and again; `c` has a terminal.
const PROCFILE: &str = "a: echo $PS >>began; echo up; exec sleep 1000\n\
    b: echo $PS >>began; setsid sleep 1000 & sleep 0.3; exit 1\n\
    c: echo $PS >>began; exec cat\n";
const MANIFEST: &str = "[process.b]\nrestart = \"always\"\nrestart-sec = \"20ms\"\n\
    start-limit-interval = 0\n[process.c]\npty = true\ncan-die = true\n";
/// `a` takes every process that it can have.
const BOMB: &str = "a: echo $PS >>began; exec \"$HELPER\" helper bomb\n\
    b: echo $PS >>began; sleep 0.3; exit 1\n";
const BOMB_MANIFEST: &str =
    "[process.b]\nrestart = \"always\"\nrestart-sec = \"20ms\"\nstart-limit-interval = 0\n";

/// What a person types meanwhile.
const TYPED: &[Step] = &[
    Client(&["status"]),
    Client(&["status", "a"]),
    Client(&["logs"]),
    Client(&["top", "--once"]),
    Client(&["metrics"]),
    Client(&["restart", "b"]),
    Client(&["events"]),
];
/// How many clients follow lines and events all the time, each with a connection.
const FOLLOWERS: usize = 8;

/// Users that trials run as, one each: a limit on processes counts those of a user.
const FIRST_UID: u32 = 61_100;
static NEXT_UID: AtomicU32 = AtomicU32::new(FIRST_UID);

/// The trial of this name: `exhaustion/LIMIT/NUMBER`.
pub fn named(name: &str) -> Option<Trial> {
    let (limit, number) = name.strip_prefix("exhaustion/")?.split_once('/')?;
    let number: u64 = number.parse().ok()?;
    let run = match limit {
        "descriptors" => descriptors,
        "memory" => memory,
        "processes" => processes,
        _ => return None,
    };
    Some(Trial::new(name, move || run(number).unwrap_or_else(Verdict::broken)))
}

/// The trials that are asked for.
pub fn trials(options: &Options) -> Vec<Trial> {
    let (descriptors, memory, processes): (Vec<u64>, Vec<u64>, Vec<u64>) = match options.all {
        true => ((20..=80).collect(), (20..48).chain((48..=320).step_by(8)).collect(), (8..=40).collect()),
        false => (vec![30, 38, 60], vec![96], vec![24]),
    };
    let names = (descriptors.iter().map(|number| format!("exhaustion/descriptors/{number}")))
        .chain(memory.iter().map(|number| format!("exhaustion/memory/{number}")))
        .chain(processes.iter().map(|number| format!("exhaustion/processes/{number}")));
    names.filter_map(|name| named(&name)).collect()
}

fn descriptors(number: u64) -> std::io::Result<Verdict> {
    let scenario = Scenario::of("descriptors", PROCFILE, MANIFEST);
    exhausted(&scenario, &format!("--nofile={number}:{number}"), false)
}

/// In MiB.
fn memory(number: u64) -> std::io::Result<Verdict> {
    let bytes = number << 20;
    let scenario = Scenario::of("memory", PROCFILE, MANIFEST);
    exhausted(&scenario, &format!("--as={bytes}:{bytes}"), false)
}

fn processes(number: u64) -> std::io::Result<Verdict> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Verdict::Skipped("needs root, to have a user for it alone".to_owned()));
    }
    let scenario = Scenario::of("processes", BOMB, BOMB_MANIFEST);
    let limit = format!("--nproc={number}:{number}");
    exhausted(&scenario, &limit, true)
}

fn exhausted(scenario: &Scenario, limit: &str, as_user: bool) -> std::io::Result<Verdict> {
    let mut stack = scenario.stack()?;
    if as_user {
        stack = stack.belongs_to(NEXT_UID.fetch_add(1, Ordering::Relaxed))?;
        let (status, text) = run(stack.limited(&[], &["version"]), ENDS_WITHIN)?;
        if !status.is_some_and(|status| status.success()) {
            let said = text.trim().to_owned();
            return Ok(Verdict::Skipped(format!("another user cannot run {} ({said})", binary())));
        }
    }
    let mut lpm = Program::start(stack.limited(&[limit], &["start", "-t", "1s"]))?;
    let came_up = lpm.sees("| up", Duration::from_secs(3));
    let mut said = String::new();
    if came_up {
        let follow = |_| Program::start(stack.client(&["logs", "-f"])).ok();
        let followers: Vec<Program> = (0..FOLLOWERS).filter_map(follow).collect();
        said = take(&stack, &mut lpm, TYPED);
        drop(followers);
    }
    let mut problems = Problems::default();
    let stopped = scenario::stop(&stack, &lpm, ENDS_WITHIN);
    let text = lpm.text() + &said;
    // Before it is up, a limit may be too low for the loader and for Rust's runtime.
    let aborted = lpm.ended().and_then(|status| status.signal()) == Some(Signal::ABORT.as_raw());
    if came_up || !aborted {
        problems.in_end(lpm.ended());
    }
    if came_up {
        problems.in_words(&stack, &text);
    }
    if !stopped && lpm.ended().is_some() {
        problems.add("a supervisor has not ended 15 s after SIGTERM");
    }
    problems.in_what_is_left(&stack);
    drop(lpm);
    let next = match as_user {
        // The next start would be another user's.
        true => String::new(),
        false => problems.in_next_start(&stack),
    };
    let output = format!("prlimit {limit}\n{text}next start:\n{next}");
    match problems.0.is_empty() {
        true => Ok(Verdict::Passed((!came_up).then(|| "does not come up".to_owned()))),
        false => Ok(Verdict::of(problems, output)),
    }
}
