//! What the journal says, entry by entry. Pure.
//!
//! An entry names elements by record and ordinal, so it means the same to the next process. Runs are split
//! where the kind changes: what an entry counts follows from the entry alone, without the record.

use crate::log::Seq;
use crate::model::counts::{Counts, Kind};
use crate::model::runs::RunSet;
use crate::queue::batch::{BatchId, Outcome, Run};
use crate::queue::ledger::{DropReason, Ledger};
use crate::queue::records::{Records, Tracked};

/// Neighbouring ordinals of a record that are of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalRun {
    /// Record.
    pub seq: Seq,
    /// First ordinal.
    pub from: u32,
    /// One past the last; greater than `from`.
    pub to: u32,
    /// What they all are.
    pub kind: Kind,
}

impl JournalRun {
    /// The runs that `from..to` of a record is made of; `counts` is what the record holds, skipped series
    /// included.
    pub fn split(seq: Seq, counts: Counts, from: u32, to: u32) -> impl Iterator<Item = Self> {
        let (samples, histograms) = (counts.samples, counts.samples + counts.histograms);
        let [samples, histograms] =
            [samples, histograms].map(|end| u32::try_from(end).unwrap_or(u32::MAX));
        let ranges = [(0, samples), (samples, histograms), (histograms, u32::MAX)];
        let parts = Kind::ALL.into_iter().zip(ranges);
        parts.filter_map(move |(kind, (start, end))| {
            let (from, to) = (from.max(start), to.min(end));
            (from < to).then_some(Self {
                seq,
                from,
                to,
                kind,
            })
        })
    }
}

/// Runs of a queue's records, as a batch has them, in terms of the log; by record and ordinal.
pub fn journal_runs(runs: &[Run], records: &Records) -> Vec<JournalRun> {
    let mut all = Vec::with_capacity(runs.len());
    for run in runs {
        let record = &records.get(run.record).record;
        let parts = JournalRun::split(record.seq, record.counts, run.from, run.to);
        all.extend(parts);
    }
    // They come by slot, and slots are used again.
    all.sort_unstable_by_key(|run| (run.seq, run.from));
    all
}

/// What became of a batch, as the books know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The receiver said it has them.
    pub delivered: Counts,
    /// Refused or unanswered, and perhaps stored.
    pub unconfirmed: Counts,
    /// Set aside for a person to look at.
    pub quarantined: Counts,
    /// Taken out, by reason.
    pub dropped: Vec<(DropReason, Counts)>,
}

impl From<&Outcome> for Settled {
    fn from(outcome: &Outcome) -> Self {
        Self {
            delivered: outcome.delivered,
            unconfirmed: outcome.unconfirmed,
            quarantined: Counts::default(),
            dropped: outcome.dropped.clone(),
        }
    }
}

/// A record of which something is unsettled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// The record.
    pub seq: Seq,
    /// Ordinals settled; those of skipped series among them.
    pub settled: RunSet,
    /// Elements that are not, by kind.
    pub unsettled: Counts,
}

impl From<&Tracked> for Unsettled {
    fn from(tracked: &Tracked) -> Self {
        let record = &tracked.record;
        let gaps = tracked.settled.gaps(record.ordinals());
        Self {
            seq: record.seq,
            settled: tracked.settled.clone(),
            unsettled: gaps.map(|(a, b)| record.counts.in_range(a, b)).sum(),
        }
    }
}

/// What is settled of a record whose own counts the journal does not know yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presettled {
    /// Ordinals settled; those of skipped series are not among them.
    pub runs: RunSet,
    /// Those ordinals, by kind.
    pub counts: Counts,
}

/// All that a journal knows at one moment: what a new file begins with.
///
/// Every record in `cursor..entered` that is not listed is settled whole. Of records from `entered` on
/// nothing is known but what `presettled` and later entries say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's totals when the queue began: what came before is none of its business.
    pub start_totals: Counts,
    /// The oldest record with anything unsettled, or `entered`.
    pub cursor: Seq,
    /// The first record the queue has never come to.
    pub entered: Seq,
    /// The log's totals before that record.
    pub entered_totals: Counts,
    /// What has been settled since the queue began.
    pub ledger: Ledger,
    /// Records in `cursor..entered` of which something is unsettled, by sequence.
    pub records: Vec<Unsettled>,
    /// Records from `entered` on of which something is settled, by sequence. A queue at work has none:
    /// it has come to whatever it settles. After a start there are some until it has come to them again.
    pub presettled: Vec<(Seq, Presettled)>,
    /// Batches without a verdict, by number.
    pub open: Vec<(BatchId, Vec<JournalRun>)>,
    /// The number of the next batch.
    pub next_batch: u64,
}

impl Checkpoint {
    /// The journal of a queue that begins at this record of a log with these totals before it.
    pub fn beginning(at: Seq, totals: Counts) -> Self {
        Self {
            start_totals: totals,
            cursor: at,
            entered: at,
            entered_totals: totals,
            next_batch: 1,
            ..Self::default()
        }
    }
}

/// One entry of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A batch is about to go out for the first time.
    Open {
        /// Its number.
        batch: BatchId,
        /// Its elements.
        runs: Vec<JournalRun>,
    },
    /// A batch has its verdict.
    Done {
        /// Its number.
        batch: BatchId,
        /// What became of its elements; they add up to its runs.
        outcome: Settled,
    },
    /// Elements that were in no batch are taken out.
    Dropped {
        /// Why.
        reason: DropReason,
        /// The elements.
        runs: Vec<JournalRun>,
    },
    /// All that is known now; what was said before need not be read any more.
    Checkpoint(Box<Checkpoint>),
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
