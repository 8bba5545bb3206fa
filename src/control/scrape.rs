//! Answers scrapers: HTTP, as much of it as scrapers need, on a loopback address.
//!
//! Whoever can open a connection to it can read it, which is every user of the machine: it has names and numbers, and
//! no command lines. It changes nothing. A thread waits for connections, and each has one of its own for the seconds
//! that it takes; nothing is measured unless somebody asks.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::inside::Inside;
use super::metrics::{Format, metrics};

/// At most so many are answered at a time; one more is hung up on.
const MOST: usize = 8;

/// How long a request, and taking the answer, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request is no longer than this, bytes.
const LONGEST: usize = 16 * 1024;

/// The port, before anybody answers there.
#[derive(Debug)]
pub struct ScrapePort {
    listener: TcpListener,
}

impl ScrapePort {
    /// # Errors
    /// The address is in use, or not to be had.
    pub fn open(address: SocketAddr) -> io::Result<ScrapePort> {
        TcpListener::bind(address).map(|listener| ScrapePort { listener })
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
        let busy = Arc::new(AtomicUsize::new(0));
        let accept = move || {
            loop {
                let Ok((stream, _)) = self.listener.accept() else {
                    // For want of descriptors: there is nothing to wait for but time.
                    thread::park_timeout(Duration::from_millis(100));
                    continue;
                };
                if busy.fetch_add(1, Ordering::AcqRel) >= MOST {
                    busy.fetch_sub(1, Ordering::AcqRel);
                    continue;
                }
                let (inside, done) = (inside.clone(), Arc::clone(&busy));
                let one = move || {
                    // Whoever hangs up has what it wanted.
                    let _ = answer(&stream, &inside);
                    done.fetch_sub(1, Ordering::AcqRel);
                };
                if small_thread("lpm-scrape", one).is_err() {
                    busy.fetch_sub(1, Ordering::AcqRel);
                }
            }
        };
        small_thread("lpm-metrics", accept)
    }
}

fn small_thread(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).stack_size(256 << 10).spawn(run).map(drop)
}

fn answer(mut stream: &TcpStream, inside: &Inside) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    // All of it, however slowly it comes.
    let until = monotonic() + PATIENCE;
    let mut request = Vec::new();
    let mut chunk = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = until.saturating_sub(monotonic());
        if left.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            n => request.extend_from_slice(&chunk[..n]),
        }
        if request.len() > LONGEST {
            stream.write_all(&reply(
                "431 Request Header Fields Too Large",
                "text/plain",
                "too long\n",
                true,
            ))?;
            return stream.shutdown(Shutdown::Write);
        }
    }
    let answer = match wanted(&String::from_utf8_lossy(&request)) {
        Wanted::Metrics { format, body } => match inside.status() {
            Some(status) => reply("200 OK", format.content_type(), &metrics(&status, format), body),
            None => reply("503 Service Unavailable", "text/plain", "the stack is shutting down\n", body),
        },
        Wanted::Other => reply("404 Not Found", "text/plain", "write /metrics\n", true),
        Wanted::Method => {
            reply("405 Method Not Allowed\r\nAllow: GET, HEAD", "text/plain", "write GET\n", true)
        }
    };
    stream.write_all(&answer)?;
    stream.shutdown(Shutdown::Write)
}

fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Metrics { format: Format, body: bool },
    Other,
    Method,
}

fn wanted(request: &str) -> Wanted {
    let mut lines = request.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !["GET", "HEAD"].contains(&method) {
        return Wanted::Method;
    }
    let path = target.split('?').next().unwrap_or_default();
    if !["/metrics", "/"].contains(&path) {
        return Wanted::Other;
    }
    let accepts = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or_default();
        name.eq_ignore_ascii_case("accept") && value.contains("application/openmetrics-text")
    };
    let format = if lines.any(accepts) { Format::OpenMetrics } else { Format::Prometheus };
    Wanted::Metrics { format, body: method == "GET" }
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
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood() {
        let metrics = |format, body| Wanted::Metrics { format, body };
        for (request, expected) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", metrics(Format::Prometheus, true)),
            ("HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", metrics(Format::Prometheus, false)),
            (
                "GET /metrics?x=1 HTTP/1.1\r\naccept: text/plain;q=0.5,application/openmetrics-text;version=1.0.0\r\n\r\n",
                metrics(Format::OpenMetrics, true),
            ),
            ("GET /other HTTP/1.1\r\n\r\n", Wanted::Other),
            ("POST /metrics HTTP/1.1\r\n\r\n", Wanted::Method),
            ("nonsense", Wanted::Method),
        ] {
            assert_eq!(wanted(request), expected, "{request}");
        }
    }

    #[test]
    fn who_asks_for_the_head_alone_is_told_the_length() {
        let text = String::from_utf8(reply("200 OK", "text/plain", "four", false)).expect("text");
        assert!(text.contains("Content-Length: 4\r\n") && text.ends_with("\r\n\r\n"), "{text}");
    }
}
