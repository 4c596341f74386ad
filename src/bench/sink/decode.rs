//! Request bodies to series, through the generated types.
//!
//! [`super::scan`] does the same faster; tests hold one against the other.

use std::fmt;
use std::io::Read;

use prost::Message;

use super::scan;
use crate::bench::Protocol;
use crate::bench::data::{RawLabel, from_v1};
use crate::wire::pb::{rw1, rw2};

/// Most bytes that a body may unpack to; nothing is unpacked before this is known to hold.
const UNPACKED_MAX_BYTES: usize = 64 << 20;

/// Which code reads the messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decoder {
    /// The generated types: slow, and beyond doubt.
    #[default]
    Prost,
    /// A scan over the bytes without copies, for measurements and long runs.
    Scan,
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Snappy,
    Zstd,
}

/// Why a body cannot be read; the text goes into the answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct DecodeError(pub(super) String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One element of a series, the same for both versions.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Element<'a> {
    Sample {
        bits: u64,
        timestamp_ms: i64,
        start_ms: i64,
    },
    Histogram(Box<rw2::Histogram>),
    Exemplar {
        bits: u64,
        timestamp_ms: i64,
        labels: Vec<RawLabel<'a>>,
    },
}

/// Takes what a message holds, in wire order.
pub(super) trait Visit {
    /// One `TimeSeries`; labels are as on the wire, and may be sorted in place.
    fn series(&mut self, labels: &mut Vec<RawLabel<'_>>, elements: &[Element<'_>]);
    /// So many metadata entries.
    fn metadata(&mut self, count: u64);
    /// Something that the protocol forbids but that can be read all the same.
    fn violation(&mut self, rule: &'static str);
}

pub(super) fn unpack(body: &[u8], encoding: Encoding) -> Result<Vec<u8>, DecodeError> {
    match encoding {
        Encoding::Snappy => unpack_snappy(body),
        Encoding::Zstd => unpack_zstd(body),
    }
}

fn unpack_snappy(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let refuse = |error: snap::Error| DecodeError(format!("snappy: {error}"));
    let length = snap::raw::decompress_len(body).map_err(refuse)?;
    if length > UNPACKED_MAX_BYTES {
        return Err(DecodeError(format!(
            "snappy: {length} bytes unpacked are too many"
        )));
    }
    let mut unpacked = vec![0; length];
    snap::raw::Decoder::new()
        .decompress(body, &mut unpacked)
        .map_err(refuse)?;
    Ok(unpacked)
}

fn unpack_zstd(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let refuse = |error: std::io::Error| DecodeError(format!("zstd: {error}"));
    let decoder = zstd::stream::read::Decoder::new(body).map_err(refuse)?;
    let mut unpacked = Vec::new();
    let limit = UNPACKED_MAX_BYTES as u64 + 1;
    decoder
        .take(limit)
        .read_to_end(&mut unpacked)
        .map_err(refuse)?;
    if unpacked.len() > UNPACKED_MAX_BYTES {
        return Err(DecodeError("zstd: too many bytes unpacked".to_owned()));
    }
    Ok(unpacked)
}

/// Reads a whole message; on an error the visitor may already have seen a part.
pub(super) fn read(
    message: &[u8],
    protocol: Protocol,
    decoder: Decoder,
    visit: &mut impl Visit,
) -> Result<(), DecodeError> {
    match (decoder, protocol) {
        (Decoder::Prost, Protocol::V1) => prost_v1(message, visit),
        (Decoder::Prost, Protocol::V2) => prost_v2(message, visit),
        (Decoder::Scan, Protocol::V1) => scan::v1(message, visit),
        (Decoder::Scan, Protocol::V2) => scan::v2(message, visit),
    }
}

fn refuse(error: &prost::DecodeError) -> DecodeError {
    DecodeError(format!("protobuf: {error}"))
}

pub(super) fn read_histogram(
    bytes: &[u8],
    protocol: Protocol,
) -> Result<Element<'static>, DecodeError> {
    let histogram = match protocol {
        Protocol::V1 => rw1::Histogram::decode(bytes).map(from_v1),
        Protocol::V2 => rw2::Histogram::decode(bytes),
    };
    let histogram = histogram.map_err(|error| refuse(&error))?;
    Ok(Element::Histogram(Box::new(histogram)))
}

fn prost_v1(message: &[u8], visit: &mut impl Visit) -> Result<(), DecodeError> {
    let request = rw1::WriteRequest::decode(message).map_err(|error| refuse(&error))?;
    for series in &request.timeseries {
        let mut labels: Vec<RawLabel<'_>> = series.labels.iter().map(raw_label).collect();
        let mut elements = Vec::new();
        for sample in &series.samples {
            elements.push(Element::Sample {
                bits: sample.value.to_bits(),
                timestamp_ms: sample.timestamp,
                start_ms: 0,
            });
        }
        for histogram in &series.histograms {
            elements.push(Element::Histogram(Box::new(from_v1(histogram.clone()))));
        }
        for exemplar in &series.exemplars {
            elements.push(Element::Exemplar {
                bits: exemplar.value.to_bits(),
                timestamp_ms: exemplar.timestamp,
                labels: exemplar.labels.iter().map(raw_label).collect(),
            });
        }
        visit.series(&mut labels, &elements);
    }
    visit.metadata(request.metadata.len() as u64);
    Ok(())
}

fn raw_label(label: &rw1::Label) -> RawLabel<'_> {
    (label.name.as_bytes(), label.value.as_bytes())
}

fn prost_v2(message: &[u8], visit: &mut impl Visit) -> Result<(), DecodeError> {
    let request = rw2::Request::decode(message).map_err(|error| refuse(&error))?;
    let symbols: Vec<&[u8]> = request.symbols.iter().map(String::as_bytes).collect();
    check_symbols(&symbols, visit);
    let mut metadata = 0;
    for series in &request.timeseries {
        let mut labels = Vec::new();
        resolve(&series.labels_refs, &symbols, &mut labels)?;
        let mut elements = Vec::new();
        for sample in &series.samples {
            elements.push(Element::Sample {
                bits: sample.value.to_bits(),
                timestamp_ms: sample.timestamp,
                start_ms: sample.start_timestamp,
            });
        }
        for histogram in &series.histograms {
            elements.push(Element::Histogram(Box::new(histogram.clone())));
        }
        for exemplar in &series.exemplars {
            let mut labels = Vec::new();
            resolve(&exemplar.labels_refs, &symbols, &mut labels)?;
            elements.push(Element::Exemplar {
                bits: exemplar.value.to_bits(),
                timestamp_ms: exemplar.timestamp,
                labels,
            });
        }
        metadata += u64::from(series.metadata.is_some());
        visit.series(&mut labels, &elements);
    }
    visit.metadata(metadata);
    Ok(())
}

/// Symbol 0 must be the empty string; 2.0 spec, Symbols.
pub(super) fn check_symbols(symbols: &[&[u8]], visit: &mut impl Visit) {
    if symbols.first().is_some_and(|first| !first.is_empty()) {
        visit.violation("first_symbol_not_empty");
    }
}

/// Looks the labels of a 2.0 series up.
pub(super) fn resolve<'a>(
    refs: &[u32],
    symbols: &[&'a [u8]],
    labels: &mut Vec<RawLabel<'a>>,
) -> Result<(), DecodeError> {
    let (pairs, []) = refs.as_chunks::<2>() else {
        return Err(DecodeError(format!(
            "odd number of label references: {}",
            refs.len()
        )));
    };
    for pair in pairs {
        let text = |number: u32| {
            let symbol = symbols.get(number as usize).copied();
            symbol.ok_or_else(|| {
                DecodeError(format!("reference {number} of {} symbols", symbols.len()))
            })
        };
        labels.push((text(pair[0])?, text(pair[1])?));
    }
    Ok(())
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
