//! Decoded forms on their way from ingest to the readers that have caught up: no second read, no second
//! decode.
//!
//! They are kept under a limit of their own; what finds no room is decoded again by whoever comes to it.
//! Those that are kept stay: they are what the readers come to next. But what waits only for queues that
//! are not even near makes room for those that are.
//!
//! A log that must write a record first holds its decoded form all that time. It asks for room before
//! ([`HandOff::promise`]): what waits for the disk is under the same limit, however many senders wait.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{QueueIndex, Record, Seq};
use crate::wire::decoded::Decoded;

/// Decoded forms, by sequence.
pub(super) struct HandOff {
    held: VecDeque<Held>,
    bytes: usize,
    /// Of decoded forms that wait until their records are durable.
    promised: usize,
    limit: usize,
    /// How far each queue has come.
    at: Vec<Seq>,
}

struct Held {
    record: Arc<Record>,
    decoded: Arc<Decoded>,
    bytes: usize,
    /// Queues that have not had it, a bit each.
    waiting: u64,
}

impl HandOff {
    /// For so many queues, of at most `limit` bytes.
    pub(super) fn new(limit: usize, queues: usize) -> Self {
        Self {
            held: VecDeque::new(),
            bytes: 0,
            promised: 0,
            limit,
            at: vec![Seq::default(); queues],
        }
    }

    /// Keeps a decoded form at hand for all queues, while memory allows.
    pub(super) fn put(&mut self, record: &Arc<Record>, decoded: Arc<Decoded>) {
        let bytes = decoded.heap_bytes();
        if self.has_room(bytes) {
            self.hold(record, decoded, bytes);
        }
    }

    /// Keeps room for a decoded form whose record is not durable yet, while memory allows. What was promised
    /// is either put or given up, once.
    pub(super) fn promise(&mut self, decoded: &Decoded) -> bool {
        let bytes = decoded.heap_bytes();
        let room = self.has_room(bytes);
        if room {
            self.promised += bytes;
        }
        room
    }

    /// The record of this decoded form is durable: readers may come to it.
    pub(super) fn put_promised(&mut self, record: &Arc<Record>, decoded: Arc<Decoded>) {
        let bytes = decoded.heap_bytes();
        self.promised -= bytes;
        self.hold(record, decoded, bytes);
    }

    /// The record of this decoded form did not become durable.
    pub(super) fn give_up(&mut self, decoded: &Decoded) {
        self.promised -= decoded.heap_bytes();
    }

    fn has_room(&mut self, bytes: usize) -> bool {
        if self.bytes() + bytes > self.limit {
            self.forget_the_distant();
        }
        !self.at.is_empty() && self.bytes() + bytes <= self.limit
    }

    fn hold(&mut self, record: &Arc<Record>, decoded: Arc<Decoded>, bytes: usize) {
        self.bytes += bytes;
        self.held.push_back(Held {
            record: Arc::clone(record),
            decoded,
            bytes,
            waiting: u64::MAX >> (64 - self.at.len()),
        });
    }

    /// This record's decoded form, for a queue that has come to it.
    pub(super) fn take(
        &mut self,
        queue: QueueIndex,
        seq: Seq,
    ) -> Option<(Arc<Record>, Arc<Decoded>)> {
        self.at[queue.0 as usize] = seq;
        let place = self.place(seq)?;
        let held = &self.held[place];
        let taken = (Arc::clone(&held.record), Arc::clone(&held.decoded));
        self.pass(queue, seq);
        Some(taken)
    }

    /// This record's decoded form is there.
    pub(super) fn has(&self, seq: Seq) -> bool {
        self.place(seq).is_some()
    }

    /// This queue needs it no more.
    pub(super) fn pass(&mut self, queue: QueueIndex, seq: Seq) {
        let Some(place) = self.place(seq) else {
            return;
        };
        self.held[place].waiting &= !(1 << queue.0);
        if self.held[place].waiting == 0 {
            self.remove(place);
        }
    }

    /// Nobody needs it any more.
    pub(super) fn forget(&mut self, seq: Seq) {
        if let Some(place) = self.place(seq) {
            self.remove(place);
        }
    }

    /// Heap bytes of the decoded forms, those included that wait for the disk.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.promised
    }

    fn place(&self, seq: Seq) -> Option<usize> {
        self.held
            .binary_search_by_key(&seq, |held| held.record.seq)
            .ok()
    }

    fn remove(&mut self, place: usize) {
        if let Some(held) = self.held.remove(place) {
            self.bytes -= held.bytes;
        }
    }

    /// Drops what only queues wait for that have not even come to the oldest of these, unless all are such.
    fn forget_the_distant(&mut self) {
        let Some(oldest) = self.held.front().map(|held| held.record.seq) else {
            return;
        };
        let near = self.at.iter().enumerate().filter(|(_, at)| **at >= oldest);
        let near = near.fold(0u64, |bits, (queue, _)| bits | 1 << queue);
        if near == 0 {
            return;
        }
        self.held.retain(|held| held.waiting & near != 0);
        self.bytes = self.held.iter().map(|held| held.bytes).sum();
    }
}
