//! A service of our own: `systemd-run --service-type=notify`, in the user's or the system's manager.
//!
//! Unlike a [`scope`](mod@super::scope) a service has a main process, so systemd itself ends what that leaves
//! behind, and it belongs to no terminal and no session. systemd starts it from nothing: what the program is to
//! be like travels otherwise ([`super::handover`]), and only where to fetch it stands on the command line,
//! which others may read.
//!
//! The properties: systemd signals the main process alone and ends what is left of it afterwards
//! (`KillMode=mixed`); starting may take as long as it takes, because whoever started it waits and can change
//! his mind; one process killed for memory is no reason to stop all (`OOMPolicy=continue`); the journal takes
//! every line; a unit that failed is forgotten all the same (`--collect`).

use std::ffi::{CString, NulError, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::birth::{Birth, Environment, Session};
use super::pidfd::PidFd;
use super::scope;
use super::spawn::{self, Failure};
use super::steps::Stage;

/// The first argument of a program that is started as a service; where to fetch the rest follows.
pub const DETACHED: &str = "__detached";

/// What to start, and where.
#[derive(Debug)]
pub struct Service<'a> {
    /// By the user's manager, not the system's.
    pub user: bool,
    /// `lpm-shop-4711.service`: letters, digits and `:-_.` (systemd.unit(5)).
    pub unit: &'a str,
    /// For people, one line of plain characters.
    pub description: &'a str,
    /// The resolved path of this program.
    pub executable: &'a Path,
    /// Where it is expected ([`super::handover::Meeting`]).
    pub socket: &'a Path,
    /// Our environment, in which systemd-run finds its manager.
    pub environment: &'a [(OsString, OsString)],
    /// Effective user.
    pub euid: u32,
}

/// systemd-run at work. It ends when the service is up, or is not going to be.
#[derive(Debug)]
pub struct Asking {
    /// Its process.
    pub process: PidFd,
    /// What it says.
    pub words: OwnedFd,
}

impl Service<'_> {
    /// Asks for it. `ENOENT` of the [`Stage::Exec`]: there is no systemd-run.
    ///
    /// # Errors
    /// Why there is no process that could ask.
    pub fn start(&self) -> Result<Asking, Failure> {
        let failed = |errno| Failure { stage: Stage::Stdio, errno };
        let no_text = |_: NulError| failed(rustix::io::Errno::INVAL);
        let argv = self.command().map_err(no_text)?;
        let environment = Environment::new(self.variables()).map_err(no_text)?;
        let null =
            rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
        let (words, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed)?;
        let stdio = [null.as_fd(), end.as_fd(), end.as_fd()];
        let birth = Birth { session: Session::Same, ..Birth::new(&argv, &environment, stdio) };
        let child = spawn::spawn(&birth, None)?;
        Ok(Asking { process: PidFd::from(child.pidfd), words })
    }

    fn command(&self) -> Result<Vec<CString>, NulError> {
        let mut words: Vec<OsString> = vec!["systemd-run".into()];
        if self.user {
            words.push("--user".into());
        }
        words.extend(["--quiet", "--collect", "--service-type=notify"].map(OsString::from));
        words.push(format!("--unit={}", self.unit).into());
        words.push(format!("--description={}", self.description).into());
        for property in [
            "NotifyAccess=main",
            "Delegate=yes",
            "KillMode=mixed",
            "TimeoutStartSec=infinity",
            "OOMPolicy=continue",
            "LogRateLimitIntervalSec=0",
        ] {
            words.push(format!("--property={property}").into());
        }
        words.extend(["--".into(), self.executable.into(), DETACHED.into(), literally(self.socket)]);
        words.into_iter().map(|word| CString::new(word.into_vec())).collect()
    }

    /// Our environment, so that systemd-run finds its manager. The service gets nothing of it.
    fn variables(&self) -> Vec<(OsString, OsString)> {
        let mut variables = self.environment.to_vec();
        if self.user {
            let known = self.environment.iter().find(|(name, _)| name == "XDG_RUNTIME_DIR");
            let known = known.map(|(_, value)| value.as_os_str());
            for (name, value) in scope::repairs(self.euid, known, scope::runtime_exists(self.euid)) {
                variables.retain(|(other, _)| other != name);
                variables.extend(value.map(|value| (OsString::from(name), OsString::from(value))));
            }
        }
        variables
    }
}

/// A word that systemd is not to expand variables in (systemd.service(5), "Command lines").
fn literally(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes().iter();
    OsString::from_vec(
        bytes.flat_map(|&byte| std::iter::repeat_n(byte, 1 + usize::from(byte == b'$'))).collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service<'a>(environment: &'a [(OsString, OsString)]) -> Service<'a> {
        Service {
            user: true,
            unit: "lpm-shop-7.service",
            description: "lpm: shop",
            executable: Path::new("/opt/lpm"),
            socket: Path::new("/run/user/1000/lpm/launch-00ff"),
            environment,
            euid: 1000,
        }
    }

    fn words(service: &Service<'_>) -> Vec<String> {
        service.command().unwrap().into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn the_command_is_spelled_out() {
        let secret = [(OsString::from("SECRET"), OsString::from("xyzzy"))];
        let service = service(&secret);
        assert_eq!(
            words(&service),
            [
                "systemd-run",
                "--user",
                "--quiet",
                "--collect",
                "--service-type=notify",
                "--unit=lpm-shop-7.service",
                "--description=lpm: shop",
                "--property=NotifyAccess=main",
                "--property=Delegate=yes",
                "--property=KillMode=mixed",
                "--property=TimeoutStartSec=infinity",
                "--property=OOMPolicy=continue",
                "--property=LogRateLimitIntervalSec=0",
                "--",
                "/opt/lpm",
                "__detached",
                "/run/user/1000/lpm/launch-00ff",
            ]
        );
        let root = Service { user: false, euid: 0, ..service };
        assert_eq!(words(&root)[1], "--quiet");
        assert_eq!(root.variables(), secret, "the system's manager needs no variable");
    }

    #[test]
    fn a_dollar_in_the_path_is_a_dollar() {
        assert_eq!(literally(Path::new("/run/$USER/lpm")), "/run/$$USER/lpm");
    }
}
