//! Which lines are wanted of those that were said: from when to when, on which stream, how bad.
//!
//! Each condition costs the same for every line. Which words a line has is for the client to look at: a regular
//! expression costs what its author likes, and this runs in the supervisor (docs/decisions/grep-in-the-client.md).

use super::interface::{LineStream, LogsParameters};
use crate::meaning::level;
use crate::output::history::{Line, Origin};

/// What a line must be to be told.
#[derive(Debug, Default)]
pub struct Sieve {
    /// µs since the epoch, both ends included.
    since: Option<u64>,
    until: Option<u64>,
    stream: Option<LineStream>,
    /// The least bad priority.
    level: Option<u8>,
}

impl Sieve {
    /// # Errors
    /// What makes no sense, and what to write instead.
    pub fn new(parameters: &LogsParameters) -> Result<Sieve, String> {
        let LogsParameters { since, until, stream, level, .. } = parameters;
        if let Some(LineStream::Unknown(word)) = stream {
            return Err(format!("{word:?} is no stream (write out, err or lpm)"));
        }
        let least = |word: &String| {
            level::priority(word).ok_or_else(|| {
                format!("{word:?} is no level (write emerg, alert, crit, err, warning, notice, info, debug or 0 to 7)")
            })
        };
        Ok(Sieve {
            since: *since,
            until: *until,
            stream: stream.clone(),
            level: level.as_ref().map(least).transpose()?,
        })
    }

    /// Whether it lets everything through.
    pub fn is_open(&self) -> bool {
        let Sieve { since, until, stream, level } = self;
        since.is_none() && until.is_none() && stream.is_none() && level.is_none()
    }

    /// Whether nothing that comes after `now` can pass.
    pub fn is_over(&self, now: u64) -> bool {
        self.until.is_some_and(|until| until < now)
    }

    /// Whether it is wanted. `known`: its priority, where that is not to be read from the line.
    pub fn passes(&self, line: &Line, known: Option<u8>) -> bool {
        let priority = match line.origin {
            // Not looked for unless somebody asks.
            Origin::Instance(_) if self.level.is_some() => level::level(&line.text).0,
            Origin::Instance(_) | Origin::Lpm { .. } => level::INFO,
        };
        let priority = known.unwrap_or(priority);
        self.since.is_none_or(|since| line.time_usec >= since)
            && self.until.is_none_or(|until| line.time_usec <= until)
            && self.stream.as_ref().is_none_or(|wanted| *wanted == LineStream::from(line.origin))
            && self.level.is_none_or(|least| priority <= least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Stream;

    fn line(time_usec: u64, origin: Origin, text: &str) -> Line {
        Line { sequence: 0, time_usec, instance: "web.1".into(), origin, text: text.into(), continues: false }
    }

    fn sieve(set: impl FnOnce(&mut LogsParameters)) -> Sieve {
        let mut parameters = LogsParameters::default();
        set(&mut parameters);
        Sieve::new(&parameters).expect("it makes sense")
    }

    #[test]
    fn each_condition_must_hold() {
        let (out, err) = (Origin::Instance(Stream::Merged), Origin::Instance(Stream::Err));
        let lines = [
            line(1, out, "GET /a"),
            line(2, err, "ERROR: no disk"),
            line(3, Origin::Lpm { event: None }, "exited with code 3"),
            line(4, out, "<4>slow disk"),
        ];
        let passing = |sieve: Sieve| -> Vec<u64> {
            lines.iter().filter(|line| sieve.passes(line, None)).map(|line| line.time_usec).collect()
        };
        assert_eq!(passing(Sieve::default()), [1, 2, 3, 4]);
        assert_eq!(passing(sieve(|p| (p.since, p.until) = (Some(2), Some(3)))), [2, 3]);
        assert_eq!(passing(sieve(|p| p.stream = Some(LineStream::Err))), [2]);
        assert_eq!(passing(sieve(|p| p.stream = Some(LineStream::Lpm))), [3]);
        assert_eq!(passing(sieve(|p| p.level = Some("warning".into()))), [2, 4]);
        assert_eq!(passing(sieve(|p| p.level = Some("3".into()))), [2]);
        let both = sieve(|p| (p.stream, p.level) = (Some(LineStream::Err), Some("warning".into())));
        assert_eq!(passing(both), [2]);
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |set: &dyn Fn(&mut LogsParameters)| {
            let mut parameters = LogsParameters::default();
            set(&mut parameters);
            Sieve::new(&parameters).expect_err("it makes no sense")
        };
        assert_eq!(
            refused(&|p| p.stream = Some("stdout".into())),
            "\"stdout\" is no stream (write out, err or lpm)"
        );
        assert!(refused(&|p| p.level = Some("bad".into())).starts_with("\"bad\" is no level (write emerg, "));
    }
}
