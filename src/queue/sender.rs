//! One permit: take the next batch, encode it, send it, judge the answer, settle.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::batch::{Batch, BatchId, Outcome};
use super::client::{Answer, Attempt};
use super::dispatch::{Concluded, Next};
use super::forward;
use super::handle::{Endpoint, Queue};
use super::ledger::DropReason;
use super::mutants::{self, Mutant};
use super::protocol::Known;
use super::split::Halving;
use super::verdict::{Fallback, Sent, Verdict, describe, judge, written_of};
use crate::clock::Instant;
use crate::log::Tenant;
use crate::model::content::Content;
use crate::model::counts::Counts;
use crate::vital::Vital;
use crate::wire::compression::{Encoding, encode_snappy, encode_zstd};
use crate::wire::decoded::Protocol;
use crate::wire::encode::{Encoder, Lost, MetadataSource};
use crate::wire::negotiate::{CONTENT_TYPE_V1, CONTENT_TYPE_V2};

/// zstd's level towards VictoriaMetrics: the sweet spot between bytes and time.
pub(super) const ZSTD_LEVEL: i32 = 1;

/// A batch as it goes over the wire; kept until its verdict, so that a retry is byte-identical.
#[derive(Debug)]
pub struct Encoded {
    pub(super) protocol: Protocol,
    pub(super) encoding: Encoding,
    pub(super) body: Bytes,
    pub(super) lost: Lost,
    /// It is a sender's own body, as it came.
    pub(super) as_it_came: bool,
}

/// Scratch for encoding: one for each core, not for each shard.
pub struct Encoders {
    scratch: Mutex<Vec<Scratch>>,
    permits: Semaphore,
}

struct Scratch {
    encoder: Encoder,
    snappy: snap::raw::Encoder,
    message: Vec<u8>,
    compressed: Vec<u8>,
}

impl Scratch {
    fn new() -> Self {
        let snappy = snap::raw::Encoder::new();
        Self {
            encoder: Encoder::default(),
            snappy,
            message: Vec::new(),
            compressed: Vec::new(),
        }
    }
}

impl Encoders {
    /// Scratch for `workers` at a time.
    pub fn new(workers: usize) -> Self {
        Self {
            scratch: Mutex::new(Vec::new()),
            permits: Semaphore::new(workers.max(1)),
        }
    }

    /// Lends scratch to `work`, when it is its turn.
    async fn with<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        let _permit = self
            .permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let lock = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = lock().pop().unwrap_or_else(Scratch::new);
        let result = work(&mut scratch);
        lock().push(scratch);
        result
    }
}

/// Sends what is due, until `cancel`.
pub(super) async fn dispatch(queue: Arc<Queue>, cancel: CancellationToken) {
    let _vital = Vital;
    let attempts = TaskTracker::new();
    loop {
        let next = queue.lock().next_send(Instant::now());
        match next {
            Next::Send(batch, attempt) => {
                let queue = Arc::clone(&queue);
                attempts.spawn(deliver(queue, batch, attempt));
            }
            Next::Wait(until) => {
                tokio::select! {
                    () = queue.dispatch_changed.notified() => {}
                    () = sleep_until(until) => {}
                    () = cancel.cancelled() => break,
                }
            }
        }
    }
    attempts.close();
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// One attempt, and what follows from it.
async fn deliver(queue: Arc<Queue>, batch: Arc<Batch>, number: u32) {
    let _vital = Vital;
    queue.read_changed.notify_one();
    let mut number = number;
    let kept = queue.lock().encoded(batch.id);
    let form = match kept {
        Some(encoded) => Ok(encoded),
        None => form_of(&queue, &batch).await,
    };
    let mut encoded = match form {
        Ok(encoded) => encoded,
        Err(reason) => return lost(&queue, &batch, reason).await,
    };
    loop {
        let sent_counts = batch.counts - encoded.lost.unrepresentable;
        // A sender's body may hold metadata and nothing else.
        if sent_counts.is_zero() && !encoded.as_it_came {
            return settle(&queue, &batch, encoded.lost, Outcome::default()).await;
        }
        let Endpoint::Http(receiver) = &queue.endpoint else {
            queue.count_bytes(encoded.body.len());
            queue.attempt_succeeded(encoded.body.len());
            let dropped = vec![(DropReason::Discarded, sent_counts)];
            let outcome = Outcome {
                dropped,
                ..Outcome::default()
            };
            return settle(&queue, &batch, encoded.lost, outcome).await;
        };
        if number == 0 {
            opened(&queue, &batch).await;
        }
        let began = Instant::now();
        let answer = receiver
            .client()
            .post(&attempt_of(&encoded, &batch.tenant, number))
            .await;
        queue.attempted(&answer, encoded.body.len(), began.elapsed());
        match verdict_of(&queue, &batch, &encoded, sent_counts, &answer) {
            Verdict::Settled(outcome) => {
                queue.attempt_succeeded(encoded.body.len());
                return settle(&queue, &batch, encoded.lost, outcome).await;
            }
            Verdict::Again(again, why) => {
                queue.report(&why);
                queue.attempt_failed(&answer, &why);
                let wait = queue
                    .lock()
                    .again(batch.id, again, fastrand::f64(), Instant::now());
                tracing::debug!(queue = queue.name(), batch = batch.id.0, ?wait, %why, "again");
                queue.dispatch_changed.notify_one();
                // A permit is free: the reader may go on past a full lane.
                queue.read_changed.notify_one();
                return;
            }
            Verdict::Split(refuses, mut outcome) => {
                let halving = queue.lock().split(batch.id, refuses, Instant::now());
                if let Halving::Ends(why) = halving {
                    queue.attempt_succeeded(encoded.body.len());
                    if let (Some(refusal), Some(why)) = (&mut outcome.refusal, why) {
                        *refusal = format!("{refusal} ({why})");
                    }
                    return settle(&queue, &batch, encoded.lost, outcome).await;
                }
                queue.attempt_succeeded(0);
                if let (Halving::Begins, Answer::Response(response)) = (halving, &answer) {
                    // The last of them may have its verdict a minute later.
                    queue.report(&describe(response, "the halves of the batch are tried"));
                }
                queue.dispatch_changed.notify_one();
                queue.read_changed.notify_one();
                return;
            }
            Verdict::AsV1(why) => {
                queue.report(&why);
                queue.lock().resent(batch.id);
                encoded = match in_v1(&queue, &batch).await {
                    Ok(encoded) => encoded,
                    Err(reason) => return lost(&queue, &batch, reason).await,
                };
                number += 1;
            }
        }
    }
}

/// What goes over the wire: the body that came, or one of our own.
async fn form_of(queue: &Queue, batch: &Batch) -> Result<Arc<Encoded>, DropReason> {
    if let Some(whole) = &batch.whole {
        return forward::form_of(queue, batch, whole).await;
    }
    let now = Instant::now();
    let protocol = queue.choice().choose(batch.came_as_v2, now);
    Ok(encode(queue, batch, protocol).await)
}

/// The same as 1.0, in snappy if it is a sender's own body.
async fn in_v1(queue: &Queue, batch: &Batch) -> Result<Arc<Encoded>, DropReason> {
    match &batch.whole {
        Some(whole) => forward::in_v1(queue, batch, whole).await,
        None => Ok(encode(queue, batch, Protocol::V1).await),
    }
}

/// The log has lost the body, so there is nothing to send.
async fn lost(queue: &Queue, batch: &Batch, reason: DropReason) {
    let dropped = vec![(reason, batch.counts)];
    let outcome = Outcome {
        dropped,
        ..Outcome::default()
    };
    settle(queue, batch, Lost::default(), outcome).await;
}

/// Waits until the journal's entry is safe: after a crash the next process must know that this batch may
/// have gone out. A journal that cannot be written holds up nothing.
async fn opened(queue: &Queue, batch: &Batch) {
    if let Some(journal) = &queue.journal {
        let ticket = queue.lock().open_ticket(batch.id);
        if let Some(ticket) = ticket {
            journal.synced(ticket).await;
        }
    }
}

/// Judges, and remembers what the answer showed about the receiver's protocol.
fn verdict_of(
    queue: &Queue,
    batch: &Batch,
    encoded: &Encoded,
    counts: Counts,
    answer: &Answer,
) -> Verdict {
    let maybe_stored = {
        let mut state = queue.lock();
        if matches!(answer, Answer::Failed(failure) if failure.sent) {
            state.may_be_stored(batch.id);
        }
        state.is_maybe_stored(batch.id)
    };
    let mut choice = queue.choice();
    let sent = Sent {
        protocol: encoded.protocol,
        counts,
        maybe_stored,
        v2_proved: choice.known() == Known::Proved,
        refuses: queue.refuses,
        foreign_zstd: encoded.as_it_came && encoded.encoding == Encoding::Zstd,
        fallback: match &batch.whole {
            Some(whole) if whole.sender_waits => Fallback::Sender,
            _ if choice.v2_fixed() => Fallback::None,
            _ => Fallback::V1,
        },
    };
    let mut verdict = judge(answer, &sent);
    if matches!(verdict, Verdict::Again(..)) && mutants::present(Mutant::DropOnRetry) {
        verdict = Verdict::Settled(Outcome {
            delivered: counts,
            ..Outcome::default()
        });
    }
    if encoded.protocol == Protocol::V2 {
        match &verdict {
            Verdict::AsV1(why) => {
                if choice.disproved(Instant::now()) {
                    let queue = queue.name();
                    tracing::warn!(queue, %why, "the receiver does not know remote write 2.0: 1.0 for 24 h");
                }
            }
            Verdict::Settled(_) | Verdict::Split(..) if has_written(answer) => choice.proved(),
            _ => choice.undecided(),
        }
    }
    verdict
}

fn has_written(answer: &Answer) -> bool {
    matches!(answer, Answer::Response(response) if written_of(response).is_some())
}

/// The separating headers of a tenant, to be passed on. They came as headers, so they parse.
pub(super) fn headers_of(tenant: &Tenant) -> Vec<(HeaderName, HeaderValue)> {
    let header = |(name, value): &(String, String)| Some((name.parse().ok()?, value.parse().ok()?));
    tenant.0.iter().filter_map(header).collect()
}

fn attempt_of(encoded: &Encoded, tenant: &Tenant, number: u32) -> Attempt {
    let (content_type, version) = match encoded.protocol {
        Protocol::V1 => (CONTENT_TYPE_V1, "0.1.0"),
        Protocol::V2 => (CONTENT_TYPE_V2, "2.0.0"),
    };
    let (content_encoding, version_header) = match encoded.encoding {
        Encoding::Snappy => ("snappy", ("X-Prometheus-Remote-Write-Version", version)),
        Encoding::Zstd => ("zstd", ("X-VictoriaMetrics-Remote-Write-Version", "1")),
    };
    let tenant = headers_of(tenant);
    let body = encoded.body.clone();
    Attempt {
        body,
        content_type,
        content_encoding,
        version_header,
        tenant,
        number,
    }
}

async fn encode(queue: &Queue, batch: &Batch, protocol: Protocol) -> Arc<Encoded> {
    let metadata = queue.lock().metadata_of(&batch.tenant);
    let encoding = if protocol == Protocol::V1 {
        queue.compression
    } else {
        Encoding::Snappy
    };
    let content = &batch.content;
    let encoded = encode_as(queue, protocol, encoding, content, &metadata).await;
    let encoded = Arc::new(encoded);
    queue.lock().keep_encoded(batch.id, Arc::clone(&encoded));
    encoded
}

/// Encodes in the scratch that all share.
pub(super) async fn encode_as(
    queue: &Queue,
    protocol: Protocol,
    encoding: Encoding,
    content: &Content,
    metadata: &(dyn MetadataSource + Sync),
) -> Encoded {
    queue
        .encoders
        .with(|scratch| {
            scratch.message.clear();
            let message = &mut scratch.message;
            let lost = scratch.encoder.encode(protocol, content, metadata, message);
            let compressed = &mut scratch.compressed;
            let body = match encoding {
                Encoding::Snappy => encode_snappy(&mut scratch.snappy, message, compressed),
                Encoding::Zstd => encode_zstd(message, ZSTD_LEVEL, compressed),
            };
            Encoded {
                protocol,
                encoding,
                // What is kept until the verdict is as long as it is, not as it might have been.
                body: Bytes::copy_from_slice(body),
                lost,
                as_it_came: false,
            }
        })
        .await
}

/// Books a batch: the receiver's part, and what the message could not carry.
async fn settle(queue: &Queue, batch: &Batch, lost: Lost, mut outcome: Outcome) {
    let unrepresentable = lost.unrepresentable;
    if !unrepresentable.is_zero() {
        outcome
            .dropped
            .push((DropReason::Unrepresentable, unrepresentable));
    }
    outcome.degraded = lost.degraded;
    let concluded = queue.lock().conclude(batch.id, outcome, Instant::now());
    queue.dispatch_changed.notify_one();
    let Some(Concluded { outcome, ticket }) = concluded else {
        // Of a batch that was refused, another part follows.
        queue.read_changed.notify_one();
        return;
    };
    if let Some(refusal) = &outcome.refusal {
        queue.report(refusal);
        queue.warn_refused(refusal, &outcome);
    }
    if let (Some(journal), Some(ticket)) = (&queue.journal, ticket) {
        journal.written(ticket).await;
    }
    {
        let mut state = queue.lock();
        state.finish(batch.id, Instant::now(), &*queue.log);
        state.checkpoint_if_wanted(&*queue.log);
    }
    queue.dispatch_changed.notify_one();
    queue.read_changed.notify_one();
}

/// Number of a batch, for the state's bookkeeping of encoded bodies.
pub(super) type EncodedBatches = std::collections::HashMap<BatchId, Arc<Encoded>>;
