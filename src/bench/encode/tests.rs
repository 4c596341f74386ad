use std::time::Duration;

use super::proto::varint_length;
use super::*;
use crate::bench::data::{Churn, DataOptions, Profile};

/// A set with everything in it: churn, special floats, histograms, exemplars, metadata.
fn everything() -> Arc<DataSet> {
    let options = DataOptions {
        profile: Profile::Kubernetes,
        nodes: 1,
        interval: Duration::from_secs(5),
        weird: true,
        churn: Some(Churn {
            share: 0.3,
            every_scrapes: 3,
        }),
        histograms: true,
        exemplars: true,
        metadata: true,
        start_timestamps: true,
        ..DataOptions::default()
    };
    Arc::new(DataSet::new(&options, 1_750_000_000_000))
}

fn items(data: &DataSet) -> Vec<Item> {
    let mut items = Vec::new();
    for scrape in 2..6 {
        for slot in 0..data.slots() as u32 {
            let item = |what| Item { slot, scrape, what };
            if data.marker_at(slot, scrape) {
                items.push(item(What::Marker));
            }
            items.push(item(What::Sample));
            if data.exemplar_at(slot, scrape) {
                items.push(item(What::Exemplar));
            }
        }
    }
    items
}

fn body(data: &Arc<DataSet>, protocol: Protocol, items: &[Item]) -> Vec<u8> {
    let labels = Arc::new(EncodedLabels::new(data));
    let mut encoder = Encoder::new(Arc::clone(data), labels, protocol);
    // Twice, because the second body must owe nothing to the first.
    let first = encoder.encode(items);
    assert_eq!(first, encoder.encode(items));
    let mut plain = vec![0; snap::raw::decompress_len(&first).unwrap()];
    snap::raw::Decoder::new()
        .decompress(&first, &mut plain)
        .unwrap();
    plain
}

fn owned(data: &DataSet, item: Item) -> Vec<(String, String)> {
    let labels = data.labels(item).into_iter();
    labels
        .map(|(name, value)| (name.to_owned(), value.into_owned()))
        .collect()
}

#[test]
fn a_1_0_body_decodes_to_what_the_data_set_says() {
    let data = everything();
    let items = items(&data);
    let request = rw1::WriteRequest::decode(&*body(&data, Protocol::V1, &items)).unwrap();
    assert_eq!(request.timeseries.len(), items.len());
    let mut seen = [0; 3];
    for (series, item) in request.timeseries.iter().zip(&items) {
        let pair = |label: &rw1::Label| (label.name.clone(), label.value.clone());
        let labels: Vec<_> = series.labels.iter().map(pair).collect();
        assert_eq!(labels, owned(&data, *item));
        let at = data.timestamp_ms(item.slot, item.scrape);
        let elements = (&*series.samples, &*series.histograms, &*series.exemplars);
        match (element(&data, *item), elements) {
            (Form::Float, ([sample], [], [])) => {
                assert_eq!(
                    (sample.value.to_bits(), sample.timestamp),
                    (data.bits(*item), at)
                );
                seen[0] += 1;
            }
            (Form::Histogram(flavour), ([], [histogram], [])) => {
                let model = data.model(*item);
                let made = expected_histogram(&model, data.values(), flavour, at);
                assert_eq!(*histogram, to_v1(made));
                seen[1] += 1;
            }
            (Form::Exemplar, ([], [], [exemplar])) => {
                let (value, trace) = expected_exemplar(&data.model(*item), data.values(), at);
                assert_eq!((exemplar.value.to_bits(), exemplar.timestamp), (value, at));
                assert_eq!(exemplar.labels[0].value, trace);
                seen[2] += 1;
            }
            _ => panic!("{item:?}: {series:?}"),
        }
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
}

#[test]
fn a_2_0_body_decodes_to_what_the_data_set_says() {
    let data = everything();
    let items = items(&data);
    let request = rw2::Request::decode(&*body(&data, Protocol::V2, &items)).unwrap();
    assert_eq!(request.timeseries.len(), items.len());
    assert_eq!(request.symbols[0], "");
    let unique: HashSet<&String> = request.symbols.iter().collect();
    assert_eq!(unique.len(), request.symbols.len());
    let text = |number: u32| request.symbols[number as usize].clone();
    for (series, item) in request.timeseries.iter().zip(&items) {
        let pairs = series.labels_refs.chunks(2);
        let labels: Vec<_> = pairs.map(|pair| (text(pair[0]), text(pair[1]))).collect();
        assert_eq!(labels, owned(&data, *item));
        let at = data.timestamp_ms(item.slot, item.scrape);
        let model = data.model(*item);
        match element(&data, *item) {
            Form::Float => {
                let sample = series.samples[0];
                assert_eq!(
                    (sample.value.to_bits(), sample.timestamp),
                    (data.bits(*item), at)
                );
                let start = if model.is_counter() {
                    model.start_ms()
                } else {
                    0
                };
                assert_eq!(sample.start_timestamp, start);
            }
            Form::Histogram(flavour) => {
                let mut made = expected_histogram(&model, data.values(), flavour, at);
                made.start_timestamp = model.start_ms();
                assert_eq!(series.histograms, [made]);
            }
            Form::Exemplar => {
                let (value, trace) = expected_exemplar(&model, data.values(), at);
                let exemplar = &series.exemplars[0];
                assert_eq!((exemplar.value.to_bits(), exemplar.timestamp), (value, at));
                let labels = [text(exemplar.labels_refs[0]), text(exemplar.labels_refs[1])];
                assert_eq!(labels, [TRACE_LABEL.to_owned(), trace]);
            }
        }
        let metadata = series.metadata.unwrap();
        assert!(text(metadata.help_ref).starts_with("Value of "));
        assert_ne!(metadata.r#type, 0);
    }
}

#[test]
fn varints_have_the_length_that_was_reckoned() {
    for value in [
        0,
        1,
        127,
        128,
        16_383,
        16_384,
        u64::from(u32::MAX),
        u64::MAX,
    ] {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        assert_eq!(out.len(), varint_length(value), "{value}");
    }
}
