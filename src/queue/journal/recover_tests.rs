//! What a journal comes to, against a queue that knows it element by element.

use fastrand::Rng;
use proptest::prelude::*;

use super::super::codec::tests::{checkpoint, entry};
use super::super::codec::{Frames, put_frame};
use super::super::world_fixture::World;
use super::*;
use crate::queue::ledger::DropReason;

fn run(seq: u64, from: u32, to: u32) -> JournalRun {
    JournalRun {
        seq: Seq(seq),
        from,
        to,
        kind: Kind::Sample,
    }
}

fn open(batch: u64, runs: &[JournalRun]) -> Entry {
    Entry::Open {
        batch: BatchId(batch),
        runs: runs.to_vec(),
    }
}

fn delivered(batch: u64, samples: u64) -> Entry {
    let outcome = Settled {
        delivered: Counts::of(Kind::Sample, samples),
        ..Settled::default()
    };
    let batch = BatchId(batch);
    Entry::Done { batch, outcome }
}

/// Records 1 to 9 are settled but for 5, of which ten samples are not.
fn start() -> Recovered {
    Recovered::from(Checkpoint {
        cursor: Seq(5),
        entered: Seq(10),
        records: vec![Unsettled {
            seq: Seq(5),
            settled: RunSet::range(10, 12),
            unsettled: Counts::of(Kind::Sample, 10),
        }],
        next_batch: 1,
        ..Checkpoint::default()
    })
}

#[test]
fn a_journal_comes_to_what_the_queue_knew_when_it_was_cut() {
    for seed in 0..3000 {
        let mut world = World::new(seed);
        let mut bytes = Vec::new();
        // What the journal should come to after so many bytes; bytes before the first are another file's.
        let mut known = Vec::new();
        for step in 0..60 {
            let entry = if step == 0 || world.rng.u32(..25) == 0 {
                bytes.clear();
                known.clear();
                // A queue that has just started and come to nothing yet says what it recovered.
                let anew = world.rng.u32(..3) == 0;
                let start = if anew {
                    world.recovered().into_checkpoint()
                } else {
                    world.checkpoint()
                };
                Entry::Checkpoint(Box::new(start))
            } else {
                world.step()
            };
            put_frame(&mut bytes, 1, &entry).unwrap();
            known.push((bytes.len(), world.clone()));
        }
        let cut = Rng::with_seed(!seed).usize(known[0].0..=bytes.len());
        let mut found = Recovered::default();
        Frames::new(&bytes[..cut], 1).for_each(|entry| found.apply(entry));
        let (_, expected) = known.iter().rfind(|(end, _)| *end <= cut).unwrap();
        assert_eq!(found, expected.recovered(), "seed {seed}");
    }
}

/// A queue that has been at work: its checkpoint lists records settled in part.
fn begun(seed: u64) -> World {
    let mut world = World::new(seed);
    (0..30).for_each(|_| drop(world.step()));
    world
}

#[test]
fn lost_entries_only_ever_leave_more_to_send() {
    for seed in 0..2000 {
        let mut world = begun(seed);
        let mut found = Recovered::from(world.checkpoint());
        for _ in 0..60 {
            let entry = world.step();
            if world.rng.u32(..4) > 0 {
                found.apply(entry);
            }
        }
        let (said, settled) = (world.settled_in(&found), world.settled());
        assert!(said.is_subset(&settled), "seed {seed}");
        assert_eq!(
            booked(&found),
            said.len() as u64,
            "seed {seed}: what is settled is booked"
        );
    }
}

#[test]
fn entries_that_come_twice_count_once() {
    for seed in 0..500 {
        let mut world = begun(seed);
        let mut found = Recovered::from(world.checkpoint());
        let entries: Vec<_> = (0..40).map(|_| world.step()).collect();
        for entry in entries.iter().chain(&entries) {
            found.apply(entry.clone());
        }
        assert_eq!(world.settled_in(&found), world.settled(), "seed {seed}");
        assert_eq!(booked(&found), world.settled().len() as u64, "seed {seed}");
    }
}

fn booked(found: &Recovered) -> u64 {
    let ledger = &found.ledger;
    let dropped: Counts = ledger.dropped.iter().copied().sum();
    (ledger.delivered + ledger.unconfirmed + ledger.quarantined + dropped).total()
}

#[test]
fn a_verdict_of_a_batch_that_was_never_opened_settles_nothing() {
    let mut found = start();
    found.apply(delivered(7, 10));
    assert_eq!(found.odd, 1);
    assert_eq!(found.next_batch, 8, "its number is not given again");
    let expected = Recovered {
        odd: 1,
        next_batch: 8,
        ..start()
    };
    assert_eq!(found, expected);
}

#[test]
fn a_record_leaves_when_its_last_element_is_settled_and_the_cursor_follows() {
    let mut found = start();
    found.apply(open(1, &[run(5, 0, 4)]));
    found.apply(open(2, &[run(5, 4, 10)]));
    found.apply(delivered(2, 6));
    assert_eq!(
        found.records[&Seq(5)].unsettled,
        Counts::of(Kind::Sample, 4)
    );
    assert_eq!(found.cursor, Seq(5));
    found.apply(delivered(1, 4));
    assert!(found.records.is_empty());
    assert_eq!(found.cursor, Seq(10));
    assert_eq!(found.odd, 0);
}

#[test]
fn records_settled_long_ago_are_not_settled_again() {
    let mut found = start();
    found.apply(Entry::Dropped {
        reason: DropReason::LogFull,
        runs: vec![run(3, 0, 100), run(5, 0, 2)],
    });
    assert_eq!(booked(&found), 2);
    assert_eq!(
        found.records[&Seq(5)].unsettled,
        Counts::of(Kind::Sample, 8)
    );
}

#[test]
fn an_outcome_of_another_size_is_odd_and_the_books_stay_balanced() {
    let mut found = start();
    found.apply(open(1, &[run(5, 0, 4)]));
    found.apply(delivered(1, 3));
    assert_eq!((found.odd, booked(&found)), (1, 4));
    assert_eq!(found.ledger.unconfirmed, Counts::of(Kind::Sample, 1));
    found.apply(open(2, &[run(5, 4, 6)]));
    found.apply(delivered(2, 30));
    assert_eq!((found.odd, booked(&found)), (2, 6));
}

#[test]
fn a_number_given_twice_keeps_its_first_elements() {
    let mut found = start();
    found.apply(open(1, &[run(5, 0, 4)]));
    found.apply(open(1, &[run(5, 0, 9)]));
    assert_eq!(found.odd, 1);
    assert_eq!(found.open[&BatchId(1)], [run(5, 0, 4)]);
}

#[test]
fn the_highest_record_is_one_that_anything_speaks_of() {
    let mut found = start();
    found.entered_totals = Counts::of(Kind::Sample, 99);
    assert_eq!(found.highest(), Seq(10));
    found.apply(open(1, &[run(5, 0, 4)]));
    assert_eq!(found.highest(), Seq(10));
    found.apply(open(2, &[run(12, 0, 4)]));
    assert_eq!(found.highest(), Seq(13));
    found.apply(delivered(2, 4));
    assert_eq!(found.highest(), Seq(13));
    found.apply(open(3, &[run(u64::MAX, 0, 4)]));
    assert_eq!(found.highest(), Seq(u64::MAX));
}

proptest! {
    #[test]
    fn nothing_an_entry_says_is_a_panic(
        start in checkpoint(),
        entries in prop::collection::vec(entry(), 0..30),
    ) {
        let mut found = Recovered::from(start);
        for entry in entries {
            found.apply(entry);
            let _ = found.highest();
            let first = found.records.first_key_value().map_or(found.entered, |(seq, _)| *seq);
            prop_assert_eq!(found.cursor, first);
            prop_assert!(found.records.keys().all(|seq| *seq < found.entered));
            prop_assert!(found.presettled.keys().all(|seq| *seq >= found.entered));
        }
        let odd = found.odd;
        let mut again = Recovered::from(found.clone().into_checkpoint());
        again.odd = odd;
        prop_assert_eq!(again, found, "a new file says the same");
    }
}
