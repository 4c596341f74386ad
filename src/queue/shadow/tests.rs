use super::*;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_take_begins_only_within_the_share_of_the_time_that_has_passed() {
    let (none, ms) = (Duration::ZERO, Duration::from_millis);
    assert!(may_begin(none, none, none, 0.05));
    assert!(may_begin(ms(300), ms(199), secs(10), 0.05));
    assert!(!may_begin(ms(300), ms(201), secs(10), 0.05));
}

#[test]
fn work_is_followed_by_so_much_rest_that_the_burst_keeps_to_its_share() {
    assert_eq!(rest_after(secs(1), 0.2), secs(4));
    assert_eq!(rest_after(secs(1), 1.0), Duration::ZERO);
    assert_eq!(rest_after(secs(1), 0.0), secs(99), "never for ever");
}

#[test]
fn a_window_is_tried_on_takes_that_held_it() {
    let windows = [secs(15), secs(60)];
    let of = |span| Cut::of(span, 2_000, &windows);
    assert_eq!(
        of(secs(10)),
        [Cut::AsSent, Cut::Arrival, Cut::Target, Cut::Large]
    );
    assert!(of(secs(14)).ends_with(&[Cut::Merged(secs(15))]));
    assert!(of(secs(56)).ends_with(&[Cut::Merged(secs(15)), Cut::Merged(secs(60))]));
    // Requests that are large already have no larger form.
    assert!(!Cut::of(secs(60), LARGE, &windows).contains(&Cut::Large));
    assert_eq!(Cut::Merged(secs(15)).per_send(8_000), Some(8_000));
}

#[test]
fn what_a_take_may_hold_is_a_small_part_of_the_budget() {
    let bounds = Bounds::within(1 << 30);
    assert_eq!(bounds.bytes, 16 << 20);
    assert_eq!(bounds.elements, (16 << 20) / 40);
    // At 150 bytes an element it stays below a sixteenth in all.
    assert!(bounds.elements * 150 + (bounds.bytes as u64) < (1 << 30) / 12);
}

#[test]
fn protocols_are_counted_apart_and_requests_without_elements_beside() {
    let mut seen = Seen::default();
    seen.add(Protocol::V1, 10, 400);
    seen.add(Protocol::V2, 10, 200);
    seen.add(Protocol::V1, 0, 90);
    let came = |requests, elements, bytes| Came {
        requests,
        elements,
        bytes,
    };
    assert_eq!((seen.v1, seen.v2), (came(1, 10, 400), came(1, 10, 200)));
    assert_eq!((seen.empty, seen.all()), (came(1, 0, 90), came(2, 20, 600)));
}

#[test]
fn tallies_of_longer_takes_stand_behind_those_of_shorter_ones() {
    let tally = |bytes| Tally {
        stretches: 1,
        elements: 10,
        bytes,
        ..Tally::default()
    };
    let mut all = vec![(Cut::Target, V1, tally(100))];
    let longer = vec![
        (Cut::Target, V1, tally(50)),
        (Cut::Merged(secs(15)), V1, tally(20)),
    ];
    add(&mut all, &longer);
    assert_eq!(all.len(), 2);
    assert_eq!(
        (all[0].2.stretches, all[0].2.elements, all[0].2.bytes),
        (2, 20, 150)
    );
    assert_eq!(all[1].0, Cut::Merged(secs(15)));
}
