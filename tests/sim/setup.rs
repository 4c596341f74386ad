//! Options that follow from a seed, small ones preferred: limits are where the bugs are.

use std::time::Duration;

use sluicegate::log::QueueIndex;
use sluicegate::queue::grouping::{Grouping, LaneRules, SpreadRule};
use sluicegate::queue::lanes::LaneLimits;
use sluicegate::queue::state::{MemoryShares, QueueOptions};

/// What a run is made of.
#[allow(clippy::struct_excessive_bools, reason = "each is chosen by itself")]
pub(crate) struct Setup {
    pub(crate) queues: Vec<QueueOptions>,
    pub(crate) log_limit: u64,
    pub(crate) handoff_limit: usize,
    /// Senders wait for their answers.
    pub(crate) upstream: bool,
    /// Log and journals outlive the process, which dies now and then.
    pub(crate) durable: bool,
    /// A process that follows another may have the other mode.
    pub(crate) modes: bool,
    /// Some records cannot be read a second time.
    pub(crate) unreadable: bool,
    pub(crate) steps: usize,
    /// Separation keys by the thousand.
    pub(crate) many_keys: bool,
    /// How often a request hangs for a minute, in percent.
    pub(crate) hangs: u8,
    /// Lane rules and shards change.
    pub(crate) changes: bool,
}

fn one_of<T: Copy>(rng: &mut fastrand::Rng, choices: &[T]) -> T {
    choices[rng.usize(..choices.len())]
}

impl Setup {
    pub(crate) fn new(rng: &mut fastrand::Rng) -> Self {
        let upstream = rng.bool();
        let many_keys = rng.u8(..24) == 0;
        let required: &[bool] = match rng.u8(..5) {
            _ if many_keys => &[true],
            0 => &[true, false],
            1 => &[true, true],
            2 => &[false],
            _ => &[true],
        };
        // Lanes that are full and held, with permits to spare: parking all the time.
        let crowded = !many_keys && rng.u8(..3) == 0;
        let queues = required.iter().enumerate();
        let durable = !upstream && rng.u8(..3) > 0;
        let passthrough = !many_keys && rng.u8(..3) == 0;
        Self {
            queues: queues
                .map(|(index, required)| {
                    let mut options =
                        options(rng, (index, *required), (upstream, many_keys, crowded));
                    // Where a sender waits it keeps the order; the senders here do not.
                    if passthrough && !(upstream && *required) {
                        (options.send_exemplars, options.send_histograms) = (true, true);
                        options.passthrough = true;
                    }
                    options
                })
                .collect(),
            modes: passthrough && durable && rng.bool(),
            log_limit: one_of(rng, &[8 << 10, 64 << 10, 1 << 30, 1 << 30]),
            handoff_limit: one_of(rng, &[0, 20 << 10, 1 << 30]),
            upstream,
            durable,
            unreadable: rng.u8(..8) == 0,
            steps: if many_keys { 400 } else { rng.usize(500..2500) },
            many_keys,
            hangs: if crowded {
                30
            } else {
                one_of(rng, &[0, 5, 40])
            },
            changes: !crowded && rng.bool(),
        }
    }
}

fn options(
    rng: &mut fastrand::Rng,
    (index, required): (usize, bool),
    (upstream, many_keys, crowded): (bool, bool, bool),
) -> QueueOptions {
    // Either the memory makes the reader wait, or full lanes do.
    let tight = !many_keys && !crowded && rng.u8(..3) == 0;
    let batch = one_of(rng, if many_keys { &[50] } else { &[1, 3, 10, 50] });
    let min_shards = if crowded { 30 } else { one_of(rng, &[0, 1, 4]) };
    let seconds = one_of(rng, &[0.1, 5.0, 5.0, 3600.0]);
    let mut share = |tight_share| {
        if tight {
            one_of(rng, &[tight_share, 64 << 10])
        } else {
            16 << 20
        }
    };
    let memory = MemoryShares {
        lanes: share(1 << 10),
        table: share(1 << 10),
        runs: share(256),
        metadata: share(300),
    };
    QueueOptions {
        name: format!("queue-{index}"),
        index: QueueIndex(index as u8),
        required,
        rules: rules(rng),
        limits: LaneLimits {
            queued: if tight {
                one_of(rng, &[20, 200, 100_000])
            } else {
                100_000
            },
            lane: batch
                * if crowded {
                    2
                } else {
                    one_of(rng, &[2, 2, 5, 100])
                },
            batch,
            batch_bytes: one_of(
                rng,
                if many_keys {
                    &[1 << 20]
                } else {
                    &[60, 1000, 1 << 20, 1 << 20]
                },
            ),
            deadline: Duration::from_secs_f64(seconds),
            window: Duration::from_secs(one_of(rng, &[0, 0, 0, 60])),
        },
        eager: upstream,
        min_shards,
        max_shards: min_shards.max(1) * one_of(rng, &[1, 4, 20]),
        min_backoff: Duration::from_millis(30),
        max_backoff: Duration::from_secs(5),
        memory,
        send_exemplars: rng.u8(..6) > 0,
        send_histograms: rng.u8(..6) > 0,
        passthrough: false,
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
