//! The core's events per second: stacks of 1 to 1000 instances brought up and torn down, beside a loop that
//! only makes and drops the events.
//!
//! `cargo bench --bench core`. Figures of one run belong together.
#![expect(clippy::disallowed_methods, reason = "a bench has a clock")]

use std::time::{Duration, Instant};

use lpm::config::{Given, Machine, Options, Signal, Sources, Stack, Text, load};
use lpm::supervisor::{Action, Event, Exit, InstanceId, Life, Supervisor, Usage};

fn main() {
    println!("{:>10} {:>14} {:>14} {:>8}", "instances", "events/s", "bare, events/s", "ratio");
    for instances in [1, 10, 100, 1000] {
        let stack = stack(instances);
        let core = rate(|| life_of(&stack, true));
        let bare = rate(|| life_of(&stack, false));
        println!("{instances:>10} {core:>14.0} {bare:>14.0} {:>8.2}", core / bare);
    }
}

fn stack(instances: usize) -> Stack {
    let sources = Sources {
        procfile: Text::new("Procfile", "web: server"),
        env_files: Vec::new(),
        manifest: None,
        environment: Vec::new(),
        root: "/srv/app".into(),
        options: Options::default().giving("formation", Given::new("-m", [format!("web={instances}")])),
        machine: Machine { memory: 8 << 30, cpus: 2, pid_max: 32_768 },
        socket: None,
    };
    load(&sources).expect("a valid stack").stack
}

/// Everybody starts, a signal comes, everybody ends. Returns how many events that were.
fn life_of(stack: &Stack, decide: bool) -> usize {
    let mut core = Supervisor::new(stack, true);
    let mut actions: Vec<Action> = Vec::new();
    let mut events = 0;
    let mut tell = |event: Event| {
        events += 1;
        match decide {
            true => actions.extend(core.handle(Duration::from_millis(events as u64), event)),
            false => drop(std::hint::black_box(event)),
        }
    };
    let lives =
        || (0..stack.instances.len() as u32).map(|id| Life { instance: InstanceId(id), invocation: 1 });
    tell(Event::Begin);
    lives().for_each(|life| tell(Event::Spawned { life, pid: 1 }));
    tell(Event::Signal(Signal(15)));
    let exit = Exit::Signal { signal: Signal(15), core: false };
    lives().for_each(|life| tell(Event::Exited { life, exit, usage: Usage::default(), left: 0 }));
    if decide {
        assert!(matches!(actions.last(), Some(Action::Exit(_))), "the stack came to its end");
    }
    std::hint::black_box(&actions);
    events
}

/// Events per second, the best of some rounds.
fn rate(mut round: impl FnMut() -> usize) -> f64 {
    let mut best = 0f64;
    for _ in 0..7 {
        let (start, mut events) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_millis(100) {
            events += round();
        }
        best = best.max(events as f64 / start.elapsed().as_secs_f64());
    }
    best
}
