//! The admin listener: what it answers, in which form, to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sluicegate::bench::Protocol;
use sluicegate::bench::data::{DataOptions, Profile};
use sluicegate::bench::load::{self, LoadOptions, Stop};
use sluicegate::bench::sink::{Behaviour, Delay, Fail, Sink, SinkOptions, When};
use sluicegate::metrics::{CATALOGUE, Def, MetricKind};
use tokio_util::sync::CancellationToken;

use crate::harness::{configured, proxy};
use crate::requests::{Connection, ask, bulky, get, good};

/// A scrape: each series with its value, by metric name.
type Scrape = BTreeMap<String, Vec<(BTreeMap<String, String>, f64)>>;

/// Reads the text format strictly: what is described, what kind it is, no series twice.
fn parse(text: &str) -> Scrape {
    assert!(text.ends_with('\n'), "the last line is complete");
    let mut scrape = Scrape::new();
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    let mut described = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("HELP has a text");
            assert!(!help.is_empty() && described.insert(name), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("TYPE has a kind");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(kinds.insert(name, kind).is_none(), "{line}");
        } else {
            assert!(!line.starts_with('#'), "{line}");
            let (name, labels, value) = parse_sample(line);
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|base| kinds.get(base) == Some(&"histogram"))
                .unwrap_or(&name);
            assert!(kinds.contains_key(base), "no TYPE before {line}");
            assert!(described.contains(base), "no HELP before {line}");
            assert!(seen.insert((name.clone(), labels.clone())), "twice: {line}");
            check_catalogue(base, &labels, kinds[base]);
            scrape.entry(name).or_default().push((labels, value));
        }
    }
    scrape
}

fn parse_sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let value = value.parse().expect("a number");
    let Some((name, rest)) = series.split_once('{') else {
        return (series.to_owned(), BTreeMap::new(), value);
    };
    let mut rest = rest.strip_suffix('}').expect("labels end");
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, after) = rest.split_once("=\"").expect("a label's value");
        let mut end = 0;
        let bytes = after.as_bytes();
        while bytes[end] != b'"' {
            end += 1 + usize::from(bytes[end] == b'\\');
        }
        assert!(
            labels
                .insert(label.to_owned(), after[..end].to_owned())
                .is_none(),
            "{line}"
        );
        rest = after[end + 1..].trim_start_matches(',');
    }
    (name.to_owned(), labels, value)
}

fn check_catalogue(name: &str, labels: &BTreeMap<String, String>, kind: &str) {
    let def: &Def = CATALOGUE
        .iter()
        .find(|def| def.name == name)
        .unwrap_or_else(|| panic!("{name} is not in the catalogue"));
    let expected = match def.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    assert_eq!(kind, expected, "{name}");
    let mut names: Vec<&str> = def.labels.to_vec();
    names.sort_unstable();
    let given = labels.keys().map(String::as_str).filter(|l| *l != "le");
    assert_eq!(given.collect::<Vec<_>>(), names, "{name}");
}

/// Sum over the series of a metric that carry this pair.
fn sum(scrape: &Scrape, name: &str, queue: &str, kind: &str) -> f64 {
    let series = scrape.get(name).into_iter().flatten();
    series
        .filter(|(labels, _)| labels["remote_name"] == queue && labels["kind"] == kind)
        .map(|(_, value)| value)
        .sum()
}

fn assert_conserved(scrape: &Scrape, queues: &[&str]) {
    for queue in queues {
        for kind in ["sample", "histogram", "exemplar"] {
            let of = |name: &str| sum(scrape, &format!("sluicegate_{name}"), queue, kind);
            let received = of("queue_received_samples_total");
            let accounted = of("delivered_samples_total")
                + of("unconfirmed_samples_total")
                + of("dropped_samples_total")
                + of("quarantined_samples_total")
                + of("pending_samples");
            assert_eq!(received, accounted, "{queue} {kind}");
        }
    }
    for (labels, error) in &scrape["sluicegate_conservation_error"] {
        assert_eq!(*error, 0.0, "{labels:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scrape_is_well_formed_and_balances_under_load() {
    let behaviour = Behaviour {
        delay: Some(Delay {
            base: Duration::from_millis(20),
            jitter: Duration::from_millis(30),
            when: When::BeforeStoring,
        }),
        fail: vec![Fail {
            every: 5,
            status: 503,
            when: When::BeforeStoring,
            retry_after_seconds: None,
        }],
        ..Behaviour::default()
    };
    let sink = Sink::start(SinkOptions {
        behaviour,
        ..SinkOptions::default()
    })
    .unwrap();
    let upstreams = [format!("a={}", sink.url()), "b=discard:".to_owned()];
    let proxy = proxy(&upstreams, |args| {
        args.ack = Some("memory".to_owned());
        args.queue.max_samples_per_send = Some(500);
        args.queue.min_shards = Some(40);
    })
    .await;
    let load = LoadOptions {
        url: proxy.url(),
        data: DataOptions {
            profile: Profile::Kubernetes,
            nodes: 2,
            histograms: true,
            exemplars: true,
            metadata: true,
            ..DataOptions::default()
        },
        protocol: Protocol::V2,
        stop: Stop {
            duration: Some(Duration::from_secs(3)),
            ..Stop::default()
        },
        ..LoadOptions::default()
    };
    let stop = CancellationToken::new();
    let sending = tokio::spawn(load::run(load, stop.clone()));
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    let (mut scrapes, mut moving) = (0, 0);
    while !sending.is_finished() {
        ticks.tick().await;
        let reply = get(proxy.admin, "/metrics").await;
        assert_eq!(reply.status, 200);
        let kind = reply.header("content-type").unwrap();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        let scrape = parse(&reply.body);
        assert_conserved(&scrape, &["a", "b"]);
        scrapes += 1;
        moving += u32::from(sum(&scrape, "sluicegate_pending_samples", "a", "sample") > 0.0);
    }
    sending.await.unwrap().unwrap();
    assert!(
        scrapes >= 15 && moving > scrapes / 2,
        "{moving} of {scrapes}"
    );
    // What is refused and odd is in the text too.
    let odd = good("odd").by("BREW").at("/a\"b");
    assert_eq!(odd.send(proxy.data).await.status, 404);
    proxy.drained().await;
    assert_conserved(
        &parse(&get(proxy.admin, "/metrics").await.body),
        &["a", "b"],
    );
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_urls_of_queues_do_not_break_the_text() {
    let sink = Sink::start(SinkOptions::default()).unwrap();
    let yaml = format!(
        "remote_write: [{{name: odd-1_, url: '{}?a=%22b%5C%0A&secret=1'}}]",
        sink.url()
    );
    let proxy = configured(&yaml, |_| ()).await;
    assert_eq!(good("x").send(proxy.data).await.status, 204);
    let text = get(proxy.admin, "/metrics").await.body;
    parse(&text);
    assert!(!text.contains("secret"), "a URL is shown without its query");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_has_exactly_the_agreed_shape() {
    let sink = Sink::start(SinkOptions::default()).unwrap();
    let proxy = proxy(&[sink.url()], |args| args.queue.min_shards = Some(3)).await;
    let read = async || {
        let reply = get(proxy.admin, "/health").await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        serde_json::from_str::<serde_json::Value>(&reply.body).unwrap()
    };
    let expected = serde_json::json!({
        "jobs": {"completed": 0, "failed": 0, "inProgress": 0, "inQueue": 0, "retried": 0},
        "workers": {"idle": 3, "running": 0},
    });
    assert_eq!(read().await, expected);
    assert_eq!(good("x").send(proxy.data).await.status, 204);
    let health = read().await;
    assert_eq!(health["jobs"]["completed"], 1);
    assert_eq!(health["jobs"]["failed"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_say_what_the_process_can_do_and_nothing_about_receivers() {
    let proxy = proxy(&["http://127.0.0.1:9/api/v1/write".to_owned()], |args| {
        args.ack = Some("memory".to_owned());
        args.memory_limit = Some(sluicegate::units::ByteSize(32 << 20));
    })
    .await;
    for path in ["/-/healthy", "/-/ready", "/metrics", "/health", "/"] {
        let reply = get(proxy.admin, path).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let head = ask(proxy.admin, "HEAD", path).await;
        assert_eq!((head.status, &*head.body), (200, ""), "{path}");
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            let reply = ask(proxy.admin, method, path).await;
            assert_eq!(reply.status, 405, "{method} {path}");
            assert_eq!(reply.header("allow"), Some("GET, HEAD"));
        }
    }
    for path in ["/nothing", "/metrics/", "/-/quit", "//metrics", "/-/reload"] {
        assert_eq!(get(proxy.admin, path).await.status, 404, "{path}");
        assert_eq!(ask(proxy.admin, "HEAD", path).await.status, 404, "{path}");
    }
    // Full, and its receiver dead: still ready.
    while {
        let (held, limit) = proxy.log_bytes();
        held + 600_000 < limit
    } {
        assert_eq!(bulky("fill", 500_000).send(proxy.data).await.status, 204);
    }
    assert_eq!(get(proxy.admin, "/-/ready").await.status, 200);
    assert_eq!(get(proxy.admin, "/-/healthy").await.status, 200);
    // The data listener has none of it, and the admin listener takes no data.
    assert_eq!(get(proxy.data, "/metrics").await.status, 404);
    assert_eq!(good("x").send(proxy.admin).await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_holds_connections_open_keeps_no_probe_out() {
    let proxy = proxy(&["discard:".to_owned()], |_| ()).await;
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(Connection::open(proxy.admin).await);
    }
    assert_eq!(get(proxy.admin, "/-/ready").await.status, 200);
}
