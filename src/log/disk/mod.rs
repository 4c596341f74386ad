//! The log on disk: segments, group commit, recovery.
//!
//! # Promise
//! [`DiskLog::append`] returns a record only after an `fdatasync` that covers it has succeeded, and after the
//! segment's name was made durable. Readers see a record only then, so a sequence that anyone saw is never
//! given twice. No error of the disk ends the process: what cannot be kept is refused, and the next request
//! tries again.
//!
//! # Folder
//! | name | what |
//! |---|---|
//! | `format` | text, `sluicegate storage 1` and a newline. Another number: the folder is not touched |
//! | `lock` | its lock says that the folder is in use ([`fs::OsFs`]) |
//! | `<first sequence, 20 digits>.segment` | records |
//! | `reserve` | zeros; given up so that settlement can be written on a full disk ([`reserve::Reserve`]) |
//! | `probe` | what the syncs are timed with at start; removed after |
//!
//! Journals of queues stand beside them. What has another name is never touched.
//!
//! # Segment
//! Numbers are little-endian; CRC is CRC32C. *Salted*: the CRC begins with that of the segment's salt, a random
//! number, so that no sender can make bytes that pass for a header in a segment.
//!
//! **Header**, 256 bytes: twice the same, at 0 and at 128, so that no single damage makes the segment
//! unreadable. Synced, and its name too, before the first record is written.
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 4 | version, 1 |
//! | 12 | 8 | salt |
//! | 20 | 8 | sequence of the first record; as in the name |
//! | 28 | 8 | *void from*: records of older segments are void from this sequence on |
//! | 36 | 24 | totals before it: samples, histograms, exemplars |
//! | 60 | 8 | arrival of the first record, milliseconds since the epoch |
//! | 68 | 4 | CRC of the 68 bytes before |
//!
//! **Record**: prefix, header, body, the next begins right behind. Sequences within a segment follow each other.
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 4 | magic |
//! | 4 | 4 | length of the header |
//! | 8 | 4 | salted CRC of the 8 bytes before: a length is never believed before its CRC |
//! | 12 | 4 | salted CRC of the header |
//! | 16 | | header: sequence u64, arrival i64, protocol u8, encoding u8, zero u16, body length u32, body CRC u32, counts 3 × u32, admitted 3 × u32, totals 3 × u64, tenant pairs u32 (each: length u32, name, length u32, value), skipped runs u32 (each: from u32, to u32) |
//! | | | body: the sender's bytes, still compressed |
//!
//! **Footer** of a sealed segment: one entry for each record, then 128 bytes that end the file. Start-up reads
//! only those. An entry is a row of LEB128 numbers: length of prefix and header, length of the body, arrival
//! after the one before (zigzag), counts × 3, skipped × 3. So a record whose header is damaged is still known.
//!
//! | at | bytes | |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 4 | version, 1 |
//! | 12 | 8 | salt, as in the header |
//! | 20 | 8 | first sequence, as in the header |
//! | 28 | 4 | number of records |
//! | 32 | 8 | where the entries begin |
//! | 40 | 4 | salted CRC of the entries |
//! | 44 | 24 | totals at the end |
//! | 68 | 16 | arrival of the first record and of the last |
//! | 124 | 4 | salted CRC of the 124 bytes before |
//!
//! A segment is sealed at 1/16 of the log, between 256 KiB and 32 MiB, or with 16,384 records. A larger record
//! has a segment for itself.
//!
//! # When the disk fails
//! A failed sync says nothing about what was written, and the next one may lie. So a segment is never synced
//! again after one: the records that were not durable, still in memory, are written to a new segment, whose
//! *void from* is the first of them; so nothing is read twice, whatever the old file turns out to hold. If
//! that fails too they are refused, and their sequences are free. A failed write is cut off again; if that
//! fails, or the error is another than a full disk, the segment is left the same way.
//!
//! # Recovery
//! Sealed segments are believed by their footer's CRC, others are scanned from header to header. Behind damage
//! the scan goes on at the next bytes that are a header by magic and both salted CRCs. A scanned segment is
//! never written again: the next record begins a new one, whose totals tell what is missing. Behind bytes that
//! may have been records, sequences go on [`segment::RECORDS_MAX`] further, so that none is given twice.
//! A record whose header holds and whose body does not is kept, without its body: it may have been
//! acknowledged. Nothing undelivered is ever removed to clean up.
//!
//! # What goes when
//! A segment goes when every queue has given back all its records, wherever it stands; one that only queues
//! which are not required still want goes, oldest first, when room is needed. The newest segment whose header is durable stays: it
//! carries sequence and totals through a restart. One that makes records of an older segment void stays
//! until that one is gone.

mod cache;
mod examine;
pub mod fs;
mod group;
pub mod health;
mod keep;
mod log;
pub mod look;
pub mod medium;
#[cfg_attr(
    not(feature = "mutants"),
    allow(unreachable_pub, reason = "public for the tests")
)]
pub mod mutants;
mod read;
mod record;
mod recover;
pub mod reserve;
mod scan;
pub mod segment;
mod shared;
pub mod store;
mod write;
mod writer;

use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Seq;
use crate::model::counts::{Counts, Kind};
pub use log::{BeforeDelete, DiskLog, Room};

/// What the log on disk may do.
#[derive(Clone, Debug)]
pub struct DiskOptions {
    /// Bytes that its segments may have, one segment more at the most.
    pub max_bytes: u64,
    /// What happens when they have them.
    pub on_full: OnFull,
    /// Segments whose last record is older go.
    pub max_age: Option<Duration>,
    /// Bytes of decoded forms kept for readers that have caught up.
    pub handoff_limit: usize,
    /// The queues by their index, `true` for those that are required. At most 64.
    pub required: Vec<bool>,
    /// Wall clock at this moment, milliseconds since the epoch.
    pub now_ms: i64,
    /// Time some syncs at start, in a thread of their own.
    pub probe: bool,
}

/// What happens when the log is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Senders wait, and are told to come back.
    #[default]
    Backpressure,
    /// The oldest records go, those of required queues too.
    DropOldest,
}

/// What journals know about the log's past: new records begin here at the earliest, whatever the log lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// One past the last sequence that any journal names.
    pub next: Seq,
    /// The log's totals as far as journals know them.
    pub totals: Counts,
}

/// Says whether a folder is of this format, before anything else in it is looked at; a new one becomes so.
///
/// # Errors
/// When it is of another, or cannot be read.
pub fn check_format(fs: &dyn fs::Fs) -> Result<(), StorageError> {
    recover::check_format(fs)
}

impl Floor {
    /// Raises it to what another journal knows.
    pub fn raise(&mut self, next: Seq, totals: Counts) {
        self.next = self.next.max(next);
        for kind in Kind::ALL {
            let known = totals.get(kind);
            let slot = self.totals.slot(kind);
            *slot = known.max(*slot);
        }
    }
}

/// What was found in a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The first record; `next` if there is none.
    pub first: Seq,
    /// One past the last record; journals may know of later ones, which are lost then.
    pub end: Seq,
    /// Where new records begin.
    pub next: Seq,
    /// Admitted elements of all records ever appended.
    pub totals: Counts,
    /// Records.
    pub records: u64,
    /// Bytes of their segments.
    pub bytes: u64,
    /// Bytes behind the last record of a segment that was not sealed, which hold none.
    pub torn_tail_bytes: u64,
    /// What is damaged, as far as starting had to look.
    pub damage: Damage,
}

/// Records, or parts of files, that are not what was written; each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Ends of segments that hold no record and are not empty: a write that a crash cut off, as a rule.
    pub torn_tail: u64,
    /// Records that are gone, or of which only the counts are known.
    pub header: u64,
    /// Records whose body is damaged.
    pub body: u64,
    /// Footers; nothing is lost by that alone.
    pub footer: u64,
    /// Whole segments that cannot be read.
    pub segment: u64,
}

impl Damage {
    /// The kinds with their names, as the label of a metric has them.
    pub fn kinds(&self) -> [(&'static str, u64); 5] {
        [
            ("torn_tail", self.torn_tail),
            ("header", self.header),
            ("body", self.body),
            ("footer", self.footer),
            ("segment", self.segment),
        ]
    }
}

/// Why a folder cannot be used.
#[derive(Debug)]
pub enum StorageError {
    /// It was written by another version; nothing in it was touched.
    UnknownFormat(String),
    /// The system said no.
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownFormat(found) => write!(
                f,
                "the folder's format is {found:?}, and this program knows {:?}",
                recover::FORMAT.trim_end()
            ),
            Self::Io { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StorageError {}

/// Most that the log takes by default.
const DEFAULT_MAX: u64 = 10 << 30;

/// Bytes that the log may have by default: 70 % of what the file system has for us, at most 10 GiB.
///
/// `free` are its free bytes, `held` those that the log has already.
pub fn default_max_bytes(free: u64, held: u64) -> u64 {
    ((free + held) / 10 * 7).min(DEFAULT_MAX)
}

/// Bytes of the segments in a folder, for [`default_max_bytes`].
pub fn held_bytes(fs: &dyn fs::Fs) -> io::Result<u64> {
    let mut held = 0;
    for name in fs.list()? {
        if segment::first_in_name(&name).is_some() {
            held += fs.open(&name)?.size()?;
        }
    }
    Ok(held)
}

/// A lock is never poisoned for us: what it guards is changed by steps that do not panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
