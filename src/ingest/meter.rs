//! What the door counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;

use super::attach::Attached;
use super::respond::Outcome;
use crate::clock::wall_ms;
use crate::metrics::{self, Registry};
use crate::model::counts::{Counts, Kind};
use crate::wire::decoded::{Decoded, InvalidSeries};

/// What people are told about the door: sums since the process began.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Elements admitted.
    pub samples: u64,
    /// Compressed bytes of admitted requests.
    pub bytes: u64,
    /// Admitted requests.
    pub requests: u64,
    /// When the last one was admitted: wall clock, milliseconds.
    pub last_ms: Option<i64>,
    /// Answers by status code and, for refusals, reason: how many, and when the last one was given.
    pub answers: BTreeMap<(u16, &'static str), (u64, i64)>,
}

/// Handles of the metrics.
pub struct IngestMetrics {
    told: Mutex<Told>,
    registry: Arc<Registry>,
    seconds: ::metrics::Histogram,
    bytes: ::metrics::Counter,
    decoded_bytes: ::metrics::Counter,
    pub(super) withdrawn: ::metrics::Counter,
}

/// What is counted of a request once it is in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission {
    proto: &'static str,
    admitted: Counts,
    /// Bytes of the decoded message.
    decoded: u64,
}

impl Admission {
    pub(super) fn of(decoded: &Decoded) -> Self {
        Self {
            proto: decoded.protocol.as_str(),
            admitted: decoded.admitted(),
            decoded: decoded.body.len() as u64,
        }
    }
}

impl IngestMetrics {
    /// Handles in this registry.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self {
            told: Mutex::default(),
            seconds: registry.histogram(&metrics::REQUEST_SECONDS, &[]),
            bytes: registry.counter(&metrics::RECEIVED_BYTES, &[]),
            decoded_bytes: registry.counter(&metrics::RECEIVED_DECODED_BYTES, &[]),
            withdrawn: registry.counter(&metrics::WITHDRAWN, &[]),
            registry,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What people are told.
    pub fn told(&self) -> Told {
        self.lock().clone()
    }

    pub(super) fn answered(&self, outcome: &Outcome, took: Duration) {
        self.seconds.record(took.as_secs_f64());
        self.count(outcome.status(), outcome.reason());
    }

    /// Counts an answer.
    pub(super) fn count(&self, status: StatusCode, reason: &'static str) {
        let mut told = self.lock();
        let (count, last_ms) = told.answers.entry((status.as_u16(), reason)).or_default();
        (*count, *last_ms) = (*count + 1, wall_ms());
        drop(told);
        self.registry
            .counter(&metrics::REQUESTS, &[status.as_str(), reason])
            .increment(1);
    }

    pub(super) fn admitted(&self, decoded: &Decoded, body: usize) {
        self.let_in(Admission::of(decoded), body);
        self.refused(decoded);
    }

    /// Counts what was admitted, and nothing of what was refused beside it.
    pub(super) fn let_in(&self, admission: Admission, body: usize) {
        let Admission {
            proto,
            admitted,
            decoded,
        } = admission;
        self.bytes.increment(body as u64);
        self.decoded_bytes.increment(decoded);
        let mut told = self.lock();
        told.samples += admitted.total();
        told.bytes += body as u64;
        told.requests += 1;
        told.last_ms = Some(wall_ms());
        drop(told);
        for kind in Kind::ALL.into_iter().filter(|kind| admitted.get(*kind) > 0) {
            let labels = [proto, kind.as_str()];
            self.registry
                .counter(&metrics::RECEIVED, &labels)
                .increment(admitted.get(kind));
        }
    }

    /// Counts what was refused by itself, whether or not anything beside it was admitted.
    pub(super) fn refused(&self, decoded: &Decoded) {
        for row in decoded.series.iter().filter(|row| row.invalid.is_some()) {
            let reason = row.invalid.map_or("", InvalidSeries::reason);
            let counts = [
                row.counts.samples,
                row.counts.histograms,
                row.counts.exemplars,
            ];
            for (kind, count) in Kind::ALL.into_iter().zip(counts) {
                let labels = [reason, kind.as_str()];
                self.registry
                    .counter(&metrics::REFUSED, &labels)
                    .increment(u64::from(count));
            }
        }
    }

    /// Counts a request that ended without an answer, by what was still to come.
    pub(super) fn aborted(&self, missing: &'static str) {
        self.registry
            .counter(&metrics::ABORTED, &[missing])
            .increment(1);
    }

    pub(super) fn attached(&self, to: Attached) {
        let to = match to {
            Attached::Unanswered => "unanswered",
            Attached::Orphan => "orphan",
            Attached::Record => "record",
        };
        self.registry
            .counter(&metrics::ATTACHED, &[to])
            .increment(1);
    }
}
