//! The configuration as the rest of the program sees it: complete, in range, consistent.
//!
//! Every default lives here, once. `docs/config.md` states them, and a test compares both.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::choice::{
    AckMode, Compression, Grouping, LogFormat, LogLevel, Mode, OnFull, ProtobufMessage,
};
use super::endpoint::EndpointConfig;
use crate::units::ByteSize;

/// Everything `sluicegate run` needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where senders deliver. Default: `127.0.0.1:9201`.
    pub listen: SocketAddr,
    /// Probes, `/metrics` and the status page. Default: `127.0.0.1:9202`.
    pub admin_listen: SocketAddr,
    /// What a 2xx to a sender promises. Default: [`AckMode::Fsync`] with a log on disk,
    /// [`AckMode::Upstream`] without.
    pub ack: AckMode,
    /// What is sent. Default: [`Mode::Normal`].
    pub mode: Mode,
    /// The log on disk; `None`: it is in memory.
    pub storage: Option<StorageConfig>,
    /// Budget for all data held in memory.
    ///
    /// Unit: bytes. Default: 75 % of the cgroup's limit, at most 1 GiB. Minimum: 32 MiB.
    pub memory_limit: ByteSize,
    /// Time from SIGTERM until whatever is still pending is given up. Default: 30 s. Maximum: 1 h.
    pub shutdown_deadline: Duration,
    /// Limits at the door.
    pub ingest: IngestConfig,
    /// One per receiver, in the order of the file. At least one; names are unique.
    pub queues: Vec<QueueConfig>,
    /// What is logged, and how.
    pub log: LogConfig,
}

/// Data listener of a sidecar: only the pod itself reaches it.
pub(super) const LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9201);
/// Admin listener, next to [`LISTEN`].
pub(super) const ADMIN_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9202);
/// Kubernetes' default grace period is 30 s as well.
pub(super) const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(30);

/// The log on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct StorageConfig {
    /// Its folder; made if it is not there.
    pub path: PathBuf,
    /// Most it may take, a segment more.
    ///
    /// Unit: bytes. Default: 70 % of what is free there, at most 10 GiB. Minimum: 4 MiB.
    pub max_bytes: Option<ByteSize>,
    /// What happens when it is full. Default: [`OnFull::Backpressure`].
    pub on_full: OnFull,
    /// Records that are older are given up. Default: none is. Minimum: 1 m.
    pub max_age: Option<Duration>,
    /// How long a start waits for another process that has the folder. Default: 30 s. Maximum: 1 h.
    pub lock_wait: Duration,
}

/// A rolling update starts the next process while the last one stops.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(30);

/// What a request may weigh, and how long it may wait.
#[derive(Clone, Debug, PartialEq)]
pub struct IngestConfig {
    /// Largest body, compressed and decoded alike.
    ///
    /// Unit: bytes. Default: 32 MiB, what Prometheus' own receiver takes. Range: 64 KiB to 1 GiB.
    pub max_request_size: ByteSize,
    /// Series one request may hold. Default: 100 000. Range: 1 to 10 000 000.
    pub max_series_per_request: usize,
    /// Samples, histograms and exemplars one request may hold. Default: 200 000. Range: 1 to
    /// 10 000 000.
    pub max_elements_per_request: usize,
    /// Labels of one series. Default: 256. Range: 1 to 65 535.
    pub max_labels_per_series: usize,
    /// Name and value of one label together.
    ///
    /// Unit: bytes. Default: 64 KiB. Maximum: 16 MiB. 0 turns the limit off.
    pub max_label_bytes: ByteSize,
    /// Whether a zstd body is taken beside snappy. Default: true.
    pub accept_zstd: bool,
    /// Connections open at a time. Default: 1 024. Range: 1 to 65 535.
    pub max_connections: usize,
    /// Headers that tell tenants apart: stored, separated, passed on. Spelled as configured,
    /// compared without case. Default: `X-Scope-OrgID`, `THANOS-TENANT`, `AccountID`, `ProjectID`.
    /// At most 16.
    pub tenant_headers: Vec<String>,
    /// How long a request waits for room in the log before its 503. Default: 5 s. Maximum: 1 m.
    pub queue_wait: Duration,
    /// With [`AckMode::Upstream`]: time from the headers until a request is answered 503.
    ///
    /// Default: 25 s, below the 30 s after which Prometheus gives up. Range: 1 s to 10 m.
    pub upstream_answer_deadline: Duration,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            max_request_size: ByteSize(32 << 20),
            max_series_per_request: 100_000,
            max_elements_per_request: 200_000,
            max_labels_per_series: 256,
            max_label_bytes: ByteSize(64 << 10),
            accept_zstd: true,
            max_connections: 1_024,
            // Mimir and Cortex, Thanos, and VictoriaMetrics' cluster (account and project).
            tenant_headers: ["X-Scope-OrgID", "THANOS-TENANT", "AccountID", "ProjectID"]
                .map(str::to_owned)
                .to_vec(),
            queue_wait: Duration::from_secs(5),
            upstream_answer_deadline: Duration::from_secs(25),
        }
    }
}

/// One `remote_write` entry: what is sent, where to, in which form and how fast.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each mirrors a key of the file"
)]
pub struct QueueConfig {
    /// Name in metrics, logs and on the page: 1 to 64 of `[a-zA-Z0-9_-]`. A single queue without
    /// a name is called `default`.
    pub name: String,
    /// Whether an acknowledgement waits for this queue, and the log keeps records for it.
    /// Default: true.
    pub required: bool,
    /// Where to send.
    pub endpoint: EndpointConfig,
    /// Which message is sent. Default: [`ProtobufMessage::AsReceived`].
    pub protobuf_message: ProtobufMessage,
    /// How bodies are compressed. Default: [`Compression::Snappy`].
    pub compression: Compression,
    /// Which series travel together. Default: [`Grouping::Target`].
    pub grouping: Grouping,
    /// Labels whose values never share a batch. Default: `__replica__`, `prometheus_replica`,
    /// `cluster`. At most 16.
    pub separate_by: Vec<String>,
    /// Heavy targets that take more lanes than one, first match wins. At most 64.
    pub spread: Vec<SpreadRule>,
    /// How long samples wait in order to merge. Default: 0. Maximum: 1 h.
    pub merge_window: Duration,
    /// Sizes and times of the queue, as in Prometheus' `queue_config`.
    pub limits: QueueLimits,
    /// Always true: what a receiver throttles is held, never dropped. The key is accepted because
    /// Prometheus has it.
    pub retry_on_http_429: bool,
    /// Time for one attempt, from connect to the end of the answer. Default: 30 s. Range: 1 ms to
    /// 10 m.
    pub remote_timeout: Duration,
    /// What happens to metadata.
    pub metadata: MetadataConfig,
    /// Whether exemplars are passed on. Default: true (Prometheus: false; we pass on what came).
    pub send_exemplars: bool,
    /// Whether native histograms are passed on. Default: true (Prometheus: false; we pass on what
    /// came).
    pub send_native_histograms: bool,
}

impl QueueConfig {
    /// A queue of this name to this endpoint, everything else at its default.
    pub fn new(name: impl Into<String>, endpoint: EndpointConfig) -> Self {
        Self {
            name: name.into(),
            required: true,
            endpoint,
            protobuf_message: ProtobufMessage::AsReceived,
            compression: Compression::Snappy,
            grouping: Grouping::Target,
            separate_by: ["__replica__", "prometheus_replica", "cluster"]
                .map(str::to_owned)
                .to_vec(),
            spread: vec![SpreadRule::kube_state_metrics()],
            merge_window: Duration::ZERO,
            limits: QueueLimits::default(),
            retry_on_http_429: true,
            remote_timeout: Duration::from_secs(30),
            metadata: MetadataConfig::default(),
            send_exemplars: true,
            send_native_histograms: true,
        }
    }
}

/// Sizes and times of a queue. `min_shards <= max_shards`, `min_backoff <= max_backoff` and
/// `max_samples_per_send <= capacity` hold.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueLimits {
    /// Samples the lanes may hold per shard. Default: 10 000. Range: `max_samples_per_send` to
    /// 10 000 000.
    pub capacity: usize,
    /// Elements in one request. Default: 2 000. Range: 1 to 1 000 000.
    pub max_samples_per_send: usize,
    /// Requests in flight that are always permitted. Default: 1. Range: 0 to `max_shards`.
    pub min_shards: usize,
    /// Requests in flight at most. Default: 50. Range: 1 to 10 000.
    pub max_shards: usize,
    /// Age of the oldest sample at which a batch that is not full is sent. Default: 5 s. Range:
    /// 1 ms to 1 h.
    pub batch_send_deadline: Duration,
    /// First pause after a failure. Default: 30 ms. Range: 1 ms to `max_backoff`.
    pub min_backoff: Duration,
    /// Longest pause between attempts. Default: 5 s. Maximum: 1 h.
    pub max_backoff: Duration,
    /// Encoded size of one request, before compression.
    ///
    /// Unit: bytes. Default: 8 MiB: ten times what 2 000 samples of Kubernetes exporters weigh in
    /// 1.0 (418 B each), a quarter of what Prometheus' receiver takes. Range: 64 KiB to 64 MiB.
    pub max_bytes_per_send: ByteSize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            capacity: 10_000,
            max_samples_per_send: 2_000,
            min_shards: 1,
            max_shards: 50,
            batch_send_deadline: Duration::from_secs(5),
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_secs(5),
            max_bytes_per_send: ByteSize(8 << 20),
        }
    }
}

/// Metadata of remote write 1.0: separate requests, sent by time. 2.0 carries it with the series.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataConfig {
    /// Whether metadata is passed on. Default: true.
    pub send: bool,
    /// How often it is repeated. Default: 1 m. Range: 1 s to 1 d.
    pub send_interval: Duration,
    /// Metric families in one request. Default: 2 000. Range: 1 to 1 000 000.
    pub max_samples_per_send: usize,
}

impl Default for MetadataConfig {
    fn default() -> Self {
        Self {
            send: true,
            send_interval: Duration::from_secs(60),
            max_samples_per_send: 2_000,
        }
    }
}

/// A job whose targets are too heavy for one lane each, and the labels that divide them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadRule {
    /// Value of `job`: exact, or with a `*` at its start, its end or both.
    pub job: String,
    /// Labels whose values choose the lane beside the target. 1 to 8.
    pub by: Vec<String>,
}

impl SpreadRule {
    /// The one job known to put a whole cluster behind a single target.
    ///
    /// Divided by `namespace`, and by `node` for what belongs to no namespace: neighbours in its
    /// output differ in the object, so an object's label (`pod`) would tear apart what compresses
    /// well, while `namespace` keeps long runs together.
    pub(super) fn kube_state_metrics() -> Self {
        Self {
            job: "*kube-state-metrics*".to_owned(),
            by: vec!["namespace".to_owned(), "node".to_owned()],
        }
    }

    /// Whether this rule is about `job`.
    pub fn matches(&self, job: &str) -> bool {
        let (open_start, rest) = match self.job.strip_prefix('*') {
            Some(rest) => (true, rest),
            None => (false, self.job.as_str()),
        };
        match (open_start, rest.strip_suffix('*')) {
            (true, Some(inner)) => job.contains(inner),
            (true, None) => job.ends_with(rest),
            (false, Some(start)) => job.starts_with(start),
            (false, None) => job == rest,
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Least severe level that is written. Default: [`LogLevel::Info`].
    pub level: LogLevel,
    /// Default: [`LogFormat::Logfmt`].
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            format: LogFormat::Logfmt,
        }
    }
}
