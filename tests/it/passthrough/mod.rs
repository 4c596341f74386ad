//! `--mode passthrough`: each body goes out as it came, one request for one, and is lost no more than any other.

mod disk;
mod receiver;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message as _;
use sluicegate::cli::RunArgs;
use sluicegate::units::Span;
use sluicegate::wire::pb::rw1;
use tokio::task::JoinHandle;

use crate::capture::unpacked;
use crate::harness::{Proxy, configured, proxy};
use crate::requests::{Post, Reply, V1, V2, field, get, good, labels, many, series, v1, v2};
use receiver::{Receiver, Says, takes, wrote};

fn passthrough(ack: &'static str) -> impl FnOnce(&mut RunArgs) {
    move |args| {
        args.mode = Some("passthrough".to_owned());
        args.ack = Some(ack.to_owned());
        args.queue.max_backoff = Some(Span(Duration::from_millis(100)));
    }
}

async fn through(receiver: &Receiver, ack: &'static str) -> Proxy {
    proxy(&[receiver.url()], passthrough(ack)).await
}

fn sending(proxy: &Proxy, post: &Post) -> JoinHandle<Reply> {
    let (post, to) = (post.clone(), proxy.data);
    tokio::spawn(async move { post.send(to).await })
}

async fn reply(sending: JoinHandle<Reply>) -> Reply {
    sending.await.expect("the request does not panic")
}

fn dropped(proxy: &Proxy, reason: &str) -> u64 {
    proxy.metric(
        "sluicegate_dropped_samples_total",
        &[&format!("\"{reason}\"")],
    ) as u64
}

fn delivered(proxy: &Proxy) -> u64 {
    proxy.queues[0].books().ledger.delivered.total()
}

fn unconfirmed(proxy: &Proxy) -> u64 {
    proxy.queues[0].books().ledger.unconfirmed.total()
}

/// A block of snappy that nobody's encoder writes: one literal, however well its bytes would compress.
fn literal(message: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    prost::encoding::encode_varint(message.len() as u64, &mut block);
    block.extend([
        61 << 2,
        message.len() as u8 - 1,
        ((message.len() - 1) >> 8) as u8,
    ]);
    block.extend(message);
    block
}

/// Fields that this version of the protocol does not have, in message, series and sample; unsorted labels; a
/// repeated sample; a negative zero.
fn odd_v1() -> Vec<u8> {
    let label = |name: &str, value: &str| {
        rw1::Label {
            name: name.to_owned(),
            value: value.to_owned(),
        }
        .encode_to_vec()
    };
    let mut sample = crate::requests::sample_bits(1_700_000_000_000, 1 << 63);
    sample.extend(field(9, b"of a later version"));
    let mut one = [
        field(1, &label("job", "odd")),
        field(1, &label("__name__", "odd")),
        field(2, &sample),
        field(2, &sample),
    ]
    .concat();
    one.extend(field(12, b"of a series"));
    [field(14, b"of a message"), field(1, &one)].concat()
}

/// Two good series, and one that no receiver should take: it has no name.
fn one_invalid() -> Vec<rw1::TimeSeries> {
    let mut all = many("invalid", 2);
    let mut nameless = labels("x", &[("job", "j")]);
    nameless.remove(0);
    all.insert(1, series(nameless, &[(1_700_000_000_000, 1.0)]));
    all
}

/// Every kind of body with the headers that its senders send.
fn kinds() -> Vec<Post> {
    let odd = odd_v1();
    let mut newer = v2(&many("newer", 1)).encode_to_vec();
    newer.extend(field(13, b"of a later version"));
    let zstd = zstd::bulk::compress(&v1(many("zstd", 3)), 3).unwrap();
    vec![
        Post::raw(V1, literal(&odd)).with("X-Prometheus-Remote-Write-Version", "0.1.0"),
        Post::new(V2, &newer).with("X-Prometheus-Remote-Write-Version", "2.0.0"),
        Post::raw(V1, zstd)
            .with("Content-Encoding", "zstd")
            .with("X-VictoriaMetrics-Remote-Write-Version", "1"),
        Post::new(V1, &v1(one_invalid())).with("X-Scope-OrgID", "blue"),
        Post::raw(V1, literal(&v1(many("twice", 40)))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_body_goes_out_as_it_came_with_the_headers_that_say_what_it_is() {
    for ack in ["upstream", "memory", "fsync"] {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start().await;
        let proxy = proxy(&[receiver.url()], |args| {
            passthrough(ack)(args);
            if ack == "fsync" {
                args.storage_path = Some(folder.path().to_owned());
            }
        })
        .await;
        for (n, post) in kinds().into_iter().enumerate() {
            let foreign = post.clone().with("X-Foreign", "stays here");
            let told = foreign.send(proxy.data).await;
            assert_eq!(told.status, 204, "{ack} {n}: {told:?}");
            let got = receiver.until(n + 1).await.remove(n);
            assert_eq!(got.body, post.body, "{ack} {n}");
            for (name, value) in &post.headers {
                assert_eq!(got.header(name), Some(value.as_str()), "{ack} {n}: {name}");
            }
            let length = post.body.len().to_string();
            assert_eq!(got.header("content-length"), Some(length.as_str()));
            assert_eq!(got.header("x-foreign"), None);
            assert_eq!(got.header("retry-attempt"), None);
            let tenant = post.headers.iter().any(|(name, _)| name == "X-Scope-OrgID");
            assert_eq!(got.header("x-scope-orgid").is_some(), tenant);
            proxy.drained().await;
            proxy.assert_sound();
        }
        // Two odd samples, one newer, three, three with the invalid one, forty.
        assert_eq!((proxy.received(), delivered(&proxy)), (49, 49), "{ack}");
        assert_eq!(receiver.got().len(), 5, "one request for one");
        let door = proxy.metric("sluicegate_received_samples_total", &[]);
        assert_eq!(door, 49.0, "the door counts what the books count");
        assert_eq!(proxy.metric("sluicegate_refused_samples_total", &[]), 0.0);
        assert!(proxy.stop().await.pending == 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_request_are_refused_at_the_door() {
    let receiver = Receiver::start().await;
    let proxy = through(&receiver, "memory").await;
    for (post, status) in [
        (Post::raw(V1, b"no snappy".to_vec()), 400),
        (Post::new(V1, &[0x0a, 0x7f, 1]), 400),
        (Post::new("text/plain", &v1(many("x", 1))), 415),
        (good("x").at("/elsewhere"), 404),
    ] {
        assert_eq!(post.send(proxy.data).await.status, status);
    }
    let empty = Post::new(V1, &[]);
    assert_eq!(empty.send(proxy.data).await.status, 204, "nothing is in it");
    assert_eq!(good("y").send(proxy.data).await.status, 204);
    assert_eq!(receiver.until(1).await.len(), 1);
    proxy.stop().await;
    assert_eq!(receiver.bodies(), [Bytes::from(good("y").body)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_ack_upstream_all_that_senders_send_is_in_flight_at_once() {
    let receiver = Receiver::start().await;
    receiver.hold();
    let proxy = proxy(&[receiver.url()], |args| {
        passthrough("upstream")(args);
        args.queue.max_shards = Some(2);
    })
    .await;
    let posts: Vec<Post> = (0..60).map(|n| good(&n.to_string())).collect();
    let sent: Vec<_> = posts.iter().map(|post| sending(&proxy, post)).collect();
    receiver.until(60).await;
    assert_eq!(receiver.most(), 60, "of one tenant, whatever max_shards is");
    assert_eq!(proxy.pending(), 60);
    proxy.assert_sound();
    assert!(
        sent.iter().all(|sent| !sent.is_finished()),
        "each waits for its answer"
    );
    receiver.release();
    for sent in sent {
        assert_eq!(reply(sent).await.status, 204);
    }
    let bodies: BTreeSet<_> = receiver.bodies().into_iter().collect();
    assert_eq!(
        bodies,
        posts
            .into_iter()
            .map(|post| Bytes::from(post.body))
            .collect()
    );
    proxy.assert_sound();
    assert_eq!((delivered(&proxy), proxy.pending()), (60, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_one_of_each_tenant_is_in_flight_in_the_order_of_arrival() {
    let receiver = Receiver::start().await;
    receiver.hold();
    let proxy = proxy(&[receiver.url()], |args| {
        passthrough("memory")(args);
        args.queue.max_shards = Some(4);
    })
    .await;
    let tenants = ["a", "b", "c", "d", "e", "f"];
    for n in 0..5 {
        for tenant in tenants {
            let post = good(&format!("{tenant}{n}")).with("X-Scope-OrgID", tenant);
            assert_eq!(post.send(proxy.data).await.status, 204);
        }
    }
    receiver.until(4).await;
    // Whatever else would go out has had its chance while this looks.
    for _ in 0..20 {
        assert_eq!(
            receiver.got().len(),
            4,
            "tenants are in parallel up to max_shards"
        );
        proxy.assert_sound();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    receiver.release();
    proxy.drained().await;
    proxy.assert_sound();
    assert_eq!(receiver.most(), 4);
    let got = receiver.got();
    for tenant in tenants {
        let own = got
            .iter()
            .filter(|got| got.header("x-scope-orgid") == Some(tenant));
        let own: Vec<_> = own.map(|got| got.body.clone()).collect();
        let sent = (0..5).map(|n| Bytes::from(good(&format!("{tenant}{n}")).body));
        assert_eq!(own, sent.collect::<Vec<_>>(), "of {tenant}");
    }
    assert_eq!(delivered(&proxy), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_is_the_same_bytes_and_nothing_overtakes_it() {
    // The first two attempts of each fail; some with a wish to be left alone.
    let receiver = Receiver::says(|got, number| match (number % 3, number) {
        (2, _) => takes(got),
        (_, 4) => Says(429, vec![("retry-after", "1".to_owned())], "slowly"),
        _ => Says(503, Vec::new(), "not now"),
    })
    .await;
    let proxy = through(&receiver, "memory").await;
    let posts: Vec<Post> = (0..4).map(|n| good(&n.to_string())).collect();
    for post in &posts {
        assert_eq!(post.send(proxy.data).await.status, 204);
    }
    proxy.drained().await;
    proxy.assert_sound();
    let each = posts.iter().map(|post| Bytes::from(post.body.clone()));
    let thrice: Vec<_> = each
        .flat_map(|body| [body.clone(), body.clone(), body])
        .collect();
    assert_eq!(receiver.bodies(), thrice);
    let got = receiver.got();
    let tries: Vec<_> = got.iter().map(|got| got.header("retry-attempt")).collect();
    assert_eq!(tries[..3], [None, Some("1"), Some("2")]);
    assert_eq!((receiver.most(), delivered(&proxy)), (1, 4));
}

/// Sends `post` with `--ack upstream` to a receiver that says this, and lets the books be looked at.
async fn told(post: &Post, says: impl Fn(usize) -> Says + Send + Sync + 'static) -> (Reply, Proxy) {
    let receiver = Receiver::says(move |_, number| says(number)).await;
    let proxy = through(&receiver, "upstream").await;
    let reply = post.send(proxy.data).await;
    proxy
        .until("it is settled", |proxy| proxy.pending() == 0)
        .await;
    proxy.assert_sound();
    (reply, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receivers_answer_is_the_senders() {
    let (ones, twos) = (
        Post::new(V1, &v1(many("m", 3))),
        Post::new(V2, &v2(&many("m", 3)).encode_to_vec()),
    );
    let said = |status: u16, message| move |_| Says(status, Vec::new(), message);

    for (status, reason) in [(400, "rejected"), (422, "rejected"), (413, "too_large")] {
        let (reply, proxy) = told(&ones, said(status, "out of bounds")).await;
        assert_eq!(reply.status, 400, "{status}");
        let text = format!("receiver answered {status}: out of bounds\n");
        assert_eq!(
            (reply.body.as_str(), reply.written()),
            (text.as_str(), None)
        );
        assert_eq!((dropped(&proxy, reason), delivered(&proxy)), (3, 0));
    }
    let (reply, proxy) = told(&ones, said(409, "conflict")).await;
    assert_eq!(
        (reply.status, unconfirmed(&proxy)),
        (204, 3),
        "as for batches: it has kept the good part"
    );

    let all = |_| Says(200, wrote([3, 0, 0]), "");
    let (reply, _) = told(&twos, all).await;
    assert_eq!((reply.status, reply.written()), (204, Some([3, 0, 0])));
    for status in [204, 400] {
        let some = move |_| Says(status, wrote([2, 0, 0]), "one was old");
        let (reply, proxy) = told(&twos, some).await;
        assert_eq!(
            (reply.status, reply.written()),
            (400, Some([2, 0, 0])),
            "{status}"
        );
        assert!(
            status == 204 || reply.body.contains("one was old"),
            "{reply:?}"
        );
        let refused = dropped(&proxy, "rejected") + dropped(&proxy, "not_written");
        assert_eq!((delivered(&proxy), refused), (2, 1));
    }
    // A receiver that may not know 2.0: what it said, and no guess of ours.
    let (reply, _) = told(&twos, said(400, "unmarshal")).await;
    assert_eq!((reply.status, reply.written()), (400, Some([0, 0, 0])));
    assert!(reply.body.contains("unmarshal"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_receiver_does_not_speak_the_sender_is_told_while_it_waits() {
    let twos = Post::new(V2, &v2(&many("m", 3)).encode_to_vec());
    for status in [415, 204] {
        let receiver = Receiver::says(move |got, _| {
            if got.is_v2() {
                Says(status, Vec::new(), "")
            } else {
                takes(got)
            }
        })
        .await;
        let proxy = through(&receiver, "upstream").await;
        let reply = twos.send(proxy.data).await;
        assert_eq!(
            (reply.status, reply.written()),
            (415, Some([0; 3])),
            "{reply:?}"
        );
        assert_eq!(dropped(&proxy, "rejected"), 3);
        let ones = Post::new(V1, &v1(many("m", 3)));
        assert_eq!(ones.send(proxy.data).await.status, 204, "it falls back");
        let bodies = [Bytes::from(twos.body.clone()), Bytes::from(ones.body)];
        assert_eq!(receiver.bodies(), bodies, "and nothing was made anew");
        proxy.assert_sound();
    }
    let zstd = zstd::bulk::compress(&v1(many("z", 2)), 3).unwrap();
    let zstd = Post::raw(V1, zstd).with("Content-Encoding", "zstd");
    let (reply, _) = told(&zstd, |_| Says(415, Vec::new(), "snappy only")).await;
    assert_eq!(reply.status, 415);
    assert!(reply.body.contains("snappy only"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_does_not_wait_gets_it_sent_in_a_form_that_the_receiver_speaks() {
    let receiver = Receiver::says(|got, _| {
        let zstd = got.header("content-encoding") == Some("zstd");
        if got.is_v2() || zstd {
            Says(415, Vec::new(), "")
        } else {
            takes(got)
        }
    })
    .await;
    let proxy = through(&receiver, "memory").await;
    let bad = one_invalid();
    let posts = [
        Post::new(V2, &v2(&many("first", 2)).encode_to_vec()),
        Post::new(V2, &v2(&bad).encode_to_vec()),
        Post::raw(V1, zstd::bulk::compress(&v1(many("third", 4)), 3).unwrap())
            .with("Content-Encoding", "zstd"),
        good("fourth"),
    ];
    for post in &posts {
        assert_eq!(post.send(proxy.data).await.status, 204);
    }
    proxy.drained().await;
    proxy.assert_sound();
    let got = receiver.got();
    let status: Vec<_> = got.iter().map(|got| got.status).collect();
    // The second is known not to be taken, and goes out as 1.0 at once; zstd is asked each time.
    assert_eq!(status, [415, 204, 204, 415, 204, 204]);
    let series = |got: &receiver::Got| {
        let message = unpacked(&got.body);
        rw1::WriteRequest::decode(&*message).unwrap().timeseries
    };
    assert_eq!(series(&got[1]), many("first", 2));
    assert_eq!(
        series(&got[2]),
        many("invalid", 2),
        "an invalid series cannot be written"
    );
    assert_eq!(series(&got[4]), many("third", 4));
    assert_eq!(got[5].body, posts[3].body);
    for converted in [1, 2, 4] {
        assert_eq!(got[converted].header("content-type"), Some(V1));
        assert_eq!(got[converted].header("content-encoding"), Some("snappy"));
    }
    assert_eq!(
        (delivered(&proxy), dropped(&proxy, "unrepresentable")),
        (9, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_by_itself_goes_out_too_and_its_answer_comes_back() {
    let metadata = rw1::WriteRequest {
        metadata: vec![rw1::MetricMetadata {
            r#type: 1,
            metric_family_name: "up".to_owned(),
            help: "is it".to_owned(),
            unit: String::new(),
        }],
        ..Default::default()
    };
    let post = Post::new(V1, &metadata.encode_to_vec());
    let receiver = Receiver::says(|got, number| match number {
        0 => Says(503, Vec::new(), ""),
        1 | 3 => takes(got),
        _ => Says(400, Vec::new(), "no such family"),
    })
    .await;
    let proxy = through(&receiver, "upstream").await;
    assert_eq!(post.send(proxy.data).await.status, 204);
    let refused = post.send(proxy.data).await;
    assert_eq!(
        (refused.status, refused.body.contains("no such family")),
        (400, true),
        "{refused:?}"
    );
    assert_eq!(post.send(proxy.data).await.status, 204);
    assert_eq!(receiver.bodies(), vec![Bytes::from(post.body.clone()); 4]);
    proxy.assert_sound();
    assert_eq!(proxy.received(), 0, "metadata is counted by itself");

    let proxy = through(&receiver, "memory").await;
    assert_eq!(post.send(proxy.data).await.status, 204);
    receiver.until(5).await;
    proxy
        .until("it is settled", |proxy| proxy.log_bytes().0 == 0)
        .await;
    proxy.assert_sound();
}

/// A sender is told to come back after a second.
async fn impatient(receiver: &Receiver) -> Proxy {
    let yaml = format!(
        "server: {{upstream_answer_deadline: 1s}}\nremote_write:\n- url: '{}'\n",
        receiver.url()
    );
    configured(&yaml, passthrough("upstream")).await
}

fn not_settled(reply: &Reply) {
    assert_eq!(reply.status, 503, "{reply:?}");
    assert!((1..=5).contains(&reply.retry_after().unwrap()), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_told_to_come_back_finds_its_body_on_its_way() {
    let receiver = Receiver::start().await;
    receiver.hold();
    let proxy = impatient(&receiver).await;
    let (began, post) = (Instant::now(), good("slow"));
    not_settled(&post.send(proxy.data).await);
    assert!(began.elapsed() >= Duration::from_millis(950));
    let again = sending(&proxy, &post);
    proxy
        .until("it attaches", |proxy| {
            proxy.metric("sluicegate_attached_requests_total", &["\"orphan\""]) == 1.0
        })
        .await;
    receiver.release();
    assert_eq!(reply(again).await.status, 204);
    assert_eq!(receiver.bodies(), [Bytes::from(post.body)], "sent once");
    assert_eq!((proxy.received(), delivered(&proxy)), (1, 1));
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_on_its_way_when_its_sender_leaves_is_taken_back_until_it_returns() {
    // The first answer closes the gate for some seconds: what comes then stands in line.
    let receiver = Receiver::says(|got, number| match number {
        0 => Says(429, vec![("retry-after", "4".to_owned())], ""),
        _ => takes(got),
    })
    .await;
    let proxy = impatient(&receiver).await;
    let (first, second, third) = (good("first"), good("second"), good("third"));
    let sent = sending(&proxy, &first);
    receiver.until(1).await;
    proxy
        .until("the gate is closed", |proxy| {
            proxy.metric("sluicegate_upstream_gate_open", &[]) == 0.0
        })
        .await;
    let others = [sending(&proxy, &second), sending(&proxy, &third)];
    not_settled(&reply(sent).await);
    for other in others {
        not_settled(&reply(other).await);
    }
    let pending = proxy.queues[0].books().pending;
    assert_eq!(
        (pending.in_flight.samples, pending.untaken.samples),
        (1, 2),
        "{}",
        proxy.books()
    );
    proxy.assert_sound();
    // One comes back, the other does not.
    let again = sending(&proxy, &second);
    proxy
        .until("it stands in line again", |proxy| {
            proxy.queues[0].books().pending.queued.samples == 1
        })
        .await;
    proxy.assert_sound();
    // It asks until the gate is open again.
    let mut told = reply(again).await;
    while told.status != 204 {
        not_settled(&told);
        told = second.send(proxy.data).await;
    }
    let ingest = &proxy.status.ingest;
    let later = tokio::time::Instant::now() + sluicegate::ingest::attach::ORPHAN_FOR;
    ingest.attachments.expire(later, &*ingest.readers);
    proxy.drained().await;
    assert_eq!(dropped(&proxy, "withdrawn"), 1, "its sender still has it");
    let bodies = receiver.bodies();
    let first = Bytes::from(first.body);
    assert_eq!(bodies, [first.clone(), first, Bytes::from(second.body)]);
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_sends_what_is_pending() {
    let receiver = Receiver::start().await;
    receiver.hold();
    let proxy = through(&receiver, "memory").await;
    let posts: Vec<Post> = (0..20).map(|n| good(&n.to_string())).collect();
    for post in &posts {
        assert_eq!(post.send(proxy.data).await.status, 204);
    }
    receiver.until(1).await;
    let stopping = tokio::spawn(proxy.stop());
    receiver.release();
    let stopped = stopping.await.unwrap();
    assert_eq!((stopped.pending, stopped.lost), (0, 0));
    let sent: Vec<_> = posts
        .into_iter()
        .map(|post| Bytes::from(post.body))
        .collect();
    assert_eq!(receiver.bodies(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_receiver_gets_each_body_and_one_that_is_not_required_in_order() {
    let (required, other) = (Receiver::start().await, Receiver::start().await);
    other.hold();
    let yaml = format!(
        "remote_write:\n- {{name: one, url: '{}'}}\n- {{name: two, url: '{}', required: false}}\n- {{name: three, \
         url: 'discard:'}}\n",
        required.url(),
        other.url()
    );
    let proxy = configured(&yaml, passthrough("upstream")).await;
    let posts: Vec<Post> = (0..10).map(|n| good(&n.to_string())).collect();
    for post in &posts {
        assert_eq!(
            post.send(proxy.data).await.status,
            204,
            "nobody waits for the second"
        );
    }
    assert_eq!(
        (required.got().len(), other.got().len()),
        (10, 1),
        "no sender keeps its order"
    );
    other.release();
    proxy.drained().await;
    proxy.assert_sound();
    let sent: Vec<_> = posts
        .into_iter()
        .map(|post| Bytes::from(post.body))
        .collect();
    assert_eq!((required.bodies(), other.bodies()), (sent.clone(), sent));
    assert_eq!((other.most(), dropped(&proxy, "discarded")), (1, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_says_what_it_does_and_what_it_can_carry() {
    let receiver = Receiver::start().await;
    let proxy = through(&receiver, "memory").await;
    let report = proxy.status.report();
    assert_eq!(report.mode, "passthrough");
    let first = report.queues[0]
        .ceiling
        .clone()
        .expect("it is known from the beginning that there is one");
    assert_eq!(
        (first.per.as_str(), first.samples_per_second),
        ("tenant", None)
    );
    for n in 0..30 {
        Post::new(V1, &v1(many(&n.to_string(), 50)))
            .send(proxy.data)
            .await;
    }
    proxy.drained().await;
    let report = proxy.status.report();
    let ceiling = report.queues[0].ceiling.clone().unwrap();
    assert_eq!(ceiling.samples_per_request, Some(50.0));
    let most = ceiling.samples_per_second.unwrap();
    assert!(
        (most - 50.0 / ceiling.answer_seconds.unwrap()).abs() < 1.0,
        "{ceiling:?}"
    );
    let said = report
        .also
        .iter()
        .find(|finding| finding.id == "passthrough");
    let said = said.map(|finding| finding.text.clone()).unwrap_or_default();
    assert!(
        said.starts_with("Passthrough: each body goes out as it came; at most "),
        "{said}"
    );
    assert!(said.contains("50 samples a request"), "{said}");
    let page = get(proxy.admin, "/").await.body;
    assert!(
        page.contains("Passthrough: at most"),
        "the queue's card says it"
    );
    let text = sluicegate::report::text::text(&report);
    assert!(text.contains("ack memory, mode passthrough"), "{text}");

    let waits = through(&receiver, "upstream").await;
    let per = waits.status.report().queues[0].ceiling.clone().unwrap().per;
    assert_eq!(per, "request of a sender");
}
