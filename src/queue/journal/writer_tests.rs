//! The thread at work, on a folder that waits and refuses when it is told to.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Waker};
use std::time::Duration;

use super::super::entry::Settled;
use super::super::file::open;
use super::super::folder_fixture::{Crash, Folder, Op};
use super::*;
use crate::log::disk::fs::OsFs;
use crate::queue::batch::BatchId;

const FIRST: &str = "central.0000000001.journal";
const SECOND: &str = "central.0000000002.journal";

fn started_with(folder: &Folder, on_full: OnFull) -> JournalWriter {
    let (fs, past) = (Arc::new(folder.clone()), Past::default());
    JournalWriter::start(fs, "central", past, Checkpoint::default(), on_full).unwrap()
}

/// A writer whose first file is there.
fn started(folder: &Folder) -> JournalWriter {
    let writer = started_with(folder, Arc::new(|| false));
    assert!(writer.sync_now());
    writer
}

fn opens(batch: u64) -> Entry {
    Entry::Open {
        batch: BatchId(batch),
        runs: Vec::new(),
    }
}

fn done(batch: u64) -> Entry {
    Entry::Done {
        batch: BatchId(batch),
        outcome: Settled::default(),
    }
}

fn checkpoint() -> Entry {
    Entry::Checkpoint(Box::default())
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().build().unwrap();
    let limit = Duration::from_secs(20);
    let waited = runtime.block_on(async { tokio::time::timeout(limit, future).await });
    waited.expect("it is decided some time")
}

/// Waits until this is so; the journal's thread makes it so.
fn until(so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "never so");
        std::thread::yield_now();
    }
}

fn open_batches(folder: &Folder) -> Vec<u64> {
    let found = open(folder, "central").unwrap().recovered.unwrap();
    found.open.keys().map(|batch| batch.0).collect()
}

fn after_power_loss(folder: &Folder) -> Folder {
    folder.after(Crash::Nothing, &mut fastrand::Rng::with_seed(1))
}

#[test]
fn who_sends_waits_until_the_sync_has_returned() {
    let folder = Folder::default();
    let writer = started(&folder);
    folder.gate(true);
    let ticket = writer.write(opens(1));
    folder.until(|state| state.waiting == 1);
    let mut synced = pin!(writer.synced(ticket));
    let mut nobody = Context::from_waker(Waker::noop());
    assert!(synced.as_mut().poll(&mut nobody).is_pending());
    assert_eq!(open_batches(&after_power_loss(&folder)), [0; 0]);
    folder.gate(false);
    assert!(wait(synced));
    assert_eq!(open_batches(&after_power_loss(&folder)), [1]);
    assert!(wait(writer.synced(ticket)), "and at once when asked again");
}

#[test]
fn a_disk_that_hangs_holds_nobody_up_and_is_told_until_it_answers() {
    let folder = Folder::default();
    let writer = started(&folder);
    folder.gate(true);
    let ticket = writer.write(opens(1));
    folder.until(|state| state.waiting == 1);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut synced = pin!(writer.synced(ticket));
        let mut nobody = Context::from_waker(Waker::noop());
        tokio::time::advance(HANGS / 2).await;
        writer.look();
        assert!(
            synced.as_mut().poll(&mut nobody).is_pending(),
            "it is only slow"
        );
        assert!(writer.health().unwritable_since.is_none());
        tokio::time::advance(HANGS).await;
        writer.look();
        assert!(!synced.await, "it goes out unsaid");
        assert!(!writer.sync_now(), "and nothing is deleted meanwhile");
        let health = writer.health();
        assert!(health.unwritable_since.is_some());
        let told = health.last_error.unwrap_or_default();
        assert!(told.starts_with("the disk has not answered for"), "{told}");
    });
    folder.gate(false);
    until(|| writer.health().unwritable_since.is_none());
    assert!(writer.sync_now());
    assert_eq!(open_batches(&after_power_loss(&folder)), [1]);
}

#[test]
fn what_arrives_during_a_sync_shares_the_next_one() {
    let folder = Folder::default();
    let writer = started(&folder);
    let before = writer.health().syncs;
    folder.gate(true);
    let first = writer.write(opens(1));
    folder.until(|state| state.waiting == 1);
    let last = (2..200)
        .map(|batch| writer.write(opens(batch)))
        .last()
        .unwrap();
    folder.gate(false);
    assert!(wait(writer.synced(first)) && wait(writer.synced(last)));
    assert_eq!(writer.health().syncs - before, 2);
    let put = folder
        .ops()
        .into_iter()
        .filter(|op| matches!(op, Op::Write(_)));
    assert_eq!(
        put.count(),
        3,
        "the file's beginning, one entry, all the others"
    );
}

#[test]
fn syncs_are_at_least_20_ms_apart() {
    let folder = Folder::default();
    let writer = started(&folder);
    let (began, before) = (Instant::now(), writer.health().syncs);
    for batch in 0..10 {
        assert!(wait(writer.synced(writer.write(opens(batch)))));
    }
    assert_eq!(writer.health().syncs - before, 10);
    assert!(began.elapsed() >= 9 * Duration::from_millis(20));
}

#[test]
fn a_verdict_is_written_at_once_and_synced_with_what_comes_next() {
    let folder = Folder::default();
    let writer = started(&folder);
    assert!(wait(writer.synced(writer.write(opens(1)))));
    let before = writer.health().syncs;
    let verdict = writer.write(done(1));
    folder.until(|state| state.log.len() == 7);
    until(|| writer.health().bytes == folder.bytes(FIRST).len() as u64);
    assert_eq!(writer.health().syncs, before, "nobody waits for it");
    assert_eq!(open_batches(&folder), [0; 0], "a kill does not lose it");
    assert_eq!(open_batches(&after_power_loss(&folder)), [1]);
    assert!(wait(writer.synced(writer.write(opens(2)))));
    assert!(wait(writer.synced(verdict)));
    assert_eq!(open_batches(&after_power_loss(&folder)), [2]);
}

#[test]
fn the_log_can_have_all_of_it_synced() {
    let folder = Folder::default();
    let writer = started(&folder);
    writer.write(opens(1));
    writer.write(done(1));
    assert!(writer.sync_now());
    let syncs = writer.health().syncs;
    assert!(writer.sync_now(), "nothing is left to be synced");
    assert_eq!(writer.health().syncs, syncs);
    assert_eq!(open_batches(&after_power_loss(&folder)), [0; 0]);
}

#[test]
fn a_full_disk_is_given_room_and_the_write_tried_again() {
    let folder = Folder::default();
    let (asked, inside) = (Arc::new(AtomicUsize::new(0)), folder.clone());
    let counted = Arc::clone(&asked);
    let on_full = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        inside.refuse_nothing();
        true
    };
    let writer = started_with(&folder, Arc::new(on_full));
    assert!(writer.sync_now());
    folder.refuse(|op| matches!(op, Op::Write(_)).then_some(io::ErrorKind::StorageFull));
    assert!(wait(writer.synced(writer.write(opens(1)))));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let health = writer.health();
    assert_eq!((health.generation, health.unwritable_since), (1, None));
    assert_eq!(open_batches(&after_power_loss(&folder)), [1]);
    // The same for a file to be begun.
    folder.refuse(|op| matches!(op, Op::Create(_)).then_some(io::ErrorKind::StorageFull));
    assert!(wait(writer.synced(writer.write(checkpoint()))));
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[test]
fn a_disk_that_stays_full_holds_nobody_up_and_is_written_again_when_there_is_room() {
    let folder = Folder::default();
    let writer = started(&folder);
    folder.refuse(|op| {
        let grows = matches!(op, Op::Write(_) | Op::Create(_));
        grows.then_some(io::ErrorKind::StorageFull)
    });
    assert!(!wait(writer.synced(writer.write(opens(1)))));
    let before = folder.ops().len();
    assert!(!wait(writer.synced(writer.write(opens(2)))), "at once");
    assert!(
        !writer.sync_now(),
        "the log keeps what the journal could not say"
    );
    assert_eq!(folder.ops().len(), before);
    let health = writer.health();
    assert!(health.unwritable_since.is_some() && health.last_error.is_some());
    folder.refuse_nothing();
    until(|| writer.wants_checkpoint());
    let ticket = writer.write(checkpoint());
    assert!(!writer.wants_checkpoint(), "one is enough");
    writer.write(opens(3));
    assert!(writer.sync_now() && wait(writer.synced(ticket)));
    let health = writer.health();
    assert_eq!((health.generation, health.unwritable_since), (2, None));
    assert_eq!(open_batches(&after_power_loss(&folder)), [3]);
}

#[test]
fn a_sync_that_fails_ends_the_file_and_a_checkpoint_begins_the_next() {
    let folder = Folder::default();
    let writer = started(&folder);
    folder.refuse(|op| matches!(op, Op::Sync(_)).then_some(io::ErrorKind::Other));
    assert!(!wait(writer.synced(writer.write(opens(1)))));
    folder.refuse_nothing();
    let before = folder.ops().len();
    writer.write(opens(2));
    until(|| writer.wants_checkpoint());
    writer.write(checkpoint());
    writer.write(opens(3));
    assert!(writer.sync_now());
    let touched = |op: &Op| matches!(op, Op::Write(name) | Op::Sync(name) if name == FIRST);
    assert!(!folder.ops()[before..].iter().any(touched), "never again");
    assert_eq!(folder.list().unwrap(), [SECOND]);
    assert_eq!(writer.health().left_out, 1);
    assert_eq!(open_batches(&after_power_loss(&folder)), [3]);
}

#[test]
fn a_journal_that_cannot_be_made_at_the_start_holds_nobody_up() {
    let folder = Folder::default();
    folder.refuse(|_| Some(io::ErrorKind::PermissionDenied));
    let writer = started_with(&folder, Arc::new(|| false));
    assert!(!wait(writer.synced(writer.write(opens(1)))));
    assert!(!writer.sync_now());
    folder.refuse_nothing();
    until(|| writer.wants_checkpoint());
    writer.write(checkpoint());
    assert!(writer.sync_now() && wait(writer.synced(writer.write(opens(2)))));
}

#[test]
fn a_new_file_that_takes_long_holds_nobody_up_who_has_none() {
    let folder = Folder::default();
    let writer = started(&folder);
    folder.refuse(|op| matches!(op, Op::Write(_)).then_some(io::ErrorKind::Other));
    assert!(!wait(writer.synced(writer.write(opens(1)))));
    folder.refuse_nothing();
    until(|| writer.wants_checkpoint());
    folder.gate(true);
    let begun = writer.write(checkpoint());
    folder.until(|state| state.waiting == 1);
    assert!(!wait(writer.synced(writer.write(opens(2)))));
    folder.gate(false);
    assert!(writer.sync_now() && wait(writer.synced(begun)));
}

#[test]
fn a_new_file_is_tried_at_most_twice_a_second() {
    let folder = Folder::default();
    folder.refuse(|_| Some(io::ErrorKind::Other));
    let writer = started_with(&folder, Arc::new(|| false));
    let tries = |folder: &Folder| {
        let created = |op: &&(Op, Instant)| matches!(op.0, Op::Create(_));
        let state = folder.lock();
        state
            .log
            .iter()
            .filter(created)
            .map(|(_, at)| *at)
            .collect::<Vec<_>>()
    };
    // Whoever writes checkpoints all the time changes nothing.
    until(|| {
        writer.write(checkpoint());
        writer.sync_now();
        tries(&folder).len() == 3
    });
    let tries = tries(&folder);
    assert!(
        tries[2] - tries[0] >= Duration::from_millis(950),
        "{tries:?}"
    );
}

#[test]
fn a_file_that_has_grown_is_replaced_by_a_smaller_one() {
    let folder = Folder::default();
    let writer = started(&folder);
    let mut last = writer.write(opens(0));
    while !writer.wants_checkpoint() {
        assert!(writer.health().bytes < 1 << 21, "it is asked for in time");
        last = (0..1000)
            .map(|batch| writer.write(done(batch)))
            .last()
            .unwrap();
        writer.sync_now();
    }
    assert!(writer.health().bytes > 1 << 20);
    writer.write(checkpoint());
    assert!(writer.sync_now() && wait(writer.synced(last)));
    assert!(!writer.wants_checkpoint());
    assert!(writer.health().bytes < 1000);
    assert_eq!(folder.list().unwrap(), [SECOND]);
}

#[test]
fn closing_writes_and_syncs_what_was_given() {
    let folder = Folder::default();
    let writer = started(&folder);
    for batch in 1..50 {
        writer.write(opens(batch));
    }
    writer.write(done(7));
    assert!(writer.close());
    assert_eq!(open_batches(&after_power_loss(&folder)).len(), 48);
    assert!(
        !wait(writer.synced(writer.write(opens(99)))),
        "nobody waits for what came later"
    );
    assert!(!writer.sync_now());
    assert!(!writer.close());
}

#[test]
fn a_writer_that_is_dropped_ends_its_thread_with_all_written() {
    let folder = Folder::default();
    let writer = started(&folder);
    writer.write(done(1));
    let shared = Arc::downgrade(&writer.shared);
    drop(writer);
    until(|| shared.upgrade().is_none());
    let syncs = folder
        .ops()
        .into_iter()
        .filter(|op| matches!(op, Op::Sync(_)));
    assert_eq!(syncs.count(), 2);
}

#[test]
fn a_folder_of_the_system_serves_as_well() {
    let path = tempfile::tempdir().unwrap();
    let fs: Arc<dyn Fs> = Arc::new(OsFs::open(path.path(), Duration::ZERO).unwrap());
    let start = |past| {
        let fs = Arc::clone(&fs);
        let (first, never) = (Checkpoint::default(), Arc::new(|| false));
        JournalWriter::start(fs, "central", past, first, never).unwrap()
    };
    let writer = start(Past::default());
    assert!(wait(writer.synced(writer.write(opens(7)))));
    assert!(writer.close());
    let opened = open(&*fs, "central").unwrap();
    let found = opened.recovered.unwrap();
    assert_eq!((found.next_batch, found.open.len()), (8, 1));
    let writer = start(opened.past);
    assert!(writer.sync_now() && writer.health().generation == 2);
    let mut names = fs.list().unwrap();
    names.sort();
    assert_eq!(names, [SECOND, "lock"]);
}
