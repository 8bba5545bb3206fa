//! Ceilings as the kernel wants them: which file of a cgroup gets which text, and whose controller it is.

use crate::config::{Ceiling, Ceilings};

/// One line to be written into one file of a cgroup (cgroup-v2.rst).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Without this controller the file does not exist.
    pub controller: &'static str,
    /// The file's name.
    pub file: &'static str,
    /// What goes in.
    pub value: String,
}

/// The period of `cpu.max`, µs; the kernel's default.
const CPU_PERIOD: u64 = 100_000;

/// The settings that enforce `ceilings`, in the order they are to be written.
pub fn settings(ceilings: &Ceilings) -> Vec<Setting> {
    let plain = |ceiling: Ceiling| match ceiling {
        Ceiling::At(value) => value.to_string(),
        Ceiling::Infinity => "max".to_owned(),
    };
    let cpu = |ceiling: Ceiling| match ceiling {
        // The kernel refuses less than 1 ms of quota.
        Ceiling::At(thousandths) => {
            format!("{} {CPU_PERIOD}", (thousandths * (CPU_PERIOD / 1000)).max(1000))
        }
        Ceiling::Infinity => format!("max {CPU_PERIOD}"),
    };
    let all = [
        ("memory", "memory.high", ceilings.memory_high.map(plain)),
        ("memory", "memory.max", ceilings.memory_max.map(plain)),
        ("memory", "memory.swap.max", ceilings.memory_swap_max.map(plain)),
        ("cpu", "cpu.max", ceilings.cpu_quota.map(cpu)),
        ("cpu", "cpu.weight", ceilings.cpu_weight.map(|weight| weight.to_string())),
        ("pids", "pids.max", ceilings.tasks_max.map(plain)),
    ];
    let set = |(controller, file, value): (_, _, Option<String>)| {
        value.map(|value| Setting { controller, file, value })
    };
    all.into_iter().filter_map(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ceilings: &Ceilings) -> Vec<String> {
        settings(ceilings).iter().map(|set| format!("{}={}", set.file, set.value)).collect()
    }

    #[test]
    fn no_ceiling_writes_nothing() {
        assert!(settings(&Ceilings::default()).is_empty());
    }

    #[test]
    fn every_ceiling_has_its_file() {
        let ceilings = Ceilings {
            memory_max: Some(Ceiling::At(512 << 20)),
            memory_high: Some(Ceiling::Infinity),
            memory_swap_max: Some(Ceiling::At(0)),
            cpu_quota: Some(Ceiling::At(1500)),
            cpu_weight: Some(50),
            tasks_max: Some(Ceiling::At(64)),
        };
        let expected = [
            "memory.high=max",
            "memory.max=536870912",
            "memory.swap.max=0",
            "cpu.max=150000 100000",
            "cpu.weight=50",
            "pids.max=64",
        ];
        assert_eq!(texts(&ceilings), expected);
    }

    #[test]
    fn a_tiny_share_of_a_cpu_is_rounded_up_to_what_the_kernel_takes() {
        let ceilings = Ceilings { cpu_quota: Some(Ceiling::At(1)), ..Ceilings::default() };
        assert_eq!(texts(&ceilings), ["cpu.max=1000 100000"]);
    }
}
