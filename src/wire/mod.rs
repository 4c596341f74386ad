//! Bytes to series and samples, and back.
pub mod pb;
