//! Trials, how many run at a time, and what is said of them.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::judge::Problems;
use crate::stack::lpm;

/// How often a long run says how far it is.
const PROGRESS: Duration = Duration::from_secs(15);
/// How many findings of one kind are shown with what was printed; of the others the name must do.
const SHOWN: usize = 2;

/// One thing that is tried.
pub struct Trial {
    /// `part/…`: enough to repeat it.
    pub name: String,
    pub run: Box<dyn Fn() -> Verdict + Send + Sync>,
}

impl Trial {
    /// A trial of this name.
    pub fn new(name: impl Into<String>, run: impl Fn() -> Verdict + Send + Sync + 'static) -> Trial {
        Trial { name: name.into(), run: Box::new(run) }
    }
}

/// What came of a trial.
pub enum Verdict {
    /// Nothing was found. The note, if any, is for the reader of a summary.
    Passed(Option<String>),
    /// What was to be tried did not happen, and nothing else was found.
    Missed,
    /// What was found, and everything that was printed.
    Failed(Vec<String>, String),
    /// It cannot be tried here.
    Skipped(String),
}

impl Verdict {
    /// What `problems` come to.
    pub fn of(problems: Problems, output: impl Into<String>) -> Verdict {
        match problems.0.is_empty() {
            true => Verdict::Passed(None),
            false => Verdict::Failed(problems.0, output.into()),
        }
    }

    /// The runner itself could not do its part.
    pub fn broken(error: impl std::fmt::Display) -> Verdict {
        Verdict::Failed(vec![format!("the runner: {error}")], String::new())
    }
}

/// Everything that came of all trials.
#[derive(Default)]
struct Tally {
    parts: BTreeMap<String, Counts>,
    /// Names by kind of finding.
    kinds: BTreeMap<String, Vec<String>>,
}

#[derive(Default)]
struct Counts {
    passed: usize,
    missed: usize,
    failed: usize,
    skipped: usize,
}

/// Runs `trials`, `jobs` at a time, prints what came of them and says whether all passed.
pub fn run(trials: &[Trial], jobs: usize, brief: bool) -> bool {
    let began = Instant::now();
    let tally = Mutex::new(Tally::default());
    let next = AtomicUsize::new(0);
    let said = Mutex::new(Instant::now());
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, trials.len().max(1)) {
            scope.spawn(|| {
                while let Some(trial) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = Instant::now();
                    let verdict = catch_unwind(AssertUnwindSafe(|| (trial.run)()))
                        .unwrap_or_else(|_| Verdict::broken("it panicked"));
                    tell(&tally, trial, verdict, started.elapsed(), brief);
                    let mut said = said.lock().expect("telling does not panic");
                    if brief && said.elapsed() > PROGRESS {
                        *said = Instant::now();
                        let done = next.load(Ordering::Relaxed).min(trials.len());
                        progress(&tally, done, trials.len(), began.elapsed());
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().expect("telling does not panic");
    summary(&tally, began.elapsed());
    tally.parts.values().all(|counts| counts.failed == 0)
}

fn tell(tally: &Mutex<Tally>, trial: &Trial, verdict: Verdict, took: Duration, brief: bool) {
    let name = &trial.name;
    let part = name.split('/').next().unwrap_or_default().to_owned();
    let mut tally = tally.lock().expect("telling does not panic");
    let counts = tally.parts.entry(part).or_default();
    match verdict {
        Verdict::Passed(note) => {
            counts.passed += 1;
            let note = note.map(|note| format!(": {note}"));
            if !brief || note.is_some() {
                println!("pass: {name} ({:.2} s){}", took.as_secs_f64(), note.unwrap_or_default());
            }
        }
        Verdict::Missed => {
            counts.missed += 1;
            if !brief {
                println!("miss: {name} ({:.2} s)", took.as_secs_f64());
            }
        }
        Verdict::Skipped(reason) => {
            counts.skipped += 1;
            println!("skip: faults::{name} ({reason})");
        }
        Verdict::Failed(problems, output) => {
            counts.failed += 1;
            println!("FAIL: {name} ({:.2} s): {}", took.as_secs_f64(), problems.join("; "));
            let mut show = false;
            for problem in problems {
                let names = tally.kinds.entry(kind(&problem)).or_default();
                names.push(name.clone());
                show |= names.len() <= SHOWN;
            }
            if show {
                let own = lpm().contains("/debug/");
                let other = if own { String::new() } else { format!("--lpm {} ", lpm()) };
                println!("    repeat: cargo test --test faults -- {other}--only '{name}'");
                output.trim_end().lines().for_each(|line| println!("    | {line}"));
            }
        }
    }
    let _ = std::io::stdout().flush();
}

/// A problem without what differs from one trial to the next: numbers and names of directories.
fn kind(problem: &str) -> String {
    let cut = problem.find(['/', '(']).unwrap_or(problem.len());
    let words = problem[..cut].split_whitespace();
    let words = words.filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
    words.collect::<Vec<_>>().join(" ")
}

fn progress(tally: &Mutex<Tally>, done: usize, all: usize, took: Duration) {
    let tally = tally.lock().expect("telling does not panic");
    let failed: usize = tally.parts.values().map(|counts| counts.failed).sum();
    println!("... {done} of {all}, {failed} failed ({} s)", took.as_secs());
}

fn summary(tally: &Tally, took: Duration) {
    println!();
    for (kind, names) in &tally.kinds {
        println!("{} x {kind}", names.len());
        names.iter().take(5).for_each(|name| println!("    {name}"));
    }
    for (part, counts) in &tally.parts {
        let Counts { passed, missed, failed, skipped } = counts;
        println!("{part}: {passed} passed, {failed} failed, {skipped} skipped, {missed} did not happen.");
    }
    println!("took {:.1} s", took.as_secs_f64());
    let sum = |what: fn(&Counts) -> usize| tally.parts.values().map(what).sum::<usize>();
    println!(
        "{} passed, {} failed, {} skipped",
        sum(|counts| counts.passed),
        sum(|counts| counts.failed),
        sum(|counts| counts.skipped)
    );
}
