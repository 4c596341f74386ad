//! Bytes and back, and what damage does to them.

use std::ops::Range;

use fastrand::Rng;
use proptest::prelude::*;

use super::super::entry::{Checkpoint, Entry, JournalRun, Presettled, Settled, Unsettled};
use super::super::world_fixture::World;
use super::*;
use crate::log::Seq;
use crate::model::counts::{Counts, Kind};
use crate::model::runs::RunSet;
use crate::queue::batch::BatchId;
use crate::queue::ledger::{DropReason, Ledger};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..300, any::<u64>(), Just(u64::MAX)]
}

fn counts() -> impl Strategy<Value = Counts> {
    (number(), number(), number()).prop_map(|(samples, histograms, exemplars)| Counts {
        samples,
        histograms,
        exemplars,
    })
}

fn run() -> impl Strategy<Value = JournalRun> {
    let ends = prop_oneof![0u32..100, any::<u32>()];
    (number(), ends.clone(), ends, 0usize..3).prop_filter_map(
        "no empty run",
        |(seq, a, b, kind)| {
            (a != b).then_some(JournalRun {
                seq: Seq(seq),
                from: a.min(b),
                to: a.max(b),
                kind: Kind::ALL[kind],
            })
        },
    )
}

fn runs() -> impl Strategy<Value = Vec<JournalRun>> {
    prop::collection::vec(run(), 0..12)
}

fn set() -> impl Strategy<Value = RunSet> {
    runs().prop_map(|runs| {
        let mut set = RunSet::default();
        runs.iter().for_each(|run| set.insert(run.from, run.to));
        set
    })
}

fn dropped() -> impl Strategy<Value = Vec<(DropReason, Counts)>> {
    let one = (0..DropReason::ALL.len(), counts());
    prop::collection::vec(one.prop_map(|(at, n)| (DropReason::ALL[at], n)), 0..4)
}

fn settled() -> impl Strategy<Value = Settled> {
    (counts(), counts(), counts(), dropped()).prop_map(|(a, b, c, dropped)| Settled {
        delivered: a,
        unconfirmed: b,
        quarantined: c,
        dropped,
    })
}

fn ledger() -> impl Strategy<Value = Ledger> {
    settled().prop_map(|settled| {
        let mut ledger = Ledger {
            delivered: settled.delivered,
            unconfirmed: settled.unconfirmed,
            quarantined: settled.quarantined,
            ..Ledger::default()
        };
        for (reason, counts) in settled.dropped {
            ledger.dropped[reason as usize] = counts;
        }
        ledger
    })
}

pub(in super::super) fn checkpoint() -> impl Strategy<Value = Checkpoint> {
    let records = || prop::collection::vec((number(), set(), counts()), 0..5);
    let open = prop::collection::vec((number(), runs()), 0..5);
    let totals = (counts(), counts(), ledger());
    let places = (number(), number(), number());
    (totals, places, records(), records(), open).prop_map(|(totals, places, a, b, open)| {
        let unsettled = |(seq, settled, unsettled)| Unsettled {
            seq: Seq(seq),
            settled,
            unsettled,
        };
        let presettled = |(seq, runs, counts)| (Seq(seq), Presettled { runs, counts });
        Checkpoint {
            start_totals: totals.0,
            entered_totals: totals.1,
            ledger: totals.2,
            cursor: Seq(places.0),
            entered: Seq(places.1),
            next_batch: places.2,
            records: a.into_iter().map(unsettled).collect(),
            presettled: b.into_iter().map(presettled).collect(),
            open: open
                .into_iter()
                .map(|(b, runs)| (BatchId(b), runs))
                .collect(),
        }
    })
}

pub(in super::super) fn entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        (number(), runs()).prop_map(|(batch, runs)| Entry::Open {
            batch: BatchId(batch),
            runs
        }),
        (number(), settled()).prop_map(|(batch, outcome)| Entry::Done {
            batch: BatchId(batch),
            outcome
        }),
        (0..DropReason::ALL.len(), runs()).prop_map(|(at, runs)| Entry::Dropped {
            reason: DropReason::ALL[at],
            runs
        }),
        checkpoint().prop_map(|checkpoint| Entry::Checkpoint(Box::new(checkpoint))),
    ]
}

proptest! {
    #[test]
    fn entries_come_back_as_they_were(
        entries in prop::collection::vec(entry(), 0..6),
        salt in any::<u32>(),
    ) {
        let mut bytes = Vec::new();
        for entry in &entries {
            put_frame(&mut bytes, salt, entry).unwrap();
        }
        let mut frames = Frames::new(&bytes, salt);
        let found: Vec<_> = frames.by_ref().collect();
        prop_assert_eq!(found, entries);
        prop_assert_eq!(frames.damage(), Damage::default());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        tag in 0u8..6,
        salt in any::<u32>(),
    ) {
        drop(payload::read(tag, &bytes));
        drop(read_header(&bytes));
        prop_assert_eq!(Frames::new(&bytes, salt).count(), 0);
        // The same inside a frame that is whole.
        let payload = std::mem::take(&mut bytes);
        bytes = frame_of(tag, &payload, salt);
        let mut frames = Frames::new(&bytes, salt);
        let found = frames.by_ref().count();
        let damage = frames.damage();
        prop_assert_eq!(found as u64 + damage.places, 1);
    }
}

/// A frame with a right checksum around whatever payload.
fn frame_of(tag: u8, payload: &[u8], salt: u32) -> Vec<u8> {
    let mut bytes = FRAME_MAGIC.to_vec();
    bytes.extend([0; 4]);
    bytes.push(tag);
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(payload);
    let crc = crc32c::crc32c_append(salt, &bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

const SALT: u32 = 0x5a17_5a17;

/// A journal with where each of its frames stands; the first is its checkpoint.
struct Written {
    bytes: Vec<u8>,
    frames: Vec<(Range<usize>, Entry)>,
}

fn written(seed: u64, entries: usize) -> Written {
    let mut world = World::new(seed);
    (0..20).for_each(|_| drop(world.step()));
    let mut all = vec![Entry::Checkpoint(Box::new(world.checkpoint()))];
    all.extend((0..entries).map(|_| world.step()));
    let (mut bytes, mut frames) = (Vec::new(), Vec::new());
    for entry in all {
        let start = bytes.len();
        put_frame(&mut bytes, SALT, &entry).unwrap();
        frames.push((start..bytes.len(), entry));
    }
    Written { bytes, frames }
}

fn read(bytes: &[u8]) -> (Vec<Entry>, Damage) {
    let mut frames = Frames::new(bytes, SALT);
    (frames.by_ref().collect(), frames.damage())
}

/// The entries whose frames have no byte in the range.
fn outside(written: &Written, range: &Range<usize>) -> Vec<Entry> {
    let frames = written.frames.iter();
    let apart = frames.filter(|(at, _)| at.end <= range.start || at.start >= range.end);
    apart.map(|(_, entry)| entry.clone()).collect()
}

#[test]
fn every_truncation_leaves_the_entries_before_it() {
    let written = written(1, 60);
    for end in 0..=written.bytes.len() {
        let (found, damage) = read(&written.bytes[..end]);
        let whole = written.frames.iter().take_while(|(at, _)| at.end <= end);
        let whole: Vec<_> = whole.collect();
        let bytes = whole.last().map_or(0, |(at, _)| at.end);
        assert!(found.iter().eq(whole.iter().map(|(_, e)| e)), "{end}");
        let tail = (end - bytes) as u64;
        assert_eq!(
            damage,
            Damage {
                tail,
                ..Damage::default()
            },
            "{end}"
        );
    }
}

#[test]
fn every_bit_that_flips_costs_one_entry_and_is_counted() {
    let written = written(2, 60);
    let mut bytes = written.bytes.clone();
    for bit in 0..bytes.len() * 8 {
        let at = bit / 8;
        bytes[at] ^= 1 << (bit % 8);
        let (found, damage) = read(&bytes);
        bytes[at] ^= 1 << (bit % 8);
        assert!(found == outside(&written, &(at..at + 1)), "bit {bit}");
        let (frame, _) = written
            .frames
            .iter()
            .find(|(f, _)| f.contains(&at))
            .unwrap();
        let length = frame.len() as u64;
        let expected = if frame.end == bytes.len() {
            Damage {
                tail: length,
                ..Damage::default()
            }
        } else {
            Damage {
                places: 1,
                skipped: length,
                tail: 0,
            }
        };
        assert_eq!(damage, expected, "bit {bit}");
    }
}

#[test]
fn damage_of_any_size_costs_the_entries_it_touches_and_none_else() {
    for seed in 0..2000 {
        let mut rng = Rng::with_seed(seed);
        let written = written(seed, 12);
        let size = written.bytes.len();
        let (a, b) = (rng.usize(..size), rng.usize(..=size));
        let range = a.min(b)..a.max(b);
        let mut bytes = written.bytes.clone();
        match rng.u32(..3) {
            0 => bytes[range.clone()].fill(0),
            1 => bytes[range.clone()]
                .iter_mut()
                .for_each(|byte| *byte = rng.u8(..)),
            _ => bytes[range.clone()]
                .iter_mut()
                .for_each(|byte| *byte = !*byte),
        }
        let changed = |at: &usize| bytes[*at] != written.bytes[*at];
        let (first, last) = (range.clone().find(changed), range.rev().find(changed));
        let (Some(first), Some(last)) = (first, last) else {
            continue;
        };
        let (found, damage) = read(&bytes);
        let expected = outside(&written, &(first..last + 1));
        assert!(found == expected, "seed {seed}");
        assert!(found.len() < written.frames.len(), "seed {seed}");
        let kept: usize = written.bytes.len() - (damage.skipped + damage.tail) as usize;
        let whole = written.frames.iter().filter(|(_, e)| expected.contains(e));
        assert_eq!(
            kept,
            whole.map(|(at, _)| at.len()).sum::<usize>(),
            "seed {seed}"
        );
    }
}

#[test]
fn a_tail_of_zeros_is_the_end_and_no_entry() {
    let mut written = written(3, 10);
    written.bytes.extend([0; 5000]);
    let (found, damage) = read(&written.bytes);
    assert_eq!(found.len(), 11);
    assert_eq!(
        damage,
        Damage {
            tail: 5000,
            ..Damage::default()
        }
    );
}

#[test]
fn a_frame_of_another_file_is_no_frame_here() {
    let written = written(4, 10);
    let mut frames = Frames::new(&written.bytes, SALT ^ 1);
    assert!(frames.next().is_none());
    assert_eq!(frames.damage().tail, written.bytes.len() as u64);
}

#[test]
fn a_list_is_not_made_before_the_bytes_could_hold_it() {
    // An open batch of 2^60 runs, in a frame that is otherwise right.
    let payload = [1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
    let bytes = frame_of(1, &payload, SALT);
    let (found, damage) = read(&bytes);
    assert!(found.is_empty());
    let skipped = bytes.len() as u64;
    assert_eq!(
        damage,
        Damage {
            places: 1,
            skipped,
            tail: 0
        }
    );
}

#[test]
fn a_header_comes_back_and_every_flip_of_it_is_damage() {
    let header = Header {
        salt: 77,
        queue: "eu-west_1".to_owned(),
    };
    let mut bytes = Vec::new();
    put_header(&mut bytes, &header);
    let length = bytes.len();
    bytes.extend(b"what follows");
    assert_eq!(read_header(&bytes), Ok((header, length)));
    for bit in 0..length * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(read_header(&bytes), Err(HeaderError::Damaged), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    for end in 0..length {
        assert_eq!(read_header(&bytes[..end]), Err(HeaderError::Damaged));
    }
}

#[test]
fn a_version_to_come_is_told_from_damage() {
    let bytes = header_of_version(9);
    assert_eq!(read_header(&bytes), Err(HeaderError::UnknownVersion(9)));
}

/// A header as a later version may write it: more in it than we know.
pub(in super::super) fn header_of_version(version: u16) -> Vec<u8> {
    let mut bytes = FILE_MAGIC.to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(40u16.to_le_bytes());
    bytes.resize(36, 0xab);
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

#[test]
fn the_bytes_of_version_1_are_as_they_were() {
    // A change here is a new version of the format.
    let (seq, kind) = (Seq(300), Kind::Histogram);
    let runs = vec![
        JournalRun {
            seq,
            from: 5,
            to: 9,
            kind,
        },
        JournalRun {
            seq: Seq(299),
            from: 1,
            to: 2,
            kind: Kind::Sample,
        },
    ];
    let delivered = Counts {
        samples: 1,
        histograms: 4,
        exemplars: 0,
    };
    let dropped = DropReason::ALL.map(|reason| (reason, Counts::of(Kind::Exemplar, 200)));
    let outcome = Settled {
        delivered,
        dropped: dropped.to_vec(),
        ..Settled::default()
    };
    let batch = BatchId(130);
    let mut bytes = Vec::new();
    put_frame(
        &mut bytes,
        SALT,
        &Entry::Open {
            batch,
            runs: runs.clone(),
        },
    )
    .unwrap();
    put_frame(&mut bytes, SALT, &Entry::Done { batch, outcome }).unwrap();
    let reason = DropReason::Withdrawn;
    put_frame(&mut bytes, SALT, &Entry::Dropped { reason, runs }).unwrap();
    let digits = |at: usize| u8::from_str_radix(&GOLDEN[at..at + 2], 16).unwrap();
    let golden: Vec<_> = (0..GOLDEN.len()).step_by(2).map(digits).collect();
    assert_eq!(bytes, golden);
}

const GOLDEN: &str = "f74aa5457b5cf348010a000000820102d8040a12010205\
    f74aa5457717fd1c023e00000082010104000000000000000a010000c801020000c801030000c801040000c801\
    050000c801060000c8010a0000c801070000c801080000c801090000c801\
    f74aa5456ddc9c0a03090000000502d8040a12010205";
