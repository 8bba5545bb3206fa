//! Being executed again in a scope of our own: `systemd-run --scope`, in place.
//!
//! systemd-run asks the manager for a transient scope, is put into it, and executes its command: same
//! pid, terminal, environment and descriptors (systemd-run(1), `--scope`). The name of the unit goes along as
//! `LPM_SCOPE`, and whoever finds that in his environment does not do it again. Standard input that was read
//! already travels in a memfd.
//!
//! There is no way back: if systemd-run itself fails, it says so and ends. Whether the manager answers is
//! asked before ([`super::tier::Systemd`]).

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;

use super::{signals, spawn};

/// The variable that holds the unit's name, and forbids a second time. Not for children.
pub const GUARD: &str = "LPM_SCOPE";
/// The variable that holds the number of the descriptor with standard input. Not for children.
pub const STDIN: &str = "LPM_STDIN_FD";

/// What to execute, and where.
#[derive(Debug)]
pub struct Scope<'a> {
    /// The user's manager, not the system's.
    pub user: bool,
    /// `lpm-shop-4711.scope`: letters, digits and `:-_.` (systemd.unit(5)).
    pub unit: &'a str,
    /// The resolved path of this program: `/proc/self/exe` would be systemd-run by then.
    pub executable: &'a Path,
    /// Its arguments as they were typed, without the program's name.
    pub arguments: &'a [OsString],
    /// What was read from standard input already.
    pub stdin: Option<&'a [u8]>,
    /// Our `XDG_RUNTIME_DIR`, and what it should be (`/run/user/UID`).
    pub runtime_directory: Option<&'a OsStr>,
    /// Effective user.
    pub euid: u32,
}

impl Scope<'_> {
    /// Execute it. Returns only if that failed, with everything as before.
    ///
    /// # Errors
    /// Always: why it could not be executed, for example that there is no systemd-run.
    pub fn exec(&self) -> io::Error {
        let stdin = match self.stdin.map(memfd).transpose() {
            Ok(stdin) => stdin,
            Err(error) => return error,
        };
        let exists = runtime_exists(self.euid);
        let ignored = signals::is_ignored(libc::SIGPIPE);
        let error = self.command(stdin.as_ref().map(AsRawFd::as_raw_fd), exists).exec();
        // It was set to its default on the way there; a write to a closed pipe would now kill us.
        if ignored {
            let _ = signals::ignore(libc::SIGPIPE);
        }
        error
    }

    /// `systemd-run [--user] --scope …`. `runtime_exists`: `/run/user/UID` is there and ours.
    fn command(&self, stdin: Option<i32>, runtime_exists: bool) -> Command {
        let mut command = Command::new("systemd-run");
        if self.user {
            command.arg("--user");
        }
        command.args(["--scope", "--quiet", "--collect"]);
        command.arg(format!("--unit={}", self.unit));
        command.args(["--property=Delegate=yes", "--"]).arg(self.executable).args(self.arguments);
        command.env(GUARD, self.unit);
        if let Some(number) = stdin {
            command.env(STDIN, number.to_string());
        }
        if self.user {
            for (name, value) in repairs(self.euid, self.runtime_directory, runtime_exists) {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
        }
        command
    }
}

/// Whether `/run/user/UID` is there and ours.
pub(super) fn runtime_exists(euid: u32) -> bool {
    let ours = format!("/run/user/{euid}");
    std::fs::metadata(ours).is_ok_and(|data| data.is_dir() && data.uid() == euid)
}

/// The variables that systemd-run needs otherwise than we have them to find the user's manager; `None` takes one
/// away. `runtime_exists`: `/run/user/UID` is there and ours.
pub(super) fn repairs(
    euid: u32,
    runtime_directory: Option<&OsStr>,
    runtime_exists: bool,
) -> Vec<(&'static str, Option<String>)> {
    let runtime = format!("/run/user/{euid}");
    // Missing under sudo, su and cron; somebody else's where it was kept over a change of user.
    if !runtime_exists || runtime_directory == Some(OsStr::new(&runtime)) {
        return Vec::new();
    }
    // The bus may be the other user's, and is asked first.
    vec![("XDG_RUNTIME_DIR", Some(runtime)), ("DBUS_SESSION_BUS_ADDRESS", None)]
}

/// Standard input that was read already: bytes in memory behind a descriptor that survives `execve`, for
/// [`STDIN`].
///
/// # Errors
/// There is no memory, or no descriptor.
pub fn memfd(bytes: &[u8]) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(rustix::fs::memfd_create("lpm-stdin", MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    rustix::io::fcntl_setfd(&file, FdFlags::empty())?;
    Ok(file.into())
}

/// The other side: what was read from standard input before we were executed again, if [`STDIN`] names
/// a descriptor. Only a memfd of ours is believed.
///
/// # Errors
/// It is none, or cannot be read.
pub fn stdin_handed_over(number: &str) -> io::Result<Vec<u8>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{STDIN} is not set by lpm"));
    let number: i32 = number.parse().map_err(|_| wrong())?;
    let link = std::fs::read_link(format!("/proc/self/fd/{number}")).map_err(|_| wrong())?;
    if !link.as_os_str().as_encoded_bytes().starts_with(b"/memfd:lpm-stdin") {
        return Err(wrong());
    }
    let mut bytes = Vec::new();
    std::fs::File::from(spawn::passed(number)?).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> Vec<&str> {
        std::iter::once(command.get_program())
            .chain(command.get_args())
            .map(|word| word.to_str().unwrap())
            .collect()
    }

    fn variables(command: &Command) -> Vec<(&str, Option<&str>)> {
        command
            .get_envs()
            .map(|(name, value)| (name.to_str().unwrap(), value.map(|value| value.to_str().unwrap())))
            .collect()
    }

    fn scope<'a>(arguments: &'a [OsString]) -> Scope<'a> {
        Scope {
            user: true,
            unit: "lpm-shop-7.scope",
            executable: Path::new("/opt/lpm"),
            arguments,
            stdin: None,
            runtime_directory: Some(OsStr::new("/run/user/1000")),
            euid: 1000,
        }
    }

    #[test]
    fn the_command_is_spelled_out() {
        let arguments = ["start", "--env", "a b"].map(OsString::from);
        let scope = scope(&arguments);
        let command = scope.command(None, true);
        assert_eq!(
            words(&command),
            [
                "systemd-run",
                "--user",
                "--scope",
                "--quiet",
                "--collect",
                "--unit=lpm-shop-7.scope",
                "--property=Delegate=yes",
                "--",
                "/opt/lpm",
                "start",
                "--env",
                "a b",
            ]
        );
        assert_eq!(variables(&command), [("LPM_SCOPE", Some("lpm-shop-7.scope"))]);
        let root = Scope { user: false, runtime_directory: None, euid: 0, ..scope };
        let command = root.command(Some(5), true);
        assert_eq!(words(&command)[1], "--scope");
        assert_eq!(
            variables(&command),
            [("LPM_SCOPE", Some("lpm-shop-7.scope")), ("LPM_STDIN_FD", Some("5"))]
        );
    }

    #[test]
    fn a_missing_or_foreign_runtime_directory_is_repaired() {
        let repaired = [
            ("DBUS_SESSION_BUS_ADDRESS", None),
            ("LPM_SCOPE", Some("lpm-shop-7.scope")),
            ("XDG_RUNTIME_DIR", Some("/run/user/1000")),
        ];
        for runtime_directory in [None, Some(OsStr::new("/run/user/0"))] {
            let scope = Scope { runtime_directory, ..scope(&[]) };
            assert_eq!(variables(&scope.command(None, true)), repaired);
            assert_eq!(variables(&scope.command(None, false)).len(), 1, "not if it is not there");
        }
    }

    #[test]
    fn standard_input_is_handed_over() {
        let memfd = memfd(b"web: sleep 1\n").unwrap();
        let number = memfd.as_raw_fd().to_string();
        assert_eq!(stdin_handed_over(&number).unwrap(), b"web: sleep 1\n");
        for wrong in ["0", "-1", "x", "99999"] {
            assert!(stdin_handed_over(wrong).is_err(), "{wrong}");
        }
    }
}
