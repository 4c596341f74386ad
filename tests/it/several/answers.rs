//! What receivers' answers do to the data: held, throttled, unconfirmed, never lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sluicegate::bench::Protocol;
use sluicegate::bench::sink::{
    Behaviour, Fail, Keep, Refuse, SeriesMatch, Sink, SinkOptions, V2Support, When,
};

use super::{ONLY_V2, data, memory, verifying};
use crate::capture::{Capture, written};
use crate::harness::{configured, proxy};
use crate::requests::{Post, V1, many, v1};

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

/// The longest that a batch waits for its next try with these flags, and a little for the machine.
const RESUMES: Duration = Duration::from_millis(200 * 6 * 11 / 10 + 3_000);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_fault_of_the_data_holds_it_until_the_receiver_heals() {
    let statuses = [301, 302, 307, 308, 401, 403, 404, 405, 407, 410];
    let all = statuses.map(|status| tokio::spawn(is_held_and_resumes(status)));
    for one in all {
        one.await.expect("held, and delivered");
    }
}

async fn is_held_and_resumes(status: u16) {
    let sink = Sink::start(SinkOptions {
        behaviour: failing(status),
        ..SinkOptions::default()
    })
    .unwrap();
    let proxy = proxy(&[sink.url()], memory).await;
    for number in 0..5 {
        let post = Post::new(V1, &v1(many(&format!("{status} {number}"), 20)));
        assert_eq!(post.send(proxy.data).await.status, 204);
    }
    // Long enough for the waits to have grown to their longest.
    let tried = sink.wait_until(RESUMES * 4, |stats| stats.requests >= 5);
    let before = tried.await.expect("it goes on trying");
    assert_eq!(before.samples, 0);
    assert_eq!(proxy.pending(), 100, "{status}: held: {}", proxy.books());
    let error = proxy.queues[0].last_error().expect("it is reported").1;
    assert!(error.contains(&status.to_string()), "{error}");
    let healed = Instant::now();
    sink.set_behaviour(Behaviour::default());
    proxy.drained().await;
    let took = healed.elapsed();
    assert!(took < RESUMES, "{status}: {took:?}");
    let after = sink.stats();
    assert_eq!((after.samples, after.duplicates), (100, 0), "{status}");
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_is_no_receiver() {
    let login = Arc::new(AtomicBool::new(true));
    let page = Arc::clone(&login);
    let receiver = Capture::scripted(move |seen, _| {
        if page.load(Ordering::Relaxed) {
            return (
                200,
                vec![("content-type", "Text/HTML; charset=utf-8".to_owned())],
            );
        }
        written(seen)
    })
    .await;
    let proxy = proxy(&[receiver.url()], memory).await;
    let post = Post::new(V1, &v1(many("page", 20)));
    assert_eq!(post.send(proxy.data).await.status, 204);
    proxy
        .until("it was tried", |_| receiver.seen().len() >= 2)
        .await;
    assert_eq!(proxy.pending(), 20);
    login.store(false, Ordering::Relaxed);
    proxy.drained().await;
    let delivered = proxy.metric("sluicegate_delivered_samples_total", &[]);
    assert_eq!(delivered as u64, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_fixed_to_2_0_that_does_not_know_it_gets_nothing_and_loses_nothing() {
    let data = data(Protocol::V1);
    let sink = verifying(&data, V2Support::Ignored);
    let proxy = proxy(&[sink.url()], |args| {
        memory(args);
        args.queue.protobuf_message = Some(ONLY_V2.to_owned());
    })
    .await;
    let post = Post::new(V1, &v1(many("fixed", 20)));
    assert_eq!(post.send(proxy.data).await.status, 204);
    let tried = sink.wait_until(RESUMES, |stats| stats.requests >= 2);
    tried.await.expect("it goes on trying");
    assert_eq!(proxy.pending(), 20, "{}", proxy.books());
    let error = proxy.queues[0].last_error().unwrap().1;
    assert!(error.contains("no Written headers"), "{error}");
    sink.set_behaviour(Behaviour::default());
    proxy.drained().await;
    assert_eq!(sink.stats().samples, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_leaves_its_batch_unconfirmed_and_is_not_repeated() {
    let sink = Sink::start(SinkOptions {
        behaviour: Behaviour {
            refuse: vec![Refuse {
                series: SeriesMatch::Label {
                    name: "instance".to_owned(),
                    value: "3".to_owned(),
                },
                status: 409,
                keep: Keep::Good,
            }],
            ..Behaviour::default()
        },
        ..SinkOptions::default()
    })
    .unwrap();
    let proxy = proxy(&[sink.url()], |_| ()).await;
    let post = Post::new(V1, &v1(many("conflict", 10)));
    assert_eq!(
        post.send(proxy.data).await.status,
        204,
        "not the sender's to mend"
    );
    let unconfirmed = proxy.metric("sluicegate_unconfirmed_samples_total", &[]);
    assert_eq!(unconfirmed as u64, 10);
    assert_eq!(proxy.pending(), 0);
    let fine = Post::new(V1, &v1(many("fine", 2))).send(proxy.data).await;
    assert_eq!(fine.status, 204);
    let stats = sink.stats();
    assert_eq!((stats.requests, stats.samples), (2, 11), "{stats:?}");
    proxy.assert_sound();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_asks_for_patience_gets_it_from_every_batch() {
    for status in [429, 503] {
        let receiver = Capture::scripted(move |seen, number| match number {
            0 => (status, vec![("retry-after", "2".to_owned())]),
            _ => written(seen),
        })
        .await;
        let proxy = proxy(&[receiver.url()], memory).await;
        let post = |mark| Post::new(V1, &v1(many(mark, 20)));
        assert_eq!(post("first").send(proxy.data).await.status, 204);
        proxy
            .until("the gate is closed", |proxy| {
                !receiver.seen().is_empty()
                    && proxy.metric("sluicegate_upstream_gate_open", &[]) == 0.0
            })
            .await;
        for mark in ["second", "third", "fourth"] {
            assert_eq!(post(mark).send(proxy.data).await.status, 204);
        }
        proxy.drained().await;
        let seen = receiver.seen();
        let waits: Vec<_> = seen[1..]
            .iter()
            .map(|seen_| seen_.at - seen[0].at)
            .collect();
        let two = Duration::from_millis(1_990);
        assert!(waits.iter().all(|wait| *wait >= two), "{status}: {waits:?}");
        let first = waits.iter().min().unwrap();
        assert!(*first < Duration::from_millis(4_500), "{status}: {waits:?}");
        let delivered = proxy.metric("sluicegate_delivered_samples_total", &[]);
        assert_eq!(delivered as u64, 80);
        proxy.assert_sound();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_rotated_is_read_again() {
    let receiver = Capture::scripted(|seen, _| {
        // Valid when it says "two", in whichever way it is shown.
        let shown = seen.header("authorization").unwrap_or_default();
        match shown {
            "Bearer two" | "Basic bWU6dHdv" => written(seen),
            _ => (401, Vec::new()),
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    for auth in [
        format!("authorization: {{credentials_file: '{}'}}", file.display()),
        format!(
            "basic_auth: {{username: me, password_file: '{}'}}",
            file.display()
        ),
    ] {
        std::fs::write(&file, "one\n").unwrap();
        let yaml = format!("remote_write: [{{url: '{}', {auth}}}]", receiver.url());
        let proxy = configured(&yaml, memory).await;
        let before = receiver.seen().len();
        let post = Post::new(V1, &v1(many(&auth, 20)));
        assert_eq!(post.send(proxy.data).await.status, 204);
        proxy
            .until("it is refused", |_| receiver.seen().len() > before + 1)
            .await;
        assert_eq!(proxy.pending(), 20);
        let rotated = Instant::now();
        std::fs::write(&file, "two\n").unwrap();
        proxy.drained().await;
        let took = rotated.elapsed();
        // The file is looked at once a second.
        assert!(took < RESUMES + Duration::from_secs(1), "{took:?}");
        let delivered = proxy.metric("sluicegate_delivered_samples_total", &[]);
        assert_eq!(delivered as u64, 20);
    }
}
