//! The simulation finds each fault that is put in on purpose, by what a receiver sees and by the books:
//! the queue's own audit is not asked.

use sluicegate::queue::mutants::{Mutant, put_in};

use super::run;
use super::world::World;

/// The first failure among some seeds.
fn found(mutant: Mutant) -> String {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    put_in(Some(mutant));
    let failure = (0..32).find_map(|seed| run(World::from_outside, seed).err());
    put_in(None);
    std::panic::set_hook(hook);
    failure.unwrap_or_else(|| panic!("nobody noticed {mutant:?}"))
}

#[test]
fn each_fault_is_noticed_by_the_oracle_that_is_there_for_it() {
    let lost = "sluicegate_conservation_error is 1:";
    let surplus = "sluicegate_conservation_error is -";
    let expected: [(Mutant, &[&str]); 7] = [
        (Mutant::Leak, &[lost]),
        (Mutant::FreeOnRetry, &["overtakes batch"]),
        // A lane that was emptied without a lock is believed to hold something.
        (
            Mutant::SkipLock,
            &["overtakes batch", "a free lane in the list holds something"],
        ),
        (Mutant::SettleTwice, &[surplus]),
        (
            Mutant::ForgetRun,
            // In passthrough what is in front is waited for, and a record that never leaves is in front for ever.
            &[surplus, "something is left", "goes out twice", "stuck: "],
        ),
        (Mutant::PushFront, &["goes back"]),
        (Mutant::TakeTwice, &[surplus]),
    ];
    for (mutant, signs) in expected {
        let failure = found(mutant);
        println!("{mutant:?}: {failure}");
        let known = signs.iter().any(|sign| failure.contains(sign));
        assert!(known, "{mutant:?} shows as {failure}");
    }
}
