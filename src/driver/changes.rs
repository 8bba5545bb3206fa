//! Changes of the text behind a running stack: `scale`, `set`, `reload`, the env files of a `restart`, and a
//! `start` of what was not there.
//!
//! ```text
//!   change ──▶ read, loaded, judged ──▶ planned ──▶ its limits written ──▶ made ──▶ requests
//!                (a thread of its own)     │         (by the worker)
//!                                          └─▶ refused: limits put back, nothing changed
//! ```
//!
//! One at a time. Until a change is made nothing else has heard of it, so whatever is refused on the way, by the
//! text or by the kernel, leaves no trace.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::report;
use super::texts::{Change, Changed, Changing, Texts};
use super::{Driver, Message};
use crate::config::{self, Ceilings, ChangeKind, Policy, Stack, StackChange};
use crate::control::interface::{self, Refusal};
use crate::error::words;
use crate::output::Label;
use crate::supervisor::{Client, Event, InstanceId, Life, Request, Wanted};

/// The text behind the stack, and what changes it.
pub(super) struct Changes {
    /// None where there is no text to read again.
    text: Option<(Arc<Texts>, Arc<config::Sources>)>,
    /// One change at a time is read and made; the others wait for their turn.
    turn: Option<Turn>,
    queue: VecDeque<(Client, Change)>,
    /// Places that the text has and nobody asked for: `start web.3` counts web.2 in, and starts web.3 alone.
    left_out: BTreeSet<usize>,
}

/// How long reading a text may take before those who wait are told.
const READING: Duration = Duration::from_secs(10);
/// How far the change is whose turn it is.
enum Turn {
    /// The text is being read. A reading that takes too long loses its turn, and then its number is not known
    /// any more.
    Reading { number: Client, client: Client, until: Duration },
    /// Its limits are being written: what the kernel refuses is not to stand in the description of anything.
    Limits(Box<Trial>),
}

/// A change whose limits are being written.
pub(super) struct Trial {
    client: Client,
    change: Change,
    planned: Planned,
    /// Limits that are not written yet.
    parts: HashSet<Client>,
    refused: Option<Refusal>,
    /// How to put all of it back.
    undo: Vec<(Option<String>, Ceilings)>,
    /// The lives whose limits were written.
    lives: HashSet<Life>,
}

/// A change, worked out and not made yet.
struct Planned {
    sources: config::Sources,
    /// What will be the stack.
    merged: Stack,
    changes: Vec<config::Change>,
    whole: Option<StackChange>,
    notes: Vec<String>,
    left_out: BTreeSet<usize>,
}

impl Changes {
    pub(super) fn new(text: Option<(Texts, config::Sources)>) -> Changes {
        let text = text.map(|(texts, sources)| (Arc::new(texts), Arc::new(sources)));
        Changes { text, turn: None, queue: VecDeque::new(), left_out: BTreeSet::new() }
    }

    /// When the text should have been read.
    pub(super) fn due(&self) -> Option<Duration> {
        match &self.turn {
            Some(Turn::Reading { until, .. }) => Some(*until),
            Some(Turn::Limits(_)) | None => None,
        }
    }

    /// The trial that a limit is a part of, if it is of one.
    pub(super) fn trial_of(&mut self, part: Client) -> Option<&mut Trial> {
        match &mut self.turn {
            Some(Turn::Limits(trial)) if trial.parts.contains(&part) => Some(trial),
            _ => None,
        }
    }
}

impl Trial {
    /// What became of writing one of its limits.
    pub(super) fn tried(&mut self, part: Client, refusal: Option<Refusal>) {
        self.parts.remove(&part);
        self.refused = self.refused.take().or(refusal);
    }
}

impl Driver {
    /// Puts a change into the queue; the call waits for it.
    pub(super) fn change(&mut self, client: Client, change: Change) {
        if self.core.is_tearing_down() {
            return self.refuse(client, Refusal::ShuttingDown {});
        }
        self.keep_open(client);
        self.calls.changes.queue.push_back((client, change));
        self.next_change();
    }

    fn next_change(&mut self) {
        while self.calls.changes.turn.is_none() {
            let Some((client, change)) = self.calls.changes.queue.pop_front() else { return };
            let Some((texts, sources)) = &self.calls.changes.text else {
                let reason = "this stack has no text to read again".to_owned();
                self.refuse(client, Refusal::Unavailable { reason });
                continue;
            };
            let (texts, sources, outbox) = (Arc::clone(texts), Arc::clone(sources), self.outbox.clone());
            let number = self.calls.number();
            let read = move || {
                let changed = texts.carry_out(&sources, &change);
                let _ = outbox.send(Message::Changed(number, change, changed));
            };
            // Files may hang on a network, and the loop waits for nothing.
            match std::thread::Builder::new().name("lpm-read".into()).spawn(read) {
                Ok(_) => {
                    let until = self.clock.now() + READING;
                    self.calls.changes.turn = Some(Turn::Reading { number, client, until });
                }
                Err(error) => {
                    let reason = format!("the text cannot be read: {}", words(error));
                    self.refuse(client, Refusal::Unavailable { reason });
                }
            }
        }
    }

    /// The text was read.
    pub(super) fn on_changed(&mut self, number: Client, change: Change, changed: Changed) {
        let client = match &self.calls.changes.turn {
            Some(Turn::Reading { number: awaited, client, .. }) if *awaited == number => *client,
            // It came too late, and whoever asked was told.
            _ => return,
        };
        self.calls.changes.turn = None;
        let planned = changed.map(|changing| self.plan(&change, *changing));
        match planned {
            Err(refusal) => self.refuse(client, refusal),
            Ok(planned) if matches!(change, Change::Reload { dry_run: true, .. }) => {
                self.tell_changes(client, &planned, None);
                self.release(client);
            }
            Ok(planned) => {
                self.try_limits(client, change, planned);
                return self.conclude_trial();
            }
        }
        self.next_change();
    }

    /// Tells whoever waits for a text that hangs, and goes on with the next change.
    pub(super) fn on_reading_due(&mut self, now: Duration) {
        let is_late = |turn: &mut Turn| matches!(turn, Turn::Reading { until, .. } if *until <= now);
        let Some(Turn::Reading { client, .. }) = self.calls.changes.turn.take_if(is_late) else { return };
        let reason = format!(
            "the text was not read within {} seconds (does one of its files hang?); nothing was changed",
            READING.as_secs()
        );
        self.refuse(client, Refusal::Unavailable { reason });
        self.next_change();
    }

    /// What the text asks for now, against what there is.
    fn plan(&self, change: &Change, changing: Changing) -> Planned {
        let Changing { sources, stack, notes } = changing;
        let whole = config::stack_change(&self.stack, &stack);
        let mut left_out = self.still_left_out(change);
        let known = |place: usize| self.is_wanted(place) || left_out.contains(&place);
        // Only a reload makes the living what the text says; to others it is news what they change themselves.
        let born = |place: usize| match change {
            Change::Reload { .. } => self.born.get(place)?.as_deref().filter(|_| self.has_life(place)),
            Change::Scale { .. } | Change::Set { .. } | Change::Restart { .. } | Change::Start { .. } => None,
        };
        let (merged, changes) = config::merge(&self.stack, &known, &born, stack);
        let (unseen, changes): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|c| left_out.contains(&c.place));
        for gone in unseen.iter().filter(|c| c.kind == ChangeKind::Removed) {
            left_out.remove(&gone.place);
        }
        Planned { sources, merged, changes, whole, notes, left_out }
    }

    /// Has the limits written that are new to what runs.
    fn try_limits(&mut self, client: Client, change: Change, planned: Planned) {
        let mut wanted = Vec::new();
        let (old, new) = (&self.stack.ceilings, &planned.merged.ceilings);
        if old != new {
            wanted.push((None, new.replacing(old), old.replacing(new)));
        }
        let mut lives = HashSet::new();
        for (place, life) in self.limited_lives(&planned) {
            let (old, new) = (&self.stack.instances[place], &planned.merged.instances[place]);
            let (forth, back) =
                (new.ceilings.replacing(&old.ceilings), old.ceilings.replacing(&new.ceilings));
            wanted.push((Some(new.name.clone()), forth, back));
            lives.insert(life);
        }
        let (mut parts, mut undo) = (HashSet::new(), Vec::new());
        for (leaf, forth, back) in wanted {
            let part = self.calls.number();
            self.limit(part, leaf.clone(), &forth);
            parts.insert(part);
            undo.push((leaf, back));
        }
        let trial = Trial { client, change, planned, parts, refused: None, undo, lives };
        self.calls.changes.turn = Some(Turn::Limits(Box::new(trial)));
    }

    /// The lives, also those that are just beginning, whose limits change at once.
    fn limited_lives(&self, planned: &Planned) -> Vec<(usize, Life)> {
        let live = planned.changes.iter().filter(|c| c.kind == ChangeKind::Live);
        live.filter_map(|change| {
            let (old, new) =
                (self.stack.instances.get(change.place)?, &planned.merged.instances[change.place]);
            let life = self.core.instances().get(change.place)?.life()?;
            (old.ceilings != new.ceilings).then_some((change.place, life))
        })
        .collect()
    }

    /// When all its limits are written the change is made, or if the kernel refused one, all are put back.
    pub(super) fn conclude_trial(&mut self) {
        let is_through = |turn: &mut Turn| matches!(turn, Turn::Limits(trial) if trial.parts.is_empty());
        let Some(Turn::Limits(trial)) = self.calls.changes.turn.take_if(is_through) else { return };
        let Trial { client, change, planned, refused, undo, lives, .. } = *trial;
        let done = match refused {
            Some(refusal) => {
                for (leaf, ceilings) in undo {
                    let nobody = self.calls.number();
                    self.limit(nobody, leaf, &ceilings);
                }
                Err(refusal)
            }
            None if self.core.is_tearing_down() => Err(Refusal::ShuttingDown {}),
            None => self.make(client, &change, planned, &lives),
        };
        match done {
            Ok(()) => self.release(client),
            Err(refusal) => self.refuse(client, refusal),
        }
        self.next_change();
    }

    /// Makes the running stack what was planned. `limited`: the lives whose limits were written.
    fn make(
        &mut self,
        client: Client,
        change: &Change,
        mut planned: Planned,
        limited: &HashSet<Life>,
    ) -> Result<(), Refusal> {
        let concerned: Option<Vec<usize>> = match change {
            Change::Restart { names, .. } => Some(self.able(names, |one| !one.is_removed())?),
            Change::Start { names, .. } => {
                let added = planned.changes.iter().filter(|c| c.kind == ChangeKind::Added);
                let added: Vec<usize> = added.map(|c| c.place).collect();
                let there = |place: usize| added.contains(&place) || self.is_wanted(place);
                Some(self.matching(&planned.merged, names, &there)?)
            }
            Change::Scale { .. } | Change::Set { .. } | Change::Reload { .. } => None,
        };
        if let (Change::Start { .. }, Some(places)) = (change, &concerned) {
            let asked = |c: &config::Change| c.kind != ChangeKind::Added || places.contains(&c.place);
            planned.left_out.extend(planned.changes.iter().filter(|c| !asked(c)).map(|c| c.place));
            planned.changes.retain(asked);
        }
        let told = self.tell_changes(client, &planned, concerned.as_deref());
        self.chronicle_change(&told);
        // Those who were born while the others' limits were written.
        let late: Vec<usize> = self
            .limited_lives(&planned)
            .into_iter()
            .filter(|(_, life)| !limited.contains(life))
            .map(|(place, _)| place)
            .collect();
        let Planned { sources, merged, changes, left_out, .. } = planned;
        self.calls.changes.left_out = left_out;
        if let Some((_, text)) = &mut self.calls.changes.text {
            *text = Arc::new(sources);
        }
        self.grow(&merged);
        let before = std::mem::replace(&mut self.stack, Arc::new(merged));
        let ports = before.instances.iter().zip(&self.stack.instances);
        self.ports_moved |= ports.clone().any(|(old, new)| old.port != new.port)
            || before.instances.len() < self.stack.instances.len();
        let policies =
            self.stack.instances.iter().zip(0..).map(|(one, id)| (InstanceId(id), one.policy.clone()));
        let policies: Vec<(InstanceId, Policy)> = policies.collect();
        self.hand_in(Event::Configured { policies, exit_code: self.stack.exit_code });

        for place in late {
            let (old, new) = (&before.instances[place], &self.stack.instances[place]);
            let (leaf, ceilings) = (new.name.clone(), new.ceilings.replacing(&old.ceilings));
            let part = self.part_of(client);
            self.limit(part, Some(leaf), &ceilings);
        }
        let of = |kind: ChangeKind| changes.iter().filter(move |c| c.kind == kind).map(|c| c.place);
        for place in of(ChangeKind::Live).filter(|place| *place < before.instances.len()) {
            self.watch_ceilings(place);
            let (old, new) = (&before.instances[place], &self.stack.instances[place]);
            if (old.quiet, old.pretty) != (new.quiet, new.pretty) {
                self.show(place);
            }
        }

        let (added, removed): (Vec<_>, Vec<_>) =
            (of(ChangeKind::Added).collect(), of(ChangeKind::Removed).collect());
        match change {
            Change::Restart { wait, .. } => {
                let places = concerned.unwrap_or_default();
                self.request_for(client, Request::Restart, &places, *wait);
            }
            Change::Start { wait, .. } => {
                let places = concerned.unwrap_or_default();
                self.request_for(client, Request::Start, &places, *wait);
            }
            Change::Scale { wait, .. } => self.come_and_go(client, added, removed, Vec::new(), *wait),
            Change::Set { .. } => {}
            Change::Reload { wait, .. } => {
                // What was stopped by request, or waits for its restart, takes it in when it starts.
                let goes_on = |place: &usize| {
                    let instance = &self.core.instances()[*place];
                    instance.wanted == Wanted::Up && instance.goes_on()
                };
                let again = of(ChangeKind::Restart).filter(goes_on).collect();
                self.come_and_go(client, added, removed, again, *wait);
            }
        }
        Ok(())
    }

    /// Tells the call what changes, as far as it `concerned` somebody, or all of it.
    fn tell_changes(
        &mut self,
        client: Client,
        planned: &Planned,
        concerned: Option<&[usize]>,
    ) -> Vec<interface::Change> {
        let Planned { changes, whole, notes, .. } = planned;
        let mine = changes.iter().filter(|c| concerned.is_none_or(|all| all.contains(&c.place)));
        let whole = whole.iter().filter(|_| concerned.is_none());
        let kept = whole.clone().flat_map(report::kept);
        let notes = notes.iter().cloned().chain(kept).collect();
        let told: Vec<_> = whole.filter_map(report::stack_change).chain(mine.map(report::change)).collect();
        self.put_changes(client, &told, notes);
        told
    }

    /// Which places nobody asks for yet: a count for their process type counts them in, and so may a name, which
    /// is judged later.
    fn still_left_out(&self, change: &Change) -> BTreeSet<usize> {
        let type_of = |place: usize| &self.stack.processes[self.stack.instances[place].process].name;
        let stays = |place: &usize| match change {
            Change::Scale { counts, .. } => !counts.contains_key(type_of(*place)),
            Change::Start { .. } => false,
            Change::Set { .. } | Change::Reload { .. } | Change::Restart { .. } => true,
        };
        self.calls.changes.left_out.iter().copied().filter(stays).collect()
    }

    fn come_and_go(
        &mut self,
        client: Client,
        come: Vec<usize>,
        go: Vec<usize>,
        again: Vec<usize>,
        wait: bool,
    ) {
        if !go.is_empty() {
            self.request(client, Request::Remove(ids(&go)), wait);
        }
        if !again.is_empty() {
            self.request(client, Request::Restart(ids(&again)), wait);
        }
        if !come.is_empty() {
            self.request(client, Request::Start(ids(&come)), wait);
        }
    }

    /// Room for places that are new.
    fn grow(&mut self, stack: &Stack) {
        let new = &stack.instances[self.lives.len()..];
        self.labels.extend(new.iter().map(|one| Label::instance(&one.name, one.process)));
        self.lives.resize_with(stack.instances.len(), || None);
        self.born.resize_with(stack.instances.len(), || None);
    }
}

pub(super) fn ids(places: &[usize]) -> Vec<InstanceId> {
    // There are at most ten thousand.
    places.iter().map(|&place| InstanceId(place as u32)).collect()
}
