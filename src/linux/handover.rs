//! What makes a process what it is, given to another one over a private socket: arguments, environment,
//! working directory, file mode creation mask, resource limits, and what it had read of standard input.
//!
//! Nothing of it may be seen by others, as a unit's properties or a command line could: environments hold
//! secrets. So the socket is in a directory of our own, under a name nobody can guess, each side asks the
//! kernel who the other is (`SO_PEERCRED`, unix(7)), and the socket's name is gone as soon as somebody came.
//!
//! The message is a mark, its length, and its parts in a fixed order, each text with its length before it:
//! bytes are bytes, whatever they hold. Both sides are the same program, so there is no older format to know.
//!
//! What does not travel: niceness, capabilities, groups, and any other descriptor.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::{Pid, Resource, Rlimit};

/// Every resource that has a limit, with its name as setrlimit(2) writes it; a limit travels as a place in
/// this list.
const RESOURCES: [(Resource, &str); 16] = [
    (Resource::Cpu, "CPU"),
    (Resource::Fsize, "FSIZE"),
    (Resource::Data, "DATA"),
    (Resource::Stack, "STACK"),
    (Resource::Core, "CORE"),
    (Resource::Rss, "RSS"),
    (Resource::Nproc, "NPROC"),
    (Resource::Nofile, "NOFILE"),
    (Resource::Memlock, "MEMLOCK"),
    (Resource::As, "AS"),
    (Resource::Locks, "LOCKS"),
    (Resource::Sigpending, "SIGPENDING"),
    (Resource::Msgqueue, "MSGQUEUE"),
    (Resource::Nice, "NICE"),
    (Resource::Rtprio, "RTPRIO"),
    (Resource::Rttime, "RTTIME"),
];

/// Begins every message; the digit is for the format.
const MARK: &[u8; 8] = b"lpmhand1";

/// The longest message that is taken, bytes: the largest standard input and the largest arguments fit.
const LONGEST: u64 = 128 << 20;

/// A process as another one is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Likeness {
    /// Its arguments, the program's name first.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory, absolute.
    pub directory: PathBuf,
    /// Its file mode creation mask.
    pub umask: u32,
    /// Soft and hard limits; a place in the list is a resource, `None` is no limit.
    pub limits: Vec<(Option<u64>, Option<u64>)>,
    /// What was read from standard input already.
    pub stdin: Option<Vec<u8>>,
}

impl Likeness {
    /// Of this process, with these arguments, variables and directory.
    pub fn ours(
        arguments: Vec<OsString>,
        environment: Vec<(OsString, OsString)>,
        directory: PathBuf,
        stdin: Option<Vec<u8>>,
    ) -> Likeness {
        let limit = |(resource, _): &(Resource, &str)| {
            let Rlimit { current, maximum } = rustix::process::getrlimit(*resource);
            (current, maximum)
        };
        let limits = RESOURCES.iter().map(limit).collect();
        Likeness { arguments, environment, directory, umask: umask(), limits, stdin }
    }

    /// Makes this process like it: directory, mask and limits. Arguments and environment are for the next
    /// `execve`. Answers with what could not be had, in words: a hard limit that only a privileged process
    /// may raise.
    ///
    /// # Errors
    /// The directory cannot be entered.
    pub fn assume(&self) -> Result<Vec<String>, Errno> {
        rustix::process::chdir(&self.directory)?;
        rustix::process::umask(Mode::from_bits_truncate(self.umask));
        let each = RESOURCES.iter().zip(&self.limits);
        Ok(each.filter_map(|(&(resource, name), &wanted)| assume_limit(resource, name, wanted)).collect())
    }

    #[doc(hidden)]
    pub fn encode(&self) -> Vec<u8> {
        let mut parts = Writer(Vec::new());
        parts.number(self.arguments.len() as u64);
        self.arguments.iter().for_each(|word| parts.text(word.as_bytes()));
        parts.number(self.environment.len() as u64);
        for (name, value) in &self.environment {
            parts.text(name.as_bytes());
            parts.text(value.as_bytes());
        }
        parts.text(self.directory.as_os_str().as_bytes());
        parts.number(u64::from(self.umask));
        parts.number(self.limits.len() as u64);
        for &(soft, hard) in &self.limits {
            parts.number(soft.unwrap_or(u64::MAX));
            parts.number(hard.unwrap_or(u64::MAX));
        }
        parts.number(u64::from(self.stdin.is_some()));
        parts.text(self.stdin.as_deref().unwrap_or_default());
        parts.0
    }

    /// `None`: that was not written by [`encode`](Self::encode).
    #[doc(hidden)]
    pub fn decode(bytes: &[u8]) -> Option<Likeness> {
        let mut parts = Reader(bytes);
        let mut likeness = Likeness::default();
        for _ in 0..parts.number()? {
            likeness.arguments.push(parts.text()?);
        }
        for _ in 0..parts.number()? {
            likeness.environment.push((parts.text()?, parts.text()?));
        }
        likeness.directory = parts.text()?.into();
        likeness.umask = u32::try_from(parts.number()?).ok()?;
        let limit = |number| (number != u64::MAX).then_some(number);
        for _ in 0..parts.number()? {
            likeness.limits.push((limit(parts.number()?), limit(parts.number()?)));
        }
        let had_stdin = parts.number()? == 1;
        let stdin = parts.text()?.into_vec();
        likeness.stdin = had_stdin.then_some(stdin);
        parts.0.is_empty().then_some(likeness)
    }
}

/// Our file mode creation mask. The system call can only read it by setting it, under the feet of other threads.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let known =
        status.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("Umask:")?.trim(), 8).ok());
    // What everybody has, for a /proc that is not there.
    known.unwrap_or(0o022)
}

/// Soft and hard, as near as they may come.
fn assume_limit(resource: Resource, name: &str, (soft, hard): (Option<u64>, Option<u64>)) -> Option<String> {
    let wanted = Rlimit { current: soft, maximum: hard };
    let Err(errno) = rustix::process::setrlimit(resource, wanted) else { return None };
    let here = rustix::process::getrlimit(resource).maximum;
    let least = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let nearest = Rlimit { current: least(soft, here), maximum: least(hard, here) };
    let _ = rustix::process::setrlimit(resource, nearest);
    let number = |limit: Option<u64>| limit.map_or("unlimited".to_owned(), |limit| limit.to_string());
    let why = io::Error::from(errno).to_string();
    let why = why.split(" (os error").next().unwrap_or_default();
    Some(format!("RLIMIT_{name} stays at {} and not {}: {why}", number(here), number(hard)))
}

/// Numbers and texts, one behind the other.
struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn text(&mut self) -> Option<OsString> {
        let length = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(OsString::from_vec(text.to_vec()))
    }
}

/// A socket with a name of its own, on which one process is expected. The name goes with it.
#[derive(Debug)]
pub struct Meeting {
    socket: OwnedFd,
    path: PathBuf,
}

impl Meeting {
    /// In this directory, which nobody else may enter. Those of the dead are removed there.
    ///
    /// # Errors
    /// What the kernel says; `ENAMETOOLONG` for a long path (unix(7)).
    pub fn new(directory: &Path) -> io::Result<Meeting> {
        let mut random = [0; 8];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        sweep(directory);
        let pid = rustix::process::getpid().as_raw_pid();
        let path = directory.join(format!("{PREFIX}{pid}-{:016x}", u64::from_ne_bytes(random)));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(&path)?)?;
        let meeting = Meeting { socket, path };
        rustix::net::listen(&meeting.socket, 8)?;
        Ok(meeting)
    }

    /// Where the other one is to come.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who has come, if somebody did whom the kernel knows as the same user; others are sent away.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn accept(&self) -> io::Result<Option<(UnixStream, Pid)>> {
        loop {
            match rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC) {
                Ok(connection) => {
                    if let Some(pid) = one_of_us(connection.as_fd()) {
                        return Ok(Some((connection.into(), pid)));
                    }
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// What its name in the file system begins with; the number of its process follows.
const PREFIX: &str = "launch-";

/// Removes what launchers have left that were killed. A number that another process has by now is left for another time;
/// one that is unknown here may be of another PID namespace, where its launcher listens.
fn sweep(directory: &Path) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && rustix::process::test_kill_process(pid) == Err(Errno::SRCH)
            && UnixStream::connect(entry.path())
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

impl AsFd for Meeting {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Goes where somebody is expected, and makes sure that it is one of our own user who waits there.
///
/// # Errors
/// Nobody waits there any more, or somebody else does (`EPERM`).
pub fn meet(path: &Path) -> io::Result<UnixStream> {
    let connection = UnixStream::connect(path)?;
    match one_of_us(connection.as_fd()) {
        Some(_) => Ok(connection),
        None => Err(Errno::PERM.into()),
    }
}

/// The process at the other end, if it is of the same user.
fn one_of_us(connection: BorrowedFd<'_>) -> Option<Pid> {
    let peer = sockopt::socket_peercred(connection).ok()?;
    (peer.uid == rustix::process::geteuid()).then_some(peer.pid)
}

/// Hands a likeness over.
///
/// # Errors
/// What the kernel says; `EPIPE` if the other one is gone.
pub fn give(mut connection: &UnixStream, likeness: &Likeness) -> io::Result<()> {
    let message = likeness.encode();
    connection.write_all(MARK)?;
    connection.write_all(&(message.len() as u64).to_le_bytes())?;
    connection.write_all(&message)
}

/// Takes a likeness, and not a byte more than it has. `None`: the other one changed his mind.
///
/// # Errors
/// What the kernel says; `InvalidData` if that was none.
pub fn take(mut connection: &UnixStream) -> io::Result<Option<Likeness>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "what was handed over makes no sense");
    let (mut mark, mut length) = ([0; 8], [0; 8]);
    match connection.read_exact(&mut mark) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    connection.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if mark != *MARK || length > LONGEST {
        return Err(wrong());
    }
    let mut message = Vec::new();
    connection.take(length).read_to_end(&mut message)?;
    Likeness::decode(&message).map(Some).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text() -> impl Strategy<Value = OsString> {
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(OsString::from_vec)
    }

    fn likeness() -> impl Strategy<Value = Likeness> {
        let list = proptest::collection::vec(text(), 0..6);
        let pairs = proptest::collection::vec((text(), text()), 0..6);
        let limits = proptest::collection::vec((0..u64::MAX, proptest::option::of(0..u64::MAX)), 0..17);
        let stdin = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50));
        (list, pairs, text(), any::<u32>(), limits, stdin).prop_map(
            |(arguments, environment, directory, umask, limits, stdin)| Likeness {
                arguments,
                environment,
                directory: directory.into(),
                umask,
                limits: limits.into_iter().map(|(soft, hard)| (Some(soft), hard)).collect(),
                stdin,
            },
        )
    }

    #[test]
    fn what_the_dead_have_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let dead = directory.path().join(format!("{PREFIX}{}-00ff", child.id()));
        child.wait().unwrap();
        let own = directory.path().join(format!("{PREFIX}{}-00ff", std::process::id()));
        let other = directory.path().join("shop.sock");
        [&dead, &own, &other].iter().for_each(|path| std::fs::write(path, "").unwrap());
        let meeting = Meeting::new(directory.path()).unwrap();
        assert!(!dead.exists() && own.exists() && other.exists() && meeting.path().exists());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(likeness in likeness()) {
            prop_assert_eq!(Likeness::decode(&likeness.encode()), Some(likeness));
        }

        #[test]
        fn half_of_it_is_nothing(likeness in likeness(), cut in 1usize..100) {
            let bytes = likeness.encode();
            let end = bytes.len() - cut.min(bytes.len());
            prop_assert_eq!(Likeness::decode(&bytes[..end]), None);
        }

        #[test]
        fn anything_can_be_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Likeness::decode(&bytes);
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test that can make no thread has failed")]
    fn it_travels_through_a_socket_whose_name_goes() {
        let folder = tempfile::tempdir().unwrap();
        let meeting = Meeting::new(folder.path()).unwrap();
        assert!(meeting.accept().unwrap().is_none(), "nobody came yet");
        let path = meeting.path().to_owned();
        let likeness = Likeness::ours(
            vec!["lpm".into(), "start".into()],
            vec![("SECRET".into(), OsString::from_vec(vec![0xff, b'\n', b'=']))],
            "/srv".into(),
            Some(vec![b'x'; 1 << 20]),
        );
        let there = std::thread::spawn(move || {
            let connection = meet(&path).unwrap();
            let taken = take(&connection).unwrap();
            (&connection).write_all(b"thanks").unwrap();
            taken
        });
        let mut fds = [rustix::event::PollFd::new(&meeting, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, None).unwrap();
        let (connection, pid) = meeting.accept().unwrap().expect("somebody came");
        assert_eq!(pid, rustix::process::getpid());
        drop(meeting);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        give(&connection, &likeness).unwrap();
        assert_eq!(there.join().unwrap(), Some(likeness));
        let mut thanks = [0; 6];
        (&connection).read_exact(&mut thanks).unwrap();
        assert_eq!(&thanks, b"thanks", "what comes behind it is not eaten");
    }

    #[test]
    fn a_change_of_mind_is_told_from_nonsense() {
        let (one, other) = UnixStream::pair().unwrap();
        drop(one);
        assert_eq!(take(&other).unwrap(), None);
        let (one, other) = UnixStream::pair().unwrap();
        (&one).write_all(&[7; 16]).unwrap();
        assert_eq!(take(&other).unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (one, other) = UnixStream::pair().unwrap();
        (&one).write_all(MARK).unwrap();
        (&one).write_all(&u64::MAX.to_le_bytes()).unwrap();
        assert_eq!(take(&other).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn our_own_limits_are_no_trouble() {
        let ours = Likeness::ours(Vec::new(), Vec::new(), std::env::current_dir().unwrap(), None);
        assert_eq!(ours.limits.len(), RESOURCES.len());
        assert_eq!(ours.assume(), Ok(Vec::new()));
        let again = Likeness::ours(Vec::new(), Vec::new(), std::env::current_dir().unwrap(), None);
        assert_eq!(ours, again);
    }

    #[test]
    fn a_directory_that_is_gone_is_said() {
        let gone = Likeness { directory: "/nowhere".into(), ..Likeness::default() };
        assert_eq!(gone.assume(), Err(Errno::NOENT));
    }
}
