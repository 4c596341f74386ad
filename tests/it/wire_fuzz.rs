//! The fuzz targets without a fuzzer: over the corpus, and over seeded mutations of it.
//!
//! `SLUICEGATE_FUZZ_ROUNDS` sets the mutations of each target (default 3000), `SLUICEGATE_FUZZ_SEED` where
//! they begin. A failure prints the seed that shows it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::fuzz::targets;

/// The persisted seeds, in the order of their names.
fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire");
    let mut all: Vec<_> = crate::wire_golden::bodies(&folder);
    let corpus = std::fs::read_dir(folder.join("corpus"))
        .into_iter()
        .flatten();
    let mut files: Vec<_> = corpus.map(|file| file.expect("readable").path()).collect();
    files.sort();
    all.extend(
        files
            .iter()
            .map(|file| std::fs::read(file).expect("readable")),
    );
    let snappy = |message: &Vec<u8>| {
        snap::raw::Encoder::new()
            .compress_vec(message)
            .expect("small")
    };
    let zstd = |message: &Vec<u8>| zstd::bulk::compress(message, 1).expect("small");
    let compressed: Vec<_> = all.iter().flat_map(|m| [snappy(m), zstd(m)]).collect();
    all.extend(compressed);
    all.push(b"application/x-protobuf;proto=io.prometheus.write.v2.Request\nzstd".to_vec());
    all
}

/// A seed with a few changes, of the kinds that find holes in readers of tagged lengths.
fn mutated(corpus: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = random.choice(corpus).expect("a corpus").clone();
    for _ in 0..random.usize(1..6) {
        let at = random.usize(0..=bytes.len());
        let to = (at + random.usize(0..20)).min(bytes.len());
        match random.u8(0..8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            1 if at < bytes.len() => {
                bytes[at] = bytes[at].wrapping_add(random.u8(0..5).wrapping_sub(2));
            }
            2 => drop(bytes.drain(at..to)),
            3 => {
                let part = bytes[at..to].repeat(random.usize(1..40));
                bytes.splice(at..at, part);
            }
            4 => {
                let other = random.choice(corpus).expect("a corpus");
                let from = random.usize(0..=other.len());
                let upto = (from + random.usize(0..60)).min(other.len());
                bytes.splice(at..to, other[from..upto].iter().copied());
            }
            5 => {
                let odd = [0, 1, 0x7f, 0x80, 0xff, 0x0a, 0x12, 0x22, 0x2a, 0x0b];
                bytes.insert(at, *random.choice(&odd).expect("some"));
            }
            6 => drop(bytes.splice(at..at, [0xff; 9].into_iter().chain([1]))),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

fn run(target: fn(&[u8])) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds: u64 = number("SLUICEGATE_FUZZ_ROUNDS").unwrap_or(3000);
    let first: u64 = number("SLUICEGATE_FUZZ_SEED").unwrap_or(1);
    let corpus = corpus();
    for seed in &corpus {
        target(seed);
    }
    for seed in first..first + rounds {
        let bytes = mutated(&corpus, &mut fastrand::Rng::with_seed(seed));
        let passed = catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_ok();
        let again = format!("SLUICEGATE_FUZZ_SEED={seed} SLUICEGATE_FUZZ_ROUNDS=1");
        assert!(passed, "{again} shows it: {bytes:02x?}");
    }
}

#[test]
fn snappy_blocks_decode_as_snap_decodes_them() {
    run(targets::snappy);
}

#[test]
fn zstd_frames_stay_within_the_limit() {
    run(targets::zstd);
}

#[test]
fn the_1_0_reader_agrees_with_prost() {
    run(targets::rw1);
}

#[test]
fn the_2_0_reader_agrees_with_prost() {
    run(targets::rw2);
}

#[test]
fn what_is_admitted_goes_out_as_it_came() {
    run(targets::reencode);
}

#[test]
fn any_header_is_answered() {
    run(targets::negotiate);
}
