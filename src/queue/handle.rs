//! A queue at work: its state under one lock, and the tasks around it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::attempts::Attempts;
use super::autoscale::{Autoscaler, Decision, INTERVAL, Observed, Reason, Sum};
use super::batch::{BatchId, Outcome};
use super::client::Answer;
use super::client::Attempt;
use super::facts::code_of_answer;
use super::grouping::LaneRules;
use super::journal::recover::Recovered;
use super::journal::writer::{JournalHealth, JournalWriter};
use super::ledger::{Books, DropReason};
use super::metadata::{FamilyMetadata, TenantMetadata};
use super::protocol::{Known, ProtocolChoice, ProtocolMode};
use super::receiver::Receiver;
use super::sender::{Encoded, Encoders};
use super::shadow::recut::Base;
use super::shadow::thread::{Shadow, ShadowOptions};
use super::split::Refuses;
use super::state::{Gauges, QueueOptions, QueueState, Work};
use super::{forward, reader, sender};
use crate::clock::{Instant, wall_ms};
use crate::log::{Log, QueueIndex, Seq, Tenant};
use crate::metrics::{self, Registry};
use crate::vital::Vital;
use crate::wire::compression::{Encoding, encode_snappy};
use crate::wire::decoded::{IdentityKey, WalkLimits};
use crate::wire::encode::put_metadata_v1;
use crate::wire::negotiate::CONTENT_TYPE_V1;

/// Where a queue sends.
pub enum Endpoint {
    /// Counted and thrown away.
    Discard,
    /// A receiver.
    Http(Box<Receiver>),
}

/// How bodies are read again: as ingest read them.
#[derive(Clone)]
pub struct WalkOptions {
    /// Limit of a decoded message.
    pub size: u64,
    /// Limits of its parts.
    pub walk: WalkLimits,
    /// Key of the identities, the same for all of the process.
    pub key: IdentityKey,
}

/// When metadata is sent by itself (1.0).
#[derive(Clone, Copy, Debug)]
pub struct MetadataSchedule {
    /// It is sent at all.
    pub send: bool,
    /// All of it once in this time.
    pub interval: Duration,
    /// Entries in a request.
    pub per_send: usize,
}

/// What a queue needs beside its state.
pub struct QueueParts {
    /// The state's options.
    pub options: QueueOptions,
    /// The log.
    pub log: Arc<dyn Log>,
    /// The receiver.
    pub endpoint: Endpoint,
    /// The receiver's URL, as it may be shown.
    pub url: String,
    /// Which protocol to send.
    pub protocol: ProtocolMode,
    /// How 1.0 bodies are compressed.
    pub compression: Encoding,
    /// What the receiver does with the rest of a request of which it refuses something.
    pub refuses: Refuses,
    /// How bodies are read again.
    pub walk: WalkOptions,
    /// Scratch for encoding, shared by all queues.
    pub encoders: Arc<Encoders>,
    /// When metadata is sent.
    pub metadata: MetadataSchedule,
    /// `capacity`, as configured: shown only.
    pub capacity: u64,
    /// What the last process left; `None`: the log dies with the process.
    pub resume: Option<Resume>,
    /// It is measured what sending would come to; for `discard:` only.
    pub shadow: Option<ShadowOptions>,
}

/// Where a queue goes on.
pub struct Resume {
    /// Where it says what is settled.
    pub journal: Arc<JournalWriter>,
    /// What was said there before.
    pub recovered: Recovered,
    /// The first record that the log did not find when it was opened.
    pub log_end: Seq,
}

/// One queue at work.
pub struct Queue {
    state: Mutex<QueueState>,
    choice: Mutex<ProtocolChoice>,
    pub(super) attempts: Mutex<Attempts>,
    decision: Mutex<Decision>,
    pub(super) log: Arc<dyn Log>,
    pub(super) journal: Option<Arc<JournalWriter>>,
    pub(super) endpoint: Endpoint,
    pub(super) encoders: Arc<Encoders>,
    pub(super) walk: WalkOptions,
    pub(super) compression: Encoding,
    pub(super) refuses: Refuses,
    pub(super) index: QueueIndex,
    /// Bodies go out whole.
    pub(super) passthrough: bool,
    /// Something may be due, a permit came free, a gate opened.
    pub(super) dispatch_changed: Notify,
    /// The lanes have room, or a parked one can be served.
    pub(super) read_changed: Notify,
    name: String,
    url: String,
    capacity: u64,
    metadata: MetadataSchedule,
    pub(super) shadow: Option<Shadow>,
    registry: Arc<Registry>,
    sent_seconds: ::metrics::Histogram,
    sent_bytes: ::metrics::Counter,
    metadata_sent: ::metrics::Counter,
}

impl Queue {
    /// A queue that goes on where it was, or begins at the end of the log.
    pub fn new(parts: QueueParts, registry: Arc<Registry>) -> Arc<Self> {
        let name = parts.options.name.clone();
        let labels = [name.as_str(), parts.url.as_str()];
        let (shards, index) = (parts.options.min_shards, parts.options.index);
        let passthrough = parts.options.passthrough;
        let journal = parts
            .resume
            .as_ref()
            .map(|resume| Arc::clone(&resume.journal));
        let batch = parts.options.limits.batch;
        let shadow = parts.shadow.map(|options| Shadow::new(options, batch));
        let state = state_of(parts.options, parts.resume, &*parts.log);
        Arc::new(Self {
            sent_seconds: registry.histogram(&metrics::SENT_SECONDS, &labels),
            sent_bytes: registry.counter(&metrics::SENT_BYTES, &labels),
            metadata_sent: registry.counter(&metrics::METADATA_SENT, &labels),
            name,
            url: parts.url,
            state: Mutex::new(state),
            journal,
            choice: Mutex::new(ProtocolChoice::new(parts.protocol)),
            attempts: Mutex::new(Attempts::new(Instant::now())),
            decision: Mutex::new(Decision {
                shards,
                desired: shards as f64,
                reason: Reason::NothingSent,
                sum: Sum::default(),
            }),
            log: parts.log,
            endpoint: parts.endpoint,
            encoders: parts.encoders,
            walk: parts.walk,
            compression: parts.compression,
            refuses: parts.refuses,
            index,
            passthrough,
            dispatch_changed: Notify::new(),
            read_changed: Notify::new(),
            capacity: parts.capacity,
            metadata: parts.metadata,
            shadow,
            registry,
        })
    }

    /// Starts its tasks; they end with `cancel`.
    pub fn start(self: &Arc<Self>, cancel: &CancellationToken) {
        tokio::spawn(reader::read(Arc::clone(self), cancel.clone()));
        tokio::spawn(sender::dispatch(Arc::clone(self), cancel.clone()));
        if self.passthrough {
            // Its permits are fixed, and metadata is in senders' own bodies.
            tokio::spawn(forward::tell_ceiling(Arc::clone(self), cancel.clone()));
            return;
        }
        tokio::spawn(scale(Arc::clone(self), cancel.clone()));
        if self.metadata.send && matches!(self.endpoint, Endpoint::Http(_)) {
            tokio::spawn(send_metadata(Arc::clone(self), cancel.clone()));
        }
        if let Some(shadow) = &self.shadow {
            let base = {
                let state = self.lock();
                let (rules, limits) = (state.options().rules.clone(), state.options().limits);
                Base { rules, limits }
            };
            shadow.start(Arc::downgrade(self), &self.name, base, self.walk.clone());
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn choice(&self) -> MutexGuard<'_, ProtocolChoice> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its name, as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its endpoint, without credentials and query.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// How many permits it has, and why.
    pub fn decision(&self) -> Decision {
        *self.decision.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pins the number of permits, live: from now on there are `shards`, whatever the load.
    pub fn set_shards(&self, shards: usize) {
        self.lock().pin_shards(shards);
        self.wake();
    }

    /// Changes the lane rules, live: see [`QueueState::rewind`].
    pub fn set_lane_rules(&self, rules: LaneRules) {
        self.lock().rewind(rules);
        self.wake();
    }

    /// From now on everything is due at once.
    pub fn drain(&self) {
        let mut state = self.lock();
        state.drain();
        state.hurry(Instant::now());
        drop(state);
        self.wake();
    }

    /// From now on nothing more is sent. What is in flight gets its verdict.
    pub fn halt(&self) {
        self.lock().halt();
        self.wake();
    }

    /// To be called now and then. Gives the journal a checkpoint if it wants one: one that could not be written
    /// begins anew so. Nobody waits for a disk that hangs.
    pub fn tend(&self) {
        if let Some(journal) = &self.journal {
            journal.look();
        }
        self.lock().checkpoint_if_wanted(&*self.log);
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.lock().gauges().busy
    }

    /// Says in the journal all that the next process has to know, and ends it. Blocks. Says whether that is
    /// durable.
    pub fn close_journal(&self) -> bool {
        let Some(journal) = &self.journal else {
            return true;
        };
        self.lock().write_last_checkpoint();
        journal.close()
    }

    /// How its journal is, if it keeps one.
    pub fn journal_health(&self) -> Option<JournalHealth> {
        self.journal.as_ref().map(|journal| journal.health())
    }

    /// The sender of this record was answered 503: what is not in a batch is not sent.
    pub fn withdraw(&self, seq: Seq) {
        self.lock().withdraw(seq);
        self.wake();
    }

    /// The sender of this record is back.
    pub fn take_over(&self, seq: Seq) {
        self.lock().take_over(seq);
        self.wake();
    }

    /// The sender of this record did not come back.
    pub fn expire(&self, seq: Seq) {
        self.lock().expire(seq, &*self.log);
        self.wake();
    }

    fn wake(&self) {
        self.read_changed.notify_one();
        self.dispatch_changed.notify_one();
    }

    /// The books as they are now.
    pub fn books(&self) -> Books {
        self.lock().books(&*self.log)
    }

    /// Elements that a batch takes.
    pub fn batch_size(&self) -> u32 {
        self.lock().options().limits.batch
    }

    /// Nothing is pending.
    pub fn is_idle(&self) -> bool {
        self.lock().is_idle(&*self.log)
    }

    /// Everything in the state against what it is made of.
    pub fn audit(&self) -> Result<(), String> {
        self.lock().audit()
    }

    /// Everything that is told about the queue, of one moment.
    pub fn snapshot(&self) -> QueueSnapshot {
        let state = self.lock();
        let lag = state
            .oldest_pending(&*self.log)
            .map_or(Duration::ZERO, |at| at.elapsed());
        QueueSnapshot {
            books: state.books(&*self.log),
            work: state.work(),
            gauges: state.gauges(),
            lag,
        }
    }

    /// The latest failure towards the receiver: wall clock in milliseconds, and what it was.
    pub fn last_error(&self) -> Option<(i64, String)> {
        let attempts = self.attempts();
        let latest = attempts.errors().next();
        latest.map(|error| (error.last_ms, error.what.clone()))
    }

    pub(super) fn report(&self, what: &str) {
        let mut attempts = self.attempts();
        // A person wants to read the first of a row of failures in the log, not each of them.
        if attempts
            .errors()
            .next()
            .is_none_or(|last| last.what != what)
        {
            tracing::warn!(queue = self.name, url = self.url, error = what, "receiver");
        }
        attempts.error(what, wall_ms());
    }

    pub(super) fn warn_refused(&self, refusal: &str, outcome: &Outcome) {
        for (reason, counts) in &outcome.dropped {
            if *reason == DropReason::Unrepresentable {
                continue;
            }
            let (queue, reason) = (self.name(), reason.as_str());
            let dropped = counts.total();
            tracing::error!(
                queue,
                reason,
                dropped,
                refusal,
                "the receiver refused data for good"
            );
        }
    }

    pub(super) fn count_bytes(&self, bytes: usize) {
        self.sent_bytes.increment(bytes as u64);
        self.attempts().sent(bytes as u64);
    }

    /// Counts an attempt.
    pub(super) fn attempted(&self, answer: &Answer, bytes: usize, took: Duration) {
        self.count_bytes(bytes);
        self.sent_seconds.record(took.as_secs_f64());
        let code = code_of_answer(answer);
        self.attempts()
            .ended(&code, took, Instant::now(), wall_ms());
        let labels = [self.name.as_str(), self.url.as_str(), code.as_str()];
        self.registry
            .counter(&metrics::UPSTREAM_REQUESTS, &labels)
            .increment(1);
    }

    /// Brings the queue's metrics up to now, from one snapshot.
    pub fn publish(&self) {
        let QueueSnapshot {
            books,
            work,
            gauges,
            lag,
        } = self.snapshot();
        let (name, url) = (self.name.as_str(), self.url.as_str());
        let r = &*self.registry;
        publish_books(r, (name, url), &books);
        let set = |def, value: f64| r.set(def, &[name, url], value);
        let total = |def, value| r.total(def, &[name, url], value);
        set(&metrics::LAG_SECONDS, lag.as_secs_f64());
        set(&metrics::SHARDS, gauges.shards as f64);
        set(&metrics::SHARDS_BUSY, gauges.busy as f64);
        set(&metrics::WAITING_BATCHES, gauges.waiting as f64);
        set(&metrics::SEPARATION_KEYS, gauges.keys as f64);
        set(&metrics::SERIES, gauges.series as f64);
        set(&metrics::GATE_OPEN, f64::from(u8::from(gauges.gate_open)));
        set(&metrics::SHARD_CAPACITY, self.capacity as f64);
        set(
            &metrics::PROTOCOL_V2,
            match self.choice().known() {
                Known::Proved => 1.0,
                Known::V1Until(_) => 0.0,
                Known::Unproved | Known::Probing => -1.0,
            },
        );
        set(&metrics::SHARDS_DESIRED, self.decision().desired);
        for (state, value) in [
            ("live", gauges.lanes),
            ("locked", gauges.locked),
            ("parked", gauges.parked),
        ] {
            r.set(&metrics::LANES, &[name, url, state], value as f64);
        }
        total(&metrics::DEGRADED, work.degraded);
        total(&metrics::RETRIED, work.retried.total());
        total(&metrics::RETRIES, work.retries);
        total(&metrics::SPLITS, work.splits);
        total(&metrics::PARKED, work.parked);
        total(&metrics::REWINDS, work.rewinds);
        for (by, value) in [
            ("lead", work.decoded_lead),
            ("laggard", work.decoded_laggard),
            ("replay", work.decoded_replay),
        ] {
            r.total(&metrics::DECODED, &[name, url, by], value);
        }
        let settled = work.batches_done - work.batches_failed;
        r.total(&metrics::BATCHES, &[name, url, "settled"], settled);
        r.total(
            &metrics::BATCHES,
            &[name, url, "refused"],
            work.batches_failed,
        );
        let state = self.lock();
        let options = state.options();
        set(&metrics::SHARDS_MIN, options.min_shards as f64);
        set(&metrics::SHARDS_MAX, options.max_shards as f64);
        set(
            &metrics::MAX_SAMPLES_PER_SEND,
            f64::from(options.limits.batch),
        );
        let (received, refused) = state.metadata_counts();
        total(&metrics::METADATA_RECEIVED, received);
        total(&metrics::METADATA_REFUSED, refused);
        drop(state);
        if let Some(journal) = self.journal_health() {
            set(&metrics::JOURNAL_BYTES, journal.bytes as f64);
            let writable = u8::from(journal.unwritable_since.is_none());
            set(&metrics::JOURNAL_WRITABLE, f64::from(writable));
            total(&metrics::JOURNAL_ERRORS, journal.errors);
            total(&metrics::JOURNAL_SYNCS, journal.syncs);
        }
    }
}

fn state_of(options: QueueOptions, resume: Option<Resume>, log: &dyn Log) -> QueueState {
    match resume {
        Some(resume) => {
            let (recovered, end) = (resume.recovered, resume.log_end);
            QueueState::restored(options, recovered, end, resume.journal, log)
        }
        None => {
            let (end, totals) = log.end();
            QueueState::new(options, end, totals)
        }
    }
}

fn publish_books(r: &Registry, (name, url): (&str, &str), books: &Books) {
    use crate::model::counts::Kind;
    for kind in Kind::ALL {
        let labels = [name, url, kind.as_str()];
        r.total(&metrics::QUEUE_RECEIVED, &labels, books.received.get(kind));
        r.total(
            &metrics::DELIVERED,
            &labels,
            books.ledger.delivered.get(kind),
        );
        r.total(
            &metrics::UNCONFIRMED,
            &labels,
            books.ledger.unconfirmed.get(kind),
        );
        r.total(
            &metrics::QUARANTINED,
            &labels,
            books.ledger.quarantined.get(kind),
        );
        for reason in DropReason::ALL {
            let counts = books.ledger.dropped[reason as usize];
            let labels = [name, url, kind.as_str(), reason.as_str()];
            r.total(&metrics::DROPPED, &labels, counts.get(kind));
        }
        let p = &books.pending;
        for (place, counts) in [
            ("unread", p.unread),
            ("untaken", p.untaken),
            ("queued", p.queued),
            ("in_flight", p.in_flight),
        ] {
            let labels = [name, url, kind.as_str(), place];
            r.set(&metrics::PENDING, &labels, counts.get(kind) as f64);
        }
    }
    r.set(
        &metrics::CONSERVATION_ERROR,
        &[name, url],
        books.conservation_error() as f64,
    );
}

/// Everything that is told about a queue, of one moment.
#[derive(Clone, Debug)]
pub struct QueueSnapshot {
    /// The books.
    pub books: Books,
    /// Work done.
    pub work: Work,
    /// Numbers for people.
    pub gauges: Gauges,
    /// Age of the oldest pending element.
    pub lag: Duration,
}

impl QueueState {
    /// Minimum, maximum and number of permits are `shards` from now on.
    pub fn pin_shards(&mut self, shards: usize) {
        (self.options.min_shards, self.options.max_shards) = (shards, shards);
        self.shards = shards;
    }

    pub(super) fn encoded(&self, batch: BatchId) -> Option<Arc<Encoded>> {
        self.encoded.get(&batch).cloned()
    }

    pub(super) fn keep_encoded(&mut self, batch: BatchId, encoded: Arc<Encoded>) {
        self.encoded.insert(batch, encoded);
    }

    pub(super) fn metadata_of(&self, tenant: &Arc<Tenant>) -> TenantMetadata {
        self.metadata.of(tenant)
    }

    fn metadata_counts(&self) -> (u64, u64) {
        (self.metadata.received, self.metadata.refused)
    }
}

/// How often it is looked how much senders wait for, where they do.
const GLANCE: Duration = Duration::from_millis(500);

/// Looks at the load every ten seconds and sets the number of permits.
async fn scale(queue: Arc<Queue>, cancel: CancellationToken) {
    let _vital = Vital;
    let mut autoscaler = Autoscaler::new(Instant::now());
    let senders_wait = {
        let state = queue.lock();
        state.options.eager && state.options.required
    };
    let every = if senders_wait { GLANCE } else { INTERVAL };
    let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
    let (mut decided, mut batches_awaited) = (Instant::now(), 0);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = cancel.cancelled() => return,
        }
        let snapshot = queue.snapshot();
        let pending = snapshot.books.pending.total().total();
        if senders_wait {
            let full = pending / u64::from(queue.batch_size()).max(1);
            batches_awaited = batches_awaited.max(full as usize);
            if decided.elapsed() < INTERVAL {
                continue;
            }
        }
        decided = Instant::now();
        let observed = Observed {
            received: snapshot.books.received.total(),
            settled: snapshot.work.settled,
            busy: snapshot.work.busy,
            pending,
            lag: snapshot.lag,
            retries: snapshot.work.retries,
            batches_awaited: std::mem::take(&mut batches_awaited),
        };
        let decision = {
            let mut state = queue.lock();
            let bounds = (state.options.min_shards, state.options.max_shards);
            let decision = autoscaler.decide(observed, state.shards, bounds, Instant::now());
            if decision.shards != state.shards {
                let (before, after) = (state.shards, decision.shards);
                let (desired, reason) = (decision.desired, decision.reason.as_str());
                tracing::info!(queue = queue.name, before, after, desired, reason, "shards");
            }
            state.shards = decision.shards;
            decision
        };
        *queue
            .decision
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = decision;
        queue.wake();
    }
}

/// How soon changed metadata is sent.
const METADATA_CHANGES: Duration = Duration::from_secs(5);

/// Sends metadata by itself while the receiver is spoken to in 1.0: on change, and all of it once in an
/// interval. One request at a time, not repeated: the next interval repeats it anyway.
async fn send_metadata(queue: Arc<Queue>, cancel: CancellationToken) {
    let Endpoint::Http(receiver) = &queue.endpoint else {
        return;
    };
    let mut all_at = Instant::now() + queue.metadata.interval;
    loop {
        tokio::select! {
            () = tokio::time::sleep(METADATA_CHANGES) => {}
            () = cancel.cancelled() => return,
        }
        let all = Instant::now() >= all_at;
        if all {
            all_at = Instant::now() + queue.metadata.interval;
        }
        let to_send = queue.lock().metadata.to_send(all);
        if queue.choice().known() == Known::Proved {
            continue;
        }
        for (tenant, families) in to_send {
            for part in families.chunks(queue.metadata.per_send.max(1)) {
                let attempt = metadata_attempt(&tenant, part);
                if let Answer::Response(response) = receiver.client().post(&attempt).await
                    && (200..300).contains(&response.status)
                {
                    queue.metadata_sent.increment(part.len() as u64);
                }
            }
        }
    }
}

fn metadata_attempt(tenant: &Tenant, families: &[FamilyMetadata]) -> Attempt {
    let mut message = Vec::new();
    for known in families {
        put_metadata_v1(
            &mut message,
            &known.family,
            known.kind,
            &known.help,
            &known.unit,
        );
    }
    Attempt {
        body: encode_snappy(&mut snap::raw::Encoder::new(), &message, &mut Vec::new())
            .to_vec()
            .into(),
        content_type: CONTENT_TYPE_V1,
        content_encoding: "snappy",
        version_header: ("X-Prometheus-Remote-Write-Version", "0.1.0"),
        tenant: sender::headers_of(tenant),
        number: 0,
    }
}
