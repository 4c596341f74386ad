//! Towards receivers of all kinds: which protocol they get, and what their answers do to the data.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use prost::Message as _;
use sluicegate::bench::Protocol;
use sluicegate::bench::data::DataOptions;
use sluicegate::bench::load::{self, LoadOptions, LoadReport, Stop};
use sluicegate::bench::sink::{
    Behaviour, Fail, Keep, Refuse, SeriesMatch, Sink, SinkHandle, SinkOptions, V2Support, When,
};
use sluicegate::cli::RunArgs;
use sluicegate::units::Span;
use sluicegate::wire::pb::rw2;
use tokio_util::sync::CancellationToken;

use crate::capture::{Capture, written};
use crate::harness::{Proxy, configured, proxy};
use crate::requests::{Post, V1, V2, many, v1, v2};

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

fn failing(status: u16) -> Behaviour {
    Behaviour {
        fail: vec![Fail {
            every: 1,
            status,
            when: When::BeforeStoring,
            retry_after_seconds: None,
        }],
        ..Behaviour::default()
    }
}

/// The longest that a batch waits for its next try with these flags, and a little for the machine.
const RESUMES: Duration = Duration::from_millis(200 * 6 * 11 / 10 + 3_000);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_fault_of_the_data_holds_it_until_the_receiver_heals() {
    let statuses = [301, 302, 307, 308, 401, 403, 404, 405, 407, 410];
    let all = statuses.map(|status| tokio::spawn(is_held_and_resumes(status)));
    for one in all {
        one.await.expect("held, and delivered");
    }
}

async fn is_held_and_resumes(status: u16) {
    let sink = Sink::start(SinkOptions {
        behaviour: failing(status),
        ..SinkOptions::default()
    })
    .unwrap();
    let proxy = proxy(&[sink.url()], memory).await;
    for number in 0..5 {
        let post = Post::new(V1, &v1(many(&format!("{status} {number}"), 20)));
        assert_eq!(post.send(proxy.data).await.status, 204);
    }
    // Long enough for the waits to have grown to their longest.
    let tried = sink.wait_until(RESUMES * 4, |stats| stats.requests >= 5);
    let before = tried.await.expect("it goes on trying");
    assert_eq!(before.samples, 0);
    assert_eq!(proxy.pending(), 100, "{status}: held: {}", proxy.books());
    let error = proxy.queues[0].last_error().expect("it is reported").1;
    assert!(error.contains(&status.to_string()), "{error}");
    let healed = Instant::now();
    sink.set_behaviour(Behaviour::default());
    proxy.drained().await;
    let took = healed.elapsed();
    assert!(took < RESUMES, "{status}: {took:?}");
    let after = sink.stats();
    assert_eq!((after.samples, after.duplicates), (100, 0), "{status}");
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_is_no_receiver() {
    let login = Arc::new(AtomicBool::new(true));
    let page = Arc::clone(&login);
    let receiver = Capture::scripted(move |seen, _| {
        if page.load(Ordering::Relaxed) {
            return (
                200,
                vec![("content-type", "Text/HTML; charset=utf-8".to_owned())],
            );
        }
        written(seen)
    })
    .await;
    let proxy = proxy(&[receiver.url()], memory).await;
    let post = Post::new(V1, &v1(many("page", 20)));
    assert_eq!(post.send(proxy.data).await.status, 204);
    proxy
        .until("it was tried", |_| receiver.seen().len() >= 2)
        .await;
    assert_eq!(proxy.pending(), 20);
    login.store(false, Ordering::Relaxed);
    proxy.drained().await;
    let delivered = proxy.metric("sluicegate_delivered_samples_total", &[]);
    assert_eq!(delivered as u64, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_fixed_to_2_0_that_does_not_know_it_gets_nothing_and_loses_nothing() {
    let data = data(Protocol::V1);
    let sink = verifying(&data, V2Support::Ignored);
    let proxy = proxy(&[sink.url()], |args| {
        memory(args);
        args.queue.protobuf_message = Some(ONLY_V2.to_owned());
    })
    .await;
    let post = Post::new(V1, &v1(many("fixed", 20)));
    assert_eq!(post.send(proxy.data).await.status, 204);
    let tried = sink.wait_until(RESUMES, |stats| stats.requests >= 2);
    tried.await.expect("it goes on trying");
    assert_eq!(proxy.pending(), 20, "{}", proxy.books());
    let error = proxy.queues[0].last_error().unwrap().1;
    assert!(error.contains("no Written headers"), "{error}");
    sink.set_behaviour(Behaviour::default());
    proxy.drained().await;
    assert_eq!(sink.stats().samples, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_leaves_its_batch_unconfirmed_and_is_not_repeated() {
    let sink = Sink::start(SinkOptions {
        behaviour: Behaviour {
            refuse: vec![Refuse {
                series: SeriesMatch::Label {
                    name: "instance".to_owned(),
                    value: "3".to_owned(),
                },
                status: 409,
                keep: Keep::Good,
            }],
            ..Behaviour::default()
        },
        ..SinkOptions::default()
    })
    .unwrap();
    let proxy = proxy(&[sink.url()], |_| ()).await;
    let post = Post::new(V1, &v1(many("conflict", 10)));
    assert_eq!(
        post.send(proxy.data).await.status,
        204,
        "not the sender's to mend"
    );
    let unconfirmed = proxy.metric("sluicegate_unconfirmed_samples_total", &[]);
    assert_eq!(unconfirmed as u64, 10);
    assert_eq!(proxy.pending(), 0);
    let fine = Post::new(V1, &v1(many("fine", 2))).send(proxy.data).await;
    assert_eq!(fine.status, 204);
    let stats = sink.stats();
    assert_eq!((stats.requests, stats.samples), (2, 11), "{stats:?}");
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_patience_gets_it_from_every_batch() {
    for status in [429, 503] {
        let receiver = Capture::scripted(move |seen, number| match number {
            0 => (status, vec![("retry-after", "2".to_owned())]),
            _ => written(seen),
        })
        .await;
        let proxy = proxy(&[receiver.url()], memory).await;
        let post = |mark| Post::new(V1, &v1(many(mark, 20)));
        assert_eq!(post("first").send(proxy.data).await.status, 204);
        proxy
            .until("the gate is closed", |proxy| {
                !receiver.seen().is_empty()
                    && proxy.metric("sluicegate_upstream_gate_open", &[]) == 0.0
            })
            .await;
        for mark in ["second", "third", "fourth"] {
            assert_eq!(post(mark).send(proxy.data).await.status, 204);
        }
        proxy.drained().await;
        let seen = receiver.seen();
        let waits: Vec<_> = seen[1..]
            .iter()
            .map(|seen_| seen_.at - seen[0].at)
            .collect();
        let two = Duration::from_millis(1_990);
        assert!(waits.iter().all(|wait| *wait >= two), "{status}: {waits:?}");
        let first = waits.iter().min().unwrap();
        assert!(*first < Duration::from_millis(4_500), "{status}: {waits:?}");
        let delivered = proxy.metric("sluicegate_delivered_samples_total", &[]);
        assert_eq!(delivered as u64, 80);
        proxy.assert_sound();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_rotated_is_read_again() {
    let receiver = Capture::scripted(|seen, _| {
        // Valid when it says "two", in whichever way it is shown.
        let shown = seen.header("authorization").unwrap_or_default();
        match shown {
            "Bearer two" | "Basic bWU6dHdv" => written(seen),
            _ => (401, Vec::new()),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    for auth in [
        format!("authorization: {{credentials_file: '{}'}}", file.display()),
        format!(
            "basic_auth: {{username: me, password_file: '{}'}}",
            file.display()
        ),
    ] {
        std::fs::write(&file, "one\n").unwrap();
        let yaml = format!("remote_write: [{{url: '{}', {auth}}}]", receiver.url());
        let proxy = configured(&yaml, memory).await;
        let before = receiver.seen().len();
        let post = Post::new(V1, &v1(many(&auth, 20)));
        assert_eq!(post.send(proxy.data).await.status, 204);
        proxy
            .until("it is refused", |_| receiver.seen().len() > before + 1)
            .await;
        assert_eq!(proxy.pending(), 20);
        let rotated = Instant::now();
        std::fs::write(&file, "two\n").unwrap();
        proxy.drained().await;
        let took = rotated.elapsed();
        // The file is looked at once a second.
        assert!(took < RESUMES + Duration::from_secs(1), "{took:?}");
        let delivered = proxy.metric("sluicegate_delivered_samples_total", &[]);
        assert_eq!(delivered as u64, 20);
    }
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
