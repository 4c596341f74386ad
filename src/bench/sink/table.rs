//! Which samples were accepted: for each series the newest one, and runs of timestamps.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Timestamps that follow each other at one distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) first: i64,
    pub(super) last: i64,
    /// 0 while there is only one.
    pub(super) step: i64,
}

impl Run {
    fn one(timestamp_ms: i64) -> Self {
        Self {
            first: timestamp_ms,
            last: timestamp_ms,
            step: 0,
        }
    }

    fn contains(&self, timestamp_ms: i64) -> bool {
        if timestamp_ms == self.first {
            return true;
        }
        let inside = timestamp_ms > self.first && timestamp_ms <= self.last;
        inside && (timestamp_ms - self.first) % self.step == 0
    }

    fn extend(&mut self, timestamp_ms: i64) -> bool {
        let step = timestamp_ms - self.last;
        if step <= 0 || (self.step != 0 && step != self.step) {
            return false;
        }
        self.step = step;
        self.last = timestamp_ms;
        true
    }

    /// A whole number of steps from the first to the last.
    pub(super) fn is_sound(&self) -> bool {
        let length = self.last.checked_sub(self.first);
        match (length, self.step) {
            (Some(0), 0) => true,
            (Some(length), step) => step > 0 && length > 0 && length % step == 0,
            (None, _) => false,
        }
    }

    fn len(&self) -> u64 {
        if self.step == 0 {
            1
        } else {
            ((self.last - self.first) / self.step).cast_unsigned() + 1
        }
    }
}

/// What a new element is to its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Newer than all before.
    InOrder,
    /// Accepted for the first time, although a newer one was accepted before.
    Late,
    /// Known, with the same bits; of older samples than the newest, only the time is compared.
    Duplicate,
    /// Known, with other bits.
    Conflict,
}

/// One series.
#[derive(Debug)]
struct Entry {
    newest_ms: i64,
    newest_bits: u64,
    runs: Vec<Run>,
}

impl Entry {
    /// Runs stand in the order of arrival; the latest are looked at first.
    fn seen(&self, timestamp_ms: i64) -> bool {
        self.runs.iter().rev().any(|run| run.contains(timestamp_ms))
    }

    fn note(&mut self, timestamp_ms: i64) {
        if !self
            .runs
            .last_mut()
            .is_some_and(|run| run.extend(timestamp_ms))
        {
            self.runs.push(Run::one(timestamp_ms));
        }
    }
}

/// Keys are hashes already.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

/// All series of a receiver. About 100 bytes each while samples come in order and at one distance.
#[derive(Default)]
pub(super) struct Table {
    entries: HashMap<u128, Entry, BuildHasherDefault<KeyHasher>>,
    /// Remember every timestamp, not only the newest.
    remember: bool,
}

impl Table {
    pub(super) fn new(remember: bool) -> Self {
        Self {
            entries: HashMap::default(),
            remember,
        }
    }

    pub(super) fn series(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Newest accepted sample of a series: timestamp and bits.
    pub(super) fn newest(&self, key: u128) -> Option<(i64, u64)> {
        self.entries
            .get(&key)
            .map(|entry| (entry.newest_ms, entry.newest_bits))
    }

    /// Whether a sample was accepted; without memory of all timestamps only the newest is known.
    pub(super) fn has(&self, key: u128, timestamp_ms: i64) -> bool {
        self.entries
            .get(&key)
            .is_some_and(|entry| entry.newest_ms == timestamp_ms || entry.seen(timestamp_ms))
    }

    /// Every series with the runs of its timestamps, in the order of arrival.
    pub(super) fn series_runs(&self) -> impl Iterator<Item = (u128, &[Run])> {
        let entries = self.entries.iter();
        entries.map(|(key, entry)| (*key, entry.runs.as_slice()))
    }

    /// Puts a series back as [`Self::series_runs`] gave it; the bits of its samples are not known any more.
    pub(super) fn restore(&mut self, key: u128, runs: Vec<Run>) {
        let newest_ms = runs.iter().map(|run| run.last).max().unwrap_or(i64::MIN);
        let entry = Entry {
            newest_ms,
            newest_bits: 0,
            runs,
        };
        self.entries.insert(key, entry);
    }

    /// Distinct samples of all series; 0 without memory of timestamps.
    pub(super) fn distinct(&self) -> u64 {
        self.entries
            .values()
            .flat_map(|entry| &entry.runs)
            .map(Run::len)
            .sum()
    }

    /// Accepts a sample. Without memory of timestamps an older one is always [`Place::Late`].
    pub(super) fn accept(&mut self, key: u128, timestamp_ms: i64, bits: u64) -> Place {
        let Some(entry) = self.entries.get_mut(&key) else {
            let runs = if self.remember {
                vec![Run::one(timestamp_ms)]
            } else {
                Vec::new()
            };
            let entry = Entry {
                newest_ms: timestamp_ms,
                newest_bits: bits,
                runs,
            };
            self.entries.insert(key, entry);
            return Place::InOrder;
        };
        if timestamp_ms == entry.newest_ms {
            let same = bits == entry.newest_bits;
            return if same {
                Place::Duplicate
            } else {
                Place::Conflict
            };
        }
        if timestamp_ms < entry.newest_ms {
            if entry.seen(timestamp_ms) {
                return Place::Duplicate;
            }
            if self.remember {
                entry.note(timestamp_ms);
            }
            return Place::Late;
        }
        entry.newest_ms = timestamp_ms;
        entry.newest_bits = bits;
        if self.remember {
            entry.note(timestamp_ms);
        }
        Place::InOrder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(table: &mut Table, timestamps: &[i64]) -> Vec<Place> {
        timestamps
            .iter()
            .map(|at| table.accept(1, *at, 7))
            .collect()
    }

    #[test]
    fn order_duplicates_and_conflicts_are_told_apart() {
        use Place::{Conflict, Duplicate, InOrder, Late};
        let mut table = Table::new(true);
        let places = accept(&mut table, &[10, 20, 40, 40, 20, 30, 30, 15, 50]);
        let expected = [
            InOrder, InOrder, InOrder, Duplicate, Duplicate, Late, Duplicate, Late, InOrder,
        ];
        assert_eq!(places, expected);
        assert_eq!(table.accept(1, 50, 8), Conflict);
        assert_eq!(table.accept(2, 5, 8), InOrder);
        assert_eq!((table.series(), table.distinct()), (2, 7));
        assert!([10, 15, 20, 30, 40, 50].iter().all(|at| table.has(1, *at)));
        assert!([9, 25, 35, 45, 60].iter().all(|at| !table.has(1, *at)));
    }

    #[test]
    fn steady_samples_stay_one_run() {
        let mut table = Table::new(true);
        let steady: Vec<i64> = (0..1_000).map(|k| 100 + k * 15).collect();
        accept(&mut table, &steady);
        assert_eq!((table.entries[&1].runs.len(), table.distinct()), (1, 1_000));
    }

    #[test]
    fn without_memory_only_the_newest_is_known() {
        let mut table = Table::new(false);
        let places = accept(&mut table, &[10, 20, 20, 10]);
        assert_eq!(
            places,
            [
                Place::InOrder,
                Place::InOrder,
                Place::Duplicate,
                Place::Late
            ]
        );
        assert!(table.has(1, 20) && !table.has(1, 10));
    }
}
