//! The one integration binary: behaviour over real sockets, and guards over the sources.
mod bench_tools;
mod protobuf_code;
