//! Requests that were made durable by the last process and perhaps never answered: their senders come again.
//!
//! A sender that did not read its 2xx repeats the same bytes. Stored a second time they would be sent a second
//! time, and a receiver with Prometheus' rules refuses every request that holds an old sample once more, good
//! samples and all. So for a while after a start a body is held against the last ones in the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::disk::DiskLog;
use super::{Log, QueueIndex, Seq, Tenant};
use crate::model::counts::Counts;
use crate::wire::compression::Encoding;
use crate::wire::decoded::Protocol;

/// So many records at the end of the log are looked at: more than all senders together have in flight.
const RECORDS: u64 = 2048;
/// Of these, those that came at most so long before the last one: a sender gives up sooner.
const AGE_MS: i64 = 60_000;
/// How long after a start senders may come again.
const FOR: Duration = Duration::from_secs(120);

/// A body, with all that makes it another one.
#[derive(Clone, Copy, Debug)]
pub struct Repeat<'r> {
    /// The bytes.
    pub body: &'r [u8],
    /// Which message they hold.
    pub protocol: Protocol,
    /// How they are compressed.
    pub encoding: Encoding,
    /// Separating headers.
    pub tenant: &'r Tenant,
    /// Elements in them.
    pub counts: Counts,
}

/// The last records of a log that was opened.
pub struct Repeats {
    log: Arc<DiskLog>,
    /// By what is known of them without reading them: length and counts.
    records: HashMap<(u32, Counts), Vec<Seq>>,
    until: Instant,
}

impl Repeats {
    /// Those before `end`. Blocks: may have to read where records stand.
    pub fn new(log: &Arc<DiskLog>, end: Seq, now: Instant) -> Self {
        let mut found = Vec::new();
        let mut at = Seq(end.0.saturating_sub(RECORDS));
        while let Some(record) = log.first(at).filter(|record| record.seq < end) {
            at = record.seq.next();
            found.push(record);
        }
        let last = found.last().map_or(0, |record| record.arrival_ms);
        let mut records: HashMap<_, Vec<_>> = HashMap::new();
        for record in found {
            if last - record.arrival_ms <= AGE_MS {
                let key = (record.body_len, record.counts);
                records.entry(key).or_default().push(record.seq);
            }
        }
        Self {
            log: Arc::clone(log),
            records,
            until: now + FOR,
        }
    }

    /// Senders may still come again with what is there.
    pub fn is_asked(&self, now: Instant) -> bool {
        now < self.until && !self.records.is_empty()
    }

    /// Records that may hold these bytes; they have to be read to know.
    pub fn candidates(&self, repeat: &Repeat<'_>, now: Instant) -> Vec<Seq> {
        let length = u32::try_from(repeat.body.len()).unwrap_or(u32::MAX);
        let known = self.records.get(&(length, repeat.counts));
        let known = known.filter(|_| now < self.until);
        known.cloned().unwrap_or_default()
    }

    /// One of these records holds just these bytes. Blocks.
    pub fn holds(&self, repeat: &Repeat<'_>, candidates: &[Seq]) -> bool {
        candidates.iter().any(|seq| {
            // No queue's hand-off is touched: there is none of a record that the last process wrote.
            let fetched = self.log.fetch(QueueIndex(0), *seq);
            fetched.is_some_and(|fetched| {
                let record = &fetched.record;
                record.seq == *seq
                    && fetched.body.is_some_and(|body| *body == *repeat.body)
                    && (record.protocol, record.encoding) == (repeat.protocol, repeat.encoding)
                    && *record.tenant == *repeat.tenant
            })
        })
    }
}
