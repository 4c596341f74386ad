//! Pending elements: 32 bytes each, in a linked list a series, all in one slab.

use crate::model::content::{Exemplar, Histogram, Sample};
use crate::model::counts::{Counts, Kind};

/// No node.
pub const NONE: u32 = u32::MAX;

/// The bits of Prometheus' staleness marker (`model/value`): a NaN of its own.
const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// Ordinals take the low 24 bits of a tag; a request's element limit keeps them there.
const ORDINAL_BITS: u32 = 24;

/// What a node's `value` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The value's bits.
    Sample,
    /// Index of value bits and start timestamp.
    SampleWithStart,
    /// Index of a histogram.
    Histogram,
    /// Index of an exemplar.
    Exemplar,
}

/// One pending element.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    value: u64,
    /// Ordinal in its record, and what `value` is.
    tag: u32,
    /// Slot of its record.
    pub record: u32,
    /// Its series.
    pub series: u32,
    /// The series' next element.
    pub next: u32,
}

impl Node {
    /// Its ordinal in the record.
    pub fn ordinal(&self) -> u32 {
        self.tag & ((1 << ORDINAL_BITS) - 1)
    }

    /// What its value is.
    pub fn payload(&self) -> Payload {
        match self.tag >> ORDINAL_BITS {
            0 => Payload::Sample,
            1 => Payload::SampleWithStart,
            2 => Payload::Histogram,
            _ => Payload::Exemplar,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self.payload() {
            Payload::Sample | Payload::SampleWithStart => Kind::Sample,
            Payload::Histogram => Kind::Histogram,
            Payload::Exemplar => Kind::Exemplar,
        }
    }
}

/// An element with what stands beside its node.
#[derive(Clone, Debug)]
pub enum Element {
    /// A float sample.
    Sample(Sample),
    /// A native histogram.
    Histogram(Histogram),
    /// An exemplar.
    Exemplar(Exemplar),
}

/// Where an element comes from.
#[derive(Clone, Copy, Debug)]
pub struct Origin {
    /// Slot of its record.
    pub record: u32,
    /// Its ordinal there.
    pub ordinal: u32,
    /// Its series.
    pub series: u32,
}

/// All pending elements of a queue that are in lanes.
#[derive(Default)]
pub struct Nodes {
    slab: Vec<Node>,
    free: u32,
    counts: Counts,
    starts: Side<(u64, i64)>,
    histograms: Side<Histogram>,
    exemplars: Side<Exemplar>,
    side_bytes: usize,
}

/// Values beside the nodes, by index.
struct Side<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Side<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Side<T> {
    fn insert(&mut self, item: T) -> u64 {
        if let Some(at) = self.free.pop() {
            self.items[at as usize] = Some(item);
            return u64::from(at);
        }
        self.items.push(Some(item));
        self.items.len() as u64 - 1
    }

    fn used(&self) -> usize {
        self.items.len() - self.free.len()
    }

    fn remove(&mut self, at: u64) -> T {
        self.free.push(at as u32);
        self.items[at as usize]
            .take()
            .expect("a node's value is there until the node goes")
    }
}

impl Nodes {
    /// An empty slab.
    pub fn new() -> Self {
        Self {
            free: NONE,
            ..Self::default()
        }
    }

    /// Adds an element; the caller links it.
    #[inline]
    pub fn insert(&mut self, element: Element, origin: Origin) -> u32 {
        debug_assert!(
            origin.ordinal < 1 << ORDINAL_BITS,
            "the element limit keeps ordinals small"
        );
        let (timestamp, value, payload) = match element {
            Element::Sample(Sample {
                timestamp,
                bits,
                start: 0,
            }) => {
                self.counts.samples += 1;
                (timestamp, bits, 0)
            }
            Element::Sample(Sample {
                timestamp,
                bits,
                start,
            }) => {
                self.counts.samples += 1;
                (timestamp, self.starts.insert((bits, start)), 1)
            }
            Element::Histogram(histogram) => {
                self.counts.histograms += 1;
                self.side_bytes += histogram.message.len();
                (histogram.timestamp, self.histograms.insert(histogram), 2)
            }
            Element::Exemplar(exemplar) => {
                self.counts.exemplars += 1;
                self.side_bytes += exemplar.labels.len();
                (exemplar.timestamp, self.exemplars.insert(exemplar), 3)
            }
        };
        let tag = origin.ordinal | payload << ORDINAL_BITS;
        let Origin { record, series, .. } = origin;
        let node = Node {
            timestamp,
            value,
            tag,
            record,
            series,
            next: NONE,
        };
        if self.free == NONE {
            self.slab.push(node);
            return self.slab.len() as u32 - 1;
        }
        let at = self.free;
        self.free = self.slab[at as usize].next;
        self.slab[at as usize] = node;
        at
    }

    /// A node.
    #[inline]
    pub fn get(&self, at: u32) -> &Node {
        &self.slab[at as usize]
    }

    /// A float sample that ends its series for now.
    pub fn is_stale(&self, node: &Node) -> bool {
        let bits = match node.payload() {
            Payload::Sample => Some(node.value),
            Payload::SampleWithStart => {
                self.starts.items[node.value as usize].map(|(bits, _)| bits)
            }
            Payload::Histogram | Payload::Exemplar => None,
        };
        bits == Some(STALE_BITS)
    }

    /// Links `next` behind `at`.
    #[inline]
    pub fn link(&mut self, at: u32, next: u32) {
        self.slab[at as usize].next = next;
    }

    /// Removes a node; the caller has unlinked it.
    #[inline]
    pub fn remove(&mut self, at: u32) -> Element {
        let node = self.slab[at as usize];
        self.slab[at as usize].next = self.free;
        self.free = at;
        let timestamp = node.timestamp;
        match node.payload() {
            Payload::Sample => {
                self.counts.samples -= 1;
                Element::Sample(Sample {
                    timestamp,
                    bits: node.value,
                    start: 0,
                })
            }
            Payload::SampleWithStart => {
                self.counts.samples -= 1;
                let (bits, start) = self.starts.remove(node.value);
                Element::Sample(Sample {
                    timestamp,
                    bits,
                    start,
                })
            }
            Payload::Histogram => {
                self.counts.histograms -= 1;
                let histogram = self.histograms.remove(node.value);
                self.side_bytes -= histogram.message.len();
                Element::Histogram(histogram)
            }
            Payload::Exemplar => {
                self.counts.exemplars -= 1;
                let exemplar = self.exemplars.remove(node.value);
                self.side_bytes -= exemplar.labels.len();
                Element::Exemplar(exemplar)
            }
        }
    }

    /// Bytes that a node's element takes in a 1.0 message, about.
    pub fn wire_bytes(&self, node: &Node) -> usize {
        match node.payload() {
            Payload::Sample | Payload::SampleWithStart => 20,
            Payload::Histogram => {
                let histogram = self.histograms.items[node.value as usize].as_ref();
                8 + histogram.map_or(0, |h| h.message.len())
            }
            Payload::Exemplar => {
                let exemplar = self.exemplars.items[node.value as usize].as_ref();
                24 + exemplar.map_or(0, |e| e.labels.len())
            }
        }
    }

    /// What is really there, by kind.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Heap bytes.
    pub fn heap_bytes(&self) -> usize {
        self.slab.capacity() * size_of::<Node>()
            + self.side_bytes
            + self.histograms.items.capacity() * size_of::<Option<Histogram>>()
            + self.exemplars.items.capacity() * size_of::<Option<Exemplar>>()
            + self.starts.items.capacity() * size_of::<Option<(u64, i64)>>()
    }

    /// Those of them that are in use: what is free in the slabs is used again before they grow.
    pub fn used_bytes(&self) -> usize {
        self.counts.total() as usize * size_of::<Node>()
            + self.side_bytes
            + self.histograms.used() * size_of::<Option<Histogram>>()
            + self.exemplars.used() * size_of::<Option<Exemplar>>()
            + self.starts.used() * size_of::<Option<(u64, i64)>>()
    }

    /// Removes all.
    pub fn clear(&mut self) {
        *self = Self::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_32_bytes_and_its_element_comes_back_as_it_went_in() {
        assert_eq!(size_of::<Node>(), 32);
        let mut nodes = Nodes::new();
        let origin = |ordinal| Origin {
            record: 3,
            ordinal,
            series: 9,
        };
        let stale = 0x7ff0_0000_0000_0002;
        let plain = Sample {
            timestamp: i64::MIN,
            bits: stale,
            start: 0,
        };
        let started = Sample {
            timestamp: 5,
            bits: 1 << 63,
            start: -1,
        };
        let a = nodes.insert(Element::Sample(plain), origin(0));
        let b = nodes.insert(Element::Sample(started), origin((1 << 24) - 1));
        assert_eq!(
            (nodes.get(b).ordinal(), nodes.get(b).kind()),
            ((1 << 24) - 1, Kind::Sample)
        );
        assert!(matches!(nodes.remove(a), Element::Sample(s) if s == plain));
        assert!(matches!(nodes.remove(b), Element::Sample(s) if s == started));
        assert!(nodes.counts().is_zero());
        assert_eq!(
            nodes.insert(Element::Sample(plain), origin(1)),
            b,
            "slots are used again"
        );
    }
}
