//! A log and journals that outlive the process: what a crash leaves of them is decided here.
//!
//! The log is the one in memory, which the simulation keeps when it throws the queues away. A record goes only
//! once the journal's entry that gave it back is safe, as on a disk.

use std::sync::{Arc, Mutex};

use sluicegate::log::memory::MemoryLog;
use sluicegate::log::{Fetched, Gone, Log, QueueIndex, Record, Seq};
use sluicegate::model::counts::Counts;
use sluicegate::queue::journal::entry::{Checkpoint, Entry};
use sluicegate::queue::journal::recover::Recovered;
use sluicegate::queue::journal::{Sink, Ticket};
use tokio::time::Instant;

use super::queue::locked;

/// The journal of a queue.
#[derive(Default)]
pub(crate) struct File {
    state: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    entries: Vec<Entry>,
    /// So many of them are safe.
    synced: usize,
    /// Records given back, each with the number of entries at that time.
    released: Vec<(usize, Seq)>,
}

impl Sink for File {
    fn write(&self, entry: Entry) -> Ticket {
        let mut written = locked(&self.state);
        written.entries.push(entry);
        Ticket(written.entries.len() as u64)
    }

    fn wants_checkpoint(&self) -> bool {
        locked(&self.state).entries.len().is_multiple_of(7)
    }
}

/// The log and all journals.
pub(crate) struct Disk {
    log: Arc<MemoryLog>,
    files: Vec<Arc<File>>,
}

impl Disk {
    pub(crate) fn new(log: Arc<MemoryLog>, queues: usize) -> Self {
        Self {
            log,
            files: (0..queues).map(|_| Arc::default()).collect(),
        }
    }

    fn file(&self, queue: QueueIndex) -> &File {
        &self.files[usize::from(queue.0)]
    }

    pub(crate) fn sink(&self, queue: QueueIndex) -> Arc<dyn Sink> {
        Arc::clone(&self.files[usize::from(queue.0)]) as Arc<dyn Sink>
    }

    /// A new journal, with its first checkpoint safe.
    pub(crate) fn begin(&self, queue: QueueIndex, end: Seq, totals: Counts) -> Arc<dyn Sink> {
        let sink = self.sink(queue);
        let checkpoint = Checkpoint::beginning(end, totals);
        let ticket = sink.write(Entry::Checkpoint(Box::new(checkpoint)));
        self.sync_to(queue, ticket);
        sink
    }

    /// Entries written so far.
    pub(crate) fn written(&self, queue: QueueIndex) -> Ticket {
        Ticket(locked(&self.file(queue).state).entries.len() as u64)
    }

    /// Makes entries safe, up to this one, and lets go what they give back.
    pub(crate) fn sync_to(&self, queue: QueueIndex, ticket: Ticket) {
        let mut written = locked(&self.file(queue).state);
        written.synced = written.synced.max(ticket.0 as usize);
        let synced = written.synced;
        let released = std::mem::take(&mut written.released);
        let (safe, not_yet): (Vec<_>, _) = released.into_iter().partition(|(at, _)| *at <= synced);
        written.released = not_yet;
        drop(written);
        for (_, seq) in safe {
            self.log.release(queue, seq);
        }
    }

    /// Makes everything safe.
    pub(crate) fn sync(&self) {
        for queue in 0..self.files.len() {
            let queue = QueueIndex(queue as u8);
            self.sync_to(queue, self.written(queue));
        }
    }

    /// The process dies: what is safe stays, and some of what is not. What is left says so much, and so many
    /// entries were kept.
    pub(crate) fn crash(&self, queue: QueueIndex, rng: &mut fastrand::Rng) -> (Recovered, Ticket) {
        let mut written = locked(&self.file(queue).state);
        let kept = rng.usize(written.synced..=written.entries.len());
        written.entries.truncate(kept);
        (written.synced, written.released) = (kept, Vec::new());
        let mut recovered = Recovered::default();
        for entry in &written.entries {
            recovered.apply(entry.clone());
        }
        assert_eq!(recovered.odd, 0, "entries fit one another");
        (recovered, Ticket(kept as u64))
    }
}

impl Log for Disk {
    fn is_at_hand(&self, queue: QueueIndex, seq: Seq) -> bool {
        self.log.is_at_hand(queue, seq)
    }

    fn fetch(&self, queue: QueueIndex, seq: Seq) -> Option<Fetched> {
        self.log.fetch(queue, seq)
    }

    fn end_behind(&self, seq: Seq) -> Option<(Seq, Counts)> {
        self.log.end_behind(seq)
    }

    fn first(&self, seq: Seq) -> Option<Arc<Record>> {
        self.log.first(seq)
    }

    fn totals_before(&self, seq: Seq) -> Counts {
        self.log.totals_before(seq)
    }

    fn end(&self) -> (Seq, Counts) {
        self.log.end()
    }

    fn holds(&self, seq: Seq) -> bool {
        self.log.holds(seq)
    }

    fn arrival(&self, seq: Seq) -> Option<Instant> {
        self.log.arrival(seq)
    }

    fn why_gone(&self, seq: Seq) -> Gone {
        self.log.why_gone(seq)
    }

    fn release(&self, queue: QueueIndex, seq: Seq) {
        let mut written = locked(&self.file(queue).state);
        let at = written.entries.len();
        written.released.push((at, seq));
    }

    fn release_range(&self, queue: QueueIndex, from: Seq, to: Seq) {
        let mut at = from;
        while let Some(record) = self.log.first(at).filter(|record| record.seq < to) {
            self.log.release(queue, record.seq);
            at = record.seq.next();
        }
    }

    fn appended(&self, seq: Seq) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.log.appended(seq)
    }
}
