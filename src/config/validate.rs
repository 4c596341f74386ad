//! From what was written to what can run.

use std::net::SocketAddr;
use std::time::Duration;

use super::checks::{self, Judge};
use super::choice::{AckMode, Choice as _, Mode, OnFull};
use super::memory;
use super::passthrough;
use super::preset::Preset;
use super::problem::{Located, Source};
use super::raw::{RawConfig, RawLog, RawRemoteWrite, RawServer, RawStorage};
use super::types::{
    ADMIN_LISTEN, Config, IngestConfig, LISTEN, LOCK_WAIT, LogConfig, QueueConfig, QueueLimits,
    SHUTDOWN_DEADLINE, StorageConfig,
};
use super::validate_queue::queue;
use crate::units::{ByteSize, Span};

/// Most a count per request may be set to.
const MANY: u64 = 10_000_000;
/// Receivers: each has lanes, journal and permits of its own.
const MOST_QUEUES: usize = 64;

/// The configuration; to be thrown away when the judge has problems. `available` is what
/// [`memory::available`] found.
pub(super) fn config(raw: &RawConfig, available: Option<u64>, judge: &mut Judge) -> Config {
    let server = section(raw.server.as_ref());
    let (listen, admin_listen) = listeners(raw, judge);
    let ingest = ingest(&server, judge);
    let storage = storage(&section(raw.storage.as_ref()), judge);
    let ack = ack(raw, storage.is_some(), judge);
    let mode = judge.word(raw.mode.as_ref(), Mode::Normal);
    let deadline = section(raw.shutdown.as_ref()).deadline;
    let config = Config {
        listen,
        admin_listen,
        ack,
        mode,
        storage,
        memory_limit: memory_limit(raw, available, judge),
        shutdown_deadline: span(judge, deadline.as_ref(), SHUTDOWN_DEADLINE, 0, HOUR),
        ingest,
        queues: queues(raw, judge),
        log: log(&section(raw.log.as_ref()), judge),
    };
    advise(&config, judge);
    if mode == Mode::Passthrough {
        passthrough::check(raw, &config, judge);
    }
    config
}

/// One hour in milliseconds.
pub(super) const HOUR: u64 = 3_600_000;

/// A duration between two numbers of milliseconds.
pub(super) fn span(
    judge: &mut Judge,
    given: Option<&Located<Span>>,
    default: Duration,
    least: u64,
    most: u64,
) -> Duration {
    let millis = |millis| Span(Duration::from_millis(millis));
    judge
        .range(given, Span(default), millis(least)..=millis(most))
        .0
}

/// What a section holds; nothing where there is none.
pub(super) fn section<T: Clone + Default>(given: Option<&Located<T>>) -> T {
    given
        .map(|section| section.value.clone())
        .unwrap_or_default()
}

fn listeners(raw: &RawConfig, judge: &mut Judge) -> (SocketAddr, SocketAddr) {
    let data = section(raw.server.as_ref()).listen;
    let admin = section(raw.admin.as_ref()).listen;
    let listen = data.as_ref().map_or(LISTEN, |given| given.value);
    let admin_listen = admin.as_ref().map_or(ADMIN_LISTEN, |given| given.value);
    // Port 0 asks for any free port, twice.
    if listen == admin_listen && listen.port() != 0 {
        let file = Source::default();
        let sources = [
            admin.as_ref().map(|g| &g.source),
            data.as_ref().map(|g| &g.source),
        ];
        let reason = "data and admin listeners must be different sockets";
        judge
            .problems
            .refuse(checks::blame(&sources, &file), listen, reason);
    }
    (listen, admin_listen)
}

fn ingest(raw: &RawServer, judge: &mut Judge) -> IngestConfig {
    let default = IngestConfig::default();
    IngestConfig {
        max_request_size: judge.range(
            raw.max_request_size.as_ref(),
            default.max_request_size,
            ByteSize(64 << 10)..=ByteSize(1 << 30),
        ),
        max_series_per_request: judge.count(
            raw.max_series_per_request.as_ref(),
            default.max_series_per_request,
            1..=MANY,
        ),
        max_elements_per_request: judge.count(
            raw.max_elements_per_request.as_ref(),
            default.max_elements_per_request,
            1..=MANY,
        ),
        max_labels_per_series: judge.count(
            raw.max_labels_per_series.as_ref(),
            default.max_labels_per_series,
            1..=65_535,
        ),
        max_label_bytes: judge.range(
            raw.max_label_bytes.as_ref(),
            default.max_label_bytes,
            ByteSize(0)..=ByteSize(16 << 20),
        ),
        accept_zstd: raw
            .accept_zstd
            .as_ref()
            .map_or(default.accept_zstd, |given| given.value),
        max_connections: judge.count(
            raw.max_connections.as_ref(),
            default.max_connections,
            1..=65_535,
        ),
        tenant_headers: judge.list(
            raw.tenant_headers.as_ref(),
            default.tenant_headers,
            16,
            checks::header_name,
        ),
        queue_wait: span(
            judge,
            raw.queue_wait.as_ref(),
            default.queue_wait,
            0,
            60_000,
        ),
        upstream_answer_deadline: span(
            judge,
            raw.upstream_answer_deadline.as_ref(),
            default.upstream_answer_deadline,
            1_000,
            600_000,
        ),
    }
}

fn ack(raw: &RawConfig, on_disk: bool, judge: &mut Judge) -> AckMode {
    let default = if on_disk {
        AckMode::Fsync
    } else {
        AckMode::Upstream
    };
    let ack = judge.word(raw.ack.as_ref(), default);
    if let (AckMode::Fsync, Some(Located { value, source }), false) = (ack, &raw.ack, on_disk) {
        judge.problems.refuse(source, value, "needs --storage.path");
    }
    ack
}

fn storage(raw: &RawStorage, judge: &mut Judge) -> Option<StorageConfig> {
    let max_bytes = raw.max_bytes.as_ref().map(|given| {
        let (least, most) = (ByteSize(4 << 20), ByteSize(1 << 50));
        judge.range(Some(given), least, least..=most)
    });
    let max_age = raw.max_age.as_ref();
    let max_age =
        max_age.map(|given| span(judge, Some(given), Duration::ZERO, 60_000, 10_000 * HOUR));
    let on_full = judge.word(raw.on_full.as_ref(), OnFull::Backpressure);
    let lock_wait = span(judge, raw.lock_wait.as_ref(), LOCK_WAIT, 0, HOUR);
    let Some(path) = &raw.path else {
        if let Some(Located { value, source }) = &raw.max_bytes {
            judge.problems.refuse(source, value, "needs --storage.path");
        }
        return None;
    };
    Some(StorageConfig {
        path: path.value.clone(),
        max_bytes,
        on_full,
        max_age,
        lock_wait,
    })
}

fn memory_limit(raw: &RawConfig, available: Option<u64>, judge: &mut Judge) -> ByteSize {
    let default = memory::default_limit(available);
    let given = section(raw.memory.as_ref()).limit;
    let limit = judge.range(given.as_ref(), default, memory::LEAST..=memory::MOST);
    if let Some(available) = available.filter(|available| limit.0 > *available) {
        let has = ByteSize(available);
        judge.warnings.push(format!(
            "memory.limit: {limit} is more than there is ({has} bytes)"
        ));
    }
    limit
}

fn log(raw: &RawLog, judge: &mut Judge) -> LogConfig {
    let default = LogConfig::default();
    LogConfig {
        level: judge.word(raw.level.as_ref(), default.level),
        format: judge.word(raw.format.as_ref(), default.format),
    }
}

fn queues(raw: &RawConfig, judge: &mut Judge) -> Vec<QueueConfig> {
    let entries = raw
        .remote_write
        .as_ref()
        .map_or(&[][..], |entries| &entries.value);
    if entries.is_empty() && !judge.problems.about("remote_write") {
        judge.problems.note(
            &Source::flag("--upstream"),
            "nothing to send to: give --upstream URL, --upstream discard:, or a --config.file with \
             remote_write",
        );
    }
    if let Some(entry) = entries.get(MOST_QUEUES) {
        judge
            .problems
            .note(&entry.source, format!("at most {MOST_QUEUES} queues"));
    }
    let base = base_limits(raw, judge);
    let alone = entries.len() == 1;
    let mut queues: Vec<QueueConfig> = Vec::new();
    for entry in entries.iter().take(MOST_QUEUES) {
        let name = queue_name(entry, alone, &queues, judge);
        queues.push(queue(name, &entry.value, &entry.source, &base, judge));
    }
    queues
}

/// The preset's limits, or the defaults.
fn base_limits(raw: &RawConfig, judge: &mut Judge) -> QueueLimits {
    let Some(Located { value, source }) = &raw.preset else {
        return QueueLimits::default();
    };
    match Preset::parse(value) {
        Ok(preset) => preset.limits(),
        Err(reason) => {
            judge.problems.refuse(source, value, reason);
            QueueLimits::default()
        }
    }
}

fn queue_name(
    entry: &Located<RawRemoteWrite>,
    alone: bool,
    others: &[QueueConfig],
    judge: &mut Judge,
) -> String {
    let Some(Located {
        value: name,
        source,
    }) = &entry.value.name
    else {
        if !alone {
            let url = entry
                .value
                .url
                .as_ref()
                .map_or("", |url| checks::shown(&url.value));
            let reason =
                "several queues need names: write --upstream NAME=URL, or name in the file";
            judge.problems.refuse(&entry.source, url, reason);
        }
        return "default".to_owned();
    };
    if let Err(reason) = checks::name(name) {
        judge.problems.refuse(source, name, reason);
    } else if others.iter().any(|other| other.name == *name) {
        let reason = format!("found multiple remote write configs with job name {name:?}");
        judge.problems.refuse(source, name, reason);
    }
    name.clone()
}

/// What runs, but is unwise.
fn advise(config: &Config, judge: &mut Judge) {
    let mut warn = |text: String| judge.warnings.push(text);
    let ingest = &config.ingest;
    if ingest.max_request_size.0 > config.memory_limit.0 / 2 {
        warn(format!(
            "server.max_request_size: one request of {} takes over half of memory.limit ({})",
            ingest.max_request_size, config.memory_limit
        ));
    }
    if config.ack != AckMode::Upstream {
        return;
    }
    let deadline = ingest.upstream_answer_deadline;
    if deadline >= Duration::from_secs(30) {
        warn(format!(
            "server.upstream_answer_deadline: Prometheus gives up after 30s, before {}",
            Span(deadline)
        ));
    }
    if !config.queues.is_empty() && config.queues.iter().all(|queue| !queue.required) {
        warn("ack: upstream waits for required queues only, and none is required".to_owned());
    }
    for queue in config
        .queues
        .iter()
        .filter(|queue| !queue.merge_window.is_zero())
    {
        warn(format!(
            "{}: merge_window: no effect with ack upstream: a sender waits",
            queue.name
        ));
    }
}
