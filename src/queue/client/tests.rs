//! What goes out and what is made of a response that comes back.

use std::fs;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::mpsc;

use super::fixture::{
    NO_CONTENT, Received, Receiver, attempt, failure, options, read_request, response,
};
use super::{
    Answer, Attempt, Auth, Client, EndpointOptions, FailureKind, Secret, SecretSource, Written,
};

fn header(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    (name.parse().unwrap(), value.parse().unwrap())
}

/// A receiver that answers 204 and passes on what it received.
async fn recording() -> (Receiver, mpsc::UnboundedReceiver<Received>) {
    let (sender, requests) = mpsc::unbounded_channel();
    let receiver = Receiver::start(move |mut stream, _| {
        let sender = sender.clone();
        async move {
            while let Some(request) = read_request(&mut stream).await {
                sender.send(request).unwrap();
                stream.write_all(NO_CONTENT).await.unwrap();
            }
        }
    })
    .await;
    (receiver, requests)
}

async fn sent(options: &EndpointOptions, attempt: &Attempt) -> Answer {
    Client::new(options).unwrap().post(attempt).await
}

#[tokio::test]
async fn a_request_looks_like_one_of_prometheus() {
    let (receiver, mut requests) = recording().await;
    let mut options = receiver.options();
    options.url = format!("http://{}/api/v1/write?a=b", receiver.address)
        .parse()
        .unwrap();
    options.user_agent = "Sluicegate/9.9".to_owned();
    let attempt = Attempt {
        content_type: "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        version_header: ("X-Prometheus-Remote-Write-Version", "2.0.0"),
        ..attempt("abc")
    };
    sent(&options, &attempt).await;

    let request = requests.recv().await.unwrap();
    assert_eq!(request.line, "POST /api/v1/write?a=b HTTP/1.1");
    assert_eq!(request.body, b"abc");
    let mut headers: Vec<String> = request
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    headers.sort();
    assert_eq!(
        headers,
        [
            "Content-Encoding: snappy",
            "Content-Length: 3",
            "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request",
            &format!("Host: {}", receiver.address),
            "User-Agent: Sluicegate/9.9",
            "X-Prometheus-Remote-Write-Version: 2.0.0",
        ]
    );
}

#[tokio::test]
async fn only_a_repeated_try_is_numbered() {
    let (receiver, mut requests) = recording().await;
    let client = receiver.client();
    for number in [0, 1, 7] {
        client
            .post(&Attempt {
                number,
                ..attempt("x")
            })
            .await;
    }
    let mut numbers = Vec::new();
    for _ in 0..3 {
        numbers.push(
            requests
                .recv()
                .await
                .unwrap()
                .header("Retry-Attempt")
                .map(str::to_owned),
        );
    }
    assert_eq!(numbers, [None, Some("1".to_owned()), Some("7".to_owned())]);
}

#[tokio::test]
async fn a_tenant_is_passed_on_below_what_the_operator_wrote_and_what_is_ours() {
    let (receiver, mut requests) = recording().await;
    let mut options = receiver.options();
    options.headers = vec![header("X-Pinned", "operator")];
    let tenant = vec![
        header("X-Scope-OrgID", "team-a"),
        header("X-Pinned", "sender"),
        header("Content-Type", "text/plain"),
        header("Authorization", "Bearer stolen"),
    ];
    sent(
        &options,
        &Attempt {
            tenant,
            ..attempt("x")
        },
    )
    .await;

    let request = requests.recv().await.unwrap();
    assert_eq!(request.header("x-scope-orgid"), Some("team-a"));
    assert_eq!(request.header("x-pinned"), Some("operator"));
    assert_eq!(
        request.header("content-type"),
        Some("application/x-protobuf")
    );
    assert_eq!(request.header("authorization"), None);
    assert_eq!(
        request
            .headers
            .iter()
            .filter(|(name, _)| name == "X-Pinned")
            .count(),
        1
    );
}

#[test]
fn options_that_cannot_work_are_refused_at_the_start() {
    let refused = |change: &dyn Fn(&mut EndpointOptions)| {
        let mut options = options("http://u:secret-pw@recv.example/");
        change(&mut options);
        Client::new(&options).map(|_| ()).unwrap_err()
    };
    for name in [
        "Content-Type",
        "user-agent",
        "Authorization",
        "Host",
        "Retry-Attempt",
        "TE",
    ] {
        let error = refused(&|options| options.headers.push(header(name, "x")));
        assert!(error.ends_with("is reserved"), "{error}");
    }
    let url = |text: &'static str| {
        move |options: &mut EndpointOptions| options.url = text.parse().unwrap()
    };
    assert!(refused(&url("ftp://recv.example/")).starts_with("url: scheme"));
    assert!(refused(&url("http://169.254.169.254/")).contains("link-local"));
    assert!(refused(&url("http://[fe80::1]/")).contains("link-local"));
    let error = refused(&|options| options.proxy_url = Some("https://p:1/".parse().unwrap()));
    assert!(error.starts_with("proxy_url: only http://"), "{error}");
    let error = refused(&|options| {
        let password = SecretSource::Inline(Secret::new("pw"));
        options.auth = Auth::Basic {
            username: "a:b".to_owned(),
            password,
        };
    });
    assert!(error.contains("colon"), "{error}");
}

#[tokio::test]
async fn basic_auth_comes_from_the_options_or_else_from_the_url() {
    let (receiver, mut requests) = recording().await;
    let mut options = receiver.options();
    options.url = format!("http://bob:p%40ss@{}/write", receiver.address)
        .parse()
        .unwrap();
    sent(&options, &attempt("x")).await;
    let request = requests.recv().await.unwrap();
    assert_eq!(request.header("authorization"), Some("Basic Ym9iOnBAc3M="));
    assert_eq!(
        request.header("host"),
        Some(receiver.address.to_string().as_str())
    );

    let password = SecretSource::Inline(Secret::new("open sesame"));
    options.auth = Auth::Basic {
        username: "Aladdin".to_owned(),
        password,
    };
    sent(&options, &attempt("x")).await;
    let request = requests.recv().await.unwrap();
    assert_eq!(
        request.header("authorization"),
        Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==")
    );
}

#[tokio::test]
async fn a_rotated_bearer_file_is_used_without_a_restart() {
    let (receiver, mut requests) = recording().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    let mut options = receiver.options();
    options.auth = Auth::Bearer(SecretSource::File(path.clone()));
    let client = Client::new(&options).unwrap();

    // No file yet: nothing goes out, and it is not an error of the configuration.
    let missing = failure(&client).await;
    assert_eq!((missing.kind, missing.sent), (FailureKind::Other, false));
    assert!(missing.message.contains("token: No such file"), "{missing}");

    for token in ["first", "the-second"] {
        fs::write(&path, format!("{token}\n")).unwrap();
        next_second().await;
        response(&client).await;
        let request = requests.recv().await.unwrap();
        assert_eq!(
            request.header("authorization"),
            Some(format!("Bearer {token}").as_str())
        );
        assert_eq!(client.problem(), None);
    }

    fs::remove_file(&path).unwrap();
    next_second().await;
    response(&client).await;
    let request = requests.recv().await.unwrap();
    assert_eq!(request.header("authorization"), Some("Bearer the-second"));
    assert!(client.problem().unwrap().contains("token"));
}

/// Moves the clock past the time for which a secret file is not looked at.
async fn next_second() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_millis(1001)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn everything_a_verdict_needs_is_read_from_the_head() {
    let receiver = Receiver::answering(
        "HTTP/1.1 400 Bad Request\r\n\
         Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n\
         Retry-After: Wed, 21 Oct 2015 07:28:09 GMT\r\n\
         Retry-After: 77\r\n\
         Content-Type: Text/HTML; charset=utf-8\r\n\
         X-Prometheus-Remote-Write-Samples-Written: 12\r\n\
         X-Prometheus-Remote-Write-Histograms-Written: 0\r\n\
         X-Prometheus-Remote-Write-Exemplars-Written: many\r\n\
         Content-Length: 0\r\n\r\n",
    )
    .await;
    let response = response(&receiver.client()).await;
    assert_eq!(response.status, 400);
    assert_eq!(response.retry_after, Some(Duration::from_secs(9)));
    assert!(response.content_type_html);
    let written = Written {
        samples: Some(12),
        histograms: Some(0),
        exemplars: None,
    };
    assert_eq!(response.written, written);
    assert_eq!(response.location_host, None);
}

#[tokio::test]
async fn a_message_is_short_readable_and_harmless() {
    let receiver = Receiver::answering(
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 13\r\n\r\nb\xc3\xa4d\x1b[31m\r\n\xff!"
            .as_slice(),
    )
    .await;
    let bad = response(&receiver.client()).await;
    assert_eq!(bad.message, "bäd\\u{1b}[31m\\r\\n\u{fffd}!");

    // The body of a success is nobody's business.
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(response(&receiver.client()).await.message, "");
}

#[tokio::test]
async fn redirects_are_reported_and_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        for (location, host) in [
            (
                "https://u:pw@login.example:8443/?next=/api",
                Some("login.example"),
            ),
            ("/elsewhere", None),
            ("http://[", None),
        ] {
            let receiver = Receiver::answering(format!(
                "HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
            let response = response(&receiver.client()).await;
            assert_eq!(
                (response.status, response.location_host.as_deref()),
                (status, host)
            );
            assert_eq!(receiver.connections(), 1);
        }
    }
}

#[tokio::test]
async fn a_connection_is_used_again_when_its_response_was_read_to_the_end() {
    let full = format!(
        "HTTP/1.1 500 Oops\r\nContent-Length: 1024\r\n\r\n{}",
        "x".repeat(1024)
    );
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_owned(),
        full,
    ] {
        let receiver = Receiver::answering(answer.clone()).await;
        let client = receiver.client();
        for _ in 0..3 {
            response(&client).await;
        }
        assert_eq!(receiver.connections(), 1, "{answer}");
    }
}

#[tokio::test]
async fn as_many_connections_are_kept_as_there_may_be_requests_at_once() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let client = receiver.client();
    for _ in 0..3 {
        let (a, b, c) = tokio::join!(response(&client), response(&client), response(&client));
        assert_eq!([a.status, b.status, c.status], [204; 3]);
    }
    assert_eq!(receiver.connections(), 3);
}

#[tokio::test]
async fn a_connection_is_given_up_after_five_minutes_of_use() {
    let receiver = Receiver::answering(NO_CONTENT).await;
    let client = receiver.client();
    let mut connections = Vec::new();
    // In steps below the idle limit: only its age ends this connection.
    for _ in 0..10 {
        response(&client).await;
        connections.push(receiver.connections());
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(40)).await;
        tokio::time::resume();
    }
    assert_eq!(connections[..7], [1; 7], "{connections:?}");
    assert_eq!(connections[9], 2, "{connections:?}");
}
