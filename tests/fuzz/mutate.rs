//! Inputs made of other inputs: a small generator of numbers, and what is done with them.

/// SplitMix64: every number from one seed, the same everywhere.
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`; 0 for an end of 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).expect("it is below a usize")
    }

    /// A part of `bytes`, often a short one.
    fn part<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let from = self.below(bytes.len());
        let most = if self.below(2) == 0 { 8 } else { bytes.len() };
        let length = self.below((bytes.len() - from).min(most) + 1);
        &bytes[from..from + length]
    }
}

/// Bytes that parsers treat in a way of their own.
const WORDS: &[&[u8]] = &[
    b"\0",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"\"",
    b"'",
    b"\\",
    b"=",
    b":",
    b",",
    b"$",
    b"${",
    b"#",
    b"-",
    b"-1",
    b"0",
    b"18446744073709551616",
    b"99999999999999999999999999",
    b"1e999",
    b"%",
    b"*",
    b"?",
    b"[",
    b"]",
    b"{",
    b"}",
    b"(",
    b")",
    b"\x1b[",
    b"\x1b]",
    b"\x1bP",
    b"\x1b\\",
    b"\x1b",
    b"\x07",
    b"\xff",
    b"\xc2",
    b"\xc2\x9b",
    b"\xe2\x80\xae",
    b"\xef\xbf\xbd",
    b"\xf0\x9f\x98\x80",
    b"\xcc\x81",
    b"65535",
    b";",
    b"m",
    b"h",
    b"all",
    b"web",
    b"\xff\xff\xff\xff",
];

/// Another input like those of `corpus`, at most `longest` bytes.
pub fn mutant(random: &mut Random, corpus: &[Vec<u8>], longest: usize) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..1 + random.below(5) {
        let at = random.below(input.len() + 1);
        match random.below(8) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = random.below(256) as u8;
                }
            }
            2 => drop(input.drain(at..(at + random.below(16)).min(input.len()))),
            3 => input.truncate(at),
            4 => drop(input.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
            5 => {
                let other = &corpus[random.below(corpus.len())];
                let part = random.part(other).to_vec();
                drop(input.splice(at..at, part));
            }
            6 => {
                let part = random.part(&input).to_vec();
                drop(input.splice(at..at, part));
            }
            // What is harmless once may cost much when it is repeated.
            _ => {
                let part = random.part(&input).to_vec();
                let most = if random.below(16) == 0 { longest } else { 1024 };
                let times = random.below(most / part.len().max(1) + 1);
                drop(input.splice(at..at, part.repeat(times)));
            }
        }
        input.truncate(longest);
    }
    input
}
