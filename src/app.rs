//! Puts the parts together, and takes them apart again in the right order.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::AdminServer;
use crate::clock::Instant;
use crate::config::{
    self, AckMode, Compression, Config, EndpointConfig, Password, ProtobufMessage, QueueConfig,
    ReceiverProfile,
};
use crate::ingest::attach::Attachments;
use crate::ingest::handler::{Activity, Ingest, IngestMetrics, IngestOptions};
use crate::ingest::permits::MemoryShare;
use crate::ingest::server::DataServer;
use crate::log::memory::MemoryLog;
use crate::log::{Log, QueueIndex, Readers, Seq};
use crate::metrics::Registry;
use crate::queue::client::{Auth, EndpointOptions, Secret, SecretSource, TlsOptions};
use crate::queue::grouping::{Grouping, LaneRules, SpreadRule};
use crate::queue::handle::{Endpoint, MetadataSchedule, Queue, QueueParts, WalkOptions};
use crate::queue::lanes::LaneLimits;
use crate::queue::protocol::ProtocolMode;
use crate::queue::receiver::Receiver;
use crate::queue::sender::Encoders;
use crate::queue::state::{MemoryShares, QueueOptions};
use crate::status::Status;
use crate::wire::compression::Encoding;
use crate::wire::decoded::{IdentityKey, Protocol, WalkLimits};

/// A loopback sender that has been silent this long has flushed.
const SENDER_DONE: Duration = Duration::from_secs(2);
/// How often a stopping process looks whether it is done.
const STOP_TICK: Duration = Duration::from_millis(50);
/// How often orphans are looked through.
const ORPHAN_TICK: Duration = Duration::from_secs(5);
/// How often histograms are folded.
const UPKEEP_TICK: Duration = Duration::from_secs(5);

/// The parts of the memory budget, in sixteenths of the limit. What is left over is the program itself,
/// the allocator's slack and encode scratch.
struct Shares {
    log: u64,
    bodies: u64,
    decoding: u64,
    handoff: u64,
    lanes: u64,
    table: u64,
    runs: u64,
    metadata: u64,
}

impl Shares {
    fn of(limit: u64) -> Self {
        let part = limit / 16;
        Self {
            log: 5 * part,
            bodies: part,
            decoding: part,
            handoff: part / 2,
            lanes: 3 * part,
            table: part,
            runs: part,
            metadata: part / 4,
        }
    }
}

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
        tracing::info!(pending = stopped.pending, lost = stopped.lost, "stopped");
        stopped
    }
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

/// What all queues share.
struct Common {
    log: Arc<dyn Log>,
    walk: WalkOptions,
    encoders: Arc<Encoders>,
    memory: MemoryShares,
    eager: bool,
}

fn queue_memory(shares: &Shares, queues: usize) -> MemoryShares {
    let each = |share: u64| (share / queues.max(1) as u64) as usize;
    MemoryShares {
        lanes: each(shares.lanes),
        table: each(shares.table),
        runs: each(shares.runs),
        metadata: each(shares.metadata),
    }
}

fn walk_limits(config: &Config) -> WalkLimits {
    let ingest = &config.ingest;
    WalkLimits {
        series: ingest.max_series_per_request,
        elements: ingest.max_elements_per_request,
        labels: ingest.max_labels_per_series,
        label_bytes: ingest.max_label_bytes.0 as usize,
        expanded_bytes: 4 * ingest.max_request_size.0 as usize,
    }
}

fn ingest_options(config: &Config) -> Result<IngestOptions, String> {
    let ingest = &config.ingest;
    let name = |name: &String| {
        name.parse()
            .map_err(|error| format!("server.tenant_headers: {name:?}: {error}"))
    };
    let required = config.queues.iter().filter(|queue| queue.required).count();
    Ok(IngestOptions {
        max_request_size: ingest.max_request_size.0,
        limits: walk_limits(config),
        accept_zstd: ingest.accept_zstd,
        tenant_headers: ingest
            .tenant_headers
            .iter()
            .map(name)
            .collect::<Result<_, _>>()?,
        queue_wait: ingest.queue_wait,
        answer_deadline: ingest.upstream_answer_deadline,
        await_queues: (config.ack == AckMode::Upstream).then_some(required),
    })
}

fn queue_parts(
    queue: &QueueConfig,
    index: QueueIndex,
    common: &Common,
) -> Result<QueueParts, String> {
    let limits = &queue.limits;
    let (endpoint, url) = endpoint_of(queue)?;
    Ok(QueueParts {
        options: QueueOptions {
            name: queue.name.clone(),
            index,
            required: queue.required,
            rules: lane_rules(queue),
            limits: LaneLimits::new(
                limits.capacity as u64,
                limits.max_shards as u64,
                limits.max_samples_per_send as u32,
                limits.max_bytes_per_send.0 as usize,
                limits.batch_send_deadline,
            )
            .with_window(queue.merge_window),
            eager: common.eager,
            min_shards: limits.min_shards,
            max_shards: limits.max_shards,
            min_backoff: limits.min_backoff,
            max_backoff: limits.max_backoff,
            memory: common.memory,
            send_exemplars: queue.send_exemplars,
            send_histograms: queue.send_native_histograms,
        },
        log: Arc::clone(&common.log),
        endpoint,
        url,
        protocol: match queue.protobuf_message {
            ProtobufMessage::AsReceived => ProtocolMode::AsReceived,
            // It answers 204 to 2.0 and stores nothing: there is nothing to find out.
            ProtobufMessage::Auto if profile_of(queue) == ReceiverProfile::VictoriaMetrics => {
                ProtocolMode::Fixed(Protocol::V1)
            }
            ProtobufMessage::Auto => ProtocolMode::Auto,
            ProtobufMessage::V1 => ProtocolMode::Fixed(Protocol::V1),
            ProtobufMessage::V2 => ProtocolMode::Fixed(Protocol::V2),
        },
        compression: match (queue.compression, profile_of(queue)) {
            (Compression::Zstd, _) | (Compression::Auto, ReceiverProfile::VictoriaMetrics) => {
                Encoding::Zstd
            }
            (Compression::Snappy | Compression::Auto, _) => Encoding::Snappy,
        },
        walk: common.walk.clone(),
        encoders: Arc::clone(&common.encoders),
        metadata: MetadataSchedule {
            // Thanos Receive reads metadata and throws it away.
            send: queue.metadata.send && profile_of(queue) != ReceiverProfile::Thanos,
            interval: queue.metadata.send_interval,
            per_send: queue.metadata.max_samples_per_send,
        },
        capacity: limits.capacity as u64,
    })
}

/// What kind of receiver it is: as configured, else as its path says. Behaviour remains the proof of
/// everything that could cost data.
fn profile_of(queue: &QueueConfig) -> ReceiverProfile {
    match &queue.endpoint {
        EndpointConfig::Discard => ReceiverProfile::Auto,
        EndpointConfig::Http(http) if http.receiver != ReceiverProfile::Auto => http.receiver,
        EndpointConfig::Http(http) if http.url_shown().ends_with("/api/v1/receive") => {
            ReceiverProfile::Thanos
        }
        EndpointConfig::Http(_) => ReceiverProfile::Auto,
    }
}

/// The lane rules that a configuration asks for.
pub fn lane_rules(queue: &QueueConfig) -> LaneRules {
    let rule = |rule: &config::SpreadRule| SpreadRule {
        job: rule.job.clone(),
        by: rule.by.clone(),
    };
    LaneRules {
        grouping: match queue.grouping {
            config::Grouping::Target => Grouping::Target,
            config::Grouping::Arrival => Grouping::Arrival,
        },
        separate_by: queue.separate_by.clone(),
        spread: queue.spread.iter().map(rule).collect(),
    }
}

fn endpoint_of(queue: &QueueConfig) -> Result<(Endpoint, String), String> {
    let http = match &queue.endpoint {
        EndpointConfig::Discard => return Ok((Endpoint::Discard, "discard:".to_owned())),
        EndpointConfig::Http(http) => http,
    };
    let wrong = |what: &str, error: String| format!("queue {}: {what}: {error}", queue.name);
    let uri = |text: &String| text.parse::<hyper::Uri>();
    let mut options =
        EndpointOptions::new(uri(&http.url).map_err(|error| wrong("url", error.to_string()))?);
    for (name, value) in &http.headers {
        let name = name
            .parse()
            .map_err(|_| wrong("headers", format!("bad name {name:?}")))?;
        let value = value
            .parse()
            .map_err(|_| wrong("headers", "bad value".to_owned()))?;
        options.headers.push((name, value));
    }
    options.auth = auth_of(&http.auth);
    options.tls = TlsOptions {
        ca_file: http.tls.ca_file.clone(),
        server_name: http.tls.server_name.clone(),
        insecure_skip_verify: http.tls.insecure_skip_verify,
    };
    let proxy = http.proxy_url.as_ref().map(uri).transpose();
    options.proxy_url = proxy.map_err(|error| wrong("proxy_url", error.to_string()))?;
    options.attempt_timeout = queue.remote_timeout;
    options.connect_timeout = options.connect_timeout.min(queue.remote_timeout);
    options.max_connections = queue.limits.max_shards.max(1);
    let receiver = Receiver::new(options).map_err(|error| wrong("remote_write", error))?;
    Ok((
        Endpoint::Http(Box::new(receiver)),
        http.url_shown().to_owned(),
    ))
}

fn auth_of(auth: &config::Auth) -> Auth {
    let inline = |secret: &config::Secret| SecretSource::Inline(Secret::new(secret.expose()));
    match auth {
        config::Auth::None => Auth::None,
        config::Auth::Bearer { file } => Auth::Bearer(SecretSource::File(file.clone())),
        config::Auth::BearerInline(secret) => Auth::Bearer(inline(secret)),
        config::Auth::Basic { username, password } => Auth::Basic {
            username: username.clone(),
            password: match password {
                Password::File(file) => SecretSource::File(file.clone()),
                Password::Inline(secret) => inline(secret),
            },
        },
    }
}
