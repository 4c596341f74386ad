//! What stands inside a frame. Pure.
//!
//! # Format, version 1
//! Numbers are varints (LEB128); signed ones zigzag. A list is the number of its members, then each.
//!
//! ```text
//! 1 open       = batch runs
//! 2 done       = batch delivered:counts unconfirmed:counts quarantined:counts dropped
//! 3 dropped    = reason:u8 runs
//! 4 checkpoint = start_totals:counts cursor entered entered_totals:counts next_batch
//!                delivered:counts unconfirmed:counts quarantined:counts dropped
//!                records:list(seq settled:set unsettled:counts)
//!                presettled:list(seq runs:set counts) open:list(batch runs)
//! counts       = samples histograms exemplars
//! dropped      = list(reason:u8 counts)
//! runs         = list(seq:signed from:signed length<<2|kind)
//!                seq less that of the run before, at first 0; from less the end of the run before, where
//!                that is of the same record; kind 1 sample, 2 histogram, 3 exemplar
//! set          = list(gap length)    gap since the end of the run before
//! ```
//!
//! A reader of bytes never believes a number before it has looked whether the bytes could hold so much.

use super::entry::{Checkpoint, Entry, JournalRun, Presettled, Settled, Unsettled};
use crate::log::Seq;
use crate::model::counts::{Counts, Kind};
use crate::model::runs::RunSet;
use crate::queue::batch::BatchId;
use crate::queue::ledger::{DropReason, Ledger};

const OPEN: u8 = 1;
const DONE: u8 = 2;
const DROPPED: u8 = 3;
const CHECKPOINT: u8 = 4;

/// The byte that says what an entry is.
pub(super) fn tag(entry: &Entry) -> u8 {
    match entry {
        Entry::Open { .. } => OPEN,
        Entry::Done { .. } => DONE,
        Entry::Dropped { .. } => DROPPED,
        Entry::Checkpoint(_) => CHECKPOINT,
    }
}

/// Appends an entry without its tag.
pub(super) fn put(out: &mut Vec<u8>, entry: &Entry) {
    match entry {
        Entry::Open { batch, runs } => {
            put_number(out, batch.0);
            put_runs(out, runs);
        }
        Entry::Done { batch, outcome } => {
            put_number(out, batch.0);
            put_counts(out, outcome.delivered);
            put_counts(out, outcome.unconfirmed);
            put_counts(out, outcome.quarantined);
            put_dropped(out, &outcome.dropped);
        }
        Entry::Dropped { reason, runs } => {
            out.push(code(*reason));
            put_runs(out, runs);
        }
        Entry::Checkpoint(checkpoint) => put_checkpoint(out, checkpoint),
    }
}

/// The entry in these bytes, all of them. `None` where they make no sense.
pub(super) fn read(tag: u8, payload: &[u8]) -> Option<Entry> {
    let mut bytes = Bytes(payload);
    let entry = match tag {
        OPEN => Entry::Open {
            batch: BatchId(bytes.number()?),
            runs: bytes.runs()?,
        },
        DONE => Entry::Done {
            batch: BatchId(bytes.number()?),
            outcome: Settled {
                delivered: bytes.counts()?,
                unconfirmed: bytes.counts()?,
                quarantined: bytes.counts()?,
                dropped: bytes.dropped()?,
            },
        },
        DROPPED => Entry::Dropped {
            reason: reason(bytes.byte()?)?,
            runs: bytes.runs()?,
        },
        CHECKPOINT => Entry::Checkpoint(Box::new(bytes.checkpoint()?)),
        _ => return None,
    };
    bytes.0.is_empty().then_some(entry)
}

/// A code is never given another meaning. A new reason is a new version of the format.
fn code(reason: DropReason) -> u8 {
    match reason {
        DropReason::Rejected => 1,
        DropReason::NotWritten => 2,
        DropReason::TooLarge => 3,
        DropReason::Unrepresentable => 4,
        DropReason::Withdrawn => 5,
        DropReason::LogFull => 6,
        DropReason::Discarded => 7,
        DropReason::Unreadable => 8,
        DropReason::NotSent => 9,
        DropReason::TooOld => 10,
    }
}

fn reason(byte: u8) -> Option<DropReason> {
    DropReason::ALL.into_iter().find(|r| code(*r) == byte)
}

/// Two bits; never given another meaning either.
fn kind_code(kind: Kind) -> u64 {
    match kind {
        Kind::Sample => 1,
        Kind::Histogram => 2,
        Kind::Exemplar => 3,
    }
}

fn kind(bits: u64) -> Option<Kind> {
    Kind::ALL.into_iter().find(|k| kind_code(*k) == bits)
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Small differences of either sign become small numbers.
fn put_signed(out: &mut Vec<u8>, number: i64) {
    put_number(out, ((number << 1) ^ (number >> 63)).cast_unsigned());
}

fn put_counts(out: &mut Vec<u8>, counts: Counts) {
    for kind in Kind::ALL {
        put_number(out, counts.get(kind));
    }
}

fn put_dropped(out: &mut Vec<u8>, dropped: &[(DropReason, Counts)]) {
    put_number(out, dropped.len() as u64);
    for (reason, counts) in dropped {
        out.push(code(*reason));
        put_counts(out, *counts);
    }
}

fn put_runs(out: &mut Vec<u8>, runs: &[JournalRun]) {
    put_number(out, runs.len() as u64);
    let (mut seq, mut end) = (Seq(0), 0);
    for run in runs {
        put_signed(out, run.seq.0.wrapping_sub(seq.0).cast_signed());
        let base = if run.seq == seq { end } else { 0 };
        put_signed(out, i64::from(run.from) - base);
        let length = u64::from(run.to.saturating_sub(run.from));
        put_number(out, length << 2 | kind_code(run.kind));
        (seq, end) = (run.seq, i64::from(run.to));
    }
}

fn put_set(out: &mut Vec<u8>, set: &RunSet) {
    put_number(out, set.iter().count() as u64);
    let mut end = 0;
    for (from, to) in set.iter() {
        put_number(out, u64::from(from - end));
        put_number(out, u64::from(to - from));
        end = to;
    }
}

fn put_checkpoint(out: &mut Vec<u8>, checkpoint: &Checkpoint) {
    put_counts(out, checkpoint.start_totals);
    put_number(out, checkpoint.cursor.0);
    put_number(out, checkpoint.entered.0);
    put_counts(out, checkpoint.entered_totals);
    put_number(out, checkpoint.next_batch);
    let Ledger {
        delivered,
        unconfirmed,
        quarantined,
        dropped,
    } = &checkpoint.ledger;
    for counts in [delivered, unconfirmed, quarantined] {
        put_counts(out, *counts);
    }
    let dropped: Vec<_> = DropReason::ALL.into_iter().zip(*dropped).collect();
    put_dropped(out, &dropped);
    put_number(out, checkpoint.records.len() as u64);
    for record in &checkpoint.records {
        put_number(out, record.seq.0);
        put_set(out, &record.settled);
        put_counts(out, record.unsettled);
    }
    put_number(out, checkpoint.presettled.len() as u64);
    for (seq, known) in &checkpoint.presettled {
        put_number(out, seq.0);
        put_set(out, &known.runs);
        put_counts(out, known.counts);
    }
    put_number(out, checkpoint.open.len() as u64);
    for (batch, runs) in &checkpoint.open {
        put_number(out, batch.0);
        put_runs(out, runs);
    }
}

/// Bytes that are read from the front.
struct Bytes<'b>(&'b [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let number = self.number()?;
        Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    /// How many things follow, each of `least` bytes or more: never more than the bytes could hold.
    fn length(&mut self, least: usize) -> Option<usize> {
        let length = usize::try_from(self.number()?).ok()?;
        (length <= self.0.len() / least).then_some(length)
    }

    fn list<T>(
        &mut self,
        least: usize,
        mut one: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let length = self.length(least)?;
        (0..length).map(|_| one(self)).collect()
    }

    fn counts(&mut self) -> Option<Counts> {
        let mut counts = Counts::default();
        for kind in Kind::ALL {
            *counts.slot(kind) = self.number()?;
        }
        Some(counts)
    }

    fn dropped(&mut self) -> Option<Vec<(DropReason, Counts)>> {
        self.list(4, |bytes| Some((reason(bytes.byte()?)?, bytes.counts()?)))
    }

    fn runs(&mut self) -> Option<Vec<JournalRun>> {
        let (mut seq, mut end) = (Seq(0), 0);
        self.list(3, |bytes| {
            let next = Seq(seq.0.wrapping_add(bytes.signed()?.cast_unsigned()));
            let base = if next == seq { end } else { 0 };
            let from = bytes.signed()?.checked_add(base)?;
            let packed = bytes.number()?;
            let length = u32::try_from(packed >> 2).ok().filter(|n| *n > 0)?;
            let from = u32::try_from(from).ok()?;
            let to = from.checked_add(length)?;
            (seq, end) = (next, i64::from(to));
            Some(JournalRun {
                seq,
                from,
                to,
                kind: kind(packed & 3)?,
            })
        })
    }

    fn set(&mut self) -> Option<RunSet> {
        let (mut set, mut end) = (RunSet::default(), 0u32);
        for _ in 0..self.length(2)? {
            let from = end.checked_add(u32::try_from(self.number()?).ok()?)?;
            end = from.checked_add(u32::try_from(self.number()?).ok()?)?;
            set.insert(from, end);
        }
        Some(set)
    }

    fn checkpoint(&mut self) -> Option<Checkpoint> {
        let start_totals = self.counts()?;
        let (cursor, entered) = (Seq(self.number()?), Seq(self.number()?));
        let entered_totals = self.counts()?;
        let next_batch = self.number()?;
        let mut ledger = Ledger {
            delivered: self.counts()?,
            unconfirmed: self.counts()?,
            quarantined: self.counts()?,
            ..Ledger::default()
        };
        for (reason, counts) in self.dropped()? {
            ledger.dropped[reason as usize] = counts;
        }
        Some(Checkpoint {
            start_totals,
            cursor,
            entered,
            entered_totals,
            ledger,
            next_batch,
            records: self.list(5, |bytes| {
                Some(Unsettled {
                    seq: Seq(bytes.number()?),
                    settled: bytes.set()?,
                    unsettled: bytes.counts()?,
                })
            })?,
            presettled: self.list(5, |bytes| {
                let seq = Seq(bytes.number()?);
                let (runs, counts) = (bytes.set()?, bytes.counts()?);
                Some((seq, Presettled { runs, counts }))
            })?,
            open: self.list(2, |bytes| Some((BatchId(bytes.number()?), bytes.runs()?)))?,
        })
    }
}
