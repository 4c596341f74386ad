//! What a queue has taken and settled of each record it has come to.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::batch::Run;
use crate::log::{Record, Seq};
use crate::model::counts::Counts;
use crate::model::runs::RunSet;

/// A record that is not settled whole.
#[derive(Debug)]
pub struct Tracked {
    /// The record.
    pub record: Arc<Record>,
    /// Ordinals in a lane, in flight or settled; those of skipped series from the beginning.
    pub taken: RunSet,
    /// Ordinals settled; those of skipped series from the beginning.
    pub settled: RunSet,
    /// Elements that the receiver refused for good.
    pub refused: Counts,
    /// Its message for the first of them.
    pub message: Option<String>,
    /// Its body stands in a line or is in flight, whole: it stays until that is settled, though it may hold no element.
    pub held: bool,
    /// The receiver does not take this kind of message: its sender is to choose another.
    pub unsupported: bool,
    /// Its sender was told to come back: nothing more of it is taken until it does.
    pub withheld: bool,
    /// Its metadata has been read: that happens once, however often its elements are.
    pub read: bool,
}

impl Tracked {
    /// Elements not taken, by kind.
    pub fn untaken(&self) -> Counts {
        let record = &self.record;
        if self.taken.covers(record.ordinals()) {
            return Counts::default();
        }
        let gaps = self.taken.gaps(record.ordinals());
        gaps.map(|(from, to)| record.counts.in_range(from, to))
            .sum()
    }

    /// It has to be read: for elements to take, or because it never was.
    pub fn wants_reading(&self) -> bool {
        !self.withheld && (!self.read || !self.is_taken())
    }

    /// Nothing is left to take.
    pub fn is_taken(&self) -> bool {
        self.taken.covers(self.record.ordinals())
    }
}

/// All records between cursor and lead that are not settled whole.
#[derive(Default)]
pub struct Records {
    slots: Vec<Option<Tracked>>,
    free: Vec<u32>,
    by_seq: BTreeMap<Seq, u32>,
}

impl Records {
    /// Begins to track a record.
    pub fn enter(&mut self, record: Arc<Record>) -> u32 {
        let seq = record.seq;
        let tracked = Tracked {
            taken: record.skipped.clone(),
            settled: record.skipped.clone(),
            record,
            refused: Counts::default(),
            message: None,
            held: false,
            unsupported: false,
            withheld: false,
            read: false,
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(tracked);
            slot
        } else {
            self.slots.push(Some(tracked));
            self.slots.len() as u32 - 1
        };
        self.by_seq.insert(seq, slot);
        slot
    }

    /// The slot of a record.
    pub fn slot(&self, seq: Seq) -> Option<u32> {
        self.by_seq.get(&seq).copied()
    }

    /// A tracked record; a slot is valid until its record is settled whole.
    pub fn get(&self, slot: u32) -> &Tracked {
        self.slots[slot as usize]
            .as_ref()
            .expect("a record with anything unsettled is tracked")
    }

    /// A tracked record, to be changed.
    pub fn get_mut(&mut self, slot: u32) -> &mut Tracked {
        self.slots[slot as usize]
            .as_mut()
            .expect("a record with anything unsettled is tracked")
    }

    /// The cursor: the oldest record with anything unsettled.
    pub fn cursor(&self) -> Option<Seq> {
        self.by_seq.first_key_value().map(|(seq, _)| *seq)
    }

    /// The first tracked record at or after `seq`.
    pub fn next(&self, seq: Seq) -> Option<Seq> {
        self.by_seq.range(seq..).next().map(|(seq, _)| *seq)
    }

    /// The first record at or after `seq` with anything to take.
    pub fn next_untaken(&self, seq: Seq) -> Option<(Seq, u32)> {
        let mut later = self.by_seq.range(seq..).map(|(seq, slot)| (*seq, *slot));
        later.find(|(_, slot)| !self.get(*slot).is_taken() && !self.get(*slot).withheld)
    }

    /// All tracked records, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Tracked)> {
        self.by_seq.values().map(|slot| (*slot, self.get(*slot)))
    }

    /// Marks a run settled; `true` when that was the record's last.
    pub fn settle(&mut self, run: Run) -> bool {
        let tracked = self.get_mut(run.record);
        tracked.settled.insert(run.from, run.to);
        tracked.settled.covers(tracked.record.ordinals())
    }

    /// Forgets a record that is settled whole.
    pub fn leave(&mut self, slot: u32) -> Tracked {
        let gone = self.slots[slot as usize]
            .take()
            .expect("a tracked record leaves once");
        self.by_seq.remove(&gone.record.seq);
        self.free.push(slot);
        gone
    }

    /// Elements not taken, by kind, over all tracked records.
    pub fn untaken(&self) -> Counts {
        self.slots.iter().flatten().map(Tracked::untaken).sum()
    }

    /// When the oldest record with anything untaken arrived.
    pub fn oldest_untaken(&self) -> Option<tokio::time::Instant> {
        let slot = self
            .by_seq
            .values()
            .find(|slot| !self.get(**slot).is_taken())?;
        Some(self.get(*slot).record.arrived)
    }

    /// Records tracked.
    pub fn len(&self) -> usize {
        self.by_seq.len()
    }

    /// Nothing is tracked.
    pub fn is_empty(&self) -> bool {
        self.by_seq.is_empty()
    }

    /// Slots of the tracked records in this range.
    pub fn between(&self, from: Seq, to: Seq) -> Vec<u32> {
        self.by_seq.range(from..to).map(|(_, slot)| *slot).collect()
    }

    /// Heap bytes of the run sets.
    pub fn heap_bytes(&self) -> usize {
        let sets = self.slots.iter().flatten();
        let runs: usize = sets
            .map(|t| t.taken.heap_bytes() + t.settled.heap_bytes())
            .sum();
        runs + self.slots.capacity() * size_of::<Option<Tracked>>()
    }

    /// Those of them that are in use: slots of records that have left are free for others.
    pub fn used_bytes(&self) -> usize {
        self.heap_bytes() - (self.slots.capacity() - self.len()) * size_of::<Option<Tracked>>()
    }
}
