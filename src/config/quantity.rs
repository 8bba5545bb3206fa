//! Sizes, CPUs, weights, tasks, durations and booleans: text to number and back.
//!
//! Suffixes are systemd's and 1024-based. What makes no sense is refused by name together with what to
//! write instead; nothing is guessed, because `512m` may be meant as half a gigabyte or as half a byte.
//! No floating point: a ceiling is exactly what was written.

use core::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::error::quote;
use super::stack::Ceiling;

/// A parsed quantity, or one sentence saying what is wrong and what to write.
pub type Parsed<T> = Result<T, String>;

/// Bytes per suffix, the largest first.
const UNITS: [(char, u64); 4] = [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// The longest duration accepted: deadlines are added to the clock and must not overflow it.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The most tasks that `pids.max` takes (`PID_MAX_LIMIT`, include/linux/threads.h); more is `EINVAL`. The files of
/// memory take any number of bytes, and the bounds of CPU time are below.
const MOST_TASKS: u64 = 4_194_304;

/// An amount as it was written: a part stays a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// This many.
    At(u64),
    /// A part of what there is.
    Part(Part),
    /// No limit, even where something above set one.
    Infinity,
}

/// A part of a whole: `12.5%`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its digits, without the point.
    digits: u64,
    /// How many of them stand behind the point.
    decimals: u32,
}

/// The least memory that a limit can leave, bytes: nothing starts in less than a page.
pub const PAGE: u64 = 4096;

impl Amount {
    /// The limit, where all there is are `total`. A part is at least `least`.
    pub fn of(self, total: u64, least: u64) -> Ceiling {
        match self {
            Self::At(amount) => Ceiling::At(amount),
            Self::Part(part) => Ceiling::At(part.of(total).max(least)),
            Self::Infinity => Ceiling::Infinity,
        }
    }

    /// As it would be written, `format` knowing the unit.
    pub fn format(self, format: fn(Ceiling) -> String) -> String {
        match self {
            Self::At(amount) => format(Ceiling::At(amount)),
            Self::Part(Part { digits, decimals }) => {
                let scale = 10u64.pow(decimals);
                let fraction = format!("{:0width$}", digits % scale, width = decimals as usize);
                match fraction.trim_end_matches('0') {
                    "" => format!("{}%", digits / scale),
                    fraction => format!("{}.{fraction}%", digits / scale),
                }
            }
            Self::Infinity => format(Ceiling::Infinity),
        }
    }
}

impl From<Ceiling> for Amount {
    fn from(ceiling: Ceiling) -> Self {
        match ceiling {
            Ceiling::At(amount) => Self::At(amount),
            Ceiling::Infinity => Self::Infinity,
        }
    }
}

impl Part {
    /// `number` hundredths, up to all of it.
    fn parse(number: &str) -> Option<Self> {
        let (digits, decimals) = decimal(number)?;
        (digits <= 100 * 10u128.pow(decimals))
            .then(|| Self { digits: u64::try_from(digits).expect("18 digits fit 64 bits"), decimals })
    }

    fn of(self, total: u64) -> u64 {
        let whole = 100 * 10u128.pow(self.decimals);
        u64::try_from(u128::from(total) * u128::from(self.digits) / whole).expect("a part of a u64")
    }
}

/// A limit on memory in bytes: `512M`, `1.5G`, `50%`, `infinity`.
///
/// Less than a page is refused: nothing could start, and `--mem 512` was meant to be `512M`.
pub fn memory_amount(text: &str) -> Parsed<Amount> {
    match swap_amount(text)? {
        Amount::At(0) | Amount::Part(Part { digits: 0, .. }) => {
            Err(format!("{} is no memory at all (write 512M)", quote(text)))
        }
        amount => Ok(amount),
    }
}

/// A limit on swap in bytes, like [`memory_amount`]; `0` is allowed and means none.
pub fn swap_amount(text: &str) -> Parsed<Amount> {
    match size(text)? {
        Amount::At(bytes @ 1..PAGE) => {
            Err(format!("{} is {bytes} bytes, less than a page (write {})", quote(text), suggestion(text)))
        }
        amount => Ok(amount),
    }
}

/// A ceiling on CPU time in thousandths of one CPU: `1.5` and `150%` are both 1500.
///
/// The kernel's quota is at least 1 ms in its period of 100 ms, so the least is 0.01.
pub fn cpu(text: &str) -> Parsed<Ceiling> {
    let refused = || format!("{} is not a number of CPUs (write 1.5, 150% or infinity)", quote(text));
    if text == "infinity" {
        return Ok(Ceiling::Infinity);
    }
    let (number, per_unit) = match text.strip_suffix('%') {
        Some(number) => (number, 10),
        None => (text, 1000),
    };
    let thousandths = scaled(number, per_unit).ok_or_else(refused)?;
    match thousandths {
        0..10 => Err(format!("{} is less than the kernel can give (write 0.01 or more)", quote(text))),
        10..=1_000_000_000 => Ok(Ceiling::At(thousandths)),
        _ => Err(format!("{} is more CPUs than any machine has (write infinity)", quote(text))),
    }
}

/// `cpu.weight`: 1 to 10000, 100 being everybody's.
pub fn weight(text: &str) -> Parsed<u64> {
    match whole(text) {
        Some(weight @ 1..=10_000) => Ok(weight),
        _ => Err(format!("{} is not a weight (write 1 to 10000; 100 is usual)", quote(text))),
    }
}

/// A limit on tasks: a number, `10%` of `pid_max`, `infinity`.
pub fn tasks_amount(text: &str) -> Parsed<Amount> {
    let refused =
        || format!("{} is not a number of tasks (write a number such as 64, 10% or infinity)", quote(text));
    if text == "infinity" {
        return Ok(Amount::Infinity);
    }
    let amount = match text.strip_suffix('%') {
        Some(number) => Amount::Part(Part::parse(number).ok_or_else(refused)?),
        None => Amount::At(whole(text).ok_or_else(refused)?),
    };
    match amount {
        Amount::At(0) | Amount::Part(Part { digits: 0, .. }) => {
            Err(format!("{} leaves no task to run in (write 1 or more)", quote(text)))
        }
        Amount::At(tasks) if tasks > MOST_TASKS => Err(format!(
            "{} is more tasks than the kernel has (write {MOST_TASKS} or less, or infinity)",
            quote(text)
        )),
        amount => Ok(amount),
    }
}

/// A time span as systemd.time(7) writes it: `5`, `5s`, `500ms`, `1min 30s`. A bare number is seconds.
///
/// `infinity` is refused: every wait of lpm ends.
pub fn duration(text: &str) -> Parsed<Duration> {
    let refused = || format!("{} is not a duration (write 5, 5s, 500ms or 1min 30s)", quote(text));
    if text.trim() == "infinity" {
        return Err(format!("{} is no end at all (write a duration such as 5min)", quote(text)));
    }
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(refused());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !number_part(c)).unwrap_or(rest.len()));
        let after = after.trim_start();
        let (unit, after) =
            after.split_at(after.find(|c: char| number_part(c) || c.is_whitespace()).unwrap_or(after.len()));
        let nanoseconds: u64 = match unit {
            "us" | "usec" | "µs" => 1_000,
            "ms" | "msec" => 1_000_000,
            "" if after.trim().is_empty() && total == 0 => 1_000_000_000,
            "s" | "sec" | "second" | "seconds" => 1_000_000_000,
            "m" | "min" | "minute" | "minutes" => 60_000_000_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000_000_000,
            "d" | "day" | "days" => 86_400_000_000_000,
            _ => return Err(refused()),
        };
        total += u128::from(scaled(number, nanoseconds).ok_or_else(refused)?);
        if total > LONGEST.as_nanos() {
            return Err(format!("{} is longer than a year (write 365d or less)", quote(text)));
        }
        rest = after.trim_start();
    }
    let seconds = u64::try_from(total / 1_000_000_000).expect("at most a year");
    let nanoseconds = u32::try_from(total % 1_000_000_000).expect("less than a second");
    Ok(Duration::new(seconds, nanoseconds))
}

/// systemd's booleans: `yes no true false on off 1 0`.
pub fn boolean(text: &str) -> Parsed<bool> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "y" | "true" | "t" | "on" | "1" => Ok(true),
        "no" | "n" | "false" | "f" | "off" | "0" => Ok(false),
        _ => Err(format!("{} is neither yes nor no (write yes or no)", quote(text))),
    }
}

/// A whole number of `what` between `least` and `most`.
pub fn number(text: &str, what: &str, least: u64, most: u64) -> Parsed<u64> {
    match whole(text) {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{} is not {what} (write {least} to {most})", quote(text))),
    }
}

/// A whole number of `what` between `least` and `most`, which may be negative.
pub fn integer(text: &str, what: &str, least: i64, most: i64) -> Parsed<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = whole(digits).and_then(|_| text.parse::<i64>().ok());
    match number {
        Some(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("{} is not {what} (write {least} to {most})", quote(text))),
    }
}

/// Bytes for people: `64M`, `1.5G`, `312K`, one decimal at most, rounded.
pub fn format_size(bytes: u64) -> String {
    if bytes < 1024 {
        return bytes.to_string();
    }
    let mut text = String::new();
    for (suffix, unit) in UNITS.into_iter().rev() {
        let tenths = (u128::from(bytes) * 10 + u128::from(unit) / 2) / u128::from(unit);
        text = in_tenths(tenths, suffix);
        // What would round to 1024 reads better in the next unit.
        if tenths < 10_240 {
            break;
        }
    }
    text
}

/// A ceiling in bytes for people and for [`memory_amount`] to read back: `64M`, `1.5G`, `infinity`; exact.
pub fn format_memory(ceiling: Ceiling) -> String {
    let Ceiling::At(bytes) = ceiling else { return "infinity".to_owned() };
    let tenths = u128::from(bytes) * 10;
    let exact = |&(_, unit): &(char, u64)| bytes >= unit && tenths % u128::from(unit) == 0;
    match UNITS.into_iter().find(exact) {
        Some((suffix, unit)) => in_tenths(tenths / u128::from(unit), suffix),
        None => bytes.to_string(),
    }
}

/// A ceiling in thousandths of a CPU: `1.5`, `0.25`, `infinity`; exact.
pub fn format_cpu(ceiling: Ceiling) -> String {
    match ceiling {
        Ceiling::At(thousandths) => {
            let text = format!("{}.{:03}", thousandths / 1000, thousandths % 1000);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Ceiling::Infinity => "infinity".to_owned(),
    }
}

/// A ceiling on tasks: `64`, `infinity`.
pub fn format_tasks(ceiling: Ceiling) -> String {
    match ceiling {
        Ceiling::At(tasks) => tasks.to_string(),
        Ceiling::Infinity => "infinity".to_owned(),
    }
}

/// Processor time in microseconds for people: `3ms`, `1.24s`, `2min 5s`, `3h 20min`. What does not fit in is cut
/// off, not rounded.
pub fn format_cpu_time(us: u64) -> String {
    let seconds = us / 1_000_000;
    match seconds {
        0 => format!("{}ms", us / 1000),
        1..60 => format!("{}.{:02}s", seconds, us % 1_000_000 / 10_000),
        60..3600 => format!("{}min {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A time span as [`duration`] reads it: `5s`, `500ms`, `1min 30s`. What is below a microsecond is dropped.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
        (u64::from(duration.subsec_millis()), "ms"),
        (u64::from(duration.subsec_micros() % 1000), "us"),
    ];
    let parts: Vec<String> =
        parts.into_iter().filter(|&(n, _)| n > 0).map(|(n, unit)| format!("{n}{unit}")).collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// 15 and `G` as `1.5G`.
fn in_tenths(tenths: u128, suffix: char) -> String {
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole}{suffix}"),
        (whole, tenth) => format!("{whole}.{tenth}{suffix}"),
    }
}

/// Bytes, a part, or infinity.
fn size(text: &str) -> Parsed<Amount> {
    let refused = || format!("{} is not a size (write {})", quote(text), suggestion(text));
    if text == "infinity" {
        return Ok(Amount::Infinity);
    }
    if let Some(number) = text.strip_suffix('%') {
        return Part::parse(number).map(Amount::Part).ok_or_else(|| {
            format!("{} is not a part of the memory (write 0% to 100%, or a size such as 512M)", quote(text))
        });
    }
    let unit = UNITS.into_iter().find(|&(suffix, _)| text.ends_with(suffix));
    let bytes = match unit {
        Some((suffix, unit)) => scaled(text.strip_suffix(suffix).expect("just found"), unit),
        None => whole(text),
    };
    bytes.map(Amount::At).ok_or_else(refused)
}

/// What was probably meant by a size: its number, with a suffix that exists.
fn suggestion(text: &str) -> String {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    match (number, rest.chars().next().map(|c| c.to_ascii_uppercase())) {
        ("" | "0", _) => "512M, 50% or infinity".to_owned(),
        (_, _) if number.len() > 6 => "512M, 50% or infinity".to_owned(),
        (_, Some(suffix @ ('K' | 'M' | 'G' | 'T'))) => format!("{number}{suffix}"),
        (_, _) => format!("{number}M"),
    }
}

/// `number` times `unit`, rounded down to whole ones; `None` for what is no number or too large.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (mantissa, decimals) = decimal(number)?;
    u64::try_from(mantissa.checked_mul(u128::from(unit))? / 10u128.pow(decimals)).ok()
}

/// A whole number, digits alone: no sign, no blanks.
fn whole(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

/// `12.5` as (125, 1). At most 18 digits, so that no product above overflows 128 bits.
fn decimal(text: &str) -> Option<(u128, u32)> {
    let (whole_part, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole_part) || !digits(fraction) || whole_part.len() + fraction.len() > 18 {
        return whole(text).map(|number| (u128::from(number), 0));
    }
    let mantissa: u128 = format!("{whole_part}{fraction}").parse().ok()?;
    Some((mantissa, u32::try_from(fraction.len()).ok()?))
}

fn number_part(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

/// A port on 127.0.0.1, or a loopback address with its port.
pub(super) fn loopback(text: &str) -> Parsed<SocketAddr> {
    let refused = || format!("{} is no port or loopback address (write 9464 or 127.0.0.1:9464)", quote(text));
    let port =
        |text: &str| text.parse::<u16>().ok().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let local = text.strip_prefix("localhost:").unwrap_or(text);
    let address = port(local).or_else(|| text.parse().ok()).ok_or_else(refused)?;
    match address.ip().is_loopback() {
        true => Ok(address),
        false => Err(format!(
            "{} is no loopback address, and whoever reaches it could read there (write 127.0.0.1:{})",
            quote(text),
            address.port()
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RAM: u64 = 8 << 30;

    fn memory(text: &str, ram: u64) -> Parsed<Ceiling> {
        Ok(memory_amount(text)?.of(ram, PAGE))
    }

    fn swap(text: &str, ram: u64) -> Parsed<Ceiling> {
        Ok(swap_amount(text)?.of(ram, PAGE))
    }

    fn tasks(text: &str, pid_max: u64) -> Parsed<Ceiling> {
        Ok(tasks_amount(text)?.of(pid_max, 1))
    }

    #[test]
    fn sizes_are_1024_based() {
        for (text, bytes) in [
            ("64K", 64 << 10),
            ("512M", 512 << 20),
            ("1.5G", 1536 << 20),
            ("2T", 2 << 40),
            ("1048576", 1 << 20),
            ("50%", RAM / 2),
            ("12.5%", RAM / 8),
            ("100%", RAM),
        ] {
            assert_eq!(memory(text, RAM), Ok(Ceiling::At(bytes)), "{text}");
        }
        assert_eq!(memory("infinity", RAM), Ok(Ceiling::Infinity));
        assert_eq!(swap("0", RAM), Ok(Ceiling::At(0)));
    }

    #[test]
    fn nonsense_sizes_are_refused_by_name() {
        for (text, message) in [
            ("512X", "\"512X\" is not a size (write 512M)"),
            ("-1", "\"-1\" is not a size (write 512M, 50% or infinity)"),
            ("512m", "\"512m\" is not a size (write 512M)"),
            ("512MB", "\"512MB\" is not a size (write 512M)"),
            ("2GiB", "\"2GiB\" is not a size (write 2G)"),
            ("512 M", "\"512 M\" is not a size (write 512M)"),
            ("", "\"\" is not a size (write 512M, 50% or infinity)"),
            ("M", "\"M\" is not a size (write 512M, 50% or infinity)"),
            ("1e3M", "\"1e3M\" is not a size (write 1M)"),
            ("+5M", "\"+5M\" is not a size (write 512M, 50% or infinity)"),
            ("1.M", "\"1.M\" is not a size (write 1M)"),
            ("99999999999999999999", "\"99999999999999999999\" is not a size (write 512M, 50% or infinity)"),
            ("999999999999T", "\"999999999999T\" is not a size (write 512M, 50% or infinity)"),
            ("512", "\"512\" is 512 bytes, less than a page (write 512M)"),
            ("0", "\"0\" is no memory at all (write 512M)"),
            ("101%", "\"101%\" is not a part of the memory (write 0% to 100%, or a size such as 512M)"),
        ] {
            assert_eq!(memory(text, RAM), Err(message.to_owned()));
        }
    }

    #[test]
    fn cpus_are_thousandths() {
        for (text, thousandths) in [("1.5", 1500), ("150%", 1500), ("0.25", 250), ("2", 2000), ("1%", 10)] {
            assert_eq!(cpu(text), Ok(Ceiling::At(thousandths)), "{text}");
        }
        assert_eq!(cpu("infinity"), Ok(Ceiling::Infinity));
        for text in ["-1", "", "x", "1.5x", "1,5", "%", "NaN"] {
            let message = format!("\"{text}\" is not a number of CPUs (write 1.5, 150% or infinity)");
            assert_eq!(cpu(text), Err(message));
        }
        assert_eq!(cpu("0"), Err("\"0\" is less than the kernel can give (write 0.01 or more)".to_owned()));
    }

    #[test]
    fn weights_and_tasks_have_their_range() {
        assert_eq!(weight("100"), Ok(100));
        assert_eq!(weight("0"), Err("\"0\" is not a weight (write 1 to 10000; 100 is usual)".to_owned()));
        assert!(weight("10001").is_err());
        assert_eq!(tasks("64", 32_768), Ok(Ceiling::At(64)));
        assert_eq!(tasks("10%", 32_768), Ok(Ceiling::At(3276)));
        assert_eq!(tasks("infinity", 32_768), Ok(Ceiling::Infinity));
        assert_eq!(tasks("0", 32_768), Err("\"0\" leaves no task to run in (write 1 or more)".to_owned()));
        assert!(tasks("1.5", 32_768).is_err());
        // What the kernel takes, and the first that it refuses.
        assert_eq!(tasks("4194304", 32_768), Ok(Ceiling::At(4_194_304)));
        assert_eq!(tasks("100%", 4_194_304), Ok(Ceiling::At(4_194_304)));
        let refused = "\"4194305\" is more tasks than the kernel has (write 4194304 or less, or infinity)";
        assert_eq!(tasks("4194305", 32_768), Err(refused.to_owned()));
    }

    #[test]
    fn durations_are_systemds() {
        for (text, milliseconds) in [
            ("5", 5000),
            ("0", 0),
            ("5s", 5000),
            ("1.5s", 1500),
            ("500ms", 500),
            ("1min 30s", 90_000),
            ("1min30s", 90_000),
            ("2 h", 7_200_000),
            (" 5 sec ", 5000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "-1", "5x", "s", "1min 30", "1..5s", "five"] {
            let message = format!("\"{text}\" is not a duration (write 5, 5s, 500ms or 1min 30s)");
            assert_eq!(duration(text), Err(message));
        }
        assert_eq!(
            duration("infinity"),
            Err("\"infinity\" is no end at all (write a duration such as 5min)".to_owned())
        );
        assert!(duration("400d").is_err() && duration("999999999999999999d").is_err());
    }

    #[test]
    fn sizes_are_written_for_people() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1K"),
            (64 << 20, "64M"),
            (1536 << 20, "1.5G"),
            ((1 << 30) - 1, "1G"),
            (67_108_123, "64M"),
            (u64::MAX, "16777216T"),
        ] {
            assert_eq!(format_size(bytes), text);
        }
        assert_eq!(format_memory(Ceiling::At(1 << 30 | 1)), "1073741825");
        assert_eq!(format_memory(Ceiling::At(1280 << 20)), "1280M");
        assert_eq!(format_memory(Ceiling::Infinity), "infinity");
        assert_eq!(format_cpu(Ceiling::At(1500)), "1.5");
        assert_eq!(format_cpu(Ceiling::At(2000)), "2");
        assert_eq!(format_cpu(Ceiling::At(10)), "0.01");
        assert_eq!(format_tasks(Ceiling::At(64)), "64");
        assert_eq!(format_duration(Duration::from_secs(90)), "1min 30s");
        assert_eq!(format_duration(Duration::from_millis(500)), "500ms");
        assert_eq!(format_duration(Duration::ZERO), "0s");
    }

    #[test]
    fn booleans_are_systemds() {
        assert_eq!(boolean("Yes"), Ok(true));
        assert_eq!(boolean("off"), Ok(false));
        assert_eq!(boolean("2"), Err("\"2\" is neither yes nor no (write yes or no)".to_owned()));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*", number in "[0-9]{0,30}(\\.[0-9]{0,30})?[KMGT%smhd]{0,3}", ram: u64) {
            for text in [&text, &number] {
                let _ = (memory(text, ram), swap(text, ram), cpu(text), weight(text), tasks(text, ram));
                let _ = (duration(text), boolean(text), number_of(text));
            }
        }

        #[test]
        fn a_ceiling_is_read_back(bytes in 4096u64.., shift in 0u32..40) {
            let bytes = (bytes >> shift).max(4096);
            prop_assert_eq!(memory(&format_memory(Ceiling::At(bytes)), RAM), Ok(Ceiling::At(bytes)));
        }

        #[test]
        fn a_round_ceiling_is_read_back(count in 1u64..4096, unit in 0usize..4) {
            let bytes = (count * UNITS[unit].1).max(4096);
            prop_assert_eq!(memory(&format_memory(Ceiling::At(bytes)), RAM), Ok(Ceiling::At(bytes)));
        }

        #[test]
        fn a_size_for_people_is_near(bytes in 4096u64..1 << 50, shift in 0u32..38) {
            let bytes = (bytes >> shift).max(4096);
            let Ok(Ceiling::At(read)) = memory(&format_size(bytes), RAM) else { panic!("is a size") };
            prop_assert!(read.abs_diff(bytes) <= bytes / 20 + 1, "{bytes} reads {}", format_size(bytes));
        }

        #[test]
        fn cpus_are_read_back(thousandths in 10u64..1_000_000) {
            prop_assert_eq!(cpu(&format_cpu(Ceiling::At(thousandths))), Ok(Ceiling::At(thousandths)));
        }

        #[test]
        fn durations_are_read_back(microseconds in 0u64..31_536_000_000_000) {
            let span = Duration::from_micros(microseconds);
            prop_assert_eq!(duration(&format_duration(span)), Ok(span));
        }
    }

    fn number_of(text: &str) -> Parsed<u64> {
        number(text, "a number", 0, 10)
    }

    #[test]
    fn metrics_stay_on_this_machine() {
        for (text, address) in [
            ("9464", "127.0.0.1:9464"),
            ("localhost:1", "127.0.0.1:1"),
            ("127.0.0.2:9464", "127.0.0.2:9464"),
            ("[::1]:9464", "[::1]:9464"),
        ] {
            assert_eq!(loopback(text), Ok(address.parse().unwrap()), "{text}");
        }
        for text in ["", "web", "127.0.0.1", "70000", "::1"] {
            let message =
                format!("{} is no port or loopback address (write 9464 or 127.0.0.1:9464)", quote(text));
            assert_eq!(loopback(text), Err(message));
        }
        let open = "\"0.0.0.0:9464\" is no loopback address, and whoever reaches it could read there \
                    (write 127.0.0.1:9464)";
        assert_eq!(loopback("0.0.0.0:9464"), Err(open.to_owned()));
    }
}
