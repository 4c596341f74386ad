//! What the receiver saw, in numbers.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::bench::compare::Faults;

/// Texts of wrong samples that are kept.
const EXAMPLES_MAX: usize = 10;
/// Ages above a year count as a year.
const AGE_MAX_MS: u64 = 365 * 86_400_000;
/// More targets, or elements, in one request count as this many.
const PER_REQUEST_MAX: u64 = 1 << 24;

/// How a number is spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Spread {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { p50, p90, p99, max } = self;
        write!(f, "p50 {p50}, p90 {p90}, p99 {p99}, max {max}")
    }
}

/// A snapshot of everything counted so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SinkStats {
    /// Requests whose headers were read.
    pub requests: u64,
    /// Requests that got an answer, by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests that ended without an answer: the sender went away, or the sink was down.
    pub unanswered: u64,
    /// Requests being handled now.
    pub in_flight: u64,
    /// Most that were handled at once.
    pub in_flight_max: u64,
    /// Requests held by a hang now.
    pub hanging: u64,
    /// Requests of which something was stored.
    pub stored_requests: u64,
    /// Compressed bytes of bodies of which something was stored.
    pub stored_bytes: u64,
    /// Compressed bytes of all bodies.
    pub body_bytes: u64,
    /// Float samples accepted, duplicates included.
    pub samples: u64,
    /// Histograms accepted, duplicates included.
    pub histograms: u64,
    /// Exemplars accepted.
    pub exemplars: u64,
    /// Metadata entries accepted.
    pub metadata: u64,
    /// Series of which something was accepted.
    pub series: u64,
    /// Samples and histograms accepted again, with the same bits.
    pub duplicates: u64,
    /// Samples and histograms accepted again, with other bits.
    pub conflicts: u64,
    /// Samples and histograms first accepted after a newer one of their series.
    pub order_violations: u64,
    /// Elements refused by a rule of the behaviour.
    pub refused: u64,
    /// Accepted elements whose bits are not those that labels and timestamp ask for.
    pub wrong: u64,
    /// Some of them.
    pub wrong_examples: Vec<String>,
    /// Accepted elements with a start timestamp (counted while verifying).
    pub with_start_timestamp: u64,
    /// Of these, wrong ones.
    pub wrong_start_timestamps: u64,
    /// Wall clock when a sample or histogram was first stored, milliseconds since the epoch; 0 before.
    pub first_stored_ms: i64,
    /// The same of the latest one that was not a duplicate: with the first it gives the rate, and with the
    /// end of an outage the time that it took to catch up.
    pub last_stored_ms: i64,
    /// Age of samples and histograms when they are stored, in milliseconds.
    pub age_ms: Spread,
    /// Distinct pairs of job and instance in a stored request.
    pub targets_per_request: Spread,
    /// Elements in a stored request.
    pub elements_per_request: Spread,
    /// Elements accepted by tenant.
    pub tenants: BTreeMap<String, u64>,
    /// Series accepted whose tenant label is not their request's tenant.
    pub foreign_tenant_series: u64,
    /// Breaches of the protocol, by rule.
    pub violations: BTreeMap<&'static str, u64>,
}

impl From<&SinkStats> for Faults {
    fn from(stats: &SinkStats) -> Self {
        Self {
            duplicates: stats.duplicates,
            conflicts: stats.conflicts,
            order_violations: stats.order_violations,
            wrong: stats.wrong,
        }
    }
}

impl SinkStats {
    /// Samples and histograms accepted for the first time.
    pub fn distinct(&self) -> u64 {
        self.samples + self.histograms - self.duplicates - self.conflicts
    }

    /// Distinct samples a second, from the first stored to the last; 0 if they were stored at once.
    pub fn rate(&self) -> f64 {
        let seconds = (self.last_stored_ms - self.first_stored_ms) as f64 / 1e3;
        if seconds > 0.0 {
            self.distinct() as f64 / seconds
        } else {
            0.0
        }
    }

    /// Compressed bytes of stored bodies for each sample or histogram in them.
    pub fn bytes_per_sample(&self) -> f64 {
        self.stored_bytes as f64 / ((self.samples + self.histograms) as f64).max(1.0)
    }
}

impl fmt::Display for SinkStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "accepted    {} samples, {} histograms, {} exemplars, {} metadata of {} series",
            self.samples, self.histograms, self.exemplars, self.metadata, self.series
        )?;
        writeln!(
            f,
            "suspicious  {} duplicates, {} conflicts, {} out of order, {} wrong, {} refused",
            self.duplicates, self.conflicts, self.order_violations, self.wrong, self.refused
        )?;
        writeln!(
            f,
            "requests    {} ({} without answer, at most {} at once) {:?}",
            self.requests, self.unanswered, self.in_flight_max, self.statuses
        )?;
        writeln!(
            f,
            "bytes       {} stored, {:.1} a sample",
            self.stored_bytes,
            self.bytes_per_sample()
        )?;
        writeln!(f, "rate        {:.0} distinct samples/s", self.rate())?;
        writeln!(f, "a request   elements {}", self.elements_per_request)?;
        writeln!(f, "            targets {}", self.targets_per_request)?;
        writeln!(f, "age ms      {}", self.age_ms)?;
        write!(
            f,
            "tenants     {:?}, {} foreign series; violations {:?}",
            self.tenants, self.foreign_tenant_series, self.violations
        )
    }
}

/// The numbers while they are still counted.
pub(super) struct Counting {
    pub(super) stats: SinkStats,
    age_ms: Histogram<u64>,
    targets: Histogram<u64>,
    elements: Histogram<u64>,
}

impl Counting {
    pub(super) fn new() -> Self {
        let histogram =
            |max| Histogram::new_with_max(max, 2).expect("the bounds and precision are valid");
        Self {
            stats: SinkStats::default(),
            age_ms: histogram(AGE_MAX_MS),
            targets: histogram(PER_REQUEST_MAX),
            elements: histogram(PER_REQUEST_MAX),
        }
    }

    pub(super) fn snapshot(&self) -> SinkStats {
        SinkStats {
            age_ms: Spread::of(&self.age_ms),
            targets_per_request: Spread::of(&self.targets),
            elements_per_request: Spread::of(&self.elements),
            ..self.stats.clone()
        }
    }

    /// Something was stored that was not there before.
    pub(super) fn news(&mut self, now_ms: i64) {
        let stats = &mut self.stats;
        if stats.first_stored_ms == 0 {
            stats.first_stored_ms = now_ms;
        }
        stats.last_stored_ms = stats.last_stored_ms.max(now_ms);
    }

    /// So many samples of this age; those from the future count as new.
    pub(super) fn age(&mut self, age_ms: i64, samples: u64) {
        let age_ms = age_ms.max(0).cast_unsigned();
        self.age_ms.saturating_record_n(age_ms, samples);
    }

    pub(super) fn request(&mut self, targets: u64, elements: u64) {
        self.targets.saturating_record(targets);
        self.elements.saturating_record(elements);
    }

    pub(super) fn violation(&mut self, rule: &'static str) {
        *self.stats.violations.entry(rule).or_default() += 1;
    }

    pub(super) fn wrong(&mut self, count: u64, examples: Vec<String>) {
        self.stats.wrong += count;
        let room = EXAMPLES_MAX.saturating_sub(self.stats.wrong_examples.len());
        self.stats
            .wrong_examples
            .extend(examples.into_iter().take(room));
    }
}
