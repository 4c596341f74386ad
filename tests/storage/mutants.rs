//! Each fault that is put in on purpose is found by what a reader of the log sees.

use sluicegate::log::disk::mutants::{Mutant, put_in};

use super::random::attempt;

fn found_at_random(mutant: Mutant) -> Option<String> {
    put_in(Some(mutant));
    let failure = (0..400).find_map(|seed| attempt(seed).err());
    put_in(None);
    failure
}

#[test]
fn each_fault_is_noticed() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let random = [
        Mutant::AckBeforeWrite,
        Mutant::AckBeforeSync,
        Mutant::NoDirSync,
        Mutant::SyncAgain,
        Mutant::NoHeaderCheck,
        Mutant::NoBodyCheck,
        Mutant::ReleaseForAll,
    ];
    let at_random: Vec<_> = random
        .map(|mutant| (mutant, found_at_random(mutant)))
        .into();
    std::panic::set_hook(hook);
    for (mutant, failure) in at_random {
        println!("{mutant:?}: {failure:?}");
        assert!(failure.is_some(), "nobody noticed {mutant:?}");
    }
}
