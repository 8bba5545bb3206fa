//! The lines of the picture: the stack, the table, what the keys do.

use super::super::gauge::{self, Pair, bar, pair};
use super::super::table::{Column, Side, Worth, lay};
use super::super::text::{Ink, Text};
use super::super::{moment, state};
use super::rates::sparkline;
use super::{Mode, Sort, Top};
use crate::config::Ceiling;
use crate::config::quantity::{format_memory, format_size};
use crate::control::interface::{Ceilings, Instance, StackState, Usage};

/// The stack, in lines that are at most `width` wide.
pub(super) fn head(top: &Top, width: usize) -> Vec<Text> {
    let stack = &top.status.stack;
    let (dot, ink) = state::dot_of_the_stack(&stack.state);
    let up = top.status.instances.iter().filter(|one| one.state.has_life()).count();
    let name = Text::of(ink, dot).and(Ink::Plain, " ").and(Ink::Bold, &stack.name);
    let state = match &stack.state {
        StackState::Up => String::new(),
        state @ (StackState::Frozen | StackState::TearDown | StackState::Unknown(_)) => {
            format!("{}, ", state::of_the_stack(state))
        }
    };
    let facts = format!(
        "{state}up for {}  {up} of {} running  tier {}",
        moment::ago(stack.since, top.now),
        top.status.instances.len(),
        stack.tier
    );
    let mut lines = vec![joined(vec![name, Text::plain(&facts)]).cut(width)];

    let rates = top.rates(None);
    let memory_bar = match (stack.usage.memory_current, stack.ceilings.memory_max) {
        (Some(now), Some(ceiling)) => Text::plain(" ").then(bar(now, ceiling)),
        _ => Text::default(),
    };
    let quota = stack.ceilings.cpu_quota.map(|quota| format!("/{}%", quota / 10)).unwrap_or_default();
    let mut used = Vec::new();
    used.extend(
        pair(memory(&stack.usage, &stack.ceilings))
            .map(|text| Text::plain(&format!("memory {text}")).then(memory_bar)),
    );
    used.extend(rates.cpu_percent.map(|percent| Text::plain(&format!("cpu {percent:.0}%{quota}"))));
    used.extend(pair(tasks(&stack.usage, &stack.ceilings)).map(|text| Text::plain(&format!("tasks {text}"))));
    if rates.io_read_per_second.is_some() {
        used.push(Text::plain(&format!("io {}/s", format_size(rates.io() as u64))));
    }
    let counted =
        |has: fn(&Usage) -> bool| has(&stack.usage) || top.status.instances.iter().any(|one| has(&one.usage));
    let missing: Vec<&str> = [
        ("memory", counted(|usage| usage.memory_current.is_some())),
        ("io", counted(|usage| usage.io_read.is_some())),
        ("cpu", counted(|usage| usage.cpu_usec.is_some())),
    ]
    .into_iter()
    .filter_map(|(what, counted)| (!counted).then_some(what))
    .collect();
    if !missing.is_empty() && up > 0 {
        used.push(Text::of(Ink::Faint, &format!("not counted here: {}", missing.join(", "))));
    }
    let mut order = match (top.sort, top.reversed) {
        (Sort::File, false) => Vec::new(),
        (sort, reversed) => vec![Text::of(
            Ink::Cyan,
            &format!("by {}{}", sort.word(), if reversed { ", reversed" } else { "" }),
        )],
    };
    if !top.filter.is_empty() {
        order.push(Text::of(Ink::Cyan, &format!("only {}", top.filter)));
    }
    lines.push(joined(used.into_iter().chain(order).collect()).cut(width));
    lines
}

fn joined(parts: Vec<Text>) -> Text {
    parts.into_iter().enumerate().fold(Text::default(), |line, (at, part)| {
        line.then(Text::blanks(if at == 0 { 0 } else { 2 })).then(part)
    })
}

/// The heading and a row for each of `shown`, at most `width` wide.
pub(super) fn table(top: &Top, shown: &[&Instance], width: usize) -> Vec<Text> {
    let cells = |text: &dyn Fn(&Instance) -> Text| shown.iter().map(|one| text(one)).collect::<Vec<Text>>();
    let any = |has: &dyn Fn(&Instance) -> bool| top.status.instances.iter().any(has);
    let absent = || Text::plain("-");
    let rates = |one: &Instance| top.rates(Some(&one.name));
    let column = |heading, side, worth, cells| Column { heading, side, worth, cells };

    let name = |one: &Instance| Text::plain(&one.name);
    let words = |one: &Instance| Text::of(state::dot(&one.state).1, &state::words(one, top.now));
    let pid = |one: &Instance| one.pid.map_or_else(absent, |pid| Text::plain(&pid.to_string()));
    let memories: Vec<Pair> = shown.iter().map(|one| memory(&one.usage, &one.ceilings)).collect();
    let bars = |one: &Instance| match (one.usage.memory_current, one.ceilings.memory_max) {
        (Some(now), Some(ceiling)) => bar(now, ceiling),
        _ => Text::default(),
    };
    let cpus: Vec<Pair> = shown
        .iter()
        .map(|one| {
            let now = rates(one).cpu_percent.filter(|_| one.pid.is_some());
            (
                now.map(|now| format!("{now:.0}%")),
                one.ceilings.cpu_quota.map(|quota| format!("{}%", quota / 10)),
            )
        })
        .collect();
    let throttled = |one: &Instance| match rates(one).throttled_percent.filter(|share| *share >= 0.5) {
        Some(share) => Text::of(if share >= 10.0 { Ink::Red } else { Ink::Yellow }, &format!("{share:.0}%")),
        None => absent(),
    };
    let all_tasks: Vec<Pair> = shown.iter().map(|one| tasks(&one.usage, &one.ceilings)).collect();
    let pressures = |one: &Instance| pressure(&one.usage);
    let io = |one: &Instance| match rates(one) {
        rates if rates.io_read_per_second.is_some() => {
            Text::plain(&format!("{}/s", format_size(rates.io() as u64)))
        }
        _ => absent(),
    };
    let restarts = |one: &Instance| match one.restarts {
        0 => absent(),
        count => Text::of(Ink::Yellow, &count.to_string()),
    };
    let wide = width >= 120;
    let cells_of_line = if width >= 180 {
        40
    } else if wide {
        24
    } else {
        10
    };
    let history = |one: &Instance| match top.seen.get(&one.name) {
        Some(seen) if top.memory => Text::of(Ink::Cyan, &sparkline(&seen.memory, cells_of_line, 1.0)),
        Some(seen) => Text::of(Ink::Green, &sparkline(&seen.cpu, cells_of_line, 10.0)),
        None => Text::default(),
    };
    let command = |one: &Instance| Text::of(Ink::Faint, &one.command);

    let counts_memory = any(&|one| one.usage.memory_current.is_some());
    let counts_io = any(&|one| one.usage.io_read.is_some());
    let has_pressure = any(&|one| strongest(&one.usage).is_some_and(|(_, share)| share >= 0.05));
    let mut columns = vec![
        column("NAME", Side::Left, Worth::Stays { tail: 4, least: 20 }, cells(&name)),
        column("STATE", Side::Left, Worth::Stays { tail: 0, least: 16 }, cells(&words)),
    ];
    if wide {
        columns.push(column("PID", Side::Right, Worth::Rank(3), cells(&pid)));
    }
    if counts_memory {
        columns.push(column("MEMORY", Side::Left, Worth::Rank(10), gauge::pairs(memories)));
        if any(&|one| bars(one) != Text::default()) {
            columns.push(column("", Side::Left, Worth::Rank(6), cells(&bars)));
        }
    }
    columns.push(column("CPU", Side::Left, Worth::Rank(9), gauge::pairs(cpus)));
    let heading = if top.memory { "MEMORY OVER TIME" } else { "CPU OVER TIME" };
    columns.push(column(if wide { heading } else { "" }, Side::Left, Worth::Rank(5), cells(&history)));
    if any(&|one| rates(one).throttled_percent.is_some_and(|share| share >= 0.5)) {
        columns.push(column("HELD", Side::Right, Worth::Rank(4), cells(&throttled)));
    }
    columns.push(column("TASKS", Side::Left, Worth::Rank(7), gauge::pairs(all_tasks)));
    if has_pressure {
        columns.push(column("PRESSURE", Side::Left, Worth::Rank(2), cells(&pressures)));
    }
    if counts_io {
        columns.push(column("IO", Side::Right, Worth::Rank(1), cells(&io)));
    }
    if any(&|one| one.restarts > 0) {
        columns.push(column("RESTARTS", Side::Right, Worth::Rank(8), cells(&restarts)));
    }
    let dots = shown.iter().map(|one| state::dot(&one.state));
    let dots = dots.map(|(dot, ink)| Text::of(ink, dot).and(Ink::Plain, " "));
    let rows = lay(columns, width.saturating_sub(2));
    // What is left over is the command's.
    let used = rows.iter().map(Text::width).max().unwrap_or(0) + 2;
    let commands = std::iter::once(Text::of(Ink::Bold, "COMMAND")).chain(cells(&command));
    let rest = width.saturating_sub(used + 2);
    std::iter::once(Text::blanks(2))
        .chain(dots)
        .zip(rows)
        .zip(commands)
        .map(|((dot, row), command)| {
            let row = dot.then(row);
            match rest {
                16.. => row.padded(used).then(Text::blanks(2)).then(command.cut(rest)),
                _ => row.cut(width),
            }
        })
        .collect()
}

/// The resource that is waited for most, and the share of the time, in percent.
fn strongest(usage: &Usage) -> Option<(&'static str, f64)> {
    let all = [("cpu", usage.cpu_pressure), ("mem", usage.memory_pressure), ("io", usage.io_pressure)];
    all.into_iter().filter_map(|(what, share)| Some((what, share?))).max_by(|a, b| a.1.total_cmp(&b.1))
}

fn pressure(usage: &Usage) -> Text {
    match strongest(usage) {
        Some((what, share)) if share >= 0.05 => {
            let ink = if share >= 10.0 { Ink::Yellow } else { Ink::Plain };
            Text::of(ink, &format!("{what} {share:.1}%"))
        }
        _ => Text::plain("-"),
    }
}

fn memory(usage: &Usage, ceilings: &Ceilings) -> Pair {
    let ceiling = ceilings.memory_max.map(|bytes| format_memory(Ceiling::At(bytes)));
    (usage.memory_current.map(format_size), ceiling)
}

fn tasks(usage: &Usage, ceilings: &Ceilings) -> Pair {
    (usage.tasks.map(|tasks| tasks.to_string()), ceilings.tasks_max.map(|tasks| tasks.to_string()))
}

/// The last line: what is asked, what came of something, or what can be done.
pub(super) fn foot(top: &Top) -> Text {
    match (&top.mode, &top.said) {
        (Mode::Filter, _) => Text::of(Ink::Bold, &format!("/{}", top.filter))
            .and(Ink::Plain, "█  (enter keeps it, esc clears it)"),
        (Mode::Sure(verb, name), _) => {
            Text::of(Ink::Red, &format!("{} {name}? ", verb.word())).and(Ink::Plain, "(y or n)")
        }
        (_, Some(said)) => Text::of(Ink::Bold, said),
        _ => {
            let keys = [
                ("?", "help"),
                ("q", "quit"),
                ("r", "restart"),
                ("x", "stop"),
                ("u", "start"),
                ("f", "freeze"),
                ("l", "logs"),
                ("a", "attach"),
                ("/", "filter"),
                ("s", "sort"),
                ("K", "kill"),
            ];
            joined(
                keys.into_iter()
                    .map(|(key, does)| Text::of(Ink::Cyan, key).and(Ink::Faint, &format!(" {does}")))
                    .collect(),
            )
        }
    }
}

/// What every key does.
pub(super) fn help() -> Vec<Text> {
    const KEYS: [(&str, &str); 17] = [
        ("↑ ↓ j k", "select an instance; also page up and down, home, end"),
        ("r", "restart it"),
        ("x", "stop it"),
        ("u", "start it"),
        ("f", "freeze it, or let it go on"),
        ("K", "kill it, once you said yes"),
        ("l enter", "what it says; esc closes it"),
        ("a", "use its terminal, if it has one; ctrl-] comes back"),
        ("/", "only those whose name or state has this in it"),
        ("s < >", "sort by name, memory, cpu, io, tasks, restarts"),
        ("S !", "the other way round"),
        ("m", "memory over time, or cpu"),
        ("ctrl-z", "stop lpm top; fg comes back"),
        ("q ctrl-c", "leave; the stack goes on"),
        ("", ""),
        ("HELD", "share of the time in which its cpu quota held it back"),
        ("PRESSURE", "share of the last ten seconds in which tasks waited for that"),
    ];
    let heading = [Text::of(Ink::Bold, "lpm top"), Text::default()];
    let line =
        |(keys, does): (&str, &str)| Text::of(Ink::Cyan, &format!("  {keys:<10}")).and(Ink::Plain, does);
    let more = [Text::default(), Text::of(Ink::Faint, "any key goes back")];
    heading.into_iter().chain(KEYS.into_iter().map(line)).chain(more).collect()
}
