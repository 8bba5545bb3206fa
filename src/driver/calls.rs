//! What clients ask, turned into requests to the core; and what comes of those, into answers.
//!
//! A call is resolved here against what there is (names to instances), handed in as one or more requests, and
//! answered when all of them are. Nothing in here waits: an answer goes into a place that cannot block, a change of
//! the text is read and judged on a thread of its own ([`super::texts`]), and so is a limit written by the worker.
//!
//! ```text
//!   call ──▶ names resolved ──▶ request ───────────────────────────▶ core ──▶ Reply ──▶ answer
//!        └─▶ change of the text ──▶ read, loaded, judged ──▶ merged ──▶ requests, limits ─┘
//! ```

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::io::Errno;
use tokio::sync::oneshot;

use super::ceilings;
use super::report;
use super::terminals;
use super::texts::{Change, Changed, Changing, Texts};
use super::worker::Order;
use super::{Driver, Message};
use crate::config::{self, Ceilings, ChangeKind, Policy, Stack};
use crate::control::attach::Seat;
use crate::control::chronicle::Chronicle;
use crate::control::desk::Desk;
use crate::control::interface::{self, Refusal};
use crate::control::server::Server;
use crate::control::{self, Answer, Ask, Call, Verb};
use crate::error::words;
use crate::output::Label;
use crate::supervisor::{Client, Event, InstanceId, Recipients, Reply, Request};

/// How the stack can be asked from elsewhere.
pub struct Control {
    /// The listening end of its socket.
    pub listener: OwnedFd,
    /// The most clients at a time.
    pub most_clients: usize,
}

/// What is told about the stack that only whoever started it knows.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// Absolute, or `-`.
    pub procfile: PathBuf,
    /// Where `lpm.toml` is, or would be.
    pub manifest: PathBuf,
    /// The control socket, if there is one.
    pub socket: Option<PathBuf>,
    /// `full`, `tracking`, `none`.
    pub tier: String,
}

/// The calls that are under way, and what they need.
pub(super) struct Calls {
    pub about: About,
    pub chronicle: Arc<Chronicle>,
    listener: Option<OwnedFd>,
    most_clients: usize,
    pub server: Option<Server>,
    texts: Option<Arc<Texts>>,
    /// What the texts are now.
    sources: Option<Arc<config::Sources>>,
    /// One change at a time is read; the others wait for their turn.
    changing: bool,
    /// Places that the text has and nobody asked for: `start web.3` counts web.2 in, and starts web.3 alone.
    left_out: BTreeSet<usize>,
    queue: VecDeque<(Client, Change)>,
    /// Calls that are not answered yet.
    open: HashMap<Client, Open>,
    /// Requests in the core, and limits that are being written, each a part of a call.
    parts: HashMap<Client, Client>,
    /// The next part's number.
    next: u64,
}

/// A call that is not answered yet.
struct Open {
    answer: oneshot::Sender<Result<Answer, Refusal>>,
    /// What it will be told, once `parts` is 0.
    told: Told,
    parts: usize,
    refused: Option<Refusal>,
}

#[derive(Debug, Clone, Default)]
struct Told {
    instances: Vec<String>,
    changes: Vec<interface::Change>,
    notes: Vec<String>,
}

impl From<Told> for Answer {
    fn from(told: Told) -> Answer {
        let Told { instances, changes, notes } = told;
        Answer::Done { instances, changes, notes }
    }
}

/// Parts of calls have numbers of their own, below those of clients.
const FIRST_PART: u64 = 1 << 24;

impl Calls {
    pub(super) fn new(
        about: About,
        control: Option<Control>,
        texts: Option<(Texts, config::Sources)>,
    ) -> Calls {
        let most_clients = control.as_ref().map_or(0, |control| control.most_clients);
        let (texts, sources) = texts.map(|(texts, sources)| (Arc::new(texts), Arc::new(sources))).unzip();
        Calls {
            about,
            chronicle: Arc::default(),
            listener: control.map(|control| control.listener),
            most_clients,
            server: None,
            texts,
            sources,
            changing: false,
            left_out: BTreeSet::new(),
            queue: VecDeque::new(),
            open: HashMap::new(),
            parts: HashMap::new(),
            next: FIRST_PART,
        }
    }

    fn number(&mut self) -> Client {
        self.next += 1;
        Client(self.next)
    }

    /// No more will happen.
    pub(super) fn finish(&self) {
        self.chronicle.close();
        if let Some(server) = &self.server {
            server.finish();
        }
    }

    /// Where the first client is waited for.
    pub(super) fn listener(&self) -> Option<&OwnedFd> {
        self.listener.as_ref()
    }

    /// Whoever still waits for something will not get it.
    pub(super) fn refuse_all(&mut self) {
        for (_, open) in self.open.drain() {
            let _ = open.answer.send(Err(Refusal::ShuttingDown {}));
        }
    }
}

impl Driver {
    /// The first client: from now on the server's thread accepts them.
    pub(super) fn on_first_client(&mut self) {
        let Some(listener) = self.calls.listener.take() else { return };
        self.watch.remove(&listener);
        let outbox = self.outbox.clone();
        let desk = Desk {
            tell: Box::new(move |message| drop(outbox.send(Message::Control(message)))),
            chronicle: Arc::clone(&self.calls.chronicle),
            history: self.history.clone(),
            most_clients: self.calls.most_clients,
        };
        match Server::start(listener, desk) {
            Ok(server) => self.calls.server = Some(server),
            Err(error) => {
                let why = words(error);
                self.log.say(&self.system, format!("warning: the control socket cannot be served: {why}"));
            }
        }
    }

    pub(super) fn on_control(&mut self, message: control::Message) {
        match message {
            control::Message::Call(call) => self.on_call(call),
            control::Message::Left(client) => self.on_client_left(client),
            control::Message::Unseated(_) => self.fit_terminals(),
            // Waited for at the end.
            control::Message::Finished => {}
        }
    }

    fn on_client_left(&mut self, client: Client) {
        self.calls.open.remove(&client);
        self.calls.queue.retain(|(who, _)| *who != client);
        let parts: Vec<Client> =
            self.calls.parts.iter().filter(|(_, whole)| **whole == client).map(|(part, _)| *part).collect();
        for part in parts {
            self.calls.parts.remove(&part);
            self.hand_in(Event::ClientLeft(part));
        }
    }

    fn on_call(&mut self, call: Call) {
        let Call { client, ask, answer } = call;
        let open = Open { answer, told: Told::default(), parts: 1, refused: None };
        self.calls.open.insert(client, open);
        match self.attend_to(client, ask) {
            Ok(()) => self.release(client),
            Err(refusal) => self.refuse(client, refusal),
        }
    }

    fn attend_to(&mut self, client: Client, ask: Ask) -> Result<(), Refusal> {
        match ask {
            Ask::Status { names, detail } => {
                let places = self.places(&names)?;
                let survey = self.survey(&places, detail);
                if let Some(open) = self.calls.open.remove(&client) {
                    let _ = open.answer.send(Ok(Answer::Survey(survey)));
                }
            }
            Ask::Who { names } => {
                let places = self.places(&names)?;
                self.tell_instances(client, &places);
            }
            Ask::Do { verb, names, wait } => match (verb, self.places(&names)) {
                // Not there yet, perhaps; whoever knows the text knows.
                (Verb::Start, Err(_)) => self.change(client, Change::Start { names, wait }),
                (_, Err(refusal)) => return Err(refusal),
                (Verb::Restart, Ok(_)) => self.change(client, Change::Restart { names, wait }),
                (Verb::Start, Ok(places)) => self.request_for(client, Request::Start, &places, wait),
                (Verb::Stop, Ok(places)) => self.request_for(client, Request::Stop, &places, wait),
                (Verb::Kill, Ok(places)) => self.request_for(client, Request::Kill, &places, wait),
                (Verb::Freeze, Ok(places)) => self.request_for(client, Request::Freeze, &places, wait),
                (Verb::Thaw, Ok(places)) => self.request_for(client, Request::Thaw, &places, wait),
            },
            Ask::Signal { names, signal, main } => {
                let places = self.places(&names)?;
                let to = if main { Recipients::Main } else { Recipients::All };
                self.request_for(client, |on| Request::Signal { on, signal, to }, &places, true);
            }
            Ask::Scale { counts, wait } => {
                let unknown =
                    counts.keys().find(|name| !self.stack.processes.iter().any(|p| p.name == **name));
                if let Some(name) = unknown {
                    let message = config::unknown_name(name, &self.stack);
                    return Err(Refusal::Invalid { messages: vec![message] });
                }
                self.change(client, Change::Scale { counts, wait });
            }
            Ask::Set { name, settings } => {
                config::check_target(&name, &self.stack)
                    .map_err(|message| Refusal::Invalid { messages: vec![message] })?;
                self.change(client, Change::Set { name, settings });
            }
            Ask::Reload { dry_run, wait } => self.change(client, Change::Reload { dry_run, wait }),
            Ask::Attach { name } => {
                let seat = self.seat(&name)?;
                if let Some(open) = self.calls.open.remove(&client) {
                    let _ = open.answer.send(Ok(Answer::Seat(seat)));
                }
            }
            Ask::Down { wait } => self.request(client, Request::ShutDown, wait),
        }
        Ok(())
    }

    /// The terminal of an instance; of a process type or a pattern, that of the first that has one.
    fn seat(&self, name: &str) -> Result<Seat, Refusal> {
        let places = self.places(&[name.to_owned()])?;
        let with_terminal = places.iter().find(|&&place| self.stack.instances[place].pty).copied();
        let Some(place) = with_terminal.or(places.first().copied()) else {
            return Err(Refusal::NotRunning { instance: name.to_owned() });
        };
        let instance = self.stack.instances[place].name.clone();
        if with_terminal.is_none() {
            return Err(Refusal::NoTerminal { instance });
        }
        match self.terminal_of(InstanceId(place as u32)) {
            Some((screen, keyboard)) => {
                Ok(Seat { instance, screen, keyboard: Some(keyboard), resize: terminals::resize })
            }
            // Its terminal comes with its life; until then there is nothing to be seen.
            None => Err(Refusal::NotRunning { instance }),
        }
    }

    // ---- requests, each a part of a call

    fn request_for(
        &mut self,
        client: Client,
        request: impl FnOnce(Vec<InstanceId>) -> Request,
        places: &[usize],
        wait: bool,
    ) {
        self.tell_instances(client, places);
        self.request(client, request(ids(places)), wait);
    }

    fn request(&mut self, client: Client, request: Request, wait: bool) {
        let part = match wait {
            true => self.part_of(client),
            false => self.calls.number(),
        };
        self.hand_in(Event::Request { client: part, request });
    }

    /// A number for something that the call waits for.
    fn part_of(&mut self, client: Client) -> Client {
        let part = self.calls.number();
        if let Some(open) = self.calls.open.get_mut(&client) {
            open.parts += 1;
            self.calls.parts.insert(part, client);
        }
        part
    }

    /// The core's reply to a request. Those that nobody waits for are let go.
    pub(super) fn on_reply(&mut self, part: Client, reply: &Reply) {
        let refusal = match *reply {
            Reply::Done => None,
            Reply::ShuttingDown => Some(Refusal::ShuttingDown {}),
            Reply::Superseded => Some(Refusal::Superseded {}),
            Reply::NotRunning(id) => Some(Refusal::NotRunning { instance: self.name(id) }),
            Reply::Failed(id) => {
                let instance = &self.core.instances()[id.0 as usize];
                Some(Refusal::InstanceFailed {
                    instance: self.name(id),
                    result: instance.outcome.map(report::outcome),
                    exit_code: report::exit_code(instance.exit),
                })
            }
        };
        self.finish_part(part, refusal);
    }

    /// What became of writing a limit: the file and what the kernel said to it.
    pub(super) fn on_limited(&mut self, part: Client, leaf: Option<&str>, done: Result<(), (&str, Errno)>) {
        let refusal = done.err().map(|(file, errno)| Refusal::Unavailable {
            reason: format!("{file} of {}: {}", leaf.unwrap_or("the stack"), words(errno)),
        });
        self.finish_part(part, refusal);
    }

    fn finish_part(&mut self, part: Client, refusal: Option<Refusal>) {
        let Some(client) = self.calls.parts.remove(&part) else { return };
        if let Some(open) = self.calls.open.get_mut(&client)
            && open.refused.is_none()
        {
            open.refused = refusal;
        }
        self.release(client);
    }

    /// One thing less that the call waits for; after the last one it is answered.
    fn release(&mut self, client: Client) {
        let Some(open) = self.calls.open.get_mut(&client) else { return };
        open.parts -= 1;
        if open.parts == 0
            && let Some(open) = self.calls.open.remove(&client)
        {
            let answer = match open.refused {
                Some(refusal) => Err(refusal),
                None => Ok(open.told.into()),
            };
            // Nobody there: then nobody needs it.
            let _ = open.answer.send(answer);
        }
    }

    fn refuse(&mut self, client: Client, refusal: Refusal) {
        if let Some(open) = self.calls.open.remove(&client) {
            let _ = open.answer.send(Err(refusal));
        }
    }

    fn tell_instances(&mut self, client: Client, places: &[usize]) {
        let names = places.iter().map(|&place| self.stack.instances[place].name.clone()).collect();
        if let Some(open) = self.calls.open.get_mut(&client) {
            open.told.instances = names;
        }
    }

    // ---- changes of the text

    /// Puts a change into the queue; the call waits for it.
    fn change(&mut self, client: Client, change: Change) {
        if self.core.is_tearing_down() {
            return self.refuse(client, Refusal::ShuttingDown {});
        }
        if let Some(open) = self.calls.open.get_mut(&client) {
            open.parts += 1;
            self.calls.queue.push_back((client, change));
        }
        self.next_change();
    }

    fn next_change(&mut self) {
        while !self.calls.changing {
            let Some((client, change)) = self.calls.queue.pop_front() else { return };
            let (Some(texts), Some(sources)) = (&self.calls.texts, &self.calls.sources) else {
                let reason = "this stack has no text to read again".to_owned();
                self.refuse(client, Refusal::Unavailable { reason });
                continue;
            };
            let (texts, sources, outbox) = (Arc::clone(texts), Arc::clone(sources), self.outbox.clone());
            let read = move || {
                let changed = texts.carry_out(&sources, &change);
                let _ = outbox.send(Message::Changed(client, change, changed));
            };
            // Files may hang on a network, and the loop waits for nothing.
            match std::thread::Builder::new().name("lpm-read".into()).spawn(read) {
                Ok(_) => self.calls.changing = true,
                Err(error) => {
                    let reason = format!("the text cannot be read: {}", words(error));
                    self.refuse(client, Refusal::Unavailable { reason });
                }
            }
        }
    }

    pub(super) fn on_changed(&mut self, client: Client, change: &Change, changed: Changed) {
        self.calls.changing = false;
        // Whoever left before anything was done has changed their mind.
        if self.calls.open.contains_key(&client) {
            let done = match changed {
                Ok(_) if self.core.is_tearing_down() => Err(Refusal::ShuttingDown {}),
                Ok(changing) => self.apply(client, change, *changing),
                Err(refusal) => Err(refusal),
            };
            match done {
                Ok(()) => self.release(client),
                Err(refusal) => self.refuse(client, refusal),
            }
        }
        self.next_change();
    }

    /// Makes the running stack what the text asks for now.
    fn apply(&mut self, client: Client, change: &Change, changing: Changing) -> Result<(), Refusal> {
        let Changing { sources, stack, notes } = changing;
        let before = Arc::clone(&self.stack);
        let whole = config::stack_change(&before, &stack);
        let mut left_out = self.still_left_out(change);
        let known = |place: usize| self.is_wanted(place) || left_out.contains(&place);
        let (merged, changes) = config::merge(&before, &known, stack);
        let (unseen, mut changes): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|c| left_out.contains(&c.place));
        for gone in unseen.iter().filter(|c| c.kind == ChangeKind::Removed) {
            left_out.remove(&gone.place);
        }
        let concerned: Option<Vec<usize>> = match change {
            Change::Restart { names, .. } => Some(self.places(names)?),
            Change::Start { names, .. } => {
                let added = changes.iter().filter(|c| c.kind == ChangeKind::Added).map(|c| c.place);
                Some(self.places_of(&merged, names, &added.collect::<Vec<_>>())?)
            }
            Change::Scale { .. } | Change::Set { .. } | Change::Reload { .. } => None,
        };
        if let (Change::Start { .. }, Some(places)) = (change, &concerned) {
            let asked = |c: &config::Change| c.kind != ChangeKind::Added || places.contains(&c.place);
            left_out.extend(changes.iter().filter(|c| !asked(c)).map(|c| c.place));
            changes.retain(asked);
        }
        if let Some(open) = self.calls.open.get_mut(&client) {
            let mine = changes.iter().filter(|c| concerned.as_ref().is_none_or(|all| all.contains(&c.place)));
            let whole = whole.iter().filter(|_| concerned.is_none());
            open.told.notes = notes;
            open.told.notes.extend(whole.clone().flat_map(report::kept));
            open.told.changes =
                whole.filter_map(report::stack_change).chain(mine.map(report::change)).collect();
        }
        if let Change::Reload { dry_run: true, .. } = change {
            return Ok(());
        }

        let told = self.calls.open.get(&client).map_or_else(Vec::new, |open| open.told.changes.clone());
        self.chronicle_change(&told);
        self.calls.left_out = left_out;
        self.calls.sources = Some(Arc::new(sources));
        self.grow(&merged);
        self.stack = Arc::new(merged);
        let policies =
            self.stack.instances.iter().zip(0..).map(|(one, id)| (InstanceId(id), one.policy.clone()));
        let policies: Vec<(InstanceId, Policy)> = policies.collect();
        self.hand_in(Event::Configured { policies });

        if before.ceilings != self.stack.ceilings {
            let ceilings = self.stack.ceilings.replacing(&before.ceilings);
            self.limit(client, None, &ceilings);
        }
        let of = |kind: ChangeKind| changes.iter().filter(move |c| c.kind == kind).map(|c| c.place);
        for place in of(ChangeKind::Live).filter(|place| *place < before.instances.len()) {
            let (old, new) = (&before.instances[place], &self.stack.instances[place]);
            if old.ceilings != new.ceilings && self.lives[place].is_some() {
                let (name, ceilings) = (new.name.clone(), new.ceilings.replacing(&old.ceilings));
                self.limit(client, Some(name), &ceilings);
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
                let runs = |place: &usize| self.core.instances()[*place].life().is_some();
                let again = of(ChangeKind::Restart).filter(runs).collect();
                self.come_and_go(client, added, removed, again, *wait);
            }
        }
        Ok(())
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
        self.calls.left_out.iter().copied().filter(stays).collect()
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
    }

    /// Has ceilings written; the call waits for that.
    fn limit(&mut self, client: Client, leaf: Option<String>, ceilings: &Ceilings) {
        let settings = ceilings::settings(ceilings);
        let part = self.part_of(client);
        self.worker.order(Order::Limit { leaf, settings, part });
    }

    // ---- names

    /// Whether it is a part of the stack.
    pub(super) fn is_wanted(&self, place: usize) -> bool {
        self.core.instances().get(place).is_some_and(|instance| !instance.is_removed())
    }

    /// Whether it can be named: what was removed can be as long as it is on its way out.
    fn is_present(&self, place: usize) -> bool {
        self.is_wanted(place) || self.lives.get(place).is_some_and(Option::is_some)
    }

    /// Who is meant by these names; all, if nobody is named.
    fn places(&self, names: &[String]) -> Result<Vec<usize>, Refusal> {
        self.places_of(&self.stack, names, &[])
    }

    /// The same of what the stack is about to be, counting those in that are about to be there.
    fn places_of(&self, stack: &Stack, names: &[String], also: &[usize]) -> Result<Vec<usize>, Refusal> {
        let there = |place| also.contains(&place) || self.is_present(place);
        config::matching(stack, &there, names).map_err(|none| Refusal::NoSuchInstance {
            name: none.name,
            known: none.known,
            nearest: none.nearest,
        })
    }

    fn name(&self, id: InstanceId) -> String {
        self.stack.instances[id.0 as usize].name.clone()
    }
}

fn ids(places: &[usize]) -> Vec<InstanceId> {
    // There are at most ten thousand.
    places.iter().map(|&place| InstanceId(place as u32)).collect()
}
