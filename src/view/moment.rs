//! Moments and spans of time as people read them, in systemd's forms.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::config::quantity::{duration, format_duration};

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

/// A moment as people write it, in microseconds since 1970: a span, which is that long ago (`10min`, `-10min`,
/// `10min ago`), a time of today (`12:30`), a date with or without a time, `now`, `today`, `yesterday`, or `@` and
/// seconds since 1970.
///
/// # Errors
/// It is none of these.
pub fn parse(text: &str, now_usec: u64, zone: &TimeZone) -> Result<u64, String> {
    let text = text.trim();
    let now = i64::try_from(now_usec).ok().and_then(|usec| Timestamp::from_microsecond(usec).ok());
    let today = now.map(|now| now.to_zoned(zone.clone()).date());
    let refused = || format!("{text:?} is no moment (write 10min, 12:30, 2026-11-25 12:30 or today)");
    let at = |date: Option<Date>, time: Time| {
        let zoned = date?.to_datetime(time).to_zoned(zone.clone()).ok()?;
        u64::try_from(zoned.timestamp().as_microsecond()).ok()
    };
    if let Some(seconds) = text.strip_prefix('@') {
        let seconds: u64 = seconds.parse().map_err(|_| refused())?;
        return Ok(seconds.saturating_mul(1_000_000));
    }
    let found = match text {
        "now" => Some(now_usec),
        "today" => at(today, Time::midnight()),
        "yesterday" => at(today.and_then(|today| today.yesterday().ok()), Time::midnight()),
        _ => None,
    };
    let span = || {
        let span = text.strip_prefix('-').or(text.strip_suffix("ago")).unwrap_or(text);
        let span = duration(span.trim()).ok()?;
        Some(now_usec.saturating_sub(u64::try_from(span.as_micros()).ok()?))
    };
    let of_today = || at(today, Time::strptime("%H:%M:%S", text).or(Time::strptime("%H:%M", text)).ok()?);
    let dated = || {
        let text = text.replacen('T', " ", 1);
        ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"]
            .iter()
            .find_map(|format| DateTime::strptime(format, &text).ok())
            .or_else(|| Some(Date::strptime("%Y-%m-%d", &text).ok()?.to_datetime(Time::midnight())))
            .and_then(|moment| at(Some(moment.date()), moment.time()))
    };
    found.or_else(span).or_else(of_today).or_else(dated).ok_or_else(refused)
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
    fn moments_are_read() {
        // Wed 2026-11-25 01:02:03 in a zone an hour east.
        let now = 1_795_564_923_000_000;
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let read = |text: &str| parse(text, now, &zone);
        let ago = |seconds: u64| Ok(now - seconds * 1_000_000);
        for (text, expected) in [
            ("now", ago(0)),
            ("10min", ago(600)),
            ("-1h 30min", ago(5400)),
            ("2 days ago", ago(172_800)),
            ("5", ago(5)),
            ("today", ago(3723)),
            ("yesterday", ago(3723 + 86_400)),
            ("01:02", ago(3)),
            ("00:00:03", ago(3720)),
            ("2026-11-25 00:00", ago(3723)),
            ("2026-11-24T23:00:03", ago(7320)),
            ("2026-11-24", ago(3723 + 86_400)),
            ("@17", Ok(17_000_000)),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        for text in ["", "soon", "25:00", "2026-13-01", "@x", "10 parsecs"] {
            let expected = format!("{text:?} is no moment (write 10min, 12:30, 2026-11-25 12:30 or today)");
            assert_eq!(read(text), Err(expected));
        }
    }

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
