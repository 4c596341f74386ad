//! What the fuzz targets run. The integration tests include this file too, and run the same functions
//! over the corpus and seeded mutations of it, without nightly and without a fuzzer.
#![allow(
    dead_code,
    reason = "each program that includes this file uses a part of it"
)]

pub(crate) mod content;
pub(crate) mod histogram;
pub(crate) mod oracle;
pub(crate) mod targets;
