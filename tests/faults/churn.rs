//! A day in an hour: restarts, calls of many clients, reloads, all at once; what lpm holds afterwards is compared
//! with what it held early on.
//!
//! Each measurement is made at rest: every instance runs, no client is connected.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::judge::{ENDS_WITHIN, Problems};
use crate::options::Options;
use crate::program::{Program, looks_until};
use crate::scenario::Scenario;
use crate::stack::Stack;
use crate::trial::{Trial, Verdict};

/// Instances, each restarted by one thread.
const INSTANCES: usize = 8;
/// The first measurement comes after a minute, or after this part of a run that is shorter.
const EARLY: f64 = 0.2;
const MINUTE: Duration = Duration::from_secs(60);
/// The longest that one call may take beside everything else.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// How long lpm is given to let go of what clients needed: a thread of its own goes after ten idle seconds.
const RESTS_WITHIN: Duration = Duration::from_secs(30);
/// How long nothing may change until that counts as rest. A reload is not waited for: what it restarts last may
/// be under way when the last client has left.
const STAYS_FOR: Duration = Duration::from_secs(1);

/// More than this is growth: allocators keep pages, and the history of events fills up to its bound.
const MEMORY_FACTOR: f64 = 1.25;
const MEMORY_SLACK: u64 = 4 << 20;

/// A connection that is just being closed, and threads that answer clients and come and go.
const DESCRIPTORS_SLACK: usize = 4;
const THREADS_SLACK: usize = 2;

/// How much churn.
#[derive(Clone, Copy)]
struct Amount {
    restarts: usize,
    calls: usize,
    clients: usize,
    reloads: usize,
}

/// The trial of this name, `churn/RESTARTS-CALLS-CLIENTS-RELOADS`.
pub fn named(name: &str) -> Option<Trial> {
    let numbers: Vec<usize> =
        name.strip_prefix("churn/")?.split('-').map(str::parse).collect::<Result<_, _>>().ok()?;
    let [restarts, calls, clients, reloads] = numbers[..] else { return None };
    let amount = Amount { restarts, calls, clients, reloads };
    Some(Trial::new(name, move || try_it(amount).unwrap_or_else(Verdict::broken)))
}

/// The trial that is asked for.
pub fn trials(options: &Options) -> Vec<Trial> {
    let Options { restarts, calls, clients, reloads, .. } = options;
    named(&format!("churn/{restarts}-{calls}-{clients}-{reloads}")).into_iter().collect()
}

fn try_it(amount: Amount) -> io::Result<Verdict> {
    let procfile = "w: echo $PS >>began; exec sleep 1000\nn: echo up; exec sleep 1000\n";
    let stack = Scenario::of("churn", "", "[process.w]\nstart-limit-interval = 0\n").stack()?;
    stack.write("Procfile", procfile)?;
    stack.write(".env", "TURN=0\n")?;
    let formation = format!("w={INSTANCES},n=1");
    let mut lpm = Program::start(stack.lpm(&["start", "-t", "5s", "-m", &formation]))?;
    let mut problems = Problems::default();
    if !lpm.sees("| up", ENDS_WITHIN) {
        problems.add("it does not come up");
    }
    let is_socket = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "sock");
    let Some(socket) = stack.files().into_iter().find(is_socket) else {
        return Ok(Verdict::broken("no socket"));
    };
    let churn = Churn { amount, socket: &socket, stack: &stack, done: Default::default() };
    let (early, late) = thread::scope(|scope| {
        let running = churn.begin(scope);
        churn.wait_for_early();
        let early = churn.at_rest(&lpm);
        churn.resume();
        running.into_iter().for_each(|thread| {
            if let Err(error) = thread.join().unwrap_or_else(|_| Err(io::Error::other("it panicked"))) {
                problems.add(format!("a client: {error}"));
            }
        });
        (early, churn.at_rest(&lpm))
    });
    if lpm.ended().is_some() {
        problems.add("the stack ended before it was asked to");
    }
    early.compare(&late, &mut problems);
    lpm.signal(rustix::process::Signal::TERM);
    problems.in_end(lpm.ends(ENDS_WITHIN));
    problems.in_words(&stack, &lpm.text());
    problems.in_what_is_left(&stack);
    let note = format!("early {early:?}, late {late:?}");
    drop(lpm);
    let next = problems.in_next_start(&stack);
    match problems.0.is_empty() {
        true => Ok(Verdict::Passed(Some(note))),
        false => Ok(Verdict::Failed(problems.0, format!("{note}\nnext start:\n{next}"))),
    }
}

/// What lpm holds.
#[derive(Debug, Default)]
struct Held {
    /// Memory of its own (what it has allocated), and with what it shares (the program), bytes.
    anonymous: u64,
    resident: u64,
    descriptors: usize,
    threads: usize,
    cgroups: usize,
}

impl Held {
    fn compare(&self, late: &Held, problems: &mut Problems) {
        let memory = [
            ("anonymous memory", self.anonymous, late.anonymous),
            ("resident memory", self.resident, late.resident),
        ];
        for (what, early, late) in memory {
            if late as f64 > early as f64 * MEMORY_FACTOR + MEMORY_SLACK as f64 {
                problems.add(format!("{what} grew from {early} to {late} bytes"));
            }
        }
        let counts = [
            ("descriptors", self.descriptors + DESCRIPTORS_SLACK, late.descriptors),
            ("threads", self.threads + THREADS_SLACK, late.threads),
            ("cgroups", self.cgroups, late.cgroups),
        ];
        for (what, most, late) in counts {
            if late > most {
                problems.add(format!("{what} grew to {late}, and at most {most} are expected"));
            }
        }
    }
}

/// What is being done, and how much of it is done.
struct Churn<'a> {
    amount: Amount,
    socket: &'a Path,
    stack: &'a Stack,
    done: Done,
}

#[derive(Default)]
struct Done {
    restarts: AtomicUsize,
    calls: AtomicUsize,
    reloads: AtomicUsize,
    /// Threads rest while this is not 0, and are counted here when they do.
    pause: AtomicUsize,
    resting: AtomicUsize,
    over: AtomicUsize,
}

type Running<'scope> = thread::ScopedJoinHandle<'scope, io::Result<()>>;

impl<'a> Churn<'a> {
    fn begin<'scope>(&'scope self, scope: &'scope thread::Scope<'scope, '_>) -> Vec<Running<'scope>> {
        let Amount { restarts, calls, clients, reloads } = self.amount;
        let mut threads = Vec::new();
        for number in 1..=INSTANCES {
            threads.push(scope.spawn(move || {
                self.repeat(&self.done.restarts, restarts, |client, _| client.restart(number))
            }));
        }
        for _ in 0..clients {
            threads.push(scope.spawn(move || self.repeat(&self.done.calls, calls, Client::look)));
        }
        threads.push(scope.spawn(move || {
            self.repeat(&self.done.reloads, reloads, |client, turn| {
                self.stack.write(".env", &format!("TURN={turn}\n"))?;
                client.reload()
            })
        }));
        threads
    }

    /// `what` until all of it is done, by a client that connects anew every hundred times.
    fn repeat(
        &self,
        done: &AtomicUsize,
        all: usize,
        what: impl Fn(&mut Client, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let result = (|| {
            let mut client = None;
            loop {
                if self.done.pause.load(Ordering::SeqCst) != 0 {
                    drop(client.take());
                    self.done.resting.fetch_add(1, Ordering::SeqCst);
                    looks_until(Duration::MAX / 4, || self.done.pause.load(Ordering::SeqCst) == 0);
                    self.done.resting.fetch_sub(1, Ordering::SeqCst);
                }
                // Each kind is spread over the whole run.
                if self.is_ahead(done, all) {
                    thread::sleep(Duration::from_millis(10));
                    continue;
                }
                let turn = done.fetch_add(1, Ordering::SeqCst);
                if turn >= all {
                    return Ok(());
                }
                if turn.is_multiple_of(100) {
                    client = None;
                }
                let connected = match client.take() {
                    Some(connected) => connected,
                    None => Client::connect(self.socket)?,
                };
                what(client.insert(connected), turn)?;
            }
        })();
        self.done.over.fetch_add(1, Ordering::SeqCst);
        result
    }

    /// Whether more of this is done than of the restarts.
    fn is_ahead(&self, done: &AtomicUsize, all: usize) -> bool {
        let restarts = self.done.restarts.load(Ordering::SeqCst);
        // Of restarts none is ahead; one turn of the others is always free.
        restarts < self.amount.restarts
            && done.load(Ordering::SeqCst) * self.amount.restarts > (restarts + 1) * all
    }

    /// Waits for a minute, or until an early part of a short run is done.
    fn wait_for_early(&self) {
        let part = |done: &AtomicUsize, all: usize| done.load(Ordering::SeqCst) as f64 >= all as f64 * EARLY;
        let Amount { restarts, calls, reloads, .. } = self.amount;
        looks_until(MINUTE, || {
            let done = &self.done;
            part(&done.restarts, restarts) && part(&done.calls, calls) && part(&done.reloads, reloads)
        });
        self.done.pause.store(1, Ordering::SeqCst);
        let all = INSTANCES + self.amount.clients + 1;
        looks_until(ANSWERS_WITHIN, || {
            self.done.resting.load(Ordering::SeqCst) + self.done.over.load(Ordering::SeqCst) >= all
        });
    }

    fn resume(&self) {
        self.done.pause.store(0, Ordering::SeqCst);
    }

    /// What lpm holds once it is at rest: every instance runs, and for a while nothing changes.
    fn at_rest(&self, lpm: &Program) -> Held {
        let pid = lpm.pid().as_raw_pid();
        let count = |what: &str| std::fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
        let mut counts = (count("fd"), count("task"));
        let mut since = Instant::now();
        looks_until(RESTS_WITHIN, || {
            thread::sleep(Duration::from_millis(100));
            let now = (count("fd"), count("task"));
            if now != counts || !self.every_instance_runs() {
                (counts, since) = (now, Instant::now());
            }
            since.elapsed() > STAYS_FOR
        });
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let bytes = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) << 10
        };
        Held {
            // Not the proportional size: it grows when another lpm ends.
            anonymous: bytes("Anonymous:"),
            resident: bytes("Rss:"),
            descriptors: counts.0,
            threads: counts.1,
            cgroups: self.stack.cgroups().len(),
        }
    }

    /// Whether lpm says so; it is asked on the side, by a client that leaves before anything is counted.
    fn every_instance_runs(&self) -> bool {
        let Ok(states) = Client::connect(self.socket).and_then(|mut client| client.states()) else {
            return false;
        };
        states.len() == INSTANCES + 1 && states.iter().all(|state| state == "running")
    }
}

/// One connection to the control socket.
struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    fn connect(socket: &Path) -> io::Result<Client> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(ANSWERS_WITHIN))?;
        stream.set_write_timeout(Some(ANSWERS_WITHIN))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    fn send(&mut self, method: &str, parameters: &Value, more: bool) -> io::Result<()> {
        let method = format!("dev.lpm.Supervisor.{method}");
        let mut call = json!({ "method": method, "parameters": parameters, "more": more }).to_string();
        call.push('\0');
        self.stream.get_mut().write_all(call.as_bytes())
    }

    fn receive(&mut self) -> io::Result<Value> {
        let mut bytes = Vec::new();
        self.stream.read_until(0, &mut bytes)?;
        if bytes.pop() != Some(0) {
            return Err(io::Error::other("lpm hung up"));
        }
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// A call, and all its replies; the last one's error.
    fn call(&mut self, method: &str, parameters: &Value, more: bool) -> io::Result<Option<String>> {
        self.send(method, parameters, more)?;
        loop {
            let reply = self.receive()?;
            if reply["continues"] != true {
                return Ok(reply["error"].as_str().map(str::to_owned));
            }
        }
    }

    /// The state of each instance.
    fn states(&mut self) -> io::Result<Vec<String>> {
        self.send("Status", &json!({}), false)?;
        let reply = self.receive()?;
        let instances = reply["parameters"]["instances"].as_array().cloned().unwrap_or_default();
        Ok(instances
            .iter()
            .map(|instance| instance["state"].as_str().unwrap_or_default().to_owned())
            .collect())
    }

    fn restart(&mut self, number: usize) -> io::Result<()> {
        let error = self.call("Restart", &json!({ "names": [format!("w.{number}")] }), false)?;
        accept("Restart", error, &["Superseded"])
    }

    fn reload(&mut self) -> io::Result<()> {
        let error = self.call("Reload", &json!({ "wait": false }), false)?;
        accept("Reload", error, &["Superseded"])
    }

    /// One of the calls that look, by turns.
    fn look(&mut self, turn: usize) -> io::Result<()> {
        let (method, parameters, more) = match turn % 6 {
            0 => ("Status", json!({}), false),
            1 => ("Status", json!({ "names": ["w.1"], "detail": true }), false),
            2 => ("Logs", json!({ "lines": 20 }), true),
            3 => ("Events", json!({}), true),
            4 => ("Metrics", json!({}), false),
            _ => ("Status", json!({ "usage": true }), false),
        };
        let error = self.call(method, &parameters, more)?;
        accept(method, error, &["Unavailable"])
    }
}

/// An error that is not among the harmless ones ends the client.
fn accept(method: &str, error: Option<String>, harmless: &[&str]) -> io::Result<()> {
    match error {
        Some(error) if !harmless.iter().any(|word| error.ends_with(word)) => {
            Err(io::Error::other(format!("{method}: {error}")))
        }
        _ => Ok(()),
    }
}
