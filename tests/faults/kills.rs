//! SIGKILL at random times under load, with the receiver up, down, slow and failing.

use std::ops::RangeInclusive;
use std::time::Duration;

use fastrand::Rng;
use sluicegate::bench::Protocol;
use sluicegate::bench::sink::{Behaviour, Fail, When};
use tokio::time::sleep;

use crate::plan::{self, Cycle, KillAfter, Receiver};
use crate::rig::{Ack, Rig, Setup};
use crate::scrape::Scrape;
use crate::verdict::Verdict;
use crate::{Wanted, folder, turn, wanted};

/// Ledgers are compared after so many cycles, and the next ones begin with empty ones.
const CYCLES_MAX: u32 = 200;

/// Lives end so long after the program accepts, in the short form and in the long one.
const SHORT_LIFE_MS: RangeInclusive<u64> = 5..=250;
const LONG_LIFE_MS: RangeInclusive<u64> = 5..=1_000;

/// Lives and deaths, one after the other.
pub(crate) async fn live_and_die(rig: &mut Rig, cycle: Cycle) {
    let behaviour = cycle.receiver.behaviour(&rig.setup.receiver);
    rig.set_receiver(behaviour);
    rig.start();
    let left = match cycle.kill {
        KillAfter::Start(after) => after,
        KillAfter::Accepting(after) => {
            rig.accepting().await;
            after
        }
    };
    sleep(left / 2).await;
    if cycle.receiver == (Receiver::Down { back: true }) {
        rig.heal_receiver();
    }
    sleep(left / 2).await;
    rig.kill();
}

/// A run of so many cycles.
async fn run(setup: Setup, cycles: u32, life_ms: RangeInclusive<u64>) -> Verdict {
    let mut rng = Rng::with_seed(setup.seed);
    let mut rig = Rig::new(setup);
    for _ in 0..cycles {
        live_and_die(&mut rig, plan::cycle(&mut rng, life_ms.clone())).await;
    }
    rig.finish().await
}

/// As many runs as it takes, each with the next seed.
async fn runs(ack: Ack, default: u32, setup: impl Fn(Setup) -> Setup) {
    let long = wanted(default).cycles > CYCLES_MAX;
    let life_ms = if long { LONG_LIFE_MS } else { SHORT_LIFE_MS };
    runs_of_lives(ack, default, life_ms, setup).await;
}

async fn runs_of_lives(
    ack: Ack,
    default: u32,
    life_ms: RangeInclusive<u64>,
    setup: impl Fn(Setup) -> Setup,
) {
    let Wanted { cycles, seed } = wanted(default);
    let _turn = turn().await;
    let mut left = cycles;
    for seed in seed.. {
        let folder = folder(&format!("kills-{ack:?}-{seed}"));
        let cycles = left.min(CYCLES_MAX);
        println!("{ack:?}: {cycles} cycles with SLUICEGATE_FAULT_SEED={seed}");
        let setup = setup(Setup::new(ack, seed, folder.path()));
        let verdict = run(setup, cycles, life_ms.clone()).await;
        print!("{verdict}");
        verdict.assert_holds();
        folder.done();
        left -= cycles;
        if left == 0 {
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_upstream_mode_kills_lose_nothing_acknowledged() {
    if crate::mode_is(Ack::Upstream) {
        runs(Ack::Upstream, 100, |setup| setup).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_fsync_mode_kills_lose_nothing_acknowledged() {
    if crate::mode_is(Ack::Fsync) && crate::has_disk_log() {
        runs(Ack::Fsync, 100, |setup| setup).await;
    }
}

/// An oracle that finds nothing proves something only if it would have found something.
#[tokio::test(flavor = "multi_thread")]
async fn the_ledgers_show_what_memory_mode_loses() {
    let _turn = turn().await;
    let folder = folder("kills-memory");
    let mut rig = Rig::new(Setup::new(Ack::Memory, 1, folder.path()));
    rig.set_receiver(Receiver::Down { back: false }.behaviour(&Behaviour::default()));
    rig.start();
    rig.accepting().await;
    rig.acknowledged(1_000, Duration::from_secs(20)).await;
    let at_risk = rig.sent().samples.acknowledged;
    rig.kill();
    let verdict = rig.finish().await;
    assert!(verdict.comparison.missing >= at_risk, "{verdict}");
    assert!(!verdict.faults().is_empty(), "{verdict}");
    folder.done();
}

/// What a sender repeats because it read no 2xx is put down to the sender, not to what stands between.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_put_down_to_who_made_it() {
    let folder = folder("blame");
    let stored_and_denied = Fail {
        every: 3,
        status: 503,
        when: When::AfterStoring,
        retry_after_seconds: None,
    };
    for between in [false, true] {
        let setup = Setup {
            receiver: Behaviour {
                fail: vec![stored_and_denied],
                ..Behaviour::default()
            },
            ..Setup::new(Ack::Memory, 2, folder.path())
        };
        let sink = Rig::sink(&setup);
        let mut subject = setup.subject(&sink.url());
        if !between {
            // The sender meets the denials itself.
            subject.data = sink.addr();
            subject.admin = None;
        }
        let mut rig = Rig::of_subject(setup, sink, subject);
        if between {
            rig.start();
            rig.accepting().await;
        }
        rig.acknowledged(20_000, Duration::from_secs(20)).await;
        rig.end_of_load().await;
        if between {
            rig.drained().await;
        }
        let verdict = rig.verdict(Scrape::default()).await;
        let repeated = verdict.repeated();
        let (blamed, spared) = if between {
            (repeated.between, repeated.by_sender)
        } else {
            (repeated.by_sender, repeated.between)
        };
        assert!(blamed > 0 && spared == 0, "{repeated:?}\n{verdict}");
        assert_eq!(blamed, verdict.stored.duplicates, "{verdict}");
    }
    folder.done();
}

/// A receiver without an out-of-order window rolls a whole 1.0 request back for one old sample in it. What
/// is repeated after a kill must not take along what was never delivered. To find it out takes a request for each
/// sample that is repeated, so lives are long enough for that.
async fn beside_repeats(ack: Ack, sender_repeats: bool) {
    runs_of_lives(ack, 40, LONG_LIFE_MS, |setup| Setup {
        sender_repeats,
        protocol: Protocol::V1,
        receiver: Behaviour {
            prometheus_rules: true,
            ..Behaviour::default()
        },
        ..setup
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_upstream_mode_prometheus_rules_lose_nothing_beside_a_repeat() {
    if crate::mode_is(Ack::Upstream) {
        beside_repeats(Ack::Upstream, true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_fsync_mode_prometheus_rules_lose_nothing_beside_a_repeat() {
    if crate::mode_is(Ack::Fsync) && crate::has_disk_log() {
        beside_repeats(Ack::Fsync, true).await;
    }
}

/// A batch that was open when the program died is made again of the same elements, alone. What is refused of it by
/// itself was stored: a receiver that rolls back takes all of a request or nothing.
#[tokio::test(flavor = "multi_thread")]
async fn in_fsync_mode_prometheus_rules_lose_nothing_beside_what_the_program_repeats() {
    if crate::mode_is(Ack::Fsync) && crate::has_disk_log() {
        beside_repeats(Ack::Fsync, false).await;
    }
}
