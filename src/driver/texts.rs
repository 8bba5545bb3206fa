//! The text behind a running stack: read again, amended, loaded and judged when a client asks for a change.
//!
//! Runs on a thread of its own, for files may hang on a network; nothing in here touches what runs. `launch` knows where
//! files are and what this machine can enforce, and hands both in as functions.

use std::collections::BTreeMap;

use crate::config::{self, Options, Sources, Stack};
use crate::control::interface::Refusal;

/// A change of the text, or of what it comes to.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// `scale`.
    Scale { counts: BTreeMap<String, u32>, wait: bool },
    /// `set`.
    Set { name: String, settings: BTreeMap<String, String> },
    /// `reload`.
    Reload { dry_run: bool, wait: bool },
    /// `restart`: the env files are read again.
    Restart { names: Vec<String>, wait: bool },
    /// `start` of a process type that has no instance.
    Start { names: Vec<String>, wait: bool },
}

impl Change {
    /// What is read again for it.
    pub(super) fn read(&self) -> Read {
        match self {
            Change::Reload { .. } => Read::Everything,
            Change::Restart { .. } => Read::Env,
            Change::Scale { .. } | Change::Set { .. } | Change::Start { .. } => Read::Nothing,
        }
    }

    /// What it does to the options that the stack was started with.
    pub(super) fn amend(&self, sources: &config::Sources, options: &mut Options) -> Result<(), Vec<String>> {
        match self {
            Change::Reload { .. } | Change::Restart { .. } => {}
            Change::Scale { counts, .. } => {
                options.scale.extend(counts.iter().map(|(name, count)| (name.clone(), *count)));
            }
            Change::Start { names, .. } => {
                let counts = config::named_counts(sources, names);
                let refused = |problems: Vec<config::Diagnostic>| {
                    problems.iter().map(ToString::to_string).collect::<Vec<_>>()
                };
                options.scale.extend(counts.map_err(refused)?);
            }
            Change::Set { name, settings } => {
                let words: Vec<String> =
                    settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
                options.tell(config::assignments(name, &words).map_err(|message| vec![message])?);
            }
        }
        Ok(())
    }
}

/// What became of reading for a change.
pub(super) type Changed = Result<Box<Changing>, Refusal>;

/// A stack that is asked for now.
pub(super) struct Changing {
    pub sources: config::Sources,
    pub stack: Stack,
    pub notes: Vec<String>,
}

/// What is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Nothing: the text is as it was.
    Nothing,
    /// The env files.
    Env,
    /// Procfile, env files and `lpm.toml`.
    Everything,
}

/// Reads files into their places; what is wrong, one a line, and then nothing was changed.
pub type Reader = dyn Fn(&mut Sources, Read) -> Result<(), Vec<String>> + Send + Sync;

/// Refuses ceilings that cannot be enforced here, or under best-effort warns of them.
pub type Judge = dyn Fn(&Stack) -> Result<Vec<String>, Refusal> + Send + Sync;

/// How the text is read again.
pub struct Texts {
    /// Reads the files.
    pub read: Box<Reader>,
    /// Holds ceilings against the machine.
    pub judge: Box<Judge>,
}

impl Texts {
    /// What `change` makes of `sources`.
    pub(super) fn carry_out(&self, sources: &Sources, change: &Change) -> Changed {
        match self.read_and_load(sources, change, change.read()) {
            // A restart is often wanted just when something is wrong.
            Err(Refusal::Invalid { messages }) if change.read() == Read::Env => {
                let mut changing = self.read_and_load(sources, change, Read::Nothing)?;
                changing
                    .notes
                    .push("the env files were not taken in, the environment is as it was:".to_owned());
                changing.notes.extend(messages);
                Ok(changing)
            }
            changed => changed,
        }
    }

    fn read_and_load(&self, sources: &Sources, change: &Change, read: Read) -> Changed {
        let invalid = |messages| Refusal::Invalid { messages };
        let mut sources = sources.clone();
        if read != Read::Nothing {
            (self.read)(&mut sources, read).map_err(invalid)?;
        }
        // Nobody wants to be reminded at every reload of what he took out of the Procfile himself.
        if read == Read::Everything {
            sources.forget_what_is_gone();
        }
        let mut options = std::mem::take(&mut sources.options);
        let amended = change.amend(&sources, &mut options);
        sources.options = options;
        amended.map_err(invalid)?;
        let loaded = config::load(&sources).map_err(|problems| {
            invalid(problems.iter().filter(|p| p.is_error()).map(ToString::to_string).collect())
        })?;
        let warnings = loaded.warnings.iter().filter(|problem| problem.severity == config::Severity::Warning);
        let mut notes: Vec<String> = match read {
            // They were said at the start.
            Read::Nothing => Vec::new(),
            Read::Env | Read::Everything => warnings.map(ToString::to_string).collect(),
        };
        notes.extend((self.judge)(&loaded.stack)?);
        Ok(Box::new(Changing { sources, stack: loaded.stack, notes }))
    }
}
