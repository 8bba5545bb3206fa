//! What hostile programs of a stack do. The runner is its own helper: `"$HELPER" helper WORDS` in a Procfile.
//!
//! Everything is bounded, in number and in time.

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::stack::mount;

/// The most processes that a bomb makes, whatever the limit is.
const MOST_PROCESSES: usize = 200;
/// How long a bomb keeps trying after it was refused.
const BOMB: Duration = Duration::from_secs(10);

/// Does what the words say, prints `up`, and sleeps until it is killed.
pub fn main(words: &[String]) -> io::Result<()> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["bomb"] => return bomb(),
        ["deep", levels] => deep(number(levels)?)?,
        ["wide", count] => wide(number(count)?)?,
        ["threaded"] => threaded()?,
        ["frozen"] => frozen()?,
        _ => return Err(io::Error::other(format!("no helper is called {words:?}"))),
    }
    println!("up");
    std::thread::sleep(Duration::from_secs(1000));
    Ok(())
}

fn number(text: &str) -> io::Result<usize> {
    text.parse().map_err(io::Error::other)
}

/// The leaf that the helper was born in.
fn leaf() -> io::Result<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup")?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
    match (mount(), own) {
        (Some(mount), Some(own)) => Ok(mount.join(own)),
        _ => Err(io::Error::other("no cgroup v2 here")),
    }
}

fn sleeper() -> io::Result<Child> {
    Command::new("sleep").arg("1000").spawn()
}

/// Takes every process that it can have, says `up`, and takes those that become free for a while.
fn bomb() -> io::Result<()> {
    let mut made: Vec<Child> = Vec::new();
    let mut until = None;
    loop {
        match sleeper() {
            Ok(child) if made.len() < MOST_PROCESSES => made.push(child),
            _ if until.is_none() => {
                println!("up");
                until = Some(Instant::now() + BOMB);
            }
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
        if until.is_some_and(|until| Instant::now() > until) {
            std::thread::sleep(Duration::from_secs(1000));
        }
    }
}

/// A cgroup within a cgroup within a cgroup.
fn deep(levels: usize) -> io::Result<()> {
    std::env::set_current_dir(leaf()?)?;
    for _ in 0..levels {
        // Step by step, for such a path is longer than the kernel takes.
        std::fs::create_dir("d")?;
        std::env::set_current_dir("d")?;
    }
    Ok(())
}

/// Many cgroups beside each other, every tenth with a process.
fn wide(count: usize) -> io::Result<()> {
    let leaf = leaf()?;
    for number in 0..count {
        let path = leaf.join(format!("w{number}"));
        std::fs::create_dir(&path)?;
        if number % (count / 10).max(1) == 0 {
            std::fs::write(path.join("cgroup.procs"), sleeper()?.id().to_string())?;
        }
    }
    Ok(())
}

/// Between ordinary cgroups one whose lists of processes cannot be read.
fn threaded() -> io::Result<()> {
    let leaf = leaf()?;
    for name in ["a", "m", "z"] {
        std::fs::create_dir(leaf.join(name))?;
        std::fs::write(leaf.join(name).join("cgroup.procs"), sleeper()?.id().to_string())?;
    }
    let below = leaf.join("m/t");
    std::fs::create_dir(&below)?;
    std::fs::write(below.join("cgroup.type"), "threaded")?;
    std::fs::write(below.join("cgroup.threads"), std::fs::read(leaf.join("m/cgroup.procs"))?)
}

/// A cgroup that stands still, with a process in it.
fn frozen() -> io::Result<()> {
    let below = leaf()?.join("f");
    std::fs::create_dir(&below)?;
    std::fs::write(below.join("cgroup.procs"), sleeper()?.id().to_string())?;
    std::fs::write(below.join("cgroup.freeze"), "1")
}
