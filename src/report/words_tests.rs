use super::*;

#[test]
fn counts_have_their_thousands_separated() {
    for (n, long, few) in [
        (0, "0", "0"),
        (999, "999", "999"),
        (1_000, "1,000", "1,000"),
        (12_400, "12,400", "12,400"),
        (999_999, "999,999", "999,999"),
        (1_234_567, "1,234,567", "1.2 M"),
        (999_949_999, "999,949,999", "999.9 M"),
        (999_950_000, "999,950,000", "1.0 G"),
        (u64::MAX, "18,446,744,073,709,551,615", "18446744.1 T"),
    ] {
        assert_eq!((&*count(n), &*short(n)), (long, few));
    }
}

#[test]
fn rates_bytes_and_shares_are_rounded_to_what_can_be_read() {
    for (per_second, told) in [
        (None, "–"),
        (Some(0.0), "0"),
        (Some(0.25), "0.2"),
        (Some(9.94), "9.9"),
        (Some(12_400.4), "12,400"),
    ] {
        assert_eq!(rate(per_second), told);
    }
    for (n, told) in [
        (0.0, "0 B"),
        (1023.0, "1023 B"),
        (1024.0, "1.0 KiB"),
        (1023.9 * 1024.0, "1.0 MiB"),
        (-5.0 * 1024.0 * 1024.0, "−5.0 MiB"),
        (2f64.powi(60), "1048576 TiB"),
    ] {
        assert_eq!(bytes(n), told);
    }
    for (share, told) in [(0.574, "57 %"), (0.0012, "0.1 %"), (-0.2, "−20 %")] {
        assert_eq!(percent(share), told);
    }
}

#[test]
fn times_have_two_units_at_the_most() {
    for (seconds, told) in [
        (-1.0, "0.0 s"),
        (0.31, "0.3 s"),
        (12.4, "12 s"),
        (59.6, "1 min"),
        (200.0, "3 min 20 s"),
        (12_000.0, "3 h 20 min"),
        (367_200.0, "4 d 6 h"),
        (f64::INFINITY, "over 100 years"),
        (f64::NAN, "over 100 years"),
    ] {
        assert_eq!(time(seconds), told, "{seconds}");
    }
    for (seconds, told) in [
        (None, "–"),
        (Some(0.0021), "2.1 ms"),
        (Some(0.212), "212 ms"),
        (Some(2.5), "2.5 s"),
    ] {
        assert_eq!(latency(seconds), told);
    }
}

#[test]
fn moments_are_told_in_utc_with_a_date_when_it_is_another_day() {
    let at = 1_431_704_061_000; // date -u -d @1431704061
    assert_eq!(moment(at, at + 1000), "15:34:21 UTC");
    assert_eq!(moment(at, at + 90_000_000), "15 May 2015 15:34:21 UTC");
    assert_eq!(
        moment(-5, 0),
        "00:00:00 UTC",
        "a clock before 1970 breaks nothing"
    );
}

#[test]
fn foreign_text_moves_no_cursor_and_turns_nothing_around() {
    assert_eq!(
        clean("a\u{1b}[31mb\r\nc\u{202e}d\u{9b}e\u{2028}f\u{200b}ü 漢 <b>"),
        "a\\u{1b}[31mb\\r\\nc\\u{202e}d\\u{9b}e\\u{2028}f\\u{200b}ü 漢 <b>"
    );
}
