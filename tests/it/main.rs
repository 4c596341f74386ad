//! The one integration binary: behaviour over real sockets, and guards over the sources.
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
