//! Runs become events.

use proptest::prelude::*;

use super::diff::{Kind, Run};
use super::gaps::Gaps;

const STEP: i64 = 15_000;

fn run(kind: Kind, first: i64, last: i64) -> Run {
    Run {
        kind,
        first,
        last,
        samples: ((last - first) / STEP + 1).cast_unsigned(),
        opens: false,
        ends: false,
        step: STEP,
        values: None,
    }
}

/// What an outage between two moments does to a series with this offset in its scrapes.
fn lost(outage: (i64, i64), offset: i64) -> Run {
    let first = (outage.0 - offset).div_euclid(STEP) * STEP + STEP + offset;
    let last = (outage.1 - offset).div_euclid(STEP) * STEP + offset;
    run(Kind::Missing, first, last)
}

fn events(gaps: &mut Gaps) -> Vec<(Kind, i64, i64, u64, u64)> {
    let groups = gaps.groups().iter();
    groups
        .map(|g| (g.kind, g.first(), g.last(), g.series(), g.samples))
        .collect()
}

#[test]
fn an_outage_of_everything_is_one_event_whatever_the_offsets_of_scrapes() {
    let mut gaps = Gaps::default();
    let outage = (1_000_000, 1_135_000);
    for metric in 0..4 {
        let runs = (0..50).map(|n| {
            let offset = (n * 977 + metric * 131) % STEP;
            (format!("m{metric}{{n=\"{n}\"}}"), lost(outage, offset))
        });
        gaps.add(&format!("m{metric}"), runs.collect());
    }
    let found = events(&mut gaps);
    let [(Kind::Missing, first, last, 200, 1800)] = found[..] else {
        panic!("{found:?}");
    };
    assert!(first > outage.0 && first <= outage.0 + STEP);
    assert!(last <= outage.1 && last > outage.1 - STEP);
    let group = &gaps.groups()[0];
    assert_eq!(group.metrics["m0"], (50, 450));
    assert_eq!(group.worst.len(), 5);
    assert_eq!(gaps.total(Kind::Missing), (200, 1800));
}

#[test]
fn two_outages_stay_two_and_another_kind_apart() {
    let mut gaps = Gaps::default();
    for n in 0..10 {
        let runs = vec![
            (format!("a{{n=\"{n}\"}}"), lost((0, 100_000), n * 1000)),
            (
                format!("a{{n=\"{n}\"}}"),
                lost((200_000, 300_000), n * 1000),
            ),
        ];
        gaps.add("a", runs);
    }
    gaps.add(
        "b",
        vec![("b".to_owned(), run(Kind::Extra, 30_000, 90_000))],
    );
    let found = events(&mut gaps);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[2].3, 10);
}

#[test]
fn series_that_began_or_ended_in_the_outage_belong_to_it() {
    let outage = run(Kind::Missing, 1_000_000, 1_150_000);
    let short_lived = Run {
        opens: true,
        ends: true,
        ..run(Kind::Missing, 1_060_000, 1_060_000)
    };
    let began = Run {
        opens: true,
        ..run(Kind::Missing, 1_090_000, 1_147_000)
    };
    let ended = Run {
        ends: true,
        ..run(Kind::Missing, 1_003_000, 1_048_000)
    };
    // Whichever metric comes first.
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2], [2, 1, 3, 0]] {
        let all = [outage, short_lived, began, ended];
        let mut gaps = Gaps::default();
        for n in order {
            let name = format!("m{n}");
            gaps.add(&name, vec![(name.clone(), all[n])]);
        }
        let found = events(&mut gaps);
        assert_eq!(found.len(), 1, "{order:?}: {found:?}");
        assert_eq!((found[0].1, found[0].2), (1_000_000, 1_150_000));
    }
}

#[test]
fn a_series_that_never_arrives_does_not_swallow_an_outage() {
    let never = Run {
        opens: true,
        ends: true,
        ..run(Kind::Missing, 0, 3_600_000)
    };
    for never_first in [true, false] {
        let mut gaps = Gaps::default();
        let mut add = |name: &str, run: Run| gaps.add(name, vec![(name.to_owned(), run)]);
        if never_first {
            add("never", never);
        }
        add("a", run(Kind::Missing, 1_000_000, 1_150_000));
        add("b", run(Kind::Missing, 1_004_000, 1_139_000));
        if !never_first {
            add("never", never);
        }
        let found = events(&mut gaps);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}

#[test]
fn endless_noise_is_summed_up() {
    let mut gaps = Gaps::default();
    for n in 0..5000 {
        let name = format!("m{{n=\"{n}\"}}");
        let at = n * 100_000;
        gaps.add("m", vec![(name, run(Kind::Missing, at, at))]);
    }
    assert_eq!(gaps.groups().len(), 2000);
    assert_eq!(gaps.over[Kind::Missing as usize], (3000, 3000));
    assert_eq!(gaps.total(Kind::Missing), (5000, 5000));
}

proptest! {
    /// Nothing is lost or counted twice by grouping, and no event is wider than what it is made of.
    #[test]
    fn grouping_keeps_every_sample(
        runs in proptest::collection::vec((0i64..400, 0i64..40, any::<bool>(), any::<bool>(), 0usize..3), 1..60)
    ) {
        let mut gaps = Gaps::default();
        let mut samples = 0;
        let (mut least, mut most) = (i64::MAX, i64::MIN);
        for (n, (first, length, opens, ends, kind)) in runs.iter().enumerate() {
            let first = first * 5000;
            let run = Run {
                opens: *opens,
                ends: *ends,
                ..run(Kind::ALL[*kind], first, first + length * STEP)
            };
            samples += run.samples;
            (least, most) = (least.min(run.first), most.max(run.last));
            gaps.add("m", vec![(format!("m{{n=\"{n}\"}}"), run)]);
        }
        let found = events(&mut gaps);
        prop_assert_eq!(found.iter().map(|event| event.4).sum::<u64>(), samples);
        prop_assert_eq!(found.iter().map(|event| event.3).sum::<u64>(), runs.len() as u64);
        prop_assert_eq!(found.iter().map(|event| event.1).min(), Some(least));
        prop_assert_eq!(found.iter().map(|event| event.2).max(), Some(most));
    }
}
