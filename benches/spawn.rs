//! Birth and reaping, 1 to 1000 at a time, each in a leaf of its own, beside a bare loop that does the
//! least possible: `std::process::Command`, which is posix_spawn(3), and no cgroup at all.
//!
//! A session of its own costs extra where the scheduler groups by session (`sched_autogroup_enabled`,
//! sched(7)), so the column that compares like with like goes without.
//!
//! `cargo bench --bench spawn`. Without a writable cgroup2 only the columns without leaves are there.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lpm::linux::birth::{Birth, Environment, Session};
use lpm::linux::cgroup::{Cgroup, Existing, Mount};
use lpm::linux::pidfd::PidFd;
use lpm::linux::spawn::spawn;

const PROGRAM: &str = "/bin/true";
const ROUNDS: usize = 2000;

fn main() {
    println!("spawn + reap of {PROGRAM}, per process, in µs");
    single();
    many();
    if std::env::args().any(|word| word == "--fat") {
        let fat = vec![1u8; 256 << 20];
        println!("\nwith {} MiB touched in the parent", fat.len() >> 20);
        single();
    }
}

/// One after the other: the distribution.
fn single() {
    println!("\n{:<44} {:>8} {:>8} {:>8}", "one at a time", "p50", "p99", "max");
    // Alternating, so that what else the machine does hits all alike.
    let place = Place::new();
    let stage = Stage::new();
    let mut times = vec![Vec::new(); 6];
    for _ in 0..ROUNDS {
        times[0].push(clock(bare));
        for (column, session) in [(1, Session::Same), (2, Session::New)] {
            times[column].push(clock(|| {
                stage.birth(session, None).wait().map(drop).expect("a child of ours");
            }));
        }
        if let Some(place) = &place {
            times[3].push(clock(|| {
                stage.birth(Session::New, Some(&place.standing)).wait().map(drop).expect("a child of ours");
            }));
            times[4].push(clock(|| {
                let leaf = place.cgroup.create("leaf", Existing::Refuse).expect("removed by the last round");
                stage.birth(Session::New, Some(&leaf)).wait().map(drop).expect("a child of ours");
                place.cgroup.remove("leaf").expect("empty");
            }));
            times[5].push(clock(|| {
                let _ = place.cgroup.create("leaf", Existing::Refuse).expect("removed by the last round");
                place.cgroup.remove("leaf").expect("empty");
            }));
        }
    }
    let names = [
        "posix_spawn, std::process::Command",
        "lpm, as bare",
        "lpm, own session",
        "lpm, born in a standing cgroup",
        "lpm, mkdir a leaf, birth, reap, rmdir",
        "mkdir and rmdir of a leaf alone",
    ];
    for (name, times) in names.iter().zip(&mut times) {
        times.sort();
        if let [.., max] = times[..] {
            let at = |percent: usize| micros(times[times.len() * percent / 100]);
            println!("{name:<44} {:>8.1} {:>8.1} {:>8.1}", at(50), at(99), micros(max));
        }
    }
}

/// All started before the first is reaped.
fn many() {
    println!("\n{:<12} {:>16} {:>16} {:>16}", "at once", "posix_spawn", "lpm, as bare", "leaf and session");
    let place = Place::new();
    let stage = Stage::new();
    for count in [1, 10, 100, 1000] {
        let mut columns = [const { Vec::new() }; 3];
        for _ in 0..(1000 / count).clamp(3, 100) {
            columns[0].push(clock(|| {
                let children: Vec<_> = (0..count).map(|_| command().spawn().expect("it is there")).collect();
                for mut child in children {
                    child.wait().expect("a child of ours");
                }
            }));
            columns[1].push(clock(|| {
                let children: Vec<_> = (0..count).map(|_| stage.birth(Session::Same, None)).collect();
                for child in children {
                    child.wait().expect("a child of ours");
                }
            }));
            let Some(place) = &place else { continue };
            columns[2].push(clock(|| {
                let names: Vec<String> = (0..count).map(|number| format!("true.{number}")).collect();
                let children: Vec<_> = names
                    .iter()
                    .map(|name| {
                        let leaf = place.cgroup.create(name, Existing::Refuse).expect("new");
                        stage.birth(Session::New, Some(&leaf))
                    })
                    .collect();
                for (child, name) in children.iter().zip(&names) {
                    child.wait().expect("a child of ours");
                    place.cgroup.remove(name).expect("empty");
                }
            }));
        }
        let median = |times: &mut Vec<Duration>| {
            times.sort();
            times
                .get(times.len() / 2)
                .map_or("-".to_owned(), |&time| format!("{:.1}", micros(time) / f64::from(count)))
        };
        let [a, b, c] = &mut columns;
        println!("{count:<12} {:>16} {:>16} {:>16}", median(a), median(b), median(c));
    }
}

/// What posix_spawn is used for when nobody asks for more.
fn command() -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn bare() {
    command().spawn().and_then(|mut child| child.wait()).expect("it is there");
}

/// What is prepared once and used by every birth.
struct Stage {
    argv: Vec<CString>,
    environment: Environment,
    null: File,
}

impl Stage {
    fn new() -> Stage {
        Stage {
            argv: vec![CString::new(PROGRAM).expect("no NUL")],
            environment: Environment::new([("PATH", "/usr/bin:/bin")]).expect("no NUL"),
            null: File::options().read(true).write(true).open("/dev/null").expect("every Linux has it"),
        }
    }

    fn birth(&self, session: Session<'_>, cgroup: Option<&Cgroup>) -> PidFd {
        let stdio = [self.null.as_fd(); 3];
        let birth = Birth { session, ..Birth::new(&self.argv, &self.environment, stdio) };
        let child = spawn(&birth, cgroup.map(AsFd::as_fd)).expect("it is there");
        PidFd::from(child.pidfd)
    }
}

/// A directory for the leaves, gone afterwards.
struct Place {
    parent: Cgroup,
    name: String,
    cgroup: Cgroup,
    standing: Cgroup,
}

impl Place {
    fn new() -> Option<Place> {
        let parent = Cgroup::open(&Mount::find().ok()??.point).ok()?;
        let name = format!("lpm-test-bench-{}", std::process::id());
        let cgroup = parent.create(&name, Existing::Refuse).ok()?;
        let standing = cgroup.create("standing", Existing::Refuse).ok()?;
        Some(Place { parent, name, cgroup, standing })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.cgroup.kill();
        if let Err(error) = self.parent.remove(&self.name) {
            eprintln!("{}: left behind: {error}", self.name);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn clock(what: impl FnOnce()) -> Duration {
    let start = Instant::now();
    what();
    start.elapsed()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
