//! What travels: counts by kind, label sets, pending samples. No protocol, no I/O.

pub mod content;
pub mod counts;
pub mod labels;
pub mod runs;
