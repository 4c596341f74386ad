//! The settle journal: which batches are open, in terms that outlive the process.
//!
//! `open(batch, runs)` is written before the first byte of a batch goes out, `done(batch)` before its
//! lanes are freed. After a crash each open batch is made again of the same elements, alone, and only it
//! may be stored already. This is the form in memory, which keeps the open ones for the audit; the form on
//! disk writes the same two entries.

use std::collections::HashMap;

use super::batch::{Batch, BatchId, Outcome};
use super::records::Records;
use crate::log::Seq;
use crate::model::counts::Counts;

/// Neighbouring ordinals of a record, by its sequence: what an entry of the journal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalRun {
    /// Record.
    pub seq: Seq,
    /// First ordinal.
    pub from: u32,
    /// One past the last.
    pub to: u32,
}

/// The journal in memory.
#[derive(Debug, Default)]
pub struct Journal {
    open: HashMap<BatchId, Vec<JournalRun>>,
    settled: Counts,
}

impl Journal {
    /// A batch is about to go out for the first time.
    pub fn open(&mut self, batch: &Batch, records: &Records) {
        self.open.insert(batch.id, runs_by_seq(batch, records));
    }

    /// A batch has its verdict.
    pub fn done(&mut self, batch: BatchId, outcome: &Outcome) {
        let open = self.open.remove(&batch);
        debug_assert!(open.is_some(), "only an open batch is done");
        self.settled += outcome.total();
    }

    /// Batches that are open.
    pub fn open_batches(&self) -> usize {
        self.open.len()
    }

    /// The open entries against the batches in flight.
    pub(super) fn audit<'b>(
        &self,
        flights: impl Iterator<Item = &'b Batch>,
        records: &Records,
    ) -> Result<(), String> {
        let mut count = 0;
        for batch in flights {
            count += 1;
            if self.open.get(&batch.id) != Some(&runs_by_seq(batch, records)) {
                return Err(format!(
                    "batch {} is in flight but not open as it is",
                    batch.id.0
                ));
            }
        }
        if count == self.open.len() {
            Ok(())
        } else {
            Err(format!(
                "{} batches are open, {count} in flight",
                self.open.len()
            ))
        }
    }
}

fn runs_by_seq(batch: &Batch, records: &Records) -> Vec<JournalRun> {
    let run = |run: &super::batch::Run| JournalRun {
        seq: records.get(run.record).record.seq,
        from: run.from,
        to: run.to,
    };
    batch.runs.iter().map(run).collect()
}
