//! What an answer means: with `--ack upstream` that every required receiver has it, and nothing comes
//! twice because a sender had to ask again.

mod queues;

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message as _;
use sluicegate::bench::sink::{
    Behaviour, Down, Hang, Keep, Refuse, SeriesMatch, Sink, SinkHandle, SinkOptions, When,
};
use sluicegate::ingest::attach::ORPHAN_FOR;
use tokio::task::JoinHandle;

use crate::harness::{LIMIT, Proxy, configured, proxy};
use crate::requests::{Connection, Post, Reply, V1, V2, many, v1, v2};

fn sink() -> SinkHandle {
    Sink::start(SinkOptions::default()).expect("the sink listens")
}

fn down() -> Behaviour {
    Behaviour {
        down: Some(Down::Refused),
        ..Behaviour::default()
    }
}

/// Requests that come now hang until the behaviour changes.
fn hanging() -> Behaviour {
    Behaviour {
        hang: Some(Hang {
            series: None,
            time: None,
            when: When::BeforeStoring,
        }),
        ..Behaviour::default()
    }
}

async fn hangs(sink: &SinkHandle, requests: u64) {
    let waited = sink.wait_until(LIMIT, |stats| stats.hanging == requests);
    waited.await.expect("so many requests hang");
}

/// Sends it meanwhile.
fn sending(proxy: &Proxy, post: &Post) -> JoinHandle<Reply> {
    let (post, to) = (post.clone(), proxy.data);
    tokio::spawn(async move { post.send(to).await })
}

async fn reply(sending: JoinHandle<Reply>) -> Reply {
    sending.await.expect("the request does not panic")
}

fn attached(proxy: &Proxy, to: &str) -> u64 {
    proxy.metric(
        "sluicegate_attached_requests_total",
        &[&format!("\"{to}\"")],
    ) as u64
}

fn dropped(proxy: &Proxy, labels: &[&str]) -> u64 {
    proxy.metric("sluicegate_dropped_samples_total", labels) as u64
}

fn not_settled(reply: &Reply) {
    assert_eq!(reply.status, 503, "{reply:?}");
    let after = reply.retry_after().expect("a Retry-After");
    assert!((1..=5).contains(&after), "{reply:?}");
}

/// One request at a time, of ten elements, and a second until a sender is told to come back.
fn narrow(sinks: &[(&str, &SinkHandle, bool)]) -> String {
    let mut yaml = "server: {upstream_answer_deadline: 1s}\nremote_write:\n".to_owned();
    for (name, sink, required) in sinks {
        let entry = format!(
            "- {{name: {name}, url: '{}', required: {required}, queue_config: {{min_shards: 1, \
             max_shards: 1, capacity: 1000, max_samples_per_send: 10, max_backoff: 100ms}}}}\n",
            sink.url()
        );
        yaml.push_str(&entry);
    }
    yaml
}

/// A hundred series in many lanes.
fn hundred(mark: &str) -> Post {
    Post::new(V2, &v2(&many(mark, 100)).encode_to_vec())
}

/// A proxy whose sender was told to come back while ten of its hundred elements are on the way.
async fn withdrawn(sink: &SinkHandle) -> Proxy {
    sink.set_behaviour(hanging());
    let proxy = configured(&narrow(&[("only", sink, true)]), |_| ()).await;
    let began = Instant::now();
    let told = hundred("orphan").send(proxy.data).await;
    not_settled(&told);
    assert_eq!(told.written(), Some([0; 3]));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(950), "{took:?}");
    let withdrawn = proxy.metric("sluicegate_withdrawn_requests_total", &[]);
    assert_eq!(withdrawn as u64, 1);
    let pending = proxy.queues[0].books().pending;
    assert_eq!(pending.in_flight.samples, 10, "{}", proxy.books());
    assert_eq!(pending.untaken.samples, 90, "{}", proxy.books());
    proxy.assert_sound();
    proxy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_told_to_come_back_finds_its_orphan_and_nothing_is_sent_twice() {
    let sink = sink();
    let proxy = withdrawn(&sink).await;
    sink.set_behaviour(Behaviour::default());
    // Another sender's request shows that the queue works, and that what was withdrawn stays.
    let other = Post::new(V1, &v1(many("other", 5))).send(proxy.data).await;
    assert_eq!(other.status, 204);
    assert_eq!(sink.stats().samples, 15, "ten were on their way");
    assert_eq!(proxy.queues[0].books().pending.untaken.samples, 90);

    let again = hundred("orphan").send(proxy.data).await;
    assert_eq!((again.status, again.written()), (204, Some([100, 0, 0])));
    assert_eq!(attached(&proxy, "orphan"), 1);
    let stats = sink.stats();
    assert_eq!((stats.samples, stats.duplicates), (105, 0), "{stats:?}");
    assert_eq!(proxy.pending(), 0);
    assert_eq!(proxy.received(), 105, "it is one record, not two");
    proxy.assert_sound();
    // Answered: the same body once more is a new request.
    assert_eq!(hundred("orphan").send(proxy.data).await.status, 204);
    assert_eq!(attached(&proxy, "orphan"), 1);
    assert_eq!(sink.stats().duplicates, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_may_be_taken_over_while_its_batch_is_still_on_the_way() {
    let sink = sink();
    let proxy = withdrawn(&sink).await;
    let again = sending(&proxy, &hundred("orphan"));
    proxy
        .until("it is taken over", |proxy| attached(proxy, "orphan") == 1)
        .await;
    proxy
        .until("it is queued again", |proxy| {
            proxy.queues[0].books().pending.queued.samples == 90
        })
        .await;
    sink.set_behaviour(Behaviour::default());
    assert_eq!(reply(again).await.status, 204);
    let stats = sink.stats();
    assert_eq!((stats.samples, stats.duplicates), (100, 0), "{stats:?}");
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_nobody_comes_back_for_is_given_up_and_counted() {
    let sink = sink();
    let proxy = withdrawn(&sink).await;
    let ingest = &proxy.status.ingest;
    let expire = |after| {
        let later = tokio::time::Instant::now() + after;
        ingest.attachments.expire(later, &*ingest.readers);
    };
    expire(ORPHAN_FOR / 2);
    assert_eq!(ingest.attachments.counts(), (1, 1), "not yet");
    expire(ORPHAN_FOR);
    assert_eq!(ingest.attachments.counts(), (0, 0));
    assert_eq!(dropped(&proxy, &["\"withdrawn\""]), 90);
    sink.set_behaviour(Behaviour::default());
    proxy.drained().await;
    assert_eq!(sink.stats().samples, 10);
    proxy.assert_sound();
    let late = hundred("orphan").send(proxy.data).await;
    assert_eq!((late.status, attached(&proxy, "orphan")), (204, 0));
    assert_eq!(sink.stats().distinct(), 100, "the sender still had them");
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_orphans() {
    let sink = sink();
    let yaml = format!(
        "shutdown: {{deadline: 20s}}\n{}",
        narrow(&[("only", &sink, true)])
    );
    sink.set_behaviour(hanging());
    let proxy = configured(&yaml, |_| ()).await;
    not_settled(&hundred("stop").send(proxy.data).await);
    sink.set_behaviour(Behaviour::default());
    let queue = Arc::clone(&proxy.queues[0]);
    let began = Instant::now();
    let stopped = proxy.stop().await;
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(15),
        "half the deadline: {took:?}"
    );
    assert_eq!((stopped.pending, stopped.lost), (0, 0));
    assert_eq!(sink.stats().samples, 10, "{:?}", queue.books());
    assert_eq!(queue.books().conservation_error(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_hangs_up_finds_its_request_again() {
    let sink = sink();
    let proxy = proxy(&[sink.url()], |_| ()).await;
    sink.set_behaviour(hanging());
    let post = hundred("hang up");
    let mut connection = Connection::open(proxy.data).await;
    connection.write(&post.head(post.body.len())).await;
    connection.write(&post.body).await;
    hangs(&sink, 1).await;
    drop(connection);
    let attachments = &proxy.status.ingest.attachments;
    proxy
        .until("it is an orphan", |_| attachments.counts() == (1, 1))
        .await;
    let again = sending(&proxy, &post);
    proxy
        .until("it attaches", |proxy| attached(proxy, "orphan") == 1)
        .await;
    sink.set_behaviour(Behaviour::default());
    assert_eq!(reply(again).await.status, 204);
    let stats = sink.stats();
    assert_eq!((stats.samples, stats.duplicates), (100, 0), "{stats:?}");
    assert_eq!(attachments.counts(), (0, 0));
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_hung_up_and_comes_back_late_does_not_store_twice() {
    let sink = sink();
    let proxy = proxy(&[sink.url()], |_| ()).await;
    sink.set_behaviour(hanging());
    let post = hundred("late");
    let mut connection = Connection::open(proxy.data).await;
    connection.write(&post.head(post.body.len())).await;
    connection.write(&post.body).await;
    hangs(&sink, 1).await;
    drop(connection);
    let attachments = &proxy.status.ingest.attachments;
    proxy
        .until("it is an orphan", |_| attachments.counts() == (1, 1))
        .await;
    sink.set_behaviour(Behaviour::default());
    proxy.drained().await;
    // All of it is settled before the sender asks again.
    let again = post.send(proxy.data).await;
    assert_eq!((again.status, again.written()), (204, Some([100, 0, 0])));
    let stats = sink.stats();
    assert_eq!((stats.samples, stats.duplicates), (100, 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_that_come_together_are_one_request() {
    let sink = sink();
    let proxy = proxy(&[sink.url()], |_| ()).await;
    sink.set_behaviour(hanging());
    let post = hundred("copies");
    let copies: Vec<_> = (0..4).map(|_| sending(&proxy, &post)).collect();
    // Same bytes, other tenant: not the same request.
    let foreign = sending(&proxy, &post.clone().with("X-Scope-OrgID", "other"));
    proxy
        .until("three attach", |proxy| attached(proxy, "unanswered") == 3)
        .await;
    proxy
        .until("two are here", |proxy| {
            proxy.status.ingest.attachments.counts().0 == 2
        })
        .await;
    sink.set_behaviour(Behaviour::default());
    for copy in copies {
        let reply = reply(copy).await;
        assert_eq!((reply.status, reply.written()), (204, Some([100, 0, 0])));
    }
    assert_eq!(reply(foreign).await.status, 204);
    assert_eq!(proxy.received(), 200);
    assert_eq!(sink.stats().requests, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_refuses_for_good_is_told_to_the_sender() {
    let sink = sink();
    sink.set_behaviour(Behaviour {
        refuse: vec![Refuse {
            series: SeriesMatch::Label {
                name: "instance".to_owned(),
                value: "7".to_owned(),
            },
            status: 400,
            keep: Keep::AsPrometheus,
        }],
        ..Behaviour::default()
    });
    let proxy = proxy(&[sink.url()], |_| ()).await;
    let says = "receiver answered 400: series refused";
    let part = Post::new(V2, &v2(&many("part", 10)).encode_to_vec());
    let reply = part.send(proxy.data).await;
    assert_eq!((reply.status, reply.written()), (400, Some([9, 0, 0])));
    assert!(reply.body.contains(says), "{reply:?}");
    assert_eq!(sink.stats().samples, 9);
    // Of a 1.0 request this receiver keeps nothing: it goes out again in parts.
    let all = Post::new(V1, &v1(many("all", 10)));
    let reply = all.send(proxy.data).await;
    assert_eq!((reply.status, reply.written()), (400, None));
    assert!(reply.body.contains(says), "{reply:?}");
    assert_eq!(sink.stats().samples, 18);
    assert_eq!(dropped(&proxy, &["\"rejected\""]), 2);
    assert!(proxy.metric("sluicegate_splits_total", &[]) >= 3.0);
    let refused = proxy.metric(
        "sluicegate_requests_total",
        &["\"400\"", "refused_by_receiver"],
    );
    assert_eq!(refused as u64, 2);
    // A series that we refuse beside one that the receiver refuses: both are told.
    let mut request = v2(&many("both", 10));
    request.timeseries[0].labels_refs.drain(..2);
    let reply = Post::new(V2, &request.encode_to_vec())
        .send(proxy.data)
        .await;
    assert_eq!((reply.status, reply.written()), (400, Some([8, 0, 0])));
    let both = format!("{says}; 1 series refused; the first: no __name__ label");
    assert!(reply.body.contains(&both), "{reply:?}");
    let fine = Post::new(V1, &v1(many("fine", 5))).send(proxy.data).await;
    assert_eq!(fine.status, 204);
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn ack_memory_answers_when_it_is_in_the_log_and_says_what_is_at_risk() {
    let sink = sink();
    sink.set_behaviour(hanging());
    let proxy = proxy(&[sink.url()], |args| args.ack = Some("memory".to_owned())).await;
    let reply = hundred("memory").send(proxy.data).await;
    assert_eq!((reply.status, reply.written()), (204, Some([100, 0, 0])));
    assert_eq!(sink.stats().samples, 0);
    for event in ["process", "node", "pod"] {
        let at_risk = proxy.metric("sluicegate_at_risk_samples", &[&format!("\"{event}\"")]);
        assert_eq!(at_risk as u64, 100);
    }
    // Nobody waits for it, so a copy is another request.
    assert_eq!(hundred("memory").send(proxy.data).await.status, 204);
    assert_eq!(proxy.received(), 200);
    sink.set_behaviour(Behaviour::default());
    proxy.drained().await;
    assert_eq!(proxy.metric("sluicegate_at_risk_samples", &[]) as u64, 0);
    assert_eq!(sink.stats().distinct(), 100);
}
