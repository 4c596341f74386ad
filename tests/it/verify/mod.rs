//! `sluicegate verify` between two query APIs that answer from stores of which everything is known.

mod api;

use std::collections::BTreeMap;
use std::ffi::OsString;

use api::{Api, Fault, Options, Series};
use serde_json::Value as Json;
use sluicegate::cli::{Cli, Command};
use sluicegate::verify::cli::Ended;

/// The window's end, in milliseconds.
const END: i64 = 1_700_000_000_000;
/// Its length, as `--window` says it.
const WINDOW: i64 = 3_600_000;
const STEP: i64 = 15_000;

struct Outcome {
    ended: Ended,
    out: String,
    err: String,
}

impl Outcome {
    fn json(&self) -> Json {
        serde_json::from_str(&self.out).unwrap_or_else(|_| panic!("{}{}", self.out, self.err))
    }
}

/// Runs the command as it is typed.
async fn verify(from: &str, to: &str, flags: &[&str]) -> Outcome {
    let fixed = [
        "sluicegate",
        "verify",
        "--from",
        from,
        "--to",
        to,
        "--end",
        "1700000000",
    ];
    let args = fixed.iter().chain(flags).map(OsString::from);
    let cli = Cli::read(args).expect("flags that are known");
    let Command::Verify(args) = cli.command else {
        panic!("verify");
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = args.run(&mut out, &mut err, std::future::pending()).await;
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome {
        ended: ended.unwrap(),
        out: text(out),
        err: text(err),
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// What a Prometheus scraped: metrics of so many series each, from before the window till after it. Samples of
/// the first series stand on whole seconds, and so on the edges of slices.
fn scraped(metrics: usize, series: usize) -> Vec<Series> {
    let mut all = Vec::new();
    for metric in 0..metrics {
        for n in 0..series {
            let (name, n_text) = (format!("metric_{metric}"), n.to_string());
            let labels = labels(&[("__name__", &name), ("n", &n_text), ("job", "test")]);
            let offset = i64::try_from(n * 731).unwrap() % STEP;
            let first = END - WINDOW - 10 * STEP + offset;
            let samples = (0..260).map(|i| (first + i * STEP, (i * 3) as f64 + 0.1));
            all.push((labels, samples.collect()));
        }
    }
    all
}

/// The same at the receiver, with the sender's labels.
fn received(series: &[Series], external: &[(&str, &str)]) -> Vec<Series> {
    let mut series = series.to_vec();
    for (labels, _) in &mut series {
        for (name, value) in external {
            labels
                .entry((*name).to_owned())
                .or_insert_with(|| (*value).to_owned());
        }
    }
    series
}

const EXTERNAL: [(&str, &str); 2] = [("cluster", "a.b"), ("prometheus_replica", "r0")];

async fn pair(from: Vec<Series>, to: Vec<Series>) -> (Api, Api) {
    let from = Options {
        series: from,
        external: labels(&EXTERNAL),
        ..Options::default()
    };
    let to = Options {
        series: to,
        ..Options::default()
    };
    (Api::start(from).await, Api::start(to).await)
}

fn cut(series: &mut [Series], lost: impl Fn(&Series, i64) -> bool) -> u64 {
    let mut count = 0;
    for one in series {
        let kept: Vec<_> = one
            .1
            .iter()
            .copied()
            .filter(|(at, _)| !lost(one, *at))
            .collect();
        count += (one.1.len() - kept.len()) as u64;
        one.1 = kept;
    }
    count
}

#[tokio::test]
async fn two_that_hold_the_same_have_no_gap_whatever_a_range_means_to_them() {
    let series = scraped(3, 20);
    for (from_closed, to_closed) in [(false, false), (true, false), (false, true), (true, true)] {
        for mode in ["samples", "counts"] {
            let from = Options {
                series: series.clone(),
                closed: from_closed,
                external: labels(&EXTERNAL),
                ..Options::default()
            };
            let to = Options {
                series: received(&series, &EXTERNAL),
                closed: to_closed,
                ..Options::default()
            };
            let (from, to) = (Api::start(from).await, Api::start(to).await);
            let outcome = verify(&from.url(), &to.url(), &["--mode", mode]).await;
            assert_eq!(outcome.ended, Ended::Same, "{}{}", outcome.out, outcome.err);
            assert!(
                outcome
                    .out
                    .contains("no gap: 14,400 samples of 60 series and 3 metrics"),
                "{}",
                outcome.out
            );
            let raw = from.queries().iter().filter(|q| q.starts_with('{')).count();
            assert_eq!(
                raw > 0,
                mode == "samples",
                "counts are enough where they agree"
            );
        }
    }
}

#[tokio::test]
async fn an_outage_of_everything_is_one_line_with_its_times_and_numbers() {
    let series = scraped(4, 25);
    let mut there = received(&series, &EXTERNAL);
    // Between two moments nothing arrived.
    let (begin, end) = (END - 1_800_000, END - 1_665_000);
    let lost = cut(&mut there, |_, at| begin < at && at <= end);
    let (from, to) = pair(series, there).await;
    for mode in ["samples", "counts"] {
        let outcome = verify(&from.url(), &to.url(), &["-o", "json", "--mode", mode]).await;
        assert_eq!(outcome.ended, Ended::Different);
        let report = outcome.json();
        assert_eq!(report["verdict"], "gaps");
        assert_eq!(report["missing"]["samples"], lost, "{mode}");
        assert_eq!(report["missing"]["series"], 100);
        assert_eq!(report["extra"]["samples"], 0);
        let events = report["events"].as_array().unwrap();
        assert_eq!(events.len(), 1, "{events:#?}");
        assert_eq!(events[0]["series"], 100);
        assert_eq!(events[0]["samples"], lost);
        // Offsets of 731 ms: the first to lose one is 731 ms after the moment, or on it for the last.
        let (first, end_told) = (
            events[0]["first"].as_str().unwrap(),
            events[0]["last"].as_str().unwrap(),
        );
        assert!(first.starts_with("2023-11-14T21:43:20."), "{first}");
        assert_eq!(end_told, "2023-11-14T21:45:35.000Z");
        assert_eq!(events[0]["at_the_end"], false);
        assert_eq!(report["metrics"].as_array().unwrap().len(), 4);
    }
    let outcome = verify(&from.url(), &to.url(), &[]).await;
    let line = format!("21:43:20–21:45:35  all 100 series lack {lost} samples");
    assert!(outcome.out.contains(&line), "{}", outcome.out);
    assert!(
        outcome.out.contains("metric_0  25 series, 225 samples"),
        "{}",
        outcome.out
    );
}

#[tokio::test]
async fn what_is_lacking_at_the_end_is_said_to_be_perhaps_on_its_way() {
    let series = scraped(1, 5);
    let mut there = received(&series, &EXTERNAL);
    cut(&mut there, |_, at| at > END - 100_000);
    let (from, to) = pair(series, there).await;
    let outcome = verify(&from.url(), &to.url(), &[]).await;
    assert_eq!(outcome.ended, Ended::Different);
    assert!(
        outcome.out.contains("perhaps still on its way"),
        "{}",
        outcome.out
    );
}

#[tokio::test]
async fn changed_values_and_series_of_the_senders_that_it_does_not_have_are_differences() {
    let series = scraped(2, 5);
    let mut there = received(&series, &EXTERNAL);
    let changed = there[3]
        .1
        .iter_mut()
        .find(|(at, _)| *at > END - 1_000_000)
        .unwrap();
    changed.1 += 0.5;
    let mut ghost = there[0].clone();
    ghost.0.insert("n".to_owned(), "ghost".to_owned());
    there.push(ghost);
    // Another cluster's series are nobody's business.
    let mut other = there[1].clone();
    other.0.insert("cluster".to_owned(), "other".to_owned());
    there.push(other);
    let (from, to) = pair(series.clone(), there.clone()).await;
    let report = verify(&from.url(), &to.url(), &["-o", "json"]).await.json();
    assert_eq!(report["different"]["samples"], 1, "{report:#}");
    assert_eq!(report["extra"]["series"], 1);
    assert_eq!(report["extra"]["samples"], 240);
    assert_eq!(report["missing"]["samples"], 0);
    let text = verify(&from.url(), &to.url(), &[]).await.out;
    assert!(
        text.contains("at --from") && text.contains("at --to"),
        "{text}"
    );
    assert!(text.contains("n=\"ghost\""), "{text}");

    // A sender without labels of its own cannot tell that a series is its own: it is mentioned only.
    let flags = [
        "-o",
        "json",
        "--no-external-labels",
        "--ignore-label",
        "cluster",
        "--ignore-label",
        "prometheus_replica",
    ];
    let report = verify(&from.url(), &to.url(), &flags).await.json();
    assert_eq!(report["extra"]["samples"], 0, "{report:#}");
    assert_eq!(report["only_to_series"], 1);
}

#[tokio::test]
async fn a_series_with_a_label_of_its_own_keeps_it() {
    let mut series = scraped(1, 4);
    series[2]
        .0
        .insert("cluster".to_owned(), "federated".to_owned());
    let there = received(&series, &EXTERNAL);
    let (from, to) = pair(series, there).await;
    for mode in ["samples", "counts"] {
        let outcome = verify(&from.url(), &to.url(), &["--mode", mode]).await;
        assert_eq!(outcome.ended, Ended::Same, "{}", outcome.out);
    }
}

#[tokio::test]
async fn labels_that_go_or_come_on_the_way_are_hinted_at_and_can_be_left_out() {
    let series = scraped(2, 3);
    // A receiver that drops the replica, and one that adds a tenant.
    let mut there = received(&series, &EXTERNAL[..1]);
    for (labels, _) in &mut there {
        labels.insert("tenant_id".to_owned(), "t".to_owned());
    }
    let (from, to) = pair(series, there).await;
    let outcome = verify(&from.url(), &to.url(), &[]).await;
    assert_eq!(outcome.ended, Ended::Different);
    assert!(
        outcome
            .out
            .contains("use --ignore-label prometheus_replica"),
        "{}",
        outcome.out
    );

    let outcome = verify(
        &from.url(),
        &to.url(),
        &["--ignore-label", "prometheus_replica"],
    )
    .await;
    assert!(
        outcome.out.contains("--ignore-label tenant_id"),
        "{}",
        outcome.out
    );

    let flags = [
        "--ignore-label",
        "prometheus_replica",
        "--ignore-label",
        "tenant_id",
    ];
    let outcome = verify(&from.url(), &to.url(), &flags).await;
    assert_eq!(outcome.ended, Ended::Same, "{}", outcome.out);
    let flags = [
        "--ignore-label",
        "prometheus_replica",
        "--add-label",
        "tenant_id=t",
    ];
    let outcome = verify(&from.url(), &to.url(), &flags).await;
    assert_eq!(outcome.ended, Ended::Same, "{}", outcome.out);
}

#[tokio::test]
async fn a_selector_says_what_is_compared() {
    let series = scraped(3, 4);
    let mut there = received(&series, &EXTERNAL);
    cut(&mut there, |one, _| one.0["__name__"] == "metric_2");
    let (from, to) = pair(series, there).await;
    let of = async |flags: &[&str]| verify(&from.url(), &to.url(), flags).await;
    assert_eq!(of(&[]).await.ended, Ended::Different);
    let flags = [
        "--match",
        "metric_0",
        "--match",
        "metric_1{n=\"1\"}",
        "-o",
        "json",
    ];
    let report = of(&flags).await.json();
    assert_eq!(report["verdict"], "no_gap");
    assert_eq!(report["compared"]["series"], 5);
    assert_eq!(
        of(&["--match", "nothing_of_the_kind"]).await.ended,
        Ended::Different
    );
    let nothing = of(&["--match", "nothing_of_the_kind"]).await;
    assert!(
        nothing.out.contains("nothing to compare"),
        "{}",
        nothing.out
    );
    let others = of(&["--match", "{__name__!~\"metric_1|metric_2\"}", "-o", "json"]).await;
    assert_eq!(others.json()["compared"]["series"], 4);
    let usage = of(&["--match", "rate(x[5m])"]).await;
    assert_eq!(usage.ended, Ended::Usage);
    assert!(usage.err.contains("not a selector"), "{}", usage.err);
}

#[tokio::test]
async fn what_is_too_much_at_once_is_asked_in_parts_with_the_same_result() {
    let series = scraped(2, 40);
    let mut there = received(&series, &EXTERNAL);
    let lost = cut(&mut there, |_, at| {
        (END - 900_000..END - 500_000).contains(&at)
    });
    for most in [5_000, 500, 60] {
        for (from_limited, to_limited) in [(true, false), (false, true)] {
            let limited = |limited: bool| {
                if limited {
                    Fault::MostSamples(most)
                } else {
                    Fault::None
                }
            };
            let from = Options {
                series: series.clone(),
                external: labels(&EXTERNAL),
                closed: true,
                fault: limited(from_limited),
                ..Options::default()
            };
            let to = Options {
                series: there.clone(),
                fault: limited(to_limited),
                ..Options::default()
            };
            let (from, to) = (Api::start(from).await, Api::start(to).await);
            let report = verify(
                &from.url(),
                &to.url(),
                &["-o", "json", "--concurrency", "4"],
            )
            .await
            .json();
            assert_eq!(report["compared"]["samples"], 2 * 40 * 240, "{report:#}");
            assert_eq!(report["missing"]["samples"], lost);
            assert_eq!(
                report["events"].as_array().unwrap().len(),
                1,
                "slices leave no trace"
            );
            assert_eq!(report["not_compared"].as_array().unwrap().len(), 0);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_asked_at_all_is_named_and_is_no_success() {
    let series = scraped(2, 2);
    let from = Options {
        series: series.clone(),
        external: labels(&EXTERNAL),
        fault: Fault::Hates("metric_1"),
        ..Options::default()
    };
    let from = Api::start(from).await;
    let to = Options {
        series: received(&series, &EXTERNAL),
        ..Options::default()
    };
    let to = Api::start(to).await;
    let outcome = verify(&from.url(), &to.url(), &[]).await;
    assert_eq!(outcome.ended, Ended::Different);
    let asked = from.asked().len();
    assert!(asked < 150, "it is given up soon: {asked} requests");
    let text = &outcome.out;
    assert!(text.contains("not all could be compared"), "{text}");
    assert!(
        text.contains("metric_1") && text.contains("too many samples"),
        "{text}"
    );
}

#[tokio::test]
async fn victoriametrics_is_known_by_its_header_and_its_ways_are_no_gaps() {
    let mut series = scraped(2, 5);
    // 0.1 more than a whole number with 15 digits: it keeps 12.
    for (at, value) in &mut series[1].1 {
        *value = (*at % 1000) as f64 + 1.0 / 3.0;
    }
    series[2].1[100].1 = f64::NAN;
    let mut there = received(&series, &EXTERNAL);
    for (_, value) in &mut there[1].1 {
        *value = (*value * 1e9).round() / 1e9;
    }
    there[2].1.remove(100);
    // A stale marker, and a batch that came twice.
    there[3].1.push((END - 7, f64::NAN));
    let twice = there[4].1[50..60].to_vec();
    there[4].1.extend(twice);
    let from = Options {
        series,
        external: labels(&EXTERNAL),
        closed: true,
        ..Options::default()
    };
    let to = Options {
        series: there,
        victoriametrics: true,
        prefix: "/select/0/prometheus",
        ..Options::default()
    };
    let (from, to) = (Api::start(from).await, Api::start(to).await);
    let outcome = verify(&from.url(), &to.url(), &["--tolerance", "1e-9"]).await;
    assert_eq!(outcome.ended, Ended::Same, "{}{}", outcome.out, outcome.err);
    assert!(
        outcome.out.contains("holds 10 samples more than once"),
        "{}",
        outcome.out
    );
    assert!(outcome.out.contains("left out: 2 NaNs"), "{}", outcome.out);
    let exact = verify(&from.url(), &to.url(), &["--tolerance", "0", "-o", "json"]).await;
    assert_eq!(exact.json()["different"]["series"], 1);
    let asked = to.asked();
    assert!(
        asked.iter().all(|form| form.contains("nocache=1")),
        "{asked:?}"
    );
}

#[tokio::test]
async fn each_side_is_shown_who_asks_and_gets_the_parameters_of_its_url() {
    let series = scraped(1, 2);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (token, password) = (file("token", "secret\n"), file("password", "pw"));
    let from = Options {
        series: series.clone(),
        external: labels(&EXTERNAL),
        wants: Some(("authorization", "Basic bWU6cHc=")),
        ..Options::default()
    };
    let to = Options {
        series: received(&series, &EXTERNAL),
        wants: Some(("authorization", "Bearer secret")),
        ..Options::default()
    };
    let (from, to) = (Api::start(from).await, Api::start(to).await);
    let flags = [
        "--from-username",
        "me",
        "--from-password-file",
        &password,
        "--to-credentials-file",
        &token,
        "--to-header",
        "X-Scope-OrgID=team",
    ];
    let url = format!("{}/?dedup=false", to.url());
    let outcome = verify(&from.url(), &url, &flags).await;
    assert_eq!(outcome.ended, Ended::Same, "{}", outcome.err);
    assert!(to.asked().iter().all(|form| form.ends_with("&dedup=false")));

    let refused = verify(&from.url(), &to.url(), &flags[..4]).await;
    assert_eq!(refused.ended, Ended::Unreachable);
    assert!(
        refused.err.contains("401") && refused.err.contains("--to-credentials-file"),
        "{}",
        refused.err
    );
    assert!(!refused.err.contains("pw"));
}

#[tokio::test]
async fn an_answer_that_is_none_of_prometheus_is_an_error_that_says_so() {
    let page = "<!doctype html><title>Sign in</title>";
    for (fault, said) in [
        (Fault::Always(200, "text/html", page), "a web page"),
        (
            Fault::Always(302, "text/html; charset=utf-8", page),
            "a web page",
        ),
        (
            Fault::Always(302, "text/plain", ""),
            "redirects are not followed",
        ),
        (
            Fault::Always(404, "text/plain", "no such page"),
            "no such page",
        ),
        (Fault::Always(403, "text/plain", "go away"), "go away"),
        (
            Fault::Always(200, "text/plain", "hello"),
            "not one of Prometheus' API",
        ),
        (
            Fault::Always(200, "application/json", "{\"a\":1}"),
            "not one of Prometheus' API",
        ),
        (
            Fault::Always(200, "application/json", "[1,2"),
            "not one of Prometheus' API",
        ),
        (
            Fault::Always(
                400,
                "application/json",
                "{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"no \\u001b[31morg id\"}",
            ),
            "400: no \\u{1b}[31morg id",
        ),
        (Fault::Endless, "longer than"),
    ] {
        let (from, _) = pair(scraped(1, 1), Vec::new()).await;
        let to = Api::start(Options {
            fault: fault.clone(),
            ..Options::default()
        })
        .await;
        let outcome = verify(&from.url(), &to.url(), &[]).await;
        assert_eq!(
            outcome.ended,
            Ended::Unreachable,
            "{fault:?}: {}{}",
            outcome.out,
            outcome.err
        );
        assert!(
            outcome.err.contains("--to: ") && outcome.err.contains(said),
            "{fault:?}: {}",
            outcome.err
        );
        assert!(outcome.out.is_empty());
    }
}

#[tokio::test]
async fn nobody_there_is_an_error_and_a_moment_of_trouble_is_none() {
    let series = scraped(1, 3);
    let there = received(&series, &EXTERNAL);
    for fault in [Fault::Busy(2), Fault::Cut(2)] {
        let from = Options {
            series: series.clone(),
            external: labels(&EXTERNAL),
            fault,
            ..Options::default()
        };
        let to = Options {
            series: there.clone(),
            ..Options::default()
        };
        let (from, to) = (Api::start(from).await, Api::start(to).await);
        let outcome = verify(&from.url(), &to.url(), &[]).await;
        assert_eq!(outcome.ended, Ended::Same, "{}", outcome.err);
    }
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (from, _) = pair(series, there).await;
    let outcome = verify(&from.url(), &format!("http://{closed}"), &[]).await;
    assert_eq!(outcome.ended, Ended::Unreachable);
    assert!(outcome.err.contains("tried 5 times"), "{}", outcome.err);
    let outcome = verify("ftp://x", "http://y", &[]).await;
    assert_eq!(outcome.ended, Ended::Usage);
}

#[tokio::test]
async fn what_was_found_before_a_side_died_is_told() {
    let series = scraped(5, 2);
    let mut there = received(&series, &EXTERNAL);
    cut(&mut there, |_, at| at == END - 600_000);
    let (from, _) = pair(series, Vec::new()).await;
    let to = Options {
        series: there,
        fault: Fault::DiesAfter(7),
        ..Options::default()
    };
    let to = Api::start(to).await;
    let outcome = verify(&from.url(), &to.url(), &[]).await;
    assert_eq!(outcome.ended, Ended::Unreachable);
    assert!(
        outcome.out.contains("UNFINISHED: --to: "),
        "{}{}",
        outcome.out,
        outcome.err
    );
    assert!(
        outcome.out.contains("is missing") || outcome.out.contains("are missing"),
        "{}",
        outcome.out
    );
}

#[tokio::test]
async fn a_partial_answer_is_warned_of() {
    let series = scraped(1, 1);
    let from = Options {
        series: series.clone(),
        external: labels(&EXTERNAL),
        ..Options::default()
    };
    let to = Options {
        series: received(&series, &EXTERNAL),
        warning: Some("store 10.0.0.1 did not answer"),
        ..Options::default()
    };
    let (from, to) = (Api::start(from).await, Api::start(to).await);
    let outcome = verify(&from.url(), &to.url(), &[]).await;
    assert!(
        outcome
            .out
            .contains("warning: --to: store 10.0.0.1 did not answer"),
        "{}",
        outcome.out
    );
}

/// Seeded: any losses, changes and additions, in any sizes of answers, come out as they went in.
#[tokio::test]
async fn whatever_is_done_to_the_receivers_samples_is_counted_exactly() {
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let series = scraped(3, random.usize(1..12));
        let mut there = received(&series, &EXTERNAL);
        let inside = |at: i64| END - WINDOW < at && at <= END;
        let (mut missing, mut different, mut extra) = (0, 0, 0);
        for one in &mut there {
            let mut kept = Vec::new();
            for (at, value) in one.1.drain(..) {
                match random.u8(0..40) {
                    0 => missing += u64::from(inside(at)),
                    1 => {
                        different += u64::from(inside(at));
                        kept.push((at, value + 1.0));
                    }
                    2 => {
                        extra += u64::from(inside(at + 1));
                        kept.extend([(at, value), (at + 1, value)]);
                    }
                    _ => kept.push((at, value)),
                }
            }
            one.1 = kept;
        }
        let limit = |random: &mut fastrand::Rng| match random.u8(0..3) {
            0 => Fault::None,
            _ => Fault::MostSamples(random.usize(30..3000)),
        };
        let from = Options {
            series,
            external: labels(&EXTERNAL),
            closed: random.bool(),
            fault: limit(&mut random),
            ..Options::default()
        };
        let to = Options {
            series: there,
            closed: random.bool(),
            fault: limit(&mut random),
            ..Options::default()
        };
        let (from, to) = (Api::start(from).await, Api::start(to).await);
        let report = verify(&from.url(), &to.url(), &["-o", "json"]).await.json();
        let found = ["missing", "different", "extra"].map(|kind| report[kind]["samples"].as_u64());
        assert_eq!(
            found,
            [Some(missing), Some(different), Some(extra)],
            "seed {seed}"
        );
        let events = report["events"].as_array().unwrap();
        let sum: u64 = events
            .iter()
            .filter_map(|event| event["samples"].as_u64())
            .sum();
        let more = report["more"]["samples"].as_u64().unwrap_or(0);
        assert_eq!(sum + more, missing + different + extra, "seed {seed}");
    }
}
