//! The load generator and the counting receiver against each other, over real sockets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use sluicegate::bench::Protocol;
use sluicegate::bench::compare::{Comparison, compare};
use sluicegate::bench::data::{Churn, DataOptions, Profile};
use sluicegate::bench::load::{self, Load, LoadOptions, LoadReport, Speed, Stop};
use sluicegate::bench::sink::{
    Behaviour, Decoder, Delay, Down, Fail, Hang, Keep, RateLimit, Refuse, SeriesMatch, Sink,
    SinkHandle, SinkLedger, SinkOptions, SinkStats, V2Support, When,
};
use sluicegate::wire::pb::rw1;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const BOTH: [Protocol; 2] = [Protocol::V1, Protocol::V2];

/// No test waits for longer; a healthy one is done in a small part of it.
const LIMIT: Duration = Duration::from_secs(60);

fn data() -> DataOptions {
    DataOptions {
        nodes: 1,
        weird: true,
        ..DataOptions::default()
    }
}

/// A sink that checks every bit.
fn sink(behaviour: Behaviour) -> SinkHandle {
    let options = SinkOptions {
        verify: Some(data()),
        behaviour,
        ..SinkOptions::default()
    };
    Sink::start(options).expect("a free port")
}

fn options(sink: &SinkHandle, protocol: Protocol) -> LoadOptions {
    LoadOptions {
        url: sink.url(),
        data: data(),
        protocol,
        senders: 4,
        max_samples_per_send: 100,
        stop: Stop {
            scrapes: Some(3),
            ..Stop::default()
        },
        ..LoadOptions::default()
    }
}

async fn run(options: LoadOptions) -> LoadReport {
    let report = load::run(options, CancellationToken::new()).await;
    report.expect("the URL and headers are valid")
}

/// The comparison, once it is known that it may be judged.
fn checked(sink: &SinkHandle, report: &LoadReport) -> Comparison {
    let found = sink.missing(report);
    assert!(found.is_sound(), "{found}\n{}", sink.stats());
    found
}

async fn until(sink: &SinkHandle, are: impl FnMut(&SinkStats) -> bool) -> SinkStats {
    let reached = sink.wait_until(LIMIT, are).await;
    reached.unwrap_or_else(|stats| panic!("waited in vain: {stats}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_was_sent_arrives_once_and_right() {
    for protocol in BOTH {
        for decoder in [Decoder::Prost, Decoder::Scan] {
            let data = DataOptions {
                churn: Some(Churn {
                    share: 0.3,
                    every_scrapes: 2,
                }),
                histograms: true,
                exemplars: true,
                metadata: true,
                start_timestamps: true,
                ..data()
            };
            let sink = Sink::start(SinkOptions {
                decoder,
                verify: Some(data.clone()),
                ..SinkOptions::default()
            })
            .unwrap();
            let report = run(LoadOptions {
                data,
                ..options(&sink, protocol)
            })
            .await;
            let (sent, stats) = (&report.summary, sink.stats());
            let found = checked(&sink, &report);
            assert!(found.is_exact(), "{found}");
            assert_eq!(sent.samples.acknowledged, stats.samples + stats.histograms);
            assert_eq!(sent.samples.acknowledged, found.acknowledged);
            assert!(found.acknowledged > 3 * report.data.slots() as u64 - 30);
            assert_eq!(sent.exemplars.acknowledged, stats.exemplars);
            assert!(stats.exemplars > 0 && stats.histograms > 0 && stats.metadata > 0);
            assert_eq!(stats.with_start_timestamp > 0, protocol == Protocol::V2);
            assert_eq!(stats.wrong_start_timestamps, 0);
            assert_eq!(
                sent.unrepresentable > 0,
                protocol == Protocol::V1,
                "custom buckets"
            );
            assert!(stats.violations.is_empty(), "{stats}");
            assert_eq!(
                (
                    sent.unwritten_requests,
                    sent.miscounted_requests,
                    sent.retries
                ),
                (0, 0, 0)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_before_storing_are_repeated_without_duplicates_and_after_storing_with() {
    for protocol in BOTH {
        for when in [When::BeforeStoring, When::AfterStoring] {
            let fail = Fail {
                every: 7,
                status: 503,
                when,
                retry_after_seconds: None,
            };
            let sink = sink(Behaviour {
                fail: vec![fail],
                ..Behaviour::default()
            });
            let report = run(options(&sink, protocol)).await;
            let found = checked(&sink, &report);
            assert_eq!(report.summary.samples.acknowledged, found.acknowledged);
            assert!(report.summary.retries > 0);
            assert_eq!(
                report.summary.statuses[&503],
                sink.stats().statuses[&503],
                "both count the same answers"
            );
            assert_eq!(found.is_exact(), when == When::BeforeStoring, "{found}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_holds_the_requests_of_one_target_until_it_is_released() {
    let held = SeriesMatch::Label {
        name: "instance".to_owned(),
        value: "10.32.0.0:9100".to_owned(),
    };
    let hang = Hang {
        series: Some(held),
        time: None,
        when: When::BeforeStoring,
    };
    let sink = sink(Behaviour {
        hang: Some(hang),
        ..Behaviour::default()
    });
    let running = tokio::spawn(run(options(&sink, Protocol::V1)));
    // Each of the four shards comes to that target.
    let stats = until(&sink, |stats| stats.hanging == 4).await;
    assert_eq!(stats.in_flight, 4);
    sink.set_behaviour(Behaviour::default());
    let report = running.await.unwrap();
    assert!(checked(&sink, &report).is_exact());
    assert_eq!(report.summary.retries, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hang_with_a_time_ends_by_itself_and_may_store_first() {
    let hang = Hang {
        series: None,
        time: Some(Duration::from_millis(5)),
        when: When::AfterStoring,
    };
    let sink = sink(Behaviour {
        hang: Some(hang),
        ..Behaviour::default()
    });
    let report = run(options(&sink, Protocol::V2)).await;
    assert!(checked(&sink, &report).is_exact());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_comes_back_gets_everything() {
    for down in [Down::Refused, Down::Silent] {
        let sink = sink(Behaviour::default());
        let load = Load::new(LoadOptions {
            stop: Stop {
                scrapes: Some(30),
                ..Stop::default()
            },
            ..options(&sink, Protocol::V1)
        })
        .unwrap();
        let progress = load.progress();
        let running = tokio::spawn(load.run(CancellationToken::new()));
        until(&sink, |stats| stats.samples > 1_000).await;
        sink.set_behaviour(Behaviour {
            down: Some(down),
            ..Behaviour::default()
        });
        let failing = async {
            while progress.summary().network_errors < 8 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(LIMIT, failing).await.unwrap();
        let before = sink.stats().samples;
        sink.set_behaviour(Behaviour::default());
        let report = running.await.unwrap();
        assert!(sink.stats().samples > before, "{down:?}");
        let found = checked(&sink, &report);
        assert_eq!(found.acknowledged, report.summary.samples.acknowledged);
        assert_eq!(report.summary.samples.indeterminate, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_down_from_the_start_refuses_connections_and_can_open() {
    let sink = sink(Behaviour {
        down: Some(Down::Refused),
        ..Behaviour::default()
    });
    let report = run(LoadOptions {
        attempts_max: Some(1),
        ..options(&sink, Protocol::V1)
    })
    .await;
    assert_eq!(sink.stats().requests, 0);
    assert!(report.summary.samples.indeterminate > 0 && report.summary.statuses.is_empty());
    sink.set_behaviour(Behaviour::default());
    let report = run(options(&sink, Protocol::V1)).await;
    assert_eq!(sink.missing(&report).missing, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_load_knows_what_it_does_not_know() {
    let hang = Hang {
        series: None,
        time: None,
        when: When::AfterStoring,
    };
    let sink = sink(Behaviour {
        hang: Some(hang),
        ..Behaviour::default()
    });
    let cancel = CancellationToken::new();
    let running = tokio::spawn(load::run(options(&sink, Protocol::V1), cancel.clone()));
    until(&sink, |stats| stats.hanging == 4).await;
    cancel.cancel();
    let report = running.await.unwrap().unwrap();
    let found = checked(&sink, &report);
    assert_eq!((found.acknowledged, found.indeterminate_stored), (0, 400));
    assert_eq!(report.summary.samples.indeterminate, 400);
    let stats = until(&sink, |stats| stats.in_flight == 0).await;
    assert_eq!((stats.unanswered, stats.hanging), (4, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_cost_what_the_receiver_says_they_cost() {
    let series = SeriesMatch::PerMillion {
        seed: 1,
        series: 4_000,
    };
    for (protocol, status, keep, others_kept) in [
        (Protocol::V1, 400, Keep::AsPrometheus, false),
        (Protocol::V2, 400, Keep::AsPrometheus, true),
        (Protocol::V1, 409, Keep::Good, true),
    ] {
        let refuse = Refuse {
            series: series.clone(),
            status,
            keep,
        };
        let sink = sink(Behaviour {
            refuse: vec![refuse],
            ..Behaviour::default()
        });
        let report = run(options(&sink, protocol)).await;
        let found = checked(&sink, &report);
        let refused = report.summary.samples.refused;
        assert!(refused > sink.stats().refused && sink.stats().refused > 0);
        assert_eq!(
            found.refused_stored,
            if others_kept {
                refused - sink.stats().refused
            } else {
                0
            }
        );
        assert_eq!(report.summary.retries, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_rules_accept_a_prometheus_and_refuse_its_past() {
    let sink = sink(Behaviour {
        prometheus_rules: true,
        ..Behaviour::default()
    });
    let now = DataOptions {
        start_ms: Some(1_750_000_000_000),
        ..data()
    };
    let options = LoadOptions {
        data: now,
        ..options(&sink, Protocol::V1)
    };
    let report = run(options.clone()).await;
    assert!(checked(&sink, &report).is_exact());
    let again = run(options).await;
    assert_eq!(again.summary.statuses.keys().copied().min(), Some(204));
    assert!(
        again.summary.statuses[&400] > 0,
        "older samples are out of order"
    );
    assert_eq!(sink.stats().order_violations, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_without_2_0_is_not_believed() {
    for (v2, status) in [(V2Support::Unsupported, 415), (V2Support::Ignored, 204)] {
        let sink = sink(Behaviour {
            v2,
            ..Behaviour::default()
        });
        let report = run(options(&sink, Protocol::V2)).await;
        assert_eq!(
            report.summary.statuses.keys().copied().collect::<Vec<_>>(),
            [status]
        );
        assert_eq!(report.summary.samples.acknowledged, 0);
        let unwritten = if status == 204 {
            report.summary.requests
        } else {
            0
        };
        assert_eq!(report.summary.unwritten_requests, unwritten);
        assert_eq!(sink.stats().samples, 0);
        let report = run(options(&sink, Protocol::V1)).await;
        assert!(checked(&sink, &report).is_exact());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_stores_2_0_and_does_not_say_so_is_not_believed_either() {
    let sink = sink(Behaviour {
        v2: V2Support::Silent,
        ..Behaviour::default()
    });
    let report = run(options(&sink, Protocol::V2)).await;
    let summary = &report.summary;
    assert_eq!(summary.unwritten_requests, summary.requests);
    assert_eq!(summary.samples.acknowledged, 0);
    let found = checked(&sink, &report);
    assert_eq!(found.refused_stored, summary.samples.refused);
    // A 1.0 sender expects no such headers.
    let report = run(options(&sink, Protocol::V1)).await;
    assert_eq!(report.summary.samples.refused, 0);
}

/// What a running sink answers when it is asked for its numbers.
async fn numbers(sink: &SinkHandle) -> serde_json::Value {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
    let url = format!("http://{}/stats", sink.addr());
    let answer = client.get(url.parse().unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_tells_its_numbers_while_it_runs_without_counting_the_question() {
    let sink = sink(Behaviour::default());
    assert_eq!(numbers(&sink).await["first_stored_ms"], 0);
    let report = run(options(&sink, Protocol::V1)).await;
    let (told, stats) = (numbers(&sink).await, sink.stats());
    assert_eq!(told["samples"], report.summary.samples.acknowledged);
    assert_eq!(told["requests"], report.summary.requests);
    assert_eq!(stats.requests, report.summary.requests);
    let (first, last) = (stats.first_stored_ms, stats.last_stored_ms);
    assert!(0 < first && first <= last, "{first} {last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_again_is_no_news() {
    let sink = sink(Behaviour::default());
    let options = LoadOptions {
        data: DataOptions {
            start_ms: Some(1_750_000_000_000),
            ..data()
        },
        ..options(&sink, Protocol::V1)
    };
    run(options.clone()).await;
    let before = sink.stats();
    run(options).await;
    let after = sink.stats();
    assert_eq!(after.duplicates, before.samples);
    assert_eq!(after.last_stored_ms, before.last_stored_ms);
}

/// A ledger's bytes.
fn written(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes).unwrap();
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledgers_that_were_written_down_say_what_the_living_ones_said() {
    let tenant = |name: &str| vec![("X-Scope-OrgID".to_owned(), name.to_owned())];
    let refuse = Refuse {
        series: SeriesMatch::PerMillion {
            seed: 1,
            series: 20_000,
        },
        status: 409,
        keep: Keep::Good,
    };
    let sink = Sink::start(SinkOptions {
        verify: Some(data()),
        tenant_headers: vec!["x-scope-orgid".to_owned()],
        behaviour: Behaviour {
            refuse: vec![refuse],
            ..Behaviour::default()
        },
        ..SinkOptions::default()
    })
    .unwrap();
    let data = DataOptions {
        churn: Some(Churn {
            share: 0.3,
            every_scrapes: 2,
        }),
        histograms: true,
        start_ms: Some(1_750_000_000_000),
        ..data()
    };
    let load = |name| LoadOptions {
        data: data.clone(),
        headers: tenant(name),
        ..options(&sink, Protocol::V2)
    };
    // The second tenant's samples come twice; the third's are told to a sink that is not asked.
    let one = run(load("one")).await;
    let two = run(load("two")).await;
    let again = run(load("two")).await;
    let elsewhere = Sink::start(SinkOptions::default()).unwrap();
    let lost = run(LoadOptions {
        url: elsewhere.url(),
        ..load("three")
    })
    .await;
    let loads = [&one, &two, &again, &lost];
    let living = compare(&[&sink], &loads);
    assert!(living.missing > 0, "{living}");
    assert!(living.refused_stored > 0, "{living}");
    assert!(living.duplicates > 0, "{living}");

    let (stats, ledger) = sink.into_ledger().await;
    assert_eq!(stats.duplicates, living.duplicates);
    let kept = SinkLedger::read(&*written(|out| ledger.write(out))).unwrap();
    let loads = loads.map(|load| {
        let bytes = written(|out| load.write_ledger(out));
        LoadReport::read_ledger(&*bytes).unwrap()
    });
    let loads: Vec<&LoadReport> = loads.iter().collect();
    assert_eq!(compare(&[&kept], &loads), living);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_not_whole_is_refused() {
    let sink = sink(Behaviour::default());
    let report = run(options(&sink, Protocol::V1)).await;
    let (_, ledger) = sink.into_ledger().await;
    let sink = written(|out| ledger.write(out));
    let load = written(|out| report.write_ledger(out));
    let cut = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
    let told = |result: std::io::Error| result.to_string();
    assert!(SinkLedger::read(&*cut(&sink)).is_err());
    assert!(LoadReport::read_ledger(&*cut(&load)).is_err());
    let other = SinkLedger::read(&*load).map_err(told).err().unwrap();
    assert!(other.contains("bench load"), "{other}");
    let text = String::from_utf8(load).unwrap();
    let beyond = text.replacen("\"slot\":0", "\"slot\":4000000", 1);
    let error = LoadReport::read_ledger(beyond.as_bytes()).map_err(told);
    assert!(error.err().unwrap().contains("slot"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_and_slowness_are_as_asked_for() {
    let sink = sink(Behaviour {
        samples_max: Some(99),
        ..Behaviour::default()
    });
    let report = run(options(&sink, Protocol::V1)).await;
    assert!(report.summary.statuses[&413] > 0);
    sink.set_behaviour(Behaviour {
        body_max_bytes: Some(10),
        ..Behaviour::default()
    });
    let report = run(options(&sink, Protocol::V1)).await;
    assert_eq!(
        report.summary.statuses.keys().copied().collect::<Vec<_>>(),
        [413]
    );
    sink.set_behaviour(Behaviour {
        rate_limit: Some(RateLimit {
            samples_per_second: 1,
            retry_after_seconds: Some(9),
        }),
        ..Behaviour::default()
    });
    let report = run(options(&sink, Protocol::V1)).await;
    assert!(report.summary.statuses[&429] > 0, "and 429 is final");
    assert_eq!(report.summary.retries, 0);
    let slow = self::sink(Behaviour {
        delay: Some(Delay {
            base: Duration::from_millis(20),
            jitter: Duration::from_millis(5),
            when: When::BeforeStoring,
        }),
        read_bytes_per_second: Some(10_000_000),
        ..Behaviour::default()
    });
    let report = run(options(&slow, Protocol::V1)).await;
    assert!(report.summary.latency.p50_ms >= 20.0, "{}", report.summary);
    assert!(checked(&slow, &report).is_exact());
    assert_eq!(slow.stats().in_flight_max, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_are_kept_apart_and_strangers_are_noticed() {
    let tenant = "X-Scope-OrgID".to_owned();
    let sink = Sink::start(SinkOptions {
        tenant_headers: vec![tenant.clone()],
        tenant_label: Some("cluster".to_owned()),
        ..SinkOptions::default()
    })
    .unwrap();
    let start_ms = Some(1_750_000_000_000);
    let mut reports = Vec::new();
    for (header, label) in [("a", "a"), ("b", "b"), ("c", "b")] {
        let data = DataOptions {
            start_ms,
            external_labels: vec![("cluster".to_owned(), label.to_owned())],
            ..data()
        };
        let report = run(LoadOptions {
            data,
            headers: vec![(tenant.to_lowercase(), header.to_owned())],
            ..options(&sink, Protocol::V1)
        })
        .await;
        let foreign = sink.stats().foreign_tenant_series;
        assert_eq!(foreign > 0, header != label, "{foreign}");
        reports.push(report);
    }
    let found = compare(&[&sink], &reports.iter().collect::<Vec<_>>());
    assert!(found.is_exact(), "{found}");
    let stats = sink.stats();
    assert_eq!(stats.tenants.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_made_up_or_altered_is_found() {
    let sink = sink(Behaviour::default());
    let report = run(options(&sink, Protocol::V1)).await;
    let elsewhere = self::sink(Behaviour::default());
    let found = elsewhere.missing(&report);
    assert_eq!(found.missing, report.summary.samples.acknowledged);
    assert_eq!(found.missing_examples.len(), 10);
    let found = compare(&[&sink], &[]);
    assert_eq!(found.never_sent, report.summary.samples.acknowledged);
    let other_seed = DataOptions { seed: 2, ..data() };
    let altered = run(LoadOptions {
        data: other_seed,
        ..options(&elsewhere, Protocol::V1)
    })
    .await;
    let found = elsewhere.missing(&altered);
    assert!(found.wrong > found.acknowledged / 2, "{found}");
    assert!(!elsewhere.stats().wrong_examples.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paced_load_keeps_its_time_and_flushes_at_the_deadline() {
    let sink = sink(Behaviour::default());
    let report = run(LoadOptions {
        data: DataOptions {
            profile: Profile::Node,
            interval: Duration::from_secs(20),
            ..data()
        },
        speed: Speed::Times(100.0),
        max_samples_per_send: 1_000_000,
        batch_send_deadline: Duration::from_millis(10),
        ..options(&sink, Protocol::V1)
    })
    .await;
    // Two whole intervals lie between the first scrape and the third.
    assert!(report.summary.seconds >= 0.4, "{}", report.summary);
    assert!(
        report.summary.requests >= 8,
        "no batch waits to be full: {}",
        report.summary
    );
    assert!(checked(&sink, &report).is_exact());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_stops_after_so_many_samples_or_so_much_time() {
    let sink = sink(Behaviour::default());
    for stop in [
        Stop {
            samples: Some(1_234),
            ..Stop::default()
        },
        Stop {
            duration: Some(Duration::from_millis(200)),
            ..Stop::default()
        },
    ] {
        let report = run(LoadOptions {
            stop,
            ..options(&sink, Protocol::V1)
        })
        .await;
        let acknowledged = report.summary.samples.acknowledged;
        assert!(acknowledged > 0 && stop.samples.is_none_or(|most| most == acknowledged));
        assert_eq!(sink.missing(&report).missing, 0);
    }
}

#[tokio::test]
async fn a_retry_is_byte_identical_and_says_which_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/push?x=1", listener.local_addr().unwrap());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(|request: Request<hyper::body::Incoming>| {
            let log = Arc::clone(&log);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let mut log = log.lock().unwrap();
                log.push((parts, body));
                let status = if log.len() < 3 { 503 } else { 204 };
                Ok::<_, hyper::Error>(
                    Response::builder()
                        .status(status)
                        .body(Full::new(Bytes::new()))
                        .unwrap(),
                )
            }
        });
        let server = hyper::server::conn::http1::Builder::new();
        server
            .serve_connection(TokioIo::new(stream), service)
            .await
            .unwrap();
    });
    let options = LoadOptions {
        url,
        data: data(),
        senders: 1,
        stop: Stop {
            samples: Some(10),
            ..Stop::default()
        },
        headers: vec![("X-Extra".to_owned(), "yes".to_owned())],
        ..LoadOptions::default()
    };
    let report = run(options).await;
    assert_eq!((report.summary.requests, report.summary.retries), (1, 2));
    let seen = seen.lock().unwrap();
    let text = |place: usize, name: &str| {
        let value = seen[place].0.headers.get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|(_, body)| *body == seen[0].1));
    let attempts = [0, 1, 2].map(|place| text(place, "retry-attempt"));
    assert_eq!(attempts, [None, Some("1".to_owned()), Some("2".to_owned())]);
    assert_eq!(seen[0].0.uri, "/push?x=1");
    for (name, value) in [
        ("content-encoding", "snappy"),
        ("content-type", "application/x-protobuf"),
        ("user-agent", "Prometheus/3.14.0"),
        ("x-prometheus-remote-write-version", "0.1.0"),
        ("x-extra", "yes"),
    ] {
        assert_eq!(text(0, name).as_deref(), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_load_waits_as_long_as_retry_after_says() {
    let fail = Fail {
        every: 2,
        status: 503,
        when: When::BeforeStoring,
        retry_after_seconds: Some(1),
    };
    let sink = sink(Behaviour {
        fail: vec![fail],
        ..Behaviour::default()
    });
    let report = run(LoadOptions {
        senders: 1,
        max_samples_per_send: 10,
        stop: Stop {
            samples: Some(20),
            ..Stop::default()
        },
        ..options(&sink, Protocol::V1)
    })
    .await;
    assert_eq!(report.summary.retries, 1);
    assert!(report.summary.seconds >= 1.0, "{}", report.summary);
    assert!(checked(&sink, &report).is_exact());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_never_comes_is_given_up_and_asked_for_again() {
    let hang = Hang {
        series: None,
        time: None,
        when: When::AfterStoring,
    };
    let sink = sink(Behaviour {
        hang: Some(hang),
        ..Behaviour::default()
    });
    let options = LoadOptions {
        remote_timeout: Duration::from_millis(100),
        ..options(&sink, Protocol::V2)
    };
    let running = tokio::spawn(run(options));
    let stats = until(&sink, |stats| stats.unanswered >= 4).await;
    assert!(
        stats.in_flight <= 4,
        "a sender's old request ends with its connection"
    );
    sink.set_behaviour(Behaviour::default());
    let report = running.await.unwrap();
    assert!(report.summary.network_errors >= 4 && report.summary.retries >= 4);
    let found = checked(&sink, &report);
    assert!(
        found.duplicates >= 400 && found.indeterminate_stored == 0,
        "{found}"
    );
}

#[tokio::test]
async fn the_sink_reads_content_types_and_encodings_as_prometheus_does() {
    let sink = sink(Behaviour::default());
    let message = rw1::WriteRequest::default().encode_to_vec();
    let snappy = snap::raw::Encoder::new().compress_vec(&message).unwrap();
    let zstd = zstd::stream::encode_all(&*message, 1).unwrap();
    let v2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let with_space = "application/x-protobuf; proto=io.prometheus.write.v2.Request";
    for (content_type, encoding, body, allow_zstd, status) in [
        (
            Some("application/x-protobuf"),
            Some("snappy"),
            &snappy,
            false,
            204,
        ),
        (None, None, &snappy, false, 204),
        (Some(v2), Some("snappy"), &snappy, false, 204),
        (Some(with_space), Some("snappy"), &snappy, false, 204),
        (
            Some("application/json"),
            Some("snappy"),
            &snappy,
            false,
            415,
        ),
        (
            Some("application/x-protobuf;proto=other"),
            Some("snappy"),
            &snappy,
            false,
            415,
        ),
        (
            Some("application/x-protobuf"),
            Some("gzip"),
            &snappy,
            false,
            415,
        ),
        (
            Some("application/x-protobuf"),
            Some("zstd"),
            &zstd,
            false,
            415,
        ),
        (
            Some("application/x-protobuf"),
            Some("zstd"),
            &zstd,
            true,
            204,
        ),
        (Some(v2), Some("zstd"), &zstd, true, 415),
        (
            Some("application/x-protobuf"),
            Some("snappy"),
            &b"\xff\xff".to_vec(),
            false,
            400,
        ),
    ] {
        sink.set_behaviour(Behaviour {
            zstd: allow_zstd,
            ..Behaviour::default()
        });
        let mut request = Request::post(sink.url());
        for (name, value) in [
            ("content-type", content_type),
            ("content-encoding", encoding),
        ] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let client = Client::builder(TokioExecutor::new()).build_http();
        let request = request.body(Full::new(Bytes::from(body.clone()))).unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(response.status(), status, "{content_type:?} {encoding:?}");
        let written = "x-prometheus-remote-write-samples-written";
        let negotiated = content_type == Some(v2) && status == 204;
        assert_eq!(response.headers().contains_key(written), negotiated);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run it by name, optimised, with --nocapture"]
async fn measure_load_and_sink_together() {
    for protocol in BOTH {
        for (senders, decoder) in [(1, Decoder::Scan), (8, Decoder::Scan), (8, Decoder::Prost)] {
            let sink = Sink::start(SinkOptions {
                decoder,
                verify: Some(DataOptions::default()),
                ..SinkOptions::default()
            })
            .unwrap();
            let report = run(LoadOptions {
                url: sink.url(),
                protocol,
                senders,
                stop: Stop {
                    scrapes: Some(20),
                    ..Stop::default()
                },
                ..LoadOptions::default()
            })
            .await;
            let rate = report.summary.samples.acknowledged as f64 / report.summary.seconds;
            println!("== {protocol:?} {decoder:?}, {senders} senders: {rate:.0} samples/s");
            println!("{}\n{}", report.summary, sink.stats());
            println!("{}", sink.missing(&report));
        }
    }
}

#[test]
fn what_cannot_begin_says_why_and_where() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, code, says) in [
        (&["load", "--url", "ftp://127.0.0.1/"][..], 64, "ftp"),
        (
            &["sink", "--listen", &taken],
            1,
            &*format!("cannot listen on {taken}: "),
        ),
    ] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_sluicegate"))
            .arg("bench")
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(says), "{said}");
        assert!(output.stdout.is_empty());
    }
}
