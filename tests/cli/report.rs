//! `--report`: the run as a picture, and as data.

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;

use crate::stack::Stack;

#[test]
fn a_run_is_recorded() {
    let stack = Stack::with("report", "web: echo one; echo two; sleep 0.5; exit 3\nworker: sleep 0.2\n")
        .file(
            "lpm.toml",
            "[defaults]\ncan-die = true\n[process.web]\nrestart = \"on-failure\"\nstart-limit-burst = 2\n",
        );
    stack.runs(&["start", "--report", "run.json"]).with_code(3);
    let text = std::fs::read_to_string(stack.path().join("run.json")).expect("a report");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((&report["exit_code"], &report["instances"][0]["name"]), (&3.into(), &"web.1".into()));
    let looks = report["times"].as_array().expect("times").len();
    assert!(looks >= 2, "{report}");
    let web = &report["instances"][0];
    for series in ["memory", "cpu_usec", "tasks", "lines"] {
        assert_eq!(web["series"][series].as_array().map(Vec::len), Some(looks), "{series}");
        assert_eq!(report["total"][series].as_array().map(Vec::len), Some(looks), "{series}");
    }
    let summary = &web["summary"];
    assert_eq!(
        (&summary["starts"], &summary["lines"], &summary["bytes"]),
        (&2.into(), &4.into(), &16.into())
    );
    let events: Vec<&str> = report["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect();
    assert_eq!(events.iter().filter(|event| **event == "started").count(), 3, "{events:?}");
    assert!(events.contains(&"restart-in") && events.contains(&"ended"), "{events:?}");

    std::fs::write(stack.path().join("run.html"), "what was there ".repeat(100_000)).expect("ours");
    stack.runs(&["start", "--report", "run.html"]).with_code(3);
    let page = std::fs::read_to_string(stack.path().join("run.html")).expect("a report");
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"), "{page}");
    assert!(
        page.contains("exit code 3") && page.contains("web.1") && !page.contains("what was there"),
        "{page}"
    );
}

#[test]
fn a_report_that_cannot_be_written_is_found_in_time() {
    let stack = Stack::with("report-none", "web: touch ran\n");
    let ended = stack.runs(&["start", "--report", "none/run.html"]).with_code(1);
    let expected = "lpm: DIR/none/run.html: the report cannot be written: No such file or directory\n";
    assert_eq!(stack.normal(&ended.err), expected);
    assert!(!stack.path().join("ran").exists());
}

#[test]
fn a_report_that_hangs_holds_up_no_client_for_long() {
    let stack = Stack::with("hanging-report", "a: echo up; exec sleep 1000\n");
    let path = stack.path().join("report.json");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
    // It is open and full, and not read.
    let held = std::fs::File::options().read(true).write(true).open(&path).expect("ours");
    rustix::io::ioctl_fionbio(&held, true).expect("a pipe");
    while rustix::io::write(&held, &[0; 4096]).is_ok() {}
    let mut run = stack.lpm(&["start", "--report", "report.json"]).pipes();
    run.wait_for(" | up");
    stack.tells(&["down"]).with_code(0);
    let ended = run.ends().with_code(0);
    assert!(ended.err.contains("the report is not written after 5 s"), "{}", ended.err);
}
