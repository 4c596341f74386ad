//! What the writer's thread shares with everyone else: the store, and who is told when it changes.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::health::{HANGS, Watch};
use super::lock;
use super::log::BeforeDelete;
use super::store::Store;
use super::writer::Append;
use crate::clock::wall_ms;
use crate::log::drain::DrainRate;
use crate::log::handoff::HandOff;
use crate::log::{LogError, Record};

/// While the disk takes nothing, one request is let through to try it in this time.
const TRY_EVERY: Duration = Duration::from_millis(250);
/// When to come back if the disk takes nothing, and what is added at random.
const UNWRITABLE_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(1));
/// How long nothing is deleted after it could not be made sure that settlement is durable.
const TEND_AGAIN: Duration = Duration::from_millis(200);

/// What the writer's thread shares with everyone else.
pub(super) struct Core {
    pub(super) store: Store,
    pub(super) watch: Arc<Watch>,
    pub(super) handoff: Mutex<HandOff>,
    pub(super) trouble: Mutex<Option<Trouble>>,
    pub(super) drain: Mutex<DrainRate>,
    pub(super) before_delete: OnceLock<BeforeDelete>,
    /// The writer knows that there is something to delete.
    pub(super) tend_asked: AtomicBool,
    not_before: Mutex<Option<std::time::Instant>>,
    /// Since when the writer's thread has been waiting for the disk.
    busy_since: Mutex<Option<Instant>>,
    pub(super) closed: AtomicBool,
    /// A record was appended.
    pub(super) appended: Notify,
    /// Room came free, or the log became writable.
    pub(super) freed: Notify,
}

/// The disk takes nothing.
pub(super) struct Trouble {
    pub(super) since: Instant,
    tried: Instant,
}

impl Core {
    pub(super) fn new(store: Store, watch: Arc<Watch>, handoff: HandOff) -> Arc<Self> {
        Arc::new(Self {
            store,
            watch,
            handoff: Mutex::new(handoff),
            trouble: Mutex::new(None),
            drain: Mutex::new(DrainRate::new()),
            before_delete: OnceLock::new(),
            tend_asked: AtomicBool::new(false),
            not_before: Mutex::new(None),
            busy_since: Mutex::new(None),
            closed: AtomicBool::new(false),
            appended: Notify::new(),
            freed: Notify::new(),
        })
    }

    /// The disk takes records, as far as is known, or it is time to find out.
    pub(super) fn may_try(&self) -> Result<(), LogError> {
        // Whoever is let in would only wait behind the others.
        if self.hangs().is_some() {
            return Err(unwritable());
        }
        let mut trouble = lock(&self.trouble);
        if trouble.is_none() && !self.store.reserve().is_there() {
            let now = Instant::now();
            // The first is let through.
            *trouble = Some(Trouble {
                since: now,
                tried: now.checked_sub(TRY_EVERY).unwrap_or(now),
            });
        }
        match &mut *trouble {
            Some(trouble) if trouble.tried.elapsed() < TRY_EVERY => Err(unwritable()),
            Some(trouble) => {
                trouble.tried = Instant::now();
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Since when the disk has not answered, if that is too long.
    pub(super) fn hangs(&self) -> Option<Instant> {
        lock(&self.busy_since).filter(|since| since.elapsed() >= HANGS)
    }

    /// Does what may have to wait for the disk, and lets others know for how long it has.
    fn busy<T>(&self, work: impl FnOnce() -> T) -> T {
        *lock(&self.busy_since) = Some(Instant::now());
        let done = work();
        *lock(&self.busy_since) = None;
        done
    }

    /// Writes a group, and tells everyone who waits.
    pub(super) fn commit(&self, group: Vec<Append>) {
        let (pending, mut rest): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|append| (append.pending, (append.decoded, append.room, append.done)))
            .unzip();
        let mut records = Vec::with_capacity(pending.len());
        let publish = |index: usize, record: &Arc<Record>| {
            if let Some(decoded) = rest[index].0.take() {
                lock(&self.handoff).put_promised(record, decoded);
            }
            records.push(Arc::clone(record));
        };
        let (durable, error) = self.busy(|| self.store.commit(&pending, publish));
        self.note(error.as_ref());
        let mut records = records.into_iter();
        for (index, (decoded, room, done)) in rest.into_iter().enumerate() {
            if let Some(decoded) = decoded {
                lock(&self.handoff).give_up(&decoded);
            }
            drop(room);
            let answer = records.next().filter(|_| index < durable);
            // Who has gone meanwhile does not hear that it was written.
            drop(done.send(answer.ok_or_else(unwritable)));
        }
        self.appended.notify_waiters();
    }

    /// Remembers whether the disk took the last group.
    fn note(&self, error: Option<&io::Error>) {
        let mut trouble = lock(&self.trouble);
        let now = Instant::now();
        match (error, &mut *trouble) {
            (None, None) => {}
            (None, Some(was)) => {
                tracing::info!(after = ?was.since.elapsed(), "the log can be written again");
                *trouble = None;
            }
            (Some(_), Some(was)) => was.tried = was.tried.max(now),
            (Some(error), None) => {
                tracing::error!(%error, "the log cannot be written; senders are told to come back");
                *trouble = Some(Trouble {
                    since: now,
                    tried: now,
                });
            }
        }
    }

    pub(super) fn asked_to_tend(&self) {
        self.tend_asked.store(false, Ordering::Relaxed);
        *lock(&self.not_before) = None;
    }

    /// Deleting was not put off just now.
    pub(super) fn may_tend(&self) -> bool {
        lock(&self.not_before).is_none_or(|until| until <= std::time::Instant::now())
    }

    /// Deletes what may go.
    pub(super) fn tend(&self) {
        self.tend_asked.store(false, Ordering::Relaxed);
        let may_delete = || self.before_delete.get().is_none_or(|hook| hook());
        let freed = self.busy(|| self.store.tend(self.now_ms(), &may_delete));
        let put_off = self.store.is_untidy();
        *lock(&self.not_before) = put_off.then(|| std::time::Instant::now() + TEND_AGAIN);
        if freed > 0 {
            lock(&self.drain).freed(freed);
            self.freed.notify_waiters();
        }
    }

    /// The wall clock, but no later than it was when the log was opened and went on since: no jump of it, forwards
    /// or backwards, makes anything old.
    fn now_ms(&self) -> i64 {
        let (opened, wall) = self.store.options.opened;
        let went_on = wall.saturating_add(opened.elapsed().as_millis() as i64);
        went_on.min(wall_ms())
    }
}

pub(super) fn unwritable() -> LogError {
    let (least, random) = UNWRITABLE_RETRY;
    LogError::Unwritable {
        retry_after: least + random.mul_f64(fastrand::f64()),
    }
}
