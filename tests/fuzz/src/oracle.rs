//! A request as plain values, read from prost's structs: what ours is compared with, bit by bit.

use prost::Message;
use sluicegate::wire::decoded::{Decoded, InvalidSeries};
use sluicegate::wire::pb::{rw1, rw2};

use super::histogram::{Histogram, breaks_a_rule};

pub(crate) type Label = (String, String);

/// Value bits, timestamp, start timestamp.
pub(crate) type Sample = (u64, i64, i64);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Exemplar {
    /// In their order on the wire.
    pub(crate) labels: Vec<Label>,
    pub(crate) bits: u64,
    pub(crate) timestamp: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Series {
    /// Sorted by name.
    pub(crate) labels: Vec<Label>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) histograms: Vec<Histogram>,
    pub(crate) exemplars: Vec<Exemplar>,
    /// Type, help, unit.
    pub(crate) metadata: Option<(i32, String, String)>,
}

impl Series {
    /// The value of the `reason` label under which it is refused by itself.
    pub(crate) fn wrong(&self) -> Option<&'static str> {
        let named = |label: &Label| label.0 == "__name__" && !label.1.is_empty();
        if self.labels.iter().any(|label| label.0.is_empty()) {
            return Some("empty_label_name");
        }
        if self.labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Some("repeated_label_name");
        }
        if !self.labels.iter().any(named) {
            return Some("no_metric_name");
        }
        if self.histograms.iter().any(breaks_a_rule) {
            return Some("invalid_histogram");
        }
        let elements = self.samples.len() + self.histograms.len() + self.exemplars.len();
        (elements == 0).then_some("no_element")
    }
}

fn sorted(mut labels: Vec<Label>) -> Vec<Label> {
    labels.sort_by(|a, b| a.0.cmp(&b.0));
    labels
}

fn labels_v1(labels: &[rw1::Label]) -> Vec<Label> {
    let pair = |label: &rw1::Label| (label.name.clone(), label.value.clone());
    labels.iter().map(pair).collect()
}

/// The series of a 1.0 request.
pub(crate) fn series_v1(request: &rw1::WriteRequest) -> Vec<Series> {
    let exemplar = |exemplar: &rw1::Exemplar| Exemplar {
        labels: labels_v1(&exemplar.labels),
        bits: exemplar.value.to_bits(),
        timestamp: exemplar.timestamp,
    };
    let sample = |sample: &rw1::Sample| (sample.value.to_bits(), sample.timestamp, 0);
    let series = |series: &rw1::TimeSeries| Series {
        labels: sorted(labels_v1(&series.labels)),
        samples: series.samples.iter().map(sample).collect(),
        histograms: series.histograms.iter().map(Histogram::of_v1).collect(),
        exemplars: series.exemplars.iter().map(exemplar).collect(),
        metadata: None,
    };
    request.timeseries.iter().map(series).collect()
}

/// Pairs of strings by reference; `None` when a reference is odd or points nowhere.
fn labels_v2(symbols: &[String], refs: &[u32]) -> Option<Vec<Label>> {
    if !refs.len().is_multiple_of(2) {
        return None;
    }
    let text = |reference: u32| symbols.get(reference as usize).cloned();
    refs.chunks(2)
        .map(|pair| text(pair[0]).zip(text(pair[1])))
        .collect()
}

/// The series of a 2.0 request; `None` when a reference is odd or points nowhere.
pub(crate) fn series_v2(request: &rw2::Request) -> Option<Vec<Series>> {
    let symbols = &request.symbols;
    let text = |reference: u32| match reference {
        0 => Some(String::new()),
        _ => symbols.get(reference as usize).cloned(),
    };
    let exemplar = |exemplar: &rw2::Exemplar| {
        Some(Exemplar {
            labels: labels_v2(symbols, &exemplar.labels_refs)?,
            bits: exemplar.value.to_bits(),
            timestamp: exemplar.timestamp,
        })
    };
    let sample = |s: &rw2::Sample| (s.value.to_bits(), s.timestamp, s.start_timestamp);
    let series = |series: &rw2::TimeSeries| {
        let metadata = match &series.metadata {
            Some(m) => Some((m.r#type, text(m.help_ref)?, text(m.unit_ref)?)),
            None => None,
        };
        Some(Series {
            labels: sorted(labels_v2(symbols, &series.labels_refs)?),
            samples: series.samples.iter().map(sample).collect(),
            histograms: series.histograms.iter().map(Histogram::of_v2).collect(),
            exemplars: series
                .exemplars
                .iter()
                .map(exemplar)
                .collect::<Option<_>>()?,
            metadata,
        })
    };
    request.timeseries.iter().map(series).collect()
}

/// The same values from the rows of our own walk, those of invalid series included; with each row's
/// reason for being invalid.
pub(crate) fn rows(decoded: &Decoded) -> Vec<(Series, Option<&'static str>)> {
    let (mut samples, mut histograms, mut exemplars) = (0, 0, 0);
    let mut out = Vec::new();
    for row in &decoded.series {
        let mut labels = Vec::new();
        decoded.labels(row, &mut labels);
        let mut series = Series {
            labels: labels.iter().map(|l| (lossy(l.0), lossy(l.1))).collect(),
            ..Series::default()
        };
        for _ in 0..row.counts.samples {
            let sample = decoded.samples[samples];
            let start = decoded.starts.get(samples).copied().unwrap_or(0);
            series.samples.push((sample.bits, sample.timestamp, start));
            samples += 1;
        }
        for _ in 0..row.counts.histograms {
            let row = decoded.histograms[histograms];
            let message = rw2::Histogram::decode(decoded.bytes(row.place));
            let histogram = Histogram::of_v2(&message.expect("prost reads a walked histogram"));
            assert_eq!(row.timestamp, histogram.timestamp);
            assert_eq!(row.start, histogram.start != 0);
            series.histograms.push(histogram);
            histograms += 1;
        }
        for _ in 0..row.counts.exemplars {
            series
                .exemplars
                .push(exemplar(&decoded.exemplar(decoded.exemplars[exemplars])));
            exemplars += 1;
        }
        out.push((series, row.invalid.map(InvalidSeries::reason)));
    }
    assert_eq!(
        samples,
        decoded.samples.len(),
        "each sample is some series'"
    );
    assert_eq!(histograms, decoded.histograms.len());
    assert_eq!(exemplars, decoded.exemplars.len());
    assert!(decoded.starts.is_empty() || decoded.starts.len() == samples);
    out
}

fn exemplar(ours: &sluicegate::model::content::Exemplar) -> Exemplar {
    // The labels are written as 1.0 does: in the bytes of an exemplar that has nothing else.
    let mut at = &ours.labels[..];
    let mut labels = Vec::new();
    while let [0x0a, rest @ ..] = at {
        at = rest;
        let length = prost::decode_length_delimiter(&mut at).expect("a length");
        let (label, rest) = at.split_at(length);
        labels.push(label_lossy(label));
        at = rest;
    }
    assert!(at.is_empty());
    Exemplar {
        labels,
        bits: ours.bits,
        timestamp: ours.timestamp,
    }
}

/// A label in our canonical form, which may hold text that prost refuses.
fn label_lossy(mut label: &[u8]) -> Label {
    let mut parts = [String::new(), String::new()];
    while let [key, rest @ ..] = label {
        label = rest;
        let length = prost::decode_length_delimiter(&mut label).expect("a length");
        let (text, rest) = label.split_at(length);
        parts[usize::from(*key != 0x0a)] = lossy(text);
        label = rest;
    }
    let [name, value] = parts;
    (name, value)
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}
