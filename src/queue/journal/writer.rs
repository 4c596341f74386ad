//! The journal at work: a thread for each queue that writes what it is given, in order.
//!
//! Whoever writes never waits. Whoever sends waits in [`JournalWriter::synced`] until its `open` is durable;
//! all that arrived meanwhile share a sync, and syncs begin at least 20 ms apart, at once when none was
//! shortly before. `done` and `dropped` are written at once and synced by whatever is synced next: what
//! is lost of them with the power is sent again.
//!
//! # When it cannot be written
//! Sending goes on; a disk that has not answered for [`HANGS`] is as good as one that refuses. A file on which
//! a write or a sync failed is never touched again, because nobody can say what is in it. Entries are then left
//! out until a checkpoint begins a new file, which holds all they would have said;
//! [`JournalWriter::wants_checkpoint`] asks for it, at most twice a second.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::Notify;

use super::Sink;
use super::entry::{Checkpoint, Entry};
use super::file::Past;
use super::thread::Scribe;
use crate::clock;
use crate::log::disk::fs::Fs;
use crate::log::disk::health::{HANGS, silence};

/// Makes room on a full disk by giving up what was kept for that; `true` when there is more now. Called on
/// the journal's thread: it must not wait for anything that waits in [`JournalWriter::sync_now`].
pub type OnFull = Arc<dyn Fn() -> bool + Send + Sync>;

/// Stands for an entry, and for all that were written before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// How the journal is, at one moment.
#[derive(Clone, Debug, Default)]
pub struct JournalHealth {
    /// Bytes of the file that entries go to.
    pub bytes: u64,
    /// Its number; 0 when there is none.
    pub generation: u64,
    /// Since when nothing can be written; `None` while all is well.
    pub unwritable_since: Option<Instant>,
    /// Entries that were left out, until a checkpoint said it all.
    pub left_out: u64,
    /// Operations that failed.
    pub errors: u64,
    /// The latest failure.
    pub last_error: Option<String>,
    /// Syncs of entries, failed ones too.
    pub syncs: u64,
}

/// What writers, waiters and the thread share.
#[derive(Default)]
pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// For the thread: there is something to do.
    pub(super) work: Condvar,
    /// For those who block until something is decided.
    decided: Condvar,
    /// For those who wait for it.
    changed: Notify,
    pub(super) wants_checkpoint: AtomicBool,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) entries: Vec<Entry>,
    /// Entries given so far.
    pub(super) given: u64,
    /// Of these, how many were written, or left out for good.
    pub(super) written: u64,
    /// Of these, how many are durable, themselves or in a checkpoint.
    pub(super) durable: u64,
    /// Of these, for how many nobody needs to wait any more.
    pub(super) released: u64,
    /// There is no file to write to.
    pub(super) unwritable: bool,
    /// Somebody wants so many entries durable, `done` and `dropped` too.
    pub(super) sync_wanted: u64,
    pub(super) checkpoints: usize,
    pub(super) closing: bool,
    /// Since when the thread has been waiting for the disk.
    pub(super) busy_since: Option<clock::Instant>,
    /// The thread is gone.
    pub(super) ended: bool,
    pub(super) health: JournalHealth,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many entries are in their file, as far as one could be written.
    pub(super) fn written(&self, seen: u64) {
        self.lock().written = seen;
        self.announce();
    }

    /// Tells all who wait that they may look again.
    pub(super) fn announce(&self) {
        self.decided.notify_all();
        self.changed.notify_waiters();
    }
}

impl Inner {
    /// Is all up to the ticket durable? `None`: that is still open.
    fn fate(&self, ticket: Ticket) -> Option<bool> {
        if self.durable >= ticket.0 {
            return Some(true);
        }
        let decided =
            self.unwritable || self.released >= ticket.0 || self.ended || self.hangs().is_some();
        decided.then_some(false)
    }

    /// Since when the disk has not answered, if that is too long.
    fn hangs(&self) -> Option<clock::Instant> {
        self.busy_since.filter(|since| since.elapsed() >= HANGS)
    }
}

/// The journal of a queue, to be written to from anywhere.
pub struct JournalWriter {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl JournalWriter {
    /// Starts the thread; the first thing it does is to begin a new file with `checkpoint`. `past` is what
    /// [`super::file::open`] found.
    ///
    /// # Errors
    /// When the system gives no thread. A file that cannot be made is no error: see [`Self::health`].
    pub fn start(
        fs: Arc<dyn Fs>,
        queue: &str,
        past: Past,
        checkpoint: Checkpoint,
        on_full: OnFull,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let scribe = Scribe::new(Arc::clone(&shared), fs, queue.to_owned(), past, on_full);
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || scribe.run())?;
        let writer = Self {
            shared,
            thread: Mutex::new(Some(thread)),
        };
        writer.write(Entry::Checkpoint(Box::new(checkpoint)));
        Ok(writer)
    }

    /// Adds an entry after all that were added before. Never waits; may be called under a lock.
    pub fn write(&self, entry: Entry) -> Ticket {
        let mut inner = self.shared.lock();
        inner.given += 1;
        let ticket = Ticket(inner.given);
        if matches!(entry, Entry::Checkpoint(_)) {
            inner.checkpoints += 1;
            self.shared.wants_checkpoint.store(false, Ordering::Relaxed);
        }
        if !inner.ended {
            inner.entries.push(entry);
        }
        drop(inner);
        self.shared.work.notify_one();
        ticket
    }

    /// Waits until everything up to the ticket is durable, and says whether it is: when the journal cannot
    /// be written this returns at once, or as soon as that is known; when the disk hangs, once [`Self::look`] sees it.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn synced(&self, ticket: Ticket) -> bool {
        loop {
            let changed = self.shared.changed.notified();
            if let Some(durable) = self.shared.lock().fate(ticket) {
                return durable;
            }
            changed.await;
        }
    }

    /// Waits until everything up to the ticket is in the file: a kill of the process does not lose it, the
    /// loss of power may. Returns too when that cannot be.
    ///
    /// # Cancel safety
    /// Nothing is lost when it is dropped.
    pub async fn written(&self, ticket: Ticket) {
        loop {
            let changed = self.shared.changed.notified();
            {
                let inner = self.shared.lock();
                if inner.written >= ticket.0 || inner.ended || inner.hangs().is_some() {
                    return;
                }
            }
            changed.await;
        }
    }

    /// To be called now and then: lets those go on who wait for a disk that hangs.
    pub fn look(&self) {
        if self.shared.lock().hangs().is_some() {
            self.shared.announce();
        }
    }

    /// Makes everything written so far durable, and says whether it is. Blocks: for the log, before it
    /// removes what the journal says is settled.
    pub fn sync_now(&self) -> bool {
        let mut inner = self.shared.lock();
        let wanted = inner.given;
        inner.sync_wanted = wanted;
        self.shared.work.notify_one();
        let pending = |inner: &Inner| inner.durable < wanted && inner.released < wanted;
        while pending(&inner) && !inner.ended && inner.hangs().is_none() {
            inner = self
                .shared
                .decided
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
        }
        inner.durable >= wanted
    }

    /// Somebody should write a checkpoint: the file has grown, or a new one must be begun.
    pub fn wants_checkpoint(&self) -> bool {
        self.shared.wants_checkpoint.load(Ordering::Relaxed)
    }

    /// How it is.
    pub fn health(&self) -> JournalHealth {
        let inner = self.shared.lock();
        let mut health = inner.health.clone();
        if let Some(since) = inner.hangs() {
            health.unwritable_since.get_or_insert(since.into_std());
            health.last_error = Some(silence(since));
        }
        health
    }

    /// Writes what it was given, syncs it and ends the thread. Blocks. Says whether all of it is durable.
    pub fn close(&self) -> bool {
        self.end();
        let thread = self.thread.lock();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic there has ended the process.
            drop(thread.join());
        }
        let inner = self.shared.lock();
        inner.durable >= inner.given
    }

    fn end(&self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
    }
}

impl Sink for JournalWriter {
    fn write(&self, entry: Entry) -> Ticket {
        Self::write(self, entry)
    }

    fn wants_checkpoint(&self) -> bool {
        Self::wants_checkpoint(self)
    }
}

impl Drop for JournalWriter {
    /// The thread writes what it was given, syncs it and ends; nobody waits for that.
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
