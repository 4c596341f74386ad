//! Native histograms as plain values, and Prometheus' rules for them, written down a second time from
//! its sources (`model/histogram`, `Validate`) and not from ours.

use sluicegate::wire::pb::{rw1, rw2};

/// A count as an integer or as the bits of a float.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    Int(u64),
    Float(u64),
}

/// Floats by their bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Side {
    pub(crate) spans: Vec<(i32, u32)>,
    pub(crate) deltas: Vec<i64>,
    pub(crate) counts: Vec<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Histogram {
    pub(crate) count: Option<Count>,
    pub(crate) zero: Option<Count>,
    pub(crate) sum: u64,
    pub(crate) schema: i32,
    pub(crate) zero_threshold: u64,
    pub(crate) negative: Side,
    pub(crate) positive: Side,
    pub(crate) reset_hint: i32,
    pub(crate) timestamp: i64,
    pub(crate) bounds: Vec<u64>,
    pub(crate) start: i64,
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Both versions' structs have the same fields but for the start timestamp.
macro_rules! histogram {
    ($pb:ident, $h:ident, $start:expr) => {
        Histogram {
            count: $h.count.map(|count| match count {
                $pb::histogram::Count::CountInt(n) => Count::Int(n),
                $pb::histogram::Count::CountFloat(n) => Count::Float(n.to_bits()),
            }),
            zero: $h.zero_count.map(|count| match count {
                $pb::histogram::ZeroCount::ZeroCountInt(n) => Count::Int(n),
                $pb::histogram::ZeroCount::ZeroCountFloat(n) => Count::Float(n.to_bits()),
            }),
            sum: $h.sum.to_bits(),
            schema: $h.schema,
            zero_threshold: $h.zero_threshold.to_bits(),
            negative: Side {
                spans: $h
                    .negative_spans
                    .iter()
                    .map(|s| (s.offset, s.length))
                    .collect(),
                deltas: $h.negative_deltas.clone(),
                counts: bits(&$h.negative_counts),
            },
            positive: Side {
                spans: $h
                    .positive_spans
                    .iter()
                    .map(|s| (s.offset, s.length))
                    .collect(),
                deltas: $h.positive_deltas.clone(),
                counts: bits(&$h.positive_counts),
            },
            reset_hint: $h.reset_hint,
            timestamp: $h.timestamp,
            bounds: bits(&$h.custom_values),
            start: $start,
        }
    };
}

impl Histogram {
    pub(crate) fn of_v1(h: &rw1::Histogram) -> Self {
        histogram!(rw1, h, 0)
    }

    pub(crate) fn of_v2(h: &rw2::Histogram) -> Self {
        histogram!(rw2, h, h.start_timestamp)
    }

    pub(crate) fn is_custom(&self) -> bool {
        self.schema == -53
    }
}

/// Would Prometheus refuse it?
pub(crate) fn breaks_a_rule(h: &Histogram) -> bool {
    let float = |bits: u64| f64::from_bits(bits);
    let is_float = matches!(h.count, Some(Count::Float(_)));
    let exponential = (-4..=52).contains(&h.schema);
    if !exponential && !h.is_custom() {
        return true;
    }
    if exponential && !h.bounds.is_empty() {
        return true;
    }
    if h.is_custom() && breaks_a_custom_rule(h) {
        return true;
    }
    let mut observed = match h.zero {
        Some(Count::Int(n)) => i128::from(n),
        _ => 0,
    };
    for (side, first_may_be_negative) in [(&h.negative, exponential), (&h.positive, exponential)] {
        let skipped = usize::from(first_may_be_negative);
        if side.spans.iter().skip(skipped).any(|span| span.0 < 0) {
            return true;
        }
        let spanned: usize = side.spans.iter().map(|span| span.1 as usize).sum();
        let buckets = if is_float {
            side.counts.len()
        } else {
            side.deltas.len()
        };
        if spanned != buckets {
            return true;
        }
        if is_float {
            if side.counts.iter().any(|count| float(*count) < 0.0) {
                return true;
            }
            continue;
        }
        let mut bucket = 0i128;
        for delta in &side.deltas {
            bucket += i128::from(*delta);
            observed += bucket;
            if bucket < 0 {
                return true;
            }
        }
    }
    match h.count {
        Some(Count::Float(count)) => {
            let zero = match h.zero {
                Some(Count::Float(zero)) => float(zero),
                _ => 0.0,
            };
            float(count) < 0.0 || zero < 0.0
        }
        Some(Count::Int(count)) if float(h.sum).is_nan() => observed > i128::from(count),
        Some(Count::Int(count)) => observed != i128::from(count),
        None => observed != 0 && !(float(h.sum).is_nan() && observed <= 0),
    }
}

fn breaks_a_custom_rule(h: &Histogram) -> bool {
    let float = |bits: u64| f64::from_bits(bits);
    let zero = match h.zero {
        Some(Count::Int(n)) => n != 0,
        Some(Count::Float(n)) => float(n) != 0.0,
        None => false,
    };
    let negative = &h.negative;
    let has_negative =
        !negative.spans.is_empty() || !negative.deltas.is_empty() || !negative.counts.is_empty();
    let bounds: Vec<f64> = h.bounds.iter().map(|b| float(*b)).collect();
    let rising = bounds.windows(2).all(|pair| pair[0] < pair[1]);
    let finite = bounds.iter().all(|b| !b.is_nan()) && bounds.last() != Some(&f64::INFINITY);
    let reach: i128 = h
        .positive
        .spans
        .iter()
        .map(|span| i128::from(span.0) + i128::from(span.1))
        .sum();
    zero || float(h.zero_threshold) != 0.0
        || has_negative
        || !rising
        || !finite
        || reach > bounds.len() as i128 + 1
}
