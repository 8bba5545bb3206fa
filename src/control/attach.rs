//! The server's side of a lent terminal: one viewer, from its entry to its leaving.
//!
//! The client shows what comes and sends what is typed; the screen is repainted when it enters, and again whenever it
//! was too slow to see every byte. A viewer holds nobody up: not the instance, not the log, not another viewer. One that
//! takes nothing for some seconds (it was stopped, or its terminal was) is as good as gone, until it takes something
//! again: the window's size is not its own, and the terminal not kept open for it.
//!
//! The window's size follows the viewer who typed, or changed its window, last.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::chronicle::News;
use super::connection::Connection;
use super::desk::{Counter, Trouble};
use super::frames::Frame;
use super::interface::Instance;
use super::{Answer, Ask, Depth};
use crate::output::screen::{Output, Position, Screen, Viewer};
use crate::wording::event::Turn;

/// How long after its end it is looked at again, while what it left behind is being ended.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How long the last output of a life may take to be shown: as long as the log's own reader stands still.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// How long a client that takes nothing counts as a viewer.
const STANDS_STILL: Duration = Duration::from_secs(3);

/// The terminal of an instance, as the loop lends it.
pub struct Seat {
    /// Its full name.
    pub instance: String,
    /// What is on it.
    pub screen: Arc<Screen>,
    /// Where keys go, and where its size is set; `None` while no life has it.
    pub keyboard: Option<Arc<OwnedFd>>,
    /// Sets the size of the terminal and of the screen.
    pub resize: fn(&OwnedFd, &Screen, u16, u16),
}

/// One viewer, from its entry to its leaving.
struct Attached<'a> {
    connection: &'a mut Connection,
    desk: &'a Counter,
    instance: String,
    screen: Arc<Screen>,
    /// Says that somebody looks and decides the size; who only watches does not.
    viewer: Option<Viewer>,
    position: Position,
    keyboard: Option<AsyncFd<OwnedFd>>,
    resize: fn(&OwnedFd, &Screen, u16, u16),
    read_only: bool,
    /// The viewer's own window.
    window: Option<(u16, u16)>,
    /// Typed and not yet taken by the terminal.
    typed: Vec<u8>,
    /// Of events.
    next: u64,
}

/// Serves a viewer until it leaves, or the instance is down.
pub(super) async fn serve(
    connection: &mut Connection,
    desk: &Counter,
    seat: Seat,
    window: Option<(u16, u16)>,
    read_only: bool,
) -> Result<(), Trouble> {
    let Seat { instance, screen, keyboard, resize } = seat;
    let viewer = (!read_only).then(|| screen.view());
    // What it is told last is waited for a moment when the stack ends.
    let _following = desk.following();
    let next = desk.desk.chronicle.next();
    let (picture, position) = screen.repaint();
    let mut attached = Attached {
        connection,
        desk,
        instance,
        viewer,
        position,
        keyboard: None,
        resize,
        read_only,
        window: if read_only { None } else { window },
        typed: Vec::new(),
        next,
        screen,
    };
    attached.take_keyboard(keyboard);
    attached.fit();
    let result = match attached.send(&[Frame::Screen(picture)]).await {
        Ok(()) => attached.run().await,
        Err(trouble) => Err(trouble),
    };
    let name = attached.instance.clone();
    drop(attached);
    (desk.desk.tell)(super::Message::Unseated(name));
    result
}

/// What a viewer's task woke for.
enum Woken {
    Shown(Output),
    News(News),
    Came(Option<Frame>),
    Writable,
    Finishing,
}

impl Attached<'_> {
    async fn run(&mut self) -> Result<(), Trouble> {
        loop {
            let woken = {
                let Attached { connection, desk, screen, position, keyboard, typed, next, .. } = &mut *self;
                let chronicle = &desk.desk.chronicle;
                tokio::select! {
                    biased;
                    output = poll_fn(|context| screen.poll_after(position, context)) => Woken::Shown(output),
                    news = poll_fn(|context| chronicle.poll(next, context)) => Woken::News(news),
                    () = writable(keyboard.as_ref()), if !typed.is_empty() => Woken::Writable,
                    frame = came(connection, typed.is_empty()) => Woken::Came(frame),
                    () = desk.finishing() => Woken::Finishing,
                }
            };
            match woken {
                Woken::Shown(Output::Bytes(bytes)) => self.send(&[Frame::Bytes(bytes)]).await?,
                Woken::Shown(Output::Lagged | Output::Reset) => self.repaint().await?,
                Woken::News(News::Event(event)) => {
                    if event.instance.as_deref() == Some(self.instance.as_str())
                        && self.on_event(event.row().turn, &event.message).await?
                    {
                        return Ok(());
                    }
                }
                // A life may have begun among them, whose terminal is another one.
                Woken::News(News::Missed(_)) => match self.sit_down_again().await {
                    Ok(()) | Err(Trouble::Refused(_)) => {}
                    Err(trouble) => return Err(trouble),
                },
                Woken::News(News::End) | Woken::Finishing => {
                    self.show_the_rest().await?;
                    self.send(&[Frame::Ended("the stack has ended".to_owned())]).await?;
                    return Ok(());
                }
                Woken::Came(Some(Frame::Bytes(keys))) => {
                    if !self.read_only {
                        self.fit();
                        self.typed = keys;
                        self.type_on();
                    }
                }
                Woken::Came(Some(Frame::Size(rows, columns))) => {
                    if !self.read_only {
                        self.window = Some((rows, columns));
                        self.fit();
                    }
                }
                Woken::Came(Some(Frame::Screen(_) | Frame::Told(_) | Frame::Ended(_)) | None) => {
                    return Ok(());
                }
                Woken::Writable => self.type_on(),
            }
        }
    }

    async fn repaint(&mut self) -> Result<(), Trouble> {
        let (picture, position) = self.screen.repaint();
        self.position = position;
        self.send(&[Frame::Screen(picture)]).await
    }

    /// Whether that was its end.
    async fn on_event(&mut self, turn: Turn, message: &str) -> Result<bool, Trouble> {
        match turn {
            Turn::Begins => {
                self.sit_down_again().await?;
                Ok(false)
            }
            Turn::Ends | Turn::NeverBegins | Turn::Leaves => {
                // A terminal that somebody holds open is not hung up.
                self.take_keyboard(None);
                let told = message.to_owned();
                let settled = self.settled().await?;
                self.show_the_rest().await?;
                let goes_on = settled.is_some_and(|one| !one.state.is_over());
                let told = format!("{} {told}", self.instance);
                self.send(&[if goes_on { Frame::Told(told) } else { Frame::Ended(told) }]).await?;
                Ok(!goes_on)
            }
            Turn::Waits | Turn::KernelKills | Turn::StackEnds | Turn::Changes | Turn::Between => Ok(false),
        }
    }

    /// Where it is once what it left behind is gone too; `None`: it is no part of the stack any more.
    async fn settled(&mut self) -> Result<Option<Instance>, Trouble> {
        loop {
            let ask = Ask::Status { names: vec![self.instance.clone()], depth: Depth::List };
            let instance = match self.desk.ask(self.connection, ask).await {
                Ok(Answer::Survey(survey)) => (survey.read)().instances.into_iter().next(),
                Ok(_) | Err(Trouble::Refused(_)) => None,
                Err(trouble) => return Err(trouble),
            };
            match instance {
                Some(instance) if instance.state.is_stopping() => tokio::time::sleep(LOOK_AGAIN).await,
                instance => return Ok(instance),
            }
        }
    }

    /// A new life has a new terminal.
    async fn sit_down_again(&mut self) -> Result<(), Trouble> {
        let ask = Ask::Attach { name: self.instance.clone() };
        if let Answer::Seat(seat) = self.desk.ask(self.connection, ask).await? {
            self.take_keyboard(seat.keyboard);
            self.fit();
        }
        Ok(())
    }

    #[expect(
        deprecated,
        reason = "its successor is unsafe; an OwnedFd stays open as long as it is registered"
    )]
    fn take_keyboard(&mut self, keyboard: Option<Arc<OwnedFd>>) {
        self.typed.clear();
        // Each viewer has a descriptor of its own: one cannot be watched twice (epoll_ctl(2), EEXIST). Without a
        // watch nothing can be typed, and all is still shown.
        let own = keyboard.and_then(|fd| fd.try_clone().ok());
        self.keyboard = own.and_then(|fd| AsyncFd::with_interest(fd, Interest::WRITABLE).ok());
    }

    /// Gives the terminal this viewer's size.
    fn fit(&self) {
        if let (Some((rows, columns)), Some(keyboard)) = (self.window, &self.keyboard)
            && self.screen.size() != (rows, columns)
        {
            (self.resize)(keyboard.get_ref(), &self.screen, rows, columns);
        }
    }

    /// Types as much as the terminal takes now.
    fn type_on(&mut self) {
        let Some(keyboard) = &self.keyboard else { return self.typed.clear() };
        while !self.typed.is_empty() {
            match rustix::io::write(keyboard.get_ref(), &self.typed) {
                Ok(length) => drop(self.typed.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // Its life is over.
                Err(_) => self.typed.clear(),
            }
        }
    }

    /// What came out before its end: that is told of at once, and the last output takes its way through the log.
    async fn show_the_rest(&mut self) -> Result<(), Trouble> {
        let patience = tokio::time::sleep(LAST_OUTPUT);
        tokio::pin!(patience);
        loop {
            let output = {
                let Attached { screen, position, .. } = &mut *self;
                let next = poll_fn(|context| match screen.poll_after(position, context) {
                    Poll::Ready(output) => Poll::Ready(Some(output)),
                    Poll::Pending if screen.is_over() => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                });
                tokio::select! {
                    biased;
                    output = next => output,
                    () = &mut patience => None,
                }
            };
            match output {
                Some(Output::Bytes(bytes)) => self.send(&[Frame::Bytes(bytes)]).await?,
                // The next life may have begun by now, and its screen is another one.
                Some(Output::Lagged | Output::Reset) => return self.repaint().await,
                None => return Ok(()),
            }
        }
    }

    async fn send(&mut self, frames: &[Frame]) -> Result<(), Trouble> {
        let mut out = Vec::new();
        frames.iter().for_each(|frame| frame.put(&mut out));
        let had_keyboard = {
            let Attached { connection, desk, instance, viewer, keyboard, typed, .. } = &mut *self;
            let mut sending = std::pin::pin!(connection.send(&out));
            if let Ok(sent) = tokio::time::timeout(STANDS_STILL, &mut sending).await {
                return Ok(sent?);
            }
            let had_keyboard = keyboard.take().is_some();
            typed.clear();
            if viewer.take().is_some() {
                (desk.desk.tell)(super::Message::Unseated(instance.clone()));
            }
            sending.await?;
            had_keyboard
        };
        self.viewer = (!self.read_only).then(|| self.screen.view());
        // Where it has none by now, it comes to hear of its end.
        match if had_keyboard { self.sit_down_again().await } else { Ok(()) } {
            Err(Trouble::Refused(_)) => Ok(()),
            seated => seated,
        }
    }
}

/// The next frame. Whoever types faster than is read waits, and may leave.
async fn came(connection: &mut Connection, wanted: bool) -> Option<Frame> {
    if wanted {
        return connection.frame().await;
    }
    connection.gone().await;
    None
}

/// Ends when the terminal takes keys again.
async fn writable(keyboard: Option<&AsyncFd<OwnedFd>>) {
    if let Some(keyboard) = keyboard
        && let Ok(mut guard) = keyboard.writable().await
    {
        guard.clear_ready();
    }
}
