//! All the rows B1-B12 at once, beside good traffic, from one place: what a pod that has gone mad, or one that
//! somebody has taken over, can do with a few hundred connections and a few hundred bad requests a second.
//!
//! The short test checks that good requests are acknowledged and nothing else is stored. The long one
//! measures what they wait:
//!
//! ```text
//! cargo test --release --test it door::attack -- --ignored --nocapture
//! ```
//!
//! `SLUICEGATE_DOOR_PAIRS` (5), `SLUICEGATE_DOOR_SECONDS` (20), `SLUICEGATE_DOOR_ACK` (memory).

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use sluicegate::bench::sink::{Sink, SinkOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::Door;
use crate::requests::{Connection, Post, V1, good};
use crate::stopping::program::Program;

/// A row of the catalogue, and how much of it.
struct Row {
    name: &'static str,
    /// Connections held at a time; one that is closed is opened again after a moment.
    held: usize,
    /// Requests or connections a second.
    rate: u32,
}

const fn held(name: &'static str, held: usize) -> Row {
    Row {
        name,
        held,
        rate: 0,
    }
}

const fn a_second(name: &'static str, rate: u32) -> Row {
    Row {
        name,
        held: 0,
        rate,
    }
}

/// What one pod does: 650 connections held, and 310 bad requests a second on connections of their own.
const ROWS: &[Row] = &[
    held("B1 silent", 100),
    held("B1 dripping head", 100),
    held("B2 dripping body", 100),
    held("B2 dripping chunks", 50),
    held("B3 idle", 295),
    held("B4 never reads", 5),
    a_second("B3 comes and goes", 50),
    a_second("B5 framing", 100),
    a_second("B6 pipelined", 20),
    a_second("B7 HTTP/2", 20),
    a_second("B8 expects, sends nothing", 20),
    a_second("B9 headers", 10),
    a_second("B10 path", 20),
    a_second("B11 breaks off", 50),
    a_second("B12 does not wait", 20),
];

/// The attack, until it is dropped.
struct Attack {
    tasks: JoinSet<()>,
    opened: Arc<AtomicU64>,
}

impl Attack {
    fn begin(to: SocketAddr) -> Self {
        let opened = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for row in ROWS {
            for _ in 0..row.held {
                let opened = Arc::clone(&opened);
                tasks.spawn(async move {
                    // Not all in one moment.
                    sleep(Duration::from_millis(fastrand::u64(0..1_000))).await;
                    loop {
                        opened.fetch_add(1, Ordering::Relaxed);
                        hold(row.name, to).await;
                        sleep(Duration::from_millis(500)).await;
                    }
                });
            }
            if row.rate > 0 {
                let opened = Arc::clone(&opened);
                tasks.spawn(async move {
                    let mut ticks = interval(Duration::from_secs(1) / row.rate);
                    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    let mut under_way = JoinSet::new();
                    for n in 0.. {
                        ticks.tick().await;
                        opened.fetch_add(1, Ordering::Relaxed);
                        under_way.spawn(once(row.name, n, to));
                        while under_way.try_join_next().is_some() {}
                    }
                });
            }
        }
        Self { tasks, opened }
    }

    async fn end(mut self) -> u64 {
        self.tasks.shutdown().await;
        self.opened.load(Ordering::Relaxed)
    }
}

/// Holds a connection until it is closed.
async fn hold(row: &str, to: SocketAddr) {
    if row == "B4 never reads" {
        return never_read(to).await;
    }
    let Ok(mut stream) = TcpStream::connect(to).await else {
        return;
    };
    let (begin, drop): (Vec<u8>, &[u8]) = match row {
        "B1 silent" => (Vec::new(), b""),
        "B1 dripping head" => (b"POST /api/v1/write HTTP/1.1\r\nX: ".to_vec(), b"x"),
        "B2 dripping body" => (Post::raw(V1, Vec::new()).head(1 << 20), b"x"),
        "B2 dripping chunks" => {
            let post = Post::raw(V1, Vec::new()).with("Transfer-Encoding", "chunked");
            (post.head(0), b"1\r\nx\r\n")
        }
        // Prometheus sends an empty body now and then: it is no error.
        "B3 idle" => (Post::raw(V1, Vec::new()).head(0), b""),
        other => panic!("no such row: {other}"),
    };
    if stream.write_all(&begin).await.is_err() {
        return;
    }
    let mut answer = [0; 512];
    loop {
        match timeout(Duration::from_secs(1), stream.read(&mut answer)).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) => {}
            Err(_) if stream.write_all(drop).await.is_err() => return,
            Err(_) => {}
        }
    }
}

async fn never_read(to: SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let Ok(mut stream) = socket.connect(to).await else {
        return;
    };
    let asks = b"GET /api/v1/write?get_vm_proto_version=1 HTTP/1.1\r\nHost: p\r\n\r\n".repeat(10);
    // Ten thousand a second until nothing is taken any more: it is about the buffers, not the rate.
    while stream.write_all(&asks).await.is_ok() {
        sleep(Duration::from_millis(1)).await;
    }
}

/// One bad request on a connection of its own, and its answer if there is one.
async fn once(row: &str, n: u64, to: SocketAddr) {
    let post = Post::raw(V1, vec![0xff; 2_000]);
    let whole = |post: &Post| [post.head(post.body.len()), post.body.clone()].concat();
    let (bytes, waits): (Vec<u8>, bool) = match row {
        "B3 comes and goes" => (Vec::new(), false),
        "B5 framing" => (framing(n), true),
        "B6 pipelined" => (whole(&post.clone().at("/nowhere")).repeat(10), true),
        "B7 HTTP/2" => {
            let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            ([preface, ping.repeat(100)].concat(), true)
        }
        "B8 expects, sends nothing" => (post.with("Expect", "100-continue").head(100_000), true),
        "B9 headers" => {
            let lines: Vec<_> = (0..10_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
            let lines = lines.concat();
            let head = format!("POST /api/v1/write HTTP/1.1\r\n{lines}\r\n");
            (head.into_bytes(), true)
        }
        "B10 path" => (whole(&post.at("//evil/..%2fapi/v1/write")), true),
        "B11 breaks off" => (post.head(100_000), false),
        "B12 does not wait" => (whole(&good(&format!("B12 {n}"))), false),
        other => panic!("no such row: {other}"),
    };
    let Ok(mut stream) = TcpStream::connect(to).await else {
        return;
    };
    if stream.write_all(&bytes).await.is_err() || !waits {
        return;
    }
    let mut answer = [0; 4096];
    let end = async { while stream.read(&mut answer).await.is_ok_and(|read| read > 0) {} };
    timeout(Duration::from_secs(5), end).await.ok();
}

/// The `n`th of the requests whose end is not clear.
fn framing(n: u64) -> Vec<u8> {
    const LINES: [&str; 8] = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 4",
        "Transfer-Encoding: xchunked",
        "Content-Length: +4",
        "Content-Length : 4",
        "X: a\r\n b\r\nContent-Length: 4",
        "X: a\0b\r\nContent-Length: 4",
    ];
    let lines = LINES[n as usize % LINES.len()];
    format!(
        "POST /api/v1/write HTTP/1.1\r\nHost: p\r\nContent-Type: {V1}\r\n{lines}\r\n\r\n0\r\n\r\n"
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn good_requests_are_acknowledged_under_all_rows_at_once() {
    // Fewer places than the attack wants: it has to push itself out.
    let door = Door::configured("server: {max_connections: 500}", |_| ()).await;
    let attack = Attack::begin(door.proxy.data);
    door.proxy
        .until("it is crowded", |proxy| {
            proxy.status.connections.open() >= 400
        })
        .await;
    let mut kept = Connection::open(door.proxy.data).await;
    let mut acknowledged = 0;
    for n in 0..200 {
        let post = good(&format!("good {n}"));
        // A new connection may find all places taken by those that have just come; then it comes again.
        while kept.maybe(&post).await != Some(204) {
            kept = Connection::open(door.proxy.data).await;
        }
        acknowledged += 1;
        sleep(Duration::from_millis(10)).await;
    }
    assert!(attack.end().await > 500);
    door.proxy.drained().await;
    door.proxy.assert_sound();
    let stats = door.sink.stats();
    assert!(stats.samples >= acknowledged, "{stats:?}");
    assert_eq!(stats.samples, door.proxy.received(), "all that came in");
    for (reason, least) in [("framing", 50), ("headers", 1), ("path", 10)] {
        let reason = format!("reason=\"{reason}\"");
        let refused = door.proxy.metric("sluicegate_requests_total", &[&reason]);
        assert!(refused as u64 >= least, "{reason}: {refused}");
    }
    let closed = "sluicegate_connections_closed_total";
    assert!(door.proxy.metric(closed, &["made_way"]) > 0.0);
}

fn setting(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

/// A moderate load for so long: its report.
async fn load(to: SocketAddr, seconds: u64, seed: u64) -> Value {
    let (url, seconds) = (format!("http://{to}/api/v1/write"), format!("{seconds}s"));
    let flags = [
        "bench",
        "load",
        "--url",
        &url,
        "--duration",
        &seconds,
        "--nodes",
        "50",
        "--speed",
        "10x",
        "--senders",
        "4",
        "--max-samples-per-send",
        "500",
        "--output",
        "json",
    ];
    let seed = seed.to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command
        .args(flags)
        .args(["--seed", &seed])
        .stderr(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().expect("it starts");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("a report")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures for some minutes; wants a release build and a quiet machine"]
async fn what_good_traffic_waits_alone_and_under_attack() {
    let pairs: u64 = setting("SLUICEGATE_DOOR_PAIRS", "5").parse().unwrap();
    let seconds: u64 = setting("SLUICEGATE_DOOR_SECONDS", "20").parse().unwrap();
    let ack = setting("SLUICEGATE_DOOR_ACK", "memory");
    sluicegate::listen::descriptors::raise();
    let sink = Sink::start(SinkOptions::default()).expect("it listens");
    let (url, folder) = (sink.url(), tempfile::tempdir().unwrap());
    let mut flags = vec!["--upstream", &url, "--ack", &ack];
    if ack == "fsync" {
        flags.extend(["--storage.path", folder.path().to_str().unwrap()]);
    }
    let program = Program::start(&flags);
    // Code and tables are paged in, and the first seconds of a process are nobody's measure.
    load(program.data, 5, 1_000).await;
    let mut seen: [Vec<[f64; 2]>; 2] = [Vec::new(), Vec::new()];
    println!("ack {ack}, {pairs} pairs of {seconds} s");
    println!("pair | alone: p50, p99 ms | under attack: p50, p99 ms | requests | without answer");
    for pair in 0..pairs {
        let mut line = format!("{pair:4} |");
        let mut told = String::new();
        for (under, seen) in [false, true].into_iter().zip(&mut seen) {
            let attack = under.then(|| Attack::begin(program.data));
            if under {
                // The held connections are there.
                sleep(Duration::from_secs(2)).await;
            }
            let report = load(program.data, seconds, 2 * pair + u64::from(under)).await;
            let opened = match attack {
                Some(attack) => attack.end().await,
                None => 0,
            };
            let of = |name: &str| report["latency"][name].as_f64().expect("a number");
            let both = [of("p50_ms"), of("p99_ms")];
            line += &format!(" {:.2}, {:.2} |", both[0], both[1]);
            told = format!(
                "{} | {} | attack opened {opened}",
                report["requests"], report["samples"]
            );
            seen.push(both);
            // What the attack left is closed before the next.
            sleep(Duration::from_secs(2)).await;
        }
        println!("{line} {told}");
    }
    for (quantile, name) in ["p50", "p99"].into_iter().enumerate() {
        let [alone, under] = [0, 1].map(|kind| {
            let all = seen[kind].iter().map(|both| both[quantile]);
            median(all.collect())
        });
        let ratio = under / alone;
        println!(
            "median {name}: {alone:.2} ms alone, {under:.2} ms under attack: {ratio:.2} times"
        );
    }
}
