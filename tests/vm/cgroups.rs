//! Reading the cgroup tree of the machine as an onlooker does: paths below `/sys/fs/cgroup`, files as
//! text. It knows nothing of how lpm arranges its own, and changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Where cgroup2 is mounted on a machine that systemd runs.
pub const ROOT: &str = "/sys/fs/cgroup";

/// The folder of a process's cgroup.
pub fn of(pid: i32) -> io::Result<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    Ok(Path::new(ROOT).join(path))
}

/// The folder of our own cgroup.
pub fn own() -> PathBuf {
    of(std::process::id() as i32).expect("/proc/self/cgroup is there")
}

/// What a file of a cgroup says, without the last newline.
#[track_caller]
pub fn read(cgroup: &Path, file: &str) -> String {
    let path = cgroup.join(file);
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .trim_end()
        .to_owned()
}

/// One number out of a flat keyed file: `value(leaf, "memory.events", "oom_kill")`.
#[track_caller]
pub fn value(cgroup: &Path, file: &str, key: &str) -> u64 {
    let text = read(cgroup, file);
    let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("no {key} in {}/{file}:\n{text}", cgroup.display()))
}

/// The words of a file, as in `cgroup.controllers`.
#[track_caller]
pub fn words(cgroup: &Path, file: &str) -> BTreeSet<String> {
    read(cgroup, file).split_whitespace().map(str::to_owned).collect()
}

/// Every cgroup of the machine with `text` in its own name. Nothing of a guest is called "lpm" but what
/// lpm made, so `named("lpm")` finds what it left.
pub fn named(text: &str) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut todo = vec![PathBuf::from(ROOT)];
    while let Some(folder) = todo.pop() {
        // A cgroup may vanish while we look, and a folder that cannot be read has nothing of ours.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            if entry.file_name().to_string_lossy().contains(text) {
                found.insert(entry.path());
            }
            todo.push(entry.path());
        }
    }
    found
}

/// The first cgroup at or below `top` whose own name is `name`, such as an instance's `web.1`.
pub fn find(top: &Path, name: &str) -> Option<PathBuf> {
    named(name)
        .into_iter()
        .find(|path| path.starts_with(top) && path.file_name().is_some_and(|own| own == name))
}
