//! Moments and spans of time as people read them, in systemd's forms.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::config::quantity::format_duration;

/// `Wed 2026-11-25 01:02:03 UTC`.
pub(super) fn stamp(usec: u64, zone: &TimeZone) -> String {
    shown(usec, zone, "%a %Y-%m-%d %H:%M:%S %Z")
}

/// `Nov 25 01:02:03`, as journalctl has it.
pub(super) fn short_stamp(usec: u64, zone: &TimeZone) -> String {
    shown(usec, zone, "%b %d %H:%M:%S")
}

/// `01:02:03`, as foreman has it.
pub(super) fn clock(usec: u64, zone: &TimeZone) -> String {
    shown(usec, zone, "%H:%M:%S")
}

/// How long ago that was: `5s`, `5min 3s`, `2h 3min`, `12d 1h`. A clock that was set back makes it `0s`.
pub(super) fn ago(usec: u64, now_usec: u64) -> String {
    span(now_usec.saturating_sub(usec))
}

/// How long until then, `None` if that has passed. A second that has begun counts: what comes in half a second
/// comes in one.
pub(super) fn until(usec: u64, now_usec: u64) -> Option<String> {
    let left = usec.checked_sub(now_usec).filter(|&left| left > 0)?;
    Some(span(left.div_ceil(1_000_000).saturating_mul(1_000_000)))
}

/// The two largest units of a span, at least seconds.
pub(super) fn span(usec: u64) -> String {
    let seconds = usec / 1_000_000;
    let unit = match seconds {
        0..3600 => 1,
        3600..86_400 => 60,
        86_400.. => 3600,
    };
    format_duration(Duration::from_secs(seconds / unit * unit))
}

/// A moment beyond jiff's years is nobody's; it has no text.
fn shown(usec: u64, zone: &TimeZone, format: &str) -> String {
    let stamp = i64::try_from(usec).ok().and_then(|usec| Timestamp::from_microsecond(usec).ok());
    let zoned: Option<Zoned> = stamp.map(|stamp| stamp.to_zoned(zone.clone()));
    zoned.map_or_else(|| "-".to_owned(), |zoned| zoned.strftime(format).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (300, "5min"),
            (303, "5min 3s"),
            (7200 + 180 + 59, "2h 3min"),
            (86_400 * 12 + 3600, "12d 1h"),
            (86_400 * 400, "400d"),
        ] {
            assert_eq!(span(seconds * 1_000_000), text);
        }
        assert_eq!(ago(5, 3), "0s");
        assert_eq!(until(2_500_000, 1_000_000), Some("2s".to_owned()));
        assert_eq!(until(1, 1), None);
        assert_eq!(stamp(u64::MAX, &TimeZone::UTC), "-");
    }

    #[test]
    fn a_zone_is_heeded() {
        let tokyo = TimeZone::fixed(jiff::tz::offset(9));
        let usec = 1_795_568_523_000_000;
        assert_eq!(stamp(usec, &TimeZone::UTC), "Wed 2026-11-25 01:02:03 UTC");
        assert_eq!(stamp(usec, &tokyo), "Wed 2026-11-25 10:02:03 +09");
        assert_eq!(short_stamp(usec, &tokyo), "Nov 25 10:02:03");
        assert_eq!(clock(usec, &tokyo), "10:02:03");
    }
}
