//! SIGKILL at random moments: to lpm, and now and then to lpm and its guardian together.
//!
//! The moment follows from the seed in the trial's name, so a finding can be tried again; how far lpm has got by
//! then depends on the machine, so it may take a few tries.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::judge::Problems;
use crate::options::Options;
use crate::program::Program;
use crate::random::Random;
use crate::scenario::{self, SCENARIOS, Scenario, take};
use crate::stack::Stack;
use crate::trial::{Trial, Verdict};

/// The longest delay. Every scenario is over by then on a quiet machine, its last wait included.
const LONGEST: Duration = Duration::from_millis(250);
/// One of this many kills hits the guardian as well.
const WITH_GUARDIAN: u64 = 4;

/// The trial of this name: `kills/SCENARIO/SEED`.
pub fn named(name: &str) -> Option<Trial> {
    let (scenario, seed) = name.strip_prefix("kills/")?.split_once('/')?;
    let (scenario, seed) = (scenario::named(scenario)?, seed.parse().ok()?);
    Some(Trial::new(name, move || try_it(scenario, seed).unwrap_or_else(Verdict::broken)))
}

/// The trials that are asked for, the scenarios in turn.
pub fn trials(options: &Options) -> Vec<Trial> {
    let mut random = Random::new(options.seed);
    let scenarios = SCENARIOS.iter().cycle().take(options.kills);
    let names = scenarios.map(|scenario| format!("kills/{}/{}", scenario.name, random.below(1_000_000_000)));
    names.filter_map(|name| named(&name)).collect()
}

fn try_it(scenario: &'static Scenario, seed: u64) -> std::io::Result<Verdict> {
    let mut random = Random::new(seed);
    // The square has more of the early moments, in which more happens.
    let part = random.below(1000) as f64 / 1000.0;
    let delay = LONGEST.mul_f64(part * part);
    let both = random.below(WITH_GUARDIAN) == 0;

    let stack = scenario.stack()?;
    let mut lpm = Program::start(scenario.command(&stack))?;
    let killer = lpm.killer();
    let said = thread::scope(|scope| {
        let stack = &stack;
        scope.spawn(move || {
            thread::sleep(delay);
            kill(stack, &killer, scenario, both);
        });
        take(stack, &mut lpm, scenario.steps)
    });
    // What the kill came too late for, or what was detached, is asked to end.
    let stopped = scenario::stop(&stack, &lpm, crate::judge::ENDS_WITHIN);

    let mut problems = Problems::default();
    problems.in_end(lpm.ended());
    if !stopped {
        problems.add("a supervisor has not ended 15 s after SIGTERM");
    }
    problems.in_words(&stack, &(lpm.text() + &said));
    if !both {
        problems.in_survivors(&stack);
    }
    let killed = if both { "lpm and its guardian" } else { "lpm" };
    let mut output = format!("kill -9 of {killed} after {delay:?}\n{}{said}", lpm.text());
    drop(lpm);
    output += &format!("next start:\n{}", problems.in_next_start(&stack));
    Ok(Verdict::of(problems, output))
}

fn kill(stack: &Stack, lpm: &dyn Fn(Signal), scenario: &Scenario, both: bool) {
    // With -D there is a supervisor besides the one that was started. All of them are stopped first, so that
    // none acts on the death of another.
    let others = if scenario.detaches() { stack.supervisors() } else { Vec::new() };
    let signal_all = |signal| {
        lpm(signal);
        others.iter().for_each(|other| other.signal(stack, signal));
    };
    signal_all(Signal::STOP);
    if both && let Some(guardian) = stack.guardian() {
        guardian.signal(stack, Signal::KILL);
    }
    signal_all(Signal::KILL);
}
