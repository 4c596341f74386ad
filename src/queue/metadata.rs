//! What is known about metrics: type, help, unit. State, not traffic, and counted by itself.
//!
//! 2.0 attaches it to each series; 1.0 sends it on change and once in an interval. The cache is bounded:
//! beyond its share of memory new families are not learned, and that is counted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::log::Tenant;
use crate::wire::decoded::{Decoded, Protocol};
use crate::wire::encode::MetadataSource;

/// Suffixes that a histogram's or summary's series add to the name of their family.
const SUFFIXES: [&str; 5] = ["_bucket", "_count", "_sum", "_total", "_created"];
/// What an entry costs beside its text; a tenant costs as much.
const ENTRY_OVERHEAD: usize = 160;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    kind: u8,
    help: Box<str>,
    unit: Box<str>,
}

/// One family's metadata, to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyMetadata {
    /// Family name.
    pub family: String,
    /// The protocol's number of its type.
    pub kind: u8,
    /// Help text.
    pub help: String,
    /// Unit.
    pub unit: String,
}

#[derive(Default)]
struct Families {
    known: Arc<BTreeMap<Box<str>, Known>>,
    /// Each once, however often it changed: nobody may ever ask.
    changed: BTreeSet<Box<str>>,
}

/// Metadata by tenant and family.
pub struct MetadataCache {
    tenants: HashMap<Arc<Tenant>, Families>,
    bytes: usize,
    limit: usize,
    /// Entries received.
    pub received: u64,
    /// Entries not learned for want of room.
    pub refused: u64,
}

impl MetadataCache {
    /// An empty cache of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            tenants: HashMap::new(),
            bytes: 0,
            limit,
            received: 0,
            refused: 0,
        }
    }

    /// Learns what a request says.
    pub fn absorb(&mut self, tenant: &Arc<Tenant>, decoded: &Decoded) {
        let has_any = !decoded.metadata.is_empty()
            || decoded.protocol == Protocol::V2
                && decoded.series.iter().any(|r| r.metadata.len > 0);
        if !has_any {
            return;
        }
        if !self.tenants.contains_key(tenant) {
            if self.bytes + ENTRY_OVERHEAD > self.limit {
                let (received, refused) = (&mut self.received, &mut self.refused);
                decoded.each_metadata(|_| (*received, *refused) = (*received + 1, *refused + 1));
                return;
            }
            self.bytes += ENTRY_OVERHEAD;
        }
        let families = self.tenants.entry(Arc::clone(tenant)).or_default();
        let (bytes, limit) = (&mut self.bytes, self.limit);
        let (received, refused) = (&mut self.received, &mut self.refused);
        decoded.each_metadata(|metadata| {
            *received += 1;
            let family = match decoded.protocol {
                Protocol::V1 => metadata.name,
                Protocol::V2 => family_of(metadata.name, metadata.kind),
            };
            let before = families.known.get(family);
            let same = |k: &Known| {
                (k.kind, &*k.help, &*k.unit) == (metadata.kind, metadata.help, metadata.unit)
            };
            if before.is_some_and(same) {
                return;
            }
            let old = before.map_or(0, |k| cost(family, k));
            let known = Known {
                kind: metadata.kind,
                help: metadata.help.into(),
                unit: metadata.unit.into(),
            };
            let new = cost(family, &known);
            if *bytes - old + new > limit {
                *refused += 1;
                return;
            }
            *bytes = *bytes - old + new;
            Arc::make_mut(&mut families.known).insert(family.into(), known);
            families.changed.insert(family.into());
        });
    }

    /// What to attach to the series of a tenant.
    pub fn of(&self, tenant: &Arc<Tenant>) -> TenantMetadata {
        TenantMetadata(
            self.tenants
                .get(tenant)
                .map(|families| Arc::clone(&families.known)),
        )
    }

    /// What is to be sent by itself: all of it, or what changed since the last call.
    pub fn to_send(&mut self, all: bool) -> Vec<(Arc<Tenant>, Vec<FamilyMetadata>)> {
        let entry = |name: &str, known: &Known| FamilyMetadata {
            family: name.to_owned(),
            kind: known.kind,
            help: known.help.to_string(),
            unit: known.unit.to_string(),
        };
        let mut out = Vec::new();
        for (tenant, families) in &mut self.tenants {
            let changed = std::mem::take(&mut families.changed);
            let list: Vec<_> = if all {
                families
                    .known
                    .iter()
                    .map(|(name, known)| entry(name, known))
                    .collect()
            } else {
                let known = changed
                    .iter()
                    .filter_map(|name| Some((name, families.known.get(name)?)));
                known.map(|(name, known)| entry(name, known)).collect()
            };
            if !list.is_empty() {
                out.push((Arc::clone(tenant), list));
            }
        }
        out
    }

    /// Heap bytes, about.
    pub fn heap_bytes(&self) -> usize {
        self.bytes
    }
}

fn cost(family: &str, known: &Known) -> usize {
    ENTRY_OVERHEAD + family.len() + known.help.len() + known.unit.len()
}

/// The family of a metric whose metadata came with its series. Histograms and summaries name their parts;
/// a counter's name is its own, as the text format has it.
fn family_of(metric: &str, kind: u8) -> &str {
    const HISTOGRAM: u8 = 3;
    const GAUGE_HISTOGRAM: u8 = 4;
    const SUMMARY: u8 = 5;
    if !matches!(kind, HISTOGRAM | GAUGE_HISTOGRAM | SUMMARY) {
        return metric;
    }
    SUFFIXES[..3]
        .iter()
        .find_map(|suffix| metric.strip_suffix(suffix))
        .unwrap_or(metric)
}

/// The metadata of one tenant, as it was when asked for.
#[derive(Default)]
pub struct TenantMetadata(Option<Arc<BTreeMap<Box<str>, Known>>>);

impl MetadataSource for TenantMetadata {
    fn lookup(&self, metric: &[u8]) -> Option<(u8, &str, &str)> {
        let known = self.0.as_ref()?;
        let metric = std::str::from_utf8(metric).ok()?;
        let stripped = SUFFIXES
            .iter()
            .filter_map(|suffix| metric.strip_suffix(suffix));
        let found = std::iter::once(metric)
            .chain(stripped)
            .find_map(|name| known.get(name))?;
        Some((found.kind, &found.help, &found.unit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_histograms_belong_to_one_family_and_counters_keep_their_name() {
        assert_eq!(family_of("rpc_seconds_bucket", 3), "rpc_seconds");
        assert_eq!(family_of("rpc_seconds_count", 5), "rpc_seconds");
        assert_eq!(family_of("http_requests_total", 1), "http_requests_total");
        assert_eq!(family_of("rpc_seconds", 3), "rpc_seconds");
    }

    #[test]
    fn what_changes_again_and_again_is_kept_once_and_tenants_are_bounded() {
        use crate::wire::decoded::{IdentityKey, WalkLimits};
        use crate::wire::pb::rw1::{MetricMetadata, WriteRequest};
        use prost::Message;
        let limits = WalkLimits {
            series: 10,
            elements: 10,
            labels: 10,
            label_bytes: 0,
            expanded_bytes: 100,
        };
        let says = |help: &str| {
            let family = MetricMetadata {
                metric_family_name: "up".to_owned(),
                help: help.to_owned(),
                ..MetricMetadata::default()
            };
            let message = WriteRequest {
                metadata: vec![family],
                ..WriteRequest::default()
            };
            let message = message.encode_to_vec();
            crate::wire::walk(message, Protocol::V1, &limits, &IdentityKey::fixed(0)).unwrap()
        };
        let mut cache = MetadataCache::new(1000);
        let tenant = |n: usize| Arc::new(Tenant(vec![("tenant".to_owned(), n.to_string())]));
        for _ in 0..10 {
            cache.absorb(&tenant(0), &says("one"));
            cache.absorb(&tenant(0), &says("other"));
        }
        let changed = cache.to_send(false);
        assert_eq!(changed.len(), 1);
        assert_eq!(changed[0].1.len(), 1, "the last word counts");
        (1..100).for_each(|n| cache.absorb(&tenant(n), &says("one")));
        assert!(cache.heap_bytes() <= 1000 && cache.tenants.len() <= 6);
        assert_eq!(cache.received, 20 + 99);
    }
}
