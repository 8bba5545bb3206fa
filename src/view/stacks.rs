//! `lpm list`: the stacks that run, a line for each.

use super::state::Dot;
use super::table::{Column, Side, Worth, lay};
use super::text::{Ink, Text};
use super::{Look, moment, state};
use crate::control::interface::StackState;

/// A stack that runs, as far as is known without or after asking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackLine {
    /// The label shown to people.
    pub name: String,
    /// lpm's own process.
    pub pid: u32,
    /// When lpm started it, µs since the epoch.
    pub since: Option<u64>,
    /// Where its processes run.
    pub root: String,
    /// What it said of itself.
    pub answer: StackAnswer,
    /// How many of its instances run, and how many there are.
    pub running: Option<(usize, usize)>,
    /// Where it can be asked; `None`: it has no socket.
    pub socket: Option<String>,
}

/// What a stack said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StackAnswer {
    /// Its state.
    State(StackState),
    /// Nothing: lpm itself is stopped.
    Stopped,
    /// Nothing.
    None,
}

impl StackAnswer {
    fn dot(&self) -> Dot {
        match self {
            StackAnswer::State(state) => state::dot_of_the_stack(state),
            StackAnswer::Stopped => state::STANDS_STILL,
            StackAnswer::None => state::NOTHING,
        }
    }

    fn words(&self) -> &str {
        match self {
            StackAnswer::State(state) => state::of_the_stack(state),
            StackAnswer::Stopped => "stopped",
            StackAnswer::None => "does not answer",
        }
    }
}

/// The stacks, heading first, a newline after each line; `no stack runs` for none.
pub fn stacks(stacks: &[StackLine], now_usec: u64, look: &Look) -> String {
    let mut page = String::new();
    if stacks.is_empty() {
        Text::plain("no stack runs").write(look, &mut page);
        return page;
    }
    let cells = |text: &dyn Fn(&StackLine) -> Text| stacks.iter().map(text).collect::<Vec<Text>>();
    let any = |has: &dyn Fn(&StackLine) -> bool| stacks.iter().any(has);
    let known = |text: Option<String>| Text::plain(text.as_deref().unwrap_or("-"));
    let column = |heading, side, worth, cells| Some(Column { heading, side, worth, cells });
    let name = |stack: &StackLine| Text::of(Ink::Bold, &stack.name);
    let words = |stack: &StackLine| Text::of(stack.answer.dot().1, stack.answer.words());
    let running = |stack: &StackLine| known(stack.running.map(|(running, all)| format!("{running}/{all}")));
    let since = |stack: &StackLine| known(stack.since.map(|since| moment::ago(since, now_usec)));
    let pid = |stack: &StackLine| Text::plain(&stack.pid.to_string());
    let root = |stack: &StackLine| Text::plain(&stack.root);
    let socket = |stack: &StackLine| known(stack.socket.clone());
    // Of a path the end says most.
    let columns = [
        column("NAME", Side::Left, Worth::Stays { tail: 0, least: 16 }, cells(&name)),
        column("STATE", Side::Left, Worth::Rank(4), cells(&words)),
        column("RUNNING", Side::Right, Worth::Rank(1), cells(&running))
            .filter(|_| any(&|s| s.running.is_some())),
        column("SINCE", Side::Left, Worth::Rank(2), cells(&since)).filter(|_| any(&|s| s.since.is_some())),
        column("PID", Side::Right, Worth::Rank(3), cells(&pid)),
        column("ROOT", Side::Left, Worth::Stays { tail: usize::MAX, least: 20 }, cells(&root)),
        column("SOCKET", Side::Left, Worth::Rank(0), cells(&socket)).filter(|_| any(&|s| s.socket.is_some())),
    ];
    let dots = stacks.iter().map(|stack| stack.answer.dot());
    let dots = dots.map(|(dot, ink)| Text::of(ink, dot).and(Ink::Plain, " "));
    let rows = lay(columns.into_iter().flatten().collect(), look.width() - 2);
    for (dot, row) in std::iter::once(Text::blanks(2)).chain(dots).zip(rows) {
        dot.then(row).write(look, &mut page);
    }
    page
}
