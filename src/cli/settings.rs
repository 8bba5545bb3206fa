//! Options of settings, made from the table: no option of a setting is written down here.

use std::collections::BTreeMap;

use clap::builder::FalseyValueParser;
use clap::{ArgAction, ArgMatches, Args, FromArgMatches};

use crate::config::table::{self, Group, Opt, Row, Takes};
use crate::config::value::Kind;

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
