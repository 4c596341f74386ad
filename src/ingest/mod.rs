//! Prometheus calls us: from a request's headers to its answer.
//!
//! [`handler`] is the way of one request up to its body, `body` receives that, [`admit`] is the way from there
//! to its answer; [`respond`] is the only place that knows status codes; [`attach`] remembers bodies whose
//! senders wait; [`server`] accepts connections.

pub mod activity;
mod admit;
pub mod attach;
mod body;
pub mod handler;
pub mod meter;
mod pace;
pub mod permits;
pub mod respond;
pub mod server;
