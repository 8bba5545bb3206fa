//! The key that leaves an instance's terminal, in whatever form a terminal sends it.
//!
//! By itself it is one byte. A program may have asked for more: with kitty's keyboard protocol Ctrl-] is
//! `CSI 93 ; 5 u`, with xterm's `modifyOtherKeys` it is `CSI 27 ; 5 ; 93 ~`. In a text that is pasted between brackets no
//! byte is a key.

/// What stands before and after what is pasted.
const PASTE: [&[u8]; 2] = [b"\x1b[200~", b"\x1b[201~"];

/// Kitty's bit for Ctrl, and those that say nothing here: caps lock, num lock.
const CTRL: u32 = 4;
const LOCKS: u32 = 64 | 128;

/// The key, and where in what was typed we are.
#[derive(Debug)]
pub struct DetachKey {
    /// As a terminal sends it by itself.
    byte: u8,
    pasting: bool,
    /// A sequence that has no end yet.
    kept: Vec<u8>,
}

impl DetachKey {
    /// `ctrl-]`, `^]`; none for what is no such key.
    pub fn parse(text: &str) -> Option<DetachKey> {
        let key = text.to_lowercase();
        let key = key.strip_prefix("ctrl-").or_else(|| key.strip_prefix('^')).map(str::as_bytes);
        match key {
            Some(&[key @ (b'a'..=b'z' | b'[' | b']' | b'\\' | b'^' | b'_' | b'@')]) => {
                Some(DetachKey { byte: key.to_ascii_uppercase() & 0x1f, pasting: false, kept: Vec::new() })
            }
            _ => None,
        }
    }

    /// What of these keys, and of what was kept of those before, comes before it, and whether it is there. A sequence
    /// that has no end yet is kept for the next ones: terminals send the rest at once.
    pub fn before(&mut self, keys: &[u8]) -> (Vec<u8>, bool) {
        let mut keys = [std::mem::take(&mut self.kept), keys.to_vec()].concat();
        let mut at = 0;
        while at < keys.len() {
            let rest = &keys[at..];
            if let Some(turn) = PASTE.iter().position(|mark| rest.starts_with(mark)) {
                self.pasting = turn == 0;
                at += PASTE[turn].len();
            } else if has_no_end(rest) {
                self.kept = keys.split_off(at);
                break;
            } else if !self.pasting && self.is_at(rest) {
                keys.truncate(at);
                return (keys, true);
            } else {
                at += 1;
            }
        }
        (keys, false)
    }

    fn is_at(&self, keys: &[u8]) -> bool {
        // Escape begins every sequence, and is not looked for in them.
        if keys[0] == self.byte && !(self.byte == 0x1b && keys.len() > 1) {
            return true;
        }
        let Some(sequence) = keys.strip_prefix(b"\x1b[") else { return false };
        let Some(end) = sequence.iter().position(|byte| (0x40..=0x7e).contains(byte)) else { return false };
        let numbers: Vec<Vec<u32>> = sequence[..end]
            .split(|byte| *byte == b';')
            .map(|part| part.split(|byte| *byte == b':').map(number).collect())
            .collect();
        // A number may be followed by others of its kind, after colons: what the key is with shift, and the event.
        let first =
            |at: usize| numbers.get(at).and_then(|part: &Vec<u32>| part.first()).copied().unwrap_or(1);
        let (code, modifiers) = match (sequence[end], numbers.len()) {
            (b'u', 2..) => (first(0), first(1)),
            (b'~', 3) if first(0) == 27 => (first(2), first(1)),
            _ => return false,
        };
        let released = numbers.get(1).and_then(|part| part.get(1)) == Some(&3);
        let is_key = u8::try_from(code).is_ok_and(|code| {
            code.is_ascii() && (code.to_ascii_uppercase() & 0x1f) == self.byte && code >= 0x40
        });
        is_key && modifiers.saturating_sub(1) & !LOCKS == CTRL && !released
    }
}

/// Whether it is the beginning of a sequence that could be the key, or a mark of what is pasted.
fn has_no_end(keys: &[u8]) -> bool {
    const LONGEST: usize = 32;
    let inside = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b';' | b':');
    keys.strip_prefix(b"\x1b[").is_some_and(|rest| rest.len() < LONGEST && rest.iter().all(inside))
}

/// 0 for what is none.
fn number(digits: &[u8]) -> u32 {
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detach_key_is_what_a_terminal_sends() {
        let key = |text: &str| DetachKey::parse(text).map(|key| key.byte);
        assert_eq!(key("ctrl-]"), Some(0x1d));
        assert_eq!(key("Ctrl-P"), Some(0x10));
        assert_eq!(key("^\\"), Some(0x1c));
        assert_eq!(key("ctrl-@"), Some(0));
        for wrong in ["", "q", "ctrl-", "ctrl-1", "ctrl-ab", "alt-x"] {
            assert_eq!(key(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn it_is_found_in_each_form() {
        for (name, keys, before) in [
            ("ctrl-]", "ls\x1d", Some("ls")),
            ("ctrl-]", "ls\x1b[93;5u", Some("ls")),
            ("ctrl-]", "\x1b[93:125;133:1u", Some("")),
            ("ctrl-]", "\x1b[27;5;93~", Some("")),
            ("ctrl-p", "\x1b[112;5ux", Some("")),
            ("ctrl-]", "\x1b[93;5:3u", None),
            ("ctrl-]", "\x1b[93;6u", None),
            ("ctrl-]", "\x1b[93u", None),
            ("ctrl-]", "\x1b[29;5u", None),
            ("ctrl-]", "]\x1b[A\x1b[1;5C", None),
            ("ctrl-[", "x\x1b", Some("x")),
            ("ctrl-[", "\x1b[A", None),
        ] {
            let mut key = DetachKey::parse(name).expect("a key");
            let expected =
                before.map_or((keys.as_bytes().to_vec(), false), |before| (before.as_bytes().to_vec(), true));
            assert_eq!(key.before(keys.as_bytes()), expected, "{keys:?}");
        }
    }

    #[test]
    fn what_is_pasted_is_no_key() {
        let mut key = DetachKey::parse("ctrl-]").expect("a key");
        assert_eq!(key.before(b"\x1b[200~a\x1db"), (b"\x1b[200~a\x1db".to_vec(), false));
        assert_eq!(key.before(b"\x1d"), (b"\x1d".to_vec(), false));
        assert_eq!(key.before(b"c\x1b[201~d\x1d"), (b"c\x1b[201~d".to_vec(), true));
    }

    #[test]
    fn it_may_come_in_two_pieces() {
        for (first, second) in [("a\x1b[93", ";5u"), ("a\x1b[", "93;5u"), ("a\x1b[93;5", "ub")] {
            let mut key = DetachKey::parse("ctrl-]").expect("a key");
            assert_eq!(key.before(first.as_bytes()), (b"a".to_vec(), false), "{first:?}");
            assert_eq!(key.before(second.as_bytes()), (Vec::new(), true), "{second:?}");
        }
        let mut key = DetachKey::parse("ctrl-]").expect("a key");
        assert_eq!(key.before(b"\x1b[1"), (Vec::new(), false));
        assert_eq!(key.before(b";5C\x1b"), (b"\x1b[1;5C\x1b".to_vec(), false), "escape alone is a key");
        assert_eq!(key.before(b"\x1b[20"), (Vec::new(), false));
        assert_eq!(key.before(b"0~\x1d"), (b"\x1b[200~\x1d".to_vec(), false), "pasted");
    }
}
