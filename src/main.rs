//! Arguments → command → error printed once → exit code.

use std::process::ExitCode;

use lpm::cli::{self, Command};
use lpm::commands::order::order;
use lpm::commands::{
    attach, check, completions, doctor, down, events, list, logs, man, metrics, reload, run, scale, schema,
    set, signal, start, status, top, version,
};
use lpm::control::Verb;
use lpm::error::{Error, tell, words};
use lpm::launch::gather::Surroundings;
use lpm::launch::{detached, print};
use lpm::linux::{guardian, service, signals, terminal};
use lpm::supervisor::{Ending, policy};

fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    // The guardian is this program too; it goes its own way before anything else is set up.
    if argv.get(1).is_some_and(|word| word == "__guard") {
        return ExitCode::from(guardian::run(&argv[2..]));
    }
    // So is a stack that was started as a service: it becomes what it is told to be.
    if argv.get(1).is_some_and(|word| word == service::DETACHED) {
        let error = detached::become_the_stack(&argv[2..], &environment());
        tell(&error);
        return ExitCode::from(error.code());
    }
    // So is the mender of a lent terminal.
    if argv.get(1).is_some_and(|word| word == "__mend") {
        return ExitCode::from(terminal::run(&argv[2..]));
    }
    // Whoever started us may have blocked signals; lpm lives by them.
    signals::unblock_all();
    // A file that becomes too large (RLIMIT_FSIZE) is an error like a full disk; children get the default back.
    let _ = signals::ignore(libc::SIGXFSZ);
    match parsed(argv) {
        Ok(ending) => end(ending),
        Err(error) => {
            tell(&error);
            ExitCode::from(error.code())
        }
    }
}

fn parsed(argv: Vec<std::ffi::OsString>) -> Result<Ending, Error> {
    let around = surroundings(argv.clone())?;
    // A shell asks for completions; it wants nothing else on standard output.
    match completions::answer(&around) {
        Ok(true) => return Ok(Ending::Code(0)),
        Ok(false) => {}
        Err(error) => return Err(Error::new(format!("completions: {}", words(error)))),
    }
    let (cli, origins) = match cli::parse(argv.clone()) {
        Ok(parsed) => parsed,
        Err(error) => {
            use clap::error::ErrorKind;
            match error.kind() {
                ErrorKind::DisplayHelp => {
                    // A closed stream is not worth another error.
                    let _ = print(&error.render().to_string());
                }
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                    tell(error.render().to_string().trim_end());
                }
                _ => tell(format_args!("lpm: {}", cli::refusal(&error))),
            }
            return Ok(Ending::Code(u8::try_from(error.exit_code()).unwrap_or(2)));
        }
    };
    if cli.version {
        return version::version();
    }
    match cli.command {
        Some(Command::Start(arguments)) => start::start(&around, arguments, &origins),
        Some(Command::Run(arguments)) => run::run(&around, arguments, &origins),
        Some(Command::Check(arguments)) => check::check(&around, arguments, &origins),
        Some(Command::Doctor(arguments)) => doctor::doctor(&around, &arguments),
        Some(Command::Status(arguments)) => status::status(&around, arguments, &origins),
        Some(Command::Top(arguments)) => top::top(&around, arguments, &origins),
        Some(Command::Metrics(arguments)) => metrics::metrics(&around, arguments, &origins),
        Some(Command::Stop(arguments)) => order(&around, Verb::Stop, arguments, &origins),
        Some(Command::Restart(arguments)) => order(&around, Verb::Restart, arguments, &origins),
        Some(Command::Kill(arguments)) => order(&around, Verb::Kill, arguments, &origins),
        Some(Command::Freeze(arguments)) => order(&around, Verb::Freeze, arguments, &origins),
        Some(Command::Thaw(arguments)) => order(&around, Verb::Thaw, arguments, &origins),
        Some(Command::Signal(arguments)) => signal::signal(&around, arguments, &origins),
        Some(Command::Scale(arguments)) => scale::scale(&around, arguments, &origins),
        Some(Command::Set(arguments)) => set::set(&around, arguments, &origins),
        Some(Command::Reload(arguments)) => reload::reload(&around, arguments, &origins),
        Some(Command::Logs(arguments)) => logs::logs(&around, arguments, &origins),
        Some(Command::Events(arguments)) => events::events(&around, arguments, &origins),
        Some(Command::Attach(arguments)) => attach::attach(&around, arguments, &origins),
        Some(Command::List(arguments)) => list::list(&around, &arguments),
        Some(Command::Down(arguments)) => down::down(&around, arguments, &origins),
        Some(Command::Completions(arguments)) => completions::completions(&arguments),
        Some(Command::Man(arguments)) => man::man(&around, &arguments),
        Some(Command::Schema) => schema::schema(),
        Some(Command::Version) | None => version::version(),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the environment is read")]
fn environment() -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
    std::env::vars_os().collect()
}

fn surroundings(argv: Vec<std::ffi::OsString>) -> Result<Surroundings, Error> {
    let directory = std::env::current_dir()
        .map_err(|error| Error::new(format!("the working directory cannot be found: {}", words(error))))?;
    Ok(Surroundings { argv, environment: environment(), directory })
}

/// Ends as the stack ended: with its code, or by the signal that stopped it, so that whoever waits for lpm
/// sees what happened. PID 1 cannot die of a signal and exits with its number instead.
fn end(ending: Ending) -> ExitCode {
    match ending {
        Ending::Code(code) => ExitCode::from(code),
        Ending::Signal(signal) => {
            if !rustix::process::getpid().is_init() {
                signals::die_by(signal.0);
            }
            ExitCode::from(policy::signal_code(signal))
        }
    }
}
