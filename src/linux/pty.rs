//! Pseudo-terminals: a pair of descriptors, of which the program gets the slave and lpm keeps the master.
//!
//! The master is what a terminal emulator has: what the program prints is read from it, what is written to it
//! is typed, and its size is the terminal's. It never becomes lpm's own controlling terminal, neither end is
//! passed on by accident, and the line discipline (echo, `^C`, newlines) stays as the kernel makes it.
//!
//! **The end.** When nobody has the slave open any more, what was printed can still be read, and then `read`
//! fails with `EIO`. When the session's leader ends, the kernel hangs up the slave for all who are left, and
//! drops what one of them had printed and nobody has read yet; as long as only the leader had it open nothing
//! is lost. So lpm closes its own copy of the slave as soon as the program is born. Closing the master hangs
//! up the terminal: `SIGHUP` to its session.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetwinsize, tcsetwinsize};

/// A terminal's size in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How many lines.
    pub rows: u16,
    /// How many characters in a line.
    pub columns: u16,
}

/// A new pseudo-terminal.
#[derive(Debug)]
pub struct Pty {
    /// For us; reads and writes do not wait.
    pub master: OwnedFd,
    /// For the program; it blocks.
    pub slave: OwnedFd,
}

/// Makes one of this size.
///
/// # Errors
/// `ENOSPC`: there are as many as `/proc/sys/kernel/pty/max` allows. `ENOENT`: there is no `/dev/ptmx`. And what
/// else the kernel says.
pub fn open(size: Size) -> Result<Pty, Errno> {
    // posix_openpt(3) knows no NONBLOCK.
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    let flags = rustix::fs::fcntl_getfl(&master)?;
    rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    set_size(&master, size)?;
    let slave = slave_of(&master)?;
    Ok(Pty { master, slave })
}

/// The other end, also where `/dev/pts` is another one than that of the master's `/dev/ptmx` (a container);
/// by name on kernels before 4.13.
fn slave_of(master: &OwnedFd) -> Result<OwnedFd, Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    match ioctl_tiocgptpeer(master, flags) {
        Err(Errno::INVAL | Errno::NOTTY) => {
            let name = ptsname(master, Vec::new())?;
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            rustix::fs::open(name.as_c_str(), flags, Mode::empty())
        }
        slave => slave,
    }
}

/// Gives the terminal another size. If it is another one, its foreground process group is sent `SIGWINCH`.
///
/// # Errors
/// `ENOTTY`: it is no terminal. `EIO`: it was hung up.
pub fn set_size(terminal: impl AsFd, size: Size) -> Result<(), Errno> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size)
}

/// The size of a terminal; `None` if it is none, or one that does not know.
pub fn size_of(terminal: impl AsFd) -> Option<Size> {
    let Winsize { ws_row: rows, ws_col: columns, .. } = tcgetwinsize(terminal).ok()?;
    (rows > 0 && columns > 0).then_some(Size { rows, columns })
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::os::fd::AsFd;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;
    use crate::linux::birth::{Birth, Environment, Session};
    use crate::linux::pidfd::PidFd;
    use crate::linux::spawn::spawn;

    /// A shell on a terminal of its own.
    struct Shell {
        master: OwnedFd,
        main: PidFd,
        text: String,
    }

    impl Shell {
        fn new(words: &[&str], size: Size) -> Shell {
            let Pty { master, slave } = open(size).unwrap();
            let argv: Vec<CString> = words.iter().map(|word| CString::new(*word).unwrap()).collect();
            let environment =
                Environment::new([("PATH", "/usr/bin:/bin"), ("TERM", "xterm"), ("PS1", "$ ")]).unwrap();
            let stdio = [slave.as_fd(), slave.as_fd(), slave.as_fd()];
            let birth = Birth { session: Session::Terminal, ..Birth::new(&argv, &environment, stdio) };
            let main = PidFd::from(spawn(&birth, None).unwrap().pidfd);
            Shell { master, main, text: String::new() }
        }

        fn types(&self, keys: &str) {
            assert_eq!(rustix::io::write(&self.master, keys.as_bytes()), Ok(keys.len()));
        }

        /// Reads until `text` has come, or to the end; whether it came. What was read is left in `text`.
        fn reads(&mut self, text: &str) -> bool {
            let limit = Timespec { tv_sec: 30, tv_nsec: 0 };
            loop {
                if let Some(at) = self.text.find(text) {
                    self.text.drain(..at + text.len());
                    return true;
                }
                let ready = poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&limit)).unwrap();
                assert_ne!(ready, 0, "{text:?} does not come: {:?}", self.text);
                let mut bytes = [0; 4096];
                match rustix::io::read(&self.master, &mut bytes) {
                    Ok(n) => self.text.push_str(std::str::from_utf8(&bytes[..n]).unwrap()),
                    Err(Errno::IO) => return false,
                    Err(Errno::AGAIN) => {}
                    Err(errno) => panic!("{errno}"),
                }
            }
        }

        /// All it prints from here on to its end.
        fn rest(mut self) -> String {
            assert!(!self.reads("\u{0} never"));
            self.main.wait().unwrap();
            self.text
        }
    }

    const SIZE: Size = Size { rows: 33, columns: 101 };

    #[test]
    fn a_program_has_a_controlling_terminal_of_that_size() {
        let script = "tty; test -t 0 && test -t 1 && test -t 2 && stty size && : </dev/tty && echo its own";
        let said = Shell::new(&["/bin/sh", "-c", script], SIZE).rest();
        assert!(said.starts_with("/dev/pts/"), "{said}");
        assert!(said.ends_with("33 101\r\nits own\r\n"), "{said}");
    }

    #[test]
    fn what_is_typed_is_echoed_and_read() {
        let mut shell = Shell::new(&["/bin/sh", "-c", "read word; echo got $word"], SIZE);
        shell.types("this\n");
        assert_eq!(shell.rest(), "this\r\ngot this\r\n");
        shell = Shell::new(&["/bin/sh", "-c", "stty -echo; echo ready; read word; echo got $word"], SIZE);
        assert!(shell.reads("ready\r\n"));
        shell.types("this\n");
        assert_eq!(shell.rest(), "got this\r\n");
    }

    #[test]
    fn control_c_reaches_the_foreground() {
        let mut shell = Shell::new(&["/bin/sh", "-c", "trap 'echo INT; exit' INT; echo up; cat"], SIZE);
        assert!(shell.reads("up\r\n"));
        // It has answered, so the shell is not on its way to it any more, where the signal would be lost.
        shell.types("x\n");
        assert!(shell.reads("x\r\nx\r\n"));
        shell.types("\x03");
        assert!(shell.reads("INT\r\n"));
        shell.rest();
    }

    #[test]
    fn a_shell_has_job_control() {
        let mut shell = Shell::new(&["/bin/sh", "-i"], SIZE);
        assert!(shell.reads("$ "), "{}", shell.text);
        assert!(!shell.text.contains("job control turned off"), "{}", shell.text);
        shell.types("cat\n");
        assert!(shell.reads("cat\r\n"));
        // It has answered, so it has the foreground.
        shell.types("echo\n");
        assert!(shell.reads("echo\r\necho\r\n"));
        shell.types("\x1a");
        assert!(shell.reads("Stopped"));
        // What is typed before the prompt is echoed before it, wherever the shell is.
        assert!(shell.reads("$ "));
        shell.types("fg\n");
        assert!(shell.reads("fg\r\ncat\r\n"));
        shell.types("again\n");
        assert!(shell.reads("again\r\nagain\r\n"));
        shell.types("\x04");
        assert!(shell.reads("$ "));
        shell.types("exit\n");
        shell.rest();
    }

    #[test]
    fn another_size_is_told() {
        let script = "trap 'stty size; exit' WINCH; echo up; while :; do read word; done";
        let mut shell = Shell::new(&["/bin/sh", "-c", script], SIZE);
        assert!(shell.reads("up\r\n"));
        assert_eq!(size_of(&shell.master), Some(SIZE));
        set_size(&shell.master, Size { rows: 10, columns: 20 }).unwrap();
        assert!(shell.reads("10 20\r\n"));
        shell.rest();
    }

    #[test]
    fn the_last_words_are_there_after_the_end() {
        let mut shell = Shell::new(&["/bin/sh", "-c", "printf 'a\\nlast'"], SIZE);
        shell.main.wait().unwrap();
        assert!(shell.reads("a\r\nlast") && !shell.reads("more"));
    }

    #[test]
    fn closing_the_master_hangs_up() {
        let mut shell = Shell::new(&["/bin/sh", "-c", "echo up; exec sleep 1000"], SIZE);
        assert!(shell.reads("up\r\n"));
        drop(shell.master);
        let end = shell.main.wait().unwrap();
        assert!(format!("{end:?}").contains(&libc::SIGHUP.to_string()), "{end:?}");
    }

    #[test]
    fn what_is_no_terminal_has_no_size() {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()).unwrap();
        assert_eq!(size_of(&null), None);
        assert_eq!(set_size(&null, SIZE), Err(Errno::NOTTY));
    }
}
