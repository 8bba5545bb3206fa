//! `lpm top`: our terminal, lent to the picture of a stack.
//!
//! One thread waits for the terminal, signals and news, in poll(2) alone; another asks the stack now and then. What is to
//! be done has a thread and a connection of its own, so that nothing holds the picture up.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use ratatui_core::buffer::Buffer;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::Errno;
use rustix::stdio;
use rustix::termios::tcgetwinsize;
use serde_json::{Value, json};

use crate::cli::{Origins, Top as Arguments};
use crate::client::reach;
use crate::config::quantity;
use crate::control::client::{Client, Trouble};
use crate::control::interface::{
    Instances, Line, LogsParameters, LogsReply, Named, Status, StatusParameters, Verb,
};
use crate::error::{Error, tell, words};
use crate::escape;
use crate::launch::gather::Surroundings;
use crate::launch::{controlling_terminal, look, print};
use crate::linux::signals::{self, Watched};
use crate::linux::terminal::{self, Lent};
use crate::supervisor::Ending;
use crate::view::top::keys::keys;
use crate::view::top::paint::paint;
use crate::view::top::{Rates, Top, Wish};

/// So many of the newest lines of an instance are asked for.
const LINES: u64 = 200;

/// Shows it until it is left, or the stack ends.
///
/// # Errors
/// There is no such stack; there is no terminal, and nothing was said that would do without.
pub fn top(around: &Surroundings, arguments: Arguments, origins: &Origins) -> Result<Ending, Error> {
    let Arguments { target, interval, once, json, color } = arguments;
    let interval =
        quantity::duration(&interval).map_err(|message| Error::new(format!("--interval: {message}")))?;
    if interval < Duration::from_millis(100) {
        return Err(Error::new("--interval: that is too often (write 100ms or more)"));
    }
    let mut look = look::of_terminal(around);
    look.colour = look::colour(around, color.as_deref(), origins)?;
    if once || json {
        let mut client = reach::reach(around, &target, origins)?;
        return plain(&mut client, interval, once, json, &look);
    }
    let no_terminal = || {
        Error::new(
            "top needs a terminal for standard input and output (write --once, or --json for a program)",
        )
    };
    if ![stdio::stdin(), stdio::stdout()].iter().all(rustix::termios::isatty) {
        return Err(no_terminal());
    }
    let mut client = reach::reach(around, &target, origins)?;
    let status = usage(&mut client).map_err(reach::told)?;
    let socket = PathBuf::from(&status.stack.socket);
    let failed = |error: io::Error| Error::new(format!("cannot show it: {}", words(error)));

    let bell = Arc::new(
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|errno| failed(errno.into()))?,
    );
    let (tell_us, news) = channel();
    let ours = [libc::SIGWINCH, libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTSTP];
    let signals = signals::watch(&ours).map_err(|errno| failed(errno.into()))?;
    let tty = controlling_terminal().ok_or_else(no_terminal)?;
    let lent = Lent::lend(tty).map_err(|failure| Error::new(format!("cannot show it: {failure}")))?;
    let outbox = Outbox { tell_us, bell: Arc::clone(&bell) };
    let (ask, asked) = channel();
    let poller = outbox.clone();
    let asks = move || ask_now_and_then(client, interval, &asked, &poller);
    thread::Builder::new().spawn(asks).map_err(failed)?;
    let mut screen = Screen {
        top: Top::new(status, look::now_usec()),
        lent: Some(lent),
        shown: Vec::new(),
        painted: None,
        colour: look.colour,
        socket,
        ask,
        outbox,
    };
    let left = screen.show(&signals, &bell, &news);
    // The terminal is given back before anything is said on it.
    drop(screen);
    match left? {
        Left::Quit => Ok(Ending::Code(0)),
        Left::Ended => {
            tell("lpm: the stack has ended");
            Ok(Ending::Code(0))
        }
        Left::Lost(text) => Err(Error::new(text)),
        Left::Signalled(signal) => Ok(Ending::Signal(crate::config::Signal(signal))),
    }
}

fn usage(client: &mut Client) -> Result<Status, Trouble> {
    client.call("Status", &StatusParameters { names: None, detail: None, usage: Some(true) })
}

/// For a pipe, or a program.
fn plain(
    client: &mut Client,
    interval: Duration,
    once: bool,
    json: bool,
    look: &crate::view::Look,
) -> Result<Ending, Error> {
    let mut top = Top::new(usage(client).map_err(reach::told)?, look::now_usec());
    loop {
        thread::park_timeout(interval);
        match usage(client) {
            Ok(status) => top.look(status, look::now_usec()),
            Err(Trouble::Ended) if !once => return Ok(Ending::Code(0)),
            Err(trouble) => return Err(reach::told(trouble)),
        }
        let text =
            if json { escape::json(&format!("{}\n", object(&top))).into_owned() } else { top.once(look) };
        let written = print(&text)?;
        if once || written != Ending::Code(0) {
            return Ok(written);
        }
    }
}

/// What `Status` says, with what is used a second.
fn object(top: &Top) -> Value {
    let with = |value: &mut Value, rates: Rates| {
        value["cpu_percent"] = json!(rates.cpu_percent);
        value["throttled_percent"] = json!(rates.throttled_percent);
        value["io_read_per_second"] = json!(rates.io_read_per_second);
        value["io_written_per_second"] = json!(rates.io_written_per_second);
    };
    let mut object = serde_json::to_value(top.status()).expect("a status is plain data");
    with(&mut object["stack"], top.rates(None));
    for one in object["instances"].as_array_mut().into_iter().flatten() {
        let rates = top.rates(one["name"].as_str());
        with(one, rates);
    }
    object
}

/// What the other threads tell.
enum News {
    Status(Box<Status>),
    Lines(String, Vec<Line>),
    /// What came of something that was to be done.
    Done(String),
    Ended,
    Lost(String),
}

#[derive(Clone)]
struct Outbox {
    tell_us: Sender<News>,
    bell: Arc<OwnedFd>,
}

impl Outbox {
    /// Whether anybody is there.
    fn tell(&self, news: News) -> bool {
        let told = self.tell_us.send(news).is_ok();
        let _ = rustix::io::write(&*self.bell, &1u64.to_ne_bytes());
        told
    }
}

/// What the thread that asks is told.
enum Ask {
    /// What this one says, too, or nobody.
    Read(Option<String>),
    /// At once.
    Now,
    /// Nothing, until it is told something else: nobody looks.
    Rest,
}

fn ask_now_and_then(mut client: Client, interval: Duration, asked: &Receiver<Ask>, outbox: &Outbox) {
    let mut reading: Option<String> = None;
    loop {
        match asked.recv_timeout(interval) {
            Ok(Ask::Read(whom)) => reading = whom,
            Ok(Ask::Rest) => {
                if let Ok(Ask::Read(whom)) = asked.recv() {
                    reading = whom;
                }
            }
            Ok(Ask::Now) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let news = match usage(&mut client) {
            Ok(status) => News::Status(Box::new(status)),
            Err(Trouble::Ended) => News::Ended,
            Err(trouble) => News::Lost(reach::told(trouble).to_string()),
        };
        let over = !matches!(news, News::Status(_));
        if !outbox.tell(news) || over {
            return;
        }
        if let Some(name) = &reading
            && let Ok(lines) = newest(&mut client, name)
        {
            outbox.tell(News::Lines(name.clone(), lines));
        }
    }
}

fn newest(client: &mut Client, name: &str) -> Result<Vec<Line>, Trouble> {
    let parameters = LogsParameters {
        names: Some(vec![name.to_owned()]),
        lines: Some(LINES),
        ..LogsParameters::default()
    };
    let mut lines = Vec::new();
    let take = |reply: LogsReply| {
        lines.extend(reply.line);
        true
    };
    client.stream("Logs", &parameters, take)?;
    Ok(lines)
}

/// Why it is over.
enum Left {
    Quit,
    Ended,
    Lost(String),
    Signalled(i32),
}

struct Screen {
    top: Top,
    /// None while somebody else has it.
    lent: Option<Lent>,
    /// What our terminal has not taken yet.
    shown: Vec<u8>,
    /// What it shows when it has taken that.
    painted: Option<Buffer>,
    colour: bool,
    socket: PathBuf,
    ask: Sender<Ask>,
    outbox: Outbox,
}

impl Screen {
    fn show(&mut self, signals: &Watched, bell: &OwnedFd, news: &Receiver<News>) -> Result<Left, Error> {
        self.enter();
        loop {
            self.draw();
            let Some(lent) = &self.lent else { unreachable!("it came back") };
            let out = if self.shown.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            let mut fds = [
                PollFd::new(signals, PollFlags::IN),
                PollFd::new(lent.terminal(), PollFlags::IN | out),
                PollFd::new(bell, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::new(format!("cannot show it: {}", words(errno)))),
            }
            let [signal, terminal, rung] = fds.map(|fd| fd.revents());
            if !signal.is_empty() {
                match signals.next() {
                    Some(libc::SIGWINCH) | None => {}
                    Some(libc::SIGTSTP) => self.suspend()?,
                    Some(signal) => return Ok(Left::Signalled(signal)),
                }
            }
            if terminal.intersects(PollFlags::OUT) {
                self.write_on();
            }
            if terminal.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR)
                && let Some(left) = self.take_keys()?
            {
                return Ok(left);
            }
            if !rung.is_empty() {
                let _ = rustix::io::read(bell, &mut [0; 8]);
                while let Ok(news) = news.try_recv() {
                    match news {
                        News::Status(status) => self.top.look(*status, look::now_usec()),
                        News::Lines(name, lines) => self.top.read(&name, lines),
                        News::Done(text) => self.top.say(text),
                        News::Ended => return Ok(Left::Ended),
                        News::Lost(text) => return Ok(Left::Lost(text)),
                    }
                }
            }
        }
    }

    /// From the beginning, on the other screen.
    fn enter(&mut self) {
        self.shown.clear();
        self.shown.extend_from_slice(terminal::ENTER);
        self.painted = None;
    }

    /// Draws what is different, unless the terminal still has to take what was drawn before.
    fn draw(&mut self) {
        let Some(lent) = &self.lent else { return };
        if !self.shown.is_empty() && self.painted.is_some() {
            return;
        }
        let (rows, columns) = match tcgetwinsize(lent.terminal()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row, size.ws_col),
            _ => (24, 80),
        };
        let picture = self.top.draw(columns, rows);
        self.shown.extend(paint(self.painted.as_ref(), &picture, self.colour));
        self.painted = Some(picture);
        self.write_on();
    }

    fn write_on(&mut self) {
        let Some(lent) = &self.lent else { return };
        while !self.shown.is_empty() {
            match rustix::io::write(lent.terminal(), &self.shown) {
                Ok(length) => drop(self.shown.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // It is gone; SIGHUP tells.
                Err(_) => self.shown.clear(),
            }
        }
    }

    fn take_keys(&mut self) -> Result<Option<Left>, Error> {
        let Some(lent) = &self.lent else { return Ok(None) };
        let mut bytes = [0; 1024];
        let bytes = match rustix::io::read(lent.terminal(), &mut bytes) {
            Ok(0) => return Ok(Some(Left::Signalled(libc::SIGHUP))),
            Ok(length) => &bytes[..length],
            Err(Errno::INTR | Errno::AGAIN) => return Ok(None),
            Err(_) => return Ok(Some(Left::Signalled(libc::SIGHUP))),
        };
        for key in keys(bytes) {
            match self.top.key(key) {
                Wish::Draw => {}
                Wish::Quit => return Ok(Some(Left::Quit)),
                Wish::Suspend => self.suspend()?,
                Wish::Read(whom) => drop(self.ask.send(Ask::Read(whom))),
                Wish::Do(verb, name) => self.have_done(verb, name),
                Wish::Attach(name) => self.attach(&name)?,
            }
        }
        Ok(None)
    }

    fn have_done(&mut self, verb: Verb, name: String) {
        let (socket, outbox, ask) = (self.socket.clone(), self.outbox.clone(), self.ask.clone());
        let do_it = move || {
            let done = Client::connect(&socket).map_err(words).and_then(|mut client| {
                let parameters = Named { names: Some(vec![name.clone()]), wait: Some(true) };
                let done = client.call::<Value>(verb.method(), &parameters);
                done.map_err(|trouble| reach::told(trouble).to_string())
            });
            let text = match done {
                Ok(reply) => {
                    let instances = serde_json::from_value::<Instances>(reply).map(|reply| reply.instances);
                    match instances {
                        Ok(instances) if instances.is_empty() => format!("{name}: nothing to do"),
                        _ => format!("{name}: {}", verb.past()),
                    }
                }
                Err(why) => why,
            };
            outbox.tell(News::Done(text));
            let _ = ask.send(Ask::Now);
        };
        if let Err(error) = thread::Builder::new().spawn(do_it) {
            self.top.say(words(error));
        }
    }

    /// Stops us, as a job of a shell, and comes back.
    fn suspend(&mut self) -> Result<(), Error> {
        self.lent = None;
        signals::stop_self();
        self.lend_again()
    }

    /// The terminal goes to the instance, by way of `lpm attach`.
    fn attach(&mut self, name: &str) -> Result<(), Error> {
        self.lent = None;
        let _ = self.ask.send(Ask::Rest);
        let attached = std::env::current_exe().and_then(|lpm| {
            let mut command = Command::new(lpm);
            command.arg("attach").arg("--socket").arg(&self.socket).arg(name);
            command.status()
        });
        match attached {
            Ok(status) if status.success() => self.top.say(format!("back from {name}")),
            Ok(_) => self.top.say(format!("{name} could not be attached to")),
            Err(error) => self.top.say(format!("lpm attach: {}", words(error))),
        }
        let _ = self.ask.send(Ask::Now);
        self.lend_again()
    }

    fn lend_again(&mut self) -> Result<(), Error> {
        let gone = || Error::new("the terminal is gone");
        let tty = controlling_terminal().ok_or_else(gone)?;
        self.lent =
            Some(Lent::lend(tty).map_err(|failure| Error::new(format!("cannot show it: {failure}")))?);
        self.enter();
        Ok(())
    }
}
