//! Errors and kills at system calls, by strace(1).
//!
//! A recording run tells which calls a scenario makes; then there is a run for each call and occurrence, in
//! which that one call fails with an error that it can really give, or in which lpm is killed there.
//!
//! strace leaves a process alone from its `execve` on (`-b execve`), so what is hit is lpm and, between clone
//! and exec, its children; the programs of the stack and the guardian are not. Occurrences are counted in each
//! thread. `start` traces from the first instruction; the name of a thread (`lpm`, `lpm-worker`) means that
//! thread alone, from the moment when the stack is up, which is the only way to reach the first calls that it
//! makes then. `guardian` means the guardian, from the moment when lpm is killed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::errors;
use crate::judge::{ENDS_WITHIN, Problems};
use crate::options::Options;
use crate::program::Program;
use crate::random::{Random, evenly};
use crate::scenario::{self, SCENARIOS, Scenario, stop, take};
use crate::stack::Stack;
use crate::trial::{Trial, Verdict};

/// How long strace may take to attach to a thread.
const ATTACHES_WITHIN: Duration = Duration::from_secs(5);
/// Later occurrences of a call are left out: that many come from a walk over /proc alone, which depends on what else
/// the machine runs.
const MOST_OCCURRENCES: usize = 150;
/// The word for tracing from the start.
const FROM_START: &str = "start";
/// The word for the guardian, which is traced while it cleans up after lpm was killed.
const GUARDIAN: &str = "guardian";
/// The scenario that the guardian is tried with.
const GUARDED: &str = "stop";
/// What kills in place of an error.
const KILL: &str = "SIGKILL";

/// The options that have strace leave a process alone from its `execve` on.
const LEAVE_AT_EXECVE: [&str; 2] = ["-b", "execve"];

/// What `cargo test` tries: one or two of each kind, and those that once found something.
const QUICK: &[&str] = &[
    "inject/stop/start/epoll_ctl=ENOSPC@9",
    "inject/stop/start/mkdirat=SIGKILL@3",
    "inject/stop/start/clone3=EAGAIN@2",
    "inject/stop/lpm/openat=EMFILE@1",
    "inject/failing/start/openat=EMFILE@49",
    "inject/stop/lpm-worker/unlinkat=EBUSY@1",
    "inject/stop/lpm/pidfd_send_signal=SIGKILL@1",
    "inject/failing/start/pipe2=EMFILE@2",
    "inject/restart/lpm-worker/mkdirat=ENOMEM@1",
    "inject/reload/lpm/openat=ENFILE@2",
    "inject/attach/lpm/openat=EMFILE@3",
    "inject/detached/start/mkdirat=ENOMEM@2",
    "inject/run/start/eventfd2=ENOMEM@1",
    "inject/freeze/lpm/write=ENOMEM@1",
    "inject/kill/lpm/openat=EMFILE@2",
    "inject/freeze/start/clone3=ENOMEM@4",
    "inject/stop/lpm/read=ENOMEM@15",
    "inject/kill/lpm/write=ENOMEM@2",
    "inject/run/start/read=ENOMEM@50",
    "inject/stop/guardian/openat=EMFILE@2",
    "inject/stop/guardian/ppoll=ENOMEM@1",
    "inject/stop/guardian/write=ENOMEM@1",
];

/// A fault at one place of one scenario. As text, `inject/SCENARIO/WHERE/CALL=ERROR@N`; with `N+` from there on.
#[derive(Clone)]
struct Fault {
    scenario: &'static Scenario,
    /// [`FROM_START`], or the name of a thread.
    place: String,
    call: String,
    /// An error, or [`KILL`].
    error: String,
    occurrence: usize,
    /// All that follow it are hit, too.
    and_on: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { scenario, place, call, error, .. } = self;
        write!(f, "inject/{}/{place}/{call}={error}@{}", scenario.name, self.when())
    }
}

impl Fault {
    fn parse(name: &str) -> Option<Fault> {
        let mut parts = name.strip_prefix("inject/")?.split('/');
        let scenario = scenario::named(parts.next()?)?;
        let place = parts.next()?.to_owned();
        let (call, rest) = parts.next()?.split_once('=')?;
        let (error, occurrence) = rest.split_once('@')?;
        let and_on = occurrence.ends_with('+');
        let occurrence = occurrence.trim_end_matches('+').parse().ok()?;
        let (call, error) = (call.to_owned(), error.to_owned());
        Some(Fault { scenario, place, call, error, occurrence, and_on })
    }

    fn when(&self) -> String {
        format!("{}{}", self.occurrence, if self.and_on { "+" } else { "" })
    }

    fn is_kill(&self) -> bool {
        self.error == KILL
    }

    /// The options of strace that bring it about.
    fn options(&self) -> Vec<String> {
        let what = if self.is_kill() { "signal" } else { "error" };
        let Fault { call, error, .. } = self;
        vec![
            format!("--trace={call}"),
            format!("--inject={call}:{what}={error}:when={}", self.when()),
            "-yy".to_owned(),
            "-qq".to_owned(),
        ]
    }
}

/// The trial of this name.
pub fn named(name: &str) -> Option<Trial> {
    let fault = Fault::parse(name)?;
    Some(Trial::new(name, move || try_it(&fault)))
}

/// The trials that are asked for.
pub fn trials(options: &Options) -> Vec<Trial> {
    if !options.all && options.faults + options.faults_killing == 0 {
        return QUICK.iter().map(|name| named(name).expect("the names of the table are right")).collect();
    }
    if let Some(reason) = cannot() {
        return vec![Trial::new("inject", move || Verdict::Skipped(reason.clone()))];
    }
    let (mut errors, mut kills) = (Vec::new(), Vec::new());
    let mut random = Random::new(options.seed);
    for scenario in SCENARIOS.iter().filter(|scenario| options.may_want(&format!("inject/{}", scenario.name)))
    {
        match record(scenario) {
            Ok(places) => plan(scenario, &places, &mut random, &mut errors, &mut kills),
            Err(error) => println!("inject/{}: no recording: {error}", scenario.name),
        }
    }
    errors.retain(|fault: &Fault| options.wants(&fault.to_string()));
    kills.retain(|fault: &Fault| options.wants(&fault.to_string()));
    println!("inject: {} places for errors, {} for kills", errors.len(), kills.len());
    let errors = evenly(errors, options.faults);
    let kills = evenly(kills, options.faults_killing);
    let all = errors.into_iter().chain(kills);
    all.map(|fault| Trial::new(fault.to_string(), move || try_it(&fault))).collect()
}

/// Why nothing can be injected here, if so.
fn cannot() -> Option<String> {
    static REASON: OnceLock<Option<String>> = OnceLock::new();
    let look = || {
        let traced =
            Command::new("strace").args(["-f", "-b", "execve", "-qq", "-o", "/dev/null", "true"]).output();
        match traced {
            Err(_) => Some("needs strace".to_owned()),
            Ok(output) if !output.status.success() => {
                let said = String::from_utf8_lossy(&output.stderr);
                Some(format!("strace cannot trace: {}", said.lines().next().unwrap_or_default()))
            }
            Ok(_) => None,
        }
    };
    REASON.get_or_init(look).clone()
}

/// Of each call, by place, the occurrences that can be hit, each with the errors that it can give.
type Places = BTreeMap<(String, String), BTreeMap<usize, Vec<&'static str>>>;

fn plan(
    scenario: &'static Scenario,
    places: &Places,
    random: &mut Random,
    errors: &mut Vec<Fault>,
    kills: &mut Vec<Fault>,
) {
    for ((place, call), occurrences) in places {
        for (&occurrence, possible) in occurrences.range(..=MOST_OCCURRENCES) {
            let fault = |error: &str| Fault {
                scenario,
                place: place.clone(),
                call: call.clone(),
                error: error.to_owned(),
                occurrence,
                and_on: false,
            };
            if !possible.is_empty() {
                errors.push(fault(possible[random.below(possible.len() as u64) as usize]));
            }
            kills.push(fault(KILL));
        }
    }
}

/// Runs a scenario without faults and tells what there is to hit.
fn record(scenario: &'static Scenario) -> std::io::Result<Places> {
    let mut places = Places::new();
    let stack = scenario.stack()?;
    let trace = stack.path().join(".trace");
    let mut options = vec!["-yy", "-qq"];
    if !scenario.detaches() {
        options.extend(LEAVE_AT_EXECVE);
    }
    let mut lpm = Program::start(traced(&stack, scenario, &options, &trace))?;
    take(&stack, &mut lpm, scenario.steps);
    stop(&stack, &lpm, ENDS_WITHIN);
    let mut before_main = BTreeMap::new();
    for thread in Thread::all(&stack.read(".trace")) {
        for (call, seen) in thread.calls {
            let place = places.entry((FROM_START.to_owned(), call)).or_default();
            for (at, errors) in seen.into_iter().enumerate() {
                // The occurrence is hit in each thread that comes to it, so it must be possible in each.
                let possible = place.entry(at + 1).or_insert_with(|| errors.clone());
                possible.retain(|error| errors.contains(error));
            }
        }
        before_main.extend(thread.before_main);
    }
    // A fault before the main function tries the dynamic loader and Rust's runtime.
    for (call, before) in before_main {
        let place = places.entry((FROM_START.to_owned(), call)).or_default();
        place.retain(|&occurrence, _| occurrence > before);
    }
    if scenario.up_after > 0 {
        record_threads(scenario, &mut places)?;
    }
    if scenario.name == GUARDED {
        record_guardian(scenario, &mut places)?;
    }
    Ok(places)
}

/// What the guardian does when lpm is killed.
fn record_guardian(scenario: &'static Scenario, places: &mut Places) -> std::io::Result<()> {
    let stack = scenario.stack()?;
    let mut lpm = Program::start(scenario.command(&stack))?;
    take(&stack, &mut lpm, scenario.steps);
    let Some(guardian) = stack.guardian() else { return Ok(()) };
    let mut strace = attach(&stack, &["-yy".to_owned()], guardian.pid)?;
    strace.sees("attached", ATTACHES_WITHIN);
    lpm.signal(Signal::KILL);
    strace.ends(ENDS_WITHIN);
    // Without -f there is no number before a call.
    let trace: String = stack.read(".trace").lines().map(|line| format!("1 {line}\n")).collect();
    for (call, seen) in Thread::all(&trace).into_iter().flat_map(|thread| thread.calls) {
        let occurrences = seen.into_iter().enumerate().map(|(at, errors)| (at + 1, errors));
        places.insert((GUARDIAN.to_owned(), call), occurrences.collect());
    }
    Ok(())
}

/// The same for each thread of a running stack.
fn record_threads(scenario: &'static Scenario, places: &mut Places) -> std::io::Result<()> {
    let stack = scenario.stack()?;
    let mut lpm = Program::start(scenario.command(&stack))?;
    take(&stack, &mut lpm, &scenario.steps[..scenario.up_after]);
    let names = threads(&stack, lpm.pid());
    let pid = lpm.pid().as_raw_pid().to_string();
    let mut command = stack.command("strace");
    command.args(["-f", "-yy", "-b", "execve", "-o", ".trace", "-p", &pid]);
    let mut strace = Program::start(command)?;
    strace.sees("attached", ATTACHES_WITHIN);
    take(&stack, &mut lpm, &scenario.steps[scenario.up_after..]);
    stop(&stack, &lpm, ENDS_WITHIN);
    strace.ends(ATTACHES_WITHIN);
    for thread in Thread::all(&stack.read(".trace")) {
        let Some(name) = names.iter().find(|(tid, _)| *tid == thread.tid).map(|(_, name)| name) else {
            continue;
        };
        for (call, seen) in thread.calls {
            let occurrences = seen.into_iter().enumerate().map(|(at, errors)| (at + 1, errors));
            places.insert((name.clone(), call), occurrences.collect());
        }
    }
    Ok(())
}

/// The calls of a trace that were refused, each on one line.
fn injected(trace: &str) -> Vec<String> {
    let mut unfinished = BTreeMap::new();
    let mut found = Vec::new();
    for line in trace.lines() {
        let thread = line.split(' ').next().unwrap_or_default();
        if line.ends_with("<unfinished ...>") {
            unfinished.insert(thread, line);
        } else if line.contains("(INJECTED)") {
            let begun = unfinished.get(thread).filter(|_| line.contains(" resumed>"));
            found.push(begun.map_or(String::new(), |begun| format!("{begun} ")) + line);
        }
    }
    found
}

/// The threads of lpm by number, with their names. A client first has the one made that answers clients.
fn threads(stack: &Stack, pid: Pid) -> Vec<(i32, String)> {
    scenario::client(stack, &["status"]);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_pid())).into_iter().flatten().flatten();
    let name = |tid: i32| std::fs::read_to_string(format!("/proc/{tid}/comm"));
    let tids = tasks.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    tids.filter_map(|tid| Some((tid, name(tid).ok()?.trim().to_owned()))).collect()
}

/// What one thread called, in the words of strace.
struct Thread {
    tid: i32,
    /// Each call, and for each time the errors that it could have given.
    calls: BTreeMap<String, Vec<Vec<&'static str>>>,
    /// How often it came before the main function: in the first thread only.
    before_main: BTreeMap<String, usize>,
}

impl Thread {
    /// The threads of a trace, the first of lpm first.
    fn all(trace: &str) -> Vec<Thread> {
        let mut threads: Vec<Thread> = Vec::new();
        let mut in_main = false;
        for line in trace.lines() {
            let Some((tid, rest)) = line.split_once(' ') else { continue };
            let Ok(tid) = tid.parse::<i32>() else { continue };
            let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
            if !call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                continue;
            }
            let at = threads.iter().position(|thread| thread.tid == tid).unwrap_or_else(|| {
                threads.push(Thread { tid, calls: BTreeMap::new(), before_main: BTreeMap::new() });
                threads.len() - 1
            });
            let thread = &mut threads[at];
            thread.calls.entry(call.to_owned()).or_default().push(errors::of(call, arguments).to_vec());
            // The last thing before it is the stack on which a stack overflow is told.
            if !in_main {
                *thread.before_main.entry(call.to_owned()).or_default() += 1;
            }
            in_main |= call == "sigaltstack" && !arguments.starts_with("NULL");
        }
        threads
    }
}

/// lpm as the scenario starts it, traced. With `-D` it is strace that is the grandchild, and lpm ours.
fn traced(stack: &Stack, scenario: &Scenario, options: &[&str], trace: &Path) -> Command {
    let lpm = scenario.command(stack);
    let mut command = stack.command("strace");
    command.args(["-D", "-f"]).args(options).arg("-o").arg(trace);
    command.arg(lpm.get_program()).args(lpm.get_args());
    command
}

fn try_it(fault: &Fault) -> Verdict {
    if let Some(reason) = cannot() {
        return Verdict::Skipped(reason);
    }
    match fault.place.as_str() {
        FROM_START => from_start(fault),
        GUARDIAN => in_guardian(fault),
        _ => in_thread(fault),
    }
    .unwrap_or_else(Verdict::broken)
}

fn from_start(fault: &Fault) -> std::io::Result<Verdict> {
    let stack = fault.scenario.stack()?;
    let mut options = fault.options();
    // Otherwise a call to execve, and the supervisor that a launcher executes, could not be hit. The programs of
    // the stack and the guardian are hit, too, then.
    if fault.call != "execve" && !fault.scenario.detaches() {
        options.extend(LEAVE_AT_EXECVE.map(str::to_owned));
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let mut lpm = Program::start(traced(&stack, fault.scenario, &options, &stack.path().join(".trace")))?;
    let said = take(&stack, &mut lpm, fault.scenario.steps);
    Ok(judge(fault, &stack, lpm, said, false))
}

fn in_thread(fault: &Fault) -> std::io::Result<Verdict> {
    let stack = fault.scenario.stack()?;
    let (before, after) = fault.scenario.steps.split_at(fault.scenario.up_after);
    let mut lpm = Program::start(fault.scenario.command(&stack))?;
    let mut said = take(&stack, &mut lpm, before);
    let threads = threads(&stack, lpm.pid());
    let Some((tid, _)) = threads.iter().find(|(_, name)| *name == fault.place) else {
        return Ok(Verdict::broken(format!("no thread is called {}: {threads:?}", fault.place)));
    };
    let mut strace = attach(&stack, &fault.options(), *tid)?;
    if !strace.sees("attached", ATTACHES_WITHIN) {
        return Ok(Verdict::broken(format!("strace does not attach: {}", strace.text())));
    }
    said += &take(&stack, &mut lpm, after);
    let ended_by_itself = lpm.ended().is_some();
    let verdict = judge(fault, &stack, lpm, said, ended_by_itself);
    strace.ends(ATTACHES_WITHIN);
    Ok(verdict)
}

/// lpm is killed while its guardian is traced. One error must not keep the guardian from its work; when it is
/// killed, too, the next start has to do it.
fn in_guardian(fault: &Fault) -> std::io::Result<Verdict> {
    let stack = fault.scenario.stack()?;
    let mut lpm = Program::start(fault.scenario.command(&stack))?;
    let said = take(&stack, &mut lpm, fault.scenario.steps);
    let Some(guardian) = stack.guardian() else {
        return Ok(Verdict::Skipped("there is no guardian here".to_owned()));
    };
    let mut strace = attach(&stack, &fault.options(), guardian.pid)?;
    if !strace.sees("attached", ATTACHES_WITHIN) {
        return Ok(Verdict::broken(format!("strace does not attach: {}", strace.text())));
    }
    lpm.signal(Signal::KILL);
    lpm.ends(ENDS_WITHIN);
    let mut problems = Problems::default();
    if !fault.is_kill() {
        problems.in_survivors(&stack);
    }
    let text = lpm.text() + &said;
    drop(lpm);
    Ok(verdict(fault, &stack, problems, &text))
}

/// strace on one thread that runs already.
fn attach(stack: &Stack, options: &[String], tid: i32) -> std::io::Result<Program> {
    let mut command = stack.command("strace");
    // `-qq` would keep back the words that tell of the attaching.
    command.args(options.iter().filter(|option| *option != "-qq"));
    command.args(["-o", ".trace", "-p", &tid.to_string()]);
    Program::start(command)
}

/// Ends the run, and looks at it and at the next one.
fn judge(fault: &Fault, stack: &Stack, lpm: Program, said: String, ended_by_itself: bool) -> Verdict {
    let mut problems = Problems::default();
    let stopped = stop(stack, &lpm, ENDS_WITHIN);
    problems.in_end(lpm.ended());
    if !stopped && lpm.ended().is_some() {
        problems.add("a supervisor has not ended 15 s after SIGTERM");
    }
    // Where nothing can be printed any more a stack may end.
    if ended_by_itself && fault.scenario.stays && !fault.is_kill() && fault.error != "EPIPE" {
        problems.add("the stack ended before it was asked to");
    }
    // Every request is answered, if only by the end of the connection.
    for line in said.lines().filter(|line| line.starts_with("$ lpm") && line.ends_with("(no end)")) {
        problems.add(format!("no answer: {}", line.trim_start_matches("$ ").trim_end_matches(" (no end)")));
    }
    let text = lpm.text() + &said;
    problems.in_words(stack, &text);
    match fault.is_kill() {
        true => problems.in_survivors(stack),
        false => problems.in_what_is_left(stack),
    }
    drop(lpm);
    verdict(fault, stack, problems, &text)
}

/// Looks at the next start as well. A fault counts if it hit a call that can fail like that: which call is the Nth
/// of its thread may differ from one run to the next.
fn verdict(fault: &Fault, stack: &Stack, mut problems: Problems, text: &str) -> Verdict {
    let next = problems.in_next_start(stack);
    let trace = stack.read(".trace");
    let hits = match fault.is_kill() {
        true => trace.lines().filter(|line| line.contains("killed by SIGKILL")).map(str::to_owned).collect(),
        false => injected(&trace),
    };
    let possible = |line: &String| {
        let arguments = line.split_once('(').map_or("", |(_, arguments)| arguments);
        fault.is_kill() || errors::of(&fault.call, arguments).contains(&fault.error.as_str())
    };
    if hits.is_empty() && problems.0.is_empty() || !hits.iter().all(possible) {
        return Verdict::Missed;
    }
    let options = fault.options().join(" ");
    Verdict::of(problems, format!("strace {options}\n{}\n{text}next start:\n{next}", hits.join("\n")))
}
