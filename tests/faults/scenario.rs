//! What a person does with a stack, step by step. Each scenario is a run that every fault is tried on.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::program::{Program, looks_until};
use crate::stack::Stack;

/// How long a step may take. A fault may keep it from ever happening, so a step that is not done is no finding.
const STEP: Duration = Duration::from_secs(5);

/// A stack and what is done with it between its start and the request to stop.
pub struct Scenario {
    pub name: &'static str,
    procfile: &'static str,
    manifest: &'static str,
    /// The arguments of lpm.
    pub arguments: &'static [&'static str],
    pub steps: &'static [Step],
    /// The number of steps after which the stack is up.
    pub up_after: usize,
    /// No step has a process born or ended, so an error in a step is no reason for the stack to end.
    pub stays: bool,
}

/// One thing that is done.
pub enum Step {
    /// Wait until lpm prints this.
    Sees(&'static str),
    /// Run lpm as a client.
    Client(&'static [&'static str]),
    /// Attach to an instance, type a line, see it, detach.
    Attach(&'static str),
    /// Write a file.
    Write(&'static str, &'static str),
}

use Step::{Attach, Client, Sees, Write};

/// An instance that ends when it is asked, one that has a child and a process in a session of its own.
const STOP: &str = "a: echo $PS >>began; echo up; exec sleep 1000\n\
    b: echo $PS >>began; setsid sleep 1000 & trap 'exit 0' TERM; echo up; wait\n";
const FEW: &str =
    "a: echo $PS >>began; echo up; exec sleep 1000\nb: echo $PS >>began; echo up; exec sleep 1000\n";
/// The grace is short, since some faults use it up.
const START: &[&str] = &["start", "-t", "1s"];
const AGAIN: &str = "[process.b]\nrestart = \"always\"\nrestart-sec = \"20ms\"\n";
const MORE: &str =
    "a: echo $PS >>began; echo more; exec sleep 1000\nc: echo $PS >>began; echo up; exec sleep 1000\n";

/// All of them. Names are part of what a person types to repeat a finding.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "stop",
        procfile: STOP,
        manifest: "",
        arguments: START,
        steps: &[Sees("| up"), Sees("| up")],
        up_after: 2,
        stays: true,
    },
    Scenario {
        name: "failing",
        procfile: "a: echo $PS >>began; exec sleep 1000\nb: echo $PS >>began; setsid sleep 1000 & echo up; exit 3\n",
        manifest: "",
        arguments: START,
        steps: &[Sees("| up"), Sees("code 3")],
        up_after: 0,
        stays: false,
    },
    Scenario {
        name: "restart",
        procfile: "a: echo $PS >>began; echo up; exec sleep 1000\n\
            b: echo $PS >>began; echo up; sleep 1000 & [ -e twice ] && wait; : >twice; exit 1\n",
        manifest: AGAIN,
        arguments: START,
        steps: &[Sees("| up"), Sees("| up"), Sees("| up"), Client(&["restart", "a"]), Sees("| up")],
        up_after: 3,
        stays: false,
    },
    Scenario {
        name: "reload",
        procfile: FEW,
        manifest: "",
        arguments: START,
        steps: &[Sees("| up"), Sees("| up"), Write("Procfile", MORE), Client(&["reload"]), Sees("| up")],
        up_after: 2,
        stays: false,
    },
    Scenario {
        name: "attach",
        procfile: "a: echo $PS >>began; echo up; exec cat\nb: echo $PS >>began; echo up; exec sleep 1000\n",
        manifest: "[process.a]\npty = true\n",
        arguments: START,
        steps: &[Sees("| up"), Sees("| up"), Attach("a.1")],
        up_after: 2,
        stays: true,
    },
    Scenario {
        name: "detached",
        procfile: FEW,
        manifest: "",
        arguments: &["start", "-t", "1s", "-D"],
        steps: &[Sees("down ends it"), Client(&["status"]), Client(&["down"])],
        up_after: 0,
        stays: false,
    },
    Scenario {
        name: "run",
        procfile: FEW,
        manifest: "",
        arguments: &["run", "echo up; setsid sleep 1000 & echo done"],
        steps: &[Sees("done")],
        up_after: 0,
        stays: false,
    },
    Scenario {
        name: "freeze",
        procfile: STOP,
        manifest: "",
        arguments: START,
        steps: &[Sees("| up"), Sees("| up"), Client(&["freeze", "b"]), Client(&["thaw", "b"])],
        up_after: 2,
        stays: true,
    },
    Scenario {
        name: "kill",
        procfile: STOP,
        manifest: "[process.b]\ncan-die = true\n",
        arguments: START,
        steps: &[Sees("| up"), Sees("| up"), Client(&["kill", "b"]), Sees("SIGKILL")],
        up_after: 2,
        stays: false,
    },
    Scenario {
        name: "look",
        procfile: STOP,
        manifest: "",
        arguments: START,
        steps: &[
            Sees("| up"),
            Sees("| up"),
            Client(&["status", "a"]),
            Client(&["logs"]),
            Client(&["top", "--once"]),
            Client(&["metrics"]),
            Client(&["events"]),
        ],
        up_after: 2,
        stays: true,
    },
];

/// The scenario with this name.
pub fn named(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// A scenario of another part, which has its own way to start lpm.
    pub const fn of(name: &'static str, procfile: &'static str, manifest: &'static str) -> Scenario {
        Scenario { name, procfile, manifest, arguments: START, steps: &[], up_after: 0, stays: true }
    }

    /// A new stack with the scenario's files.
    pub fn stack(&self) -> std::io::Result<Stack> {
        let stack = Stack::new()?;
        stack.write("Procfile", self.procfile)?;
        stack.write("lpm.toml", self.manifest)?;
        Ok(stack)
    }

    /// The supervisor is another process than the one that is started.
    pub fn detaches(&self) -> bool {
        self.arguments.contains(&"-D")
    }

    /// lpm as this scenario starts it.
    pub fn command(&self, stack: &Stack) -> Command {
        stack.lpm(self.arguments)
    }
}

/// Takes these steps, each no longer than [`STEP`]; what the clients printed.
pub fn take(stack: &Stack, lpm: &mut Program, steps: &[Step]) -> String {
    let mut said = String::new();
    for step in steps {
        match step {
            Sees(text) => drop(lpm.sees(text, STEP)),
            Write(name, text) => drop(stack.write(name, text)),
            Client(arguments) => said += &client(stack, arguments),
            Attach(name) => said += &attach(stack, name),
        }
    }
    said
}

/// `lpm ARGUMENTS` beside the running stack.
pub fn client(stack: &Stack, arguments: &[&str]) -> String {
    match crate::program::run(stack.client(arguments), STEP) {
        Ok((status, text)) => {
            let how = status.map_or("no end".to_owned(), |status| status.to_string());
            format!("$ lpm {} ({how})\n{text}", arguments.join(" "))
        }
        Err(error) => format!("$ lpm {}: {error}\n", arguments.join(" ")),
    }
}

fn attach(stack: &Stack, name: &str) -> String {
    let Ok(mut terminal) = Program::on_terminal(&stack.lpm(&["attach", name])) else {
        return format!("$ lpm attach {name}: no terminal\n");
    };
    // The hint names the key, and is there once the terminal is lent.
    if terminal.sees("ctrl-]", STEP) {
        terminal.types("hello\r");
        terminal.sees("hello", STEP);
    }
    terminal.types("\x1d");
    let ended = terminal.ends(STEP);
    let how = ended.map_or("no end".to_owned(), |status| status.to_string());
    format!("$ lpm attach {name} ({how})\n{}\n", terminal.text())
}

/// Asks everything that is lpm to end, and waits for it; `false` if something is still there after `within`.
pub fn stop(stack: &Stack, lpm: &Program, within: Duration) -> bool {
    lpm.signal(Signal::TERM);
    let asked = lpm.ends(within).is_some();
    // With -D the supervisor is another process.
    for process in stack.supervisors() {
        process.signal(stack, Signal::TERM);
    }
    asked && looks_until(within, || stack.supervisors().is_empty())
}
