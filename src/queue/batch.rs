//! A batch: what one request carries. Once made it never changes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::lanes::KeyRef;
use super::table::SeriesRef;
use crate::log::{Seq, Tenant};
use crate::model::content::Content;
use crate::model::counts::Counts;
use crate::wire::compression::Encoding;
use crate::wire::decoded::Protocol;

/// Number of a batch within its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BatchId(pub u64);

/// Neighbouring ordinals of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// Slot of the record.
    pub record: u32,
    /// First ordinal.
    pub from: u32,
    /// One past the last.
    pub to: u32,
}

/// What one request carries.
#[derive(Debug)]
pub struct Batch {
    /// Its number.
    pub id: BatchId,
    /// Separation key.
    pub key: KeyRef,
    /// Headers that go with it.
    pub tenant: Arc<Tenant>,
    /// Series and how many elements of each.
    pub series: Vec<(SeriesRef, u32)>,
    /// The content, in the order for the encoder.
    pub content: Content,
    /// Slot and ordinal of each element, in the order of `series`.
    pub origins: Vec<(u32, u32)>,
    /// The elements, by record.
    pub runs: Vec<Run>,
    /// Elements by kind.
    pub counts: Counts,
    /// Something in it came as 2.0.
    pub came_as_v2: bool,
    /// It may already be at the receiver: a refusal is no evidence against its series.
    pub maybe_stored: bool,
    /// When its oldest element arrived.
    pub arrived: Instant,
    /// When it was cut.
    pub cut: Instant,
    /// It is a sender's own body, and has no content of ours.
    pub whole: Option<Whole>,
}

/// A body that goes out as it came.
#[derive(Clone, Debug)]
pub struct Whole {
    /// Its record.
    pub seq: Seq,
    /// The record's slot.
    pub slot: u32,
    /// Which message it is.
    pub protocol: Protocol,
    /// How it is compressed.
    pub encoding: Encoding,
    /// Its sender waits for the receiver's answer.
    pub sender_waits: bool,
    /// Bytes of it.
    pub bytes: usize,
    /// The body, where it was at hand; else it is fetched when it is sent.
    pub body: Option<Bytes>,
}

impl Batch {
    /// What is really in it, by kind.
    pub fn held(&self) -> Counts {
        match self.whole {
            Some(_) => self.counts,
            None => self.content.counts(),
        }
    }
}

/// Runs of these origins (slot, ordinal), sorted.
pub fn runs_of(mut origins: Vec<(u32, u32)>) -> Vec<Run> {
    origins.sort_unstable();
    let mut runs: Vec<Run> = Vec::new();
    for (record, ordinal) in origins {
        match runs.last_mut() {
            Some(run) if run.record == record && run.to == ordinal => run.to += 1,
            _ => runs.push(Run {
                record,
                from: ordinal,
                to: ordinal + 1,
            }),
        }
    }
    runs
}

/// What became of a batch. The parts add up to its counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The receiver said it has them.
    pub delivered: Counts,
    /// Refused or unanswered, and perhaps stored.
    pub unconfirmed: Counts,
    /// Taken out, by reason.
    pub dropped: Vec<(super::ledger::DropReason, Counts)>,
    /// What the receiver refused for good is told to waiting senders, with its message.
    pub refusal: Option<String>,
    /// Elements that went out without their start timestamp.
    pub degraded: u64,
    /// It was refused because the receiver does not take this kind of message.
    pub unsupported: bool,
}

impl Outcome {
    /// What became of another part of the same batch.
    pub(super) fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.unconfirmed += other.unconfirmed;
        for (reason, counts) in &other.dropped {
            match self.dropped.iter_mut().find(|(known, _)| known == reason) {
                Some((_, sum)) => *sum += *counts,
                None => self.dropped.push((*reason, *counts)),
            }
        }
        if self.refusal.is_none() {
            self.refusal.clone_from(&other.refusal);
        }
        self.degraded += other.degraded;
        self.unsupported |= other.unsupported;
    }

    /// All parts together.
    pub fn total(&self) -> Counts {
        let dropped: Counts = self.dropped.iter().map(|(_, counts)| *counts).sum();
        self.delivered + self.unconfirmed + dropped
    }
}
