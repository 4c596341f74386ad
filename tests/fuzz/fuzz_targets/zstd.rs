#![no_main]

#[path = "../src/shared.rs"]
mod shared;

libfuzzer_sys::fuzz_target!(|data: &[u8]| shared::targets::zstd(data));
