//! Text in, one [`Stack`] or located errors out. Pure: reads no file, no environment, no clock.
//!
//! The command reads the files and hands them in as [`Sources`]; [`load`] puts the answers of the parsers
//! together. All that is wrong is reported at once, and before anything runs.

pub mod amend;
pub mod assignment;
pub mod command;
pub mod difference;
pub mod dotenv;
pub mod environment;
pub mod error;
pub mod execution;
pub mod formation;
pub mod logging;
mod manifest;
pub mod matching;
pub mod options;
pub mod procfile;
pub mod quantity;
pub mod rows;
pub mod signal;
pub mod spec;
pub mod stack;
pub mod table;
#[cfg(test)]
mod tests;
pub mod value;
pub mod words;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

pub use assignment::{assignments, check_target};
pub use difference::{Change, ChangeKind, StackChange, counts, merge, stack_change};
pub use environment::{SCRUBBED, environment_of};
pub use error::{Diagnostic, Place, Severity};
pub use matching::{Meant, NoSuch, Selection, distinct, matching, meant};
pub use options::{Assignment, Given, Options};
pub use procfile::choose_procfile;
pub use spec::{Said, Spec};
pub use stack::*;

use environment::{Merged, Variables, port_variable};
use error::quote;
use manifest::Manifest;
use matching::{Pattern, is_pattern};
use options::{Target, unknown};
use procfile::Entry;
use spec::Resolved;
use table::Row;
use value::Value;
use words::Precedence;

/// The most that the instances of a stack hold each for itself, bytes: each has a command and what lpm.toml lays over
/// the environment. Ten thousand instances have 12 KiB each.
const LARGEST_STACK: usize = 128 << 20;

/// A file that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// As the user named it: what its errors begin with.
    pub label: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl Text {
    /// A file called `label`.
    pub fn new(label: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { label: label.into(), bytes: bytes.into() }
    }
}

/// Everything a [`Stack`] is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// The Procfile.
    pub procfile: Text,
    /// Env files, later wins.
    pub env_files: Vec<Text>,
    /// `lpm.toml`, if there is one beside the Procfile.
    pub manifest: Option<Text>,
    /// What lpm itself inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// The directory that processes run in, absolute.
    pub root: PathBuf,
    /// What was typed.
    pub options: Options,
    /// What `%` is a part of.
    pub machine: Machine,
    /// Where the running stack is controlled, for the instances that may (`control`).
    pub socket: Option<PathBuf>,
}

impl Sources {
    /// Forgets what was typed about process types that the Procfile does not have any more. For a reload.
    pub fn forget_what_is_gone(&mut self) {
        let (entries, _) = procfile::parse(&self.procfile.label, &self.procfile.bytes);
        // One without any is refused in any case.
        if !entries.is_empty() {
            self.options.forget_what_is_gone(&entries);
        }
    }
}

/// What came of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What to run.
    pub stack: Stack,
    /// What was said, unresolved.
    pub spec: Spec,
    /// What env files set, without anything inherited or injected: what an exporter writes down.
    pub declared: Vec<(OsString, OsString)>,
    /// Warnings, which `start` says, and notes, which only `check` says. No errors.
    pub warnings: Vec<Diagnostic>,
}

/// Puts the stack together, or says all that is wrong (the warnings among it).
///
/// A formation that leaves no instance is no error here: `check`, `run` and exporters have use for it.
pub fn load(sources: &Sources) -> Result<Loaded, Vec<Diagnostic>> {
    Assembly::read(sources).stack()
}

/// The stack of one instance, `run.<pid>`, for a command that is run once in the environment and under the
/// ceilings of the stack. A single argument that names a Procfile entry runs that entry, with its settings;
/// a single other argument is a command's text; several are executed as given. The Procfile may be empty.
///
/// An entry gets the first port of its block; any other command keeps the PORT it inherited. Nothing is
/// restarted. The formation and the names are not looked at.
pub fn load_one_off(sources: &Sources, arguments: &[OsString], pid: u32) -> Result<Loaded, Vec<Diagnostic>> {
    Assembly::read(sources).one_off(arguments, pid)
}

/// How many instances each process type has that `names` mean, once they are started by name: what the
/// running stack was told, else what the formation says, at least 1; for `web.3` at least 3. Names are those
/// of `start`, or patterns over them ([`matching()`]); `all` are those that the formation does not leave out.
///
/// For `start NAME` in a stack that runs without it: the counts go into [`Options::scale`].
pub fn named_counts(sources: &Sources, names: &[String]) -> Result<BTreeMap<String, u32>, Vec<Diagnostic>> {
    Assembly::read(sources).named_counts(names)
}

/// All sources, read; what is wrong with them is in `problems`.
struct Assembly<'a> {
    sources: &'a Sources,
    entries: Vec<Entry<'a>>,
    spec: Spec,
    environment: Variables,
    declared: Variables,
    ports: Option<Ports>,
    routes: logging::Shared,
    problems: Vec<Diagnostic>,
}

impl<'a> Assembly<'a> {
    fn read(sources: &'a Sources) -> Self {
        let options = &sources.options;
        let (entries, mut problems) = procfile::parse(&sources.procfile.label, &sources.procfile.bytes);
        let Manifest { stack: of_file, source: file } = match &sources.manifest {
            Some(text) => {
                manifest::parse(&text.label, &text.bytes, &entries, !options.no_port, &mut problems)
            }
            None => Manifest::default(),
        };
        let (of_options, typed) = spec::of_options(options, &entries, &mut problems);
        let told = spec::of_told(&options.set, &entries, &mut problems);
        let spec = Spec::new([of_file, of_options], [file, typed, told]);
        let Merged { all: environment, declared, port } = read_environment(sources, &spec, &mut problems);
        let ports = Ports::read(options, &spec, &environment, port, &mut problems);
        let routes = logging::Shared::default();
        Self { sources, entries, spec, environment, declared, ports, routes, problems }
    }

    fn stack(mut self) -> Result<Loaded, Vec<Diagnostic>> {
        if self.entries.is_empty() && !self.problems.iter().any(Diagnostic::is_error) {
            let place = Place::whole(&self.sources.procfile.label);
            self.problems.push(Diagnostic::error(place, "no processes defined (write \"name: command\")"));
        }
        let selected = self.selected();
        let mut stack = self.empty_stack();
        let mut bytes = 0;
        for (process, numbers) in selected.iter().enumerate() {
            stack.processes[process].count = u32::try_from(numbers.len()).unwrap_or(MOST_INSTANCES);
            for &number in numbers {
                let entry = self.entries[process];
                let name = format!("{}.{number}", entry.name);
                let Some(port) = self.port(process, number) else { continue };
                let target = Target::Instance(process, number);
                let instance = self.instance(name, target, command::command(entry.text), port);
                let pair = |(name, value): &(OsString, OsString)| name.len() + value.len();
                let environment = instance.iter().flat_map(|one| &one.environment).map(pair);
                bytes += entry.text.len() + environment.sum::<usize>();
                stack.instances.extend(instance);
                if bytes > LARGEST_STACK {
                    let message = format!(
                        "commands and environments of its instances take more than {} MiB together \
                         (write fewer instances, or what they share into an env file)",
                        LARGEST_STACK >> 20
                    );
                    let place = Place::line(&self.sources.procfile.label, entry.line);
                    self.problems.push(Diagnostic::error(place, message));
                    return self.finish(stack);
                }
            }
        }
        self.advise(&stack);
        self.finish(stack)
    }

    fn one_off(mut self, arguments: &[OsString], pid: u32) -> Result<Loaded, Vec<Diagnostic>> {
        let mut stack = self.empty_stack();
        let name = format!("run.{pid}");
        let single = match arguments {
            [argument] => argument.to_str(),
            _ => None,
        };
        let entry = single.and_then(|name| self.entries.iter().position(|entry| entry.name == name));
        let (process, target, command) = match (entry, single) {
            (Some(process), _) => {
                (process, Target::Process(process), command::command(self.entries[process].text))
            }
            (None, Some(text)) => (stack.processes.len(), Target::All, command::command(text)),
            (None, None) => (stack.processes.len(), Target::All, Command::Exec(arguments.to_vec())),
        };
        if arguments.iter().all(|argument| argument.is_empty()) {
            self.problems.push(Diagnostic::error(None, "no command to run (write lpm run COMMAND)"));
        }
        if entry.is_none() {
            let text = arguments.join(OsStr::new(" ")).to_string_lossy().into_owned();
            stack.processes.push(Process { name: "run".to_owned(), line: 0, text, count: 0, port: None });
        }
        stack.processes[process].count = 1;
        let port = stack.processes[process].port;
        if let Some(mut instance) = self.instance(name, target, command, port) {
            instance.process = process;
            instance.number = pid;
            instance.policy.restart.when = RestartWhen::No;
            instance.policy.oneshot = false;
            stack.instances.push(instance);
        }
        self.finish(stack)
    }

    /// The stack before it has instances.
    fn empty_stack(&mut self) -> Stack {
        let options = &self.sources.options;
        let problems = &mut self.problems;
        let given = |row| self.spec.stack_given(row);
        let from = match options.gives(&rows::LOG) {
            true => &options.directory,
            false => &self.sources.root,
        };
        let logging = logging::logging(
            [&given(&rows::LOG), &given(&rows::LOG_ROTATE), &given(&rows::HISTORY)],
            from,
            &mut self.routes,
            problems,
        );
        let metrics = given(&rows::METRICS);
        let address = metrics.last().map(|text| quantity::loopback(text.trim())).transpose();
        let address = address.unwrap_or_else(|message| {
            problems.push(metrics.error(message));
            None
        });
        let name = self.name();
        let processes: Vec<Process> = self
            .entries
            .iter()
            .enumerate()
            .map(|(index, entry)| Process {
                name: entry.name.to_owned(),
                line: entry.line,
                text: entry.text.to_owned(),
                count: 0,
                port: self.ports.as_ref().and_then(|ports| ports.of(index, 1)),
            })
            .collect();
        let ports = processes.iter().filter_map(|process| Some((process.name.as_str(), process.port?)));
        environment::inject_shared(&mut self.environment, &name, &self.sources.root, ports);
        Stack {
            name,
            root: self.sources.root.clone(),
            processes,
            instances: Vec::new(),
            environment: std::mem::take(&mut self.environment).into_pairs(),
            ceilings: self.spec.stack_limits(&self.sources.machine),
            limits: self.spec.stack_word(&rows::LIMITS),
            exit_code: self.spec.stack_word(&rows::EXIT_CODE),
            logging,
            metrics: address,
        }
    }

    /// One instance; `None` if its settings contradict each other.
    fn instance(
        &mut self,
        name: String,
        target: Target,
        command: Command,
        port: Option<u16>,
    ) -> Option<Instance> {
        let (process, number) = match target {
            Target::All => (0, 1),
            Target::Process(process) => (process, 1),
            Target::Instance(process, number) => (process, number),
        };
        let process_name = match target {
            Target::All => "run",
            Target::Process(_) | Target::Instance(..) => self.entries[process].name,
        };
        let root = &self.sources.root;
        let Resolved {
            ceilings,
            policy,
            execution,
            quiet,
            pretty,
            control,
            pty,
            log,
            working_directory,
            mut environment,
        } = match self.spec.view(target).resolve(process_name, root, &self.sources.machine) {
            Ok(resolved) => resolved,
            Err(message) => {
                let problem = Diagnostic::error(None, message);
                // Said once, not for each instance.
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
                return None;
            }
        };
        // What was typed wins over the file, here too.
        let log = log.filter(|_| !self.sources.options.gives(&rows::LOG));
        let route = log.map(|sinks| self.routes.route(&sinks, root)).transpose().unwrap_or_else(|message| {
            let problem = Diagnostic::error(None, format!("log of {process_name}: {message}"));
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
            None
        });
        if working_directory != *root {
            environment.push(("PWD".into(), working_directory.clone().into()));
        }
        let socket = self.sources.socket.as_deref().filter(|_| control);
        environment.extend(environment::injected(&name, process_name, port, socket));
        environment.shrink_to_fit();
        Some(Instance {
            name,
            process,
            number,
            command,
            environment,
            working_directory,
            port,
            ceilings,
            policy,
            execution,
            quiet,
            pretty,
            route,
            control,
            pty,
        })
    }

    /// The numbers of the instances of each entry: the formation, less what the names leave out.
    fn selected(&mut self) -> Vec<Vec<u32>> {
        let options = &self.sources.options;
        let formation = self.spec.stack_given(&rows::FORMATION);
        let counts = formation::counts(options, &formation, &self.entries, &mut self.problems);
        let scaled = self.scaled();
        let all = |process: usize| scaled[process].unwrap_or_else(|| counts.of(process));
        let total: u64 = (0..self.entries.len()).map(|process| u64::from(all(process))).sum();
        if total > u64::from(MOST_INSTANCES) {
            let (place, asks) = match scaled.iter().any(Option::is_some) {
                true => (Some(Place::whole("scale")), "that would be"),
                false => (None, "the formation asks for"),
            };
            let message = format!("{asks} {total} instances (write {MOST_INSTANCES} or less)");
            self.problems.push(Diagnostic::error(place, message));
            return vec![Vec::new(); self.entries.len()];
        }
        for (process, number) in self.spec.numbered() {
            let count = all(process);
            if number > count && count > 0 {
                let name = self.entries[process].name;
                let message = format!("there is no {name}.{number}: the formation has {name}={count}");
                self.problems.push(Diagnostic::warning(None, message));
            }
        }
        if options.names.values.is_empty() {
            return (0..self.entries.len()).map(|process| (1..=all(process)).collect()).collect();
        }
        let mut selected = vec![Vec::new(); self.entries.len()];
        for name in &options.names.values {
            match Target::parse(name, &self.entries) {
                Ok(Target::All) => {
                    for (process, numbers) in selected.iter_mut().enumerate() {
                        numbers.extend(1..=all(process));
                    }
                }
                // Named, it runs even if the formation does not list it, as with foreman.
                Ok(Target::Process(process)) => selected[process].extend(1..=counts.named(process)),
                // What it was told since is below.
                Ok(Target::Instance(process, _)) if scaled[process].is_some() => {}
                Ok(Target::Instance(process, number)) => {
                    let count = counts.named(process);
                    if number > count {
                        let process = self.entries[process].name;
                        let message = format!(
                            "there is no {name}: the formation has {process}={count} \
                             (write -m {process}={number})"
                        );
                        self.problems.push(options.names.error(message));
                    } else {
                        selected[process].push(number);
                    }
                }
                Err(message) => self.problems.push(options.names.error(message)),
            }
        }
        for (numbers, scaled) in selected.iter_mut().zip(scaled) {
            if let Some(count) = scaled {
                *numbers = (1..=count).collect();
            }
            numbers.sort_unstable();
            numbers.dedup();
        }
        selected
    }

    /// How many of each entry the running stack was told to have, if it was.
    fn scaled(&mut self) -> Vec<Option<u32>> {
        let mut scaled = vec![None; self.entries.len()];
        for (name, &count) in &self.sources.options.scale {
            match self.entries.iter().position(|entry| entry.name == name) {
                Some(process) => scaled[process] = Some(count),
                None => {
                    let message = unknown(name, &self.entries);
                    self.problems.push(Diagnostic::warning(Place::whole("scale"), message));
                }
            }
        }
        scaled
    }

    fn named_counts(mut self, names: &[String]) -> Result<BTreeMap<String, u32>, Vec<Diagnostic>> {
        let options = &self.sources.options;
        let given = self.spec.stack_given(&rows::FORMATION);
        let formation = formation::counts(options, &given, &self.entries, &mut self.problems);
        let scaled = self.scaled();
        let count = |process: usize| match scaled[process] {
            Some(count @ 1..) => count,
            Some(0) | None => formation.named(process).max(1),
        };
        let in_all =
            |process: usize| scaled[process].is_some_and(|count| count > 0) || formation.of(process) > 0;
        let mut counts = BTreeMap::new();
        for name in names {
            let mut ask = |process: usize, count: u32| {
                let known = counts.entry(self.entries[process].name.to_owned()).or_insert(count);
                *known = count.max(*known);
            };
            if is_pattern(name) {
                let pattern = Pattern::new(name);
                let mut found = false;
                for (process, entry) in self.entries.iter().enumerate() {
                    let instance = |number| pattern.fits(&format!("{}.{number}", entry.name));
                    if pattern.fits(entry.name) || (1..=count(process)).any(instance) {
                        found = true;
                        ask(process, count(process));
                    }
                }
                if !found {
                    let known = error::list(self.entries.iter().map(|entry| entry.name));
                    let message = format!("no name fits {} (the Procfile has {known})", quote(name));
                    self.problems.push(Diagnostic::error(None, message));
                }
                continue;
            }
            match Target::parse(name, &self.entries) {
                Ok(Target::All) => {
                    (0..self.entries.len()).filter(|&process| in_all(process)).for_each(|p| ask(p, count(p)));
                }
                Ok(Target::Process(process)) => ask(process, count(process)),
                Ok(Target::Instance(process, number)) => ask(process, count(process).max(number)),
                Err(message) => self.problems.push(Diagnostic::error(None, message)),
            }
        }
        match self.problems.iter().any(Diagnostic::is_error) {
            true => Err(self.problems),
            false => Ok(counts),
        }
    }

    /// The port of an instance: `None` if it would be too high, which is said once for the entry.
    fn port(&mut self, process: usize, number: u32) -> Option<Option<u16>> {
        let Some(ports) = &self.ports else { return Some(None) };
        let port = ports.of(process, number);
        if port.is_none() {
            let entry = self.entries[process];
            let place = Place::line(&self.sources.procfile.label, entry.line);
            let before = self.problems.last().is_some_and(|last| last.place.as_ref() == Some(&place));
            if !before {
                let message = format!(
                    "{}.{number} would get port {}, above 65535 \
                     (lower --port or --port-step, or use --no-port)",
                    entry.name,
                    ports.number(process, number)
                );
                self.problems.push(Diagnostic::error(place, message));
            }
            return None;
        }
        Some(port)
    }

    fn name(&mut self) -> String {
        let given = self.spec.stack_given(&rows::NAME);
        match given.last() {
            Some(name) if name.trim().is_empty() || name.chars().any(char::is_control) => {
                self.problems
                    .push(given.error(format!("{} is no name (write letters and digits)", quote(name))));
                String::new()
            }
            Some(name) => name.to_owned(),
            None => match self.sources.root.file_name() {
                Some(name) => name.to_string_lossy().chars().filter(|c| !c.is_control()).collect(),
                None => "lpm".to_owned(),
            },
        }
    }

    /// What runs, but perhaps not as it was meant.
    fn advise(&mut self, stack: &Stack) {
        let label = &self.sources.procfile.label;
        let set =
            |name: &str| stack.environment.iter().any(|(known, value)| known == name && !value.is_empty());
        let unbuffered = set("PYTHONUNBUFFERED");
        let mut variables: HashMap<String, &str> = HashMap::new();
        for entry in &self.entries {
            let place = || Place::line(label, entry.line);
            for note in command::notes(entry.name, entry.text, unbuffered) {
                self.problems.push(Diagnostic::note(place(), note));
            }
            if self.ports.is_some() {
                let variable = port_variable(entry.name);
                let first = *variables.entry(variable.clone()).or_insert(entry.name);
                if first != entry.name {
                    let message = format!(
                        "{variable} is the port of {first}, and {} has no such variable \
                         (rename one of them, or use --no-port)",
                        entry.name
                    );
                    self.problems.push(Diagnostic::warning(place(), message));
                }
            }
        }
        let mut ports: Vec<(u16, usize)> =
            stack.instances.iter().enumerate().filter_map(|(index, i)| Some((i.port?, index))).collect();
        ports.sort_unstable();
        // Steps of zero ask for it.
        let shared = self.ports.as_ref().is_some_and(|ports| ports.step > 0 && ports.instance_step > 0);
        if let Some(pair) = ports.windows(2).find(|pair| shared && pair[0].0 == pair[1].0) {
            let name = |at: usize| &stack.instances[pair[at].1].name;
            let message = format!("{} and {} share port {} (raise --port-step)", name(0), name(1), pair[0].0);
            self.problems.push(Diagnostic::warning(None, message));
        }
    }

    fn finish(mut self, mut stack: Stack) -> Result<Loaded, Vec<Diagnostic>> {
        stack.logging.form = self.routes.form.unwrap_or_default();
        let rotate = self.spec.stack_given(&rows::LOG_ROTATE);
        logging::check_rotation(stack.logging.rotation, &rotate, &self.routes, &mut self.problems);
        if self.problems.iter().any(Diagnostic::is_error) {
            return Err(self.problems);
        }
        Ok(Loaded { stack, spec: self.spec, declared: self.declared.into_pairs(), warnings: self.problems })
    }
}

fn read_environment(sources: &Sources, spec: &Spec, problems: &mut Vec<Diagnostic>) -> Merged {
    let precedence: Precedence = spec.stack_word(&rows::ENV_PRECEDENCE);
    let expand = spec.stack_value(&rows::EXPAND_ENV) == Value::Bool(true);
    let mut files = Vec::with_capacity(sources.env_files.len());
    for file in &sources.env_files {
        let (variables, odd) = dotenv::parse(&file.label, &file.bytes, expand);
        problems.extend(odd);
        files.push((file.label.as_str(), variables));
    }
    environment::merge(&sources.environment, &files, precedence, problems)
}

/// Base and steps; process type `i`, instance `n` gets `base + i * step + (n - 1) * instance_step`.
struct Ports {
    base: u64,
    step: u64,
    instance_step: u64,
}

impl Ports {
    /// `-p`, else lpm.toml, else PORT of an env file or inherited (whichever won), else 5000.
    fn read(
        options: &Options,
        spec: &Spec,
        environment: &Variables,
        place: Place,
        problems: &mut Vec<Diagnostic>,
    ) -> Option<Self> {
        if options.no_port {
            return None;
        }
        let mut number = |row: &Row, what: &str, least: u64| {
            let given = spec.stack_given(row);
            let text = given.last().map_or_else(|| row.default().to_string(), |text| text.trim().to_owned());
            match quantity::number(&text, what, least, 65_535) {
                Ok(number) => Some(number),
                // Nothing was said, and there is no default.
                Err(_) if text.is_empty() && given.last().is_none() => None,
                Err(message) => {
                    problems.push(given.error(message));
                    None
                }
            }
        };
        let asked = number(&rows::PORT, "a port", 1);
        let step = number(&rows::PORT_STEP, "a port step", 0).unwrap_or(0);
        let instance_step = number(&rows::INSTANCE_PORT_STEP, "a port step", 0).unwrap_or(0);
        let given = spec.stack_said(&rows::PORT).is_some();
        let base = match (asked, environment.value("PORT")) {
            (Some(port), _) => port,
            (None, Some(text)) if !given && !text.is_empty() => {
                let parsed = text.to_str().map(|text| quantity::number(text.trim(), "a port", 1, 65_535));
                match parsed {
                    Some(Ok(port)) => port,
                    _ => {
                        let message = "PORT is not a port (write 1 to 65535, or use --no-port)";
                        problems.push(Diagnostic::error(place, message));
                        5000
                    }
                }
            }
            (None, _) => 5000,
        };
        Some(Self { base, step, instance_step })
    }

    fn number(&self, process: usize, number: u32) -> u64 {
        let process = u64::try_from(process).expect("an index fits 64 bits");
        self.base + process * self.step + u64::from(number - 1) * self.instance_step
    }

    fn of(&self, process: usize, number: u32) -> Option<u16> {
        u16::try_from(self.number(process, number)).ok()
    }
}

/// The refusal of a name that a command was given, listing what there is.
pub fn unknown_name(name: &str, stack: &Stack) -> String {
    unknown(name, &entries_of(stack))
}

/// What the Procfile has. A process type that it had before stays known to a running stack, without a line.
fn entries_of(stack: &Stack) -> Vec<Entry<'_>> {
    let entry = |process| {
        let Process { name, text, line, .. }: &Process = process;
        Entry { name, text, line: *line }
    };
    stack.processes.iter().filter(|process| process.is_in_file()).map(entry).collect()
}
