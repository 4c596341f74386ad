use proptest::prelude::*;

use super::*;

type OwnedLabels = Vec<(Vec<u8>, Vec<u8>)>;

/// What a visitor was shown, in a form that can be compared.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    series: Vec<(OwnedLabels, Vec<String>)>,
    metadata: u64,
    violations: Vec<&'static str>,
}

impl Visit for Seen {
    fn series(&mut self, labels: &mut Vec<RawLabel<'_>>, elements: &[Element<'_>]) {
        let labels = labels
            .iter()
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        // The generated types do not tell the order between kinds.
        let mut elements: Vec<String> = elements.iter().map(|one| format!("{one:?}")).collect();
        elements.sort();
        self.series.push((labels, elements));
    }

    fn metadata(&mut self, count: u64) {
        self.metadata += count;
    }

    fn violation(&mut self, rule: &'static str) {
        self.violations.push(rule);
    }
}

fn seen(message: &[u8], protocol: Protocol, decoder: Decoder) -> Option<Seen> {
    let mut seen = Seen::default();
    read(message, protocol, decoder, &mut seen)
        .ok()
        .map(|()| seen)
}

fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("[a-zé_]{0,4}").unwrap()
}

prop_compose! {
    fn v1_series()(
        labels in prop::collection::vec((text(), text()), 0..4),
        samples in prop::collection::vec((any::<u64>(), any::<i64>()), 0..3),
        traced in prop::option::of((text(), any::<u64>())),
        sum in prop::option::of(any::<u64>()),
    ) -> rw1::TimeSeries {
        let label = |(name, value)| rw1::Label { name, value };
        let sample = |(bits, timestamp)| rw1::Sample { value: f64::from_bits(bits), timestamp };
        let exemplar = |(name, bits)| rw1::Exemplar {
            labels: vec![label((name, String::new()))],
            value: f64::from_bits(bits),
            timestamp: 5,
        };
        let histogram = |bits| rw1::Histogram {
            sum: f64::from_bits(bits),
            positive_deltas: vec![1, -1],
            ..rw1::Histogram::default()
        };
        rw1::TimeSeries {
            labels: labels.into_iter().map(label).collect(),
            samples: samples.into_iter().map(sample).collect(),
            exemplars: traced.map(exemplar).into_iter().collect(),
            histograms: sum.map(histogram).into_iter().collect(),
        }
    }
}

prop_compose! {
    fn v2_series()(
        labels_refs in prop::collection::vec(0u32..7, 0..5),
        samples in prop::collection::vec((any::<u64>(), any::<i64>(), any::<i64>()), 0..3),
        exemplar_refs in prop::option::of(prop::collection::vec(0u32..7, 0..3)),
        metadata in any::<bool>(),
        histogram in any::<bool>(),
    ) -> rw2::TimeSeries {
        let sample = |(bits, timestamp, start_timestamp)| {
            rw2::Sample { value: f64::from_bits(bits), timestamp, start_timestamp }
        };
        let exemplar = |labels_refs| rw2::Exemplar { labels_refs, value: 1.5, timestamp: -4 };
        rw2::TimeSeries {
            labels_refs,
            samples: samples.into_iter().map(sample).collect(),
            histograms: vec![rw2::Histogram { sum: 3.0, ..Default::default() }; usize::from(histogram)],
            exemplars: exemplar_refs.map(exemplar).into_iter().collect(),
            metadata: metadata.then(rw2::Metadata::default),
        }
    }
}

proptest! {
    #[test]
    fn the_scan_sees_what_prost_sees_in_1_0(
        timeseries in prop::collection::vec(v1_series(), 0..5),
        flip in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let metadata = vec![rw1::MetricMetadata::default(); timeseries.len() / 2];
        let mut message = rw1::WriteRequest { timeseries, metadata }.encode_to_vec();
        damage(&mut message, flip);
        compare(&message, Protocol::V1, flip.is_some());
    }

    #[test]
    fn the_scan_sees_what_prost_sees_in_2_0(
        symbols in prop::collection::vec(text(), 6),
        timeseries in prop::collection::vec(v2_series(), 0..5),
        flip in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut message = rw2::Request { symbols, timeseries }.encode_to_vec();
        damage(&mut message, flip);
        compare(&message, Protocol::V2, flip.is_some());
    }
}

fn damage(message: &mut [u8], flip: Option<(prop::sample::Index, u8)>) {
    if let Some((place, with)) = flip.filter(|_| !message.is_empty()) {
        message[place.index(message.len())] ^= with;
    }
}

/// What both can read they read alike. They may differ in what is broken: the scan does not look
/// into metadata, and refuses groups, which no sender has written for twenty years.
fn compare(message: &[u8], protocol: Protocol, damaged: bool) {
    let oracle = seen(message, protocol, Decoder::Prost);
    let scanned = seen(message, protocol, Decoder::Scan);
    if !damaged || (oracle.is_some() && scanned.is_some()) {
        assert_eq!(scanned, oracle);
    }
}

#[test]
fn what_would_be_a_start_timestamp_in_2_0_is_an_unknown_field_in_1_0() {
    let sample = rw2::Sample {
        start_timestamp: 7,
        ..rw2::Sample::default()
    };
    let mut sample = sample.encode_to_vec();
    // A sample in a series in a request.
    for number in [2 << 3 | 2, 1 << 3 | 2] {
        sample.splice(0..0, [number, sample.len() as u8]);
    }
    compare(&sample, Protocol::V1, false);
    let read = seen(&sample, Protocol::V1, Decoder::Scan).expect("a request");
    assert!(read.series[0].1[0].contains("start_ms: 0"), "{read:?}");
}

#[test]
fn bodies_that_claim_too_much_are_refused_before_they_are_unpacked() {
    // A length of 64 MiB + 1, and nothing after it.
    let mut body = vec![0x81, 0x80, 0x80, 0x20];
    assert_eq!(
        snap::raw::decompress_len(&body).unwrap(),
        UNPACKED_MAX_BYTES + 1
    );
    let error = unpack(&body, Encoding::Snappy).unwrap_err();
    assert!(error.0.contains("too many"), "{error}");
    body[0] = 0x80;
    let error = unpack(&body, Encoding::Snappy).unwrap_err();
    assert!(!error.0.contains("too many"), "{error}");
}

#[test]
fn zstd_bodies_are_unpacked_up_to_the_same_limit() {
    let plain = vec![7; 100_000];
    let body = zstd::stream::encode_all(&*plain, 1).unwrap();
    assert_eq!(unpack(&body, Encoding::Zstd), Ok(plain));
    let bomb = zstd::stream::encode_all(&*vec![0; UNPACKED_MAX_BYTES + 1], 1).unwrap();
    assert!(unpack(&bomb, Encoding::Zstd).is_err());
}

#[test]
fn references_must_exist_and_come_in_pairs() {
    for refs in [vec![0, 9], vec![1]] {
        let series = rw2::TimeSeries {
            labels_refs: refs,
            ..rw2::TimeSeries::default()
        };
        let request = rw2::Request {
            symbols: vec![String::new()],
            timeseries: vec![series],
        }
        .encode_to_vec();
        for decoder in [Decoder::Prost, Decoder::Scan] {
            assert_eq!(seen(&request, Protocol::V2, decoder), None);
        }
    }
}
