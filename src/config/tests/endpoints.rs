//! URLs, headers, credentials, certificates.

use super::super::{Auth, Password, ReceiverProfile, Secret};
use super::*;

#[test]
fn urls_that_cannot_work_are_refused_and_secrets_in_them_are_not_shown() {
    for (url, problem) in [
        (
            "ftp://r/",
            "ftp://r/: must begin with http:// or https://, or be discard:",
        ),
        ("r/api", "r/api: must be an absolute URL, or be discard:"),
        (
            "/api",
            "/api: must begin with http:// or https://, or be discard:",
        ),
        (
            "discard",
            "discard: must begin with http:// or https://, or be discard:",
        ),
        (
            "http://",
            "http://: must be an absolute URL, or be discard:",
        ),
        (
            "http://r/a b",
            "http://r/a b: must be visible ASCII without blanks, or be discard:",
        ),
        (
            "http://r/#x",
            "http://r/: must not have a fragment (#), or be discard:",
        ),
        (
            "http://u:pw@r/",
            "(hidden): must not hold user and password; use basic_auth",
        ),
        (
            "gopher://r/?key=secret",
            "gopher://r/: must begin with http:// or https://, or be discard:",
        ),
    ] {
        let yaml = format!("remote_write: [{{url: '{url}'}}]");
        let found = problems(load_with(&yaml, &[]));
        assert_eq!(found, [format!("f:1: remote_write[0].url: {problem}")]);
        // A blank divides upstreams.
        if !url.contains(' ') {
            let found = problems(load_flags(&["--upstream", url]));
            assert_eq!(found, [format!("--upstream: {problem}")]);
        }
    }
    for url in [
        "https://r",
        "http://r:9/api/v1/write?a=b",
        "http://[::1]:9090/",
        "HTTPS://R/",
    ] {
        let queue = queue(&format!("remote_write: [{{url: '{url}'}}]"));
        assert_eq!(http(&queue).url, url);
    }
}

#[test]
fn a_proxy_is_an_http_url_without_user_and_password() {
    let queue = queue(&entry_file(&["proxy_url: http://proxy:3128"]));
    assert_eq!(http(&queue).proxy_url.as_deref(), Some("http://proxy:3128"));
    for (url, problem) in [
        ("https://p/", "https://p/: must begin with http://"),
        ("socks5://p/", "socks5://p/: must begin with http://"),
        (
            "http://u:pw@p/",
            "(hidden): must not hold user and password",
        ),
    ] {
        let found = entry(&[&format!("proxy_url: {url}")]);
        assert_eq!(
            found,
            [format!("f:3: remote_write[0].proxy_url: {problem}")]
        );
    }
}

#[test]
fn reserved_headers_are_refused_by_name_and_values_are_never_shown() {
    for name in [
        "Host",
        "content-type",
        "X-Prometheus-Remote-Write-Version",
        "X-Amz-Date",
        "TE",
    ] {
        let found = entry(&["headers:", &format!("  {name}: hunter2")]);
        let problem = format!("{name} is a reserved header. It must not be changed");
        assert_eq!(
            found,
            [format!("f:4: remote_write[0].headers.{name}: {problem}")]
        );
    }
    let found = entry(&["headers: {AUTHORIZATION: hunter2, 'a b': c, X-A: 1, x-a: 2, X-C: é}"]);
    assert_eq!(
        found,
        [
            "f:3: remote_write[0].headers.AUTHORIZATION: authorization header must be changed via \
             the basic_auth or authorization parameter",
            "f:3: remote_write[0].headers.a b: must be a valid header name",
            "f:3: remote_write[0].headers.x-a: is there twice",
            "f:3: remote_write[0].headers.X-C: must be visible ASCII, on one line",
        ]
    );
    let many = repeat(65, |i| format!("X-{i}: a, "));
    let found = entry(&[&format!("headers: {{{many}}}")]);
    assert_eq!(
        found,
        ["f:3: remote_write[0].headers: 65 entries; at most 64"]
    );
}

#[test]
fn credentials_come_inline_or_from_files_relative_to_the_configuration() {
    let bearer = queue(&entry_file(&["authorization: {credentials: tok}"]));
    assert_eq!(http(&bearer).auth, Auth::BearerInline(Secret::new("tok")));
    let old = queue(&entry_file(&["bearer_token: tok"]));
    assert_eq!(http(&old).auth, http(&bearer).auth);

    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("token"), "x").unwrap();
    let file = directory.path().join("config.yaml");
    std::fs::write(
        &file,
        entry_file(&["authorization: {type: bearer, credentials_file: token}"]),
    )
    .unwrap();
    let loaded = load_flags(&["-c", file.to_str().unwrap()]).unwrap();
    let expected = Auth::Bearer {
        file: directory.path().join("token"),
    };
    assert_eq!(http(&loaded.config.queues[0]).auth, expected);
    assert!(
        !loaded
            .warnings
            .iter()
            .any(|warning| warning.contains("cannot be read"))
    );

    let basic = queue(&entry_file(&[
        "basic_auth: {username: u, password_file: /pw}",
    ]));
    let expected = Auth::Basic {
        username: "u".to_owned(),
        password: Password::File("/pw".into()),
    };
    assert_eq!(http(&basic).auth, expected);
}

#[test]
fn contradicting_credentials_are_refused_as_prometheus_words_it() {
    for (keys, problem) in [
        (
            "authorization: {type: Basic, credentials: x}",
            ".authorization.type: Basic: authorization type cannot be set to \"basic\", use \
             \"basic_auth\" instead",
        ),
        (
            "authorization: {type: Token, credentials: x}",
            ".authorization.type: Token: not built yet; must be Bearer",
        ),
        (
            "authorization: {credentials: x, credentials_file: y}",
            ".authorization: at most one of authorization credentials & credentials_file must be \
             configured",
        ),
        (
            "authorization: {}",
            ".authorization: needs credentials or credentials_file",
        ),
        (
            "authorization: {credentials: ''}",
            ".authorization.credentials: must not be empty",
        ),
        (
            "authorization: {credentials: \"a\\nb\"}",
            ".authorization.credentials: must be visible ASCII, on one line",
        ),
        (
            "basic_auth: {username: 'a:b', password: x}",
            ".basic_auth: username must not hold a colon or control characters",
        ),
        (
            "basic_auth: {username: a, password: x, password_file: y}",
            ".basic_auth: at most one of basic_auth password & password_file must be configured",
        ),
    ] {
        assert_eq!(entry(&[keys]), [format!("f:3: remote_write[0]{problem}")]);
    }
    for (keys, problem) in [
        (
            ["authorization: {credentials: x}", "bearer_token: y"],
            "authorization is not compatible with bearer_token & bearer_token_file",
        ),
        (
            [
                "authorization: {credentials: x}",
                "basic_auth: {username: y}",
            ],
            "at most one of basic_auth & authorization must be configured",
        ),
        (
            ["basic_auth: {username: x}", "bearer_token_file: y"],
            "at most one of basic_auth, bearer_token & bearer_token_file must be configured",
        ),
        (
            ["bearer_token: x", "bearer_token_file: y"],
            "at most one of bearer_token & bearer_token_file must be configured",
        ),
    ] {
        assert_eq!(entry(&keys), [format!("f:2: remote_write[0]: {problem}")]);
    }
}

#[test]
fn tls_settings_are_read_and_a_wrong_server_name_is_refused() {
    let keys = "tls_config: {ca_file: /ca.pem, server_name: r.example, insecure_skip_verify: true}";
    let queue = queue(&entry_file(&[keys, "receiver: thanos"]));
    let tls = &http(&queue).tls;
    assert_eq!(
        tls.ca_file.as_deref(),
        Some(std::path::Path::new("/ca.pem"))
    );
    assert_eq!(
        (tls.server_name.as_deref(), tls.insecure_skip_verify),
        (Some("r.example"), true)
    );
    assert_eq!(http(&queue).receiver, ReceiverProfile::Thanos);
    assert_eq!(
        entry(&["tls_config: {server_name: 'a b'}"]),
        ["f:3: remote_write[0].tls_config.server_name: a b: must be a host name or an IP address"]
    );
    assert_eq!(
        entry(&["receiver: influx"]),
        [
            "f:3: remote_write[0].receiver: influx: must be one of: auto, prometheus, thanos, mimir, \
          victoriametrics"
        ]
    );
}

#[test]
fn nothing_secret_is_in_what_debug_prints() {
    let keys = [
        "basic_auth: {username: u, password: hunter2}",
        "headers: {X-Api-Key: hunter2}",
    ];
    let yaml = entry_file(&keys).replace("http://r/", "http://r/?key=hunter2");
    let loaded = load_with(&yaml, &[]).unwrap();
    assert!(!format!("{loaded:?}").contains("hunter2"), "{loaded:?}");
    let bad =
        "remote_write: [{url: x, bearer_token: hunter2, authorization: {credentials: hunter2}}]";
    let found = problems(load_with(bad, &[]));
    assert!(!found.join("\n").contains("hunter2"), "{found:?}");
}
