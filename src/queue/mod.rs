//! One queue per `remote_write` entry: from the log to one receiver.

mod answer;
pub mod client;
mod connect;
mod failure;
mod headers;
mod link;
mod retry_after;
mod secrets;
mod target;
mod tls;
mod upload;

#[cfg(test)]
mod client_fault_tests;
#[cfg(test)]
mod client_fixture;
#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod client_tls_tests;
