//! The guardian: a small process that outlives a supervisor that was killed, and cleans up after it.
//!
//! It holds lpm's pidfd, the tree's directories and one end of a pipe, and sleeps in `poll` without a
//! timeout. A byte on the pipe means that lpm takes care of everything itself; the guardian goes quietly.
//! If lpm ends without that, the guardian kills `app` (one write, also when it is frozen), waits until it
//! is empty, and removes the tree and the run's files ([`Files`]), itself last.
//!
//! It has its own session and ignores every signal that can be ignored, from its first instruction on, so
//! neither Ctrl-C nor a `systemctl stop` ends it before lpm. Besides the above it holds neither the terminal nor a
//! directory nor any other descriptor. lpm watches it in turn: [`Guardian`] is readable when it died, and
//! [`Guardian::is_stopped`] says whether it can act. Only killing both at once is beyond it.
//!
//! Without a cgroup there is no guardian: nobody could tell lpm's orphans from others once they belong to
//! init. `PR_SET_PDEATHSIG` on each main process is all there is then.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::birth::{Birth, Environment, Session};
use super::cgroup::Cgroup;
use super::pidfd::PidFd;
use super::spawn::{self, Failure};
use super::steps::Stage;
use super::tree::{self, OwnDirectory, Tree};
use super::{reserve, round};

/// How lpm starts itself as the guardian: the file that is running, also if it was replaced since.
pub const PROGRAM: [&CStr; 2] = [c"/proc/self/exe", c"__guard"];

/// The words behind it: which kind of tree, and the root's name where it is lpm's own directory; then, for each file,
/// its name, device and inode.
const GIVEN: &str = "given";
const OWN: &str = "own";
const FILE: &str = "file";

/// What it is born with, in this order, from descriptor 3 on.
const LPM: i32 = 3;
const PIPE: i32 = 4;
const APP: i32 = 5;
const ROOT: i32 = 6;
/// The first of those that are not always there: parent and home of an own directory, then each file's directory.
const FURTHER: i32 = 7;

/// Files that end with a run: its record and its socket.
#[derive(Debug, Default)]
pub struct Files {
    /// The record, locked. The guardian has it too, so that the stack is taken until the guardian has finished.
    pub lock: Option<OwnedFd>,
    /// What is removed.
    pub list: Vec<RunFile>,
}

/// A file that is removed if its name still means it.
#[derive(Debug)]
pub struct RunFile {
    /// Where.
    pub directory: OwnedFd,
    /// Its name there.
    pub name: String,
    /// Its device and inode.
    pub id: (u64, u64),
}

impl RunFile {
    fn remove(&self) -> Result<(), Errno> {
        match rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) if (there.st_dev, there.st_ino) == self.id => {
                rustix::fs::unlinkat(&self.directory, &self.name, AtFlags::empty())
            }
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// lpm's side of it. Readable when the guardian is dead. Dropping it does not end the guardian.
#[derive(Debug)]
pub struct Guardian {
    pid: Pid,
    pidfd: PidFd,
    pipe: OwnedFd,
}

impl Guardian {
    /// Start one for this process and this tree, in the tree's `supervisor`. `program` is [`PROGRAM`] but
    /// in tests.
    ///
    /// # Errors
    /// As any birth.
    pub fn start(program: &[&CStr], tree: &Tree) -> Result<Guardian, Failure> {
        let failed = |errno| Failure { stage: Stage::Stdio, errno };
        let own = rustix::process::getpid();
        let lpm = PidFd::open(own).map_err(failed)?.expect("this very process exists");
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed)?;
        let null =
            rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;

        let mut argv: Vec<CString> = program.iter().map(|&word| word.to_owned()).collect();
        let mut passed = vec![lpm.as_fd(), reader.as_fd(), tree.app().as_fd(), tree.root().as_fd()];
        match tree.own() {
            None => argv.push(word(GIVEN)),
            Some(own) => {
                argv.extend([word(OWN), word(&own.name)]);
                passed.extend([own.parent.as_fd(), own.home.as_fd()]);
            }
        }
        let files = tree.files();
        for file in &files.list {
            let (device, inode) = file.id;
            argv.extend([FILE, &file.name, &device.to_string(), &inode.to_string()].map(word));
            passed.push(file.directory.as_fd());
        }
        passed.extend(files.lock.as_ref().map(AsFd::as_fd));
        let ignored: Vec<i32> = (1..=super::signals::LAST).filter(|&signal| may_ignore(signal)).collect();
        let environment = Environment::default();
        let birth = Birth {
            passed: &passed,
            directory: Some(c"/"),
            session: Session::New,
            ignored: &ignored,
            ..Birth::new(&argv, &environment, [null.as_fd(); 3])
        };
        let child = spawn::spawn(&birth, Some(tree.supervisor().as_fd()))?;
        Ok(Guardian { pid: child.pid, pidfd: PidFd::from(child.pidfd), pipe: writer })
    }

    /// Its number, for people.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The process, to reap it when it died.
    pub fn pidfd(&self) -> &PidFd {
        &self.pidfd
    }

    /// Whether it stands still now because of a signal or a tracer, as proc_pid_stat(5) has it. The number is safe to use:
    /// it is a child of ours that was not reaped.
    pub fn stands_still(&self) -> bool {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.pid.as_raw_pid())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
    }

    /// Whether it was stopped by a signal (SIGSTOP) since this was last asked.
    pub fn is_stopped(&self) -> bool {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        matches!(rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), options), Ok(Some(_)))
    }

    /// Tell it that it is not needed any more: lpm does the rest. It ends while lpm goes on;
    /// [`dismiss`](Self::dismiss) waits for that.
    pub fn release(&self) {
        // EPIPE: it is dead. Said twice, the second byte is not read by anybody.
        let _ = rustix::io::write(&self.pipe, b"!");
    }

    /// Send it away. It is gone when this returns, so that its cgroup can be removed.
    ///
    /// # Errors
    /// What waiting says; a guardian that is dead already is as good.
    pub fn dismiss(self) -> Result<(), Errno> {
        self.release();
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        if poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&second)) == Ok(0) {
            self.pidfd.send(libc::SIGKILL)?;
        }
        match self.pidfd.wait() {
            Ok(_) | Err(Errno::CHILD) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

impl AsFd for Guardian {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Guardian {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}

fn word(text: &str) -> CString {
    CString::new(text).expect("a directory name was made of it, so it holds no NUL")
}

/// Faults of its own must end it: ignored, they would repeat for ever.
fn may_ignore(signal: i32) -> bool {
    !matches!(
        signal,
        libc::SIGKILL
            | libc::SIGSTOP
            | libc::SIGSEGV
            | libc::SIGBUS
            | libc::SIGFPE
            | libc::SIGILL
            | libc::SIGCHLD
    )
}

/// The guardian itself: `lpm __guard WORDS`, where `words` is what follows. Called first thing in the
/// program, before anything else is set up. Returns its exit code.
pub fn run<W: AsRef<OsStr>>(words: &[W]) -> u8 {
    match guard(words) {
        Ok(()) => 0,
        // There is nobody to tell.
        Err(_) => 1,
    }
}

fn guard<W: AsRef<OsStr>>(words: &[W]) -> Result<(), Errno> {
    let _ = rustix::thread::set_name(c"lpm-guard");
    // Not to be chosen while what it guards against happens. Needs a privilege; without it, as it is.
    let _ = File::options()
        .write(true)
        .open("/proc/self/oom_score_adj")
        .and_then(|mut file| file.write_all(b"-900"));
    let lpm = PidFd::from(spawn::passed(LPM)?);
    let pipe = spawn::passed(PIPE)?;
    let app = Cgroup::from(spawn::passed(APP)?);
    let root = Cgroup::from(spawn::passed(ROOT)?);
    let words: Vec<&str> = words.iter().filter_map(|word| word.as_ref().to_str()).collect();
    let mut further = (FURTHER..).map(spawn::passed);
    let mut further = || further.next().unwrap_or(Err(Errno::BADF));
    let (own, mut words) = match words[..] {
        [GIVEN, ref rest @ ..] => (None, rest),
        [OWN, name, ref rest @ ..] => {
            let (parent, home) = (Cgroup::from(further()?), Cgroup::from(further()?));
            (Some(OwnDirectory { parent, name: name.to_owned(), home }), rest)
        }
        _ => return Err(Errno::INVAL),
    };
    let mut files = Vec::new();
    while let [FILE, name, device, inode, rest @ ..] = words {
        let number = |text: &str| text.parse().map_err(|_| Errno::INVAL);
        let id = (number(device)?, number(inode)?);
        files.push(RunFile { directory: further()?, name: (*name).to_owned(), id });
        words = rest;
    }
    // The lock, if there is one, is among the descriptors that this process was born with, and stays there.

    if dismissed(&lpm, &pipe) {
        return Ok(());
    }
    reserve::fill();
    // No error ends this: one that passes (ENFILE, ENOMEM) would leave the whole stack behind.
    while end(&app) != Ok(true) {
        pause();
    }
    for _ in 1..REMOVALS {
        if remove(&root, &app, own.as_ref(), &files).is_ok() {
            return Ok(());
        }
        pause();
    }
    remove(&root, &app, own.as_ref(), &files)
}

/// How often the removal of what is empty is tried, a second apart. The next start of the stack finds what is left.
const REMOVALS: usize = 30;

/// Kills everything in the stack. Returns whether it is empty within a second.
fn end(app: &Cgroup) -> Result<bool, Errno> {
    round::kill(app)?;
    match app.events() {
        Ok(events) => events.wait_empty(Some(1000)),
        Err(Errno::NOENT | Errno::NODEV) => Ok(true),
        Err(errno) => Err(errno),
    }
}

/// Removes the tree, and then the files: what cannot be removed is found by the next start through the record.
fn remove(root: &Cgroup, app: &Cgroup, own: Option<&OwnDirectory>, files: &[RunFile]) -> Result<(), Errno> {
    tree::prune(root, Some(app), own)?;
    files.iter().try_for_each(RunFile::remove)
}

/// Waits for a second, or for less if the kernel refuses to wait.
fn pause() {
    let _ = poll(&mut [], Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
}

/// Wait for the byte, or for lpm's death. The byte counts, if both are there. The pipe's end without a byte
/// says nothing, for lpm may have lost it. An error says nothing either, and is followed by another look.
fn dismissed(lpm: &PidFd, pipe: &OwnedFd) -> bool {
    let mut listening = true;
    loop {
        let watched = if listening { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = [PollFd::new(lpm, PollFlags::IN), PollFd::new(pipe, watched)];
        // A pipe at its end is reported whether asked for or not, so it is left out then.
        let count = if listening { 2 } else { 1 };
        match poll(&mut fds[..count], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => {
                pause();
                continue;
            }
        }
        let (died, spoke) = (!fds[0].revents().is_empty(), listening && !fds[1].revents().is_empty());
        if spoke {
            match rustix::io::read(pipe, &mut [0; 1]) {
                Ok(1) => return true,
                Ok(_) => listening = false,
                Err(Errno::INTR) => {}
                Err(_) => pause(),
            }
        }
        if died {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::cgroup::Existing;
    use crate::linux::cgroup::tests::{Place, start};
    use crate::linux::pidfd::Exit;
    use crate::linux::tree::tests::MARK;
    use std::io::Read;
    use std::path::PathBuf;

    /// This test binary as another program: one ignored test in a process of its own.
    fn myself(test: &str) -> Vec<CString> {
        let exe = std::env::current_exe().unwrap();
        let test = format!("linux::guardian::tests::{test}");
        ["--exact", &test, "--ignored", "--nocapture", "--test-threads=1"].iter().fold(
            vec![word(exe.to_str().unwrap())],
            |mut argv, option| {
                argv.push(word(option));
                argv
            },
        )
    }

    fn guard_here(tree: &Tree) -> Guardian {
        let program = myself("as_the_guardian");
        let program: Vec<&CStr> = program.iter().map(CString::as_c_str).collect();
        Guardian::start(&program, tree).unwrap()
    }

    #[test]
    #[ignore = "run by the other tests, as the guardian"]
    fn as_the_guardian() {
        // The words come last, and the test harness takes them for further filters that match nothing.
        let words: Vec<String> = std::env::args().skip(6).collect();
        if !words.is_empty() {
            assert_eq!(run(&words), 0);
        }
    }

    /// Stands in for lpm: builds a tree with processes that resist, says so, and waits to be killed.
    #[test]
    #[ignore = "run by the other tests, as lpm"]
    #[expect(clippy::disallowed_methods, reason = "how the other test tells it where it is")]
    fn as_lpm() {
        let Some(path) = std::env::var_os("LPM_TEST_PLACE").map(PathBuf::from) else { return };
        let tree = match std::env::var_os("LPM_TEST_OWN") {
            Some(_) => Tree::own_directory(&path, "lpm-of-its-own", MARK, &[]).unwrap(),
            None => Tree::delegated(&path, MARK, &[]).unwrap(),
        };
        let guardian = guard_here(&tree);
        let resisting = "trap '' TERM HUP INT; setsid sleep 1000 & (sleep 1000 &) ; nohup sleep 1000 & wait";
        let first = tree.leaf("web.1").unwrap();
        let second = tree.leaf("web.2").unwrap();
        let _ = (start(&first, resisting), start(&second, "kill -STOP $$"));
        while first.procs().unwrap().len() < 4 {
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
        }
        first.create("of-its-own", Existing::Refuse).unwrap();
        second.freeze(true).unwrap();
        println!("guardian {}", guardian.pid().as_raw_pid());
        let _ = poll(&mut [], None);
    }

    #[test]
    fn a_file_that_was_made_again_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        let made = || {
            std::fs::write(&path, "{}").unwrap();
            let directory = File::open(folder.path()).unwrap().into();
            let there = rustix::fs::stat(&path).unwrap();
            RunFile { directory, name: "x.json".into(), id: (there.st_dev, there.st_ino) }
        };
        let old = made();
        // Held, or its number might be given to the next one.
        let _held = File::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let new = made();
        old.remove().unwrap();
        assert!(path.exists());
        new.remove().unwrap();
        assert!(!path.exists());
        assert_eq!(new.remove(), Ok(()));
    }

    /// Until there is nothing below it, but not for ever.
    fn wait_until_bare(cgroup: &Cgroup) -> Vec<String> {
        for _ in 0..5000 {
            if cgroup.children().unwrap().is_empty() && cgroup.procs().unwrap().is_empty() {
                break;
            }
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
        }
        cgroup.children().unwrap()
    }

    fn killed_lpm_leaves_nothing(test: &str, own: bool) {
        let Some(place) = Place::new(test) else { return };
        let argv = myself("as_lpm");
        let path = place.path();
        let environment = Environment::new([("LPM_TEST_PLACE", path.as_os_str())]).unwrap();
        let environment = if own { environment.with([("LPM_TEST_OWN", "1")]).unwrap() } else { environment };
        let (reader, writer) = std::io::pipe().unwrap();
        let null = File::options().read(true).write(true).open("/dev/null").unwrap();
        let stderr = std::io::stderr();
        let birth = Birth::new(&argv, &environment, [null.as_fd(), writer.as_fd(), stderr.as_fd()]);
        // Where a directory of its own is made, lpm is not inside.
        let cgroup = (!own).then(|| place.cgroup.as_fd());
        let lpm = PidFd::from(spawn::spawn(&birth, cgroup).unwrap().pidfd);
        drop(writer);
        let mut text = String::new();
        let mut bytes = std::io::BufReader::new(reader).bytes();
        while !(text.contains("guardian ") && text.ends_with('\n')) {
            text.push(char::from(bytes.next().expect("lpm's stand-in failed").unwrap()));
        }
        let number = text.rsplit(' ').next().unwrap().trim().parse().unwrap();
        let guardian = PidFd::open(Pid::from_raw(number).unwrap()).unwrap().unwrap();
        assert!(place.cgroup.populated().unwrap());
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGTSTP, 40] {
            assert_eq!(guardian.send(signal), Ok(true), "it does not mind");
        }
        lpm.send(libc::SIGKILL).unwrap();
        assert_eq!(lpm.wait().unwrap().exit, Exit::Signal { signal: libc::SIGKILL, core: false });
        assert_eq!(wait_until_bare(&place.cgroup), Vec::<String>::new());
        assert_eq!(place.cgroup.events().unwrap().wait_empty(Some(5000)), Ok(true));
        // It is nobody's child here (init's, or some subreaper's), so its end is all there is to see.
        let mut fds = [PollFd::new(&guardian, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&Timespec { tv_sec: 5, tv_nsec: 0 })), Ok(1));
    }

    #[test]
    fn kill_9_leaves_nothing_in_a_given_cgroup() {
        killed_lpm_leaves_nothing("kill_9_leaves_nothing_in_a_given_cgroup", false);
    }

    #[test]
    fn kill_9_leaves_nothing_of_an_own_directory() {
        killed_lpm_leaves_nothing("kill_9_leaves_nothing_of_an_own_directory", true);
    }

    #[test]
    fn dismissed_it_touches_nothing() {
        let Some(place) = Place::new("dismissed_it_touches_nothing") else { return };
        let tree = Tree::own_directory(&place.path(), "lpm", MARK, &[]).unwrap();
        let guardian = guard_here(&tree);
        assert_eq!(tree.supervisor().procs(), Ok(vec![guardian.pid()]));
        let leaf = tree.leaf("web.1").unwrap();
        let (_, pidfd) = start(&leaf, "exec sleep 1000");
        guardian.dismiss().unwrap();
        assert_eq!(pidfd.reap(), Ok(None), "lives");
        leaf.kill().unwrap();
        pidfd.wait().unwrap();
        tree.leave().unwrap();
    }

    #[test]
    fn its_death_is_seen() {
        let Some(place) = Place::new("its_death_is_seen") else { return };
        let tree = Tree::own_directory(&place.path(), "lpm", MARK, &[]).unwrap();
        let guardian = guard_here(&tree);
        guardian.pidfd().send(libc::SIGKILL).unwrap();
        let mut fds = [PollFd::new(&guardian, PollFlags::IN)];
        assert_eq!(poll(&mut fds, None), Ok(1));
        guardian.dismiss().unwrap();
        tree.leave().unwrap();
    }

    #[test]
    fn a_lost_pipe_is_no_farewell() {
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        drop(writer);
        let mut child = std::process::Command::new("/bin/sh").args(["-c", "exec sleep 0.1"]).spawn().unwrap();
        let lpm = PidFd::open(Pid::from_child(&child)).unwrap().unwrap();
        assert!(!dismissed(&lpm, &reader));
        child.wait().unwrap();
    }
}
