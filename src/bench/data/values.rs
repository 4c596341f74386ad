//! What a series is worth at a moment: a pure function of its labels and the timestamp.
//!
//! The shapes are those that real exporters show, because they decide how well a batch compresses:
//! counters that grow by little, gauges that mostly stand still, few values with a full mantissa.

use std::str;

use xxhash_rust::xxh3::xxh3_128;

use super::DataOptions;

/// Bits of Prometheus' stale marker.
pub const STALE: u64 = 0x7ff0_0000_0000_0002;

/// Label that a series with an end carries: the timestamp of its stale marker, in hex.
///
/// With it a receiver knows from the labels alone which sample has to be the marker.
pub const END_LABEL: &str = "pod_template_hash";

/// Counters count from here (2020-09-13), so that their values stay small and grow.
const EPOCH_MS: i64 = 1_600_000_000_000;

/// One sample in so many is special in a `weird` data set: 1.6 %.
const WEIRD_EVERY: u64 = 64;

/// Floats that careless code changes: NaNs with payloads, both zeros' signs, infinities, extremes.
const WEIRD: [u64; 12] = [
    STALE,
    0x7ff8_0000_0000_0001,
    0x7ff8_dead_beef_0001,
    0xfff8_0000_0000_0000,
    0x7ff0_0000_0000_0001,
    0x8000_0000_0000_0000,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x0000_0000_0000_0001,
    0x800f_ffff_ffff_ffff,
    0x7fef_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
];

/// A label as it is on the wire: name and value.
pub type RawLabel<'a> = (&'a [u8], &'a [u8]);

/// Mixes 64 bits so that each input bit changes about half of the output.
///
/// Source: Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators (2014).
pub fn splitmix64(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Identity of a series: a hash of its labels, which must be sorted by name.
///
/// `scratch` is only a buffer to reuse. 0xff cannot be in UTF-8, so it separates unambiguously.
pub fn series_key(labels: &[RawLabel<'_>], scratch: &mut Vec<u8>) -> u128 {
    scratch.clear();
    for (name, value) in labels {
        scratch.extend_from_slice(name);
        scratch.push(0xff);
        scratch.extend_from_slice(value);
        scratch.push(0xff);
    }
    xxh3_128(scratch)
}

/// What kind of numbers a series holds; follows from its metric name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Counter,
    Seconds,
    Gauge,
    Info,
}

impl Class {
    fn of(metric: &[u8]) -> Self {
        if metric.ends_with(b"_seconds_total") || metric.ends_with(b"_sum") {
            Self::Seconds
        } else if metric.ends_with(b"_total")
            || metric.ends_with(b"_count")
            || metric.ends_with(b"_bucket")
        {
            Self::Counter
        } else if metric.ends_with(b"_info") {
            Self::Info
        } else {
            Self::Gauge
        }
    }
}

/// Settings on which values depend; the rest of [`DataOptions`] says which series there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct ValueOptions {
    /// Seed of everything.
    pub seed: u64,
    /// Sprinkle special floats in.
    pub weird: bool,
}

impl From<&DataOptions> for ValueOptions {
    fn from(options: &DataOptions) -> Self {
        Self {
            seed: options.seed,
            weird: options.weird,
        }
    }
}

/// The rule for one series' values, learnt from its labels.
#[derive(Clone, Copy, Debug)]
pub struct SeriesModel {
    key: u128,
    class: Class,
    ends_at_ms: i64,
}

impl SeriesModel {
    /// Reads the rule from labels sorted by name.
    pub fn new(labels: &[RawLabel<'_>], scratch: &mut Vec<u8>) -> Self {
        let mut model = Self {
            key: series_key(labels, scratch),
            class: Class::Gauge,
            ends_at_ms: i64::MAX,
        };
        for (name, value) in labels {
            if *name == b"__name__" {
                model.class = Class::of(value);
            } else if *name == END_LABEL.as_bytes() {
                let end = str::from_utf8(value)
                    .ok()
                    .and_then(|hex| i64::from_str_radix(hex, 16).ok());
                model.ends_at_ms = end.unwrap_or(i64::MAX);
            }
        }
        model
    }

    /// Identity of the series, as [`series_key`] gives it.
    pub fn key(&self) -> u128 {
        self.key
    }

    /// Whether the metric's name says counter.
    pub fn is_counter(&self) -> bool {
        matches!(self.class, Class::Counter | Class::Seconds)
    }

    /// Start timestamp (ms) of a counter; one constant a series.
    pub fn start_ms(&self) -> i64 {
        EPOCH_MS - (self.key as u64 % 1_000_000_000).cast_signed()
    }

    /// Bits of the value at `timestamp_ms`.
    pub fn bits(&self, options: ValueOptions, timestamp_ms: i64) -> u64 {
        if timestamp_ms >= self.ends_at_ms {
            return STALE;
        }
        let own = splitmix64(options.seed ^ self.key as u64);
        let now = splitmix64(own ^ timestamp_ms.cast_unsigned());
        if options.weird && now.is_multiple_of(WEIRD_EVERY) {
            return WEIRD[((now >> 8) % WEIRD.len() as u64) as usize];
        }
        let value = match self.class {
            Class::Counter => counter(own, timestamp_ms) as f64,
            // Most clocks tick in hundredths; those of Go programs have nine decimals.
            Class::Seconds if own % 10 < 6 => counter(own, timestamp_ms) as f64 / 100.0,
            Class::Seconds => nanoseconds(counter(own, timestamp_ms)),
            Class::Gauge => gauge(own, now),
            Class::Info => 1.0,
        };
        value.to_bits()
    }
}

/// Bits that the series with these labels (sorted by name) must have at `timestamp_ms`.
pub fn expected_bits(options: ValueOptions, labels: &[RawLabel<'_>], timestamp_ms: i64) -> u64 {
    SeriesModel::new(labels, &mut Vec::new()).bits(options, timestamp_ms)
}

/// A count that never falls: `rate` a tick, plus noise below one tick's growth.
pub(super) fn counter(own: u64, timestamp_ms: i64) -> u64 {
    let since_ms = (timestamp_ms - EPOCH_MS).max(0).cast_unsigned();
    let (tick_ms, rate) = match own % 100 {
        0..45 => return (own >> 8) % 100_000,
        45..80 => (60_000, 1 + (own >> 8) % 60),
        80..95 => (1_000, 1 + (own >> 8) % 500),
        _ => (1_000, 10_000 + (own >> 8) % 1_000_000),
    };
    let tick = since_ms / tick_ms;
    tick * rate + splitmix64(own ^ tick) % rate
}

/// Milliseconds with six more decimals; they follow from the count, so that the sum never falls.
fn nanoseconds(millis: u64) -> f64 {
    let fraction = (splitmix64(millis) >> 11) as f64 / (1u64 << 53) as f64;
    (millis as f64 + fraction) / 1e3
}

/// A number that mostly stands still: counts, sizes, switches, temperatures, a few ratios.
fn gauge(own: u64, now: u64) -> f64 {
    let base = own >> 16;
    match (own >> 8) % 100 {
        0..35 => (base % 100) as f64,
        35..60 => ((base % (1 << 34)) & !4095) as f64,
        60..72 => (base % 2) as f64,
        72..85 => ((base % (1 << 30) + now % (1 << 24)) & !4095) as f64,
        85..95 => (20_000 + base % 50_000 + now % 3_000) as f64 / 1_000.0,
        _ => (now >> 11) as f64 / (1u64 << 53) as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: ValueOptions = ValueOptions {
        seed: 7,
        weird: false,
    };

    fn model(name: &str, n: u32) -> SeriesModel {
        let n = n.to_string();
        let labels = [(&b"__name__"[..], name.as_bytes()), (b"n", n.as_bytes())];
        SeriesModel::new(&labels, &mut Vec::new())
    }

    #[test]
    fn values_depend_on_labels_time_and_seed_only() {
        let labels: [RawLabel<'_>; 2] = [(b"__name__", b"requests_total"), (b"path", b"/")];
        let at = 1_750_000_000_000;
        assert_eq!(
            expected_bits(OPTIONS, &labels, at),
            expected_bits(OPTIONS, &labels, at)
        );
        let other = ValueOptions { seed: 8, ..OPTIONS };
        let differs = (0..100).filter(|n| {
            let model = model("free_bytes", *n);
            model.bits(OPTIONS, at) != model.bits(other, at)
        });
        assert!(differs.count() > 50);
    }

    #[test]
    fn counters_never_fall() {
        for n in 0..200 {
            for name in ["requests_total", "busy_seconds_total"] {
                let model = model(name, n);
                let mut last = -1.0;
                for step in 0..200 {
                    let value =
                        f64::from_bits(model.bits(OPTIONS, 1_750_000_000_000 + step * 7_001));
                    assert!(value >= last, "{name} {n} {step}: {value} after {last}");
                    last = value;
                }
            }
        }
    }

    #[test]
    fn weird_data_holds_one_to_two_percent_of_special_floats() {
        let options = ValueOptions {
            weird: true,
            ..OPTIONS
        };
        let model = model("free_bytes", 1);
        let special = (0..20_000)
            .filter(|at| WEIRD.contains(&model.bits(options, 1_750_000_000_000 + at * 15_000)))
            .count();
        assert!((200..400).contains(&special), "{special}");
    }

    #[test]
    fn a_series_with_an_end_is_stale_from_then_on() {
        let end: RawLabel<'_> = (END_LABEL.as_bytes(), b"ff");
        let labels = [(&b"__name__"[..], &b"x"[..]), end];
        assert_ne!(expected_bits(OPTIONS, &labels, 0xfe), STALE);
        assert_eq!(expected_bits(OPTIONS, &labels, 0xff), STALE);
    }
}
