//! Attributes that a process is born with and hands on to its children: one field and one step for each.

use super::steps::{Stage, Steps};

/// What a process has otherwise than lpm itself; the default changes nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// The file mode creation mask.
    pub umask: Option<u32>,
    /// `RLIMIT_NOFILE`, soft and hard.
    pub open_files: Option<(u64, u64)>,
    /// The nice value (setpriority(2)).
    pub nice: Option<i32>,
    /// `PR_SET_NO_NEW_PRIVS` (prctl(2)).
    pub no_new_privileges: bool,
}

impl Attributes {
    /// Adds the steps that set them. Those that take a privilege away come last.
    pub(super) fn lay_out(&self, steps: &mut Steps) {
        if let Some(umask) = self.umask {
            steps.add(Stage::Attribute("umask"), libc::SYS_umask, [umask as usize]);
        }
        if let Some(limit) = self.open_files {
            steps.add_limit(Stage::Attribute("limit of open files"), libc::RLIMIT_NOFILE, limit);
        }
        if let Some(nice) = self.nice {
            // Of the calling process, which is number 0.
            let args = [libc::PRIO_PROCESS as usize, 0, nice as usize];
            steps.add(Stage::Attribute("nice"), libc::SYS_setpriority, args);
        }
        if self.no_new_privileges {
            let request = [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0];
            steps.add(Stage::Attribute("no-new-privileges"), libc::SYS_prctl, request);
        }
    }
}
