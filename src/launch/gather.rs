//! Reads the files that a stack is made of, and nothing else: what they mean is for `config` to say.
//!
//! Every file is read to its end once, and no further than 64 MiB, so that `/dev/zero` as a Procfile is
//! an error and not a full memory.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::cli::{CeilingArgs, LifeArgs, Origins, StackArgs};
use crate::config::{Given, Machine, Options, Sources, Text, choose_procfile, dotenv};
use crate::error::{Error, words};
use crate::linux::scope;

/// The largest file that is read, bytes.
const LARGEST: u64 = 64 << 20;

/// What lpm was started with, read once, in `main`.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The command line, program name first.
    pub argv: Vec<OsString>,
    /// The environment.
    pub environment: Vec<(OsString, OsString)>,
    /// The working directory.
    pub directory: PathBuf,
}

impl Surroundings {
    /// An environment variable.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        let mut variables = self.environment.iter();
        variables.find(|(known, _)| known == name).map(|(_, value)| value.as_os_str())
    }
}

/// What a command was given that says which stack it is about, and how it is to run.
#[derive(Debug, Default)]
pub struct Asked<'a> {
    /// `-f`, `-d`, `-e`, …
    pub stack: StackArgs,
    /// `-m`, `-t`, …
    pub life: LifeArgs,
    /// `--mem`, …
    pub ceilings: CeilingArgs,
    /// Positional names.
    pub names: &'a [String],
    /// `--quiet`.
    pub quiet: Option<String>,
}

/// The files, read.
#[derive(Debug)]
pub struct Gathered {
    /// For `config::load`.
    pub sources: Sources,
    /// The Procfile's absolute path, or `-`; part of the stack's identity.
    pub procfile: PathBuf,
    /// Where they were read.
    pub files: Files,
}

/// Where a stack is: which Procfile, and where its processes run.
#[derive(Debug)]
pub struct Located {
    /// As it was named.
    chosen: PathBuf,
    /// Where that is.
    path: PathBuf,
    /// `.env`, if it had to be read to know the Procfile.
    early: Option<Text>,
    /// What named the Procfile, if anything did.
    named_by: Option<String>,
    /// Absolute; part of the stack's identity.
    pub root: PathBuf,
    /// Absolute, or `-`; part of the stack's identity.
    pub procfile: PathBuf,
}

/// Finds out which stack is meant. No file but `.env` is read, which may name the Procfile, as with honcho.
///
/// # Errors
/// A root that is none, a `.env` that cannot be read.
pub fn locate(around: &Surroundings, stack: &StackArgs, origins: &Origins) -> Result<Located, Error> {
    let named_root = stack.root.as_ref().map(|root| directory(around, root, origins)).transpose()?;
    let start = named_root.as_ref().unwrap_or(&around.directory);
    let early = match (&stack.procfile, stack.env.is_empty()) {
        (None, true) => read_default(&start.join(".env"), ".env")?,
        _ => None,
    };
    let in_dotenv = early.as_ref().and_then(procfile_variable);
    let option = stack.procfile.as_ref().map(|path| path.as_os_str());
    let chosen = choose_procfile(option, around.variable("PROCFILE"), in_dotenv.as_deref());
    let named_by = match (option, around.variable("PROCFILE"), &in_dotenv) {
        (Some(_), ..) => Some(origins.of("procfile")),
        (None, Some(variable), _) if !variable.is_empty() => Some("PROCFILE".to_owned()),
        (None, _, Some(_)) => Some("PROCFILE in .env".to_owned()),
        (None, ..) => None,
    };
    let base = if option.is_some() { &around.directory } else { start };
    let path = base.join(&chosen);
    let from_stdin = chosen == Path::new("-");
    let beside = match (from_stdin, path.parent()) {
        (false, Some(parent)) => parent.to_path_buf(),
        _ => start.clone(),
    };
    let root = normal(&named_root.unwrap_or(beside));
    let procfile = if from_stdin { chosen.clone() } else { normal(&path) };
    Ok(Located { chosen, path, early, named_by, root, procfile })
}

/// Finds and reads Procfile, env files and lpm.toml.
///
/// # Errors
/// A file that was named and cannot be read, with the reason; a Procfile that is not there.
pub fn gather(around: &Surroundings, asked: Asked<'_>, origins: &Origins) -> Result<Gathered, Error> {
    let stack = &asked.stack;
    let Located { chosen, path, early, named_by, root, procfile: procfile_path } =
        locate(around, stack, origins)?;
    let from_stdin = chosen == Path::new("-");
    let procfile = if from_stdin {
        Text::new("standard input", standard_input(around)?)
    } else {
        let label = chosen.display().to_string();
        let bytes = read_file(&path, &label).map_err(|error| match error {
            Unreadable::Missing => missing_procfile(&label, named_by.as_deref()),
            Unreadable::Other(error) => error,
        })?;
        Text::new(label, bytes)
    };

    let env = if stack.env.is_empty() {
        vec![File { path: root.join(".env"), label: ".env".to_owned(), origin: None }]
    } else {
        let names = stack.env.iter().flat_map(|list| list.split(',')).map(str::trim);
        let file = |name: &str| File {
            path: around.directory.join(name),
            label: name.to_owned(),
            origin: Some(origins.of("env")),
        };
        names.filter(|name| !name.is_empty()).map(file).collect()
    };
    let beside = match (from_stdin, path.parent()) {
        (false, Some(parent)) => parent,
        _ => root.as_path(),
    };
    let manifest = File { path: beside.join("lpm.toml"), label: "lpm.toml".to_owned(), origin: None };
    let env_files = match early {
        Some(text) => vec![text],
        None => read_all_of(&env)?,
    };
    let manifest_text = manifest.read()?;
    let sources = Sources {
        procfile,
        env_files,
        manifest: manifest_text,
        environment: around.environment.clone(),
        root,
        options: options(asked, origins),
        machine: machine(),
        // Known once the stack is claimed.
        socket: None,
    };
    let named = (!from_stdin).then(|| File { path, label: sources.procfile.label.clone(), origin: named_by });
    Ok(Gathered { sources, procfile: procfile_path, files: Files { procfile: named, env, manifest } })
}

/// Where the texts of a stack came from, so that they can be read again.
#[derive(Debug, Clone)]
pub struct Files {
    /// `None`: it came through standard input, and there is no more of it.
    procfile: Option<File>,
    env: Vec<File>,
    manifest: File,
}

#[derive(Debug, Clone)]
struct File {
    /// Absolute.
    path: PathBuf,
    /// As the user named it.
    label: String,
    /// What named it; without that it need not be there.
    origin: Option<String>,
}

impl File {
    /// `None` if it need not be there and is not.
    fn read(&self) -> Result<Option<Text>, Error> {
        let Some(origin) = &self.origin else { return read_default(&self.path, &self.label) };
        match read_file(&self.path, &self.label) {
            Ok(bytes) => Ok(Some(Text::new(self.label.as_str(), bytes))),
            Err(Unreadable::Missing) => {
                Err(Error::new(format!("{}: does not exist (check {origin})", self.label)))
            }
            Err(Unreadable::Other(error)) => Err(error),
        }
    }
}

fn read_all_of(files: &[File]) -> Result<Vec<Text>, Error> {
    files.iter().filter_map(|file| file.read().transpose()).collect()
}

impl Files {
    /// Reads everything again.
    ///
    /// # Errors
    /// A file that cannot be read; nothing is changed then.
    pub fn read(&self, sources: &mut Sources) -> Result<(), Error> {
        let env = read_all_of(&self.env)?;
        let manifest = self.manifest.read()?;
        if let Some(file) = &self.procfile {
            let bytes = read_file(&file.path, &file.label).map_err(|error| match error {
                Unreadable::Missing => missing_procfile(&file.label, file.origin.as_deref()),
                Unreadable::Other(error) => error,
            })?;
            sources.procfile = Text::new(file.label.as_str(), bytes);
        }
        (sources.env_files, sources.manifest) = (env, manifest);
        Ok(())
    }

    /// Reads the env files again.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub fn read_env(&self, sources: &mut Sources) -> Result<(), Error> {
        sources.env_files = read_all_of(&self.env)?;
        Ok(())
    }

    /// Where `lpm.toml` is, or would be.
    pub fn manifest(&self) -> &Path {
        &self.manifest.path
    }
}

/// The options as `config` wants them: each with what it came after.
fn options(asked: Asked<'_>, origins: &Origins) -> Options {
    let Asked { stack, life, ceilings, names, quiet } = asked;
    let list = |id: &str, values: Vec<String>| Given { origin: origins.of(id), values };
    let one = |id: &str, value: Option<String>| list(id, value.into_iter().collect());
    Options {
        names: list("names", names.to_vec()),
        formation: one("formation", life.formation),
        concurrency: one("concurrency", life.concurrency),
        port: one("port", stack.port),
        port_step: one("port_step", stack.port_step),
        instance_port_step: one("instance_port_step", stack.instance_port_step),
        no_port: stack.no_port,
        mem: list("mem", ceilings.mem),
        mem_high: list("mem_high", ceilings.mem_high),
        swap: list("swap", ceilings.swap),
        cpu: list("cpu", ceilings.cpu),
        cpu_weight: list("cpu_weight", ceilings.cpu_weight),
        tasks: list("tasks", ceilings.tasks),
        stack_mem: one("stack_mem", ceilings.stack_mem),
        stack_cpu: one("stack_cpu", ceilings.stack_cpu),
        stack_tasks: one("stack_tasks", ceilings.stack_tasks),
        limits: one("limits", ceilings.limits),
        timeout: list("timeout", life.timeout),
        stop_signal: list("stop_signal", life.stop_signal),
        kill_mode: list("kill_mode", life.kill_mode),
        can_die: list("can_die", life.can_die),
        oneshot: list("oneshot", life.oneshot),
        restart: list("restart", life.restart),
        restart_sec: list("restart_sec", life.restart_sec),
        start_limit_burst: list("start_limit_burst", life.start_limit_burst),
        start_limit_interval: list("start_limit_interval", life.start_limit_interval),
        quiet: one("quiet", quiet.filter(|names| !names.is_empty())),
        pty: list("pty", life.pty),
        exit_code: one("exit_code", life.exit_code),
        env_precedence: one("env_precedence", stack.env_precedence),
        expand_env: stack.expand_env,
        name: one("name", stack.name),
        scale: BTreeMap::new(),
        set: Vec::new(),
    }
}

/// The root that was named, absolute.
fn directory(around: &Surroundings, root: &Path, origins: &Origins) -> Result<PathBuf, Error> {
    let path = around.directory.join(root);
    let wrong = match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => return Ok(path),
        Ok(_) => "is not a directory".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "does not exist".to_owned(),
        Err(error) => format!("cannot be entered: {}", words(error)),
    };
    let (origin, root) = (origins.of("root"), root.display());
    Err(Error::new(format!("{origin}: {root} {wrong} (name the directory that processes are to run in)")))
}

/// `from`: what named it.
fn missing_procfile(label: &str, from: Option<&str>) -> Error {
    let hint = match from {
        Some(from) => format!("check {from}"),
        None => "go to the directory that has one, or name one: lpm start -f FILE".to_owned(),
    };
    Error::new(format!("{label}: does not exist ({hint})"))
}

/// `PROCFILE` of a `.env`; what is wrong with the file is said later, when all of it is read.
fn procfile_variable(text: &Text) -> Option<OsString> {
    let (variables, _) = dotenv::parse(&text.label, &text.bytes, false);
    let value = variables.iter().rev().find(|variable| variable.key == "PROCFILE");
    value.map(|variable| variable.value(|_| None))
}

enum Unreadable {
    Missing,
    Other(Error),
}

fn read_file(path: &Path, label: &str) -> Result<Vec<u8>, Unreadable> {
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unreadable::Missing,
        _ => Unreadable::Other(unreadable(label, error)),
    })?;
    read_all(file, label).map_err(Unreadable::Other)
}

/// Standard input, or what was read of it before lpm was executed again.
fn standard_input(around: &Surroundings) -> Result<Vec<u8>, Error> {
    match around.variable(scope::STDIN).and_then(|number| number.to_str()) {
        Some(number) => {
            scope::stdin_handed_over(number).map_err(|error| Error::new(format!("standard input: {error}")))
        }
        None => read_all(io::stdin().lock(), "standard input"),
    }
}

/// A file that need not be there. Something else of that name, a directory for instance, is not it.
fn read_default(path: &Path, label: &str) -> Result<Option<Text>, Error> {
    if path.is_dir() {
        return Ok(None);
    }
    match read_file(path, label) {
        Ok(bytes) => Ok(Some(Text::new(label, bytes))),
        Err(Unreadable::Missing) => Ok(None),
        Err(Unreadable::Other(error)) => Err(error),
    }
}

fn read_all(reader: impl Read, label: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|error| unreadable(label, error))?;
    match bytes.len() as u64 > LARGEST {
        true => {
            Err(Error::new(format!("{label}: is larger than {} MiB (is it the right file?)", LARGEST >> 20)))
        }
        false => Ok(bytes),
    }
}

fn unreadable(label: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::IsADirectory => Error::new(format!("{label}: is a directory, not a file")),
        _ => Error::new(format!("{label}: cannot be read: {}", words(error))),
    }
}

/// Without `.` and `..`, links resolved where the path exists, so that one directory has one identity.
fn normal(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// What a `%` is a part of.
pub fn machine() -> Machine {
    let info = rustix::system::sysinfo();
    let pid_max = std::fs::read_to_string("/proc/sys/kernel/pid_max");
    Machine {
        memory: info.totalram.saturating_mul(u64::from(info.mem_unit)),
        cpus: rustix::thread::sched_getaffinity(None).map_or(1, |cpus| u64::from(cpus.count())),
        // The kernel's default, for a /proc that is not there.
        pid_max: pid_max.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(32_768),
    }
}
