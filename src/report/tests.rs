//! Reports of a small run, as a page and as data, and of unusual runs.

use std::path::PathBuf;

use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::chart::{Span, elapsed, escaped};
use super::*;

/// `Wed 2026-11-25 01:02:03 UTC`
const BEGAN: u64 = 1_795_568_523_000_000;
const SECOND: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

fn event(at: u64, kind: &str, instance: Option<&str>, message: &str, result: Option<&str>) -> Event {
    Event {
        sequence: at,
        time: BEGAN + at * SECOND / 10,
        event: kind.into(),
        instance: instance.map(str::to_owned),
        message: message.into(),
        pid: None,
        exit_code: None,
        signal: None,
        result: result.map(Into::into),
        usage: None,
        ceilings: None,
        cause: result.filter(|result| *result == "oom-kill").map(|_| "killed at its memory limit".to_owned()),
        trace: None,
    }
}

/// One that is killed at its ceiling and starts again, and one that ends well.
fn run() -> Report {
    let steps = 24;
    let at = |n: u64| BEGAN + n * SECOND;
    let instance = |name: &str, command: &str, series: Series, summary: Summary| Instance {
        name: name.into(),
        process: name.split('.').next().unwrap_or_default().into(),
        command: command.into(),
        ceilings: Ceilings::default(),
        series,
        summary,
    };
    let ramp = |n: u64| if n == 12 { None } else { Some(n % 13 * 5 * MIB + MIB) };
    let worker = Series {
        memory: (0..steps).map(ramp).collect(),
        cpu_usec: (0..steps).map(|n| if n == 12 { None } else { Some(n % 13 * 400_000) }).collect(),
        tasks: (0..steps).map(|n| (n != 12).then_some(3)).collect(),
        lines: (0..steps).map(|n| n * n).collect(),
    };
    let web = Series {
        memory: vec![None; steps as usize],
        cpu_usec: (0..steps).map(|n| Some(n * 1000)).collect(),
        tasks: vec![Some(1); steps as usize],
        lines: vec![0; steps as usize],
    };
    let mut one = instance(
        "worker.1",
        "bin/worker \"<all>\"",
        worker.clone(),
        Summary {
            result: Some("signal".into()),
            ended: "SIGTERM".into(),
            failure: Some("not gone 5s after SIGTERM, and killed".into()),
            starts: 2,
            restarts: 1,
            cpu_usec: 9_300_000,
            memory_peak: Some(64 * MIB),
            oom_kills: 1,
            lines: 529,
            bytes: 40_000,
            ..Summary::default()
        },
    );
    one.ceilings.memory_max = Some(64 * MIB);
    one.ceilings.cpu_quota = Some(500);
    let two = instance(
        "web.1",
        "bin/web",
        web,
        Summary {
            result: Some("success".into()),
            ended: "code 0".into(),
            starts: 1,
            cpu_usec: 23_000,
            ..Summary::default()
        },
    );
    Report {
        version: 1,
        stack: "shop & <co>".into(),
        lpm: "0.1.0".into(),
        tier: "full".into(),
        began: BEGAN,
        ended: BEGAN + 24 * SECOND,
        exit_code: 143,
        ceilings: Ceilings { memory_max: Some(1 << 30), ..Ceilings::default() },
        times: (0..steps).map(at).collect(),
        total: worker,
        instances: vec![one, two],
        events: vec![
            event(1, "started", Some("worker.1"), "started with pid 71", None),
            event(2, "started", Some("web.1"), "started with pid 72", None),
            event(120, "ended", Some("worker.1"), "terminated by SIGKILL", Some("oom-kill")),
            event(120, "restart-in", Some("worker.1"), "restarting in 1s (restart 1)", None),
            event(130, "started", Some("worker.1"), "started with pid 73", None),
            event(180, "ended", Some("web.1"), "exited with code 0", Some("success")),
            event(230, "stopping-all", None, "sending SIGTERM to all \x1b[2Jprocesses", None),
            event(239, "ended", Some("worker.1"), "terminated by SIGTERM", Some("signal")),
        ],
        events_missed: 2,
    }
}

#[track_caller]
fn snapshot(name: &str, came: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/report/snapshots").join(name);
    if std::env::vars().any(|(name, _)| name == "UPDATE_SNAPSHOTS") {
        return std::fs::write(path, came).expect("the snapshot can be written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == came, "{name} is not what it was (UPDATE_SNAPSHOTS=1 writes it anew)\n{came}");
}

#[test]
fn a_run_is_a_page_and_data() {
    let run = run();
    let page = html(&run, &TimeZone::UTC);
    snapshot("run.html", &page);
    snapshot("run.json", &json(&run));
    holds(&page);
    assert!(page.contains("shop &amp; &lt;co&gt;") && page.contains(r"all \x1b[2Jprocesses"), "{page}");
}

/// What holds for every page.
#[track_caller]
fn holds(page: &str) {
    for forbidden in ["<script", "http:", "https:", "NaN", "inf", "\x1b"] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
    for tag in ["svg", "table", "section", "details", "figure"] {
        let (opened, closed) =
            (page.matches(&format!("<{tag}")).count(), page.matches(&format!("</{tag}>")).count());
        assert_eq!(opened, closed, "{tag}");
    }
}

#[test]
fn a_run_that_was_over_at_once_has_a_page() {
    let nothing = Report {
        ended: BEGAN,
        times: Vec::new(),
        total: Series::default(),
        instances: Vec::new(),
        events: Vec::new(),
        ..run()
    };
    let page = html(&nothing, &TimeZone::UTC);
    holds(&page);
    assert!(page.contains("over before it was looked at"), "{page}");
}

#[test]
fn a_large_run_is_a_page_that_can_be_sent() {
    let mut large = run();
    let one = large.instances[0].clone();
    large.times = (0..600).map(|n| BEGAN + n * 40_000).collect();
    let series = Series {
        memory: (0..600).map(|n| Some(n * 77_777 % (64 * MIB))).collect(),
        cpu_usec: (0..600).map(|n| Some(n * n * 10)).collect(),
        tasks: vec![Some(2); 600],
        lines: (0..600).map(|n| n * 7).collect(),
    };
    large.instances = (0..100)
        .map(|n| super::Instance { name: format!("web.{n}"), series: series.clone(), ..one.clone() })
        .collect();
    let page = html(&large, &TimeZone::UTC);
    holds(&page);
    assert!(page.len() < 2 << 20, "{} bytes", page.len());
}

#[test]
fn time_is_marked_where_people_expect_it() {
    let span = |seconds: u64| Span { from: 0, to: seconds * SECOND };
    let marks = |seconds: u64| {
        let ticks = span(seconds).ticks(10);
        ticks.iter().map(|tick| elapsed(*tick, span(seconds))).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(marks(4), "0 s 0.5 s 1 s 1.5 s 2 s 2.5 s 3 s 3.5 s 4 s");
    assert_eq!(marks(95), "0:00 0:10 0:20 0:30 0:40 0:50 1:00 1:10 1:20 1:30");
    assert_eq!(marks(3600), "0:00 10:00 20:00 30:00 40:00 50:00 1:00:00");
    assert_eq!(span(40 * 86_400).ticks(10).len(), 9, "in days");
    assert_eq!(Span { from: 5, to: 0 }.ticks(10)[0], 0, "a clock that was set back");
}

#[test]
fn markup_is_text() {
    assert_eq!(escaped("<a href='x'>\"&\"\x07é"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;\\x07é");
}

proptest! {
    #[test]
    fn whatever_was_counted_there_is_a_page(
        times in prop::collection::vec(any::<u64>(), 0..40),
        values in prop::collection::vec(prop::option::of(any::<u64>()), 0..40),
        lines in prop::collection::vec(any::<u64>(), 0..40),
        ended in any::<u64>(),
        ceiling in prop::option::of(any::<u64>()),
        at in prop::collection::vec(any::<u64>(), 8),
    ) {
        let mut odd = run();
        let series = Series { memory: values.clone(), cpu_usec: values.clone(), tasks: values, lines };
        (odd.times, odd.ended, odd.total) = (times, ended, series.clone());
        odd.instances[0].series = series;
        odd.instances[0].ceilings.memory_max = ceiling;
        odd.events.iter_mut().zip(at).for_each(|(event, at)| event.time = at);
        holds(&html(&odd, &TimeZone::UTC));
    }
}
