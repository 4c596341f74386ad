use std::collections::HashSet;
use std::time::Duration;

use super::*;
use crate::bench::data::{Churn, Profile, STALE, expected_bits};

fn options(profile: Profile, nodes: u32) -> DataOptions {
    DataOptions {
        profile,
        nodes,
        ..DataOptions::default()
    }
}

fn sample(slot: u32, scrape: u32) -> Item {
    Item {
        slot,
        scrape,
        what: What::Sample,
    }
}

#[test]
fn the_same_options_make_the_same_data() {
    let options = options(Profile::Kubernetes, 2);
    let (one, two) = (DataSet::new(&options, 1000), DataSet::new(&options, 1000));
    let other = DataSet::new(&DataOptions { seed: 2, ..options }, 1000);
    let mut differ = 0;
    for slot in 0..one.slots() as u32 {
        let item = sample(slot, 3);
        assert_eq!(one.labels(item), two.labels(item));
        assert_eq!(one.bits(item), two.bits(item));
        assert_eq!(one.timestamp_ms(slot, 3), two.timestamp_ms(slot, 3));
        differ += usize::from(one.bits(item) != other.bits(item));
    }
    assert!(differ > one.slots() / 2, "{differ}");
}

#[test]
fn profiles_have_the_size_of_real_ones() {
    for (profile, series, label_bytes) in [
        (Profile::Kubernetes, 780..860, 360.0..440.0),
        (Profile::Node, 280..420, 75.0..125.0),
        (Profile::Giant, 700..860, 220.0..290.0),
    ] {
        let set = DataSet::new(&options(profile, 4), 0);
        let per_node = set.slots() / 4;
        assert!(
            series.contains(&per_node),
            "{profile}: {per_node} series a node"
        );
        let length = |slot: u32| -> usize {
            let labels = set.labels(sample(slot, 0));
            labels
                .iter()
                .map(|(name, value)| name.len() + value.len() + 6)
                .sum()
        };
        let bytes: usize = (0..set.slots() as u32).map(length).sum();
        let mean = bytes as f64 / set.slots() as f64;
        assert!(
            label_bytes.contains(&mean),
            "{profile}: {mean:.0} bytes of labels"
        );
    }
}

#[test]
fn labels_are_sorted_and_no_series_is_there_twice() {
    for profile in [
        Profile::Kubernetes,
        Profile::Node,
        Profile::Giant,
        Profile::Churn,
    ] {
        let options = DataOptions {
            histograms: true,
            ..options(profile, 3)
        };
        let set = DataSet::new(&options, 0);
        let mut keys = HashSet::new();
        for slot in 0..set.slots() as u32 {
            let item = sample(slot, 0);
            let labels = set.labels(item);
            assert!(labels.is_sorted_by(|a, b| a.0 < b.0), "{labels:?}");
            assert!(keys.insert(set.model(item).key()), "{labels:?}");
        }
    }
}

#[test]
fn external_labels_win_and_reach_every_series() {
    let external_labels = vec![("cluster".to_owned(), "mine".to_owned())];
    let set = DataSet::new(
        &DataOptions {
            external_labels,
            ..options(Profile::Kubernetes, 1)
        },
        0,
    );
    for slot in 0..set.slots() as u32 {
        let labels = set.labels(sample(slot, 0));
        assert!(
            labels.contains(&("cluster", Cow::Borrowed("mine"))),
            "{labels:?}"
        );
    }
}

#[test]
fn a_round_visits_every_slot_once_in_order_of_the_offsets() {
    let set = DataSet::new(&options(Profile::Kubernetes, 3), 0);
    let offsets: Vec<i64> = set.round().map(|(offset, _)| offset).collect();
    assert!(offsets.is_sorted() && offsets.iter().all(|offset| *offset < 15_000));
    let visited: HashSet<u32> = set.round().flat_map(|(_, slots)| slots).collect();
    assert_eq!(visited.len(), set.slots());
}

#[test]
fn churned_series_end_with_a_marker_that_their_labels_foretell() {
    let churn = Some(Churn {
        share: 0.5,
        every_scrapes: 4,
    });
    let options = DataOptions {
        churn,
        interval: Duration::from_secs(1),
        ..options(Profile::Node, 1)
    };
    let set = DataSet::new(&options, 1_750_000_000_000);
    let mut markers = 0;
    for slot in 0..set.slots() as u32 {
        for scrape in 1..9 {
            let before = set.model(sample(slot, scrape - 1)).key();
            let now = sample(slot, scrape);
            assert_ne!(set.bits(now), STALE);
            assert_eq!(set.model(now).key() != before, set.marker_at(slot, scrape));
            if !set.marker_at(slot, scrape) {
                continue;
            }
            markers += 1;
            let marker = Item {
                what: What::Marker,
                ..now
            };
            assert_eq!(set.model(marker).key(), before);
            let labels = set.labels(marker);
            let raw: Vec<RawLabel<'_>> = labels
                .iter()
                .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
                .collect();
            let at = set.timestamp_ms(slot, scrape);
            assert_eq!(expected_bits(set.values(), &raw, at), STALE);
            assert_eq!(set.scrape_at(slot, at), Some(scrape));
        }
    }
    assert!(
        (set.slots() / 2..set.slots() * 2).contains(&markers),
        "{markers}"
    );
}
