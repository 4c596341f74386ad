//! Scrapes in the order of their moments, spread over the shards.

use std::future::pending;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::report::Totals;
use super::shard::lock;
use super::{Speed, Stop};
use crate::bench::data::{DataSet, Flavour, Item, What};

/// Metadata goes out this often, in the data's own time.
const METADATA_EVERY_MS: i64 = 60_000;

/// The run is over: cancelled, or a limit was reached.
struct Over;

/// Reads what a Prometheus' WAL would hold, and fills the shards' queues.
pub(super) struct Feed {
    pub(super) data: Arc<DataSet>,
    pub(super) speed: Speed,
    pub(super) stop: Stop,
    pub(super) batch_max: usize,
    pub(super) batch_send_deadline: Duration,
    pub(super) skip_custom_buckets: bool,
    pub(super) queues: Vec<mpsc::Sender<Vec<Item>>>,
    pub(super) metadata: Option<mpsc::Sender<()>>,
    pub(super) totals: Arc<Mutex<Totals>>,
    pub(super) cancel: CancellationToken,
}

/// A batch that is not full yet.
struct Partial {
    items: Vec<Item>,
    due: Option<Instant>,
}

impl Feed {
    /// Runs until a limit is reached or the run is cancelled, then hands over partial batches.
    pub(super) async fn run(self) {
        let new_partial = || Partial {
            items: Vec::with_capacity(self.batch_max),
            due: None,
        };
        let partials = self.queues.iter().map(|_| new_partial()).collect();
        let mut running = Running {
            partials,
            started: Instant::now(),
            sent: 0,
            next_metadata_ms: 0,
            feed: self,
        };
        let Over = running.rounds().await;
        for shard in 0..running.partials.len() {
            if running.hand_over(shard).await.is_err() {
                return;
            }
        }
    }

    /// When something that is due `since_start_ms` in the data's time happens on the clock.
    fn moment(&self, started: Instant, since_start_ms: i64) -> Option<Instant> {
        let factor = match self.speed {
            Speed::Full => return None,
            Speed::Realtime => 1.0,
            Speed::Times(factor) => factor,
        };
        Some(started + Duration::from_secs_f64(since_start_ms as f64 / 1e3 / factor))
    }
}

struct Running {
    feed: Feed,
    partials: Vec<Partial>,
    started: Instant,
    sent: u64,
    next_metadata_ms: i64,
}

impl Running {
    async fn rounds(&mut self) -> Over {
        let data = Arc::clone(&self.feed.data);
        let scrapes = self.feed.stop.scrapes.unwrap_or(u32::MAX);
        for scrape in 0..scrapes {
            for (offset_ms, slots) in data.round() {
                let at_ms = offset_ms + i64::from(scrape) * data.interval_ms();
                if self.pace(at_ms).await.is_err() {
                    return Over;
                }
                if self.scrape(slots, scrape).await.is_err() {
                    return Over;
                }
            }
        }
        Over
    }

    /// Waits for the moment of a scrape; meanwhile, partial batches leave at their deadline.
    async fn pace(&mut self, at_ms: i64) -> Result<(), Over> {
        let until = self.feed.moment(self.started, at_ms);
        let end = self
            .feed
            .stop
            .duration
            .map(|duration| self.started + duration);
        loop {
            self.flush_due();
            let now = Instant::now();
            if self.feed.cancel.is_cancelled() || end.is_some_and(|end| now >= end) {
                return Err(Over);
            }
            let Some(until) = until.filter(|until| *until > now) else {
                break;
            };
            let wake = [Some(until), self.earliest_due(), end];
            let wake = wake.into_iter().flatten().min().unwrap_or(until);
            self.feed
                .cancel
                .run_until_cancelled(sleep_until(wake))
                .await
                .ok_or(Over)?;
        }
        if let Some(metadata) = &self.feed.metadata
            && at_ms >= self.next_metadata_ms
        {
            // Still sending the last round: this one is skipped, as in Prometheus.
            metadata.try_send(()).ok();
            self.next_metadata_ms = at_ms + METADATA_EVERY_MS;
        }
        // At full speed nothing else here may ever wait.
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn scrape(&mut self, slots: Range<u32>, scrape: u32) -> Result<(), Over> {
        let data = Arc::clone(&self.feed.data);
        for slot in slots {
            if self.feed.stop.samples.is_some_and(|most| self.sent >= most) {
                return Err(Over);
            }
            let item = |what| Item { slot, scrape, what };
            if self.feed.skip_custom_buckets && data.histogram(slot) == Some(Flavour::Custom) {
                lock(&self.feed.totals).summary.unrepresentable += 1;
                continue;
            }
            if data.marker_at(slot, scrape) {
                self.offer(item(What::Marker)).await?;
            }
            self.offer(item(What::Sample)).await?;
            if data.exemplar_at(slot, scrape) {
                self.offer(item(What::Exemplar)).await?;
            }
        }
        Ok(())
    }

    async fn offer(&mut self, item: Item) -> Result<(), Over> {
        self.sent += u64::from(item.what != What::Exemplar);
        let shard = (self.feed.data.series_ref(item) % self.partials.len() as u64) as usize;
        let partial = &mut self.partials[shard];
        if partial.items.is_empty() {
            partial.due = Some(Instant::now() + self.feed.batch_send_deadline);
        }
        partial.items.push(item);
        if partial.items.len() < self.feed.batch_max {
            return Ok(());
        }
        self.hand_over(shard).await
    }

    /// Gives a shard its batch; while its queue is full everything waits, as the WAL reader does.
    async fn hand_over(&mut self, shard: usize) -> Result<(), Over> {
        let Err(mut items) = self.try_hand_over(shard) else {
            return Ok(());
        };
        let queue = self.feed.queues[shard].clone();
        loop {
            let due = self.earliest_due();
            let deadline = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.feed.cancel.cancelled() => return Err(Over),
                permit = queue.reserve() => {
                    permit.map_err(|_| Over)?.send(std::mem::take(&mut items));
                    return Ok(());
                }
                () = deadline => self.flush_due(),
            }
        }
    }

    /// Empties a partial batch into its queue, or gives the items back when there is no room.
    fn try_hand_over(&mut self, shard: usize) -> Result<(), Vec<Item>> {
        let partial = &mut self.partials[shard];
        partial.due = None;
        if partial.items.is_empty() {
            return Ok(());
        }
        let fresh = Vec::with_capacity(self.feed.batch_max);
        let items = std::mem::replace(&mut partial.items, fresh);
        match self.feed.queues[shard].try_send(items) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(items) | TrySendError::Closed(items)) => Err(items),
        }
    }

    /// A partial batch past its deadline leaves, if its queue has room: else it is not the one that
    /// waits, and the next deadline tries again.
    fn flush_due(&mut self) {
        let now = Instant::now();
        for shard in 0..self.partials.len() {
            if self.partials[shard].due.is_some_and(|due| due <= now)
                && let Err(items) = self.try_hand_over(shard)
            {
                self.partials[shard].items = items;
                self.partials[shard].due = Some(now + self.feed.batch_send_deadline);
            }
        }
    }

    fn earliest_due(&self) -> Option<Instant> {
        self.partials.iter().filter_map(|partial| partial.due).min()
    }
}
