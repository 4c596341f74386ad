//! What one request carries: series entries and their elements, in the order in which they are written.

use std::ops::Range;
use std::sync::Arc;

use super::counts::Counts;
use super::labels::Labels;

/// A float sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// The value's bit pattern: moved, never computed.
    pub bits: u64,
    /// Start timestamp in milliseconds; 0 when it has none.
    pub start: i64,
}

/// A native histogram, by its message, which both versions of the protocol share but for field 17.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// The message as it came.
    pub message: Box<[u8]>,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// It has custom buckets, which 1.0 cannot carry.
    pub custom: bool,
    /// It has a start timestamp, which 1.0 cannot carry.
    pub start: bool,
}

/// An exemplar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exemplar {
    /// Its labels as 1.0 writes them: field 1, one after another, in their order on the wire.
    pub labels: Box<[u8]>,
    /// The value's bit pattern.
    pub bits: u64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
}

/// One series of a request: samples or histograms, never both, and the exemplars that go with them.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The series.
    pub labels: Arc<Labels>,
    /// Its samples, timestamps strictly increasing.
    pub samples: Range<u32>,
    /// Its histograms, timestamps strictly increasing.
    pub histograms: Range<u32>,
    /// Its exemplars.
    pub exemplars: Range<u32>,
}

/// The content of one request.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Series, in the order for the encoder.
    pub entries: Vec<Entry>,
    /// Samples, which the entries point into.
    pub samples: Vec<Sample>,
    /// Histograms, which the entries point into.
    pub histograms: Vec<Histogram>,
    /// Exemplars, which the entries point into.
    pub exemplars: Vec<Exemplar>,
}

impl Content {
    /// The samples of an entry.
    pub fn samples_of(&self, entry: &Entry) -> &[Sample] {
        &self.samples[entry.samples.start as usize..entry.samples.end as usize]
    }

    /// The histograms of an entry.
    pub fn histograms_of(&self, entry: &Entry) -> &[Histogram] {
        &self.histograms[entry.histograms.start as usize..entry.histograms.end as usize]
    }

    /// The exemplars of an entry.
    pub fn exemplars_of(&self, entry: &Entry) -> &[Exemplar] {
        &self.exemplars[entry.exemplars.start as usize..entry.exemplars.end as usize]
    }

    /// Elements by kind.
    pub fn counts(&self) -> Counts {
        Counts {
            samples: self.samples.len() as u64,
            histograms: self.histograms.len() as u64,
            exemplars: self.exemplars.len() as u64,
        }
    }
}
