//! The segments of a folder and what is known of them. No thread and no clock of its own.
//!
//! One lock guards what is known; it is never held while the disk is asked. The writer has a lock of its
//! own, held while it writes: appending never waits for a reader, nor a reader for a sync.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use tokio::time::Instant;

use super::cache::Cache;
use super::fs::Fs;
use super::reserve::Reserve;
use super::segment::{self, Entry, Header};
use super::write::{self, Writer};
use super::{Damage, Floor, OnFull, Opened, StorageError, lock, recover};
use crate::log::ack::Ack;
use crate::log::{Gone, Record, Seq, Tenant};
use crate::model::counts::Counts;
use crate::model::runs::RunSet;
use crate::wire::compression::Encoding;
use crate::wire::decoded::Protocol;

/// What a store may do.
#[derive(Clone)]
pub struct StoreOptions {
    /// Bytes that all segments may have.
    pub max_bytes: u64,
    /// What happens when they have them.
    pub on_full: OnFull,
    /// Segments whose last record is older go, milliseconds.
    pub max_age_ms: Option<i64>,
    /// The queues, `true` for those that are required.
    pub required: Vec<bool>,
    /// Bytes at which a segment is sealed.
    pub segment_bytes: u64,
    /// Records at which a segment is sealed, [`segment::RECORDS_MAX`] at the most.
    pub segment_records: u32,
    /// Random numbers for the salts.
    pub salt: fn() -> u64,
    /// The same moment on the clock that measures waiting and on the wall clock, milliseconds.
    pub opened: (Instant, i64),
}

impl StoreOptions {
    /// For a log of this size and these queues, with all else as usual.
    pub fn new(max_bytes: u64, required: Vec<bool>, opened: (Instant, i64)) -> Self {
        assert!(required.len() <= 64, "a bit for each queue");
        Self {
            max_bytes,
            on_full: OnFull::default(),
            max_age_ms: None,
            required,
            segment_bytes: segment::size_for(max_bytes),
            segment_records: segment::RECORDS_MAX,
            salt: || getrandom::u64().unwrap_or_else(|_| fastrand::u64(..)),
            opened,
        }
    }
}

/// A record that is to be written.
#[derive(Clone)]
pub struct Pending {
    /// Wall clock, milliseconds since the epoch.
    pub arrival_ms: i64,
    /// When it was admitted.
    pub arrived: Instant,
    /// Which message the body holds.
    pub protocol: Protocol,
    /// How the body is compressed.
    pub encoding: Encoding,
    /// Separating headers.
    pub tenant: Arc<Tenant>,
    /// Elements in the body.
    pub counts: Counts,
    /// Those admitted.
    pub admitted: Counts,
    /// Ordinals of the skipped series.
    pub skipped: RunSet,
    /// The body as it came.
    pub body: Bytes,
    /// Who waits for it.
    pub ack: Option<Arc<Ack>>,
}

/// The segments of a folder.
pub struct Store {
    pub(super) fs: Arc<dyn Fs>,
    pub(super) options: StoreOptions,
    pub(super) reserve: Arc<Reserve>,
    pub(super) known: Mutex<Known>,
    pub(super) writer: Mutex<Writer>,
    pub(super) cache: Mutex<Cache>,
    pub(super) damage: Mutex<Damaged>,
}

/// What is known without asking the disk.
pub(super) struct Known {
    /// By first sequence.
    pub(super) segments: BTreeMap<u64, Segment>,
    /// One past the last durable record.
    pub(super) next: Seq,
    /// From here on names are free. None is used twice: a file that should be gone may still be tried to be
    /// removed.
    pub(super) free_names: Seq,
    pub(super) totals: Counts,
    /// Bytes of all segments.
    pub(super) bytes: u64,
    pub(super) reserved: u64,
    /// Most that a request without room asked for since room was last made.
    pub(super) wanted: u64,
    /// Bytes that the file system had no room for since then.
    pub(super) starved: u64,
    /// Bytes by tenant, of records that came since the start.
    pub(super) tenants: HashMap<Arc<Tenant>, u64>,
    /// What went before every queue had given it back: from, to, why.
    pub(super) gone: VecDeque<(Seq, Seq, Gone)>,
    /// Entries of the segment that is being written.
    pub(super) active: Vec<Entry>,
    pub(super) latest: Instant,
    /// Files that should be gone and are not.
    pub(super) doomed: Vec<Doomed>,
    /// Something may have to be deleted.
    pub(super) untidy: bool,
}

/// A file that is to go.
pub(super) struct Doomed {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) impure: bool,
}

/// What is known of a segment.
pub(super) struct Segment {
    pub(super) name: String,
    pub(super) header: Header,
    /// One past its last record.
    pub(super) end: Seq,
    pub(super) totals: Counts,
    pub(super) arrivals_ms: (i64, i64),
    /// Bytes of the file.
    pub(super) bytes: u64,
    pub(super) form: Form,
    /// By queue, the records that it has given back, counted from the first. Those that are not there
    /// count as given back.
    pub(super) released: Vec<RunSet>,
    /// Records that are not there.
    pub(super) missing: RunSet,
    pub(super) tenants: HashMap<Arc<Tenant>, u64>,
    /// It may hold records that the next segment makes void.
    pub(super) impure: bool,
    /// Its name and header stay, whatever happens.
    pub(super) durable: bool,
}

/// How a segment's records are found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// It is being written: by what is in memory.
    Active,
    /// By its footer.
    Sealed(segment::Trailer),
    /// By going through it.
    Scanned,
}

impl Segment {
    /// Sequences from its first record to its last.
    pub(super) fn span(&self) -> u32 {
        (self.end.0 - self.header.first.0) as u32
    }

    /// This queue has given back all of it.
    pub(super) fn is_released_by(&self, queue: usize) -> bool {
        self.released[queue].covers(self.span())
    }

    /// Records that are not there are given back by all. Says how many were not known to be missing.
    pub(super) fn miss(&mut self, from: u64, to: u64) -> u64 {
        let first = self.header.first.0;
        let (from, to) = ((from - first) as u32, (to - first) as u32);
        let before = self.missing.len();
        self.missing.insert(from, to);
        for released in &mut self.released {
            released.insert(from, to);
        }
        u64::from(self.missing.len() - before)
    }

    pub(super) fn records(&self) -> u64 {
        u64::from(self.span().saturating_sub(self.missing.len()))
    }
}

/// Damage found so far, and which records it was counted for.
#[derive(Default)]
pub(super) struct Damaged {
    pub(super) counts: Damage,
    pub(super) records: HashSet<u64>,
    pub(super) footers: HashSet<u64>,
}

impl Store {
    /// Opens a folder: says what is there. Reads ends of sealed segments, and those that are not sealed.
    ///
    /// # Errors
    /// When the folder has another format, or cannot be listed or written to for the first time.
    pub fn open(
        fs: Arc<dyn Fs>,
        options: StoreOptions,
        floor: Floor,
    ) -> Result<(Self, Opened), StorageError> {
        let found = recover::recover(&*fs, &options, floor)?;
        let opened = found.opened;
        let reserve = Reserve::open(Arc::clone(&fs), options.max_bytes);
        let store = Self {
            reserve,
            known: Mutex::new(found.known),
            writer: Mutex::new(Writer::default()),
            cache: Mutex::new(Cache::default()),
            damage: Mutex::new(Damaged {
                counts: opened.damage,
                ..Damaged::default()
            }),
            fs,
            options,
        };
        Ok((store, opened))
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }

    /// Writes records and makes them durable, in this order. `publish` is called for each when it is durable
    /// and no reader has seen it yet.
    ///
    /// Says how many are durable, and why the others are not: their sequences are free.
    pub fn commit(
        &self,
        records: &[Pending],
        mut publish: impl FnMut(usize, &Arc<Record>),
    ) -> (usize, Option<io::Error>) {
        let mut writer = lock(&self.writer);
        let mut done = 0;
        while done < records.len() {
            match writer.commit(self, &records[done..]) {
                Ok(durable) => {
                    // A reader that is quick must find the decoded form at hand.
                    for (index, (record, _)) in durable.iter().enumerate() {
                        publish(done + index, record);
                    }
                    done += durable.len();
                    self.show(durable);
                }
                Err(error) => {
                    if write::is_full(&error) {
                        self.starve(&records[done..]);
                    }
                    return (done, Some(error));
                }
            }
        }
        (done, None)
    }

    /// The file system has no room for these: what all have given back is to go, the newest segment too.
    fn starve(&self, records: &[Pending]) {
        let bytes = records.iter().map(|record| record.body.len() as u64).sum();
        let mut known = self.known();
        known.starved = known.starved.max(bytes);
        known.untidy = true;
    }

    /// Seals the segment that is being written.
    pub fn seal(&self) {
        lock(&self.writer).seal(self);
    }

    /// The reserve, for those who write settlement.
    pub fn reserve(&self) -> &Arc<Reserve> {
        &self.reserve
    }

    /// One past the last record.
    pub fn next(&self) -> Seq {
        self.known().next
    }

    /// Admitted elements of all records ever appended.
    pub fn end(&self) -> (Seq, Counts) {
        let known = self.known();
        (known.next, known.totals)
    }

    /// Admitted elements of all durable records.
    pub fn totals(&self) -> Counts {
        self.known().totals
    }

    /// Damage found so far.
    pub fn damage(&self) -> Damage {
        lock(&self.damage).counts
    }

    /// Bytes of the segments, and their records.
    pub fn held(&self) -> (u64, u64) {
        let known = self.known();
        let records = known.segments.values().map(Segment::records).sum();
        (known.bytes, records)
    }

    /// Heap bytes of what is known, and of the parts of footers kept in memory.
    pub fn memory_bytes(&self) -> usize {
        let known = self.known();
        let segments = known.segments.values().map(|segment| {
            let runs: usize = segment.released.iter().map(RunSet::heap_bytes).sum();
            size_of::<Segment>() + runs + segment.tenants.len() * 24
        });
        let segments: usize = segments.sum();
        let active = known.active.capacity() * size_of::<Entry>();
        drop(known);
        segments + active + lock(&self.cache).bytes()
    }

    /// Readers see these from now on.
    fn show(&self, durable: Vec<(Arc<Record>, Entry)>) {
        let Some((last, end)) = durable.last() else {
            return;
        };
        let mut known = self.known();
        let known = &mut *known;
        known.next = last.seq.next();
        known.totals = last.totals;
        let segment = known.segments.values_mut().next_back();
        let segment = segment.expect("the active segment is the last");
        if segment.end == segment.header.first {
            segment.arrivals_ms.0 = durable[0].0.arrival_ms;
        }
        segment.arrivals_ms.1 = last.arrival_ms;
        segment.end = last.seq.next();
        segment.totals = last.totals;
        known.bytes += end.end() - segment.bytes;
        segment.bytes = end.end();
        for (record, entry) in durable {
            known.latest = known.latest.max(record.arrived);
            known.active.push(entry);
            for tenants in [&mut known.tenants, &mut segment.tenants] {
                *tenants.entry(Arc::clone(&record.tenant)).or_default() += entry.bytes();
            }
        }
    }
}
