//! Named sizes to start from.

use super::choice::Choice;
use super::types::QueueLimits;

/// Sizes for a cluster, by nodes and workloads of a Run:ai cluster; or somebody's advice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preset {
    /// 4 nodes, 40 workloads; no connection while idle.
    Testing,
    /// 30 nodes, 480 workloads.
    Small,
    /// 100 nodes, 1 600 workloads.
    Medium,
    /// 500 nodes, 8 500 workloads.
    Large,
    /// 2 000 nodes, 34 000 workloads.
    Xlarge,
    /// What Run:ai advises for large clusters, as it stands there.
    Runai,
    /// What Prometheus does since 2.44.
    Prometheus,
}

impl Choice for Preset {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("testing", Self::Testing),
        ("small", Self::Small),
        ("medium", Self::Medium),
        ("large", Self::Large),
        ("xlarge", Self::Xlarge),
        ("runai", Self::Runai),
        ("prometheus", Self::Prometheus),
    ];
    const NOT_BUILT: &'static [&'static str] = &["auto"];
}

impl Preset {
    /// `capacity`, `max_samples_per_send`, `min_shards`, `max_shards`; the rest is the default.
    pub(super) fn limits(self) -> QueueLimits {
        let (capacity, max_samples_per_send, min_shards, max_shards) = match self {
            Self::Testing => (5_000, 1_000, 0, 3),
            Self::Small => (5_000, 1_000, 1, 10),
            Self::Medium => (5_000, 1_000, 1, 30),
            Self::Large => (5_000, 1_000, 3, 100),
            Self::Xlarge => (15_000, 5_000, 10, 100),
            Self::Runai => (5_000, 1_000, 1, 100),
            Self::Prometheus => (10_000, 2_000, 1, 50),
        };
        QueueLimits {
            capacity,
            max_samples_per_send,
            min_shards,
            max_shards,
            ..QueueLimits::default()
        }
    }
}
