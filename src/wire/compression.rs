//! Bodies, compressed and not, with every limit checked before a byte is allocated.
//!
//! The snappy block format's densest element is a three-byte copy that yields 64 bytes, so a block of n
//! bytes can never hold more than n × 64/3. A block that declares more lies, and is refused at once:
//! memory follows what was really sent, never what was claimed.

use std::io::Read;

use super::error::DecodeError;

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
/// Bodies that decode to more than this are looked at in part before they are decoded whole.
const PREFIX: usize = 512 << 10;

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
    if body.starts_with(&FRAMED_MAGIC) {
        return Err(DecodeError::SnappyFramed);
    }
    let (declared, _) = snappy_header(body)?;
    let possible = (body.len() as u64).saturating_mul(64) / 3;
    if declared > possible {
        return Err(DecodeError::SnappyRatio {
            declared,
            received: body.len(),
        });
    }
    Ok(declared)
}

fn snappy_header(body: &[u8]) -> Result<(u64, usize), DecodeError> {
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

/// Decodes a body whose length [`decoded_len`] has accepted.
///
/// `shape` sees the first half mebibyte of a message larger than that before the rest is allocated, so
/// that a flood of empty elements is refused for the price of a look.
pub fn decode(
    body: &[u8],
    encoding: Encoding,
    limit: u64,
    shape: impl FnOnce(&[u8]) -> Result<(), DecodeError>,
) -> Result<Vec<u8>, DecodeError> {
    let declared = decoded_len(body, encoding, limit)? as usize;
    if encoding == Encoding::Zstd && body.starts_with(&ZSTD_MAGIC) {
        return decode_zstd(body, limit, shape);
    }
    if declared > PREFIX {
        shape(&snappy_prefix(body, PREFIX)?)?;
    }
    let mut out = vec![0; declared];
    let written = snap::raw::Decoder::new()
        .decompress(body, &mut out)
        .map_err(|_| DecodeError::Snappy("corrupt data"))?;
    if written != declared {
        return Err(DecodeError::Snappy("shorter than declared"));
    }
    Ok(out)
}

fn decode_zstd(
    body: &[u8],
    limit: u64,
    shape: impl FnOnce(&[u8]) -> Result<(), DecodeError>,
) -> Result<Vec<u8>, DecodeError> {
    let refuse = |e: std::io::Error| DecodeError::Zstd(e.to_string());
    let mut reader = zstd::stream::read::Decoder::with_buffer(body)
        .map_err(refuse)?
        .single_frame();
    reader.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(refuse)?;
    let mut out = Vec::new();
    reader
        .by_ref()
        .take(PREFIX as u64)
        .read_to_end(&mut out)
        .map_err(refuse)?;
    if out.len() == PREFIX {
        shape(&out)?;
    }
    reader
        .by_ref()
        .take(limit + 1 - out.len() as u64)
        .read_to_end(&mut out)
        .map_err(refuse)?;
    if out.len() as u64 > limit {
        return Err(DecodeError::DecodedSize {
            declared: out.len() as u64,
            limit,
        });
    }
    Ok(out)
}

/// The first `want` bytes that a snappy block decodes to.
///
/// Source: google/snappy `format_description.txt`.
fn snappy_prefix(body: &[u8], want: usize) -> Result<Vec<u8>, DecodeError> {
    const CORRUPT: DecodeError = DecodeError::Snappy("corrupt data");
    let (_, mut at) = snappy_header(body)?;
    let mut out = Vec::with_capacity(want + 64);
    let little_endian = |at: usize, n: usize| -> Option<usize> {
        Some(
            body.get(at..at + n)?
                .iter()
                .rev()
                .fold(0, |v, b| v << 8 | usize::from(*b)),
        )
    };
    while out.len() < want && at < body.len() {
        let tag = usize::from(body[at]);
        at += 1;
        if tag & 3 == 0 {
            let extra = (tag >> 2).saturating_sub(59);
            let length = match extra {
                0 => tag >> 2,
                n => little_endian(at, n).ok_or(CORRUPT)?,
            } + 1;
            at += extra;
            let literal = body
                .get(at..at.checked_add(length).ok_or(CORRUPT)?)
                .ok_or(CORRUPT)?;
            out.extend_from_slice(&literal[..literal.len().min(want)]);
            at += length;
            continue;
        }
        let (length, offset, used) = match tag & 3 {
            1 => (
                4 + (tag >> 2 & 7),
                (tag >> 5) << 8 | little_endian(at, 1).ok_or(CORRUPT)?,
                1,
            ),
            2 => (1 + (tag >> 2), little_endian(at, 2).ok_or(CORRUPT)?, 2),
            _ => (1 + (tag >> 2), little_endian(at, 4).ok_or(CORRUPT)?, 4),
        };
        at += used;
        let from = out
            .len()
            .checked_sub(offset)
            .filter(|_| offset > 0)
            .ok_or(CORRUPT)?;
        for index in from..from + length {
            out.push(out[index]);
        }
    }
    out.truncate(want);
    Ok(out)
}

/// Compresses `message` as one snappy block, reusing `encoder`'s table.
///
/// # Panics
/// Never below 4 GiB, which batches cannot reach.
pub fn encode_snappy(encoder: &mut snap::raw::Encoder, message: &[u8]) -> Vec<u8> {
    encoder
        .compress_vec(message)
        .expect("a batch is far below snappy's 4 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 32 << 20;

    fn snappy(data: &[u8]) -> Vec<u8> {
        encode_snappy(&mut snap::raw::Encoder::new(), data)
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
        for cut in 0..good.len() {
            assert!(plain(&good[..cut]).is_err(), "cut at {cut}");
        }
        let mut longer = good.clone();
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
    }

    #[test]
    fn the_prefix_is_what_the_whole_begins_with() {
        let mut data = Vec::new();
        let mut random = fastrand::Rng::with_seed(7);
        while data.len() < 3 * PREFIX {
            match random.u8(0..3) {
                0 => data.extend((0..random.usize(1..200)).map(|_| random.u8(..))),
                1 => data.extend(std::iter::repeat_n(random.u8(..), random.usize(1..5000))),
                _ if data.is_empty() => data.push(1),
                _ => {
                    let from = random.usize(0..data.len());
                    let to = (from + random.usize(1..300)).min(data.len());
                    data.extend_from_within(from..to);
                }
            }
        }
        let mut seen = Vec::new();
        let whole = decode(&snappy(&data), Encoding::Snappy, LIMIT, |prefix| {
            seen = prefix.to_vec();
            Ok(())
        });
        assert_eq!(whole, Ok(data.clone()));
        assert_eq!(seen, data[..PREFIX]);
    }

    #[test]
    fn a_large_message_with_a_bad_shape_is_refused_after_its_prefix() {
        let body = snappy(&[0x0a, 0x00].repeat(16 << 20));
        let refused = decode(&body, Encoding::Snappy, LIMIT, |prefix| {
            assert_eq!(prefix.len(), PREFIX);
            Err(DecodeError::SeriesCount(1))
        });
        assert_eq!(refused, Err(DecodeError::SeriesCount(1)));
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
    }
}
