//! The oracle is proven: each fault that is put into the program on purpose shows, in what arrived or in the
//! books. `cargo test --features mutants --test faults mutants`.
//!
//! What a kill cannot show (a CRC that nobody looks at, a record that is acknowledged before its sync) the
//! folder of `tests/storage` shows, which loses power and flips bits; lanes and books are the simulation's.

use std::ops::RangeInclusive;

use fastrand::Rng;
use sluicegate::bench::sink::{Behaviour, Fail, When};

use crate::kills::live_and_die;
use crate::plan;
use crate::rig::{Ack, Rig, Setup};
use crate::{folder, turn};

/// Kills after which a fault must have shown.
const CYCLES_MOST: u32 = 60;
/// Kills between two looks at the ledgers.
const CYCLES: u32 = 15;
const LIFE_MS: RangeInclusive<u64> = 20..=250;

/// Runs until the fault shows; how it did.
async fn found(mutant: &str) -> String {
    let mut cycles = 0;
    for seed in 1.. {
        let folder = folder(&format!("mutant-{mutant}-{seed}"));
        let often = Fail {
            every: 5,
            status: 503,
            when: When::BeforeStoring,
            retry_after_seconds: None,
        };
        let setup = Setup {
            wrapper: vec!["env".into(), format!("SLUICEGATE_MUTANT={mutant}").into()],
            receiver: Behaviour {
                fail: vec![often],
                ..Behaviour::default()
            },
            ..Setup::new(Ack::Fsync, seed, folder.path())
        };
        let mut rng = Rng::with_seed(seed);
        let mut rig = Rig::new(setup);
        for _ in 0..CYCLES {
            live_and_die(&mut rig, plan::cycle(&mut rng, LIFE_MS.clone())).await;
        }
        let faults = rig.finish().await.faults();
        folder.done();
        cycles += CYCLES;
        if let Some(first) = faults.into_iter().next() {
            return first;
        }
        if cycles >= CYCLES_MOST {
            break;
        }
    }
    panic!("{cycles} kills, and nobody noticed {mutant}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_noticed_by_the_ledgers_or_the_books() {
    let _turn = turn().await;
    for mutant in [
        "AckBeforeWrite",
        "DoneBeforeAnswer",
        "DropOnRetry",
        "FreeOnRetry",
        "RareLeak",
        "SettleTwice",
    ] {
        let first = found(mutant).await;
        println!("{mutant}: {first}");
    }
}
