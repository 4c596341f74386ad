//! The one integration binary: behaviour over real sockets, and guards over the sources.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]
#![allow(
    clippy::float_cmp,
    clippy::cast_sign_loss,
    reason = "counters are whole numbers that a float holds exactly"
)]

mod acks;
mod bench_tools;
mod capture;
mod door;
mod endpoints;
mod engine;
mod harness;
mod protobuf_code;
mod requests;
mod several;
mod stopping;
