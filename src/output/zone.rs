//! The machine's time zone: `TZ` as tzset(3) has it, else `/etc/localtime`, else UTC.
//!
//! `TZ` may name any file, a device or a pipe without end included, and the log thread must not hang in it: only a
//! regular file of a zone's size is read. What cannot be read is UTC, without a word, as in the C library. jiff would
//! look the zone up by itself, but reads what it is told to its end, and for a name it indexes the whole time zone
//! database: some six hundred files opened before the first line is printed. Here one file is read.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;

/// The largest file that is a time zone, in bytes. The largest of the database has 4 KiB.
const LARGEST: u64 = 64 << 10;

/// The longest `TZ`, in bytes: a path, or a rule.
const LONGEST: usize = 4096;

/// Where names of zones are looked up, besides `TZDIR`.
const DATABASES: [&str; 3] = ["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo"];

const LOCAL: &str = "/etc/localtime";

/// What `TZ` says, else `/etc/localtime`, else UTC.
#[expect(clippy::disallowed_methods, reason = "TZ is the C library's, and read at the first line if at all")]
pub fn of_the_machine() -> TimeZone {
    let directory = std::env::var_os("TZDIR").filter(|path| !path.is_empty()).map(PathBuf::from);
    let databases: Vec<PathBuf> = directory.into_iter().chain(DATABASES.map(PathBuf::from)).collect();
    match std::env::var_os("TZ") {
        None => read(Path::new(LOCAL)).unwrap_or(TimeZone::UTC),
        Some(text) => text.to_str().and_then(|text| named(text, &databases)).unwrap_or(TimeZone::UTC),
    }
}

/// What this value of `TZ` means: a file, absolute or in a database, or a rule (`CET-1CEST,M3.5.0,M10.5.0/3`). `None`:
/// nothing.
fn named(text: &str, databases: &[PathBuf]) -> Option<TimeZone> {
    let name = text.strip_prefix(':').unwrap_or(text);
    if name.is_empty() || name.len() > LONGEST {
        return None;
    }
    // An absolute path replaces the directory.
    let file = databases.iter().find_map(|directory| read(&directory.join(name)));
    file.or_else(|| TimeZone::posix(name).ok())
}

/// The zone in a file. Looked at before it is opened, because to open a device may already do something, and after,
/// because it may be another one by then.
fn read(path: &Path) -> Option<TimeZone> {
    let is_zone = |data: &std::fs::Metadata| data.is_file() && data.len() <= LARGEST;
    std::fs::metadata(path).ok().filter(is_zone)?;
    let not_waiting = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = i32::try_from(not_waiting.bits()).expect("flags are small");
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().ok().filter(is_zone)?;
    let mut rules = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut rules).ok().filter(|&length| length as u64 <= LARGEST)?;
    // The abbreviation comes with the rules; nothing asks for the name.
    TimeZone::tzif("", &rules).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(zone: &TimeZone) -> i32 {
        zone.to_offset(jiff::Timestamp::UNIX_EPOCH).seconds()
    }

    /// A zone as zic(8) writes it, three hours before UTC.
    fn file() -> Vec<u8> {
        let header = |counts: [u32; 6]| {
            let mut bytes = b"TZif2".to_vec();
            bytes.extend_from_slice(&[0; 15]);
            bytes.extend(counts.iter().flat_map(|count| count.to_be_bytes()));
            bytes
        };
        let mut body = header([0, 0, 0, 0, 1, 4]);
        body.extend_from_slice(&(-10_800i32).to_be_bytes());
        body.extend_from_slice(b"\0\0ABC\0");
        [body.clone(), body, b"\nABC3\n".to_vec()].concat()
    }

    #[test]
    fn files_of_the_database_absolute_ones_and_rules_are_zones() {
        let database = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(database.path().join("Some")).expect("a directory");
        let path = database.path().join("Some/Where");
        std::fs::write(&path, file()).expect("a file");
        let databases = [PathBuf::from("/nowhere"), database.path().to_owned()];
        let absolute = path.display().to_string();
        for text in ["Some/Where", ":Some/Where", &absolute, &format!(":{absolute}"), "ABC3"] {
            assert_eq!(named(text, &databases).as_ref().map(offset), Some(-3 * 3600), "{text}");
        }
        let rule = named("<+03>-3<+04>,M3.5.0,M10.5.0/3", &databases).expect("a rule");
        assert_eq!(offset(&rule), 3 * 3600);
        for text in ["", ":", "No/Such", "Some", "/etc/passwd", "\0", &"x".repeat(LONGEST + 1)] {
            assert!(named(text, &databases).is_none(), "{text:?}");
        }
    }

    #[test]
    fn only_a_regular_file_of_a_sensible_size_is_read() {
        let database = tempfile::tempdir().expect("a directory");
        let at = |name: &str| database.path().join(name);
        let mut large = file();
        // Behind the rules anything may stand.
        large.resize(LARGEST as usize, b'\n');
        std::fs::write(at("largest"), &large).expect("a file");
        assert!(read(&at("largest")).is_some());
        large.push(b'\n');
        std::fs::write(at("larger"), &large).expect("a file");
        assert!(read(&at("larger")).is_none());
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
        let databases = [database.path().to_owned()];
        let up = "../".repeat(20);
        for text in
            ["pipe", "/dev/zero", &format!("{up}dev/zero"), "/dev/stdin", "/proc/kmsg", "/proc/self/maps"]
        {
            assert!(named(text, &databases).is_none(), "{text}");
        }
    }

    #[test]
    fn the_database_of_this_machine_is_found() {
        let databases = DATABASES.map(PathBuf::from);
        if !databases[0].join("Asia/Tokyo").exists() {
            return skipped!("the_database_of_this_machine_is_found: no time zone database here");
        }
        assert_eq!(named("Asia/Tokyo", &databases).as_ref().map(offset), Some(9 * 3600));
    }
}
