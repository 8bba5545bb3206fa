//! How a stack stands, for Prometheus and its like, as text. Pure.
//!
//! What is not counted on this machine is left out, and so is what a life uses while there is none. A counter begins
//! anew with each life, as scrapers expect of what restarts.

use std::fmt::Write;

use super::interface::{Instance, Status, Usage};

/// A family of values, one for each instance.
struct Family {
    /// Without the prefix, and without `_total` of a counter.
    name: &'static str,
    kind: Kind,
    /// The last word of the name, if it is one.
    unit: &'static str,
    help: &'static str,
    value: fn(&Instance) -> Option<f64>,
}

/// What the values of a family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// An amount that goes up and down.
    Gauge,
    /// An amount that only grows.
    Counter,
    /// Labels; the value is 1.
    Info,
}

const FAMILIES: &[Family] = &[
    gauge("up", "", "Whether it runs.", |one| Some(f64::from(u8::from(one.state.is_up())))),
    gauge("start_time_seconds", "seconds", "When its present life was ordered, since 1970.", |one| {
        one.started.filter(|_| one.state.is_up()).map(seconds)
    }),
    counter("restarts", "", "Restarts by its restart rule.", |one| Some(f64::from(one.restarts))),
    counter("leftovers", "", "Processes that outlived their main process.", |one| {
        Some(f64::from(one.leftovers))
    }),
    gauge("memory_bytes", "bytes", "Memory in use.", |one| number(now(one)?.memory_current)),
    gauge("memory_peak_bytes", "bytes", "The most memory that was in use.", |one| {
        number(now(one)?.memory_peak)
    }),
    gauge("memory_max_bytes", "bytes", "The limit on memory.", |one| number(one.ceilings.memory_max)),
    gauge("swap_bytes", "bytes", "Swap in use.", |one| number(now(one)?.swap_current)),
    counter("cpu_seconds", "seconds", "Processor time.", |one| now(one)?.cpu_usec.map(seconds)),
    counter(
        "cpu_throttled_seconds",
        "seconds",
        "How long the limit on processor time held it back.",
        |one| now(one)?.throttled_usec.map(seconds),
    ),
    gauge("cpu_max_cores", "cores", "The limit on processor time.", |one| {
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
    gauge("tasks_max", "", "The limit on them.", |one| number(one.ceilings.tasks_max)),
    counter("oom_kills", "", "Processes killed at a limit on memory.", |one| number(now(one)?.oom_kills)),
    counter("tasks_refused", "", "Forks refused at the limit on tasks.", |one| {
        number(now(one)?.tasks_refused)
    }),
];

const fn gauge(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    value: fn(&Instance) -> Option<f64>,
) -> Family {
    Family { name, kind: Kind::Gauge, unit, help, value }
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    value: fn(&Instance) -> Option<f64>,
) -> Family {
    Family { name, kind: Kind::Counter, unit, help, value }
}

/// How a text is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' own, version 0.0.4, which promtool and node_exporter's text files are in.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What it is called over HTTP.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All that is known of these instances.
pub fn metrics(status: &Status, format: Format) -> String {
    let mut text = String::new();
    let stack = quoted(&status.stack.name);
    head(&mut text, format, "lpm_stack", Kind::Info, "", "The stack.");
    let (version, tier) = (quoted(&status.stack.version), quoted(status.stack.tier.as_str()));
    line(&mut text, &format!("lpm_stack_info{{stack={stack},version={version},tier={tier}}}"), 1.0);
    const STARTED: &str = "lpm_stack_start_time_seconds";
    head(&mut text, format, STARTED, Kind::Gauge, "seconds", "When lpm started it, since 1970.");
    line(&mut text, &format!("{STARTED}{{stack={stack}}}"), seconds(status.stack.since));
    for Family { name, kind, unit, help, value } in FAMILIES {
        let values: Vec<(&Instance, f64)> =
            status.instances.iter().filter_map(|one| Some((one, value(one)?))).collect();
        if values.is_empty() {
            continue;
        }
        head(&mut text, format, &format!("lpm_instance_{name}"), *kind, unit, help);
        let total = match kind {
            Kind::Counter => "_total",
            Kind::Gauge | Kind::Info => "",
        };
        for (one, value) in values {
            let (process, instance) = (quoted(&one.process), quoted(&one.name));
            let labels = format!("stack={stack},process={process},instance={instance}");
            line(&mut text, &format!("lpm_instance_{name}{total}{{{labels}}}"), value);
        }
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// OpenMetrics names the family, Prometheus the samples, and has neither units nor a kind for information.
fn head(text: &mut String, format: Format, name: &str, kind: Kind, unit: &str, help: &str) {
    let (name, kind) = match (format, kind) {
        (Format::Prometheus, Kind::Counter) => (format!("{name}_total"), "counter"),
        (Format::Prometheus, Kind::Info) => (format!("{name}_info"), "gauge"),
        (Format::OpenMetrics, Kind::Counter) => (name.to_owned(), "counter"),
        (Format::OpenMetrics, Kind::Info) => (name.to_owned(), "info"),
        (Format::Prometheus | Format::OpenMetrics, Kind::Gauge) => (name.to_owned(), "gauge"),
    };
    let _ = writeln!(text, "# HELP {name} {help}");
    let _ = writeln!(text, "# TYPE {name} {kind}");
    if format == Format::OpenMetrics && !unit.is_empty() {
        let _ = writeln!(text, "# UNIT {name} {unit}");
    }
}

fn line(text: &mut String, name: &str, value: f64) {
    let _ = writeln!(text, "{name} {value}");
}

/// A label's value.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// What its present life has used.
fn now(instance: &Instance) -> Option<&Usage> {
    instance.state.is_up().then_some(&instance.usage)
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

#[cfg(test)]
mod tests {
    use super::super::interface::{Ceilings, Stack};
    use super::*;

    fn status() -> Status {
        let stack = Stack {
            name: "a \"b\"\\".into(),
            root: "/srv/shop".into(),
            procfile: "/srv/shop/Procfile".into(),
            manifest: "/srv/shop/lpm.toml".into(),
            pid: 4700,
            since: 1_795_568_523_000_000,
            version: "0.1.0".into(),
            state: "up".into(),
            tier: "full".into(),
            cgroup: None,
            socket: String::new(),
            processes: Vec::new(),
            ceilings: Ceilings::default(),
            usage: Usage::default(),
            journald: false,
        };
        let usage = Usage {
            memory_current: Some(1 << 20),
            memory_peak: Some(2 << 20),
            cpu_usec: Some(1_250_000),
            tasks: Some(3),
            oom_kills: Some(0),
            cpu_pressure: Some(12.5),
            io_read: Some(4096),
            io_written: Some(0),
            ..Usage::default()
        };
        let ceilings = Ceilings { memory_max: Some(64 << 20), cpu_quota: Some(1500), ..Ceilings::default() };
        let instance = |name: &str, state: &str| {
            let (process, _) = name.split_once('.').expect("a number");
            serde_json::from_value::<Instance>(serde_json::json!({
                "name": name, "process": process, "number": 1, "state": state, "since": 1_795_568_525_000_000u64,
                "started": 1_795_568_524_000_000u64, "invocation": 1, "restarts": 2, "leftovers": 0,
                "journald_direct": false, "pty": false, "restart": "no", "command": "x", "working_directory": "/",
                "ceilings": ceilings, "usage": usage,
            }))
            .expect("an instance")
        };
        // What a life has used that is over would make the next one's counters run backwards. What is not known to be
        // up is not up.
        let instances = vec![
            instance("web.1", "running"),
            instance("worker.1", "failed"),
            instance("clock.1", "in-a-way-not-known-here"),
        ];
        Status { stack, instances }
    }

    #[test]
    fn both_formats() {
        let of = |format| format!("==== {format:?}\n{}", metrics(&status(), format));
        let text = of(Format::Prometheus) + &of(Format::OpenMetrics);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/snapshots/metrics.txt");
        if std::env::vars().any(|(name, _)| name == "UPDATE_SNAPSHOTS") {
            return std::fs::write(path, text).expect("the snapshot can be written");
        }
        assert_eq!(text, std::fs::read_to_string(path).expect("a snapshot"));
    }
}
