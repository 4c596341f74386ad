//! The one integration binary: behaviour over real sockets, and guards over the sources.
mod protobuf_code;
