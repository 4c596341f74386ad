//! One queue per `remote_write` entry: from the log to one receiver.
//!
//! In the order in which a sample comes through: [`take`] puts a record's elements into [`lanes`], whose
//! lane [`grouping`] decides; [`dispatch`] cuts batches and books their verdicts. These are plain
//! functions over [`state`]. Around them stand the effects: [`handle`] starts a reader, which fills the
//! lanes, and a sender, which empties them through [`client`] and asks [`verdict`] what an answer means.

pub mod attempts;
mod audit;
pub mod autoscale;
pub mod batch;
pub mod client;
pub mod convert;
pub mod cut;
pub mod dispatch;
pub mod facts;
pub mod forward;
pub mod gate;
pub mod grouping;
pub mod handle;
pub mod journal;
pub mod lanes;
pub mod ledger;
pub mod metadata;
pub mod mutants;
pub mod nodes;
pub mod protocol;
mod reader;
pub mod receiver;
pub mod records;
mod restore;
mod rewind;
pub mod sender;
pub mod shadow;
pub mod split;
pub mod state;
pub mod table;
pub mod take;
pub mod verdict;
pub mod whole;
