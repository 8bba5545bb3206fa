//! What happens to a stack: the kinds of events, what is known of each kind, and the words that tell of one.
//!
//! All of it stands here, so that a new kind of event is a variant of [`Announcement`], the place in the core that
//! announces it, and this file; the compiler and the tests list what is missing. Clients, the journal and the report
//! match an [`EventKind`] by its [`Row`], never by its spelling.
//!
//! foreman's wording, because scripts look for it (`started with pid`, `exited with code`, `terminated by`,
//! `sending SIGTERM to all processes`); what only lpm knows follows in parentheses. Pure: values in, text without a
//! newline out.

use super::announce::{cannot_start, counted, cpu_time, exit, tasks_ceiling, which_ceiling};
use crate::config::quantity::{format_duration, format_memory, format_size};
use crate::config::{Ceiling, Instance, Signal, Stack};
use crate::supervisor::{Announcement, Exit, InstanceId, Intervention, Outcome, RestartReason, Usage};
use crate::vocabulary::vocabulary;

vocabulary! {
    /// What happened.
    pub enum EventKind {
        /// A life has its process.
        Started = "started",
        /// A life got no process.
        CannotStart = "cannot-start",
        /// The main process of a life is gone.
        Ended = "ended",
        /// It is gone, and others of the life are not.
        LeftBehind = "left-behind",
        /// A life did not end in time, and is killed.
        Killing = "killing",
        /// It could not be killed, and is not waited for.
        GivenUp = "given-up",
        /// A life that was given up is gone after all.
        Gone = "gone",
        /// The kernel killed processes at a memory limit, and the instance lives on.
        OomKill = "oom-kill",
        /// The kernel refused forks at a tasks limit.
        TasksRefused = "tasks-refused",
        /// The restart rule applies.
        RestartIn = "restart-in",
        /// The restart rule does not apply any more.
        StartLimitHit = "start-limit-hit",
        /// A client asked for something.
        Asked = "asked",
        /// An instance is no part of the stack any more.
        Removed = "removed",
        /// The stack, or an instance, is another one now.
        Configured = "configured",
        /// lpm was told to stop by a signal.
        Interrupted = "interrupted",
        /// All instances are asked to end.
        StoppingAll = "stopping-all",
        /// All instances are killed.
        KillingAll = "killing-all",
        /// A signal is passed on.
        Forwarding = "forwarding",
        /// SIGHUP had nothing to reload.
        HangUpIgnored = "hang-up-ignored",
        /// The stack stands still.
        Suspended = "suspended",
        /// It goes on.
        Resumed = "resumed",
    }
}

/// What is known of all events of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// How bad it is, for the journal.
    pub priority: Priority,
    /// How it looks to people.
    pub tone: Tone,
    /// What it is in the course of a life, or of the stack.
    pub turn: Turn,
    /// `MESSAGE_ID` in the journal; `units/lpm.catalog` explains it.
    pub message_id: Option<&'static str>,
}

/// Priorities of syslog(3) that events have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Something is broken.
    Error = 3,
    /// Something may be.
    Warning = 4,
    /// Worth a look.
    Notice = 5,
    /// As it should be.
    Info = 6,
}

/// How an event looks to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As any other.
    Plain,
    /// Something came up.
    Good,
    /// Something to keep an eye on.
    Uneasy,
    /// Something is wrong.
    Bad,
    /// Something stands still.
    Still,
}

/// What an event is in the course of a life, or of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// A life begins.
    Begins,
    /// A life ends before it began.
    NeverBegins,
    /// A life ends.
    Ends,
    /// The next life is waited for.
    Waits,
    /// The instance is taken out of the stack.
    Leaves,
    /// The kernel kills in the midst of a life.
    KernelKills,
    /// The end of the stack comes nearer.
    StackEnds,
    /// The text behind the stack changed; no line of lpm's tells of it.
    Changes,
    /// Something in between.
    Between,
}

impl EventKind {
    /// What is known of events of this kind. `failed`: of a life that did.
    pub fn row(&self, failed: bool) -> Row {
        use Priority::{Error, Info, Notice, Warning};
        use Tone::{Bad, Good, Plain, Still, Uneasy};
        use Turn::{Begins, Between, Changes, Ends, KernelKills, Leaves, NeverBegins, StackEnds, Waits};
        let (priority, tone, turn, message_id) = match self {
            EventKind::Started => (Info, Good, Begins, Some("db5b42db0ff74518a242d69d81db4df2")),
            EventKind::CannotStart => (Error, Bad, NeverBegins, Some("15bc9a2ec02e47d3a9e16d945a731788")),
            EventKind::Ended if failed => (Warning, Bad, Ends, Some("9bd06228363847c294f97066a386ee9c")),
            EventKind::Ended => (Info, Plain, Ends, Some("9bd06228363847c294f97066a386ee9c")),
            EventKind::LeftBehind => (Warning, Uneasy, Between, Some("cd4177fe7e2e49918f832e46ac490abc")),
            EventKind::Killing => (Warning, Uneasy, Between, Some("ad52670f1601468e9b2f44511745ae56")),
            EventKind::GivenUp => (Error, Bad, Between, Some("705b5e84e556454e84605d341adf17f1")),
            EventKind::Gone => (Notice, Good, Between, Some("58e54346ea3441b7aefeee7b5c300a7c")),
            EventKind::OomKill => (Error, Bad, KernelKills, Some("07e6df78ed124bbb8c3fb5157c7dc349")),
            EventKind::TasksRefused => (Warning, Uneasy, Between, Some("23fc814d43234a8aabc8ed5c19b90edc")),
            EventKind::RestartIn => (Notice, Uneasy, Waits, Some("6a1c7105699040798a2910088ba4f84d")),
            EventKind::StartLimitHit => (Error, Bad, Between, Some("d748868bfad847e783284c35fb6967ea")),
            EventKind::Asked => (Info, Plain, Between, Some("f803407c38bb439b8ab4c82e5a4471b7")),
            EventKind::Removed => (Info, Plain, Leaves, Some("b48f191bfa1e493e98ab771105262acc")),
            EventKind::Configured => (Info, Plain, Changes, Some("29a9c99430b84bb787a5d9c6d08c50c7")),
            EventKind::Interrupted => (Notice, Plain, StackEnds, None),
            EventKind::StoppingAll => (Notice, Plain, StackEnds, Some("79b79d785c3a47aab6cd93cac5913b66")),
            EventKind::KillingAll => (Warning, Uneasy, StackEnds, Some("b1e4766f52104e958a2f66d058628a9d")),
            EventKind::Forwarding | EventKind::HangUpIgnored => (Info, Plain, Between, None),
            EventKind::Suspended => (Info, Still, Between, None),
            EventKind::Resumed => (Info, Good, Between, None),
            EventKind::Unknown(_) => (Info, Plain, Between, None),
        };
        Row { priority, tone, turn, message_id }
    }

    /// The kind of what the core announces.
    pub fn of(announcement: &Announcement) -> EventKind {
        match announcement {
            Announcement::Started { .. } => EventKind::Started,
            Announcement::CannotStart { .. } => EventKind::CannotStart,
            Announcement::Ended { .. } => EventKind::Ended,
            Announcement::LeftBehind { .. } => EventKind::LeftBehind,
            Announcement::Killing { .. } => EventKind::Killing,
            Announcement::GivenUp { .. } => EventKind::GivenUp,
            Announcement::Gone { .. } => EventKind::Gone,
            Announcement::OomKill { .. } => EventKind::OomKill,
            Announcement::TasksRefused { .. } => EventKind::TasksRefused,
            Announcement::RestartIn { .. } => EventKind::RestartIn,
            Announcement::StartLimitHit { .. } => EventKind::StartLimitHit,
            Announcement::OnRequest { .. } | Announcement::ShutDownRequested => EventKind::Asked,
            Announcement::Removed { .. } => EventKind::Removed,
            Announcement::Interrupted(_) => EventKind::Interrupted,
            Announcement::StoppingAll(_) => EventKind::StoppingAll,
            Announcement::KillingAll => EventKind::KillingAll,
            Announcement::Forwarding(_) => EventKind::Forwarding,
            Announcement::HangUpIgnored => EventKind::HangUpIgnored,
            Announcement::Suspended => EventKind::Suspended,
            Announcement::Resumed => EventKind::Resumed,
        }
    }
}

/// Whose line an announcement is; `None`: lpm's own.
pub fn subject(announcement: &Announcement) -> Option<InstanceId> {
    match announcement {
        Announcement::Started { life, .. }
        | Announcement::CannotStart { life, .. }
        | Announcement::Ended { life, .. }
        | Announcement::LeftBehind { life, .. }
        | Announcement::Killing { life, .. }
        | Announcement::GivenUp { life }
        | Announcement::Gone { life, .. }
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

/// What an event has besides its words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// The main process.
    pub pid: Option<u32>,
    /// How it ended.
    pub exit: Option<Exit>,
    /// Why.
    pub outcome: Option<Outcome>,
    /// What the life used.
    pub usage: Option<&'a Usage>,
    /// A signal that was sent.
    pub signal: Option<Signal>,
}

/// What an announcement has besides its words.
pub fn facts(announcement: &Announcement) -> Facts<'_> {
    match announcement {
        Announcement::Started { pid, .. } => Facts { pid: Some(*pid), ..Facts::default() },
        Announcement::Ended { exit, outcome, usage, .. } => {
            Facts { exit: Some(*exit), outcome: Some(*outcome), usage: Some(usage), ..Facts::default() }
        }
        Announcement::OnRequest { what: Intervention::Signal(signal), .. } => {
            Facts { signal: Some(*signal), ..Facts::default() }
        }
        Announcement::StartLimitHit { .. } => {
            Facts { outcome: Some(Outcome::StartLimitHit), ..Facts::default() }
        }
        Announcement::CannotStart { .. }
        | Announcement::LeftBehind { .. }
        | Announcement::Killing { .. }
        | Announcement::GivenUp { .. }
        | Announcement::Gone { .. }
        | Announcement::OomKill { .. }
        | Announcement::TasksRefused { .. }
        | Announcement::RestartIn { .. }
        | Announcement::OnRequest { .. }
        | Announcement::Removed { .. }
        | Announcement::ShutDownRequested
        | Announcement::Interrupted(_)
        | Announcement::StoppingAll(_)
        | Announcement::KillingAll
        | Announcement::Forwarding(_)
        | Announcement::HangUpIgnored
        | Announcement::Suspended
        | Announcement::Resumed => Facts::default(),
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
        | Announcement::Gone { .. }
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
        Announcement::Gone { after, .. } => {
            format!("gone, {} after it was given up", format_duration(*after))
        }
        Announcement::OomKill { life, kills } => {
            let processes = counted(*kills, "process", "processes");
            format!("oom-kill: {}, {processes} killed", which_ceiling(of(life.instance), stack))
        }
        Announcement::TasksRefused { life } => {
            format!("tasks limit {} reached, forks are refused", tasks_ceiling(of(life.instance), stack))
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
        facts.push(format!("tasks limit {} reached, {forks} refused", tasks_ceiling(instance, stack)));
    }
    format!("{} ({})", exit(how), facts.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::config::{Given, Machine, Options, Sources, Text, load};
    use crate::supervisor::{Failure, FailureKind, Life, Stage};

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
            "terminated by SIGKILL (oom-kill: memory limit 64M reached, memory peak 64M of 64M, cpu 1.24s, \
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
        assert_eq!(say(small), "cannot start: memory limit 64M is too small");
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
    fn what_was_given_up_and_goes_after_all_is_told() {
        let gone = Announcement::Gone { life: LIFE, after: Duration::from_secs(3662) };
        assert_eq!(subject(&gone), Some(LIFE.instance));
        assert_eq!(say(gone), "gone, 1h 1min 2s after it was given up");
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
    fn the_catalog_explains_each_kind() {
        let catalog = include_str!("../../units/lpm.catalog");
        let explained: Vec<&str> = catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        let ids: Vec<&str> = EventKind::ALL.iter().filter_map(|kind| kind.row(true).message_id).collect();
        assert_eq!(explained, ids);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "each has one of its own");
    }

    #[test]
    fn a_kind_of_a_newer_lpm_is_neither_good_nor_bad() {
        let row = EventKind::from("health-lost").row(true);
        let expected =
            Row { priority: Priority::Info, tone: Tone::Plain, turn: Turn::Between, message_id: None };
        assert_eq!(row, expected);
    }
}
