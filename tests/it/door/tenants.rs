//! Tenants: their headers travel on, and they share neither a batch nor a fate.

use sluicegate::bench::sink::{Behaviour, Down, Sink, SinkHandle, SinkOptions};
use sluicegate::cli::RunArgs;
use sluicegate::units::{ByteSize, Span};

use crate::harness::{Proxy, configured, proxy};
use crate::requests::{Post, V1, bulky, labels, series, v1};

fn sink() -> SinkHandle {
    let options = SinkOptions {
        tenant_headers: vec!["X-Scope-OrgID".to_owned(), "THANOS-TENANT".to_owned()],
        tenant_label: Some("tenant".to_owned()),
        ..SinkOptions::default()
    };
    Sink::start(options).expect("the sink listens")
}

/// Ten series that say whose they are.
fn of(tenant: &str, time: i64) -> Post {
    let one = |n: usize| {
        let labels = labels("t", &[("n", &n.to_string()), ("tenant", tenant)]);
        series(labels, &[(time, 1.0)])
    };
    Post::new(V1, &v1((0..10).map(one).collect()))
}

#[tokio::test(flavor = "multi_thread")]
async fn tenants_never_share_a_batch_and_their_headers_arrive() {
    let sink = sink();
    let proxy = proxy(&[sink.url()], |args| {
        args.ack = Some("memory".to_owned());
        // Time for them to meet, if they would.
        args.queue.batch_send_deadline = Some(Span(std::time::Duration::from_millis(300)));
    })
    .await;
    for time in 0..5 {
        for (header, tenant) in [
            ("X-Scope-OrgID", "red"),
            ("x-scope-orgid", "blue"),
            ("THANOS-TENANT", "green"),
        ] {
            let post = of(tenant, time).with(header, tenant);
            assert_eq!(post.send(proxy.data).await.status, 204);
        }
        let reply = of("", time).send(proxy.data).await;
        assert_eq!(reply.status, 204);
    }
    proxy.drained().await;
    let stats = sink.stats();
    assert_eq!(stats.foreign_tenant_series, 0, "{stats:?}");
    for tenant in ["red", "blue", "green"] {
        assert_eq!(stats.tenants[tenant], 50, "{stats:?}");
    }
    assert_eq!((stats.samples, stats.series), (200, 40), "{stats:?}");
    assert!(stats.stored_requests < 20, "they merge by themselves");
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn other_headers_separate_where_the_configuration_says_so() {
    let sink = sink();
    let yaml = format!(
        "server: {{tenant_headers: [X-Team]}}\nremote_write: [{{url: '{}'}}]",
        sink.url()
    );
    let proxy = configured(&yaml, |_| ()).await;
    let reply = of("", 1)
        .with("X-Scope-OrgID", "red")
        .send(proxy.data)
        .await;
    assert_eq!(reply.status, 204);
    let stats = sink.stats();
    assert!(stats.tenants.is_empty(), "not passed on: {stats:?}");
    assert_eq!(stats.samples, 10);
}

fn crowded(args: &mut RunArgs) {
    args.ack = Some("memory".to_owned());
    args.memory_limit = Some(ByteSize(32 << 20));
}

async fn send(proxy: &Proxy, tenant: &str, mark: usize) -> u16 {
    let post = bulky(&format!("{tenant}{mark}"), 500_000).with("X-Scope-OrgID", tenant);
    post.send(proxy.data).await.status
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_log_that_is_80_percent_full_only_the_tenant_that_fills_it_waits() {
    let sink = sink();
    sink.set_behaviour(Behaviour {
        down: Some(Down::Refused),
        ..Behaviour::default()
    });
    let yaml = format!(
        "server: {{queue_wait: 200ms}}\nremote_write: [{{url: '{}'}}]",
        sink.url()
    );
    let proxy = configured(&yaml, crowded).await;
    assert_eq!(send(&proxy, "small", 0).await, 204);
    let mut hog = 0;
    while send(&proxy, "hog", hog).await == 204 {
        hog += 1;
        assert!(hog < 40, "never refused: {:?}", proxy.log_bytes());
    }
    let (held, limit) = proxy.log_bytes();
    assert!(held * 10 >= limit * 8, "refused early: {held} of {limit}");
    assert!(held + 520_000 < limit, "refused for want of room");
    assert_eq!(send(&proxy, "small", 1).await, 204, "the other one gets in");
    assert_eq!(send(&proxy, "new", 0).await, 204, "and so does a third");
    assert_eq!(send(&proxy, "hog", 99).await, 503);
    sink.set_behaviour(Behaviour::default());
    proxy.drained().await;
    assert_eq!(send(&proxy, "hog", 100).await, 204);
    proxy.drained().await;
    proxy.assert_sound();
}
