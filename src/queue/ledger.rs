//! The books of a queue: every element received is delivered, unconfirmed, dropped for a reason,
//! quarantined, or pending, at every moment.
//!
//! *Pending* is never computed by subtraction: it is summed from the log, the lanes and the batches, so a
//! sample that is lost anywhere shows as `sluicegate_conservation_error`.

use super::batch::Outcome;
use crate::log::Gone;
use crate::model::counts::Counts;

/// Why elements were taken out. A closed set: these are label values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The receiver refused them for good (400 and its kin).
    Rejected,
    /// The receiver took the request and said that it did not write them.
    NotWritten,
    /// The receiver said the request is too large (413).
    TooLarge,
    /// What we send cannot carry them: histograms with custom buckets in 1.0; series that are invalid by
    /// themselves, of a body that was let in whole (passthrough) and cannot go out so.
    Unrepresentable,
    /// The sender was told to come back and did not; it still has them.
    Withdrawn,
    /// The log needed the room, and the queue is not required or the user chose so.
    LogFull,
    /// Older than the user wants anything kept.
    TooOld,
    /// The receiver is `discard:`.
    Discarded,
    /// The log has lost them: their bytes, or the file they were in, were damaged.
    Unreadable,
    /// The user asked not to send their kind.
    NotSent,
}

impl From<Gone> for DropReason {
    fn from(gone: Gone) -> Self {
        match gone {
            Gone::ForRoom => Self::LogFull,
            Gone::TooOld => Self::TooOld,
            Gone::Damaged => Self::Unreadable,
        }
    }
}

impl DropReason {
    /// All reasons, in the order of their index.
    pub const ALL: [Self; 10] = [
        Self::Rejected,
        Self::NotWritten,
        Self::TooLarge,
        Self::Unrepresentable,
        Self::Withdrawn,
        Self::LogFull,
        Self::TooOld,
        Self::Discarded,
        Self::Unreadable,
        Self::NotSent,
    ];

    /// The value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::NotWritten => "not_written",
            Self::TooLarge => "too_large",
            Self::Unrepresentable => "unrepresentable",
            Self::Withdrawn => "withdrawn",
            Self::LogFull => "log_full",
            Self::TooOld => "too_old",
            Self::Discarded => "discarded",
            Self::Unreadable => "unreadable",
            Self::NotSent => "not_sent",
        }
    }
}

/// What has been settled since the queue began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The receiver said it has them.
    pub delivered: Counts,
    /// Perhaps stored.
    pub unconfirmed: Counts,
    /// Set aside, to be looked at by a person.
    pub quarantined: Counts,
    /// Taken out, by the index of the reason.
    pub dropped: [Counts; DropReason::ALL.len()],
}

impl Ledger {
    /// All that is settled.
    pub fn total(&self) -> Counts {
        let dropped: Counts = self.dropped.iter().copied().sum();
        self.delivered + self.unconfirmed + self.quarantined + dropped
    }

    /// Books a batch.
    pub fn book(&mut self, outcome: &Outcome) {
        self.delivered += outcome.delivered;
        self.unconfirmed += outcome.unconfirmed;
        for (reason, counts) in &outcome.dropped {
            self.drop(*reason, *counts);
        }
    }

    /// Books dropped elements.
    pub fn drop(&mut self, reason: DropReason, counts: Counts) {
        self.dropped[reason as usize] += counts;
    }
}

/// Where the pending elements are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// In records that the reader has not come to.
    pub unread: Counts,
    /// In records that it has come to, left for later.
    pub untaken: Counts,
    /// In lanes.
    pub queued: Counts,
    /// In batches without a verdict.
    pub in_flight: Counts,
}

impl Pending {
    /// All of it.
    pub fn total(&self) -> Counts {
        self.unread + self.untaken + self.queued + self.in_flight
    }
}

/// The books at one moment.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// Elements that came in since the queue began.
    pub received: Counts,
    /// What has been settled.
    pub ledger: Ledger,
    /// What is pending.
    pub pending: Pending,
}

impl Books {
    /// Received minus everything accounted for, over all kinds; anything but 0 is a bug of ours.
    pub fn conservation_error(&self) -> i64 {
        use crate::model::counts::Kind;
        let accounted = self.ledger.total() + self.pending.total();
        let part =
            |kind: Kind| self.received.get(kind).cast_signed() - accounted.get(kind).cast_signed();
        // By magnitude: a sample too many must not hide a histogram too few.
        let errors = Kind::ALL.map(part);
        let missing: i64 = errors.iter().filter(|error| **error > 0).sum();
        let surplus: i64 = errors.iter().filter(|error| **error < 0).sum();
        if missing != 0 { missing } else { surplus }
    }
}
