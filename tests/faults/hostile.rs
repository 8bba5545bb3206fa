//! Programs that misuse their own leaf: they nest cgroups, make very many, make threaded ones, freeze some, or
//! leave it. What such a program does must not reach its neighbours or lpm.

use std::path::Path;
use std::time::Duration;

use crate::judge::{ENDS_WITHIN, Problems};
use crate::options::Options;
use crate::program::Program;
use crate::scenario::{self, Scenario, Step, take};
use crate::stack::mount;
use crate::trial::{Trial, Verdict};

use Step::{Client, Sees};

/// How long the program may take to build what it builds: each level of many takes longer than the one before.
const UP_WITHIN: Duration = Duration::from_secs(90);

/// The command of `a`, and a word for it.
struct Hostile {
    name: &'static str,
    command: &'static str,
    /// Only root may do it.
    needs_root: bool,
    /// It is tried by `cargo test`, too.
    quick: bool,
}

const HOSTILE: &[Hostile] = &[
    Hostile { name: "deep-300", command: "helper deep 300", needs_root: false, quick: true },
    Hostile { name: "deep-700", command: "helper deep 700", needs_root: false, quick: true },
    Hostile { name: "deep-3000", command: "helper deep 3000", needs_root: false, quick: false },
    Hostile { name: "wide-1000", command: "helper wide 1000", needs_root: false, quick: true },
    Hostile { name: "threaded", command: "helper threaded", needs_root: false, quick: true },
    Hostile { name: "frozen", command: "helper frozen", needs_root: false, quick: true },
    Hostile { name: "escaped", command: "", needs_root: true, quick: true },
];

/// What is done with it, after it is up.
const ACTS: &[(&str, &[Step])] = &[
    ("stop", &[]),
    ("restart", &[Client(&["restart", "a"]), Sees("| up")]),
    ("kill", &[Client(&["kill", "a"]), Client(&["status", "a"])]),
    ("freeze", &[Client(&["freeze", "a"]), Client(&["status", "a"]), Client(&["thaw", "a"])]),
    ("signal", &[Client(&["signal", "URG", "a"]), Client(&["stop", "a"])]),
];

/// The trial of this name: `hostile/WHAT/ACT`.
pub fn named(name: &str) -> Option<Trial> {
    let (what, act) = name.strip_prefix("hostile/")?.split_once('/')?;
    let hostile = HOSTILE.iter().find(|hostile| hostile.name == what)?;
    let (_, steps) = ACTS.iter().find(|(known, _)| *known == act)?;
    Some(Trial::new(name, move || try_it(hostile, steps).unwrap_or_else(Verdict::broken)))
}

/// The trials that are asked for.
pub fn trials(options: &Options) -> Vec<Trial> {
    let asked = HOSTILE.iter().filter(|hostile| options.all || hostile.quick);
    let names =
        asked.flat_map(|hostile| ACTS.iter().map(|(act, _)| format!("hostile/{}/{act}", hostile.name)));
    names.filter_map(|name| named(&name)).collect()
}

fn try_it(hostile: &Hostile, steps: &[Step]) -> std::io::Result<Verdict> {
    let Some(mount) = mount() else { return Ok(Verdict::Skipped("needs cgroup v2".to_owned())) };
    let is_root = rustix::process::geteuid().is_root();
    if hostile.needs_root && !is_root {
        return Ok(Verdict::Skipped("needs root".to_owned()));
    }
    let stack = Scenario::of("hostile", "", "[process.a]\ncan-die = true\n").stack()?;
    stack.write("Procfile", &procfile(hostile, mount))?;
    let mut lpm = Program::start(stack.lpm(&["start", "-t", "1s"]))?;
    let mut problems = Problems::default();
    if !lpm.sees("| alive", UP_WITHIN) || !lpm.sees("| up", UP_WITHIN) {
        problems.add("it does not come up");
    }
    let said = take(&stack, &mut lpm, steps);
    if lpm.ended().is_some() {
        problems.add("the stack ended before it was asked to");
    }
    let stopped = scenario::stop(&stack, &lpm, ENDS_WITHIN);
    problems.in_end(lpm.ended());
    if !stopped {
        problems.add("a supervisor has not ended 15 s after SIGTERM");
    }
    let text = lpm.text() + &said;
    problems.in_words(&stack, &text);
    problems.in_what_is_left(&stack);
    drop(lpm);
    let next = problems.in_next_start(&stack);
    Ok(Verdict::of(problems, format!("{text}next start:\n{next}")))
}

/// `b` is up first, so that its death would be seen.
fn procfile(hostile: &Hostile, mount: &Path) -> String {
    let command = match hostile.command {
        "" => format!("echo $$ >{}/cgroup.procs; trap '' TERM; echo up; exec sleep 1000", mount.display()),
        command => format!("echo $PS >>began; exec \"$HELPER\" {command}"),
    };
    format!(
        "b: echo $PS >>began; echo alive; exec sleep 1000\na: until [ -s began ]; do :; done; {command}\n"
    )
}
