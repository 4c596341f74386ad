use std::time::Duration;

use clap::Parser;

use super::*;
use crate::bench::Protocol;
use crate::bench::data::Churn;
use crate::bench::load::Speed;
use crate::bench::sink::{Down, SeriesMatch, V2Support, When};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    bench: BenchArgs,
}

fn parse(line: &str) -> Result<BenchCommand, clap::Error> {
    let words = std::iter::once("bench").chain(line.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.bench.command)
}

#[test]
fn the_command_line_of_a_load_becomes_its_options() {
    let line = "load --url http://h:1/w --profile giant --nodes 3 --senders 2 --protocol 2.0 \
        --speed 10x --scrapes 4 --duration 1m30s --max-samples-per-send 500 --seed 9 \
        --header X-Scope-OrgID=a=b --external-label cluster=c --churn 0.5/4 --weird -o json";
    let BenchCommand::Load(args) = parse(line).unwrap() else {
        panic!("not a load");
    };
    assert_eq!(args.output, Output::Json);
    let options = args.into_options();
    assert_eq!(
        (options.protocol, options.speed),
        (Protocol::V2, Speed::Times(10.0))
    );
    assert_eq!(options.stop.duration, Some(Duration::from_secs(90)));
    assert_eq!(
        (options.stop.scrapes, options.max_samples_per_send),
        (Some(4), 500)
    );
    assert_eq!(
        options.headers,
        [("X-Scope-OrgID".to_owned(), "a=b".to_owned())]
    );
    assert_eq!(
        (options.data.seed, options.data.nodes, options.data.weird),
        (9, 3, true)
    );
    let churn = Churn {
        share: 0.5,
        every_scrapes: 4,
    };
    assert_eq!(options.data.churn, Some(churn));
}

#[test]
fn the_command_line_of_a_sink_becomes_its_options() {
    let line = "sink --listen 127.0.0.1:0 --delay 100ms --fail-every 7 --fail-status 500 \
        --after-storing --hang instance=x --refuse job=a --refuse 5/1000000 --v2 ignore \
        --max-body 1MiB --verify 3";
    let BenchCommand::Sink(args) = parse(line).unwrap() else {
        panic!("not a sink");
    };
    let options = args.into_options();
    assert_eq!(options.verify.map(|data| data.seed), Some(3));
    let behaviour = options.behaviour;
    let fail = behaviour.fail[0];
    assert_eq!(
        (fail.every, fail.status, fail.when),
        (7, 500, When::AfterStoring)
    );
    assert_eq!(
        behaviour.delay.map(|delay| delay.base),
        Some(Duration::from_millis(100))
    );
    let share = SeriesMatch::PerMillion { seed: 0, series: 5 };
    assert_eq!(
        (behaviour.refuse.len(), &behaviour.refuse[1].series),
        (2, &share)
    );
    assert_eq!(
        (behaviour.v2, behaviour.body_max_bytes),
        (V2Support::Ignored, Some(1 << 20))
    );
}

#[test]
fn nonsense_is_refused_when_it_is_parsed() {
    for line in [
        "load",
        "load --url http://h/ --protocol 3.0",
        "load --url http://h/ --speed fast",
        "load --url http://h/ --churn 2/1",
        "load --url http://h/ --max-samples-per-send 0",
        "load --url http://h/ --header none",
        "sink --hang nothing",
        "sink --weird",
        "sink --down later",
        "sink --down-for 20s",
        "sink --forget --ledger x",
        "compare --load x",
        "compare --sink x",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
}

#[tokio::test]
async fn a_sink_is_down_for_as_long_as_it_was_told() {
    use crate::bench::load::{Load, LoadOptions, Stop};
    use crate::bench::sink::{Behaviour, Sink, SinkOptions};
    use tokio_util::sync::CancellationToken;

    let well = Behaviour::default();
    let down = Some(Down::Refused);
    let sink = Sink::start(SinkOptions {
        behaviour: Behaviour {
            down,
            ..well.clone()
        },
        ..SinkOptions::default()
    })
    .unwrap();
    let load = Load::new(LoadOptions {
        url: sink.url(),
        stop: Stop {
            samples: Some(100),
            ..Stop::default()
        },
        ..LoadOptions::default()
    })
    .unwrap();
    let progress = load.progress();
    let mut load = tokio::spawn(load.run(CancellationToken::new()));
    let refused = async {
        while progress.summary().network_errors == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), refused)
        .await
        .expect("nobody listens");
    let BenchCommand::Sink(args) =
        parse("sink --down refuse --down-from 5ms --down-for 5ms").unwrap()
    else {
        panic!("not a sink");
    };
    let outage = args.outage();
    let report = tokio::select! {
        () = sink::Outage::run(outage, &sink, well) => unreachable!("it never ends"),
        report = &mut load => report.unwrap(),
    };
    assert_eq!(report.summary.samples.acknowledged, 100);
    assert_eq!(sink.stats().samples, 100);
}

#[tokio::test]
async fn ledgers_on_disk_are_compared_and_the_exit_code_says_what_came_of_it() {
    use crate::bench::load::{self, LoadOptions, Stop};
    use crate::bench::sink::{Sink, SinkOptions};
    use tokio_util::sync::CancellationToken;

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let sink = Sink::start(SinkOptions::default()).unwrap();
    // By the command line, into a sink that is not asked afterwards, and into one that is.
    let command = format!(
        "load --url {} --nodes 1 --scrapes 1 --ledger {}",
        sink.url(),
        path("elsewhere")
    );
    let code = |line: String| async move {
        let command = parse(&line).unwrap();
        let ended = run(BenchArgs { command }).await;
        ended
            .map(|code| format!("{code:?}"))
            .map_err(|e| e.to_string())
    };
    let [success, failure] =
        [ExitCode::SUCCESS, ExitCode::FAILURE].map(|code| Ok(format!("{code:?}")));
    assert_eq!(code(command).await, success);
    let sink = Sink::start(SinkOptions::default()).unwrap();
    let report = load::run(
        LoadOptions {
            url: sink.url(),
            stop: Stop {
                samples: Some(500),
                ..Stop::default()
            },
            ..LoadOptions::default()
        },
        CancellationToken::new(),
    )
    .await
    .unwrap();
    let file = |name| File::create(folder.path().join(name)).unwrap();
    report.write_ledger(file("load")).unwrap();
    let (_, ledger) = sink.into_ledger().await;
    ledger.write(file("sink")).unwrap();

    let compare = |load: &str, sink: &str| {
        code(format!(
            "compare --load {} --sink {}",
            path(load),
            path(sink)
        ))
    };
    assert_eq!(compare("load", "sink").await, success);
    assert_eq!(compare("elsewhere", "sink").await, failure);
    for (load, sink, told) in [("none", "sink", "none"), ("sink", "load", "bench sink")] {
        let error = compare(load, sink).await.unwrap_err();
        assert!(error.contains(told), "{error}");
    }
    let command = format!("sink --listen 127.0.0.1:0 --ledger {}", path("no/where"));
    let error = code(command).await.unwrap_err();
    assert!(error.contains("no/where"), "before it listens: {error}");
}

#[tokio::test]
async fn the_exit_code_says_whether_every_sample_was_written() {
    use crate::bench::sink::{Behaviour, Sink, SinkOptions};
    let sink = Sink::start(SinkOptions::default()).unwrap();
    let line = format!(
        "load --url {} --nodes 1 --profile node --scrapes 1 -o json",
        sink.url()
    );
    for (v2, protocol, code) in [
        (V2Support::Stored, "2.0", ExitCode::SUCCESS),
        (V2Support::Unsupported, "2.0", ExitCode::FAILURE),
        (V2Support::Unsupported, "1.0", ExitCode::SUCCESS),
    ] {
        sink.set_behaviour(Behaviour {
            v2,
            ..Behaviour::default()
        });
        let command = parse(&format!("{line} --protocol {protocol}")).unwrap();
        let ended = run(BenchArgs { command }).await.unwrap();
        assert_eq!(
            format!("{ended:?}"),
            format!("{code:?}"),
            "{v2:?} {protocol}"
        );
    }
    let command = parse("sink --listen 127.0.0.1:0 --duration 1ms").unwrap();
    let ended = run(BenchArgs { command }).await.unwrap();
    assert_eq!(format!("{ended:?}"), format!("{:?}", ExitCode::SUCCESS));
}
