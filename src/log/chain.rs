//! A backlog on disk, and behind it the log in memory: what is found in a folder is sent first, whatever an
//! acknowledgement means now.

use std::pin::Pin;
use std::sync::Arc;

use tokio::time::Instant;

use super::disk::DiskLog;
use super::memory::MemoryLog;
use super::{Fetched, Gone, Log, QueueIndex, Record, Seq};
use crate::model::counts::Counts;

/// Two logs, one behind the other.
pub struct Chain {
    old: Arc<DiskLog>,
    new: Arc<MemoryLog>,
    /// The first record of the new one.
    from: Seq,
}

impl Chain {
    /// The log in memory goes on where the one on disk ends: it must have been made so.
    pub fn new(old: Arc<DiskLog>, new: Arc<MemoryLog>) -> Self {
        let from = old.end().0;
        debug_assert_eq!(
            new.end().0,
            from,
            "the new log begins where the old one ends"
        );
        Self { old, new, from }
    }

    fn in_old(&self, seq: Seq) -> bool {
        seq < self.from && self.old.end_behind(seq).is_none()
    }
}

impl Log for Chain {
    fn is_at_hand(&self, queue: QueueIndex, seq: Seq) -> bool {
        !self.in_old(seq) || self.old.is_at_hand(queue, seq)
    }

    fn fetch(&self, queue: QueueIndex, seq: Seq) -> Option<Fetched> {
        let old = (seq < self.from).then(|| self.old.fetch(queue, seq));
        old.flatten()
            .or_else(|| self.new.fetch(queue, seq.max(self.from)))
    }

    fn end_behind(&self, seq: Seq) -> Option<(Seq, Counts)> {
        (!self.in_old(seq)).then(|| self.new.end_behind(seq))?
    }

    fn first(&self, seq: Seq) -> Option<Arc<Record>> {
        let old = (seq < self.from).then(|| self.old.first(seq));
        old.flatten().or_else(|| self.new.first(seq.max(self.from)))
    }

    fn totals_before(&self, seq: Seq) -> Counts {
        if self.in_old(seq) {
            self.old.totals_before(seq)
        } else {
            self.new.totals_before(seq.max(self.from))
        }
    }

    fn end(&self) -> (Seq, Counts) {
        self.new.end()
    }

    fn holds(&self, seq: Seq) -> bool {
        if seq < self.from {
            self.old.holds(seq)
        } else {
            self.new.holds(seq)
        }
    }

    fn arrival(&self, seq: Seq) -> Option<Instant> {
        let old = (seq < self.from).then(|| self.old.arrival(seq));
        old.flatten()
            .or_else(|| self.new.arrival(seq.max(self.from)))
    }

    fn why_gone(&self, seq: Seq) -> Gone {
        if seq < self.from {
            self.old.why_gone(seq)
        } else {
            self.new.why_gone(seq)
        }
    }

    fn release(&self, queue: QueueIndex, seq: Seq) {
        if seq < self.from {
            self.old.release(queue, seq);
        } else {
            self.new.release(queue, seq);
        }
    }

    fn release_range(&self, queue: QueueIndex, from: Seq, to: Seq) {
        self.old.release_range(queue, from, to.min(self.from));
    }

    fn appended(&self, seq: Seq) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        if self.in_old(seq) {
            return Box::pin(std::future::ready(()));
        }
        self.new.appended(seq.max(self.from))
    }
}
