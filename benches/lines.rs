//! What the log path costs: cutting, presenting, and the whole way from a pipe through the log thread into a pipe,
//! beside a loop that does the least possible (no time, no names to pad, no orders, no long lines).
//!
//! `cargo bench --bench lines`. Figures of one run belong together; the machine moves them by more than the code does.

#![expect(clippy::disallowed_methods, reason = "a bench that can make no thread has failed")]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::thread;

use lpm::output::history::{BYTES_PER_INSTANCE, History};
use lpm::output::lines::{Cutter, Piece};
use lpm::output::terminal::{Clock, Escaper, Prefix};
use lpm::output::{CHUNK, Label, Layout, Log, LogFiles, Sinks, Source, SourceId, Stream, Treatment, pipe};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{ClockId, clock_gettime};

const LAYOUT: Layout =
    Layout { width: 6, timestamps: true, prefix: true, colour: false, escape_controls: false, json: false };

fn main() {
    for length in [20, 100, 1000] {
        in_memory(length);
    }
    for writers in [1, 10] {
        whole_way(writers, 100 << 20, None);
        whole_way(writers, 100 << 20, Some(BYTES_PER_INSTANCE));
    }
}

/// Seconds since some point in the past.
fn now() -> f64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as f64 + t.tv_nsec as f64 / 1e9
}

/// The best of some rounds, in MB/s.
fn best(bytes: usize, mut round: impl FnMut()) -> f64 {
    let seconds = (0..5).map(|_| {
        let start = now();
        round();
        now() - start
    });
    bytes as f64 / 1e6 / seconds.fold(f64::INFINITY, f64::min)
}

fn text(length: usize, bytes: usize) -> Vec<u8> {
    let line = [vec![b'x'; length - 1], vec![b'\n']].concat();
    line.into_iter().cycle().take(bytes).collect()
}

fn in_memory(length: usize) {
    // Once through the cache, as a pipe's bytes are.
    const ROUNDS: usize = 1000;
    let chunk = text(length, CHUNK);
    let bytes = ROUNDS * chunk.len();
    let mut out = Vec::with_capacity(8 * CHUNK);
    let cut = best(bytes, || {
        let (mut cutter, mut lines) = (Cutter::default(), 0);
        (0..ROUNDS).for_each(|_| cutter.feed(std::hint::black_box(&chunk), |_| lines += 1));
        std::hint::black_box(lines);
    });
    let mut clock = Clock::default();
    clock.tick(clock_gettime(ClockId::Realtime).tv_sec);
    let mut prefix = Prefix::new(&LAYOUT, &Label::instance("web.1", 0), Stream::Merged);
    let mut present = |escape: bool| {
        let (mut cutter, mut escaper) = (Cutter::default(), Escaper::default());
        best(bytes, || {
            for _ in 0..ROUNDS {
                out.clear();
                cutter.feed(std::hint::black_box(&chunk), |piece| {
                    let (Piece::Whole(t) | Piece::Start(t) | Piece::More(t) | Piece::End(t)) = piece;
                    out.extend_from_slice(prefix.at(&clock));
                    if escape {
                        escaper.show(t, |bytes| out.extend_from_slice(bytes));
                    } else {
                        out.extend_from_slice(t);
                    }
                });
            }
        })
    };
    let (exact, escaped) = (present(false), present(true));
    println!(
        "lines of {length:4} bytes: cut {cut:6.0} MB/s   cut, present {exact:6.0} MB/s   for a terminal {escaped:6.0} MB/s"
    );
}

/// `kept`: with a history of so many bytes for each.
fn whole_way(writers: usize, bytes: usize, kept: Option<usize>) {
    let (mut ours, mut least) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        ours.push(flood(writers, bytes, |sources, out| {
            let history = kept.map(|bytes| History::new(bytes, false));
            let sinks = Sinks {
                stdout: out,
                shown: lpm::output::Shown::All,
                layout: LAYOUT,
                history,
                files: LogFiles::default(),
            };
            let log = Log::start(sinks, Box::new(|_| ())).expect("a thread");
            for (n, fd) in sources.into_iter().enumerate() {
                let label = Label::instance(&format!("web.{n}"), n);
                let id = SourceId(n as u64);
                let (stream, treatment) = (Stream::Merged, Treatment::Print);
                log.open(Source { id, label, stream, treatment, life: 1, screen: None }, fd);
            }
            log
        }));
        least.push(flood(writers, bytes, |sources, out| thread::spawn(|| pump(sources, out))));
    }
    let median = |all: &mut Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let (ours, least) = (median(&mut ours), median(&mut least));
    println!(
        "{writers:2} writers, through pipes{}: {ours:6.0} MB/s   the least possible {least:6.0} MB/s   ratio {:.2}",
        if kept.is_some() { ", with history" } else { "" },
        ours / least
    );
}

/// MB/s from the writers' first byte until the last line has come out.
fn flood<T>(writers: usize, bytes: usize, start: impl FnOnce(Vec<OwnedFd>, OwnedFd) -> T) -> f64 {
    let (sources, sinks): (Vec<_>, Vec<_>) = (0..writers).map(|_| pipe().expect("a pipe")).unzip();
    let (out, stdout) = rustix::pipe::pipe().expect("a pipe");
    let each = bytes / writers;
    let since = now();
    let running = start(sources, stdout);
    for sink in sinks {
        thread::spawn(move || {
            let block = text(100, 8000);
            let mut sink = std::fs::File::from(sink);
            (0..each / block.len()).for_each(|_| sink.write_all(&block).expect("somebody reads"));
        });
    }
    let wanted = each / 8000 * 80 * writers;
    let (mut out, mut buffer, mut lines) = (std::fs::File::from(out), vec![0; 1 << 18], 0);
    while lines < wanted {
        let n = out.read(&mut buffer).expect("a pipe can be read");
        lines += memchr::memchr_iter(b'\n', &buffer[..n]).count();
    }
    let seconds = now() - since;
    drop(running);
    (wanted * 100) as f64 / 1e6 / seconds
}

/// The least that puts a name before every line.
fn pump(sources: Vec<OwnedFd>, out: OwnedFd) {
    let epoll = epoll::create(CreateFlags::CLOEXEC).expect("epoll");
    for (n, fd) in sources.iter().enumerate() {
        epoll::add(&epoll, fd, EventData::new_u64(n as u64), EventFlags::IN).expect("epoll");
    }
    let mut live = sources.len();
    let mut partial = vec![Vec::new(); live];
    let (mut chunk, mut batch, mut events) =
        (vec![0; CHUNK], Vec::with_capacity(1 << 20), Vec::with_capacity(64));
    while live > 0 {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None).expect("epoll");
        for event in &events {
            let n = event.data.u64() as usize;
            let read = rustix::io::read(&sources[n], &mut chunk).expect("a ready pipe");
            if read == 0 {
                epoll::delete(&epoll, &sources[n]).expect("epoll");
                live -= 1;
            }
            let mut start = 0;
            for newline in memchr::memchr_iter(b'\n', &chunk[..read]) {
                batch.extend_from_slice(b"w00 | ");
                batch.append(&mut partial[n]);
                batch.extend_from_slice(&chunk[start..=newline]);
                start = newline + 1;
            }
            partial[n].extend_from_slice(&chunk[start..read]);
        }
        let mut rest = &batch[..];
        while !rest.is_empty() {
            let n = rustix::io::write(&out, rest).expect("somebody reads");
            rest = &rest[n..];
        }
        batch.clear();
    }
}
