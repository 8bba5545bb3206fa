//! The words of lpm's own lines.
//!
//! foreman's wording, because scripts look for it (`started with pid`, `exited with code`, `terminated by`,
//! `sending SIGTERM to all processes`); what only lpm knows follows in parentheses. Pure: values in, text
//! without a newline out. How a line looks is `output::terminal`'s business.

use std::fmt::Write;

use crate::config::quantity::{format_cpu_time, format_duration, format_memory, format_size, format_tasks};
use crate::config::{Ceiling, Command, Instance, Stack};
use crate::supervisor::{
    Announcement, Exit, Failure, FailureKind, InstanceId, Intervention, Outcome, RestartReason, Stage, Usage,
};

/// Whose line an announcement is; `None`: lpm's own.
pub fn subject(announcement: &Announcement) -> Option<InstanceId> {
    match announcement {
        Announcement::Started { life, .. }
        | Announcement::CannotStart { life, .. }
        | Announcement::Ended { life, .. }
        | Announcement::LeftBehind { life, .. }
        | Announcement::Killing { life, .. }
        | Announcement::GivenUp { life }
        | Announcement::OomKill { life, .. }
        | Announcement::TasksRefused { life } => Some(life.instance),
        Announcement::RestartIn { instance, .. }
        | Announcement::StartLimitHit { instance }
        | Announcement::OnRequest { instance, .. }
        | Announcement::Removed { instance } => Some(*instance),
        Announcement::ShutDownRequested
        | Announcement::Interrupted(_)
        | Announcement::StoppingAll(_)
        | Announcement::KillingAll
        | Announcement::Forwarding(_)
        | Announcement::HangUpIgnored
        | Announcement::Suspended
        | Announcement::Resumed => None,
    }
}

/// Whether it says why a command failed that was run on its own; its exit code says the rest.
pub fn explains_a_bad_end(announcement: &Announcement) -> bool {
    match announcement {
        Announcement::CannotStart { .. }
        | Announcement::LeftBehind { .. }
        | Announcement::Killing { .. }
        | Announcement::GivenUp { .. }
        | Announcement::OomKill { .. }
        | Announcement::TasksRefused { .. } => true,
        Announcement::Ended { outcome, .. } => *outcome == Outcome::OomKill,
        Announcement::Started { .. }
        | Announcement::RestartIn { .. }
        | Announcement::StartLimitHit { .. }
        | Announcement::OnRequest { .. }
        | Announcement::Removed { .. }
        | Announcement::ShutDownRequested
        | Announcement::Interrupted(_)
        | Announcement::StoppingAll(_)
        | Announcement::KillingAll
        | Announcement::Forwarding(_)
        | Announcement::HangUpIgnored
        | Announcement::Suspended
        | Announcement::Resumed => false,
    }
}

/// What an announcement says.
pub fn wording(announcement: &Announcement, stack: &Stack) -> String {
    let of = |id: InstanceId| &stack.instances[id.0 as usize];
    match announcement {
        Announcement::Started { pid, .. } => format!("started with pid {pid}"),
        Announcement::CannotStart { life, failure } => cannot_start(of(life.instance), stack, failure),
        Announcement::Ended { life, exit, outcome, usage } => {
            ended(of(life.instance), stack, *exit, *outcome, usage)
        }
        Announcement::LeftBehind { count, signal, .. } => {
            let processes = counted(u64::from(*count), "process", "processes");
            format!(
                "left {processes} behind, sending {signal} to {}",
                if *count == 1 { "it" } else { "them" }
            )
        }
        Announcement::Killing { timeout, .. } => {
            format!("not gone after {}, sending SIGKILL", format_duration(*timeout))
        }
        Announcement::GivenUp { .. } => "not gone after SIGKILL; the stack does not wait for it".to_owned(),
        Announcement::OomKill { life, kills } => {
            let processes = counted(*kills, "process", "processes");
            format!("oom-kill: {}, {processes} killed", which_ceiling(of(life.instance), stack))
        }
        Announcement::TasksRefused { life } => {
            format!("tasks ceiling {} reached, forks are refused", tasks_ceiling(of(life.instance), stack))
        }
        Announcement::RestartIn { delay, restarts, why, .. } if delay.is_zero() => {
            format!("restarting (restart {restarts}, {})", restart_reason(*why))
        }
        Announcement::RestartIn { delay, restarts, why, .. } => {
            let delay = format_duration(*delay);
            format!("restarting in {delay} (restart {restarts}, {})", restart_reason(*why))
        }
        Announcement::StartLimitHit { instance } => {
            let restart = &of(*instance).policy.restart;
            let interval = format_duration(restart.interval);
            format!("started {} times within {interval}, not again (start-limit-hit)", restart.burst)
        }
        Announcement::OnRequest { what, .. } => on_request(*what),
        Announcement::Removed { .. } => "removed".to_owned(),
        Announcement::ShutDownRequested => "shutdown requested".to_owned(),
        Announcement::Interrupted(signal) => format!("{signal} received, starting shutdown"),
        Announcement::StoppingAll(Some(signal)) => format!("sending {signal} to all processes"),
        Announcement::StoppingAll(None) => "sending each process its stop signal".to_owned(),
        Announcement::KillingAll => "sending SIGKILL to all processes".to_owned(),
        Announcement::Forwarding(signal) => format!("{signal} received, forwarding it to all processes"),
        Announcement::HangUpIgnored if stack.log_files().is_empty() => {
            "SIGHUP received, nothing to reload".to_owned()
        }
        Announcement::HangUpIgnored => "SIGHUP received, log files are opened anew".to_owned(),
        Announcement::Suspended => "frozen; continue with fg or SIGCONT".to_owned(),
        Announcement::Resumed => "thawed".to_owned(),
    }
}

/// A log file takes no lines.
pub fn log_file_refuses(path: &str, reason: &str) -> String {
    format!("{path} cannot be written: {reason} (its lines are counted)")
}

/// It takes lines again.
pub fn log_file_recovered(path: &str, lines: u64) -> String {
    format!("{path} is written again, {} missing", counted(lines, "line is", "lines are"))
}

/// It cannot be opened.
pub fn log_file_not_opened(path: &str, reason: &str) -> String {
    format!("{path} cannot be opened: {reason}")
}

/// It is large or old enough for a new one, and stays.
pub fn log_file_not_put_aside(path: &str, reason: &str) -> String {
    format!("{path} cannot be put aside, it grows on: {reason}")
}

/// `waiting for web.1: 4711 (sleep 100), 4712 (cat)`; of many, the first few.
pub fn waiting_for(name: &str, processes: &[(u32, String)]) -> String {
    const SHOWN: usize = 5;
    let mut text = format!("waiting for {name}");
    for (at, (pid, command)) in processes.iter().take(SHOWN).enumerate() {
        let command: String =
            command.chars().map(|c| if c.is_control() { ' ' } else { c }).take(60).collect();
        let separator = if at == 0 { ":" } else { "," };
        write!(text, "{separator} {pid} ({command})").expect("a String takes everything");
    }
    match processes.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// How a main process ended, in foreman's words: `exited with code 3`, `terminated by SIGTERM`.
pub fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with code {code}"),
        Exit::Signal { signal, .. } => format!("terminated by {signal}"),
    }
}

/// Why something is, or was, started again: `after exit code 3`, `after SIGSEGV, core dumped`, `after oom-kill`,
/// `on request`.
pub fn restart_reason(why: RestartReason) -> String {
    match why {
        RestartReason::Requested => "on request".to_owned(),
        RestartReason::NotStarted => "after a failed start".to_owned(),
        RestartReason::Ended { outcome: Outcome::OomKill, .. } => "after oom-kill".to_owned(),
        RestartReason::Ended { exit: Exit::Code(code), .. } => format!("after exit code {code}"),
        RestartReason::Ended { exit: Exit::Signal { signal, core: true }, .. } => {
            format!("after {signal}, core dumped")
        }
        RestartReason::Ended { exit: Exit::Signal { signal, core: false }, .. } => format!("after {signal}"),
    }
}

/// What somebody does to an instance, as its line says it.
fn on_request(what: Intervention) -> String {
    match what {
        Intervention::Stop => "stopping on request".to_owned(),
        Intervention::Restart => "restarting on request".to_owned(),
        Intervention::Kill => "killing on request".to_owned(),
        Intervention::Signal(signal) => format!("sending {signal} on request"),
        Intervention::Freeze => "frozen on request".to_owned(),
        Intervention::Thaw => "thawed on request".to_owned(),
    }
}

fn ended(instance: &Instance, stack: &Stack, how: Exit, outcome: Outcome, usage: &Usage) -> String {
    let mut facts = Vec::new();
    match outcome {
        Outcome::OomKill => facts.push(format!("oom-kill: {}", which_ceiling(instance, stack))),
        Outcome::CoreDump => facts.push("core dumped".to_owned()),
        Outcome::Timeout => {
            facts.push(format!("not gone after {}", format_duration(instance.policy.timeout_stop)));
        }
        Outcome::Success
        | Outcome::ExitCode
        | Outcome::Signal
        | Outcome::StartLimitHit
        | Outcome::Resources => {}
    }
    if let Some(peak) = usage.memory_peak {
        facts.push(match instance.ceilings.memory_max {
            Some(ceiling @ Ceiling::At(_)) => {
                format!("memory peak {} of {}", format_size(peak), format_memory(ceiling))
            }
            Some(Ceiling::Infinity) | None => format!("memory peak {}", format_size(peak)),
        });
    }
    facts.push(format!("cpu {}", cpu_time(usage.cpu_usec)));
    if let Some(throttled) = usage.throttled_usec.filter(|&time| time > 0) {
        facts.push(format!("throttled {}", cpu_time(throttled)));
    }
    if usage.tasks_refused > 0 {
        let forks = counted(usage.tasks_refused, "fork", "forks");
        facts.push(format!("tasks ceiling {} reached, {forks} refused", tasks_ceiling(instance, stack)));
    }
    format!("{} ({})", exit(how), facts.join(", "))
}

/// The program that is executed for an instance.
pub(super) fn program(instance: &Instance) -> String {
    match &instance.command {
        Command::Shell(_) => "/bin/sh".to_owned(),
        Command::Direct { words, .. } => words.first().cloned().unwrap_or_default(),
        Command::Exec(words) => {
            words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
        }
    }
}

/// `cannot start: …`
pub(super) fn cannot_start(instance: &Instance, stack: &Stack, failure: &Failure) -> String {
    let program = program(instance);
    match (failure.kind, instance.ceilings.memory_max, stack.ceilings.memory_max) {
        (FailureKind::OutOfMemory, Some(ceiling @ Ceiling::At(_)), _) => {
            format!("cannot start: memory ceiling {} is too small", format_memory(ceiling))
        }
        (FailureKind::OutOfMemory, _, Some(ceiling @ Ceiling::At(_))) => {
            format!("cannot start: the stack's memory ceiling {} is too small", format_memory(ceiling))
        }
        (FailureKind::NotFound, ..) => format!("cannot start: {program}: command not found"),
        (
            FailureKind::OutOfMemory
            | FailureKind::NotExecutable
            | FailureKind::Passing
            | FailureKind::Cancelled,
            ..,
        ) => {
            let stage = match &failure.stage {
                Stage::Program => &program,
                stage => stage_name(stage),
            };
            format!("cannot start: {stage}: {}", failure.reason)
        }
    }
}

/// A step of a start, as people are told of it. That of the program is told by the program's name.
fn stage_name(stage: &Stage) -> &str {
    match stage {
        Stage::Order => "start",
        Stage::Cgroup => "cgroup",
        Stage::Limit(name) | Stage::Attribute(name) => name,
        Stage::Environment => "environment",
        Stage::NullDevice => "/dev/null",
        Stage::Pty => "terminal",
        Stage::Journal => "journal",
        Stage::OutputPipe => "output pipe",
        Stage::Process => "new process",
        Stage::Session => "session",
        Stage::ControllingTerminal => "controlling terminal",
        Stage::Stdio => "standard input and output",
        Stage::Directory => "working directory",
        Stage::Signals => "signals",
        Stage::Program => "program",
        Stage::Killed => "killed before it began",
    }
}

/// Which ceiling an OOM kill defended, as far as the settings tell.
pub(super) fn which_ceiling(instance: &Instance, stack: &Stack) -> String {
    match (instance.ceilings.memory_max, stack.ceilings.memory_max) {
        (Some(ceiling @ Ceiling::At(_)), _) => format!("memory ceiling {} reached", format_memory(ceiling)),
        (_, Some(ceiling @ Ceiling::At(_))) => {
            format!("the stack's memory ceiling {} reached", format_memory(ceiling))
        }
        _ => "out of memory".to_owned(),
    }
}

pub(super) fn tasks_ceiling(instance: &Instance, stack: &Stack) -> String {
    let ceiling = instance.ceilings.tasks_max.or(stack.ceilings.tasks_max);
    ceiling.map_or_else(|| "above lpm".to_owned(), format_tasks)
}

/// After a gap: lines that standard output refused.
pub fn lines_lost(lines: u64, reason: &str) -> String {
    format!("{} could not be written: {reason}", counted(lines, "line", "lines"))
}

/// After a gap: lpm's own lines that found no room while nobody read.
pub fn own_lines_dropped(lines: u64) -> String {
    format!("{} of lpm's own dropped while nobody read the output", counted(lines, "line", "lines"))
}

/// After a gap: invocations that came and went while nobody read.
pub fn unheard(invocations: u64) -> String {
    format!("output of {} dropped while nobody read it", counted(invocations, "process", "processes"))
}

/// `1 process`, `3 processes`.
pub fn processes(n: u32) -> String {
    counted(u64::from(n), "process", "processes")
}

pub(super) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Processor time: `3ms`, `1.24s`, `2min 5s`, `3h 20min`.
pub fn cpu_time(us: u64) -> String {
    format_cpu_time(us)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Given, Machine, Options, Signal, Sources, Text, load};
    use crate::supervisor::Life;

    fn stack(procfile: &str, mem: &str) -> Stack {
        let mem = if mem.is_empty() { Given::default() } else { Given::new("--mem", [mem]) };
        let sources = Sources {
            procfile: Text::new("Procfile", procfile),
            env_files: Vec::new(),
            manifest: None,
            environment: Vec::new(),
            root: "/srv/app".into(),
            options: Options::default().giving("mem", mem),
            machine: Machine { memory: 8 << 30, cpus: 2, pid_max: 32_768 },
            socket: None,
        };
        load(&sources).expect("a valid Procfile").stack
    }

    const LIFE: Life = Life { instance: InstanceId(0), invocation: 1 };

    fn say(announcement: Announcement) -> String {
        wording(&announcement, &stack("web: server --fast", "web=64M"))
    }

    #[test]
    fn foremans_words() {
        assert_eq!(say(Announcement::Started { life: LIFE, pid: 4711 }), "started with pid 4711");
        assert_eq!(exit(Exit::Code(3)), "exited with code 3");
        assert_eq!(exit(Exit::Signal { signal: Signal(15), core: false }), "terminated by SIGTERM");
        assert_eq!(say(Announcement::StoppingAll(Some(Signal(15)))), "sending SIGTERM to all processes");
        assert_eq!(say(Announcement::Interrupted(Signal(2))), "SIGINT received, starting shutdown");
    }

    #[test]
    fn the_facts_follow_in_parentheses() {
        let usage = Usage {
            cpu_usec: 1_240_000,
            throttled_usec: Some(300_000),
            memory_peak: Some(64 << 20),
            oom_kills: 1,
            tasks_refused: 0,
        };
        let exit = Exit::Signal { signal: Signal(9), core: false };
        let ended = Announcement::Ended { life: LIFE, exit, outcome: Outcome::OomKill, usage };
        assert_eq!(
            say(ended),
            "terminated by SIGKILL (oom-kill: memory ceiling 64M reached, memory peak 64M of 64M, cpu 1.24s, \
             throttled 300ms)"
        );
    }

    #[test]
    fn a_start_that_fails_says_what_and_why() {
        let failure = |stage, reason: &str, kind| Announcement::CannotStart {
            life: LIFE,
            failure: Failure { stage, reason: reason.into(), kind },
        };
        let missing = failure(Stage::Program, "No such file or directory", FailureKind::NotFound);
        assert_eq!(say(missing), "cannot start: server: command not found");
        let denied = failure(Stage::Program, "Permission denied", FailureKind::NotExecutable);
        assert_eq!(say(denied), "cannot start: server: Permission denied");
        let directory = failure(Stage::Directory, "No such file or directory", FailureKind::NotExecutable);
        assert_eq!(say(directory), "cannot start: working directory: No such file or directory");
        let limit = failure(Stage::Limit("pids.max".into()), "Invalid argument", FailureKind::NotExecutable);
        assert_eq!(say(limit), "cannot start: pids.max: Invalid argument");
        let small = failure(Stage::Program, "", FailureKind::OutOfMemory);
        assert_eq!(say(small), "cannot start: memory ceiling 64M is too small");
    }

    #[test]
    fn those_who_are_waited_for_are_named_within_bounds() {
        let processes: Vec<_> = (1..=7).map(|pid| (pid, format!("sleep\n{pid}"))).collect();
        assert_eq!(
            waiting_for("web.1", &processes),
            "waiting for web.1: 1 (sleep 1), 2 (sleep 2), 3 (sleep 3), 4 (sleep 4), 5 (sleep 5) and 2 more"
        );
        assert_eq!(waiting_for("web.1", &[]), "waiting for web.1");
    }

    #[test]
    fn leftovers_and_restarts() {
        let left = Announcement::LeftBehind { life: LIFE, count: 1, signal: Signal(15) };
        assert_eq!(say(left), "left 1 process behind, sending SIGTERM to it");
        let again = Announcement::RestartIn {
            instance: LIFE.instance,
            delay: Duration::from_millis(100),
            restarts: 2,
            why: RestartReason::Ended { exit: Exit::Code(3), outcome: Outcome::ExitCode },
        };
        assert_eq!(say(again), "restarting in 100ms (restart 2, after exit code 3)");
        let at_once = Announcement::RestartIn {
            instance: LIFE.instance,
            delay: Duration::ZERO,
            restarts: 1,
            why: RestartReason::Ended {
                exit: Exit::Signal { signal: Signal(11), core: true },
                outcome: Outcome::CoreDump,
            },
        };
        assert_eq!(say(at_once), "restarting (restart 1, after SIGSEGV, core dumped)");
    }

    #[test]
    fn the_reason_for_a_restart_is_short() {
        let ended = |exit, outcome| restart_reason(RestartReason::Ended { exit, outcome });
        let signal = |signal| Exit::Signal { signal: Signal(signal), core: false };
        assert_eq!(ended(Exit::Code(0), Outcome::Success), "after exit code 0");
        assert_eq!(ended(signal(9), Outcome::Signal), "after SIGKILL");
        // A shell whose child was killed says so by its code.
        assert_eq!(ended(Exit::Code(137), Outcome::OomKill), "after oom-kill");
        assert_eq!(ended(signal(9), Outcome::OomKill), "after oom-kill");
        assert_eq!(restart_reason(RestartReason::Requested), "on request");
    }

    #[test]
    fn what_somebody_else_does_is_said() {
        let told = |what| {
            let announcement = Announcement::OnRequest { instance: LIFE.instance, what };
            assert_eq!(subject(&announcement), Some(LIFE.instance));
            assert!(!explains_a_bad_end(&announcement));
            say(announcement)
        };
        assert_eq!(told(Intervention::Stop), "stopping on request");
        assert_eq!(told(Intervention::Restart), "restarting on request");
        assert_eq!(told(Intervention::Kill), "killing on request");
        assert_eq!(told(Intervention::Signal(Signal(1))), "sending SIGHUP on request");
        assert_eq!(told(Intervention::Freeze), "frozen on request");
        assert_eq!(told(Intervention::Thaw), "thawed on request");
        assert_eq!(say(Announcement::Removed { instance: LIFE.instance }), "removed");
        assert_eq!(say(Announcement::ShutDownRequested), "shutdown requested");
        assert_eq!(subject(&Announcement::ShutDownRequested), None);
    }

    #[test]
    fn gaps() {
        assert_eq!(
            lines_lost(1, "No space left on device"),
            "1 line could not be written: No space left on device"
        );
        assert_eq!(own_lines_dropped(2), "2 lines of lpm's own dropped while nobody read the output");
        assert_eq!(unheard(2), "output of 2 processes dropped while nobody read it");
    }

    #[test]
    fn times_are_short() {
        let times = [0, 999, 3_000, 1_240_000, 125_000_000, 12_000_000_000].map(cpu_time);
        assert_eq!(times, ["0ms", "0ms", "3ms", "1.24s", "2min 5s", "3h 20min"]);
    }
}
