//! Reads the files that a stack is made of, and nothing else: what they mean is for `config` to say.
//!
//! Every file is read to its end once, and no further than 16 MiB (`LARGEST`), so that `/dev/zero` as a Procfile is
//! an error and not a full memory.
//!
//! A pipe may keep a reader waiting for ever. One that was named is read all the same, once, at the start (`-e
//! <(pass env)`), and what came out of it is kept; one that merely lies where a file is looked for is refused.

use std::ffi::{OsStr, OsString};
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::cli::{CountArgs, Origins, StackArgs, Typed};
use crate::config::{Given, Machine, Options, Sources, Text, choose_procfile, dotenv};
use crate::error::{Error, words};
use crate::linux::scope;

/// The largest Procfile or env file that is read, bytes. More variables than fit into it no program can be given.
const LARGEST: u64 = 16 << 20;

/// The largest lpm.toml that is read, bytes: parsed, it takes many times as much.
const LARGEST_MANIFEST: u64 = 1 << 20;

/// The longest path that the kernel takes, bytes (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;

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
    /// `-c`.
    pub count: CountArgs,
    /// Options of settings: `-t`, `--mem`, …
    pub settings: Typed,
    /// Positional names.
    pub names: &'a [String],
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
        // What is no file is refused where it is to be taken in; a stack can be found without it.
        (None, true) => {
            match read_default(&start.join(".env"), &shown_path(around, &start.join(".env")), LARGEST) {
                Ok(text) => text,
                Err(Unreadable::Missing | Unreadable::NoFile(_)) => None,
                Err(Unreadable::Other(error)) => return Err(error),
            }
        }
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
    let label = shown_path(around, &path);
    let mut named = File { path, label, origin: named_by, once: from_stdin, most: LARGEST };
    let procfile = if from_stdin {
        Text::new("standard input", standard_input(around)?)
    } else {
        named.read_procfile()?
    };

    let mut env = if stack.env.is_empty() {
        vec![File {
            path: root.join(".env"),
            label: shown_path(around, &root.join(".env")),
            origin: None,
            once: false,
            most: LARGEST,
        }]
    } else {
        let names = stack.env.iter().flat_map(|list| list.split(',')).map(str::trim);
        let file = |name: &str| File {
            path: around.directory.join(name),
            label: name.to_owned(),
            origin: Some(origins.of("env")),
            once: false,
            most: LARGEST,
        };
        names.filter(|name| !name.is_empty()).map(file).collect()
    };
    let beside = match (from_stdin, named.path.parent()) {
        (false, Some(parent)) => parent,
        _ => root.as_path(),
    };
    let path = beside.join("lpm.toml");
    let label = shown_path(around, &path);
    let mut manifest = File { path, label, origin: None, once: false, most: LARGEST_MANIFEST };
    let env_files = match early {
        Some(text) => vec![text],
        None => env.iter_mut().filter_map(|file| file.read().transpose()).collect::<Result<_, _>>()?,
    };
    let manifest_text = manifest.read()?;
    let sources = Sources {
        procfile,
        env_files,
        manifest: manifest_text,
        environment: around.environment.clone(),
        root,
        options: options(around, asked, origins),
        machine: machine(),
        // Known once the stack is claimed.
        socket: None,
    };
    Ok(Gathered { sources, procfile: procfile_path, files: Files { procfile: named, env, manifest } })
}

/// Where the texts of a stack came from, so that they can be read again.
#[derive(Debug, Clone)]
pub struct Files {
    procfile: File,
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
    /// It was a pipe, and there is no more of it.
    once: bool,
    /// The largest that is read, bytes.
    most: u64,
}

impl File {
    /// For the start. `None` if it need not be there and is not.
    fn read(&mut self) -> Result<Option<Text>, Error> {
        match &self.origin {
            None => read_default(&self.path, &self.label, self.most).map_err(|error| self.unreadable(error)),
            Some(_) => self.read_named().map(Some).map_err(|error| self.unreadable(error)),
        }
    }

    /// For the start, of the Procfile, which has to be there.
    fn read_procfile(&mut self) -> Result<Text, Error> {
        let read = match &self.origin {
            None => read_file(&self.path, &self.label, self.most).map(|bytes| self.text(bytes)),
            Some(_) => self.read_named(),
        };
        read.map_err(|error| self.unreadable(error))
    }

    fn read_named(&mut self) -> Result<Text, Unreadable> {
        let (bytes, lasting) = read_named(&self.path, &self.label, self.most)?;
        self.once = !lasting;
        Ok(self.text(bytes))
    }

    /// Once more, while the stack runs. `None` if it need not be there and is not.
    fn read_again(&self) -> Result<Option<Text>, Error> {
        match &self.origin {
            None => read_default(&self.path, &self.label, self.most).map_err(|error| self.gone(error)),
            Some(_) => self.read_there().map(Some),
        }
    }

    /// Once more, of what has to be there.
    fn read_there(&self) -> Result<Text, Error> {
        let read = read_file(&self.path, &self.label, self.most);
        read.map(|bytes| self.text(bytes)).map_err(|error| self.gone(error))
    }

    fn text(&self, bytes: Vec<u8>) -> Text {
        Text::new(self.label.as_str(), bytes)
    }

    fn unreadable(&self, error: Unreadable) -> Error {
        match error {
            Unreadable::Missing => missing(&self.label, self.origin.as_deref()),
            Unreadable::NoFile(kind) => {
                let label = &self.label;
                let hint = match self.path.file_name().and_then(OsStr::to_str) {
                    Some("Procfile") => format!("name it if it is meant: -f {label}"),
                    Some(".env") => format!("name it if it is meant: -e {label}"),
                    _ => "put a file there, or remove it".to_owned(),
                };
                no_file(label, kind, &hint)
            }
            Unreadable::Other(error) => error,
        }
    }

    fn gone(&self, error: Unreadable) -> Error {
        match error {
            Unreadable::NoFile(kind) => {
                no_file(&self.label, kind, "put a file there, or start the stack again")
            }
            error => self.unreadable(error),
        }
    }
}

impl Files {
    /// Reads everything again.
    ///
    /// # Errors
    /// A file that cannot be read; nothing is changed then.
    pub fn read(&self, sources: &mut Sources) -> Result<(), Error> {
        let env = self.env_again(sources)?;
        let manifest = self.manifest.read_again()?;
        let procfile = match self.procfile.once {
            true => sources.procfile.clone(),
            false => self.procfile.read_there()?,
        };
        (sources.procfile, sources.env_files, sources.manifest) = (procfile, env, manifest);
        Ok(())
    }

    /// Reads the env files again.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub fn read_env(&self, sources: &mut Sources) -> Result<(), Error> {
        sources.env_files = self.env_again(sources)?;
        Ok(())
    }

    /// Those that were named are all there, so each has its place among the texts.
    fn env_again(&self, sources: &Sources) -> Result<Vec<Text>, Error> {
        let again = |(at, file): (usize, &File)| match file.once {
            true => sources.env_files.get(at).cloned().map(Ok),
            false => file.read_again().transpose(),
        };
        self.env.iter().enumerate().filter_map(again).collect()
    }

    /// Where `lpm.toml` is, or would be.
    pub fn manifest(&self) -> &Path {
        &self.manifest.path
    }
}

/// The options as `config` wants them: each with what it came after.
fn options(around: &Surroundings, asked: Asked<'_>, origins: &Origins) -> Options {
    let Asked { stack, count, settings, names } = asked;
    let given = |id: &str, values: Vec<String>| Given { origin: origins.of(id), values };
    let mut options = Options {
        names: given("names", names.to_vec()),
        concurrency: given("concurrency", count.concurrency.into_iter().collect()),
        no_port: stack.no_port,
        directory: around.directory.clone(),
        ..Options::default()
    };
    options.give("name", given("name", stack.name.into_iter().collect()));
    for (option, values) in settings {
        options.give(option, given(option, values));
    }
    options
}

/// The path of a file as errors show it: what an editor opens from the working directory.
fn shown_path(around: &Surroundings, path: &Path) -> String {
    match path.strip_prefix(&around.directory) {
        Ok(below) if below == Path::new("") => ".".to_owned(),
        Ok(below) => below.display().to_string(),
        Err(_) => path.display().to_string(),
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
fn missing(label: &str, from: Option<&str>) -> Error {
    let hint = match from {
        Some(from) => format!("check {from}"),
        None => "go to the directory that has one, or name one: lpm start -f FILE".to_owned(),
    };
    Error::new(format!("{label}: does not exist ({hint})"))
}

/// `PROCFILE` of a `.env`; what is wrong with the file is said later, when all of it is read.
fn procfile_variable(text: &Text) -> Option<OsString> {
    let (variables, _) = dotenv::parse(&text.label, &text.bytes, false);
    let last = variables.iter().rev().find(|variable| variable.key == "PROCFILE");
    last.and_then(|variable| variable.value(LONGEST_PATH, |_| None))
}

enum Unreadable {
    Missing,
    /// Something that may have no end, or none now: `a pipe`.
    NoFile(&'static str),
    Other(Error),
}

/// A file that was not named as something else: what is none is not waited for, and not read.
fn read_file(path: &Path, label: &str, most: u64) -> Result<Vec<u8>, Unreadable> {
    use rustix::fs::{Mode, OFlags};
    // A pipe that nobody writes to would let a plain open wait (fifo(7)).
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT => Unreadable::Missing,
        errno => Unreadable::Other(unreadable(label, errno.into())),
    })?;
    let file = std::fs::File::from(file);
    match file.metadata().map(|data| kind(&data)) {
        Ok(None) => read_all(file, label, most).map_err(Unreadable::Other),
        Ok(Some(kind)) => Err(Unreadable::NoFile(kind)),
        Err(error) => Err(Unreadable::Other(unreadable(label, error))),
    }
}

/// One that was named, whatever it is; and whether it can be read once more.
fn read_named(path: &Path, label: &str, most: u64) -> Result<(Vec<u8>, bool), Unreadable> {
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unreadable::Missing,
        _ => Unreadable::Other(unreadable(label, error)),
    })?;
    let lasting = file.metadata().is_ok_and(|data| kind(&data).is_none());
    Ok((read_all(file, label, most).map_err(Unreadable::Other)?, lasting))
}

/// What it is, if it is neither a file (a directory says so itself when it is read) nor `/dev/null`, with which
/// people mask one.
fn kind(data: &Metadata) -> Option<&'static str> {
    let (of, null) = (data.file_type(), rustix::fs::makedev(1, 3));
    match () {
        () if of.is_file() || of.is_dir() => None,
        () if of.is_char_device() && data.rdev() == null => None,
        () if of.is_fifo() => Some("a pipe"),
        () => Some("a device"),
    }
}

fn no_file(label: &str, kind: &str, hint: &str) -> Error {
    Error::new(format!("{label}: is {kind}, not a file ({hint})"))
}

/// Standard input, or what was read of it before lpm was executed again.
fn standard_input(around: &Surroundings) -> Result<Vec<u8>, Error> {
    match around.variable(scope::STDIN).and_then(|number| number.to_str()) {
        Some(number) => {
            scope::stdin_handed_over(number).map_err(|error| Error::new(format!("standard input: {error}")))
        }
        None => read_all(io::stdin().lock(), "standard input", LARGEST),
    }
}

/// A file that need not be there. A directory of that name is not it.
fn read_default(path: &Path, label: &str, most: u64) -> Result<Option<Text>, Unreadable> {
    if path.is_dir() {
        return Ok(None);
    }
    match read_file(path, label, most) {
        Ok(bytes) => Ok(Some(Text::new(label, bytes))),
        Err(Unreadable::Missing) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_all(reader: impl Read, label: &str, most: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    reader.take(most + 1).read_to_end(&mut bytes).map_err(|error| unreadable(label, error))?;
    match bytes.len() as u64 > most {
        true => {
            Err(Error::new(format!("{label}: is larger than {} MiB (is it the right file?)", most >> 20)))
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
