//! The command line exactly as typed.
//!
//! Nothing is resolved here: values stay the strings they were, so that a flag, a variable and a line of
//! lpm.toml are judged by the same rules, with the same words, in `config`. What clap refuses ends with
//! exit code 2.

mod help;
mod refusal;
mod settings;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use refusal::refusal;
pub use settings::{OF_CHECK, OF_RUN, OF_START, SettingArgs, Typed};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "lpm", about = help::ABOUT, disable_version_flag = true)]
#[command(max_term_width = 100, arg_required_else_help = true, disable_help_subcommand = false)]
pub struct Cli {
    /// Print the version
    #[arg(short = 'V', long, visible_short_alias = 'v')]
    pub version: bool,

    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the stack until it ends or is stopped
    #[command(visible_alias = "s")]
    Start(Start),
    /// Run one command in the stack's environment and limits
    Run(Run),
    /// Validate the Procfile and show what would run
    Check(Check),
    /// Show what this machine can enforce, step by step
    Doctor(Doctor),
    /// Show the state of each instance
    #[command(visible_alias = "ps")]
    Status(Status),
    /// Live view of a running stack; keys restart, stop, attach
    Top(Top),
    /// Print metrics in Prometheus' format
    Metrics(Metrics),
    /// Stop instances; the stack keeps running
    Stop(Order),
    /// Restart instances, with the env files as they are now
    #[command(visible_alias = "r")]
    Restart(Order),
    /// Kill instances with SIGKILL; the stack keeps running
    Kill(Order),
    /// Send a signal to every process of instances
    Signal(Signal),
    /// Change the number of instances of a process type
    Scale(Scale),
    /// Change settings of a running stack; limits apply at once
    Set(Set),
    /// Pause instances (cgroup freezer)
    Freeze(Order),
    /// Resume paused instances
    Thaw(Order),
    /// Read the files of the stack again, and apply what changed
    Reload(Reload),
    /// Show the output of instances
    Logs(Logs),
    /// Show what happened to instances
    Events(Events),
    /// Connect to the terminal of an instance that has one
    #[command(visible_alias = "connect")]
    Attach(Attach),
    /// List the running stacks of this user
    #[command(visible_alias = "ls")]
    List(List),
    /// Stop a running stack
    #[command(visible_alias = "quit")]
    Down(Down),
    /// Print the script by which a shell completes words
    ///
    /// For bash: source <(lpm completions bash)
    Completions(Completions),
    /// Write the manual pages
    Man(Man),
    /// Print the JSON schema of lpm.toml, for editors
    Schema,
    /// Print the version
    Version,
}

/// `lpm start`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Start {
    /// Process types or instances to start; all of them if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Run in the background; return once everything has started
    #[arg(short = 'D', long, env = "LPM_DETACH", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    pub detach: bool,

    /// Which stack.
    #[command(flatten)]
    pub stack: StackArgs,

    /// Settings.
    #[command(flatten)]
    pub settings: SettingArgs<OF_START>,

    /// How many there are.
    #[command(flatten)]
    pub count: CountArgs,

    /// What is shown.
    #[command(flatten)]
    pub output: OutputArgs,

    /// How it can be asked.
    #[command(flatten)]
    pub control: ControlArgs,

    /// With names, where the stack runs already: don't wait until they run
    #[arg(long, help_heading = "Control")]
    pub no_wait: bool,

    /// With names, where the stack runs already: print the answer as one JSON object
    #[arg(long, help_heading = "Control")]
    pub json: bool,
}

/// `lpm run`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Run {
    // First, or it would stand under the heading of the last options.
    /// The command and its arguments, or the name of one Procfile entry
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,

    /// Which stack.
    #[command(flatten)]
    pub stack: StackArgs,

    /// Settings.
    #[command(flatten)]
    pub settings: SettingArgs<OF_RUN>,
}

/// `lpm check`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Check {
    /// Process types or instances, as for `start`
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Which stack.
    #[command(flatten)]
    pub stack: StackArgs,

    /// Settings.
    #[command(flatten)]
    pub settings: SettingArgs<OF_CHECK>,

    /// How many there are.
    #[command(flatten)]
    pub count: CountArgs,

    /// Print everything as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `lpm doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print everything as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `lpm status`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Status {
    /// Process types, instances, or patterns such as we*; the named ones are shown in detail
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Show the last N lines of each named instance
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub lines: u64,

    /// Print everything as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `lpm top`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Top {
    /// Refresh interval, e.g. 500ms, 5s
    #[arg(short = 'i', long, value_name = "TIME", default_value = "1s")]
    pub interval: String,

    /// Print one sample and exit
    #[arg(long)]
    pub once: bool,

    /// Print each sample as one line of JSON
    #[arg(long)]
    pub json: bool,

    /// When to colour: auto, always, never [default: auto]
    #[arg(long, visible_alias = "colour", value_name = "WHEN", env = "LPM_COLOR", hide_env_values = true)]
    pub color: Option<String>,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `lpm metrics`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Metrics {
    /// Process types, instances, or patterns such as we*; all instances if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Print OpenMetrics 1.0 instead of Prometheus' own text format
    #[arg(long)]
    pub openmetrics: bool,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `lpm stop`, `lpm restart`, `lpm kill`, `lpm freeze`, `lpm thaw`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Order {
    /// Process types, instances, or patterns such as we*; all instances if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Don't wait until it is done
    #[arg(long)]
    pub no_wait: bool,

    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `lpm signal`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Signal {
    /// Process types, instances, or patterns; then the signal: HUP, SIGUSR1, 10
    #[arg(value_names = ["NAME", "SIGNAL"], num_args = 2.., required = true)]
    pub words: Vec<String>,

    /// Only to the main process of each
    #[arg(long)]
    pub main: bool,

    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `lpm scale`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Scale {
    /// The number of instances of a process type, e.g. web=3 worker=1
    #[arg(value_name = "NAME=N", required = true)]
    pub counts: Vec<String>,

    /// Don't wait until it is done
    #[arg(long)]
    pub no_wait: bool,

    /// Also write these counts into lpm.toml, whose comments are kept
    #[arg(long)]
    pub save: bool,

    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `lpm set`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Set {
    /// A process type, an instance, or all
    #[arg(value_name = "NAME")]
    pub whom: String,

    /// Settings as in lpm.toml, e.g. memory-max=1G cpu-quota=50%
    #[arg(value_name = "KEY=VALUE", required = true)]
    pub settings: Vec<String>,

    /// Also write it into lpm.toml, whose comments are kept
    #[arg(long)]
    pub save: bool,

    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `lpm reload`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Reload {
    /// Show what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Don't wait until it is done
    #[arg(long)]
    pub no_wait: bool,

    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `lpm logs`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Logs {
    /// Process types, instances, or patterns such as we*; everything if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Follow: print new lines as they come
    #[arg(short = 'f', long)]
    pub follow: bool,

    /// Show the last N lines [default: all that are kept]
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<u64>,

    /// Not older than this: 10min (ago), 12:30, 2026-11-25 12:30, today, yesterday
    #[arg(short = 'S', long, value_name = "WHEN")]
    pub since: Option<String>,

    /// Not newer than this
    #[arg(short = 'U', long, value_name = "WHEN")]
    pub until: Option<String>,

    /// Only lines that match; a pattern in lower case ignores case
    #[arg(short = 'g', long, value_name = "REGEX")]
    pub grep: Option<String>,

    /// Only this level and more severe: err, warning, notice, info, debug
    #[arg(short = 'p', long, value_name = "LEVEL")]
    pub level: Option<String>,

    /// Only lines of this stream: out, err (with --split-stderr), lpm
    #[arg(long, value_name = "STREAM")]
    pub stream: Option<String>,

    /// Show JSON and logfmt lines as readable text
    #[arg(long)]
    pub pretty: bool,

    /// No time and name before each line
    #[arg(long)]
    pub no_prefix: bool,

    /// No time before each line
    #[arg(long)]
    pub no_timestamp: bool,

    /// When to colour: auto, always, never [default: auto]
    #[arg(long, visible_alias = "colour", value_name = "WHEN", env = "LPM_COLOR", hide_env_values = true)]
    pub color: Option<String>,

    /// Print each line as a JSON object
    #[arg(long)]
    pub json: bool,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `lpm events`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Events {
    /// Process types, instances, or patterns such as we*; everything if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Follow: print new events as they come
    #[arg(short = 'f', long)]
    pub follow: bool,

    /// Print each event as a JSON object
    #[arg(long)]
    pub json: bool,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `lpm attach`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Attach {
    /// The instance, or a process type that has one
    #[arg(value_name = "NAME")]
    pub instance: String,

    /// Watch only; keys are not sent to it
    #[arg(short = 'r', long)]
    pub read_only: bool,

    /// The key that detaches: ctrl- and a letter or a sign, such as ctrl-p or ctrl-^
    #[arg(
        long,
        value_name = "KEY",
        default_value = "ctrl-]",
        env = "LPM_DETACH_KEY",
        hide_env_values = true
    )]
    pub detach_key: String,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `lpm list`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct List {
    /// Print everything as one JSON array
    #[arg(long)]
    pub json: bool,
}

/// `lpm down`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Down {
    /// Don't wait until it is done
    #[arg(long)]
    pub no_wait: bool,

    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,
}

/// `lpm completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", value_parser = ["bash", "zsh", "fish"])]
    pub shell: String,
}

/// `lpm man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Where to write lpm.1 and a page for each command; without it, lpm.1 is printed
    #[arg(value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// Which running stack is meant: that of this directory, unless something else is said.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which stack [default: the one of this directory]")]
pub struct TargetArgs {
    /// Its control socket
    #[arg(short = 's', long, value_name = "PATH", env = "LPM_SOCKET", hide_env_values = true)]
    pub socket: Option<PathBuf>,

    /// Its name, as lpm list shows it
    #[arg(long, value_name = "NAME", env = "LPM_NAME", hide_env_values = true)]
    pub name: Option<String>,

    /// Its Procfile
    #[arg(long, value_name = "FILE", env = "LPM_PROCFILE", hide_env_values = true)]
    pub procfile: Option<PathBuf>,

    /// Where its processes run
    #[arg(
        short = 'd',
        long = "root",
        visible_alias = "app-root",
        value_name = "DIR",
        env = "LPM_ROOT",
        hide_env_values = true
    )]
    pub root: Option<PathBuf>,
}

/// Which stack: the texts it is made of.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Stack")]
pub struct StackArgs {
    /// The Procfile; `-` reads standard input [default: ./Procfile]
    #[arg(short = 'f', long = "procfile", value_name = "FILE", env = "LPM_PROCFILE", hide_env_values = true)]
    pub procfile: Option<PathBuf>,

    /// Where processes run [default: the Procfile's directory]
    #[arg(
        short = 'd',
        long = "root",
        visible_alias = "app-root",
        value_name = "DIR",
        env = "LPM_ROOT",
        hide_env_values = true
    )]
    pub root: Option<PathBuf>,

    /// Env files, comma-separated or repeated; a later one wins [default: .env, if there is one]
    #[arg(short = 'e', long = "env", value_name = "FILES", env = "LPM_ENV", hide_env_values = true)]
    pub env: Vec<String>,

    /// The stack's name [default: the root directory's name]
    #[arg(long, value_name = "NAME", env = "LPM_NAME", hide_env_values = true)]
    pub name: Option<String>,

    /// Set no PORT
    #[arg(short = 'N', long, env = "LPM_NO_PORT", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    pub no_port: bool,
}

/// How many there are, as honcho has it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Processes")]
pub struct CountArgs {
    /// The number of instances of each type; what is not listed stays at 1
    #[arg(short = 'c', long, value_name = "LIST", env = "LPM_CONCURRENCY", hide_env_values = true)]
    pub concurrency: Option<String>,
}

/// What is shown.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// No time and name before each line
    #[arg(long, env = "LPM_NO_PREFIX", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    pub no_prefix: bool,

    /// No time before each line
    #[arg(long, env = "LPM_NO_TIMESTAMP", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    pub no_timestamp: bool,

    /// When to colour: auto (on a terminal, unless NO_COLOR is set), always, never [default: auto]
    #[arg(long, visible_alias = "colour", value_name = "WHEN", env = "LPM_COLOR", hide_env_values = true)]
    pub color: Option<String>,

    /// Read standard error through a pipe of its own; its lines are marked
    #[arg(long, env = "LPM_SPLIT_STDERR", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    pub split_stderr: bool,

    /// Write an HTML (or .json) report of the run: timeline, usage, events
    #[arg(long, value_name = "FILE", env = "LPM_REPORT", hide_env_values = true)]
    pub report: Option<PathBuf>,

    /// Write the summary of the run to this file, as JSON
    #[arg(long, value_name = "FILE", env = "LPM_SUMMARY", hide_env_values = true)]
    pub summary: Option<PathBuf>,
}

/// How the stack can be asked from elsewhere.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Control")]
pub struct ControlArgs {
    /// The control socket [default: in the private runtime directory, see lpm list]
    #[arg(short = 's', long, value_name = "PATH", env = "LPM_SOCKET", hide_env_values = true)]
    pub socket: Option<PathBuf>,
}

/// Parses the arguments; options may stand before or after the subcommand.
///
/// # Errors
/// What clap says, `--help` included; its `exit_code` and stream are clap's too.
pub fn parse(argv: Vec<OsString>) -> Result<(Cli, Origins), clap::Error> {
    let command = without_empty_variables(command());
    let command = if argv.iter().any(|word| word == "-h") { help::short(command) } else { command };
    let argv = subcommand_first(argv, &command);
    if let Some(first) = argv.get(1).and_then(|word| word.to_str())
        && first.starts_with('-')
        && !["-h", "--help", "-V", "-v", "--version"].contains(&first)
    {
        let typed: Vec<_> = argv[1..].iter().map(|word| word.to_string_lossy()).collect();
        let hint = format!("no command (write lpm start {})\n", typed.join(" "));
        return Err(command.clone().error(ErrorKind::MissingSubcommand, hint));
    }
    let matches = command.clone().try_get_matches_from(argv)?;
    Ok((Cli::from_arg_matches(&matches)?, Origins::new(&matches, &command)))
}

/// The whole command line as clap describes it: for parsing, manual pages, completions.
pub fn command() -> clap::Command {
    help::described(Cli::command())
}

/// An option whose variable is empty was not given, as with `NO_COLOR`: that is how scripts take one back.
#[expect(clippy::disallowed_methods, reason = "clap reads the variables itself; this is the same look")]
fn without_empty_variables(command: clap::Command) -> clap::Command {
    let heed = |argument: clap::Arg| match argument.get_env().and_then(std::env::var_os) {
        Some(value) if value.is_empty() => argument.env(clap::builder::Resettable::Reset),
        Some(_) | None => argument,
    };
    command.mut_subcommands(|subcommand| subcommand.mut_args(heed))
}

/// Where each option's value came from, so that an error can begin with what was typed: `--mem` or
/// `LPM_MEM`.
#[derive(Debug, Default)]
pub struct Origins(HashMap<String, String>);

impl Origins {
    fn new(matches: &ArgMatches, command: &clap::Command) -> Origins {
        let Some((name, matches)) = matches.subcommand() else { return Origins::default() };
        let Some(subcommand) = command.find_subcommand(name) else { return Origins::default() };
        let origin = |argument: &clap::Arg| {
            let id = argument.get_id().as_str();
            let variable = match matches.value_source(id)? {
                ValueSource::EnvVariable => {
                    argument.get_env().map(|name| name.to_string_lossy().into_owned())
                }
                _ => None,
            };
            let typed = argument.get_long().map(|long| format!("--{long}"));
            Some((id.to_owned(), variable.or(typed)?))
        };
        Origins(subcommand.get_arguments().filter_map(origin).collect())
    }

    /// What the value of the field `id` came after; nothing for what needs no option.
    pub fn of(&self, id: &str) -> String {
        self.0.get(id).cloned().unwrap_or_default()
    }
}

/// Moves options that stand before the subcommand behind it. Which of them take a value is asked of the
/// subcommands' own definitions, so there is no second list to keep.
fn subcommand_first(argv: Vec<OsString>, command: &clap::Command) -> Vec<OsString> {
    let takes_value = |word: &str| {
        let mut arguments = command.get_subcommands().flat_map(clap::Command::get_arguments);
        let named = |argument: &clap::Arg| match word.strip_prefix("--") {
            Some(long) => argument.get_long_and_visible_aliases().is_some_and(|names| names.contains(&long)),
            None => argument
                .get_short_and_visible_aliases()
                .is_some_and(|names| names.iter().any(|short| word == format!("-{short}"))),
        };
        // `-q start`: a value that may be left out is never taken from before the subcommand.
        arguments.find(|argument| named(argument)).is_some_and(|argument| {
            argument.get_action().takes_values()
                && argument.get_num_args().is_none_or(|range| range.min_values() > 0)
        })
    };
    let mut at = 1;
    while let Some(word) = argv.get(at).and_then(|word| word.to_str()) {
        if !word.starts_with('-') || word == "-" || word == "--" {
            break;
        }
        at += if takes_value(word) { 2 } else { 1 };
    }
    if at == 1 || at >= argv.len() {
        return argv;
    }
    let mut argv = argv;
    let subcommand = argv.remove(at);
    argv.insert(1, subcommand);
    argv
}
