//! Columns side by side, fewer of them where the terminal is narrow.

use super::text::{Ink, Text};

/// Blanks between two columns.
const GAP: usize = 2;

/// No column is cut to less than this, whatever the terminal.
const BOTTOM: usize = 6;

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
    /// It is left out, the lowest number first; 0 before anything is cut.
    Rank(u8),
    /// It stays, and its cells are cut, all but the `tail` characters at their end. The others go before it is cut
    /// to less than `least`.
    Stays { tail: usize, least: usize },
}

/// The heading and the rows, at most `width` wide.
pub(super) fn lay(mut columns: Vec<Column>, width: usize) -> Vec<Text> {
    let widths = loop {
        let (rank, worst) = columns.iter().enumerate().filter_map(ranked).min().unzip();
        let floor = match rank {
            Some(0) => Floor::Whole,
            Some(_) => Floor::Least,
            None => Floor::Bottom,
        };
        match (fitted(&columns, width, floor), worst) {
            (Some(widths), _) => break widths,
            (None, Some(worst)) => drop(columns.remove(worst)),
            // Nothing is left to give; whoever writes the lines cuts them.
            (None, None) => break columns.iter().map(Column::width).collect(),
        }
    };
    let rows = columns.first().map_or(0, |column| column.cells.len());
    let mut lines = vec![Text::default(); rows + 1];
    for (at, (column, width)) in columns.into_iter().zip(widths).enumerate() {
        let tail = match column.worth {
            Worth::Rank(_) => 0,
            Worth::Stays { tail, .. } => tail,
        };
        let cells = std::iter::once(Text::of(Ink::Bold, column.heading)).chain(column.cells);
        for (line, cell) in lines.iter_mut().zip(cells) {
            let cell = cell.cut_before(tail, width);
            let cell = match column.side {
                Side::Left => cell.padded(width),
                Side::Right => cell.flush_right(width),
            };
            let gap = Text::blanks(if at == 0 { 0 } else { GAP });
            *line = std::mem::take(line).then(gap).then(cell);
        }
    }
    lines
}

/// How far the columns that stay may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Floor {
    Whole,
    Least,
    Bottom,
}

/// The widths of the columns, if there are any with which they fit. The widest of those that stay gives first.
fn fitted(columns: &[Column], width: usize, floor: Floor) -> Option<Vec<usize>> {
    let mut widths: Vec<usize> = columns.iter().map(Column::width).collect();
    let gaps = GAP * columns.len().saturating_sub(1);
    let floors = columns.iter().map(|column| match (column.worth, floor) {
        (Worth::Rank(_), _) | (_, Floor::Whole) => usize::MAX,
        (Worth::Stays { least, .. }, Floor::Least) => least,
        (Worth::Stays { .. }, Floor::Bottom) => BOTTOM,
    });
    let floors: Vec<usize> = floors.collect();
    while widths.iter().sum::<usize>() + gaps > width {
        let givers = widths.iter_mut().zip(&floors).filter(|(width, floor)| **width > **floor);
        *givers.map(|(width, _)| width).max()? -= 1;
    }
    Some(widths)
}

fn ranked((at, column): (usize, &Column)) -> Option<(u8, usize)> {
    match column.worth {
        Worth::Rank(rank) => Some((rank, at)),
        Worth::Stays { .. } => None,
    }
}

impl Column {
    fn width(&self) -> usize {
        self.cells.iter().map(Text::width).max().unwrap_or(0).max(self.heading.chars().count())
    }
}
