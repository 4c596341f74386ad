//! Passthrough with a log on disk: what one process leaves the next one sends, whichever mode either has.

use std::path::Path;

use bytes::Bytes;
use prost::Message as _;
use sluicegate::cli::RunArgs;
use sluicegate::wire::pb::rw1;

use super::receiver::{Got, Receiver, Says, takes};
use super::{delivered, dropped, one_invalid, passthrough, unconfirmed};
use crate::capture::unpacked;
use crate::harness::{Proxy, proxy};
use crate::requests::{Post, V1, good, many, v1};
use crate::stopping::program::Program;

fn on_disk(folder: &Path) -> impl FnOnce(&mut RunArgs) {
    let path = folder.to_owned();
    move |args: &mut RunArgs| {
        passthrough("fsync")(args);
        args.storage_path = Some(path);
    }
}

/// The same in the normal mode, with batches of two.
fn in_batches(folder: &Path) -> impl FnOnce(&mut RunArgs) {
    let path = folder.to_owned();
    move |args: &mut RunArgs| {
        on_disk(&path)(args);
        args.mode = None;
        args.queue.max_samples_per_send = Some(2);
        args.queue.capacity = Some(1000);
        args.queue.max_shards = Some(1);
    }
}

async fn send(proxy: &Proxy, posts: &[Post]) {
    for post in posts {
        let told = post.send(proxy.data).await;
        assert_eq!(told.status, 204, "{told:?}");
    }
}

fn numbered(from: usize, to: usize) -> Vec<Post> {
    (from..to).map(|n| good(&n.to_string())).collect()
}

fn bodies(posts: &[Post]) -> Vec<Bytes> {
    posts
        .iter()
        .map(|post| Bytes::from(post.body.clone()))
        .collect()
}

fn series(got: &Got) -> Vec<rw1::TimeSeries> {
    let message = unpacked(&got.body);
    rw1::WriteRequest::decode(&*message).unwrap().timeseries
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_is_followed_by_one_that_sends_the_open_body_again_and_the_rest_in_order()
{
    let folder = tempfile::tempdir().unwrap();
    // What may be stored is refused the second time: as a receiver does that has it already.
    let receiver = Receiver::says(|got, number| match number {
        2 => Says(400, Vec::new(), "duplicate"),
        _ => takes(got),
    })
    .await;
    let (path, url) = (folder.path().to_str().unwrap().to_owned(), receiver.url());
    let flags = [
        "--upstream",
        &url,
        "--storage.path",
        &path,
        "--mode",
        "passthrough",
    ];
    let program = Program::start(&flags);
    let posts = numbered(0, 8);
    assert_eq!(posts[0].send(program.data).await.status, 204);
    receiver.until(1).await;
    // It has its answer, and the next one hangs.
    while receiver.got()[0].status == 0 {
        tokio::task::yield_now().await;
    }
    receiver.hold();
    for post in &posts[1..] {
        assert_eq!(
            post.send(program.data).await.status,
            204,
            "it is on the disk"
        );
    }
    receiver.until(2).await;
    program.signal("KILL");
    drop(program);
    receiver.release();

    let second = proxy(&[url], on_disk(folder.path())).await;
    second.drained().await;
    second.assert_sound();
    let all = bodies(&posts);
    let expected = [&all[..2], &all[1..]].concat();
    assert_eq!(receiver.bodies(), expected, "the open one twice, whole");
    let books = (
        delivered(&second),
        unconfirmed(&second),
        dropped(&second, "rejected"),
    );
    assert_eq!(
        books,
        (7, 1, 0),
        "a refusal of what may be stored is no evidence"
    );
    assert_eq!(second.received(), 8);
    assert_eq!(second.metric("sluicegate_decoded_records_total", &[]), 0.0);
    second.stop().await;

    let third = proxy(&[receiver.url()], on_disk(folder.path())).await;
    assert_eq!(
        (third.pending(), delivered(&third)),
        (0, 7),
        "nothing comes a third time"
    );
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_what_is_safe_to_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    let tenants = |n: usize| ["red", "green", "blue"][n % 3];
    let of = |n: usize| good(&n.to_string()).with("X-Scope-OrgID", tenants(n));
    receiver.hold();
    let first = proxy(&[receiver.url()], on_disk(folder.path())).await;
    let posts: Vec<Post> = (0..12).map(of).collect();
    send(&first, &posts).await;
    receiver.until(3).await;
    let stopped = first.stop().await;
    assert_eq!((stopped.pending, stopped.lost), (12, 0));
    receiver.release();
    let second = proxy(&[receiver.url()], on_disk(folder.path())).await;
    second.drained().await;
    second.assert_sound();
    assert_eq!((receiver.got().len(), delivered(&second)), (15, 12));
    for at in 0..3 {
        let own = receiver.got().into_iter().skip(3);
        let own = own.filter(|got| got.header("x-scope-orgid") == Some(tenants(at)));
        let own: Vec<_> = own.map(|got| got.body).collect();
        let sent: Vec<Post> = (at..12).step_by(3).map(of).collect();
        assert_eq!(own, bodies(&sent), "each tenant's in order");
    }
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_the_normal_mode_is_finished_and_what_is_untouched_goes_out_whole() {
    let folder = tempfile::tempdir().unwrap();
    // One batch of two of the first request is stored, the next one hangs.
    let receiver = Receiver::start().await;
    let first = proxy(&[receiver.url()], in_batches(folder.path())).await;
    let halves = Post::new(V1, &v1(many("halves", 5)));
    let refused = Post::new(V1, &v1(one_invalid()));
    let whole = numbered(0, 3);
    let hold = receiver.clone();
    send(&first, &[halves]).await;
    hold.until(1).await;
    hold.hold();
    first
        .until("some of it is settled", |proxy| delivered(proxy) > 0)
        .await;
    // Told at the door that one series is not taken: it must not go out with a body all the same.
    assert_eq!(refused.send(first.data).await.status, 400);
    send(&first, &whole).await;
    let left = first.pending();
    assert!(left > 0);
    first.stop().await;
    let (before, done) = (receiver.got().len(), first_delivered(&receiver));
    receiver.release();

    let second = proxy(&[receiver.url()], on_disk(folder.path())).await;
    send(&second, &numbered(3, 5)).await;
    second.drained().await;
    second.assert_sound();
    assert_eq!(second.received(), 5 + 2 + 5);
    assert_eq!(delivered(&second), second.received(), "{done} before");
    let got = receiver.got();
    let own = bodies(&numbered(0, 5));
    let out: Vec<_> = got.iter().map(|got| got.body.clone()).collect();
    assert!(
        out.ends_with(&own),
        "bodies come behind what had to be finished, in order"
    );
    let made: Vec<_> = got[before..got.len() - own.len()]
        .iter()
        .flat_map(series)
        .collect();
    assert!(
        made.iter()
            .all(|series| series.labels.iter().any(|label| label.name == "__name__"))
    );
    let again: std::collections::BTreeSet<_> = made
        .iter()
        .map(|series| format!("{:?}", series.labels))
        .collect();
    assert_eq!(again.len(), made.len(), "nothing of it comes twice");
    second.stop().await;
}

fn first_delivered(receiver: &Receiver) -> usize {
    let taken = receiver.got().into_iter().filter(|got| got.status == 204);
    taken.map(|got| series(&got).len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_passthrough_is_read_in_the_normal_mode_but_for_what_no_batch_can_carry() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    receiver.hold();
    let first = proxy(&[receiver.url()], on_disk(folder.path())).await;
    let mut posts = numbered(0, 4);
    posts.insert(2, Post::new(V1, &v1(one_invalid())));
    send(&first, &posts).await;
    receiver.until(1).await;
    let stopped = first.stop().await;
    assert_eq!(stopped.pending, 7);
    receiver.release();

    let second = proxy(&[receiver.url()], in_batches(folder.path())).await;
    second.drained().await;
    second.assert_sound();
    let books = (delivered(&second), dropped(&second, "unrepresentable"));
    assert_eq!(books, (6, 1), "{}", second.books());
    let got = receiver.got();
    let sent: Vec<_> = got[1..].iter().flat_map(series).collect();
    assert_eq!(sent.len(), 6);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_goes_first_in_order_and_then_as_much_at_once_as_senders_send() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    receiver.hold();
    let first = proxy(&[receiver.url()], on_disk(folder.path())).await;
    send(&first, &numbered(0, 5)).await;
    first.stop().await;
    let before = receiver.got().len();

    let second = proxy(&[receiver.url()], |args| {
        on_disk(folder.path())(args);
        args.ack = Some("upstream".to_owned());
    })
    .await;
    let new: Vec<_> = numbered(5, 15)
        .into_iter()
        .map(|post| {
            let to = second.data;
            tokio::spawn(async move { post.send(to).await })
        })
        .collect();
    second
        .until("all have come in", |proxy| proxy.received() == 15)
        .await;
    receiver.until(before + 1).await;
    assert_eq!(receiver.got().len(), before + 1, "alone: it may be stored");
    receiver.release();
    for sent in new {
        assert_eq!(sent.await.unwrap().status, 204);
    }
    second.drained().await;
    second.assert_sound();
    let out = receiver.bodies();
    assert_eq!(
        out[before..before + 5],
        bodies(&numbered(0, 5)),
        "the backlog, in order"
    );
    assert_eq!((out.len() - before, delivered(&second)), (15, 15));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_the_disk_has_lost_is_counted_and_costs_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start().await;
    receiver.hold();
    let first = proxy(&[receiver.url()], on_disk(folder.path())).await;
    let posts = numbered(0, 6);
    send(&first, &posts).await;
    first.stop().await;
    spoil(folder.path(), &posts[3].body);
    let before = receiver.got().len();
    receiver.release();
    let second = proxy(&[receiver.url()], on_disk(folder.path())).await;
    second.drained().await;
    second.assert_sound();
    assert_eq!((delivered(&second), dropped(&second, "unreadable")), (5, 1));
    let mut rest = bodies(&posts);
    rest.remove(3);
    assert_eq!(receiver.bodies()[before..], rest);
    second.stop().await;
}

/// Changes a bit of this body where it stands in the folder.
fn spoil(folder: &Path, body: &[u8]) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(mut bytes) = std::fs::read(&path) else {
            continue;
        };
        if let Some(at) = bytes.windows(body.len()).position(|part| part == body) {
            bytes[at + body.len() / 2] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            return;
        }
    }
    panic!("the body stands in no file");
}
