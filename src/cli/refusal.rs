//! A command line that is wrong, in lpm's own voice: what is wrong, and what to write instead.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// What clap refuses, as one line; where it has no words of its own for it, clap's first line.
pub fn refusal(error: &clap::Error) -> String {
    let text = |kind| error.get(kind).map(words).filter(|text| !text.is_empty());
    let argument = text(ContextKind::InvalidArg).map(|text| plain(&text)).unwrap_or_default();
    // Of several suggestions the last one is the nearest.
    let suggested = |kind, otherwise: &str| match error.get(kind) {
        Some(ContextValue::Strings(near)) if !near.is_empty() => format!("write {}", near[near.len() - 1]),
        Some(ContextValue::String(near)) if !near.is_empty() => format!("write {near}"),
        Some(_) | None => otherwise.to_owned(),
    };
    let usage = "see lpm --help";
    match error.kind() {
        ErrorKind::UnknownArgument => {
            format!(
                "unknown argument {} ({})",
                quoted(&argument),
                suggested(ContextKind::SuggestedArg, usage)
            )
        }
        ErrorKind::InvalidSubcommand => {
            let command = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let hint = suggested(ContextKind::SuggestedSubcommand, usage);
            format!("unknown command {} ({hint})", quoted(&command))
        }
        ErrorKind::MissingRequiredArgument => format!("{argument} is missing ({usage})"),
        ErrorKind::InvalidValue => match text(ContextKind::InvalidValue) {
            Some(value) => {
                let near = suggested(ContextKind::SuggestedValue, "");
                let known = text(ContextKind::ValidValue).map(|known| format!("write one of {known}"));
                let hint = known.unwrap_or_else(|| if near.is_empty() { usage.to_owned() } else { near });
                format!("{argument}: {} is not known ({hint})", quoted(&value))
            }
            None => format!("{} has no value (write {argument})", first_word(&argument)),
        },
        ErrorKind::ValueValidation => {
            let value = text(ContextKind::InvalidValue).unwrap_or_default();
            format!("{argument}: {} is not valid ({usage})", quoted(&value))
        }
        ErrorKind::TooFewValues | ErrorKind::WrongNumberOfValues => {
            format!("{argument} has too few values ({usage})")
        }
        _ => first_line(error),
    }
}

/// `--procfile <FILE>` as `--procfile FILE`.
fn plain(argument: &str) -> String {
    argument.replace(['<', '>'], "")
}

fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn words(value: &ContextValue) -> String {
    match value {
        ContextValue::String(text) => text.clone(),
        ContextValue::Strings(texts) => texts.join(", "),
        other => other.to_string(),
    }
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or(text)
}

/// In double quotes, control characters escaped: what was typed may be anything.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_debug())
}
