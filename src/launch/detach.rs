//! `lpm start -D`: starts the stack somewhere else, waits until it is up, and leaves.
//!
//! ```text
//!  systemd can give us a place ──yes──▶ a service of its own (linux/service); what it is to be like goes over
//!                                       a private socket (linux/handover), and it executes itself as lpm start
//!                              ──no───▶ a daemon, born in a session of its own, with one end of a socket pair
//! ```
//!
//! Either way there is a connection, on which lpm tells how it goes ([`News`]). What is wrong with the text, a ceiling that
//! cannot be enforced, and a stack that runs already are found here first and told as without `-D`.
//!
//! There is no limit to the waiting, since a birth may hang on a network file system. Whoever loses patience
//! presses Ctrl-C: that closes our half of the connection, the stack goes down again, and we wait for that. A
//! second one leaves at once; the stack goes down all the same.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;

use crate::claim::{self, Identity};
use crate::config::{SCRUBBED, Signal, Stack};
use crate::driver::{LAUNCHER_VARIABLE, News};
use crate::error::{Error, tell, tell_drawn, words};
use crate::launch::detached::is_systemds;
use crate::launch::gather::Surroundings;
use crate::launch::preface::Preface;
use crate::launch::{Loaded, ground, label, owner, say, something_to_start};
use crate::linux::birth::{Birth, Environment};
use crate::linux::handover::{self, Likeness, Meeting};
use crate::linux::pidfd::PidFd;
use crate::linux::scope;
use crate::linux::service::Service;
use crate::linux::signals::{self, Watched};
use crate::linux::spawn;
use crate::linux::steps::Stage;
use crate::linux::tier::Place;
use crate::output::terminal::Escaper;
use crate::supervisor::Ending;

/// How long systemd-run, or a daemon, may take to be gone after the last word was heard.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Starts the stack and comes back when it is up. `socket`: the control socket, if it was named.
///
/// # Errors
/// Whatever stands in the way before a process runs, as without `-D`; that the stack could not be controlled; that it died
/// without a word.
pub fn detach(around: &Surroundings, loaded: Loaded, socket: Option<&Path>) -> Result<Ending, Error> {
    let Loaded { stack, procfile, stdin, .. } = loaded;
    something_to_start(&stack)?;
    let decision = ground::survey(around)?;
    ground::as_asked(around, &decision)?;
    // Under best-effort the stack says them again, and through us.
    ground::hold(&stack, &ground::lacks(&stack, &decision))?;
    let mut told = Preface::default();
    let slug = Identity { root: &stack.root, procfile: &procfile, name: &stack.name }.slug();
    // Given back at once: it is for the one who runs the stack.
    let claim = owner::claim(around, &slug, &slug, &stack.name, &mut told)?;
    if claim.is_none() && socket.is_none() {
        return Err(uncontrollable(told.out_of_reach()));
    }
    // Without a record it is found by its socket alone.
    let found_by = match (claim.is_some(), socket) {
        (false, Some(path)) => format!(" --socket {}", path.display()),
        _ => String::new(),
    };
    drop(claim);
    told.lines().iter().for_each(|line| tell(format_args!("lpm: {line}")));

    // What is ignored stays so, in a background job of a shell for instance.
    let asks_for_the_end = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];
    let heeded: Vec<i32> =
        asks_for_the_end.into_iter().filter(|&signal| !signals::is_ignored(signal)).collect();
    let cannot = |errno: Errno| Error::new(format!("cannot detach: {}", words(errno)));
    let signals = signals::watch(&heeded).map_err(cannot)?;

    let service = match decision.place {
        Place::Scope { user } => as_a_service(around, &stack, user, stdin.as_deref(), &signals)?,
        Place::Delegated(_) | Place::OwnDirectory(_) | Place::Nothing => Asked::NoSystemdRun,
    };
    let launched = match service {
        Asked::Started(launched) => launched,
        Asked::Interrupted(signal) => return Ok(Ending::Signal(signal)),
        Asked::NoSystemdRun => as_a_daemon(around, stdin.as_deref())?,
    };
    wait_until_up(&launched, &signals, &stack, &found_by, told.into_lines())
}

/// Why a stack in the background is refused that has no control socket: `lpm down` could not end it. `reasons`: why it
/// has none.
pub(super) fn uncontrollable(reasons: &[String]) -> Error {
    let what = "it would run in the background and could not be controlled \
                (name a socket in a directory of your own: --socket PATH; or set XDG_RUNTIME_DIR to one)";
    Error::several(reasons.iter().cloned().chain([what.to_owned()]))
}

/// A stack on its way up.
struct Launched {
    connection: UnixStream,
    /// lpm itself.
    lpm: PidFd,
    /// Who ends when it is all decided: systemd-run. For a daemon there is nobody but itself.
    asking: Option<PidFd>,
    /// For people.
    unit: Option<Unit>,
}

struct Unit {
    name: String,
    user: bool,
}

/// What came of asking systemd.
enum Asked {
    Started(Launched),
    /// There is nobody to ask.
    NoSystemdRun,
    Interrupted(Signal),
}

// ---- a service

fn as_a_service(
    around: &Surroundings,
    stack: &Stack,
    user: bool,
    stdin: Option<&[u8]>,
    signals: &Watched,
) -> Result<Asked, Error> {
    let cannot = |what: &dyn std::fmt::Display, error: io::Error| {
        Error::new(format!("cannot detach: {what}: {}", words(error)))
    };
    let (xdg, home) = (around.variable("XDG_RUNTIME_DIR"), around.variable("HOME"));
    let directory = claim::runtime_directory(xdg, home).map_err(Error::new)?.path;
    let meeting = Meeting::new(&directory).map_err(|error| cannot(&directory.display(), error))?;
    let executable = std::env::current_exe().map_err(|error| cannot(&"/proc/self/exe", error))?;
    let name = format!("lpm-{}-{}.service", label(stack), rustix::process::getpid().as_raw_pid());
    let service = Service {
        user,
        unit: &name,
        description: &format!("lpm: {}", label(stack)),
        executable: &executable,
        socket: meeting.path(),
        environment: &around.environment,
        euid: rustix::process::geteuid().as_raw(),
    };
    let asking = match service.start() {
        Ok(asking) => asking,
        // The stack finds out for itself how well it can do without.
        Err(failure) if (failure.stage, failure.errno) == (Stage::Exec, Errno::NOENT) => {
            return Ok(Asked::NoSystemdRun);
        }
        Err(failure) => return Err(Error::new(format!("cannot detach: systemd-run: {failure}"))),
    };

    let mut interrupted = None;
    let (connection, pid) = loop {
        let ready = ready(&[meeting.as_fd(), asking.process.as_fd(), signals.as_fd()]);
        if ready[2]
            && let Some(signal) = signals.next()
            && interrupted.replace(Signal(signal)).is_some()
        {
            // The second one. Whoever comes now finds nobody, and ends.
            return Ok(Asked::Interrupted(Signal(signal)));
        }
        if ready[0]
            && let Some(came) = meeting.accept().map_err(|error| cannot(&"the service", error))?
        {
            break came;
        }
        if ready[1] {
            return match interrupted {
                Some(signal) => Ok(Asked::Interrupted(signal)),
                None => Err(refused_by_systemd(asking.words)),
            };
        }
    };
    // Its name in the file system goes: nobody else is expected.
    drop(meeting);
    if let Some(signal) = interrupted {
        // It was told nothing, and ends.
        drop(connection);
        let _ = poll(&mut [PollFd::new(&asking.process, PollFlags::IN)], Some(&PATIENCE));
        return Ok(Asked::Interrupted(signal));
    }
    let lpm = process(pid)?;
    let mut environment: Vec<_> = around
        .environment
        .iter()
        .filter(|(name, _)| !SCRUBBED.iter().any(|known| name == known))
        .cloned()
        .collect();
    environment.push((scope::GUARD.into(), name.clone().into()));
    let likeness =
        Likeness::ours(around.argv.clone(), environment, around.directory.clone(), stdin.map(<[u8]>::to_vec));
    // If it died meanwhile, that is seen when it is waited for.
    let _ = handover::give(&connection, &likeness);
    let unit = Some(Unit { name, user });
    Ok(Asked::Started(Launched { connection, lpm, asking: Some(asking.process), unit }))
}

/// What systemd-run said before it gave up.
fn refused_by_systemd(said: OwnedFd) -> Error {
    let mut text = Vec::new();
    // Its end was closed with its process; an agent that it left behind may hold it, so no more than is there.
    let _ = rustix::fs::fcntl_setfl(&said, OFlags::NONBLOCK);
    let _ = File::from(said).take(10_000).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines: Vec<String> = lines.map(|line| format!("systemd-run: {line}")).collect();
    match lines.is_empty() {
        true => Error::new("cannot detach: systemd-run gave no reason"),
        false => Error::several(lines),
    }
}

// ---- a daemon

fn as_a_daemon(around: &Surroundings, stdin: Option<&[u8]>) -> Result<Launched, Error> {
    let cannot = |error: io::Error| Error::new(format!("cannot detach: {}", words(error)));
    let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
    let stdin = stdin.map(scope::memfd).transpose().map_err(cannot)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    let null = null.map_err(|errno| cannot(errno.into()))?;
    let executable = std::env::current_exe().map_err(cannot)?;

    let text = |word: OsString| CString::new(word.into_vec()).map_err(|error| cannot(error.into()));
    let typed = around.argv.iter().skip(1).cloned();
    let argv = std::iter::once(executable.into()).chain(typed).map(text).collect::<Result<Vec<_>, _>>()?;
    let mut passed = vec![theirs.as_fd()];
    let mut own = vec![(LAUNCHER_VARIABLE, "3")];
    if let Some(stdin) = &stdin {
        passed.push(stdin.as_fd());
        own.push((scope::STDIN, "4"));
    }
    let inherited = around.environment.iter().filter(|(name, _)| !is_systemds(name) && name != scope::STDIN);
    let environment = Environment::new(inherited.map(|(name, value)| (name, value)))
        .and_then(|environment| environment.with(own))
        .map_err(|error| cannot(error.into()))?;
    let ignored = [libc::SIGHUP];
    let birth = Birth {
        passed: &passed,
        ignored: if signals::is_ignored(libc::SIGHUP) { &ignored } else { &[] },
        ..Birth::new(&argv, &environment, [null.as_fd(); 3])
    };
    let child =
        spawn::spawn(&birth, None).map_err(|failure| Error::new(format!("cannot detach: {failure}")))?;
    Ok(Launched { connection: ours, lpm: PidFd::from(child.pidfd), asking: None, unit: None })
}

fn process(pid: Pid) -> Result<PidFd, Error> {
    match PidFd::open(pid) {
        Ok(Some(process)) => Ok(process),
        Ok(None) => Err(Error::new("cannot detach: the service died at once")),
        Err(errno) => Err(Error::new(format!("cannot detach: {}", words(errno)))),
    }
}

// ---- waiting

/// `found_by`: the option that commands need to find the stack. `said` was told already.
fn wait_until_up(
    launched: &Launched,
    signals: &Watched,
    stack: &Stack,
    found_by: &str,
    mut said: Vec<String>,
) -> Result<Ending, Error> {
    let mut interrupted = None;
    let mut lines = Lines::new(&launched.connection);
    loop {
        match lines.next_news() {
            Next::News(News::Say(line)) => {
                if !said.contains(&line) {
                    tell(format_args!("lpm: {line}"));
                    said.push(line);
                }
                continue;
            }
            Next::News(News::Up { pid }) => {
                if let Some(signal) = interrupted {
                    // It was up before it heard of that.
                    let _ = launched.lpm.send(libc::SIGTERM);
                    while !ready(&[launched.lpm.as_fd(), signals.as_fd()])[0] {
                        // The second one does not wait for that.
                        if let Some(signal) = signals.next() {
                            return Ok(Ending::Signal(Signal(signal)));
                        }
                    }
                    return Ok(Ending::Signal(signal));
                }
                // When systemd-run is done, systemd knows that the service is up.
                wait_for(launched.asking.as_ref());
                return announce(launched, stack, found_by, pid);
            }
            Next::News(News::Failed { code, lines }) => {
                wait_for(launched.asking.as_ref().or(Some(&launched.lpm)));
                if let Some(signal) = interrupted {
                    return Ok(Ending::Signal(signal));
                }
                let terminal = rustix::termios::isatty(rustix::stdio::stderr());
                lines.iter().for_each(|line| tell_drawn(shown(line, terminal)));
                return Ok(Ending::Code(code));
            }
            Next::End => {
                wait_for(launched.asking.as_ref().or(Some(&launched.lpm)));
                return match interrupted {
                    Some(signal) => Ok(Ending::Signal(signal)),
                    None => Err(died(launched, stack)),
                };
            }
            Next::Wait => {}
        }
        let ready = ready(&[launched.connection.as_fd(), signals.as_fd()]);
        if ready[1]
            && let Some(signal) = signals.next()
        {
            let _ = launched.connection.shutdown(Shutdown::Write);
            if interrupted.replace(Signal(signal)).is_some() {
                return Ok(Ending::Signal(Signal(signal)));
            }
            tell("lpm: taking the stack down again");
        }
    }
}

/// Where that is a terminal, what a program said is shown and not obeyed, as wherever its lines are printed.
fn shown(line: &str, terminal: bool) -> String {
    if !terminal {
        return line.to_owned();
    }
    let (mut escaper, mut shown) = (Escaper::default(), Vec::new());
    escaper.show(line.as_bytes(), |bytes| shown.extend_from_slice(bytes));
    escaper.end(|bytes| shown.extend_from_slice(bytes));
    String::from_utf8_lossy(&shown).into_owned()
}

fn announce(launched: &Launched, stack: &Stack, found_by: &str, pid: u32) -> Result<Ending, Error> {
    let unit = launched.unit.as_ref().map_or(String::new(), |unit| format!(" in {}", unit.name));
    say(&format!(
        "stack {} runs detached as pid {pid}{unit}\n\
         lpm status{found_by} shows it, lpm logs -f{found_by} follows it, lpm down{found_by} ends it\n",
        stack.name
    ))
}

fn died(launched: &Launched, stack: &Stack) -> Error {
    let mut text = format!("stack {} died before it was up", stack.name);
    if let Some(Unit { name, user }) = &launched.unit {
        let whose = if *user { " --user" } else { "" };
        text.push_str(&format!(" (journalctl{whose} --unit {name} may say why)"));
    }
    Error::new(text)
}

/// Not for ever: what is waited for is a courtesy.
fn wait_for(process: Option<&PidFd>) {
    if let Some(process) = process {
        let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&PATIENCE));
    }
}

/// Which of them can be read, or have come to their end. Waits for the first.
fn ready<const N: usize>(fds: &[BorrowedFd<'_>; N]) -> [bool; N] {
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    // An interruption finds none ready, and the caller comes back.
    let _ = poll(&mut polled, None);
    polled.map(|fd| !fd.revents().is_empty())
}

/// News as it comes, without waiting for it.
struct Lines<'a> {
    connection: &'a UnixStream,
    bytes: Vec<u8>,
    ended: bool,
}

enum Next {
    News(News),
    /// There is none yet.
    Wait,
    /// There will be none.
    End,
}

impl<'a> Lines<'a> {
    fn new(connection: &'a UnixStream) -> Lines<'a> {
        Lines { connection, bytes: Vec::new(), ended: false }
    }

    fn next_news(&mut self) -> Next {
        loop {
            if let Some(end) = self.bytes.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.bytes.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(news) => return Next::News(news),
                    // Half of one whose rest did not fit.
                    Err(_) => continue,
                }
            }
            if self.ended {
                return Next::End;
            }
            let mut chunk = [0; 4096];
            match rustix::net::recv(self.connection, &mut chunk, rustix::net::RecvFlags::DONTWAIT) {
                Ok((0, _)) => self.ended = true,
                Ok((length, _)) => self.bytes.extend_from_slice(&chunk[..length]),
                Err(Errno::AGAIN) => return Next::Wait,
                Err(Errno::INTR) => {}
                Err(_) => self.ended = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    const SERVICE: &str = "launch::detach::tests::as_the_service";

    /// A systemd-run that does `script`; `$socket` there is where the service is expected.
    fn systemd_run(script: &str) -> (tempfile::TempDir, Surroundings) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("systemd-run");
        let text = format!(
            "#!/bin/sh\necho \"$@\" >'{0}/words'\nfor socket; do :; done\n{script}\n",
            folder.path().display()
        );
        // By somebody else: a child of another test may be born with our descriptors, and a program that is open
        // for writing cannot be executed.
        let mut writer = std::process::Command::new("sh");
        let written = writer.args(["-c", "printf %s \"$1\" >\"$2\"", "sh", &text]).arg(&program).status();
        assert!(written.unwrap().success());
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let pair = |name: &str, value: &str| (name.into(), value.into());
        let around = Surroundings {
            argv: ["lpm", "start", "-D"].map(Into::into).to_vec(),
            environment: vec![
                pair("PATH", &path),
                pair("SECRET", "xyzzy"),
                pair("NOTIFY_SOCKET", "/not/ours"),
                pair("TEST_EXE", std::env::current_exe().unwrap().to_str().unwrap()),
            ],
            directory: folder.path().to_owned(),
        };
        (folder, around)
    }

    fn stack() -> Stack {
        let sources = crate::config::Sources {
            procfile: crate::config::Text::new("Procfile", "web: true"),
            env_files: Vec::new(),
            manifest: None,
            environment: Vec::new(),
            root: "/srv/my shop".into(),
            options: crate::config::Options::default(),
            machine: crate::config::Machine { memory: 1 << 30, cpus: 1, pid_max: 1000 },
            socket: None,
        };
        crate::config::load(&sources).unwrap().stack
    }

    fn asked(around: &Surroundings, signals: &Watched) -> Result<Asked, Error> {
        as_a_service(around, &stack(), false, Some(b"web: true"), signals)
    }

    /// Run by systemd_run's script, in a process of its own: the service, up at once.
    #[test]
    #[ignore = "run by another test, as the service"]
    #[expect(clippy::disallowed_methods, reason = "how the other test tells it where it is expected")]
    fn as_the_service() {
        let Some(socket) = std::env::var_os("TEST_SOCKET") else { return };
        let connection = handover::meet(socket.as_ref()).unwrap();
        let likeness = handover::take(&connection).unwrap().unwrap();
        let has = |name: &str| likeness.environment.iter().any(|(known, _)| known == name);
        assert!(has("SECRET") && has("LPM_SCOPE") && !has("NOTIFY_SOCKET"));
        assert_eq!(likeness.stdin.as_deref(), Some(&b"web: true"[..]));
        assert_eq!(likeness.arguments, ["lpm", "start", "-D"]);
        crate::driver::Launcher::new(connection).tell(&News::Up { pid: std::process::id() });
    }

    #[test]
    fn a_service_is_asked_for_and_fed_in_private() {
        let script =
            format!("TEST_SOCKET=$socket exec \"$TEST_EXE\" --exact {SERVICE} --ignored --nocapture");
        let (folder, around) = systemd_run(&script);
        let signals = signals::watch(&[libc::SIGUSR2]).unwrap();
        let Ok(Asked::Started(launched)) = asked(&around, &signals) else { panic!("it did not start") };
        assert!(matches!(wait_until_up(&launched, &signals, &stack(), "", Vec::new()), Ok(Ending::Code(0))));
        let words = std::fs::read_to_string(folder.path().join("words")).unwrap();
        let unit = format!("--unit=lpm-my-shop-{}.service ", std::process::id());
        assert!(words.contains(&unit), "{words}");
        assert!(!words.contains("xyzzy") && !words.contains("SECRET"), "{words}");
        let socket = words.split_whitespace().last().unwrap();
        assert!(!std::path::Path::new(socket).exists(), "{socket}");
    }

    #[test]
    fn a_refusal_is_said_in_systemds_words() {
        let (_folder, around) = systemd_run("echo 'Failed to start transient service unit: no' >&2; exit 1");
        let signals = signals::watch(&[libc::SIGUSR2]).unwrap();
        let error = asked(&around, &signals).err().unwrap().to_string();
        assert_eq!(error, "lpm: systemd-run: Failed to start transient service unit: no");
    }

    #[test]
    fn without_systemd_run_nobody_is_asked() {
        let (folder, around) = systemd_run("");
        std::fs::remove_file(folder.path().join("systemd-run")).unwrap();
        let environment = vec![("PATH".into(), folder.path().into())];
        let around = Surroundings { environment, ..around };
        let signals = signals::watch(&[libc::SIGUSR2]).unwrap();
        assert!(matches!(asked(&around, &signals), Ok(Asked::NoSystemdRun)));
    }

    #[test]
    fn news_is_read_as_it_comes() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let mut lines = Lines::new(&ours);
        assert!(matches!(lines.next_news(), Next::Wait));
        theirs.write_all(b"{\"say\":\"x\"}\n{\"up\":{\"p").unwrap();
        assert!(matches!(lines.next_news(), Next::News(News::Say(text)) if text == "x"));
        assert!(matches!(lines.next_news(), Next::Wait));
        theirs.write_all(b"id\":7}}\nnonsense\n").unwrap();
        drop(theirs);
        assert!(matches!(lines.next_news(), Next::News(News::Up { pid: 7 })));
        assert!(matches!(lines.next_news(), Next::End));
    }

    #[test]
    fn what_a_program_said_last_cannot_command_the_terminal() {
        let said = "web.1  | \x1b]0;title\x07\x1b[31mred\x1b[2J";
        let wanted = "web.1  | \\x1b]0;title\\x07\x1b[31mred\\x1b[2J\x1b[0m";
        assert_eq!(shown(said, true), wanted);
        assert_eq!(shown(said, false), said);
        assert_eq!(shown("plain\ttext é", true), "plain\ttext é");
    }

    #[test]
    fn what_systemd_run_said_is_the_reason() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&write, b"Failed to start: Access denied\n\n").unwrap();
        // Somebody still holds the other end.
        assert_eq!(refused_by_systemd(read).to_string(), "lpm: systemd-run: Failed to start: Access denied");
        let (read, _) = rustix::pipe::pipe().unwrap();
        assert!(refused_by_systemd(read).to_string().contains("gave no reason"));
    }
}
