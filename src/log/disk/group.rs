//! Records on their way to the disk: what one write and one sync make durable.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::fs::File;
use super::mutants::{self, Mutant};
use super::record::{self, Head};
use super::segment::Entry;
use super::store::{Pending, Store};
use super::write::Active;
use crate::log::{Record, Seq};
use crate::model::counts::Counts;

/// Bodies from this size on are written from where they are.
const LARGE_BODY: usize = 64 << 10;
/// Records on their way to the disk.
pub(super) struct Group {
    pub(super) records: Vec<(Arc<Record>, Entry)>,
    /// What is written: gathered bytes, and a large body behind them.
    pieces: Vec<(Vec<u8>, Bytes)>,
}

impl Group {
    /// Adds a record's bytes; says how many are its prefix and header.
    fn push(&mut self, seed: u32, head: &Head, record: &Record, body: &Bytes) -> u32 {
        let (gathered, large) = self.pieces.last_mut().expect("there is always one");
        let length = record::encode(gathered, seed, head, &record.tenant, &record.skipped);
        if body.len() < LARGE_BODY {
            gathered.extend_from_slice(body);
        } else {
            *large = body.clone();
            self.pieces.push((Vec::new(), Bytes::new()));
        }
        length
    }

    pub(super) fn write(&self, file: &dyn File, from: u64) -> io::Result<()> {
        if mutants::present(Mutant::AckBeforeWrite) {
            return Ok(());
        }
        let mut at = from;
        for (gathered, large) in &self.pieces {
            for bytes in [gathered.as_slice(), large] {
                if !bytes.is_empty() {
                    file.write_at(bytes, at)?;
                }
                at += bytes.len() as u64;
            }
        }
        Ok(())
    }
}

impl Active {
    /// As many of these as the segment takes, at least one.
    pub(super) fn group(&self, store: &Store, pending: &[Pending]) -> Group {
        let seed = record::seed(self.header.salt);
        let mut totals = store.known().totals;
        let mut group = Group {
            records: Vec::with_capacity(pending.len()),
            pieces: vec![(Vec::new(), Bytes::new())],
        };
        let (mut seq, mut at) = (self.next, self.end);
        for new in pending {
            let bytes = at + new.body.len() as u64 + head_room(new);
            let records = self.records + group.records.len() as u32;
            let full =
                records >= store.options.segment_records || bytes > store.options.segment_bytes;
            if full && records > 0 {
                break;
            }
            totals += new.admitted;
            let record = record_of(new, seq, totals);
            let head = Head {
                seq: seq.0,
                arrival_ms: new.arrival_ms,
                protocol: new.protocol,
                encoding: new.encoding,
                body_len: record.body_len,
                body_crc: crc32c::crc32c(&new.body),
                counts: new.counts,
                admitted: new.admitted,
                totals,
            };
            let length = group.push(seed, &head, &record, &new.body);
            let entry = Entry {
                seq: seq.0,
                at,
                head: length,
                body: record.body_len,
                arrival_ms: new.arrival_ms,
                counts: record::small(new.counts),
                admitted: record::small(new.admitted),
                totals,
            };
            (seq, at) = (seq.next(), entry.end());
            group.records.push((Arc::new(record), entry));
        }
        group
    }
}

/// Room for a record's prefix and header, a little more than they need.
pub(super) fn head_room(new: &Pending) -> u64 {
    let tenant = new.tenant.0.iter();
    let tenant: usize = tenant
        .map(|(name, value)| 8 + name.len() + value.len())
        .sum();
    (128 + tenant + new.skipped.heap_bytes()) as u64
}

fn record_of(new: &Pending, seq: Seq, totals: Counts) -> Record {
    Record {
        seq,
        arrival_ms: new.arrival_ms,
        arrived: new.arrived,
        protocol: new.protocol,
        encoding: new.encoding,
        tenant: Arc::clone(&new.tenant),
        counts: new.counts,
        skipped: new.skipped.clone(),
        admitted: new.admitted,
        totals,
        body_len: new.body.len() as u32,
        ack: new.ack.clone(),
    }
}
