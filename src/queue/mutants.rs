//! Faults on purpose, to prove that the simulation finds them. Without the feature `mutants` there are none.

#[cfg(feature = "mutants")]
use std::cell::Cell;
#[cfg(feature = "mutants")]
use std::sync::OnceLock;

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
    /// The journal says that a batch is settled when it goes out.
    DoneBeforeAnswer,
    /// An attempt that failed is taken for one that was delivered.
    DropOnRetry,
    /// One sample in fifty thousand does not get into its batch, and is settled with it.
    RareLeak,
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
        Mutant::Leak,
        Mutant::FreeOnRetry,
        Mutant::SkipLock,
        Mutant::SettleTwice,
        Mutant::ForgetRun,
        Mutant::PushFront,
        Mutant::TakeTwice,
        Mutant::DoneBeforeAnswer,
        Mutant::DropOnRetry,
        Mutant::RareLeak,
    ];
    let mutant = all.into_iter().find(|mutant| format!("{mutant:?}") == name);
    mutant.is_some_and(|mutant| EVERYWHERE.set(mutant).is_ok())
}

/// Once in fifty thousand calls.
pub(super) fn rarely() -> bool {
    use std::sync::atomic::{AtomicU64, Ordering};
    static CALLS: AtomicU64 = AtomicU64::new(0);
    CALLS.fetch_add(1, Ordering::Relaxed).is_multiple_of(50_000)
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
