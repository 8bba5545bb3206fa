//! How lpm comes to a cgroup of its own: through systemd, in place; and what it says where it cannot.

use rustix::process::Signal;

use crate::cgroups;
use crate::stack::{Running, Stack};

pub fn doctor_says_full_and_how() {
    let output = Stack::new("").run(&["doctor"]).exited_with(0);
    assert!(output.starts_with("tier: full"), "{output}");
    let user = !rustix::process::getuid().is_root();
    let command = if user { "systemd-run --user --scope" } else { "systemd-run --scope" };
    assert!(output.contains(command), "{output}");
    let output = Stack::new("").run(&["doctor", "--json"]).exited_with(0);
    let object: serde_json::Value = serde_json::from_str(&output).expect("it is JSON");
    assert_eq!(object["tier"], "full");
}

pub fn lpm_keeps_its_pid_when_it_is_executed_again_in_its_scope() {
    let stack = Stack::new("web: cat /proc/self/cgroup; echo parent $PPID; exec sleep 1000\n");
    let mut running = stack.start(&["start", "--mem", "64M"]);
    let cgroup = running.line("0::");
    assert!(cgroup.contains("/lpm-stack-") && cgroup.ends_with(".scope/app/web.1"), "{cgroup}");
    let parent = running.line("parent ");
    assert!(parent.ends_with(&format!("parent {}", running.pid())), "{parent}");
    let own = cgroups::of(running.pid()).expect("lpm lives");
    assert!(own.ends_with("supervisor"), "{}", own.display());
    running.signal(Signal::TERM);
    running.end().killed_by(Signal::TERM);
}

pub fn a_procfile_from_standard_input_survives_that() {
    let stack = Stack::new("");
    let lpm = crate::stack::lpm();
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "echo 'web: echo from stdin' | \"$0\" start -f -"])
        .arg(lpm)
        .current_dir(stack.folder());
    let output = Running::spawn(command).end().exited_with(0);
    assert!(output.contains("web.1  | from stdin"), "{output}");
}

pub fn children_do_not_see_what_is_lpms_own() {
    let output = Stack::new("web: env\n").env("NOTIFY_SOCKET", "/nowhere").run(&["start"]).exited_with(0);
    for name in ["LPM_SCOPE=", "NOTIFY_SOCKET=", "INVOCATION_ID=", "LPM_STDIN_FD="] {
        assert!(!output.contains(&format!("| {name}")), "{name} is seen:\n{output}");
    }
}

pub fn run_has_the_ceilings_too() {
    let stack = Stack::new("");
    let output = stack
        .run(&["run", "--mem", "64M", "--", "sh", "-c", "head -c 200M /dev/zero | tail"])
        .exited_with(137);
    assert!(output.contains("oom-kill: memory limit 64M reached"), "{output}");
}

pub fn an_lpm_within_an_lpm_builds_its_tree_below() {
    let lpm = crate::stack::lpm();
    let text = format!("outer: exec {} start -f inner\n", lpm.display());
    let stack = Stack::new(&text).file("inner", "inner: cat /proc/self/cgroup; exec sleep 1000\n");
    let mut running = stack.start(&["start"]);
    let cgroup = running.line("inner.1 | 0::");
    assert!(cgroup.contains("/app/outer.1/") && cgroup.ends_with("/app/inner.1"), "{cgroup}");
    running.signal(Signal::INT);
    running.end().killed_by(Signal::INT);
}

pub fn an_lpm_behind_a_shell_within_an_lpm_stays_below_too() {
    let lpm = crate::stack::lpm();
    let text = format!("outer: {} start -f inner; true\n", lpm.display());
    let stack = Stack::new(&text).file("inner", "inner: cat /proc/self/cgroup; exec sleep 1000\n");
    let mut running = stack.start(&["start"]);
    let cgroup = running.line("inner.1 | 0::");
    assert!(cgroup.contains("/app/outer.1/lpm-") && cgroup.ends_with("/app/inner.1"), "{cgroup}");
    running.signal(Signal::INT);
    running.end().killed_by(Signal::INT);
}

pub fn two_checkouts_of_one_name_run_side_by_side() {
    let text = "web: echo up; exec sleep 1000\n";
    let (one, other) =
        (Stack::new(text).file("app/Procfile", text), Stack::new(text).file("app/Procfile", text));
    let mut first = one.start(&["start", "-f", "app/Procfile", "--mem", "64M"]);
    let mut second = other.start(&["start", "-f", "app/Procfile", "--mem", "64M"]);
    first.line("web.1  | up");
    second.line("web.1  | up");
    let third = one.run(&["start", "-f", "app/Procfile"]).exited_with(1);
    assert!(third.contains(&format!("stack app runs already as pid {}", first.pid())), "{third}");
    first.signal(Signal::TERM);
    first.end().killed_by(Signal::TERM);
    assert!(!second.output().contains("terminated"));
    second.signal(Signal::TERM);
    second.end().killed_by(Signal::TERM);
}

pub fn a_container_with_read_only_cgroups_is_recognised_and_named() {
    let script = "mount -o remount,bind,ro /sys/fs/cgroup 2>/dev/null || mount --bind -o ro /sys/fs/cgroup /sys/fs/cgroup; \
                  mount -o remount,bind,ro /sys/fs/cgroup; exec \"$@\"";
    let stack = Stack::new("web: echo ran\n");
    let wrapper = ["unshare", "--mount", "sh", "-c", script, "sh"];
    let output = stack.start_through(&wrapper, &["start"]).end().exited_with(0);
    assert!(output.contains("no cgroups: /sys/fs/cgroup is mounted read-only"), "{output}");
    assert!(output.contains("web.1  | ran"), "{output}");
    let output = stack.start_through(&wrapper, &["start", "--mem", "64M"]).end().exited_with(1);
    assert!(output.contains("memory limit 64M of web cannot be enforced"), "{output}");
    let output = stack.start_through(&wrapper, &["doctor"]).end().exited_with(0);
    assert!(output.starts_with("tier: none") && output.contains("podman run"), "{output}");
}
