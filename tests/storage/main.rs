//! The log on disk: against a folder that forgets, tears and refuses; against damaged bytes; with its thread.
//!
//! `SLUICEGATE_STORAGE_SEEDS=n` runs n seeds, `SLUICEGATE_STORAGE_SEED=n` replays one;
//! `SLUICEGATE_STORAGE_ALL=1` flips every bit.

mod corruption;
mod model_fs;
#[cfg(feature = "mutants")]
mod mutants;
mod random;
mod records;
mod thread;
