//! Connections that do not get on (faults B1-B4, B6): they are closed, and cannot take the place of others.

use std::time::{Duration, Instant};

use super::Door;
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
