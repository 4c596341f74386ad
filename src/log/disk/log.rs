//! The log on disk as ingest and the queues see it: [`Store`] with a thread that writes.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::fs::Fs;
use super::health::{self, Health, Watched};
use super::reserve::Reserve;
use super::shared::{Core, unwritable};
use super::store::{Pending, Store, StoreOptions};
use super::writer::{self, Append, Command};
use super::{DiskOptions, Floor, Opened, StorageError, lock};
use crate::log::handoff::HandOff;
use crate::log::{
    Fetched, Gone, Log, LogError, NewRecord, Occupancy, QueueIndex, RECORD_OVERHEAD, Record, Seq,
    Tenant,
};
use crate::model::counts::Counts;

/// How often a request that waits for room looks by itself: what only queues that are not required still
/// want goes when it asks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Asked before anything is deleted: makes durable what queues have settled, or says `false`.
pub type BeforeDelete = Box<dyn Fn() -> bool + Send + Sync>;

/// The log on disk.
pub struct DiskLog {
    core: Arc<Core>,
    commands: Mutex<Sender<Command>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Room in the log, promised to a request whose body is not read yet.
pub struct Room {
    core: Weak<Core>,
    bytes: u64,
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.store.unreserve(self.bytes);
            core.freed.notify_waiters();
        }
    }
}

impl DiskLog {
    /// Opens a folder, and says what is there. Blocks: reads what a crash left unsealed.
    ///
    /// A disk that cannot be written is no error; the log then refuses records until it can.
    ///
    /// # Errors
    /// When the folder has another format, or cannot be read at all.
    pub fn open(
        fs: Arc<dyn Fs>,
        options: DiskOptions,
        floor: Floor,
    ) -> Result<(Arc<Self>, Opened), StorageError> {
        let (watched, watch) = Watched::watch(Arc::clone(&fs));
        let queues = options.required.len();
        let opened = (Instant::now(), options.now_ms);
        let mut store = StoreOptions::new(options.max_bytes, options.required, opened);
        store.on_full = options.on_full;
        let age = |age: Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        store.max_age_ms = options.max_age.map(age);
        let (store, opened) = Store::open(watched, store, floor)?;
        let handoff = HandOff::new(options.handoff_limit, queues);
        let core = Core::new(store, watch, handoff);
        let (commands, asked) = channel();
        let writer = Arc::clone(&core);
        let thread = spawn("log", move || writer::run(&writer, &asked))?;
        if options.probe {
            let core = Arc::clone(&core);
            // It times the disk, not the log: a failure to begin is no reason not to run.
            drop(spawn("log-probe", move || {
                health::probe(&*fs, &core.watch, &core.closed);
            }));
        }
        let log = Self {
            core,
            commands: Mutex::new(commands),
            thread: Mutex::new(Some(thread)),
        };
        Ok((Arc::new(log), opened))
    }

    /// The folder, for what else is kept in it.
    pub fn folder(&self) -> Arc<dyn Fs> {
        Arc::clone(&self.core.store.fs)
    }

    /// Before anything is deleted this is asked; it makes durable what queues have settled. May be set once.
    pub fn before_delete(&self, hook: BeforeDelete) {
        let set = self.core.before_delete.set(hook);
        debug_assert!(set.is_ok(), "set once");
    }

    /// The reserve, for those who write settlement.
    pub fn reserve_file(&self) -> Arc<Reserve> {
        Arc::clone(self.core.store.reserve())
    }

    /// Waits up to `wait` for room for a body of `bytes`.
    ///
    /// # Errors
    /// [`LogError::Full`] when there was none; [`LogError::Unwritable`] at once while the disk takes nothing,
    /// but for one request now and then, which is to find out whether it does again.
    ///
    /// # Cancel safety
    /// Nothing is reserved when the future is dropped.
    pub async fn reserve(
        self: &Arc<Self>,
        bytes: u64,
        tenant: &Tenant,
        wait: Duration,
    ) -> Result<Room, LogError> {
        self.core.may_try()?;
        self.reserve_again(bytes, tenant, wait).await
    }

    /// The same for a request that may try already.
    ///
    /// # Errors
    /// [`LogError::Full`] when there was no room; [`LogError::Unwritable`] while the disk hangs.
    ///
    /// # Cancel safety
    /// Nothing is reserved when the future is dropped.
    pub async fn reserve_again(
        self: &Arc<Self>,
        bytes: u64,
        tenant: &Tenant,
        wait: Duration,
    ) -> Result<Room, LogError> {
        let core = &self.core;
        if core.hangs().is_some() {
            return Err(unwritable());
        }
        let deadline = Instant::now() + wait;
        let bytes = bytes + RECORD_OVERHEAD as u64;
        loop {
            let freed = core.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let missing = match core.store.try_reserve(bytes, tenant) {
                Ok(()) => {
                    let core = Arc::downgrade(core);
                    return Ok(Room { core, bytes });
                }
                Err(missing) => missing,
            };
            self.ask_to_tend();
            let again = deadline.min(Instant::now() + LOOK_AGAIN);
            if tokio::time::timeout_at(again, freed).await.is_err() && again == deadline {
                let retry_after = lock(&core.drain).retry_after(missing);
                return Err(LogError::Full { retry_after });
            }
        }
    }

    /// Appends a record in the room that was reserved for it. When this returns it is durable.
    ///
    /// # Errors
    /// [`LogError::Unwritable`]: it is not in the log.
    ///
    /// # Cancel safety
    /// A record whose future is dropped is written all the same.
    pub async fn append(&self, new: NewRecord, room: Room) -> Result<Arc<Record>, LogError> {
        let pending = Pending {
            arrival_ms: new.arrival_ms,
            arrived: Instant::now(),
            protocol: new.decoded.protocol,
            encoding: new.encoding,
            tenant: new.tenant,
            counts: new.decoded.counts(),
            admitted: new.decoded.admitted(),
            skipped: new.skipped,
            body: new.body,
            ack: new.ack,
        };
        let promised = lock(&self.core.handoff).promise(&new.decoded);
        let (done, answer) = oneshot::channel();
        self.ask(Command::Append(Box::new(Append {
            pending,
            // What is not taken goes before the wait: a slow disk must not make many of them wait with it.
            decoded: promised.then_some(new.decoded),
            room,
            done,
        })));
        // Without an answer the writer is gone: the log was closed.
        answer.await.unwrap_or_else(|_| Err(unwritable()))
    }

    /// How full it is.
    pub fn occupancy(&self) -> Occupancy {
        self.core.store.occupancy()
    }

    /// Heap bytes of the decoded forms kept for readers.
    pub fn handoff_bytes(&self) -> usize {
        lock(&self.core.handoff).bytes()
    }

    /// Heap bytes of what is known of segments and records, decoded forms not counted.
    pub fn memory_bytes(&self) -> usize {
        self.core.store.memory_bytes()
    }

    /// How the disk is.
    pub fn health(&self) -> Health {
        let core = &self.core;
        let hangs = core.hangs();
        let refuses = lock(&core.trouble).as_ref().map(|trouble| trouble.since);
        Health {
            unwritable_since: refuses.into_iter().chain(hangs).min(),
            last_error: hangs
                .map(health::silence)
                .or_else(|| core.watch.last_error()),
            errors: core.watch.errors(),
            syncs: core.watch.syncs(),
            probe: core.watch.probe(),
            damage: core.store.damage(),
        }
    }

    /// The disk takes records, as far as is known.
    pub fn is_writable(&self) -> bool {
        self.core.hangs().is_none() && lock(&self.core.trouble).is_none()
    }

    /// Writes what was appended, seals the segment, and ends the writer. Blocks. What is appended later is
    /// refused; reading goes on.
    pub fn close(&self) {
        self.core.closed.store(true, Ordering::Relaxed);
        self.ask(Command::Close);
        if let Some(thread) = lock(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the log's writer has panicked");
        }
    }

    fn ask(&self, command: Command) {
        // Without a writer nobody answers, and that is an answer.
        drop(lock(&self.commands).send(command));
    }

    fn ask_to_tend(&self) {
        if !self.core.tend_asked.swap(true, Ordering::Relaxed) {
            self.ask(Command::Tend);
        }
    }
}

impl Drop for DiskLog {
    fn drop(&mut self) {
        self.core.closed.store(true, Ordering::Relaxed);
        self.ask(Command::Close);
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StorageError> {
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(|error| StorageError::Io {
        what: "starting a thread",
        error,
    })
}

impl Log for DiskLog {
    fn is_at_hand(&self, _: QueueIndex, seq: Seq) -> bool {
        let first = self.core.store.first_seq(seq);
        first.is_none_or(|first| lock(&self.core.handoff).has(first))
    }

    fn fetch(&self, queue: QueueIndex, seq: Seq) -> Option<Fetched> {
        let first = self.core.store.first_seq(seq)?;
        let at_hand = lock(&self.core.handoff).take(queue, first);
        if let Some((record, decoded)) = at_hand {
            return Some(Fetched {
                record,
                body: None,
                decoded: Some(decoded),
            });
        }
        let (record, body) = self.core.store.fetch(seq)?;
        Some(Fetched {
            record,
            body,
            decoded: None,
        })
    }

    fn end_behind(&self, seq: Seq) -> Option<(Seq, Counts)> {
        self.core.store.end_behind(seq)
    }

    fn first(&self, seq: Seq) -> Option<Arc<Record>> {
        self.core.store.first(seq)
    }

    fn holds(&self, seq: Seq) -> bool {
        self.core.store.holds(seq)
    }

    fn arrival(&self, seq: Seq) -> Option<Instant> {
        self.core.store.arrival(seq)
    }

    fn totals_before(&self, seq: Seq) -> Counts {
        let first = self.core.store.first(seq);
        first.map_or_else(
            || self.core.store.end().1,
            |first| first.totals - first.admitted,
        )
    }

    fn end(&self) -> (Seq, Counts) {
        self.core.store.end()
    }

    fn why_gone(&self, seq: Seq) -> Gone {
        self.core.store.why_gone(seq)
    }

    fn release(&self, queue: QueueIndex, seq: Seq) {
        lock(&self.core.handoff).pass(queue, seq);
        if self.core.store.release(queue, seq) {
            self.ask_to_tend();
        }
    }

    fn release_range(&self, queue: QueueIndex, from: Seq, to: Seq) {
        self.core.store.release_range(queue, from, to);
        self.ask_to_tend();
    }

    fn appended(&self, seq: Seq) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            loop {
                let appended = self.core.appended.notified();
                tokio::pin!(appended);
                appended.as_mut().enable();
                if self.core.store.holds_from(seq) {
                    return;
                }
                appended.await;
            }
        })
    }
}
