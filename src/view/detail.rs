//! `lpm status web.1`: all that is known of one instance, in the layout of `systemctl status`.
//!
//! Labels stand to the left of one column of colons. What is not known, or has nothing to tell, leaves its label
//! out.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;

use super::gauge::bar;
use super::lines::{self, content};
use super::text::{Ink, LABELS, Text, counted, fill};
use super::{Look, failure, moment, state};
use crate::config::Ceiling;
use crate::config::quantity::{format_cpu, format_cpu_time, format_memory, format_size};
use crate::control::interface::{Instance, InstanceState, LifeResult, Line, LineStream, Process, Stack};

/// More processes than this are counted instead of shown: a tree is there to be looked at.
const MOST_PROCESSES: usize = 64;

/// All of it, a newline after each line. `lines` are its last lines, the oldest first; each is cut to one line.
/// `now_usec` is µs since the epoch.
pub fn detail(
    stack: &Stack,
    instance: &Instance,
    lines: &[Line],
    now_usec: u64,
    zone: &TimeZone,
    look: &Look,
) -> String {
    let mut page = String::new();
    let (dot, ink) = state::dot(&instance.state);
    let head = Text::of(ink, dot).and(Ink::Plain, " ").and(Ink::Bold, &instance.name);
    head.and(Ink::Plain, " - ").and(Ink::Plain, &instance.command).write(look, &mut page);
    let facts: [(&str, Vec<Text>); 17] = [
        ("Stack", vec![Text::plain(&format!("{} ({})", stack.name, stack.procfile))]),
        ("Active", active(instance, now_usec, zone)),
        ("Result", result(instance, now_usec)),
        ("Restart", restart(instance)),
        ("Main PID", one(instance.pid)),
        ("Port", one(instance.port)),
        ("Tasks", tasks(instance)),
        ("Memory", memory(instance)),
        ("CPU", cpu(instance)),
        ("IO", io(instance)),
        ("Pressure", pressure(instance)),
        ("OOM kills", one(instance.usage.oom_kills.filter(|&kills| kills > 0))),
        ("Leftovers", leftovers(instance)),
        ("Terminal", terminal(instance)),
        ("Log", log(instance)),
        ("Directory", vec![Text::plain(&instance.working_directory)]),
        ("CGroup", instance.cgroup.iter().map(|path| Text::plain(path)).collect()),
    ];
    for (label, parts) in facts.into_iter().filter(|(_, parts)| !parts.is_empty()) {
        let heading = Text::plain(&format!("{label:>LABELS$}: "));
        fill(heading, parts, look).into_iter().for_each(|line| line.write(look, &mut page));
        if label == "Restart" {
            failure::of_instance(instance, now_usec, look)
                .into_iter()
                .for_each(|row| row.write(look, &mut page));
        }
    }
    for branch in tree(instance.processes.as_deref().unwrap_or_default(), (look.width() / 2).min(64)) {
        Text::blanks(LABELS + 2).then(branch).write(look, &mut page);
    }
    // What stands among the last lines is not shown twice.
    let shown = |line: &Line| lines.iter().any(|other| other.sequence == line.sequence);
    let failed = instance.failure.as_ref().map(|failure| (failure.invocation, failure.lines.as_slice()));
    if let Some((life, before)) = failed.filter(|(_, before)| !before.iter().all(shown)) {
        page.push('\n');
        Text::plain(&format!("Last lines of life {life}, which failed:")).write(look, &mut page);
        write_lines(before, zone, look, &mut page);
    }
    if !lines.is_empty() {
        page.push('\n');
    }
    write_lines(lines, zone, look, &mut page);
    page
}

fn write_lines(lines: &[Line], zone: &TimeZone, look: &Look, page: &mut String) {
    for line in lines {
        let bar = if line.stream == LineStream::Err { "!" } else { "|" };
        let prefix = format!("{} {bar} ", moment::short_stamp(line.time, zone));
        let room = look.width().saturating_sub(prefix.chars().count());
        page.push_str(&prefix);
        page.push_str(&lines::on_one_line(&content(line), room, look.colour));
        page.truncate(page.trim_end().len());
        page.push('\n');
    }
}

fn one(value: Option<impl ToString>) -> Vec<Text> {
    value.into_iter().map(|value| Text::plain(&value.to_string())).collect()
}

fn active(instance: &Instance, now_usec: u64, zone: &TimeZone) -> Vec<Text> {
    let (_, ink) = state::dot(&instance.state);
    let words = Text::of(ink, &state::words(instance, now_usec));
    if instance.invocation == 0 && !state::lives(instance) {
        return vec![words, Text::plain("never started")];
    }
    let since = moment::stamp(instance.since, zone);
    let ago = moment::ago(instance.since, now_usec);
    let word = if instance.state == InstanceState::RestartWait { ", waiting since" } else { " since" };
    vec![words.and(Ink::Plain, &format!("{word} {since};")), Text::plain(&format!("{ago} ago"))]
}

/// Of the life before, if this one still goes on.
fn result(instance: &Instance, now_usec: u64) -> Vec<Text> {
    let Some(result) = instance.result.as_ref().filter(|result| result.is_failure()) else {
        return Vec::new();
    };
    let over = !state::lives(instance);
    let mut words = match result {
        LifeResult::Resources => "could not be started".to_owned(),
        LifeResult::Success
        | LifeResult::ExitCode
        | LifeResult::Signal
        | LifeResult::CoreDump
        | LifeResult::Timeout
        | LifeResult::OomKill
        | LifeResult::StartLimitHit
        | LifeResult::Unknown(_) => state::exit(instance).unwrap_or_default(),
    };
    let life = instance.started.zip(instance.ended).and_then(|(from, to)| to.checked_sub(from));
    if let Some(life) = life.filter(|_| over && *result != LifeResult::Resources) {
        words.push_str(&format!(" after {}", moment::span(life)));
    }
    let ended = instance.ended.map(|ended| format!("{} ago", moment::ago(ended, now_usec)));
    let mut facts: Vec<String> = [words].into_iter().chain(ended).filter(|fact| !fact.is_empty()).collect();
    if let Some(first) = facts.first_mut().filter(|_| !over) {
        first.insert_str(0, "the life before: ");
    }
    let facts = facts.iter().map(|fact| Text::plain(fact)).collect();
    bracketed(Text::of(Ink::Red, result.as_str()), facts)
}

fn restart(instance: &Instance) -> Vec<Text> {
    let mut parts = vec![Text::plain(&instance.restart)];
    if instance.restarts > 0 {
        parts.push(Text::plain(&counted(instance.restarts.into(), "restart", "restarts")));
    }
    parts.extend(instance.restart_reason.iter().map(|reason| Text::plain(&format!("the last: {reason}"))));
    parts
}

fn tasks(instance: &Instance) -> Vec<Text> {
    let refused = instance.usage.tasks_refused.filter(|&forks| forks > 0);
    let facts = [
        instance.ceilings.tasks_max.map(|tasks| Text::plain(&format!("limit {tasks}"))),
        refused.map(|forks| Text::of(Ink::Yellow, &format!("{} refused", counted(forks, "fork", "forks")))),
    ];
    let now = instance.usage.tasks.map(|tasks| Text::plain(&tasks.to_string()));
    amount(now, facts)
}

fn memory(instance: &Instance) -> Vec<Text> {
    let (usage, ceilings) = (&instance.usage, &instance.ceilings);
    let exact = |bytes| format_memory(Ceiling::At(bytes));
    let swap = match (usage.swap_current, ceilings.memory_swap_max) {
        (Some(now), Some(ceiling)) => Some(format!("swap {} of {}", format_size(now), exact(ceiling))),
        (None, Some(ceiling)) => Some(format!("swap limit {}", exact(ceiling))),
        (Some(now), None) => Some(format!("swap {}", format_size(now))).filter(|_| now > 0),
        (None, None) => None,
    };
    let facts = [
        usage.memory_peak.map(|peak| format!("peak {}", format_size(peak))),
        ceilings.memory_max.map(|ceiling| format!("limit {}", exact(ceiling))),
        ceilings.memory_high.map(|ceiling| format!("high {}", exact(ceiling))),
        swap,
    ];
    let now = usage.memory_current.map(|now| {
        let text = Text::plain(&format_size(now));
        match ceilings.memory_max {
            Some(ceiling) => text.and(Ink::Plain, " ").then(bar(now, ceiling)),
            None => text,
        }
    });
    amount(now, facts.map(|fact| fact.map(|fact| Text::plain(&fact))))
}

fn cpu(instance: &Instance) -> Vec<Text> {
    let (usage, ceilings) = (&instance.usage, &instance.ceilings);
    let cpus = |quota| {
        format!("quota {} {}", format_cpu(Ceiling::At(quota)), if quota == 1000 { "CPU" } else { "CPUs" })
    };
    let throttled = usage.throttled_usec.filter(|&time| time > 0);
    let over = !state::lives(instance) && instance.invocation > 1 && usage.cpu_usec.is_some();
    let facts = [
        over.then(|| format!("in {} lives", instance.invocation)),
        ceilings.cpu_quota.map(cpus),
        ceilings.cpu_weight.map(|weight| format!("weight {weight}")),
        throttled.map(|time| format!("throttled {}", format_cpu_time(time))),
    ];
    let now = usage.cpu_usec.map(|time| Text::plain(&format_cpu_time(time)));
    amount(now, facts.map(|fact| fact.map(|fact| Text::plain(&fact))))
}

fn log(instance: &Instance) -> Vec<Text> {
    let own = || format!("writes into the journal itself (journalctl SYSLOG_IDENTIFIER={})", instance.name);
    instance.journald_direct.then(|| Text::plain(&own())).into_iter().collect()
}

fn io(instance: &Instance) -> Vec<Text> {
    let amounts = [("read", instance.usage.io_read), ("written", instance.usage.io_written)];
    let moved =
        amounts.into_iter().filter_map(|(what, bytes)| Some((what, bytes.filter(|&bytes| bytes > 0)?)));
    moved.map(|(what, bytes)| Text::plain(&format!("{} {what}", format_size(bytes)))).collect()
}

fn pressure(instance: &Instance) -> Vec<Text> {
    let usage = &instance.usage;
    let resources =
        [("cpu", usage.cpu_pressure), ("memory", usage.memory_pressure), ("io", usage.io_pressure)];
    let known = resources.into_iter().filter_map(|(what, share)| Some((what, share?)));
    let mut parts: Vec<Text> = known
        .map(|(what, share)| {
            let ink = if share >= 10.0 { Ink::Yellow } else { Ink::Plain };
            let text = format!("{share:.2}");
            let text = text.trim_end_matches('0').trim_end_matches('.');
            Text::plain(&format!("{what} ")).and(ink, &format!("{text}%"))
        })
        .collect();
    if let Some(last) = parts.last_mut() {
        *last = std::mem::take(last).and(Ink::Plain, " (last 10 s)");
    }
    parts
}

fn leftovers(instance: &Instance) -> Vec<Text> {
    if instance.leftovers == 0 {
        return Vec::new();
    }
    let processes = counted(instance.leftovers.into(), "process", "processes");
    let owner = if instance.leftovers == 1 { "its" } else { "their" };
    vec![Text::plain(&format!("{processes} outlived {owner} main process"))]
}

fn terminal(instance: &Instance) -> Vec<Text> {
    let attach =
        if state::lives(instance) { format!(" (lpm attach {})", instance.name) } else { String::new() };
    if instance.pty { vec![Text::plain(&format!("pty{attach}"))] } else { Vec::new() }
}

/// `12.3M (peak 20M, ceiling 64M)`; what is not counted leaves its facts alone.
fn amount<const N: usize>(now: Option<Text>, facts: [Option<Text>; N]) -> Vec<Text> {
    let facts = facts.into_iter().flatten().collect();
    match now {
        Some(now) => bracketed(now, facts),
        None => facts,
    }
}

/// `text (fact, fact)`, taken apart where a line may end.
fn bracketed(text: Text, mut facts: Vec<Text>) -> Vec<Text> {
    let Some(last) = facts.last_mut() else { return vec![text] };
    *last = std::mem::take(last).and(Ink::Plain, ")");
    facts[0] = text.and(Ink::Plain, " (").then(std::mem::take(&mut facts[0]));
    facts
}

/// The processes under each other, each below its parent; whose parent is elsewhere is at the top. From `deepest`
/// columns on the tree does not grow to the right.
///
/// The list was read while processes came and went, so it may say anything: that a process is its own ancestor,
/// or is there twice. Each is shown once.
fn tree(processes: &[Process], deepest: usize) -> Vec<Text> {
    let mut pids = BTreeSet::new();
    let processes: Vec<&Process> = processes.iter().filter(|process| pids.insert(process.pid)).collect();
    let mut children: BTreeMap<u32, Vec<&Process>> = BTreeMap::new();
    let mut tops = Vec::new();
    for &process in &processes {
        if pids.contains(&process.parent) && process.parent != process.pid {
            children.entry(process.parent).or_default().push(process);
        } else {
            tops.push(process);
        }
    }
    let mut branches = Vec::new();
    let mut shown = BTreeSet::new();
    // A ring of parents has no top: its first member will do.
    for level in std::iter::once(tops).chain(processes.iter().map(|&process| vec![process])) {
        // Not by recursion: a chain of processes is as long as its ceiling allows.
        let mut ahead = Vec::new();
        add_level(level, "", &mut ahead);
        while let Some((process, indent, last)) = ahead.pop() {
            if !shown.insert(process.pid) {
                continue;
            }
            if shown.len() > MOST_PROCESSES {
                let more = pids.len() - MOST_PROCESSES;
                branches.push(Text::of(Ink::Faint, &format!("and {more} more")));
                return branches;
            }
            let (branch, below) = if last { ("└─", "  ") } else { ("├─", "│ ") };
            let branch = Text::of(Ink::Faint, &format!("{indent}{branch}"));
            branches.push(branch.and(Ink::Plain, &format!("{} {}", process.pid, process.command)));
            let deeper = indent.chars().count() + 4 < deepest;
            let indent = if deeper { format!("{indent}{below}") } else { indent };
            add_level(children.remove(&process.pid).unwrap_or_default(), &indent, &mut ahead);
        }
    }
    branches
}

/// Puts siblings on the stack of what is to be shown, the first one on top; the last one is marked.
fn add_level<'a>(level: Vec<&'a Process>, indent: &str, ahead: &mut Vec<(&'a Process, String, bool)>) {
    let last = level.len().saturating_sub(1);
    let level = level.into_iter().enumerate().rev();
    ahead.extend(level.map(|(at, process)| (process, indent.to_owned(), at == last)));
}
