//! Dispositions, masks, and how lpm ends or stops itself by a signal.
//!
//! The one handler that is installed here only notes the signal's number and wakes a descriptor ([`Caught`]); what
//! happens then is the driver's affair. Dispositions belong to the whole process, masks to one thread.
#![expect(unsafe_code, reason = "rustix has no sigaction, sigprocmask or raise; signal(7)")]

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::EventfdFlags;
use rustix::io::Errno;

/// The highest signal number of Linux (signal(7)).
pub const LAST: i32 = 64;

/// What happens when a signal arrives, as far as it can be said without a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The kernel's default (signal(7), "Standard signals").
    Default,
    /// Thrown away.
    Ignored,
    /// Somebody's handler.
    Caught,
}

/// What a signal does in this process now.
///
/// # Errors
/// `EINVAL` if the number is no signal.
pub fn disposition(signal: i32) -> Result<Disposition, Errno> {
    let mut now = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: sigaction(2) with no new action only writes to `now`, which is a valid place for one.
    let now = unsafe {
        check(libc::sigaction(signal, ptr::null(), now.as_mut_ptr()))?;
        now.assume_init()
    };
    Ok(match now.sa_sigaction {
        libc::SIG_DFL => Disposition::Default,
        libc::SIG_IGN => Disposition::Ignored,
        _ => Disposition::Caught,
    })
}

/// Whether a signal is ignored. Asked first thing in the program, this tells what was inherited, for
/// example SIGHUP from nohup(1).
pub fn is_ignored(signal: i32) -> bool {
    disposition(signal) == Ok(Disposition::Ignored)
}

/// Throw a signal away from now on. Survives `execve` (execve(2)).
///
/// # Errors
/// `EINVAL` for SIGKILL, SIGSTOP, or no signal at all.
pub fn ignore(signal: i32) -> Result<(), Errno> {
    install(signal, libc::SIG_IGN)
}

/// Back to the kernel's default.
///
/// # Errors
/// `EINVAL` for SIGKILL, SIGSTOP, or no signal at all.
pub fn reset(signal: i32) -> Result<(), Errno> {
    install(signal, libc::SIG_DFL)
}

fn install(signal: i32, handler: libc::sighandler_t) -> Result<(), Errno> {
    // SAFETY: all zeroes is a valid sigaction: no flags, empty mask, default action.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: `action` is a valid sigaction whose handler is SIG_DFL, SIG_IGN or `note`, which does what
    // signal-safety(7) allows and no more; sigaction(2).
    check(unsafe { libc::sigaction(signal, &action, ptr::null_mut()) })
}

/// All signals blocked in this thread; the old mask comes back when this is dropped.
#[must_use = "the mask is restored as soon as this is dropped"]
#[derive(Debug)]
pub struct Blocked {
    before: libc::sigset_t,
    /// A mask belongs to a thread, so the guard must be dropped on the one it was made on.
    _here: std::marker::PhantomData<*const ()>,
}

/// Block every signal that can be blocked, in this thread (pthread_sigmask(3)).
pub fn block_all() -> Blocked {
    let mut all = MaybeUninit::uninit();
    let mut before = MaybeUninit::uninit();
    // SAFETY: sigfillset(3) initialises `all`, which pthread_sigmask(3) then reads; it initialises
    // `before`. Neither can fail with these arguments.
    let before = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        before.assume_init()
    };
    Blocked { before, _here: std::marker::PhantomData }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: `before` was filled by pthread_sigmask(3) in this very thread (the type is not Send).
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, ptr::null_mut()) };
    }
}

/// These signals, read from a descriptor instead of being delivered (signalfd(2)). They are blocked in this
/// thread, which should be the only one, for as long as this is there.
#[derive(Debug)]
pub struct Watched {
    fd: OwnedFd,
    _blocked: Blocked,
}

/// Watch these signals.
///
/// # Errors
/// `EMFILE` and its like.
pub fn watch(signals: &[i32]) -> Result<Watched, Errno> {
    let (mut set, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: sigemptyset(3) initialises `set`, which the others then change or read; pthread_sigmask(3)
    // initialises `before`. A number that is no signal changes nothing.
    let (fd, before) = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for &signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr());
        (libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK), before.assume_init())
    };
    let blocked = Blocked { before, _here: std::marker::PhantomData };
    check(fd.min(0))?;
    // SAFETY: the kernel made this descriptor for us just now (signalfd(2)).
    Ok(Watched { fd: unsafe { OwnedFd::from_raw_fd(fd) }, _blocked: blocked })
}

impl Watched {
    /// The next signal that came.
    pub fn next(&self) -> Option<i32> {
        // A signalfd_siginfo, which begins with the signal's number.
        let mut info = [0; 128];
        let length = rustix::io::read(&self.fd, &mut info).ok()?;
        let number = info.get(..length)?.first_chunk()?;
        i32::try_from(u32::from_ne_bytes(*number)).ok()
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// These signals, noted by a handler in whichever thread the kernel chooses; the descriptor is readable when one came.
/// There can be one at a time in a process. They stay caught when it is dropped.
#[derive(Debug)]
pub struct Caught {
    wake: &'static OwnedFd,
    signals: Vec<i32>,
    /// Whose turn it is: a signal that comes without end must not keep the others waiting.
    turn: Cell<usize>,
}

/// The signals that came and were not taken yet, a bit each.
static CAME: AtomicU64 = AtomicU64::new(0);

/// The eventfd that [`note`] writes to. It is never closed: a handler may be at work in any thread.
static WAKE: OnceLock<OwnedFd> = OnceLock::new();

/// Catches these signals. If several came, [`Caught::next`] returns them in this order, and each in its turn.
///
/// # Errors
/// `EMFILE` and its like, before anything is caught; `EINVAL` for what is no signal.
pub fn catch(signals: &[i32]) -> Result<Caught, Errno> {
    if WAKE.get().is_none() {
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Where another thread was first, its own is as good.
        let _ = WAKE.set(wake);
    }
    let caught =
        Caught { wake: WAKE.get().expect("it was set"), signals: signals.to_vec(), turn: Cell::new(0) };
    let handler: extern "C" fn(libc::c_int) = note;
    for &signal in signals {
        install(signal, handler as libc::sighandler_t)?;
    }
    Ok(caught)
}

/// The handler. Everything it calls is async-signal-safe (signal-safety(7)), and errno is as before.
extern "C" fn note(signal: libc::c_int) {
    CAME.fetch_or(1 << (signal - 1), Ordering::SeqCst);
    // An atomic load.
    let Some(wake) = WAKE.get() else { return };
    // SAFETY: errno is a place of this thread's own. write(2) takes eight bytes from a value that lives here, on a
    // descriptor that is never closed, and does not wait.
    unsafe {
        let errno = libc::__errno_location();
        let before = *errno;
        libc::write(wake.as_raw_fd(), (&1u64 as *const u64).cast(), 8);
        *errno = before;
    }
}

impl Caught {
    /// The next signal that came; those that came several times are told once, as the kernel does it.
    pub fn next(&self) -> Option<i32> {
        let came = CAME.load(Ordering::SeqCst);
        let count = self.signals.len();
        let came_at = |at: usize| came >> (self.signals[at % count] - 1) & 1 == 1;
        let at = (self.turn.get()..self.turn.get() + count).find(|&at| came_at(at))? % count;
        self.turn.set(at + 1);
        let signal = self.signals[at];
        CAME.fetch_and(!(1 << (signal - 1)), Ordering::SeqCst);
        Some(signal)
    }

    /// Not readable any more, until another one comes. What came before is still told by [`Caught::next`], which is
    /// asked after this.
    pub fn rest(&self) {
        let _ = rustix::io::read(self.wake, &mut [0; 8]);
    }
}

impl AsFd for Caught {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

impl AsRawFd for Caught {
    fn as_raw_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }
}

/// An empty mask in this thread, whatever was inherited. For the start of the program.
pub fn unblock_all() {
    // SAFETY: sigemptyset(3) initialises the set that pthread_sigmask(3) reads.
    unsafe {
        let mut none = MaybeUninit::uninit();
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// End by a signal, so that whoever waits for us sees *killed by SIGINT* and not a number: default
/// action, unblocked, raised. Returns only if that signal does not kill: the caller then exits with 128
/// plus its number. SIGQUIT and the others that dump core are refused for the same reason: lpm's own
/// core is of no use to anybody.
pub fn die_by(signal: i32) {
    if dumps_core(signal) || reset(signal).is_err() {
        return;
    }
    // SAFETY: raise(3) and the mask calls take plain numbers and a set that sigemptyset(3) initialised.
    unsafe {
        let mut only = MaybeUninit::uninit();
        libc::sigemptyset(only.as_mut_ptr());
        libc::sigaddset(only.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, only.as_ptr(), ptr::null_mut());
        libc::raise(signal);
    }
}

/// Whether the default action is "Core" (signal(7)).
pub fn dumps_core(signal: i32) -> bool {
    matches!(
        signal,
        libc::SIGQUIT
            | libc::SIGILL
            | libc::SIGTRAP
            | libc::SIGABRT
            | libc::SIGBUS
            | libc::SIGFPE
            | libc::SIGSEGV
            | libc::SIGXCPU
            | libc::SIGXFSZ
            | libc::SIGSYS
    )
}

/// Stop this process as Ctrl-Z would, and return after it was continued.
pub fn stop_self() {
    // SAFETY: kill(2) on ourselves with SIGSTOP; the whole process stops, and goes on from here.
    unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
}

fn check(result: libc::c_int) -> Result<(), Errno> {
    match result {
        0 => Ok(()),
        _ => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // SIGWINCH and SIGURG are thrown away by default and SIGUSR2 is used by nobody here, so the tests of
    // this process do not disturb each other.

    #[test]
    fn ignored_is_seen_and_taken_back() {
        assert_eq!(disposition(libc::SIGUSR2), Ok(Disposition::Default));
        ignore(libc::SIGUSR2).unwrap();
        assert!(is_ignored(libc::SIGUSR2));
        reset(libc::SIGUSR2).unwrap();
        assert_eq!(disposition(libc::SIGUSR2), Ok(Disposition::Default));
    }

    #[test]
    fn sigkill_cannot_be_ignored() {
        assert_eq!(ignore(libc::SIGKILL), Err(Errno::INVAL));
        assert_eq!(ignore(LAST + 1), Err(Errno::INVAL));
    }

    #[test]
    fn an_end_by_a_signal_is_seen_as_that() {
        for (signal, expected) in [(libc::SIGTERM, libc::SIGTERM), (libc::SIGQUIT, 131 << 8)] {
            // SAFETY: the child of a threaded process calls what is async-signal-safe, no more: sigaction,
            // the mask, raise and _exit (signal-safety(7)).
            let pid = match unsafe { libc::fork() } {
                0 => {
                    let _blocked = block_all();
                    let _ = ignore(signal);
                    die_by(signal);
                    // SAFETY: as above.
                    unsafe { libc::_exit(128 + signal) }
                }
                pid => pid,
            };
            let mut status = 0;
            // SAFETY: waitpid(2) on our own child, into a place for one status.
            assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
            assert_eq!(status, expected);
        }
    }

    #[test]
    fn a_watched_signal_is_read_and_does_nothing_else() {
        let watched = watch(&[libc::SIGTERM, libc::SIGWINCH]).unwrap();
        assert_eq!(watched.next(), None);
        // SAFETY: pthread_kill(3) with this very thread, which blocks the signal.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGTERM) };
        let mut fds = [rustix::event::PollFd::new(&watched, rustix::event::PollFlags::IN)];
        assert_eq!(rustix::event::poll(&mut fds, None), Ok(1));
        assert_eq!(watched.next(), Some(libc::SIGTERM));
        assert_eq!(watched.next(), None);
    }

    #[test]
    fn a_caught_signal_is_told_once_and_in_order() {
        let caught = catch(&[libc::SIGURG, libc::SIGIO]).unwrap();
        assert_eq!(disposition(libc::SIGIO), Ok(Disposition::Caught));
        let readable = || {
            let mut fds = [rustix::event::PollFd::new(&caught, rustix::event::PollFlags::IN)];
            let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            rustix::event::poll(&mut fds, Some(&none)) == Ok(1)
        };
        assert!(!readable() && caught.next().is_none());
        for signal in [libc::SIGIO, libc::SIGURG, libc::SIGIO] {
            // SAFETY: raise(3) in this very thread, which has a handler for it.
            unsafe { libc::raise(signal) };
        }
        assert!(readable());
        caught.rest();
        assert!(!readable());
        assert_eq!([(); 3].map(|()| caught.next()), [Some(libc::SIGURG), Some(libc::SIGIO), None]);
        [libc::SIGURG, libc::SIGIO].into_iter().for_each(|signal| reset(signal).unwrap());
    }

    #[test]
    fn the_mask_comes_back() {
        let mask = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find(|line| line.starts_with("SigBlk")).unwrap().to_owned()
        };
        let before = mask();
        let blocked = block_all();
        assert_ne!(mask(), before);
        drop(blocked);
        assert_eq!(mask(), before);
    }
}
