//! Trees of runs that cannot remove them any more, because lpm and its guardian were both killed.
//!
//! A path says where to look and proves nothing: a manager, a container or another lpm may have made a new cgroup
//! there. So each directory is opened first, then recognised by its id ([`Cgroup::id`]), or by the random run id in its
//! name or among its attributes ([`super::tree::Mark`]), and everything after that goes through the opened descriptor.
//! What is not recognised is never killed, and removed only by `rmdir` while it is empty.
//!
//! Not even what is recognised is killed while this lpm, or another one that lives, is in it.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::process::Pid;

use super::cgroup::{Cgroup, Step};
use super::round;
use super::tree::{APP, Ids, PLACE_ATTRIBUTE, RUN_ATTRIBUTE, SUPERVISOR, remove_same};

/// How long killed processes may take to be gone, ms.
const PATIENCE: i64 = 5000;

/// Digits of a run's id, in hexadecimal.
pub const RUN_DIGITS: usize = 16;

/// What a record says of a run's cgroups.
#[derive(Debug, Clone, Copy)]
pub struct Trace<'a> {
    /// Where the root was.
    pub path: &'a Path,
    /// The root was made by lpm; otherwise only `app` and `supervisor` were.
    pub own: bool,
    /// The run's random id; empty in records of versions that had none.
    pub run: &'a str,
    /// As far as they were known.
    pub ids: Ids,
}

/// An lpm that lives, by its record.
#[derive(Debug, Clone)]
pub struct Holder {
    /// For people.
    pub name: String,
    /// Its number in some PID namespace.
    pub pid: Option<Pid>,
    /// Its cgroups.
    pub ids: Ids,
}

/// Why something was left where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// The record has no ids: it cannot be told whether this is what it means.
    Unrecognised,
    /// This very process is in it.
    Inhabited,
    /// Another lpm, which lives, is in it.
    Holder(String),
    /// What the kernel said; `EBUSY` if a process does not die.
    Refused(Errno),
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kept::Unrecognised => f.write_str("it may be another one's by now"),
            Kept::Inhabited => f.write_str("this lpm is in it"),
            Kept::Holder(name) => write!(f, "another lpm is in it ({name})"),
            Kept::Refused(errno) => {
                let text = io::Error::from(*errno).to_string();
                f.write_str(text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text))
            }
        }
    }
}

impl From<Errno> for Kept {
    fn from(errno: Errno) -> Kept {
        Kept::Refused(errno)
    }
}

/// Ends and removes what is left of a dead run; how many processes were in it. `None`: nothing of it is there.
///
/// # Errors
/// Why something of it is still there.
pub fn remove(trace: &Trace<'_>, holders: &[Holder]) -> Result<Option<usize>, Kept> {
    let root = match Cgroup::open(trace.path) {
        // What is there now is not what was recorded.
        Err(Errno::NOENT | Errno::NODEV | Errno::XDEV | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
        root => root?,
    };
    let id = root.id()?;
    match trace.ids.root {
        Some(recorded) if recorded == id => {}
        Some(_) => return Ok(None),
        None if trace.own && is_named_after(trace.path, trace.run) => {}
        None => return unrecognised(&root, trace.own),
    }
    let parts = parts(&root, trace)?;
    let mut ended = 0;
    for (_, part, _) in parts.iter().filter(|(.., known)| *known) {
        ended += examine(part, holders)?;
    }
    for (name, part, known) in &parts {
        if *known {
            end(part)?;
            for child in part.children()? {
                part.remove(&child)?;
            }
        }
        if *known || is_bare(part) {
            remove_same(&root, name, part.id()?)?;
        }
    }
    if let (true, Some(parent), Some(name)) =
        (trace.own, trace.path.parent(), trace.path.file_name().and_then(|name| name.to_str()))
    {
        remove_same(&Cgroup::open(parent)?, name, id)?;
    }
    Ok(Some(ended))
}

/// Whether the last part of a path ends with the run's id, as names of lpm's own directories do.
fn is_named_after(path: &Path, run: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    run.len() == RUN_DIGITS && name.is_some_and(|name| name.starts_with("lpm-") && name.ends_with(run))
}

/// A record without ids, of an older version: whether anything is there that it may mean.
fn unrecognised(root: &Cgroup, own: bool) -> Result<Option<usize>, Kept> {
    let inside = |name| root.child(name).and_then(|part| part.populated()).unwrap_or(false);
    if own || inside(APP) { Err(Kept::Unrecognised) } else { Ok(None) }
}

/// `app` and `supervisor` as far as they are there, and whether each is the recorded run's for certain.
fn parts(root: &Cgroup, trace: &Trace<'_>) -> Result<Vec<(&'static str, Cgroup, bool)>, Kept> {
    let mut parts = Vec::new();
    for (name, recorded) in [(APP, trace.ids.app), (SUPERVISOR, trace.ids.supervisor)] {
        let part = match root.child(name) {
            Err(Errno::NOENT | Errno::NODEV) => continue,
            part => part?,
        };
        let known = match recorded {
            Some(id) => id == part.id()?,
            // Killed while it was built. In a directory of lpm's own there is nothing else.
            None => trace.own || attribute(&part, RUN_ATTRIBUTE).is_some_and(|run| run == trace.run),
        };
        parts.push((name, part, known));
    }
    Ok(parts)
}

/// How many processes are in it and below; refused if one of them is an lpm that lives.
fn examine(part: &Cgroup, holders: &[Holder]) -> Result<usize, Kept> {
    let own = rustix::process::getpid();
    let (mut count, mut found) = (0, None);
    part.walk(|step| {
        let cgroup = match step {
            Step::Into(cgroup) => cgroup,
            Step::OutOf { .. } => return Ok(()),
            Step::Refused(errno) => return Err(errno),
        };
        let (id, procs) = (cgroup.id()?, cgroup.procs()?);
        count += procs.len();
        let is_here = |holder: &&Holder| {
            let Ids { root, app, supervisor } = holder.ids;
            [root, app, supervisor].contains(&Some(id)) || holder.pid.is_some_and(|pid| procs.contains(&pid))
        };
        if procs.contains(&own) {
            found = Some(Kept::Inhabited);
        } else if let (None, Some(holder)) = (&found, holders.iter().find(is_here)) {
            found = Some(Kept::Holder(holder.name.clone()));
        }
        Ok(())
    })?;
    found.map_or(Ok(count), Err)
}

/// Kills everything in it and waits until that is gone.
fn end(part: &Cgroup) -> Result<(), Kept> {
    round::kill(part)?;
    match part.events() {
        Ok(events) if events.wait_empty(Some(PATIENCE))? => Ok(()),
        Ok(_) => Err(Kept::Refused(Errno::BUSY)),
        // Its owner was faster: systemd removes a scope once no process is in it.
        Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn is_bare(cgroup: &Cgroup) -> bool {
    cgroup.populated() == Ok(false) && cgroup.children().is_ok_and(|children| children.is_empty())
}

fn attribute(cgroup: &Cgroup, name: &str) -> Option<String> {
    let mut value = [0; 256];
    let length = rustix::fs::fgetxattr(cgroup, name, &mut value).ok()?;
    String::from_utf8(value[..length].to_vec()).ok()
}

/// What other runs of a stack, or of one-off commands beside it, have left or have beside the place where a new tree
/// goes. Their records are not seen from here: they were removed, or belong to another container.
#[derive(Debug, Default)]
pub struct Siblings {
    /// One of them lives and looks for records where we do: it runs this very stack.
    pub alive: Option<PathBuf>,
    /// Of dead ones, with processes in them.
    pub left: Vec<(PathBuf, usize)>,
}

/// Looks at all trees in `parent` whose name is `prefix` and a run's id. Empty ones of dead runs are removed.
pub fn siblings(parent: &Path, prefix: &str, place: &str) -> Siblings {
    let mut found = Siblings::default();
    let Ok(parent_directory) = Cgroup::open(parent) else { return found };
    for name in parent_directory.children().unwrap_or_default() {
        let Some(run) = name.strip_prefix(prefix).map(|rest| rest.strip_prefix("run-").unwrap_or(rest))
        else {
            continue;
        };
        let one_off = name.len() != prefix.len() + run.len();
        let Ok(tree) = parent_directory.child(&name) else { continue };
        // Ours by its owner, and a run's by the mark, which a name alone is not.
        let own =
            rustix::fs::fstat(&tree).is_ok_and(|stat| stat.st_uid == rustix::process::geteuid().as_raw());
        if !own || run.len() != RUN_DIGITS || attribute(&tree, RUN_ATTRIBUTE).as_deref() != Some(run) {
            continue;
        }
        if !lock(tree.as_fd()) {
            if !one_off && attribute(&tree, PLACE_ATTRIBUTE).as_deref() == Some(place) {
                found.alive = Some(parent.join(&name));
            }
            continue;
        }
        match examine(&tree, &[]) {
            Ok(0) => drop(remove_empty(&parent_directory, &name, &tree)),
            Ok(count) => found.left.push((parent.join(&name), count)),
            Err(_) => {}
        }
    }
    found
}

/// Takes the lock that a live run, or its guardian, has on its tree. It is given back with the descriptor.
fn lock(tree: impl AsFd) -> bool {
    rustix::fs::flock(tree, FlockOperation::NonBlockingLockExclusive).is_ok()
}

fn remove_empty(parent: &Cgroup, name: &str, tree: &Cgroup) -> Result<(), Errno> {
    for child in tree.children()? {
        tree.remove(&child)?;
    }
    remove_same(parent, name, tree.id()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::cgroup::Existing;
    use crate::linux::cgroup::tests::{Place, start};
    use crate::linux::tree::{Mark, Tree};

    const RUN: &str = "00112233445566aa";
    const MARK: Mark<'_> = Mark { run: RUN, place: "here" };
    const NAME: &str = "lpm-x-00112233445566aa";

    /// As a dead lpm leaves it: nothing of it is dropped in order, and its lock is gone.
    fn dead(place: &Place) -> (PathBuf, Ids) {
        let tree = Tree::own_directory(&place.path(), NAME, MARK, &[]).unwrap();
        let known = (tree.path().to_owned(), tree.ids().unwrap());
        die(tree);
        known
    }

    /// Children that other tests are bearing have the lock, too, until they execute their programs.
    #[expect(clippy::needless_pass_by_value, reason = "it is dropped here")]
    fn die(tree: Tree) {
        rustix::fs::flock(tree.root(), FlockOperation::Unlock).unwrap();
    }

    #[test]
    fn what_is_recognised_is_ended_and_removed() {
        let Some(place) = Place::new("what_is_recognised_is_ended_and_removed") else { return };
        let (path, ids) = dead(&place);
        let leaf = Cgroup::open(&path.join("app")).unwrap().create("a.1", Existing::Refuse).unwrap();
        let (_, pidfd) = start(&leaf, "exec sleep 1000");
        // Also after its number of directories has grown.
        leaf.create("of-its-own", Existing::Refuse).unwrap();
        let trace = Trace { path: &path, own: true, run: RUN, ids };
        assert_eq!(remove(&trace, &[]), Ok(Some(1)));
        pidfd.wait().unwrap();
        assert_eq!(place.cgroup.children(), Ok(Vec::new()));
        assert_eq!(remove(&trace, &[]), Ok(None));
    }

    #[test]
    fn what_was_made_again_at_the_same_path_is_not_touched() {
        let Some(place) = Place::new("what_was_made_again_at_the_same_path_is_not_touched") else { return };
        let (path, ids) = dead(&place);
        place.cgroup.remove(NAME).unwrap();
        let root = place.cgroup.create(NAME, Existing::Refuse).unwrap();
        let app = root.create("app", Existing::Refuse).unwrap();
        let (_, pidfd) = start(&app, "exec sleep 1000");
        assert_eq!(remove(&Trace { path: &path, own: true, run: RUN, ids }, &[]), Ok(None));
        assert_eq!(pidfd.reap(), Ok(None), "lives");

        // The same root with another `app` in it: only the root is known, and it is not empty.
        let ids = Ids { root: root.id().ok(), ..ids };
        let kept = remove(&Trace { path: &path, own: true, run: RUN, ids }, &[]);
        assert_eq!(kept, Err(Kept::Refused(Errno::BUSY)));
        assert_eq!(pidfd.reap(), Ok(None), "lives");
        app.kill().unwrap();
        pidfd.wait().unwrap();
    }

    #[test]
    fn a_record_without_ids_only_reports() {
        let Some(place) = Place::new("a_record_without_ids_only_reports") else { return };
        let (path, _) = dead(&place);
        let app = Cgroup::open(&path.join("app")).unwrap();
        let (_, pidfd) = start(&app, "exec sleep 1000");
        for own in [true, false] {
            let trace = Trace { path: &path, own, run: "", ids: Ids::default() };
            assert_eq!(remove(&trace, &[]), Err(Kept::Unrecognised));
        }
        assert_eq!(pidfd.reap(), Ok(None), "lives");
        app.kill().unwrap();
        pidfd.wait().unwrap();
    }

    /// Each moment of the building at which it may be killed.
    #[test]
    fn what_was_only_half_built_is_found_by_the_intent() {
        let Some(place) = Place::new("what_was_only_half_built_is_found_by_the_intent") else { return };
        let path = place.path().join(NAME);
        let trace = Trace { path: &path, own: true, run: RUN, ids: Ids::default() };
        assert_eq!(remove(&trace, &[]), Ok(None), "before anything was made");
        for made in [&[][..], &["supervisor"], &["supervisor", "app"]] {
            let root = place.cgroup.create(NAME, Existing::Refuse).unwrap();
            for name in made {
                root.create(name, Existing::Refuse).unwrap();
            }
            assert_eq!(remove(&trace, &[]), Ok(Some(0)));
            assert_eq!(place.cgroup.children(), Ok(Vec::new()), "{made:?}");
        }
    }

    #[test]
    fn half_built_in_a_given_cgroup_only_what_is_marked_or_bare_goes() {
        let Some(place) = Place::new("half_built_in_a_given_cgroup") else { return };
        let path = place.path();
        let ids = Ids { root: place.cgroup.id().ok(), ..Ids::default() };
        let trace = Trace { path: &path, own: false, run: RUN, ids };
        // Bare and without a mark: killed between mkdir and the mark.
        place.cgroup.create("supervisor", Existing::Refuse).unwrap();
        assert_eq!(remove(&trace, &[]), Ok(Some(0)));
        assert_eq!(place.cgroup.children(), Ok(Vec::new()));
        // With a process in it and without our mark: not ours.
        let app = place.cgroup.create("app", Existing::Refuse).unwrap();
        let (_, pidfd) = start(&app, "exec sleep 1000");
        assert_eq!(remove(&trace, &[]), Ok(Some(0)));
        assert_eq!(pidfd.reap(), Ok(None), "lives");
        app.kill().unwrap();
        pidfd.wait().unwrap();
    }

    #[test]
    fn a_live_lpm_within_is_spared_and_so_is_this_one() {
        let Some(place) = Place::new("a_live_lpm_within_is_spared_and_so_is_this_one") else { return };
        let (path, ids) = dead(&place);
        let leaf = Cgroup::open(&path.join("app")).unwrap().create("a.1", Existing::Refuse).unwrap();
        let (pid, pidfd) = start(&leaf, "exec sleep 1000");
        let trace = Trace { path: &path, own: true, run: RUN, ids };
        let by_id = Ids { root: leaf.id().ok(), ..Ids::default() };
        for holder in [
            Holder { name: "inner".into(), pid: None, ids: by_id },
            Holder { name: "inner".into(), pid: Some(pid), ids: Ids::default() },
        ] {
            assert_eq!(remove(&trace, &[holder]), Err(Kept::Holder("inner".into())));
        }
        assert_eq!(pidfd.reap(), Ok(None), "lives");
        leaf.kill().unwrap();
        pidfd.wait().unwrap();
        assert_eq!(remove(&trace, &[]), Ok(Some(0)));
    }

    #[test]
    fn siblings_of_dead_runs_go_and_live_ones_are_told() {
        let Some(place) = Place::new("siblings_of_dead_runs_go_and_live_ones_are_told") else { return };
        let path = place.path();
        dead(&place);
        let found = siblings(&path, "lpm-x-", "here");
        assert!(found.alive.is_none() && found.left.is_empty());
        assert_eq!(place.cgroup.children(), Ok(Vec::new()), "of a dead run and empty");

        let tree = Tree::own_directory(&path, NAME, MARK, &[]).unwrap();
        assert_eq!(siblings(&path, "lpm-x-", "here").alive.as_deref(), Some(tree.path()));
        assert!(siblings(&path, "lpm-x-", "elsewhere").alive.is_none(), "another container's");
        let leaf = tree.leaf("a.1").unwrap();
        let (_, pidfd) = start(&leaf, "exec sleep 1000");
        die(tree);
        assert_eq!(siblings(&path, "lpm-x-", "here").left, [(path.join(NAME), 1)]);
        assert_eq!(pidfd.reap(), Ok(None), "lives");
        leaf.kill().unwrap();
        pidfd.wait().unwrap();
        // A name alone is no mark.
        place.cgroup.create("lpm-x-ffffffffffffffff", Existing::Refuse).unwrap();
        siblings(&path, "lpm-x-", "here");
        assert_eq!(place.cgroup.children(), Ok(vec!["lpm-x-ffffffffffffffff".to_owned()]));
    }
}
