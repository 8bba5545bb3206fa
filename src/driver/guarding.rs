//! What must last as long as the stack, although any process of the same user can remove it: the guardian, the freezer of
//! its tree, the record by which a second start is refused, and the control socket.
//!
//! A guardian that dies is replaced, however often: at once the first time, then after a delay that grows, and that is
//! forgotten after a quiet time. One that is stopped is continued, and replaced if that does not help. A tree of lpm's own
//! that is frozen from outside is thawed, for the guardian is in it. Each trouble is logged once, and again only after
//! [`QUIET`] without it.
//!
//! Nothing tells that the record or the socket was removed: closing an inotify descriptor takes the kernel longer than
//! ending a stack does. They are looked at whenever the loop is awake, at most once in [`BETWEEN_LOOKS`], and once a day.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;

use super::wake::{Key, Watch, rearm};
use super::worker::Order;
use super::{Driver, LOOK_AGAIN};
use crate::linux::guardian::Guardian;
use crate::linux::spawn::Failure as Failed;
use crate::linux::tree::Tree;

/// The delay before the second replacement. It doubles with every second one.
const FIRST_DELAY: Duration = Duration::from_millis(1);
/// The longest delay.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// After this long without trouble, the next one is the first again.
const QUIET: Duration = Duration::from_secs(300);
/// How long a guardian may take to go on after SIGCONT.
const TO_GO_ON: Duration = Duration::from_secs(1);
/// How long a tree that is thawed may take to be that.
const TO_THAW: Duration = Duration::from_secs(1);
/// How often record and socket are looked at while the loop is awake, and because of calls.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// When a record or a socket that cannot be put back is tried again.
const PUT_BACK_AGAIN: Duration = Duration::from_secs(60);

/// What keeps the record and the socket of the stack in their place.
pub struct Keeper {
    /// How long both may go without being touched.
    pub every: Duration,
    /// Touches both, so that no tmp cleaner takes them for old.
    pub touch: Box<dyn FnMut()>,
    /// Looks, and puts back what is missing.
    pub check: Box<dyn FnMut() -> Checked>,
}

/// What a keeper has found.
pub struct Checked {
    /// Whether the record was missing and is back, or why it is not.
    pub record: Result<bool, String>,
    /// The new listening end, if the socket was missing and is back, or why it is not.
    pub socket: Result<Option<OwnedFd>, String>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("every", &self.every).finish_non_exhaustive()
    }
}

/// Troubles of one kind, counted until there was quiet.
#[derive(Debug, Default, PartialEq, Eq)]
struct Episode {
    count: u32,
    last: Duration,
}

impl Episode {
    /// One more; whether it is the first of its episode, which is told.
    fn begins(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.last) >= QUIET {
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.last = now;
        self.count == 1
    }

    /// How long to wait before something is done about it.
    fn delay(&self) -> Duration {
        match self.count {
            0 | 1 => Duration::ZERO,
            count => FIRST_DELAY.saturating_mul(1 << (count / 2).min(20)).min(LONGEST_DELAY),
        }
    }
}

/// A tree that was frozen from outside, and what has been done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Thaw {
    /// When it must be thawed, or a cgroup above it is frozen.
    by: Duration,
    /// The log says already that this happens.
    told: bool,
}

/// The state of all this.
#[derive(Debug, Default)]
pub(super) struct Guarding {
    deaths: Episode,
    /// The first of them is told when there is another guardian.
    untold: bool,
    failures: Episode,
    stops: Episode,
    freezes: Episode,
    removals: Episode,
    socket_removals: Episode,
    /// When the next guardian is started.
    replace_at: Option<Duration>,
    /// When one that was continued must have gone on.
    going_on_by: Option<Duration>,
    /// `cgroup.events` of `supervisor`: whether the guardian is frozen.
    freezer: Option<OwnedFd>,
    /// When that is tried to be watched, where it could not be.
    watch_at: Option<Duration>,
    thaw: Option<Thaw>,
    keeper: Option<Keeper>,
    /// When both are touched next.
    touch_at: Option<Duration>,
    /// When what could not be put back is tried again.
    put_back_at: Option<Duration>,
    /// When a look is due, should the loop be awake.
    look_from: Duration,
    /// When a look is due, should a client call.
    look_for_client_from: Duration,
}

impl Guarding {
    /// With the watched freezer of the tree, if there is a tree, and if there was a descriptor for that.
    pub(super) fn new(
        now: Duration,
        tree: Option<&Tree>,
        freezer: Option<OwnedFd>,
        keeper: Option<Keeper>,
    ) -> Guarding {
        let watch_at = (tree.is_some() && freezer.is_none()).then_some(now + LOOK_AGAIN);
        let touch_at = keeper.as_ref().map(|keeper| now + keeper.every);
        let look_from = now + BETWEEN_LOOKS;
        Guarding { freezer, watch_at, keeper, touch_at, look_from, ..Guarding::default() }
    }

    /// When something is to be done next.
    pub(super) fn due(&self) -> Option<Duration> {
        let thawed_by = self.thaw.map(|thaw| thaw.by);
        let all =
            [self.replace_at, self.going_on_by, self.watch_at, thawed_by, self.touch_at, self.put_back_at];
        all.into_iter().flatten().min()
    }
}

/// `cgroup.events` of the guardian's cgroup, watched.
pub(super) fn watched_freezer(watch: &Watch, tree: &Tree) -> Option<OwnedFd> {
    let events = tree.supervisor().watch("cgroup.events").ok()?;
    watch.add(&events, EventFlags::PRI, Key::frozen()).ok().map(|()| events)
}

impl Driver {
    /// The guardian is dead.
    pub(super) fn replace_guardian(&mut self) {
        let Some(guardian) = self.ground.guardian.take() else { return };
        self.watch.remove(&guardian);
        let _ = guardian.pidfd().reap();
        let now = self.clock.now();
        self.guarding.untold |= self.guarding.deaths.begins(now);
        self.guarding.going_on_by = None;
        self.guarding.replace_at = Some(now + self.guarding.deaths.delay());
        self.on_guarding_due();
    }

    /// A new guardian, or none.
    pub(super) fn on_guarded(&mut self, guardian: Result<Guardian, Failed>) {
        self.worker.answered();
        match guardian {
            Ok(guardian) => {
                let _ = self.watch.add(&guardian, EventFlags::IN, Key::guardian());
                self.ground.guardian = Some(guardian);
                if std::mem::take(&mut self.guarding.untold) {
                    self.log.say(&self.system, "the guardian was killed and is replaced");
                }
                // It may have been stopped before it was known.
                self.look_at_guardian();
            }
            Err(failure) => {
                let now = self.clock.now();
                if self.guarding.failures.begins(now) {
                    let text = format!(
                        "the guardian was killed and cannot be replaced now: {failure}; trying again"
                    );
                    self.log.say(&self.system, text);
                }
                // Failing at once is no reason to try again at once.
                let delay = self.guarding.failures.delay().max(Duration::from_secs(1));
                self.guarding.replace_at = Some(now + delay);
            }
        }
        self.after_birth();
    }

    /// SIGCHLD: the guardian may have been stopped, and would not act then.
    pub(super) fn look_at_guardian(&mut self) {
        let Some(guardian) = self.ground.guardian.as_ref().filter(|guardian| guardian.is_stopped()) else {
            return;
        };
        let _ = guardian.pidfd().send(libc::SIGCONT);
        let now = self.clock.now();
        self.guarding.going_on_by.get_or_insert(now + TO_GO_ON);
        if self.guarding.stops.begins(now) {
            self.log.say(&self.system, "the guardian was stopped and is continued");
        }
    }

    /// The tree may be frozen, or thawed again.
    pub(super) fn on_frozen(&mut self) {
        self.guarding.freezer.iter().for_each(rearm);
        let Some(tree) = &self.ground.tree else { return };
        let now = self.clock.now();
        match (tree.supervisor().frozen(), self.guarding.thaw) {
            (Ok(true), None) => {
                // Only a directory of lpm's own is lpm's to thaw. Of one that was given, lpm is frozen with it.
                let thawed = tree.own().is_some()
                    && tree.root().freeze(false).and_then(|()| tree.supervisor().freeze(false)).is_ok();
                let told = !self.guarding.freezes.begins(now);
                // The kernel takes some time for it, and none is enough where a cgroup above is frozen.
                let by = if thawed { now + TO_THAW } else { now };
                self.guarding.thaw = Some(Thaw { by, told });
            }
            (Ok(false), Some(thaw)) => {
                self.guarding.thaw = None;
                self.tell_of_thaw(thaw, "and is thawed");
            }
            (Ok(true), Some(_)) | (Ok(false), None) | (Err(_), _) => {}
        }
    }

    fn tell_of_thaw(&self, thaw: Thaw, outcome: &str) {
        if let (false, Some(tree)) = (thaw.told, &self.ground.tree) {
            let path = tree.path().display();
            self.log.say(
                &self.system,
                format!("{path}: was frozen from outside, the guardian with it, {outcome}"),
            );
        }
    }

    /// Watches the freezer. Where there was no descriptor for that, it is tried again, and looked at meanwhile.
    fn watch_freezer(&mut self) {
        let (now, tree) = (self.clock.now(), self.ground.tree.as_deref());
        self.guarding.freezer = tree.and_then(|tree| watched_freezer(&self.watch, tree));
        self.guarding.watch_at = self.guarding.freezer.is_none().then_some(now + LOOK_AGAIN);
        // It may have been frozen before.
        self.on_frozen();
    }

    /// A client calls, and may be one that did not find the record.
    pub(super) fn keep_files_at_a_call(&mut self) {
        let now = self.clock.now();
        if self.guarding.look_for_client_from <= now {
            self.guarding.look_for_client_from = now + BETWEEN_LOOKS;
            self.keep_files();
        }
    }

    /// The loop is awake, whatever has woken it.
    pub(super) fn keep_files_while_awake(&mut self) {
        if self.guarding.look_from <= self.clock.now() {
            self.keep_files();
        }
    }

    /// The record or the socket may have been removed.
    pub(super) fn keep_files(&mut self) {
        let now = self.clock.now();
        let Some(keeper) = &mut self.guarding.keeper else { return };
        let Checked { record, socket } = (keeper.check)();
        self.guarding.put_back_at = (record.is_err() || socket.is_err()).then_some(now + PUT_BACK_AGAIN);
        self.guarding.look_from = self.guarding.put_back_at.unwrap_or(now + BETWEEN_LOOKS);
        let told = match record {
            Ok(false) => None,
            Ok(true) => Some("the record of this run was removed and is put back".to_owned()),
            Err(why) => Some(format!("warning: {why}")),
        };
        if let Some(text) = told.filter(|_| self.guarding.removals.begins(now)) {
            self.log.say(&self.system, text);
        }
        let told = match socket {
            Ok(None) => None,
            Ok(Some(listener)) => {
                self.listen_at(listener);
                Some("the control socket was removed and is made again".to_owned())
            }
            Err(why) => {
                Some(format!("warning: the control socket was removed and cannot be made again: {why}"))
            }
        };
        if let Some(text) = told.filter(|_| self.guarding.socket_removals.begins(now)) {
            self.log.say(&self.system, text);
        }
    }

    /// The time has come for something of this.
    pub(super) fn on_guarding_due(&mut self) {
        let now = self.clock.now();
        let passed = |time: &mut Option<Duration>| time.take_if(|time| *time <= now).is_some();
        if passed(&mut self.guarding.replace_at) {
            self.worker.order(Order::Guard);
        }
        if passed(&mut self.guarding.going_on_by)
            && let Some(guardian) = self.ground.guardian.as_ref().filter(|guardian| guardian.stands_still())
        {
            // Its death is seen, and another one takes its place.
            let _ = guardian.pidfd().send(libc::SIGKILL);
        }
        if passed(&mut self.guarding.watch_at) {
            self.watch_freezer();
        }
        if let Some(thaw) = self.guarding.thaw.filter(|thaw| thaw.by <= now) {
            self.on_frozen();
            if self.guarding.thaw.take().is_some() {
                self.tell_of_thaw(thaw, "and does nothing until it is thawed");
            }
        }
        if passed(&mut self.guarding.touch_at)
            && let Some(keeper) = &mut self.guarding.keeper
        {
            (keeper.touch)();
            self.guarding.touch_at = Some(now + keeper.every);
        }
        if passed(&mut self.guarding.put_back_at) {
            self.keep_files();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_are_forgotten() {
        let mut deaths = Episode::default();
        // The clock begins at 0, long before the first one.
        let mut now = QUIET;
        let mut waited = Duration::ZERO;
        for count in 1..=15 {
            assert_eq!(deaths.begins(now), count == 1);
            waited += deaths.delay();
            now += deaths.delay();
        }
        assert!(waited < Duration::from_secs(1), "{waited:?}");
        for _ in 0..100 {
            deaths.begins(now);
        }
        assert_eq!(deaths.delay(), LONGEST_DELAY);
        now += QUIET;
        assert!(deaths.begins(now));
        assert_eq!(deaths.delay(), Duration::ZERO);
    }

    #[test]
    fn the_very_first_is_told() {
        assert!(Episode::default().begins(Duration::from_millis(3)));
    }
}
