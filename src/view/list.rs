//! `lpm status`: the stack in a few lines, and a line for each instance.

use jiff::tz::TimeZone;

use super::gauge::{self, Pair, bar, pair};
use super::table::{Column, Side, Worth, lay};
use super::text::{Ink, Text, fill};
use super::{Look, moment, state};
use crate::config::Ceiling;
use crate::config::quantity::{format_cpu, format_cpu_time, format_memory, format_size};
use crate::control::interface::{Ceilings, Instance, Stack, StackState, Status, Usage};

/// The whole of it, a newline after each line. `now_usec` is µs since the epoch.
pub fn list(status: &Status, now_usec: u64, zone: &TimeZone, look: &Look) -> String {
    let Status { stack, instances } = status;
    let mut page = String::new();
    head(stack, now_usec, zone, look, &mut page);
    page.push('\n');
    if instances.is_empty() {
        Text::plain("  no instances").write(look, &mut page);
    } else {
        let dots = instances.iter().map(|instance| state::dot(&instance.state));
        let dots = dots.map(|(dot, ink)| Text::of(ink, dot).and(Ink::Plain, " "));
        let rows = lay(columns(instances, now_usec), look.width() - 2);
        for (dot, row) in std::iter::once(Text::blanks(2)).chain(dots).zip(rows) {
            dot.then(row).write(look, &mut page);
        }
    }
    foot(status, look, &mut page);
    page
}

fn head(stack: &Stack, now_usec: u64, zone: &TimeZone, look: &Look, page: &mut String) {
    let (dot, ink) = state::dot_of_the_stack(&stack.state);
    let name = Text::of(ink, dot).and(Ink::Plain, " ").and(Ink::Bold, &stack.name).and(Ink::Plain, " - ");
    let room = look.width().saturating_sub(name.width());
    name.then(Text::plain(&stack.root).cut_before(room, room)).write(look, page);
    let up = match stack.state {
        StackState::Up => "",
        StackState::Frozen | StackState::TearDown | StackState::Unknown(_) => ", up",
    };
    let since = format!("{up} since {};", moment::stamp(stack.since, zone));
    let facts = vec![
        Text::of(ink, state::of_the_stack(&stack.state)).and(Ink::Plain, &since),
        Text::plain(&format!("{} ago", moment::ago(stack.since, now_usec))),
        Text::plain(&format!("pid {}", stack.pid)),
        Text::plain(&format!("tier {}", stack.tier)),
    ];
    let Stack { ceilings, usage, .. } = stack;
    let memory_bar = match (usage.memory_current, ceilings.memory_max) {
        (Some(now), Some(ceiling)) => Text::plain(" ").then(bar(now, ceiling)),
        _ => Text::default(),
    };
    let quota = ceilings.cpu_quota.map(|quota| format!(" (quota {})", format_cpu(Ceiling::At(quota))));
    let cpu = usage.cpu_usec.map(format_cpu_time);
    let used = [
        pair(memory(usage, ceilings)).map(|text| Text::plain(&format!("memory {text}")).then(memory_bar)),
        (cpu.is_some() || quota.is_some()).then(|| {
            let cpu = cpu.as_deref().unwrap_or("-");
            Text::plain(&format!("cpu {cpu}{}", quota.as_deref().unwrap_or_default()))
        }),
        pair(tasks(usage, ceilings)).map(|text| Text::plain(&format!("tasks {text}"))),
    ];
    let used: Vec<Text> = used.into_iter().flatten().collect();
    for parts in [facts, used] {
        if !parts.is_empty() {
            fill(Text::blanks(2), parts, look).into_iter().for_each(|line| line.write(look, page));
        }
    }
}

fn columns(instances: &[Instance], now_usec: u64) -> Vec<Column> {
    let cells = |text: &dyn Fn(&Instance) -> Text| instances.iter().map(text).collect::<Vec<Text>>();
    let any = |has: &dyn Fn(&Instance) -> bool| instances.iter().any(has);
    let absent = || Text::plain("-");
    let number = |number: Option<u64>| number.map_or_else(absent, |number| Text::plain(&number.to_string()));
    let column = |heading, side, worth, cells| Some(Column { heading, side, worth, cells });
    let bars = |instance: &Instance| match (instance.usage.memory_current, instance.ceilings.memory_max) {
        (Some(now), Some(ceiling)) => bar(now, ceiling),
        _ => Text::default(),
    };
    let memories: Vec<Pair> = instances.iter().map(|i| memory(&i.usage, &i.ceilings)).collect();
    let all_tasks: Vec<Pair> = instances.iter().map(|i| tasks(&i.usage, &i.ceilings)).collect();
    // A ceiling alone, of one that does not run, does not make a column worth having.
    let counted = |pairs: &[Pair]| pairs.iter().any(|(now, _)| now.is_some());
    let (any_memory, any_tasks) = (counted(&memories), counted(&all_tasks));
    let name = |i: &Instance| Text::plain(&i.name);
    let words = |i: &Instance| Text::of(state::dot(&i.state).1, &state::words(i, now_usec));
    let since = |i: &Instance| Text::plain(&moment::ago(i.since, now_usec));
    let pid = |i: &Instance| number(i.pid.map(u64::from));
    let restarts = |i: &Instance| number(Some(i.restarts.into()).filter(|&n: &u64| n > 0));
    let cpu = |i: &Instance| i.usage.cpu_usec.map_or_else(absent, |us| Text::plain(&format_cpu_time(us)));
    let port = |i: &Instance| number(i.port.map(u64::from));
    [
        // The number at the end of a name tells it from its neighbours.
        column("NAME", Side::Left, Worth::Stays { tail: 4, least: 24 }, cells(&name)),
        column("STATE", Side::Left, Worth::Stays { tail: 0, least: 20 }, cells(&words)),
        column("SINCE", Side::Left, Worth::Rank(7), cells(&since)),
        column("PID", Side::Right, Worth::Rank(6), cells(&pid)).filter(|_| any(&|i| i.pid.is_some())),
        column("RESTARTS", Side::Right, Worth::Rank(4), cells(&restarts))
            .filter(|_| any(&|i| i.restarts > 0)),
        column("MEMORY", Side::Left, Worth::Rank(5), gauge::pairs(memories)).filter(|_| any_memory),
        column("", Side::Left, Worth::Rank(0), cells(&bars)).filter(|_| any(&|i| bars(i) != Text::default())),
        column("CPU", Side::Right, Worth::Rank(2), cells(&cpu))
            .filter(|_| any(&|i| i.usage.cpu_usec.is_some())),
        column("TASKS", Side::Left, Worth::Rank(1), gauge::pairs(all_tasks)).filter(|_| any_tasks),
        column("PORT", Side::Right, Worth::Rank(3), cells(&port)).filter(|_| any(&|i| i.port.is_some())),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn foot(status: &Status, look: &Look, page: &mut String) {
    let off: Vec<&str> =
        status.stack.processes.iter().filter(|p| p.instances == 0).map(|p| p.name.as_str()).collect();
    let failed = status.instances.iter().find(|i| state::is_bad(&i.state));
    if !off.is_empty() || failed.is_some() {
        page.push('\n');
    }
    if !off.is_empty() {
        let names = off.into_iter().map(Text::plain).collect();
        fill(Text::plain("not started: "), names, look).into_iter().for_each(|line| line.write(look, page));
    }
    if let Some(failed) = failed {
        Text::plain(&format!("lpm status {} says more", failed.name)).write(look, page);
    }
}

fn memory(usage: &Usage, ceilings: &Ceilings) -> Pair {
    let ceiling = ceilings.memory_max.map(|bytes| format_memory(Ceiling::At(bytes)));
    (usage.memory_current.map(format_size), ceiling)
}

fn tasks(usage: &Usage, ceilings: &Ceilings) -> Pair {
    (usage.tasks.map(|tasks| tasks.to_string()), ceilings.tasks_max.map(|tasks| tasks.to_string()))
}
