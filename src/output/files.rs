//! Log files: one for each instance or one for all, put aside when they are large or old enough.
//!
//! They belong to the log thread, which writes each chunk's lines at once: a disk holds a child back as a pipe
//! would. One that refuses (ENOSPC, EIO) holds nobody back: lines are counted, that is said once, and the gap
//! stands in the file when it takes lines again. No timer and no thread: a file's age is looked at when a line
//! comes for it.
//!
//! Lines stand in a file as the terminal shows them, with the date and without colours; nothing is escaped. A
//! file that is all one instance's leaves its name out. A long line is broken off when another source comes in
//! between, and its rest has a `+` for a bar.
//!
//! The files are named by instances alone, are regular files, and are never reached through a symbolic link.

use std::collections::HashMap;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustix::fs::StatxFlags;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, fstat, mkdirat, openat, renameat, statx, unlinkat};
use rustix::io::Errno;

use super::lines::Piece;
use super::outlet::{Outlet, Turn, reason};
use super::terminal::Label;
use super::{SourceId, Stream, json, zone};
use crate::config::{Form, LogFile, Rotation};
use crate::wording::announce;

/// Read and written by the user, read by the group, less what the umask takes.
const FILE: Mode = Mode::from_raw_mode(0o640);
const DIRECTORY: Mode = Mode::from_raw_mode(0o750);

/// All log files of a stack.
#[derive(Default)]
pub struct LogFiles {
    places: Vec<Place>,
    /// Where the lines of everybody go who has no route of his own.
    common: Vec<usize>,
    /// By name.
    routes: HashMap<Arc<str>, Vec<usize>>,
    files: Vec<File>,
    rotation: Rotation,
    /// What stands before a line: the time, and the rest.
    prefix: bool,
    timestamps: bool,
    stamp: Stamp,
    /// A chunk's lines on their way into one file.
    batch: Vec<u8>,
    /// What there is to be said about the files.
    news: Vec<String>,
}

/// A directory, and what is in it: a file for each instance, or one.
struct Place {
    directory: OwnedFd,
    /// As it was named, for people.
    path: PathBuf,
    /// The one file; `None`: one for each instance.
    only: Option<FileId>,
    form: Form,
    /// What it was opened for.
    wanted: LogFile,
}

struct File {
    place: usize,
    /// `web.1.log`
    name: String,
    /// None where it could not be opened; tried again with the next line.
    outlet: Option<Outlet>,
    /// Lines that came while there was none.
    lost: u64,
    size: u64,
    /// Seconds since 1970 in UTC.
    begun: i64,
    /// Whose long line is unfinished here.
    unfinished: Option<SourceId>,
    /// It could not be put aside, and that was said.
    stuck: bool,
}

/// Which file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId(usize);

impl LogFiles {
    /// Makes the directories and opens the files that are for all of those that use them. `common`: for everybody who
    /// has no route of his own, `others` for those who have. `prefix` and `timestamps` as on the terminal.
    ///
    /// # Errors
    /// What cannot be opened, and why.
    pub fn open(
        common: &[LogFile],
        others: &[LogFile],
        rotation: Rotation,
        prefix: bool,
        timestamps: bool,
    ) -> Result<LogFiles, (PathBuf, Errno)> {
        let mut files =
            LogFiles { rotation, prefix, timestamps: prefix && timestamps, ..LogFiles::default() };
        for wanted in common {
            let at = files.place(wanted).map_err(|errno| (wanted.path.clone(), errno))?;
            files.common.push(at);
        }
        for wanted in others {
            files.place(wanted).map_err(|errno| (wanted.path.clone(), errno))?;
        }
        Ok(files)
    }

    /// What stands in this name goes into those from now on.
    pub(super) fn route(&mut self, label: &Label, wanted: &[LogFile]) {
        let mut places = Vec::new();
        for wanted in wanted {
            match self.place(wanted) {
                Ok(at) => places.push(at),
                Err(errno) => {
                    let path = wanted.path.display().to_string();
                    self.news.push(announce::log_file_not_opened(&path, &reason(errno)));
                }
            }
        }
        self.routes.insert(Arc::clone(label.shared_name()), places);
    }

    /// The place that was opened for this, or is opened now.
    fn place(&mut self, wanted: &LogFile) -> Result<usize, Errno> {
        if let Some(known) = self.places.iter().position(|place| place.wanted == *wanted) {
            return Ok(known);
        }
        let LogFile { path, each, form } = wanted;
        let (directory, name) = match (each, path.file_name()) {
            (true, _) => (path.as_path(), None),
            (false, Some(name)) => {
                let name = name.to_str().ok_or(Errno::ILSEQ)?;
                (path.parent().unwrap_or(Path::new("/")), Some(name.to_owned()))
            }
            (false, None) => return Err(Errno::ISDIR),
        };
        if *each {
            make_directories(directory)?;
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = openat(CWD, directory, flags, Mode::empty())?;
        let mut place = Place {
            directory: opened,
            path: directory.to_owned(),
            only: None,
            form: *form,
            wanted: wanted.clone(),
        };
        let at = self.places.len();
        if let Some(name) = name {
            let id = self.add(at, name);
            if let Err(errno) = self.files[id.0].open(&place) {
                self.files.pop();
                return Err(errno);
            }
            place.only = Some(id);
        }
        self.places.push(place);
        Ok(at)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many descriptors these take, with so many instances.
    pub fn descriptors(wanted: &[LogFile], instances: u64) -> u64 {
        // Each for its directory; `system` has a file too.
        wanted.iter().map(|one| if one.each { instances + 2 } else { 2 }).sum()
    }

    /// The files that an instance's lines go to.
    pub(super) fn of(&mut self, label: &Label) -> Arc<[FileId]> {
        let places = self.routes.get(label.shared_name()).unwrap_or(&self.common).clone();
        places
            .into_iter()
            .map(|at| match self.places[at].only {
                Some(id) => id,
                None => {
                    let name = format!("{}.log", label.name());
                    let known = self.files.iter().position(|file| file.place == at && file.name == name);
                    known.map_or_else(|| self.add(at, name), FileId)
                }
            })
            .collect()
    }

    fn add(&mut self, place: usize, name: String) -> FileId {
        self.files.push(File {
            place,
            name,
            outlet: None,
            lost: 0,
            size: 0,
            begun: 0,
            unfinished: None,
            stuck: false,
        });
        FileId(self.files.len() - 1)
    }

    /// Writes what a source said at `now_usec`.
    pub(super) fn take_in<'a>(
        &mut self,
        ids: &[FileId],
        (source, label, stream): (SourceId, &Label, Stream),
        now_usec: u64,
        pieces: impl Iterator<Item = Piece<'a>> + Clone,
    ) {
        for &id in ids {
            let mut batch = std::mem::take(&mut self.batch);
            batch.clear();
            let in_mid_line = self.files[id.0].unfinished.is_some();
            self.lay_out(&mut batch, id, (source, label, stream), now_usec, pieces.clone());
            self.write(id, &batch, now_usec, in_mid_line);
            self.batch = batch;
        }
    }

    /// Writes a line of lpm's own.
    pub(super) fn say(&mut self, label: &Label, now_usec: u64, text: &str) {
        for &id in &*self.of(label) {
            let mut batch = Vec::new();
            let in_mid_line = self.files[id.0].unfinished.is_some();
            self.break_off(&mut batch, id);
            for line in text.split('\n') {
                match self.places[self.files[id.0].place].form {
                    Form::Json => json::put_own(&mut batch, now_usec, label.name(), line),
                    Form::Text => {
                        self.put_prefix(&mut batch, id, label, now_usec, '|');
                        batch.extend_from_slice(line.as_bytes());
                        batch.push(b'\n');
                    }
                }
            }
            self.write(id, &batch, now_usec, in_mid_line);
        }
    }

    /// Opens all files anew, whatever has become of the old ones (logrotate(8)).
    pub(super) fn reopen(&mut self) {
        for at in 0..self.files.len() {
            let file = &mut self.files[at];
            let place = &self.places[file.place];
            file.unfinished = None;
            if let Err(errno) = file.open(place) {
                let path = file.path(place);
                self.news.push(announce::log_file_not_opened(&path, &reason(errno)));
            }
        }
    }

    /// What there is to be said; each is said once.
    pub(super) fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    /// The lines as they will stand in the file.
    fn lay_out<'a>(
        &mut self,
        batch: &mut Vec<u8>,
        id: FileId,
        (source, label, stream): (SourceId, &Label, Stream),
        now_usec: u64,
        pieces: impl Iterator<Item = Piece<'a>>,
    ) {
        let json = self.places[self.files[id.0].place].form == Form::Json;
        for piece in pieces {
            if json {
                json::put(batch, now_usec, label.name(), stream, piece);
                continue;
            }
            let continues = self.files[id.0].unfinished == Some(source);
            let (text, bar) = match piece {
                Piece::Whole(text) | Piece::Start(text) if stream == Stream::Err => (text, Some('!')),
                Piece::Whole(text) | Piece::Start(text) => (text, Some('|')),
                // Somebody came in between. If its end is all that is missing, that was written in its place.
                Piece::End(b"\n") if !continues => continue,
                Piece::More(text) | Piece::End(text) => (text, (!continues).then_some('+')),
            };
            if let Some(bar) = bar {
                self.break_off(batch, id);
                self.put_prefix(batch, id, label, now_usec, bar);
            }
            batch.extend_from_slice(text);
            let ends = matches!(piece, Piece::Whole(_) | Piece::End(_));
            self.files[id.0].unfinished = (!ends).then_some(source);
        }
    }

    /// Ends a line that is unfinished.
    fn break_off(&mut self, batch: &mut Vec<u8>, id: FileId) {
        if self.files[id.0].unfinished.take().is_some() {
            batch.push(b'\n');
        }
    }

    fn put_prefix(&mut self, batch: &mut Vec<u8>, id: FileId, label: &Label, now_usec: u64, bar: char) {
        if !self.prefix {
            return;
        }
        if self.timestamps {
            batch.extend_from_slice(self.stamp.at(now_usec).as_bytes());
            batch.push(b' ');
        }
        if self.places[self.files[id.0].place].only.is_some() {
            batch.extend_from_slice(label.name().as_bytes());
            batch.push(b' ');
        }
        batch.extend_from_slice(&[bar as u8, b' ']);
    }

    /// `in_mid_line`: it goes on with a line that stands in the file already.
    fn write(&mut self, id: FileId, batch: &[u8], now_usec: u64, in_mid_line: bool) {
        if batch.is_empty() {
            return;
        }
        let second = (now_usec / 1_000_000) as i64;
        let (rotation, json) = (self.rotation, self.places[self.files[id.0].place].form == Form::Json);
        let file = &mut self.files[id.0];
        let place = &self.places[file.place];
        if file.outlet.is_none()
            && let Err(errno) = file.open(place)
        {
            if file.lost == 0 {
                self.news.push(announce::log_file_not_opened(&file.path(place), &reason(errno)));
            }
            file.lost += memchr::memchr_iter(b'\n', batch).count() as u64;
            return;
        }
        if !in_mid_line
            && file.is_due(&rotation, batch.len(), second)
            && let Err(errno) = file.put_aside(place, rotation.keep, second)
            && !std::mem::replace(&mut file.stuck, true)
        {
            self.news.push(announce::log_file_not_put_aside(&file.path(place), &reason(errno)));
        }
        let system = Label::system();
        let gap = |errno, lines| {
            let text = announce::lines_lost(lines, &reason(errno));
            let mut line = Vec::new();
            match json {
                true => json::put_own(&mut line, now_usec, system.name(), &text),
                false => line.extend_from_slice(format!("{text}\n").as_bytes()),
            }
            line
        };
        let Some(outlet) = &mut file.outlet else { return };
        match outlet.write(batch, gap) {
            Some(Turn::Refuses(errno)) => {
                let text = announce::log_file_refuses(&file.path(place), &reason(errno));
                self.news.push(text);
            }
            Some(Turn::Recovered(lines)) => {
                self.news.push(announce::log_file_recovered(&file.path(place), lines));
            }
            // No reader leaves a regular file.
            Some(Turn::Gone) | None => {}
        }
        file.size += batch.len() as u64;
    }
}

impl File {
    fn path(&self, place: &Place) -> String {
        place.path.join(&self.name).display().to_string()
    }

    /// Opens it, or opens it anew; what was open stays so if that fails.
    fn open(&mut self, place: &Place) -> Result<(), Errno> {
        // Not blocking: what is in its place may be a pipe.
        let flags = OFlags::WRONLY
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::CLOEXEC
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::NONBLOCK;
        let fd = openat(&place.directory, &self.name, flags, FILE)?;
        let stat = fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Errno::INVAL);
        }
        self.size = u64::try_from(stat.st_size).unwrap_or(0);
        // Where nobody knows when it was made, it is as old as its last line.
        let born = statx(&fd, "", AtFlags::EMPTY_PATH, StatxFlags::BTIME).ok();
        let born =
            born.filter(|found| StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME));
        self.begun = born.map_or(stat.st_mtime, |found| found.stx_btime.tv_sec);
        match &mut self.outlet {
            Some(outlet) => outlet.replace(fd),
            None => {
                let mut outlet = Outlet::new(fd);
                outlet.owes(std::mem::take(&mut self.lost));
                self.outlet = Some(outlet);
            }
        }
        Ok(())
    }

    fn is_due(&self, rotation: &Rotation, more: usize, now: i64) -> bool {
        let large = rotation.size.is_some_and(|most| self.size + more as u64 > most);
        let old = rotation.age.is_some_and(|most| now - self.begun >= most.as_secs() as i64);
        self.size > 0 && (large || old)
    }

    /// `web.1.log.1` becomes `web.1.log.2` and so on, and a new file is begun.
    fn put_aside(&mut self, place: &Place, keep: u32, now: i64) -> Result<(), Errno> {
        let directory = &place.directory;
        let aside = |number: u32| format!("{}.{number}", self.name);
        let done = match keep {
            0 => unlinkat(directory, &self.name, AtFlags::empty()),
            keep => {
                for number in (1..keep).rev() {
                    match renameat(directory, aside(number), directory, aside(number + 1)) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(errno) => return self.not_now(now, errno),
                    }
                }
                renameat(directory, &self.name, directory, aside(1))
            }
        };
        match done.or_else(|errno| if errno == Errno::NOENT { Ok(()) } else { Err(errno) }) {
            Ok(()) => self.open(place).inspect(|()| {
                self.begun = now;
                self.stuck = false;
            }),
            Err(errno) => self.not_now(now, errno),
        }
    }

    /// It goes on as it is, as if it had just begun.
    fn not_now(&mut self, now: i64, errno: Errno) -> Result<(), Errno> {
        (self.size, self.begun) = (0, now);
        Err(errno)
    }
}

fn make_directories(path: &Path) -> Result<(), Errno> {
    match mkdirat(CWD, path, DIRECTORY) {
        Err(Errno::NOENT) => {
            make_directories(path.parent().ok_or(Errno::NOENT)?)?;
            mkdirat(CWD, path, DIRECTORY)
        }
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

/// Date and time as text, worked out once a second.
#[derive(Default)]
struct Stamp {
    zone: Option<TimeZone>,
    second: Option<u64>,
    text: String,
}

/// Where the microseconds stand in `2026-11-25T08:05:12.123456+01:00`.
const MICROSECONDS: usize = 20;

impl Stamp {
    fn at(&mut self, now_usec: u64) -> &str {
        let (second, micros) = (now_usec / 1_000_000, now_usec % 1_000_000);
        if self.second != Some(second) {
            let zone = self.zone.get_or_insert_with(zone::of_the_machine).clone();
            let moment =
                Timestamp::from_second(second as i64).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
            self.text = moment.strftime("%Y-%m-%dT%H:%M:%S.000000%:z").to_string();
            self.second = Some(second);
        }
        let mut digits = String::with_capacity(6);
        write!(digits, "{micros:06}").expect("a String takes everything");
        self.text.replace_range(MICROSECONDS..MICROSECONDS + 6, &digits);
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    struct Rig {
        directory: tempfile::TempDir,
        files: LogFiles,
    }

    impl Rig {
        fn new(rotation: Rotation) -> Rig {
            let directory = tempfile::tempdir().expect("a directory");
            let wanted = |path: &str, each, form| LogFile { path: directory.path().join(path), each, form };
            let wanted = [wanted("log", true, Form::Text), wanted("all.log", false, Form::Text)];
            let files = LogFiles::open(&wanted, &[], rotation, true, false).expect("a fresh directory");
            Rig { directory, files }
        }

        fn says(&mut self, source: u64, name: &str, second: u64, piece: Piece<'_>) {
            let label = Label::instance(name, 0);
            let ids = self.files.of(&label);
            let who = (SourceId(source), &label, Stream::Merged);
            self.files.take_in(&ids, who, second * SECOND, std::iter::once(piece));
        }

        fn read(&self, path: &str) -> String {
            std::fs::read_to_string(self.directory.path().join(path))
                .unwrap_or_else(|error| error.to_string())
        }

        /// Names of what is in the directory of instances, in order.
        fn names(&self) -> Vec<String> {
            let entries =
                std::fs::read_dir(self.directory.path().join("log")).expect("a directory").flatten();
            let mut names: Vec<String> =
                entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }
    }

    #[test]
    fn each_has_its_own_and_all_share_one() {
        let mut rig = Rig::new(Rotation::default());
        rig.says(1, "web.1", 1, Piece::Whole(b"one\n"));
        rig.says(2, "worker.1", 1, Piece::Whole(b"\xff\x1b[2J\n"));
        rig.files.say(&Label::system(), SECOND, "two\nlines");
        assert_eq!(rig.read("log/web.1.log"), "| one\n");
        assert_eq!(rig.read("log/system.log"), "| two\n| lines\n");
        let all = std::fs::read(rig.directory.path().join("all.log")).expect("it is there");
        assert_eq!(all, b"web.1 | one\nworker.1 | \xff\x1b[2J\nsystem | two\nsystem | lines\n");
    }

    #[test]
    fn a_long_line_is_broken_off_where_somebody_comes_in_between() {
        let mut rig = Rig::new(Rotation::default());
        rig.says(1, "web.1", 1, Piece::Start(b"a"));
        rig.says(1, "web.1", 1, Piece::More(b"b"));
        rig.says(2, "worker.1", 1, Piece::Whole(b"x\n"));
        rig.says(1, "web.1", 1, Piece::More(b"c"));
        rig.says(1, "web.1", 1, Piece::End(b"d\n"));
        rig.says(1, "web.1", 1, Piece::Start(b"e"));
        rig.files.say(&Label::instance("worker.1", 0), SECOND, "y");
        rig.says(1, "web.1", 1, Piece::End(b"\n"));
        assert_eq!(rig.read("log/web.1.log"), "| abcd\n| e\n");
        assert_eq!(rig.read("all.log"), "web.1 | ab\nworker.1 | x\nweb.1 + cd\nweb.1 | e\nworker.1 | y\n");
    }

    #[test]
    fn a_large_file_is_put_aside_between_lines() {
        let mut rig = Rig::new(Rotation { size: Some(10), age: None, keep: 2 });
        for text in [&b"one\n"[..], b"two\n", b"three\n", b"four\n"] {
            rig.says(1, "web.1", 1, Piece::Whole(text));
        }
        assert_eq!(rig.names(), ["web.1.log", "web.1.log.1", "web.1.log.2"]);
        let files = ["log/web.1.log", "log/web.1.log.1", "log/web.1.log.2"].map(|path| rig.read(path));
        assert_eq!(files, ["| four\n", "| three\n", "| two\n"], "the oldest is gone");
        // One longer than the bound is whole all the same.
        rig.says(1, "web.1", 1, Piece::Start(b"more than ten"));
        rig.says(1, "web.1", 1, Piece::End(b" bytes\n"));
        assert_eq!(rig.read("log/web.1.log"), "| more than ten bytes\n");
    }

    #[test]
    fn an_old_file_is_put_aside_when_a_line_comes() {
        let day = 86_400;
        let mut rig =
            Rig::new(Rotation { size: None, age: Some(std::time::Duration::from_secs(day)), keep: 1 });
        let now = Timestamp::now().as_second() as u64;
        rig.says(1, "web.1", now, Piece::Whole(b"one\n"));
        rig.says(1, "web.1", now + day - 60, Piece::Whole(b"two\n"));
        assert_eq!(rig.names(), ["web.1.log"]);
        rig.says(1, "web.1", now + day + 60, Piece::Whole(b"three\n"));
        let files = ["log/web.1.log", "log/web.1.log.1"].map(|path| rig.read(path));
        assert_eq!(files, ["| three\n", "| one\n| two\n"]);
    }

    #[test]
    fn none_is_kept_where_none_is_wanted() {
        let mut rig = Rig::new(Rotation { size: Some(10), age: None, keep: 0 });
        rig.says(1, "web.1", 1, Piece::Whole(b"one two\n"));
        rig.says(1, "web.1", 1, Piece::Whole(b"three\n"));
        assert_eq!(
            (rig.names(), rig.read("log/web.1.log")),
            (vec!["web.1.log".to_owned()], "| three\n".into())
        );
    }

    #[test]
    fn opened_anew_it_is_where_it_is_looked_for() {
        let mut rig = Rig::new(Rotation::default());
        rig.says(1, "web.1", 1, Piece::Whole(b"one\n"));
        let log = rig.directory.path().join("log");
        std::fs::rename(log.join("web.1.log"), log.join("web.1.old")).expect("it is there");
        rig.says(1, "web.1", 1, Piece::Whole(b"two\n"));
        rig.files.reopen();
        rig.says(1, "web.1", 1, Piece::Whole(b"three\n"));
        assert_eq!(
            ["log/web.1.old", "log/web.1.log"].map(|path| rig.read(path)),
            ["| one\n| two\n", "| three\n"]
        );
        assert_eq!(rig.files.news(), [""; 0]);
    }

    #[test]
    fn what_cannot_be_opened_is_said_once_and_its_lines_are_counted() {
        let mut rig = Rig::new(Rotation::default());
        let path = rig.directory.path().join("log/web.1.log");
        std::os::unix::fs::symlink("/etc/hostname", &path).expect("a fresh directory");
        for text in [&b"one\n"[..], b"two\n"] {
            rig.says(1, "web.1", 1, Piece::Whole(text));
        }
        let news = rig.files.news();
        let expected = format!("{} cannot be opened: Too many levels of symbolic links", path.display());
        assert_eq!(news, [expected]);
        std::fs::remove_file(&path).expect("ours");
        rig.says(1, "web.1", 1, Piece::Whole(b"three\n"));
        assert_eq!(rig.files.news(), [format!("{} is written again, 2 lines are missing", path.display())]);
        assert!(rig.read("log/web.1.log").ends_with("three\n"));
        assert!(rig.read("log/web.1.log").starts_with("2 lines could not be written"));
    }

    #[test]
    fn what_is_no_file_is_refused_at_the_start() {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe.log");
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .expect("a fresh directory");
        let open = |path: &Path, each| {
            let wanted = LogFile { path: path.to_owned(), each, form: Form::Json };
            LogFiles::open(&[wanted], &[], Rotation::default(), true, true).err().map(|(_, errno)| errno)
        };
        // A pipe without a reader, and one with.
        assert_eq!(open(&pipe, false), Some(Errno::NXIO));
        let _reader = openat(CWD, &pipe, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).expect("a pipe");
        assert_eq!(open(&pipe, false), Some(Errno::INVAL));
        assert_eq!(open(&pipe, true), Some(Errno::NOTDIR));
        assert_eq!(open(&directory.path().join("none/all.log"), false), Some(Errno::NOENT));
        assert_eq!(open(&directory.path().join("a/b"), true), None, "directories are made");
    }

    #[test]
    fn a_time_is_one_that_everybody_reads() {
        let mut stamp = Stamp { zone: Some(TimeZone::fixed(jiff::tz::offset(1))), ..Stamp::default() };
        let at = 1_764_057_912_000_042;
        assert_eq!(stamp.at(at), "2025-11-25T09:05:12.000042+01:00");
        assert_eq!(stamp.at(at + 900_000), "2025-11-25T09:05:12.900042+01:00");
    }
}
