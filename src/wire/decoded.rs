//! One request, decoded: rows that point into its bytes. What ingest's walk yields and readers take.
//!
//! Elements stand in wire order and are numbered by *ordinals*: all samples, then all histograms, then
//! all exemplars, those of invalid series included. So an ordinal means the same to everyone who decodes
//! the same bytes again.

use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_secret};

use super::shape::Held;
use crate::model::content::Exemplar;
use crate::model::counts::Counts;

/// Which message a request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `prometheus.WriteRequest`, Remote-Write 1.0.
    V1,
    /// `io.prometheus.write.v2.Request`, Remote-Write 2.0.
    V2,
}

impl Protocol {
    /// The value of the `proto` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "1.0",
            Self::V2 => "2.0",
        }
    }
}

/// Why one series of an otherwise good request is refused, by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InvalidSeries {
    /// No `__name__`, or an empty one.
    NoName,
    /// A label without a name.
    EmptyLabelName,
    /// The same label name twice.
    RepeatedLabelName,
    /// Text that is not UTF-8.
    NotUtf8,
    /// Neither sample nor histogram nor exemplar.
    NoElement,
    /// A native histogram that breaks a rule.
    Histogram(&'static str),
}

impl InvalidSeries {
    /// The value of the `reason` label.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoName => "no_metric_name",
            Self::EmptyLabelName => "empty_label_name",
            Self::RepeatedLabelName => "repeated_label_name",
            Self::NotUtf8 => "not_utf8",
            Self::NoElement => "no_element",
            Self::Histogram(_) => "invalid_histogram",
        }
    }

    /// What to tell the sender.
    pub fn explain(self) -> String {
        match self {
            Self::NoName => "no __name__ label".to_owned(),
            Self::EmptyLabelName => "a label with an empty name".to_owned(),
            Self::RepeatedLabelName => "a label name that is repeated".to_owned(),
            Self::NotUtf8 => "text that is not UTF-8".to_owned(),
            Self::NoElement => "neither sample, histogram nor exemplar".to_owned(),
            Self::Histogram(rule) => format!("invalid native histogram: {rule}"),
        }
    }
}

/// A range of the decoded message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// First byte.
    pub at: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Place {
    /// Where `message` stands when it ends at `end`.
    pub(super) fn of(message: &[u8], end: usize) -> Self {
        Self {
            at: (end - message.len()) as u32,
            len: message.len() as u32,
        }
    }
}

/// One series of the message.
#[derive(Clone, Debug)]
pub struct SeriesRow {
    /// Keyed hash of the sorted labels.
    pub id: u128,
    /// The series' message.
    pub place: Place,
    /// Its elements, which follow those of the series before it.
    pub counts: RowCounts,
    /// 2.0 metadata; zero length when there is none.
    pub metadata: Place,
    /// Refused by itself, and why.
    pub invalid: Option<InvalidSeries>,
}

/// Elements of one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Float samples.
    pub samples: u32,
    /// Histograms.
    pub histograms: u32,
    /// Exemplars.
    pub exemplars: u32,
}

/// A float sample; `bits` are moved, never computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleRow {
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// The value's bit pattern.
    pub bits: u64,
}

/// A native histogram, by its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramRow {
    /// Its message, the same in both versions but for field 17.
    pub place: Place,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// It has custom buckets (schema -53), which 1.0 cannot carry.
    pub custom: bool,
    /// It has a start timestamp (field 17), which 1.0 cannot carry.
    pub start: bool,
}

/// A decoded request.
#[derive(Debug)]
pub struct Decoded {
    /// Which message it is.
    pub protocol: Protocol,
    /// The message, decompressed.
    pub body: Vec<u8>,
    /// Series in wire order.
    pub series: Vec<SeriesRow>,
    /// Samples in wire order.
    pub samples: Vec<SampleRow>,
    /// Start timestamps of the samples, by the same index; empty when no sample has one.
    pub starts: Vec<i64>,
    /// Histograms in wire order.
    pub histograms: Vec<HistogramRow>,
    /// Exemplars in wire order, by their message.
    pub exemplars: Vec<Place>,
    /// 2.0 symbols.
    pub symbols: Vec<Symbol>,
    /// 1.0 metadata, by its message.
    pub metadata: Vec<Place>,
    /// Elements of invalid series, by kind.
    pub skipped: Counts,
}

/// A string of the 2.0 symbol table.
#[derive(Clone, Copy, Debug)]
pub struct Symbol {
    /// Where it stands.
    pub place: Place,
    /// It is valid UTF-8.
    pub utf8: bool,
}

impl Decoded {
    /// A message without rows yet, and room for those that it is known to hold.
    pub(super) fn new(protocol: Protocol, body: Vec<u8>, held: &Held) -> Self {
        Self {
            protocol,
            body,
            series: Vec::with_capacity(held.series),
            samples: Vec::with_capacity(held.samples),
            starts: Vec::new(),
            histograms: Vec::with_capacity(held.histograms),
            exemplars: Vec::with_capacity(held.exemplars),
            symbols: Vec::with_capacity(held.symbols),
            metadata: Vec::with_capacity(held.metadata),
            skipped: Counts::default(),
        }
    }

    /// The bytes of a place.
    pub fn bytes(&self, place: Place) -> &[u8] {
        &self.body[place.at as usize..][..place.len as usize]
    }

    /// All elements on the wire, those of invalid series included: the range of the ordinals.
    pub fn counts(&self) -> Counts {
        Counts {
            samples: self.samples.len() as u64,
            histograms: self.histograms.len() as u64,
            exemplars: self.exemplars.len() as u64,
        }
    }

    /// Elements that are admitted.
    pub fn admitted(&self) -> Counts {
        self.counts() - self.skipped
    }

    /// Everything is admitted, whatever is invalid by itself: the receiver judges.
    pub fn admit_all(&mut self) {
        if self.invalid().is_some() {
            self.series.iter_mut().for_each(|row| row.invalid = None);
            self.skipped = Counts::default();
        }
    }

    /// The first invalid series' reason, for the answer, and how many there are.
    pub fn invalid(&self) -> Option<(InvalidSeries, usize)> {
        let mut all = self.series.iter().filter_map(|row| row.invalid);
        let first = all.next()?;
        Some((first, 1 + all.count()))
    }

    /// Heap bytes held.
    pub fn heap_bytes(&self) -> usize {
        self.body.capacity()
            + self.series.capacity() * size_of::<SeriesRow>()
            + self.samples.capacity() * size_of::<SampleRow>()
            + self.starts.capacity() * 8
            + self.histograms.capacity() * size_of::<HistogramRow>()
            + self.exemplars.capacity() * size_of::<Place>()
            + self.symbols.capacity() * size_of::<Symbol>()
            + self.metadata.capacity() * size_of::<Place>()
    }

    /// The sorted labels of a series that the walk found valid.
    pub fn labels<'a>(&'a self, row: &SeriesRow, out: &mut Vec<(&'a [u8], &'a [u8])>) {
        out.clear();
        let message = self.bytes(row.place);
        // The walk has read this message: an error can only mean another message's row.
        let read = match self.protocol {
            Protocol::V1 => super::rw1::read_labels(message, out),
            Protocol::V2 => super::rw2::read_labels(self, message, out),
        };
        debug_assert!(read.is_ok(), "labels of a walked series are readable");
        out.sort_by_key(|label| label.0);
    }

    /// The labels, value bits and timestamp of an exemplar.
    pub fn exemplar(&self, place: Place) -> Exemplar {
        let message = self.bytes(place);
        let read = match self.protocol {
            Protocol::V1 => super::rw1::read_exemplar(message),
            Protocol::V2 => super::rw2::read_exemplar(self, message),
        };
        debug_assert!(read.is_ok(), "a walked exemplar is readable");
        read.unwrap_or_default()
    }

    /// Metadata of this request, each with the name of its family (1.0) or of its metric (2.0).
    pub fn each_metadata(&self, mut each: impl FnMut(Metadata<'_>)) {
        for place in &self.metadata {
            if let Ok(Some(metadata)) = super::rw1::read_metadata(self.bytes(*place)) {
                each(metadata);
            }
        }
        let mut labels = Vec::new();
        for row in self
            .series
            .iter()
            .filter(|row| row.metadata.len > 0 && row.invalid.is_none())
        {
            self.labels(row, &mut labels);
            let name = labels
                .iter()
                .find(|label| label.0 == b"__name__")
                .map(|label| label.1);
            let name = name.and_then(|name| std::str::from_utf8(name).ok());
            let read = super::rw2::read_metadata(self, self.bytes(row.metadata));
            if let (Some(name), Ok(Some((kind, help, unit)))) = (name, read) {
                each(Metadata {
                    name,
                    kind,
                    help,
                    unit,
                });
            }
        }
    }
}

/// What is known about a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata<'a> {
    /// Family name (1.0) or metric name (2.0).
    pub name: &'a str,
    /// The protocol's number of its type, the same in both versions.
    pub kind: u8,
    /// Help text.
    pub help: &'a str,
    /// Unit.
    pub unit: &'a str,
}

/// What a request may hold. Checked while it is walked, before rows are made for it.
#[derive(Clone, Copy, Debug)]
pub struct WalkLimits {
    /// Series in a request.
    pub series: usize,
    /// Samples, histograms and exemplars in a request. At most 2^24, so that ordinals fit.
    pub elements: usize,
    /// Labels in a series.
    pub labels: usize,
    /// Bytes of one label's name and value together; 0: no limit.
    pub label_bytes: usize,
    /// Bytes that the labels of all series and exemplars of a 2.0 request may expand to.
    pub expanded_bytes: usize,
}

/// Symbols in a 2.0 request: a few for each of 100,000 series, and so few that a table of empty strings
/// is refused before it fills a mebibyte.
pub(super) const SYMBOLS_MAX: usize = 350_000;

/// Key of the series identities: random per process, so that collisions cannot be aimed.
#[derive(Clone)]
pub struct IdentityKey(Box<[u8; 192]>);

impl IdentityKey {
    /// A key nobody else knows.
    pub fn random() -> Self {
        let mut secret = Box::new([0; 192]);
        getrandom::fill(&mut secret[..]).expect("the operating system has random bytes");
        Self(secret)
    }

    /// A key for tests that replay.
    pub fn fixed(seed: u64) -> Self {
        let mut secret = Box::new([0; 192]);
        for (index, word) in secret.chunks_exact_mut(8).enumerate() {
            let random = xxh3_64_with_seed(&index.to_le_bytes(), seed);
            word.copy_from_slice(&random.to_le_bytes());
        }
        Self(secret)
    }

    /// Identity of these bytes.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> u128 {
        xxh3_128_with_secret(bytes, &self.0[..])
    }
}
