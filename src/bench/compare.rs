//! What senders were told is written, against what receivers have.

use std::collections::HashMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::data::{DataSet, Item, What};
use super::load::{Fate, LoadReport};
use super::sink::Repeat;

/// Missing samples that are described.
const EXAMPLES_MAX: usize = 10;

/// What a receiver has: one that runs, or what it wrote down.
pub trait Holdings {
    /// Whether a sample of the series with this key was accepted for the tenant of these request headers.
    fn has(&self, headers: &[(String, String)], key: u128, timestamp_ms: i64) -> bool;

    /// Samples accepted at least once.
    fn distinct(&self) -> u64;

    /// What it found wrong by itself.
    fn faults(&self) -> Faults;
}

/// What a receiver finds wrong without knowing what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Accepted again with the same bits.
    pub duplicates: u64,
    /// Accepted again with other bits.
    pub conflicts: u64,
    /// First accepted after a newer one of their series.
    pub order_violations: u64,
    /// With bits that are not those that labels and timestamp ask for; 0 if not verified.
    pub wrong: u64,
}

/// The difference between ledgers. Histograms and stale markers count as samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Acknowledged to a sender.
    pub acknowledged: u64,
    /// Acknowledged, and not there: lost.
    pub missing: u64,
    /// Some of the missing ones, with labels and timestamp.
    pub missing_examples: Vec<String>,
    /// On the wire without a final answer, and there.
    pub indeterminate_stored: u64,
    /// On the wire without a final answer, and not there.
    pub indeterminate_absent: u64,
    /// Refused, and there all the same.
    pub refused_stored: u64,
    /// Refused, and not there.
    pub refused_absent: u64,
    /// There although no sender ever sent them: made up, or altered on the way.
    pub never_sent: u64,
    /// Accepted again with the same bits.
    pub duplicates: u64,
    /// Accepted again with other bits.
    pub conflicts: u64,
    /// First accepted after a newer one of their series.
    pub order_violations: u64,
    /// With bits that are not those that labels and timestamp ask for; 0 if not verified.
    pub wrong: u64,
}

impl Comparison {
    /// Nothing is lost, made up, altered or out of order; duplicates are no harm.
    pub fn is_sound(&self) -> bool {
        let faults = [
            self.missing,
            self.never_sent,
            self.conflicts,
            self.order_violations,
            self.wrong,
        ];
        faults.iter().all(|count| *count == 0)
    }

    /// Sound, and nothing came twice.
    pub fn is_exact(&self) -> bool {
        self.is_sound() && self.duplicates == 0
    }

    fn note(&mut self, fate: Fate, stored: bool, data: &DataSet, item: Item) {
        match (fate, stored) {
            (Fate::Acknowledged, true) => self.acknowledged += 1,
            (Fate::Acknowledged, false) => {
                self.acknowledged += 1;
                self.missing += 1;
                if self.missing_examples.len() < EXAMPLES_MAX {
                    self.missing_examples.push(described(data, item));
                }
            }
            (Fate::Indeterminate, true) => self.indeterminate_stored += 1,
            (Fate::Indeterminate, false) => self.indeterminate_absent += 1,
            (Fate::Refused, true) => self.refused_stored += 1,
            (Fate::Refused, false) => self.refused_absent += 1,
            (Fate::Unsent, _) => {}
        }
    }
}

/// `up{instance="…", job="…"} at 1750000000000`.
fn described(data: &DataSet, item: Item) -> String {
    let (mut metric, mut rest) = (String::new(), Vec::new());
    for (name, value) in data.labels(item) {
        if name == "__name__" {
            metric = value.into_owned();
        } else {
            rest.push(format!("{name}={value:?}"));
        }
    }
    let at = data.timestamp_ms(item.slot, item.scrape);
    format!("{metric}{{{}}} at {at}", rest.join(", "))
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "acknowledged {}, missing {}, never sent {}, duplicates {}, conflicts {}, out of order {}, wrong {}",
            self.acknowledged,
            self.missing,
            self.never_sent,
            self.duplicates,
            self.conflicts,
            self.order_violations,
            self.wrong
        )?;
        write!(
            f,
            "without answer: {} stored, {} not; refused: {} stored all the same, {} not",
            self.indeterminate_stored,
            self.indeterminate_absent,
            self.refused_stored,
            self.refused_absent
        )?;
        for example in &self.missing_examples {
            write!(f, "\nmissing {example}")?;
        }
        Ok(())
    }
}

/// Compares all that these loads sent with all that these sinks have; a sample may be in any.
///
/// The sinks must remember timestamps, and nothing else may have sent to them.
pub fn compare<S: Holdings>(sinks: &[&S], loads: &[&LoadReport]) -> Comparison {
    let mut found = Comparison::default();
    let mut matched = 0;
    for load in loads {
        for slot in 0..load.data.slots() as u32 {
            for (item, fate) in load.ledger.of_slot(slot) {
                let key = load.data.model(item).key();
                let at = load.data.timestamp_ms(slot, item.scrape);
                let copies = sinks
                    .iter()
                    .filter(|sink| sink.has(&load.headers, key, at))
                    .count();
                matched += copies as u64;
                found.note(fate, copies > 0, &load.data, item);
            }
        }
    }
    let mut distinct = 0;
    for sink in sinks {
        let faults = sink.faults();
        distinct += sink.distinct();
        found.duplicates += faults.duplicates;
        found.conflicts += faults.conflicts;
        found.order_violations += faults.order_violations;
        found.wrong += faults.wrong;
    }
    found.never_sent = distinct.saturating_sub(matched);
    found
}

/// Who made samples come twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repeated {
    /// The sender had them on the wire more than once, because it read no 2xx.
    pub by_sender: u64,
    /// It had not: what stands between sender and receiver repeated them.
    pub between: u64,
}

/// Tells repeats that the sender's own retries explain from the others.
///
/// The load must have ended: its ledger knows a request only once it is settled.
pub struct Blame<'a> {
    load: &'a LoadReport,
    slots: HashMap<u128, u32>,
}

impl<'a> Blame<'a> {
    /// For all that this load sent. Its data must be without churn: a series is one slot's.
    pub fn new(load: &'a LoadReport) -> Self {
        let key = |slot| {
            let item = Item {
                slot,
                scrape: 0,
                what: What::Sample,
            };
            (load.data.model(item).key(), slot)
        };
        let slots = (0..load.data.slots() as u32).map(key).collect();
        Self { load, slots }
    }

    /// Counts them by who repeated them. A sample that this load never sent counts as repeated between.
    pub fn judge(&self, repeats: &[Repeat]) -> Repeated {
        let mut repeated = Repeated::default();
        for repeat in repeats {
            if self.sent_again(repeat) {
                repeated.by_sender += 1;
            } else {
                repeated.between += 1;
            }
        }
        repeated
    }

    fn sent_again(&self, repeat: &Repeat) -> bool {
        let slot = self.slots.get(&repeat.key).copied();
        let scrape = slot.and_then(|slot| self.load.data.scrape_at(slot, repeat.timestamp_ms));
        slot.zip(scrape).is_some_and(|(slot, scrape)| {
            self.load.ledger.is_repeated(Item {
                slot,
                scrape,
                what: What::Sample,
            })
        })
    }
}
