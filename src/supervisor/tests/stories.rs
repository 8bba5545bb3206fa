//! Stories, each named for what it shows. Life 2 of `web` is `web#2`; times are seconds of the simulated clock.

use std::time::Duration;

use super::world::{GO_ON, Spawn, World, ms};
use crate::config::{ExitCodeRule, Signal};
use crate::supervisor::{
    Announcement, Broken, Crash, Ending, Event, Exit, FailureKind, InstanceId, Life, Living, Next, Outcome,
    Progress, Reply, Request, State, Usage, Wait, policy,
};

const HUP: i32 = 1;
const INT: i32 = 2;
const QUIT: i32 = 3;
const USR1: i32 = 10;
const TERM: i32 = 15;
const TSTP: i32 = 20;

const SEGV_WITH_CORE: Exit = Exit::Signal { signal: Signal(11), core: true };
const BY_TERM: Exit = Exit::Signal { signal: Signal(TERM), core: false };

mod the_end_of_the_stack {
    use super::*;

    #[test]
    fn one_process_that_ends_well() {
        let mut world = World::new("web:runs-ms=1000");
        world.tell(Event::Begin);
        world.run();
        world.tells(
            r#"
            0.000 spawn web#1
            0.002 "web#1 started"
            1.002 "web#1 exited 0: Success"
            1.002 remove web#1
            1.002 exit 0
            "#,
        );
    }

    #[test]
    fn the_first_exit_brings_the_others_down_and_gives_the_code() {
        let mut world = World::up("web worker clock");
        world.exits("worker", Exit::Code(3));
        world.run();
        world.tells(
            r#"
            0.002 "worker#1 exited 3: ExitCode"
            0.002 remove worker#1
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.002 stop clock#1 TERM
            0.012 "web#1 died by TERM: Success"
            0.012 remove web#1
            0.012 "clock#1 died by TERM: Success"
            0.012 remove clock#1
            0.012 exit 3
            "#,
        );
    }

    /// The dead process itself must not be asked to end; it once was.
    #[test]
    fn nobody_else_to_stop_and_nothing_said_of_it() {
        let mut world = World::up("web");
        world.exits("web", Exit::Code(42));
        world.tells(
            r#"
            0.002 "web#1 exited 42: ExitCode"
            0.002 remove web#1
            0.002 exit 42
            "#,
        );
    }

    #[test]
    fn a_clean_exit_that_ends_the_stack_is_0_whatever_the_others_say_then() {
        let mut world = World::up("web worker:traps=7");
        world.exits("web", Exit::Code(0));
        world.run();
        assert_eq!(world.ending, Some(Ending::Code(0)));
    }

    #[test]
    fn of_two_that_fail_the_first_gives_the_code() {
        let mut world = World::up("foo bar");
        world.exits("foo", Exit::Code(200));
        world.exits("bar", Exit::Code(141));
        assert_eq!(world.ending, Some(Ending::Code(200)));
    }

    #[test]
    fn death_by_signal_is_128_and_the_signal() {
        let mut world = World::up("web");
        world.exits("web", SEGV_WITH_CORE);
        world.tells(
            r#"
            0.002 "web#1 dumped core by SEGV: CoreDump"
            0.002 remove web#1
            0.002 exit 139
            "#,
        );
    }

    #[test]
    fn an_oom_kill_is_137_and_named() {
        let mut world = World::up("web");
        world.out_of_memory("web");
        world.tells(
            r#"
            0.002 "web#1 died by KILL: OomKill"
            0.002 remove web#1
            0.002 exit 137
            "#,
        );
        assert_eq!(world.core.instances()[0].outcome, Some(Outcome::OomKill));
    }

    #[test]
    fn a_shell_whose_child_the_ceiling_killed_is_an_oom_kill_too() {
        let mut world = World::up("web");
        world.felt("web", |usage| usage.oom_kills = 1);
        world.exits("web", Exit::Code(137));
        world.tells(
            r#"
            0.002 "web#1 OOM kills: 1"
            0.002 "web#1 exited 137: OomKill"
            0.002 remove web#1
            0.002 exit 137
            "#,
        );
    }

    #[test]
    fn worst_takes_the_largest_of_those_that_ended_unasked() {
        let mut world = World::with("web worker:can-die clock:traps=99", ExitCodeRule::Worst, false).begun();
        world.exits("worker", Exit::Code(7));
        world.exits("web", Exit::Code(3));
        world.run();
        assert_eq!(world.ending, Some(Ending::Code(7)));
    }

    #[test]
    fn zero_is_zero() {
        let mut world = World::with("web", ExitCodeRule::Zero, false).begun();
        world.exits("web", Exit::Code(3));
        assert_eq!(world.ending, Some(Ending::Code(0)));
    }

    #[test]
    fn no_rule_touches_what_lpm_itself_was_told() {
        for rule in [ExitCodeRule::First, ExitCodeRule::Worst, ExitCodeRule::Zero] {
            let up = || {
                let mut world = World::with("web worker:can-die", rule, true).begun();
                world.exits("worker", Exit::Code(255));
                world
            };
            let mut world = up();
            world.signal(QUIT);
            world.run();
            assert_eq!(world.ending, Some(Ending::Code(131)), "{rule:?}");
            let mut world = up();
            world.tell(Event::ReaderLeft);
            world.run();
            assert_eq!(world.ending, Some(Ending::Code(141)), "{rule:?}");
            for signal in [HUP, INT, TERM] {
                let mut world = up();
                world.signal(signal);
                world.run();
                assert_eq!(world.ending, Some(Ending::Signal(Signal(signal))), "{rule:?}");
            }
        }
    }

    #[test]
    fn one_that_can_die_takes_nobody_along() {
        let mut world = World::up("web worker:can-die");
        world.exits("worker", Exit::Code(1));
        world.run();
        world.tells(
            r#"
            0.002 "worker#1 exited 1: ExitCode"
            0.002 remove worker#1
            "#,
        );
        assert_eq!(world.state("worker"), State::Down { failed: true });
        assert!(!world.core.is_tearing_down());
    }

    #[test]
    fn when_all_that_can_die_are_dead_it_is_over_with_the_last_ones_code() {
        let mut world = World::up("web:can-die worker:can-die");
        world.exits("worker", Exit::Code(0));
        world.exits("web", Exit::Code(4));
        world.tells(
            r#"
            0.002 "worker#1 exited 0: Success"
            0.002 remove worker#1
            0.002 "web#1 exited 4: ExitCode"
            0.002 remove web#1
            0.002 exit 4
            "#,
        );
    }

    #[test]
    fn a_release_that_ends_well_stops_nothing() {
        let mut world = World::up("release:oneshot web");
        world.exits("release", Exit::Code(0));
        world.run();
        world.tells(
            r#"
            0.002 "release#1 exited 0: Success"
            0.002 remove release#1
            "#,
        );
        assert_eq!(world.state("release"), State::Down { failed: false });
    }

    #[test]
    fn a_release_that_fails_stops_the_stack() {
        let mut world = World::up("release:oneshot web");
        world.exits("release", Exit::Code(9));
        world.run();
        world.tells(
            r#"
            0.002 "release#1 exited 9: ExitCode"
            0.002 remove release#1
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.012 "web#1 died by TERM: Success"
            0.012 remove web#1
            0.012 exit 9
            "#,
        );
    }

    /// Clean for a daemon, not for work that was to be done.
    #[test]
    fn a_release_that_was_terminated_has_failed() {
        let mut world = World::up("release:oneshot web");
        world.exits("release", BY_TERM);
        world.run();
        assert_eq!(world.ending, Some(Ending::Code(143)));
    }

    #[test]
    fn when_every_one_shot_is_done_it_is_over() {
        let mut world = World::up("migrate:oneshot,runs-ms=10 seed:oneshot,runs-ms=20");
        world.run();
        assert_eq!(world.ending, Some(Ending::Code(0)));
    }

    #[test]
    fn a_command_that_cannot_be_started_ends_the_stack_in_a_shells_words() {
        for (program, code) in [("not-found", 127), ("not-executable", 126), ("exec-oom", 137)] {
            let mut world = World::new(&format!("web:{program} worker"));
            world.tell(Event::Begin);
            world.run();
            assert_eq!(world.ending, Some(Ending::Code(code)), "{program}");
        }
        let mut world = World::new("web:not-found worker");
        world.tell(Event::Begin);
        world.run();
        world.tells(
            r#"
            0.000 spawn web#1
            0.000 spawn worker#1
            0.002 "web#1 cannot start: NotFound"
            0.002 "TERM to all"
            0.002 cancel worker#1
            0.002 exit 127
            "#,
        );
    }

    #[test]
    fn a_command_that_cannot_be_started_is_not_tried_again() {
        let mut world = World::up("web worker:not-found,can-die,restart=always");
        world.run();
        assert_eq!(world.core.instances()[1].invocations, 1);
        assert_eq!(world.core.instances()[1].outcome, Some(Outcome::Resources));
        assert!(!world.core.is_tearing_down());
    }

    #[test]
    fn a_stack_of_nothing_is_over_at_once() {
        let mut world = World::new("");
        world.tell(Event::Begin);
        world.tells("0.000 exit 0");
    }

    #[test]
    fn the_reader_of_the_output_leaves() {
        let mut world = World::up("web");
        world.tell(Event::ReaderLeft);
        world.tell(Event::ReaderLeft);
        world.run();
        world.tells(
            r#"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.012 "web#1 died by TERM: Success"
            0.012 remove web#1
            0.012 exit 141
            "#,
        );
    }

    #[test]
    fn nothing_is_said_after_the_end() {
        let mut world = World::up("web");
        let life = world.life("web");
        world.exits("web", Exit::Code(0));
        world.tells(
            r#"
            0.002 "web#1 exited 0: Success"
            0.002 remove web#1
            0.002 exit 0
            "#,
        );
        let late = Event::Exited { life, exit: Exit::Code(1), usage: Usage::default(), left: 0 };
        for event in [Event::Begin, Event::Signal(Signal(INT)), Event::TimePassed, Event::ReaderLeft, late] {
            assert_eq!(world.core.handle(world.now, event), []);
        }
    }
}

mod stopping {
    use super::*;

    #[test]
    fn ctrl_c_on_a_healthy_stack() {
        let mut world = World::up("web worker");
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 "INT received"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.002 stop worker#1 TERM
            0.012 "web#1 died by TERM: Success"
            0.012 remove web#1
            0.012 "worker#1 died by TERM: Success"
            0.012 remove worker#1
            0.012 exit by INT
            "#,
        );
    }

    #[test]
    fn sigterm_ends_lpm_by_sigterm() {
        let mut world = World::up("web:traps=0");
        world.signal(TERM);
        world.run();
        assert_eq!(world.ending, Some(Ending::Signal(Signal(TERM))));
    }

    #[test]
    fn who_ignores_sigterm_is_killed_after_its_grace() {
        let mut world = World::up("web:stubborn,timeout-ms=1000 worker");
        world.exits("worker", Exit::Code(7));
        world.run();
        world.tells(
            r#"
            0.002 "worker#1 exited 7: ExitCode"
            0.002 remove worker#1
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            1.002 "web#1 killed after 1s"
            1.002 kill web#1
            1.003 "web#1 died by KILL: Timeout"
            1.003 remove web#1
            1.003 exit 7
            "#,
        );
        assert_eq!(world.core.instances()[0].outcome, Some(Outcome::Timeout));
    }

    #[test]
    fn who_ends_within_its_grace_is_not_killed() {
        let mut world = World::up("web:dies-in-ms=4999");
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 "INT received"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            5.001 "web#1 died by TERM: Success"
            5.001 remove web#1
            5.001 exit by INT
            "#,
        );
    }

    #[test]
    fn without_a_grace_it_is_killed_at_once() {
        let mut world = World::up("web:timeout-ms=0");
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 "INT received"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.002 "web#1 killed after 0ns"
            0.002 kill web#1
            0.003 "web#1 died by KILL: Timeout"
            0.003 remove web#1
            0.003 exit by INT
            "#,
        );
    }

    #[test]
    fn a_second_ctrl_c_kills_at_once_and_a_third_changes_nothing() {
        let mut world = World::up("web:stubborn worker");
        world.signal(INT);
        world.pass(ms(500));
        world.signal(INT);
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 "INT received"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.002 stop worker#1 TERM
            0.012 "worker#1 died by TERM: Success"
            0.012 remove worker#1
            0.502 "killing all"
            0.502 kill web#1
            0.503 "web#1 died by KILL: Signal"
            0.503 remove web#1
            0.503 exit by INT
            "#,
        );
    }

    #[test]
    fn the_first_ctrl_c_during_a_tear_down_is_no_second_one_and_the_code_stays() {
        let mut world = World::up("web:stubborn worker");
        world.exits("worker", Exit::Code(3));
        world.signal(INT);
        world.pass(ms(500));
        assert_eq!(world.ending, None);
        world.signal(INT);
        world.run();
        assert_eq!((world.now, world.ending), (ms(503), Some(Ending::Code(3))));
    }

    #[test]
    fn one_signal_told_twice_is_one() {
        // timeout(1) signals its child and then the group that it is in.
        let mut world = World::up("web:stubborn");
        world.signal(TERM);
        world.pass(ms(1));
        world.signal(TERM);
        world.pass(ms(1000));
        assert_eq!(world.ending, None);
    }

    #[test]
    fn a_hang_up_after_ctrl_c_kills_nobody() {
        let mut world = World::with("web:stubborn", ExitCodeRule::First, true).begun();
        world.signal(INT);
        world.pass(ms(500));
        world.signal(HUP);
        world.pass(ms(500));
        assert_eq!(world.ending, None);
    }

    #[test]
    fn sigquit_kills_at_once() {
        let mut world = World::up("web worker:restart=always late:spawn-uncancellable-ms=50");
        world.exits("worker", Exit::Code(1));
        world.signal(QUIT);
        world.run();
        world.tells(
            r#"
            0.002 "worker#1 exited 1: ExitCode"
            0.002 "worker restarts in 100ms, no. 1"
            0.002 remove worker#1
            0.002 "QUIT received"
            0.002 "killing all"
            0.002 kill web#1
            0.002 cancel late#1
            0.002 kill late#1
            0.003 "web#1 died by KILL: Signal"
            0.003 remove web#1
            0.050 "late#1 started"
            0.050 kill late#1
            0.051 "late#1 died by KILL: Signal"
            0.051 remove late#1
            0.051 exit 131
            "#,
        );
    }

    #[test]
    fn sigquit_during_a_tear_down_kills_what_is_left() {
        let mut world = World::up("web:stubborn");
        world.signal(TERM);
        world.signal(QUIT);
        world.run();
        world.tells(
            r#"
            0.002 "TERM received"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.002 "QUIT received"
            0.002 "killing all"
            0.002 kill web#1
            0.003 "web#1 died by KILL: Signal"
            0.003 remove web#1
            0.003 exit by TERM
            "#,
        );
    }

    #[test]
    fn sigquit_takes_the_next_life_from_those_that_already_end() {
        let mut world = World::up("web:stubborn worker:restart=always,forks=1,forked-stubborn");
        let restart = world.restart("web");
        world.exits("worker", Exit::Code(1));
        world.signal(QUIT);
        assert_eq!(world.reply(restart), Some(Reply::ShuttingDown));
        world.run();
        assert_eq!((world.now, world.ending), (ms(3), Some(Ending::Code(131))));
    }

    #[test]
    fn the_terminal_hangs_up() {
        let mut world = World::with("web", ExitCodeRule::First, true).begun();
        world.signal(HUP);
        world.run();
        world.tells(
            r#"
            0.002 "HUP received"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.012 "web#1 died by TERM: Success"
            0.012 remove web#1
            0.012 exit by HUP
            "#,
        );
    }

    #[test]
    fn without_a_terminal_a_hang_up_stops_nothing() {
        let mut world = World::up("web");
        world.signal(HUP);
        world.run();
        world.tells(r#"0.002 "hang-up ignored""#);
    }

    #[test]
    fn a_signal_of_no_meaning_changes_nothing() {
        let mut world = World::up("web");
        world.signal(28);
        world.run();
        world.tells("");
    }

    #[test]
    fn usr1_goes_to_every_main_process_that_runs() {
        let mut world = World::up("web worker:can-die clock slow:spawn-ms=100");
        world.exits("worker", Exit::Code(0));
        world.stop("clock");
        world.tells(
            r#"
            0.002 "worker#1 exited 0: Success"
            0.002 remove worker#1
            0.002 "clock: stop on request"
            0.002 stop clock#1 TERM
            "#,
        );
        world.signal(USR1);
        world.tells(
            r#"
            0.002 "forwarding USR1"
            0.002 signal web#1 USR1 to main
            "#,
        );
    }

    #[test]
    fn each_has_its_own_stop_signal() {
        let mut world = World::up("web:stop-signal=3 db worker:stop-signal=2");
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 "INT received"
            0.002 "stopping all"
            0.002 stop web#1 QUIT
            0.002 stop db#1 TERM
            0.002 stop worker#1 INT
            0.012 "web#1 died by QUIT: Success"
            0.012 remove web#1
            0.012 "db#1 died by TERM: Success"
            0.012 remove db#1
            0.012 "worker#1 died by INT: Success"
            0.012 remove worker#1
            0.012 exit by INT
            "#,
        );
        assert!(world.core.instances().iter().all(|instance| instance.outcome == Some(Outcome::Success)));
    }

    #[test]
    fn one_stop_signal_for_all_is_named() {
        let mut world = World::up("web:stop-signal=3 db:stop-signal=3");
        world.signal(INT);
        assert!(world.story().contains("QUIT to all"));
    }

    /// `Process.spawn("sleep 100")` outlives its worker under foreman (ddollar/foreman#779).
    #[test]
    fn what_a_main_process_leaves_behind_is_asked_counted_and_waited_for() {
        let mut world = World::up("web:can-die,forks=2 worker");
        world.exits("web", Exit::Code(0));
        world.tells(
            r#"
            0.002 "web#1 exited 0: Success"
            0.002 "web#1 left 2 behind, sent TERM"
            0.002 stop web#1 TERM
            "#,
        );
        world.run();
        world.tells("0.012 remove web#1");
        assert_eq!(world.core.instances()[0].ledger.leftovers, 2);
    }

    #[test]
    fn leftovers_that_ignore_the_signal_are_killed_and_the_first_thing_that_went_wrong_stays() {
        let mut world = World::up("web:forks=1,forked-stubborn");
        world.exits("web", Exit::Code(8));
        world.run();
        world.tells(
            r#"
            0.002 "web#1 exited 8: ExitCode"
            0.002 "web#1 left 1 behind, sent TERM"
            0.002 stop web#1 TERM
            0.002 "TERM to all"
            5.002 "web#1 killed after 5s"
            5.002 kill web#1
            5.003 remove web#1
            5.003 exit 8
            "#,
        );
        assert_eq!(world.core.instances()[0].outcome, Some(Outcome::ExitCode));
    }

    #[test]
    fn leftovers_of_a_clean_exit_that_must_be_killed_are_a_timeout() {
        let mut world = World::up("release:oneshot,forks=1,forked-stubborn web");
        world.exits("release", Exit::Code(0));
        world.run();
        assert_eq!(world.state("release"), State::Down { failed: true });
        assert_eq!(world.core.instances()[0].outcome, Some(Outcome::Timeout));
        assert!(!world.core.is_tearing_down());
    }

    /// Elsewhere the leader's exit cancels the SIGKILL (F1bonacc1/process-compose#520).
    #[test]
    fn the_kill_comes_although_the_leader_obeyed() {
        let mut world = World::up("web:forks=1,forked-stubborn,timeout-ms=1000,traps=0");
        world.signal(TERM);
        world.run();
        world.tells(
            r#"
            0.002 "TERM received"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.012 "web#1 exited 0: Success"
            1.002 "web#1 killed after 1s"
            1.002 kill web#1
            1.003 remove web#1
            1.003 exit by TERM
            "#,
        );
    }

    #[test]
    fn the_leaf_is_waited_for_and_not_the_leader() {
        let mut world = World::up("web:forks=3,forked-die-in-ms=700");
        world.signal(TERM);
        world.pass(ms(600));
        assert_eq!(world.ending, None);
        world.run();
        world.tells(
            r#"
            0.002 "TERM received"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.012 "web#1 died by TERM: Success"
            0.702 remove web#1
            0.702 exit by TERM
            "#,
        );
    }

    #[test]
    fn ctrl_c_while_leftovers_are_asked_keeps_their_deadline() {
        let mut world = World::up("web:can-die,forks=1,forked-stubborn worker");
        world.exits("web", Exit::Code(0));
        world.pass(ms(2000));
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 "web#1 exited 0: Success"
            0.002 "web#1 left 1 behind, sent TERM"
            0.002 stop web#1 TERM
            2.002 "INT received"
            2.002 "TERM to all"
            2.002 stop worker#1 TERM
            2.012 "worker#1 died by TERM: Success"
            2.012 remove worker#1
            5.002 "web#1 killed after 5s"
            5.002 kill web#1
            5.003 remove web#1
            5.003 exit by INT
            "#,
        );
    }

    #[test]
    fn mixed_asks_the_main_process_alone_and_kills_what_it_leaves() {
        let mut world = World::up("web:mixed,forks=2");
        world.signal(TERM);
        world.run();
        world.tells(
            r#"
            0.002 "TERM received"
            0.002 "TERM to all"
            0.002 stop web#1 TERM to main
            0.012 "web#1 died by TERM: Success"
            0.012 kill web#1
            0.013 remove web#1
            0.013 exit by TERM
            "#,
        );
    }

    #[test]
    fn mixed_gives_leftovers_of_an_unasked_exit_their_grace() {
        let mut world = World::up("web:mixed,can-die,forks=1 worker");
        world.exits("web", Exit::Code(1));
        world.run();
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 "web#1 left 1 behind, sent TERM"
            0.002 stop web#1 TERM
            0.012 remove web#1
            "#,
        );
    }

    #[test]
    fn what_not_even_sigkill_ends_is_given_up() {
        let mut world = World::up("web:stuck worker");
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 "INT received"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.002 stop worker#1 TERM
            0.012 "worker#1 died by TERM: Success"
            0.012 remove worker#1
            5.002 "web#1 killed after 5s"
            5.002 kill web#1
            10.002 "web#1 given up"
            10.002 exit by INT
            "#,
        );
    }

    #[test]
    fn leftovers_that_are_stuck_do_not_keep_a_stack_that_is_over() {
        let mut world = World::up("web:can-die,forks=1,forked-stuck");
        world.exits("web", Exit::Code(2));
        world.run();
        world.tells(
            r#"
            0.002 "web#1 exited 2: ExitCode"
            0.002 "web#1 left 1 behind, sent TERM"
            0.002 stop web#1 TERM
            5.002 "web#1 killed after 5s"
            5.002 kill web#1
            10.002 "web#1 given up"
            10.002 exit 2
            "#,
        );
    }

    #[test]
    fn something_stuck_that_ends_after_all_is_over() {
        let mut world = World::up("web:stuck worker");
        let life = world.life("web");
        let stop = world.stop("web");
        world.run();
        assert!(matches!(world.state("web"), State::Up(Living { progress: Progress::Stuck { .. }, .. })));
        assert_eq!(world.reply(stop), Some(Reply::Failed(InstanceId(0))));
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 stop web#1 TERM
            5.002 "web#1 killed after 5s"
            5.002 kill web#1
            10.002 "web#1 given up"
            10.002 reply to 1: web failed
            "#,
        );
        world.exits("web", Exit::Signal { signal: Signal(9), core: false });
        world.tells(
            r#"
            10.002 "web#1 died by KILL: Timeout"
            10.002 "web#1 gone 0ns later"
            10.002 remove web#1
            "#,
        );
        assert_eq!(world.state("web"), State::Down { failed: true });
        assert_eq!(world.core.instances()[0].outcome, Some(Outcome::Timeout));
        assert_eq!(life.invocation, 1);
    }

    #[test]
    fn something_stuck_that_was_to_start_again_does_when_it_ends_after_all() {
        let mut world = World::up("web:stuck");
        world.restart("web");
        world.run();
        let late = world.start("web");
        assert_eq!(world.reply(late), Some(Reply::Failed(InstanceId(0))));
        world.tells(
            r#"
            0.002 "web: restart on request"
            0.002 stop web#1 TERM
            5.002 "web#1 killed after 5s"
            5.002 kill web#1
            10.002 "web#1 given up"
            10.002 reply to 1: web failed
            10.002 reply to 2: web failed
            "#,
        );
        world.exits("web", BY_TERM);
        world.tells(
            r#"
            10.002 "web#1 died by TERM: Timeout"
            10.002 "web#1 gone 0ns later"
            10.002 remove web#1
            10.002 spawn web#2
            "#,
        );
    }

    #[test]
    fn stuck_leftovers_that_end_after_all_are_told_of() {
        let mut world = World::up("web:can-die,forks=1,forked-stuck worker");
        world.exits("web", Exit::Code(2));
        world.pass(Duration::from_secs(3600));
        world.tells(
            r#"
            0.002 "web#1 exited 2: ExitCode"
            0.002 "web#1 left 1 behind, sent TERM"
            0.002 stop web#1 TERM
            5.002 "web#1 killed after 5s"
            5.002 kill web#1
            10.002 "web#1 given up"
            "#,
        );
        world.forked_exits("web");
        world.tells(
            r#"
            3600.002 "web#1 gone 3590s later"
            3600.002 remove web#1
            "#,
        );
        assert_eq!(world.state("web"), State::Down { failed: true });
    }

    #[test]
    fn no_number_overflows() {
        let mut world = World::up("web:restart=always,can-die,forks=1 worker");
        let most = Usage {
            cpu_usec: u64::MAX,
            throttled_usec: Some(u64::MAX),
            memory_peak: Some(u64::MAX),
            oom_kills: u64::MAX,
            tasks_refused: u64::MAX,
        };
        for _ in 0..3 {
            let life = world.life("web");
            world.tell(Event::Resource { life, usage: most });
            world.felt("web", |_| {});
            world.exits("web", Exit::Code(0));
            world.pass(Duration::from_secs(1));
        }
        let worker = world.life("worker");
        world.tell(Event::Exited { life: worker, exit: Exit::Code(0), usage: most, left: u32::MAX });
        let mut policy = super::super::world::plain_policy();
        policy.timeout_stop = Duration::MAX;
        policy.restart.delay = Duration::MAX;
        assert_eq!(policy::restart_delay(&policy.restart, 40), policy.restart.delay_max);
        let mut core = crate::supervisor::Supervisor::with_policies([policy], ExitCodeRule::First, false);
        let life = Life { instance: InstanceId(0), invocation: 1 };
        core.handle(ms(1), Event::Begin);
        core.handle(ms(1), Event::Spawned { life, pid: 1 });
        core.handle(ms(1), Event::Signal(Signal(TSTP)));
        core.handle(ms(9), Event::Signal(Signal(GO_ON)));
        core.handle(ms(9), Event::Signal(Signal(INT)));
        assert_eq!(core.deadline(), Some(Duration::MAX));
    }
}

mod births {
    use super::*;

    #[test]
    fn a_stop_withdraws_a_spawn_that_was_not_carried_out() {
        let mut world = World::up("web:spawn-ms=1000");
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 "INT received"
            0.002 "TERM to all"
            0.002 cancel web#1
            0.002 exit by INT
            "#,
        );
    }

    #[test]
    fn a_spawn_that_cannot_be_withdrawn_is_asked_to_end_as_soon_as_it_exists() {
        let mut world = World::up("web:spawn-uncancellable-ms=1000");
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 "INT received"
            0.002 "TERM to all"
            0.002 cancel web#1
            1.000 "web#1 started"
            1.000 stop web#1 TERM
            1.010 "web#1 died by TERM: Success"
            1.010 remove web#1
            1.010 exit by INT
            "#,
        );
    }

    #[test]
    fn the_grace_counts_from_the_request_and_not_from_the_birth() {
        let mut world = World::up("web:spawn-uncancellable-ms=1000,stubborn,timeout-ms=1500");
        world.stop("web");
        world.run();
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 cancel web#1
            1.000 "web#1 started"
            1.000 stop web#1 TERM
            1.502 "web#1 killed after 1.5s"
            1.502 kill web#1
            1.503 "web#1 died by KILL: Timeout"
            1.503 remove web#1
            1.503 reply to 1: done
            "#,
        );
    }

    #[test]
    fn a_spawn_that_hangs_is_killed_after_the_grace() {
        let mut world = World::up("web:spawn-hangs");
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 "INT received"
            0.002 "TERM to all"
            0.002 cancel web#1
            5.002 "web#1 killed after 5s"
            5.002 kill web#1
            5.003 "web#1 cannot start: NotExecutable"
            5.003 exit by INT
            "#,
        );
    }

    #[test]
    fn a_spawn_that_hangs_for_good_is_given_up() {
        let mut world = World::up("web:spawn-hangs-forever");
        world.signal(INT);
        world.pass(ms(300));
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 "INT received"
            0.002 "TERM to all"
            0.002 cancel web#1
            0.302 "killing all"
            0.302 kill web#1
            5.302 "web#1 given up"
            5.302 exit by INT
            "#,
        );
    }

    #[test]
    fn a_birth_after_the_kill_is_killed_too() {
        let mut world = World::up("web:spawn-uncancellable-ms=1000");
        world.signal(INT);
        world.pass(ms(300));
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 "INT received"
            0.002 "TERM to all"
            0.002 cancel web#1
            0.302 "killing all"
            0.302 kill web#1
            1.000 "web#1 started"
            1.000 kill web#1
            1.001 "web#1 died by KILL: Signal"
            1.001 remove web#1
            1.001 exit by INT
            "#,
        );
    }

    #[test]
    fn a_birth_after_it_was_given_up_is_killed_too() {
        let mut world = World::up("web:spawn-uncancellable-ms=20000 worker");
        world.stop("web");
        world.pass(Duration::from_secs(15));
        assert!(matches!(world.state("web"), State::Up(Living { progress: Progress::Stuck { .. }, .. })));
        world.run();
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 cancel web#1
            5.002 "web#1 killed after 5s"
            5.002 kill web#1
            10.002 "web#1 given up"
            10.002 reply to 1: web failed
            20.000 kill web#1
            20.001 "web#1 died by KILL: Timeout"
            20.001 "web#1 gone 9.999s later"
            20.001 remove web#1
            "#,
        );
        assert!(!world.core.is_tearing_down());
    }

    #[test]
    fn a_spawn_that_fails_while_it_is_stopped() {
        let mut world = World::up("web:not-found-after-ms=100 worker");
        let stop = world.stop("web");
        world.run();
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 cancel web#1
            0.100 "web#1 cannot start: NotFound"
            0.100 reply to 1: done
            "#,
        );
        assert_eq!(world.reply(stop), Some(Reply::Done));
        assert!(!world.core.is_tearing_down());
    }

    #[test]
    fn a_process_that_the_ceiling_killed_before_its_first_instruction_did_not_start() {
        let mut world = World::up("web worker");
        world.killed_before_it_began("web");
        world.run();
        assert_eq!(world.state("web"), State::Down { failed: true });
        assert_eq!(world.ending, Some(Ending::Code(137)));
    }

    #[test]
    fn a_failed_birth_during_the_tear_down_does_not_change_the_code() {
        let mut world = World::up("web:not-found-after-ms=100 worker");
        world.exits("worker", Exit::Code(3));
        world.run();
        assert_eq!(world.ending, Some(Ending::Code(3)));
    }

    #[test]
    fn facts_about_an_old_life_change_nothing() {
        let mut world = World::up("web:can-die,restart=always,delay-ms=0 worker");
        let old = world.life("web");
        world.exits("web", Exit::Code(1));
        world.pass(ms(10));
        assert_eq!(world.life("web").invocation, 2);
        let before = world.core.clone();
        let usage = Usage { oom_kills: 1, tasks_refused: 1, ..Usage::default() };
        let failure = crate::supervisor::Failure {
            stage: crate::supervisor::Stage::Program,
            reason: "no".into(),
            kind: crate::supervisor::FailureKind::NotFound,
        };
        for event in [
            Event::Spawned { life: old, pid: 1 },
            Event::SpawnFailed { life: old, failure },
            Event::Exited { life: old, exit: Exit::Code(1), usage, left: 1 },
            Event::Emptied { life: old, usage },
            Event::Resource { life: old, usage },
        ] {
            assert_eq!(world.core.handle(world.now, event.clone()), [], "{event:?}");
            assert_eq!(world.core, before, "{event:?}");
        }
    }

    #[test]
    fn the_leaf_of_a_running_process_is_not_empty_whatever_is_said() {
        let mut world = World::up("web");
        let life = world.life("web");
        world.tell(Event::Emptied { life, usage: Usage::default() });
        world.tells("");
    }
}

mod restarts {
    use super::*;

    #[test]
    fn delays_double_up_to_the_largest() {
        let mut world = World::up(
            "web:restart=always,delay-ms=100,delay-max-ms=500,fails-after-ms=1,burst=0,interval-ms=60000",
        );
        world.pass(ms(2000));
        let delays: Vec<_> = world
            .history
            .iter()
            .flat_map(|(_, _, actions)| actions)
            .filter_map(|action| match action {
                crate::supervisor::Action::Announce(Announcement::RestartIn { delay, .. }) => {
                    Some(delay.as_millis())
                }
                _ => None,
            })
            .collect();
        assert_eq!(delays, [100, 200, 400, 500, 500, 500]);
    }

    #[test]
    fn no_delay_stays_no_delay() {
        let mut restart = super::super::world::plain_policy().restart;
        restart.delay = Duration::ZERO;
        assert_eq!(policy::restart_delay(&restart, 0), Duration::ZERO);
        assert_eq!(policy::restart_delay(&restart, 100), Duration::ZERO);
    }

    #[test]
    fn without_a_delay_the_next_life_comes_at_once() {
        let mut world = World::up("web:restart=on-failure,delay-ms=0");
        world.exits("web", Exit::Code(1));
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 "web restarts in 0ns, no. 1"
            0.002 remove web#1
            0.002 spawn web#2
            "#,
        );
    }

    #[test]
    fn too_many_starts_end_the_stack() {
        let mut world = World::up("web:restart=always,fails-after-ms=10,burst=3 worker");
        world.run();
        world.tells(
            r#"
            0.012 "web#1 exited 1: ExitCode"
            0.012 "web restarts in 100ms, no. 1"
            0.012 remove web#1
            0.112 spawn web#2
            0.114 "web#2 started"
            0.124 "web#2 exited 1: ExitCode"
            0.124 "web restarts in 200ms, no. 2"
            0.124 remove web#2
            0.324 spawn web#3
            0.326 "web#3 started"
            0.336 "web#3 exited 1: ExitCode"
            0.336 "web hit the start limit"
            0.336 remove web#3
            0.336 "TERM to all"
            0.336 stop worker#1 TERM
            0.346 "worker#1 died by TERM: Success"
            0.346 remove worker#1
            0.346 exit 1
            "#,
        );
        assert_eq!(world.core.instances()[0].outcome, Some(Outcome::StartLimitHit));
    }

    #[test]
    fn too_many_starts_of_one_that_can_die_end_nothing() {
        let mut world = World::up("web:restart=always,can-die,runs-ms=10,burst=2 worker");
        world.run();
        assert_eq!(world.core.instances()[0].invocations, 2);
        assert_eq!(world.state("web"), State::Down { failed: true });
        assert!(!world.core.is_tearing_down());
    }

    #[test]
    fn starts_long_ago_do_not_count() {
        let mut world =
            World::up("web:restart=always,fails-after-ms=400,burst=3,interval-ms=1000,delay-ms=0");
        world.pass(Duration::from_secs(60));
        assert!(world.core.instances()[0].invocations > 100);
    }

    #[test]
    fn a_long_life_makes_the_next_delay_short_again() {
        let mut world = World::up("web:restart=always");
        for _ in 0..3 {
            world.exits("web", Exit::Code(1));
            world.pass(ms(500));
        }
        world.pass(Duration::from_secs(10));
        world.exits("web", Exit::Code(1));
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 "web restarts in 100ms, no. 1"
            0.002 remove web#1
            0.102 spawn web#2
            0.104 "web#2 started"
            0.502 "web#2 exited 1: ExitCode"
            0.502 "web restarts in 200ms, no. 2"
            0.502 remove web#2
            0.702 spawn web#3
            0.704 "web#3 started"
            1.002 "web#3 exited 1: ExitCode"
            1.002 "web restarts in 400ms, no. 3"
            1.002 remove web#3
            1.402 spawn web#4
            1.404 "web#4 started"
            11.502 "web#4 exited 1: ExitCode"
            11.502 "web restarts in 100ms, no. 4"
            11.502 remove web#4
            "#,
        );
    }

    #[test]
    fn on_failure_lets_a_clean_end_be() {
        for exit in [Exit::Code(0), BY_TERM] {
            let mut world = World::up("web:restart=on-failure,can-die worker");
            world.exits("web", exit);
            world.run();
            assert_eq!(world.core.instances()[0].invocations, 1, "{exit:?}");
        }
    }

    #[test]
    fn on_failure_ends_the_stack_at_a_clean_end_like_any_other() {
        let mut world = World::up("web:restart=on-failure worker");
        world.exits("web", Exit::Code(0));
        world.run();
        assert_eq!(world.ending, Some(Ending::Code(0)));
    }

    /// With both settings overmind lets it stay dead (DarthSim/overmind#190).
    #[test]
    fn restart_wins_over_can_die() {
        let mut world = World::up("web:restart=always,can-die worker");
        world.exits("web", Exit::Code(1));
        world.run();
        assert_eq!(world.life("web").invocation, 2);
    }

    #[test]
    fn a_stack_that_only_waits_for_restarts_lives_on() {
        let mut world = World::up("web:restart=always,can-die worker:restart=always");
        world.exits("web", Exit::Code(1));
        world.exits("worker", Exit::Code(1));
        assert!(!world.core.is_tearing_down());
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 "web restarts in 100ms, no. 1"
            0.002 remove web#1
            0.002 "worker#1 exited 1: ExitCode"
            0.002 "worker restarts in 100ms, no. 1"
            0.002 remove worker#1
            "#,
        );
        world.run();
        world.tells(
            r#"
            0.102 spawn web#2
            0.102 spawn worker#2
            0.104 "web#2 started"
            0.104 "worker#2 started"
            "#,
        );
    }

    #[test]
    fn ctrl_c_while_waiting_for_a_restart_ends_at_once() {
        let mut world = World::up("web:restart=always");
        world.exits("web", Exit::Code(1));
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 "web restarts in 100ms, no. 1"
            0.002 remove web#1
            "#,
        );
        world.signal(INT);
        world.tells(
            r#"
            0.002 "INT received"
            0.002 exit by INT
            "#,
        );
    }

    #[test]
    fn the_next_life_waits_for_the_leftovers_of_the_last() {
        let mut world = World::up("web:restart=always,forks=1,forked-stubborn,delay-ms=200");
        world.exits("web", Exit::Code(1));
        world.run();
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 "web restarts in 200ms, no. 1"
            0.002 "web#1 left 1 behind, sent TERM"
            0.002 stop web#1 TERM
            5.002 "web#1 killed after 5s"
            5.002 kill web#1
            5.003 remove web#1
            5.203 spawn web#2
            5.205 "web#2 started"
            "#,
        );
    }

    #[test]
    fn the_stack_is_torn_down_between_exit_and_restart() {
        let mut world = World::up("web:restart=always,forks=1,forked-die-in-ms=500 worker");
        world.exits("web", Exit::Code(1));
        world.exits("worker", Exit::Code(2));
        world.run();
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 "web restarts in 100ms, no. 1"
            0.002 "web#1 left 1 behind, sent TERM"
            0.002 stop web#1 TERM
            0.002 "worker#1 exited 2: ExitCode"
            0.002 remove worker#1
            0.002 "TERM to all"
            0.502 remove web#1
            0.502 exit 2
            "#,
        );
    }
}

mod requests {
    use super::*;

    #[test]
    fn a_stopped_stack_lives_on() {
        let mut world = World::up("web worker");
        let stop = world.stop("web worker");
        assert_eq!(world.reply(stop), None);
        world.run();
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 stop web#1 TERM
            0.002 "worker: stop on request"
            0.002 stop worker#1 TERM
            0.012 "web#1 died by TERM: Success"
            0.012 remove web#1
            0.012 "worker#1 died by TERM: Success"
            0.012 remove worker#1
            0.012 reply to 1: done
            "#,
        );
        assert!(!world.core.is_tearing_down());
        assert_eq!(world.state("web"), State::Down { failed: false });
        let start = world.start("web");
        world.run();
        world.tells(
            r#"
            0.012 spawn web#2
            0.014 "web#2 started"
            0.014 reply to 2: done
            "#,
        );
        assert_eq!(world.reply(start), Some(Reply::Done));
    }

    #[test]
    fn a_stop_is_done_when_the_leaf_is_empty() {
        let mut world = World::up("web:forks=1,forked-stubborn,timeout-ms=1000");
        let stop = world.stop("web");
        world.pass(ms(900));
        assert_eq!(world.reply(stop), None);
        world.run();
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 stop web#1 TERM
            0.012 "web#1 died by TERM: Success"
            1.002 "web#1 killed after 1s"
            1.002 kill web#1
            1.003 remove web#1
            1.003 reply to 1: done
            "#,
        );
    }

    #[test]
    fn what_is_as_asked_is_answered_at_once() {
        let mut world = World::up("web worker:can-die");
        world.exits("worker", Exit::Code(0));
        world.tells(
            r#"
            0.002 "worker#1 exited 0: Success"
            0.002 remove worker#1
            "#,
        );
        world.stop("worker");
        world.start("web");
        world.tells(
            "
            0.002 reply to 1: done
            0.002 reply to 2: done
            ",
        );
    }

    #[test]
    fn nobody_there_is_in_nobodys_way() {
        let mut world = World::up("web");
        let nobody = InstanceId(77);
        for request in [Request::Start(vec![nobody]), Request::Stop(vec![nobody]), Request::Restart(vec![])] {
            let client = world.ask(request);
            assert_eq!(world.reply(client), Some(Reply::Done));
        }
    }

    #[test]
    fn a_restart_is_done_when_the_next_life_runs() {
        let mut world = World::up("web:can-die worker");
        let restart = world.restart("web");
        world.run();
        world.tells(
            r#"
            0.002 "web: restart on request"
            0.002 stop web#1 TERM
            0.012 "web#1 died by TERM: Success"
            0.012 remove web#1
            0.012 spawn web#2
            0.014 "web#2 started"
            0.014 reply to 1: done
            "#,
        );
        assert_eq!(world.reply(restart), Some(Reply::Done));
        assert_eq!(world.core.instances()[0].ledger.restarts, 0);
    }

    #[test]
    fn a_restart_starts_what_is_down() {
        let mut world = World::up("web:can-die worker");
        world.exits("web", Exit::Code(1));
        world.restart("web");
        world.run();
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 remove web#1
            0.002 spawn web#2
            0.004 "web#2 started"
            0.004 reply to 1: done
            "#,
        );
    }

    #[test]
    fn a_restart_of_one_that_is_just_starting_starts_it_anew() {
        let mut world = World::up("web:spawn-ms=100 worker:spawn-uncancellable-ms=100");
        let restart = world.restart("web worker");
        world.run();
        world.tells(
            r#"
            0.002 "web: restart on request"
            0.002 cancel web#1
            0.002 "worker: restart on request"
            0.002 cancel worker#1
            0.002 spawn web#2
            0.100 "worker#1 started"
            0.100 stop worker#1 TERM
            0.102 "web#2 started"
            0.110 "worker#1 died by TERM: Success"
            0.110 remove worker#1
            0.110 spawn worker#2
            0.210 "worker#2 started"
            0.210 reply to 1: done
            "#,
        );
        assert_eq!(world.reply(restart), Some(Reply::Done));
    }

    #[test]
    fn a_start_during_a_slow_stop_waits_for_it_and_supersedes_it() {
        let mut world = World::up("web:dies-in-ms=2000 worker");
        let stop = world.stop("web");
        world.pass(ms(1000));
        let start = world.start("web");
        assert_eq!(world.reply(stop), Some(Reply::Superseded));
        assert_eq!(world.reply(start), None);
        world.run();
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 stop web#1 TERM
            1.002 reply to 1: superseded
            2.002 "web#1 died by TERM: Success"
            2.002 remove web#1
            2.002 spawn web#2
            2.004 "web#2 started"
            2.004 reply to 2: done
            "#,
        );
    }

    #[test]
    fn a_stop_supersedes_a_start() {
        let mut world = World::up("web:can-die,spawn-ms=1000 worker");
        let start = world.start("web");
        let stop = world.stop("web");
        world.run();
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 cancel web#1
            0.002 reply to 1: superseded
            0.002 reply to 2: done
            "#,
        );
        assert_eq!(world.reply(start), Some(Reply::Superseded));
        assert_eq!(world.reply(stop), Some(Reply::Done));
    }

    #[test]
    fn a_stop_supersedes_a_restart() {
        let mut world = World::up("web:traps=1 worker");
        let restart = world.restart("web");
        let stop = world.stop("web");
        world.run();
        assert_eq!(world.reply(restart), Some(Reply::Superseded));
        assert_eq!(world.reply(stop), Some(Reply::Done));
        assert_eq!(world.core.instances()[0].invocations, 1);
    }

    #[test]
    fn a_start_that_was_refused_for_a_passing_reason_is_tried_again_as_the_policy_says() {
        let mut world = World::up("web:restart=on-failure,delay-ms=100,delay-max-ms=100 worker");
        let healthy = world.programs[0].spawn;
        world.programs[0].spawn = Spawn::Fails(FailureKind::Passing, ms(1));
        world.exits("web", Exit::Code(1));
        world.pass(ms(150));
        assert!(matches!(world.core.instances()[0].state, State::Waiting(Wait::Restart { .. })));
        assert_eq!(world.core.instances()[0].outcome, Some(Outcome::Resources));
        assert_eq!(world.core.instances()[0].ledger.restarts, 2);
        assert!(!world.core.is_tearing_down());
        world.programs[0].spawn = healthy;
        world.pass(ms(200));
        assert!(matches!(
            world.core.instances()[0].state,
            State::Up(Living { progress: Progress::Running, .. })
        ));
        assert_eq!(world.core.instances()[0].outcome, None);
        assert_eq!(
            world.core.instances()[0].ledger.last_restart.map(|last| last.why),
            Some(crate::supervisor::RestartReason::NotStarted)
        );
    }

    #[test]
    fn a_start_that_was_refused_for_a_passing_reason_ends_the_stack_without_a_restart() {
        let mut world = World::new("web:passing worker");
        world.tell(Event::Begin);
        world.run();
        assert!(world.story().contains("exit 126"), "{}", world.story());
    }

    #[test]
    fn starts_that_are_refused_again_and_again_reach_the_start_limit() {
        let mut world = World::new("web:passing,restart=always,burst=3,interval-ms=60000 worker");
        world.tell(Event::Begin);
        world.run();
        assert_eq!(world.core.instances()[0].invocations, 3);
        assert_eq!(world.core.instances()[0].outcome, Some(Outcome::StartLimitHit));
        assert!(world.story().contains("exit 126"), "{}", world.story());
    }

    #[test]
    fn a_restart_that_does_not_come_up_has_failed_and_ends_the_stack() {
        let mut world = World::up("web worker");
        world.programs[0].spawn = Spawn::Fails(crate::supervisor::FailureKind::NotFound, ms(1));
        let restart = world.restart("web");
        world.run();
        world.tells(
            r#"
            0.002 "web: restart on request"
            0.002 stop web#1 TERM
            0.012 "web#1 died by TERM: Success"
            0.012 remove web#1
            0.012 spawn web#2
            0.013 "web#2 cannot start: NotFound"
            0.013 "TERM to all"
            0.013 stop worker#1 TERM
            0.013 reply to 1: web failed
            0.023 "worker#1 died by TERM: Success"
            0.023 remove worker#1
            0.023 exit 127
            "#,
        );
        assert_eq!(world.reply(restart), Some(Reply::Failed(InstanceId(0))));
    }

    #[test]
    fn a_restart_of_what_cannot_be_killed_has_failed() {
        let mut world = World::up("web:stuck worker");
        let restart = world.restart("worker web");
        world.run();
        assert_eq!(world.reply(restart), Some(Reply::Failed(InstanceId(0))));
        assert_eq!(world.life("worker").invocation, 2);
    }

    #[test]
    fn a_stop_of_one_that_waits_for_its_restart() {
        let mut world = World::up("web:restart=always worker");
        world.exits("web", Exit::Code(1));
        let stop = world.stop("web");
        assert_eq!(world.reply(stop), Some(Reply::Done));
        world.run();
        assert_eq!(world.core.instances()[0].invocations, 1);
        assert!(!world.core.is_tearing_down());
    }

    #[test]
    fn a_stop_of_one_whose_leftovers_are_asked_takes_its_restart_away() {
        let mut world = World::up("web:restart=always,forks=1 worker");
        world.exits("web", Exit::Code(1));
        let stop = world.stop("web");
        world.run();
        assert_eq!(world.reply(stop), Some(Reply::Done));
        assert_eq!(world.core.instances()[0].invocations, 1);
    }

    #[test]
    fn a_start_does_not_wait_for_the_delay() {
        let mut world = World::up("web:restart=always,delay-ms=5000 worker");
        world.exits("web", Exit::Code(1));
        let start = world.start("web");
        world.pass(ms(10));
        assert_eq!(world.reply(start), Some(Reply::Done));
    }

    #[test]
    fn a_start_by_request_is_a_new_beginning_for_delays_and_limit() {
        let mut world = World::up("web:restart=always,can-die,burst=2 worker");
        world.exits("web", Exit::Code(1));
        world.run();
        world.exits("web", Exit::Code(1));
        assert_eq!(world.core.instances()[0].outcome, Some(Outcome::StartLimitHit));
        world.start("web");
        world.run();
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 "web restarts in 100ms, no. 1"
            0.002 remove web#1
            0.102 spawn web#2
            0.104 "web#2 started"
            0.104 "web#2 exited 1: ExitCode"
            0.104 "web hit the start limit"
            0.104 remove web#2
            0.104 spawn web#3
            0.106 "web#3 started"
            0.106 reply to 1: done
            "#,
        );
        world.exits("web", Exit::Code(1));
        world.tells(
            r#"
            0.106 "web#3 exited 1: ExitCode"
            0.106 "web restarts in 100ms, no. 2"
            0.106 remove web#3
            "#,
        );
    }

    #[test]
    fn one_that_was_stopped_keeps_the_stack_when_the_last_other_dies() {
        let mut world = World::up("web worker:can-die");
        world.stop("web");
        world.run();
        world.exits("worker", Exit::Code(1));
        assert!(!world.core.is_tearing_down());
    }

    #[test]
    fn one_that_was_started_again_counts_again() {
        let mut world = World::up("web:can-die");
        world.stop("web");
        world.run();
        world.start("web");
        world.run();
        world.exits("web", Exit::Code(6));
        assert_eq!(world.ending, Some(Ending::Code(6)));
    }

    #[test]
    fn a_shut_down_is_answered_last_of_all() {
        let mut world = World::up("web worker:can-die");
        let first = world.ask(Request::ShutDown);
        let second = world.ask(Request::ShutDown);
        world.run();
        world.tells(
            r#"
            0.002 "shutdown requested"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.002 stop worker#1 TERM
            0.012 "web#1 died by TERM: Success"
            0.012 remove web#1
            0.012 "worker#1 died by TERM: Success"
            0.012 remove worker#1
            0.012 reply to 1: done
            0.012 reply to 2: done
            0.012 exit 0
            "#,
        );
        assert_eq!(world.reply(first), Some(Reply::Done));
        assert_eq!(world.reply(second), Some(Reply::Done));
    }

    #[test]
    fn during_the_tear_down_nothing_starts_and_everything_stops() {
        let mut world = World::up("web:dies-in-ms=100 worker slow:spawn-uncancellable-ms=50");
        let waiting = world.start("slow");
        let stopping = world.stop("worker");
        world.signal(INT);
        let start = world.start("web");
        let restart = world.restart("worker");
        let stop = world.stop("worker");
        world.run();
        world.tells(
            r#"
            0.002 "worker: stop on request"
            0.002 stop worker#1 TERM
            0.002 "INT received"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.002 cancel slow#1
            0.002 reply to 1: shutting down
            0.002 reply to 3: shutting down
            0.002 reply to 4: shutting down
            0.012 "worker#1 died by TERM: Success"
            0.012 remove worker#1
            0.012 reply to 2: done
            0.012 reply to 5: done
            0.050 "slow#1 started"
            0.050 stop slow#1 TERM
            0.060 "slow#1 died by TERM: Success"
            0.060 remove slow#1
            0.102 "web#1 died by TERM: Success"
            0.102 remove web#1
            0.102 exit by INT
            "#,
        );
        for refused in [waiting, start, restart] {
            assert_eq!(world.reply(refused), Some(Reply::ShuttingDown));
        }
        for done in [stopping, stop] {
            assert_eq!(world.reply(done), Some(Reply::Done));
        }
    }

    #[test]
    fn a_restart_under_way_gives_way_to_the_tear_down() {
        let mut world = World::up("web:dies-in-ms=100 worker");
        let restart = world.restart("web");
        world.exits("worker", Exit::Code(5));
        assert_eq!(world.reply(restart), Some(Reply::ShuttingDown));
        world.run();
        assert_eq!(world.ending, Some(Ending::Code(5)));
        assert_eq!(world.core.instances()[0].invocations, 1);
    }

    #[test]
    fn sigquit_answers_who_waits_for_a_start() {
        let mut world = World::up("web:spawn-hangs");
        let start = world.start("web");
        world.signal(QUIT);
        assert_eq!(world.reply(start), Some(Reply::ShuttingDown));
        world.run();
        assert_eq!(world.ending, Some(Ending::Code(131)));
    }

    #[test]
    fn who_left_is_not_answered() {
        let mut world = World::up("web worker");
        let stop = world.stop("web");
        let other = world.stop("web");
        world.tell(Event::ClientLeft(stop));
        world.run();
        assert_eq!(world.reply(stop), None);
        assert_eq!(world.reply(other), Some(Reply::Done));
        assert_eq!(world.state("web"), State::Down { failed: false });
    }

    #[test]
    fn a_client_may_come_before_the_beginning() {
        let mut world = World::new("web worker clock");
        let start = world.start("worker");
        let stop = world.stop("clock");
        world.tell(Event::Begin);
        world.run();
        world.tells(
            r#"
            0.000 spawn worker#1
            0.000 reply to 2: done
            0.000 spawn web#1
            0.002 "worker#1 started"
            0.002 reply to 1: done
            0.002 "web#1 started"
            "#,
        );
        assert_eq!(world.reply(start), Some(Reply::Done));
        assert_eq!(world.reply(stop), Some(Reply::Done));
    }

    #[test]
    fn a_signal_may_come_before_the_beginning() {
        let mut world = World::new("web");
        world.signal(TERM);
        world.tells(
            r#"
            0.000 "TERM received"
            0.000 exit by TERM
            "#,
        );
    }

    #[test]
    fn the_same_name_twice_is_the_same_request() {
        let mut world = World::up("web:can-die worker");
        world.stop("web web");
        world.run();
        world.restart("web web");
        world.run();
        assert_eq!(world.replies.values().flatten().collect::<Vec<_>>(), [&Reply::Done, &Reply::Done]);
    }
}

mod freezing {
    use super::*;

    #[test]
    fn ctrl_z_and_back() {
        let mut world = World::up("web");
        world.signal(TSTP);
        world.signal(TSTP);
        world.pass(Duration::from_secs(3600));
        world.signal(GO_ON);
        world.signal(GO_ON);
        world.tells(
            r#"
            0.002 "suspended"
            0.002 suspend
            3600.002 resume
            3600.002 "resumed"
            "#,
        );
    }

    #[test]
    fn a_grace_does_not_run_while_frozen() {
        let mut world = World::up("web:stubborn");
        world.stop("web");
        world.pass(ms(1000));
        world.signal(TSTP);
        world.pass(Duration::from_secs(3600));
        world.signal(GO_ON);
        world.run();
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 stop web#1 TERM
            1.002 "suspended"
            1.002 suspend
            3601.002 resume
            3601.002 "resumed"
            3605.002 "web#1 killed after 5s"
            3605.002 kill web#1
            3605.003 "web#1 died by KILL: Timeout"
            3605.003 remove web#1
            3605.003 reply to 1: done
            "#,
        );
    }

    #[test]
    fn a_restart_does_not_come_while_frozen() {
        let mut world = World::up("web:restart=always,delay-ms=1000");
        world.exits("web", Exit::Code(1));
        world.pass(ms(400));
        world.signal(TSTP);
        world.pass(Duration::from_secs(60));
        world.tell(Event::TimePassed);
        world.signal(GO_ON);
        world.run();
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 "web restarts in 1s, no. 1"
            0.002 remove web#1
            0.402 "suspended"
            0.402 suspend
            60.402 resume
            60.402 "resumed"
            61.002 spawn web#2
            61.004 "web#2 started"
            "#,
        );
    }

    /// The kernel kills at a memory ceiling whether the leaf is frozen or not.
    #[test]
    fn what_begins_to_wait_while_frozen_waits_no_longer_than_its_time() {
        let mut world = World::up("web:restart=always,delay-ms=1000");
        world.signal(TSTP);
        world.pass(Duration::from_secs(60));
        world.out_of_memory("web");
        world.pass(ms(500));
        world.signal(GO_ON);
        world.run();
        world.tells(
            r#"
            0.002 "suspended"
            0.002 suspend
            60.002 "web#1 died by KILL: OomKill"
            60.002 "web restarts in 1s, no. 1"
            60.002 remove web#1
            60.502 resume
            60.502 "resumed"
            61.502 spawn web#2
            61.504 "web#2 started"
            "#,
        );
    }

    #[test]
    fn ctrl_c_while_frozen_thaws_first() {
        let mut world = World::up("web");
        world.signal(TSTP);
        world.pass(Duration::from_secs(1));
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 "suspended"
            0.002 suspend
            1.002 "INT received"
            1.002 resume
            1.002 "resumed"
            1.002 "TERM to all"
            1.002 stop web#1 TERM
            1.012 "web#1 died by TERM: Success"
            1.012 remove web#1
            1.012 exit by INT
            "#,
        );
    }

    #[test]
    fn ctrl_z_does_not_hold_a_tear_down_up() {
        let mut world = World::up("web:stubborn");
        world.signal(INT);
        world.signal(TSTP);
        world.run();
        world.tells(
            r#"
            0.002 "INT received"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            5.002 "web#1 killed after 5s"
            5.002 kill web#1
            5.003 "web#1 died by KILL: Timeout"
            5.003 remove web#1
            5.003 exit by INT
            "#,
        );
    }
}

mod resources {
    use super::*;

    #[test]
    fn a_refused_fork_is_said_once_a_life() {
        let mut world = World::up("web:restart=always,delay-ms=0");
        for refused in [1, 2, 5000] {
            world.felt("web", |usage| usage.tasks_refused = refused);
        }
        world.tells(r#"0.002 "web#1 refused a fork""#);
        world.exits("web", Exit::Code(1));
        world.run();
        world.felt("web", |usage| usage.tasks_refused = 1);
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 "web restarts in 0ns, no. 1"
            0.002 remove web#1
            0.002 spawn web#2
            0.004 "web#2 started"
            0.004 "web#2 refused a fork"
            "#,
        );
    }

    #[test]
    fn oom_kills_of_children_are_counted_since_the_last_word() {
        let mut world = World::up("web");
        world.felt("web", |usage| usage.oom_kills = 1);
        world.felt("web", |usage| usage.oom_kills = 4);
        world.felt("web", |usage| usage.cpu_usec = 9);
        world.tells(
            r#"
            0.002 "web#1 OOM kills: 1"
            0.002 "web#1 OOM kills: 3"
            "#,
        );
    }

    #[test]
    fn use_adds_up_over_lives_and_a_peak_is_the_largest() {
        let mut world = World::up("web:restart=always,delay-ms=0");
        for peak in [700, 300] {
            world.felt("web", |usage| {
                usage.memory_peak = Some(peak);
                usage.cpu_usec = 50;
                usage.oom_kills = 1;
            });
            world.exits("web", Exit::Code(1));
            world.pass(ms(10));
        }
        let usage = world.core.instances()[0].ledger.usage;
        assert_eq!((usage.memory_peak, usage.cpu_usec, usage.oom_kills), (Some(700), 2100, 2));
    }

    #[test]
    fn a_clean_exit_is_a_success_whatever_the_ceiling_did_before() {
        let mut world = World::up("web:can-die worker");
        world.felt("web", |usage| usage.oom_kills = 1);
        world.exits("web", Exit::Code(0));
        assert_eq!(world.core.instances()[0].outcome, Some(Outcome::Success));
    }
}

mod freezing_one {
    use super::*;
    use crate::supervisor::{Action, Freezer};

    fn freezer(world: &World, name: &str) -> Freezer {
        match world.state(name) {
            State::Up(Living { progress: Progress::Running, freezer, .. }) => freezer,
            other => panic!("{name} does not run: {other:?}"),
        }
    }

    #[test]
    fn a_freeze_is_done_when_everything_stands_still_and_a_thaw_when_it_is_ordered() {
        let mut world = World::up("web worker");
        let freeze = world.freeze("web");
        assert_eq!((world.reply(freeze), freezer(&world, "web")), (None, Freezer::Freezing));
        world.run();
        assert_eq!(freezer(&world, "web"), Freezer::Frozen);
        let thaw = world.thaw("web");
        assert_eq!(world.reply(thaw), Some(Reply::Done));
        world.run();
        world.tells(
            r#"
            0.002 freeze web#1
            0.003 "web: freeze on request"
            0.003 reply to 1: done
            0.003 thaw web#1
            0.003 "web: thaw on request"
            0.003 reply to 2: done
            "#,
        );
        assert_eq!(freezer(&world, "web"), Freezer::Thawed);
    }

    #[test]
    fn what_is_as_asked_already_is_neither_done_nor_said_again() {
        let mut world = World::up("web worker");
        let first = world.freeze("web");
        let second = world.freeze("web web");
        assert_eq!(world.reply(second), None);
        world.run();
        let third = world.freeze("web");
        let thaw = world.thaw("worker");
        world.tells(
            r#"
            0.002 freeze web#1
            0.003 "web: freeze on request"
            0.003 reply to 1: done
            0.003 reply to 2: done
            0.003 reply to 3: done
            0.003 reply to 4: done
            "#,
        );
        for client in [first, second, third, thaw] {
            assert_eq!(world.reply(client), Some(Reply::Done));
        }
    }

    /// A process with a handler for SIGTERM runs it when it is thawed, and its grace would be over by then.
    #[test]
    fn a_stop_of_one_that_is_frozen_thaws_it_first() {
        let mut world = World::up("web:traps=0 worker");
        world.freeze("web");
        world.pass(ms(100));
        let stop = world.stop("web");
        world.run();
        world.tells(
            r#"
            0.002 freeze web#1
            0.003 "web: freeze on request"
            0.003 reply to 1: done
            0.102 "web: stop on request"
            0.102 thaw web#1
            0.102 stop web#1 TERM
            0.112 "web#1 exited 0: Success"
            0.112 remove web#1
            0.112 reply to 2: done
            "#,
        );
        assert_eq!(world.reply(stop), Some(Reply::Done));
    }

    #[test]
    fn a_stop_while_it_is_freezing_thaws_too_and_supersedes_the_freeze() {
        let mut world = World::up("web worker");
        let life = world.life("web");
        let freeze = world.freeze("web");
        world.stop("web");
        assert_eq!(world.reply(freeze), Some(Reply::Superseded));
        // What was seen just before the thaw is told after it.
        world.tell(Event::Frozen { life });
        world.run();
        world.tells(
            r#"
            0.002 freeze web#1
            0.002 "web: stop on request"
            0.002 thaw web#1
            0.002 stop web#1 TERM
            0.002 reply to 1: superseded
            0.012 "web#1 died by TERM: Success"
            0.012 remove web#1
            0.012 reply to 2: done
            "#,
        );
    }

    #[test]
    fn a_thaw_while_it_is_freezing_supersedes_the_freeze() {
        let mut world = World::up("web:stuck");
        let freeze = world.freeze("web");
        world.pass(Duration::from_secs(60));
        assert_eq!(world.reply(freeze), None, "who is in the kernel does not stand still");
        world.thaw("web");
        assert_eq!(world.reply(freeze), Some(Reply::Superseded));
        let life = world.life("web");
        world.tell(Event::Frozen { life });
        assert_eq!(freezer(&world, "web"), Freezer::Thawed);
    }

    #[test]
    fn that_an_old_life_stands_still_is_no_news_of_the_next() {
        let mut world = World::up("web:restart=always,delay-ms=0");
        let old = world.life("web");
        let freeze = world.freeze("web");
        world.exits("web", Exit::Signal { signal: Signal(9), core: false });
        assert_eq!(world.reply(freeze), Some(Reply::Superseded));
        world.pass(ms(10));
        let again = world.freeze("web");
        world.tell(Event::Frozen { life: old });
        assert_eq!((world.reply(again), freezer(&world, "web")), (None, Freezer::Freezing));
        world.run();
        assert_eq!(world.reply(again), Some(Reply::Done));
    }

    #[test]
    fn one_that_is_killed_from_outside_while_frozen_is_an_exit_like_any_other() {
        let mut world = World::up("web:restart=always worker");
        world.freeze("web");
        world.pass(ms(10));
        world.exits("web", Exit::Signal { signal: Signal(9), core: false });
        world.run();
        world.tells(
            r#"
            0.002 freeze web#1
            0.003 "web: freeze on request"
            0.003 reply to 1: done
            0.012 "web#1 died by KILL: Signal"
            0.012 "web restarts in 100ms, no. 1"
            0.012 remove web#1
            0.112 spawn web#2
            0.114 "web#2 started"
            "#,
        );
        assert_eq!(freezer(&world, "web"), Freezer::Thawed, "a new leaf for a new life");
    }

    #[test]
    fn what_a_frozen_one_leaves_behind_is_thawed_before_it_is_asked() {
        let mut world = World::up("web:can-die,forks=2 worker");
        world.freeze("web");
        world.pass(ms(10));
        world.exits("web", Exit::Signal { signal: Signal(9), core: false });
        world.run();
        world.tells(
            r#"
            0.002 freeze web#1
            0.003 "web: freeze on request"
            0.003 reply to 1: done
            0.012 "web#1 died by KILL: Signal"
            0.012 "web#1 left 2 behind, sent TERM"
            0.012 thaw web#1
            0.012 stop web#1 TERM
            0.022 remove web#1
            "#,
        );
    }

    #[test]
    fn the_tear_down_thaws_whom_it_asks() {
        let mut world = World::up("web worker:mixed");
        world.freeze("worker");
        world.pass(ms(10));
        world.signal(INT);
        world.run();
        world.tells(
            r#"
            0.002 freeze worker#1
            0.003 "worker: freeze on request"
            0.003 reply to 1: done
            0.012 "INT received"
            0.012 "TERM to all"
            0.012 stop web#1 TERM
            0.012 thaw worker#1
            0.012 stop worker#1 TERM to main
            0.022 "web#1 died by TERM: Success"
            0.022 remove web#1
            0.022 "worker#1 died by TERM: Success"
            0.022 remove worker#1
            0.022 exit by INT
            "#,
        );
    }

    #[test]
    fn sigquit_kills_the_frozen_as_they_are() {
        let mut world = World::up("web:forks=1");
        world.freeze("web");
        world.pass(ms(10));
        world.signal(QUIT);
        world.run();
        world.tells(
            r#"
            0.002 freeze web#1
            0.003 "web: freeze on request"
            0.003 reply to 1: done
            0.012 "QUIT received"
            0.012 "killing all"
            0.012 kill web#1
            0.013 "web#1 died by KILL: Signal"
            0.013 remove web#1
            0.013 exit 131
            "#,
        );
    }

    #[test]
    fn a_start_finds_a_frozen_one_up_and_leaves_it_frozen() {
        let mut world = World::up("web");
        world.freeze("web");
        world.run();
        let start = world.start("web");
        assert_eq!(world.reply(start), Some(Reply::Done));
        assert_eq!(freezer(&world, "web"), Freezer::Frozen);
    }

    #[test]
    fn a_restart_of_a_frozen_one() {
        let mut world = World::up("web worker");
        world.freeze("web");
        world.pass(ms(10));
        world.restart("web");
        world.run();
        world.tells(
            r#"
            0.002 freeze web#1
            0.003 "web: freeze on request"
            0.003 reply to 1: done
            0.012 "web: restart on request"
            0.012 thaw web#1
            0.012 stop web#1 TERM
            0.022 "web#1 died by TERM: Success"
            0.022 remove web#1
            0.022 spawn web#2
            0.024 "web#2 started"
            0.024 reply to 2: done
            "#,
        );
    }

    #[test]
    fn what_does_not_run_cannot_be_frozen_and_the_others_are() {
        let mut world = World::up("down web slow:spawn-ms=100 worker");
        world.stop("down");
        world.pass(ms(20));
        let freeze = world.freeze("down web slow worker");
        assert_eq!(world.reply(freeze), Some(Reply::NotRunning(InstanceId(0))));
        world.pass(ms(10));
        assert_eq!(freezer(&world, "web"), Freezer::Frozen);
        assert_eq!(freezer(&world, "worker"), Freezer::Frozen);
        let thaw = world.thaw("down slow");
        assert_eq!(world.reply(thaw), Some(Reply::Done));
        world.run();
        assert_eq!(freezer(&world, "slow"), Freezer::Thawed);
    }

    #[test]
    fn ctrl_z_and_a_frozen_one_know_nothing_of_each_other() {
        let mut world = World::up("web worker");
        world.freeze("web");
        world.pass(ms(10));
        world.signal(TSTP);
        world.signal(GO_ON);
        assert_eq!(freezer(&world, "web"), Freezer::Frozen);
        world.signal(TSTP);
        world.thaw("web");
        world.freeze("worker");
        world.signal(GO_ON);
        world.run();
        world.tells(
            r#"
            0.002 freeze web#1
            0.003 "web: freeze on request"
            0.003 reply to 1: done
            0.012 "suspended"
            0.012 suspend
            0.012 resume
            0.012 "resumed"
            0.012 "suspended"
            0.012 suspend
            0.012 thaw web#1
            0.012 "web: thaw on request"
            0.012 reply to 2: done
            0.012 freeze worker#1
            0.012 resume
            0.012 "resumed"
            0.013 "worker: freeze on request"
            0.013 reply to 3: done
            "#,
        );
    }

    #[test]
    fn nothing_is_frozen_once_the_end_was_decided() {
        let mut world = World::up("web:dies-in-ms=100");
        let before = world.freeze("web");
        world.signal(INT);
        assert_eq!(world.reply(before), Some(Reply::ShuttingDown));
        let freeze = world.freeze("web");
        let thaw = world.thaw("web");
        assert_eq!(world.reply(freeze), Some(Reply::ShuttingDown));
        assert_eq!(world.reply(thaw), Some(Reply::Done));
        let orders = world.history.iter().flat_map(|(_, _, actions)| actions);
        assert_eq!(orders.filter(|action| matches!(action, Action::Freeze(_))).count(), 1);
        world.run();
        assert_eq!(world.ending, Some(Ending::Signal(Signal(INT))));
    }
}

mod killing {
    use super::*;

    #[test]
    fn a_kill_asks_nobody_ends_nothing_and_is_done_when_the_leaf_is_empty() {
        let mut world = World::up("web:restart=always,forks=1");
        let kill = world.kill("web");
        assert_eq!(world.reply(kill), None);
        world.run();
        world.tells(
            r#"
            0.002 "web: kill on request"
            0.002 kill web#1
            0.003 "web#1 died by KILL: Signal"
            0.003 remove web#1
            0.003 reply to 1: done
            "#,
        );
        // Why it ended is said as it was; that it did is no failure.
        assert_eq!(world.core.instances()[0].outcome, Some(Outcome::Signal));
        assert_eq!(world.state("web"), State::Down { failed: false });
        assert!(!world.core.is_tearing_down());
        world.start("web");
        world.run();
        assert_eq!(world.life("web").invocation, 2);
    }

    #[test]
    fn a_kill_during_a_stop_does_not_wait_for_the_grace() {
        let mut world = World::up("web:stubborn worker");
        let stop = world.stop("web");
        world.pass(ms(100));
        let kill = world.kill("web");
        let twice = world.kill("web");
        world.run();
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 stop web#1 TERM
            0.102 "web: kill on request"
            0.102 kill web#1
            0.103 "web#1 died by KILL: Signal"
            0.103 remove web#1
            0.103 reply to 1: done
            0.103 reply to 2: done
            0.103 reply to 3: done
            "#,
        );
        for client in [stop, kill, twice] {
            assert_eq!(world.reply(client), Some(Reply::Done));
        }
    }

    #[test]
    fn a_kill_during_a_restart_takes_the_next_life_away() {
        let mut world = World::up("web:stubborn worker");
        let restart = world.restart("web");
        let kill = world.kill("web");
        assert_eq!(world.reply(restart), Some(Reply::Superseded));
        world.run();
        assert_eq!(world.reply(kill), Some(Reply::Done));
        assert_eq!(world.state("web"), State::Down { failed: false });
        assert_eq!(world.core.instances()[0].invocations, 1);
        assert_eq!(world.core.instances()[0].ledger.last_restart, None);
    }

    #[test]
    fn a_kill_during_a_birth() {
        let mut world = World::up("web:spawn-ms=100 worker:spawn-uncancellable-ms=100 clock:spawn-hangs");
        let kill = world.kill("web worker clock");
        world.run();
        world.tells(
            r#"
            0.002 "web: kill on request"
            0.002 cancel web#1
            0.002 kill web#1
            0.002 "worker: kill on request"
            0.002 cancel worker#1
            0.002 kill worker#1
            0.002 "clock: kill on request"
            0.002 cancel clock#1
            0.002 kill clock#1
            0.003 "clock#1 cannot start: NotExecutable"
            0.100 "worker#1 started"
            0.100 kill worker#1
            0.101 "worker#1 died by KILL: Signal"
            0.101 remove worker#1
            0.101 reply to 1: done
            "#,
        );
        assert_eq!(world.reply(kill), Some(Reply::Done));
        assert!(!world.core.is_tearing_down());
    }

    #[test]
    fn a_kill_of_one_that_waits_for_its_restart() {
        let mut world = World::up("web:restart=always");
        world.exits("web", Exit::Code(1));
        let kill = world.kill("web");
        world.run();
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 "web restarts in 100ms, no. 1"
            0.002 remove web#1
            0.002 "web: stop on request"
            0.002 reply to 1: done
            "#,
        );
        assert_eq!(world.reply(kill), Some(Reply::Done));
        assert_eq!(
            world.state("web"),
            State::Down { failed: true },
            "what went wrong before the kill went wrong"
        );
        assert!(!world.core.is_tearing_down());
    }

    #[test]
    fn a_kill_of_a_frozen_one_needs_no_thaw() {
        let mut world = World::up("web:forks=1");
        world.freeze("web");
        world.pass(ms(10));
        world.kill("web");
        world.run();
        world.tells(
            r#"
            0.002 freeze web#1
            0.003 "web: freeze on request"
            0.003 reply to 1: done
            0.012 "web: kill on request"
            0.012 kill web#1
            0.013 "web#1 died by KILL: Signal"
            0.013 remove web#1
            0.013 reply to 2: done
            "#,
        );
    }

    #[test]
    fn a_start_during_a_kill_waits_for_it() {
        let mut world = World::up("web worker");
        let kill = world.kill("web");
        let start = world.start("web");
        world.run();
        assert_eq!(world.reply(kill), Some(Reply::Superseded));
        assert_eq!(world.reply(start), Some(Reply::Done));
        assert_eq!(world.life("web").invocation, 2);
    }

    #[test]
    fn a_kill_that_does_not_help_has_failed() {
        let mut world = World::up("web:stuck worker");
        let kill = world.kill("web");
        world.run();
        assert_eq!((world.now, world.reply(kill)), (ms(5002), Some(Reply::Failed(InstanceId(0)))));
        assert!(!world.core.is_tearing_down());
        let again = world.kill("web");
        assert_eq!(world.reply(again), Some(Reply::Failed(InstanceId(0))));
    }

    #[test]
    fn a_kill_during_the_tear_down_helps_it() {
        let mut world = World::up("web:stubborn worker:stubborn,timeout-ms=100");
        world.signal(TERM);
        world.pass(ms(10));
        let kill = world.kill("web");
        world.run();
        assert_eq!(world.reply(kill), Some(Reply::Done));
        assert_eq!((world.now, world.ending), (ms(103), Some(Ending::Signal(Signal(TERM)))));
    }

    #[test]
    fn an_end_of_its_own_just_before_the_kill_is_its_own() {
        let mut world = World::up("web worker");
        world.kill("web");
        world.exits("web", Exit::Code(3));
        world.run();
        assert_eq!(world.core.instances()[0].outcome, Some(Outcome::ExitCode));
        assert_eq!(world.state("web"), State::Down { failed: true });
        assert!(!world.core.is_tearing_down(), "it was to be down");
    }
}

mod signals_by_request {
    use super::*;
    use crate::supervisor::Recipients;

    #[test]
    fn a_signal_is_sent_to_whom_it_is_for_and_that_is_all() {
        let mut world = World::up("web:forks=2 worker");
        world.send("web web", USR1, Recipients::All);
        world.send("worker", USR1, Recipients::Main);
        world.run();
        world.tells(
            r#"
            0.002 "web: USR1 on request"
            0.002 signal web#1 USR1
            0.002 reply to 1: done
            0.002 "worker: USR1 on request"
            0.002 signal worker#1 USR1 to main
            0.002 reply to 2: done
            "#,
        );
    }

    #[test]
    fn what_comes_of_it_is_policys() {
        let mut world = World::up("web:restart=always worker");
        world.send("web", 9, Recipients::Main);
        world.run();
        world.tells(
            r#"
            0.002 "web: KILL on request"
            0.002 signal web#1 KILL to main
            0.002 reply to 1: done
            0.003 "web#1 died by KILL: Signal"
            0.003 "web restarts in 100ms, no. 1"
            0.003 remove web#1
            0.103 spawn web#2
            0.105 "web#2 started"
            "#,
        );
        world.send("worker", TERM, Recipients::All);
        world.run();
        assert_eq!(world.ending, Some(Ending::Code(143)), "as if anybody had sent it");
    }

    #[test]
    fn what_has_no_process_gets_none_and_the_others_do() {
        let mut world = World::up("down slow:spawn-ms=500 web");
        world.stop("down");
        world.pass(ms(20));
        let signal = world.send("web slow down", HUP, Recipients::All);
        assert_eq!(world.reply(signal), Some(Reply::NotRunning(InstanceId(1))));
        world.tells(
            r#"
            0.002 "down: stop on request"
            0.002 stop down#1 TERM
            0.012 "down#1 died by TERM: Success"
            0.012 remove down#1
            0.012 reply to 1: done
            0.022 "web: HUP on request"
            0.022 signal web#1 HUP
            0.022 reply to 2: slow does not run
            "#,
        );
    }

    #[test]
    fn what_was_left_behind_can_be_signalled_and_its_dead_main_process_not() {
        let mut world = World::up("web:can-die,forks=1,forked-stubborn worker");
        world.exits("web", Exit::Code(0));
        let main = world.send("web", USR1, Recipients::Main);
        let all = world.send("web", USR1, Recipients::All);
        assert_eq!(world.reply(main), Some(Reply::NotRunning(InstanceId(0))));
        assert_eq!(world.reply(all), Some(Reply::Done));
    }

    /// The kernel keeps it for the thaw; only a stop is worth one.
    #[test]
    fn a_signal_to_a_frozen_one_does_not_thaw_it() {
        let mut world = World::up("web:can-die worker");
        world.freeze("web");
        world.pass(ms(10));
        world.send("web", HUP, Recipients::Main);
        world.pass(Duration::from_secs(60));
        world.thaw("web");
        world.run();
        world.tells(
            r#"
            0.002 freeze web#1
            0.003 "web: freeze on request"
            0.003 reply to 1: done
            0.012 "web: HUP on request"
            0.012 signal web#1 HUP to main
            0.012 reply to 2: done
            60.012 thaw web#1
            60.012 "web: thaw on request"
            60.012 reply to 3: done
            60.022 "web#1 died by HUP: Signal"
            60.022 remove web#1
            "#,
        );
    }

    #[test]
    fn during_the_tear_down_signals_still_go_through() {
        let mut world = World::up("web:stubborn");
        world.signal(INT);
        let signal = world.send("web", 9, Recipients::Main);
        world.run();
        assert_eq!(world.reply(signal), Some(Reply::Done));
        assert_eq!(world.now, ms(3));
    }
}

mod removing {
    use super::*;

    #[test]
    fn what_is_removed_stops_and_stays_away_until_a_start() {
        let mut world = World::up("web");
        let remove = world.remove("web");
        assert!(world.core.instances()[0].is_removed());
        world.run();
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 stop web#1 TERM
            0.012 "web#1 died by TERM: Success"
            0.012 remove web#1
            0.012 "web removed"
            0.012 reply to 1: done
            "#,
        );
        assert_eq!(world.reply(remove), Some(Reply::Done));
        assert!(!world.core.is_tearing_down(), "a stack of which all is removed lives on");
        let restart = world.restart("web");
        assert_eq!(world.reply(restart), Some(Reply::NotRunning(InstanceId(0))));
        let stop = world.stop("web");
        let kill = world.kill("web");
        assert_eq!([stop, kill].map(|client| world.reply(client)), [Some(Reply::Done), Some(Reply::Done)]);
        assert!(world.core.instances()[0].is_removed(), "a stop does not bring it back");
        world.start("web");
        assert!(!world.core.instances()[0].is_removed());
        world.run();
        world.tells(
            r#"
            0.012 reply to 2: web does not run
            0.012 reply to 3: done
            0.012 reply to 4: done
            0.012 spawn web#2
            0.014 "web#2 started"
            0.014 reply to 5: done
            "#,
        );
    }

    #[test]
    fn what_is_down_is_removed_at_once_and_once() {
        let mut world = World::up("web:can-die worker:restart=always clock");
        world.exits("web", Exit::Code(1));
        world.exits("worker", Exit::Code(1));
        world.remove("web worker");
        world.remove("web");
        world.run();
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 remove web#1
            0.002 "worker#1 exited 1: ExitCode"
            0.002 "worker restarts in 100ms, no. 1"
            0.002 remove worker#1
            0.002 "web removed"
            0.002 "worker: stop on request"
            0.002 "worker removed"
            0.002 reply to 1: done
            0.002 reply to 2: done
            "#,
        );
    }

    #[test]
    fn a_start_during_the_stop_of_one_that_is_removed_brings_it_back() {
        let mut world = World::up("web:dies-in-ms=1000 worker");
        let remove = world.remove("web");
        world.pass(ms(500));
        let start = world.start("web");
        assert_eq!(world.reply(remove), Some(Reply::Superseded));
        assert!(!world.core.instances()[0].is_removed());
        world.run();
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 stop web#1 TERM
            0.502 reply to 1: superseded
            1.002 "web#1 died by TERM: Success"
            1.002 remove web#1
            1.002 spawn web#2
            1.004 "web#2 started"
            1.004 reply to 2: done
            "#,
        );
        assert_eq!(world.reply(start), Some(Reply::Done));
    }

    #[test]
    fn a_removal_during_a_stop_makes_more_of_it() {
        let mut world = World::up("web worker");
        let stop = world.stop("web");
        let remove = world.remove("web");
        world.run();
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 stop web#1 TERM
            0.012 "web#1 died by TERM: Success"
            0.012 remove web#1
            0.012 "web removed"
            0.012 reply to 1: done
            0.012 reply to 2: done
            "#,
        );
        assert_eq!([stop, remove].map(|client| world.reply(client)), [Some(Reply::Done), Some(Reply::Done)]);
    }

    #[test]
    fn a_removal_during_a_birth_and_a_restart_after_it() {
        let mut world = World::up("web:spawn-uncancellable-ms=100 worker");
        world.remove("web");
        let restart = world.restart("web");
        assert_eq!(world.reply(restart), Some(Reply::NotRunning(InstanceId(0))));
        world.run();
        assert_eq!(world.state("web"), State::Down { failed: false });
        assert!(world.core.instances()[0].is_removed());
    }

    #[test]
    fn what_was_removed_before_the_beginning_does_not_begin() {
        let mut world = World::new("web worker");
        world.remove("web");
        world.tell(Event::Begin);
        world.run();
        world.tells(
            r#"
            0.000 "web removed"
            0.000 reply to 1: done
            0.000 spawn worker#1
            0.002 "worker#1 started"
            "#,
        );
    }

    #[test]
    fn one_that_was_removed_does_not_keep_the_stack_when_the_last_other_dies() {
        let mut world = World::up("web:can-die worker:can-die");
        world.remove("web");
        world.run();
        assert!(!world.core.is_tearing_down());
        world.exits("worker", Exit::Code(1));
        assert_eq!(world.ending, Some(Ending::Code(1)));
    }

    #[test]
    fn the_removal_itself_ends_nothing() {
        let mut world = World::up("web:can-die worker");
        world.exits("web", Exit::Code(0));
        world.remove("worker");
        world.run();
        assert!(!world.core.is_tearing_down(), "somebody asked for it to be empty");
        world.start("web");
        world.run();
        world.exits("web", Exit::Code(0));
        assert_eq!(world.ending, Some(Ending::Code(0)));
    }

    #[test]
    fn one_that_dies_while_another_is_being_removed_is_the_last() {
        let mut world = World::up("web:can-die worker:dies-in-ms=1000");
        world.remove("worker");
        world.exits("web", Exit::Code(3));
        assert_eq!(world.ending, None, "worker still ends");
        world.run();
        assert_eq!(world.ending, Some(Ending::Code(3)));
    }
}

mod configuring {
    use super::*;

    #[test]
    fn what_is_new_waits_for_a_start_and_decides_nothing() {
        let mut world = World::up("web:can-die");
        world.configure("worker clock");
        let [_, worker, clock] = world.core.instances() else { panic!("three are known") };
        assert!(worker.is_removed() && clock.is_removed());
        world.run();
        world.tells("");
        world.start("worker");
        world.run();
        world.tells(
            r#"
            0.002 spawn worker#1
            0.004 "worker#1 started"
            0.004 reply to 1: done
            "#,
        );
        world.exits("worker", Exit::Code(4));
        world.run();
        assert_eq!(world.ending, Some(Ending::Code(4)), "once started it belongs to the stack");
    }

    #[test]
    fn the_exit_code_follows_the_rule_that_is_configured_last() {
        let mut world = World::up("web");
        world.rule = ExitCodeRule::Zero;
        world.configure("");
        world.exits("web", Exit::Code(7));
        assert_eq!(world.ending, Some(Ending::Code(0)));
    }

    #[test]
    fn a_new_policy_holds_for_what_runs() {
        let mut world = World::up("web worker");
        world.configure("web:restart=always,delay-ms=0");
        world.exits("web", Exit::Code(1));
        world.run();
        assert_eq!(world.life("web").invocation, 2);
        world.configure("web:stop-signal=3");
        world.stop("web");
        world.run();
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 "web restarts in 0ns, no. 1"
            0.002 remove web#1
            0.002 spawn web#2
            0.004 "web#2 started"
            0.004 "web: stop on request"
            0.004 stop web#2 QUIT
            0.014 "web#2 died by QUIT: Success"
            0.014 remove web#2
            0.014 reply to 1: done
            "#,
        );
    }

    /// Else a process that ends by the signal it was sent would have failed.
    #[test]
    fn a_stop_goes_on_as_it_was_begun_whatever_is_configured_meanwhile() {
        let mut world = World::up("web:forks=1,forked-die-in-ms=3000 worker");
        world.stop("web");
        world.configure("web:mixed,stop-signal=3,timeout-ms=1");
        world.run();
        world.tells(
            r#"
            0.002 "web: stop on request"
            0.002 stop web#1 TERM
            0.012 "web#1 died by TERM: Success"
            3.002 remove web#1
            3.002 reply to 1: done
            "#,
        );
        world.start("web");
        world.run();
        world.stop("web");
        world.run();
        world.tells(
            r#"
            3.002 spawn web#2
            3.004 "web#2 started"
            3.004 reply to 2: done
            3.004 "web: stop on request"
            3.004 stop web#2 QUIT to main
            3.005 "web#2 killed after 1ms"
            3.005 kill web#2
            3.006 "web#2 died by KILL: Timeout"
            3.006 remove web#2
            3.006 reply to 3: done
            "#,
        );
    }

    #[test]
    fn a_lower_start_limit_counts_what_was_before() {
        let mut world = World::up("web:can-die,restart=always,delay-ms=0,burst=9 worker");
        for _ in 0..4 {
            world.exits("web", Exit::Code(1));
            world.run();
        }
        world.configure("web:can-die,restart=always,delay-ms=0,burst=2");
        world.exits("web", Exit::Code(1));
        assert_eq!(world.core.instances()[0].outcome, Some(Outcome::StartLimitHit));
    }

    #[test]
    fn numbers_that_mean_nothing_mean_nothing() {
        let mut world = World::up("web");
        let before = world.core.clone();
        let policy = super::super::world::plain_policy();
        for policies in [vec![], vec![(InstanceId(7), policy.clone())], vec![(InstanceId(u32::MAX), policy)]]
        {
            world.tell(Event::Configured { policies, exit_code: ExitCodeRule::First });
        }
        assert_eq!(world.core, before);
    }

    #[test]
    fn during_the_tear_down_it_changes_no_end() {
        let mut world = World::up("web:stubborn,timeout-ms=100");
        world.signal(INT);
        world.configure("web:timeout-ms=60000 worker");
        let start = world.start("worker");
        assert_eq!(world.reply(start), Some(Reply::ShuttingDown));
        world.run();
        assert_eq!((world.now, world.ending), (ms(103), Some(Ending::Signal(Signal(INT)))));
    }
}

mod reasons {
    use super::*;
    use crate::supervisor::{LastRestart, RestartReason};

    fn last(world: &World) -> Option<LastRestart> {
        world.core.instances()[0].ledger.last_restart
    }

    #[test]
    fn the_first_life_is_no_restart_and_a_start_of_what_is_down_neither() {
        let mut world = World::up("web:can-die worker");
        assert_eq!(last(&world), None);
        world.exits("web", Exit::Code(1));
        world.start("web");
        world.run();
        assert_eq!(last(&world), None);
    }

    #[test]
    fn a_restart_by_policy_comes_of_how_the_life_before_ended() {
        let mut world = World::up("web:restart=always,forks=1,forked-die-in-ms=50");
        world.exits("web", SEGV_WITH_CORE);
        world.pass(ms(100));
        assert_eq!(last(&world), None, "it was not started again yet");
        world.run();
        let why = RestartReason::Ended { exit: SEGV_WITH_CORE, outcome: Outcome::CoreDump };
        assert_eq!(last(&world), Some(LastRestart { at: ms(152), why }));
        let said = world.history.iter().flat_map(|(_, _, actions)| actions).find_map(|action| match action {
            crate::supervisor::Action::Announce(Announcement::RestartIn { why, .. }) => Some(*why),
            _ => None,
        });
        assert_eq!(said, Some(why));
    }

    #[test]
    fn a_restart_by_request_comes_of_the_request() {
        let mut world = World::up("web");
        world.restart("web");
        world.run();
        assert_eq!(last(&world), Some(LastRestart { at: ms(12), why: RestartReason::Requested }));
        assert_eq!(world.core.instances()[0].ledger.restarts, 0);
    }

    #[test]
    fn a_restart_by_request_does_not_wait_for_the_delay_of_policys() {
        let mut world = World::up("web:restart=always,delay-ms=5000");
        world.exits("web", Exit::Code(1));
        world.pass(ms(100));
        let restart = world.restart("web");
        world.run();
        world.tells(
            r#"
            0.002 "web#1 exited 1: ExitCode"
            0.002 "web restarts in 5s, no. 1"
            0.002 remove web#1
            0.102 "web: restart on request"
            0.102 spawn web#2
            0.104 "web#2 started"
            0.104 reply to 1: done
            "#,
        );
        assert_eq!(world.reply(restart), Some(Reply::Done));
        assert_eq!(last(&world), Some(LastRestart { at: ms(102), why: RestartReason::Requested }));
    }

    #[test]
    fn a_start_hastens_the_restart_of_policys_and_changes_no_reason() {
        let mut world = World::up("web:restart=always,delay-ms=5000");
        world.exits("web", Exit::Code(1));
        world.start("web");
        world.run();
        let why = RestartReason::Ended { exit: Exit::Code(1), outcome: Outcome::ExitCode };
        assert_eq!(last(&world), Some(LastRestart { at: ms(2), why }));
    }
}

mod answers {
    use super::*;

    /// Each is looked at after each fact, and who was there once need not be there still.
    #[test]
    fn a_one_shot_that_ended_well_before_the_answer_was_up() {
        let mut world = World::up("migrate:oneshot,runs-ms=5 web:spawn-ms=100 worker");
        world.run();
        world.stop("web");
        world.run();
        let start = world.start("migrate web");
        world.pass(ms(50));
        assert_eq!((world.state("migrate"), world.reply(start)), (State::Down { failed: false }, None));
        world.run();
        assert_eq!(world.reply(start), Some(Reply::Done));
        let restart = world.restart("web migrate");
        world.run();
        assert_eq!(world.reply(restart), Some(Reply::Done));
    }

    #[test]
    fn a_shut_down_says_where_it_comes_from_once() {
        let mut world = World::up("web");
        world.signal(INT);
        let down = world.ask(Request::ShutDown);
        world.run();
        world.tells(
            r#"
            0.002 "INT received"
            0.002 "TERM to all"
            0.002 stop web#1 TERM
            0.012 "web#1 died by TERM: Success"
            0.012 remove web#1
            0.012 reply to 1: done
            0.012 exit by INT
            "#,
        );
        assert_eq!(world.reply(down), Some(Reply::Done));
    }

    #[test]
    fn what_is_asked_of_nobody_is_done() {
        let mut world = World::up("web");
        let nobody = vec![InstanceId(77), InstanceId(u32::MAX)];
        for request in [
            Request::Kill(nobody.clone()),
            Request::Freeze(nobody.clone()),
            Request::Thaw(nobody.clone()),
            Request::Remove(nobody.clone()),
            Request::Signal { on: nobody, signal: Signal(TERM), to: crate::supervisor::Recipients::All },
        ] {
            let client = world.ask(request);
            assert_eq!(world.reply(client), Some(Reply::Done));
        }
        assert!(matches!(world.state("web"), State::Up(Living { progress: Progress::Running, .. })));
    }

    #[test]
    fn who_left_while_it_was_freezing_is_not_answered() {
        let mut world = World::up("web");
        let freeze = world.freeze("web");
        world.tell(Event::ClientLeft(freeze));
        world.run();
        assert_eq!(world.reply(freeze), None);
    }
}

mod what_failed {
    use super::*;

    fn crash(world: &World, at: usize) -> Option<&Crash> {
        world.core.instances()[at].ledger.crash.as_ref()
    }

    #[test]
    fn who_failed_unasked_is_remembered_with_what_came_of_it() {
        let mut world = World::up("web worker:can-die");
        world.pass(ms(500));
        world.exits("worker", SEGV_WITH_CORE);
        let worker = crash(&world, 1).expect("it failed").clone();
        assert_eq!((worker.how, worker.outcome), (Broken::Exited(SEGV_WITH_CORE), Outcome::CoreDump));
        assert_eq!((worker.started, worker.at), (ms(0), ms(502)));
        assert_eq!((worker.pid, worker.restarts, worker.next), (Some(102), 0, Next::Rest));
        world.exits("web", Exit::Code(3));
        world.run();
        let web = crash(&world, 0).expect("it failed");
        assert_eq!((&web.how, web.next), (&Broken::Exited(Exit::Code(3)), Next::StackEnds));
    }

    #[test]
    fn an_end_that_was_asked_for_is_no_failure_unless_it_did_not_come() {
        let mut world = World::up("web worker:traps=7 stubborn:stubborn,timeout-ms=300 killed");
        world.kill("killed");
        world.signal(TERM);
        world.run();
        assert_eq!([0, 1, 3].map(|at| crash(&world, at)), [None; 3]);
        let stubborn = crash(&world, 2).expect("it did not end");
        assert_eq!((stubborn.outcome, stubborn.next), (Outcome::Timeout, Next::Rest));
        assert_eq!((&stubborn.how, stubborn.pid), (&Broken::NotStopped, Some(103)));
        // One that ends by itself, and well.
        let mut world = World::up("web:runs-ms=10");
        world.run();
        assert_eq!(crash(&world, 0), None);
    }

    #[test]
    fn what_it_left_behind_can_fail_to_end_too_but_what_went_wrong_first_counts() {
        let mut world = World::up("web:forks=1,forked-stubborn,timeout-ms=300,can-die worker");
        world.exits("web", Exit::Code(0));
        assert_eq!(crash(&world, 0), None);
        world.pass(ms(500));
        let web = crash(&world, 0).expect("it was killed");
        assert_eq!((&web.how, web.outcome, web.pid), (&Broken::NotStopped, Outcome::Timeout, None));
        let mut world = World::up("web:forks=1,forked-stubborn,timeout-ms=300,can-die worker");
        world.exits("web", Exit::Code(3));
        world.pass(ms(500));
        assert_eq!(crash(&world, 0).map(|crash| &crash.how), Some(&Broken::Exited(Exit::Code(3))));
    }

    #[test]
    fn of_many_failures_the_last_is_remembered_and_which_restart_it_was() {
        let mut world = World::up("web:restart=on-failure,fails-after-ms=10,burst=3,delay-ms=100 worker");
        world.pass(ms(50));
        let first = crash(&world, 0).expect("it failed");
        assert_eq!((first.invocation, first.restarts), (1, 0));
        assert_eq!(first.next, Next::Restart { delay: ms(100) });
        assert!(world.core.instances()[0].has_crashed());
        world.run();
        let last = crash(&world, 0).expect("it failed again");
        assert_eq!((last.invocation, last.restarts), (3, 2));
        assert_eq!((last.outcome, last.next), (Outcome::StartLimitHit, Next::StackEnds));
    }

    #[test]
    fn a_failure_is_remembered_while_the_next_life_goes_well() {
        let mut world = World::up("web:restart=on-failure,delay-ms=0 worker");
        world.exits("web", Exit::Code(3));
        world.pass(ms(50));
        let web = &world.core.instances()[0];
        assert_eq!((web.ledger.crash.as_ref().map(|crash| crash.invocation), web.invocations), (Some(1), 2));
        assert!(!web.has_crashed(), "this life has not");
    }

    #[test]
    fn what_could_not_be_started_has_failed_too() {
        let mut world = World::new("web:not-found worker");
        world.tell(Event::Begin);
        world.run();
        let web = crash(&world, 0).expect("it failed");
        let Broken::NotStarted(failure) = &web.how else { panic!("{web:?}") };
        assert_eq!(failure.kind, FailureKind::NotFound);
        assert_eq!((web.pid, web.outcome, web.next), (None, Outcome::Resources, Next::StackEnds));
    }

    #[test]
    fn what_it_left_behind_is_counted() {
        let mut world = World::up("web:forks=2");
        world.exits("web", Exit::Code(1));
        assert_eq!(crash(&world, 0).map(|crash| crash.left), Some(2));
    }
}
