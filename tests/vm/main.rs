//! Claims about a whole machine: what only systemd, every cgroup v2 controller and ordinary users can
//! show. `vagrant/vm test` runs this executable in a guest, once as each [`harness::Role`]; anywhere else every
//! claim is listed as skipped. A claim that a user's own process can check belongs in `tests/cli/`.
#![expect(clippy::disallowed_methods, reason = "a test has a clock, an environment and a way out")]

mod ceilings;
mod cgroups;
mod clock;
mod containment;
mod control;
mod delegation;
mod detached;
mod escapes;
mod harness;
mod journal;
mod machine;
mod pressure;
mod processes;
mod reader;
mod reports;
mod stack;
mod subtrees;
mod systemd;
mod units;
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
    delegation::doctor_says_full_and_how: Root Dev Runner;
    delegation::lpm_keeps_its_pid_when_it_is_executed_again_in_its_scope: Root Dev Runner;
    delegation::a_procfile_from_standard_input_survives_that: Root Dev;
    delegation::children_do_not_see_what_is_lpms_own: Root Dev Runner;
    delegation::run_has_the_ceilings_too: Root Dev Runner;
    delegation::an_lpm_within_an_lpm_builds_its_tree_below: Root Dev;
    delegation::an_lpm_behind_a_shell_within_an_lpm_stays_below_too: Root Dev;
    delegation::two_checkouts_of_one_name_run_side_by_side: Root Dev Runner;
    delegation::a_container_with_read_only_cgroups_is_recognised_and_named: Root;
    ceilings::a_worker_over_its_memory_ceiling_is_killed_and_it_is_said_why: Root Dev Runner;
    ceilings::an_oom_kill_takes_the_whole_instance: Root Dev;
    ceilings::a_cpu_ceiling_is_seen_as_throttled_time: Root Dev Runner;
    ceilings::a_fork_bomb_ends_at_the_tasks_ceiling: Root Dev;
    ceilings::a_stack_ceiling_holds_for_all_together: Root Dev;
    ceilings::an_exec_that_the_ceiling_kills_is_a_start_that_failed: Root Dev;
    ceilings::what_lpm_wrote_is_what_another_reader_reads: Root Dev;
    ceilings::a_ceiling_that_the_kernel_refuses_is_said_before_anything_starts: Root Dev;
    containment::nobody_flees_from_ctrl_c: Root Dev Runner;
    containment::a_second_ctrl_c_kills_at_once: Root Dev;
    containment::kill_9_of_lpm_leaves_nothing_within_a_second: Root Dev Runner;
    containment::kill_9_of_the_guardian_and_then_of_lpm_leaves_nothing_either: Root Dev;
    containment::a_start_after_both_were_killed_cleans_up_and_says_so: Root Dev Runner;
    containment::the_own_cgroups_are_gone_when_lpm_returns: Root Dev Runner;
    containment::frozen_by_ctrl_z_and_thawed_by_fg: Root Dev;
    detached::it_is_a_service_with_ceilings_and_no_secret_is_seen: Root Dev Runner;
    detached::it_is_what_its_launcher_was: Root Dev Runner;
    detached::a_procfile_from_standard_input_goes_along: Root Dev;
    detached::systemctl_stop_asks_each_instance_in_its_own_way: Root Dev Runner;
    detached::kill_9_of_lpm_leaves_neither_process_nor_unit: Root Dev Runner;
    detached::kill_9_of_the_guardian_and_of_lpm_is_systemds_to_clean_up: Root Dev;
    detached::one_that_does_not_come_up_leaves_no_unit: Root Dev Runner;
    detached::a_second_start_is_refused_naming_the_first: Root Dev;
    detached::ctrl_c_takes_a_half_started_stack_down_again: Root Dev Runner;
    detached::its_lines_are_in_the_journal_with_one_time: Root;
    detached::a_user_logs_out_and_in_again_and_attaches_to_top: Root;
    units::the_shipped_unit_starts_is_ready_and_stops: Root Dev Runner;
    units::a_start_that_fails_is_a_unit_that_failed: Root Dev;
    units::a_stop_that_takes_longer_than_systemds_limit_is_waited_for: Root Dev;
    units::kill_9_of_lpm_is_followed_by_a_clean_start: Root Dev;
    units::a_unit_of_the_system_can_run_as_an_ordinary_user: Root;
    units::a_unit_without_room_for_one_more_task_is_still_controlled: Root Dev;
    units::kill_9_of_lpm_and_guardian_is_followed_by_a_clean_start: Root Dev;
    units::a_record_that_stayed_behind_harms_no_later_run_of_the_unit: Root Dev;
    units::a_unit_goes_on_when_its_journald_ends: Root;
    pressure::a_fork_bomb_at_its_limit_is_seen_and_stopped: Root Dev;
    pressure::a_worker_that_is_always_too_big_is_always_started_again_and_can_be_stopped: Root Dev;
    pressure::each_handler_runs_to_its_end_on_a_hundredth_of_a_cpu: Root Dev;
    pressure::a_kill_does_not_wait_for_a_cpu_limit: Root Dev;
    pressure::a_guardian_does_not_wait_for_a_cpu_limit: Root;
    pressure::the_end_does_not_wait_for_the_cpu_limit_of_the_stack: Root Dev;
    escapes::a_main_process_in_the_root_cgroup_is_reached: Root;
    escapes::a_main_process_in_a_scope_of_systemd_is_reached: Root Dev;
    escapes::a_scope_outlives_an_lpm_that_is_killed: Root Dev;
    escapes::a_service_that_an_instance_asks_systemd_for_is_systemds: Root Dev;
    escapes::a_session_that_an_instance_opens_ends_with_it: Root;
    subtrees::seven_hundred_cgroups_deep: Root Dev;
    subtrees::seven_hundred_cgroups_wide: Root Dev;
    subtrees::threaded_cgroups: Root Dev;
    journal::an_oom_kill_is_found_and_explained: Root;
    journal::a_journald_that_is_restarted_loses_nothing: Root;
    journal::a_stream_of_its_own_has_the_instances_pid_and_cgroup: Root;
    journal::a_stack_goes_on_without_a_journald: Root;
    journal::a_journald_that_reads_nothing_holds_nothing_up: Root;
    journal::a_full_disk_costs_lines_and_nothing_else: Root;
    reports::an_oom_kill_is_reported_with_ceiling_and_peak: Root Dev;
    reports::a_core_that_was_dumped_is_told: Root;
    reports::top_shows_memory_under_its_ceiling: Root Dev;
    control::status_has_what_the_kernel_counts: Root Dev Runner;
    control::a_ceiling_that_is_set_holds_at_once: Root Dev;
    control::a_frozen_instance_stands_still_in_the_kernel: Root Dev;
    control::varlinkctl_speaks_with_it: Root Dev;
    control::thirty_instances_are_surveyed: Root Dev;
    clock::a_clock_that_jumps_a_year_changes_nothing_that_runs: Root;
    clock::a_stack_that_began_in_the_future_is_found_and_taken_down: Root;
};

fn main() -> std::process::ExitCode {
    harness::main(CLAIMS)
}
