//! Which lane a series belongs to, and where it stands in a batch. Pure.
//!
//! The lane is a function of separation key, labels, and the rules here: never of what happens to be
//! pending. So it is the same after a restart, and two pieces of code can never disagree about it.

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

use crate::log::Tenant;
use crate::model::labels::Labels;

/// What keeps series together, and orders them in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Lanes by `job` and `instance`; a batch is ordered by labels from the last to the first, which puts
    /// series that share most next to each other.
    Target,
    /// Lanes as for `Target`; a batch is ordered as its samples arrived.
    Arrival,
}

/// Targets too heavy for one lane, and the label that spreads them: never a hash, which would tear apart
/// what compresses together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadRule {
    /// The `job` it applies to; a `*` at the beginning or the end matches any text there.
    pub job: String,
    /// The first of these labels that a series has joins its lane's key.
    pub by: Vec<String>,
}

impl SpreadRule {
    fn matches(&self, job: &[u8]) -> bool {
        let pattern = self.job.as_bytes();
        let (open_start, pattern) = match pattern.strip_prefix(b"*") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        let (open_end, pattern) = match pattern.strip_suffix(b"*") {
            Some(rest) => (true, rest),
            None => (false, pattern),
        };
        match (open_start, open_end) {
            (false, false) => job == pattern,
            (true, false) => job.ends_with(pattern),
            (false, true) => job.starts_with(pattern),
            (true, true) if pattern.is_empty() => true,
            (true, true) => job.windows(pattern.len()).any(|part| part == pattern),
        }
    }
}

/// Lanes of one separation key.
pub const LANES: usize = 256;

/// The rules that place a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRules {
    /// What keeps series together.
    pub grouping: Grouping,
    /// Labels whose values never share a batch.
    pub separate_by: Vec<String>,
    /// Heavy targets.
    pub spread: Vec<SpreadRule>,
}

/// What must not share a batch: receivers judge a request by its first series, and tenants must not
/// share a fate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Separation {
    /// Separating headers of the request.
    pub tenant: Arc<Tenant>,
    /// Values of the `separate_by` labels, in the order of the rules; empty where a series lacks one.
    pub values: Vec<Box<[u8]>>,
}

impl LaneRules {
    /// The separation key of a series.
    pub fn separation(&self, tenant: &Arc<Tenant>, labels: &Labels) -> Separation {
        let value = |name: &String| labels.get(name.as_bytes()).unwrap_or_default().into();
        let values = self.separate_by.iter().map(value).collect();
        Separation {
            tenant: Arc::clone(tenant),
            values,
        }
    }

    /// The lane of a series within its separation key.
    pub fn lane(&self, labels: &Labels) -> u8 {
        let mut key = Xxh3::new();
        let mut part = |text: &[u8]| {
            key.update(&(text.len() as u32).to_le_bytes());
            key.update(text);
        };
        let job = labels.get(b"job").unwrap_or_default();
        part(job);
        match labels
            .get(b"instance")
            .filter(|instance| !instance.is_empty())
        {
            Some(instance) => part(instance),
            None => part(labels.metric().map_or(&[][..], |pair| pair.value())),
        }
        if let Some(rule) = self.spread.iter().find(|rule| rule.matches(job)) {
            let second = rule.by.iter().find_map(|name| labels.get(name.as_bytes()));
            part(second.unwrap_or_default());
        }
        key.digest() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::labels::Interner;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(n, v)| (n.as_bytes(), v.as_bytes()))
            .collect();
        Interner::default().intern(&pairs)
    }

    fn rules() -> LaneRules {
        LaneRules {
            grouping: Grouping::Target,
            separate_by: vec!["cluster".to_owned()],
            spread: vec![SpreadRule {
                job: "*kube-state-metrics*".to_owned(),
                by: vec!["namespace".to_owned(), "node".to_owned()],
            }],
        }
    }

    #[test]
    fn series_of_one_target_share_a_lane_whatever_else_they_say() {
        let rules = rules();
        let lane = |metric: &str, instance: &str| {
            rules.lane(&labels(&[
                ("__name__", metric),
                ("instance", instance),
                ("job", "node"),
            ]))
        };
        assert_eq!(lane("up", "a:9100"), lane("node_load1", "a:9100"));
        let lanes: std::collections::HashSet<_> =
            (0..100).map(|n| lane("up", &format!("{n}:9100"))).collect();
        assert!(
            lanes.len() > 70,
            "100 targets fall on many lanes: {}",
            lanes.len()
        );
        let orphan = |metric: &str| rules.lane(&labels(&[("__name__", metric), ("job", "push")]));
        let by_name: std::collections::HashSet<_> =
            (0..50).map(|n| orphan(&format!("metric_{n}"))).collect();
        assert!(
            by_name.len() > 30,
            "without an instance the metric name decides"
        );
    }

    #[test]
    fn a_heavy_target_is_spread_by_its_second_key() {
        let rules = rules();
        let lane = |namespace: &str| {
            rules.lane(&labels(&[
                ("__name__", "kube_pod_info"),
                ("instance", "ksm:8080"),
                ("job", "prometheus-kube-state-metrics"),
                ("namespace", namespace),
            ]))
        };
        let lanes: std::collections::HashSet<_> =
            (0..100).map(|n| lane(&format!("team-{n}"))).collect();
        assert!(lanes.len() > 70);
        assert_eq!(lane("team-1"), lane("team-1"));
    }

    #[test]
    fn separation_takes_tenant_and_labels() {
        let rules = rules();
        let tenant = Arc::new(Tenant(vec![("x-scope-orgid".to_owned(), "a".to_owned())]));
        let of =
            |tenant: &Arc<Tenant>, pairs: &[(&str, &str)]| rules.separation(tenant, &labels(pairs));
        assert_eq!(
            of(&tenant, &[("cluster", "x")]),
            of(&tenant, &[("cluster", "x"), ("z", "1")])
        );
        assert_ne!(
            of(&tenant, &[("cluster", "x")]),
            of(&tenant, &[("cluster", "y")])
        );
        assert_ne!(of(&tenant, &[]), of(&Arc::default(), &[]));
    }

    #[test]
    fn job_patterns_match_where_they_are_open() {
        let matches = |pattern: &str, job: &str| {
            SpreadRule {
                job: pattern.to_owned(),
                by: vec![],
            }
            .matches(job.as_bytes())
        };
        assert!(matches("ksm", "ksm") && !matches("ksm", "ksm2"));
        assert!(matches("ksm*", "ksm2") && matches("*ksm", "a-ksm") && matches("*ksm*", "a-ksm-b"));
        assert!(matches("*", "anything") && !matches("*x*", "anything"));
    }
}
