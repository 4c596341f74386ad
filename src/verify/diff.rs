//! The samples of one series on both sides, compared. Pure.

use serde::Serialize;

use super::series::{Sample, Value};

/// In what the sides differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// `--from` has a sample that `--to` lacks.
    Missing,
    /// `--to` has a sample that `--from` lacks.
    Extra,
    /// Both have one, with different values.
    Different,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Missing, Self::Extra, Self::Different];
}

/// Neighbouring samples of a series that differ in the same way: between them is none on which both sides
/// agree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub(super) kind: Kind,
    /// Timestamps of the first and the last of them.
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) samples: u64,
    /// Nothing agreed on stands before it.
    pub(super) opens: bool,
    /// Nothing agreed on stands behind it.
    pub(super) ends: bool,
    /// Time between two samples of the series, in milliseconds; 0 when it is not known.
    pub(super) step: i64,
    /// Of different values, the first pair.
    pub(super) values: Option<(Value, Value)>,
}

/// What comparing a series gave.
#[derive(Debug, Default)]
pub(super) struct Compared {
    /// Samples of `--from`; of a timestamp one only.
    pub(super) samples: u64,
    /// Of them, those that both sides have.
    pub(super) agreed: u64,
    /// Samples that `--to` holds more than once.
    pub(super) repeated: u64,
    pub(super) runs: Vec<Run>,
}

/// When two values are the same.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rule {
    /// Relative difference that is none.
    pub(super) tolerance: f64,
    /// One side is `VictoriaMetrics`, which keeps the digits of a value only as far as the largest value beside it
    /// allows.
    pub(super) rounds: bool,
}

/// Of a series' largest value, what a store that rounds may lose of a small one: 17 digits.
const BESIDE_LARGEST: f64 = 1e-17;
/// Below it such a store keeps nothing.
const LEAST: f64 = 1e-290;

impl Rule {
    fn same(self, a: Value, b: Value, largest: f64) -> bool {
        match (a, b) {
            (Value::Float(a), Value::Float(b)) => self.same_floats(a, b, largest),
            (Value::Histogram(a), Value::Histogram(b)) => a == b,
            _ => false,
        }
    }

    fn same_floats(self, a: f64, b: f64, largest: f64) -> bool {
        // One NaN is as good as another, infinities have no distance, and -0 is 0.
        let zero_alike = |value: f64| (value + 0.0).to_bits();
        if zero_alike(a) == zero_alike(b) || (a.is_nan() && b.is_nan()) {
            return true;
        }
        let rounded = if self.rounds {
            (largest * BESIDE_LARGEST).max(LEAST)
        } else {
            0.0
        };
        let allowed = (a.abs() * self.tolerance).max(rounded);
        allowed.is_finite() && (a - b).abs() <= allowed
    }
}

/// Compares the samples of a series; they may come in any order.
pub(super) fn compare(from: &mut [Sample], to: &mut [Sample], rule: Rule) -> Compared {
    for side in [&mut *from, &mut *to] {
        if !side.is_sorted_by_key(|sample| sample.at) {
            side.sort_by_key(|sample| sample.at);
        }
    }
    let largest = if rule.rounds { largest(from) } else { 0.0 };
    // Holes are in the other side as a rule.
    let step = if from.len() > 1 { step(from) } else { step(to) };
    let mut found = Compared::default();
    let mut open: [Option<Run>; 3] = [None; 3];
    let (mut from, mut to) = (&*from, &*to);
    while let Some(at) = earliest(from, to) {
        let here = take_while_at(&mut from, at);
        let there = take_while_at(&mut to, at);
        found.samples += u64::from(!here.is_empty());
        found.repeated += (there.len() as u64).saturating_sub(1);
        let kind = match (here, there) {
            (_, []) => Kind::Missing,
            ([], _) => Kind::Extra,
            _ => {
                let pairs = here
                    .iter()
                    .flat_map(|a| there.iter().map(move |b| (a.value, b.value)));
                if pairs.into_iter().any(|(a, b)| rule.same(a, b, largest)) {
                    let closed = open.iter_mut().filter_map(Option::take);
                    found
                        .runs
                        .extend(closed.map(|run| Run { ends: false, ..run }));
                    found.agreed += 1;
                    continue;
                }
                Kind::Different
            }
        };
        let run = open[kind as usize].get_or_insert(Run {
            kind,
            first: at,
            last: at,
            samples: 0,
            opens: found.agreed == 0,
            ends: true,
            step,
            values: here
                .first()
                .zip(there.first())
                .map(|(a, b)| (a.value, b.value)),
        });
        run.last = at;
        run.samples += 1;
    }
    found.runs.extend(open.into_iter().flatten());
    found
}

fn earliest(from: &[Sample], to: &[Sample]) -> Option<i64> {
    let at = |side: &[Sample]| side.first().map(|sample| sample.at);
    match (at(from), at(to)) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

fn take_while_at<'s>(samples: &mut &'s [Sample], at: i64) -> &'s [Sample] {
    let end = samples.iter().take_while(|sample| sample.at == at).count();
    let (taken, rest) = samples.split_at(end);
    *samples = rest;
    taken
}

fn largest(samples: &[Sample]) -> f64 {
    let finite = samples.iter().filter_map(|sample| match sample.value {
        Value::Float(value) if value.is_finite() => Some(value.abs()),
        _ => None,
    });
    finite.fold(0.0, f64::max)
}

fn step(samples: &[Sample]) -> i64 {
    match samples {
        [first, .., last] => {
            let steps = i64::try_from(samples.len() - 1).unwrap_or(i64::MAX);
            (last.at - first.at) / steps
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn floats(samples: &[(i64, f64)]) -> Vec<Sample> {
        let sample = |&(at, value): &(i64, f64)| Sample {
            at,
            value: Value::Float(value),
        };
        samples.iter().map(sample).collect()
    }

    fn told(compared: &Compared) -> Vec<(Kind, i64, i64, u64, bool, bool)> {
        let run = |run: &Run| {
            (
                run.kind,
                run.first,
                run.last,
                run.samples,
                run.opens,
                run.ends,
            )
        };
        let mut runs: Vec<_> = compared.runs.iter().map(run).collect();
        runs.sort();
        runs
    }

    #[test]
    fn a_hole_is_one_run_with_what_stands_around_it() {
        let all: Vec<_> = (0..10).map(|n| (n * 10, 1.0)).collect();
        let hole: Vec<_> = all
            .iter()
            .copied()
            .filter(|(at, _)| !(30..60).contains(at))
            .collect();
        let found = compare(&mut floats(&all), &mut floats(&hole), Rule::default());
        assert_eq!(told(&found), [(Kind::Missing, 30, 50, 3, false, false)]);
        assert_eq!((found.samples, found.agreed), (10, 7));
        assert_eq!(found.runs[0].step, 10);
        // And seen from the other side.
        let found = compare(&mut floats(&hole), &mut floats(&all), Rule::default());
        assert_eq!(told(&found), [(Kind::Extra, 30, 50, 3, false, false)]);
    }

    #[test]
    fn what_is_nowhere_on_the_other_side_is_open_at_both_ends() {
        let found = compare(
            &mut floats(&[(20, 1.0), (10, 1.0)]),
            &mut [],
            Rule::default(),
        );
        assert_eq!(told(&found), [(Kind::Missing, 10, 20, 2, true, true)]);
        let found = compare(
            &mut floats(&[(10, 1.0), (20, 1.0)]),
            &mut floats(&[(20, 1.0)]),
            Rule::default(),
        );
        assert_eq!(told(&found), [(Kind::Missing, 10, 10, 1, true, false)]);
    }

    #[test]
    fn a_sample_that_came_twice_is_counted_and_no_difference() {
        let mut to = floats(&[(10, 1.0), (10, 1.0), (10, 3.0), (20, 2.0)]);
        let found = compare(
            &mut floats(&[(10, 1.0), (20, 2.0)]),
            &mut to,
            Rule::default(),
        );
        assert!(found.runs.is_empty());
        assert_eq!((found.agreed, found.repeated), (2, 2));
    }

    #[test]
    fn a_moved_sample_is_missing_and_extra_and_a_changed_one_different() {
        let mut from = floats(&[(10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0)]);
        let mut to = floats(&[(10, 1.0), (21, 2.0), (30, 3.5), (40, 4.0)]);
        let found = compare(&mut from, &mut to, Rule::default());
        assert_eq!(
            told(&found),
            [
                (Kind::Missing, 20, 20, 1, false, false),
                (Kind::Extra, 21, 21, 1, false, false),
                (Kind::Different, 30, 30, 1, false, false),
            ]
        );
        let values = found.runs.iter().find_map(|run| run.values);
        assert!(matches!(
            values,
            Some((Value::Float(3.0), Value::Float(3.5)))
        ));
    }

    #[test]
    fn values_are_the_same_by_their_meaning_and_within_the_tolerance_asked_for() {
        let exact = Rule::default();
        let rounding = Rule {
            tolerance: 2e-12,
            rounds: true,
        };
        for (a, b, largest, same, same_rounded) in [
            (f64::NAN, f64::NAN, 0.0, true, true),
            (0.0, -0.0, 0.0, true, true),
            (f64::INFINITY, f64::INFINITY, 1.0, true, true),
            (f64::INFINITY, f64::NEG_INFINITY, 1.0, false, false),
            (f64::INFINITY, 1.0, 1.0, false, false),
            (1.0, f64::NAN, 1.0, false, false),
            (0.333_333_333_333_333_3, 0.333_333_333_333, 0.4, false, true),
            (1.0, 1.000_000_001, 1.0, false, false),
            (1e-5, 0.0, 1e15, false, true),
            (1e-5, 0.0, 1.0, false, false),
        ] {
            let of = |rule: Rule| rule.same(Value::Float(a), Value::Float(b), largest);
            assert_eq!((of(exact), of(rounding)), (same, same_rounded), "{a} {b}");
        }
        assert!(!exact.same(Value::Float(1.0), Value::Histogram(1), 1.0));
        assert!(exact.same(Value::Histogram(1), Value::Histogram(1), 1.0));
    }

    proptest! {
        /// Against the plainest way to say it: two maps by time.
        #[test]
        fn every_sample_is_counted_once_and_in_the_right_way(
            from in proptest::collection::btree_map(0i64..40, 0u8..3, 0..20),
            to in proptest::collection::btree_map(0i64..40, 0u8..3, 0..20),
        ) {
            let samples = |side: &BTreeMap<i64, u8>| {
                let pairs: Vec<_> = side.iter().map(|(at, v)| (*at, f64::from(*v))).collect();
                floats(&pairs)
            };
            let found = compare(&mut samples(&from), &mut samples(&to), Rule::default());
            let sum = |kind: Kind| -> u64 {
                found.runs.iter().filter(|run| run.kind == kind).map(|run| run.samples).sum()
            };
            let count = |wanted: &dyn Fn(&i64) -> bool, of: &BTreeMap<i64, u8>| {
                of.keys().filter(|at| wanted(at)).count() as u64
            };
            let both = |at: &i64| from.contains_key(at) && to.contains_key(at);
            prop_assert_eq!(sum(Kind::Missing), count(&|at| !to.contains_key(at), &from));
            prop_assert_eq!(sum(Kind::Extra), count(&|at| !from.contains_key(at), &to));
            prop_assert_eq!(sum(Kind::Different), count(&|at| both(at) && from[at] != to[at], &from));
            prop_assert_eq!(found.agreed, count(&|at| both(at) && from[at] == to[at], &from));
            prop_assert_eq!(found.samples, from.len() as u64);
            for run in &found.runs {
                prop_assert!(run.first <= run.last && run.samples > 0);
                let agreed = |at: &&i64| both(at) && from[at] == to[at];
                prop_assert_eq!(run.opens, !from.keys().filter(agreed).any(|at| *at < run.first));
                prop_assert_eq!(run.ends, !from.keys().filter(agreed).any(|at| *at > run.last));
            }
        }
    }
}
