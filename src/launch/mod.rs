//! From what was typed to a stack that runs: the steps that the commands share.
//!
//! The order is the promise: all text is read and judged, then the ground is surveyed and every ceiling held
//! against it, then the stack is claimed, and only then is anything made that would have to be taken away
//! again. What was made goes in the reverse order, whatever happened in between.

mod attributes;
pub mod detach;
pub mod detached;
pub mod diagnostics;
pub mod gather;
pub mod ground;
mod last_words;
pub mod look;
mod owner;
mod preface;
mod recorder;
pub mod replace;
mod sinks;

pub use sinks::has_journal;

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use rustix::event::{Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit};

use crate::claim::{Identity, Record};
use crate::cli::Origins;
use crate::config::{self, Diagnostic, Limits, Severity, Sources, Stack};
use crate::control::chronicle::Chronicle;
use crate::control::inside::Inside;
use crate::control::interface::Refusal;
use crate::control::scrape::ScrapePort;
use crate::control::socket::Listening;
use crate::driver::{self, About, Control, Ground, Launcher, News, Read, Setup, Streams, Texts, Voice};
use crate::error::{Error, tell, words};
use crate::escape;
use crate::journal::{self, Journal};
use crate::linux::cgroup::Cgroup;
use crate::linux::guardian::{self, Guardian};
use crate::linux::journal::Journal as JournalSocket;
use crate::linux::notify::Notifier;
use crate::linux::scope::Scope;
use crate::linux::tier::{Decision, Place, Tier};
use crate::linux::tree::{Mark, Tree};
use crate::linux::{descendants, reserve, signals};
use crate::output::history::{BYTES_FOR_FOLLOWERS, BYTES_PER_INSTANCE, History};
use crate::output::{Layout, LogFiles};
use crate::supervisor::Ending;
use gather::{Asked, Files, Gathered, Surroundings};
use ground::Lack;
use last_words::{LastWord, LastWords};
use owner::Owned;
use preface::Preface;
use recorder::Recorder;

/// A stack whose text is valid.
#[derive(Debug)]
pub struct Loaded {
    /// What to run.
    pub stack: Stack,
    /// The Procfile's absolute path, or `-`.
    pub procfile: PathBuf,
    /// Standard input as far as it was read, to be handed on if lpm is executed again.
    pub stdin: Option<Vec<u8>>,
    /// The text it was made of.
    pub sources: Sources,
    /// Where that was read.
    pub files: Files,
}

/// How it is to run, and to be shown.
#[derive(Debug)]
pub struct Plan {
    /// Where standard streams go.
    pub streams: Streams,
    /// How much lpm says.
    pub voice: Voice,
    /// Where lpm's lines, and those of instances with pipes, go.
    pub output: OwnedFd,
    /// How lines look.
    pub layout: Layout,
    /// Whether lines in log files have their time.
    pub file_times: bool,
    /// A table at the end.
    pub table: bool,
    /// Where the summary goes as JSON.
    pub summary: Option<PathBuf>,
    /// Where the report goes, as a page, or as JSON.
    pub report: Option<PathBuf>,
    /// The control socket, if it was named.
    pub socket: Option<PathBuf>,
    /// Who waits for the stack to be up, somewhere else.
    pub launcher: Option<Launcher>,
    /// The service manager that wants to know how it goes.
    pub notifier: Option<Notifier>,
}

/// Reads and judges the text; warnings go to standard error.
///
/// # Errors
/// Everything that is wrong, located.
pub fn load(around: &Surroundings, asked: Asked<'_>, origins: &Origins) -> Result<Loaded, Error> {
    let gathered = gather::gather(around, asked, origins)?;
    judged(config::load(&gathered.sources), gathered)
}

/// What the text came to; its warnings are said.
///
/// # Errors
/// Everything that is wrong, located.
pub fn judged(loaded: Result<config::Loaded, Vec<Diagnostic>>, gathered: Gathered) -> Result<Loaded, Error> {
    let loaded = loaded.map_err(|problems| refused(&problems))?;
    let warnings = loaded.warnings.iter().filter(|problem| problem.severity == Severity::Warning);
    shown(warnings).iter().for_each(|warning| tell(format_args!("lpm: {warning}")));
    let Gathered { sources, procfile, files } = gathered;
    let stdin = (procfile == Path::new("-")).then(|| sources.procfile.bytes.clone());
    Ok(Loaded { stack: loaded.stack, procfile, stdin, sources, files })
}

/// Every error, and the warnings with them: they often say why.
pub fn refused(problems: &[Diagnostic]) -> Error {
    Error::several(shown(problems.iter().filter(|problem| problem.severity != Severity::Note)))
}

/// The most problems that are shown: what is no text at all has one on each line.
const MOST_SHOWN: usize = 20;

/// The problems as lines; of too many the first few, errors before warnings, and how many more there are.
pub fn shown<'a>(problems: impl Iterator<Item = &'a Diagnostic>) -> Vec<String> {
    let mut problems: Vec<&Diagnostic> = problems.collect();
    let more = problems.len().saturating_sub(MOST_SHOWN);
    if more > 0 {
        problems.sort_by_key(|problem| !problem.is_error());
    }
    let lines = problems.iter().take(MOST_SHOWN).map(ToString::to_string);
    lines.chain((more > 0).then(|| format!("and {more} more like these"))).collect()
}

/// Runs a stack to its end.
///
/// # Errors
/// Whatever stands in the way before the first process is started. Nothing is left behind then.
pub fn start(around: &Surroundings, loaded: Loaded, plan: Plan) -> Result<Ending, Error> {
    let Loaded { mut stack, procfile, stdin, mut sources, files } = loaded;
    something_to_start(&stack)?;
    let decision = ground::survey(around)?;
    ground::as_asked(around, &decision)?;
    let mut lacks = ground::lacks(&stack, &decision);
    let mut preface = Preface::default();
    preface.extend(ground::hold(&stack, &lacks)?);
    let summary_file =
        plan.summary.as_ref().map(|path| LastWord::open(around, path, "summary")).transpose()?;
    let report_file = plan.report.as_ref().map(|path| LastWord::open(around, path, "report")).transpose()?;
    let log_files = sinks::files(&stack, &plan)?;
    let run = owner::run_id()?;
    let journal = sinks::journal(&stack, &plan, &run)?;

    let (mut place, mut tier) = (decision.place.clone(), decision.tier);
    if let Place::Scope { user } = place {
        // Returns only if that could not be done; then the stack runs as well as it can without.
        let error = execute_in_scope(around, &stack, user, stdin.as_deref());
        preface.push(format!("warning: systemd-run: {}", words(error)));
        (place, tier) = (Place::Nothing, Tier::None);
        let more = ground::add_new(&mut lacks, ground::lacks_in(&stack, &[], &[]));
        preface.extend(ground::hold(&stack, &more)?);
    }
    // From here on things are made that have to be taken away again: a signal waits until the driver can
    // act on it.
    let held = signals::block_all();
    let own_limit = raise_open_files();
    let split = matches!(plan.streams, Streams::Pipes { split_stderr: true });
    let files_needed = open_files(&stack, split);
    if let Some(why) = too_few_open_files(files_needed) {
        return Err(Error::new(why));
    }
    let most_clients = room_for_clients(files_needed);
    let port = sinks::scrape_port(&stack, &plan)?;
    let identity = Identity { root: &stack.root, procfile: &procfile, name: &stack.name };
    // One-off commands run beside their stack and beside each other.
    let slug = match plan.voice {
        Voice::Stack => identity.slug(),
        Voice::OneOff => format!("{}-run-{run}", identity.slug()),
    };
    let claim = owner::claim(around, &identity.slug(), &slug, &stack.name, &mut preface)?;
    let listening = match plan.voice {
        Voice::Stack => {
            let names = (slug.as_str(), stack.name.as_str());
            owner::listen(around, plan.socket.as_deref(), claim.as_ref(), names, &mut preface)?
        }
        Voice::OneOff => None,
    };
    let socket = listening.as_ref().map(|listening| listening.path().to_owned());
    let socket = socket.as_deref();
    let listener = listening.as_ref().map(Listening::listener).transpose();
    let listening = listening.map(|listening| Arc::new(Mutex::new(listening)));
    if plan.launcher.is_some() && plan.voice == Voice::Stack && socket.is_none() {
        return Err(detach::uncontrollable(preface.out_of_reach()));
    }
    say_beforehand(around, &stack, &plan, &decision, tier, port.as_ref(), &mut preface);

    let told = match stack.logging.route.journal {
        config::Journal::No => diagnostics::Place::Standard,
        config::Journal::Sent | config::Journal::Direct => diagnostics::Place::Journal(stack.name.clone()),
    };
    let level = around.variable(diagnostics::VARIABLE).filter(|level| !level.is_empty());
    let _diagnostics = level.map(|level| diagnostics::start(&level.to_string_lossy(), told)).transpose()?;
    tracing::info!(place = ?decision.place, %tier, "where the stack stands");

    let cannot = |error: io::Error| Error::new(format!("cannot start: {}", words(error)));
    rustix::process::set_child_subreaper(Some(own_pid())).map_err(|errno| cannot(errno.into()))?;
    let inherited = match descendants::have_children_besides(&[]) {
        true => descendants::children().map_err(|errno| cannot(errno.into()))?,
        false => Vec::new(),
    };
    if let Place::OwnDirectory(parent) = &place {
        owner::look_beside(parent, &identity, plan.voice, &mut preface)?;
    }
    let record = owner::record(&identity, plan.voice, socket, &run);
    let ground = match grow(&place, &identity.slug(), plan.voice, record, claim.as_ref(), &mut preface)? {
        Some(tree) => {
            let keeper = owner::keeper(claim.as_ref(), listening.as_ref(), Some(Arc::clone(&tree)));
            Ground { keeper, ..raise(&stack, tree, claim.as_ref(), lacks, &mut preface)? }
        }
        None => {
            let keeper = owner::keeper(claim.as_ref(), listening.as_ref(), None);
            Ground { keeper, ..Ground::default() }
        }
    };
    let mut standing = Standing { ground, claim: claim.as_ref() };
    let about = About {
        procfile: procfile.clone(),
        manifest: files.manifest().to_owned(),
        socket: socket.map(Path::to_path_buf),
        tier: ground::told(tier),
    };
    let control = listener.map_err(cannot)?.map(|listener| Control { listener, most_clients });
    // Whoever may control the stack may also come later.
    sources.socket = socket.map(Path::to_path_buf);
    if stack.instances.iter().any(|instance| instance.control) {
        stack = config::load(&sources).map_err(|problems| refused(&problems))?.stack;
    }
    let too_many = move |stack: &Stack| match open_files(stack, split) {
        // Beside it there are the clients; it was not refused for them when it started.
        needed if needed > files_needed => too_few_open_files(needed + most_clients as u64),
        _ => None,
    };
    let texts = texts(files, decision, standing.ground.tree.as_ref(), too_many);
    if let Some(launcher) = &plan.launcher {
        preface.lines().iter().for_each(|line| launcher.tell(&News::Say(line.clone())));
    }
    let Followers { history, chronicle, journal, recorder, met } =
        followers(&stack, plan.voice, journal, report_file.is_some()).map_err(cannot)?;
    let setup = Setup {
        shown: sinks::shown(&stack, plan.voice),
        stack: Arc::new(stack),
        output: plan.output,
        layout: plan.layout,
        files: log_files,
        history,
        chronicle,
        streams: plan.streams,
        voice: plan.voice,
        terminal: has_terminal(),
        ignore_hangup: signals::is_ignored(libc::SIGHUP),
        open_files: own_limit,
        launcher: plan.launcher.clone(),
        notifier: plan.notifier,
        preface: preface.into_lines(),
        inherited,
        held,
        control,
        meet: Box::new(move |inside: Inside| {
            // Nobody takes it where there is no report.
            let _ = met.send(inside.clone());
            port.map_or(Ok(()), |port| port.serve(inside))
        }),
        run,
        about,
        texts: Some((texts, sources)),
    };
    let run = driver::run(setup, &mut standing.ground);
    let left = standing.take_down();
    drop(standing);
    if journal.is_some_and(|journal| !journal.finish(sinks::LAST_ENTRIES)) {
        tell(format_args!("lpm: the journal did not take the last lines in time"));
    }
    drop(listening);
    drop(claim);
    // From here on lpm only has last words, and whoever loses patience with those may end it.
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT] {
        let _ = signals::reset(signal);
    }
    let run = run.map_err(cannot)?;

    if let Err(trouble) = left {
        tell(format_args!("lpm: {trouble}"));
    }
    let ending = run.ending;
    LastWords { tier, table: plan.table, summary_file, report_file, recorder, launcher: plan.launcher }
        .tell(run);
    Ok(ending)
}

/// What a person should know before the first line of an instance: the tier, the login, ports.
fn say_beforehand(
    around: &Surroundings,
    stack: &Stack,
    plan: &Plan,
    decision: &Decision,
    tier: Tier,
    port: Option<&ScrapePort>,
    preface: &mut Preface,
) {
    if plan.voice != Voice::Stack {
        return;
    }
    if tier == Tier::None {
        let why =
            decision.obstacle.as_ref().map_or("systemd-run failed", |obstacle| obstacle.reason.as_str());
        preface.push(format!("no cgroups: {why}; containment is best effort (lpm doctor says more)"));
    }
    preface.extend(ground::ends_with_the_login(around, plan.launcher.is_some()));
    preface.extend(ports(stack));
    if let Some(address) = port.and_then(|port| port.address().ok()) {
        preface.push(format!("metrics: http://{address}/metrics"));
    }
}

/// What lines and events are kept in, and the threads that follow them.
struct Followers {
    history: Option<Arc<History>>,
    chronicle: Arc<Chronicle>,
    journal: Option<Journal>,
    recorder: Option<Recorder>,
    /// Takes the way to the loop, for the recorder.
    met: Sender<Inside>,
}

fn followers(
    stack: &Stack,
    voice: Voice,
    journal: Option<(JournalSocket, journal::Identity)>,
    report: bool,
) -> io::Result<Followers> {
    let kept =
        stack.logging.history.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(BYTES_PER_INSTANCE);
    // What the journal has not taken yet must be there still, however little people want to look at.
    let kept = if journal.is_some() { kept.max(BYTES_FOR_FOLLOWERS) } else { kept };
    let in_journal = stack.logging.route.journal != config::Journal::No;
    let history = (voice == Voice::Stack).then(|| History::new(kept, in_journal));
    let chronicle = Arc::<Chronicle>::default();
    let journal = match (journal, &history) {
        (Some((socket, identity)), Some(history)) => {
            let (history, chronicle) = (Arc::clone(history), Arc::clone(&chronicle));
            Some(Journal::start(socket, identity, history, chronicle, sinks::routes(stack))?)
        }
        _ => None,
    };
    let (met, meets) = channel();
    let recorder = report.then(|| Recorder::start(meets, history.clone(), Arc::clone(&chronicle)));
    Ok(Followers { history, chronicle, journal, recorder: recorder.transpose()?, met })
}

/// Whether there is anything to start.
///
/// # Errors
/// There is not.
fn something_to_start(stack: &Stack) -> Result<(), Error> {
    match stack.instances.is_empty() {
        true => Err(Error::new("nothing to start: the formation leaves no instance")),
        false => Ok(()),
    }
}

/// The stack's own ceilings, and the guardian, which is up before the first instance. `known`: what cannot be enforced,
/// as was said already.
fn raise(
    stack: &Stack,
    tree: Arc<Tree>,
    claim: Option<&Owned>,
    mut known: Vec<Lack>,
    preface: &mut Preface,
) -> Result<Ground, Error> {
    // What was found out before is said with its reason already.
    let new = ground::add_new(&mut known, ground::lacks_in(stack, tree.enabled(), tree.refused()));
    let prepared = ground::hold(stack, &new).and_then(|warnings| {
        preface.extend(warnings);
        for setting in driver::ceilings::settings(&stack.ceilings) {
            match tree.app().write(setting.file, &setting.value) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => {
                    let why = words(errno);
                    return Err(Error::new(format!("{} of the stack: {why}", setting.file)));
                }
            }
        }
        Guardian::start(&guardian::PROGRAM, &tree)
            .map_err(|failure| Error::new(format!("cannot start the guardian: {failure}")))
    });
    match prepared {
        Ok(guardian) => Ok(Ground { tree: Some(tree), guardian: Some(guardian), keeper: None }),
        Err(error) => {
            // It is empty; what cannot be removed here is found by the next start.
            if let (Err(_), Some(claim)) = (tree.leave(), claim) {
                claim.stay();
            }
            Err(error)
        }
    }
}

/// What was made for the stack, and is taken away again however its start goes.
struct Standing<'a> {
    ground: Ground,
    claim: Option<&'a Owned>,
}

impl Standing<'_> {
    /// May be called again, and does nothing then.
    fn take_down(&mut self) -> Result<(), String> {
        let left = take_down(std::mem::take(&mut self.ground));
        if let (Err(_), Some(claim)) = (&left, self.claim) {
            // The next start finds what is left by it.
            claim.stay();
        }
        left
    }
}

impl Drop for Standing<'_> {
    fn drop(&mut self) {
        if let Err(trouble) = self.take_down() {
            tell(format_args!("lpm: {trouble}"));
        }
    }
}

/// Takes away what was made. If something in it could not be killed, the guardian stays with it, and ends
/// what lpm could not.
fn take_down(ground: Ground) -> Result<(), String> {
    let Ground { tree, guardian, keeper: _ } = ground;
    let Some(tree) = tree else { return Ok(()) };
    let path = tree.path().display();
    match patiently(|| tree.app().populated()) {
        Ok(false) => {}
        Ok(true) => {
            let then = match guardian {
                Some(_) => "the guardian waits for it",
                None => "there is no guardian, and the next start tries again",
            };
            return Err(format!("{path}: something in it cannot be killed; {then}"));
        }
        Err(errno) => {
            let who = if guardian.is_some() { "the guardian or the next start" } else { "the next start" };
            return Err(format!("{path}: {}; {who} removes it", words(errno)));
        }
    }
    if let Some(guardian) = guardian {
        guardian.dismiss().map_err(|errno| format!("the guardian: {}", words(errno)))?;
    }
    patiently(|| tree.leave())
        .map_err(|errno| format!("{path}: cannot be removed now: {}; the next start does it", words(errno)))
}

/// Tries again what failed for want of descriptors or memory, of which the whole system may be short for a moment.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    /// 10 ms apart.
    const ATTEMPTS: u32 = 20;
    for _ in 1..ATTEMPTS {
        match attempt() {
            Err(Errno::MFILE | Errno::NFILE | Errno::NOMEM) => {
                let _ = poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 10_000_000 }));
            }
            result => return result,
        }
    }
    attempt()
}

/// Makes the tree, after it was written down that it is about to be made, and completes the record. `slug`: of the
/// stack.
fn grow(
    place: &Place,
    slug: &str,
    voice: Voice,
    mut record: Record,
    claim: Option<&Owned>,
    preface: &mut Preface,
) -> Result<Option<Arc<Tree>>, Error> {
    // The last is to be counted alone: nothing is limited by it.
    const WANTED: [&str; 4] = ["memory", "cpu", "pids", "io"];
    // Another run may have drawn the same number.
    const DRAWS: u32 = 4;
    let unwritten = |error| format!("warning: the record of this run cannot be written: {}", words(error));
    let mut write = |record: &Record| {
        let written = claim.map_or(Ok(()), |claim| claim.record(record));
        if let Some(line) = written.err().map(unwritten).filter(|line| preface.lines().last() != Some(line)) {
            preface.push(line);
        }
    };
    let here = owner::place();
    for draw in 1..=DRAWS {
        let name = match voice {
            Voice::Stack => format!("lpm-{slug}-{}", record.run),
            Voice::OneOff => format!("lpm-{slug}-run-{}", record.run),
        };
        (record.cgroup, record.own) = match place {
            Place::Delegated(path) => (Some(path.clone()), false),
            Place::OwnDirectory(parent) => (Some(parent.join(&name)), true),
            Place::Scope { .. } | Place::Nothing => (None, false),
        };
        if let Place::Delegated(path) = place {
            record.ids.root = Cgroup::open(path).and_then(|root| root.id()).ok();
        }
        write(&record);
        let mark = Mark { run: &record.run, place: &here };
        let tree = match place {
            Place::Delegated(path) => Tree::delegated(path, mark, &WANTED),
            Place::OwnDirectory(parent) => Tree::own_directory(parent, &name, mark, &WANTED),
            Place::Scope { .. } | Place::Nothing => return Ok(None),
        };
        match tree {
            Ok(tree) => {
                write(&owner::completed(record, &tree));
                return Ok(Some(Arc::new(tree)));
            }
            Err(trouble) if trouble.errno == Errno::EXIST && draw < DRAWS => record.run = owner::run_id()?,
            Err(trouble) => {
                if let (Some(claim), false) = (claim, owner::is_bare(&record)) {
                    claim.stay();
                }
                return Err(Error::new(format!("cannot make a cgroup: {trouble}")));
            }
        }
    }
    unreachable!("the last draw returns")
}

/// Executes lpm again, in a scope of its own. Returns why that could not be done.
fn execute_in_scope(around: &Surroundings, stack: &Stack, user: bool, stdin: Option<&[u8]>) -> io::Error {
    let executable = match std::env::current_exe() {
        Ok(path) => path,
        Err(error) => return error,
    };
    Scope {
        user,
        unit: &format!("lpm-{}-{}.scope", label(stack), own_pid().as_raw_pid()),
        executable: &executable,
        arguments: around.argv.get(1..).unwrap_or_default(),
        stdin,
        runtime_directory: around.variable("XDG_RUNTIME_DIR"),
        euid: rustix::process::geteuid().as_raw(),
    }
    .exec()
}

/// The stack's name as far as it fits into the name of a unit (systemd.unit(5)).
fn label(stack: &Stack) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '.' { c } else { '-' };
    stack.name.chars().map(fit).take(60).collect()
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

fn own_pid() -> Pid {
    rustix::process::getpid()
}

/// Whether there is a controlling terminal to lose.
fn has_terminal() -> bool {
    controlling_terminal().is_some()
}

/// The controlling terminal, if there is one.
pub fn controlling_terminal() -> Option<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open("/dev/tty", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty()).ok()
}

/// Raises the soft limit of open files to the hard one. Returns what it was, which is what children get:
/// programs that use select(2) break above 1024.
fn raise_open_files() -> Option<(u64, u64)> {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised).ok()?;
    reserve::fill();
    let number = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    Some((number(before.current), number(before.maximum)))
}

/// What lpm has open for itself, the guardian's birth and [`Spare`] included, and for each instance: its process, its leaf,
/// its output (a pipe, or a terminal's master), and, while it ends, its leaf's notifications.
const OWN_FILES: u64 = 36 + reserve::RESERVE as u64;
const FILES_OF_INSTANCE: u64 = 4;

/// The most clients that are served at a time.
const MOST_CLIENTS: u64 = 4096;
/// Where there is no room for any, one is served all the same, so that the stack can be stopped: what must not fail
/// has descriptors in reserve.
const FEWEST_CLIENTS: u64 = 1;
/// What one client takes: its connection, and, for a client attached to a terminal, its master.
const FILES_OF_CLIENT: u64 = 2;

/// How many open files a stack takes, with `split`: a pipe more for standard error.
fn open_files(stack: &Stack, split: bool) -> u64 {
    // A terminal cannot be split.
    let of = |instance: &config::Instance| FILES_OF_INSTANCE + u64::from(split && !instance.pty);
    let logs = LogFiles::descriptors(&stack.log_files(), stack.instances.len() as u64);
    OWN_FILES + logs + stack.instances.iter().map(of).sum::<u64>()
}

/// Why a stack that takes so many open files cannot run, if the limit leaves no room for it. Half of it running
/// would be worse than none.
fn too_few_open_files(needed: u64) -> Option<String> {
    let allowed = rustix::process::getrlimit(Resource::Nofile).current.filter(|allowed| *allowed < needed)?;
    Some(format!(
        "{needed} open files are needed for this stack and {allowed} are allowed \
         (raise the hard limit: ulimit -n {needed})"
    ))
}

/// How many clients there is room for beside a stack that takes so many open files.
fn room_for_clients(needed: u64) -> usize {
    let allowed = rustix::process::getrlimit(Resource::Nofile).current;
    // Half of what is left: the stack may grow.
    let left = allowed.map_or(u64::MAX, |allowed| allowed.saturating_sub(needed) / 2);
    let clients = left / FILES_OF_CLIENT;
    usize::try_from(clients.clamp(FEWEST_CLIENTS, MOST_CLIENTS)).expect("at most a few thousand")
}

/// How the text is read again, and held against this machine. `obstacle`: why a stack cannot run beside what is
/// there.
fn texts(
    files: Files,
    decision: Decision,
    tree: Option<&Arc<Tree>>,
    obstacle: impl Fn(&Stack) -> Option<String> + Send + Sync + 'static,
) -> Texts {
    let enabled = tree.map_or(Vec::new(), |tree| tree.enabled().to_vec());
    let refused = tree.map_or(Vec::new(), |tree| tree.refused().to_vec());
    let read = move |sources: &mut Sources, what| {
        let read = match what {
            Read::Nothing => Ok(()),
            Read::Env => files.read_env(sources),
            Read::Everything => files.read(sources),
        };
        read.map_err(|error| error.messages().to_vec())
    };
    let judge = move |stack: &Stack| {
        if let Some(reason) = obstacle(stack) {
            return Err(Refusal::Unavailable { reason });
        }
        let mut lacks = ground::lacks(stack, &decision);
        ground::add_new(&mut lacks, ground::lacks_in(stack, &enabled, &refused));
        match (lacks.first(), stack.limits) {
            (None, _) => Ok(Vec::new()),
            (Some(lack), Limits::Strict) => Err(Refusal::CannotEnforce {
                ceiling: lack.limit_and_owner(),
                reason: lack.obstacle.reason.clone(),
                fix: lack.obstacle.fix.clone(),
            }),
            (Some(_), Limits::BestEffort) => Ok(lacks.iter().map(Lack::sentence).collect()),
        }
    };
    Texts { read: Box::new(read), judge: Box::new(judge) }
}

/// Prints lines of lpm's own, with control characters escaped, which names and paths may have.
///
/// # Errors
/// As [`print()`].
pub fn say(text: &str) -> Result<Ending, Error> {
    print(&escape::lines(text))
}

/// Prints a value over several lines.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &serde_json::Value) -> Result<Ending, Error> {
    print(&escape::json(&format!("{value:#}\n")))
}

/// Prints to standard output as it is; a reader that is gone is no error of ours.
///
/// # Errors
/// What else the kernel says.
pub fn print(text: &str) -> Result<Ending, Error> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Ok(Ending::Code(0)),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Ending::Code(141)),
        Err(error) => Err(Error::new(format!("standard output: {}", words(error)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::cgroup::tests::{Place as TestPlace, start};
    use crate::linux::tree::tests::MARK;

    #[test]
    fn no_guardian_waits_where_there_is_none() {
        let Some(place) = TestPlace::new("no_guardian_waits_where_there_is_none") else { return };
        let ground = |tree| Ground { tree: Some(tree), ..Ground::default() };
        let tree = Arc::new(Tree::own_directory(&place.path(), "lpm", MARK, &[]).unwrap());
        let (_, pidfd) = start(&tree.leaf("web.1").unwrap(), "exec sleep 1000");
        let told = take_down(ground(Arc::clone(&tree))).unwrap_err();
        assert!(told.ends_with("there is no guardian, and the next start tries again"), "{told}");
        tree.app().kill().unwrap();
        pidfd.wait().unwrap();
        assert_eq!(take_down(ground(tree)), Ok(()));
    }
}
