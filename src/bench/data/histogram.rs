//! Native histograms and exemplars whose every field follows from labels and timestamp.

use crate::wire::pb::{rw1, rw2};

use super::values::{SeriesModel, ValueOptions, counter, splitmix64};

/// Buckets of each generated histogram.
const BUCKETS: u64 = 8;
/// Schema number of histograms with custom bounds.
const CUSTOM_SCHEMA: i32 = -53;

/// The three forms that a native histogram takes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Integer counts, as deltas.
    Int,
    /// Float counts.
    Float,
    /// Integer counts within bounds that are listed; RW 2.0 only.
    Custom,
}

impl Flavour {
    /// The flavour that the metric's name asks for.
    pub fn of(metric: &[u8]) -> Self {
        if metric.ends_with(b"_float") {
            Self::Float
        } else if metric.ends_with(b"_custom") {
            Self::Custom
        } else {
            Self::Int
        }
    }
}

/// The histogram that a series holds at `timestamp_ms`; without start timestamp.
pub fn expected_histogram(
    model: &SeriesModel,
    options: ValueOptions,
    flavour: Flavour,
    timestamp_ms: i64,
) -> rw2::Histogram {
    let own = splitmix64(options.seed ^ model.key() as u64);
    let counts: Vec<u64> = (0..BUCKETS)
        .map(|bucket| counter(splitmix64(own ^ bucket), timestamp_ms))
        .collect();
    let total: u64 = counts.iter().sum();
    let mut made = rw2::Histogram {
        sum: total as f64 * 0.25,
        schema: 3,
        zero_threshold: 1e-128,
        positive_spans: vec![
            rw2::BucketSpan {
                offset: -3,
                length: 5,
            },
            rw2::BucketSpan {
                offset: 2,
                length: 3,
            },
        ],
        timestamp: timestamp_ms,
        ..rw2::Histogram::default()
    };
    match flavour {
        Flavour::Float => {
            made.positive_counts = counts.iter().map(|count| *count as f64 + 0.5).collect();
            made.count = Some(rw2::histogram::Count::CountFloat(total as f64 + 4.0));
            made.zero_count = Some(rw2::histogram::ZeroCount::ZeroCountFloat(0.0));
        }
        Flavour::Int | Flavour::Custom => {
            made.positive_deltas = deltas(&counts);
            made.count = Some(rw2::histogram::Count::CountInt(total));
            made.zero_count = Some(rw2::histogram::ZeroCount::ZeroCountInt(0));
        }
    }
    if flavour == Flavour::Custom {
        made.schema = CUSTOM_SCHEMA;
        made.zero_threshold = 0.0;
        made.zero_count = None;
        made.positive_spans = vec![rw2::BucketSpan {
            offset: 0,
            length: BUCKETS as u32,
        }];
        made.custom_values = (1..BUCKETS).map(|bound| bound as f64 * 0.1).collect();
    }
    made
}

fn deltas(counts: &[u64]) -> Vec<i64> {
    let mut before = 0;
    let delta = |count: &u64| {
        let step = count.cast_signed() - before;
        before = count.cast_signed();
        step
    };
    counts.iter().map(delta).collect()
}

/// The same histogram as a 1.0 message; what 1.0 cannot carry (start timestamp) is left out.
pub fn to_v1(from: rw2::Histogram) -> rw1::Histogram {
    let span = |span: &rw2::BucketSpan| rw1::BucketSpan {
        offset: span.offset,
        length: span.length,
    };
    rw1::Histogram {
        sum: from.sum,
        schema: from.schema,
        zero_threshold: from.zero_threshold,
        negative_spans: from.negative_spans.iter().map(span).collect(),
        negative_deltas: from.negative_deltas,
        negative_counts: from.negative_counts,
        positive_spans: from.positive_spans.iter().map(span).collect(),
        positive_deltas: from.positive_deltas,
        positive_counts: from.positive_counts,
        reset_hint: from.reset_hint,
        timestamp: from.timestamp,
        custom_values: from.custom_values,
        count: from.count.map(|count| match count {
            rw2::histogram::Count::CountInt(n) => rw1::histogram::Count::CountInt(n),
            rw2::histogram::Count::CountFloat(n) => rw1::histogram::Count::CountFloat(n),
        }),
        zero_count: from.zero_count.map(|count| match count {
            rw2::histogram::ZeroCount::ZeroCountInt(n) => {
                rw1::histogram::ZeroCount::ZeroCountInt(n)
            }
            rw2::histogram::ZeroCount::ZeroCountFloat(n) => {
                rw1::histogram::ZeroCount::ZeroCountFloat(n)
            }
        }),
    }
}

/// A received 1.0 histogram in the form that both versions share here.
pub fn from_v1(from: rw1::Histogram) -> rw2::Histogram {
    let span = |span: &rw1::BucketSpan| rw2::BucketSpan {
        offset: span.offset,
        length: span.length,
    };
    rw2::Histogram {
        sum: from.sum,
        schema: from.schema,
        zero_threshold: from.zero_threshold,
        negative_spans: from.negative_spans.iter().map(span).collect(),
        negative_deltas: from.negative_deltas,
        negative_counts: from.negative_counts,
        positive_spans: from.positive_spans.iter().map(span).collect(),
        positive_deltas: from.positive_deltas,
        positive_counts: from.positive_counts,
        reset_hint: from.reset_hint,
        timestamp: from.timestamp,
        custom_values: from.custom_values,
        start_timestamp: 0,
        count: from.count.map(|count| match count {
            rw1::histogram::Count::CountInt(n) => rw2::histogram::Count::CountInt(n),
            rw1::histogram::Count::CountFloat(n) => rw2::histogram::Count::CountFloat(n),
        }),
        zero_count: from.zero_count.map(|count| match count {
            rw1::histogram::ZeroCount::ZeroCountInt(n) => {
                rw2::histogram::ZeroCount::ZeroCountInt(n)
            }
            rw1::histogram::ZeroCount::ZeroCountFloat(n) => {
                rw2::histogram::ZeroCount::ZeroCountFloat(n)
            }
        }),
    }
}

/// 64 bits that differ when any bit of the histogram does, apart from its start timestamp.
///
/// It takes the place of a float's bits where samples are compared.
pub fn digest(histogram: &rw2::Histogram) -> u64 {
    use rw2::histogram::{Count, ZeroCount};
    let mut hash = Mixer(0);
    // Which count is set decides between integer and float; neither means an integer 0.
    match histogram.count {
        Some(Count::CountInt(n)) => hash.put(&[1, n]),
        Some(Count::CountFloat(n)) => hash.put(&[2, n.to_bits()]),
        None => hash.put(&[1, 0]),
    }
    match histogram.zero_count {
        Some(ZeroCount::ZeroCountInt(n)) => hash.put(&[n]),
        Some(ZeroCount::ZeroCountFloat(n)) => hash.put(&[n.to_bits()]),
        None => hash.put(&[0]),
    }
    hash.put(&[histogram.sum.to_bits(), histogram.zero_threshold.to_bits()]);
    hash.put(&[i64::from(histogram.schema).cast_unsigned()]);
    hash.put(&[i64::from(histogram.reset_hint).cast_unsigned()]);
    hash.put(&[histogram.timestamp.cast_unsigned()]);
    for spans in [&histogram.negative_spans, &histogram.positive_spans] {
        hash.list(
            spans.iter().map(|span| {
                (u64::from(span.offset.cast_unsigned()) << 32) | u64::from(span.length)
            }),
        );
    }
    for deltas in [&histogram.negative_deltas, &histogram.positive_deltas] {
        hash.list(deltas.iter().map(|delta| delta.cast_unsigned()));
    }
    for counts in [
        &histogram.negative_counts,
        &histogram.positive_counts,
        &histogram.custom_values,
    ] {
        hash.list(counts.iter().map(|count| count.to_bits()));
    }
    hash.0
}

struct Mixer(u64);

impl Mixer {
    fn put(&mut self, words: &[u64]) {
        for word in words {
            self.0 = splitmix64(self.0 ^ *word);
        }
    }

    fn list(&mut self, words: impl ExactSizeIterator<Item = u64>) {
        self.put(&[words.len() as u64]);
        for word in words {
            self.put(&[word]);
        }
    }
}

/// Value bits and trace id of the exemplar that a series has at `timestamp_ms`.
pub fn expected_exemplar(
    model: &SeriesModel,
    options: ValueOptions,
    timestamp_ms: i64,
) -> (u64, String) {
    let own = splitmix64(options.seed ^ model.key() as u64 ^ 0x65);
    let now = splitmix64(own ^ timestamp_ms.cast_unsigned());
    let value = (now % 10_000) as f64 / 1_000.0;
    (
        value.to_bits(),
        format!("{:016x}{now:016x}", splitmix64(now)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_survives_1_0_and_its_digest_sees_every_field() {
        let labels = [(&b"__name__"[..], &b"latency"[..])];
        let model = SeriesModel::new(&labels, &mut Vec::new());
        let at = 1_750_000_000_000;
        for flavour in [Flavour::Int, Flavour::Float, Flavour::Custom] {
            let made = expected_histogram(&model, ValueOptions::default(), flavour, at);
            assert_eq!(from_v1(to_v1(made.clone())), made);
            let whole = digest(&made);
            let changed: [&dyn Fn(&mut rw2::Histogram); 5] = [
                &|h| h.sum = f64::from_bits(h.sum.to_bits() ^ 1),
                &|h| h.timestamp += 1,
                &|h| h.positive_spans[0].length += 1,
                &|h| h.count = None,
                &|h| h.negative_deltas.push(0),
            ];
            for change in changed {
                let mut other = made.clone();
                change(&mut other);
                assert_ne!(digest(&other), whole);
            }
        }
    }

    #[test]
    fn integer_histograms_count_what_their_buckets_hold() {
        let labels = [(&b"__name__"[..], &b"latency"[..])];
        let model = SeriesModel::new(&labels, &mut Vec::new());
        let made = expected_histogram(
            &model,
            ValueOptions::default(),
            Flavour::Int,
            1_750_000_000_000,
        );
        let mut bucket = 0;
        let total: i64 = made
            .positive_deltas
            .iter()
            .map(|delta| {
                bucket += delta;
                bucket
            })
            .sum();
        assert_eq!(
            made.count,
            Some(rw2::histogram::Count::CountInt(total.cast_unsigned()))
        );
    }
}
