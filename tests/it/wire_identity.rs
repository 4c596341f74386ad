//! The same labels are the same series, however they were written.

use sluicegate::wire::decoded::{InvalidSeries, Protocol};

use crate::fuzz::targets::walk;

/// A length-delimited field, its length in one byte more than needed when `wide`.
pub(crate) fn field(number: u8, content: &[u8], wide: bool) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(content.len() as u64, &mut out);
    if wide {
        *out.last_mut().expect("a length") |= 0x80;
        out.push(0);
    }
    out.extend_from_slice(content);
    out
}

fn plain(number: u8, content: &[u8]) -> Vec<u8> {
    field(number, content, false)
}

fn label(name: &str, value: &str) -> Vec<u8> {
    let value = if value.is_empty() {
        Vec::new()
    } else {
        plain(2, value.as_bytes())
    };
    plain(1, &[plain(1, name.as_bytes()), value].concat())
}

const SAMPLE: [u8; 4] = [0x12, 2, 0x10, 1];

fn id_v1(parts: &[Vec<u8>]) -> u128 {
    one(&plain(1, &parts.concat()), Protocol::V1)
}

fn id_v2(message: &[u8]) -> u128 {
    one(message, Protocol::V2)
}

fn one(message: &[u8], protocol: Protocol) -> u128 {
    let decoded = walk(message, protocol).expect("readable");
    assert_eq!(decoded.series.len(), 1);
    assert_eq!(decoded.series[0].invalid, None);
    let mut labels = Vec::new();
    decoded.labels(&decoded.series[0], &mut labels);
    let names: Vec<_> = labels.iter().map(|label| label.0).collect();
    assert_eq!(names, [&b"__name__"[..], b"a", b"zone"]);
    decoded.series[0].id
}

#[test]
fn labels_have_one_identity_however_they_were_written() {
    let (name, a, zone) = (label("__name__", "up"), label("a", ""), label("zone", "é"));
    let sample = SAMPLE.to_vec();
    let id = id_v1(&[name.clone(), a.clone(), zone.clone(), sample.clone()]);
    let unsorted = [zone.clone(), name.clone(), a.clone(), sample.clone()];
    let after_a_sample = [name.clone(), sample.clone(), zone.clone(), a.clone()];
    let between = [
        name.clone(),
        vec![0x30, 1],
        a.clone(),
        zone.clone(),
        sample.clone(),
    ];
    let explicit = plain(1, &[plain(1, b"a"), plain(2, b"")].concat());
    let explicitly_empty = [name.clone(), explicit, zone.clone(), sample.clone()];
    let backwards = plain(1, &[plain(2, "é".as_bytes()), plain(1, b"zone")].concat());
    let value_first = [name.clone(), a.clone(), backwards, sample.clone()];
    let twice = [plain(1, b"b"), plain(1, b"a")].concat();
    let last_name_counts = [name.clone(), plain(1, &twice), zone.clone(), sample.clone()];
    let unknown = plain(1, &[plain(1, b"a"), vec![0x18, 5]].concat());
    let unknown_field = [name.clone(), unknown, zone.clone(), sample.clone()];
    let wide = field(1, &plain(1, b"a"), true);
    let wide_length = [name.clone(), wide, zone.clone(), sample.clone()];
    let wide = plain(1, &field(1, b"a", true));
    let wide_name = [name.clone(), wide, zone.clone(), sample.clone()];
    let mut key = a;
    key.splice(0..1, [0x8a, 0]);
    let wide_key = [name, key, zone, sample];
    for (parts, how) in [
        (&unsorted[..], "unsorted"),
        (&after_a_sample, "after a sample"),
        (&between, "an unknown field between"),
        (&explicitly_empty, "an empty value written out"),
        (&value_first, "value before name"),
        (&last_name_counts, "two names in a label"),
        (&unknown_field, "an unknown field in a label"),
        (&wide_length, "a length in two bytes"),
        (&wide_name, "a name's length in two bytes"),
        (&wide_key, "a key in two bytes"),
    ] {
        assert_eq!(id_v1(parts), id, "{how}");
    }

    let symbols = ["", "up", "__name__", "a", "zone", "é", "a", ""];
    let table = symbols.map(|text| plain(4, text.as_bytes())).concat();
    let series = |refs: Vec<u8>| plain(5, &[refs, SAMPLE.to_vec()].concat());
    let packed = plain(1, &[2, 1, 3, 0, 4, 5]);
    let unpacked = [0x08, 2, 0x08, 1, 0x08, 3, 0x08, 0, 0x08, 4, 0x08, 5].to_vec();
    let mixed = [vec![0x08, 2], plain(1, &[1, 3, 0]), vec![0x08, 4, 0x08, 5]].concat();
    for (refs, how) in [
        (packed.clone(), "packed"),
        (unpacked, "unpacked"),
        (mixed, "in runs"),
        (
            plain(1, &[2, 1, 6, 7, 4, 5]),
            "by another of two equal symbols",
        ),
        (plain(1, &[4, 5, 3, 0, 2, 1]), "unsorted"),
        (
            plain(1, &[0x82, 0, 1, 3, 0x80, 0x80, 0, 4, 5]),
            "wide references",
        ),
    ] {
        let before = [table.clone(), series(refs.clone())].concat();
        assert_eq!(id_v2(&before), id, "{how}");
        let after = [series(refs), table.clone()].concat();
        assert_eq!(id_v2(&after), id, "{how}, symbols after the series");
    }
    let half = symbols.len() / 2;
    let (first, second) = (&symbols[..half], &symbols[half..]);
    let run = |texts: &[&str]| -> Vec<u8> {
        texts
            .iter()
            .flat_map(|text| plain(4, text.as_bytes()))
            .collect()
    };
    let around = [run(first), series(packed), run(second)].concat();
    assert_eq!(id_v2(&around), id, "symbols around the series");
}

#[test]
fn other_labels_have_another_identity() {
    let up = [label("__name__", "up"), label("a", "1"), SAMPLE.to_vec()];
    let sets = [
        vec![label("__name__", "up"), label("a", ""), SAMPLE.to_vec()],
        vec![label("__name__", "up"), SAMPLE.to_vec()],
        vec![label("__name__", "up"), label("a1", ""), SAMPLE.to_vec()],
        vec![label("__name__", "upa"), label("1", ""), SAMPLE.to_vec()],
    ];
    let id = |parts: &[Vec<u8>]| {
        let decoded = walk(&plain(1, &parts.concat()), Protocol::V1).expect("readable");
        decoded.series[0].id
    };
    let mut seen: Vec<u128> = sets.iter().map(|set| id(set)).collect();
    seen.push(id(&up));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), sets.len() + 1);
}

#[test]
fn text_that_is_not_utf_8_costs_its_series_wherever_it_stands() {
    let bad = |name: &[u8], value: &[u8]| plain(1, &[plain(1, name), plain(2, value)].concat());
    let (name, sample) = (label("__name__", "up"), SAMPLE.to_vec());
    let exemplar = plain(3, &bad(b"trace", b"\xff"));
    for (parts, why) in [
        (
            vec![name.clone(), bad(b"a", b"\xff"), sample.clone()],
            "value",
        ),
        (
            vec![name.clone(), bad(b"a\xff", b"x"), sample.clone()],
            "name",
        ),
        (
            vec![bad(b"a", b"\xff"), name.clone(), sample.clone()],
            "value, unsorted",
        ),
        (vec![name.clone(), exemplar.clone()], "exemplar"),
        (
            vec![label("b", "x"), name.clone(), exemplar],
            "exemplar, unsorted labels",
        ),
    ] {
        let good = plain(1, &[name.clone(), sample.clone()].concat());
        let message = [good.clone(), plain(1, &parts.concat()), good].concat();
        let decoded = walk(&message, Protocol::V1).expect("the others are good");
        let invalid: Vec<_> = decoded.series.iter().map(|row| row.invalid).collect();
        assert_eq!(invalid, [None, Some(InvalidSeries::NotUtf8), None], "{why}");
        assert_eq!(decoded.admitted().samples, 2);
    }
}
