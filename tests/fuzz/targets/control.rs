//! What clients send: calls, frames, requests of scrapers, patterns, keys.

use lpm::client::detach_key::DetachKey;
use lpm::client::pattern::Pattern;
use lpm::control::frames::Frame;
use lpm::control::interface::{
    AttachParameters, DownParameters, EventsParameters, LogsParameters, MetricsParameters, ReloadParameters,
    ScaleParameters, SetParameters, SignalParameters, StatusParameters,
};
use lpm::control::sieve::Sieve;
use lpm::control::wire::{Call, Failure, Inbox};
use lpm::control::{frames, scrape as scraping, wire as varlink};
use lpm::output::Stream;
use lpm::output::history::{Line, Origin};

use super::{pieces, split};

/// The pattern of `lpm logs --grep`, and behind a NUL the line it is matched with.
pub fn filter(bytes: &[u8]) {
    let (pattern, line) = split(bytes);
    let line = String::from_utf8_lossy(line);
    match Pattern::new(&String::from_utf8_lossy(pattern)) {
        Ok(pattern) => drop(pattern.matches(&line)),
        Err(refused) => {
            assert!(refused.len() < 1000 && !refused.contains(char::is_control), "{refused:?}");
        }
    }
}

/// Calls as they come over the socket, in pieces.
pub fn wire(bytes: &[u8]) {
    let mut inbox = Inbox::default();
    let mut taken = Vec::new();
    for piece in pieces(bytes) {
        inbox.bytes().extend_from_slice(piece);
        while let Ok(Some(message)) = inbox.take() {
            call(&message);
            taken.extend_from_slice(&message);
            taken.push(0);
        }
        if !inbox.has_room() {
            return;
        }
    }
    taken.extend_from_slice(inbox.bytes());
    assert_eq!(taken, bytes.get(1..).unwrap_or_default(), "a byte was lost or added");
}

fn call(message: &[u8]) {
    let Ok(call) = serde_json::from_slice::<Call>(message) else { return };
    let _ = call.parts();
    let failed = [
        call.parameters::<AttachParameters>().err(),
        call.parameters::<DownParameters>().err(),
        call.parameters::<EventsParameters>().err(),
        call.parameters::<MetricsParameters>().err(),
        call.parameters::<ReloadParameters>().err(),
        call.parameters::<ScaleParameters>().err(),
        call.parameters::<SetParameters>().err(),
        call.parameters::<SignalParameters>().err(),
        call.parameters::<StatusParameters>().err(),
    ];
    for failure in failed.into_iter().flatten() {
        let mut out = Vec::new();
        varlink::put(&mut out, &failure);
        assert_eq!(serde_json::from_slice::<Failure>(&out[..out.len() - 1]).ok(), Some(failure));
    }
    if let Ok(parameters) = call.parameters::<LogsParameters>()
        && let Ok(sieve) = Sieve::new(&parameters)
    {
        let origin = Origin::Instance(Stream::Err);
        let text = message.to_vec();
        let line =
            Line { sequence: 0, time_usec: 7, instance: "web.1".into(), origin, text, continues: false };
        assert!(!sieve.is_open() || sieve.passes(&line, None));
    }
}

/// Frames of a lent terminal: what is taken is what was put, however it comes.
pub fn frames(bytes: &[u8]) {
    let (mut inbox, mut whole) = (Inbox::default(), Vec::new());
    for piece in pieces(bytes) {
        inbox.bytes().extend_from_slice(piece);
        loop {
            match inbox.take_frame() {
                Ok(Some(frame)) => whole.push(frame),
                Ok(None) => break,
                Err(_) => return put_again(&whole),
            }
        }
        let most = frames::LONGEST + piece.len() + 5;
        assert!(inbox.bytes().len() <= most, "more is kept than one frame");
    }
    put_again(&whole);
}

fn put_again(whole: &[Frame]) {
    let mut bytes = Vec::new();
    for frame in whole {
        // Of text that is no UTF-8 another one comes, which may be too long for one frame.
        if let Frame::Told(text) | Frame::Ended(text) = frame
            && text.len() > frames::LONGEST
        {
            continue;
        }
        bytes.clear();
        frame.put(&mut bytes);
        assert_eq!(Frame::take(&mut bytes).ok().flatten().as_ref(), Some(frame));
        assert!(bytes.is_empty());
    }
}

/// The head of a scraper's request.
pub fn scrape(bytes: &[u8]) {
    let _ = scraping::wanted(&String::from_utf8_lossy(bytes));
}

/// What a person types before the key that leaves a terminal: no byte before it is lost or changed.
pub fn keys(bytes: &[u8]) {
    let mut key = DetachKey::parse("ctrl-]").expect("it is the default");
    let mut passed = Vec::new();
    for piece in pieces(bytes) {
        let (keys, is_there) = key.before(piece);
        passed.extend(keys);
        if is_there {
            break;
        }
    }
    assert!(bytes.get(1..).unwrap_or_default().starts_with(&passed));
    let _ = DetachKey::parse(&String::from_utf8_lossy(bytes));
}
