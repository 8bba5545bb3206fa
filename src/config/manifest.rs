//! `lpm.toml`, beside the Procfile: the settings of the stack, of all process types, of one, of an instance.
//!
//! ```toml
//! [stack]
//! memory-max = "2G"
//!
//! [defaults]
//! timeout-stop = "10s"
//!
//! [process.web]
//! memory-max = "512M"
//! environment = { RAILS_ENV = "production" }
//!
//! [process."worker.2"]
//! cpu-quota = "150%"
//! ```
//!
//! Values may be written as text or as what they are (`cpu-quota = 1.5`, `can-die = true`). The Procfile says
//! what exists: a process type that it does not have is refused, and so is a key that lpm does not know.
//! Every option wins over this file.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use toml::Spanned;

use super::environment::{self, is_injected};
use super::error::{Diagnostic, MOST_FINDINGS, Place, nearest, quote};
use super::options::{Given, Target};
use super::procfile::Entry;
use super::settings::{Key, Settings, Source};
use super::stack::Machine;
use super::{dotenv, error};

/// The most variables of one `environment`: every instance holds its own, and they are laid over each other one by one.
const MOST_VARIABLES: usize = 1000;

/// What the file says, checked against the Procfile.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    /// As if typed, the origin being the line: `lpm.toml:3: port`.
    pub stack: StackOptions,
    /// Ceilings of the stack.
    pub ceilings: Settings,
    /// Settings of process types.
    pub source: Source,
}

/// What `[stack]` shares with the options.
#[derive(Debug, Default)]
pub(super) struct StackOptions {
    pub name: Given,
    pub port: Given,
    pub port_step: Given,
    pub instance_port_step: Given,
    pub formation: Given,
    pub exit_code: Given,
    pub log: Given,
    pub log_rotate: Given,
    pub history: Given,
    pub metrics: Given,
    pub limits: Given,
    pub env_precedence: Given,
    pub expand_env: Given,
}

/// Reads `bytes`, a file called `label`. `ports` says whether lpm injects PORT.
pub(super) fn parse(
    label: &str,
    bytes: &[u8],
    entries: &[Entry<'_>],
    machine: &Machine,
    ports: bool,
    problems: &mut Vec<Diagnostic>,
) -> Manifest {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let line = memchr::memchr_iter(b'\n', &bytes[..error.valid_up_to()]).count() + 1;
            problems.push(Diagnostic::error(Place::line(label, line), "the file is not UTF-8"));
            return Manifest::default();
        }
    };
    let file = match toml::from_str::<File>(text) {
        Ok(file) => file,
        Err(error) => {
            let line = error.span().map_or(1, |span| line_of(text, span.start));
            problems.push(Diagnostic::error(Place::line(label, line), refusal(&error)));
            return Manifest::default();
        }
    };
    Reader { label, text, entries, machine, ports, problems, wrong: 0 }.manifest(file)
}

struct Reader<'a> {
    label: &'a str,
    text: &'a str,
    entries: &'a [Entry<'a>],
    machine: &'a Machine,
    ports: bool,
    problems: &'a mut Vec<Diagnostic>,
    /// How many errors were found.
    wrong: usize,
}

impl Reader<'_> {
    fn manifest(mut self, file: File) -> Manifest {
        let mut manifest = Manifest::default();
        if let Some(stack) = file.stack {
            manifest.stack = StackOptions {
                name: self.given("name", stack.name),
                port: self.given("port", stack.port),
                port_step: self.given("port-step", stack.port_step),
                instance_port_step: self.given("instance-port-step", stack.instance_port_step),
                formation: self.given("formation", stack.formation),
                exit_code: self.given("exit-code", stack.exit_code),
                log: self.given("log", stack.log),
                log_rotate: self.given("log-rotate", stack.log_rotate),
                history: self.given("history", stack.history),
                metrics: self.given("metrics", stack.metrics),
                limits: self.given("limits", stack.limits),
                env_precedence: self.given("env-precedence", stack.env_precedence),
                expand_env: self.given("expand-env", stack.expand_env),
            };
            let ceilings = [
                ("memory-max", Key::MemoryMax, stack.memory_max),
                ("memory-high", Key::MemoryHigh, stack.memory_high),
                ("memory-swap-max", Key::MemorySwapMax, stack.memory_swap_max),
                ("cpu-quota", Key::CpuQuota, stack.cpu_quota),
                ("cpu-weight", Key::CpuWeight, stack.cpu_weight),
                ("tasks-max", Key::TasksMax, stack.tasks_max),
            ];
            self.set_all(&mut manifest.ceilings, ceilings);
        }
        if let Some(defaults) = file.defaults {
            manifest.source.push((Target::All, self.settings(defaults)));
        }
        for (name, table) in file.process.unwrap_or_default() {
            let target = match name.get_ref().as_str() {
                "all" => Err("\"all\" is no process type (write [defaults])".to_owned()),
                name => Target::parse(name, self.entries),
            };
            let settings = self.settings(table);
            match target {
                Ok(target) => manifest.source.push((target, settings)),
                Err(message) => self.error(name.span().start, message),
            }
        }
        manifest
    }

    fn settings(&mut self, table: Table) -> Settings {
        let mut settings = Settings::default();
        let values = [
            ("memory-max", Key::MemoryMax, table.memory_max),
            ("memory-high", Key::MemoryHigh, table.memory_high),
            ("memory-swap-max", Key::MemorySwapMax, table.memory_swap_max),
            ("cpu-quota", Key::CpuQuota, table.cpu_quota),
            ("cpu-weight", Key::CpuWeight, table.cpu_weight),
            ("tasks-max", Key::TasksMax, table.tasks_max),
            ("stop-signal", Key::StopSignal, table.stop_signal),
            ("timeout-stop", Key::TimeoutStop, table.timeout_stop),
            ("kill-mode", Key::KillMode, table.kill_mode),
            ("can-die", Key::CanDie, table.can_die),
            ("oneshot", Key::Oneshot, table.oneshot),
            ("restart", Key::Restart, table.restart),
            ("restart-sec", Key::RestartSec, table.restart_sec),
            ("restart-max-delay-sec", Key::RestartMaxDelaySec, table.restart_max_delay_sec),
            ("start-limit-burst", Key::StartLimitBurst, table.start_limit_burst),
            ("start-limit-interval", Key::StartLimitInterval, table.start_limit_interval),
            ("quiet", Key::Quiet, table.quiet),
            ("pretty", Key::Pretty, table.pretty),
            ("control", Key::Control, table.control),
            ("pty", Key::Pty, table.pty),
            ("log", Key::Log, table.log),
            ("working-directory", Key::WorkingDirectory, table.working_directory),
        ];
        self.set_all(&mut settings, values);
        for (name, value) in table.environment.unwrap_or_default() {
            let at = name.span().start;
            let name = name.into_inner();
            // Values may be secrets: no message holds one.
            if is_injected(&name, self.ports) {
                let hint = if name == "PORT" { "; write port in [stack], or use --no-port" } else { "" };
                self.error(at, format!("environment: lpm itself says what {name} is{hint}"));
            } else if !dotenv::is_key(&name) {
                self.error(at, format!("environment: {} is no name of a variable", quote(&name)));
            } else if value.0.contains('\0') {
                self.error(at, format!("environment: the value of {name} holds a NUL byte"));
            } else if environment::is_too_large(&name, value.0.len()) {
                let most = environment::LARGEST_VARIABLE >> 10;
                self.error(
                    at,
                    format!("environment: the value of {name} is larger than {most} KiB, which no program can be given"),
                );
            } else if settings.environment.len() == MOST_VARIABLES {
                self.error(
                    at,
                    format!("environment: more than {MOST_VARIABLES} variables (write an env file)"),
                );
                break;
            } else {
                settings.environment.push((name.into(), value.0.into()));
            }
        }
        settings
    }

    fn set_all<const N: usize>(&mut self, settings: &mut Settings, values: [(&str, Key, Value); N]) {
        for (name, key, value) in values {
            let Some(value) = value else { continue };
            if let Err(message) = settings.set(key, &value.get_ref().0, self.machine) {
                self.error(value.span().start, format!("{name}: {message}"));
            }
        }
    }

    fn given(&self, name: &str, value: Value) -> Given {
        match value {
            Some(value) => {
                let place = Place::line(self.label, line_of(self.text, value.span().start));
                Given::new(format!("{place}: {name}"), [value.into_inner().0])
            }
            None => Given::default(),
        }
    }

    fn error(&mut self, at: usize, message: String) {
        self.wrong += 1;
        // To find a line reads the file up to it.
        if self.wrong > MOST_FINDINGS {
            return;
        }
        self.problems.push(Diagnostic::error(Place::line(self.label, line_of(self.text, at)), message));
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct File {
    stack: Option<StackTable>,
    defaults: Option<Table>,
    process: Option<BTreeMap<Spanned<String>, Table>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, expecting = "a table")]
struct StackTable {
    name: Value,
    port: Value,
    port_step: Value,
    instance_port_step: Value,
    formation: Value,
    exit_code: Value,
    log: Value,
    log_rotate: Value,
    history: Value,
    metrics: Value,
    limits: Value,
    env_precedence: Value,
    expand_env: Value,
    memory_max: Value,
    memory_high: Value,
    memory_swap_max: Value,
    cpu_quota: Value,
    cpu_weight: Value,
    tasks_max: Value,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, expecting = "a table")]
struct Table {
    memory_max: Value,
    memory_high: Value,
    memory_swap_max: Value,
    cpu_quota: Value,
    cpu_weight: Value,
    tasks_max: Value,
    stop_signal: Value,
    timeout_stop: Value,
    kill_mode: Value,
    can_die: Value,
    oneshot: Value,
    restart: Value,
    restart_sec: Value,
    restart_max_delay_sec: Value,
    start_limit_burst: Value,
    start_limit_interval: Value,
    quiet: Value,
    pretty: Value,
    control: Value,
    pty: Value,
    log: Value,
    working_directory: Value,
    environment: Option<BTreeMap<Spanned<String>, Text>>,
}

type Value = Option<Spanned<Text>>;

/// Any scalar, as the text that an option would be given.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyScalar;
        impl Visitor<'_> for AnyScalar {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, a number or true or false")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Text, E> {
                Ok(Text(number.to_string()))
            }

            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Text, E> {
                if number.is_finite() {
                    Ok(Text(number.to_string()))
                } else {
                    Err(E::custom("the number is none"))
                }
            }

            fn visit_bool<E>(self, yes: bool) -> Result<Text, E> {
                Ok(Text(yes.to_string()))
            }
        }
        deserializer.deserialize_any(AnyScalar)
    }
}

/// The parser's complaint in our words.
fn refusal(error: &toml::de::Error) -> String {
    let message = error.message();
    // serde: "unknown field `memroy-max`, expected one of `memory-max`, `memory-high`".
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (unknown, known) = rest.split_once("`, expected ").unwrap_or((rest, ""));
        let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        let numbered = unknown.bytes().all(|byte| byte.is_ascii_digit());
        return match nearest(unknown, known.iter().copied()) {
            _ if numbered => {
                format!("unknown key {} (an instance is written [process.\"web.{unknown}\"])", quote(unknown))
            }
            Some(near) => format!("unknown key {} (write {near})", quote(unknown)),
            None => format!("unknown key {} (known here: {})", quote(unknown), error::list(known)),
        };
    }
    // serde: "invalid type: string \"secret\", expected a table". The value stays out of it.
    if let Some(rest) = message.strip_prefix("invalid type: ")
        && let Some((found, expected)) = rest.rsplit_once(", expected ")
    {
        let kind = found.split([' ', '`', '"']).next().unwrap_or(found);
        let kind = match kind {
            "string" => "text",
            "integer" | "floating" => "a number",
            "boolean" => "true or false",
            "map" => "a table",
            "sequence" => "a list",
            other => other,
        };
        let expected = if expected == "a map" { "a table" } else { expected };
        return format!("{kind} stands where {expected} belongs");
    }
    message.lines().collect::<Vec<_>>().join(", ")
}

fn line_of(text: &str, at: usize) -> usize {
    memchr::memchr_iter(b'\n', &text.as_bytes()[..at.min(text.len())]).count() + 1
}
