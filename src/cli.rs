//! The command line exactly as typed.
//!
//! Nothing is resolved here: values stay the strings they were, so that a flag, a variable and a line of
//! lpm.toml are judged by the same rules, with the same words, in `config`. What clap refuses ends with
//! exit code 2.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::table::{self, Group, Opt, Row, Takes};
use crate::config::value::Kind;

const ABOUT: &str = "Run a Procfile stack: every process in its own cgroup, and nothing outlives it";

const EXAMPLES: &str = "\
Examples:
  lpm start                         run ./Procfile until Ctrl-C
  lpm start web worker              run only these
  lpm start -m web=2,worker=1       how many of each
  lpm start --mem worker=512M       with a memory ceiling
  lpm start -D                      come back when it is up, and leave it
  lpm run console                   one command in the same environment
  lpm status                        from another terminal: how is it?
  lpm restart web                   one process of the running stack
  lpm logs -f worker                what it printed, and what it prints
  lpm down                          tear the running stack down
  lpm check                         what would run, and is it valid
  lpm doctor                        what this machine can enforce, and why

Every option for a new stack has a variable, shown in `lpm start --help`.";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(name = "lpm", about = ABOUT, after_help = EXAMPLES, disable_version_flag = true)]
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
    /// Run one command, or one entry of the Procfile, in the stack's environment and ceilings
    Run(Run),
    /// Say whether the Procfile is valid and what it would run
    Check(Check),
    /// Say what this machine can enforce, step by step
    Doctor(Doctor),
    /// Show how a running stack's instances are
    #[command(visible_alias = "ps")]
    Status(Status),
    /// Watch a running stack's instances, and act on them by key
    Top(Top),
    /// Print how a running stack's instances are, for Prometheus
    Metrics(Metrics),
    /// Stop instances of a running stack; the stack goes on
    Stop(Order),
    /// Stop instances and start them again, with the env files as they are now
    #[command(visible_alias = "r")]
    Restart(Order),
    /// End instances at once, with SIGKILL; the stack goes on
    Kill(Order),
    /// Send a signal to every process of instances
    Signal(Signal),
    /// Change how many instances of a process type there are
    Scale(Scale),
    /// Change settings of a running stack, ceilings at once
    Set(Set),
    /// Stop every process of instances where it stands
    Freeze(Order),
    /// Let frozen instances go on
    Thaw(Order),
    /// Read Procfile, env files and lpm.toml again, and apply what changed
    Reload(Reload),
    /// Show what instances printed
    Logs(Logs),
    /// Show what happened to instances
    Events(Events),
    /// Use the terminal of an instance that has one
    #[command(visible_alias = "connect")]
    Attach(Attach),
    /// Show the running stacks of this user
    #[command(visible_alias = "ls")]
    List(List),
    /// Tear a running stack down
    #[command(visible_alias = "quit")]
    Down(Down),
    /// Print what a shell needs to complete lpm's words: source <(lpm completions bash)
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

    /// Come back when the stack is up, and leave it running
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
    /// Process types, instances, or patterns such as we*; of those named, everything is shown
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,

    /// So many of the last lines of each named instance
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    pub lines: u64,

    /// Print everything as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `lpm top`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Top {
    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,

    /// How often it is looked at, e.g. 500ms, 5s
    #[arg(short = 'i', long, value_name = "TIME", default_value = "1s")]
    pub interval: String,

    /// Look twice, print the table, and leave
    #[arg(long)]
    pub once: bool,

    /// Print each look as a JSON object on a line
    #[arg(long)]
    pub json: bool,

    /// When to colour: auto, always, never [default: auto]
    #[arg(long, visible_alias = "colour", value_name = "WHEN", env = "LPM_COLOR", hide_env_values = true)]
    pub color: Option<String>,
}

/// `lpm metrics`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Metrics {
    /// Process types, instances, or patterns such as we*; all instances if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Print OpenMetrics 1.0 instead of Prometheus' own text format
    #[arg(long)]
    pub openmetrics: bool,
}

/// `lpm stop`, `lpm restart`, `lpm kill`, `lpm freeze`, `lpm thaw`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Order {
    /// Process types, instances, or patterns such as we*; all instances if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Don't wait until it is done
    #[arg(long)]
    pub no_wait: bool,

    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `lpm signal`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Signal {
    /// Process types, instances, or patterns; then the signal: HUP, SIGUSR1, 10
    #[arg(value_names = ["NAME", "SIGNAL"], num_args = 2.., required = true)]
    pub words: Vec<String>,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Only to the main process of each
    #[arg(long)]
    pub main: bool,

    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `lpm scale`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Scale {
    /// How many of which process type, e.g. web=3 worker=1
    #[arg(value_name = "NAME=N", required = true)]
    pub counts: Vec<String>,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Don't wait until it is done
    #[arg(long)]
    pub no_wait: bool,

    /// Also write these counts into lpm.toml, whose comments are kept
    #[arg(long)]
    pub save: bool,

    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
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

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Also write it into lpm.toml, whose comments are kept
    #[arg(long)]
    pub save: bool,

    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `lpm reload`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Reload {
    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,

    /// Don't wait until it is done
    #[arg(long)]
    pub no_wait: bool,

    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `lpm logs`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Logs {
    /// Process types, instances, or patterns such as we*; everything if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Go on with the lines that come
    #[arg(short = 'f', long)]
    pub follow: bool,

    /// So many of the last lines [default: all that are kept]
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<u64>,

    /// Not older than this: 10min (ago), 12:30, 2026-11-25 12:30, today, yesterday
    #[arg(short = 'S', long, value_name = "WHEN")]
    pub since: Option<String>,

    /// Not newer than this
    #[arg(short = 'U', long, value_name = "WHEN")]
    pub until: Option<String>,

    /// Only lines that this regular expression matches; in small letters it means capitals too
    #[arg(short = 'g', long, value_name = "REGEX")]
    pub grep: Option<String>,

    /// Only lines that say they are as bad as this: err, warning, notice, info, debug
    #[arg(short = 'p', long, value_name = "LEVEL")]
    pub level: Option<String>,

    /// Only lines of this stream: out, err (with --split-stderr), lpm
    #[arg(long, value_name = "STREAM")]
    pub stream: Option<String>,

    /// Show JSON and logfmt lines for people
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
}

/// `lpm events`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Events {
    /// Process types, instances, or patterns such as we*; everything if none is named
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Go on with the events that come
    #[arg(short = 'f', long)]
    pub follow: bool,

    /// Print each event as a JSON object
    #[arg(long)]
    pub json: bool,
}

/// `lpm attach`.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub struct Attach {
    /// The instance, or a process type that has one
    #[arg(value_name = "NAME")]
    pub instance: String,

    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Only watch; no key goes to it
    #[arg(short = 'r', long)]
    pub read_only: bool,

    /// The key that leaves it running: ctrl- and a letter or a sign, such as ctrl-p or ctrl-^
    #[arg(
        long,
        value_name = "KEY",
        default_value = "ctrl-]",
        env = "LPM_DETACH_KEY",
        hide_env_values = true
    )]
    pub detach_key: String,
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
    /// Which stack.
    #[command(flatten)]
    pub target: TargetArgs,

    /// Don't wait until it is done
    #[arg(long)]
    pub no_wait: bool,

    /// Print the answer as one JSON object
    #[arg(long)]
    pub json: bool,
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
    /// How many of each; what is not listed stays at 1
    #[arg(short = 'c', long, value_name = "LIST", env = "LPM_CONCURRENCY", hide_env_values = true)]
    pub concurrency: Option<String>,
}

/// Options of settings, as the table lists them: those of the groups in the mask `GROUPS`.
#[derive(Debug, Clone, Default)]
pub struct SettingArgs<const GROUPS: u8>(Typed);

/// What was given to options of settings, by the name of the option.
pub type Typed = BTreeMap<&'static str, Vec<String>>;

/// The groups of options that `run` has.
pub const OF_RUN: u8 = Group::Stack as u8 | Group::Limits as u8;
/// Those that `check` has.
pub const OF_CHECK: u8 = OF_RUN | Group::Processes as u8;
/// Those that `start` has.
pub const OF_START: u8 = OF_CHECK | Group::Output as u8;

impl<const GROUPS: u8> SettingArgs<GROUPS> {
    /// All that was given.
    pub fn into_typed(self) -> Typed {
        self.0
    }

    /// The same, to look at.
    pub fn typed(&self) -> &Typed {
        &self.0
    }

    fn options() -> impl Iterator<Item = (&'static Opt, &'static Row)> {
        table::options().filter(|(option, _)| option.group as u8 & GROUPS != 0)
    }
}

impl<const GROUPS: u8> Args for SettingArgs<GROUPS> {
    fn augment_args(command: clap::Command) -> clap::Command {
        Self::options().fold(command, |command, (option, row)| command.arg(argument(option, row)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl<const GROUPS: u8> FromArgMatches for SettingArgs<GROUPS> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut typed = Typed::new();
        for (option, _) in Self::options() {
            let values: Vec<String> = match option.takes {
                Takes::Nothing => {
                    matches.get_flag(option.long).then(|| "yes".to_owned()).into_iter().collect()
                }
                Takes::Values | Takes::Names | Takes::NamesOr(_) | Takes::List | Takes::One => {
                    matches.get_many(option.long).into_iter().flatten().cloned().collect()
                }
            };
            if !values.is_empty() {
                typed.insert(option.long, values);
            }
        }
        Ok(Self(typed))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The option as clap wants it.
fn argument(option: &'static Opt, row: &Row) -> clap::Arg {
    let argument = clap::Arg::new(option.long)
        .long(option.long)
        .env(option.variable)
        .hide_env_values(true)
        .help(option.help)
        .allow_negative_numbers(matches!(row.kind, Kind::Number { least: ..0, .. }))
        .help_heading(option.group.heading());
    let argument = match option.short {
        Some(short) => argument.short(short),
        None => argument,
    };
    let argument = match option.alias {
        Some(alias) => argument.visible_alias(alias),
        None => argument,
    };
    match option.takes {
        Takes::Nothing => argument.action(ArgAction::SetTrue).value_parser(FalseyValueParser::new()),
        Takes::One => argument.action(ArgAction::Set).value_name(option.value_name),
        Takes::Values | Takes::Names | Takes::List => {
            argument.action(ArgAction::Append).value_name(option.value_name)
        }
        Takes::NamesOr(missing) => argument
            .action(ArgAction::Append)
            .value_name(option.value_name)
            .num_args(0..=1)
            .default_missing_value(missing),
    }
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

    /// A pipe of its own for standard error; its lines are marked
    #[arg(long, env = "LPM_SPLIT_STDERR", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    pub split_stderr: bool,

    /// Draw the run: a page of what happened when and what was used, or with FILE.json its data
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
    let command = without_empty_variables(Cli::command());
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

/// The whole command line as clap describes it, for whoever writes it down: manual pages, completions.
pub fn command() -> clap::Command {
    Cli::command()
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
