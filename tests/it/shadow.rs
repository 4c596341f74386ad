//! The shadow report: what is measured is what an independent encoder makes of the same elements, every way of
//! sending carries all of them, and the whole keeps to its bounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use serde_json::Value;
use sluicegate::bench::Protocol as Version;
use sluicegate::bench::data::{DataOptions, DataSet, Item, What};
use sluicegate::bench::encode::{EncodedLabels, Encoder};
use sluicegate::bench::load::{self, LoadOptions, Speed, Stop};
use sluicegate::bench::sink::{Sink, SinkOptions};
use sluicegate::log::{Record, Seq, Tenant};
use sluicegate::model::content::Content;
use sluicegate::model::counts::Counts;
use sluicegate::model::runs::RunSet;
use sluicegate::queue::grouping::{Grouping, LaneRules};
use sluicegate::queue::handle::WalkOptions;
use sluicegate::queue::lanes::LaneLimits;
use sluicegate::queue::metadata::TenantMetadata;
use sluicegate::queue::shadow::measure::{Meter, measure};
use sluicegate::queue::shadow::recut::{Base, Held, Stretch};
use sluicegate::queue::shadow::{Cut, Form, ShadowTimes, Tallies, Tally};
use sluicegate::report::text;
use sluicegate::wire::compression::Encoding;
use sluicegate::wire::decoded::{IdentityKey, Protocol, WalkLimits};
use sluicegate::wire::pb::{rw1, rw2};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::harness::{LIMIT, Proxy, shadowed};
use crate::requests::get;

const WINDOWS: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(60)];
const BATCH: u32 = 700;

fn walk() -> WalkOptions {
    let most = 1 << 24;
    WalkOptions {
        size: 1 << 30,
        walk: WalkLimits {
            series: most,
            elements: most,
            labels: 1_000,
            label_bytes: 0,
            expanded_bytes: 1 << 30,
        },
        key: IdentityKey::fixed(7),
    }
}

fn base() -> Base {
    Base {
        rules: LaneRules {
            grouping: Grouping::Target,
            separate_by: vec!["cluster".to_owned()],
            spread: Vec::new(),
        },
        limits: LaneLimits::new(10_000, 10, BATCH, 8 << 20, Duration::from_secs(5)),
    }
}

fn data(histograms: bool) -> Arc<DataSet> {
    let options = DataOptions {
        nodes: 2,
        seed: 11,
        histograms,
        exemplars: histograms,
        ..DataOptions::default()
    };
    Arc::new(DataSet::new(&options, 1_700_000_000_000))
}

/// What a sender with so many shards makes of some rounds of scrapes: each request's items, and when it left.
fn requests(data: &DataSet, scrapes: u32, shards: u64, size: usize) -> Vec<(Vec<Item>, i64)> {
    let mut open = vec![Vec::new(); shards as usize];
    let mut left = Vec::new();
    for scrape in 0..scrapes {
        for (offset, slots) in data.round() {
            let at = offset + i64::from(scrape) * data.interval_ms();
            for slot in slots {
                let item = |what| Item { slot, scrape, what };
                let exemplar = data.exemplar_at(slot, scrape).then(|| item(What::Exemplar));
                for item in [item(What::Sample)].into_iter().chain(exemplar) {
                    let shard = &mut open[(data.series_ref(item) % shards) as usize];
                    shard.push(item);
                    if shard.len() >= size {
                        left.push((std::mem::take(shard), at));
                    }
                }
            }
        }
    }
    left
}

/// The same as a stretch.
fn stretch(data: &Arc<DataSet>, version: Version, requests: &[(Vec<Item>, i64)]) -> Stretch {
    let labels = Arc::new(EncodedLabels::new(data));
    let mut encoder = Encoder::new(Arc::clone(data), labels, version);
    let (start, walk) = (Instant::now(), walk());
    let protocol = match version {
        Version::V1 => Protocol::V1,
        Version::V2 => Protocol::V2,
    };
    let mut stretch = Stretch::default();
    for (at, (items, left_ms)) in requests.iter().enumerate() {
        let body = encoder.encode(items);
        let decoded = sluicegate::wire::decode(
            &body,
            Encoding::Snappy,
            protocol,
            walk.size,
            &walk.walk,
            &walk.key,
        )
        .unwrap();
        let record = Record {
            seq: Seq(at as u64 + 1),
            arrival_ms: 0,
            arrived: start + Duration::from_millis(left_ms.unsigned_abs()),
            protocol,
            encoding: Encoding::Snappy,
            tenant: Arc::new(Tenant::default()),
            counts: decoded.counts(),
            skipped: RunSet::default(),
            admitted: decoded.admitted(),
            totals: Counts::default(),
            body_len: body.len() as u32,
            ack: None,
        };
        stretch.push(Held {
            record: Arc::new(record),
            body,
            encoding: Encoding::Snappy,
        });
    }
    stretch
}

/// A clock that ticks when it is looked at, and a rest that costs nothing.
struct Ticks {
    now: Duration,
    rests: u64,
    most: u64,
}

impl Meter for Ticks {
    fn cpu(&mut self) -> Duration {
        self.now += Duration::from_micros(10);
        self.now
    }

    fn rest(&mut self, bytes: usize) -> bool {
        assert!(bytes > 0, "what is held is told");
        self.rests += 1;
        self.rests <= self.most
    }
}

fn measured(stretch: &Stretch, cuts: &[Cut], most: u64) -> Option<Tallies> {
    let mut meter = Ticks {
        now: Duration::ZERO,
        rests: 0,
        most,
    };
    let metadata = |_: &Arc<Tenant>| TenantMetadata::default();
    measure(stretch, cuts, &base(), &walk(), &metadata, &mut meter).unwrap()
}

fn batches(stretch: &Stretch, cut: Cut) -> Vec<Content> {
    let mut found = Vec::new();
    let mut each = |batch: &sluicegate::queue::batch::Batch| found.push(batch.content.clone());
    stretch
        .recut(cut, &base(), &walk(), &mut |_| true, &mut each)
        .unwrap();
    found
}

fn row(tallies: &Tallies, cut: Cut, protocol: Protocol, encoding: Encoding) -> Tally {
    let form = Form { protocol, encoding };
    let found = tallies.iter().find(|row| (row.0, row.1) == (cut, form));
    found.unwrap_or_else(|| panic!("{cut:?} {form:?}")).2
}

/// Written by the generated types, compressed by the plain crates.
fn independent(content: &Content, form: Form) -> usize {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let message = match form.protocol {
        Protocol::V1 => {
            let entries = content.entries.iter().map(|entry| {
                let pairs = entry.labels.pairs().iter();
                let samples = content.samples_of(entry).iter();
                rw1::TimeSeries {
                    labels: pairs
                        .map(|pair| rw1::Label {
                            name: text(pair.name()),
                            value: text(pair.value()),
                        })
                        .collect(),
                    samples: samples
                        .map(|sample| rw1::Sample {
                            value: f64::from_bits(sample.bits),
                            timestamp: sample.timestamp,
                        })
                        .collect(),
                    ..rw1::TimeSeries::default()
                }
            });
            let request = rw1::WriteRequest {
                timeseries: entries.collect(),
                ..rw1::WriteRequest::default()
            };
            request.encode_to_vec()
        }
        Protocol::V2 => {
            let mut symbols = vec![String::new()];
            let mut known = BTreeMap::from([(String::new(), 0u32)]);
            let mut reference = |bytes: &[u8]| {
                *known.entry(text(bytes)).or_insert_with(|| {
                    symbols.push(text(bytes));
                    symbols.len() as u32 - 1
                })
            };
            let mut timeseries = Vec::new();
            for entry in &content.entries {
                let mut labels_refs = Vec::new();
                for pair in entry.labels.pairs() {
                    labels_refs.extend([reference(pair.name()), reference(pair.value())]);
                }
                let samples = content.samples_of(entry).iter();
                timeseries.push(rw2::TimeSeries {
                    labels_refs,
                    samples: samples
                        .map(|sample| rw2::Sample {
                            value: f64::from_bits(sample.bits),
                            timestamp: sample.timestamp,
                            ..rw2::Sample::default()
                        })
                        .collect(),
                    ..rw2::TimeSeries::default()
                });
            }
            let request = rw2::Request {
                symbols,
                timeseries,
            };
            request.encode_to_vec()
        }
    };
    match form.encoding {
        Encoding::Snappy => snap::raw::Encoder::new()
            .compress_vec(&message)
            .unwrap()
            .len(),
        Encoding::Zstd => zstd::bulk::compress(&message, 1).unwrap().len(),
    }
}

#[test]
fn what_is_measured_is_what_an_independent_encoder_makes_of_the_same_elements() {
    let data = data(false);
    let stretch = stretch(&data, Version::V1, &requests(&data, 5, 1, 500));
    let cuts = Cut::of(stretch.span(), BATCH, &WINDOWS);
    assert_eq!(cuts.len(), 6, "both windows were held: {cuts:?}");
    let tallies = measured(&stretch, &cuts, u64::MAX).unwrap();
    assert_eq!(tallies.len(), 12);
    for cut in &cuts {
        let batches = batches(&stretch, *cut);
        for form in cut.forms() {
            let tally = row(&tallies, *cut, form.protocol, form.encoding);
            let bytes: usize = batches.iter().map(|batch| independent(batch, *form)).sum();
            assert_eq!(tally.bytes, bytes as u64, "{cut:?} {form:?}");
            assert_eq!(tally.requests, batches.len() as u64, "{cut:?} {form:?}");
            // The clock ticked twice for each request.
            assert_eq!(tally.cpu, Duration::from_micros(10) * batches.len() as u32);
        }
    }
}

#[test]
fn every_way_carries_the_same_elements_and_is_held_against_what_they_weighed() {
    let data = data(true);
    let requests = requests(&data, 5, 4, 300);
    let stretch = stretch(&data, Version::V2, &requests);
    let came = stretch.came();
    assert_eq!(came.requests, requests.len() as u64);
    let elements: u64 = requests.iter().map(|(items, _)| items.len() as u64).sum();
    assert_eq!(came.elements, elements);
    let of = |content: &Content| {
        let mut all = Vec::new();
        for entry in &content.entries {
            let series: Vec<_> = entry.labels.pairs().iter().map(|p| p.encoded()).collect();
            let series = series.concat();
            for sample in content.samples_of(entry) {
                all.push((series.clone(), sample.timestamp, sample.bits));
            }
            for histogram in content.histograms_of(entry) {
                all.push((
                    series.clone(),
                    histogram.timestamp,
                    histogram.message.len() as u64,
                ));
            }
            for exemplar in content.exemplars_of(entry) {
                all.push((series.clone(), exemplar.timestamp, exemplar.bits));
            }
        }
        all
    };
    let cuts = Cut::of(stretch.span(), BATCH, &WINDOWS);
    let mut first = None;
    for cut in &cuts {
        let batches = batches(&stretch, *cut);
        if let Some(most) = cut.per_send(BATCH) {
            let largest = batches.iter().map(|b| b.counts().total()).max();
            assert!(largest <= Some(u64::from(most)), "{cut:?}: {largest:?}");
        }
        let mut all: Vec<_> = batches.iter().flat_map(of).collect();
        all.sort();
        assert_eq!(all.len() as u64, elements, "{cut:?}");
        let first = first.get_or_insert_with(|| all.clone());
        assert!(*first == all, "{cut:?} carries other elements");
    }
    let tallies = measured(&stretch, &cuts, u64::MAX).unwrap();
    for (cut, form, tally) in &tallies {
        assert_eq!(tally.came, came, "{cut:?} {form:?}");
        assert_eq!(
            tally.elements + tally.left_out,
            elements,
            "{cut:?} {form:?}"
        );
        let custom = form.protocol == Protocol::V1;
        assert_eq!(tally.left_out > 0, custom, "{cut:?} {form:?}");
    }
}

#[test]
fn what_came_as_2_0_is_also_shown_as_it_would_have_been_in_1_0() {
    let data = data(false);
    let requests = requests(&data, 2, 1, 500);
    let (v1, v2) = (
        stretch(&data, Version::V1, &requests),
        stretch(&data, Version::V2, &requests),
    );
    let as_sent = |stretch: &Stretch| {
        let tallies = measured(stretch, &[Cut::AsSent], u64::MAX).unwrap();
        row(&tallies, Cut::AsSent, Protocol::V1, Encoding::Snappy)
    };
    let (from_v1, from_v2) = (as_sent(&v1), as_sent(&v2));
    assert_eq!(
        from_v1.bytes,
        v1.came().bytes,
        "1.0 as it came is 1.0 as it came"
    );
    assert_eq!(from_v1.requests, v1.came().requests);
    assert_eq!(
        from_v2.bytes,
        v1.came().bytes,
        "and 2.0 becomes what 1.0 was"
    );
    assert!(v2.came().bytes < v1.came().bytes * 3 / 4);
}

#[test]
fn by_target_repairs_what_many_shards_tear_apart_and_windows_save_more() {
    let data = data(false);
    let stretch = stretch(&data, Version::V1, &requests(&data, 9, 8, 500));
    let cuts = Cut::of(stretch.span(), BATCH, &WINDOWS);
    let tallies = measured(&stretch, &cuts, u64::MAX).unwrap();
    let bytes = |cut, protocol| row(&tallies, cut, protocol, Encoding::Snappy).bytes;
    let came = stretch.came().bytes;
    let target = bytes(Cut::Target, Protocol::V1);
    let merged = bytes(Cut::Merged(WINDOWS[1]), Protocol::V1);
    assert!(target * 10 < came * 9, "{target} of {came}");
    assert!(bytes(Cut::Arrival, Protocol::V1) > target);
    assert!(bytes(Cut::Target, Protocol::V2) * 10 < target * 8);
    assert!(
        merged * 10 < target * 7,
        "four scrapes in one entry: {merged} of {target}"
    );
}

#[test]
fn half_a_comparison_is_none() {
    let data = data(false);
    let stretch = stretch(&data, Version::V1, &requests(&data, 2, 1, 500));
    let cuts = Cut::of(stretch.span(), BATCH, &WINDOWS);
    assert_eq!(measured(&stretch, &cuts, 20), None);
}

fn times(length: u64, share: f64) -> ShadowTimes {
    ShadowTimes {
        length: Duration::from_millis(length),
        first: Duration::from_millis(300),
        windows: vec![Duration::from_millis(600), Duration::from_millis(1_200)],
        share,
        burst: 1.0,
    }
}

type Load = (tokio::task::JoinHandle<()>, CancellationToken);

fn load_of(proxy: &Proxy, protocol: Version, speed: Speed) -> Load {
    let options = LoadOptions {
        url: proxy.url(),
        protocol,
        data: DataOptions {
            nodes: 1,
            interval: Duration::from_millis(300),
            metadata: true,
            ..DataOptions::default()
        },
        senders: 2,
        max_samples_per_send: 200,
        batch_send_deadline: Duration::from_millis(100),
        speed,
        stop: Stop {
            duration: Some(LIMIT),
            ..Stop::default()
        },
        ..LoadOptions::default()
    };
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let running = tokio::spawn(async move {
        load::run(options, stopped).await.expect("the load runs");
    });
    (running, stop)
}

async fn status(proxy: &Proxy) -> Value {
    let reply = get(proxy.admin, "/api/v1/status").await;
    serde_json::from_str(&reply.body).unwrap()
}

async fn until(proxy: &Proxy, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + LIMIT;
    loop {
        let status = status(proxy).await;
        if wanted(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "in vain: {what}\n{status:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_receiver_a_queue_that_sends_nowhere_reports_and_then_rests() {
    let sink = Sink::start(SinkOptions::default()).unwrap();
    let upstreams = [format!("real={}", sink.url()), "shadow=discard:".to_owned()];
    let proxy = shadowed(&upstreams, times(8_000, 1.0), |_| {}).await;
    let first = status(&proxy).await;
    assert_eq!(
        first["queues"][0]["shadow"],
        Value::Null,
        "it has a receiver"
    );
    assert_eq!(first["queues"][1]["shadow"]["state"], "waiting");
    let page = get(proxy.admin, "/").await.body;
    assert!(page.contains("nothing has come yet"), "{page}");

    let (loading, stop) = load_of(&proxy, Version::V1, Speed::Realtime);
    let early = until(&proxy, "provisional numbers", |status| {
        let shadow = &status["queues"][1]["shadow"];
        shadow["state"] == "measuring" && !shadow["rows"].as_array().unwrap().is_empty()
    })
    .await;
    let early = &early["queues"][1]["shadow"];
    assert!(early["measured_seconds"].as_f64() < early["of_seconds"].as_f64());
    let told = until(&proxy, "the report", |status| {
        status["queues"][1]["shadow"]["state"] == "ready"
    })
    .await;
    let shadow = &told["queues"][1]["shadow"];
    let rows = shadow["rows"].as_array().unwrap();
    let find = |cut: &str, protocol: &str| {
        let same = |row: &&Value| {
            row["cut"] == cut && row["protocol"] == protocol && row["compression"] == "snappy"
        };
        rows.iter()
            .find(same)
            .unwrap_or_else(|| panic!("{cut} {protocol}\n{shadow:#}"))
    };
    // Nothing was torn apart: as it came in 1.0 is what came, to the byte.
    assert_eq!(
        find("as_sent", "1.0")["bytes"],
        find("as_sent", "1.0")["bytes_came"]
    );
    assert!(find("target", "2.0")["saved_share"].as_f64().unwrap() > 0.2);
    let merged = find("merged_1.2s", "1.0");
    assert!(merged["samples"].as_u64().unwrap() > 1_000, "{merged}");
    assert!(merged["saved_share"].as_f64() > find("target", "1.0")["saved_share"].as_f64());
    assert_eq!(shadow["came_v2"]["samples"], 0);
    let came = shadow["came"]["samples"].as_u64().unwrap();
    assert!(came > 2_000 && came <= told["senders"]["samples"].as_u64().unwrap());
    let hops: Vec<_> = shadow["advice"].as_array().unwrap().iter().collect();
    assert!(
        hops.iter().any(|advice| advice["hop"] == "senders"),
        "{hops:?}"
    );
    assert!(told["process"]["measuring_cpu_seconds"].as_f64().unwrap() > 0.0);
    let page = get(proxy.admin, "/").await.body;
    assert!(page.contains("measured, ready"), "{page}");
    let printed = text::shadows(&proxy.status.report(), 0.1).unwrap();
    assert!(printed.contains("queue shadow\n") && !printed.contains("queue real"));
    assert!(printed.contains("max_samples_per_send"), "{printed}");

    // It is over: whatever comes now, it costs nothing and changes nothing.
    let samples = told["senders"]["samples"].as_u64();
    let later = until(&proxy, "more came", |status| {
        status["senders"]["samples"].as_u64() > samples.map(|n| n + 1_000)
    })
    .await;
    // Only the advice goes on, with the latency of the other queue's receiver.
    let measured = |shadow: &Value| {
        let mut fields = shadow.as_object().unwrap().clone();
        assert!(fields.remove("advice").is_some());
        fields
    };
    assert_eq!(measured(&later["queues"][1]["shadow"]), measured(shadow));
    stop.cancel();
    loading.await.unwrap();
    proxy.drained().await;
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_keeps_to_its_share_of_a_core_and_to_the_memory_it_was_given() {
    let share = 0.000_1;
    let proxy = shadowed(&["discard:".to_owned()], times(60_000, share), |_| {}).await;
    let (loading, stop) = load_of(&proxy, Version::V2, Speed::Realtime);
    let shadow = |status: &Value| status["queues"][0]["shadow"].clone();
    let first = until(&proxy, "the first stretch", |status| {
        shadow(status)["stretches"] == 1
    })
    .await;
    let seen = shadow(&first)["came"]["samples"].as_u64().unwrap();
    // What one stretch costs is paid for in hours at this share: there is no second one.
    let later = until(&proxy, "more came", |status| {
        shadow(status)["came"]["samples"].as_u64().unwrap() > seen + 10_000
    })
    .await;
    let later = shadow(&later);
    assert_eq!(later["stretches"], 1, "{later:#}");
    assert_eq!(later["came"]["samples"], later["came_v2"]["samples"]);
    let cost = &later["cost"];
    assert!(cost["cpu_seconds"].as_f64().unwrap() > 0.0);
    let peak = cost["memory_peak_bytes"].as_u64().unwrap();
    assert!(peak > 0 && peak < 32 << 20, "{peak}");
    assert!(proxy.metric("sluicegate_memory_reserved_bytes", &["part=\"shadow\""]) < 1.0);
    let told = text::shadows(&proxy.status.report(), 0.9);
    assert_eq!(told, None, "too little was measured to be told at a stop");
    stop.cancel();
    loading.await.unwrap();
    proxy.drained().await;
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_take_ends_where_its_memory_does_and_says_what_it_could_not_hold() {
    // A 64th of it: 512 KiB of bodies, 13,107 samples.
    let proxy = shadowed(&["discard:".to_owned()], times(3_000, 1.0), |args| {
        args.memory_limit = Some(sluicegate::units::ByteSize(32 << 20));
    })
    .await;
    let (loading, stop) = load_of(&proxy, Version::V1, Speed::Full);
    let shadow = |status: &Value| status["queues"][0]["shadow"].clone();
    let told = until(&proxy, "the report", |status| {
        shadow(status)["state"] == "ready"
    })
    .await;
    let told = shadow(&told);
    let (stretches, rows) = (
        told["stretches"].as_u64().unwrap(),
        told["rows"].as_array().unwrap(),
    );
    let measured = rows[0]["samples"].as_u64().unwrap();
    assert!(measured <= stretches * (13_107 + 200), "{told:#}");
    stop.cancel();
    loading.await.unwrap();
    proxy.assert_sound();
}
