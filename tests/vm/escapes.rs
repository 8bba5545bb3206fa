//! A main process that moves itself to another cgroup, as root can and as systemd does for `--scope` and for
//! sessions: it is still lpm's, for every order. What systemd runs by itself is not.

use std::time::Duration;

use rustix::process::Signal;

use crate::processes::{self, Process};
use crate::stack::{Running, Stack};
use crate::systemd::{property, systemctl};
use crate::waiting::{self, PATIENCE};

/// Does not hear SIGTERM, and has a child that has not either.
const DEAF: &str = "trap \"\" TERM; sleep 1001 & echo away; exec sleep 1002";

fn with(command: &str) -> Vec<Process> {
    processes::tagged().into_iter().filter(|one| one.command == command).collect()
}

fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Every order that ends it or makes it stand still, for an instance that gets away by `procfile`.
#[track_caller]
fn every_order_reaches_it(procfile: &str, is_away: fn(&Process) -> bool) {
    let stack =
        Stack::new(procfile).file("lpm.toml", "[process.away]\ntimeout-stop = \"500ms\"\ncan-die = true\n");
    let mut running = stack.start(&["start"]);
    let mut times = 0;
    let mut away = |running: &mut Running| {
        times += 1;
        running.lines("| away", times);
        waiting::until("it is away", PATIENCE, || {
            let (one, two) = (with("sleep 1001"), with("sleep 1002"));
            assert!(one.len() < 2 && two.len() < 2, "the former ones are gone");
            one.iter().chain(&two).all(is_away).then_some(())?;
            Some((one.first()?.pid, two.first()?.pid))
        })
    };
    let (_, main) = away(&mut running);
    stack.run(&["freeze", "away"]).exited_with(0);
    assert_eq!(state(main), Some('T'), "{:?}", running.output());
    stack.run(&["thaw", "away"]).exited_with(0);
    waiting::until("it goes on", PATIENCE, || (state(main) == Some('S')).then_some(()));

    stack.run(&["restart", "away"]);
    away(&mut running);
    stack.run(&["kill", "away"]);
    waiting::until("it is killed", PATIENCE, || (with("sleep 1002").is_empty()).then_some(()));
    assert_eq!(with("sleep 1001").iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    stack.run(&["start", "away"]).exited_with(0);
    away(&mut running);
    stack.run(&["stop", "away"]);
    for command in ["sleep 1001", "sleep 1002"] {
        assert_eq!(with(command).iter().map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    }
    stack.run(&["start", "away"]).exited_with(0);
    away(&mut running);
    running.signal(Signal::TERM);
    running.end();
    processes::gone(Duration::ZERO);
}

fn user() -> &'static str {
    if rustix::process::getuid().is_root() { "" } else { "--user " }
}

pub fn a_main_process_in_the_root_cgroup_is_reached() {
    let procfile =
        format!("away: exec sh -c 'echo $$ >/sys/fs/cgroup/cgroup.procs; {DEAF}'\nweb: exec sleep 1003\n");
    every_order_reaches_it(&procfile, |one| one.cgroup.as_os_str() == "/sys/fs/cgroup/");
}

pub fn a_main_process_in_a_scope_of_systemd_is_reached() {
    let procfile = format!(
        "away: exec systemd-run {}--scope --quiet --collect sh -c '{}'\nweb: exec sleep 1003\n",
        user(),
        DEAF.replace('$', "$$")
    );
    every_order_reaches_it(&procfile, |one| one.cgroup.extension().is_some_and(|ext| ext == "scope"));
}

/// Documented: what left its cgroup is found at the end, unless there is no end because lpm itself is killed.
pub fn a_scope_outlives_an_lpm_that_is_killed() {
    let unit = format!("vm-scope-{}", std::process::id());
    let procfile = format!(
        "away: exec systemd-run {}--scope --quiet --unit={unit} sh -c '{DEAF}'\nweb: exec sleep 1003\n",
        user()
    );
    let stack = Stack::new(&procfile);
    let mut running = stack.start(&["start"]);
    running.line("| away");
    waiting::until("it is away", PATIENCE, || with("sleep 1002").pop());
    running.signal(Signal::KILL);
    running.end().killed_by(Signal::KILL);
    waiting::until("the guardian has ended the rest", PATIENCE, || {
        with("sleep 1003").is_empty().then_some(())
    });
    assert_eq!(with("sleep 1002").len(), 1);
    // A later start does not take it for its own either, and systemd can end it.
    systemctl(&["kill", "--signal=KILL", &format!("{unit}.scope")]).exited_with(0);
    processes::gone(PATIENCE);
}

/// Documented: work handed to another daemon is not lpm's.
pub fn a_service_that_an_instance_asks_systemd_for_is_systemds() {
    let unit = format!("vm-handed-over-{}", std::process::id());
    let procfile = format!(
        "away: systemd-run {}--quiet --unit={unit} sleep 1001 && echo handed over; exec sleep 1002\n",
        user()
    );
    let stack = Stack::new(&procfile);
    let mut running = stack.start(&["start"]);
    running.line("| handed over");
    running.signal(Signal::TERM);
    let output = running.end().killed_by(Signal::TERM);
    assert!(!output.contains("left"), "{output}");
    assert_eq!(property(&format!("{unit}.service"), "ActiveState"), "active");
    systemctl(&["stop", &format!("{unit}.service")]).exited_with(0);
    processes::gone(Duration::ZERO);
}

/// `su -` opens a session, and logind moves it there.
pub fn a_session_that_an_instance_opens_ends_with_it() {
    let stack = Stack::new("web: exec su - dev -c 'trap \"\" TERM HUP; echo away; sleep 1009; sleep 1010'\n")
        .file("lpm.toml", "[defaults]\ntimeout-stop = \"1s\"\n");
    let mut running = stack.start(&["start"]);
    running.line("| away");
    let one = waiting::until("it sleeps", PATIENCE, || {
        processes::with_command("sleep 1009").into_iter().find(|one| one.command == "sleep 1009")
    });
    println!("{one}");
    running.signal(Signal::TERM);
    let output = running.end().output;
    let left = processes::with_command("sleep 10").into_iter().map(|one| one.to_string()).collect::<Vec<_>>();
    let left: Vec<_> = left.into_iter().filter(|one| one.contains("1009") || one.contains("1010")).collect();
    assert_eq!(left, Vec::<String>::new(), "{output}");
}
