//! What makes an acknowledgement true: an ordered, bounded store of opaque records.
//!
//! A *record* is a request as it was received, still compressed, under a header. The log never looks
//! inside a body. Its elements are numbered by *ordinals* (see [`crate::wire::decoded`]); the header's
//! counts tell the kind of each.
//!
//! Queues read records by sequence and give each back once everything in it is settled, in any order. A
//! record goes when every *required* queue has given it back; one that only other queues still hold goes,
//! oldest first, when room is needed.
//!
//! One form is in memory ([`memory::MemoryLog`]), one on disk ([`disk::DiskLog`]).

pub mod ack;
pub mod chain;
pub mod disk;
mod drain;
pub mod front;
mod handoff;
pub mod memory;
pub mod repeats;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::counts::Counts;
use crate::model::runs::RunSet;
use crate::wire::compression::Encoding;
use crate::wire::decoded::{Decoded, Protocol};
use ack::Ack;

/// Number of a record; the first is 1, none is given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(pub u64);

impl Seq {
    /// The sequence after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The separating headers of a request, as its sender gave them: names in lower case, sorted.
///
/// Samples of different tenants never share a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(pub Vec<(String, String)>);

/// One request in the log, without its body: what is known of it as long as anything of it is unsettled.
#[derive(Debug)]
pub struct Record {
    /// Its place in the log.
    pub seq: Seq,
    /// Wall clock when it was admitted, milliseconds since the epoch.
    pub arrival_ms: i64,
    /// When it was admitted, on the clock that measures waiting.
    pub arrived: Instant,
    /// Which message the body holds.
    pub protocol: Protocol,
    /// How the body is compressed.
    pub encoding: Encoding,
    /// Separating headers.
    pub tenant: Arc<Tenant>,
    /// Elements in the body, those of skipped series included: the range of its ordinals.
    pub counts: Counts,
    /// Ordinals of series that were refused by themselves: no queue ever takes them.
    pub skipped: RunSet,
    /// Elements admitted: `counts` without the skipped.
    pub admitted: Counts,
    /// Admitted elements of all records up to and including this one.
    pub totals: Counts,
    /// Bytes of the request's body, still compressed.
    pub body_len: u32,
    /// Who waits for this record to be settled, in `upstream` mode.
    pub ack: Option<Arc<Ack>>,
}

impl Record {
    /// Number of ordinals.
    pub fn ordinals(&self) -> u32 {
        self.counts.total() as u32
    }

    /// Bytes that the log is charged for it.
    pub fn charge(&self) -> u64 {
        (self.body_len as usize + self.skipped.heap_bytes() + RECORD_OVERHEAD) as u64
    }
}

/// What a record costs beside its body: struct, map node, hand-off entry.
pub const RECORD_OVERHEAD: usize = 512;

/// What ingest gives the log to append.
pub struct NewRecord {
    /// Wall clock, milliseconds since the epoch.
    pub arrival_ms: i64,
    /// How the body is compressed.
    pub encoding: Encoding,
    /// Separating headers.
    pub tenant: Arc<Tenant>,
    /// Ordinals of the skipped series.
    pub skipped: RunSet,
    /// The body as it came.
    pub body: Bytes,
    /// Its decoded form, for readers that have caught up.
    pub decoded: Arc<Decoded>,
    /// Who waits for it.
    pub ack: Option<Arc<Ack>>,
}

/// A record as a reader gets it.
#[derive(Clone)]
pub struct Fetched {
    /// The record.
    pub record: Arc<Record>,
    /// The request's body, still compressed. `None` beside no decoded form: the log has it no more, because
    /// its bytes were damaged.
    pub body: Option<Bytes>,
    /// The decoded form, while it is still at hand.
    pub decoded: Option<Arc<Decoded>>,
}

/// Why a record was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogError {
    /// No room; worth a retry after the given time.
    Full {
        /// Time in which the missing room should have drained.
        retry_after: Duration,
    },
    /// The disk does not take it; worth a retry after the given time.
    Unwritable {
        /// Time after which the disk will have been tried again.
        retry_after: Duration,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { .. } => write!(f, "the log is full"),
            Self::Unwritable { .. } => write!(f, "the log cannot be written"),
        }
    }
}

impl std::error::Error for LogError {}

/// How full the log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Bytes held and reserved.
    pub bytes: u64,
    /// Bytes it may hold.
    pub limit: u64,
    /// Records held.
    pub records: u64,
}

impl Occupancy {
    /// There is no hurry to delete anything.
    pub fn is_half_empty(&self) -> bool {
        self.bytes < self.limit / 2
    }
}

/// Number of a queue among the log's readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueueIndex(pub u8);

/// Why a record is gone that a queue still wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Given up for room: only queues that are not required still wanted it, or the user chose so.
    ForRoom,
    /// Older than the user wants anything kept.
    TooOld,
    /// Its bytes, or the file they were in, were damaged.
    Damaged,
}

/// What queues ask of a log.
pub trait Log: Send + Sync {
    /// Fetching the first record at or after `seq` does not wait for a disk.
    fn is_at_hand(&self, queue: QueueIndex, seq: Seq) -> bool;

    /// The first record at or after `seq`, if it is there yet. Its decoded form is given to each queue
    /// once at the most: who needs it longer keeps it.
    fn fetch(&self, queue: QueueIndex, seq: Seq) -> Option<Fetched>;

    /// Where the log ends, and its totals there, if no record at or after `seq` is left although some were
    /// appended: they were given up for room.
    fn end_behind(&self, seq: Seq) -> Option<(Seq, Counts)>;

    /// The first record at or after `seq`, only to be looked at. May wait for a disk.
    fn first(&self, seq: Seq) -> Option<Arc<Record>>;

    /// Admitted elements of all records before the first one at or after `seq`; of all, if none is there.
    fn totals_before(&self, seq: Seq) -> Counts;

    /// The sequence of the next record, and the totals before it.
    fn end(&self) -> (Seq, Counts);

    /// This record is there, though perhaps it cannot be read just now.
    fn holds(&self, seq: Seq) -> bool;

    /// When the first record at or after `seq` arrived.
    fn arrival(&self, seq: Seq) -> Option<Instant>;

    /// Admitted elements of all records ever appended.
    fn totals(&self) -> Counts {
        self.end().1
    }

    /// Why the log does not have this record any more, although a queue never gave it back.
    fn why_gone(&self, seq: Seq) -> Gone;

    /// This queue needs the record no more.
    fn release(&self, queue: QueueIndex, seq: Seq);

    /// This queue needs none of the records `from..to`: they were settled before the process started.
    fn release_range(&self, queue: QueueIndex, from: Seq, to: Seq);

    /// Waits until a record at or after `seq` is there.
    fn appended(&self, seq: Seq) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// What ingest may tell all queues about a record whose sender does not wait any more.
pub trait Readers: Send + Sync {
    /// Its sender was told to come back: what is in no batch is not sent until it does.
    fn withdraw(&self, seq: Seq);

    /// Its sender is back.
    fn take_over(&self, seq: Seq);

    /// Its sender did not come back.
    fn expire(&self, seq: Seq);
}
