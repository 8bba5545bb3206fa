//! Processes of a life outside every leaf: those that left it, and all of them where there are no cgroups.
//!
//! A process that leaves its leaf stays a descendant of lpm, and when its parents are dead it comes to lpm, which is
//! the subreaper. Its session, its parents or its environment tell which life it belongs to. Where none of them does
//! (`su -` in a session of its own) it is found at the end of lpm, and killed then.
//!
//! Looking through /proc is expensive. In the tiers with cgroups it is done when a person freezes an instance, and when
//! lpm has a child that it does not know and that is in no leaf; one file tells whether there is one.

use std::collections::HashSet;

use rustix::io::Errno;
use rustix::process::Pid;

use super::Driver;
use super::life::{Alive, Leaf, number};
use crate::error::words;
use crate::linux::cgroup::Mount;
use crate::linux::descendants::{self, Descendant};
use crate::linux::guardian::Guardian;
use crate::linux::round::{AndContinue, Round};
use crate::linux::tree::Tree;
use crate::supervisor::{Freezer, InstanceId, State};

/// Where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Search {
    /// Among the orphans that came to lpm and what is below them.
    Orphans,
    /// Among all descendants.
    All,
}

/// How often a search is repeated at most, until no process is new.
const LOOKS: usize = 8;

/// How many processes a line names.
const NAMED: usize = 5;

/// What the names of the leaves begin with, as /proc/PID/cgroup has them; `None` where that cannot be told.
pub(super) fn prefix_of_leaves(tree: &Tree) -> Option<Vec<u8>> {
    let name = Mount::find().ok()??.name_of(tree.path())?;
    let mut prefix = name.join("app").into_os_string().into_encoded_bytes();
    prefix.push(b'/');
    Some(prefix)
}

/// A signal for every process of a life.
pub(super) struct Ask {
    /// Whose.
    pub at: usize,
    pub round: Round,
    /// It stays in force.
    pub lasting: bool,
}

/// The processes of a life that has no leaf, while they stand still for a signal.
struct Standstill {
    stopping: Round,
    found: Vec<Descendant>,
    and_continue: AndContinue,
}

impl Default for Standstill {
    fn default() -> Standstill {
        let stopping = Round::new(libc::SIGSTOP, AndContinue::No);
        Standstill { stopping, found: Vec::new(), and_continue: AndContinue::No }
    }
}

impl Driver {
    /// The processes of a life outside every leaf, zombies aside; without cgroups all of them.
    ///
    /// # Errors
    /// They could not be looked for, which does not mean that there are none.
    pub(super) fn outside(&self, at: usize, search: Search) -> Result<Vec<Descendant>, Errno> {
        let Some(alive) = &self.lives[at] else { return Ok(Vec::new()) };
        let in_leaves = matches!(alive.leaf, Leaf::Cgroup(_));
        if search == Search::Orphans && !self.has_unknown_orphans()? {
            return Ok(Vec::new());
        }
        let family = descendants::find()?;
        let main = (!alive.exited).then_some(alive.pid);
        let others = self.others(at);
        let mut members = descendants::members(&family, main, alive.pid, &alive.mark, &others)?;
        if in_leaves {
            let mut outside = Vec::new();
            for one in members {
                if self.is_outside(one.pid)? {
                    outside.push(one);
                }
            }
            members = outside;
        }
        Ok(members)
    }

    /// Gives the processes outside the leaf what is in force for their life, a stop signal or SIGKILL, each once, and
    /// counts them.
    ///
    /// # Errors
    /// They could not be looked for.
    pub(super) fn chase(&mut self, at: usize) -> Result<u32, Errno> {
        // A main process that runs keeps what it left elsewhere.
        let outside = self.outside(at, Search::Orphans)?;
        let Some(alive) = &mut self.lives[at] else { return Ok(0) };
        let refused = if alive.killed {
            let mut round = Round::new(libc::SIGKILL, AndContinue::No);
            round.look_among(&outside);
            round.outcome().err()
        } else if let Some(asked) = &mut alive.asked {
            asked.look_among_older(&outside);
            asked.outcome().err()
        } else {
            None
        };
        let news = matches!(alive.leaf, Leaf::Cgroup(_)) && !outside.is_empty() && !alive.said_outside;
        let (life, killed) = (alive.life, alive.killed);
        if news {
            alive.said_outside = true;
            self.log.say(&self.labels[at], format!("outside its cgroup: {}", named(&outside)));
        }
        if let Some(errno) = refused.filter(|_| news || killed) {
            self.complain_about(life, if killed { "kill" } else { "signal" }, errno);
        }
        Ok(u32::try_from(outside.len()).unwrap_or(u32::MAX))
    }

    /// How many processes of a life are left, in its leaf and outside of it; one, where that cannot be seen.
    pub(super) fn left(&mut self, at: usize) -> u32 {
        let inside = self.lives[at].as_ref().map_or(Ok(0), Alive::left_inside);
        let outside = self.chase(at);
        match (inside, outside) {
            (Ok(inside), Ok(outside)) => inside.saturating_add(outside),
            (Err(errno), _) | (_, Err(errno)) => {
                let Some(alive) = &mut self.lives[at] else { return 0 };
                let life = alive.life;
                if !std::mem::replace(&mut alive.said_unseen, true) {
                    self.complain_about(life, "look at its processes", errno);
                }
                1
            }
        }
    }

    /// Sends signals to every process of lives that have no leaf, each of which gets its signal once. They are stopped
    /// for it, as the freezer does elsewhere, because a process that stands still forks no other. All lives are asked
    /// together: looking through /proc takes as long for one as for a hundred.
    pub(super) fn ask_descendants(&mut self, asks: Vec<Ask>) {
        let mut asks: Vec<(Ask, Standstill)> =
            asks.into_iter().map(|ask| (ask, Standstill::default())).collect();
        let mut refused = Ok(());
        for _ in 0..LOOKS {
            match self.find_and_stop(&mut asks) {
                Ok(0) => break,
                Ok(_) => {}
                Err(errno) => {
                    refused = Err(errno);
                    break;
                }
            }
        }
        for (ask, standstill) in &mut asks {
            let Some(alive) = &self.lives[ask.at] else { continue };
            // All continue together, when all have the signal: a process that wakes first would find its children
            // stopped.
            standstill.and_continue = ask.round.continue_later();
            if !alive.exited {
                ask.round.tell(alive.pid, &alive.main);
            }
            ask.round.look_among(&standstill.found);
        }
        for (ask, standstill) in asks {
            let Some(alive) = &mut self.lives[ask.at] else { continue };
            let life = alive.life;
            if !alive.frozen && ask.round.signal() != libc::SIGSTOP {
                let stopped = match standstill.and_continue {
                    AndContinue::Yes => &ask.round,
                    AndContinue::No => &standstill.stopping,
                };
                stopped.again(libc::SIGCONT, &standstill.found);
            }
            let sent = ask.round.outcome().map(|_| ());
            if ask.lasting {
                alive.asked = Some(ask.round);
            }
            if let Err(errno) = refused.and(sent) {
                self.complain_about(life, "signal", errno);
            }
        }
    }

    /// One look: stops what runs. Returns how many processes were new.
    fn find_and_stop(&self, asks: &mut [(Ask, Standstill)]) -> Result<usize, Errno> {
        let family = descendants::find()?;
        let mut new = 0;
        for (ask, standstill) in asks {
            let Some(alive) = &self.lives[ask.at] else { continue };
            let main = (!alive.exited).then_some(alive.pid);
            let others = self.others(ask.at);
            let members = descendants::members(&family, main, alive.pid, &alive.mark, &others)?;
            let running: Vec<Descendant> = members.iter().filter(|one| !one.stopped).cloned().collect();
            new += standstill.stopping.look_among(&running);
            merge(&mut standstill.found, members);
        }
        Ok(new)
    }

    /// Stops the processes outside the leaf, because the life is frozen. All of them, where there is no leaf.
    pub(super) fn stop_outside(&mut self, at: usize) -> Result<(), Errno> {
        let mut round = Round::new(libc::SIGSTOP, AndContinue::No);
        let mut stopped: Vec<Descendant> = Vec::new();
        for _ in 0..LOOKS {
            let outside = self.outside(at, Search::All)?;
            let new = round.look_among(&outside);
            merge(&mut stopped, outside);
            if new == 0 {
                break;
            }
        }
        let Some(alive) = &mut self.lives[at] else { return Ok(()) };
        let news = matches!(alive.leaf, Leaf::Cgroup(_)) && !stopped.is_empty();
        if news {
            let text = format!("outside its cgroup, and stopped by SIGSTOP: {}", named(&stopped));
            self.log.say(&self.labels[at], text);
        }
        alive.stopped = stopped;
        round.outcome().map(|_| ())
    }

    /// Lets those run that were stopped because the life was frozen.
    pub(super) fn continue_outside(&mut self, at: usize) -> Result<(), Errno> {
        let Some(alive) = &mut self.lives[at] else { return Ok(()) };
        let mut round = Round::new(libc::SIGCONT, AndContinue::No);
        round.look_among(&std::mem::take(&mut alive.stopped));
        round.outcome().map(|_| ())
    }

    /// Describes the processes of a life that SIGKILL did not end, and why: `4711 (dd) is in uninterruptible sleep`.
    pub(super) fn survivors(&self, at: usize) -> String {
        let Some(alive) = &self.lives[at] else { return "its cgroup cannot be looked at".to_owned() };
        let mut pids = alive.pids_inside();
        if !alive.exited && !pids.contains(&alive.pid) {
            pids.push(alive.pid);
        }
        let inside = pids.into_iter().filter_map(|pid| Descendant::look(pid).ok().flatten());
        let outside = self.outside(at, Search::Orphans).unwrap_or_default();
        let mut all: Vec<Descendant> = inside.collect();
        merge(&mut all, outside);
        let lines: Vec<String> = all.iter().filter(|one| !one.zombie).take(NAMED).map(why_it_lives).collect();
        match lines.is_empty() {
            true => "its processes cannot be looked at".to_owned(),
            false => lines.join("; "),
        }
    }

    /// The main processes of other lives, and what else among our children is no instance's.
    pub(super) fn others(&self, at: usize) -> HashSet<Pid> {
        let lives = self.lives.iter().enumerate().filter(|&(other, _)| other != at);
        let mains = lives.filter_map(|(_, alive)| alive.as_ref()).filter(|alive| !alive.exited);
        let guardian = self.ground.guardian.iter().map(Guardian::pid);
        mains.map(|alive| alive.pid).chain(guardian).chain(self.inherited.iter().copied()).collect()
    }

    /// Whether there is a child that is no main process, and in no leaf. What a main process leaves comes to lpm with its
    /// end, so that without such a child nothing is outside of a life whose main process has ended.
    fn has_unknown_orphans(&self) -> Result<bool, Errno> {
        let Some(orphans) = descendants::orphans()? else { return Ok(true) };
        let guardian = self.ground.guardian.as_ref().map(Guardian::pid);
        for pid in orphans {
            let known = Some(pid) == guardian
                || self.by_pid.contains_key(&number(pid))
                || self.inherited.contains(&pid);
            let lives = !known && Descendant::look(pid)?.is_some_and(|one| !one.zombie);
            if lives && (self.ground.tree.is_none() || self.is_outside(pid)?) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a process is in none of our leaves.
    pub(super) fn is_outside(&self, pid: Pid) -> Result<bool, Errno> {
        let Some(name) = descendants::cgroup_of(pid)? else { return Ok(false) };
        match &self.leaves {
            Some(prefix) => Ok(!name.starts_with(prefix)),
            // The leaves have no name that could be compared.
            None => {
                for alive in self.lives.iter().flatten() {
                    if let Leaf::Cgroup(leaf) = &alive.leaf
                        && leaf.procs()?.contains(&pid)
                    {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    /// Whether something is expected to end or to stand still, so that a look is due even if nothing tells.
    pub(super) fn expects_something(&self) -> bool {
        self.unthawed || self.lives.iter().flatten().any(|alive| self.is_expected(alive))
    }

    fn is_expected(&self, alive: &Alive) -> bool {
        let state = self.core.instances()[alive.life.instance.0 as usize].state;
        alive.exited
            || alive.unset
            || alive.unwatched
            || matches!(
                state,
                State::StopSigterm { .. }
                    | State::StopSigkill { .. }
                    | State::Stuck { .. }
                    | State::Running { freezer: Freezer::Freezing, .. }
            )
    }

    /// Looks at everything that is expected to end or to stand still. The kernel tells of it as a rule; but a
    /// notification may not have been armed for want of a descriptor, and processes outside the leaves have none.
    pub(super) fn look_again(&mut self) {
        if self.unthawed {
            self.freeze(false);
        }
        for at in 0..self.lives.len() {
            if !self.lives[at].as_ref().is_some_and(|alive| self.is_expected(alive)) {
                continue;
            }
            if let Some(alive) = &mut self.lives[at] {
                alive.freeze_again();
                // A kill that the kernel refused for a moment is repeated.
                if alive.killed {
                    let _ = alive.kill();
                }
            }
            let id = InstanceId(at as u32);
            self.on_exit(id);
            self.on_events(id);
        }
    }
}

/// Adds what is not in the list yet.
fn merge(list: &mut Vec<Descendant>, found: Vec<Descendant>) {
    for one in found {
        if !list.iter().any(|known| known.is_same(&one)) {
            list.push(one);
        }
    }
}

/// `4711 (sleep), 4712 (sh) and 3 more`.
fn named(processes: &[Descendant]) -> String {
    let one = |one: &Descendant| format!("{} ({})", number(one.pid), one.name.escape_debug());
    let names: Vec<String> = processes.iter().take(NAMED).map(one).collect();
    match processes.len().saturating_sub(NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

fn why_it_lives(one: &Descendant) -> String {
    let process = format!("{} ({})", number(one.pid), one.name.escape_debug());
    if one.uninterruptible {
        return format!("{process} is in uninterruptible sleep");
    }
    // Signal 0 asks whether a signal may be sent.
    match one.open().and_then(|pidfd| pidfd.map_or(Ok(true), |pidfd| pidfd.send(0))) {
        Ok(_) => format!("{process} is still running"),
        Err(errno) => format!("{process} may not be killed: {}", words(errno)),
    }
}
