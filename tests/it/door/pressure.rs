//! When there is no room: senders wait, then get 503, and never an answer that makes them forget data.

use std::time::{Duration, Instant};

use sluicegate::bench::sink::{Behaviour, Down};
use sluicegate::cli::RunArgs;
use sluicegate::units::ByteSize;

use super::Door;
use crate::harness::LIMIT;
use crate::requests::{Connection, Post, Reply, V1, V2, bulky, good};

const MIB: usize = 1 << 20;

/// A log of ten mebibytes.
fn small(args: &mut RunArgs) {
    args.ack = Some("memory".to_owned());
    args.memory_limit = Some(ByteSize(32 << 20));
}

/// Fills the log until a body of `room` bytes has no room in it.
async fn fill(door: &Door, room: usize) {
    door.sink.set_behaviour(Behaviour {
        down: Some(Down::Refused),
        ..Behaviour::default()
    });
    for sent in 0..80 {
        let (held, limit) = door.proxy.log_bytes();
        if held + room as u64 > limit {
            return;
        }
        let reply = bulky(&format!("fill {sent}"), MIB / 2)
            .send(door.proxy.data)
            .await;
        assert_eq!(reply.status, 204, "{reply:?}");
    }
    panic!("the log never fills: {:?}", door.proxy.log_bytes());
}

fn is_pressure(reply: &Reply) {
    assert_eq!(reply.status, 503, "{reply:?}");
    let after = reply.retry_after().expect("a Retry-After");
    assert!((1..=5).contains(&after), "{reply:?}");
    assert!(reply.closes(), "its body was not read: {reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_makes_senders_wait_five_seconds_and_then_come_back() {
    let door = Door::with(small).await;
    fill(&door, MIB).await;
    let (refused, began) = (bulky("refused", MIB), Instant::now());
    // 2.0 gets its headers, 1.0 none; and the answer comes without the body being asked for.
    for content_type in [V1, V2] {
        let post = Post::raw(content_type, Vec::new()).with("Expect", "100-continue");
        let mut connection = Connection::open(door.proxy.data).await;
        let began = Instant::now();
        connection.write(&post.head(2 * MIB)).await;
        let reply = connection.reply().await;
        is_pressure(&reply);
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(4_900), "{took:?}");
        assert!(took < Duration::from_secs(10), "{took:?}");
        let written = (content_type == V2).then_some([0; 3]);
        assert_eq!(reply.written(), written);
        connection.closed().await;
    }
    assert_eq!(door.requests(503, "queue_full"), 2);
    assert!(began.elapsed() < LIMIT);

    // One that waits gets in as soon as there is room.
    let data = door.proxy.data;
    let waiting = tokio::spawn(async move { refused.send(data).await });
    door.proxy
        .until("it waits", |proxy| {
            proxy.status.ingest.activity.in_flight() == 1
        })
        .await;
    door.sink.set_behaviour(Behaviour::default());
    assert_eq!(waiting.await.unwrap().status, 204);
    door.proxy.drained().await;
    door.proxy.assert_sound();
    assert_eq!(door.sink.stats().duplicates, 0);
    let delivered = door.proxy.metric("sluicegate_delivered_samples_total", &[]);
    assert_eq!(delivered as u64, door.sink.stats().samples);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_the_log_enters_an_empty_one() {
    let door = Door::configured("server: {queue_wait: 100ms}", small).await;
    let huge = bulky("huge", 12 * MIB);
    assert!(huge.body.len() as u64 > door.proxy.log_bytes().1);
    door.sink.set_behaviour(Behaviour {
        down: Some(Down::Refused),
        ..Behaviour::default()
    });
    assert_eq!(good("before").send(door.proxy.data).await.status, 204);
    let reply = huge.send(door.proxy.data).await;
    is_pressure(&reply);
    door.sink.set_behaviour(Behaviour::default());
    door.proxy.drained().await;
    let reply = huge.send(door.proxy.data).await;
    assert_eq!(reply.status, 204, "{reply:?}");
    door.proxy.drained().await;
    door.proxy.assert_sound();
    assert_eq!(door.sink.stats().duplicates, 0);
    let samples = 1 + (12 * MIB).div_ceil(60_000) as u64;
    assert_eq!(door.sink.stats().samples, samples);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_a_length_cannot_overfill_the_log() {
    let door = Door::configured("server: {queue_wait: 100ms}", small).await;
    fill(&door, 2 * MIB).await;
    let (held, limit) = door.proxy.log_bytes();
    let large = bulky("chunked", 3 * MIB).with("Transfer-Encoding", "chunked");
    let mut connection = Connection::open(door.proxy.data).await;
    connection.write(&large.head(0)).await;
    connection
        .write(format!("{:x}\r\n", large.body.len()).as_bytes())
        .await;
    connection.write(&large.body).await;
    connection.write(b"\r\n0\r\n\r\n").await;
    is_pressure(&connection.reply().await);
    assert!(door.proxy.log_bytes().0 <= limit, "{held} of {limit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_wait_a_second_for_memory_and_then_come_back() {
    let door = Door::with(small).await;
    // Large bodies have one mebibyte together: this one takes all of it, and goes on coming.
    let mut hog = Connection::open(door.proxy.data).await;
    let all = Post::raw(V1, Vec::new());
    hog.write(&all.head(20 * MIB)).await;
    hog.write(&vec![0; MIB / 2]).await;
    door.proxy
        .until("all memory is lent", |proxy| {
            proxy.status.ingest.bodies.lent() == 1 << 20
        })
        .await;
    let hog = tokio::spawn(async move {
        for _ in 0..200 {
            hog.write(&vec![0; 64 << 10]).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let began = Instant::now();
    let reply = bulky("next", MIB / 2).send(door.proxy.data).await;
    is_pressure(&reply);
    assert!(began.elapsed() >= Duration::from_millis(900));
    assert_eq!(door.requests(503, "memory"), 1);
    // One of the usual size does not wait for it.
    assert_eq!(good("meanwhile").send(door.proxy.data).await.status, 204);
    hog.abort();
    door.proxy
        .until("it comes back", |proxy| {
            proxy.status.ingest.bodies.lent() == 0
        })
        .await;
    assert_eq!(good("next").send(door.proxy.data).await.status, 204);
    door.proxy.drained().await;
    assert_eq!(door.sink.stats().samples, 2, "nothing of what broke off");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_records_stay_within_the_budget_too() {
    let door = Door::with(small).await;
    fill(&door, MIB).await;
    let held = door.proxy.metric("sluicegate_memory_reserved_bytes", &[]);
    let of = |part| {
        door.proxy
            .metric("sluicegate_memory_reserved_bytes", &[part])
    };
    let budget = f64::from(32 << 20);
    let series = of("\"series\"");
    assert!(held <= budget, "{held} of {budget}, series {series}");
    // A sixteenth, and what comes in between two looks: a mebibyte and one record.
    assert!(series <= budget / 16.0 + 2e6, "{series}");
}
