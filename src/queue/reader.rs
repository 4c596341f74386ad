//! From the log to the lanes: fetches records, decodes them where it must, and lets
//! [`super::take`] decide.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::handle::Queue;
use super::ledger::DropReason;
use super::take::{Plan, Role};
use super::whole::Offered;
use crate::clock::Instant;
use crate::log::{Fetched, Seq};
use crate::vital::Vital;
use crate::wire;
use crate::wire::compression::Encoding;
use crate::wire::decoded::{Decoded, Protocol};

/// Bodies above this are decoded on a thread that may block.
const LARGE_BODY: usize = 256 << 10;

/// After this a record that cannot be read is tried again.
pub(super) const UNREADABLE_PAUSE: Duration = Duration::from_millis(200);

/// Reads until `cancel`.
pub(super) async fn read(queue: Arc<Queue>, cancel: CancellationToken) {
    let _vital = Vital;
    while !cancel.is_cancelled() {
        let (plan, generation) = {
            let mut state = queue.lock();
            state.checkpoint_if_wanted(&*queue.log);
            (state.plan(Instant::now()), state.generation())
        };
        match plan {
            Plan::Wait => tokio::select! {
                () = queue.read_changed.notified() => {}
                () = cancel.cancelled() => return,
            },
            Plan::Resume => {
                queue.lock().resume(Instant::now(), &*queue.log);
                queue.dispatch_changed.notify_one();
            }
            Plan::Lead(seq) => match fetch(&queue, seq).await {
                Some(fetched) => {
                    if let Some(shadow) = &queue.shadow {
                        shadow.offer(&fetched);
                    }
                    feed(&queue, Role::Lead, fetched, generation).await;
                }
                // Parked lanes may have room, or what was to come was given up for room.
                None if queue.lock().rest(&*queue.log) => {}
                None => tokio::select! {
                    () = queue.log.appended(seq) => {}
                    () = queue.read_changed.notified() => {}
                    () = cancel.cancelled() => return,
                },
            },
            Plan::Laggard(seq) => again(&queue, Role::Laggard, seq, generation).await,
            Plan::Requeue(seq) => again(&queue, Role::Requeue, seq, generation).await,
            Plan::Replay(seq) => again(&queue, Role::Replay, seq, generation).await,
        }
        // Reading a backlog never waits by itself: others want the core too.
        tokio::task::yield_now().await;
    }
}

/// The first record at or after `seq`; from a disk on a thread that may block.
pub(super) async fn fetch(queue: &Queue, seq: Seq) -> Option<Fetched> {
    if queue.log.is_at_hand(queue.index, seq) {
        return queue.log.fetch(queue.index, seq);
    }
    let (log, index) = (Arc::clone(&queue.log), queue.index);
    finished(tokio::task::spawn_blocking(move || log.fetch(index, seq)).await).await
}

/// What a task on another thread came to. A panic there is one here; and if it was cut short, the runtime ends,
/// and nothing must follow from that.
async fn finished<T>(result: Result<T, tokio::task::JoinError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => std::future::pending().await,
    }
}

/// Reads a record a second time.
async fn again(queue: &Arc<Queue>, role: Role, seq: Seq, generation: u64) {
    let fetched = fetch(queue, seq).await;
    match fetched.filter(|fetched| fetched.record.seq == seq) {
        Some(fetched) => feed(queue, role, fetched, generation).await,
        // It is there, and cannot be read now.
        None if queue.log.holds(seq) => tokio::time::sleep(UNREADABLE_PAUSE).await,
        None => {
            let reason = queue.log.why_gone(seq).into();
            gone(queue, seq, reason);
        }
    }
}

async fn feed(queue: &Arc<Queue>, role: Role, fetched: Fetched, generation: u64) {
    let record = Arc::clone(&fetched.record);
    let slot = {
        let mut state = queue.lock();
        if state.generation() != generation {
            return;
        }
        match role {
            Role::Lead => state.enter(&record, &*queue.log),
            Role::Laggard | Role::Requeue => state.slot_of(record.seq),
            Role::Replay => state.enter_replay(&record),
        }
    };
    let Some(slot) = slot else { return };
    match offer_whole(queue, role, slot, &fetched, generation) {
        Offered::Usual => {}
        Offered::Taken => return queue.dispatch_changed.notify_one(),
        Offered::Later => return,
    }
    let Some(decoded) = decoded_of(queue, role, fetched).await else {
        gone(queue, record.seq, DropReason::Unreadable);
        return;
    };
    let mut state = queue.lock();
    // While this task decoded, the state may have been rewound, or the record settled or withdrawn.
    if state.generation() != generation || state.slot_of(record.seq) != Some(slot) {
        return;
    }
    if state.is_withheld(slot) {
        state.pass_by(record.seq);
        return;
    }
    state.take(role, slot, &decoded, Instant::now(), &*queue.log);
    drop(state);
    queue.dispatch_changed.notify_one();
}

/// In passthrough a record is not decoded: its body goes out whole.
fn offer_whole(
    queue: &Queue,
    role: Role,
    slot: u32,
    fetched: &Fetched,
    generation: u64,
) -> Offered {
    // One whose bytes were damaged is booked in the usual way.
    if !queue.passthrough || fetched.body.is_none() && fetched.decoded.is_none() {
        return Offered::Usual;
    }
    let mut state = queue.lock();
    if state.generation() != generation || state.slot_of(fetched.record.seq) != Some(slot) {
        return Offered::Later;
    }
    state.offer_whole(role, slot, fetched.body.as_ref(), Instant::now())
}

fn gone(queue: &Queue, seq: Seq, reason: DropReason) {
    queue.lock().gone(seq, reason, Instant::now(), &*queue.log);
    queue.dispatch_changed.notify_one();
}

/// The decoded form: from memory while it is there, else from the bytes.
async fn decoded_of(queue: &Arc<Queue>, role: Role, fetched: Fetched) -> Option<Arc<Decoded>> {
    if let Some(decoded) = fetched.decoded {
        return Some(decoded);
    }
    let (record, body) = (fetched.record, fetched.body?);
    queue.lock().decoded_again(role);
    decode(queue, record.protocol, record.encoding, body).await
}

/// Decodes a body of the log.
pub(super) async fn decode(
    queue: &Queue,
    protocol: Protocol,
    encoding: Encoding,
    body: Bytes,
) -> Option<Arc<Decoded>> {
    let (limits, length) = (queue.walk.clone(), body.len());
    let decode = move || {
        let (size, walk) = (limits.size, &limits.walk);
        wire::decode(&body, encoding, protocol, size, walk, &limits.key)
    };
    let decoded = if length > LARGE_BODY {
        finished(tokio::task::spawn_blocking(decode).await).await
    } else {
        decode()
    };
    match decoded {
        Ok(decoded) => Some(Arc::new(decoded)),
        Err(error) => {
            // Ingest has decoded these very bytes before it let them in.
            tracing::error!(queue = queue.name(), %error, "a record of the log could not be read");
            None
        }
    }
}
