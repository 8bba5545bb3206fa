//! What clients ask, turned into requests to the core; and what comes of those, into answers.
//!
//! A call is resolved here against what there is (names to instances), handed in as one or more requests, and
//! answered when all of them are. Nothing in here waits: an answer goes into a place that cannot block.
//!
//! ```text
//!   call ──▶ names resolved ──▶ request ─────────▶ core ──▶ Reply ──▶ answer
//!        └─▶ change of the text ([`super::changes`]) ──▶ requests ─┘
//! ```
//!
//! An order that was given is carried out, whether or not whoever gave it stays to hear of it.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use tokio::sync::oneshot;

use super::ceilings;
use super::changes::{Changes, ids};
use super::terminals;
use super::terms;
use super::texts::{Change, Texts};
use super::wake::Key;
use super::worker::Order;
use super::{Driver, Message};
use crate::config::{self, Ceilings, Stack};
use crate::control::attach::Seat;
use crate::control::chronicle::Chronicle;
use crate::control::desk::Desk;
use crate::control::interface::{self, LifeResult, Refusal, Tier};
use crate::control::server::Server;
use crate::control::standby::Standby;
use crate::control::{self, Answer, Ask, Call, Verb};
use crate::error::words;
use crate::supervisor::{Client, Event, Instance, InstanceId, Recipients, Reply, Request};

/// How the stack can be asked from elsewhere.
pub struct Control {
    /// The listening end of its socket.
    pub listener: OwnedFd,
    /// The most clients at a time.
    pub most_clients: usize,
}

/// What is told about the stack that only whoever started it knows.
#[derive(Debug, Clone)]
pub struct About {
    /// Absolute, or `-`.
    pub procfile: PathBuf,
    /// Where `lpm.toml` is, or would be.
    pub manifest: PathBuf,
    /// The control socket, if there is one.
    pub socket: Option<PathBuf>,
    /// How much of cgroups there is.
    pub tier: Tier,
}

/// The calls that are under way, and what they need.
pub(super) struct Calls {
    pub about: About,
    pub chronicle: Arc<Chronicle>,
    listener: Option<OwnedFd>,
    most_clients: usize,
    pub server: Option<Server>,
    /// Threads for the first client.
    standby: Standby,
    pub changes: Changes,
    /// When clients are looked for again, after the server could not be started.
    look_again: Option<Duration>,
    /// That it could not be was said.
    warned: bool,
    /// Calls that are not answered yet.
    open: HashMap<Client, Open>,
    /// Requests in the core, and limits that are being written, each a part of a call.
    parts: HashMap<Client, Client>,
    /// The next part's number.
    next: u64,
}

/// How long until the server is tried again, after the kernel had no descriptor or thread for it.
const SERVER_PAUSE: Duration = Duration::from_secs(1);

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
        chronicle: Arc<Chronicle>,
        texts: Option<(Texts, config::Sources)>,
    ) -> Calls {
        let most_clients = control.as_ref().map_or(0, |control| control.most_clients);
        Calls {
            about,
            chronicle,
            listener: control.map(|control| control.listener),
            most_clients,
            server: None,
            standby: Standby::default(),
            changes: Changes::new(texts),
            look_again: None,
            warned: false,
            open: HashMap::new(),
            parts: HashMap::new(),
            next: FIRST_PART,
        }
    }

    pub(super) fn number(&mut self) -> Client {
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

    /// When something in here is due.
    pub(super) fn due(&self) -> Option<Duration> {
        [self.changes.due(), self.look_again].into_iter().flatten().min()
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
            standby: std::mem::take(&mut self.calls.standby),
        };
        match Server::start(&listener, desk) {
            Ok(server) => {
                tracing::info!("the first client: the control socket is served");
                self.calls.server = Some(server);
            }
            Err(error) => {
                if !std::mem::replace(&mut self.calls.warned, true) {
                    let why = words(error);
                    let text = format!("warning: the control socket cannot be served now: {why}");
                    self.log.say(&self.system, text);
                }
                self.calls.listener = Some(listener);
                self.calls.look_again = Some(self.clock.now() + SERVER_PAUSE);
            }
        }
    }

    /// The socket was made again: clients come in at `listener` from now on.
    pub(super) fn listen_at(&mut self, listener: OwnedFd) {
        if let Some(server) = &self.calls.server {
            return server.listen_at(listener);
        }
        let added = self.watch.add(&listener, EventFlags::IN, Key::listener());
        self.calls.look_again = added.is_err().then(|| self.clock.now() + SERVER_PAUSE);
        if let Some(old) = self.calls.listener.replace(listener) {
            self.watch.remove(&old);
        }
    }

    /// Makes the threads that serve the first client, if there can be one.
    pub(super) fn stand_by(&mut self) {
        if self.calls.listener.is_some() {
            self.calls.standby = Standby::new();
        }
    }

    /// What has taken too long, or was put off until now.
    pub(super) fn on_calls_due(&mut self) {
        let now = self.clock.now();
        if self.calls.look_again.is_some_and(|at| at <= now)
            && let Some(listener) = &self.calls.listener
        {
            let added = self.watch.add(listener, EventFlags::IN, Key::listener());
            self.calls.look_again = added.is_err().then(|| now + SERVER_PAUSE);
        }
        self.on_reading_due(now);
    }

    pub(super) fn on_control(&mut self, message: control::Message) {
        match message {
            control::Message::Call(call) => {
                self.keep_files_at_a_call();
                self.on_call(call);
            }
            control::Message::Left(client) => self.on_client_left(client),
            control::Message::Unseated(_) => self.fit_terminals(),
            // Waited for at the end.
            control::Message::Finished => {}
        }
    }

    fn on_client_left(&mut self, client: Client) {
        tracing::debug!(client = client.0, "left before the answer");
        self.calls.open.remove(&client);
        let parts: Vec<Client> =
            self.calls.parts.iter().filter(|(_, whole)| **whole == client).map(|(part, _)| *part).collect();
        for part in parts {
            self.calls.parts.remove(&part);
            self.hand_in(Event::ClientLeft(part));
        }
    }

    fn on_call(&mut self, call: Call) {
        let Call { client, ask, answer } = call;
        tracing::debug!(client = client.0, "asked {ask:?}");
        let open = Open { answer, told: Told::default(), parts: 1, refused: None };
        self.calls.open.insert(client, open);
        match self.attend_to(client, ask) {
            Ok(()) => self.release(client),
            Err(refusal) => self.refuse(client, refusal),
        }
    }

    fn attend_to(&mut self, client: Client, ask: Ask) -> Result<(), Refusal> {
        match ask {
            Ask::Status { names, depth } => {
                let places = self.places(&names)?;
                let survey = self.survey(&places, depth);
                if let Some(open) = self.calls.open.remove(&client) {
                    let _ = open.answer.send(Ok(Answer::Survey(survey)));
                }
            }
            Ask::Who { names } => {
                let places = self.places(&names)?;
                self.tell_instances(client, &places);
            }
            Ask::Do { verb: Verb::Start | Verb::Restart | Verb::Freeze, .. }
                if self.core.is_tearing_down() =>
            {
                return Err(Refusal::ShuttingDown {});
            }
            Ask::Do { verb, names, wait } => match verb {
                Verb::Start => match self.matching(&self.stack, &names, &|place| self.is_wanted(place)) {
                    Ok(places) => self.request_for(client, Request::Start, &places, wait),
                    // Not there yet, perhaps; whoever knows the text knows.
                    Err(_) => self.change(client, Change::Start { names, wait }),
                },
                Verb::Restart => {
                    self.able(&names, |one| !one.is_removed())?;
                    self.change(client, Change::Restart { names, wait });
                }
                Verb::Freeze => {
                    let places = self.able(&names, Instance::is_running)?;
                    self.request_for(client, Request::Freeze, &places, wait);
                }
                Verb::Stop => self.request_for(client, Request::Stop, &self.places(&names)?, wait),
                Verb::Kill => self.request_for(client, Request::Kill, &self.places(&names)?, wait),
                Verb::Thaw => self.request_for(client, Request::Thaw, &self.places(&names)?, wait),
            },
            Ask::Signal { names, signal, main } => {
                let to = if main { Recipients::Main } else { Recipients::All };
                let places = self.able(&names, |one| one.has(to))?;
                self.request_for(client, |on| Request::Signal { on, signal, to }, &places, true);
            }
            Ask::Scale { counts, wait } => {
                let types = self.stack.processes.iter().filter(|process| process.is_in_file());
                let types: HashSet<&str> = types.map(|process| process.name.as_str()).collect();
                let unknown = counts.keys().find(|name| !types.contains(name.as_str()));
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
        let has_terminal = |place: &usize| self.living_as(*place).instances[*place].pty;
        let with_terminal = places.iter().copied().find(has_terminal);
        let Some(place) = with_terminal.or(places.first().copied()) else {
            return Err(Refusal::NotRunning { instance: name.to_owned() });
        };
        let instance = self.stack.instances[place].name.clone();
        if with_terminal.is_none() {
            return Err(match self.stack.instances[place].pty {
                true => {
                    let reason =
                        format!("{instance} gets its terminal at its next start (lpm restart {instance})");
                    Refusal::Unavailable { reason }
                }
                false => Refusal::NoTerminal { instance },
            });
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

    pub(super) fn request_for(
        &mut self,
        client: Client,
        request: impl FnOnce(Vec<InstanceId>) -> Request,
        places: &[usize],
        wait: bool,
    ) {
        self.tell_instances(client, places);
        self.request(client, request(ids(places)), wait);
    }

    pub(super) fn request(&mut self, client: Client, request: Request, wait: bool) {
        let part = match wait {
            true => self.part_of(client),
            false => self.calls.number(),
        };
        self.hand_in(Event::Request { client: part, request });
    }

    /// A number for something that the call waits for.
    pub(super) fn part_of(&mut self, client: Client) -> Client {
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
                    result: instance.outcome.map(LifeResult::from),
                    exit_code: terms::exit_code(instance.exit),
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
        match self.calls.changes.trial_of(part) {
            Some(trial) => {
                trial.tried(part, refusal);
                self.conclude_trial();
            }
            None => self.finish_part(part, refusal),
        }
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
    pub(super) fn release(&mut self, client: Client) {
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

    /// One thing more that it waits for.
    pub(super) fn keep_open(&mut self, client: Client) {
        if let Some(open) = self.calls.open.get_mut(&client) {
            open.parts += 1;
        }
    }

    /// Puts into its answer what changes, and what there is to say about that.
    pub(super) fn put_changes(&mut self, client: Client, changes: &[interface::Change], notes: Vec<String>) {
        if let Some(open) = self.calls.open.get_mut(&client) {
            open.told.changes = changes.to_vec();
            open.told.notes = notes;
        }
    }

    pub(super) fn refuse(&mut self, client: Client, refusal: Refusal) {
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

    /// Has ceilings written; what becomes of it comes back under the number `part`.
    pub(super) fn limit(&mut self, part: Client, leaf: Option<String>, ceilings: &Ceilings) {
        let settings = ceilings::settings(ceilings);
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
        self.matching(&self.stack, names, &|place| self.is_present(place))
    }

    /// Those of them to whom it can be done. A name that means several leaves out who cannot take part; one of
    /// whom nobody can is refused.
    pub(super) fn able(
        &self,
        names: &[String],
        can: impl Fn(&Instance) -> bool,
    ) -> Result<Vec<usize>, Refusal> {
        let can = |place: &usize| can(&self.core.instances()[*place]);
        let there = |place: usize| self.is_present(place);
        let config::Meant { places: mut all, each } =
            config::meant(&self.stack, &there, names).map_err(no_such)?;
        if let Some(none) = each.iter().find(|places| !places.iter().any(can))
            && let Some(&place) = none.first()
        {
            return Err(Refusal::NotRunning { instance: self.stack.instances[place].name.clone() });
        }
        all.retain(can);
        Ok(all)
    }

    pub(super) fn matching(
        &self,
        stack: &Stack,
        names: &[String],
        there: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<usize>, Refusal> {
        config::matching(stack, there, names).map_err(no_such)
    }

    pub(super) fn has_life(&self, place: usize) -> bool {
        self.core.instances().get(place).is_some_and(|instance| instance.life().is_some())
    }

    /// The stack as it was when the present life of an instance was ordered; without one, as it is.
    pub(super) fn living_as(&self, place: usize) -> &Arc<Stack> {
        self.born[place].as_ref().filter(|_| self.has_life(place)).unwrap_or(&self.stack)
    }

    fn name(&self, id: InstanceId) -> String {
        self.stack.instances[id.0 as usize].name.clone()
    }
}

fn no_such(none: config::NoSuch) -> Refusal {
    Refusal::NoSuchInstance { name: none.name, known: none.known, nearest: none.nearest }
}
