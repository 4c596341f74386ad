//! What readers used last: where records stand, and open files. Bounded.

use std::collections::VecDeque;
use std::sync::Arc;

use super::fs::File;
use super::segment::Entry;

/// Bytes of entries kept, of at least one segment.
const INDEX_BYTES: usize = 4 << 20;
/// Files kept open.
const FILES: usize = 16;
/// Entries and files that were used last, the latest at the end.
#[derive(Default)]
pub(super) struct Cache {
    indexes: VecDeque<(u64, Arc<Vec<Entry>>)>,
    files: VecDeque<(u64, Arc<dyn File>)>,
}

impl Cache {
    pub(super) fn bytes(&self) -> usize {
        let indexes = self
            .indexes
            .iter()
            .map(|(_, index)| size_of_val(index.as_slice()));
        indexes.sum()
    }

    pub(super) fn index(&mut self, key: u64) -> Option<Arc<Vec<Entry>>> {
        let place = self.indexes.iter().position(|(held, _)| *held == key)?;
        let held = self.indexes.remove(place)?;
        self.indexes.push_back(held);
        self.indexes.back().map(|(_, index)| Arc::clone(index))
    }

    pub(super) fn keep_index(&mut self, key: u64, index: Arc<Vec<Entry>>) {
        self.indexes.retain(|(held, _)| *held != key);
        self.indexes.push_back((key, index));
        while self.indexes.len() > 1 && self.bytes() > INDEX_BYTES {
            self.indexes.pop_front();
        }
    }

    pub(super) fn file(&mut self, key: u64) -> Option<Arc<dyn File>> {
        let place = self.files.iter().position(|(held, _)| *held == key)?;
        let held = self.files.remove(place)?;
        self.files.push_back(held);
        self.files.back().map(|(_, file)| Arc::clone(file))
    }

    pub(super) fn keep_file(&mut self, key: u64, file: Arc<dyn File>) {
        self.files.retain(|(held, _)| *held != key);
        self.files.push_back((key, file));
        if self.files.len() > FILES {
            self.files.pop_front();
        }
    }

    pub(super) fn forget(&mut self, key: u64) {
        self.indexes.retain(|(held, _)| *held != key);
        self.files.retain(|(held, _)| *held != key);
    }
}
