//! Small bodies written by hand from the schemas, each byte with its meaning, and what they say.

use std::path::Path;

use prost::Message;
use sluicegate::wire::decoded::{Metadata, Protocol};
use sluicegate::wire::pb::{rw1, rw2};

use crate::fuzz::oracle::{self, Exemplar};
use crate::fuzz::targets::walk;

/// The bytes of a `.hex` file: two digits a byte, `"text"` as it is, `#` begins a remark.
fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for line in text.lines() {
        let (line, _) = line.split_once('#').unwrap_or((line, ""));
        for (index, part) in line.split('"').enumerate() {
            if index % 2 == 1 {
                out.extend_from_slice(part.as_bytes());
                continue;
            }
            let digits = part.split_whitespace();
            out.extend(digits.map(|byte| u8::from_str_radix(byte, 16).expect("two digits")));
        }
    }
    out
}

/// All bodies of the folder.
pub(crate) fn bodies(folder: &Path) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "hex"));
    paths.sort();
    let read = |path: &std::path::PathBuf| bytes(&std::fs::read_to_string(path).expect("text"));
    paths.iter().map(read).collect()
}

fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire");
    bytes(&std::fs::read_to_string(folder.join(name)).expect("a golden file"))
}

fn label(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn the_1_0_body_says_what_its_remarks_say() {
    let message = golden("rw1.hex");
    let decoded = walk(&message, Protocol::V1).expect("valid");
    let rows = oracle::rows(&decoded);
    let prost = rw1::WriteRequest::decode(&message[..]).expect("prost reads it too");
    let valid: Vec<_> = rows.iter().map(|row| row.0.clone()).collect();
    assert_eq!(valid, oracle::series_v1(&prost));
    let wrong: Vec<_> = rows.iter().map(|row| row.1).collect();
    assert_eq!(wrong, [None, None, None, Some("no_metric_name")]);
    let up = &rows[0].0;
    assert_eq!(up.labels, [label("__name__", "up"), label("job", "node")]);
    let samples = [
        (1.5f64.to_bits(), 1_700_000_000_000, 0),
        (0x7ff0_0000_0000_0002, 1_700_000_015_000, 0),
        (1 << 63, -1, 0),
    ];
    assert_eq!(up.samples, samples);
    let trace = Exemplar {
        labels: vec![label("trace_id", "ab")],
        bits: 0.25f64.to_bits(),
        timestamp: 1_700_000_000_000,
    };
    assert_eq!(rows[1].0.exemplars, [trace]);
    let histogram = &rows[2].0.histograms[0];
    assert_eq!(histogram.positive.spans, [(1, 2), (3, 1)]);
    assert_eq!(histogram.positive.deltas, [1, 1, -1]);
    assert_eq!((histogram.schema, histogram.timestamp), (-2, 1));
    let mut metadata = Vec::new();
    decoded.each_metadata(|m: Metadata<'_>| {
        metadata.push((
            m.name.to_owned(),
            m.kind,
            m.help.to_owned(),
            m.unit.to_owned(),
        ));
    });
    let expected = ("up".to_owned(), 2, "Is it up?".to_owned(), String::new());
    assert_eq!(metadata, [expected]);
}

#[test]
fn the_2_0_body_says_what_its_remarks_say() {
    let message = golden("rw2.hex");
    let decoded = walk(&message, Protocol::V2).expect("valid");
    let rows = oracle::rows(&decoded);
    assert!(rows.iter().all(|row| row.1.is_none()));
    let prost = rw2::Request::decode(&message[..]).expect("prost reads it too");
    let theirs = oracle::series_v2(&prost).expect("references point somewhere");
    for (row, theirs) in rows.iter().zip(&theirs) {
        assert_eq!(
            (&row.0.labels, &row.0.samples),
            (&theirs.labels, &theirs.samples)
        );
        assert_eq!(row.0.histograms, theirs.histograms);
    }
    let up = &rows[0].0;
    assert_eq!(up.labels, [label("__name__", "up"), label("job", "node")]);
    let start = 1_700_000_000_000;
    assert_eq!(up.samples, [(1.5f64.to_bits(), start + 15_000, start)]);
    let histogram = &rows[1].0.histograms[0];
    assert_eq!(histogram.bounds, [0.5f64.to_bits(), 1f64.to_bits()]);
    assert!(histogram.is_custom());
    assert_eq!((histogram.timestamp, histogram.start), (2, 1));
    let mut metadata = Vec::new();
    decoded.each_metadata(|m: Metadata<'_>| {
        metadata.push((
            m.name.to_owned(),
            m.kind,
            m.help.to_owned(),
            m.unit.to_owned(),
        ));
    });
    let expected = (
        "up".to_owned(),
        2,
        "Is it up?".to_owned(),
        "bool".to_owned(),
    );
    assert_eq!(metadata, [expected]);
}

#[test]
fn both_bodies_know_the_same_series() {
    let v1 = walk(&golden("rw1.hex"), Protocol::V1).expect("valid");
    let v2 = walk(&golden("rw2.hex"), Protocol::V2).expect("valid");
    assert_eq!(v1.series[0].id, v2.series[0].id);
    assert_ne!(v1.series[1].id, v2.series[1].id);
}
