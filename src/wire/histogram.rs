//! Native histograms: checked by the rules by which Prometheus refuses them, and moved as they came.
//!
//! The message is the same in both versions of the protocol but for field 17, so a histogram travels as
//! its own bytes. Source of the rules: prometheus `model/histogram`, `Validate` and `checkHistogram…`.

use super::decoded::{HistogramRow, InvalidSeries, Place};
use super::error::DecodeError;
use super::proto::{Fields, repeated_doubles, repeated_varints, zigzag};

/// Buckets, spans or bounds in one histogram. Prometheus' own defaults stay at 160; this bounds memory.
const BUCKETS_MAX: usize = 16_384;
/// Schema of histograms with custom buckets.
const CUSTOM: i64 = -53;

/// What the check found.
pub(super) struct Checked {
    pub(super) row: HistogramRow,
    pub(super) invalid: Option<InvalidSeries>,
}

#[derive(Default)]
struct Side {
    spans: Vec<(i64, u64)>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
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
    bounds: Vec<f64>,
    start: i64,
    too_many: bool,
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
            8 | 11 => {
                let span = read_span(value.bytes()?)?;
                bounded(&mut side(&mut h, number == 8).spans, span)
                    .unwrap_or_else(|()| h.too_many = true);
            }
            9 | 12 => {
                let mut full = false;
                let deltas = &mut side(&mut h, number == 9).deltas;
                repeated_varints(value, |raw| {
                    full |= bounded(deltas, zigzag(raw)).is_err();
                    Ok(())
                })?;
                h.too_many |= full;
            }
            10 | 13 => {
                let mut full = false;
                let counts = &mut side(&mut h, number == 10).counts;
                repeated_doubles(value, |bits| {
                    full |= bounded(counts, f64::from_bits(bits)).is_err();
                    Ok(())
                })?;
                h.too_many |= full;
            }
            15 => h.timestamp = value.varint()?.cast_signed(),
            16 => {
                let mut full = false;
                let bounds = &mut h.bounds;
                repeated_doubles(value, |bits| {
                    full |= bounded(bounds, f64::from_bits(bits)).is_err();
                    Ok(())
                })?;
                h.too_many |= full;
            }
            17 => h.start = value.varint()?.cast_signed(),
            _ => {}
        }
    }
    Ok(h)
}

fn side(h: &mut Parsed, negative: bool) -> &mut Side {
    if negative {
        &mut h.negative
    } else {
        &mut h.positive
    }
}

fn bounded<T>(list: &mut Vec<T>, item: T) -> Result<(), ()> {
    if list.len() == BUCKETS_MAX {
        return Err(());
    }
    list.push(item);
    Ok(())
}

fn read_span(message: &[u8]) -> Result<(i64, u64), DecodeError> {
    let (mut offset, mut length) = (0, 0);
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => offset = zigzag(value.varint()?),
            2 => length = value.varint()? & u64::from(u32::MAX),
            _ => {}
        }
    }
    Ok((offset, length))
}

fn verdict(h: &Parsed) -> Result<(), &'static str> {
    if h.too_many {
        return Err("too many buckets");
    }
    match h.schema {
        CUSTOM => check_custom(h)?,
        // 9 to 52 are reserved; Prometheus reduces them to 8.
        -4..=52 if h.bounds.is_empty() => {}
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
    let negative = &h.negative;
    if !(negative.spans.is_empty() && negative.deltas.is_empty() && negative.counts.is_empty()) {
        return Err("custom buckets with a negative side");
    }
    if h.bounds.iter().any(|b| b.is_nan()) || h.bounds.last() == Some(&f64::INFINITY) {
        return Err("custom bounds that are not finite");
    }
    if h.bounds.windows(2).any(|w| w[0] >= w[1]) {
        return Err("custom bounds that do not rise");
    }
    if h.positive.spans.iter().any(|span| span.0 < 0) {
        return Err("negative span offset");
    }
    let reach: i128 = h
        .positive
        .spans
        .iter()
        .map(|s| i128::from(s.0) + i128::from(s.1))
        .sum();
    if reach > h.bounds.len() as i128 + 1 {
        return Err("spans past the custom bounds");
    }
    Ok(())
}

fn check_spans(side: &Side, buckets: usize) -> Result<(), &'static str> {
    if side.spans.iter().skip(1).any(|span| span.0 < 0) {
        return Err("negative span offset");
    }
    let spanned: u128 = side.spans.iter().map(|span| u128::from(span.1)).sum();
    if spanned != buckets as u128 {
        return Err("spans and buckets do not match");
    }
    Ok(())
}

fn check_int(h: &Parsed) -> Result<(), &'static str> {
    let mut observed = i128::from(h.zero_int.unwrap_or(0));
    for side in [&h.negative, &h.positive] {
        check_spans(side, side.deltas.len())?;
        let mut bucket = 0i128;
        for delta in &side.deltas {
            bucket += i128::from(*delta);
            if bucket < 0 {
                return Err("negative bucket count");
            }
            observed += bucket;
        }
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
        check_spans(side, side.counts.len())?;
        if side.counts.iter().any(|count| negative(*count)) {
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
