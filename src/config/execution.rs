//! Settings that a process is born with and that the kernel keeps for it and its children.

use super::rows;
use super::spec::View;

/// Attributes of the processes of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Execution {
    /// From -20, the most favourable, to 19 (setpriority(2)); `None`: as lpm.
    pub nice: Option<i32>,
    /// No program that is executed gives them more privileges (prctl(2), `PR_SET_NO_NEW_PRIVS`).
    pub no_new_privileges: bool,
}

impl Execution {
    /// From what was said of an instance.
    pub(super) fn of(view: &View<'_>) -> Self {
        Self { nice: view.number_if_said(&rows::NICE), no_new_privileges: view.yes(&rows::NO_NEW_PRIVILEGES) }
    }
}
