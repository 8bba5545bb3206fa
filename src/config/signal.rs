//! Signal names: any case, with or without `SIG`, or a number; written back as `SIGTERM`.
//!
//! The numbers are Linux's on x86, ARM, RISC-V, POWER and s390 (signal(7)). 32 and 33 belong to the C
//! library's threads and are refused.

use std::fmt;
use std::str::FromStr;

use super::error::quote;
use super::stack::Signal;

/// Names without `SIG`, the one to write first. The numbers are those of signal(7), column x86/ARM.
const NAMES: [(&str, i32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// `SIGRTMIN` as programs see it: the C library keeps two for itself.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

impl Signal {
    /// Ends what does not handle it; the default stop signal.
    pub const TERM: Self = Self(15);
    /// Ends anything.
    pub const KILL: Self = Self(9);

    /// `TERM`, `RTMIN+3`: the name without `SIG`; `None` for a number without a name.
    pub fn name(self) -> Option<String> {
        match self.0 {
            RTMIN => Some("RTMIN".to_owned()),
            RTMAX => Some("RTMAX".to_owned()),
            number if (RTMIN..=RTMAX).contains(&number) => Some(format!("RTMIN+{}", number - RTMIN)),
            number => NAMES.iter().find(|&&(_, n)| n == number).map(|&(name, _)| name.to_owned()),
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Signal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| {
            format!(
                "{} is not a signal (write a name such as TERM, SIGQUIT or RTMIN+3, or a number)",
                quote(text)
            )
        })
    }
}

fn parse(text: &str) -> Option<Signal> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = if let Some(&(_, number)) = NAMES.iter().find(|&&(known, _)| known == name) {
        number
    } else if let Some(offset) = name.strip_prefix("RTMIN") {
        RTMIN + if offset.is_empty() { 0 } else { digits(offset.strip_prefix('+')?)? }
    } else if let Some(offset) = name.strip_prefix("RTMAX") {
        RTMAX - if offset.is_empty() { 0 } else { digits(offset.strip_prefix('-')?)? }
    } else {
        let number = digits(&upper)?;
        return (matches!(number, 1..=31) || (RTMIN..=RTMAX).contains(&number)).then_some(Signal(number));
    };
    // An offset may not lead out of the real-time signals.
    (matches!(number, 1..=31) && !name.starts_with("RT") || (RTMIN..=RTMAX).contains(&number))
        .then_some(Signal(number))
}

fn digits(text: &str) -> Option<i32> {
    let plain = !text.is_empty() && text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_spellings_any_case_and_all_signals_are_accepted() {
        for (text, number) in [
            ("QUIT", 3),
            ("SIGQUIT", 3),
            ("sigquit", 3),
            ("Hup", 1),
            ("15", 15),
            ("iot", 6),
            ("RTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("rtmax-1", 63),
            ("64", 64),
        ] {
            assert_eq!(text.parse(), Ok(Signal(number)), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for text in
            ["", "SIG", "0", "65", "32", "33", "-1", "+5", "SIG9", "RTMIN+31", "RTMIN-1", "RTMAX-31", "TREM"]
        {
            let refusal = text.parse::<Signal>().expect_err(text);
            assert!(refusal.starts_with(&format!("\"{text}\" is not a signal")), "{refusal}");
        }
    }

    #[test]
    fn names_are_written_with_sig() {
        assert_eq!(Signal::TERM.to_string(), "SIGTERM");
        assert_eq!(Signal(37).to_string(), "SIGRTMIN+3");
        assert_eq!(Signal(64).to_string(), "SIGRTMAX");
        assert_eq!(Signal(32).to_string(), "32");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(number in prop_oneof![1i32..=31, 34i32..=64]) {
            prop_assert_eq!(Signal(number).to_string().parse(), Ok(Signal(number)));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Signal>();
        }
    }
}
