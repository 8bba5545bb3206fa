//! The words of lpm's own lines.
//!
//! foreman's wording, because scripts look for it (`started with pid`, `exited with code`, `terminated by`,
//! `sending SIGTERM to all processes`); what only lpm knows follows in parentheses. Pure: plain values in,
//! text without a newline out. Who says it and how it looks is [`super::terminal`]'s business.

use std::fmt::Write;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited by itself with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// What an invocation used and what became of the rest of it. Everything that is `None` or 0 goes unsaid.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The kernel's OOM killer ended a process of the instance.
    pub oom: Option<Oom>,
    /// The most memory the instance ever held, in bytes (`memory.peak`).
    pub peak: Option<u64>,
    /// Processor time of all its processes together, in µs (`usage_usec` of `cpu.stat`).
    pub cpu: Option<u64>,
    /// How many processes outlived the main one and had to be killed.
    pub leftover: u32,
}

/// Which ceiling the OOM killer defended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oom {
    /// The instance's own, in bytes (`memory.max`).
    Ceiling(u64),
    /// One above the instance's own: the stack's, or that of a unit around lpm.
    Above,
    /// None: the machine itself ran out.
    Machine,
}

/// `started with pid 4711`
pub fn started(pid: i32) -> String {
    format!("started with pid {pid}")
}

/// `exited with code 1` or `terminated by SIGTERM`, with the facts there are: `exited with code 137
/// (oom-kill: memory ceiling 64M reached, peak 64.0M; cpu 1.24s; 3 leftover processes killed)`
pub fn ended(how: Ended, facts: &Facts) -> String {
    let mut text = match how {
        Ended::Code(code) => format!("exited with code {code}"),
        Ended::Signal(number) => format!("terminated by {}", signal_name(number)),
    };
    let facts = facts.to_string();
    if !facts.is_empty() {
        write!(text, " ({facts})").expect("a String takes everything");
    }
    text
}

/// `cannot start: working directory: No such file or directory`
pub fn not_started(stage: &str, reason: &str) -> String {
    format!("cannot start: {stage}: {reason}")
}

/// `sending SIGTERM to all processes`
pub fn sending(signal: i32) -> String {
    format!("sending {} to all processes", signal_name(signal))
}

/// `SIGINT received, starting shutdown`
pub fn received(signal: i32) -> String {
    format!("{} received, starting shutdown", signal_name(signal))
}

/// After a gap: lines that standard output refused.
pub fn lines_lost(lines: u64, reason: &str) -> String {
    format!("{} could not be written: {reason}", count(lines, "line", "lines"))
}

/// After a gap: lpm's own lines that found no room while nobody read.
pub fn own_lines_dropped(lines: u64) -> String {
    format!("{} of lpm's own dropped while nobody read the output", count(lines, "line", "lines"))
}

/// After a gap: invocations that came and went while nobody read.
pub fn unheard(invocations: u64) -> String {
    format!("output of {} dropped while nobody read it", count(invocations, "process", "processes"))
}

impl std::fmt::Display for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let peak = self.peak.map(|bytes| format!("peak {}", format_size(bytes)));
        let memory = match self.oom {
            None => peak,
            Some(oom) => {
                let which = match oom {
                    Oom::Ceiling(bytes) => format!("memory ceiling {} reached", format_ceiling(bytes)),
                    Oom::Above => "a memory ceiling above this process reached".to_owned(),
                    Oom::Machine => "the machine is out of memory".to_owned(),
                };
                Some(format!(
                    "oom-kill: {}",
                    [Some(which), peak].into_iter().flatten().collect::<Vec<_>>().join(", ")
                ))
            }
        };
        let cpu = self.cpu.map(|us| format!("cpu {}", format_cpu(us)));
        let leftover = (self.leftover > 0).then(|| {
            format!("{} killed", count(self.leftover.into(), "leftover process", "leftover processes"))
        });
        f.write_str(&[memory, cpu, leftover].into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

/// `SIGTERM`; a real-time signal as `SIGRTMIN+3`; a number that has no name as `signal 99`.
pub fn signal_name(number: i32) -> String {
    let name = match number {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGSTKFLT => "SIGSTKFLT",
        libc::SIGCHLD => "SIGCHLD",
        libc::SIGCONT => "SIGCONT",
        libc::SIGSTOP => "SIGSTOP",
        libc::SIGTSTP => "SIGTSTP",
        libc::SIGTTIN => "SIGTTIN",
        libc::SIGTTOU => "SIGTTOU",
        libc::SIGURG => "SIGURG",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGVTALRM => "SIGVTALRM",
        libc::SIGPROF => "SIGPROF",
        libc::SIGWINCH => "SIGWINCH",
        libc::SIGIO => "SIGIO",
        libc::SIGPWR => "SIGPWR",
        libc::SIGSYS => "SIGSYS",
        _ if (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number) => {
            return format!("SIGRTMIN+{}", number - libc::SIGRTMIN());
        }
        _ => return format!("signal {number}"),
    };
    name.to_owned()
}

fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

const UNITS: [&str; 5] = ["B", "K", "M", "G", "T"];

/// What was measured: `812B`, `64.0M`, `1.5G`; powers of 1024, as the ceilings are written.
pub fn format_size(bytes: u64) -> String {
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0.
    while unit + 1 < UNITS.len() && bytes as f64 / 1024f64.powi(unit as i32) >= 1023.95 {
        unit += 1;
    }
    match unit {
        0 => format!("{bytes}B"),
        _ => format!("{:.1}{}", bytes as f64 / 1024f64.powi(unit as i32), UNITS[unit]),
    }
}

/// What was set: `64M` where it is exact, else as [`format_size`].
fn format_ceiling(bytes: u64) -> String {
    let unit = (bytes.trailing_zeros() as usize / 10).min(UNITS.len() - 1);
    match bytes >> (10 * unit) {
        0 => "0B".to_owned(),
        whole if whole < 10_240 && unit > 0 => format!("{whole}{}", UNITS[unit]),
        _ => format_size(bytes),
    }
}

/// Processor time: `3ms`, `1.24s`, `2min 5s`, `3h 20min`.
pub fn format_cpu(us: u64) -> String {
    let seconds = us / 1_000_000;
    match seconds {
        0 => format!("{}ms", us / 1000),
        1..60 => format!("{}.{:02}s", seconds, us % 1_000_000 / 10_000),
        60..3600 => format!("{}min {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foremans_words() {
        assert_eq!(started(4711), "started with pid 4711");
        assert_eq!(ended(Ended::Code(3), &Facts::default()), "exited with code 3");
        assert_eq!(ended(Ended::Signal(libc::SIGTERM), &Facts::default()), "terminated by SIGTERM");
        assert_eq!(sending(libc::SIGTERM), "sending SIGTERM to all processes");
        assert_eq!(received(libc::SIGINT), "SIGINT received, starting shutdown");
        assert_eq!(
            not_started("working directory", "No such file or directory"),
            "cannot start: working directory: No such file or directory"
        );
    }

    #[test]
    fn the_facts_follow_in_parentheses() {
        let facts = Facts {
            oom: Some(Oom::Ceiling(64 << 20)),
            peak: Some(64 << 20),
            cpu: Some(1_240_000),
            leftover: 3,
        };
        assert_eq!(
            ended(Ended::Code(137), &facts),
            "exited with code 137 (oom-kill: memory ceiling 64M reached, peak 64.0M; cpu 1.24s; \
             3 leftover processes killed)"
        );
        let some = |f: Facts| ended(Ended::Code(0), &f);
        assert_eq!(
            some(Facts { leftover: 1, ..Facts::default() }),
            "exited with code 0 (1 leftover process killed)"
        );
        assert_eq!(
            some(Facts { peak: Some(1), cpu: Some(999), ..Facts::default() }),
            "exited with code 0 (peak 1B; cpu 0ms)"
        );
        assert_eq!(
            some(Facts { oom: Some(Oom::Above), ..Facts::default() }),
            "exited with code 0 (oom-kill: a memory ceiling above this process reached)"
        );
        assert_eq!(
            ended(Ended::Signal(libc::SIGKILL), &Facts { oom: Some(Oom::Machine), ..Facts::default() }),
            "terminated by SIGKILL (oom-kill: the machine is out of memory)"
        );
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
    fn signals_have_names() {
        assert_eq!(signal_name(9), "SIGKILL");
        assert_eq!(signal_name(libc::SIGRTMIN()), "SIGRTMIN+0");
        assert_eq!(signal_name(libc::SIGRTMIN() + 3), "SIGRTMIN+3");
        assert_eq!(signal_name(0), "signal 0");
        for number in (1..32).filter(|n| *n != 29) {
            assert!(signal_name(number).starts_with("SIG"), "{number}");
        }
    }

    #[test]
    fn sizes_and_times() {
        let sizes =
            [0, 1023, 1024, 1536, (1 << 20) - 1, 1 << 20, 64 << 20, 3 << 29, u64::MAX].map(format_size);
        assert_eq!(sizes, ["0B", "1023B", "1.0K", "1.5K", "1.0M", "1.0M", "64.0M", "1.5G", "16777216.0T"]);
        let ceilings = [0, 1, 64 << 20, 1 << 30, 3 << 29, 1_000_000].map(format_ceiling);
        assert_eq!(ceilings, ["0B", "1B", "64M", "1G", "1536M", "976.6K"]);
        let times = [0, 999, 3_400, 999_999, 1_000_000, 1_240_000, 59_999_999, 125_000_000, 12_000_000_000]
            .map(format_cpu);
        assert_eq!(times, ["0ms", "0ms", "3ms", "999ms", "1.00s", "1.24s", "59.99s", "2min 5s", "3h 20min"]);
    }
}
