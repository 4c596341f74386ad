//! What is asked, and in which pieces. Pure.

use std::collections::BTreeSet;
use std::fmt;

use super::series::{Labelling, NAME, Own, quote};

/// Moments of a query: whole seconds, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    /// Not part of it.
    pub(super) after: i64,
    /// The last moment of it.
    pub(super) until: i64,
}

impl Slice {
    pub(super) fn length(self) -> i64 {
        self.until - self.after
    }

    pub(super) fn holds(self, at: i64) -> bool {
        self.after < at && at <= self.until
    }

    /// Its beginning of this length, and the rest.
    pub(super) fn cut(self, length: i64) -> (Self, Self) {
        let cut = self.until.min(self.after + length);
        let (mut one, mut other) = (self, self);
        (one.until, other.after) = (cut, cut);
        (one, other)
    }
}

/// The window to compare: it ends at `end`, or so long before now that everything should have arrived.
pub(super) fn window(
    now: i64,
    length: i64,
    settle: i64,
    end: Option<i64>,
) -> Result<Slice, String> {
    let until = end.unwrap_or(now - settle).div_euclid(1000) * 1000;
    let after = until - (length + 999) / 1000 * 1000;
    if after >= until {
        return Err("--window: it is empty".to_owned());
    }
    if after < 0 {
        return Err("--window: it begins before 1970".to_owned());
    }
    if until > now {
        return Err("--end: it is not over yet".to_owned());
    }
    Ok(Slice { after, until })
}

/// Matchers of a query, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selector(Vec<String>);

impl Selector {
    /// What a person wrote: `up`, `{job="node"}`, `up{job="node"}`. What is in the braces is for the
    /// receiver to judge.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let refuse = || format!("not a selector: {text:?} (write for example '{{job=\"node\"}}')");
        let text = text.trim();
        let (name, inner) = match text.split_once('{') {
            Some((name, rest)) => (name.trim(), rest.strip_suffix('}').ok_or_else(refuse)?),
            None => (text, ""),
        };
        let mut matchers = Vec::new();
        if !name.is_empty() {
            if !super::series::is_plain(name) {
                return Err(refuse());
            }
            matchers.push(equal(NAME, name));
        }
        let inner = inner.trim().trim_end_matches(',').trim();
        if !inner.is_empty() {
            matchers.push(inner.to_owned());
        }
        if matchers.is_empty() {
            return Err(refuse());
        }
        Ok(Self(matchers))
    }

    /// Whether it selects everything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// With one more matcher.
    pub(super) fn and(&self, matcher: String) -> Self {
        let mut matchers = self.0.clone();
        if !matchers.contains(&matcher) {
            matchers.push(matcher);
        }
        Self(matchers)
    }

    /// Only this metric.
    pub(super) fn named(&self, metric: &str) -> Self {
        self.and(equal(NAME, metric))
    }

    /// At the receiver: only what carries the labels that the sender adds, or a value that one of its
    /// series brought itself.
    pub(super) fn received(&self, labelling: &Labelling, own: &Own) -> Self {
        let mut selector = self.clone();
        for (name, value) in &labelling.add {
            if labelling.ignore.contains(name) {
                continue;
            }
            let mut values = own.get(name).cloned().unwrap_or_default();
            values.insert(value.clone());
            if values.len() <= VALUES_MAX {
                selector = selector.and(one_of(name, &values));
            }
        }
        selector
    }

    /// With a matcher that every series meets: an API refuses a selector of which all matchers would take a
    /// label that is not there.
    pub(super) fn of_any_name(&self) -> Self {
        self.and(format!("{NAME}!=\"\""))
    }

    /// Two halves that together are the whole, by the values of a label.
    pub(super) fn halves(&self, label: &str, values: &BTreeSet<String>) -> Option<(Self, Self)> {
        let half: BTreeSet<_> = values.iter().take(values.len() / 2).cloned().collect();
        if half.is_empty() {
            return None;
        }
        let matcher = one_of(label, &half);
        // Also what has another value, or none: nothing of the receiver's is left out.
        let others = match matcher.strip_prefix(label)? {
            rest if rest.starts_with("=~") => format!("{label}!~{}", &rest[2..]),
            rest => format!("{label}!={}", &rest[1..]),
        };
        Some((self.and(matcher), self.and(others)))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.0.join(","))
    }
}

/// Values of a label that are worth a matcher.
const VALUES_MAX: usize = 100;

fn equal(name: &str, value: &str) -> String {
    let mut text = format!("{name}=");
    quote(&mut text, value);
    text
}

fn one_of(name: &str, values: &BTreeSet<String>) -> String {
    let mut values = values.iter();
    if let (Some(value), 1) = (values.clone().next(), values.len()) {
        return equal(name, value);
    }
    let mut pattern = String::new();
    values.by_ref().for_each(|value| {
        if !pattern.is_empty() {
            pattern.push('|');
        }
        escape(&mut pattern, value);
    });
    let mut text = format!("{name}=~");
    quote(&mut text, &pattern);
    text
}

/// For a regular expression that means these very characters.
fn escape(pattern: &mut String, value: &str) {
    for c in value.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            pattern.push('\\');
        }
        pattern.push(c);
    }
}

/// Raw samples of a slice, stamps and all.
pub(super) fn samples(selector: &Selector, slice: Slice) -> String {
    format!("{selector}[{}ms]", slice.length())
}

/// A count for each series. `closed`: this side's ranges hold both of their ends.
pub(super) fn counts(selector: &Selector, slice: Slice, closed: bool) -> String {
    let length = slice.length() - i64::from(closed);
    format!("count_over_time({selector}[{length}ms])")
}

/// Needs no data, and is 3 where ranges hold both their ends, else 2. Asked at a multiple of 5 s.
pub(super) const CLOSED: &str = "count_over_time(vector(1)[10s:5s])";

/// Bytes of an answer that slices are made for, a quarter of what is read at most.
pub(super) const ANSWER_AIM: u64 = 8 << 20;
/// The longest answer that is read.
pub(super) const ANSWER_BYTES: usize = 32 << 20;
/// About what a series' labels are in JSON, and a sample.
const SERIES_BYTES: u64 = 450;
const SAMPLE_BYTES: u64 = 28;
/// A common scrape interval, until something is known.
const INTERVAL_MS: u64 = 15_000;
/// In a shorter slice labels weigh more than samples: then the series are divided, where they can be.
pub(super) const SHORT: i64 = 300_000;
/// The shortest slice.
const SHORTEST: i64 = 1000;

/// How long a slice to begin with, by how many series there are.
pub(super) fn first_length(series: Option<u64>, counts: bool, window: Slice) -> i64 {
    let all = window.length();
    let Some(series) = series.filter(|series| *series > 0 && !counts) else {
        return all;
    };
    let room = (ANSWER_AIM / series).saturating_sub(SERIES_BYTES);
    let length = (room / SAMPLE_BYTES).saturating_mul(INTERVAL_MS);
    whole(i64::try_from(length).unwrap_or(all), SHORT.min(all), all)
}

/// How long the next slice, after one that made an answer of so many bytes.
pub(super) fn next_length(length: i64, bytes: u64, window: Slice) -> i64 {
    let by = ANSWER_AIM as f64 / bytes.max(1) as f64;
    // Not more than double: what comes may be denser.
    let next = length as f64 * by.clamp(0.25, 2.0);
    whole(next as i64, SHORT.min(length), window.length())
}

/// Half of a slice that was too much, if there is one.
pub(super) fn half(length: i64, least: i64) -> Option<i64> {
    let half = whole(length / 2, SHORTEST, length);
    (half < length && half >= least).then_some(half)
}

fn whole(length: i64, least: i64, most: i64) -> i64 {
    (length / 1000 * 1000).clamp(least.min(most), most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn the_window_ends_a_while_ago_at_a_whole_second() {
        let slice = window(1_000_000_999, 3_600_000, 120_000, None).unwrap();
        assert_eq!((slice.after, slice.until), (996_280_000, 999_880_000));
        let slice = window(1_000_000_999, 1, 0, Some(5_500)).unwrap();
        assert_eq!((slice.after, slice.until), (4_000, 5_000));
        assert!(!slice.holds(4_000) && slice.holds(4_001) && slice.holds(5_000));
        for (length, settle, end) in [
            (0, 0, None),
            (10_000, 0, Some(5_000)),
            (1, 0, Some(i64::MAX / 2)),
        ] {
            assert!(window(1_000_000, length, settle, end).is_err());
        }
    }

    #[test]
    fn what_a_person_writes_becomes_matchers() {
        for (text, selector) in [
            ("up", r#"{__name__="up"}"#),
            (r#"{job="a"}"#, r#"{job="a"}"#),
            (r#" up { job="a", } "#, r#"{__name__="up",job="a"}"#),
            ("up{}", r#"{__name__="up"}"#),
        ] {
            assert_eq!(Selector::parse(text).unwrap().to_string(), selector);
        }
        for bad in [
            "",
            "{}",
            "{job=\"a\"",
            "a b",
            "rate(x[5m])",
            "up{a=\"b\"}[5m]",
        ] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
        let up = Selector::parse("up").unwrap();
        assert_eq!(up.named("up"), up, "once is enough");
        let negative = Selector::parse("{job!=\"a\"}").unwrap();
        assert_eq!(
            negative.of_any_name().to_string(),
            r#"{job!="a",__name__!=""}"#
        );
    }

    #[test]
    fn the_receiver_is_asked_for_the_senders_series_only() {
        let labelling = Labelling {
            add: [("cluster", "a.b"), ("replica", "r")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ignore: set(&["replica"]),
        };
        let up = Selector::parse("up").unwrap();
        let plain = up.received(&labelling, &Own::new());
        assert_eq!(plain.to_string(), r#"{__name__="up",cluster="a.b"}"#);
        let own = Own::from([("cluster".to_owned(), set(&["other"]))]);
        let wider = up.received(&labelling, &own);
        assert_eq!(
            wider.to_string(),
            r#"{__name__="up",cluster=~"a\\.b|other"}"#
        );
    }

    #[test]
    fn halves_are_the_whole() {
        let up = Selector::parse("up").unwrap();
        let (one, other) = up.halves("pod", &set(&["a", "b", "c", "d"])).unwrap();
        assert_eq!(one.to_string(), r#"{__name__="up",pod=~"a|b"}"#);
        assert_eq!(other.to_string(), r#"{__name__="up",pod!~"a|b"}"#);
        let (one, other) = up.halves("pod", &set(&["a", "b"])).unwrap();
        assert_eq!(one.to_string(), r#"{__name__="up",pod="a"}"#);
        assert_eq!(other.to_string(), r#"{__name__="up",pod!="a"}"#);
        assert!(up.halves("pod", &set(&["a"])).is_none());
    }

    #[test]
    fn queries_are_exact_about_their_ends() {
        let up = Selector::parse("up").unwrap();
        let slice = Slice {
            after: 1000,
            until: 61_000,
        };
        assert_eq!(samples(&up, slice), r#"{__name__="up"}[60000ms]"#);
        assert_eq!(
            counts(&up, slice, false),
            r#"count_over_time({__name__="up"}[60000ms])"#
        );
        assert_eq!(
            counts(&up, slice, true),
            r#"count_over_time({__name__="up"}[59999ms])"#
        );
    }

    #[test]
    fn slices_follow_the_size_of_answers_and_never_vanish() {
        let window = Slice {
            after: 0,
            until: 3_600_000,
        };
        assert_eq!(first_length(None, false, window), 3_600_000);
        assert_eq!(first_length(Some(10), false, window), 3_600_000);
        assert_eq!(first_length(Some(1_000_000), true, window), 3_600_000);
        let many = first_length(Some(5_000), false, window);
        assert!((SHORT..3_600_000).contains(&many), "{many}");
        assert_eq!(first_length(Some(1_000_000), false, window), SHORT);
        let small = Slice {
            after: 0,
            until: 60_000,
        };
        assert_eq!(first_length(Some(1_000_000), false, small), 60_000);

        assert_eq!(next_length(600_000, ANSWER_AIM * 2, window), SHORT);
        assert_eq!(next_length(600_000, 1, window), 1_200_000);
        assert_eq!(next_length(3_600_000, 1, window), 3_600_000);
        let mut length = 3_600_000;
        let mut halvings = 0;
        while let Some(next) = half(length, SHORTEST) {
            assert!(next < length && next % 1000 == 0);
            (length, halvings) = (next, halvings + 1);
        }
        assert!(length == SHORTEST && halvings < 14);
        assert_eq!(half(600_000, SHORT), Some(SHORT));
        assert_eq!(half(SHORT, SHORT), None);
    }
}
