//! Flags, the environment, and who wins.

use super::super::{EndpointConfig, Grouping, LogFormat, LogLevel, ProtobufMessage};
use super::*;

#[test]
fn one_upstream_needs_no_name_and_several_do() {
    let queues = load_flags(&["--upstream", "discard:"])
        .unwrap()
        .config
        .queues;
    assert_eq!(
        (queues[0].name.as_str(), &queues[0].endpoint),
        ("default", &EndpointConfig::Discard)
    );
    let queues = load_flags(&["--upstream", "eu=http://r/?a=b"])
        .unwrap()
        .config
        .queues;
    assert_eq!(
        (queues[0].name.as_str(), http(&queues[0]).url.as_str()),
        ("eu", "http://r/?a=b")
    );

    let both = ["--upstream", "eu=http://a/", "--upstream", "us=discard:"];
    let queues = load_flags(&both).unwrap().config.queues;
    assert_eq!(
        queues.iter().map(|q| q.name.as_str()).collect::<Vec<_>>(),
        ["eu", "us"]
    );

    let found = problems(load_flags(&[
        "--upstream",
        "http://a/?key=secret",
        "--upstream",
        "us=discard:",
    ]));
    assert_eq!(
        found,
        [
            "--upstream: http://a/: several queues need names: write --upstream NAME=URL, or name in \
          the file"
        ]
    );
    let found = problems(load_flags(&[
        "--upstream",
        "a=http://a/",
        "--upstream",
        "a=http://b/",
    ]));
    assert_eq!(
        found,
        ["--upstream: a: found multiple remote write configs with job name \"a\""]
    );
}

#[test]
fn one_variable_holds_several_upstreams_with_blanks_between() {
    let queues = load_flags(&["--upstream", " a=discard:  b=http://b/ "])
        .unwrap()
        .config
        .queues;
    assert_eq!(queues.len(), 2);
    let found = problems(load_flags(&["--upstream", " "]));
    assert!(
        found[0].starts_with("--upstream: must not be empty"),
        "{found:?}"
    );
}

#[test]
fn with_nothing_to_send_to_the_ways_out_are_told() {
    let expected = "--upstream: nothing to send to: give --upstream URL, --upstream discard:, or a \
                    --config.file with remote_write";
    assert_eq!(problems(load_flags(&[])), [expected]);
    assert_eq!(problems(load_with("", &[])), [expected]);
    assert_eq!(problems(load_with("remote_write: []\n", &[])), [expected]);
}

#[test]
fn upstream_and_remote_write_entries_exclude_each_other() {
    let yaml = "remote_write: [{url: 'discard:'}]\n";
    assert_eq!(
        problems(load_with(yaml, &["--upstream", "http://r/"])),
        [
            "--upstream: the file has remote_write entries as well; use the file alone, or take \
          remote_write out of it"
        ]
    );
    let loaded = load_with(
        "server: {accept_zstd: false}\n",
        &["--upstream", "discard:"],
    )
    .unwrap();
    assert!(!loaded.config.ingest.accept_zstd);
}

#[test]
fn every_flag_wins_over_the_file() {
    let yaml = "\
preset: large
ack: upstream
server: {listen: '0.0.0.0:1'}
admin: {listen: '0.0.0.0:2'}
memory: {limit: 64MiB}
shutdown: {deadline: 1s}
log: {level: warn, format: logfmt}
remote_write:
- name: a
  url: http://a/
  remote_timeout: 1s
  protobuf_message: auto
  compression: auto
  grouping: target
  merge_window: 1s
  queue_config: {capacity: 10, max_samples_per_send: 5, min_shards: 1, max_shards: 2,
    batch_send_deadline: 1s, min_backoff: 1s, max_backoff: 1s}
- {name: b, url: 'http://b/'}
";
    let flags = "--listen 127.0.0.1:3 --web.listen-address [::1]:4 --ack memory \
        --memory.limit 128MiB --shutdown.deadline 2s --log.level debug --log.format json \
        --protobuf-message io.prometheus.write.v2.Request --compression zstd --grouping arrival \
        --merge-window 2s --capacity 1000 --max-samples-per-send 200 --min-shards 2 --max-shards 3 \
        --batch-send-deadline 2s --min-backoff 20ms --max-backoff 2s --remote-timeout 2s \
        --preset small";
    let flags: Vec<&str> = flags.split_whitespace().collect();
    let config = load_with(yaml, &flags).unwrap().config;
    assert_eq!(config.listen.to_string(), "127.0.0.1:3");
    assert_eq!(config.admin_listen.to_string(), "[::1]:4");
    assert_eq!(config.ack, super::super::AckMode::Memory);
    assert_eq!(config.memory_limit.to_string(), "128MiB");
    assert_eq!(config.shutdown_deadline.as_secs(), 2);
    assert_eq!(
        (config.log.level, config.log.format),
        (LogLevel::Debug, LogFormat::Json)
    );
    for queue in &config.queues {
        let limits = &queue.limits;
        assert_eq!(queue.protobuf_message, ProtobufMessage::V2);
        assert_eq!(queue.compression, super::super::Compression::Zstd);
        assert_eq!(queue.grouping, Grouping::Arrival);
        assert_eq!(
            (queue.merge_window.as_secs(), queue.remote_timeout.as_secs()),
            (2, 2)
        );
        assert_eq!((limits.capacity, limits.max_samples_per_send), (1_000, 200));
        assert_eq!((limits.min_shards, limits.max_shards), (2, 3));
        assert_eq!(
            (
                limits.batch_send_deadline.as_secs(),
                limits.max_backoff.as_secs()
            ),
            (2, 2)
        );
        assert_eq!(limits.min_backoff.as_millis(), 20);
    }
}

#[test]
fn what_is_not_built_says_so() {
    let upstream = ["--upstream", "discard:"];
    for (flags, problem) in [
        (
            ["--grouping", "node"],
            "--grouping: node: not built yet; use one of: target, arrival",
        ),
        (
            ["--grouping", "name"],
            "--grouping: name: not built yet; use one of: target, arrival",
        ),
        (
            ["--grouping", "auto"],
            "--grouping: auto: not built yet; use one of: target, arrival",
        ),
        (
            ["--storage.max-bytes", "1GiB"],
            "--storage.max-bytes: 1GiB: needs --storage.path",
        ),
        (["--ack", "fsync"], "--ack: fsync: needs --storage.path"),
        (
            ["--preset", "auto"],
            "--preset: auto: not built yet; use one of: testing, small, medium, large, xlarge, \
             runai, prometheus",
        ),
    ] {
        let flags = [upstream, flags].concat();
        assert_eq!(problems(load_flags(&flags)), [problem]);
    }
    assert_eq!(
        top("mode: fast\nstorage: {path: /x, max_bytes: 1KiB, on_full: burn, max_age: 1s}"),
        [
            "f:1: mode: fast: must be one of: normal, passthrough",
            "f:2: storage.max_bytes: 1KiB: must be between 4MiB and 1024TiB",
            "f:2: storage.max_age: 1s: must be between 1m and 416d16h",
            "f:2: storage.on_full: burn: must be one of: backpressure, drop_oldest",
        ]
    );
}

#[test]
fn words_that_nobody_knows_are_answered_with_those_that_work() {
    for (flag, words) in [
        ("--ack", "upstream, memory, fsync"),
        ("--mode", "normal, passthrough"),
        ("--compression", "snappy, zstd, auto"),
        ("--grouping", "target, arrival"),
        ("--log.level", "error, warn, info, debug, trace"),
        ("--log.format", "logfmt, json"),
        (
            "--protobuf-message",
            "as_received, auto, prometheus.WriteRequest, io.prometheus.write.v2.Request",
        ),
        (
            "--preset",
            "testing, small, medium, large, xlarge, runai, prometheus",
        ),
    ] {
        let found = problems(load_flags(&["--upstream", "discard:", flag, "nonsense"]));
        assert_eq!(
            found,
            [format!("{flag}: nonsense: must be one of: {words}")]
        );
    }
}

/// Runs itself again with the environment set, which a test may not do to its own process.
#[test]
fn the_environment_wins_over_the_file_and_flags_win_over_the_environment() {
    const NAME: &str = "config::tests::flags::the_environment_wins_over_the_file_and_flags_win_over_the_environment";
    if std::env::var_os("SLUICEGATE_MAX_SHARDS").is_none() {
        let this = std::env::current_exe().unwrap();
        let output = std::process::Command::new(this)
            .args(["--exact", NAME])
            .env("SLUICEGATE_MAX_SHARDS", "77")
            .env("SLUICEGATE_MIN_SHARDS", "7")
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && printed.contains("1 passed"),
            "{printed}"
        );
        return;
    }
    let yaml = "remote_write: [{url: 'discard:', queue_config: {min_shards: 1, max_shards: 10}}]";
    let queue = load_with(yaml, &["--min-shards", "5"])
        .unwrap()
        .config
        .queues
        .remove(0);
    assert_eq!((queue.limits.min_shards, queue.limits.max_shards), (5, 77));
}
