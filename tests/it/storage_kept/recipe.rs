//! What is in `tests/data/storage-v1`: everything follows from this page, and nothing from the machine.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use sluicegate::log::disk::Floor;
use sluicegate::log::disk::fs::OsFs;
use sluicegate::log::disk::store::{Pending, Store, StoreOptions};
use sluicegate::log::{Seq, Tenant};
use sluicegate::model::counts::{Counts, Kind};
use sluicegate::model::runs::RunSet;
use sluicegate::queue::batch::BatchId;
use sluicegate::queue::journal::codec::{Header, put_frame, put_header};
use sluicegate::queue::journal::entry::{Checkpoint, Entry, JournalRun, Settled, Unsettled};
use sluicegate::queue::ledger::{DropReason, Ledger};
use sluicegate::wire::compression::Encoding;
use sluicegate::wire::decoded::Protocol;
use sluicegate::wire::pb::rw1;
use tokio::time::Instant;

use crate::requests::{labels, series, v1, v2};

/// Arrival of the first record, milliseconds since the epoch.
pub(crate) const WALL: i64 = 1_700_000_000_000;
/// Records that are whole.
pub(crate) const RECORDS: u64 = 11;
/// Records of a segment.
const PER_SEGMENT: u32 = 4;

/// A record of the folder.
pub(crate) struct Given {
    pub(crate) seq: u64,
    pub(crate) protocol: Protocol,
    pub(crate) encoding: Encoding,
    pub(crate) tenant: Tenant,
    pub(crate) series: Vec<rw1::TimeSeries>,
    /// The series with this number has no name, and was refused by itself.
    pub(crate) nameless: Option<usize>,
}

/// One element: kind, series, timestamp, bits of its value (none for a histogram).
pub(crate) type Element = (Kind, String, i64, u64);

/// The labels of a series, as one text.
pub(crate) fn text_of(labels: &[rw1::Label]) -> String {
    let mut all: Vec<_> = labels
        .iter()
        .map(|label| format!("{}={}", label.name, label.value))
        .collect();
    all.sort();
    all.join(",")
}

impl Given {
    pub(crate) fn new(seq: u64) -> Self {
        use Encoding::{Snappy, Zstd};
        use Protocol::{V1, V2};
        let (protocol, encoding, count) = match seq {
            1 | 6 | 9 | 12 => (V1, Snappy, 20),
            2 => (V2, Snappy, 12),
            3 => (V1, Zstd, 20),
            4 => (V1, Snappy, 6),
            5 => (V2, Snappy, 20),
            7 => (V1, Snappy, 5),
            8 => (V2, Snappy, 3),
            10 => (V1, Zstd, 8),
            _ => (V2, Snappy, 4),
        };
        let at = WALL + 15_000 * seq.cast_signed();
        let one = |n: usize| {
            let instance = format!("10.0.0.{n}:9100");
            let labels = labels("kept_seconds", &[("instance", &instance), ("job", "node")]);
            series(labels, &[(at, seq as f64 + n as f64 / 64.0)])
        };
        let mut all: Vec<_> = (0..count).map(one).collect();
        let nameless = (seq == 4).then_some(2);
        if let Some(n) = nameless {
            all[n].labels.remove(0);
        }
        if seq == 7 {
            all[0].exemplars.push(rw1::Exemplar {
                labels: labels_of("trace_id", "7f"),
                value: 0.5,
                timestamp: at,
            });
            all.push(with_histogram(at));
        }
        let tenant = (seq == 2).then(|| ("x-scope-orgid".to_owned(), "team-a".to_owned()));
        Self {
            seq,
            protocol,
            encoding,
            tenant: Tenant(tenant.into_iter().collect()),
            series: all,
            nameless,
        }
    }

    pub(crate) fn message(&self) -> Vec<u8> {
        match self.protocol {
            Protocol::V1 => v1(self.series.clone()),
            Protocol::V2 => v2(&self.series).encode_to_vec(),
        }
    }

    /// The request's body; by no library, so that none changes it.
    pub(crate) fn body(&self) -> Vec<u8> {
        match self.encoding {
            Encoding::Snappy => plain_snappy(&self.message()),
            Encoding::Zstd => plain_zstd(&self.message()),
        }
    }

    /// Its elements, by ordinal.
    pub(crate) fn elements(&self) -> Vec<Element> {
        let mut all: [Vec<Element>; 3] = Default::default();
        for one in &self.series {
            let text = text_of(&one.labels);
            let element = |kind, at, value: f64| (kind, text.clone(), at, value.to_bits());
            let samples = one.samples.iter();
            all[0].extend(samples.map(|s| element(Kind::Sample, s.timestamp, s.value)));
            let histograms = one.histograms.iter();
            all[1].extend(histograms.map(|h| element(Kind::Histogram, h.timestamp, 0.0)));
            let exemplars = one.exemplars.iter();
            all[2].extend(exemplars.map(|e| element(Kind::Exemplar, e.timestamp, e.value)));
        }
        all.concat()
    }

    pub(crate) fn counts(&self) -> Counts {
        let elements = self.elements();
        elements.iter().map(|(kind, ..)| Counts::of(*kind, 1)).sum()
    }

    pub(crate) fn skipped(&self) -> RunSet {
        let mut skipped = RunSet::default();
        if let Some(n) = self.nameless {
            skipped.insert(n as u32, n as u32 + 1);
        }
        skipped
    }

    pub(crate) fn admitted(&self) -> Counts {
        let skipped = u64::from(self.skipped().len());
        self.counts() - Counts::of(Kind::Sample, skipped)
    }

    pub(crate) fn arrival_ms(&self) -> i64 {
        WALL + 1000 * self.seq.cast_signed()
    }

    fn pending(&self) -> Pending {
        Pending {
            arrival_ms: self.arrival_ms(),
            arrived: Instant::now(),
            protocol: self.protocol,
            encoding: self.encoding,
            tenant: Arc::new(self.tenant.clone()),
            counts: self.counts(),
            admitted: self.admitted(),
            skipped: self.skipped(),
            body: Bytes::from(self.body()),
            ack: None,
        }
    }
}

fn labels_of(name: &str, value: &str) -> Vec<rw1::Label> {
    let (name, value) = (name.to_owned(), value.to_owned());
    vec![rw1::Label { name, value }]
}

fn with_histogram(at: i64) -> rw1::TimeSeries {
    let mut one = series(labels("kept_histogram", &[("job", "node")]), &[]);
    one.histograms.push(rw1::Histogram {
        sum: 1.5,
        timestamp: at,
        zero_threshold: 0.001,
        positive_spans: vec![rw1::BucketSpan {
            offset: 0,
            length: 1,
        }],
        positive_deltas: vec![3],
        count: Some(rw1::histogram::Count::CountInt(3)),
        zero_count: Some(rw1::histogram::ZeroCount::ZeroCountInt(0)),
        ..Default::default()
    });
    one
}

/// Literals only.
fn plain_snappy(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::encode_varint(message.len() as u64, &mut out);
    for piece in message.chunks(60) {
        out.push(((piece.len() - 1) << 2) as u8);
        out.extend_from_slice(piece);
    }
    out
}

/// A frame of one raw block (RFC 8878, 3.1.1).
fn plain_zstd(message: &[u8]) -> Vec<u8> {
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    let length = message.len() as u32;
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(length << 3 | 1).to_le_bytes()[..3]);
    out.extend_from_slice(message);
    out
}

/// Salts that nobody would guess, and that are the same each time.
fn salt() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed) % 3;
    0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(n + 1)
}

fn options() -> StoreOptions {
    let mut options = StoreOptions::new(64 << 10, vec![true, true], (Instant::now(), WALL));
    options.segment_records = PER_SEGMENT;
    options.salt = salt;
    options
}

/// Writes the folder: two sealed segments, one that is not and has a torn end, and two journals.
///
/// Called by one test at a time, as its salts come one after the other.
pub(crate) fn write(folder: &Path) {
    let fs = Arc::new(OsFs::open(folder, Duration::ZERO).expect("a folder for it"));
    let (store, _) = Store::open(fs, options(), Floor::default()).expect("it is empty");
    for seq in 1..=RECORDS + 1 {
        let (durable, error) = store.commit(&[Given::new(seq).pending()], |_, _| ());
        assert!(durable == 1 && error.is_none(), "{error:?}");
    }
    drop(store);
    // What a crash leaves of the last record.
    let last = folder.join("00000000000000000009.segment");
    let file = std::fs::OpenOptions::new().write(true).open(last).unwrap();
    file.set_len(file.metadata().unwrap().len() - 100).unwrap();
    let (eu, us) = (eu(), us());
    journal(folder, ("eu", 3, 0x0e0e_0e0e), &eu, 0);
    journal(folder, ("us", 1, 0x0a0a_0a0a), &us, 5);
    // Every process makes its own.
    for name in ["lock", "reserve"] {
        std::fs::remove_file(folder.join(name)).unwrap();
    }
}

/// Writes a journal, of whose last entry the end is torn off.
fn journal(folder: &Path, (queue, number, salt): (&str, u64, u32), entries: &[Entry], torn: usize) {
    let mut bytes = Vec::new();
    let header = Header {
        salt,
        queue: queue.to_owned(),
    };
    put_header(&mut bytes, &header);
    for entry in entries {
        put_frame(&mut bytes, salt, entry).expect("it is small");
    }
    bytes.truncate(bytes.len() - torn);
    let name = format!("{queue}.{number:010}.journal");
    std::fs::write(folder.join(name), bytes).unwrap();
}

/// Samples of a record.
pub(crate) fn run(seq: u64, from: u32, to: u32) -> JournalRun {
    JournalRun {
        seq: Seq(seq),
        from,
        to,
        kind: Kind::Sample,
    }
}

pub(crate) fn samples(n: u64) -> Counts {
    Counts::of(Kind::Sample, n)
}

fn open(batch: u64, runs: &[JournalRun]) -> Entry {
    Entry::Open {
        batch: BatchId(batch),
        runs: runs.to_vec(),
    }
}

fn done(batch: u64, delivered: u64) -> Entry {
    Entry::Done {
        batch: BatchId(batch),
        outcome: Settled {
            delivered: samples(delivered),
            ..Settled::default()
        },
    }
}

/// A queue that knows all since its beginning, and has a batch of two records open.
fn eu() -> Vec<Entry> {
    let beginning = Checkpoint::beginning(Seq(1), Counts::default());
    vec![
        Entry::Checkpoint(Box::new(beginning)),
        open(1, &[run(1, 0, 20)]),
        done(1, 20),
        open(2, &[run(3, 0, 10)]),
        done(2, 10),
        open(3, &[run(3, 10, 15), run(5, 0, 5)]),
    ]
}

/// A queue whose journal begins in the middle, with a batch that was open then; its end is torn.
fn us() -> Vec<Entry> {
    let mut ledger = Ledger {
        delivered: samples(80),
        ..Ledger::default()
    };
    ledger.drop(DropReason::Rejected, samples(2));
    let middle = Checkpoint {
        cursor: Seq(6),
        entered: Seq(7),
        entered_totals: samples(97),
        ledger,
        records: vec![Unsettled {
            seq: Seq(6),
            settled: RunSet::range(0, 5),
            unsettled: samples(15),
        }],
        open: vec![(BatchId(7), vec![run(6, 5, 8)])],
        next_batch: 8,
        ..Checkpoint::default()
    };
    vec![
        Entry::Checkpoint(Box::new(middle)),
        open(8, &[run(9, 0, 4)]),
        done(8, 4),
        done(7, 3),
    ]
}

/// What a queue has not settled of a record: ordinals.
pub(crate) fn unsettled(queue: &str, seq: u64) -> RunSet {
    let given = Given::new(seq);
    let settled = match (queue, seq) {
        ("eu", 1) => 20,
        ("eu", 3) => 10,
        ("us", 1..=5) => u32::MAX,
        ("us", 6) => 5,
        ("us", 9) => 4,
        _ => 0,
    };
    let mut left = RunSet::range(0, given.counts().total() as u32);
    left.remove(0, settled);
    for (from, to) in given.skipped().iter() {
        left.remove(from, to);
    }
    left
}

/// The elements that a queue has still to deliver.
pub(crate) fn pending(queue: &str) -> Vec<Element> {
    let of = |seq| {
        let elements = Given::new(seq).elements();
        let left = unsettled(queue, seq);
        let kept = (0u32..).zip(elements).filter(|(n, _)| left.contains(*n));
        kept.map(|(_, element)| element).collect::<Vec<_>>()
    };
    (1..=RECORDS).flat_map(of).collect()
}
