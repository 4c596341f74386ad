//! Records to write, and what is known of them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use sluicegate::log::disk::Floor;
use sluicegate::log::disk::store::{Pending, Store, StoreOptions};
use sluicegate::log::{Record, Seq, Tenant};
use sluicegate::model::counts::Counts;
use sluicegate::model::runs::RunSet;
use sluicegate::wire::compression::Encoding;
use sluicegate::wire::decoded::Protocol;
use tokio::time::Instant;

use super::model_fs::ModelFs;

/// Wall clock when all this begins.
pub(crate) const WALL: i64 = 1_700_000_000_000;

/// A moment that all stores share, so that what follows from a seed is the same each time.
pub(crate) fn opened() -> Instant {
    static OPENED: OnceLock<Instant> = OnceLock::new();
    *OPENED.get_or_init(Instant::now)
}

/// Small segments, so that all happens soon.
pub(crate) fn options(required: &[bool]) -> StoreOptions {
    let mut options = StoreOptions::new(32 << 10, required.to_vec(), (opened(), WALL));
    options.segment_bytes = 4 << 10;
    options.segment_records = 6;
    options.salt = || fastrand::u64(..);
    options
}

pub(crate) fn open(fs: &ModelFs, options: &StoreOptions) -> Store {
    let fs = Arc::new(fs.clone());
    let opened = Store::open(fs, options.clone(), Floor::default());
    opened.expect("the folder can be opened").0
}

/// A record whose every part follows from `id`, its body of `length` bytes at least.
pub(crate) fn pending(id: u64, length: usize) -> Pending {
    let mut rng = fastrand::Rng::with_seed(id);
    let mut body = id.to_le_bytes().to_vec();
    body.extend((0..length).map(|_| rng.u8(..)));
    let counts = Counts {
        samples: rng.u64(1..50),
        histograms: rng.u64(..3),
        exemplars: rng.u64(..3),
    };
    let skip = rng.u32(..3).min(counts.samples as u32 - 1);
    let mut skipped = RunSet::default();
    skipped.insert(1, 1 + skip);
    let tenant = match rng.u8(..3) {
        0 => Tenant::default(),
        n => Tenant(vec![("x-scope-orgid".to_owned(), format!("tenant {n}"))]),
    };
    Pending {
        arrival_ms: WALL + (id % 100_000).cast_signed(),
        arrived: opened(),
        protocol: if rng.bool() {
            Protocol::V1
        } else {
            Protocol::V2
        },
        encoding: if rng.bool() {
            Encoding::Snappy
        } else {
            Encoding::Zstd
        },
        tenant: Arc::new(tenant),
        counts,
        admitted: counts
            - Counts {
                samples: skip.into(),
                ..Counts::default()
            },
        skipped,
        body: Bytes::from(body),
        ack: None,
    }
}

/// The log has this record as it was given.
pub(crate) fn same(record: &Record, given: &Pending) -> bool {
    record.arrival_ms == given.arrival_ms
        && record.protocol == given.protocol
        && record.encoding == given.encoding
        && record.tenant == given.tenant
        && record.counts == given.counts
        && record.admitted == given.admitted
        && record.skipped == given.skipped
        && record.body_len as usize == given.body.len()
}

/// All that the log has, from its beginning on.
pub(crate) fn all(store: &Store) -> Vec<(Arc<Record>, Option<Bytes>)> {
    let (mut at, mut found) = (Seq(0), Vec::new());
    while let Some((record, body)) = store.fetch(at) {
        assert!(record.seq >= at, "{:?} behind {at:?}", record.seq);
        at = record.seq.next();
        found.push((record, body));
    }
    found
}
