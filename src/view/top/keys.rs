//! What a terminal sends, as keys (xterm's ctlseqs; ECMA-48).

/// A key that was pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// With the control key: a letter.
    Control(char),
    /// Return.
    Enter,
    /// The key alone.
    Escape,
    /// Backwards.
    Backspace,
    /// An arrow.
    Up,
    /// An arrow.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the first.
    Home,
    /// To the last.
    End,
    /// One that nothing is done at.
    Other,
}

/// The keys of what was read at once. An escape that ends it is the key alone: terminals send a sequence in one piece.
pub fn keys(mut bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    while let Some((&first, rest)) = bytes.split_first() {
        let (key, length) = match (first, rest.first()) {
            (0x1b, Some(b'[' | b'O')) => sequence(bytes),
            (0x1b, _) => (Key::Escape, 1),
            (b'\r' | b'\n', _) => (Key::Enter, 1),
            (0x7f | 0x08, _) => (Key::Backspace, 1),
            (1..=26, _) => (Key::Control(char::from(b'a' + first - 1)), 1),
            (0..0x20, _) => (Key::Other, 1),
            _ => character(bytes),
        };
        keys.push(key);
        bytes = &bytes[length..];
    }
    keys
}

/// `ESC [ 1 ; 5 A`, `ESC O A`, `ESC [ 5 ~`.
fn sequence(bytes: &[u8]) -> (Key, usize) {
    let end = bytes[2..].iter().position(|byte| (0x40..=0x7e).contains(byte));
    let Some(end) = end.map(|end| end + 2) else { return (Key::Other, bytes.len()) };
    let number = bytes[2..end].split(|byte| *byte == b';').next().unwrap_or_default();
    let key = match (bytes[end], number) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'H', _) | (b'~', b"1" | b"7") => Key::Home,
        (b'F', _) | (b'~', b"4" | b"8") => Key::End,
        (b'~', b"5") => Key::PageUp,
        (b'~', b"6") => Key::PageDown,
        _ => Key::Other,
    };
    (key, end + 1)
}

fn character(bytes: &[u8]) -> (Key, usize) {
    let length = bytes.len().min(4);
    let valid = match std::str::from_utf8(&bytes[..length]) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    };
    match valid.chars().next() {
        Some(c) => (Key::Char(c), c.len_utf8()),
        None => (Key::Other, 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_terminals_send_is_understood() {
        for (bytes, expected) in [
            (&b"q"[..], vec![Key::Char('q')]),
            ("aé".as_bytes(), vec![Key::Char('a'), Key::Char('é')]),
            (b"\x1b[A\x1bOB", vec![Key::Up, Key::Down]),
            (b"\x1b[1;5A\x1b[5~\x1b[6~", vec![Key::Up, Key::PageUp, Key::PageDown]),
            (b"\x1b[H\x1b[F\x1b[1~\x1b[4~", vec![Key::Home, Key::End, Key::Home, Key::End]),
            (b"\x1b", vec![Key::Escape]),
            (b"\x1bq", vec![Key::Escape, Key::Char('q')]),
            (b"\r\x7f\x03\x1a", vec![Key::Enter, Key::Backspace, Key::Control('c'), Key::Control('z')]),
            (b"\x1b[200;5Zx\x00\xff", vec![Key::Other, Key::Char('x'), Key::Other, Key::Other]),
            (b"\x1b[12", vec![Key::Other]),
        ] {
            assert_eq!(keys(bytes), expected, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read(bytes: Vec<u8>) {
            prop_assert!(keys(&bytes).len() <= bytes.len());
        }
    }
}
