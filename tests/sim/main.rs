//! Seeded simulation of the queue: one thread, a virtual clock, every order of events that chance finds.
//!
//! `SLUICEGATE_SIM_SEEDS=n` runs n seeds instead of 64, `SLUICEGATE_SIM_SEED=n` replays one.

mod data;
mod disk;
#[cfg(feature = "mutants")]
mod mutants;
mod oracle;
mod queue;
mod refusals;
mod scenarios;
mod setup;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use world::{Seen, World};

/// Seeds of a normal run.
const SEEDS: u64 = 64;

#[test]
fn nothing_is_lost_doubled_or_reordered_whatever_happens() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse::<u64>().expect(name))
    };
    if let Some(seed) = number("SLUICEGATE_SIM_SEED") {
        println!(
            "{:?}",
            run(World::new, seed).unwrap_or_else(|what| panic!("seed {seed}: {what}"))
        );
        return;
    }
    let seeds = number("SLUICEGATE_SIM_SEEDS").unwrap_or(SEEDS);
    let (total, failures) = run_all(seeds);
    println!("{seeds} seeds: {total:?}");
    assert!(
        failures.is_empty(),
        "SLUICEGATE_SIM_SEED=n replays one:\n{}",
        failures.join("\n")
    );
    if seeds >= SEEDS {
        let happened = [
            total.parked,
            total.laggard,
            total.rewinds,
            total.retries,
            total.withdrawn,
            total.taken_over,
            total.evicted,
            total.restarts,
            total.replayed,
            total.wholes,
            total.splits,
        ];
        assert!(
            happened.iter().all(|times| *times > 0),
            "not everything has happened: {total:?}"
        );
        assert!(total.keys >= 1000, "keys were never scarce: {total:?}");
    }
}

/// Seeds beyond the normal run that found something: a record that was unreadable in one life and read in the
/// next, and a queue that for ever wanted a record that was gone, after its lane rules had changed while batches
/// were made again.
const FOUND: [u64; 2] = [191, 490];

#[test]
fn what_was_found_once_is_looked_for_again() {
    for seed in FOUND {
        if let Err(what) = run(World::without_refusals, seed) {
            panic!("seed {seed}: {what}");
        }
    }
}

/// Runs one seed. A failed assertion inside is a failure as any other.
fn run(world: fn(u64) -> World, seed: u64) -> Result<Seen, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let runtime = runtime.expect("a runtime with nothing but a clock");
    let run = || runtime.block_on(async { world(seed).run().await });
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| (*panic.downcast_ref::<&str>().unwrap_or(&"panic")).to_owned()))
    })
}

fn run_all(seeds: u64) -> (Seen, Vec<String>) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let (mut total, mut failures) = (Seen::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || failures.len() >= 5 {
                return (total, failures);
            }
            match run(World::new, seed) {
                Ok(happened) => total.add(&happened),
                Err(what) => {
                    eprintln!("seed {seed}: {what}");
                    failures.push(format!("seed {seed}: {what}"));
                }
            }
        }
    };
    let mut all = (Seen::default(), Vec::new());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (total, failures) = worker.join().expect("a worker catches what fails");
            all.0.add(&total);
            all.1.extend(failures);
        }
    });
    all
}
