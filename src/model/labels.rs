//! Label sets with their name/value pairs interned.
//!
//! A pair is kept once, in the bytes that Remote-Write 1.0 sends for it, so writing a series is a row of
//! copies. Label sets share pairs by reference count: a batch can be encoded without a lock, and a pair
//! disappears with the last series that holds it.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;

use crate::wire::proto::{put_label, varint_len};

/// One label, `name="value"`.
#[derive(Debug)]
pub struct Pair {
    /// The label as field 1 of a 1.0 series, key and length included.
    encoded: Box<[u8]>,
    /// Length of the name, the first string in `encoded`.
    name_len: u32,
    /// Length of the value, which ends `encoded`.
    value_len: u32,
    /// Small number, unique among the pairs alive in one interner.
    number: u32,
}

impl Pair {
    fn new(name: &[u8], value: &[u8], number: u32) -> Self {
        let mut encoded = Vec::with_capacity(name.len() + value.len() + 8);
        put_label(&mut encoded, name, value);
        Self {
            encoded: encoded.into_boxed_slice(),
            name_len: name.len() as u32,
            value_len: value.len() as u32,
            number,
        }
    }

    /// The label as it stands in a 1.0 series.
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// The label's name.
    pub fn name(&self) -> &[u8] {
        let value = match self.value_len as usize {
            0 => 0,
            n => 1 + varint_len(n as u64) + n,
        };
        let end = self.encoded.len() - value;
        &self.encoded[end - self.name_len as usize..end]
    }

    /// The label's value.
    pub fn value(&self) -> &[u8] {
        &self.encoded[self.encoded.len() - self.value_len as usize..]
    }

    /// A number below the interner's high-water mark, unique among its live pairs.
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// A label set, sorted by name, names unique.
#[derive(Debug)]
pub struct Labels {
    pairs: Box<[Arc<Pair>]>,
    encoded_len: u32,
    /// Which pair is `__name__`.
    metric: Option<u32>,
}

impl Labels {
    /// The `__name__` pair, if the set has one.
    pub fn metric(&self) -> Option<&Arc<Pair>> {
        self.metric.map(|place| &self.pairs[place as usize])
    }

    /// The pairs, sorted by name.
    pub fn pairs(&self) -> &[Arc<Pair>] {
        &self.pairs
    }

    /// Bytes of all labels in a 1.0 series.
    pub fn encoded_len(&self) -> usize {
        self.encoded_len as usize
    }

    /// The value of a label; `None` when the set lacks it.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let place = self
            .pairs
            .binary_search_by(|pair| pair.name().cmp(name))
            .ok()?;
        Some(self.pairs[place].value())
    }

    /// Heap bytes of the set itself, without its shared pairs.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + 16 + self.pairs.len() * size_of::<Arc<Pair>>()
    }
}

/// Keeps each pair once.
#[derive(Default)]
pub struct Interner {
    table: HashTable<Arc<Pair>>,
    hasher: RandomState,
    free: Vec<u32>,
    next: u32,
    bytes: usize,
}

impl Interner {
    /// The label set with these sorted labels, sharing what is known.
    pub fn intern(&mut self, labels: &[(&[u8], &[u8])]) -> Labels {
        let pairs: Box<[_]> = labels
            .iter()
            .map(|(name, value)| self.pair(name, value))
            .collect();
        let encoded_len = pairs.iter().map(|pair| pair.encoded.len() as u32).sum();
        let metric = labels
            .iter()
            .position(|label| label.0 == b"__name__")
            .map(|at| at as u32);
        Labels {
            pairs,
            encoded_len,
            metric,
        }
    }

    fn pair(&mut self, name: &[u8], value: &[u8]) -> Arc<Pair> {
        let hash = self.hasher.hash_one((name, value));
        let same = |pair: &Arc<Pair>| pair.name() == name && pair.value() == value;
        if let Some(known) = self.table.find(hash, same) {
            return Arc::clone(known);
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        let pair = Arc::new(Pair::new(name, value, number));
        self.bytes += pair_bytes(&pair);
        let hasher = &self.hasher;
        let rehash = |pair: &Arc<Pair>| hasher.hash_one((pair.name(), pair.value()));
        self.table.insert_unique(hash, Arc::clone(&pair), rehash);
        pair
    }

    /// Gives a label set back; its pairs that nobody else holds are forgotten.
    pub fn release(&mut self, labels: Arc<Labels>) {
        let Ok(labels) = Arc::try_unwrap(labels) else {
            return;
        };
        for pair in labels.pairs {
            // Two: this set's, and the table's own.
            if Arc::strong_count(&pair) > 2 {
                continue;
            }
            let hash = self.hasher.hash_one((pair.name(), pair.value()));
            let found = self
                .table
                .find_entry(hash, |known| Arc::ptr_eq(known, &pair));
            if let Ok(entry) = found {
                self.bytes -= pair_bytes(&pair);
                self.free.push(pair.number);
                entry.remove();
            }
        }
    }

    /// Forgets pairs that nobody holds any more: those whose last set went with a batch.
    pub fn sweep(&mut self) {
        let (free, bytes) = (&mut self.free, &mut self.bytes);
        self.table.retain(|pair| {
            let held = Arc::strong_count(pair) > 1;
            if !held {
                *bytes -= pair_bytes(pair);
                free.push(pair.number);
            }
            held
        });
    }

    /// Pairs kept.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// No pair at all.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Heap bytes in use: those of the table's free places left out.
    pub fn used_bytes(&self) -> usize {
        self.bytes + self.table.len() * 9
    }

    /// Heap bytes held by the pairs and the table.
    pub fn heap_bytes(&self) -> usize {
        self.bytes + self.table.capacity() * 9
    }
}

fn pair_bytes(pair: &Pair) -> usize {
    // The Arc's two counters, the struct, and its bytes rounded up as an allocator does.
    16 + size_of::<Pair>() + pair.encoded.len().next_multiple_of(16)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Text = &'static [u8];

    #[test]
    fn equal_pairs_are_kept_once_and_forgotten_with_their_last_set() {
        let mut interner = Interner::default();
        let long = "v".repeat(300);
        let first = Arc::new(interner.intern(&[
            (b"__name__", b"up"),
            (b"empty", b""),
            (b"job", b"node"),
            (b"long", long.as_bytes()),
        ]));
        let both: [(Text, Text); 2] = [(b"__name__", b"up"), (b"job", b"dcgm")];
        let second = Arc::new(interner.intern(&both));
        assert_eq!(interner.len(), 5);
        assert!(Arc::ptr_eq(&first.pairs()[0], &second.pairs()[0]));
        assert_eq!(first.get(b"job"), Some(&b"node"[..]));
        assert_eq!(first.get(b"empty"), Some(&b""[..]));
        assert_eq!(first.get(b"long"), Some(long.as_bytes()));
        assert_eq!(first.get(b"jo"), None);
        assert_eq!(first.pairs()[3].name(), b"long");
        assert_eq!(second.encoded_len(), 16 + 13);
        interner.release(first);
        assert_eq!(interner.len(), 2);
        interner.release(second);
        assert!(interner.is_empty());
        assert_eq!(interner.bytes, 0);
    }

    #[test]
    fn a_set_still_in_a_batch_keeps_its_pairs_alive() {
        let mut interner = Interner::default();
        let set = Arc::new(interner.intern(&[(b"a", b"1")]));
        let in_batch = Arc::clone(&set);
        interner.release(set);
        assert_eq!(in_batch.get(b"a"), Some(&b"1"[..]));
        assert_eq!(interner.len(), 1);
        drop(in_batch);
        interner.sweep();
        assert!(interner.is_empty());
    }
}
