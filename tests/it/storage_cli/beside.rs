//! Folders of the real log, and of a process at work.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;
use sluicegate::log::disk::fs::OsFs;
use sluicegate::log::disk::{DiskLog, DiskOptions, Floor, OnFull};
use sluicegate::log::{Log as _, NewRecord, Tenant};
use sluicegate::model::runs::RunSet;
use sluicegate::storage::cli::Ended;
use sluicegate::wire;
use sluicegate::wire::compression::Encoding;
use sluicegate::wire::decoded::{IdentityKey, Protocol, WalkLimits};
use sluicegate::wire::pb::rw1;

use super::{json, storage};
use crate::capture::Capture;
use crate::harness::LIMIT;
use crate::requests::{Post, V1, V2, many, snappy, v1, v2};
use crate::stopping::program::Program;
use crate::storage_kept::elements_of;

const LIMITS: WalkLimits = WalkLimits {
    series: 10_000,
    elements: 100_000,
    labels: 100,
    label_bytes: 0,
    expanded_bytes: usize::MAX,
};

fn new_record(series: Vec<rw1::TimeSeries>, tenant: &str) -> NewRecord {
    let body = Bytes::from(snappy(&v1(series)));
    let key = IdentityKey::fixed(1);
    let decoded = wire::decode(
        &body,
        Encoding::Snappy,
        Protocol::V1,
        1 << 20,
        &LIMITS,
        &key,
    );
    NewRecord {
        arrival_ms: 1_700_000_000_000,
        encoding: Encoding::Snappy,
        tenant: Arc::new(Tenant(vec![("x-tenant".to_owned(), tenant.to_owned())])),
        skipped: RunSet::default(),
        body,
        decoded: Arc::new(decoded.expect("it is whole")),
        ack: None,
    }
}

/// Opens the log in a folder, appends these records, and closes it.
fn append(folder: &Path, records: Vec<NewRecord>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let fs = Arc::new(OsFs::open(folder, LIMIT).unwrap());
        let options = DiskOptions {
            max_bytes: 64 << 20,
            on_full: OnFull::default(),
            max_age: None,
            handoff_limit: 0,
            required: vec![true],
            now_ms: 1_700_000_000_000,
            probe: false,
        };
        let (log, _) = DiskLog::open(fs, options, Floor::default()).unwrap();
        for record in records {
            let size = record.body.len() as u64;
            let room = log.reserve(size, &record.tenant, LIMIT).await.unwrap();
            log.append(record, room).await.unwrap();
        }
        let last = log.end().0;
        assert!(last.0 > 1, "something was appended");
        log.close();
    });
}

/// A folder of the log with one record.
pub(super) fn written(folder: &Path, series: Vec<rw1::TimeSeries>, tenant: &str) {
    append(folder, vec![new_record(series, tenant)]);
}

#[test]
fn a_folder_of_the_log_adds_up_to_what_was_appended() {
    let folder = tempfile::tempdir().unwrap();
    let mut appended = 0;
    for round in 0..3 {
        let sizes = (0..20).map(|n| 1 + (n * 7 + round * 3) % 40);
        let records: Vec<_> = sizes
            .map(|size| {
                appended += size;
                new_record(many(&format!("{round}-{size}"), size), "t")
            })
            .collect();
        append(folder.path(), records);
    }
    let (ended, report) = json(folder.path(), "verify", &[]);
    assert_eq!(ended, Ended::Whole, "{report:#}");
    assert_eq!(report["records"], 60);
    let (_, listing) = json(folder.path(), "ls", &[]);
    let segments = listing["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 3, "each start begins a segment");
    assert!(segments.iter().all(|one| one["state"] == "sealed"));
    assert_eq!(listing["totals"]["records"], 60);
    assert_eq!(listing["totals"]["counts"]["samples"], appended);
    assert_eq!(listing["journals"], serde_json::json!([]));
    let (ended, found) = json(folder.path(), "inspect", &["1..60"]);
    assert_eq!(ended, Ended::Whole);
    let last = found["records"].as_array().unwrap().last().unwrap();
    assert_eq!(last["totals"]["samples"], appended);
}

/// A process whose receiver is down, with this many samples in its folder.
async fn process_with(folder: &Path, samples: usize) -> Program {
    let path = folder.to_str().unwrap();
    // Nobody listens there.
    let nobody = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = format!("down=http://{}/write", nobody.local_addr().unwrap());
    drop(nobody);
    let program = Program::start(&[
        "--upstream",
        &upstream,
        "--storage.path",
        path,
        "--storage.max-bytes",
        "64MiB",
    ]);
    let (one, two) = (many("one", samples / 2), many("two", samples / 2));
    for post in [
        Post::new(V1, &v1(one)),
        Post::new(V2, &v2(&two).encode_to_vec()),
    ] {
        let reply = post.send(program.data).await;
        assert_eq!(reply.status, 204, "{reply:?}");
    }
    program
}

/// Runs it on a thread where it may block.
async fn blocking(words: Vec<String>) -> (Ended, String, String) {
    let running = tokio::task::spawn_blocking(move || {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        storage(&words)
    });
    running.await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_running_process_all_commands_work_and_say_so() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let program = process_with(folder.path(), 40).await;
    let path = folder.path().to_str().unwrap();
    let (ended, listing, _) = storage(&["ls", path, "-o", "json"]);
    let listing: serde_json::Value = serde_json::from_str(&listing).unwrap();
    assert_eq!(ended, Ended::Whole);
    assert_eq!(listing["in_use"], true);
    assert_eq!(listing["segments"][0]["state"], "active");
    assert_eq!(listing["journals"][0]["queue"], "down");
    assert_eq!(listing["journals"][0]["pending"]["counts"]["samples"], 40);
    let (ended, report, _) = storage(&["verify", path]);
    assert_eq!(ended, Ended::Whole, "{report}");
    assert!(report.contains("in use by a running process"), "{report}");
    let to = out.path().to_str().unwrap();
    let (ended, said, warned) = storage(&["export", path, "--out", to]);
    assert_eq!(ended, Ended::Whole, "{said}");
    assert!(warned.contains("in use by a running process"), "{warned}");
    // The process goes on, and so does its log.
    let reply = Post::new(V1, &v1(many("three", 5)))
        .send(program.data)
        .await;
    assert_eq!(reply.status, 204);
    let (_, text, _) = storage(&["ls", path]);
    assert!(text.contains("45 samples"), "{text}");
    program.signal("TERM");
    let (code, log) = program.end();
    assert_eq!(code, 0, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_process_left_comes_out_whole() {
    let folder = tempfile::tempdir().unwrap();
    let program = process_with(folder.path(), 40).await;
    drop(program);
    let (ended, report) = json(folder.path(), "verify", &[]);
    assert_eq!(ended, Ended::Whole, "{report:#}");
    assert_eq!(report["in_use"], false);
    let receiver = Capture::start().await;
    let words = [
        "export",
        folder.path().to_str().unwrap(),
        "--queue",
        "down",
        "--to-url",
    ];
    let mut words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
    words.push(receiver.url());
    let (ended, said, _) = blocking(words).await;
    assert_eq!(ended, Ended::Whole, "{said}");
    let sent: usize = receiver
        .seen()
        .iter()
        .map(|seen| elements_of(seen).len())
        .sum();
    assert_eq!(sent, 40);
    assert!(folder.path().join("lock").exists(), "nothing is removed");
}
