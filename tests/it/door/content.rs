//! What a request may contain: it arrives as it came, and a bad series never costs a good one.

use prost::Message as _;
use sluicegate::wire::pb::{rw1, rw2};

use super::Door;
use crate::capture::Capture;
use crate::harness::{LIMIT, proxy};
use crate::requests::{Post, V1, V2, field, labels, many, sample_bits, series, v1, v2};

const STALE: u64 = 0x7ff0_0000_0000_0002;

#[tokio::test(flavor = "multi_thread")]
async fn a13_unknown_fields_are_no_reason_to_refuse() {
    let door = Door::open().await;
    let mut message = v1(many("a13", 1));
    // Field 2 (`source` of old Cortex) and field 1000, a group in it.
    message.extend_from_slice(&[0x10, 0x01]);
    message.extend_from_slice(&[0xc3, 0x3e, 0x08, 0x05, 0xc4, 0x3e]);
    let reply = Post::new(V1, &message).send(door.proxy.data).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    let mut message = v2(&many("a13 too", 1)).encode_to_vec();
    message.extend_from_slice(&[0xa2, 0x06, 0x03, 1, 2, 3]);
    let reply = Post::new(V2, &message).send(door.proxy.data).await;
    assert_eq!((reply.status, reply.written()), (204, Some([1, 0, 0])));
    assert_eq!(door.sink.stats().samples, 2);
}

/// Seven series: two good ones around five that are wrong each in its way, with two samples each.
fn mixed() -> Vec<(Vec<rw1::Label>, &'static str)> {
    let label = |name: &str, value: &str| rw1::Label {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let named = |others: Vec<rw1::Label>| [vec![label("__name__", "mixed")], others].concat();
    vec![
        (named(vec![label("n", "1")]), ""),
        (named(vec![label("", "x")]), "empty_label_name"),
        (
            named(vec![label("a", "1"), label("a", "2")]),
            "repeated_label_name",
        ),
        (vec![label("n", "3")], "no_metric_name"),
        (
            vec![label("__name__", ""), label("n", "4")],
            "no_metric_name",
        ),
        (named(vec![label("n", "\u{1}not utf8")]), "not_utf8"),
        (named(vec![label("n", "7")]), ""),
    ]
}

/// Makes the marked text invalid UTF-8, which prost would not write.
fn spoil(mut message: Vec<u8>) -> Vec<u8> {
    let marked = b"\x01not utf8";
    let place = message
        .windows(marked.len())
        .position(|window| window == marked)
        .expect("the mark is there");
    message[place] = 0xff;
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn a16_a17_bad_series_are_refused_by_themselves_and_counted_exactly() {
    for version in [V1, V2] {
        let door = Door::open().await;
        let samples = [(1_700_000_000_000, 1.0), (1_700_000_015_000, 2.0)];
        let rows = mixed();
        let all: Vec<_> = rows
            .iter()
            .map(|(labels, _)| series(labels.clone(), &samples))
            .collect();
        let message = if version == V1 {
            v1(all)
        } else {
            // 2.0 says an empty string is reference 0.
            v2(&all).encode_to_vec()
        };
        let post = Post::new(version, &spoil(message));
        let reply = post.send(door.proxy.data).await;
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(!reply.closes(), "{reply:?}");
        assert_eq!(reply.retry_after(), None);
        let says = "5 series refused; the first: a label with an empty name";
        assert!(reply.body.contains(says), "{reply:?}");
        let written = (version == V2).then_some([4, 0, 0]);
        assert_eq!(reply.written(), written, "two samples of two series");
        assert_eq!(door.sink.stats().samples, 4, "the good ones are delivered");
        assert_eq!(door.requests(400, "empty_label_name"), 1);
        for (reason, samples) in [
            ("empty_label_name", 2.0),
            ("repeated_label_name", 2.0),
            ("no_metric_name", 4.0),
            ("not_utf8", 2.0),
        ] {
            let labels = [&*format!("reason=\"{reason}\""), "kind=\"sample\""];
            let refused = door
                .proxy
                .metric("sluicegate_refused_samples_total", &labels);
            assert_eq!(refused, samples, "{reason}");
        }
        let received = door.proxy.metric("sluicegate_received_samples_total", &[]);
        assert_eq!(received, 4.0, "received counts what was admitted");
        door.proxy.assert_sound();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_nothing_but_bad_series_is_counted_too() {
    let door = Door::open().await;
    let nameless = labels("x", &[("n", "1")]).split_off(1);
    let bad = [series(nameless, &[(1, 1.0), (2, 1.0)])];
    let reply = Post::new(V2, &v2(&bad).encode_to_vec())
        .send(door.proxy.data)
        .await;
    assert_eq!((reply.status, reply.written()), (400, Some([0; 3])));
    let refused = door
        .proxy
        .metric("sluicegate_refused_samples_total", &["no_metric_name"]);
    assert_eq!(refused, 2.0);
    assert_eq!((door.sink.stats().requests, door.proxy.received()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_series_without_elements_and_a_broken_histogram_cost_only_themselves() {
    let door = Door::open().await;
    let mut request = v2(&many("elements", 2));
    let mut empty = request.timeseries[0].clone();
    empty.samples.clear();
    let mut broken = request.timeseries[0].clone();
    broken.samples.clear();
    broken.histograms.push(rw2::Histogram {
        // Nine observations in no bucket.
        count: Some(rw2::histogram::Count::CountInt(9)),
        zero_count: Some(rw2::histogram::ZeroCount::ZeroCountInt(1)),
        timestamp: 1,
        ..Default::default()
    });
    request.timeseries.extend([empty, broken]);
    let reply = Post::new(V2, &request.encode_to_vec())
        .send(door.proxy.data)
        .await;
    assert_eq!((reply.status, reply.written()), (400, Some([2, 0, 0])));
    assert!(
        reply
            .body
            .contains("neither sample, histogram nor exemplar")
    );
    let labels = ["invalid_histogram", "kind=\"histogram\""];
    let refused = door
        .proxy
        .metric("sluicegate_refused_samples_total", &labels);
    assert_eq!(refused, 1.0);
    assert_eq!(door.sink.stats().samples, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a19_a20_odd_floats_and_timestamps_arrive_bit_by_bit() {
    let receiver = Capture::start().await;
    let proxy = proxy(&[receiver.url()], |_| ()).await;
    let bits = [
        STALE,
        0x7ff0_0000_0000_0001,
        0xfff8_0000_dead_beef,
        (-0.0f64).to_bits(),
        0,
        1,
        f64::INFINITY.to_bits(),
        f64::NEG_INFINITY.to_bits(),
    ];
    let times = [i64::MIN, -1, 0, 1, 32_503_680_000_000, i64::MAX];
    let mut expected = Vec::new();
    let mut message = Vec::new();
    for (n, bits) in bits.iter().enumerate() {
        let time = times[n % times.len()];
        let number = n.to_string();
        let mut one = series(labels("odd", &[("n", &number)]), &[]).encode_to_vec();
        one.extend(field(2, &sample_bits(time, *bits)));
        message.extend(field(1, &one));
        expected.push((number, time, *bits));
    }
    let reply = Post::new(V1, &message).send(proxy.data).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    let mut got: Vec<_> = receiver
        .series_v1()
        .into_iter()
        .flat_map(|series| {
            let number = series.labels[1].value.clone();
            let of = move |s: rw1::Sample| (number.clone(), s.timestamp, s.value.to_bits());
            series.samples.into_iter().map(of)
        })
        .collect();
    got.sort();
    assert_eq!(got, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a21_the_order_within_a_request_stays_and_labels_are_sorted() {
    let receiver = Capture::start().await;
    let proxy = proxy(&[receiver.url()], |_| ()).await;
    let mut unsorted = labels("order", &[("z", "1"), ("a", "2")]);
    unsorted.rotate_left(1);
    let sorted = labels("order", &[("a", "2"), ("z", "1")]);
    let all = vec![
        series(unsorted.clone(), &[(30, 1.0), (20, 2.0)]),
        series(sorted.clone(), &[(10, 3.0)]),
        series(unsorted, &[(40, 4.0), (40, 5.0)]),
    ];
    let reply = Post::new(V1, &v1(all)).send(proxy.data).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    let got = receiver.series_v1();
    assert!(got.iter().all(|series| series.labels == sorted), "{got:?}");
    let times: Vec<_> = got
        .iter()
        .flat_map(|series| &series.samples)
        .map(|sample| (sample.timestamp, sample.value as i64))
        .collect();
    assert_eq!(times, [(30, 1), (20, 2), (10, 3), (40, 4), (40, 5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a22_metadata_alone_is_accepted_and_passed_on() {
    let door = Door::open().await;
    let request = rw1::WriteRequest {
        timeseries: Vec::new(),
        metadata: vec![rw1::MetricMetadata {
            r#type: 1,
            metric_family_name: "http_requests_total".to_owned(),
            help: "Requests.".to_owned(),
            unit: String::new(),
        }],
    };
    let post = Post::new(V1, &request.encode_to_vec());
    let reply = post.send(door.proxy.data).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    let received = door.proxy.metric("sluicegate_metadata_received_total", &[]);
    assert_eq!(received, 1.0);
    let sent = door.sink.wait_until(LIMIT, |stats| stats.metadata == 1);
    sent.await.expect("it is sent on change");
    assert_eq!(door.proxy.received(), 0, "it is outside the books");
    door.proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a23_empty_requests_are_accepted_and_not_forwarded() {
    let door = Door::open().await;
    let symbols_only = v2(&[]).encode_to_vec();
    for (what, post, written) in [
        ("no body", Post::raw(V1, Vec::new()), None),
        ("no series", Post::raw(V1, vec![0]), None),
        ("no body, 2.0", Post::raw(V2, Vec::new()), Some([0; 3])),
        ("no series, 2.0", Post::raw(V2, vec![0]), Some([0; 3])),
        ("symbols", Post::new(V2, &symbols_only), Some([0; 3])),
    ] {
        let reply = post.send(door.proxy.data).await;
        assert_eq!((reply.status, &*reply.body), (204, ""), "{what}");
        assert_eq!(reply.written(), written, "{what}");
    }
    assert_eq!(door.sink.stats().requests, 0);
    door.still_works_after_empty(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exemplars_may_come_without_a_sample() {
    let exemplar = rw1::Exemplar {
        labels: labels("t", &[("trace_id", "abc")]).split_off(1),
        value: 1.5,
        timestamp: 1_700_000_000_000,
    };
    let mut only = series(labels("exemplars", &[]), &[]);
    only.exemplars.push(exemplar);
    let door = Door::open().await;
    let reply = Post::new(V1, &v1(vec![only.clone()]))
        .send(door.proxy.data)
        .await;
    assert_eq!((reply.status, reply.written()), (204, None));
    let message = v2(&[only]).encode_to_vec();
    let reply = Post::new(V2, &message).send(door.proxy.data).await;
    assert_eq!((reply.status, reply.written()), (204, Some([0, 0, 1])));
    assert_eq!(door.sink.stats().exemplars, 2);
}
