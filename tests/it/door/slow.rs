//! Bodies that do not come (faults B2, B8, B11, B12): they are given up without an answer, hold next to
//! nothing meanwhile, and are not in the way of those that come.

use std::time::{Duration, Instant};

use sluicegate::bench::sink::{Behaviour, Hang, When};
use sluicegate::cli::RunArgs;
use sluicegate::units::ByteSize;

use super::Door;
use crate::harness::LIMIT;
use crate::requests::{Connection, Post, V1, good};

const CLOSED: &str = "sluicegate_connections_closed_total";
const ABORTED: &str = "sluicegate_requests_aborted_total";

impl Door {
    fn closed(&self, reason: &str) -> f64 {
        let reason = format!("reason=\"{reason}\"");
        self.proxy.metric(CLOSED, &[&reason])
    }

    fn aborted(&self, missing: &str) -> f64 {
        let missing = format!("missing=\"{missing}\"");
        self.proxy.metric(ABORTED, &[&missing])
    }

    /// Nothing is held for any request.
    async fn holds_nothing(&self) {
        let empty = |proxy: &crate::harness::Proxy| {
            proxy.status.ingest.bodies.lent() == 0
                && proxy.status.ingest.activity.in_flight() == 0
                && proxy.log_bytes().0 == 0
        };
        self.proxy.until("nothing is held", empty).await;
    }
}

fn small(args: &mut RunArgs) {
    args.ack = Some("memory".to_owned());
    args.memory_limit = Some(ByteSize(32 << 20));
}

/// Opens a connection and sends a head that says so many bytes will follow.
async fn announced(door: &Door, bytes: usize) -> Connection {
    let mut connection = Connection::open(door.proxy.data).await;
    let head = Post::raw(V1, Vec::new()).head(bytes);
    connection.write(&head).await;
    connection
}

/// Sends pieces, one each `pause`, until the other side has closed; how long that took.
async fn drip(mut connection: Connection, piece: Vec<u8>, pause: Duration) -> Duration {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        tokio::select! {
            () = connection.closed() => return began.elapsed(),
            () = tokio::time::sleep(pause) => connection.write(&piece).await,
        }
    }
    panic!("it is never closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_a_dripping_body_is_closed_without_an_answer() {
    let door = Door::open().await;
    let pause = Duration::from_millis(200);
    let sized = announced(&door, 100_000).await;
    let mut chunked = Connection::open(door.proxy.data).await;
    let head = Post::raw(V1, Vec::new()).with("Transfer-Encoding", "chunked");
    chunked.write(&head.head(0)).await;
    let silent = announced(&door, 100_000).await;
    let (sized, chunked, silent) = tokio::join!(
        drip(sized, vec![1], pause),
        drip(chunked, b"1\r\nx\r\n".to_vec(), pause),
        drip(silent, Vec::new(), pause),
    );
    for took in [sized, chunked, silent] {
        assert!(took >= Duration::from_millis(4_900), "it has its time");
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
    assert_eq!(door.closed("body_rate"), 3.0);
    assert_eq!(door.aborted("body"), 3.0);
    assert_eq!(door.proxy.metric("sluicegate_requests_total", &[]), 0.0);
    door.holds_nothing().await;
    door.still_works("B2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_a_slow_body_has_25_seconds() {
    let door = Door::open().await;
    let connection = announced(&door, 1 << 20).await;
    let took = drip(connection, vec![1; 2_000], Duration::from_millis(200)).await;
    assert!(took >= Duration::from_millis(24_500), "{took:?}");
    assert!(took < Duration::from_secs(30), "Prometheus gives up then");
    assert_eq!(door.closed("body_timeout"), 1.0);
    door.holds_nothing().await;
    door.still_works("B2, slow").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_who_says_much_and_sends_little_locks_nobody_out() {
    let door = Door::with(small).await;
    // Each says two mebibytes: all that bodies have. Together ten times what the log has.
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut connection = announced(&door, 2 << 20).await;
        connection.write(&[0; 1_000]).await;
        slow.push(connection);
    }
    let mut chunked = Connection::open(door.proxy.data).await;
    let endless = Post::raw(V1, Vec::new()).with("Transfer-Encoding", "chunked");
    chunked.write(&endless.head(0)).await;
    door.proxy
        .until("all are at it", |proxy| {
            proxy.status.ingest.activity.in_flight() == 51
        })
        .await;
    for n in 0..20 {
        let began = Instant::now();
        let reply = good(&format!("good {n}")).send(door.proxy.data).await;
        assert_eq!(reply.status, 204, "{reply:?}");
        assert!(began.elapsed() < Duration::from_secs(1), "it did not wait");
    }
    let lent = door.proxy.status.ingest.bodies.lent();
    assert!(lent <= 51 * (8 << 10), "{lent}");
    let (held, limit) = door.proxy.log_bytes();
    assert!(held < limit / 2, "{held} of {limit}");
    drop((slow, chunked));
    door.holds_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_who_stops_halfway_makes_way_for_who_waits_for_memory() {
    let door = Door::with(small).await;
    // Bodies of the usual size have one mebibyte.
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut connection = announced(&door, 256 << 10).await;
        connection.write(&vec![0; (256 << 10) - 1]).await;
        slow.push(connection);
    }
    door.proxy
        .until("all memory is lent", |proxy| {
            proxy.status.ingest.bodies.lent() == 1 << 20
        })
        .await;
    let reply = good("good").send(door.proxy.data).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    assert!(door.closed("body_pressure") >= 1.0);
    assert_eq!(door.requests(503, "memory"), 0);
    drop(slow);
    door.holds_nothing().await;
    assert_eq!(door.sink.stats().samples, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn b8_a_body_is_asked_for_only_when_it_is_wanted() {
    let door = Door::open().await;
    let expecting = |post: Post| post.with("Expect", "100-continue");
    let post = expecting(good("B8"));
    let mut connection = Connection::open(door.proxy.data).await;
    for _ in 0..2 {
        connection.write(&post.head(post.body.len())).await;
        assert_eq!(connection.reply().await.status, 100);
        let held = door.proxy.log_bytes().0;
        assert!(held as usize > post.body.len(), "there is room for it");
        assert!(door.proxy.status.ingest.bodies.lent() > 0, "and memory");
        connection.write(&post.body).await;
        assert_eq!(connection.reply().await.status, 204);
    }
    for (post, length, status) in [
        (good("path").at("/nowhere"), 10, 404),
        (good("type").with("Content-Type", "a/b"), 10, 415),
        (good("size"), 1 << 30, 413),
    ] {
        let mut connection = Connection::open(door.proxy.data).await;
        connection.write(&expecting(post).head(length)).await;
        assert_eq!(connection.reply().await.status, status, "and no 100");
        connection.closed().await;
    }
    // The pressure tests have the 503.
}

#[tokio::test(flavor = "multi_thread")]
async fn b11_a_body_that_breaks_off_leaves_nothing() {
    let door = Door::open().await;
    let post = good("B11");
    let half = post.body.len() / 2;
    let chunked = post.clone().with("Transfer-Encoding", "chunked");
    let piece = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes].concat();
    let attempts = [
        post.head(post.body.len()),
        [&post.head(post.body.len()), &post.body[..half]].concat(),
        [
            &post.head(post.body.len()),
            &post.body[..post.body.len() - 1],
        ]
        .concat(),
        chunked.head(0),
        // All of the body is there, but not its end.
        [chunked.head(0), piece(&post.body)].concat(),
        [chunked.head(0), piece(&post.body), b"\r\n0\r\n".to_vec()].concat(),
    ];
    for (n, bytes) in attempts.iter().enumerate() {
        let mut connection = Connection::open(door.proxy.data).await;
        connection.write(bytes).await;
        drop(connection);
        door.proxy
            .until("it is counted", |_| door.aborted("body") == n as f64 + 1.0)
            .await;
    }
    assert_eq!(door.proxy.received(), 0);
    door.holds_nothing().await;
    door.still_works("B11").await;
    assert_eq!(door.requests(204, ""), 1, "and nothing was answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn b12_what_was_admitted_is_delivered_though_its_sender_hung_up() {
    let door = Door::open().await;
    let hang = Hang {
        series: None,
        time: None,
        when: When::BeforeStoring,
    };
    door.sink.set_behaviour(Behaviour {
        hang: Some(hang),
        ..Behaviour::default()
    });
    let post = good("B12");
    let bytes = [post.head(post.body.len()), post.body].concat();
    let mut connection = Connection::open(door.proxy.data).await;
    connection.write(&bytes).await;
    door.proxy
        .until("it is admitted", |proxy| proxy.received() == 1)
        .await;
    drop(connection);
    door.proxy
        .until("it is counted", |_| door.aborted("answer") == 1.0)
        .await;
    door.sink.set_behaviour(Behaviour::default());
    door.proxy.drained().await;
    assert_eq!(door.sink.stats().samples, 1);
    door.holds_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b12_the_durable_write_is_finished_though_the_sender_hung_up() {
    let folder = tempfile::tempdir().unwrap();
    let door = Door::with(|args| args.storage_path = Some(folder.path().to_owned())).await;
    for n in 0..20 {
        let post = good(&format!("B12 {n}"));
        let mut connection = Connection::open(door.proxy.data).await;
        connection
            .write(&[post.head(post.body.len()), post.body].concat())
            .await;
        // At some the body is decoded, at some the sync has begun.
        tokio::time::sleep(Duration::from_millis(n % 5)).await;
        drop(connection);
    }
    door.proxy
        .until("no request is under way", |proxy| {
            proxy.status.ingest.activity.in_flight() == 0
        })
        .await;
    door.proxy.drained().await;
    let ended = door.aborted("body") + door.aborted("answer") + door.requests(204, "") as f64;
    // What the kernel had not handed over when the sender left was no request.
    assert!(ended <= 20.0, "{ended}");
    let stored = door.sink.stats().samples;
    let admitted = door.proxy.received();
    assert_eq!(stored, admitted, "what is in the log is delivered");
    assert!(
        stored as f64 >= 20.0 - door.aborted("body"),
        "{stored} of 20, {} broke off in the body",
        door.aborted("body")
    );
    door.proxy.assert_sound();
    assert_eq!(door.sink.stats().duplicates, 0);
    door.proxy.stop().await;
}
