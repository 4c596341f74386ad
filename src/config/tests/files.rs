//! The file as a whole: keys, lines, shapes, bounds.

use super::*;

#[test]
fn an_unknown_key_is_named_with_its_line_and_what_was_meant() {
    assert_eq!(
        entry(&["queue_confg:", "  capacity: 1"]),
        ["f:3: remote_write[0].queue_confg: unknown key, did you mean queue_config?"]
    );
    assert_eq!(
        entry(&["queue_config:", "  maxShards: 1", "  url: x"]),
        [
            "f:4: remote_write[0].queue_config.maxShards: unknown key, did you mean max_shards?",
            "f:5: remote_write[0].queue_config.url: unknown key here; it belongs under \
             remote_write[]",
        ]
    );
    assert_eq!(
        top("sever: {}"),
        ["f:1: sever: unknown key, did you mean server?"]
    );
    assert_eq!(
        top("memory:\n  x: 1"),
        ["f:2: memory.x: unknown key; known here: limit"]
    );
}

#[test]
fn prometheus_keys_that_are_not_built_say_so() {
    for key in [
        "write_relabel_configs: []",
        "sigv4: {}",
        "azuread: {}",
        "google_iam: {}",
        "oauth2: {}",
        "http_headers: {}",
        "no_proxy: x",
        "proxy_connect_header: {}",
        "tls_config: {cert_file: x}",
        "tls_config: {key_file: x}",
        "tls_config: {ca: x}",
        "tls_config: {min_version: TLS13}",
        "basic_auth: {username_file: x}",
        "authorization: {credentials: x, credentials_ref: x}",
        "messageVersion: V2.0",
        "queue_config: {retryOnRateLimit: true}",
    ] {
        let found = entry(&[key]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("f:3: remote_write[0]."), "{found:?}");
        assert!(
            found[0].contains(": known but not supported: "),
            "{found:?}"
        );
    }
    for key in [
        "global: {}",
        "scrape_configs: []",
        "rule_files: []",
        "remote_read: []",
    ] {
        assert!(top(key)[0].contains("Prometheus' own"), "{key}");
    }
}

#[test]
fn all_problems_of_file_and_flags_are_told_together_from_top_to_bottom() {
    let yaml = "\
server:
  listen: localhost:9201
  max_connections: many
  typo: 1
remote_write:
- name: a b
  url: ftp://r/
  queue_config: {capacity: 0, max_shards: -1}
- name: x
";
    assert_eq!(
        problems(load_with(yaml, &["--grouping", "node", "--ack", "fsync"])),
        [
            "--ack: fsync: needs --storage.path",
            "--grouping: node: not built yet; use one of: target, arrival",
            "f:2: server.listen: localhost:9201: must be an IP address and a port, for example \
             127.0.0.1:9201, 0.0.0.0:9201 or [::]:9201",
            "f:3: server.max_connections: many: must be a whole number, 0 or more",
            "f:4: server.typo: unknown key; known here: listen, max_request_size, \
             max_series_per_request, max_elements_per_request, max_labels_per_series, \
             max_label_bytes, accept_zstd, max_connections, tenant_headers, queue_wait, \
             upstream_answer_deadline",
            "f:6: remote_write[0].name: a b: must be 1 to 64 letters, digits, _ or -",
            "f:7: remote_write[0].url: ftp://r/: must begin with http:// or https://, or be \
             discard:",
            "f:8: remote_write[0].queue_config.max_shards: -1: must be a whole number, 0 or more",
            "f:8: remote_write[0].queue_config.capacity: 0: remote write queue capacity must be \
             positive, at most 10000000",
            "f:9: remote_write[1].url: url for remote_write is empty",
        ]
    );
}

#[test]
fn values_of_the_wrong_shape_are_refused_with_their_line() {
    for (keys, problem) in [
        (
            "headers: x",
            "headers: must be a mapping of names to values",
        ),
        (
            "queue_config: 5",
            "queue_config: must be a mapping of keys to values",
        ),
        (
            "queue_config: []",
            "queue_config: must be a mapping of keys to values",
        ),
        ("separate_by: x", "separate_by: must be a list"),
        (
            "separate_by: [[x]]",
            "separate_by[0]: must be a single value, not a list",
        ),
        (
            "separate_by: [{x: y}]",
            "separate_by[0]: must be a single value, not a mapping",
        ),
        ("separate_by: [~]", "separate_by[0]: must not be empty"),
        ("required: maybe", "required: maybe: must be true or false"),
        (
            "remote_timeout: 5",
            "remote_timeout: 5: must be a duration, for example 30ms or 1h30m",
        ),
        (
            "tls_config: {ca_file: ''}",
            "tls_config.ca_file: \"\": must not be empty",
        ),
    ] {
        assert_eq!(entry(&[keys]), [format!("f:3: remote_write[0].{problem}")]);
    }
    let found = top("memory: {limit: 1.5GiB}");
    assert_eq!(
        found,
        ["f:1: memory.limit: 1.5GiB: must be a size, for example 64MiB"]
    );
    let found = problems(load_with("remote_write: {url: x}\n", &[]));
    assert_eq!(found, ["f:1: remote_write: must be a list"]);
    assert!(problems(load_with("just text\n", &[]))[0].contains("must be a mapping"));
}

#[test]
fn empty_values_count_as_not_written() {
    let yaml = "server:\nremote_write:\n- url: http://r/\n  name:\n  queue_config:\n  headers: ~\n";
    assert_eq!(config(yaml), config("remote_write: [{url: 'http://r/'}]"));
}

#[test]
fn text_keeps_its_spelling_where_yaml_would_see_numbers_and_booleans() {
    let queue = queue(&entry_file(&[
        "name: 007",
        "basic_auth: {username: 1.50, password: 0x1F}",
        "headers: {X-A: yes, X-B: 1_000}",
        "required: no",
    ]));
    assert_eq!(queue.name, "007");
    assert!(!queue.required);
    let super::super::Auth::Basic { username, password } = &http(&queue).auth else {
        panic!("{queue:?}")
    };
    assert_eq!(username, "1.50");
    assert_eq!(
        password,
        &super::super::Password::Inline(super::super::Secret::new("0x1F"))
    );
    let headers = [("X-A", "yes"), ("X-B", "1_000")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(http(&queue).headers, headers);
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let found = problems(load_flags(&["--config.file", "/does/not/exist.yaml"]));
    assert!(
        found[0].starts_with("/does/not/exist.yaml: cannot be read: "),
        "{found:?}"
    );
    let found = problems(load_with(&"#".repeat((1 << 20) + 1), &[]));
    assert_eq!(found, ["f: is larger than 1048576 bytes"]);
    assert!(
        load_with(
            &format!(
                "remote_write: [{{url: 'discard:'}}]\n{}",
                "#".repeat(1 << 19)
            ),
            &[]
        )
        .is_ok()
    );
    let found = problems(load_with("a: [1\nb", &[]));
    assert!(found[0].starts_with("f:1: "), "{found:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"name: \xff\n").unwrap();
    let found = problems(load_flags(&["-c", file.path().to_str().unwrap()]));
    assert!(found[0].ends_with(": is not UTF-8 text"), "{found:?}");
}

#[test]
fn a_file_of_nothing_but_mistakes_is_answered_soon() {
    let yaml = repeat(20_000, |i| format!("mistake{i}: 1\n"));
    assert_eq!(problems(load_with(&yaml, &[])).len(), 1_000);
}

#[test]
fn alias_bombs_are_refused() {
    let bomb = repeat(10, |level| match level {
        0 => "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned(),
        _ => format!(
            "a{level}: &a{level} [{}]\n",
            vec![format!("*a{}", level - 1); 10].join(", ")
        ),
    });
    assert_eq!(problems(load_with(&bomb, &[])).len(), 1);
}

#[test]
fn long_and_wild_values_stay_one_short_line() {
    let found = entry(&[&format!("compression: \"{}\\n\\e[31m\"", "é".repeat(5_000))]);
    assert!(found[0].len() < 400, "{}", found[0].len());
    let found = entry(&["compression: \"a\\nb\\e[31m\""]);
    assert!(!found[0].contains('\u{1b}'), "{found:?}");
    let found = entry(&[&format!("\"{}\\n\": 1", "k".repeat(900))]);
    assert!(found[0].len() < 900, "{}", found[0].len());
}

#[test]
fn aliases_and_merges_work_as_in_prometheus() {
    let yaml = "\
remote_write:
- &base
  name: a
  url: http://a/
  queue_config: &q {max_shards: 9}
- <<: *base
  name: b
- {name: c, url: 'discard:', queue_config: *q}
";
    let queues = config(yaml).queues;
    let seen: Vec<_> = queues
        .iter()
        .map(|q| (q.name.as_str(), q.limits.max_shards))
        .collect();
    assert_eq!(seen, [("a", 9), ("b", 9), ("c", 9)]);
}
