//! A stack in a directory of its own, and everything of it that the machine holds.
//!
//! All processes carry a mark in their environment, which they inherit however they hide, and the cgroups,
//! records and sockets of lpm carry the directory's name. What is left is found by these, never by asking lpm.

use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::program::looks_until;

/// The binary under test, unless another is named.
const OWN: &str = env!("CARGO_BIN_EXE_lpm");
static OTHER: OnceLock<String> = OnceLock::new();
/// The variable that marks every process of a stack.
const MARK: &str = "LPM_FAULTS_MARK";

/// A directory with a Procfile and its company.
pub struct Stack {
    directory: tempfile::TempDir,
    mark: String,
    uid: Option<u32>,
    /// A cgroup that the stack is given, and that is not lpm's to remove.
    place: Option<PathBuf>,
}

/// A process that carries the mark of a stack.
#[derive(Debug, Clone)]
pub struct Process {
    pub pid: i32,
    pub command: String,
    /// Its program is lpm, and it is not the guardian.
    pub is_lpm: bool,
    /// It is lpm's guardian.
    pub is_guardian: bool,
}

impl Process {
    /// Sends a signal, if the number is still that of a process with this mark.
    pub fn signal(&self, stack: &Stack, signal: Signal) {
        let pidfd = Pid::from_raw(self.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // The second look comes after the opening: the number may belong to another process by now. And what was taken
        // for a supervisor as it was being born may be its guardian, which has to live on.
        if let Some(pidfd) = pidfd
            && stack.look_at(self.pid).is_some_and(|now| now.is_guardian == self.is_guardian)
        {
            let _ = pidfd_send_signal(&pidfd, signal);
        }
    }
}

impl Stack {
    /// A directory without files.
    pub fn new() -> io::Result<Stack> {
        let directory = tempfile::Builder::new().prefix("faults-").tempdir()?;
        let mark = directory.path().file_name().expect("it has a name").to_string_lossy().into_owned();
        let runtime = directory.path().join(".run");
        std::fs::create_dir(&runtime)?;
        std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o700))?;
        Ok(Stack { directory, mark, uid: None, place: None })
    }

    /// Gives the directory and a cgroup of its own to `uid`, for a supervisor that is not root's.
    pub fn belongs_to(mut self, uid: u32) -> io::Result<Stack> {
        let mut paths = vec![self.path().to_owned(), self.path().join(".run")];
        paths.extend(std::fs::read_dir(self.path())?.flatten().map(|entry| entry.path()));
        if let Some(mount) = mount() {
            let place = mount.join(format!("place-of-{}", self.mark));
            std::fs::create_dir(&place)?;
            let files = ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"];
            paths.extend(files.iter().map(|file| place.join(file)));
            paths.push(place.clone());
            self.place = Some(place);
        }
        for path in paths {
            chown(path, Some(uid), Some(uid))?;
        }
        self.uid = Some(uid);
        Ok(self)
    }

    /// `lpm ARGUMENTS` by way of prlimit(1) with these limits, as the user and in the cgroup that the stack
    /// belongs to, if it does. It keeps the pid.
    pub fn limited(&self, limits: &[&str], arguments: &[&str]) -> Command {
        let mut words = vec!["prlimit".to_owned()];
        words.extend(limits.iter().map(|limit| (*limit).to_owned()));
        if let Some(uid) = self.uid {
            words.extend(["setpriv".to_owned(), format!("--reuid={uid}"), format!("--regid={uid}")]);
            words.push("--clear-groups".to_owned());
        }
        words.push(lpm().to_owned());
        words.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        let enter = self.place.as_ref().map(|place| format!("echo $$ >{}/cgroup.procs; ", place.display()));
        let mut command = self.command("/bin/sh");
        command.args(["-c", &format!("{}exec \"$@\"", enter.unwrap_or_default()), "sh"]).args(words);
        command
    }

    /// A client of a stack that belongs to another user. Root may ask, too, and is not bound by the limits.
    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = self.lpm(arguments);
        let is_socket = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "sock");
        if let Some(socket) = self.files().into_iter().find(is_socket).filter(|_| self.uid.is_some()) {
            command.env("LPM_SOCKET", socket);
        }
        command
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file, in place of what was there.
    pub fn write(&self, name: &str, text: &str) -> io::Result<()> {
        std::fs::write(self.path().join(name), text)
    }

    /// The text of a file; nothing if there is none.
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    /// A program in the stack's directory and environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env_clear();
        command.envs([
            ("PATH", OsString::from("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")),
            ("HOME", self.path().into()),
            ("TZ", "UTC".into()),
            ("XDG_RUNTIME_DIR", self.path().join(".run").into()),
            ("HELPER", std::env::current_exe().unwrap_or_default().into()),
            (MARK, self.mark.clone().into()),
        ]);
        command
    }

    /// `lpm` with these arguments.
    pub fn lpm(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(lpm());
        command.args(arguments);
        command
    }

    /// The processes of this stack, zombies excepted, without strace(1), which ends after what it traces.
    pub fn processes(&self) -> Vec<Process> {
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(|pid| self.look_at(pid)).collect()
    }

    fn look_at(&self, pid: i32) -> Option<Process> {
        let read = |file| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let variable = format!("{MARK}={}", self.mark);
        let marked = read("environ").split(|&byte| byte == 0).any(|pair| pair == variable.as_bytes());
        let arguments = read("cmdline");
        // The guardian has an empty environment; the name of its cgroup is among its arguments.
        if !marked && memchr::memmem::find(&arguments, self.mark.as_bytes()).is_none() {
            return None;
        }
        let mut words = arguments.split(|&byte| byte == 0);
        let program = words.next().unwrap_or_default();
        if program.ends_with(b"strace") || pid == rustix::process::getpid().as_raw_pid() {
            return None;
        }
        let is_guardian = words.next() == Some(b"__guard".as_slice());
        // A process that was just born still is lpm, by its memory; `comm` tells the thread that it came from.
        let is_lpm = !is_guardian && program.ends_with(b"/lpm") && read("comm") == b"lpm\n";
        let command = String::from_utf8_lossy(&arguments).replace('\0', " ");
        Some(Process { pid, command, is_lpm, is_guardian })
    }

    /// Its supervisors (and launchers and clients): what has to be asked to end.
    pub fn supervisors(&self) -> Vec<Process> {
        self.processes().into_iter().filter(|process| process.is_lpm).collect()
    }

    /// Its guardian, if there is one.
    pub fn guardian(&self) -> Option<Process> {
        self.processes().into_iter().find(|process| process.is_guardian)
    }

    /// Its cgroups, outermost first. Deeper than [`DEPTH`] nothing is listed.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        if let Some(mount) = mount() {
            self.walk(mount, false, 0, &mut found);
        }
        found.retain(|path| Some(path) != self.place.as_ref());
        found
    }

    fn walk(&self, directory: &Path, inside: bool, depth: u32, found: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            let inside = inside || entry.file_name().to_string_lossy().contains(&self.mark);
            if inside {
                found.push(entry.path());
            }
            if depth < DEPTH {
                self.walk(&entry.path(), inside, depth + 1, found);
            }
        }
    }

    /// Its records and sockets.
    pub fn files(&self) -> Vec<PathBuf> {
        let uid = self.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        let shared = if uid == 0 { "/run/lpm".to_owned() } else { format!("/run/user/{uid}/lpm") };
        let list = |path: PathBuf| std::fs::read_dir(path).into_iter().flatten().flatten();
        let marked = list(shared.into()).map(|entry| entry.path()).filter(|path| {
            let ours = path.to_string_lossy().contains(&self.mark);
            ours && path.extension().is_some_and(|ending| ending == "json" || ending == "sock")
        });
        marked.chain(list(self.path().join(".run/lpm")).map(|entry| entry.path())).collect()
    }

    /// Processes and cgroups, in words.
    pub fn alive(&self) -> Vec<String> {
        let processes =
            self.processes().into_iter().map(|one| format!("process {} ({})", one.pid, one.command.trim()));
        let cgroups = self.cgroups().into_iter().map(|path| format!("cgroup {}", path.display()));
        processes.chain(cgroups).collect()
    }

    /// Processes, cgroups, records and sockets, in words.
    pub fn left(&self) -> Vec<String> {
        let files = self.files().into_iter().map(|path| format!("file {}", path.display()));
        self.alive().into_iter().chain(files).collect()
    }

    /// Ends and removes whatever is there.
    pub fn clean_up(&self) {
        let gone = || {
            for process in self.processes() {
                process.signal(self, Signal::KILL);
            }
            let cgroups = self.cgroups();
            for path in &cgroups {
                let _ = std::fs::write(path.join("cgroup.freeze"), "0");
                let _ = std::fs::write(path.join("cgroup.kill"), "1");
            }
            for path in cgroups.iter().rev() {
                if std::fs::remove_dir(path).is_err() {
                    remove_deep(path);
                }
            }
            self.alive().is_empty()
        };
        if !looks_until(Duration::from_secs(10), gone) {
            println!("cannot be removed: {:#?}", self.alive());
        }
        self.files().iter().for_each(|path| drop(std::fs::remove_file(path)));
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if !self.left().is_empty() {
            self.clean_up();
        }
        if let Some(place) = &self.place {
            // What was in it is gone; the kernel may take a moment to notice.
            looks_until(Duration::from_secs(1), || std::fs::remove_dir(place).is_ok());
        }
    }
}

/// How deep cgroups are looked for. A hostile process makes more, which go with their ancestors.
const DEPTH: u32 = 9;

/// Removes a cgroup with everything below it, however deep; paths of that length have no name of their own,
/// so every step is relative to a directory that is open.
fn remove_deep(path: &Path) {
    use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, unlinkat};
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(mut here) = openat(CWD, path, flags, Mode::empty()) else { return };
    let mut names = Vec::new();
    loop {
        let children: Vec<_> = Dir::read_from(&here)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type() == FileType::Directory)
            .map(|entry| entry.file_name().to_owned())
            .filter(|name| name.as_bytes() != b"." && name.as_bytes() != b"..")
            .collect();
        let refused =
            children.iter().find(|name| unlinkat(&here, name.as_c_str(), AtFlags::REMOVEDIR).is_err());
        if let Some(name) = refused {
            let Ok(below) = openat(&here, name.as_c_str(), flags, Mode::empty()) else { break };
            names.push(name.clone());
            here = below;
            // A cgroup that is refused for ever has nothing below it; going down ends there.
            if names.len() > 100_000 {
                break;
            }
            continue;
        }
        let Some(name) = names.pop() else { break };
        let Ok(above) = openat(&here, "..", flags, Mode::empty()) else { break };
        here = above;
        if unlinkat(&here, name.as_c_str(), AtFlags::REMOVEDIR).is_err() {
            break;
        }
    }
    let _ = std::fs::remove_dir(path);
}

/// The binary under test.
pub fn lpm() -> &'static str {
    OTHER.get().map_or(OWN, String::as_str)
}

/// Names another binary, once and before anything is tried.
pub fn use_lpm(path: &str) -> io::Result<()> {
    let path = std::fs::canonicalize(path)?;
    OTHER.set(path.to_string_lossy().into_owned()).map_err(|_| io::Error::other("named twice"))
}

/// Where cgroup v2 is mounted.
pub fn mount() -> Option<&'static Path> {
    static MOUNT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
        Some(PathBuf::from(mount.split(' ').nth(1)?))
    };
    MOUNT.get_or_init(find).as_deref()
}
