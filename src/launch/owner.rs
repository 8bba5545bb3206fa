//! Becoming the one who runs a stack: taking the claim, refusing a second start, cleaning up after owners
//! who were killed together with their guardian.

use std::path::{Path, PathBuf};

use rustix::time::{ClockId, clock_gettime};

use crate::claim::{self, Claim, Found, Identity, Record};
use crate::control::socket::Listening;
use crate::driver::Voice;
use crate::error::{Error, words};
use crate::launch::gather::Surroundings;
use crate::linux::tree::{self, Tree};
use crate::output::announce;

/// Claims what is called `slug`, the stack itself or a one-off command beside it; `family` is the stack's, `name`
/// is for people. What is worth telling goes into `preface`. Without
/// a private runtime directory there is no claim, which is said, and the stack can run all the same.
///
/// # Errors
/// Somebody runs it already.
pub fn claim(
    around: &Surroundings,
    family: &str,
    slug: &str,
    name: &str,
    preface: &mut Vec<String>,
) -> Result<Option<Owned>, Error> {
    let unnoticed = |why: String| {
        format!(
            "warning: {why}; a second start of this stack will not be noticed, and without --socket it cannot be \
             controlled"
        )
    };
    let owned = |claim, directory| Some(Owned { claim, directory });
    let (directory, path) = match claim::runtime_directory(around.variable("XDG_RUNTIME_DIR")) {
        Ok(found) => found,
        Err(problem) => {
            preface.push(unnoticed(problem));
            return Ok(None);
        }
    };
    for (claim, record) in claim::abandoned(&directory, family) {
        preface.extend(clean_up_after(&record));
        drop(claim);
    }
    match Claim::take(directory, slug) {
        Ok(Found::Free(claim)) => Ok(owned(claim, path)),
        Ok(Found::Abandoned(claim, record)) => {
            preface.extend(clean_up_after(&record));
            Ok(owned(claim, path))
        }
        Ok(Found::Held(owner)) => {
            let who = owner.map_or(String::new(), |owner| {
                format!(" as pid {}, since {}", owner.pid, moment(owner.since))
            });
            let text = format!(
                "stack {name} runs already{who}; stop that one first (lpm down), or give this one a --name"
            );
            Err(Error::new(text))
        }
        Err(error) => {
            preface.push(unnoticed(format!("{}: {}", path.display(), words(error))));
            Ok(None)
        }
    }
}

/// The right to run a stack, and the private directory in which that is written down.
#[derive(Debug)]
pub struct Owned {
    claim: Claim,
    directory: PathBuf,
}

impl Owned {
    /// Writes down who owns the stack now.
    ///
    /// # Errors
    /// What the kernel says, `ENOSPC` for instance.
    pub fn record(&self, record: &Record) -> std::io::Result<()> {
        self.claim.record(record)
    }
}

/// Listens on the control socket: where it was asked for, or beside the claim. Without either, or where the default
/// place has trouble, the stack runs without, which is said.
///
/// # Errors
/// A place that was asked for and cannot be had.
pub fn listen(
    around: &Surroundings,
    asked: Option<&Path>,
    owned: Option<&Owned>,
    slug: &str,
    preface: &mut Vec<String>,
) -> Result<Option<Listening>, Error> {
    match (asked, owned) {
        (Some(path), _) => Listening::at(&around.directory.join(path)).map(Some).map_err(Error::new),
        (None, Some(owned)) => {
            let listening = Listening::at(&owned.directory.join(format!("{slug}.sock")));
            Ok(listening.map_err(|problem| preface.push(format!("warning: {problem}"))).ok())
        }
        (None, None) => Ok(None),
    }
}

/// What this run leaves for others to read. `socket`: where it can be asked.
pub fn record(identity: &Identity<'_>, voice: Voice, socket: Option<&Path>, tree: Option<&Tree>) -> Record {
    Record {
        // One-off commands are nobody's stack.
        name: if voice == Voice::Stack { identity.name.to_owned() } else { String::new() },
        root: identity.root.display().to_string(),
        place: identity.place(),
        socket: socket.map(Path::to_path_buf),
        pid: rustix::process::getpid().as_raw_pid().unsigned_abs(),
        since: u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or(0),
        boot: boot(),
        cgroup: tree.map(|tree| tree.path().to_path_buf()),
        own: tree.is_some_and(|tree| tree.own().is_some()),
    }
}

/// Ends and removes what is left of a run whose owner is dead.
fn clean_up_after(record: &Record) -> Option<String> {
    let path = record.cgroup.as_ref().filter(|_| record.boot == boot())?;
    // A record is a hint: only a directory that carries lpm's own name is removed as a whole.
    let named = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lpm-"));
    match tree::remove_abandoned(path, record.own && named) {
        Ok(None) => None,
        Ok(Some(ended)) => {
            let processes = announce::processes(u32::try_from(ended).unwrap_or(u32::MAX));
            Some(format!("cleaned up after pid {}, which was killed: {processes} ended", record.pid))
        }
        Err(errno) => {
            let why = words(errno);
            Some(format!("warning: {}, left by pid {}, cannot be removed: {why}", path.display(), record.pid))
        }
    }
}

/// Cgroups do not outlive the boot they were made in.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn moment(since: u64) -> String {
    let Ok(then) = jiff::Timestamp::from_second(i64::try_from(since).unwrap_or(0)) else {
        return "an unknown time".to_owned();
    };
    then.to_zoned(super::look::zone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}
