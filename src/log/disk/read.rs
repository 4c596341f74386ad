//! Records from the disk. No lock is held while it is asked.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::examine::{Examined, examine};
use super::fs::File;
use super::lock;
use super::record;
use super::scan;
use super::segment::{self, Entry, Header, TRAILER_LEN, Trailer};
use super::store::{Form, Known, Segment, Store};
use crate::log::{Gone, Record, Seq, Tenant};
use crate::model::counts::{Counts, Kind};
use crate::model::runs::RunSet;
use crate::wire::compression::Encoding;
use crate::wire::decoded::Protocol;

/// How often a file that cannot be opened is tried, and the time between.
const OPEN_TRIES: (u32, Duration) = (4, Duration::from_millis(50));

/// A segment as a reader sees it at one moment.
struct View {
    key: u64,
    name: String,
    header: Header,
    form: Form,
    end: Seq,
    bytes: u64,
    /// The record that was looked for, where it is known in memory.
    entry: Option<Entry>,
}

impl Known {
    /// The segment with the first record at or after `seq`.
    fn segment_from(&self, seq: Seq) -> Option<(&u64, &Segment)> {
        let ends_behind = |(_, segment): &(&u64, &Segment)| segment.end > seq && segment.span() > 0;
        let own = self
            .segments
            .range(..=seq.0)
            .next_back()
            .filter(ends_behind);
        own.or_else(|| self.segments.range(seq.0..).find(ends_behind))
    }

    fn view(&self, seq: Seq) -> Option<View> {
        let (key, segment) = self.segment_from(seq)?;
        let entry = match segment.form {
            Form::Active => entry_from(&self.active, seq).copied(),
            _ => None,
        };
        Some(View {
            key: *key,
            name: segment.name.clone(),
            header: segment.header,
            form: segment.form,
            end: segment.end,
            bytes: segment.bytes,
            entry,
        })
    }
}

fn entry_from(entries: &[Entry], seq: Seq) -> Option<&Entry> {
    entries.get(entries.partition_point(|entry| entry.seq < seq.0))
}

impl Store {
    /// The first record at or after `seq`, and its body if that is what was written. Waits for the disk.
    pub fn fetch(&self, seq: Seq) -> Option<(Arc<Record>, Option<Bytes>)> {
        loop {
            let (view, entry) = self.locate(seq)?;
            match self.file(&view) {
                Ok(file) => return Some(self.read(&*file, &view, &entry)),
                Err(error) => self.lose(&view, &error)?,
            }
        }
    }

    /// The first record at or after `seq`, as far as it is known without reading it: without tenant, and
    /// which of its elements were skipped is a guess. May have to read where the segment's records stand.
    pub fn first(&self, seq: Seq) -> Option<Arc<Record>> {
        let (_, entry) = self.locate(seq)?;
        Some(Arc::new(self.guess(&entry)))
    }

    /// Sequence of the first record at or after `seq`, without the disk; if that is not possible, something
    /// not larger.
    pub fn first_seq(&self, seq: Seq) -> Option<Seq> {
        let known = self.known();
        let (key, segment) = known.segment_from(seq)?;
        let entry = match segment.form {
            Form::Active => entry_from(&known.active, seq),
            _ => None,
        };
        Some(entry.map_or(seq.max(Seq(*key)), |entry| Seq(entry.seq)))
    }

    /// When the first record at or after `seq` arrived: as exactly as is known without the disk.
    pub fn arrival(&self, seq: Seq) -> Option<Instant> {
        let view = self.known().view(seq)?;
        let index = lock(&self.cache).index(view.key);
        let known = index.and_then(|index| entry_from(&index, seq).map(|entry| entry.arrival_ms));
        let arrival = view.entry.map(|entry| entry.arrival_ms).or(known);
        let first = || {
            let known = self.known();
            let segment = known.segments.get(&view.key);
            segment.map_or(view.header.created_ms, |segment| segment.arrivals_ms.0)
        };
        let arrival = arrival.unwrap_or_else(first);
        Some(self.arrived(arrival))
    }

    /// Just this record is there, as far as is known without the disk.
    pub fn holds(&self, seq: Seq) -> bool {
        let known = self.known();
        let segment = known.segment_from(seq);
        segment.is_some_and(|(first, _)| *first <= seq.0)
    }

    /// A record at or after this one is there.
    pub fn holds_from(&self, seq: Seq) -> bool {
        self.known().segment_from(seq).is_some()
    }

    /// Where the log ends, and its totals, if it has nothing from `seq` on although it had.
    pub fn end_behind(&self, seq: Seq) -> Option<(Seq, Counts)> {
        let known = self.known();
        let behind = known.next > seq && known.segment_from(seq).is_none();
        behind.then_some((known.next, known.totals))
    }

    /// Where the first record at or after `seq` stands.
    fn locate(&self, seq: Seq) -> Option<(View, Entry)> {
        loop {
            let view = self.known().view(seq)?;
            if let Some(entry) = view.entry {
                return Some((view, entry));
            }
            let index = match self.index(&view) {
                Ok(index) => index,
                Err(error) => {
                    self.lose(&view, &error)?;
                    continue;
                }
            };
            let entry = entry_from(&index, seq).copied();
            match entry.filter(|entry| entry.seq < view.end.0) {
                Some(entry) => return Some((view, entry)),
                // It has fewer records than it said.
                None => self.shorten(&view, &index),
            }
        }
    }

    /// Where a segment's records stand.
    fn index(&self, view: &View) -> io::Result<Arc<Vec<Entry>>> {
        if let Some(index) = lock(&self.cache).index(view.key) {
            return Ok(index);
        }
        let file = self.file(view)?;
        let entries = match &view.form {
            Form::Sealed(trailer) => load_footer(&*file, view.bytes, &view.header, trailer),
            Form::Active | Form::Scanned => None,
        };
        let entries = entries.unwrap_or_else(|| self.scan(&*file, view));
        let index = Arc::new(entries);
        lock(&self.cache).keep_index(view.key, Arc::clone(&index));
        Ok(index)
    }

    /// Goes through a segment, and notes what is not there any more.
    fn scan(&self, file: &dyn File, view: &View) -> Vec<Entry> {
        let mut entries = scan::scan(file, view.bytes, &view.header).entries;
        entries.retain(|entry| entry.seq < view.end.0);
        let missing = {
            let mut known = self.known();
            known.untidy = true;
            let segment = known.segments.get_mut(&view.key);
            segment.map_or(0, |segment| segment.miss_gaps(&entries))
        };
        let mut damage = lock(&self.damage);
        damage.counts.header += missing;
        if matches!(view.form, Form::Sealed(_)) && damage.footers.insert(view.key) {
            damage.counts.footer += 1;
        }
        entries
    }

    /// The segment ends with the last of these.
    fn shorten(&self, view: &View, entries: &[Entry]) {
        let mut known = self.known();
        let Some(segment) = known.segments.get_mut(&view.key) else {
            return;
        };
        let entries = &entries[..entries.partition_point(|entry| entry.seq < view.end.0)];
        let end = entries
            .last()
            .map_or(view.header.first, |last| Seq(last.seq + 1));
        let missing = segment.end.0.saturating_sub(end.0);
        segment.end = segment.end.min(end);
        known.untidy = true;
        drop(known);
        lock(&self.damage).counts.header += missing;
    }

    /// The segment's file; kept open for a while.
    fn file(&self, view: &View) -> io::Result<Arc<dyn File>> {
        if let Some(file) = lock(&self.cache).file(view.key) {
            return Ok(file);
        }
        let mut tries = OPEN_TRIES.0;
        let file = loop {
            tries -= 1;
            match self.fs.open(&view.name) {
                Ok(file) => break file,
                Err(error) if error.kind() == io::ErrorKind::NotFound || tries == 0 => {
                    return Err(error);
                }
                // Too many files may be open just now.
                Err(_) => std::thread::sleep(OPEN_TRIES.1),
            }
        };
        let file: Arc<dyn File> = Arc::from(file);
        self.remember_file(view.key, &file);
        Ok(file)
    }

    pub(super) fn remember_file(&self, key: u64, file: &Arc<dyn File>) {
        lock(&self.cache).keep_file(key, Arc::clone(file));
    }

    pub(super) fn remember_index(&self, key: u64, entries: Vec<Entry>) {
        lock(&self.cache).keep_index(key, Arc::new(entries));
    }

    pub(super) fn forget_segment(&self, key: u64) {
        lock(&self.cache).forget(key);
    }

    /// A segment whose file is gone is not read any more. `None`: it cannot be opened now, for whatever reason;
    /// that is no proof that anything is lost, and it will be tried again.
    fn lose(&self, view: &View, error: &io::Error) -> Option<()> {
        if error.kind() != io::ErrorKind::NotFound {
            tracing::warn!(segment = view.name, %error, "a segment of the log cannot be opened; trying again");
            return None;
        }
        let mut known = self.known();
        // It may have been deleted meanwhile, with everybody's consent.
        let Some(segment) = known.segments.remove(&view.key) else {
            return Some(());
        };
        known.bytes -= segment.bytes;
        known.forget_tenants(&segment);
        known.was_gone(&segment, Gone::Damaged);
        drop(known);
        self.forget_segment(view.key);
        lock(&self.damage).counts.segment += 1;
        tracing::error!(segment = view.name, %error, "a segment of the log is gone");
        Some(())
    }

    /// A record, from its place.
    fn read(&self, file: &dyn File, view: &View, entry: &Entry) -> (Arc<Record>, Option<Bytes>) {
        let Examined { told, body } = examine(file, &view.header, entry);
        let Some((told, tenant, skipped)) = told else {
            self.count_damage(entry.seq, |damage| &mut damage.header);
            return (Arc::new(self.guess(entry)), None);
        };
        let record = Arc::new(Record {
            seq: Seq(told.seq),
            arrival_ms: told.arrival_ms,
            arrived: self.arrived(told.arrival_ms),
            protocol: told.protocol,
            encoding: told.encoding,
            tenant: Arc::new(tenant),
            counts: told.counts,
            skipped,
            admitted: told.admitted,
            totals: told.totals,
            body_len: told.body_len,
            ack: None,
        });
        if body.is_none() {
            self.count_damage(entry.seq, |damage| &mut damage.body);
        }
        (record, body)
    }

    fn count_damage(&self, seq: u64, kind: impl Fn(&mut super::Damage) -> &mut u64) {
        let mut damage = lock(&self.damage);
        if damage.records.insert(seq) {
            *kind(&mut damage.counts) += 1;
        }
    }

    /// What is known of a record without its header. The last of each kind stand for those that were skipped.
    fn guess(&self, entry: &Entry) -> Record {
        let (counts, admitted) = (record::wide(entry.counts), record::wide(entry.admitted));
        let (mut skipped, mut end) = (RunSet::default(), 0u64);
        for kind in Kind::ALL {
            end += counts.get(kind);
            let from = end - (counts.get(kind) - admitted.get(kind));
            skipped.insert(from as u32, end as u32);
        }
        Record {
            seq: Seq(entry.seq),
            arrival_ms: entry.arrival_ms,
            arrived: self.arrived(entry.arrival_ms),
            protocol: Protocol::V1,
            encoding: Encoding::Snappy,
            tenant: Arc::new(Tenant::default()),
            counts,
            skipped,
            admitted,
            totals: entry.totals,
            body_len: entry.body,
            ack: None,
        }
    }

    /// A moment of the wall clock, on the clock that measures waiting; never later than the last append, so
    /// that no jump of the wall clock makes a record wait.
    fn arrived(&self, arrival_ms: i64) -> Instant {
        let (instant, wall) = self.options.opened;
        let apart = Duration::from_millis(arrival_ms.abs_diff(wall));
        let arrived = if arrival_ms < wall {
            instant.checked_sub(apart)
        } else {
            instant.checked_add(apart)
        };
        arrived.unwrap_or(instant).min(self.known().latest)
    }
}

/// The entries of a sealed segment; `None` if its footer is damaged.
pub(super) fn load_footer(
    file: &dyn File,
    size: u64,
    header: &Header,
    trailer: &Trailer,
) -> Option<Vec<Entry>> {
    let length = size.checked_sub(trailer.entries_at + TRAILER_LEN)?;
    let mut bytes = vec![0; length as usize];
    scan::read(file, &mut bytes, trailer.entries_at).ok()?;
    segment::entries(&bytes, header, trailer)
}
