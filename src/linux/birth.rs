//! What a process is born with: plain values, nothing done yet.
//!
//! `spawn` makes the process; `steps` says in which order the child does what stands here.

use std::collections::HashMap;
use std::ffi::{CStr, CString, NulError, OsStr};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::attributes::Attributes;

/// Everything about a process that is to be born: plain values, nothing done yet.
///
/// Descriptors may have any numbers, also those they are to have in the child; everything else the
/// parent has open is closed in the child.
#[derive(Debug, Clone)]
pub struct Birth<'a> {
    /// `argv`, the program first. Without a `/` in it the program is looked for along the `PATH` of
    /// `environment`, as execvpe(3) does.
    pub argv: &'a [CString],
    /// What `/bin/sh -c` gets when the kernel does not know the file's format (`ENOEXEC`). `None`: the
    /// shell gets the file, as execvp(3) does it.
    pub script: Option<&'a CStr>,
    /// All of its environment.
    pub environment: &'a Environment,
    /// Variables set to the child's own pid, which nobody knows before (`LISTEN_PID`, sd_listen_fds(3)).
    /// They must not occur in `environment`.
    pub pid_variables: &'a [&'a str],
    /// Where it starts; `None` stays. A relative program is looked for from here.
    pub directory: Option<&'a CStr>,
    /// Standard input, output and error.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Descriptors 3, 4, … (sd_listen_fds(3)).
    pub passed: &'a [BorrowedFd<'a>],
    /// Session, terminal and process group.
    pub session: Session<'a>,
    /// What else it has otherwise than we have.
    pub attributes: Attributes,
    /// Signals it ignores from its first instruction on; all others have their default action, also
    /// those we ignore. nohup(1) is kept by naming SIGHUP here.
    pub ignored: &'a [i32],
    /// Sent to it when the thread that spawned it ends (`PR_SET_PDEATHSIG`). Any fork escapes it, so it is
    /// no more than better than nothing where there is no cgroup.
    pub parent_death_signal: Option<i32>,
}

impl<'a> Birth<'a> {
    /// A new session without a terminal, all else as ours.
    pub fn new(argv: &'a [CString], environment: &'a Environment, stdio: [BorrowedFd<'a>; 3]) -> Birth<'a> {
        Birth {
            argv,
            script: None,
            environment,
            pid_variables: &[],
            directory: None,
            stdio,
            passed: &[],
            session: Session::New,
            attributes: Attributes::default(),
            ignored: &[],
            parent_death_signal: None,
        }
    }
}

/// Whose terminal and whose group.
#[derive(Debug, Clone, Copy)]
pub enum Session<'a> {
    /// Its own session, no controlling terminal.
    New,
    /// Its own session, and its standard input becomes the controlling terminal (`TIOCSCTTY`).
    Terminal,
    /// Its own process group in our session, made the foreground group of this terminal if there is
    /// one, so that it may read from it (tcsetpgrp(3)).
    Group(Option<BorrowedFd<'a>>),
    /// Our session and our process group.
    Same,
}

/// An environment made ready for `execve`: `NAME=value` strings, each name once.
///
/// The base is shared by all who were made from it with [`with`](Environment::with); each has its own
/// few variables laid over.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    base: Arc<[CString]>,
    /// Indices into `base` of variables that `overlay` replaces, ascending.
    hidden: Vec<usize>,
    overlay: Vec<CString>,
}

impl Environment {
    /// The base. Of a name given twice the last value counts.
    ///
    /// # Errors
    /// A name or value holds a NUL byte.
    pub fn new<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Environment, NulError> {
        Ok(Environment { base: assignments(variables)?.into(), hidden: Vec::new(), overlay: Vec::new() })
    }

    /// The same with these laid over. The base is not copied.
    ///
    /// # Errors
    /// A name or value holds a NUL byte.
    pub fn with<N: AsRef<OsStr>, V: AsRef<OsStr>>(
        &self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Environment, NulError> {
        let mut overlay = assignments(variables)?;
        let known = |name: &[u8], list: &[CString]| list.iter().any(|entry| name_of(entry) == name);
        for old in &self.overlay {
            if !known(name_of(old), &overlay) {
                overlay.push(old.clone());
            }
        }
        let hidden = (0..self.base.len()).filter(|&at| known(name_of(&self.base[at]), &overlay)).collect();
        Ok(Environment { base: Arc::clone(&self.base), hidden, overlay })
    }

    /// All assignments, each name once.
    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        let mut hidden = self.hidden.iter().copied().peekable();
        let base = self.base.iter().enumerate();
        base.filter(move |(at, _)| hidden.next_if_eq(at).is_none())
            .map(|(_, entry)| entry)
            .chain(&self.overlay)
            .map(CString::as_c_str)
    }

    /// The value of one variable.
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let entry = self.iter().find(|entry| name_of(entry) == name.as_bytes())?;
        Some(&entry.to_bytes()[name.len() + 1..])
    }
}

fn assignments<N: AsRef<OsStr>, V: AsRef<OsStr>>(
    variables: impl IntoIterator<Item = (N, V)>,
) -> Result<Vec<CString>, NulError> {
    let mut places = HashMap::new();
    let mut list = Vec::new();
    for (name, value) in variables {
        let name = name.as_ref().as_bytes();
        let entry = CString::new([name, b"=", value.as_ref().as_bytes()].concat())?;
        match places.insert(name.to_vec(), list.len()) {
            None => list.push(entry),
            Some(place) => {
                list[place] = entry;
                places.insert(name.to_vec(), place);
            }
        }
    }
    Ok(list)
}

/// A name may begin with `=` (nobody does it, but the kernel lets it pass), hence the search from 1.
fn name_of(entry: &CStr) -> &[u8] {
    let bytes = entry.to_bytes();
    let end = bytes.iter().skip(1).position(|&byte| byte == b'=').map_or(bytes.len(), |at| at + 1);
    &bytes[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().copied()).unwrap()
    }

    #[test]
    fn an_overlay_hides_and_adds_and_shares_the_rest() {
        let base = environment(&[("A", "1"), ("B", "2"), ("A", "3"), ("C", "")]);
        let list = |environment: &Environment| -> Vec<String> {
            environment.iter().map(|entry| entry.to_str().unwrap().to_owned()).collect()
        };
        assert_eq!(list(&base), ["A=3", "B=2", "C="]);
        let first = base.with([("B", "x"), ("D", "=")]).unwrap();
        assert_eq!(list(&first), ["A=3", "C=", "B=x", "D=="]);
        let second = first.with([("D", "y"), ("C", "z")]).unwrap();
        assert_eq!(list(&second), ["A=3", "D=y", "C=z", "B=x"]);
        assert_eq!(second.value("B"), Some(&b"x"[..]));
        assert_eq!(second.value("E"), None);
        assert!(Arc::ptr_eq(&base.base, &second.base));
        assert!(Environment::new([("A", "a\0b")]).is_err());
    }
}
