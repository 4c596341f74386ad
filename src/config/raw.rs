//! The file, key by key: name, type, default, flag and description in one place.
//!
//! Everything is optional and unchecked here; [`super::validate`] makes sense of it. Reader, list
//! of known keys and `docs/config.md` all come from these tables. Defaults are only told here, as
//! they would be written in the file; a test loads them and compares with `types.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::endpoint::Secret;
use super::keys::{Key, SectionDoc};
use super::problem::{Located, Problems, Source};
use super::section::{FromNode, Pairs, Section};
use super::tree::Node;
use crate::units::{ByteSize, Span};

/// A mapping of the file. `key: Type = default, flag;`
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $name:ident at $path:literal {
            $(
                $(#[doc = $text:literal])*
                $key:ident: $type:ty $(= $default:literal $(, $flag:literal)?)?;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, Default)]
        pub(super) struct $name {
            $($(#[doc = $text])* pub(super) $key: Option<Located<$type>>,)*
        }

        impl $name {
            pub(super) const DOC: SectionDoc = SectionDoc {
                path: $path,
                text: &[$($about),*],
                keys: &[$(Key {
                    name: plain(stringify!($key)),
                    default: concat!($($default)?),
                    flag: concat!($($($flag)?)?),
                    text: &[$($text),*],
                }),*],
            };
        }

        impl FromNode for $name {
            fn from_node(node: &Node, source: &Source, problems: &mut Problems) -> Option<Self> {
                let mut section = Section::open($path, node, source, problems)?;
                let read = Self { $($key: section.take(plain(stringify!($key)), problems),)* };
                section.finish(problems);
                Some(read)
            }
        }
    };
}

/// The key that an identifier stands for: `r#type` is `type`.
const fn plain(identifier: &'static str) -> &'static str {
    if let [b'r', b'#', key @ ..] = identifier.as_bytes()
        && let Ok(key) = std::str::from_utf8(key)
    {
        return key;
    }
    identifier
}

/// Every section, in the order of the docs.
pub(super) const SECTIONS: &[SectionDoc] = &[
    RawConfig::DOC,
    RawServer::DOC,
    RawAdmin::DOC,
    RawMemory::DOC,
    RawStorage::DOC,
    RawShutdown::DOC,
    RawLog::DOC,
    RawRemoteWrite::DOC,
    RawQueueConfig::DOC,
    RawMetadataConfig::DOC,
    RawAuthorization::DOC,
    RawBasicAuth::DOC,
    RawTlsConfig::DOC,
    RawSpread::DOC,
];

section! {
    /// What belongs to no section.
    RawConfig at "" {
        /// Sizes to start from: `testing`, `small`, `medium`, `large`, `xlarge`, `runai` or
        /// `prometheus`, see the table below. Sets `capacity`, `max_samples_per_send`,
        /// `min_shards` and `max_shards` of every queue, where neither flag nor file does.
        preset: String = "", "--preset";
        /// What a 2xx to a sender promises. `upstream`: every required queue has settled all of
        /// the request. `memory`: it is in the log in memory, and lost with the process. `fsync`:
        /// it is on disk (needs `storage.path`). By default `fsync` with `storage.path`, `upstream`
        /// without.
        ack: String = "", "--ack";
        /// What is sent. `normal`: batches of series, cut from many requests. `passthrough`: each request's
        /// body as it came, byte for byte, one request for one. With `ack: upstream` as many at a time as
        /// senders send, else one of each tenant, in order. What makes or shapes batches has no effect then:
        /// `grouping`, `spread`, `separate_by`, `merge_window`, `protobuf_message`, `compression`,
        /// `metadata_config` and most of `queue_config`.
        mode: String = "normal", "--mode";
        /// Data listener: where senders deliver.
        server: RawServer;
        /// Admin listener: probes, metrics, status page.
        admin: RawAdmin;
        /// Budget for data in memory.
        memory: RawMemory;
        /// Log on disk.
        storage: RawStorage;
        /// How the process ends.
        shutdown: RawShutdown;
        /// What the process says.
        log: RawLog;
        /// One entry per receiver; each gets a full copy. At least one, at most 64, unless
        /// `--upstream` is given: then there must be none.
        remote_write: Vec<Located<RawRemoteWrite>>;
    }
}

section! {
    /// Limits at the door. What is above one of them is refused before memory is spent on it.
    RawServer at "server" {
        /// IP address and port.
        listen: SocketAddr = "127.0.0.1:9201", "--listen";
        /// Largest body, compressed and decoded alike. Unit: bytes. Range: 64KiB to 1GiB.
        max_request_size: ByteSize = "32MiB";
        /// Series in one request. Range: 1 to 10000000.
        max_series_per_request: u64 = "100000";
        /// Samples, histograms and exemplars in one request. Range: 1 to 10000000.
        max_elements_per_request: u64 = "200000";
        /// Labels of one series. Range: 1 to 65535.
        max_labels_per_series: u64 = "256";
        /// Name and value of one label together. Unit: bytes. At most 16MiB; 0 turns it off.
        max_label_bytes: ByteSize = "64KiB";
        /// Whether zstd bodies are taken beside snappy ones.
        accept_zstd: bool = "true";
        /// Connections open at a time. When all are taken, one that is silent, dripping or idle makes way for a
        /// new one; when all are at work, the new one gets 503. Range: 1 to 65535.
        max_connections: u64 = "1024";
        /// Request headers that tell tenants apart: what differs in one of them never shares a
        /// batch, and they are passed on to receivers. At most 16.
        tenant_headers: Vec<Located<String>> = "[X-Scope-OrgID, THANOS-TENANT, AccountID, ProjectID]";
        /// How long a request waits for room before it is answered 503. At most 1m.
        queue_wait: Span = "5s";
        /// With `ack: upstream`, how long after its headers a request is answered 503. Range: 1s
        /// to 10m. Keep it below the sender's `remote_timeout` (Prometheus: 30s).
        upstream_answer_deadline: Span = "25s";
    }
}

section! {
    /// Probes, `/metrics` and the status page.
    RawAdmin at "admin" {
        /// IP address and port; another one than `server.listen`.
        listen: SocketAddr = "127.0.0.1:9202", "--web.listen-address";
    }
}

section! {
    /// Budget for data in memory.
    RawMemory at "memory" {
        /// Unit: bytes. Range: 32MiB to 1TiB. Without it: 75 % of what the cgroup (or else the
        /// machine) has, at least 32MiB, at most 1GiB.
        limit: ByteSize = "", "--memory.limit";
    }
}

section! {
    /// Log on disk: what is acknowledged survives the process and the machine.
    RawStorage at "storage" {
        /// Directory of the log. Without it the log is in memory.
        path: PathBuf = "", "--storage.path";
        /// Most the log may take, and a segment more. Unit: bytes. At least 4MiB. By default 70 % of
        /// what is free there, at most 10GiB.
        max_bytes: ByteSize = "", "--storage.max-bytes";
        /// What happens when it is full. `backpressure`: senders wait, then get 503 and come again.
        /// `drop_oldest`: the oldest records are given up, and counted as dropped.
        on_full: String = "backpressure";
        /// Records that are older are given up, and counted as dropped. At least 1m. Nothing is too
        /// old by default.
        max_age: Span = "";
        /// How long a start waits for another process that still has the directory. At most 1h.
        lock_wait: Span = "30s";
    }
}

section! {
    /// How the process ends.
    RawShutdown at "shutdown" {
        /// Time from SIGTERM until whatever is still pending is given up. At most 1h.
        deadline: Span = "30s", "--shutdown.deadline";
    }
}

section! {
    /// What the process says.
    RawLog at "log" {
        /// `error`, `warn`, `info`, `debug` or `trace`.
        level: String = "info", "--log.level";
        /// `logfmt` or `json`.
        format: String = "logfmt", "--log.format";
    }
}

section! {
    /// One receiver, in Prometheus' own keys; `required`, `receiver`, `compression`, `grouping`,
    /// `separate_by`, `spread` and `merge_window` are ours.
    RawRemoteWrite at "remote_write[]" {
        /// Name in metrics, logs and on the page: 1 to 64 of `[a-zA-Z0-9_-]`, unique. May be left
        /// out where there is one entry, which is then called `default`.
        name: String;
        /// `http://` or `https://`, without user and password; or `discard:`, which counts and
        /// throws away. Required.
        url: String;
        /// Whether an acknowledgement waits for this queue and the log keeps data for it.
        required: bool = "true";
        /// Time for one attempt. Range: 1ms to 10m.
        remote_timeout: Span = "30s", "--remote-timeout";
        /// Static headers. At most 64. Those of the protocol are reserved; one that is also a
        /// tenant header replaces the sender's.
        headers: Pairs = "{}";
        /// Which message is sent. `as_received`: 2.0 if anything in the batch came so and the
        /// receiver takes it, otherwise 1.0. `auto`: 2.0 where the receiver proves that it takes
        /// it. `prometheus.WriteRequest`: always 1.0. `io.prometheus.write.v2.Request`: always 2.0.
        /// Prometheus: `prometheus.WriteRequest`.
        protobuf_message: String = "as_received", "--protobuf-message";
        /// `snappy`, `zstd`, or `auto`: zstd where the receiver is known to read it.
        compression: String = "snappy", "--compression";
        /// Which series travel together. `target`: by `job` and `instance`. `arrival`: batches in
        /// the order in which samples came. `node`, `name` and `auto` are not built yet.
        grouping: String = "target", "--grouping";
        /// Labels whose values never share a batch. At most 16.
        separate_by: Vec<Located<String>> = "[__replica__, prometheus_replica, cluster]";
        /// Jobs whose targets are too heavy for one lane. The first rule that matches counts. At
        /// most 64.
        spread: Vec<Located<RawSpread>> = "[{job: '*kube-state-metrics*', by: [namespace, node]}]";
        /// How long samples wait in order to merge. Rules at the receiver must allow for it. At
        /// most 1h.
        merge_window: Span = "0s", "--merge-window";
        /// What kind of receiver it is: `auto`, `prometheus`, `thanos`, `mimir` or
        /// `victoriametrics`. Decides what a refusal means: `mimir` has kept the good part of a
        /// request that it answers 400, `prometheus` and `victoriametrics` nothing of it, which is
        /// sent again in halves. `auto`: nothing, where the path is `/api/v1/write`; else unknown.
        receiver: String = "auto";
        /// Whether exemplars are passed on. Prometheus: false.
        send_exemplars: bool = "true";
        /// Whether native histograms are passed on. Prometheus: false.
        send_native_histograms: bool = "true";
        /// Sizes and times.
        queue_config: RawQueueConfig;
        /// Metadata of remote write 1.0.
        metadata_config: RawMetadataConfig;
        /// A token. Not together with `basic_auth`.
        authorization: RawAuthorization;
        /// User and password.
        basic_auth: RawBasicAuth;
        /// The old spelling of `authorization.credentials`.
        bearer_token: Secret;
        /// The old spelling of `authorization.credentials_file`.
        bearer_token_file: PathBuf;
        /// For `https` URLs.
        tls_config: RawTlsConfig;
        /// Forward proxy: an `http://` URL without user and password.
        proxy_url: String;
        /// Must be false: environment variables do not choose the way of data.
        proxy_from_environment: bool = "false";
        /// Must be false: a redirect is held and reported, since a POST that follows one can lose
        /// its body. Prometheus: true.
        follow_redirects: bool = "false";
        /// Must be false: not built yet.
        enable_http2: bool = "false";
        /// Must be false: not built yet.
        round_robin_dns: bool = "false";
    }
}

section! {
    /// Prometheus' `queue_config`, and `max_bytes_per_send`.
    RawQueueConfig at "remote_write[].queue_config" {
        /// Samples the lanes may hold per shard; above that reading waits, nothing is dropped.
        /// Range: `max_samples_per_send` to 10000000; 3 to 10 times that is advised.
        capacity: u64 = "10000", "--capacity";
        /// Samples, histograms and exemplars in one request. Range: 1 to 1000000.
        max_samples_per_send: u64 = "2000", "--max-samples-per-send";
        /// Size of one request, encoded, before compression. Unit: bytes. Range: 64KiB to 64MiB.
        max_bytes_per_send: ByteSize = "8MiB";
        /// Requests in flight that are always permitted. Range: 0 to `max_shards` (Prometheus: at
        /// least 1).
        min_shards: u64 = "1", "--min-shards";
        /// Requests in flight at most. Range: 1 to 10000.
        max_shards: u64 = "50", "--max-shards";
        /// Age of the oldest sample at which a batch goes out though it is not full. Range: 1ms to
        /// 1h.
        batch_send_deadline: Span = "5s", "--batch-send-deadline";
        /// First pause after a failure; doubles from there. Range: 1ms to `max_backoff`.
        min_backoff: Span = "30ms", "--min-backoff";
        /// Longest pause between attempts. At most 1h.
        max_backoff: Span = "5s", "--max-backoff";
        /// Must be true: what a receiver throttles is held, never dropped. Prometheus: false.
        retry_on_http_429: bool = "true";
        /// Must be 0: dropping by age is not built yet.
        sample_age_limit: Span = "0s";
    }
}

section! {
    /// Metadata as remote write 1.0 sends it; 2.0 carries it with the series.
    RawMetadataConfig at "remote_write[].metadata_config" {
        /// Whether metadata is passed on.
        send: bool = "true";
        /// How often it is repeated. Range: 1s to 1d.
        send_interval: Span = "1m";
        /// Metric families in one request. Range: 1 to 1000000.
        max_samples_per_send: u64 = "2000";
    }
}

section! {
    /// A token in the `Authorization` header. Relative paths start at the configuration file.
    RawAuthorization at "remote_write[].authorization" {
        /// Must be `Bearer`.
        r#type: String = "Bearer";
        /// The token itself.
        credentials: Secret;
        /// File with the token, read again when it changes.
        credentials_file: PathBuf;
    }
}

section! {
    /// User and password. Relative paths start at the configuration file.
    RawBasicAuth at "remote_write[].basic_auth" {
        /// Without a colon.
        username: String;
        /// The password itself.
        password: Secret;
        /// File with the password, read again when it changes.
        password_file: PathBuf;
    }
}

section! {
    /// How the receiver's certificate is judged. Relative paths start at the configuration file.
    RawTlsConfig at "remote_write[].tls_config" {
        /// PEM file with the authorities to trust instead of the system's, read again when it
        /// changes.
        ca_file: PathBuf;
        /// Name expected in the certificate, when it is not the URL's host.
        server_name: String;
        /// Accept any certificate.
        insecure_skip_verify: bool = "false";
    }
}

section! {
    /// A job whose targets take more than one lane each.
    RawSpread at "remote_write[].spread[]" {
        /// Value of the label `job`: exact, or with a `*` at its start, its end or both.
        job: String;
        /// Labels whose values choose the lane beside the target. 1 to 8.
        by: Vec<Located<String>>;
    }
}
