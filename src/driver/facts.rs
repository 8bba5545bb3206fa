//! Facts: what woke the loop, turned into what the core is told.
//!
//! Looking comes before telling: who exited is looked at before it is reaped, whether a leaf is empty after its
//! notification was armed. A fact that turns out to be none is dropped here.

use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions};

use super::life::{self, Alive, Leaf, number};
use super::wake::{Key, Kind, rearm};
use super::worker::{Answer, Born};
use super::{Driver, LOOK_AGAIN, STILL_WAITING, STOP, Voice, words};
use crate::config::Signal;
use crate::error::{self, tell_aside};
use crate::linux::descendants::Descendant;
use crate::linux::round::{AndContinue, Round};
use crate::linux::sight::Sight;
use crate::linux::{pidfd, signals};
use crate::output::Notice;
use crate::supervisor::{Event, Exit, Failure, FailureKind, InstanceId, Stage};

impl Driver {
    pub(super) fn on_signal(&mut self, signal: i32) {
        match signal {
            libc::SIGCHLD => {
                self.reap();
                self.look_at_guardian();
                self.follow_into_stop();
            }
            libc::SIGWINCH => self.fit_terminals(),
            signal => {
                if signal == libc::SIGHUP {
                    self.log.reopen();
                }
                if signal == libc::SIGCONT {
                    // A background process gets no SIGWINCH.
                    self.fit_terminals();
                    // Clients that find no socket tell people to send this.
                    self.keep_files();
                }
                self.hand_in(Event::Signal(Signal(signal)));
            }
        }
    }

    pub(super) fn on_birth(&mut self, answer: Answer) {
        self.worker.answered();
        match answer {
            Ok(born) => self.on_born(born),
            Err((life, failure)) => {
                self.cancels.remove(&life);
                self.hand_in(Event::SpawnFailed { life, failure });
            }
        }
        // A child that died or stopped while this birth was under way may have been taken for a stranger and left.
        self.after_birth();
    }

    pub(super) fn after_birth(&mut self) {
        if self.worker.is_bearing() {
            return;
        }
        self.reap();
        self.follow_into_stop();
        if self.suspending {
            self.suspend();
        }
    }

    pub(super) fn on_born(&mut self, born: Born) {
        let Born { life, pid, main, leaf, pipes, terminal } = born;
        self.cancels.remove(&life);
        let at = life.instance.0 as usize;
        let instance = &self.stack.instances[at];
        let leaf = match leaf {
            Some(leaf) => Leaf::Cgroup(Arc::new(leaf)),
            None => Leaf::Descendants,
        };
        let mut alive = Alive {
            life,
            pid,
            main,
            leaf,
            mark: life::mark(&self.run, &instance.name),
            known: Vec::new(),
            counters: self.counters,
            exited: false,
            frozen: false,
            unset: false,
            stopped: Vec::new(),
            asking: None,
            asked: None,
            killed: false,
            said_outside: false,
            said_unseen: false,
            events: None,
            unwatched: false,
            felt: None,
            terminal: terminal.map(Arc::new),
        };
        if let Err(errno) = self.watch.add(alive.main.as_fd(), EventFlags::IN, Key::exit(life)) {
            // SIGCHLD tells of the exit too, and lpm looks once a second.
            alive.unwatched = true;
            self.complain("watch", errno);
        }
        self.by_pid.insert(number(pid), life.instance);
        self.lives[at] = Some(alive);
        self.watch_ceilings(at);
        self.hand_in(Event::Spawned { life, pid: number(pid) });
        for (stream, pipe) in pipes {
            self.open(life, pipe, stream, None);
        }
        self.open_terminal(life);
    }

    pub(super) fn on_notice(&mut self, notice: Notice) {
        match notice {
            // The output of a command that is run once is its own, and so is the reader.
            Notice::ReaderLeft if self.voice == Voice::OneOff => {}
            Notice::ReaderLeft => self.hand_in(Event::ReaderLeft),
            Notice::Failed(errno) => {
                tell_aside(format_args!("lpm: standard output: {}", error::words(errno)))
            }
            Notice::Reached(token) => self.on_reached(token),
            Notice::Flushed(STOP) => self.stop_now(),
            Notice::Flushed(_) => {}
        }
    }

    pub(super) fn on_ready(&mut self, key: Key) {
        match key.kind() {
            Kind::Guardian => self.replace_guardian(),
            Kind::Frozen => self.on_frozen(),
            Kind::Listener => self.on_first_client(),
            Kind::Launcher => {
                self.on_launcher();
                self.go_on_rising();
            }
            Kind::Exit => self.on_readable(key.instance()),
            Kind::Events => self.on_events(key.instance()),
            Kind::Resource => self.on_resource(key.instance()),
        }
    }

    /// The main process has ended. If it cannot be reaped, its descriptor is readable all the same and would wake the loop
    /// without end; SIGCHLD and a look once a second tell when it can.
    fn on_readable(&mut self, id: InstanceId) {
        self.on_exit(id);
        if let Some(alive) = self.lives[id.0 as usize].as_mut().filter(|alive| !alive.exited) {
            alive.unwatched = true;
            self.watch.remove(alive.main.as_fd());
        }
    }

    /// The main process may have ended.
    pub(super) fn on_exit(&mut self, id: InstanceId) {
        let Some(alive) = &mut self.lives[id.0 as usize] else { return };
        if alive.exited {
            return;
        }
        match alive.main.can_be_reaped() {
            Ok(true) => {}
            Ok(false) => return,
            Err(errno) => return self.on_lost_exit(id, errno),
        }
        // A leaf's OOM kills are counted before its main process can be seen dead. Only then may that have
        // been killed before it began, which its zombie knows.
        let mut usage = alive.usage();
        let never_began = usage.oom_kills > 0 && alive.main.never_began();
        let Ok(Some(reaped)) = alive.main.reap() else { return };
        self.by_pid.remove(&number(alive.pid));
        alive.exited = true;
        let life = alive.life;
        if let Leaf::Descendants = alive.leaf {
            usage.cpu_usec = u64::try_from(reaped.cpu.as_micros()).unwrap_or(u64::MAX);
        }
        if never_began {
            let failure = Failure {
                stage: Stage::Program,
                reason: "killed before it began".into(),
                kind: FailureKind::OutOfMemory,
            };
            self.bury(life);
            return self.hand_in(Event::SpawnFailed { life, failure });
        }
        let left = self.watch_for_the_end(id);
        self.hand_in(Event::Exited { life, exit: words::exit(reaped.exit), usage, left });
    }

    /// The main process was reaped by another part of this process or never was a child of it, so that its status is not
    /// to be known. Nothing in lpm does that; a life must not last for ever because of it.
    fn on_lost_exit(&mut self, id: InstanceId, errno: Errno) {
        let Some(alive) = &mut self.lives[id.0 as usize] else { return };
        let (life, usage) = (alive.life, alive.usage());
        self.by_pid.remove(&number(alive.pid));
        alive.exited = true;
        self.complain_about(life, "learn how it ended", errno);
        let left = self.watch_for_the_end(id);
        self.hand_in(Event::Exited { life, exit: Exit::Code(u8::MAX), usage, left });
    }

    /// Arms the notification of the empty leaf, then looks; the other order would miss what happens between. Where the
    /// notification cannot be armed, lpm looks again once a second.
    pub(super) fn watch_for_the_end(&mut self, id: InstanceId) -> u32 {
        let at = id.0 as usize;
        if self.left(at) == 0 {
            return 0;
        }
        let Some(alive) = &self.lives[at] else { return 0 };
        // It stays readable, and would be reported for ever.
        self.watch.remove(alive.main.as_fd());
        if let Err(errno) = self.watch_events(id) {
            tracing::warn!(%errno, "an empty leaf will be noticed late");
        }
        self.left(at)
    }

    /// Arms the notification of `cgroup.events`. It is one file and one descriptor, whichever of its facts is
    /// waited for first.
    pub(super) fn watch_events(&mut self, id: InstanceId) -> Result<(), Errno> {
        let Some(alive) = &mut self.lives[id.0 as usize] else { return Ok(()) };
        if let (Leaf::Cgroup(leaf), None) = (&alive.leaf, &alive.events) {
            let fd = leaf.watch("cgroup.events")?;
            self.watch.add(&fd, EventFlags::PRI, Key::events(alive.life))?;
            alive.events = Some(fd);
        }
        Ok(())
    }

    /// Arms the notification of the ceilings that an instance has now.
    pub(super) fn watch_ceilings(&mut self, at: usize) {
        let Some(alive) = &mut self.lives[at] else { return };
        let file = words::felt(&self.stack.instances[at].ceilings);
        if let (Leaf::Cgroup(leaf), None, Some(file)) = (&alive.leaf, &alive.felt, file) {
            let key = Key::resource(alive.life);
            let watched = leaf.watch(file).ok();
            alive.felt = watched.filter(|fd| self.watch.add(fd, EventFlags::PRI, key).is_ok());
        }
    }

    /// The leaf may be empty, or stand still.
    pub(super) fn on_events(&mut self, id: InstanceId) {
        let at = id.0 as usize;
        let Some(alive) = &mut self.lives[at] else { return };
        if let Some(events) = &alive.events {
            rearm(events);
        }
        let life = alive.life;
        let asked = alive.goes_on_asking(self.clock.now());
        if let Err(errno) = asked {
            self.complain_about(life, "signal", errno);
        }
        let Some(alive) = &self.lives[at] else { return };
        let (exited, frozen) = (alive.exited, alive.frozen);
        if exited && self.left(at) == 0 {
            let usage = self.lives[at].as_ref().map(Alive::usage).unwrap_or_default();
            self.hand_in(Event::Emptied { life, usage });
        } else if frozen && self.lives[at].as_ref().is_some_and(Alive::stands_still) {
            self.hand_in(Event::Frozen { life });
        }
    }

    pub(super) fn on_resource(&mut self, id: InstanceId) {
        let Some(alive) = &self.lives[id.0 as usize] else { return };
        alive.felt.iter().for_each(rearm);
        let (life, usage) = (alive.life, alive.usage());
        self.hand_in(Event::Resource { life, usage });
    }

    pub(super) fn on_timer(&mut self) {
        let now = self.clock.now();
        if self.stop_by.is_some_and(|latest| latest <= now) {
            return self.stop_now();
        }
        if self.core.deadline().is_some_and(|deadline| deadline <= now) {
            self.hand_in(Event::TimePassed);
        }
        for at in 0..self.lives.len() {
            let asking = self.lives[at].as_ref().and_then(|alive| alive.asking.as_ref());
            if asking.is_some_and(|asking| asking.until <= now) {
                self.on_events(InstanceId(at as u32));
            }
        }
        if self.look.is_some_and(|due| due <= now) {
            self.look = Some(now + LOOK_AGAIN);
            self.look_again();
        }
        self.on_calls_due();
        self.on_guarding_due();
        if self.crashes.due.is_some_and(|due| due <= now) {
            self.tell_all_held();
        }
        self.tell_manager();
        if self.progress.is_some_and(|due| due <= now) && self.ending.is_none() {
            self.progress = Some(now + STILL_WAITING);
            self.say_who_is_waited_for();
        }
    }

    /// SIGCHLD: look who it was before taking anybody. A child of ours is handled as its exit at once; an
    /// orphan of an instance, which came to us because we are the subreaper, is reaped and forgotten.
    pub(super) fn reap(&mut self) {
        while let Some(pid) = pidfd::peek() {
            let number = number(pid);
            if let Some(&id) = self.by_pid.get(&number) {
                self.on_exit(id);
                if self.by_pid.contains_key(&number) {
                    break;
                }
            } else if self.ground.guardian.as_ref().is_some_and(|guardian| guardian.pid() == pid) {
                self.replace_guardian();
            } else if self.worker.bearing_since().is_some_and(|since| !is_older(pid, since)) {
                // It may be a child whose birth is not reported yet; `on_birth` reaps again.
                break;
            } else {
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
                let _ = rustix::process::waitid(WaitId::Pid(pid), options);
                // From now on its number may be another process's.
                self.inherited.retain(|inherited| *inherited != pid);
                self.orphans.reaped(pid);
            }
        }
        // SIGCHLD is the only notice of the end, or the stop, of a process outside the leaves.
        let is_concerned = |at: &usize| {
            self.lives[*at].as_ref().is_some_and(|alive| {
                alive.said_outside
                    || !alive.stopped.is_empty()
                    || (alive.exited && self.ground.tree.is_none())
            })
        };
        let places = (0..self.lives.len()).filter(is_concerned).collect();
        self.look_at_leaves(places);
    }

    /// Ctrl-Z on the terminal of `lpm run` stops the command, whose group is in the foreground, and not lpm, for
    /// which the shell waits. So lpm takes the terminal back and stops too; and when the shell continues it,
    /// lpm hands the terminal on as before and the command goes on.
    pub(super) fn follow_into_stop(&mut self) {
        let (Some(terminal), Some(alive)) = (&self.terminal, self.lives.iter().flatten().next()) else {
            return;
        };
        // One that was frozen by SIGSTOP, alone or with the stack, was not stopped by its terminal.
        if alive.exited || alive.frozen || self.suspending || self.core.is_suspended() {
            return;
        }
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        if !matches!(rustix::process::waitid(WaitId::Pid(alive.pid), options), Ok(Some(_))) {
            return;
        }
        let own = rustix::process::getpgrp();
        let hand_to = |group| {
            // A background group may do this only with SIGTTOU blocked (tcsetpgrp(3)).
            let blocked = signals::block_all();
            let _ = rustix::termios::tcsetpgrp(terminal, group);
            drop(blocked);
        };
        hand_to(own);
        // All of it, as the terminal would have: a script that runs lpm is in it too.
        let _ = rustix::process::kill_current_process_group(rustix::process::Signal::STOP);
        // `fg` made our group the foreground, `bg` did not.
        if rustix::termios::tcgetpgrp(terminal) == Ok(own) {
            hand_to(alive.pid);
        }
        let id = alive.life.instance;
        self.ask_all(id.0 as usize, Round::new(libc::SIGCONT, AndContinue::No), false);
    }
}

/// Whether a process was started before a moment, in ticks since boot; not, where that cannot be told.
fn is_older(pid: Pid, moment: u64) -> bool {
    matches!(Descendant::look(pid), Ok(Sight::Seen(one)) if one.started_before(moment))
}
