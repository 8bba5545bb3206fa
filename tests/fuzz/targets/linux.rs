//! Files of the kernel and of other lpm processes. What is in /proc may come from a FUSE file system (lxcfs) or from
//! another kernel's imitation (gVisor), and names in it are the processes' own.

use std::path::Path;

use lpm::claim::Record;
use lpm::linux::cgroup::{Mount, Own, pids, value};
use lpm::linux::descendants::Descendant;
use lpm::linux::gauge;
use lpm::linux::handover::Likeness;

/// mountinfo, `/proc/PID/cgroup`, flat keyed files, lists of processes.
pub fn cgroup(bytes: &[u8]) {
    if let Some(mount) = Mount::parse(bytes) {
        for cgroup in ["/", "/a/b", "/..", "/../a"] {
            if let Some(found) = mount.locate(Path::new(cgroup)) {
                assert!(found.starts_with(&mount.point), "{found:?} lies outside {mount:?}");
            }
        }
        if let Own::At(path) = Own::parse(bytes) {
            let _ = mount.locate(&path);
        }
    }
    let _ = Own::parse(bytes);
    let _ = (value(bytes, "populated"), value(bytes, ""));
    assert!(pids(bytes).is_sorted_by(|a, b| a.as_raw_pid() < b.as_raw_pid()));
    let text = String::from_utf8_lossy(bytes);
    let _ = (gauge::keyed(&text, "anon"), gauge::summed(&text, "rbytes="));
}

/// `/proc/PID/stat`.
pub fn stat(bytes: &[u8]) {
    let _ = Descendant::parse(bytes);
}

/// The record of a running stack.
pub fn record(bytes: &[u8]) {
    if let Some(record) = Record::parse(bytes) {
        let text = serde_json::to_vec(&record).expect("its paths are text");
        assert_eq!(Record::parse(&text), Some(record));
    }
}

/// What a detached lpm is handed over.
pub fn handover(bytes: &[u8]) {
    if let Some(likeness) = Likeness::decode(bytes) {
        assert_eq!(Likeness::decode(&likeness.encode()), Some(likeness));
    }
}
