//! From one picture to the next, as what a terminal is sent: only the cells that differ.

use std::fmt::Write;

use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::style::{Color, Modifier};

/// From `before`, of the same size, or from an empty screen. `colour`: with colours; what stands out otherwise always
/// does.
pub fn paint(before: Option<&Buffer>, picture: &Buffer, colour: bool) -> Vec<u8> {
    let mut out = String::new();
    let empty;
    let before = match before.filter(|before| before.area == picture.area) {
        Some(before) => before,
        None => {
            out.push_str("\x1b[0m\x1b[?25l\x1b[H\x1b[2J");
            empty = Buffer::empty(picture.area);
            &empty
        }
    };
    let mut next = None;
    let mut style = String::new();
    for (x, y, cell) in before.diff(picture) {
        if next != Some((x, y)) {
            let _ = write!(out, "\x1b[{};{}H", y + 1, x + 1);
        }
        let wanted = sgr(cell, colour);
        if wanted != style {
            let _ = write!(out, "\x1b[0{wanted}m");
            style = wanted;
        }
        out.push_str(cell.symbol());
        // A wide character takes more; then the next one is moved to.
        next = cell.symbol().is_ascii().then_some((x + 1, y));
    }
    if !style.is_empty() {
        out.push_str("\x1b[0m");
    }
    out.into_bytes()
}

fn sgr(cell: &Cell, colour: bool) -> String {
    let mut sgr = String::new();
    for (modifier, number) in [(Modifier::BOLD, "1"), (Modifier::DIM, "2"), (Modifier::REVERSED, "7")] {
        if cell.modifier.contains(modifier) {
            sgr.push(';');
            sgr.push_str(number);
        }
    }
    let number = match cell.fg {
        Color::Red => "31",
        Color::Green => "32",
        Color::Yellow => "33",
        Color::Cyan => "36",
        _ => return sgr,
    };
    if colour {
        sgr.push(';');
        sgr.push_str(number);
    }
    sgr
}
