//! The one integration binary: behaviour over real sockets, and guards over the sources.
#![allow(
    clippy::float_cmp,
    clippy::cast_sign_loss,
    reason = "metrics of counts are whole numbers"
)]
#![allow(
    clippy::unwrap_used,
    reason = "what a test cannot go on without ends it"
)]

mod acks;
mod bench_tools;
mod capture;
mod demo;
mod disk;
mod door;
mod endpoints;
mod engine;
#[path = "../fuzz/src/shared.rs"]
mod fuzz;
mod harness;
mod layers;
mod markers;
mod outage;
mod page;
mod passthrough;
mod protobuf_code;
mod requests;
mod several;
mod shadow;
mod stopping;
mod storage_cli;
mod storage_kept;
mod verify;
mod wire_fuzz;
mod wire_generate;
mod wire_golden;
mod wire_identity;
mod wire_memory;
mod wire_properties;
mod wire_refusals;
