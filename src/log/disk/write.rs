//! The one who writes: the active segment, and what becomes of it when the disk fails.

use std::io;
use std::sync::Arc;

use super::fs::File;
use super::group::head_room;
use super::mutants::{self, Mutant};
use super::segment::{self, Entry, HEADER_LEN, Header};
use super::store::{Form, Pending, Segment, Store};
use crate::log::{Record, Seq};
use crate::model::runs::RunSet;

/// How many names are tried for a new segment.
const NAMES: u64 = 64;

/// Who writes, and where.
#[derive(Default)]
pub(super) struct Writer {
    active: Option<Active>,
}

/// The segment that is being written.
pub(super) struct Active {
    file: Arc<dyn File>,
    pub(super) header: Header,
    /// Where the last durable record ends.
    pub(super) end: u64,
    pub(super) next: Seq,
    pub(super) records: u32,
}

impl Writer {
    /// Writes as many of these as one segment takes, and makes them durable.
    pub(super) fn commit(
        &mut self,
        store: &Store,
        pending: &[Pending],
    ) -> io::Result<Vec<(Arc<Record>, Entry)>> {
        store.reserve.restore()?;
        match self.write(store, pending) {
            // Another segment would not find room either.
            Err(error) if is_full(&error) => Err(error),
            // Once more, to a new segment.
            Err(_) => {
                self.leave(store);
                self.write(store, pending).inspect_err(|error| {
                    if !is_full(error) {
                        self.leave(store);
                    }
                })
            }
            written => written,
        }
    }

    fn write(
        &mut self,
        store: &Store,
        pending: &[Pending],
    ) -> io::Result<Vec<(Arc<Record>, Entry)>> {
        self.make_room(store, &pending[0])?;
        let active = self.active.as_ref().expect("there is room in it");
        let group = active.group(store, pending);
        let end = group.records.last().map_or(active.end, |last| last.1.end());
        if let Err(error) = group.write(&*active.file, active.end) {
            // Of a write that failed any part may be there.
            if active.file.truncate(active.end).is_err() {
                self.leave(store);
            }
            return Err(error);
        }
        if !mutants::present(Mutant::AckBeforeSync)
            && let Err(error) = active.file.sync()
            && !(mutants::present(Mutant::SyncAgain) && active.file.sync().is_ok())
        {
            self.leave(store);
            return Err(error);
        }
        let active = self.active.as_mut().expect("there is room in it");
        active.end = end;
        active.records += group.records.len() as u32;
        active.next = Seq(active.next.0 + group.records.len() as u64);
        for (record, _) in &group.records {
            if let Some(ack) = &record.ack {
                ack.set_seq(record.seq);
            }
        }
        Ok(group.records)
    }

    /// Sees to an active segment that takes this record.
    fn make_room(&mut self, store: &Store, first: &Pending) -> io::Result<()> {
        if self
            .active
            .as_ref()
            .is_some_and(|active| !active.has_room(store, first))
        {
            self.seal(store);
        }
        if self.active.is_none() {
            self.begin(store, first.arrival_ms)?;
        }
        Ok(())
    }

    /// A new segment: header and name are durable when this returns.
    pub(super) fn begin(&mut self, store: &Store, created_ms: i64) -> io::Result<()> {
        self.seal(store);
        let (void_from, before, free) = {
            let known = store.known();
            (known.next, known.totals, known.free_names.max(known.next))
        };
        let (first, file) = create(store, free)?;
        let header = Header {
            salt: (store.options.salt)(),
            first,
            void_from,
            before,
            created_ms,
        };
        let written = file
            .write_at(&header.encode(), 0)
            .and_then(|()| file.sync())
            .and_then(|()| {
                if mutants::present(Mutant::NoDirSync) {
                    return Ok(());
                }
                store.fs.sync_dir()
            });
        store.add_segment(header, written.is_ok());
        if let Err(error) = written {
            store.drop_unmade(first);
            return Err(error);
        }
        let file: Arc<dyn File> = Arc::from(file);
        store.remember_file(first.0, &file);
        self.active = Some(Active {
            file,
            header,
            end: HEADER_LEN,
            next: first,
            records: 0,
        });
        Ok(())
    }

    /// Ends the active segment with a footer. Without one it is as good, only slower to open.
    pub(super) fn seal(&mut self, store: &Store) {
        let Some(active) = self.active.take() else {
            return;
        };
        let entries = std::mem::take(&mut store.known().active);
        let footer = segment::footer(&active.header, &entries);
        let sealed = active
            .file
            .write_at(&footer, active.end)
            .and_then(|()| active.file.sync());
        let bytes = match sealed {
            Ok(()) => active.end + footer.len() as u64,
            // What there is of the footer is not in the way; without it the file is smaller.
            Err(_) => match active.file.truncate(active.end) {
                Ok(()) => active.end,
                Err(_) => active.end + footer.len() as u64,
            },
        };
        let trailer = footer.len() - segment::TRAILER_LEN as usize;
        let trailer = segment::Trailer::decode(&footer[trailer..], &active.header);
        let form = match (sealed, trailer) {
            (Ok(()), Some(trailer)) => Form::Sealed(trailer),
            _ => Form::Scanned,
        };
        store.end_segment(active.header.first, form, bytes, entries, false);
    }

    /// Never touches the active segment again: nobody knows what is in it behind its last durable record.
    fn leave(&mut self, store: &Store) {
        let Some(active) = self.active.take() else {
            return;
        };
        let entries = std::mem::take(&mut store.known().active);
        let bytes = active.file.size().unwrap_or(active.end).max(active.end);
        let first = active.header.first;
        store.end_segment(first, Form::Scanned, bytes, entries, true);
    }
}

impl Active {
    fn has_room(&self, store: &Store, first: &Pending) -> bool {
        let bytes = self.end + first.body.len() as u64 + head_room(first);
        self.records == 0
            || self.records < store.options.segment_records && bytes <= store.options.segment_bytes
    }
}

impl Store {
    fn add_segment(&self, header: Header, durable: bool) {
        let mut known = self.known();
        known.bytes += HEADER_LEN;
        known.active = Vec::new();
        known.untidy = true;
        let segment = Segment {
            name: segment::name_of(header.first),
            end: header.first,
            totals: header.before,
            arrivals_ms: (header.created_ms, header.created_ms),
            bytes: HEADER_LEN,
            form: if durable { Form::Active } else { Form::Scanned },
            released: vec![RunSet::default(); self.options.required.len()],
            missing: RunSet::default(),
            tenants: std::collections::HashMap::new(),
            impure: !durable,
            durable,
            header,
        };
        known.segments.insert(header.first.0, segment);
    }

    fn end_segment(&self, first: Seq, form: Form, bytes: u64, entries: Vec<Entry>, impure: bool) {
        self.remember_index(first.0, entries);
        let mut known = self.known();
        known.untidy = true;
        let known = &mut *known;
        if let Some(segment) = known.segments.get_mut(&first.0) {
            known.bytes = known.bytes - segment.bytes + bytes;
            segment.bytes = bytes;
            segment.form = form;
            segment.impure = impure;
        }
    }

    /// Removes a segment that did not come about.
    fn drop_unmade(&self, first: Seq) {
        if self.fs.remove(&segment::name_of(first)).is_ok() {
            let mut known = self.known();
            if let Some(segment) = known.segments.remove(&first.0) {
                known.bytes -= segment.bytes;
            }
        }
    }
}

/// A file for a segment that begins at `first`, or at the next sequence whose name is free.
fn create(store: &Store, first: Seq) -> io::Result<(Seq, Box<dyn File>)> {
    let mut first = first;
    for _ in 1..NAMES {
        match store.fs.create(&segment::name_of(first)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => first = first.next(),
            Err(error) => return Err(error),
            Ok(file) => {
                store.known().free_names = first.next();
                return Ok((first, file));
            }
        }
    }
    Err(io::Error::from(io::ErrorKind::AlreadyExists))
}

pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
