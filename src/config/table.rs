//! The shape of the table of settings: what one row says, and how rows are found.
//!
//! A row is all that lpm knows of a setting before a value of it is given. Everything that speaks of settings in
//! general loops over the rows: the parser of lpm.toml, the command line, `lpm set`, the differences that `reload`
//! finds, `check`, `status`, completions, the documents, the JSON schema. The rows themselves are in `rows`. What a
//! setting does is no business of the table: [`stack`](super::stack) has a typed field for each.

use super::error::{list, nearest, quote};
use super::rows::ROWS;
use super::stack::{Ceilings, Instance, Stack};
use super::value::{Kind, Value};

/// One setting.
pub struct Row {
    /// The key in lpm.toml, in systemd's words where systemd has the setting: `memory-max`.
    pub key: &'static str,
    /// The form of its values.
    pub kind: Kind,
    /// The tables of lpm.toml that may hold it.
    pub scope: Scope,
    /// What it takes to change it while the stack runs.
    pub change: Change,
    /// What holds where nothing was said.
    pub default: Default,
    /// The option that gives it, if there is one.
    pub option: Option<Opt>,
    /// The option that gives it for all instances together.
    pub stack_option: Option<Opt>,
    /// systemd's directive of the same meaning (systemd.exec(5), systemd.service(5), systemd.kill(5),
    /// systemd.resource-control(5)).
    pub systemd: Option<&'static str>,
    /// What it means: one sentence, Markdown.
    pub means: &'static str,
    /// Where its value is in a [`Stack`].
    pub field: Field,
}

/// Which tables of lpm.toml may hold a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `[stack]` alone.
    Stack,
    /// `[defaults]` and `[process.NAME]`.
    Process,
    /// All of them; in `[stack]` it speaks of all instances together.
    Both,
}

/// What it takes to change a setting of a running stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Applied at once.
    Live,
    /// The instances it concerns start again.
    Restart,
    /// Only a reload of the files changes it.
    Reload,
    /// Kept as long as the stack runs.
    NewStart,
}

/// What holds where nothing was said.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    /// This value, as it would be written.
    Value(&'static str),
    /// No value: the kernel's default, or none at all. The text says so to people and may be empty.
    None(&'static str),
}

/// An option of the command line.
#[derive(Debug)]
pub struct Opt {
    /// `timeout` for `--timeout`. It names the option everywhere.
    pub long: &'static str,
    /// `t` for `-t`.
    pub short: Option<char>,
    /// A second long name.
    pub alias: Option<&'static str>,
    /// The variable of the same meaning.
    pub variable: &'static str,
    /// What the help calls its value.
    pub value_name: &'static str,
    /// What may follow it.
    pub takes: Takes,
    /// The heading it stands under.
    pub group: Group,
    /// One line of help.
    pub help: &'static str,
}

/// What may follow an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A list of `VALUE` (for all) and `NAME=VALUE`; may be repeated.
    Values,
    /// A list of names, or `NAME=no`; may be repeated.
    Names,
    /// The same, or nothing, which counts as this list.
    NamesOr(&'static str),
    /// A list that is judged as a whole; may be repeated.
    List,
    /// One value; the last one counts.
    One,
    /// Nothing.
    Nothing,
}

/// The headings of the help under which options of settings stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Group {
    /// What tells one stack from another; such an option also finds a running one, and so the commands declare it.
    Identity = 0,
    /// Which text the stack is made of, and its ports.
    Stack = 1,
    /// How instances live and end.
    Processes = 2,
    /// What they may use.
    Limits = 4,
    /// What is shown and written.
    Output = 8,
}

impl Group {
    /// The heading.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Identity | Self::Stack => "Stack",
            Self::Processes => "Processes",
            Self::Limits => "Limits (NAME is a process type, an instance such as web.2, or all)",
            Self::Output => "Output",
        }
    }
}

/// Where a value is in a [`Stack`], and what reads it back.
pub enum Field {
    /// In an instance.
    Instance(fn(&Instance) -> Value),
    /// In the limits of an instance, and for `[stack]` in those of all together.
    Limits(fn(&Ceilings) -> Value),
    /// In the stack.
    Stack(fn(&Stack) -> Value),
    /// In several fields, or in none: something else is made of it.
    None,
}

impl Row {
    /// Whether `[defaults]` and `[process.NAME]` may hold it.
    pub fn is_of_processes(&self) -> bool {
        matches!(self.scope, Scope::Process | Scope::Both)
    }

    /// Whether `[stack]` may hold it.
    pub fn is_of_stack(&self) -> bool {
        matches!(self.scope, Scope::Stack | Scope::Both)
    }

    /// Whether `lpm set` takes it.
    pub fn can_be_set(&self) -> bool {
        self.is_of_processes() && matches!(self.change, Change::Live | Change::Restart)
    }

    /// The value that holds where nothing was said.
    pub fn default(&self) -> Value {
        match self.default {
            Default::Value(text) => self.kind.parse(text).expect("a row's default is a value of its kind"),
            Default::None(_) => Value::None,
        }
    }

    /// Its value for an instance; `None` for a setting that no instance has.
    pub fn of_instance(&self, instance: &Instance) -> Option<Value> {
        match self.field {
            Field::Instance(get) => Some(get(instance)),
            Field::Limits(get) => Some(get(&instance.ceilings)),
            Field::Stack(_) | Field::None => None,
        }
    }

    /// Its value for the stack; `None` for a setting that a stack does not have.
    pub fn of_stack(&self, stack: &Stack) -> Option<Value> {
        match self.field {
            Field::Stack(get) => Some(get(stack)),
            Field::Limits(get) => Some(get(&stack.ceilings)),
            Field::Instance(_) | Field::None => None,
        }
    }

    /// Both options, as far as there are.
    pub fn options(&self) -> impl Iterator<Item = &Opt> {
        self.option.iter().chain(&self.stack_option)
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Row {}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.key)
    }
}

/// All rows, in the order of lpm.toml.
pub fn rows() -> impl Iterator<Item = &'static Row> + Clone {
    ROWS.iter().copied()
}

/// The row of that key.
pub fn row(key: &str) -> Option<&'static Row> {
    rows().find(|row| row.key == key)
}

/// All options of settings, each with its row, in the order of the help: by group, those for all instances
/// together last.
pub fn options() -> impl Iterator<Item = (&'static Opt, &'static Row)> {
    let given = |row: &'static Row| row.options().map(move |option| (option, row));
    let mut options: Vec<_> = rows().flat_map(given).collect();
    let of_stack = |option: &Opt, row: &Row| row.is_of_processes() && option.takes == Takes::One;
    options.sort_by_key(|(option, row)| (option.group as u8, of_stack(option, row)));
    options.into_iter()
}

/// The row that `lpm set` means by `name`: a key, or an option's name.
///
/// # Errors
/// A name that is no setting, or a setting that only a file can say.
pub fn to_set(name: &str) -> Result<&'static Row, String> {
    let by_option = |row: &&Row| {
        let mut options = row.option.iter().filter(|_| row.can_be_set());
        options.any(|option| option.long == name || option.alias == Some(name))
    };
    let found = row(name).or_else(|| rows().find(by_option));
    let Some(row) = found else { return Err(unknown(name)) };
    match row.change {
        Change::Live | Change::Restart | Change::Reload if !row.is_of_processes() => {
            Err(format!("{name} is a setting of the stack (write it below [stack] in lpm.toml and reload)"))
        }
        Change::Live | Change::Restart => Ok(row),
        Change::Reload => {
            Err(format!("{name} cannot be set in a running stack (write it into lpm.toml and reload)"))
        }
        Change::NewStart => Err(format!(
            "{name} cannot be changed while the stack runs (write it into lpm.toml, then start anew)"
        )),
    }
}

fn unknown(name: &str) -> String {
    let settable = || rows().filter(|row| row.can_be_set());
    let options = settable().filter_map(|row| row.option.as_ref().map(|option| option.long));
    match nearest(name, settable().map(|row| row.key).chain(options)) {
        Some(near) => format!("unknown key {} (write {near})", quote(name)),
        None => format!("unknown key {} (known here: {})", quote(name), list(settable().map(|row| row.key))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique() {
        let mut keys = HashSet::new();
        assert!(rows().all(|row| keys.insert(row.key)));
        let (mut names, mut variables) = (HashSet::new(), HashSet::new());
        for (option, row) in options() {
            assert!(names.insert(option.long), "--{}", option.long);
            // memory-max is both the key and the second name of --mem.
            assert!(option.alias.is_none_or(|alias| names.insert(alias)), "{}", row.key);
            assert!(variables.insert(option.variable), "{}", option.variable);
            assert!(option.variable.starts_with("LPM_"));
        }
    }

    #[test]
    fn defaults_are_values_and_are_formatted_as_they_are_written() {
        for row in rows() {
            match row.default {
                Default::Value(text) => assert_eq!(row.default().to_string(), text, "{}", row.key),
                Default::None(_) => assert_eq!(row.default(), Value::None, "{}", row.key),
            }
        }
    }

    #[test]
    fn each_setting_of_a_process_is_seen_in_its_instance() {
        for row in rows().filter(|row| row.can_be_set()) {
            assert!(matches!(row.field, Field::Instance(_) | Field::Limits(_)), "{}", row.key);
        }
    }
}
