//! Columns side by side, fewer of them where the terminal is narrow.

use super::text::{Ink, Text};

/// Blanks between two columns.
const GAP: usize = 2;

/// No column is cut to less than this.
const LEAST: usize = 6;

/// A column; all columns of a table have equally many cells.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) heading: &'static str,
    pub(super) side: Side,
    pub(super) worth: Worth,
    pub(super) cells: Vec<Text>,
}

/// Where cells stand that are narrower than their column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// What becomes of a column for which there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// It is left out, the lowest number first.
    Rank(u8),
    /// It stays, and its cells are cut, all but so many characters at their end.
    Stays(usize),
}

/// The heading and the rows, at most `width` wide.
pub(super) fn lay(mut columns: Vec<Column>, width: usize) -> Vec<Text> {
    let mut widths: Vec<usize> = columns.iter().map(Column::width).collect();
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
    let least = |columns: &[Column]| {
        let ranked = columns.iter().enumerate().filter_map(|(at, column)| match column.worth {
            Worth::Rank(rank) => Some((rank, at)),
            Worth::Stays(_) => None,
        });
        ranked.min().map(|(_, at)| at)
    };
    while total(&widths) > width {
        let Some(at) = least(&columns) else { break };
        columns.remove(at);
        widths.remove(at);
    }
    while total(&widths) > width {
        let Some(widest) = widths.iter_mut().max().filter(|widest| **widest > LEAST) else { break };
        *widest -= 1;
    }
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let mut lines = vec![Text::default(); rows + 1];
    for (at, (column, width)) in columns.into_iter().zip(widths).enumerate() {
        let tail = match column.worth {
            Worth::Rank(_) => 0,
            Worth::Stays(tail) => tail,
        };
        let cells = std::iter::once(Text::of(Ink::Bold, column.heading)).chain(column.cells);
        for (line, cell) in lines.iter_mut().zip(cells) {
            let cell = cell.cut_before(tail, width);
            let cell = match column.side {
                Side::Left => cell.padded(width),
                Side::Right => cell.to_the_right(width),
            };
            let gap = Text::blanks(if at == 0 { 0 } else { GAP });
            *line = std::mem::take(line).then(gap).then(cell);
        }
    }
    lines
}

impl Column {
    fn width(&self) -> usize {
        self.cells.iter().map(Text::width).max().unwrap_or(0).max(self.heading.chars().count())
    }
}
