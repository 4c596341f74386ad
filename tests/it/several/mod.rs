//! Towards receivers of all kinds: which protocol they get, and what their answers do to the data.

mod answers;

use std::time::Duration;

use prost::Message as _;
use sluicegate::bench::Protocol;
use sluicegate::bench::data::DataOptions;
use sluicegate::bench::load::{self, LoadOptions, LoadReport, Stop};
use sluicegate::bench::sink::{Behaviour, Sink, SinkHandle, SinkOptions, V2Support};
use sluicegate::cli::RunArgs;
use sluicegate::units::Span;
use sluicegate::wire::pb::rw2;
use tokio_util::sync::CancellationToken;

use crate::capture::Capture;
use crate::harness::{Proxy, proxy};
use crate::requests::{Post, V2, many, v2};

const ONLY_V1: &str = "prometheus.WriteRequest";
const ONLY_V2: &str = "io.prometheus.write.v2.Request";

fn data(protocol: Protocol) -> DataOptions {
    DataOptions {
        nodes: 1,
        weird: true,
        histograms: true,
        exemplars: true,
        metadata: true,
        start_timestamps: protocol == Protocol::V2,
        ..DataOptions::default()
    }
}

fn verifying(data: &DataOptions, v2: V2Support) -> SinkHandle {
    let options = SinkOptions {
        verify: Some(data.clone()),
        behaviour: Behaviour {
            v2,
            ..Behaviour::default()
        },
        ..SinkOptions::default()
    };
    Sink::start(options).expect("the sink listens")
}

async fn load(proxy: &Proxy, data: &DataOptions, protocol: Protocol) -> LoadReport {
    let options = LoadOptions {
        url: proxy.url(),
        data: data.clone(),
        protocol,
        senders: 4,
        stop: Stop {
            scrapes: Some(2),
            ..Stop::default()
        },
        ..LoadOptions::default()
    };
    load::run(options, CancellationToken::new())
        .await
        .expect("the load runs")
}

fn memory(args: &mut RunArgs) {
    args.ack = Some("memory".to_owned());
    args.queue.min_shards = Some(4);
    args.queue.max_backoff = Some(Span(Duration::from_millis(200)));
    args.queue.batch_send_deadline = Some(Span(Duration::from_millis(100)));
}

fn dropped(proxy: &Proxy, reason: &str) -> u64 {
    let labels = [format!("reason=\"{reason}\"")];
    proxy.metric("sluicegate_dropped_samples_total", &[&labels[0]]) as u64
}

fn is_delivered_once(proxy: &Proxy, sink: &SinkHandle, report: &LoadReport, what: &str) {
    let comparison = sink.missing(report);
    assert!(
        comparison.is_sound() || comparison.missing > 0,
        "{what}: {comparison}"
    );
    let lost = dropped(proxy, "unrepresentable");
    assert_eq!(comparison.missing, lost, "{what}: {comparison}");
    assert_eq!(comparison.duplicates, 0, "{what}: {comparison}");
    assert_eq!(comparison.order_violations, 0, "{what}: {comparison}");
    assert_eq!((comparison.wrong, comparison.never_sent), (0, 0), "{what}");
    assert!(
        sink.stats().violations.is_empty(),
        "{what}: {}",
        sink.stats()
    );
    let all = proxy.metric("sluicegate_dropped_samples_total", &[]) as u64;
    assert_eq!(all, lost, "{what}: {}", proxy.books());
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_in_and_whatever_the_receiver_knows_everything_arrives_once() {
    use V2Support::{Ignored, Stored, Unsupported};
    for support in [Stored, Unsupported, Ignored] {
        let mut all = Vec::new();
        for came_as in [Protocol::V1, Protocol::V2] {
            for mode in ["as_received", "auto", ONLY_V1, ONLY_V2] {
                if mode != ONLY_V2 || support == Stored {
                    all.push(tokio::spawn(arrives_once(came_as, mode, support)));
                }
            }
        }
        for one in all {
            one.await.expect("everything arrives");
        }
    }
}

async fn arrives_once(came_as: Protocol, mode: &'static str, support: V2Support) {
    let what = format!("{came_as:?} sent as {mode}, 2.0 {support:?}");
    let data = data(came_as);
    let sink = verifying(&data, support);
    let proxy = proxy(&[sink.url()], |args| {
        memory(args);
        args.queue.protobuf_message = Some(mode.to_owned());
    })
    .await;
    let report = load(&proxy, &data, came_as).await;
    proxy.drained().await;
    is_delivered_once(&proxy, &sink, &report, &what);
    // What 1.0 cannot carry is lost, and only where 1.0 is spoken.
    let (knows_v2, came_as_v2) = (support == V2Support::Stored, came_as == Protocol::V2);
    let goes_as_v1 = !knows_v2 || mode == ONLY_V1;
    assert_eq!(
        dropped(&proxy, "unrepresentable") > 0,
        came_as_v2 && goes_as_v1,
        "{what}"
    );
    let asked = match mode {
        "as_received" => came_as_v2,
        ONLY_V1 => false,
        _ => true,
    };
    let known = match (asked, knows_v2) {
        (true, true) => 1.0,
        (true, false) => 0.0,
        (false, _) => -1.0,
    };
    let told = proxy.metric("sluicegate_upstream_protocol_v2", &[]);
    assert_eq!(told, known, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_buckets_towards_a_1_0_receiver_are_counted_and_cost_nothing_else() {
    let receiver = Capture::start().await;
    let proxy = proxy(&[receiver.url()], |args| {
        args.queue.protobuf_message = Some(ONLY_V1.to_owned());
    })
    .await;
    let mut request = v2(&many("custom", 3));
    let custom = rw2::Histogram {
        schema: -53,
        sum: 3.0,
        timestamp: 1_700_000_000_000,
        custom_values: vec![1.0, 2.0],
        positive_spans: vec![rw2::BucketSpan {
            offset: 0,
            length: 2,
        }],
        positive_deltas: vec![1, 0],
        count: Some(rw2::histogram::Count::CountInt(2)),
        ..Default::default()
    };
    let mut series = request.timeseries[0].clone();
    series.samples.clear();
    series.histograms.push(custom.clone());
    request.timeseries.push(series);
    let reply = Post::new(V2, &request.encode_to_vec())
        .send(proxy.data)
        .await;
    assert_eq!(reply.status, 204, "{reply:?}");
    assert_eq!(dropped(&proxy, "unrepresentable"), 1);
    assert_eq!(receiver.series_v1().len(), 3);

    // Nothing but such histograms: nothing is sent at all.
    let before = receiver.seen().len();
    let only = rw2::Request {
        symbols: request.symbols,
        timeseries: request.timeseries.split_off(3),
    };
    let reply = Post::new(V2, &only.encode_to_vec()).send(proxy.data).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    assert_eq!(dropped(&proxy, "unrepresentable"), 2);
    assert_eq!(receiver.seen().len(), before);
    proxy.assert_sound();
}
