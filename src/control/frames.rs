//! Frames: what travels over a connection that carries a terminal (`docs/terminals.md`, "On the socket"). Pure.
//!
//! A byte that says what it is, the length of the rest in four bytes, big end first, and the rest, which is never
//! longer than [`LONGEST`].

/// The longest rest of a frame, bytes.
pub const LONGEST: usize = 64 * 1024;

/// What goes before the rest.
const HEAD: usize = 5;

/// What a frame is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// To the instance: keys. To the viewer: bytes for its terminal.
    Bytes(Vec<u8>),
    /// To the instance: the viewer's window, rows and columns.
    Size(u16, u16),
    /// To the viewer: the whole screen; what is on it is to be cleared first.
    Screen(Vec<u8>),
    /// To the viewer: something happened to the instance, in words.
    Told(String),
    /// To the viewer: the instance has ended, and why. Nothing follows.
    Ended(String),
}

impl Frame {
    /// Writes it behind what is in `out`; a rest that is too long goes out in several frames.
    pub fn put(&self, out: &mut Vec<u8>) {
        let size;
        let (kind, rest): (u8, &[u8]) = match self {
            Frame::Bytes(bytes) => (b'b', bytes),
            Frame::Size(rows, columns) => {
                size = [rows.to_be_bytes(), columns.to_be_bytes()].concat();
                (b's', &size)
            }
            Frame::Screen(bytes) => (b'p', bytes),
            Frame::Told(text) => (b't', text.as_bytes()),
            Frame::Ended(text) => (b'e', text.as_bytes()),
        };
        let mut kind = kind;
        let mut pieces = rest.chunks(LONGEST).peekable();
        loop {
            let piece = pieces.next().unwrap_or_default();
            out.push(kind);
            out.extend_from_slice(&u32::try_from(piece.len()).expect("a piece is short").to_be_bytes());
            out.extend_from_slice(piece);
            if pieces.peek().is_none() {
                return;
            }
            // The rest of a repainted screen is bytes like any other.
            kind = b'b';
        }
    }

    /// Takes the first frame out of `bytes`, if it is whole.
    ///
    /// # Errors
    /// It is no frame, and nothing that follows can be told apart.
    pub fn take(bytes: &mut Vec<u8>) -> Result<Option<Frame>, NoFrame> {
        let Some((frame, length)) = Frame::first(bytes)? else { return Ok(None) };
        bytes.drain(..length);
        Ok(Some(frame))
    }

    /// The first frame of `bytes`, if it is whole, and its length.
    ///
    /// # Errors
    /// As [`Frame::take`].
    pub fn first(bytes: &[u8]) -> Result<Option<(Frame, usize)>, NoFrame> {
        let Some((&kind, length)) = bytes.split_first() else { return Ok(None) };
        let Some(length) = length.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > LONGEST || !b"bspte".contains(&kind) {
            return Err(NoFrame);
        }
        let Some(rest) = bytes.get(HEAD..HEAD + length) else { return Ok(None) };
        let text = || String::from_utf8_lossy(rest).into_owned();
        let frame = match kind {
            b'b' => Frame::Bytes(rest.to_vec()),
            b's' => {
                let [a, b, c, d] = *rest else { return Err(NoFrame) };
                Frame::Size(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
            }
            b'p' => Frame::Screen(rest.to_vec()),
            b't' => Frame::Told(text()),
            _ => Frame::Ended(text()),
        };
        Ok(Some((frame, HEAD + length)))
    }
}

/// What came is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoFrame;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame() -> impl Strategy<Value = Frame> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200).prop_map(Frame::Bytes),
            (any::<u16>(), any::<u16>()).prop_map(|(rows, columns)| Frame::Size(rows, columns)),
            prop::collection::vec(any::<u8>(), 0..200).prop_map(Frame::Screen),
            ".{0,30}".prop_map(Frame::Told),
            ".{0,30}".prop_map(Frame::Ended),
        ]
    }

    proptest! {
        #[test]
        fn what_is_put_is_taken_however_it_comes(frames in prop::collection::vec(frame(), 0..8), cut in 1usize..40) {
            let mut wire = Vec::new();
            frames.iter().for_each(|frame| frame.put(&mut wire));
            let (mut bytes, mut taken) = (Vec::new(), Vec::new());
            for piece in wire.chunks(cut) {
                bytes.extend_from_slice(piece);
                while let Some(frame) = Frame::take(&mut bytes).expect("frames") {
                    taken.push(frame);
                }
            }
            prop_assert_eq!(taken, frames);
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn anything_may_come(mut bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            while let Ok(Some(_)) = Frame::take(&mut bytes) {}
        }
    }

    #[test]
    fn a_large_screen_goes_in_several_frames() {
        let picture = vec![b'x'; 3 * LONGEST + 1];
        let mut wire = Vec::new();
        Frame::Screen(picture.clone()).put(&mut wire);
        let Ok(Some(Frame::Screen(mut all))) = Frame::take(&mut wire) else { panic!("no screen") };
        while let Some(Frame::Bytes(more)) = Frame::take(&mut wire).unwrap() {
            all.extend(more);
        }
        assert_eq!(all, picture);
    }

    #[test]
    fn a_frame_without_end_is_refused() {
        assert_eq!(Frame::take(&mut vec![b'b', 0xff, 0, 0, 0]), Err(NoFrame));
        assert_eq!(Frame::take(&mut vec![b'b', 0, 1, 0, 1]), Err(NoFrame), "one more than the longest");
        assert_eq!(Frame::take(&mut vec![b'b', 0, 1, 0, 0]), Ok(None));
        assert_eq!(Frame::take(&mut vec![b's', 0, 0, 0, 3, 0, 0, 0]), Err(NoFrame));
        assert_eq!(Frame::take(&mut vec![b'{', 0, 0, 0, 0]), Err(NoFrame));
    }
}
