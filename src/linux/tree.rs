//! The tree that lpm builds: what goes where, and how to be rid of it. [`super::remains`] removes one whose owner was
//! killed.
//!
//! It makes directories, moves lpm's own process and nobody else, and writes no attribute of a cgroup that was
//! given to it but `cgroup.subtree_control`. Whether and where to build is [`super::tier`]'s to say.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, XattrFlags};
use rustix::io::Errno;

use super::cgroup::{Cgroup, Existing, Mount, Own};
use super::guardian::Files;

/// What lpm built, and how to be rid of it.
///
/// ```text
///  ‹root›/supervisor           the guardian, and lpm itself where the root was given to it
///  ‹root›/app/‹instance›       one leaf each; a ceiling on all goes on `app`
/// ```
///
/// The root is either a cgroup given to lpm, which moved out of it into `supervisor`, because controllers
/// are handed on only by cgroups without processes; or a directory of its own, and then lpm stays where it
/// is. The guardian is in `supervisor` either way: what kills lpm's cgroup must not kill the guardian with it.
#[derive(Debug)]
pub struct Tree {
    root: Cgroup,
    supervisor: Cgroup,
    app: Cgroup,
    /// Where the root is a directory of lpm's own.
    own: Option<OwnDirectory>,
    /// Where the root lies, for people.
    path: PathBuf,
    enabled: Vec<String>,
    refused: Vec<(String, Errno)>,
    left: AtomicBool,
    /// What the guardian removes besides, once all processes have ended.
    files: Mutex<Arc<Files>>,
}

/// Which run a tree belongs to. Its cgroups carry this as extended attributes, where the kernel has them (Linux 5.7),
/// so that they are recognised by [`super::remains`] although their names mean nothing.
#[derive(Debug, Clone, Copy)]
pub struct Mark<'a> {
    /// The run's random id. It is also the end of the name of a directory of lpm's own.
    pub run: &'a str,
    /// Where the stack's record is looked for: two runs of one stack with the same place are one too many.
    pub place: &'a str,
}

/// The attribute with [`Mark::run`].
pub(super) const RUN_ATTRIBUTE: &str = "user.lpm.run";
/// The attribute with [`Mark::place`].
pub(super) const PLACE_ATTRIBUTE: &str = "user.lpm.place";

impl Mark<'_> {
    /// Writes the mark. The run comes last: what has one is complete.
    fn put(self, cgroup: &Cgroup) {
        for (name, value) in [(PLACE_ATTRIBUTE, self.place), (RUN_ATTRIBUTE, self.run)] {
            let _ = rustix::fs::fsetxattr(cgroup, name, value.as_bytes(), XattrFlags::empty());
        }
    }
}

/// Ids of a tree's cgroups ([`Cgroup::id`]), as far as they are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ids {
    /// The root.
    pub root: Option<u64>,
    /// Its `app`.
    pub app: Option<u64>,
    /// Its `supervisor`.
    pub supervisor: Option<u64>,
}

/// A directory that lpm made for itself, and may remove.
#[derive(Debug)]
pub struct OwnDirectory {
    /// Where it was made.
    pub parent: Cgroup,
    /// Its name there.
    pub name: String,
    /// Where lpm is, and where the guardian goes at its end. The parent, if that cannot be seen.
    pub home: Cgroup,
}

/// Names below the root.
pub(super) const SUPERVISOR: &str = "supervisor";
pub(super) const APP: &str = "app";

/// What could not be done while building the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// With what.
    pub path: PathBuf,
    /// What the kernel said.
    pub errno: Errno,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from(self.errno).to_string();
        write!(
            f,
            "{}: {}",
            self.path.display(),
            text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text)
        )
    }
}

impl std::error::Error for Trouble {}

impl Tree {
    /// In a cgroup that was given to us and that we are alone in. lpm moves into `supervisor`.
    ///
    /// # Errors
    /// Nothing is left behind, and lpm is where it was.
    pub fn delegated(path: &Path, mark: Mark<'_>, controllers: &[&str]) -> Result<Tree, Trouble> {
        let trouble = |errno| Trouble { path: path.to_owned(), errno };
        let root = Cgroup::open(path).map_err(trouble)?;
        Tree::grow(root, None, path, mark, controllers)
    }

    /// In a new directory of our own, `name`, below `parent`. lpm stays where it is.
    ///
    /// # Errors
    /// `EEXIST` if the name is taken. Nothing is left behind.
    pub fn own_directory(
        parent: &Path,
        name: &str,
        mark: Mark<'_>,
        controllers: &[&str],
    ) -> Result<Tree, Trouble> {
        let path = parent.join(name);
        let trouble = |errno| Trouble { path: path.clone(), errno };
        let parent = Cgroup::open(parent).map_err(trouble)?;
        let home = match own_cgroup() {
            Some(home) => home,
            None => parent.try_clone().map_err(trouble)?,
        };
        let root = parent.create(name, Existing::Refuse).map_err(trouble)?;
        // The lock says that this run lives, also to an lpm that sees neither our record nor our pid; the guardian
        // inherits it. It comes before the mark: what has a mark and no lock is dead.
        let _ = rustix::fs::flock(&root, FlockOperation::NonBlockingLockExclusive);
        mark.put(&root);
        // Only the root of all may hold processes and hand on controllers. Elsewhere the kernel refuses some and
        // makes of others a threaded cgroup, below which no process can be born ("domain invalid").
        let is_root = matches!(parent.read("cgroup.type"), Err(Errno::NOENT));
        if is_root || parent.procs().is_ok_and(|procs| procs.is_empty()) {
            // Whether that works is seen from below. It stays enabled: others may rely on it by then.
            let _: Vec<_> = controllers.iter().map(|controller| parent.enable(controller)).collect();
        }
        Tree::grow(root, Some(OwnDirectory { parent, name: name.to_owned(), home }), &path, mark, controllers)
    }

    fn grow(
        root: Cgroup,
        own: Option<OwnDirectory>,
        path: &Path,
        mark: Mark<'_>,
        controllers: &[&str],
    ) -> Result<Tree, Trouble> {
        let built = (|| -> Result<_, (&str, Errno)> {
            let make = |name| {
                let made = root.create(name, Existing::Accept).map_err(|errno| (name, errno))?;
                mark.put(&made);
                Ok(made)
            };
            let (supervisor, app) = (make(SUPERVISOR)?, make(APP)?);
            if own.is_none() {
                supervisor.enter().map_err(|errno| (SUPERVISOR, errno))?;
                // Something might move us elsewhere as fast as we came (an agent that tidies up).
                match Own::find() {
                    Ok(Own::At(now)) if now.ends_with(SUPERVISOR) => {}
                    _ => return Err((SUPERVISOR, Errno::XDEV)),
                }
            }
            Ok((supervisor, app))
        })();
        let (supervisor, app) = match built {
            Ok(built) => built,
            Err((name, errno)) => {
                let _ = prune(&root, None, own.as_ref());
                return Err(Trouble { path: path.join(name), errno });
            }
        };
        let mut refused = Vec::new();
        for &controller in controllers {
            if let Err(errno) = root.enable(controller).and_then(|()| app.enable(controller)) {
                refused.push((controller.to_owned(), errno));
            }
        }
        // Whatever was answered, this is the truth.
        let enabled = app.subtree_control().unwrap_or_default();
        Ok(Tree {
            root,
            supervisor,
            app,
            own,
            path: path.to_owned(),
            enabled,
            refused,
            left: AtomicBool::new(false),
            files: Mutex::default(),
        })
    }

    /// The ids of its cgroups, for the record.
    ///
    /// # Errors
    /// What fstat(2) says.
    pub fn ids(&self) -> Result<Ids, Errno> {
        Ok(Ids {
            root: Some(self.root.id()?),
            app: Some(self.app.id()?),
            supervisor: Some(self.supervisor.id()?),
        })
    }

    /// Files that end with the run.
    pub fn files(&self) -> Arc<Files> {
        Arc::clone(&self.files.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Names the files that end with the run, for guardians that are started from now on.
    pub fn ends_with(&self, files: Files) {
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(files);
    }

    /// The root's path, for people.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cgroup above all leaves.
    pub fn app(&self) -> &Cgroup {
        &self.app
    }

    /// The guardian is born here.
    pub fn supervisor(&self) -> &Cgroup {
        &self.supervisor
    }

    /// The root itself. Nothing may be written to it.
    pub fn root(&self) -> &Cgroup {
        &self.root
    }

    /// Where the root is a directory of lpm's own.
    pub fn own(&self) -> Option<&OwnDirectory> {
        self.own.as_ref()
    }

    /// Controllers that leaves have, read back from the kernel.
    pub fn enabled(&self) -> &[String] {
        &self.enabled
    }

    /// Whether leaves have a controller.
    pub fn has(&self, controller: &str) -> bool {
        self.enabled.iter().any(|name| name == controller)
    }

    /// Controllers that were asked for and refused.
    pub fn refused(&self) -> &[(String, Errno)] {
        &self.refused
    }

    /// A new leaf. Marked as delegated, which it is to whoever lives in it: an lpm that is alone in a leaf
    /// of another one then builds its tree there, and not somewhere else.
    ///
    /// # Errors
    /// `EEXIST` if the last invocation's was not removed.
    pub fn leaf(&self, name: &str) -> Result<Cgroup, Errno> {
        let leaf = self.app.create(name, Existing::Refuse)?;
        // Before Linux 5.6 there are no such marks.
        let _ = rustix::fs::fsetxattr(&leaf, "user.delegate", b"1", XattrFlags::empty());
        Ok(leaf)
    }

    /// Remove everything that was made, and go back to where lpm came from. May be called again.
    ///
    /// # Errors
    /// `EBUSY` while somebody is left in it: an instance, or the guardian.
    pub fn leave(&self) -> Result<(), Errno> {
        if !self.left.load(Ordering::Acquire) {
            prune(&self.root, Some(&self.app), self.own.as_ref())?;
            self.left.store(true, Ordering::Release);
        }
        Ok(())
    }
}

/// Take a tree down: the leaves; then the controllers, because a cgroup that hands them on may hold no
/// process, and whoever called may have to go back into it; then the rest. Also what the guardian does.
///
/// # Errors
/// `EBUSY` while somebody is left in it.
pub(super) fn prune(root: &Cgroup, app: Option<&Cgroup>, own: Option<&OwnDirectory>) -> Result<(), Errno> {
    match app {
        Some(app) => remove_same(root, APP, app.id()?)?,
        // Not made, or without any process yet.
        None => root.remove(APP)?,
    }
    match root.subtree_control() {
        Ok(controllers) => controllers.iter().try_for_each(|controller| root.disable(controller))?,
        Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    let ours = rustix::process::getpid();
    let inside = match root.child(SUPERVISOR) {
        Ok(supervisor) => supervisor.procs()?.contains(&ours),
        Err(_) => false,
    };
    match own {
        None => {
            if inside {
                root.enter()?;
            }
            root.remove(SUPERVISOR)
        }
        Some(own) => {
            if inside && own.home.enter().is_err() {
                own.parent.enter()?;
            }
            root.remove(SUPERVISOR)?;
            remove_same(&own.parent, &own.name, root.id()?)
        }
    }
}

/// Removes the child called `name` if it is the one with this id. One that has the name now is not ours.
///
/// # Errors
/// `EBUSY` while processes are in it.
pub(super) fn remove_same(parent: &Cgroup, name: &str, id: u64) -> Result<(), Errno> {
    match parent.child(name).and_then(|child| child.id()) {
        Ok(found) if found == id => parent.remove(name),
        Ok(_) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The cgroup this process is in, if it can be seen.
fn own_cgroup() -> Option<Cgroup> {
    let Ok(Own::At(path)) = Own::find() else { return None };
    Cgroup::open(&Mount::find().ok()??.locate(&path)?).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::linux::cgroup::tests::{Place as TestPlace, start};
    use crate::linux::tier::{Facts, Place, Systemd, decide};

    /// Of a run that no other test has to recognise.
    pub(crate) const MARK: Mark<'_> = Mark { run: "0123456789abcdef", place: "here" };

    #[test]
    fn a_tree_of_its_own_goes_without_a_trace() {
        let Some(place) = TestPlace::new("a_tree_of_its_own_goes_without_a_trace") else { return };
        let before = Own::find().unwrap();
        let tree = Tree::own_directory(&place.path(), "lpm-test", MARK, &[]).unwrap();
        assert!(matches!(
            Tree::own_directory(&place.path(), "lpm-test", MARK, &[]),
            Err(Trouble { errno: Errno::EXIST, .. })
        ));
        assert_eq!(Own::find().unwrap(), before, "lpm stays where it is");
        let leaf = tree.leaf("web.1").unwrap();
        assert!(matches!(tree.leaf("web.1"), Err(Errno::EXIST)));
        let (_, pidfd) = start(&leaf, "exec sleep 1000");
        assert_eq!(tree.leave(), Err(Errno::BUSY));
        leaf.kill().unwrap();
        pidfd.wait().unwrap();
        assert_eq!(tree.leave(), Ok(()));
        assert_eq!(tree.leave(), Ok(()));
        assert_eq!(place.cgroup.children(), Ok(Vec::new()));
    }

    /// Run one ignored test of this binary in a process of its own, which is born in a cgroup: a test that
    /// moves its process would move all others with it.
    fn alone(place: &TestPlace, test: &str) {
        use crate::linux::birth::{Birth, Environment};
        use crate::linux::pidfd::{Exit, PidFd};
        use crate::linux::spawn::spawn;
        use std::ffi::CString;
        use std::os::fd::AsFd;
        let exe = std::env::current_exe().unwrap();
        let name = format!("linux::tree::tests::{test}");
        let argv = [exe.to_str().unwrap(), "--exact", &name, "--ignored", "--test-threads=1", "--nocapture"]
            .map(|word| CString::new(word).unwrap());
        let path = place.path();
        let environment = Environment::new([("LPM_TEST_PLACE", path.as_os_str())]).unwrap();
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        let birth = Birth::new(&argv, &environment, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
        let child = spawn(&birth, Some(place.cgroup.as_fd())).unwrap();
        assert_eq!(PidFd::from(child.pidfd).wait().unwrap().exit, Exit::Code(0), "{test}");
    }

    #[test]
    fn a_given_cgroup_is_left_as_it_was() {
        let Some(place) = TestPlace::new("a_given_cgroup_is_left_as_it_was") else { return };
        alone(&place, "in_a_given_cgroup");
        assert_eq!(place.cgroup.children(), Ok(Vec::new()));
        assert_eq!(place.cgroup.subtree_control(), Ok(Vec::new()));
    }

    #[test]
    #[ignore = "run by a_given_cgroup_is_left_as_it_was"]
    #[expect(clippy::disallowed_methods, reason = "how the other test tells it where it is")]
    fn in_a_given_cgroup() {
        let Some(path) = std::env::var_os("LPM_TEST_PLACE").map(PathBuf::from) else { return };
        let before = Own::find().unwrap();
        let facts = Facts::gather(None, None, None).unwrap();
        let here = facts.here.clone().unwrap();
        assert_eq!((&here.path, here.others, here.writable, here.has_type), (&path, 0, true, true));
        if facts.systemd == Systemd::Absent {
            assert_eq!(decide(&facts).place, Place::Delegated(path.clone()));
        }
        // Whatever there is here (on a hybrid machine nothing of use).
        let controllers: Vec<&str> = here.controllers.iter().map(String::as_str).collect();
        let tree = Tree::delegated(&path, MARK, &controllers).unwrap();
        assert_eq!(tree.enabled(), here.controllers);
        let Own::At(now) = Own::find().unwrap() else { panic!("nowhere") };
        assert!(now.ends_with("supervisor"));
        let leaf = tree.leaf("web.1").unwrap();
        let (pid, pidfd) = start(&leaf, "exec sleep 1000");
        assert_eq!(leaf.procs(), Ok(vec![pid]));
        leaf.kill().unwrap();
        pidfd.wait().unwrap();
        tree.leave().unwrap();
        tree.leave().unwrap();
        assert_eq!(Own::find().unwrap(), before);
    }
}
