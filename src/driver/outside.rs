//! Processes of a life outside every leaf: those that left it, and all of them where there are no cgroups.
//!
//! A process that leaves its leaf stays a descendant of lpm, and when its parents are dead it comes to lpm, which is
//! the subreaper. Its session, its parents or its environment tell which life it belongs to. Where none of them does
//! (`su -` in a session of its own) it is found at the end of lpm, and killed then.
//!
//! Looking through /proc is expensive. In the tiers with cgroups it is done when a person freezes an instance, and when
//! lpm has a child that it does not know and that is in no leaf; one file tells whether there is one.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::rc::Rc;

use rustix::event::{Timespec, poll};
use rustix::io::Errno;
use rustix::process::Pid;

use super::Driver;
use super::life::{Alive, Leaf, number};
use crate::error::words;
use crate::linux::cgroup::{Mount, Step};
use crate::linux::descendants::{self, Descendant, Members, Others, Wanted};
use crate::linux::guardian::Guardian;
use crate::linux::round::{AndContinue, Round};
use crate::linux::sight::Sight;
use crate::linux::tree::Tree;
use crate::supervisor::{Event, Freezer, InstanceId, State};

/// How often a search is repeated at most, until no process is new.
const LOOKS: usize = 8;

/// How often what is in doubt is looked at again, and how much later each time.
const DOUBTS: usize = 3;
const A_MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// How many processes a line names.
const NAMED: usize = 5;

/// What the names of the leaves begin with, as /proc/PID/cgroup has them; `None` where that cannot be told.
pub(super) fn prefix_of_leaves(tree: &Tree) -> Option<Vec<u8>> {
    let name = Mount::find().ok()??.name_of(tree.path())?;
    let mut prefix = name.join("app").into_os_string().into_encoded_bytes();
    prefix.push(b'/');
    Some(prefix)
}

/// A look through /proc that several lives share.
pub(super) type OneLook = Rc<OnceCell<Result<Vec<Descendant>, Errno>>>;

/// What was ordered for the processes of lives that are outside every leaf. It is done for all lives of a turn together:
/// looking through /proc takes as long for one as for a hundred.
#[derive(Default)]
pub(super) struct Errands {
    /// Signals for lives without a leaf.
    pub asks: Vec<Ask>,
    /// Lives without a leaf that are killed.
    pub kills: Vec<usize>,
    /// Lives that are frozen.
    pub freezes: Vec<usize>,
}

/// A signal for every process of a life.
pub(super) struct Ask {
    /// Whose.
    pub at: usize,
    pub round: Round,
    /// It stays in force.
    pub lasting: bool,
}

/// Where a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whereabouts {
    /// In the leaf of this instance.
    Leaf(usize),
    /// In no leaf.
    Outside,
    /// It has ended.
    Gone,
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
    /// The processes outside every leaf of a life whose main process has ended, zombies aside; without cgroups all of them.
    ///
    /// # Errors
    /// They could not be looked for, which does not mean that there are none.
    fn outside(&mut self, at: usize) -> Result<Members, Errno> {
        if self.lives[at].is_none() || !self.has_unknown_orphans()? {
            return Ok(Members { of_each: vec![Vec::new()], doubt: false });
        }
        match self.one_look.clone() {
            Some(look) => {
                let family = look.get_or_init(descendants::find);
                self.outside_among(family.as_deref().map_err(|errno| *errno)?, &[at])
            }
            None => self.outside_of_each(&[at]),
        }
    }

    /// The processes outside every leaf of each of these lives, which are there, in one look through /proc.
    ///
    /// # Errors
    /// As [`Driver::outside`].
    pub(super) fn outside_of_each(&mut self, places: &[usize]) -> Result<Members, Errno> {
        let mut found = self.outside_among(&descendants::find()?, places)?;
        for _ in 0..DOUBTS {
            if !found.doubt {
                break;
            }
            let _ = poll(&mut [], Some(&A_MOMENT));
            found = self.outside_among(&descendants::find()?, places)?;
        }
        Ok(found)
    }

    fn outside_among(&mut self, family: &[Descendant], places: &[usize]) -> Result<Members, Errno> {
        let lives = places.iter().filter_map(|&at| self.lives[at].as_ref());
        let wanted: Vec<Wanted> = lives.map(Alive::wanted).collect();
        let mut found = descendants::members(family, &wanted, &self.others(places))?;
        for (&at, members) in places.iter().zip(&mut found.of_each) {
            let Some(alive) = &mut self.lives[at] else { continue };
            alive.known = members.iter().map(Descendant::identity).collect();
            if let Leaf::Descendants = alive.leaf {
                continue;
            }
            let mut outside = Vec::new();
            for one in members.drain(..) {
                if self.is_outside(one.pid)? {
                    outside.push(one);
                }
            }
            *members = outside;
        }
        Ok(found)
    }

    /// Gives the processes outside the leaf what is in force for their life, a stop signal or SIGKILL, each once, and
    /// counts them.
    ///
    /// # Errors
    /// They could not be looked for.
    pub(super) fn chase(&mut self, at: usize) -> Result<u32, Errno> {
        // A main process that runs keeps what it left elsewhere.
        let Members { mut of_each, doubt } = self.outside(at)?;
        let outside = of_each.pop().unwrap_or_default();
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
        // What is in doubt may be one of them. It is looked at again once a second.
        Ok(u32::try_from(outside.len() + usize::from(doubt)).unwrap_or(u32::MAX))
    }

    /// How many processes of a life are left, in its leaf and outside of it; one, where that cannot be seen.
    pub(super) fn left(&mut self, at: usize) -> u32 {
        let inside = self.lives[at].as_ref().map_or(Ok(0), Alive::left_inside);
        if inside == Ok(0) {
            self.orphans.leaf_is_empty(at);
        }
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

    /// Does what was ordered in this turn.
    pub(super) fn run_errands(&mut self) {
        let Errands { asks, kills, freezes } = std::mem::take(&mut self.errands);
        if !kills.is_empty() {
            self.kill_descendants(kills);
        }
        if !asks.is_empty() {
            self.ask_descendants(asks);
        }
        if !freezes.is_empty() {
            self.freeze_outside(freezes);
        }
    }

    /// SIGKILL for every process of lives that have no leaf.
    fn kill_descendants(&mut self, mut places: Vec<usize>) {
        places.retain(|&at| self.lives[at].is_some());
        let found = self.outside_of_each(&places);
        let refused = found.as_ref().err().copied();
        let found = found.map_or_else(|_| vec![Vec::new(); places.len()], |found| found.of_each);
        for (at, found) in places.into_iter().zip(found) {
            let mut round = Round::new(libc::SIGKILL, AndContinue::No);
            round.look_among(&found);
            if let (Some(errno), Some(alive)) = (refused.or(round.outcome().err()), &self.lives[at]) {
                self.complain_about(alive.life, "kill", errno);
            }
        }
    }

    /// Stops what is outside of lives that are frozen, and tells of those that stand still then.
    fn freeze_outside(&mut self, places: Vec<usize>) {
        for (at, done) in self.stop_outside(places) {
            let Some(alive) = &self.lives[at] else { continue };
            let life = alive.life;
            if alive.stands_still() {
                self.told.push_back(Event::Frozen { life });
            }
            if let Err(errno) = done {
                self.complain_about(life, "freeze", errno);
            }
        }
    }

    /// Sends signals to every process of lives that have no leaf, each of which gets its signal once. They are stopped
    /// for it, as the freezer does elsewhere, because a process that stands still forks no other.
    pub(super) fn ask_descendants(&mut self, asks: Vec<Ask>) {
        let alive = asks.into_iter().filter(|ask| self.lives[ask.at].is_some());
        let mut asks: Vec<(Ask, Standstill)> = alive.map(|ask| (ask, Standstill::default())).collect();
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
    fn find_and_stop(&mut self, asks: &mut [(Ask, Standstill)]) -> Result<usize, Errno> {
        let places: Vec<usize> = asks.iter().map(|(ask, _)| ask.at).collect();
        let mut new = 0;
        for ((_, standstill), members) in asks.iter_mut().zip(self.outside_of_each(&places)?.of_each) {
            let running: Vec<Descendant> = members.iter().filter(|one| !one.stopped).cloned().collect();
            new += standstill.stopping.look_among(&running);
            merge(&mut standstill.found, members);
        }
        Ok(new)
    }

    /// Stops the processes outside the leaf of each of these lives, because it is frozen. All of them, where there is no
    /// leaf. Returns what came of it for each.
    pub(super) fn stop_outside(&mut self, mut places: Vec<usize>) -> Vec<(usize, Result<(), Errno>)> {
        places.retain(|&at| self.lives[at].is_some());
        let round = || Round::new(libc::SIGSTOP, AndContinue::No);
        let mut stops: Vec<(Round, Vec<Descendant>)> = places.iter().map(|_| (round(), Vec::new())).collect();
        let mut refused = Ok(());
        for _ in 0..LOOKS {
            let mut new = 0;
            match self.outside_of_each(&places) {
                Ok(found) => {
                    for ((round, stopped), outside) in stops.iter_mut().zip(found.of_each) {
                        new += round.look_among(&outside);
                        merge(stopped, outside);
                    }
                }
                Err(errno) => refused = Err(errno),
            }
            if new == 0 {
                break;
            }
        }
        let mut done = Vec::new();
        for (at, (round, stopped)) in places.into_iter().zip(stops) {
            let Some(alive) = &mut self.lives[at] else { continue };
            if matches!(alive.leaf, Leaf::Cgroup(_)) && !stopped.is_empty() {
                let text = format!("outside its cgroup, and stopped by SIGSTOP: {}", named(&stopped));
                self.log.say(&self.labels[at], text);
            }
            alive.stopped = stopped;
            done.push((at, refused.and(round.outcome().map(|_| ()))));
        }
        done
    }

    /// Lets those run that were stopped because the life was frozen.
    pub(super) fn continue_outside(&mut self, at: usize) -> Result<(), Errno> {
        let Some(alive) = &mut self.lives[at] else { return Ok(()) };
        let mut round = Round::new(libc::SIGCONT, AndContinue::No);
        round.look_among(&std::mem::take(&mut alive.stopped));
        round.outcome().map(|_| ())
    }

    /// Describes the processes of a life that SIGKILL did not end, and why: `4711 (dd) is in uninterruptible sleep`.
    pub(super) fn survivors(&mut self, at: usize) -> String {
        let outside = self.outside(at).ok().and_then(|mut found| found.of_each.pop()).unwrap_or_default();
        let Some(alive) = &self.lives[at] else { return "its cgroup cannot be looked at".to_owned() };
        let mut pids = alive.pids_inside();
        if !alive.exited && !pids.contains(&alive.pid) {
            pids.push(alive.pid);
        }
        let inside = pids.into_iter().filter_map(|pid| match Descendant::look(pid) {
            Ok(Sight::Seen(one)) => Some(one),
            Ok(Sight::Hidden) => Descendant::hidden(pid, rustix::process::getpid()).ok().flatten(),
            Ok(Sight::Gone) | Err(_) => None,
        });
        let mut all: Vec<Descendant> = inside.collect();
        merge(&mut all, outside);
        let lines: Vec<String> = all.iter().filter(|one| !one.zombie).take(NAMED).map(why_it_lives).collect();
        match lines.is_empty() {
            true => "its processes cannot be looked at".to_owned(),
            false => lines.join("; "),
        }
    }

    /// The main processes of all lives, what else among our children is no instance's, and what was found of lives that are
    /// not in `places`.
    pub(super) fn others(&self, places: &[usize]) -> Others {
        let mains = self.lives.iter().flatten().filter(|alive| !alive.exited);
        let guardian = self.ground.guardian.iter().map(Guardian::pid);
        let children = mains.map(|alive| alive.pid).chain(guardian).chain(self.inherited.iter().copied());
        let is_wanted: HashSet<usize> = places.iter().copied().collect();
        let lives = self.lives.iter().enumerate().filter(|(at, _)| !is_wanted.contains(at));
        let known =
            lives.filter_map(|(_, alive)| alive.as_ref()).flat_map(|alive| alive.known.iter().copied());
        Others { children: children.collect(), known: known.collect() }
    }

    /// Whether there is a child that is no main process, and in no leaf. What a main process leaves comes to lpm with its
    /// end, so that without such a child nothing is outside of a life whose main process has ended.
    fn has_unknown_orphans(&mut self) -> Result<bool, Errno> {
        let Some(children) = descendants::orphans()? else { return Ok(true) };
        self.orphans.forget_some();
        let guardian = self.ground.guardian.as_ref().map(Guardian::pid);
        for pid in children {
            let known = Some(pid) == guardian
                || self.orphans.is_inside(pid)
                || self.by_pid.contains_key(&number(pid))
                || self.inherited.contains(&pid);
            if known || descendants::has_ended(pid) {
                continue;
            }
            match self.whereabouts(pid)? {
                Whereabouts::Leaf(at) => self.orphans.found(pid, at),
                Whereabouts::Outside => return Ok(true),
                Whereabouts::Gone => {}
            }
        }
        Ok(false)
    }

    /// Whether a process is in none of our leaves.
    pub(super) fn is_outside(&self, pid: Pid) -> Result<bool, Errno> {
        self.whereabouts(pid).map(|found| found == Whereabouts::Outside)
    }

    fn whereabouts(&self, pid: Pid) -> Result<Whereabouts, Errno> {
        if self.ground.tree.is_none() {
            return Ok(Whereabouts::Outside);
        }
        let (name, prefix) = match (descendants::cgroup_of(pid)?, &self.leaves) {
            (Sight::Gone, _) => return Ok(Whereabouts::Gone),
            (Sight::Seen(name), Some(prefix)) => (name, prefix),
            // There is no name, or the leaves have none that could be compared.
            (Sight::Hidden, _) | (Sight::Seen(_), None) => return self.leaf_with(pid),
        };
        let Some(leaf) =
            name.strip_prefix(prefix.as_slice()).and_then(|rest| rest.split(|&c| c == b'/').next())
        else {
            return Ok(Whereabouts::Outside);
        };
        let at = self.stack.instances.iter().position(|instance| instance.name.as_bytes() == leaf);
        Ok(Whereabouts::Leaf(at.unwrap_or(usize::MAX)))
    }

    /// Looks for a process in each leaf and below it.
    fn leaf_with(&self, pid: Pid) -> Result<Whereabouts, Errno> {
        for (at, alive) in self.lives.iter().enumerate() {
            let Some(Alive { leaf: Leaf::Cgroup(leaf), .. }) = alive else { continue };
            let mut found = false;
            leaf.walk(|step| match step {
                Step::Into(cgroup) => {
                    found |= cgroup.procs()?.contains(&pid);
                    Ok(())
                }
                Step::OutOf { .. } => Ok(()),
                Step::Refused(errno) => Err(errno),
            })?;
            if found {
                return Ok(Whereabouts::Leaf(at));
            }
        }
        Ok(Whereabouts::Outside)
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
            || match state {
                State::Down { .. } | State::Waiting(_) => false,
                State::Up(living) => living.is_ending() || living.freezer == Freezer::Freezing,
            }
    }

    /// Looks at everything that is expected to end or to stand still. The kernel tells of it as a rule; but a
    /// notification may not have been armed for want of a descriptor, and processes outside the leaves have none.
    pub(super) fn look_again(&mut self) {
        if self.unthawed {
            self.freeze(false);
        }
        let expected = |at: &usize| self.lives[*at].as_ref().is_some_and(|alive| self.is_expected(alive));
        let places: Vec<usize> = (0..self.lives.len()).filter(expected).collect();
        for &at in &places {
            if let Some(alive) = &mut self.lives[at] {
                alive.freeze_again();
                // A kill that the kernel refused for a moment is repeated.
                if alive.killed {
                    let _ = alive.kill();
                }
            }
            self.on_exit(InstanceId(at as u32));
        }
        self.look_at_leaves(places);
    }

    /// The leaves of these lives may be empty, or stand still. What is outside of them is searched for in one look, which
    /// is later than the end of each main process that has ended: what such a life has left is found by it.
    pub(super) fn look_at_leaves(&mut self, places: Vec<usize>) {
        self.one_look = Some(Rc::new(OnceCell::new()));
        for at in places {
            self.on_events(InstanceId(at as u32));
        }
        self.one_look = None;
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
