//! Where a stack can run, and which of its ceilings can be enforced there.

use std::fmt;
use std::path::Path;

use crate::config::quantity::{format_cpu, format_memory, format_tasks};
use crate::config::{Ceilings, Limits, Stack};
use crate::control::interface::Tier;
use crate::driver::ceilings::{Setting, settings};
use crate::error::{Error, words};
use crate::launch::gather::Surroundings;
use crate::linux::tier::{self, Decision, Facts, Obstacle, Place};
use crate::linux::{scope, signals};

/// The directory to build the tree in, named by the user; `none` for no cgroups at all.
pub const PLACE_VARIABLE: &str = "LPM_CGROUP";

/// The owner of a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// All instances together.
    Stack,
    /// The instances of this process type, each by itself.
    Process(String),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Stack => f.write_str("the stack"),
            Owner::Process(name) => f.write_str(name),
        }
    }
}

/// A limit that was asked for and cannot be enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// The owner of the limit.
    pub owner: Owner,
    /// What would enforce it.
    pub setting: Setting,
    /// `memory ceiling 64M`.
    pub limit: String,
    /// Why, and what to do about it.
    pub obstacle: Obstacle,
}

impl Lack {
    /// `memory ceiling 64M of web`.
    pub fn limit_and_owner(&self) -> String {
        format!("{} of {}", self.limit, self.owner)
    }

    /// One line, the reason included.
    pub fn sentence(&self) -> String {
        format!("{} cannot be enforced: {}", self.limit_and_owner(), self.obstacle.reason)
    }

    /// Whether `other` says the same: that this owner does not have this controller.
    fn is_known_by(&self, other: &Lack) -> bool {
        self.owner == other.owner && self.setting.controller == other.setting.controller
    }
}

/// Adds what is not known yet, and returns it. A controller that is missing for two reasons is missing for the first.
pub fn add_new(known: &mut Vec<Lack>, mut found: Vec<Lack>) -> Vec<Lack> {
    found.retain(|lack| !known.iter().any(|other| lack.is_known_by(other)));
    known.extend(found.iter().cloned());
    found
}

/// Looks at the machine and decides.
///
/// # Errors
/// `/proc` cannot be read.
pub fn survey(around: &Surroundings) -> Result<Decision, Error> {
    let place = around.variable(PLACE_VARIABLE).filter(|path| !path.is_empty()).map(Path::new);
    let scope = around.variable(scope::GUARD).and_then(|unit| unit.to_str());
    let within = around.variable("LPM_INSTANCE").and_then(|name| name.to_str());
    let facts = Facts::gather(place, scope, within)
        .map_err(|error| Error::new(format!("cannot find out about cgroups: {}", words(error))))?;
    Ok(tier::decide(&facts))
}

/// Whether the place that was asked for can be had; one that cannot is no reason to use another.
///
/// # Errors
/// Why it cannot.
pub fn as_asked(around: &Surroundings, decision: &Decision) -> Result<(), Error> {
    let asked = around.variable(PLACE_VARIABLE).filter(|path| !path.is_empty() && *path != "none");
    match (asked, &decision.place, &decision.obstacle) {
        (Some(_), Place::Nothing, Some(obstacle)) => {
            let fix = obstacle.fix.replace('\n', "\n     ");
            Err(Error::several([
                format!("{PLACE_VARIABLE}: {}", obstacle.reason),
                format!("to change that: {fix}"),
            ]))
        }
        _ => Ok(()),
    }
}

/// The tier, as clients are told.
pub fn told(tier: tier::Tier) -> Tier {
    match tier {
        tier::Tier::Full => Tier::Full,
        tier::Tier::Tracking => Tier::Tracking,
        tier::Tier::None => Tier::None,
    }
}

/// The ceilings of `stack` that `decision` leaves unenforced, each once for its process type.
pub fn lacks(stack: &Stack, decision: &Decision) -> Vec<Lack> {
    let obstacle = |name: &str| {
        let controller = decision.controllers.iter().find(|controller| controller.name == name);
        controller.and_then(|controller| controller.missing.clone())
    };
    lacking(stack, &obstacle)
}

/// The same against what the kernel really enabled.
pub fn lacks_in(stack: &Stack, enabled: &[String], refused: &[(String, rustix::io::Errno)]) -> Vec<Lack> {
    let obstacle = |name: &str| {
        if enabled.iter().any(|known| known == name) {
            return None;
        }
        let errno = refused.iter().find(|(known, _)| known == name);
        let why = errno.map_or(String::new(), |(_, errno)| format!(" ({})", words(*errno)));
        Some(Obstacle {
            reason: format!("the kernel did not enable the controller {name} here{why}"),
            fix: "see lpm doctor".to_owned(),
        })
    };
    lacking(stack, &obstacle)
}

fn lacking(stack: &Stack, obstacle: &dyn Fn(&str) -> Option<Obstacle>) -> Vec<Lack> {
    let whole = (&stack.ceilings, Owner::Stack);
    let each = stack
        .instances
        .iter()
        .map(|instance| (&instance.ceilings, Owner::Process(stack.processes[instance.process].name.clone())));
    let mut lacks: Vec<Lack> = Vec::new();
    for (ceilings, owner) in std::iter::once(whole).chain(each) {
        for setting in settings(ceilings) {
            let Some(obstacle) = obstacle(setting.controller) else { continue };
            if !lacks.iter().any(|known| known.owner == owner && known.setting == setting) {
                let limit = named(setting.file, ceilings);
                lacks.push(Lack { owner: owner.clone(), setting, limit, obstacle });
            }
        }
    }
    lacks
}

/// A ceiling in the user's words, by the file that enforces it.
fn named(file: &str, ceilings: &Ceilings) -> String {
    let text = match file {
        "memory.max" => ceilings.memory_max.map(|c| format!("memory limit {}", format_memory(c))),
        "memory.high" => ceilings.memory_high.map(|c| format!("memory-high {}", format_memory(c))),
        "memory.swap.max" => ceilings.memory_swap_max.map(|c| format!("swap limit {}", format_memory(c))),
        "cpu.max" => ceilings.cpu_quota.map(|c| format!("cpu limit {}", format_cpu(c))),
        "cpu.weight" => ceilings.cpu_weight.map(|weight| format!("cpu weight {weight}")),
        "pids.max" => ceilings.tasks_max.map(|c| format!("tasks limit {}", format_tasks(c))),
        _ => None,
    };
    text.unwrap_or_else(|| file.to_owned())
}

/// Whether the user's manager, and with it the scope or service that lpm is in, ends with the user's last login,
/// although somebody asked for more (nohup, `--detach`): a user without lingering (logind.conf(5), loginctl(1)).
pub fn ends_with_the_login(around: &Surroundings, detached: bool) -> Option<String> {
    let uid = rustix::process::geteuid();
    let more = detached || signals::is_ignored(libc::SIGHUP);
    if uid.is_root() || around.variable(scope::GUARD).is_none() || !more {
        return None;
    }
    let known = std::fs::read_to_string(format!("/run/systemd/users/{}", uid.as_raw())).ok()?;
    let name = known.lines().find_map(|line| line.strip_prefix("NAME="))?;
    let lingers = Path::new("/var/lib/systemd/linger").join(name).exists();
    let fix = format!("to keep it: loginctl enable-linger {name}");
    let spite = if detached { "" } else { ", in spite of nohup" };
    (!lingers).then(|| format!("warning: the stack ends with your last login{spite}; {fix}"))
}

/// A line for each reason, with all the ceilings that it concerns.
fn by_reason(lacks: &[Lack]) -> impl Iterator<Item = String> {
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for lack in lacks {
        match reasons.iter_mut().find(|(reason, _)| *reason == lack.obstacle.reason) {
            Some((_, limits)) => limits.push(lack.limit_and_owner()),
            None => reasons.push((&lack.obstacle.reason, vec![lack.limit_and_owner()])),
        }
    }
    let line =
        |(reason, limits): (&str, Vec<String>)| format!("{} cannot be enforced: {reason}", limits.join(", "));
    reasons.into_iter().map(line).collect::<Vec<_>>().into_iter()
}

/// Refuses what cannot be enforced, or under best-effort says so.
///
/// # Errors
/// Under [`Limits::Strict`], every lack with its reason and its fix.
pub fn hold(stack: &Stack, lacks: &[Lack]) -> Result<Vec<String>, Error> {
    if lacks.is_empty() {
        return Ok(Vec::new());
    }
    match stack.limits {
        Limits::BestEffort => Ok(by_reason(lacks).map(|line| format!("warning: {line}")).collect()),
        Limits::Strict => {
            let mut lines: Vec<String> = by_reason(lacks).collect();
            let mut fixes: Vec<&str> = Vec::new();
            for lack in lacks {
                if !fixes.contains(&lack.obstacle.fix.as_str()) {
                    fixes.push(&lack.obstacle.fix);
                }
            }
            lines.extend(
                fixes.into_iter().map(|fix| format!("to have it enforced: {}", fix.replace('\n', "\n     "))),
            );
            lines.push("to go on without it: --limits best-effort".to_owned());
            Err(Error::several(lines))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Given, Machine, Options, Sources, Text, load};

    #[test]
    fn what_is_missing_for_another_reason_is_said_once() {
        let given = |option, words: &[&str]| Given::new(option, words.iter().copied());
        let sources = Sources {
            procfile: Text::new("Procfile", "web: a\nworker: b"),
            env_files: Vec::new(),
            manifest: None,
            environment: Vec::new(),
            root: "/srv/app".into(),
            options: Options::default()
                .giving("mem", given("--mem", &["web=64M"]))
                .giving("tasks", given("--tasks", &["web=7", "worker=7"])),
            machine: Machine { memory: 8 << 30, cpus: 2, pid_max: 32_768 },
            socket: None,
        };
        let stack = load(&sources).expect("a valid Procfile").stack;
        let told = |lacks: &[Lack]| lacks.iter().map(Lack::sentence).collect::<Vec<_>>();
        let why = "cannot be enforced: the kernel did not enable the controller";
        let mut known = lacks_in(&stack, &["pids".to_owned()], &[]);
        assert_eq!(told(&known), [format!("memory limit 64M of web {why} memory here")]);
        let refused = [("memory".to_owned(), rustix::io::Errno::BUSY)];
        let new = add_new(&mut known, lacks_in(&stack, &[], &refused));
        let expected = ["web", "worker"].map(|name| format!("tasks limit 7 of {name} {why} pids here"));
        assert_eq!(told(&new), expected);
        assert_eq!(known.len(), 3);
        assert_eq!(add_new(&mut known, lacks_in(&stack, &[], &refused)), []);
    }
}
