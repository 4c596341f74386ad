//! Random operations on a folder that fails and crashes, against a plain list of what was acknowledged.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sluicegate::log::disk::store::{Pending, Store, StoreOptions};
use sluicegate::log::disk::{Floor, OnFull};
use sluicegate::log::{Gone, QueueIndex, Seq, Tenant};
use sluicegate::model::counts::Counts;

use super::model_fs::{EIO, ENOSPC, Fault, ModelFs, Op};
use super::records::{WALL, all, options, pending, same};

/// Seeds of a normal run.
const SEEDS: u64 = 2000;
const STEPS: usize = 50;

/// What has happened, to see that all did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    acked: usize,
    failed: usize,
    crashes: usize,
    reopened: usize,
    deleted: usize,
    evicted: usize,
    leftovers: usize,
    refused: usize,
}

/// A record that was acknowledged.
struct Acked {
    id: u64,
    totals: Counts,
}

struct World {
    rng: fastrand::Rng,
    fs: ModelFs,
    options: StoreOptions,
    store: Store,
    offered: HashMap<u64, Pending>,
    /// By sequence.
    acked: BTreeMap<u64, Acked>,
    /// Were in the log without being acknowledged, when it was last opened.
    leftovers: BTreeMap<u64, u64>,
    released: Vec<BTreeSet<u64>>,
    next_id: u64,
    settled_to: u64,
    now_ms: i64,
    seen: Seen,
}

#[test]
fn what_was_acknowledged_is_there_whatever_the_disk_does() {
    let number = |name: &str| {
        let text = std::env::var(name).ok();
        text.map(|text| text.parse::<u64>().expect(name))
    };
    if let Some(seed) = number("SLUICEGATE_STORAGE_SEED") {
        println!("{:?}", run(seed));
        return;
    }
    let seeds = number("SLUICEGATE_STORAGE_SEEDS").unwrap_or(SEEDS);
    let workers = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let each = |worker: u64| {
        let seeds = (worker..seeds).step_by(workers as usize);
        seeds.map(|seed| (seed, attempt(seed))).collect::<Vec<_>>()
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers).map(|n| scope.spawn(move || each(n))).collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().expect("caught"));
        joined.flatten().collect()
    });
    let mut total = Seen::default();
    let mut failures = Vec::new();
    for (seed, result) in results {
        match result {
            Ok(seen) => total.add(seen),
            Err(what) => failures.push(format!("SLUICEGATE_STORAGE_SEED={seed}: {what}")),
        }
    }
    println!("{seeds} seeds: {total:?}");
    failures.truncate(10);
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    if seeds >= SEEDS {
        let all = [
            total.acked,
            total.failed,
            total.crashes,
            total.reopened,
            total.deleted,
            total.evicted,
            total.leftovers,
            total.refused,
        ];
        assert!(
            all.iter().all(|n| *n > 100),
            "not everything has happened: {total:?}"
        );
    }
}

/// Runs one seed; what went wrong, if anything did.
pub(crate) fn attempt(seed: u64) -> Result<Seen, String> {
    catch_unwind(AssertUnwindSafe(|| run(seed))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("?").to_owned()
    })
}

fn run(seed: u64) -> Seen {
    fastrand::seed(seed);
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.fs.well();
    world.fs.room(None);
    world.crash();
    // The disk is well again, and there is room: nothing keeps it from accepting.
    world.release_all();
    let before = world.seen.acked;
    world.append(3);
    assert_eq!(
        world.seen.acked,
        before + 3,
        "a disk that is well takes everything"
    );
    world.crash();
    world.seen
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.acked += other.acked;
        self.failed += other.failed;
        self.crashes += other.crashes;
        self.reopened += other.reopened;
        self.deleted += other.deleted;
        self.evicted += other.evicted;
        self.leftovers += other.leftovers;
        self.refused += other.refused;
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let required: &[bool] = match rng.u8(..4) {
            0 => &[true, false],
            1 => &[true, true],
            _ => &[true],
        };
        let mut options = options(required);
        if rng.u8(..4) == 0 {
            options.on_full = OnFull::DropOldest;
        }
        let fs = ModelFs::new(seed);
        let store = Store::open(Arc::new(fs.clone()), options.clone(), Floor::default());
        Self {
            store: store.expect("an empty folder can be opened").0,
            released: vec![BTreeSet::new(); required.len()],
            rng,
            fs,
            options,
            offered: HashMap::new(),
            acked: BTreeMap::new(),
            leftovers: BTreeMap::new(),
            next_id: 1,
            settled_to: 0,
            now_ms: WALL,
            seen: Seen::default(),
        }
    }

    fn step(&mut self) {
        match self.rng.u8(..100) {
            0..45 => {
                let records = self.rng.usize(1..5);
                self.append(records);
            }
            45..65 => self.release(),
            65..72 => self.tend(),
            72..78 => self.fault(),
            78..84 => {
                self.fs.well();
                self.fs.room(None);
            }
            84..88 => self.store.seal(),
            88..92 => self.read(),
            92..95 => self.reopen(),
            _ => self.crash(),
        }
    }

    /// Offers records as ingest does: room first.
    fn append(&mut self, records: usize) {
        let mut group = Vec::new();
        for _ in 0..records {
            let length = match self.rng.u8(..20) {
                0 => self.rng.usize(3000..9000),
                1..6 => self.rng.usize(600..1500),
                _ => self.rng.usize(..200),
            };
            let new = pending(self.next_id, length);
            self.offered.insert(self.next_id, new.clone());
            self.next_id += 1;
            group.push(new);
        }
        let bytes = group.iter().map(|new| new.body.len() as u64 + 512).sum();
        if self.store.try_reserve(bytes, &Tenant::default()).is_err() {
            self.seen.refused += 1;
            self.tend();
            if self.store.try_reserve(bytes, &Tenant::default()).is_err() {
                return;
            }
        }
        let mut told = Vec::new();
        let (durable, error) = self.store.commit(&group, |index, record| {
            told.push((index, Arc::clone(record)));
        });
        self.store.unreserve(bytes);
        assert_eq!(durable, told.len(), "who is told is who is durable");
        assert_eq!(error.is_some(), durable < group.len(), "{error:?}");
        for (index, record) in told {
            let seq = record.seq.0;
            let last = self.acked.keys().next_back().copied().unwrap_or(0);
            assert!(seq > last, "{seq} is given after {last}");
            assert!(
                !self.leftovers.contains_key(&seq),
                "{seq} was seen, and is given again"
            );
            assert!(seq >= self.settled_to, "{seq} is below the journals' floor");
            assert!(same(&record, &group[index]));
            let id = id_of(&group[index].body);
            let totals = record.totals;
            self.acked.insert(seq, Acked { id, totals });
            self.seen.acked += 1;
        }
        self.seen.failed += group.len() - durable;
        // Strict, but for one segment: the largest there can be.
        let (bytes, _) = self.store.held();
        let most = self.options.max_bytes + 4 * 9600 + 4096;
        assert!(
            bytes <= most,
            "{bytes} bytes in a log of {}",
            self.options.max_bytes
        );
    }

    /// A queue gives something back: mostly the oldest.
    fn release(&mut self) {
        let queue = self.rng.usize(..self.released.len());
        let visible = self.acked.keys().chain(self.leftovers.keys());
        let held: BTreeSet<_> = visible
            .copied()
            .filter(|seq| !self.released[queue].contains(seq))
            .collect();
        let count = self.rng.usize(1..10);
        let from = match self.rng.u8(..3) {
            0 => self.rng.usize(..held.len().max(1)),
            _ => 0,
        };
        for seq in held.into_iter().skip(from).take(count) {
            self.store.release(QueueIndex(queue as u8), Seq(seq));
            self.released[queue].insert(seq);
            // Its journal knows of it.
            self.settled_to = self.settled_to.max(seq + 1);
        }
    }

    fn release_all(&mut self) {
        for queue in 0..self.released.len() {
            let end = self.store.next();
            self.store
                .release_range(QueueIndex(queue as u8), Seq(0), end);
            self.released[queue].extend(self.acked.keys().chain(self.leftovers.keys()));
            self.settled_to = end.0;
        }
        self.store.tend(self.now_ms, &|| true);
    }

    fn tend(&mut self) {
        let before = self.visible();
        let ready = self.rng.u8(..5) > 0;
        self.now_ms += 1000;
        self.store.tend(self.now_ms, &|| ready);
        let after = self.visible();
        assert!(ready || before == after, "deleted without being allowed to");
        for seq in before.difference(&after) {
            self.seen.deleted += 1;
            if self.is_released(*seq) {
                continue;
            }
            self.seen.evicted += 1;
            assert_eq!(self.store.why_gone(Seq(*seq)), Gone::ForRoom, "{seq}");
            let optional = self.is_free(*seq);
            let chosen = self.options.on_full == OnFull::DropOldest;
            assert!(
                optional || chosen,
                "{seq} went, and a required queue wants it"
            );
            // From now on nobody expects it.
            self.released
                .iter_mut()
                .for_each(|released| released.extend([*seq]));
        }
    }

    fn visible(&self) -> BTreeSet<u64> {
        let (mut at, mut found) = (Seq(0), BTreeSet::new());
        while let Some(record) = self.store.first(at) {
            found.insert(record.seq.0);
            at = record.seq.next();
        }
        found
    }

    fn is_released(&self, seq: u64) -> bool {
        self.released.iter().all(|released| released.contains(&seq))
    }

    fn is_free(&self, seq: u64) -> bool {
        let queues = self.released.iter().zip(&self.options.required);
        queues
            .clone()
            .all(|(released, required)| !required || released.contains(&seq))
    }

    /// The disk gets worse.
    fn fault(&mut self) {
        let mut rng = self.rng.fork();
        match self.rng.u8(..7) {
            0 => self.fs.room(Some(self.fs.used() + self.rng.u64(..3000))),
            1 => self.fs.refuse(|op, _| (op == Op::Sync).then_some(EIO)),
            2 => self
                .fs
                .refuse(move |op, _| (op == Op::Sync && rng.bool()).then_some(EIO)),
            3 => self
                .fs
                .refuse(move |op, _| (op == Op::Write && rng.bool()).then_some(EIO)),
            4 => {
                let bytes = rng.usize(..2000);
                self.fs.refuse(move |op, _| {
                    (op == Op::Write && rng.bool()).then_some(Fault::Short(bytes))
                });
            }
            // All that changes anything, now and then.
            5 => self.fs.refuse(move |op, _| {
                let changes = !matches!(op, Op::Read | Op::Open | Op::List);
                (changes && rng.u8(..4) == 0).then_some(if rng.bool() { EIO } else { ENOSPC })
            }),
            // Mounted for reading only.
            _ => self.fs.refuse(|op, _| {
                let changes = !matches!(op, Op::Read | Op::Open | Op::List | Op::Sync);
                changes.then_some(Fault::Errno(30))
            }),
        }
    }

    /// Reads something in the middle.
    fn read(&mut self) {
        let seqs: Vec<_> = self.acked.keys().copied().collect();
        if seqs.is_empty() {
            return;
        }
        let seq = seqs[self.rng.usize(..seqs.len())];
        if let Some((record, body)) = self.store.fetch(Seq(seq)) {
            assert!(record.seq >= Seq(seq));
            if record.seq == Seq(seq) {
                let given = &self.offered[&self.acked[&seq].id];
                assert!(
                    body.as_ref() == Some(&given.body),
                    "the body of {seq} is another"
                );
            } else {
                assert!(self.is_released(seq), "{seq} is gone");
            }
        }
        self.check();
    }

    /// The process ends and begins again, on a machine that goes on.
    fn reopen(&mut self) {
        if self.rng.bool() {
            self.store.seal();
        }
        self.fs.well();
        self.seen.reopened += 1;
        self.open();
    }

    /// The machine's power goes.
    fn crash(&mut self) {
        self.seen.crashes += 1;
        self.fs = self.fs.crash(self.rng.u64(..));
        // What was not acknowledged may be gone.
        self.leftovers.clear();
        self.open();
    }

    fn open(&mut self) {
        let floor = Floor {
            next: Seq(self.settled_to),
            totals: Counts::default(),
        };
        let fs = Arc::new(self.fs.clone());
        let opened = Store::open(fs, self.options.clone(), floor);
        let (store, opened) = opened.expect("it can be opened");
        self.store = store;
        // Without a floor nothing is known of what was settled: the journals tell.
        for (queue, released) in self.released.iter().enumerate() {
            for seq in released {
                let (from, to) = (Seq(*seq), Seq(seq + 1));
                self.store.release_range(QueueIndex(queue as u8), from, to);
            }
        }
        let found = all(&self.store);
        assert_eq!(opened.records as usize, found.len(), "{opened:?}");
        for (record, body) in &found {
            let seq = record.seq.0;
            if !self.acked.contains_key(&seq)
                && let Some(body) = body
            {
                self.leftovers.insert(seq, id_of(body));
                self.seen.leftovers += 1;
            }
        }
        self.check();
    }

    /// The log against the list.
    fn check(&mut self) {
        let found: BTreeMap<_, _> = all(&self.store)
            .into_iter()
            .map(|(record, body)| (record.seq.0, (record, body)))
            .collect();
        for (seq, acked) in &self.acked {
            let Some((record, body)) = found.get(seq) else {
                assert!(self.is_released(*seq), "{seq} was acknowledged and is gone");
                continue;
            };
            let given = &self.offered[&acked.id];
            assert!(same(record, given), "{seq} is {record:?}");
            assert!(
                body.as_ref() == Some(&given.body),
                "the body of {seq} is another"
            );
            assert_eq!(record.totals, acked.totals, "the totals of {seq}");
        }
        let mut once = BTreeSet::new();
        for (seq, (record, body)) in &found {
            let Some(body) = body else {
                // Damaged: may be, of what was never acknowledged.
                assert!(!self.acked.contains_key(seq));
                continue;
            };
            let id = id_of(body);
            let given = self.offered.get(&id).expect("nothing is invented");
            assert!(
                same(record, given) && *body == given.body,
                "{seq} is changed"
            );
            let known = self.acked.contains_key(seq) || self.leftovers.contains_key(seq);
            assert!(known, "{seq} is there, and was never durable");
            assert!(once.insert(id), "what is in {seq} is there twice");
        }
        let next = self.store.next().0;
        let last = self.acked.keys().chain(self.leftovers.keys()).max();
        assert!(
            last.is_none_or(|last| *last < next),
            "{next} after {last:?}"
        );
        let told = self.acked.values().next_back().map(|acked| acked.totals);
        let totals = self.store.totals();
        assert!(
            told.is_none_or(|told| told.samples <= totals.samples),
            "{totals:?} are too few"
        );
    }
}

fn id_of(body: &[u8]) -> u64 {
    u64::from_le_bytes(body[..8].try_into().expect("a body has eight bytes"))
}

#[test]
fn a_file_that_should_be_gone_does_not_take_a_new_one_of_its_name_with_it() {
    let fs = ModelFs::new(1);
    let mut options = options(&[true]);
    options.segment_records = 1;
    let store = super::records::open(&fs, &options);
    let commit = |id| store.commit(&[pending(id, 10)], |_, _| {}).0;
    assert_eq!(commit(1), 1);
    // A segment that does not come about, and cannot be removed.
    fs.refuse(|op, _| match op {
        Op::SyncDir => Some(ENOSPC),
        Op::Remove => Some(EIO),
        _ => None,
    });
    assert_eq!(commit(2), 0);
    // Now it can, but nobody says that it stays so.
    fs.refuse(|op, _| (op == Op::SyncDir).then_some(EIO));
    store.tend(WALL, &|| true);
    fs.well();
    assert_eq!(commit(3), 1);
    store.tend(WALL, &|| true);
    assert_eq!(all(&store).len(), 2);
    assert_eq!(
        all(&super::records::open(&fs, &options)).len(),
        2,
        "it is there after a restart"
    );
}
