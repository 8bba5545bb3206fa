//! From the kernel's words to the core's.

use crate::config::{Ceilings, Signal};
use crate::linux::{cgroup, pidfd, steps};
use crate::supervisor::{Exit, Stage, Usage};

/// How a main process ended.
pub(super) fn exit(exit: pidfd::Exit) -> Exit {
    match exit {
        pidfd::Exit::Code(code) => Exit::Code(code),
        pidfd::Exit::Signal { signal, core } => Exit::Signal { signal: Signal(signal), core },
    }
}

/// The step of a birth that failed.
pub(super) fn stage(stage: steps::Stage) -> Stage {
    match stage {
        steps::Stage::Clone => Stage::Process,
        steps::Stage::Cgroup => Stage::Cgroup,
        steps::Stage::Session => Stage::Session,
        steps::Stage::Terminal => Stage::ControllingTerminal,
        steps::Stage::Stdio => Stage::Stdio,
        steps::Stage::Directory => Stage::Directory,
        steps::Stage::Attribute(name) => Stage::Attribute(name.to_owned()),
        steps::Stage::Signals => Stage::Signals,
        steps::Stage::Exec => Stage::Program,
        steps::Stage::Killed => Stage::Killed,
    }
}

/// What a leaf used.
pub(super) fn usage(usage: &cgroup::Usage) -> Usage {
    Usage {
        cpu_usec: usage.cpu_usec.unwrap_or(0),
        throttled_usec: usage.throttled_usec,
        memory_peak: usage.memory_peak,
        oom_kills: usage.oom_kills.unwrap_or(0),
        tasks_refused: usage.tasks_limit_hits.unwrap_or(0),
    }
}

/// The files that notify when one of these ceilings is felt while the instance lives on (cgroup-v2.rst). An OOM
/// kill takes the whole instance, so its obituary tells of it. A leaf without a ceiling is not watched: each
/// watch is a descriptor.
pub(super) fn felt(ceilings: &Ceilings) -> Option<&'static str> {
    ceilings.tasks_max.is_some().then_some("pids.events")
}
