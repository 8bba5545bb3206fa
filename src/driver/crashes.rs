//! Why instances failed, for those who did not watch.
//!
//! The core remembers the bare facts of each instance's last failure. What it cannot know is kept here, one record for
//! an instance at most, made only when one fails:
//!
//! | what | taken | because |
//! | --- | --- | --- |
//! | the cause in words | at the failure | ceilings and limits may be other ones later |
//! | its last lines, and the error in them | at the failure | the next life pushes them out of the history |
//! | names near a missing command | when somebody asks, and at the end | directories are read for it |
//!
//! **The lines come late.** A life's last lines are in its pipe when its end is known, and whoever reads them, the log
//! thread, may stand before a terminal that nobody reads. So it is asked to say when it has come so far
//! ([`Notice::Reached`](crate::output::Notice::Reached)), and the record is completed then. Until then the event that
//! tells of the end is held, and with it those that come after it, for they are told in order; after
//! [`PATIENCE`] they are told as they are. Supervision waits for none of this.
//!
//! Lives are told apart by marks in the history ([`History::of_life`](crate::output::history::History::of_life)); the
//! times of lines are the wall clock's, which may be set.
//!
//! **Bounds**: [`LINES`] lines of [`LONGEST`] bytes each for an instance, [`MOST_HELD`] events, one question to the
//! log thread for an instance. Where no history is kept (`lpm run`) there is no record.
//!
//! Nothing of the environment is told; `PATH` says where to look, and names of programs are all that comes of it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Driver;
use super::terms::{Wall, exit_code, signal, usec};
use crate::config::Stack;
use crate::config::error::nearness;
use crate::control::interface;
use crate::meaning::trace::{self, LONGEST, Trace};
use crate::output::history::{EventId, Line};
use crate::supervisor::{Announcement, Broken, Crash, Exit, InstanceId, Life, Next};
use crate::wording::cause::{self, Cause};

/// How many of its last lines are kept of a life that failed.
const LINES: usize = 20;

/// In how many an error is looked for: some print a line for each of many frames.
const SEARCHED: usize = 200;

/// How long an event is held for the lines that belong to it.
const PATIENCE: Duration = Duration::from_millis(500);

/// How many events are held at most.
const MOST_HELD: usize = 64;

/// How many names are told of those that are near a missing command.
const NEAREST: usize = 3;

/// The most directories, and names in each, that are looked through for them.
const MOST_DIRECTORIES: usize = 64;
const MOST_NAMES: usize = 20_000;

/// What is kept of failures, and what waits for it.
#[derive(Default)]
pub(super) struct Crashes {
    /// By place.
    records: HashMap<usize, Record>,
    /// Which places the log thread was asked about, and for which of their lives.
    asked: HashMap<usize, u32>,
    held: VecDeque<Held>,
    /// When what is held is told as it is.
    pub(super) due: Option<Duration>,
}

/// The last failure of an instance.
struct Record {
    invocation: u32,
    /// As which it was ordered.
    stack: Arc<Stack>,
    cause: Cause,
    trace: Option<Trace>,
    lines: Vec<Line>,
    /// Its lines were looked for.
    complete: bool,
}

struct Held {
    id: EventId,
    event: interface::Event,
    /// Whose last lines it waits for.
    awaits: Option<Life>,
}

/// An instance that failed, for the end of a run.
#[derive(Debug)]
pub struct Failed {
    /// `web.1`.
    pub name: String,
    /// The text of the Procfile.
    pub command: String,
    /// How.
    pub failure: Found,
}

/// How a life failed, but for what must be looked for.
#[derive(Debug)]
pub struct Found {
    failure: interface::Failure,
    search: Option<Search>,
}

impl Found {
    /// Whether something must be looked for.
    pub(super) fn may_wait(&self) -> bool {
        self.search.is_some()
    }

    /// What ended it, in words.
    pub fn cause(&self) -> &str {
        &self.failure.cause
    }

    /// Looks for it, in directories.
    pub fn look(self) -> interface::Failure {
        let nearest = self.search.as_ref().map_or_else(Vec::new, Search::nearest);
        interface::Failure { nearest, ..self.failure }
    }
}

/// Where to look for names that are near one.
#[derive(Debug)]
struct Search {
    name: String,
    /// As it was given, up to the name: `./bin/`.
    before: String,
    directories: Vec<PathBuf>,
    working_directory: PathBuf,
}

impl Driver {
    /// Begins the record of a life that has just failed; `None` if it has not. To be called before anything else is
    /// said of it.
    pub(super) fn note_crash(&mut self, announcement: &Announcement) -> Option<Life> {
        let life = match announcement {
            Announcement::Ended { life, .. }
            | Announcement::CannotStart { life, .. }
            | Announcement::Killing { life, .. }
            | Announcement::GivenUp { life } => *life,
            _ => return None,
        };
        let place = life.instance.0 as usize;
        self.history.as_ref()?;
        let crash = self.crash(place, life.invocation)?;
        match announcement {
            // Only what it left behind is being killed; it had failed before.
            Announcement::Killing { .. } if crash.how != Broken::NotStopped => return None,
            Announcement::GivenUp { .. } if crash.how != Broken::NotKilled => return None,
            _ => {}
        }
        // The next life may have been ordered already, but it has not been born.
        let stack = Arc::clone(self.born[place].as_ref().unwrap_or(&self.stack));
        let record = Record {
            invocation: life.invocation,
            cause: cause::cause(crash, &stack.instances[place], &stack, None),
            stack,
            trace: None,
            lines: Vec::new(),
            complete: matches!(announcement, Announcement::CannotStart { .. }),
        };
        self.crashes.records.insert(place, record);
        Some(life)
    }

    fn crash(&self, place: usize, invocation: u32) -> Option<&Crash> {
        let crash = self.core.instances()[place].ledger.crash.as_ref();
        crash.filter(|crash| crash.invocation == invocation)
    }

    /// Asks the log thread to say when it has read all that this life had said; to be called after it was told to
    /// settle its sources.
    pub(super) fn ask_for_last_words(&mut self, life: Life) {
        let place = life.instance.0 as usize;
        // One question at a time: nobody may answer for long.
        if let Entry::Vacant(question) = self.crashes.asked.entry(place) {
            question.insert(life.invocation);
            self.log.mark(u64::from(life.instance.0));
        }
    }

    /// The log thread has read what it was asked about.
    pub(super) fn on_reached(&mut self, token: u64) {
        let place = token as usize;
        let Some(asked) = self.crashes.asked.remove(&place) else { return };
        let Some(invocation) = self.crashes.records.get(&place).map(|record| record.invocation) else {
            return;
        };
        if invocation != asked {
            // Another life has failed meanwhile, and its lines were behind the mark.
            return self.ask_for_last_words(Life { instance: InstanceId(place as u32), invocation });
        }
        self.take_last_words(place);
        let record = &self.crashes.records[&place];
        let life = Life { instance: InstanceId(place as u32), invocation };
        for held in self.crashes.held.iter_mut().filter(|held| held.awaits == Some(life)) {
            held.awaits = None;
            held.event.cause = Some(record.cause.words.clone());
            held.event.trace = record.trace.as_ref().map(told_trace);
        }
        self.tell_held();
    }

    /// Completes a record from the history.
    fn take_last_words(&mut self, place: usize) {
        let name = &self.stack.instances[place].name;
        let Some(history) = &self.history else { return };
        let Some(crash) = self.core.instances()[place].ledger.crash.as_ref() else { return };
        let Some(record) = self.crashes.records.get_mut(&place) else { return };
        let mut lines = history.of_life(name, crash.invocation, SEARCHED);
        record.trace = trace::find(lines.iter().map(|line| line.text.as_slice()));
        if crash.how == Broken::Exited(Exit::Code(127)) {
            let missing = trace::missing_command(lines.iter().map(|line| line.text.as_slice()));
            record.cause = cause::cause(crash, &record.stack.instances[place], &record.stack, missing);
        }
        lines.drain(..lines.len().saturating_sub(LINES));
        lines.iter_mut().for_each(cut);
        (record.lines, record.complete) = (lines, true);
    }

    /// Tells an event, in its turn, and returns its number. `awaits`: whose last lines belong to it.
    pub(super) fn write_event(&mut self, event: interface::Event, awaits: Option<Life>) -> EventId {
        let id = self.calls.chronicle.number();
        if awaits.is_none() && self.crashes.held.is_empty() {
            self.calls.chronicle.write(id, event);
            return id;
        }
        if self.crashes.held.is_empty() {
            self.crashes.due = Some(self.clock.now() + PATIENCE);
        }
        self.crashes.held.push_back(Held { id, event, awaits });
        if self.crashes.held.len() > MOST_HELD {
            self.tell_all_held();
        }
        id
    }

    /// The events whose turn it is.
    fn tell_held(&mut self) {
        let first = |held: &VecDeque<Held>| held.iter().take_while(|held| held.awaits.is_none()).count();
        for held in self.crashes.held.drain(..first(&self.crashes.held)).collect::<Vec<_>>() {
            self.calls.chronicle.write(held.id, held.event);
        }
        if self.crashes.held.is_empty() {
            self.crashes.due = None;
        }
    }

    /// All of them, as they are.
    pub(super) fn tell_all_held(&mut self) {
        self.crashes.held.iter_mut().for_each(|held| held.awaits = None);
        self.tell_held();
    }

    /// The cause in words, for the event that tells of the end.
    pub(super) fn cause_of(&self, life: Life) -> Option<String> {
        let record = self.crashes.records.get(&(life.instance.0 as usize))?;
        (record.invocation == life.invocation).then(|| record.cause.words.clone())
    }

    /// How the last of its lives failed that did. `detail`: with lines, and with what may be looked for.
    pub(super) fn failure(&self, place: usize, wall: Wall, detail: bool) -> Option<Found> {
        let record = self.crashes.records.get(&place)?;
        let crash = self.crash(place, record.invocation)?;
        let exit = match crash.how {
            Broken::Exited(exit) => Some(exit),
            Broken::NotStarted(_) | Broken::NotStopped | Broken::NotKilled => None,
        };
        let delay = match crash.next {
            Next::Restart { delay } => Some(delay),
            Next::Rest | Next::StackEnds => None,
        };
        let failure = interface::Failure {
            invocation: crash.invocation,
            started: wall.of(crash.started),
            time: wall.of(crash.at),
            pid: crash.pid,
            result: crash.outcome.into(),
            exit_code: exit_code(exit),
            signal: signal(exit),
            core_dumped: matches!(exit, Some(Exit::Signal { core: true, .. })),
            cause: record.cause.words.clone(),
            notes: record.cause.notes.clone(),
            restarts: crash.restarts,
            leftovers: crash.left,
            next: crash.next.into(),
            restart_delay: delay.map(usec),
            missing: record.cause.missing.clone(),
            nearest: Vec::new(),
            trace: record.trace.as_ref().map(told_trace),
            lines: if detail { record.lines.iter().cloned().map(Into::into).collect() } else { Vec::new() },
        };
        let missing = record.cause.missing.as_ref().filter(|_| detail);
        let search = missing.map(|name| Search::new(name, &record.stack, place));
        Some(Found { failure, search })
    }

    /// Those whose last life failed: whoever ended the stack, then the others in the order of their ends.
    pub(super) fn failed(&mut self) -> Vec<Failed> {
        self.tell_all_held();
        let late: Vec<usize> =
            self.crashes.records.iter().filter(|(_, one)| !one.complete).map(|(place, _)| *place).collect();
        late.into_iter().for_each(|place| self.take_last_words(place));
        let wall = self.wall();
        let instances = self.core.instances().iter().filter(|instance| instance.has_crashed());
        let mut crashed: Vec<_> = instances
            .filter_map(|instance| Some((instance.id.0 as usize, instance.ledger.crash.as_ref()?)))
            .collect();
        crashed.sort_by_key(|(_, crash)| (crash.next != Next::StackEnds, crash.at));
        let failed = |(place, _): (usize, &Crash)| {
            let failure = self.failure(place, wall, true)?;
            let of = &self.stack.instances[place];
            let command = self.stack.processes[of.process].text.clone();
            Some(Failed { name: of.name.clone(), command, failure })
        };
        crashed.into_iter().filter_map(failed).collect()
    }
}

fn told_trace(trace: &Trace) -> interface::Trace {
    interface::Trace {
        language: trace.language.to_owned(),
        message: trace.message.clone(),
        location: trace.location.clone(),
    }
}

/// Cuts a line to what is kept of it, with a mark.
fn cut(line: &mut Line) {
    // What goes on is behind the mark, or in the next one.
    line.continues = false;
    if line.text.len() > LONGEST {
        let is_inside = |at: usize| line.text[at] & 0b1100_0000 == 0b1000_0000;
        // A character has four bytes at most; where there are more of them this is none.
        let end = (LONGEST - 3..=LONGEST).rev().find(|&at| !is_inside(at)).unwrap_or(LONGEST);
        line.text.truncate(end);
        line.text.extend_from_slice("…".as_bytes());
    }
}

impl Search {
    fn new(missing: &str, stack: &Stack, place: usize) -> Search {
        let instance = &stack.instances[place];
        let own = instance.environment.iter().rev().chain(stack.environment.iter().rev());
        let path = own.filter(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str()).next();
        let (before, name) = match missing.rsplit_once('/') {
            Some((directory, name)) => (format!("{directory}/"), name),
            None => (String::new(), missing),
        };
        let directories = match before.is_empty() {
            true => std::env::split_paths(path.unwrap_or(OsStr::new(""))).collect(),
            false => vec![PathBuf::from(&before)],
        };
        Search {
            name: name.to_owned(),
            before,
            directories,
            working_directory: instance.working_directory.clone(),
        }
    }

    /// The programs whose names are nearest.
    fn nearest(&self) -> Vec<String> {
        let mut near: Vec<(usize, String)> = Vec::new();
        for directory in self.directories.iter().take(MOST_DIRECTORIES) {
            let directory = self.working_directory.join(directory);
            let names = programs(&directory, |name| nearness(&self.name, name));
            near.extend(names.into_iter().map(|(far, name)| (far, format!("{}{name}", self.before))));
        }
        if self.before.is_empty() {
            // PATH does not lead there, and that is easily forgotten.
            let here = programs(&self.working_directory, |name| (name == self.name).then_some(0));
            near.extend(here.into_iter().map(|(far, name)| (far, format!("./{name}"))));
        }
        near.sort();
        near.dedup();
        near.into_iter().take(NEAREST).map(|(_, name)| name).collect()
    }
}

/// The programs in a directory that are near enough, and how far they are.
fn programs(directory: &Path, far: impl Fn(&str) -> Option<usize>) -> Vec<(usize, String)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().take(MOST_NAMES);
    let program = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let far = far(&name)?;
        let about = std::fs::metadata(entry.path()).ok()?;
        (about.is_file() && about.permissions().mode() & 0o111 != 0).then_some((far, name))
    };
    entries.filter_map(program).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Stream;
    use crate::output::history::Origin;

    fn said(text: impl Into<Vec<u8>>) -> Line {
        Line {
            sequence: 1,
            time_usec: 1,
            instance: "web.1".into(),
            origin: Origin::Instance(Stream::Merged),
            text: text.into(),
            continues: false,
        }
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let cut = |text: &str| {
            let mut line = Line { continues: true, ..said(text) };
            super::cut(&mut line);
            assert!(!line.continues);
            String::from_utf8(line.text).expect("no character is cut in two")
        };
        assert_eq!(cut(&"x".repeat(LONGEST)), "x".repeat(LONGEST));
        assert_eq!(cut(&"x".repeat(LONGEST + 1)), format!("{}…", "x".repeat(LONGEST)));
        assert_eq!(cut(&format!("x{}", "ü".repeat(LONGEST))), format!("x{}…", "ü".repeat(LONGEST / 2 - 1)));
        let mut binary = said(vec![0x80; LONGEST + 9]);
        super::cut(&mut binary);
        assert_eq!(binary.text.len(), LONGEST + "…".len());
    }

    #[test]
    fn programs_near_a_missing_one_are_found() {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, mode) in [("gunicorn", 0o755), ("gunicorn3", 0o755), ("gunicrn", 0o644), ("redis", 0o755)]
        {
            let path = directory.path().join(name);
            std::fs::write(&path, "").expect("a file");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("it is ours");
        }
        let search = |name: &str, before: &str, directories: &[&str]| Search {
            name: name.into(),
            before: before.into(),
            directories: directories.iter().map(PathBuf::from).collect(),
            working_directory: directory.path().into(),
        };
        let here = directory.path().to_str().expect("UTF-8");
        assert_eq!(search("gunicor", "", &[here]).nearest(), ["gunicorn", "gunicorn3"]);
        assert_eq!(search("redsi", "./", &["./"]).nearest(), ["./redis"]);
        assert_eq!(search("redis", "", &["/no/such/place"]).nearest(), ["./redis"]);
        assert_eq!(search("postgres", "", &[here]).nearest(), [""; 0]);
    }
}
