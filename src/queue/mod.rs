//! One queue per `remote_write` entry: from the log to one receiver.

pub mod answer;
pub mod client;
mod connect;
pub mod failure;
pub mod headers;
mod link;
mod retry_after;
pub mod secrets;
mod target;
pub mod tls;
mod upload;
