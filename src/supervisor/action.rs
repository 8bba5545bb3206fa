//! Orders: what the core wants done. The driver carries each out, in order, and has no opinion.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::event::{Client, Exit, Failure, InstanceId, Life, Recipients, Usage};
use crate::config::Signal;

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Start this life in a new leaf; answered by `Spawned` or `SpawnFailed`.
    Spawn(Life),
    /// If the spawn was not carried out yet, don't; answered by `Spawned` or `SpawnFailed` all the same.
    CancelSpawn(Life),
    /// Ask for the end: the stop signal, and SIGCONT so that a stopped process can act on it. What is frozen
    /// cannot, so that a `Thaw` came before.
    Stop {
        /// Whose processes.
        life: Life,
        /// By which signal.
        signal: Signal,
        /// Which of them.
        to: Recipients,
    },
    /// Send a signal that a client asked for, SIGSTOP perhaps, and nothing else.
    Signal {
        /// To whose processes.
        life: Life,
        /// Which.
        signal: Signal,
        /// To which of them.
        to: Recipients,
    },
    /// Stop every process of the leaf where it stands (`cgroup.freeze`); answered by `Frozen`.
    Freeze(Life),
    /// Thaw the leaf.
    Thaw(Life),
    /// SIGKILL to everything in the leaf (`cgroup.kill`).
    KillCgroup(Life),
    /// The leaf is empty: remove it.
    RemoveCgroup(Life),
    /// Freeze the stack as a whole, then stop lpm itself until SIGCONT (Ctrl-Z).
    Suspend,
    /// Thaw the stack. A leaf that was frozen on its own stays frozen.
    Resume,
    /// Say something to the user.
    Announce(Announcement),
    /// The one final reply to a request.
    Reply {
        /// To whom.
        client: Client,
        /// What.
        reply: Reply,
    },
    /// All is over: every leaf is empty or given up. Comes once, last.
    Exit(Ending),
}

/// How lpm itself ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// With this exit code.
    Code(u8),
    /// By this signal, so that the parent of lpm sees what happened.
    Signal(Signal),
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// It is as was asked.
    Done,
    /// It is not going to be: the stack is being torn down.
    ShuttingDown,
    /// A later request or the instance's own end came between.
    Superseded,
    /// An instance did not come up, or not even SIGKILL brought it down.
    Failed(InstanceId),
    /// An instance has no process that this could be done to. It was done to the others.
    NotRunning(InstanceId),
}

/// Why an instance's last life ended, in systemd's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Exit code 0, or by the stop signal that lpm sent.
    Success,
    /// Another exit code.
    ExitCode,
    /// A signal other than the stop signal.
    Signal,
    /// The same, with a core.
    CoreDump,
    /// It did not end within its stop timeout and was killed.
    Timeout,
    /// The kernel killed a process of it at its memory ceiling.
    OomKill,
    /// It was started too often.
    StartLimitHit,
    /// It could not be started.
    Resources,
}

impl Outcome {
    /// Its name, systemd's.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::ExitCode => "exit-code",
            Outcome::Signal => "signal",
            Outcome::CoreDump => "core-dump",
            Outcome::Timeout => "timeout",
            Outcome::OomKill => "oom-kill",
            Outcome::StartLimitHit => "start-limit-hit",
            Outcome::Resources => "resources",
        }
    }
}

/// Why an instance was, or is to be, started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartReason {
    /// A client asked for it.
    Requested,
    /// By policy, since the life before could not be started for a passing reason.
    NotStarted,
    /// By policy, since the life before ended.
    Ended {
        /// How.
        exit: Exit,
        /// Why.
        outcome: Outcome,
    },
}

/// What the user is told. The wording is in `wording`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Announcement {
    /// `started with pid N`.
    Started {
        /// Which life.
        life: Life,
        /// Its main process.
        pid: u32,
    },
    /// `cannot start: …`.
    CannotStart {
        /// Which life.
        life: Life,
        /// Why.
        failure: Failure,
    },
    /// `exited with code N`, `terminated by SIGTERM`.
    Ended {
        /// Which life.
        life: Life,
        /// How.
        exit: Exit,
        /// Why.
        outcome: Outcome,
        /// What it used.
        usage: Usage,
    },
    /// Its main process is gone and others are not: they are being asked to end.
    LeftBehind {
        /// Whose.
        life: Life,
        /// How many.
        count: u32,
        /// What they were sent.
        signal: Signal,
    },
    /// The stop timeout passed: what is left is being killed.
    Killing {
        /// Whose.
        life: Life,
        /// After how long.
        timeout: Duration,
    },
    /// Not even SIGKILL ended it in time; the stack does not wait for it.
    GivenUp {
        /// Whose.
        life: Life,
    },
    /// It was given up, and its leaf is empty after all.
    Gone {
        /// Whose.
        life: Life,
        /// How long after it was given up.
        after: Duration,
    },
    /// The kernel killed processes of it at its memory ceiling.
    OomKill {
        /// Whose.
        life: Life,
        /// How many since the last word of it.
        kills: u64,
    },
    /// Its tasks ceiling refused a fork; said once a life.
    TasksRefused {
        /// Whose.
        life: Life,
    },
    /// It will be started again.
    RestartIn {
        /// Which.
        instance: InstanceId,
        /// When.
        delay: Duration,
        /// How many restarts this makes.
        restarts: u32,
        /// What it comes of.
        why: RestartReason,
    },
    /// It was started too often and stays down.
    StartLimitHit {
        /// Which.
        instance: InstanceId,
    },
    /// A client asked for this, and it is being done; for `Freeze`, it is done.
    OnRequest {
        /// To which.
        instance: InstanceId,
        /// What.
        what: Intervention,
    },
    /// It is down and no longer a part of the stack.
    Removed {
        /// Which.
        instance: InstanceId,
    },
    /// A client asked for the end of the stack.
    ShutDownRequested,
    /// lpm was told to stop.
    Interrupted(Signal),
    /// The stack is being torn down; `None`: different instances get different signals.
    StoppingAll(Option<Signal>),
    /// The stack is being killed.
    KillingAll,
    /// A signal is passed on to every main process.
    Forwarding(Signal),
    /// SIGHUP without a terminal: there is nothing to reload.
    HangUpIgnored,
    /// The stack is frozen.
    Suspended,
    /// The stack runs again.
    Resumed,
}

/// What a client asked to be done to an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intervention {
    /// It is asked to end.
    Stop,
    /// It is asked to end, and starts again.
    Restart,
    /// It is killed.
    Kill,
    /// It is sent a signal.
    Signal(Signal),
    /// Its processes stand still.
    Freeze,
    /// Its processes run again.
    Thaw,
}
