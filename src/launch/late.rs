//! Options of `lpm start` that come too late, because the stack runs already: each with what is to be written
//! instead. None is dropped silently.
//!
//! What was typed and cannot be had is refused. A variable stands there for every start; one that would have
//! changed something is named, and no more.

use crate::claim::Record;
use crate::cli::{CeilingArgs, ControlArgs, LifeArgs, Origins, OutputArgs, StackArgs, Start};
use crate::error::{Error, tell};
use crate::launch::gather::Surroundings;

/// An option that was given.
struct Late {
    id: &'static str,
    instead: String,
    /// It says how the stack is, not what this command shows.
    of_the_stack: bool,
}

/// Refuses what was typed for a stack that runs, and names what variables say.
///
/// # Errors
/// An option that cannot be had; all of them are named.
pub fn refuse(
    around: &Surroundings,
    arguments: &Start,
    origins: &Origins,
    record: &Record,
) -> Result<(), Error> {
    let mut late = late(arguments);
    if let Some(path) = &arguments.control.socket
        && record.socket.as_ref() == Some(&around.directory.join(path))
    {
        // It is asked there.
        late.retain(|one| one.id != "socket");
    }
    let (typed, standing): (Vec<Late>, Vec<Late>) =
        late.into_iter().partition(|one| origins.of(one.id).starts_with("--"));
    let (name, pid) = (&record.name, record.pid);
    if !typed.is_empty() {
        let first =
            format!("stack {name} runs already (pid {pid}), and these come too late; nothing was done");
        let line = |one: &Late| format!("  {}: {}", origins.of(one.id), one.instead);
        return Err(Error::several([first].into_iter().chain(typed.iter().map(line))));
    }
    let standing: Vec<String> =
        standing.iter().filter(|one| one.of_the_stack).map(|one| origins.of(one.id)).collect();
    if !standing.is_empty() {
        let variables = standing.join(", ");
        tell(format_args!("lpm: stack {name} runs already (pid {pid}); not looked at: {variables}"));
    }
    Ok(())
}

const FIRST_DOWN: &str = "lpm down first, then lpm start with it";

/// Whatever was given besides names and what finds the stack.
fn late(arguments: &Start) -> Vec<Late> {
    let Start { names, detach, stack, life, ceilings, output, control, no_wait: _, json: _ } = arguments;
    let StackArgs {
        procfile: _,
        root: _,
        name: _,
        env,
        env_precedence,
        expand_env,
        port,
        port_step,
        instance_port_step,
        no_port,
    } = stack;
    let LifeArgs {
        formation,
        concurrency,
        timeout,
        stop_signal,
        kill_mode,
        can_die,
        oneshot,
        pty,
        restart,
        restart_sec,
        start_limit_burst,
        start_limit_interval,
        exit_code,
    } = life;
    let CeilingArgs {
        mem,
        mem_high,
        swap,
        cpu,
        cpu_weight,
        tasks,
        stack_mem,
        stack_cpu,
        stack_tasks,
        limits,
    } = ceilings;
    let OutputArgs {
        quiet,
        pretty,
        no_prefix,
        no_timestamp,
        color,
        split_stderr,
        log,
        log_rotate,
        history,
        metrics,
        report,
        summary,
    } = output;
    let ControlArgs { socket } = control;

    let mut late = Vec::new();
    let mut add = |id, given: bool, of_the_stack, instead: String| {
        if given {
            late.push(Late { id, instead, of_the_stack });
        }
    };
    let down = || FIRST_DOWN.to_owned();
    add("detach", *detach, false, "leave it out; this comes back when they run, and they go on".to_owned());
    add("env", !env.is_empty(), true, down());
    for (id, given) in [("env_precedence", env_precedence), ("port", port), ("port_step", port_step)] {
        add(id, given.is_some(), true, down());
    }
    add("instance_port_step", instance_port_step.is_some(), true, down());
    add("expand_env", *expand_env, true, down());
    add("no_port", *no_port, true, down());
    for (id, given) in [("formation", formation), ("concurrency", concurrency)] {
        if let Some(counts) = given {
            add(id, true, true, format!("lpm scale {}", shell_words(counts)));
        }
    }
    for (id, key, values) in [
        ("timeout", "timeout-stop", timeout),
        ("stop_signal", "stop-signal", stop_signal),
        ("kill_mode", "kill-mode", kill_mode),
        ("can_die", "can-die", can_die),
        ("oneshot", "oneshot", oneshot),
        ("pretty", "pretty", pretty),
        ("pty", "pty", pty),
        ("restart", "restart", restart),
        ("restart_sec", "restart-sec", restart_sec),
        ("start_limit_burst", "start-limit-burst", start_limit_burst),
        ("start_limit_interval", "start-limit-interval", start_limit_interval),
        ("mem", "memory-max", mem),
        ("mem_high", "memory-high", mem_high),
        ("swap", "memory-swap-max", swap),
        ("cpu", "cpu-quota", cpu),
        ("cpu_weight", "cpu-weight", cpu_weight),
        ("tasks", "tasks-max", tasks),
    ] {
        add(id, !values.is_empty(), true, settings(key, values, names));
    }
    for (id, key, value) in [
        ("stack_mem", "memory-max", stack_mem),
        ("stack_cpu", "cpu-quota", stack_cpu),
        ("stack_tasks", "tasks-max", stack_tasks),
    ] {
        if let Some(value) = value {
            let written = format!("write {key} = {value:?} below [stack] in lpm.toml, then lpm reload");
            add(id, true, true, written);
        }
    }
    add("limits", limits.is_some(), true, down());
    add("exit_code", exit_code.is_some(), true, down());
    if let Some(quiet) = quiet {
        let instead = match quiet.is_empty() {
            true => "leave it out; nothing is shown here".to_owned(),
            false => settings("quiet", std::slice::from_ref(quiet), names),
        };
        add("quiet", true, false, instead);
    }
    add("split_stderr", *split_stderr, true, down());
    add("log", !log.is_empty(), true, down());
    add("log_rotate", !log_rotate.is_empty(), true, down());
    add("history", history.is_some(), true, down());
    add("metrics", metrics.is_some(), true, down());
    add("report", report.is_some(), false, down());
    add("summary", summary.is_some(), false, down());
    let shown = || "leave it out; nothing is shown here (lpm logs has it too)".to_owned();
    add("no_prefix", *no_prefix, false, shown());
    add("no_timestamp", *no_timestamp, false, shown());
    add("color", color.is_some(), false, shown());
    add("socket", socket.is_some(), true, down());
    late
}

/// `lpm set` for each item of these lists. One without a name is for those that are started, if it is a value, or
/// is a name itself, if the setting is yes or no.
fn settings(key: &str, values: &[String], names: &[String]) -> String {
    let names_itself = ["can-die", "oneshot", "pretty", "pty", "quiet"].contains(&key);
    let items = values.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|item| !item.is_empty());
    let set = |item: &str| {
        let (name, value) = match item.split_once('=') {
            Some((name, value)) => (name.trim(), value.trim()),
            None if names_itself => (item, "yes"),
            None => (if let [only] = names { only.as_str() } else { "all" }, item),
        };
        format!("lpm set {} {}", shell_word(name), shell_word(&format!("{key}={value}")))
    };
    items.map(set).collect::<Vec<_>>().join("; ")
}

/// The items of a list, a word each.
fn shell_words(list: &str) -> String {
    let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
    items.map(shell_word).collect::<Vec<_>>().join(" ")
}

/// As it is typed: what is more than a word stands in quotes.
pub(super) fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_=.%:/*".contains(c);
    match text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.escape_debug()),
    }
}
