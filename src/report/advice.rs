//! Settings for both hops, from what was measured, each with its sum. Pure.
//!
//! The formulas are those of Prometheus' own queue: a shard sends `max_samples_per_send` in one round trip, so
//! `samples/s ≤ shards × max_samples_per_send / latency`. What nothing was measured of is assumed in the open.

use serde::{Deserialize, Serialize};

use super::shadow::{ShadowRow, find};
use super::words::{bytes, count, latency, percent, rate, time};

/// Latencies of a receiver that nothing is known of: a near one, and a far one.
pub const LATENCIES: [f64; 2] = [0.1, 0.5];
/// An outage that is to be caught up with, and in which time: 1 h in 30 min.
const OUTAGE: f64 = 3_600.0;
const DRAIN: f64 = 1_800.0;
/// Above what the sum says, so that a shard more is there than just enough.
const HEADROOM: f64 = 1.3;
/// `capacity` in requests: 3 to 10 are usual.
const CAPACITY: u64 = 5;
/// A large request, as both hops may have it.
const LARGE: u64 = 5_000;
/// Less than this is no reason to change a setting.
const WORTH: f64 = 0.02;
/// When a request leaves that is not full.
const DEADLINE: f64 = 5.0;
/// A sample in a lane.
const SAMPLE_BYTES: f64 = 32.0;
/// What a record costs beside its body.
const RECORD_BYTES: f64 = 512.0;
/// The log in memory has 5 of 16 parts of `memory.limit`.
const LOG_SHARE: f64 = 5.0 / 16.0;

/// A setting, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Advice {
    /// `receiver`: of Sluicegate towards the receiver; `senders`: of Prometheus towards Sluicegate;
    /// `outage`: room for one hour without a receiver.
    pub hop: String,
    /// As it stands in the configuration.
    pub setting: String,
    /// How it comes about, with its numbers.
    pub sum: String,
}

/// What it follows from.
pub struct Known<'k> {
    /// Rate, over the measured time.
    pub samples_per_second: f64,
    /// Senders' requests, over the measured time.
    pub requests_per_second: f64,
    /// Their bytes.
    pub bytes_per_second: f64,
    /// Samples of a request, as the queue is set.
    pub per_send: u64,
    /// `upstream`, `memory` or `fsync`.
    pub ack: &'k str,
    /// How long another queue's receiver takes to answer: half of the time, and 99 times of 100.
    pub latency: Option<(f64, f64)>,
    /// What was measured.
    pub rows: &'k [ShadowRow],
}

/// Shards for a rate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShardAdvice {
    /// Busy at the mean rate.
    pub steady: f64,
    /// Needed to catch up with an outage of an hour in half an hour, with headroom.
    pub most: f64,
    /// `min_shards`.
    pub min: u64,
    /// `max_shards`.
    pub max: u64,
    /// Samples a second that `max` carries.
    pub ceiling: f64,
}

/// `steady = rate × latency / batch`; `max = (rate + backlog / drain) × worst / batch × 1.3`.
pub fn shards(rate: f64, per_send: u64, latency: f64, worst: f64) -> ShardAdvice {
    let batch = per_send.max(1) as f64;
    let steady = rate * latency / batch;
    let most = (rate + rate * OUTAGE / DRAIN) * worst / batch * HEADROOM;
    let min = (steady.floor() as u64).max(1);
    let max = (most.ceil() as u64).max(min);
    ShardAdvice {
        steady,
        most,
        min,
        max,
        ceiling: max as f64 * batch / latency,
    }
}

/// Samples of a sender's request that leaves when it is full or has waited five seconds.
pub fn filled(rate: f64, shards: u64, per_send: u64) -> f64 {
    (rate / shards.max(1) as f64 * DEADLINE).min(per_send as f64)
}

/// Bytes that the log takes in an hour, at senders' bytes and requests a second.
pub fn outage_bytes(bytes_per_second: f64, requests_per_second: f64) -> f64 {
    (bytes_per_second + requests_per_second * RECORD_BYTES) * OUTAGE
}

/// All of it.
pub fn advice(known: &Known<'_>) -> Vec<Advice> {
    let mut all = vec![grouping(known)];
    let (per_send, size) = size(known);
    all.push(size);
    all.extend(towards_receiver(known, per_send));
    all.extend(protocol(known));
    all.extend(towards_senders(known));
    all.extend(outage(known));
    all
}

fn of(hop: &str, setting: String, sum: String) -> Advice {
    Advice {
        hop: hop.to_owned(),
        setting,
        sum,
    }
}

fn receiver(setting: String, sum: String) -> Advice {
    of("receiver", setting, sum)
}

const UNKNOWN: &str = "not known yet";

/// The order that costs less, if it is worth it.
fn grouping(known: &Known<'_>) -> Advice {
    let row = |cut: &str| find(known.rows, cut, "1.0", "snappy");
    let Some((target, arrival)) = row("target").zip(row("arrival")) else {
        return receiver(
            format!("grouping: {UNKNOWN}"),
            "nothing was measured".to_owned(),
        );
    };
    let (by_target, by_arrival) = (target.bytes_per_sample, arrival.bytes_per_sample);
    let arrives = by_arrival < by_target * (1.0 - WORTH);
    receiver(
        format!("grouping: {}", if arrives { "arrival" } else { "target" }),
        format!(
            "{by_target:.1} B a sample by target, {by_arrival:.1} in order of arrival, of the same {} samples{}",
            count(target.samples),
            if !arrives && by_arrival < by_target {
                "; less than 2 % are no reason to leave the default"
            } else {
                ""
            }
        ),
    )
}

/// How large requests should be.
fn size(known: &Known<'_>) -> (u64, Advice) {
    let row = |cut: &str| find(known.rows, cut, "1.0", "snappy").map(|row| row.bytes_per_sample);
    let now = known.per_send;
    let (per_send, sum) = match row("target").zip(row("large")) {
        Some((small, large)) => {
            let saved = 1.0 - large / small;
            let per_send = if saved > WORTH { LARGE } else { now };
            let sum = format!(
                "{small:.1} B a sample in requests of {}, {large:.1} of {}: {} less",
                count(now),
                count(LARGE),
                percent(saved)
            );
            (per_send, sum)
        }
        None => (now, "as it is; larger ones were not measured".to_owned()),
    };
    let fills = per_send as f64 / known.samples_per_second;
    let fill = if fills > DEADLINE {
        format!(
            "; at {}/s one fills in {}, so most leave at batch_send_deadline with {}",
            rate(Some(known.samples_per_second)),
            time(fills),
            count((known.samples_per_second * DEADLINE) as u64)
        )
    } else {
        String::new()
    };
    let setting = format!("max_samples_per_send: {per_send}");
    (per_send, receiver(setting, sum + &fill))
}

fn towards_receiver(known: &Known<'_>, per_send: u64) -> Vec<Advice> {
    let r = known.samples_per_second;
    let mut all = Vec::new();
    let mut most = 1;
    let assumed = LATENCIES.map(|at| (at, at));
    let known = known.latency.map(|known| [known]);
    for (at, worst) in known.as_ref().map_or(&assumed[..], |known| &known[..]) {
        let shards = shards(r, per_send, *at, *worst);
        most = most.max(shards.max);
        let setting = format!("min_shards: {}, max_shards: {}", shards.min, shards.max);
        // What holds for the far receiver holds for the near one.
        all.retain(|other: &Advice| other.setting != setting);
        let answers = if known.is_some() {
            format!(
                "the other queue's receiver answers in {} (p50) and {} (p99)",
                latency(Some(*at)),
                latency(Some(*worst))
            )
        } else {
            format!(
                "if the receiver answers in {} (assumed: nothing was sent)",
                latency(Some(*at))
            )
        };
        all.push(receiver(
            setting,
            format!(
                "{answers}: {r:.0}/s × {at} s / {per_send} = {:.2} busy; an hour's outage caught up with in 30 min: \
                 3 × {r:.0}/s × {worst} s / {per_send} × 1.3 = {:.2}; carries {}/s",
                shards.steady,
                shards.most,
                rate(Some(shards.ceiling))
            ),
        ));
    }
    let capacity = CAPACITY * per_send;
    let held = most * capacity;
    all.push(receiver(
        format!("capacity: {capacity}"),
        format!(
            "{CAPACITY} × {per_send} (3 to 10 are usual); lanes hold at most {most} × {capacity} samples × 32 B = {}",
            bytes(held as f64 * SAMPLE_BYTES)
        ),
    ));
    all
}

/// What a receiver that takes more would save.
fn protocol(known: &Known<'_>) -> Vec<Advice> {
    let saved = |row: &ShadowRow| {
        format!(
            "{:.1} B a sample, {} less than came in",
            row.bytes_per_sample,
            percent(row.saved_share)
        )
    };
    let mut all = Vec::new();
    if let Some(row) = find(known.rows, "target", "2.0", "snappy") {
        all.push(receiver(
            "protobuf_message: auto".to_owned(),
            format!("if the receiver takes 2.0: {}", saved(row)),
        ));
    }
    let merged = known
        .rows
        .iter()
        .filter(|row| row.cut.starts_with("merged_"));
    let merged = merged.filter(|row| row.protocol == "1.0");
    if let Some(row) = merged.min_by(|a, b| a.bytes_per_sample.total_cmp(&b.bytes_per_sample)) {
        let window = row.cut.trim_start_matches("merged_");
        let v2 = find(known.rows, &row.cut, "2.0", "snappy");
        let v2 = v2.map_or_else(String::new, |row| format!("; with 2.0 {}", saved(row)));
        all.push(receiver(
            format!("merge_window: {window}"),
            format!("only if samples may come {window} late: {}{v2}", saved(row)),
        ));
    }
    all
}

fn towards_senders(known: &Known<'_>) -> Vec<Advice> {
    let (r, requests) = (known.samples_per_second, known.requests_per_second);
    let (answers, why) = match (known.ack, known.latency) {
        ("fsync", _) => (0.03, "ack fsync: a sync and 20 ms at the most"),
        ("memory", _) => (0.001, "ack memory: at once, over loopback"),
        (_, Some((_, worst))) => (worst, "ack upstream: as late as the receiver, p99"),
        _ => (
            LATENCIES[1],
            "ack upstream: as late as the receiver, 500 ms assumed",
        ),
    };
    let shards = shards(r, LARGE, answers, answers);
    let busy = (shards.steady.ceil() as u64).max(1);
    let fill = filled(r, busy, LARGE);
    vec![
        of(
            "senders",
            format!(
                "max_samples_per_send: {LARGE}, capacity: {}, min_shards: 1, max_shards: {}",
                3 * LARGE,
                shards.max
            ),
            format!(
                "answers in {} ({why}): {r:.0}/s × {answers} s / {LARGE} = {:.2} busy, and 3 × that × 1.3 = {:.2} \
                 after an outage",
                latency(Some(answers)),
                shards.steady,
                shards.most
            ),
        ),
        of(
            "senders",
            format!(
                "then {} requests/s of {}",
                per(r / fill),
                count(fill as u64)
            ),
            format!(
                "now {} requests/s of {} samples; then {r:.0}/s over {busy} busy, each full with {LARGE} or sent \
                 after 5 s",
                per(requests),
                count((r / requests) as u64)
            ),
        ),
    ]
}

/// A small rate, with its decimals.
fn per(second: f64) -> String {
    if second < 1.0 {
        format!("{second:.2}")
    } else {
        rate(Some(second))
    }
}

fn outage(known: &Known<'_>) -> Vec<Advice> {
    let needed = outage_bytes(known.bytes_per_second, known.requests_per_second);
    let sum = format!(
        "({}/s + {} requests/s × 512 B) × 3600 s = {}, as it comes in now",
        bytes(known.bytes_per_second),
        per(known.requests_per_second),
        bytes(needed)
    );
    let limit = needed / LOG_SHARE;
    vec![
        of(
            "outage",
            format!("storage.max_bytes: {}", mebibytes(needed)),
            format!("on disk: {sum}"),
        ),
        of(
            "outage",
            format!("memory.limit: {}", mebibytes(limit)),
            format!(
                "without a disk and with ack memory: the log has 5/16 of it, {} × 16 / 5 = {}",
                bytes(needed),
                bytes(limit)
            ),
        ),
    ]
}

/// A size for the configuration, rounded up.
fn mebibytes(bytes: f64) -> String {
    format!("{}MiB", (bytes / f64::from(1 << 20)).ceil().max(1.0))
}

#[cfg(test)]
#[path = "advice_tests.rs"]
mod tests;
