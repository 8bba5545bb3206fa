//! Cutting a stream of bytes into lines.
//!
//! Pure: bytes in, pieces out. A line that lies whole within one chunk is handed on as a slice of that chunk;
//! only an unfinished line is kept here, so that a source with nothing to say owns no memory.
//!
//! A line longer than [`LONGEST`] is not kept until its end: what there is of it is handed on as
//! [`Piece::Start`], then every further chunk as it comes, until the newline. So a line may be of any length
//! and the memory is bounded all the same.
//!
//! Nothing is dropped or added but the newline that [`Cutter::finish`] puts after an unterminated last line:
//! the pieces in order, joined, are the bytes that went in. A carriage return is a byte like any other.

use memchr::{memchr, memchr_iter};

/// The longest unfinished line that is kept for its newline, in bytes.
pub const LONGEST: usize = 64 * 1024;

/// An unfinished line's buffer is kept for the next one up to this size, so that a source whose blocks end in
/// mid-line doesn't allocate for each of them.
const KEPT: usize = 512;

/// A part of a source's output, never longer than [`LONGEST`] or the chunk it was cut from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A line, its newline included.
    Whole(&'a [u8]),
    /// The beginning of a long line; `More` or `End` follows.
    Start(&'a [u8]),
    /// The middle of a long line.
    More(&'a [u8]),
    /// The end of a long line, its newline included.
    End(&'a [u8]),
}

/// Cuts one source's output.
#[derive(Debug, Default)]
pub struct Cutter {
    /// The beginning of a line whose newline has not come. Empty while `long`.
    partial: Vec<u8>,
    /// A `Start` was handed on, its `End` was not.
    long: bool,
}

impl Cutter {
    /// Takes the next bytes of the source and hands on every piece they complete, in order.
    #[inline]
    pub fn feed(&mut self, chunk: &[u8], mut emit: impl FnMut(Piece<'_>)) {
        let chunk = if self.long || !self.partial.is_empty() {
            match self.resume(chunk, &mut emit) {
                Some(rest) => rest,
                None => return,
            }
        } else {
            chunk
        };
        let mut start = 0;
        for newline in memchr_iter(b'\n', chunk) {
            emit(Piece::Whole(&chunk[start..=newline]));
            start = newline + 1;
        }
        let tail = &chunk[start..];
        if tail.len() > LONGEST {
            emit(Piece::Start(tail));
            self.long = true;
        } else {
            self.partial.extend_from_slice(tail);
        }
    }

    /// Ends an unterminated last line with a newline: no more will come, or something else is to be said now.
    pub fn finish(&mut self, mut emit: impl FnMut(Piece<'_>)) {
        if std::mem::take(&mut self.long) {
            emit(Piece::End(b"\n"));
        } else if !self.partial.is_empty() {
            self.partial.push(b'\n');
            emit(Piece::Whole(&self.partial));
            self.forget();
        }
    }

    /// Gives up a long line that has begun: whoever prints it has ended it. What comes next of it is cut as
    /// if it were a line of its own.
    pub fn interrupt(&mut self) {
        self.long = false;
    }

    /// Goes on with the line that the last chunk left unfinished. Returns what follows it, if it ended.
    fn resume<'a>(&mut self, chunk: &'a [u8], emit: &mut impl FnMut(Piece<'_>)) -> Option<&'a [u8]> {
        let end = memchr(b'\n', chunk).map(|newline| newline + 1);
        let (line, rest) = chunk.split_at(end.unwrap_or(chunk.len()));
        match (self.long, end) {
            (true, Some(_)) => {
                emit(Piece::End(line));
                self.long = false;
            }
            (true, None) => emit(Piece::More(line)),
            (false, Some(_)) if self.partial.len() + line.len() <= LONGEST => {
                self.partial.extend_from_slice(line);
                emit(Piece::Whole(&self.partial));
                self.forget();
            }
            (false, Some(_)) => {
                emit(Piece::Start(&self.partial));
                emit(Piece::End(line));
                self.forget();
            }
            (false, None) if self.partial.len() + line.len() <= LONGEST => {
                self.partial.extend_from_slice(line)
            }
            (false, None) => {
                emit(Piece::Start(&self.partial));
                emit(Piece::More(line));
                self.forget();
                self.long = true;
            }
        }
        end.map(|_| rest)
    }

    fn forget(&mut self) {
        self.partial.clear();
        if self.partial.capacity() > KEPT {
            self.partial = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All lines, each put together from its pieces, and what is left unfinished. Checks the grammar of
    /// pieces on the way.
    fn cut(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut cutter, mut lines, mut open) = (Cutter::default(), Vec::new(), None::<Vec<u8>>);
        let mut take = |piece: Piece<'_>| match piece {
            Piece::Whole(line) => {
                assert!(open.is_none());
                lines.push(line.to_vec());
            }
            Piece::Start(text) => {
                assert!(!text.is_empty() && open.is_none());
                open = Some(text.to_vec());
            }
            Piece::More(text) => open.as_mut().expect("More follows Start").extend_from_slice(text),
            Piece::End(text) => {
                let mut line = open.take().expect("End follows Start");
                line.extend_from_slice(text);
                lines.push(line);
            }
        };
        for chunk in chunks {
            cutter.feed(chunk, &mut take);
            assert!(cutter.partial.len() <= LONGEST);
        }
        cutter.finish(&mut take);
        assert!(open.is_none() && cutter.partial.is_empty() && cutter.partial.capacity() <= KEPT);
        lines
    }

    /// What a cutter should do, said in the plainest way.
    fn naive(text: &[u8]) -> Vec<Vec<u8>> {
        let mut lines: Vec<Vec<u8>> = text.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        if let Some(last) = lines.last_mut().filter(|l| l.last() != Some(&b'\n')) {
            last.push(b'\n');
        }
        lines
    }

    #[test]
    fn a_line_may_span_chunks_and_a_chunk_may_hold_many() {
        assert_eq!(cut(&[b"on", b"e\ntwo\n\nth", b"", b"ree"]), [&b"one\n"[..], b"two\n", b"\n", b"three\n"]);
    }

    #[test]
    fn a_carriage_return_stays() {
        assert_eq!(cut(&[b"a\r\nb\rc\n"]), [&b"a\r\n"[..], b"b\rc\n"]);
    }

    #[test]
    fn a_line_of_a_hundred_megabytes_is_never_held() {
        let chunk = vec![b'y'; 65_536];
        let (mut cutter, mut bytes) = (Cutter::default(), 0);
        for _ in 0..1600 {
            cutter.feed(&chunk, |p| match p {
                Piece::Start(t) | Piece::More(t) => bytes += t.len(),
                _ => panic!("no line ended"),
            });
            assert!(cutter.partial.capacity() <= LONGEST);
        }
        assert_eq!(bytes, 1600 * chunk.len());
        cutter.finish(|p| assert_eq!(p, Piece::End(b"\n")));
    }

    #[test]
    fn after_an_interruption_the_rest_is_a_line_of_its_own() {
        let mut cutter = Cutter::default();
        cutter.feed(&[b'x'; LONGEST + 1], |p| assert!(matches!(p, Piece::Start(_))));
        cutter.interrupt();
        let mut got = Vec::new();
        cutter.feed(b"rest\nnext\n", |p| got.push(format!("{p:?}")));
        assert_eq!(got, [format!("{:?}", Piece::Whole(b"rest\n")), format!("{:?}", Piece::Whole(b"next\n"))]);
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_splitter(
            parts in prop::collection::vec((0usize..90_000, any::<bool>()), 0..12),
            cuts in prop::collection::vec(1usize..70_000, 1..12),
        ) {
            let mut text = Vec::new();
            for (n, (len, end)) in parts.iter().enumerate() {
                // Mostly short lines, some longer than the bound.
                text.extend(std::iter::repeat_n(b'a' + n as u8, if len % 3 == 0 { *len } else { len % 40 }));
                if *end { text.push(b'\n') }
            }
            let (mut chunks, mut rest, mut cuts) = (Vec::new(), &text[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (a, b) = rest.split_at(rest.len().min(*cuts.next().expect("a cycle")));
                chunks.push(a);
                rest = b;
            }
            prop_assert_eq!(cut(&chunks), naive(&text));
        }

        #[test]
        fn agrees_on_dense_newlines(text in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300), size in 1usize..20) {
            let chunks: Vec<&[u8]> = text.chunks(size).collect();
            prop_assert_eq!(cut(&chunks), naive(&text));
        }
    }
}
