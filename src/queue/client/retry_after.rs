//! How long a receiver asks us to wait.

use std::time::Duration;

use hyper::header::{DATE, HeaderMap, RETRY_AFTER};

/// More than any policy allows, and small enough to be added to any clock without overflow.
const LONGEST: u64 = u32::MAX as u64;

/// The wait that `Retry-After` asks for, uncapped: the caller knows what is reasonable.
///
/// Seconds, or an HTTP date. A date is compared with the response's own `Date`, never with our
/// clock, which may be wrong by hours; without a `Date` it says nothing. Garbage, zero, and the
/// past say nothing either. Of two headers the first counts, as in Go's `Header.Get`.
///
/// Source: RFC 9110, 10.2.3; `retryAfterDuration` in prometheus/storage/remote/client.go.
pub(super) fn parse(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // All digits, so the only error is a number that is too large.
        Duration::from_secs(value.parse().unwrap_or(LONGEST).min(LONGEST))
    } else {
        let until = httpdate::parse_http_date(value).ok()?;
        let now = httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?).ok()?;
        until.duration_since(now).ok()?
    };
    (!wait.is_zero()).then_some(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE_NOW: &str = "Wed, 21 Oct 2015 07:28:00 GMT";

    fn parsed(values: &[&str], date: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(RETRY_AFTER, value.parse().unwrap());
        }
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        parse(&headers).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_read_and_garbage_is_not() {
        let table: &[(&[&str], Option<u64>)] = &[
            (&[], None),
            (&["5"], Some(5)),
            (&[" 5 "], Some(5)),
            (&["0"], None),
            (&["-1"], None),
            (&["+5"], None),
            (&["1.5"], None),
            (&["5s"], None),
            (&["5, 6"], None),
            (&["soon"], None),
            (&[""], None),
            (&["999999"], Some(999_999)),
            (&["99999999999999999999999999"], Some(LONGEST)),
            (&["5", "60"], Some(5)),
            (&["soon", "60"], None),
            (&["Wed, 21 Oct 2015 07:28:30 GMT"], Some(30)),
            (&["Wed, 21 Oct 2015 07:28:00 GMT"], None),
            (&["Wed, 21 Oct 2015 07:27:00 GMT"], None),
            (&["Wed, 21 Oct 2099 07:28:00 GMT"], Some(2_650_838_400)),
            (&["Wed, 99 Oct 2015 07:28:00 GMT"], None),
        ];
        for (values, wait) in table {
            assert_eq!(parsed(values, Some(DATE_NOW)), *wait, "{values:?}");
        }
    }

    #[test]
    fn a_date_without_the_receivers_own_clock_says_nothing() {
        let date = ["Wed, 21 Oct 2099 07:28:30 GMT"];
        assert_eq!(parsed(&date, None), None);
        assert_eq!(parsed(&date, Some("yesterday")), None);
        assert_eq!(parsed(&["7"], None), Some(7));
    }
}
