//! The one catalogue of metrics: no name stands anywhere else.
//!
//! Sums that belong together (the books of a queue) are set from one snapshot when somebody scrapes, so
//! that every scrape balances. What happens once a request or attempt is counted as it happens, through
//! handles made once.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, Unit};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Distribution of seconds.
    Histogram,
}

/// One row of the catalogue.
#[derive(Debug)]
pub struct Def {
    /// Name, with the prefix.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// Label names; their values come from closed sets or from the configuration.
    pub labels: &'static [&'static str],
    /// What it says; becomes its HELP and its row in `docs/metrics.md`.
    pub help: &'static str,
}

macro_rules! catalogue {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $id: Def = Def {
                name: concat!("sluicegate_", $name),
                kind: MetricKind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        /// The whole catalogue.
        pub const CATALOGUE: &[Def] = &[$($id),*];
    };
}

catalogue! {
    BUILD_INFO = Gauge "build_info" ["version"] "1, labelled with the version.";
    CONFIG_LOADED = Gauge "config_last_load_successful" [] "1 while the configuration that was asked for is in use; 0 while it has problems, and the last good one is in use, or none.";
    CONFIG_QUEUES = Gauge "config_queues" [] "Queues in the configuration.";

    REQUESTS = Counter "requests_total" ["code", "reason"] "Requests to the data listener by status code and, for refusals, reason.";
    REQUEST_SECONDS = Histogram "request_duration_seconds" [] "Time from a request's headers to its answer.";
    REQUESTS_IN_FLIGHT = Gauge "requests_in_flight" [] "Requests being received or waiting for their answer.";
    CONNECTIONS = Gauge "connections" [] "Open connections of senders.";
    CONNECTIONS_REJECTED = Counter "connections_rejected_total" [] "Connections closed at once because as many as `server.max_connections` were open and at work.";
    CONNECTIONS_CLOSED = Counter "connections_closed_total" ["reason"] "Connections of senders closed by us: headers that did not come (`header_timeout`), no request for long (`idle`), answers not read (`write_timeout`), bodies that came too slowly (`body_timeout`: not complete after 25 s, `body_rate`: below 4 KiB/s, `body_pressure`: dripping while others waited for memory), and silent, dripping or idle ones that made way for a new one when all places were taken (`made_way`).";
    ABORTED = Counter "requests_aborted_total" ["missing"] "Requests that ended without an answer because their sender hung up or was hung up on: in the middle of their `body`, or before their `answer`.";
    RECEIVED = Counter "received_samples_total" ["proto", "kind"] "Elements admitted, by protocol and kind (sample, histogram, exemplar).";
    REFUSED = Counter "refused_samples_total" ["reason", "kind"] "Elements of series that were refused by themselves while the rest of their request was admitted.";
    RECEIVED_BYTES = Counter "received_bytes_total" [] "Compressed bytes of admitted requests.";
    RECEIVED_DECODED_BYTES = Counter "received_decoded_bytes_total" [] "Decompressed bytes of admitted requests.";
    ATTACHED = Counter "attached_requests_total" ["to"] "Requests whose body was already here: attached to its unanswered first copy, taking over an orphan, or made durable by the last process and never answered.";
    WITHDRAWN = Counter "withdrawn_requests_total" [] "Requests answered 503 because no receiver settled them in time (ack upstream).";

    LOG_BYTES = Gauge "storage_bytes" [] "Bytes of records in the log, reservations included.";
    LOG_LIMIT_BYTES = Gauge "storage_limit_bytes" [] "Bytes the log may hold.";
    LOG_RECORDS = Gauge "storage_records" [] "Records in the log.";
    STORAGE_WRITABLE = Gauge "storage_writable" [] "1 while the log on disk takes records; 0 while it does not, and senders get 503.";
    STORAGE_SYNCS = Counter "storage_syncs_total" [] "Syncs of the log on disk.";
    STORAGE_SYNC_SECONDS = Gauge "storage_sync_seconds_sum" [] "Time that all of them took together.";
    STORAGE_ERRORS = Counter "storage_errors_total" ["operation", "error"] "Operations on the log's files that failed, by operation and the system's name of the error.";
    STORAGE_DAMAGED = Counter "storage_damaged_total" ["part"] "Parts of the log on disk that are not what was written: torn tails, headers, bodies, footers, segments.";
    JOURNAL_BYTES = Gauge "journal_bytes" ["remote_name", "url"] "Bytes of the settle journal.";
    JOURNAL_WRITABLE = Gauge "journal_writable" ["remote_name", "url"] "1 while the settle journal can be written. While it is 0 sending goes on, and after a crash more is sent twice.";
    JOURNAL_ERRORS = Counter "journal_errors_total" ["remote_name", "url"] "Operations on the settle journal that failed.";
    JOURNAL_SYNCS = Counter "journal_syncs_total" ["remote_name", "url"] "Syncs of the settle journal.";
    MEMORY_LIMIT_BYTES = Gauge "memory_limit_bytes" [] "The memory budget.";
    MEMORY_BYTES = Gauge "memory_reserved_bytes" ["part"] "Memory accounted for, by what holds it.";
    AT_RISK = Gauge "at_risk_samples" ["event"] "Acknowledged samples that would be lost if the process died, the node lost power, or the pod was deleted now.";

    QUEUE_RECEIVED = Counter "queue_received_samples_total" ["remote_name", "url", "kind"] "Elements that the queue has to account for.";
    DELIVERED = Counter "delivered_samples_total" ["remote_name", "url", "kind"] "Elements that the receiver said it has.";
    UNCONFIRMED = Counter "unconfirmed_samples_total" ["remote_name", "url", "kind"] "Elements refused or conflicting, and perhaps stored.";
    DROPPED = Counter "dropped_samples_total" ["remote_name", "url", "kind", "reason"] "Elements taken out, by reason.";
    QUARANTINED = Counter "quarantined_samples_total" ["remote_name", "url", "kind"] "Elements set aside for a person to look at.";
    PENDING = Gauge "pending_samples" ["remote_name", "url", "kind", "where"] "Elements not settled: unread or untaken in the log, queued in lanes, or in flight.";
    CONSERVATION_ERROR = Gauge "conservation_error" ["remote_name", "url"] "Received minus everything accounted for. Anything but 0 is a bug.";
    LAG_SECONDS = Gauge "lag_seconds" ["remote_name", "url"] "Age of the oldest pending element, by its arrival; 0 when nothing is pending.";
    DEGRADED = Counter "degraded_samples_total" ["remote_name", "url"] "Elements sent without their start timestamp, because 1.0 cannot carry it.";
    RETRIED = Counter "samples_retried_total" ["remote_name", "url"] "Elements in attempts that failed and are tried again.";
    BATCHES = Counter "batches_total" ["remote_name", "url", "result"] "Batches with a verdict: settled, or settled with something refused for good.";
    RETRIES = Counter "retries_total" ["remote_name", "url"] "Attempts that failed and are tried again.";
    SPLITS = Counter "splits_total" ["remote_name", "url"] "Refused requests whose halves were sent instead, each by itself.";
    UPSTREAM_REQUESTS = Counter "upstream_requests_total" ["remote_name", "url", "code"] "Attempts by status code, or by how they failed.";
    SENT_SECONDS = Histogram "sent_batch_duration_seconds" ["remote_name", "url"] "Time of one attempt.";
    SENT_BYTES = Counter "bytes_total" ["remote_name", "url"] "Compressed bytes of attempts.";
    SHARDS = Gauge "shards" ["remote_name", "url"] "Permits for one request in flight each.";
    SHARDS_DESIRED = Gauge "shards_desired" ["remote_name", "url"] "Permits that the formula asks for, unclamped.";
    SHARDS_MIN = Gauge "shards_min" ["remote_name", "url"] "Least number of permits.";
    SHARDS_MAX = Gauge "shards_max" ["remote_name", "url"] "Greatest number of permits.";
    SHARDS_BUSY = Gauge "shards_busy" ["remote_name", "url"] "Permits in use.";
    SHARD_CAPACITY = Gauge "shard_capacity" ["remote_name", "url"] "Samples that lanes may hold per shard.";
    MAX_SAMPLES_PER_SEND = Gauge "max_samples_per_send" ["remote_name", "url"] "Elements that a batch takes.";
    WAITING_BATCHES = Gauge "waiting_batches" ["remote_name", "url"] "Batches that wait for their next try, without a permit.";
    GATE_OPEN = Gauge "upstream_gate_open" ["remote_name", "url"] "1 while requests go out freely; 0 while the endpoint is left alone, probed or ramped up.";
    PROTOCOL_V2 = Gauge "upstream_protocol_v2" ["remote_name", "url"] "1: the receiver proved to know remote write 2.0; 0: it proved not to; -1: not known.";
    LANES = Gauge "lanes" ["remote_name", "url", "state"] "Lanes in use, locked by a batch, and parked.";
    SEPARATION_KEYS = Gauge "separation_keys" ["remote_name", "url"] "Separation keys in use (tenants, replicas, clusters).";
    SERIES = Gauge "series" ["remote_name", "url"] "Series in the table, cached ones included.";
    DECODED = Counter "decoded_records_total" ["remote_name", "url", "by"] "Records decoded again after ingest: by the lead reader, for parked lanes, or for batches that were open when the last process ended.";
    PARKED = Counter "lanes_parked_total" ["remote_name", "url"] "Times that a lane was parked.";
    REWINDS = Counter "rewinds_total" ["remote_name", "url"] "Times that the lane rules changed and the reader went back.";
    METADATA_RECEIVED = Counter "metadata_received_total" ["remote_name", "url"] "Metadata entries received.";
    METADATA_SENT = Counter "metadata_total" ["remote_name", "url"] "Metadata entries sent by themselves (1.0).";
    METADATA_REFUSED = Counter "metadata_refused_total" ["remote_name", "url"] "Metadata entries not learned because the cache is full.";
}

/// Buckets of both histograms: Prometheus' defaults and the longer ones its remote storage adds.
const BUCKETS: [f64; 15] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 120.0, 300.0,
];

const METADATA: Metadata<'static> = Metadata::new("sluicegate", Level::INFO, None);

/// The metrics of one process; tests make one for each proxy they start.
pub struct Registry {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// A registry that describes the whole catalogue.
    pub fn new() -> Self {
        let mut builder = PrometheusBuilder::new();
        for def in CATALOGUE
            .iter()
            .filter(|def| def.kind == MetricKind::Histogram)
        {
            let matcher = Matcher::Full(def.name.to_owned());
            builder = builder
                .set_buckets_for_metric(matcher, &BUCKETS)
                .expect("the list of buckets is not empty");
        }
        let recorder = builder.build_recorder();
        for def in CATALOGUE {
            let (name, help) = (KeyName::from_const_str(def.name), def.help.into());
            let unit: Option<Unit> = None;
            match def.kind {
                MetricKind::Counter => recorder.describe_counter(name, unit, help),
                MetricKind::Gauge => recorder.describe_gauge(name, unit, help),
                MetricKind::Histogram => recorder.describe_histogram(name, unit, help),
            }
        }
        let handle = recorder.handle();
        Self { recorder, handle }
    }

    fn key(def: &Def, kind: MetricKind, values: &[&str]) -> Key {
        assert_eq!(def.kind, kind, "{} is used as what it is", def.name);
        assert_eq!(
            def.labels.len(),
            values.len(),
            "{} has all its labels",
            def.name
        );
        let labels = def.labels.iter().zip(values);
        let labels: Vec<_> = labels
            .map(|(name, value)| Label::new(*name, (*value).to_owned()))
            .collect();
        Key::from_parts(def.name, labels)
    }

    /// A handle of a counter.
    pub fn counter(&self, def: &Def, values: &[&str]) -> Counter {
        let key = Self::key(def, MetricKind::Counter, values);
        self.recorder.register_counter(&key, &METADATA)
    }

    /// A handle of a gauge.
    pub fn gauge(&self, def: &Def, values: &[&str]) -> Gauge {
        self.recorder
            .register_gauge(&Self::key(def, MetricKind::Gauge, values), &METADATA)
    }

    /// A handle of a histogram.
    pub fn histogram(&self, def: &Def, values: &[&str]) -> Histogram {
        let key = Self::key(def, MetricKind::Histogram, values);
        self.recorder.register_histogram(&key, &METADATA)
    }

    /// Sets a gauge.
    pub fn set(&self, def: &Def, values: &[&str], value: f64) {
        self.gauge(def, values).set(value);
    }

    /// Brings a counter up to a sum kept elsewhere.
    pub fn total(&self, def: &Def, values: &[&str], value: u64) {
        self.counter(def, values).absolute(value);
    }

    /// The text that is scraped.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds what histograms have gathered; to be called every few seconds.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

/// `docs/metrics.md`.
pub fn render_docs() -> String {
    let mut text = String::from(
        "# Metrics\n\nGenerated from `src/metrics.rs`; `SLUICEGATE_BLESS=1 cargo test --lib metrics` \
         writes it anew.\n\n`remote_name` is the queue's name, `url` its endpoint without credentials \
         and query. No label value ever comes from the network.\n\n| name | type | labels | meaning |\n\
         |---|---|---|---|\n",
    );
    for def in CATALOGUE {
        let kind = format!("{:?}", def.kind).to_lowercase();
        let labels: Vec<_> = def
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        text += &format!(
            "| `{}` | {kind} | {} | {} |\n",
            def.name,
            labels.join(", "),
            def.help
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_metrics_is_current() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let fresh = render_docs();
        if std::env::var_os("SLUICEGATE_BLESS").is_some() {
            std::fs::write(&path, &fresh).unwrap();
        }
        let current = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            current == fresh,
            "docs/metrics.md is stale: run again with SLUICEGATE_BLESS=1"
        );
    }

    #[test]
    fn a_registry_renders_what_was_set_with_its_help() {
        let registry = Registry::new();
        registry.set(&LAG_SECONDS, &["default", "http://r"], 1.5);
        registry.total(&BATCHES, &["default", "http://r", "settled"], 7);
        registry.histogram(&REQUEST_SECONDS, &[]).record(0.2);
        registry.upkeep();
        let text = registry.render();
        for line in [
            "# HELP sluicegate_lag_seconds Age of the oldest",
            "sluicegate_lag_seconds{remote_name=\"default\",url=\"http://r\"} 1.5",
            "sluicegate_batches_total{remote_name=\"default\",url=\"http://r\",result=\"settled\"} 7",
            "sluicegate_request_duration_seconds_bucket{le=\"0.25\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
