//! Pictures, kept in `snapshots/`, and what keys do.

use proptest::prelude::*;

use super::super::tests::{MIB, NOW, SECOND, Snapshot, instance, stack};
use super::*;
use crate::control::interface::{Ceilings, Usage};

fn usage(memory: Option<u64>, cpu_usec: u64) -> Usage {
    Usage {
        memory_current: memory,
        cpu_usec: Some(cpu_usec),
        throttled_usec: Some(cpu_usec / 5),
        tasks: Some(3),
        io_read: memory.map(|_| cpu_usec),
        io_written: memory.map(|_| cpu_usec / 2),
        memory_pressure: Some(if memory > Some(60 * MIB) { 12.5 } else { 0.0 }),
        ..Usage::default()
    }
}

/// Looked at so many times. `counted`: memory and what goes through devices is.
fn top(looks: u64, counted: bool) -> Top {
    let status = |look: u64| {
        let memory = |mib: u64| counted.then_some(mib * MIB);
        let mut web = instance("web.1");
        web.usage = usage(memory(52 + look % 3), look * 120_000);
        web.ceilings = Ceilings { memory_max: Some(64 * MIB), cpu_quota: Some(500), ..Ceilings::default() };
        web.command = "bin/server --port $PORT\x1b[2J --workers 4 --with-a-very-long-option".into();
        let mut worker = instance("worker.1");
        worker.usage = usage(memory(300), look * 900_000 + look % 2 * 400_000);
        worker.restarts = 2;
        let mut clock = instance("clock.1");
        clock.usage = usage(memory(1), look * 10);
        (clock.state, clock.pty) = ("frozen".into(), true);
        let mut gone = instance("urgent.1");
        (gone.state, gone.pid, gone.result) = ("failed".into(), None, Some("oom-kill".into()));
        gone.usage = Usage { cpu_usec: Some(5 * SECOND), ..Usage::default() };
        let mut stack = stack();
        stack.usage = usage(counted.then_some(353 * MIB), look * 1_020_010);
        stack.tier = if counted { "full" } else { "tracking" }.into();
        Status { stack, instances: vec![web, worker, clock, gone] }
    };
    let mut top = Top::new(status(0), NOW);
    (1..looks).for_each(|look| top.look(status(look), NOW + look * SECOND));
    top
}

/// The picture as lines, with what is selected marked.
fn picture(top: &mut Top, columns: u16, rows: u16) -> String {
    let picture = top.draw(columns, rows);
    let mut text = String::new();
    for y in 0..rows {
        let mut line = String::new();
        for x in 0..columns {
            line.push_str(picture[(x, y)].symbol());
        }
        let chosen = picture[(0, y)].modifier.contains(Modifier::REVERSED);
        text.push_str(if chosen { ">" } else { "|" });
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn said(name: &str) -> Vec<interface::Line> {
    let line = |n: u64| interface::Line {
        sequence: n,
        time: NOW,
        instance: name.into(),
        stream: if n == 0 { "lpm" } else { "out" }.into(),
        text: format!("line {n} \x1b[31mof\x1b[0m {name}\x07"),
        bytes: None,
        part: false,
    };
    (0..50).map(line).collect()
}

#[test]
fn pictures() {
    let mut kept = Snapshot::new("top.txt");
    kept.add_as_it_is("80x24", &picture(&mut top(30, true), 80, 24));
    kept.add_as_it_is("200x60", &picture(&mut top(30, true), 200, 60));
    kept.add_as_it_is("40x12", &picture(&mut top(30, true), 40, 12));
    kept.add_as_it_is("20x3", &picture(&mut top(30, true), 20, 3));
    kept.add_as_it_is("the first look", &picture(&mut top(1, true), 80, 12));
    kept.add_as_it_is("where memory is not counted", &picture(&mut top(30, false), 80, 12));
    let mut busy = top(30, true);
    busy.key(Key::Char('s'));
    assert_eq!(busy.key(Key::Char('l')), Wish::Read(Some("web.1".into())));
    busy.read("web.1", said("web.1"));
    kept.add_as_it_is("by memory, with what one says", &picture(&mut busy, 80, 24));
    busy.key(Key::Char('/'));
    "wor".chars().for_each(|c| drop(busy.key(Key::Char(c))));
    kept.add_as_it_is("a filter", &picture(&mut busy, 80, 10));
    busy.key(Key::Enter);
    busy.key(Key::Char('K'));
    kept.add_as_it_is("whether it is meant", &picture(&mut busy, 80, 10));
    busy.key(Key::Char('n'));
    busy.key(Key::Char('?'));
    kept.add_as_it_is("help", &picture(&mut busy, 80, 24));
    let look = Look { columns: 80, colour: false, terminal: false };
    kept.add_as_it_is("once", &top(2, true).once(&look));
    kept.assert();
}

#[test]
fn keys_become_wishes() {
    let mut top = top(3, true);
    assert_eq!(top.key(Key::Char('r')), Wish::Do(Verb::Restart, "web.1".into()));
    assert_eq!(top.key(Key::End), Wish::Draw);
    assert_eq!(top.key(Key::Char('u')), Wish::Do(Verb::Start, "urgent.1".into()));
    top.key(Key::Up);
    assert_eq!(top.key(Key::Char('f')), Wish::Do(Verb::Thaw, "clock.1".into()), "it is frozen");
    assert_eq!(top.key(Key::Char('a')), Wish::Attach("clock.1".into()));
    top.key(Key::Home);
    assert_eq!(top.key(Key::Char('a')), Wish::Draw, "it has no terminal");
    assert!(top.said.as_ref().is_some_and(|said| said.contains("no terminal of its own")));
    assert_eq!(top.key(Key::Char('K')), Wish::Draw, "asked first");
    assert_eq!(top.key(Key::Enter), Wish::Draw);
    assert_eq!(top.key(Key::Enter), Wish::Read(Some("web.1".into())), "that was no yes");
    assert_eq!(top.key(Key::Down), Wish::Read(Some("worker.1".into())), "the pane goes along");
    assert_eq!(top.key(Key::Escape), Wish::Read(None));
    top.key(Key::Char('K'));
    assert_eq!(top.key(Key::Char('y')), Wish::Do(Verb::Kill, "worker.1".into()));
    assert_eq!((top.key(Key::Control('z')), top.key(Key::Char('q'))), (Wish::Suspend, Wish::Quit));
}

#[test]
fn the_selection_stays_with_whom_it_was() {
    let mut top = top(3, true);
    top.key(Key::Down);
    top.key(Key::Char('>'));
    assert_eq!(top.shown()[0].name, "worker.1", "the largest first");
    assert_eq!(top.selected.as_deref(), Some("worker.1"));
    top.key(Key::Char('!'));
    assert_eq!(top.shown()[3].name, "worker.1");
    assert_eq!(top.selected.as_deref(), Some("worker.1"));
    let mut status = top.status().clone();
    status.instances.retain(|one| one.name != "worker.1");
    top.look(status, NOW + 100 * SECOND);
    assert!(top.selected.is_some_and(|name| name != "worker.1"), "one that is gone is not");
}

#[test]
fn many_rows_scroll() {
    let mut top = top(2, true);
    let mut status = top.status().clone();
    let one = status.instances[0].clone();
    status.instances = (0..200).map(|n| Instance { name: format!("web.{n}"), ..one.clone() }).collect();
    top.look(status, NOW + 10 * SECOND);
    top.key(Key::End);
    assert!(picture(&mut top, 80, 24).contains(">● web.199"));
    top.key(Key::PageUp);
    let shown = picture(&mut top, 80, 24);
    assert!(shown.contains(">● web.189") && shown.contains("web.199"), "{shown}");
    top.key(Key::Home);
    assert!(picture(&mut top, 80, 24).contains(">● web.0 "));
}

fn screen() -> vt100::Parser {
    let size = |n: u16| std::num::NonZero::new(n).expect("not 0");
    vt100::Parser::new(size(24), size(80), 0)
}

#[test]
fn only_what_differs_is_sent() {
    let mut top = top(2, true);
    let first = top.draw(80, 24);
    let all = paint::paint(None, &first, true);
    let mut shown = screen();
    shown.process(&all);
    assert!(shown.screen().contents().contains("web.1"));
    assert!(paint::paint(Some(&first), &first, true).is_empty());
    top.key(Key::Down);
    let second = top.draw(80, 24);
    let more = paint::paint(Some(&first), &second, true);
    assert!(more.len() < all.len() && !more.is_empty());
    shown.process(&more);
    let mut anew = screen();
    anew.process(&paint::paint(None, &second, true));
    let cells = |screen: &vt100::Screen| {
        let cell = |y: u16, x: u16| {
            let cell = screen.cell(y, x).expect("it is that large");
            (cell.contents().trim().to_owned(), cell.inverse())
        };
        (0..24).flat_map(|y| (0..80).map(move |x| (y, x))).map(|(y, x)| cell(y, x)).collect::<Vec<_>>()
    };
    assert!(cells(shown.screen()) == cells(anew.screen()), "{}", shown.screen().contents());
    let plain = String::from_utf8(paint::paint(None, &second, false)).expect("text");
    assert!(
        !plain.contains("\x1b[0;3") && plain.contains("\x1b[0;7m"),
        "no colours, but what is selected: {plain:?}"
    );
}

proptest! {
    #[test]
    fn any_size_and_any_keys_make_a_picture(
        sizes in prop::collection::vec((1u16..250, 1u16..80), 1..6),
        typed in prop::collection::vec(prop_oneof![Just(b'/'), Just(b'\x1b'), Just(b'l'), Just(b'K'), any::<u8>()], 0..60),
    ) {
        let mut top = top(3, true);
        for (columns, rows) in sizes {
            for key in keys::keys(&typed) {
                top.key(key);
            }
            let picture = top.draw(columns, rows);
            prop_assert_eq!((picture.area.width, picture.area.height), (columns, rows));
            let symbols = picture.content.iter().map(|cell| cell.symbol());
            prop_assert!(!symbols.flat_map(str::chars).any(char::is_control));
        }
    }
}
