//! Claims about a whole machine: what only systemd, every cgroup v2 controller and ordinary users can
//! show. `vagrant/vm test` runs this executable in a guest, once as each [`harness::Role`]; anywhere else every
//! claim is listed as skipped. A claim that a user's own process can check belongs in `tests/cli/`.
#![expect(clippy::disallowed_methods, reason = "a test has a clock, an environment and a way out")]
#![allow(dead_code, reason = "some of what watches lpm waits for the claims about lpm")]

mod cgroups;
mod harness;
mod machine;
mod processes;
mod stack;
mod waiting;

use harness::{Claim, claims};

/// Every claim and who makes it. A claim runs in a process of its own; afterwards nothing that it
/// started may be left, neither process nor cgroup, and the harness looks.
const CLAIMS: &[Claim] = claims! {
    machine::the_role_is_what_it_says: Root Dev Runner;
    machine::the_machine_has_every_controller_and_no_swap: Root;
    machine::the_user_manager_is_up: Dev Runner;
    machine::a_delegated_scope_can_set_ceilings: Root Dev Runner;
    machine::an_oom_kill_is_counted_in_its_leaf: Root Dev Runner;
    machine::what_stays_behind_is_seen: Root Dev Runner;
    machine::a_left_over_cgroup_is_seen: Root Dev Runner;
    machine::redis_is_installed_and_not_running: Root;
    machine::lpm_starts: Root Dev Runner;
};

fn main() -> std::process::ExitCode {
    harness::main(CLAIMS)
}
