//! The shadow report: what a queue that sends nowhere would save, measured on what came in. Pure.
//!
//! Comparisons are paired: a row's bytes and the bytes that came in are of the same elements. What follows from
//! them for the settings is in [`super::advice`].

use serde::{Deserialize, Serialize};

use super::advice::{self, Advice, Known};
use super::words::{count, percent, plural, time};

/// Seconds of a month of 30 days.
const MONTH: f64 = 2_592_000.0;
/// Rates of a shorter time than this are none.
const RATE_LEAST: f64 = 0.5;

/// What one protocol's requests brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CameIn {
    /// Requests.
    pub requests: u64,
    /// Samples in them.
    pub samples: u64,
    /// Their bodies, as their senders compressed them.
    pub bytes: u64,
}

impl CameIn {
    fn and(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            samples: self.samples + other.samples,
            bytes: self.bytes + other.bytes,
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShadowState {
    /// No sample has come yet.
    #[default]
    Waiting,
    /// Numbers are provisional.
    Measuring,
    /// It is over; nothing is measured any more.
    Ready,
}

/// What was measured of one way of sending.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MeasuredRow {
    /// How elements become requests: `as_sent`, `arrival`, `target`, `large`, or `merged_60s`.
    pub cut: String,
    /// `1.0` or `2.0`.
    pub protocol: String,
    /// `snappy` or `zstd`.
    pub compression: String,
    /// Elements of a request at the most; `None` where each is as it came.
    pub per_send: Option<u64>,
    /// Elements in its requests.
    pub samples: u64,
    /// Elements that its message cannot carry.
    pub left_out: u64,
    /// Its requests.
    pub requests: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What the same elements were when they came.
    pub came: CameIn,
    /// Time of a core for encoding and compressing.
    pub cpu_seconds: f64,
}

/// Everything that the report is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// How far it is.
    pub state: ShadowState,
    /// Since the first sample; at most the whole.
    pub passed_seconds: f64,
    /// The whole.
    pub length_seconds: f64,
    /// All that came in that time, as 1.0.
    pub came_v1: CameIn,
    /// The same as 2.0.
    pub came_v2: CameIn,
    /// Requests without samples: metadata by itself.
    pub empty: CameIn,
    /// Rows of requests that were measured.
    pub stretches: u64,
    /// The longest of them.
    pub longest_seconds: f64,
    /// One ended because it was as large as it may be.
    pub cramped: bool,
    /// The ways of sending.
    pub rows: Vec<MeasuredRow>,
    /// Time of a core that the measuring took.
    pub cpu_seconds: f64,
    /// Share of a core that it keeps to.
    pub cpu_share_most: f64,
    /// Most bytes that it held at once.
    pub memory_peak_bytes: u64,
    /// Samples of a request, as the queue is set.
    pub per_send: u64,
    /// How long data was to be held for merging.
    pub windows_seconds: Vec<f64>,
    /// `upstream`, `memory` or `fsync`: how soon senders get their answers.
    pub ack: String,
    /// How long another queue's receiver takes to answer: half of the time, and 99 times of 100.
    pub latency: Option<(f64, f64)>,
}

/// The report.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shadow {
    /// How far it is.
    pub state: ShadowState,
    /// Since the first sample; at most the whole.
    pub measured_seconds: f64,
    /// The whole.
    pub of_seconds: f64,
    /// All that came in that time.
    pub came: CameIn,
    /// The part of it that came as 2.0.
    pub came_v2: CameIn,
    /// Samples a second, over that time.
    pub samples_per_second: Option<f64>,
    /// Requests a second, over that time.
    pub requests_per_second: Option<f64>,
    /// Bytes a sample as it came in.
    pub bytes_per_sample: Option<f64>,
    /// Gigabytes (10⁹) in 30 days at that rate, as it came in.
    pub gb_per_month: Option<f64>,
    /// Rows of whole requests on which every way of sending was tried.
    pub stretches: u64,
    /// The ways of sending.
    pub rows: Vec<ShadowRow>,
    /// Which are not known yet, and why.
    pub unknown: Vec<String>,
    /// Settings, and the sums that lead to them.
    pub advice: Vec<Advice>,
    /// What the numbers do not show.
    pub notes: Vec<String>,
    /// What the measuring cost.
    pub cost: ShadowCost,
}

/// One way of sending.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShadowRow {
    /// How elements become requests: `as_sent`, `arrival`, `target`, `large`, or `merged_60s`.
    pub cut: String,
    /// The same in words.
    pub means: String,
    /// `1.0` or `2.0`.
    pub protocol: String,
    /// `snappy` or `zstd`.
    pub compression: String,
    /// Samples that were measured.
    pub samples: u64,
    /// Samples that its message cannot carry: in what came in, and in none of its bytes.
    pub left_out: u64,
    /// Requests that were measured.
    pub requests: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the same samples as they came in.
    pub bytes_came: u64,
    /// Bytes a sample.
    pub bytes_per_sample: f64,
    /// Share of what came in that is not sent; negative when more is.
    pub saved_share: f64,
    /// Gigabytes in 30 days at the rate of the measured time, had all of it been sent so.
    pub gb_per_month: Option<f64>,
    /// Time of a core for encoding and compressing, nanoseconds a sample.
    pub cpu_ns_per_sample: f64,
}

/// What the measuring cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShadowCost {
    /// Time of a core.
    pub cpu_seconds: f64,
    /// Share of one core since the first sample.
    pub cpu_share: Option<f64>,
    /// It rests until it is below this share again.
    pub cpu_share_most: f64,
    /// Most bytes it held at once.
    pub memory_peak_bytes: u64,
}

/// The report on what was measured.
pub fn shadow(measured: &Measured) -> Shadow {
    let came = measured.came_v1.and(measured.came_v2);
    let passed = measured.passed_seconds;
    let per_second = |n: u64| (passed >= RATE_LEAST && n > 0).then(|| n as f64 / passed);
    let rate = per_second(came.samples);
    let rows: Vec<_> = measured
        .rows
        .iter()
        .filter(|row| row.samples > 0 && row.came.bytes > 0)
        .map(|row| judged(row, rate))
        .collect();
    let known = rate.zip(per_second(came.requests));
    let known = known
        .filter(|_| !rows.is_empty())
        .map(|(samples, requests)| Known {
            samples_per_second: samples,
            requests_per_second: requests,
            bytes_per_second: came.bytes as f64 / passed,
            per_send: measured.per_send,
            ack: &measured.ack,
            latency: measured.latency,
            rows: &rows,
        });
    let per_sample = ratio(came.bytes, came.samples);
    Shadow {
        state: measured.state,
        measured_seconds: passed,
        of_seconds: measured.length_seconds,
        came,
        came_v2: measured.came_v2,
        samples_per_second: rate,
        requests_per_second: per_second(came.requests),
        bytes_per_sample: per_sample,
        gb_per_month: month(rate, per_sample),
        stretches: measured.stretches,
        unknown: unknown(measured),
        advice: known.map_or_else(Vec::new, |known| advice::advice(&known)),
        notes: notes(measured, came, &rows),
        cost: ShadowCost {
            cpu_seconds: measured.cpu_seconds,
            cpu_share: (passed >= RATE_LEAST).then(|| measured.cpu_seconds / passed),
            cpu_share_most: measured.cpu_share_most,
            memory_peak_bytes: measured.memory_peak_bytes,
        },
        rows,
    }
}

impl Shadow {
    /// A way of sending that was measured.
    pub fn row(&self, cut: &str, protocol: &str, compression: &str) -> Option<&ShadowRow> {
        find(&self.rows, cut, protocol, compression)
    }

    /// How far it is, in words.
    pub fn stage(&self) -> String {
        match self.state {
            ShadowState::Waiting => format!(
                "nothing has come yet; it takes {} from the first sample on",
                time(self.of_seconds)
            ),
            ShadowState::Measuring => format!(
                "{}, so numbers are provisional",
                far(self.measured_seconds, self.of_seconds)
            ),
            ShadowState::Ready => format!("{} measured, ready", time(self.of_seconds)),
        }
    }
}

/// `3 of 10 minutes`, or in seconds where the whole is short.
fn far(passed: f64, whole: f64) -> String {
    if whole >= 120.0 {
        format!(
            "{:.0} of {:.0} minutes",
            (passed / 60.0).floor(),
            whole / 60.0
        )
    } else {
        format!("{} of {}", time(passed), time(whole))
    }
}

/// A way of sending among others.
pub(super) fn find<'r>(
    rows: &'r [ShadowRow],
    cut: &str,
    protocol: &str,
    compression: &str,
) -> Option<&'r ShadowRow> {
    rows.iter().find(|row| {
        (
            row.cut.as_str(),
            row.protocol.as_str(),
            row.compression.as_str(),
        ) == (cut, protocol, compression)
    })
}

/// Gigabytes in 30 days.
pub fn month(samples_per_second: Option<f64>, bytes_per_sample: Option<f64>) -> Option<f64> {
    Some(samples_per_second? * bytes_per_sample? * MONTH / 1e9)
}

fn ratio(bytes: u64, samples: u64) -> Option<f64> {
    (samples > 0).then(|| bytes as f64 / samples as f64)
}

fn judged(row: &MeasuredRow, rate: Option<f64>) -> ShadowRow {
    let samples = row.samples as f64;
    let per_sample = row.bytes as f64 / samples;
    ShadowRow {
        means: means(&row.cut, row.per_send),
        cut: row.cut.clone(),
        protocol: row.protocol.clone(),
        compression: row.compression.clone(),
        samples: row.samples,
        left_out: row.left_out,
        requests: row.requests,
        bytes: row.bytes,
        bytes_came: row.came.bytes,
        bytes_per_sample: per_sample,
        saved_share: 1.0 - row.bytes as f64 / row.came.bytes as f64,
        gb_per_month: month(rate, Some(per_sample)),
        cpu_ns_per_sample: row.cpu_seconds * 1e9 / samples,
    }
}

fn means(cut: &str, per_send: Option<u64>) -> String {
    let each = per_send.map_or_else(String::new, |n| format!(", {} a request", count(n)));
    let what = match cut {
        "as_sent" => "each request as it came".to_owned(),
        "arrival" => "in order of arrival".to_owned(),
        "target" | "large" => "by target".to_owned(),
        cut => format!("by target, {}", window_words(cut)),
    };
    what + &each
}

fn unknown(measured: &Measured) -> Vec<String> {
    let windows = measured.windows_seconds.iter();
    let missing = windows.filter(|window| {
        let cut = merged(**window);
        !measured.rows.iter().any(|row| row.cut == cut)
    });
    missing
        .map(|window| {
            let why = match measured.state {
                _ if measured.cramped => format!(
                    "the memory for it held {} of this data at the most; a larger memory.limit holds more",
                    time(measured.longest_seconds)
                ),
                ShadowState::Ready => "no stretch was as long".to_owned(),
                _ => "no stretch was as long yet".to_owned(),
            };
            format!("{}: not known, {why}.", window_words(&merged(*window)))
        })
        .collect()
}

/// `60 s merged`, of `merged_60s`.
fn window_words(cut: &str) -> String {
    let window = cut.trim_start_matches("merged_").trim_end_matches('s');
    format!("{window} s merged")
}

/// The name of a cut of merged data.
pub fn merged(window_seconds: f64) -> String {
    format!("merged_{window_seconds}s")
}

/// What the numbers do not show, as far as it concerns these.
fn notes(measured: &Measured, came: CameIn, rows: &[ShadowRow]) -> Vec<String> {
    let mut notes = Vec::new();
    if rows.is_empty() {
        return notes;
    }
    if let Some(per_request) = ratio(came.samples, came.requests) {
        notes.push(format!(
            "What came in depends on the senders: theirs were {per_request:.0} samples a request. More shards \
             tear targets apart and cost bytes, fewer save some without any proxy."
        ));
    }
    if measured.came_v2.samples > 0 {
        let share = measured.came_v2.samples as f64 / came.samples.max(1) as f64;
        notes.push(format!(
            "{} of the samples came as 2.0: \"came in\" is what they weighed so; the first row is the same in 1.0.",
            percent(share)
        ));
    }
    notes.push(
        "2.0 needs a receiver that takes it (Prometheus, Mimir, Thanos in their later versions). Metadata is in \
         it where it is known."
            .to_owned(),
    );
    if rows.iter().any(|row| row.compression == "zstd") {
        notes.push(
            "zstd is for VictoriaMetrics, in 1.0 only; no receiver is known that takes 2.0 with it.".to_owned(),
        );
    }
    if rows.iter().any(|row| row.cut.starts_with("merged_")) {
        notes.push(
            "Merging costs freshness: samples arrive as much later, and rules with short ranges see holes. In a \
             backlog it comes by itself."
                .to_owned(),
        );
    }
    if rows.iter().any(|row| row.left_out > 0) {
        notes.push(
            "1.0 cannot carry histograms with custom buckets: they are in what came in, and not in its rows."
                .to_owned(),
        );
    }
    notes.push(
        "Cut as for a receiver that is always free, and at the end of a stretch with what is left; a slow receiver \
         makes requests fuller. Headers of HTTP and TLS, some 300 bytes a request, and repeated attempts are in \
         none of the numbers."
            .to_owned(),
    );
    if measured.empty.requests > 0 {
        notes.push(format!(
            "{} without samples (metadata) came beside these and are left out.",
            plural(measured.empty.requests, "request")
        ));
    }
    notes
}

#[cfg(test)]
#[path = "shadow_tests.rs"]
mod tests;
