//! How much of a ceiling is used: as two numbers, and as a bar.

use super::text::{Ink, Text};

/// Cells of a bar.
const CELLS: u64 = 8;

/// An amount and its ceiling, each as text; `None` where nothing is counted, or nothing limits.
pub(super) type Pair = (Option<String>, Option<String>);

/// `12.3M/64M`; `12.3M` without a ceiling, `-/64M` without a count, nothing without either.
pub(super) fn pair((now, ceiling): Pair) -> Option<String> {
    match (now, ceiling) {
        (now, Some(ceiling)) => Some(format!("{}/{ceiling}", now.as_deref().unwrap_or("-"))),
        (now, None) => now,
    }
}

/// The same one under the other, with the slashes in one column; `-` for what is not counted: the ceiling of one
/// that does not run says nothing about it.
pub(super) fn pairs(pairs: Vec<Pair>) -> Vec<Text> {
    let left = |(now, _): &Pair| now.as_ref().map_or(1, |text| text.chars().count());
    let width = pairs.iter().map(left).max().unwrap_or(0);
    let one = |both: Pair| {
        let blanks = width - left(&both);
        let text = if both.0.is_some() { pair(both) } else { None };
        let text = text.unwrap_or_else(|| "-".to_owned());
        Text::blanks(blanks).then(Text::plain(&text))
    };
    pairs.into_iter().map(one).collect()
}

/// `███░░░░░`, in the colour of how near the ceiling is. Rounded, but full only at the ceiling, and empty only at
/// nothing.
pub(super) fn bar(now: u64, ceiling: u64) -> Text {
    let (now, ceiling) = (u128::from(now), u128::from(ceiling.max(1)));
    let cells = u128::from(CELLS);
    let rounded = (now * cells + ceiling / 2) / ceiling;
    let filled = if now == 0 {
        0
    } else if now >= ceiling {
        cells
    } else {
        rounded.clamp(1, cells - 1)
    };
    let filled = usize::try_from(filled).expect("at most the cells of a bar");
    let ink = match now * 100 / ceiling {
        0..75 => Ink::Green,
        75..90 => Ink::Yellow,
        90.. => Ink::Red,
    };
    Text::of(ink, &"█".repeat(filled)).and(Ink::Faint, &"░".repeat(CELLS as usize - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_neither_full_nor_empty_by_rounding() {
        for (now, text) in
            [(0, "░░░░░░░░"), (1, "█░░░░░░░"), (500, "████░░░░"), (999, "███████░"), (1000, "████████")]
        {
            let ink = if now > 900 { Ink::Red } else { Ink::Green };
            let filled: String = text.chars().filter(|&cell| cell == '█').collect();
            let empty: String = text.chars().filter(|&cell| cell == '░').collect();
            assert_eq!(bar(now, 1000), Text::of(ink, &filled).and(Ink::Faint, &empty), "{now}");
        }
        assert_eq!(bar(5, 0), Text::of(Ink::Red, "████████"));
        assert_eq!(bar(u64::MAX, u64::MAX), Text::of(Ink::Red, "████████"));
    }

    #[test]
    fn slashes_stand_in_one_column() {
        let text = |text: &str| Some(text.to_owned());
        let shown =
            pairs(vec![(text("12.3M"), text("64M")), (text("1M"), None), (None, text("1G")), (None, None)]);
        let want = ["12.3M/64M", "   1M", "    -", "    -"];
        for (shown, want) in shown.iter().zip(want) {
            assert_eq!(shown.width(), want.len(), "{want}");
        }
    }
}
