//! The command line of the runner.

use std::time::{SystemTime, UNIX_EPOCH};

/// What a person asked for.
pub struct Options {
    /// Everything, not only the quick part.
    pub all: bool,
    pub list: bool,
    /// Trials named in full, which need not be among those that would run.
    pub only: Vec<String>,
    /// The binary under test, if not the one that cargo built for this.
    pub lpm: Option<String>,
    /// Parts of names, as with libtest.
    pub filters: Vec<String>,
    /// What random choices follow from.
    pub seed: u64,
    /// How many trials run at a time.
    pub jobs: usize,
    /// How many errors are injected, and how many kills at system calls.
    pub faults: usize,
    pub faults_killing: usize,
    /// How many kills at random moments.
    pub kills: usize,
    pub restarts: usize,
    pub calls: usize,
    pub clients: usize,
    pub reloads: usize,
}

/// The help of the runner.
pub const HELP: &str = "\
Finds faults of lpm by itself: injected errors, kills, exhaustion, hostile processes, churn.

cargo test --test faults -- [OPTIONS] [FILTER]...

  --all              everything (an hour), not only the quick part (seconds)
  --only NAME        this trial, as a finding names it; may be repeated
  --lpm PATH         the binary under test (not the one that cargo built)
  --seed N           what random choices follow from (printed at the start)
  --jobs N           trials at a time
  --faults N         injected errors at most (with --all)
  --faults-killing N kills at system calls at most (with --all)
  --kills N          kills at random moments
  --restarts N, --calls N, --clients N, --reloads N
                     how much churn
  --list             print the names of the trials
";

impl Options {
    /// Reads the arguments; `Err` holds what is wrong with them. Flags of libtest are ignored, because
    /// `cargo test` hands them to every target.
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let arguments: Vec<String> = arguments.collect();
        let all = arguments.iter().any(|argument| argument == "--all");
        let jobs = std::thread::available_parallelism().map_or(2, |count| count.get().max(2));
        let (faults, faults_killing, kills) = if all { (2500, 700, 1000) } else { (0, 0, 4) };
        let (restarts, calls, clients, reloads) =
            if all { (100_000, 10_000, 50, 1000) } else { (100, 200, 10, 5) };
        let mut options = Options {
            all,
            list: false,
            only: Vec::new(),
            lpm: None,
            filters: Vec::new(),
            seed: if all { seconds() } else { 1 },
            jobs,
            faults,
            faults_killing,
            kills,
            restarts,
            calls,
            clients,
            reloads,
        };
        let mut rest = arguments.into_iter();
        while let Some(argument) = rest.next() {
            let mut number = |into: &mut usize| -> Result<(), String> {
                *into = value(&argument, rest.next())?;
                Ok(())
            };
            match argument.as_str() {
                "--all" => {}
                "--list" => options.list = true,
                "--help" | "-h" => return Err(HELP.to_owned()),
                "--only" => options.only.extend(rest.next()),
                "--lpm" => options.lpm = rest.next(),
                "--seed" => options.seed = value(&argument, rest.next())?,
                "--jobs" => number(&mut options.jobs)?,
                "--faults" => number(&mut options.faults)?,
                "--faults-killing" => number(&mut options.faults_killing)?,
                "--kills" => number(&mut options.kills)?,
                "--restarts" => number(&mut options.restarts)?,
                "--calls" => number(&mut options.calls)?,
                "--clients" => number(&mut options.clients)?,
                "--reloads" => number(&mut options.reloads)?,
                "--test-threads" | "--skip" | "--color" | "--format" => drop(rest.next()),
                flag if flag.starts_with('-') => {}
                _ => options.filters.push(argument),
            }
        }
        Ok(options)
    }

    /// Whether a trial may be asked for whose name begins like this.
    pub fn may_want(&self, beginning: &str) -> bool {
        let may = |filter: &String| filter.starts_with(beginning) || filter.starts_with('/');
        self.wants(beginning) || self.filters.iter().any(may)
    }

    /// Whether a trial of this name is asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter.as_str()))
    }
}

fn value<T: std::str::FromStr>(option: &str, text: Option<String>) -> Result<T, String> {
    let text = text.ok_or_else(|| format!("{option}: a number is missing"))?;
    text.parse().map_err(|_| format!("{option}: {text:?} is not a number"))
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs())
}
