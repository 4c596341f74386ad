//! One metric through all of its slices: runs that a slice cuts in two are one again. Pure.

use std::collections::{HashMap, HashSet};

use super::diff::{Compared, Run};
use super::series::short;

/// What is known of a metric so far. Slices come in the order of time, with any number of passes over one.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    /// Series of which `--from` has samples.
    from: HashSet<u64>,
    /// Series that only `--to` has.
    only_to: HashSet<u64>,
    /// Series of which something was agreed on.
    agreed: HashSet<u64>,
    /// Runs behind which nothing was agreed on yet, by series and kind.
    held: HashMap<String, [Option<Run>; 3]>,
    done: Vec<(String, Run)>,
}

impl Tracker {
    /// Takes what comparing a slice of a series gave.
    pub(super) fn take(&mut self, series: &str, compared: &Compared) {
        let id = short(series);
        if compared.samples > 0 {
            self.from.insert(id);
        } else if !self.from.contains(&id) {
            self.only_to.insert(id);
        }
        let before = self.agreed.contains(&id);
        if compared.agreed > 0 {
            self.agreed.insert(id);
        }
        if compared.runs.is_empty() && self.held.is_empty() {
            return;
        }
        let mut held = self.held.remove(series).unwrap_or_default();
        for run in &compared.runs {
            let mut run = *run;
            if let Some(begun) = held[run.kind as usize].take() {
                if run.opens {
                    run = joined(&begun, &run);
                } else {
                    self.done.push((
                        series.to_owned(),
                        Run {
                            ends: false,
                            ..begun
                        },
                    ));
                }
            } else {
                run.opens &= !before;
            }
            if run.ends {
                held[run.kind as usize] = Some(run);
            } else {
                self.done.push((series.to_owned(), run));
            }
        }
        if compared.agreed > 0 {
            // What is held from before this slice has something behind it now; what was met in it and is open has not.
            let fresh = |run: &Run| {
                let mut runs = compared.runs.iter();
                runs.any(|new| new.kind == run.kind && new.ends)
            };
            for slot in &mut held {
                if let Some(run) = slot.take_if(|run| !fresh(run)) {
                    self.done
                        .push((series.to_owned(), Run { ends: false, ..run }));
                }
            }
        }
        if held.iter().any(Option::is_some) {
            self.held.insert(series.to_owned(), held);
        }
    }

    /// How many series `--from` has, and how many only `--to` has.
    pub(super) fn series(&self) -> (u64, u64) {
        let only_to = self.only_to.difference(&self.from).count();
        (self.from.len() as u64, only_to as u64)
    }

    /// Series of which `--from` has samples, and `--to` none that agrees.
    pub(super) fn wholly_missing(&self) -> u64 {
        self.from.difference(&self.agreed).count() as u64
    }

    /// All runs, those that are open at both ends last.
    pub(super) fn finish(self) -> Vec<(String, Run)> {
        let mut runs = self.done;
        for (series, held) in self.held {
            runs.extend(held.into_iter().flatten().map(|run| (series.clone(), run)));
        }
        runs.sort_by_key(|(_, run)| (u8::from(run.opens) + u8::from(run.ends), run.first));
        runs
    }
}

fn joined(begun: &Run, run: &Run) -> Run {
    Run {
        first: begun.first,
        samples: begun.samples + run.samples,
        opens: begun.opens,
        step: begun.step.max(run.step),
        values: begun.values.or(run.values),
        ..*run
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::diff::{Rule, compare};
    use super::super::series::{Sample, Value};
    use super::*;

    fn samples(side: &BTreeMap<i64, u8>, after: i64, until: i64) -> Vec<Sample> {
        let inside = side.range(after + 1..=until);
        inside
            .map(|(at, value)| Sample {
                at: *at,
                value: Value::Float(f64::from(*value)),
            })
            .collect()
    }

    fn tracked(
        from: &BTreeMap<i64, u8>,
        to: &BTreeMap<i64, u8>,
        cuts: &BTreeSet<i64>,
    ) -> Vec<(u8, i64, i64, u64, bool, bool)> {
        let mut tracker = Tracker::default();
        let mut after = -1;
        for until in cuts.iter().copied().chain([100]) {
            let (mut a, mut b) = (samples(from, after, until), samples(to, after, until));
            if !(a.is_empty() && b.is_empty()) {
                tracker.take("x", &compare(&mut a, &mut b, Rule::default()));
            }
            after = until;
        }
        let told =
            |(_, r): (String, Run)| (r.kind as u8, r.first, r.last, r.samples, r.opens, r.ends);
        let mut told: Vec<_> = tracker.finish().into_iter().map(told).collect();
        told.sort_unstable();
        told
    }

    #[test]
    fn series_are_counted_by_the_side_that_has_them() {
        let mut tracker = Tracker::default();
        let one = BTreeMap::from([(1, 1)]);
        let mut pass = |series: &str, from: &BTreeMap<i64, u8>, to: &BTreeMap<i64, u8>| {
            let (mut a, mut b) = (samples(from, 0, 9), samples(to, 0, 9));
            tracker.take(series, &compare(&mut a, &mut b, Rule::default()));
        };
        pass("both", &one, &one);
        pass("lost", &one, &BTreeMap::new());
        pass("foreign", &BTreeMap::new(), &one);
        assert_eq!(tracker.series(), (2, 1));
        assert_eq!(tracker.wholly_missing(), 1);
        let runs = tracker.finish();
        assert_eq!(runs.len(), 2);
    }

    proptest! {
        /// However the window is cut into slices, the same runs come of it.
        #[test]
        fn slices_leave_no_trace(
            from in proptest::collection::btree_map(0i64..60, 0u8..2, 0..30),
            to in proptest::collection::btree_map(0i64..60, 0u8..2, 0..30),
            cuts in proptest::collection::btree_set(0i64..60, 0..6),
        ) {
            let whole = tracked(&from, &to, &BTreeSet::new());
            prop_assert_eq!(tracked(&from, &to, &cuts), whole);
        }
    }
}
