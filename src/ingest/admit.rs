//! From a body to a record in the log, and the wait for what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::attach::{Attached, Awaited, BodyId, Waiting};
use super::handler::{Ingest, MEMORY_WAIT, Promise};
use super::meter::Admission;
use super::respond::{Outcome, Refusal};
use crate::clock::{Instant, wall_ms};
use crate::log::ack::{self, Ack};
use crate::log::front::Room;
use crate::log::repeats::Repeat;
use crate::log::{NewRecord, Tenant};
use crate::model::counts::{Counts, Kind};
use crate::model::runs::RunSet;
use crate::wire;
use crate::wire::compression::{Encoding, decoded_len};
use crate::wire::decoded::{Decoded, InvalidSeries, Protocol};

/// Bodies above this are decoded on a thread that may block.
const LARGE_BODY: usize = 256 << 10;

/// A request whose body is here.
pub(super) struct Received {
    pub(super) body: Bytes,
    pub(super) protocol: Protocol,
    pub(super) encoding: Encoding,
    pub(super) tenant: Arc<Tenant>,
    pub(super) room: Room,
    /// Memory for the body: given back once nothing of ours holds it any more, or the log answers for it.
    pub(super) memory: OwnedSemaphorePermit,
    pub(super) began: Instant,
}

impl Received {
    /// Admits what is in it, and waits for what its sender is to be told.
    pub(super) async fn admit(self, ingest: &Arc<Ingest>) -> Result<Outcome, Refusal> {
        if self.body.is_empty() {
            // What Prometheus sends when everything in a request has grown too old meanwhile.
            return Ok(Outcome::Accepted(Counts::default()));
        }
        // Who has to speak before the sender is answered: the queues, or the log once.
        let voices = match ingest.options.promise {
            Promise::InLog => return self.admit_to_log(ingest).await,
            Promise::Durable => 1,
            Promise::Settled(queues) => queues,
        };
        let id = BodyId::of(
            &self.body,
            self.protocol,
            self.encoding,
            &self.tenant,
            &ingest.key,
        );
        let began = self.began;
        if let Some((waiting, attached)) = ingest.attachments.attach(id, &*ingest.readers) {
            ingest.metrics.attached(attached);
            drop(self);
            return wait(ingest, waiting, began).await;
        }
        let decoded = self.decode(ingest).await?;
        let (admitted, invalid) = (decoded.admitted(), decoded.invalid());
        if ingest.is_empty(&decoded) {
            ingest.metrics.refused(&decoded);
            return Ok(outcome_of(admitted, invalid, &ack::Outcome::default()));
        }
        if self.is_repeat(ingest, &decoded).await {
            ingest.metrics.attached(Attached::Record);
            return Ok(outcome_of(admitted, invalid, &ack::Outcome::default()));
        }
        let awaited = Awaited {
            ack: Arc::new(Ack::new(voices)),
            admitted,
            invalid,
        };
        let (log, bytes) = (&ingest.log, self.body.len());
        let copy = Arc::clone(&decoded);
        let append = |ack: Arc<Ack>| match ingest.options.promise {
            Promise::Durable => {
                let (record, room, memory) = self.into_record(copy, None);
                tokio::spawn(make_durable(Arc::clone(ingest), record, room, memory, ack));
            }
            Promise::InLog | Promise::Settled(_) => {
                let (record, room, _memory) = self.into_record(copy, Some(ack));
                log.append_now(record, room);
            }
        };
        let (waiting, attached) = ingest
            .attachments
            .append(id, &*ingest.readers, awaited, append);
        match attached {
            Some(attached) => ingest.metrics.attached(attached),
            // It is counted once it is durable.
            None if ingest.options.promise == Promise::Durable => ingest.metrics.refused(&decoded),
            None => ingest.metrics.admitted(&decoded, bytes),
        }
        drop(decoded);
        wait(ingest, waiting, began).await
    }

    /// The log's word is enough.
    async fn admit_to_log(self, ingest: &Arc<Ingest>) -> Result<Outcome, Refusal> {
        let decoded = self.decode(ingest).await?;
        let (admitted, invalid) = (decoded.admitted(), decoded.invalid());
        if ingest.is_empty(&decoded) {
            ingest.metrics.refused(&decoded);
        } else {
            ingest.metrics.admitted(&decoded, self.body.len());
            let (record, room, _memory) = self.into_record(decoded, None);
            ingest.log.append(record, room).await?;
        }
        Ok(outcome_of(admitted, invalid, &ack::Outcome::default()))
    }

    /// The last process has made this very body durable; its sender did not hear of it.
    async fn is_repeat(&self, ingest: &Arc<Ingest>, decoded: &Decoded) -> bool {
        let Some(repeats) = &ingest.repeats else {
            return false;
        };
        let (body, tenant) = (self.body.clone(), Arc::clone(&self.tenant));
        let (protocol, encoding) = (self.protocol, self.encoding);
        let counts = decoded.counts();
        let known = Repeat {
            body: &body,
            protocol,
            encoding,
            tenant: &tenant,
            counts,
        };
        let candidates = repeats.candidates(&known, Instant::now());
        if candidates.is_empty() {
            return false;
        }
        let repeats = Arc::clone(repeats);
        let holds = move || {
            let repeat = Repeat {
                body: &body,
                protocol,
                encoding,
                tenant: &tenant,
                counts,
            };
            repeats.holds(&repeat, &candidates)
        };
        tokio::task::spawn_blocking(holds).await.unwrap_or(false)
    }

    async fn decode(&self, ingest: &Arc<Ingest>) -> Result<Arc<Decoded>, Refusal> {
        let limit = ingest.options.max_request_size;
        let length = decoded_len(&self.body, self.encoding, limit).map_err(Refusal::Decode)?;
        let memory = ingest.decoding.lend(length * 2, MEMORY_WAIT).await;
        let memory = memory.ok_or(Refusal::Memory)?;
        let (body, encoding, protocol) = (self.body.clone(), self.encoding, self.protocol);
        let (limits, key) = (ingest.options.limits, ingest.key.clone());
        let admit_all = ingest.options.passthrough;
        let decode = move || {
            let _memory = memory;
            let mut decoded = wire::decode(&body, encoding, protocol, limit, &limits, &key)?;
            if admit_all {
                decoded.admit_all();
            }
            Ok(decoded)
        };
        let decoded = if self.body.len() > LARGE_BODY {
            let decoded = tokio::task::spawn_blocking(decode).await;
            decoded.map_err(|_| Refusal::Body("decoding was cut short"))?
        } else {
            decode()
        };
        decoded.map(Arc::new).map_err(Refusal::Decode)
    }

    fn into_record(
        self,
        decoded: Arc<Decoded>,
        ack: Option<Arc<Ack>>,
    ) -> (NewRecord, Room, OwnedSemaphorePermit) {
        let record = NewRecord {
            arrival_ms: wall_ms(),
            encoding: self.encoding,
            tenant: self.tenant,
            skipped: skipped_of(&decoded),
            body: self.body,
            decoded,
            ack,
        };
        (record, self.room, self.memory)
    }
}

/// Appends, and tells all who wait for this body. In a task of its own: a sender that hangs up changes
/// nothing, and if it comes again with the same body while this is under way, it waits for the same record.
///
/// The memory stays lent until then: a disk that hangs must not collect bodies whose senders have left.
async fn make_durable(
    ingest: Arc<Ingest>,
    record: NewRecord,
    room: Room,
    memory: OwnedSemaphorePermit,
    ack: Arc<Ack>,
) {
    let (admission, bytes) = (Admission::of(&record.decoded), record.body.len());
    match ingest.log.append(record, room).await {
        Ok(_) => {
            ingest.metrics.let_in(admission, bytes);
            ack.durable();
        }
        Err(error) => ack.lost(error),
    }
    drop(memory);
}

impl Ingest {
    /// Nothing in it that a queue would take: not even metadata.
    fn is_empty(&self, decoded: &Decoded) -> bool {
        let nothing = decoded.admitted().is_zero() && decoded.metadata.is_empty();
        // A body that goes out whole may carry what is no element: metadata of 2.0, a series without any.
        nothing && (decoded.series.is_empty() || !self.options.passthrough)
    }
}

/// Ordinals of the series that are refused by themselves.
fn skipped_of(decoded: &Decoded) -> RunSet {
    let mut skipped = RunSet::default();
    if decoded.skipped.is_zero() {
        return skipped;
    }
    let counts = decoded.counts();
    let mut next = [
        0,
        counts.samples as u32,
        (counts.samples + counts.histograms) as u32,
    ];
    for row in &decoded.series {
        let held = [
            row.counts.samples,
            row.counts.histograms,
            row.counts.exemplars,
        ];
        for (next, held) in next.iter_mut().zip(held) {
            if row.invalid.is_some() {
                skipped.insert(*next, *next + held);
            }
            *next += held;
        }
    }
    skipped
}

/// Waits until the record is what its sender waits for, or the sender must be told to come back.
async fn wait(ingest: &Ingest, waiting: Waiting, began: Instant) -> Result<Outcome, Refusal> {
    let deadline = began + ingest.options.answer_deadline;
    let awaited = Arc::clone(&waiting.awaited);
    if let Ok(settled) = tokio::time::timeout_at(deadline, awaited.ack.settled()).await {
        waiting.answered();
        if let Some(lost) = settled.lost {
            return Err(lost.into());
        }
        if settled.unsupported {
            let why = settled.message.unwrap_or_default();
            return Err(Refusal::NotSupported(why));
        }
        return Ok(outcome_of(awaited.admitted, awaited.invalid, &settled));
    }
    if ingest.options.promise != Promise::Durable {
        ingest.metrics.withdrawn.increment(1);
        waiting.told_to_come_back(Instant::now(), &*ingest.readers);
    }
    let jitter = Duration::from_millis(fastrand::u64(0..1000));
    Err(Refusal::NotSettled(Duration::from_secs(1) + jitter))
}

fn outcome_of(
    admitted: Counts,
    invalid: Option<(InvalidSeries, usize)>,
    settled: &ack::Outcome,
) -> Outcome {
    let mut written = admitted;
    for kind in Kind::ALL {
        *written.slot(kind) -= settled.refused.get(kind).min(admitted.get(kind));
    }
    let ours = invalid.map(|(why, count)| {
        let first = why.explain();
        (
            why.reason(),
            format!("{count} series refused; the first: {first}"),
        )
    });
    // Metadata is refused without an element of it.
    if settled.refused.is_zero() && settled.message.is_none() {
        return match ours {
            None => Outcome::Accepted(written),
            Some((reason, message)) => Outcome::Partly {
                written,
                message,
                reason,
            },
        };
    }
    let theirs = settled.message.clone().unwrap_or_default();
    let parts = [Some(theirs), ours.map(|(_, message)| message)];
    Outcome::Partly {
        written,
        message: parts.into_iter().flatten().collect::<Vec<_>>().join("; "),
        reason: "refused_by_receiver",
    }
}
