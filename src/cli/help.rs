//! What `lpm --help` and `lpm COMMAND -h` show beside clap's own lists: commands in groups, examples, and what a stack
//! is made of.

use std::fmt::Write;

/// One line on what lpm is.
pub(super) const ABOUT: &str =
    "Run a Procfile stack: every process in its own cgroup, and nothing outlives it";

/// All commands, by what they are for.
const GROUPS: [(&str, &[&str]); 4] = [
    ("Run", &["start", "run", "check"]),
    ("Inspect", &["status", "top", "logs", "events", "list", "metrics"]),
    (
        "Control",
        &["stop", "restart", "kill", "signal", "scale", "set", "freeze", "thaw", "reload", "attach", "down"],
    ),
    ("Set up", &["doctor", "completions", "man", "schema", "version", "help"]),
];

const FILES: &str = "\
A stack is the Procfile of this directory (or -f FILE), with .env and lpm.toml
beside it, if they are there. Inspect and Control speak to the running stack of
this directory, or of one above it; --name, --socket, --procfile choose another.";

const EXAMPLES: &str = "\
Examples:
  lpm start                         run ./Procfile until Ctrl-C
  lpm start web worker              run only these
  lpm start -m web=2,worker=1       two of web, one of worker
  lpm start --mem worker=512M       with a memory limit
  lpm start -D                      in the background
  lpm run console                   one command in the same environment
  lpm status                        from another terminal
  lpm logs -f worker                follow its output
  lpm down                          stop the running stack

lpm COMMAND -h lists its options; lpm COMMAND --help also their variables.";

/// `command` with its subcommands in groups.
pub(super) fn described(command: clap::Command) -> clap::Command {
    let template = format!(
        "{{about}}\n\n{{usage-heading}} {{usage}}\n\n{}\nOptions:\n{{options}}\n\n{FILES}\n\n{EXAMPLES}\n",
        groups(&command)
    );
    command.help_template(template)
}

/// Each group with its commands, one on a line.
fn groups(command: &clap::Command) -> String {
    let mut text = String::new();
    for (heading, names) in GROUPS {
        writeln!(text, "{heading}:").expect("a String takes everything");
        for name in names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map_or_else(|| "Show the help of a command".to_owned(), ToString::to_string);
            writeln!(text, "  {name:<12} {about}").expect("a String takes everything");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// The same for `-h`: without the variables of options.
pub(super) fn short(command: clap::Command) -> clap::Command {
    command.mut_subcommands(|subcommand| subcommand.mut_args(|argument| argument.hide_env(true)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::collections::BTreeSet;

    #[test]
    fn each_command_is_in_one_group() {
        let grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let unique: BTreeSet<&str> = grouped.iter().copied().collect();
        assert_eq!(grouped.len(), unique.len());
        let command = super::super::Cli::command();
        let known: BTreeSet<&str> =
            command.get_subcommands().map(clap::Command::get_name).chain(["help"]).collect();
        assert_eq!(unique, known);
    }
}
