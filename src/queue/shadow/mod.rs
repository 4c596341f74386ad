//! What a queue could save, measured on its own data: the shadow of a queue that sends nowhere.
//!
//! A *stretch* is a row of whole requests, one after the other, as senders made them. Each way of sending is
//! tried on every stretch, so that all of them carry the same elements and the bytes that came in are what those
//! very elements weighed. The ways are not modelled: [`recut`] puts the stretch through a queue of its own, with
//! the code that cuts real batches, and [`measure`] encodes and compresses what comes out.
//!
//! Bounded three ways: a stretch holds so many bytes and elements, all work together so much of a core, and the
//! whole so much time; then it is over and costs nothing any more. These files are plain functions over
//! values; [`thread`] has the effects.

pub mod measure;
pub mod recut;
pub mod thread;

use std::time::Duration;

use crate::wire::compression::Encoding;
use crate::wire::decoded::Protocol;

/// Elements of a large request: what fewer requests would carry, as advised to senders too.
pub const LARGE: u32 = 5_000;

/// How long, and how much of a core.
#[derive(Clone, Debug, PartialEq)]
pub struct ShadowTimes {
    /// From the first sample to the report.
    pub length: Duration,
    /// The first stretch is short, so that there is something to see.
    pub first: Duration,
    /// How long data is held to be merged, the longest last: as long a stretch is.
    pub windows: Vec<Duration>,
    /// Of the time of one core, on average since the first sample.
    pub share: f64,
    /// Of the time of one core, while a stretch is measured.
    pub burst: f64,
}

impl Default for ShadowTimes {
    fn default() -> Self {
        Self {
            length: Duration::from_secs(600),
            first: Duration::from_secs(10),
            windows: vec![Duration::from_secs(15), Duration::from_secs(60)],
            share: 0.05,
            burst: 0.2,
        }
    }
}

/// What a stretch may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Compressed bytes of requests.
    pub bytes: usize,
    /// Elements. While they are measured each takes some 150 bytes more, labels included.
    pub elements: u64,
}

impl Bounds {
    /// Of a memory budget: a sixty-fourth for bytes, and as many elements as weigh that at 40 bytes each.
    pub fn within(limit: u64) -> Self {
        let bytes = limit / 64;
        Self {
            bytes: bytes as usize,
            elements: bytes / 40,
        }
    }
}

/// How elements become requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Each request by itself, as it came.
    AsSent,
    /// In requests of the queue's size, in the order of arrival.
    Arrival,
    /// In requests of the queue's size, by target.
    Target,
    /// The same in large requests.
    Large,
    /// The same after so long a wait: samples of a series that meet become one entry.
    Merged(Duration),
}

/// How a request is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Form {
    /// Which message.
    pub protocol: Protocol,
    /// How it is compressed.
    pub encoding: Encoding,
}

impl Form {
    /// Version of the protocol, and name of the compression.
    pub fn words(self) -> (&'static str, &'static str) {
        let encoding = match self.encoding {
            Encoding::Snappy => "snappy",
            Encoding::Zstd => "zstd",
        };
        (self.protocol.as_str(), encoding)
    }
}

const V1: Form = Form {
    protocol: Protocol::V1,
    encoding: Encoding::Snappy,
};
const V2: Form = Form {
    protocol: Protocol::V2,
    encoding: Encoding::Snappy,
};
const V1_ZSTD: Form = Form {
    protocol: Protocol::V1,
    encoding: Encoding::Zstd,
};
const V2_ZSTD: Form = Form {
    protocol: Protocol::V2,
    encoding: Encoding::Zstd,
};

impl Cut {
    /// The forms that are tried with it.
    pub fn forms(self) -> &'static [Form] {
        match self {
            Self::AsSent | Self::Arrival => &[V1],
            Self::Target => &[V1, V2, V1_ZSTD, V2_ZSTD],
            Self::Large | Self::Merged(_) => &[V1, V2],
        }
    }

    /// Elements that a request takes at the most, in a queue whose batches have so many; `None` where each is
    /// as it came.
    pub fn per_send(self, batch: u32) -> Option<u32> {
        match self {
            Self::AsSent => None,
            Self::Arrival | Self::Target => Some(batch),
            Self::Large | Self::Merged(_) => Some(batch.max(LARGE)),
        }
    }

    /// The cuts that a stretch which lasted `span` is good for. A window counts as held when a tenth of it is
    /// missing: requests leave their senders some seconds after the samples were made.
    pub fn of(span: Duration, batch: u32, windows: &[Duration]) -> Vec<Self> {
        let mut cuts = vec![Self::AsSent, Self::Arrival, Self::Target];
        if batch < LARGE {
            cuts.push(Self::Large);
        }
        let held = windows.iter().filter(|window| span >= window.mul_f64(0.9));
        cuts.extend(held.map(|window| Self::Merged(*window)));
        cuts
    }
}

/// What came in one protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// Requests with at least one element.
    pub requests: u64,
    /// Elements admitted.
    pub elements: u64,
    /// Compressed bytes of those requests.
    pub bytes: u64,
}

impl Came {
    /// One more request.
    pub fn add(&mut self, elements: u64, bytes: u64) {
        self.requests += 1;
        self.elements += elements;
        self.bytes += bytes;
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            elements: self.elements + other.elements,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// Everything that came while it was measured, in stretches or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// As 1.0.
    pub v1: Came,
    /// As 2.0.
    pub v2: Came,
    /// Requests without an element: metadata by itself. They are no part of any comparison.
    pub empty: Came,
}

impl Seen {
    /// One more request.
    pub fn add(&mut self, protocol: Protocol, elements: u64, bytes: u64) {
        match protocol {
            _ if elements == 0 => self.empty.add(elements, bytes),
            Protocol::V1 => self.v1.add(elements, bytes),
            Protocol::V2 => self.v2.add(elements, bytes),
        }
    }

    /// Both protocols.
    pub fn all(&self) -> Came {
        self.v1.and(self.v2)
    }
}

/// What one way of sending came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Stretches it was tried on.
    pub stretches: u64,
    /// Elements in its requests.
    pub elements: u64,
    /// Elements that its message cannot carry: in none of its bytes, and in those that came.
    pub left_out: u64,
    /// Its requests.
    pub requests: u64,
    /// Their compressed bytes.
    pub bytes: u64,
    /// What the same stretches weighed when they came.
    pub came: Came,
    /// Time of a core for encoding and compressing.
    pub cpu: Duration,
}

impl Tally {
    /// Of several stretches.
    pub fn add(&mut self, other: &Self) {
        self.stretches += other.stretches;
        self.elements += other.elements;
        self.left_out += other.left_out;
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.came = self.came.and(other.came);
        self.cpu += other.cpu;
    }
}

/// Tallies by way of sending, in the order in which they are shown.
pub type Tallies = Vec<(Cut, Form, Tally)>;

/// Adds the tallies of one stretch to those of all.
pub fn add(all: &mut Tallies, stretch: &Tallies) {
    for (cut, form, tally) in stretch {
        match all.iter_mut().find(|row| (row.0, row.1) == (*cut, *form)) {
            Some(row) => row.2.add(tally),
            // Longer stretches have more cuts, and these stand at the end.
            None => all.push((*cut, *form, *tally)),
        }
    }
}

/// Another stretch may begin: what was spent so far, and once more what the last one cost, is within the share of
/// the time that has passed.
pub fn may_begin(spent: Duration, last: Duration, passed: Duration, share: f64) -> bool {
    spent + last <= passed.mul_f64(share)
}

/// How long to rest after `worked`, so that no more than `burst` of a core is taken.
pub fn rest_after(worked: Duration, burst: f64) -> Duration {
    worked.mul_f64((1.0 / burst.clamp(0.01, 1.0)) - 1.0)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
