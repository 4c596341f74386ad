//! What a queue tells about itself to people: the page, `sluicegate status`.

use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use super::attempts::{Answers, Attempts, Error, Failing};
use super::autoscale::Decision;
use super::client::{Answer, FailureKind};
use super::forward::Ceiling;
use super::gate::GateState;
use super::handle::{Endpoint, Queue, QueueSnapshot};
use super::journal::writer::JournalHealth;
use super::protocol::Known;
use super::shadow::thread::{Shadow, ShadowFacts};
use crate::clock::{Instant, wall_ms};

/// Everything that people are told about a queue, of one moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Books, work, gauges and lag.
    pub snapshot: QueueSnapshot,
    /// Senders' answers and the log's records wait for it.
    pub required: bool,
    /// It counts and throws away.
    pub discards: bool,
    /// Whether its endpoint may be sent to.
    pub gate: GateState,
    /// What is known of the receiver's protocol.
    pub known: Known,
    /// How many permits, and why.
    pub decision: Decision,
    /// Least and greatest number of permits.
    pub bounds: (usize, usize),
    /// How long a sample may wait for company before it is sent.
    pub patience: Duration,
    /// In passthrough: what limits it.
    pub ceiling: Option<Ceiling>,
    /// What became of its attempts.
    pub attempts: AttemptFacts,
    /// How its journal is, if it keeps one.
    pub journal: Option<JournalHealth>,
    /// What sending would come to, if it is measured.
    pub shadow: Option<ShadowFacts>,
}

/// What became of the attempts.
#[derive(Clone, Debug)]
pub struct AttemptFacts {
    /// By status code, or by how they failed.
    pub codes: Vec<(String, Answers)>,
    /// Median of the last five minutes.
    pub p50: Option<Duration>,
    /// 99 of 100 took no longer.
    pub p99: Option<Duration>,
    /// Since when nothing succeeds.
    pub failing: Option<Failing>,
    /// When the receiver last did its part: wall clock, milliseconds.
    pub last_success_ms: Option<i64>,
    /// The latest errors, the latest first.
    pub errors: Vec<Error>,
    /// Compressed bytes of all attempts.
    pub sent_bytes: u64,
    /// Compressed bytes of those that settled a batch.
    pub settled_bytes: u64,
}

/// What a history of the queue needs: sums that only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Elements that the receiver has, perhaps has, or that went to `discard:`.
    pub out: u64,
    /// Elements refused by the receiver, or given up by a limit or by damage.
    pub lost: u64,
    /// Batched elements that have their verdict.
    pub settled: u64,
    /// Attempts that failed and are made again.
    pub retries: u64,
    /// Attempts that ended a batch.
    pub batches: u64,
    /// Compressed bytes of all attempts.
    pub sent_bytes: u64,
}

impl QueueSnapshot {
    /// Elements that the receiver has, perhaps has, or that went to `discard:`; and elements refused by the
    /// receiver, or given up by a limit or by damage. What is withdrawn is still the sender's.
    pub fn out_and_lost(&self) -> (u64, u64) {
        use super::ledger::DropReason::{self, Discarded, NotSent, Withdrawn};
        let ledger = &self.books.ledger;
        let dropped = |reason: DropReason| ledger.dropped[reason as usize].total();
        let out = (ledger.delivered + ledger.unconfirmed).total() + dropped(Discarded);
        let lost = DropReason::ALL
            .into_iter()
            .filter(|reason| !matches!(reason, Discarded | NotSent | Withdrawn));
        (out, lost.map(dropped).sum())
    }
}

impl Queue {
    pub(super) fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sums for a history.
    pub fn sums(&self) -> Sums {
        let snapshot = self.snapshot();
        let (out, lost) = snapshot.out_and_lost();
        Sums {
            out,
            lost,
            settled: snapshot.work.settled,
            retries: snapshot.work.retries,
            batches: snapshot.work.batches_done,
            sent_bytes: self.attempts().sent_bytes(),
        }
    }

    /// Everything that people are told about it.
    pub fn facts(&self) -> Facts {
        let snapshot = self.snapshot();
        let (gate, required, bounds, patience) = {
            let state = self.lock();
            let options = state.options();
            let waits = options.limits.deadline.max(options.limits.window);
            // A body waits for no company.
            let patience = if options.passthrough {
                Duration::ZERO
            } else {
                waits
            };
            let bounds = (options.min_shards, options.max_shards);
            (state.gate.state(), options.required, bounds, patience)
        };
        Facts {
            snapshot,
            required,
            discards: matches!(self.endpoint, Endpoint::Discard),
            gate,
            known: self.choice().known(),
            decision: self.decision(),
            bounds,
            patience,
            ceiling: self.ceiling(),
            attempts: self.attempt_facts(),
            journal: self.journal_health(),
            shadow: self.shadow_facts(),
        }
    }

    /// What sending would come to, if it is measured.
    pub fn shadow_facts(&self) -> Option<ShadowFacts> {
        self.shadow.as_ref().map(Shadow::facts)
    }

    fn attempt_facts(&self) -> AttemptFacts {
        let (mut attempts, now) = (self.attempts(), Instant::now());
        let codes = attempts.codes().iter();
        AttemptFacts {
            codes: codes.map(|(code, count)| (code.clone(), *count)).collect(),
            p50: attempts.latency(0.5, now),
            p99: attempts.latency(0.99, now),
            failing: attempts.failing().cloned(),
            last_success_ms: attempts.last_success_ms(),
            errors: attempts.errors().cloned().collect(),
            sent_bytes: attempts.sent_bytes(),
            settled_bytes: attempts.settled_bytes(),
        }
    }

    /// The receiver did its part, with a body of so many bytes.
    pub(super) fn attempt_succeeded(&self, bytes: usize) {
        self.attempts().succeeded(bytes as u64, wall_ms());
    }

    /// The attempt has to be made again.
    pub(super) fn attempt_failed(&self, answer: &Answer, why: &str) {
        self.attempts()
            .failed(&code_of_answer(answer), why, wall_ms());
    }
}

/// A label value for an answer: a code, or how it failed.
pub(super) fn code_of_answer(answer: &Answer) -> String {
    match answer {
        Answer::Response(response) => code_of(response.status),
        Answer::Failed(failure) => failure_of(failure.kind).to_owned(),
    }
}

/// Codes that receivers really answer, each by itself; the rest by class.
fn code_of(status: u16) -> String {
    match status {
        200 | 202 | 204 | 301 | 302 | 307 | 308 | 400 | 401 | 403 | 404 | 408 | 409 | 413 | 415
        | 422 | 429 | 500 | 502 | 503 | 504 => status.to_string(),
        other => format!("{}xx", other / 100),
    }
}

fn failure_of(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Dns => "dns",
        FailureKind::Connect => "connect",
        FailureKind::Tls => "tls",
        FailureKind::Timeout => "timeout",
        FailureKind::Closed => "closed",
        FailureKind::Other => "other",
    }
}
