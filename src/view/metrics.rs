//! `lpm metrics`: how a stack stands, for Prometheus and its like, as OpenMetrics text.
//!
//! What is not counted on this machine is left out, and so is what a life uses while there is none. A counter begins
//! anew with each life, as scrapers expect of what restarts.

use std::fmt::Write;

use crate::control::interface::{Instance, Status, Usage};

/// A family of values, one for each instance.
struct Family {
    /// Without the prefix, and without `_total` of a counter.
    name: &'static str,
    kind: &'static str,
    /// The last word of the name, if it is one.
    unit: &'static str,
    help: &'static str,
    value: fn(&Instance) -> Option<f64>,
}

const FAMILIES: &[Family] = &[
    gauge("up", "", "Whether it runs.", |one| Some(f64::from(u8::from(is_up(one))))),
    gauge("start_time_seconds", "seconds", "When its present life was ordered, since 1970.", |one| {
        one.started.filter(|_| is_up(one)).map(seconds)
    }),
    counter("restarts", "", "Restarts by its restart rule.", |one| Some(f64::from(one.restarts))),
    counter("leftovers", "", "Processes that outlived their main process.", |one| {
        Some(f64::from(one.leftovers))
    }),
    gauge("memory_bytes", "bytes", "Memory in use.", |one| number(now(one)?.memory_current)),
    gauge("memory_peak_bytes", "bytes", "The most memory that was in use.", |one| {
        number(now(one)?.memory_peak)
    }),
    gauge("memory_max_bytes", "bytes", "The ceiling on memory.", |one| number(one.ceilings.memory_max)),
    gauge("swap_bytes", "bytes", "Swap in use.", |one| number(now(one)?.swap_current)),
    counter("cpu_seconds", "seconds", "Processor time.", |one| now(one)?.cpu_usec.map(seconds)),
    counter(
        "cpu_throttled_seconds",
        "seconds",
        "How long the ceiling on processor time held it back.",
        |one| now(one)?.throttled_usec.map(seconds),
    ),
    gauge("cpu_max_cores", "cores", "The ceiling on processor time.", |one| {
        number(one.ceilings.cpu_quota).map(|thousandths| thousandths / 1000.0)
    }),
    counter("io_read_bytes", "bytes", "Read from block devices.", |one| number(now(one)?.io_read)),
    counter("io_written_bytes", "bytes", "Written to block devices.", |one| number(now(one)?.io_written)),
    gauge(
        "cpu_pressure_ratio",
        "ratio",
        "Share of the last ten seconds in which tasks waited for a processor.",
        |one| share(now(one)?.cpu_pressure),
    ),
    gauge(
        "memory_pressure_ratio",
        "ratio",
        "Share of the last ten seconds in which tasks waited for memory.",
        |one| share(now(one)?.memory_pressure),
    ),
    gauge(
        "io_pressure_ratio",
        "ratio",
        "Share of the last ten seconds in which tasks waited for devices.",
        |one| share(now(one)?.io_pressure),
    ),
    gauge("tasks", "", "Processes and threads.", |one| number(now(one)?.tasks)),
    gauge("tasks_max", "", "The ceiling on them.", |one| number(one.ceilings.tasks_max)),
    counter("oom_kills", "", "Processes killed at a ceiling on memory.", |one| number(now(one)?.oom_kills)),
    counter("tasks_refused", "", "Forks refused at the ceiling on tasks.", |one| {
        number(now(one)?.tasks_refused)
    }),
];

const fn gauge(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    value: fn(&Instance) -> Option<f64>,
) -> Family {
    Family { name, kind: "gauge", unit, help, value }
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    value: fn(&Instance) -> Option<f64>,
) -> Family {
    Family { name, kind: "counter", unit, help, value }
}

/// All that is known of these instances, with `# EOF` at its end.
pub fn metrics(status: &Status) -> String {
    let mut text = String::new();
    let stack = quoted(&status.stack.name);
    head(&mut text, "lpm_stack", "info", "", "The stack.");
    let (version, tier) = (quoted(&status.stack.version), quoted(&status.stack.tier));
    line(&mut text, &format!("lpm_stack_info{{stack={stack},version={version},tier={tier}}}"), 1.0);
    head(&mut text, "lpm_stack_start_time_seconds", "gauge", "seconds", "When lpm started it, since 1970.");
    let since = seconds(status.stack.since);
    line(&mut text, &format!("lpm_stack_start_time_seconds{{stack={stack}}}"), since);
    for Family { name, kind, unit, help, value } in FAMILIES {
        let values: Vec<(&Instance, f64)> =
            status.instances.iter().filter_map(|one| Some((one, value(one)?))).collect();
        if values.is_empty() {
            continue;
        }
        head(&mut text, &format!("lpm_instance_{name}"), kind, unit, help);
        let total = if *kind == "counter" { "_total" } else { "" };
        for (one, value) in values {
            let (process, instance) = (quoted(&one.process), quoted(&one.name));
            let labels = format!("stack={stack},process={process},instance={instance}");
            line(&mut text, &format!("lpm_instance_{name}{total}{{{labels}}}"), value);
        }
    }
    text.push_str("# EOF\n");
    text
}

fn head(text: &mut String, name: &str, kind: &str, unit: &str, help: &str) {
    let _ = writeln!(text, "# TYPE {name} {kind}");
    if !unit.is_empty() {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
    let _ = writeln!(text, "# HELP {name} {help}");
}

fn line(text: &mut String, name: &str, value: f64) {
    let _ = writeln!(text, "{name} {value}");
}

/// A label's value.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

fn is_up(instance: &Instance) -> bool {
    matches!(instance.state.as_str(), "running" | "freezing" | "frozen")
}

/// What its present life has used.
fn now(instance: &Instance) -> Option<&Usage> {
    is_up(instance).then_some(&instance.usage)
}

fn seconds(usec: u64) -> f64 {
    usec as f64 / 1e6
}

fn share(percent: Option<f64>) -> Option<f64> {
    percent.map(|percent| percent / 100.0)
}

fn number(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}
