//! A process by descriptor: signal it, learn of its end, reap it.
//!
//! A number can come to mean another process; a pidfd cannot (pidfd_open(2)). Nothing here ever signals
//! a number. The descriptor is readable when the process has exited; [`PidFd::reap`] then has its status.
#![expect(unsafe_code, reason = "rustix's calls know no real-time signals and give no rusage")]

use std::io::Read;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

/// A process, for certain: one of ours from birth on, or one found by number and looked at twice.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned or called `exit` (0 to 255).
    Code(u8),
    /// A signal killed it.
    Signal {
        /// Its number.
        signal: i32,
        /// A core was dumped.
        core: bool,
    },
}

/// What is left of a child of ours once it was reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// Which number it had.
    pub pid: Pid,
    /// How it ended.
    pub exit: Exit,
    /// CPU time of it and of the children it waited for, user and system together (getrusage(2)).
    pub cpu: Duration,
    /// Its largest resident set, or that of one of the children it waited for, in bytes.
    pub peak_rss: u64,
}

/// Reads the number of a process. `None` for text that is none, 0 and negative numbers included: those mean groups of
/// processes to kill(2), and [`Pid::from_raw`] panics at them or takes them as they are.
pub fn number(text: &str) -> Option<Pid> {
    let number: i32 = text.trim().parse().ok()?;
    if number > 0 { Pid::from_raw(number) } else { None }
}

impl PidFd {
    /// The process that has this number now; `None` if there is none. Whoever got the number from
    /// somewhere must look again *after* this call whether it still means what it meant.
    ///
    /// # Errors
    /// What pidfd_open(2) says, for example `EMFILE`.
    pub fn open(pid: Pid) -> Result<Option<PidFd>, Errno> {
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => Ok(Some(PidFd(fd))),
            // EINVAL: the number is a thread's, not a process's (pidfd_open(2)).
            Err(Errno::SRCH | Errno::INVAL) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Send a signal, 1 to 64, or 0 to ask whether it could be sent. `false`: the process is gone. A
    /// zombie takes signals and does nothing with them.
    ///
    /// # Errors
    /// `EPERM` if it is not ours to signal, `EINVAL` if it is no signal (pidfd_send_signal(2)).
    pub fn send(&self, signal: i32) -> Result<bool, Errno> {
        // SAFETY: pidfd_send_signal(2) takes numbers and, for siginfo, a null pointer: "as kill(2)".
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match result {
            0 => Ok(true),
            _ => match errno() {
                Errno::SRCH => Ok(false),
                errno => Err(errno),
            },
        }
    }

    /// The status of a child of ours that has ended, `None` while it lives. Does not wait. The process is
    /// gone afterwards and its number free.
    ///
    /// # Errors
    /// `ECHILD` if it is not our child, or was reaped already.
    pub fn reap(&self) -> Result<Option<Reaped>, Errno> {
        self.collect(libc::WNOHANG)
    }

    /// As [`reap`](Self::reap), and waits. For processes whose end is certain and near.
    ///
    /// # Errors
    /// `ECHILD` if it is not our child, or was reaped already.
    pub fn wait(&self) -> Result<Reaped, Errno> {
        loop {
            match self.collect(0) {
                Ok(Some(reaped)) => return Ok(reaped),
                Ok(None) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Whether this child of ours has ended without ever having been the program it was to be: killed inside
    /// `execve`, before its first instruction. Under a tight `memory.max` that is the kernel's OOM killer.
    /// To be asked before it is reaped, because what its `/proc` entry says goes with it.
    pub fn never_began(&self) -> bool {
        match self.waitid(libc::WNOHANG | libc::WNOWAIT) {
            Ok(Some((pid, Exit::Signal { .. }, _))) => never_executed(pid),
            _ => false,
        }
    }

    /// Whether this child of ours has ended and can be reaped. One that is traced by another process cannot yet, although
    /// its descriptor is readable.
    ///
    /// # Errors
    /// `ECHILD` if it is not our child, or was reaped already.
    pub fn can_be_reaped(&self) -> Result<bool, Errno> {
        self.waitid(libc::WNOHANG | libc::WNOWAIT).map(|ended| ended.is_some())
    }

    fn collect(&self, options: i32) -> Result<Option<Reaped>, Errno> {
        let Some((pid, exit, usage)) = self.waitid(options)? else { return Ok(None) };
        let cpu = duration(usage.ru_utime) + duration(usage.ru_stime);
        let peak_rss = u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024;
        Ok(Some(Reaped { pid, exit, cpu, peak_rss }))
    }

    /// The system call itself, whose fifth argument glibc's wrapper hides (waitid(2), "C library/kernel
    /// differences").
    fn waitid(&self, options: i32) -> Result<Option<(Pid, Exit, libc::rusage)>, Errno> {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        let mut usage = MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: waitid(2) writes at most one siginfo and one rusage to places that hold them; both were
        // zeroed, and all zeroes is a valid value of either.
        let (info, usage) = unsafe {
            if libc::syscall(
                libc::SYS_waitid,
                libc::P_PIDFD,
                self.0.as_raw_fd(),
                info.as_mut_ptr(),
                options | libc::WEXITED,
                usage.as_mut_ptr(),
            ) != 0
            {
                return Err(errno());
            }
            (info.assume_init(), usage.assume_init())
        };
        // SAFETY: with WEXITED alone the kernel fills the SIGCHLD part of the union, or nothing, which
        // the zeroes above make a pid of 0 (waitid(2), WNOHANG).
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        let Some(pid) = Pid::from_raw(pid) else { return Ok(None) };
        let exit = match info.si_code {
            libc::CLD_EXITED => Exit::Code((status & 0xff) as u8),
            code => Exit::Signal { signal: status, core: code == libc::CLD_DUMPED },
        };
        Ok(Some((pid, exit, usage)))
    }
}

/// Adopts the descriptor that a birth gave.
impl From<OwnedFd> for PidFd {
    fn from(fd: OwnedFd) -> PidFd {
        PidFd(fd)
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> OwnedFd {
        pidfd.0
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A child of ours that has ended and was not reaped, whichever the kernel names first; it stays as it is.
/// Blind waiting would take the status of a child that somebody else is about to ask for.
pub fn peek() -> Option<Pid> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: waitid(2) writes at most one siginfo to a place that holds one; it was zeroed, and all zeroes
    // is a valid value.
    let info = unsafe {
        if libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) != 0 {
            return None;
        }
        info.assume_init()
    };
    // SAFETY: with WEXITED alone the kernel fills the SIGCHLD part of the union, or nothing, which the
    // zeroes above make a pid of 0 (waitid(2), WNOHANG).
    Pid::from_raw(unsafe { info.si_pid() })
}

/// Whether a zombie of ours never got past `execve`: the kernel's PF_FORKNOEXEC is set at the birth and
/// taken away at the point of no return (`begin_new_exec`); it is in the ninth field of
/// proc_pid_stat(5). The number is safe to use, since nobody but us can reap it.
fn never_executed(pid: Pid) -> bool {
    const PF_FORKNOEXEC: u32 = 0x40;
    let mut text = [0; 512];
    let read = std::fs::File::open(format!("/proc/{}/stat", pid.as_raw_pid()))
        .and_then(|mut file| file.read(&mut text));
    let Ok(length) = read else { return false };
    flags_of_stat(&text[..length]).is_some_and(|flags| flags & PF_FORKNOEXEC != 0)
}

/// Field 9. Field 2 is the name in parentheses and may hold anything, so count from the last `)`.
fn flags_of_stat(stat: &[u8]) -> Option<u32> {
    let after = stat.iter().rposition(|&byte| byte == b')')?;
    let flags = stat[after + 1..].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).nth(6)?;
    std::str::from_utf8(flags).ok()?.parse().ok()
}

fn duration(time: libc::timeval) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
}

fn errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use std::process::{Command, Stdio};

    /// The child's number, and its pidfd. std's handle is dropped: it neither kills nor reaps.
    fn start(script: &str) -> (Pid, PidFd) {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let pid = Pid::from_raw(command.spawn().unwrap().id() as i32).unwrap();
        (pid, PidFd::open(pid).unwrap().unwrap())
    }

    #[test]
    fn an_exit_code_comes_back() {
        let (pid, pidfd) = start("exit 7");
        let reaped = pidfd.wait().unwrap();
        assert_eq!((reaped.pid, reaped.exit), (pid, Exit::Code(7)));
        assert!(reaped.peak_rss > 0);
    }

    #[test]
    fn a_living_process_has_no_status_yet() {
        let (_, pidfd) = start("exec sleep 1000");
        assert_eq!(pidfd.reap(), Ok(None));
        assert_eq!(pidfd.send(0), Ok(true));
        assert_eq!(pidfd.send(libc::SIGKILL), Ok(true));
        let exit = pidfd.wait().unwrap();
        assert_eq!(exit.exit, Exit::Signal { signal: libc::SIGKILL, core: false });
    }

    #[test]
    fn a_reaped_process_is_gone_and_says_so() {
        let (_, pidfd) = start("exit 0");
        pidfd.wait().unwrap();
        assert_eq!(pidfd.send(libc::SIGTERM), Ok(false));
        assert_eq!(pidfd.reap(), Err(Errno::CHILD));
    }

    #[test]
    fn it_is_readable_at_the_exit() {
        let (_, pidfd) = start("exit 3");
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        assert_eq!(poll(&mut fds, None).unwrap(), 1);
        assert_eq!(pidfd.reap().unwrap().unwrap().exit, Exit::Code(3));
    }

    #[test]
    fn real_time_signals_arrive() {
        let (_, pidfd) = start("exec sleep 1000");
        assert_eq!(pidfd.send(65), Err(Errno::INVAL));
        assert_eq!(pidfd.send(37), Ok(true));
        assert_eq!(pidfd.wait().unwrap().exit, Exit::Signal { signal: 37, core: false });
    }

    #[test]
    fn cpu_time_is_measured() {
        let (_, pidfd) = start("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done");
        assert!(pidfd.wait().unwrap().cpu > Duration::ZERO);
    }

    #[test]
    fn who_never_reached_execve_is_told_apart() {
        // SAFETY: the child of a threaded process may call what is async-signal-safe: pause(2) is.
        let pid = match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: as above.
                unsafe { libc::pause() };
            },
            pid => Pid::from_raw(pid).unwrap(),
        };
        let pidfd = PidFd::open(pid).unwrap().unwrap();
        pidfd.send(libc::SIGKILL).unwrap();
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        assert_eq!(poll(&mut fds, None).unwrap(), 1);
        assert!(pidfd.never_began());
        pidfd.wait().unwrap();
    }

    #[test]
    fn nobody_has_the_number() {
        // Above the largest pid_max of 64-bit Linux (proc_sys_kernel(5)).
        assert!(PidFd::open(Pid::from_raw(0x40_0001).unwrap()).unwrap().is_none());
    }

    #[test]
    fn flags_are_found_behind_any_name() {
        let stat = b"12 (a) R (b) S 1 12 12 0 -1 4194368 81 0 0 0";
        assert_eq!(flags_of_stat(stat), Some(4_194_368));
        assert_eq!(flags_of_stat(b"12 (sh"), None);
        assert_eq!(flags_of_stat(b""), None);
    }
}
