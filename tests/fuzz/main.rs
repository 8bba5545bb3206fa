//! Whatever others write, reading it ends: every target of `targets/` over its corpus and over inputs made of that, each
//! in a process of its own with little memory, a small stack, and a bound on the time of each input.
//!
//! `cargo test --test fuzz` takes a few seconds and the same inputs each time; `cargo test --test fuzz -- --all` runs
//! each target for a minute, from a seed that it prints. `--seed N` chooses the seed, and a name runs the targets with
//! that in their names. `--input FILE NAME` runs one target on one file. For longer, and guided by coverage: `fuzz/`.
#![expect(clippy::disallowed_methods, reason = "a test has a clock, an environment and a way out")]

mod mutate;
mod targets;

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use mutate::{Random, mutant};
use targets::{LONGEST, TARGETS, Target};

/// Names a target in the environment of the process that runs it.
const ONE: &str = "LPM_FUZZ_TARGET";

/// The memory that a target may take, in bytes of address space.
const MEMORY: u64 = 64 << 20;

/// The processor time that one input may take.
const TIME: Duration = Duration::from_secs(1);

/// The stack that a target has: what the thread of the control socket has.
const STACK: usize = 512 << 10;

/// How long a quick run makes inputs for each target, of the processor: all of them take some seconds.
const QUICK: Duration = Duration::from_millis(200);

/// The inputs of a quick run, if they take less.
const INPUTS: u64 = 2000;

/// How long `--all` runs each target.
const LONG: Duration = Duration::from_secs(60);

/// How long a process may take besides: starting, and one input that does not end.
const GRACE: Duration = Duration::from_secs(30);

/// The seed of the quick run.
const SEED: u64 = 1;

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(ONE) {
        one(&name);
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::read();
    let wanted =
        |name: &str| arguments.filters.is_empty() || arguments.filters.iter().any(|f| name.contains(f));
    let chosen: Vec<&Target> = TARGETS.iter().filter(|(name, _)| wanted(name)).collect();
    if arguments.list {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0, 0);
    let mut count = |verdict: Result<String, String>| match verdict {
        Ok(text) => {
            println!("pass: fuzz::{text}");
            passed += 1;
        }
        Err(text) => {
            println!("FAIL: fuzz::{text}");
            failed += 1;
        }
    };
    if arguments.filters.is_empty() {
        count(every_target_is_complete());
        count(what_breaks_a_bound_is_found());
    }
    let began = Instant::now();
    for (name, _) in chosen {
        count(run(name, &arguments));
    }
    println!("seed {}, {:.1} s", arguments.seed, began.elapsed().as_secs_f64());
    println!("{passed} passed, {failed} failed, 0 skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was asked for. Flags of libtest are ignored: `cargo test` hands them to every test.
struct Arguments {
    filters: Vec<String>,
    seed: u64,
    all: bool,
    list: bool,
    input: Option<PathBuf>,
}

impl Arguments {
    fn read() -> Arguments {
        let mut read = Arguments { filters: Vec::new(), seed: SEED, all: false, list: false, input: None };
        let mut seed = None;
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--all" => read.all = true,
                "--list" => read.list = true,
                "--seed" => seed = words.next().and_then(|number| number.parse().ok()),
                "--input" => read.input = words.next().map(PathBuf::from),
                "--test-threads" | "--skip" | "--color" | "--format" => drop(words.next()),
                flag if flag.starts_with('-') => {}
                _ => read.filters.push(word),
            }
        }
        if read.all {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            read.seed = now.as_secs();
        }
        read.seed = seed.unwrap_or(read.seed);
        read
    }
}

/// A target has seeds, and a file for cargo-fuzz.
fn every_target_is_complete() -> Result<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = std::fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap_or_default();
    for (name, _) in TARGETS {
        let file = std::fs::read_to_string(root.join(format!("fuzz/fuzz_targets/{name}.rs")));
        let lacks = if corpus(name).is_empty() {
            format!("no seed in tests/fuzz/corpus/{name}")
        } else if !file.unwrap_or_default().contains(&format!("{name:?}")) {
            format!("no fuzz/fuzz_targets/{name}.rs")
        } else if !manifest.contains(&format!("name = {name:?}")) {
            format!("no entry for {name} in fuzz/Cargo.toml")
        } else {
            continue;
        };
        return Err(format!("every_target_is_complete: {lacks}"));
    }
    Ok("every_target_is_complete".to_owned())
}

/// Targets that do what none may do. A bound that is not held proves nothing.
const BAD: &[Target] = &[
    ("bad-memory", |_| drop(std::hint::black_box(vec![1u8; 80 << 20]))),
    ("bad-time", |_| {
        let until = processor_time() + 2 * TIME;
        while processor_time() < until {}
    }),
    ("bad-stack", |bytes| {
        fn deep(bytes: &[u8], level: usize) -> usize {
            let room = std::hint::black_box([level; 64]);
            if level == 100_000 { bytes.len() } else { deep(bytes, level + 1) + room[level % 64] }
        }
        std::hint::black_box(deep(bytes, 0));
    }),
    ("bad-panic", |bytes| assert!(bytes.is_empty(), "it is not empty")),
];

fn what_breaks_a_bound_is_found() -> Result<String, String> {
    let arguments = Arguments { filters: Vec::new(), seed: SEED, all: false, list: false, input: None };
    for (name, _) in BAD {
        if run(name, &arguments).is_ok() {
            return Err(format!("what_breaks_a_bound_is_found: {name} is not"));
        }
    }
    Ok("what_breaks_a_bound_is_found".to_owned())
}

/// Runs a target in a process of its own.
fn run(name: &str, arguments: &Arguments) -> Result<String, String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let current = directory.path().join("input");
    let (most, inputs) = if arguments.all { (LONG, u64::MAX) } else { (QUICK, INPUTS) };
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .env(ONE, name)
        .env("LPM_FUZZ_SEED", arguments.seed.to_string())
        .env("LPM_FUZZ_MILLISECONDS", most.as_millis().to_string())
        .env("LPM_FUZZ_INPUTS", inputs.to_string())
        .env("LPM_FUZZ_CURRENT", &current)
        // A backtrace is drawn with more memory than a target has.
        .env("RUST_BACKTRACE", "0")
        // One arena, or each reserves 64 MiB of address space.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(input) = &arguments.input {
        command.env("LPM_FUZZ_INPUT", input);
    }
    let mut child = command.spawn().expect("this program starts");
    let mut out = child.stdout.take().expect("it was asked for");
    let mut err = child.stderr.take().expect("it was asked for");
    let (tell, told) = mpsc::channel();
    let reader = std::thread::Builder::new().spawn(move || {
        let (mut text, mut problem) = (String::new(), Vec::new());
        let _ = out.read_to_string(&mut text);
        let _ = err.read_to_end(&mut problem);
        let _ = tell.send((text, String::from_utf8_lossy(&problem).into_owned()));
    });
    // A minute of the processor may be three on a machine that is busy.
    let answer = told.recv_timeout(3 * most + GRACE);
    if answer.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().expect("it is our child");
    let _ = reader.expect("a thread").join();
    let (text, problem) = match answer {
        Ok(answer) => answer,
        Err(_) => (String::new(), "it did not end".to_owned()),
    };
    if status.success() && !text.is_empty() {
        return Ok(format!("{name} ({})", text.trim()));
    }
    let input = std::fs::read(&current).unwrap_or_default();
    let mut message = format!("{name}: {status}, seed {}, {} bytes of input", arguments.seed, input.len());
    if !BAD.iter().any(|(bad, _)| *bad == name) {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{name}"));
        let kept = std::fs::copy(&current, &kept)
            .map_or_else(|error| error.to_string(), |_| kept.display().to_string());
        message += &format!(", kept in {kept}\n    again: cargo test --test fuzz -- --input {kept} {name}");
    }
    let beginning = &input[..input.len().min(300)];
    message += &format!("\n    \"{}\"", beginning.escape_ascii());
    problem.lines().take(12).for_each(|line| message += &format!("\n    {line}"));
    Err(message)
}

/// The seeds of a target, in the order of their names.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("a seed can be read")).collect()
}

/// The process of one target: prints how many inputs it was given, or ends as that breaks it.
fn one(name: &str) {
    let target = TARGETS.iter().chain(BAD).find(|(known, _)| *known == name).expect("a known target").1;
    let variable = |name: &str| std::env::var(name).expect("the parent says it");
    let number = |name: &str| variable(name).parse::<u64>().expect("the parent says a number");
    let current = File::create(variable("LPM_FUZZ_CURRENT")).expect("the parent's directory");
    let (seed, inputs) = (number("LPM_FUZZ_SEED"), number("LPM_FUZZ_INPUTS"));
    let most = Duration::from_millis(number("LPM_FUZZ_MILLISECONDS"));
    let only =
        std::env::var_os("LPM_FUZZ_INPUT").map(|file| std::fs::read(file).expect("the input can be read"));
    let body = move || {
        bound_memory();
        let mut count = 0;
        let mut slowest = Duration::ZERO;
        let mut give = |input: &[u8]| {
            note(&current, input);
            let before = processor_time();
            target(input);
            let took = processor_time() - before;
            assert!(took < TIME, "it took {took:?}");
            slowest = slowest.max(took);
            count += 1;
        };
        if let Some(input) = only {
            give(&input);
        } else {
            let mut seeds = corpus(name);
            seeds.push(b"seed".to_vec());
            seeds.iter().for_each(|input| give(input));
            let mut random = Random(seed);
            let began = processor_time();
            for _ in 0..inputs {
                if processor_time() - began >= most {
                    break;
                }
                give(&mutant(&mut random, &seeds, LONGEST));
            }
        }
        println!("{count} inputs, the slowest {slowest:.1?}");
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, body);
        if thread.expect("a thread").join().is_err() {
            std::process::exit(101);
        }
    });
}

/// Writes the input down before it is tried: what breaks the process is found there.
fn note(file: &File, input: &[u8]) {
    file.set_len(0).and_then(|()| file.write_all_at(input, 0)).expect("an input can be written down");
}

fn bound_memory() {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("/proc");
    let pages: u64 = pages.split(' ').next().and_then(|pages| pages.parse().ok()).expect("proc_pid_statm(5)");
    let most = pages * rustix::param::page_size() as u64 + MEMORY;
    let limit = Rlimit { current: Some(most), maximum: getrlimit(Resource::As).maximum };
    setrlimit(Resource::As, limit).expect("a limit can be lowered");
}

/// Of this thread: others may keep the machine busy.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
