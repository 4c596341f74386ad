//! The one integration binary: behaviour over real sockets, and guards over the sources.
mod bench_tools;
mod engine;
mod harness;
mod layers;
mod protobuf_code;
