//! Files that lpm writes in place of others: whole or not at all, with the owner and the mode they had.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use serde_json::Value;

use crate::control::{STAYS, up};
use crate::stack::{Stack, is_root};

/// A user number that no user of this machine has.
const OTHER: u32 = 61_001;

fn read(stack: &Stack, name: &str) -> String {
    std::fs::read_to_string(stack.path().join(name)).expect("the file is there")
}

/// The names in the stack's directory that a replacement could have left.
fn left_beside(stack: &Stack) -> Vec<String> {
    let names = std::fs::read_dir(stack.path()).expect("a directory").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with('.') && name != ".run").collect()
}

#[test]
fn a_saved_setting_leaves_the_file_its_owner_and_mode() {
    const NAME: &str = "a_saved_setting_leaves_the_file_its_owner_and_mode";
    if !is_root() {
        return skipped!("{NAME}: needs root");
    }
    let stack = Stack::with("save-owner", &format!("web: {STAYS}\n")).file("lpm.toml", "# mine\n");
    let path = stack.path().join("lpm.toml");
    std::os::unix::fs::chown(&path, Some(OTHER), Some(OTHER)).expect("root may");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("root may");
    let mut run = up(&stack, &[], 1);
    stack.tells(&["set", "web", "timeout-stop=4s", "--save"]).with_code(0);
    let data = std::fs::metadata(&path).expect("the file is there");
    assert_eq!((data.uid(), data.gid(), data.mode() & 0o7777), (OTHER, OTHER, 0o640));
    assert!(read(&stack, "lpm.toml").starts_with("# mine\n"));
    run.stops();
    assert_eq!(left_beside(&stack), [""; 0]);
}

#[test]
fn settings_that_are_saved_at_once_are_all_there() {
    let names = ["a", "b", "c", "d"];
    let procfile: String = names.iter().map(|name| format!("{name}: {STAYS}\n")).collect();
    let stack = Stack::with("save-at-once", &procfile);
    let mut run = up(&stack, &[], names.len());
    for round in 1..=4 {
        let setting = format!("timeout-stop={round}s");
        let all = names.map(|name| stack.lpm(&["set", name, &setting, "--save"]).pipes());
        all.into_iter().for_each(|mut one| drop(one.ends_leaving_something().with_code(0)));
        let text = read(&stack, "lpm.toml");
        assert_eq!(text.matches(&format!("\"{round}s\"")).count(), names.len(), "{text}");
    }
    run.stops();
}

#[test]
fn a_link_is_followed_and_stays_a_link() {
    let stack = Stack::with("save-link", &format!("web: {STAYS}\n")).file("real/lpm.toml", "# real\n");
    std::os::unix::fs::symlink("real/lpm.toml", stack.path().join("lpm.toml")).expect("a link");
    let mut run = up(&stack, &[], 1);
    stack.tells(&["set", "web", "timeout-stop=4s", "--save"]).with_code(0);
    run.stops();
    assert!(stack.path().join("lpm.toml").is_symlink());
    assert!(read(&stack, "real/lpm.toml").starts_with("# real\n"));
    assert!(read(&stack, "real/lpm.toml").contains("timeout-stop"));
}

#[test]
fn a_strangers_link_to_a_file_of_ours_is_refused() {
    const NAME: &str = "a_strangers_link_to_a_file_of_ours_is_refused";
    if !is_root() {
        return skipped!("{NAME}: needs root");
    }
    let stack = Stack::with("report-link", "web: exit 3\n").file("precious", "precious\n");
    let link = stack.path().join("run.html");
    std::os::unix::fs::symlink("precious", &link).expect("a link");
    std::os::unix::fs::lchown(&link, Some(OTHER), Some(OTHER)).expect("root may");
    let ended = stack.runs(&["start", "--report", "run.html"]).with_code(1);
    assert!(ended.err.contains("is a symbolic link of user 61001"), "{}", ended.err);
    assert_eq!(read(&stack, "precious"), "precious\n");
}

#[test]
fn a_report_that_does_not_fit_leaves_the_old_one_and_the_exit_code() {
    let stack =
        Stack::with("report-full", "web: exit 3\n").file("run.html", "the old one").file("sum", "old");
    // One block of 512 or 1024 bytes: a page does not fit.
    let script = "ulimit -f 1; exec $LPM start --report run.html --summary sum";
    let ended = stack.shell(script).pipes().ends().with_code(3);
    assert!(ended.err.contains("run.html: the report cannot be written: File too large"), "{}", ended.err);
    assert_eq!(read(&stack, "run.html"), "the old one");
    assert_eq!(left_beside(&stack), [""; 0]);
    // What fits is written.
    assert_eq!(serde_json::from_str::<Value>(&read(&stack, "sum")).expect("JSON")["exit_code"], 3);

    let ended = stack.runs(&["start", "--summary", "/dev/full"]).with_code(3);
    assert!(ended.err.contains("/dev/full: the summary cannot be written: No space left"), "{}", ended.err);
}

#[test]
fn a_process_may_be_ended_by_the_size_of_its_files() {
    let stack = Stack::with("xfsz", "web: exec sed -n s/^SigIgn:.//p /proc/self/status\n");
    let out = stack.runs(&["start"]).with_code(0).out;
    assert!(out.contains("| 0000000000000000\n"), "{out}");
    let stack = Stack::with("xfsz-death", "web: ulimit -f 1; exec head -c 100000 /dev/zero >big\n");
    stack.runs(&["start"]).with_code(128 + libc::SIGXFSZ);
}

#[test]
fn what_is_no_regular_file_is_written_to() {
    let stack = Stack::with("summary-pipe", "web: echo said; exit 3\n");
    // Standard output, after the lines; and a file there is not emptied.
    let ended = stack.runs(&["start", "--summary", "/dev/stdout"]).with_code(3);
    let (lines, summary) = ended.out.split_once("\n{\n").unwrap_or_else(|| panic!("{}", ended.out));
    assert!(lines.contains("| said") && summary.contains("\"exit_code\": 3"), "{}", ended.out);
    let script = "exec $LPM start --summary /dev/stdout >all";
    stack.shell(script).pipes().ends().with_code(3);
    let all = read(&stack, "all");
    assert!(all.contains("| said") && all.trim_end().ends_with('}'), "{all}");
    // A pipe with a name, and one with a number.
    let script = "mkfifo pipe; cat pipe >piped & $LPM start --summary pipe; code=$?; wait; exit $code";
    stack.shell(script).pipes().ends().with_code(3);
    assert!(read(&stack, "piped").contains("\"exit_code\": 3"));
    let script = "{ $LPM start --summary /dev/fd/9 9>&1 >/dev/null; echo $? >code; } | cat >numbered";
    stack.shell(script).pipes().ends().with_code(0);
    assert!(read(&stack, "numbered").contains("\"exit_code\": 3"));
    stack.runs(&["start", "--summary", "/dev/null"]).with_code(3);
    assert!(!std::fs::metadata("/dev/null").expect("it is there").is_file());
}
