//! Answers scrapers: HTTP, as much of it as scrapers need, on a loopback address.
//!
//! Every user of the machine can open a connection to it and read it: it has names and numbers, and no command lines.
//! A web page cannot, though the browser may be made to believe that a name of the page's own leads here (DNS
//! rebinding): a request must name a loopback host. It changes nothing.
//!
//! One thread does everything, and it exists from the start: none has to be made for a request, which may fail. It does
//! not wait for a connection. When all places are taken, a new connection replaces the oldest that has sent no request, so
//! that idle connections cannot block a scraper. Nothing is measured unless it is asked for.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

use super::inside::Inside;
use super::metrics::{Format, metrics};

/// The most connections at a time; each is a descriptor.
const MOST: usize = 16;

/// How long a request may take, and taking the answer, and hanging up after it.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long no connection is accepted where the kernel has no descriptor for it.
const OUT_OF_FILES: Duration = Duration::from_millis(100);

/// The longest request, bytes.
const LONGEST: usize = 16 * 1024;

/// The port, before anything is answered there.
#[derive(Debug)]
pub struct ScrapePort {
    listener: TcpListener,
}

impl ScrapePort {
    /// # Errors
    /// The address is in use, or not to be had.
    pub fn open(address: SocketAddr) -> io::Result<ScrapePort> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(ScrapePort { listener })
    }

    /// Where that is.
    ///
    /// # Errors
    /// None that is known.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers from now on, until lpm ends.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn serve(self, inside: Inside) -> io::Result<()> {
        let mut house = House { listener: self.listener, connections: Vec::new(), shut_until: None };
        let serve = move || {
            loop {
                house.turn(&|request| answer(request, &inside));
            }
        };
        thread::Builder::new().name("lpm-metrics".to_owned()).stack_size(256 << 10).spawn(serve).map(drop)
    }
}

/// The connections, the oldest first.
struct House {
    listener: TcpListener,
    connections: Vec<Connection>,
    /// The kernel had no descriptor; until then it is not asked again.
    shut_until: Option<Duration>,
}

struct Connection {
    stream: TcpStream,
    stage: Stage,
    /// The stage must be over then.
    until: Duration,
}

enum Stage {
    /// What came of the request so far.
    Asking(Vec<u8>),
    /// What is left of the answer.
    Answering(Vec<u8>),
    /// Until the other side hangs up: closed before it has read, what is on its way would be lost.
    Leaving,
}

impl House {
    /// Waits for something to happen, and deals with it. `answer`: to a whole request.
    fn turn(&mut self, answer: &dyn Fn(&[u8]) -> Vec<u8>) {
        let now = monotonic();
        self.shut_until = self.shut_until.filter(|until| *until > now);
        let due = self.connections.iter().map(|one| one.until).chain(self.shut_until).min();
        let timeout = due.map(|due| due.saturating_sub(now)).and_then(|left| Timespec::try_from(left).ok());
        let open = if self.shut_until.is_none() { PollFlags::IN } else { PollFlags::empty() };
        let mut fds = vec![PollFd::new(&self.listener, open)];
        fds.extend(self.connections.iter().map(|one| PollFd::new(&one.stream, one.stage.waits_for())));
        // An interruption is as good as a timeout.
        let polled = poll(&mut fds, timeout.as_ref());
        let ready: Vec<bool> = fds.iter().map(|fd| polled.is_ok() && !fd.revents().is_empty()).collect();
        drop(fds);

        let now = monotonic();
        let mut at = 0;
        self.connections.retain_mut(|one| {
            at += 1;
            // One that sends a byte now and then has no more time than others.
            (!ready[at] || one.go_on(answer)) && one.until > now
        });
        if ready[0] {
            self.accept(answer);
        }
    }

    /// Takes in those that wait, and answers at once what was asked with the connection.
    fn accept(&mut self, answer: &dyn Fn(&[u8]) -> Vec<u8>) {
        // Not more than there are places, so that those inside have their turn.
        for _ in 0..MOST {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_err() {
                        continue;
                    }
                    let until = monotonic() + PATIENCE;
                    let mut one = Connection { stream, stage: Stage::Asking(Vec::new()), until };
                    if one.go_on(answer) {
                        if self.connections.len() >= MOST {
                            self.evict();
                        }
                        self.connections.push(one);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // One that left again at once.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // Descriptors: one is given back, or there is nothing to wait for but time.
                Err(_) if self.evict() => {}
                Err(_) => {
                    self.shut_until = Some(monotonic() + OUT_OF_FILES);
                    return;
                }
            }
        }
    }

    /// Hangs up on one: first on those that have their answer, then on those that did not ask yet, the oldest first.
    fn evict(&mut self) -> bool {
        let first = self.connections.iter().enumerate().min_by_key(|(_, one)| one.stage.worth());
        let first = first.map(|(at, _)| at);
        first.is_some_and(|at| {
            self.connections.remove(at);
            true
        })
    }
}

impl Stage {
    fn waits_for(&self) -> PollFlags {
        match self {
            Stage::Answering(_) => PollFlags::OUT,
            Stage::Asking(_) | Stage::Leaving => PollFlags::IN,
        }
    }

    /// Which of them is hung up on last.
    fn worth(&self) -> u8 {
        match self {
            Stage::Leaving => 0,
            Stage::Asking(_) => 1,
            Stage::Answering(_) => 2,
        }
    }
}

impl Connection {
    /// Goes as far as it can without waiting. False: it is over.
    fn go_on(&mut self, answer: &dyn Fn(&[u8]) -> Vec<u8>) -> bool {
        let gone_on = self.go_on_or_fail(answer);
        gone_on.unwrap_or_else(|error| {
            matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        })
    }

    fn go_on_or_fail(&mut self, answer: &dyn Fn(&[u8]) -> Vec<u8>) -> io::Result<bool> {
        let mut chunk = [0; 4096];
        loop {
            match &mut self.stage {
                Stage::Asking(request) => {
                    let length = self.stream.read(&mut chunk)?;
                    if length == 0 {
                        return Ok(false);
                    }
                    request.extend_from_slice(&chunk[..length]);
                    if request.len() > LONGEST {
                        let status = "431 Request Header Fields Too Large";
                        self.enter(Stage::Answering(reply(status, "text/plain", "too long\n", true)));
                    } else if request.windows(4).any(|end| end == b"\r\n\r\n") {
                        let answer = answer(request);
                        self.enter(Stage::Answering(answer));
                    }
                }
                Stage::Answering(rest) if rest.is_empty() => {
                    self.stream.shutdown(Shutdown::Write)?;
                    self.enter(Stage::Leaving);
                }
                Stage::Answering(rest) => {
                    let length = self.stream.write(rest)?;
                    if length == 0 {
                        return Ok(false);
                    }
                    rest.drain(..length);
                }
                // It may send for ever; its time is limited.
                Stage::Leaving => {
                    let length = self.stream.read(&mut chunk)?;
                    return Ok(length > 0);
                }
            }
        }
    }

    fn enter(&mut self, stage: Stage) {
        (self.stage, self.until) = (stage, monotonic() + PATIENCE);
    }
}

/// The answer to a whole request.
fn answer(request: &[u8], inside: &Inside) -> Vec<u8> {
    match wanted(&String::from_utf8_lossy(request)) {
        Wanted::Metrics { format, body } => match inside.status() {
            Some(status) => reply("200 OK", format.content_type(), &metrics(&status, format), body),
            None => reply("503 Service Unavailable", "text/plain", "the stack is shutting down\n", body),
        },
        Wanted::Other => reply("404 Not Found", "text/plain", "write /metrics\n", true),
        Wanted::Method => {
            reply("405 Method Not Allowed\r\nAllow: GET, HEAD", "text/plain", "write GET\n", true)
        }
        Wanted::Elsewhere => {
            let text = "the Host header must be localhost or a loopback address\n";
            reply("421 Misdirected Request", "text/plain", text, true)
        }
    }
}

fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// What a request asks for.
#[doc(hidden)]
#[derive(Debug, PartialEq, Eq)]
pub enum Wanted {
    Metrics {
        format: Format,
        body: bool,
    },
    Other,
    Method,
    /// Another host's pages.
    Elsewhere,
}

#[doc(hidden)]
pub fn wanted(request: &str) -> Wanted {
    let mut lines = request.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers: Vec<(&str, &str)> = lines.filter_map(|line| line.split_once(':')).collect();
    let values = |name: &'static str| {
        let of = move |header: &&(&str, &str)| header.0.trim().eq_ignore_ascii_case(name);
        headers.iter().filter(of).map(|(_, value)| value.trim())
    };
    // A browser always sends one (RFC 9112, section 3.2); what sends none is no browser.
    if !values("host").all(is_loopback) {
        return Wanted::Elsewhere;
    }
    if !["GET", "HEAD"].contains(&method) {
        return Wanted::Method;
    }
    let path = target.split('?').next().unwrap_or_default();
    if !["/metrics", "/"].contains(&path) {
        return Wanted::Other;
    }
    let open = values("accept").any(|value| value.contains("application/openmetrics-text"));
    let format = if open { Format::OpenMetrics } else { Format::Prometheus };
    Wanted::Metrics { format, body: method == "GET" }
}

/// Whether `host`, with or without a port, is this machine by a name that no DNS server answers for. The port is not
/// compared: it says nothing about where a page is from, and is another one where the port is forwarded (ssh -L).
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let is_address = match bare {
        Some(name) => name.parse().is_ok_and(|address: std::net::Ipv6Addr| address.is_loopback()),
        None => name.parse().is_ok_and(|address: IpAddr| address.is_ipv4() && address.is_loopback()),
    };
    port.is_none_or(|port| port.parse::<u16>().is_ok())
        && (is_address || name.eq_ignore_ascii_case("localhost"))
}

fn reply(status: &str, kind: &str, text: &str, body: bool) -> Vec<u8> {
    let length = text.len();
    let text = if body { text } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{text}"
    )
    .into_bytes()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test that can make no thread has failed")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn requests_are_understood() {
        let metrics = |format, body| Wanted::Metrics { format, body };
        for (request, expected) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", metrics(Format::Prometheus, true)),
            ("HEAD / HTTP/1.1\r\nHost: localhost:9464\r\n\r\n", metrics(Format::Prometheus, false)),
            (
                "GET /metrics?x=1 HTTP/1.1\r\naccept: text/plain;q=0.5,application/openmetrics-text;version=1.0.0\r\n\r\n",
                metrics(Format::OpenMetrics, true),
            ),
            ("GET /other HTTP/1.1\r\n\r\n", Wanted::Other),
            ("POST /metrics HTTP/1.1\r\n\r\n", Wanted::Method),
            ("nonsense", Wanted::Method),
            ("GET /metrics HTTP/1.1\r\nHOST:evil.example\r\n\r\n", Wanted::Elsewhere),
            ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", Wanted::Elsewhere),
        ] {
            assert_eq!(wanted(request), expected, "{request}");
        }
    }

    #[test]
    fn only_a_loopback_host_is_meant() {
        for host in ["localhost", "LOCALHOST:9464", "127.0.0.1", "127.1.2.3:1", "[::1]", "[::1]:9464"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            ":80",
            "evil.example",
            "localhost.evil.example:9464",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "localhost:",
            "localhost:x",
            "::1",
            "[::2]:80",
            "[::1",
            "0.0.0.0",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    fn house() -> (House, SocketAddr) {
        let port = ScrapePort::open(([127, 0, 0, 1], 0).into()).expect("a port");
        let address = port.address().expect("an address");
        (House { listener: port.listener, connections: Vec::new(), shut_until: None }, address)
    }

    /// Takes turns until everything was read from `stream`.
    fn until_read(house: &mut House, mut stream: TcpStream, answer: &dyn Fn(&[u8]) -> Vec<u8>) -> String {
        let address = house.listener.local_addr().expect("an address");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
        let done = Arc::new(AtomicBool::new(false));
        let reads = {
            let done = Arc::clone(&done);
            thread::spawn(move || {
                let mut text = String::new();
                let read = stream.read_to_string(&mut text);
                done.store(true, Ordering::Release);
                // So that the turn that waits ends.
                let _wakes = TcpStream::connect(address);
                read.map(|_| text)
            })
        };
        while !done.load(Ordering::Acquire) {
            house.turn(answer);
        }
        reads.join().expect("no panic").expect("an answer")
    }

    #[test]
    fn a_byte_now_and_then_does_not_keep_a_place() {
        let (mut house, address) = house();
        let mut slow = TcpStream::connect(address).expect("a place in the queue");
        house.turn(&|_| Vec::new());
        assert_eq!(house.connections.len(), 1);
        house.connections[0].until = monotonic();
        slow.write_all(b"G").expect("sent");
        house.turn(&|_| Vec::new());
        assert_eq!(house.connections.len(), 0);
    }

    #[test]
    fn a_full_house_has_a_place_for_one_that_asks() {
        let (mut house, address) = house();
        let held: Vec<TcpStream> =
            (0..3 * MOST).map(|_| TcpStream::connect(address).expect("a place in the queue")).collect();
        while house.connections.len() < MOST {
            house.turn(&|_| Vec::new());
        }
        let mut asks = TcpStream::connect(address).expect("a place in the queue");
        asks.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent");
        assert_eq!(until_read(&mut house, asks, &|_| b"answer".to_vec()), "answer");
        assert!(house.connections.len() <= MOST);
        drop(held);
    }

    #[test]
    fn a_long_answer_is_taken_as_it_is_read() {
        let (mut house, address) = house();
        let mut asks = TcpStream::connect(address).expect("a place in the queue");
        asks.write_all(b"GET / HTTP/1.1\r\n").expect("sent");
        house.turn(&|_| unreachable!("the request is not whole"));
        asks.write_all(b"\r\n").expect("sent");
        let long = "x".repeat(20 << 20);
        assert!(until_read(&mut house, asks, &|_| long.clone().into_bytes()).len() == long.len());
    }

    #[test]
    fn who_asks_for_the_head_alone_is_told_the_length() {
        let text = String::from_utf8(reply("200 OK", "text/plain", "four", false)).expect("text");
        assert!(text.contains("Content-Length: 4\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }
}
