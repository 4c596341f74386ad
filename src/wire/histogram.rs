//! Native histograms: checked by the rules by which Prometheus refuses them, and moved as they came.
//!
//! The message is the same in both versions of the protocol but for field 17, so a histogram travels as
//! its own bytes. Source of the rules: prometheus `model/histogram`, `Validate` and `checkHistogram…`.

use super::decoded::{HistogramRow, InvalidSeries, Place};
use super::error::DecodeError;
use super::proto::{Fields, Value, repeated_doubles, repeated_varints, zigzag};

/// Buckets, spans or bounds in one histogram. Prometheus' own defaults stay at 160.
const BUCKETS_MAX: usize = 16_384;
/// Schema of histograms with custom buckets.
const CUSTOM: i64 = -53;

/// What the check found.
pub(super) struct Checked {
    pub(super) row: HistogramRow,
    pub(super) invalid: Option<InvalidSeries>,
}

/// One side's spans and buckets, summed up while they are read: nothing is kept of them.
#[derive(Default)]
struct Side {
    spans: Spans,
    deltas: usize,
    /// Count of the last bucket, by deltas.
    bucket: i128,
    /// Sum of all buckets, by deltas.
    observed: i128,
    negative_bucket: bool,
    counts: usize,
    negative_count: bool,
}

#[derive(Default)]
struct Spans {
    number: usize,
    /// Sum of the lengths.
    buckets: u64,
    /// Sum of offsets and lengths.
    reach: i128,
    first_is_negative: bool,
    later_is_negative: bool,
}

/// Upper bounds of custom buckets.
#[derive(Default)]
struct Bounds {
    number: usize,
    last: f64,
    nan: bool,
    falls: bool,
}

#[derive(Default)]
struct Parsed {
    count_int: Option<u64>,
    count_float: Option<f64>,
    sum: f64,
    schema: i64,
    zero_threshold: f64,
    zero_int: Option<u64>,
    zero_float: Option<f64>,
    negative: Side,
    positive: Side,
    timestamp: i64,
    bounds: Bounds,
    start: i64,
}

/// Checks one histogram message.
///
/// # Errors
/// When it is not protobuf. A broken rule makes only its series invalid.
pub(super) fn check(message: &[u8]) -> Result<Checked, DecodeError> {
    let parsed = parse(message)?;
    let row = HistogramRow {
        place: Place::default(),
        timestamp: parsed.timestamp,
        custom: parsed.schema == CUSTOM,
        start: parsed.start != 0,
    };
    let invalid = verdict(&parsed).err().map(InvalidSeries::Histogram);
    Ok(Checked { row, invalid })
}

fn parse(message: &[u8]) -> Result<Parsed, DecodeError> {
    let mut h = Parsed::default();
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => (h.count_int, h.count_float) = (Some(value.varint()?), None),
            2 => (h.count_int, h.count_float) = (None, Some(f64::from_bits(value.double_bits()?))),
            3 => h.sum = f64::from_bits(value.double_bits()?),
            4 => h.schema = zigzag(value.varint()?),
            5 => h.zero_threshold = f64::from_bits(value.double_bits()?),
            6 => (h.zero_int, h.zero_float) = (Some(value.varint()?), None),
            7 => (h.zero_int, h.zero_float) = (None, Some(f64::from_bits(value.double_bits()?))),
            8 => read_span(value.bytes()?, &mut h.negative.spans)?,
            9 => read_deltas(value, &mut h.negative)?,
            10 => read_counts(value, &mut h.negative)?,
            11 => read_span(value.bytes()?, &mut h.positive.spans)?,
            12 => read_deltas(value, &mut h.positive)?,
            13 => read_counts(value, &mut h.positive)?,
            // The reset hint is not looked at, but must not break the message for who reads it next.
            14 => drop(value.varint()?),
            15 => h.timestamp = value.varint()?.cast_signed(),
            16 => repeated_doubles(value, |bits| {
                h.bounds.add(f64::from_bits(bits));
                Ok(())
            })?,
            17 => h.start = value.varint()?.cast_signed(),
            _ => {}
        }
    }
    Ok(h)
}

fn read_span(message: &[u8], spans: &mut Spans) -> Result<(), DecodeError> {
    let (mut offset, mut length) = (0, 0);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => offset = zigzag(value.varint()?),
            2 => length = value.varint()? & u64::from(u32::MAX),
            _ => {}
        }
    }
    if spans.number == 0 {
        spans.first_is_negative = offset < 0;
    } else {
        spans.later_is_negative |= offset < 0;
    }
    spans.number += 1;
    spans.buckets += length;
    spans.reach += i128::from(offset) + i128::from(length);
    Ok(())
}

fn read_deltas(value: Value<'_>, side: &mut Side) -> Result<(), DecodeError> {
    repeated_varints(value, |raw| {
        side.deltas += 1;
        side.bucket += i128::from(zigzag(raw));
        side.observed += side.bucket;
        side.negative_bucket |= side.bucket < 0;
        Ok(())
    })
}

fn read_counts(value: Value<'_>, side: &mut Side) -> Result<(), DecodeError> {
    repeated_doubles(value, |bits| {
        side.counts += 1;
        side.negative_count |= f64::from_bits(bits) < 0.0;
        Ok(())
    })
}

impl Bounds {
    fn add(&mut self, bound: f64) {
        self.nan |= bound.is_nan();
        self.falls |= self.number > 0 && self.last >= bound;
        self.number += 1;
        self.last = bound;
    }
}

impl Side {
    fn is_empty(&self) -> bool {
        self.spans.number == 0 && self.deltas == 0 && self.counts == 0
    }

    fn is_too_large(&self) -> bool {
        self.spans.number.max(self.deltas).max(self.counts) > BUCKETS_MAX
    }
}

fn verdict(h: &Parsed) -> Result<(), &'static str> {
    if h.negative.is_too_large() || h.positive.is_too_large() || h.bounds.number > BUCKETS_MAX {
        return Err("too many buckets");
    }
    match h.schema {
        CUSTOM => check_custom(h)?,
        // 9 to 52 are reserved; Prometheus reduces them to 8.
        -4..=52 if h.bounds.number == 0 => {}
        -4..=52 => return Err("custom bounds with an exponential schema"),
        _ => return Err("unknown schema"),
    }
    if h.count_float.is_some() {
        check_float(h)
    } else {
        check_int(h)
    }
}

fn check_custom(h: &Parsed) -> Result<(), &'static str> {
    let zero = h.zero_int.unwrap_or(0) != 0 || h.zero_float.is_some_and(|z| z != 0.0);
    if zero || h.zero_threshold != 0.0 {
        return Err("custom buckets with a zero bucket");
    }
    if !h.negative.is_empty() {
        return Err("custom buckets with a negative side");
    }
    if h.bounds.nan || h.bounds.last.is_infinite() && h.bounds.last > 0.0 {
        return Err("custom bounds that are not finite");
    }
    if h.bounds.falls {
        return Err("custom bounds that do not rise");
    }
    if h.positive.spans.first_is_negative {
        return Err("negative span offset");
    }
    if h.positive.spans.reach > h.bounds.number as i128 + 1 {
        return Err("spans past the custom bounds");
    }
    Ok(())
}

fn check_spans(spans: &Spans, buckets: usize) -> Result<(), &'static str> {
    if spans.later_is_negative {
        return Err("negative span offset");
    }
    if spans.buckets != buckets as u64 {
        return Err("spans and buckets do not match");
    }
    Ok(())
}

fn check_int(h: &Parsed) -> Result<(), &'static str> {
    let mut observed = i128::from(h.zero_int.unwrap_or(0));
    for side in [&h.negative, &h.positive] {
        check_spans(&side.spans, side.deltas)?;
        if side.negative_bucket {
            return Err("negative bucket count");
        }
        observed += side.observed;
    }
    let count = i128::from(h.count_int.unwrap_or(0));
    // An observed NaN falls into no bucket, and a stale marker is a NaN sum.
    let fits = if h.sum.is_nan() {
        observed <= count
    } else {
        observed == count
    };
    if fits {
        Ok(())
    } else {
        Err("count is not the sum of the buckets")
    }
}

fn check_float(h: &Parsed) -> Result<(), &'static str> {
    let negative = |value: f64| value < 0.0;
    if h.count_float.is_some_and(negative) || h.zero_float.is_some_and(negative) {
        return Err("negative count");
    }
    for side in [&h.negative, &h.positive] {
        check_spans(&side.spans, side.counts)?;
        if side.negative_count {
            return Err("negative bucket count");
        }
    }
    Ok(())
}

/// Appends the message without its start timestamp (field 17), as Remote-Write 1.0 knows it.
pub(super) fn put_without_start(out: &mut Vec<u8>, message: &[u8]) {
    let mut fields = Fields::new(message);
    let mut from = 0;
    while let Ok(Some((number, _))) = fields.next() {
        let to = fields.position();
        if number != 17 {
            out.extend_from_slice(&message[from..to]);
        }
        from = to;
    }
}
