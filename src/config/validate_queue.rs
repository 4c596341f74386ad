//! One `remote_write` entry: from what was written to what can run.

use std::time::Duration;

use super::checks::{self, Judge};
use super::problem::{Located, Source};
use super::raw::{RawMetadataConfig, RawQueueConfig, RawRemoteWrite, RawSpread};
use super::types::{MetadataConfig, QueueConfig, QueueLimits, SpreadRule};
use super::validate::{HOUR, section, span};
use super::validate_endpoint::endpoint;
use crate::units::{ByteSize, Span};

/// The queue; `base` is what the preset says.
pub(super) fn queue(
    name: String,
    raw: &RawRemoteWrite,
    source: &Source,
    base: &QueueLimits,
    judge: &mut Judge,
) -> QueueConfig {
    not_ours(raw, judge);
    let default = QueueConfig::new(name, endpoint(raw, source, judge));
    let flag = |given: &Option<Located<bool>>, default| given.as_ref().map_or(default, |g| g.value);
    let limits = section(raw.queue_config.as_ref());
    QueueConfig {
        required: flag(&raw.required, default.required),
        protobuf_message: judge.word(raw.protobuf_message.as_ref(), default.protobuf_message),
        compression: judge.word(raw.compression.as_ref(), default.compression),
        grouping: judge.word(raw.grouping.as_ref(), default.grouping),
        separate_by: judge.list(
            raw.separate_by.as_ref(),
            default.separate_by,
            16,
            checks::label,
        ),
        spread: spread(raw.spread.as_ref(), default.spread, judge),
        merge_window: span(
            judge,
            raw.merge_window.as_ref(),
            default.merge_window,
            0,
            HOUR,
        ),
        limits: queue_limits(&default.name, &limits, source, base, judge),
        remote_timeout: span(
            judge,
            raw.remote_timeout.as_ref(),
            default.remote_timeout,
            1,
            600_000,
        ),
        metadata: metadata(&section(raw.metadata_config.as_ref()), judge),
        send_exemplars: flag(&raw.send_exemplars, default.send_exemplars),
        send_native_histograms: flag(&raw.send_native_histograms, default.send_native_histograms),
        endpoint: default.endpoint,
        name: default.name,
        retry_on_http_429: default.retry_on_http_429,
    }
}

/// Keys that Prometheus has, and that have one value only here.
fn not_ours(raw: &RawRemoteWrite, judge: &mut Judge) {
    judge.must_be(
        raw.follow_redirects.as_ref(),
        false,
        "a redirect is held and reported, never followed",
    );
    judge.must_be(raw.enable_http2.as_ref(), false, "HTTP/2 is not built yet");
    judge.must_be(raw.round_robin_dns.as_ref(), false, "not built yet");
    judge.must_be(
        raw.proxy_from_environment.as_ref(),
        false,
        "not built yet; use proxy_url",
    );
    let limits = section(raw.queue_config.as_ref());
    judge.must_be(
        limits.retry_on_http_429.as_ref(),
        true,
        "what a receiver throttles is held here, never dropped",
    );
    judge.must_be(
        limits.sample_age_limit.as_ref(),
        Span(Duration::ZERO),
        "dropping samples by age is not built yet",
    );
}

/// Source of the texts: prometheus `config.go`, `QueueConfig.Validate`; `min_shards` may be 0 here,
/// and `capacity` holds at least one request.
fn queue_limits(
    name: &str,
    raw: &RawQueueConfig,
    entry: &Source,
    base: &QueueLimits,
    judge: &mut Judge,
) -> QueueLimits {
    let mut positive = |key: &str, given: Option<&Located<u64>>, default: usize, most: u64| {
        if let Some(Located { value: 0, source }) = given {
            let reason = format!("remote write queue {key} must be positive, at most {most}");
            judge.problems.refuse(source, 0, reason);
            return default;
        }
        judge.count(given, default, 1..=most)
    };
    let capacity = positive("capacity", raw.capacity.as_ref(), base.capacity, 10_000_000);
    let sends = raw.max_samples_per_send.as_ref();
    let max_samples_per_send = positive(
        "max_samples_per_send",
        sends,
        base.max_samples_per_send,
        1_000_000,
    );
    let max_shards = positive(
        "max_shards",
        raw.max_shards.as_ref(),
        base.max_shards,
        10_000,
    );
    let limits = QueueLimits {
        capacity,
        max_samples_per_send,
        min_shards: judge.count(raw.min_shards.as_ref(), base.min_shards, 0..=10_000),
        max_shards,
        batch_send_deadline: span(
            judge,
            raw.batch_send_deadline.as_ref(),
            base.batch_send_deadline,
            1,
            HOUR,
        ),
        min_backoff: span(judge, raw.min_backoff.as_ref(), base.min_backoff, 1, HOUR),
        max_backoff: span(judge, raw.max_backoff.as_ref(), base.max_backoff, 1, HOUR),
        max_bytes_per_send: judge.range(
            raw.max_bytes_per_send.as_ref(),
            base.max_bytes_per_send,
            ByteSize(64 << 10)..=ByteSize(64 << 20),
        ),
    };
    compare(&limits, raw, entry, judge);
    advise_capacity(name, &limits, judge);
    limits
}

/// Rules between two keys. Blamed is the one that was given; both values are told.
fn compare(limits: &QueueLimits, raw: &RawQueueConfig, entry: &Source, judge: &mut Judge) {
    let at = |given: &Option<Located<u64>>| given.as_ref().map(|given| given.source.clone());
    let at_span = |given: &Option<Located<Span>>| given.as_ref().map(|given| given.source.clone());
    let mut rule = |broken: bool, blamed: [Option<Source>; 2], reason: String| {
        if broken {
            let blamed = [blamed[0].as_ref(), blamed[1].as_ref()];
            judge.problems.note(checks::blame(&blamed, entry), reason);
        }
    };
    rule(
        limits.min_shards > limits.max_shards,
        [at(&raw.min_shards), at(&raw.max_shards)],
        format!(
            "remote write queue min_shards must not be greater than max_shards ({} > {})",
            limits.min_shards, limits.max_shards
        ),
    );
    rule(
        limits.capacity < limits.max_samples_per_send,
        [at(&raw.capacity), at(&raw.max_samples_per_send)],
        format!(
            "remote write queue capacity must not be less than max_samples_per_send ({} < {}); 3 \
             to 10 times that is advised",
            limits.capacity, limits.max_samples_per_send
        ),
    );
    rule(
        limits.max_backoff < limits.min_backoff,
        [at_span(&raw.max_backoff), at_span(&raw.min_backoff)],
        format!(
            "remote write queue max_backoff must not be less than min_backoff ({} < {})",
            Span(limits.max_backoff),
            Span(limits.min_backoff)
        ),
    );
}

/// Source: Prometheus' remote write tuning page.
fn advise_capacity(name: &str, limits: &QueueLimits, judge: &mut Judge) {
    let (capacity, batch) = (limits.capacity, limits.max_samples_per_send);
    if capacity >= batch && (capacity < 3 * batch || capacity > 10 * batch) {
        judge.warnings.push(format!(
            "{name}: capacity {capacity} is {:.1} times max_samples_per_send {batch}; 3 to 10 \
             times is advised",
            capacity as f64 / batch as f64
        ));
    }
}

fn metadata(raw: &RawMetadataConfig, judge: &mut Judge) -> MetadataConfig {
    let default = MetadataConfig::default();
    MetadataConfig {
        send: raw.send.as_ref().map_or(default.send, |given| given.value),
        send_interval: span(
            judge,
            raw.send_interval.as_ref(),
            default.send_interval,
            1_000,
            24 * HOUR,
        ),
        max_samples_per_send: judge.count(
            raw.max_samples_per_send.as_ref(),
            default.max_samples_per_send,
            1..=1_000_000,
        ),
    }
}

fn spread(
    given: Option<&Located<Vec<Located<RawSpread>>>>,
    default: Vec<SpreadRule>,
    judge: &mut Judge,
) -> Vec<SpreadRule> {
    const MOST: usize = 64;
    let Some(Located {
        value: rules,
        source,
    }) = given
    else {
        return default;
    };
    if rules.len() > MOST {
        judge
            .problems
            .note(source, format!("{} entries; at most {MOST}", rules.len()));
    }
    let mut read = Vec::new();
    for Located {
        value: rule,
        source,
    } in rules.iter().take(MOST)
    {
        let by = judge.list(rule.by.as_ref(), Vec::new(), 8, checks::label);
        if rule.by.as_ref().is_none_or(|by| by.value.is_empty()) {
            judge
                .problems
                .note(source, "by must name at least one label");
        }
        let Some(job) = &rule.job else {
            judge.problems.note(source, "job is missing");
            continue;
        };
        if let Err(reason) = checks::job_pattern(&job.value) {
            judge.problems.refuse(&job.source, &job.value, reason);
        }
        read.push(SpreadRule {
            job: job.value.clone(),
            by,
        });
    }
    read
}
