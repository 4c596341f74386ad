//! A stretch through a queue of its own: the same lanes, the same cuts, and a receiver that is always free. Pure.
//!
//! Time is that of the stretch: a request enters when it arrived, and what becomes due between two of them is cut
//! then. At the end all is due, as in a drain.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Came, Cut, Seen};
use crate::log::{Fetched, Gone, Log, QueueIndex, Record, Seq};
use crate::model::counts::Counts;
use crate::queue::batch::{Batch, Outcome};
use crate::queue::dispatch::Next;
use crate::queue::grouping::{Grouping, LaneRules};
use crate::queue::handle::WalkOptions;
use crate::queue::lanes::LaneLimits;
use crate::queue::state::{MemoryShares, QueueOptions, QueueState};
use crate::queue::take::Role;
use crate::wire;
use crate::wire::compression::Encoding;
use crate::wire::error::DecodeError;

/// What the queue would do with its batches: the part of its options that the cuts depend on.
#[derive(Clone, Debug)]
pub struct Base {
    /// Its lane rules.
    pub rules: LaneRules,
    /// Its limits.
    pub limits: LaneLimits,
}

/// One request of a stretch.
#[derive(Clone, Debug)]
pub struct Held {
    /// As the log has it.
    pub record: Arc<Record>,
    /// Its body, compressed.
    pub body: Bytes,
    /// How that is compressed.
    pub encoding: Encoding,
}

/// Requests in a row.
#[derive(Clone, Debug, Default)]
pub struct Stretch {
    held: Vec<Held>,
    seen: Seen,
    bytes: usize,
}

impl Stretch {
    /// The next request. One without elements is counted and not kept.
    pub fn push(&mut self, held: Held) {
        let record = &held.record;
        let (elements, bytes) = (record.admitted.total(), u64::from(record.body_len));
        self.seen.add(record.protocol, elements, bytes);
        if elements > 0 {
            self.bytes += held.body.len();
            self.held.push(held);
        }
    }

    /// What came: the bytes are those of the requests as their senders made them.
    pub fn came(&self) -> Came {
        self.seen.all()
    }

    /// Compressed bytes held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// From the first arrival to the last.
    pub fn span(&self) -> Duration {
        let arrived = |held: Option<&Held>| held.map(|held| held.record.arrived);
        let (first, last) = (arrived(self.held.first()), arrived(self.held.last()));
        first
            .zip(last)
            .map_or(Duration::ZERO, |(first, last)| last - first)
    }

    /// Elements of the largest request.
    fn largest(&self) -> u32 {
        let elements = self.held.iter().map(|held| held.record.ordinals());
        elements.max().unwrap_or(1)
    }

    fn options(&self, cut: Cut, base: &Base) -> QueueOptions {
        // As much as there is: a stretch is bounded by itself.
        let most = usize::MAX / 4;
        let batch = cut.per_send(base.limits.batch).unwrap_or(self.largest());
        let bytes = match cut {
            Cut::AsSent => most,
            _ => base.limits.batch_bytes,
        };
        let window = match cut {
            Cut::Merged(window) => window,
            _ => Duration::ZERO,
        };
        let grouping = match cut {
            Cut::AsSent | Cut::Arrival => Grouping::Arrival,
            Cut::Target | Cut::Large | Cut::Merged(_) => Grouping::Target,
        };
        QueueOptions {
            name: String::new(),
            index: QueueIndex(0),
            required: false,
            rules: LaneRules {
                grouping,
                ..base.rules.clone()
            },
            limits: LaneLimits::new(u64::MAX / 4, 1, batch, bytes, base.limits.deadline)
                .with_window(window),
            eager: cut == Cut::AsSent,
            passthrough: false,
            min_shards: 1,
            max_shards: 1,
            min_backoff: Duration::ZERO,
            max_backoff: Duration::ZERO,
            memory: MemoryShares {
                lanes: most,
                table: most,
                runs: most,
                metadata: 0,
            },
            // Whatever the queue would leave out came in, and is compared with what came in.
            send_exemplars: true,
            send_histograms: true,
        }
    }

    /// Cuts the stretch, and shows each batch. `pause` is called between two steps of some milliseconds, with
    /// the bytes that this takes in memory; when it says no, nothing more happens.
    ///
    /// # Errors
    /// Never: these bodies were decoded before. A bug ends the stretch and not the process.
    pub fn recut(
        &self,
        cut: Cut,
        base: &Base,
        walk: &WalkOptions,
        pause: &mut dyn FnMut(usize) -> bool,
        each: &mut dyn FnMut(&Batch),
    ) -> Result<(), DecodeError> {
        let options = self.options(cut, base);
        let mut queue = Recut {
            state: QueueState::new(options, Seq(1), Counts::default()),
            each,
        };
        let Some(first) = self.held.first() else {
            return Ok(());
        };
        let (mut now, mut totals) = (first.record.arrived, Counts::default());
        for (at, held) in self.held.iter().enumerate() {
            let record = &held.record;
            let (size, limits, key) = (walk.size, &walk.walk, &walk.key);
            let decoded = wire::decode(
                &held.body,
                held.encoding,
                record.protocol,
                size,
                limits,
                key,
            )?;
            totals += decoded.admitted();
            let entered = Record {
                seq: Seq(at as u64 + 1),
                arrival_ms: record.arrival_ms,
                arrived: record.arrived,
                protocol: record.protocol,
                encoding: held.encoding,
                tenant: Arc::clone(&record.tenant),
                counts: decoded.counts(),
                skipped: record.skipped.clone(),
                admitted: decoded.admitted(),
                totals,
                body_len: record.body_len,
                ack: None,
            };
            let then = now.max(record.arrived);
            queue.send(now, then);
            now = then;
            queue.enter(&Arc::new(entered), &Arc::new(decoded), now);
            queue.send(now, now);
            let gauges = queue.state.gauges();
            if !pause(gauges.table_bytes + gauges.lane_bytes + gauges.run_bytes) {
                return Ok(());
            }
        }
        queue.state.drain();
        queue.send(now, now);
        Ok(())
    }
}

struct Recut<'e> {
    state: QueueState,
    each: &'e mut dyn FnMut(&Batch),
}

impl Recut<'_> {
    fn enter(&mut self, record: &Arc<Record>, decoded: &Arc<wire::decoded::Decoded>, now: Instant) {
        let Some(slot) = self.state.enter(record, &NoLog) else {
            return;
        };
        self.state.take(Role::Lead, slot, decoded, now, &NoLog);
        // Only the number of separation keys in use can stop it.
        while self.state.stalled.is_some() {
            self.state.options.eager = true;
            self.send(now, now);
            self.state.resume(now, &NoLog);
            self.state.options.eager = false;
        }
    }

    /// Sends what becomes due from `now` on until `then`.
    fn send(&mut self, mut now: Instant, then: Instant) {
        loop {
            match self.state.next_send(now) {
                Next::Send(batch, _) => {
                    (self.each)(&batch);
                    let outcome = Outcome {
                        delivered: batch.counts,
                        ..Outcome::default()
                    };
                    self.state.settle(batch.id, outcome, now, &NoLog);
                }
                Next::Wait(Some(due)) if due > now && due <= then => now = due,
                Next::Wait(_) => return,
            }
        }
    }
}

/// The records are held elsewhere.
struct NoLog;

impl Log for NoLog {
    fn is_at_hand(&self, _: QueueIndex, _: Seq) -> bool {
        true
    }
    fn fetch(&self, _: QueueIndex, _: Seq) -> Option<Fetched> {
        None
    }
    fn end_behind(&self, _: Seq) -> Option<(Seq, Counts)> {
        None
    }
    fn first(&self, _: Seq) -> Option<Arc<Record>> {
        None
    }
    fn totals_before(&self, _: Seq) -> Counts {
        Counts::default()
    }
    fn end(&self) -> (Seq, Counts) {
        (Seq(1), Counts::default())
    }
    fn holds(&self, _: Seq) -> bool {
        false
    }
    fn arrival(&self, _: Seq) -> Option<Instant> {
        None
    }
    fn why_gone(&self, _: Seq) -> Gone {
        Gone::ForRoom
    }
    fn release(&self, _: QueueIndex, _: Seq) {}
    fn release_range(&self, _: QueueIndex, _: Seq, _: Seq) {}
    fn appended(&self, _: Seq) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(pending())
    }
}
