//! A series and its samples, and what makes two series the same. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use xxhash_rust::xxh3::xxh3_64;

/// The label that holds a metric's name.
pub(super) const NAME: &str = "__name__";

/// What a sample says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    Float(f64),
    /// A hash over count, sum and buckets.
    Histogram(u64),
}

/// A sample with its own timestamp, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: i64,
    pub(super) value: Value,
}

/// A series as an API gives it: its labels in any order.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) labels: Vec<(String, String)>,
    pub(super) samples: Vec<Sample>,
}

/// Samples by series; the series is its text.
pub(super) type Samples = HashMap<String, Vec<Sample>>;

/// What is done to labels before series are matched.
#[derive(Clone, Debug, Default)]
pub(super) struct Labelling {
    /// Put onto series that have no such label of their own.
    pub(super) add: BTreeMap<String, String>,
    /// Taken off.
    pub(super) ignore: BTreeSet<String>,
}

/// Values of added labels that series brought themselves.
pub(super) type Own = BTreeMap<String, BTreeSet<String>>;

impl Labelling {
    /// The same, with nothing added.
    pub(super) fn without_added(&self) -> Self {
        Self {
            add: BTreeMap::new(),
            ignore: self.ignore.clone(),
        }
    }

    /// The text by which a series is known: `name{a="b",c="d"}`, labels in order. Two sets of labels have
    /// the same text only if they are the same.
    pub(super) fn text(&self, labels: &mut Vec<(String, String)>, own: &mut Own) -> String {
        labels.retain(|(name, value)| !value.is_empty() && !self.ignore.contains(name));
        for (name, value) in &self.add {
            if self.ignore.contains(name) {
                continue;
            }
            match labels.iter().find(|(known, _)| known == name) {
                Some((_, brought)) if brought == value => {}
                Some((_, brought)) => {
                    let values = own.entry(name.clone()).or_default();
                    values.insert(brought.clone());
                }
                None => labels.push((name.clone(), value.clone())),
            }
        }
        labels.sort();
        text_of(labels)
    }
}

fn text_of(labels: &[(String, String)]) -> String {
    let mut text = String::new();
    let name = labels.iter().find(|(name, _)| name == NAME);
    let plain = name.filter(|(_, name)| is_plain(name));
    if let Some((_, name)) = plain {
        text.push_str(name);
    }
    let mut before = '{';
    for (name, value) in labels {
        if name == NAME && plain.is_some() {
            continue;
        }
        text.push(before);
        before = ',';
        if is_plain(name) {
            text.push_str(name);
        } else {
            quote(&mut text, name);
        }
        text.push('=');
        quote(&mut text, value);
    }
    if before == ',' {
        text.push('}');
    }
    text
}

/// Whether a name needs no quotes.
pub(super) fn is_plain(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    name.chars().all(word) && name.starts_with(|c: char| !c.is_ascii_digit())
}

/// A string of `PromQL`.
pub(super) fn quote(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                text.push('\\');
                text.push(c);
            }
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            c if c.is_ascii_control() => {
                write!(text, "\\x{:02x}", u32::from(c)).expect("a string takes it");
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

/// The labels of a series' text, its name left out.
pub(super) fn labels_in(text: &str) -> BTreeMap<&str, &str> {
    let mut found = BTreeMap::new();
    let Some((_, mut rest)) = text.split_once('{') else {
        return found;
    };
    while let Some((name, after)) = rest.split_once("=\"") {
        let mut escaped = false;
        let end = after.find(|c: char| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let Some(end) = end else { break };
        found.insert(name, &after[..end]);
        rest = after[end + 1..].trim_start_matches(',');
    }
    found
}

/// A short stand-in for a series, for sets of many.
pub(super) fn short(series: &str) -> u64 {
    xxh3_64(series.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(labels: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        labels.iter().map(owned).collect()
    }

    fn labelling(add: &[(&str, &str)], ignore: &[&str]) -> Labelling {
        Labelling {
            add: pairs(add).into_iter().collect(),
            ignore: ignore.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn external_labels_join_a_series_that_has_none_of_its_own() {
        let labels = labelling(&[("cluster", "a"), ("replica", "r0")], &[]);
        let mut own = Own::new();
        let text = labels.text(&mut pairs(&[("__name__", "up"), ("job", "x")]), &mut own);
        assert_eq!(text, r#"up{cluster="a",job="x",replica="r0"}"#);
        assert!(own.is_empty());

        let text = labels.text(
            &mut pairs(&[("cluster", "other"), ("__name__", "up")]),
            &mut own,
        );
        assert_eq!(text, r#"up{cluster="other",replica="r0"}"#);
        assert_eq!(own["cluster"], BTreeSet::from(["other".to_owned()]));
    }

    #[test]
    fn an_ignored_label_is_neither_kept_nor_added_and_an_empty_one_is_none() {
        let labels = labelling(&[("replica", "r0")], &["replica", "tenant"]);
        let mut given = pairs(&[("tenant", "t"), ("__name__", "up"), ("empty", "")]);
        assert_eq!(labels.text(&mut given, &mut Own::new()), "up");
    }

    #[test]
    fn awkward_names_and_values_are_written_as_promql_would() {
        let mut given = pairs(&[("__name__", "http.status"), ("a.b", "q\" b\\ n\n")]);
        let text = Labelling::default().text(&mut given, &mut Own::new());
        assert_eq!(text, r#"{__name__="http.status","a.b"="q\" b\\ n\n"}"#);
        let labels = labels_in(&text);
        assert_eq!(labels["\"a.b\""], r#"q\" b\\ n\n"#);
    }

    proptest! {
        #[test]
        fn different_labels_have_different_texts(
            a in proptest::collection::btree_map("[a-c]{1,2}", "[a\"\\\\,={}\n]{1,4}", 0..3),
            b in proptest::collection::btree_map("[a-c]{1,2}", "[a\"\\\\,={}\n]{1,4}", 0..3),
        ) {
            let text = |labels: &BTreeMap<String, String>| {
                let mut labels: Vec<_> = labels.clone().into_iter().rev().collect();
                Labelling::default().text(&mut labels, &mut Own::new())
            };
            prop_assert_eq!(a == b, text(&a) == text(&b));
            prop_assert_eq!(labels_in(&text(&a)).len(), a.len());
        }
    }
}
