//! Random requests, valid and not: what senders send, and the corners of what they may.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use prost::Message;
use sluicegate::wire::pb::{rw1, rw2};

use crate::fuzz::oracle::Label;

/// prost leaves −0 out of what it writes, so it is generated as this NaN and put right in the bytes.
const NEGATIVE_ZERO: u64 = 0x7ff8_5afe_c0de_0bad;

/// One series, before it is written as 1.0 or 2.0.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) labels: Vec<Label>,
    pub(crate) samples: Vec<rw2::Sample>,
    pub(crate) histograms: Vec<rw2::Histogram>,
    pub(crate) exemplars: Vec<(Vec<Label>, f64, i64)>,
    pub(crate) metadata: Option<(i32, String, String)>,
}

/// Requests of up to eight series, of which most are valid.
pub(crate) fn request() -> impl Strategy<Value = Vec<Series>> {
    vec(series(labels()), 0..8)
}

/// Requests as Prometheus writes them: sorted labels, each series with one kind of element.
pub(crate) fn canonical_request() -> impl Strategy<Value = Vec<Series>> {
    let one_kind = series(sorted_labels()).prop_map(|mut series| {
        series.histograms.retain(|h| h.schema != -53);
        if !series.samples.is_empty() {
            series.histograms.clear();
        }
        series
    });
    vec(one_kind, 0..8)
}

fn series(labels: impl Strategy<Value = Vec<Label>>) -> impl Strategy<Value = Series> {
    let exemplar = (vec((name(), text()), 0..3), float(), time());
    let metadata = (0..8i32, text(), text());
    let parts = (
        labels,
        vec(sample(), 0..4),
        prop_oneof![3 => Just(Vec::new()), 2 => vec(histogram(), 1..3)],
        prop_oneof![3 => Just(Vec::new()), 1 => vec(exemplar, 1..3)],
        prop::option::of(metadata),
    );
    parts.prop_map(
        |(labels, samples, histograms, exemplars, metadata)| Series {
            labels,
            samples,
            histograms,
            exemplars,
            metadata,
        },
    )
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["job", "instance", "le", "pod", "__replica__", "a"])
            .prop_map(str::to_owned),
        2 => "[a-zA-Z_][a-zA-Z0-9_]{0,6}",
        1 => "[é日µ]{1,3}",
    ]
}

/// Short, long, and with lengths of one, two and three bytes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["node", "up", "a", "10.0.0.1:9100"]).prop_map(str::to_owned),
        1 => Just(String::new()),
        2 => "\\PC{0,12}",
        1 => (126usize..131).prop_map(|n| "x".repeat(n)),
        1 => (16_380usize..16_390).prop_map(|n| "y".repeat(n)),
    ]
}

fn sorted_labels() -> impl Strategy<Value = Vec<Label>> {
    (btree_map(name(), text(), 0..6), "[a-z_:]{1,8}").prop_map(|(mut labels, metric)| {
        labels.insert("__name__".to_owned(), metric);
        labels.into_iter().collect()
    })
}

fn labels() -> impl Strategy<Value = Vec<Label>> {
    let any_name = prop_oneof![8 => name(), 1 => Just(String::new())];
    prop_oneof![
        4 => sorted_labels(),
        3 => sorted_labels().prop_shuffle(),
        1 => (sorted_labels(), vec((any_name, text()), 1..3)).prop_map(|(mut labels, more)| {
            labels.extend(more);
            labels
        }),
        1 => vec((name(), text()), 0..4),
    ]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        4 => 1_700_000_000_000i64..1_800_000_000_000,
        1 => prop::sample::select(vec![0, 1, -1, i64::MIN, i64::MAX]),
        1 => any::<i64>(),
    ]
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        3 => any::<f64>(),
        3 => any::<u64>().prop_map(f64::from_bits),
        3 => prop::sample::select(vec![
            0,
            NEGATIVE_ZERO,
            0x7ff0_0000_0000_0002, // Stale marker, a signalling NaN.
            0x7ff8_0000_0000_0001,
            0xfff8_dead_beef_cafe,
            u64::MAX,
            0x7ff0_0000_0000_0000,
            0xfff0_0000_0000_0000,
            1,
            0x000f_ffff_ffff_ffff,
        ])
        .prop_map(f64::from_bits),
    ]
}

fn sample() -> impl Strategy<Value = rw2::Sample> {
    let start = prop_oneof![2 => Just(0), 1 => time()];
    (float(), time(), start).prop_map(|(value, timestamp, start_timestamp)| rw2::Sample {
        value,
        timestamp,
        start_timestamp,
    })
}

/// Spans and the counts of their buckets.
type Side = (Vec<rw2::BucketSpan>, Vec<u32>);

fn side() -> impl Strategy<Value = Side> {
    vec((0i32..5, vec(0u32..9, 1..4)), 0..3).prop_map(|parts| {
        let span = |(offset, buckets): &(i32, Vec<u32>)| rw2::BucketSpan {
            offset: *offset,
            length: buckets.len() as u32,
        };
        let spans = parts.iter().map(span).collect();
        (spans, parts.into_iter().flat_map(|part| part.1).collect())
    })
}

fn deltas(buckets: &[u32]) -> Vec<i64> {
    let before = std::iter::once(0).chain(buckets.iter().copied());
    let pairs = buckets.iter().zip(before);
    pairs.map(|(n, p)| i64::from(*n) - i64::from(p)).collect()
}

/// Valid of all three kinds, then perhaps broken by one change.
fn histogram() -> impl Strategy<Value = rw2::Histogram> {
    let start = prop_oneof![2 => Just(0), 1 => time()];
    let shape = (side(), side(), 0u32..5, 0..3u8, -4..=8i32);
    let rest = (
        float(),
        time(),
        start,
        0..4i32,
        prop_oneof![3 => Just(0u8), 2 => 1..14u8],
    );
    (shape, rest).prop_map(|((negative, positive, zero, kind, schema), rest)| {
        let (sum, timestamp, start_timestamp, reset_hint, change) = rest;
        let all: u32 = negative.1.iter().chain(&positive.1).sum::<u32>() + zero;
        let mut h = rw2::Histogram {
            count: Some(rw2::histogram::Count::CountInt(u64::from(all))),
            sum,
            schema,
            zero_threshold: 1e-128,
            zero_count: Some(rw2::histogram::ZeroCount::ZeroCountInt(u64::from(zero))),
            negative_deltas: deltas(&negative.1),
            negative_spans: negative.0,
            positive_deltas: deltas(&positive.1),
            positive_spans: positive.0,
            reset_hint,
            timestamp,
            start_timestamp,
            ..rw2::Histogram::default()
        };
        match kind {
            0 => {}
            1 => into_floats(&mut h, &negative.1, &positive.1, zero),
            _ => into_custom(&mut h, &positive.1),
        }
        change_one(&mut h, change);
        h
    })
}

fn into_floats(h: &mut rw2::Histogram, negative: &[u32], positive: &[u32], zero: u32) {
    let float = |buckets: &[u32]| buckets.iter().map(|n| f64::from(*n) / 2.0).collect();
    h.count = Some(rw2::histogram::Count::CountFloat(17.5));
    h.zero_count = Some(rw2::histogram::ZeroCount::ZeroCountFloat(f64::from(zero)));
    (h.negative_counts, h.negative_deltas) = (float(negative), Vec::new());
    (h.positive_counts, h.positive_deltas) = (float(positive), Vec::new());
}

fn into_custom(h: &mut rw2::Histogram, positive: &[u32]) {
    let reach: i64 = h
        .positive_spans
        .iter()
        .map(|span| i64::from(span.offset) + i64::from(span.length))
        .sum();
    h.schema = -53;
    h.zero_threshold = 0.0;
    h.zero_count = None;
    h.count = Some(rw2::histogram::Count::CountInt(
        positive.iter().map(|n| u64::from(*n)).sum(),
    ));
    (h.negative_spans, h.negative_deltas) = (Vec::new(), Vec::new());
    h.custom_values = (1..reach).map(|n| n as f64 / 4.0).collect();
}

fn change_one(h: &mut rw2::Histogram, change: u8) {
    match change {
        1 => h.sum = f64::from_bits(0x7ff0_0000_0000_0002),
        2 => h.schema = 9,
        3 => h.schema = -5,
        4 => h.schema = 53,
        5 => h.count = None,
        6 => h.count = Some(rw2::histogram::Count::CountInt(u64::MAX)),
        7 => drop(h.positive_spans.pop()),
        8 => drop(h.negative_deltas.pop()),
        9 => h.positive_deltas.push(-100),
        10 => h.custom_values.push(f64::INFINITY),
        11 => h.custom_values = vec![1.0, 1.0],
        12 => h.positive_counts.push(-1.0),
        13 => h
            .positive_spans
            .iter_mut()
            .for_each(|span| span.offset -= 3),
        _ => {}
    }
}

fn with_negative_zeros(mut message: Vec<u8>) -> Vec<u8> {
    let mark = NEGATIVE_ZERO.to_le_bytes();
    let mut at = 0;
    while at + 8 <= message.len() {
        if message[at..at + 8] == mark {
            message[at..at + 8].copy_from_slice(&(-0.0f64).to_bits().to_le_bytes());
        }
        at += 1;
    }
    message
}

/// The request in 1.0, as prost writes it.
pub(crate) fn message_v1(request: &[Series]) -> Vec<u8> {
    let labels = |labels: &[Label]| {
        let label = |(name, value): &Label| rw1::Label {
            name: name.clone(),
            value: value.clone(),
        };
        labels.iter().map(label).collect()
    };
    let series = |series: &Series| rw1::TimeSeries {
        labels: labels(&series.labels),
        samples: series
            .samples
            .iter()
            .map(|sample| rw1::Sample {
                value: sample.value,
                timestamp: sample.timestamp,
            })
            .collect(),
        exemplars: series
            .exemplars
            .iter()
            .map(|(own, value, timestamp)| rw1::Exemplar {
                labels: labels(own),
                value: *value,
                timestamp: *timestamp,
            })
            .collect(),
        histograms: series
            .histograms
            .iter()
            // Field 17 of 2.0 is unknown to 1.0's struct, and goes.
            .map(|h| rw1::Histogram::decode(&h.encode_to_vec()[..]).expect("the same fields"))
            .collect(),
    };
    let request = rw1::WriteRequest {
        timeseries: request.iter().map(series).collect(),
        metadata: Vec::new(),
    };
    with_negative_zeros(request.encode_to_vec())
}

/// The request in 2.0, as prost writes it; symbols in the order of their first use.
pub(crate) fn message_v2(request: &[Series]) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut symbol = |text: &str| {
        let known = symbols.iter().position(|symbol| symbol == text);
        known.unwrap_or_else(|| {
            symbols.push(text.to_owned());
            symbols.len() - 1
        }) as u32
    };
    let mut out = rw2::Request::default();
    for series in request {
        let mut refs = |labels: &[Label]| -> Vec<u32> {
            let both = labels.iter().flat_map(|label| [&label.0, &label.1]);
            both.map(|text| symbol(text)).collect()
        };
        let labels_refs = refs(&series.labels);
        let exemplar = |(own, value, timestamp): &(Vec<Label>, f64, i64)| rw2::Exemplar {
            labels_refs: refs(own),
            value: *value,
            timestamp: *timestamp,
        };
        let exemplars = series.exemplars.iter().map(exemplar).collect();
        let metadata = series
            .metadata
            .as_ref()
            .map(|(kind, help, unit)| rw2::Metadata {
                r#type: *kind,
                help_ref: symbol(help),
                unit_ref: symbol(unit),
            });
        out.timeseries.push(rw2::TimeSeries {
            labels_refs,
            samples: series.samples.clone(),
            histograms: series.histograms.clone(),
            exemplars,
            metadata,
        });
    }
    out.symbols = symbols;
    with_negative_zeros(out.encode_to_vec())
}
