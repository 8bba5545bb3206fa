//! Means that find faults by themselves: errors and kills at every system call, kills at random moments,
//! exhaustion, hostile processes, churn. [docs/reliability.md] tells what is tried and how it is judged.
//!
//! `cargo test` runs the quick part, which is the same each time; `tests/run --all` runs everything, from a seed
//! that is printed. It has its own harness, because a trial must be judged from outside the process that it is
//! about, may be one of thousands, and must be repeatable by its name.
#![expect(clippy::disallowed_methods, reason = "a test has a clock, an environment and a way out")]

mod churn;
mod errors;
mod exhaustion;
mod helper;
mod hostile;
mod inject;
mod judge;
mod kills;
mod options;
mod program;
mod random;
mod scenario;
mod stack;
mod trial;

use std::process::ExitCode;

use options::Options;
use trial::Trial;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, words)) = words.split_first()
        && first == "helper"
    {
        return match helper::main(words) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("helper: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let options = match Options::parse(words.into_iter()) {
        Ok(options) => options,
        Err(text) => {
            println!("{}", text.trim_end());
            return ExitCode::FAILURE;
        }
    };
    if let Some(path) = &options.lpm
        && let Err(error) = stack::use_lpm(path)
    {
        println!("{path}: {error}");
        return ExitCode::FAILURE;
    }
    if !options.list {
        println!("seed {}", options.seed);
    }
    let trials = match chosen(&options) {
        Ok(trials) => trials,
        Err(name) => {
            println!("no trial is called {name} (--list prints all)");
            return ExitCode::FAILURE;
        }
    };
    if options.list {
        trials.iter().for_each(|trial| println!("{}: test", trial.name));
        return ExitCode::SUCCESS;
    }
    match trial::run(&trials, options.jobs, options.all) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// The trials that are asked for; `Err` names one that there is not.
fn chosen(options: &Options) -> Result<Vec<Trial>, String> {
    if !options.only.is_empty() {
        return options.only.iter().map(|name| named(name).ok_or_else(|| name.clone())).collect();
    }
    let mut trials = Vec::new();
    // The longest comes first, beside all others.
    trials.extend(churn::trials(options));
    trials.extend(inject::trials(options));
    trials.extend(kills::trials(options));
    trials.extend(hostile::trials(options));
    trials.extend(exhaustion::trials(options));
    trials.retain(|trial| options.wants(&trial.name));
    Ok(trials)
}

fn named(name: &str) -> Option<Trial> {
    let parts = [inject::named, kills::named, hostile::named, exhaustion::named, churn::named];
    parts.iter().find_map(|part| part(name))
}
