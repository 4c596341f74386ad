//! Passthrough, where it touches the log and the wire: fetches bodies, and says how much such a queue can carry.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::batch::{Batch, Whole};
use super::convert::content_of;
use super::handle::Queue;
use super::ledger::DropReason;
use super::reader::{UNREADABLE_PAUSE, decode, fetch};
use super::sender::{Encoded, encode_as};
use crate::clock::Instant;
use crate::vital::Vital;
use crate::wire::compression::Encoding;
use crate::wire::decoded::Protocol;
use crate::wire::encode::{Lost, NoMetadata};

/// How often the ceiling is looked at.
const CEILING_TICK: Duration = Duration::from_secs(10);
/// Requests with a verdict from which on a mean says something.
const ENOUGH: u64 = 20;
/// A ceiling that has changed by less than this factor is not told again.
const CHANGED: f64 = 2.0;

/// The body as it came; as 1.0 if the receiver is known not to take 2.0 and its sender does not wait, who would
/// be told.
pub(super) async fn form_of(
    queue: &Queue,
    batch: &Batch,
    whole: &Whole,
) -> Result<Arc<Encoded>, DropReason> {
    if whole.protocol == Protocol::V2 && !whole.sender_waits {
        let protocol = queue.choice().choose(true, Instant::now());
        if protocol == Protocol::V1 {
            return in_v1(queue, batch, whole).await;
        }
    }
    let encoded = Arc::new(Encoded {
        protocol: whole.protocol,
        encoding: whole.encoding,
        body: body_of(queue, whole).await?,
        lost: Lost::default(),
        as_it_came: true,
    });
    queue.lock().keep_encoded(batch.id, Arc::clone(&encoded));
    Ok(encoded)
}

/// The same elements as a request of 1.0 in snappy.
pub(super) async fn in_v1(
    queue: &Queue,
    batch: &Batch,
    whole: &Whole,
) -> Result<Arc<Encoded>, DropReason> {
    let body = body_of(queue, whole).await?;
    let decoded = decode(queue, whole.protocol, whole.encoding, body).await;
    let (content, invalid) = content_of(&*decoded.ok_or(DropReason::Unreadable)?);
    let (protocol, encoding) = (Protocol::V1, Encoding::Snappy);
    let mut encoded = encode_as(queue, protocol, encoding, &content, &NoMetadata).await;
    encoded.lost.unrepresentable += invalid;
    let encoded = Arc::new(encoded);
    queue.lock().keep_encoded(batch.id, Arc::clone(&encoded));
    Ok(encoded)
}

/// The body, from where it was kept or from the log.
async fn body_of(queue: &Queue, whole: &Whole) -> Result<Bytes, DropReason> {
    if let Some(body) = &whole.body {
        return Ok(body.clone());
    }
    loop {
        let fetched = fetch(queue, whole.seq).await;
        match fetched.filter(|fetched| fetched.record.seq == whole.seq) {
            Some(fetched) => match (fetched.body, fetched.decoded) {
                (Some(body), _) => return Ok(body),
                (None, None) => return Err(DropReason::Unreadable),
                // Its decoded form was at hand, which is given once: next time it is the body.
                (None, Some(_)) => {}
            },
            // It is there, and cannot be read now.
            None if queue.log.holds(whole.seq) => tokio::time::sleep(UNREADABLE_PAUSE).await,
            None => return Err(queue.log.why_gone(whole.seq).into()),
        }
    }
}

/// How much a queue in passthrough can carry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceiling {
    /// Senders wait for the receiver's answer, so that each of their requests is in flight; else one of each
    /// tenant is.
    pub upstream: bool,
    /// The numbers, once enough was sent.
    pub measured: Option<Measured>,
}

/// What requests are like, and their answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Elements in a request, on average.
    pub per_request: f64,
    /// Time until the receiver's answer: half of the attempts of the last minutes took no longer.
    pub seconds: f64,
}

impl Measured {
    /// Elements a second of one request in flight at a time.
    pub fn per_second(&self) -> f64 {
        self.per_request / self.seconds
    }
}

impl Queue {
    /// How much it can carry; `None` if it cuts batches.
    pub fn ceiling(&self) -> Option<Ceiling> {
        if !self.passthrough {
            return None;
        }
        let (work, upstream) = {
            let state = self.lock();
            let options = state.options();
            (state.work(), options.eager && options.required)
        };
        let seconds = self.attempts().latency(0.5, Instant::now());
        let seconds = seconds.map_or(0.0, |seconds| seconds.as_secs_f64());
        let known = work.batches_done >= ENOUGH && work.settled > 0 && seconds > 0.0;
        let measured = known.then(|| Measured {
            per_request: work.settled as f64 / work.batches_done as f64,
            seconds,
        });
        Some(Ceiling { upstream, measured })
    }
}

/// Says what the ceiling is: once it is known, and when it has changed much.
pub(super) async fn tell_ceiling(queue: Arc<Queue>, cancel: CancellationToken) {
    let _vital = Vital;
    let mut told: Option<f64> = None;
    loop {
        tokio::select! {
            () = tokio::time::sleep(CEILING_TICK) => {}
            () = cancel.cancelled() => return,
        }
        let Some(ceiling) = queue.ceiling() else {
            return;
        };
        let Some(measured) = ceiling.measured else {
            continue;
        };
        let now = measured.per_second();
        let same = |told: f64| now < told * CHANGED && told < now * CHANGED;
        if told.is_some_and(same) {
            continue;
        }
        told = Some(now);
        let answer = Duration::from_secs_f64(measured.seconds);
        let in_flight = if ceiling.upstream {
            "each request that a sender has in flight"
        } else {
            "each tenant: one request is in flight at a time"
        };
        tracing::info!(
            queue = queue.name(),
            samples_per_second = now.round(),
            samples_per_request = measured.per_request.round(),
            answer_time = ?answer,
            "passthrough: the ceiling of {in_flight}"
        );
    }
}
