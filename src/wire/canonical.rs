//! Labels in the one form in which Prometheus writes them in 1.0: sorted, each a name and then a value
//! unless it is empty, all lengths in minimal varints. The identity of a series is the hash of that form.

use super::decoded::{InvalidSeries, WalkLimits};
use super::error::DecodeError;
use super::proto::Fields;

/// A label as it stands in the message.
pub(super) type Label<'a> = (&'a [u8], &'a [u8]);

/// The run of canonical, strictly sorted labels with which a series begins.
pub(super) struct CanonicalHead {
    pub(super) len: usize,
    /// No label in the run was out of order or not canonical.
    pub(super) sorted: bool,
    /// `__name__` is among them.
    pub(super) named: bool,
    pub(super) invalid: Option<InvalidSeries>,
}

impl CanonicalHead {
    pub(super) fn read(message: &[u8], limits: &WalkLimits) -> Result<Self, DecodeError> {
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
            limits.check_label(count, (name, value))?;
            head.named |= name == b"__name__" && !value.is_empty();
            previous = name;
            head.len = end;
        }
        // One look over all labels is four times faster than one at each text, and mostly enough.
        if !message[..head.len].is_ascii() {
            head.invalid = not_utf8(&message[..head.len]);
        }
        Ok(head)
    }
}

/// Is there a text among these canonical labels that is not UTF-8?
fn not_utf8(labels: &[u8]) -> Option<InvalidSeries> {
    let mut at = 0;
    while let Some((name, value, end)) = canonical_label(labels, at) {
        if !(is_utf8(name) && is_utf8(value)) {
            return Some(InvalidSeries::NotUtf8);
        }
        at = end;
    }
    None
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
pub(super) fn check_labels(labels: &[Label<'_>]) -> Option<InvalidSeries> {
    let mut invalid = None;
    let mut previous: Option<&[u8]> = None;
    let mut named = false;
    for (name, value) in labels {
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
    invalid.or((!named).then_some(InvalidSeries::NoName))
}

/// A label message, however it was written.
pub(super) fn read_label(message: &[u8]) -> Result<Label<'_>, DecodeError> {
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

impl WalkLimits {
    /// The label that is the `count`th of its series or exemplar must be within the limits.
    #[inline]
    pub(super) fn check_label(&self, count: usize, label: Label<'_>) -> Result<(), DecodeError> {
        if count > self.labels {
            return Err(DecodeError::LabelCount(self.labels));
        }
        if self.label_bytes > 0 && label.0.len() + label.1.len() > self.label_bytes {
            return Err(DecodeError::LabelBytes(self.label_bytes));
        }
        Ok(())
    }
}
