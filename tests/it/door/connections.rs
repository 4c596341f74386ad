//! Connections that do not get on (faults B1, B3, B4): they are closed, and cannot take the place of others.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::Door;
use crate::harness::LIMIT;
use crate::requests::{Connection, good};

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_dripping_connections_are_closed_and_idle_ones_kept() {
    let door = Door::configured("server: {max_connections: 3}", |_| ()).await;
    let to = door.proxy.data;
    let began = Instant::now();
    let mut idle = Connection::open(to).await;
    assert_eq!(idle.request(&good("first")).await.status, 204);
    let (mut silent, mut dripping) = (Connection::open(to).await, Connection::open(to).await);
    dripping.write(b"POST /api/v1/write HTTP/1.1\r\n").await;
    // All places are taken, by them.
    let mut late = Connection::open(to).await;
    let reply = late.reply().await;
    assert_eq!((reply.status, reply.retry_after()), (503, Some(1)));
    late.closed().await;
    assert!(
        door.proxy
            .metric("sluicegate_connections_rejected_total", &[])
            >= 1.0
    );
    silent.closed().await;
    dripping.closed().await;
    assert!(
        began.elapsed() >= Duration::from_secs(9),
        "a slow sender has its time"
    );
    let closed = door
        .proxy
        .metric("sluicegate_connections_closed_total", &["header_timeout"]);
    assert_eq!(closed, 2.0);
    // The one that has only nothing to say is still there, and there is room again.
    assert_eq!(idle.request(&good("second")).await.status, 204);
    assert_eq!(good("third").send(to).await.status, 204);
    door.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b1_a_head_that_comes_slowly_is_closed_wherever_it_begins() {
    let door = Door::open().await;
    let to = door.proxy.data;
    let began = Instant::now();
    // Its first byte comes with the last request, and then no more; or byte by byte after a while.
    let (mut stopped, mut dripping) = (Connection::open(to).await, Connection::open(to).await);
    let post = good("first");
    let bytes = [post.head(post.body.len()), post.body, b"P".to_vec()].concat();
    stopped.write(&bytes).await;
    assert_eq!(stopped.reply().await.status, 204);
    assert_eq!(dripping.request(&good("second")).await.status, 204);
    let head = good("third").head(10);
    for byte in head.iter().cycle() {
        tokio::select! {
            () = dripping.closed() => break,
            () = tokio::time::sleep(Duration::from_millis(300)) => dripping.write(&[*byte]).await,
        }
        assert!(began.elapsed() < LIMIT, "it drips for ever");
    }
    stopped.closed().await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(9), "{took:?}");
    let closed = door
        .proxy
        .metric("sluicegate_connections_closed_total", &["header_timeout"]);
    assert_eq!(closed, 2.0);
    door.proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_who_has_something_to_say_gets_in_among_many_who_have_not() {
    let door = Door::configured("server: {max_connections: 16}", |_| ()).await;
    let to = door.proxy.data;
    let mut crowd = Vec::new();
    for n in 0..16 {
        let mut connection = Connection::open(to).await;
        if n % 4 == 0 {
            let head = good("dripping").head(100_000);
            connection.write(&head).await;
        }
        crowd.push(connection);
    }
    // They have a second; until then a newcomer is told when to come again.
    let began = Instant::now();
    let mut kept = Connection::open(to).await;
    let mut first = kept.maybe(&good("first")).await;
    while first != Some(204) {
        assert!(began.elapsed() < Duration::from_secs(9), "{first:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        kept = Connection::open(to).await;
        first = kept.maybe(&good("first")).await;
    }
    // Newcomers push each other out, and not the one that works.
    for n in 0..50 {
        crowd.push(Connection::open(to).await);
        let reply = kept.request(&good(&format!("kept {n}"))).await;
        assert_eq!(reply.status, 204);
    }
    let made_way = door
        .proxy
        .metric("sluicegate_connections_closed_total", &["made_way"]);
    assert!(made_way >= 1.0, "{made_way}");
    let open = door.proxy.status.connections.open();
    assert!(open <= 17, "{open}");
    drop(crowd);
    door.proxy
        .until("they are gone", |proxy| {
            proxy.status.connections.open() <= 1
        })
        .await;
    door.still_works("B3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b4_a_sender_that_never_reads_is_closed() {
    let door = Door::open().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(door.proxy.data).await.unwrap();
    // Its answers fill what the system holds for it, and then we stop reading.
    let asks = b"GET /api/v1/write?get_vm_proto_version=1 HTTP/1.1\r\nHost: p\r\n\r\n".repeat(100);
    let flood = async { while stream.write_all(&asks).await.is_ok() {} };
    tokio::time::timeout(LIMIT, flood)
        .await
        .expect("it is closed");
    let closed = door
        .proxy
        .metric("sluicegate_connections_closed_total", &["write_timeout"]);
    assert_eq!(closed, 1.0);
    door.still_works("B4").await;
    // What was answered before is there to be read.
    let mut answers = vec![0; 64];
    assert!(stream.read(&mut answers).await.is_ok_and(|read| read > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_listener_is_not_held_by_the_silent_either() {
    let door = Door::open().await;
    let to = door.proxy.admin;
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(Connection::open(to).await);
    }
    let began = Instant::now();
    loop {
        let mut probe = Connection::open(to).await;
        probe
            .write(b"GET /-/ready HTTP/1.1\r\nHost: p\r\n\r\n")
            .await;
        if probe.maybe_reply().await == Some(200) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(9), "no probe gets in");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    crowd[0].closed().await;
}
