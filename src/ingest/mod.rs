//! Prometheus calls us: from a request's headers to its answer.
//!
//! [`handler`] is the way of one request; [`respond`] the only place that knows status codes; [`attach`]
//! remembers bodies whose senders wait; [`server`] accepts connections.

pub mod attach;
pub mod handler;
pub mod permits;
pub mod respond;
pub mod server;
