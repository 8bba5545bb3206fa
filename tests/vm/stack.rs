//! A Procfile in a folder of its own, and lpm running there as a user's shell would start it: output on
//! a pipe, no terminal. Knows how to wait for what lpm says and how it ends; knows none of its texts.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tempfile::TempDir;

use crate::waiting::{self, PATIENCE};

/// The lpm under test.
pub fn lpm() -> PathBuf {
    PathBuf::from(std::env::var_os("LPM_BIN").expect("LPM_BIN is set in a guest"))
}

/// A folder with a Procfile.
pub struct Stack {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Stack {
    /// The text of the Procfile. The lines' commands are run by a shell, so they can be whole programs:
    /// `tail /dev/zero` eats memory, `while :; do :; done` burns a processor, `setsid -f` gets away.
    pub fn new(procfile: &str) -> Stack {
        let folder = TempDir::with_prefix("stack-").expect("a temporary folder can be made");
        Stack { folder, environment: Vec::new() }.file("Procfile", procfile)
    }

    /// One more file beside the Procfile, such as `lpm.toml` or `.env`.
    pub fn file(self, name: &str, text: &str) -> Stack {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("a folder can be made");
        fs::write(path, text).expect("a file can be written");
        self
    }

    /// A variable in lpm's environment.
    pub fn env(mut self, name: &str, value: &str) -> Stack {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts `lpm ARGUMENTS` in the folder.
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.start_through(&[], arguments)
    }

    /// The same behind another command, such as `unshare --mount …` or `systemd-run --scope …`.
    pub fn start_through(&self, wrapper: &[&str], arguments: &[&str]) -> Running {
        let lpm = lpm();
        let mut words = wrapper.iter().map(|word| word.as_ref()).chain([lpm.as_os_str()]);
        let mut command = Command::new(words.next().expect("lpm is the last word"));
        command.args(words).args(arguments).current_dir(self.folder());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Running::spawn(command)
    }

    /// `lpm ARGUMENTS` from start to end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end()
    }
}

/// A command that runs, with its output (both streams, in the order they came) so far.
pub struct Running {
    child: Child,
    pidfd: OwnedFd,
    pipe: fs::File,
    said: Vec<u8>,
}

/// How a command ended.
pub struct Ended {
    /// Its exit code or signal.
    pub status: ExitStatus,
    /// All that it and its children said on both streams.
    pub output: String,
}

impl Ended {
    /// The output, if it ended as it should; panics with the output if not.
    #[track_caller]
    pub fn exited_with(self, code: i32) -> String {
        assert_eq!(self.status.code(), Some(code), "{}; it said:\n{}", self.status, self.output);
        self.output
    }

    /// The same for an end by a signal.
    #[track_caller]
    pub fn killed_by(self, signal: Signal) -> String {
        assert_eq!(self.status.signal(), Some(signal.as_raw()), "{}; it said:\n{}", self.status, self.output);
        self.output
    }
}

impl Running {
    /// Any command, so that a claim can also wait for the words of another program.
    pub fn spawn(mut command: Command) -> Running {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe can be made");
        let also = write.try_clone().expect("descriptors are left");
        let child = command.stdin(Stdio::null()).stdout(write).stderr(also).spawn();
        // Dropped with its ends of the pipe: else we would never see the end of it.
        let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        drop(command);
        let pidfd =
            pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).expect("our child is not reaped");
        Running { child, pidfd, pipe: read.into(), said: Vec::new() }
    }

    /// Its process number.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.pidfd, signal).expect("it can be signalled");
    }

    /// Waits for a line with `text` in it, and gives the whole line.
    #[track_caller]
    pub fn line(&mut self, text: &str) -> String {
        self.lines(text, 1).swap_remove(0)
    }

    /// Waits for `count` lines with `text` in them.
    #[track_caller]
    pub fn lines(&mut self, text: &str, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.output();
            let found: Vec<String> =
                output.lines().filter(|line| line.contains(text)).map(str::to_owned).collect();
            // A last line without its newline may be half of one.
            if found.len() > count || (found.len() == count && output.ends_with('\n')) {
                return found;
            }
            let more = self.read(deadline);
            assert!(
                more,
                "never said {text:?} {count} times; it said:\n{}",
                String::from_utf8_lossy(&self.said)
            );
        }
    }

    /// Waits for its end. Does not wait for the end of its output, which an escaped child may hold open.
    #[track_caller]
    pub fn end(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let mut open = true;
        loop {
            // Output first, so that what it said last is not lost.
            let both = [self.pipe.as_fd(), self.pidfd.as_fd()];
            let ready = waiting::readable_of(if open { &both } else { &both[1..] }, deadline);
            match ready.map(|index| index + usize::from(!open)) {
                Some(0) => open = self.read(deadline),
                Some(_) => break,
                None => panic!("still running after {PATIENCE:?}; it said:\n{}", self.output()),
            }
        }
        let status = self.child.wait().expect("our child can be waited for");
        Ended { status, output: self.output() }
    }

    /// What it said until now, with what has come and was not read yet.
    pub fn until_now(&mut self) -> String {
        while self.read(Instant::now() + Duration::from_millis(1)) {}
        self.output()
    }

    /// What was read of what it said.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.said).into_owned()
    }

    /// Takes one chunk of output; false at its end or at the deadline.
    fn read(&mut self, deadline: Instant) -> bool {
        if waiting::readable_of(&[self.pipe.as_fd()], deadline).is_none() {
            return false;
        }
        let mut chunk = [0; 8192];
        let count = self.pipe.read(&mut chunk).expect("a pipe can be read");
        self.said.extend_from_slice(&chunk[..count]);
        count > 0
    }
}

impl Drop for Running {
    /// A claim that panics leaves nothing running that would be blamed on lpm.
    fn drop(&mut self) {
        let _gone_already = pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _reaped_already = self.child.wait();
    }
}
