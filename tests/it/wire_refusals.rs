//! What refuses a request whole: each reason, and that a lie is never believed.

use sluicegate::wire::compression::Encoding;
use sluicegate::wire::decoded::{InvalidSeries, Protocol, WalkLimits};
use sluicegate::wire::error::DecodeError;

use crate::fuzz::targets::key;
use crate::wire_identity::field;

const LIMITS: WalkLimits = WalkLimits {
    series: 3,
    elements: 6,
    labels: 4,
    label_bytes: 20,
    expanded_bytes: 40,
};
const SIZE_LIMIT: u64 = 2000;

fn plain(number: u8, content: &[u8]) -> Vec<u8> {
    field(number, content, false)
}

fn snappy(message: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new()
        .compress_vec(message)
        .expect("small")
}

fn decode(body: &[u8], encoding: Encoding, protocol: Protocol) -> Result<(), DecodeError> {
    sluicegate::wire::decode(body, encoding, protocol, SIZE_LIMIT, &LIMITS, &key()).map(drop)
}

fn v1(message: &[u8]) -> Result<(), DecodeError> {
    decode(&snappy(message), Encoding::Snappy, Protocol::V1)
}

fn v2(message: &[u8]) -> Result<(), DecodeError> {
    decode(&snappy(message), Encoding::Snappy, Protocol::V2)
}

/// A symbol table and one series with these fields.
fn symbols(texts: &[&str], series: &[Vec<u8>]) -> Vec<u8> {
    let table = texts.iter().flat_map(|text| plain(4, text.as_bytes()));
    table.chain(plain(5, &series.concat())).collect()
}

fn label(name: &str, value: &str) -> Vec<u8> {
    plain(
        1,
        &[plain(1, name.as_bytes()), plain(2, value.as_bytes())].concat(),
    )
}

#[test]
fn each_reason_has_its_bytes() {
    let bytes: Vec<u8> = (0..=255).collect();
    let (sample, empty) = (plain(2, &[]), plain(1, &[]));
    let bomb = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0; 42]].concat();
    let zstd = |message: &[u8]| zstd::bulk::compress(message, 1).unwrap();
    let groups = [0x7b].repeat(40);
    let long = "v".repeat(21);
    let deep_in_a_label = plain(1, &groups);
    let names = ["", "__name__", "up", "aaaaaaaaaa"];
    let exemplar = |refs: &[u8]| plain(4, &plain(1, refs));
    let body = |body: &[u8], encoding| decode(body, encoding, Protocol::V1);
    let table: &[(&str, &str, Result<(), DecodeError>)] = &[
        (
            "snappy",
            "truncated",
            body(&snappy(&bytes)[..200], Encoding::Snappy),
        ),
        (
            "snappy",
            "six bytes of length",
            body(&[0xff; 6], Encoding::Snappy),
        ),
        (
            "snappy",
            "length over 32 bits",
            body(&[0xff, 0xff, 0xff, 0xff, 0x7f], Encoding::Snappy),
        ),
        (
            "snappy",
            "bytes after the end",
            body(&[0, 0, b'x'], Encoding::Snappy),
        ),
        (
            "snappy_framed",
            "framed",
            body(b"\xff\x06\x00\x00sNaPpY", Encoding::Snappy),
        ),
        (
            "snappy_ratio",
            "47 bytes that say 4 GiB",
            body(&bomb, Encoding::Snappy),
        ),
        (
            "decoded_size",
            "one byte over",
            body(&snappy(&[0; 2001]), Encoding::Snappy),
        ),
        (
            "decoded_size",
            "in zstd",
            body(&zstd(&[0; 2001]), Encoding::Zstd),
        ),
        (
            "zstd",
            "truncated",
            body(&zstd(&[7; 500])[..12], Encoding::Zstd),
        ),
        (
            "zstd",
            "magic only",
            body(&[0x28, 0xb5, 0x2f, 0xfd], Encoding::Zstd),
        ),
        (
            "snappy",
            "neither",
            body(&[0x28, 0xb5, 0x2f], Encoding::Zstd),
        ),
        ("proto", "length past the end", v1(&[0x0a, 5])),
        ("proto", "length past its series", v1(&plain(1, &[0x12, 5]))),
        ("proto", "series as a number", v1(&[0x08, 1])),
        ("proto", "sample as a number", v1(&plain(1, &[0x10, 1]))),
        (
            "proto",
            "value as a number",
            v1(&plain(1, &plain(2, &[0x08, 1]))),
        ),
        (
            "proto",
            "timestamp as a double",
            v1(&plain(1, &plain(2, &[0x11, 0, 0, 0, 0, 0, 0, 0, 0]))),
        ),
        (
            "proto",
            "label name as a number",
            v1(&plain(1, &plain(1, &[0x08, 1]))),
        ),
        (
            "proto",
            "exemplar label as a number",
            v1(&plain(1, &plain(3, &[0x08, 1]))),
        ),
        (
            "proto",
            "reset hint as text",
            v1(&plain(1, &plain(4, &plain(14, b"x")))),
        ),
        (
            "proto",
            "short packed doubles",
            v1(&plain(1, &plain(4, &plain(13, &[0; 7])))),
        ),
        (
            "proto",
            "metadata name as a number",
            v1(&plain(3, &[0x10, 1])),
        ),
        ("proto", "symbol as a number", v2(&[0x20, 1])),
        (
            "proto",
            "references as doubles",
            v2(&plain(5, &[0x09, 0, 0, 0, 0, 0, 0, 0, 0])),
        ),
        (
            "proto",
            "metadata help as text",
            v2(&plain(5, &plain(5, &plain(3, b"")))),
        ),
        ("proto", "wire type 7", v1(&[0x0f])),
        ("proto", "field 0", v1(&[0x02, 0])),
        ("proto", "end of no group", v1(&[0x0c])),
        ("proto_depth", "groups", v1(&groups)),
        (
            "proto_depth",
            "groups in a label",
            v1(&plain(1, &deep_in_a_label)),
        ),
        ("series_count", "1.0", v1(&empty.repeat(4))),
        ("series_count", "2.0", v2(&plain(5, &[]).repeat(4))),
        ("count", "samples", v1(&plain(1, &sample.repeat(7)))),
        (
            "count",
            "histograms",
            v1(&plain(1, &plain(4, &[]).repeat(7))),
        ),
        (
            "count",
            "exemplars",
            v1(&plain(1, &plain(3, &[]).repeat(7))),
        ),
        (
            "count",
            "all kinds together",
            v1(&plain(
                1,
                &[sample.repeat(5), plain(3, &[]), plain(4, &[])].concat(),
            )),
        ),
        (
            "count",
            "over two series",
            v2(&plain(5, &sample.repeat(4)).repeat(2)),
        ),
        ("count", "metadata", v1(&plain(3, &[]).repeat(7))),
        (
            "label_limit",
            "labels",
            v1(&plain(
                1,
                &[1, 2, 3, 4, 5]
                    .map(|n| label(&format!("a{n}"), ""))
                    .concat(),
            )),
        ),
        (
            "label_limit",
            "unsorted labels",
            v1(&plain(1, &label("a", "").repeat(5))),
        ),
        (
            "label_limit",
            "references",
            v2(&symbols(&names, &[plain(1, &[0; 10])])),
        ),
        (
            "label_limit",
            "a long label",
            v1(&plain(1, &label("a", &long))),
        ),
        (
            "label_limit",
            "a long label, unsorted",
            v1(&plain(1, &[label("b", ""), label("a", &long)].concat())),
        ),
        (
            "label_limit",
            "a long label, 2.0",
            v2(&symbols(&["", "a", &long], &[plain(1, &[1, 2])])),
        ),
        (
            "label_limit",
            "labels of an exemplar",
            v1(&plain(1, &plain(3, &label("a", "").repeat(5)))),
        ),
        (
            "label_limit",
            "a long label of an exemplar",
            v1(&plain(1, &plain(3, &label("a", &long)))),
        ),
        (
            "label_limit",
            "references of an exemplar",
            v2(&symbols(&names, &[exemplar(&[0; 10])])),
        ),
        (
            "decoded_size",
            "labels written out",
            v2(&symbols(
                &names,
                &[plain(1, &[1, 2, 3, 3]), exemplar(&[3, 0, 3, 0])],
            )),
        ),
        ("symbols", "first not empty", v2(&symbols(&["a"], &[]))),
        (
            "symbols",
            "no table",
            v2(&symbols(&[], &[plain(1, &[0, 0])])),
        ),
        (
            "symbols",
            "reference outside",
            v2(&symbols(&["", "a"], &[plain(1, &[1, 2])])),
        ),
        (
            "symbols",
            "reference over 32 bits",
            v2(&symbols(
                &["", "a"],
                &[plain(1, &[0x80, 0x80, 0x80, 0x80, 0x10, 0])],
            )),
        ),
        (
            "symbols",
            "odd references",
            v2(&symbols(&["", "a"], &[plain(1, &[1])])),
        ),
        (
            "symbols",
            "exemplar outside",
            v2(&symbols(&["", "a"], &[exemplar(&[1, 2])])),
        ),
        (
            "symbols",
            "odd exemplar",
            v2(&symbols(&["", "a"], &[exemplar(&[1])])),
        ),
        (
            "symbols",
            "help outside",
            v2(&symbols(&["", "a"], &[plain(5, &[0x18, 2])])),
        ),
        (
            "symbols",
            "unit outside",
            v2(&symbols(&["", "a"], &[plain(5, &[0x20, 2])])),
        ),
        (
            "proto_mismatch",
            "2.0 as 1.0",
            v1(&symbols(&["", "a"], &[plain(1, &[1, 1])])),
        ),
        ("proto_mismatch", "1.0 as 2.0", v2(&plain(1, &[]))),
        ("proto_mismatch", "1.0 metadata as 2.0", v2(&plain(3, &[]))),
    ];
    let mut reasons = std::collections::BTreeSet::new();
    for (reason, why, seen) in table {
        let error = seen.as_ref().expect_err(why);
        assert_eq!(error.reason(), *reason, "{why}: {error}");
        let text = error.to_string();
        assert!(!text.is_empty() && !text.ends_with('.'), "{text}");
        reasons.insert(*reason);
    }
    let all = [
        "count",
        "decoded_size",
        "label_limit",
        "proto",
        "proto_depth",
        "proto_mismatch",
        "series_count",
        "snappy",
        "snappy_framed",
        "snappy_ratio",
        "symbols",
        "zstd",
    ];
    assert!(
        reasons.iter().eq(&all),
        "a reason without a test: {reasons:?}"
    );
}

#[test]
fn what_is_just_within_the_limits_is_read() {
    let sample = plain(2, &[]);
    for (message, what) in [
        (plain(1, &[]).repeat(3), "series"),
        (plain(1, &sample.repeat(6)), "samples"),
        (plain(3, &[]).repeat(6), "metadata"),
        (plain(1, &label("a", "").repeat(4)), "labels"),
        (plain(1, &label("a", &"v".repeat(19))), "a long label"),
        (vec![], "the empty message"),
        (vec![0xf8, 0x3f, 1], "an unknown field alone"),
        (
            [0x7b]
                .repeat(32)
                .into_iter()
                .chain([0x7c].repeat(32))
                .collect(),
            "groups",
        ),
    ] {
        assert_eq!(v1(&message), Ok(()), "{what}");
    }
    let names = ["", "__name__", "up", "aaaaaaaaaa"];
    let exemplar = plain(4, &plain(1, &[3, 0]));
    assert_eq!(
        v2(&symbols(&names, &[plain(1, &[1, 2, 3, 3]), exemplar])),
        Ok(())
    );
    assert_eq!(v2(&plain(4, &[])), Ok(()), "symbols only, as a probe sends");
    assert_eq!(
        decode(&[], Encoding::Snappy, Protocol::V1),
        Ok(()),
        "no bytes at all"
    );
    assert_eq!(decode(&[0], Encoding::Snappy, Protocol::V2), Ok(()));
}

#[test]
fn each_invalid_series_is_refused_by_itself_and_counted() {
    let name = label("__name__", "up");
    let sample = plain(2, &[]);
    let series = |parts: &[&[u8]]| plain(1, &parts.concat());
    let cases: [(&str, Vec<u8>); 8] = [
        ("no_metric_name", series(&[&label("a", "b"), &sample])),
        ("no_metric_name", series(&[&label("__name__", ""), &sample])),
        (
            "empty_label_name",
            series(&[&label("", "x"), &name, &sample]),
        ),
        ("repeated_label_name", series(&[&name, &name, &sample])),
        (
            "repeated_label_name",
            series(&[&label("a", "1"), &name, &label("a", "2"), &sample]),
        ),
        (
            "not_utf8",
            series(&[
                &name,
                &plain(1, &[plain(1, b"z"), plain(2, b"\xff")].concat()),
                &sample,
            ]),
        ),
        ("no_element", series(&[&name])),
        (
            "invalid_histogram",
            series(&[&name, &plain(4, &[0x20, 107])]),
        ),
    ];
    let limits = WalkLimits {
        label_bytes: 0,
        ..LIMITS
    };
    for (reason, bad) in cases {
        let good = series(&[&name, &sample]);
        let message = [good.clone(), bad, good].concat();
        let decoded = sluicegate::wire::walk(message, Protocol::V1, &limits, &key()).unwrap();
        let reasons: Vec<_> = decoded.series.iter().map(|row| row.invalid).collect();
        assert_eq!((reasons[0], reasons[2]), (None, None), "{reason}");
        assert_eq!(reasons[1].map(InvalidSeries::reason), Some(reason));
        assert_eq!(decoded.admitted().samples, 2, "{reason}");
        assert_eq!(decoded.counts() - decoded.skipped, decoded.admitted());
        assert_eq!(decoded.invalid().map(|seen| seen.1), Some(1));
    }
}
