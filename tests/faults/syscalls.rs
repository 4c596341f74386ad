//! SIGKILL at each system call that the log makes, one life after the other in one folder.
//!
//! strace counts a thread's calls by itself, so the n-th call of any thread ends the life.

use std::time::Duration;

use fastrand::Rng;
use sluicegate::bench::load::Speed;

use crate::rig::{Ack, Rig, Setup};
use crate::{folder, strace, turn, variable, wanted};

/// What a log on disk may call, and what starting it may.
const CALLS: [&str; 9] = [
    "write",
    "pwrite64",
    "pwritev",
    "fdatasync",
    "fsync",
    "rename",
    "unlink",
    "ftruncate",
    "openat",
];
/// The short form takes so many of the first calls of each kind, at random.
const SAMPLE: usize = 5;
const SAMPLE_FROM: u32 = 60;
/// The long form walks on until so many lives in a row were too short for the call to happen.
const UNREACHED: u32 = 5;
const LONGEST_WALK: u32 = 1_000;
/// A traced life is slow: every call stops it twice.
const LIFE: Duration = Duration::from_millis(700);
/// 5000 samples a second.
const SPEED: Speed = Speed::Times(90.0);

/// Which n-th calls end a life, for one kind of call.
fn walk(rng: &mut Rng) -> Vec<u32> {
    if variable("SLUICEGATE_FAULT_ALL_CALLS").is_some() {
        return (1..=LONGEST_WALK).collect();
    }
    // Near the beginning much happens for the first time.
    let drawn = |_| 1 + (f64::from(SAMPLE_FROM) * rng.f64().powi(2)) as u32;
    (0..SAMPLE).map(drawn).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_call_of_the_log_loses_nothing_acknowledged() {
    if !(crate::mode_is(Ack::Fsync) && crate::has_disk_log() && strace::works()) {
        return;
    }
    let _turn = turn().await;
    let seed = wanted(0).seed;
    let folder = folder(&format!("calls-{seed}"));
    let mut rng = Rng::with_seed(seed);
    let setup = Setup {
        speed: SPEED,
        ..Setup::new(Ack::Fsync, seed, folder.path())
    };
    let mut rig = Rig::new(setup);
    let bare = rig.subject.command.clone();
    let mut reached = 0;
    for call in CALLS {
        let mut in_vain = 0;
        for nth in walk(&mut rng) {
            rig.subject.command = strace::killing_at(call, nth);
            rig.subject.command.extend(bare.iter().cloned());
            rig.start();
            let hit = rig.dies_within(LIFE).await;
            reached += u32::from(hit);
            in_vain = if hit { 0 } else { in_vain + 1 };
            if in_vain == UNREACHED {
                break;
            }
        }
    }
    rig.subject.command = bare;
    let verdict = rig.finish().await;
    print!("{reached} lives ended at a call; {verdict}");
    assert!(reached > 0, "no call was ever reached");
    verdict.assert_holds();
    folder.done();
}
