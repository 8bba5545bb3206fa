//! Why a life failed, in words: what its end means, and what else there is to know about it.
//!
//! The meanings are those that hold for any program: signal(7), the shell's own exit codes (126, 127, 128 and above:
//! POSIX, "Exit Status for Commands") and sysexits.h. What a language or a program means by 1, 2 or 3 is for it to
//! say, and stands in its last lines. Pure: values in, text out.

use super::announce::{self, cannot_start, counted, tasks_ceiling, which_ceiling};
use crate::config::quantity::{format_duration, format_size};
use crate::config::{Instance, Signal, Stack};
use crate::supervisor::{Broken, Crash, Exit, FailureKind, KILL_PATIENCE, Outcome, policy};

/// Why a life failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `terminated by SIGSEGV: invalid memory access, core dumped`.
    pub words: String,
    /// What else is worth knowing, and what may be tried next.
    pub notes: Vec<String>,
    /// The command that was not found, if that is what went wrong.
    pub missing: Option<String>,
}

/// `instance` and `stack` as this life had them; `missing`: the command that a shell said it could not find.
pub fn cause(crash: &Crash, instance: &Instance, stack: &Stack, missing: Option<String>) -> Cause {
    let mut notes = Vec::new();
    let (words, missing) = match &crash.how {
        Broken::NotStarted(failure) => {
            let missing = (failure.kind == FailureKind::NotFound).then(|| announce::program(instance));
            (cannot_start(instance, stack, failure), missing)
        }
        Broken::NotStopped => (not_stopped(crash, instance), None),
        Broken::NotKilled => (format!("not gone {} after SIGKILL", format_duration(KILL_PATIENCE)), None),
        Broken::Exited(exit) => exited(crash, *exit, instance, stack, missing),
    };
    if let (Broken::Exited(Exit::Signal { core: true, .. }), Some(pid)) = (&crash.how, crash.pid) {
        notes.push(format!("coredumpctl info {pid} tells of the core, if systemd-coredump keeps them"));
    }
    if crash.usage.tasks_refused > 0 {
        let forks = counted(crash.usage.tasks_refused, "fork", "forks");
        notes.push(format!("its tasks limit {} refused {forks}", tasks_ceiling(instance, stack)));
    }
    if crash.outcome == Outcome::StartLimitHit {
        let restart = &instance.policy.restart;
        let interval = format_duration(restart.interval);
        notes.push(format!("start-limit-hit: started {} times within {interval}", restart.burst));
    }
    Cause { words, notes, missing }
}

fn not_stopped(crash: &Crash, instance: &Instance) -> String {
    let (signal, timeout) = (instance.policy.stop_signal, format_duration(instance.policy.timeout_stop));
    match crash.pid {
        Some(_) => format!("not gone {timeout} after {signal}, and killed"),
        None => format!("what it had left behind was not gone {timeout} after {signal}, and was killed"),
    }
}

fn exited(
    crash: &Crash,
    exit: Exit,
    instance: &Instance,
    stack: &Stack,
    missing: Option<String>,
) -> (String, Option<String>) {
    let how = announce::exit(exit);
    if policy::outcome_unasked(exit, &crash.usage) == Outcome::OomKill {
        let peak =
            crash.usage.memory_peak.map_or(String::new(), |peak| format!(", peak {}", format_size(peak)));
        return (format!("oom-kill: {}{peak} ({how})", which_ceiling(instance, stack)), None);
    }
    match exit {
        Exit::Code(127) => {
            let what = match &missing {
                Some(name) => format!("{name} was not found"),
                None => "as a shell reports a command that it does not find".to_owned(),
            };
            (format!("{how}: {what}"), missing)
        }
        Exit::Code(code) => match code_meaning(code) {
            Some(meaning) => (format!("{how}: {meaning}"), None),
            None => (how, None),
        },
        Exit::Signal { signal, core } => {
            let core = if core { ", core dumped" } else { "" };
            match signal_meaning(signal) {
                Some(meaning) => (format!("{how}: {meaning}{core}"), None),
                None => (format!("{how}{core}"), None),
            }
        }
    }
}

/// What an exit code means, where it means the same for everybody.
fn code_meaning(code: u8) -> Option<String> {
    let sysexits = |what: &str, name: &str| Some(format!("{what} ({name} of sysexits.h)"));
    match code {
        64 => sysexits("wrong command line", "EX_USAGE"),
        65 => sysexits("wrong input data", "EX_DATAERR"),
        66 => sysexits("cannot open input", "EX_NOINPUT"),
        67 => sysexits("unknown user", "EX_NOUSER"),
        68 => sysexits("unknown host", "EX_NOHOST"),
        69 => sysexits("a service is unavailable", "EX_UNAVAILABLE"),
        70 => sysexits("an internal error", "EX_SOFTWARE"),
        71 => sysexits("a system error", "EX_OSERR"),
        72 => sysexits("a system file is missing", "EX_OSFILE"),
        73 => sysexits("cannot create output", "EX_CANTCREAT"),
        74 => sysexits("input/output error", "EX_IOERR"),
        75 => sysexits("a failure that may pass", "EX_TEMPFAIL"),
        76 => sysexits("a protocol error", "EX_PROTOCOL"),
        77 => sysexits("permission denied", "EX_NOPERM"),
        78 => sysexits("wrong configuration", "EX_CONFIG"),
        126 => Some("as a shell reports a command that it cannot execute".to_owned()),
        129..=192 => {
            let signal = Signal(i32::from(code) - 128);
            let meaning = signal_meaning(signal).map_or(String::new(), |meaning| format!(", {meaning}"));
            Some(format!("as a shell reports {signal}{meaning}"))
        }
        _ => None,
    }
}

/// What a signal that ended a process means.
fn signal_meaning(signal: Signal) -> Option<&'static str> {
    Some(match signal.name()?.as_str() {
        "HUP" | "INT" | "QUIT" | "TERM" => "asked to end, but not by a stop of lpm's",
        "ILL" => "invalid machine instruction",
        "TRAP" => "a breakpoint or a trap of its own",
        "ABRT" => "it aborted itself, as after a failed assertion",
        "BUS" => "access beyond the end of a mapped file, or misaligned",
        "FPE" => "arithmetic error, such as a division by zero",
        "KILL" => "killed, and not by lpm: perhaps the kernel's OOM killer outside of the limits",
        "SEGV" => "invalid memory access",
        "PIPE" => "it wrote where nobody reads any more",
        "ALRM" => "a timer of its own that it does not handle",
        "XCPU" => "its limit of processor time (ulimit -t)",
        "XFSZ" => "its limit of file size (ulimit -f)",
        "SYS" => "a forbidden system call (seccomp)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Ceiling, Given, Machine, Options, Sources, Text, load};
    use crate::supervisor::{Failure, Next, Stage, Usage};

    fn stack(mem: &[&str], tasks: &[&str]) -> Stack {
        let given = |option, words: &[&str]| match words {
            [] => Given::default(),
            words => Given::new(option, words.iter().copied()),
        };
        let sources = Sources {
            procfile: Text::new("Procfile", "web: gunicron --fast"),
            env_files: Vec::new(),
            manifest: None,
            environment: Vec::new(),
            root: "/srv/app".into(),
            options: Options::default()
                .giving("mem", given("--mem", mem))
                .giving("tasks", given("--tasks", tasks)),
            machine: Machine { memory: 8 << 30, cpus: 2, pid_max: 32_768 },
            socket: None,
        };
        load(&sources).expect("a valid Procfile").stack
    }

    fn crash(how: Broken, outcome: Outcome, usage: Usage) -> Crash {
        Crash {
            invocation: 1,
            how,
            outcome,
            pid: Some(4711),
            started: Duration::ZERO,
            at: Duration::from_secs(1),
            usage,
            restarts: 0,
            left: 0,
            next: Next::StackEnds,
        }
    }

    fn of(crash: &Crash, stack: &Stack, missing: Option<&str>) -> Cause {
        cause(crash, &stack.instances[0], stack, missing.map(str::to_owned))
    }

    fn exits(exit: Exit) -> Cause {
        let usage = Usage::default();
        let crash = crash(Broken::Exited(exit), policy::outcome_unasked(exit, &usage), usage);
        of(&crash, &stack(&[], &[]), None)
    }

    fn code(code: u8) -> String {
        exits(Exit::Code(code)).words
    }

    fn signal(number: i32) -> String {
        exits(Exit::Signal { signal: Signal(number), core: false }).words
    }

    #[test]
    fn codes_that_mean_the_same_for_everybody() {
        assert_eq!(code(3), "exited with code 3");
        assert_eq!(code(78), "exited with code 78: wrong configuration (EX_CONFIG of sysexits.h)");
        assert_eq!(code(126), "exited with code 126: as a shell reports a command that it cannot execute");
        assert_eq!(code(127), "exited with code 127: as a shell reports a command that it does not find");
        assert_eq!(code(139), "exited with code 139: as a shell reports SIGSEGV, invalid memory access");
        assert_eq!(code(151), "exited with code 151: as a shell reports SIGURG");
        assert_eq!(code(200), "exited with code 200");
        assert_eq!(code(63), "exited with code 63");
        assert_eq!(code(79), "exited with code 79");
    }

    #[test]
    fn signals_and_cores() {
        assert_eq!(signal(11), "terminated by SIGSEGV: invalid memory access");
        assert_eq!(
            signal(9),
            "terminated by SIGKILL: killed, and not by lpm: perhaps the kernel's OOM killer outside of the limits"
        );
        assert_eq!(signal(10), "terminated by SIGUSR1");
        let dumped = exits(Exit::Signal { signal: Signal(6), core: true });
        assert_eq!(
            dumped.words,
            "terminated by SIGABRT: it aborted itself, as after a failed assertion, core dumped"
        );
        assert_eq!(dumped.notes, ["coredumpctl info 4711 tells of the core, if systemd-coredump keeps them"]);
    }

    #[test]
    fn an_oom_kill_names_ceiling_and_peak() {
        let exit = Exit::Signal { signal: Signal(9), core: false };
        let usage = Usage { oom_kills: 1, memory_peak: Some(64 << 20), ..Usage::default() };
        let crash = crash(Broken::Exited(exit), Outcome::OomKill, usage);
        let words = |stack: &Stack| of(&crash, stack, None).words;
        assert_eq!(
            words(&stack(&["web=64M"], &[])),
            "oom-kill: memory limit 64M reached, peak 64M (terminated by SIGKILL)"
        );
        let mut together = stack(&[], &[]);
        together.ceilings.memory_max = Some(Ceiling::At(1 << 30));
        assert_eq!(
            words(&together),
            "oom-kill: the stack's memory limit 1G reached, peak 64M (terminated by SIGKILL)"
        );
        assert_eq!(words(&stack(&[], &[])), "oom-kill: out of memory, peak 64M (terminated by SIGKILL)");
    }

    #[test]
    fn a_missing_command_is_named() {
        let failure = Failure {
            stage: Stage::Program,
            reason: "No such file or directory".into(),
            kind: FailureKind::NotFound,
        };
        let stack = stack(&[], &[]);
        let direct =
            of(&crash(Broken::NotStarted(failure), Outcome::Resources, Usage::default()), &stack, None);
        assert_eq!(direct.words, "cannot start: gunicron: command not found");
        assert_eq!(direct.missing.as_deref(), Some("gunicron"));
        let exit = Broken::Exited(Exit::Code(127));
        let shell = of(&crash(exit, Outcome::ExitCode, Usage::default()), &stack, Some("gunicron"));
        assert_eq!(shell.words, "exited with code 127: gunicron was not found");
        assert_eq!(shell.missing.as_deref(), Some("gunicron"));
    }

    #[test]
    fn limits_of_time_starts_and_tasks() {
        let usage = Usage { tasks_refused: 3, ..Usage::default() };
        let exit = Broken::Exited(Exit::Code(6));
        let cause = of(&crash(exit, Outcome::StartLimitHit, usage), &stack(&[], &["web=20"]), None);
        assert_eq!(cause.words, "exited with code 6");
        assert_eq!(
            cause.notes,
            ["its tasks limit 20 refused 3 forks", "start-limit-hit: started 5 times within 10s"]
        );
        let mut slow = crash(Broken::NotStopped, Outcome::Timeout, Usage::default());
        assert_eq!(of(&slow, &stack(&[], &[]), None).words, "not gone 5s after SIGTERM, and killed");
        slow.pid = None;
        assert_eq!(
            of(&slow, &stack(&[], &[]), None).words,
            "what it had left behind was not gone 5s after SIGTERM, and was killed"
        );
    }
}
