//! What a user sees when lpm itself cannot go on: what, where, what to do; once; and its exit code.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::time::{ClockId, clock_gettime};

use crate::escape;

/// Why lpm ends without having run the stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// One message a line, lower case, without a period.
    messages: Vec<String>,
    code: u8,
}

impl Error {
    /// One message; exit code 1, as for everything that goes wrong before a process ran.
    pub fn new(message: impl Into<String>) -> Error {
        Error { messages: vec![message.into()], code: 1 }
    }

    /// Several messages, for instance every error of a Procfile.
    pub fn several(messages: impl IntoIterator<Item = impl fmt::Display>) -> Error {
        Error { messages: messages.into_iter().map(|message| message.to_string()).collect(), code: 1 }
    }

    /// What is said, one message a line.
    pub fn messages(&self) -> &[String] {
        &self.messages
    }

    /// lpm's exit code (`docs/exit-codes.md`).
    pub fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Error {
    /// `lpm: MESSAGE`, a line each; what is in a message is not escaped here but where it is written ([`tell`]).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, message) in self.messages.iter().enumerate() {
            let end = if at + 1 < self.messages.len() { "\n" } else { "" };
            write!(f, "lpm: {message}{end}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// What the kernel said, without its number: `No such file or directory`.
pub fn words(error: impl Into<std::io::Error>) -> String {
    let text = error.into().to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(text, _)| text.to_owned())
}

/// Writes a line on standard error, control characters escaped ([`escape::lines`]). A reader that is slow gets all of it;
/// one that does not read is given `SILENCE`, once; one that left, or a full disk, is no reason for another error.
pub fn tell(line: impl fmt::Display) {
    tell_drawn(escape::lines(&line.to_string()));
}

/// The same for text that has colours and nothing else that a terminal obeys.
pub fn tell_drawn(line: impl fmt::Display) {
    let silence = if STUCK.load(Ordering::Relaxed) { Duration::ZERO } else { SILENCE };
    let written = write(rustix::stdio::stderr(), format!("{line}\n").as_bytes(), silence);
    STUCK.store(written == Written::Stuck, Ordering::Relaxed);
}

/// The same from a thread that must not wait: another one writes.
pub fn tell_aside(line: impl fmt::Display) {
    let line = line.to_string();
    let aside = {
        let line = line.clone();
        thread::Builder::new().name("lpm-tell".to_owned()).stack_size(TELL_STACK).spawn(move || tell(line))
    };
    if aside.is_err() {
        let line = format!("{}\n", escape::lines(&line));
        let _ = write(rustix::stdio::stderr(), line.as_bytes(), Duration::ZERO);
    }
}

/// How long a reader that takes nothing is waited for.
const SILENCE: Duration = Duration::from_secs(1);

/// The longest time for one text, however slowly it is read: the end of lpm waits for it.
const LONGEST: Duration = Duration::from_secs(10);

/// The pause where a terminal promises room and takes nothing: a newline needs two bytes of room.
const PAUSE: Duration = Duration::from_millis(10);

/// The most that is written at a time, bytes; a datagram socket takes it, too.
const CHUNK: usize = 4096;

/// The same where a write may wait for all of it, bytes: each is a sign that the reader is alive.
const LITTLE: usize = 64;

/// The stack of a thread that only writes, bytes.
const TELL_STACK: usize = 128 << 10;

/// The last text was not taken in time, so the next one is not waited for.
static STUCK: AtomicBool = AtomicBool::new(false);

/// What became of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Whole,
    /// The reader left, or the disk is full.
    Refused,
    /// Time ran out.
    Stuck,
}

/// How a descriptor is written to without waiting for its reader. `O_NONBLOCK` on standard error itself would change
/// the terminal of every other process that shares it.
enum Way<'a> {
    /// An open file description of our own, with `O_NONBLOCK`.
    Own(OwnedFd),
    /// send(2) does not wait if told so.
    Socket(BorrowedFd<'a>),
    /// A regular file. Its offset is shared, and must be.
    File(BorrowedFd<'a>),
}

impl Way<'_> {
    /// `None`: there is none for this descriptor, for example for a terminal of another user after su(1).
    fn to(fd: BorrowedFd<'_>) -> Option<Way<'_>> {
        match FileType::from_raw_mode(fstat(fd).ok()?.st_mode) {
            FileType::Socket => Some(Way::Socket(fd)),
            FileType::Fifo | FileType::CharacterDevice => {
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                rustix::fs::open(path, flags, Mode::empty()).ok().map(Way::Own)
            }
            _ => Some(Way::File(fd)),
        }
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Way::Own(fd) => rustix::io::write(fd, bytes),
            Way::Socket(fd) => rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Way::File(fd) => rustix::io::write(fd, bytes),
        }
    }

    fn wait(&self, most: Duration) {
        let fd = match self {
            Way::Own(fd) => fd.as_fd(),
            Way::Socket(fd) | Way::File(fd) => *fd,
        };
        pause(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], most);
    }
}

/// Writes to `fd`. `silence`: how long the reader may take nothing.
fn write(fd: BorrowedFd<'_>, bytes: &[u8], silence: Duration) -> Written {
    let Some(way) = Way::to(fd) else { return write_by_thread(fd, bytes, silence) };
    let began = monotonic();
    let (mut rest, mut taken, mut promised) = (bytes, began, false);
    while !rest.is_empty() {
        match way.write(&rest[..rest.len().min(CHUNK)]) {
            Ok(0) => return Written::Refused,
            Ok(length) => {
                rest = &rest[length..];
                (taken, promised) = (monotonic(), false);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let left = (taken + silence).min(began + LONGEST).saturating_sub(monotonic());
                if left.is_zero() {
                    return Written::Stuck;
                }
                // Not at once again: poll(2) may have promised room that was too little.
                if promised {
                    pause(&mut [], PAUSE.min(left));
                } else {
                    way.wait(left);
                }
                promised = !promised;
            }
            Err(_) => return Written::Refused,
        }
    }
    Written::Whole
}

/// The same where every write may wait: a thread waits in place of us. One that is stuck ends with lpm.
fn write_by_thread(fd: BorrowedFd<'_>, bytes: &[u8], silence: Duration) -> Written {
    let Ok(fd) = rustix::io::fcntl_dupfd_cloexec(fd, 3) else { return Written::Refused };
    let (tell, told) = mpsc::channel();
    let bytes = bytes.to_vec();
    let writes = move || {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match rustix::io::write(&fd, &rest[..rest.len().min(LITTLE)]) {
                Ok(length) if length > 0 => rest = &rest[length..],
                Err(Errno::INTR) => continue,
                Ok(_) | Err(_) => {
                    let _ = tell.send(Written::Refused);
                    return;
                }
            }
            // One that does not wait any more is no reason to stop.
            let _ = tell.send(Written::Stuck);
        }
        let _ = tell.send(Written::Whole);
    };
    let thread = thread::Builder::new().name("lpm-tell".to_owned()).stack_size(TELL_STACK).spawn(writes);
    if thread.is_err() {
        return Written::Stuck;
    }
    let until = monotonic() + LONGEST;
    // A thread needs a moment of its own, even where the reader is given none.
    let silence = silence.max(PAUSE);
    loop {
        match told.recv_timeout(silence.min(until.saturating_sub(monotonic()))) {
            Ok(Written::Stuck) => {}
            Ok(written) => return written,
            Err(_) => return Written::Stuck,
        }
    }
}

fn pause(fds: &mut [PollFd<'_>], most: Duration) {
    let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: most.subsec_nanos().into() };
    let _ = poll(fds, Some(&most));
}

fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that can make no thread has failed")]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// Long for a machine that is busy, short for a test.
    const SHORT: Duration = Duration::from_millis(40);

    /// Runs `work` in a thread, since it may hang; fails if it does.
    fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        thread::spawn(move || done.send(work()));
        result.recv_timeout(Duration::from_secs(5)).unwrap_or_else(|_| panic!("{what} hangs"))
    }

    fn terminal() -> (OwnedFd, OwnedFd) {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap();
        (master, slave)
    }

    fn socket() -> (OwnedFd, OwnedFd) {
        let (reader, writer) = UnixStream::pair().unwrap();
        (reader.into(), writer.into())
    }

    /// Fills `writer` until it takes nothing more, and takes `room` bytes out again.
    fn fill(reader: &OwnedFd, writer: &OwnedFd, room: usize) {
        let way = Way::to(writer.as_fd()).expect("a way");
        for size in [CHUNK, 64, 1] {
            while way.write(&vec![b'.'; size]).is_ok() {}
        }
        let mut taken = 0;
        while taken < room {
            taken += rustix::io::read(reader, &mut vec![0; room - taken][..]).unwrap();
        }
    }

    #[test]
    fn a_reader_that_does_not_read_is_not_waited_for() {
        for (what, pair) in [
            ("terminal", terminal as fn() -> _),
            ("pipe", || rustix::pipe::pipe().unwrap()),
            ("socket", socket),
        ] {
            for room in [0, 1, 2, 100, 2048, 4095, 4096, 8192] {
                // What a terminal holds is little.
                if what == "terminal" && room > 2048 {
                    continue;
                }
                let text = "long line\n".repeat(30_000);
                let (reader, writer) = pair();
                let written = in_time(&format!("{what} with room for {room}"), move || {
                    fill(&reader, &writer, room);
                    let written = write(writer.as_fd(), text.as_bytes(), SHORT);
                    // A `tell` without patience answers at once.
                    assert_eq!(write(writer.as_fd(), b"x", Duration::ZERO), Written::Stuck);
                    drop(reader);
                    written
                });
                assert_eq!(written, Written::Stuck, "{what} with room for {room}");
            }
        }
    }

    #[test]
    fn a_slow_reader_gets_everything() {
        for pair in [terminal as fn() -> _, || rustix::pipe::pipe().unwrap(), socket] {
            let (reader, writer) = pair();
            fill(&reader, &writer, 0);
            let text = "0123456789abcdef\n".repeat(1000);
            let whole = text.clone();
            let reads = thread::spawn(move || {
                let mut all = Vec::new();
                let mut bytes = [0; 700];
                while !all.ends_with(b"the end") {
                    pause(&mut [], Duration::from_micros(200));
                    let length = rustix::io::read(&reader, &mut bytes).unwrap();
                    all.extend(bytes[..length].iter().filter(|byte| **byte != b'\r'));
                }
                all
            });
            assert_eq!(write(writer.as_fd(), (text + "the end").as_bytes(), SILENCE), Written::Whole);
            let all = reads.join().unwrap();
            assert!(String::from_utf8(all).unwrap().ends_with(&(whole + "the end")));
        }
    }

    #[test]
    fn a_thread_writes_where_every_write_may_wait() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        assert_eq!(write_by_thread(writer.as_fd(), b"one\n", SHORT), Written::Whole);
        let mut bytes = [0; 9];
        assert_eq!(rustix::io::read(&reader, &mut bytes), Ok(4));
        fill(&reader, &writer, 0);
        assert_eq!(write_by_thread(writer.as_fd(), b"two\n", SHORT), Written::Stuck);
        // It is still on its way.
        fill(&reader, &writer, 4096);
        drop(reader);
        assert_eq!(write_by_thread(writer.as_fd(), b"three\n", SHORT), Written::Refused);
    }

    #[test]
    fn a_reader_that_left_and_a_full_disk_are_no_error() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        assert_eq!(write(writer.as_fd(), b"x", SHORT), Written::Refused);
        let full = rustix::fs::open("/dev/full", OFlags::WRONLY, Mode::empty()).unwrap();
        assert_eq!(write(full.as_fd(), b"x", SHORT), Written::Refused);
    }
}
