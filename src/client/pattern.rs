//! The regular expression of `lpm logs --grep`, matched by the client (docs/decisions/grep-in-the-client.md).

use regex::{RegexSet, RegexSetBuilder};

/// The largest compiled expression, in bytes: `\w{200}` fits, with all letters of Unicode.
const LARGEST: usize = 10 << 20;

/// How much of an expression an error repeats, in characters.
const REPEATED: usize = 60;

/// A regular expression over the text of lines.
#[derive(Debug)]
pub struct Pattern {
    /// A set of one, because a set has no capture groups: with them an engine reserves states × groups, which is 1 GiB
    /// for the 15 KB of `(a)(a)(a)...`.
    set: RegexSet,
}

impl Pattern {
    /// Compiles `text`. As with journalctl, lower case means both cases.
    ///
    /// # Errors
    /// It is no expression, or one that is too large; what to write instead.
    pub fn new(text: &str) -> Result<Pattern, String> {
        let built = RegexSetBuilder::new([text])
            .case_insensitive(!text.contains(char::is_uppercase))
            .size_limit(LARGEST)
            .build();
        built.map(|set| Pattern { set }).map_err(|error| refusal(text, &error))
    }

    /// Whether it matches anywhere in the text of a line.
    pub fn matches(&self, text: &str) -> bool {
        self.set.is_match(text)
    }
}

fn refusal(text: &str, error: &regex::Error) -> String {
    let mut shown: String = text.chars().take(REPEATED).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    match error {
        regex::Error::CompiledTooBig(_) => {
            let most = LARGEST >> 20;
            format!("{shown:?} is too large: compiled it takes more than {most} MiB (write a shorter one)")
        }
        // The expression with a caret below it, and then a line with the reason.
        error => {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default();
            format!("{shown:?} is no regular expression: {}", reason.trim_start_matches("error: "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lower_case_means_both_cases() {
        let matches = |pattern: &str, text: &str| Pattern::new(pattern).expect(pattern).matches(text);
        assert!(matches("get", "GET /a") && matches("grün", "GRÜN") && matches("^get", "get"));
        assert!(!matches("Get", "GET /a") && !matches("disk$", "disks"));
        assert!(matches("", "") && matches("", "anything"));
        assert!(matches(r"^\w+$", "größe") && matches(r"\d{2,4}", "in 1970"));
    }

    #[test]
    fn the_reason_of_a_refusal_is_on_one_line() {
        let refused = |pattern: &str| Pattern::new(pattern).expect_err(pattern);
        assert_eq!(refused("a("), "\"a(\" is no regular expression: unclosed group");
        assert_eq!(refused("\x1b[31m"), "\"\\u{1b}[31m\" is no regular expression: unclosed character class");
        let long = refused(&format!("{}(", "x".repeat(200)));
        assert!(long.starts_with(&format!("\"{}…\" is no regular", "x".repeat(REPEATED))), "{long}");
    }

    #[test]
    fn an_expression_is_compiled_up_to_its_limit() {
        let large = |count: usize| Pattern::new(&format!("(?:{})", r"\w".repeat(count)));
        assert!(large(150).is_ok());
        let refused = large(1000).expect_err("it is too large");
        assert!(refused.ends_with("compiled it takes more than 10 MiB (write a shorter one)"), "{refused}");
        // Short ones that are large: counts within counts.
        assert!(Pattern::new("(?:(?:x{0,1000}){0,1000}){0,1000}").is_err());
        // Groups are not what makes one large.
        assert!(Pattern::new(&"(a)".repeat(5000)).expect("it is small").matches(&"a".repeat(5000)));
    }
}
