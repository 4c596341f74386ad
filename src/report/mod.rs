//! What the process tells people: one value, from which the page, `sluicegate status` and the tests are
//! made. `GET /api/v1/status` is this value as JSON; `docs/api.md` describes it.
//!
//! Plain values and functions over them: no clock, no I/O. Texts in it are safe to print: without control
//! characters ([`words::clean`]); what goes into HTML has to be escaped there.

pub mod advice;
pub mod shadow;
pub mod shadow_text;
pub mod text;
pub mod verdict;
pub mod words;

#[cfg(test)]
#[path = "example_fixture.rs"]
pub(crate) mod example;

use serde::{Deserialize, Serialize};

/// Everything, of one moment. Times are wall clock in milliseconds since the epoch; what is not known is
/// `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The program's version.
    pub version: String,
    /// When this was gathered.
    pub now_ms: i64,
    /// How long the process has run.
    pub uptime_seconds: f64,
    /// It is being stopped.
    pub stopping: bool,
    /// What became of the configuration that was asked for.
    pub configuration: Configuration,
    /// How it is, in one sentence.
    pub verdict: Finding,
    /// What else is to be said, the worst first.
    pub also: Vec<Finding>,
    /// What is sent: `normal` (batches of series) or `passthrough` (each body as it came).
    pub mode: String,
    /// What a 2xx means.
    pub ack: Ack,
    /// The door: what senders deliver.
    pub senders: Senders,
    /// The log between door and queues.
    pub log: LogPart,
    /// The queues, in the order of the configuration.
    pub queues: Vec<QueuePart>,
    /// Acknowledged samples that would be lost now, by event.
    pub at_risk: Vec<AtRisk>,
    /// The memory budget.
    pub memory: Memory,
    /// What the process takes of the machine.
    pub process: Process,
    /// The log on disk; `null` without one.
    pub storage: Option<Storage>,
    /// Why the log on disk that was asked for is not used.
    pub storage_trouble: Option<String>,
}

/// What became of the configuration that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// Which one is in use: `as_asked`, `last_good`, or `none`.
    pub in_use: String,
    /// What is wrong with the one that was asked for, in the order of the file.
    pub problems: Vec<String>,
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            in_use: "as_asked".to_owned(),
            problems: Vec::new(),
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing to do.
    #[default]
    Well,
    /// Nothing is lost, but somebody should look.
    Attention,
    /// Data is not delivered, not taken, or lost.
    Trouble,
}

/// Something to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What kind of thing it is: a word of a closed set, see `docs/api.md`.
    pub id: String,
    /// One sentence.
    pub text: String,
}

/// A rate over two times. `null` until enough was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rate {
    /// Over the last ten seconds, a second.
    pub last_10s: Option<f64>,
    /// Over the last five minutes, a second.
    pub last_5m: Option<f64>,
}

/// What a 2xx means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ack {
    /// `upstream`, `memory` or `fsync`.
    pub mode: String,
    /// The same in words.
    pub means: String,
}

/// The door.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Senders {
    /// Where they deliver.
    pub address: String,
    /// Elements admitted since the process began.
    pub samples: u64,
    /// The same a second.
    pub samples_per_second: Rate,
    /// Compressed bytes of admitted requests.
    pub bytes: u64,
    /// The same a second.
    pub bytes_per_second: Rate,
    /// Requests admitted.
    pub requests: u64,
    /// When the last one was.
    pub last_ms: Option<i64>,
    /// Open connections.
    pub connections: u64,
    /// Requests being received or waiting for their answer.
    pub in_flight: u64,
    /// Answers by status code and reason.
    pub answers: Vec<SenderAnswer>,
}

/// Answers to senders of one code and reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SenderAnswer {
    /// Status code.
    pub code: u16,
    /// Why it is no plain success, as `sluicegate_requests_total` has it; empty for a success.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// When the last one was given.
    pub last_ms: i64,
}

/// The log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogPart {
    /// `memory` or `disk`.
    pub kind: String,
    /// Bytes held and reserved.
    pub bytes: u64,
    /// Bytes it may hold.
    pub limit_bytes: u64,
    /// Records held.
    pub records: u64,
    /// Bytes that come in a second: what fills it while no receiver takes anything.
    pub fill_bytes_per_second: Option<f64>,
    /// How long it would take the samples of an outage, at that rate. `null` when nothing comes in, and with
    /// `ack: upstream`, where senders keep what is not delivered.
    pub room_seconds: Option<f64>,
}

/// A queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueuePart {
    /// Its name.
    pub name: String,
    /// Its endpoint, without credentials and query.
    pub url: String,
    /// Senders' answers and the log's records wait for it.
    pub required: bool,
    /// It counts and throws away.
    pub discards: bool,
    /// Elements that the receiver has, perhaps has, or that were thrown away, a second.
    pub out_per_second: Rate,
    /// Age of the oldest pending element.
    pub lag_seconds: f64,
    /// Elements that are not settled, by where they are.
    pub pending: PendingPart,
    /// How that changes.
    pub drain: Drain,
    /// Permits for one request each.
    pub shards: Shards,
    /// With `mode: passthrough`: what limits it.
    pub ceiling: Option<Ceiling>,
    /// The receiver.
    pub endpoint: EndpointPart,
    /// What goes over the wire.
    pub bytes: Bytes,
    /// The books since the queue began.
    pub books: BooksPart,
    /// The latest errors, the latest first.
    pub errors: Vec<ErrorPart>,
    /// The settle journal could not be written; why.
    pub journal_trouble: Option<String>,
    /// With `discards`: what sending would come to, measured.
    pub shadow: Option<shadow::Shadow>,
}

/// Where pending elements are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PendingPart {
    /// All of them.
    pub total: u64,
    /// In records of the log that the reader has not come to, or left for later.
    pub unread: u64,
    /// In lanes.
    pub queued: u64,
    /// In batches without a verdict.
    pub in_flight: u64,
}

/// How what is pending changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Drain {
    /// Which way it goes.
    pub state: DrainState,
    /// With `draining`: time until nothing waits, at the present rates.
    pub seconds: Option<f64>,
}

/// Which way it goes with what is pending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainState {
    /// Nothing waits longer than batches take.
    #[default]
    Steady,
    /// More goes out than comes in.
    Draining,
    /// More comes in than goes out, or as much.
    Growing,
    /// Nothing goes out.
    Stopped,
}

/// What limits a queue in passthrough: `samples_per_second = samples_per_request / answer_seconds`, for each
/// request in flight. `null` until enough was sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ceiling {
    /// What is in flight at a time: `request of a sender` (as many as senders send) or `tenant` (one request of
    /// each).
    pub per: String,
    /// Samples a second, for each of them.
    pub samples_per_second: Option<f64>,
    /// Samples in a request, on average.
    pub samples_per_request: Option<f64>,
    /// Half of the answers of the last five minutes took no longer.
    pub answer_seconds: Option<f64>,
}

/// Permits for one request each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shards {
    /// As many are there.
    pub actual: u64,
    /// As many are in use.
    pub busy: u64,
    /// What the formula asks for.
    pub desired: f64,
    /// Least number.
    pub min: u64,
    /// Greatest number.
    pub max: u64,
    /// Batches that wait for their next try, without a permit.
    pub waiting_batches: u64,
    /// Why the number is what it is: a word.
    pub reason: String,
    /// The formula's terms: `desired = seconds_per_sample × (in_per_second + catch_up × pending)`.
    pub sum: ShardSum,
}

/// The terms of the formula.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShardSum {
    /// Time that one sample takes from its cut to its verdict, of all permits together.
    pub seconds_per_sample: f64,
    /// What comes in a second, averaged.
    pub in_per_second: f64,
    /// What gets its verdict a second, averaged.
    pub out_per_second: f64,
    /// Share of what is pending to be worked off each second.
    pub catch_up: f64,
    /// What was pending.
    pub pending: u64,
}

/// The receiver.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointPart {
    /// `open`, `ramp` (few requests at a time: it has just come back), `closed` (left alone for a while) or
    /// `probing` (one request is on its way).
    pub gate: String,
    /// Whether it knows remote write 2.0: `yes`, `no` or `not known`.
    pub knows_v2: String,
    /// Half of the attempts of the last five minutes took no longer.
    pub p50_seconds: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99_seconds: Option<f64>,
    /// Attempts that fail and are made again, of all attempts of the last five minutes.
    pub retried_share: Option<f64>,
    /// Attempts by status code, or by how they failed.
    pub codes: Vec<CodePart>,
    /// Since when nothing succeeds.
    pub failing: Option<FailingPart>,
    /// When an attempt last succeeded.
    pub last_success_ms: Option<i64>,
}

/// Attempts of one code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CodePart {
    /// A status code, or `dns`, `connect`, `tls`, `timeout`, `closed`, `other`.
    pub code: String,
    /// How many.
    pub count: u64,
    /// When the last one ended.
    pub last_ms: i64,
}

/// A row of failures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FailingPart {
    /// When the first failed.
    pub since_ms: i64,
    /// How many.
    pub attempts: u64,
    /// The latest code.
    pub code: String,
    /// Since when they fail with this one.
    pub code_since_ms: i64,
    /// The latest reason.
    pub why: String,
}

/// What goes over the wire, since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bytes {
    /// Compressed bytes of all attempts, repeated ones included.
    pub sent: u64,
    /// The same a second.
    pub sent_per_second: Rate,
    /// Those of them in attempts that settled nothing: what failed was sent again.
    pub in_vain: u64,
    /// Bytes a sample as it came in.
    pub per_sample_in: Option<f64>,
    /// Bytes a sample as it went out, what was in vain not counted.
    pub per_sample_out: Option<f64>,
    /// Bytes that the settled samples took less than they did coming in; negative when they took more.
    pub saved: Option<f64>,
    /// The same as a share of what came in.
    pub saved_share: Option<f64>,
}

/// The books of a queue, over all kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BooksPart {
    /// Elements that it has to account for.
    pub received: u64,
    /// The receiver said it has them.
    pub delivered: u64,
    /// Refused or conflicting, and perhaps stored.
    pub unconfirmed: u64,
    /// Set aside.
    pub quarantined: u64,
    /// Taken out, by reason; reasons without any are left out.
    pub dropped: Vec<Dropped>,
    /// Refused by the receiver or given up by a limit within the last five minutes.
    pub lost_5m: u64,
    /// Received minus everything accounted for. Anything but 0 is a bug.
    pub conservation_error: i64,
}

/// Elements taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dropped {
    /// Why, as `sluicegate_dropped_samples_total` has it.
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// An error, and how often it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorPart {
    /// When it came first.
    pub first_ms: i64,
    /// When it came last.
    pub last_ms: i64,
    /// How often.
    pub count: u64,
    /// What it was.
    pub text: String,
}

/// Acknowledged samples that an event would cost now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AtRisk {
    /// `process`, `node` or `pod`.
    pub event: String,
    /// How many.
    pub samples: u64,
    /// Why.
    pub means: String,
}

/// The memory budget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// `memory.limit`.
    pub limit_bytes: u64,
    /// What is accounted for, by what holds it.
    pub parts: Vec<MemoryPart>,
}

impl Memory {
    /// All of it.
    pub fn used(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// A part of the memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryPart {
    /// What holds it.
    pub part: String,
    /// Bytes.
    pub bytes: u64,
}

/// What the process takes of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Time of a core since the process began, of all its threads.
    pub cpu_seconds: f64,
    /// The part of that which the shadow reports' measuring took.
    pub measuring_cpu_seconds: f64,
    /// Share of one core since the process began, measuring included.
    pub cpu_share: Option<f64>,
    /// Nanoseconds for each sample that came in, without the measuring. `null` before the first.
    pub cpu_ns_per_sample: Option<f64>,
    /// Memory in use, as the system counts it (resident). `null` where it does not say.
    pub rss_bytes: Option<u64>,
    /// The most it ever was.
    pub rss_peak_bytes: Option<u64>,
}

impl Process {
    /// From what the system says of it.
    pub fn of(cpu_seconds: f64, measuring: f64, uptime_seconds: f64, samples: u64) -> Self {
        let own = (cpu_seconds - measuring).max(0.0);
        Self {
            cpu_seconds,
            measuring_cpu_seconds: measuring,
            cpu_share: (uptime_seconds > 0.0).then(|| cpu_seconds / uptime_seconds),
            cpu_ns_per_sample: (samples > 0).then(|| own * 1e9 / samples as f64),
            rss_bytes: None,
            rss_peak_bytes: None,
        }
    }
}

/// The log on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Storage {
    /// Its folder.
    pub path: String,
    /// What that lies on: `volume`, `emptyDir`, `container` or `memory`.
    pub medium: String,
    /// It takes records.
    pub writable: bool,
    /// Since when it does not.
    pub unwritable_since_ms: Option<i64>,
    /// The last error, whatever came after it.
    pub last_error: Option<String>,
    /// Errors by operation and name.
    pub errors: Vec<StorageErrors>,
    /// Number of syncs.
    pub syncs: u64,
    /// Half of them took no longer.
    pub sync_p50_seconds: Option<f64>,
    /// 99 of 100 took no longer.
    pub sync_p99_seconds: Option<f64>,
    /// What to do about a slow disk.
    pub advice: Option<String>,
    /// What was found damaged, by part; parts without any are left out.
    pub damage: Vec<DamagePart>,
}

/// Errors of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageErrors {
    /// What was tried, as `fsync`.
    pub operation: String,
    /// The system's name of the error, as `EIO`.
    pub error: String,
    /// How often.
    pub count: u64,
}

/// Damage of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DamagePart {
    /// `torn_tail`, `header`, `body`, `footer` or `segment`.
    pub part: String,
    /// How many.
    pub count: u64,
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
