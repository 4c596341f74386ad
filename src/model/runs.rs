//! Sets of ordinals, kept as sorted runs: what a queue has taken of a record, and what is settled.

/// A set of ordinals as disjoint, sorted, non-adjacent runs `[from, to)`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunSet {
    runs: Vec<(u32, u32)>,
}

impl RunSet {
    /// The set `from..to`.
    pub fn range(from: u32, to: u32) -> Self {
        let mut set = Self::default();
        set.insert(from, to);
        set
    }

    /// Adds `from..to`; what is there already stays.
    pub fn insert(&mut self, from: u32, to: u32) {
        if from >= to {
            return;
        }
        // Elements come mostly in rising order: the last run grows.
        if let Some(last) = self.runs.last_mut() {
            if from >= last.0 && from <= last.1 {
                last.1 = last.1.max(to);
                return;
            }
            if from > last.1 {
                self.runs.push((from, to));
                return;
            }
        } else {
            self.runs.push((from, to));
            return;
        }
        let first = self.runs.partition_point(|run| run.1 < from);
        let end = self.runs.partition_point(|run| run.0 <= to);
        if first == end {
            self.runs.insert(first, (from, to));
        } else {
            let merged = (from.min(self.runs[first].0), to.max(self.runs[end - 1].1));
            self.runs[first] = merged;
            self.runs.drain(first + 1..end);
        }
    }

    /// Removes `from..to`.
    pub fn remove(&mut self, from: u32, to: u32) {
        if from >= to {
            return;
        }
        let first = self.runs.partition_point(|run| run.1 <= from);
        let end = self.runs.partition_point(|run| run.0 < to);
        if first >= end {
            return;
        }
        let left = (self.runs[first].0, from);
        let right = (to, self.runs[end - 1].1);
        let rest = [left, right].into_iter().filter(|run| run.0 < run.1);
        self.runs.splice(first..end, rest);
    }

    /// Is this ordinal in the set?
    pub fn contains(&self, ordinal: u32) -> bool {
        let place = self.runs.partition_point(|run| run.1 <= ordinal);
        self.runs.get(place).is_some_and(|run| run.0 <= ordinal)
    }

    /// Number of ordinals in the set.
    pub fn len(&self) -> u32 {
        self.runs.iter().map(|(from, to)| to - from).sum()
    }

    /// No ordinal at all.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Holds every ordinal of `0..n`.
    pub fn covers(&self, n: u32) -> bool {
        n == 0
            || self
                .runs
                .first()
                .is_some_and(|run| run.0 == 0 && run.1 >= n)
    }

    /// The runs, in rising order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.runs.iter().copied()
    }

    /// The runs of `0..n` that are not in the set.
    pub fn gaps(&self, n: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut at = 0;
        let ends = self.runs.iter().copied().chain(std::iter::once((n, n)));
        ends.filter_map(move |(from, to)| {
            let gap = (at, from.min(n));
            at = to;
            (gap.0 < gap.1).then_some(gap)
        })
    }

    /// Heap bytes held: what the memory budget is charged.
    pub fn heap_bytes(&self) -> usize {
        self.runs.capacity() * size_of::<(u32, u32)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_run_set_behaves_as_a_set_of_numbers(
            steps in prop::collection::vec((any::<bool>(), 0u32..60, 0u32..12), 1..60),
        ) {
            let (mut set, mut model) = (RunSet::default(), BTreeSet::new());
            for (add, from, length) in steps {
                let to = from + length;
                if add {
                    set.insert(from, to);
                    model.extend(from..to);
                } else {
                    set.remove(from, to);
                    model.retain(|o| !(from..to).contains(o));
                }
                let listed: Vec<u32> = set.iter().flat_map(|(a, b)| a..b).collect();
                prop_assert_eq!(&listed, &model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(set.len() as usize, model.len());
                let gaps: Vec<u32> = set.gaps(40).flat_map(|(a, b)| a..b).collect();
                prop_assert_eq!(gaps, (0..40).filter(|o| !model.contains(o)).collect::<Vec<_>>());
                prop_assert_eq!(set.covers(20), (0..20).all(|o| model.contains(&o)));
                prop_assert!((0..70).all(|o| set.contains(o) == model.contains(&o)));
                let runs: Vec<_> = set.iter().collect();
                prop_assert!(runs.windows(2).all(|w| w[0].1 < w[1].0), "adjacent runs merge");
            }
        }
    }
}
