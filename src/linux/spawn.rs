//! Birth: a process that is in its cgroup before its first instruction.
//!
//! One `clone3(CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_INTO_CGROUP | CLONE_CLEAR_SIGHAND)`, then
//! `execve` in the child, with everything between done by bare system calls on values laid out before.
//!
//! * **Why VM and VFORK**: a child that copies the parent's memory pays for its page tables, in time
//!   (milliseconds for a large parent) and against the ceiling of the cgroup it is born in, where it may
//!   be killed for them before it begins. Sharing costs nothing, and the failure comes back through the
//!   shared memory: no pipe.
//! * **What sharing demands**: the parent's thread sleeps until the child has left its memory (clone(2),
//!   `CLONE_VFORK`), so the two never run at once, but the parent's *other* threads do. Hence the child
//!   gets its own stack; no signal may reach it while it could run a handler of ours; it allocates
//!   nothing, takes no lock, never panics, and calls nothing of libc, whose `errno` and locks are the
//!   parent's, and whose `setuid` family signals the parent's threads.
//! * **Where clone3 or its flag is refused** (a seccomp filter, a kernel before 5.7, valgrind), which is
//!   found out once per process: plain clone(2), and the child itself writes `0` into the leaf's
//!   `cgroup.procs` before `execve`. Still no user code outside its cgroup. The parent never moves a child:
//!   what that had forked by then would stay behind.
//!
//! Call it from a thread that lives as long as the process: `PR_SET_PDEATHSIG` counts the *thread* as the
//! parent, and the caller sleeps for the length of an `execve`, which may hang on a network file system.
//! Births are taken one at a time. A reaper that collects strangers must stand still while a birth is
//! under way: a child may be dead before the caller knows its number.
#![expect(unsafe_code, reason = "no safe interface makes a process in a cgroup; clone(2), execve(2)")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};

use super::birth::Birth;
use super::steps::{Accepts, Stage, Step, Steps};

/// A process that runs (or is about to be told by the kernel that it does not).
#[derive(Debug)]
pub struct Child {
    /// Its number, for people; it means this process until that is reaped.
    pub pid: Pid,
    /// The process itself.
    pub pidfd: OwnedFd,
}

/// Why there is no process. Nothing is left of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Which step.
    pub stage: Stage,
    /// What the kernel said.
    pub errno: Errno,
}

/// `working directory: No such file or directory`.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = std::io::Error::from_raw_os_error(self.errno.raw_os_error()).to_string();
        let text = text.rsplit_once(" (os error").map_or(text.as_str(), |(text, _)| text);
        write!(f, "{}: {text}", self.stage)
    }
}

impl std::error::Error for Failure {}

/// The other side of [`Birth::passed`]: a descriptor that this process was born with, 3, 4, …, by a
/// duplicate (close-on-exec) that is the caller's own.
///
/// # Errors
/// `EBADF` if there is none of that number.
pub fn passed(number: i32) -> Result<OwnedFd, Errno> {
    if number < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: borrowed for this one fcntl(2), which looks itself whether it is open; nothing is closed, so
    // whoever owns that number does not notice.
    rustix::io::fcntl_dupfd_cloexec(unsafe { BorrowedFd::borrow_raw(number) }, 3)
}

/// Which way into the cgroup; all but tests leave it to what the kernel accepts.
#[doc(hidden)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// clone3 until that was refused once.
    Auto,
    /// clone3, born in the cgroup.
    Clone3,
    /// clone(2), and the child enters the cgroup before `execve`.
    Clone,
}

/// Start a process in `cgroup`, or in ours if there is none to put it into.
///
/// Returns once the program was begun, or with the step that failed and nothing left behind.
///
/// # Errors
/// [`Failure`] names the step and what the kernel said to it.
pub fn spawn(birth: &Birth<'_>, cgroup: Option<BorrowedFd<'_>>) -> Result<Child, Failure> {
    spawn_by(Method::Auto, birth, cgroup)
}

/// [`spawn`] by a given method.
///
/// # Errors
/// As [`spawn`].
#[doc(hidden)]
pub fn spawn_by(method: Method, birth: &Birth<'_>, cgroup: Option<BorrowedFd<'_>>) -> Result<Child, Failure> {
    /// That clone3 was refused is remembered for good.
    static REFUSED: AtomicBool = AtomicBool::new(false);
    static SCRATCH: Mutex<Option<Scratch>> = Mutex::new(None);

    let mut scratch = SCRATCH.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = match &mut *scratch {
        Some(scratch) => scratch,
        empty => empty.insert(Scratch::new().map_err(Failure::at(Stage::Clone))?),
    };
    let auto = method == Method::Auto;
    let mut killed = false;
    if method == Method::Clone3 || (auto && !REFUSED.load(Relaxed)) {
        let mut plan = scratch.lay_out(birth, None);
        match deliver(&mut plan, Call::Clone3 { cgroup }, scratch) {
            // ENOSYS and EPERM are what seccomp filters answer, E2BIG a kernel without the cgroup field
            // (5.3 to 5.6), EINVAL one without a flag. EBUSY, ENOENT, EACCES, … are about this cgroup.
            Err(Failure {
                stage: Stage::Clone,
                errno: Errno::NOSYS | Errno::PERM | Errno::TOOBIG | Errno::INVAL,
            }) if auto => {}
            // Where `cgroup.kill` was ever written to a cgroup that we are in, the kernel takes every child that is
            // born into another one for a child that was forked during the kill, and kills it (kernel/cgroup/cgroup.c,
            // `kill_seq`). A child that goes there by itself is spared. One that was killed for another reason is
            // killed again.
            Err(Failure { stage: Stage::Killed, .. }) if auto && cgroup.is_some() => killed = true,
            result => return result,
        }
    }
    let procs = cgroup.map(open_procs).transpose().map_err(Failure::at(Stage::Cgroup))?;
    let mut plan = scratch.lay_out(birth, procs.as_ref().map(AsFd::as_fd));
    let result = deliver(&mut plan, Call::Clone, scratch);
    let works = match killed {
        true => result.is_ok(),
        false => !matches!(result, Err(Failure { stage: Stage::Clone, .. })),
    };
    if auto && works {
        REFUSED.store(true, Relaxed);
    }
    result
}

/// The file that a child writes to in order to enter `cgroup`.
fn open_procs(cgroup: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    use rustix::fs::{Mode, OFlags, openat};
    openat(cgroup, c"cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
}

impl Failure {
    fn at(stage: Stage) -> impl Fn(Errno) -> Failure {
        move |errno| Failure { stage, errno }
    }
}

/// The system call that makes the child.
enum Call<'a> {
    Clone3 { cgroup: Option<BorrowedFd<'a>> },
    Clone,
}

/// Run `plan` in a child, and tell what became of it.
fn deliver(plan: &mut Plan, call: Call<'_>, scratch: &Scratch) -> Result<Child, Failure> {
    *plan.at.get_mut() = 0;
    *plan.errno.get_mut() = 0;
    let mut pidfd: c_int = -1;
    let blocked = super::signals::block_all();
    // SAFETY: all signals are blocked, `stack` is ours alone (the caller holds the lock of the scratch)
    // and everything `plan` points to was laid out for this call and outlives it, because the kernel does
    // not let us go on before the child has left our memory (CLONE_VFORK, clone(2)).
    let result = unsafe { clone_into(plan, &call, &scratch.stack, &mut pidfd) };
    drop(blocked);
    if result < 0 {
        return Err(Failure { stage: Stage::Clone, errno: Errno::from_raw_os_error(-result as i32) });
    }
    let pid =
        Pid::from_raw(result as i32).expect("zero is returned in the child alone, which does not come here");
    let pidfd = match pidfd {
        // A kernel before 5.2 does not know CLONE_PIDFD and says nothing. The number is our unreaped
        // child's, so it still means that.
        -1 => rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(Failure::at(Stage::Clone))?,
        // SAFETY: the kernel made this descriptor for us just now, close-on-exec (clone(2), CLONE_PIDFD).
        pidfd => unsafe { OwnedFd::from_raw_fd(pidfd) },
    };
    let stage = scratch.steps.stage_at(*plan.at.get_mut() as usize);
    let failure = match *plan.errno.get_mut() {
        0 if stage == Stage::Exec => return Ok(Child { pid, pidfd }),
        // Left our memory without a word and without execve: SIGKILL, since nothing else can reach it.
        0 => Failure { stage: Stage::Killed, errno: Errno::NOMEM },
        errno => Failure { stage, errno: Errno::from_raw_os_error(errno) },
    };
    // It has exited or is about to, so this does not wait long. ECHILD (a reaper was quicker, or SIGCHLD
    // is ignored) is as good.
    let _ = super::pidfd::PidFd::from(pidfd).wait();
    Err(failure)
}

/// What is kept from one birth to the next: the stack and the arrays, so that a birth allocates nothing
/// once they have grown.
struct Scratch {
    stack: Stack,
    argv: Vec<*const c_char>,
    shell: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    candidates: Vec<*const c_char>,
    paths: Vec<u8>,
    own_pid: Vec<OwnPid>,
    steps: Steps,
}

// SAFETY: the pointers in it are only followed between `lay_out` and the end of the birth it was called
// for, under the lock; between births they are leftovers that nobody reads.
unsafe impl Send for Scratch {}

/// `NAME=` with room for a number behind it.
struct OwnPid {
    text: Vec<u8>,
    digits_at: usize,
}

impl Scratch {
    fn new() -> Result<Scratch, Errno> {
        Ok(Scratch {
            stack: Stack::new()?,
            argv: Vec::new(),
            shell: Vec::new(),
            environment: Vec::new(),
            candidates: Vec::new(),
            paths: Vec::new(),
            own_pid: Vec::new(),
            steps: Steps::default(),
        })
    }

    /// Everything the child will need, as C wants it. `procs` is for a child that enters its cgroup by itself.
    fn lay_out(&mut self, birth: &Birth<'_>, procs: Option<BorrowedFd<'_>>) -> Plan {
        self.argv.clear();
        self.argv.extend(birth.argv.iter().map(|word| word.as_ptr()).chain([ptr::null()]));

        self.shell.clear();
        self.shell.push(c"/bin/sh".as_ptr());
        match birth.script {
            Some(text) => self.shell.extend([c"-c".as_ptr(), text.as_ptr(), ptr::null()]),
            // The second word is the file, filled in by the child once it knows which one it was.
            None => self.shell.extend([ptr::null()].into_iter().chain(self.argv.iter().skip(1).copied())),
        }

        self.own_pid.clear();
        for name in birth.pid_variables {
            let mut text = format!("{name}=").into_bytes();
            let digits_at = text.len();
            text.resize(digits_at + 11, 0);
            self.own_pid.push(OwnPid { text, digits_at });
        }
        self.environment.clear();
        self.environment.extend(birth.environment.iter().map(CStr::as_ptr));
        self.environment.extend(self.own_pid.iter().map(|own| own.text.as_ptr().cast()));
        self.environment.push(ptr::null());

        self.look_along_path(birth);

        self.steps.lay_out(birth, procs, rustix::process::getpid().as_raw_nonzero().get());

        Plan {
            steps: self.steps.list().as_ptr(),
            step_count: self.steps.list().len(),
            pid: self.steps.pid(),
            own_pid: self.own_pid.as_mut_ptr(),
            own_pid_count: self.own_pid.len(),
            searched: self.candidates.len() > 2,
            candidates: self.candidates.as_ptr(),
            argv: self.argv.as_ptr(),
            shell: self.shell.as_mut_ptr(),
            shell_wants_file: birth.script.is_none(),
            environment: self.environment.as_ptr(),
            at: AtomicU32::new(0),
            errno: AtomicI32::new(0),
        }
    }

    /// Where the program might be, in order: execvpe(3), with the child's `PATH`, not ours. An empty
    /// component means the current directory, no `PATH` at all `/bin:/usr/bin`.
    fn look_along_path(&mut self, birth: &Birth<'_>) {
        self.candidates.clear();
        self.paths.clear();
        let name = birth.argv.first().map_or(&b""[..], |word| word.to_bytes());
        if name.is_empty() || name.contains(&b'/') {
            // An empty name is handed to the kernel as it is: ENOENT.
            self.candidates.extend(birth.argv.first().map(|word| word.as_ptr()).iter());
            self.candidates.push(ptr::null());
            return;
        }
        let path = birth.environment.value("PATH").unwrap_or(b"/bin:/usr/bin");
        for directory in path.split(|&byte| byte == b':') {
            self.paths.extend_from_slice(directory);
            if !directory.is_empty() && !directory.ends_with(b"/") {
                self.paths.push(b'/');
            }
            self.paths.extend_from_slice(name);
            self.paths.push(0);
        }
        // Only now: the buffer moves while it grows.
        let paths = self.paths.split_inclusive(|&byte| byte == 0);
        self.candidates.extend(paths.map(|path| path.as_ptr().cast::<c_char>()));
        self.candidates.push(ptr::null());
    }
}

/// The child's stack: 64 KiB and a page below it that must not be touched. Mapped once, never unmapped.
struct Stack {
    base: *mut c_void,
}

impl Stack {
    const SIZE: usize = 64 * 1024;
    /// Covers one page on every kernel of both architectures (aarch64 has up to 64 KiB).
    const GUARD: usize = 64 * 1024;

    fn new() -> Result<Stack, Errno> {
        use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};
        // SAFETY: a fresh private mapping at an address of the kernel's choice aliases nothing (mmap(2));
        // the part whose protection is changed is its own lower end.
        unsafe {
            let base = mmap_anonymous(
                ptr::null_mut(),
                Stack::GUARD + Stack::SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::STACK | MapFlags::NORESERVE,
            )?;
            mprotect(base, Stack::GUARD, MprotectFlags::empty())?;
            Ok(Stack { base })
        }
    }

    /// The lowest address that may be used.
    fn low(&self) -> usize {
        self.base as usize + Stack::GUARD
    }
}

/// What the child reads and, at its end, what it writes. It lies in memory that both see.
struct Plan {
    /// The calls before `execve`.
    steps: *const Step,
    step_count: usize,
    /// The child's own pid, which the kernel writes at the birth.
    pid: *const AtomicI32,
    own_pid: *mut OwnPid,
    own_pid_count: usize,
    /// There are several candidates, from the path.
    searched: bool,
    /// Null-terminated, as are the arrays below.
    candidates: *const *const c_char,
    argv: *const *const c_char,
    /// `/bin/sh …`; the second word is free if `shell_wants_file`.
    shell: *mut *const c_char,
    shell_wants_file: bool,
    environment: *const *const c_char,
    /// The step it is at, counted from 1; one more than there are: the program.
    at: AtomicU32,
    /// What made that step fail, or 0.
    errno: AtomicI32,
}

impl Plan {
    fn enter(&self, step: usize) {
        self.at.store(step as u32, Relaxed);
    }
}

/// struct clone_args, clone(2).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Memory is shared, the parent's thread sleeps, a pidfd is made, and the child's pid is written where both see it.
const SHARED: u64 =
    (libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::CLONE_CHILD_SETTID) as u64;

/// Make the child, which runs `child_main(plan)` on `stack`; returns in the parent alone, with the pid or a
/// negative errno.
///
/// # Safety
/// All signals must be blocked in this thread; nobody else may use `stack`; what `plan` points to must be
/// as it says.
unsafe fn clone_into(plan: &mut Plan, call: &Call<'_>, stack: &Stack, pidfd: &mut c_int) -> isize {
    let pid = plan.pid as usize;
    let plan: *mut Plan = plan;
    let pidfd: *mut c_int = pidfd;
    match call {
        Call::Clone3 { cgroup } => {
            let mut args = CloneArgs {
                flags: SHARED | CLONE_CLEAR_SIGHAND,
                pidfd: pidfd as u64,
                child_tid: pid as u64,
                exit_signal: libc::SIGCHLD as u64,
                stack: stack.low() as u64,
                stack_size: Stack::SIZE as u64,
                ..CloneArgs::default()
            };
            if let Some(cgroup) = cgroup {
                args.flags |= CLONE_INTO_CGROUP;
                args.cgroup = cgroup.as_raw_fd() as u64;
            }
            let args: *mut CloneArgs = &mut args;
            // SAFETY: clone3(2) reads `args`, of the size given, and writes one int each to `pidfd` and to
            // `child_tid`. The child starts on a stack of its own, as the asm wants it.
            unsafe {
                enter_child(
                    libc::SYS_clone3,
                    [args as usize, size_of::<CloneArgs>(), 0, 0, 0],
                    child_main,
                    plan.cast(),
                )
            }
        }
        Call::Clone => {
            let flags = SHARED as usize | libc::SIGCHLD as usize;
            // SAFETY: clone(2) takes flags, the top of the stack, and with CLONE_PIDFD in the third place
            // the address of an int. The place for the child's pid is the fourth on x86_64 and the fifth on
            // aarch64; the other of the two is the thread's storage, unused without CLONE_SETTLS. The top is
            // page-aligned, hence 16-aligned.
            unsafe {
                enter_child(
                    libc::SYS_clone,
                    [flags, stack.low() + Stack::SIZE, pidfd as usize, pid, pid],
                    child_main,
                    plan.cast(),
                )
            }
        }
    }
}

/// The system call that returns twice, once on another stack: only assembler can take the child from there
/// to a function without touching the parent's frame.
///
/// # Safety
/// `number` and `args` must be a clone that gives the child an own, 16-aligned stack. All that `entry`
/// demands of `argument` must hold.
#[cfg(target_arch = "x86_64")]
unsafe fn enter_child(
    number: libc::c_long,
    args: [usize; 5],
    entry: unsafe extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> isize {
    let result: isize;
    // SAFETY: syscall(2) names the registers and says that rcx and r11 are lost; the parent finds all others
    // as they were. The child has rax = 0, all other registers as the parent, and rsp at the top of its
    // stack, 16-aligned, as the psABI wants it before a call. It never comes back from it.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp", // the end of the chain of frames
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") number as isize => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r12") argument,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// As above; run by `tests/aarch64`.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn enter_child(
    number: libc::c_long,
    args: [usize; 5],
    entry: unsafe extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> isize {
    let result: isize;
    // SAFETY: syscall(2): number in x8, arguments in x0 to x5, result in x0, all else kept. The child has
    // x0 = 0 and sp at the top of its stack, 16-aligned. It never comes back from the call.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr", // the end of the chain of frames
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") number,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x20") argument,
            in("x21") entry,
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("lpm starts processes on x86_64 and aarch64; spawn.rs needs an `enter_child` for this one");

// --- From here on everything runs in the child: no allocation, no lock, no panic, no libc. ---

/// # Safety
/// `plan` is a valid `Plan` that nobody else touches while this runs.
unsafe extern "C" fn child_main(plan: *mut c_void) -> ! {
    // SAFETY: the caller's promise.
    let plan = unsafe { &*plan.cast::<Plan>() };
    // SAFETY: the pointers in the plan are what its fields say.
    let errno = match unsafe { become_program(plan) } {
        Ok(never) => match never {},
        Err(errno) => errno,
    };
    plan.errno.store(errno, Relaxed);
    loop {
        // SAFETY: ends this process alone, since it is not a thread of the parent (exit_group(2)).
        let _ = unsafe { syscall(libc::SYS_exit_group, [127, 0, 0, 0, 0]) };
    }
}

/// All steps, in the order of [`Stage`], then the program.
///
/// # Safety
/// The pointers in the plan are what its fields say.
unsafe fn become_program(plan: &Plan) -> Result<std::convert::Infallible, c_int> {
    // SAFETY: the steps, the pid and the variables are what the fields say. The system calls of the steps read
    // only what `Steps::lay_out` was given and write nothing, and all of them act on this process alone:
    // descriptors are a copy (no CLONE_FILES), and so are the directory and the umask (no CLONE_FS).
    unsafe {
        for at in 0..plan.own_pid_count {
            write_number(&mut *plan.own_pid.add(at), (*plan.pid).load(Relaxed) as usize);
        }
        for at in 0..plan.step_count {
            let step = &*plan.steps.add(at);
            plan.enter(at + 1);
            match (syscall(step.number, step.args), step.accepts) {
                (Ok(_), Accepts::Success | Accepts::Anything) | (Err(_), Accepts::Anything) => {}
                (Ok(result), Accepts::Only(expected)) if result == expected => {}
                (Ok(_), Accepts::Only(_)) => return Err(libc::ESRCH),
                (Err(errno), Accepts::Success | Accepts::Only(_)) => return Err(errno),
            }
        }
        plan.enter(plan.step_count + 1);
        Err(execute(plan))
    }
}

/// `NAME=` becomes `NAME=123`.
///
/// # Safety
/// There is room for eleven bytes behind the name.
unsafe fn write_number(own: &mut OwnPid, number: usize) {
    let mut divisor = 1;
    while number / divisor >= 10 {
        divisor *= 10;
    }
    let mut at = own.digits_at;
    while divisor > 0 {
        // SAFETY: a pid has at most ten digits.
        unsafe { *own.text.as_mut_ptr().add(at) = b'0' + (number / divisor % 10) as u8 };
        at += 1;
        divisor /= 10;
    }
    // The zero behind it is there from the start.
}

/// Returns only with an errno. What execvpe(3) makes of each: go on past what is not there, remember what
/// may not be executed, stop at the rest. Unlike there, a search without result always ends with `ENOENT`,
/// whatever was wrong with the last directory of the path.
///
/// # Safety
/// The pointers in the plan are what its fields say.
unsafe fn execute(plan: &Plan) -> c_int {
    let environment = plan.environment as usize;
    let mut last = libc::ENOENT;
    let mut denied = false;
    let mut candidate = plan.candidates;
    // SAFETY: the arrays end with null, and so do their strings with NUL. The word of `shell` that is
    // written is free if `shell_wants_file`.
    unsafe {
        while !(*candidate).is_null() {
            let Err(errno) =
                syscall(libc::SYS_execve, [*candidate as usize, plan.argv as usize, environment, 0, 0])
            else {
                continue;
            };
            match errno {
                libc::EACCES => denied = true,
                libc::ENOENT | libc::ENOTDIR | libc::ENODEV | libc::ESTALE | libc::ETIMEDOUT => last = errno,
                libc::ENOEXEC => {
                    if plan.shell_wants_file {
                        *plan.shell.add(1) = *candidate;
                    }
                    let shell = [*plan.shell as usize, plan.shell as usize, environment, 0, 0];
                    return syscall(libc::SYS_execve, shell).err().unwrap_or(libc::ENOEXEC);
                }
                errno => return errno,
            }
            candidate = candidate.add(1);
        }
    }
    match () {
        () if denied => libc::EACCES,
        () if plan.searched => libc::ENOENT,
        () => last,
    }
}

/// A bare system call: the result, or the errno. Touches no memory but what the kernel does.
///
/// # Safety
/// That of the system call.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn syscall(number: libc::c_long, args: [usize; 5]) -> Result<usize, c_int> {
    let result: isize;
    // SAFETY: the registers of syscall(2).
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    if result < 0 { Err(-result as c_int) } else { Ok(result as usize) }
}

/// As above.
///
/// # Safety
/// That of the system call.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
unsafe fn syscall(number: libc::c_long, args: [usize; 5]) -> Result<usize, c_int> {
    let result: isize;
    // SAFETY: the registers of syscall(2).
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] as isize => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            options(nostack),
        );
    }
    if result < 0 { Err(-result as c_int) } else { Ok(result as usize) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::linux::attributes::Attributes;
    use crate::linux::birth::{Environment, Session};
    use crate::linux::pidfd::{Exit, PidFd};
    use crate::linux::signals;
    use std::ffi::CString;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn words(words: &[&str]) -> Vec<CString> {
        words.iter().map(|word| CString::new(*word).unwrap()).collect()
    }

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().copied()).unwrap()
    }

    fn plain() -> Environment {
        environment(&[("PATH", "/usr/bin:/bin")])
    }

    /// Descriptors that nothing comes from and nothing goes to.
    fn null() -> File {
        File::options().read(true).write(true).open("/dev/null").unwrap()
    }

    /// Both, or where clone3 is refused (a container's seccomp filter does that) the other one alone.
    pub(crate) fn methods() -> Vec<Method> {
        let (argv, environment, null) = (words(&["/bin/true"]), plain(), null());
        match spawn_by(Method::Clone3, &Birth::new(&argv, &environment, [null.as_fd(); 3]), None) {
            Ok(child) => {
                PidFd::from(child.pidfd).wait().unwrap();
                vec![Method::Clone3, Method::Clone]
            }
            Err(failure) => {
                skipped!("clone3: {failure}");
                vec![Method::Clone]
            }
        }
    }

    /// What came out of it, by whichever method.
    fn agreed<T: PartialEq + std::fmt::Debug>(attempt: impl FnMut(Method) -> T) -> T {
        let same = |one, other| {
            assert_eq!(one, other);
            one
        };
        methods().into_iter().map(attempt).reduce(same).expect("there is one at least")
    }

    /// What a shell script wrote to its standard output, and how it ended.
    fn run(script: &str, set: impl Fn(Birth<'_>) -> Birth<'_>) -> (String, Exit) {
        let argv = words(&["/bin/sh", "-c", script]);
        let environment = plain();
        let null = null();
        agreed(|method| {
            let (mut reader, writer) = std::io::pipe().unwrap();
            let birth = set(Birth::new(&argv, &environment, [null.as_fd(), writer.as_fd(), null.as_fd()]));
            let child = spawn_by(method, &birth, None).unwrap();
            drop(writer);
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            (text, PidFd::from(child.pidfd).wait().unwrap().exit)
        })
    }

    fn refused(birth: &Birth<'_>) -> Failure {
        agreed(|method| spawn_by(method, birth, None).unwrap_err())
    }

    #[test]
    fn it_runs_and_its_code_comes_back() {
        assert_eq!(run("echo hello; exit 7", |birth| birth), ("hello\n".into(), Exit::Code(7)));
    }

    #[test]
    fn a_missing_directory_is_named() {
        let (argv, environment, null) = (words(&["true"]), plain(), null());
        let stdio = [null.as_fd(); 3];
        let birth = Birth { directory: Some(c"/nonexistent"), ..Birth::new(&argv, &environment, stdio) };
        let failure = refused(&birth);
        assert_eq!(failure, Failure { stage: Stage::Directory, errno: Errno::NOENT });
        assert_eq!(failure.to_string(), "working directory: No such file or directory");
    }

    #[test]
    fn a_failed_birth_leaves_no_zombie() {
        let children = || {
            let list = std::fs::read_to_string("/proc/thread-self/children").unwrap();
            list.split_whitespace().count()
        };
        let (argv, environment, null) = (words(&["/nonexistent"]), plain(), null());
        let birth = Birth::new(&argv, &environment, [null.as_fd(); 3]);
        let before = children();
        assert_eq!(refused(&birth), Failure { stage: Stage::Exec, errno: Errno::NOENT });
        assert_eq!(children(), before);
    }

    /// A file that is to be executed is written by a process of its own: a descriptor open for
    /// writing here would be inherited by what another test forks just then, and until that has
    /// executed, the kernel answers an exec of the file with ETXTBSY.
    fn write_program(path: &std::path::Path, text: &str, mode: &str) {
        let write = r#"printf %s "$1" > "$0" && chmod "$2" "$0""#;
        let written =
            std::process::Command::new("sh").args(["-c", write]).arg(path).args([text, mode]).status();
        assert!(written.unwrap().success());
    }

    #[test]
    fn the_program_is_found_along_the_childs_own_path() {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode: &str| {
            let path = home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            write_program(&path, text, mode);
        };
        write("denied/tool", "#!/bin/sh\nexit 1\n", "644");
        write("found/tool", "#!/bin/sh\nexit 42\n", "755");
        write("file", "", "644");
        let directory = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        let attempt = |path: &[String], name: &str| {
            let (argv, environment, null) =
                (words(&[name]), environment(&[("PATH", &path.join(":"))]), null());
            spawn(&Birth::new(&argv, &environment, [null.as_fd(); 3]), None)
        };
        let [nowhere, file, denied, found] = ["nowhere", "file", "denied", "found"].map(directory);

        let child = attempt(&[nowhere.clone(), file.clone(), denied.clone(), found], "tool").unwrap();
        assert_eq!(PidFd::from(child.pidfd).wait().unwrap().exit, Exit::Code(42));
        // Denied somewhere and found nowhere: denied is what the user must know.
        let failure = attempt(&[denied, nowhere.clone()], "tool").unwrap_err();
        assert_eq!(failure, Failure { stage: Stage::Exec, errno: Errno::ACCESS });
        assert_eq!(attempt(&[nowhere, file], "tool").unwrap_err().errno, Errno::NOENT);
        assert_eq!(attempt(&["/bin".into()], "").unwrap_err().errno, Errno::NOENT);
    }

    #[test]
    fn a_path_of_a_hundred_directories_is_searched_to_the_end() {
        let path: Vec<String> =
            (0..100).map(|n| format!("/nonexistent/{n}")).chain(["/bin".into()]).collect();
        let (argv, environment, null) = (words(&["true"]), environment(&[("PATH", &path.join(":"))]), null());
        let child = spawn(&Birth::new(&argv, &environment, [null.as_fd(); 3]), None).unwrap();
        assert_eq!(PidFd::from(child.pidfd).wait().unwrap().exit, Exit::Code(0));
    }

    #[test]
    fn what_the_kernel_cannot_execute_goes_to_the_shell() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("script");
        write_program(&path, "exit $1\n", "755");
        let (argv, environment, null) = (words(&[path.to_str().unwrap(), "5"]), plain(), null());
        let file = Birth::new(&argv, &environment, [null.as_fd(); 3]);
        let text = Birth { script: Some(c"exit 6"), ..file.clone() };
        for (birth, code) in [(file, 5), (text, 6)] {
            let child = spawn(&birth, None).unwrap();
            assert_eq!(PidFd::from(child.pidfd).wait().unwrap().exit, Exit::Code(code));
        }
    }

    #[test]
    fn nothing_of_our_signals_is_left() {
        // Rust's start-up ignores SIGPIPE, so this is about something.
        assert!(signals::is_ignored(libc::SIGPIPE));
        let ask = "exec sed -nE 's/^Sig(Blk|Ign|Cgt):.//p' /proc/self/status";
        assert_eq!(run(ask, |birth| birth).0, "0000000000000000\n".repeat(3));
        let (text, _) = run(ask, |birth| Birth { ignored: &[libc::SIGHUP, libc::SIGTERM], ..birth });
        assert_eq!(text.lines().nth(1), Some("0000000000004001"));
    }

    #[test]
    fn our_own_mask_is_as_before() {
        let mask = || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            status.lines().find(|line| line.starts_with("SigBlk")).unwrap().to_owned()
        };
        let before = mask();
        run("true", |birth| birth);
        assert_eq!(mask(), before);
    }

    #[test]
    fn descriptors_may_trade_places() {
        let (argv, environment) =
            (words(&["/bin/sh", "-c", "echo out; echo err >&2; echo five >&5"]), plain());
        let (mut out, out_writer) = std::io::pipe().unwrap();
        let (mut err, err_writer) = std::io::pipe().unwrap();
        let (mut five, five_writer) = std::io::pipe().unwrap();
        let null = null();
        // The same pipe twice, and numbers that others are to have.
        let passed = [null.as_fd(), null.as_fd(), five_writer.as_fd()];
        let birth = Birth {
            passed: &passed,
            ..Birth::new(&argv, &environment, [null.as_fd(), out_writer.as_fd(), err_writer.as_fd()])
        };
        let child = spawn(&birth, None).unwrap();
        drop((out_writer, err_writer, five_writer));
        for (reader, expected) in [(&mut out, "out\n"), (&mut err, "err\n"), (&mut five, "five\n")] {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, expected);
        }
        assert_eq!(PidFd::from(child.pidfd).wait().unwrap().exit, Exit::Code(0));
    }

    #[test]
    fn a_descriptor_in_its_place_stays_open() {
        // 0, 1 and 2 of the test process itself, swapped and shared.
        let (argv, environment) =
            (words(&["/bin/sh", "-c", "test -e /proc/self/fd/0 -a -e /proc/self/fd/2"]), plain());
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        for stdio in [
            [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
            [stderr.as_fd(), stdin.as_fd(), stdout.as_fd()],
            [stdout.as_fd(), stdout.as_fd(), stdout.as_fd()],
        ] {
            let child = spawn(&Birth::new(&argv, &environment, stdio), None).unwrap();
            assert_eq!(PidFd::from(child.pidfd).wait().unwrap().exit, Exit::Code(0));
        }
    }

    #[test]
    fn nothing_else_is_inherited() {
        // Without close-on-exec on purpose.
        let leak = rustix::io::fcntl_dupfd_cloexec(null(), 20).unwrap();
        rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
        let ask = format!("test -e /proc/$$/fd/{} || echo closed", leak.as_raw_fd());
        assert_eq!(run(&ask, |birth| birth).0, "closed\n");
    }

    #[test]
    fn it_leads_its_own_session() {
        let (text, _) = run(
            "read pid name state ppid pgrp session rest < /proc/self/stat; test $$ = $session && echo own",
            |birth| birth,
        );
        assert_eq!(text, "own\n");
        let (text, _) = run(
            "read pid name state ppid pgrp session rest < /proc/self/stat; test $$ = $pgrp -a $$ != $session && echo group",
            |birth| Birth { session: Session::Group(None), ..birth },
        );
        assert_eq!(text, "group\n");
    }

    #[test]
    fn a_terminal_becomes_the_controlling_one() {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let terminal = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).unwrap();
        let (argv, environment) = (words(&["/bin/sh", "-c", "echo yes > /dev/tty"]), plain());
        let birth =
            Birth { session: Session::Terminal, ..Birth::new(&argv, &environment, [terminal.as_fd(); 3]) };
        let child = spawn(&birth, None).unwrap();
        assert_eq!(PidFd::from(child.pidfd).wait().unwrap().exit, Exit::Code(0));
        let mut text = [0; 5];
        File::from(master).read_exact(&mut text).unwrap();
        assert_eq!(&text, b"yes\r\n");
    }

    #[test]
    fn no_terminal_where_one_is_asked_for() {
        let (argv, environment, null) = (words(&["true"]), plain(), null());
        let birth =
            Birth { session: Session::Terminal, ..Birth::new(&argv, &environment, [null.as_fd(); 3]) };
        assert_eq!(refused(&birth), Failure { stage: Stage::Terminal, errno: Errno::NOTTY });
    }

    #[test]
    fn limits_umask_and_directory_are_its_own() {
        let (text, _) = run("ulimit -Sn; ulimit -Hn; umask; pwd", |birth| Birth {
            attributes: Attributes {
                open_files: Some((123, 456)),
                umask: Some(0o27),
                ..Attributes::default()
            },
            directory: Some(c"/usr"),
            ..birth
        });
        assert_eq!(text, "123\n456\n0027\n/usr\n");
    }

    #[test]
    fn it_knows_its_own_pid() {
        let (text, _) = run("test $$ = \"$LISTEN_PID\" -a $$ = \"$WATCHDOG_PID\" && echo mine", |birth| {
            Birth { pid_variables: &["LISTEN_PID", "WATCHDOG_PID"], ..birth }
        });
        assert_eq!(text, "mine\n");
        let mut own = OwnPid { text: b"X=\0\0\0\0\0\0\0\0\0\0\0".to_vec(), digits_at: 2 };
        // SAFETY: eleven bytes of room.
        unsafe { write_number(&mut own, 4_194_304) };
        assert_eq!(&own.text, b"X=4194304\0\0\0\0");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test that can make no thread has failed")]
    fn the_death_signal_is_for_this_thread() {
        // The thread that spawned it ends, and so does the child, though the process lives.
        let child = std::thread::spawn(|| {
            let (argv, environment, null) = (words(&["sleep", "1000"]), plain(), null());
            let birth = Birth {
                parent_death_signal: Some(libc::SIGKILL),
                ..Birth::new(&argv, &environment, [null.as_fd(); 3])
            };
            spawn(&birth, None).unwrap()
        });
        let exit = PidFd::from(child.join().unwrap().pidfd).wait().unwrap().exit;
        assert_eq!(exit, Exit::Signal { signal: libc::SIGKILL, core: false });
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test that can make no thread has failed")]
    fn many_threads_may_ask_at_once() {
        let ask = || {
            for code in 0..50u8 {
                let (argv, environment, null) =
                    (words(&["/bin/sh", "-c", &format!("exit {code}")]), plain(), null());
                let child = spawn(&Birth::new(&argv, &environment, [null.as_fd(); 3]), None).unwrap();
                assert_eq!(PidFd::from(child.pidfd).wait().unwrap().exit, Exit::Code(code));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(ask);
            }
        });
    }
}
