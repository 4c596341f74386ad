//! Sluicegate, a Prometheus remote-write proxy. Start with `docs/ARCHITECTURE.md`.
//!
//! Modules stand in the order in which data flows.

pub mod units;

pub mod clock;
pub mod metrics;
pub mod log;
pub mod model;
pub mod wire;

pub mod cli;
pub mod config;
pub mod queue;

pub mod bench;
