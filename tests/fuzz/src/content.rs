//! From rows to what an encoder writes, and what must come out of it again.

use std::sync::Arc;

use sluicegate::model::content::{Content, Entry, Histogram, Sample};
use sluicegate::model::counts::Counts;
use sluicegate::model::labels::Interner;
use sluicegate::wire::decoded::Decoded;
use sluicegate::wire::encode::{Lost, MetadataSource};

use super::oracle::Series;

/// Entries for the valid series, in wire order: samples or histograms, never both, and the exemplars with
/// the first of them.
pub(crate) fn content(decoded: &Decoded, interner: &mut Interner) -> Content {
    let mut content = Content::default();
    let (mut samples, mut histograms, mut exemplars) = (0, 0, 0);
    for row in &decoded.series {
        let own = (samples, histograms, exemplars);
        samples += row.counts.samples as usize;
        histograms += row.counts.histograms as usize;
        exemplars += row.counts.exemplars as usize;
        if row.invalid.is_some() {
            continue;
        }
        let mut labels = Vec::new();
        decoded.labels(row, &mut labels);
        let mut entry = Entry {
            labels: Arc::new(interner.intern(&labels)),
            samples: 0..0,
            histograms: 0..0,
            exemplars: 0..0,
        };
        let from = content.samples.len();
        for index in own.0..samples {
            content.samples.push(Sample {
                timestamp: decoded.samples[index].timestamp,
                bits: decoded.samples[index].bits,
                start: decoded.starts.get(index).copied().unwrap_or(0),
            });
        }
        entry.samples = from as u32..content.samples.len() as u32;
        let from = content.exemplars.len();
        for place in &decoded.exemplars[own.2..exemplars] {
            content.exemplars.push(decoded.exemplar(*place));
        }
        entry.exemplars = from as u32..content.exemplars.len() as u32;
        let from = content.histograms.len();
        for histogram in &decoded.histograms[own.1..histograms] {
            content.histograms.push(Histogram {
                message: decoded.bytes(histogram.place).into(),
                timestamp: histogram.timestamp,
                custom: histogram.custom,
                start: histogram.start,
            });
        }
        let own_histograms = from as u32..content.histograms.len() as u32;
        if entry.samples.is_empty() {
            entry.histograms = own_histograms;
            content.entries.push(entry);
        } else if own_histograms.is_empty() {
            content.entries.push(entry);
        } else {
            let second = Entry {
                samples: 0..0,
                exemplars: 0..0,
                histograms: own_histograms,
                ..entry.clone()
            };
            content.entries.extend([entry, second]);
        }
    }
    content
}

/// The series of [`content`], as values: each split in two when it has samples and histograms.
pub(crate) fn entries(valid: &[Series]) -> Vec<Series> {
    let mut out = Vec::new();
    for series in valid {
        let mut first = series.clone();
        if !first.samples.is_empty() && !first.histograms.is_empty() {
            let second = Series {
                samples: Vec::new(),
                exemplars: Vec::new(),
                ..first.clone()
            };
            first.histograms.clear();
            out.extend([first, second]);
        } else {
            out.push(first);
        }
    }
    out
}

/// What 1.0 leaves of these entries, and what it loses.
pub(crate) fn left_by_v1(entries: &[Series]) -> (Vec<Series>, Lost) {
    let mut lost = Lost::default();
    let mut out = Vec::new();
    for series in entries {
        let mut left = series.clone();
        left.metadata = None;
        left.histograms.retain(|h| !h.is_custom());
        let custom = series.histograms.len() - left.histograms.len();
        lost.unrepresentable.histograms += custom as u64;
        if custom > 0 && left.histograms.is_empty() {
            lost.unrepresentable += Counts {
                exemplars: left.exemplars.len() as u64,
                ..Counts::default()
            };
            continue;
        }
        for sample in &mut left.samples {
            lost.degraded += u64::from(sample.2 != 0);
            sample.2 = 0;
        }
        for histogram in &mut left.histograms {
            lost.degraded += u64::from(histogram.start != 0);
            histogram.start = 0;
        }
        out.push(left);
    }
    (out, lost)
}

/// What 2.0 makes of these entries: all there is, with metadata from [`Known`].
pub(crate) fn left_by_v2(entries: &[Series]) -> Vec<Series> {
    let with_metadata = |series: &Series| {
        let name = series.labels.iter().find(|label| label.0 == "__name__");
        let known = name.and_then(|label| Known.lookup(label.1.as_bytes()));
        Series {
            metadata: known.map(|(kind, help, unit)| (i32::from(kind), help.into(), unit.into())),
            ..series.clone()
        }
    };
    entries.iter().map(with_metadata).collect()
}

/// Metadata made up from a metric's name: some have all, some a part, some none.
pub(crate) struct Known;

impl MetadataSource for Known {
    fn lookup(&self, metric: &[u8]) -> Option<(u8, &str, &str)> {
        match metric.len() % 4 {
            0 => None,
            1 => Some((0, "", "")),
            2 => Some((1, "how many there were", "")),
            _ => Some((7, "__name__", "seconds")),
        }
    }
}
