//! Faults on purpose, to prove that the simulation finds them. Without the feature `mutants` there are none.

#[cfg(feature = "mutants")]
use std::cell::Cell;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A sample leaves its lane and does not get into the batch.
    Leak,
    /// A batch that waits for its next try does not keep its lanes.
    FreeOnRetry,
    /// A batch does not lock the first of its lanes.
    SkipLock,
    /// A verdict is booked twice.
    SettleTwice,
    /// A run of a settled batch is forgotten.
    ForgetRun,
    /// A new element goes before those that its series has waiting.
    PushFront,
    /// A row that is taken is not marked so.
    TakeTwice,
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

/// Is this fault present?
#[inline]
pub(super) fn present(mutant: Mutant) -> bool {
    #[cfg(feature = "mutants")]
    return PRESENT.get() == Some(mutant);
    #[cfg(not(feature = "mutants"))]
    {
        let _: Mutant = mutant;
        false
    }
}
