//! What the stack says and what happens to it, sent to the journal.
//!
//! A thread follows the [`History`] and the [`Chronicle`] as any client would, so nobody ever waits for the journal:
//! one that is stuck or gone is waited for here, and what the rings lose meanwhile is counted and told. One that
//! was started anew goes on with the next line.
//!
//! lpm's own lines come through the history, in their place among the others; where such a line is an event's, the
//! event is sent in its place, with all that is known of it. Where only some of the instances are for the journal, it
//! has their lines and events and no others.

mod entry;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

pub use entry::Identity;

use crate::control::chronicle::{Chronicle, News};
use crate::control::interface::Event;
use crate::linux::journal::Journal as Socket;
use crate::output::history::{Cursor, EventId, History, Line, Origin, Whose};
use crate::wording::event::Turn;

/// At most so many lines are taken from the history at once.
const AT_ONCE: usize = 1000;

/// How often one that is gone is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long a line waits for its event.
const EVENT_COMES_WITHIN: Duration = Duration::from_secs(1);

/// How long an event waits for its line, in microseconds; one that the history has lost has none.
const LINE_COMES_WITHIN: u64 = 5_000_000;

/// The thread that sends.
pub struct Journal {
    stop: Arc<AtomicBool>,
    thread: Thread,
    done: Receiver<()>,
}

impl Journal {
    /// Starts it. It ends by itself after the chronicle was closed and all was sent.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(
        socket: Socket,
        identity: Identity,
        history: Arc<History>,
        chronicle: Arc<Chronicle>,
        routes: Routes,
    ) -> std::io::Result<Journal> {
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, done) = channel();
        let (_, cursor) = history.lines(&meant, Some(0));
        let sender = Follower {
            socket,
            identity,
            history,
            cursor,
            next_event: chronicle.next(),
            chronicle,
            events: VecDeque::new(),
            sent: None,
            lives: HashMap::new(),
            routes,
            unsent: 0,
            stop: Arc::clone(&stop),
            entry: Vec::new(),
        };
        let run = move || sender.run(&tell);
        let thread = thread::Builder::new().name("lpm-journal".to_owned()).stack_size(1 << 20).spawn(run)?;
        Ok(Journal { stop, thread: thread.thread().clone(), done })
    }

    /// Waits until all was sent, at most so long. Says whether it was.
    pub fn finish(self, patience: Duration) -> bool {
        let sent = self.done.recv_timeout(patience).is_ok();
        self.stop.store(true, Ordering::Release);
        self.thread.unpark();
        sent
    }
}

/// Who is for the journal.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    /// The stack, and everybody who has no route of his own.
    pub common: bool,
    /// By name of the instance.
    pub own: HashMap<String, bool>,
}

impl Routes {
    fn is_meant(&self, instance: &str) -> bool {
        self.own.get(instance).copied().unwrap_or(self.common)
    }
}

fn meant(whose: Whose<'_>) -> bool {
    whose.journal
}

/// Wakes the thread from its `park`.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

struct Follower {
    socket: Socket,
    identity: Identity,
    history: Arc<History>,
    cursor: Cursor,
    chronicle: Arc<Chronicle>,
    next_event: u64,
    /// Events whose line has not come yet.
    events: VecDeque<Arc<Event>>,
    /// The last event that was sent in the place of its line.
    sent: Option<EventId>,
    /// How many lives each instance had.
    lives: HashMap<String, u64>,
    routes: Routes,
    /// Lines that were not sent, and nobody was told.
    unsent: u64,
    stop: Arc<AtomicBool>,
    entry: Vec<u8>,
}

impl Follower {
    fn run(mut self, tell: &Sender<()>) {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let mut ended = false;
        while !self.stop.load(Ordering::Acquire) {
            match self.history.poll_next(&mut self.cursor, &meant, AT_ONCE, &mut context) {
                Poll::Ready(batch) => {
                    self.unsent += batch.missed;
                    batch.lines.iter().for_each(|line| self.send_line(line, &mut context));
                }
                Poll::Pending if ended => {
                    self.send_events(|_| true);
                    self.tell_of_unsent();
                    let _ = tell.send(());
                    return;
                }
                Poll::Pending => {
                    ended = self.gather(&mut context);
                    let old = now_usec().saturating_sub(LINE_COMES_WITHIN);
                    let routes = self.routes.clone();
                    // Whose lines do not come have no place among others.
                    let alone =
                        |event: &Event| !event.instance.as_deref().is_none_or(|name| routes.is_meant(name));
                    self.send_events(|event| {
                        event.row().turn == Turn::Changes || alone(event) || event.time < old
                    });
                    if !ended {
                        thread::park();
                    }
                }
            }
        }
    }

    /// Takes the events that have happened. Returns whether there will be no more.
    fn gather(&mut self, context: &mut Context<'_>) -> bool {
        loop {
            match self.chronicle.poll(&mut self.next_event, context) {
                Poll::Ready(News::Event(event)) => self.events.push_back(event),
                Poll::Ready(News::Missed(missed)) => self.unsent += missed,
                Poll::Ready(News::End) => return true,
                Poll::Pending => return false,
            }
        }
    }

    /// Where among the events that have happened is this one, of which a line tells. It may be written down a little
    /// later than the line.
    fn place_of(&mut self, id: EventId, context: &mut Context<'_>) -> Option<usize> {
        let until = monotonic() + EVENT_COMES_WITHIN;
        loop {
            let ended = self.gather(context);
            if let Some(at) = self.events.iter().position(|event| event.sequence == id.0) {
                return Some(at);
            }
            let left = until.saturating_sub(monotonic());
            let went_by = self.next_event > id.0;
            if went_by || ended || left.is_zero() || self.stop.load(Ordering::Acquire) {
                return None;
            }
            thread::park_timeout(left);
        }
    }

    fn send_line(&mut self, line: &Line, context: &mut Context<'_>) {
        if let Origin::Lpm { event: Some(id) } = line.origin {
            if self.sent == Some(id) {
                // Another line of the same event, which has all of its text.
                return;
            }
            if let Some(at) = self.place_of(id, context) {
                // Those before it have no line, or it was lost.
                let sent: Vec<Arc<Event>> = self.events.drain(..=at).collect();
                self.sent = Some(id);
                return sent.iter().for_each(|event| self.send_event(event, line.time_usec));
            }
        }
        let life = self.lives.get(&*line.instance).copied();
        self.entry.clear();
        entry::line(&mut self.entry, &self.identity, line, life);
        self.send();
    }

    /// Sends those at the front that are `ready`.
    fn send_events(&mut self, ready: impl Fn(&Event) -> bool) {
        while self.events.front().is_some_and(|event| ready(event))
            && let Some(event) = self.events.pop_front()
        {
            self.send_event(&event, event.time);
        }
    }

    /// `time`: of the line that tells of it.
    fn send_event(&mut self, event: &Event, time: u64) {
        // What happens to an instance is for the journal if anything of the stack's own is.
        if !self.routes.common && !event.instance.as_deref().is_some_and(|name| self.routes.is_meant(name)) {
            return;
        }
        let life = event.instance.as_ref().map(|instance| {
            let lives = self.lives.entry(instance.clone()).or_default();
            *lives += match event.row().turn {
                Turn::Begins | Turn::NeverBegins => 1,
                Turn::Ends
                | Turn::Waits
                | Turn::Leaves
                | Turn::KernelKills
                | Turn::StackEnds
                | Turn::Changes
                | Turn::Between => 0,
            };
            *lives
        });
        self.entry.clear();
        entry::event(&mut self.entry, &self.identity, event, time, life.filter(|life| *life > 0));
        self.send();
    }

    fn send(&mut self) {
        self.tell_of_unsent();
        if !deliver(&mut self.socket, &self.entry, &self.stop) {
            self.unsent += 1;
        }
    }

    fn tell_of_unsent(&mut self) {
        if self.unsent > 0 {
            let mut entry = Vec::new();
            entry::missed(&mut entry, &self.identity, self.unsent);
            if deliver(&mut self.socket, &entry, &self.stop) {
                self.unsent = 0;
            }
        }
    }
}

/// Sends an entry however long that takes, unless it is told to stop. Returns whether it was sent.
fn deliver(socket: &mut Socket, entry: &[u8], stop: &AtomicBool) -> bool {
    loop {
        match socket.send(entry) {
            Ok(()) => return true,
            Err(_) if stop.load(Ordering::Acquire) => return false,
            // It does not read, and has had a second for it.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // It is gone, and comes back.
            Err(Errno::NOENT | Errno::CONNREFUSED | Errno::NOTCONN | Errno::CONNRESET | Errno::PIPE) => {
                thread::park_timeout(LOOK_AGAIN);
            }
            // For want of memory or descriptors, or because the entry cannot be sent.
            Err(_) => return false,
        }
    }
}

fn now_usec() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000
}

fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::control::interface::EventKind;
    use crate::output::history::BYTES_PER_INSTANCE;
    use crate::output::{Label, Layout, Log, LogFiles, Shown, Sinks};

    fn event(message: &str) -> Event {
        Event {
            sequence: 0,
            time: now_usec(),
            event: EventKind::Asked,
            instance: Some("web.1".to_owned()),
            message: message.to_owned(),
            pid: None,
            exit_code: None,
            signal: None,
            result: None,
            usage: None,
            ceilings: None,
            cause: None,
            trace: None,
        }
    }

    /// Whatever the words of either are.
    #[test]
    fn an_event_is_sent_in_the_place_of_the_line_that_has_its_number() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let receiver = UnixDatagram::bind(&path).expect("a socket");
        receiver.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        let (history, chronicle) = (History::new(BYTES_PER_INSTANCE, true), Arc::<Chronicle>::default());
        let layout = Layout {
            width: 6,
            timestamps: false,
            prefix: true,
            colour: false,
            escape_controls: false,
            json: false,
        };
        let sinks = Sinks {
            stdout: std::fs::File::create("/dev/null").expect("it is there").into(),
            shown: Shown::All,
            layout,
            history: Some(Arc::clone(&history)),
            files: LogFiles::default(),
        };
        let log = Log::start(sinks, Box::new(|_| {})).expect("a thread");
        let identity = Identity { stack: "shop".into(), run: "0".repeat(32), root: b"/".to_vec() };
        let socket = Socket::connect(&path).expect("it listens");
        let routes = Routes { common: true, own: HashMap::new() };
        let journal =
            Journal::start(socket, identity, history, Arc::clone(&chronicle), routes).expect("a thread");
        let label = Label::instance("web.1", 0);
        let numbers = [(); 2].map(|()| chronicle.number());
        log.say(&label, "asked");
        log.tell(&label, "again\nand again", numbers[0]);
        log.say(&label, "again");
        log.tell(&label, "again", numbers[1]);
        for (number, message) in numbers.into_iter().zip(["asked", "once more"]) {
            chronicle.write(number, event(message));
        }
        let told = || {
            let mut entry = [0; 4096];
            let length = receiver.recv(&mut entry).expect("an entry");
            let fields = String::from_utf8_lossy(&entry[..length]).into_owned();
            let of =
                |name: &str| fields.lines().find_map(|field| field.strip_prefix(name).map(str::to_owned));
            (of("MESSAGE=").expect("it has a text"), of("LPM_EVENT=").is_some())
        };
        let expected = [("asked", false), ("asked", true), ("again", false), ("once more", true)];
        for (message, is_event) in expected {
            assert_eq!(told(), (message.to_owned(), is_event));
        }
        chronicle.close();
        assert!(journal.finish(Duration::from_secs(30)));
    }
}
