//! Orphans that live inside leaves, remembered: each is looked at once, however many processes of other lives end.
//!
//! A process that puts itself into the background (a daemon) becomes a child of lpm, and stays in its leaf as a rule. Its
//! number is an identity here, because no other process gets it before lpm has reaped this one. It may leave its leaf
//! later. So some are looked at again each time, and all of a leaf when that is empty: then they are somewhere else.

use std::collections::{HashMap, VecDeque};

use rustix::process::Pid;

/// How many are looked at again each time.
const AGAIN: usize = 16;

/// Orphans that were found in a leaf.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    /// And in the leaf of which instance.
    inside: HashMap<Pid, usize>,
    /// Those that were looked at longest ago come first. Some of them may have been reaped.
    order: VecDeque<Pid>,
}

impl Orphans {
    /// Whether it was found in a leaf, and need not be looked at.
    pub(super) fn is_inside(&self, pid: Pid) -> bool {
        self.inside.contains_key(&pid)
    }

    /// It was found in the leaf of the instance `at`.
    pub(super) fn found(&mut self, pid: Pid, at: usize) {
        if self.inside.insert(pid, at).is_none() {
            self.order.push_back(pid);
        }
    }

    /// It was reaped: its number may be another process's now.
    pub(super) fn reaped(&mut self, pid: Pid) {
        self.inside.remove(&pid);
        // Numbers in the order are forgotten when their turn comes, or all at once when most of them are of no use.
        if self.order.len() > 2 * self.inside.len() + AGAIN {
            self.order.retain(|pid| self.inside.contains_key(pid));
        }
    }

    /// The leaf of the instance `at` is empty.
    pub(super) fn leaf_is_empty(&mut self, at: usize) {
        self.inside.retain(|_, leaf| *leaf != at);
    }

    /// Forgets a few, which are looked at again.
    pub(super) fn forget_some(&mut self) {
        for pid in self.order.drain(..AGAIN.min(self.order.len())) {
            self.inside.remove(&pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).expect("not 0")
    }

    #[test]
    fn each_is_looked_at_again_in_its_turn_and_no_more_is_kept_than_there_is() {
        let mut orphans = Orphans::default();
        let all = 1..=10_000;
        all.clone().for_each(|number| orphans.found(pid(number), 0));
        orphans.forget_some();
        let unknown: Vec<i32> = all.clone().filter(|&number| !orphans.is_inside(pid(number))).collect();
        assert_eq!(unknown, (1..=AGAIN as i32).collect::<Vec<_>>(), "the oldest");
        unknown.iter().for_each(|&number| orphans.found(pid(number), 0));
        orphans.forget_some();
        assert!(orphans.is_inside(pid(1)) && !orphans.is_inside(pid(AGAIN as i32 + 1)));
        all.for_each(|number| orphans.reaped(pid(number)));
        assert!(orphans.inside.is_empty() && orphans.order.len() <= AGAIN);
    }

    #[test]
    fn what_was_in_a_leaf_that_is_empty_is_looked_at_again() {
        let mut orphans = Orphans::default();
        orphans.found(pid(7), 1);
        orphans.found(pid(8), 2);
        orphans.leaf_is_empty(1);
        assert!(!orphans.is_inside(pid(7)) && orphans.is_inside(pid(8)));
        orphans.found(pid(7), 2);
        // Twice in the order, and in its turn all the same.
        orphans.forget_some();
        assert!(!orphans.is_inside(pid(7)) && !orphans.is_inside(pid(8)));
    }
}
