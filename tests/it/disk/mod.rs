//! The log on disk, through the whole proxy: what one process leaves, the next one goes on with.

use std::path::Path;
use std::time::Duration;

use sluicegate::bench::Protocol;
use sluicegate::bench::compare::compare;
use sluicegate::bench::data::{DataOptions, Profile};
use sluicegate::bench::load::{self, LoadOptions, LoadReport, Speed, Stop};
use sluicegate::bench::sink::{Behaviour, Down, Hang, Sink, SinkHandle, SinkOptions, When};
use sluicegate::cli::RunArgs;
use sluicegate::units::{ByteSize, Span};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::harness::{Proxy, configured, proxy};

fn data(seed: u64) -> DataOptions {
    DataOptions {
        profile: Profile::Kubernetes,
        nodes: 1,
        seed,
        ..DataOptions::default()
    }
}

fn sink(data: &DataOptions, behaviour: Behaviour) -> SinkHandle {
    Sink::start(SinkOptions {
        verify: Some(data.clone()),
        behaviour,
        ..SinkOptions::default()
    })
    .expect("it listens")
}

fn down() -> Behaviour {
    Behaviour {
        down: Some(Down::Refused),
        ..Behaviour::default()
    }
}

/// Every request hangs, and is stored only when it is let go.
fn hanging() -> Behaviour {
    Behaviour {
        hang: Some(Hang {
            series: None,
            time: None,
            when: When::AfterStoring,
        }),
        ..Behaviour::default()
    }
}

/// The `hour`th hour's scrapes: later hours hold newer samples of the same series.
async fn send(proxy: &Proxy, data: &DataOptions, hour: i64, scrapes: u32) -> LoadReport {
    let two = LoadOptions {
        senders: 2,
        ..LoadOptions::default()
    };
    send_as(two, proxy, data, hour, scrapes).await
}

async fn send_as(
    options: LoadOptions,
    proxy: &Proxy,
    data: &DataOptions,
    hour: i64,
    scrapes: u32,
) -> LoadReport {
    let data = DataOptions {
        start_ms: Some(1_790_000_000_000 + hour * 3_600_000),
        ..data.clone()
    };
    let options = LoadOptions {
        url: proxy.url(),
        data,
        protocol: Protocol::V1,
        speed: Speed::Full,
        stop: Stop {
            scrapes: Some(scrapes),
            ..Stop::default()
        },
        ..options
    };
    load::run(options, CancellationToken::new())
        .await
        .expect("the load runs")
}

fn on_disk(folder: &Path) -> impl FnOnce(&mut RunArgs) {
    let path = folder.to_owned();
    move |args: &mut RunArgs| {
        args.storage_path = Some(path);
        args.queue.batch_send_deadline = Some(Span(Duration::from_millis(200)));
        args.queue.max_samples_per_send = Some(200);
        args.queue.max_shards = Some(4);
        args.queue.max_backoff = Some(Span(Duration::from_millis(200)));
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn delivered(proxy: &Proxy) -> u64 {
    proxy.queues[0].books().ledger.delivered.total()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pending_at_a_stop_is_sent_by_the_next_process_and_nothing_twice() {
    let (data, folder) = (data(1), folder());
    let sink = sink(&data, Behaviour::default());
    let first = proxy(&[sink.url()], on_disk(folder.path())).await;
    let early = send(&first, &data, 0, 2).await;
    first.drained().await;
    sink.set_behaviour(down());
    let late = send(&first, &data, 1, 4).await;
    let received = first.received();
    let stopped = first.stop().await;
    assert!(stopped.pending > 0 && stopped.lost == 0, "{stopped:?}");

    sink.set_behaviour(Behaviour::default());
    let second = proxy(&[sink.url()], on_disk(folder.path())).await;
    assert_eq!(second.received(), received, "the books go on");
    assert!(second.pending() > 0);
    second.assert_sound();
    second.drained().await;
    second.assert_sound();
    assert_eq!(delivered(&second), received);
    assert_eq!(
        second.metric("sluicegate_unconfirmed_samples_total", &[]),
        0.0
    );
    assert_eq!(second.metric("sluicegate_dropped_samples_total", &[]), 0.0);
    let comparison = compare(&[&sink], &[&early, &late]);
    assert!(
        comparison.is_exact() && comparison.acknowledged == received,
        "{comparison:?}"
    );
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_an_answer_at_the_stop_comes_again_alone_and_the_rest_once() {
    let (data, folder) = (data(2), folder());
    let sink = sink(&data, hanging());
    let first = proxy(&[sink.url()], on_disk(folder.path())).await;
    let report = send(&first, &data, 0, 3).await;
    first
        .until("requests hang", |proxy| proxy.queues[0].in_flight() > 0)
        .await;
    let began = std::time::Instant::now();
    let stopped = first.stop().await;
    assert!(stopped.pending > 0 && stopped.lost == 0, "{stopped:?}");
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    let in_flight = sink.stats().duplicates;
    assert_eq!(in_flight, 0);

    sink.set_behaviour(Behaviour::default());
    let second = proxy(&[sink.url()], on_disk(folder.path())).await;
    second.drained().await;
    second.assert_sound();
    let comparison = sink.missing(&report);
    assert!(
        comparison.missing == 0 && comparison.is_sound(),
        "{comparison:?}"
    );
    let most = 4 * 200;
    assert!(
        comparison.duplicates > 0 && comparison.duplicates <= most,
        "{comparison:?}"
    );
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_sent_first_whatever_an_acknowledgement_means_now() {
    for ack in ["upstream", "memory"] {
        let (data, folder) = (data(3), folder());
        let sink = sink(&data, down());
        let first = proxy(&[sink.url()], on_disk(folder.path())).await;
        let old = send(&first, &data, 0, 3).await;
        let pending = first.pending();
        first.stop().await;

        let second = proxy(&[sink.url()], |args| {
            on_disk(folder.path())(args);
            args.ack = Some(ack.to_owned());
        })
        .await;
        assert_eq!(second.pending(), pending);
        sink.set_behaviour(Behaviour::default());
        // Newer samples of the same series: the sink would see any that overtakes.
        let new = send(&second, &data, 1, 3).await;
        second.drained().await;
        second.assert_sound();
        let comparison = compare(&[&sink], &[&old, &new]);
        assert!(comparison.is_exact(), "{comparison:?}");
        second.stop().await;

        let third = proxy(&[sink.url()], on_disk(folder.path())).await;
        assert_eq!(third.pending(), 0, "all of it is settled, on the disk too");
        third.assert_sound();
        third.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_used_is_left_alone_and_the_process_runs() {
    let (data, folder) = (data(4), folder());
    let sink = sink(&data, Behaviour::default());
    std::fs::write(folder.path().join("format"), "sluicegate storage 99\n").unwrap();
    let proxy = proxy(&[sink.url()], on_disk(folder.path())).await;
    assert!(proxy.status.is_ready());
    let trouble = proxy.status.storage_trouble.clone().unwrap_or_default();
    assert!(trouble.contains("sluicegate storage 99"), "{trouble}");
    // An acknowledgement means what it means without a folder.
    let report = send(&proxy, &data, 0, 2).await;
    assert!(sink.missing(&report).is_exact());
    assert_eq!(proxy.metric("sluicegate_at_risk_samples", &[]), 0.0);
    proxy.stop().await;
    let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    // The lock is ours, and says nothing about what is in the folder.
    assert!(names.len() <= 2, "{names:?}");
    let format = std::fs::read_to_string(folder.path().join("format")).unwrap();
    assert_eq!(format, "sluicegate storage 99\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_queue_begins_at_the_end_and_one_that_left_holds_nothing() {
    let (data, folder) = (data(5), folder());
    let (one, two) = (sink(&data, down()), sink(&data, Behaviour::default()));
    let first = proxy(&[format!("one={}", one.url())], on_disk(folder.path())).await;
    send(&first, &data, 0, 2).await;
    first.stop().await;

    let both = [format!("one={}", one.url()), format!("two={}", two.url())];
    let second = proxy(&both, on_disk(folder.path())).await;
    let new = send(&second, &data, 1, 4).await;
    let read = |proxy: &Proxy| proxy.queues[1].is_idle();
    second.until("the new queue has sent all", read).await;
    second.assert_sound();
    let (had, comparison) = (two.stats().samples, two.missing(&new));
    assert_eq!(comparison.missing, 0, "{comparison:?}");
    assert_eq!(
        had, new.summary.samples.acknowledged,
        "nothing of what came before it"
    );
    second.stop().await;

    one.set_behaviour(Behaviour::default());
    let third = proxy(&both[1..], on_disk(folder.path())).await;
    assert_eq!(third.pending(), 0, "whoever left waits for nothing");
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_folder_pushes_back_or_drops_the_oldest_as_the_user_chose() {
    for (on_full, drops) in [("backpressure", false), ("drop_oldest", true)] {
        let (data, folder) = (data(6), folder());
        let sink = sink(&data, down());
        let yaml = format!(
            "storage: {{path: {}, max_bytes: 4MiB, on_full: {on_full}}}\n\
             server: {{queue_wait: 100ms}}\n\
             remote_write:\n- url: {}\n  queue_config: {{max_samples_per_send: 500, max_backoff: 100ms}}\n",
            folder.path().display(),
            sink.url()
        );
        let proxy = configured(&yaml, |_| ()).await;
        let options = LoadOptions {
            url: proxy.url(),
            data: data.clone(),
            senders: 2,
            attempts_max: Some(2),
            flush_deadline: Duration::from_secs(1),
            stop: Stop {
                duration: Some(Duration::from_secs(6)),
                ..Stop::default()
            },
            ..LoadOptions::default()
        };
        let report = load::run(options, CancellationToken::new()).await.unwrap();
        proxy.assert_sound();
        let (bytes, limit) = proxy.log_bytes();
        assert!(bytes <= limit + (512 << 10), "{bytes} of {limit}");
        let refused = proxy.metric("sluicegate_requests_total", &["503", "queue_full"]);
        sink.set_behaviour(Behaviour::default());
        proxy.drained().await;
        proxy.assert_sound();
        let dropped = proxy.metric("sluicegate_dropped_samples_total", &["log_full"]);
        let comparison = sink.missing(&report);
        println!("{on_full}: {refused} refused, {dropped} dropped, {comparison:?}");
        if drops {
            assert!(dropped > 0.0);
            assert_eq!(
                comparison.missing as f64, dropped,
                "what is missing is counted"
            );
        } else {
            assert!(refused > 0.0);
            assert_eq!((dropped, comparison.missing), (0.0, 0), "{comparison:?}");
        }
        proxy.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_at_risk_depends_on_what_the_folder_lies_on() {
    let (data, folder) = (data(7), folder());
    let sink = sink(&data, down());
    let proxy = proxy(&[sink.url()], |args| {
        on_disk(folder.path())(args);
        args.memory_limit = Some(ByteSize(64 << 20));
    })
    .await;
    send(&proxy, &data, 0, 2).await;
    let risk = |event: &str| proxy.metric("sluicegate_at_risk_samples", &[&format!("\"{event}\"")]);
    let medium = proxy.status.medium.expect("there is a folder");
    let pending = proxy.pending() as f64;
    for (event, safe) in [
        ("process", medium.survives_process()),
        ("node", medium.survives_node()),
        ("pod", medium.survives_pod()),
    ] {
        assert_eq!(
            risk(event),
            if safe { 0.0 } else { pending },
            "{event} on {medium:?}"
        );
    }
    proxy.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_was_made_durable_before_a_restart_is_not_stored_twice() {
    let (data, folder) = (data(8), folder());
    let sink = sink(&data, down());
    let first = proxy(&[sink.url()], on_disk(folder.path())).await;
    // The last request may never have been answered, as far as its sender knows.
    let one = LoadOptions {
        senders: 1,
        ..LoadOptions::default()
    };
    let report = send_as(one.clone(), &first, &data, 0, 1).await;
    let received = first.received();
    first.stop().await;
    let second = proxy(&[sink.url()], on_disk(folder.path())).await;
    send_as(one, &second, &data, 0, 1).await;
    assert_eq!(
        second.received(),
        received,
        "the same bytes are the same record"
    );
    assert!(second.metric("sluicegate_attached_requests_total", &["record"]) > 0.0);
    sink.set_behaviour(Behaviour::default());
    second.drained().await;
    let comparison = sink.missing(&report);
    assert!(comparison.is_exact(), "{comparison:?}");
    second.stop().await;
}

/// Paths of the files whose names end so.
fn files(folder: &Path, suffix: &str) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths
        .filter(|path| path.to_string_lossy().ends_with(suffix))
        .collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_folder_has_lost_is_counted_and_the_rest_is_sent() {
    type Spoil = fn(&Path);
    let flip: Spoil = |folder| {
        let path = &files(folder, ".segment")[0];
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        std::fs::write(path, bytes).unwrap();
    };
    let remove: Spoil = |folder| std::fs::remove_file(&files(folder, ".segment")[0]).unwrap();
    let forget: Spoil = |folder| {
        for path in files(folder, ".journal") {
            std::fs::remove_file(path).unwrap();
        }
    };
    let garble: Spoil = |folder| {
        for path in files(folder, ".journal") {
            std::fs::write(path, vec![7; 3000]).unwrap();
        }
    };
    for (what, spoil, loses) in [
        ("a flipped bit", flip, true),
        ("a lost segment", remove, true),
        ("no journals", forget, false),
        ("damaged journals", garble, false),
    ] {
        let (data, folder) = (data(9), folder());
        let sink = sink(&data, down());
        let first = proxy(&[sink.url()], on_disk(folder.path())).await;
        let report = send(&first, &data, 0, 4).await;
        let received = first.received();
        first.stop().await;
        spoil(folder.path());

        let second = proxy(&[sink.url()], on_disk(folder.path())).await;
        second.assert_sound();
        let later = send(&second, &data, 1, 2).await;
        sink.set_behaviour(Behaviour::default());
        second.drained().await;
        second.assert_sound();
        let lost = second.metric("sluicegate_dropped_samples_total", &["unreadable"]);
        let comparison = compare(&[&sink], &[&report, &later]);
        println!("{what}: {lost} of {received} lost; {comparison:?}");
        assert_eq!(
            comparison.missing as f64, lost,
            "{what}: what is gone is counted"
        );
        assert_eq!(lost > 0.0, loses, "{what}");
        let faults = (
            comparison.order_violations,
            comparison.wrong,
            comparison.never_sent,
        );
        assert_eq!(faults, (0, 0, 0), "{what}: {comparison:?}");
        second.stop().await;
    }
}
