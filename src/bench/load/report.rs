//! What a run of the load generator did, in numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::ledger::{Fate, Ledger};
use crate::bench::Protocol;
use crate::bench::data::{DataSet, Item, What};

/// Attempts above this are recorded as this.
const LATENCY_MAX_US: u64 = 600_000_000;

/// Elements by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Fates {
    /// Written, says a 2xx.
    pub acknowledged: u64,
    /// Refused for good.
    pub refused: u64,
    /// On the wire, without a final answer.
    pub indeterminate: u64,
}

impl Fates {
    fn add(&mut self, fate: Fate) {
        match fate {
            Fate::Acknowledged => self.acknowledged += 1,
            Fate::Refused => self.refused += 1,
            Fate::Indeterminate => self.indeterminate += 1,
            Fate::Unsent => {}
        }
    }
}

impl fmt::Display for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            acknowledged,
            refused,
            indeterminate,
        } = self;
        write!(
            f,
            "{acknowledged} acknowledged, {refused} refused, {indeterminate} without answer"
        )
    }
}

/// Time from the first byte of an attempt to the end of its answer, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50_ms: f64,
    /// 90th percentile.
    pub p90_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// The numbers of a run, at its end or while it goes on.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LoadSummary {
    /// Version of the messages.
    pub protocol: Protocol,
    /// Series at any one time.
    pub series: u64,
    /// Float samples and histograms.
    pub samples: Fates,
    /// Exemplars.
    pub exemplars: Fates,
    /// Metadata entries that a 2xx answered (1.0).
    pub metadata: u64,
    /// Histograms not sent because 1.0 cannot carry custom buckets.
    pub unrepresentable: u64,
    /// Requests that came to an end.
    pub requests: u64,
    /// Attempts after the first one.
    pub retries: u64,
    /// Attempts that ended without an answer.
    pub network_errors: u64,
    /// The latest of those errors.
    pub network_error: Option<String>,
    /// Answers by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// 2.0 requests answered 2xx whose Written headers were absent or all zero.
    pub unwritten_requests: u64,
    /// 2.0 requests answered 2xx whose Written headers differ from what was sent.
    pub miscounted_requests: u64,
    /// Compressed bytes in bodies of all attempts.
    pub bytes: u64,
    /// Latency of attempts.
    pub latency: Latency,
    /// Seconds since the start.
    pub seconds: f64,
}

/// The numbers while they are still counted.
pub(super) struct Totals {
    pub(super) summary: LoadSummary,
    latency_us: Histogram<u64>,
}

impl Totals {
    pub(super) fn new(protocol: Protocol, data: &DataSet) -> Self {
        Self {
            summary: LoadSummary {
                protocol,
                series: data.slots() as u64,
                ..LoadSummary::default()
            },
            latency_us: Histogram::new_with_max(LATENCY_MAX_US, 3).expect("the bounds are valid"),
        }
    }

    pub(super) fn attempt(&mut self, status: Option<u16>, bytes: usize, took: Duration) {
        self.summary.bytes += bytes as u64;
        if let Some(status) = status {
            *self.summary.statuses.entry(status).or_default() += 1;
            self.latency_us.saturating_record(took.as_micros() as u64);
        }
    }

    pub(super) fn settle(&mut self, items: &[Item], fate: Fate) {
        self.summary.requests += 1;
        for item in items {
            match item.what {
                What::Exemplar => self.summary.exemplars.add(fate),
                What::Sample | What::Marker => self.summary.samples.add(fate),
            }
        }
    }

    pub(super) fn snapshot(&self, since_start: Duration) -> LoadSummary {
        let ms = |quantile| self.latency_us.value_at_quantile(quantile) as f64 / 1e3;
        LoadSummary {
            latency: Latency {
                p50_ms: ms(0.5),
                p90_ms: ms(0.9),
                p99_ms: ms(0.99),
                max_ms: self.latency_us.max() as f64 / 1e3,
            },
            seconds: since_start.as_secs_f64(),
            ..self.summary.clone()
        }
    }
}

/// What a run did, and what became of each sample.
pub struct LoadReport {
    /// The numbers.
    pub summary: LoadSummary,
    /// Fate of each sample.
    pub ledger: Ledger,
    /// The data that was sent.
    pub data: Arc<DataSet>,
    /// The extra headers that were sent, for example a tenant's.
    pub headers: Vec<(String, String)>,
}

impl fmt::Display for LoadSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = self.samples.acknowledged as f64 / self.seconds.max(1e-9);
        let per_sample = match self.samples.acknowledged {
            0 => "nothing was acknowledged".to_owned(),
            n => format!("{:.1} an acknowledged sample", self.bytes as f64 / n as f64),
        };
        writeln!(f, "samples     {}", self.samples)?;
        writeln!(
            f,
            "exemplars   {}; metadata {}",
            self.exemplars, self.metadata
        )?;
        writeln!(
            f,
            "rate        {rate:.0} samples/s for {:.1} s",
            self.seconds
        )?;
        writeln!(f, "bytes       {} ({per_sample})", self.bytes)?;
        writeln!(
            f,
            "requests    {} ({} retries, {} network errors)",
            self.requests, self.retries, self.network_errors
        )?;
        if let Some(error) = &self.network_error {
            writeln!(f, "last error  {error}")?;
        }
        writeln!(f, "statuses    {:?}", self.statuses)?;
        writeln!(
            f,
            "Written     {} requests unwritten, {} miscounted",
            self.unwritten_requests, self.miscounted_requests
        )?;
        let Latency {
            p50_ms,
            p90_ms,
            p99_ms,
            max_ms,
        } = self.latency;
        write!(
            f,
            "latency ms  p50 {p50_ms:.1}, p90 {p90_ms:.1}, p99 {p99_ms:.1}, max {max_ms:.1}"
        )
    }
}
