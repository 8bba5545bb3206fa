//! Who waits for the stack to be up: the launcher of `lpm start -D`, which is told over a connection, and the
//! service manager ([`super::manager`]).
//!
//! Up is a stack whose every instance was executed once. The core is asked as any client would ask it: have all
//! of these running. An instance that cannot start but is forgiven (`can-die`) answers for itself alone, and
//! then the core is asked again for those that are still on their way; if the stack is not to be, the tear-down
//! that follows is the answer.
//!
//! A launcher that goes away before the stack is up has changed its mind (Ctrl-C), and the stack goes down
//! again. One that went after that is none of its business.
//!
//! What is told fits into the socket's buffer, and is sent without waiting: a launcher that does not read misses
//! it and nothing else.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};

use super::Driver;
use super::wake::Key;
use crate::output::history::{History, Line};
use crate::supervisor::{Client, Event, InstanceId, Progress, Reply, Request};

/// The variable that holds the number of the connection's descriptor. Not for children.
pub const VARIABLE: &str = "LPM_LAUNCHER_FD";

/// In whose name the core is asked whether the stack is up. Other clients are numbered from below.
pub(super) const RISE: Client = Client(u64::MAX);
/// In whose name it is asked to shut down, because the launcher left.
const LEFT: Client = Client(u64::MAX - 1);

/// The last lines that a launcher is told if the stack does not come up, and how much of each.
const LAST_LINES: usize = 20;
const LONGEST: usize = 1000;

/// What a launcher is told, one JSON object a line; after `Up` or `Failed` nothing comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum News {
    /// Something worth knowing, a warning for instance.
    Say(String),
    /// The stack is up.
    Up {
        /// lpm's number.
        pid: u32,
    },
    /// It is not going to be, and nothing is left of it.
    Failed {
        /// How lpm would have ended.
        code: u8,
        /// Why: its last lines, as they are to be shown.
        lines: Vec<String>,
    },
}

/// The way to whoever launched us.
#[derive(Debug, Clone)]
pub struct Launcher(Arc<UnixStream>);

impl Launcher {
    /// Over this connection.
    pub fn new(connection: UnixStream) -> Launcher {
        Launcher(Arc::new(connection))
    }

    /// Tells it, if it listens.
    pub fn tell(&self, news: &News) {
        let mut line = serde_json::to_vec(news).expect("news is plain data");
        line.push(b'\n');
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.0, rest, flags) {
                Ok(length) => rest = &rest[length..],
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Whether it went away. It has nothing to say, so that is all that can come.
    fn has_left(&self) -> bool {
        let answer = rustix::net::recv(&self.0, &mut [0; 16], RecvFlags::DONTWAIT);
        !matches!(answer, Ok((1.., _)) | Err(Errno::AGAIN | Errno::INTR))
    }
}

impl AsFd for Launcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The stack on its way up.
#[derive(Debug)]
pub(super) struct Rise {
    launcher: Option<Launcher>,
    /// An instance is not coming, and the core is to be asked for the others.
    ask_again: bool,
    /// The launcher left, and the core is to be told.
    left: bool,
}

impl Rise {
    pub(super) fn new(launcher: Option<Launcher>) -> Rise {
        Rise { launcher, ask_again: false, left: false }
    }
}

/// The last lines that were said, by instances and by lpm, each behind its name as everywhere.
pub(super) fn last_lines(history: &History, width: usize) -> Vec<String> {
    let (lines, _) = history.lines(&|_| true, Some(LAST_LINES));
    let shown = |line: Line| {
        let text: String = String::from_utf8_lossy(&line.text).chars().take(LONGEST).collect();
        format!("{:<width$} | {text}", line.instance)
    };
    lines.into_iter().map(shown).collect()
}

impl Driver {
    /// Begins to wait for the stack to be up.
    pub(super) fn ask_whether_it_rises(&mut self) {
        let Some(rise) = &self.rise else { return };
        if let Some(launcher) = &rise.launcher {
            // Unwatched, a launcher that leaves is not noticed, and the stack comes up all the same.
            let _ = self.watch.add(launcher, EventFlags::IN | EventFlags::RDHUP, Key::launcher());
        }
        self.ask_for(self.core.instances().iter().map(|instance| instance.id).collect());
    }

    fn ask_for(&mut self, instances: Vec<InstanceId>) {
        self.hand_in(Event::Request { client: RISE, request: Request::Start(instances) });
    }

    /// The core's answer.
    pub(super) fn on_rise(&mut self, reply: &Reply) {
        match reply {
            Reply::Done => self.is_up(),
            // Its end is told when it is over.
            Reply::ShuttingDown => {}
            Reply::Superseded | Reply::Failed(_) | Reply::NotRunning(_) => {
                self.rise.iter_mut().for_each(|rise| rise.ask_again = true);
            }
        }
    }

    /// After each fact, when every order that it led to was carried out.
    pub(super) fn go_on_rising(&mut self) {
        let Some(rise) = &mut self.rise else { return };
        let (left, ask_again) = (std::mem::take(&mut rise.left), std::mem::take(&mut rise.ask_again));
        if left {
            return self.hand_in(Event::Request { client: LEFT, request: Request::ShutDown });
        }
        if !ask_again || self.core.is_tearing_down() {
            return;
        }
        let instances = self.core.instances().iter();
        let on_their_way = instances.filter(|instance| {
            instance.state.living().is_some_and(|living| living.progress == Progress::Spawning)
        });
        // With none of them the answer comes at once: the stack is as much up as it can be.
        self.ask_for(on_their_way.map(|instance| instance.id).collect());
    }

    fn is_up(&mut self) {
        if self.core.is_tearing_down() {
            return;
        }
        if self.has_been_left() {
            // Between its leaving and our noticing the last one came up.
            return self.on_launcher();
        }
        let Some(rise) = self.rise.take() else { return };
        self.manager.iter_mut().for_each(|manager| manager.is_up());
        if let Some(launcher) = rise.launcher {
            self.watch.remove(&launcher);
            let pid = rustix::process::getpid().as_raw_pid().unsigned_abs();
            launcher.tell(&News::Up { pid });
        }
    }

    fn has_been_left(&self) -> bool {
        let launcher = self.rise.as_ref().and_then(|rise| rise.launcher.as_ref());
        launcher.is_some_and(Launcher::has_left)
    }

    /// The launcher may have closed its end of the connection.
    pub(super) fn on_launcher(&mut self) {
        if !self.has_been_left() {
            return;
        }
        if let Some(launcher) = self.rise.as_ref().and_then(|rise| rise.launcher.as_ref()) {
            self.watch.remove(launcher);
        }
        if !self.core.is_tearing_down() {
            self.log.say(&self.system, "whoever started this stack left before it was up");
            self.rise.iter_mut().for_each(|rise| rise.left = true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};

    #[test]
    fn news_are_lines_of_json() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let launcher = Launcher::new(ours);
        let all = [
            News::Say("warning: \"x\"\nand more".into()),
            News::Failed { code: 127, lines: vec!["web.1 | cannot start".into()] },
            News::Up { pid: 7 },
        ];
        all.iter().for_each(|news| launcher.tell(news));
        assert!(!launcher.has_left());
        let mut lines = BufReader::new(theirs.try_clone().unwrap()).lines();
        for news in all {
            let line = lines.next().unwrap().unwrap();
            assert_eq!(serde_json::from_str::<News>(&line).unwrap(), news);
        }
        drop((lines, theirs));
        assert!(launcher.has_left());
        launcher.tell(&News::Up { pid: 7 });
    }

    #[test]
    fn a_launcher_that_does_not_read_holds_nobody_up() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let launcher = Launcher::new(ours);
        let long = News::Failed { code: 1, lines: vec!["x".repeat(LONGEST); LAST_LINES] };
        let (done, all_told) = std::sync::mpsc::channel();
        let teller = move || {
            (0..100).for_each(|_| launcher.tell(&long));
            done.send(())
        };
        std::thread::Builder::new().spawn(teller).expect("a thread");
        let told = all_told.recv_timeout(std::time::Duration::from_secs(30));
        assert!(told.is_ok(), "it waits for its launcher to read");
        drop(theirs);
    }
}
