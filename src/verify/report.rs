//! What a comparison found, as plain values: for [`super::text`] and as JSON. Pure.

use serde::Serialize;

use super::diff::{Kind, Run};
use super::gaps::Group;
use super::plan::Slice;
use super::series::Value;
use super::totals::Totals;
use crate::clock::utc;

/// Metrics that an event or the whole report names.
const METRICS: usize = 1000;

/// What it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// The receiver has everything, with the same values.
    NoGap,
    /// It has not.
    Gaps,
    /// All that could be compared is there, and some could not be compared.
    NotAllCompared,
    /// There was nothing to compare.
    Nothing,
    /// A side stopped answering, or a person stopped it.
    Unfinished,
}

/// All of it.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) verdict: Verdict,
    /// Why it did not come to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unfinished: Option<String>,
    pub(super) from: SideReport,
    pub(super) to: SideReport,
    pub(super) window: Window,
    /// `samples` or `counts`.
    pub(super) mode: &'static str,
    /// Relative difference of values that counts as none.
    pub(super) tolerance: f64,
    /// Labels put onto the series of `--from`, and labels left out on both sides.
    pub(super) added_labels: Vec<(String, String)>,
    pub(super) ignored_labels: Vec<String>,
    pub(super) compared: ComparedReport,
    pub(super) missing: Sum,
    pub(super) extra: Sum,
    pub(super) different: Sum,
    /// Samples that the receiver holds more than once. It is no difference.
    pub(super) repeated_samples: u64,
    pub(super) left_out: LeftOutReport,
    /// Series of `--from` of which no sample is at the receiver as it was.
    pub(super) wholly_missing_series: u64,
    /// Series that only the receiver has; where no label marks the sender's, they are not looked at.
    pub(super) only_to_series: u64,
    pub(super) events: Vec<Event>,
    /// What is in no event, because there are too many.
    #[serde(skip_serializing_if = "Sum::is_zero")]
    pub(super) more: Sum,
    pub(super) metrics: Vec<MetricReport>,
    pub(super) not_compared: Vec<NotComparedReport>,
    pub(super) more_not_compared: u64,
    pub(super) warnings: Vec<String>,
    pub(super) hints: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct SideReport {
    /// Without a user name or password.
    pub(super) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    pub(super) victoriametrics: bool,
    pub(super) requests: u64,
    pub(super) bytes: u64,
}

/// From one moment, which is not part of it, to another.
#[derive(Debug, Serialize)]
pub(super) struct Window {
    pub(super) after: String,
    pub(super) until: String,
}

#[derive(Debug, Serialize)]
pub(super) struct ComparedReport {
    pub(super) metrics: u64,
    pub(super) series: u64,
    /// Of `--from`.
    pub(super) samples: u64,
    /// Of them, those that the receiver has.
    pub(super) agreed: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sum {
    pub(super) series: u64,
    pub(super) samples: u64,
}

impl Sum {
    pub(super) fn is_zero(&self) -> bool {
        self.samples == 0
    }
}

#[derive(Debug, Serialize)]
pub(super) struct LeftOutReport {
    pub(super) nans: u64,
    pub(super) histograms: u64,
}

/// Something that happened to many series at once.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    pub(super) kind: Kind,
    /// Timestamps of the first and the last sample.
    pub(super) first: String,
    pub(super) last: String,
    #[serde(skip)]
    pub(super) span: (i64, i64),
    pub(super) series: u64,
    pub(super) samples: u64,
    /// It may have begun before the window: nothing in the window is before it.
    pub(super) at_the_beginning: bool,
    /// It may end after the window; what is missing there may still be on its way.
    pub(super) at_the_end: bool,
    /// Those with the most samples first.
    pub(super) metrics: Vec<EventMetric>,
    pub(super) more_metrics: u64,
    pub(super) worst: Vec<WorstSeries>,
}

#[derive(Debug, Serialize)]
pub(super) struct EventMetric {
    pub(super) metric: String,
    pub(super) series: u64,
    pub(super) samples: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct WorstSeries {
    pub(super) series: String,
    pub(super) first: String,
    pub(super) last: String,
    pub(super) samples: u64,
    /// Of different values the first: at `--from`, at `--to`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) values: Option<(String, String)>,
}

#[derive(Debug, Serialize)]
pub(super) struct MetricReport {
    pub(super) metric: String,
    pub(super) missing: u64,
    pub(super) extra: u64,
    pub(super) different: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct NotComparedReport {
    pub(super) metric: String,
    pub(super) after: String,
    pub(super) until: String,
    pub(super) why: String,
}

/// What a report says beside the totals.
pub(super) struct Frame {
    pub(super) from: SideReport,
    pub(super) to: SideReport,
    pub(super) window: Slice,
    pub(super) counts: bool,
    pub(super) tolerance: f64,
    pub(super) added_labels: Vec<(String, String)>,
    pub(super) ignored_labels: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) unfinished: Option<String>,
}

impl Report {
    pub(super) fn of(totals: &mut Totals, frame: Frame) -> Self {
        let sum = |totals: &Totals, kind| {
            let (series, samples) = totals.gaps.total(kind);
            Sum { series, samples }
        };
        let [missing, extra, different] = Kind::ALL.map(|kind| sum(totals, kind));
        let over = totals.gaps.over;
        let events = totals.gaps.groups().iter();
        let events = events.map(|group| Event::of(group, frame.window)).collect();
        let mut metrics: Vec<_> = totals
            .by_metric
            .iter()
            .map(|(metric, [missing, extra, different])| MetricReport {
                metric: metric.clone(),
                missing: *missing,
                extra: *extra,
                different: *different,
            })
            .collect();
        metrics.sort_by_key(|m| std::cmp::Reverse(m.missing + m.extra + m.different));
        metrics.truncate(METRICS);
        let mut report = Self {
            verdict: Verdict::NoGap,
            unfinished: frame.unfinished,
            from: frame.from,
            to: frame.to,
            window: Window {
                after: utc(frame.window.after),
                until: utc(frame.window.until),
            },
            mode: if frame.counts { "counts" } else { "samples" },
            tolerance: frame.tolerance,
            added_labels: frame.added_labels,
            ignored_labels: frame.ignored_labels,
            compared: ComparedReport {
                metrics: totals.metrics,
                series: totals.series,
                samples: totals.samples,
                agreed: totals.agreed,
            },
            missing,
            extra,
            different,
            repeated_samples: totals.repeated,
            left_out: LeftOutReport {
                nans: totals.left_out.nans,
                histograms: totals.left_out.histograms,
            },
            wholly_missing_series: totals.wholly_missing,
            only_to_series: totals.only_to,
            events,
            more: Sum {
                series: over.iter().map(|(runs, _)| runs).sum(),
                samples: over.iter().map(|(_, samples)| samples).sum(),
            },
            metrics,
            not_compared: totals
                .not_compared
                .iter()
                .map(|lost| NotComparedReport {
                    metric: lost.metric.clone(),
                    after: utc(lost.after),
                    until: utc(lost.until),
                    why: lost.why.clone(),
                })
                .collect(),
            more_not_compared: totals.more_not_compared,
            warnings: frame
                .notes
                .into_iter()
                .chain(totals.warnings.iter().cloned())
                .collect(),
            hints: totals.hints.iter().cloned().collect(),
        };
        report.verdict = report.judged();
        report
    }

    fn judged(&self) -> Verdict {
        if self.unfinished.is_some() {
            Verdict::Unfinished
        } else if [self.missing, self.extra, self.different]
            .iter()
            .any(|sum| !sum.is_zero())
        {
            Verdict::Gaps
        } else if !self.not_compared.is_empty() {
            Verdict::NotAllCompared
        } else if self.compared.samples == 0 {
            Verdict::Nothing
        } else {
            Verdict::NoGap
        }
    }
}

impl Event {
    fn of(group: &Group, window: Slice) -> Self {
        let mut metrics: Vec<_> = group
            .metrics
            .iter()
            .map(|(metric, (series, samples))| EventMetric {
                metric: metric.clone(),
                series: *series,
                samples: *samples,
            })
            .collect();
        metrics.sort_by_key(|metric| std::cmp::Reverse(metric.samples));
        let more_metrics = metrics.len().saturating_sub(METRICS) as u64;
        metrics.truncate(METRICS);
        // A sample or two may lie between it and the edge.
        let near = 2 * group.step().max(1000);
        Self {
            kind: group.kind,
            first: utc(group.first()),
            last: utc(group.last()),
            span: (group.first(), group.last()),
            series: group.series(),
            samples: group.samples,
            at_the_beginning: group.opens() && group.first() - window.after <= near,
            at_the_end: group.ends() && window.until - group.last() <= near,
            metrics,
            more_metrics,
            worst: group.worst.iter().map(WorstSeries::of).collect(),
        }
    }
}

impl WorstSeries {
    fn of((series, run): &(String, Run)) -> Self {
        let text = |value: Value| match value {
            Value::Float(value) => float(value),
            Value::Histogram(_) => "a histogram".to_owned(),
        };
        Self {
            series: series.clone(),
            first: utc(run.first),
            last: utc(run.last),
            samples: run.samples,
            values: run.values.map(|(here, there)| (text(here), text(there))),
        }
    }
}

/// As Prometheus writes it.
fn float(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if value != 0.0 && !(1e-6..1e21).contains(&value.abs()) {
        format!("{value:e}")
    } else {
        value.to_string()
    }
}
