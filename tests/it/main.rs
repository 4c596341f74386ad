//! The one integration binary: behaviour over real sockets, and guards over the sources.
#[path = "../fuzz/src/shared.rs"]
mod fuzz;
mod protobuf_code;
mod wire_fuzz;
mod wire_generate;
mod wire_golden;
mod wire_identity;
mod wire_memory;
mod wire_properties;
mod wire_refusals;
