//! A request's elements, each with what the checks say about it. Pure: no lock, no clock.

use super::behaviour::{Behaviour, SeriesMatch};
use super::decode::{DecodeError, Decoder, Element, Visit, read};
use super::tenant_key;
use crate::bench::Protocol;
use crate::bench::data::{
    Flavour, RawLabel, SeriesModel, ValueOptions, digest, expected_exemplar, expected_histogram,
};
use crate::bench::encode::TRACE_LABEL;

use xxhash_rust::xxh3::xxh3_64;

/// Texts of wrong samples that one request may leave behind.
const EXAMPLES_MAX: usize = 3;

/// The three kinds that Written headers count, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sample,
    Histogram,
    Exemplar,
}

/// One element as the table needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finding {
    pub(super) key: u128,
    pub(super) timestamp_ms: i64,
    /// A float's bits, or a histogram's digest.
    pub(super) bits: u64,
    pub(super) kind: Kind,
    /// Index of the first rule that refuses its series.
    pub(super) refused: Option<u16>,
}

/// What to look for.
pub(super) struct Inspector<'a> {
    pub(super) protocol: Protocol,
    pub(super) decoder: Decoder,
    pub(super) behaviour: &'a Behaviour,
    pub(super) verify: Option<ValueOptions>,
    pub(super) tenant: &'a str,
    pub(super) tenant_label: Option<&'a str>,
}

/// A request, read and checked.
#[derive(Default)]
pub(super) struct Inspected {
    pub(super) findings: Vec<Finding>,
    pub(super) metadata: u64,
    /// Distinct pairs of job and instance.
    pub(super) targets: u64,
    /// It has a series that the behaviour's hang asks for.
    pub(super) hangs: bool,
    /// Elements whose bits are not those that labels and timestamp ask for.
    pub(super) wrong: u64,
    pub(super) wrong_start: u64,
    pub(super) with_start: u64,
    pub(super) wrong_examples: Vec<String>,
    /// Series whose tenant label is not the request's tenant.
    pub(super) foreign_tenant: u64,
    pub(super) violations: Vec<&'static str>,
}

impl Inspector<'_> {
    /// Reads a message to its end.
    pub(super) fn inspect(&self, message: &[u8]) -> Result<Inspected, DecodeError> {
        let mut visitor = Visitor {
            options: self,
            scratch: Vec::new(),
            targets: Vec::new(),
            seen: Inspected::default(),
        };
        read(message, self.protocol, self.decoder, &mut visitor)?;
        visitor.targets.sort_unstable();
        visitor.targets.dedup();
        visitor.seen.targets = visitor.targets.len() as u64;
        Ok(visitor.seen)
    }
}

struct Visitor<'a> {
    options: &'a Inspector<'a>,
    scratch: Vec<u8>,
    targets: Vec<u64>,
    seen: Inspected,
}

impl Visit for Visitor<'_> {
    fn series(&mut self, labels: &mut Vec<RawLabel<'_>>, elements: &[Element<'_>]) {
        self.check_labels(labels);
        let model = SeriesModel::new(labels, &mut self.scratch);
        self.note_target(labels);
        let behaviour = self.options.behaviour;
        let matches = |series: &SeriesMatch| series.matches(labels, model.key());
        if let Some(hang) = &behaviour.hang {
            self.seen.hangs |= hang.series.as_ref().is_none_or(matches);
        }
        let refused = behaviour
            .refuse
            .iter()
            .position(|rule| matches(&rule.series));
        if let Some(label) = self.options.tenant_label {
            let own = labels.iter().find(|(name, _)| *name == label.as_bytes());
            let tenant = self.options.tenant.as_bytes();
            self.seen.foreign_tenant += u64::from(own.is_some_and(|(_, value)| *value != tenant));
        }
        if elements.is_empty() {
            self.violation("series_without_element");
        }
        let key = tenant_key(model.key(), self.options.tenant);
        for element in elements {
            let (kind, timestamp_ms, bits) = facts(element);
            self.verify(&model, labels, element, bits);
            self.seen.findings.push(Finding {
                key,
                timestamp_ms,
                bits,
                kind,
                refused: refused.map(|rule| rule as u16),
            });
        }
    }

    fn metadata(&mut self, count: u64) {
        self.seen.metadata += count;
    }

    fn violation(&mut self, rule: &'static str) {
        self.seen.violations.push(rule);
    }
}

/// Kind, timestamp and the bits that stand for the value.
fn facts(element: &Element<'_>) -> (Kind, i64, u64) {
    match element {
        Element::Sample {
            bits, timestamp_ms, ..
        } => (Kind::Sample, *timestamp_ms, *bits),
        Element::Histogram(histogram) => (Kind::Histogram, histogram.timestamp, digest(histogram)),
        Element::Exemplar {
            bits, timestamp_ms, ..
        } => (Kind::Exemplar, *timestamp_ms, *bits),
    }
}

impl Visitor<'_> {
    /// Sorts labels, as receivers do, and notes what a sender must not do.
    fn check_labels(&mut self, labels: &mut [RawLabel<'_>]) {
        if !labels.is_sorted_by(|a, b| a.0 <= b.0) {
            self.violation("labels_not_sorted");
            labels.sort_unstable();
        }
        if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            self.violation("label_twice");
        }
        if labels
            .iter()
            .any(|(name, value)| name.is_empty() || value.is_empty())
        {
            self.violation("label_empty");
        }
        if !labels.iter().any(|(name, _)| *name == b"__name__") {
            self.violation("no_metric_name");
        }
    }

    fn note_target(&mut self, labels: &[RawLabel<'_>]) {
        self.scratch.clear();
        for (name, value) in labels {
            if *name == b"job" || *name == b"instance" {
                self.scratch.extend_from_slice(value);
                self.scratch.push(0xff);
            }
        }
        let target = xxh3_64(&self.scratch);
        // Series of a target come together, so most need no second look.
        if self.targets.last() != Some(&target) {
            self.targets.push(target);
        }
    }

    fn verify(
        &mut self,
        model: &SeriesModel,
        labels: &[RawLabel<'_>],
        element: &Element<'_>,
        bits: u64,
    ) {
        let Some(options) = self.options.verify else {
            return;
        };
        let mut start = 0;
        let right = match element {
            Element::Sample {
                timestamp_ms,
                start_ms,
                ..
            } => {
                start = *start_ms;
                bits == model.bits(options, *timestamp_ms)
            }
            Element::Histogram(histogram) => {
                start = histogram.start_timestamp;
                let metric = labels.iter().find(|(name, _)| *name == b"__name__");
                let flavour = Flavour::of(metric.map_or(b"", |(_, metric)| metric));
                let made = expected_histogram(model, options, flavour, histogram.timestamp);
                bits == digest(&made)
            }
            Element::Exemplar {
                timestamp_ms,
                labels,
                ..
            } => {
                let (value, trace) = expected_exemplar(model, options, *timestamp_ms);
                bits == value && **labels == [(TRACE_LABEL.as_bytes(), trace.as_bytes())]
            }
        };
        self.seen.with_start += u64::from(start != 0);
        self.seen.wrong_start += u64::from(start != 0 && start != model.start_ms());
        if !right {
            self.seen.wrong += 1;
            if self.seen.wrong_examples.len() < EXAMPLES_MAX {
                self.seen.wrong_examples.push(describe(labels, element));
            }
        }
    }
}

fn describe(labels: &[RawLabel<'_>], element: &Element<'_>) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes);
    let labels: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{}={:?}", text(name), text(value)))
        .collect();
    format!("{{{}}} {element:?}", labels.join(","))
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
