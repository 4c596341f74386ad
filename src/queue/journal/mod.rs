//! The settle journal: which batches are open and what is settled, in terms that outlive the process.
//!
//! `open(batch, runs)` is written before the first byte of a batch goes out, `done(batch)` before its
//! lanes are freed. After a crash each open batch is made again of the same elements, alone, and only it
//! may be stored already; what is neither open nor settled is cut anew.
//!
//! [`Journal`] is the form in memory: it keeps the open batches for the audit, and hands every entry on to
//! a [`Sink`], where there is one. The sink on disk is a file of [`entry`]s in the bytes of [`codec`].
//! [`recover`] is what they come to, [`file`] which of the files counts, and [`writer`] the thread that
//! writes them.

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
use std::sync::Arc;

use super::batch::{Batch, BatchId, Outcome};
use super::ledger::DropReason;
use super::records::Records;
use crate::model::counts::Counts;
pub use entry::JournalRun;
use entry::{Checkpoint, Entry, Settled, journal_runs};
pub use writer::Ticket;

/// Takes entries, in order, and never waits.
pub trait Sink: Send + Sync {
    /// The next entry.
    fn write(&self, entry: Entry) -> Ticket;

    /// It has become long, or has missed entries: the next should be a checkpoint.
    fn wants_checkpoint(&self) -> bool;
}

/// The journal in memory.
#[derive(Default)]
pub struct Journal {
    open: HashMap<BatchId, Open>,
    settled: Counts,
    sink: Option<Arc<dyn Sink>>,
    /// Nothing is said before the queue has taken up what the last process left.
    silent: bool,
}

struct Open {
    runs: Vec<JournalRun>,
    /// Where its entry stands.
    ticket: Option<Ticket>,
}

impl Journal {
    /// A journal that hands its entries on; silent until its first checkpoint.
    pub fn to(sink: Arc<dyn Sink>) -> Self {
        Self {
            sink: Some(sink),
            silent: true,
            ..Self::default()
        }
    }

    /// A batch is about to go out for the first time.
    pub fn open(&mut self, batch: &Batch, records: &Records) {
        let runs = journal_runs(&batch.runs, records);
        let ticket = self.write(|| Entry::Open {
            batch: batch.id,
            runs: runs.clone(),
        });
        self.open.insert(batch.id, Open { runs, ticket });
    }

    /// Where the entry stands that must be safe before the batch goes out; `None` if nothing has to be.
    pub fn ticket(&self, batch: BatchId) -> Option<Ticket> {
        self.open.get(&batch)?.ticket
    }

    /// A batch has its verdict. Where the entry stands that should be written before its lanes are freed.
    pub fn done(&mut self, batch: BatchId, outcome: &Outcome) -> Option<Ticket> {
        let open = self.open.remove(&batch);
        debug_assert!(open.is_some(), "only an open batch is done");
        self.settled += outcome.total();
        self.write(|| Entry::Done {
            batch,
            outcome: Settled::from(outcome),
        })
    }

    /// Says too early that a batch is settled: a fault on purpose.
    pub(super) fn say_done(&mut self, batch: &Batch) {
        let outcome = Settled {
            delivered: batch.counts,
            ..Settled::default()
        };
        self.write(|| Entry::Done {
            batch: batch.id,
            outcome,
        });
    }

    /// Elements that are in no batch are taken out.
    pub fn dropped(&mut self, reason: DropReason, runs: impl FnOnce() -> Vec<JournalRun>) {
        self.write(|| Entry::Dropped {
            reason,
            runs: runs(),
        });
    }

    /// All that the queue knows now.
    pub fn checkpoint(&mut self, checkpoint: Checkpoint) {
        self.silent = false;
        self.write(|| Entry::Checkpoint(Box::new(checkpoint)));
    }

    /// The sink asks for a checkpoint.
    pub fn wants_checkpoint(&self) -> bool {
        let sink = self.sink.as_ref().filter(|_| !self.silent);
        sink.is_some_and(|sink| sink.wants_checkpoint())
    }

    /// Somebody keeps it for the next process.
    pub fn is_kept(&self) -> bool {
        self.sink.is_some()
    }

    /// It does not say yet what happens.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Batches that are open, with their elements.
    pub fn open_batches(&self) -> impl Iterator<Item = (BatchId, &[JournalRun])> {
        self.open.iter().map(|(id, open)| (*id, &*open.runs))
    }

    fn write(&self, entry: impl FnOnce() -> Entry) -> Option<Ticket> {
        let sink = self.sink.as_ref().filter(|_| !self.silent)?;
        Some(sink.write(entry()))
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
            let open = self.open.get(&batch.id).map(|open| &open.runs);
            if open != Some(&journal_runs(&batch.runs, records)) {
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
