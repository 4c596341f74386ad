//! The way of a sample, cut into its stages: one request of 2,000 samples through each of them.
//!
//! The data is what `bench load` sends (profile `kubernetes`, one `TimeSeries` an element, in the order of the
//! scrapes), as if through one shard of Prometheus. All series are known already, as they are in a process that
//! has run for a while. Files, sockets, threads and the runtime are left out: what is measured is what the
//! processor does for a sample, and nothing waits.
//!
//! `stages.rs` measures the time of each, `instructions.rs` counts instructions.

mod nowhere;

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use sluicegate::bench::Protocol as LoadProtocol;
use sluicegate::bench::data::{DataOptions, DataSet, Item, What};
use sluicegate::bench::encode::{EncodedLabels, Encoder as LoadEncoder};
use sluicegate::log::disk::Floor;
use sluicegate::log::disk::store::{Pending, Store, StoreOptions};
use sluicegate::log::memory::MemoryLog;
use sluicegate::log::{Log, NewRecord, QueueIndex, Record, Seq, Tenant};
use sluicegate::model::counts::Counts;
use sluicegate::model::labels::{Interner, Labels};
use sluicegate::model::runs::RunSet;
use sluicegate::queue::batch::{Batch, BatchId, Outcome};
use sluicegate::queue::dispatch::Next;
use sluicegate::queue::grouping::{Grouping, LaneRules};
use sluicegate::queue::journal::codec::put_frame;
use sluicegate::queue::journal::entry::{Checkpoint, Entry};
use sluicegate::queue::journal::recover::Recovered;
use sluicegate::queue::journal::{Sink, Ticket};
use sluicegate::queue::lanes::LaneLimits;
use sluicegate::queue::state::{MemoryShares, QueueOptions, QueueState};
use sluicegate::queue::take::{Plan, Role};
use sluicegate::wire::compression::{self, Encoding, encode_snappy, encode_zstd};
use sluicegate::wire::decoded::{Decoded, IdentityKey, Protocol, WalkLimits};
use sluicegate::wire::encode::{Encoder, NoMetadata};
use sluicegate::wire::{pb, walk};
use tokio::time::Instant;

use nowhere::Nowhere;

/// Samples in a request and in a batch: each figure is divided by this.
pub(crate) const SAMPLES: usize = 2_000;

/// Wall clock of the first scrape.
const START_MS: i64 = 1_750_000_000_000;
/// The only queue.
const QUEUE: QueueIndex = QueueIndex(0);
/// Above everything here.
const PLENTY: u64 = 1 << 40;
/// Of VictoriaMetrics' encoding, as `queue/sender.rs` has it.
const ZSTD_LEVEL: i32 = 1;

const LIMITS: WalkLimits = WalkLimits {
    series: u32::MAX as usize,
    elements: u32::MAX as usize,
    labels: u32::MAX as usize,
    label_bytes: 0,
    expanded_bytes: usize::MAX,
};

/// A stage, by the file where most of it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// `wire/compression.rs`: a 1.0 body.
    DecompressV1,
    /// The same for a 2.0 body, which is shorter.
    DecompressV2,
    /// `wire/rw1.rs` with the identity of each series: what ingest does with a message.
    WalkV1,
    /// The same of labels that are not sorted, which have to be put into their canonical form first.
    WalkV1Unsorted,
    /// `wire/rw2.rs`, in the same way.
    WalkV2,
    /// `wire/decoded.rs`: the keyed hash of a series' canonical labels, which is part of the walk.
    Identity,
    /// `model/labels.rs`: interning the labels of a series; only new series cost it.
    Intern,
    /// `log/memory.rs`: a decoded request into the log in memory.
    Append,
    /// `queue/take.rs`: from the log into lanes.
    Take,
    /// `queue/dispatch.rs`, `queue/cut.rs`: from lanes to a batch in the order for the encoder.
    Cut,
    /// `wire/encode.rs`: a 1.0 message.
    EncodeV1,
    /// A 2.0 message.
    EncodeV2,
    /// `wire/compression.rs`: a 1.0 message by snappy.
    CompressV1,
    /// A 2.0 message by snappy.
    CompressV2,
    /// A 1.0 message by zstd, for VictoriaMetrics.
    CompressZstd,
    /// `queue/dispatch.rs`: a batch has its verdict; books, records, lanes, the record given back.
    Settle,
    /// `queue/journal/codec.rs`: the entries that open and end a batch.
    Journal,
    /// `log/disk/record.rs` and `write.rs`: header, checksums and bookkeeping of a record on a disk that takes
    /// no time.
    Disk,
}

/// The stages in the order of a sample's way.
pub(crate) const STAGES: [(Stage, &str); 18] = [
    (Stage::DecompressV1, "decompress_1_0"),
    (Stage::DecompressV2, "decompress_2_0"),
    (Stage::WalkV1, "walk_1_0"),
    (Stage::WalkV1Unsorted, "walk_1_0_unsorted"),
    (Stage::WalkV2, "walk_2_0"),
    (Stage::Identity, "identity"),
    (Stage::Intern, "intern"),
    (Stage::Append, "append"),
    (Stage::Disk, "disk_record"),
    (Stage::Take, "take"),
    (Stage::Cut, "cut"),
    (Stage::EncodeV1, "encode_1_0"),
    (Stage::EncodeV2, "encode_2_0"),
    (Stage::CompressV1, "compress_1_0"),
    (Stage::CompressV2, "compress_2_0"),
    (Stage::CompressZstd, "compress_1_0_zstd"),
    (Stage::Journal, "journal_entries"),
    (Stage::Settle, "settle"),
];

/// A request in both messages.
struct Sent {
    v1: Bytes,
    v2: Bytes,
}

/// What a stage is given.
pub(crate) enum Input {
    /// A body as it came.
    Body(Bytes),
    /// A message and how it is read.
    Message(Vec<u8>, Protocol),
    /// A request that has been decoded.
    Request(NewRecord),
    /// The same for the disk.
    Pending([Pending; 1]),
    /// A batch that was cut.
    Verdict(BatchId, Outcome),
    /// All that it needs stands in the rig.
    Nothing,
}

/// What a stage makes, so that it is dropped after the end of the measurement.
#[allow(dead_code, reason = "most of it is kept only to be dropped later")]
pub(crate) enum Output {
    Message(Vec<u8>),
    Decoded(Decoded),
    Record(Arc<Record>),
    Batch(Arc<Batch>),
    Labels(Vec<Labels>),
    Hash(u128),
    Nothing,
}

/// The parts at work, with all series known to them.
pub(crate) struct Rig {
    key: IdentityKey,
    tenant: Arc<Tenant>,
    requests: Vec<Sent>,
    turn: usize,
    log: Arc<MemoryLog>,
    state: QueueState,
    journal: Arc<Kept>,
    store: Store,
    /// Of a request's series: labels as they are hashed, and as they are interned.
    canonical: Vec<Vec<u8>>,
    labels: Vec<OwnLabels>,
    interner: Interner,
    /// A batch, its messages, and its entries in the journal.
    batch: Option<Arc<Batch>>,
    v1: Vec<u8>,
    v2: Vec<u8>,
    entries: Vec<Entry>,
    encoder: Encoder,
    snappy: snap::raw::Encoder,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

type OwnLabels = Vec<(Box<[u8]>, Box<[u8]>)>;

impl Rig {
    /// For a cluster of so many nodes, 820 series each.
    pub(crate) fn new(nodes: u32) -> Self {
        let key = IdentityKey::fixed(1);
        let requests = requests(nodes);
        let log = MemoryLog::new(PLENTY, 1 << 30, &[true]);
        let journal = Arc::new(Kept::default());
        let sink = Arc::clone(&journal) as Arc<dyn Sink>;
        let beginning = Recovered::from(Checkpoint::beginning(Seq(1), Counts::default()));
        let mut state = QueueState::restored(options(), beginning, Seq(1), sink, &*log);
        state.write_checkpoint();
        let decoded = decoded(&requests[0].v1, Protocol::V1, &key);
        let mut interner = Interner::default();
        let (mut canonical, mut labels) = (Vec::new(), Vec::new());
        for row in &decoded.series {
            let mut pairs = Vec::new();
            decoded.labels(row, &mut pairs);
            let known = interner.intern(&pairs);
            let bytes = known.pairs().iter().flat_map(|pair| pair.encoded());
            canonical.push(bytes.copied().collect());
            let own = |(name, value): &(&[u8], &[u8])| ((*name).into(), (*value).into());
            labels.push(pairs.iter().map(own).collect());
        }
        let store_options = StoreOptions::new(1 << 30, vec![true], (Instant::now(), START_MS));
        let store = Store::open(Arc::new(Nowhere), store_options, Floor::default());
        let mut rig = Self {
            batch: None,
            key,
            tenant: Arc::default(),
            requests,
            turn: 0,
            log,
            state,
            journal,
            store: store.expect("nowhere takes everything").0,
            canonical,
            labels,
            interner,
            v1: Vec::new(),
            v2: Vec::new(),
            entries: Vec::new(),
            encoder: Encoder::default(),
            snappy: snap::raw::Encoder::new(),
            scratch: Vec::new(),
            out: Vec::new(),
        };
        // One round of everything: series become known, buffers get their size.
        for _ in 0..rig.requests.len() {
            let batch = rig.sent();
            rig.settle_all(&batch);
        }
        rig.journal.take();
        let batch = rig.sent();
        rig.settle_all(&batch);
        rig.entries = rig.journal.take();
        assert!(matches!(
            rig.entries[..],
            [Entry::Open { .. }, Entry::Done { .. }]
        ));
        for protocol in [Protocol::V1, Protocol::V2] {
            let mut message = Vec::new();
            rig.encoder
                .encode(protocol, &batch.content, &NoMetadata, &mut message);
            match protocol {
                Protocol::V1 => rig.v1 = message,
                Protocol::V2 => rig.v2 = message,
            }
        }
        rig.batch = Some(batch);
        rig
    }

    /// All that comes before the stage.
    pub(crate) fn prepare(&mut self, stage: Stage) -> Input {
        self.out.clear();
        match stage {
            Stage::DecompressV1 => Input::Body(self.next().v1.clone()),
            Stage::DecompressV2 => Input::Body(self.next().v2.clone()),
            Stage::WalkV1 => Input::Message(message(&self.next().v1), Protocol::V1),
            Stage::WalkV1Unsorted => Input::Message(unsorted(&self.next().v1), Protocol::V1),
            Stage::WalkV2 => Input::Message(message(&self.next().v2), Protocol::V2),
            Stage::Append => Input::Request(self.request()),
            Stage::Disk => Input::Pending([self.pending()]),
            Stage::Take => {
                let request = self.request();
                self.append(request);
                Input::Nothing
            }
            Stage::Cut => {
                let request = self.request();
                self.append(request);
                self.take();
                Input::Nothing
            }
            Stage::Settle => {
                let batch = self.sent();
                Input::Verdict(batch.id, delivered(&batch))
            }
            Stage::Identity
            | Stage::Intern
            | Stage::EncodeV1
            | Stage::EncodeV2
            | Stage::CompressV1
            | Stage::CompressV2
            | Stage::CompressZstd
            | Stage::Journal => Input::Nothing,
        }
    }

    /// The stage itself: this is what is measured.
    #[inline(never)]
    pub(crate) fn run(&mut self, stage: Stage, input: Input) -> Output {
        match (stage, input) {
            (_, Input::Body(body)) => Output::Message(message(&body)),
            (_, Input::Message(message, protocol)) => {
                let decoded = walk(message, protocol, &LIMITS, &self.key);
                Output::Decoded(decoded.expect("a sound message"))
            }
            (_, Input::Request(request)) => Output::Record(self.append(request)),
            (_, Input::Pending(pending)) => {
                let (done, error) = self.store.commit(&pending, |_, _| {});
                assert!(done == 1 && error.is_none(), "nowhere takes everything");
                Output::Nothing
            }
            (_, Input::Verdict(id, outcome)) => {
                let now = Instant::now();
                self.state.settle(id, outcome, now, &*self.log);
                Output::Nothing
            }
            (Stage::Identity, _) => {
                let hashes = self.canonical.iter().map(|bytes| self.key.hash(bytes));
                Output::Hash(hashes.fold(0, |all, hash| all ^ hash))
            }
            (Stage::Intern, _) => self.intern(),
            (Stage::Take, _) => {
                self.take();
                Output::Nothing
            }
            (Stage::Cut, _) => Output::Batch(self.cut()),
            (Stage::EncodeV1, _) => self.encode(Protocol::V1),
            (Stage::EncodeV2, _) => self.encode(Protocol::V2),
            (Stage::CompressV1, _) => {
                encode_snappy(&mut self.snappy, &self.v1, &mut self.scratch);
                Output::Nothing
            }
            (Stage::CompressV2, _) => {
                encode_snappy(&mut self.snappy, &self.v2, &mut self.scratch);
                Output::Nothing
            }
            (Stage::CompressZstd, _) => {
                encode_zstd(&self.v1, ZSTD_LEVEL, &mut self.scratch);
                Output::Nothing
            }
            (Stage::Journal, _) => {
                for entry in &self.entries {
                    put_frame(&mut self.out, 7, entry).expect("an entry of a few runs");
                }
                Output::Nothing
            }
            (stage, _) => unreachable!("{stage:?} was given something else"),
        }
    }

    /// All that comes after the stage, so that the next request finds what this one did.
    pub(crate) fn tidy(&mut self, stage: Stage, output: Output) {
        match (stage, output) {
            (Stage::Append, _) => {
                self.take();
                let batch = self.cut();
                self.settle_all(&batch);
            }
            (Stage::Take, _) => {
                let batch = self.cut();
                self.settle_all(&batch);
            }
            (Stage::Cut, Output::Batch(batch)) => self.settle_all(&batch),
            (Stage::Disk, _) => {
                let last = Seq(self.store.next().0 - 1);
                if self.store.release(QUEUE, last) {
                    self.store.tend(START_MS, &|| true);
                }
            }
            (_, output) => drop(output),
        }
        self.journal.take();
    }

    fn next(&mut self) -> &Sent {
        self.turn = (self.turn + 1) % self.requests.len();
        &self.requests[self.turn]
    }

    fn request(&mut self) -> NewRecord {
        let body = self.next().v1.clone();
        NewRecord {
            arrival_ms: START_MS,
            encoding: Encoding::Snappy,
            tenant: Arc::clone(&self.tenant),
            skipped: RunSet::default(),
            decoded: Arc::new(decoded(&body, Protocol::V1, &self.key)),
            body,
            ack: None,
        }
    }

    fn pending(&mut self) -> Pending {
        let counts = Counts {
            samples: SAMPLES as u64,
            ..Counts::default()
        };
        Pending {
            arrival_ms: START_MS,
            arrived: Instant::now(),
            protocol: Protocol::V1,
            encoding: Encoding::Snappy,
            tenant: Arc::clone(&self.tenant),
            counts,
            admitted: counts,
            skipped: RunSet::default(),
            body: self.next().v1.clone(),
            ack: None,
        }
    }

    fn append(&self, request: NewRecord) -> Arc<Record> {
        let bytes = request.body.len() as u64;
        let room = self.log.reserve(bytes, &self.tenant, Duration::ZERO);
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(room)) = pin!(room).poll(&mut context) else {
            unreachable!("the log is far from full");
        };
        self.log.append(request, room)
    }

    fn take(&mut self) {
        let now = Instant::now();
        let Plan::Lead(seq) = self.state.plan(now) else {
            unreachable!("there is room, and nothing is parked");
        };
        let fetched = self.log.fetch(QUEUE, seq).expect("it was appended");
        let slot = self.state.enter(&fetched.record, &*self.log);
        let slot = slot.expect("there is something to take");
        let decoded = fetched.decoded.expect("the reader has caught up");
        self.state.take(Role::Lead, slot, &decoded, now, &*self.log);
    }

    fn cut(&mut self) -> Arc<Batch> {
        let Next::Send(batch, 0) = self.state.next_send(Instant::now()) else {
            unreachable!("a whole batch is due");
        };
        assert_eq!(batch.counts.samples, SAMPLES as u64);
        batch
    }

    /// A request through all stages up to its verdict.
    fn sent(&mut self) -> Arc<Batch> {
        let request = self.request();
        self.append(request);
        self.take();
        self.cut()
    }

    fn settle_all(&mut self, batch: &Batch) {
        self.state
            .settle(batch.id, delivered(batch), Instant::now(), &*self.log);
    }

    fn encode(&mut self, protocol: Protocol) -> Output {
        let batch = self.batch.as_ref().expect("the rig is complete");
        self.encoder
            .encode(protocol, &batch.content, &NoMetadata, &mut self.out);
        Output::Nothing
    }

    /// The pairs are known, as those of a new series mostly are.
    fn intern(&mut self) -> Output {
        let mut interned = Vec::with_capacity(self.labels.len());
        let mut pairs: Vec<(&[u8], &[u8])> = Vec::new();
        for labels in &self.labels {
            pairs.clear();
            pairs.extend(labels.iter().map(|(name, value)| (&**name, &**value)));
            interned.push(self.interner.intern(&pairs));
        }
        Output::Labels(interned)
    }
}

fn options() -> QueueOptions {
    let shards = 4;
    let limits = LaneLimits::new(
        10_000,
        shards,
        SAMPLES as u32,
        16 << 20,
        Duration::from_secs(5),
    );
    QueueOptions {
        name: "bench".to_owned(),
        passthrough: false,
        index: QUEUE,
        required: true,
        rules: LaneRules {
            grouping: Grouping::Target,
            separate_by: ["__replica__", "prometheus_replica", "cluster"]
                .map(str::to_owned)
                .to_vec(),
            spread: Vec::new(),
        },
        limits,
        eager: false,
        min_shards: 1,
        max_shards: shards as usize,
        min_backoff: Duration::from_millis(30),
        max_backoff: Duration::from_secs(5),
        memory: MemoryShares {
            lanes: 1 << 30,
            table: 1 << 30,
            runs: 1 << 30,
            metadata: 1 << 20,
        },
        send_exemplars: true,
        send_histograms: true,
    }
}

/// Requests of whole scrape rounds, each of [`SAMPLES`] samples.
fn requests(nodes: u32) -> Vec<Sent> {
    let options = DataOptions {
        nodes,
        ..DataOptions::default()
    };
    let data = Arc::new(DataSet::new(&options, START_MS));
    let labels = Arc::new(EncodedLabels::new(&data));
    let mut v1 = LoadEncoder::new(Arc::clone(&data), Arc::clone(&labels), LoadProtocol::V1);
    let mut v2 = LoadEncoder::new(Arc::clone(&data), labels, LoadProtocol::V2);
    let whole = data.slots().div_ceil(SAMPLES) * SAMPLES;
    let scrape = |scrape| {
        data.round().flat_map(move |(_, slots)| {
            slots.map(move |slot| Item {
                slot,
                scrape,
                what: What::Sample,
            })
        })
    };
    let items: Vec<Item> = (0..).flat_map(scrape).take(whole).collect();
    let encode = |items: &[Item]| Sent {
        v1: v1.encode(items),
        v2: v2.encode(items),
    };
    items.chunks(SAMPLES).map(encode).collect()
}

fn message(body: &[u8]) -> Vec<u8> {
    let decoded = compression::decode(body, Encoding::Snappy, PLENTY, |_| Ok(()));
    decoded.expect("a sound body")
}

/// A 1.0 message whose labels stand in the opposite order.
fn unsorted(body: &[u8]) -> Vec<u8> {
    let mut request = pb::rw1::WriteRequest::decode(&*message(body)).expect("a sound message");
    for series in &mut request.timeseries {
        series.labels.reverse();
    }
    request.encode_to_vec()
}

fn decoded(body: &[u8], protocol: Protocol, key: &IdentityKey) -> Decoded {
    walk(message(body), protocol, &LIMITS, key).expect("a sound message")
}

fn delivered(batch: &Batch) -> Outcome {
    Outcome {
        delivered: batch.counts,
        ..Outcome::default()
    }
}

/// Keeps what the queue says, for a moment.
#[derive(Default)]
struct Kept(Mutex<Vec<Entry>>);

impl Kept {
    fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink for Kept {
    fn write(&self, entry: Entry) -> Ticket {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(entry);
        Ticket(entries.len() as u64)
    }

    fn wants_checkpoint(&self) -> bool {
        false
    }
}
