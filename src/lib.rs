//! Sluicegate, a Prometheus remote-write proxy. Start with `docs/ARCHITECTURE.md`.
//!
//! Modules stand in the order in which data flows.

pub mod app;
pub mod cli;
pub mod config;
pub mod run;

pub mod clock;
pub mod logging;
pub mod metrics;
pub mod report;
pub mod status;
pub mod units;
pub mod vital;

pub mod ingest;
pub mod listen;
pub mod log;
pub mod model;
pub mod queue;
pub mod wire;

pub mod admin;
pub mod bench;
pub mod demo;
pub mod storage;
pub mod verify;
