//! Who waits for a record in `upstream` mode, and what becomes of it.
//!
//! A request is answered once every required queue has settled all of its record. A sender that has
//! waited long enough gets 503; its record is then an *orphan* for a while: the same body takes it over
//! and only what is unsettled is queued again.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::{LogError, Seq};
use crate::model::counts::Counts;

/// What the required queues have made of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Required queues that have not settled all of it.
    pub waiting: usize,
    /// Elements that at least one required receiver refused for good, by kind.
    pub refused: Counts,
    /// The receiver's message for the first of them.
    pub message: Option<String>,
    /// At least one required receiver does not take this kind of message (415), and its sender is to choose
    /// another.
    pub unsupported: bool,
    /// The log could not take the record: there is nothing to wait for.
    pub lost: Option<LogError>,
}

/// Shared between the request that waits and the queues that settle.
#[derive(Debug)]
pub struct Ack {
    outcome: watch::Sender<Outcome>,
    seq: Mutex<Seq>,
}

impl Ack {
    /// A record that `queues` required queues must settle.
    pub fn new(queues: usize) -> Self {
        let (outcome, _) = watch::channel(Outcome {
            waiting: queues,
            ..Outcome::default()
        });
        Self {
            outcome,
            seq: Mutex::new(Seq::default()),
        }
    }

    /// The record's place, once it has one.
    pub fn seq(&self) -> Seq {
        *self.seq.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_seq(&self, seq: Seq) {
        *self.seq.lock().unwrap_or_else(PoisonError::into_inner) = seq;
    }

    /// A required queue has settled all of the record; `refused` of it for good. `unsupported`: because the
    /// receiver does not take this kind of message.
    pub fn settle(&self, refused: Counts, message: Option<&str>, unsupported: bool) {
        self.outcome.send_modify(|outcome| {
            outcome.waiting = outcome.waiting.saturating_sub(1);
            outcome.unsupported |= unsupported;
            // Over several receivers, Written must not claim more than the worst of them took.
            for kind in crate::model::counts::Kind::ALL {
                let slot = outcome.refused.slot(kind);
                *slot = (*slot).max(refused.get(kind));
            }
            if outcome.message.is_none() {
                outcome.message = message.map(str::to_owned);
            }
        });
    }

    /// The record is durable, and that is all that its sender waits for.
    pub fn durable(&self) {
        self.settle(Counts::default(), None, false);
    }

    /// The log could not take the record.
    pub fn lost(&self, why: LogError) {
        self.outcome.send_modify(|outcome| outcome.lost = Some(why));
    }

    /// The outcome so far.
    pub fn outcome(&self) -> Outcome {
        self.outcome.borrow().clone()
    }

    /// Waits until every required queue has settled the record, or it is lost.
    pub async fn settled(&self) -> Outcome {
        let mut outcome = self.outcome.subscribe();
        let seen = outcome
            .wait_for(|outcome| outcome.waiting == 0 || outcome.lost.is_some())
            .await;
        // The sender half lives in `self`, so the channel cannot be closed.
        seen.map(|seen| seen.clone()).unwrap_or_default()
    }
}
