//! What was compared so far, over all metrics. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::diff::{Compared, Kind};
use super::gaps::Gaps;
use super::tracker::Tracker;

/// So many metrics or warnings are told by name.
const TOLD: usize = 100;

/// Samples that no query can compare, of both sides.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeftOut {
    /// `VictoriaMetrics` stores no NaN, and shows stale markers as such.
    pub(super) nans: u64,
    /// `VictoriaMetrics` stores no native histograms.
    pub(super) histograms: u64,
}

/// A part of the comparison that could not be made.
#[derive(Clone, Debug)]
pub(super) struct NotCompared {
    pub(super) metric: String,
    pub(super) after: i64,
    pub(super) until: i64,
    pub(super) why: String,
}

/// Sums of a comparison.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) metrics: u64,
    pub(super) series: u64,
    pub(super) samples: u64,
    pub(super) agreed: u64,
    pub(super) repeated: u64,
    pub(super) left_out: LeftOut,
    /// Series of which nothing at all arrived.
    pub(super) wholly_missing: u64,
    /// Series that only `--to` has.
    pub(super) only_to: u64,
    pub(super) gaps: Gaps,
    /// Of each metric, samples by kind.
    pub(super) by_metric: BTreeMap<String, [u64; 3]>,
    pub(super) not_compared: Vec<NotCompared>,
    pub(super) more_not_compared: u64,
    pub(super) warnings: BTreeSet<String>,
    pub(super) hints: BTreeSet<String>,
}

/// Sums of one metric while it is compared.
#[derive(Debug, Default)]
pub(super) struct Metric {
    pub(super) tracker: Tracker,
    pub(super) samples: u64,
    /// Of them, those that progress knows of.
    pub(super) told: u64,
    pub(super) agreed: u64,
    pub(super) repeated: u64,
    pub(super) left_out: LeftOut,
    pub(super) not_compared: Vec<NotCompared>,
    pub(super) warnings: BTreeSet<String>,
    pub(super) hint: Option<String>,
}

impl Metric {
    /// Adds what comparing a slice of a series gave.
    pub(super) fn take(&mut self, series: &str, compared: &Compared) {
        self.samples += compared.samples;
        self.agreed += compared.agreed;
        self.repeated += compared.repeated;
        self.tracker.take(series, compared);
    }
}

impl Totals {
    /// Adds a metric that was compared to its end. `foreign`: series that only `--to` has are not known to be
    /// the sender's, and are left alone.
    pub(super) fn add(&mut self, name: &str, metric: Metric, foreign: bool) {
        let (series, only_to) = metric.tracker.series();
        self.metrics += u64::from(series > 0);
        self.series += series;
        self.only_to += only_to;
        self.samples += metric.samples;
        self.agreed += metric.agreed;
        self.repeated += metric.repeated;
        self.left_out.nans += metric.left_out.nans;
        self.left_out.histograms += metric.left_out.histograms;
        self.wholly_missing += metric.tracker.wholly_missing();
        let mut runs = metric.tracker.finish();
        if foreign {
            runs.retain(|(_, run)| !(run.kind == Kind::Extra && run.opens && run.ends));
        }
        for (_, run) in &runs {
            let kinds = self.by_metric.entry(name.to_owned()).or_default();
            kinds[run.kind as usize] += run.samples;
        }
        self.gaps.add(name, runs);
        for lost in metric.not_compared {
            self.not_compared(lost);
        }
        let room = TOLD.saturating_sub(self.warnings.len());
        self.warnings.extend(metric.warnings.into_iter().take(room));
        if self.hints.len() < 3 {
            self.hints.extend(metric.hint);
        }
    }

    /// Notes what could not be compared.
    pub(super) fn not_compared(&mut self, lost: NotCompared) {
        if self.not_compared.len() < TOLD {
            self.not_compared.push(lost);
        } else {
            self.more_not_compared += 1;
        }
    }
}
