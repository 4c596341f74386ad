//! A disk that fails, fills up, lies and loses power under a log that has to keep its word.
//!
//! Each scenario is run by `tests/faults/run.sh`, which installs what it needs; `cargo test` passes it over.

use std::path::Path;
use std::time::Duration;

use sluicegate::bench::load::Speed;
use sluicegate::bench::sink::{Behaviour, Down, Hang, When};
use tokio::time::sleep;

use crate::machine::{FullDisk, Image, Powered, tmpfs};
use crate::rig::{Ack, BACKOFF_MAX, Rig, Setup};
use crate::strace::Fault;
use crate::{Folder, folder, strace, timeline, turn, variable, wanted};

/// A healthy program acknowledges so many within this time.
const SOON: Duration = Duration::from_secs(20);
/// What is repaired is used again within a second. The sender has to come by, and this machine is busy.
const RESUMED: Duration = Duration::from_secs(1)
    .saturating_add(BACKOFF_MAX)
    .saturating_add(Duration::from_millis(500));
/// As long as anything on a repaired disk may still be out of use.
const REPAIR: Duration = Duration::from_secs(1);
/// Answers that are under way when a fault begins.
const UNDER_WAY: Duration = Duration::from_millis(500);
/// 5000 samples a second: a traced program is slow.
const TRACED: Speed = Speed::Times(90.0);
/// Above the budget for data: code, stacks, buffers of connections and what the allocator keeps.
const BESIDE_BUDGET_KIB: u64 = 48 << 10;

/// Whether these scenarios can run in this build and were asked for.
fn runs() -> bool {
    crate::mode_is(Ack::Fsync) && crate::has_disk_log()
}

/// Seed, and a folder for everything.
fn begin(name: &str) -> (u64, Folder) {
    let seed = wanted(0).seed;
    println!("{name} with SLUICEGATE_FAULT_SEED={seed}");
    (seed, folder(name))
}

fn setup(seed: u64, folder: &Path) -> Setup {
    Setup {
        impatient: true,
        ..Setup::new(Ack::Fsync, seed, folder)
    }
}

fn down() -> Behaviour {
    Behaviour {
        down: Some(Down::Refused),
        ..Behaviour::default()
    }
}

/// Started, and some samples on their way.
async fn going(setup: Setup) -> Rig {
    let mut rig = Rig::new(setup);
    rig.start();
    rig.accepting().await;
    rig.acknowledged(2_000, SOON).await;
    rig
}

impl Rig {
    fn process(&self) -> u32 {
        self.life.as_ref().expect("it was started").id()
    }

    /// While neither disk nor receiver take anything, no answer may say that something is safe.
    async fn acknowledges_nothing(&mut self, time: Duration) {
        sleep(UNDER_WAY).await;
        let before = self.sent().samples.acknowledged;
        sleep(time).await;
        self.assert_running();
        let after = self.sent().samples.acknowledged;
        assert_eq!(
            before,
            after,
            "acknowledged, though nothing can be kept\n{}",
            self.subject.last_words()
        );
    }

    /// Kills it, starts it again, and ends the run: what counts is what survives.
    async fn survives(mut self) -> crate::verdict::Verdict {
        self.kill();
        self.start();
        self.accepting().await;
        let verdict = self.finish().await;
        print!("{verdict}");
        verdict.assert_holds();
        verdict
    }
}

/// A fault that comes and goes while the program works on.
async fn with_errors_now_and_then(name: &str, injects: &[String]) {
    if !(runs() && strace::works()) {
        return;
    }
    let _turn = turn().await;
    let (seed, folder) = begin(name);
    let mut rig = going(setup(seed, folder.path())).await;
    for inject in injects {
        // On a busy machine a while may pass before the program comes to that call.
        let mut hits = 0;
        for _ in 0..5 {
            let fault = Fault::attach(rig.process(), inject, folder.path()).await;
            rig.acknowledged(3_000, SOON).await;
            rig.assert_running();
            hits = fault.heal();
            if hits > 0 {
                break;
            }
        }
        println!("{inject}: {hits} calls failed");
        assert!(hits > 0, "{inject}: no call failed, so nothing was tested");
        rig.acknowledged(1_000, RESUMED).await;
    }
    // Which batches are settled is not known to a disk that fails: until it is, a kill repeats more.
    sleep(REPAIR).await;
    rig.survives().await;
    folder.done();
}

/// A fault that stays until it is healed. Meanwhile, with no receiver, nothing can be promised.
async fn with_errors_until_healed(name: &str, injects: &[&str]) {
    if !(runs() && strace::works()) {
        return;
    }
    let _turn = turn().await;
    let (seed, folder) = begin(name);
    let mut rig = going(setup(seed, folder.path())).await;
    for inject in injects {
        rig.set_receiver(down());
        let fault = Fault::attach(rig.process(), inject, folder.path()).await;
        rig.acknowledges_nothing(Duration::from_secs(1)).await;
        assert!(
            fault.heal() > 0,
            "{inject}: no call failed, so nothing was tested"
        );
        rig.acknowledged(1, RESUMED).await;
        rig.heal_receiver();
    }
    // Which batches are settled is not known to a disk that fails: until it is, a kill repeats more.
    sleep(REPAIR).await;
    rig.survives().await;
    folder.done();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/run.sh runs it"]
async fn sync_errors_now_and_then() {
    let injects = [
        "fdatasync:error=EIO:when=1",
        "fdatasync:error=EIO:when=3+10",
    ];
    with_errors_now_and_then("sync-errors", &injects.map(str::to_owned)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/run.sh runs it"]
async fn sync_errors_until_healed() {
    with_errors_until_healed("sync-errors-until-healed", &["fdatasync:error=EIO"]).await;
}

/// X9: the n-th write finds no space.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/run.sh runs it"]
async fn no_space_for_the_nth_write() {
    let count = if variable("SLUICEGATE_FAULT_LONG").is_some() {
        500
    } else {
        5
    };
    let nth = |n: u32| format!("pwrite64:error=ENOSPC:when={n}");
    let injects: Vec<String> = (1..=count).map(nth).collect();
    with_errors_now_and_then("no-space", &injects).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/run.sh runs it"]
async fn write_errors_until_healed() {
    let injects = [
        "pwrite64:error=ENOSPC",
        "pwrite64:error=EIO",
        "pwrite64:error=EROFS",
    ];
    with_errors_until_healed("write-errors", &injects).await;
}

/// X11: a sync takes its time. Senders wait or are told 503; memory does not grow.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/run.sh runs it"]
async fn slow_syncs_cost_time_and_no_memory() {
    if !(runs() && strace::works()) {
        return;
    }
    let _turn = turn().await;
    let (seed, folder) = begin("slow-sync");
    let setup = Setup {
        senders: 64,
        flags: vec!["--memory.limit".to_owned(), "64MiB".to_owned()],
        ..setup(seed, folder.path())
    };
    let mut rig = going(setup).await;
    let fault = Fault::attach(rig.process(), "fdatasync:delay_enter=300000", folder.path()).await;
    rig.acknowledged(10_000, SOON).await;
    sleep(Duration::from_secs(2)).await;
    assert!(fault.heal() > 0, "no sync was slow, so nothing was tested");
    let verdict = rig.survives().await;
    let limit = (64 << 10) + BESIDE_BUDGET_KIB;
    assert!(
        verdict.peak_rss_kib < limit,
        "{} KiB of {limit}",
        verdict.peak_rss_kib
    );
    folder.done();
}

/// O6, from the calls that the program made: with `inject` some of its syncs fail.
async fn traced(ack: Ack, inject: Option<&str>) -> Option<Result<timeline::Shown, String>> {
    if !(runs() && strace::works()) {
        return None;
    }
    let _turn = turn().await;
    let (seed, folder) = begin("timeline");
    let trace = folder.path().join("trace");
    let mut setup = Setup {
        senders: 1,
        speed: TRACED,
        ack,
        wrapper: strace::writing_to(&trace, timeline::CALLS, inject),
        ..setup(seed, folder.path())
    };
    let storage = setup.storage();
    if ack == Ack::Memory {
        setup.flags = vec!["--storage.path".to_owned(), storage.display().to_string()];
    }
    let mut rig = going(setup).await;
    rig.acknowledged(20_000, SOON).await;
    let data = rig.subject.data;
    let verdict = rig.finish().await;
    print!("{verdict}");
    if ack == Ack::Fsync {
        verdict.assert_holds();
    }
    let text = std::fs::read(&trace).expect("strace has written");
    let shown = timeline::check(&String::from_utf8_lossy(&text), data, &storage);
    if shown.is_ok() == (ack == Ack::Fsync) {
        folder.done();
    }
    Some(shown)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/run.sh runs it"]
async fn no_answer_comes_before_its_sync() {
    if let Some(shown) = traced(Ack::Fsync, None).await {
        let shown = shown.unwrap_or_else(|lie| panic!("{lie}"));
        println!("{shown:?}");
        assert!(shown.answers > 10, "{shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/run.sh runs it"]
async fn a_failed_sync_is_never_believed_later() {
    if let Some(shown) = traced(Ack::Fsync, Some("fdatasync:error=EIO:when=3+7")).await {
        let shown = shown.unwrap_or_else(|lie| panic!("{lie}"));
        println!("{shown:?}");
        assert!(shown.answers > 10 && shown.failed_syncs > 0, "{shown:?}");
    }
}

/// The rule would notice: this mode answers without a sync, and says so.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/run.sh runs it"]
async fn the_timeline_shows_that_memory_mode_does_not_sync() {
    if let Some(shown) = traced(Ack::Memory, None).await {
        assert!(shown.is_err(), "{shown:?}");
    }
}

/// X8.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/run.sh runs it"]
async fn a_full_disk_is_an_event_and_not_an_incident() {
    if !runs() {
        return;
    }
    let _turn = turn().await;
    let (seed, folder) = begin("full-disk");
    let Some(mount) = tmpfs(folder.path(), "64m") else {
        return;
    };
    let seconds = if variable("SLUICEGATE_FAULT_LONG").is_some() {
        30
    } else {
        2
    };
    let setup = Setup {
        storage: Some(mount.path().join("log")),
        flags: vec!["--storage.max-bytes".to_owned(), "1GiB".to_owned()],
        ..setup(seed, folder.path())
    };
    let mut rig = going(setup).await;
    for round in 0..5 {
        // With a receiver, what it takes must be settled on the full disk; without one, nothing moves.
        let alone = round % 2 == 0;
        if alone {
            rig.set_receiver(down());
        }
        let refused = rig.sent().statuses.get(&503).copied().unwrap_or(0);
        let full = FullDisk::fill(mount.path());
        if alone {
            rig.acknowledges_nothing(Duration::from_secs(seconds)).await;
            let now = rig.sent().statuses.get(&503).copied().unwrap_or(0);
            assert!(now > refused, "nobody was told 503");
        } else {
            sleep(Duration::from_secs(seconds)).await;
            rig.assert_running();
        }
        full.empty();
        rig.acknowledged(1, RESUMED).await;
        rig.heal_receiver();
        rig.acknowledged(1_000, SOON).await;
    }
    rig.survives().await;
    drop(mount);
    folder.done();
}

/// The file system goes read-only under open files, as ext4 does after an error. It stays so until it is
/// mounted anew.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/run.sh runs it"]
async fn a_file_system_that_turns_read_only_loses_nothing() {
    if !runs() {
        return;
    }
    let _turn = turn().await;
    let (seed, folder) = begin("read-only");
    let Some(mut image) = Image::mount(folder.path()) else {
        return;
    };
    let setup = Setup {
        storage: Some(image.path().join("log")),
        ..setup(seed, folder.path())
    };
    let mut rig = going(setup).await;
    rig.set_receiver(down());
    rig.acknowledged(2_000, SOON).await;
    image.turn_read_only();
    rig.acknowledges_nothing(Duration::from_secs(1)).await;
    rig.kill();
    image.mount_anew();
    rig.heal_receiver();
    rig.start();
    rig.accepting().await;
    rig.acknowledged(2_000, SOON).await;
    let verdict = rig.finish().await;
    print!("{verdict}");
    verdict.assert_holds();
    drop(image);
    folder.done();
}

/// X3: everything that was not synced is gone.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/run.sh runs it"]
async fn power_loss_loses_nothing_acknowledged() {
    if !runs() {
        return;
    }
    let _turn = turn().await;
    let (seed, folder) = begin("power");
    let Some(mut disk) = Powered::on(folder.path()) else {
        return;
    };
    let setup = Setup {
        storage: Some(disk.path().join("log")),
        power_loss: true,
        ..setup(seed, folder.path())
    };
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut rig = Rig::new(setup);
    let cuts = variable("SLUICEGATE_FAULT_CUTS").unwrap_or(5);
    for _ in 0..cuts {
        rig.set_receiver(if rng.bool() {
            down()
        } else {
            Behaviour::default()
        });
        rig.start();
        rig.accepting().await;
        rig.acknowledged(1, SOON).await;
        sleep(Duration::from_millis(rng.u64(5..700))).await;
        // First the disk, then the program: it must not be able to sync any more.
        disk.cut();
        rig.kill();
        disk.power_on();
    }
    let verdict = rig.finish().await;
    print!("{cuts} power losses; {verdict}");
    verdict.assert_holds();
    drop(disk);
    folder.done();
}

/// X34: a folder has one process; another one waits for it, and gives up with a message.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/run.sh runs it"]
async fn two_processes_do_not_share_a_folder() {
    if !runs() {
        return;
    }
    let _turn = turn().await;
    let (seed, folder) = begin("two");
    let mut rig = going(setup(seed, folder.path())).await;
    let mut second = rig.setup.subject(&rig.sink.url());
    second.log = folder.path().join("second.log");
    let mut waiting = second.spawn().expect("it starts");
    let refused = waiting.accepting(second.data).await;
    let status = waiting
        .ended()
        .unwrap_or_else(|| panic!("it serves beside the first: {refused:?}"));
    let words = second.last_words();
    assert!(!status.success(), "{status}\n{words}");
    assert!(
        words.contains(&*rig.setup.storage().to_string_lossy()),
        "it does not name the folder: {words}"
    );
    rig.acknowledged(2_000, SOON).await;
    // A rolling update: the new one waits until the old one is gone.
    let mut next = second.spawn().expect("it starts");
    sleep(Duration::from_millis(300)).await;
    assert!(
        next.ended().is_none(),
        "it did not wait\n{}",
        second.last_words()
    );
    let first = rig.life.take().expect("it was started");
    first
        .terminate(Duration::from_secs(10))
        .await
        .expect("the first ends");
    next.accepting(second.data)
        .await
        .expect("the next one takes over");
    next.terminate(Duration::from_secs(10))
        .await
        .expect("the next one ends");
    rig.start();
    rig.accepting().await;
    let verdict = rig.finish().await;
    print!("{verdict}");
    verdict.assert_holds();
    folder.done();
}

/// F3: with a log on disk nobody waits for a receiver that does not answer.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/faults/run.sh runs it"]
async fn a_stop_with_a_backlog_takes_five_seconds_at_most() {
    if !runs() {
        return;
    }
    let _turn = turn().await;
    let (seed, folder) = begin("stop");
    let mut rig = going(setup(seed, folder.path())).await;
    let hanging = Behaviour {
        hang: Some(Hang {
            series: None,
            time: None,
            when: When::BeforeStoring,
        }),
        ..Behaviour::default()
    };
    for receiver in [down(), hanging] {
        rig.set_receiver(receiver);
        rig.acknowledged(10_000, SOON).await;
        let life = rig.life.take().expect("it was started");
        let stopped = life.terminate(Duration::from_millis(5_500)).await;
        let (status, took) =
            stopped.unwrap_or_else(|error| panic!("{error}\n{}", rig.subject.last_words()));
        println!("a stop with a backlog took {took:?}");
        assert!(status.success(), "{status}\n{}", rig.subject.last_words());
        rig.end_epoch();
        rig.start();
        rig.accepting().await;
    }
    rig.heal_receiver();
    rig.survives().await;
    folder.done();
}
