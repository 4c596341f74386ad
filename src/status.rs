//! What the process tells about itself, gathered when somebody asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::clock::Instant;
use crate::config::{AckMode, Mode};
use crate::ingest::handler::Ingest;
use crate::listen::Places;
use crate::log::disk::DiskLog;
use crate::log::disk::medium::Medium;
use crate::metrics::{self, Registry};
use crate::queue::handle::{Queue, QueueSnapshot};

mod gather;
mod history;

use history::History;

/// What is told and never changes, and the looks at what does.
pub struct About {
    /// When the process began.
    pub started: Instant,
    /// Where senders deliver.
    pub data_address: String,
    /// The folder of the log on disk, if one was asked for.
    pub storage_path: String,
    history: Mutex<History>,
}

impl About {
    /// Begins now.
    pub fn new(data_address: String, storage_path: String) -> Self {
        Self {
            started: Instant::now(),
            data_address,
            storage_path,
            history: Mutex::default(),
        }
    }
}

/// What became of the configuration that was asked for.
#[derive(Clone, Debug, Default)]
pub enum Configured {
    /// It is in use.
    #[default]
    AsAsked,
    /// It has these problems, and the last good one is in use.
    LastGood(Problems),
    /// It has these problems, and no other is known: nothing is accepted.
    Standby(Problems),
}

/// What is wrong with the configuration that was asked for, one problem a line. It changes when the file does.
#[derive(Clone, Debug, Default)]
pub struct Problems(Arc<Mutex<String>>);

impl Problems {
    /// These.
    pub fn new(text: String) -> Self {
        Self(Arc::new(Mutex::new(text)))
    }

    /// As it was last seen.
    pub fn text(&self) -> String {
        self.lock().clone()
    }

    /// Other ones; `false` if they are the same.
    pub fn change(&self, text: &str) -> bool {
        let mut known = self.lock();
        let changed = *known != text;
        if changed {
            text.clone_into(&mut known);
        }
        changed
    }

    fn lock(&self) -> MutexGuard<'_, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything that can be asked.
pub struct Status {
    /// What the process runs with.
    pub configured: Configured,
    /// The metrics.
    pub registry: Arc<Registry>,
    /// The queues, in the order of the configuration.
    pub queues: Vec<Arc<Queue>>,
    /// The door.
    pub ingest: Arc<Ingest>,
    /// Open connections of senders.
    pub connections: Arc<Places>,
    /// What is sent.
    pub mode: Mode,
    /// What a 2xx means.
    pub ack: AckMode,
    /// Why that is not what was asked for.
    pub storage_trouble: Option<String>,
    /// What the log's folder lies on.
    pub medium: Option<Medium>,
    /// The log on disk, if any of it is used.
    pub disk: Option<Arc<DiskLog>>,
    /// The memory budget.
    pub memory_limit: u64,
    /// What people are told beside all that.
    pub about: About,
    /// Set when requests are no longer accepted.
    pub stopping: watch::Receiver<bool>,
    /// It stops to start again at once, in this process.
    pub switching: AtomicBool,
    /// One scrape at a time: each renders one snapshot.
    pub scrape: Mutex<()>,
}

impl Status {
    /// It listens, and the log is open.
    pub fn is_ready(&self) -> bool {
        !self.is_stopping() || self.switching.load(Ordering::Relaxed)
    }

    /// Requests are no longer accepted.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    fn one_at_a_time(&self) -> MutexGuard<'_, ()> {
        self.scrape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn history(&self) -> MutexGuard<'_, History> {
        let history = &self.about.history;
        history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The text that is scraped.
    pub fn metrics(&self) -> String {
        let _one = self.one_at_a_time();
        let set = |def, labels: &[&str], value: f64| self.registry.set(def, labels, value);
        set(&metrics::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
        let loaded = u8::from(matches!(self.configured, Configured::AsAsked));
        set(&metrics::CONFIG_LOADED, &[], f64::from(loaded));
        set(&metrics::CONFIG_QUEUES, &[], self.queues.len() as f64);
        set(&metrics::CONNECTIONS, &[], self.connections.open() as f64);
        set(
            &metrics::REQUESTS_IN_FLIGHT,
            &[],
            self.ingest.activity.in_flight() as f64,
        );
        let log = self.ingest.log.occupancy();
        set(&metrics::LOG_BYTES, &[], log.bytes as f64);
        set(&metrics::LOG_LIMIT_BYTES, &[], log.limit as f64);
        set(&metrics::LOG_RECORDS, &[], log.records as f64);
        self.publish_memory();
        self.publish_disk();
        for queue in &self.queues {
            queue.publish();
        }
        for (event, samples) in self.at_risk() {
            set(&metrics::AT_RISK, &[event], samples as f64);
        }
        self.registry.upkeep();
        self.registry.render()
    }

    fn publish_memory(&self) {
        self.registry
            .set(&metrics::MEMORY_LIMIT_BYTES, &[], self.memory_limit as f64);
        for (part, bytes) in self.memory_parts() {
            self.registry
                .set(&metrics::MEMORY_BYTES, &[part], bytes as f64);
        }
    }

    /// Memory accounted for, by what holds it.
    fn memory_parts(&self) -> [(&'static str, u64); 8] {
        let gauges: Vec<_> = self
            .queues
            .iter()
            .map(|queue| queue.snapshot().gauges)
            .collect();
        let sum = |part: fn(&crate::queue::state::Gauges) -> usize| {
            gauges.iter().map(part).sum::<usize>() as u64
        };
        [
            ("log", self.ingest.log.memory_bytes()),
            ("bodies", self.ingest.bodies.lent()),
            ("decoding", self.ingest.decoding.lent()),
            ("handoff", self.ingest.log.handoff_bytes() as u64),
            ("lanes", sum(|gauges| gauges.lane_bytes)),
            ("series", sum(|gauges| gauges.table_bytes)),
            ("runs", sum(|gauges| gauges.run_bytes)),
            ("shadow", self.shadow_bytes()),
        ]
    }

    /// What is held to be measured, of queues that send nowhere.
    fn shadow_bytes(&self) -> u64 {
        let facts = self.queues.iter().filter_map(|queue| queue.shadow_facts());
        facts.map(|facts| facts.memory as u64).sum()
    }

    fn publish_disk(&self) {
        let Some(disk) = &self.disk else {
            if self.storage_trouble.is_some() {
                self.registry.set(&metrics::STORAGE_WRITABLE, &[], 0.0);
            }
            return;
        };
        let (r, health) = (&self.registry, disk.health());
        let writable = u8::from(health.unwritable_since.is_none());
        r.set(&metrics::STORAGE_WRITABLE, &[], f64::from(writable));
        r.total(&metrics::STORAGE_SYNCS, &[], health.syncs.count());
        r.set(&metrics::STORAGE_SYNC_SECONDS, &[], health.syncs.seconds);
        for (operation, error, count) in &health.errors {
            r.total(&metrics::STORAGE_ERRORS, &[operation, error], *count);
        }
        for (part, count) in health.damage.kinds() {
            r.total(&metrics::STORAGE_DAMAGED, &[part], count);
        }
    }

    /// Acknowledged samples that would be lost now, by event. In `upstream` none is acknowledged before
    /// it is settled; in `memory` all that is pending anywhere is at risk; in `fsync` what is pending, to
    /// events that the folder does not survive.
    pub fn at_risk(&self) -> [(&'static str, u64); 3] {
        let pending = |queue: &Arc<Queue>| queue.books().pending.total().total();
        let pending = || self.queues.iter().map(pending).max().unwrap_or(0);
        let unless = |safe: bool| if safe { 0 } else { pending() };
        let (process, node, pod) = match (self.ack, self.medium) {
            (AckMode::Upstream, _) => (0, 0, 0),
            (AckMode::Memory, _) | (AckMode::Fsync, None) => (pending(), pending(), pending()),
            (AckMode::Fsync, Some(medium)) => (
                unless(medium.survives_process()),
                unless(medium.survives_node()),
                unless(medium.survives_pod()),
            ),
        };
        [("process", process), ("node", node), ("pod", pod)]
    }

    /// Batches and shards, over all queues.
    pub fn health(&self) -> Value {
        let mut jobs = [0u64; 5];
        let mut workers = [0u64; 2];
        for queue in &self.queues {
            let QueueSnapshot {
                books,
                work,
                gauges,
                ..
            } = queue.snapshot();
            let pending = books.pending;
            let waiting = (pending.unread + pending.untaken + pending.queued).total();
            let per_send = u64::from(queue.batch_size()).max(1);
            let parts = [
                work.batches_done - work.batches_failed,
                work.batches_failed,
                (gauges.busy + gauges.waiting) as u64,
                waiting.div_ceil(per_send),
                work.retries,
            ];
            jobs.iter_mut()
                .zip(parts)
                .for_each(|(sum, part)| *sum += part);
            workers[0] += gauges.shards.saturating_sub(gauges.busy) as u64;
            workers[1] += gauges.busy as u64;
        }
        let [completed, failed, in_progress, in_queue, retried] = jobs;
        json!({
            "jobs": {
                "completed": completed,
                "failed": failed,
                "inProgress": in_progress,
                "inQueue": in_queue,
                "retried": retried,
            },
            "workers": {"idle": workers[0], "running": workers[1]},
        })
    }
}
