//! Several queues: those that are required hold an answer, the others never do.

use std::time::{Duration, Instant};

use prost::Message as _;
use sluicegate::bench::sink::{Behaviour, SinkHandle};
use sluicegate::cli::RunArgs;
use sluicegate::units::ByteSize;

use super::{down, dropped, hanging, hangs, hundred, narrow, not_settled, reply, sending, sink};
use crate::harness::{LIMIT, Proxy, configured, proxy};
use crate::requests::{Post, V2, bulky, many, v2};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_waits_for_every_required_queue() {
    let (fast, slow) = (sink(), sink());
    let upstreams = [
        format!("fast={}", fast.url()),
        format!("slow={}", slow.url()),
    ];
    let proxy = proxy(&upstreams, |_| ()).await;
    slow.set_behaviour(hanging());
    let answer = sending(&proxy, &hundred("both"));
    hangs(&slow, slow.stats().hanging.max(1)).await;
    let stored = fast.wait_until(LIMIT, |stats| stats.samples == 100);
    stored.await.expect("one has it");
    proxy
        .until("one queue has settled it", |proxy| {
            proxy.queues[0].is_idle()
        })
        .await;
    assert!(!answer.is_finished(), "the other has not");
    slow.set_behaviour(Behaviour::default());
    let reply = reply(answer).await;
    assert_eq!((reply.status, reply.written()), (204, Some([100, 0, 0])));
    assert_eq!((fast.stats().samples, slow.stats().samples), (100, 100));
    assert_eq!(proxy.pending(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_required_queue_holds_the_answer_and_a_live_one_gets_nothing_twice() {
    let (alive, dead) = (sink(), sink());
    dead.set_behaviour(down());
    let yaml = narrow(&[("alive", &alive, true), ("dead", &dead, true)]);
    let proxy = configured(&yaml, |_| ()).await;
    let post = hundred("dead");
    not_settled(&post.send(proxy.data).await);
    not_settled(&post.send(proxy.data).await);
    dead.set_behaviour(Behaviour::default());
    let reply = post.send(proxy.data).await;
    assert_eq!((reply.status, reply.written()), (204, Some([100, 0, 0])));
    for sink in [&alive, &dead] {
        let stats = sink.stats();
        assert_eq!((stats.samples, stats.duplicates), (100, 0), "{stats:?}");
    }
    proxy.assert_sound();
}

fn small(args: &mut RunArgs) {
    args.memory_limit = Some(ByteSize(32 << 20));
}

/// A live queue, and a dead one that is not required, after more than the log can hold.
async fn overfilled(alive: &SinkHandle, dead: &SinkHandle) -> (Proxy, u64) {
    dead.set_behaviour(down());
    let yaml = format!(
        "remote_write: [{{name: alive, url: '{}'}}, {{name: dead, url: '{}', required: false}}]",
        alive.url(),
        dead.url()
    );
    let proxy = configured(&yaml, small).await;
    let began = Instant::now();
    let post = Post::new(V2, &v2(&many("first", 10)).encode_to_vec());
    let reply = post.send(proxy.data).await;
    assert_eq!((reply.status, reply.written()), (204, Some([10, 0, 0])));
    assert!(began.elapsed() < Duration::from_secs(5));
    let mut sent = 10;
    for number in 0..70 {
        let reply = bulky(&format!("n{number}"), 600_000).send(proxy.data).await;
        assert_eq!(reply.status, 204, "{number}: {reply:?}");
        sent += 10;
        proxy.assert_sound();
    }
    let (held, limit) = proxy.log_bytes();
    assert!(held <= limit, "{held} of {limit}");
    (proxy, sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_not_required_delays_nobody_and_gives_up_its_oldest() {
    let (alive, dead) = (sink(), sink());
    let (proxy, sent) = overfilled(&alive, &dead).await;
    dead.set_behaviour(Behaviour::default());
    proxy.drained().await;
    let given_up = dropped(&proxy, &["\"log_full\"", "\"dead\""]);
    assert!(given_up > 0 && given_up < sent, "{}", proxy.books());
    assert_eq!(dropped(&proxy, &["\"alive\""]), 0);
    assert_eq!(alive.stats().samples, sent);
    assert_eq!(dead.stats().samples, sent - given_up);
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_queue_gives_up_is_counted_as_it_happens() {
    let (alive, dead) = (sink(), sink());
    let (proxy, _) = overfilled(&alive, &dead).await;
    let given_up = dropped(&proxy, &["\"log_full\"", "\"dead\""]);
    assert!(given_up > 0, "{}", proxy.books());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_at_once_when_no_queue_is_required() {
    let sink = sink();
    sink.set_behaviour(down());
    let proxy = configured(&narrow(&[("only", &sink, false)]), |_| ()).await;
    let reply = hundred("optional").send(proxy.data).await;
    assert_eq!((reply.status, reply.written()), (204, Some([100, 0, 0])));
    assert_eq!(proxy.pending(), 100);
    sink.set_behaviour(Behaviour::default());
    proxy.drained().await;
    assert_eq!(sink.stats().samples, 100);
}
