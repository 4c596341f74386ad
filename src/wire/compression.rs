//! Bodies, compressed and not, with every limit checked before a byte is allocated.
//!
//! The snappy block format's densest element is a three-byte copy that yields 64 bytes, so a block of n
//! bytes can never hold more than n × 64/3. A block that declares more lies, and is refused at once:
//! memory follows what was really sent, never what was claimed.

use std::io::Read;

use super::error::DecodeError;
use super::snappy::{self, Block};

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Snappy block format, as both versions of the protocol ask.
    Snappy,
    /// One zstd frame, as VictoriaMetrics' agents send it.
    Zstd,
}

/// First bytes of a zstd frame (RFC 8878, 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// First bytes of the framed snappy format.
const FRAMED_MAGIC: [u8; 10] = [0xff, 0x06, 0x00, 0x00, 0x73, 0x4e, 0x61, 0x50, 0x70, 0x59];
/// A window of 8 MiB: no sender in this field asks for more.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Snappy blocks that decode to more than this are looked at before they are decoded whole.
const LOOK_FROM: usize = 512 << 10;
/// How much more is decoded between two looks, at first.
const STEP: usize = 256 << 10;
/// Where the distance between two looks begins to double.
const FINE_UNTIL: usize = 1 << 20;

/// Length of the message in `body`, known before decoding it. For zstd, whose frame need not say, the
/// answer may be `limit`.
///
/// # Errors
/// When the body cannot be what it says, or is over `limit`.
pub fn decoded_len(body: &[u8], encoding: Encoding, limit: u64) -> Result<u64, DecodeError> {
    let declared = match encoding {
        Encoding::Zstd if body.starts_with(&ZSTD_MAGIC) => {
            zstd::zstd_safe::get_frame_content_size(body)
                .map_err(|_| DecodeError::Zstd("bad frame header".to_owned()))?
                .unwrap_or(limit)
        }
        _ => snappy_len(body)?,
    };
    if declared > limit {
        return Err(DecodeError::DecodedSize { declared, limit });
    }
    Ok(declared)
}

fn snappy_len(body: &[u8]) -> Result<u64, DecodeError> {
    if body.is_empty() {
        return Ok(0);
    }
    if body.starts_with(&FRAMED_MAGIC) {
        return Err(DecodeError::SnappyFramed);
    }
    let (declared, _) = snappy::header(body)?;
    let possible = (body.len() as u64).saturating_mul(64) / 3;
    if declared > possible {
        return Err(DecodeError::SnappyRatio {
            declared,
            received: body.len(),
        });
    }
    Ok(declared)
}

/// Decodes a body whose length [`decoded_len`] accepts.
///
/// `look` sees a message of more than half a mebibyte while it grows, each time from its first byte on,
/// and may refuse it before more of it takes memory.
pub fn decode(
    body: &[u8],
    encoding: Encoding,
    limit: u64,
    look: impl FnMut(&[u8]) -> Result<(), DecodeError>,
) -> Result<Vec<u8>, DecodeError> {
    let declared = decoded_len(body, encoding, limit)? as usize;
    if encoding == Encoding::Zstd && body.starts_with(&ZSTD_MAGIC) {
        return decode_zstd(body, limit, look);
    }
    if declared > LOOK_FROM {
        return decode_snappy(body, declared, look);
    }
    let mut out = vec![0; declared];
    // No bytes at all are the empty message: Prometheus sends them when everything has aged out.
    if body.is_empty() {
        return Ok(out);
    }
    let written = snap::raw::Decoder::new()
        .decompress(body, &mut out)
        .map_err(|_| DecodeError::Snappy("corrupt data"))?;
    if written != declared {
        return Err(DecodeError::Snappy("shorter than declared"));
    }
    Ok(out)
}

fn decode_snappy(
    body: &[u8],
    declared: usize,
    mut look: impl FnMut(&[u8]) -> Result<(), DecodeError>,
) -> Result<Vec<u8>, DecodeError> {
    let mut block = Block::new(body)?;
    for want in steps(declared) {
        block.reserve(if want <= FINE_UNTIL {
            declared.min(FINE_UNTIL)
        } else {
            declared
        });
        look(block.decode_to(want)?)?;
    }
    block.reserve(declared);
    block.finish()
}

/// Lengths at which a growing message is looked at: each quarter of the first mebibyte, and then each
/// doubling, so that what a flood can take is less than what honest data before it took.
fn steps(declared: usize) -> impl Iterator<Item = usize> {
    let next = |at: &usize| at.checked_add(if *at < FINE_UNTIL { STEP } else { *at });
    std::iter::successors(Some(STEP), next).take_while(move |at| *at < declared)
}

fn decode_zstd(
    body: &[u8],
    limit: u64,
    mut look: impl FnMut(&[u8]) -> Result<(), DecodeError>,
) -> Result<Vec<u8>, DecodeError> {
    let refuse = |e: std::io::Error| DecodeError::Zstd(e.to_string());
    let mut reader = zstd::stream::read::Decoder::with_buffer(body)
        .map_err(refuse)?
        .single_frame();
    reader.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(refuse)?;
    let mut out = Vec::new();
    let most = usize::try_from(limit)
        .unwrap_or(usize::MAX)
        .saturating_add(1);
    for want in steps(most).chain([most]) {
        let room = (want - out.len()) as u64;
        let got = reader.by_ref().take(room).read_to_end(&mut out);
        if got.map_err(refuse)? < room as usize {
            break;
        }
        look(&out)?;
    }
    if out.len() as u64 > limit {
        return Err(DecodeError::DecodedSize {
            declared: out.len() as u64,
            limit,
        });
    }
    if !reader.finish().is_empty() {
        return Err(DecodeError::Zstd("bytes after the frame".to_owned()));
    }
    Ok(out)
}

/// Compresses `message` as one snappy block, reusing `encoder`'s table and `scratch`, which becomes as long as
/// the block might have been: keep the block, not the scratch.
///
/// # Panics
/// Never below 4 GiB, which batches cannot reach.
pub fn encode_snappy<'s>(
    encoder: &mut snap::raw::Encoder,
    message: &[u8],
    scratch: &'s mut Vec<u8>,
) -> &'s [u8] {
    let most = snap::raw::max_compress_len(message.len());
    if scratch.len() < most {
        scratch.resize(most, 0);
    }
    let length = encoder
        .compress(message, scratch)
        .expect("a batch is far below snappy's 4 GiB");
    &scratch[..length]
}

/// Compresses `message` as one zstd frame, in the same way.
///
/// # Panics
/// Never: `scratch` has room for the longest frame.
pub fn encode_zstd<'s>(message: &[u8], level: i32, scratch: &'s mut Vec<u8>) -> &'s [u8] {
    let most = zstd::zstd_safe::compress_bound(message.len());
    if scratch.len() < most {
        scratch.resize(most, 0);
    }
    let length = zstd::bulk::compress_to_buffer(message, &mut scratch[..], level)
        .expect("compressing into memory cannot fail");
    &scratch[..length]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 32 << 20;

    fn snappy(data: &[u8]) -> Vec<u8> {
        encode_snappy(&mut snap::raw::Encoder::new(), data, &mut Vec::new()).to_vec()
    }

    fn plain(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
        decode(body, Encoding::Snappy, LIMIT, |_| Ok(()))
    }

    #[test]
    fn a_block_that_declares_more_than_it_can_hold_is_refused_before_allocation() {
        let mut bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
        bomb.extend_from_slice(&[0; 42]);
        let refused = decoded_len(&bomb, Encoding::Snappy, u64::MAX).unwrap_err();
        assert!(
            matches!(refused, DecodeError::SnappyRatio { received: 47, .. }),
            "{refused}"
        );
    }

    #[test]
    fn an_honest_block_over_the_limit_is_refused_as_too_large() {
        let body = snappy(&vec![7; 2 << 20]);
        let refused = decoded_len(&body, Encoding::Snappy, 1 << 20).unwrap_err();
        assert_eq!(refused.reason(), "decoded_size");
    }

    #[test]
    fn framed_truncated_and_lying_blocks_are_refused() {
        assert_eq!(plain(&FRAMED_MAGIC), Err(DecodeError::SnappyFramed));
        let good = snappy(b"hello hello hello hello hello");
        for cut in 1..good.len() {
            assert!(plain(&good[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = good;
        longer[0] += 1;
        assert!(plain(&longer).is_err());
        assert!(plain(&[5, 0b0000_0001, 0, 0, 0]).is_err(), "copy offset 0");
        assert!(
            plain(&[5, 0b0000_0001, 9, 0, 0]).is_err(),
            "copy from before the start"
        );
        assert!(
            plain(&[0x80, 0x80, 0x80, 0x80, 0x80, 1]).is_err(),
            "length of six bytes"
        );
        assert_eq!(plain(&[0]), Ok(vec![]), "the empty message is legal");
        assert_eq!(plain(&[]), Ok(vec![]), "so are no bytes at all");
    }

    #[test]
    fn a_large_message_is_looked_at_while_it_grows_and_decodes_to_the_same() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut data: Vec<u8> = Vec::new();
        while data.len() < 3 << 20 {
            data.extend((0..random.usize(1..60)).map(|_| random.u8(..)));
            let from = random.usize(0..data.len());
            data.extend_from_within(from..(from + random.usize(0..900)).min(data.len()));
        }
        let zstd = zstd::bulk::compress(&data, 1).unwrap();
        for (body, encoding) in [(snappy(&data), Encoding::Snappy), (zstd, Encoding::Zstd)] {
            let mut seen = Vec::new();
            let whole = decode(&body, encoding, LIMIT, |prefix| {
                assert!(data.starts_with(prefix));
                seen.push(prefix.len().next_multiple_of(64) >> 10);
                Ok(())
            });
            assert_eq!(whole.as_ref(), Ok(&data));
            // A copy may reach a few bytes past a step.
            assert!(seen.starts_with(&[256, 512, 768, 1024, 2048]), "{seen:?}");
        }
    }

    #[test]
    fn a_message_refused_at_a_look_is_not_decoded_further() {
        let flood = [0x0a, 0x00].repeat(16 << 20);
        let zstd = zstd::bulk::compress(&flood, 1).unwrap();
        for (body, encoding) in [(snappy(&flood), Encoding::Snappy), (zstd, Encoding::Zstd)] {
            let refused = decode(&body, encoding, LIMIT, |prefix| {
                assert!(prefix.len() < STEP + 64);
                Err(DecodeError::SeriesCount(1))
            });
            assert_eq!(refused, Err(DecodeError::SeriesCount(1)));
        }
    }

    #[test]
    fn zstd_is_capped_while_it_decodes_and_a_wrong_codec_is_told_by_its_magic() {
        let data = vec![1; 1 << 20];
        let body = zstd::bulk::compress(&data, 1).unwrap();
        assert_eq!(
            decode(&body, Encoding::Zstd, LIMIT, |_| Ok(())),
            Ok(data.clone())
        );
        let refused = decode(&body, Encoding::Zstd, 1000, |_| Ok(())).unwrap_err();
        assert_eq!(refused.reason(), "decoded_size");
        // A stream without a content size is only known once it is read.
        let streamed = zstd::stream::encode_all(&data[..], 1).unwrap();
        let refused = decode(&streamed, Encoding::Zstd, 1000, |_| Ok(())).unwrap_err();
        assert_eq!(refused.reason(), "decoded_size");
        // vmagent may send a snappy block it had queued under a zstd header.
        assert_eq!(
            decode(&snappy(&data), Encoding::Zstd, LIMIT, |_| Ok(())),
            Ok(data)
        );
        assert!(decode(&body[..20], Encoding::Zstd, LIMIT, |_| Ok(())).is_err());
        // A second frame would be data that nobody reads.
        let two = [&body[..], &body[..]].concat();
        assert!(decode(&two, Encoding::Zstd, LIMIT, |_| Ok(())).is_err());
    }
}
