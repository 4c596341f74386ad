//! The log with its thread: when an append is answered, and what a failing disk does to those who wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use sluicegate::log::disk::fs::{Fs, OsFs};
use sluicegate::log::disk::health::Probe;
use sluicegate::log::disk::{DiskLog, DiskOptions, Floor, OnFull};
use sluicegate::log::{Gone, Log, LogError, NewRecord, QueueIndex, Record, Seq, Tenant};
use sluicegate::model::counts::{Counts, Kind};
use sluicegate::model::runs::RunSet;
use sluicegate::wire::compression::Encoding;
use sluicegate::wire::decoded::{Decoded, IdentityKey, Protocol, WalkLimits};
use sluicegate::wire::pb::rw1::{Label, Sample, TimeSeries, WriteRequest};
use tokio::time::Instant;

use super::model_fs::{EIO, ModelFs, Op};
use super::records::WALL;

const Q: QueueIndex = QueueIndex(0);
const LONG: Duration = Duration::from_secs(5);

fn options() -> DiskOptions {
    DiskOptions {
        max_bytes: 4 << 20,
        on_full: OnFull::Backpressure,
        max_age: None,
        handoff_limit: 1 << 20,
        required: vec![true],
        now_ms: WALL,
        probe: false,
    }
}

fn open(fs: &ModelFs, options: DiskOptions) -> Arc<DiskLog> {
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    DiskLog::open(fs, options, Floor::default())
        .expect("it can be opened")
        .0
}

/// A request of one series with `samples` samples.
fn request(id: u64, samples: i64) -> NewRecord {
    let label = |name: &str, value: String| Label {
        name: name.to_owned(),
        value,
    };
    let series = TimeSeries {
        labels: vec![label("__name__", format!("m{id}"))],
        samples: (0..samples)
            .map(|n| Sample {
                value: n as f64,
                timestamp: WALL + n,
            })
            .collect(),
        ..TimeSeries::default()
    };
    let message = WriteRequest {
        timeseries: vec![series],
        ..WriteRequest::default()
    };
    let body = snap::raw::Encoder::new()
        .compress_vec(&message.encode_to_vec())
        .expect("it fits");
    NewRecord {
        arrival_ms: WALL,
        encoding: Encoding::Snappy,
        tenant: Arc::new(Tenant::default()),
        skipped: RunSet::default(),
        decoded: Arc::new(decoded(&body)),
        body: body.into(),
        ack: None,
    }
}

fn decoded(body: &[u8]) -> Decoded {
    let limits = WalkLimits {
        series: 1000,
        elements: 1 << 20,
        labels: 100,
        label_bytes: 0,
        expanded_bytes: 1 << 20,
    };
    let key = IdentityKey::fixed(0);
    let decoded = sluicegate::wire::decode(
        body,
        Encoding::Snappy,
        Protocol::V1,
        64 << 20,
        &limits,
        &key,
    );
    decoded.expect("it was made well")
}

async fn append(log: &Arc<DiskLog>, new: NewRecord) -> Result<Arc<Record>, LogError> {
    let room = log
        .reserve(new.body.len() as u64, &new.tenant, Duration::ZERO)
        .await?;
    log.append(new, room).await
}

/// Waits until the folder was asked so many times.
async fn until_asked(fs: &ModelFs, op: Op, times: usize) {
    let deadline = Instant::now() + LONG;
    while fs.times(op) < times {
        assert!(Instant::now() < deadline, "{op:?}: {} times", fs.times(op));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn an_append_is_answered_and_seen_only_when_its_sync_is_through() {
    let fs = ModelFs::new(1);
    let log = open(&fs, options());
    append(&log, request(1, 1)).await.expect("the disk is well");
    fs.hold_syncs(true);
    let writes = fs.times(Op::Write);
    let waiting = tokio::spawn({
        let log = Arc::clone(&log);
        async move { append(&log, request(2, 1)).await }
    });
    until_asked(&fs, Op::Write, writes + 1).await;
    assert!(!waiting.is_finished());
    assert!(log.first(Seq(2)).is_none(), "nobody sees what may be gone");
    fs.hold_syncs(false);
    let record = waiting.await.expect("no panic").expect("the disk is well");
    assert_eq!(record.seq, Seq(2));
    assert_eq!(log.totals().samples, 2);
    // The power goes: it is there.
    let after = open(&fs.crash(9), options());
    assert_eq!(after.first(Seq(2)).map(|record| record.seq), Some(Seq(2)));
}

#[tokio::test]
async fn those_who_come_during_a_sync_share_the_next_one() {
    let fs = ModelFs::new(1);
    let log = open(&fs, options());
    append(&log, request(1, 1)).await.expect("the disk is well");
    fs.hold_syncs(true);
    let (writes, syncs) = (fs.times(Op::Write), fs.times(Op::Sync));
    let one = |id| {
        let log = Arc::clone(&log);
        tokio::spawn(async move { append(&log, request(id, 1)).await })
    };
    let first = one(2);
    until_asked(&fs, Op::Write, writes + 1).await;
    let others: Vec<_> = (3..53).map(one).collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    fs.hold_syncs(false);
    first.await.expect("no panic").expect("the disk is well");
    let mut seqs = Vec::new();
    for other in others {
        seqs.push(
            other
                .await
                .expect("no panic")
                .expect("the disk is well")
                .seq
                .0,
        );
    }
    assert_eq!(
        seqs,
        (3..53).collect::<Vec<_>>(),
        "in the order in which they came"
    );
    assert_eq!(
        fs.times(Op::Sync) - syncs,
        2,
        "one for the first, one for fifty"
    );
    assert_eq!(fs.times(Op::Write) - writes, 2);
}

#[tokio::test]
async fn there_are_at_most_fifty_syncs_a_second() {
    let fs = ModelFs::new(1);
    let log = open(&fs, options());
    append(&log, request(1, 1)).await.expect("the disk is well");
    let (began, syncs) = (Instant::now(), fs.times(Op::Sync));
    for id in 2..12 {
        append(&log, request(id, 1))
            .await
            .expect("the disk is well");
    }
    let (took, syncs) = (began.elapsed(), fs.times(Op::Sync) - syncs);
    assert_eq!(syncs, 10);
    assert!(
        took >= Duration::from_millis(20 * 10 - 25),
        "ten syncs in {took:?}"
    );
}

#[tokio::test]
async fn a_failed_sync_moves_its_records_to_a_new_segment_and_the_answer_holds() {
    let fs = ModelFs::new(3);
    let log = open(&fs, options());
    append(&log, request(1, 1)).await.expect("the disk is well");
    let mut once = true;
    fs.refuse(move |op, _| (op == Op::Sync && std::mem::take(&mut once)).then_some(EIO));
    let record = append(&log, request(2, 3))
        .await
        .expect("a new segment took it");
    assert_eq!(record.seq, Seq(2));
    append(&log, request(3, 1)).await.expect("it goes on there");
    let health = log.health();
    assert_eq!(health.errors, [("fsync", "EIO".to_owned(), 1)]);
    assert!(health.unwritable_since.is_none());
    for seed in 0..20 {
        let after = open(&fs.crash(seed), options());
        let (mut at, mut found) = (Seq(0), Vec::new());
        while let Some(fetched) = after.fetch(Q, at) {
            at = fetched.record.seq.next();
            assert!(fetched.body.is_some());
            found.push(fetched.record.seq.0);
        }
        assert_eq!(found, [1, 2, 3], "each once (seed {seed})");
    }
}

#[tokio::test]
async fn a_full_disk_is_told_at_once_and_goes_on_by_itself() {
    let fs = ModelFs::new(1);
    let log = open(&fs, options());
    append(&log, request(1, 1)).await.expect("the disk is well");
    fs.room(Some(fs.used() + 10));
    let refused = append(&log, request(2, 1)).await;
    assert!(
        matches!(refused, Err(LogError::Unwritable { .. })),
        "{refused:?}"
    );
    let began = Instant::now();
    let at_once = log.reserve(10, &Tenant::default(), LONG).await;
    assert!(matches!(at_once, Err(LogError::Unwritable { .. })));
    assert!(
        began.elapsed() < Duration::from_millis(200),
        "{:?}",
        began.elapsed()
    );
    assert!(log.health().unwritable_since.is_some());
    fs.room(None);
    let well = Instant::now();
    let record = loop {
        match append(&log, request(2, 1)).await {
            Ok(record) => break record,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert!(
        well.elapsed() < Duration::from_secs(1),
        "{:?}",
        well.elapsed()
    );
    assert_eq!(record.seq, Seq(2), "what was refused has no place");
    assert!(log.health().unwritable_since.is_none());
}

#[tokio::test]
async fn a_full_disk_gets_back_what_the_newest_segment_held_once_it_is_given_back() {
    let fs = ModelFs::new(1);
    let log = open(&fs, options());
    for id in 1..3 {
        append(&log, large(id)).await.expect("there is room");
    }
    // Full to the last byte, far below what the log may have: nothing but its one segment can make room.
    fs.room(Some(fs.used()));
    let refused = append(&log, large(3)).await;
    assert!(
        matches!(refused, Err(LogError::Unwritable { .. })),
        "{refused:?}"
    );
    assert!(!log.is_writable());
    assert!(log.holds(Seq(1)), "it is still wanted");
    (1..3).for_each(|seq| log.release(Q, Seq(seq)));
    let began = Instant::now();
    let record = loop {
        match append(&log, large(3)).await {
            Ok(record) => break record,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        assert!(began.elapsed() < LONG, "{:?}", fs.names());
    };
    assert!(record.seq > Seq(2), "{record:?}");
    assert!(log.is_writable() && log.reserve_file().is_there());
    assert!(!log.holds(Seq(2)), "{:?}", fs.names());
    let after = open(&fs.crash(3), options());
    assert_eq!(after.first(Seq(1)).map(|first| first.seq), Some(record.seq));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_is_told_after_five_seconds_and_takes_nobody_in_until_it_answers() {
    let fs = ModelFs::new(1);
    let log = open(&fs, options());
    append(&log, request(1, 1)).await.expect("the disk is well");
    fs.hold_syncs(true);
    let writes = fs.times(Op::Write);
    let waiting = tokio::spawn({
        let log = Arc::clone(&log);
        async move { append(&log, request(2, 1)).await }
    });
    // Without a timer: paused time goes on whenever nothing else is to be done.
    let began = std::time::Instant::now();
    while fs.times(Op::Write) < writes + 1 {
        assert!(began.elapsed() < LONG);
        tokio::task::yield_now().await;
    }
    assert!(log.is_writable(), "it may only be slow");
    tokio::time::advance(LONG + Duration::from_secs(1)).await;
    let refused = log.reserve(10, &Tenant::default(), LONG).await.map(drop);
    assert!(
        matches!(refused, Err(LogError::Unwritable { .. })),
        "{refused:?}"
    );
    let health = log.health();
    assert!(health.unwritable_since.is_some() && !log.is_writable());
    let told = health.last_error.unwrap_or_default();
    assert!(told.starts_with("the disk has not answered for"), "{told}");
    fs.hold_syncs(false);
    let record = waiting.await.expect("no panic").expect("it was only late");
    assert_eq!(record.seq, Seq(2));
    assert!(log.is_writable() && log.health().unwritable_since.is_none());
    append(&log, request(3, 1)).await.expect("the disk is well");
}

#[tokio::test]
async fn nothing_is_accepted_while_the_reserve_is_given_up() {
    let fs = ModelFs::new(1);
    let log = open(&fs, options());
    append(&log, request(1, 1)).await.expect("the disk is well");
    let (used, reserve) = (fs.used(), log.reserve_file());
    fs.room(Some(used));
    reserve.give_up().expect("it can be removed");
    assert_eq!(fs.used(), used - reserve.size());
    // There is room now, but it is not for this.
    fs.room(Some(used - 100));
    let refused = append(&log, request(2, 1)).await;
    assert!(
        matches!(refused, Err(LogError::Unwritable { .. })),
        "{refused:?}"
    );
    assert_eq!(
        fs.used(),
        used - reserve.size(),
        "what was tried is not in the way"
    );
    fs.room(None);
    tokio::time::sleep(Duration::from_millis(260)).await;
    append(&log, request(2, 1))
        .await
        .expect("the disk has room again");
    assert!(reserve.is_there());
}

#[tokio::test]
async fn a_full_log_makes_requests_wait_until_queues_give_back() {
    let fs = ModelFs::new(1);
    let mut small = options();
    small.max_bytes = 300 << 10;
    let log = open(&fs, small);
    let body = Bytes::from(vec![7; 100 << 10]);
    let big = |id| NewRecord {
        body: body.clone(),
        ..request(id, 1)
    };
    append(&log, big(1)).await.expect("there is room");
    append(&log, big(2)).await.expect("there is room");
    let full = append(&log, big(3)).await;
    assert!(matches!(full, Err(LogError::Full { .. })), "{full:?}");
    let waiting = tokio::spawn({
        let (log, new) = (Arc::clone(&log), big(3));
        async move {
            let room = log
                .reserve(new.body.len() as u64, &new.tenant, LONG)
                .await?;
            log.append(new, room).await
        }
    });
    tokio::task::yield_now().await;
    log.release(Q, Seq(1));
    log.release(Q, Seq(2));
    let record = waiting
        .await
        .expect("no panic")
        .expect("there is room again");
    assert_eq!(record.seq, Seq(3));
    assert!(
        log.first(Seq(1)).is_some_and(|first| first.seq == Seq(3)),
        "the others are gone"
    );
    log.release(Q, Seq(3));
    let too_big = NewRecord {
        body: Bytes::from(vec![7; 1 << 20]),
        ..request(4, 1)
    };
    let room = log.reserve(1 << 20, &Tenant::default(), LONG).await;
    let room = room
        .map_err(|error| error.to_string())
        .expect("it enters an empty log");
    log.append(too_big, room).await.expect("the disk is well");
}

#[tokio::test]
async fn a_reader_that_has_caught_up_gets_the_decoded_form_and_others_the_bytes() {
    let fs = ModelFs::new(1);
    let log = open(&fs, options());
    let wait = log.appended(Seq(1));
    let sent = request(1, 5);
    let body = sent.body.clone();
    let (record, ()) = tokio::join!(append(&log, sent), wait);
    assert_eq!(record.expect("the disk is well").seq, Seq(1));
    assert!(log.is_at_hand(Q, Seq(1)));
    let first = log.fetch(Q, Seq(0)).expect("it is there");
    assert_eq!(first.decoded.expect("at hand").samples.len(), 5);
    assert!(!log.is_at_hand(Q, Seq(1)), "each queue gets it once");
    assert_eq!(log.handoff_bytes(), 0);
    let again = log.fetch(Q, Seq(1)).expect("it is there");
    assert_eq!((again.decoded.is_some(), again.body), (false, Some(body)));
    assert!(
        log.is_at_hand(Q, Seq(2)),
        "to know that nothing is there no disk is needed"
    );
    assert!(log.end_behind(Seq(1)).is_none());
}

#[tokio::test]
async fn decoded_forms_wait_for_a_slow_disk_within_the_limit_of_the_hand_off() {
    const SENDERS: u64 = 8;
    let fs = ModelFs::new(1);
    let each = request(1, 50).decoded.heap_bytes();
    let options = DiskOptions {
        handoff_limit: 3 * each + each / 2,
        ..options()
    };
    let log = open(&fs, options.clone());
    fs.hold_syncs(true);
    let (mut forms, mut waiting) = (Vec::new(), Vec::new());
    for id in 1..=SENDERS {
        let new = request(id, 50);
        forms.push(Arc::downgrade(&new.decoded));
        let log = Arc::clone(&log);
        waiting.push(tokio::spawn(async move { append(&log, new).await }));
        tokio::task::yield_now().await;
    }
    let held = forms.iter().filter(|form| form.strong_count() > 0).count();
    assert_eq!(held, 3, "the others do not wait with their requests");
    assert_eq!(log.handoff_bytes(), 3 * each);
    fs.hold_syncs(false);
    let mut at_hand = 0;
    for (request, seq) in waiting.into_iter().zip(1..) {
        request.await.expect("no panic").expect("the disk is well");
        let fetched = log.fetch(Q, Seq(seq)).expect("it is there");
        at_hand += u64::from(fetched.decoded.is_some());
        assert!(fetched.decoded.is_some() || fetched.body.is_some());
    }
    assert_eq!((at_hand, log.handoff_bytes()), (3, 0));
    // What was promised to records that the disk does not take is given back.
    fs.refuse(|op, _| (op == Op::Sync).then_some(EIO));
    append(&log, request(9, 50))
        .await
        .expect_err("it is broken");
    assert_eq!(log.handoff_bytes(), 0);
}

#[tokio::test]
async fn a_real_folder_is_closed_sealed_and_read_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let os = |()| -> Arc<dyn Fs> {
        Arc::new(OsFs::open(dir.path(), Duration::ZERO).expect("it is ours"))
    };
    let with_probe = || DiskOptions {
        probe: true,
        ..options()
    };
    let (log, opened) = DiskLog::open(os(()), with_probe(), Floor::default()).expect("it is new");
    assert_eq!((opened.next, opened.records), (Seq(1), 0));
    for id in 1..6 {
        append(&log, request(id, 2))
            .await
            .expect("the disk is well");
    }
    let deadline = Instant::now() + LONG;
    while log.health().probe.is_none() {
        assert!(Instant::now() < deadline, "the syncs are timed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(log.health().syncs.count() >= 5);
    log.close();
    let refused = append(&log, request(6, 1)).await;
    assert!(matches!(refused, Err(LogError::Unwritable { .. })));
    drop(log);
    let (log, opened) = DiskLog::open(os(()), options(), Floor::default()).expect("it is ours");
    assert_eq!(
        (opened.first, opened.next, opened.records),
        (Seq(1), Seq(6), 5)
    );
    assert_eq!((opened.totals.samples, opened.torn_tail_bytes), (10, 0));
    assert!(log.fetch(Q, Seq(5)).is_some_and(|last| last.body.is_some()));
    let names = std::fs::read_dir(dir.path()).expect("it can be listed");
    let mut names: Vec<_> = names
        .map(|name| name.expect("a name").file_name())
        .collect();
    names.sort();
    let known = ["00000000000000000001.segment", "format", "lock", "reserve"];
    assert_eq!(names, known, "the probe is gone");
}

/// Three bodies of 100 KiB, which is all that a log of 400 KiB takes.
async fn filled(fs: &ModelFs, options: DiskOptions) -> Arc<DiskLog> {
    let log = open(
        fs,
        DiskOptions {
            max_bytes: 400 << 10,
            ..options
        },
    );
    for id in 1..4 {
        append(&log, large(id)).await.expect("there is room");
    }
    log
}

fn large(id: u64) -> NewRecord {
    NewRecord {
        body: Bytes::from(vec![id as u8; 100 << 10]),
        ..request(id, 1)
    }
}

async fn append_waiting(log: &Arc<DiskLog>, new: NewRecord) -> Result<Arc<Record>, LogError> {
    let bytes = new.body.len() as u64;
    let room = log.reserve(bytes, &new.tenant, LONG).await?;
    log.append(new, room).await
}

#[tokio::test]
async fn what_only_queues_want_that_are_not_required_goes_for_room_oldest_first() {
    let fs = ModelFs::new(1);
    let required = vec![true, false];
    let log = filled(
        &fs,
        DiskOptions {
            required,
            ..options()
        },
    )
    .await;
    assert!(matches!(
        append(&log, large(4)).await,
        Err(LogError::Full { .. })
    ));
    (1..4).for_each(|seq| log.release(Q, Seq(seq)));
    append_waiting(&log, large(4)).await.expect("there is room");
    assert_eq!(log.why_gone(Seq(1)), Gone::ForRoom);
    let first = log
        .fetch(QueueIndex(1), Seq(1))
        .expect("the others are there");
    assert!(first.record.seq > Seq(1));
    assert!(log.occupancy().bytes <= 400 << 10);
}

#[tokio::test]
async fn the_oldest_goes_for_room_if_the_user_wants_it_so() {
    let fs = ModelFs::new(1);
    let on_full = OnFull::DropOldest;
    let log = filled(
        &fs,
        DiskOptions {
            on_full,
            ..options()
        },
    )
    .await;
    append_waiting(&log, large(4)).await.expect("there is room");
    assert_eq!(log.why_gone(Seq(1)), Gone::ForRoom);
    let first = log.first(Seq(1)).expect("the others are there");
    // What went is told by the totals of what is left.
    assert_eq!((first.totals - first.admitted).samples, first.seq.0 - 1);
}

#[tokio::test]
async fn what_is_older_than_the_user_wants_goes() {
    let fs = ModelFs::new(1);
    let max_age = Some(Duration::from_secs(3600));
    let log = open(
        &fs,
        DiskOptions {
            max_age,
            ..options()
        },
    );
    append(&log, request(1, 2)).await.expect("the disk is well");
    log.close();
    let now_ms = WALL + 3600 * 1000 + 1;
    let log = open(
        &fs,
        DiskOptions {
            max_age,
            now_ms,
            ..options()
        },
    );
    assert_eq!(log.first(Seq(0)).map(|first| first.seq), Some(Seq(1)));
    let deadline = Instant::now() + LONG;
    while log.first(Seq(0)).is_some() {
        assert!(Instant::now() < deadline, "it goes");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(log.why_gone(Seq(1)), Gone::TooOld);
    assert_eq!(
        log.end_behind(Seq(1))
            .map(|(end, totals)| (end, totals.samples)),
        Some((Seq(2), 2))
    );
}

#[tokio::test]
async fn a_tenant_that_holds_over_half_of_a_crowded_log_waits_and_others_do_not() {
    let fs = ModelFs::new(1);
    let log = filled(&fs, options()).await;
    let other = Arc::new(Tenant(vec![("x-scope-orgid".to_owned(), "b".to_owned())]));
    let new = NewRecord {
        tenant: Arc::clone(&other),
        body: Bytes::from(vec![1; 30 << 10]),
        ..request(4, 1)
    };
    append(&log, new).await.expect("there is room");
    let crowded = log.reserve(1000, &Tenant::default(), Duration::ZERO).await;
    assert!(matches!(crowded, Err(LogError::Full { .. })));
    assert!(log.reserve(1000, &other, Duration::ZERO).await.is_ok());
}

#[tokio::test]
async fn nothing_is_deleted_before_settlement_is_durable() {
    let fs = ModelFs::new(1);
    let log = filled(&fs, options()).await;
    let durable = Arc::new(AtomicBool::new(false));
    let hook = Arc::clone(&durable);
    log.before_delete(Box::new(move || hook.load(Ordering::Relaxed)));
    (1..4).for_each(|seq| log.release(Q, Seq(seq)));
    let full = log
        .reserve(200 << 10, &Tenant::default(), Duration::from_millis(300))
        .await;
    assert!(matches!(full, Err(LogError::Full { .. })));
    assert!(log.first(Seq(0)).is_some_and(|first| first.seq == Seq(1)));
    durable.store(true, Ordering::Relaxed);
    let room = log.reserve(200 << 10, &Tenant::default(), LONG).await;
    assert!(room.is_ok());
}

#[tokio::test]
async fn a_journals_floor_stands_although_the_log_was_lost() {
    let fs = ModelFs::new(1);
    let floor = Floor {
        next: Seq(500),
        totals: Counts::of(Kind::Sample, 9000),
    };
    let (log, opened) = DiskLog::open(Arc::new(fs.clone()), options(), floor).expect("it is new");
    assert_eq!((opened.first, opened.next), (Seq(500), Seq(500)));
    let record = append(&log, request(1, 2)).await.expect("the disk is well");
    assert_eq!((record.seq, record.totals.samples), (Seq(500), 9002));
    assert_eq!(log.end_behind(Seq(3)), None, "there is one behind");
}

#[test]
fn a_log_takes_seven_tenths_of_the_room_by_default_and_ten_gibibytes_at_most() {
    use sluicegate::log::disk::default_max_bytes;
    assert_eq!(default_max_bytes(1000, 0), 700);
    assert_eq!(default_max_bytes(300, 700), 700, "what it holds is its own");
    assert_eq!(default_max_bytes(1 << 40, 0), 10 << 30);
}

#[test]
fn a_slow_disk_is_told_with_its_numbers() {
    let ms = Duration::from_millis;
    let slow = Probe {
        syncs: 20,
        median: ms(40),
        max: ms(900),
    };
    let advice = slow.advice().expect("it is slow");
    for part in ["40 ms", "20", "900 ms", "16.7 requests a second"] {
        assert!(advice.contains(part), "{part} is not in {advice}");
    }
    assert_eq!(
        Probe {
            syncs: 20,
            median: ms(3),
            max: ms(900)
        }
        .advice(),
        None
    );
}
