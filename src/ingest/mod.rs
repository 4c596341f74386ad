//! Prometheus calls us: from a request's headers to its answer.
//!
//! [`handler`] is the way of one request up to its body, [`admit`] from there to its answer; [`respond`]
//! is the only place that knows status codes; [`attach`] remembers bodies whose senders wait; [`server`]
//! accepts connections.

pub mod activity;
mod admit;
pub mod attach;
pub mod handler;
pub mod meter;
pub mod permits;
pub mod respond;
pub mod server;
mod watch;
