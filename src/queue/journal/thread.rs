//! The thread of a journal: see [`super::writer`].

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::codec::put_frame;
use super::entry::{Checkpoint, Entry};
use super::file::{Generation, NotBegun, Past, begin};
use super::writer::{JournalHealth, OnFull, Shared};
use crate::clock;
use crate::log::disk::fs::Fs;
use crate::vital::Vital;

/// Syncs begin at least so far apart: 50 a second.
const SYNC_GAP: Duration = Duration::from_millis(20);
/// A new file is tried again after this.
const RETRY: Duration = Duration::from_millis(500);
/// A file is replaced when it is greater than this, and than so many times what it began with.
const GROWN: (u64, u64) = (1 << 20, 4);
/// Bytes of the buffer that are kept.
const BUFFER_KEPT: usize = 1 << 20;

/// What the thread is given to do.
struct Work {
    entries: Vec<Entry>,
    sync_wanted: u64,
    closing: bool,
}

/// Who writes: all that only the thread knows.
pub(super) struct Scribe {
    shared: Arc<Shared>,
    fs: Arc<dyn Fs>,
    queue: String,
    on_full: OnFull,
    /// `None`: nothing can be written before the next checkpoint.
    file: Option<Generation>,
    past: Past,
    buffer: Vec<u8>,
    /// Entries come to so far.
    seen: u64,
    /// Of these, how many are durable, or said by a durable checkpoint.
    durable: u64,
    /// An `open` waits for a sync.
    open_unsynced: bool,
    last_sync: Option<Instant>,
    /// When a checkpoint was last tried.
    last_try: Option<Instant>,
    /// No new file is tried before then.
    retry_at: Option<Instant>,
    unwritable_since: Option<Instant>,
    left_out: u64,
    errors: u64,
    last_error: Option<String>,
    syncs: u64,
}

impl Scribe {
    pub(super) fn new(
        shared: Arc<Shared>,
        fs: Arc<dyn Fs>,
        queue: String,
        past: Past,
        on_full: OnFull,
    ) -> Self {
        Self {
            shared,
            fs,
            queue,
            on_full,
            file: None,
            past,
            buffer: Vec::new(),
            seen: 0,
            durable: 0,
            open_unsynced: false,
            last_sync: None,
            last_try: None,
            retry_at: None,
            unwritable_since: None,
            left_out: 0,
            errors: 0,
            last_error: None,
            syncs: 0,
        }
    }

    pub(super) fn run(mut self) {
        let _vital = Vital;
        let mut done = false;
        while !done {
            let work = self.next();
            self.write(work.entries);
            self.shared.written(self.seen);
            if self.sync_due(work.sync_wanted, work.closing, Instant::now()) {
                self.shared.lock().busy_since = Some(clock::Instant::now());
                self.sync();
            }
            done = self.tell(work.closing);
        }
    }

    /// Waits until there is something to do.
    fn next(&self) -> Work {
        let mut inner = self.shared.lock();
        loop {
            let now = Instant::now();
            let at = [self.sync_at(inner.sync_wanted, now), self.retry_at];
            let at = at.into_iter().flatten().min();
            let due = at.is_some_and(|at| at <= now);
            if due || !inner.entries.is_empty() || inner.closing {
                inner.checkpoints = 0;
                inner.busy_since = Some(clock::Instant::now());
                return Work {
                    entries: std::mem::take(&mut inner.entries),
                    sync_wanted: inner.sync_wanted,
                    closing: inner.closing,
                };
            }
            let work = &self.shared.work;
            inner = match at {
                None => work.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(at) => {
                    let waited = work.wait_timeout(inner, at - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// When the next sync begins, if anybody waits for one.
    fn sync_at(&self, wanted: u64, now: Instant) -> Option<Instant> {
        self.file.as_ref()?;
        let waited_for = self.open_unsynced || self.durable < wanted.min(self.seen);
        waited_for.then(|| self.last_sync.map_or(now, |last| last + SYNC_GAP))
    }

    fn sync_due(&self, wanted: u64, closing: bool, now: Instant) -> bool {
        if closing {
            return self.file.is_some() && self.durable < self.seen;
        }
        self.sync_at(wanted, now).is_some_and(|at| at <= now)
    }

    fn write(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            if let Entry::Checkpoint(checkpoint) = entry {
                // Should the new file fail, the old one goes on.
                self.put_out();
                self.seen += 1;
                self.begin(checkpoint);
            } else {
                self.seen += 1;
                self.add(&entry);
            }
        }
        self.put_out();
        self.buffer.shrink_to(BUFFER_KEPT);
    }

    fn add(&mut self, entry: &Entry) {
        let Some(file) = &self.file else {
            self.left_out += 1;
            return;
        };
        self.open_unsynced |= matches!(entry, Entry::Open { .. });
        if put_frame(&mut self.buffer, file.salt, entry).is_err() {
            self.poison(&io::Error::other("an entry is too large to be written"));
        }
    }

    /// Writes the buffer.
    fn put_out(&mut self) {
        if let Some(file) = self.file.as_mut().filter(|_| !self.buffer.is_empty()) {
            let put = |file: &Generation| file.file.write_at(&self.buffer, file.length);
            let mut written = put(file);
            if written.as_ref().is_err_and(is_full) && (self.on_full)() {
                written = put(file);
            }
            match written {
                Ok(()) => file.length += self.buffer.len() as u64,
                Err(error) => self.poison(&error),
            }
        }
        self.buffer.clear();
    }

    /// Makes all that was written durable.
    fn sync(&mut self) {
        let Some(file) = &self.file else { return };
        self.last_sync = Some(Instant::now());
        self.syncs += 1;
        match file.file.sync() {
            Ok(()) => {
                self.durable = self.seen;
                self.open_unsynced = false;
            }
            Err(error) => self.poison(&error),
        }
    }

    /// Begins a new file; when it is durable the older ones go.
    fn begin(&mut self, checkpoint: Box<Checkpoint>) {
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| now < at) {
            // It is asked for again in time.
            self.left_out += u64::from(self.file.is_none());
            return;
        }
        (self.retry_at, self.last_try) = (None, Some(now));
        let entry = Entry::Checkpoint(checkpoint);
        let mut begun = self.try_to_begin(&entry);
        if begun.as_ref().is_err_and(|not| is_full(&not.error)) && (self.on_full)() {
            begun = self.try_to_begin(&entry);
        }
        match begun {
            Ok(file) => self.begun(file),
            Err(NotBegun { error, left }) => self.not_begun(&error, left),
        }
    }

    fn try_to_begin(&mut self, checkpoint: &Entry) -> Result<Generation, NotBegun> {
        self.past.generation += 1;
        self.last_sync = Some(Instant::now());
        let numbers = (self.past.generation, fastrand::u32(..));
        begin(&*self.fs, &self.queue, numbers, checkpoint)
    }

    fn begun(&mut self, file: Generation) {
        if let Some(old) = self.file.replace(file) {
            self.past.replaced.push(old.name);
        }
        self.durable = self.seen;
        self.open_unsynced = false;
        if self.unwritable_since.take().is_some() {
            tracing::info!(queue = self.queue, "the journal can be written again");
        }
        // One that stays is removed with the next change, or found and passed over at the next start.
        let fs = &*self.fs;
        let stays = |name: &String| match fs.remove(name) {
            Ok(()) => false,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        self.past.replaced.retain(stays);
    }

    fn not_begun(&mut self, error: &io::Error, left: Option<String>) {
        let doubtful = left.is_some();
        self.past.replaced.extend(left);
        if doubtful || self.file.is_none() {
            // After a crash the new file might count, so nothing must be said in the old one any more.
            self.poison(error);
        } else {
            self.failed(error);
        }
        self.retry_at = Some(Instant::now() + RETRY);
    }

    /// The file is never touched again.
    fn poison(&mut self, error: &io::Error) {
        self.failed(error);
        if let Some(file) = self.file.take() {
            self.past.replaced.push(file.name);
        }
        self.buffer.clear();
        self.open_unsynced = false;
        let now = Instant::now();
        if self.unwritable_since.is_none() {
            tracing::error!(
                queue = self.queue,
                error = error.to_string(),
                "the journal cannot be written: after a crash more will be sent twice"
            );
            self.unwritable_since = Some(now);
        }
        self.retry_at = Some(self.last_try.map_or(now, |last| now.max(last + RETRY)));
    }

    fn failed(&mut self, error: &io::Error) {
        self.errors += 1;
        self.last_error = Some(error.to_string());
    }

    /// Tells the others how things stand; `true` when the thread is done.
    fn tell(&mut self, closing: bool) -> bool {
        let asks = self.asks_for_checkpoint();
        let mut inner = self.shared.lock();
        inner.busy_since = None;
        inner.durable = self.durable;
        inner.unwritable = self.file.is_none() && self.last_try.is_some();
        inner.released = if inner.unwritable {
            self.seen
        } else {
            self.durable
        };
        if asks && inner.checkpoints == 0 {
            self.shared.wants_checkpoint.store(true, Ordering::Relaxed);
        }
        inner.health = JournalHealth {
            bytes: self.file.as_ref().map_or(0, |file| file.length),
            generation: self.file.as_ref().map_or(0, |file| file.number),
            unwritable_since: self.unwritable_since,
            left_out: self.left_out,
            errors: self.errors,
            last_error: self.last_error.clone(),
            syncs: self.syncs,
        };
        let done = closing && inner.entries.is_empty();
        inner.ended = done;
        drop(inner);
        self.shared.announce();
        done
    }

    fn asks_for_checkpoint(&mut self) -> bool {
        let again = self.retry_at.is_some_and(|at| at <= Instant::now());
        if again {
            self.retry_at = None;
        }
        let grown = |file: &Generation| file.length > GROWN.0.max(GROWN.1 * file.begin);
        again || self.retry_at.is_none() && self.file.as_ref().is_some_and(grown)
    }
}

/// There is no room, on the disk or for this user.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
