//! Accepts or refuses a request's elements, under one lock, and counts them.

use std::collections::HashMap;

use super::behaviour::{Behaviour, Keep, RateLimit};
use super::inspect::{Finding, Inspected, Kind};
use super::stats::Counting;
use super::table::{Place, Table};
use super::{Repeat, SinkOptions};
use crate::bench::Protocol;

/// The state that all requests share.
pub(super) struct Store {
    pub(super) table: Table,
    pub(super) counting: Counting,
    /// What came again, if it is to be listed.
    pub(super) repeats: Vec<Repeat>,
    list_repeats: bool,
    /// Elements that the rate limit lets through now; negative after a large request.
    allowance: f64,
    refilled_ms: i64,
}

/// A request on its way into the store.
pub(super) struct Incoming<'a> {
    pub(super) inspected: Inspected,
    pub(super) protocol: Protocol,
    pub(super) tenant: &'a str,
    pub(super) bytes: u64,
    pub(super) now_ms: i64,
}

/// What became of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) status: u16,
    /// Samples, histograms and exemplars that were accepted.
    pub(super) written: [u64; 3],
    pub(super) message: &'static str,
}

/// Why an element is refused, and what that means for the others.
#[derive(Clone, Copy)]
struct Refusal {
    status: u16,
    keep: Keep,
    message: &'static str,
}

impl Store {
    pub(super) fn new(options: &SinkOptions) -> Self {
        Self {
            table: Table::new(options.remember),
            counting: Counting::new(),
            repeats: Vec::new(),
            list_repeats: options.list_repeats,
            allowance: 0.0,
            refilled_ms: 0,
        }
    }

    /// Whether so many elements may come now. A request may overdraw, and the next ones wait for it.
    pub(super) fn admit(&mut self, limit: RateLimit, elements: u64, now_ms: i64) -> bool {
        let rate = limit.samples_per_second as f64;
        let seconds = (now_ms - self.refilled_ms).max(0) as f64 / 1e3;
        self.refilled_ms = now_ms;
        self.allowance = (self.allowance + seconds * rate).min(rate);
        if self.allowance <= 0.0 {
            return false;
        }
        self.allowance -= elements as f64;
        true
    }

    /// Stores what the behaviour lets through.
    pub(super) fn store(&mut self, incoming: Incoming<'_>, behaviour: &Behaviour) -> Stored {
        let findings = &incoming.inspected.findings;
        let refusals = self.refusals(findings, behaviour);
        let first = refusals.iter().flatten().next().copied();
        self.counting.stats.refused += refusals.iter().flatten().count() as u64;
        let keeps = first.is_none_or(|refusal| match refusal.keep {
            Keep::AsPrometheus => incoming.protocol == Protocol::V2,
            Keep::Good => true,
            Keep::Nothing => false,
        });
        let mut written = [0; 3];
        if keeps {
            let distinct = self.counting.stats.distinct();
            let good = |place: usize| refusals.get(place).is_none_or(Option::is_none);
            for (place, finding) in findings.iter().enumerate() {
                if good(place) {
                    self.accept(finding);
                    written[finding.kind as usize] += 1;
                }
            }
            if self.counting.stats.distinct() > distinct {
                self.counting.news(incoming.now_ms);
            }
            self.count(incoming, written);
        }
        Stored {
            status: first.map_or(204, |refusal| refusal.status),
            written,
            message: first.map_or("", |refusal| refusal.message),
        }
    }

    /// Refusal of each element; empty when nothing can be refused.
    fn refusals(&self, findings: &[Finding], behaviour: &Behaviour) -> Vec<Option<Refusal>> {
        if behaviour.refuse.is_empty() && !behaviour.prometheus_rules {
            return Vec::new();
        }
        let mut newest_here = HashMap::new();
        let mut judge = |finding: &Finding| {
            if let Some(rule) = finding.refused {
                let rule = &behaviour.refuse[usize::from(rule)];
                let message = "series refused";
                return Some(Refusal {
                    status: rule.status,
                    keep: rule.keep,
                    message,
                });
            }
            if !behaviour.prometheus_rules || finding.kind == Kind::Exemplar {
                return None;
            }
            let new = (finding.timestamp_ms, finding.bits);
            let known = newest_here.get(&finding.key).copied();
            let message = match known.or_else(|| self.table.newest(finding.key)) {
                Some((newest, _)) if finding.timestamp_ms < newest => "out of order sample",
                Some((newest, bits)) if newest == new.0 && bits != new.1 => {
                    "duplicate sample for timestamp"
                }
                _ => {
                    newest_here.insert(finding.key, new);
                    return None;
                }
            };
            Some(Refusal {
                status: 400,
                keep: Keep::AsPrometheus,
                message,
            })
        };
        findings.iter().map(&mut judge).collect()
    }

    fn accept(&mut self, finding: &Finding) {
        let stats = &mut self.counting.stats;
        match finding.kind {
            Kind::Sample => stats.samples += 1,
            Kind::Histogram => stats.histograms += 1,
            Kind::Exemplar => {
                stats.exemplars += 1;
                return;
            }
        }
        match self
            .table
            .accept(finding.key, finding.timestamp_ms, finding.bits)
        {
            Place::InOrder => {}
            Place::Late => stats.order_violations += 1,
            Place::Duplicate => {
                stats.duplicates += 1;
                if self.list_repeats {
                    self.repeats.push(Repeat {
                        key: finding.key,
                        timestamp_ms: finding.timestamp_ms,
                    });
                }
            }
            Place::Conflict => stats.conflicts += 1,
        }
    }

    fn count(&mut self, incoming: Incoming<'_>, written: [u64; 3]) {
        let Incoming {
            inspected,
            tenant,
            bytes,
            now_ms,
            ..
        } = incoming;
        let elements: u64 = written.iter().sum();
        let stats = &mut self.counting.stats;
        stats.metadata += inspected.metadata;
        stats.series = self.table.series();
        stats.foreign_tenant_series += inspected.foreign_tenant;
        stats.with_start_timestamp += inspected.with_start;
        stats.wrong_start_timestamps += inspected.wrong_start;
        if !tenant.is_empty() {
            *stats.tenants.entry(tenant.to_owned()).or_default() += elements;
        }
        if elements + inspected.metadata > 0 {
            stats.stored_requests += 1;
            stats.stored_bytes += bytes;
        }
        self.counting
            .wrong(inspected.wrong, inspected.wrong_examples);
        if elements == 0 {
            return;
        }
        self.counting.request(inspected.targets, elements);
        let aged = inspected
            .findings
            .iter()
            .filter(|finding| finding.kind != Kind::Exemplar);
        let timestamps: Vec<i64> = aged.map(|finding| finding.timestamp_ms).collect();
        // Samples of a scrape share their timestamp: one record for all of them.
        for same in timestamps.chunk_by(|a, b| a == b) {
            self.counting
                .age(now_ms.saturating_sub(same[0]), same.len() as u64);
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
