//! From the stack that runs to the one that the text asks for now, place by place.
//!
//! A running core knows instances by their index, their place, and so no place may ever be another instance:
//! [`merge`] leaves every old one where it is, also those that are not wanted any more, and adds the new ones
//! behind. What became of each is a list of [`Change`]s; what to do about them is for others to decide.
//!
//! Details are for people. They name variables and never show what is in one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::environment::is_port_of_another;
use super::error::quote;
use super::stack::{Command, Instance, Journal, Process, Route, Stack};
use super::table::{self, Change as TakesToChange, Row};
use super::value::Value;

/// What became of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Change {
    /// Index into the instances of the merged stack.
    pub place: usize,
    /// Its name, `web.1`.
    pub instance: String,
    /// What it takes.
    pub kind: ChangeKind,
    /// Short phrases for people: `memory-max 512M → 1G`. None for what was added or removed.
    pub details: Vec<String>,
}

/// What it takes to make a change true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    /// There was none at this place, or none any more.
    Added,
    /// It is not wanted any more; its place keeps the last description.
    Removed,
    /// Ceilings, policy, quiet: can be applied at once.
    Live,
    /// Command, environment, working directory, port, control: the process has what it was born with.
    Restart,
}

/// What became of the stack as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StackChange {
    /// The ceilings on all instances together must be written again.
    pub ceilings: bool,
    /// Short phrases for people, as in [`Change`].
    pub details: Vec<String>,
    /// Phrases for what a stack keeps as long as it runs, its name and its root.
    pub kept: Vec<String>,
}

/// Puts `new` in the place of `old`, of which the instances at the places that are `present` exist.
///
/// Every place of `old` is the same instance in what comes out. A name that has a place gets it, with the new
/// description; other new instances follow behind. Process types stand in the order of `new`; those that are
/// gone come last, with no instance wanted. The name and the root stay as they were, and so do the variables
/// that tell them.
///
/// What takes a restart is told against what a living instance was born with, where `born` says which stack that
/// is: its text may have changed since without it.
///
/// Changes come in file order, then by number. An instance of which one part can be applied at once and
/// another cannot has two: `Live`, then `Restart`.
pub fn merge<'a>(
    old: &Stack,
    present: &dyn Fn(usize) -> bool,
    born: &dyn Fn(usize) -> Option<&'a Stack>,
    mut new: Stack,
) -> (Stack, Vec<Change>) {
    stay(old, &mut new);
    let places: HashMap<&str, usize> =
        old.instances.iter().enumerate().map(|(place, instance)| (instance.name.as_str(), place)).collect();
    let mut processes = std::mem::take(&mut new.processes);
    // Those of the new instances stay as they are: the new process types come first.
    let indices = process_indices(old, &mut processes);

    let shared = Shared::new(&old.environment, &new.environment);
    let mut births = HashMap::new();
    let mut changes = Vec::new();
    let mut instances: Vec<Instance> = Vec::with_capacity(old.instances.len().max(new.instances.len()));
    instances.extend(
        old.instances
            .iter()
            .map(|instance| Instance { process: indices[instance.process], ..instance.clone() }),
    );
    let mut wanted = vec![false; old.instances.len()];
    for instance in std::mem::take(&mut new.instances) {
        let mut change = |place, kind, details| {
            changes.push(Change { place, instance: instance.name.clone(), kind, details });
        };
        match places.get(instance.name.as_str()) {
            Some(&place) => {
                wanted[place] = true;
                if present(place) {
                    let live = live(&old.instances[place], &instance);
                    let restart = match born(place) {
                        Some(born) => {
                            let shared = births
                                .entry(std::ptr::from_ref(born))
                                .or_insert_with(|| Shared::new(&born.environment, &new.environment));
                            restart(&born.instances[place], &instance, shared)
                        }
                        None => restart(&old.instances[place], &instance, &shared),
                    };
                    for (kind, details) in [(ChangeKind::Live, live), (ChangeKind::Restart, restart)] {
                        if !details.is_empty() {
                            change(place, kind, details);
                        }
                    }
                } else {
                    change(place, ChangeKind::Added, Vec::new());
                }
                instances[place] = instance;
            }
            None => {
                change(instances.len(), ChangeKind::Added, Vec::new());
                instances.push(instance);
            }
        }
    }
    for (place, instance) in old.instances.iter().enumerate() {
        if !wanted[place] && present(place) {
            let (kind, details) = (ChangeKind::Removed, Vec::new());
            changes.push(Change { place, instance: instance.name.clone(), kind, details });
        }
    }
    drop((shared, births));
    changes.sort_by_key(|change| (instances[change.place].process, instances[change.place].number));
    new.processes = processes;
    new.instances = instances;
    (new, changes)
}

/// What the stack as a whole gets with `new`, before it is merged; `None` if that is nothing.
pub fn stack_change(old: &Stack, new: &Stack) -> Option<StackChange> {
    let mut details: Vec<String> = settings(
        |row| row.change != TakesToChange::NewStart,
        |row| Some([row.of_stack(old)?, row.of_stack(new)?]),
    )
    .collect();
    let changed = old.ceilings != new.ceilings;
    let shared = Shared::new(&old.environment, &new.environment);
    let own = ["LPM_STACK", "PWD"].map(OsStr::new);
    let names =
        shared.differing.iter().copied().filter(|name| !own.contains(name) && !is_port_of_another(name));
    details.extend(environment(names.map(|name| (name, shared.old.get(name), shared.new.get(name)))));
    let mut kept = Vec::new();
    say(&mut kept, "name", &old.name, &new.name, |name| quote(name));
    say(&mut kept, "root", &old.root, &new.root, |root| root.display().to_string());
    if old.metrics != new.metrics {
        kept.push("metrics".to_owned());
    }
    let routes = Routes::of(old);
    let rerouted = |instance: &Instance| routes.kept(instance) != instance.route;
    if old.logging != new.logging || new.instances.iter().any(rerouted) {
        kept.push("log".to_owned());
    }
    (!details.is_empty() || !kept.is_empty()).then_some(StackChange { ceilings: changed, details, kept })
}

/// How many instances of each process type exist, those without any included.
pub fn counts(stack: &Stack, present: &dyn Fn(usize) -> bool) -> BTreeMap<String, u32> {
    let mut counts: BTreeMap<String, u32> =
        stack.processes.iter().map(|process| (process.name.clone(), 0)).collect();
    for (_, instance) in stack.instances.iter().enumerate().filter(|&(place, _)| present(place)) {
        *counts.entry(stack.processes[instance.process].name.clone()).or_default() += 1;
    }
    counts
}

/// Keeps what does not change while a stack runs.
fn stay(old: &Stack, new: &mut Stack) {
    fn put_back(name: &str, from: &[(OsString, OsString)], to: &mut [(OsString, OsString)]) {
        let value = from.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        if let (Some(value), Some(pair)) = (value, to.iter_mut().find(|(known, _)| known == name)) {
            pair.1.clone_from(value);
        }
    }
    if new.name != old.name {
        put_back("LPM_STACK", &old.environment, &mut new.environment);
        new.name.clone_from(&old.name);
    }
    if new.root != old.root {
        put_back("PWD", &old.environment, &mut new.environment);
        for instance in &mut new.instances {
            let Ok(below) = instance.working_directory.strip_prefix(&new.root) else { continue };
            instance.working_directory = match below == Path::new("") {
                true => old.root.clone(),
                false => old.root.join(below),
            };
            if let Some(pair) = instance.environment.iter_mut().find(|(name, _)| name == "PWD") {
                pair.1 = instance.working_directory.clone().into();
            }
        }
        new.root.clone_from(&old.root);
    }
    new.logging.clone_from(&old.logging);
    new.metrics = old.metrics;
    let routes = Routes::of(old);
    for instance in &mut new.instances {
        instance.route = routes.kept(instance);
    }
}

/// Lines go on going where they go, those of further instances too. Those of a new process type find what is there.
struct Routes<'a> {
    by_name: HashMap<&'a str, Option<&'a Route>>,
    by_process: HashMap<&'a str, Option<&'a Route>>,
    stdout: bool,
    journal: bool,
}

impl<'a> Routes<'a> {
    fn of(old: &'a Stack) -> Self {
        let of_process = |one: &'a Instance| (old.processes[one.process].name.as_str(), one.route.as_ref());
        Self {
            by_name: old.instances.iter().map(|one| (one.name.as_str(), one.route.as_ref())).collect(),
            by_process: old.instances.iter().map(of_process).collect(),
            stdout: old.routes().any(|route| route.stdout),
            journal: old.routes().any(|route| route.journal != Journal::No),
        }
    }

    fn kept(&self, instance: &Instance) -> Option<Route> {
        let process = instance.name.rsplit_once('.').map_or(instance.name.as_str(), |(process, _)| process);
        let known = self.by_name.get(instance.name.as_str()).or_else(|| self.by_process.get(process));
        if let Some(known) = known {
            return known.cloned();
        }
        let mut route = instance.route.clone()?;
        route.stdout &= self.stdout;
        if route.journal == Journal::Sent && !self.journal {
            route.journal = Journal::No;
        }
        Some(route)
    }
}

/// Adds the process types of `old` that are gone to `processes`; says where each of `old` is then.
fn process_indices(old: &Stack, processes: &mut Vec<Process>) -> Vec<usize> {
    let known: HashMap<String, usize> =
        processes.iter().enumerate().map(|(index, process)| (process.name.clone(), index)).collect();
    let index = |process: &Process| {
        known.get(&process.name).copied().unwrap_or_else(|| {
            processes.push(Process { count: 0, line: 0, ..process.clone() });
            processes.len() - 1
        })
    };
    old.processes.iter().map(index).collect()
}

/// Phrases for what differs between two descriptions of one instance and can be applied at once.
fn live(old: &Instance, new: &Instance) -> Vec<String> {
    settings(|row| row.change == TakesToChange::Live, |row| both(row, old, new)).collect()
}

fn both(row: &Row, old: &Instance, new: &Instance) -> Option<[Value; 2]> {
    Some([row.of_instance(old)?, row.of_instance(new)?])
}

/// The same for what a process has from its birth on.
fn restart(old: &Instance, new: &Instance, shared: &Shared<'_>) -> Vec<String> {
    let mut details = Vec::new();
    if old.command != new.command {
        let (from, to) = (text_of(&old.command), text_of(&new.command));
        let (from, to) = shortened(&from, &to);
        details.push(format!("command changed ({} → {})", quote(&from), quote(&to)));
    }
    say(&mut details, "port", &old.port, &new.port, |port| {
        port.map_or_else(|| "none".to_owned(), |port| port.to_string())
    });
    let at_birth = |row: &Row| matches!(row.change, TakesToChange::Restart | TakesToChange::Reload);
    details.extend(settings(at_birth, |row| both(row, old, new)));
    // Said already, by what they follow from.
    let said = [
        ("PWD", old.working_directory != new.working_directory),
        ("PORT", old.port != new.port),
        ("LPM_SOCKET", old.control != new.control),
    ];
    let follows = |name: &OsStr| said.iter().any(|&(known, changed)| changed && name == known);
    details.extend(environment(shared.names_of(old, new).into_iter().filter_map(|name| {
        let (from, to) = (value(name, old, &shared.old), value(name, new, &shared.new));
        // Where another process type came or went, nothing is new for this one.
        let appeared = (from.is_some() != to.is_some()) && is_port_of_another(name);
        (!appeared && !follows(name)).then_some((name, from, to))
    })));
    details
}

/// What all instances have in common, before and after.
struct Shared<'a> {
    old: HashMap<&'a OsStr, &'a OsStr>,
    new: HashMap<&'a OsStr, &'a OsStr>,
    /// The names of which it says something else, nothing included.
    differing: BTreeSet<&'a OsStr>,
}

impl<'a> Shared<'a> {
    fn new(old: &'a [(OsString, OsString)], new: &'a [(OsString, OsString)]) -> Self {
        let map = |pairs: &'a [(OsString, OsString)]| -> HashMap<&OsStr, &OsStr> {
            pairs.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str())).collect()
        };
        let (old, new) = (map(old), map(new));
        let differing =
            old.keys().chain(new.keys()).copied().filter(|name| old.get(name) != new.get(name)).collect();
        Self { old, new, differing }
    }

    /// The names that may be another thing to `new` than to `old`.
    fn names_of<'b>(&self, old: &'b Instance, new: &'b Instance) -> BTreeSet<&'b OsStr>
    where
        'a: 'b,
    {
        let mut names: BTreeSet<&'b OsStr> = self.differing.iter().copied().collect();
        if old.environment != new.environment {
            names.extend(old.environment.iter().chain(&new.environment).map(|(name, _)| name.as_os_str()));
        }
        names
    }
}

/// What `name` finally is to `instance`.
fn value<'a>(
    name: &OsStr,
    instance: &'a Instance,
    shared: &HashMap<&'a OsStr, &'a OsStr>,
) -> Option<&'a OsStr> {
    let own = instance.environment.iter().find(|(known, _)| known == name);
    own.map(|(_, value)| value.as_os_str()).or_else(|| shared.get(name).copied())
}

/// `environment: +FOO -BAR ~BAZ`, of the names whose two values differ; `None` if none do.
fn environment<'a, V: PartialEq>(
    names: impl Iterator<Item = (&'a OsStr, Option<V>, Option<V>)>,
) -> Option<String> {
    const MOST: usize = 20;
    let (mut added, mut removed, mut changed) = (Vec::new(), Vec::new(), Vec::new());
    for (name, old, new) in names {
        let name = name.to_string_lossy().escape_debug().to_string();
        match (old, new) {
            (None, Some(_)) => added.push(format!("+{name}")),
            (Some(_), None) => removed.push(format!("-{name}")),
            (Some(old), Some(new)) if old != new => changed.push(format!("~{name}")),
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    let mut names = [added, removed, changed].concat();
    if names.len() > MOST {
        names.truncate(MOST);
        names.push("…".to_owned());
    }
    (!names.is_empty()).then(|| format!("environment: {}", names.join(" ")))
}

/// Phrases for the settings of which `is_meant` and `value` says something else than before.
fn settings(
    is_meant: impl Fn(&Row) -> bool,
    value: impl Fn(&Row) -> Option<[Value; 2]>,
) -> impl Iterator<Item = String> {
    table::rows().filter(move |row| is_meant(row)).filter_map(move |row| {
        let [old, new] = value(row)?;
        (old != new).then(|| format!("{} {} → {}", row.key, shown(&old), shown(&new)))
    })
}

fn shown(value: &Value) -> String {
    match value {
        Value::None => "none".to_owned(),
        value => value.to_string(),
    }
}

/// Adds `key old → new`, if they differ.
fn say<T: PartialEq + ?Sized>(
    details: &mut Vec<String>,
    key: &str,
    old: &T,
    new: &T,
    format: impl Fn(&T) -> String,
) {
    if old != new {
        details.push(format!("{key} {} → {}", format(old), format(new)));
    }
}

fn text_of(command: &Command) -> String {
    match command {
        Command::Shell(text) | Command::Direct { text, .. } => text.clone(),
        Command::Exec(words) => words.join(OsStr::new(" ")).to_string_lossy().into_owned(),
    }
}

/// Both texts, cut to the part in which they differ if they are long.
fn shortened(old: &str, new: &str) -> (String, String) {
    const LONGEST: usize = 40;
    const BEFORE: usize = 10;
    let common = old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count();
    let longest = old.chars().count().max(new.chars().count());
    let skipped = if longest > LONGEST { common.saturating_sub(BEFORE) } else { 0 };
    let cut = |text: &str| {
        let mut rest = text.chars().skip(skipped);
        let mut short = if skipped > 0 { String::from("…") } else { String::new() };
        short.extend(rest.by_ref().take(LONGEST));
        short.extend(rest.next().map(|_| '…'));
        short
    };
    (cut(old), cut(new))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{manifest, procfile, stack, typed};
    use super::super::{Assignment, Given, Sources, Text, environment_of};
    use super::*;

    /// As `- web.1` (removed), `+ web.1`, `~ web.1 …` (live), `! web.1 …` (restart).
    fn shown(changes: &[Change]) -> Vec<String> {
        let shown = |change: &Change| {
            let mark = match change.kind {
                ChangeKind::Added => "+",
                ChangeKind::Removed => "-",
                ChangeKind::Live => "~",
                ChangeKind::Restart => "!",
            };
            format!("{mark} {} {}", change.instance, change.details.join(", ")).trim_end().to_owned()
        };
        changes.iter().map(shown).collect()
    }

    /// Where everybody was born as the stack is described.
    fn merge(old: &Stack, present: &dyn Fn(usize) -> bool, new: Stack) -> (Stack, Vec<Change>) {
        super::merge(old, present, &|_| None, new)
    }

    fn names(stack: &Stack) -> Vec<&str> {
        stack.instances.iter().map(|instance| instance.name.as_str()).collect()
    }

    fn merged(old: &Sources, new: &Sources) -> (Stack, Vec<String>) {
        let (stack, changes) = merge(&stack(old), &|_| true, stack(new));
        (stack, shown(&changes))
    }

    fn formed(text: &str, formation: &str) -> Sources {
        typed(text, |options| options.give("formation", Given::new("-m", [formation])))
    }

    #[test]
    fn places_stay_and_new_ones_come_behind() {
        let (stack, changes) =
            merged(&formed("a: x\nb: x", "a=2,b=1"), &formed("c: x\na: x\nb: x", "a=1,b=2,c=1"));
        assert_eq!(names(&stack), ["a.1", "a.2", "b.1", "c.1", "b.2"]);
        assert_eq!(
            changes,
            [
                "+ c.1",
                "! a.1 port 5000 → 5100, environment: ~LPM_PORT_A ~LPM_PORT_B",
                "- a.2",
                "! b.1 port 5100 → 5200, environment: ~LPM_PORT_A ~LPM_PORT_B",
                "+ b.2"
            ]
        );
        let types: Vec<(&str, u32)> = stack.processes.iter().map(|p| (p.name.as_str(), p.count)).collect();
        assert_eq!(types, [("c", 1), ("a", 1), ("b", 2)]);
    }

    #[test]
    fn a_process_type_that_is_gone_comes_last_with_none_wanted() {
        let (stack, changes) = merged(&procfile("a: x\nb: y"), &procfile("b: y\nc: z"));
        let types: Vec<(&str, u32)> = stack.processes.iter().map(|p| (p.name.as_str(), p.count)).collect();
        assert_eq!(types, [("b", 1), ("c", 1), ("a", 0)]);
        assert_eq!(names(&stack), ["a.1", "b.1", "c.1"]);
        assert_eq!(stack.instances[0].process, 2);
        assert_eq!(changes[1..], ["+ c.1", "- a.1"]);
    }

    #[test]
    fn another_process_type_behind_them_concerns_nobody() {
        let (_, changes) = merged(&procfile("a: x"), &procfile("a: x\nb: y"));
        assert_eq!(changes, ["+ b.1"]);
        let (_, changes) = merged(&procfile("a: x\nb: y"), &procfile("a: x"));
        assert_eq!(changes, ["- b.1"]);
    }

    #[test]
    fn an_absent_instance_comes_back_at_its_place() {
        let old = stack(&formed("a: x\nb: x", "a=2,b=1"));
        let (stack, changes) =
            merge(&old, &|place| place != 1, stack(&formed("a: x --new\nb: x", "a=2,b=1")));
        assert_eq!(names(&stack), ["a.1", "a.2", "b.1"]);
        assert_eq!(shown(&changes), ["! a.1 command changed (\"x\" → \"x --new\")", "+ a.2"]);
        assert_eq!(changes[1].place, 1);
        assert_eq!(stack.instances[1].command, stack.instances[0].command);
    }

    #[test]
    fn what_is_applied_at_once_is_told_from_what_needs_a_restart() {
        let old = manifest("web: x", "[process.web]\nmemory-max = \"512M\"\ncpu-quota = 2");
        let new = manifest(
            "web: ./x",
            "[process.web]\nmemory-max = \"1G\"\ncpu-weight = 50\ntasks-max = \"infinity\"\nquiet = true\n\
             stop-signal = \"QUIT\"\ntimeout-stop = 90\nkill-mode = \"mixed\"\ncan-die = true\n\
             restart = \"always\"\nrestart-sec = 1\nrestart-max-delay-sec = 120\nstart-limit-burst = 9\n\
             start-limit-interval = 60\nworking-directory = \"sub\"\ncontrol = true",
        );
        let (_, changes) = merged(&old, &new);
        assert_eq!(
            changes,
            [
                "~ web.1 memory-max 512M → 1G, cpu-quota 2 → none, cpu-weight none → 50, tasks-max none → infinity, \
                 stop-signal SIGTERM → SIGQUIT, timeout-stop 5s → 1min 30s, kill-mode control-group → mixed, \
                 can-die no → yes, restart no → always, restart-sec 100ms → 1s, \
                 restart-max-delay-sec 1min → 2min, start-limit-burst 5 → 9, start-limit-interval 10s → 1min, \
                 quiet no → yes",
                "! web.1 command changed (\"x\" → \"./x\"), control no → yes, working-directory /srv/app → /srv/app/sub",
            ]
        );
        let oneshot =
            manifest("web: x", "[process.web]\nmemory-max = \"512M\"\ncpu-quota = 2\noneshot = true");
        assert_eq!(merged(&old, &oneshot).1, ["~ web.1 oneshot no → yes"]);
    }

    #[test]
    fn what_was_born_before_the_last_change_still_takes_a_restart() {
        let with = |text: &str, memory: &str| {
            let mut sources = manifest("a: x\nb: x", &format!("[process.a]\nmemory-max = \"{memory}\""));
            sources.env_files = vec![Text::new(".env", text)];
            stack(&sources)
        };
        let first = with("A=1\n", "1G");
        let (second, _) = merge(&first, &|_| true, with("A=2\n", "2G"));
        let born = |place| (place == 0).then_some(&first);
        let (_, changes) = super::merge(&second, &|_| true, &born, with("A=2\n", "2G"));
        assert_eq!(shown(&changes), ["! a.1 environment: ~A"], "b.1 was born since");
    }

    #[test]
    fn variables_are_named_and_never_shown() {
        let mut old = manifest("web: x\nworker: y", "[process.web.environment]\nOWN = \"old-secret\"");
        old.env_files =
            vec![Text::new(".env", "GONE=old-secret\nSAME=1\nOTHER=old-secret\nHIDDEN=old-secret\n")];
        let mut new = manifest(
            "web: x\nworker: y",
            "[process.web.environment]\nOWN = \"new-secret\"\nHIDDEN = \"old-secret\"",
        );
        new.env_files =
            vec![Text::new(".env", "NEW=new-secret\nOTHER=new-secret\nSAME=1\nHIDDEN=new-secret\n")];
        let (stack, changes) = merged(&old, &new);
        assert_eq!(
            changes,
            [
                "! web.1 environment: +NEW -GONE ~OTHER ~OWN",
                "! worker.1 environment: +NEW -GONE ~HIDDEN ~OTHER"
            ]
        );
        let environment = environment_of(&stack, &stack.instances[0]);
        assert!(environment.contains(&("OTHER".into(), "new-secret".into())));
        let whole = stack_change(&super::super::tests::stack(&old), &super::super::tests::stack(&new));
        assert_eq!(
            whole,
            Some(StackChange {
                ceilings: false,
                details: vec!["environment: +NEW -GONE ~HIDDEN ~OTHER".into()],
                kept: Vec::new()
            })
        );
    }

    #[test]
    fn the_order_of_variables_is_no_change() {
        let with = |text: &str| {
            let mut sources = procfile("web: x");
            sources.env_files = vec![Text::new(".env", text)];
            sources
        };
        assert_eq!(merged(&with("A=1\nB=2\n"), &with("B=2\nA=1\n")).1, [""; 0]);
    }

    #[test]
    fn a_stack_keeps_its_name_and_its_root() {
        let old = procfile("web: x");
        let mut new =
            manifest("web: x", "[stack]\nname = \"other\"\n[process.web]\nworking-directory = \"sub\"");
        new.root = "/srv/other".into();
        let (after, changes) = merged(&old, &new);
        assert_eq!((after.name.as_str(), after.root.as_path()), ("app", Path::new("/srv/app")));
        assert_eq!(changes, ["! web.1 working-directory /srv/app → /srv/app/sub"]);
        let environment = environment_of(&after, &after.instances[0]);
        assert!(environment.contains(&("PWD".into(), "/srv/app/sub".into())));
        assert!(environment.contains(&("LPM_STACK".into(), "app".into())));
        assert_eq!(
            stack_change(&stack(&old), &stack(&new)),
            Some(StackChange {
                ceilings: false,
                details: Vec::new(),
                kept: vec!["name \"app\" → \"other\"".into(), "root /srv/app → /srv/other".into()],
            })
        );
        new.root = old.root.clone();
        new.manifest = None;
        assert_eq!(merged(&old, &new).1, [""; 0]);
        assert_eq!(stack_change(&stack(&old), &stack(&new)), None);
    }

    #[test]
    fn the_stacks_own_settings_are_one_change() {
        let new = manifest(
            "web: x",
            "[stack]\nmemory-max = \"2G\"\nlimits = \"best-effort\"\nexit-code = \"worst\"",
        );
        assert_eq!(merged(&procfile("web: x"), &new).1, [""; 0]);
        assert_eq!(
            stack_change(&stack(&procfile("web: x")), &stack(&new)),
            Some(StackChange {
                ceilings: true,
                details: vec![
                    "exit-code first → worst".into(),
                    "memory-max none → 2G".into(),
                    "limits strict → best-effort".into(),
                ],
                kept: Vec::new(),
            })
        );
    }

    #[test]
    fn long_commands_are_cut_to_what_differs() {
        let long = "bin/server --with --very --many --options --that --nobody --reads --port 1";
        let new = format!("{} 2{}", &long[..long.len() - 2], "0".repeat(60));
        let (old_short, new_short) = shortened(long, &new);
        assert_eq!(old_short, "…ds --port 1");
        assert_eq!(new_short, format!("…ds --port 2{}…", "0".repeat(29)));
        assert_eq!(shortened("a", "b"), ("a".into(), "b".into()));
    }

    #[test]
    fn many_variables_are_not_all_named() {
        let mut new = procfile("web: x");
        new.env_files = vec![Text::new(".env", (0..50).map(|n| format!("N{n}=1\n")).collect::<String>())];
        let (_, changes) = merged(&procfile("web: x"), &new);
        assert!(changes[0].ends_with(" …") && changes[0].matches('+').count() == 20, "{changes:?}");
    }

    #[test]
    fn what_exists_is_counted() {
        let stack = stack(&formed("web: x\nworker: y\nclock: z", "web=3,worker=1"));
        let counts = counts(&stack, &|place| place != 1);
        let counts: Vec<(&str, u32)> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(counts, [("clock", 0), ("web", 2), ("worker", 1)]);
    }

    #[test]
    fn changes_are_plain_data() {
        let (_, changes) = merge(&stack(&procfile("a: x")), &|_| true, stack(&procfile("b: x")));
        let json = serde_json::to_string(&changes).expect("it can be written");
        assert!(json.starts_with(r#"[{"place":1,"instance":"b.1","kind":"added","details":[]},"#), "{json}");
        assert_eq!(serde_json::from_str::<Vec<Change>>(&json).expect("it can be read"), changes);
    }

    fn sources() -> impl Strategy<Value = Sources> {
        let types = proptest::sample::subsequence(vec!["a", "b", "c", "d"], 1..=4).prop_shuffle();
        let told = proptest::sample::select(vec![
            ("all", "memory-max", "1G"),
            ("a", "memory-max", "2G"),
            ("b.2", "timeout-stop", "9"),
            ("c", "control", "yes"),
            ("d", "quiet", "yes"),
        ]);
        (
            types,
            proptest::collection::vec((0u32..4, 0u32..3), 4),
            proptest::collection::vec(told, 0..3),
            "(A=[12]\n)?(B=[12]\n)?",
        )
            .prop_map(|(types, numbers, told, env)| {
                let text: String = types
                    .iter()
                    .zip(&numbers)
                    .map(|(name, (_, version))| format!("{name}: bin/{name} {version}\n"))
                    .collect();
                let mut sources = procfile(&text);
                for (name, (count, _)) in types.iter().zip(&numbers) {
                    sources.options.scale.insert((*name).to_owned(), *count);
                }
                sources.options.set = told
                    .iter()
                    .map(|&(name, key, value)| Assignment {
                        name: name.into(),
                        key: key.into(),
                        value: value.into(),
                    })
                    .collect();
                sources.env_files = vec![Text::new(".env", env)];
                sources.socket = Some("/run/lpm/app.sock".into());
                sources
            })
    }

    proptest! {
        #[test]
        fn merging_keeps_its_promises(
            first in sources(), second in sources(), third in sources(), mask in any::<u32>(),
        ) {
            // A stack that was changed before, so that its places are not in order.
            let (old, _) = merge(&stack(&first), &|_| true, stack(&second));
            let present = |place: usize| mask >> place & 1 == 1;
            let new = stack(&third);
            let (merged, changes) = merge(&old, &present, new.clone());

            // Places are stable, and no name has two.
            prop_assert_eq!(&names(&merged)[..old.instances.len()], &names(&old)[..]);
            let unique: BTreeSet<&str> = names(&merged).into_iter().collect();
            prop_assert_eq!(unique.len(), merged.instances.len());
            for instance in &merged.instances {
                let process = &merged.processes[instance.process];
                prop_assert_eq!(&instance.name, &format!("{}.{}", process.name, instance.number));
            }
            // What is wanted is there, as it is wanted.
            let mut exist = BTreeSet::new();
            for wanted in &new.instances {
                let place = merged.instances.iter().position(|known| known.name == wanted.name);
                let place = place.expect("every new instance has a place");
                prop_assert_eq!(&merged.instances[place], wanted);
                exist.insert(place);
            }
            prop_assert_eq!(&merged.processes[..new.processes.len()], &new.processes[..]);
            prop_assert!(merged.processes[new.processes.len()..].iter().all(|process| process.count == 0));
            prop_assert_eq!(&merged.environment, &new.environment);
            // What is not is as it was.
            for (place, instance) in old.instances.iter().enumerate().filter(|(place, _)| !exist.contains(place)) {
                let kept = Instance { process: merged.instances[place].process, ..instance.clone() };
                prop_assert_eq!(&merged.instances[place], &kept);
            }
            // The changes lead from what existed to what is wanted.
            let mut after: BTreeSet<usize> = (0..old.instances.len()).filter(|&place| present(place)).collect();
            for change in &changes {
                prop_assert_eq!(&merged.instances[change.place].name, &change.instance);
                match change.kind {
                    ChangeKind::Added => prop_assert!(after.insert(change.place)),
                    ChangeKind::Removed => prop_assert!(after.remove(&change.place)),
                    ChangeKind::Live | ChangeKind::Restart => {
                        prop_assert!(after.contains(&change.place) && !change.details.is_empty());
                    }
                }
            }
            prop_assert_eq!(&after, &exist);
            // What nobody mentions is the same to the process.
            for &place in exist.iter().filter(|&&place| !changes.iter().any(|change| change.place == place)) {
                let (was, is) = (&old.instances[place], &merged.instances[place]);
                prop_assert_eq!(&was.command, &is.command);
                prop_assert_eq!(&was.ceilings, &is.ceilings);
                let known = |stack: &Stack, instance: &Instance| -> BTreeSet<(OsString, OsString)> {
                    let all = environment_of(stack, instance).into_iter();
                    all.filter(|(name, _)| !is_port_of_another(name)).collect()
                };
                prop_assert_eq!(known(&old, was), known(&merged, is));
            }
            // Once more, and nothing happens.
            let (again, none) = merge(&merged, &|place| exist.contains(&place), new.clone());
            prop_assert_eq!(none, vec![]);
            prop_assert_eq!(&again, &merged);
            prop_assert_eq!(stack_change(&merged, &new), None);
        }
    }
}
