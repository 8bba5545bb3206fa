//! Records a run for its report (`--report`): a thread that looks at the stack now and then, as any client would.
//!
//! It looks every [`FIRST`] at the beginning. Whenever there are [`MOST`] looks, every second one is forgotten and the
//! time between them doubled: a run of any length has a picture of the same size. Without a report there is no such
//! thread, and nothing is measured.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use super::look::now_usec;
use crate::config::Stack;
use crate::control::chronicle::{Chronicle, News};
use crate::control::inside::Inside;
use crate::control::interface::{Event, LifeResult, Status, Tier, Usage};
use crate::output::history::{History, Said};
use crate::report::{self, Report, Series, Summary};
use crate::wording::summary::Row;

/// Between two looks, at the beginning.
const FIRST: Duration = Duration::from_millis(200);

/// How long the last look may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How many looks are kept.
const MOST: usize = 600;

/// How many events are kept.
const MOST_EVENTS: usize = 10_000;

/// The thread that looks.
pub(super) struct Recorder {
    stop: Sender<()>,
    record: Receiver<Record>,
}

/// What it has seen.
struct Record {
    history: Option<Arc<History>>,
    chronicle: Arc<Chronicle>,
    next_event: u64,
    began: u64,
    interval: Duration,
    times: Vec<u64>,
    total: Series,
    instances: Vec<(String, Series)>,
    places: HashMap<String, usize>,
    events: VecDeque<Event>,
    missed: u64,
}

/// What is told about the run that only its end knows.
pub(super) struct Ended<'a> {
    pub stack: &'a Stack,
    pub tier: &'a Tier,
    pub exit_code: u8,
    pub rows: &'a [Row<'a>],
}

impl Recorder {
    /// Starts it. It looks once it is given the way to the loop.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(
        inside: Receiver<Inside>,
        history: Option<Arc<History>>,
        chronicle: Arc<Chronicle>,
    ) -> io::Result<Recorder> {
        let (stop, stopped) = channel();
        let (give, taken) = channel();
        let mut record = Record {
            history,
            next_event: chronicle.oldest(),
            chronicle,
            began: now_usec(),
            interval: FIRST,
            times: Vec::new(),
            total: Series::default(),
            instances: Vec::new(),
            places: HashMap::new(),
            events: VecDeque::new(),
            missed: 0,
        };
        let run = move || {
            // An error: it never came so far.
            if let Ok(inside) = inside.recv() {
                record.follow(&inside, &stopped);
            }
            record.gather();
            // An error: nobody waits any more.
            let _ = give.send(record);
        };
        thread::Builder::new().name("lpm-report".to_owned()).stack_size(512 << 10).spawn(run)?;
        Ok(Recorder { stop, record: taken })
    }

    /// Ends it. The report has an instance for each row. `None`: it hangs in a look at a cgroup.
    pub fn finish(self, ended: &Ended<'_>) -> Option<Report> {
        let now = now_usec();
        drop(self.stop);
        let record = self.record.recv_timeout(PATIENCE).ok()?;
        Some(record.report(ended, now))
    }
}

impl Record {
    fn follow(&mut self, inside: &Inside, stopped: &Receiver<()>) {
        loop {
            self.gather();
            let Some(status) = inside.status() else { return };
            self.look(&status);
            if stopped.recv_timeout(self.interval) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Takes the events that have happened.
    fn gather(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match self.chronicle.poll(&mut self.next_event, &mut context) {
                Poll::Ready(News::Event(event)) => self.events.push_back((*event).clone()),
                Poll::Ready(News::Missed(missed)) => self.missed += missed,
                Poll::Ready(News::End) | Poll::Pending => return,
            }
            if self.events.len() > MOST_EVENTS {
                self.events.pop_front();
                self.missed += 1;
            }
        }
    }

    fn look(&mut self, status: &Status) {
        if self.times.len() >= MOST {
            self.forget_every_second();
        }
        let looks = self.times.len();
        self.times.push(now_usec());
        let said = self.said();
        put(&mut self.total, looks, Some(&status.stack.usage), said.values().map(|said| said.lines).sum());
        for one in &status.instances {
            let place = *self.places.entry(one.name.clone()).or_insert_with(|| {
                self.instances.push((one.name.clone(), Series::default()));
                self.instances.len() - 1
            });
            // What is told of one that does not run is what all its lives have used.
            let runs = one.pid.is_some().then_some(&one.usage);
            let lines = said.get(one.name.as_str()).map_or(0, |said| said.lines);
            put(&mut self.instances[place].1, looks, runs, lines);
        }
    }

    fn said(&self) -> HashMap<String, Said> {
        let said = self.history.as_ref().map(|history| history.said()).unwrap_or_default();
        said.into_iter().map(|(name, said)| (name.to_string(), said)).collect()
    }

    fn forget_every_second(&mut self) {
        fn thin<T: Clone>(values: &mut Vec<T>) {
            *values = values.iter().skip(1).step_by(2).cloned().collect();
        }
        let looks = self.times.len();
        thin(&mut self.times);
        for series in self.instances.iter_mut().map(|(_, series)| series).chain([&mut self.total]) {
            fill(series, looks);
            thin(&mut series.memory);
            thin(&mut series.cpu_usec);
            thin(&mut series.tasks);
            thin(&mut series.lines);
        }
        self.interval *= 2;
    }

    fn report(mut self, ended: &Ended<'_>, now: u64) -> Report {
        // Its thread may have gone before the last of them happened: nobody is answered any more at the end.
        self.gather();
        let said = self.said();
        let looks = self.times.len();
        fill(&mut self.total, looks);
        let instance = |row: &Row<'_>| {
            let spec = ended.stack.instances.iter().find(|one| one.name == row.name);
            let process = spec.map(|spec| &ended.stack.processes[spec.process]);
            let mut series = self.places.get(row.name).map(|&place| self.instances[place].1.clone());
            fill(series.get_or_insert_default(), looks);
            let said = said.get(row.name).copied().unwrap_or_default();
            report::Instance {
                name: row.name.to_owned(),
                process: process.map(|process| process.name.clone()).unwrap_or_default(),
                command: process.map(|process| process.text.clone()).unwrap_or_default(),
                ceilings: spec.map(|spec| (&spec.ceilings).into()).unwrap_or_default(),
                series: series.unwrap_or_default(),
                summary: Summary {
                    result: row.outcome.map(LifeResult::from),
                    ended: row.ended.clone(),
                    failure: row.failure.clone(),
                    starts: row.starts,
                    restarts: row.restarts,
                    leftovers: row.leftovers,
                    cpu_usec: row.cpu_usec,
                    memory_peak: row.memory_peak,
                    oom_kills: row.oom_kills,
                    lines: said.lines,
                    bytes: said.bytes,
                },
            }
        };
        Report {
            version: 1,
            stack: ended.stack.name.clone(),
            lpm: env!("CARGO_PKG_VERSION").to_owned(),
            tier: ended.tier.clone(),
            began: self.began,
            ended: now.max(self.began),
            exit_code: ended.exit_code,
            ceilings: (&ended.stack.ceilings).into(),
            instances: ended.rows.iter().map(instance).collect(),
            total: self.total,
            times: self.times,
            events: self.events.into(),
            events_missed: self.missed,
        }
    }
}

/// Adds a look to a series that may have missed some before it.
fn put(series: &mut Series, looks: usize, usage: Option<&Usage>, lines: u64) {
    fill(series, looks);
    series.memory.push(usage.and_then(|usage| usage.memory_current));
    series.cpu_usec.push(usage.and_then(|usage| usage.cpu_usec));
    series.tasks.push(usage.and_then(|usage| usage.tasks));
    series.lines.push(lines);
}

fn fill(series: &mut Series, looks: usize) {
    series.memory.resize(looks, None);
    series.cpu_usec.resize(looks, None);
    series.tasks.resize(looks, None);
    let last = series.lines.last().copied().unwrap_or(0);
    series.lines.resize(looks, last);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Machine, Options, Sources, Text, load};
    use crate::control::interface::EventKind;

    fn record() -> Record {
        Record {
            history: None,
            chronicle: Arc::default(),
            next_event: 0,
            began: 0,
            interval: FIRST,
            times: Vec::new(),
            total: Series::default(),
            instances: vec![("late.1".to_owned(), Series::default())],
            places: HashMap::from([("late.1".to_owned(), 0)]),
            events: VecDeque::new(),
            missed: 0,
        }
    }

    #[test]
    fn a_long_run_is_kept_in_as_many_looks_as_a_short_one() {
        let mut record = record();
        for look in 0..2000u64 {
            if record.times.len() >= MOST {
                record.forget_every_second();
            }
            let looks = record.times.len();
            record.times.push(look);
            let usage = Usage { memory_current: Some(look), ..Usage::default() };
            put(&mut record.total, looks, Some(&usage), look);
            if look >= 1500 {
                put(&mut record.instances[0].1, looks, Some(&usage), look);
            }
        }
        assert!((MOST / 2..=MOST).contains(&record.times.len()), "{}", record.times.len());
        // At the first 600, and at every 300 after that.
        assert_eq!(record.interval, FIRST * 32);
        // What belongs together stays together.
        let memory: Vec<u64> = record.total.memory.iter().flatten().copied().collect();
        assert_eq!((memory, record.total.lines.clone()), (record.times.clone(), record.times.clone()));
        let late = &record.instances[0].1;
        let from = late.memory.iter().position(Option::is_some).expect("it came");
        assert!(record.times[from] >= 1500 && late.memory[from] == Some(record.times[from]), "{late:?}");
        assert_eq!(late.memory.len(), record.times.len());
    }

    #[test]
    fn what_happens_after_the_last_look_is_in_the_report() {
        let chronicle = Arc::<Chronicle>::default();
        let (never, inside) = channel();
        let recorder = Recorder::start(inside, None, Arc::clone(&chronicle)).expect("a thread");
        // Its thread has nothing to look at, and is gone before anything happens.
        drop(never);
        let record = recorder.record.recv().expect("it says what it has seen");
        chronicle.write(chronicle.number(), Event { event: EventKind::Ended, ..event() });
        let sources = Sources {
            procfile: Text::new("Procfile", "web: true"),
            env_files: Vec::new(),
            manifest: None,
            environment: Vec::new(),
            root: "/".into(),
            options: Options::default(),
            machine: Machine { memory: 1 << 30, cpus: 1, pid_max: 1000 },
            socket: None,
        };
        let stack = load(&sources).expect("a stack").stack;
        let ended = Ended { stack: &stack, tier: &Tier::Full, exit_code: 0, rows: &[] };
        let report = record.report(&ended, now_usec());
        assert_eq!(
            report.events.iter().map(|event| event.event.clone()).collect::<Vec<_>>(),
            [EventKind::Ended]
        );
    }

    fn event() -> Event {
        Event {
            sequence: 0,
            time: 0,
            event: EventKind::Started,
            instance: None,
            message: String::new(),
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
}
