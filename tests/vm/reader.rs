//! Reading limits back with cgroups-rs: another implementation than the one that wrote them.

use std::path::Path;

use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::hierarchies::V2;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;
use cgroups_rs::fs::{Cgroup, MaxValue};

use crate::cgroups::ROOT;

/// What a leaf is limited to.
#[derive(Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes.
    pub memory_max: i64,
    /// Bytes.
    pub memory_high: i64,
    /// µs.
    pub cpu_quota: i64,
    /// µs.
    pub cpu_period: u64,
    /// 1 to 10000.
    pub cpu_weight: u64,
    /// Processes and threads.
    pub tasks_max: i64,
}

/// The limits of the cgroup at `path`.
pub fn read(path: &Path) -> Limits {
    let relative = path.strip_prefix(ROOT).expect("it is below the root");
    let cgroup = Cgroup::load(Box::new(V2::new()), relative);
    let memory: &MemController = cgroup.controller_of().expect("it has memory");
    let cpu: &CpuController = cgroup.controller_of().expect("it has cpu");
    let tasks: &PidController = cgroup.controller_of().expect("it has pids");
    let number = |value: Option<MaxValue>| match value {
        Some(MaxValue::Value(number)) => number,
        other => panic!("no number: {other:?}"),
    };
    let mem = memory.get_mem().expect("it can be read");
    Limits {
        memory_max: number(mem.max),
        memory_high: number(mem.high),
        cpu_quota: cpu.cfs_quota().expect("it can be read"),
        cpu_period: cpu.cfs_period().expect("it can be read"),
        cpu_weight: cpu.shares().expect("it can be read"),
        tasks_max: number(Some(tasks.get_pid_max().expect("it can be read"))),
    }
}
