//! The thread's work without the thread: every operation in its place, and what a crash leaves.

use std::collections::BTreeSet;

use fastrand::Rng;

use super::super::entry::Settled;
use super::super::file::open;
use super::super::folder_fixture::{Crash, Folder, Op};
use super::super::recover::Recovered;
use super::super::world_fixture::World;
use super::*;
use crate::queue::batch::BatchId;

const QUEUE: &str = "central";

fn scribe(folder: &Folder, past: Past, on_full: OnFull) -> Scribe {
    let fs = Arc::new(folder.clone());
    Scribe::new(Arc::default(), fs, QUEUE.to_owned(), past, on_full)
}

fn never_full() -> OnFull {
    Arc::new(|| false)
}

/// A queue and its journal, which is written until the folder stops; a snapshot after each entry.
struct Life {
    scribe: Scribe,
    worlds: Vec<World>,
}

impl Life {
    /// Begins with what was known then.
    fn new(folder: &Folder, past: Past, mut world: World, known: Option<Recovered>) -> Self {
        let first = known.map_or_else(|| world.checkpoint(), Recovered::into_checkpoint);
        let mut scribe = scribe(folder, past, never_full());
        scribe.write(vec![Entry::Checkpoint(Box::new(first))]);
        let worlds = vec![world];
        Self { scribe, worlds }
    }

    /// Goes on for so many rounds of some entries and perhaps a sync each.
    fn live(&mut self, rounds: usize, rng: &mut Rng) {
        let mut world = self.worlds[0].clone();
        world.rng = rng.fork();
        for _ in 0..rounds {
            let mut entries = Vec::new();
            for _ in 0..rng.usize(1..4) {
                entries.push(if rng.u32(..12) == 0 {
                    Entry::Checkpoint(Box::new(world.checkpoint()))
                } else {
                    world.step()
                });
                self.worlds.push(world.clone());
            }
            self.scribe.write(entries);
            if rng.bool() {
                self.scribe.sync();
            }
            assert_eq!(self.scribe.seen, self.worlds.len() as u64);
        }
    }

    /// What the journal said when so many entries were durable, or any number more.
    fn since_durable(&self) -> &[World] {
        &self.worlds[(self.scribe.durable as usize).saturating_sub(1)..]
    }
}

#[test]
fn a_crash_at_any_operation_leaves_what_was_durable_and_perhaps_what_came_after() {
    let mut lives = 0;
    for seed in 0..1500 {
        let mut rng = Rng::with_seed(seed);
        let mut folder = Folder::default();
        let mut world = World::new(seed);
        let (mut past, mut known) = (Past::default(), None);
        for round in 0..3 {
            folder.stop_after(rng.usize(..40));
            let mut life = Life::new(&folder, past, world.clone(), known.clone());
            life.live(12, &mut rng);
            let crash = [Crash::Prefix, Crash::Nothing][rng.usize(..2)];
            folder = folder.after(crash, &mut rng);
            let opened = open(&folder, QUEUE).unwrap();
            let what = format!("seed {seed}, life {round}, {crash:?}");
            let Some(found) = opened.recovered else {
                // Only where nothing had ever become durable.
                assert!(known.is_none() && life.scribe.durable == 0, "{what}");
                break;
            };
            let earlier = if life.scribe.durable == 0 {
                known.as_ref()
            } else {
                None
            };
            let now = life
                .since_durable()
                .iter()
                .rfind(|w| w.recovered() == found);
            assert!(now.is_some() || earlier == Some(&found), "{what}");
            assert_eq!(found.odd, 0, "{what}");
            world = now.unwrap_or(&world).clone();
            (past, known) = (opened.past, Some(found));
            lives += 1;
        }
    }
    assert!(lives > 3000, "most lives leave a journal: {lives}");
}

#[test]
fn whatever_a_crash_keeps_nothing_is_settled_that_was_not_and_nothing_durable_is_forgotten() {
    for seed in 0..2000 {
        let mut rng = Rng::with_seed(seed);
        let folder = Folder::default();
        folder.stop_after(rng.usize(..60));
        let mut life = Life::new(&folder, Past::default(), World::new(seed), None);
        life.live(20, &mut rng);
        check_bounds(&life, &folder.after(Crash::Chaos, &mut rng), seed);
    }
}

#[test]
fn whatever_is_refused_nothing_is_settled_that_was_not_and_nothing_durable_is_forgotten() {
    let (mut healed, mut poisoned) = (0, 0);
    for seed in 0..2000 {
        let mut rng = Rng::with_seed(seed);
        let folder = Folder::default();
        let mut life = Life::new(&folder, Past::default(), World::new(seed), None);
        let (odds, mut dice) = (rng.u32(4..30), rng.fork());
        let kinds = [io::ErrorKind::Other, io::ErrorKind::StorageFull];
        folder.refuse(move |_| (dice.u32(..odds) == 0).then(|| kinds[dice.usize(..2)]));
        let mut yes = rng.fork();
        let room = std::sync::Mutex::new(move || yes.bool());
        life.scribe.on_full = Arc::new(move || room.lock().unwrap()());
        for _ in 0..20 {
            // Time goes by.
            (life.scribe.retry_at, life.scribe.last_try) = (None, None);
            let writable = life.scribe.file.is_some();
            let last = life.worlds.last().unwrap().clone();
            let first = std::mem::replace(&mut life.worlds[0], last);
            life.live(2, &mut rng);
            life.worlds[0] = first;
            poisoned += u32::from(writable && life.scribe.file.is_none());
            healed += u32::from(!writable && life.scribe.file.is_some());
        }
        never_touched_again(&folder);
        let crash = [Crash::Prefix, Crash::Nothing, Crash::Chaos][rng.usize(..3)];
        check_bounds(&life, &folder.after(crash, &mut rng), seed);
    }
    assert!(healed > 1000 && poisoned > 1000, "{healed} {poisoned}");
}

/// What is found is between what was durable and what was ever said.
fn check_bounds(life: &Life, folder: &Folder, seed: u64) {
    let opened = open(folder, QUEUE).unwrap();
    let Some(found) = opened.recovered else {
        assert_eq!(life.scribe.durable, 0, "seed {seed}");
        return;
    };
    let last = life.worlds.last().unwrap();
    let settled = last.settled_in(&found);
    assert!(
        settled.is_subset(&last.settled()),
        "seed {seed}: settled out of nothing"
    );
    if life.scribe.durable == 0 {
        return;
    }
    let durable = &life.since_durable()[0];
    assert!(
        durable.settled().is_subset(&settled),
        "seed {seed}: forgotten"
    );
    // What was open then is open, or is settled since.
    let open: BTreeSet<_> = found
        .open
        .values()
        .flatten()
        .map(|run| (run.seq, run.from))
        .collect();
    for run in durable.recovered().open.values().flatten() {
        let at = (run.seq, run.from);
        assert!(
            open.contains(&at) || settled.contains(&at),
            "seed {seed}: {run:?}"
        );
    }
}

/// After a sync that failed, a file is neither written nor synced.
fn never_touched_again(folder: &Folder) {
    let mut poisoned = BTreeSet::new();
    for (op, failed) in folder.outcomes() {
        if let Op::Write(name) | Op::Sync(name) = &op {
            assert!(!poisoned.contains(name), "{op:?} after a sync that failed");
        }
        if let (Op::Sync(name), true) = (op, failed) {
            poisoned.insert(name);
        }
    }
}

#[test]
fn a_sync_begins_when_a_batch_or_the_log_waits_for_it_and_not_for_a_verdict() {
    let folder = Folder::default();
    let mut scribe = scribe(&folder, Past::default(), never_full());
    let begins = |scribe: &Scribe, wanted| scribe.sync_at(wanted, Instant::now());
    scribe.write(vec![Entry::Checkpoint(Box::default())]);
    assert_eq!(begins(&scribe, 1), None, "a new file is durable");
    let (batch, outcome) = (BatchId(1), Settled::default());
    scribe.write(vec![Entry::Done { batch, outcome }]);
    assert_eq!(begins(&scribe, 1), None, "nobody waits for it");
    let soon = scribe.last_sync.map(|last| last + SYNC_GAP);
    assert_eq!(begins(&scribe, 2), soon, "the log does");
    let runs = Vec::new();
    scribe.write(vec![Entry::Open { batch, runs }]);
    assert_eq!(begins(&scribe, 0), soon);
    scribe.sync();
    assert_eq!(begins(&scribe, 3), None);
}

#[test]
fn an_older_file_goes_only_when_the_newer_and_its_name_are_durable() {
    let folder = Folder::default();
    let mut world = World::new(5);
    let mut scribe = scribe(&folder, Past::default(), never_full());
    for _ in 0..2 {
        scribe.write(vec![Entry::Checkpoint(Box::new(world.checkpoint()))]);
    }
    let (first, second) = ("central.0000000001.journal", "central.0000000002.journal");
    let begun = |name: &str| {
        let name = || name.to_owned();
        [
            Op::Create(name()),
            Op::Write(name()),
            Op::Sync(name()),
            Op::SyncDir,
        ]
    };
    let mut expected = Vec::from(begun(first));
    expected.extend(begun(second));
    expected.push(Op::Remove(first.to_owned()));
    assert_eq!(folder.ops(), expected);
}

#[test]
fn a_new_file_that_cannot_be_made_leaves_the_old_one_at_work() {
    let folder = Folder::default();
    let mut world = World::new(6);
    let mut scribe = scribe(&folder, Past::default(), never_full());
    scribe.write(vec![Entry::Checkpoint(Box::new(world.checkpoint()))]);
    folder.refuse(|op| matches!(op, Op::Create(_)).then_some(io::ErrorKind::PermissionDenied));
    let before = world.clone();
    let checkpoint = Entry::Checkpoint(Box::new(world.checkpoint()));
    world = before;
    scribe.write(vec![world.step(), checkpoint, world.step()]);
    scribe.sync();
    assert_eq!(scribe.durable, 4);
    assert_eq!((scribe.errors, scribe.unwritable_since), (1, None));
    assert!(scribe.retry_at.is_some(), "and it is tried again");
    let after = folder.after(Crash::Nothing, &mut Rng::with_seed(1));
    assert_eq!(
        open(&after, QUEUE).unwrap().recovered,
        Some(world.recovered())
    );
}

#[test]
fn a_new_file_that_may_or_may_not_be_there_ends_the_old_one() {
    let folder = Folder::default();
    let mut world = World::new(7);
    let mut scribe = scribe(&folder, Past::default(), never_full());
    scribe.write(vec![Entry::Checkpoint(Box::new(world.checkpoint()))]);
    let refused = |op: &Op| matches!(op, Op::SyncDir | Op::Remove(_));
    folder.refuse(move |op| refused(op).then_some(io::ErrorKind::Other));
    scribe.write(vec![Entry::Checkpoint(Box::new(world.checkpoint()))]);
    assert!(
        scribe.file.is_none(),
        "after a crash either might be the one that counts"
    );
    assert!(scribe.unwritable_since.is_some());
    scribe.write(vec![world.step()]);
    assert_eq!(scribe.left_out, 1);
    folder.refuse_nothing();
    scribe.retry_at = None;
    scribe.write(vec![
        Entry::Checkpoint(Box::new(world.checkpoint())),
        world.step(),
    ]);
    scribe.sync();
    assert_eq!((scribe.durable, scribe.unwritable_since), (5, None));
    let names = folder.list().unwrap();
    assert_eq!(
        names,
        ["central.0000000003.journal"],
        "both others are gone"
    );
    let after = folder.after(Crash::Nothing, &mut Rng::with_seed(1));
    assert_eq!(
        open(&after, QUEUE).unwrap().recovered,
        Some(world.recovered())
    );
}
