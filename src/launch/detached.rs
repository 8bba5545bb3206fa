//! The other side of a launch: a stack that was started somewhere else than where it was typed.
//!
//! As a service it begins with nothing: it fetches what it is to be like, becomes that, and executes itself
//! again, as `lpm start` with the arguments that were typed. As a daemon it was born like that. Either way it
//! finds its launcher behind a descriptor whose number stands in `LPM_LAUNCHER_FD`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::FileType;
use rustix::io::FdFlags;

use crate::config::SCRUBBED;
use crate::driver::{LAUNCHER_VARIABLE, Launcher, News};
use crate::error::{Error, words};
use crate::launch::gather::Surroundings;
use crate::linux::{handover, scope, spawn};

/// Who waits for this stack to be up, if somebody launched it.
///
/// # Errors
/// The variable was not set by lpm.
pub fn launcher(around: &Surroundings) -> Result<Option<Launcher>, Error> {
    let Some(number) = around.variable(LAUNCHER_VARIABLE) else { return Ok(None) };
    let passed = number.to_str().and_then(|number| spawn::passed(number.parse().ok()?).ok());
    let is_socket = |kind: rustix::fs::Stat| FileType::from_raw_mode(kind.st_mode) == FileType::Socket;
    match passed.filter(|fd| rustix::fs::fstat(fd).is_ok_and(is_socket)) {
        Some(connection) => Ok(Some(Launcher::new(connection.into()))),
        None => Err(Error::new(format!("{LAUNCHER_VARIABLE} is not set by lpm (unset it)"))),
    }
}

/// `lpm __detached PATH`, as a service: fetches what it is to be like at `PATH`, and becomes that. `given` is the
/// environment that systemd gave it. Returns only if that failed; the launcher is told, if it can be.
pub fn become_the_stack(arguments: &[OsString], given: &[(OsString, OsString)]) -> Error {
    let [path] = arguments else { return Error::new("__detached is for lpm alone") };
    let path = Path::new(path);
    let connection = match handover::meet(path) {
        Ok(connection) => connection,
        // Whoever started us does not wait any more.
        Err(error) => return Error::new(format!("{}: {}", path.display(), words(error))),
    };
    let error = match take_over(&connection, given) {
        Ok(error) | Err(error) => error,
    };
    let lines = error.to_string().lines().map(str::to_owned).collect();
    Launcher::new(connection).tell(&News::Failed { code: error.code(), lines });
    error
}

/// Returns why `execve` failed, at best.
fn take_over(connection: &UnixStream, given: &[(OsString, OsString)]) -> Result<Error, Error> {
    let cannot = |what: &str, error: io::Error| Error::new(format!("{what}: {}", words(error)));
    let taken = handover::take(connection).map_err(|error| cannot("the launcher", error))?;
    let Some(likeness) = taken else {
        return Err(Error::new("the launcher left before the stack was started"));
    };
    let lacks = likeness.assume().map_err(|errno| {
        Error::new(format!("{}: cannot be entered: {}", likeness.directory.display(), words(errno)))
    })?;
    let launcher = connection.try_clone().map_err(|error| cannot("the launcher", error))?;
    rustix::io::fcntl_setfd(&launcher, FdFlags::empty())
        .map_err(|errno| cannot("the launcher", errno.into()))?;
    let stdin = likeness.stdin.as_deref().map(scope::memfd).transpose();
    let stdin = stdin.map_err(|error| cannot("standard input", error))?;
    let told = Launcher::new(launcher.try_clone().map_err(|error| cannot("the launcher", error))?);
    lacks.into_iter().for_each(|lack| told.tell(&News::Say(format!("warning: {lack}"))));

    let executable = std::env::current_exe().map_err(|error| cannot("/proc/self/exe", error))?;
    let mut command = Command::new(&executable);
    command.env_clear().envs(likeness.environment);
    command.envs(given.iter().filter(|(name, _)| is_systemds(name)).map(|(name, value)| (name, value)));
    command.env(LAUNCHER_VARIABLE, launcher.as_raw_fd().to_string());
    if let Some(stdin) = &stdin {
        command.env(scope::STDIN, stdin.as_raw_fd().to_string());
    }
    let mut arguments = likeness.arguments.into_iter();
    command.arg0(arguments.next().unwrap_or_else(|| "lpm".into())).args(arguments);
    Ok(cannot(&executable.display().to_string(), command.exec()))
}

/// Whether a variable is systemd's word to one process alone: of these, the service's own count.
pub(super) fn is_systemds(name: &OsStr) -> bool {
    SCRUBBED.iter().any(|known| name == *known && !known.starts_with("LPM_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemd_gave_is_told_from_what_was_inherited() {
        let systemds = |name: &str| is_systemds(OsStr::new(name));
        assert!(systemds("NOTIFY_SOCKET") && systemds("INVOCATION_ID") && systemds("JOURNAL_STREAM"));
        assert!(!systemds("PATH") && !systemds("LPM_SCOPE") && !systemds("LPM_CGROUP"));
    }

    #[test]
    fn a_number_that_is_no_socket_is_refused() {
        let around = |value: &str| Surroundings {
            argv: Vec::new(),
            environment: vec![(LAUNCHER_VARIABLE.into(), value.into())],
            directory: "/".into(),
        };
        let file = std::fs::File::open("/dev/null").unwrap();
        for wrong in ["", "x", "-1", "99999", &file.as_raw_fd().to_string()] {
            assert!(launcher(&around(wrong)).is_err(), "{wrong}");
        }
        let (socket, _other) = UnixStream::pair().unwrap();
        assert!(launcher(&around(&socket.as_raw_fd().to_string())).unwrap().is_some());
        let nobody = Surroundings { argv: Vec::new(), environment: Vec::new(), directory: "/".into() };
        assert!(launcher(&nobody).unwrap().is_none());
    }

    #[test]
    fn nobody_is_met_where_nobody_waits() {
        let error = become_the_stack(&["/nowhere/launch".into()], &[]).to_string();
        assert_eq!(error, "lpm: /nowhere/launch: No such file or directory");
        assert_eq!(become_the_stack(&[], &[]).to_string(), "lpm: __detached is for lpm alone");
    }
}
