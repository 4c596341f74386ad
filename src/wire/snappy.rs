//! A snappy block decoded as far as is asked for, so that a large message can be looked at before the
//! rest of it takes memory.
//!
//! Source of the format: google/snappy, `format_description.txt`.

use super::error::DecodeError;

const CORRUPT: DecodeError = DecodeError::Snappy("corrupt data");

/// The length that a block declares, and the bytes that say so.
pub(super) fn header(body: &[u8]) -> Result<(u64, usize), DecodeError> {
    let mut value = 0u64;
    for (index, byte) in body.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            if value > u64::from(u32::MAX) {
                break;
            }
            return Ok((value, index + 1));
        }
    }
    Err(DecodeError::Snappy("bad length"))
}

/// A block that is being decoded, front to back.
pub(super) struct Block<'a> {
    body: &'a [u8],
    at: usize,
    declared: usize,
    /// Bytes that are left of the literal at `at`.
    literal: usize,
    out: Vec<u8>,
}

impl<'a> Block<'a> {
    /// A block whose declared length was accepted; nothing is allocated yet.
    pub(super) fn new(body: &'a [u8]) -> Result<Self, DecodeError> {
        let (declared, at) = header(body)?;
        Ok(Self {
            body,
            at,
            declared: declared as usize,
            literal: 0,
            out: Vec::new(),
        })
    }

    /// Makes room for `len` bytes in all; what is decoded beyond grows the buffer.
    pub(super) fn reserve(&mut self, len: usize) {
        self.out.reserve_exact(len.saturating_sub(self.out.len()));
    }

    /// Decodes until `want` bytes or up to 63 more are there, or all, and returns what is.
    pub(super) fn decode_to(&mut self, want: usize) -> Result<&[u8], DecodeError> {
        let want = want.min(self.declared);
        while self.out.len() < want {
            if self.literal > 0 {
                let taken = self.literal.min(want - self.out.len());
                let bytes = self.body.get(self.at..self.at + taken).ok_or(CORRUPT)?;
                self.out.extend_from_slice(bytes);
                self.at += taken;
                self.literal -= taken;
                continue;
            }
            let tag = self.body.get(self.at).copied();
            let tag = tag.ok_or(DecodeError::Snappy("shorter than declared"))?;
            self.at += 1;
            self.element(usize::from(tag))?;
        }
        Ok(&self.out)
    }

    /// The whole message.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, DecodeError> {
        self.decode_to(self.declared)?;
        if self.at < self.body.len() || self.literal > 0 {
            return Err(DecodeError::Snappy("longer than declared"));
        }
        Ok(self.out)
    }

    #[inline]
    fn element(&mut self, tag: usize) -> Result<(), DecodeError> {
        let (length, offset) = match tag & 3 {
            0 => {
                let short = tag >> 2;
                self.literal = 1 + match short {
                    0..60 => short,
                    _ => self.little_endian(short - 59)?,
                };
                return Ok(());
            }
            1 => (4 + (tag >> 2 & 7), (tag >> 5) << 8 | self.little_endian(1)?),
            2 => (1 + (tag >> 2), self.little_endian(2)?),
            _ => (1 + (tag >> 2), self.little_endian(4)?),
        };
        self.copy(length, offset)
    }

    #[inline]
    fn little_endian(&mut self, bytes: usize) -> Result<usize, DecodeError> {
        let taken = self.body.get(self.at..self.at + bytes).ok_or(CORRUPT)?;
        self.at += bytes;
        Ok(taken.iter().rev().fold(0, |v, b| v << 8 | usize::from(*b)))
    }

    #[inline]
    fn copy(&mut self, length: usize, offset: usize) -> Result<(), DecodeError> {
        let end = self.out.len();
        if offset == 0 || offset > end || length > self.declared - end {
            return Err(CORRUPT);
        }
        // A copy may read what it writes: then the run doubles until it is long enough.
        let (from, mut left) = (end - offset, length);
        while left > 0 {
            let taken = left.min(self.out.len() - from);
            self.out.extend_from_within(from..from + taken);
            left -= taken;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compressible, with runs, repeats near and far, and noise.
    fn data(seed: u64, len: usize) -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut data = vec![1];
        while data.len() < len {
            match random.u8(0..3) {
                0 => data.extend((0..random.usize(1..200)).map(|_| random.u8(..))),
                1 => data.extend(std::iter::repeat_n(random.u8(..), random.usize(1..5000))),
                _ => {
                    let from = random.usize(0..data.len());
                    let to = (from + random.usize(1..300)).min(data.len());
                    data.extend_from_within(from..to);
                }
            }
        }
        data
    }

    #[test]
    fn each_prefix_is_what_the_whole_begins_with() {
        let data = data(7, 200_000);
        let body = snap::raw::Encoder::new().compress_vec(&data).unwrap();
        let mut block = Block::new(&body).unwrap();
        for want in [1, 100, 65_536, 65_537, 150_000] {
            let seen = block.decode_to(want).unwrap();
            assert!((want..want + 64).contains(&seen.len()));
            assert_eq!(seen, &data[..seen.len()]);
        }
        assert_eq!(block.finish(), Ok(data));
    }

    #[test]
    fn blocks_that_are_not_of_their_length_are_refused() {
        let body = snap::raw::Encoder::new()
            .compress_vec(&data(3, 3000))
            .unwrap();
        for cut in 2..body.len() {
            assert!(
                Block::new(&body[..cut]).unwrap().finish().is_err(),
                "cut at {cut}"
            );
        }
        let mut longer = body;
        longer.extend_from_slice(&[0, b'x']);
        let refused = Block::new(&longer).unwrap().finish();
        assert_eq!(refused, Err(DecodeError::Snappy("longer than declared")));
        for (bad, why) in [
            (&[5, 0b0000_0001, 0][..], "copy before any byte"),
            (&[5, 0, b'a', 0b0000_0001, 0], "copy offset 0"),
            (&[5, 0, b'a', 0b0000_0001, 2], "copy from before the start"),
            (&[3, 0, b'a', 0b0000_0001, 1], "copy past the declared end"),
            (&[5, 60 << 2], "literal length cut off"),
            (&[5, 63 << 2, 0xff, 0xff, 0xff, 0xff], "literal of 4 GiB"),
        ] {
            assert!(Block::new(bad).unwrap().finish().is_err(), "{why}");
        }
    }
}
