//! The series table: who each identity is, where it belongs, and what is pending for it.
//!
//! Entries with nothing pending are cache: they are given back first when memory is short, in the order of
//! a clock hand that spares what was used since it last came by.

use std::sync::Arc;

use hashbrown::HashTable;

use super::nodes::NONE;
use crate::model::labels::{Interner, Labels};

/// Index of a series in the table, valid while it has anything pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub u32);

/// One series.
#[derive(Debug)]
pub struct Series {
    /// Keyed hash of labels and tenant.
    pub id: u128,
    /// The labels, shared with batches.
    pub labels: Arc<Labels>,
    /// Separation key.
    pub key: u32,
    /// Lane within its key.
    pub lane: u8,
    /// Used since the clock hand last passed.
    recent: bool,
    /// First of its queued elements.
    pub head: u32,
    /// Last of its queued elements.
    pub tail: u32,
    /// Elements in its lane.
    pub queued: u32,
    /// Elements in batches.
    pub in_flight: u32,
    /// Orders a batch: numbers of the last two label pairs, the last first.
    pub sort: u64,
}

impl Series {
    /// Elements queued or in flight.
    pub fn pending(&self) -> u32 {
        self.queued + self.in_flight
    }
}

/// The table.
#[derive(Default)]
pub struct SeriesTable {
    slots: Vec<Option<Series>>,
    free: Vec<u32>,
    index: HashTable<u32>,
    interner: Interner,
    hand: usize,
    label_bytes: usize,
    evicted: u32,
}

impl SeriesTable {
    /// The series with this identity.
    pub fn find(&mut self, id: u128) -> Option<SeriesRef> {
        let slots = &self.slots;
        let same = |slot: &u32| slots[*slot as usize].as_ref().is_some_and(|s| s.id == id);
        let slot = *self.index.find(id as u64, same)?;
        if let Some(series) = &mut self.slots[slot as usize] {
            series.recent = true;
        }
        Some(SeriesRef(slot))
    }

    /// Interns sorted labels.
    pub fn intern(&mut self, labels: &[(&[u8], &[u8])]) -> Arc<Labels> {
        Arc::new(self.interner.intern(labels))
    }

    /// Adds a series that [`find`](Self::find) does not know.
    pub fn insert(&mut self, id: u128, labels: Arc<Labels>, key: u32, lane: u8) -> SeriesRef {
        let mut last = labels
            .pairs()
            .iter()
            .rev()
            .map(|pair| u64::from(pair.number()));
        let sort = last.next().unwrap_or(0) << 32 | last.next().unwrap_or(0);
        self.label_bytes += labels.heap_bytes();
        let series = Series {
            id,
            labels,
            key,
            lane,
            recent: true,
            head: NONE,
            tail: NONE,
            queued: 0,
            in_flight: 0,
            sort,
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(series);
            slot
        } else {
            self.slots.push(Some(series));
            self.slots.len() as u32 - 1
        };
        let slots = &self.slots;
        let rehash = |slot: &u32| slots[*slot as usize].as_ref().map_or(0, |s| s.id as u64);
        self.index.insert_unique(id as u64, slot, rehash);
        SeriesRef(slot)
    }

    /// A series. Panics on a reference that is no longer valid, which only our own fault could make.
    pub fn get(&self, series: SeriesRef) -> &Series {
        self.slots[series.0 as usize]
            .as_ref()
            .expect("a series with something pending stays")
    }

    /// A series, to be changed.
    pub fn get_mut(&mut self, series: SeriesRef) -> &mut Series {
        self.slots[series.0 as usize]
            .as_mut()
            .expect("a series with something pending stays")
    }

    /// All series.
    pub fn iter(&self) -> impl Iterator<Item = (SeriesRef, &Series)> {
        let slots = self.slots.iter().enumerate();
        slots.filter_map(|(at, slot)| Some((SeriesRef(at as u32), slot.as_ref()?)))
    }

    /// Series known.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// No series at all.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Heap bytes: entries, label sets, interned pairs, index.
    pub fn heap_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Option<Series>>()
            + self.index.capacity() * 5
            + self.label_bytes
            + self.interner.heap_bytes()
    }

    /// Those of them that are in use: places of series that have gone are used again before the table grows.
    pub fn used_bytes(&self) -> usize {
        self.len() * (size_of::<Option<Series>>() + 5)
            + self.label_bytes
            + self.interner.used_bytes()
    }

    /// Gives back series with nothing pending until the table is within `limit` bytes or uses half of that,
    /// looking at each at most twice. `gone` learns the key of each.
    pub fn shrink(&mut self, limit: usize, mut gone: impl FnMut(u32)) {
        let mut looks = 2 * self.slots.len();
        while self.heap_bytes() > limit && self.used_bytes() > limit / 2 && looks > 0 {
            looks -= 1;
            self.hand = (self.hand + 1) % self.slots.len();
            let Some(series) = &mut self.slots[self.hand] else {
                continue;
            };
            if series.pending() > 0 || std::mem::take(&mut series.recent) {
                continue;
            }
            gone(self.remove(SeriesRef(self.hand as u32)));
        }
        if self.evicted > 1000 && self.evicted as usize > self.interner.len() {
            self.interner.sweep();
            self.evicted = 0;
        }
    }

    /// Forgets a series with nothing pending, and says its key.
    pub fn remove(&mut self, series: SeriesRef) -> u32 {
        let slot = series.0;
        let removed = self.slots[slot as usize].take();
        let removed = removed.expect("a known series is removed");
        debug_assert_eq!(
            removed.pending(),
            0,
            "a series with something pending stays"
        );
        let entry = self
            .index
            .find_entry(removed.id as u64, |known| *known == slot);
        if let Ok(entry) = entry {
            entry.remove();
        }
        self.free.push(slot);
        self.label_bytes -= removed.labels.heap_bytes();
        // By value: the pairs can only go with the last reference.
        self.interner.release(removed.labels);
        self.evicted += 1;
        removed.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(table: &mut SeriesTable, n: u32) -> SeriesRef {
        let name = format!("series_{n}");
        let labels = table.intern(&[(b"__name__", name.as_bytes()), (b"job", b"churn")]);
        table.insert(u128::from(n) * 7919, labels, 0, 0)
    }

    #[test]
    fn memory_follows_the_limit_under_churn_and_pending_series_stay() {
        let mut table = SeriesTable::default();
        let kept = add(&mut table, 0);
        table.get_mut(kept).queued = 1;
        let limit = 256 << 10;
        for n in 1..50_000 {
            add(&mut table, n);
            table.shrink(limit, |_| ());
        }
        assert!(table.heap_bytes() <= limit, "{}", table.heap_bytes());
        assert_eq!(table.find(0), Some(kept));
        assert!(
            table.interner.len() <= 2 * table.len() + 1,
            "pairs go with their series"
        );
    }
}
