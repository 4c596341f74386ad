//! The engine under load: real sockets, a generator that sends like Prometheus, a receiver that counts,
//! checks every bit and misbehaves on demand.
//!
//! The short form, for every commit, has a tenth of the load; `SLUICEGATE_LONG=1` has all of it, and wants
//! `--release`.

use std::time::{Duration, Instant};

use sluicegate::bench::Protocol;
use sluicegate::bench::data::{DataOptions, Profile};
use sluicegate::bench::load::{self, LoadOptions, LoadReport, Speed, Stop};
use sluicegate::bench::sink::{
    Behaviour, Delay, Down, Fail, Hang, SeriesMatch, Sink, SinkHandle, SinkOptions, When,
};
use sluicegate::cli::RunArgs;
use sluicegate::queue::grouping::{Grouping, LaneRules, SpreadRule};
use sluicegate::units::{ByteSize, Span};
use tokio_util::sync::CancellationToken;

use crate::harness::{LIMIT, Proxy, proxy};

fn long() -> bool {
    std::env::var_os("SLUICEGATE_LONG").is_some()
}

/// 41k series of 50 nodes, or a tenth of them.
fn data() -> DataOptions {
    DataOptions {
        profile: Profile::Kubernetes,
        nodes: if long() { 50 } else { 5 },
        ..DataOptions::default()
    }
}

fn sink(data: &DataOptions, behaviour: Behaviour) -> SinkHandle {
    let options = SinkOptions {
        verify: Some(data.clone()),
        behaviour,
        ..SinkOptions::default()
    };
    Sink::start(options).expect("the sink listens")
}

fn load_of(proxy: &Proxy, data: &DataOptions, scrapes: u32) -> LoadOptions {
    LoadOptions {
        url: proxy.url(),
        data: data.clone(),
        protocol: Protocol::V1,
        senders: 8,
        speed: Speed::Full,
        stop: Stop {
            scrapes: Some(scrapes),
            ..Stop::default()
        },
        ..LoadOptions::default()
    }
}

async fn send(options: LoadOptions) -> LoadReport {
    load::run(options, CancellationToken::new())
        .await
        .expect("the load runs")
}

/// The flags of the issue: many permits, batches of 1000.
fn many_shards(args: &mut RunArgs) {
    args.ack = Some("memory".to_owned());
    args.queue.min_shards = Some(50);
    args.queue.max_shards = Some(100);
    args.queue.max_samples_per_send = Some(1000);
    args.queue.capacity = Some(5000);
    args.queue.batch_send_deadline = Some(Span(Duration::from_millis(500)));
}

/// Slow, and refusing now and then.
fn slow_and_failing() -> Behaviour {
    Behaviour {
        delay: Some(Delay {
            base: Duration::from_millis(100),
            jitter: Duration::ZERO,
            when: When::BeforeStoring,
        }),
        fail: vec![Fail {
            every: 7,
            status: 503,
            when: When::BeforeStoring,
            retry_after_seconds: None,
        }],
        ..Behaviour::default()
    }
}

fn assert_exact(sink: &SinkHandle, report: &LoadReport) {
    let comparison = sink.missing(report);
    assert!(comparison.is_exact(), "{comparison:?}\n{:?}", sink.stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_once_and_in_order_however_many_shards_send() {
    let data = data();
    let sink = sink(&data, slow_and_failing());
    let proxy = proxy(&[sink.url()], many_shards).await;
    let began = Instant::now();
    let report = send(load_of(&proxy, &data, 50)).await;
    proxy.drained().await;
    let took = began.elapsed();
    assert_exact(&sink, &report);
    proxy.assert_sound();
    let stats = sink.stats();
    // What 50 permits and the latency allow, a seventh of the requests for nothing; times three.
    let requests = report.summary.samples.acknowledged.div_ceil(1000) * 7 / 6;
    let allowed = Duration::from_millis(100 * requests.div_ceil(50));
    println!("{took:?} for {requests} requests of 1000, ideal {allowed:?}; {stats:?}");
    if long() {
        assert!(
            took < 3 * allowed + Duration::from_secs(1),
            "{took:?} against {allowed:?}"
        );
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moving_the_number_of_shards_five_times_a_second_changes_nothing() {
    let data = data();
    let sink = sink(&data, slow_and_failing());
    let proxy = proxy(&[sink.url()], many_shards).await;
    let sending = tokio::spawn(send(load_of(&proxy, &data, 50)));
    let mut ticks = tokio::time::interval(Duration::from_millis(200));
    let mut few = false;
    while !(sending.is_finished() && proxy.queues[0].is_idle()) {
        ticks.tick().await;
        few = !few;
        proxy.queues[0].set_shards(if few { 1 } else { 100 });
        proxy.assert_sound();
    }
    let report = sending.await.unwrap();
    assert_exact(&sink, &report);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lane_rules_that_change_under_load_lose_nothing_and_keep_order() {
    let data = data();
    let sink = sink(&data, slow_and_failing());
    let proxy = proxy(&[sink.url()], many_shards).await;
    let sending = tokio::spawn(send(load_of(&proxy, &data, 50)));
    let rules = |grouping, separate_by: &[&str], spread: &[&str]| LaneRules {
        grouping,
        separate_by: separate_by.iter().map(|s| (*s).to_owned()).collect(),
        spread: spread
            .iter()
            .map(|by| SpreadRule {
                job: "*".to_owned(),
                by: vec![(*by).to_owned()],
            })
            .collect(),
    };
    let variants = [
        rules(Grouping::Target, &["job"], &[]),
        rules(Grouping::Arrival, &[], &["__name__"]),
        rules(Grouping::Target, &["cluster"], &["pod", "device"]),
    ];
    let mut ticks = tokio::time::interval(Duration::from_millis(150));
    for round in 0..10 {
        ticks.tick().await;
        proxy.queues[0].set_lane_rules(variants[round % variants.len()].clone());
        proxy.assert_sound();
    }
    let report = sending.await.unwrap();
    proxy.drained().await;
    assert_exact(&sink, &report);
    proxy.assert_sound();
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_whose_requests_hang_delays_nobody_else() {
    let data = data();
    let sink = sink(&data, hanging(&data));
    let proxy = proxy(&[sink.url()], |args| {
        many_shards(args);
        args.queue.remote_timeout = Some(Span(Duration::from_secs(300)));
    })
    .await;
    let report = send(load_of(&proxy, &data, 100)).await;
    // Everything has been read and sent, but for the lanes that hang with that one request.
    proxy
        .until("only what hangs is left", |proxy| {
            let snapshot = proxy.queues[0].snapshot();
            let pending = snapshot.books.pending;
            // A request for each job of that instance hangs, and no other.
            let all_locked = snapshot.gauges.lanes == snapshot.gauges.locked;
            pending.unread.is_zero() && all_locked && snapshot.gauges.busy <= 4
        })
        .await;
    let gauges = proxy.queues[0].snapshot().gauges;
    let (stored, sent) = (sink.stats().samples, report.summary.samples.acknowledged);
    println!(
        "{stored} of {sent} stored while {} lanes hang",
        gauges.locked
    );
    // What shares a hanging request hangs with it: of few nodes that is much, of many less.
    let least = if long() { 0.7 } else { 0.3 };
    assert!(
        stored as f64 > least * sent as f64,
        "{stored} of {sent} while one target hangs"
    );
    // Nothing is decoded for a lane that cannot take it. (A record that the lead comes to long after it came
    // in is decoded a second time, hanging requests or not: the memory for decoded forms is bounded.)
    let (laggard, lead) = decoded_again(&proxy);
    let requests = proxy.metric("sluicegate_requests_total", &["204"]);
    println!("of {requests} requests {lead} were decoded again by the lead, {laggard} for lanes");
    assert!(laggard < 0.05 * requests && lead <= requests);
    if long() {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((laggard, lead), decoded_again(&proxy));
    }
    sink.set_behaviour(Behaviour::default());
    proxy.drained().await;
    assert_exact(&sink, &report);
    proxy.assert_sound();
    proxy.stop().await;
}

/// Records decoded a second time: for parked lanes, and by the lead.
fn decoded_again(proxy: &Proxy) -> (f64, f64) {
    let by = |by: &str| proxy.metric("sluicegate_decoded_records_total", &[by]);
    (by("laggard"), by("lead"))
}

/// Requests with anything of the first target hang.
fn hanging(data: &DataOptions) -> Behaviour {
    let hang = Hang {
        series: Some(SeriesMatch::Label {
            name: "instance".to_owned(),
            value: first_instance(data),
        }),
        time: None,
        when: When::BeforeStoring,
    };
    Behaviour {
        hang: Some(hang),
        ..Behaviour::default()
    }
}

/// The everyday load, in which a queue keeps up: what arrives while a target hangs is as fresh as ever, and
/// nothing is decoded twice.
#[tokio::test(flavor = "multi_thread")]
async fn while_a_target_hangs_what_shares_no_request_with_it_arrives_as_fresh_as_ever() {
    let data = DataOptions {
        interval: Duration::from_secs(if long() { 15 } else { 2 }),
        ..data()
    };
    let mut ages = Vec::new();
    for behaviour in [Behaviour::default(), hanging(&data)] {
        let sink = sink(&data, behaviour);
        let proxy = proxy(&[sink.url()], |args| {
            many_shards(args);
            args.queue.remote_timeout = Some(Span(Duration::from_secs(300)));
            if !long() {
                // A tenth of the nodes, a tenth of the batch: as many lanes share a request.
                args.queue.max_samples_per_send = Some(100);
            }
        })
        .await;
        let options = LoadOptions {
            speed: Speed::Realtime,
            stop: Stop {
                duration: Some(Duration::from_secs(if long() { 60 } else { 6 })),
                ..Stop::default()
            },
            ..load_of(&proxy, &data, 0)
        };
        let report = send(LoadOptions {
            stop: Stop {
                scrapes: None,
                ..options.stop
            },
            ..options
        })
        .await;
        proxy
            .until("only what hangs is left", |proxy| {
                let gauges = proxy.queues[0].snapshot().gauges;
                gauges.lanes == gauges.locked && gauges.busy <= 8
            })
            .await;
        let (arrived, locked) = (sink.stats(), proxy.queues[0].snapshot().gauges.locked);
        let sent = report.summary.samples.acknowledged;
        let (stored, age) = (arrived.samples, &arrived.age_ms);
        println!("{stored} of {sent} stored, {locked} lanes hang; age in ms: {age}");
        assert_eq!(decoded_again(&proxy), (0.0, 0.0), "decoded twice");
        assert!(stored as f64 > 0.5 * sent as f64, "{stored} of {sent}");
        ages.push(age.p99);
        sink.set_behaviour(Behaviour::default());
        proxy.drained().await;
        assert_exact(&sink, &report);
        proxy.assert_sound();
        proxy.stop().await;
    }
    // A loaded machine makes everything older, now and then; what waits for a hanging request waits for good.
    assert!(
        ages[1] < 3 * ages[0] + 2000,
        "p99 in ms, calm and hanging: {ages:?}"
    );
}

fn first_instance(data: &DataOptions) -> String {
    let set = sluicegate::bench::data::DataSet::new(data, 0);
    let item = sluicegate::bench::data::Item {
        slot: 0,
        scrape: 0,
        what: sluicegate::bench::data::What::Sample,
    };
    let labels = set.labels(item);
    let instance = labels.iter().find(|(name, _)| *name == "instance");
    instance
        .expect("every series has an instance")
        .1
        .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_receiver_costs_a_full_log_and_nothing_else() {
    let data = data();
    let behaviour = Behaviour {
        down: Some(Down::Refused),
        ..Behaviour::default()
    };
    let sink = sink(&data, behaviour);
    let proxy = proxy(&[sink.url()], |args| {
        many_shards(args);
        args.memory_limit = Some(ByteSize(48 << 20));
    })
    .await;
    let options = LoadOptions {
        attempts_max: Some(2),
        flush_deadline: Duration::from_secs(1),
        stop: Stop::default(),
        ..load_of(&proxy, &data, 0)
    };
    let enough = CancellationToken::new();
    let sending = tokio::spawn(load::run(options, enough.clone()));
    proxy
        .until("a full log answers 503", |proxy| {
            proxy.metric("sluicegate_requests_total", &["503", "queue_full"]) > 0.0
        })
        .await;
    proxy.assert_sound();
    enough.cancel();
    let report = sending.await.unwrap().expect("the load runs");
    for part in ["log", "lanes", "series", "runs", "handoff"] {
        let bytes = proxy.metric(
            "sluicegate_memory_reserved_bytes",
            &[&format!("\"{part}\"")],
        );
        println!("{part}: {bytes}");
    }
    sink.set_behaviour(Behaviour::default());
    proxy.drained().await;
    let comparison = sink.missing(&report);
    assert!(comparison.is_sound(), "{comparison:?}");
    assert_eq!(
        comparison.missing, 0,
        "everything admitted is delivered afterwards"
    );
    proxy.assert_sound();
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_upstream_mode_an_answer_means_that_the_receiver_has_it() {
    let data = data();
    let sink = sink(&data, slow_and_failing());
    let proxy = proxy(&[sink.url()], |args| {
        many_shards(args);
        args.ack = None;
    })
    .await;
    let report = send(load_of(&proxy, &data, 5)).await;
    // Nothing to wait for: what was acknowledged is there.
    assert_exact(&sink, &report);
    assert_eq!(proxy.metric("sluicegate_at_risk_samples", &[]), 0.0);
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_travel_as_they_came_with_all_that_they_carry() {
    for protocol in [Protocol::V1, Protocol::V2] {
        let data = DataOptions {
            nodes: 1,
            weird: true,
            histograms: true,
            exemplars: true,
            metadata: true,
            start_timestamps: protocol == Protocol::V2,
            ..DataOptions::default()
        };
        let sink = sink(&data, Behaviour::default());
        let proxy = proxy(&[sink.url()], |args| {
            args.queue.batch_send_deadline = Some(Span(Duration::from_millis(100)));
        })
        .await;
        let report = send(LoadOptions {
            protocol,
            ..load_of(&proxy, &data, 4)
        })
        .await;
        proxy.drained().await;
        assert_exact(&sink, &report);
        let stats = sink.stats();
        assert!(
            stats.histograms > 0 && stats.exemplars > 0,
            "{protocol:?}: {stats:?}"
        );
        proxy.assert_sound();
        let version = if protocol == Protocol::V2 { 1.0 } else { -1.0 };
        assert_eq!(
            proxy.metric("sluicegate_upstream_protocol_v2", &[]),
            version
        );
        proxy.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_delivers_what_is_pending() {
    let data = data();
    let sink = sink(&data, slow_and_failing());
    let proxy = proxy(&[sink.url()], |args| {
        many_shards(args);
        args.queue.batch_send_deadline = Some(Span(Duration::from_secs(3600)));
    })
    .await;
    let report = send(load_of(&proxy, &data, 3)).await;
    let stopped = tokio::time::timeout(LIMIT, proxy.stop())
        .await
        .expect("it stops");
    assert_eq!((stopped.pending, stopped.lost), (0, 0));
    assert_exact(&sink, &report);
}
