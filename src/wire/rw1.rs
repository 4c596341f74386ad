//! Reader of `prometheus.WriteRequest` (Remote-Write 1.0).
//!
//! A sender that marshals as Prometheus does puts a series' labels first, sorted, each in the one
//! canonical form; then the identity is the hash of those very bytes and no label is looked at twice.
//! Whatever deviates takes the slow path, which sorts and rebuilds the canonical bytes first: the same
//! labels have the same identity however they were written, in either version.

use super::decoded::{
    Decoded, HistogramRow, IdentityKey, InvalidSeries, Metadata, Place, Protocol, RowCounts,
    SampleRow, SeriesRow, WalkLimits,
};
use super::error::DecodeError;
use super::histogram;
use super::proto::{Fields, put_label};
use crate::model::content::Exemplar;

/// A label as it stands in the message.
pub(super) type Label<'a> = (&'a [u8], &'a [u8]);

/// Walks a message: validates it, hashes each series, and notes where everything is.
pub(super) fn walk(
    body: Vec<u8>,
    limits: &WalkLimits,
    key: &IdentityKey,
) -> Result<Decoded, DecodeError> {
    let mut out = Decoded::new(Protocol::V1, Vec::new());
    let mut walker = Walker {
        limits,
        key,
        scratch: Vec::new(),
        expanded: 0,
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
                if out.metadata.len() == limits.elements {
                    return Err(DecodeError::ElementCount(limits.elements));
                }
                let at = (fields.position() - message.len()) as u32;
                out.metadata.push(Place {
                    at,
                    len: message.len() as u32,
                });
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
    /// Bytes of canonical labels built on the slow path.
    expanded: usize,
}

impl Walker<'_> {
    fn series(&mut self, message: &[u8], at: u32, out: &mut Decoded) -> Result<(), DecodeError> {
        if out.series.len() == self.limits.series {
            return Err(DecodeError::SeriesCount(self.limits.series));
        }
        let head = CanonicalHead::read(message, self.limits)?;
        let mut counts = RowCounts::default();
        let mut invalid = head.invalid;
        let mut later_label = false;
        let mut fields = Fields::new(&message[head.len..]);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => later_label = true,
                2 => {
                    self.room(out)?;
                    out.samples.push(read_sample(value.bytes()?)?);
                    counts.samples += 1;
                }
                3 => {
                    self.room(out)?;
                    let message = value.bytes()?;
                    let from = at as usize + head.len + fields.position() - message.len();
                    check_exemplar(message, &mut invalid)?;
                    out.exemplars.push(Place {
                        at: from as u32,
                        len: message.len() as u32,
                    });
                    counts.exemplars += 1;
                }
                4 => {
                    self.room(out)?;
                    let message = value.bytes()?;
                    let from = at as usize + head.len + fields.position() - message.len();
                    let row = histogram::check(message)?;
                    invalid = invalid.or(row.invalid);
                    let place = Place {
                        at: from as u32,
                        len: message.len() as u32,
                    };
                    out.histograms.push(HistogramRow { place, ..row.row });
                    counts.histograms += 1;
                }
                _ => {}
            }
        }
        let id = if later_label || !head.sorted {
            let (id, why) = self.rebuilt(message)?;
            // The slow look is the whole truth about the labels; a histogram's fault stays.
            invalid = why.or(invalid.filter(|why| matches!(why, InvalidSeries::Histogram(_))));
            id
        } else {
            invalid = invalid.or((!head.named).then_some(InvalidSeries::NoName));
            self.key.hash(&message[..head.len])
        };
        if counts == RowCounts::default() {
            invalid = invalid.or(Some(InvalidSeries::NoElement));
        }
        let place = Place {
            at,
            len: message.len() as u32,
        };
        out.push_series(SeriesRow {
            id,
            place,
            counts,
            metadata: Place::default(),
            invalid,
        });
        Ok(())
    }

    /// One more element must be within the limit.
    #[inline]
    fn room(&self, out: &Decoded) -> Result<(), DecodeError> {
        let held = out.samples.len() + out.histograms.len() + out.exemplars.len();
        if held >= self.limits.elements {
            return Err(DecodeError::ElementCount(self.limits.elements));
        }
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
            if labels.len() == self.limits.labels {
                return Err(DecodeError::LabelCount(self.limits.labels));
            }
            labels.push(read_label(value.bytes()?)?);
        }
        labels.sort_by_key(|label| label.0);
        let invalid = check_labels(&labels, self.limits)?;
        self.scratch.clear();
        labels
            .iter()
            .for_each(|(name, value)| put_label(&mut self.scratch, name, value));
        self.expanded += self.scratch.len();
        if self.expanded > self.limits.expanded_bytes {
            return Err(DecodeError::LabelBytes(self.limits.expanded_bytes));
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

/// The run of canonical, strictly sorted labels with which a series begins.
struct CanonicalHead {
    len: usize,
    /// No label in the run was out of order or not canonical.
    sorted: bool,
    named: bool,
    invalid: Option<InvalidSeries>,
}

impl CanonicalHead {
    fn read(message: &[u8], limits: &WalkLimits) -> Result<Self, DecodeError> {
        let mut head = Self {
            len: 0,
            sorted: true,
            named: false,
            invalid: None,
        };
        let (mut count, mut previous): (usize, &[u8]) = (0, &[]);
        while message.get(head.len) == Some(&0x0a) {
            let Some((name, value, end)) = canonical_label(message, head.len) else {
                head.sorted = false;
                break;
            };
            if name <= previous {
                head.sorted = false;
                break;
            }
            count += 1;
            if count > limits.labels {
                return Err(DecodeError::LabelCount(limits.labels));
            }
            if limits.label_bytes > 0 && name.len() + value.len() > limits.label_bytes {
                return Err(DecodeError::LabelBytes(limits.label_bytes));
            }
            head.named |= name == b"__name__" && !value.is_empty();
            if !(is_utf8(name) && is_utf8(value)) {
                head.invalid = Some(InvalidSeries::NotUtf8);
            }
            previous = name;
            head.len = end;
        }
        Ok(head)
    }
}

/// The label at `at` in its canonical form: name, then value unless empty, lengths in minimal varints.
#[inline]
fn canonical_label(message: &[u8], at: usize) -> Option<(&[u8], &[u8], usize)> {
    let (len, body) = minimal_length(message, at + 1)?;
    let end = body.checked_add(len)?;
    if end > message.len() || message.get(body) != Some(&0x0a) {
        return None;
    }
    let (name_len, name_at) = minimal_length(message, body + 1)?;
    let name_end = name_at
        .checked_add(name_len)
        .filter(|e| *e <= end && name_len > 0)?;
    let name = &message[name_at..name_end];
    if name_end == end {
        return Some((name, &[], end));
    }
    if message[name_end] != 0x12 {
        return None;
    }
    let (value_len, value_at) = minimal_length(message, name_end + 1)?;
    if value_len == 0 || value_at.checked_add(value_len)? != end {
        return None;
    }
    Some((name, &message[value_at..end], end))
}

/// A length in one, two or three bytes, none of them wasted; and the place after it.
#[inline]
fn minimal_length(message: &[u8], at: usize) -> Option<(usize, usize)> {
    let first = usize::from(*message.get(at)?);
    if first < 0x80 {
        return Some((first, at + 1));
    }
    let second = usize::from(*message.get(at + 1)?);
    if second < 0x80 {
        return (second > 0).then_some((first & 0x7f | second << 7, at + 2));
    }
    let third = usize::from(*message.get(at + 2)?);
    let value = first & 0x7f | (second & 0x7f) << 7 | third << 14;
    (third < 0x80 && third > 0).then_some((value, at + 3))
}

#[inline]
pub(super) fn is_utf8(text: &[u8]) -> bool {
    text.is_ascii() || std::str::from_utf8(text).is_ok()
}

/// What is wrong with a sorted label set, by itself.
pub(super) fn check_labels(
    labels: &[Label<'_>],
    limits: &WalkLimits,
) -> Result<Option<InvalidSeries>, DecodeError> {
    let mut invalid = None;
    let mut previous: Option<&[u8]> = None;
    let mut named = false;
    for (name, value) in labels {
        if limits.label_bytes > 0 && name.len() + value.len() > limits.label_bytes {
            return Err(DecodeError::LabelBytes(limits.label_bytes));
        }
        let wrong = if name.is_empty() {
            Some(InvalidSeries::EmptyLabelName)
        } else if previous == Some(*name) {
            Some(InvalidSeries::RepeatedLabelName)
        } else if !(is_utf8(name) && is_utf8(value)) {
            Some(InvalidSeries::NotUtf8)
        } else {
            None
        };
        invalid = invalid.or(wrong);
        named |= *name == b"__name__" && !value.is_empty();
        previous = Some(*name);
    }
    Ok(invalid.or((!named).then_some(InvalidSeries::NoName)))
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

fn read_label(message: &[u8]) -> Result<Label<'_>, DecodeError> {
    let (mut name, mut text): Label<'_> = (&[], &[]);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.bytes()?,
            2 => text = value.bytes()?,
            _ => {}
        }
    }
    Ok((name, text))
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

fn check_exemplar(message: &[u8], invalid: &mut Option<InvalidSeries>) -> Result<(), DecodeError> {
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => {
                let (name, text) = read_label(value.bytes()?)?;
                if !(is_utf8(name) && is_utf8(text)) {
                    *invalid = invalid.or(Some(InvalidSeries::NotUtf8));
                }
            }
            2 => drop(value.double_bits()?),
            3 => drop(value.varint()?),
            _ => {}
        }
    }
    Ok(())
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
    let kind = u8::try_from(kind)
        .ok()
        .filter(|kind| *kind <= 7)
        .unwrap_or(0);
    Ok((!name.is_empty()).then_some(Metadata {
        name,
        kind,
        help,
        unit,
    }))
}
