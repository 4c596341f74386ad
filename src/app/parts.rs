//! From the configuration to the options of each part: what stages get instead of the configuration.

use std::sync::Arc;

use crate::config::{
    self, AckMode, Compression, Config, EndpointConfig, Mode, Password, ProtobufMessage,
    QueueConfig, ReceiverProfile,
};
use crate::ingest::handler::{IngestOptions, Promise};
use crate::log::{Log, QueueIndex};
use crate::queue::client::{Auth, EndpointOptions, Secret, SecretSource, TlsOptions};
use crate::queue::grouping::{Grouping, LaneRules, SpreadRule};
use crate::queue::handle::{Endpoint, MetadataSchedule, QueueParts, Resume, WalkOptions};
use crate::queue::lanes::LaneLimits;
use crate::queue::protocol::ProtocolMode;
use crate::queue::receiver::Receiver;
use crate::queue::sender::Encoders;
use crate::queue::shadow::thread::ShadowOptions;
use crate::queue::split::Refuses;
use crate::queue::state::{MemoryShares, QueueOptions};
use crate::wire::compression::Encoding;
use crate::wire::decoded::{Protocol, WalkLimits};

/// The parts of the memory budget, in sixteenths of the limit. What is left over is the program itself,
/// the allocator's slack and encode scratch.
#[derive(Clone)]
pub(super) struct Shares {
    pub(super) log: u64,
    pub(super) bodies: u64,
    pub(super) decoding: u64,
    pub(super) handoff: u64,
    pub(super) lanes: u64,
    pub(super) table: u64,
    pub(super) runs: u64,
    pub(super) metadata: u64,
}

impl Shares {
    /// A log on disk leaves its share to bodies and decoded forms that wait to be durable, and to the series
    /// table: one that does not hold the series of a backlog is made anew all the time (decision 0012).
    pub(super) fn of(limit: u64, on_disk: bool) -> Self {
        let part = limit / 16;
        let in_memory = Self {
            log: 5 * part,
            bodies: part,
            decoding: part,
            handoff: part / 2,
            lanes: 3 * part,
            table: part,
            runs: part,
            metadata: part / 4,
        };
        if !on_disk {
            return in_memory;
        }
        Self {
            log: part,
            bodies: 2 * part,
            handoff: part + part / 2,
            lanes: 2 * part,
            table: 3 * part,
            ..in_memory
        }
    }
}

/// What all queues share.
pub(super) struct Common {
    pub(super) log: Arc<dyn Log>,
    pub(super) walk: WalkOptions,
    pub(super) encoders: Arc<Encoders>,
    pub(super) memory: MemoryShares,
    pub(super) eager: bool,
    pub(super) shadow: ShadowOptions,
    /// What is sent.
    pub(super) mode: Mode,
    /// Requests that senders may have under way.
    pub(super) max_connections: usize,
}

pub(super) fn queue_memory(shares: &Shares, queues: usize) -> MemoryShares {
    let each = |share: u64| (share / queues.max(1) as u64) as usize;
    MemoryShares {
        lanes: each(shares.lanes),
        table: each(shares.table),
        runs: each(shares.runs),
        metadata: each(shares.metadata),
    }
}

pub(super) fn walk_limits(config: &Config) -> WalkLimits {
    let ingest = &config.ingest;
    WalkLimits {
        series: ingest.max_series_per_request,
        elements: ingest.max_elements_per_request,
        labels: ingest.max_labels_per_series,
        label_bytes: ingest.max_label_bytes.0 as usize,
        expanded_bytes: 4 * ingest.max_request_size.0 as usize,
    }
}

/// Limits for bodies that the log has: they were admitted once, under whatever limits there were then.
pub(super) fn no_limits() -> WalkLimits {
    let most = u32::MAX as usize;
    WalkLimits {
        series: most,
        elements: most,
        labels: most,
        label_bytes: 0,
        expanded_bytes: usize::MAX,
    }
}

/// Largest decoded message of the log: what a length in snappy can say.
pub(super) const NO_SIZE_LIMIT: u64 = 1 << 32;

pub(super) fn ingest_options(config: &Config, ack: AckMode) -> Result<IngestOptions, String> {
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
        promise: match ack {
            AckMode::Upstream => Promise::Settled(required),
            AckMode::Memory => Promise::InLog,
            AckMode::Fsync => Promise::Durable,
        },
        passthrough: config.mode == Mode::Passthrough,
        standby: false,
    })
}

pub(super) fn queue_parts(
    queue: &QueueConfig,
    index: QueueIndex,
    resume: Option<Resume>,
    common: &Common,
) -> Result<QueueParts, String> {
    let limits = &queue.limits;
    let passthrough = common.mode == Mode::Passthrough;
    let (min_shards, max_shards) = shards(queue, common);
    let (endpoint, url) = endpoint_of(queue, max_shards)?;
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
            min_shards,
            max_shards,
            min_backoff: limits.min_backoff,
            max_backoff: limits.max_backoff,
            memory: common.memory,
            send_exemplars: queue.send_exemplars,
            send_histograms: queue.send_native_histograms,
            passthrough,
        },
        log: Arc::clone(&common.log),
        resume,
        endpoint,
        url,
        protocol: match queue.protobuf_message {
            _ if passthrough => ProtocolMode::AsReceived,
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
        refuses: refuses(queue),
        walk: common.walk.clone(),
        encoders: Arc::clone(&common.encoders),
        metadata: MetadataSchedule {
            // Thanos Receive reads metadata and throws it away.
            send: queue.metadata.send && profile_of(queue) != ReceiverProfile::Thanos,
            interval: queue.metadata.send_interval,
            per_send: queue.metadata.max_samples_per_send,
        },
        capacity: limits.capacity as u64,
        shadow: matches!(queue.endpoint, EndpointConfig::Discard).then(|| common.shadow.clone()),
    })
}

/// What limits passthrough, said at start.
pub(super) fn ceiling(ack: AckMode) -> &'static str {
    match ack {
        AckMode::Upstream => {
            "mode passthrough: each body goes out as it came, as many at a time as senders send. The ceiling of a \
             sender: its requests in flight × samples a request / the receiver's answer time (4 × 2000 / 0.1 s = \
             80000 samples/s)"
        }
        AckMode::Fsync | AckMode::Memory => {
            "mode passthrough: each body goes out as it came, one at a time of each tenant, in order. The ceiling \
             of a tenant: samples a request / the receiver's answer time (2000 / 0.1 s = 20000 samples/s); larger \
             requests (max_samples_per_send of the sender) raise it"
        }
    }
}

/// Least and greatest number of requests in flight. In passthrough it is fixed: while senders wait there are as
/// many as they send, else the tenants decide how many of them are used.
fn shards(queue: &QueueConfig, common: &Common) -> (usize, usize) {
    let limits = &queue.limits;
    match common.mode {
        Mode::Normal => (limits.min_shards, limits.max_shards),
        Mode::Passthrough if common.eager && queue.required => {
            let all = limits.max_shards.max(common.max_connections);
            (all, all)
        }
        Mode::Passthrough => (limits.max_shards, limits.max_shards),
    }
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

/// What becomes of the good part of a request of which the receiver refuses something: as its profile knows, or as
/// the path of Prometheus' own receiver says. (VictoriaMetrics refuses only what it cannot read at all.)
fn refuses(queue: &QueueConfig) -> Refuses {
    let EndpointConfig::Http(http) = &queue.endpoint else {
        return Refuses::Unclear;
    };
    match http.receiver {
        ReceiverProfile::Prometheus | ReceiverProfile::VictoriaMetrics => Refuses::Whole,
        ReceiverProfile::Mimir => Refuses::OnlyTheBad,
        ReceiverProfile::Auto if http.url_shown().ends_with("/api/v1/write") => Refuses::Whole,
        ReceiverProfile::Auto | ReceiverProfile::Thanos => Refuses::Unclear,
    }
}

/// The lane rules that a configuration asks for.
fn lane_rules(queue: &QueueConfig) -> LaneRules {
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

/// Whether a receiver's settings can work.
pub(super) fn check(queue: &QueueConfig) -> Result<(), String> {
    endpoint_of(queue, 1).map(drop)
}

fn endpoint_of(queue: &QueueConfig, max_shards: usize) -> Result<(Endpoint, String), String> {
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
    options.max_connections = max_shards.max(1);
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
