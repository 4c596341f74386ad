//! The log on disk.

pub mod fs;
