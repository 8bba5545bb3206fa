//! Runs claims one after the other, each in a process of its own with its output kept aside, a bound on
//! its time and a look at what it left behind. Prints one line per claim and one at the end.
//!
//! Not libtest, for three reasons: a claim that cannot run must be *seen* to be skipped, with the reason;
//! a claim that hangs must not take the others along; and every claim must leave the machine clean, which
//! can only be judged from outside it. It has no parallelism and no further options.

use std::collections::BTreeSet;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{cgroups, processes, waiting};

/// How long one claim may take.
const BOUND: Duration = Duration::from_secs(60);
/// How long what a claim started may need to vanish after it.
const CLEAN_WITHIN: Duration = Duration::from_secs(2);
/// The claim that this process is to run: set by the harness for its children.
const ONE: &str = "LPM_VM_CLAIM";

/// Whose eyes a claim is seen through; `vagrant/run-claims` makes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A system service, no session and no terminal.
    Root,
    /// An ordinary user in a login session.
    Dev,
    /// The ordinary user of a hosted CI agent: a system service, no session.
    Runner,
}

impl Role {
    fn parse(text: &str) -> Option<Role> {
        match text {
            "root" => Some(Role::Root),
            "dev" => Some(Role::Dev),
            "runner" => Some(Role::Runner),
            _ => None,
        }
    }

    /// The role of this process. Only to be asked in a guest.
    pub fn own() -> Role {
        let text = std::env::var("LPM_VM_ROLE").expect("LPM_VM_ROLE is set in a guest");
        Role::parse(&text).expect("LPM_VM_ROLE is root, dev or runner")
    }
}

/// Something that is true of lpm on a whole machine.
pub struct Claim {
    /// `file::function`.
    pub name: &'static str,
    /// Who can make it.
    pub roles: &'static [Role],
    /// Panics if it is not true.
    pub check: fn(),
}

/// The table of claims: `file::function: Role Role;`.
macro_rules! claims {
    ($($check:path: $($role:ident)+;)*) => {
        &[$($crate::harness::Claim {
            name: stringify!($check),
            roles: &[$($crate::harness::Role::$role),+],
            check: $check,
        }),*]
    };
}
pub(crate) use claims;

/// The whole run. Arguments are parts of claims' names, as with libtest; its flags are ignored, because
/// `cargo test` hands them to every target, except `--list`.
pub fn main(claims: &[Claim]) -> ExitCode {
    if let Ok(name) = std::env::var(ONE) {
        let claim =
            claims.iter().find(|claim| claim.name == name).expect("the harness asks for known claims");
        (claim.check)();
        return ExitCode::SUCCESS;
    }
    let mut filters = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => {
                claims.iter().for_each(|claim| println!("{}: test", claim.name));
                return ExitCode::SUCCESS;
            }
            "--test-threads" | "--skip" | "--color" | "--format" => drop(arguments.next()),
            flag if flag.starts_with('-') => {}
            _ => filters.push(argument),
        }
    }
    let asked_for = |claim: &&Claim| {
        filters.is_empty() || filters.iter().any(|filter| claim.name.contains(filter.as_str()))
    };
    let claims: Vec<&Claim> = claims.iter().filter(asked_for).collect();

    let mut counts = Counts::default();
    if std::env::var_os("LPM_VM").is_none() {
        for claim in claims {
            println!("skip: vm::{} (needs the VM: vagrant/vm test)", claim.name);
            counts.skipped += 1;
        }
    } else {
        let role = Role::own();
        println!("{role:?} on {}", machine());
        for claim in claims.iter().filter(|claim| claim.roles.contains(&role)) {
            counts.add(claim.name, run(claim));
        }
    }
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped);
    if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Counts {
    fn add(&mut self, name: &str, verdict: Verdict) {
        match verdict {
            Verdict::Passed { took } => {
                println!("pass: {name} ({:.2} s)", took.as_secs_f64());
                self.passed += 1;
            }
            Verdict::Failed { why, output } => {
                println!("FAIL: {name}: {why}");
                output.trim().lines().for_each(|line| println!("    {line}"));
                self.failed += 1;
            }
        }
    }
}

enum Verdict {
    Passed { took: Duration },
    Failed { why: String, output: String },
}

/// One claim in its own process, tagged, then the look at what is left.
fn run(claim: &Claim) -> Verdict {
    let tag = format!("{}-{}", claim.name, std::process::id());
    let cgroups_before = cgroups::named("lpm");
    // A file, not a pipe: whoever escapes with it open cannot hold us up.
    let mut output = tempfile::tempfile().expect("a temporary file can be made");
    let started = Instant::now();
    let mut child = Command::new(std::env::current_exe().expect("we know where we are"))
        .env(ONE, claim.name)
        .env(processes::TAG, &tag)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("descriptors are left"))
        .stderr(output.try_clone().expect("descriptors are left"))
        .spawn()
        .expect("a claim can be started");
    let pid = Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("our child has not been reaped");
    let in_time = waiting::readable_of(&[pidfd.as_fd()], started + BOUND).is_some();
    if !in_time {
        child.kill().expect("our child can be killed");
    }
    let status = child.wait().expect("our child can be waited for");
    let took = started.elapsed();

    let mut problems = Vec::new();
    if !in_time {
        problems.push(format!("still running after {BOUND:?}"));
    } else if !status.success() {
        problems.push(if status.code() == Some(101) { "not so".to_owned() } else { status.to_string() });
    }
    problems.extend(left_behind(&tag, &cgroups_before));
    processes::kill_tagged_with(&tag);

    let mut text = String::new();
    output.rewind().expect("a file can be rewound");
    output.read_to_string(&mut text).unwrap_or_else(|error| {
        text = format!("(output: {error})");
        0
    });
    if !problems.is_empty() {
        Verdict::Failed { why: problems.join("; "), output: text }
    } else {
        Verdict::Passed { took }
    }
}

/// Processes and cgroups that outlive the claim, in words.
fn left_behind(tag: &str, cgroups_before: &BTreeSet<PathBuf>) -> Vec<String> {
    let deadline = Instant::now() + CLEAN_WITHIN;
    loop {
        let survivors = processes::tagged_with(tag);
        let cgroups = cgroups::named("lpm");
        let mut left: Vec<String> =
            survivors.iter().map(|process| format!("left behind: {process}")).collect();
        left.extend(
            cgroups.difference(cgroups_before).map(|path| format!("left behind: {}", path.display())),
        );
        if left.is_empty() || Instant::now() >= deadline {
            return left;
        }
        waiting::pause();
    }
}

/// The machine in one line: release, kernel, systemd.
fn machine() -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name =
        release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("an unknown release");
    let kernel = rustix::system::uname();
    let systemd =
        Command::new("systemctl").arg("--version").output().map(|output| output.stdout).unwrap_or_default();
    let systemd = String::from_utf8_lossy(&systemd).lines().next().unwrap_or("no systemd").to_owned();
    format!("{}, Linux {}, {systemd}", name.trim_matches('"'), kernel.release().to_string_lossy())
}
