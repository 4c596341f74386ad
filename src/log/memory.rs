//! The log in memory: bounded, ordered, each record freed once it is settled.
//!
//! # Limits
//! Bytes held and reserved stay under the limit, but a request larger than the limit enters a log that is
//! empty: refusing it would block its sender for good. Decoded forms are kept for readers that have caught
//! up, under a limit of their own; what finds no room is decoded again by whoever comes to it.
//!
//! # Fairness
//! Above 80 % full, while several tenants hold records, a tenant that holds over half of it has to wait.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::drain::DrainRate;
use super::handoff::HandOff;
use super::{
    Fetched, Gone, Log, LogError, NewRecord, Occupancy, QueueIndex, RECORD_OVERHEAD, Record, Seq,
    Tenant,
};
use crate::model::counts::Counts;

/// Above so many tenths of the limit a tenant that holds over half of the log waits.
pub(super) const CROWDED_TENTHS: u64 = 8;

/// The log in memory.
pub struct MemoryLog {
    inner: Mutex<Inner>,
    /// A record was appended.
    appended: Notify,
    /// Room came free.
    freed: Notify,
}

struct Held {
    record: Arc<Record>,
    body: Bytes,
    /// Queues that have not given it back, a bit each.
    holders: u64,
}

struct Inner {
    records: BTreeMap<Seq, Held>,
    next: Seq,
    totals: Counts,
    bytes: u64,
    reserved: u64,
    limit: u64,
    required: u64,
    queues: u64,
    tenants: HashMap<Arc<Tenant>, u64>,
    handoff: HandOff,
    drain: DrainRate,
}

/// Room in the log, promised to a request whose body is not read yet.
pub struct Reservation {
    log: Weak<MemoryLog>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(log) = self.log.upgrade() {
            log.lock().reserved -= self.bytes;
            log.freed.notify_waiters();
        }
    }
}

impl MemoryLog {
    /// A log for these queues, `true` for those that are required, by their index.
    pub fn new(limit: u64, handoff_limit: usize, queues: &[bool]) -> Arc<Self> {
        Self::behind((Seq(1), Counts::default()), limit, handoff_limit, queues)
    }

    /// The same, going on where another log ends.
    pub fn behind(
        (next, totals): (Seq, Counts),
        limit: u64,
        handoff_limit: usize,
        queues: &[bool],
    ) -> Arc<Self> {
        assert!(queues.len() <= 64, "a bit for each queue");
        let bits = |wanted: bool| {
            let marked = queues
                .iter()
                .enumerate()
                .filter(|(_, required)| **required || !wanted);
            marked.fold(0u64, |bits, (index, _)| bits | 1 << index)
        };
        Arc::new(Self {
            inner: Mutex::new(Inner {
                records: BTreeMap::new(),
                next,
                totals,
                bytes: 0,
                reserved: 0,
                limit,
                required: bits(true),
                queues: bits(false),
                tenants: HashMap::new(),
                handoff: HandOff::new(handoff_limit, queues.len()),
                drain: DrainRate::new(),
            }),
            appended: Notify::new(),
            freed: Notify::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits up to `wait` for room for a body of `bytes`.
    ///
    /// # Cancel safety
    /// Nothing is reserved when the future is dropped.
    pub async fn reserve(
        self: &Arc<Self>,
        bytes: u64,
        tenant: &Tenant,
        wait: Duration,
    ) -> Result<Reservation, LogError> {
        let deadline = Instant::now() + wait;
        let bytes = bytes + RECORD_OVERHEAD as u64;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            let missing = match self.lock().try_reserve(bytes, tenant) {
                Ok(()) => {
                    return Ok(Reservation {
                        log: Arc::downgrade(self),
                        bytes,
                    });
                }
                Err(missing) => missing,
            };
            if tokio::time::timeout_at(deadline, freed).await.is_err() {
                let retry_after = self.lock().drain.retry_after(missing);
                return Err(LogError::Full { retry_after });
            }
        }
    }

    /// Appends a record in the room that was reserved for it, and says where.
    pub fn append(&self, new: NewRecord, reservation: Reservation) -> Arc<Record> {
        let record = self.lock().append(new);
        drop(reservation);
        self.appended.notify_waiters();
        record
    }

    /// How full it is.
    pub fn occupancy(&self) -> Occupancy {
        let inner = self.lock();
        Occupancy {
            bytes: inner.bytes + inner.reserved,
            limit: inner.limit,
            records: inner.records.len() as u64,
        }
    }

    /// Heap bytes of the decoded forms kept for readers.
    pub fn handoff_bytes(&self) -> usize {
        self.lock().handoff.bytes()
    }
}

impl Inner {
    /// A record at or after this one is there.
    fn holds_from(&self, seq: Seq) -> bool {
        self.records.range(seq..).next().is_some()
    }

    /// Reserves, or says how many bytes are missing.
    fn try_reserve(&mut self, bytes: u64, tenant: &Tenant) -> Result<(), u64> {
        if self.bytes + self.reserved + bytes > self.limit {
            self.evict_optional((self.bytes + self.reserved + bytes).saturating_sub(self.limit));
        }
        let held = self.bytes + self.reserved;
        let empty = self.records.is_empty() && self.reserved == 0;
        if held + bytes > self.limit && !empty {
            return Err(held + bytes - self.limit);
        }
        let own = self.tenants.get(tenant).copied().unwrap_or(0);
        let crowded = self.limit / 10 * CROWDED_TENTHS;
        if held > crowded && self.tenants.len() > 1 && own > self.bytes / 2 {
            return Err(held - crowded);
        }
        self.reserved += bytes;
        Ok(())
    }

    /// Frees the oldest records that only queues which are not required still hold.
    fn evict_optional(&mut self, missing: u64) {
        if self.required == self.queues {
            return;
        }
        let mut found = 0;
        let mut gone = Vec::new();
        for (seq, held) in &self.records {
            if found >= missing {
                break;
            }
            if held.holders & self.required == 0 {
                found += held.record.charge();
                gone.push(*seq);
            }
        }
        for seq in gone {
            self.remove(seq);
        }
    }

    fn append(&mut self, new: NewRecord) -> Arc<Record> {
        let seq = self.next;
        let admitted = new.decoded.admitted();
        self.totals += admitted;
        let record = Arc::new(Record {
            seq,
            arrival_ms: new.arrival_ms,
            arrived: Instant::now(),
            protocol: new.decoded.protocol,
            encoding: new.encoding,
            tenant: new.tenant,
            counts: new.decoded.counts(),
            skipped: new.skipped,
            admitted,
            totals: self.totals,
            body_len: new.body.len() as u32,
            ack: new.ack,
        });
        if let Some(ack) = &record.ack {
            ack.set_seq(seq);
        }
        self.next = seq.next();
        self.bytes += record.charge();
        *self.tenants.entry(Arc::clone(&record.tenant)).or_default() += record.charge();
        self.records.insert(
            seq,
            Held {
                record: Arc::clone(&record),
                body: new.body,
                holders: self.queues,
            },
        );
        self.handoff.put(&record, new.decoded);
        record
    }

    fn remove(&mut self, seq: Seq) {
        self.handoff.forget(seq);
        let Some(held) = self.records.remove(&seq) else {
            return;
        };
        let charge = held.record.charge();
        self.bytes -= charge;
        self.drain.freed(charge);
        if let Some(own) = self.tenants.get_mut(&held.record.tenant) {
            *own -= charge;
            if *own == 0 {
                self.tenants.remove(&held.record.tenant);
            }
        }
    }
}

impl Log for MemoryLog {
    fn is_at_hand(&self, _: QueueIndex, _: Seq) -> bool {
        true
    }

    fn fetch(&self, queue: QueueIndex, seq: Seq) -> Option<Fetched> {
        let mut inner = self.lock();
        let (seq, held) = inner.records.range(seq..).next()?;
        let (seq, record, body) = (*seq, Arc::clone(&held.record), held.body.clone());
        let decoded = inner.handoff.take(queue, seq).map(|(_, decoded)| decoded);
        Some(Fetched {
            record,
            body: Some(body),
            decoded,
        })
    }

    fn end_behind(&self, seq: Seq) -> Option<(Seq, Counts)> {
        let inner = self.lock();
        let behind = inner.next > seq && !inner.holds_from(seq);
        behind.then_some((inner.next, inner.totals))
    }

    fn first(&self, seq: Seq) -> Option<Arc<Record>> {
        let inner = self.lock();
        let (_, held) = inner.records.range(seq..).next()?;
        Some(Arc::clone(&held.record))
    }

    fn holds(&self, seq: Seq) -> bool {
        self.lock().records.contains_key(&seq)
    }

    fn arrival(&self, seq: Seq) -> Option<Instant> {
        self.lock()
            .records
            .range(seq..)
            .next()
            .map(|(_, held)| held.record.arrived)
    }

    fn totals_before(&self, seq: Seq) -> Counts {
        let inner = self.lock();
        let first = inner.records.range(seq..).next();
        first.map_or(inner.totals, |(_, held)| {
            held.record.totals - held.record.admitted
        })
    }

    fn end(&self) -> (Seq, Counts) {
        let inner = self.lock();
        (inner.next, inner.totals)
    }

    fn why_gone(&self, _: Seq) -> Gone {
        // Nothing in memory is ever damaged.
        Gone::ForRoom
    }

    fn release_range(&self, _: QueueIndex, _: Seq, _: Seq) {
        // Nothing in memory is older than the process.
    }

    fn release(&self, queue: QueueIndex, seq: Seq) {
        let mut inner = self.lock();
        let required = inner.required;
        let Some(held) = inner.records.get_mut(&seq) else {
            return;
        };
        held.holders &= !(1 << queue.0);
        if held.holders == 0 {
            inner.remove(seq);
        } else if held.holders & required != 0 {
            return;
        }
        drop(inner);
        self.freed.notify_waiters();
    }

    fn appended(&self, seq: Seq) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            loop {
                let appended = self.appended.notified();
                tokio::pin!(appended);
                appended.as_mut().enable();
                if self.lock().holds_from(seq) {
                    return;
                }
                appended.await;
            }
        })
    }
}
