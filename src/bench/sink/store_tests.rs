use super::*;
use crate::bench::sink::behaviour::{Refuse, SeriesMatch};

fn finding(key: u128, timestamp_ms: i64, bits: u64) -> Finding {
    Finding {
        key,
        timestamp_ms,
        bits,
        kind: Kind::Sample,
        refused: None,
    }
}

fn store(
    store: &mut Store,
    behaviour: &Behaviour,
    protocol: Protocol,
    findings: &[Finding],
) -> Stored {
    let inspected = Inspected {
        findings: findings.to_vec(),
        ..Inspected::default()
    };
    let incoming = Incoming {
        inspected,
        protocol,
        tenant: "",
        bytes: 100,
        now_ms: 1_000,
    };
    store.store(incoming, behaviour)
}

#[test]
fn without_rules_everything_is_accepted_and_faults_are_counted() {
    let mut all = Store::new(&SinkOptions::default());
    let behaviour = Behaviour::default();
    let findings = [
        finding(1, 10, 5),
        finding(1, 30, 5),
        finding(1, 20, 5),
        finding(1, 20, 5),
        finding(1, 30, 6),
    ];
    let stored = store(&mut all, &behaviour, Protocol::V2, &findings);
    assert_eq!((stored.status, stored.written), (204, [5, 0, 0]));
    let stats = all.counting.snapshot();
    assert_eq!(
        (stats.order_violations, stats.duplicates, stats.conflicts),
        (1, 1, 1)
    );
    assert_eq!((stats.distinct(), all.table.distinct()), (3, 3));
    assert_eq!((stats.age_ms.p50, stats.age_ms.max), (983, 991));
}

#[test]
fn prometheus_rules_roll_a_1_0_request_back_and_keep_the_good_part_of_a_2_0_request() {
    let behaviour = Behaviour {
        prometheus_rules: true,
        ..Behaviour::default()
    };
    let mut all = Store::new(&SinkOptions::default());
    assert_eq!(
        store(&mut all, &behaviour, Protocol::V1, &[finding(1, 20, 5)]).status,
        204
    );
    // The newest again with the same bits is fine, an older or a different one is not.
    for (bad, message) in [
        (finding(1, 10, 5), "out of order sample"),
        (finding(1, 20, 6), "duplicate sample for timestamp"),
    ] {
        let request = [finding(2, 10, 1), bad, finding(1, 20, 5)];
        let stored = store(&mut all, &behaviour, Protocol::V1, &request);
        assert_eq!(
            (stored.status, stored.written, stored.message),
            (400, [0; 3], message)
        );
        assert_eq!(all.table.newest(2), None);
    }
    let request = [finding(2, 10, 1), finding(1, 10, 5), finding(1, 20, 5)];
    let stored = store(&mut all, &behaviour, Protocol::V2, &request);
    assert_eq!((stored.status, stored.written), (400, [2, 0, 0]));
    assert_eq!(all.table.newest(2), Some((10, 1)));
    assert_eq!(all.counting.stats.order_violations, 0);
}

#[test]
fn order_within_a_request_counts_too() {
    let behaviour = Behaviour {
        prometheus_rules: true,
        ..Behaviour::default()
    };
    let mut all = Store::new(&SinkOptions::default());
    let request = [finding(1, 20, 5), finding(1, 10, 5)];
    assert_eq!(
        store(&mut all, &behaviour, Protocol::V1, &request).status,
        400
    );
    assert_eq!(all.table.series(), 0);
}

#[test]
fn refused_series_take_the_rest_with_them_or_not() {
    let request = [
        finding(1, 10, 1),
        Finding {
            refused: Some(0),
            ..finding(2, 10, 1)
        },
    ];
    for (status, keep, protocol, written) in [
        (400, Keep::AsPrometheus, Protocol::V1, 0),
        (400, Keep::AsPrometheus, Protocol::V2, 1),
        (409, Keep::Good, Protocol::V1, 1),
        (400, Keep::Nothing, Protocol::V2, 0),
    ] {
        let series = SeriesMatch::PerMillion { seed: 0, series: 0 };
        let refuse = vec![Refuse {
            series,
            status,
            keep,
        }];
        let behaviour = Behaviour {
            refuse,
            ..Behaviour::default()
        };
        let mut all = Store::new(&SinkOptions::default());
        let stored = store(&mut all, &behaviour, protocol, &request);
        assert_eq!(
            (stored.status, stored.written),
            (status, [written, 0, 0]),
            "{keep:?}"
        );
        assert_eq!(all.counting.stats.refused, 1);
    }
}

#[test]
fn the_rate_limit_lets_one_large_request_overdraw_and_then_makes_all_wait() {
    let limit = RateLimit {
        samples_per_second: 100,
        retry_after_seconds: Some(1),
    };
    let mut all = Store::new(&SinkOptions::default());
    assert!(all.admit(limit, 250, 10_000));
    assert!(!all.admit(limit, 1, 11_000));
    assert!(!all.admit(limit, 1, 11_500));
    assert!(all.admit(limit, 1, 11_510));
}
