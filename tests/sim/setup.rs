//! Options that follow from a seed, small ones preferred: limits are where the bugs are.

use std::time::Duration;

use sluicegate::log::QueueIndex;
use sluicegate::queue::grouping::{Grouping, LaneRules, SpreadRule};
use sluicegate::queue::lanes::LaneLimits;
use sluicegate::queue::state::{MemoryShares, QueueOptions};

/// What a run is made of.
pub(crate) struct Setup {
    pub(crate) queues: Vec<QueueOptions>,
    pub(crate) log_limit: u64,
    pub(crate) handoff_limit: usize,
    /// Senders wait for their answers.
    pub(crate) upstream: bool,
    /// Some records cannot be read a second time.
    pub(crate) unreadable: bool,
    pub(crate) steps: usize,
}

fn one_of<T: Copy>(rng: &mut fastrand::Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

impl Setup {
    pub(crate) fn new(rng: &mut fastrand::Rng) -> Self {
        let upstream = rng.bool();
        let required: &[bool] = match rng.u8(..5) {
            0 => &[true, false],
            1 => &[true, true],
            2 => &[false],
            _ => &[true],
        };
        let queues = required.iter().enumerate();
        Self {
            queues: queues
                .map(|(index, required)| options(rng, index, *required, upstream))
                .collect(),
            log_limit: one_of(rng, &[8 << 10, 64 << 10, 1 << 30, 1 << 30]),
            handoff_limit: one_of(rng, &[0, 20 << 10, 1 << 30]),
            upstream,
            unreadable: rng.u8(..8) == 0,
            steps: rng.usize(500..2500),
        }
    }
}

fn options(rng: &mut fastrand::Rng, index: usize, required: bool, upstream: bool) -> QueueOptions {
    let batch = one_of(rng, &[1, 3, 10, 50, 500]);
    let min_shards = one_of(rng, &[0, 1, 1, 4]);
    let seconds = one_of(rng, &[0.1, 5.0, 5.0, 3600.0]);
    QueueOptions {
        name: format!("queue-{index}"),
        index: QueueIndex(index as u8),
        required,
        rules: rules(rng),
        limits: LaneLimits {
            queued: one_of(rng, &[20, 200, 100_000]),
            lane: batch * one_of(rng, &[2, 2, 5, 100]),
            batch,
            batch_bytes: one_of(rng, &[60, 1000, 1 << 20, 1 << 20]),
            deadline: Duration::from_secs_f64(seconds),
        },
        eager: upstream,
        min_shards,
        max_shards: min_shards.max(1) * one_of(rng, &[1, 4, 20]),
        min_backoff: Duration::from_millis(30),
        max_backoff: Duration::from_secs(5),
        memory: MemoryShares {
            lanes: one_of(rng, &[1 << 10, 64 << 10, 16 << 20]),
            table: one_of(rng, &[1 << 10, 64 << 10, 16 << 20]),
            runs: one_of(rng, &[256, 16 << 10, 16 << 20]),
            metadata: one_of(rng, &[0, 300, 1 << 20]),
        },
        send_exemplars: rng.u8(..6) > 0,
        send_histograms: rng.u8(..6) > 0,
    }
}

/// Some lane rules.
pub(crate) fn rules(rng: &mut fastrand::Rng) -> LaneRules {
    let spread = |by: &[&str]| {
        let by = by.iter().map(|name| (*name).to_owned()).collect();
        vec![SpreadRule {
            job: "*".to_owned(),
            by,
        }]
    };
    let separate_by: &[&str] = one_of(rng, &[&[], &["cluster"], &["cluster", "job"]]);
    LaneRules {
        grouping: one_of(rng, &[Grouping::Target, Grouping::Arrival]),
        separate_by: separate_by.iter().map(|name| (*name).to_owned()).collect(),
        spread: match rng.u8(..3) {
            0 => Vec::new(),
            1 => spread(&["namespace"]),
            _ => spread(&["__name__"]),
        },
    }
}
