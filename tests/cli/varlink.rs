//! A Varlink client as plain as can be: bytes go out as they are given, replies come back as JSON.
//!
//! It shares no code with lpm's own, so that the two do not agree about a mistake. It waits no longer than
//! [`PATIENCE`].

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::stack::PATIENCE;

/// A connection.
pub struct Varlink {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Varlink {
    /// To the socket at `path`.
    #[track_caller]
    pub fn connect(path: &Path) -> Varlink {
        let stream = UnixStream::connect(path).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Varlink { stream, bytes: Vec::new() }
    }

    /// Sends these bytes; whether all of them were taken.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Nothing more will be sent.
    pub fn finish(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("it is connected");
    }

    /// The next reply; `None` when the other side hung up.
    #[track_caller]
    pub fn reply(&mut self) -> Option<Value> {
        loop {
            if let Some(at) = self.bytes.iter().position(|byte| *byte == 0) {
                let rest = self.bytes.split_off(at + 1);
                let message = std::mem::replace(&mut self.bytes, rest);
                return Some(serde_json::from_slice(&message[..at]).expect("a reply is JSON"));
            }
            let mut chunk = [0; 64 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(length) => self.bytes.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no reply comes"),
                // Hung up on with something unread.
                Err(_) => return None,
            }
        }
    }

    /// Calls a method of the stack with these parameters.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        assert!(self.send(call(method, parameters)), "it hung up");
        self.reply().expect("a reply")
    }
}

/// A call of a method of the stack, its NUL included.
pub fn call(method: &str, parameters: Value) -> Vec<u8> {
    message(&json!({ "method": format!("dev.lpm.Supervisor.{method}"), "parameters": parameters }))
}

/// Any message, its NUL included.
pub fn message(value: &Value) -> Vec<u8> {
    let mut bytes = value.to_string().into_bytes();
    bytes.push(0);
    bytes
}
