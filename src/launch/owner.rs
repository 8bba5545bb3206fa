//! Becoming the owner of a stack: takes the claim, refuses a second start, and cleans up after owners that were killed
//! together with their guardian.
//!
//! A second start is refused by the lock on the record. Where the record was removed while its owner lives, the owner
//! puts it back; until it has done so, the live socket beside it, or the lock on the owner's tree, says the same.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::Pid;
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

use crate::claim::{self, Claim, Found, Identity, Record, Runtime, TOUCHED_EVERY, Upkeep};
use crate::control::socket::{self, Listening};
use crate::driver::{Checked, Keeper, Voice};
use crate::error::{Error, words};
use crate::launch::gather::Surroundings;
use crate::launch::preface::Preface;
use crate::linux::guardian::{Files, RunFile};
use crate::linux::remains::{self, Holder, Kept, Trace};
use crate::linux::tree::{self, Tree};
use crate::wording::announce;

/// What it means to run without a record.
const UNCLAIMED: &str =
    "a second start of this stack will not be noticed, and without --socket it cannot be controlled";

/// Claims what is called `slug`, the stack itself or a one-off command beside it; `family` is the stack's, `name`
/// is for people. What is worth telling goes into `preface`. Without
/// a private runtime directory there is no claim, which is said, and the stack can run all the same.
///
/// # Errors
/// Another lpm runs it already.
pub fn claim(
    around: &Surroundings,
    family: &str,
    slug: &str,
    name: &str,
    preface: &mut Preface,
) -> Result<Option<Owned>, Error> {
    let (xdg, home) = (around.variable("XDG_RUNTIME_DIR"), around.variable("HOME"));
    let Runtime { directory, path, passed_over } = match claim::runtime_directory(xdg, home) {
        Ok(found) => found,
        Err(problem) => {
            preface.warn_out_of_reach(problem, Some(UNCLAIMED));
            return Ok(None);
        }
    };
    preface.extend(passed_over.iter().map(|why| format!("warning: {why}; using {}", path.display())));
    let directories = claim::runtime_directories(xdg, home);
    for (directory, place) in &directories {
        for found in claim::family(directory, family).into_iter().filter(|found| found != slug) {
            let Ok(directory) = rustix::io::fcntl_dupfd_cloexec(directory, 3) else { continue };
            if let Ok(Found::Abandoned(mut claim, record)) = Claim::take_if_free(directory, place, &found) {
                preface.extend(clean_up_after(&mut claim, *record, &directories));
            }
        }
        // Started while this directory was the first one that was fit.
        if *place != path
            && let Some(owner) = claim::held_as(directory, slug)
        {
            return Err(runs_already(name, Some(&owner)));
        }
    }
    match Claim::take(directory, &path, slug) {
        Ok(Found::Free(claim)) => Ok(Some(Owned::new(claim, path))),
        Ok(Found::Abandoned(mut claim, record)) => {
            preface.extend(clean_up_after(&mut claim, *record, &directories));
            Ok(Some(Owned::new(claim, path)))
        }
        Ok(Found::Held(owner)) => Err(runs_already(name, owner.as_ref())),
        Err(error) => {
            preface.warn_out_of_reach(format!("{}: {}", path.display(), words(error)), Some(UNCLAIMED));
            Ok(None)
        }
    }
}

fn runs_already(name: &str, owner: Option<&Record>) -> Error {
    let as_what = match owner {
        Some(owner) if owner.is_alive() => format!(" as pid {}, since {}", owner.pid, moment(owner.since)),
        Some(owner) => format!(
            " in part: pid {} has ended, and its guardian waits for processes that cannot be killed",
            owner.pid
        ),
        None => " (its record was removed)".to_owned(),
    };
    Error::new(format!(
        "stack {name} runs already{as_what}; stop that one first (lpm down), or give this one a --name"
    ))
}

/// The right to run a stack, and the private directory in which that is written down.
#[derive(Debug)]
pub struct Owned {
    claim: Arc<Mutex<Claim>>,
    directory: PathBuf,
}

impl Owned {
    fn new(claim: Claim, directory: PathBuf) -> Owned {
        Owned { claim: Arc::new(Mutex::new(claim)), directory }
    }

    fn claim(&self) -> MutexGuard<'_, Claim> {
        lock(&self.claim)
    }

    /// Writes down who owns the stack now, and what it is about to make or has made.
    ///
    /// # Errors
    /// What the kernel says, `ENOSPC` for instance.
    pub fn record(&self, record: &Record) -> std::io::Result<()> {
        self.claim().record(record)
    }

    /// Leaves the record behind at the end: what it names is not all removed.
    pub fn stay(&self) {
        self.claim().stay();
    }
}

/// What keeps the record and the socket in their place while the stack runs; `None` if there is neither.
pub fn keeper(
    owned: Option<&Owned>,
    listening: Option<&Arc<Mutex<Listening>>>,
    tree: Option<Arc<Tree>>,
) -> Option<Keeper> {
    if owned.is_none() && listening.is_none() {
        return None;
    }
    let (claim, listening) = (owned.map(|owned| Arc::clone(&owned.claim)), listening.map(Arc::clone));
    let name_files = {
        let (claim, listening) = (claim.clone(), listening.clone());
        move || {
            if let (Some(tree), Some(claim)) = (&tree, &claim) {
                tree.ends_with(files(&lock(claim), listening.as_deref()));
            }
        }
    };
    name_files();
    let touch = {
        let (claim, listening) = (claim.clone(), listening.clone());
        move || {
            claim.iter().for_each(|claim| lock(claim).touch());
            listening.iter().for_each(|listening| lock(listening).touch());
        }
    };
    let check = move || {
        let record = claim.as_ref().map_or(Ok(false), |claim| put_back(&mut lock(claim)));
        let socket = listening.as_ref().map_or(Ok(None), |listening| lock(listening).keep_up());
        if matches!(record, Ok(true)) || matches!(socket, Ok(Some(_))) {
            name_files();
        }
        Checked { record, socket }
    };
    Some(Keeper { every: TOUCHED_EVERY, touch: Box::new(touch), check: Box::new(check) })
}

/// Whether the record was missing and is back.
fn put_back(claim: &mut Claim) -> Result<bool, String> {
    match claim.keep_up() {
        Ok(Upkeep::There) => Ok(false),
        Ok(Upkeep::PutBack) => Ok(true),
        Ok(Upkeep::Taken) => {
            Err("another lpm runs this stack, too: the record of this run was removed, and the other \
                                  one's is in its place"
                .to_owned())
        }
        Err(error) => {
            Err(format!("the record of this run was removed and cannot be put back: {}", words(error)))
        }
    }
}

/// Locks what only one thread uses, and no other waits for.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The files that end with the run, for the guardian. Where descriptors are short, the next start removes them.
fn files(claim: &Claim, listening: Option<&Mutex<Listening>>) -> Files {
    let mut files = Files::default();
    if let Ok((directory, name, record)) = claim.handles()
        && let Ok(there) = rustix::fs::fstat(&record)
    {
        files.list.push(RunFile { directory, name, id: (there.st_dev, there.st_ino) });
        files.lock = Some(record);
    }
    let socket = listening.and_then(|listening| {
        let listening = lock(listening);
        let name = listening.path().file_name()?.to_str()?.to_owned();
        Some(RunFile { directory: open_directory(listening.path().parent()?)?, name, id: listening.inode() })
    });
    // The socket goes first: where the record is gone, nothing of the run is left.
    files.list.splice(0..0, socket);
    files
}

fn open_directory(path: &Path) -> Option<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Listens on the control socket: where it was asked for, or beside the claim. Without either, or where the default
/// place has trouble, the stack runs without, which is said. `name` is for people.
///
/// # Errors
/// A place that was asked for and cannot be used; a live owner of this stack, whose record was removed.
pub fn listen(
    around: &Surroundings,
    asked: Option<&Path>,
    owned: Option<&Owned>,
    (slug, name): (&str, &str),
    preface: &mut Preface,
) -> Result<Option<Listening>, Error> {
    match (asked, owned) {
        (Some(path), _) => Listening::at(&around.directory.join(path)).map(Some).map_err(Error::new),
        (None, Some(owned)) => {
            let path = owned.directory.join(format!("{slug}.sock"));
            // In our private directory only lpm listens, and by this name only for this stack.
            if socket::is_served(&path) == Ok(true) {
                return Err(runs_already(name, None));
            }
            Ok(Listening::at(&path).map_err(|problem| preface.warn_out_of_reach(problem, None)).ok())
        }
        (None, None) => Ok(None),
    }
}

/// What other trees of this stack are in `parent`, beside the place of ours, without a record that is seen from here.
/// Empty ones are removed.
///
/// # Errors
/// One of them is this very stack's, and lives.
pub fn look_beside(
    parent: &Path,
    identity: &Identity<'_>,
    voice: Voice,
    preface: &mut Preface,
) -> Result<(), Error> {
    let found = remains::siblings(parent, &format!("lpm-{}-", identity.slug()), &place());
    if found.alive.is_some() && voice == Voice::Stack {
        return Err(runs_already(identity.name, None));
    }
    preface.extend(found.left.into_iter().map(|(path, count)| {
        let processes = announce::processes(u32::try_from(count).unwrap_or(u32::MAX));
        let path = path.display();
        format!(
            "warning: {path}: {processes} of a run that died, of which there is no record here (echo 1 > \
             {path}/cgroup.kill ends them)"
        )
    }));
    Ok(())
}

/// A new run's random id.
///
/// # Errors
/// What getrandom(2) says: nothing can be told from another run then.
pub fn run_id() -> Result<String, Error> {
    let mut random = [0; remains::RUN_DIGITS / 2];
    match getrandom(&mut random, GetRandomFlags::empty()) {
        Ok(length) if length == random.len() => Ok(random.iter().map(|byte| format!("{byte:02x}")).collect()),
        Ok(_) => Err(Error::new("cannot start: too few random numbers")),
        Err(errno) => Err(Error::new(format!("cannot start: random numbers: {}", words(errno)))),
    }
}

/// Where records are looked for from here: two lpm with one such place see the same files.
pub fn place() -> String {
    let namespace = std::fs::read_link("/proc/self/ns/mnt").unwrap_or_default();
    let root = rustix::fs::stat("/").map(|root| (root.st_dev, root.st_ino)).unwrap_or_default();
    format!("{} {}:{}", namespace.display(), root.0, root.1)
}

/// What this run leaves for others to read, before its cgroups are made; [`completed`] adds them. `socket`: where it
/// can be asked.
pub fn record(identity: &Identity<'_>, voice: Voice, socket: Option<&Path>, run: &str) -> Record {
    Record {
        // A one-off command is no stack of its own.
        name: if voice == Voice::Stack { identity.name.to_owned() } else { String::new() },
        root: identity.root.display().to_string(),
        place: identity.place(),
        socket: socket.map(Path::to_path_buf),
        pid: rustix::process::getpid().as_raw_pid().unsigned_abs(),
        since: u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or(0),
        boot: boot(),
        cgroup: None,
        own: false,
        run: run.to_owned(),
        ids: claim::Ids::default(),
        left: Vec::new(),
    }
}

/// The record with the ids of what was made. Without them the next start still knows it by its run.
pub fn completed(record: Record, tree: &Tree) -> Record {
    let ids = tree.ids().map_or(record.ids, |ids| claim::Ids {
        root: ids.root,
        app: ids.app,
        supervisor: ids.supervisor,
    });
    Record { ids, ..record }
}

/// Whether nothing is left of what this run was about to make. What can be removed is.
pub fn is_bare(record: &Record) -> bool {
    trace(record).is_none_or(|trace| remains::remove(&trace, &[]).is_ok())
}

/// Ends and removes what is left of a run whose owner is dead, and of those it knew of. What cannot be removed is
/// remembered.
fn clean_up_after(claim: &mut Claim, mut record: Record, places: &[(OwnedFd, PathBuf)]) -> Vec<String> {
    let mut told = Vec::new();
    let mut all = std::mem::take(&mut record.left);
    all.push(record);
    for record in all {
        let Some(trace) = trace(&record) else { continue };
        match remains::remove(&trace, &holders(places, &record)) {
            Ok(None | Some(0)) => {}
            Ok(Some(ended)) => {
                let processes = announce::processes(u32::try_from(ended).unwrap_or(u32::MAX));
                told.push(format!(
                    "cleaned up after pid {}, which was killed: {processes} ended",
                    record.pid
                ));
            }
            Err(why) => {
                let path = trace.path.display();
                told.push(format!("warning: {path}, left by pid {}, cannot be removed: {why}", record.pid));
                if why != Kept::Unrecognised {
                    claim.leave(record);
                }
            }
        }
    }
    told
}

/// What a record says of cgroups that may still be there: they do not outlive the boot they were made in.
fn trace(record: &Record) -> Option<Trace<'_>> {
    let path = record.cgroup.as_deref().filter(|_| record.boot == boot())?;
    Some(Trace { path, own: record.own, run: &record.run, ids: ids(record) })
}

fn ids(record: &Record) -> tree::Ids {
    let claim::Ids { root, app, supervisor } = record.ids;
    tree::Ids { root, app, supervisor }
}

/// Every lpm that lives by its record, but for the one that left this one: that record is locked by us.
fn holders(places: &[(OwnedFd, PathBuf)], but: &Record) -> Vec<Holder> {
    let held = places.iter().flat_map(|(directory, _)| claim::held(directory));
    let others = held.filter(|one| (one.pid, one.since, &one.run) != (but.pid, but.since, &but.run));
    let holder = |one: Record| {
        let label = if one.name.is_empty() { "a command" } else { &one.name };
        Holder {
            name: format!("{label}, pid {}", one.pid),
            pid: i32::try_from(one.pid).ok().and_then(Pid::from_raw),
            ids: if one.boot == but.boot { ids(&one) } else { tree::Ids::default() },
        }
    };
    others.map(holder).collect()
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn moment(since: u64) -> String {
    let Ok(then) = jiff::Timestamp::from_second(i64::try_from(since).unwrap_or(0)) else {
        return "an unknown time".to_owned();
    };
    then.to_zoned(super::look::zone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}
