use std::sync::Arc;

use prost::Message;

use super::*;
use crate::bench::data::{DataOptions, DataSet, Item, What};
use crate::bench::encode::{EncodedLabels, Encoder};
use crate::bench::sink::decode::{Encoding, unpack};
use crate::wire::pb::rw1;

fn data(weird: bool) -> Arc<DataSet> {
    let options = DataOptions {
        nodes: 1,
        weird,
        histograms: true,
        exemplars: true,
        start_timestamps: true,
        ..DataOptions::default()
    };
    Arc::new(DataSet::new(&options, 1_750_000_000_000))
}

fn message(data: &Arc<DataSet>, protocol: Protocol) -> Vec<u8> {
    let mut items = Vec::new();
    for slot in 0..data.slots() as u32 {
        items.push(Item {
            slot,
            scrape: 1,
            what: What::Sample,
        });
        items.push(Item {
            slot,
            scrape: 1,
            what: What::Exemplar,
        });
    }
    let labels = Arc::new(EncodedLabels::new(data));
    let body = Encoder::new(Arc::clone(data), labels, protocol).encode(&items);
    unpack(&body, Encoding::Snappy).unwrap()
}

fn inspect(message: &[u8], protocol: Protocol, data: &DataSet) -> Inspected {
    let inspector = Inspector {
        protocol,
        decoder: Decoder::Prost,
        behaviour: &Behaviour::default(),
        verify: Some(data.values()),
        tenant: "",
        tenant_label: None,
    };
    inspector.inspect(message).unwrap()
}

#[test]
fn what_the_generator_makes_is_right_in_both_versions() {
    let data = data(true);
    for protocol in [Protocol::V1, Protocol::V2] {
        let seen = inspect(&message(&data, protocol), protocol, &data);
        assert_eq!(seen.findings.len(), data.slots() * 2);
        assert_eq!(
            (seen.wrong, seen.wrong_start),
            (0, 0),
            "{:?}",
            seen.wrong_examples
        );
        assert_eq!(seen.violations, [""; 0]);
        // The kubelet and its cAdvisor share an address.
        assert_eq!(seen.targets, data.targets() as u64 - 1);
        assert_eq!(seen.with_start > 0, protocol == Protocol::V2);
    }
}

#[test]
fn every_flipped_bit_of_a_value_is_noticed() {
    // Not weird: prost's encoder, with which messages are altered here, loses −0.
    let data = data(false);
    let request = rw1::WriteRequest::decode(&*message(&data, Protocol::V1)).unwrap();
    for bit in 0..64 {
        let mut request = request.clone();
        let mut flipped = 0;
        let samples = request
            .timeseries
            .iter_mut()
            .flat_map(|series| &mut series.samples);
        for sample in samples.filter(|sample| sample.value.to_bits() != 0) {
            sample.value = f64::from_bits(sample.value.to_bits() ^ (1 << bit));
            flipped += 1;
        }
        let message = request.encode_to_vec();
        assert_eq!(
            inspect(&message, Protocol::V1, &data).wrong,
            flipped,
            "bit {bit}"
        );
    }
}

#[test]
fn a_changed_label_timestamp_histogram_or_exemplar_is_noticed() {
    // Not weird: prost's encoder, with which messages are altered here, loses −0.
    let data = data(false);
    let request = rw1::WriteRequest::decode(&*message(&data, Protocol::V1)).unwrap();
    let histogram = request
        .timeseries
        .iter()
        .position(|series| !series.histograms.is_empty())
        .unwrap();
    let changes: [&dyn Fn(&mut rw1::WriteRequest); 3] = [
        &|request| request.timeseries[histogram].histograms[0].positive_deltas[3] += 1,
        &|request| request.timeseries[1].exemplars[0].labels[0].value.push('0'),
        &|request| request.timeseries[1].exemplars[0].timestamp += 1,
    ];
    for change in changes {
        let mut request = request.clone();
        change(&mut request);
        assert_eq!(
            inspect(&request.encode_to_vec(), Protocol::V1, &data).wrong,
            1
        );
    }
}

#[test]
fn breaches_of_the_protocol_are_named() {
    let label = |name: &str, value: &str| rw1::Label {
        name: name.into(),
        value: value.into(),
    };
    let series = |labels: &[rw1::Label]| rw1::TimeSeries {
        labels: labels.to_vec(),
        samples: vec![rw1::Sample::default()],
        ..rw1::TimeSeries::default()
    };
    let name = label("__name__", "up");
    for (labels, rule) in [
        (vec![label("job", "a"), name.clone()], "labels_not_sorted"),
        (
            vec![name.clone(), label("job", "a"), label("job", "b")],
            "label_twice",
        ),
        (vec![name, label("job", "")], "label_empty"),
        (vec![label("job", "a")], "no_metric_name"),
    ] {
        let request = rw1::WriteRequest {
            timeseries: vec![series(&labels)],
            ..rw1::WriteRequest::default()
        };
        let seen = inspect(&request.encode_to_vec(), Protocol::V1, &data(false));
        assert_eq!(seen.violations, [rule]);
    }
}
