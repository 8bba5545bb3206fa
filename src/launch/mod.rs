//! From what was typed to a stack that runs: the steps that the commands share.
//!
//! The order is the promise: all text is read and judged, then the ground is surveyed and every ceiling held
//! against it, then the stack is claimed, and only then is anything made that would have to be taken away
//! again. What was made goes in the reverse order, whatever happened in between.

pub mod gather;
pub mod ground;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::Resource;

use crate::claim::{self, Claim, Found, Identity, Record};
use crate::cli::Origins;
use crate::config::{self, Diagnostic, Severity, Stack};
use crate::driver::{self, Setup};
use crate::error::Error;
use crate::linux::guardian::Guardian;
use crate::linux::tier::{Place, Tier, Tree};
use crate::linux::{descendants, scope, signals};
use crate::output::summary::{self, Row, Summary};
use crate::output::{Layout, announce};
use crate::supervisor::{Ending, policy};
use gather::{Asked, Surroundings};

/// A stack whose text is valid.
#[derive(Debug)]
pub struct Loaded {
    /// What to run.
    pub stack: Stack,
    /// The Procfile's absolute path, or `-`.
    pub procfile: PathBuf,
    /// Standard input as far as it was read, to be handed on if lpm executes itself again.
    pub stdin: Option<Vec<u8>>,
}

/// How it is to be shown.
#[derive(Debug)]
pub struct Plan {
    /// No summary.
    pub quiet: bool,
    /// A pipe of its own for standard error.
    pub split_stderr: bool,
    /// Where the summary goes as JSON.
    pub summary: Option<PathBuf>,
    /// How lines look.
    pub layout: Layout,
}

/// Reads and judges the text; warnings go to standard error.
///
/// # Errors
/// Everything that is wrong, located.
pub fn load(around: &Surroundings, asked: Asked<'_>, origins: &Origins) -> Result<Loaded, Error> {
    let gathered = gather::gather(around, asked, origins)?;
    let loaded = config::load(&gathered.sources).map_err(|problems| refused(&problems))?;
    for warning in loaded.warnings.iter().filter(|problem| problem.severity == Severity::Warning) {
        eprintln!("lpm: {warning}");
    }
    let stdin = (gathered.procfile == Path::new("-")).then_some(gathered.sources.procfile.bytes);
    Ok(Loaded { stack: loaded.stack, procfile: gathered.procfile, stdin })
}

/// Every error, and the warnings with them: they often say why.
pub fn refused(problems: &[Diagnostic]) -> Error {
    Error::several(problems.iter().filter(|problem| problem.severity != Severity::Note))
}

/// Runs a stack to its end.
///
/// # Errors
/// Whatever stands in the way before the first process is started. Nothing is left behind then.
pub fn start(around: &Surroundings, loaded: Loaded, plan: Plan) -> Result<Ending, Error> {
    let Loaded { stack, procfile, stdin } = loaded;
    if stack.instances.is_empty() {
        return Err(Error::new("nothing to start: the formation leaves no instance"));
    }
    let decision = ground::survey(around)?;
    let mut preface = ground::hold(&stack, &ground::lacks(&stack, &decision))?;
    let summary_file = plan.summary.as_ref().map(|path| open_summary(around, path)).transpose()?;

    let mut place = decision.place.clone();
    if let Place::Scope { user } = place {
        // Returns only if it could not be done; the stack can run all the same, only less well.
        let error = scope::execute_again(&around.argv, &around.environment, &stack.name, user, stdin.as_deref());
        preface.push(format!("warning: no scope of its own: {error}"));
        place = Place::Nothing;
    }
    let identity = Identity { root: &stack.root, procfile: &procfile, name: &stack.name };
    let slug = identity.slug();
    let claim = take_claim(around, &slug, &stack.name, &mut preface)?;
    descendants::become_subreaper().map_err(|error| Error::new(format!("subreaper: {error}")))?;

    let mut tree = grow(&place, &slug)?;
    let (tier, lacks) = match &tree {
        Some(tree) => (decision.tier, ground::lacks_in(&stack, tree.enabled(), tree.refused())),
        None => (Tier::None, Vec::new()),
    };
    let held = ground::hold(&stack, &lacks);
    if let Err(error) = held {
        uproot(tree.as_mut());
        return Err(error);
    }
    if tier == Tier::None {
        let why = decision.obstacle.as_ref().map_or(String::new(), |obstacle| format!(" ({})", obstacle.reason));
        preface.push(format!("no cgroups here{why}: no ceilings, and containment is best effort; see lpm doctor"));
    }
    preface.extend(ports(&stack));

    match raise(around, &stack, &plan, tree.as_mut(), claim, preface) {
        Ok((run, leftover)) => {
            let rows: Vec<Row<'_>> = run.core.instances().iter().map(|i| Row::new(&stack, i)).collect();
            if let Some(trouble) = leftover {
                eprintln!("lpm: {trouble}");
            }
            if run.strays > 0 {
                eprintln!("lpm: {} found outside every cgroup of the stack, killed", announce::processes(run.strays));
            }
            if !plan.quiet {
                let _ = write_table(&rows);
            }
            if let Some((file, path)) = summary_file {
                let exit_code = match run.ending {
                    Ending::Code(code) => code,
                    Ending::Signal(signal) => policy::signal_code(signal),
                };
                let tier = tier.to_string();
                let summary = Summary {
                    stack: &stack.name,
                    tier: &tier,
                    seconds: run.took.as_secs_f64(),
                    exit_code,
                    strays: run.strays,
                    instances: rows,
                };
                if let Err(error) = serde_json::to_writer_pretty(&file, &summary) {
                    eprintln!("lpm: {}: cannot be written: {error}", path.display());
                }
            }
            Ok(run.ending)
        }
        Err(error) => {
            uproot(tree.as_mut());
            Err(Error::new(format!("cannot start: {error}")))
        }
    }
}

/// Everything that has to be taken away again, from the guardian to the last cgroup.
fn raise(
    around: &Surroundings,
    stack: &Stack,
    plan: &Plan,
    mut tree: Option<&mut Tree>,
    claim: Option<Claim>,
    preface: Vec<String>,
) -> std::io::Result<(driver::Run, Option<String>)> {
    if let Some(claim) = &claim {
        claim.record(&record(tree.as_deref()))?;
    }
    if let Some(tree) = tree.as_deref() {
        for setting in driver::ceilings::settings(&stack.ceilings) {
            // Under best-effort that was said already.
            let _ = tree.app().write(setting.file, &setting.value);
        }
    }
    let guardian = tree.as_deref().map(Guardian::spawn).transpose()?;
    let app = tree.as_deref().map(|tree| tree.app().try_clone()).transpose()?;
    let setup = Setup {
        stack: Arc::new(stack.clone()),
        memory: tree.as_deref().is_some_and(|tree| tree.enabled().iter().any(|name| name == "memory")),
        app,
        guardian,
        stdout: rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?,
        layout: plan.layout,
        streams: driver::Streams::Pipes { split_stderr: plan.split_stderr },
        voice: driver::Voice::Stack,
        terminal: has_terminal(),
        ignore_hangup: signals::is_ignored(libc::SIGHUP),
        open_files: raise_open_files(),
        preface,
    };
    let _ = around;
    let mut run = driver::run(setup)?;
    let mut trouble = None;
    if let Some(guardian) = run.guardian.take() {
        guardian.dismiss();
    }
    if let Some(tree) = tree.as_mut() {
        if let Err(errno) = tree.leave() {
            let why = std::io::Error::from(errno);
            trouble = Some(format!("{}: cannot be removed: {why}", tree.path().display()));
        }
    }
    drop(claim);
    Ok((run, trouble))
}

fn take_claim(
    around: &Surroundings,
    slug: &str,
    name: &str,
    preface: &mut Vec<String>,
) -> Result<Option<Claim>, Error> {
    let (directory, path) = match claim::runtime_directory(around.variable("XDG_RUNTIME_DIR")) {
        Ok(found) => found,
        Err(problem) => {
            preface.push(format!("warning: {problem}; a second start of this stack will not be noticed"));
            return Ok(None);
        }
    };
    match Claim::take(directory, slug) {
        Ok(Found::Free(claim)) => Ok(Some(claim)),
        Ok(Found::Abandoned(claim, record)) => {
            preface.extend(recover(&record));
            Ok(Some(claim))
        }
        Ok(Found::Held(owner)) => {
            let who = owner.map_or(String::new(), |owner| format!(" as pid {}, since {}", owner.pid, ago(owner.since)));
            Err(Error::new(format!("stack {name} runs already{who}; stop that one first, or give this one a --name")))
        }
        Err(error) => {
            let text = format!("warning: {}: {error}; a second start of this stack will not be noticed", path.display());
            preface.push(text);
            Ok(None)
        }
    }
}

/// Cleans up after a run that could not: both lpm and its guardian were killed.
fn recover(record: &Record) -> Option<String> {
    let path = record.cgroup.as_ref().filter(|_| record.boot == boot_id())?;
    let ended = Tree::remove_abandoned(path).ok()??;
    Some(format!("cleaned up after pid {}, which was killed: {} ended", record.pid, announce::processes(ended)))
}

fn grow(place: &Place, slug: &str) -> Result<Option<Tree>, Error> {
    const WANTED: [&str; 3] = ["memory", "cpu", "pids"];
    let pid = rustix::process::getpid().as_raw_pid();
    let tree = match place {
        Place::Delegated(path) => Tree::delegated(path, &WANTED),
        Place::OwnDirectory(parent) => Tree::own_directory(parent, &format!("lpm-{slug}-{pid}"), &WANTED),
        Place::Scope { .. } | Place::Nothing => return Ok(None),
    };
    tree.map(Some).map_err(|trouble| Error::new(format!("cannot make a cgroup: {trouble}")))
}

fn uproot(tree: Option<&mut Tree>) {
    if let Some(tree) = tree {
        // What cannot be removed here is empty, and is found by the next start.
        let _ = tree.leave();
    }
}

fn record(tree: Option<&Tree>) -> Record {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Record {
        pid: rustix::process::getpid().as_raw_pid().unsigned_abs(),
        since: u64::try_from(now.tv_sec).unwrap_or(0),
        boot: boot_id(),
        cgroup: tree.map(|tree| tree.path().to_path_buf()),
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// `12:42:00` today, or the date with it.
fn ago(since: u64) -> String {
    let Ok(then) = jiff::Timestamp::from_second(i64::try_from(since).unwrap_or(0)) else {
        return "an unknown time".to_owned();
    };
    then.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `ports: web 5000, worker 5100-5102`; nothing without ports.
fn ports(stack: &Stack) -> Option<String> {
    let of = |(at, process): (usize, &config::Process)| {
        let instances = stack.instances.iter().filter(|instance| instance.process == at);
        let ports: Vec<u16> = instances.filter_map(|instance| instance.port).collect();
        match (ports.first(), ports.last()) {
            (Some(first), Some(last)) if first != last => Some(format!("{} {first}-{last}", process.name)),
            (Some(first), _) => Some(format!("{} {first}", process.name)),
            _ => None,
        }
    };
    let ports: Vec<String> = stack.processes.iter().enumerate().filter_map(of).collect();
    (!ports.is_empty()).then(|| format!("ports: {}", ports.join(", ")))
}

/// Whether there is a controlling terminal to lose.
fn has_terminal() -> bool {
    rustix::fs::open("/dev/tty", rustix::fs::OFlags::RDWR | rustix::fs::OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .is_ok()
}

/// Raises the soft limit of open files to the hard one. Returns what it was, which is what children get:
/// programs that use select(2) break above 1024.
fn raise_open_files() -> Option<(u64, u64)> {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let raised = rustix::process::Rlimit { current: before.maximum, maximum: before.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised).ok()?;
    let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    Some((number(before.current), number(before.maximum)))
}

/// Opened before anything runs, so that a path that cannot be written is found in time.
fn open_summary(around: &Surroundings, path: &Path) -> Result<(File, PathBuf), Error> {
    let path = around.directory.join(path);
    match File::create(&path) {
        Ok(file) => Ok((file, path)),
        Err(error) => Err(Error::new(format!("{}: cannot be written: {error} (--summary)", path.display()))),
    }
}

fn write_table(rows: &[Row<'_>]) -> std::io::Result<()> {
    let mut table = summary::table(rows).join("\n");
    table.push('\n');
    std::io::stderr().lock().write_all(table.as_bytes())
}

/// Prints to standard output; a reader that is gone is no error of ours.
///
/// # Errors
/// What else the kernel says.
pub fn print(text: &str) -> Result<Ending, Error> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Ok(Ending::Code(0)),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Ending::Code(141)),
        Err(error) => Err(Error::new(format!("standard output: {error}"))),
    }
}
