//! The settle journal: which batches are open and what is settled, in terms that outlive the process.
//!
//! `open(batch, runs)` is written before the first byte of a batch goes out, `done(batch)` before its
//! lanes are freed. After a crash each open batch is made again of the same elements, alone, and only it
//! may be stored already; what is neither open nor settled is cut anew.
//!
//! [`Journal`] is the form in memory, which keeps the open batches for the audit. The form on disk is a
//! file of [`entry`]s in the bytes of [`codec`]. [`recover`] is what they come to, [`file`] which of the
//! files counts, and [`writer`] the thread that writes them.

pub mod codec;
pub mod entry;
pub mod file;
mod payload;
pub mod recover;
mod thread;
pub mod writer;

#[cfg(test)]
mod folder_fixture;
#[cfg(test)]
mod world_fixture;

use std::collections::HashMap;

use super::batch::{Batch, BatchId, Outcome};
use super::records::Records;
use crate::model::counts::Counts;
pub use entry::JournalRun;
use entry::journal_runs;

/// The journal in memory.
#[derive(Debug, Default)]
pub struct Journal {
    open: HashMap<BatchId, Vec<JournalRun>>,
    settled: Counts,
}

impl Journal {
    /// A batch is about to go out for the first time.
    pub fn open(&mut self, batch: &Batch, records: &Records) {
        self.open
            .insert(batch.id, journal_runs(&batch.runs, records));
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
            if self.open.get(&batch.id) != Some(&journal_runs(&batch.runs, records)) {
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
