//! What goes back: lane rules that change, and senders that are told to come again. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::grouping::LaneRules;
use super::lanes::Lanes;
use super::ledger::DropReason;
use super::state::{Absent, QueueState};
use crate::log::{Log, Record, Seq};

impl QueueState {
    /// Changes the lane rules: what is in lanes but not in flight becomes untaken, the lead goes back to
    /// the cursor, and batches in flight lock the new lanes of their series until their verdict.
    pub fn rewind(&mut self, rules: LaneRules) {
        self.work.rewinds += 1;
        self.generation += 1;
        self.options.rules = rules;
        let idle: Vec<_> = {
            let Self { table, .. } = self;
            table.iter().map(|(series, _)| series).collect()
        };
        self.nodes.clear();
        self.lanes = Lanes::new(self.options.limits, self.options.rules.grouping);
        (self.stalled, self.laggard) = (None, None);
        self.begin_replay_again();
        self.clear_wholes();
        self.requeue.clear();
        for series in idle {
            let entry = self.table.get_mut(series);
            entry.queued = 0;
            (entry.head, entry.tail) = (super::nodes::NONE, super::nodes::NONE);
            if entry.in_flight == 0 {
                self.table.remove(series);
            }
        }
        self.untake_queued();
        self.relock_flights();
        let (left, tracked) = (self.left.next(Seq(0)), self.records.cursor());
        let cursor = [left, tracked].into_iter().flatten().min();
        self.lead = cursor.unwrap_or(self.entered);
    }

    /// Taken is what is settled or in flight.
    fn untake_queued(&mut self) {
        let slots: Vec<u32> = self.records.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            let tracked = self.records.get_mut(slot);
            tracked.taken = tracked.settled.clone();
        }
        for flight in self.flights.values() {
            for run in &flight.batch.runs {
                self.records
                    .get_mut(run.record)
                    .taken
                    .insert(run.from, run.to);
            }
        }
    }

    fn relock_flights(&mut self) {
        let rules = &self.options.rules;
        let mut placed: HashMap<_, (u32, u8)> = HashMap::new();
        for flight in self.flights.values_mut() {
            let mut lanes = BTreeSet::new();
            for (series, _) in &flight.batch.series {
                let (key, number) = *placed.entry(*series).or_insert_with(|| {
                    let labels = Arc::clone(&self.table.get(*series).labels);
                    let separation = rules.separation(&flight.batch.tenant, &labels);
                    let key = self.lanes.key_for_series(separation);
                    let number = rules.lane(&labels);
                    let entry = self.table.get_mut(*series);
                    (entry.key, entry.lane) = (key, number);
                    (key, number)
                });
                lanes.insert(self.lanes.open(key, number));
            }
            for lane in &lanes {
                self.lanes.lock(*lane);
            }
            flight.lanes = lanes.into_iter().collect();
        }
    }

    /// Takes a record's elements that are not in a batch back out: its sender is told to come again.
    pub fn withdraw(&mut self, seq: Seq) {
        let Some(slot) = self.records.slot(seq) else {
            if seq >= self.entered {
                self.absent.insert(seq, Absent::Withheld);
            }
            return;
        };
        if self
            .stalled
            .as_ref()
            .is_some_and(|stalled| stalled.slot == slot)
        {
            self.stalled = None;
            self.lead = self.lead.max(seq.next());
        }
        self.withdraw_whole(slot);
        let records = &self.records;
        let seq_of = |slot: u32| {
            let record: &Record = &records.get(slot).record;
            (record.seq, record.arrived)
        };
        let ordinals = self
            .lanes
            .withdraw(slot, seq_of, &mut self.table, &mut self.nodes);
        let tracked = self.records.get_mut(slot);
        for ordinal in ordinals {
            tracked.taken.remove(ordinal, ordinal + 1);
        }
        tracked.withheld = true;
        self.requeue.retain(|waiting| *waiting != seq);
    }

    /// The slot of a record that is not settled whole.
    pub fn slot_of(&self, seq: Seq) -> Option<u32> {
        self.records.slot(seq)
    }

    /// Its sender was told to come back.
    pub fn is_withheld(&self, slot: u32) -> bool {
        self.records.get(slot).withheld
    }

    /// The lead goes on past a record that was withdrawn while it was being decoded.
    pub fn pass_by(&mut self, seq: Seq) {
        self.lead = self.lead.max(seq.next());
    }

    /// The sender of a withdrawn record is back: what is unsettled of it is queued again.
    pub fn take_over(&mut self, seq: Seq) {
        self.absent.remove(&seq);
        let Some(slot) = self.records.slot(seq) else {
            return;
        };
        let tracked = self.records.get_mut(slot);
        if std::mem::take(&mut tracked.withheld) && seq < self.lead {
            self.requeue.push_back(seq);
        }
    }

    /// The sender of a withdrawn record did not come back in time.
    pub fn expire(&mut self, seq: Seq, log: &dyn Log) {
        if let Some(slot) = self.records.slot(seq) {
            if self.records.get(slot).withheld {
                self.drop_untaken(slot, DropReason::Withdrawn, log);
            }
        } else if let Some(absent) = self.absent.get_mut(&seq) {
            *absent = Absent::Expired;
        }
    }
}
