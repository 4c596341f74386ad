//! Ranges, and rules between keys.

use super::*;

#[test]
fn numbers_out_of_range_are_refused_with_the_range() {
    for (lines, problem) in [
        (
            "memory: {limit: 16MiB}",
            "memory.limit: 16MiB: must be between 32MiB and 1TiB",
        ),
        (
            "memory: {limit: 2TiB}",
            "memory.limit: 2TiB: must be between 32MiB and 1TiB",
        ),
        (
            "shutdown: {deadline: 2h}",
            "shutdown.deadline: 2h: must be between 0s and 1h",
        ),
        (
            "server: {max_request_size: 1KiB}",
            "server.max_request_size: 1KiB: must be between 64KiB and 1GiB",
        ),
        (
            "server: {max_series_per_request: 0}",
            "server.max_series_per_request: 0: must be between 1 and 10000000",
        ),
        (
            "server: {max_elements_per_request: 0}",
            "server.max_elements_per_request: 0: must be between 1 and 10000000",
        ),
        (
            "server: {max_labels_per_series: 70000}",
            "server.max_labels_per_series: 70000: must be between 1 and 65535",
        ),
        (
            "server: {max_label_bytes: 1GiB}",
            "server.max_label_bytes: 1GiB: must be between 0 and 16MiB",
        ),
        (
            "server: {max_connections: 0}",
            "server.max_connections: 0: must be between 1 and 65535",
        ),
        (
            "server: {queue_wait: 2m}",
            "server.queue_wait: 2m: must be between 0s and 1m",
        ),
        (
            "server: {upstream_answer_deadline: 0s}",
            "server.upstream_answer_deadline: 0s: must be between 1s and 10m",
        ),
    ] {
        assert_eq!(top(lines), [format!("f:1: {problem}")]);
    }
}

#[test]
fn numbers_of_a_queue_out_of_range_are_refused_as_prometheus_words_it() {
    for (keys, problem) in [
        (
            "queue_config: {capacity: 0}",
            "queue_config.capacity: 0: remote write queue capacity must be positive, at most 10000000",
        ),
        (
            "queue_config: {max_shards: 0}",
            "queue_config.max_shards: 0: remote write queue max_shards must be positive, at most 10000",
        ),
        (
            "queue_config: {max_samples_per_send: 0}",
            "queue_config.max_samples_per_send: 0: remote write queue max_samples_per_send must be positive, at most 1000000",
        ),
        (
            "queue_config: {max_shards: 20000}",
            "queue_config.max_shards: 20000: must be between 1 and 10000",
        ),
        (
            "queue_config: {batch_send_deadline: 0s}",
            "queue_config.batch_send_deadline: 0s: must be between 1ms and 1h",
        ),
        (
            "queue_config: {min_backoff: 0s}",
            "queue_config.min_backoff: 0s: must be between 1ms and 1h",
        ),
        (
            "queue_config: {max_bytes_per_send: 1KiB}",
            "queue_config.max_bytes_per_send: 1KiB: must be between 64KiB and 64MiB",
        ),
        (
            "queue_config: {min_shards: 60}",
            "queue_config.min_shards: remote write queue min_shards must not be greater than max_shards (60 > 50)",
        ),
        (
            "queue_config: {max_shards: 4, min_shards: 5}",
            "queue_config.min_shards: remote write queue min_shards must not be greater than max_shards (5 > 4)",
        ),
        (
            "queue_config: {capacity: 1000}",
            "queue_config.capacity: remote write queue capacity must not be less than max_samples_per_send (1000 < 2000); 3 to 10 times that is advised",
        ),
        (
            "queue_config: {max_samples_per_send: 20000}",
            "queue_config.max_samples_per_send: remote write queue capacity must not be less than max_samples_per_send (10000 < 20000); 3 to 10 times that is advised",
        ),
        (
            "queue_config: {max_backoff: 10ms}",
            "queue_config.max_backoff: remote write queue max_backoff must not be less than min_backoff (10ms < 30ms)",
        ),
        (
            "queue_config: {min_backoff: 6s}",
            "queue_config.min_backoff: remote write queue max_backoff must not be less than min_backoff (5s < 6s)",
        ),
        (
            "queue_config: {retry_on_http_429: false}",
            "queue_config.retry_on_http_429: false: must be true: what a receiver throttles is held here, never dropped",
        ),
        (
            "queue_config: {sample_age_limit: 1h}",
            "queue_config.sample_age_limit: 1h: must be 0s: dropping samples by age is not built yet",
        ),
        (
            "metadata_config: {send_interval: 0s}",
            "metadata_config.send_interval: 0s: must be between 1s and 1d",
        ),
        (
            "metadata_config: {max_samples_per_send: 0}",
            "metadata_config.max_samples_per_send: 0: must be between 1 and 1000000",
        ),
        (
            "remote_timeout: 0s",
            "remote_timeout: 0s: must be between 1ms and 10m",
        ),
        (
            "merge_window: 2h",
            "merge_window: 2h: must be between 0s and 1h",
        ),
        (
            "follow_redirects: true",
            "follow_redirects: true: must be false: a redirect is held and reported, never followed",
        ),
        (
            "enable_http2: true",
            "enable_http2: true: must be false: HTTP/2 is not built yet",
        ),
        (
            "round_robin_dns: true",
            "round_robin_dns: true: must be false: not built yet",
        ),
        (
            "proxy_from_environment: true",
            "proxy_from_environment: true: must be false: not built yet; use proxy_url",
        ),
    ] {
        assert_eq!(entry(&[keys]), [format!("f:3: remote_write[0].{problem}")]);
    }
}

#[test]
fn a_flag_that_breaks_a_rule_is_the_one_that_is_blamed() {
    let flags = [
        "--upstream",
        "discard:",
        "--min-shards",
        "5",
        "--max-shards",
        "4",
    ];
    assert_eq!(
        problems(load_flags(&flags)),
        ["--min-shards: remote write queue min_shards must not be greater than max_shards (5 > 4)"]
    );
}

#[test]
fn no_idle_connection_is_allowed_unlike_in_prometheus() {
    assert_eq!(
        queue(&entry_file(&["queue_config: {min_shards: 0}"]))
            .limits
            .min_shards,
        0
    );
}

#[test]
fn labels_and_spread_rules_are_checked() {
    let many = format!("separate_by: [{}]", repeat(17, |i| format!("l{i}, ")));
    for (keys, problem) in [
        (
            "separate_by: [a, '']",
            "separate_by[1]: \"\": must not be empty",
        ),
        ("separate_by: [a, a]", "separate_by[1]: a: is there twice"),
        (
            "separate_by: [__name__]",
            "separate_by[0]: __name__: would set every metric apart",
        ),
        (many.as_str(), "separate_by: 17 entries; at most 16"),
        ("spread: [{by: [a]}]", "spread[0]: job is missing"),
        (
            "spread: [{job: a}]",
            "spread[0]: by must name at least one label",
        ),
        (
            "spread: [{job: a, by: []}]",
            "spread[0]: by must name at least one label",
        ),
        (
            "spread: [{job: a*b, by: [a]}]",
            "spread[0].job: a*b: a * can only be the first or the last character",
        ),
        (
            "spread: [{job: '', by: [a]}]",
            "spread[0].job: \"\": must not be empty",
        ),
    ] {
        assert_eq!(entry(&[keys]), [format!("f:3: remote_write[0].{problem}")]);
    }
    let queue = queue(&entry_file(&["separate_by: []", "spread: []"]));
    assert!(queue.separate_by.is_empty() && queue.spread.is_empty());
}

#[test]
fn tenant_headers_are_header_names_that_may_be_chosen() {
    assert_eq!(
        top("server: {tenant_headers: [X-A, x-a, 'a b', Content-Type, Authorization]}"),
        [
            "f:1: server.tenant_headers[1]: x-a: is there twice",
            "f:1: server.tenant_headers[2]: a b: must be a valid header name",
            "f:1: server.tenant_headers[3]: Content-Type: Content-Type is a reserved header. It \
             must not be changed",
            "f:1: server.tenant_headers[4]: Authorization: authorization header must be changed \
             via the basic_auth or authorization parameter",
        ]
    );
    let config = config("server: {tenant_headers: []}\nremote_write: [{url: 'discard:'}]");
    assert!(config.ingest.tenant_headers.is_empty());
}

#[test]
fn both_listeners_on_one_socket_are_refused_unless_the_port_is_free_to_choose() {
    assert_eq!(
        problems(load_flags(&[
            "--upstream",
            "discard:",
            "--listen",
            "127.0.0.1:9202"
        ])),
        ["--listen: 127.0.0.1:9202: data and admin listeners must be different sockets"]
    );
    let any = [
        "--listen",
        "127.0.0.1:0",
        "--web.listen-address",
        "127.0.0.1:0",
    ];
    assert!(load_flags(&[&["--upstream", "discard:"], &any[..]].concat()).is_ok());
}

#[test]
fn too_many_queues_are_refused() {
    let entries = repeat(65, |i| format!("- {{name: q{i}, url: 'discard:'}}\n"));
    assert_eq!(
        problems(load_with(&format!("remote_write:\n{entries}"), &[])),
        ["f:66: remote_write[64]: at most 64 queues"]
    );
}

#[test]
fn what_runs_but_is_unwise_is_a_warning() {
    let file = |top: &str, keys: &[&str]| format!("{top}\n{}", entry_file(keys));
    for (yaml, warning) in [
        (
            file("", &["queue_config: {capacity: 4000}"]),
            "default: capacity 4000 is 2.0 times",
        ),
        (
            file("", &["queue_config: {capacity: 40000}"]),
            "default: capacity 40000 is 20.0 times",
        ),
        (
            file("memory: {limit: 2GiB}", &[]),
            "memory.limit: 2GiB is more than there is",
        ),
        (
            file("memory: {limit: 32MiB}", &[]),
            "server.max_request_size: one request of 32MiB",
        ),
        (
            file("server: {upstream_answer_deadline: 30s}", &[]),
            "server.upstream_answer_deadline: Prometheus gives up after 30s",
        ),
        (
            file("", &["required: false"]),
            "ack: upstream waits for required queues only",
        ),
        (
            file("", &["merge_window: 1m"]),
            "default: merge_window: no effect with ack upstream",
        ),
        (
            file("", &["tls_config: {}"]),
            "http://r/: tls_config has no effect",
        ),
        (
            file("", &["bearer_token: x"]),
            "http://r/: credentials go over the network in clear text",
        ),
        (
            file("", &["bearer_token_file: missing"]),
            "remote_write[0].bearer_token_file: ",
        ),
    ] {
        let found = warnings(&yaml);
        assert!(
            found.iter().any(|found| found.starts_with(warning)),
            "{warning}: {found:?}"
        );
    }
    assert_eq!(warnings(&entry_file(&[])), Vec::<String>::new());
}
