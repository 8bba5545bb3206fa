//! Which errors each system call can really give to lpm. What cannot happen is not tried: a finding must be a
//! fault of lpm.

/// What a call works on, as `strace -yy` shows its first argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Cgroup,
    /// Another file that the kernel makes up: /proc, /sys.
    Proc,
    Pipe,
    /// A socket that has an address: a client's or a service's.
    Socket,
    /// Something whose other side is lpm itself (`socketpair`, `eventfd`, `epoll`, a pidfd), or a device.
    Own,
    /// A file of a file system, or nothing that is open.
    File,
}

impl Target {
    fn of(arguments: &str) -> Target {
        let number = arguments.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(shown) = number.strip_prefix('<') else { return Target::by_path(first(number)) };
        match shown {
            _ if shown.starts_with("pipe:") => Target::Pipe,
            // Of a pair nothing but the two inodes is shown.
            _ if shown.starts_with("UNIX") || shown.starts_with("TCP") => {
                let pair = shown.split_once("]>").is_some_and(|(name, _)| !name.contains(['"', '.']));
                if pair { Target::Own } else { Target::Socket }
            }
            _ if !shown.starts_with('/') || shown.starts_with("/dev/") => Target::Own,
            _ => Target::by_path(first(shown)),
        }
    }

    fn by_path(text: &str) -> Target {
        match text {
            _ if text.contains("/sys/fs/cgroup") => Target::Cgroup,
            _ if text.contains("/proc/") || text.contains("/sys/") => Target::Proc,
            _ => Target::File,
        }
    }
}

/// What is named first: the open file, or for `AT_FDCWD</tmp>, "/proc/stat"` and `"/proc/stat"` the path.
fn first(arguments: &str) -> &str {
    let path = arguments.starts_with(['A', '"']).then(|| arguments.split('"').nth(1)).flatten();
    path.unwrap_or_else(|| arguments.split('>').next().unwrap_or(arguments))
}

/// The errors of a call with these arguments, in strace's words; none if it is not to be refused.
///
/// Calls that are not listed either do not fail (`getpid`), fail only for arguments that lpm never passes
/// (`rt_sigaction`), or cannot be faked by refusing them (`close` closes even when it fails, `brk` has no
/// errors, a `futex` that is refused is tried again by its library).
pub fn of(call: &str, arguments: &str) -> &'static [&'static str] {
    use Target::{Cgroup, File, Own, Pipe, Proc, Socket};
    match (call, Target::of(arguments)) {
        ("read" | "pread64" | "readv", File) => &["EIO"],
        ("read" | "pread64" | "readv", Cgroup | Proc) => &["ENOMEM"],
        ("write" | "pwrite64" | "writev", File) => &["ENOSPC", "EIO", "EDQUOT"],
        ("write" | "pwrite64" | "writev", Cgroup | Proc) => &["ENOMEM"],
        ("write" | "writev", Pipe) => &["EPIPE"],
        ("write" | "writev" | "sendto" | "sendmsg", Socket) => &["EPIPE", "ENOMEM"],
        ("read" | "recvfrom" | "recvmsg", Socket) => &["ECONNRESET"],
        ("read" | "write" | "sendto" | "sendmsg" | "recvfrom" | "recvmsg", Own | Pipe) => &[],

        ("openat" | "open", Cgroup | Proc) => &["EMFILE", "ENFILE", "ENOMEM"],
        ("openat" | "open", _) => &["EMFILE", "ENFILE", "ENOMEM", "EACCES", "EIO"],
        ("mkdirat" | "mkdir", Cgroup) => &["EAGAIN", "ENOMEM", "ENOSPC"],
        ("mkdirat" | "mkdir", _) => &["ENOSPC", "EACCES", "EDQUOT", "EROFS"],
        ("unlinkat" | "unlink" | "rmdir", Cgroup) => &["EBUSY", "ENOMEM"],
        ("unlinkat" | "unlink" | "rmdir", _) => &["EACCES", "EIO", "EROFS"],
        ("renameat" | "renameat2" | "rename", _) => &["ENOSPC", "EIO", "EACCES"],
        ("getdents64", Cgroup | Proc) => &["ENOMEM"],
        ("getdents64", _) => &["EIO", "ENOMEM"],
        ("statx" | "newfstatat" | "faccessat2" | "readlink" | "readlinkat", Cgroup | Proc) => &["ENOMEM"],
        ("statx" | "newfstatat" | "faccessat2" | "readlink" | "readlinkat", _) => {
            &["ENOMEM", "EACCES", "EIO"]
        }
        ("fsetxattr", _) => &["EOPNOTSUPP", "ENOSPC"],
        ("getxattr", _) => &["EOPNOTSUPP", "ENODATA"],
        ("fstatfs" | "ftruncate", _) => &["EIO"],
        ("fsync" | "fdatasync", _) => &["EIO", "ENOSPC"],
        ("fchmodat" | "fchmod", _) => &["EPERM", "EROFS"],
        ("flock", _) => &["ENOLCK"],
        ("chdir" | "fchdir", _) => &["EACCES", "EIO", "ENOMEM"],
        ("getcwd", _) => &["ENOMEM", "ENOENT"],

        ("fcntl", _) if arguments.contains("F_DUPFD") => &["EMFILE"],
        ("prlimit64", _) if !arguments.contains("NULL, ") => &["EPERM"],
        ("dup" | "dup3", _) => &["EMFILE"],
        ("pipe2" | "inotify_init1" | "timerfd_create", _) => &["EMFILE", "ENFILE"],
        ("socket" | "socketpair" | "eventfd2" | "epoll_create1" | "pidfd_open" | "memfd_create", _) => {
            &["EMFILE", "ENFILE", "ENOMEM"]
        }
        ("accept4", _) => &["EMFILE", "ENFILE", "ENOMEM", "ECONNABORTED"],
        ("bind", _) => &["ENOSPC", "EACCES", "EADDRINUSE"],
        ("listen", _) => &["EADDRINUSE"],
        ("connect", _) => &["ECONNREFUSED", "EAGAIN", "ENOENT"],
        ("epoll_ctl", _) if arguments.contains("_ADD") => &["ENOMEM", "ENOSPC"],
        ("epoll_pwait" | "epoll_wait", _) => &["EINTR"],
        ("poll" | "ppoll", _) => &["EINTR", "ENOMEM"],

        ("clone3", _) => &["EAGAIN", "ENOMEM"],
        ("execve", _) => &["ENOMEM", "ETXTBSY", "EACCES", "EIO"],
        ("pidfd_send_signal", _) => &["EPERM"],
        ("mmap" | "mprotect", _) => &["ENOMEM"],
        _ => &[],
    }
}
