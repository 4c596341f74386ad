//! What `export` takes out.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use sluicegate::storage::cli::Ended;

use super::storage;
use crate::capture::{Capture, written};
use crate::storage_kept::recipe::{Given, RECORDS, unsettled};
use crate::storage_kept::{copy, elements_of, files_of};

fn export(folder: &Path, further: &[&str]) -> (Ended, String, String) {
    let before = files_of(folder);
    let mut arguments = vec!["export", folder.to_str().unwrap()];
    arguments.extend(further);
    let done = storage(&arguments);
    assert!(before == files_of(folder), "the folder is as it was");
    done
}

/// The same towards a receiver; the command has a runtime of its own.
async fn post(folder: &Path, further: &[&str]) -> (Ended, String) {
    let folder = folder.to_owned();
    let further: Vec<_> = further.iter().map(|word| (*word).to_owned()).collect();
    let exporting = tokio::task::spawn_blocking(move || {
        let further: Vec<_> = further.iter().map(String::as_str).collect();
        let (ended, out, _) = export(&folder, &further);
        (ended, out)
    });
    exporting.await.unwrap()
}

fn index_of(out: &Path) -> Vec<Value> {
    let index = fs::read_to_string(out.join("index.jsonl")).unwrap();
    let line = |line: &str| serde_json::from_str(line).unwrap();
    index.lines().map(line).collect()
}

#[test]
fn files_hold_the_senders_own_bodies_and_the_index_their_headers() {
    let (folder, out) = (copy(), tempfile::tempdir().unwrap());
    let to = out.path().join("rescued");
    let (ended, said, _) = export(folder.path(), &["--out", to.to_str().unwrap()]);
    assert_eq!(ended, Ended::Whole, "{said}");
    assert!(
        said.contains("exported 11 requests with 137 samples"),
        "{said}"
    );
    let index = index_of(&to);
    assert_eq!(index.len() as u64, RECORDS);
    for (seq, line) in (1..).zip(&index) {
        let given = Given::new(seq);
        assert_eq!(line["sequence"], seq);
        let body = fs::read(to.join(line["file"].as_str().unwrap())).unwrap();
        assert_eq!(body, given.body(), "{seq}");
    }
    assert_eq!(index[2]["file"], "00000000000000000003.rw1.zstd");
    assert_eq!(index[1]["file"], "00000000000000000002.rw2.snappy");
    let headers = serde_json::json!([
        [
            "Content-Type",
            "application/x-protobuf;proto=io.prometheus.write.v2.Request"
        ],
        ["Content-Encoding", "snappy"],
        ["X-Prometheus-Remote-Write-Version", "2.0.0"],
        ["x-scope-orgid", "team-a"],
    ]);
    assert_eq!(index[1]["headers"], headers);
    assert_eq!(index[3]["skipped"], serde_json::json!([[2, 3]]));

    let (ended, _, error) = export(folder.path(), &["--out", to.to_str().unwrap()]);
    assert_eq!(ended, Ended::Damaged, "nothing is overwritten");
    assert!(error.contains("index.jsonl"), "{error}");
}

#[test]
fn a_queue_gets_what_it_has_not_settled_and_a_range_what_is_in_it() {
    let (folder, out) = (copy(), tempfile::tempdir().unwrap());
    let to = out.path().to_str().unwrap();
    let (ended, said, _) = export(folder.path(), &["--queue", "us", "--out", to]);
    assert_eq!(ended, Ended::Whole);
    assert!(
        said.contains("9 of them the queue had settled before"),
        "{said}"
    );
    let index = index_of(out.path());
    let found: Vec<_> = index
        .iter()
        .map(|line| line["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(found, [6, 7, 8, 9, 10, 11]);
    for line in &index {
        let left = unsettled("us", line["sequence"].as_u64().unwrap()).len();
        assert_eq!(line["pending"], left);
    }
    let out = tempfile::tempdir().unwrap();
    let to = out.path().to_str().unwrap();
    export(folder.path(), &["--from", "4", "--to", "6", "--out", to]);
    assert_eq!(index_of(out.path()).len(), 3);
}

#[test]
fn a_damaged_record_is_named_and_the_others_come_out() {
    let (folder, out) = (copy(), tempfile::tempdir().unwrap());
    let segment = folder.path().join("00000000000000000005.segment");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[500] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let (ended, said, _) = export(folder.path(), &["--out", out.path().to_str().unwrap()]);
    assert_eq!(ended, Ended::Damaged);
    assert!(
        said.contains("record 5 is damaged: 20 samples are not exported"),
        "{said}"
    );
    assert_eq!(index_of(out.path()).len(), 10);
}

#[test]
fn nothing_is_exported_into_the_folder_itself() {
    let folder = copy();
    for inside in [
        folder.path().to_owned(),
        folder
            .path()
            .join("..")
            .join(folder.path().file_name().unwrap()),
    ] {
        let (ended, _, error) = export(folder.path(), &["--out", inside.to_str().unwrap()]);
        assert_eq!(ended, Ended::Damaged);
        assert!(error.contains("in the folder that is exported"), "{error}");
    }
    let inside = folder.path().join("out");
    let (ended, ..) = export(folder.path(), &["--out", inside.to_str().unwrap()]);
    assert_eq!(ended, Ended::Damaged);
    assert!(!inside.exists(), "not even a folder is made in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_gets_all_in_order_with_the_headers_of_each() {
    let folder = copy();
    let receiver = Capture::start().await;
    let (ended, said) = post(
        folder.path(),
        &["--to-url", &receiver.url(), "--header", "x-extra=1"],
    )
    .await;
    assert_eq!(ended, Ended::Whole, "{said}");
    let seen = receiver.seen();
    assert_eq!(seen.len() as u64, RECORDS);
    for (seq, request) in (1..).zip(&seen) {
        let given = Given::new(seq);
        assert_eq!(request.message, given.message(), "{seq}");
        assert_eq!(request.header("x-extra"), Some("1"));
        let tenant = given.tenant.0.first().map(|(_, value)| value.as_str());
        assert_eq!(request.header("x-scope-orgid"), tenant);
        let version = if request.is_v2() { "2.0.0" } else { "0.1.0" };
        if request.header("content-encoding") == Some("snappy") {
            let name = "x-prometheus-remote-write-version";
            assert_eq!(request.header(name), Some(version));
        }
        assert_eq!(elements_of(request).len(), given.elements().len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_error_is_tried_again_and_a_refusal_ends_it_where_it_says() {
    let folder = copy();
    let receiver = Capture::scripted(|seen, number| match number {
        1 | 2 => (503, Vec::new()),
        6 => (400, Vec::new()),
        _ => written(seen),
    })
    .await;
    let (ended, said) = post(folder.path(), &["--to-url", &receiver.url()]).await;
    assert_eq!(ended, Ended::Damaged);
    assert!(said.contains("exported 4 requests"), "{said}");
    assert!(said.contains("stopped at record 5: 400"), "{said}");
    assert!(said.contains("go on with --from 5"), "{said}");
    let seen = receiver.seen();
    assert_eq!(seen.len(), 7, "nothing comes after the refusal");
    assert_eq!(seen[1].message, seen[3].message);
    assert_eq!(seen[3].header("retry-attempt"), Some("2"));

    let (ended, said) = post(folder.path(), &["--to-url", &receiver.url(), "--from", "5"]).await;
    assert_eq!(ended, Ended::Whole, "{said}");
    assert!(said.contains("exported 7 requests"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_does_not_know_2_0_or_never_recovers_ends_it() {
    let folder = copy();
    let receiver = Capture::scripted(|_, _| (200, Vec::new())).await;
    let (ended, said) = post(folder.path(), &["--to-url", &receiver.url()]).await;
    assert_eq!(ended, Ended::Damaged);
    assert!(
        said.contains("stopped at record 2: 200 without a word"),
        "{said}"
    );

    let tries = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let receiver = Capture::scripted(move |_, _| {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        (500, Vec::new())
    })
    .await;
    let further = ["--to-url", &receiver.url(), "--attempts", "2"];
    let (ended, said) = post(folder.path(), &further).await;
    assert_eq!(ended, Ended::Damaged);
    assert!(said.contains("exported 0 requests"), "{said}");
    assert!(said.contains("stopped at record 1: 500"), "{said}");
    assert_eq!(tries.load(std::sync::atomic::Ordering::Relaxed), 2);
}
