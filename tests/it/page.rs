//! The page, its API and `sluicegate status`, of a proxy at work.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use sluicegate::bench::data::DataOptions;
use sluicegate::bench::load::{self, LoadOptions, Speed, Stop};
use sluicegate::bench::sink::{Behaviour, Fail, Sink, SinkHandle, SinkOptions, When};
use sluicegate::units::Span;
use tokio_util::sync::CancellationToken;

use crate::harness::{LIMIT, Proxy, configured, proxy};
use crate::requests::{Connection, get, good};

fn sink(behaviour: Behaviour) -> SinkHandle {
    let options = SinkOptions {
        behaviour,
        ..SinkOptions::default()
    };
    Sink::start(options).expect("it listens")
}

fn failing(status: u16) -> Behaviour {
    Behaviour {
        fail: vec![Fail {
            every: 1,
            status,
            when: When::BeforeStoring,
            retry_after_seconds: None,
        }],
        ..Behaviour::default()
    }
}

async fn status(proxy: &Proxy) -> Value {
    let reply = get(proxy.admin, "/api/v1/status").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("content-type"), Some("application/json"));
    serde_json::from_str(&reply.body).unwrap()
}

/// Waits until the status is as wanted.
async fn until(proxy: &Proxy, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let status = status(proxy).await;
        if wanted(&status) {
            return status;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "in vain: {what}\n{status:#}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn verdict(status: &Value) -> (&str, &str) {
    let part = |name: &str| status["verdict"][name].as_str().unwrap();
    (part("level"), part("id"))
}

fn load_of(proxy: &Proxy, stop: &CancellationToken) -> tokio::task::JoinHandle<()> {
    let options = LoadOptions {
        url: proxy.url(),
        data: DataOptions {
            nodes: 2,
            interval: Duration::from_secs(1),
            ..DataOptions::default()
        },
        senders: 2,
        speed: Speed::Realtime,
        stop: Stop {
            duration: Some(LIMIT),
            ..Stop::default()
        },
        flush_deadline: Duration::ZERO,
        ..LoadOptions::default()
    };
    let stop = stop.clone();
    tokio::spawn(async move {
        load::run(options, stop).await.expect("the load runs");
    })
}

/// The program that was built, asking this proxy. Off the runtime: the proxy has to answer.
async fn program(arguments: Vec<String>) -> Output {
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        command.arg("status").args(arguments).env_clear();
        command.output().expect("the program starts")
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_numbers_move_and_in_an_outage_it_is_told_in_words() {
    let sink = sink(Behaviour::default());
    let folder = tempfile::tempdir().unwrap();
    let proxy = proxy(&[sink.url()], |args| {
        args.storage_path = Some(folder.path().join("log"));
        args.queue.batch_send_deadline = Some(Span(Duration::from_millis(200)));
        args.queue.max_backoff = Some(Span(Duration::from_millis(300)));
    })
    .await;
    let first = status(&proxy).await;
    assert_eq!(verdict(&first), ("well", "waiting"), "{first:#}");
    let stop = CancellationToken::new();
    let loading = load_of(&proxy, &stop);
    let flows = until(&proxy, "samples flow", |status| {
        let rate = |part: &Value| part["last_10s"].as_f64().unwrap_or(0.0) > 100.0;
        rate(&status["senders"]["samples_per_second"])
            && rate(&status["queues"][0]["out_per_second"])
            && !status["queues"][0]["endpoint"]["p50_seconds"].is_null()
    })
    .await;
    assert_eq!(verdict(&flows), ("well", "well"), "{flows:#}");
    assert!(flows["log"]["room_seconds"].as_f64().unwrap() > 1.0);
    assert_eq!(flows["storage"]["writable"], true);
    assert!(
        flows["queues"][0]["bytes"]["per_sample_out"]
            .as_f64()
            .unwrap()
            > 1.0
    );
    let page = get(proxy.admin, "/").await.body;
    assert!(page.contains("All well: "), "{page}");

    sink.set_behaviour(failing(503));
    let outage = until(&proxy, "the outage is told", |status| {
        verdict(status) == ("trouble", "receiver_failing")
    })
    .await;
    let sentence = outage["verdict"]["text"].as_str().unwrap();
    assert!(
        sentence.starts_with("The receiver answers 503 since "),
        "{sentence}"
    );
    assert!(sentence.contains("in the log, room for "), "{sentence}");
    let later = until(&proxy, "more waits", |status| {
        let waits = |status: &Value| status["queues"][0]["pending"]["total"].as_u64();
        waits(status) > waits(&outage)
    })
    .await;
    let error = &later["queues"][0]["errors"][0];
    assert!(error["count"].as_u64().unwrap() > 1, "{error}");
    let page = get(proxy.admin, "/").await.body;
    assert!(page.contains("The receiver answers 503 since "), "{page}");
    assert!(page.contains("<title>■ trouble"), "{page}");

    let url = format!("http://{}", proxy.admin);
    let told = program(vec!["--url".to_owned(), url.clone()]).await;
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    assert!(text(&told.stdout).starts_with("TROUBLE: The receiver answers 503 since "));
    let json = ["--url", &url, "-o", "json"].map(str::to_owned);
    let told = program(json.to_vec()).await;
    assert_eq!(told.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["verdict"]["id"], "receiver_failing");

    sink.set_behaviour(Behaviour::default());
    until(&proxy, "it recovers", |status| {
        status["queues"][0]["endpoint"]["failing"].is_null() && verdict(status).0 != "trouble"
    })
    .await;
    stop.cancel();
    loading.await.unwrap();
    proxy.drained().await;
    let told = program(vec!["--url".to_owned(), url]).await;
    assert_eq!(told.status.code(), Some(0), "{told:?}");
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_says_is_text_wherever_it_is_shown() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/v1/write", listener.local_addr().unwrap());
    let answering = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 512];
            drop(stream.read(&mut head).await);
            let body = "<script>alert(1)</script>\u{1b}[31m\r\nWELL: fine\u{202e}";
            let answer = format!(
                "HTTP/1.1 500 Oops\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            drop(stream.write_all(answer.as_bytes()).await);
        }
    });
    let proxy = proxy(&[url], |args| {
        args.ack = Some("memory".to_owned());
        args.queue.batch_send_deadline = Some(Span(Duration::from_millis(10)));
        args.queue.max_backoff = Some(Span(Duration::from_millis(50)));
    })
    .await;
    assert_eq!(good("x").send(proxy.data).await.status, 204);
    let status = until(&proxy, "it is reported", |status| {
        let error = status["queues"][0]["errors"][0]["text"].as_str();
        error.is_some_and(|error| error.contains("script"))
            && verdict(status) == ("trouble", "receiver_failing")
    })
    .await;
    let shown = status["queues"][0]["errors"][0]["text"].as_str().unwrap();
    assert!(
        !shown.contains(|c: char| c.is_control() || c == '\u{202e}'),
        "{shown:?}"
    );
    for path in ["/", "/api/v1/page"] {
        let body = get(proxy.admin, path).await.body;
        assert!(
            !body.contains("<script>") && !body.contains('\u{1b}'),
            "{path}"
        );
        assert!(body.contains("&lt;script&gt;alert(1)"), "{path}: {body}");
    }
    let told = program(vec!["--url".to_owned(), proxy.admin.to_string()]).await;
    let told = text(&told.stdout);
    assert!(
        told.contains("<script>") && !told.contains('\u{1b}'),
        "{told}"
    );
    assert!(!told.contains("\nWELL"), "{told}");
    answering.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn page_and_api_are_guarded_and_their_pieces_are_there() {
    let proxy = proxy(&["discard:".to_owned()], |_| ()).await;
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/api/v1/status", "application/json"),
        ("/api/v1/page", "application/json"),
    ] {
        let reply = get(proxy.admin, path).await;
        assert_eq!(
            (reply.status, reply.header("content-type")),
            (200, Some(kind)),
            "{path}"
        );
        let policy = reply.header("content-security-policy").unwrap();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(rule), "{path}: {policy}");
        }
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
    // Two names are none.
    let mut connection = Connection::open(proxy.admin).await;
    connection
        .write(b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        .await;
    assert_eq!(connection.reply().await.status, 403);
    // A name that somebody made lead here.
    for (path, status) in [
        ("/", 403),
        ("/api/v1/status", 403),
        ("/api/v1/page", 403),
        ("/metrics", 200),
        ("/-/ready", 200),
        ("/health", 200),
    ] {
        let mut connection = Connection::open(proxy.admin).await;
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
        connection.write(head.as_bytes()).await;
        let reply = connection.reply().await;
        assert_eq!(reply.status, status, "{path}");
        if status == 403 {
            assert!(
                reply.body.contains("http://127.0.0.1:9202/"),
                "{}",
                reply.body
            );
        }
    }
}

/// An address of this machine that is not loopback, if it has one. Nothing is sent.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_from_elsewhere_gets_probes_and_metrics_and_is_told_the_way_to_the_page() {
    let Some(own) = own_address() else {
        println!("skipped: this machine has no address but loopback");
        return;
    };
    let proxy = proxy(&["discard:".to_owned()], |args| {
        args.web_listen_address = Some(([0, 0, 0, 0], 0).into());
    })
    .await;
    let admin = std::net::SocketAddr::new(own, proxy.admin.port());
    for path in ["/", "/api/v1/status", "/api/v1/page"] {
        let reply = get(admin, path).await;
        assert_eq!(reply.status, 403, "{path}");
        assert!(
            reply.body.contains("kubectl port-forward"),
            "{}",
            reply.body
        );
        assert_eq!(reply.body.trim_end().lines().count(), 1, "one sentence");
    }
    for path in ["/-/healthy", "/-/ready", "/metrics", "/health"] {
        assert_eq!(get(admin, path).await.status, 200, "{path}");
    }
    let told = program(vec!["--url".to_owned(), admin.to_string()]).await;
    assert_eq!(told.status.code(), Some(69));
    assert!(
        text(&told.stderr).contains("kubectl port-forward"),
        "{told:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_queue_is_told_and_a_limit_of_a_receiver_is_named() {
    let (limited, fine) = (sink(failing(429)), sink(Behaviour::default()));
    let yaml = format!(
        "ack: memory\nremote_write:\n- {{name: limited, url: '{}', required: false, queue_config: {{max_backoff: 100ms}}}}\n\
         - {{name: fine, url: '{}', queue_config: {{batch_send_deadline: 10ms}}}}\n- {{name: none, url: 'discard:', required: false}}\n",
        limited.url(),
        fine.url()
    );
    let proxy = configured(&yaml, |_| ()).await;
    assert_eq!(good("x").send(proxy.data).await.status, 204);
    let status = until(&proxy, "the limit is told", |status| {
        status["verdict"]["text"].as_str().unwrap().contains("429")
    })
    .await;
    assert_eq!(status["verdict"]["level"], "attention", "{status:#}");
    let names: Vec<_> = status["queues"]
        .as_array()
        .unwrap()
        .iter()
        .map(|queue| queue["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["limited", "fine", "none"]);
    assert_eq!(status["queues"][2]["discards"], true);
    let page = get(proxy.admin, "/").await.body;
    for words in [
        "Queue limited (not required)",
        "Queue fine",
        "counted and thrown away",
        "429 × ",
    ] {
        assert!(page.contains(words), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_of_nobody_ends_with_69_and_names_the_flag() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let told = program(vec!["--url".to_owned(), url]).await;
    assert_eq!(told.status.code(), Some(69));
    assert!(text(&told.stderr).contains("--url"), "{told:?}");
}
