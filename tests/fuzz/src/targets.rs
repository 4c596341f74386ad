//! One function for each fuzz target. Each panics when a promise is broken.

use std::collections::HashSet;

use prost::{DecodeError as ProstError, Message};
use sluicegate::model::labels::Interner;
use sluicegate::wire::compression::{self, Encoding};
use sluicegate::wire::decoded::{Decoded, IdentityKey, Protocol, WalkLimits};
use sluicegate::wire::encode::{Encoder, Lost};
use sluicegate::wire::error::DecodeError;
use sluicegate::wire::pb::{rw1, rw2};

use super::content::{self, Known};
use super::oracle::{self, Series};

/// Limits that a mutated message reaches now and then.
pub(crate) const LIMITS: WalkLimits = WalkLimits {
    series: 1000,
    elements: 4000,
    labels: 64,
    label_bytes: 32 << 10,
    expanded_bytes: 1 << 20,
};

const SIZE_LIMIT: u64 = 4 << 20;
/// More than what decodes in one go.
const BEFORE: u32 = 600 << 10;

pub(crate) fn key() -> IdentityKey {
    IdentityKey::fixed(1)
}

pub(crate) fn walk(message: &[u8], protocol: Protocol) -> Result<Decoded, DecodeError> {
    let decoded = sluicegate::wire::walk(message.to_vec(), protocol, &LIMITS, &key())?;
    // An element is two bytes or more, its row at most 96, its list at most twice as long as need be.
    let most = 100 * message.len() + 4096;
    assert!(decoded.heap_bytes() <= most, "{}", decoded.heap_bytes());
    Ok(decoded)
}

/// Ours and snap's decoder agree, in the way for small blocks and in the one for large ones.
pub(crate) fn snappy(data: &[u8]) {
    agree_with_snap(data);
    // The same elements behind 600 KiB of another: such a block is decoded step by step.
    let Ok(declared) = snap::raw::decompress_len(data) else {
        return;
    };
    let Some(header) = data.iter().position(|byte| *byte < 0x80) else {
        return;
    };
    let mut large = Vec::new();
    let declared = declared as u64 + u64::from(BEFORE);
    prost::encoding::encode_varint(declared, &mut large);
    large.push(62 << 2);
    large.extend_from_slice(&(BEFORE - 1).to_le_bytes()[..3]);
    large.extend(
        [b"some of it far", &[0; 18][..]]
            .concat()
            .repeat(BEFORE as usize / 32),
    );
    large.extend_from_slice(&data[header + 1..]);
    agree_with_snap(&large);
}

fn agree_with_snap(body: &[u8]) {
    let mut steps = 0;
    let ours = compression::decode(body, Encoding::Snappy, SIZE_LIMIT, |prefix| {
        assert!(prefix.len() > steps, "each look sees more");
        steps = prefix.len();
        Ok(())
    });
    let declared = compression::decoded_len(body, Encoding::Snappy, SIZE_LIMIT);
    let Ok(declared) = declared else {
        assert!(ours.is_err(), "{declared:?}");
        return;
    };
    let mut theirs = vec![0; declared as usize];
    let decoded = snap::raw::Decoder::new().decompress(body, &mut theirs);
    match (ours, decoded) {
        (Ok(ours), Ok(written)) => {
            assert_eq!(written, theirs.len());
            assert!(ours == theirs, "ours and snap's bytes differ");
        }
        (Ok(ours), Err(_)) => assert!(body.is_empty() && ours.is_empty()),
        (Err(error), Ok(_)) => panic!("snap decodes what we refuse: {error}"),
        (Err(_), Err(_)) => {}
    }
}

/// Never more than the limit, never less than a frame says.
pub(crate) fn zstd(data: &[u8]) {
    let limit = 1 << 20;
    for body in [data.to_vec(), [&[0x28, 0xb5, 0x2f, 0xfd], data].concat()] {
        let Ok(ours) = compression::decode(&body, Encoding::Zstd, limit, |_| Ok(())) else {
            continue;
        };
        assert!(ours.len() as u64 <= limit);
        if body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            // In one call zstd refuses an empty compressed block; in steps, and in its own program, not.
            let theirs = zstd::stream::decode_all(&body[..]);
            assert_eq!(theirs.expect("zstd decodes it too"), ours);
        }
    }
}

/// Any header is answered.
pub(crate) fn negotiate(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (content_type, encoding) = text.split_once('\n').unwrap_or((&text, "snappy"));
    for zstd in [false, true] {
        let seen = sluicegate::wire::negotiate::negotiate(Some(content_type), Some(encoding), zstd);
        if let Ok((protocol, encoding)) = seen {
            assert!(zstd || encoding == Encoding::Snappy);
            assert!(protocol == Protocol::V1 || encoding == Encoding::Snappy);
        }
    }
}

/// The 1.0 reader and prost see the same.
pub(crate) fn rw1(data: &[u8]) {
    let theirs = rw1::WriteRequest::decode(data);
    let plain = theirs.as_ref().is_ok_and(|t| t.encoded_len() == data.len());
    let series = theirs.map(|request| Some(oracle::series_v1(&request)));
    compare(data, Protocol::V1, series, plain);
}

/// The 2.0 reader and prost see the same.
pub(crate) fn rw2(data: &[u8]) {
    let theirs = rw2::Request::decode(data);
    let plain = theirs.as_ref().is_ok_and(|t| t.encoded_len() == data.len());
    let series = theirs.map(|request| oracle::series_v2(&request));
    compare(data, Protocol::V2, series, plain);
}

/// `plain`: the message is as long as prost would write it, so no number has bits that prost cuts off, no
/// field is repeated that should not be, and none is unknown.
fn compare(
    data: &[u8],
    protocol: Protocol,
    theirs: Result<Option<Vec<Series>>, ProstError>,
    plain: bool,
) {
    let ours = match walk(data, protocol) {
        Ok(ours) => ours,
        Err(error) => {
            if let Ok(Some(_)) = theirs {
                assert!(may_refuse(&error, plain), "prost reads it: {error}");
            }
            return;
        }
    };
    let theirs = match theirs {
        Ok(theirs) => theirs.expect("references are as prost read them"),
        // Text that is not UTF-8 costs its series, not the request.
        Err(error) => {
            assert!(
                error.to_string().contains("UTF-8"),
                "only prost says {error}"
            );
            return;
        }
    };
    let rows = oracle::rows(&ours);
    assert_eq!(rows.len(), theirs.len());
    for ((row, wrong), series) in rows.iter().zip(&theirs) {
        let expected = Series {
            metadata: None,
            ..series.clone()
        };
        if plain {
            assert_eq!(row, &expected);
            assert_eq!(*wrong, series.wrong(), "{series:?}");
        } else {
            assert_eq!(row.labels, expected.labels);
            assert_eq!(row.samples, expected.samples);
            assert_eq!(row.exemplars, expected.exemplars);
            assert_eq!(row.histograms.len(), expected.histograms.len());
        }
    }
    let invalid = rows.iter().filter(|row| row.1.is_some());
    let skipped: usize = invalid.clone().map(|row| row.0.samples.len()).sum();
    assert_eq!(ours.skipped.samples, skipped as u64);
    let skipped: usize = invalid.clone().map(|row| row.0.histograms.len()).sum();
    assert_eq!(ours.skipped.histograms, skipped as u64);
    assert_eq!(ours.invalid().map_or(0, |seen| seen.1), invalid.count());
}

/// What we refuse and prost reads: what is over a limit, groups over 32 deep (prost: 100), references
/// that prost cuts to 32 bits, a table that does not begin with "", a message of the other version, and
/// field 17 of a 1.0 histogram with another type than 2.0 gives it.
fn may_refuse(error: &DecodeError, plain: bool) -> bool {
    match error {
        DecodeError::Protobuf(what) => !plain && *what == "field of the wrong type",
        DecodeError::Snappy(_)
        | DecodeError::SnappyFramed
        | DecodeError::SnappyRatio { .. }
        | DecodeError::Zstd(_) => false,
        _ => true,
    }
}

/// Whatever is admitted goes out again in both versions, and prost reads it as it came.
pub(crate) fn reencode(data: &[u8]) {
    for protocol in [Protocol::V1, Protocol::V2] {
        if let Ok(decoded) = walk(data, protocol) {
            reencode_decoded(&decoded);
        }
    }
}

pub(crate) fn reencode_decoded(decoded: &Decoded) {
    let rows = oracle::rows(decoded);
    let valid: Vec<_> = rows.into_iter().filter(|row| row.1.is_none()).collect();
    let valid: Vec<Series> = valid.into_iter().map(|row| row.0).collect();
    let entries = content::entries(&valid);
    let mut interner = Interner::default();
    let content = content::content(decoded, &mut interner);
    assert_eq!(content.counts(), decoded.admitted());
    let mut encoder = Encoder::default();
    // Twice: what the encoder keeps between messages must not show.
    for _ in 0..2 {
        let (message, lost) = encode(&mut encoder, Protocol::V1, &content);
        let (expected, expected_lost) = content::left_by_v1(&entries);
        let seen = rw1::WriteRequest::decode(&message[..]).expect("prost reads our 1.0");
        assert_eq!(oracle::series_v1(&seen), expected);
        assert_eq!(lost, expected_lost);
        // What 1.0 does not know, prost skips: only a walk sees that it is gone.
        let again = sluicegate::wire::walk(message, Protocol::V1, &more_than(&LIMITS), &key());
        let again = again.expect("we read our own");
        assert!(again.histograms.iter().all(|row| !row.start && !row.custom));
        let (message, lost) = encode(&mut encoder, Protocol::V2, &content);
        let seen = rw2::Request::decode(&message[..]).expect("prost reads our 2.0");
        check_symbols(&seen);
        let series = oracle::series_v2(&seen).expect("our references point somewhere");
        assert_eq!(series, content::left_by_v2(&entries));
        assert_eq!(lost, Lost::default());
        keeps_identity(decoded, &message);
    }
}

fn encode(
    encoder: &mut Encoder,
    protocol: Protocol,
    content: &sluicegate::model::content::Content,
) -> (Vec<u8>, Lost) {
    let mut message = Vec::new();
    let lost = encoder.encode(protocol, content, &Known, &mut message);
    (message, lost)
}

/// The table begins with "" and has each string once.
pub(crate) fn check_symbols(request: &rw2::Request) {
    assert_eq!(request.symbols.first().map(String::as_str), Some(""));
    let distinct: HashSet<_> = request.symbols.iter().collect();
    assert_eq!(distinct.len(), request.symbols.len());
}

/// Our own 2.0 of a request has the same series identities as the request.
fn keeps_identity(decoded: &Decoded, message: &[u8]) {
    let mut before: Vec<u128> = Vec::new();
    for row in decoded.series.iter().filter(|row| row.invalid.is_none()) {
        let two = row.counts.samples > 0 && row.counts.histograms > 0;
        before.extend(std::iter::repeat_n(row.id, 1 + usize::from(two)));
    }
    let limits = more_than(&LIMITS);
    let again = sluicegate::wire::walk(message.to_vec(), Protocol::V2, &limits, &key());
    let again = again.expect("we read our own");
    assert_eq!(again.skipped, sluicegate::model::counts::Counts::default());
    let after: Vec<u128> = again.series.iter().map(|row| row.id).collect();
    assert_eq!(after, before);
}

/// A series with samples and histograms goes out as two.
fn more_than(limits: &WalkLimits) -> WalkLimits {
    WalkLimits {
        series: 2 * limits.series,
        expanded_bytes: 4 * limits.expanded_bytes,
        ..*limits
    }
}
