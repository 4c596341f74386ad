//! Settings that are one word out of a few.
//!
//! A word that is planned but not built is accepted by the parsers, so that the answer is a reason
//! and not "unknown".

/// A setting that is one word out of a few.
pub trait Choice: Copy + PartialEq + Sized + 'static {
    /// Every word that works, with its meaning, in the order in which they are shown.
    const WORDS: &'static [(&'static str, Self)];
    /// Words that are known but do not work yet.
    const NOT_BUILT: &'static [&'static str] = &[];

    /// The word for this value.
    fn word(self) -> &'static str {
        Self::WORDS
            .iter()
            .find(|(_, value)| *value == self)
            .map_or("", |(word, _)| word)
    }

    /// The meaning of a word, or the reason why there is none.
    fn parse(word: &str) -> Result<Self, String> {
        if let Some((_, value)) = Self::WORDS.iter().find(|(known, _)| *known == word) {
            return Ok(*value);
        }
        let known = Self::WORDS
            .iter()
            .map(|(word, _)| *word)
            .collect::<Vec<_>>()
            .join(", ");
        Err(if Self::NOT_BUILT.contains(&word) {
            format!("not built yet; use one of: {known}")
        } else {
            format!("must be one of: {known}")
        })
    }
}

/// What a 2xx to a sender promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckMode {
    /// Every required queue has settled all of it.
    Upstream,
    /// It is in the log in memory.
    Memory,
    /// It is on disk. Needs `storage.path`.
    Fsync,
}

impl Choice for AckMode {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("upstream", Self::Upstream),
        ("memory", Self::Memory),
        ("fsync", Self::Fsync),
    ];
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batches of our own, from the series of many requests.
    Normal,
    /// Each request's body, byte for byte.
    Passthrough,
}

impl Choice for Mode {
    const WORDS: &'static [(&'static str, Self)] =
        &[("normal", Self::Normal), ("passthrough", Self::Passthrough)];
}

/// What happens when the log on disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFull {
    /// Senders wait, and are told to come back.
    Backpressure,
    /// The oldest records go.
    DropOldest,
}

impl Choice for OnFull {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("backpressure", Self::Backpressure),
        ("drop_oldest", Self::DropOldest),
    ];
}

/// Which protobuf message a queue sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtobufMessage {
    /// 2.0 if anything in the batch came as 2.0 and the receiver takes it, otherwise 1.0.
    AsReceived,
    /// 2.0 where the receiver proves that it takes it, otherwise 1.0.
    Auto,
    /// Always `prometheus.WriteRequest`, remote write 1.0.
    V1,
    /// Always `io.prometheus.write.v2.Request`, remote write 2.0.
    V2,
}

impl Choice for ProtobufMessage {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("as_received", Self::AsReceived),
        ("auto", Self::Auto),
        ("prometheus.WriteRequest", Self::V1),
        ("io.prometheus.write.v2.Request", Self::V2),
    ];
}

/// How a queue compresses bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// What every receiver reads.
    Snappy,
    /// Smaller; few receivers read it.
    Zstd,
    /// zstd where the receiver is known to read it, otherwise snappy.
    Auto,
}

impl Choice for Compression {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("snappy", Self::Snappy),
        ("zstd", Self::Zstd),
        ("auto", Self::Auto),
    ];
}

/// Which series travel together in a lane, and their order in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// By `job` and `instance`.
    Target,
    /// Lanes as for [`Grouping::Target`], a batch in the order in which samples came.
    Arrival,
}

impl Choice for Grouping {
    const WORDS: &'static [(&'static str, Self)] =
        &[("target", Self::Target), ("arrival", Self::Arrival)];
    const NOT_BUILT: &'static [&'static str] = &["node", "name", "auto"];
}

/// What kind of receiver an endpoint is; decides what a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiverProfile {
    /// The URL's path is the hint, behaviour the proof.
    Auto,
    /// Prometheus' own receiver.
    Prometheus,
    /// Thanos Receive.
    Thanos,
    /// Grafana Mimir, Cortex and Grafana Cloud.
    Mimir,
    /// VictoriaMetrics, single and cluster.
    VictoriaMetrics,
}

impl Choice for ReceiverProfile {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("prometheus", Self::Prometheus),
        ("thanos", Self::Thanos),
        ("mimir", Self::Mimir),
        ("victoriametrics", Self::VictoriaMetrics),
    ];
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Data lost, or a person is needed.
    Error,
    /// Recovered, nothing lost.
    Warn,
    /// What an operator reads.
    Info,
    /// What a developer reads.
    Debug,
    /// Everything.
    Trace,
}

impl Choice for LogLevel {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value`, for people.
    Logfmt,
    /// One object a line, for machines.
    Json,
}

impl Choice for LogFormat {
    const WORDS: &'static [(&'static str, Self)] =
        &[("logfmt", Self::Logfmt), ("json", Self::Json)];
}
