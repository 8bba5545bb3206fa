//! `lpm top`: a stack as it goes, the instances' use of it, and what a person wants done.
//!
//! [`Top`] is all of it but the terminal: what was seen goes in, and keys; what comes out is a picture of any size, and
//! wishes. It asks nobody and waits for nothing, so that a test sees what a person sees.
//!
//! ```text
//!  ● shop  up for 2h 3min  3 of 4 running  tier full        the stack
//!  memory 312M/1G ██░░░░░░  cpu 45%  tasks 23
//!    NAME      STATE    MEMORY          CPU   …             a row for each instance
//!  ● web.1     running  52.3M/64M ██████░░  12%   …
//!  ── worker.1 ─────────────────────────────                what one has said, if it is wanted
//!  ↑↓ select  r restart  x stop  …                          what can be done, or what came of it
//! ```

pub mod keys;
pub mod paint;
mod rates;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier, Style};
use ratatui_core::text::{Line, Span};

use super::Look;
use super::lines::{content, on_one_line};
use super::text::{Ink, Text};
use crate::control::interface::{self, Instance, LineStream, Status, Verb};
use keys::Key;
pub use rates::Rates;
use rates::Seen;

/// What the rows are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// The order of the Procfile.
    File,
    Memory,
    Cpu,
    Io,
    Tasks,
    Restarts,
}

impl Sort {
    const ALL: [Sort; 6] = [Sort::File, Sort::Memory, Sort::Cpu, Sort::Io, Sort::Tasks, Sort::Restarts];

    fn word(self) -> &'static str {
        match self {
            Sort::File => "name",
            Sort::Memory => "memory",
            Sort::Cpu => "cpu",
            Sort::Io => "io",
            Sort::Tasks => "tasks",
            Sort::Restarts => "restarts",
        }
    }

    fn step(self, by: usize) -> Sort {
        let at = Sort::ALL.iter().position(|known| *known == self).unwrap_or(0);
        Sort::ALL[(at + by) % Sort::ALL.len()]
    }
}

/// What a key asks of whoever has the terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Only to be drawn anew.
    Draw,
    /// To leave.
    Quit,
    /// To stop ourselves, as a shell's job.
    Suspend,
    /// To have something done to an instance.
    Do(Verb, String),
    /// To see what this one says, or nobody.
    Read(Option<String>),
    /// To lend the terminal to this one.
    Attach(String),
}

/// What the next keys are for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    Table,
    Filter,
    Help,
    /// Whether this is meant.
    Sure(Verb, String),
}

/// What one has said.
#[derive(Debug)]
struct Pane {
    instance: String,
    lines: Vec<interface::Line>,
}

/// The whole of it.
#[derive(Debug)]
pub struct Top {
    status: Status,
    /// µs since the epoch.
    now: u64,
    seen: HashMap<String, Seen>,
    total: Seen,
    sort: Sort,
    reversed: bool,
    /// The sparkline is memory's, and not the CPU's.
    memory: bool,
    filter: String,
    /// By name, so that it stays with whom it was.
    selected: Option<String>,
    /// How many rows are above the first one that is shown.
    scrolled: usize,
    mode: Mode,
    pane: Option<Pane>,
    said: Option<String>,
}

impl Top {
    /// From the first look, at `now_usec`.
    pub fn new(status: Status, now_usec: u64) -> Top {
        let mut top = Top {
            status: Status { stack: status.stack.clone(), instances: Vec::new() },
            now: now_usec,
            seen: HashMap::new(),
            total: Seen::default(),
            sort: Sort::File,
            reversed: false,
            memory: false,
            filter: String::new(),
            selected: None,
            scrolled: 0,
            mode: Mode::Table,
            pane: None,
            said: None,
        };
        top.look(status, now_usec);
        top
    }

    /// Another look.
    pub fn look(&mut self, status: Status, now_usec: u64) {
        self.total.look(&status.stack.usage, None, now_usec);
        for one in &status.instances {
            // What is told of one that does not run is what all its lives have used.
            let life = one.pid.map(|_| one.invocation);
            self.seen.entry(one.name.clone()).or_default().look(&one.usage, life, now_usec);
        }
        self.seen.retain(|name, _| status.instances.iter().any(|one| one.name == *name));
        (self.status, self.now) = (status, now_usec);
        self.keep_selected();
    }

    /// What one of them uses at present; of the whole stack without a name.
    pub fn rates(&self, instance: Option<&str>) -> Rates {
        match instance {
            Some(name) => self.seen.get(name).map(Seen::rates).unwrap_or_default(),
            None => self.total.rates(),
        }
    }

    /// The newest look.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What came of something that was wished.
    pub fn say(&mut self, text: impl Into<String>) {
        self.said = Some(text.into());
    }

    /// What this one has said last, the oldest first. Of one that is not wanted any more it is not kept.
    pub fn read(&mut self, instance: &str, lines: Vec<interface::Line>) {
        if let Some(pane) = self.pane.as_mut().filter(|pane| pane.instance == instance) {
            pane.lines = lines;
        }
    }

    /// Those that are shown, in their order.
    fn shown(&self) -> Vec<&Instance> {
        let wanted = |one: &&Instance| {
            self.filter.is_empty()
                || one.name.contains(&self.filter)
                || one.state.as_str().contains(&self.filter)
        };
        let mut shown: Vec<&Instance> = self.status.instances.iter().filter(wanted).collect();
        let number = |one: &Instance| match self.sort {
            Sort::File => 0.0,
            Sort::Memory => one.usage.memory_current.unwrap_or(0) as f64,
            Sort::Cpu => self.rates(Some(&one.name)).cpu_percent.unwrap_or(0.0),
            Sort::Io => self.rates(Some(&one.name)).io(),
            Sort::Tasks => one.usage.tasks.unwrap_or(0) as f64,
            Sort::Restarts => f64::from(one.restarts),
        };
        // The largest first; those that are equal stay in the order of the file.
        shown.sort_by(|a, b| number(b).total_cmp(&number(a)));
        if self.reversed {
            shown.reverse();
        }
        shown
    }

    fn keep_selected(&mut self) {
        let shown: Vec<String> = self.shown().iter().map(|one| one.name.clone()).collect();
        if !self.selected.as_ref().is_some_and(|name| shown.contains(name)) {
            self.selected = shown.first().cloned();
        }
    }

    fn selected(&self) -> Option<&Instance> {
        let name = self.selected.as_ref()?;
        self.status.instances.iter().find(|one| one.name == *name)
    }

    fn step(&mut self, by: isize) {
        let shown: Vec<String> = self.shown().iter().map(|one| one.name.clone()).collect();
        let at = self.selected.as_ref().and_then(|name| shown.iter().position(|one| one == name));
        let to = at.unwrap_or(0).saturating_add_signed(by).min(shown.len().saturating_sub(1));
        self.selected = shown.get(to).cloned();
    }

    /// A key, and what it asks for.
    pub fn key(&mut self, key: Key) -> Wish {
        match (key, &self.mode) {
            (Key::Control('c'), _) => return Wish::Quit,
            (Key::Control('z'), _) => return Wish::Suspend,
            (Key::Control('l'), _) => return Wish::Draw,
            _ => {}
        }
        match std::mem::replace(&mut self.mode, Mode::Table) {
            Mode::Table => self.table_key(key),
            // Any key leaves it.
            Mode::Help => Wish::Draw,
            Mode::Sure(verb, name) => match key {
                Key::Char('y' | 'Y') => self.have_done(verb, name),
                _ => {
                    self.said = None;
                    Wish::Draw
                }
            },
            Mode::Filter => {
                match key {
                    Key::Escape => self.filter.clear(),
                    Key::Enter => {}
                    Key::Backspace => {
                        self.filter.pop();
                        self.mode = Mode::Filter;
                    }
                    Key::Char(c) => {
                        self.filter.push(c);
                        self.mode = Mode::Filter;
                    }
                    _ => self.mode = Mode::Filter,
                }
                self.keep_selected();
                Wish::Draw
            }
        }
    }

    fn table_key(&mut self, key: Key) -> Wish {
        const PAGE: isize = 10;
        self.said = None;
        match key {
            Key::Char('q') => return Wish::Quit,
            Key::Escape if self.pane.is_some() => {
                self.pane = None;
                return Wish::Read(None);
            }
            Key::Escape => self.filter.clear(),
            Key::Up | Key::Char('k') => return self.to(-1),
            Key::Down | Key::Char('j') => return self.to(1),
            Key::PageUp => return self.to(-PAGE),
            Key::PageDown => return self.to(PAGE),
            Key::Home => return self.to(isize::MIN),
            Key::End => return self.to(isize::MAX),
            Key::Char('s' | '>') => self.sort = self.sort.step(1),
            Key::Char('<') => self.sort = self.sort.step(Sort::ALL.len() - 1),
            Key::Char('S' | '!') => self.reversed = !self.reversed,
            Key::Char('m') => self.memory = !self.memory,
            Key::Char('/') => self.mode = Mode::Filter,
            Key::Char('?' | 'h') => self.mode = Mode::Help,
            Key::Char('l') | Key::Enter => return self.open_pane(),
            Key::Char(c) => {
                let Some(one) = self.selected() else { return Wish::Draw };
                let (name, frozen) = (one.name.clone(), one.state.is_frozen());
                return match c {
                    'r' => self.have_done(Verb::Restart, name),
                    'x' => self.have_done(Verb::Stop, name),
                    'u' => self.have_done(Verb::Start, name),
                    'f' => self.have_done(if frozen { Verb::Thaw } else { Verb::Freeze }, name),
                    'K' => {
                        self.mode = Mode::Sure(Verb::Kill, name);
                        Wish::Draw
                    }
                    'a' if one.pty => Wish::Attach(name),
                    'a' => {
                        self.say(format!(
                            "{name} has no terminal of its own (start it with --pty {})",
                            one.process.clone()
                        ));
                        Wish::Draw
                    }
                    _ => Wish::Draw,
                };
            }
            Key::Backspace | Key::Control(_) | Key::Other => {}
        }
        self.keep_selected();
        Wish::Draw
    }

    /// The pane goes along.
    fn to(&mut self, by: isize) -> Wish {
        self.step(by);
        match (&self.pane, &self.selected) {
            (Some(pane), Some(name)) if pane.instance != *name => self.open_pane(),
            _ => Wish::Draw,
        }
    }

    fn open_pane(&mut self) -> Wish {
        let Some(instance) = self.selected.clone() else { return Wish::Draw };
        self.pane = Some(Pane { instance: instance.clone(), lines: Vec::new() });
        Wish::Read(Some(instance))
    }

    fn have_done(&mut self, verb: Verb, name: String) -> Wish {
        self.say(format!("{name}: {} …", verb.word()));
        Wish::Do(verb, name)
    }

    /// The rows without the terminal's doing, for a pipe: each a line, at most as wide as `look` says.
    pub fn once(&self, look: &Look) -> String {
        let mut page = String::new();
        let shown = self.shown();
        rows::head(self, look.width()).into_iter().for_each(|line| line.write(look, &mut page));
        page.push('\n');
        rows::table(self, &shown, look.width()).into_iter().for_each(|line| line.write(look, &mut page));
        page
    }

    /// The picture on a terminal of this size.
    pub fn draw(&mut self, columns: u16, rows: u16) -> Buffer {
        let mut picture = Buffer::empty(Rect::new(0, 0, columns, rows));
        let width = usize::from(columns);
        if self.mode == Mode::Help {
            for (y, text) in (0..rows).zip(rows::help()) {
                put(&mut picture, y, text.cut(width));
            }
            return picture;
        }
        let mut head = rows::head(self, width);
        // On a very low terminal the rows matter.
        head.truncate(usize::from(rows / 6).clamp(1, 3));
        let mut y = 0;
        for text in head {
            put(&mut picture, y, text);
            y += 1;
        }
        let foot = rows.saturating_sub(1);
        // What one says has the lower half, where there is room for two.
        let pane = if self.pane.is_some() && rows >= 12 { (rows - y) / 2 } else { 0 };
        let room = usize::from(foot.saturating_sub(y + pane));
        self.draw_rows(&mut picture, y, room, width);
        if let Some(lines) = self.pane.as_ref().filter(|_| pane > 0) {
            draw_pane(&mut picture, lines, foot - pane, foot, width);
        }
        if rows > 1 {
            put(&mut picture, foot, rows::foot(self).cut(width));
        }
        picture
    }

    fn draw_rows(&mut self, picture: &mut Buffer, y: u16, room: usize, width: usize) {
        let shown = self.shown();
        let at = shown.iter().position(|one| Some(&one.name) == self.selected.as_ref()).unwrap_or(0);
        let visible = room.saturating_sub(1).max(1);
        let most = shown.len().saturating_sub(visible);
        let scrolled = self.scrolled.clamp((at + 1).saturating_sub(visible), at).min(most);
        let mut lines = rows::table(self, &shown, width).into_iter();
        let heading = lines.next();
        let lines: Vec<Text> = lines.skip(scrolled).take(visible).collect();
        if room > 1
            && let Some(heading) = heading
        {
            put(picture, y, heading);
        }
        let first = y + u16::from(room > 1);
        for (row, text) in (first..).zip(lines).take(room) {
            put(picture, row, text);
            if usize::from(row - first) + scrolled == at && !shown.is_empty() {
                picture.set_style(
                    Rect::new(0, row, picture.area.width, 1),
                    Style::new().add_modifier(Modifier::REVERSED),
                );
            }
        }
        if shown.is_empty() && room > 1 {
            let text = if self.filter.is_empty() { "  no instances" } else { "  nothing matches" };
            put(picture, first, Text::plain(text));
        }
        self.scrolled = scrolled;
    }
}

fn draw_pane(picture: &mut Buffer, pane: &Pane, from: u16, foot: u16, width: usize) {
    let title = format!("── {} ", pane.instance);
    let rule = "─".repeat(width.saturating_sub(title.chars().count()));
    put(picture, from, Text::of(Ink::Faint, &(title + &rule)).cut(width));
    let room = usize::from(foot - from).saturating_sub(1);
    let lines = &pane.lines[pane.lines.len().saturating_sub(room)..];
    for (y, line) in (from + 1..foot).zip(lines) {
        let ink = match line.stream {
            LineStream::Lpm => Ink::Bold,
            LineStream::Out | LineStream::Err | LineStream::Unknown(_) => Ink::Plain,
        };
        put(picture, y, Text::of(ink, &on_one_line(&content(line), width, false)));
    }
}

fn put(picture: &mut Buffer, y: u16, text: Text) {
    if y < picture.area.height {
        let width = picture.area.width;
        picture.set_line(0, y, &line(text), width);
    }
}

fn line(text: Text) -> Line<'static> {
    let style = |ink: Ink| match ink {
        Ink::Plain => Style::new(),
        Ink::Bold => Style::new().add_modifier(Modifier::BOLD),
        Ink::Faint => Style::new().add_modifier(Modifier::DIM),
        Ink::Green => Style::new().fg(Color::Green),
        Ink::Yellow => Style::new().fg(Color::Yellow),
        Ink::Red => Style::new().fg(Color::Red),
        Ink::Cyan => Style::new().fg(Color::Cyan),
    };
    let span = |(ink, text): (Ink, String)| Span::styled(text, style(ink));
    Line::from(text.into_pieces().into_iter().map(span).collect::<Vec<_>>())
}
