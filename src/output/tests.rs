//! The thread as a whole, between real pipes. Every wait is for an event and has a deadline.

#![expect(clippy::disallowed_methods, reason = "a test that can make no thread has failed")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use memchr::memmem;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::*;
use crate::wording::announce;

const LIMIT: Duration = Duration::from_secs(30);
const PLAIN: Layout =
    Layout { width: 6, timestamps: false, prefix: true, colour: false, escape_controls: false, json: false };

/// A log thread that writes into a pipe, which the test reads when it likes.
struct Rig {
    log: Log,
    notices: Receiver<Notice>,
    out: File,
}

impl Rig {
    fn new(layout: Layout) -> Rig {
        let (out, stdout) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (log, notices) = start(stdout, layout);
        Rig { log, notices, out: out.into() }
    }

    /// Opens a source named `a.1` for 1, `b.1` for 2, …
    fn source(&self, id: u64) -> File {
        let (read, write) = pipe().unwrap();
        self.log.open(source(id), read);
        write.into()
    }

    fn flushed(&self) {
        self.log.flush(7);
        assert_eq!(self.notices.recv_timeout(LIMIT), Ok(Notice::Flushed(7)));
    }

    /// Reads until `end` has come, and whatever came with it.
    fn read_to(&mut self, end: &str) -> String {
        let mut got = Vec::new();
        while memmem::rfind(&got, end.as_bytes()).is_none() {
            self.read(&mut got);
        }
        String::from_utf8_lossy(&got).into_owned()
    }

    fn read(&mut self, got: &mut Vec<u8>) {
        assert!(ready(&self.out, PollFlags::IN), "nothing more after {:?}", got.last_chunk::<100>());
        let mut buffer = [0; 65536];
        let n = self.out.read(&mut buffer).unwrap();
        assert_ne!(n, 0, "the thread ended early");
        got.extend_from_slice(&buffer[..n]);
    }

    /// Reads to the end in a thread; it ends after the log is dropped.
    fn drain(self) -> (Log, Receiver<Notice>, JoinHandle<Vec<u8>>) {
        let mut out = self.out;
        let drain = thread::spawn(move || {
            let mut all = Vec::new();
            out.read_to_end(&mut all).unwrap();
            all
        });
        (self.log, self.notices, drain)
    }
}

fn start(stdout: OwnedFd, layout: Layout) -> (Log, Receiver<Notice>) {
    start_with(stdout, layout, None)
}

fn start_with(stdout: OwnedFd, layout: Layout, history: Option<Arc<History>>) -> (Log, Receiver<Notice>) {
    let (tell, notices) = channel();
    let sinks = Sinks { stdout, shown: Shown::All, layout, history, files: LogFiles::default() };
    let log = Log::start(sinks, Box::new(move |n| tell.send(n).unwrap_or(()))).unwrap();
    (log, notices)
}

fn label(id: u64) -> Label {
    let letter = char::from(b'a' + (id - 1) as u8 % 26);
    Label::instance(&format!("{letter}.1"), 0)
}

fn source(id: u64) -> Source {
    Source {
        id: SourceId(id),
        label: label(id),
        stream: Stream::Merged,
        treatment: Treatment::Print,
        life: 1,
        screen: None,
    }
}

fn ready(fd: &File, flags: PollFlags) -> bool {
    let limit = Timespec { tv_sec: LIMIT.as_secs() as _, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, flags)], Some(&limit)).unwrap() > 0
}

#[test]
fn bytes_pass_exactly() {
    let rig = Rig::new(PLAIN);
    let mut source = rig.source(1);
    let bytes: Vec<u8> = (0..=255).filter(|b| *b != b'\n').collect();
    source.write_all(&[&bytes[..], b"\n\n\r\nbad \xff\xfe\xc3\x28\n\x1b[2Jend\n"].concat()).unwrap();
    let (log, _, drain) = rig.drain();
    log.close(SourceId(1));
    drop(log);
    let wanted = [
        b"a.1    | ",
        &bytes[..],
        b"\na.1    | \na.1    | \r\na.1    | bad \xff\xfe\xc3\x28\na.1    | \x1b[2Jend\n",
    ];
    assert_eq!(drain.join().unwrap(), wanted.concat());
}

#[test]
fn every_way_to_end_prints_the_unterminated_line() {
    let mut rig = Rig::new(PLAIN);
    let (mut one, mut two, mut three) = (rig.source(1), rig.source(2), rig.source(3));
    one.write_all(b"left").unwrap();
    drop(one);
    assert_eq!(rig.read_to("\n"), "a.1    | left\n");
    two.write_all(b"settled").unwrap();
    rig.log.settle(SourceId(2));
    assert_eq!(rig.read_to("\n"), "b.1    | settled\n");
    two.write_all(b"and on\n").unwrap();
    assert_eq!(rig.read_to("\n"), "b.1    | and on\n");
    three.write_all(b"closed").unwrap();
    rig.log.close(SourceId(3));
    assert_eq!(rig.read_to("\n"), "c.1    | closed\n");
}

#[test]
fn an_unterminated_line_waits_for_its_newline() {
    let mut rig = Rig::new(PLAIN);
    let mut source = rig.source(1);
    source.write_all(b"one ").unwrap();
    rig.flushed();
    rig.log.say(&Label::system(), "meanwhile");
    assert_eq!(rig.read_to("\n"), "system | meanwhile\n");
    source.write_all(b"line\n").unwrap();
    assert_eq!(rig.read_to("\n"), "a.1    | one line\n");
}

#[test]
fn the_obituary_follows_the_last_line() {
    let rig = Rig::new(PLAIN);
    let mut holders = Vec::new();
    let mut wanted = String::new();
    for id in 1..=100 {
        let mut source = rig.source(id);
        source.write_all(b"last\nwords").unwrap();
        rig.log.settle(SourceId(id));
        rig.log.say(&label(id), "exited with code 0");
        let name = label(id).name().to_owned();
        for text in ["last", "words", "exited with code 0"] {
            wanted += &format!("{name}    | {text}\n");
        }
        holders.push(source);
    }
    let (log, _, drain) = rig.drain();
    drop(log);
    assert_eq!(String::from_utf8(drain.join().unwrap()).unwrap(), wanted);
}

#[test]
fn what_is_said_before_it_is_done_stands_before_the_effect() {
    let mut rig = Rig::new(PLAIN);
    let mut source = rig.source(1);
    for _ in 0..300 {
        rig.log.say(&Label::system(), "sending SIGTERM to all processes");
        source.write_all(b"shutting down\n").unwrap();
        assert_eq!(
            rig.read_to("down\n"),
            "system | sending SIGTERM to all processes\na.1    | shutting down\n"
        );
    }
}

#[test]
fn concurrent_writers_whose_blocks_cut_through_lines_lose_and_break_nothing() {
    const LINES: usize = 20_000;
    let rig = Rig::new(PLAIN);
    let writers: Vec<_> = (1..=10)
        .map(|id| {
            let mut source = rig.source(id);
            thread::spawn(move || {
                let name = label(id).name().to_owned();
                let text: String =
                    (0..LINES).map(|n| format!("{name}:{n:06}:{}$\n", "x".repeat(n % 150))).collect();
                text.as_bytes().chunks(8192 - 7).for_each(|block| source.write_all(block).unwrap());
            })
        })
        .collect();
    let (log, _, drain) = rig.drain();
    writers.into_iter().for_each(|w| w.join().unwrap());
    (1..=10).for_each(|id| log.close(SourceId(id)));
    drop(log);
    let mut next = [0; 10];
    for line in String::from_utf8(drain.join().unwrap()).unwrap().lines() {
        let which = usize::from(line.as_bytes()[0] - b'a');
        let n = next[which];
        let name = label(which as u64 + 1).name().to_owned();
        assert_eq!(line, format!("{name}    | {name}:{n:06}:{}$", "x".repeat(n % 150)));
        next[which] += 1;
    }
    assert_eq!(next, [LINES; 10]);
}

#[test]
fn a_flood_starves_nobody() {
    let mut rig = Rig::new(PLAIN);
    let (mut flood, mut quiet) = (rig.source(1), rig.source(2));
    let over = Arc::new(AtomicBool::new(false));
    let flooder = thread::spawn({
        let over = Arc::clone(&over);
        move || {
            while !over.load(Ordering::Relaxed) {
                flood.write_all(&b"flood\n".repeat(1000)).unwrap();
            }
        }
    });
    let mut got = Vec::new();
    while got.len() < 1 << 20 {
        rig.read(&mut got);
    }
    quiet.write_all(b"me too\n").unwrap();
    let before = got.len();
    while memmem::find(&got[before - 1000..], b"b.1    | me too\n").is_none() {
        rig.read(&mut got);
        // The batch and the chunk under way, each with its prefixes, and what stands in the pipe.
        assert!(got.len() - before < 2 << 20, "a flood came first");
    }
    over.store(true, Ordering::Relaxed);
    let (_log, _, _drain) = rig.drain();
    flooder.join().unwrap();
}

/// A rig whose standard output is full and whose thread stands in a write, having said `first`.
fn stuck() -> Rig {
    let (out, stdout) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let full = [b'#'; 65_536];
    assert_eq!(rustix::io::write(&stdout, &full), Ok(full.len()));
    let (log, notices) = start(stdout, PLAIN);
    log.say(&Label::system(), "first");
    // Orders are taken once a turn, and this turn cannot end.
    while !log.orders.is_empty() {
        thread::yield_now();
    }
    Rig { log, notices, out: out.into() }
}

#[test]
fn when_nobody_reads_the_children_wait_and_the_caller_does_not() {
    let mut rig = stuck();
    let mut source = rig.source(1);
    let written = Arc::new(AtomicUsize::new(0));
    let writer = thread::spawn({
        let written = Arc::clone(&written);
        move || {
            for _ in 0..2000 {
                source.write_all(&b"line\n".repeat(800)).unwrap();
                written.fetch_add(4000, Ordering::Relaxed);
            }
        }
    });
    let says = 3 * MOST_SAYS;
    for n in 0..says {
        rig.log.say(&Label::system(), format!("said {n}"));
    }
    rig.log.flush(1);
    assert_eq!(rig.log.orders.lock().orders.len(), MOST_SAYS + 2, "and the source, and the flush");
    assert!(rig.notices.try_recv().is_err(), "nothing was written that could have been flushed");
    assert!(written.load(Ordering::Relaxed) <= 65_536, "no more than the child's own pipe holds");
    let text = rig.read_to("while nobody read the output\n");
    assert_eq!(rig.notices.recv_timeout(LIMIT), Ok(Notice::Flushed(1)));
    let mut said = text.lines().filter(|l| l.starts_with("system"));
    for n in 0..MOST_SAYS {
        assert_eq!(said.next(), Some(&*format!("system | said {n}")));
    }
    let gap = announce::own_lines_dropped((says - MOST_SAYS) as u64);
    assert_eq!(said.next(), Some(&*format!("system | {gap}")));
    let (log, _, drain) = rig.drain();
    writer.join().unwrap();
    log.close(SourceId(1));
    drop(log);
    let all = text + &String::from_utf8(drain.join().unwrap()).unwrap();
    assert_eq!(all.matches("a.1    | line\n").count(), 2000 * 800);
}

#[test]
fn instances_that_crash_all_night_in_front_of_a_stuck_terminal_cost_no_descriptors() {
    let mut rig = stuck();
    for id in 1..=500 {
        rig.source(id).write_all(b"unheard\n").unwrap();
        rig.log.settle(SourceId(id));
        rig.log.close(SourceId(id));
    }
    let (opens, unheard) = {
        let queue = rig.log.orders.lock();
        (queue.opens, queue.unheard)
    };
    assert_eq!((opens, unheard), (MOST_OPENS, 500 - MOST_OPENS as u64));
    let text = rig.read_to("dropped while nobody read it\n");
    assert!(text.ends_with(&format!("system | {}\n", announce::unheard(unheard))));
    assert_eq!(text.matches("| unheard").count(), MOST_OPENS);
}

#[test]
fn an_escaped_daemon_that_holds_the_pipe_holds_up_nobody() {
    let rig = Rig::new(PLAIN);
    let mut held = rig.source(1);
    rig.log.close(SourceId(1));
    rig.flushed();
    assert_eq!(held.write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn a_holder_that_writes_for_ever_is_settled_all_the_same() {
    let mut rig = stuck();
    let mut source = rig.source(1);
    set_nonblocking(&source).unwrap();
    // Of so short lines a chunk is several batches, and so it is never emptied before it is filled again.
    let refill = |source: &mut File| while source.write(&b"\n".repeat(4096)).is_ok() {};
    refill(&mut source);
    rig.log.settle(SourceId(1));
    rig.log.say(&label(1), "exited with code 0");
    let mut got = Vec::new();
    while memmem::find(&got[got.len().saturating_sub(100_000)..], b"exited with code 0\n").is_none() {
        rig.read(&mut got);
        refill(&mut source);
        assert!(got.len() < 16 << 20, "it is being read for ever");
    }
}

#[test]
fn a_steady_long_line_stays_whole_among_others() {
    let mut rig = stuck();
    // All of it stands in the pipes before the first is read, so that no scheduler has a say.
    let open = |id, text: &[u8]| {
        let (read, write) = pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(&write, 1 << 20).unwrap();
        File::from(write).write_all(text).unwrap();
        rig.log.open(source(id), read);
    };
    let big = format!("BIG<{}>GIB\n", "y".repeat(1_000_000));
    // The long one neither first nor last in the order in which they come up.
    (2..4).for_each(|id| open(id, &b"short\n".repeat(50_000)));
    open(1, format!("{big}AFTERBIG\n").as_bytes());
    (4..6).for_each(|id| open(id, &b"short\n".repeat(50_000)));
    let prefix = "a.1    | ".len();
    let others = 4 * 50_000 * (prefix + "short\n".len());
    let wanted = 65_536 + "system | first\n".len() + others + 2 * prefix + big.len() + "AFTERBIG\n".len();
    let mut got = Vec::new();
    while got.len() < wanted {
        rig.read(&mut got);
    }
    let text = String::from_utf8(got).unwrap();
    assert!(text.contains(&format!("a.1    | {big}")) && text.contains("a.1    | AFTERBIG\n"));
    assert_eq!(text.matches("| short\n").count(), 200_000);
}

#[test]
fn a_long_line_whose_writer_falls_silent_is_broken_off() {
    let mut rig = Rig::new(PLAIN);
    let (mut long, mut other) = (rig.source(1), rig.source(2));
    long.write_all(&[b'y'; 100_000]).unwrap();
    // Read in full: nobody else has anything, so it is printed as it comes.
    let text = rig.read_to(&"y".repeat(100_000));
    assert_eq!(text, format!("a.1    | {}", "y".repeat(100_000)));
    other.write_all(b"I wait\n").unwrap();
    assert_eq!(rig.read_to("wait\n"), "\nb.1    | I wait\n");
    long.write_all(b"the rest\nnext\n").unwrap();
    assert_eq!(rig.read_to("next\n"), "a.1    + the rest\na.1    | next\n");

    long.write_all(&[b'z'; 100_000]).unwrap();
    rig.read_to(&"z".repeat(100_000));
    rig.log.say(&Label::system(), "I wait too");
    assert_eq!(rig.read_to("too\n"), "\nsystem | I wait too\n");
    long.write_all(b"\nnext\n").unwrap();
    assert_eq!(rig.read_to("next\n"), "a.1    | next\n", "its newline was printed already");

    long.write_all(&[b'z'; 100_000]).unwrap();
    rig.read_to(&"z".repeat(100_000));
    drop(long);
    assert_eq!(rig.read_to("\n"), "\n");
}

#[test]
fn a_line_without_end_lets_the_others_have_their_turn() {
    let mut rig = Rig::new(PLAIN);
    let (mut endless, mut other) = (rig.source(1), rig.source(2));
    let writer = thread::spawn(move || while endless.write_all(&[b'y'; 60_000]).is_ok() {});
    for _ in 0..2 {
        let mut got = Vec::new();
        while got.len() < 10 << 20 {
            rig.read(&mut got);
        }
        // It has had its share, so nobody waits for more than what is under way.
        rig.log.say(&Label::system(), "said");
        other.write_all(b"short\n").unwrap();
        got.clear();
        while memmem::find(&got, b"b.1    | short\n").is_none() {
            rig.read(&mut got);
            assert!(got.len() < 1 << 20, "the line goes first");
        }
        let text = String::from_utf8(got).unwrap();
        assert!(text.contains("\nsystem | said\n") && text.contains("\nb.1    | short\n"));
        assert!(text.contains("a.1    + y") || rig.read_to("y").contains("a.1    + y"));
    }
    rig.log.close(SourceId(1));
    let (_log, _, _drain) = rig.drain();
    writer.join().unwrap();
}

#[test]
fn a_reader_who_leaves_is_noticed_at_once_and_the_children_are_not_held_up() {
    let rig = Rig::new(PLAIN);
    let mut source = rig.source(1);
    drop(rig.out);
    assert_eq!(rig.notices.recv_timeout(LIMIT), Ok(Notice::ReaderLeft));
    source.write_all(&b"nobody listens\n".repeat(70_000)).unwrap();
    rig.log.say(&Label::system(), "me neither");
    rig.log.close(SourceId(1));
    rig.log.flush(1);
    assert_eq!(rig.notices.recv_timeout(LIMIT), Ok(Notice::Flushed(1)), "and ReaderLeft is said once");
}

#[test]
fn a_reader_who_leaves_in_mid_write_is_noticed() {
    let rig = stuck();
    drop(rig.out);
    assert_eq!(rig.notices.recv_timeout(LIMIT), Ok(Notice::ReaderLeft));
    rig.log.flush(1);
    assert_eq!(rig.notices.recv_timeout(LIMIT), Ok(Notice::Flushed(1)));
}

#[test]
fn a_full_disk_is_told_once_and_holds_up_nobody() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (log, notices) = start(full.into(), PLAIN);
    let (read, write) = pipe().unwrap();
    log.open(source(1), read);
    File::from(write).write_all(&b"lost\n".repeat(200_000)).unwrap();
    log.close(SourceId(1));
    log.flush(1);
    assert_eq!(notices.recv_timeout(LIMIT), Ok(Notice::Failed(Errno::NOSPC)));
    assert_eq!(notices.recv_timeout(LIMIT), Ok(Notice::Flushed(1)));
}

#[test]
fn an_output_somebody_made_non_blocking_is_written_in_full() {
    let (out, stdout) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    set_nonblocking(&stdout).unwrap();
    let (log, notices) = start(stdout, PLAIN);
    let rig = Rig { log, notices, out: out.into() };
    let mut source = rig.source(1);
    let text = b"exactly so\n".repeat(100_000);
    let writer = thread::spawn({
        let text = text.clone();
        move || source.write_all(&text).unwrap()
    });
    let (log, _, drain) = rig.drain();
    writer.join().unwrap();
    log.close(SourceId(1));
    drop(log);
    assert_eq!(drain.join().unwrap(), b"a.1    | exactly so\n".repeat(100_000));
}

#[test]
fn on_a_terminal_only_colours_are_obeyed() {
    let mut rig = Rig::new(Layout { escape_controls: true, ..PLAIN });
    let mut pipe_source = rig.source(1);
    pipe_source.write_all(b"\x1b]0;title\x07\x1b[31mred\n").unwrap();
    assert_eq!(rig.read_to("\n"), "a.1    | \\x1b]0;title\\x07\x1b[31mred\x1b[0m\n");
    rig.log.say(&label(1), "cannot start: \x1b[2J");
    assert_eq!(rig.read_to("\n"), "a.1    | cannot start: \\x1b[2J\n");
    // A long line in pieces, broken off while it is red.
    pipe_source.write_all(&[&b"\x1b[31m"[..], &[b'y'; 100_000]].concat()).unwrap();
    rig.read_to(&"y".repeat(100_000));
    rig.log.say(&Label::system(), "white");
    assert_eq!(rig.read_to("white\n"), "\x1b[0m\nsystem | white\n");
}

/// A terminal: its master, and the end for a program, which the line discipline leaves alone.
fn terminal() -> (OwnedFd, File) {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let slave = ioctl_tiocgptpeer(&master, flags).unwrap();
    (master, slave.into())
}

#[test]
fn a_source_with_its_own_terminal_passes_and_its_hangup_is_its_end() {
    let mut rig = Rig::new(Layout { escape_controls: true, ..PLAIN });
    let (master, mut terminal) = terminal();
    let screen = Screen::new(24, 80);
    let source = Source { treatment: Treatment::PrintRaw, screen: Some(Arc::clone(&screen)), ..source(1) };
    rig.log.open(source, master);
    terminal.write_all(b"\x1b[2Jone\ntw").unwrap();
    assert_eq!(rig.read_to("\n"), "a.1    | \x1b[2Jone\n");
    terminal.write_all(b"o").unwrap();
    drop(terminal);
    assert_eq!(rig.read_to("\n"), "a.1    | two\n");
    let painted = String::from_utf8(screen.repaint().0).unwrap();
    assert!(painted.contains("one\r\ntwo"), "{painted:?}");
}

/// The next one to use the terminal would not see its cursor, and send reports of the mouse as if they were typed.
#[test]
fn what_a_program_leaves_on_in_the_terminal_is_switched_off() {
    let mut rig = Rig::new(Layout { escape_controls: true, ..PLAIN });
    let open = |id| {
        let (master, terminal) = terminal();
        let screen = Some(Screen::new(24, 80));
        rig.log.open(Source { treatment: Treatment::PrintRaw, screen, ..source(id) }, master);
        terminal
    };
    let (mut one, mut two) = (open(1), open(2));
    two.write_all(b"\x1b[?25lup\n").unwrap();
    assert_eq!(rig.read_to("\n"), "b.1    | \x1b[?25lup\n");
    one.write_all(b"\x1b[?25l\x1b[?1000h\x1b[?1049h\x1b[31mred").unwrap();
    rig.log.settle(SourceId(1));
    rig.log.say(&label(1), "exited");
    // The other one still has the cursor hidden.
    let wanted = "\x1b[?1000l\x1b[0m\x1b[<99u\x1b[=0u\x1b[?1049la.1    | exited\n";
    assert!(rig.read_to("exited\n").ends_with(&format!("red\n{wanted}")));
    drop(one);
    let (log, _, drain) = rig.drain();
    drop(log);
    assert_eq!(drain.join().unwrap(), b"\x1b[?25h");
}

#[test]
fn modes_pass_a_pipe_exactly() {
    let mut rig = Rig::new(PLAIN);
    let (master, mut terminal) = terminal();
    let screen = Some(Screen::new(24, 80));
    rig.log.open(Source { treatment: Treatment::PrintRaw, screen, ..source(1) }, master);
    terminal.write_all(b"\x1b[?1049h\x1b[?25lx\n").unwrap();
    rig.log.close(SourceId(1));
    rig.log.say(&label(1), "exited");
    assert_eq!(rig.read_to("exited\n"), "a.1    | \x1b[?1049h\x1b[?25lx\na.1    | exited\n");
}

#[test]
fn what_a_program_asks_its_terminal_is_answered_there_and_not_printed() {
    let mut rig = Rig::new(PLAIN);
    let (master, mut terminal) = terminal();
    let mut modes = rustix::termios::tcgetattr(&terminal).unwrap();
    modes.make_raw();
    rustix::termios::tcsetattr(&terminal, rustix::termios::OptionalActions::Now, &modes).unwrap();
    let screen = Screen::new(24, 80);
    let source = Source { treatment: Treatment::PrintRaw, screen: Some(screen), ..source(1) };
    rig.log.open(source, master);
    terminal.write_all(b"ab\x1b[6").unwrap();
    rig.flushed();
    terminal.write_all(b"ncd\r\n").unwrap();
    assert_eq!(rig.read_to("\n"), "a.1    | abcd\n");
    let mut answer = [0; 6];
    assert!(ready(&terminal, PollFlags::IN));
    terminal.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"\x1b[1;3R");
}

#[test]
fn a_quiet_terminal_is_kept_and_not_shown() {
    let (out, stdout) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let history = History::new(history::BYTES_PER_INSTANCE, false);
    let (log, notices) = start_with(stdout, PLAIN, Some(Arc::clone(&history)));
    let mut rig = Rig { log, notices, out: out.into() };
    let (master, mut terminal) = terminal();
    let screen = Screen::new(24, 80);
    let source = Source { treatment: Treatment::Discard, screen: Some(Arc::clone(&screen)), ..source(1) };
    rig.log.open(source, master);
    terminal.write_all(b"hush\nhush").unwrap();
    rig.log.close(SourceId(1));
    rig.log.say(&label(1), "exited with code 0");
    assert_eq!(rig.read_to("\n"), "a.1    | exited with code 0\n");
    let texts: Vec<Vec<u8>> = history.lines(&|_| true, None).0.into_iter().map(|line| line.text).collect();
    assert_eq!(texts, [&b"hush"[..], b"hush", b"exited with code 0"]);
    assert!(String::from_utf8(screen.repaint().0).unwrap().contains("hush\r\nhush"));
}

#[test]
fn history_is_what_was_said_and_can_be_read_while_the_output_is_stuck() {
    let (out, stdout) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let history = History::new(history::BYTES_PER_INSTANCE, false);
    let layout = Layout { escape_controls: true, ..PLAIN };
    let (log, notices) = start_with(stdout, layout, Some(Arc::clone(&history)));
    let mut rig = Rig { log, notices, out: out.into() };
    let (mut one, mut two) = (rig.source(1), rig.source(2));
    rig.log.say(&label(1), "started");
    one.write_all(b"\x1b[2Jone\n\xff\nunfin").unwrap();
    rig.log.settle(SourceId(1));
    rig.flushed();
    assert_eq!(rig.read_to("unfin\n").lines().count(), 4);
    let text = |line: &history::Line| String::from_utf8_lossy(&line.text).into_owned();
    let (lines, mut cursor) = history.lines(&|_| true, None);
    assert_eq!(lines.iter().map(text).collect::<Vec<_>>(), ["started", "\x1b[2Jone", "\u{fffd}", "unfin"]);
    assert!(lines.iter().all(|line| &*line.instance == "a.1" && line.time_usec > 1 << 50));
    // More than the pipe of standard output takes, and nobody reads that.
    two.write_all(&b"stuck\n".repeat(10_000)).unwrap();
    let wanted = |whose: history::Whose<'_>| whose.name == "b.1";
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut seen = 0;
    while seen < 10_000 {
        match history.poll_next(&mut cursor, &wanted, 100, &mut context) {
            std::task::Poll::Ready(batch) => seen += batch.missed + batch.lines.len() as u64,
            std::task::Poll::Pending => thread::yield_now(),
        }
    }
    let (lines, _) = history.lines(&wanted, Some(1));
    assert_eq!(lines.iter().map(text).collect::<Vec<_>>(), ["stuck"]);
    let (log, _, drain) = rig.drain();
    drop(log);
    assert_eq!(memmem::find_iter(&drain.join().unwrap(), b"b.1    | stuck\n").count(), 10_000);
}

#[test]
fn a_quiet_source_is_read_and_not_shown() {
    let mut rig = Rig::new(PLAIN);
    let (read, write) = pipe().unwrap();
    rig.log.open(Source { treatment: Treatment::Discard, ..source(1) }, read);
    File::from(write).write_all(&b"hush\n".repeat(100_000)).unwrap();
    rig.log.close(SourceId(1));
    rig.log.say(&label(1), "exited with code 0");
    assert_eq!(rig.read_to("\n"), "a.1    | exited with code 0\n");
}

#[test]
fn a_longer_name_widens_the_layout_and_split_stderr_is_marked() {
    let mut rig = Rig::new(PLAIN);
    let mut first = rig.source(1);
    let (read, write) = pipe().unwrap();
    rig.log.open(
        Source {
            id: SourceId(2),
            label: Label::instance("worker.10", 1),
            stream: Stream::Err,
            treatment: Treatment::Print,
            life: 1,
            screen: None,
        },
        read,
    );
    File::from(write).write_all(b"oh\n").unwrap();
    assert_eq!(rig.read_to("oh\n"), "worker.10 ! oh\n");
    first.write_all(b"wide\n").unwrap();
    assert_eq!(rig.read_to("\n"), "a.1       | wide\n");
}

#[test]
fn a_line_of_lpms_own_with_a_newline_is_two_lines() {
    let mut rig = Rig::new(PLAIN);
    rig.log.say(&Label::system(), "one\ntwo");
    assert_eq!(rig.read_to("two\n"), "system | one\nsystem | two\n");
}

#[test]
fn dropping_the_log_ends_the_thread_after_what_was_said() {
    let rig = Rig::new(PLAIN);
    rig.log.say(&Label::system(), "goodbye");
    let (log, notices, drain) = rig.drain();
    drop(log);
    assert_eq!(drain.join().unwrap(), b"system | goodbye\n");
    assert!(notices.recv_timeout(LIMIT).is_err(), "the thread is gone, and its end of the channel with it");
}
