//! The words of the control interface: states, results, kinds. `interface.rs` has the values that they stand in.

use crate::output::Stream;
use crate::output::history::Origin;
use crate::supervisor::{Next, Outcome};
use crate::vocabulary::vocabulary;

vocabulary! {
    /// The state of the stack as a whole.
    pub enum StackState {
        /// It runs.
        Up = "up",
        /// It is about to stop, at Ctrl-Z.
        Frozen = "frozen",
        /// It is being torn down.
        TearDown = "tear-down",
    }
}

vocabulary! {
    /// How much of cgroups there is.
    pub enum Tier {
        /// Limits, containment, kill.
        Full = "full",
        /// Containment and kill; some controllers are missing.
        Tracking = "tracking",
        /// No cgroups.
        None = "none",
    }
}

vocabulary! {
    /// The state of an instance.
    pub enum InstanceState {
        /// It is down, and nothing went wrong.
        Inactive = "inactive",
        /// Its process is being made.
        Starting = "starting",
        /// It runs.
        Running = "running",
        /// Its processes are being stopped where they stand.
        Freezing = "freezing",
        /// Its processes stand still.
        Frozen = "frozen",
        /// It was asked to end.
        StopSigterm = "stop-sigterm",
        /// It is being killed.
        StopSigkill = "stop-sigkill",
        /// Not even SIGKILL ended it.
        Stuck = "stuck",
        /// It is down until its restart is due.
        RestartWait = "restart-wait",
        /// It is down, and its last life failed.
        Failed = "failed",
    }
}

impl InstanceState {
    /// Whether it runs, frozen or not.
    pub fn is_up(&self) -> bool {
        match self {
            InstanceState::Running | InstanceState::Freezing | InstanceState::Frozen => true,
            InstanceState::Inactive
            | InstanceState::Starting
            | InstanceState::StopSigterm
            | InstanceState::StopSigkill
            | InstanceState::Stuck
            | InstanceState::RestartWait
            | InstanceState::Failed
            | InstanceState::Unknown(_) => false,
        }
    }

    /// Whether it is down and stays so.
    pub fn is_over(&self) -> bool {
        match self {
            InstanceState::Inactive | InstanceState::Failed => true,
            InstanceState::Starting
            | InstanceState::Running
            | InstanceState::Freezing
            | InstanceState::Frozen
            | InstanceState::StopSigterm
            | InstanceState::StopSigkill
            | InstanceState::Stuck
            | InstanceState::RestartWait
            | InstanceState::Unknown(_) => false,
        }
    }

    /// Whether it is on its way down.
    pub fn is_stopping(&self) -> bool {
        match self {
            InstanceState::StopSigterm | InstanceState::StopSigkill => true,
            InstanceState::Inactive
            | InstanceState::Starting
            | InstanceState::Running
            | InstanceState::Freezing
            | InstanceState::Frozen
            | InstanceState::Stuck
            | InstanceState::RestartWait
            | InstanceState::Failed
            | InstanceState::Unknown(_) => false,
        }
    }

    /// Whether it has a life: something of it is there, or about to be.
    pub fn has_life(&self) -> bool {
        match self {
            InstanceState::Starting
            | InstanceState::Running
            | InstanceState::Freezing
            | InstanceState::Frozen
            | InstanceState::StopSigterm
            | InstanceState::StopSigkill
            | InstanceState::Stuck => true,
            InstanceState::Inactive
            | InstanceState::RestartWait
            | InstanceState::Failed
            | InstanceState::Unknown(_) => false,
        }
    }

    /// Whether it is, or is about to be, frozen.
    pub fn is_frozen(&self) -> bool {
        match self {
            InstanceState::Freezing | InstanceState::Frozen => true,
            InstanceState::Inactive
            | InstanceState::Starting
            | InstanceState::Running
            | InstanceState::StopSigterm
            | InstanceState::StopSigkill
            | InstanceState::Stuck
            | InstanceState::RestartWait
            | InstanceState::Failed
            | InstanceState::Unknown(_) => false,
        }
    }
}

vocabulary! {
    /// Why a life ended, in systemd's words.
    pub enum LifeResult {
        /// Exit code 0, or by the stop signal that lpm sent.
        Success = "success",
        /// Another exit code.
        ExitCode = "exit-code",
        /// A signal other than the stop signal.
        Signal = "signal",
        /// The same, with a core.
        CoreDump = "core-dump",
        /// It did not end within its stop timeout and was killed.
        Timeout = "timeout",
        /// The kernel killed a process of it at its memory limit.
        OomKill = "oom-kill",
        /// It was started too often.
        StartLimitHit = "start-limit-hit",
        /// It could not be started.
        Resources = "resources",
    }
}

impl LifeResult {
    /// Whether something went wrong. There is one success, so a newer peer's result is taken for a failure.
    pub fn is_failure(&self) -> bool {
        match self {
            LifeResult::Success => false,
            LifeResult::ExitCode
            | LifeResult::Signal
            | LifeResult::CoreDump
            | LifeResult::Timeout
            | LifeResult::OomKill
            | LifeResult::StartLimitHit
            | LifeResult::Resources
            | LifeResult::Unknown(_) => true,
        }
    }
}

impl From<Outcome> for LifeResult {
    fn from(outcome: Outcome) -> LifeResult {
        match outcome {
            Outcome::Success => LifeResult::Success,
            Outcome::ExitCode => LifeResult::ExitCode,
            Outcome::Signal => LifeResult::Signal,
            Outcome::CoreDump => LifeResult::CoreDump,
            Outcome::Timeout => LifeResult::Timeout,
            Outcome::OomKill => LifeResult::OomKill,
            Outcome::StartLimitHit => LifeResult::StartLimitHit,
            Outcome::Resources => LifeResult::Resources,
        }
    }
}

vocabulary! {
    /// What comes after a life that failed.
    pub enum NextStep {
        /// The next life.
        Restart = "restart",
        /// Nothing: the instance stays down.
        Rest = "rest",
        /// The end of the stack.
        StackEnds = "stack-ends",
    }
}

impl From<Next> for NextStep {
    fn from(next: Next) -> NextStep {
        match next {
            Next::Restart { .. } => NextStep::Restart,
            Next::Rest => NextStep::Rest,
            Next::StackEnds => NextStep::StackEnds,
        }
    }
}

vocabulary! {
    /// What a change is to what runs.
    pub enum ChangeKind {
        /// An instance that was not there.
        Added = "added",
        /// An instance that goes.
        Removed = "removed",
        /// It is in force.
        Live = "live",
        /// It is in force with the next life.
        Restart = "restart",
        /// It is the stack's.
        Stack = "stack",
    }
}

vocabulary! {
    /// The speaker of a line.
    pub enum LineStream {
        /// The instance, on standard output or on both streams.
        Out = "out",
        /// The instance, on standard error alone.
        Err = "err",
        /// lpm, about the instance or itself.
        Lpm = "lpm",
    }
}

impl From<Stream> for LineStream {
    fn from(stream: Stream) -> LineStream {
        match stream {
            Stream::Merged | Stream::Out => LineStream::Out,
            Stream::Err => LineStream::Err,
        }
    }
}

impl From<Origin> for LineStream {
    fn from(origin: Origin) -> LineStream {
        match origin {
            Origin::Lpm { .. } => LineStream::Lpm,
            Origin::Instance(stream) => stream.into(),
        }
    }
}

/// What is done to instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Have them run.
    Start,
    /// Have them down.
    Stop,
    /// Stop and start again.
    Restart,
    /// Have them down at once.
    Kill,
    /// Stop every process where it stands.
    Freeze,
    /// Let them go on.
    Thaw,
}

impl Verb {
    /// All of them.
    pub const ALL: [Verb; 6] = [Verb::Start, Verb::Stop, Verb::Restart, Verb::Kill, Verb::Freeze, Verb::Thaw];

    /// The method of the interface.
    pub fn method(self) -> &'static str {
        match self {
            Verb::Start => "Start",
            Verb::Stop => "Stop",
            Verb::Restart => "Restart",
            Verb::Kill => "Kill",
            Verb::Freeze => "Freeze",
            Verb::Thaw => "Thaw",
        }
    }

    /// The verb of a method, if it is one's.
    pub fn of_method(method: &str) -> Option<Verb> {
        Verb::ALL.into_iter().find(|verb| verb.method() == method)
    }

    /// As a person types it: `restart`.
    pub fn word(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
            Verb::Kill => "kill",
            Verb::Freeze => "freeze",
            Verb::Thaw => "thaw",
        }
    }

    /// Said of instances when it is done: `restarted`.
    pub fn past(self) -> &'static str {
        match self {
            Verb::Start => "started",
            Verb::Stop => "stopped",
            Verb::Restart => "restarted",
            Verb::Kill => "killed",
            Verb::Freeze => "frozen",
            Verb::Thaw => "thawed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::json;

    const OUTCOMES: [Outcome; 8] = [
        Outcome::Success,
        Outcome::ExitCode,
        Outcome::Signal,
        Outcome::CoreDump,
        Outcome::Timeout,
        Outcome::OomKill,
        Outcome::StartLimitHit,
        Outcome::Resources,
    ];

    #[test]
    fn a_result_is_spelled_as_the_core_spells_it() {
        let results = OUTCOMES.map(LifeResult::from);
        assert_eq!(results.as_slice(), LifeResult::ALL);
        let spelled = OUTCOMES.map(|outcome| outcome.name().to_owned());
        assert_eq!(results.map(|result| result.to_string()), spelled);
    }

    #[test]
    fn a_stream_is_spelled_as_in_lines_of_json() {
        for stream in [Stream::Merged, Stream::Out, Stream::Err] {
            assert_eq!(LineStream::from(stream).as_str(), json::stream(stream));
        }
    }

    #[test]
    fn a_state_of_a_newer_peer_is_neither_up_nor_over_nor_stopping() {
        let ready = InstanceState::from("ready");
        assert_eq!(ready, InstanceState::Unknown("ready".to_owned()));
        assert!(!ready.is_up() && !ready.is_over() && !ready.is_stopping() && !ready.is_frozen());
        assert!(!ready.has_life() && LifeResult::from("watchdog").is_failure());
        let (up, over): (Vec<_>, Vec<_>) = InstanceState::ALL.iter().partition(|state| state.is_up());
        assert_eq!((up.len(), over.iter().filter(|state| state.is_over()).count()), (3, 2));
        assert!(up.iter().all(|state| state.has_life()), "{up:?}");
    }

    #[test]
    fn a_verb_is_known_by_its_method() {
        for verb in Verb::ALL {
            assert_eq!(Verb::of_method(verb.method()), Some(verb));
            assert_eq!(verb.word(), verb.method().to_lowercase());
        }
        assert_eq!(Verb::of_method("Status"), None);
    }
}
