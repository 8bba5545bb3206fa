//! The system calls that a child makes between its birth and `execve`, laid out beforehand.
//!
//! Everything here runs in the parent and is safe code: it chooses numbers and addresses, and `spawn` has the
//! child make the calls one after the other. An execution setting is a field of [`Birth`] and one step here.
//!
//! A step may refer to nothing that the child finds out by itself, except its own pid, which the kernel writes
//! into `Steps::pid` before the child's first instruction (clone(2), `CLONE_CHILD_SETTID`). What needs the
//! result of an earlier call is done in the parent (opening `cgroup.procs`) or chosen in the parent (descriptor
//! numbers, since dup3(2) takes one).

use std::ffi::{CStr, c_int, c_long};
use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::AtomicI32;

use super::birth::{Birth, Session};

/// The steps between the call and the program's first instruction, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Making the process: `EAGAIN` and `ENOMEM` are limits (clone(2)), `ENOENT` or `ENODEV` a leaf that
    /// is gone, `EBUSY` one that has leaves of its own.
    Clone,
    /// The child entering its cgroup by itself, where the kernel cannot do it at the birth.
    Cgroup,
    /// setsid(2), setpgid(2).
    Session,
    /// The controlling terminal, or the foreground group.
    Terminal,
    /// Descriptors 0, 1, 2 and those passed.
    Stdio,
    /// chdir(2).
    Directory,
    /// One of the [`Attributes`](super::attributes::Attributes), by this name.
    Attribute(&'static str),
    /// Dispositions, mask, parent death signal.
    Signals,
    /// execve(2).
    Exec,
    /// Not a step: SIGKILL came before all steps were done, most often from the OOM killer, because the
    /// ceiling leaves no room for a process. The errno is `ENOMEM` then. (Where it comes inside `execve`
    /// there is a child, and `PidFd::never_began` tells.)
    Killed,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Clone => "new process",
            Stage::Cgroup => "cgroup",
            Stage::Session => "session",
            Stage::Terminal => "controlling terminal",
            Stage::Stdio => "standard input and output",
            Stage::Directory => "working directory",
            Stage::Attribute(name) => name,
            Stage::Signals => "signals",
            Stage::Exec => "program",
            Stage::Killed => "killed before it began",
        })
    }
}

/// One system call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// The stage that a failure is reported as.
    pub stage: Stage,
    /// syscalls(2).
    pub number: c_long,
    /// Numbers and addresses, in the order of the system call.
    pub args: [usize; 5],
    /// The results that let the birth continue.
    pub accepts: Accepts,
}

/// The results of a step that let the birth continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepts {
    /// Success, whatever the number.
    Success,
    /// This number alone; another one counts as `ESRCH`.
    Only(usize),
    /// Errors as well.
    Anything,
}

/// The steps of one birth. Kept for the next one, so that a birth allocates nothing once the list has grown.
///
/// The addresses in it lead into the [`Birth`] and into this value: neither may move or change between
/// [`lay_out`](Steps::lay_out) and the end of the birth.
#[derive(Default)]
pub(super) struct Steps {
    list: Vec<Step>,
    /// The child's pid, written by the kernel.
    pid: AtomicI32,
    /// `struct rlimit64` of each limit: soft, hard. By the number of the limit, so that none moves.
    limits: [[u64; 2]; LIMITS],
    descriptors: Vec<RawFd>,
}

/// The kernel's resource limits are numbered from 0 (getrlimit(2)).
const LIMITS: usize = 16;

/// The kernel's `struct sigaction`: handler, flags, restorer, mask.
static DEFAULT_ACTION: [usize; 4] = [libc::SIG_DFL, 0, 0, 0];
static IGNORE_ACTION: [usize; 4] = [libc::SIG_IGN, 0, 0, 0];
static EMPTY_MASK: u64 = 0;
/// Size of the kernel's signal set, bytes.
const MASK_SIZE: usize = 8;

impl Steps {
    /// The steps, in the order of [`Stage`].
    pub fn list(&self) -> &[Step] {
        &self.list
    }

    /// The stage of a child that is at this step, counted from 1; it begins at 0 and ends behind the last one.
    pub fn stage_at(&self, step: usize) -> Stage {
        match step.checked_sub(1) {
            None => Stage::Clone,
            Some(index) => self.list.get(index).map_or(Stage::Exec, |step| step.stage),
        }
    }

    /// The place for the child's pid.
    pub fn pid(&self) -> &AtomicI32 {
        &self.pid
    }

    /// Lays out the steps of `birth`. `procs` is the `cgroup.procs` of a cgroup that the child must enter by
    /// itself; `parent` is our pid.
    pub fn lay_out(&mut self, birth: &Birth<'_>, procs: Option<BorrowedFd<'_>>, parent: c_int) {
        self.list.clear();
        if let Some(procs) = procs {
            // "0" means the writing process (cgroup-v2.rst).
            self.add(Stage::Cgroup, libc::SYS_write, [number(procs), address(c"0".as_ptr()), 1]);
        }
        self.session(birth);
        self.stdio(birth);
        if let Some(directory) = birth.directory {
            self.add(Stage::Directory, libc::SYS_chdir, [address(CStr::as_ptr(directory))]);
        }
        birth.attributes.lay_out(self);
        if let Some(signal) = birth.parent_death_signal {
            self.parent_death(signal, parent);
        }
        self.signals(birth.ignored);
    }

    /// Adds setting a resource limit, soft and hard.
    pub fn add_limit(&mut self, stage: Stage, resource: u32, (soft, hard): (u64, u64)) {
        let place = &mut self.limits[resource as usize];
        *place = [soft, hard];
        let limit = address(&raw const *place);
        self.add(stage, libc::SYS_prlimit64, [0, resource as usize, limit, 0]);
    }

    /// Adds a call that must succeed; the arguments that are left out are 0.
    pub fn add<const N: usize>(&mut self, stage: Stage, number: c_long, args: [usize; N]) {
        self.add_accepting(stage, number, args, Accepts::Success);
    }

    fn add_accepting<const N: usize>(
        &mut self,
        stage: Stage,
        number: c_long,
        given: [usize; N],
        accepts: Accepts,
    ) {
        const { assert!(N <= 5, "a system call of more arguments than a step has") };
        let mut args = [0; 5];
        args[..N].copy_from_slice(&given);
        self.list.push(Step { stage, number, args, accepts });
    }

    fn session(&mut self, birth: &Birth<'_>) {
        match birth.session {
            Session::New | Session::Terminal => self.add(Stage::Session, libc::SYS_setsid, []),
            Session::Group(_) => self.add(Stage::Session, libc::SYS_setpgid, [0, 0]),
            Session::Same => {}
        }
        match birth.session {
            Session::Terminal => {
                let terminal = number(birth.stdio[0]);
                self.add(Stage::Terminal, libc::SYS_ioctl, [terminal, libc::TIOCSCTTY as usize, 0]);
            }
            // Allowed to a background group because SIGTTOU is blocked (tcsetpgrp(3)).
            Session::Group(Some(terminal)) => {
                let group = address(self.pid.as_ptr());
                self.add(
                    Stage::Terminal,
                    libc::SYS_ioctl,
                    [number(terminal), libc::TIOCSPGRP as usize, group],
                );
            }
            Session::New | Session::Group(None) | Session::Same => {}
        }
    }

    /// Gives each descriptor its place. First those that sit in another's place are duplicated out of the way,
    /// then each is duplicated to where it belongs; one that is there already only loses close-on-exec.
    fn stdio(&mut self, birth: &Birth<'_>) {
        let mut from = std::mem::take(&mut self.descriptors);
        from.clear();
        from.extend(birth.stdio.iter().chain(birth.passed).map(AsRawFd::as_raw_fd));
        let places = from.len() as RawFd;
        for place in 0..places {
            let at = from[place as usize];
            if at < places && at != place {
                // Whatever else has this number is not needed any more, and the child's table is a copy.
                let spare =
                    (places..).find(|spare| !from.contains(spare)).expect("fewer than 2^31 are passed");
                let flags = libc::O_CLOEXEC as usize;
                self.add(Stage::Stdio, libc::SYS_dup3, [at as usize, spare as usize, flags]);
                from[place as usize] = spare;
            }
        }
        for (place, &at) in from.iter().enumerate() {
            if at as usize == place {
                self.add(Stage::Stdio, libc::SYS_fcntl, [place, libc::F_SETFD as usize, 0]);
            } else {
                self.add(Stage::Stdio, libc::SYS_dup3, [at as usize, place, 0]);
            }
        }
        // Descriptors that our own parent left open without close-on-exec are not for instances. Linux before
        // 5.11 has no such call, and then they stay.
        let close_on_exec = libc::CLOSE_RANGE_CLOEXEC as usize;
        let range = [places as usize, u32::MAX as usize, close_on_exec];
        self.add_accepting(Stage::Stdio, libc::SYS_close_range, range, Accepts::Anything);
        self.descriptors = from;
    }

    fn parent_death(&mut self, signal: c_int, parent: c_int) {
        let request = [libc::PR_SET_PDEATHSIG as usize, signal as usize];
        self.add(Stage::Signals, libc::SYS_prctl, request);
        // The parent may have died before the request.
        let alive = Accepts::Only(parent as usize);
        self.add_accepting(Stage::Signals, libc::SYS_getppid, [], alive);
    }

    /// Sets every disposition, not only those that were caught: an ignored signal stays ignored through
    /// `CLONE_CLEAR_SIGHAND` and execve(2) both, and Rust's start-up ignores SIGPIPE.
    fn signals(&mut self, ignored: &[c_int]) {
        for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
            let action = if ignored.contains(&signal) { &IGNORE_ACTION } else { &DEFAULT_ACTION };
            let args = [signal as usize, address(action), 0, MASK_SIZE];
            self.add(Stage::Signals, libc::SYS_rt_sigaction, args);
        }
        // Counted as the program's stage: a pending signal may end the child here, which is an exit like any
        // other and no failed step.
        let args = [libc::SIG_SETMASK as usize, address(&raw const EMPTY_MASK), 0, MASK_SIZE];
        self.add(Stage::Exec, libc::SYS_rt_sigprocmask, args);
    }
}

fn number(descriptor: BorrowedFd<'_>) -> usize {
    descriptor.as_raw_fd() as usize
}

fn address<T>(value: *const T) -> usize {
    value as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::attributes::Attributes;
    use crate::linux::birth::Environment;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::ffi::CString;
    use std::fs::File;
    use std::os::fd::AsFd;

    /// Carries out the steps of [`Stage::Stdio`] on a table of descriptors in which each one names itself.
    fn table_after(steps: &Steps, open: &[RawFd]) -> HashMap<usize, RawFd> {
        let mut table: HashMap<usize, RawFd> = open.iter().map(|&fd| (fd as usize, fd)).collect();
        for step in steps.list().iter().filter(|step| step.stage == Stage::Stdio) {
            match step.number {
                libc::SYS_dup3 => {
                    let file = table[&step.args[0]];
                    table.insert(step.args[1], file);
                }
                libc::SYS_fcntl => assert!(table.contains_key(&step.args[0])),
                libc::SYS_close_range => table.retain(|&number, _| number < step.args[0]),
                other => panic!("system call {other} among those of the descriptors"),
            }
        }
        table
    }

    proptest! {
        #[test]
        fn each_descriptor_arrives_in_its_place(chosen in prop::collection::vec(0usize..12, 3..9)) {
            let files: Vec<File> = (0..12).map(|_| File::open("/dev/null").unwrap()).collect();
            let chosen: Vec<BorrowedFd<'_>> = chosen.iter().map(|&at| files[at].as_fd()).collect();
            let (argv, environment): (Vec<CString>, _) = (vec![c"true".into()], Environment::default());
            let stdio = [chosen[0], chosen[1], chosen[2]];
            let birth = Birth { passed: &chosen[3..], ..Birth::new(&argv, &environment, stdio) };
            let mut steps = Steps::default();
            steps.lay_out(&birth, None, 1);
            let numbers: Vec<RawFd> = chosen.iter().map(AsRawFd::as_raw_fd).collect();
            let table = table_after(&steps, &numbers);
            let expected = numbers.iter().copied().enumerate().collect();
            prop_assert_eq!(table, expected);
        }
    }

    #[test]
    fn the_order_is_that_of_the_stages() {
        let null = File::open("/dev/null").unwrap();
        let (argv, environment): (Vec<CString>, _) = (vec![c"true".into()], Environment::default());
        let birth = Birth {
            directory: Some(c"/"),
            attributes: Attributes { umask: Some(0o22), no_new_privileges: true, ..Attributes::default() },
            parent_death_signal: Some(libc::SIGKILL),
            session: Session::Terminal,
            ..Birth::new(&argv, &environment, [null.as_fd(); 3])
        };
        let mut steps = Steps::default();
        steps.lay_out(&birth, Some(null.as_fd()), 1);
        let mut stages: Vec<Stage> = steps.list().iter().map(|step| step.stage).collect();
        stages.dedup();
        let attributes = ["umask", "no-new-privileges"].map(Stage::Attribute);
        let before = [Stage::Cgroup, Stage::Session, Stage::Terminal, Stage::Stdio, Stage::Directory];
        assert_eq!(stages, [&before[..], &attributes, &[Stage::Signals, Stage::Exec]].concat());
        // A second birth begins anew.
        let before = steps.list().len();
        steps.lay_out(&birth, Some(null.as_fd()), 1);
        assert_eq!(steps.list().len(), before);
    }
}
