//! Damaged bytes: every bit, every length, files that are not what they are called.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluicegate::log::Seq;
use sluicegate::log::disk::store::{Pending, Store, StoreOptions};
use sluicegate::log::disk::{Floor, Opened, StorageError};
use sluicegate::model::counts::Counts;

use super::model_fs::{EIO, ModelFs, Op};
use super::records::{all, open, options, pending, same};

/// Records of the segment that is damaged.
const RECORDS: u64 = 44;
/// Apart are the bits that are flipped in a normal run: prime to every length that occurs.
const STRIDE: usize = 41;

fn stride() -> usize {
    match std::env::var_os("SLUICEGATE_STORAGE_ALL") {
        Some(_) => 1,
        None => STRIDE,
    }
}

fn one_segment() -> StoreOptions {
    let mut options = options(&[true]);
    options.segment_bytes = 1 << 20;
    options.segment_records = RECORDS as u32;
    options
}

/// A folder with one segment of `RECORDS` records, sealed or not, and what was written by sequence.
fn folder(sealed: bool) -> (ModelFs, String, BTreeMap<u64, Pending>) {
    fastrand::seed(7);
    let fs = ModelFs::new(7);
    let store = open(&fs, &one_segment());
    let mut written = BTreeMap::new();
    for id in 1..=RECORDS {
        append(&store, id, 24, &mut written);
    }
    if sealed {
        // One more begins the next segment.
        append(&store, RECORDS + 1, 24, &mut written);
        store.seal();
    }
    let segments: Vec<_> = fs
        .names()
        .into_iter()
        .filter(|name| name.ends_with(".segment"))
        .collect();
    assert_eq!(segments.len(), if sealed { 2 } else { 1 });
    (fs, segments[0].clone(), written)
}

fn append(store: &Store, id: u64, length: usize, written: &mut BTreeMap<u64, Pending>) -> Seq {
    let new = pending(id, length);
    let mut seq = Seq(0);
    let (durable, error) = store.commit(std::slice::from_ref(&new), |_, record| seq = record.seq);
    assert!(durable == 1 && error.is_none(), "{error:?}");
    assert!(
        written.insert(seq.0, new).is_none(),
        "{seq:?} is given twice"
    );
    seq
}

/// What a reader makes of a folder.
struct Reading {
    /// Records without their body, or not there at all although others behind them are, or were expected.
    lost: u64,
    /// Those that the books know of: by a record without a body, or by totals.
    told: Counts,
    counted: u64,
    last: u64,
}

/// Reads all; nothing that is delivered may differ from what was written.
fn read(
    fs: &ModelFs,
    options: &StoreOptions,
    written: &BTreeMap<u64, Pending>,
) -> (Store, Reading) {
    let store = open(fs, options);
    let (mut reading, mut whole) = (
        Reading {
            lost: 0,
            told: Counts::default(),
            counted: 0,
            last: 0,
        },
        0,
    );
    let mut totals = Counts::default();
    for (record, body) in all(&store) {
        let given = written.get(&record.seq.0).expect("nothing is invented");
        reading.told += (record.totals - record.admitted) - totals;
        totals = record.totals;
        reading.last = record.seq.0;
        match body {
            Some(body) => {
                whole += 1;
                assert!(
                    same(&record, given) && body == given.body,
                    "{} is changed",
                    record.seq.0
                );
            }
            None => {
                assert_eq!(record.admitted, given.admitted);
                assert_eq!(
                    record.counts - record.admitted,
                    skipped(&record),
                    "{record:?}"
                );
                reading.told += record.admitted;
            }
        }
    }
    reading.told += store.totals() - totals;
    reading.lost = written.len() as u64 - whole;
    let damage = store.damage();
    reading.counted = damage.kinds().iter().map(|(_, count)| count).sum();
    (store, reading)
}

fn skipped(record: &sluicegate::log::Record) -> Counts {
    let runs = record.skipped.iter();
    runs.map(|(from, to)| record.counts.in_range(from, to))
        .sum()
}

/// Flips bits of the first segment, one at a time, and reads.
pub(crate) fn flip_all(sealed: bool) {
    let (fs, name, written) = folder(sealed);
    let bytes = fs.bytes(&name);
    let (mut damaged, mut lost) = (0, 0);
    for bit in (0..bytes.len() * 8).step_by(stride()) {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let copy = fs.copy();
        copy.put(&name, flipped);
        let (store, reading) = read(&copy, &one_segment(), &written);
        let place = format!("bit {bit} of {} ({})", bytes.len() * 8, store.next().0);
        assert!(reading.lost <= 1, "{place}: {} records lost", reading.lost);
        assert!(
            reading.lost == 0 || reading.counted > 0,
            "{place}: lost and not counted"
        );
        let last_one = !sealed && reading.last < RECORDS;
        if sealed {
            let all: Counts = written.values().map(|new| new.admitted).sum();
            assert_eq!(store.totals(), all, "{place}");
        }
        // What is missing at the end of all, only the journals' floor may know.
        if !last_one {
            assert_eq!(
                !reading.told.is_zero(),
                reading.lost > 0,
                "{place}: {:?}",
                reading.told
            );
        }
        damaged += u64::from(reading.counted > 0);
        lost += reading.lost;
        // The log goes on, and gives no sequence again.
        let mut written = written.clone();
        append(&store, 1000, 10, &mut written);
    }
    assert!(
        damaged > 0 && lost > 0,
        "{damaged} damaged, {lost} records lost"
    );
}

#[test]
fn a_flipped_bit_of_a_sealed_segment_costs_one_record_at_most_and_is_told() {
    flip_all(true);
}

#[test]
fn a_flipped_bit_of_an_open_segment_costs_one_record_at_most_and_is_told() {
    flip_all(false);
}

#[test]
fn a_segment_that_was_cut_has_all_that_stood_before() {
    for sealed in [true, false] {
        let (fs, name, written) = folder(sealed);
        let bytes = fs.bytes(&name);
        let ends = ends(&fs, &name, &written);
        for length in (0..bytes.len()).step_by(stride() / 8 + 1) {
            let copy = fs.copy();
            copy.put(&name, bytes[..length].to_vec());
            let (store, reading) = read(&copy, &one_segment(), &written);
            let before = ends.iter().filter(|end| **end <= length).count() as u64;
            let kept = if length < 128 { 0 } else { before };
            let behind = written.len() as u64 - RECORDS;
            assert_eq!(
                written.len() as u64 - reading.lost,
                kept + behind,
                "cut at {length}"
            );
            if sealed && reading.lost > 0 {
                // The next segment's totals tell it.
                let gone: Counts = written
                    .iter()
                    .filter(|(seq, _)| **seq > kept && **seq <= RECORDS)
                    .map(|(_, new)| new.admitted)
                    .sum();
                assert_eq!(reading.told, gone, "cut at {length}");
            }
            drop(store);
        }
    }
}

/// Where each record of the segment ends, found by its body.
fn ends(fs: &ModelFs, name: &str, written: &BTreeMap<u64, Pending>) -> Vec<usize> {
    let bytes = fs.bytes(name);
    let find = |body: &[u8]| {
        bytes
            .windows(body.len())
            .position(|at| at == body)
            .map(|at| at + body.len())
    };
    written.values().filter_map(|new| find(&new.body)).collect()
}

#[test]
fn a_record_inside_a_body_does_not_pose_as_one() {
    let (fs, name, written) = folder(false);
    let bytes = fs.bytes(&name);
    let ends = ends(&fs, &name, &written);
    // Whole records of another log: the sequences would fit.
    let inner = bytes[ends[1]..ends[20]].to_vec();
    for sealed in [false, true] {
        fastrand::seed(99);
        let other = ModelFs::new(1);
        let store = open(&other, &one_segment());
        let mut own = BTreeMap::new();
        append(&store, 501, 10, &mut own);
        let mut host = pending(502, 0);
        let mut body = host.body.to_vec();
        body.extend_from_slice(&inner);
        host.body = body.into();
        let (durable, _) = store.commit(std::slice::from_ref(&host), |_, _| {});
        assert_eq!(durable, 1);
        own.insert(2, host);
        append(&store, 503, 10, &mut own);
        if sealed {
            store.seal();
        }
        let mut bytes = other.bytes(&name);
        let at = bytes
            .windows(inner.len())
            .position(|at| at == inner)
            .expect("it is there");
        // The header of the record that hosts them, and the footer: now it is searched for headers.
        bytes[at - 60] ^= 0xff;
        let length = bytes.len();
        bytes[length - 1] ^= 0xff;
        other.put(&name, bytes);
        let store = open(&other, &one_segment());
        let found: Vec<_> = all(&store)
            .into_iter()
            .filter(|(_, body)| body.is_some())
            .collect();
        let seqs: Vec<_> = found.iter().map(|(record, _)| record.seq.0).collect();
        assert_eq!(
            seqs,
            if sealed { vec![1, 3] } else { vec![1] },
            "sealed: {sealed}"
        );
        for (record, body) in found {
            assert_eq!(body.as_ref(), Some(&own[&record.seq.0].body));
        }
    }
}

#[test]
fn files_that_are_not_what_they_are_called_cost_nothing_else() {
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        fastrand::seed(seed);
        let fs = ModelFs::new(seed);
        let mut options = options(&[true]);
        options.max_bytes = 1 << 20;
        let store = open(&fs, &options);
        let mut written = BTreeMap::new();
        for id in 1..40 {
            append(&store, id, rng.usize(..300), &mut written);
        }
        if rng.bool() {
            store.seal();
        }
        drop(store);
        let copy = fs.copy();
        let mut segments: Vec<_> = copy
            .names()
            .into_iter()
            .filter(|name| name.ends_with(".segment"))
            .collect();
        rng.shuffle(&mut segments);
        let mut lost_segments = 0;
        match rng.u8(..5) {
            0 => {
                let junk = (0..64 << 10).map(|_| rng.u8(..)).collect();
                copy.put(&format!("{:020}.segment", rng.u64(1..80)), junk);
                lost_segments = 1;
            }
            1 => {
                let (a, b) = (copy.take(&segments[0]), copy.take(&segments[1]));
                copy.put(&segments[0], b);
                copy.put(&segments[1], a);
            }
            2 => copy.put(&format!("{:020}.segment", 90_000), copy.bytes(&segments[0])),
            3 => {
                // Of the newest only the journals' floor may know.
                let newest = copy
                    .names()
                    .into_iter()
                    .rfind(|name| name.ends_with(".segment"));
                let older = segments.iter().find(|name| Some(*name) != newest.as_ref());
                copy.take(older.expect("there are several"));
                lost_segments = 1;
            }
            _ => copy.put(
                &format!("{:020}.segment", 90_000),
                vec![0; rng.usize(..70_000)],
            ),
        }
        copy.put("notes.txt", b"not ours".to_vec());
        copy.put("1.segment", b"not ours".to_vec());
        let (store, reading) = read(&copy, &options, &written);
        assert!(
            reading.lost <= lost_segments * 6,
            "seed {seed}: {} lost",
            reading.lost
        );
        let last = reading.last;
        append(&store, 1000, 10, &mut written);
        assert!(store.next().0 > last);
        assert_eq!(copy.bytes("notes.txt"), b"not ours", "seed {seed}");
        assert_eq!(copy.bytes("1.segment"), b"not ours", "seed {seed}");
    }
}

#[test]
fn what_cannot_be_read_just_now_is_left_where_it_is() {
    for sealed in [true, false] {
        let (fs, name, written) = folder(sealed);
        let (names, bytes) = (fs.names(), fs.bytes(&name));
        let mut rng = fastrand::Rng::with_seed(5);
        for often in [1, 2, 10] {
            let mut rng = rng.fork();
            fs.refuse(move |op, _| (op == Op::Read && rng.u8(..often) == 0).then_some(EIO));
            if let Ok((store, _)) = try_open(&fs) {
                for (record, body) in all(&store) {
                    let given = written.get(&record.seq.0).expect("nothing is invented");
                    assert!(body.is_none_or(|body| body == given.body));
                }
            }
            fs.well();
            assert!(fs.names().starts_with(&names[..1]) && fs.bytes(&name) == bytes);
            let (_, reading) = read(&fs, &one_segment(), &written);
            assert_eq!(
                (reading.lost, reading.counted),
                (0, 0),
                "1 read in {often} failed"
            );
        }
    }
}

fn try_open(fs: &ModelFs) -> Result<(Store, Opened), StorageError> {
    Store::open(Arc::new(fs.clone()), one_segment(), Floor::default())
}

#[test]
fn to_start_only_the_ends_of_sealed_segments_are_read() {
    let fs = ModelFs::new(0);
    let mut options = options(&[true]);
    options.max_bytes = 1 << 30;
    let (store, mut written) = (open(&fs, &options), BTreeMap::new());
    for id in 1..=600 {
        append(&store, id, 2000, &mut written);
    }
    store.seal();
    let segments = fs
        .names()
        .iter()
        .filter(|name| name.ends_with(".segment"))
        .count();
    assert!(segments > 250, "{segments} segments");
    let before = fs.times(Op::Read);
    let store = open(&fs, &options);
    let reads = fs.times(Op::Read) - before;
    // The header and the trailer of each, and the format.
    assert!(
        reads <= 2 * segments + 1,
        "{reads} reads for {segments} segments"
    );
    assert_eq!(store.next(), Seq(601));
    assert!(
        store.memory_bytes() < 400 * segments,
        "{} bytes",
        store.memory_bytes()
    );
    assert_eq!(all(&store).len(), 600);
    assert!(store.memory_bytes() < 5 << 20);
}

#[test]
fn a_folder_of_another_version_is_not_touched() {
    let fs = ModelFs::new(0);
    fs.put("format", b"sluicegate storage 2\n".to_vec());
    fs.put(&format!("{:020}.segment", 1), vec![0; 100]);
    let names = fs.names();
    let error = try_open(&fs);
    let error = error.map(|_| ()).expect_err("it is unknown");
    assert!(
        error.to_string().contains("sluicegate storage 2"),
        "{error}"
    );
    assert_eq!(fs.names(), names);
}
