//! A sender that behaves like a Prometheus with its queue manager.
//!
//! Targets are scraped at their own offsets; their samples go, in that order, to the shard that the
//! series' number picks. A shard has one connection and one request in flight, makes one
//! `TimeSeries` of each element, and repeats a request byte by byte until a final answer.
//!
//! Differs from Prometheus in three points: the number of shards is fixed; a request can be given
//! up after some attempts; 429 is always final, as `retry_on_http_429: false` makes it.

mod feed;
mod ledger;
mod post;
mod report;
mod shard;

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use ledger::{Fate, Ledger};
pub use post::LoadError;
pub(crate) use post::{VERSION_HEADER, WRITTEN_HEADERS};
pub use report::{Fates, Latency, LoadReport, LoadSummary};

use self::feed::Feed;
use self::post::{Poster, Route};
use self::report::Totals;
use self::shard::{Courier, Shard, lock};
use super::Protocol;
use super::data::{DataOptions, DataSet, Item};
use super::encode::{EncodedLabels, Encoder, metadata};

/// Metadata entries in one request; Prometheus' default.
const METADATA_PER_SEND: usize = 2_000;

/// Timestamps of a run that is neither real-time nor bounded begin this long ago.
const UNBOUNDED_START_AGO_MS: i64 = 3_600_000;

/// How fast the data's time goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Speed {
    /// As the clock.
    Realtime,
    /// So many times as fast as the clock.
    Times(f64),
    /// As fast as the receiver takes it.
    #[default]
    Full,
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("not a speed: {text:?} (realtime, full, or a factor such as 10x)");
        match text {
            "realtime" => Ok(Self::Realtime),
            "full" => Ok(Self::Full),
            _ => {
                let factor = text.strip_suffix('x').ok_or_else(refuse)?;
                let factor: f64 = factor.parse().map_err(|_| refuse())?;
                (factor > 0.0 && factor.is_finite())
                    .then_some(Self::Times(factor))
                    .ok_or_else(refuse)
            }
        }
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Realtime => f.write_str("realtime"),
            Self::Times(factor) => write!(f, "{factor}x"),
            Self::Full => f.write_str("full"),
        }
    }
}

/// When to stop; whichever comes first. With none set only a cancel ends the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// After so many scrapes of each target.
    pub scrapes: Option<u32>,
    /// After so many samples and histograms.
    pub samples: Option<u64>,
    /// After so much time on the clock.
    pub duration: Option<Duration>,
}

/// Everything about a run.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// Where to POST: `http://host:port/path`.
    pub url: String,
    /// What to send.
    pub data: DataOptions,
    /// Version of the messages.
    pub protocol: Protocol,
    /// Number of shards.
    pub senders: usize,
    /// Elements in a request.
    pub max_samples_per_send: usize,
    /// Elements that may wait for each shard.
    pub capacity: usize,
    /// Age at which a batch leaves although it is not full.
    pub batch_send_deadline: Duration,
    /// How fast.
    pub speed: Speed,
    /// When to stop.
    pub stop: Stop,
    /// Time for one attempt.
    pub remote_timeout: Duration,
    /// Attempts after which a request is given up; `None` tries for ever.
    pub attempts_max: Option<u32>,
    /// Longest wait between two attempts, unless the receiver asks for more; Prometheus' `max_backoff`.
    pub backoff_max: Duration,
    /// Longest wait that a Retry-After may ask for; `None` obeys any, as Prometheus does.
    pub retry_after_max: Option<Duration>,
    /// Time to empty the queues once all is fed, after that the rest is given up.
    pub flush_deadline: Duration,
    /// Headers besides Prometheus' own, for example a tenant's.
    pub headers: Vec<(String, String)>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            url: String::new(),
            data: DataOptions::default(),
            protocol: Protocol::V1,
            senders: 8,
            max_samples_per_send: 2_000,
            capacity: 10_000,
            batch_send_deadline: Duration::from_secs(5),
            speed: Speed::Full,
            stop: Stop::default(),
            remote_timeout: Duration::from_secs(30),
            attempts_max: None,
            backoff_max: Duration::from_secs(5),
            retry_after_max: None,
            flush_deadline: Duration::from_secs(60),
            headers: Vec::new(),
        }
    }
}

impl LoadOptions {
    /// Real-time data begins now; other data ends about now, so that no receiver finds it in the
    /// future.
    fn start_ms(&self) -> i64 {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now_ms = (since_epoch.as_millis() as u64).cast_signed();
        let interval_ms = (self.data.interval.as_millis() as u64).cast_signed();
        self.data
            .start_ms
            .unwrap_or(match (self.speed, self.stop.scrapes) {
                (Speed::Realtime, _) => now_ms,
                (_, Some(scrapes)) => now_ms - i64::from(scrapes) * interval_ms,
                (_, None) => now_ms - UNBOUNDED_START_AGO_MS,
            })
    }
}

/// A run that is set up, and can be watched while it goes on.
pub struct Load {
    options: LoadOptions,
    route: Route,
    data: Arc<DataSet>,
    totals: Arc<Mutex<Totals>>,
    enough: CancellationToken,
}

/// Numbers of a run that goes on.
#[derive(Clone)]
pub struct Progress {
    totals: Arc<Mutex<Totals>>,
    started: Instant,
}

impl Progress {
    /// The numbers now.
    pub fn summary(&self) -> LoadSummary {
        lock(&self.totals).snapshot(self.started.elapsed())
    }
}

/// Sends what the options say until a limit is reached or `cancel` is.
///
/// # Errors
/// The URL or a header cannot be used. What the network does is in the report.
pub async fn run(options: LoadOptions, cancel: CancellationToken) -> Result<LoadReport, LoadError> {
    Ok(Load::new(options)?.run(cancel).await)
}

impl Load {
    /// Checks the options and builds the data.
    ///
    /// # Errors
    /// The URL or a header cannot be used.
    pub fn new(options: LoadOptions) -> Result<Self, LoadError> {
        let route = Route::new(
            &options.url,
            options.protocol,
            &options.headers,
            options.remote_timeout,
        )?;
        let data = Arc::new(DataSet::new(&options.data, options.start_ms()));
        let totals = Arc::new(Mutex::new(Totals::new(options.protocol, &data)));
        Ok(Self {
            options,
            route,
            data,
            totals,
            enough: CancellationToken::new(),
        })
    }

    /// Cancelled, it stops the scraping as a limit does: what the shards have is still sent.
    pub fn enough(&self) -> CancellationToken {
        self.enough.clone()
    }

    /// What will be sent.
    pub fn data(&self) -> &Arc<DataSet> {
        &self.data
    }

    /// A view of the run that goes on while it runs; time counts from this call.
    pub fn progress(&self) -> Progress {
        Progress {
            totals: Arc::clone(&self.totals),
            started: Instant::now(),
        }
    }

    /// Sends until a limit is reached or `cancel` is; a cancelled run gives up what is in flight.
    pub async fn run(self, cancel: CancellationToken) -> LoadReport {
        let started = Instant::now();
        let ledger = Arc::new(Mutex::new(Ledger::new(self.data.slots())));
        let mut senders = JoinSet::new();
        // Ends this run alone: at its flush deadline, or because the caller's token says so.
        let cancel = cancel.child_token();
        let queues = self.start_shards(&ledger, &cancel, &mut senders);
        let metadata = self.start_metadata(&cancel, &mut senders);
        let feeding = self.feed(queues, metadata, &cancel).run();
        let feeding = self.enough.run_until_cancelled(feeding);
        // Where every shard is stuck, the feed is too: its time is over all the same.
        match self.options.stop.duration {
            Some(duration) => drop(tokio::time::timeout(duration, feeding).await),
            None => drop(feeding.await),
        }
        let flushed = async { while senders.join_next().await.is_some() {} };
        if tokio::time::timeout(self.options.flush_deadline, flushed)
            .await
            .is_err()
        {
            cancel.cancel();
        }
        while senders.join_next().await.is_some() {}
        let summary = lock(&self.totals).snapshot(started.elapsed());
        let ledger = std::mem::take(&mut *lock(&ledger));
        LoadReport {
            summary,
            ledger,
            data: self.data,
            headers: self.options.headers,
        }
    }

    fn courier(&self, cancel: &CancellationToken) -> Courier {
        Courier {
            poster: Poster::new(self.route.clone()),
            totals: Arc::clone(&self.totals),
            attempts_max: self.options.attempts_max,
            backoff_max: self.options.backoff_max,
            retry_after_max: self.options.retry_after_max,
            cancel: cancel.clone(),
        }
    }

    fn start_shards(
        &self,
        ledger: &Arc<Mutex<Ledger>>,
        cancel: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Vec<mpsc::Sender<Vec<Item>>> {
        let labels = Arc::new(match self.options.protocol {
            Protocol::V1 => EncodedLabels::new(&self.data),
            Protocol::V2 => EncodedLabels::default(),
        });
        let batches = self.options.capacity / self.options.max_samples_per_send.max(1);
        let start = |_| {
            let (queue, batches) = mpsc::channel(batches.max(1));
            let data = Arc::clone(&self.data);
            let shard = Shard {
                courier: self.courier(cancel),
                encoder: Encoder::new(data, Arc::clone(&labels), self.options.protocol),
                protocol: self.options.protocol,
                data: Arc::clone(&self.data),
                ledger: Arc::clone(ledger),
            };
            tasks.spawn(shard.run(batches));
            queue
        };
        (0..self.options.senders.max(1)).map(start).collect()
    }

    /// In 1.0 metadata goes out in requests of its own, beside the shards.
    fn start_metadata(
        &self,
        cancel: &CancellationToken,
        tasks: &mut JoinSet<()>,
    ) -> Option<mpsc::Sender<()>> {
        if !self.options.data.metadata || self.options.protocol == Protocol::V2 {
            return None;
        }
        let (tick, mut ticks) = mpsc::channel(1);
        let mut courier = self.courier(cancel);
        let labels = Arc::new(EncodedLabels::default());
        let mut encoder = Encoder::new(Arc::clone(&self.data), labels, Protocol::V1);
        let families = metadata(&self.data);
        tasks.spawn(async move {
            while ticks.recv().await.is_some() {
                for part in families.chunks(METADATA_PER_SEND) {
                    let answer = courier.deliver(&encoder.encode_metadata(part)).await.answer;
                    if answer.is_some_and(|answer| (200..300).contains(&answer.status)) {
                        lock(&courier.totals).summary.metadata += part.len() as u64;
                    }
                }
            }
        });
        Some(tick)
    }

    fn feed(
        &self,
        queues: Vec<mpsc::Sender<Vec<Item>>>,
        metadata: Option<mpsc::Sender<()>>,
        cancel: &CancellationToken,
    ) -> Feed {
        Feed {
            data: Arc::clone(&self.data),
            speed: self.options.speed,
            stop: self.options.stop,
            batch_max: self.options.max_samples_per_send.max(1),
            batch_send_deadline: self.options.batch_send_deadline,
            skip_custom_buckets: self.options.protocol == Protocol::V1,
            queues,
            metadata,
            totals: Arc::clone(&self.totals),
            cancel: cancel.clone(),
        }
    }
}
