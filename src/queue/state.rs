//! All that a queue knows, under one lock: table, lanes, records, batches, books.
//!
//! Plain values: no clock, no I/O. [`super::reader`] fills the lanes, [`super::sender`] empties them; both
//! ask here what to do next and report what came of it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::batch::{Batch, BatchId, Outcome};
use super::gate::Gate;
use super::grouping::LaneRules;
use super::journal::{Journal, JournalRun};
use super::lanes::{LaneLimits, LaneRef, Lanes};
use super::ledger::{Books, DropReason, Ledger, Pending};
use super::metadata::MetadataCache;
use super::nodes::Nodes;
use super::records::Records;
use super::restore::Left;
use super::sender::EncodedBatches;
use super::split::{Budget, Split};
use super::table::SeriesTable;
use super::whole::Wholes;
use crate::log::{Log, QueueIndex, Seq, Tenant};
use crate::model::counts::Counts;
use crate::wire::decoded::Decoded;

/// Records taken between two sums over all lanes and records.
const SUM_AFTER: u32 = 32;

/// What a queue may hold in memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemoryShares {
    /// Lanes and batches.
    pub lanes: usize,
    /// Series table.
    pub table: usize,
    /// Run sets.
    pub runs: usize,
    /// Metadata cache.
    pub metadata: usize,
}

/// What a queue is made of.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "switches of the configuration"
)]
pub struct QueueOptions {
    /// Its name, as the user gave it.
    pub name: String,
    /// Its number among the log's readers.
    pub index: QueueIndex,
    /// Senders' answers and the log's records wait for it.
    pub required: bool,
    /// Lane rules.
    pub rules: LaneRules,
    /// Lane limits.
    pub limits: LaneLimits,
    /// Senders wait for their answers, so a batch goes whenever a permit is free.
    pub eager: bool,
    /// Least number of permits.
    pub min_shards: usize,
    /// Greatest number of permits.
    pub max_shards: usize,
    /// First wait after a failure.
    pub min_backoff: Duration,
    /// Longest wait after failures.
    pub max_backoff: Duration,
    /// Memory.
    pub memory: MemoryShares,
    /// Exemplars are sent.
    pub send_exemplars: bool,
    /// Native histograms are sent.
    pub send_histograms: bool,
    /// Bodies go out whole, as they came: see [`super::whole`].
    pub passthrough: bool,
}

/// A batch without a verdict.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) batch: Arc<Batch>,
    pub(super) lanes: Vec<LaneRef>,
    pub(super) status: Status,
    pub(super) attempts: u32,
    /// An attempt without an answer may have stored it.
    pub(super) maybe_stored: bool,
    /// What it takes of the memory.
    pub(super) bytes: usize,
    /// It was refused, and goes out in parts.
    pub(super) split: Option<Box<Split>>,
}

impl Flight {
    /// What is to be sent: the batch, or the part whose turn it is.
    pub(super) fn out(&self) -> &Arc<Batch> {
        self.split
            .as_ref()
            .map_or(&self.batch, |split| split.part())
    }
}

/// Where a batch is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It has a permit.
    Sending,
    /// It waits for its next try, without a permit.
    Waiting(Instant),
    /// It has its verdict, which is on its way into the journal.
    Concluded(Outcome),
}

/// One pass over records that were left for parked lanes.
pub(super) struct Laggard {
    pub(super) at: Seq,
    pub(super) lanes: BTreeSet<LaneRef>,
}

/// The record in which the lead reader had to stop.
pub(super) struct Stalled {
    pub(super) slot: u32,
    pub(super) decoded: Arc<Decoded>,
    pub(super) on: StallOn,
}

/// What the lead waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StallOn {
    /// A full lane.
    Lane(LaneRef),
    /// The number of separation keys in use.
    Keys,
}

/// A withdrawn record that the lead has not come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absent {
    Withheld,
    Expired,
}

/// Bytes that are summed now and then.
#[derive(Clone, Copy, Default)]
struct Sums {
    lanes: usize,
    runs_held: usize,
    runs_used: usize,
}

/// Work that was done, counted since the queue began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Work {
    /// Records decoded again by the lead, because their decoded form was no longer at hand.
    pub decoded_lead: u64,
    /// Records decoded again for parked lanes.
    pub decoded_laggard: u64,
    /// Records decoded for batches that were open when the last process ended.
    pub decoded_replay: u64,
    /// Batches settled.
    pub batches_done: u64,
    /// Batches of which something was refused for good.
    pub batches_failed: u64,
    /// Attempts that failed and are tried again.
    pub retries: u64,
    /// Elements in such attempts.
    pub retried: Counts,
    /// Refused requests that went out again in halves.
    pub splits: u64,
    /// Elements sent without their start timestamp.
    pub degraded: u64,
    /// Rewinds.
    pub rewinds: u64,
    /// Times that a lane was parked.
    pub parked: u64,
    /// Wall time that batches took from cut to verdict.
    pub busy: Duration,
    /// Elements settled.
    pub settled: u64,
    /// Elements taken into lanes.
    pub taken: u64,
}

/// All that a queue knows.
pub struct QueueState {
    pub(super) options: QueueOptions,
    pub(super) table: SeriesTable,
    pub(super) nodes: Nodes,
    pub(super) lanes: Lanes,
    pub(super) records: Records,
    pub(super) flights: BTreeMap<BatchId, Flight>,
    pub(super) sending: usize,
    pub(super) split_budget: Budget,
    /// Something else was sent since the last part of a batch that was refused.
    pub(super) part_waited: bool,
    pub(super) retries: BTreeSet<(Instant, BatchId)>,
    pub(super) next_batch: u64,
    pub(super) journal: Journal,
    pub(super) ledger: Ledger,
    pub(super) work: Work,
    pub(super) gate: Gate,
    pub(super) shards: usize,
    pub(super) draining: bool,
    /// Nothing more is sent: the process stops, and what is pending is safe.
    pub(super) halted: bool,
    /// The next record the lead comes to.
    pub(super) lead: Seq,
    /// The first record never entered; behind it the lead may go back.
    pub(super) entered: Seq,
    pub(super) entered_totals: Counts,
    /// The log's totals when the queue began; may have wrapped around.
    pub(super) start_totals: Counts,
    /// Bodies that go out whole.
    pub(super) wholes: Wholes,
    /// What the last process left.
    pub(super) left: Left,
    /// Records were found gone since the journal's last checkpoint.
    pub(super) gap: bool,
    /// Records that are not needed any more, once the journal says so.
    pub(super) unneeded: Vec<Seq>,
    pub(super) stalled: Option<Stalled>,
    pub(super) laggard: Option<Laggard>,
    pub(super) laggard_turn: bool,
    pub(super) requeue: VecDeque<Seq>,
    pub(super) absent: BTreeMap<Seq, Absent>,
    pub(super) generation: u64,
    pub(super) metadata: MetadataCache,
    /// Keys of the tenants' salts: nobody can aim at another's series.
    salts: [RandomState; 2],
    tenants: HashMap<Arc<Tenant>, u128>,
    memory_check: u32,
    sums: Sums,
    memory_full: bool,
    pub(super) batch_bytes: usize,
    /// Bodies of batches in flight.
    pub(super) encoded: EncodedBatches,
}

impl QueueState {
    /// A queue that begins at the end of the log.
    pub fn new(options: QueueOptions, start: Seq, start_totals: Counts) -> Self {
        Self {
            table: SeriesTable::default(),
            nodes: Nodes::new(),
            lanes: Lanes::new(options.limits, options.rules.grouping),
            records: Records::default(),
            flights: BTreeMap::new(),
            sending: 0,
            split_budget: Budget::default(),
            part_waited: false,
            retries: BTreeSet::new(),
            next_batch: 1,
            journal: Journal::default(),
            ledger: Ledger::default(),
            work: Work::default(),
            gate: Gate::new(options.min_backoff, options.max_backoff),
            shards: options.min_shards,
            draining: false,
            halted: false,
            lead: start,
            entered: start,
            entered_totals: start_totals,
            start_totals,
            wholes: Wholes::default(),
            left: Left::default(),
            gap: false,
            unneeded: Vec::new(),
            stalled: None,
            laggard: None,
            laggard_turn: false,
            requeue: VecDeque::new(),
            absent: BTreeMap::new(),
            generation: 0,
            metadata: MetadataCache::new(options.memory.metadata),
            salts: [RandomState::new(), RandomState::new()],
            tenants: HashMap::new(),
            memory_check: 0,
            sums: Sums::default(),
            memory_full: false,
            batch_bytes: 0,
            encoded: EncodedBatches::default(),
            options,
        }
    }

    /// The books, with the log's totals as they are now.
    pub fn books(&self, log: &dyn Log) -> Books {
        let given_up = self.given_up_unread(log);
        let totals = log.totals();
        let mut ledger = self.ledger.clone();
        ledger.drop(log.why_gone(self.entered).into(), given_up);
        let in_flight = self
            .flights
            .values()
            .map(|flight| flight.batch.held())
            .sum();
        Books {
            received: totals.wrapping_sub(self.start_totals),
            ledger,
            pending: Pending {
                unread: totals - self.entered_totals - given_up,
                untaken: self.records.untaken() + self.left.unsettled(),
                queued: self.nodes.counts() + self.wholes.queued(),
                in_flight,
            },
        }
    }

    /// Elements ahead of the lead that the log does not have any more; the reader books them when it comes
    /// to the gap.
    fn given_up_unread(&self, log: &dyn Log) -> Counts {
        // No gap, as a rule; and only then may the log have to look at the disk.
        if log.holds(self.entered) {
            return Counts::default();
        }
        log.totals_before(self.entered) - self.entered_totals
    }

    /// When the oldest pending element arrived; `None` when nothing is pending.
    pub fn oldest_pending(&self, log: &dyn Log) -> Option<Instant> {
        let flights = self
            .flights
            .values()
            .map(|flight| flight.batch.arrived)
            .min();
        let parts = [
            flights,
            self.lanes.oldest(),
            self.wholes.oldest(),
            self.records.oldest_untaken(),
            self.left.next(Seq(0)).and_then(|seq| log.arrival(seq)),
            log.arrival(self.entered),
        ];
        parts.into_iter().flatten().min()
    }

    /// Work done so far.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Options, as they are now.
    pub fn options(&self) -> &QueueOptions {
        &self.options
    }

    /// Numbers for people.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            shards: self.shards,
            busy: self.sending,
            waiting: self.retries.len(),
            lanes: self.lanes.live(),
            locked: self.lanes.locked(),
            parked: self.lanes.parked_lanes(),
            keys: self.lanes.active_keys(),
            series: self.table.len(),
            table_bytes: self.table.heap_bytes() + self.lanes.key_bytes(),
            lane_bytes: self.nodes.heap_bytes()
                + self.lanes.heap_bytes()
                + self.wholes.kept_bytes()
                + self.batch_bytes,
            records: self.records.len(),
            run_bytes: self.records.heap_bytes(),
            gate_open: matches!(self.gate.state(), super::gate::GateState::Open),
        }
    }

    /// Nothing is left to be read, taken, sent or answered.
    pub fn is_idle(&self, log: &dyn Log) -> bool {
        self.books(log).pending.total().is_zero()
    }

    /// A permit is free and the gate lets a request through.
    pub(super) fn permit_is_free(&self, now: Instant) -> bool {
        self.sending < self.shards.max(1) && self.gate.admits(self.sending, now).is_ok()
    }

    /// Every key with anything in a free lane is due at once.
    pub(super) fn eager(&self) -> bool {
        self.options.eager || self.options.passthrough || self.draining
    }

    /// From now on every lane is due: nothing new will come.
    pub fn drain(&mut self) {
        self.draining = true;
    }

    /// From now on nothing is sent.
    pub fn halt(&mut self) {
        self.halted = true;
    }

    /// The lanes have room for another record. With nothing pending there always is: a single request may
    /// be larger than any share.
    pub(super) fn has_room(&mut self) -> bool {
        if !self.wholes_have_room() {
            return false;
        }
        if self.lanes.queued() == 0 && self.flights.is_empty() {
            self.memory_full = false;
            return true;
        }
        if self.memory_full {
            self.sum_memory();
            self.memory_full = self.exceeds_memory();
        }
        !self.is_pressed()
    }

    /// The reader waits for room: whatever can be sent is due, so that a wait for company never becomes a
    /// wait for nothing.
    pub(super) fn is_pressed(&self) -> bool {
        self.memory_full || self.lanes.queued() >= self.options.limits.queued
    }

    /// Notices, after a record was taken, that memory is short.
    pub(super) fn look_at_memory(&mut self) {
        self.memory_check += 1;
        if self.memory_check.is_multiple_of(SUM_AFTER) {
            self.sum_memory();
            self.shrink_table();
        }
        self.memory_full = self.exceeds_memory();
    }

    /// What is summed over many things, and grows slowly.
    fn sum_memory(&mut self) {
        self.sums = Sums {
            lanes: self.lanes.heap_bytes(),
            runs_held: self.records.heap_bytes(),
            runs_used: self.records.used_bytes(),
        };
    }

    /// Something holds more than its share, and what was freed inside it does not make up for that.
    fn exceeds_memory(&mut self) -> bool {
        let memory = self.options.memory;
        let exceeds = |share: usize, held: usize, used: usize| held > share && used > share / 2;
        let beside = self.sums.lanes + self.batch_bytes;
        let (held, used) = (self.nodes.heap_bytes(), self.nodes.used_bytes());
        if exceeds(memory.lanes, held + beside, used + beside)
            || exceeds(memory.runs, self.sums.runs_held, self.sums.runs_used)
        {
            return true;
        }
        // A little over its share is no reason to look through all of the table each time.
        let most = memory.table + memory.table / 8;
        let full = |state: &Self| {
            let keys = state.lanes.key_bytes();
            let (held, used) = (state.table.heap_bytes(), state.table.used_bytes());
            exceeds(most, held + keys, used + keys)
        };
        full(self) && {
            self.shrink_table();
            full(self)
        }
    }

    /// Gives back what the table knows without need, as far as its share asks for it.
    fn shrink_table(&mut self) {
        let (table, lanes) = (&mut self.table, &mut self.lanes);
        let share = self.options.memory.table;
        let limit = share.saturating_sub(lanes.key_bytes());
        table.shrink(limit, |key| lanes.series_gone(key));
    }

    /// Mixed into a series' identity: the same labels of two tenants are two series.
    pub(super) fn tenant_salt(&mut self, tenant: &Arc<Tenant>) -> u128 {
        if let Some(salt) = self.tenants.get(tenant) {
            return *salt;
        }
        let [high, low] = self.salts.each_ref().map(|key| key.hash_one(tenant));
        let salt = u128::from(high) << 64 | u128::from(low);
        if self.tenants.len() > 10_000 {
            self.tenants.clear();
        }
        self.tenants.insert(Arc::clone(tenant), salt);
        salt
    }

    /// Settles what is not taken of a record as dropped.
    pub(super) fn drop_untaken(&mut self, slot: u32, reason: DropReason, log: &dyn Log) {
        let tracked = self.records.get_mut(slot);
        self.ledger.drop(reason, tracked.untaken());
        // Nobody will read it any more.
        tracked.read = true;
        let gaps: Vec<_> = tracked.taken.gaps(tracked.record.ordinals()).collect();
        for (from, to) in &gaps {
            tracked.taken.insert(*from, *to);
            tracked.settled.insert(*from, *to);
        }
        let (seq, counts) = (tracked.record.seq, tracked.record.counts);
        self.journal.dropped(reason, || {
            let runs = gaps.into_iter();
            runs.flat_map(|(from, to)| JournalRun::split(seq, counts, from, to))
                .collect()
        });
        self.leave_if_settled(slot, log);
    }

    /// Gives back to the log what is not needed any more. Not before the journal has said so: the log may
    /// forget it at once, and the next process would look for it.
    pub(super) fn give_back(&mut self, log: &dyn Log) {
        if !self.journal.is_silent() && !self.gap {
            for seq in self.unneeded.drain(..) {
                log.release(self.options.index, seq);
            }
        }
    }

    /// A record that is settled whole goes, and whoever waits for it is told.
    pub(super) fn leave_if_settled(&mut self, slot: u32, log: &dyn Log) {
        let tracked = self.records.get(slot);
        if tracked.held || !tracked.settled.covers(tracked.record.ordinals()) {
            return;
        }
        let gone = self.records.leave(slot);
        self.unneeded.push(gone.record.seq);
        self.give_back(log);
        if let Some(ack) = gone.record.ack.as_ref().filter(|_| self.options.required) {
            ack.settle(gone.refused, gone.message.as_deref(), gone.unsupported);
        }
    }
}

/// Numbers for people.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    /// Permits.
    pub shards: usize,
    /// Permits in use.
    pub busy: usize,
    /// Batches that wait for their next try.
    pub waiting: usize,
    /// Lanes in use.
    pub lanes: usize,
    /// Lanes that batches hold.
    pub locked: usize,
    /// Parked lanes.
    pub parked: usize,
    /// Separation keys in use.
    pub keys: usize,
    /// Series in the table.
    pub series: usize,
    /// Bytes of the series table.
    pub table_bytes: usize,
    /// Bytes of lanes and batches.
    pub lane_bytes: usize,
    /// Records with anything unsettled.
    pub records: usize,
    /// Bytes of run sets.
    pub run_bytes: usize,
    /// The endpoint's gate is open.
    pub gate_open: bool,
}
