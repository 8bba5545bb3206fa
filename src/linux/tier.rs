//! The tier of this machine: which control groups lpm may use, and why.
//!
//! Two parts: [`Facts`], gathered once, and [`decide`], a pure function from facts to a [`Decision`] that keeps
//! every question and its answer for `lpm doctor`. [`Tree`](super::tree::Tree) carries it out.
//!
//! ```text
//!  cgroup v2 mounted? ──no──────────────────────────────────────────────▶ nothing
//!  can be written to? ──no──────────────────────────────────────────────▶ nothing
//!  a place was named? ──yes─────────────────────────────▶ own directory there
//!  is our cgroup ours? ──yes──┬─ alone in it ───────────▶ delegated
//!      │                      └─ others in it, systemd ─▶ scope        (else as below)
//!  systemd runs? ──yes──┬─ its manager answers ─────────▶ scope, by re-exec, once
//!      │                └─ no ──────────────────────────────────────────▶ nothing, and how to get it
//!  may we write? ──root───▶ own directory at the top
//!                ──user───▶ own directory below our cgroup, if that is writable; else nothing, and a recipe
//! ```
//!
//! *Ours* is a cgroup that systemd marked (`user.delegate`), the scope we were re-executed into, and,
//! where there is no systemd, any but the root one that we may write and are alone in. Other people's
//! processes are never moved, and no attribute of a cgroup that was given to us is written but
//! `cgroup.subtree_control`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::cgroup::{Cgroup, Mount, Own};

/// The controllers that ceilings need.
pub const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// Ceilings, containment, kill.
    Full,
    /// Containment and kill; some or all ceilings cannot be enforced.
    Tracking,
    /// No writable cgroup: sessions, the subreaper, pidfds. Best effort.
    None,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tier::Full => "full",
            Tier::Tracking => "tracking",
            Tier::None => "none",
        })
    }
}

/// Where the tree goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// This cgroup is ours and we are alone in it. It becomes the root of the tree.
    Delegated(PathBuf),
    /// A directory of our own is made below this one.
    OwnDirectory(PathBuf),
    /// First be executed again, in a scope of our own.
    Scope {
        /// By the user's manager, not the system's.
        user: bool,
    },
    /// There is none.
    Nothing,
}

/// What was decided, and everything that led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// In the order they were asked.
    pub steps: Vec<Step>,
    /// For [`Place::Scope`] what is expected of it.
    pub tier: Tier,
    /// Where.
    pub place: Place,
    /// All of [`CONTROLLERS`], in that order.
    pub controllers: Vec<Controller>,
    /// Why not more, if there is something to be done about it.
    pub obstacle: Option<Obstacle>,
}

impl Decision {
    /// The controllers to ask for.
    pub fn available(&self) -> Vec<&'static str> {
        let there = self.controllers.iter().filter(|controller| controller.missing.is_none());
        there.map(|controller| controller.name).collect()
    }
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// `can it be written to?`
    pub question: &'static str,
    /// `no, /sys/fs/cgroup is mounted read-only`
    pub answer: String,
}

/// What stands in the way, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// `the controller memory is not delegated`
    pub reason: String,
    /// The exact command, file or option. May be several lines.
    pub fix: String,
}

/// A controller, and why it cannot be used if it cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// `memory`
    pub name: &'static str,
    /// `None`: available.
    pub missing: Option<Obstacle>,
}

/// What a decision is made from. [`Facts::gather`] asks the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Where cgroup2 is mounted.
    pub mount: Option<Mount>,
    /// Our own cgroup as the kernel names it.
    pub own: Own,
    /// The same as a directory, where it can be seen.
    pub here: Option<Directory>,
    /// The topmost directory that can be seen.
    pub top: Option<Directory>,
    /// `LPM_CGROUP`, and what is there.
    pub asked: Option<(PathBuf, Result<Directory, Errno>)>,
    /// The unit we were executed into (`LPM_SCOPE`). Its presence forbids another time.
    pub scope: Option<String>,
    /// The instance of another lpm that we are part of (`LPM_INSTANCE`): its leaf has that name.
    pub within: Option<String>,
    /// Effective user.
    pub euid: u32,
    /// Whether systemd is init here (sd_booted(3)), and whether the manager in charge of us answers.
    pub systemd: Systemd,
    /// Controllers that the manager could hand on, as far as that can be seen.
    pub manager_controllers: Vec<String>,
    /// Controllers bound to version 1 hierarchies.
    pub version_1: Vec<String>,
    /// Controllers switched off on the kernel's command line.
    pub disabled: Vec<String>,
}

/// The manager that could give us a scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Systemd {
    /// Init is something else.
    Absent,
    /// It answers.
    Reachable,
    /// It does not, or not to us: what was tried and what came back.
    Unreachable(String),
}

/// A cgroup directory, as far as a decision needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// In the file system.
    pub path: PathBuf,
    /// Both the directory and its `cgroup.procs` are ours to write.
    pub writable: bool,
    /// `user.delegate` is 1 (systemd 251).
    pub delegated: bool,
    /// It has a `cgroup.type`: every cgroup has but the root of the whole hierarchy, whatever its name.
    pub has_type: bool,
    /// How many processes sit in it besides us.
    pub others: usize,
    /// `cgroup.controllers`.
    pub controllers: Vec<String>,
    /// `cgroup.subtree_control`.
    pub subtree_control: Vec<String>,
}

impl Facts {
    /// Look at the machine. `asked` is `LPM_CGROUP`, `scope` is `LPM_SCOPE`, `within` is `LPM_INSTANCE`.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn gather(asked: Option<&Path>, scope: Option<&str>, within: Option<&str>) -> io::Result<Facts> {
        let mount = Mount::find()?;
        let own = Own::find()?;
        let located = match (&mount, &own) {
            (Some(mount), Own::At(path)) => mount.locate(path),
            _ => None,
        };
        let euid = rustix::process::geteuid().as_raw();
        let look = |path: &Path| Directory::look(path).ok();
        let manager = match (&mount, euid) {
            (Some(mount), 0) => Some(mount.point.clone()),
            (Some(mount), _) => {
                Some(mount.point.join(format!("user.slice/user-{euid}.slice/user@{euid}.service")))
            }
            (None, _) => None,
        };
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Facts {
            here: located.as_deref().and_then(look),
            top: mount.as_ref().and_then(|mount| look(&mount.point)),
            asked: asked.map(|path| (path.to_owned(), Directory::look(path))),
            scope: scope.map(str::to_owned),
            within: within.map(str::to_owned),
            euid,
            systemd: Systemd::ask(euid),
            manager_controllers: manager
                .and_then(|path| std::fs::read_to_string(path.join("cgroup.controllers")).ok())
                .map(words)
                .unwrap_or_default(),
            version_1: version_1(&mountinfo),
            disabled: disabled(&std::fs::read_to_string("/proc/cgroups").unwrap_or_default()),
            mount,
            own,
        })
    }
}

/// Named hierarchies (`name=systemd`) are no controllers.
fn version_1(mountinfo: &str) -> Vec<String> {
    let of_line = |line: &str| -> Option<Vec<String>> {
        let mut fields = line.split(" - ").nth(1)?.split(' ');
        (fields.next()? == "cgroup").then_some(())?;
        let options = fields.nth(1)?.split(',');
        Some(
            options
                .filter(|option| CONTROLLERS.contains(option))
                .map(|option| (*option).to_owned())
                .collect(),
        )
    };
    mountinfo.lines().filter_map(of_line).flatten().collect()
}

/// The last column of /proc/cgroups is 0.
fn disabled(cgroups: &str) -> Vec<String> {
    let rows = cgroups.lines().filter(|line| !line.starts_with('#'));
    let off = rows.filter_map(|line| {
        let mut fields = line.split_whitespace();
        let name = fields.next()?;
        (fields.next_back()? == "0").then(|| name.to_owned())
    });
    off.collect()
}

impl Directory {
    /// Look at one. Nothing is tried out: making the tree is what does that.
    fn look(path: &Path) -> Result<Directory, Errno> {
        let cgroup = Cgroup::open(path)?;
        let may_write =
            |what: &Path| rustix::fs::accessat(CWD, what, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
        let mut mark = [0; 8];
        let delegated = ["user.delegate", "trusted.delegate"].iter().any(|name| {
            rustix::fs::getxattr(path, *name, &mut mark).is_ok_and(|length| mark[..length] == *b"1")
        });
        let ours = rustix::process::getpid();
        Ok(Directory {
            path: path.to_owned(),
            writable: may_write(path) && may_write(&path.join("cgroup.procs")),
            delegated,
            has_type: path.join("cgroup.type").exists(),
            others: others(&cgroup.read("cgroup.procs").unwrap_or_default(), ours.as_raw_pid()),
            controllers: cgroup.controllers().unwrap_or_default(),
            subtree_control: cgroup.subtree_control().unwrap_or_default(),
        })
    }

    /// Whether its children could have a controller. With processes in it the kernel refuses (`EBUSY`),
    /// but for the root, and what is enabled already stays so.
    fn hands_on(&self, controller: &str, alone_suffices: bool) -> Result<(), Refusal> {
        let has = |list: &[String]| list.iter().any(|name| name == controller);
        if has(&self.subtree_control) {
            Ok(())
        } else if !has(&self.controllers) {
            Err(Refusal::NotHere)
        } else if self.has_type && !alone_suffices {
            Err(Refusal::Occupied(self.others))
        } else {
            Ok(())
        }
    }
}

/// Everybody in the list but us. Processes of other PID namespaces are there as 0, and count.
fn others(procs: &str, ours: i32) -> usize {
    procs.lines().filter(|line| line.parse() != Ok(ours)).count()
}

/// Why a directory does not hand on a controller.
enum Refusal {
    NotHere,
    Occupied(usize),
}

impl Systemd {
    /// What `systemd-run --scope` will talk to: the manager's private socket, else, for a user, the bus.
    fn ask(euid: u32) -> Systemd {
        if !Path::new("/run/systemd/system").is_dir() {
            return Systemd::Absent;
        }
        let sockets = match euid {
            0 => vec![PathBuf::from("/run/systemd/private")],
            _ => {
                let runtime = Systemd::runtime_directory(euid);
                vec![runtime.join("systemd/private"), runtime.join("bus")]
            }
        };
        let mut answer = String::new();
        for socket in &sockets {
            match connect(socket) {
                Ok(()) => return Systemd::Reachable,
                Err(errno) => {
                    let text = io::Error::from(errno).to_string();
                    answer = format!("{}: {}", sockets[0].display(), without_number(&text));
                }
            }
        }
        Systemd::Unreachable(answer)
    }

    /// `/run/user/UID`, whatever `XDG_RUNTIME_DIR` says: that is missing under sudo, su and cron, and may
    /// be somebody else's.
    pub fn runtime_directory(euid: u32) -> PathBuf {
        PathBuf::from(format!("/run/user/{euid}"))
    }
}

fn without_number(text: &str) -> &str {
    text.rsplit_once(" (os error").map_or(text, |(text, _)| text)
}

fn connect(socket: &Path) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?)
}

/// From facts to a decision; the picture is at the top of this file.
pub fn decide(facts: &Facts) -> Decision {
    let mut steps = Vec::new();
    let mut step = |question, answer: String| steps.push(Step { question, answer });
    let (place, obstacle) = choose(facts, &mut step);
    let controllers: Vec<Controller> =
        CONTROLLERS.iter().map(|&name| Controller { name, missing: missing(facts, &place, name) }).collect();
    let lacking: Vec<&str> = controllers
        .iter()
        .filter(|controller| controller.missing.is_some())
        .map(|controller| controller.name)
        .collect();
    let tier = match place {
        Place::Nothing => Tier::None,
        _ if lacking.is_empty() => Tier::Full,
        _ => Tier::Tracking,
    };
    if place != Place::Nothing {
        step(
            "are the controllers memory, cpu and pids to be had there?",
            match lacking.is_empty() {
                true => "yes".to_owned(),
                false => format!("not {}", lacking.join(", ")),
            },
        );
    }
    Decision { steps, tier, place, controllers, obstacle }
}

fn choose(facts: &Facts, step: &mut impl FnMut(&'static str, String)) -> (Place, Option<Obstacle>) {
    let nothing =
        |reason: String, fix: &str| (Place::Nothing, Some(Obstacle { reason, fix: fix.to_owned() }));

    let Some(mount) = &facts.mount else {
        step("is cgroup version 2 mounted?", "no".to_owned());
        return nothing(
            "cgroup version 2 is not mounted here".to_owned(),
            "boot with systemd.unified_cgroup_hierarchy=1, or as root: mount -t cgroup2 none /sys/fs/cgroup",
        );
    };
    step("is cgroup version 2 mounted?", format!("yes, at {}", mount.point.display()));

    if mount.read_only {
        step("can it be written to?", "no, it is mounted read-only".to_owned());
        return nothing(
            format!("{} is mounted read-only, as in a container", mount.point.display()),
            "run the container with writable cgroups:\n\
             podman run --security-opt unmask=/sys/fs/cgroup …\n\
             nerdctl run --security-opt writable-cgroups=true …\n\
             docker run --privileged …\n\
             containerd 2.1 and later: cgroup_writable = true in the runtime's options",
        );
    }
    step("can it be written to?", "yes, it is mounted read-write".to_owned());

    if let Some((path, found)) = &facts.asked {
        const QUESTION: &str = "was a place named?";
        if path == Path::new("none") {
            step(QUESTION, "no cgroup is wanted (LPM_CGROUP=none)".to_owned());
            return nothing("LPM_CGROUP=none asks for none".to_owned(), "unset LPM_CGROUP");
        }
        return match found {
            Ok(directory) if directory.writable => {
                step(QUESTION, format!("yes, {}", path.display()));
                (Place::OwnDirectory(path.clone()), None)
            }
            Ok(_) => {
                step(QUESTION, format!("yes, but {} may not be written to", path.display()));
                nothing(format!("{} may not be written to", path.display()), &chown_recipe(path, facts.euid))
            }
            Err(errno) => {
                let why = match *errno {
                    Errno::XDEV => "not a cgroup version 2 directory".to_owned(),
                    errno => without_number(&io::Error::from(errno).to_string()).to_owned(),
                };
                step(QUESTION, format!("yes, but {}: {why}", path.display()));
                nothing(format!("{}: {why}", path.display()), "name a directory below the cgroup2 mount")
            }
        };
    }

    let own = match &facts.own {
        Own::At(path) => path.display().to_string(),
        Own::Deleted(path) => format!("{}, which was removed meanwhile", path.display()),
        Own::Outside(path) => format!("{}, outside of this namespace", path.display()),
        Own::None => "none".to_owned(),
    };
    step("which cgroup is lpm in?", own);

    let no_systemd = facts.systemd == Systemd::Absent;
    let ours = facts.here.as_ref().and_then(|here| {
        let in_scope = facts.scope.as_ref().is_some_and(|unit| here.path.ends_with(unit));
        match () {
            () if !here.writable => None,
            () if in_scope => Some((here, "it is the scope made for lpm")),
            () if here.delegated => Some((here, "it is marked as delegated")),
            () if no_systemd && here.has_type => {
                Some((here, "there is no systemd, and it can be written to"))
            }
            () => None,
        }
    });
    const OURS: &str = "is that ours to use?";
    match ours {
        Some((here, why)) if here.others == 0 => {
            step(OURS, format!("yes, {why}, and nobody else is in it"));
            return (Place::Delegated(here.path.clone()), None);
        }
        // A scope would lead out of the other lpm's leaf, and what leaves that outlives it.
        Some((here, _)) if facts.within.as_ref().is_some_and(|name| here.path.ends_with(name)) => {
            step(OURS, format!("yes, it is the leaf of another lpm, which {} share", processes(here.others)));
            return (Place::OwnDirectory(here.path.clone()), None);
        }
        Some((here, why)) => step(OURS, format!("{why}, but {} are in it", processes(here.others))),
        None => {
            let moved =
                facts.scope.as_ref().map(|unit| format!("no, lpm was put into {unit} but is not there"));
            step(OURS, moved.unwrap_or_else(|| "no".to_owned()));
        }
    }

    const MANAGER: &str = "can systemd give us a scope?";
    match (&facts.systemd, &facts.scope) {
        (Systemd::Absent, _) => step(MANAGER, "no, init is not systemd".to_owned()),
        (_, Some(unit)) => {
            step(MANAGER, format!("it did ({unit}), and is not asked twice"));
            // A subdirectory of what is ours, though shared, is better than nothing.
            return match ours {
                Some((here, _)) => (Place::OwnDirectory(here.path.clone()), None),
                None => nothing(
                    format!("lpm was started in the scope {unit} but something moved it out"),
                    "start it as a service, or unset LPM_SCOPE if it was set by hand",
                ),
            };
        }
        (Systemd::Reachable, None) => {
            let user = facts.euid != 0;
            step(MANAGER, format!("yes, the {} manager answers", if user { "user's" } else { "system's" }));
            return (Place::Scope { user }, None);
        }
        (Systemd::Unreachable(why), None) => {
            step(MANAGER, format!("no, {why}"));
            let fix = match facts.euid {
                0 => "systemctl daemon-reexec".to_owned(),
                euid => format!("loginctl enable-linger {euid}   (as root, once), then log in again"),
            };
            return nothing(format!("the systemd manager does not answer ({why})"), &fix);
        }
    }

    const MAY: &str = "may lpm make a directory of its own?";
    match (&facts.top, &facts.here) {
        (Some(top), _) if facts.euid == 0 && top.writable => {
            step(MAY, format!("yes, at {}", top.path.display()));
            (Place::OwnDirectory(top.path.clone()), None)
        }
        (_, Some(here)) if here.writable => {
            step(MAY, format!("yes, at {}", here.path.display()));
            (Place::OwnDirectory(here.path.clone()), None)
        }
        _ => {
            step(MAY, "no".to_owned());
            let place = mount.point.join(format!("lpm.{}", facts.euid));
            nothing("no cgroup here may be written to".to_owned(), &chown_recipe(&place, facts.euid))
        }
    }
}

fn processes(count: usize) -> String {
    if count == 1 { "1 other process".to_owned() } else { format!("{count} other processes") }
}

/// The shell goes into a directory of its own, because a process may only be born into a cgroup if its
/// parent may write the `cgroup.procs` of their common ancestor; and not into the one that hands on
/// controllers, since that must hold no process (cgroup-v2.rst, "Delegation").
fn chown_recipe(path: &Path, uid: u32) -> String {
    let path = path.display();
    format!(
        "as root, once, with $$ being the number of your shell:\n\
         mkdir -p {path}/shell\n\
         chown {uid} {path} {path}/cgroup.procs {path}/cgroup.threads {path}/cgroup.subtree_control\n\
         chown {uid} {path}/shell {path}/shell/cgroup.procs\n\
         echo $$ > {path}/shell/cgroup.procs\n\
         then, as yourself: export LPM_CGROUP={path}"
    )
}

/// Why a controller cannot be had at a place, and what would change it.
fn missing(facts: &Facts, place: &Place, name: &'static str) -> Option<Obstacle> {
    let obstacle = |reason: String, fix: &str| Some(Obstacle { reason, fix: fix.to_owned() });
    let has = |list: &[String]| list.iter().any(|entry| entry == name);
    let refusal = match place {
        Place::Nothing => return obstacle("there is no cgroup to use".to_owned(), "see lpm doctor"),
        Place::Scope { .. } if has(&facts.manager_controllers) => return None,
        Place::Scope { .. } => Refusal::NotHere,
        // We are alone, and move away before anything is enabled.
        Place::Delegated(_) => match facts.here.as_ref().map(|here| here.hands_on(name, true)) {
            Some(Ok(())) => return None,
            Some(Err(refusal)) => refusal,
            None => Refusal::NotHere,
        },
        Place::OwnDirectory(path) => {
            let asked = facts.asked.as_ref().and_then(|(_, found)| found.as_ref().ok());
            let known = [asked, facts.top.as_ref(), facts.here.as_ref()];
            let directory = known.into_iter().flatten().find(|directory| directory.path == *path);
            let we_are_in_it = facts.here.as_ref().is_some_and(|here| here.path == *path);
            match directory.map(|directory| directory.hands_on(name, directory.others == 0 && !we_are_in_it))
            {
                Some(Ok(())) => return None,
                Some(Err(refusal)) => refusal,
                None => Refusal::NotHere,
            }
        }
    };
    let at_the_top = facts.top.as_ref().is_some_and(|top| has(&top.controllers));
    match refusal {
        Refusal::Occupied(others) => obstacle(
            format!("processes sit in the cgroup that would hand on {name} (EBUSY; {others} besides lpm)"),
            "start lpm as the only process there (in a container: as its first process), or name an empty \
             cgroup in LPM_CGROUP",
        ),
        Refusal::NotHere if has(&facts.version_1) => obstacle(
            format!("the controller {name} is bound to a cgroup version 1 hierarchy"),
            "boot with systemd.unified_cgroup_hierarchy=1 on the kernel's command line;\n\
             without systemd: cgroup_no_v1=all",
        ),
        Refusal::NotHere if has(&facts.disabled) => obstacle(
            format!("the controller {name} is switched off in this kernel"),
            &format!("boot with cgroup_enable={name} on the kernel's command line"),
        ),
        Refusal::NotHere if at_the_top && facts.systemd != Systemd::Absent && facts.euid != 0 => obstacle(
            format!("the controller {name} is not delegated to user {}", facts.euid),
            "as root, write /etc/systemd/system/user@.service.d/50-delegate.conf with\n\
             [Service]\n\
             Delegate=cpu cpuset io memory pids\n\
             then: systemctl daemon-reload, and log in again",
        ),
        Refusal::NotHere if at_the_top => obstacle(
            format!("the controller {name} is not enabled for this cgroup (cgroup.controllers)"),
            &format!("as root: echo +{name} > cgroup.subtree_control of each cgroup above"),
        ),
        Refusal::NotHere => obstacle(
            format!("this kernel, or this container, has no controller {name}"),
            "use a kernel that has it, or a container runtime that hands it on",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::cgroup::tests::Place as TestPlace;

    fn directory(path: &str) -> Directory {
        let all: Vec<String> = CONTROLLERS.map(str::to_owned).into();
        Directory {
            path: path.into(),
            writable: true,
            delegated: false,
            has_type: true,
            others: 0,
            controllers: all,
            subtree_control: Vec::new(),
        }
    }

    /// An ordinary user on a machine with systemd, in a terminal of a desktop.
    fn desktop() -> Facts {
        let here = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/terminal.scope";
        Facts {
            mount: Some(Mount { point: "/sys/fs/cgroup".into(), root: "/".into(), read_only: false }),
            own: Own::At(here.trim_start_matches("/sys/fs/cgroup").into()),
            here: Some(Directory { others: 3, ..directory(here) }),
            top: Some(Directory {
                writable: false,
                has_type: false,
                others: 99,
                ..directory("/sys/fs/cgroup")
            }),
            asked: None,
            scope: None,
            within: None,
            euid: 1000,
            systemd: Systemd::Reachable,
            manager_controllers: ["cpu", "memory", "pids"].map(str::to_owned).into(),
            version_1: Vec::new(),
            disabled: Vec::new(),
        }
    }

    /// Inside the scope that the desktop's user got.
    fn scope() -> Facts {
        let path = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/lpm-shop-1.scope";
        Facts {
            own: Own::At(path.trim_start_matches("/sys/fs/cgroup").into()),
            here: Some(Directory {
                delegated: true,
                controllers: ["cpu", "memory", "pids"].map(str::to_owned).into(),
                ..directory(path)
            }),
            scope: Some("lpm-shop-1.scope".into()),
            ..desktop()
        }
    }

    /// Root where init is not systemd, in the root cgroup with everybody else.
    fn plain_root() -> Facts {
        let top = Directory { has_type: false, others: 99, ..directory("/sys/fs/cgroup") };
        Facts {
            own: Own::At("/".into()),
            here: Some(top.clone()),
            top: Some(top),
            euid: 0,
            systemd: Systemd::Absent,
            manager_controllers: Vec::new(),
            ..desktop()
        }
    }

    /// A container with its own cgroup namespace that may write; a shell and lpm are in it.
    fn container() -> Facts {
        let top = Directory { others: 2, ..directory("/sys/fs/cgroup") };
        Facts { here: Some(top.clone()), top: Some(top), ..plain_root() }
    }

    fn own_directory(path: &str) -> Place {
        Place::OwnDirectory(path.into())
    }

    fn reason(decision: &Decision, name: &str) -> String {
        let found = decision.controllers.iter().find(|controller| controller.name == name).unwrap();
        found.missing.as_ref().map(|obstacle| obstacle.reason.clone()).unwrap_or_default()
    }

    #[test]
    fn every_machine_gets_its_place() {
        let here = |facts: Facts, change: fn(&mut Directory)| {
            let mut here = facts.here.clone().unwrap();
            change(&mut here);
            Facts { here: Some(here), ..facts }
        };
        let unreachable = || Systemd::Unreachable("/run/user/1000/bus: No such file or directory".into());
        let scope_path = scope().here.unwrap().path;
        let table: Vec<(&str, Facts, Place, Tier)> = vec![
            ("desktop", desktop(), Place::Scope { user: true }, Tier::Full),
            (
                "desktop before systemd 252",
                Facts { manager_controllers: ["memory", "pids"].map(str::to_owned).into(), ..desktop() },
                Place::Scope { user: true },
                Tier::Tracking,
            ),
            (
                "root on a machine with systemd",
                Facts { euid: 0, ..desktop() },
                Place::Scope { user: false },
                Tier::Full,
            ),
            ("no user manager", Facts { systemd: unreachable(), ..desktop() }, Place::Nothing, Tier::None),
            ("in the scope", scope(), Place::Delegated(scope_path.clone()), Tier::Full),
            (
                "in the scope without cpu",
                here(scope(), |here| here.controllers.retain(|name| name != "cpu")),
                Place::Delegated(scope_path.clone()),
                Tier::Tracking,
            ),
            (
                "in the scope, not marked",
                here(scope(), |here| here.delegated = false),
                Place::Delegated(scope_path.clone()),
                Tier::Full,
            ),
            (
                "a service with Delegate=yes",
                Facts { scope: None, ..scope() },
                Place::Delegated(scope_path.clone()),
                Tier::Full,
            ),
            (
                "delegated, with others in it",
                Facts { scope: None, ..here(scope(), |here| here.others = 1) },
                Place::Scope { user: true },
                Tier::Full,
            ),
            (
                "a leaf of another lpm, with others in it",
                Facts {
                    scope: None,
                    within: Some("lpm-shop-1.scope".into()),
                    ..here(scope(), |here| here.others = 1)
                },
                own_directory(scope_path.to_str().unwrap()),
                Tier::Tracking,
            ),
            (
                "the scope, with others in it",
                here(scope(), |here| here.others = 1),
                own_directory(scope_path.to_str().unwrap()),
                Tier::Tracking,
            ),
            (
                "moved out of the scope",
                Facts { scope: Some("lpm-shop-1.scope".into()), ..desktop() },
                Place::Nothing,
                Tier::None,
            ),
            (
                "no cgroup2",
                Facts { mount: None, here: None, top: None, own: Own::None, ..desktop() },
                Place::Nothing,
                Tier::None,
            ),
            (
                "container, read-only",
                Facts {
                    mount: Some(Mount { point: "/sys/fs/cgroup".into(), root: "/".into(), read_only: true }),
                    ..container()
                },
                Place::Nothing,
                Tier::None,
            ),
            ("container, shared", container(), own_directory("/sys/fs/cgroup"), Tier::Tracking),
            (
                "container, as its first process",
                here(container(), |here| here.others = 0),
                Place::Delegated("/sys/fs/cgroup".into()),
                Tier::Full,
            ),
            ("root without systemd", plain_root(), own_directory("/sys/fs/cgroup"), Tier::Full),
            (
                "root without systemd, in a session's cgroup",
                Facts {
                    own: Own::At("/sshd".into()),
                    here: Some(Directory { others: 2, ..directory("/sys/fs/cgroup/sshd") }),
                    ..plain_root()
                },
                own_directory("/sys/fs/cgroup"),
                Tier::Full,
            ),
            (
                "root without systemd, alone in a service's cgroup",
                Facts {
                    own: Own::At("/lpm".into()),
                    here: Some(directory("/sys/fs/cgroup/lpm")),
                    ..plain_root()
                },
                Place::Delegated("/sys/fs/cgroup/lpm".into()),
                Tier::Full,
            ),
            (
                "hybrid",
                {
                    let top = Directory {
                        has_type: false,
                        controllers: Vec::new(),
                        ..directory("/sys/fs/cgroup/unified")
                    };
                    Facts {
                        mount: Some(Mount {
                            point: "/sys/fs/cgroup/unified".into(),
                            root: "/".into(),
                            read_only: false,
                        }),
                        here: Some(top.clone()),
                        top: Some(top),
                        version_1: CONTROLLERS.map(str::to_owned).into(),
                        ..plain_root()
                    }
                },
                own_directory("/sys/fs/cgroup/unified"),
                Tier::Tracking,
            ),
            (
                "user without systemd",
                Facts { systemd: Systemd::Absent, ..here(desktop(), |here| here.writable = false) },
                Place::Nothing,
                Tier::None,
            ),
            (
                "user without systemd, in a writable one",
                Facts { systemd: Systemd::Absent, ..desktop() },
                own_directory(desktop().here.unwrap().path.to_str().unwrap()),
                Tier::Tracking,
            ),
            (
                "a place was named",
                Facts {
                    asked: Some(("/sys/fs/cgroup/mine".into(), Ok(directory("/sys/fs/cgroup/mine")))),
                    ..desktop()
                },
                own_directory("/sys/fs/cgroup/mine"),
                Tier::Full,
            ),
            (
                "a place was named that is not ours",
                Facts {
                    asked: Some((
                        "/sys/fs/cgroup/x".into(),
                        Ok(Directory { writable: false, ..directory("/sys/fs/cgroup/x") }),
                    )),
                    ..desktop()
                },
                Place::Nothing,
                Tier::None,
            ),
            (
                "a place was named that is not there",
                Facts { asked: Some(("/sys/fs/cgroup/x".into(), Err(Errno::NOENT))), ..desktop() },
                Place::Nothing,
                Tier::None,
            ),
            (
                "our cgroup was removed",
                Facts { own: Own::Deleted("/x".into()), here: None, ..plain_root() },
                own_directory("/sys/fs/cgroup"),
                Tier::Full,
            ),
        ];
        for (name, facts, place, tier) in table {
            let decision = decide(&facts);
            assert_eq!((&decision.place, decision.tier), (&place, tier), "{name}: {:#?}", decision.steps);
            assert_eq!(decision.obstacle.is_some(), place == Place::Nothing, "{name}");
            assert!(!decision.steps.is_empty(), "{name}");
        }
    }

    #[test]
    fn each_missing_controller_has_its_reason() {
        let shared = decide(&container());
        assert_eq!(
            reason(&shared, "memory"),
            "processes sit in the cgroup that would hand on memory (EBUSY; 2 besides lpm)"
        );
        let decision = decide(&scope());
        assert_eq!(decision.available(), ["memory", "cpu", "pids"]);
        let old = Facts { manager_controllers: ["memory", "pids"].map(str::to_owned).into(), ..desktop() };
        assert_eq!(reason(&decide(&old), "cpu"), "the controller cpu is not delegated to user 1000");
        let hybrid = Facts {
            top: Some(Directory { controllers: Vec::new(), ..plain_root().top.unwrap() }),
            here: None,
            version_1: vec!["memory".into()],
            disabled: vec!["cpu".into()],
            ..plain_root()
        };
        let hybrid = decide(&hybrid);
        assert_eq!(
            reason(&hybrid, "memory"),
            "the controller memory is bound to a cgroup version 1 hierarchy"
        );
        assert_eq!(reason(&hybrid, "cpu"), "the controller cpu is switched off in this kernel");
        assert_eq!(reason(&hybrid, "pids"), "this kernel, or this container, has no controller pids");
    }

    #[test]
    fn the_steps_read_as_doctor_prints_them() {
        let text: Vec<String> =
            decide(&scope()).steps.iter().map(|step| format!("{} {}", step.question, step.answer)).collect();
        assert_eq!(
            text,
            [
                "is cgroup version 2 mounted? yes, at /sys/fs/cgroup",
                "can it be written to? yes, it is mounted read-write",
                "which cgroup is lpm in? /user.slice/user-1000.slice/user@1000.service/app.slice/lpm-shop-1.scope",
                "is that ours to use? yes, it is the scope made for lpm, and nobody else is in it",
                "are the controllers memory, cpu and pids to be had there? yes",
            ]
        );
    }

    #[test]
    fn version_1_and_switched_off_are_told_from_absent() {
        let mountinfo = "32 31 0:29 / /a rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                         38 31 0:35 / /b rw - cgroup cgroup rw,blkio\n\
                         40 31 0:37 / /c rw - cgroup cgroup rw,name=systemd\n\
                         41 31 0:38 / /d rw - cgroup2 cgroup2 rw,memory_recursiveprot\n";
        assert_eq!(version_1(mountinfo), ["cpu"]);
        let cgroups =
            "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t1\t0\nblkio\t0\t1\t0\npids\t0\t9\t1\n";
        assert_eq!(disabled(cgroups), ["memory", "blkio"]);
    }

    #[test]
    fn processes_of_other_namespaces_are_others() {
        assert_eq!(others("12\n", 12), 0);
        assert_eq!(others("0\n0\n12\n", 12), 2);
        assert_eq!(others("", 12), 0);
    }

    #[test]
    fn this_machine_has_an_answer() {
        let facts = Facts::gather(None, None, None).unwrap();
        let decision = decide(&facts);
        assert_eq!(decision.controllers.len(), CONTROLLERS.len());
        for step in &decision.steps {
            println!("{} {}", step.question, step.answer);
        }
        println!("{:?}, {}", decision.place, decision.tier);
    }

    #[test]
    fn one_lpm_in_the_leaf_of_another_builds_there() {
        let Some(place) = TestPlace::new("one_lpm_in_the_leaf_of_another_builds_there") else { return };
        let tree = crate::linux::tree::Tree::own_directory(
            &place.path(),
            "outer",
            crate::linux::tree::tests::MARK,
            &[],
        )
        .unwrap();
        let leaf = tree.leaf("lpm.1").unwrap();
        let path = place.path().join("outer/app/lpm.1");
        let directory = Directory::look(&path).unwrap();
        assert!(directory.delegated && directory.writable);
        let facts = Facts {
            own: Own::At("/outer/app/lpm.1".into()),
            here: Some(directory),
            scope: None,
            systemd: Systemd::Reachable,
            ..plain_root()
        };
        assert_eq!(decide(&facts).place, Place::Delegated(path));
        drop(leaf);
        tree.leave().unwrap();
    }
}
