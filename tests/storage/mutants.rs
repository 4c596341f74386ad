//! Each fault that is put in on purpose is found by what a reader of the log sees.

use std::panic::{AssertUnwindSafe, catch_unwind};

use sluicegate::log::disk::mutants::{Mutant, put_in};

use super::corruption;
use super::random::attempt;

/// Runs until something fails; says what.
type Test = fn() -> Option<String>;

/// The first failure among some seeds.
fn at_random() -> Option<String> {
    (0..400).find_map(|seed| attempt(seed).err())
}

/// What a flipped bit makes visible.
fn by_flipping() -> Option<String> {
    let flipped = catch_unwind(AssertUnwindSafe(|| corruption::flip_all(false)));
    flipped.is_err().then(|| "a flipped bit".to_owned())
}

#[test]
fn each_fault_is_noticed_by_the_test_that_is_there_for_it() {
    let expected: [(Mutant, Test, &str); 8] = [
        (Mutant::AckBeforeWrite, at_random, "the body of "),
        (Mutant::AckBeforeSync, at_random, ""),
        (Mutant::NoDirSync, at_random, "was acknowledged and is gone"),
        (Mutant::SyncAgain, at_random, ""),
        (Mutant::ReleaseForAll, at_random, ""),
        (Mutant::NoHeaderCheck, by_flipping, ""),
        (Mutant::NoBodyCheck, by_flipping, ""),
        (Mutant::ReuseSequence, by_flipping, ""),
    ];
    for (mutant, test, sign) in expected {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| ()));
        put_in(Some(mutant));
        let failure = test();
        put_in(None);
        std::panic::set_hook(hook);
        println!("{mutant:?}: {failure:?}");
        let failure = failure.unwrap_or_else(|| panic!("nobody noticed {mutant:?}"));
        assert!(failure.contains(sign), "{mutant:?} shows as {failure}");
    }
}
