//! One sender shard: takes a batch, sends it until it is settled, then takes the next.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::ledger::{Fate, Ledger};
use super::post::{Answer, NoAnswer, Poster};
use super::report::Totals;
use crate::bench::Protocol;
use crate::bench::data::{DataSet, Item, What};
use crate::bench::encode::Encoder;

/// The first wait between attempts; Prometheus' default `min_backoff`.
const BACKOFF_MIN: Duration = Duration::from_millis(30);

/// Locks, and goes on after a panic elsewhere: the numbers are still the best there are.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends bodies one after the other and never passes one that is not settled.
pub(super) struct Courier {
    pub(super) poster: Poster,
    pub(super) totals: Arc<Mutex<Totals>>,
    /// Attempts after which a request is given up; `None` tries for ever.
    pub(super) attempts_max: Option<u32>,
    pub(super) backoff_max: Duration,
    pub(super) retry_after_max: Option<Duration>,
    pub(super) cancel: CancellationToken,
}

/// What became of a body.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivery {
    /// The final answer; `None` when given up or cancelled.
    pub(super) answer: Option<Answer>,
    /// Attempts that may have brought it to the receiver.
    pub(super) sent: u32,
}

impl Courier {
    /// Sends a body until a final answer.
    ///
    /// Source: Prometheus' `queue_manager.go`, `sendWriteRequestWithBackoff`.
    pub(super) async fn deliver(&mut self, body: &Bytes) -> Delivery {
        let mut sent = 0;
        let answer = self.attempts(body, &mut sent).await;
        Delivery { answer, sent }
    }

    async fn attempts(&mut self, body: &Bytes, sent: &mut u32) -> Option<Answer> {
        let mut backoff = BACKOFF_MIN;
        for attempt in 0..self.attempts_max.unwrap_or(u32::MAX) {
            if attempt > 0 {
                lock(&self.totals).summary.retries += 1;
            }
            let started = Instant::now();
            let cancel = self.cancel.clone();
            let result = cancel
                .run_until_cancelled(self.poster.post(body.clone(), attempt))
                .await;
            let result = result?;
            *sent += u32::from(result.as_ref().map_or_else(|error| error.sent, |_| true));
            let answer = self.count(result, body.len(), started.elapsed());
            let retry_after = match answer {
                Some(answer) if answer.status < 500 => return Some(answer),
                Some(answer) => answer.retry_after,
                None => None,
            };
            let most = self.retry_after_max.unwrap_or(Duration::MAX);
            let sleep = retry_after.map_or(backoff, |asked| asked.min(most));
            cancel
                .run_until_cancelled(tokio::time::sleep(sleep))
                .await?;
            backoff = (sleep * 2).min(self.backoff_max);
        }
        None
    }

    fn count(
        &self,
        result: Result<Answer, NoAnswer>,
        bytes: usize,
        took: Duration,
    ) -> Option<Answer> {
        let mut totals = lock(&self.totals);
        match result {
            Ok(answer) => {
                totals.attempt(Some(answer.status), bytes, took);
                Some(answer)
            }
            Err(error) => {
                totals.attempt(None, bytes, took);
                totals.summary.network_errors += 1;
                totals.summary.network_error = Some(error.to_string());
                None
            }
        }
    }
}

/// A shard with everything it needs.
pub(super) struct Shard {
    pub(super) courier: Courier,
    pub(super) encoder: Encoder,
    pub(super) protocol: Protocol,
    pub(super) data: Arc<DataSet>,
    pub(super) ledger: Arc<Mutex<Ledger>>,
}

impl Shard {
    /// Sends batches until the queue is closed and empty; after a cancel it only empties it.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Vec<Item>>) {
        while let Some(items) = queue.recv().await {
            if self.courier.cancel.is_cancelled() {
                continue;
            }
            let body = self.encoder.encode(&items);
            let Delivery { answer, sent } = self.courier.deliver(&body).await;
            let fate = self.judge(answer, &items);
            lock(&self.courier.totals).settle(&items, fate);
            let mut ledger = lock(&self.ledger);
            for item in &items {
                ledger.record(*item, fate);
                if sent > 1 {
                    ledger.record_repeated(*item);
                }
            }
        }
    }

    fn judge(&self, answer: Option<Answer>, items: &[Item]) -> Fate {
        match answer {
            None => Fate::Indeterminate,
            Some(answer) if !(200..300).contains(&answer.status) => Fate::Refused,
            Some(answer) if self.protocol == Protocol::V2 => self.judge_written(answer, items),
            Some(_) => Fate::Acknowledged,
        }
    }

    /// Holds the Written headers against what was sent.
    fn judge_written(&self, answer: Answer, items: &[Item]) -> Fate {
        let mut sent = [0; 3];
        for item in items {
            let kind = match (item.what, self.data.histogram(item.slot)) {
                (What::Exemplar, _) => 2,
                (What::Sample, Some(_)) => 1,
                _ => 0,
            };
            sent[kind] += 1;
        }
        let mut totals = lock(&self.courier.totals);
        match answer.written {
            Some(written) if written == sent => Fate::Acknowledged,
            None | Some([0, 0, 0]) => {
                totals.summary.unwritten_requests += 1;
                Fate::Refused
            }
            Some(_) => {
                totals.summary.miscounted_requests += 1;
                Fate::Indeterminate
            }
        }
    }
}
