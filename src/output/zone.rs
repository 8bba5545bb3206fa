//! The machine's time zone, for the clock of [`super::terminal`].
//!
//! jiff finds it, but for one case: a `TZ` that names a zone (`Europe/Berlin`). For names jiff would index
//! the whole time zone database, some six hundred files opened before the first line is printed; here one
//! file is read, as the C library does it.

use std::path::{Component, Path};

use jiff::tz::TimeZone;

/// What `TZ` says, else `/etc/localtime`, else UTC.
#[expect(clippy::disallowed_methods, reason = "TZ is the C library's, and read at the first line if at all")]
pub(super) fn of_the_machine() -> TimeZone {
    std::env::var("TZ").ok().and_then(|name| named(&name)).unwrap_or_else(TimeZone::system)
}

/// The zone of this name; `None` for anything else that `TZ` may hold (tzset(3)): a rule, an absolute path,
/// nothing.
fn named(name: &str) -> Option<TimeZone> {
    let path = Path::new(name.strip_prefix(':').unwrap_or(name));
    if name.is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return None;
    }
    let rules = std::fs::read(Path::new("/usr/share/zoneinfo").join(path)).ok()?;
    TimeZone::tzif(name, &rules).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_and_nothing_else_is() {
        for other in ["", ":", "/etc/localtime", "../../../etc/localtime", "No/Such", "<-03>3"] {
            assert!(named(other).is_none(), "{other}");
        }
        if !Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
            return eprintln!("skipped: a_name_is_looked_up_and_nothing_else_is: no time zone database here");
        }
        for name in ["Asia/Tokyo", ":Asia/Tokyo"] {
            let zone = named(name).expect("it is there");
            assert_eq!(zone.to_offset(jiff::Timestamp::UNIX_EPOCH).seconds(), 9 * 3600);
        }
    }
}
