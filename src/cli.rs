//! The command line exactly as typed.
//!
//! Nothing is resolved here: values stay the strings they were, so that a flag, a variable and a line of
//! lpm.toml are judged by the same rules, with the same words, in `config`. What clap refuses ends with
//! exit code 2.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

const ABOUT: &str = "Run a Procfile stack: every process in its own cgroup, and nothing outlives it";

const EXAMPLES: &str = "\
Examples:
  lpm start                         run ./Procfile until Ctrl-C
  lpm start web worker              run only these
  lpm start -m web=2,worker=1       how many of each
  lpm start --mem worker=512M       with a memory ceiling
  lpm run console                   one command in the same environment
  lpm check                         what would run, and is it valid
  lpm doctor                        what this machine can enforce, and why

Every option of `start` has a variable, shown in `lpm start --help`.";

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

    /// Which stack.
    #[command(flatten)]
    pub stack: StackArgs,

    /// How many, and how they live.
    #[command(flatten)]
    pub life: LifeArgs,

    /// What they may use.
    #[command(flatten)]
    pub ceilings: CeilingArgs,

    /// What is shown.
    #[command(flatten)]
    pub output: OutputArgs,
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

    /// What it may use.
    #[command(flatten)]
    pub ceilings: CeilingArgs,
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

    /// How many, and how they live.
    #[command(flatten)]
    pub life: LifeArgs,

    /// What they may use.
    #[command(flatten)]
    pub ceilings: CeilingArgs,

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

    /// Who wins when a variable is both inherited and in an env file: file or inherited [default: file]
    #[arg(long, value_name = "WHO", env = "LPM_ENV_PRECEDENCE", hide_env_values = true)]
    pub env_precedence: Option<String>,

    /// Expand $NAME and ${NAME} in env files
    #[arg(long, env = "LPM_EXPAND_ENV", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    pub expand_env: bool,

    /// The stack's name [default: the root directory's name]
    #[arg(long, value_name = "NAME", env = "LPM_NAME", hide_env_values = true)]
    pub name: Option<String>,

    /// The first port [default: PORT from an env file, then inherited, then 5000]
    #[arg(short = 'p', long, value_name = "PORT", env = "LPM_PORT", hide_env_values = true)]
    pub port: Option<String>,

    /// From one process type's port to the next one's [default: 100]
    #[arg(short = 'P', long, value_name = "N", env = "LPM_STEP", hide_env_values = true)]
    pub port_step: Option<String>,

    /// From one instance's port to the next one's [default: 1]
    #[arg(
        long,
        visible_alias = "formation-port-step",
        value_name = "N",
        env = "LPM_INSTANCE_STEP",
        hide_env_values = true
    )]
    pub instance_port_step: Option<String>,

    /// Set no PORT
    #[arg(short = 'N', long, env = "LPM_NO_PORT", value_parser = FalseyValueParser::new(), hide_env_values = true)]
    pub no_port: bool,
}

/// How many there are, and how they live.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Processes")]
pub struct LifeArgs {
    /// How many of each, e.g. web=2,worker=1; what is not listed is off, unless all=1
    #[arg(short = 'm', long, value_name = "LIST", env = "LPM_FORMATION", hide_env_values = true)]
    pub formation: Option<String>,

    /// How many of each; what is not listed stays at 1
    #[arg(short = 'c', long, value_name = "LIST", env = "LPM_CONCURRENCY", hide_env_values = true)]
    pub concurrency: Option<String>,

    /// From the request to stop until the kill, e.g. 5, 500ms, web=30s [default: 5s]
    #[arg(short = 't', long, value_name = "TIME", env = "LPM_TIMEOUT", hide_env_values = true)]
    pub timeout: Vec<String>,

    /// The signal that asks for the end, e.g. QUIT, web=INT [default: TERM]
    #[arg(
        long,
        visible_alias = "stop-signals",
        value_name = "SIGNAL",
        env = "LPM_STOP_SIGNAL",
        hide_env_values = true
    )]
    pub stop_signal: Vec<String>,

    /// Who gets that signal: control-group (every process) or mixed (the main one), e.g. web=mixed
    #[arg(long, value_name = "MODE", env = "LPM_KILL_MODE", hide_env_values = true)]
    pub kill_mode: Vec<String>,

    /// Processes whose end does not end the stack, e.g. worker,clock or all
    #[arg(long, value_name = "NAMES", env = "LPM_CAN_DIE", hide_env_values = true)]
    pub can_die: Vec<String>,

    /// Processes meant to end: a clean exit ends nothing, a failure ends the stack [default: release]
    #[arg(long, value_name = "NAMES", env = "LPM_ONESHOT", hide_env_values = true)]
    pub oneshot: Vec<String>,

    /// Processes with a pseudo-terminal of their own, e.g. web,console; without names all
    #[arg(long, value_name = "NAMES", num_args = 0..=1, default_missing_value = "all", env = "LPM_PTY", hide_env_values = true)]
    pub pty: Vec<String>,

    /// When to start again what ended: no, on-failure, always, e.g. web=on-failure [default: no]
    #[arg(long, value_name = "WHEN", env = "LPM_RESTART", hide_env_values = true)]
    pub restart: Vec<String>,

    /// Whose exit code becomes lpm's: first (of what ended the stack), worst, zero [default: first]
    #[arg(long, value_name = "RULE", env = "LPM_EXIT_CODE", hide_env_values = true)]
    pub exit_code: Option<String>,
}

/// What they may use.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Ceilings (NAME is a process type, an instance such as web.2, or all)")]
pub struct CeilingArgs {
    /// Most memory, e.g. worker=512M, all=10%
    #[arg(
        long = "mem",
        visible_alias = "memory-max",
        value_name = "NAME=SIZE",
        env = "LPM_MEM",
        hide_env_values = true
    )]
    pub mem: Vec<String>,

    /// Memory above which it is slowed down and reclaimed
    #[arg(
        long = "mem-high",
        visible_alias = "memory-high",
        value_name = "NAME=SIZE",
        env = "LPM_MEM_HIGH",
        hide_env_values = true
    )]
    pub mem_high: Vec<String>,

    /// Most swap
    #[arg(
        long = "swap",
        visible_alias = "memory-swap-max",
        value_name = "NAME=SIZE",
        env = "LPM_SWAP",
        hide_env_values = true
    )]
    pub swap: Vec<String>,

    /// Most CPU time, in CPUs: 1.5 or 150%
    #[arg(
        long = "cpu",
        visible_alias = "cpu-quota",
        value_name = "NAME=CPUS",
        env = "LPM_CPU",
        hide_env_values = true
    )]
    pub cpu: Vec<String>,

    /// Share of the CPU when it is short, 1 to 10000 (the kernel's default is 100)
    #[arg(long, value_name = "NAME=N", env = "LPM_CPU_WEIGHT", hide_env_values = true)]
    pub cpu_weight: Vec<String>,

    /// Most processes and threads
    #[arg(
        long = "tasks",
        visible_alias = "tasks-max",
        value_name = "NAME=N",
        env = "LPM_TASKS",
        hide_env_values = true
    )]
    pub tasks: Vec<String>,

    /// Most memory of all instances together
    #[arg(long, value_name = "SIZE", env = "LPM_STACK_MEM", hide_env_values = true)]
    pub stack_mem: Option<String>,

    /// Most CPU time of all instances together
    #[arg(long, value_name = "CPUS", env = "LPM_STACK_CPU", hide_env_values = true)]
    pub stack_cpu: Option<String>,

    /// Most processes and threads of all instances together
    #[arg(long, value_name = "N", env = "LPM_STACK_TASKS", hide_env_values = true)]
    pub stack_tasks: Option<String>,

    /// What to do with a ceiling that this machine cannot enforce: strict (refuse) or best-effort (warn)
    #[arg(long, value_name = "HOW", env = "LPM_LIMITS", hide_env_values = true)]
    pub limits: Option<String>,
}

/// What is shown.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Hide the lines of these processes, and the summary; without names only the summary
    #[arg(short = 'q', long, value_name = "NAMES", num_args = 0..=1, default_missing_value = "", env = "LPM_QUIET", hide_env_values = true)]
    pub quiet: Option<String>,

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

    /// Write the summary of the run to this file, as JSON
    #[arg(long, value_name = "FILE", env = "LPM_SUMMARY", hide_env_values = true)]
    pub summary: Option<PathBuf>,
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
