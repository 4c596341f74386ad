//! A start after a stop or a crash: what the journal knows, held against what the log has. Pure, but for
//! looking records up in the log.
//!
//! What is settled is not read again; the lead begins at the cursor and takes the rest, in order. First of
//! all each batch that was open is *replayed*: made again of the same elements, alone, and only it may be
//! stored already. Nothing is sent, and the journal says nothing, before all of them are there: if the
//! process dies meanwhile, the next one finds the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::batch::BatchId;
use super::journal::entry::{Checkpoint, JournalRun, Unsettled, journal_runs};
use super::journal::recover::Recovered;
use super::journal::{Journal, Sink};
use super::lanes::LaneLimits;
use super::ledger::{DropReason, Ledger};
use super::nodes::{Element, Origin};
use super::state::{QueueOptions, QueueState, Status};
use super::table::SeriesRef;
use super::take::{Ordinals, element_of};
use super::whole::Waiting;
use crate::log::{Log, Record, Seq};
use crate::model::counts::{Counts, Kind};
use crate::wire::decoded::Decoded;

/// What the last process left that this one has not come to.
#[derive(Default)]
pub(super) struct Left {
    /// Records before `entered` of which something is unsettled, and which are not tracked yet.
    records: BTreeMap<Seq, Unsettled>,
    /// Their unsettled elements.
    unsettled: Counts,
    replays: Option<Replays>,
}

/// Batches to be made again.
struct Replays {
    batches: Vec<Replay>,
    /// Records to be read for them: which batch wants which ordinals.
    wanted: BTreeMap<Seq, Vec<Wanted>>,
    /// Those that have been read.
    read: BTreeMap<Seq, Vec<Wanted>>,
}

/// Batch, first ordinal, one past the last.
type Wanted = (usize, u32, u32);

struct Replay {
    id: BatchId,
    elements: Vec<Picked>,
    /// It is a body, and goes out whole.
    whole: Option<Waiting>,
}

/// An element of a batch that is made again.
struct Picked {
    series: SeriesRef,
    slot: u32,
    ordinal: u32,
    element: Element,
}

impl Left {
    fn new(recovered: &mut Recovered) -> Self {
        let records = std::mem::take(&mut recovered.records);
        let unsettled = records.values().map(|record| record.unsettled).sum();
        let mut wanted: BTreeMap<Seq, Vec<Wanted>> = BTreeMap::new();
        let mut batches = Vec::new();
        for (id, runs) in std::mem::take(&mut recovered.open) {
            for run in &runs {
                let batch = (batches.len(), run.from, run.to);
                wanted.entry(run.seq).or_default().push(batch);
            }
            batches.push(Replay {
                id,
                elements: Vec::new(),
                whole: None,
            });
        }
        // What of an open batch is settled all the same, or gone with its record, is not sent again.
        wanted.retain(|seq, _| records.contains_key(seq));
        Self {
            records,
            unsettled,
            replays: Some(Replays {
                batches,
                wanted,
                read: BTreeMap::new(),
            }),
        }
    }

    /// Elements that are neither settled nor tracked.
    pub(super) fn unsettled(&self) -> Counts {
        self.unsettled
    }

    /// The first such record at or after `seq`.
    pub(super) fn next(&self, seq: Seq) -> Option<Seq> {
        self.records.range(seq..).next().map(|(seq, _)| *seq)
    }

    /// Takes a record out, to be tracked or given up.
    pub(super) fn take(&mut self, seq: Seq) -> Option<Unsettled> {
        let record = self.records.remove(&seq)?;
        self.unsettled -= record.unsettled;
        Some(record)
    }

    /// The record that is to be read next for batches to be made again.
    pub(super) fn next_replay(&self) -> Option<Seq> {
        let replays = self.replays.as_ref()?;
        replays.wanted.first_key_value().map(|(seq, _)| *seq)
    }

    /// The batch to be made again that is all of this record, and nothing else.
    fn wants_whole(&self, seq: Seq, ordinals: u32) -> Option<usize> {
        let replays = self.replays.as_ref()?;
        let wanted = replays.wanted.get(&seq)?;
        let (batch, ..) = *wanted.first()?;
        let elements: u32 = wanted.iter().map(|(_, from, to)| to - from).sum();
        let one = wanted.iter().all(|wanted| wanted.0 == batch) && elements == ordinals;
        let all = replays.wanted.iter().chain(&replays.read);
        let mut others = all.filter(|(other, _)| **other != seq);
        let shared = others.any(|(_, wanted)| wanted.iter().any(|wanted| wanted.0 == batch));
        (one && !shared).then_some(batch)
    }

    /// Batches are still to be made again: nothing else is done before.
    pub(super) fn is_replaying(&self) -> bool {
        self.replays.is_some()
    }

    /// What has been read for batches is wanted once more.
    fn begin_again(&mut self) {
        if let Some(replays) = &mut self.replays {
            replays.wanted.append(&mut replays.read);
            for batch in &mut replays.batches {
                batch.elements.clear();
                batch.whole = None;
            }
        }
    }
}

impl QueueState {
    /// A queue that goes on where the journal ends.
    ///
    /// `log_end` is the first sequence that the log did not find when it was opened: what the journal says of
    /// records from there on is void, for they are gone.
    pub fn restored(
        options: QueueOptions,
        mut recovered: Recovered,
        log_end: Seq,
        sink: Arc<dyn Sink>,
        log: &dyn Log,
    ) -> Self {
        let (end, totals) = log.end();
        let mut state = Self::new(options, end, totals);
        state.journal = Journal::to(sink);
        state.next_batch = recovered.next_batch.max(1);
        enter_all(&mut recovered, log_end, log);
        (state.entered, state.entered_totals) = (recovered.entered, recovered.entered_totals);
        state.ledger = recovered.ledger.clone();
        let received = received_before(&recovered, totals);
        state.left = Left::new(&mut recovered);
        state.lead = state.left.next(Seq(0)).unwrap_or(state.entered);
        let accounted =
            state.ledger.total() + state.left.unsettled() + (totals - state.entered_totals);
        for kind in Kind::ALL {
            // What the books say came in, and is nowhere: the log has lost it.
            let lost = received.get(kind).saturating_sub(accounted.get(kind));
            state
                .ledger
                .drop(DropReason::Unreadable, Counts::of(kind, lost));
        }
        let held = state.left.unsettled() + (totals - state.entered_totals);
        state.start_totals = totals.wrapping_sub(state.ledger.total() + held);
        state.release_settled(log);
        state
    }

    /// Tells the log which records are settled whole.
    fn release_settled(&self, log: &dyn Log) {
        let mut from = Seq(0);
        for seq in self.left.records.keys().copied() {
            log.release_range(self.options.index, from, seq);
            from = seq.next();
        }
        log.release_range(self.options.index, from, self.entered);
    }

    /// Begins to track a record that the last process left; `false` when there is nothing in it to take.
    pub(super) fn enter_left(&mut self, record: &Arc<Record>) -> Option<u32> {
        let left = self.left.take(record.seq)?;
        let slot = self.records.enter(Arc::clone(record));
        let tracked = self.records.get_mut(slot);
        for (from, to) in left.settled.iter() {
            let to = to.min(record.ordinals());
            tracked.taken.insert(from, to);
            tracked.settled.insert(from, to);
        }
        Some(slot)
    }

    /// Records that the last process left, from `from` to `to`, are gone.
    pub(super) fn give_up_left(&mut self, from: Seq, to: Seq, log: &dyn Log) {
        while let Some(seq) = self.left.next(from).filter(|seq| *seq < to) {
            if let Some(left) = self.left.take(seq) {
                self.ledger.drop(log.why_gone(seq).into(), left.unsettled);
                self.gap = true;
            }
        }
    }

    /// A record that batches to be made again want.
    pub fn enter_replay(&mut self, record: &Arc<Record>) -> Option<u32> {
        let known = self.records.slot(record.seq);
        known.or_else(|| self.enter_left(record))
    }

    /// Picks the elements of batches to be made again.
    pub fn replay(&mut self, slot: u32, decoded: &Arc<Decoded>, now: Instant) {
        let record = Arc::clone(&self.records.get(slot).record);
        let wanted = self.unwant(record.seq);
        let salt = self.tenant_salt(&record.tenant);
        let mut at = Ordinals::new(decoded);
        for row in &decoded.series {
            let place = at.advance(row);
            if row.invalid.is_some() {
                continue;
            }
            for (kind, range) in Kind::ALL.into_iter().zip(place.ranges()) {
                for ordinal in range {
                    let inside = |w: &&Wanted| w.1 <= ordinal && ordinal < w.2;
                    let settled = self.records.get(slot).settled.contains(ordinal);
                    let Some((batch, ..)) = wanted.iter().find(inside).filter(|_| !settled) else {
                        continue;
                    };
                    let series = self.series_of(row, decoded, &record, salt);
                    let element = element_of(decoded, record.counts, kind, ordinal);
                    let picked = Picked {
                        series,
                        slot,
                        ordinal,
                        element,
                    };
                    let replays = self.left.replays.as_mut();
                    let replays = replays.expect("records are wanted while there are replays");
                    replays.batches[*batch].elements.push(picked);
                }
            }
        }
        self.replayed(now);
    }

    /// Makes a batch again that is just this record, all of it, in the form of its body; `false` if there is none.
    pub(super) fn replay_whole(&mut self, waiting: Waiting, now: Instant) -> bool {
        let (seq, ordinals) = waiting.all();
        let Some(batch) = self.left.wants_whole(seq, ordinals) else {
            return false;
        };
        self.unwant(seq);
        if let Some(replays) = &mut self.left.replays {
            replays.batches[batch].whole = Some(waiting);
        }
        self.replayed(now);
        true
    }

    /// A record that batches to be made again want is gone.
    pub(super) fn forgo_replay(&mut self, seq: Seq, now: Instant) {
        if self.left.is_replaying() {
            self.unwant(seq);
            self.replayed(now);
        }
    }

    /// Series are not what they were: what has been read for batches is read once more, but for what was found
    /// to be gone.
    pub(super) fn begin_replay_again(&mut self) {
        self.left.begin_again();
        let Some(replays) = &self.left.replays else {
            return;
        };
        let is_gone =
            |seq: &Seq| self.records.slot(*seq).is_none() && !self.left.records.contains_key(seq);
        let gone: Vec<_> = replays.wanted.keys().copied().filter(is_gone).collect();
        for seq in gone {
            self.unwant(seq);
        }
    }

    fn unwant(&mut self, seq: Seq) -> Vec<Wanted> {
        let Some(replays) = &mut self.left.replays else {
            return Vec::new();
        };
        let wanted = replays.wanted.remove(&seq).unwrap_or_default();
        replays.read.insert(seq, wanted.clone());
        wanted
    }

    /// Once everything is read: the batches fly, and the journal begins anew.
    pub(super) fn replayed(&mut self, now: Instant) {
        if self.left.next_replay().is_some() {
            return;
        }
        let Some(replays) = self.left.replays.take() else {
            return;
        };
        for replay in replays.batches {
            self.fly_again(replay, now);
        }
        self.lock_lanes();
        self.write_checkpoint();
    }

    /// Locks the lanes of all batches that were made again.
    fn lock_lanes(&mut self) {
        for flight in self.flights.values_mut() {
            let mut lanes = BTreeSet::new();
            for (series, _) in &flight.batch.series {
                let entry = self.table.get(*series);
                lanes.insert(self.lanes.open(entry.key, entry.lane));
            }
            for lane in &lanes {
                self.lanes.lock(*lane);
            }
            flight.lanes = lanes.into_iter().collect();
        }
    }

    /// Makes a batch of just these elements. Its lanes are locked afterwards, with those of all others: of two
    /// batches that were open neither waits for the other, whatever the lane rules have become since.
    fn fly_again(&mut self, replay: Replay, now: Instant) {
        if let Some(body) = replay.whole {
            return self.fly_whole_again(body, replay.id, now);
        }
        let usual = *self.lanes.limits();
        self.lanes.set_limits(LaneLimits {
            batch: replay.elements.len() as u32,
            batch_bytes: usize::MAX,
            ..usual
        });
        let mut keys = BTreeSet::new();
        for picked in replay.elements {
            let (slot, ordinal) = (picked.slot, picked.ordinal);
            let tracked = self.records.get_mut(slot);
            if tracked.taken.contains(ordinal) {
                continue;
            }
            tracked.taken.insert(ordinal, ordinal + 1);
            let when = (tracked.record.seq, tracked.record.arrived);
            let origin = Origin {
                record: slot,
                ordinal,
                series: picked.series.0,
            };
            let node = self.nodes.insert(picked.element, origin);
            let (key, number) = {
                let entry = self.table.get(picked.series);
                (entry.key, entry.lane)
            };
            keys.insert(key);
            let lane = self.lanes.open_to_push(key, number);
            let (table, nodes) = (&mut self.table, &mut self.nodes);
            self.lanes
                .push(lane, (picked.series, node), when, table, nodes);
        }
        self.lanes.settle_pushes();
        // One key, unless `separate_by` has been changed since: then it has become a batch for each.
        let mut id = Some(replay.id);
        for key in keys {
            let cut = self.lanes.cut(key, &mut self.table, &mut self.nodes);
            let lanes = cut.lanes.clone();
            let batch = self.fly(cut, id.take(), true, now);
            let flight = self.flights.get_mut(&batch.id);
            let flight = flight.expect("what has just been cut is in flight");
            (flight.lanes, flight.status) = (Vec::new(), Status::Waiting(now));
            self.retries.insert((now, batch.id));
            self.lanes.unlock(&lanes);
        }
        self.lanes.set_limits(usual);
    }

    /// Gives the journal a checkpoint, if it wants one.
    pub fn checkpoint_if_wanted(&mut self, log: &dyn Log) {
        if !self.journal.is_kept() {
            self.gap = false;
        } else if !self.left.is_replaying() && (self.gap || self.journal.wants_checkpoint()) {
            self.write_checkpoint();
        }
        self.give_back(log);
    }

    /// Gives the journal a checkpoint.
    pub fn write_checkpoint(&mut self) {
        self.gap = false;
        let checkpoint = self.checkpoint();
        self.journal.checkpoint(checkpoint);
    }

    /// The last word of a process that stops. While batches are still to be made again nothing has happened,
    /// and the journal says what it said.
    pub fn write_last_checkpoint(&mut self) {
        if !self.left.is_replaying() {
            self.write_checkpoint();
        }
    }

    /// All that the next process has to know.
    fn checkpoint(&self) -> Checkpoint {
        let left = self.left.records.values().cloned();
        let tracked = self.records.iter().map(|(_, tracked)| tracked.into());
        let mut all: BTreeMap<Seq, Unsettled> = left
            .chain(tracked)
            .map(|record| (record.seq, record))
            .collect();
        let mut ledger = self.ledger.clone();
        self.add_concluded(&mut all, &mut ledger);
        let unsettled = all.into_values();
        // One that waits to be read for nothing but its metadata is settled.
        let records: Vec<Unsettled> = unsettled
            .filter(|record: &Unsettled| !record.unsettled.is_zero())
            .collect();
        let open = self.journal.open_batches();
        let mut open: Vec<_> = open.map(|(id, runs)| (id, runs.to_vec())).collect();
        open.sort_unstable_by_key(|(id, _)| *id);
        Checkpoint {
            start_totals: self.start_totals,
            cursor: records.first().map_or(self.entered, |record| record.seq),
            entered: self.entered,
            entered_totals: self.entered_totals,
            ledger,
            records,
            presettled: Vec::new(),
            open,
            next_batch: self.next_batch,
        }
    }
}

impl QueueState {
    /// What has its verdict and is not settled here yet: the journal has been told.
    fn add_concluded(&self, records: &mut BTreeMap<Seq, Unsettled>, ledger: &mut Ledger) {
        for flight in self.flights.values() {
            let Status::Concluded(outcome) = &flight.status else {
                continue;
            };
            ledger.book(outcome);
            for run in journal_runs(&flight.batch.runs, &self.records) {
                if let Some(record) = records.get_mut(&run.seq) {
                    record.settled.insert(run.from, run.to);
                    *record.unsettled.slot(run.kind) -= u64::from(run.to - run.from);
                }
            }
        }
    }
}

/// Elements that had come in when the journal ended, as far as it knows.
fn received_before(recovered: &Recovered, totals: Counts) -> Counts {
    let received = totals.wrapping_sub(recovered.start_totals);
    // A log that lost its end may know of less than the journal.
    let known = recovered
        .entered_totals
        .wrapping_sub(recovered.start_totals);
    let mut most = Counts::default();
    for kind in Kind::ALL {
        // Wrapped around: the log has lost even that.
        let plausible = |n: u64| if n > u64::MAX / 2 { 0 } else { n };
        *most.slot(kind) = plausible(received.get(kind)).max(plausible(known.get(kind)));
    }
    most
}

/// Comes to all records that the journal mentions behind its last checkpoint: afterwards everything it
/// says is of records before `entered`.
fn enter_all(recovered: &mut Recovered, log_end: Seq, log: &dyn Log) {
    let mentioned = recovered.highest();
    let mut at = recovered.entered;
    while at < mentioned {
        let Some(record) = log.first(at).filter(|record| record.seq < mentioned) else {
            break;
        };
        let before = record.totals - record.admitted;
        lose(recovered, at, record.seq, before, log);
        let settled = recovered.presettled.remove(&record.seq).unwrap_or_default();
        let mut unsettled = Counts::default();
        for kind in Kind::ALL {
            let left = record.admitted.get(kind);
            *unsettled.slot(kind) = left.saturating_sub(settled.counts.get(kind));
        }
        if !unsettled.is_zero() {
            let left = Unsettled {
                seq: record.seq,
                // The skipped are known once it is read.
                settled: settled.runs,
                unsettled,
            };
            recovered.records.insert(record.seq, left);
        }
        (recovered.entered, recovered.entered_totals) = (record.seq.next(), record.totals);
        at = record.seq.next();
    }
    // What was mentioned last may be settled and gone.
    let to = mentioned.min(log_end);
    if at < to {
        let before = log.totals_before(to);
        lose(recovered, at, to, before, log);
        (recovered.entered, recovered.entered_totals) = (to, before);
    }
    // The rest is of records that the log has lost.
    recovered.presettled.clear();
    recovered.records.retain(|seq, _| *seq < log_end);
    for runs in recovered.open.values_mut() {
        runs.retain(|run: &JournalRun| run.seq < log_end);
    }
}

/// Books what was in records that are gone: those from `from` to `to`, where the log's totals are `before`.
fn lose(recovered: &mut Recovered, from: Seq, to: Seq, before: Counts, log: &dyn Log) {
    let gone: Vec<Seq> = recovered
        .presettled
        .range(from..to)
        .map(|(seq, _)| *seq)
        .collect();
    let gone = gone
        .iter()
        .filter_map(|seq| recovered.presettled.remove(seq));
    let settled: Counts = gone.map(|known| known.counts).sum();
    let reason = DropReason::from(log.why_gone(from));
    for kind in Kind::ALL {
        let missing = before
            .get(kind)
            .saturating_sub(recovered.entered_totals.get(kind));
        let lost = missing.saturating_sub(settled.get(kind));
        recovered.ledger.drop(reason, Counts::of(kind, lost));
    }
}
