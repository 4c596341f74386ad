//! Faults on purpose, to prove that the tests of the log find them. Without the feature `mutants` there are
//! none.

#[cfg(feature = "mutants")]
use std::cell::Cell;
#[cfg(feature = "mutants")]
use std::sync::OnceLock;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A record is acknowledged before it is written.
    AckBeforeWrite,
    /// A record is acknowledged before the sync that covers it.
    AckBeforeSync,
    /// A segment's name is not made durable.
    NoDirSync,
    /// A segment is used on after a failed sync.
    SyncAgain,
    /// A header's CRCs are not looked at.
    NoHeaderCheck,
    /// A body's CRC is not looked at.
    NoBodyCheck,
    /// Recovery gives sequences again that were given.
    ReuseSequence,
    /// A record that one queue has given back is taken for one that all have.
    ReleaseForAll,
}

#[cfg(feature = "mutants")]
thread_local! {
    static PRESENT: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// From now on this fault is present on this thread, or none.
#[cfg(feature = "mutants")]
pub fn put_in(mutant: Option<Mutant>) {
    PRESENT.set(mutant);
}

#[cfg(feature = "mutants")]
static EVERYWHERE: OnceLock<Mutant> = OnceLock::new();

/// From now on the fault of this name is present on every thread. `false`: there is none.
#[cfg(feature = "mutants")]
pub fn put_in_everywhere(name: &str) -> bool {
    let all = [
        Mutant::AckBeforeWrite,
        Mutant::AckBeforeSync,
        Mutant::NoDirSync,
        Mutant::SyncAgain,
        Mutant::NoHeaderCheck,
        Mutant::NoBodyCheck,
        Mutant::ReuseSequence,
        Mutant::ReleaseForAll,
    ];
    let mutant = all.into_iter().find(|mutant| format!("{mutant:?}") == name);
    mutant.is_some_and(|mutant| EVERYWHERE.set(mutant).is_ok())
}

/// Is this fault present?
#[inline]
pub(super) fn present(mutant: Mutant) -> bool {
    #[cfg(feature = "mutants")]
    return PRESENT.get() == Some(mutant) || EVERYWHERE.get() == Some(&mutant);
    #[cfg(not(feature = "mutants"))]
    {
        let _: Mutant = mutant;
        false
    }
}
