//! Staleness markers of native histograms: float samples among histograms, as Prometheus sends them.

use std::collections::HashMap;
use std::time::Duration;

use prost::Message as _;
use sluicegate::units::Span;
use sluicegate::wire::pb::rw1;

use crate::capture::Capture;
use crate::harness::proxy;
use crate::requests::{Post, V1};

const STALE: u64 = 0x7ff0_0000_0000_0002;
const SERIES: u64 = 50;

fn labels(series: u64) -> Vec<rw1::Label> {
    let label = |name: &str, value: String| rw1::Label {
        name: name.to_owned(),
        value,
    };
    vec![
        label("__name__", "latency_seconds".to_owned()),
        label("instance", "a:1".to_owned()),
        label("path", format!("/{series:03}")),
    ]
}

/// One scrape of all series: histograms, or the markers that end them.
fn scrape(timestamp: i64, there: bool) -> Post {
    let histogram = rw1::Histogram {
        timestamp,
        count: Some(rw1::histogram::Count::CountInt(0)),
        zero_count: Some(rw1::histogram::ZeroCount::ZeroCountInt(0)),
        ..rw1::Histogram::default()
    };
    let marker = rw1::Sample {
        timestamp,
        value: f64::from_bits(STALE),
    };
    let series = |n| rw1::TimeSeries {
        labels: labels(n),
        samples: if there { vec![] } else { vec![marker] },
        histograms: if there {
            vec![histogram.clone()]
        } else {
            vec![]
        },
        ..rw1::TimeSeries::default()
    };
    let message = rw1::WriteRequest {
        timeseries: (0..SERIES).map(series).collect(),
        ..rw1::WriteRequest::default()
    };
    Post::new(V1, &message.encode_to_vec())
}

/// Prometheus as receiver turns the marker into a histogram behind all others of the request, and loses it
/// there.
#[tokio::test(flavor = "multi_thread")]
async fn no_histogram_follows_the_marker_of_its_series_in_one_request() {
    let receiver = Capture::start().await;
    let proxy = proxy(&[receiver.url()], |args| {
        args.ack = Some("memory".to_owned());
        args.queue.batch_send_deadline = Some(Span(Duration::from_millis(300)));
    })
    .await;
    // Gone after two scrapes, back for one, and gone again: all of it meets in the lanes.
    for (at, there) in [(1, true), (2, true), (3, false), (5, true), (6, false)] {
        let reply = scrape(at * 1_000, there).send(proxy.data).await;
        assert_eq!(reply.status, 204, "{reply:?}");
    }
    proxy.drained().await;
    let mut arrived: HashMap<Vec<rw1::Label>, Vec<i64>> = HashMap::new();
    let seen = receiver.seen();
    for request in &seen {
        let mut ended: HashMap<Vec<rw1::Label>, bool> = HashMap::new();
        for series in request.v1().timeseries {
            let times = arrived.entry(series.labels.clone()).or_default();
            let ended = ended.entry(series.labels).or_default();
            assert!(series.histograms.is_empty() || !*ended, "{times:?}");
            times.extend(series.samples.iter().map(|sample| sample.timestamp));
            times.extend(series.histograms.iter().map(|one| one.timestamp));
            *ended |= !series.samples.is_empty();
        }
    }
    assert_eq!(arrived.len() as u64, SERIES);
    for times in arrived.values() {
        assert_eq!(times, &[1_000, 2_000, 3_000, 5_000, 6_000]);
    }
    // The markers of all series part from what follows together, not each in a request of its own.
    assert!(seen.len() <= 5, "{} requests", seen.len());
    proxy.assert_sound();
    proxy.stop().await;
}
