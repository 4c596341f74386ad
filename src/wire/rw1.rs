//! Reader of `prometheus.WriteRequest` (Remote-Write 1.0).
//!
//! A sender that marshals as Prometheus does puts a series' labels first, sorted, each in the one
//! canonical form; then the identity is the hash of those very bytes and no label is looked at twice.
//! Whatever deviates takes the slow path, which sorts and rebuilds the canonical bytes first: the same
//! labels have the same identity however they were written, in either version.

use super::canonical::{CanonicalHead, Label, check_labels, is_utf8, read_label};
use super::decoded::{
    Decoded, HistogramRow, IdentityKey, InvalidSeries, Metadata, Place, RowCounts, SampleRow,
    SeriesRow, WalkLimits,
};
use super::error::DecodeError;
use super::histogram;
use super::proto::{Fields, put_label};
use crate::model::content::Exemplar;

/// Walks a message: validates it, hashes each series, and notes where everything is. That its counts are
/// within the limits is known.
pub(super) fn walk(
    mut out: Decoded,
    limits: &WalkLimits,
    key: &IdentityKey,
) -> Result<Decoded, DecodeError> {
    let body = std::mem::take(&mut out.body);
    let mut walker = Walker {
        limits,
        key,
        scratch: Vec::new(),
    };
    let mut looks_like_v2 = false;
    let mut fields = Fields::new(&body);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => {
                let message = value.bytes()?;
                let at = fields.position() - message.len();
                walker.series(message, at as u32, &mut out)?;
            }
            3 => {
                let message = value.bytes()?;
                read_metadata(message)?;
                out.metadata.push(Place::of(message, fields.position()));
            }
            4 | 5 => looks_like_v2 = true,
            _ => {}
        }
    }
    if looks_like_v2 && out.series.is_empty() && out.metadata.is_empty() {
        return Err(DecodeError::ProtocolMismatch);
    }
    out.body = body;
    Ok(out)
}

struct Walker<'l> {
    limits: &'l WalkLimits,
    key: &'l IdentityKey,
    scratch: Vec<u8>,
}

impl Walker<'_> {
    fn series(&mut self, message: &[u8], at: u32, out: &mut Decoded) -> Result<(), DecodeError> {
        let head = CanonicalHead::read(message, self.limits)?;
        let mut counts = RowCounts::default();
        let mut wrong_element = None;
        let mut later_label = false;
        let mut fields = Fields::starting(message, head.len);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => later_label = true,
                2 => {
                    out.samples.push(read_sample(value.bytes()?)?);
                    counts.samples += 1;
                }
                3 => {
                    let exemplar = value.bytes()?;
                    if !check_exemplar(exemplar, self.limits)? {
                        wrong_element = wrong_element.or(Some(InvalidSeries::NotUtf8));
                    }
                    let place = Place::of(exemplar, at as usize + fields.position());
                    out.exemplars.push(place);
                    counts.exemplars += 1;
                }
                4 => {
                    let histogram = value.bytes()?;
                    let checked = histogram::check(histogram)?;
                    wrong_element = wrong_element.or(checked.invalid);
                    let place = Place::of(histogram, at as usize + fields.position());
                    out.histograms.push(HistogramRow {
                        place,
                        ..checked.row
                    });
                    counts.histograms += 1;
                }
                _ => {}
            }
        }
        let (id, wrong_labels) = if later_label || !head.sorted {
            self.rebuilt(message)?
        } else {
            let unnamed = (!head.named).then_some(InvalidSeries::NoName);
            (
                self.key.hash(&message[..head.len]),
                head.invalid.or(unnamed),
            )
        };
        let empty = (counts == RowCounts::default()).then_some(InvalidSeries::NoElement);
        out.push_series(SeriesRow {
            id,
            place: Place {
                at,
                len: message.len() as u32,
            },
            counts,
            metadata: Place::default(),
            invalid: wrong_labels.or(wrong_element).or(empty),
        });
        Ok(())
    }

    /// Identity of labels that did not come in canonical form.
    fn rebuilt(&mut self, message: &[u8]) -> Result<(u128, Option<InvalidSeries>), DecodeError> {
        let mut labels = Vec::new();
        let mut fields = Fields::new(message);
        while let Some((number, value)) = fields.next()? {
            if number != 1 {
                continue;
            }
            let label = read_label(value.bytes()?)?;
            labels.push(label);
            self.limits.check_label(labels.len(), label)?;
        }
        labels.sort_by_key(|label| label.0);
        let invalid = check_labels(&labels);
        self.scratch.clear();
        for (name, value) in &labels {
            put_label(&mut self.scratch, name, value);
        }
        Ok((self.key.hash(&self.scratch), invalid))
    }
}

impl Decoded {
    pub(super) fn push_series(&mut self, row: SeriesRow) {
        if row.invalid.is_some() {
            self.skipped.samples += u64::from(row.counts.samples);
            self.skipped.histograms += u64::from(row.counts.histograms);
            self.skipped.exemplars += u64::from(row.counts.exemplars);
        }
        self.series.push(row);
    }
}

/// All labels of a series message, in wire order.
pub(super) fn read_labels<'a>(
    message: &'a [u8],
    out: &mut Vec<Label<'a>>,
) -> Result<(), DecodeError> {
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            out.push(read_label(value.bytes()?)?);
        }
    }
    Ok(())
}

#[inline]
fn read_sample(message: &[u8]) -> Result<SampleRow, DecodeError> {
    let mut row = SampleRow {
        timestamp: 0,
        bits: 0,
    };
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => row.bits = value.double_bits()?,
            2 => row.timestamp = value.varint()?.cast_signed(),
            _ => {}
        }
    }
    Ok(row)
}

/// `false` when a text is not UTF-8.
fn check_exemplar(message: &[u8], limits: &WalkLimits) -> Result<bool, DecodeError> {
    let (mut count, mut utf8) = (0, true);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => {
                let label = read_label(value.bytes()?)?;
                count += 1;
                limits.check_label(count, label)?;
                utf8 &= is_utf8(label.0) && is_utf8(label.1);
            }
            2 => drop(value.double_bits()?),
            3 => drop(value.varint()?),
            _ => {}
        }
    }
    Ok(utf8)
}

pub(super) fn read_exemplar(message: &[u8]) -> Result<Exemplar, DecodeError> {
    let mut exemplar = Exemplar::default();
    let mut labels = Vec::new();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => {
                let (name, text) = read_label(value.bytes()?)?;
                put_label(&mut labels, name, text);
            }
            2 => exemplar.bits = value.double_bits()?,
            3 => exemplar.timestamp = value.varint()?.cast_signed(),
            _ => {}
        }
    }
    exemplar.labels = labels.into_boxed_slice();
    Ok(exemplar)
}

/// A metadata entry; `None` when its text is not UTF-8 or its family has no name.
pub(super) fn read_metadata(message: &[u8]) -> Result<Option<Metadata<'_>>, DecodeError> {
    let (mut kind, mut name, mut help, mut unit): (u64, &[u8], &[u8], &[u8]) = (0, &[], &[], &[]);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => kind = value.varint()?,
            2 => name = value.bytes()?,
            4 => help = value.bytes()?,
            5 => unit = value.bytes()?,
            _ => {}
        }
    }
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let (Some(name), Some(help), Some(unit)) = (text(name), text(help), text(unit)) else {
        return Ok(None);
    };
    let kind = metadata_kind(kind);
    Ok((!name.is_empty()).then_some(Metadata {
        name,
        kind,
        help,
        unit,
    }))
}

/// A type that is none of the protocol's is the unknown one.
pub(super) fn metadata_kind(kind: u64) -> u8 {
    if kind <= 7 { kind as u8 } else { 0 }
}
