//! What a journal comes to: its entries, applied one after the other. Pure, and total.
//!
//! Whatever the entries say, nothing is settled that no entry says is settled, nothing is counted twice, and
//! the books stay balanced: the ledger grows by exactly what newly became settled. Where an entry is
//! missing the doubt goes one way: elements are sent again, perhaps a second time, never left out.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use super::entry::{Checkpoint, Entry, JournalRun, Presettled, Settled, Unsettled};
use crate::log::Seq;
use crate::model::counts::{Counts, Kind};
use crate::model::runs::RunSet;
use crate::queue::batch::BatchId;
use crate::queue::ledger::Ledger;

/// What the journal of a queue says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The log's totals when the queue began.
    pub start_totals: Counts,
    /// Everything before this record is settled.
    pub cursor: Seq,
    /// The first record that the last checkpoint knew nothing of.
    pub entered: Seq,
    /// The log's totals before that record.
    pub entered_totals: Counts,
    /// What has been settled since the queue began.
    pub ledger: Ledger,
    /// Records before `entered` of which something is unsettled; the others are settled whole.
    pub records: BTreeMap<Seq, Unsettled>,
    /// Records from `entered` on of which something is settled.
    pub presettled: BTreeMap<Seq, Presettled>,
    /// Batches without a verdict: each is made again of the same elements, alone, and may be stored.
    pub open: BTreeMap<BatchId, Vec<JournalRun>>,
    /// No batch had this number or a higher one.
    pub next_batch: u64,
    /// Entries that did not fit what was said before them. Some are missing then.
    pub odd: u64,
}

impl From<Checkpoint> for Recovered {
    fn from(start: Checkpoint) -> Self {
        let mut recovered = Self::default();
        recovered.restart(start);
        recovered
    }
}

impl Recovered {
    /// Adds what the next entry says.
    pub fn apply(&mut self, entry: Entry) {
        match entry {
            Entry::Open { batch, runs } => self.open(batch, runs),
            Entry::Done { batch, outcome } => self.done(batch, &outcome),
            Entry::Dropped { reason, runs } => {
                let newly = self.settle(&runs);
                add(&mut self.ledger.dropped[reason as usize], newly);
            }
            Entry::Checkpoint(start) => self.restart(*start),
        }
        self.cursor = self
            .records
            .first_key_value()
            .map_or(self.entered, |(seq, _)| *seq);
    }

    /// One past the highest record that is mentioned anywhere: the log gives no new record a lower number.
    pub fn highest(&self) -> Seq {
        let presettled = self.presettled.last_key_value().map(|(seq, _)| *seq);
        let open = self.open.values().flatten().map(|run| run.seq).max();
        let mentioned = presettled.max(open);
        let after = mentioned.map_or(self.entered, |seq| Seq(seq.0.saturating_add(1)));
        after.max(self.entered)
    }

    /// Elements of a log with these totals that are not settled.
    pub fn pending(&self, totals: Counts) -> Counts {
        let mut pending: Counts = self.records.values().map(|left| left.unsettled).sum();
        let settled: Counts = self.presettled.values().map(|ahead| ahead.counts).sum();
        for kind in Kind::ALL {
            let known = self.entered_totals.get(kind) + settled.get(kind);
            *pending.slot(kind) += totals.get(kind).saturating_sub(known);
        }
        pending
    }

    /// The same, as a new file begins with it.
    pub fn into_checkpoint(self) -> Checkpoint {
        Checkpoint {
            start_totals: self.start_totals,
            cursor: self.cursor,
            entered: self.entered,
            entered_totals: self.entered_totals,
            ledger: self.ledger,
            records: self.records.into_values().collect(),
            presettled: self.presettled.into_iter().collect(),
            open: self.open.into_iter().collect(),
            next_batch: self.next_batch,
        }
    }

    fn restart(&mut self, start: Checkpoint) {
        let odd = self.odd;
        let (listed, entered) = (start.records.len() + start.presettled.len(), start.entered);
        let records = start.records.into_iter();
        let records = records.filter(|record| record.seq < entered && !is_none(record.unsettled));
        let presettled = start.presettled.into_iter();
        let presettled = presettled.filter(|(seq, _)| *seq >= entered);
        *self = Self {
            start_totals: start.start_totals,
            cursor: start.cursor,
            entered,
            entered_totals: start.entered_totals,
            ledger: start.ledger,
            records: records.map(|record| (record.seq, record)).collect(),
            presettled: presettled.collect(),
            open: start.open.into_iter().collect(),
            next_batch: start.next_batch,
            odd,
        };
        let kept = self.records.len() + self.presettled.len();
        self.odd += (listed - kept) as u64;
        if let Some(last) = self.open.last_key_value().map(|(batch, _)| *batch) {
            self.had(last);
        }
    }

    fn open(&mut self, batch: BatchId, runs: Vec<JournalRun>) {
        self.had(batch);
        // A number is given once. If it is not so, the first word stands.
        if let Slot::Vacant(place) = self.open.entry(batch) {
            place.insert(runs);
        } else {
            self.odd += 1;
        }
    }

    fn done(&mut self, batch: BatchId, outcome: &Settled) {
        self.had(batch);
        let Some(runs) = self.open.remove(&batch) else {
            self.odd += 1;
            return;
        };
        let newly = self.settle(&runs);
        if !book(&mut self.ledger, outcome, newly) {
            self.odd += 1;
        }
    }

    fn had(&mut self, batch: BatchId) {
        self.next_batch = self.next_batch.max(batch.0.saturating_add(1));
    }

    /// Marks runs settled; the elements that were not before.
    fn settle(&mut self, runs: &[JournalRun]) -> Counts {
        let mut all = Counts::default();
        // Counting a set costs as much as walking it: once for each record and kind, not for each run.
        for group in runs.chunk_by(|a, b| (a.seq, a.kind) == (b.seq, b.kind)) {
            let JournalRun { seq, kind, .. } = group[0];
            let newly = if seq >= self.entered {
                let known = self.presettled.entry(seq).or_default();
                let newly = insert(&mut known.runs, group);
                let counted = known.counts.slot(kind);
                *counted = counted.saturating_add(newly);
                newly
            } else {
                self.settle_known(seq, kind, group)
            };
            let sum = all.slot(kind);
            *sum = sum.saturating_add(newly);
        }
        all
    }

    fn settle_known(&mut self, seq: Seq, kind: Kind, group: &[JournalRun]) -> u64 {
        // What is not listed is settled whole.
        let Some(record) = self.records.get_mut(&seq) else {
            return 0;
        };
        let left = record.unsettled.slot(kind);
        // More than is left of a kind is never counted, whatever a run claims to be.
        let newly = insert(&mut record.settled, group).min(*left);
        *left -= newly;
        if is_none(record.unsettled) {
            self.records.remove(&seq);
        }
        newly
    }
}

/// Adds runs to a set; how many ordinals are new in it.
fn insert(set: &mut RunSet, runs: &[JournalRun]) -> u64 {
    let before = set.len();
    runs.iter().for_each(|run| set.insert(run.from, run.to));
    u64::from(set.len() - before)
}

/// Books what became of `newly` settled elements, no more and no less. `false` when the outcome speaks of
/// another number; what it says nothing of is then unconfirmed.
fn book(ledger: &mut Ledger, outcome: &Settled, newly: Counts) -> bool {
    let mut left = newly;
    let mut fits = take(&mut ledger.delivered, outcome.delivered, &mut left);
    fits &= take(&mut ledger.unconfirmed, outcome.unconfirmed, &mut left);
    fits &= take(&mut ledger.quarantined, outcome.quarantined, &mut left);
    for (reason, counts) in &outcome.dropped {
        fits &= take(&mut ledger.dropped[*reason as usize], *counts, &mut left);
    }
    let fits = fits && is_none(left);
    add(&mut ledger.unconfirmed, left);
    fits
}

/// Books a part of what is left; `false` when the part is greater.
fn take(books: &mut Counts, part: Counts, left: &mut Counts) -> bool {
    let mut booked = Counts::default();
    for kind in Kind::ALL {
        *booked.slot(kind) = part.get(kind).min(left.get(kind));
    }
    *left -= booked;
    add(books, booked);
    booked == part
}

/// Adds counts that come from a file: their sum may be more than a number holds.
fn add(books: &mut Counts, counts: Counts) {
    for kind in Kind::ALL {
        *books.slot(kind) = books.get(kind).saturating_add(counts.get(kind));
    }
}

/// No element of any kind; a sum over the kinds may be more than a number holds.
fn is_none(counts: Counts) -> bool {
    counts == Counts::default()
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
