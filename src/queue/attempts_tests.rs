use super::*;

const MS: Duration = Duration::from_millis(1);

fn attempts() -> (Attempts, Instant) {
    let now = Instant::now();
    (Attempts::new(now), now)
}

#[test]
fn percentiles_are_right_by_a_tenth_and_forget_after_five_minutes() {
    let (mut attempts, now) = attempts();
    assert_eq!(attempts.latency(0.5, now), None, "nothing was sent");
    for ms in 1..=1000 {
        attempts.ended("204", MS * ms, now, 0);
    }
    for (share, expected) in [(0.5, 500.0), (0.99, 990.0), (0.01, 10.0)] {
        let told = attempts.latency(share, now).unwrap().as_secs_f64() * 1000.0;
        assert!((told / expected - 1.0).abs() < 0.1, "{share}: {told}");
    }
    let later = now + Duration::from_secs(290);
    attempts.ended("204", Duration::from_secs(3600), later, 0);
    assert!(attempts.latency(0.5, later).unwrap() < Duration::from_secs(1));
    let slow = attempts.latency(1.0, later).unwrap();
    assert!(slow > Duration::from_secs(100), "{slow:?}");
    let much_later = now + Duration::from_secs(301);
    assert!(
        attempts.latency(0.5, much_later).unwrap() > Duration::from_secs(100),
        "what is older than five minutes is forgotten"
    );
    assert_eq!(
        attempts.latency(0.5, now + Duration::from_secs(86_400)),
        None
    );
}

#[test]
fn a_row_of_failures_has_one_beginning_and_ends_with_a_success() {
    let (mut attempts, _) = attempts();
    attempts.failed("503", "receiver answered 503", 1_000);
    attempts.failed("connect", "refused", 2_000);
    let failing = attempts.failing().unwrap();
    assert_eq!((failing.since_ms, failing.attempts), (1_000, 2));
    assert_eq!((&*failing.code, &*failing.why), ("connect", "refused"));
    assert_eq!(failing.code_since_ms, 2_000);
    attempts.succeeded(70, 3_000);
    assert_eq!(attempts.settled_bytes(), 70);
    assert_eq!(attempts.failing(), None);
    assert_eq!(attempts.last_success_ms(), Some(3_000));
    attempts.failed("503", "", 4_000);
    assert_eq!(attempts.failing().unwrap().since_ms, 4_000);
}

#[test]
fn errors_are_counted_latest_first_and_never_more_than_a_few() {
    let (mut attempts, _) = attempts();
    attempts.error("a", 1);
    attempts.error("b", 2);
    attempts.error("a", 3);
    let told: Vec<_> = attempts
        .errors()
        .map(|error| (&*error.what, error.first_ms, error.last_ms, error.count))
        .collect();
    assert_eq!(told, [("a", 1, 3, 2), ("b", 2, 2, 1)]);
    for n in 0..1000 {
        attempts.error(&format!("{n} {}", "x".repeat(5000)), n);
    }
    assert_eq!(attempts.errors().count(), ERRORS);
    assert!(
        attempts
            .errors()
            .all(|error| error.what.chars().count() == ERROR_CHARS)
    );
    for n in 0..1000 {
        attempts.ended(&n.to_string(), MS, Instant::now(), 0);
    }
    assert_eq!(attempts.codes().len(), CODES);
}
