//! Claims about the guest itself and about this harness: if one of these fails, no other claim means
//! anything. They need nothing of lpm but that it starts.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::harness::Role;
use crate::stack::{Running, Stack, lpm};
use crate::waiting::{self, PATIENCE};
use crate::{cgroups, processes};

pub fn the_role_is_what_it_says() {
    let own = cgroups::own();
    let session = own.file_name().is_some_and(|name| name.to_string_lossy().starts_with("session-"));
    let root = rustix::process::getuid().is_root();
    match Role::own() {
        Role::Root => assert!(root && !session, "root in {}", own.display()),
        Role::Dev => {
            assert!(!root && session && own.starts_with("/sys/fs/cgroup/user.slice"), "in {}", own.display());
            assert!(std::env::var_os("XDG_SESSION_ID").is_some(), "PAM made no session");
        }
        Role::Runner => {
            assert!(!root && own.starts_with("/sys/fs/cgroup/system.slice"), "in {}", own.display());
            assert!(std::env::var_os("XDG_SESSION_ID").is_none(), "a session");
        }
    }
    if !root {
        let runtime = format!("/run/user/{}", rustix::process::getuid().as_raw());
        assert_eq!(std::env::var("XDG_RUNTIME_DIR").as_deref(), Ok(runtime.as_str()));
    }
    fs::File::open("/dev/tty").expect_err("there is a controlling terminal");
}

pub fn the_machine_has_every_controller_and_no_swap() {
    let controllers = cgroups::words(Path::new(cgroups::ROOT), "cgroup.controllers");
    for controller in ["cpu", "cpuset", "io", "memory", "pids"] {
        assert!(controllers.contains(controller), "no {controller} in {controllers:?}");
    }
    let kind = rustix::fs::statfs(cgroups::ROOT).expect("/sys/fs/cgroup is mounted").f_type;
    assert_eq!(kind, 0x6367_7270, "not cgroup2");
    // With swap, a process over its ceiling would crawl instead of dying.
    let swaps = fs::read_to_string("/proc/swaps").expect("/proc/swaps is there");
    assert_eq!(swaps.lines().count(), 1, "{swaps}");
}

pub fn the_user_manager_is_up() {
    let mut command = Command::new("systemctl");
    command.args(["--user", "is-system-running", "--wait"]);
    assert_eq!(Running::spawn(command).end().exited_with(0).trim(), "running");
}

/// What lpm relies on, in shell: a scope of one's own, where a child can be made, moved into, and given
/// every controller that `--mem`, `--cpu` and `--tasks` need.
pub fn a_delegated_scope_can_set_ceilings() {
    let script = r#"
        scope=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)
        mkdir "$scope/supervisor" "$scope/app" && echo $$ >"$scope/supervisor/cgroup.procs"
        for controller in memory cpu pids; do echo "+$controller" >"$scope/cgroup.subtree_control"; done
        echo enabled: $(cat "$scope/cgroup.subtree_control")
        echo 64M >"$scope/app/memory.max" && echo 50 >"$scope/app/pids.max"
        echo "20000 100000" >"$scope/app/cpu.max"
        echo limits: $(cat "$scope/app/memory.max" "$scope/app/pids.max" "$scope/app/cpu.max")
    "#;
    let output = Running::spawn(in_a_delegated_scope(script)).end().exited_with(0);
    let enabled =
        output.lines().find_map(|line| line.strip_prefix("enabled: ")).expect("it says what is enabled");
    let mut enabled: Vec<&str> = enabled.split(' ').collect();
    enabled.sort_unstable();
    assert_eq!(enabled, ["cpu", "memory", "pids"]);
    assert!(output.contains("limits: 67108864 50 20000 100000"), "{output}");
}

/// The counters of a leaf say what happened in it.
pub fn an_oom_kill_is_counted_in_its_leaf() {
    let script = r#"
        scope=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)
        mkdir "$scope/supervisor" "$scope/hungry.1" && echo $$ >"$scope/supervisor/cgroup.procs"
        echo +memory >"$scope/cgroup.subtree_control" && echo 16M >"$scope/hungry.1/memory.max"
        sh -c 'echo $$ >"$1/cgroup.procs"; exec tail /dev/zero' eat "$scope/hungry.1" || echo "ended: $?"
        exec sleep 1000
    "#;
    let mut running = Running::spawn(in_a_delegated_scope(script));
    assert_eq!(running.line("ended: "), "ended: 137");
    let leaf = cgroups::find(Path::new(cgroups::ROOT), "hungry.1").expect("the leaf is there");
    assert_eq!(cgroups::value(&leaf, "memory.events", "oom_kill"), 1);
    running.signal(Signal::TERM);
    running.end().killed_by(Signal::TERM);
}

/// The look for survivors sees a daemon in a session of its own, and sees when it is gone.
pub fn what_stays_behind_is_seen() {
    let mut command = Command::new("setsid");
    command.args(["--fork", "sh", "-c", "trap '' TERM HUP; echo away; exec sleep 1000"]);
    let mut running = Running::spawn(command);
    running.line("away");
    assert!(running.end().status.success(), "setsid failed");
    let daemon = waiting::until("the daemon is seen", PATIENCE, || {
        processes::tagged().into_iter().find(|process| process.command == "sleep 1000")
    });
    assert_eq!(daemon.cgroup, cgroups::own());
    processes::kill_tagged();
    processes::gone(Duration::from_secs(1));
}

/// The look for cgroups sees a scope by its name as long as it is there.
pub fn a_left_over_cgroup_is_seen() {
    let name = format!("lpm-left-over-{}.scope", std::process::id());
    let mut command = Command::new("systemd-run");
    command.args(if rustix::process::getuid().is_root() { &[][..] } else { &["--user"] });
    command.args([
        "--scope",
        "--quiet",
        "--collect",
        "--unit",
        &name,
        "--",
        "sh",
        "-c",
        "echo in; exec sleep 1000",
    ]);
    let mut running = Running::spawn(command);
    running.line("in");
    let seen = cgroups::named("lpm-left-over-");
    assert!(seen.iter().any(|path| path.ends_with(&name)), "{seen:?}");
    assert_eq!(cgroups::of(running.pid()).ok().as_ref(), seen.first());
    drop(running);
    waiting::until("the scope is collected", PATIENCE, || cgroups::named(&name).is_empty().then_some(()));
}

/// A shell script in a scope of its own, of the system's manager or the user's.
fn in_a_delegated_scope(script: &str) -> Command {
    let mut command = Command::new("systemd-run");
    command.args(if rustix::process::getuid().is_root() { &[][..] } else { &["--user"] });
    command.args(["--scope", "--quiet", "--collect", "-p", "Delegate=yes", "--", "sh", "-euc", script]);
    command
}

pub fn redis_is_installed_and_not_running() {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "command -v redis-server && python3 -c 'import redis' && systemctl is-active redis-server",
    ]);
    let ended = Running::spawn(command).end();
    assert!(!ended.status.success(), "redis runs by itself: {}", ended.output);
    assert_eq!(ended.output, "/usr/bin/redis-server\ninactive\n");
}

pub fn lpm_starts() {
    assert!(lpm().is_file(), "no lpm at {}", lpm().display());
    let output = Stack::new("web: true\n").run(&["--version"]).exited_with(0);
    assert!(output.starts_with("lpm "), "{output:?}");
}
