//! What a hostile body costs. Each flood is decoded by a process of its own, whose peak of resident memory
//! the kernel counts: more than the allocator says, and nothing hides from it.
//!
//! The child reads the body from a file after its baseline is taken, so the rise includes what was
//! received, once. It has decoded a small request before: code and tables are paged in already.

use std::path::Path;
use std::process::Command;

use sluicegate::wire::compression::Encoding;
use sluicegate::wire::decoded::{Protocol, WalkLimits};
use sluicegate::wire::error::DecodeError;

use crate::fuzz::targets::key;
use crate::wire_identity::field;

/// The defaults of a server.
const LIMITS: WalkLimits = WalkLimits {
    series: 100_000,
    elements: 200_000,
    labels: 256,
    label_bytes: 64 << 10,
    expanded_bytes: 32 << 20,
};
const SIZE: usize = 32 << 20;
const MEBIBYTE: usize = 1 << 20;
/// Tells the child what to decode: encoding, protocol, path.
const CHILD: &str = "SLUICEGATE_TEST_DECODE";

fn decode(body: &[u8], encoding: Encoding, protocol: Protocol) -> Result<(), DecodeError> {
    sluicegate::wire::decode(body, encoding, protocol, SIZE as u64, &LIMITS, &key()).map(drop)
}

/// A line of `/proc/self/status`, in bytes.
fn status(name: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim_matches([':', '\t', ' ', 'k', 'B']).parse().ok());
    kib.map(|kib: usize| kib << 10).expect("a number of kB")
}

/// Not a test by itself: what the child process runs.
#[test]
fn child_that_decodes_one_body() {
    let Ok(task) = std::env::var(CHILD) else {
        return;
    };
    let (encoding, rest) = task.split_once(' ').expect("three words");
    let (protocol, path) = rest.split_once(' ').expect("three words");
    let encoding = if encoding == "zstd" {
        Encoding::Zstd
    } else {
        Encoding::Snappy
    };
    let protocol = if protocol == "1.0" {
        Protocol::V1
    } else {
        Protocol::V2
    };
    for protocol in [Protocol::V1, Protocol::V2] {
        let small = flood(protocol, "series").repeat(2);
        decode(&snappy(&small), Encoding::Snappy, protocol).expect("readable");
        decode(&zstd(&small), Encoding::Zstd, protocol).expect("readable");
        assert!(decode(&snappy(&[0x0e]), Encoding::Snappy, protocol).is_err());
    }
    // Writing 5 makes the peak begin anew.
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
    let (before, mapped) = (status("VmRSS"), status("RssFile"));
    let body = std::fs::read(path).expect("readable");
    let seen = decode(&body, encoding, protocol);
    // Pages of the program that were mapped in meanwhile are no memory of the body.
    let mapped = status("RssFile").saturating_sub(mapped);
    let rise = status("VmHWM").saturating_sub(before + mapped);
    let reason = seen.err().map_or("none", |error| error.reason());
    println!("\nrise={rise} received={} reason={reason}", body.len());
}

/// Decodes a body in a process of its own: how much memory rose, and the reason of its refusal.
fn in_a_child(body: &[u8], encoding: &str, protocol: Protocol) -> (usize, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("body");
    std::fs::write(&path, body).expect("writable");
    let task = format!("{encoding} {} {}", protocol.as_str(), path.display());
    let test = "wire_memory::child_that_decodes_one_body";
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, task)
        .output()
        .expect("the child runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    let line = printed.lines().find_map(|line| line.strip_prefix("rise="));
    let line = line.unwrap_or_else(|| panic!("the child failed: {printed}"));
    let (rise, rest) = line.split_once(' ').expect("three values");
    let (_, reason) = rest.split_once("reason=").expect("three values");
    (rise.parse().expect("a number"), reason.to_owned())
}

fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new()
        .compress_vec(message)
        .expect("below 4 GiB")
}

/// One literal: nothing is compressed.
fn literal(message: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    prost::encoding::encode_varint(message.len() as u64, &mut body);
    body.push(63 << 2);
    body.extend_from_slice(&((message.len() - 1) as u32).to_le_bytes());
    body.extend_from_slice(message);
    body
}

fn zstd(message: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(message, 1).expect("compressible")
}

/// A message of about `size` bytes: `unit` again and again, in a series or bare.
fn message(size: usize, outer: Option<u8>, unit: &[u8]) -> Vec<u8> {
    let content = unit.repeat((size - 16) / unit.len());
    match outer {
        None => content,
        Some(number) => field(number, &content, false),
    }
}

const FLOODS: [(Protocol, &str, &str); 19] = [
    (Protocol::V1, "series", "series_count"),
    (Protocol::V1, "histograms", "count"),
    (Protocol::V1, "samples", "count"),
    (Protocol::V1, "exemplars", "count"),
    (Protocol::V1, "labels", "label_limit"),
    (Protocol::V1, "unsorted labels", "label_limit"),
    (Protocol::V1, "labels of an exemplar", "label_limit"),
    (Protocol::V1, "metadata", "count"),
    (Protocol::V1, "series of one sample", "series_count"),
    (Protocol::V2, "series", "series_count"),
    (Protocol::V2, "histograms", "count"),
    (Protocol::V2, "samples", "count"),
    (Protocol::V2, "exemplars", "count"),
    (Protocol::V2, "symbols", "symbols"),
    (Protocol::V2, "references", "label_limit"),
    (Protocol::V2, "single references", "label_limit"),
    (Protocol::V2, "references of an exemplar", "label_limit"),
    (Protocol::V2, "series of one sample", "series_count"),
    (Protocol::V2, "samples after honest series", "count"),
];

fn flood(protocol: Protocol, of: &str) -> Vec<u8> {
    flood_of(protocol, of, 16 + 40)
}

fn flood_of(protocol: Protocol, of: &str, size: usize) -> Vec<u8> {
    let v1 = protocol == Protocol::V1;
    let series = if v1 { 1 } else { 5 };
    let empty = |number: u8| [number << 3 | 2, 0];
    let unsorted = [&b"\x0a\x03\x0a\x01b"[..], b"\x0a\x03\x0a\x01a"].concat();
    match of {
        "series" => message(size, None, &empty(series)),
        "histograms" => message(size, Some(series), &empty(if v1 { 4 } else { 3 })),
        "samples" => message(size, Some(series), &empty(2)),
        "exemplars" => message(size, Some(series), &empty(if v1 { 3 } else { 4 })),
        "labels" => message(size, Some(series), &empty(1)),
        "unsorted labels" => message(size, Some(series), &unsorted),
        "labels of an exemplar" => field(series, &message(size - 8, Some(3), &empty(1)), false),
        "metadata" => message(size, None, &empty(3)),
        "series of one sample" => message(size, None, &field(series, &empty(2), false)),
        "series of unsorted labels" => message(size, None, &field(series, &unsorted, false)),
        "symbols" => message(size, None, &empty(4)),
        "references" => field(series, &message(size - 8, Some(1), &[0]), false),
        "single references" => message(size, Some(series), &[0x08, 0]),
        "references of an exemplar" => {
            let refs = message(size - 16, Some(1), &[0]);
            field(series, &field(4, &refs, false), false)
        }
        "samples after honest series" => {
            let sample = field(2, &[0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x10, 1], false);
            let honest = field(series, &sample.repeat(6), false).repeat(5000);
            let rest = message(size - honest.len(), Some(series), &empty(2));
            [honest, rest].concat()
        }
        _ => unreachable!("{of}"),
    }
}

#[test]
fn a_flood_costs_less_than_a_mebibyte_and_what_was_received() {
    if !Path::new("/proc/self/clear_refs").exists() {
        return;
    }
    let mut bomb = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
    bomb.extend([0; 42]);
    let (rise, reason) = in_a_child(&bomb, "snappy", Protocol::V1);
    assert_eq!(reason, "snappy_ratio");
    assert!(rise < MEBIBYTE, "the 47-byte bomb: {rise}");
    for (protocol, of, expected) in FLOODS {
        let message = flood_of(protocol, of, SIZE);
        assert!(message.len() > SIZE - 64 && message.len() <= SIZE);
        let zstd_window = 8 * MEBIBYTE;
        // Half a mebibyte of good series comes first, and rows are made for it.
        let honest = if of.contains("honest") {
            MEBIBYTE / 2
        } else {
            0
        };
        for (body, encoding, name, more) in [
            (snappy(&message), "snappy", "snappy", 0),
            (literal(&message), "snappy", "one literal", 0),
            // The decoder of zstd keeps a window, whose size the frame asks for.
            (zstd(&message), "zstd", "zstd", zstd_window),
        ] {
            // With checks compiled in, a little more is held on the way.
            let checks = if cfg!(debug_assertions) {
                MEBIBYTE / 8
            } else {
                0
            };
            let most = MEBIBYTE + body.len() + more + honest + checks;
            // What else the system maps in for a process meanwhile only adds to it.
            let mut measured = in_a_child(&body, encoding, protocol);
            for _ in 0..2 {
                if measured.0 >= most {
                    measured = in_a_child(&body, encoding, protocol);
                }
            }
            let (rise, reason) = measured;
            let flood = format!(
                "{} {of}, {name}: {rise} for {}",
                protocol.as_str(),
                body.len()
            );
            println!("{flood}");
            assert_eq!(reason, expected, "{flood}");
            assert!(rise < most, "{flood}");
        }
    }
}

#[test]
fn a_flood_that_comes_late_costs_little_more_than_what_came_before_it() {
    if !Path::new("/proc/self/clear_refs").exists() {
        return;
    }
    // Few elements, so that the limits are far when the flood begins.
    let value = field(2, "v".repeat(60_000).as_bytes(), false);
    let label = field(1, &[field(1, b"__name__", false), value].concat(), false);
    let honest = field(1, &label, false).repeat(60);
    let samples = flood_of(Protocol::V1, "samples", SIZE - honest.len() - 64);
    let late = [honest.clone(), samples].concat();
    // 14 bytes a series: the limit of series comes after 1.4 MB.
    let series = flood_of(Protocol::V1, "series of unsorted labels", SIZE);
    for (message, before, expected) in [
        (late, honest.len(), "count"),
        (series, 14 * LIMITS.series, "series_count"),
    ] {
        let body = snappy(&message);
        let (rise, reason) = in_a_child(&body, "snappy", Protocol::V1);
        assert_eq!(reason, expected);
        let flood = format!("{rise} for {} and {before} before the flood", body.len());
        assert!(rise < 2 * before + MEBIBYTE + body.len(), "{flood}");
    }
}
