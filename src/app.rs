//! Puts the parts together, and takes them apart again in the right order.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::AdminServer;
use crate::clock::Instant;
use crate::config::{AckMode, Config};
use crate::ingest::activity::Activity;
use crate::ingest::attach::{Attachments, ORPHAN_FOR};
use crate::ingest::handler::Ingest;
use crate::ingest::meter::IngestMetrics;
use crate::ingest::permits::MemoryShare;
use crate::ingest::server::DataServer;
use crate::log::memory::MemoryLog;
use crate::log::{Log, QueueIndex, Readers, Seq};
use crate::metrics::Registry;
use crate::queue::handle::{Queue, WalkOptions};
use crate::queue::sender::Encoders;
use crate::status::Status;
use crate::wire::decoded::IdentityKey;

mod parts;

use parts::{Common, Shares, ingest_options, queue_memory, queue_parts, walk_limits};

/// A loopback sender that has been silent this long has flushed.
const SENDER_DONE: Duration = Duration::from_secs(2);
/// How often a stopping process looks whether it is done.
const STOP_TICK: Duration = Duration::from_millis(50);
/// How often orphans are looked through.
const ORPHAN_TICK: Duration = Duration::from_secs(5);
/// How often histograms are folded.
const UPKEEP_TICK: Duration = Duration::from_secs(5);

/// The process, put together and bound, not yet running.
pub struct App {
    data: DataServer,
    admin: AdminServer,
    status: Arc<Status>,
    stopping: watch::Sender<bool>,
    deadline: Duration,
}

/// What a stop left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Elements pending when the deadline came.
    pub pending: u64,
    /// Those of them that had been acknowledged: lost.
    pub lost: u64,
}

impl App {
    /// Binds both listeners and starts the queues.
    ///
    /// # Errors
    /// When an address cannot be bound or a receiver's settings cannot work.
    pub async fn build(config: &Config) -> Result<Self, String> {
        let registry = Arc::new(Registry::new());
        let shares = Shares::of(config.memory_limit.0);
        let required: Vec<bool> = config.queues.iter().map(|queue| queue.required).collect();
        let log = MemoryLog::new(shares.log, shares.handoff as usize, &required);
        let walk = WalkOptions {
            size: config.ingest.max_request_size.0,
            walk: walk_limits(config),
            key: IdentityKey::random(),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let common = Common {
            log: Arc::clone(&log) as Arc<dyn Log>,
            walk: walk.clone(),
            encoders: Arc::new(Encoders::new(cores)),
            memory: queue_memory(&shares, config.queues.len()),
            eager: config.ack == AckMode::Upstream,
        };
        let mut queues = Vec::new();
        for (index, queue) in config.queues.iter().enumerate() {
            let parts = queue_parts(queue, QueueIndex(index as u8), &common)?;
            queues.push(Queue::new(parts, Arc::clone(&registry)));
        }
        let (stopping, stopping_seen) = watch::channel(false);
        let ingest = Arc::new(Ingest {
            options: ingest_options(config)?,
            log,
            readers: Arc::new(AllQueues(queues.clone())),
            attachments: Arc::new(Attachments::default()),
            key: walk.key,
            bodies: MemoryShare::new(shares.bodies),
            decoding: MemoryShare::new(shares.decoding),
            stopping: stopping_seen.clone(),
            activity: Activity::default(),
            metrics: IngestMetrics::new(Arc::clone(&registry)),
        });
        let connections = config.ingest.max_connections;
        let bind = |what: &str, addr: SocketAddr, error: std::io::Error| {
            format!("cannot listen on {addr} ({what}): {error}")
        };
        let data = DataServer::bind(config.listen, Arc::clone(&ingest), connections, &registry)
            .await
            .map_err(|error| bind("--listen", config.listen, error))?;
        let status = Arc::new(Status {
            registry,
            queues,
            ingest,
            connections: data.open_connections(),
            ack: config.ack,
            memory_limit: config.memory_limit.0,
            stopping: stopping_seen,
            scrape: Mutex::new(()),
        });
        let admin = AdminServer::bind(config.admin_listen, Arc::clone(&status))
            .await
            .map_err(|error| bind("--web.listen-address", config.admin_listen, error))?;
        Ok(Self {
            data,
            admin,
            status,
            stopping,
            deadline: config.shutdown_deadline,
        })
    }

    /// Where senders deliver.
    pub fn data_addr(&self) -> std::io::Result<SocketAddr> {
        self.data.addr()
    }

    /// Where probes and scrapes go.
    pub fn admin_addr(&self) -> std::io::Result<SocketAddr> {
        self.admin.addr()
    }

    /// The queues, in the order of the configuration.
    pub fn queues(&self) -> &[Arc<Queue>] {
        &self.status.queues
    }

    /// What the process tells about itself.
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Runs until `shutdown`, then stops within the deadline.
    ///
    /// A sender on loopback is stopped at the same moment and flushes what it has, so its listener goes on
    /// accepting until the sender has been silent for two seconds with nothing pending, or half the
    /// deadline is over. Then requests get 503, and what is pending is sent in the rest of the time.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Stopped {
        let Self {
            data,
            admin,
            status,
            stopping,
            deadline,
        } = self;
        let queues_stop = CancellationToken::new();
        let listeners_stop = CancellationToken::new();
        let loopback = data.addr().is_ok_and(|addr| addr.ip().is_loopback());
        for queue in &status.queues {
            queue.start(&queues_stop);
        }
        tokio::spawn(housekeeping(Arc::clone(&status), queues_stop.clone()));
        let admin = tokio::spawn(admin.serve(queues_stop.clone()));
        let data = tokio::spawn(data.serve(listeners_stop.clone()));

        shutdown.await;
        let began = Instant::now();
        tracing::info!(?deadline, "stopping");
        status.queues.iter().for_each(|queue| queue.drain());
        if loopback {
            wait_until(began + deadline / 2, || {
                status.ingest.activity.idle_for() >= SENDER_DONE && is_drained(&status)
            })
            .await;
        }
        // Whoever still listens for this has been told; nobody listening is fine too.
        stopping.send_replace(true);
        wait_until(began + deadline, || {
            give_up_orphans(&status);
            status.ingest.activity.in_flight() == 0 && is_drained(&status)
        })
        .await;
        listeners_stop.cancel();
        let rest = (began + deadline).saturating_duration_since(Instant::now());
        let closing = rest.max(Duration::from_millis(100));
        if tokio::time::timeout(closing, data).await.is_err() {
            tracing::warn!("connections were still open at the deadline");
        }
        let pending = |queue: &Arc<Queue>| queue.books().pending.total().total();
        let stopped = Stopped {
            pending: status.queues.iter().map(pending).sum(),
            lost: status.at_risk()[0].1,
        };
        queues_stop.cancel();
        if let Err(error) = admin.await {
            tracing::debug!(%error, "admin listener");
        }
        let Stopped { pending, lost } = stopped;
        if lost > 0 {
            tracing::error!(pending, lost, "stopped");
        } else {
            tracing::info!(pending, lost, "stopped");
        }
        stopped
    }
}

/// No sender is let in to take its orphan over: what is withdrawn of it is still the sender's, and nothing
/// to wait for.
fn give_up_orphans(status: &Status) {
    let ingest = &status.ingest;
    ingest
        .attachments
        .expire(Instant::now() + ORPHAN_FOR, &*ingest.readers);
}

fn is_drained(status: &Status) -> bool {
    status.queues.iter().all(|queue| queue.is_idle())
}

async fn wait_until(deadline: Instant, done: impl Fn() -> bool) {
    while !done() && Instant::now() < deadline {
        tokio::time::sleep(STOP_TICK).await;
    }
}

/// What has to be done now and then.
async fn housekeeping(status: Arc<Status>, stop: CancellationToken) {
    let mut orphans = tokio::time::interval(ORPHAN_TICK);
    let mut upkeep = tokio::time::interval(UPKEEP_TICK);
    loop {
        tokio::select! {
            now = orphans.tick() => {
                status.ingest.attachments.expire(now, &*status.ingest.readers);
            }
            _ = upkeep.tick() => status.registry.upkeep(),
            () = stop.cancelled() => return,
        }
    }
}

/// Tells every queue.
struct AllQueues(Vec<Arc<Queue>>);

impl Readers for AllQueues {
    fn withdraw(&self, seq: Seq) {
        self.0.iter().for_each(|queue| queue.withdraw(seq));
    }

    fn take_over(&self, seq: Seq) {
        self.0.iter().for_each(|queue| queue.take_over(seq));
    }

    fn expire(&self, seq: Seq) {
        self.0.iter().for_each(|queue| queue.expire(seq));
    }
}
