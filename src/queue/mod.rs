//! One queue per `remote_write` entry: from the log to one receiver.
//!
//! In the order in which a sample comes through: [`take`] puts a record's elements into [`lanes`], whose
//! lane [`grouping`] decides; [`dispatch`] cuts batches and books their verdicts. These are plain
//! functions over [`state`]. Around them stand the effects: [`handle`] starts a reader, which fills the
//! lanes, and a sender, which empties them through [`client`] and asks [`verdict`] what an answer means.

mod answer;
mod audit;
pub mod autoscale;
pub mod batch;
pub mod client;
mod connect;
pub mod cut;
pub mod dispatch;
mod failure;
pub mod gate;
pub mod grouping;
pub mod handle;
mod headers;
pub mod journal;
pub mod lanes;
pub mod ledger;
mod link;
pub mod metadata;
pub mod mutants;
pub mod nodes;
pub mod protocol;
mod reader;
pub mod records;
mod retry_after;
mod rewind;
mod secrets;
pub mod sender;
pub mod state;
pub mod table;
pub mod take;
mod target;
mod tls;
mod upload;
pub mod verdict;

#[cfg(test)]
mod client_fault_tests;
#[cfg(test)]
mod client_fixture;
#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod client_tls_tests;
