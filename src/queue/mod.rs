//! One queue per `remote_write` entry: from the log to one receiver.

pub mod client;
