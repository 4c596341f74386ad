use super::super::shadow::{CameIn, Measured, MeasuredRow, ShadowState, shadow};
use super::*;

fn row(cut: &str, protocol: &str, per_sample: f64) -> ShadowRow {
    ShadowRow {
        cut: cut.to_owned(),
        protocol: protocol.to_owned(),
        compression: "snappy".to_owned(),
        samples: 100_000,
        bytes_per_sample: per_sample,
        saved_share: 1.0 - per_sample / 50.0,
        ..ShadowRow::default()
    }
}

fn known<'k>(rows: &'k [ShadowRow], ack: &'k str) -> Known<'k> {
    Known {
        samples_per_second: 7_783.0,
        requests_per_second: 77.83,
        bytes_per_second: 389_150.0,
        per_send: 2_000,
        ack,
        latency: None,
        rows,
    }
}

#[test]
fn shards_follow_from_rate_latency_and_size_as_reckoned_by_hand() {
    // 7783 × 0.5 / 2000 = 1.94575; three times the rate, 1.3 above: 7.588…
    let far = shards(7_783.0, 2_000, 0.5, 0.5);
    assert!((far.steady - 1.945_75).abs() < 1e-9, "{far:?}");
    assert!((far.most - 7.588_425).abs() < 1e-9, "{far:?}");
    assert_eq!((far.min, far.max), (1, 8));
    // 8 × 2000 / 0.5
    assert!((far.ceiling - 32_000.0).abs() < 1e-6);
    // 93050 × 0.5 / 1000 = 46.525; × 3 × 1.3 = 181.4475
    let large = shards(93_050.0, 1_000, 0.5, 0.5);
    assert_eq!((large.min, large.max), (46, 182));
    let idle = shards(0.5, 2_000, 0.1, 0.1);
    assert_eq!((idle.min, idle.max), (1, 1));
}

#[test]
fn an_hour_without_a_receiver_takes_the_bytes_that_come_and_what_records_cost() {
    // (389150 + 77.83 × 512) × 3600 = 1544396256
    let needed = outage_bytes(389_150.0, 77.83);
    assert!((needed - 1_544_396_256.0).abs() < 1.0, "{needed}");
    let all = advice(&known(&[], "memory"));
    let outage: Vec<_> = all.iter().filter(|a| a.hop == "outage").collect();
    // / 2^20 = 1472.85; × 16 / 5 = 4713.1
    assert_eq!(outage[0].setting, "storage.max_bytes: 1473MiB");
    assert_eq!(outage[1].setting, "memory.limit: 4714MiB");
}

#[test]
fn senders_requests_fill_up_or_leave_at_their_deadline() {
    assert!((filled(7_783.0, 1, 5_000) - 5_000.0).abs() < 1e-9);
    assert!((filled(400.0, 2, 5_000) - 1_000.0).abs() < 1e-9);
    let told = |ack: &str| {
        let all = advice(&known(&[], ack));
        let of: Vec<_> = all.into_iter().filter(|a| a.hop == "senders").collect();
        (
            of[0].setting.clone(),
            of[1].setting.clone(),
            of[1].sum.clone(),
        )
    };
    // 7783 × 0.5 / 5000 = 0.7783 busy; × 3.9 = 3.035
    let (setting, then, sum) = told("upstream");
    assert!(setting.ends_with("max_shards: 4"), "{setting}");
    assert_eq!(then, "then 1.6 requests/s of 5,000");
    assert!(sum.starts_with("now 78 requests/s of 100 samples"), "{sum}");
    // 7783 × 0.03 / 5000 = 0.0467; × 3.9 = 0.18
    assert!(told("fsync").0.ends_with("max_shards: 1"));
}

#[test]
fn a_setting_changes_only_for_what_is_worth_it() {
    let setting = |rows: &[ShadowRow], at: usize| advice(&known(rows, "fsync"))[at].setting.clone();
    let (better, worse) = (row("arrival", "1.0", 39.0), row("target", "1.0", 40.0));
    assert_eq!(setting(&[better, worse.clone()], 0), "grouping: arrival");
    let hardly = row("arrival", "1.0", 39.5);
    assert_eq!(setting(&[hardly, worse.clone()], 0), "grouping: target");
    let large = |per_sample| [worse.clone(), row("large", "1.0", per_sample)];
    assert_eq!(setting(&large(39.0), 1), "max_samples_per_send: 5000");
    assert_eq!(setting(&large(39.5), 1), "max_samples_per_send: 2000");
    // 5 × 5000, and at 500 ms: 3 × 7783 × 0.5 / 5000 × 1.3 = 3.04
    let all = advice(&known(&large(39.0), "fsync"));
    let capacity = all
        .iter()
        .find(|a| a.setting.starts_with("capacity"))
        .unwrap();
    assert_eq!(capacity.setting, "capacity: 25000");
    assert!(
        capacity.sum.contains("4 × 25000 samples × 32 B"),
        "{}",
        capacity.sum
    );
}

#[test]
fn what_was_not_measured_is_not_advised() {
    assert_eq!(
        advice(&known(&[], "fsync"))[0].setting,
        "grouping: not known yet"
    );
    let nothing = shadow(&Measured {
        state: ShadowState::Measuring,
        passed_seconds: 30.0,
        length_seconds: 600.0,
        came_v1: CameIn {
            requests: 10,
            samples: 1_000,
            bytes: 40_000,
        },
        ..Measured::default()
    });
    assert_eq!(nothing.advice, []);
    let rows = [row("target", "1.0", 40.0)];
    let all = advice(&known(&rows, "fsync"));
    let merges = |a: &Advice| a.setting.starts_with("merge_window");
    assert!(!all.iter().any(merges), "no window was held: {all:?}");
    let mut measured = Measured {
        passed_seconds: 10.0,
        length_seconds: 600.0,
        per_send: 2_000,
        came_v1: CameIn {
            requests: 10,
            samples: 1_000,
            bytes: 40_000,
        },
        ..Measured::default()
    };
    measured.rows = vec![MeasuredRow {
        cut: "merged_60s".to_owned(),
        protocol: "1.0".to_owned(),
        compression: "snappy".to_owned(),
        per_send: Some(5_000),
        samples: 1_000,
        requests: 1,
        bytes: 10_000,
        came: measured.came_v1,
        ..MeasuredRow::default()
    }];
    let told = shadow(&measured);
    let merge = told.advice.iter().find(|a| merges(a)).unwrap();
    assert_eq!(merge.setting, "merge_window: 60s");
    assert!(
        merge.sum.contains("75 % less than came in"),
        "{}",
        merge.sum
    );
}

#[test]
fn a_latency_that_is_known_takes_the_place_of_those_assumed() {
    let mut of = known(&[], "upstream");
    let shards = |known: &Known<'_>| -> Vec<String> {
        let all = advice(known).into_iter();
        all.filter(|a| a.setting.starts_with("min_shards") || a.hop == "senders")
            .map(|a| a.setting)
            .collect()
    };
    assert_eq!(
        shards(&of).len(),
        4,
        "two assumed, and two lines for senders"
    );
    of.latency = Some((0.1, 0.61));
    let told = shards(&of);
    // 3 × 7783 × 0.61 / 2000 × 1.3 = 9.26, and towards senders / 5000: 3.70
    assert_eq!(told[0], "min_shards: 1, max_shards: 10");
    assert!(told[1].ends_with("max_shards: 4"), "{told:?}");
}
