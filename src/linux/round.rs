//! One signal for many processes, each of which gets it once.
//!
//! A process that handles a stop signal may start others to clean up, and these must not get the signal: it would end
//! the clean-up that it began. So the processes are made to stand still first (the cgroup's freezer, SIGSTOP where there
//! is no cgroup). While they do, nothing is forked and no handler runs; every process that is found is signalled once,
//! and handlers run when all are let go.
//!
//! No number is trusted: each is opened, and signalled through its pidfd only if it is found in its place *again*. A
//! process that lives then has had that number all along, so it is the one that was found. Nor does a number alone say
//! that its process has the signal: it is remembered with the moment of the signal, and a process that was started
//! later is another one.

use std::collections::HashMap;

use rustix::io::Errno;
use rustix::process::Pid;

use super::cgroup::{Cgroup, Step};
use super::descendants::{self, Descendant};
use super::pidfd::PidFd;
use super::reserve;
use super::sight::Sight;

/// Whether SIGCONT follows, so that a stopped process can act on the signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AndContinue {
    /// It does.
    Yes,
    /// It does not.
    No,
}

/// How many processes are open at the same time.
const AT_ONCE: usize = 64;

/// One signal on its way to many processes.
#[derive(Debug)]
pub struct Round {
    signal: i32,
    and_continue: AndContinue,
    /// The processes that have the signal, and when it was sent to each, in the kernel's ticks since boot.
    told: HashMap<Pid, u64>,
    /// How many were new.
    count: usize,
    reached: usize,
    refused: Option<Errno>,
    /// When it began, in the kernel's ticks since boot.
    began: u64,
}

impl Round {
    /// A round in which no process has the signal yet.
    pub fn new(signal: i32, and_continue: AndContinue) -> Round {
        let began = descendants::ticks();
        Round { signal, and_continue, told: HashMap::new(), count: 0, reached: 0, refused: None, began }
    }

    /// The signal.
    pub fn signal(&self) -> i32 {
        self.signal
    }

    /// Signals one process by its pidfd, which does not have the signal yet.
    pub fn tell(&mut self, pid: Pid, pidfd: &PidFd) {
        self.told.insert(pid, descendants::ticks());
        self.count += 1;
        match pidfd.send(self.signal) {
            Ok(true) => self.reached += 1,
            Ok(false) => {}
            Err(errno) => self.refused = Some(errno),
        }
        if self.and_continue == AndContinue::Yes {
            // A process that could not be signalled was noted above.
            let _ = pidfd.send(libc::SIGCONT);
        }
    }

    /// Signals the one process that a cgroup has, without freezing it. Returns false, and signals none, if there are
    /// others. Freezing takes ten times as long as this, and what it would be needed for is a child that is being forked
    /// at this very moment.
    pub fn tell_one(&mut self, cgroup: &Cgroup, pid: Pid, pidfd: &PidFd) -> bool {
        let alone = cgroup.procs() == Ok(vec![pid]) && cgroup.children().is_ok_and(|below| below.is_empty());
        if alone {
            self.tell(pid, pidfd);
        }
        alone
    }

    /// Signals each process that is listed in a cgroup or below it and has not got the signal yet. A part that
    /// cannot be looked at does not keep the others from being asked. Returns how many processes were new.
    pub fn look(&mut self, cgroup: &Cgroup) -> usize {
        let before = self.count;
        let walked = cgroup.walk(|step| {
            match step {
                Step::Into(cgroup) => {
                    if let Err(errno) = self.look_at(cgroup) {
                        self.refused = Some(errno);
                    }
                }
                Step::OutOf { .. } => {}
                Step::Refused(errno) => self.refused = Some(errno),
            }
            Ok(())
        });
        if let Err(errno) = walked {
            self.refused = Some(errno);
        }
        self.count - before
    }

    /// Looks again until no process is new, for what was being forked when the processes were told to stand still.
    pub fn look_until_none_is_new(&mut self, cgroup: &Cgroup) {
        /// A cgroup that could not be frozen may fork for ever.
        const LOOKS: usize = 16;
        for _ in 0..LOOKS {
            if self.look(cgroup) == 0 {
                break;
            }
        }
    }

    fn look_at(&mut self, cgroup: &Cgroup) -> Result<(), Errno> {
        let mut new = Vec::new();
        for pid in cgroup.procs()? {
            if !self.has(pid)? {
                new.push(pid);
            }
        }
        let mut new = new.into_iter().peekable();
        while new.peek().is_some() {
            let mut opened = Vec::new();
            while opened.len() < AT_ONCE
                && let Some(&pid) = new.peek()
            {
                match reserve::with(|| PidFd::open(pid)) {
                    Ok(pidfd) => opened.extend(pidfd.map(|pidfd| (pid, pidfd))),
                    // First those that could be opened; their descriptors are free for the others then.
                    Err(Errno::MFILE | Errno::NFILE) if !opened.is_empty() => break,
                    Err(errno) => return Err(errno),
                }
                new.next();
            }
            let listed = cgroup.procs()?;
            for (pid, pidfd) in &opened {
                if listed.binary_search_by_key(&pid.as_raw_pid(), |pid| pid.as_raw_pid()).is_ok() {
                    self.tell(*pid, pidfd);
                }
            }
        }
        Ok(())
    }

    /// Whether the process that has this number now has the signal; so does one that is gone.
    fn has(&self, pid: Pid) -> Result<bool, Errno> {
        match self.told.get(&pid) {
            None => Ok(false),
            // The start of a process is no more precise.
            Some(&moment) if moment == descendants::ticks() => Ok(true),
            Some(_) => Ok(match Descendant::look(pid)? {
                Sight::Seen(one) => self.has_been_told(&one),
                Sight::Hidden | Sight::Gone => true,
            }),
        }
    }

    fn has_been_told(&self, one: &Descendant) -> bool {
        self.told.get(&one.pid).is_some_and(|&moment| !one.started_after(moment))
    }

    /// Leaves SIGCONT to the caller, and returns whether it is to follow.
    pub fn continue_later(&mut self) -> AndContinue {
        std::mem::replace(&mut self.and_continue, AndContinue::No)
    }

    /// Signals each of these processes that is older than the round and has not got the signal yet. Younger ones may
    /// have been started by a handler of the signal.
    pub fn look_among_older(&mut self, processes: &[Descendant]) -> usize {
        let older: Vec<Descendant> =
            processes.iter().filter(|one| one.started_before(self.began)).cloned().collect();
        self.look_among(&older)
    }

    /// Signals each of these processes that has not got the signal yet. Returns how many were new.
    pub fn look_among(&mut self, processes: &[Descendant]) -> usize {
        let before = self.count;
        for one in processes.iter().filter(|one| !one.zombie) {
            if self.has_been_told(one) {
                continue;
            }
            match reserve::with(|| one.open()) {
                Ok(Some(pidfd)) => self.tell(one.pid, &pidfd),
                Ok(None) => {}
                Err(errno) => self.refused = Some(errno),
            }
        }
        self.count - before
    }

    /// Sends another signal to those of these processes that got the first one.
    pub fn again(&self, signal: i32, processes: &[Descendant]) {
        for one in processes.iter().filter(|one| self.has_been_told(one)) {
            if let Ok(Some(pidfd)) = reserve::with(|| one.open()) {
                // The first signal reached it, and what the kernel refuses now was refused then.
                let _ = pidfd.send(signal);
            }
        }
    }

    /// How many processes got the signal.
    ///
    /// # Errors
    /// What the kernel said last of a process or a cgroup that it refused.
    pub fn outcome(&self) -> Result<usize, Errno> {
        self.refused.map_or(Ok(self.reached), Err)
    }
}

/// SIGKILL for every process of a cgroup and of everything below it, also of a threaded one, for which the kernel has no
/// `cgroup.kill`. Limits on CPU time end with it: dying takes some, and many processes would need minutes for it.
///
/// # Errors
/// What the kernel refuses.
pub fn kill(cgroup: &Cgroup) -> Result<(), Errno> {
    let killed = match cgroup.kill() {
        Err(Errno::OPNOTSUPP) => kill_each(cgroup),
        result => result,
    };
    lift_cpu_limits(cgroup);
    killed
}

/// The most cgroups whose limit is lifted: a child may have made any number, and the supervisor does nothing else
/// meanwhile. That is some 30 ms.
const MOST_LIFTED: usize = 1000;

/// Where a limit stays, what it holds back dies all the same, but slowly.
fn lift_cpu_limits(cgroup: &Cgroup) {
    let mut lifted = 0;
    let _ = cgroup.walk(|step| {
        if let Step::Into(cgroup) = step {
            let _ = cgroup.lift_cpu_limit();
            lifted += 1;
        }
        if lifted < MOST_LIFTED { Ok(()) } else { Err(Errno::TOOBIG) }
    });
}

/// Frozen processes do not fork, so that the list stays as it is, and die of SIGKILL all the same.
fn kill_each(cgroup: &Cgroup) -> Result<(), Errno> {
    let mut round = Round::new(libc::SIGKILL, AndContinue::No);
    let frozen = cgroup.freeze(true);
    round.look_until_none_is_new(cgroup);
    let thawed = cgroup.freeze(false);
    // What was forked before the freeze had taken hold.
    round.look(cgroup);
    frozen.and(thawed)?;
    round.outcome().map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::cgroup::Existing;
    use crate::linux::cgroup::tests::{Place, start, wait_for};
    use crate::linux::pidfd::Exit;
    use rustix::event::{Timespec, poll};

    const ENDED: Exit = Exit::Signal { signal: libc::SIGTERM, core: false };
    const KILLED: Exit = Exit::Signal { signal: libc::SIGKILL, core: false };

    fn seen(pid: Pid) -> Descendant {
        match Descendant::look(pid) {
            Ok(Sight::Seen(one)) => one,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a signal as lpm does: to a cgroup that stands still.
    fn ask(cgroup: &Cgroup, round: &mut Round) {
        cgroup.freeze(true).unwrap();
        for _ in 0..5000 {
            if cgroup.frozen().unwrap() {
                break;
            }
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
        }
        round.look_until_none_is_new(cgroup);
        cgroup.freeze(false).unwrap();
    }

    #[test]
    fn every_process_inside_gets_the_signal_once() {
        let Some(place) = Place::new("every_process_inside_gets_the_signal_once") else { return };
        let below = place.cgroup.create("below", Existing::Refuse).unwrap();
        let (_, pidfd) = start(&place.cgroup, "sleep 1000 & sleep 1000 & wait");
        let (_, other) = start(&below, "exec sleep 1000");
        wait_for(&place.cgroup, 3);
        let mut round = Round::new(libc::SIGTERM, AndContinue::Yes);
        ask(&place.cgroup, &mut round);
        assert_eq!(round.outcome(), Ok(4));
        assert_eq!(pidfd.wait().unwrap().exit, ENDED);
        assert_eq!(other.wait().unwrap().exit, ENDED);
        assert_eq!(place.cgroup.events().unwrap().wait_empty(None), Ok(true));
        assert_eq!(round.look(&place.cgroup), 0);
    }

    #[test]
    fn another_process_with_the_number_of_one_that_has_the_signal_gets_it_too() {
        let Some(place) = Place::new("another_process_with_the_number_of_one_that_has_the_signal") else {
            return;
        };
        let (pid, pidfd) = start(&place.cgroup, "exec sleep 1000");
        let (other, second) = start(&place.cgroup, "exec sleep 1000");
        wait_for(&place.cgroup, 2);
        let mut round = Round::new(libc::SIGTERM, AndContinue::No);
        // Long ago, to processes that had these numbers then.
        round.told.extend([(pid, 1), (other, 1)]);
        assert_eq!(round.look_among(&[seen(pid)]), 1);
        assert_eq!(round.look_among(&[seen(pid)]), 0);
        assert_eq!(pidfd.wait().unwrap().exit, ENDED);
        assert_eq!(round.look(&place.cgroup), 1);
        assert_eq!(second.wait().unwrap().exit, ENDED);
        assert_eq!(round.outcome(), Ok(2));
    }

    #[test]
    fn what_a_handler_starts_is_left_alone() {
        let Some(place) = Place::new("what_a_handler_starts_is_left_alone") else { return };
        for number in 0..20 {
            let leaf = place.cgroup.create(&number.to_string(), Existing::Refuse).unwrap();
            let script = "trap 'sleep .01 && sleep .01 && exit 7' TERM; sleep 1000 & wait";
            let (_, pidfd) = start(&leaf, script);
            wait_for(&leaf, 2);
            let mut round = Round::new(libc::SIGTERM, AndContinue::Yes);
            ask(&leaf, &mut round);
            assert_eq!(pidfd.wait().unwrap().exit, Exit::Code(7), "a sleep of the handler got the signal");
        }
    }

    #[test]
    fn a_stopped_process_can_act_on_the_signal() {
        let Some(place) = Place::new("a_stopped_process_can_act_on_the_signal") else { return };
        let (pid, pidfd) = start(&place.cgroup, "trap 'exit 3' TERM; kill -STOP $$; while :; do :; done");
        while !seen(pid).stopped {
            let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 }));
        }
        ask(&place.cgroup, &mut Round::new(libc::SIGTERM, AndContinue::Yes));
        assert_eq!(pidfd.wait().unwrap().exit, Exit::Code(3));
    }

    #[test]
    fn what_is_killed_one_by_one_is_killed_with_what_it_forks() {
        let Some(place) = Place::new("what_is_killed_one_by_one_is_killed_with_what_it_forks") else {
            return;
        };
        let below = place.cgroup.create("below", Existing::Refuse).unwrap();
        let (_, first) = start(&place.cgroup, "trap '' TERM; setsid sleep 1000 & setsid sleep 1000 & wait");
        let (_, second) = start(&below, "exec sleep 1000");
        wait_for(&place.cgroup, 3);
        kill_each(&place.cgroup).unwrap();
        assert_eq!(place.cgroup.events().unwrap().wait_empty(None), Ok(true));
        assert_eq!(first.wait().unwrap().exit, KILLED);
        assert_eq!(second.wait().unwrap().exit, KILLED);
    }

    #[test]
    fn a_threaded_cgroup_keeps_no_other_from_being_asked() {
        let Some(place) = Place::new("a_threaded_cgroup_keeps_no_other_from_being_asked") else { return };
        let domain = place.cgroup.create("domain", Existing::Refuse).unwrap();
        let threaded = domain.create("threaded", Existing::Refuse).unwrap();
        if let Err(errno) = threaded.write("cgroup.type", "threaded") {
            return skipped!("a_threaded_cgroup_keeps_no_other_from_being_asked: {errno}");
        }
        let beside: Vec<Cgroup> =
            ["a", "z"].map(|name| place.cgroup.create(name, Existing::Refuse).unwrap()).into();
        let (_, inside) = start(&domain, "exec sleep 1000");
        let others: Vec<PidFd> = beside.iter().map(|one| start(one, "exec sleep 1000").1).collect();
        let mut round = Round::new(libc::SIGTERM, AndContinue::No);
        ask(&place.cgroup, &mut round);
        assert_eq!(round.outcome(), Ok(3));
        for pidfd in [inside].iter().chain(&others) {
            assert_eq!(pidfd.wait().unwrap().exit, ENDED);
        }
    }

    #[test]
    fn a_leaf_that_made_itself_threaded_is_signalled_and_killed() {
        let Some(place) = Place::new("a_leaf_that_made_itself_threaded_is_signalled_and_killed") else {
            return;
        };
        let leaf = place.cgroup.create("leaf", Existing::Refuse).unwrap();
        if let Err(errno) = leaf.write("cgroup.type", "threaded") {
            return skipped!("a_leaf_that_made_itself_threaded_is_signalled_and_killed: {errno}");
        }
        // A process comes in through the domain, as a thread at a time.
        let (pid, first) = start(&place.cgroup, "exec sleep 1000");
        leaf.write("cgroup.threads", &pid.as_raw_pid().to_string()).unwrap();
        assert_eq!(leaf.procs(), Ok(vec![pid]));
        let mut round = Round::new(libc::SIGTERM, AndContinue::No);
        ask(&leaf, &mut round);
        assert_eq!((round.outcome(), first.wait().unwrap().exit), (Ok(1), ENDED));
        let (pid, second) = start(&place.cgroup, "trap '' TERM; while :; do sleep 1000; done");
        leaf.write("cgroup.threads", &pid.as_raw_pid().to_string()).unwrap();
        kill(&leaf).unwrap();
        assert_eq!(second.wait().unwrap().exit, KILLED);
    }
}
