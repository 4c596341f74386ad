//! Puts the parts together, and takes them apart again in the right order.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, AdminServer};
use crate::clock::Instant;
use crate::config::{AckMode, Config, Mode};
use crate::ingest::activity::Activity;
use crate::ingest::attach::{Attachments, ORPHAN_FOR};
use crate::ingest::handler::{Ingest, IngestOptions};
use crate::ingest::meter::IngestMetrics;
use crate::ingest::permits::{BodyShare, MemoryShare};
use crate::ingest::server::DataServer;
use crate::listen::descriptors;
use crate::log::disk::fs::OsFs;
use crate::log::disk::medium::Medium;
use crate::log::{QueueIndex, Readers, Seq};
use crate::metrics::Registry;
use crate::queue::handle::{Queue, WalkOptions};
use crate::queue::sender::Encoders;
use crate::queue::shadow::thread::ShadowOptions;
use crate::queue::shadow::{Bounds, ShadowTimes};
use crate::status::{About, Configured, Status};
use crate::wire::decoded::IdentityKey;

mod parts;
mod storage;

use parts::{Common, NO_SIZE_LIMIT, Shares, ingest_options, no_limits, queue_memory, queue_parts};
use storage::{Storage, WATCH_TICK, Watch};

/// A loopback sender that has been silent this long has flushed.
const SENDER_DONE: Duration = Duration::from_secs(2);
/// With a log on disk a stop waits for verdicts only, and no longer than this: within five seconds it is over.
const SAFE_STOP: Duration = Duration::from_millis(4_500);
/// How long journals and log may take to be closed.
const CLOSE_WAIT: Duration = Duration::from_secs(3);
/// How often a stopping process looks whether it is done.
const STOP_TICK: Duration = Duration::from_millis(50);
/// How often orphans are looked through.
const ORPHAN_TICK: Duration = Duration::from_secs(5);
/// File descriptors for the log, the journals and the runtime.
const FILES: usize = 64;
/// How often histograms are folded.
const UPKEEP_TICK: Duration = Duration::from_secs(5);

/// The process, put together and bound, not yet running.
pub struct App {
    data: DataServer,
    admin: AdminServer,
    status: Arc<Status>,
    stopping: watch::Sender<bool>,
    folder: Option<Arc<OsFs>>,
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
        Self::build_with(config, ShadowTimes::default()).await
    }

    /// The same, of a configuration that is perhaps not the one that was asked for.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn build_as(config: &Config, configured: Configured) -> Result<Self, String> {
        Self::put_together(config, configured, ShadowTimes::default()).await
    }

    /// The same, with other times for what is measured towards `discard:`.
    ///
    /// # Errors
    /// As [`build`](Self::build).
    pub async fn build_with(config: &Config, shadow: ShadowTimes) -> Result<Self, String> {
        Self::put_together(config, Configured::AsAsked, shadow).await
    }

    /// Whether the receivers' settings can work: looks at certificates, and connects to nobody.
    ///
    /// # Errors
    /// What does not work, in words.
    pub fn check(config: &Config) -> Result<(), String> {
        ingest_options(config, config.ack)?;
        config.queues.iter().try_for_each(parts::check)
    }

    async fn put_together(
        config: &Config,
        configured: Configured,
        shadow: ShadowTimes,
    ) -> Result<Self, String> {
        // Before the folder is opened: what cannot work keeps nobody waiting for it.
        Self::check(config)?;
        let shares = Shares::of(config.memory_limit.0, config.ack == AckMode::Fsync);
        let storage = {
            let (config, shares) = (config.clone(), shares.clone());
            let opening = tokio::task::spawn_blocking(move || Storage::open(&config, &shares));
            opening.await.map_err(|error| error.to_string())??
        };
        let opened = storage.handles();
        let built = Self::around(config, configured, shadow, &shares, storage).await;
        if built.is_err() {
            // Whoever starts next in this process wants the folder.
            tokio::task::spawn_blocking(move || opened.close())
                .await
                .ok();
        }
        built
    }

    /// Everything else, around the log.
    async fn around(
        config: &Config,
        configured: Configured,
        shadow: ShadowTimes,
        shares: &Shares,
        storage: Storage,
    ) -> Result<Self, String> {
        let registry = Arc::new(Registry::new());
        let walk = WalkOptions {
            size: NO_SIZE_LIMIT,
            walk: no_limits(),
            key: IdentityKey::random(),
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let common = Common {
            log: storage.log,
            walk: walk.clone(),
            encoders: Arc::new(Encoders::new(cores)),
            memory: queue_memory(shares, config.queues.len()),
            eager: storage.ack == AckMode::Upstream,
            shadow: ShadowOptions {
                times: shadow,
                bounds: Bounds::within(config.memory_limit.0),
            },
            mode: config.mode,
            max_connections: config.ingest.max_connections,
        };
        if config.mode == Mode::Passthrough {
            tracing::info!("{}", parts::ceiling(storage.ack));
        }
        let mut queues = Vec::new();
        for ((index, queue), resume) in config.queues.iter().enumerate().zip(storage.resumes) {
            let parts = queue_parts(queue, QueueIndex(index as u8), resume, &common)?;
            queues.push(Queue::new(parts, Arc::clone(&registry)));
        }
        let (stopping, stopping_seen) = watch::channel(false);
        let ingest = Arc::new(Ingest {
            options: IngestOptions {
                standby: matches!(configured, Configured::Standby(_)),
                ..ingest_options(config, storage.ack)?
            },
            log: storage.front,
            repeats: storage.repeats,
            readers: Arc::new(AllQueues(queues.clone())),
            attachments: Arc::new(Attachments::default()),
            key: walk.key,
            bodies: BodyShare::new(shares.bodies),
            decoding: MemoryShare::new(shares.decoding),
            stopping: stopping_seen.clone(),
            activity: Activity::default(),
            metrics: IngestMetrics::new(Arc::clone(&registry)),
        });
        let connections = connections(config);
        let bind = |what: &str, addr: SocketAddr, error: std::io::Error| {
            format!("cannot listen on {addr} ({what}): {error}")
        };
        let data = DataServer::bind(config.listen, Arc::clone(&ingest), connections, &registry)
            .await
            .map_err(|error| bind("--listen", config.listen, error))?;
        let data_address = data.addr().unwrap_or(config.listen);
        let folder = config
            .storage
            .as_ref()
            .map(|storage| storage.path.display());
        let folder = folder.map_or_else(String::new, |path| path.to_string());
        let status = Arc::new(Status {
            configured,
            about: About::new(data_address.to_string(), folder),
            registry,
            queues,
            ingest,
            connections: data.places(),
            mode: config.mode,
            ack: storage.ack,
            storage_trouble: storage.trouble,
            medium: config
                .storage
                .as_ref()
                .map(|storage| Medium::of(&storage.path)),
            disk: storage.disk,
            memory_limit: config.memory_limit.0,
            stopping: stopping_seen,
            switching: AtomicBool::new(false),
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
            folder: storage.folder,
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
            folder,
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
        // What does not outlive the pod is worth as much as what is in memory: nobody says why we are stopped.
        let safe = status.ack == AckMode::Fsync && status.medium.is_none_or(Medium::survives_stop);
        let stop = Stop {
            status: &status,
            began,
            deadline: if safe {
                deadline.min(SAFE_STOP)
            } else {
                deadline
            },
        };
        if loopback {
            stop.let_sender_flush(safe).await;
        }
        // Whoever still listens for this has been told; nobody listening is fine too.
        stopping.send_replace(true);
        stop.finish(safe).await;
        listeners_stop.cancel();
        let rest = (began + stop.deadline).saturating_duration_since(Instant::now());
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
        close_storage(&status, folder).await;
        if let Err(error) = admin.await {
            tracing::debug!(%error, "admin listener");
        }
        let Stopped { pending, lost } = stopped;
        if lost > 0 {
            tracing::error!(pending, lost, "stopped");
        } else if status.disk.is_some()
            && pending > 0
            && !status.medium.is_none_or(Medium::survives_stop)
        {
            tracing::warn!(
                pending,
                lost,
                "stopped; what is pending is in the log on disk, and goes with the pod"
            );
        } else if status.disk.is_some() {
            tracing::info!(
                pending,
                lost,
                "stopped; what is pending is in the log on disk"
            );
        } else {
            tracing::info!(pending, lost, "stopped");
        }
        stopped
    }
}

/// Connections of senders that fit beside the files and connections that the rest needs.
fn connections(config: &Config) -> usize {
    let allowed = config.ingest.max_connections;
    let shards = config.queues.iter().map(|queue| queue.limits.max_shards);
    let kept = FILES + admin::CONNECTIONS + shards.sum::<usize>();
    let descriptors = descriptors::raise();
    let fit = descriptors::connections(allowed, descriptors, kept as u64);
    if fit < allowed {
        tracing::warn!(
            descriptors,
            connections = fit,
            allowed,
            "fewer connections of senders than server.max_connections allows: the limit of open files \
             (ulimit -n) leaves no more"
        );
    }
    fit
}

/// A stop under way.
struct Stop<'s> {
    status: &'s Status,
    began: Instant,
    deadline: Duration,
}

impl Stop<'_> {
    /// A sender on loopback is stopped at the same moment and flushes what it has. If what is pending is safe,
    /// nothing else is waited for.
    async fn let_sender_flush(&self, safe: bool) {
        let status = self.status;
        // What is safe need not be sent now; but while there is time, better here than by the next process.
        status.queues.iter().for_each(|queue| queue.drain());
        wait_until(self.began + self.deadline / 2, || {
            let silent = status.ingest.activity.idle_for();
            silent >= SENDER_DONE && (safe || is_drained(status))
        })
        .await;
    }

    /// Delivers what is pending; if it is safe, only what is on its way gets its verdict.
    async fn finish(&self, safe: bool) {
        let status = self.status;
        let act = |queue: &Arc<Queue>| if safe { queue.halt() } else { queue.drain() };
        status.queues.iter().for_each(act);
        wait_until(self.began + self.deadline, || {
            give_up_orphans(status);
            let sent = || status.queues.iter().all(|queue| queue.in_flight() == 0);
            let done = if safe { sent() } else { is_drained(status) };
            status.ingest.activity.in_flight() == 0 && done
        })
        .await;
    }
}

/// The last words of journals and log, for the next process.
async fn close_storage(status: &Arc<Status>, folder: Option<Arc<OsFs>>) {
    let status = Arc::clone(status);
    let closing = tokio::task::spawn_blocking(move || {
        for queue in &status.queues {
            if !queue.close_journal() {
                tracing::warn!(
                    queue = queue.name(),
                    "the settle journal could not be written to its end: some will be sent twice"
                );
            }
        }
        if let Some(disk) = &status.disk {
            disk.close();
        }
        if let Some(folder) = folder {
            folder.unlock();
        }
    });
    match tokio::time::timeout(CLOSE_WAIT, closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "closing the log"),
        Err(_) => tracing::error!(
            "the disk hangs: the log is left as after a crash, and what was in flight may be sent twice"
        ),
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
    let mut disk = tokio::time::interval(WATCH_TICK);
    let mut watch = status.disk.clone().map(Watch::new);
    loop {
        tokio::select! {
            now = orphans.tick() => {
                status.ingest.attachments.expire(now, &*status.ingest.readers);
            }
            _ = upkeep.tick() => status.registry.upkeep(),
            _ = disk.tick() => {
                status.look();
                watch.iter_mut().for_each(Watch::look);
                status.queues.iter().for_each(|queue| queue.tend());
            }
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
